"""Products other than `@`, each as the matrix product that it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tpsim.dry.errors import no_data, not_known, raise_like_numpy
from tpsim.dry.recording import report
from tpsim.dry.registry import implements
from tpsim.dry.shape_array import ShapeArray, new
from tpsim.dry.ufuncs import call


@lru_cache(maxsize=4096)
def _dtype_of(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    return np.asarray(np.dot(np.ones(1, a), np.ones(1, b))).dtype


def _contract(name: str, a: Any, b: Any, of_a: Sequence[int], of_b: Sequence[int]) -> ShapeArray:
    """Sum over pairs of axes, one of each array."""
    if [a.shape[axis] for axis in of_a] != [b.shape[axis] for axis in of_b]:
        raise ValueError(
            f"{name}: shapes {a.shape} and {b.shape} don't agree along axes {tuple(of_a)} and {tuple(of_b)}; "
            "make these equally long"
        )
    kept = [n for axis, n in enumerate(a.shape) if axis not in of_a]
    kept += [n for axis, n in enumerate(b.shape) if axis not in of_b]
    result = new(tuple(kept), _dtype_of(a.dtype, b.dtype))
    report(name, (a, b), (result,), 2 * result.size * math.prod(a.shape[axis] for axis in of_a))
    return result


def _scaled(name: str, a: Any, b: Any) -> ShapeArray:
    """Multiply an array by a 0-d one."""
    result = new((*a.shape, *b.shape), _dtype_of(a.dtype, b.dtype))
    report(name, (a, b), (result,), result.size)
    return result


@implements(np.dot)
def dot(a: Any, b: Any, out: Any = None) -> Any:
    """See `numpy.dot`."""
    if out is not None:
        raise not_known("np.dot with out=")
    if 0 in (a.ndim, b.ndim):
        return _scaled("dot", a, b)
    return _contract("dot", a, b, [a.ndim - 1], [max(b.ndim - 2, 0)])


@implements(np.inner)
def inner(a: Any, b: Any, /) -> Any:
    """See `numpy.inner`."""
    if 0 in (a.ndim, b.ndim):
        return _scaled("inner", a, b)
    return _contract("inner", a, b, [a.ndim - 1], [b.ndim - 1])


@implements(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Any:
    """See `numpy.outer`."""
    return call(np.multiply, a.reshape(-1, 1), b.reshape(-1), name="outer", out=() if out is None else (out,))


@implements(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> ShapeArray:
    """See `numpy.tensordot`."""
    if isinstance(axes, int):
        axes = range(-axes, 0), range(axes)
    of_a, of_b = (one if np.ndim(one) else (one,) for one in axes)
    return _contract(
        "tensordot", a, b, [range(a.ndim)[axis] for axis in of_a], [range(b.ndim)[axis] for axis in of_b]
    )


@implements(np.einsum)
def einsum(subscripts: str, *operands: Any, out: Any = None, **options: Any) -> ShapeArray:
    """See `numpy.einsum`, with subscripts written out: no ellipsis."""
    if not isinstance(subscripts, str) or "." in subscripts:
        raise no_data(
            f"np.einsum({subscripts!r})",
            "and dry runs read plain letters only: write every axis as a letter, such as 'bij,bjk->bik'",
        )
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        right = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        if len(term) != operand.ndim:
            raise_like_numpy(np.einsum, subscripts, *operands)
        for letter, n in zip(term, operand.shape, strict=True):
            if n != 1 and sizes.get(letter, 1) not in (1, n):
                raise_like_numpy(np.einsum, subscripts, *operands)
            sizes[letter] = max(n, sizes.get(letter, n)) if n else n
    unknown = set(right) - set(sizes)
    if unknown or len(set(right)) < len(right):
        raise_like_numpy(np.einsum, subscripts, *operands)
    shape = tuple(sizes[letter] for letter in right)
    dtype = np.result_type(*[operand.dtype for operand in operands])
    result: ShapeArray = new(shape, dtype) if out is None else out
    flops = math.prod(sizes.values()) * len(operands)
    report("einsum", operands, (result,), flops)
    return result
