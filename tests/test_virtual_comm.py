"""`VirtualComm` holds mpi4py's promises, under both schedules."""

import contextvars
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim.comm import DeadlockError, TruncationError, UnfinishedError, VirtualComm, run
from tpsim.comm.errors import CommError
from tpsim.comm.virtual import (
    ANY_SOURCE,
    ANY_TAG,
    BAND,
    BOR,
    BXOR,
    IN_PLACE,
    LAND,
    LOR,
    LXOR,
    MAX,
    MIN,
    PROC_NULL,
    PROD,
    SUM,
    UNDEFINED,
    Op,
    Request,
    Status,
)
from tpsim.trace import Trace, current, current_scope, scope

SCHEDULES = ["lockstep", "free"]
schedules = pytest.mark.parametrize("schedule", SCHEDULES)
few = settings(deadline=None, max_examples=25)
dtypes = st.sampled_from(["float32", "float64", "int64", "uint8"])


def draw(seed: int, count: int, dtype: str) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 9, count).astype(dtype)


# -- point to point ------------------------------------------------------------------------------------------

Send = Callable[[VirtualComm, Any, int, int], Any]
SENDS: dict[str, Send] = {
    "Send": lambda comm, x, to, tag: comm.Send(x, to, tag),
    "Ssend": lambda comm, x, to, tag: comm.Ssend(x, to, tag),
    "Isend": lambda comm, x, to, tag: comm.Isend(x, to, tag).Wait(),
    "Issend": lambda comm, x, to, tag: comm.Issend(x, to, tag).Wait(),
}


@schedules
@pytest.mark.parametrize("form", SENDS)
@given(count=st.integers(0, 40), dtype=dtypes, eager=st.sampled_from([0, 64, 1 << 16]))
@few
def test_any_send_meets_any_receive(schedule: Any, form: str, count: int, dtype: str, eager: int) -> None:
    def main(comm: VirtualComm) -> Any:
        if comm.rank == 0:
            SENDS[form](comm, draw(1, count, dtype), 1, 3)
            SENDS[form](comm, draw(2, count, dtype), 1, 4)
            return None
        first, second = np.full(count, 99, dtype), np.full(count, 99, dtype)
        later = comm.Irecv(second, 0, 4)
        comm.Recv(first, 0, 3)
        later.Wait()
        return first, second

    _, (first, second) = run(main, 2, schedule=schedule, eager_bytes=eager)
    np.testing.assert_array_equal(first, draw(1, count, dtype))
    np.testing.assert_array_equal(second, draw(2, count, dtype))


@schedules
def test_objects_travel_as_independent_copies(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        other = 1 - comm.rank
        mine = {"rank": comm.rank, "list": [1, 2]}
        request = comm.isend(mine, other, tag=5)
        theirs = comm.irecv(source=other, tag=5).wait()
        request.wait()
        swapped = comm.sendrecv(mine, other, source=other)
        theirs["list"].append(3)
        comm.send(mine, comm.rank)
        again = comm.recv(source=comm.rank)
        return mine, theirs, swapped, again

    for rank, (mine, theirs, swapped, again) in enumerate(run(main, 2, schedule=schedule)):
        assert mine == again == {"rank": rank, "list": [1, 2]}
        assert theirs == {"rank": 1 - rank, "list": [1, 2, 3]}
        assert swapped == {"rank": 1 - rank, "list": [1, 2]}


@schedules
def test_messages_of_one_tag_do_not_overtake(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        if comm.rank == 0:
            for number in range(20):
                comm.send(number, 1, tag=number % 3)
            return None
        by_tag = [comm.recv(source=0, tag=tag) for tag in (2, 1, 0, 1, 2)]
        return by_tag, [comm.recv() for _ in range(15)]

    by_tag, rest = run(main, 2, schedule=schedule)[1]
    assert by_tag == [2, 1, 0, 4, 5]
    assert rest == [3, *range(6, 20)]


@schedules
def test_receives_are_filled_in_the_order_in_which_they_were_begun(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        if comm.rank == 0:
            buffers = [np.zeros(1) for _ in range(4)]
            requests = [comm.Irecv(buffer, 1) for buffer in buffers]
            Request.Waitall(requests[::-1])
            return [float(buffer[0]) for buffer in buffers]
        for number in range(4):
            comm.Send(np.array([float(number)]), 0)
        return None

    assert run(main, 2, schedule=schedule)[0] == [0, 1, 2, 3]


@schedules
def test_wildcards_take_every_message_once_and_status_tells_whose(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        if comm.rank:
            comm.Send(np.full(comm.rank, float(comm.rank)), 0, tag=10 + comm.rank)
            return None
        seen = []
        for _ in range(comm.size - 1):
            buffer, status = np.zeros(8), Status()
            comm.Recv(buffer, ANY_SOURCE, ANY_TAG, status)
            source = status.Get_source()
            assert (buffer[:source] == source).all()
            assert not buffer[source:].any()
            seen.append(
                (source, status.Get_tag(), status.Get_count("d"), status.count, status.Get_count("D"))
            )
        return sorted(seen)

    expected = [(r, 10 + r, r, 8 * r, r // 2 if r % 2 == 0 else UNDEFINED) for r in range(1, 5)]
    assert run(main, 5, schedule=schedule)[0] == expected


@schedules
def test_iprobe_tells_of_a_message_and_leaves_it(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        if comm.rank == 0:
            comm.send("x", 1, tag=7)
            return None
        status = Status()
        while not comm.Iprobe(0, 7, status):
            pass
        assert not comm.iprobe(0, 8)
        return status.source, status.tag, comm.recv(source=0), comm.iprobe()

    assert run(main, 2, schedule=schedule)[1] == (0, 7, "x", False)


@schedules
@given(count=st.integers(1, 30), ranks=st.integers(1, 6))
@few
def test_sendrecv_around_a_ring_needs_no_buffering(schedule: Any, count: int, ranks: int) -> None:
    def main(comm: VirtualComm) -> Any:
        left, right = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
        buffer = np.zeros(count)
        comm.Sendrecv(np.full(count, comm.rank, float), right, 1, buffer, left, 1)
        return buffer

    for rank, buffer in enumerate(run(main, ranks, schedule=schedule, eager_bytes=0)):
        assert (buffer == (rank - 1) % ranks).all()


@schedules
def test_nobody_is_a_partner_that_takes_all_and_sends_nothing(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        buffer, status = np.full(3, 7.0), Status()
        comm.Send(buffer, PROC_NULL)
        comm.Recv(buffer, PROC_NULL, status=status)
        comm.Sendrecv(np.zeros(3), PROC_NULL, recvbuf=buffer, source=PROC_NULL)
        return list(buffer), status.source, status.tag, status.count, comm.recv(source=PROC_NULL)

    assert run(main, 2, schedule=schedule)[0] == ([7, 7, 7], PROC_NULL, ANY_TAG, 0, None)


@schedules
def test_a_long_send_waits_for_its_receive_and_a_short_one_does_not(schedule: Any) -> None:
    def main(comm: VirtualComm) -> list[str]:
        if comm.rank == 0:
            comm.Send(np.zeros(4), 1)
            log.append("short sent")
            comm.Send(np.zeros(5), 1)
            log.append("long sent")
        else:
            while "short sent" not in log:
                comm.Iprobe()
                time.sleep(1e-4)
            log.append("begins to receive")
            comm.Recv(np.zeros(5))
            comm.Recv(np.zeros(5))
        return log

    log: list[str] = []
    run(main, 2, schedule=schedule, eager_bytes=32)
    assert log == ["short sent", "begins to receive", "long sent"]


@schedules
def test_a_sent_buffer_may_be_changed_after_send(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        if comm.rank == 0:
            x = np.ones(3)
            comm.Send(x, 1)
            x[:] = 5
            comm.Barrier()
            return None
        comm.Barrier()
        x = np.zeros(3)
        comm.Recv(x)
        return list(x)

    assert run(main, 2, schedule=schedule)[1] == [1, 1, 1]


@schedules
def test_a_message_that_does_not_fit_is_an_error_of_the_receiver(schedule: Any) -> None:
    def main(comm: VirtualComm, send: Any, buffer: Any) -> None:
        if comm.rank == 0:
            send(comm)
        else:
            comm.Recv(buffer)

    for send, buffer, words in [
        (lambda c: c.Send(np.zeros(3), 1), np.zeros(2), "sent 3 × float64.*is 2 × float64.*at least as long"),
        (lambda c: c.Send(np.zeros(2), 1), np.zeros(2, "f4"), "float64.*float32.*or send float32"),
        (lambda c: c.send([0], 1), np.zeros(2), "an object.*the buffer.*both sides"),
    ]:
        with pytest.raises(TruncationError, match=words):
            run(main, 2, send, buffer, schedule=schedule)


def test_a_buffer_that_can_not_be_received_into_is_refused_at_once() -> None:
    read_only = np.zeros(3)
    read_only.flags.writeable = False
    for buffer in (read_only, b"abc"):
        with pytest.raises(ValueError, match="read-only"):
            run(lambda comm, b: comm.Recv(b, 0) if comm.rank else comm.send(1, 1), 2, buffer)
    with pytest.raises(ValueError, match=r"not contiguous.*ascontiguousarray"):
        run(lambda comm: comm.Send(np.zeros((4, 4))[:, 0], 0), 1)
    with pytest.raises(TypeError, match=r"a float is not a buffer.*lower-case"):
        run(lambda comm: comm.Send(1.0, 0), 1)
    with pytest.raises(TypeError, match=r"Python objects.*lower-case"):
        run(lambda comm: comm.Send(np.array([{}]), 0), 1)
    for call in (
        lambda comm: comm.send(1, 4),
        lambda comm: comm.recv(source=4),
        lambda comm: comm.bcast(1, 4),
    ):
        with pytest.raises(ValueError, match=r"4 is not a rank.*pick 0 to 1"):
            run(call, 2)
    with pytest.raises(ValueError, match="tag -1 is negative"):
        run(lambda comm: comm.send(1, 0, tag=ANY_TAG), 1)


# -- buffer specifications -----------------------------------------------------------------------------------


@schedules
def test_buffers_may_say_count_and_type(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        x = np.arange(4.0) + 10 * comm.rank
        got = [np.zeros(8) for _ in range(4)]
        comm.Allreduce([x, 2], [got[0], 2, "d"])
        comm.Allgather([x, 2], [got[1], 2])  # the count is of one block
        comm.Alltoall([x, 1, "d"], [got[2], 1])
        comm.Reduce_scatter_block([x, 2], [got[3], 2])
        raw = bytearray(16)
        request = comm.Isend([x, 2], 1 - comm.rank)
        comm.Recv([raw, "d"])
        request.Wait()
        return [*got, np.frombuffer(raw)]

    for rank, got in enumerate(run(main, 2, schedule=schedule)):
        np.testing.assert_array_equal(got[0], [10, 12, 0, 0, 0, 0, 0, 0])
        np.testing.assert_array_equal(got[1], [0, 1, 10, 11, 0, 0, 0, 0])
        np.testing.assert_array_equal(got[2], [rank, 10 + rank, 0, 0, 0, 0, 0, 0])
        np.testing.assert_array_equal(got[3][:2], [[10, 12], [14, 16]][rank])
        np.testing.assert_array_equal(got[4], np.arange(2.0) + 10 * (1 - rank))


def test_a_buffer_specification_that_can_not_be_met_is_refused() -> None:
    x = np.zeros(4)
    with pytest.raises(ValueError, match="count 5 asks for bytes 0 to 40, and the buffer holds 32"):
        run(lambda comm: comm.Send([x, 5], 0), 1)
    with pytest.raises(ValueError, match="count 3 asks for bytes 24 to 48, and the buffer holds 32"):
        run(lambda comm: comm.Allgather([x, 3], [x, 3]), 2)
    with pytest.raises(KeyError, match=r"datatype .*nonsense.*no MPI type"):
        run(lambda comm: comm.Send([x, "nonsense"], 0), 1)


def test_an_array_in_fortran_order_travels_as_it_lies_in_memory() -> None:
    def main(comm: VirtualComm) -> Any:
        x = np.asfortranarray(np.arange(6.0).reshape(2, 3))
        comm.Send(x, 0)
        y = np.zeros(6)
        comm.Recv(y)
        return y

    np.testing.assert_array_equal(run(main, 1)[0], [0, 3, 1, 4, 2, 5])


@schedules
def test_mpi4pys_own_constants_are_understood(schedule: Any) -> None:
    MPI = pytest.importorskip("mpi4py.MPI")

    def main(comm: VirtualComm) -> Any:
        x = np.full(2, float(comm.rank + 1))
        comm.Allreduce(MPI.IN_PLACE, x, MPI.PROD)
        total = comm.allreduce(comm.rank, MPI.SUM), comm.allreduce(comm.rank, op=MPI.MAX)
        comm.Isend([x, MPI.DOUBLE], (comm.rank + 1) % comm.size).Wait()
        y, status = np.zeros(2), MPI.Status()
        comm.Recv([y, 2, MPI.DOUBLE], MPI.ANY_SOURCE, MPI.ANY_TAG, status)
        comm.send(1, MPI.PROC_NULL)
        assert comm.recv(source=MPI.PROC_NULL) is None
        assert comm.Split(MPI.UNDEFINED) == MPI.COMM_NULL
        return x[0], total, y[0], status.Get_source(), status.Get_count(MPI.DOUBLE)

    for rank, got in enumerate(run(main, 3, schedule=schedule)):
        assert got == (6, (3, 2), 6, (rank - 1) % 3, 2)


@pytest.mark.parametrize(("any_source", "proc_null"), [(-2, -1), (-1, -2)], ids=["MPICH", "Open MPI"])
def test_each_mpi_library_may_number_its_constants_as_it_likes(
    any_source: int, proc_null: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = {name: type(name, (), {}) for name in ("Op", "Comm")}
    fake = types.SimpleNamespace(ANY_SOURCE=any_source, PROC_NULL=proc_null, ROOT=-3, **classes)
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", fake)

    def main(comm: VirtualComm) -> Any:
        comm.send("x", 0)
        comm.send("lost", proc_null)
        assert comm.recv(source=proc_null) is None
        assert comm.recv(source=any_source) == "x"
        comm.send("y", 0)
        assert comm.recv(source=PROC_NULL) is None
        return comm.recv(source=ANY_SOURCE)

    assert run(main, 1) == ["y"]


# -- collectives ---------------------------------------------------------------------------------------------

OPS: list[tuple[Op, Any]] = [(SUM, np.sum), (PROD, np.prod), (MAX, np.max), (MIN, np.min)]


@schedules
@given(st.data())
@few
def test_array_collectives_give_what_numpy_gives(schedule: Any, data: Any) -> None:
    ranks, count = data.draw(st.integers(1, 6)), data.draw(st.integers(0, 5))
    dtype, in_place, root = data.draw(dtypes), data.draw(st.booleans()), data.draw(st.integers(0, ranks - 1))
    op, function = data.draw(st.sampled_from(OPS))
    short = [draw(rank, count, dtype) for rank in range(ranks)]
    long = [draw(9 + rank, count * ranks, dtype) for rank in range(ranks)]

    def main(comm: VirtualComm) -> dict[str, Any]:
        rank, block = comm.rank, slice(comm.rank * count, (comm.rank + 1) * count)
        x, wide = short[rank].copy(), long[rank].copy()
        got = {name: np.full(count * ranks, 77, dtype) for name in ("Allgather", "Gather", "Alltoall")}
        got |= {
            name: np.full(count, 77, dtype) for name in ("Bcast", "Allreduce", "Reduce", "Scatter", "RSB")
        }
        got["Bcast"][:] = x
        comm.Bcast(got["Bcast"], root)
        if in_place:
            got["Allreduce"][:] = got["Reduce"][:] = x
            got["Allgather"][block] = got["Gather"][block] = x
            got["Alltoall"][:] = wide
            got["RSB"] = wide.copy()
        at_root: Any = IN_PLACE if in_place else x
        comm.Allreduce(IN_PLACE if in_place else x, got["Allreduce"], op)
        comm.Reduce(at_root if rank == root else x, got["Reduce"] if rank == root else None, op, root)
        comm.Allgather(IN_PLACE if in_place else x, got["Allgather"])
        comm.Gather(at_root if rank == root else x, got["Gather"] if rank == root else None, root)
        if in_place and rank == root:
            comm.Scatter(wide, IN_PLACE, root)
            got["Scatter"] = wide[block]
        else:
            comm.Scatter(wide if rank == root else None, got["Scatter"], root)
        comm.Reduce_scatter_block(IN_PLACE if in_place else wide, got["RSB"], op)
        comm.Alltoall(IN_PLACE if in_place else wide, got["Alltoall"])
        comm.Barrier()
        np.testing.assert_array_equal(x, short[rank])
        np.testing.assert_array_equal(wide, long[rank])
        return got

    results = run(main, ranks, schedule=schedule)
    reduced = function(short, axis=0).astype(dtype)
    reduced_wide = function(long, axis=0).astype(dtype)
    for rank, got in enumerate(results):
        block = slice(rank * count, (rank + 1) * count)
        np.testing.assert_array_equal(got["Bcast"], short[root])
        np.testing.assert_array_equal(got["Allreduce"], reduced)
        np.testing.assert_array_equal(got["Allgather"], np.concatenate(short))
        np.testing.assert_array_equal(got["Scatter"], long[root][block])
        np.testing.assert_array_equal(got["RSB"][:count], reduced_wide[block])
        np.testing.assert_array_equal(got["Alltoall"], np.concatenate([x[block] for x in long]))
    np.testing.assert_array_equal(results[root]["Reduce"], reduced)
    np.testing.assert_array_equal(results[root]["Gather"], np.concatenate(short))


@schedules
def test_object_collectives_give_every_rank_copies_of_its_own(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        r, p = comm.rank, comm.size
        box = comm.bcast([r], root=1)
        box.append(r)
        everybody = comm.allgather([r])
        everybody[0].append("mine")
        again = comm.allgather([r])
        return (
            box,
            again,
            comm.gather(r * r, root=2),
            comm.scatter([f"for {i}" for i in range(p)] if r == 1 else None, root=1),
            comm.alltoall([(r, i) for i in range(p)]),
            comm.reduce([r], root=1),
        )

    for rank, (box, again, gathered, scattered, dealt, reduced) in enumerate(run(main, 3, schedule=schedule)):
        assert box == [1, rank]
        assert again == [[0], [1], [2]]
        assert gathered == ([0, 1, 4] if rank == 2 else None)
        assert scattered == f"for {rank}"
        assert dealt == [(i, rank) for i in range(3)]
        assert reduced == ([0, 1, 2] if rank == 1 else None)


def test_objects_are_reduced_by_pythons_operators() -> None:
    def main(comm: VirtualComm) -> Any:
        n = comm.rank + 5  # 5, 6, 7
        results = [comm.allreduce(n, op) for op in (SUM, PROD, MAX, MIN, BAND, BOR, BXOR)]
        logical = [comm.allreduce(n - 5, op) for op in (LAND, LOR, LXOR)]
        other = [
            comm.allreduce(2**62 + n),
            comm.allreduce(f"{n}"),
            comm.allreduce((n, "x"), MAX),
            comm.allreduce(n, lambda a, b: 10 * a + b),
        ]
        arrays = comm.allreduce(np.array([n, -n]), MAX)
        return results, logical, other, arrays.tolist()

    results, logical, other, arrays = run(main, 3)[2]
    assert results == [18, 210, 7, 5, 5 & 6 & 7, 5 | 6 | 7, 5 ^ 6 ^ 7]
    assert all(type(result) is int for result in results)
    assert logical == [False, True, False]
    assert other == [3 * 2**62 + 18, "567", (7, "x"), 567]
    assert arrays == [7, -5]


def test_a_collectives_receive_buffer_must_fit_exactly() -> None:
    x2, x4, f4 = np.zeros(2), np.zeros(4), np.zeros(2, "f4")
    calls: list[Callable[[VirtualComm], None]] = [
        lambda comm: comm.Allreduce(x2, np.zeros(1)),
        lambda comm: comm.Allreduce(x2, f4),
        lambda comm: comm.Reduce(x2, x4),
        lambda comm: comm.Allgather(x2, np.zeros(6)),
        lambda comm: comm.Gather(x2, x2),
        lambda comm: comm.Scatter(x4, np.zeros(1)),
        lambda comm: comm.Scatter(np.zeros(5), x2),
        lambda comm: comm.Reduce_scatter_block(x4, f4),
        lambda comm: comm.Reduce_scatter_block(x4, np.zeros(3)),
        lambda comm: comm.Reduce_scatter_block(np.zeros(5), x2),
        lambda comm: comm.Alltoall(np.zeros(3), np.zeros(3)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"make it|pad to a multiple"):
            run(call, 2)


@schedules
def test_what_can_not_be_reduced_raises_the_same_error_on_every_rank(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        messages = []
        for x, op in [(np.zeros(2), BAND), (np.zeros(2, "M8[s]"), SUM)]:
            try:
                comm.Allreduce(x, x.copy(), op)
            except TypeError as error:
                messages.append((str(error), len(traceback.extract_tb(error.__traceback__)) < 12))
        return messages

    results = run(main, 3, schedule=schedule)
    assert len(results[0]) == 2
    assert all(result == results[0] for result in results)


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="SUM, PROD"):
        run(lambda comm: comm.Allreduce(np.zeros(1), np.zeros(1), "sum"), 1)
    with pytest.raises(ValueError, match="2 objects for 3 ranks"):
        run(lambda comm: comm.alltoall([1, 2]), 3)
    assert run(lambda comm: comm.scatter(None), 3) == [None] * 3  # as in mpi4py


# -- communicators -------------------------------------------------------------------------------------------


@schedules
@given(
    colors=st.lists(st.sampled_from([-1, 0, 1, 7]), min_size=1, max_size=7),
    keys=st.lists(st.integers(-2, 2), min_size=7, max_size=7),
)
@few
def test_split_groups_by_color_and_orders_by_key_then_rank(
    schedule: Any, colors: list[int], keys: list[int]
) -> None:
    def main(comm: VirtualComm) -> Any:
        part = comm.Split(colors[comm.rank], keys[comm.rank])
        return part.allgather(comm.rank) if part else None

    ranks = range(len(colors))
    for rank, got in enumerate(run(main, len(colors), schedule=schedule)):
        alike = [r for r in ranks if colors[r] == colors[rank]]
        assert got == (None if colors[rank] < 0 else sorted(alike, key=lambda r: (keys[r], r)))


@schedules
def test_communicators_do_not_hear_each_other(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        other = comm.Dup()
        rows = comm.Split(comm.rank // 2, comm.rank)
        assert rows is not None
        inner = rows.Split(0, -rows.rank)
        assert inner is not None
        peer = 1 - rows.rank
        sends = [
            comm.isend("comm", comm.rank ^ 1),
            other.isend("other", comm.rank ^ 1),
            rows.isend("rows", peer),
            inner.isend("inner", 1 - inner.rank),
        ]
        heard = [inner.recv(), rows.recv(), other.recv(), comm.recv()]
        Request.waitall(sends)
        # the first collective of each: they are counted apart
        return heard, rows.allgather(comm.rank), inner.allgather(comm.rank), other.allreduce(1)

    for rank, got in enumerate(run(main, 4, schedule=schedule)):
        base = rank // 2 * 2
        assert got == (["inner", "rows", "other", "comm"], [base, base + 1], [base + 1, base], 4)


# -- ranks ---------------------------------------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")


@schedules
def test_each_rank_has_a_context_of_its_own(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        assert variable.get() == "caller"
        variable.set(f"rank {comm.rank}")
        with scope(f"layer{comm.rank}", "forward"), Trace() as trace, np.errstate(all="ignore"):
            comm.Barrier()
            seen = variable.get(), current_scope().path, current() is trace
            comm.Barrier()
        return seen, current()

    token = variable.set("caller")
    try:
        results = run(main, 5, schedule=schedule)
        assert variable.get() == "caller"
    finally:
        variable.reset(token)
    assert results == [((f"rank {r}", f"layer{r}", True), None) for r in range(5)]
    assert current_scope().path == ""


@schedules
def test_results_come_in_rank_order(schedule: Any) -> None:
    def main(comm: VirtualComm, first: int, *, schedule: str = "") -> int:
        if comm.rank < comm.size - 1:
            comm.recv(source=comm.rank + 1)
        if comm.rank > 0:
            comm.send(None, comm.rank - 1)
        return first + comm.rank

    assert run(main, 6, 100, schedule=schedule) == [100, 101, 102, 103, 104, 105]


@pytest.mark.parametrize("outer", SCHEDULES)
@pytest.mark.parametrize("inner", SCHEDULES)
def test_a_rank_may_start_a_run_of_its_own(outer: Any, inner: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        comm.Barrier()
        sums = run(lambda inside: inside.allreduce(inside.rank + comm.rank), 3, schedule=inner)
        comm.Barrier()
        return comm.allgather(sums)

    expected = [[3 + 3 * rank] * 3 for rank in range(3)]
    assert run(main, 3, schedule=outer) == [expected] * 3


@schedules
def test_three_hundred_ranks_may_each_be_deep_in_calls(schedule: Any) -> None:
    def main(comm: VirtualComm, depth: int = 60) -> Any:
        return main(comm, depth - 1) if depth else comm.allreduce(comm.rank)

    assert run(main, 300, schedule=schedule) == [300 * 299 // 2] * 300


@schedules
def test_an_error_reaches_the_caller_as_it_was_raised(schedule: Any) -> None:
    error = KeyError("mine")

    def culprit() -> None:
        raise error

    def main(comm: VirtualComm) -> None:
        try:
            if comm.rank == 2:
                comm.Barrier()
                culprit()
            while True:
                try:
                    comm.Barrier()
                except Exception:  # must not keep the rank going
                    swallowed.append(comm.rank)
        finally:
            ended.append(comm.rank)

    swallowed: list[int] = []
    ended: list[int] = []
    with pytest.raises(KeyError) as caught:
        run(main, 4, schedule=schedule)
    assert caught.value is error
    assert "culprit" in [entry.name for entry in traceback.extract_tb(error.__traceback__)]
    assert error.__notes__ == ["[raised by rank 2 of 4; the other ranks were stopped]"]
    assert sorted(ended) == [0, 1, 2, 3]
    assert not swallowed
    assert run(lambda comm: comm.allreduce(1), 4, schedule=schedule) == [4] * 4


@schedules
def test_ranks_that_never_communicated_need_not_be_stopped(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        if comm.rank == 0:
            raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        run(main, 3, schedule=schedule)


@schedules
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_rank_ends_the_run(schedule: Any, error: type[BaseException]) -> None:
    def main(comm: VirtualComm) -> None:
        if comm.rank == 1:
            raise error
        comm.Barrier()

    with pytest.raises(error):
        run(main, 3, schedule=schedule)
    assert run(lambda comm: comm.rank, 2, schedule=schedule) == [0, 1]


@schedules
def test_an_interrupt_from_the_keyboard_stops_all_ranks(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        try:
            if comm.rank == 2:
                signal.pthread_kill(caller, signal.SIGINT)
                while True:
                    comm.Iprobe()
            comm.recv(source=2)
        finally:
            ended.append(comm.rank)

    caller = threading.main_thread().ident or 0
    ended: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        run(main, 3, schedule=schedule)
    assert sorted(ended) == [0, 1, 2]


@schedules
def test_no_thread_is_left_behind(schedule: Any) -> None:
    def main(comm: VirtualComm, fail: bool) -> None:
        comm.Barrier()
        if fail and comm.rank == 1:
            raise ValueError
        comm.Barrier()

    before = threading.active_count()
    run(main, 6, False, schedule=schedule)
    with pytest.raises(ValueError):  # noqa: PT011
        run(main, 6, True, schedule=schedule)
    with pytest.raises(DeadlockError):
        run(lambda comm: comm.recv(), 6, schedule=schedule)
    assert threading.active_count() == before


@schedules
def test_a_communicator_that_outlives_its_run_says_so(schedule: Any) -> None:
    comm = run(lambda comm: comm, 2, schedule=schedule)[0]
    with pytest.raises(CommError, match="after its run had ended"):
        comm.Barrier()


@schedules
def test_what_was_left_behind_is_told(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        if comm.rank == 0:
            comm.send("x", 1, tag=3)
        else:
            comm.irecv(source=0, tag=4)

    with pytest.raises(UnfinishedError) as caught:
        run(main, 2, schedule=schedule)
    text = str(caught.value)
    assert "rank 0 sent rank 1 a message (tag 3" in text
    assert "rank 1 began irecv(from rank 0, tag 4), and nothing came" in text
    assert text.count("test_virtual_comm.py") == 2


@schedules
def test_a_polling_loop_lets_others_go_on(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        request = comm.irecv(source=(comm.rank - 1) % comm.size)
        if comm.rank == 0:
            comm.send(0, 1)
        polls = 0
        while not (answer := request.test())[0]:
            polls += 1
        if comm.rank:
            comm.send(answer[1] + 1, (comm.rank + 1) % comm.size)
        assert request.test() == (True, None)  # complete, and its result taken
        return answer[1]

    assert run(main, 5, schedule=schedule) == [4, 0, 1, 2, 3]


@schedules
def test_a_second_wait_has_nothing_more_to_give(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        sent, received = comm.isend(5, comm.rank), comm.irecv(source=comm.rank)
        return received.wait(), received.wait(), received.Test(), sent.wait(), sent.Wait()

    assert run(main, 2, schedule=schedule) == [(5, None, True, None, True)] * 2
