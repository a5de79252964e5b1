"""Values judged: every rank returns what it must, and if not, in which of the known ways it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tpsim.lab.checking.case import Array, Case
from tpsim.lab.checking.exercise import Deal, MissingError
from tpsim.lab.checking.finding import WrongError
from tpsim.lab.checking.mistakes import all_mistakes
from tpsim.lab.checking.placing import Cut, Placed, Sum
from tpsim.lab.checking.run import Ran
from tpsim.lab.tolerance import TOLERANCE


@dataclass(frozen=True)
class Equals:
    """Every rank's value of this name is what the deal wants, of that shape and dtype.

    Parameters
    ----------
    value : str
        A name that the deal wants and a call gives.
    points : int
    means : str
        What it is, for the result's line: "y = X A + b".
    tolerance : float, optional
        Relative to the largest wanted entry, or to 1 if that is smaller: numbers are drawn around 1, and what
        cancels is no more exact than its terms. By default that of the dtype, 1e-10 or 1e-5.
    """

    value: str
    points: int = 1
    means: str = ""
    tolerance: float | None = None

    @property
    def name(self) -> str:
        """The value's."""
        return self.value

    @property
    def says(self) -> str:
        """What holds."""
        return f"{self.value} is {self.means or 'right'}"

    def judge(self, case: Case, deal: Deal, ran: Ran) -> None:
        """Raise `WrongError` for the first rank whose value is wrong."""
        if any(self.value not in one.values for one in ran.ranks):
            raise MissingError(self.value)
        got = [one.values[self.value] for one in ran.ranks]
        wanted = [as_wanted(deal.wanted[self.value].on(r, case.t), case) for r in range(case.t)]
        for rank, (mine, must) in enumerate(zip(got, wanted, strict=True)):
            self._array(rank, mine, must)
        for rank, (mine, must) in enumerate(zip(got, wanted, strict=True)):
            if mine.shape != must.shape:
                why = _of_shape(deal.wanted[self.value], case, mine.shape, must.shape)
                raise WrongError(
                    f"rank {rank}'s {self.value} has shape {mine.shape}, and must have {must.shape}",
                    {**self._kinds(case, deal, got), "shape": why},
                )
            self._dtype(rank, mine, must)
        for rank, (mine, must) in enumerate(zip(got, wanted, strict=True)):
            if not self._close(case, mine, must):
                what, unknown = self._differs(rank, mine, must)
                raise WrongError(what, self._kinds(case, deal, got) or unknown)

    def _array(self, rank: int, mine: Any, must: Array) -> None:
        """Raise unless it is an array."""
        whose = f"rank {rank}'s {self.value}"
        if mine is None:
            raise WrongError(f"{whose} is None", {"nothing returned": "the function ends without `return`"})
        if not isinstance(mine, np.ndarray | np.generic):
            raise WrongError(
                f"{whose} is a {type(mine).__name__}",
                {"not an array": f"return a NumPy array of shape {must.shape}"},
            )

    def _dtype(self, rank: int, mine: Any, must: Array) -> None:
        """Raise unless it has the right dtype."""
        if mine.dtype != must.dtype:
            raise WrongError(
                f"rank {rank}'s {self.value} is {mine.dtype}, and must be {must.dtype} like what was given",
                {
                    "dtype": "a number of another dtype came in: make new arrays with `np.zeros_like(x)` or "
                    "`np.zeros(shape, x.dtype)`, not with `np.zeros(shape)`"
                },
            )

    def _differs(self, rank: int, mine: Any, must: Array) -> tuple[str, dict[str, str]]:
        """Say how an array is wrong, and what that is where no known mistake explains it."""
        if not np.all(np.isfinite(mine)) and np.all(np.isfinite(must)):
            why = (
                "was something divided by zero, `np.exp` taken of a large number, `np.log` of zero, or an "
                "array from `np.empty` never filled?"
            )
            what = f"rank {rank}'s {self.value} has entries that are not finite: {shown(mine)}"
            return what, {"not finite": why}
        return _by_how_much(self.value, rank, mine, must), {"value": ""}

    def _close(self, case: Case, mine: Any, must: Any) -> bool:
        if not np.issubdtype(must.dtype, np.floating):
            return bool(np.array_equal(mine, must))
        tolerance = TOLERANCE[case.dtype] if self.tolerance is None else self.tolerance
        finite = np.isfinite(must)
        if not np.array_equal(mine[~finite], must[~finite], equal_nan=True):
            return False
        mine, must = mine[finite].astype(np.float64), must[finite].astype(np.float64)
        scale = max(1.0, float(np.max(np.abs(must), initial=0.0)))
        return bool(np.max(np.abs(mine - must), initial=0.0) <= tolerance * scale)

    def _kinds(self, case: Case, deal: Deal, got: list[Any]) -> dict[str, str]:
        """Return the known mistakes that give exactly what the ranks have."""

        def is_it(value: Placed) -> bool:
            alike = [as_wanted(value.on(rank, case.t), case) for rank in range(case.t)]
            return all(
                mine.shape == other.shape and self._close(case, mine, other)
                for mine, other in zip(got, alike, strict=True)
            )

        kinds: dict[str, str] = {}
        for mistake in all_mistakes(self.value, case, deal):
            if mistake.kind not in kinds and is_it(mistake.value):  # the exercise's own words come first
                kinds[mistake.kind] = mistake.why
        return kinds


def as_wanted(value: Any, case: Case) -> Array:
    """Return a wanted value as an array; floating-point ones in the dtype that they must have."""
    array: Array = np.asarray(value)
    return array.astype(case.dtype) if np.issubdtype(array.dtype, np.floating) else array


def shown(array: Any, most: int = 24) -> str:
    """Return a small array as text on one line, a large one as its shape."""
    array = np.asarray(array)
    if array.size > most:
        return f"an array of shape {array.shape}"
    if array.ndim == 0:
        return f"{array:.4g}" if np.issubdtype(array.dtype, np.floating) else str(array)
    form: dict[str, Callable[[Any], str]] = {"float_kind": lambda number: f"{number:.4g}"}
    text = np.array2string(array, formatter=form, separator=" ", max_line_width=10**6)  # type: ignore[arg-type]
    return " ".join(text.split())


def _by_how_much(value: str, rank: int, mine: Any, must: Any) -> str:
    """Say by how much an array is wrong, at its worst entry."""
    difference = mine.astype(np.float64) - must.astype(np.float64)
    place = np.unravel_index(int(np.argmax(np.abs(difference))), difference.shape)
    index = f"[{', '.join(map(str, place))}]" if mine.size > 1 else ""
    by = float(difference[place])
    return f"rank {rank}'s {value}{index} is {abs(by):.4g} too {'large' if by > 0 else 'small'}"


def _of_shape(placed: Placed, case: Case, has: tuple[int, ...], must: tuple[int, ...]) -> str:
    """Say what a wrong shape looks like."""
    if has == must[::-1] and len(must) == 2:
        return "it is transposed"
    axis = getattr(placed, "axis", None)
    if isinstance(placed, Cut | Sum) and axis is not None:
        whole = list(must)
        whole[axis] *= case.t
        if has == tuple(whole):
            return f"it is whole, and each rank must have its own part along axis {axis % len(must)}"
    for cut, length in enumerate(must):
        if has == (*must[:cut], length * case.t, *must[cut + 1 :]):
            return f"axis {cut} is {case.t} times too long: are the ranks' parts joined that should be added?"
        if has == (*must[:cut], length // case.t, *must[cut + 1 :]) and case.t > 1:
            return f"it is one rank's part along axis {cut}, and must be whole"
    return "print the shapes on the way (`print(x.shape)`), and compare them with the docstring's"
