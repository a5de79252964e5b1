"""Choosing entries, and writing into chosen places."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import NDArray

from tpsim.dry.errors import no_data, raise_like_numpy, stand_in
from tpsim.dry.indexing import select
from tpsim.dry.recording import report
from tpsim.dry.registry import implements
from tpsim.dry.shape_array import ShapeArray, entries_of, new
from tpsim.dry.ufuncs import Kind, as_operand, broadcast, call, elementwise, example, kind_of
from tpsim.dry.writing import check_writeable, fits_into


@lru_cache(maxsize=4096)
def _common_dtype(kinds: tuple[Kind, ...]) -> np.dtype[Any]:
    x, y = map(example, kinds)
    dtype: np.dtype[Any] = np.where(np.ones(0, np.bool_), x, y).dtype
    return dtype


@implements(np.where)
def where(condition: Any, *choices: Any) -> ShapeArray:
    """See `numpy.where`."""
    if not choices:
        raise no_data(
            "np.where(condition) alone",
            "how many entries it finds depends on values: pass x and y, of which it chooses",
        )
    operands = tuple(map(as_operand, (condition, *choices)))
    dtype = _common_dtype(tuple(map(kind_of, operands[1:])))
    arrays = [x for x in operands if hasattr(x, "dtype")]
    shape = broadcast(*[x.shape for x in arrays])
    if shape is None:
        raise_like_numpy(np.where, *operands)
    result = elementwise(shape, dtype, arrays)
    report("where", arrays, (result,), 0)
    return result


@implements(np.take)
def take(a: Any, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise") -> ShapeArray:
    """See `numpy.take`."""
    index = as_operand(indices)
    place = index.shape if hasattr(index, "shape") else ()
    if hasattr(index, "dtype") and not np.can_cast(index.dtype, np.intp, "same_kind"):
        raise_like_numpy(np.take, stand_in(a.shape, a.dtype), stand_in(place, index.dtype), axis=axis)
    if axis is None:
        a, axis = a.reshape(-1), 0
    a = a if a.ndim else a.reshape(1)
    at = normalize_axis_index(axis, a.ndim)
    shape = (*a.shape[:at], *place, *a.shape[at + 1 :])
    if not a.shape[at] and 0 not in shape:
        raise IndexError("cannot do a non-empty take from an empty axes.")
    if mode == "raise" and 0 not in a.shape[:at] and not isinstance(index, ShapeArray):
        _check_range(np.asarray(index), a.shape[at], at)
    result: ShapeArray = new(shape, a.dtype) if out is None else out
    report("take", (entries_of(a, shape), *[index] * hasattr(index, "dtype")), (result,), 0)
    return result


def _check_range(index: NDArray[Any], length: int, axis: int) -> None:
    """Raise IndexError if a real index is out of bounds."""
    for i in (index.min(), index.max()) if index.size else ():
        if not -length <= i < length:
            raise IndexError(f"index {i} is out of bounds for axis {axis} with size {length}")


def _along(a: Any, indices: Any, axis: int | None) -> tuple[Any, tuple[Any, ...]]:
    """Return an array, and the key of the entries at `indices` along the axis."""
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if axis is None:
        if indices.ndim != 1:
            raise ValueError("when axis=None, `indices` must have a single dimension.")
        return a.reshape(-1), (indices,)
    at = normalize_axis_index(axis, a.ndim)
    if indices.ndim != a.ndim:
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    ones = [1] * a.ndim
    key = [
        indices if i == at else ShapeArray((*ones[:i], n, *ones[i + 1 :]), np.intp)
        for i, n in enumerate(a.shape)
    ]
    return a, tuple(key)


@implements(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> ShapeArray:
    """See `numpy.take_along_axis`."""
    a, key = _along(arr, indices, axis)
    part = select(a.shape, a.strides, a.dtype.itemsize, key)
    result = new(part.shape, a.dtype, part.strides)
    report("take_along_axis", (entries_of(a, part.shape), indices), (result,), 0)
    return result


@implements(np.put_along_axis)
def put_along_axis(arr: Any, indices: Any, values: Any, axis: int | None) -> None:
    """See `numpy.put_along_axis`."""
    if not isinstance(arr, ShapeArray):
        raise no_data("np.put_along_axis into a real array", "make it by np.empty_like, of a ShapeArray")
    check_writeable(arr, "assignment destination")
    a, key = _along(arr, indices, axis)
    target = entries_of(a, select(a.shape, a.strides, a.dtype.itemsize, key).shape)
    values = as_operand(values)
    if hasattr(values, "dtype") and not fits_into(values.shape, target.shape):
        raise ValueError(
            f"shape mismatch: value array of shape {values.shape} could not be broadcast to indexing result "
            f"of shape {target.shape}"
        )
    if not hasattr(values, "dtype"):
        np.asarray(values, arr.dtype)  # NumPy's errors about numbers that it can't hold
    report("put_along_axis", (*[values] * hasattr(values, "dtype"), indices), (target,), 0)


def _is_same(a: ShapeArray, b: ShapeArray) -> bool:
    """Whether two arrays are the same entries, in the same order."""
    return (a.memory(), a.shape, a.strides, a.dtype) == (b.memory(), b.shape, b.strides, b.dtype)


@implements(np.copyto)
def copyto(dst: Any, src: Any, casting: Any = "same_kind", where: Any = True) -> None:
    """See `numpy.copyto`."""
    if not isinstance(dst, ShapeArray):
        raise no_data("np.copyto into a real array", "make it by np.empty_like, of a ShapeArray")
    src = as_operand(src)
    if isinstance(src, ShapeArray) and _is_same(src, dst):
        return  # before it asks whether it may write
    check_writeable(dst, "assignment destination")
    np.copyto(np.empty(0, dst.dtype), example(kind_of(src)), casting)  # its errors about dtypes
    arrays = [x for x in (src, where) if hasattr(x, "dtype")]
    if not all(fits_into(x.shape, dst.shape) for x in arrays):
        raise_like_numpy(np.copyto, dst, src, casting, where)
    report("copyto", arrays, (dst,), 0)


@implements(np.clip)
def clip(
    a: Any,
    a_min: Any = np._NoValue,
    a_max: Any = np._NoValue,
    out: Any = None,
    *,
    min: Any = np._NoValue,
    max: Any = np._NoValue,
    **options: Any,
) -> ShapeArray:
    """See `numpy.clip`."""
    given = [end for end in (a_min, a_max) if end is not np._NoValue]
    low, high = (
        (*given, None, None)[:2] if given else (None if end is np._NoValue else end for end in (min, max))
    )
    if out is not None:
        options["out"] = (out,)
    function: Any = {(True, True): np.clip, (True, False): np.maximum, (False, True): np.minimum}.get(
        (low is not None, high is not None), np.positive
    )
    ends = [end for end in (low, high) if end is not None]
    result: ShapeArray = call(function, a, *ends, name="clip", **options)
    return result


@implements(np.tril, np.triu)
def triangle(m: ShapeArray, k: int = 0) -> ShapeArray:
    """See `numpy.tril`."""
    if m.ndim < 1:
        raise_like_numpy(np.tril, m)
    mask = ShapeArray((m.shape[-2:] * 2)[:2], np.bool_)
    shape = (*m.shape[:-2], *mask.shape)
    result = elementwise(shape, m.dtype, (mask, m))
    report("tril", (m,), (result,), 0)
    return result


@implements(np.nan_to_num)
def nan_to_num(
    x: ShapeArray, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    """See `numpy.nan_to_num`."""
    result = elementwise(x.shape, x.dtype, (x,)) if copy else x
    report("nan_to_num", (x,), (result,), 0)
    return result


@implements(np.round, np.around)
def round_(a: ShapeArray, decimals: int = 0, out: Any = None) -> ShapeArray:
    """See `numpy.round`."""
    result: ShapeArray = call(np.round, a, out=() if out is None else (out,))
    return result
