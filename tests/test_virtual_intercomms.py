"""Intercommunicators of virtual ranks: two groups that talk to each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim.comm import VirtualComm, run
from tpsim.comm.mpi_errors import ERROR_CLASSES, MPIException
from tpsim.comm.virtual.comm import Intercomm, Intracomm
from tpsim.comm.virtual.data.constants import ANY_SOURCE, CONGRUENT, IDENT, UNDEFINED, UNEQUAL
from tpsim.comm.virtual.data.status import Status
from tpsim.comm.virtual.messages.request import Request

SCHEDULES = ["lockstep", "free"]
schedules = pytest.mark.parametrize("schedule", SCHEDULES)
few = settings(max_examples=15, deadline=None)

camps = st.lists(st.booleans(), min_size=2, max_size=6).filter(lambda sides: len(set(sides)) == 2)
"""Which group each rank is in."""


def bridge(comm: VirtualComm, sides: list[bool], leader: int = 0) -> Intercomm:
    """Return the intercommunicator of the two camps, whose rank `leader` (or last) leads."""
    mine = comm.Split(sides[comm.rank])
    group = [[rank for rank, side in enumerate(sides) if side == which] for which in (False, True)]
    leaders = [ranks[min(leader, len(ranks) - 1)] for ranks in group]
    inter = mine.Create_intercomm(min(leader, mine.size - 1), comm, leaders[not sides[comm.rank]], tag=5)
    assert isinstance(inter, Intercomm)
    return inter


@schedules
@given(sides=camps, leader=st.integers(0, 2))
@few
def test_messages_go_to_ranks_of_the_other_group(schedule: Any, sides: list[bool], leader: int) -> None:
    def main(comm: VirtualComm) -> Any:
        inter = bridge(comm, sides, leader)
        assert (inter.is_inter, inter.is_intra, inter.is_topo) == (True, False, False)
        assert inter.remote_size == inter.remote_group.size == len(sides) - inter.size
        sends = [inter.isend((comm.rank, "object"), rank) for rank in range(inter.remote_size)]
        status = Status()
        heard = {}
        for _ in range(inter.remote_size):
            sender, _ = inter.recv(None, ANY_SOURCE, 0, status)
            heard[status.source] = sender
        for send in sends:
            send.wait()
        begun = [inter.Isend(np.array([comm.rank]), rank, 9) for rank in range(inter.remote_size)]
        arrays = np.zeros(inter.remote_size, int)
        for rank in range(inter.remote_size):
            inter.Recv(arrays[rank : rank + 1], rank, 9)
        Request.Waitall(begun)
        return [heard[rank] for rank in range(inter.remote_size)], arrays.tolist()

    for rank, got in enumerate(run(main, len(sides), schedule=schedule)):
        others = [r for r, side in enumerate(sides) if side != sides[rank]]
        assert got == (others, others)


@given(sides=camps, highs=st.tuples(st.booleans(), st.booleans()))
@few
def test_a_merger_puts_the_high_group_behind(sides: list[bool], highs: tuple[bool, bool]) -> None:
    def main(comm: VirtualComm) -> Any:
        merged = bridge(comm, sides).Merge(highs[sides[comm.rank]])
        assert type(merged) is Intracomm
        return merged.rank, merged.allgather(comm.rank)

    got = run(main, len(sides))
    low, high = ([rank for rank, side in enumerate(sides) if side == which] for which in (False, True))
    orders = [low + high] if highs == (False, True) else [high + low]
    if highs[0] == highs[1]:
        orders = [low + high, high + low]
    assert got[0][1] in orders
    for rank, (mine, order) in enumerate(got):
        assert order == got[0][1]
        assert order[mine] == rank


@given(sides=camps, colors=st.lists(st.sampled_from([UNDEFINED, 0, 1]), min_size=6, max_size=6))
@few
def test_a_split_joins_ranks_of_one_color_across_the_groups(sides: list[bool], colors: list[int]) -> None:
    def main(comm: VirtualComm) -> Any:
        part = bridge(comm, sides).Split(colors[comm.rank], -comm.rank)
        assert type(part) is Intercomm
        if not part:
            return None
        return part.Get_group().members, part.Get_remote_group().members

    for rank, got in enumerate(run(main, len(sides))):
        alike = [r for r in range(len(sides)) if colors[r] == colors[rank] != UNDEFINED][::-1]
        mine = tuple(r for r in alike if sides[r] == sides[rank])
        others = tuple(r for r in alike if sides[r] != sides[rank])
        assert got == ((mine, others) if mine and others else None)


def test_copies_and_parts_face_each_other_and_hear_nothing_else() -> None:
    def main(comm: VirtualComm) -> Any:
        inter = bridge(comm, [False, False, True, True])
        copy = inter.Dup()
        assert [inter.Compare(other) for other in (inter, copy, comm)] == [IDENT, CONGRUENT, UNEQUAL]
        firsts = inter.Create(inter.group.Incl([0]))
        assert bool(firsts) == (inter.rank == 0)
        inter.send("inter", inter.rank)
        copy.send("copy", inter.rank)
        heard = [copy.recv(), inter.recv()]
        if firsts:
            firsts.send("first", 0)
            heard.append(firsts.recv())
        return heard

    first, second = ["copy", "inter", "first"], ["copy", "inter"]
    assert run(main, 4) == [first, second, first, second]


def test_two_groups_may_meet_without_a_communicator_and_again() -> None:
    def main(comm: VirtualComm) -> Any:
        halves = [comm.group.Incl([0, 1]), comm.group.Incl([2])]
        mine, theirs = halves if comm.rank < 2 else halves[::-1]
        inters = [Intercomm.Create_from_groups(mine, 0, theirs, 0) for _ in range(2)]
        for number, inter in enumerate(inters):
            for rank in range(inter.remote_size):
                inter.send(number, rank)
        return [[inter.recv(source=rank) for rank in range(inter.remote_size)] for inter in reversed(inters)]

    assert run(main, 3) == [[[1], [0]], [[1], [0]], [[1, 1], [0, 0]]]


def test_leaders_may_bring_communicators_together_twice_and_with_other_traffic_about() -> None:
    def main(comm: VirtualComm) -> Any:
        comm.send("mine", 1 - comm.rank, tag=5)  # of the leaders' own communicator, and their tag
        alone = comm.Split(comm.rank)
        inters = [alone.Create_intercomm(0, comm, 1 - comm.rank, tag=5) for _ in range(2)]
        assert inters[0] != inters[1]
        for number, inter in enumerate(inters):
            inter.send(number, 0)
        return comm.recv(tag=5), [inter.recv(source=0) for inter in inters[::-1]]

    assert run(main, 2) == [("mine", [1, 0])] * 2


def test_groups_that_can_not_face_each_other_are_refused() -> None:
    def main(comm: VirtualComm) -> Any:
        found = []
        calls: list[Callable[[], Any]] = [
            lambda: comm.Create_intercomm(0, comm, comm.rank),
            lambda: comm.Create_intercomm(9, comm, 0),
            lambda: Intercomm.Create_from_groups(comm.group, 0, comm.group, 0),
        ]
        for call in calls:
            with pytest.raises(MPIException) as caught:
                call()
            found.append(caught.value.Get_error_class())
        return [name for number in found for name, known in ERROR_CLASSES.items() if known == number]

    assert run(main, 1) == [["ERR_RANK", "ERR_RANK", "ERR_GROUP"]]
