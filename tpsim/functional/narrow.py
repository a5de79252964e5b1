"""Narrow storage, wide arithmetic: bfloat16 and float16 lie in memory and travel, float32 computes."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import ml_dtypes  # from here on NumPy knows the name "bfloat16", too
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])


NARROW = frozenset({np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)})
"""Two-byte floats: arrays lie in memory and travel so, and are computed with in float32."""


def widen(x: Array) -> Array:
    """Return x in float32 if it is narrow, else x itself."""
    return x.astype(np.float32) if x.dtype in NARROW else x


def _widen_array(x: Any) -> Any:
    """`widen` for what may be no array: a None, a number."""
    return widen(x) if hasattr(x, "dtype") else x


def in_float32(*, narrow: int | None = None) -> Callable[[Function], Function]:
    """Let a function read narrow floats, compute in float32, and round its results once, at the end.

    So does a fused GPU kernel: its registers and the accumulators of its matrix products are float32, its
    operands and results in memory bfloat16 or float16. The first argument tells; where it is float32 or
    float64, the function runs as it is.

    Parameters
    ----------
    narrow : int, optional
        How many results, from the first on, are rounded; all by default. Others stay float32: statistics of
        norms, and gradients of weights, which go on being summed.

    References
    ----------
    Micikevicius et al. 2018, "Mixed Precision Training", section 3.3.
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def wide(*inputs: Any, **named: Any) -> Any:
            dtype = (inputs[0] if inputs else next(iter(named.values()))).dtype
            if dtype not in NARROW:
                return function(*inputs, **named)
            out = named.pop("out", None)
            results = function(*map(_widen_array, inputs), **{k: _widen_array(x) for k, x in named.items()})
            if isinstance(results, tuple):
                count = len(results) if narrow is None else narrow
                return (*(result.astype(dtype) for result in results[:count]), *results[count:])
            if narrow == 0:
                return results
            if out is None:
                return results.astype(dtype)
            out[...] = results
            return out

        return wide  # type: ignore[return-value]  # same signature

    return decorate
