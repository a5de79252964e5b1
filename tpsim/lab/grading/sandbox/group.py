"""`tpsim.comm` as a submission sees it: a group whose collectives the grader carries out.

Takes that package's place in the sandbox. Every call is a message; counts, bytes and sums are the grader's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Group", "Handle"]

Ask = Callable[[dict[str, Any]], Any]
"""Sends a request and returns its answer."""

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all", "send", "recv")
"""Each also in its non-blocking form, `i` + its name."""


class Handle:
    """A call that is under way; `wait` returns its result."""

    def __init__(self, ask: Ask, number: int, out: Any) -> None:
        self.number = number
        self._ask = ask
        self._out = out
        self._result: Any = None
        self._done = False

    def wait(self) -> Any:
        """Return the result when it is there."""
        if not self._done:
            self._result = _put(self._ask({"do": "wait", "handle": self.number}), self._out)
            self._done = True
        return self._result

    def test(self) -> bool:
        """Return whether `wait` would return at once."""
        return self._done or bool(self._ask({"do": "test", "handle": self.number}))


class Group:
    """Ranks that compute together.

    Attributes
    ----------
    rank, size : int
        This rank within the group, and how many ranks there are.
    name, algorithm : str
    """

    all_reduce: Callable[..., Any]
    all_gather: Callable[..., Any]
    reduce_scatter: Callable[..., Any]
    broadcast: Callable[..., Any]
    all_to_all: Callable[..., Any]
    send: Callable[..., Any]
    recv: Callable[..., Any]

    def __init__(self, ask: Ask, number: int, rank: int, size: int, name: str, algorithm: str) -> None:
        self.rank = rank
        self.size = size
        self.name = name
        self.algorithm = algorithm
        self._ask = ask
        self._number = number

    def __repr__(self) -> str:
        return f"Group({self.name!r}, rank {self.rank} of {self.size}, {self.algorithm})"

    def barrier(self) -> None:
        """Return when every rank has called."""
        self._call("barrier", (), {})

    def split(self, color: int, name: str) -> Group:
        """Return the group of the ranks that call with the same `color`, in rank order."""
        group: Group = self._call("split", (color, name), {})
        return group

    def neighbours(self, count: int) -> Group:
        """Return the group of the `count` adjacent ranks that this rank is among."""
        group: Group = self._call("neighbours", (count,), {})
        return group

    def _call(self, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return self._ask(
            {"do": "group", "group": self._number, "method": method, "args": arguments, "kwargs": named}
        )


def _put(result: Any, out: Any) -> Any:
    if out is None:
        return result
    if getattr(out, "shape", None) != result.shape or getattr(out, "dtype", None) != result.dtype:
        raise ValueError(
            f"out is not like the result, which has shape {result.shape}, {result.dtype}; make out an array "
            "like that, or leave it out"
        )
    np.copyto(out, result)
    return out


def _blocking(operation: str) -> Callable[..., Any]:
    def method(self: Group, *arguments: Any, out: Any = None, **named: Any) -> Any:
        return _put(self._call(operation, arguments, named), out)

    method.__name__ = operation
    return method


def _non_blocking(operation: str) -> Callable[..., Handle]:
    def method(self: Group, *arguments: Any, out: Any = None, **named: Any) -> Handle:
        return Handle(self._ask, self._call(operation, arguments, named), out)

    method.__name__ = operation
    return method


for _operation in OPERATIONS:
    setattr(Group, _operation, _blocking(_operation))
    setattr(Group, f"i{_operation}", _non_blocking(f"i{_operation}"))
