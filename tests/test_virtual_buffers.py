"""Buffer specifications, reductions of their data, and memory: against plain NumPy."""

from __future__ import annotations

import array
import ctypes
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpsim.comm.virtual.data import ops
from tpsim.comm.virtual.data.buffers import buffer, vector_buffer, w_buffer
from tpsim.comm.virtual.data.datatypes import Datatype
from tpsim.comm.virtual.data.exceptions import MPIException
from tpsim.comm.virtual.data.marks import BOTTOM
from tpsim.comm.virtual.data.memory import buffer as memory
from tpsim.comm.virtual.data.ops import Op
from tpsim.comm.virtual.data.type_table import TYPES

DOUBLE, INT, BYTE = TYPES["DOUBLE"], TYPES["INT"], TYPES["BYTE"]
counts = st.integers(0, 6)


class Dlpack:
    """An array, as a library shows it that speaks DLPack only."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self._values.__dlpack_device__()
        return device


class Cuda:
    """An array, as a library shows it that speaks of memory in CUDA's terms."""

    def __init__(self, values: Any, address: int | None = None) -> None:
        self._values = values
        start = values.ctypes.data if address is None else address
        self.__cuda_array_interface__ = {
            "version": 3,
            "data": (start, False),
            "typestr": values.dtype.str,
            "shape": values.shape,
        }


SHOWN: dict[str, Callable[[Any], Any]] = {
    "an array": lambda x: x,
    "a memoryview": memoryview,
    "an array of the module array": lambda x: array.array("d", x),
    "a DLPack object": Dlpack,
    "a CUDA array interface": Cuda,
    "tpsim's memory": memory.frombuffer,
}
FORMS: dict[str, Callable[[Any, int, int], Any]] = {
    "[data, count, type]": lambda x, n, at: [x[at:], n, DOUBLE],
    "[data, count, code]": lambda x, n, at: [x[at:], n, "d"],
    "[data, count]": lambda x, n, at: [x[at:], n],
    "(data, (count, displ))": lambda x, n, at: (x, (n, at)),
    "[data, [count, displ], type]": lambda x, n, at: [x, [n, at], DOUBLE],
    "[data, count, displ, type]": lambda x, n, at: [x, n, at, DOUBLE],
    "[data, type]": lambda x, n, at: [x[at : at + n], DOUBLE],
    "data": lambda x, n, at: x[at : at + n],
    "[BOTTOM, 1, type of addresses]": lambda x, n, at: [
        BOTTOM,
        1,
        DOUBLE.Create_hindexed([n], [x[at:].ctypes.data]),
    ],
}


@given(st.sampled_from(sorted(FORMS)), counts, counts)
def test_every_form_of_a_specification_names_the_same_elements(form: str, count: int, at: int) -> None:
    x = np.arange(20.0)
    given_ = buffer(FORMS[form](x, count, at), "Send", writable=True)
    np.testing.assert_array_equal(given_.pack(), np.arange(at, at + count, dtype=float))
    given_.unpack(-np.ones(count))
    wanted = np.arange(20.0)
    wanted[at : at + count] = -1
    np.testing.assert_array_equal(x, wanted)


@given(st.sampled_from(sorted(SHOWN)), counts)
def test_every_kind_of_memory_is_a_buffer(kind: str, count: int) -> None:
    x = np.arange(float(count))
    packed = buffer([SHOWN[kind](x), DOUBLE], "Send").pack()
    np.testing.assert_array_equal(packed, np.arange(float(count)))


@given(st.integers(1, 4), counts)
def test_blocks_are_equal_and_behind_one_another(blocks: int, count: int) -> None:
    x = np.arange(blocks * count)
    cut = buffer(x, "Alltoall", blocks=blocks)
    assert cut.count == count
    for i in range(blocks):
        np.testing.assert_array_equal(cut.pack(i), x[i * count : (i + 1) * count])
    np.testing.assert_array_equal(cut.pack(), x)


@given(st.lists(st.tuples(counts, counts), min_size=1, max_size=4), st.booleans())
def test_vector_forms_take_parts_where_they_lie(parts: list[tuple[int, int]], typed: bool) -> None:
    x = np.arange(20, dtype=np.int32)
    lengths, places = [n for n, _ in parts], [at for _, at in parts]
    spec = [x, lengths, places, INT] if typed else [x, (lengths, places)]
    cut = vector_buffer(spec, "Alltoallv", len(parts))
    for i, (n, at) in enumerate(parts):
        np.testing.assert_array_equal(cut.pack(i), x[at : at + n])
    np.testing.assert_array_equal(cut.pack(), np.concatenate([x[at : at + n] for n, at in parts]))


@given(st.lists(counts, min_size=1, max_size=3))
def test_without_places_parts_lie_behind_one_another(lengths: list[int]) -> None:
    x = np.arange(20)
    cut = vector_buffer([x, lengths], "Scatterv", len(lengths))
    np.testing.assert_array_equal(cut.pack(), x[: sum(lengths)])


def test_w_forms_have_types_of_their_own_and_places_in_bytes() -> None:
    x = np.arange(8.0)
    pair = DOUBLE.Create_vector(2, 1, 2)
    cut = w_buffer([x, ([1, 2], [8, 40]), [pair, DOUBLE]], "Alltoallw", 2)
    np.testing.assert_array_equal(cut.pack(0), [1.0, 3.0])
    np.testing.assert_array_equal(cut.pack(1), [5.0, 6.0])


@given(st.sampled_from("CF"))
def test_an_array_is_sent_in_the_order_of_its_memory(order: Any) -> None:
    x = np.asarray(np.arange(6.0).reshape(2, 3), order=order)
    np.testing.assert_array_equal(buffer(x, "Send").pack(), x.ravel(order))


X = np.zeros(4)
READ_ONLY = np.zeros(4)
READ_ONLY.flags.writeable = False
BAD: dict[str, tuple[type[Exception], Callable[[], Any]]] = {
    "count 9 asks for bytes 0 to 72": (ValueError, lambda: buffer([X, 9], "Send")),
    "count -1 is negative": (ValueError, lambda: buffer([X, -1, DOUBLE], "Send")),
    "displacement 5 lies behind": (ValueError, lambda: buffer([X, 0, 5, DOUBLE], "Send")),
    "count 1 of no data": (ValueError, lambda: buffer([None, 1, DOUBLE], "Send")),
    "5 items in a buffer specification": (ValueError, lambda: buffer([X, 0, 0, DOUBLE, 1], "Send")),
    "is read-only": (ValueError, lambda: buffer(READ_ONLY, "Recv", writable=True)),
    "is not contiguous": (ValueError, lambda: buffer(np.zeros((3, 3))[:, :2], "Send")),
    "has another byte order": (BufferError, lambda: buffer(X.astype(X.dtype.newbyteorder("S")), "Send")),
    "can't be cut into 3 equal blocks": (ValueError, lambda: buffer(X, "Scatter", blocks=3)),
    "2 counts for 3 ranks": (ValueError, lambda: vector_buffer([X, [1, 1]], "Scatterv", 3)),
    "1 types for 2 ranks": (ValueError, lambda: w_buffer([X, [DOUBLE]], "Alltoallw", 2)),
    "bytes are no whole number of elements": (ValueError, lambda: buffer([np.zeros(3, "u1"), INT], "Send")),
    "the datatype is null": (ValueError, lambda: buffer([X, 1, Datatype()], "Send")),
    "a int is not a buffer": (TypeError, lambda: buffer(3, "Send")),
    "an array of Python objects": (TypeError, lambda: buffer(np.array([None]), "Send")),
    "no MPI type has this code": (KeyError, lambda: buffer([X, 1, "zz"], "Send")),
    "is on another device": (BufferError, lambda: buffer(Cuda(X, address=4096), "Send")),
}


@pytest.mark.parametrize("words", BAD)
def test_a_bad_specification_is_told_with_what_to_do(words: str) -> None:
    kind, call = BAD[words]
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)
    assert ";" in str(caught.value)


# -- reductions ----------------------------------------------------------------------------------------------

NUMPYS = {"SUM": np.add, "PROD": np.multiply, "MAX": np.maximum, "MIN": np.minimum, "BXOR": np.bitwise_xor}
numbers = st.lists(st.integers(-9, 9), min_size=1, max_size=5)


@given(st.sampled_from(sorted(NUMPYS)), numbers, st.integers(0, 9))
def test_a_local_reduction_is_numpys(name: str, numbers: list[int], seed: int) -> None:
    a = np.array(numbers)
    b = np.random.default_rng(seed).integers(-9, 9, a.size)
    result = b.copy()
    getattr(ops, name).Reduce_local(a, result)
    np.testing.assert_array_equal(result, NUMPYS[name](a, b))


pairs = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5)), min_size=2, max_size=6)


@pytest.mark.parametrize("value", ["SHORT", "INT", "LONG", "FLOAT", "DOUBLE", "LONG_DOUBLE"])
@pytest.mark.parametrize("name", ["MAXLOC", "MINLOC"])
@given(pairs)
def test_the_place_of_the_extreme_value_is_the_lowest(
    name: str, value: str, pairs: list[tuple[int, int]]
) -> None:
    datatype = TYPES[f"{value}_INT"]
    record = np.dtype([("v", TYPES[value].dtype), ("i", np.int32)], align=True)
    rows = np.array(pairs, record)
    op = getattr(ops, name)
    for row in reversed(rows[:-1]):
        op.Reduce_local([np.array([row]), 1, datatype], [rows[-1:], 1, datatype])
    best = (max if name == "MAXLOC" else min)(v for v, _ in pairs)
    wanted = best, min(i for v, i in pairs if v == best)
    assert tuple(rows[-1].tolist()) == wanted
    assert tuple(reduce(op, pairs)) == wanted


def test_a_reduction_of_ones_own_sees_memory_as_its_type_lays_it_out() -> None:
    seen = []

    def add_seconds(a: Any, b: Any, datatype: Datatype) -> None:
        seen.append((len(a), len(b), datatype))
        np.frombuffer(b, float)[::2] += np.frombuffer(a, float)[::2]

    op, sparse = Op.Create(add_seconds, commute=True), DOUBLE.Create_resized(0, 16)
    a, b = np.arange(6.0), np.ones(6)
    op.Reduce_local([a, 3, sparse], [b, 3, sparse])
    np.testing.assert_array_equal(b, [1, 1, 3, 1, 5, 1])
    assert seen == [(40, 40, sparse)]
    op.Free()


@pytest.mark.parametrize(("name", "code"), [("BAND", "d"), ("MAX", "F"), ("MINLOC", "i"), ("SUM", "S1")])
def test_a_reduction_refuses_types_that_it_is_not_for(name: str, code: str) -> None:
    x = np.zeros(2, code)
    with pytest.raises(MPIException, match=r"can't be reduced so; pass") as caught:
        getattr(ops, name).Reduce_local(x, x.copy())
    assert caught.value.Get_error_class() == 10  # MPI_ERR_OP


# -- memory --------------------------------------------------------------------------------------------------


@given(st.binary(max_size=9), st.data())
def test_memory_is_a_sequence_of_bytes(raw: bytes, data: st.DataObject) -> None:
    mine, wanted = memory.allocate(len(raw)), bytearray(raw)
    mine[:] = raw
    if raw:
        at = data.draw(st.integers(0, len(raw) - 1))
        mine[at] = wanted[at] = data.draw(st.integers(0, 255))
        low, high = sorted(data.draw(st.tuples(*[st.integers(0, len(raw))] * 2)))
        mine[low:high] = wanted[low:high] = bytes(reversed(wanted[low:high]))
    assert bytes(mine) == mine.tobytes() == bytes(wanted)
    assert list(mine) == list(wanted)
    assert mine.nbytes == len(mine) == len(raw)


def test_memory_at_an_address_is_that_memory() -> None:
    there = ctypes.create_string_buffer(b"abc")
    mine = memory.fromaddress(ctypes.addressof(there), 3)
    mine[1:2] = b"x"
    assert there.value == b"axc"
    readonly = mine.toreadonly()
    with pytest.raises(TypeError, match="read-only"):
        readonly[0] = 1
