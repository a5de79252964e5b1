"""The same entries under other axes: views, or copies where NumPy copies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tpsim.dry.errors import no_data, raise_like_numpy
from tpsim.dry.registry import implements
from tpsim.dry.shape_array import ShapeArray
from tpsim.dry.ufuncs import broadcast
from tpsim.dry.writing import fits


@implements(np.reshape)
def reshape(a: ShapeArray, /, shape: Any, order: str = "C", *, copy: bool | None = None) -> ShapeArray:
    """See `numpy.reshape`."""
    return a.reshape(shape, order=order, copy=copy)


@implements(np.ravel)
def ravel(a: ShapeArray, order: str = "C") -> ShapeArray:
    """See `numpy.ravel`."""
    return a.ravel(order)


@implements(np.transpose, np.permute_dims)
def transpose(a: ShapeArray, axes: Any = None) -> ShapeArray:
    """See `numpy.transpose`."""
    return a.transpose(axes)


@implements(np.matrix_transpose)
def matrix_transpose(x: ShapeArray, /) -> ShapeArray:
    """See `numpy.matrix_transpose`."""
    return x.mT


@implements(np.swapaxes)
def swapaxes(a: ShapeArray, axis1: int, axis2: int) -> ShapeArray:
    """See `numpy.swapaxes`."""
    return a.swapaxes(axis1, axis2)


@implements(np.moveaxis)
def moveaxis(a: ShapeArray, source: Any, destination: Any) -> ShapeArray:
    """See `numpy.moveaxis`."""
    froms = normalize_axis_tuple(source, a.ndim, "source")
    tos = normalize_axis_tuple(destination, a.ndim, "destination")
    if len(froms) != len(tos):
        raise ValueError("`source` and `destination` arguments must have the same number of elements")
    order = [axis for axis in range(a.ndim) if axis not in froms]
    for to, axis in sorted(zip(tos, froms, strict=True)):
        order.insert(to, axis)
    return a.transpose(order)


@implements(np.expand_dims)
def expand_dims(a: ShapeArray, axis: Any) -> ShapeArray:
    """See `numpy.expand_dims`."""
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    new = normalize_axis_tuple(axes, a.ndim + len(axes))
    return a[tuple(np.newaxis if at in new else slice(None) for at in range(a.ndim + len(axes)))]


@implements(np.squeeze)
def squeeze(a: ShapeArray, axis: Any = None) -> ShapeArray:
    """See `numpy.squeeze`."""
    if axis is None or (not a.shape and axis in (0, -1)):
        gone = {at for at, n in enumerate(a.shape) if n == 1}
    else:
        gone = set(normalize_axis_tuple(axis, a.ndim))
        if any(a.shape[at] != 1 for at in gone):
            raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    kept = [at for at in range(a.ndim) if at not in gone]
    return a.view_of(tuple(a.shape[at] for at in kept), tuple(a.strides[at] for at in kept))


@implements(np.flip)
def flip(m: ShapeArray, axis: Any = None) -> ShapeArray:
    """See `numpy.flip`."""
    axes = range(m.ndim) if axis is None else normalize_axis_tuple(axis, m.ndim)
    return m[tuple(slice(None, None, -1 if at in axes else None) for at in range(m.ndim))]


@implements(np.broadcast_to)
def broadcast_to(array: ShapeArray, shape: Any, subok: bool = False) -> ShapeArray:
    """See `numpy.broadcast_to`."""
    to = ShapeArray(shape).shape
    if not fits(array.shape, to):
        raise_like_numpy(np.broadcast_to, array, to)
    steps = [0 if n == 1 else step for n, step in zip(array.shape, array.strides, strict=True)]
    view = array.view_of(to, (*[0] * (len(to) - len(steps)), *steps))
    view.writeable = False
    return view


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: ShapeArray, subok: bool = False) -> tuple[ShapeArray, ...]:
    """See `numpy.broadcast_arrays`."""
    shape = broadcast(*[array.shape for array in args])
    if shape is None:
        raise_like_numpy(np.broadcast_arrays, *args)
    return tuple(broadcast_to(array, shape) for array in args)


@implements(np.array_split)
def array_split(ary: ShapeArray, indices_or_sections: Any, axis: int = 0) -> list[ShapeArray]:
    """See `numpy.array_split`."""
    length, at = ary.shape[axis], axis % ary.ndim
    if np.ndim(indices_or_sections):
        ends = [*indices_or_sections, length]
    else:
        sections = int(indices_or_sections)
        if sections <= 0:
            raise ValueError("number sections must be larger than 0.")
        each, more = divmod(length, sections)
        ends = [each * i + min(i, more) for i in range(1, sections + 1)]
    before = (slice(None),) * at
    return [ary[(*before, slice(start, end))] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


@implements(np.split)
def split(ary: ShapeArray, indices_or_sections: Any, axis: int = 0) -> list[ShapeArray]:
    """See `numpy.split`."""
    if not np.ndim(indices_or_sections) and ary.shape[axis] % int(indices_or_sections):
        raise ValueError("array split does not result in an equal division")
    return array_split(ary, indices_or_sections, axis)


@implements(np.atleast_1d)
def atleast_1d(*arys: ShapeArray) -> Any:
    """See `numpy.atleast_1d`."""
    results = tuple(a if a.ndim else a.reshape(1) for a in arys)
    return results[0] if len(results) == 1 else results


@implements(np.nonzero, np.flatnonzero, np.argwhere, np.unique, np.extract, np.compress)
def value_dependent(*inputs: Any, **options: Any) -> Any:
    """Refuse: how long the result is depends on values."""
    raise no_data(
        "np.nonzero, and what chooses entries by their values",
        "how long the result is depends on values: use np.where, which keeps the shape",
    )
