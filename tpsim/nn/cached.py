"""What layers ask of a cache, when the tokens at hand follow on others: text that is being generated.

The cache itself is `tpsim.infer.KVCache`. Layers get one of its `Cached` a layer, and by it learn where
their tokens stand, and what was there before them.
"""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


class Cached(Protocol):
    """The earlier positions of one layer, for a batch of sequences that each go on by as many tokens."""

    @property
    def positions(self) -> slice | Array:
        """Where the new tokens stand: the same place in every sequence, or integers [batch, seq]."""

    @property
    def tables(self) -> tuple[Array, Array]:
        """What `rotary` turns the new queries and keys by."""

    def attend(self, q: Array, k: Array, v: Array, scale: float) -> Array:
        """Keep the new k and v, [b, g, s, d], and return what q, [b, a, s, d], finds in all: [b, a, s, d]."""
