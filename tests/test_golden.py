"""`tpsim.functional` and `tpsim.reference` against values by PyTorch (golden/make_golden.py)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpsim import functional as F
from tpsim import reference
from tpsim.functional import Array

GOLDEN: dict[str, Array] = dict(np.load(Path(__file__).parent / "golden" / "functional.npz"))


def assert_close(actual: Array, expected: Array, what: str) -> None:
    assert actual.shape == expected.shape, what
    assert actual.dtype == np.float64, what
    tolerance = 1e-12 * max(1.0, float(np.max(np.abs(expected))))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance, err_msg=what)


def stored(case: str, kind: str) -> dict[str, Array]:
    """All that is stored under `case/kind/`."""
    prefix = f"{case}/{kind}/"
    return {key.removeprefix(prefix): value for key, value in GOLDEN.items() if key.startswith(prefix)}


Result = tuple[Array, dict[str, Array]]  # y, gradients


def gelu(dy: Array, x: Array) -> Result:
    return F.gelu(x), {"x": F.gelu_grad(x, dy)}


def gelu_tanh(dy: Array, x: Array) -> Result:
    return F.gelu_tanh(x), {"x": F.gelu_tanh_grad(x, dy)}


def silu(dy: Array, x: Array) -> Result:
    return F.silu(x), {"x": F.silu_grad(x, dy)}


def swiglu(dy: Array, gate: Array, up: Array) -> Result:
    dgate, dup = F.swiglu_grad(gate, up, dy)
    return F.swiglu(gate, up), {"gate": dgate, "up": dup}


def softmax(dy: Array, x: Array) -> Result:
    p = F.softmax(x)
    return p, {"x": F.softmax_grad(p, dy)}


def layer_norm(dy: Array, x: Array, weight: Array, bias: Array) -> Result:
    y, mean, rstd = F.layer_norm(x, weight, bias, 1e-5)
    dx, dweight, dbias = F.layer_norm_grad(x, weight, mean, rstd, dy)
    return y, {"x": dx, "weight": dweight, "bias": dbias}


def rms_norm(dy: Array, x: Array, weight: Array) -> Result:
    y, rstd = F.rms_norm(x, weight, 1e-6)
    dx, dweight = F.rms_norm_grad(x, weight, rstd, dy)
    return y, {"x": dx, "weight": dweight}


def rotary(dy: Array, x: Array) -> Result:
    cos, sin = F.rotary_tables(x.shape[-2], x.shape[-1], 10_000.0, like=x)
    return F.rotary(x, cos, sin), {"x": F.rotary_grad(dy, cos, sin)}


def attention(dy: Array, q: Array, k: Array, v: Array, *, causal: bool = False) -> Result:
    scale = q.shape[-1] ** -0.5
    out, probabilities = F.attention(q, k, v, causal=causal, scale=scale)
    dq, dk, dv = F.attention_grad(q, k, v, probabilities, dy, scale=scale)
    return out, {"q": dq, "k": dk, "v": dv}


def attention_causal(dy: Array, q: Array, k: Array, v: Array) -> Result:
    return attention(dy, q, k, v, causal=True)


def cross_entropy(dy: Array, logits: Array, targets: Array) -> Result:
    loss, probabilities = F.cross_entropy(logits, targets)
    return loss, {"logits": F.cross_entropy_grad(probabilities, targets, dy)}


FUNCTIONS: list[Callable[..., Result]] = [
    gelu,
    gelu_tanh,
    silu,
    swiglu,
    softmax,
    layer_norm,
    rms_norm,
    rotary,
    attention,
    attention_causal,
    cross_entropy,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_functional_agrees_with_pytorch(function: Callable[..., Result]) -> None:
    case = function.__name__
    y, gradients = function(GOLDEN[f"{case}/dy"], **stored(case, "in"))
    expected = stored(case, "grad")
    assert_close(y, GOLDEN[f"{case}/out"], "y")
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert_close(gradient, expected[name], f"d{name}")


BLOCKS: dict[str, dict[str, Any]] = {
    "gpt_gelu": {"heads": 2, "kv_heads": 2, "activation": "gelu"},
    "gpt2": {"heads": 2, "kv_heads": 2, "activation": "gelu_tanh"},
    "llama": {"heads": 4, "kv_heads": 2, "activation": "swiglu", "rotary_base": 500_000.0},
    "qwen": {
        "heads": 4,
        "kv_heads": 2,
        "activation": "swiglu",
        "rotary_base": 500_000.0,
    },  # with q and k norms
}


@pytest.mark.parametrize("case", BLOCKS)
def test_reference_block_agrees_with_pytorch(case: str) -> None:
    how = {**BLOCKS[case], "causal": True, "eps": 1e-5}
    params, expected = stored(case, "in"), stored(case, "grad")
    x, dx_expected = params.pop("x"), expected.pop("x")
    y, cache = reference.block(params, x, **how)
    dx, grads = reference.block_grad(params, cache, GOLDEN[f"{case}/dy"], **how)
    assert_close(y, GOLDEN[f"{case}/out"], "y")
    assert_close(dx, dx_expected, "dx")
    assert grads.keys() == expected.keys()
    for name, grad in grads.items():
        assert_close(grad, expected[name], f"d{name}")


def test_every_golden_case_is_compared() -> None:
    assert {key.split("/")[0] for key in GOLDEN} == {f.__name__ for f in FUNCTIONS} | BLOCKS.keys()
