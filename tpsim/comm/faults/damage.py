"""A bit that is turned over on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def damaged(x: NDArray[Any], seed: int) -> NDArray[Any]:
    """Return a copy of a contiguous array in which one bit, drawn by `seed`, is another."""
    copy = x.copy()
    octets = copy.reshape(-1).view(np.uint8)
    if octets.size:
        rng = np.random.default_rng(seed)
        octets[rng.integers(octets.size)] ^= np.uint8(1 << rng.integers(8))
    return copy


def damaged_value(value: Any, seed: int) -> Any:
    """Return what a rank brings to a virtual collective, with what it sends damaged.

    Parameters
    ----------
    value : array, bytes, sequence of bytes, or a Part of one of the collectives of `VirtualComm`
        Anything else, which is the machinery's own, stays as it is.
    """
    if isinstance(value, np.ndarray):
        return damaged(value, seed)
    if isinstance(value, bytes):
        return damaged(np.frombuffer(value, np.uint8), seed).tobytes()
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return [damaged_value(value[0], seed), *value[1:]]
    if hasattr(value, "pack"):
        return _DamagedBuffer(value, seed)
    if hasattr(value, "send"):
        value.send = damaged_value(value.send, seed)
    return value


class _DamagedBuffer:
    """A buffer whose first block, or the whole, is read with a bit turned over."""

    def __init__(self, buffer: Any, seed: int) -> None:
        self._buffer = buffer
        self._seed: int | None = seed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._buffer, name)

    def pack(self, *block: Any) -> NDArray[Any]:
        """Return the data."""
        data: NDArray[Any] = self._buffer.pack(*block)
        if self._seed is None or not data.size:
            return data
        seed, self._seed = self._seed, None
        return damaged(data, seed)
