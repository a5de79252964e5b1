"""A pre-norm transformer block."""

from collections.abc import Mapping

from tpsim.functional import Array, RotaryScaling
from tpsim.reference.attention import attention, attention_grad, drop
from tpsim.reference.linear import Cache, Grads, Params
from tpsim.reference.mlp import mlp, mlp_grad
from tpsim.reference.norm import norm, norm_grad

NO_MASKS: Mapping[str, Array] = {}


def block(
    params: Params,
    x: Array,
    *,
    heads: int,
    kv_heads: int,
    causal: bool,
    activation: str,
    rotary_base: float | None = None,
    rotary_scaling: RotaryScaling | None = None,
    eps: float,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    masks: Mapping[str, Array] = NO_MASKS,
) -> tuple[Array, Cache]:
    """`Z = X + drop(attention(norm1(X)))`, `Y = Z + drop(mlp(norm2(Z)))`.

    `params` holds those of `norm`, `attention` and `mlp` under the prefixes "norm1.", "attention.", "norm2."
    and "mlp."; x and y are `[batch, seq, h]`; eps is that of every norm.
    `masks` holds booleans, which entries are kept: "dropout1" and "dropout2" `[batch, seq, h]` for what the
    two branches add, at the rate `dropout`, and "attention.dropout" `[batch, heads, seq, seq]` for the
    probabilities, at the rate `attention_dropout`. Without a mask nothing is dropped.
    """
    normed1, norm1_cache = norm(_part(params, "norm1."), x, eps=eps)
    attended, attention_cache = attention(
        _part(params, "attention."),
        normed1,
        heads=heads,
        kv_heads=kv_heads,
        causal=causal,
        rotary_base=rotary_base,
        rotary_scaling=rotary_scaling,
        eps=eps,
        dropout=attention_dropout,
        keep=masks.get("attention.dropout"),
    )
    z = x + drop(attended, masks.get("dropout1"), dropout)
    normed2, norm2_cache = norm(_part(params, "norm2."), z, eps=eps)
    expanded, mlp_cache = mlp(_part(params, "mlp."), normed2, activation=activation)
    caches = {"norm1": norm1_cache, "attention": attention_cache, "norm2": norm2_cache, "mlp": mlp_cache}
    return z + drop(expanded, masks.get("dropout2"), dropout), caches


def block_grad(
    params: Params,
    cache: Cache,
    dy: Array,
    *,
    heads: int,
    kv_heads: int,
    causal: bool,
    activation: str,
    rotary_base: float | None = None,
    rotary_scaling: RotaryScaling | None = None,
    eps: float,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    masks: Mapping[str, Array] = NO_MASKS,
) -> tuple[Array, Grads]:
    """Backward of `block`: past a residual, the gradient is the sum of those of its two branches."""
    dexpanded = drop(dy, masks.get("dropout2"), dropout)
    dnormed2, mlp_grads = mlp_grad(_part(params, "mlp."), cache["mlp"], dexpanded, activation=activation)
    dz_norm2, norm2_grads = norm_grad(_part(params, "norm2."), cache["norm2"], dnormed2, eps=eps)
    dz = dy + dz_norm2
    dnormed1, attention_grads = attention_grad(
        _part(params, "attention."),
        cache["attention"],
        drop(dz, masks.get("dropout1"), dropout),
        heads=heads,
        kv_heads=kv_heads,
        causal=causal,
        rotary_base=rotary_base,
        rotary_scaling=rotary_scaling,
        eps=eps,
        dropout=attention_dropout,
        keep=masks.get("attention.dropout"),
    )
    dx_norm1, norm1_grads = norm_grad(_part(params, "norm1."), cache["norm1"], dnormed1, eps=eps)
    parts = {"norm1": norm1_grads, "attention": attention_grads, "norm2": norm2_grads, "mlp": mlp_grads}
    grads = {f"{part}.{name}": grad for part, those in parts.items() for name, grad in those.items()}
    return dz + dx_norm1, grads


def _part(params: Params, prefix: str) -> Params:
    """Those parameters that start with the prefix, under their names without it."""
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
