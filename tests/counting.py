"""Arrays that count what is done with them: matrix products, large allocations and large copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

LARGE = 1 << 20  # bytes

_counts: ContextVar[Counter[str] | None] = ContextVar("counts", default=None)


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """Count what the calling rank does with `Counted` arrays: "GEMM", "allocated" and "copied"."""
    counts: Counter[str] = Counter()
    token = _counts.set(counts)
    try:
        yield counts
    finally:
        _counts.reset(token)


def _count(what: str) -> None:
    counts = _counts.get()
    if counts is not None:
        counts[what] += 1


class Counted(np.ndarray[Any, np.dtype[Any]]):
    """An array whose results are `Counted`, too."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **named: Any) -> Any:
        if ufunc is np.matmul and all(x.ndim > 1 and min(x.shape[-2:]) > 1 for x in inputs):
            _count("GEMM")
        out = named.get("out", ())
        if out:
            named["out"] = tuple(_plain(x) for x in out)
        result = getattr(ufunc, method)(*map(_plain, inputs), **named)
        if out and len(out) == 1:
            return out[0]
        return _fresh(result)

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        args, kwargs = _all_plain(args), {name: _all_plain(value) for name, value in kwargs.items()}
        if function is np.copyto and args[0].nbytes >= LARGE:
            _count("copied")
        result = function(*args, **kwargs)
        if function in (np.concatenate, np.stack, np.copy) and result.nbytes >= LARGE:
            _count("copied")
        return _counted(result) if _is_view(result, args) else _fresh(result)

    def copy(self, order: Any = "C") -> Any:
        return self._copied(super().copy(order))

    def astype(self, *args: Any, **kwargs: Any) -> Any:
        return self._copied(super().astype(*args, **kwargs))

    def reshape(self, *args: Any, **kwargs: Any) -> Any:
        return self._copied(super().reshape(*args, **kwargs))

    def ravel(self, *args: Any, **kwargs: Any) -> Any:
        return self._copied(super().ravel(*args, **kwargs))

    def _copied(self, result: Any) -> Any:
        if result.nbytes >= LARGE and not np.may_share_memory(_plain(result), _plain(self)):
            _count("copied")
            _count("allocated")
        return result


def _plain(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, Counted) else x


def _all_plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(map(_all_plain, value))
    return _plain(value)


def _counted(result: Any) -> Any:
    if isinstance(result, np.ndarray):
        return result.view(Counted)
    return type(result)(map(_counted, result)) if isinstance(result, tuple | list) else result


def _fresh(result: Any) -> Any:
    if isinstance(result, np.ndarray) and result.nbytes >= LARGE:
        _count("allocated")
    return _counted(result)


def _is_view(result: Any, args: Any) -> bool:
    """Whether some function only looked at its first array in another way."""
    parts = result if isinstance(result, list | tuple) else [result]
    return bool(args) and all(
        isinstance(part, np.ndarray)
        and isinstance(args[0], np.ndarray)
        and np.may_share_memory(part, args[0])
        for part in parts
    )
