"""Narrow storage with float32 arithmetic: what comes out is as near to the truth at every t as at t = 1."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from tpsim import Group, Trace, models, nn, run
from tpsim import functional as F
from tpsim.comm.algorithms import ALGORITHMS
from tpsim.functional import Array
from tpsim.models import LanguageModel
from tpsim.nn.parameter import assemble
from tpsim.studies.precision import Precision, Sizes, precision
from tpsim.train.optimizer import AdamW

EPS = {"bfloat16": 2.0**-8, "float16": 2.0**-11}  # half the distance of 1 to the next number
NARROW = list(EPS)
BATCH, SEQ, HIDDEN, HEADS = 2, 8, 32, 4
CONFIGS = {
    "gpt": models.gpt("gpt", 2, 16, 4, vocab=21, max_seq=SEQ),
    "llama": models.llama("llama", 2, 16, 4, kv_heads=2, ffn=24, vocab=21, max_seq=SEQ),
}
Tensors = dict[str, Array]


def block(t: int, dtype: str, schedule: Any = "lockstep", sp: bool = False, **options: Any) -> list[Tensors]:
    """Every rank's y, dx and gradients; inputs are numbers that bfloat16 has."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((BATCH, SEQ, HIDDEN)).astype("bfloat16") for _ in range(2))

    def main(comm: Any) -> Tensors:
        group = Group(comm, **options)
        layer = nn.TransformerBlock(HIDDEN, HEADS, 4 * HIDDEN, group, sequence_parallel=sp, dtype="float64")
        for parameter in layer.parameters().values():
            parameter.data = parameter.data.astype("bfloat16").astype(dtype)
        rows = np.s_[:, comm.rank * SEQ // t : (comm.rank + 1) * SEQ // t] if sp else np.s_[:]
        y = layer.forward(x[rows].astype(dtype))
        dx = layer.backward(dy[rows].astype(dtype))
        nn.sum_replica_gradients(layer)
        grads = {name: p.grad for name, p in layer.parameters().items() if p.grad is not None}
        return {"y": y, "dx": dx, **grads}

    return run(main, t, schedule=schedule)


def same_bits(have: list[Tensors], want: list[Tensors]) -> None:
    for mine, other in zip(have, want, strict=True):
        for name, tensor in other.items():
            assert mine[name].tobytes() == tensor.tobytes(), name


def error(got: Array, true: Array) -> float:
    """Relative to the largest entry."""
    return float(np.max(np.abs(got.astype(np.float64) - true)) / np.max(np.abs(true)))


@cache
def study() -> Precision:
    return precision(Sizes(seq=16, hidden=32), ranks=(1, 2, 4))


# --- kernels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NARROW)
def test_kernels_compute_in_float32_and_round_once(dtype: str) -> None:
    x, w = np.random.default_rng(0).standard_normal((2, 40, 40)).astype(dtype)
    wide_x, wide_w = x.astype(np.float32), w.astype(np.float32)
    y = F.linear(x, w)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, F.linear(wide_x, wide_w).astype(dtype))
    np.testing.assert_array_equal(F.gelu(x), F.gelu(wide_x).astype(dtype))


def test_a_long_sum_of_narrow_gradients_does_not_stall() -> None:
    ones = np.ones((3000, 1), "bfloat16")
    assert ones.sum(axis=0) == 256  # NumPy's own: 256 + 1 is 256 in bfloat16
    assert F.bias_grad(ones) == 3000


@pytest.mark.parametrize("dtype", NARROW)
def test_statistics_and_weight_gradients_stay_float32(dtype: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(dtype)
    y, mean, rstd = F.layer_norm(x, x[0], x[1], 1e-5)
    assert [a.dtype for a in (y, mean, rstd)] == [dtype, "float32", "float32"]
    dx, dweight, dbias = F.layer_norm_grad(x, x[0], mean, rstd, x)
    assert [a.dtype for a in (dx, dweight, dbias)] == [dtype, "float32", "float32"]
    assert [a.dtype for a in F.linear_grad(x, x.T, x[:, :3])] == [dtype, "float32", "float32"]
    assert F.linear(x=x, weight=x.T, bias=None).dtype == dtype
    assert F.softmax(x, out=x) is x


# --- layers and models --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("sp", [False, True])
def test_block_keeps_its_dtype_and_is_near_the_truth(dtype: str, sp: bool) -> None:
    (true,) = block(1, "float64")
    for t in (1, 2, 4):
        ranks = block(t, dtype, sp=sp)
        for name in ("y", "dx"):
            got = np.concatenate([one[name] for one in ranks], 1) if sp else ranks[0][name]
            assert got.dtype == dtype
            assert error(got, true[name]) < 8 * EPS[dtype]
        assert ranks[0]["mlp.down.bias"].dtype == "float32"
        assert error(ranks[0]["mlp.down.bias"], true["mlp.down.bias"]) < 8 * EPS[dtype]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("t", [1, 2, 4])
@pytest.mark.parametrize("sp", [False, True])
def test_model_has_float32_losses_and_gradients_near_the_truth(
    name: str, dtype: str, t: int, sp: bool
) -> None:
    tokens, targets = np.random.default_rng(1).integers(21, size=(2, BATCH, SEQ))

    def step(comm: Any, dtype: str, sp: bool) -> tuple[Array, dict[str, nn.Parameter]]:
        model = LanguageModel(CONFIGS[name], Group(comm), sequence_parallel=sp, dtype=dtype)
        loss = model.forward(tokens, targets)
        model.backward(np.full_like(loss, 1 / loss.size))
        nn.sum_replica_gradients(model)
        return loss, model.parameters()

    true_loss, true = run(step, 1, "float64", False)[0]
    ranks = run(step, t, dtype, sp)
    loss, parameters = ranks[0]
    assert loss.dtype == "float32"
    assert error(loss, true_loss) < 2 * EPS[dtype]
    for path, parameter in parameters.items():
        assert parameter.data.dtype == dtype
        shards = [(p[path], p[path].grad) for _, p in ranks]
        got = assemble([(p, g) for p, g in shards if g is not None])
        want = true[path].grad
        assert want is not None
        assert got.dtype == "float32"
        # Weights are rounded, too. A key's bias moves no probability: its gradient is 0 but for rounding.
        np.testing.assert_allclose(got, want, rtol=0, atol=16 * EPS[dtype] * np.max(np.abs(want)))


@pytest.mark.parametrize("dtype", NARROW)
def test_norm_of_a_row_that_is_cut_is_near_the_truth(dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((BATCH, SEQ, HIDDEN)).astype("bfloat16") for _ in range(2))

    def main(comm: Any, dtype: str) -> tuple[Array, Array, Array | None]:
        norm = nn.ParallelRMSNorm(HIDDEN, Group(comm), dtype=dtype)
        mine, dmine = (np.split(whole, comm.size, -1)[comm.rank].astype(dtype) for whole in (x, dy))
        return norm.forward(mine), norm.backward(dmine), norm.weight.grad

    for got, true in zip(run(main, 2, dtype)[0], run(main, 2, "float64")[0], strict=True):
        assert got is not None
        assert true is not None
        assert error(got, true) < 4 * EPS[dtype]


@pytest.mark.parametrize("t", [1, 2])
def test_model_trains_in_bfloat16(t: int) -> None:
    """Steps of 1e-3 of a weight would be rounded away: the optimizer's float32 masters take them."""
    tokens = np.random.default_rng(1).integers(21, size=(BATCH, SEQ + 1))

    def main(comm: Any) -> list[float]:
        model = LanguageModel(CONFIGS["gpt"], Group(comm), sequence_parallel=True, dtype="bfloat16")
        optimizer, losses = AdamW(model), []
        for _ in range(30):
            model.zero_grad()
            loss = model.forward(tokens[:, :-1], tokens[:, 1:])
            model.backward(np.full_like(loss, 1 / loss.size))
            nn.sum_replica_gradients(model)
            optimizer.step(1e-2)
            losses.append(float(loss.mean()))
        return losses

    losses = run(main, t)[0]
    assert losses[-1] < losses[0] / 4


@pytest.mark.parametrize("t", [1, 2, 4])
@pytest.mark.parametrize("dtype", NARROW)
def test_saved_bytes_are_the_papers_two_byte_formula(t: int, dtype: str) -> None:
    def main(comm: Any) -> int:
        layer = nn.TransformerBlock(HIDDEN, HEADS, 4 * HIDDEN, Group(comm), dtype=dtype)
        with Trace() as trace:
            layer.forward(np.ones((BATCH, SEQ, HIDDEN), dtype))
        return sum(trace.saved_by_layer().values())

    sbh = SEQ * BATCH * HIDDEN  # Korthikanti et al. 2022, equation 2, without dropout
    assert run(main, t) == [sbh * (8 + 24 / t + 2 * HEADS * SEQ / (HIDDEN * t))] * t


# --- collectives --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("dtype", NARROW)
def test_bits_depend_on_neither_schedule_nor_messages(algorithm: str, dtype: str) -> None:
    want = block(4, dtype, algorithm=algorithm)
    same_bits(block(4, dtype, "free", algorithm=algorithm), want)
    same_bits(block(4, dtype, algorithm=algorithm, messages=True), want)
    same_bits(block(4, dtype, "free", algorithm=algorithm, messages=True), want)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_accumulating_in_float32_rounds_once(algorithm: str) -> None:
    """256 + ½ + ½ … stays 256 where each addition is rounded to bfloat16's 8 bits."""
    parts = np.array([[256.0] * 8] + [[0.5] * 8] * 7).astype("bfloat16")

    def main(comm: Any, how: Any, messages: bool) -> list[Array]:
        group = Group(comm, algorithm, accumulate=how, messages=messages)
        mine, out = parts[group.rank], np.empty(8, "bfloat16")
        group.all_reduce(mine, out=out)
        return [group.all_reduce(mine), out, group.iall_reduce(mine).wait(), group.reduce_scatter(mine)]

    for messages in (False, True):
        for result in run(main, 8, "float32", messages)[0]:
            assert result.dtype == "bfloat16"
            np.testing.assert_array_equal(result, 260)  # 259.5, and there are even numbers only
        assert all(r.dtype == "bfloat16" for r in run(main, 8, "storage", messages)[0])
    assert run(main, 8, "storage", False)[0][0].astype(float).min() < 260


def test_unknown_accumulate_is_refused() -> None:
    with pytest.raises(ValueError, match="accumulate 'double' is not known; pick 'storage' or 'float32'"):
        run(lambda comm: Group(comm, accumulate="double"), 1)  # type: ignore[arg-type]


# --- the experiment -----------------------------------------------------------------------------------------


def test_error_of_several_ranks_is_of_the_size_of_one_devices() -> None:
    for row in study().rows:
        one = study().one_device(row.dtype)
        assert row.y < 2 * one.y, row
        assert row.dx < 2 * one.dx, row
        assert row.grads < 2 * one.grads, row


def test_narrower_is_less_exact() -> None:
    float32, bfloat16, float16 = (study().one_device(d).y for d in ("float32", "bfloat16", "float16"))
    assert float32 < float16 / 100 < float16 < bfloat16 / 2


def test_a_bug_stands_out_of_the_noise() -> None:
    for dtype in ("float32", "bfloat16", "float16"):
        assert study().growth(dtype) < 2
        assert study().bug_above_noise(dtype) > 30
