"""The MLP of a transformer block: up to the ffn size, an activation, down again."""

import numpy as np

from tpsim import functional as F
from tpsim.functional import Array
from tpsim.reference.linear import Cache, Grads, Params, only_of


def mlp(params: Params, x: Array, *, activation: str) -> tuple[Array, Cache]:
    """`Y = activation(X A) B`, or for swiglu `Y = (silu(X A_gate) · X A_up) B`.

    Parameters
    ----------
    params : Params
        "up.weight" `[h, f]` and "up.bias" `[f]`, for swiglu `[h, 2f]` and `[2f]`: the gate's half, then
        the up half; "down.weight" `[f, h]` and "down.bias" `[h]`. The biases are optional.
    x : Array
        `[..., h]`.
    activation : str
        "gelu", "gelu_tanh" or "swiglu".

    Returns
    -------
    y : Array
        `[..., h]`.
    cache : Cache
        For `mlp_grad`.
    """
    if activation == "gelu":
        up = F.linear(x, params["up.weight"], params.get("up.bias"))
        hidden = F.gelu(up)
        cache = {"x": x, "up": up, "hidden": hidden}
    elif activation == "gelu_tanh":
        up = F.linear(x, params["up.weight"], params.get("up.bias"))
        hidden = F.gelu_tanh(up)
        cache = {"x": x, "up": up, "hidden": hidden}
    elif activation == "swiglu":
        gate_weight, up_weight, gate_bias, up_bias = _cut_gate_up(params)
        gate = F.linear(x, gate_weight, gate_bias)
        up = F.linear(x, up_weight, up_bias)
        hidden = F.swiglu(gate, up)
        cache = {"x": x, "gate": gate, "up": up, "hidden": hidden}
    else:
        raise ValueError(
            f"mlp: activation {activation!r} is not one this MLP knows; pick 'gelu', 'gelu_tanh' or 'swiglu'"
        )
    return F.linear(hidden, params["down.weight"], params.get("down.bias")), cache


def mlp_grad(params: Params, cache: Cache, dy: Array, *, activation: str) -> tuple[Array, Grads]:
    """Backward of `mlp`."""
    x, up = cache["x"], cache["up"]
    grads: Grads = {}
    dhidden, grads["down.weight"], grads["down.bias"] = F.linear_grad(
        cache["hidden"], params["down.weight"], dy
    )
    if activation == "swiglu":
        gate_weight, up_weight, _, _ = _cut_gate_up(params)
        dgate, dup = F.swiglu_grad(cache["gate"], up, dhidden)
        dx_gate, dgate_weight, dgate_bias = F.linear_grad(x, gate_weight, dgate)
        dx_up, dup_weight, dup_bias = F.linear_grad(x, up_weight, dup)
        dx = dx_gate + dx_up
        grads["up.weight"] = np.concatenate((dgate_weight, dup_weight), axis=1)
        grads["up.bias"] = np.concatenate((dgate_bias, dup_bias))
    else:
        dup = F.gelu_grad(up, dhidden) if activation == "gelu" else F.gelu_tanh_grad(up, dhidden)
        dx, grads["up.weight"], grads["up.bias"] = F.linear_grad(x, params["up.weight"], dup)
    return dx, only_of(params, grads)


def _cut_gate_up(params: Params) -> tuple[Array, Array, Array | None, Array | None]:
    gate_weight, up_weight = np.split(params["up.weight"], 2, axis=1)
    if "up.bias" in params:
        gate_bias, up_bias = np.split(params["up.bias"], 2)
        return gate_weight, up_weight, gate_bias, up_bias
    return gate_weight, up_weight, None, None
