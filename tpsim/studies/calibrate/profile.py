"""From a machine to its profile: what is measured, at which sizes, and the file that follows."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tpsim.comm import Group, launch, mpi, run
from tpsim.comm.memory import keep_memory
from tpsim.cost import hardware
from tpsim.cost.compare.case import Row
from tpsim.cost.fit import machine
from tpsim.cost.fit.machine import Point
from tpsim.cost.fit.section import rounded
from tpsim.cost.hardware import Hardware
from tpsim.cost.work import Gemm, Pointwise
from tpsim.studies.calibrate.cases import Case, Pool, messages, passes, products
from tpsim.studies.calibrate.gaps import between_calls, small_block
from tpsim.studies.calibrate.timing import Clock, own, seconds_of, wall

_BATCH = 16
Sizes = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes
    ----------
    rounds : int
        Turns of every call; their lower quartile counts.
    arrays : tuple of (int, int)
        Rows and width of what is passed over.
    products, batched : tuple of (int, int, int)
        m, n and k; `batched` ones 16 at a time, as attention's heads are.
    messages : tuple of int
        Elements of the whole array of a collective.
    dtypes : tuple of str
    """

    rounds: int = 7
    arrays: tuple[tuple[int, int], ...] = (
        (16, 64),
        (128, 32),
        (64, 256),
        (512, 64),
        (256, 512),
        (1024, 256),
        (1024, 512),
        (4096, 256),
        (2048, 1024),
    )
    products: Sizes = (
        (32, 64, 64),
        (128, 128, 128),
        (512, 64, 256),
        (512, 384, 128),
        (1024, 128, 512),
        (1024, 256, 256),
        (1024, 1024, 256),
        (512, 512, 1024),
    )
    batched: Sizes = ((128, 128, 32), (128, 32, 128), (256, 256, 32), (256, 64, 256))
    messages: tuple[int, ...] = (1, 512, 4096, 16_384, 65_536, 131_072, 262_144, 1_048_576)
    dtypes: tuple[str, ...] = ("float32", "float64")


FULL = Effort()
QUICK = Effort(
    rounds=3,
    arrays=((16, 64), (128, 128), (512, 256), (1024, 512), (2048, 1024)),
    products=((128, 128, 128), (512, 256, 128), (1024, 256, 512), (512, 512, 512)),
    batched=((128, 128, 32), (256, 64, 256)),
    messages=(1, 4096, 65_536, 262_144, 1_048_576),
    dtypes=("float32",),
)
"""Less of everything, and float32 alone."""


@dataclass(frozen=True)
class Measured:
    """Seconds, alike on every rank.

    Attributes
    ----------
    ranks : int
        That worked at the same time.
    kernels, collectives : list of Point
    block : float
        Of a block so small that its arithmetic takes hardly any time: forward and backward.
    """

    ranks: int
    kernels: list[Point]
    collectives: list[Point]
    block: float


@dataclass(frozen=True)
class Calibration:
    """A machine's profile, and how near it comes to what it was fitted to.

    Attributes
    ----------
    profile : dict
        The sections of its file.
    rows : list of Row
        Every call that was timed.
    world : {"mpi", "virtual"}
        Where collectives were measured.
    ranks : int
    between : float
        Seconds of Python from one call of a layer to the next.
    """

    profile: dict[str, Any]
    rows: list[Row]
    world: str
    ranks: int
    between: float

    @property
    def hardware(self) -> Hardware:
        """Return the profile as prices."""
        return hardware.from_dict(self.profile)


def calibrate(effort: Effort, *, ranks: int = 2) -> Calibration:
    """Measure this machine: all ranks of an MPI job at once, or without one a core alone.

    Parameters
    ----------
    effort : Effort
    ranks : int
        Virtual ranks among which collectives are measured where there is no MPI job.
    """
    if mpi.under_mpiexec():
        measured: Measured = launch(measure, None, effort)[0]
    else:
        keep_memory()
        measured = run(measure, 1, effort)[0]
    if measured.collectives:
        return fitted(measured, "mpi")
    return fitted(replace(measured, collectives=run(_collectives, ranks, effort)[0]), "virtual")


def measure(comm: Any, effort: Effort) -> Measured:
    """Return what this rank, and all others at the same time, take for every call."""
    kernels: list[Point] = []
    for dtype in effort.dtypes:
        pool = Pool(dtype, max(_operands(effort)))
        cases = [
            *passes(pool, effort.arrays),
            *products(pool, effort.products),
            *products(pool, effort.batched, batch=_BATCH),
        ]
        kernels += _points(cases, comm, effort.rounds)
    collectives = _collectives(comm, effort) if comm.Get_size() > 1 else []
    return Measured(comm.Get_size(), kernels, collectives, small_block(comm, effort.rounds))


def _points(cases: Sequence[Case], comm: Any, rounds: int, clock: Clock = own) -> list[Point]:
    seconds = seconds_of([case.call for case in cases], comm, rounds=rounds, clock=clock)
    return [Point(case.work, second) for case, second in zip(cases, seconds, strict=True)]


def _operands(effort: Effort) -> Iterator[int]:
    """Yield the elements of operands."""
    yield from (rows * width for rows, width in effort.arrays)
    for batch, sizes in ((1, effort.products), (_BATCH, effort.batched)):
        yield from (batch * max(m * n, m * k, n * k) for m, n, k in sizes)


def _collectives(comm: Any, effort: Effort) -> list[Point]:
    return _points(list(messages(Group(comm), effort.messages)), comm, 3 * effort.rounds, wall)


# --- the file -----------------------------------------------------------------------------------------------


def fitted(measured: Measured, world: str) -> Calibration:
    """Fit the sections of a profile, and say what it is."""
    of = {
        kind: [point for point in measured.kernels if isinstance(point.work, kind)]
        for kind in (Gemm, Pointwise)
    }
    gemm, pointwise = machine.gemm_section(of[Gemm]), machine.pointwise_section(of[Pointwise])
    profile: dict[str, Any] = {
        "name": "this machine",
        "about": f"{_processor()}, {cores()} cores; one core a rank, {measured.ranks} ranks at a time.",
        "sources": _sources(measured, world),
        "peak_flops": _peaks(of[Gemm]),
        "memory_bytes": memory_bytes() // cores(),
        "memory_bandwidth": pointwise["families"]["add"]["bandwidth"],
        "node": cores(),
        "gemm": gemm,
        "attention": machine.attention_section(gemm, pointwise),
        "pointwise": pointwise,
        "collective": machine.collective_section(measured.collectives),
        "power": machine.POWER,
        "host": machine.HOST,
    }
    between = between_calls(measured.block, hardware.from_dict(profile))
    gemm["gap"] += between
    pointwise["gap"] += between
    profile = rounded(profile)
    rows = _rows(measured, hardware.from_dict(profile))
    return Calibration(profile, rows, world, measured.ranks, between)


def _rows(measured: Measured, prices: Hardware) -> list[Row]:
    rows = []
    for work, seconds in (*measured.kernels, *measured.collectives):
        modelled = prices.seconds(work, graph=True)
        rows.append(Row(_group(work), str(work), 1e6 * seconds, 1e6 * modelled))
    return rows


def _group(work: Any) -> str:
    match work:
        case Gemm():
            return f"product, {work.dtype}" + (", 16 at a time" if work.batch > 1 else "")
        case Pointwise():
            return work.name
        case _:
            return str(work.operation)


def _peaks(products: Sequence[Point]) -> dict[str, float]:
    """Return the most FLOPs a second of any product; narrow floats are computed with in float32."""
    peaks: dict[str, float] = {}
    for work, seconds in products:
        assert isinstance(work, Gemm)
        peaks[work.dtype] = max(peaks.get(work.dtype, 0.0), work.flops / seconds)
    narrow = dict.fromkeys(("bfloat16", "float16"), peaks["float32"]) if "float32" in peaks else {}
    return peaks | narrow


def _sources(measured: Measured, world: str) -> dict[str, str]:
    how = f"measured by tpsim calibrate, {measured.ranks} ranks at a time, one BLAS thread each"
    among = "processes under mpiexec" if world == "mpi" else "virtual ranks of one process"
    return {
        "peak_flops": f"the fastest product, {how}; narrow floats are computed with in float32",
        "memory_bytes": "the machine's memory, shared out over its cores",
        "memory_bandwidth": "NumPy's addition of arrays that no cache holds",
        "gemm, pointwise": f"fitted by tpsim.cost.fit.machine; {how}",
        "collective": f"fitted to a Group's ring among {among}; between machines nothing was measured",
        "attention": "no fused attention was measured: products and a softmax's passes",
        "power": "no limit",
        "host": "none: Python's own time is in the gaps of gemm and pointwise",
    }


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Return the machine's memory; 16 GiB where the system doesn't tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 16 << 30


def _processor() -> str:
    return platform.processor() or platform.machine()
