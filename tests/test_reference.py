"""`tpsim.reference`: gradients against differences, and what must hold of whole layers."""

import math
from typing import Any

import numpy as np
import pytest
from gradcheck import assert_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim import reference
from tpsim.functional import Array

EPS = 0.1  # large enough for the norms to be smooth at the steps that the differences take
ACTIVATIONS = ["gelu", "gelu_tanh", "swiglu"]

Shapes = dict[str, tuple[int, ...]]

seed = st.integers(0, 2**32 - 1)
few = st.integers(1, 3)
lean = settings(deadline=None, max_examples=30)


def draw(seed: int, shapes: Shapes) -> dict[str, Array]:
    """Normal arrays of these shapes, read-only."""
    rng = np.random.default_rng(seed)
    arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


@st.composite
def without_some(draw: st.DrawFn, shapes: Shapes, *optional: str) -> Shapes:
    dropped = {name for name in optional if draw(st.booleans())}
    return {name: shape for name, shape in shapes.items() if name not in dropped}


@st.composite
def mlp_shapes(draw: st.DrawFn, hidden: int, activation: str) -> Shapes:
    ffn = draw(st.integers(1, 5))
    width = 2 * ffn if activation == "swiglu" else ffn
    shapes = {
        "up.weight": (hidden, width),
        "up.bias": (width,),
        "down.weight": (ffn, hidden),
        "down.bias": (hidden,),
    }
    return draw(without_some(shapes, "up.bias", "down.bias"))


@st.composite
def attention_shapes(draw: st.DrawFn, hidden: int, heads: int, kv_heads: int) -> Shapes:
    d = 2 * draw(few)
    width = (heads + 2 * kv_heads) * d
    shapes = {
        "qkv.weight": (hidden, width),
        "qkv.bias": (width,),
        "out.weight": (heads * d, hidden),
        "out.bias": (hidden,),
        "q_norm.weight": (d,),
        "k_norm.weight": (d,),
    }
    return draw(without_some(shapes, "qkv.bias", "out.bias", "q_norm.weight", "k_norm.weight"))


@st.composite
def heads(draw: st.DrawFn) -> dict[str, Any]:
    """Everything about an attention but its parameters."""
    kv_heads = draw(few)
    return {
        "heads": kv_heads * draw(few),
        "kv_heads": kv_heads,
        "causal": draw(st.booleans()),
        "rotary_base": draw(st.sampled_from([None, 50.0, 10_000.0])),
        "eps": EPS,
    }


def assert_backward(
    function: Any, backward: Any, params: dict[str, Array], x: Array, dy: Array, **how: Any
) -> None:
    """Assert that dx and the gradient of every parameter are there and are the derivatives."""
    _, cache = function(params, x, **how)
    dx, grads = backward(params, cache, dy, **how)
    assert grads.keys() == params.keys()

    def forward(**inputs: Array) -> Array:
        x = inputs.pop("x")
        y: Array = function(inputs, x, **how)[0]
        return y

    assert_gradients(forward, {"x": x, **params}, {"x": dx, **grads}, dy, directions=3)


# --- backwards, by differences ------------------------------------------------------------------------------


@lean
@given(few, few, few, st.booleans(), seed)
def test_linear_grad_is_the_derivative(rows: int, n_in: int, n_out: int, biased: bool, seed: int) -> None:
    shapes = {"weight": (n_in, n_out), **({"bias": (n_out,)} if biased else {})}
    params = draw(seed, shapes)
    ends = draw(seed + 1, {"x": (2, rows, n_in), "dy": (2, rows, n_out)})
    assert_backward(reference.linear, reference.linear_grad, params, **ends)


@lean
@given(few, st.integers(1, 6), st.booleans(), seed)
def test_norm_grad_is_the_derivative(rows: int, hidden: int, biased: bool, seed: int) -> None:
    params = draw(seed, {"weight": (hidden,), **({"bias": (hidden,)} if biased else {})})
    ends = draw(seed + 1, {"x": (2, rows, hidden), "dy": (2, rows, hidden)})
    assert_backward(reference.norm, reference.norm_grad, params, **ends, eps=EPS)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@lean
@given(st.data(), few, st.integers(1, 5), seed)
def test_mlp_grad_is_the_derivative(
    activation: str, data: st.DataObject, seq: int, hidden: int, seed: int
) -> None:
    params = draw(seed, data.draw(mlp_shapes(hidden, activation)))
    ends = draw(seed + 1, {"x": (2, seq, hidden), "dy": (2, seq, hidden)})
    assert_backward(reference.mlp, reference.mlp_grad, params, **ends, activation=activation)


@lean
@given(st.data(), heads(), st.integers(1, 4), st.integers(1, 5), seed)
def test_attention_grad_is_the_derivative(
    data: st.DataObject, how: dict[str, Any], seq: int, hidden: int, seed: int
) -> None:
    params = draw(seed, data.draw(attention_shapes(hidden, how["heads"], how["kv_heads"])))
    ends = draw(seed + 1, {"x": (2, seq, hidden), "dy": (2, seq, hidden)})
    assert_backward(reference.attention, reference.attention_grad, params, **ends, **how)


@lean
@given(st.data(), heads(), st.sampled_from(ACTIVATIONS), st.integers(1, 4), st.integers(2, 6), seed)
def test_block_grad_is_the_derivative(
    data: st.DataObject, how: dict[str, Any], activation: str, seq: int, hidden: int, seed: int
) -> None:
    norm_shapes: Shapes = {"weight": (hidden,), "bias": (hidden,)}
    parts = {
        "norm1": data.draw(without_some(norm_shapes, "bias")),
        "attention": data.draw(attention_shapes(hidden, how["heads"], how["kv_heads"])),
        "norm2": data.draw(without_some(norm_shapes, "bias")),
        "mlp": data.draw(mlp_shapes(hidden, activation)),
    }
    params = draw(seed, {f"{part}.{name}": s for part, shapes in parts.items() for name, s in shapes.items()})
    ends = draw(seed + 1, {"x": (2, seq, hidden), "dy": (2, seq, hidden)})
    assert_backward(reference.block, reference.block_grad, params, **ends, **how, activation=activation)


# --- properties ---------------------------------------------------------------------------------------------


def block_params(seed: int, hidden: int, heads: int, kv_heads: int, d: int) -> dict[str, Array]:
    """A Llama-style block."""
    return draw(
        seed,
        {
            "norm1.weight": (hidden,),
            "attention.qkv.weight": (hidden, (heads + 2 * kv_heads) * d),
            "attention.out.weight": (heads * d, hidden),
            "norm2.weight": (hidden,),
            "mlp.up.weight": (hidden, 6),
            "mlp.down.weight": (3, hidden),
        },
    )


@lean
@given(few, few, st.integers(2, 6), st.data(), seed)
def test_causal_block_at_a_position_ignores_what_comes_after(
    kv_heads: int, group: int, seq: int, data: st.DataObject, seed: int
) -> None:
    heads, hidden = kv_heads * group, 4
    params = block_params(seed, hidden, heads, kv_heads, 2)
    x, noise = draw(seed + 1, {"x": (2, seq, hidden), "noise": (2, seq, hidden)}).values()
    cut = data.draw(st.integers(1, seq - 1))
    changed = np.concatenate((x[:, :cut], noise[:, cut:]), axis=1)
    how: dict[str, Any] = {
        "heads": heads,
        "kv_heads": kv_heads,
        "causal": True,
        "activation": "swiglu",
        "rotary_base": 100.0,
        "eps": 1e-6,
    }
    y, y_changed = (reference.block(params, z, **how)[0] for z in (x, changed))
    np.testing.assert_allclose(y_changed[:, :cut], y[:, :cut], rtol=0, atol=1e-12)
    assert np.all(np.max(np.abs(y_changed[:, cut:] - y[:, cut:]), axis=-1) > 1e-6)


@lean
@given(few, st.integers(1, 5), st.integers(2, 5), seed)
def test_attention_without_positions_or_mask_commutes_with_permutations(
    kv_heads: int, seq: int, hidden: int, seed: int
) -> None:
    params = draw(seed, {"qkv.weight": (hidden, 4 * kv_heads * 3), "out.weight": (2 * kv_heads * 3, hidden)})
    (x,) = draw(seed + 1, {"x": (2, seq, hidden)}).values()
    order = np.random.default_rng(seed).permutation(seq)
    how: dict[str, Any] = {"heads": 2 * kv_heads, "kv_heads": kv_heads, "causal": False}
    y, y_permuted = (reference.attention(params, z, **how)[0] for z in (x, x[:, order]))
    np.testing.assert_allclose(y_permuted, y[:, order], rtol=0, atol=1e-11)


def attention_head_by_head(params: dict[str, Array], x: Array, heads: int, kv_heads: int) -> Array:
    """Causal attention of one sequence [seq, h], a loop over heads and positions."""
    seq = x.shape[0]
    d = params["qkv.weight"].shape[1] // (heads + 2 * kv_heads)
    columns = x @ params["qkv.weight"] + params["qkv.bias"]
    blocks = [columns[:, i * d : (i + 1) * d] for i in range(heads + 2 * kv_heads)]
    merged = np.empty((seq, heads * d))
    for head in range(heads):
        group = head * kv_heads // heads
        q, k, v = blocks[head], blocks[heads + group], blocks[heads + kv_heads + group]
        for i in range(seq):
            weights = [math.exp(float(q[i] @ k[j]) / math.sqrt(d)) for j in range(i + 1)]
            merged[i, head * d : (head + 1) * d] = sum(w * v[j] for j, w in enumerate(weights)) / sum(weights)
    return np.asarray(merged @ params["out.weight"] + params["out.bias"])


@lean
@given(few, few, st.integers(1, 5), st.integers(1, 4), st.integers(1, 5), seed)
def test_attention_is_that_of_its_heads_one_by_one(
    kv_heads: int, group: int, seq: int, d: int, hidden: int, seed: int
) -> None:
    heads = kv_heads * group
    width = (heads + 2 * kv_heads) * d
    params = draw(
        seed,
        {
            "qkv.weight": (hidden, width),
            "qkv.bias": (width,),
            "out.weight": (heads * d, hidden),
            "out.bias": (hidden,),
        },
    )
    (x,) = draw(seed + 1, {"x": (2, seq, hidden)}).values()
    y, _ = reference.attention(params, x, heads=heads, kv_heads=kv_heads, causal=True)
    for sequence, expected in zip(y, x, strict=True):
        np.testing.assert_allclose(
            sequence, attention_head_by_head(params, expected, heads, kv_heads), rtol=0, atol=1e-11
        )


@lean
@given(few, few, st.integers(1, 4), seed)
def test_grouped_attention_is_multi_head_attention_with_repeated_keys_and_values(
    kv_heads: int, group: int, seq: int, seed: int
) -> None:
    heads, d, hidden = kv_heads * group, 2, 5
    params = draw(
        seed, {"qkv.weight": (hidden, (heads + 2 * kv_heads) * d), "out.weight": (heads * d, hidden)}
    )
    (x,) = draw(seed + 1, {"x": (2, seq, hidden)}).values()
    columns = params["qkv.weight"].reshape(hidden, heads + 2 * kv_heads, d)
    repeated = np.concatenate((columns[:, :heads], np.repeat(columns[:, heads:], group, axis=1)), axis=1)
    wide = {**params, "qkv.weight": repeated.reshape(hidden, 3 * heads * d)}
    grouped, _ = reference.attention(
        params, x, heads=heads, kv_heads=kv_heads, causal=True, rotary_base=100.0
    )
    multi, _ = reference.attention(wide, x, heads=heads, kv_heads=heads, causal=True, rotary_base=100.0)
    np.testing.assert_allclose(grouped, multi, rtol=0, atol=1e-12)


def test_a_constant_added_to_every_key_changes_nothing() -> None:
    """So the gradient of the key bias is zero, as long as nothing stands between the bias and the scores."""
    params = draw(11, {"qkv.weight": (4, 8 * 3), "qkv.bias": (8 * 3,), "out.weight": (4 * 3, 4)})
    x, dy = draw(12, {"x": (2, 5, 4), "dy": (2, 5, 4)}).values()
    how: dict[str, Any] = {"heads": 4, "kv_heads": 2, "causal": True}
    _, cache = reference.attention(params, x, **how)
    _, grads = reference.attention_grad(params, cache, dy, **how)
    dq_bias, dk_bias, dv_bias = np.split(grads["qkv.bias"], [12, 18])
    np.testing.assert_allclose(dk_bias, 0, atol=1e-12)
    assert np.all(np.abs(dq_bias) > 1e-6)
    assert np.all(np.abs(dv_bias) > 1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_block_whose_last_projections_are_zero_is_the_identity(activation: str) -> None:
    hidden = 4
    params = draw(
        13,
        {
            "norm1.weight": (hidden,),
            "norm1.bias": (hidden,),
            "attention.qkv.weight": (hidden, 12),
            "norm2.weight": (hidden,),
            "mlp.up.weight": (hidden, 6),
        },
    )
    params["attention.out.weight"] = np.zeros((4, hidden))
    params["mlp.down.weight"] = np.zeros((3 if activation == "swiglu" else 6, hidden))
    (x,) = draw(14, {"x": (2, 3, hidden)}).values()
    y, _ = reference.block(params, x, heads=2, kv_heads=2, causal=True, activation=activation, eps=1e-5)
    np.testing.assert_array_equal(y, x)


def test_mlp_refuses_an_unknown_activation() -> None:
    params = draw(15, {"up.weight": (2, 3), "down.weight": (3, 2)})
    with pytest.raises(ValueError, match=r"mlp: activation 'relu' .*; pick 'gelu', 'gelu_tanh' or 'swiglu'"):
        reference.mlp(params, params["up.weight"].T, activation="relu")
