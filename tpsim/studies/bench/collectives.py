"""Collectives by size: every algorithm of a group, in each world, and MPI's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tpsim.comm.algorithms import ALGORITHMS
from tpsim.studies.bench.blocks import MPI_2
from tpsim.studies.bench.contenders import Contender, processes, virtual
from tpsim.studies.bench.crew import Crew
from tpsim.studies.bench.result import Row, Section, timed
from tpsim.studies.bench.rounds import Effort, Entry, Rounds, Say, interleave

LOCKSTEP_4, FREE_4 = "virtual, 4 in lockstep", "virtual, 4 free"
RANKS = {LOCKSTEP_4: 4, FREE_4: 4, MPI_2: 2}
OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter")
SIZES = tuple(64 << shift for shift in (0, 4, 8, 12, 16, 18))
"""Bytes of the whole array: 64 B to 16 MiB."""
LARGEST = SIZES[-1]
FEW = (SIZES[1], SIZES[3], LARGEST)

_COPIED = 32 << 20  # bytes that each rank copies: with its target, more than a core's share of any cache


def who(contender: str, algorithm: str, *, messages: bool = False) -> str:
    """Return a row's who."""
    return f"{contender}: {algorithm}" + ", by messages" * messages


def what(operation: str, nbytes: int) -> str:
    """Return a row's what."""
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes >= size:
            return f"{operation} {nbytes // size} {unit}"
    return f"{operation} {nbytes} B"


def moved(operation: str, nbytes: int, ranks: int) -> int:
    """Return the bytes that any algorithm reads or writes at least: each rank's input, and its result."""
    if operation == "all_reduce":
        return 2 * ranks * nbytes
    return nbytes + ranks * nbytes  # one of the two is a part on each rank


def section(
    effort: Effort,
    say: Say,
    *,
    mpi: bool,
    sizes: Sequence[int] = SIZES,
    operations: Sequence[str] = OPERATIONS,
) -> Section:
    """Measure collectives of float32, and copies of arrays that no cache holds."""
    contenders = [virtual(LOCKSTEP_4, 4), virtual(FREE_4, 4, "free"), *([processes(MPI_2, 2)] if mpi else [])]
    copies = [Entry("copy", one.name, one.name, "copy", {"nbytes": _COPIED}) for one in contenders]
    calls = list(_calls(contenders, sizes, operations))
    with Crew(contenders) as crew:
        rounds = interleave(crew, [*copies, *calls], effort, say)
    speeds = {
        one.name: _moved_by_copies(one.name) / rounds.timings["copy", one.name].median for one in contenders
    }
    rows = [
        timed(
            "collectives", "copy", name, rounds.timings["copy", name], _moved_by_copies(name), work_unit="B"
        )
        for name in speeds
    ]
    rows += [_row(call, rounds, speeds[call.contender]) for call in calls]
    return Section("collectives", rows, rounds.others)


def _calls(
    contenders: Sequence[Contender], sizes: Sequence[int], operations: Sequence[str]
) -> Iterator[Entry]:
    """Yield the calls, those to be compared next to each other."""
    for nbytes in sizes:
        for operation in operations:
            for contender in contenders:
                for algorithm, messages in _ways(contender):
                    arguments = {
                        "operation": operation,
                        "nbytes": nbytes,
                        "algorithm": algorithm,
                        "messages": messages,
                    }
                    name = who(contender.name, algorithm, messages=messages is True)
                    yield Entry(what(operation, nbytes), name, contender.name, "collective", arguments)


def _ways(contender: Contender) -> Iterator[tuple[str, bool | None]]:
    """Yield algorithms, and on virtual ranks whether they send their messages or meet."""
    if contender.name == MPI_2:
        yield from ((algorithm, None) for algorithm in (*ALGORITHMS, "mpi"))
    else:
        yield from ((algorithm, messages) for messages in (False, True) for algorithm in ALGORITHMS)


def _moved_by_copies(contender: str) -> int:
    return RANKS[contender] * 2 * _COPIED


def _row(call: Entry, rounds: Rounds, speed: float) -> Row:
    operation, nbytes = call.arguments["operation"], call.arguments["nbytes"]
    work = moved(operation, nbytes, RANKS[call.contender])
    timing = rounds.timings[call.what, call.who]
    return timed("collectives", call.what, call.who, timing, work, work_unit="B", speed=speed)
