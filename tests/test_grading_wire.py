"""Messages with a submission: arrays arrive as they are, and what is no message is refused."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tpsim.lab.grading.sandbox.wire import MOST_DATA, WireError, pack, unpack


def sent(frame: bytes) -> dict[str, object]:
    stream = io.BytesIO(frame)
    return unpack(lambda count: bytearray(stream.read(count)))


@given(
    st.sampled_from(["float64", "float32", "int64", "bool"]),
    st.lists(st.integers(0, 3), max_size=3),
    st.booleans(),
    st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_arrays_arrive_as_they_are(dtype: str, shape: list[int], transposed: bool, seed: int) -> None:
    array: NDArray[np.generic] = np.random.default_rng(seed).integers(0, 2, shape).astype(dtype)
    array = array.T if transposed else array
    got = sent(pack({"x": [array, (array, {"k": None})]}))["x"]
    assert isinstance(got, list)
    assert np.array_equal(got[0], array)
    assert (got[0].dtype, got[0].shape) == (array.dtype, array.shape)
    assert got[1][0].base is got[0].base


def test_a_view_arrives_with_the_buffer_that_it_keeps_alive() -> None:
    whole = np.arange(12.0).reshape(3, 4)
    got = sent(pack({"x": whole[1:, ::-2]}))["x"]
    assert isinstance(got, np.ndarray)
    assert np.array_equal(got, whole[1:, ::-2])
    assert isinstance(got.base, np.ndarray)
    assert got.base.nbytes == whole.nbytes


@given(st.binary(max_size=60), st.integers(0, 200))
@settings(max_examples=300, deadline=None)
def test_bytes_that_are_no_message_are_refused(noise: bytes, place: int) -> None:
    frame = bytearray(pack({"do": "return", "value": (np.arange(6.0), [1, "two"])}))
    place = min(place, len(frame))
    frame[place : place + len(noise)] = noise
    stream = io.BytesIO(frame)

    def receive(count: int) -> bytearray:
        assert count <= MOST_DATA
        data = bytearray(stream.read(count))
        if len(data) < count:
            raise EOFError
        return data

    with contextlib.suppress(WireError, EOFError):
        assert isinstance(unpack(receive), dict)


@pytest.mark.parametrize(
    "layout",
    [
        [0, "float64", [9], [8], 0, True],
        [0, "float64", [2], [8], -8, True],
        [0, "object", [1], [8], 0, True],
        [0, "float64", [1 << 40], [0], 0, True],
        [7, "float64", [1], [8], 0, True],
        [-1, "int8", [1], [1], 0, True],
    ],
)
def test_an_array_can_not_reach_outside_its_bytes(layout: list[object]) -> None:
    text = json.dumps([{"x": {"array": layout}}, [16]]).encode()
    frame = len(text).to_bytes(4, "little") + (16).to_bytes(4, "little") + text + bytes(16)
    with pytest.raises(WireError):
        sent(frame)
