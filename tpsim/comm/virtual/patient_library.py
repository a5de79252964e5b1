"""Waits of the standard library that hand over: a rank in `thread.join()` must not stop all others.

Under lockstep all ranks share a thread. A rank that waits in it for a thread of its own, which waits for
a message of another rank, would wait for ever. So while ranks run in lockstep, `Thread.join` and
`Condition.wait` (on which events, queues, barriers, semaphores and futures stand) let other ranks run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tpsim.comm.places import Mark
from tpsim.comm.virtual import current
from tpsim.comm.virtual.completion import Completion

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World

Lane = tuple["World", int]
_join = threading.Thread.join
_wait = threading.Condition.wait

_AT_FIRST = 0.005  # seconds: most waits are over by then, and the order of ranks stays as it is
_AT_A_TIME = 0.0002

_lock = threading.Lock()
_users = 0


class ForThread(Completion):
    """What a rank waits for that waits in the standard library. It asks again and again."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def describe(self, rank: int, world: World) -> str:
        """Say what the rank waits for."""
        return self._what

    def begun(self, rank: int) -> Mark:
        """Return no line."""
        return ()


@contextmanager
def patient_library() -> Iterator[None]:
    """Let the standard library's waits hand over to other ranks, inside."""
    global _users
    with _lock:
        _users += 1
        threading.Thread.join = _patient_join  # type: ignore[method-assign]
        threading.Condition.wait = _patient_wait  # type: ignore[method-assign]
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                threading.Thread.join = _join  # type: ignore[method-assign]
                threading.Condition.wait = _wait  # type: ignore[method-assign]


def _patient_join(self: threading.Thread, timeout: float | None = None) -> None:
    """`Thread.join` of a rank in lockstep."""
    lane = _my_lane()
    if lane is None or self is threading.current_thread():
        _join(self, timeout)
        return

    def ended(seconds: float) -> bool:
        _join(self, seconds)
        return not self.is_alive()

    _until(ended, timeout, lane, f"join(thread {self.name!r})")


def _patient_wait(self: threading.Condition, timeout: float | None = None) -> bool:
    """`Condition.wait` of a rank in lockstep."""
    lane = _my_lane()
    if lane is None:
        return _wait(self, timeout)
    condition: Any = self
    if not condition._is_owned():
        raise RuntimeError("cannot wait on un-acquired lock")
    waiter = threading.Lock()
    waiter.acquire()
    condition._waiters.append(waiter)
    saved = condition._release_save()
    notified = False
    try:
        notified = _until(
            lambda seconds: waiter.acquire(timeout=seconds), timeout, lane, "what another thread does"
        )
        return notified
    finally:
        condition._acquire_restore(saved)
        if not notified and waiter in condition._waiters:
            condition._waiters.remove(waiter)


def _my_lane() -> Lane | None:
    """Return the rank that runs, if it shares its thread with others."""
    here = current.rank.get()
    if here is None:
        return None
    world, rank = here
    return None if not world.shares_thread or world.stopping or world.is_aside(rank) else (world, rank)


def _until(happened: Callable[[float], bool], timeout: float | None, lane: Lane, what: str) -> bool:
    """Let other ranks run until `happened(seconds)`, which itself waits as long; return whether it did."""
    end = None if timeout is None else time.monotonic() + max(timeout, 0.0)
    if happened(_AT_FIRST if end is None else min(_AT_FIRST, max(timeout or 0.0, 0.0))):
        return True
    world, rank = lane
    asked = ForThread(what)
    while end is None or time.monotonic() < end:
        world.poll(rank, asked)
        if happened(_AT_A_TIME if world.alone() else 0.0):
            return True
    return False
