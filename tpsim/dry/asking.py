"""Questions about arrays: shapes and dtypes have answers, values none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tpsim.dry.errors import no_data
from tpsim.dry.registry import implements
from tpsim.dry.shape_array import ShapeArray


@implements(np.shape)
def shape(a: ShapeArray) -> tuple[int, ...]:
    """See `numpy.shape`."""
    return a.shape


@implements(np.ndim)
def ndim(a: ShapeArray) -> int:
    """See `numpy.ndim`."""
    return a.ndim


@implements(np.size)
def size(a: ShapeArray, axis: int | None = None) -> int:
    """See `numpy.size`."""
    return a.size if axis is None else a.shape[axis]


def _dtype_of(x: Any) -> Any:
    return x.dtype if isinstance(x, ShapeArray) else x


@implements(np.result_type)
def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """See `numpy.result_type`."""
    return np.result_type(*map(_dtype_of, arrays_and_dtypes))


@implements(np.can_cast)
def can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    """See `numpy.can_cast`."""
    return np.can_cast(_dtype_of(from_), _dtype_of(to), casting)


@implements(np.iscomplexobj)
def iscomplexobj(x: ShapeArray) -> bool:
    """See `numpy.iscomplexobj`."""
    return x.dtype.kind == "c"


@implements(np.isrealobj)
def isrealobj(x: ShapeArray) -> bool:
    """See `numpy.isrealobj`."""
    return x.dtype.kind != "c"


@implements(np.may_share_memory, np.shares_memory)
def may_share_memory(a: Any, b: Any, /, max_work: Any = None) -> bool:
    """See `numpy.may_share_memory`: whether the bytes from the first to the last entry overlap."""
    if not (isinstance(a, ShapeArray) and isinstance(b, ShapeArray)):
        return False
    (of_a, start_a, stop_a), (of_b, start_b, stop_b) = a.memory(), b.memory()
    return of_a is of_b and start_a < stop_b and start_b < stop_a


def _refuse(function: Callable[..., Any]) -> None:
    def refuse(*inputs: Any, **options: Any) -> Any:
        raise no_data(f"np.{function.__name__}", "compare shapes and dtypes, or run with real arrays")

    implements(function)(refuse)


for _compares_values in (np.allclose, np.array_equal, np.array_equiv):
    _refuse(_compares_values)
