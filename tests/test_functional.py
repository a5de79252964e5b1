"""`tpsim.functional`: forwards against loops that spell the formula out, backwards against differences."""

import cmath
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gradcheck import assert_gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.mixins import NDArrayOperatorsMixin

from tpsim import functional as F
from tpsim.functional import Array, activations

DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": 5e-6, "float64": 1e-13}
EPS = 0.1  # large enough for the norms to be smooth at the steps that the differences take

size = st.integers(1, 5)
shape = st.lists(size, min_size=1, max_size=3).map(tuple)
leading = st.lists(st.integers(1, 3), max_size=2).map(tuple)
dtype = st.sampled_from(DTYPES)
seed = st.integers(0, 2**32 - 1)
lean = settings(deadline=None, max_examples=60)


def draw(seed: int, *shapes: tuple[int, ...], dtype: str = "float64") -> list[Array]:
    """Normal arrays that raise when something writes to them."""
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    for array in arrays:
        array.flags.writeable = False
    return arrays


def assert_close(actual: Array, expected: Any, dtype: str) -> None:
    assert actual.dtype == dtype
    assert actual.shape == np.shape(expected)
    scale = max(1.0, float(np.max(np.abs(expected))))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE[dtype] * scale)


# --- forwards, from the formula -----------------------------------------------------------------------------


def naive_softmax(x: list[float]) -> list[float]:
    exponentials = [math.exp(v) for v in x]
    return [e / sum(exponentials) for e in exponentials]


@lean
@given(leading, size, size, st.booleans(), dtype, seed)
def test_linear_is_the_sum_over_inputs_plus_bias(
    leading: tuple[int, ...], n_in: int, n_out: int, biased: bool, dtype: str, seed: int
) -> None:
    x, weight, bias = draw(seed, (*leading, n_in), (n_in, n_out), (n_out,), dtype=dtype)
    expected = np.empty((*leading, n_out))
    for at in np.ndindex(*leading):
        for j in range(n_out):
            total = sum(float(x[(*at, i)]) * float(weight[i, j]) for i in range(n_in))
            expected[(*at, j)] = total + (float(bias[j]) if biased else 0.0)
    assert_close(F.linear(x, weight, bias if biased else None), expected, dtype)


ACTIVATIONS: dict[
    str, tuple[Callable[[Array], Array], Callable[[Array, Array], Array], Callable[[float], float]]
]
ACTIVATIONS = {
    "gelu": (F.gelu, F.gelu_grad, lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2)))),
    "gelu_tanh": (
        F.gelu_tanh,
        F.gelu_tanh_grad,
        lambda v: 0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
    ),
    "silu": (F.silu, F.silu_grad, lambda v: v / (1 + math.exp(-v))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@lean
@given(shape, dtype, seed)
def test_activation_is_its_formula(name: str, shape: tuple[int, ...], dtype: str, seed: int) -> None:
    forward, _, formula = ACTIVATIONS[name]
    (x,) = draw(seed, shape, dtype=dtype)
    assert_close(forward(x), np.reshape([formula(float(v)) for v in x.flat], shape), dtype)


@lean
@given(shape, dtype, seed)
def test_swiglu_is_silu_of_the_gate_times_up(shape: tuple[int, ...], dtype: str, seed: int) -> None:
    gate, up = draw(seed, shape, shape, dtype=dtype)
    expected = [
        float(g) / (1 + math.exp(-float(g))) * float(u) for g, u in zip(gate.flat, up.flat, strict=True)
    ]
    assert_close(F.swiglu(gate, up), np.reshape(expected, shape), dtype)


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-15), ("float32", 3e-7)])
def test_erf_agrees_with_the_standard_library_on_a_dense_grid(dtype: str, bound: float) -> None:
    grid = np.concatenate([np.linspace(-7, 7, 100_001), np.logspace(-300, 2, 3_001)]).astype(dtype)
    assert np.max(np.abs(F.erf(grid) - [math.erf(v) for v in grid.tolist()])) <= bound


def test_erf_is_odd_and_reaches_one() -> None:
    x = np.array([0.0, 0.3, 2.0, 30.0, 1e300, np.inf])
    np.testing.assert_array_equal(F.erf(-x), -F.erf(x))
    np.testing.assert_array_equal(F.erf(x[3:]), 1.0)
    assert np.isnan(F.erf(np.array([np.nan])))


def test_erf_is_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    (x,) = draw(0, (7, 9))
    whole = F.erf(x)
    monkeypatch.setattr(activations, "_ERF_BLOCK", 4)
    np.testing.assert_array_equal(F.erf(x), whole)


@lean
@given(shape, dtype, seed)
def test_softmax_is_its_formula_on_each_row(shape: tuple[int, ...], dtype: str, seed: int) -> None:
    (x,) = draw(seed, shape, dtype=dtype)
    expected = np.empty(shape)
    for at in np.ndindex(shape[:-1]):
        expected[at] = naive_softmax(x[at].tolist())
    assert_close(F.softmax(x), expected, dtype)


@lean
@given(leading, size, dtype, seed)
def test_cross_entropy_is_minus_the_log_probability_of_the_target(
    leading: tuple[int, ...], vocabulary: int, dtype: str, seed: int
) -> None:
    (logits,) = draw(seed, (*leading, vocabulary), dtype=dtype)
    targets = np.random.default_rng(seed).integers(vocabulary, size=leading)
    loss, probabilities = F.cross_entropy(logits, targets)
    expected = np.empty((*leading, vocabulary))
    for at in np.ndindex(*leading):
        expected[at] = naive_softmax(logits[at].tolist())
    assert_close(probabilities, expected, dtype)
    assert_close(
        loss,
        np.reshape([-math.log(expected[(*at, targets[at])]) for at in np.ndindex(*leading)], leading),
        dtype,
    )


@lean
@given(leading, size, dtype, seed)
def test_layer_norm_is_its_formula_on_each_row(
    leading: tuple[int, ...], n: int, dtype: str, seed: int
) -> None:
    x, weight, bias = draw(seed, (*leading, n), (n,), (n,), dtype=dtype)
    y, mean, rstd = F.layer_norm(x, weight, bias, EPS)
    expected, means, rstds = np.empty(x.shape), np.empty((*leading, 1)), np.empty((*leading, 1))
    for at in np.ndindex(*leading):
        row = x[at].tolist()
        mu = sum(row) / n
        variance = sum((v - mu) ** 2 for v in row) / n
        expected[at] = [
            (row[i] - mu) / math.sqrt(variance + EPS) * float(weight[i]) + float(bias[i]) for i in range(n)
        ]
        means[at], rstds[at] = mu, 1 / math.sqrt(variance + EPS)
    assert_close(y, expected, dtype)
    assert_close(mean, means, dtype)
    assert_close(rstd, rstds, dtype)


@lean
@given(leading, size, dtype, seed)
def test_rms_norm_is_its_formula_on_each_row(leading: tuple[int, ...], n: int, dtype: str, seed: int) -> None:
    x, weight = draw(seed, (*leading, n), (n,), dtype=dtype)
    y, rstd = F.rms_norm(x, weight, EPS)
    expected, rstds = np.empty(x.shape), np.empty((*leading, 1))
    for at in np.ndindex(*leading):
        row = x[at].tolist()
        rms = math.sqrt(sum(v * v for v in row) / n + EPS)
        expected[at] = [row[i] / rms * float(weight[i]) for i in range(n)]
        rstds[at] = 1 / rms
    assert_close(y, expected, dtype)
    assert_close(rstd, rstds, dtype)


@lean
@given(leading, size, st.integers(1, 4), st.sampled_from([100.0, 10_000.0]), dtype, seed)
def test_rotary_turns_each_pair_as_a_complex_number(
    leading: tuple[int, ...], seq: int, half: int, base: float, dtype: str, seed: int
) -> None:
    (x,) = draw(seed, (*leading, seq, 2 * half), dtype=dtype)
    expected = np.empty(x.shape)
    for *at, p, i in np.ndindex(*leading, seq, half):
        turned = complex(x[(*at, p, i)], x[(*at, p, half + i)]) * cmath.exp(
            1j * p * base ** (-2 * i / (2 * half))
        )
        expected[(*at, p, i)], expected[(*at, p, half + i)] = turned.real, turned.imag
    assert_close(F.rotary(x, *F.rotary_tables(seq, 2 * half, base, like=x)), expected, dtype)


attention_shapes = {
    "batch": st.integers(1, 2),
    "kv_heads": st.integers(1, 3),
    "group": st.integers(1, 3),
    "seq": size,
    "cached": st.integers(0, 3),
    "d": size,
    "causal": st.booleans(),
    "seed": seed,
}


@lean
@given(dtype=dtype, **attention_shapes)
def test_attention_is_its_formula_in_each_head(
    batch: int, kv_heads: int, group: int, seq: int, cached: int, d: int, causal: bool, dtype: str, seed: int
) -> None:
    heads, kv_seq, scale = kv_heads * group, cached + seq, 1 / math.sqrt(d)
    q, k, v = draw(
        seed, (batch, heads, seq, d), (batch, kv_heads, kv_seq, d), (batch, kv_heads, kv_seq, d), dtype=dtype
    )
    expected, expected_p = np.empty(q.shape), np.zeros((batch, heads, seq, kv_seq))
    for b, j, i in np.ndindex(batch, heads, seq):
        keys, values = k[b, j // group].tolist(), v[b, j // group].tolist()
        seen = cached + i + 1 if causal else kv_seq
        query = q[b, j, i].tolist()
        p = naive_softmax([scale * sum(query[c] * keys[m][c] for c in range(d)) for m in range(seen)])
        expected_p[b, j, i, :seen] = p
        expected[b, j, i] = [sum(p[m] * values[m][c] for m in range(seen)) for c in range(d)]
    out, probabilities = F.attention(q, k, v, causal=causal, scale=scale)
    assert_close(out, expected, dtype)
    assert_close(probabilities, expected_p, dtype)
    if causal:
        assert np.all(probabilities[expected_p == 0] == 0)
    for block in (1, 2, 64):
        out, _, _ = F.flash_attention(q, k, v, causal=causal, scale=scale, block=block)
        assert_close(out, expected, dtype)


# --- backwards, by differences ------------------------------------------------------------------------------


@lean
@given(leading, size, size, seed)
def test_linear_grad_is_the_derivative(leading: tuple[int, ...], n_in: int, n_out: int, seed: int) -> None:
    x, weight, bias, dy = draw(seed, (*leading, n_in), (n_in, n_out), (n_out,), (*leading, n_out))
    gradients = F.linear_grad(x, weight, dy)
    inputs = {"x": x, "weight": weight, "bias": bias}
    assert_gradients(F.linear, inputs, dict(zip(inputs, gradients, strict=True)), dy)


def test_linear_grad_is_made_of_its_two_pieces() -> None:
    x, weight, dy = draw(1, (2, 3, 4), (4, 5), (2, 3, 5))
    dx, dweight, dbias = F.linear_grad(x, weight, dy)
    np.testing.assert_array_equal(dx, F.linear_grad_input(weight, dy))
    for whole, piece in zip((dweight, dbias), F.linear_grad_weight(x, dy), strict=True):
        np.testing.assert_array_equal(whole, piece)


@lean
@given(st.integers(1, 4), st.integers(0, 4), size, size, dtype, seed)
def test_a_weight_gradient_adds_up_over_rows(
    rows: int, more: int, n_in: int, n_out: int, dtype: str, seed: int
) -> None:
    x, dy, begun = draw(seed, (rows + more, n_in), (rows + more, n_out), (n_in, n_out), dtype=dtype)
    total = begun.copy()
    for piece in (slice(0, rows), slice(rows, rows + more)):
        assert F.add_linear_grad_weight(x[piece], dy[piece], total) is total
    naive = [[sum(x[r, i] * dy[r, o] for r in range(rows + more)) for o in range(n_out)] for i in range(n_in)]
    assert_close(total, begun + np.array(naive), dtype)


@pytest.mark.parametrize("name", ACTIVATIONS)
@lean
@given(shape, seed, st.sampled_from([0.1, 1.0, 5.0]))
def test_activation_grad_is_the_derivative(
    name: str, shape: tuple[int, ...], seed: int, spread: float
) -> None:
    forward, grad, _ = ACTIVATIONS[name]
    x, dy = draw(seed, shape, shape)
    x = spread * x
    assert_gradients(forward, {"x": x}, {"x": grad(x, dy)}, dy)


@lean
@given(shape, seed)
def test_swiglu_grad_is_the_derivative(shape: tuple[int, ...], seed: int) -> None:
    gate, up, dy = draw(seed, shape, shape, shape)
    dgate, dup = F.swiglu_grad(gate, up, dy)
    assert_gradients(F.swiglu, {"gate": gate, "up": up}, {"gate": dgate, "up": dup}, dy)


@lean
@given(shape, seed)
def test_softmax_grad_is_the_derivative(shape: tuple[int, ...], seed: int) -> None:
    x, dp = draw(seed, shape, shape)
    assert_gradients(F.softmax, {"x": x}, {"x": F.softmax_grad(F.softmax(x), dp)}, dp)


@lean
@given(leading, size, seed)
def test_cross_entropy_grad_is_the_derivative(leading: tuple[int, ...], vocabulary: int, seed: int) -> None:
    logits, dloss = draw(seed, (*leading, vocabulary), leading)
    targets = np.random.default_rng(seed).integers(vocabulary, size=leading)
    _, probabilities = F.cross_entropy(logits, targets)
    dlogits = F.cross_entropy_grad(probabilities, targets, dloss)
    assert_gradients(
        lambda logits: F.cross_entropy(logits, targets)[0], {"logits": logits}, {"logits": dlogits}, dloss
    )


@lean
@given(leading, size, seed)
def test_layer_norm_grad_is_the_derivative(leading: tuple[int, ...], n: int, seed: int) -> None:
    x, weight, bias, dy = draw(seed, (*leading, n), (n,), (n,), (*leading, n))
    _, mean, rstd = F.layer_norm(x, weight, bias, EPS)
    gradients = F.layer_norm_grad(x, weight, mean, rstd, dy)
    inputs = {"x": x, "weight": weight, "bias": bias}
    assert_gradients(
        lambda x, weight, bias: F.layer_norm(x, weight, bias, EPS)[0],
        inputs,
        dict(zip(inputs, gradients, strict=True)),
        dy,
    )


@lean
@given(leading, size, seed)
def test_rms_norm_grad_is_the_derivative(leading: tuple[int, ...], n: int, seed: int) -> None:
    x, weight, dy = draw(seed, (*leading, n), (n,), (*leading, n))
    _, rstd = F.rms_norm(x, weight, EPS)
    dx, dweight = F.rms_norm_grad(x, weight, rstd, dy)
    assert_gradients(
        lambda x, weight: F.rms_norm(x, weight, EPS)[0],
        {"x": x, "weight": weight},
        {"x": dx, "weight": dweight},
        dy,
    )


@lean
@given(leading, size, st.integers(1, 3), seed)
def test_rotary_grad_is_the_derivative(leading: tuple[int, ...], seq: int, half: int, seed: int) -> None:
    x, dy = draw(seed, (*leading, seq, 2 * half), (*leading, seq, 2 * half))
    cos, sin = F.rotary_tables(seq, 2 * half, 100.0, like=x)
    assert_gradients(lambda x: F.rotary(x, cos, sin), {"x": x}, {"x": F.rotary_grad(dy, cos, sin)}, dy)


@lean
@given(**attention_shapes)
def test_attention_grad_is_the_derivative(
    batch: int, kv_heads: int, group: int, seq: int, cached: int, d: int, causal: bool, seed: int
) -> None:
    q, k, v, dout = draw(
        seed,
        (batch, kv_heads * group, seq, d),
        (batch, kv_heads, cached + seq, d),
        (batch, kv_heads, cached + seq, d),
        (batch, kv_heads * group, seq, d),
    )
    _, probabilities = F.attention(q, k, v, causal=causal, scale=0.7)
    gradients = F.attention_grad(q, k, v, probabilities, dout, scale=0.7)
    inputs = {"q": q, "k": k, "v": v}
    assert_gradients(
        lambda q, k, v: F.attention(q, k, v, causal=causal, scale=0.7)[0],
        inputs,
        dict(zip(inputs, gradients, strict=True)),
        dout,
        directions=4,
    )
    for block in (1, 2, 64):
        _, m, total = F.flash_attention(q, k, v, causal=causal, scale=0.7, block=block)
        flash = F.flash_attention_grad(q, k, v, m, total, dout, causal=causal, scale=0.7, block=block)
        assert_gradients(
            lambda q, k, v: F.attention(q, k, v, causal=causal, scale=0.7)[0],
            inputs,
            dict(zip(inputs, flash, strict=True)),
            dout,
            directions=4,
        )


# --- properties ---------------------------------------------------------------------------------------------


@lean
@given(st.integers(1, 4), st.integers(0, 6), st.integers(0, 6), st.integers(1, 6), seed)
def test_rotary_makes_scores_depend_on_the_distance_alone(
    half: int, i: int, j: int, shift: int, seed: int
) -> None:
    q, k = draw(seed, (2 * half,), (2 * half,))
    cos, sin = F.rotary_tables(13, 2 * half, 10_000.0, like=q)
    everywhere_q, everywhere_k = (F.rotary(np.tile(x, (13, 1)), cos, sin) for x in (q, k))
    here = everywhere_q[i] @ everywhere_k[j]
    shifted = everywhere_q[i + shift] @ everywhere_k[j + shift]
    np.testing.assert_allclose(shifted, here, rtol=0, atol=1e-12)


@lean
@given(st.integers(1, 3), st.integers(1, 3), st.integers(2, 6), st.data(), seed)
def test_causal_attention_of_the_last_queries_is_the_end_of_the_whole(
    kv_heads: int, group: int, seq: int, data: st.DataObject, seed: int
) -> None:
    q, k, v = draw(seed, (2, kv_heads * group, seq, 4), (2, kv_heads, seq, 4), (2, kv_heads, seq, 4))
    last = data.draw(st.integers(1, seq))
    whole, _ = F.attention(q, k, v, causal=True, scale=0.5)
    end, _ = F.attention(q[:, :, seq - last :], k, v, causal=True, scale=0.5)
    np.testing.assert_allclose(end, whole[:, :, seq - last :], rtol=0, atol=1e-13)


def test_causal_attention_masks_even_the_largest_score() -> None:
    q = np.array([-1e4, 1e4]).reshape(1, 1, 2, 1)
    _, p = F.attention(q, -q, q, causal=True, scale=1.0)  # the scores are -1e8, and 1e8 where masked
    np.testing.assert_array_equal(p[0, 0, 0], [1.0, 0.0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_inputs_give_finite_results_in_silence(dtype: str) -> None:
    x = np.array([[-1e4, -1.0, 0.0, 1.0, 1e4], [1e4] * 5, [0.0] * 5], dtype)
    dy = np.ones_like(x)
    results = [grad(x, dy) for _, grad, _ in ACTIVATIONS.values()]
    results += [forward(x) for forward, _, _ in ACTIVATIONS.values()]
    results += [F.swiglu(x, x), *F.swiglu_grad(x, x, dy)]
    p = F.softmax(x)
    results += [p, F.softmax_grad(p, x)]
    loss, p = F.cross_entropy(x, np.array([0, 1, 4]))
    results += [loss, F.cross_entropy_grad(p, np.array([0, 1, 4]), dy[:, 0])]
    weight = np.ones_like(x[0])
    y, mean, rstd = F.layer_norm(x, weight, weight, 1e-6)
    results += [y, *F.layer_norm_grad(x, weight, mean, rstd, dy)]
    y, rstd = F.rms_norm(x, weight, 1e-6)
    results += [y, *F.rms_norm_grad(x, weight, rstd, dy)]
    q = x.reshape(1, 1, 3, 5)
    out, p = F.attention(q, q, q, causal=True, scale=1.0)
    results += [out, p, *F.attention_grad(q, q, q, p, out, scale=1.0)]
    for result in results:
        assert result.dtype == dtype
        assert np.all(np.isfinite(result))


def test_activations_far_out_are_zero_or_the_identity() -> None:
    x = np.array([-1e4, 1e4])
    for forward, grad, _ in ACTIVATIONS.values():
        np.testing.assert_array_equal(forward(x), [0.0, 1e4])
        np.testing.assert_array_equal(grad(x, np.ones(2)), [0.0, 1.0])


def test_softmax_gives_minus_infinity_exactly_nothing() -> None:
    p = F.softmax(np.array([[0.0, -np.inf, 3.0, -np.inf]]))
    np.testing.assert_array_equal(p[0, 1::2], 0.0)
    np.testing.assert_allclose(p.sum(), 1.0)


def test_softmax_can_work_in_place() -> None:
    x, dp = draw(2, (3, 4), (3, 4))
    p = F.softmax(x)
    dx = F.softmax_grad(p, dp)
    x, dp = x.copy(), dp.copy()
    assert F.softmax(x, out=x) is x
    assert F.softmax_grad(p, dp, out=dp) is dp
    np.testing.assert_array_equal(x, p)
    np.testing.assert_array_equal(dp, dx)


# --- every function at once ---------------------------------------------------------------------------------


def every_call(dtype: str) -> dict[str, tuple[Callable[..., Any], list[Array]]]:
    """One call of each function on read-only, non-contiguous arrays."""
    gamma, beta = draw(3, (4,), (4,), dtype=dtype)
    x, y, dy = (a.swapaxes(0, 1) for a in draw(4, (3, 2, 4), (3, 2, 4), (3, 2, 4), dtype=dtype))  # [2, 3, 4]
    q, dout = (a.swapaxes(1, 2) for a in draw(5, (2, 3, 4, 6), (2, 3, 4, 6), dtype=dtype))  # [2, 4, 3, 6]
    k, v = (a.swapaxes(1, 2) for a in draw(6, (2, 3, 2, 6), (2, 3, 2, 6), dtype=dtype))  # [2, 2, 3, 6]
    weight, dz = draw(7, (5, 4), (2, 3, 5), dtype=dtype)
    targets = np.array([[0, 3, 1], [2, 2, 0]])
    tables = F.rotary_tables(3, 6, 100.0, like=q)
    _, mean, rstd = F.layer_norm(x, gamma, beta, EPS)
    _, probabilities = F.attention(q, k, v, causal=True, scale=0.5)
    _, *rows = F.flash_attention(q, k, v, causal=True, scale=0.5)

    # the scalars are NumPy's, which promote float32 to float64 where nobody takes care

    def layer_norm(x: Array, weight: Array, bias: Array) -> Any:
        return F.layer_norm(x, weight, bias, np.float64(EPS))

    def rms_norm(x: Array, weight: Array) -> Any:
        return F.rms_norm(x, weight, np.float64(EPS))

    def attend(q: Array, k: Array, v: Array) -> Any:
        return F.attention(q, k, v, causal=True, scale=np.float64(0.5))

    def attend_grad(*arrays: Array) -> Any:
        return F.attention_grad(*arrays, scale=np.float64(0.5))

    def flash(*arrays: Array) -> Any:
        return F.flash_attention(*arrays, causal=True, scale=np.float64(0.5), block=2)

    def flash_grad(*arrays: Array) -> Any:
        return F.flash_attention_grad(*arrays, causal=True, scale=np.float64(0.5), block=2)

    return {
        "linear": (F.linear, [x, weight.T, dz[0, 0]]),
        "linear_grad": (F.linear_grad, [x, weight.T, dz]),
        "erf": (F.erf, [x]),
        "gelu": (F.gelu, [x]),
        "gelu_grad": (F.gelu_grad, [x, dy]),
        "gelu_tanh": (F.gelu_tanh, [x]),
        "gelu_tanh_grad": (F.gelu_tanh_grad, [x, dy]),
        "silu": (F.silu, [x]),
        "silu_grad": (F.silu_grad, [x, dy]),
        "swiglu": (F.swiglu, [x, y]),
        "swiglu_grad": (F.swiglu_grad, [x, y, dy]),
        "softmax": (F.softmax, [x]),
        "softmax_grad": (F.softmax_grad, [x, dy]),
        "cross_entropy": (F.cross_entropy, [x, targets]),
        "cross_entropy_grad": (F.cross_entropy_grad, [x, targets, dy[..., 0]]),
        "layer_norm": (layer_norm, [x, gamma, beta]),
        "layer_norm_grad": (F.layer_norm_grad, [x, gamma, mean, rstd, dy]),
        "rms_norm": (rms_norm, [x, gamma]),
        "rms_norm_grad": (F.rms_norm_grad, [x, gamma, rstd, dy]),
        "rotary_tables": (lambda like: F.rotary_tables(3, 6, 100.0, like=like), [x]),
        "rotary": (F.rotary, [q, *tables]),
        "rotary_grad": (F.rotary_grad, [dout, *tables]),
        "attention": (attend, [q, k, v]),
        "attention_grad": (attend_grad, [q, k, v, probabilities, dout]),
        "flash_attention": (flash, [q, k, v]),
        "flash_attention_grad": (flash_grad, [q, k, v, *rows, dout]),
    }


def results_of(call: Callable[..., Any], arguments: list[Any]) -> list[Any]:
    result = call(*arguments)
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", every_call("float64"))
def test_result_has_the_dtype_of_the_inputs_and_shares_no_memory_with_them(name: str, dtype: str) -> None:
    call, arguments = every_call(dtype)[name]
    for result in results_of(call, arguments):
        assert result.dtype == dtype
        assert not any(np.shares_memory(result, argument) for argument in arguments)


@pytest.mark.parametrize("name", every_call("float64"))
def test_memory_order_of_the_inputs_makes_no_difference(name: str) -> None:
    call, arguments = every_call("float64")[name]
    ordered = [np.ascontiguousarray(argument) for argument in arguments]
    for result, expected in zip(results_of(call, arguments), results_of(call, ordered), strict=True):
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-13)


class OpaqueArray(NDArrayOperatorsMixin):
    """An array that only NumPy's protocols reach: it refuses to be turned into a real one."""

    def __init__(self, array: Array) -> None:
        self._array = array

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    size = property(lambda self: self._array.size)

    def _method(self, name: str, *args: Any) -> "OpaqueArray":
        return OpaqueArray(getattr(self._array, name)(*args))

    T = property(lambda self: self._method("transpose"))

    def reshape(self, *shape: Any) -> "OpaqueArray":
        return self._method("reshape", *shape)

    def swapaxes(self, a: int, b: int) -> "OpaqueArray":
        return self._method("swapaxes", a, b)

    def astype(self, dtype: Any) -> "OpaqueArray":
        return self._method("astype", dtype)

    def __getitem__(self, index: Any) -> "OpaqueArray":
        return self._method("__getitem__", index)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[key] = opened(value)

    def __array__(self, *_: Any, **__: Any) -> Array:
        raise TypeError("an opaque array cannot become a real one")

    def __bool__(self) -> bool:
        raise TypeError("an opaque array has no truth value")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (), **kwargs: Any) -> Any:
        if out:
            kwargs["out"] = tuple(opened(o) for o in out)
        return closed(getattr(ufunc, method)(*opened(inputs), **kwargs))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in (np.arange, np.array):  # called with like=, which NumPy takes away before it dispatches
            return closed(func(*args, **kwargs))
        return closed(func(*opened(args), **{name: opened(value) for name, value in kwargs.items()}))


def opened(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(opened(v) for v in value)
    return value._array if isinstance(value, OpaqueArray) else value


def closed(value: Any) -> Any:
    return OpaqueArray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", every_call("float64"))
def test_function_needs_no_more_of_an_array_than_numpys_protocols(name: str, dtype: str) -> None:
    call, arguments = every_call(dtype)[name]
    rounding = 8 * np.finfo(dtype).eps
    opaque = results_of(call, [OpaqueArray(argument) for argument in arguments])
    for result, expected in zip(opaque, results_of(call, arguments), strict=True):
        assert isinstance(result, OpaqueArray)  # and summed plainly, where BLAS sums arrays in another order
        np.testing.assert_allclose(result._array, expected, rtol=0, atol=rounding * np.max(np.abs(expected)))


# --- errors -------------------------------------------------------------------------------------------------


def test_rotary_refuses_an_odd_head_size() -> None:
    (x,) = draw(8, (3, 5))
    with pytest.raises(ValueError, match=r"rotary_tables: head_size 5 is odd, .*; pick an even head_size"):
        F.rotary_tables(3, 5, 10_000.0, like=x)
    with pytest.raises(ValueError, match=r"rotary: head_size 5 is odd, .*; pick an even head_size"):
        F.rotary(x, x[:, :2], x[:, :2])


def test_attention_refuses_heads_that_kv_heads_do_not_divide() -> None:
    q, k = draw(9, (1, 4, 2, 3), (1, 3, 2, 3))
    with pytest.raises(ValueError, match=r"attention: 4 query heads cannot share 3 .*; pick .* such as 6"):
        F.attention(q, k, k, causal=False, scale=1.0)


def test_causal_attention_refuses_more_queries_than_keys() -> None:
    q, k = draw(10, (1, 1, 3, 2), (1, 1, 2, 2))
    with pytest.raises(ValueError, match=r"attention: 3 causal queries against 2 keys, .*; pass at least"):
        F.attention(q, k, k, causal=True, scale=1.0)
