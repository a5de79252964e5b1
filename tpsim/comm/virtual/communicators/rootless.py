"""Communicators that are made from no other: what names them."""

from __future__ import annotations

from collections import Counter
from typing import Any
from weakref import WeakKeyDictionary

from tpsim.comm.virtual.current import current_rank
from tpsim.comm.virtual.world import World

_made: WeakKeyDictionary[World, Counter[Any]] = WeakKeyDictionary()  # by (rank, call, what)


def rootless_key(call: str, what: Any) -> tuple[World, Any]:
    """Return the world of the rank that calls, and a key that the others of the same call get, too."""
    world, rank = current_rank(call)
    with world.lock:
        made = _made.setdefault(world, Counter())
        made[rank, call, what] += 1
        return world, (call, what, made[rank, call, what])
