"""Even and odd ranks as two groups that talk to each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from hypothesis import strategies as st

from differential.collectives import FORMS, call
from differential.communicators import facts, makes_one
from differential.programs import Rank, few, step, untouched, values


@contextmanager
def halves(rank: Rank) -> Iterator[Any]:
    """Give an intercommunicator between the even and the odd ranks, of which there must be some."""
    half = rank.comm.Split(rank.comm.rank % 2)
    inter = half.Create_intercomm(0, rank.comm, 1 - rank.comm.rank % 2, 3)
    half.Free()
    yield inter
    inter.Free()


@step(leader=few)
@makes_one
def two_halves(rank: Rank, seed: int, leader: int) -> Any:
    """An intercommunicator between even and odd ranks, what they tell each other, and both merged."""
    MPI, comm = rank.MPI, rank.comm
    if comm.size == 1:
        rank.made.append(comm.Dup())
        return None
    with halves(rank) as inter:
        told = inter.allgather((inter.rank, comm.rank))
        theirs = untouched(1, "i8")
        inter.Allreduce(np.array([comm.rank]), theirs, op=MPI.SUM)
        other = inter.sendrecv(("leader", comm.rank), 0, 4, None, 0, 4) if inter.rank == 0 else None
        merged = inter.Merge(high=bool(comm.rank % 2) ^ bool(leader % 2))
        rank.made.append(merged)
        known = inter.Get_size(), inter.Get_remote_size(), inter.Is_inter()
        return told, theirs, other, known, facts(rank, merged)


@step(form=FORMS, root=few, odd=st.booleans(), count=few)
def from_half_to_half(rank: Rank, seed: int, form: str, root: int, odd: bool, count: int) -> Any:
    """Rooted collectives, whose root is in one group, and one of everybody."""
    MPI, comm = rank.MPI, rank.comm
    if comm.size == 1:
        return None
    with halves(rank) as inter:
        mine, theirs = inter.Get_size(), inter.Get_remote_size()
        here = comm.rank % 2 == odd
        root %= mine if here else theirs
        is_root = here and inter.rank == root
        place = (MPI.ROOT if is_root else MPI.PROC_NULL) if here else root
        told = values(seed, 0, count, "f8") if is_root else untouched(count, "f8")
        between = Rank(MPI, inter)
        inter.Bcast(told, place)  # in MPICH 5.0.2 other forms deliver nothing between groups
        gathered, reduced = untouched(theirs * count, "f8"), untouched(count, "f8")
        x = values(seed, comm.rank, count, "f8")
        call(between, "Gather", form, *((None, gathered) if here else (x, None)), root=place)
        call(between, "Reduce", form, *((None, reduced) if here else (x, None)), op=MPI.MAX, root=place)
        dealt = untouched(count, "f8")
        blocks = values(seed, 1, theirs * count, "f8")
        call(between, "Scatter", form, *((blocks, None) if here else (None, dealt)), root=place)
        swapped = untouched(theirs, "i8")
        call(between, "Alltoall", form, np.arange(theirs) + 10 * comm.rank, swapped)
        word = inter.bcast(("word", comm.rank) if is_root else None, place)
        return told, gathered, reduced, dealt, swapped, word, inter.gather(comm.rank, place)
