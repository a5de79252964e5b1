"""`MPI.pickle`: how the lower-case methods turn objects into bytes. A program may change it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import Any

from tpsim.comm.virtual.data.memory import buffer

_THRESHOLD = 1 << 18  # bytes; mpi4py's


class Pickle:
    """Two functions that turn an object into bytes and back.

    Parameters
    ----------
    dumps, loads : callable, optional
        By default, those of the module `pickle`.
    protocol : int, optional
        Given to `dumps`; by default the highest, or nothing where `dumps` is another's.
    threshold : int, optional
        From how many bytes on `dumps_oob` leaves memory out of the pickle.
    """

    def __init__(
        self,
        dumps: Callable[..., bytes] | None = None,
        loads: Callable[..., Any] | None = None,
        protocol: int | None = None,
        threshold: int | None = None,
    ) -> None:
        self._dumps = pickle.dumps if dumps is None else dumps
        self._loads = pickle.loads if loads is None else loads
        self.PROTOCOL = protocol
        self.THRESHOLD = threshold

    @property
    def PROTOCOL(self) -> int | None:
        """The version of the format."""
        return self._protocol

    @PROTOCOL.setter
    def PROTOCOL(self, protocol: int | None) -> None:
        own = self._dumps is pickle.dumps
        self._protocol = pickle.HIGHEST_PROTOCOL if protocol is None and own else protocol

    @property
    def THRESHOLD(self) -> int:
        """From how many bytes on memory is left out of the pickle."""
        return self._threshold

    @THRESHOLD.setter
    def THRESHOLD(self, threshold: int | None) -> None:
        self._threshold = _THRESHOLD if threshold is None else threshold

    def dumps(self, obj: Any) -> bytes:
        """Turn an object into bytes."""
        return self._dumps(obj) if self._protocol is None else self._dumps(obj, self._protocol)

    def loads(self, data: Any) -> Any:
        """Turn bytes into an object."""
        return self._loads(data)

    def dumps_oob(self, obj: Any) -> tuple[bytes, list[buffer]]:
        """Turn an object into bytes, and the large pieces of memory that it refers to."""
        buffers: list[buffer] = []

        def keep(piece: Any) -> bool:
            raw = piece.raw()
            if raw.nbytes < self._threshold:
                return True
            buffers.append(buffer.frombuffer(raw, readonly=True))
            return False

        protocol = pickle.HIGHEST_PROTOCOL if self._protocol is None else max(self._protocol, 5)
        return self._dumps(obj, protocol, buffer_callback=keep), buffers

    def loads_oob(self, data: Any, buffers: Iterable[Any]) -> Any:
        """Turn what `dumps_oob` returned into an object again."""
        return self._loads(data, buffers=buffers)
