"""Derived datatypes: parts of an array sent and received without packing."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from differential.programs import Rank, few, step, untouched, values

ROOM = 64  # elements: more than any layout below spans

LAYOUTS = st.one_of(
    st.tuples(st.just("contiguous"), st.integers(1, 4)),
    st.tuples(st.just("vector"), st.integers(1, 3), st.integers(1, 2), st.integers(2, 4)),
    st.tuples(st.just("hvector"), st.integers(1, 3), st.integers(1, 2), st.integers(2, 4)),
    st.tuples(st.just("indexed"), st.integers(2, 3), st.integers(0, 2), st.integers(3, 5)),
    st.tuples(st.just("block"), st.integers(1, 3), st.integers(1, 2), st.integers(2, 5)),
    st.tuples(st.just("subarray"), st.integers(1, 2), st.integers(1, 3), st.integers(0, 1)),
    st.tuples(st.just("resized"), st.integers(1, 3)),
)


def made(rank: Rank, layout: tuple[Any, ...], base: str) -> Any:
    """Return the datatype that a drawn layout of numbers of type `base` names."""
    old = rank.MPI.Datatype.fromcode(np.dtype(base).char)
    bytes_ = np.dtype(base).itemsize
    match layout:
        case ("contiguous", n):
            new = old.Create_contiguous(n)
        case ("vector", n, length, stride):
            new = old.Create_vector(n, length, stride)
        case ("hvector", n, length, stride):
            new = old.Create_hvector(n, length, stride * bytes_)
        case ("indexed", n, length, gap):
            new = old.Create_indexed([length + k for k in range(n)], [gap * k for k in range(n)])
        case ("block", n, length, gap):
            new = old.Create_indexed_block(length, [gap * k for k in reversed(range(n))])
        case ("subarray", rows, columns, start):
            new = old.Create_subarray([3, 4], [rows, columns], [start, start])
        case ("resized", n):
            part = old.Create_contiguous(n)
            new = part.Create_resized(0, (n + 2) * bytes_)
            part.Free()
    return new.Commit()


@step(layout=LAYOUTS, base=st.sampled_from(["i1", "i4", "f8", "c16"]), count=st.integers(0, 2))
def layout_facts(rank: Rank, seed: int, layout: tuple[Any, ...], base: str, count: int) -> Any:
    """Return its sizes, and what packing and unpacking make of an array."""
    datatype = made(rank, layout, base)
    count = 0 if datatype.lb else count  # Pack takes as many as extents fit, and would go beyond
    length = count * datatype.extent // np.dtype(base).itemsize
    x, y = values(seed, 0, length, base), untouched(length, base)
    packed = bytearray(datatype.Pack_size(count, rank.comm))
    filled = datatype.Pack(x, packed, 0, rank.comm)
    read = datatype.Unpack(packed, 0, y, rank.comm)
    facts = datatype.Get_size(), datatype.Get_extent(), datatype.Get_true_extent(), datatype.combiner
    known = facts[3] == datatype.Get_envelope()[3]
    datatype.Free()
    return facts[:3], known, filled, read, y


@step(out=LAYOUTS, into=LAYOUTS, base=st.sampled_from(["i2", "f4", "f8"]), times=few, root=few)
def layouts_meet(
    rank: Rank, seed: int, out: tuple[Any, ...], into: tuple[Any, ...], base: str, times: int, root: int
) -> Any:
    """Send one layout around a ring into another, as long as what is sent fits."""
    comm, me = rank.comm, rank.comm.rank
    sent, received = made(rank, out, base), made(rank, into, base)
    counts = (times * received.Get_size() // max(sent.Get_size(), 1), times)
    x, y, status = values(seed, me, ROOM, base), untouched(ROOM, base), rank.MPI.Status()
    if counts[0] * max(sent.Get_extent()[1], sent.Get_true_extent()[1]) > x.nbytes:
        counts = (0, 0)
    request = comm.Isend([x, counts[0], sent], (me + 1) % comm.size)
    comm.Recv([y, counts[1], received], (me - 1) % comm.size, status=status)
    request.Wait()
    elements = status.Get_elements(received)
    z = values(seed, me, ROOM, base)
    comm.Bcast([z, min(times, 1), received], root % comm.size)
    for datatype in (sent, received):
        datatype.Free()
    return y, elements, z


@step(root=few)
def columns_scattered(rank: Rank, seed: int, root: int) -> Any:
    """Each rank gets a column of a matrix, and gives it back negated."""
    comm, size = rank.comm, rank.comm.size
    root %= size
    strided = rank.MPI.DOUBLE.Create_vector(3, 1, size)
    column = strided.Create_resized(0, 8).Commit()
    strided.Free()
    matrix = values(seed, 0, 3 * size, "f8").reshape(3, size) if comm.rank == root else None
    mine = untouched(3, "f8")
    comm.Scatter(None if matrix is None else [matrix, 1, column], mine, root)
    comm.Gather(-mine, None if matrix is None else [matrix, 1, column], root)
    column.Free()
    return mine, matrix


@step(count=few)
def records(rank: Rank, seed: int, count: int) -> Any:
    """Structs of an integer and two floats, with a gap, go to everybody."""
    MPI, comm = rank.MPI, rank.comm
    inner = MPI.Datatype.Create_struct([1, 2], [0, 8], [MPI.INT32_T, MPI.DOUBLE])
    record = inner.Create_resized(0, 32).Commit()
    inner.Free()
    layout = np.dtype({"names": ["id", "ends"], "formats": ["i4", "2f8"], "offsets": [0, 8], "itemsize": 32})
    x, y = np.zeros(count, layout), np.zeros(count * comm.size, layout)
    x["id"] = values(seed, comm.rank, count, "i4")
    x["ends"] = values(seed, comm.rank, 2 * count, "f8").reshape(count, 2)
    comm.Allgather([x, count, record], [y, count, record])
    record.Free()
    return y["id"].copy(), y["ends"].copy()
