"""What a non-blocking call returns."""

from __future__ import annotations

import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.backend import Pending
from tpsim.comm.call_marker import CallMarker
from tpsim.comm.places import mark
from tpsim.comm.signature import Signature
from tpsim.trace import CollectiveEvent, Scope, Trace, current, current_scope

if TYPE_CHECKING:
    from tpsim.comm.group import Group


class Handle:
    """A call of a group that is under way; `wait` returns its result."""

    __slots__ = (
        "_began",
        "_begun",
        "_call",
        "_error",
        "_group",
        "_join",
        "_marker",
        "_out",
        "_pending",
        "_result",
        "_scope",
        "_shape",
    )

    def __init__(
        self,
        group: Group,
        call: Signature,
        pending: Pending,
        shape: tuple[int, ...],
        join: int | None,
        out: NDArray[Any] | None,
        marker: CallMarker | None,
    ) -> None:
        self._group = group
        self._call = call
        self._pending = pending
        self._shape = shape  # the result's; [ranks, *block] where blocks are joined
        self._join = join  # along which axis
        self._out = out
        self._marker = marker
        self._scope: Scope | None = None
        self._error: Exception | None = None
        self._result: NDArray[Any] | None = None
        self._began = time.perf_counter()
        self._begun: int | None = None  # where in the trace's order

    def start(self) -> Handle:
        """Set the call going, and return at once."""
        self._scope = current_scope()  # its event belongs where it began
        trace = current()
        if trace is not None:
            self._begun = trace.next()
        self._group.begun[self] = (self._call, mark(sys._getframe()))
        if self._marker is not None:
            self._marker.enter(self._call)
        try:
            self._pending.start()
        finally:
            if self._marker is not None:
                self._marker.leave()
        return self

    def test(self) -> bool:
        """Push the call on without waiting; return whether `wait` would return at once.

        Algorithms that are sent message by message go on only in `test` and `wait`: between the pieces
        of a long computation, call it now and then.
        """
        if self._result is not None or self._error is not None:
            return True
        if self._marker is not None:
            self._marker.enter(self._call)
        try:
            return self._pending.test()
        except Exception as error:
            self._error = error
            raise
        finally:
            if self._marker is not None:
                self._marker.leave()

    def wait(self) -> NDArray[Any]:
        """Return the result when it is there."""
        if self._result is None:
            self._result = self._complete()
            trace = current()
            if trace is not None:
                trace.collectives.append(self._event(trace))
        return self._result

    def _complete(self) -> NDArray[Any]:
        marker = self._marker
        if self._scope is not None:
            self._group.begun.pop(self, None)
        if marker is not None:
            marker.enter(self._call)
        try:
            if self._error is not None:
                raise self._error
            copied = self._join is not None or self._out is not None
            result = (self._pending.look() if copied else self._pending.wait()).reshape(self._shape)
        except Exception as error:
            self._error = error  # a second `wait` must not go on from the middle of it
            raise
        finally:
            if marker is not None:
                marker.leave()  # even where it failed: a program that goes on does not hang in it
        if self._join is not None:
            shape = joined_shape(self._shape, self._join)
            result = self._group.joined(result, self._join, shape)
        if self._out is None:
            return result
        np.copyto(self._out, result)
        return self._out

    def _event(self, trace: Trace) -> CollectiveEvent:
        group, call = self._group, self._call
        path, phase = self._scope or current_scope()
        messages, bytes_sent = self._pending.sent()
        order = trace.next()
        return CollectiveEvent(
            call.operation,
            call.algorithm,
            group.name,
            group.size,
            group.rank,
            call.shape or (),
            _name(call.dtype),
            bytes_sent,
            messages,
            self._pending.counted,
            path,
            phase,
            self._began - trace.began,
            time.perf_counter() - self._began,
            order if self._begun is None else self._begun,
            order,
        )


def joined_shape(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Return the shape of [ranks, *block] when it is joined."""
    ranks, *block = shape
    block[axis] *= ranks
    return tuple(block)


@cache
def _name(dtype: np.dtype[Any] | None) -> str:
    return "" if dtype is None else str(dtype)
