"""A few steps of a training run as a Chrome trace."""

from __future__ import annotations

from typing import Any

from tpsim.trace import Trace
from tpsim.trace.chrome import write
from tpsim.trace.slices import from_traces

STEPS = 3


class StepTraces:
    """Records the steps 2 to 4 of a run on one rank, for a file that shows them on all ranks.

    The first step is left out where others follow: it pays for what is done once.

    Parameters
    ----------
    comm : VirtualComm or mpi4py.MPI.Comm
        Of all ranks, which are on one machine and so share a clock.
    path : str or None
        The file; None records nothing.
    steps : range
        The run's.

    Examples
    --------
    In the loop of every rank::

        traces = StepTraces(comm, path, steps)
        for step in steps:
            train_step(…, trace=traces.of(step))
        traces.write()
    """

    def __init__(self, comm: Any, path: str | None, steps: range) -> None:
        self._comm = comm
        self._path = path
        self._steps = steps[: 1 + STEPS] if path is not None else range(0)
        self._traces: list[Trace] = []

    def of(self, step: int) -> Trace | None:
        """Return what to record the step into, or None for one that is not shown."""
        if step not in self._steps:
            return None
        self._traces.append(Trace(kernels=True))
        return self._traces[-1]

    def write(self) -> None:
        """Gather all ranks' traces and write the file; every rank calls it, and rank 0 writes."""
        if self._path is None:
            return
        ranks = self._comm.gather(self._traces[1:] or self._traces)
        if ranks is not None:
            write(self._path, from_traces(ranks))
