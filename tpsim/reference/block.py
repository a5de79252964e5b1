"""A pre-norm transformer block."""

from tpsim.functional import Array
from tpsim.reference.attention import attention, attention_grad
from tpsim.reference.linear import Cache, Grads, Params
from tpsim.reference.mlp import mlp, mlp_grad
from tpsim.reference.norm import norm, norm_grad


def block(
    params: Params,
    x: Array,
    *,
    heads: int,
    kv_heads: int,
    causal: bool,
    activation: str,
    rotary_base: float | None = None,
    eps: float,
) -> tuple[Array, Cache]:
    """`Z = X + attention(norm1(X))`, `Y = Z + mlp(norm2(Z))`.

    `params` holds those of `norm`, `attention` and `mlp` under the prefixes "norm1.", "attention.", "norm2."
    and "mlp."; x and y are `[batch, seq, h]`; eps is that of every norm.
    """
    normed1, norm1_cache = norm(_part(params, "norm1."), x, eps=eps)
    attended, attention_cache = attention(
        _part(params, "attention."),
        normed1,
        heads=heads,
        kv_heads=kv_heads,
        causal=causal,
        rotary_base=rotary_base,
        eps=eps,
    )
    z = x + attended
    normed2, norm2_cache = norm(_part(params, "norm2."), z, eps=eps)
    expanded, mlp_cache = mlp(_part(params, "mlp."), normed2, activation=activation)
    caches = {"norm1": norm1_cache, "attention": attention_cache, "norm2": norm2_cache, "mlp": mlp_cache}
    return z + expanded, caches


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
    eps: float,
) -> tuple[Array, Grads]:
    """Backward of `block`: past a residual, the gradient is the sum of those of its two branches."""
    dnormed2, mlp_grads = mlp_grad(_part(params, "mlp."), cache["mlp"], dy, activation=activation)
    dz_norm2, norm2_grads = norm_grad(_part(params, "norm2."), cache["norm2"], dnormed2, eps=eps)
    dz = dy + dz_norm2
    dnormed1, attention_grads = attention_grad(
        _part(params, "attention."),
        cache["attention"],
        dz,
        heads=heads,
        kv_heads=kv_heads,
        causal=causal,
        rotary_base=rotary_base,
        eps=eps,
    )
    dx_norm1, norm1_grads = norm_grad(_part(params, "norm1."), cache["norm1"], dnormed1, eps=eps)
    parts = {"norm1": norm1_grads, "attention": attention_grads, "norm2": norm2_grads, "mlp": mlp_grads}
    grads = {f"{part}.{name}": grad for part, those in parts.items() for name, grad in those.items()}
    return dz + dx_norm1, grads


def _part(params: Params, prefix: str) -> Params:
    """Those parameters that start with the prefix, under their names without it."""
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
