"""Training in two bytes a number: float32 masters, float16's loss scale, steps that are left out."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpsim import models, run
from tpsim.comm import Mesh, solo
from tpsim.functional import Array
from tpsim.models import LanguageModel
from tpsim.train import AdamW, LossScale, Metrics, TrainConfig, loop, read, train, train_step
from tpsim.train.step import gradients

BASE = TrainConfig(tp=1, steps=6, batch=4, seq=16, dropout=0.1, lr=1e-2, save_every=3)
CORPUS = read()
SHORT = replace(CORPUS, held_out=CORPUS.held_out[:200])
TINY = models.gpt("tiny", 1, 16, 4, vocab=256, max_seq=16)
TOO_LARGE = 2.0**40
NARROW = ["bfloat16", "float16"]
Gradients = dict[str, Array]


def told(metrics: list[Metrics]) -> list[tuple[Any, ...]]:
    return [(m.step, m.loss, m.lr, m.grad_norm, m.held_out, m.loss_scale) for m in metrics]


def trained(config: TrainConfig, **options: Any) -> list[Metrics]:
    first, *others = run(train, config.ranks, config, SHORT, **options)
    assert all(told(other) == told(first) for other in others)
    metrics: list[Metrics] = first
    return metrics


# --- the scale ----------------------------------------------------------------------------------------------


def test_the_scale_halves_on_overflow_and_doubles_after_an_interval_without() -> None:
    scale = LossScale(start=4.0, interval=3)
    seen = []
    for finite in (True, True, False, True, True, True, True, False, False, False, False):
        scale.update(finite=finite)
        seen.append(scale.scale)
    assert seen == [4, 4, 2, 2, 2, 4, 4, 2, 1, 1, 1]  # never below 1


def test_a_scale_goes_on_from_its_state() -> None:
    one, other = LossScale(interval=3), LossScale(interval=3)
    for finite in (False, True, True):
        one.update(finite=finite)
    other.load_state(one.state())
    for scale in (one, other):
        scale.update(finite=True)
    assert one.state() == other.state() == {"scale": 2.0**16, "good": 0}


def found(dtype: str, scale: float) -> Gradients:
    """The gradients of a tiny model on one device, unscaled."""

    def main(comm: Any) -> Gradients:
        model = LanguageModel(TINY, solo(), dtype="float64")
        for parameter in model.parameters().values():
            parameter.data = parameter.data.astype("float16").astype(dtype)
        x = SHORT.batch(0, 0, range(8), 16)
        mesh = Mesh(comm, 1)
        gradients(model, mesh, x[:, :-1], x[:, 1:], range(8), seed=0, step=0, scale=scale)
        LossScale(scale).unscale(model)
        return {name: p.grad for name, p in model.parameters().items() if p.grad is not None}

    grads: Gradients = run(main, 1)[0]
    return grads


def test_scaling_by_a_power_of_two_changes_no_bit_of_wide_gradients() -> None:
    plain, scaled = found("float32", 1.0), found("float32", 2.0**16)
    for name, grad in plain.items():
        np.testing.assert_array_equal(scaled[name], grad, err_msg=name)


def test_without_a_scale_float16_loses_gradients_that_it_keeps_with_one() -> None:
    """128 tokens with 2⁻¹⁰ of the loss: its gradients are as small as those of 131,072 tokens."""
    true = found("float64", 1.0)
    errors = {}
    for scale in (2.0**-10, 2.0**16):
        got = found("float16", scale)
        errors[scale] = np.sqrt(sum(np.sum((got[name] - true[name]) ** 2) for name in true))
        errors[scale] /= np.sqrt(sum(np.sum(grad**2) for grad in true.values()))
    assert errors[2.0**16] < 2.0**-9
    assert errors[2.0**-10] > 20 * errors[2.0**16]


# --- a step that is left out --------------------------------------------------------------------------------


def step_on(
    comm: Any, tp: int, scale: float, harm: Callable[[LanguageModel, int], None]
) -> tuple[bool, float, Gradients, Gradients, int, float]:
    mesh = Mesh(comm, tp)
    model = LanguageModel(TINY, mesh.tp, dtype="float16")
    harm(model, comm.Get_rank())
    optimizer, loss_scale = AdamW(model), LossScale(scale)
    before = {name: parameter.data.copy() for name, parameter in model.parameters().items()}
    own = range(mesh.dp.rank * 2, mesh.dp.rank * 2 + 2)
    x = SHORT.batch(0, 0, own, 16)
    result = train_step(model, optimizer, mesh, x, own, lr=0.1, seed=0, step=0, loss_scale=loss_scale)
    after = {name: parameter.data for name, parameter in model.parameters().items()}
    untouched = not any(array.any() for kind in ("m", "v") for array in optimizer.state()[kind].values())
    assert untouched == result.left_out
    assert (optimizer.steps, optimizer.left_out) == (1, int(result.left_out))
    return result.left_out, result.loss, before, after, optimizer.steps, loss_scale.scale


def nothing(model: LanguageModel, rank: int) -> None:
    pass


def test_a_step_that_overflows_changes_nothing_but_the_scale() -> None:
    for left_out, loss, before, after, steps, scale in run(step_on, 2, 2, TOO_LARGE, nothing):
        assert left_out
        assert math.isfinite(loss)
        assert (steps, scale) == (1, TOO_LARGE / 2)
        for name, array in before.items():
            np.testing.assert_array_equal(after[name], array)


def test_a_step_that_does_not_overflow_is_taken() -> None:
    for left_out, _, before, after, _, scale in run(step_on, 2, 2, 2.0**16, nothing):
        assert not left_out
        assert scale == 2.0**16
        assert not np.array_equal(after["blocks.0.mlp.up.weight"], before["blocks.0.mlp.up.weight"])


@pytest.mark.parametrize("sick", [0, 1, 2, 3])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_what_overflows_on_one_rank_is_left_out_by_all(sick: int, bad: float) -> None:
    def harm(model: LanguageModel, rank: int) -> None:
        """One entry of one weight that this rank alone holds, in its copy of the model."""
        if rank == sick:
            up, plain = model.blocks[0].mlp.up, model.blocks[0].mlp.up.backward

            def backward(dy: Array) -> Array:
                dx = plain(dy)
                assert up.weight.grad is not None
                up.weight.grad[0, 0] = bad
                return dx

            vars(up)["backward"] = backward

    assert [left_out for left_out, *_ in run(step_on, 4, 2, 2.0**10, harm)] == [True] * 4


def test_adam_after_left_out_steps_is_adam_that_began_later() -> None:
    models_ = [LanguageModel(TINY, solo(), dtype="float64") for _ in range(2)]
    late, plain = map(AdamW, models_)
    late.leave_out()
    late.leave_out()
    rng = np.random.default_rng(0)
    for _ in range(3):
        for one, other in zip(*(model.parameters().values() for model in models_), strict=True):
            one.grad = other.grad = rng.standard_normal(one.data.shape)
        late.step(1e-2)
        plain.step(1e-2)
    assert (late.steps, plain.steps) == (5, 3)
    for one, other in zip(*(model.parameters().values() for model in models_), strict=True):
        np.testing.assert_array_equal(one.data, other.data)


# --- runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(
    "change",
    [{}, {"tp": 4}, {"tp": 2, "sequence_parallel": True, "microbatches": 2}, {"tp": 2, "dp": 2}],
    ids=str,
)
def test_narrow_losses_are_float64s_but_for_rounding(dtype: str, change: dict[str, Any]) -> None:
    true = trained(replace(BASE, dtype="float64"))
    metrics = trained(replace(BASE, dtype=dtype, **change))
    allowed = {"bfloat16": 2e-2, "float16": 3e-3}[dtype]  # 2⁻⁸ and 2⁻¹¹, and six steps to drift
    np.testing.assert_allclose([m.loss for m in metrics], [m.loss for m in true], rtol=allowed)
    assert {m.loss_scale for m in metrics} == {2.0**16 if dtype == "float16" else None}


@pytest.mark.parametrize("dtype", NARROW)
def test_schedules_have_the_same_bits(dtype: str) -> None:
    config = replace(BASE, dtype=dtype, tp=2, dp=2, steps=2)
    assert told(trained(config, schedule="free")) == told(trained(config, schedule="lockstep"))


@pytest.mark.parametrize("dtype", NARROW)
def test_a_resumed_run_has_the_bits_of_an_unbroken_one(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float16 with a scale that is too large at first, so that steps before the break are left out."""
    monkeypatch.setattr(loop, "LossScale", partial(LossScale, start=2.0**21))
    config = replace(BASE, dtype=dtype, tp=2)
    whole = trained(config)
    broken = trained(replace(config, out=str(tmp_path), stop_after=3))
    assert [m.loss for m in broken] == [m.loss for m in whole[:3]]
    monkeypatch.setattr(loop, "LossScale", LossScale)  # the checkpoint knows better
    resumed = trained(replace(config, resume=str(tmp_path)))
    assert told(resumed) == told(whole[3:])
    if dtype == "float16":
        left_out = [m.step for m in whole if m.grad_norm is None]
        assert left_out[0] == 1
        assert 1 <= len(left_out) <= 3
        scales = [m.loss_scale for m in whole]
        assert scales == [2.0 ** (21 - min(len(left_out), step)) for step in range(6)]
    elsewhere = trained(replace(config, resume=str(tmp_path), tp=4))
    np.testing.assert_allclose([m.loss for m in elsewhere], [m.loss for m in resumed], rtol=2e-2)
