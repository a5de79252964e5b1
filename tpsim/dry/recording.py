"""What arithmetic goes into the trace: marked kernels, and in a dry run every operation outside of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import Any, TypeVar

import numpy as np

from tpsim.trace import KernelEvent, Trace, current, current_scope

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


_PRODUCTS = frozenset({"matmul", "dot", "tensordot", "einsum"})


class _Work:
    """FLOPs of the operations inside a mark, and of the matrix products among them."""

    __slots__ = ("flops", "matmul_flops")

    def __init__(self) -> None:
        self.flops = self.matmul_flops = 0

    def add(self, name: str, flops: int) -> None:
        self.flops += flops
        if name in _PRODUCTS:
            self.matmul_flops += flops


_under_way: ContextVar[_Work | None] = ContextVar("tpsim_kernel", default=None)


def kernel(function: Kernel) -> Kernel:
    """Mark a function as what a GPU would run as one kernel: one event, whatever it does inside.

    Its operands are read once and its results written once; temporaries stay in registers. Of nested
    marks the outermost counts. In a dry run the operations inside add up its FLOPs; in a real run, where
    arrays don't tell, a dry run of the same function does.
    """
    name = function.__name__

    @wraps(function)
    def marked(*inputs: Any, **named: Any) -> Any:
        trace = current()
        if trace is None or not trace.records_kernels or _under_way.get() is not None:
            return function(*inputs, **named)
        began = time.perf_counter()
        results, work = _run(function, inputs, named)
        seconds = time.perf_counter() - began
        reads = list(_arrays([*inputs, *(value for key, value in named.items() if key != "out")]))
        event = _event(trace, name, reads, list(_arrays([results])))
        event.options = {key: value for key, value in named.items() if not _is_array(value)}
        if not any(hasattr(array, "memory") for array in reads):  # a real run
            event.start, event.seconds = began - trace.began, seconds
            work = _work_of(function, tuple(map(_shaped, inputs)), _frozen(named))
        event.flops, event.matmul_flops = work.flops, work.matmul_flops
        trace.kernels.append(event)
        return results

    return marked  # type: ignore[return-value]  # same signature


def report(name: str, reads: Sequence[Any], writes: Sequence[Any], flops: int) -> None:
    """Take note of one operation on shapes: part of the mark that it stands in, or a kernel of its own."""
    work = _under_way.get()
    if work is not None:
        work.add(name, flops)
        return
    trace = current()
    if trace is not None and trace.records_kernels:
        event = _event(trace, name, reads, writes)
        event.flops, event.matmul_flops = flops, flops if name in _PRODUCTS else 0
        trace.kernels.append(event)


def _run(function: Callable[..., Any], inputs: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, _Work]:
    """Return the function's results, and what the operations on shapes inside it add up to."""
    work = _Work()
    token = _under_way.set(work)
    try:
        results = function(*inputs, **named)
    finally:
        _under_way.reset(token)
    return results, work


def _event(trace: Trace, name: str, reads: Sequence[Any], writes: Sequence[Any]) -> KernelEvent:
    path, phase = current_scope()
    first = (*reads, *writes)[0]
    return KernelEvent(
        name,
        tuple(array.shape for array in reads),
        tuple(array.shape for array in writes),
        first.dtype.name,
        0,
        sum(array.nbytes for array in reads),
        sum(array.nbytes for array in writes),
        path,
        phase,
        trace.next(),
    )


# --- the FLOPs of a real run's kernels ----------------------------------------------------------------------


class _Shaped:
    """An argument's shape and dtype, to stand for it in a cache."""

    def __init__(self, array: Any) -> None:
        self.key = array.shape, array.dtype

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shaped) and self.key == other.key


def _shaped(value: Any) -> Any:
    """Return a value as a cache takes it: shapes for arrays, tuples for lists. A scalar's value stays."""
    if isinstance(value, tuple | list):
        return tuple(map(_shaped, value))
    return _Shaped(value) if _is_array(value) and not isinstance(value, np.generic) else value


def _frozen(named: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((key, _shaped(value)) for key, value in named.items() if key != "out")


@lru_cache(maxsize=4096)
def _work_of(
    function: Callable[..., Any], inputs: tuple[Any, ...], named: tuple[tuple[str, Any], ...]
) -> _Work:
    """Return what a dry run of the function adds up to."""
    from tpsim.dry.shape_array import ShapeArray

    def without_data(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(without_data, value))
        return ShapeArray(*value.key) if isinstance(value, _Shaped) else value

    arrays = [without_data(value) for value in inputs]
    return _run(function, arrays, {key: without_data(value) for key, value in named})[1]


def _arrays(values: Iterable[Any]) -> Iterator[Any]:
    """Yield the arrays among values and in their tuples."""
    for value in values:
        if _is_array(value):
            yield value
        elif isinstance(value, tuple | list):
            yield from _arrays(value)


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "nbytes")
