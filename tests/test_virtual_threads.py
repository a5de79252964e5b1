"""Threads that a rank starts communicate as that rank; under lockstep the other ranks go on meanwhile."""

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from tpsim.comm import DeadlockError, VirtualComm, run
from tpsim.comm.virtual import Request
from tpsim.comm.virtual.messages.generalized import Grequest

schedules = pytest.mark.parametrize("schedule", ["lockstep", "free"])


def receive(comm: VirtualComm, source: int, tag: int) -> None:
    with suppress(SystemExit):  # which ends a thread silently, but pytest hears it
        comm.recv(None, source, tag)


def ring(comm: VirtualComm, tag: int) -> int:
    right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    received: int = comm.sendrecv(comm.rank, right, tag, None, left, tag)
    return received


@schedules
@pytest.mark.parametrize("eager", [0, 1 << 16])
def test_threads_exchange_messages_while_their_ranks_do(schedule: Any, eager: int) -> None:
    def main(comm: VirtualComm) -> Any:
        got: list[int] = []
        threads = [threading.Thread(target=lambda t=t: got.append(ring(comm, t))) for t in range(1, 4)]
        for thread in threads:
            thread.start()
        mine = [ring(comm, 0) for _ in range(5)]
        total = comm.allreduce(1)
        for thread in threads:
            thread.join()
        return got, mine, total

    for rank, got in enumerate(run(main, 4, schedule=schedule, eager_bytes=eager)):
        left = (rank - 1) % 4
        assert got == ([left] * 3, [left] * 5, 4)


@schedules
def test_a_rank_that_waits_for_its_thread_lets_others_go_on(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        answers: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=lambda: answers.put(ring(comm, 1))).start()
        by_queue = answers.get()
        event = threading.Event()

        def then_tell() -> None:
            ring(comm, 2)
            event.set()

        threading.Thread(target=then_tell).start()
        assert event.wait()
        with ThreadPoolExecutor(2) as pool:
            by_future = [future.result() for future in [pool.submit(ring, comm, tag) for tag in (3, 4)]]
        return by_queue, by_future

    for rank, got in enumerate(run(main, 3, schedule=schedule)):
        assert got == ((rank - 1) % 3, [(rank - 1) % 3] * 2)


@schedules
def test_a_wait_with_a_timeout_ends_in_time(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        if comm.rank == 0:
            event = threading.Event()
            thread = threading.Thread(target=comm.recv, args=(None, 1))
            thread.start()
            waited = event.wait(0.05)
            thread.join(0.05)
            alive = thread.is_alive()
            comm.send("go on", 1)
            thread.join()
            return waited, alive
        comm.recv()
        comm.send(None, 0)
        return None

    assert run(main, 2, schedule=schedule)[0] == (False, True)


@schedules
def test_a_thread_that_has_not_spoken_yet_is_waited_for(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        def late() -> None:
            time.sleep(0.1)
            comm.Send(np.ones(1), 1)

        if comm.rank == 0:
            threading.Thread(target=late).start()
            return None
        x = np.zeros(1)
        comm.Recv(x)
        return x[0]

    assert run(main, 2, schedule=schedule)[1] == 1


@schedules
def test_a_thread_may_complete_what_its_rank_waits_for(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        request = Grequest.Start()
        threading.Timer(0.02, request.complete, (comm.rank,)).start()
        return Request.waitall([comm.isend(None, comm.rank), comm.irecv(None, comm.rank), request])[2]

    assert run(main, 2, schedule=schedule) == [0, 1]


@schedules
def test_a_thread_and_ranks_that_wait_without_hope_are_told(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        if comm.rank == 0:
            threading.Thread(target=receive, args=(comm, 1, 5)).start()
            time.sleep(0.02)
        comm.recv(None, 1 - comm.rank, 6)

    with pytest.raises(DeadlockError) as caught:
        run(main, 2, schedule=schedule)
    text = str(caught.value)
    assert "all 2 ranks wait" in text
    assert "rank 0, in a thread that it started: recv(from rank 1, tag 5)" in text


@schedules
def test_a_failure_ends_the_threads_too(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        if comm.rank == 0:
            thread = threading.Thread(target=receive, args=(comm, 1, 5))
            threads.append(thread)
            thread.start()
            comm.Barrier()
        elif comm.rank == 1:
            time.sleep(0.02)
            raise KeyError("mine")
        comm.Barrier()

    threads: list[threading.Thread] = []
    with pytest.raises(KeyError):
        run(main, 3, schedule=schedule)
    threads[0].join(5)
    assert not threads[0].is_alive()


def test_the_standard_librarys_waits_are_as_before_after_a_run() -> None:
    join, wait = threading.Thread.join, threading.Condition.wait
    seen = run(lambda comm: threading.Thread.join is join, 2)
    assert seen == [False, False]
    assert threading.Thread.join is join
    assert threading.Condition.wait is wait
