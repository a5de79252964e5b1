"""What a training step of a fixed model does, counted: speed can't be tested, the work it takes can.

A number that goes up says what a change costs; one that goes down is to be written here.
"""

from typing import Any

import numpy as np
import pytest
from counting import Counted, counting

from tpsim import run
from tpsim.comm import Mesh
from tpsim.models import LanguageModel, ModelConfig
from tpsim.train import AdamW, train_step

LAYERS = 2
CONFIG = ModelConfig(
    name="counted", layers=LAYERS, hidden=512, heads=8, kv_heads=8, head_size=64, ffn=2048, vocab=512,
    max_seq=128, norm="layer", activation="gelu_tanh", bias=True, positions="learned", tied=False,
)  # fmt: skip
# Of float32, 4 × 128 tokens: the residual stream has 1 MiB, so it is "large", and so is every weight


def on_rank(comm: Any) -> dict[str, int]:
    mesh = Mesh(comm, comm.size)
    model = LanguageModel(CONFIG, mesh.tp, rng=np.random.default_rng(0))
    for parameter in model.parameters().values():
        parameter.data = parameter.data.view(Counted)
    optimizer = AdamW(model)
    windows = np.random.default_rng(1).integers(0, CONFIG.vocab, (4, 129))
    for step in range(2):
        with counting() as counts:
            train_step(model, optimizer, mesh, windows, range(4), lr=1e-3, seed=0, step=step)
    return dict(counts)


def test_every_matrix_product_is_computed_once() -> None:
    """A block has 6: qkv, scores, values, out, up, down; the head 1; the backward of each has 2."""
    for ranks in (1, 2):
        for counts in run(on_rank, ranks):
            assert counts["GEMM"] == 3 * (6 * LAYERS + 1)


@pytest.mark.parametrize(("ranks", "allocated", "copied"), [(1, 125, 22), (2, 176, 24)])
def test_large_arrays_of_a_step(ranks: int, allocated: int, copied: int) -> None:
    """Summed over ranks: whoever comes last to a collective computes it for all."""
    everybodys = run(on_rank, ranks)
    assert sum(counts["allocated"] for counts in everybodys) == allocated
    assert sum(counts["copied"] for counts in everybodys) == copied
