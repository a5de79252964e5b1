"""The oracle: the layers of a transformer unsharded, as plain functions over a dict of whole arrays.

Written apart from `tpsim.nn` and as literally as can be, it imports only `tpsim.functional`. Every forward
returns `(y, cache)`, every backward `(dx, grads)` with a gradient under each name in `params`. (Tokens have
no dx, and the loss no params.)
"""

from tpsim.reference.attention import attention, attention_grad
from tpsim.reference.block import block, block_grad
from tpsim.reference.linear import linear, linear_grad
from tpsim.reference.mlp import mlp, mlp_grad
from tpsim.reference.model import model, model_grad
from tpsim.reference.norm import norm, norm_grad
from tpsim.reference.vocabulary import (
    cross_entropy,
    cross_entropy_grad,
    embedding,
    embedding_grad,
    logits,
    logits_grad,
    positions,
    positions_grad,
)

__all__ = [
    "attention",
    "attention_grad",
    "block",
    "block_grad",
    "cross_entropy",
    "cross_entropy_grad",
    "embedding",
    "embedding_grad",
    "linear",
    "linear_grad",
    "logits",
    "logits_grad",
    "mlp",
    "mlp_grad",
    "model",
    "model_grad",
    "norm",
    "norm_grad",
    "positions",
    "positions_grad",
]
