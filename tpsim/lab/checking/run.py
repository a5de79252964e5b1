"""Running a submission on its ranks: what is called, and what is known afterwards.

A `Runner` takes plain data and returns plain data. The one here runs the submission in this process; a grader
has one that runs it elsewhere, and serves its collectives. What must come out never goes near a runner.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tpsim.comm import CommError, Group, run
from tpsim.functional import linear
from tpsim.lab.checking.case import Array
from tpsim.lab.checking.stop import ResultError, Stop, stopped
from tpsim.trace import CollectiveEvent, KernelEvent, Trace


@dataclass(frozen=True)
class Call:
    """One function of the submission, called on every rank.

    Attributes
    ----------
    function : str
        Its name.
    takes : str
        Names of its arguments, in order, separated by spaces: things given, things that earlier calls
        returned, and `group`, `rank`, `ranks`, or `matmul` (see there).
    gives : str
        Names for what it returns; several mean that it returns a tuple.
    """

    function: str
    takes: str
    gives: str

    def names(self) -> list[str]:
        """Return the names of what it returns."""
        return self.gives.split()


@dataclass
class RankRun:
    """What one rank has done.

    Attributes
    ----------
    values : dict
        What its calls returned, by the names that they give.
    events : dict
        The collectives of each call, by function.
    kernels : dict
        Its matrix products by `matmul`, by function.
    ended : set
        The functions that returned what they should, as far as its form goes.
    """

    values: dict[str, Any] = field(default_factory=dict)
    events: dict[str, list[CollectiveEvent]] = field(default_factory=dict)
    kernels: dict[str, list[KernelEvent]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)


@dataclass
class Ran:
    """What all ranks have done; `stop` says why they did not come to the end, `printed` what they printed."""

    ranks: list[RankRun]
    stop: Stop | None = None
    printed: str = ""


class Runner(Protocol):
    """Runs a submission: `given` has one dict a rank."""

    def __call__(self, calls: Sequence[Call], given: Sequence[Mapping[str, Any]]) -> Ran:
        """Run the calls in order on as many ranks as `given` is long."""


def on_rank(
    calls: Sequence[Call],
    functions: Mapping[str, Callable[..., Any]],
    given: Mapping[str, Any],
    group: Any,
    mine: RankRun,
    events: Sequence[CollectiveEvent],
    kernels: Sequence[KernelEvent] = (),
) -> None:
    """Make the calls on one rank, and fill in `mine` as far as they come.

    `events` and `kernels` are the rank's trace's, and grow as it goes on.
    """
    known = {**given, "group": group, "rank": group.rank, "ranks": group.size, "matmul": matmul}
    for call in calls:
        before = len(events), len(kernels)
        try:
            result = functions[call.function](*(known[name] for name in call.takes.split()))
        finally:
            mine.events[call.function] = list(events[before[0] :])
            mine.kernels[call.function] = list(kernels[before[1] :])
        returned = unpacked(call, result)
        mine.ended.add(call.function)
        known.update(returned)
        mine.values.update(returned)


def matmul(x: Array, a: Array) -> Array:
    """Return x @ a, and note in the trace that it was computed, and when: exercises on time ask for it."""
    return linear(x, a)


@contextmanager
def held(errors: list[BaseException], rank: int) -> Iterator[None]:
    """Note a rank's error, and let it end quietly: the others go on as far as they can without it.

    So a forward that is right on every rank is seen to be so, whatever the first rank's backward raises. The
    first error is what stopped the run; others may follow from it. Errors of communication, which concern all
    ranks, pass through.
    """
    try:
        yield
    except CommError:
        raise
    except (Exception, SystemExit) as error:  # what a submission does is not ours to obey
        error.add_note(f"[raised by rank {rank}]")
        errors.append(error)


def unpacked(call: Call, result: Any) -> dict[str, Any]:
    """Return what a call returned by name.

    Raises
    ------
    ResultError
        If it is not the tuple that the exercise asks for.
    """
    names = call.names()
    if len(names) == 1:
        return {names[0]: result}
    if not isinstance(result, tuple) or len(result) != len(names):
        has = f"a tuple of {len(result)}" if isinstance(result, tuple) else f"a {type(result).__name__}"
        raise ResultError(
            f"{call.function} returned {has}, and must return {len(names)} things; "
            f"end it with `return {', '.join(names)}`"
        )
    return dict(zip(names, result, strict=True))


class LocalRunner:
    """Runs functions on virtual ranks of this process.

    Parameters
    ----------
    functions : mapping of str to callable
        Those of the submission.
    path : str
        The submission's file, to name lines by.
    """

    def __init__(self, functions: Mapping[str, Callable[..., Any]], path: str) -> None:
        self.functions = functions
        self.path = path

    def __call__(self, calls: Sequence[Call], given: Sequence[Mapping[str, Any]]) -> Ran:
        """Run the calls in order on as many ranks as `given` is long."""
        ran = Ran([RankRun() for _ in given])
        errors: list[BaseException] = []
        printed = io.StringIO()

        def main(comm: Any) -> None:
            quiet = np.errstate(all="ignore")  # what overflows is judged by its value
            with quiet, Trace(kernels=True) as trace, held(errors, comm.rank):
                on_rank(
                    calls,
                    self.functions,
                    {name: frozen(value) for name, value in given[comm.rank].items()},
                    Group(comm),
                    ran.ranks[comm.rank],
                    trace.collectives,
                    trace.kernels,
                )

        try:
            with redirect_stdout(printed):
                run(main, len(given))
        except CommError as error:
            errors.append(error)
        if errors:
            ran.stop = stopped(errors[0], self.path)
        ran.printed = printed.getvalue()
        return ran


def frozen(value: Any) -> Any:
    """Return a copy of an array that can't be written to, nor made writeable; other things as they are."""
    if not isinstance(value, np.ndarray):
        return value
    copy = np.array(value, order="C")
    copy.flags.writeable = False
    return copy[...]
