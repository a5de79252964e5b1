"""A transformer block, forward and backward: tpsim in each of its worlds, and PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.studies.bench import products
from tpsim.studies.bench.contenders import (
    Contender,
    free_port,
    processes,
    torch_alone,
    torch_ranks,
    virtual,
)
from tpsim.studies.bench.crew import BenchError, Crew
from tpsim.studies.bench.programs import block_inputs, block_weights
from tpsim.studies.bench.result import Row, Section, timed, worst
from tpsim.studies.bench.rounds import Effort, Entry, Say, prepare, take_turns
from tpsim.studies.bench.sizes import BLOCKS

Array = NDArray[Any]

RANK = "one rank"
MPI_1, MPI_2, CHECKED = "mpiexec -n 1", "mpiexec -n 2", "mpiexec -n 2, calls compared"
FREE, LOCKSTEP = "virtual, 2 free", "virtual, 8 in lockstep"
TORCH_1, TORCH_ALL = "torch, one thread", "torch, all threads"
TORCH_TP, TORCH_HAND = "torch's own TP, 2 ranks", "torch TP by hand, 2 ranks"

TOLERANCE = 1e-4
"""Of the largest entry: by how much the same block's results in float32 may differ."""


def section(efforts: Mapping[str, Effort], say: Say, *, mpi: bool, torch: str | None) -> Section:
    """Measure blocks.

    Parameters
    ----------
    efforts : mapping
        For "small", "big" or both.
    say : callable
    mpi : bool
        Whether there is an mpiexec.
    torch : str, optional
        The Python that has torch.

    Raises
    ------
    BenchError
        If a contender's y or dx, at the first size, differs from one rank's by more than `TOLERANCE`.
    """
    rows: list[Row] = []
    others = []
    with Crew(_contenders(mpi, torch)) as crew:
        for size, effort in efforts.items():
            entries = _entries(size, mpi, torch is not None)
            plans = products.yardstick(crew, say) + prepare(crew, entries, effort, say)
            if not rows:
                _compare(crew, entries)
            rounds = take_turns(crew, plans, effort.rounds, say)
            peak = products.peak(rounds)
            for entry in entries:
                timing, cores = rounds.timings[entry.what, entry.who], crew.contenders[entry.contender].cores
                rows.append(timed("block", size, entry.who, timing, BLOCKS[size].flops, speed=peak * cores))
            others.append(rounds.others)
            crew.forget()
    return Section("block", rows, worst(others))


def _contenders(mpi: bool, torch: str | None) -> list[Contender]:
    found = [
        products.one_thread(),
        virtual(RANK, 1),
        virtual(FREE, 2, "free"),
        virtual(LOCKSTEP, 8),
    ]
    if mpi:
        found += [processes(MPI_1, 1), processes(MPI_2, 2)]
    if torch:
        found += [
            torch_alone(TORCH_1, torch, 1),
            torch_alone(TORCH_ALL, torch, None),
            torch_ranks(TORCH_TP, torch, 2, free_port()),
            torch_ranks(TORCH_HAND, torch, 2, free_port()),
        ]
    return found


def _entries(size: str, mpi: bool, torch: bool) -> list[Entry]:
    """Return the blocks, one rank's first."""
    found = [Entry(size, who, who, "block", {"size": size}) for who in (RANK, FREE, LOCKSTEP)]
    if mpi:
        found += [Entry(size, who, who, "block", {"size": size}) for who in (MPI_1, MPI_2)]
        found.append(Entry(size, CHECKED, MPI_2, "block", {"size": size, "check": True}))
    if torch:
        arguments = {
            "weights": {name: _sent(array) for name, array in block_weights(size).items()},
            "inputs": tuple(map(_sent, block_inputs(size))),
            "heads": BLOCKS[size].heads,
        }
        ways = {TORCH_1: "alone", TORCH_ALL: "alone", TORCH_TP: "own parallel", TORCH_HAND: "by hand"}
        found += [Entry(size, who, who, program, arguments) for who, program in ways.items()]
    return found


def _compare(crew: Crew, entries: Sequence[Entry]) -> None:
    """See that all contenders compute the same, on each of their ranks."""
    expected = crew.tell(entries[0].contender, "ask", entries[0].key)[0]
    for entry in entries[1:]:
        for rank, found in enumerate(crew.tell(entry.contender, "ask", entry.key)):
            for name, ours, theirs in zip(("y", "dx"), expected, map(_array, found), strict=True):
                if not np.abs(theirs - ours).max() <= TOLERANCE * np.abs(ours).max():
                    raise BenchError(
                        f"{entry.who}: {name} on rank {rank} differs from that of {entries[0].who} by more "
                        f"than {TOLERANCE:g} of its largest entry, so that times can't be compared; report "
                        "it, with the versions that tpsim bench --only gemm prints"
                    )


def _sent(array: Array) -> tuple[tuple[int, ...], bytes]:
    return array.shape, array.tobytes()


def _array(found: Any) -> Array:
    """Return an array that torch sent, or tpsim."""
    if isinstance(found, np.ndarray):
        return found
    shape, data = found
    return np.frombuffer(data, np.float32).reshape(shape)
