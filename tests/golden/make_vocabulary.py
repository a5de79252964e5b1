"""Make `vocabulary.npz`: embeddings and cross-entropies by PyTorch, for `tests/test_vocabulary.py`.

The file is committed. Run this only to add a case, in an environment of its own; see `make_golden.py`.
All is float64. PyTorch smooths by σ over all V words, tpsim by α over the others: σ = αV/(V − 1).
"""
# mypy: disable-error-code="import-not-found"

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as tf

V, IGNORED = 11, -100
golden: dict[str, Any] = {}


def store(case: str, **tensors: Any) -> None:
    for name, tensor in tensors.items():
        golden[f"{case}/{name}"] = np.asarray(tensor.detach() if isinstance(tensor, torch.Tensor) else tensor)


def cross_entropy(case: str, *, alpha: float = 0.0, z_loss: float = 0.0, scale: float = 3.0) -> None:
    """Each token's loss, with gradients for a random dloss, and the mean over valid tokens, with its own."""
    logits = (scale * torch.randn(2, 4, V)).requires_grad_()
    targets = torch.randint(V, (2, 4))
    targets[0, 1] = targets[1, 3] = IGNORED
    dloss = torch.randn(2, 4)

    def loss_of(reduction: str) -> Any:
        return tf.cross_entropy(
            logits.flatten(0, 1),
            targets.flatten(),
            ignore_index=IGNORED,
            label_smoothing=alpha * V / (V - 1),
            reduction=reduction,
        )

    z = z_loss * torch.logsumexp(logits, dim=-1) ** 2 * (targets != IGNORED)
    loss = loss_of("none").reshape(2, 4) + z
    (dlogits,) = torch.autograd.grad(loss, logits, dloss, retain_graph=True)  # z is in both
    mean = loss_of("mean") + z.sum() / (targets != IGNORED).sum()
    (mean_dlogits,) = torch.autograd.grad(mean, logits)
    store(case, logits=logits, targets=targets, dloss=dloss, loss=loss, dlogits=dlogits)
    store(case, mean=mean, mean_dlogits=mean_dlogits, label_smoothing=alpha, z_loss=z_loss)


def ends(case: str) -> None:
    """Embedding, positions and a tied output layer, with words that occur twice."""
    table = torch.randn(V, 4).requires_grad_()
    positions = torch.randn(6, 4).requires_grad_()
    tokens = torch.tensor([[3, 10, 3, 0], [3, 7, 7, 1]])
    targets = torch.tensor([[10, 3, 0, 5], [7, 7, 1, 2]])
    dloss = torch.randn(2, 4)
    x = tf.embedding(tokens, table) + positions[:4]
    loss = tf.cross_entropy((x @ table.T).flatten(0, 1), targets.flatten(), reduction="none").reshape(2, 4)
    dtable, dpositions = torch.autograd.grad(loss, (table, positions), dloss)
    store(case, tokens=tokens, targets=targets, table=table, positions=positions, loss=loss, dloss=dloss)
    store(case, dtable=dtable, dpositions=dpositions)


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(20250101)
    cross_entropy("plain")
    cross_entropy("smoothed", alpha=0.1)
    cross_entropy("z_loss", z_loss=0.01)
    cross_entropy("both", alpha=0.3, z_loss=0.001)
    cross_entropy("thousandfold", scale=1000.0)
    ends("tied")
    np.savez_compressed(Path(__file__).with_name("vocabulary.npz"), **golden)
