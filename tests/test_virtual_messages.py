"""Point-to-point calls beyond send and receive hold the MPI standard's promises, under both schedules."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim.comm import DeadlockError, InFlightError, VirtualComm, run
from tpsim.comm.mpi_errors import ERROR_CLASSES, MPIException
from tpsim.comm.virtual import ANY_SOURCE, ANY_TAG, PROC_NULL, UNDEFINED, Request, Status
from tpsim.comm.virtual.comm import world_comm
from tpsim.comm.virtual.data.constants import BSEND_OVERHEAD
from tpsim.comm.virtual.data.type_table import TYPES
from tpsim.comm.virtual.lockstep import LockstepWorld
from tpsim.comm.virtual.messages.buffered import Attach_buffer, Detach_buffer, Iflush_buffer
from tpsim.comm.virtual.messages.generalized import Grequest
from tpsim.comm.virtual.messages.matched import MESSAGE_NO_PROC, MESSAGE_NULL, MatchedMessage
from tpsim.comm.virtual.messages.persistent import Prequest
from tpsim.comm.virtual.messages.request import REQUEST_NULL

schedules = pytest.mark.parametrize("schedule", ["lockstep", "free"])
few = settings(deadline=None, max_examples=25)


def started(request: Prequest) -> Prequest:
    request.Start()
    return request


# -- every way to send meets every way to receive ------------------------------------------------------------

SENDS: dict[str, Callable[[VirtualComm, Any, int], Any]] = {
    "Send": lambda comm, x, to: comm.Send(x, to, 3),
    "Ssend": lambda comm, x, to: comm.Ssend(x, to, 3),
    "Bsend": lambda comm, x, to: comm.Bsend(x, to, 3),
    "Isend": lambda comm, x, to: comm.Isend(x, to, 3).Wait(),
    "Issend": lambda comm, x, to: comm.Issend(x, to, 3).Wait(),
    "Ibsend": lambda comm, x, to: comm.Ibsend(x, to, 3).Wait(),
    "Send_init": lambda comm, x, to: started(comm.Send_init(x, to, 3)).Wait(),
    "Ssend_init": lambda comm, x, to: started(comm.Ssend_init(x, to, 3)).Wait(),
    "Bsend_init": lambda comm, x, to: started(comm.Bsend_init(x, to, 3)).Wait(),
    "Sendrecv": lambda comm, x, to: comm.Sendrecv(x, to, 3, None, PROC_NULL),
    "Isendrecv": lambda comm, x, to: comm.Isendrecv(x, to, 3, None, PROC_NULL).Wait(),
    "Sendrecv_replace": lambda comm, x, to: comm.Sendrecv_replace(x.copy(), to, 3, PROC_NULL),
    "Isendrecv_replace": lambda comm, x, to: comm.Isendrecv_replace(x.copy(), to, 3, PROC_NULL).Wait(),
}


def polled(look: Callable[[], Any]) -> Any:
    while not (seen := look()):
        pass
    return seen


RECEIVES: dict[str, Callable[[VirtualComm, Any, Status], Any]] = {
    "Recv": lambda comm, x, status: comm.Recv(x, ANY_SOURCE, 3, status),
    "Irecv": lambda comm, x, status: comm.Irecv(x, 0, ANY_TAG).Wait(status),
    "Recv_init": lambda comm, x, status: started(comm.Recv_init(x, 0, 3)).Wait(status),
    "Mprobe": lambda comm, x, status: comm.Mprobe(0, 3).Recv(x, status),
    "Improbe": lambda comm, x, status: polled(comm.Improbe).Irecv(x).Wait(status),
    "Probe": lambda comm, x, status: comm.Probe(status=status) and comm.Irecv(x, status.source, 3).Wait(),
    "Sendrecv": lambda comm, x, status: comm.Sendrecv(None, PROC_NULL, 0, x, 0, 3, status),
    "Isendrecv": lambda comm, x, status: comm.Isendrecv(None, PROC_NULL, 0, x, 0, 3).Wait(status),
}


@schedules
@pytest.mark.parametrize("send", SENDS)
@pytest.mark.parametrize("receive", RECEIVES)
@pytest.mark.parametrize("check", [False, True], ids=["", "check"])
def test_any_send_meets_any_receive(schedule: Any, send: str, receive: str, check: bool) -> None:
    def main(comm: VirtualComm) -> Any:
        if comm.rank == 0:
            comm.Attach_buffer(bytearray(1000))
            SENDS[send](comm, np.arange(5.0), 1)
            comm.Detach_buffer()
            return None
        x, status = np.full(7, -1.0), Status()
        RECEIVES[receive](comm, x, status)
        return x.tolist(), status.source, status.tag, status.Get_count(TYPES["DOUBLE"])

    for eager in (0, 1 << 16):
        got = run(main, 2, schedule=schedule, eager_bytes=eager, check=check)[1]
        assert got == ([0, 1, 2, 3, 4, -1, -1], 0, 3, 5)


OBJECT_SENDS: list[Callable[[VirtualComm, Any, int], Any]] = [
    lambda comm, x, to: comm.send(x, to),
    lambda comm, x, to: comm.ssend(x, to),
    lambda comm, x, to: comm.bsend(x, to),
    lambda comm, x, to: comm.isend(x, to).wait(),
    lambda comm, x, to: comm.issend(x, to).wait(),
    lambda comm, x, to: comm.ibsend(x, to).wait(),
    lambda comm, x, to: comm.sendrecv(x, to, source=PROC_NULL),
]
OBJECT_RECEIVES: list[Callable[[VirtualComm], Any]] = [
    lambda comm: comm.recv(),
    lambda comm: comm.irecv().wait(),
    lambda comm: Request.waitall([comm.irecv()])[0],
    lambda comm: comm.mprobe().recv(),
    lambda comm: polled(comm.improbe).irecv().wait(),
    lambda comm: MatchedMessage.probe(comm).recv(),
    lambda comm: comm.sendrecv(None, PROC_NULL),
]


@schedules
def test_any_send_of_an_object_meets_any_receive(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        received = []
        Attach_buffer(None)  # as large as it has to be
        for i, send in enumerate(OBJECT_SENDS):
            for j, receive in enumerate(OBJECT_RECEIVES):
                if comm.rank == 0:
                    send(comm, [i, j], 1)
                else:
                    received.append(receive(comm))
        Detach_buffer()
        return received

    expected = [[i, j] for i in range(len(OBJECT_SENDS)) for j in range(len(OBJECT_RECEIVES))]
    assert run(main, 2, schedule=schedule, eager_bytes=0)[1] == expected


# -- matching ------------------------------------------------------------------------------------------------


@schedules
@given(st.data())
@few
def test_each_receive_takes_the_earliest_message_that_fits(schedule: Any, data: Any) -> None:
    sent = {source: data.draw(st.lists(st.integers(0, 2), max_size=6)) for source in (1, 2)}  # tags, in order
    left = [(source, tag, number) for source in sent for number, tag in enumerate(sent[source])]
    asked, expected = [], []
    while left:
        source, tag, _ = data.draw(st.sampled_from(left))
        wanted = data.draw(st.sampled_from([tag, ANY_TAG]))
        first = next(m for m in left if m[0] == source and wanted in (m[1], ANY_TAG))
        left.remove(first)
        asked.append((source, wanted))
        expected.append(first)

    def main(comm: VirtualComm) -> Any:
        if comm.rank:
            for number, tag in enumerate(sent[comm.rank]):
                comm.send((comm.rank, tag, number), 0, tag)
            comm.Barrier()
            return None
        comm.Barrier()
        return [comm.recv(None, source, tag) for source, tag in asked]

    assert run(main, 3, schedule=schedule)[0] == expected


@schedules
def test_a_message_that_was_matched_by_a_probe_is_for_nobody_else(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        if comm.rank == 0:
            return Request.waitall([comm.issend(value, 1) for value in "abc"])
        first = comm.mprobe()
        second = comm.recv()
        message = comm.mprobe()
        got = [message.recv(), second, first.recv()]
        assert message == first == MESSAGE_NULL
        return got, comm.iprobe()

    assert run(main, 2, schedule=schedule)[1] == (["c", "b", "a"], False)


@schedules
def test_nobody_answers_a_probe_at_once(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        status = Status()
        assert comm.Probe(PROC_NULL, status=status)
        assert comm.Iprobe(PROC_NULL)
        message = comm.Mprobe(PROC_NULL)
        assert message == MESSAGE_NO_PROC
        assert MESSAGE_NO_PROC.recv() is None
        assert MESSAGE_NO_PROC
        request = message.Irecv(None)
        assert not message
        assert request != REQUEST_NULL
        request.Wait()
        return status.source, status.tag, status.count, request == REQUEST_NULL

    assert run(main, 2, schedule=schedule) == [(PROC_NULL, ANY_TAG, 0, True)] * 2


@schedules
def test_floats_are_cut_to_ranks_tags_and_colors_as_in_mpi4py(schedule: Any) -> None:
    def main(comm: Any) -> Any:  # typed, a float would be refused
        status, other = Status(), (comm.rank + 1) % 2
        comm.send("half", other + 0.5, 3.5)
        got = comm.recv(source=other + 0.25, tag=3.75, status=status)
        return got, status.tag, comm.Split(comm.rank / 2).size, comm.bcast(comm.rank, 1.0)

    assert run(main, 2, schedule=schedule) == [("half", 3, 2, 1)] * 2


@schedules
def test_nobody_is_nobody_for_whoever_is_told_so(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        left, right, anyone = comm.bcast((PROC_NULL, PROC_NULL, ANY_SOURCE))
        comm.send(None, right)
        comm.send(comm.rank, comm.rank)
        return comm.recv(source=left), comm.recv(source=anyone)

    assert run(main, 2, schedule=schedule) == [(None, 0), (None, 1)]


def test_without_buffering_even_an_empty_send_waits() -> None:
    def main(comm: VirtualComm) -> None:
        comm.Send(np.zeros(0), 1 - comm.rank)
        comm.Recv(np.zeros(0), 1 - comm.rank)

    run(main, 2, eager_bytes=1)
    with pytest.raises(DeadlockError):
        run(main, 2, eager_bytes=0)


@schedules
def test_a_ready_send_needs_its_receive(schedule: Any) -> None:
    def main(comm: VirtualComm, early: bool) -> Any:
        x = np.zeros(2)
        if comm.rank:
            request = comm.Irecv(x, 0) if early else REQUEST_NULL
            comm.Barrier()
            request.Wait()
            return x.tolist()
        comm.Barrier()
        comm.Rsend(np.ones(2), 1)
        return None

    assert run(main, 2, True, schedule=schedule)[1] == [1, 1]
    with pytest.raises(MPIException, match=r"Rsend: rank 1 has not begun.*Irecv first.*or use Send"):
        run(main, 2, False, schedule=schedule)


# -- buffered sends ------------------------------------------------------------------------------------------


@schedules
def test_buffered_sends_return_before_they_are_received_and_detach_does_not(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        memory = bytearray(3 * (80 + BSEND_OVERHEAD))
        if comm.rank == 0:
            Attach_buffer(memory)
            requests = []
            for number in range(3):
                x = np.full(10, float(number))
                requests.append(comm.Ibsend(x, 1))
                x[:] = -1  # it is copied
            Request.Waitall(requests)
            flushed = Iflush_buffer()
            before = flushed.Test()
            comm.send("sent", 1, 9)
            assert Detach_buffer() is memory
            return before, flushed.Test()
        comm.recv(None, 0, 9)
        x = np.zeros(10)
        got = []
        for _ in range(3):
            comm.Recv(x, 0)
            got.append(x[0])
        return got

    assert run(main, 2, schedule=schedule) == [(False, True), [0, 1, 2]]


def test_a_buffer_that_is_full_is_an_error_and_room_comes_back() -> None:
    def main(comm: VirtualComm) -> Any:
        comm.Attach_buffer(np.zeros(80 + BSEND_OVERHEAD, np.uint8))
        x = np.zeros(10)
        with pytest.raises(MPIException, match=r"needs 177 bytes.*has 176 of 176 left.*larger one") as caught:
            comm.Bsend(np.zeros(81, np.uint8), 0)
        comm.Bsend(x, 0)
        with pytest.raises(MPIException, match="has 0 of 176 left"):
            comm.Bsend(np.zeros(0), 0)
        comm.Recv(x)
        comm.Bsend(x, 0)
        comm.Recv(x)
        comm.Detach_buffer()
        return caught.value.Get_error_class()

    assert run(main, 1) == [ERROR_CLASSES["ERR_BUFFER"]]
    for call in (lambda comm: comm.Bsend(b"x", 0), lambda comm: comm.Detach_buffer()):
        with pytest.raises(MPIException, match="Attach_buffer"):
            run(call, 1)


# -- requests ------------------------------------------------------------------------------------------------


@schedules
@given(order=st.permutations(range(5)), many=st.sampled_from(["any", "some"]), test=st.booleans())
@few
def test_waiting_for_some_ends_each_request_once(
    schedule: Any, order: list[int], many: str, test: bool
) -> None:
    def main(comm: VirtualComm) -> Any:
        if comm.rank == 0:
            for tag in order:
                comm.recv(None, 1, 9)
                comm.send(10 * tag, 1, tag)
            return None
        requests = [comm.irecv(None, 0, tag) for tag in range(5)]
        seen: dict[int, tuple[Any, int]] = {}
        comm.send(None, 0, 9)
        while len(seen) < 5:
            status, statuses = Status(), list[Status]()
            if many == "any":
                answer = Request.testany(requests, status) if test else Request.waitany(requests, status)
                ended = [] if answer[0] == UNDEFINED else [(answer[0], answer[-1], status)]
            else:
                function = Request.testsome if test else Request.waitsome
                indices, results = function(requests, statuses)
                assert indices is not None
                assert results is not None
                ended = list(zip(indices, results, statuses, strict=True))
            for index, result, told in ended:
                assert index not in seen
                assert requests[index] == REQUEST_NULL
                seen[index] = result, told.tag
                if len(seen) < 5:
                    comm.send(None, 0, 9)
        assert Request.waitany(requests) == (UNDEFINED, None)
        assert Request.Testany(requests) == (UNDEFINED, True)
        assert Request.waitsome(requests) == (None, None)
        return list(seen), seen

    which, seen = run(main, 2, schedule=schedule)[1]
    assert which == list(order)
    assert seen == {tag: (10 * tag, tag) for tag in range(5)}


POLLS: dict[str, Callable[[Request], Any]] = {
    "Test": lambda request: request.Test(),
    "Testall": lambda request: Request.Testall([REQUEST_NULL, request]),
    "Testany": lambda request: Request.Testany([request])[1],
    "Testsome": lambda request: Request.Testsome([request]),
    "Get_status": lambda request: request.Get_status(),
    "Get_status_all": lambda request: Request.Get_status_all([request]),
    "Get_status_any": lambda request: Request.Get_status_any([request])[1],
    "Get_status_some": lambda request: Request.Get_status_some([request]),
}


@schedules
@pytest.mark.parametrize("poll", POLLS)
def test_a_loop_of_tests_lets_others_go_on(schedule: Any, poll: str) -> None:
    def main(comm: VirtualComm) -> Any:
        x = np.zeros(1)
        request = comm.Irecv(x, (comm.rank - 1) % comm.size)
        if comm.rank == 0:
            comm.Send(np.ones(1), 1)
        polled(lambda: POLLS[poll](request))
        request.Wait()  # where the poll did not end it
        if comm.rank:
            comm.Send(x + 1, (comm.rank + 1) % comm.size)
        return x[0]

    assert run(main, 4, schedule=schedule) == [4, 1, 2, 3]


@schedules
def test_a_persistent_request_sends_what_the_buffer_holds_at_each_start(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        x, got = np.zeros(2), []
        peer = 1 - comm.rank
        both = [comm.Send_init(x, peer), comm.Recv_init(y := np.zeros(2), peer)]
        assert Request.Waitany(both) == UNDEFINED  # not started
        for turn in range(3):
            x[:] = 10 * comm.rank + turn
            Prequest.Startall(both)
            with pytest.raises(MPIException, match="under way already"):
                both[1].Start()
            Request.Waitall(both)
            assert both[1].Test()
            got.append(y[0])
        for request in both:
            request.Free()
        assert both == [REQUEST_NULL, REQUEST_NULL]
        return got

    assert run(main, 2, schedule=schedule, eager_bytes=0) == [[10, 11, 12], [0, 1, 2]]


@schedules
def test_what_is_cancelled_has_not_happened(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        x, status = np.full(2, 7.0), Status()
        receive = comm.Irecv(x, comm.rank)
        receive.Cancel()
        assert receive.Get_status(status)
        receive.Wait()
        message = comm.Issend(np.zeros(2), comm.rank)
        message.Cancel()
        told = Status()
        message.Wait(told)
        assert not comm.Iprobe()
        comm.Send(np.ones(2), comm.rank)
        late = comm.Irecv(np.zeros(2), comm.rank)
        late.Cancel()  # too late: its message is there
        late.Wait(after := Status())
        return x.tolist(), status.cancelled, told.cancelled, after.cancelled, after.source

    assert run(main, 2, schedule=schedule) == [([7, 7], True, True, False, rank) for rank in range(2)]


@schedules
def test_a_request_of_the_programs_own_is_complete_when_it_says_so(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        asked: list[Any] = []

        def query(status: Status, word: str) -> None:
            status.source = 5
            asked.append(word)

        request = Grequest.Start(
            query, lambda word: asked.append("free"), lambda done, word: asked.append(done), ("query",)
        )
        assert not request.Test()
        request.Cancel()
        request.complete(42)
        with pytest.raises(MPIException, match="complete already"):
            request.Complete()
        status = Status()
        return Request.waitany([REQUEST_NULL, request], status), status.source, asked, request == REQUEST_NULL

    assert run(main, 2, schedule=schedule) == [((1, 42), 5, [False, "query", "free"], True)] * 2


@schedules
def test_only_what_is_persistent_or_general_can_be_held_as_such(schedule: Any) -> None:
    def main(comm: VirtualComm) -> bool:
        general, persistent = Grequest.Start(), comm.Send_init(b"", PROC_NULL)
        assert type(Request(general)) is Request
        assert Prequest(persistent) == persistent == Prequest.fromhandle(persistent.handle)
        for kind, request in ((Prequest, general), (Grequest, persistent)):
            with pytest.raises(TypeError):
                kind(request)
        general.Complete()
        return general.Wait()

    assert run(main, 1, schedule=schedule) == [True]


# -- memory in flight ----------------------------------------------------------------------------------------


@schedules
@pytest.mark.parametrize("eager", [0, 1 << 16])
def test_a_send_buffer_that_changes_in_flight_is_told(schedule: Any, eager: int) -> None:
    def main(comm: VirtualComm) -> Any:
        x = np.ones(3)
        if comm.rank == 0:
            request = comm.Isend(x, 1)
            x[1] = 2  # too early
            request.Wait()
        else:
            comm.Recv(x)
        return x.tolist()

    with pytest.raises(
        InFlightError, match=r"Isend: the buffer that is sent was changed.*leave it alone"
    ) as e:
        run(main, 2, schedule=schedule, eager_bytes=eager, check=True)
    assert "test_virtual_messages.py" in str(e.value)
    assert run(main, 2, schedule=schedule)[1] in ([1, 1, 1], [1, 2, 1])  # unchecked: as it happens


@schedules
@pytest.mark.parametrize("late", [False, True], ids=["before it came", "after it came"])
def test_a_receive_buffer_that_is_used_in_flight_is_told(schedule: Any, late: bool) -> None:
    def main(comm: VirtualComm, write: bool) -> Any:
        x = np.ones(3)
        if comm.rank == 0:
            comm.Send(np.zeros(2), 1)
            comm.Barrier()
            return None
        request = comm.Irecv(x)
        if late:
            comm.Barrier()
        read = x.copy()
        if write:
            x[2] = 5
        if not late:
            comm.Barrier()
        request.Wait()
        return read, x.tolist()

    read, after = run(main, 2, False, schedule=schedule, check=True)[1]
    assert np.isnan(read).all()
    assert after == [0, 0, 1]
    with pytest.raises(
        InFlightError, match=r"Irecv: the buffer to receive into was written to.*leave it alone"
    ):
        run(main, 2, True, schedule=schedule, check=True)


@schedules
@pytest.mark.parametrize("persistent", [False, True])
def test_a_watched_receive_that_is_freed_gets_its_message_all_the_same(
    schedule: Any, persistent: bool
) -> None:
    def main(comm: VirtualComm) -> list[float]:
        came, cancelled, other = np.zeros(2), np.ones(2), (comm.rank + 1) % 2
        request = started(comm.Recv_init(came, other)) if persistent else comm.Irecv(came, other)
        request.Free()
        unmet = comm.Irecv(cancelled, other, 9)
        unmet.Cancel()
        unmet.Free()
        comm.Send(np.full(2, 5.0), other)
        comm.Barrier()
        return [*came, *cancelled]

    assert run(main, 2, schedule=schedule, check=True) == [[5, 5, 1, 1]] * 2


@schedules
@pytest.mark.parametrize("touched", ["sent", "received"])
def test_both_buffers_of_an_exchange_are_watched(schedule: Any, touched: str) -> None:
    def main(comm: VirtualComm) -> None:
        buffers = {"sent": np.zeros(2), "received": np.zeros(2)}
        peer = 1 - comm.rank
        request = comm.Isendrecv(buffers["sent"], peer, 0, buffers["received"], peer)
        if comm.rank == 0:
            buffers[touched][0] = 1
        request.Wait()

    with pytest.raises(InFlightError, match="Isendrecv: the buffer"):
        run(main, 2, schedule=schedule, check=True)


@given(
    count=st.integers(1, 4), length=st.integers(1, 3), gap=st.integers(0, 3), dtype=st.sampled_from("dfiB?")
)
@few
def test_watching_changes_nothing_for_a_program_that_is_right(
    count: int, length: int, gap: int, dtype: str
) -> None:
    def main(comm: VirtualComm) -> Any:
        vector = TYPES[{"d": "DOUBLE", "f": "FLOAT", "i": "INT", "B": "BYTE", "?": "C_BOOL"}[dtype]]
        vector = vector.Create_vector(count, length, length + gap).Commit()
        span = count * (length + gap)
        x, y = (np.arange(span) % 2).astype(dtype), np.ones(span, dtype)
        requests = [comm.Isend([x, 1, vector], comm.rank), comm.Irecv([y, 1, vector], comm.rank)]
        Request.Waitall(requests)
        cancelled = comm.Irecv([y, 1, vector], comm.rank)
        cancelled.Cancel()
        cancelled.Wait()
        return y.tolist()

    span = count * (length + gap)
    moved = [i % (length + gap) < length for i in range(span)]
    expected = [i % 2 if here else 1 for i, here in enumerate(moved)]
    for check in (False, True):
        assert run(main, 1, check=check) == [expected]


# -- the schedule's hook -------------------------------------------------------------------------------------


@given(ranks=st.integers(1, 5), fails=st.booleans())
@few
def test_every_hand_over_is_told_once(ranks: int, fails: bool) -> None:
    world = LockstepWorld(ranks, 0)
    told: list[tuple[int | None, int | None]] = []
    running: list[int | None] = [None]

    def note(from_rank: int | None, to_rank: int | None) -> None:
        told.append((from_rank, to_rank))
        running[0] = to_rank

    def body(rank: int) -> None:
        comm = world_comm(world, rank)
        try:
            for _ in range(3):
                assert running == [rank]
                comm.sendrecv(None, (rank + 1) % ranks, source=(rank - 1) % ranks)
                assert running == [rank]
                comm.iprobe()
                assert running == [rank]
                if fails and rank == ranks - 1:
                    raise ValueError
        finally:
            assert running == [rank]

    world.on_switch = note
    world.run(body)
    assert (world.failed is not None) == fails
    assert told[0][0] is None
    assert told[-1][1] is None
    assert all(before[1] == after[0] for before, after in pairwise(told))
