"""Whole tensors that are read only where they are indexed, so that a rank reads its own slices and no more.

Each of these has a `shape` and takes slices, which is all that `Parameter.take` asks of a whole tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes  # noqa: F401  # NumPy learns the name bfloat16
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

Array = NDArray[Any]
Where = tuple[slice, ...]
Box = tuple[tuple[int, int], ...]
"""A block of a tensor: where it begins and ends along each axis."""

NUMPY_NAMES = {"BOOL": "bool", "BF16": "bfloat16"}


class Lazy(Protocol):
    """A tensor that is somewhere else."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As an array's."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """As an array's."""

    def __getitem__(self, where: Where) -> Array: ...


class TensorFile:
    """A safetensors file, open for reading parts of its tensors.

    Raises
    ------
    ValueError
        If it is missing or cut short, or something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = _open(path)
        except FileNotFoundError:
            raise ValueError(
                f"{path}: there is no such file; copy the folder again, with all files"
            ) from None
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{path}: not a whole safetensors file ({error}); copy it again, or take another"
            ) from None
        self.names: list[str] = list(self._file.keys())
        self.metadata: dict[str, str] = self._file.metadata() or {}

    def tensor(self, name: str) -> Stored:
        """Return one of its tensors, unread."""
        return Stored(self, name, self._file.get_slice(name))


def _open(path: Path) -> Any:  # the library's class has no types
    return safe_open(path, framework="np")


class Stored:
    """A tensor in a file."""

    def __init__(self, file: TensorFile, name: str, reader: Any) -> None:
        self.shape: tuple[int, ...] = tuple(reader.get_shape())
        self.dtype = _numpy_dtype(f"{file.path}: tensor {name!r}", reader.get_dtype())
        self._reader = reader
        self._file = file  # stays open

    def __getitem__(self, where: Where) -> Array:
        shape = tuple(stop - start for start, stop in box(where, self.shape))
        if math.prod(shape) == 0:
            return np.empty(shape, self.dtype)
        return self._read(where)

    def _read(self, where: Where) -> Array:
        part: Array = self._reader[where]
        return part


class Transposed:
    """A matrix, read the other way round."""

    def __init__(self, matrix: Lazy) -> None:
        self.shape = matrix.shape[::-1]
        self.dtype = matrix.dtype
        self._matrix = matrix

    def __getitem__(self, where: Where) -> Array:
        rows, columns = (slice(*span) for span in box(where, self.shape))
        return self._matrix[columns, rows].T


class Tiled:
    """A tensor that lies in blocks, which don't overlap: shards of a checkpoint, or Q, K, V of a fused one.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    tiles : sequence of (Box, Lazy)
        The blocks, each with its place.
    name : str
        For messages.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], tiles: Sequence[tuple[Box, Lazy]], name: str
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.name = name
        self._tiles = tiles

    def __getitem__(self, where: Where) -> Array:
        wanted = box(where, self.shape)
        out = np.empty([stop - start for start, stop in wanted], self.dtype)
        filled = 0
        for place, tile in self._tiles:
            common = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(wanted, place, strict=True)]
            if any(start >= stop for start, stop in common):
                continue
            there = tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(common, place, strict=True))
            here = tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(common, wanted, strict=True))
            out[here] = tile[there]
            filled += out[here].size
        if filled != out.size:
            raise ValueError(
                f"{self.name}: {out.size - filled} of {out.size} entries are in none of the files; copy the "
                "folder again, with all files"
            )
        return out


def joined(tensors: Sequence[Lazy], name: str) -> Lazy:
    """Return tensors side by side along their last axis: Q, K and V as [Q | K | V]."""
    if len(tensors) == 1:
        return tensors[0]
    *rest, _ = tensors[0].shape
    if any(list(tensor.shape[:-1]) != rest for tensor in tensors):
        shapes = ", ".join(str(tensor.shape) for tensor in tensors)
        raise ValueError(f"{name}: shapes {shapes} can't stand side by side; take a checkpoint of this model")
    tiles, start = [], 0
    for tensor in tensors:
        stop = start + tensor.shape[-1]
        tiles.append(((*((0, length) for length in rest), (start, stop)), tensor))
        start = stop
    return Tiled((*rest, start), tensors[0].dtype, tiles, name)


def box(where: Where, shape: tuple[int, ...]) -> Box:
    """Return where slices begin and end; axes that they don't name are whole."""
    slices = (*where, *[slice(None)] * (len(shape) - len(where)))
    spans = (one.indices(length)[:2] for one, length in zip(slices, shape, strict=True))
    return tuple((start, max(start, stop)) for start, stop in spans)


def _numpy_dtype(what: str, code: str) -> np.dtype[Any]:
    """Return the dtype that safetensors calls "F32" and so on."""
    kinds = {"F": "float", "I": "int", "U": "uint"}
    try:
        return np.dtype(NUMPY_NAMES.get(code) or kinds[code[0]] + code[1:])
    except (KeyError, TypeError):
        raise ValueError(f"{what} is {code}, which NumPy doesn't have; convert it to F32 or BF16") from None


class Blank(np.random.Generator):
    """Draws nothing, and no memory: for a model whose parameters are about to be loaded."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """Return zeros that take no room."""
        return np.broadcast_to(np.zeros(()), size)


@contextmanager
def said_of(path: Path) -> Iterator[None]:
    """Say in a ValueError which file or folder it is about."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from None
