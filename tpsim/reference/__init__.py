"""The oracle: the layers of a transformer unsharded, as plain functions over a dict of whole arrays.

Written apart from `tpsim.nn` and as literally as can be, it imports only `tpsim.functional`. Every forward
returns `(y, cache)`, every backward `(dx, grads)` with a gradient under each name in `params`.
"""

from tpsim.reference.attention import attention, attention_grad
from tpsim.reference.block import block, block_grad
from tpsim.reference.linear import linear, linear_grad
from tpsim.reference.mlp import mlp, mlp_grad
from tpsim.reference.norm import norm, norm_grad

__all__ = [
    "attention",
    "attention_grad",
    "block",
    "block_grad",
    "linear",
    "linear_grad",
    "mlp",
    "mlp_grad",
    "norm",
    "norm_grad",
]
