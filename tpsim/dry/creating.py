"""New arrays like others: `np.empty(shape, like=x)`, `np.zeros_like(x)`, `np.arange(n, like=x)`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tpsim.dry.errors import not_known
from tpsim.dry.layout import Shape, in_order, like_order
from tpsim.dry.recording import report
from tpsim.dry.registry import implements
from tpsim.dry.shape_array import ShapeArray, new


def _filled(name: str, shape: Any, dtype: Any, reads: tuple[Any, ...] = ()) -> ShapeArray:
    result = ShapeArray(shape, dtype)
    report(name, reads, (result,), 0)
    return result


@implements(np.empty)
def empty(shape: Any, dtype: DTypeLike = float, order: str = "C", **options: Any) -> ShapeArray:
    """See `numpy.empty`: only memory, so no work."""
    return ShapeArray(shape, dtype)


@implements(np.zeros)
def zeros(shape: Any, dtype: DTypeLike = float, order: str = "C", **options: Any) -> ShapeArray:
    """See `numpy.zeros`."""
    return _filled("zeros", shape, dtype)


@implements(np.ones)
def ones(shape: Any, dtype: DTypeLike | None = None, order: str = "C", **options: Any) -> ShapeArray:
    """See `numpy.ones`."""
    return _filled("ones", shape, dtype)


@implements(np.full)
def full(
    shape: Any, fill_value: Any, dtype: DTypeLike | None = None, order: str = "C", **options: Any
) -> ShapeArray:
    """See `numpy.full`."""
    if dtype is None:
        dtype = fill_value.dtype if hasattr(fill_value, "dtype") else np.asarray(fill_value).dtype
    return _filled("full", shape, dtype)


@implements(np.eye)
def eye(N: int, M: int | None = None, k: int = 0, dtype: DTypeLike = float, **options: Any) -> ShapeArray:
    """See `numpy.eye`."""
    return _filled("eye", (N, N if M is None else M), dtype)


@implements(np.arange)
def arange(
    *ends: Any, stop: Any = None, step: Any = None, dtype: DTypeLike | None = None, **options: Any
) -> ShapeArray:
    """See `numpy.arange`."""
    given = [*ends, *[end for end in (stop, step) if end is not None]]
    first, last, by = (0, given[0], 1) if len(given) == 1 else (*given, 1)[:3]
    nothing = np.arange(first, first, by)
    length = max(0, math.ceil((last - first) / by))
    return _filled("arange", length, nothing.dtype if dtype is None else dtype)


@implements(np.array, np.asarray, np.asanyarray, np.ascontiguousarray)
def array(values: Any, dtype: DTypeLike | None = None, *, copy: bool = True, **options: Any) -> ShapeArray:
    """See `numpy.array`, with `like=` given: of the shape that the values have."""
    if isinstance(values, ShapeArray):
        return values.astype(values.dtype if dtype is None else dtype, copy=copy)
    real = np.asarray(values, dtype)
    return _filled("array", real.shape, real.dtype)


def _like(name: str, prototype: Any, dtype: DTypeLike | None, order: str, shape: Any) -> ShapeArray:
    if order not in ("C", "K"):
        raise not_known(f"np.{name} with order={order!r}")
    to = prototype.dtype if dtype is None else np.dtype(dtype)
    of: Shape = prototype.shape if shape is None else ShapeArray(shape).shape
    if order == "C" or len(of) != prototype.ndim:
        return new(of, to)
    own = like_order(prototype.shape, prototype.strides, prototype.dtype.itemsize)
    order_of_axes = sorted(range(len(of)), key=lambda axis: (-own[axis], axis))
    return new(of, to, in_order(of, to.itemsize, order_of_axes))


@implements(np.empty_like)
def empty_like(
    prototype: Any,
    dtype: DTypeLike | None = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    **options: Any,
) -> ShapeArray:
    """See `numpy.empty_like`: only memory, so no work."""
    return _like("empty_like", prototype, dtype, order, shape)


@implements(np.zeros_like)
def zeros_like(
    a: Any,
    dtype: DTypeLike | None = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    **options: Any,
) -> ShapeArray:
    """See `numpy.zeros_like`."""
    result = _like("zeros_like", a, dtype, order, shape)
    report("zeros_like", (), (result,), 0)
    return result


@implements(np.ones_like)
def ones_like(
    a: Any,
    dtype: DTypeLike | None = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    **options: Any,
) -> ShapeArray:
    """See `numpy.ones_like`."""
    result = _like("ones_like", a, dtype, order, shape)
    report("ones_like", (), (result,), 0)
    return result


@implements(np.full_like)
def full_like(
    a: Any,
    fill_value: Any,
    dtype: DTypeLike | None = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    **options: Any,
) -> ShapeArray:
    """See `numpy.full_like`."""
    result = _like("full_like", a, dtype, order, shape)
    report("full_like", (), (result,), 0)
    return result


@implements(np.copy)
def copy(a: Any, order: str = "K", subok: bool = False) -> ShapeArray:
    """See `numpy.copy`."""
    result: ShapeArray = a.copy(order)
    return result
