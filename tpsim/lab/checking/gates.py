"""Costs judged: the collectives that were called, the bytes that each rank sent, and what was kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tpsim.comm.algorithms.closed_form import sent
from tpsim.lab.checking.case import Case
from tpsim.lab.checking.exercise import Collective, Deal, MissingError
from tpsim.lab.checking.finding import WrongError
from tpsim.lab.checking.run import Ran, RankRun


@dataclass(frozen=True)
class Calls:
    """A function calls the collectives of the contract: these, so many times, on every rank.

    A rank alone, or in a group of its own, may call what it likes: it sends nothing.
    """

    function: str
    points: int = 1

    @property
    def name(self) -> str:
        """ "forward calls"."""
        return f"{self.function} calls"

    @property
    def says(self) -> str:
        """What holds."""
        return f"{self.function} calls the contract's collectives"

    def judge(self, case: Case, deal: Deal, ran: Ran) -> None:
        """Raise `WrongError` for the first rank that called others."""
        contract = deal.traffic.get(self.function, ())
        must = Counter(one.operation for one in contract if (one.ranks or case.t) > 1)
        for rank, one in enumerate(_seen(self.function, ran)):
            has = Counter(event.operation for event in one.events[self.function] if event.ranks > 1)
            if has != must:
                what = (
                    f"in {self.function}, rank {rank} called {_counted(has)}, and must call {_counted(must)}"
                )
                raise WrongError(what, {_kind(has, must): _advice(has, must)})


@dataclass(frozen=True)
class Sends:
    """A function sends at most the bytes of the contract's collectives, on every rank, by the ring."""

    function: str
    points: int = 1

    @property
    def name(self) -> str:
        """ "forward sends"."""
        return f"{self.function} sends"

    @property
    def says(self) -> str:
        """What holds."""
        return f"{self.function} sends no more bytes than the contract allows"

    def judge(self, case: Case, deal: Deal, ran: Ran) -> None:
        """Raise `WrongError` for the first rank that sent more."""
        allowed = deal.traffic.get(self.function, ())
        for rank, one in enumerate(_seen(self.function, ran)):
            has = sum(event.bytes_sent for event in one.events[self.function])
            most = sum(ring_bytes(collective, rank, case) for collective in allowed)
            if has > most:
                listed = ", ".join(f"{c.operation} of {c.shape}" for c in allowed) or "no communication"
                called = ", ".join(f"{e.operation} of {e.shape}" for e in one.events[self.function])
                raise WrongError(
                    f"in {self.function}, rank {rank} sends {has} bytes, and may send {most}",
                    {"too many bytes": f"it called {called}; the contract is {listed}"},
                )


@dataclass(frozen=True)
class Keeps:
    """What a function keeps for backward takes at most so many bytes on every rank.

    Parameters
    ----------
    value : str
        The name of what it returns for that: an array, or a tuple, list or dict of arrays. Two views of one
        buffer count once.
    most : callable
        `most(case)`, in bytes.
    """

    value: str
    most: Callable[[Case], int]
    points: int = 1

    @property
    def name(self) -> str:
        """ "saved keeps"."""
        return f"{self.value} keeps"

    @property
    def says(self) -> str:
        """What holds."""
        return f"{self.value} takes no more memory than the contract allows"

    def judge(self, case: Case, deal: Deal, ran: Ran) -> None:
        """Raise `WrongError` for the first rank that keeps more."""
        most = self.most(case)
        for rank, one in enumerate(ran.ranks):
            if self.value not in one.values:
                raise MissingError(self.value)
            arrays = arrays_in(one.values[self.value])
            has = kept_bytes(arrays)
            if has > most:
                shapes = ", ".join(str(array.shape) for array in arrays)
                kinds = {"too much kept": f"it keeps {shapes}; keep a rank's own part, or compute it again"}
                if sum(array.nbytes for array in arrays) <= most:
                    kinds = {"view kept": "a slice keeps the whole array that it was cut from; `.copy()` it"}
                what = f"rank {rank} keeps {has} bytes in {self.value}, and may keep {most}"
                raise WrongError(what, kinds)


def ring_bytes(collective: Collective, rank: int, case: Case) -> int:
    """Return what a rank sends in a collective by the ring, in bytes of the case's dtype."""
    count, ranks = prod(collective.shape), collective.ranks or case.t
    if collective.operation in _BY_HAND:
        return _BY_HAND[collective.operation] * count * case.itemsize
    algorithm = "pairwise" if collective.operation == "all_to_all" else "ring"
    return sent(collective.operation, algorithm, rank % ranks, ranks, count).elements * case.itemsize


_BY_HAND = {"send": 1, "recv": 0, "barrier": 0}


def arrays_in(value: Any) -> list[Any]:
    """Return the arrays in nested tuples, lists and dicts; of other objects nobody sees the size."""
    if isinstance(value, np.ndarray):
        return [value]
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return []
    if not isinstance(value, dict | tuple | list):
        what = f"a {type(value).__name__} is kept, and nobody can see how large it is"
        raise WrongError(what, {"not an array": "keep an array, or a tuple, list or dict of arrays"})
    inner = value.values() if isinstance(value, dict) else value
    return [array for item in inner for array in arrays_in(item)]


def kept_bytes(arrays: Sequence[Any]) -> int:
    """Return the bytes that arrays keep alive: a view keeps its whole buffer, which counts once."""
    buffers = {}
    for array in arrays:
        while isinstance(array.base, np.ndarray):
            array = array.base
        buffers[id(array)] = array.nbytes
    return sum(buffers.values())


def _seen(function: str, ran: Ran) -> Sequence[RankRun]:
    """Return the ranks, if all of them have ended this function."""
    if any(function not in one.ended for one in ran.ranks):
        raise MissingError(function)
    return ran.ranks


def _counted(calls: Counter[str]) -> str:
    words = [name if times == 1 else f"{name} {times} times" for name, times in sorted(calls.items())]
    return " and ".join(words) or "no collective"


def _kind(has: Counter[str], must: Counter[str]) -> str:
    if not has - must:
        return "missing collective"
    return "collective too many" if not must - has else "wrong collective"


def _advice(has: Counter[str], must: Counter[str]) -> str:
    if not has - must:
        return f"{_counted(must - has)} is missing"
    if not must - has:
        return f"{_counted(has - must)} too many: it costs time, and changes nothing or the result"
    return f"call {_counted(must - has)} in place of {_counted(has - must)}"
