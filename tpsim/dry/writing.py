"""Writing into arrays without data: what may be written where, and which bytes that touches."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from tpsim.dry.errors import no_data, raise_like_numpy, stand_in
from tpsim.dry.indexing import View, select
from tpsim.dry.layout import Shape
from tpsim.dry.recording import report

if TYPE_CHECKING:
    from tpsim.dry.shape_array import ShapeArray


def assign(array: ShapeArray, key: Any, value: Any) -> None:
    """Do `array[key] = value`."""
    indices: tuple[Any, ...] = ()
    if hasattr(key, "storage") and key.dtype == np.bool_:
        target, indices = _masked(array, key, value), (key,)
    else:
        part = select(array.shape, array.strides, array.dtype.itemsize, key)
        if isinstance(part, View):
            target = array.view_of(part.shape, part.strides, part.offset)
        else:
            target, indices = array.entries(part.shape), part.indices
    check_writeable(array, "assignment destination")
    source = value if hasattr(value, "shape") else np.asarray(value, array.dtype)
    if not fits_into(source.shape, target.shape):
        raise_like_numpy(operator.setitem, stand_in(target.shape, target.dtype), ..., source)
    if hasattr(value, "storage") and _is_same(value, target):
        return  # the second half of `x[key] += y`: NumPy does not copy an array onto itself
    if not target.size:
        return  # nothing to do, such as padding that a shard doesn't have
    report("setitem", (*[source] * hasattr(value, "shape"), *indices), (target,), 0)


def check_writeable(array: ShapeArray, role: str) -> None:
    """Raise NumPy's error for results of `np.broadcast_to`, where several places are one entry."""
    if not array.writeable:
        raise ValueError(f"{role} is read-only")


def fits(shape: Shape, target: Shape) -> bool:
    """Whether `shape` can be broadcast to `target`."""
    if len(shape) > len(target):
        return False
    return all(n in (1, m) for n, m in zip(reversed(shape), reversed(target), strict=False))


def fits_into(shape: Shape, target: Shape) -> bool:
    """Whether values of a shape can be assigned to entries of another: leading axes of 1 don't matter."""
    while len(shape) > len(target) and shape[0] == 1:
        shape = shape[1:]
    return fits(shape, target)


def _masked(array: ShapeArray, mask: ShapeArray, value: Any) -> ShapeArray:
    if mask.shape != array.shape[: mask.ndim] or not mask.ndim:
        raise_like_numpy(operator.setitem, array, mask, 0)
    if getattr(value, "shape", ()) != ():
        raise no_data(
            f"writing {value.shape} values where a mask of shape {mask.shape} is true",
            "how many there are depends on values: write x = np.where(mask, …, x)",
        )
    return array


def _is_same(a: ShapeArray, b: ShapeArray) -> bool:
    return a.storage is b.storage and (a.offset, a.shape, a.strides) == (b.offset, b.shape, b.strides)
