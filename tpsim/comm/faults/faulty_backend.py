"""Collectives in which faults strike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tpsim.comm.backend import Array, Backend, Pending
from tpsim.comm.faults.striking import RankFaults
from tpsim.comm.signature import Signature


class FaultyBackend(Backend):
    """Another backend, whose calls are counted, late, damaged, lost, or never made."""

    def __init__(self, backend: Backend, faults: RankFaults) -> None:
        self._backend = backend
        self._faults = faults
        self.counted = backend.counted

    def _call(
        self, begin: Callable[[Signature, Array], Pending], call: Signature, x: Array | None = None
    ) -> Pending:
        fault = self._faults.count("collective", call)
        if fault is not None and fault.kind == "drop":
            return _Lost(self._faults, f"{call}, of which nothing arrives, as fault {str(fault)!r} asks for")
        self._backend.damage = fault.seed if fault else None
        return begin(call, np.empty(0) if x is None else x)

    def all_reduce(self, call: Signature, x: Array) -> Pending:
        """Reduce."""
        return self._call(self._backend.all_reduce, call, x)

    def reduce_scatter(self, call: Signature, x: Array) -> Pending:
        """Reduce and cut."""
        return self._call(self._backend.reduce_scatter, call, x)

    def all_gather(self, call: Signature, x: Array) -> Pending:
        """Gather."""
        return self._call(self._backend.all_gather, call, x)

    def broadcast(self, call: Signature, x: Array) -> Pending:
        """Broadcast."""
        return self._call(self._backend.broadcast, call, x)

    def all_to_all(self, call: Signature, x: Array) -> Pending:
        """Exchange blocks."""
        return self._call(self._backend.all_to_all, call, x)

    def barrier(self, call: Signature) -> Pending:
        """Wait for everybody."""
        return self._call(lambda call, _: self._backend.barrier(call), call)


class _Lost(Pending):
    """A collective of which nothing that this rank sends arrives: it waits for the others without end."""

    def __init__(self, faults: RankFaults, why: str) -> None:
        self._faults = faults
        self._why = why

    def start(self) -> None:
        """Send what is lost."""

    def wait(self) -> Array:
        """Wait for ever."""
        self._faults.stay(self._why)

    def test(self) -> bool:
        """Wait for ever, too: who asks again and again gets nowhere either."""
        self._faults.stay(self._why)

    def sent(self) -> tuple[int, int]:
        """Return nothing."""
        return 0, 0
