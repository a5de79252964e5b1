"""Grids and graphs of ranks, and what neighbours tell each other."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from differential.collectives import FORMS, call
from differential.communicators import facts, makes_one
from differential.programs import Rank, dtypes, few, step, untouched, values


def dims_of(size: int, wanted: list[int]) -> list[int]:
    """Return dimensions of a grid that `size` ranks fill, or nearly."""
    rows = 1 + wanted[0] % size
    return [rows, size // rows]


@step(wanted=st.lists(few, min_size=2, max_size=2), periods=st.lists(st.booleans(), min_size=2, max_size=2))
@makes_one
def cart(rank: Rank, seed: int, wanted: list[int], periods: list[bool]) -> Any:
    """A grid, its neighbours, a row of it, and collectives among neighbours."""
    MPI = rank.MPI
    dims = dims_of(rank.comm.size, wanted)
    new = rank.comm.Create_cart(dims, periods)
    full = (
        dims[0] * dims[1] == rank.comm.size
    )  # MPICH 5.0.2 says of a smaller grid that its group is all ranks
    rank.made.append(new if full else MPI.COMM_NULL)
    if new == MPI.COMM_NULL:
        return None
    shifts = [[None if n == MPI.PROC_NULL else n for n in new.Shift(d, s)] for d in (0, 1) for s in (1, -2)]
    row = new.Sub([False, True])
    sums = row.allreduce(new.rank), row.Get_dim(), row.Get_topo()
    row.Free()
    x, y = values(seed, new.rank, 2, "f8"), untouched(8, "f8")
    new.Neighbor_allgather(x, y)
    z = untouched(8, "f8")
    new.Neighbor_alltoall(values(seed, 5 + new.rank, 8, "f8"), z)
    objects = new.neighbor_allgather((new.rank, "object"))
    coords = [new.Get_coords(n) for n in range(new.size)]
    back = [new.Get_cart_rank(place) for place in coords]
    known = new.rank, new.size, new.Get_topo(), facts(rank, new) if full else None
    if not full:
        new.Free()
    return known, shifts, coords, back, sums, y, z, objects


@step(edges=st.lists(st.tuples(few, few), max_size=6, unique=True))
@makes_one
def distributed_graph(rank: Rank, seed: int, edges: list[tuple[int, int]]) -> Any:
    comm = rank.comm
    known = sorted({(a % comm.size, b % comm.size) for a, b in edges})
    sources = [a for a, b in known if b == comm.rank]
    dests = [b for a, b in known if a == comm.rank]
    new = comm.Create_dist_graph_adjacent(sources, dests)
    rank.made.append(new)
    y = untouched(2 * len(sources), "i4")
    new.Neighbor_allgather(values(seed, new.rank, 2, "i4"), y)
    objects = new.neighbor_alltoall([(new.rank, to) for to in dests])
    return new.Get_dist_neighbors_count(), new.Get_dist_neighbors(), y, objects


@step(edges=st.lists(st.tuples(few, few), max_size=5), form=FORMS, dtype=dtypes)
@makes_one
def graph(rank: Rank, seed: int, edges: list[tuple[int, int]], form: str, dtype: str) -> Any:
    """A graph without directions that every rank knows whole; each edge carries blocks of its own length."""
    comm = rank.comm
    links = {(a % comm.size, b % comm.size) for a, b in edges}
    links |= {(b, a) for a, b in links}
    neighbours = [sorted(b for a, b in links if a == n) for n in range(comm.size)]
    index = [sum(map(len, neighbours[:n])) for n in range(comm.size + 1)]
    new = comm.Create_graph(index, [n for those in neighbours for n in those])
    rank.made.append(new)
    mine = new.Get_neighbors(new.rank)
    sent, received = [n % 3 for n in mine], [new.rank % 3 for _ in mine]
    x, y = values(seed, new.rank, sum(sent), dtype), untouched(sum(received), dtype)
    call(Rank(rank.MPI, new), "Neighbor_alltoallv", form, [x, sent], [y, received])
    z = untouched(sum(mine) + 1, dtype)
    call(Rank(rank.MPI, new), "Neighbor_allgatherv", form, values(seed, 9, new.rank, dtype), [z[:-1], mine])
    return new.Get_topo(), new.Get_dims(), [new.Get_neighbors(n) for n in range(new.size)], y, z
