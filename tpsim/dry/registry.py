"""Which NumPy functions and ufunc methods arrays without data have, and by what they are computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {}
"""By NumPy's function, such as `np.concatenate`."""

UFUNC_METHODS: dict[str, Callable[..., Any]] = {}
"""By the method's name: "__call__", "reduce", "at", …"""


def implements(*functions: Callable[..., Any]) -> Callable[[Function], Function]:
    """Let a function stand for NumPy's wherever one of the arguments is a ShapeArray.

    Parameters
    ----------
    *functions : callable
        Such as `np.concatenate`, or two that are the same, `np.max` and `np.amax`.
    """

    def register(function: Function) -> Function:
        FUNCTIONS.update(dict.fromkeys(functions, function))
        return function

    return register


def ufunc_method(name: str) -> Callable[[Function], Function]:
    """Let a function stand for a method of all ufuncs, such as "reduce"."""

    def register(function: Function) -> Function:
        UFUNC_METHODS[name] = function
        return function

    return register
