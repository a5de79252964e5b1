"""What goes wrong on arrays without data: values that nobody has, and NumPy's own errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike, NDArray


def no_data(asked: str, instead: str) -> TypeError:
    """Return the error for something that only values could answer."""
    return TypeError(f"{asked}: a ShapeArray has a shape and a dtype, but no data; {instead}")


def not_known(asked: str) -> TypeError:
    """Return the error for an operation that dry runs don't have."""
    return TypeError(
        f"{asked}: dry runs don't know the shape of its result; write it with operations that they know "
        "(arithmetic, reductions, indexing, matmul, concatenate, where, …), or add it to tpsim.dry with "
        "`@implements`"
    )


def stand_in(shape: tuple[int, ...], dtype: DTypeLike = np.int8) -> NDArray[Any]:
    """Return a real array of any shape that takes one entry of memory, for questions to NumPy itself."""
    one = np.zeros((), dtype)
    return as_strided(one, shape, (0,) * len(shape))


def raise_like_numpy(function: Callable[..., Any], *inputs: Any, **options: Any) -> NoReturn:
    """Raise the error that NumPy raises for operands of these shapes and dtypes.

    Only for calls that are known to be wrong: NumPy looks at shapes and dtypes before it touches data, so
    stand-ins of one entry get its own error, type and words.
    """
    function(*_without_data(inputs), **_without_data(options))
    name = getattr(function, "__name__", str(function))
    shapes = [x.shape for x in inputs if hasattr(x, "shape")]
    raise ValueError(f"{name}: operands of shapes {shapes} don't go together; reshape them")


def _without_data(value: Any) -> Any:
    """Put stand-ins in the places of arrays, also within lists, tuples and dicts."""
    if isinstance(value, tuple | list):
        return type(value)(map(_without_data, value))
    if isinstance(value, dict):
        return {key: _without_data(one) for key, one in value.items()}
    if hasattr(value, "storage"):
        return stand_in(value.shape, value.dtype)
    return value
