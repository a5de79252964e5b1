"""Arrays put together from others: joined, stacked, repeated, padded, rolled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from tpsim.dry.errors import raise_like_numpy
from tpsim.dry.layout import joined_order, like_order
from tpsim.dry.recording import report
from tpsim.dry.registry import implements
from tpsim.dry.shape_array import ShapeArray, new
from tpsim.dry.ufuncs import layout_of
from tpsim.dry.writing import check_writeable


@lru_cache(maxsize=4096)
def _joined_dtype(kinds: tuple[np.dtype[Any], ...], to: Any, casting: Any) -> np.dtype[Any]:
    return np.concatenate([np.empty(0, kind) for kind in kinds], dtype=to, casting=casting).dtype


@implements(np.concatenate)
def concatenate(
    arrays: Sequence[Any],
    /,
    axis: int | None = 0,
    out: Any = None,
    *,
    dtype: Any = None,
    casting: Any = "same_kind",
    name: str = "concatenate",
) -> ShapeArray:
    """See `numpy.concatenate`."""
    arrays = list(arrays)
    if axis is None:
        arrays, axis = [a.reshape(-1) for a in arrays], 0
    first = arrays[0].shape
    if not first or not -len(first) <= axis < len(first):
        raise_like_numpy(np.concatenate, arrays, axis)
    at = axis % len(first)
    others = first[:at], first[at + 1 :]
    if any(len(a.shape) != len(first) or (a.shape[:at], a.shape[at + 1 :]) != others for a in arrays):
        raise_like_numpy(np.concatenate, arrays, axis)
    shape = (*others[0], sum(a.shape[at] for a in arrays), *others[1])
    kind = _joined_dtype(tuple(a.dtype for a in arrays), dtype if out is None else out.dtype, casting)
    if out is None:
        result = new(shape, kind, joined_order(shape, kind.itemsize, layout_of(arrays)))
    elif out.shape == shape:
        check_writeable(out, "output array")
        result = out
    else:
        raise ValueError("Output array is the wrong shape")
    report(name, arrays, (result,), 0)
    return result


@implements(np.stack)
def stack(
    arrays: Sequence[Any], axis: int = 0, out: Any = None, *, dtype: Any = None, casting: Any = "same_kind"
) -> ShapeArray:
    """See `numpy.stack`."""
    arrays = list(arrays)
    if not arrays:
        raise ValueError("need at least one array to stack")
    if len({a.shape for a in arrays}) != 1:
        raise ValueError("all input arrays must have the same shape")
    at = normalize_axis_index(axis, arrays[0].ndim + 1)
    key = (slice(None),) * at + (np.newaxis,)
    return concatenate([a[key] for a in arrays], at, out, dtype=dtype, casting=casting, name="stack")


@implements(np.vstack)
def vstack(tup: Sequence[Any], **options: Any) -> ShapeArray:
    """See `numpy.vstack`."""
    rows = [a if a.ndim > 1 else a.reshape(1, -1) for a in tup]
    return concatenate(rows, 0, name="vstack", **options)


@implements(np.hstack)
def hstack(tup: Sequence[Any], **options: Any) -> ShapeArray:
    """See `numpy.hstack`."""
    arrays = [a if a.ndim else a.reshape(1) for a in tup]
    return concatenate(arrays, 0 if arrays and arrays[0].ndim == 1 else 1, name="hstack", **options)


def _moved(name: str, a: Any, shape: tuple[int, ...]) -> ShapeArray:
    result = new(shape, a.dtype)
    report(name, (a,), (result,), 0)
    return result


@implements(np.repeat)
def repeat(a: Any, repeats: Any, axis: int | None = None) -> ShapeArray:
    """See `numpy.repeat`."""
    if axis is None:
        a, axis = a.reshape(-1), 0
    a = a if a.ndim else a.reshape(1)
    at = normalize_axis_index(axis, a.ndim)
    counts = np.asarray(repeats)
    if counts.ndim and len(counts) not in (1, a.shape[at]):
        raise_like_numpy(np.repeat, a, repeats, axis)
    total = int(np.broadcast_to(counts, (a.shape[at],)).sum())
    return _moved("repeat", a, (*a.shape[:at], total, *a.shape[at + 1 :]))


@implements(np.tile)
def tile(A: Any, reps: Any) -> ShapeArray:
    """See `numpy.tile`."""
    counts = tuple(reps) if np.ndim(reps) else (int(reps),)
    ndim = max(len(counts), A.ndim)
    shape, counts = (1,) * (ndim - A.ndim) + A.shape, (1,) * (ndim - len(counts)) + counts
    return _moved("tile", A, tuple(n * count for n, count in zip(shape, counts, strict=True)))


@implements(np.pad)
def pad(array: Any, pad_width: Any, mode: str = "constant", **options: Any) -> ShapeArray:
    """See `numpy.pad`."""
    widths = np.broadcast_to(np.asarray(pad_width), (array.ndim, 2)).tolist()
    if any(width < 0 for both in widths for width in both):
        raise ValueError("index can't contain negative values")
    shape = tuple(n + sum(both) for n, both in zip(array.shape, widths, strict=True))
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        result = new(shape[::-1], array.dtype).T
        report("pad", (array,), (result,), 0)
        return result
    return _moved("pad", array, shape)


@implements(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> ShapeArray:
    """See `numpy.roll`."""
    if axis is not None:
        normalize_axis_tuple(axis, a.ndim, allow_duplicate=True)
    kept = None if axis is None else like_order(a.shape, a.strides, a.dtype.itemsize)
    result = new(a.shape, a.dtype, kept)
    report("roll", (a,), (result,), 0)
    return result
