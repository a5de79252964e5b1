"""The fastest products of this machine: what all other sections are a fraction of."""

from __future__ import annotations

from collections.abc import Sequence

from tpsim.studies.bench.contenders import Contender, virtual
from tpsim.studies.bench.crew import Crew
from tpsim.studies.bench.result import Section, timed
from tpsim.studies.bench.rounds import Effort, Entry, Plan, Rounds, Say, interleave, prepare

ONE, ALL = "one thread", "all threads"
SIZES = (512, 1024, 2048)
_BRIEFLY = Effort(rounds=1, burst=0.1)


def one_thread() -> Contender:
    """Return a process whose BLAS has one thread."""
    return virtual(ONE, 1)


def all_threads() -> Contender:
    """Return a process whose BLAS has as many threads as it likes."""
    return virtual(ALL, 1, threads=None)


def entries(who: str = ONE, dtype: str = "float32", sizes: Sequence[int] = SIZES) -> list[Entry]:
    """Return products of square matrices, by a contender of one rank."""
    return [Entry(_what(dtype, n), who, who, "gemm", {"size": n, "dtype": dtype}) for n in sizes]


def yardstick(crew: Crew, say: Say) -> list[Plan]:
    """Prepare one thread's products in float32, to take turns with what is compared with them."""
    return prepare(crew, entries(), _BRIEFLY, say)


def peak(rounds: Rounds, who: str = ONE, dtype: str = "float32") -> float:
    """Return the FLOPs a second of the size that is fastest, by its median."""
    return max(flops(n) / rounds.timings[_what(dtype, n), who].median for n in SIZES)


def flops(size: int) -> int:
    """Return the FLOPs of a product."""
    return 2 * size**3


def _what(dtype: str, size: int) -> str:
    return f"{dtype} {size}"


def section(effort: Effort, say: Say) -> Section:
    """Measure products in float32 and float64, on one thread and on all."""
    ways = [(who, dtype) for who in (ONE, ALL) for dtype in ("float32", "float64")]
    with Crew([one_thread(), all_threads()]) as crew:
        rounds = interleave(crew, [entry for way in ways for entry in entries(*way)], effort, say)
    rows = []
    for who, dtype in ways:
        best = peak(rounds, who, dtype)
        rows += [
            timed("gemm", _what(dtype, n), who, rounds.timings[_what(dtype, n), who], flops(n), speed=best)
            for n in SIZES
        ]
    return Section("gemm", rows, rounds.others)
