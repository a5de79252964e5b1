"""16 · Sequence parallelism: keep your own positions, and gather again in backward

Between the tensor-parallel regions of a transformer block, sequence parallelism cuts activations by
positions. The column-parallel linear Y = X A gathers them where it begins::

        rank 0:  X₀ ──┐                ┌── A₀ ──▶ Y₀    X_r  [seq/t, hidden]
                      ├─ all-gather: X ┤                X    [seq, hidden]
        rank 1:  X₁ ──┘                └── A₁ ──▶ Y₁    Y_r  [seq, out/t]

Backward needs X once more, for dA = Xᵀ dY. If every rank keeps the gathered X until then, each holds all
positions after all, and the memory that was to be saved is gone. Megatron-LM keeps X_r, and gathers again:
so all that a block saves is cut by t, and nothing is left whole (Korthikanti et al. 2022, section 4.2).

Contract
--------
forward   x [seq/t, hidden], a [hidden, out/t] → y [seq, out/t], and saved: what backward needs, an array or
          a tuple, list or dict of arrays. saved holds at most seq/t · hidden elements, and a slice counts
          as the whole array that it was cut from. One all-gather of [seq, hidden].
backward  dy [seq, out/t], saved, a → dx [seq/t, hidden], this rank's positions of the sum over ranks,
          and da [hidden, out/t]. One all-gather and one reduce-scatter of [seq, hidden].

Results have the dtype of what you are given; inputs are not changed.

    group.all_gather(v, axis=0)      every rank's v, one after another along axis 0
    group.reduce_scatter(v, axis=0)  this rank's block of the sum of every rank's v

Check it with: tpsim lab check 16
"""

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def forward(x: Array, a: Array, group: Group) -> tuple[Array, Any]:
    """Return y and saved: [seq/t, hidden] → [seq, out/t]."""
    raise NotImplementedError


def backward(dy: Array, saved: Any, a: Array, group: Group) -> tuple[Array, Array]:
    """Return dx and da: [seq, out/t] → [seq/t, hidden] and [hidden, out/t]."""
    raise NotImplementedError
