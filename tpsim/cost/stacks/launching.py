"""From a trace to launches, record by record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from tpsim.cost.stacks.attention import FUSED, UNFUSED
from tpsim.cost.stacks.fused import BIAS_DROPOUT_ADD
from tpsim.cost.stacks.numpy_calls import CALLS, NumpyProgram, one_call
from tpsim.cost.stacks.program import Program
from tpsim.cost.stacks.rows import ROWS, Row, memory_bound
from tpsim.cost.stacks.stack import EAGER, Stack
from tpsim.cost.work import Launch
from tpsim.trace import CollectiveEvent, KernelEvent, Trace

_BEGIN, _KERNEL, _WAIT = range(3)  # what goes first at one place of the order


NEXT_TO_EACH_OTHER: Mapping[str, int] = {}


def launches(
    trace: Trace, stack: Stack = EAGER, *, spread: Mapping[str, int] = NEXT_TO_EACH_OTHER
) -> list[Launch]:
    """Return what a stack launches for a recorded run, in program order.

    A blocking collective is launched where it stands, and the next kernel waits for it; a non-blocking one
    where it was begun, and the first kernel after its completion waits. One that nothing follows is waited
    for by whatever comes next, so `timeline.steady` lets a repetition begin behind it.

    Parameters
    ----------
    trace : Trace
        With `kernels=True`.
    stack : Stack
        Which software runs it.
    spread : mapping
        By a group's name, how many devices its ranks are apart; 1 where it has none.

    Raises
    ------
    ValueError
        If the trace has no kernels.
    """
    if not trace.kernels:
        raise ValueError(
            "launches: the trace has no kernels, so nothing can be priced; record with Trace(kernels=True)"
        )
    table = rows_of(stack)
    program, otherwise = Program(stack, spread), memory_bound
    if stack.runs == "numpy":
        program, otherwise = NumpyProgram(stack, spread), one_call

    def kernel(event: KernelEvent) -> None:
        row = table.get(event.name, otherwise)
        if program.inside_core and event.name not in FUSED:
            return
        program.record(event)
        row(program, event)
        if event.name != "accumulate":
            program.dtype = event.dtype

    act: dict[int, Callable[[Any], None]] = {_BEGIN: program.begin, _KERNEL: kernel, _WAIT: program.wait}
    for _, what, event in _in_order(trace):
        act[what](event)
    return program.launches


@lru_cache
def rows_of(stack: Stack) -> Mapping[str, Row]:
    """Return a stack's table: which function launches what for a record of which name."""
    if stack.runs == "numpy":
        return CALLS
    core = FUSED if stack.attention == "fused" else UNFUSED
    joined = BIAS_DROPOUT_ADD if stack.bias_dropout_add == "fused" else {}
    return {**ROWS, **core, **joined}


def _in_order(trace: Trace) -> list[tuple[int, int, KernelEvent | CollectiveEvent]]:
    """Return the beginnings and ends of collectives, and kernels, in the order of the run."""
    things: list[tuple[int, int, KernelEvent | CollectiveEvent]] = []
    things += [(event.order, _KERNEL, event) for event in trace.kernels]
    things += [(event.begun, _BEGIN, event) for event in trace.collectives]
    things += [(event.order, _WAIT, event) for event in trace.collectives]
    return sorted(things, key=lambda thing: thing[:2])
