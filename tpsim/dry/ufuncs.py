"""NumPy's ufuncs on arrays without data: what comes out, in which layout, and what it costs.

Dtypes, and the errors about them, are NumPy's own: each combination of input dtypes is tried once, on real
arrays of no entries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tpsim.dry.errors import no_data, not_known, raise_like_numpy, stand_in
from tpsim.dry.indexing import select
from tpsim.dry.layout import Shape, is_contiguous, kept_order
from tpsim.dry.recording import report
from tpsim.dry.registry import ufunc_method
from tpsim.dry.shape_array import ShapeArray, new
from tpsim.dry.writing import check_writeable, fits

Kind = Any
"""What decides an operand's part in the result's dtype: a dtype, or a Python scalar's type (or value)."""

_SMALL = 128  # Python ints from 0 to 127 fit every integer dtype, so that their values don't matter


def as_operand(x: Any) -> Any:
    """Return arrays, NumPy's and Python's scalars as they are, and anything else as a real array."""
    return x if hasattr(x, "dtype") or type(x) in (int, float, complex) else np.asarray(x)


def kind_of(x: Any) -> Kind:
    """Return what of an operand decides about dtypes."""
    if hasattr(x, "dtype"):
        return x.dtype
    return x if type(x) is int and not 0 <= x < _SMALL else type(x)


def example(kind: Kind, shape: tuple[int, ...] = (0,)) -> Any:
    """Return a real operand of this kind."""
    if isinstance(kind, np.dtype):
        return np.ones(shape, kind)
    return kind(1) if isinstance(kind, type) else kind


@lru_cache(maxsize=4096)
def _result_dtypes(
    ufunc: Any, kinds: tuple[Kind, ...], outs: tuple[Kind, ...], options: tuple[tuple[str, Any], ...]
) -> tuple[np.dtype[Any], ...]:
    shape = (0,) if getattr(ufunc, "signature", None) is None else (0, 0)
    into = {"out": tuple(None if kind is None else example(kind, shape) for kind in outs)} if outs else {}
    results = ufunc(*[example(kind, shape) for kind in kinds], **into, **dict(options))
    return tuple(r.dtype for r in (results if isinstance(results, tuple) else (results,)))


@lru_cache(maxsize=4096)
def broadcast(*shapes: Shape) -> Shape | None:
    """Return the shape that all shapes can be broadcast to, or None."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


def layout_of(arrays: Sequence[Any]) -> tuple[tuple[Shape, Shape], ...]:
    """Return what `kept_order` asks of operands."""
    return tuple((x.shape, x.strides) for x in arrays)


def elementwise(shape: Shape, dtype: np.dtype[Any], operands: Sequence[Any]) -> ShapeArray:
    """Return a new array in the layout of an elementwise result of these operands."""
    if all(x.shape == shape and is_contiguous(shape, x.strides, x.dtype.itemsize) for x in operands):
        return new(shape, dtype)
    return new(shape, dtype, kept_order(shape, dtype.itemsize, layout_of(operands)))


@ufunc_method("__call__")
def call(
    ufunc: Any,
    *inputs: Any,
    out: tuple[Any, ...] = (),
    where: Any = True,
    name: str = "",
    **options: Any,
) -> Any:
    """Return `ufunc(*inputs)`, of a ufunc or of a function that behaves like one, such as `np.clip`."""
    inputs = tuple(map(as_operand, inputs))
    outs = tuple(o for o in out if o is not None)
    for o in outs:
        _check_out(ufunc, o)
    kinds = tuple(map(kind_of, inputs))
    dtypes = _result_dtypes(
        ufunc, kinds, tuple(o if o is None else o.dtype for o in out), tuple(options.items())
    )
    if getattr(ufunc, "signature", None) is not None:
        return _matmul(ufunc, inputs, out, dtypes[0])
    arrays = [x for x in inputs if hasattr(x, "dtype")]
    if where is not True:
        arrays.append(where)
    shape = broadcast(*[x.shape for x in (*arrays, *outs)])
    if shape is None or any(o.shape != shape for o in outs):
        raise_like_numpy(ufunc, *inputs, out=out or None, **({} if where is True else {"where": where}))
    given = out or (None,) * len(dtypes)
    results = tuple(
        elementwise(shape, dtype, arrays) if o is None else o for o, dtype in zip(given, dtypes, strict=True)
    )
    flops = 0 if dtypes[0] == np.bool_ else math.prod(shape)
    report(name or ufunc.__name__, arrays, results, flops)
    return results[0] if len(results) == 1 else results


def _check_out(ufunc: Any, out: Any) -> None:
    if not isinstance(out, ShapeArray):
        raise no_data(
            f"np.{ufunc.__name__} into a {type(out).__name__}",
            "its results can't be written into real arrays: make out by np.empty_like",
        )
    check_writeable(out, "output array")


@lru_cache(maxsize=4096)
def _matmul_shape(a: Shape, b: Shape) -> tuple[Shape, int] | None:
    """Return the result's shape, and the length of the axis that is summed over, or None."""
    if not a or not b:
        return None
    rows, columns = a[-2:-1], b[-1:] if len(b) > 1 else ()
    if a[-1] != b[-2 if len(b) > 1 else -1]:
        return None
    stack = broadcast(a[:-2], b[:-2])
    return None if stack is None else ((*stack, *rows, *columns), a[-1])


def _matmul(
    ufunc: np.ufunc, inputs: tuple[Any, ...], out: tuple[Any, ...], dtype: np.dtype[Any]
) -> ShapeArray:
    if ufunc is not np.matmul:
        raise not_known(f"np.{ufunc.__name__}")
    a, b = inputs
    product = _matmul_shape(a.shape, b.shape) if hasattr(a, "shape") and hasattr(b, "shape") else None
    if product is None or (out and out[0].shape != product[0]):
        raise_like_numpy(ufunc, a, b, out=out or None)
    shape, inner = product
    if out:
        result: ShapeArray = out[0]
    elif not inner or len(a.shape) == len(b.shape) == 2:
        result = new(shape, dtype)
    else:
        cores = (len(a.shape) > 1) + (len(b.shape) > 1)
        stacks = tuple((x.shape[:-2] + (1,) * cores, x.strides[:-2] + (0,) * cores) for x in (a, b))
        result = new(shape, dtype, kept_order(shape, dtype.itemsize, stacks))
    report("matmul", (a, b), (result,), 2 * math.prod(shape) * inner)
    return result


@lru_cache(maxsize=4096)
def _reduced_dtype(
    ufunc: np.ufunc, kind: np.dtype[Any], out: Kind, options: tuple[tuple[str, Any], ...]
) -> np.dtype[Any]:
    into = None if out is None else example(out, ())
    dtype: np.dtype[Any] = ufunc.reduce(example(kind, (1,)), out=into, **dict(options)).dtype
    return dtype


@lru_cache(maxsize=4096)
def kept_axes(ndim: int, axis: Any) -> tuple[int, ...]:
    """Return the axes that a reduction over `axis` leaves."""
    gone = range(ndim) if axis is None else normalize_axis_tuple(axis, ndim)
    return tuple(a for a in range(ndim) if a not in gone)


def axis_of_scalar(array: Any, axis: Any) -> Any:
    """Return the axis, and None in place of the one axis that NumPy lets a 0-d array pass for having."""
    return None if not array.shape and axis in (0, -1) else axis


def reduced(
    name: str,
    array: Any,
    axis: Any,
    keepdims: bool,
    dtype: np.dtype[Any],
    out: ShapeArray | None = None,
    flops: int | None = None,
    order: str = "K",
) -> ShapeArray:
    """Return the result of a reduction, in the operand's order of axes ("K") or in C order."""
    kept = kept_axes(array.ndim, axis)
    if keepdims:
        shape = tuple(n if a in kept else 1 for a, n in enumerate(array.shape))
        layout = shape, array.strides
    else:
        shape = tuple([array.shape[a] for a in kept])
        layout = shape, tuple([array.strides[a] for a in kept])
    if out is None:
        strides = kept_order(shape, dtype.itemsize, (layout,)) if order == "K" else None
        result = new(shape, dtype, strides)
    elif out.shape == shape:
        result = out
    else:
        raise ValueError(
            f"output parameter for reduction operation {name} has the wrong shape {out.shape}; pass one of "
            f"shape {shape}"
        )
    report(name, (array,), (result,), array.size if flops is None else flops)
    return result


@ufunc_method("reduce")
def reduce(
    ufunc: np.ufunc,
    array: Any,
    axis: Any = 0,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = np._NoValue,
    where: Any = True,
    name: str = "",
) -> ShapeArray:
    """Return `ufunc.reduce(array, axis)`; over all axes it is a 0-d array, no scalar."""
    if isinstance(out, tuple):
        out = out[0]
    if out is not None:
        _check_out(ufunc, out)
    axis = axis_of_scalar(array, axis)
    kept_axes(array.ndim, axis)  # NumPy looks at axes before dtypes
    options = () if dtype is None else (("dtype", np.dtype(dtype)),)
    to = _reduced_dtype(ufunc, array.dtype, None if out is None else out.dtype, options)
    if not array.size and initial is np._NoValue:
        ufunc.reduce(np.empty(array.shape, array.dtype), axis=axis, keepdims=keepdims)  # may have no answer
    if where is not True and not fits(where.shape, array.shape):
        raise_like_numpy(np.add, array, where, out=stand_in(array.shape))
    return reduced(name or f"{ufunc.__name__}.reduce", array, axis, keepdims, to, out)


@ufunc_method("accumulate")
def accumulate(
    ufunc: np.ufunc, array: Any, axis: int = 0, dtype: Any = None, out: Any = None, name: str = ""
) -> ShapeArray:
    """Return `ufunc.accumulate(array, axis)`."""
    if isinstance(out, tuple):
        out = out[0]
    kept_axes(array.ndim or 1, axis)  # raises where there is no such axis
    if not array.ndim:
        raise TypeError("cannot accumulate on a scalar")
    options = () if dtype is None else (("dtype", np.dtype(dtype)),)
    to = _reduced_dtype(ufunc, array.dtype, None, options)
    if out is None:
        out = elementwise(array.shape, to, (array,))
    _check_out(ufunc, out)
    report(name or f"{ufunc.__name__}.accumulate", (array,), (out,), array.size)
    return out  # type: ignore[no-any-return]


@ufunc_method("outer")
def outer(ufunc: np.ufunc, a: Any, b: Any, **options: Any) -> Any:
    """Return `ufunc.outer(a, b)`."""
    a, b = (
        np.asanyarray(a) if not hasattr(a, "dtype") else a,
        np.asanyarray(b) if not hasattr(b, "dtype") else b,
    )
    return call(ufunc, a.reshape(*a.shape, *[1] * b.ndim), b, **options)


@lru_cache(maxsize=4096)
def _check_at(ufunc: np.ufunc, kind: np.dtype[Any], values: tuple[Kind, ...]) -> None:
    """Raise NumPy's error if such values can't be put into an array of this dtype."""
    ufunc.at(example(kind, (1,)), [0], *[example(value, (1,)) for value in values])


@ufunc_method("at")
def at(ufunc: np.ufunc, array: Any, indices: Any, values: Any = None) -> None:
    """Do `ufunc.at(array, indices, values)`: reads, changes and writes the chosen entries."""
    _check_out(ufunc, array)
    part = select(array.shape, array.strides, array.dtype.itemsize, indices)
    entries = array.entries(part.shape)
    given = [] if values is None else [as_operand(values)]
    _check_at(ufunc, array.dtype, tuple(map(kind_of, given)))
    arrays = [x for x in given if hasattr(x, "dtype")]
    if not all(fits(x.shape, part.shape) for x in arrays):
        raise ValueError(f"array is not broadcastable to correct shape {part.shape}")
    reads = (entries, *arrays, *getattr(part, "indices", ()))
    report(f"{ufunc.__name__}.at", reads, (entries,), math.prod(part.shape))
