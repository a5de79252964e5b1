"""What a rank asks of a collective. Ranks must ask the same; a signature is how we know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

_PLACES = {
    **dict.fromkeys(["broadcast", "bcast", "reduce", "gather", "scatter"], "root"),
    "send": "to rank",
    "recv": "from rank",
}


_SHOWN = 32  # lines of a report


POINT_TO_POINT = frozenset({"send", "recv"})
"""A group's operations of two ranks; all others are collectives."""


class Signature(NamedTuple):
    """A collective call, as far as all ranks must agree on it."""

    operation: str
    shape: tuple[int, ...] | None = None
    dtype: np.dtype[Any] | None = None
    reduction: str = ""
    """The reduction's name, for operations that reduce."""
    place: int | None = None
    """The root or peer rank, or the axis: whichever the operation has."""
    algorithm: str = ""

    def __str__(self) -> str:
        """Return the call as a user would write it: `all_reduce(shape (2, 3), float32, sum, ring)`."""
        words = []
        if self.shape is not None:
            words.append(f"shape {self.shape}")
        if self.dtype is not None:
            words.append(str(self.dtype))
        if self.reduction:
            words.append(self.reduction)
        if self.place is not None:
            words.append(f"{_place(self.operation)} {self.place}")
        if self.algorithm:
            words.append(self.algorithm)
        return f"{self.operation}({', '.join(words)})"


@lru_cache(maxsize=4096)
def signature(
    operation: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    reduction: str,
    place: int | None,
    algorithm: str,
) -> Signature:
    """Return the signature of a call on arrays: the same object for the same call, so it is compared at once.

    Raises
    ------
    TypeError
        If ranks can't exchange such arrays.
    """
    if dtype.hasobject:
        raise TypeError(
            f"{operation}: an array of dtype {dtype} holds Python objects, which are not bytes to send; "
            "convert it to numbers, or use the communicator's lower-case methods"
        )
    return Signature(operation, shape, dtype, reduction, place, algorithm)


class Standing(NamedTuple):
    """Where one rank stands: what it is doing, and the line of code that asked for it."""

    doing: str
    line: str = ""


def report(standings: Mapping[int, Standing]) -> str:
    """Return one line for each group of ranks that stand at the same place.

    Examples
    --------
    >>> print(report({0: Standing("barrier()", "a.py:3"), 1: Standing("returned from main")}))
      rank 0: barrier()  at a.py:3
      rank 1: returned from main
    """
    together: dict[Standing, list[int]] = {}
    for rank, standing in sorted(standings.items()):
        together.setdefault(standing, []).append(rank)
    lines = []
    for standing, ranks in together.items():
        at = f"  at {standing.line}" if standing.line else ""
        lines.append(f"  {name_ranks(ranks)}: {standing.doing}{at}")
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"  … and {len(lines) - _SHOWN} more"]
    return "\n".join(lines)


def name_ranks(ranks: Sequence[int]) -> str:
    """Return "rank 3", "ranks 0, 2" or "ranks 0-6, 8": runs of neighbours are folded."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    words = []
    for first, last in runs:
        if last - first < 2:
            words += [str(rank) for rank in range(first, last + 1)]
        else:
            words.append(f"{first}-{last}")
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(words)}"


def absence(ranks: Sequence[int], end: str, operation: str) -> str:
    """Say in one sentence that ranks did not come to a collective, and what to do about it.

    `end` says how they ended ("returned from main"); "" where they are still under way.
    """
    if end:
        return (
            f"{name_ranks(ranks)} {end} without calling {operation}; every rank of a group must call it: "
            "look for an early return, or a branch that depends on the rank"
        )
    return (
        f"{name_ranks(ranks)} never called {operation}; every rank of a group must call it, in the same "
        "order: look for a branch that depends on the rank"
    )


def struck(ranks: Sequence[int]) -> str:
    """Say in one sentence that faults, which were asked for, are why ranks can't go on."""
    return (
        f"{name_ranks(ranks)} can't go on because of a fault that was asked for, and the others wait: leave "
        "the fault out, or go on from what was saved"
    )


def disagreement(signatures: Sequence[Signature]) -> str:
    """Say in one sentence how the signatures of a group's ranks differ, and what to do about it."""
    if len({s.operation for s in signatures}) > 1:
        return (
            "the ranks call different collectives; every rank must make the same calls in the same order: "
            "look for a branch that depends on the rank"
        )
    place = _place(signatures[0].operation)
    differences = {
        "dtype": "dtypes differ; convert to one dtype before the call",
        "shape": "shapes differ; pad or cut to one shape before the call (are the shards uneven?)",
        "reduction": "reductions differ; use one reduction on every rank",
        "place": f"{'axes' if place == 'axis' else 'roots'} differ; pass the same {place} on every rank",
        "algorithm": "algorithms differ; build the group with one algorithm on every rank",
    }
    for field, difference in differences.items():
        if len({getattr(s, field) for s in signatures}) > 1:
            return f"the ranks' {difference}"
    return "the ranks' calls differ"


def _place(operation: str) -> str:
    """Return what an operation's `place` is: for Igatherv and Gather_init, too."""
    name = operation.lower().removesuffix("_init")
    return _PLACES.get(name) or _PLACES.get(name.removeprefix("i").removesuffix("v"), "axis")
