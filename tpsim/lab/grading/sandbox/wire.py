"""Messages between the grader and a submission's ranks: a small JSON tree and plain bytes, never pickles.

A frame is two lengths (little-endian, 4 bytes each), then JSON, then the arrays' buffers one after another.
Nothing that is received can run code, and nothing is allocated before its size was found to be within limits.
Arrays that share a buffer still do when they arrive: what is kept for backward is counted by its buffers.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEAD = struct.Struct("<II")
MOST_JSON = 1 << 18
"""Bytes."""
MOST_DATA = 1 << 24
"""Bytes of arrays in one frame."""

_DEPTH = 12
_DTYPES = frozenset(
    {
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    }
)

Array = NDArray[Any]
Tree = Any
"""What JSON can say."""
Receive = Callable[[int], bytearray]
"""Returns exactly that many bytes."""


class WireError(Exception):
    """What came is not a message, or is too large."""


def pack(message: dict[str, Any], special: Callable[[Any], Tree | None] = lambda _: None) -> bytes:
    """Return a frame.

    Parameters
    ----------
    message : dict
        Values may be None, numbers, strings, arrays, and lists, tuples and dicts of them; of anything else,
        only the type's name arrives.
    special : callable
        Returns what JSON shall say of a value that is none of these, or None.

    Raises
    ------
    WireError
        If it is too large, or nested too deeply.
    """
    buffers = _Outgoing()
    tree = {key: _encode(value, buffers, special, 0) for key, value in message.items()}
    text = json.dumps([tree, [len(part) for part in buffers.parts]]).encode()
    data = b"".join(buffers.parts)
    _check(len(text), len(data))
    return HEAD.pack(len(text), len(data)) + text + data


def unpack(receive: Receive, special: Callable[[Tree], Any] = lambda _: None) -> dict[str, Any]:
    """Receive a frame and return its message.

    Parameters
    ----------
    receive : callable
        Returns exactly that many bytes.
    special : callable
        Makes a value of what the sender's `special` returned.

    Raises
    ------
    WireError
        If it isn't one.
    """
    lengths = HEAD.unpack(receive(HEAD.size))
    _check(*lengths)
    rest = receive(sum(lengths))
    text, data = rest[: lengths[0]], rest[lengths[0] :]
    try:
        tree, sizes = json.loads(text)
        buffers = _cut(data, sizes)
        return {key: _decode(value, buffers, special, 0) for key, value in tree.items()}
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
        raise WireError(f"a malformed message ({type(error).__name__})") from None


def _check(text: int, data: int) -> None:
    if text > MOST_JSON or data > MOST_DATA:
        raise WireError(f"a message of {text + data} bytes")


def _cut(data: bytearray, sizes: list[int]) -> list[Array]:
    if not all(type(size) is int and size >= 0 for size in sizes) or sum(sizes) != len(data):
        raise WireError("buffers of other sizes than it says")
    ends = [0, *accumulate(sizes)]
    return [np.frombuffer(data[a:b], np.uint8).copy() for a, b in pairwise(ends)]


class _Outgoing:
    """The buffers of a frame, each once."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._places: dict[int, int] = {}
        self._owners: list[Array] = []  # alive, so that no other array gets the same id

    def describe(self, array: Array) -> list[Any]:
        """Return where an array lies: buffer, dtype, shape, strides, offset, whether it may be written to."""
        owner = array
        while type(owner.base) is np.ndarray:
            owner = owner.base
        if not (owner.flags.c_contiguous or owner.flags.f_contiguous):
            owner = array = np.ascontiguousarray(array)
        if id(owner) not in self._places:
            self._places[id(owner)] = len(self.parts)
            self._owners.append(owner)
            self.parts.append(owner.tobytes("A"))
        offset = _address(array) - _address(owner)
        layout = [array.dtype.name, list(array.shape), list(array.strides), offset]
        return [self._places[id(owner)], *layout, bool(array.flags.writeable)]


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _encode(value: Any, buffers: _Outgoing, special: Callable[[Any], Tree | None], depth: int) -> Tree:
    if depth > _DEPTH:
        raise WireError("a value that is nested too deeply")
    kind = type(value)  # exactly: a subclass may say anything of itself
    if value is None or kind in (bool, float, str) or (kind is int and -(1 << 63) <= value < 1 << 63):
        return value
    if kind is np.ndarray and value.dtype.name in _DTYPES and value.dtype.isnative:
        return {"array": buffers.describe(value)}
    if kind.__module__ == "numpy" and isinstance(value, np.generic) and value.dtype.name in _DTYPES:
        return {"number": buffers.describe(np.asarray(value))}
    if kind in (list, tuple):
        return {kind.__name__: [_encode(item, buffers, special, depth + 1) for item in value]}
    if kind is dict:
        return {"dict": [[_encode(x, buffers, special, depth + 1) for x in item] for item in value.items()]}
    tree = special(value)
    return {"other": kind.__name__} if tree is None else {"special": tree}


def _decode(tree: Tree, buffers: list[Array], special: Callable[[Tree], Any], depth: int) -> Any:
    if depth > _DEPTH:
        raise WireError("a value that is nested too deeply")
    if not isinstance(tree, dict):
        if isinstance(tree, list):
            raise WireError("a bare list")
        return tree
    ((tag, body),) = tree.items()
    if tag == "array":
        return _array(buffers, *body)
    if tag == "number":
        return _array(buffers, *body)[()]
    if tag == "list":
        return [_decode(item, buffers, special, depth + 1) for item in body]
    if tag == "tuple":
        return tuple(_decode(item, buffers, special, depth + 1) for item in body)
    if tag == "dict":
        return {
            _decode(key, buffers, special, depth + 1): _decode(value, buffers, special, depth + 1)
            for key, value in body
        }
    if tag == "special":
        return special(body)
    if tag == "other":
        return type(body[:80] if body.isidentifier() else "object", (), {})()
    raise WireError(f"a value of unknown kind {tag[:20]!r}")


def _array(
    buffers: list[Array],
    place: int,
    name: str,
    shape: list[int],
    strides: list[int],
    offset: int,
    writeable: bool,
) -> Array:
    """Lay an array on its buffer; NumPy itself refuses one that would reach outside."""
    if name not in _DTYPES or place < 0:
        raise WireError("an unknown dtype or buffer")
    if math.prod(shape) * np.dtype(name).itemsize > MOST_DATA:
        raise WireError("an array that is larger than its bytes")  # strides of 0 repeat an entry
    array: Array = np.ndarray(tuple(shape), np.dtype(name), buffers[place], offset, tuple(strides))
    array.flags.writeable = writeable is True
    return array
