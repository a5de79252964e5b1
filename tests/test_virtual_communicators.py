"""Making, comparing, naming and freeing communicators of virtual ranks."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim.comm import VirtualComm, run
from tpsim.comm.errors import JobAborted
from tpsim.comm.mpi_errors import ERROR_CLASSES, MPIException
from tpsim.comm.virtual.comm import COMM_NULL, Cartcomm, Comm, Intercomm, Intracomm, Topocomm
from tpsim.comm.virtual.data.constants import (
    COMM_TYPE_HW_UNGUIDED,
    COMM_TYPE_SHARED,
    CONGRUENT,
    IDENT,
    KEYVAL_INVALID,
    SIMILAR,
    TAG_UB,
    UNDEFINED,
    UNEQUAL,
)
from tpsim.comm.virtual.data.errhandlers import ERRORS_RETURN
from tpsim.comm.virtual.data.info import Info
from tpsim.comm.virtual.data.process_group import ProcessGroup
from tpsim.script.session import Session

SCHEDULES = ["lockstep", "free"]
schedules = pytest.mark.parametrize("schedule", SCHEDULES)
few = settings(max_examples=15, deadline=None)

orders = st.integers(1, 6).flatmap(lambda size: st.permutations(range(size)))


def error_class(call: Any) -> str:
    """Return the name of the error class that a call raises."""
    with pytest.raises(MPIException) as caught:
        call()
    return next(name for name, number in ERROR_CLASSES.items() if number == caught.value.Get_error_class())


# -- parts ---------------------------------------------------------------------------------------------------


@schedules
@given(order=orders, count=st.integers(1, 6))
@few
def test_a_communicator_has_the_order_of_the_group_it_was_created_from(
    schedule: Any, order: list[int], count: int
) -> None:
    chosen = order[:count]

    def main(comm: VirtualComm) -> Any:
        group = comm.Get_group().Incl(chosen)
        every = comm.Create(group)
        alone = comm.Create_group(group, tag=7) if comm.rank in chosen else COMM_NULL
        rootless = Intracomm.Create_from_group(group, "name")
        again = Intracomm.Create_from_group(group, "name")
        made = [every, alone, rootless, again]
        if comm.rank not in chosen:
            return [bool(part) for part in made]
        assert not any(a == b for a in made for b in made if a is not b)
        return [part.allgather(comm.rank) for part in made]

    for rank, got in enumerate(run(main, len(order), schedule=schedule)):
        assert got == ([chosen] * 4 if rank in chosen else [False] * 4)


@given(order=orders, cut=st.integers(0, 6))
@few
def test_disjoint_groups_may_be_created_at_one_call(order: list[int], cut: int) -> None:
    halves = [order[:cut], order[cut:]]

    def main(comm: VirtualComm) -> Any:
        mine = next(half for half in halves if comm.rank in half)
        return comm.Create(comm.group.Incl(mine)).allgather(comm.rank)

    for rank, got in enumerate(run(main, len(order))):
        assert got == next(half for half in halves if rank in half)


def test_a_group_of_strangers_makes_no_communicator() -> None:
    def main(comm: VirtualComm) -> Any:
        part = comm.Split(comm.rank % 2)
        return error_class(lambda: part.Create(comm.group)), error_class(lambda: comm.Create(ProcessGroup()))

    assert run(main, 3) == [("ERR_GROUP", "ERR_GROUP")] * 3


@given(shares=st.lists(st.booleans(), min_size=1, max_size=6))
@few
def test_all_ranks_share_one_node_and_nothing_finer(shares: list[bool]) -> None:
    def main(comm: VirtualComm) -> Any:
        node = comm.Split_type(COMM_TYPE_SHARED if shares[comm.rank] else UNDEFINED, key=-comm.rank)
        assert not comm.Split_type(COMM_TYPE_HW_UNGUIDED)
        assert error_class(lambda: comm.Split_type(99)) == "ERR_ARG"
        return node.allgather(comm.rank) if node else None

    together = [rank for rank, share in enumerate(shares) if share][::-1]
    assert run(main, len(shares)) == [together if share else None for share in shares]


@schedules
@given(size=st.integers(1, 5), copies=st.integers(1, 3))
@few
def test_a_copy_hears_only_its_own_messages(schedule: Any, size: int, copies: int) -> None:
    def main(comm: VirtualComm) -> Any:
        made = [comm.Dup() for _ in range(copies)]
        begun, request = comm.Idup()
        request.Wait()
        everyone = [comm, *made, begun, made[-1].Clone()]
        sends = [one.isend(number, (comm.rank + 1) % size) for number, one in enumerate(everyone)]
        heard = [one.recv() for one in reversed(everyone)]
        for send in sends:
            send.wait()
        return heard == list(range(len(everyone)))[::-1]

    assert all(run(main, size, schedule=schedule))


# -- comparison ----------------------------------------------------------------------------------------------


@given(order=orders)
@few
def test_comparison_tells_handles_ranks_and_their_order(order: list[int]) -> None:
    def main(comm: VirtualComm) -> Any:
        turned = comm.Split(0, order.index(comm.rank))
        alone = comm.Split(comm.rank)
        return [comm.Compare(other) for other in (Comm(comm), comm.Dup(), turned, alone)]

    straight = order == sorted(order)
    alone = CONGRUENT if len(order) == 1 else UNEQUAL
    expected = [IDENT, CONGRUENT, CONGRUENT if straight else SIMILAR, alone]
    assert run(main, len(order)) == [expected] * len(order)


@schedules
def test_handles_of_one_communicator_are_equal_and_take_part_in_the_same_collectives(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        other = Intracomm(comm)
        assert other == comm
        assert other is not comm
        assert other != comm.Dup()
        assert comm != 12345
        assert Comm.fromhandle(other.handle) == comm
        assert type(Comm.fromint(other.toint())) is Intracomm
        first = other if comm.rank else comm  # one meeting, by whichever handle
        return first.allgather(comm.rank), other.allreduce(1), comm.allreduce(2)

    assert run(main, 3, schedule=schedule) == [([0, 1, 2], 3, 6)] * 3


def test_a_handle_is_of_a_class_that_fits() -> None:
    class Mine(Intracomm):
        def __new__(cls, comm: Any = None) -> Mine:
            return super().__new__(cls, comm.Dup() if comm else comm)

    def main(comm: VirtualComm) -> None:
        for cls in (Topocomm, Cartcomm, Intercomm):
            with pytest.raises(TypeError, match="pass a communicator that is"):
                cls(comm)
        with pytest.raises(TypeError):
            Comm((1, 2, 3))  # type: ignore[arg-type]
        grid = comm.Create_cart([comm.size])
        assert type(grid) is Cartcomm
        assert type(grid.Dup()) is Cartcomm
        assert type(Topocomm(grid)) is Topocomm
        assert type(grid.Split()) is Intracomm
        mine = Mine(comm)
        assert type(mine.Dup()) is Mine
        assert mine != comm
        assert mine.allreduce(1) == comm.size

    run(main, 3)


# -- null ----------------------------------------------------------------------------------------------------


def test_a_freed_communicator_is_null_and_its_use_an_error() -> None:
    def main(comm: VirtualComm) -> None:
        part = comm.Dup()
        part.Free()
        for null in (part, COMM_NULL, Comm(), Intracomm(), comm.Split(UNDEFINED)):
            assert null == COMM_NULL
            assert not null
            assert null.Get_name() == "MPI_COMM_NULL"
            calls = [
                lambda: null.rank,  # noqa: B023
                lambda: null.Get_size(),  # noqa: B023
                lambda: null.barrier(),  # noqa: B023
                lambda: null.send(1, 0),  # noqa: B023
                lambda: null.Dup(),  # noqa: B023
                lambda: null.Free(),  # noqa: B023
                lambda: null.Compare(comm),  # noqa: B023
                lambda: comm.Compare(null),  # noqa: B023
            ]
            assert {error_class(call) for call in calls} == {"ERR_COMM"}
            null.free()  # which asks before

    run(main, 2)


def test_mpis_own_communicators_stay() -> None:
    def main(comm: VirtualComm) -> None:
        assert comm.Get_name() == "MPI_COMM_WORLD"
        assert error_class(comm.Free) == "ERR_COMM"
        comm.free()
        assert comm
        other = Intracomm(comm)
        other.free()
        assert not other
        assert comm

    run(main, 2)


def test_only_mpis_own_communicators_are_pickled_and_each_rank_gets_its_own() -> None:
    def main(comm: VirtualComm) -> None:
        from mpi4py import MPI

        comm.name = "another"
        for constant in (MPI.COMM_WORLD, MPI.COMM_SELF, MPI.COMM_NULL):
            for twin in (pickle.loads(pickle.dumps(constant)), copy.deepcopy(constant), copy.copy(constant)):
                assert twin is constant
            another = type(constant)(constant)
            twin = pickle.loads(pickle.dumps(another))
            assert twin == constant
            assert twin is not constant
        assert comm.bcast(MPI.COMM_WORLD if comm.rank == 1 else None, 1) is MPI.COMM_WORLD
        with pytest.raises(ValueError, match="can't be sent"):
            pickle.dumps(comm.Dup())

    Session(3).run(main)


# -- what hangs on a communicator ----------------------------------------------------------------------------


def test_attributes_are_copied_and_deleted_as_their_keys_say() -> None:
    def main(comm: VirtualComm) -> Any:
        told: list[Any] = []

        def copied(owner: Any, key: int, value: Any) -> Any:
            told.append(("copied", value))
            return value + 1

        def deleted(owner: Any, key: int, value: Any) -> None:
            told.append(("deleted", value))

        counted = Comm.Create_keyval(copied, deleted)
        shared, lost = Comm.Create_keyval(True), Comm.Create_keyval()
        first = comm.Dup()
        for key in (counted, shared, lost):
            assert first.Get_attr(key) is None
            first.Set_attr(key, 10 * comm.rank)
        second = first.Dup()
        values = [second.Get_attr(key) for key in (counted, shared, lost)]
        assert values == [10 * comm.rank + 1, 10 * comm.rank, None]
        second.Free()
        first.Set_attr(counted, 5)
        first.Delete_attr(counted)
        assert first.Get_attr(counted) is None
        assert Comm.Free_keyval(counted) == KEYVAL_INVALID
        assert error_class(lambda: first.Set_attr(counted, 1)) == "ERR_KEYVAL"
        assert first.Get_attr(TAG_UB) >= 32767
        return told

    for rank, told in enumerate(run(main, 3)):
        mine = 10 * rank
        assert told == [("copied", mine), ("deleted", mine + 1), ("deleted", mine), ("deleted", 5)]


def test_names_and_hints_belong_to_one_communicator() -> None:
    def main(comm: VirtualComm) -> None:
        named = comm.Dup_with_info(Info.Create({"a": "1"}))
        named.name = "rows"
        named.Set_info(Info.Create({"b": "2"}))
        assert Comm(named).Get_name() == "rows"
        assert named.Dup().name == ""
        assert dict(named.info) == {"a": "1", "b": "2"} == dict(named.Dup().info)
        assert dict(named.Dup(Info.Create()).info) == {}

    run(main, 2)


def test_an_error_handler_is_called_with_the_communicator_and_the_code() -> None:
    def main(comm: VirtualComm) -> Any:
        told: list[Any] = []
        handler = Comm.Create_errhandler(lambda owner, code: told.append((owner == comm, code)))
        before = comm.Get_errhandler()
        assert before == ERRORS_RETURN
        comm.Set_errhandler(handler)
        handler.Free()
        comm.Call_errhandler(5)
        comm.Set_errhandler(before)
        comm.Call_errhandler(6)
        return told

    assert run(main, 2) == [[(True, 5)]] * 2


@schedules
@pytest.mark.parametrize("code", [0, 3])
def test_abort_ends_the_run_with_its_code_whatever_the_program_catches(schedule: Any, code: int) -> None:
    def main(comm: VirtualComm) -> None:
        if comm.rank == 1:
            try:
                comm.Abort(code)
            except BaseException:
                went_on.append(comm.rank)
        while True:
            comm.barrier()

    went_on: list[int] = []
    with pytest.raises(JobAborted) as caught:
        run(main, 3, schedule=schedule)
    assert caught.value.code == code
    assert went_on == [1]
