"""Optimizers, clipping and the schedule: the papers' formulas, entry by entry, however a model is cut."""

import math
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tpsim import Group, models, nn, run
from tpsim.comm import solo
from tpsim.functional import Array
from tpsim.models import LanguageModel, ModelConfig
from tpsim.nn import Layer, Parameter
from tpsim.nn.parameter import replicated, zeros
from tpsim.train import SGD, AdamW, Optimizer, clip, global_norm, warmup_cosine

GPT = models.gpt("gpt", 2, 16, 8, vocab=21, max_seq=8)
LLAMA = models.llama("llama", 2, 16, 8, kv_heads=2, ffn=24, vocab=21, max_seq=8, qk_norm=True)
START = np.array([[1.0, -2.0], [0.5, 3.0]])


class OneWeight(Layer):
    """A layer that is nothing but a weight."""

    def __init__(self, whole: Array, dtype: Any = np.float64) -> None:
        piece = replicated(len(whole), solo())
        self.weight = Parameter(whole.shape, 0, [piece], zeros, np.random.default_rng(0), dtype)
        self.weight.data = whole.astype(dtype)


def gradient(step: int) -> Array:
    return np.array([[0.1, -0.2], [3.0, 1e-3]]) * float((step + 1) * (-1) ** (step // 2))


def after_four_steps(optimizer: Optimizer, layer: OneWeight) -> Array:
    for step in range(4):
        layer.weight.grad = gradient(step).reshape(layer.weight.data.shape)
        optimizer.step(0.05)
    return layer.weight.data


@pytest.mark.parametrize("matrix", [True, False])
def test_adamw_is_its_formula(matrix: bool) -> None:
    layer = OneWeight(START if matrix else START.ravel())
    weights = after_four_steps(AdamW(layer, (0.9, 0.95), 1e-8, 0.1), layer).ravel()
    for i, w in enumerate(START.ravel()):
        m = v = 0.0
        for step in range(4):
            g = gradient(step).ravel()[i]
            m = 0.9 * m + 0.1 * g
            v = 0.95 * v + 0.05 * g * g
            decay = 0.05 * 0.1 * w if matrix else 0.0
            w = (
                w
                - decay
                - 0.05 * (m / (1 - 0.9 ** (step + 1))) / (math.sqrt(v / (1 - 0.95 ** (step + 1))) + 1e-8)
            )
        assert weights[i] == pytest.approx(w, rel=1e-13)


def test_optimizers_have_pytorchs_values() -> None:
    # torch.optim 2.13, the same weights, gradients and options.
    layer = OneWeight(START)
    expected = [0.9093601190887841, -1.889509616241812, 0.4192853620638038, 2.8696598077829787]
    np.testing.assert_allclose(after_four_steps(AdamW(layer), layer).ravel(), expected, rtol=1e-13)
    layer = OneWeight(START)
    expected = [1.004205, -2.00841, 0.6261500000000001, 3.0000420500000002]
    np.testing.assert_allclose(after_four_steps(SGD(layer, 0.9), layer).ravel(), expected, rtol=1e-13)


def test_sgd_without_momentum_follows_the_gradient_and_remembers_nothing() -> None:
    layer = OneWeight(START)
    optimizer = SGD(layer)
    expected = START - 0.05 * sum(gradient(step) for step in range(4))
    np.testing.assert_allclose(after_four_steps(optimizer, layer), expected, rtol=1e-13)
    assert optimizer.state() == {}


@pytest.mark.parametrize("make", [AdamW, lambda layer: SGD(layer, 0.9)])
def test_a_loaded_state_goes_on_bit_for_bit(make: Any) -> None:
    one = OneWeight(START)
    optimizer = make(one)
    after_four_steps(optimizer, one)
    other = OneWeight(one.weight.data)
    resumed = make(other)
    resumed.steps = optimizer.steps
    resumed.load_state(optimizer.state())
    np.testing.assert_array_equal(after_four_steps(optimizer, one), after_four_steps(resumed, other))


def test_another_models_state_is_refused() -> None:
    with pytest.raises(ValueError, match=r"AdamW.load_state: this state of \['m'\] is of another model"):
        AdamW(OneWeight(START)).load_state({"m": {"weight": START}})


def test_steps_that_bfloat16_cannot_hold_add_up_in_the_master() -> None:
    layer = OneWeight(np.full((1, 1), 1.0), ml_dtypes.bfloat16)
    optimizer = SGD(layer)
    for _ in range(100):
        layer.weight.grad = np.full((1, 1), 1e-3, ml_dtypes.bfloat16)
        optimizer.step(1.0)  # each step is far below the spacing of bfloat16 at 1, 2^-8
    assert float(layer.weight.data[0, 0]) == pytest.approx(0.9, abs=2**-8)
    assert optimizer.state()["master"]["weight"].dtype == np.float32


def test_float32_weights_are_their_own_masters() -> None:
    layer = OneWeight(START, np.float32)
    optimizer = AdamW(layer)
    kept = layer.weight.data
    after_four_steps(optimizer, layer)
    assert set(optimizer.state()) == {"m", "v"}
    assert layer.weight.data is kept  # in place


# --- the norm of what is cut --------------------------------------------------------------------------------


def with_gradients(config: ModelConfig, group: Group, sp: bool) -> LanguageModel:
    """A step's gradients: real ones, so that padding and shares are as they would be."""
    model = LanguageModel(config, group, sequence_parallel=sp, dtype=np.float64)
    tokens, targets = np.random.default_rng(1).integers(config.vocab, size=(2, 2, 8))
    loss = model.forward(tokens, targets)
    model.backward(np.full_like(loss, 1 / loss.size))
    nn.sum_replica_gradients(model)
    return model


CONFIGS = [GPT, replace(GPT, tied=False), LLAMA]


@pytest.mark.parametrize("sp", [False, True])
@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("config", CONFIGS, ids=["tied", "untied", "kv heads"])
def test_global_norm_is_that_of_the_whole_gradients(config: ModelConfig, ranks: int, sp: bool) -> None:
    alone = with_gradients(config, solo(), False).parameters().values()
    whole = math.sqrt(sum(float(np.sum(p.grad**2)) for p in alone if p.grad is not None))

    def main(comm: Any) -> tuple[float, float]:
        group = Group(comm)
        model = with_gradients(config, group, sp)
        local = sum(float(np.sum(p.grad**2)) for p in model.parameters().values() if p.grad is not None)
        return global_norm(model, group), math.sqrt(group.all_reduce(np.array([local]))[0])

    for norm, replicas_counted_by_all in run(main, ranks):
        assert norm == pytest.approx(whole, rel=1e-10)
        assert (ranks == 1) == (abs(replicas_counted_by_all / whole - 1) < 1e-6)


def test_clip_scales_to_the_norm_and_leaves_small_gradients() -> None:
    model = with_gradients(GPT, solo(), False)
    before = global_norm(model, solo())
    assert clip(model, solo(), 2 * before) == before
    assert global_norm(model, solo()) == before
    assert clip(model, solo(), before / 3) == before
    assert global_norm(model, solo()) == pytest.approx(before / 3, rel=1e-5)


# --- the schedule -------------------------------------------------------------------------------------------


def test_schedule_rises_straight_and_falls_as_a_cosine() -> None:
    lr = [warmup_cosine(step, 21, 2.0, warmup=5, floor=0.1) for step in range(21)]
    assert lr[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert lr[5] == 2.0
    assert lr[20] == pytest.approx(0.2)
    assert sorted(lr[5:], reverse=True) == lr[5:]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_schedule_of_very_few_steps_is_positive(steps: int) -> None:
    assert all(0 < warmup_cosine(step, steps, 1.0, warmup=1) <= 1 for step in range(steps))
