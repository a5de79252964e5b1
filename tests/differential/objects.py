"""Collectives of objects."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from differential.programs import Rank, few, step, values


def thing(seed: int, rank: int) -> Any:
    """Return an object that is another on each rank."""
    return [
        {"rank": rank, "of": "a dictionary"},
        (rank, "a tuple", None),
        values(seed, rank, 3, "f8"),
        "x" * (200 * rank),
        rank + 0.5,
    ][seed % 5]


@step(root=few)
def bcast_object(rank: Rank, seed: int, root: int) -> Any:
    root %= rank.comm.size
    return rank.comm.bcast(thing(seed, root) if rank.comm.rank == root else None, root)


@step(root=few)
def scatter_objects(rank: Rank, seed: int, root: int) -> Any:
    root %= rank.comm.size
    things = [thing(seed, to) for to in range(rank.comm.size)] if rank.comm.rank == root else None
    return rank.comm.scatter(things, root)


@step(root=few)
def gather_objects(rank: Rank, seed: int, root: int) -> Any:
    return rank.comm.gather(thing(seed, rank.comm.rank), root % rank.comm.size)


@step(every=st.booleans())
def exchange_objects(rank: Rank, seed: int, every: bool) -> Any:
    if every:
        return rank.comm.alltoall([thing(seed + to, rank.comm.rank) for to in range(rank.comm.size)])
    return rank.comm.allgather(thing(seed, rank.comm.rank))


@step(
    name=st.sampled_from(["reduce", "allreduce", "scan", "exscan"]),
    op=st.sampled_from(["SUM", "PROD", "MAX", "MIN", "MAXLOC", "MINLOC", "BXOR", "LAND", "join", "call"]),
    root=few,
)
def reduce_objects(rank: Rank, seed: int, name: str, op: str, root: int) -> Any:
    me = rank.comm.rank
    number = int(values(seed, me, 1, "i4")[0])
    what: Any = (number, me) if op.endswith("LOC") else f"{me}{number}" if op in ("join", "call") else number
    own = rank.MPI.Op.Create(lambda a, b, _: a + b, False) if op == "join" else None
    how = own or ((lambda a, b: b + a) if op == "call" else getattr(rank.MPI, op))
    named = {"root": root % rank.comm.size} if name == "reduce" else {}
    found = getattr(rank.comm, name)(what, how, **named)
    if own:
        own.Free()
    return found
