"""Datatypes against their definition in the MPI standard: a list of basic elements and where each lies."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tpsim.comm.virtual.data.buffers import buffer
from tpsim.comm.virtual.data.constants import (
    DISTRIBUTE_BLOCK,
    DISTRIBUTE_CYCLIC,
    DISTRIBUTE_DFLT_DARG,
    ORDER_C,
    ORDER_F,
)
from tpsim.comm.virtual.data.datatypes import Datatype
from tpsim.comm.virtual.data.exceptions import MPIException
from tpsim.comm.virtual.data.status import Status
from tpsim.comm.virtual.data.type_table import TYPES

MIDDLE = 4096  # where elements stand in the memory of a test: types reach to both sides
BASIC = ("BYTE", "SHORT", "INT", "DOUBLE", "C_DOUBLE_COMPLEX")


@dataclass
class TypeMap:
    """The standard's type map (MPI 4.1, section 5.1): (size, displacement) of each basic element."""

    elements: list[tuple[int, int]]
    lb: int
    ub: int

    def copies(self, places: Sequence[int]) -> TypeMap:
        """Return copies at displacements in bytes."""
        if not places:
            return TypeMap([], 0, 0)
        return TypeMap(
            [(size, at + place) for place in places for size, at in self.elements],
            min(self.lb + place for place in places),
            max(self.ub + place for place in places),
        )

    @property
    def extent(self) -> int:
        return self.ub - self.lb

    @property
    def offsets(self) -> list[int]:
        """Where each byte lies, in the order in which they are sent."""
        return [at + i for size, at in self.elements for i in range(size)]


Made = tuple[Datatype, TypeMap]


def _basic(name: str) -> Made:
    datatype = TYPES[name]
    return datatype, TypeMap([(datatype.size, 0)], 0, datatype.size)


def _contiguous(made: Made, count: int) -> Made:
    datatype, map_ = made
    return datatype.Create_contiguous(count), map_.copies([i * map_.extent for i in range(count)])


def _vector(made: Made, count: int, length: int, stride: int) -> Made:
    datatype, map_ = made
    places = [(i * stride + j) * map_.extent for i in range(count) for j in range(length)]
    return datatype.Create_vector(count, length, stride), map_.copies(places)


def _hindexed(made: Made, blocks: list[tuple[int, int]]) -> Made:
    datatype, map_ = made
    places = [at + j * map_.extent for length, at in blocks for j in range(length)]
    return datatype.Create_hindexed([n for n, _ in blocks], [at for _, at in blocks]), map_.copies(places)


def _indexed_block(made: Made, length: int, places: list[int]) -> Made:
    datatype, map_ = made
    bytes_ = [(place + j) * map_.extent for place in places for j in range(length)]
    return datatype.Create_indexed_block(length, places), map_.copies(bytes_)


def _resized(made: Made, lb: int, extent: int) -> Made:
    datatype, map_ = made
    return datatype.Create_resized(lb, extent), TypeMap(map_.elements, lb, lb + extent)


def _dup(made: Made) -> Made:
    return made[0].Dup(), made[1]


small = st.integers(0, 3)
far = st.integers(-3, 5)
types: st.SearchStrategy[Made] = st.recursive(
    st.sampled_from(BASIC).map(_basic),
    lambda inner: st.one_of(
        st.builds(_contiguous, inner, small),
        st.builds(_vector, inner, small, small, far),
        st.builds(_hindexed, inner, st.lists(st.tuples(small, st.integers(-20, 40)), max_size=3)),
        st.builds(_indexed_block, inner, small, st.lists(far, max_size=3)),
        st.builds(_resized, inner, st.integers(-8, 8), st.integers(1, 40)),
        st.builds(_dup, inner),
    ),
    max_leaves=4,
)


def _memory(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, 2 * MIDDLE, np.uint8)


def _placed(memory: NDArray[np.uint8], datatype: Datatype, count: int) -> Any:
    """Return `count` elements around the middle of a memory."""
    shifted = datatype.Create_hindexed([count], [MIDDLE])
    return buffer([memory, 1, shifted], "Send", writable=True)


@given(types, small, st.integers(0, 99))
def test_data_are_sent_in_the_order_of_the_type_map(made: Made, count: int, seed: int) -> None:
    datatype, map_ = made
    memory = _memory(seed)
    offsets = [MIDDLE + i * map_.extent + at for i in range(count) for at in map_.offsets]
    packed = _placed(memory, datatype, count).pack()
    np.testing.assert_array_equal(packed.view(np.uint8), memory[offsets])


@given(types)
def test_size_and_bounds_are_those_of_the_type_map(made: Made) -> None:
    datatype, map_ = made
    assert datatype.Get_size() == len(map_.offsets)
    assert datatype.Get_extent() == (map_.lb, map_.extent)
    ends = [(at, at + size) for size, at in map_.elements] or [(0, 0)]
    low, high = min(a for a, _ in ends), max(b for _, b in ends)
    assert datatype.Get_true_extent() == (low, high - low)


@given(types, small, st.integers(0, 99), st.data())
def test_unpacking_writes_the_type_map_and_nothing_else(
    made: Made, count: int, seed: int, data: st.DataObject
) -> None:
    datatype, map_ = made
    offsets = [MIDDLE + i * map_.extent + at for i in range(count) for at in map_.offsets]
    assume(len(set(offsets)) == len(offsets))  # receives into overlapping elements are not allowed
    fewer = data.draw(st.integers(0, len(offsets)))
    memory, values = np.zeros(2 * MIDDLE, np.uint8), _memory(seed)[:fewer]
    wanted = memory.copy()
    for at, value in zip(offsets, values, strict=False):
        wanted[at] = value
    into = _placed(memory, datatype, count)
    into.unpack(values)
    np.testing.assert_array_equal(memory, wanted)


@given(types, st.integers(0, 4), st.integers(0, 4))
def test_a_status_counts_elements_and_basic_elements(made: Made, whole: int, more: int) -> None:
    datatype, map_ = made
    sizes = [size for size, _ in map_.elements]
    more = min(more, max(len(sizes) - 1, 0))
    status = Status()
    status.fill(0, 0, whole * sum(sizes) + sum(sizes[:more]))
    if sizes:
        assert status.Get_elements(datatype) == whole * len(sizes) + more
        assert status.Get_count(datatype) == (-32766 if more else whole)
        again = Status()
        again.Set_elements(datatype, whole * len(sizes) + more)
        assert again.nbytes == status.nbytes
    else:
        assert status.Get_elements(datatype) == status.Get_count(datatype) == 0


@given(types)
def test_a_type_can_be_made_again_from_its_parts(made: Made) -> None:
    datatype, map_ = made
    for copy in (pickle.loads(pickle.dumps(datatype)), _rebuilt(datatype)):
        assert copy.layout.runs == datatype.layout.runs
        assert copy.Get_extent() == (map_.lb, map_.extent)
        assert copy.Get_envelope() == datatype.Get_envelope()
        if not datatype.is_named:
            assert copy.Get_contents()[:3] == datatype.Get_contents()[:3]


def _rebuilt(datatype: Datatype) -> Datatype:
    base, combiner, params = datatype.decode()
    if combiner == "NAMED":
        return datatype
    made: Datatype = getattr(_rebuilt(base), f"Create_{combiner.lower()}")(**params)
    return made


boxes = st.lists(st.tuples(st.integers(1, 5), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=3)


@given(boxes, st.sampled_from("CF"))
def test_a_subarray_is_numpys_slice(box: list[tuple[int, float, float]], order: Any) -> None:
    sizes = [size for size, _, _ in box]
    starts = [int(a * (size - 1)) for size, a, _ in box]
    lengths = [1 + int(b * (size - start - 1)) for (size, _, b), start in zip(box, starts, strict=True)]
    array = np.asarray(np.arange(np.prod(sizes), dtype=np.int32).reshape(sizes), order=order)
    part = array[tuple(slice(a, a + n) for a, n in zip(starts, lengths, strict=True))]
    datatype = TYPES["INT"].Create_subarray(sizes, lengths, starts, ORDER_C if order == "C" else ORDER_F)
    assert datatype.extent == array.nbytes
    np.testing.assert_array_equal(buffer([array, 1, datatype], "Send").pack(), part.ravel(order))


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3), st.booleans()), min_size=1, max_size=3),
    st.sampled_from([ORDER_C, ORDER_F]),
)
def test_the_parts_of_a_distributed_array_are_all_of_it_once(
    dims: list[tuple[int, int, bool]], order: int
) -> None:
    sizes, grid = [size for size, _, _ in dims], [places for _, places, _ in dims]
    kinds = [DISTRIBUTE_CYCLIC if cyclic else DISTRIBUTE_BLOCK for _, _, cyclic in dims]
    ranks = int(np.prod(grid))
    array = np.arange(np.prod(sizes), dtype=np.int64)
    parts = [
        TYPES["INT64_T"].Create_darray(
            ranks, rank, sizes, kinds, [DISTRIBUTE_DFLT_DARG] * len(dims), grid, order
        )
        for rank in range(ranks)
    ]
    held = np.concatenate([buffer([array, 1, part], "Send").pack() for part in parts])
    np.testing.assert_array_equal(np.sort(held), array)


@given(st.lists(st.sampled_from("bhidFD"), min_size=1, max_size=5), st.integers(1, 4), st.integers(0, 99))
def test_a_struct_type_is_c_s_struct(codes: list[str], count: int, seed: int) -> None:
    record = np.dtype({"names": [f"f{i}" for i in range(len(codes))], "formats": codes}, align=True)
    offsets = [record.fields[name][1] for name in record.names or ()]  # type: ignore[index]
    datatype = Datatype.Create_struct([1] * len(codes), offsets, [Datatype.fromcode(c) for c in codes])
    assert datatype.Get_extent() == (0, record.itemsize)
    memory = _memory(seed)[: count * record.itemsize]
    rows = memory.reshape(count, record.itemsize)
    wanted = np.concatenate(
        [row[at : at + np.dtype(c).itemsize] for row in rows for at, c in zip(offsets, codes, strict=True)]
    )
    np.testing.assert_array_equal(buffer([memory, count, datatype], "Send").pack().view(np.uint8), wanted)


@pytest.mark.parametrize("name", [name for name, datatype in TYPES.items() if datatype])
def test_every_type_of_mpi_pickles_to_itself_and_cannot_be_freed(name: str) -> None:
    datatype = TYPES[name]
    assert pickle.loads(pickle.dumps(datatype)) is datatype
    with pytest.raises(MPIException, match="MPI's own"):
        datatype.Free()
    assert datatype == Datatype(datatype)


@pytest.mark.parametrize("code", [*"bhilqBHILQefdgFDG?", "i4", "u8", "f8", "c16", "S1"])
def test_a_code_names_the_type_of_numpys_dtype(code: str) -> None:
    datatype = Datatype.fromcode(code)
    assert datatype.dtype == np.dtype(code)
    assert Datatype.fromcode(datatype.tocode()).typestr == np.dtype(code).str[1:]


@given(st.sampled_from("hidFD"), st.lists(st.integers(-100, 100), max_size=8))
def test_portable_packing_is_big_endian(code: str, numbers: list[int]) -> None:
    datatype, values = Datatype.fromcode(code), np.array(numbers, code)
    packed = np.zeros(datatype.Pack_external_size("external32", values.size), np.uint8)
    assert datatype.Pack_external("external32", values, packed, 0) == packed.size
    np.testing.assert_array_equal(packed, values.astype(values.dtype.newbyteorder(">")).view(np.uint8))
    back = np.zeros_like(values)
    assert datatype.Unpack_external("external32", packed, 0, back) == packed.size
    np.testing.assert_array_equal(back, values)


MISTAKES: dict[str, Callable[[Datatype], Any]] = {
    "Create_vector: block length -1 is negative": lambda t: t.Create_vector(2, -1, 3),
    "Create_subarray: 3 from 2 on is no part of 4": lambda t: t.Create_subarray([4], [3], [2]),
    "Create_indexed: 1 lengths for 2 displacements": lambda t: t.Create_indexed([1], [0, 3]),
    "Create_darray: rank 1 of 3 has no place": lambda t: t.Create_darray(3, 1, [4], [121], [1], [2]),
    "Get_contents: MPI_INT is MPI's own": lambda t: t.Get_contents(),
    "Pack: bytes 0 to 8 are not within": lambda t: t.Pack(np.zeros(2, "i"), np.zeros(1, "i"), 0, None),
    "fromcode: no type has the code 'zz'": lambda t: t.fromcode("zz"),
    "Match_size: no type of that class has 3 bytes": lambda t: t.Match_size(2, 3),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_told_with_what_to_do(words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the words are compared)
        MISTAKES[words](TYPES["INT"])
    assert str(caught.value).startswith(words)
    assert ";" in str(caught.value)
