"""Starting ranks: `run` on virtual ones, `launch` on whichever the script was started with."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from tpsim.comm import mpi, watch
from tpsim.comm.blas import blas_threads
from tpsim.comm.faults import arm, parse
from tpsim.comm.memory import keep_memory
from tpsim.comm.virtual import VirtualComm, current
from tpsim.comm.virtual.comm import world_comm
from tpsim.comm.virtual.free import FreeWorld
from tpsim.comm.virtual.lockstep import LockstepWorld
from tpsim.trace import isolate

Schedule = Literal["lockstep", "free"]
_WORLDS = {"lockstep": LockstepWorld, "free": FreeWorld}


def run(
    main: Callable[..., Any],
    ranks: int = 4,
    *args: Any,
    schedule: Schedule = "lockstep",
    threads: int | None = 1,
    eager_bytes: int = 1 << 16,
    check: bool = False,
    faults: Sequence[str] = (),
) -> list[Any]:
    """Run `main(comm, *args)` on virtual ranks of this process.

    Parameters
    ----------
    main : callable
        What every rank runs; `comm` is its `VirtualComm`.
    ranks : int
        How many.
    *args
        Passed on to `main`.
    schedule : {"lockstep", "free"}
        "lockstep": one rank at a time, handed on at communication calls (greenlets): the same order
        every time, and cheap even for 1,024 ranks. "free": all at once (threads), for speed.
    threads : int or None
        BLAS threads a rank; None leaves NumPy's own setting.
    eager_bytes : int
        Sends up to this size are buffered, longer ones wait for their receive. 0 finds programs that
        only work by buffering.
    check : bool
        Watch buffers from each non-blocking call to its end, and raise where a program touches them
        (`InFlightError`). Costs a copy of each.
    faults : sequence of str
        Accidents to strike ranks, such as "rank=2 at=collective:17 kind=crash": at one of a rank's
        collectives or of the messages it sends (message:3), from 1. Kinds are crash, stall, corrupt
        (with seed=), drop and slow (with seconds=).

    Returns
    -------
    list
        What `main` returned on each rank.

    Notes
    -----
    The C library is told to keep memory that is freed; see `memory.keep_memory`.

    Raises
    ------
    CommError
        If ranks call different collectives (`CollectiveMismatchError`), wait for each other without
        end (`DeadlockError`), or leave messages behind (`UnfinishedError`): the message says where
        each rank stands.
    Exception
        Whatever a rank raised first; the others are stopped.

    Examples
    --------
    >>> run(lambda comm: comm.allreduce(comm.rank), ranks=4)
    [6, 6, 6, 6]
    """
    if not callable(main):
        raise TypeError(f"run: main is a {type(main).__name__}; pass a function that takes a communicator")
    if isinstance(ranks, bool) or not isinstance(ranks, int | np.integer) or ranks < 1:
        raise ValueError(f"run: ranks={ranks!r} is not a number of ranks; pass 1 or more")
    if schedule not in _WORLDS:
        raise ValueError(f"run: schedule {schedule!r} is not known; pick 'lockstep' or 'free'")
    ranks = int(ranks)
    world = _WORLDS[schedule](ranks, eager_bytes, check=check)
    armed = arm(world, [parse(fault, ranks, ("collective", "message")) for fault in faults])

    def body(rank: int) -> Any:
        isolate()  # else a trace around the run would mix up the ranks
        return main(world_comm(world, rank), *args)

    keep_memory()
    with blas_threads(threads):
        world.run(body)
    results = world.conclude()
    for sentence in armed.missed():
        warnings.warn(sentence, stacklevel=2)
    return results


def launch(
    main: Callable[..., Any],
    ranks: int | None = None,
    *args: Any,
    schedule: Schedule = "lockstep",
    threads: int | None = 1,
    timeout: float | None = None,
) -> list[Any]:
    """Run `main(comm, *args)` under mpiexec if the script was started with it, else on virtual ranks.

    A script that `tpsim run` started has its ranks already, and runs on those. Under mpiexec `comm` is
    `MPI.COMM_WORLD`; a rank that raises ends the whole job, with its traceback and exit code 1 (or its
    `sys.exit` code). Scripts that use `MPI.COMM_WORLD` without `launch` get the like from
    `mpiexec -n 4 python -m mpi4py script.py`.

    Parameters
    ----------
    main, args, schedule, threads
        As for `run`.
    ranks : int, optional
        How many ranks; by default mpiexec's number, or 4 virtual ones.
    timeout : float, optional
        Under mpiexec, seconds after which a group's call that has not completed ends the job, with a
        report of where every rank stands (0: never); by default the environment's TPSIM_TIMEOUT, or 30.
        Virtual ranks need none: they know at once that none can go on.

    Returns
    -------
    list
        What `main` returned on each rank: the whole list, on every rank.

    Raises
    ------
    ValueError
        If mpiexec started another number of ranks than `ranks`.
    """
    own = _of_program()
    if own is not None:
        if ranks not in (None, own.size):
            raise ValueError(
                f"launch: the script asks for ranks={ranks} and tpsim run started {own.size}; start it with "
                f"tpsim run -n {ranks}, or leave `ranks` out"
            )
        return own.allgather(main(own, *args))
    if not mpi.under_mpiexec():
        return run(main, 4 if ranks is None else ranks, *args, schedule=schedule, threads=threads)
    comm = mpi.world()
    mpi.let_interrupts_kill()
    keep_memory()
    try:
        watch.limit(timeout)
        watch.marker_of(comm)
        if ranks is not None and ranks != comm.size:
            raise ValueError(
                f"launch: the script asks for ranks={ranks} and mpiexec started {comm.size}; start it with "
                f"mpiexec -n {ranks}, or leave `ranks` out"
            )
        with blas_threads(threads):
            stopped, result = _outcome(main, comm, args)
        watch.end("called sys.exit(0)" if stopped else "returned from main")
        outcomes: list[tuple[bool, Any]] = comm.allgather((stopped, result))
        watch.end("")
    except BaseException as error:
        mpi.abort(comm, error)
        raise
    if any(stopped for stopped, _ in outcomes):
        sys.exit(0)  # as on virtual ranks, where it leaves the whole run
    return [result for _, result in outcomes]


def _of_program() -> VirtualComm | None:
    """Return COMM_WORLD where this code is a rank of a program that `tpsim run` runs."""
    world = getattr(sys.modules.get("mpi4py.MPI"), "COMM_WORLD", None)
    return world if isinstance(world, VirtualComm) and current.rank.get() is not None else None


def _outcome(main: Callable[..., Any], comm: Any, args: tuple[Any, ...]) -> tuple[bool, Any]:
    """Return whether this rank left by `sys.exit(0)`, and what main returned."""
    try:
        return False, main(comm, *args)
    except SystemExit as stop:
        if stop.code not in (None, 0):
            raise
        return True, None
