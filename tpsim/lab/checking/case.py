"""The sizes of one run of an exercise, how they are drawn, and the numbers that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One run of an exercise: how many ranks, which sizes, and the seed of all numbers.

    A size is read as an attribute: `case.hidden`.

    Attributes
    ----------
    t : int
        How many ranks.
    dtype : str
        Of every floating-point array.
    seed : int
        Of the numbers.
    sizes : tuple of (str, value)
        The exercise's own sizes and options, by name.
    """

    t: int
    dtype: str
    seed: int
    sizes: tuple[tuple[str, Any], ...]

    def __getattr__(self, name: str) -> Any:
        for size, value in object.__getattribute__(self, "sizes"):
            if size == name:
                return value
        raise AttributeError(f"a case has no {name!r}; it has {', '.join(name for name, _ in self.sizes)}")

    def __str__(self) -> str:
        """Return "t = 2, rows 1, hidden 2, float64"."""
        sizes = "".join(f", {name} {value}" for name, value in self.sizes)
        return f"t = {self.t}{sizes}, {self.dtype}"

    @property
    def itemsize(self) -> int:
        """Bytes an element."""
        return np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Size:
    """A whole number from `least` to `most`; times t, if it is to be cut among the ranks."""

    least: int
    most: int
    by_rank: bool = False


def one_to(most: int, *, least: int = 1) -> Size:
    """Return a size that nobody cuts."""
    return Size(least, most)


def per_rank(most: int, *, least: int = 1) -> Size:
    """Return a size that t divides: `least` to `most` for each rank."""
    return Size(least, most, by_rank=True)


Sizes: TypeAlias = Mapping[str, Size | Sequence[Any]] | Callable[[DrawFn, int], Mapping[str, Any]]
"""A `Size` or the values to choose from, by name; or a function of hypothesis' draw and of t, where sizes
depend on each other."""


@st.composite
def cases(draw: DrawFn, ranks: Sequence[int], dtypes: Sequence[str], sizes: Sizes) -> Case:
    """Draw cases. They shrink to the first of `ranks`, of `dtypes` and of each choice, and to small sizes."""
    t = draw(st.sampled_from(ranks))
    if callable(sizes):
        drawn = dict(sizes(draw, t))
    else:
        drawn = {name: draw(_values(size, t)) for name, size in sizes.items()}
    return Case(t, draw(st.sampled_from(dtypes)), draw(st.integers(0, 999)), tuple(drawn.items()))


def _values(size: Size | Sequence[Any], t: int) -> SearchStrategy[Any]:
    if not isinstance(size, Size):
        return st.sampled_from(size)
    return st.integers(size.least, size.most).map(lambda n: n * t if size.by_rank else n)


class Draw:
    """The numbers of a case, in the order in which they are asked for: `x = draw(rows, hidden)`.

    Everything is returned in float64 (what must come out is computed so), and is exact in the case's dtype.
    """

    def __init__(self, case: Case) -> None:
        self._rng = np.random.default_rng([case.seed, case.t])
        self._dtype = case.dtype

    def __call__(self, *shape: int) -> Array:
        """Return whole numbers ±1 to ±4, of which a person can check a sum: no zeros, which hide mistakes."""
        return self._rng.choice([-1.0, 1.0], shape) * self._rng.integers(1, 5, shape)

    def normal(self, *shape: int, scale: float = 1.0) -> Array:
        """Return normally distributed numbers."""
        return (scale * self._rng.standard_normal(shape)).astype(self._dtype).astype(np.float64)

    def integers(self, least: int, most: int, *shape: int) -> Array:
        """Return int64 from `least` to `most`, such as tokens."""
        return self._rng.integers(least, most + 1, shape)
