"""tpsim's workers: ``python -m tpsim.studies.bench.ranks RANKS SCHEDULE THREADS``, or the same under mpiexec.

Ranks keep freed memory in every world, as `launch` has them do under mpiexec.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import tpsim
from tpsim.comm import mpi
from tpsim.comm.memory import keep_memory
from tpsim.studies.bench.programs import PROGRAMS, Groups
from tpsim.studies.bench.worker import Order, connect, serve, telling


def on_rank(comm: Any, connection: Connection[Any, Any]) -> None:
    """Serve as one of a contender's ranks: a process with its own connection, or one of several in it."""
    programs = {name: partial(program, Groups(comm)) for name, program in PROGRAMS.items()}
    if mpi.under_mpiexec():

        def take() -> Order:
            order: Order = connection.recv()
            return order

        def answer(result: Any) -> None:
            connection.send(("done", [result], time.process_time()))

        with telling(connection):
            serve(take, answer, programs, comm.Barrier)
        return

    def take_for_all() -> Order:
        order: Order = comm.bcast(connection.recv() if comm.rank == 0 else None)
        return order

    def answer_of_all(result: Any) -> None:
        results = comm.gather(result)
        if comm.rank == 0:
            connection.send(("done", results, time.process_time()))

    serve(take_for_all, answer_of_all, programs, comm.Barrier)


def main(ranks: str, schedule: Any, threads: str) -> None:
    """Start this process's ranks; `threads` of BLAS a rank, or "all"."""
    connection = connect()
    keep_memory()
    limit = None if threads == "all" else int(threads)
    if mpi.under_mpiexec():
        tpsim.launch(on_rank, int(ranks), connection, threads=limit)
        return
    with telling(connection):
        tpsim.run(on_rank, int(ranks), connection, schedule=schedule, threads=limit)


if __name__ == "__main__":
    main(*sys.argv[1:])
