"""Reductions of arrays: predefined operations, pairs with places, and a user's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from differential.collectives import FORMS, REDUCTIONS, SPECS, call, spec
from differential.programs import Rank, counts, few, step, untouched, values


@step(form=FORMS, root=few, count=counts, how=REDUCTIONS, way=SPECS, in_place=st.booleans())
def reduce(
    rank: Rank, seed: int, form: str, root: int, count: int, how: tuple[str, str], way: str, in_place: bool
) -> Any:
    dtype, op = how
    root %= rank.comm.size
    at_root = rank.comm.rank == root
    x, y = values(seed, rank.comm.rank, count, dtype), untouched(count, dtype)
    if at_root and in_place:
        y[:] = x
    sent = rank.MPI.IN_PLACE if at_root and in_place else spec(rank, x, way)
    into = spec(rank, y, way) if at_root else None
    call(rank, "Reduce", form, sent, into, op=getattr(rank.MPI, op), root=root)
    return y


@step(
    name=st.sampled_from(["Allreduce", "Scan", "Exscan"]),
    form=FORMS,
    count=counts,
    how=REDUCTIONS,
    way=SPECS,
    in_place=st.booleans(),
)
def reduce_to_all(
    rank: Rank, seed: int, name: str, form: str, count: int, how: tuple[str, str], way: str, in_place: bool
) -> Any:
    dtype, op = how
    x, y = values(seed, rank.comm.rank, count, dtype), untouched(count, dtype)
    if in_place:
        y[:] = x
    sent = rank.MPI.IN_PLACE if in_place else spec(rank, x, way)
    call(rank, name, form, sent, spec(rank, y, way), op=getattr(rank.MPI, op))
    return None if name == "Exscan" and rank.comm.rank == 0 else y  # undefined there


@step(form=FORMS, lengths=st.lists(few, min_size=4, max_size=4), how=REDUCTIONS, equal=st.booleans())
def reduce_scatter(
    rank: Rank, seed: int, form: str, lengths: list[int], how: tuple[str, str], equal: bool
) -> Any:
    (dtype, op), me, size = how, rank.comm.rank, rank.comm.size
    lengths = [lengths[0]] * size if equal else lengths[:size]
    x, y = values(seed, me, sum(lengths), dtype), untouched(lengths[me], dtype)
    named = {"op": getattr(rank.MPI, op)} | ({} if equal else {"recvcounts": lengths})
    call(rank, "Reduce_scatter_block" if equal else "Reduce_scatter", form, x, y, **named)
    return y


@step(
    form=FORMS, count=few, op=st.sampled_from(["MAXLOC", "MINLOC"]), pair=st.sampled_from(["i4", "f4", "f8"])
)
def extreme_and_its_place(rank: Rank, seed: int, form: str, count: int, op: str, pair: str) -> Any:
    name = {"i4": "INT_INT", "f4": "FLOAT_INT", "f8": "DOUBLE_INT"}[pair]
    datatype = getattr(rank.MPI, name)
    layout = np.dtype([("value", pair), ("place", "i4")], align=True)
    x, y = np.zeros(count, layout), np.zeros(count, layout)
    x["value"], x["place"] = values(seed, rank.comm.rank, count, pair), rank.comm.rank
    call(rank, "Allreduce", form, [x, count, datatype], [y, count, datatype], op=getattr(rank.MPI, op))
    return y["value"].copy(), y["place"].copy()


@step(name=st.sampled_from(["Allreduce", "Scan", "Reduce"]), form=FORMS, commute=st.booleans(), root=few)
def own_operation(rank: Rank, seed: int, name: str, form: str, commute: bool, root: int) -> Any:
    """Multiply 2 × 2 matrices, in rank order; or, where it may be in any order, numbers modulo 5."""

    def product(left: Any, inout: Any, datatype: Any) -> None:
        a, b = np.frombuffer(left, "i8"), np.frombuffer(inout, "i8")
        b[:] = a * b % 5 if commute else (a.reshape(2, 2) @ b.reshape(2, 2)).ravel() % 97

    op = rank.MPI.Op.Create(product, commute)
    matrix = rank.MPI.INT64_T.Create_contiguous(4).Commit()
    x, y = values(seed, rank.comm.rank, 4, "i8"), untouched(4, "i8")
    named = {"root": root % rank.comm.size} if name == "Reduce" else {}
    call(rank, name, form, [x, 1, matrix], [y, 1, matrix], op=op, **named)
    op.Free()
    matrix.Free()
    return y


@step(count=counts, how=REDUCTIONS)
def reduce_local(rank: Rank, seed: int, count: int, how: tuple[str, str]) -> Any:
    dtype, op = how
    x, y = values(seed, rank.comm.rank, count, dtype), values(seed, 9, count, dtype)
    getattr(rank.MPI, op).Reduce_local(x, y)
    return y
