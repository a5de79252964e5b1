"""A few steps of a training run, recorded: as a Chrome trace, and as a profile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tpsim.comm import Mesh
from tpsim.trace import CollectiveEvent, Trace
from tpsim.trace.chrome import write
from tpsim.trace.profile import Profile, profile
from tpsim.trace.slices import from_traces

SHOWN, PROFILED = 3, 20


class StepTraces:
    """Records the steps 2 to 4 of a run on one rank for a file that shows them, or 2 to 21 for a profile.

    The first step is left out where others follow: it pays for what is done once.

    Parameters
    ----------
    comm : VirtualComm or mpi4py.MPI.Comm
        Of all ranks, which are on one machine and so share a clock.
    mesh : Mesh
        Over `comm`.
    steps : range
        The run's.
    path : str, optional
        The file for a Chrome trace.
    tell : callable, optional
        What the profile is handed to, on rank 0. All ranks pass one, or none.

    Examples
    --------
    In the loop of every rank::

        traces = StepTraces(comm, mesh, steps, path)
        for step in steps:
            train_step(…, trace=traces.of(step))
        traces.finish()
    """

    def __init__(
        self,
        comm: Any,
        mesh: Mesh,
        steps: range,
        path: str | None = None,
        tell: Callable[[Profile], None] | None = None,
    ) -> None:
        self._comm = comm
        self._tp = mesh.tp.size
        self._path = path
        self._tell = tell
        self._steps = steps[: 1 + (PROFILED if tell else SHOWN if path else -1)]
        self._traces: list[Trace] = []

    def of(self, step: int) -> Trace | None:
        """Return what to record the step into, or None for one that is not shown."""
        if step not in self._steps:
            return None
        self._traces.append(Trace(kernels=True, saved=self._path is not None))
        return self._traces[-1]

    def finish(self) -> None:
        """Gather all ranks' traces; rank 0 writes the file and tells the profile. Every rank calls it."""
        if not self._steps:
            return
        ranks = self._comm.gather(self._traces[1:] or self._traces)
        if ranks is None:
            return
        if self._path is not None:
            write(self._path, from_traces([traces[:SHOWN] for traces in ranks]))
        if self._tell is not None:
            self._tell(profile(ranks, self._mates))

    def _mates(self, event: CollectiveEvent, rank: int) -> range:
        """Return who takes part: the tp ranks of a mesh are neighbours, the dp ranks `tp` apart."""
        stride = self._tp if event.group.split("/")[0] == "dp" else 1
        first = rank - event.rank * stride
        return range(first, first + event.ranks * stride, stride)
