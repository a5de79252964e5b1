"""A single linear, and the types and helper that all of `tpsim.reference` shares."""

from collections.abc import Mapping
from typing import Any

from tpsim import functional as F
from tpsim.functional import Array

Params = Mapping[str, Array]
Grads = dict[str, Array]
Cache = dict[str, Any]


def linear(params: Params, x: Array) -> tuple[Array, Cache]:
    """Affine map `[..., in]` → `[..., out]` by "weight" `[in, out]` and, if there, "bias" `[out]`."""
    return F.linear(x, params["weight"], params.get("bias")), {"x": x}


def linear_grad(params: Params, cache: Cache, dy: Array) -> tuple[Array, Grads]:
    """Backward of `linear`."""
    dx, dweight, dbias = F.linear_grad(cache["x"], params["weight"], dy)
    return dx, only_of(params, {"weight": dweight, "bias": dbias})


def only_of(params: Params, grads: Grads) -> Grads:
    """Drop the gradients of parameters that the model does not have, such as optional biases."""
    return {name: grads[name] for name in params}
