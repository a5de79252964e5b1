"""Collectives of arrays: every form, specification of buffers, and in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from differential.programs import Rank, counts, dtypes, few, step, untouched, values

FORMS = st.sampled_from(["blocking", "nonblocking", "persistent"])
SPECS = st.sampled_from(["array", "count", "type", "count and type", "type code", "memory"])
V_SPECS = st.sampled_from(["counts", "counts and type", "pair", "displs", "array of displs"])

_INTEGERS = [f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)]
_OPS = {
    "SUM PROD MAX MIN BAND BOR BXOR LAND LOR LXOR": _INTEGERS,
    "SUM PROD MAX MIN": ["f4", "f8"],
    "SUM PROD": ["c8", "c16"],
    "LAND LOR LXOR": ["?"],
}
REDUCTIONS = st.one_of(
    [st.tuples(st.sampled_from(dts), st.sampled_from(ops.split())) for ops, dts in _OPS.items()]
)


def spec(rank: Rank, array: NDArray[Any], form: str, blocks: int = 1) -> Any:
    """Return a specification of an array of equal blocks; counts are of one."""
    count = array.size // blocks
    datatype = rank.MPI.Datatype.fromcode(array.dtype.char)
    return {
        "array": array,
        "count": [array, count],
        "type": [array, datatype],
        "count and type": [array, count, datatype],
        "type code": [array, array.dtype.char],
        "memory": [array.data, datatype],
    }[form]


def v_spec(rank: Rank, array: NDArray[Any], counts: list[int], displs: list[int], form: str) -> Any:
    """Return a specification of blocks; only forms with `displs` leave gaps."""
    datatype = rank.MPI.Datatype.fromcode(array.dtype.char)
    return {
        "counts": [array, counts],
        "counts and type": [array, counts, datatype],
        "pair": [array, (counts, displs)],
        "displs": [array, counts, displs, datatype],
        "array of displs": [array, np.array(counts), np.array(displs), datatype],
    }[form]


def starts(counts: list[int], form: str) -> list[int]:
    """Return where blocks start: one after the other, or with a gap of one before each."""
    gap = 0 if form.startswith("counts") else 1
    return [sum(counts[:n]) + gap * (n + 1) for n in range(len(counts))]


def call(rank: Rank, name: str, form: str, *arguments: Any, **named: Any) -> None:
    """Take part in a collective to its end; a persistent one twice."""
    if form == "blocking":
        getattr(rank.comm, name)(*arguments, **named)
    elif form == "nonblocking":
        getattr(rank.comm, "I" + name.lower())(*arguments, **named).Wait()
    else:
        request = getattr(rank.comm, name + "_init")(*arguments, **named)
        for _ in range(2):
            request.Start()
            request.Wait()
        request.Free()


@step(form=FORMS)
def barrier(rank: Rank, seed: int, form: str) -> None:
    call(rank, "Barrier", form)


@step(form=FORMS, root=few, count=counts, dtype=dtypes, way=SPECS)
def bcast(rank: Rank, seed: int, form: str, root: int, count: int, dtype: str, way: str) -> Any:
    root %= rank.comm.size
    x = values(seed, 0, count, dtype) if rank.comm.rank == root else untouched(count, dtype)
    call(rank, "Bcast", form, spec(rank, x, way), root=root)
    return x


@step(form=FORMS, root=few, count=counts, dtype=dtypes, way=SPECS, in_place=st.booleans())
def scatter(
    rank: Rank, seed: int, form: str, root: int, count: int, dtype: str, way: str, in_place: bool
) -> Any:
    root %= rank.comm.size
    at_root = rank.comm.rank == root
    x = values(seed, 0, rank.comm.size * count, dtype)
    y = untouched(count, dtype)
    into = rank.MPI.IN_PLACE if at_root and in_place else spec(rank, y, way)
    call(rank, "Scatter", form, spec(rank, x, way, rank.comm.size) if at_root else None, into, root=root)
    return x, y


@step(form=FORMS, root=few, count=counts, dtype=dtypes, way=SPECS, in_place=st.booleans())
def gather(
    rank: Rank, seed: int, form: str, root: int, count: int, dtype: str, way: str, in_place: bool
) -> Any:
    root %= rank.comm.size
    at_root = rank.comm.rank == root
    x, y = values(seed, rank.comm.rank, count, dtype), untouched(rank.comm.size * count, dtype)
    mine = rank.MPI.IN_PLACE if at_root and in_place else spec(rank, x, way)
    call(rank, "Gather", form, mine, spec(rank, y, way, rank.comm.size) if at_root else None, root=root)
    return y


@step(form=FORMS, count=counts, dtype=dtypes, way=SPECS, in_place=st.booleans(), name=st.sampled_from("gt"))
def all_to_all(
    rank: Rank, seed: int, form: str, count: int, dtype: str, way: str, in_place: bool, name: str
) -> Any:
    """Allgather (one block sent) or Alltoall (as many as ranks)."""
    size = rank.comm.size
    x = values(seed, rank.comm.rank, (1 if name == "g" else size) * count, dtype)
    y = values(seed, 10 + rank.comm.rank, size * count, dtype)
    sent = rank.MPI.IN_PLACE if in_place else spec(rank, x, way, 1 if name == "g" else size)
    call(rank, "Allgather" if name == "g" else "Alltoall", form, sent, spec(rank, y, way, size))
    return y


@step(form=FORMS, root=few, lengths=st.lists(few, min_size=4, max_size=4), dtype=dtypes, way=V_SPECS)
def scatterv(rank: Rank, seed: int, form: str, root: int, lengths: list[int], dtype: str, way: str) -> Any:
    root %= rank.comm.size
    lengths = lengths[: rank.comm.size]
    at_root = rank.comm.rank == root
    x = values(seed, 0, sum(lengths) + 5, dtype)
    blocks = v_spec(rank, x, lengths, starts(lengths, way), way) if at_root else None
    y = untouched(lengths[rank.comm.rank] + 1, dtype)
    call(rank, "Scatterv", form, blocks, y[:-1], root=root)
    return y


@step(form=FORMS, root=few, lengths=st.lists(few, min_size=4, max_size=4), dtype=dtypes, way=V_SPECS)
def gatherv(rank: Rank, seed: int, form: str, root: int, lengths: list[int], dtype: str, way: str) -> Any:
    """Gatherv, or Allgatherv where the root drawn is 3."""
    lengths = lengths[: rank.comm.size]
    x = values(seed, rank.comm.rank, lengths[rank.comm.rank], dtype)
    y = untouched(sum(lengths) + 5, dtype)
    blocks = v_spec(rank, y, lengths, starts(lengths, way), way)
    if root == 3:
        call(rank, "Allgatherv", form, x, blocks)
    else:
        root %= rank.comm.size
        call(rank, "Gatherv", form, x, blocks if rank.comm.rank == root else None, root=root)
    return y


@step(root=few, count=counts, dtype=dtypes)
def scatterv_alone(rank: Rank, seed: int, root: int, count: int, dtype: str) -> Any:
    """An array without counts is cut as equally as can be, the first blocks longer by one."""
    comm = rank.comm
    root %= comm.size
    y = untouched(count // comm.size + (count % comm.size > comm.rank), dtype)
    comm.Scatterv(values(seed, 0, count, dtype) if comm.rank == root else None, y, root)
    return y


def table(seed: int, size: int) -> NDArray[Any]:
    """Return how many elements each rank (row) sends each other (column)."""
    return np.random.default_rng([seed, 5]).integers(0, 4, (size, size))


@step(form=FORMS, dtype=dtypes, way=V_SPECS)
def alltoallv(rank: Rank, seed: int, form: str, dtype: str, way: str) -> Any:
    me, lengths = rank.comm.rank, table(seed, rank.comm.size)
    sent, received = lengths[me].tolist(), lengths[:, me].tolist()
    x, y = values(seed, me, sum(sent) + 5, dtype), untouched(sum(received) + 5, dtype)
    outgoing = v_spec(rank, x, sent, starts(sent, way), way)
    call(rank, "Alltoallv", form, outgoing, v_spec(rank, y, received, starts(received, way), way))
    return y


@step(form=FORMS, types=st.lists(st.sampled_from(["i1", "i4", "f8", "c16"]), min_size=4, max_size=4))
def alltoallw(rank: Rank, seed: int, form: str, types: list[str]) -> Any:
    """A block for each rank, of a type that its receiver draws."""
    me, size, lengths = rank.comm.rank, rank.comm.size, table(seed, rank.comm.size)
    outgoing = [values(seed, 10 * me + to, lengths[me, to], types[to]) for to in range(size)]
    incoming = [untouched(lengths[source, me], types[me]) for source in range(size)]

    def blocks(parts: list[NDArray[Any]], memory: Any) -> Any:
        sizes = [part.nbytes for part in parts]
        displs = [sum(sizes[:n]) for n in range(size)]
        datatypes = [rank.MPI.Datatype.fromcode(part.dtype.char) for part in parts]
        return [memory, ([part.size for part in parts], displs), datatypes]

    x = np.frombuffer(b"".join(part.tobytes() for part in outgoing), np.uint8)
    y = untouched(sum(part.nbytes for part in incoming), "u1")
    call(rank, "Alltoallw", form, blocks(outgoing, x), blocks(incoming, y))
    return y
