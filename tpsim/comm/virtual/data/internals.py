"""What mpi4py's own Python modules (`mpi4py.util.pkl5`, `mpi4py.futures`) ask of communicators."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from tpsim.comm.virtual.data.constants import TAG_UB_VALUE


@dataclass
class _Extras:
    """What hangs on one rank's end of a communicator."""

    locks: dict[Hashable, Any] = field(default_factory=dict)
    tags: count[int] = field(default_factory=count)
    twin: Any = None
    local: Any = None

    @classmethod
    def of(cls, comm: Any) -> _Extras:
        """Return what hangs on `comm`."""
        with _guard:
            return _extras.setdefault(comm._held(), cls())


_extras: WeakKeyDictionary[Any, _Extras] = WeakKeyDictionary()
_guard = threading.Lock()


def _comm_lock_table(comm: Any) -> dict[Hashable, Any]:
    """Return the locks of a communicator, by their keys."""
    return _Extras.of(comm).locks


def _comm_lock(comm: Any, key: Hashable | None = None) -> Any:
    """Return the lock of a communicator that has a key: the same one each time."""
    return _comm_lock_table(comm).setdefault(key, threading.Lock())


def _commctx_intra(comm: Any) -> tuple[Any, int]:
    """Return a duplicate of an intracommunicator, the same one each time, and a tag not used of late.

    All ranks ask for it in the same order.
    """
    extras = _Extras.of(comm)
    if extras.twin is None:
        extras.twin = comm.Dup()
    return extras.twin, next(extras.tags) % TAG_UB_VALUE


def _commctx_inter(comm: Any) -> tuple[Any, int, Any, bool]:
    """Return such a duplicate of an intercommunicator and a tag; its local group; whether that is first."""
    extras = _Extras.of(comm)
    first = comm._held().side == 0
    if extras.local is None:
        together = comm.Merge(not first)
        extras.local = together.Split(0 if first else 1)
        together.Free()
    return *_commctx_intra(comm), extras.local, first
