"""Sums, means, largest entries: functions that take axes away, and those that run along one."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from tpsim.dry.layout import like_order
from tpsim.dry.recording import report
from tpsim.dry.registry import implements
from tpsim.dry.shape_array import ShapeArray, new
from tpsim.dry.ufuncs import accumulate, axis_of_scalar, example, kept_axes, reduce, reduced
from tpsim.dry.writing import check_writeable


def _reduction(ufunc: np.ufunc, *functions: Callable[..., Any]) -> None:
    """Let NumPy's functions of one ufunc's reduction work."""
    name = functions[0].__name__
    has_dtype = ufunc in (np.add, np.multiply)

    def function(a: Any, axis: Any = None, *others: Any, out: Any = None, **options: Any) -> ShapeArray:
        for key, value in zip(
            ("dtype", "out", "keepdims") if has_dtype else ("out", "keepdims"), others, strict=False
        ):
            if key == "out":
                out = value
            else:
                options[key] = value
        return reduce(ufunc, a, axis, out=out, name=name, **options)

    function.__name__, function.__doc__ = name, f"See `numpy.{name}`."
    implements(*functions)(function)


_reduction(np.add, np.sum)
_reduction(np.multiply, np.prod)
_reduction(np.maximum, np.max, np.amax)
_reduction(np.minimum, np.min, np.amin)
_reduction(np.logical_and, np.all)
_reduction(np.logical_or, np.any)


@lru_cache(maxsize=4096)
def _dtype_of(
    function: Callable[..., Any], kind: np.dtype[Any], out: Any, options: tuple[tuple[str, Any], ...]
) -> np.dtype[Any]:
    into = None if out is None else example(out, ())
    return np.asarray(function(example(kind, (1,)), out=into, **dict(options))).dtype


def _statistic(
    function: Callable[..., Any],
    a: Any,
    axis: Any,
    out: Any,
    keepdims: Any,
    dtype: Any = None,
    passes: int = 1,
    order: str = "K",
) -> ShapeArray:
    options = () if dtype is None else (("dtype", np.dtype(dtype)),)
    kept_axes(a.ndim, axis)  # NumPy looks at axes before dtypes
    if out is not None:
        check_writeable(out, "output array")
    to = _dtype_of(function, a.dtype, None if out is None else out.dtype, options)
    keep = keepdims is not np._NoValue and bool(keepdims)
    return reduced(function.__name__, a, axis, keep, to, out, flops=passes * a.size, order=order)


@implements(np.mean)
def mean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = np._NoValue, **options: Any
) -> ShapeArray:
    """See `numpy.mean`."""
    return _statistic(np.mean, a, axis, out, keepdims, dtype)


@implements(np.var)
def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: float = 0,
    keepdims: Any = np._NoValue,
    **options: Any,
) -> ShapeArray:
    """See `numpy.var`; a mean, differences, squares and their sum are 4 FLOPs an entry."""
    return _statistic(np.var, a, axis, out, keepdims, dtype, passes=4)


@implements(np.std)
def std(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: float = 0,
    keepdims: Any = np._NoValue,
    **options: Any,
) -> ShapeArray:
    """See `numpy.std`."""
    return _statistic(np.std, a, axis, out, keepdims, dtype, passes=4)


@implements(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> ShapeArray:
    """See `numpy.count_nonzero`; over all axes it is a 0-d array, no int."""
    return reduced("count_nonzero", a, axis_of_scalar(a, axis), keepdims, np.dtype(np.intp))


def _place(function: Callable[..., Any], a: Any, axis: int | None, out: Any, keepdims: Any) -> ShapeArray:
    length = a.size if axis is None else a.shape[axis] if -a.ndim <= axis < a.ndim else 1
    if not length:
        raise ValueError(f"attempt to get {function.__name__} of an empty sequence")
    return _statistic(function, a, axis_of_scalar(a, axis), out, keepdims, order="C")


@implements(np.argmax)
def argmax(a: Any, axis: int | None = None, out: Any = None, *, keepdims: Any = np._NoValue) -> ShapeArray:
    """See `numpy.argmax`."""
    return _place(np.argmax, a, axis, out, keepdims)


@implements(np.argmin)
def argmin(a: Any, axis: int | None = None, out: Any = None, *, keepdims: Any = np._NoValue) -> ShapeArray:
    """See `numpy.argmin`."""
    return _place(np.argmin, a, axis, out, keepdims)


def _running(name: str, ufunc: np.ufunc, a: Any, axis: int | None, dtype: Any, out: Any) -> ShapeArray:
    whole = a.reshape(-1) if axis is None or not a.ndim else a
    return accumulate(ufunc, whole, 0 if axis is None else axis, dtype, out, name)


@implements(np.cumsum)
def cumsum(a: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> ShapeArray:
    """See `numpy.cumsum`."""
    return _running("cumsum", np.add, a, axis, dtype, out)


@implements(np.cumprod)
def cumprod(a: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> ShapeArray:
    """See `numpy.cumprod`."""
    return _running("cumprod", np.multiply, a, axis, dtype, out)


def _sorted(name: str, a: Any, axis: int | None, dtype: np.dtype[Any], order: str = "K") -> ShapeArray:
    whole = a.reshape(-1) if axis is None or not a.ndim else a
    kept_axes(whole.ndim, -1 if axis is None else axis)  # raises where there is no such axis
    kept = like_order(whole.shape, whole.strides, whole.dtype.itemsize) if order == "K" else None
    result = new(whole.shape, dtype, kept)
    report(name, (whole,), (result,), 0)
    return result


@implements(np.sort)
def sort(a: Any, axis: int | None = -1, *options: Any, **named: Any) -> ShapeArray:
    """See `numpy.sort`."""
    if axis is not None:
        kept_axes(a.ndim, axis)  # unlike others, also of a 0-d array
    return _sorted("sort", a, axis, a.dtype)


@implements(np.argsort)
def argsort(a: Any, axis: int | None = -1, *options: Any, **named: Any) -> ShapeArray:
    """See `numpy.argsort`."""
    return _sorted("argsort", a, axis, np.dtype(np.intp), order="C")
