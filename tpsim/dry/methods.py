"""Methods of arrays that are the same as one of NumPy's functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tpsim.dry.registry import FUNCTIONS


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method that is the same as one of NumPy's functions."""

    def method(self: Any, *inputs: Any, **options: Any) -> Any:
        return FUNCTIONS[function](self, *inputs, **options)

    method.__name__, method.__doc__ = function.__name__, f"See `numpy.{function.__name__}`."
    return method


class NumPyMethods:
    """`x.sum(axis=0)` for `np.sum(x, axis=0)`, and so on."""

    __slots__ = ()

    sum = _method(np.sum)
    prod = _method(np.prod)
    mean = _method(np.mean)
    var = _method(np.var)
    std = _method(np.std)
    max = _method(np.max)
    min = _method(np.min)
    any = _method(np.any)
    all = _method(np.all)
    argmax = _method(np.argmax)
    argmin = _method(np.argmin)
    argsort = _method(np.argsort)
    cumsum = _method(np.cumsum)
    cumprod = _method(np.cumprod)
    clip = _method(np.clip)
    round = _method(np.round)
    take = _method(np.take)
    repeat = _method(np.repeat)
    dot = _method(np.dot)
    nonzero = _method(np.nonzero)
    squeeze = _method(np.squeeze)
