"""The blocks that are compared, and what counts as their FLOPs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BlockSize:
    """A pre-norm GPT block on [batch, seq, hidden], of float32.

    Parameters
    ----------
    batch, seq, hidden, heads, ffn : int
    """

    batch: int
    seq: int
    hidden: int
    heads: int
    ffn: int

    @property
    def flops(self) -> int:
        """FLOPs of forward and backward: of matrix products alone, and backward twice forward.

        All s × s scores count, also those that the causal mask hides: what computes only half of them
        is credited with the whole.
        """
        tokens = self.batch * self.seq
        weights = 4 * self.hidden**2 + 2 * self.hidden * self.ffn
        return 3 * (2 * tokens * weights + 4 * tokens * self.seq * self.hidden)

    def __str__(self) -> str:
        return f"batch {self.batch}, seq {self.seq}, hidden {self.hidden}, {self.heads} heads, ffn {self.ffn}"


BLOCKS = {
    "small": BlockSize(batch=4, seq=128, hidden=256, heads=8, ffn=1024),
    "big": BlockSize(batch=4, seq=256, hidden=1024, heads=16, ffn=4096),
}
