"""A program, how one is drawn, and how a rank runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

LARGEST = 4  # ranks of a program


@dataclass(frozen=True)
class Step:
    """What all ranks of a communicator do; `on` counts the communicators made so far, modulo their number."""

    name: str
    on: int
    given: dict[str, Any]


@dataclass(frozen=True)
class Program:
    """Steps for `ranks` ranks; sends above `eager_bytes` wait for their receive, on virtual ranks."""

    ranks: int
    eager_bytes: int
    steps: list[Step]


@dataclass
class Rank:
    """What a running step sees: an MPI module, the communicator, and the list that new ones go to."""

    MPI: Any
    comm: Any
    made: list[Any] = field(default_factory=list)


Run = Callable[..., Any]
STEPS: dict[str, Run] = {}
_DRAWS: list[st.SearchStrategy[Step]] = []
_numbers = st.integers(0, 999)


def step(**draws: st.SearchStrategy[Any]) -> Callable[[Run], Run]:
    """Register `function(rank, seed, **drawn)` as a step."""

    def register(function: Run) -> Run:
        name = function.__name__
        STEPS[name] = function
        given = st.fixed_dictionaries({"seed": _numbers, **draws})
        _DRAWS.append(st.builds(Step, st.just(name), st.integers(0, 4), given))
        return function

    return register


def programs(longest: int = 8) -> st.SearchStrategy[Program]:
    """Draw a program of the steps that are registered."""
    steps = st.lists(st.one_of(_DRAWS), min_size=1, max_size=longest)
    return st.builds(Program, st.integers(1, LARGEST), st.sampled_from([0, 64, 1 << 16]), steps)


def run(program: Program, MPI: Any, comm: Any) -> list[Any]:
    """Return the result of each step on this rank."""
    comms = [comm]
    results = []
    for taken in program.steps:
        on = comms[taken.on % len(comms)]
        rank = Rank(MPI, on)
        if on == MPI.COMM_NULL:
            results.append("not a member")
            comms.extend([MPI.COMM_NULL] * makes(taken))
        else:
            results.append(plain(STEPS[taken.name](rank, **taken.given)))
            assert len(rank.made) == makes(taken)
            comms.extend(rank.made)
    for made in comms[:0:-1]:
        if made != MPI.COMM_NULL:
            made.Free()
    return results


def makes(taken: Step) -> int:
    """Return how many communicators a step makes."""
    return getattr(STEPS[taken.name], "makes", 0)


def plain(value: Any) -> Any:
    """Return a result as what any process can pickle and compare: arrays by dtype, shape and values."""
    match value:
        case np.ndarray():
            return value.dtype.str, value.shape, value.tolist()
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case np.generic():
            return value.item()
    return value


def values(seed: int, rank: int, count: int, dtype: str) -> NDArray[Any]:
    """Return numbers so small that any order of adding or multiplying a few gives the same bits."""
    drawn = np.random.default_rng([seed, rank]).integers(-3, 4, (2, count))
    x: NDArray[Any] = drawn[0] + 1j * drawn[1] if np.dtype(dtype).kind == "c" else drawn[0]
    return x.astype(dtype)


def untouched(count: int, dtype: str) -> NDArray[Any]:
    """Return memory to receive into, which shows what was not written."""
    return np.full(count, 77, dtype)


DTYPES = [*(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f4", "f8", "c8", "c16", "?"]
dtypes = st.sampled_from(DTYPES)
counts = st.one_of(st.integers(0, 6), st.just(3000))
few = st.integers(0, 3)
