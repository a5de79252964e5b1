"""Training: the losses of one device at every step, however the work is cut; and what it trains on."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi_jobs import SCRIPTS, mpiexec, needs_mpi

from tpsim import models, reference, run
from tpsim.comm import Mesh, solo
from tpsim.functional import Array
from tpsim.models import LanguageModel
from tpsim.nn.masks import Draw, keep_mask
from tpsim.nn.recompute import forgetting
from tpsim.trace import CollectiveEvent
from tpsim.train import AdamW, Metrics, TrainConfig, read, train, train_step, warmup_cosine
from tpsim.train.data import Corpus
from tpsim.train.step import gradients, held_out_loss, under_way

STEPS = 20
BASE = TrainConfig(
    tp=1, steps=STEPS, batch=4, seq=16, dropout=0.1, dtype="float64", lr=1e-2, evaluate_every=10
)
CORPUS = read()
SHORT = replace(CORPUS, held_out=CORPUS.held_out[:400])
RELATIVE = 1e-9


def losses(config: TrainConfig, **options: Any) -> list[Metrics]:
    results = run(train, config.ranks, config, SHORT, **options)
    told = [[(m.loss, m.grad_norm, m.held_out) for m in one] for one in results]
    assert all(one == told[0] for one in told)  # every rank knows
    metrics: list[Metrics] = results[0]
    return metrics


@pytest.fixture(scope="module")
def one_device() -> list[Metrics]:
    return losses(BASE)


def assert_equal(metrics: list[Metrics], expected: list[Metrics]) -> None:
    for name in ("loss", "grad_norm", "held_out"):
        ours, theirs = ([getattr(m, name) or 0.0 for m in ms] for ms in (metrics, expected))
        np.testing.assert_allclose(ours, theirs, rtol=RELATIVE, err_msg=name)


def reference_losses(config: TrainConfig) -> list[float]:
    """Train by the unsharded maths, with an AdamW of its own."""
    model = models.get(config.model)
    rng = np.random.default_rng(config.seed)
    start = LanguageModel(model, rng=rng, dtype=np.float64).parameters()
    weights = {name: p.data.copy() for name, p in start.items()}
    m = {name: np.zeros_like(w) for name, w in weights.items()}
    v = {name: np.zeros_like(w) for name, w in weights.items()}
    b, s, p = config.batch, config.seq, config.dropout
    found = []
    for step in range(config.steps):
        draw = Draw(config.seed, step, range(b))
        sites: dict[str, tuple[int, ...]] = {"dropout": (b, s, model.hidden)}
        for i in range(model.layers):
            sites |= {f"blocks.{i}.dropout{j}": (b, s, model.hidden) for j in (1, 2)}
            sites |= {f"blocks.{i}.attention.dropout": (b, model.heads, s, s)}
        masks = {site: keep_mask(draw, site, p, 0, shape) for site, shape in sites.items()}
        options = model.reference_options() | {"dropout": p, "attention_dropout": p, "masks": masks}
        x = SHORT.batch(config.seed, step, range(b), s)
        loss, cache = reference.model(weights, x[:, :-1], x[:, 1:], loss_options={}, **options)
        grads = reference.model_grad(weights, cache, np.full((b, s), 1 / (b * s)), **options)
        found.append(float(loss.mean()))
        norm = math.sqrt(sum(float((g**2).sum()) for g in grads.values()))
        lr = warmup_cosine(step, config.steps, config.lr, warmup=max(1, config.steps // 10))
        for name, w in weights.items():
            g = grads[name] * min(1, config.max_norm / (norm + 1e-6))
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.95 * v[name] + 0.05 * g * g
            mean, square = m[name] / (1 - 0.9 ** (step + 1)), v[name] / (1 - 0.95 ** (step + 1))
            decay = 0.1 * w if w.ndim == 2 else 0
            weights[name] = w - lr * (mean / (np.sqrt(square) + 1e-8) + decay)
    return found


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6))))
def test_time_in_several_collectives_at_once_counts_once(spans: list[tuple[int, int]]) -> None:
    def event(start: int, seconds: int) -> CollectiveEvent:
        return CollectiveEvent(
            "all_reduce", "ring", "dp", 2, 0, (1,), "float64", 8, 1, False, "", "", start, seconds
        )

    events = [event(start, seconds) for start, seconds in spans]
    seconds = {second for start, length in spans for second in range(start, start + length)}
    assert under_way(events) == len(seconds)


def test_one_device_is_the_reference(one_device: list[Metrics]) -> None:
    expected = reference_losses(BASE)
    np.testing.assert_allclose([m.loss for m in one_device], expected, rtol=RELATIVE)
    assert expected[-1] < expected[0] - 1  # it learns


@pytest.mark.parametrize(
    "change",
    [
        {"tp": 2},
        {"tp": 4, "microbatches": 2},
        {"tp": 2, "sequence_parallel": True},
        {"tp": 2, "dp": 2},
        {"tp": 2, "dp": 2, "microbatches": 2, "sequence_parallel": True, "recompute": "full"},
        {"microbatches": 2},
    ],
    ids=str,
)
def test_losses_are_those_of_one_device(one_device: list[Metrics], change: dict[str, Any]) -> None:
    assert_equal(losses(replace(BASE, **change)), one_device)


LLAMA = replace(BASE, model="tiny-llama", steps=4)


def test_llama_on_more_ranks_than_kv_heads_trains_as_the_reference() -> None:
    metrics = losses(replace(LLAMA, tp=8))
    np.testing.assert_allclose([m.loss for m in metrics], reference_losses(LLAMA), rtol=RELATIVE)


@needs_mpi
def test_mpi_has_the_bits_of_virtual_ranks(tmp_path: Path) -> None:
    job = mpiexec(4, SCRIPTS / "training.py", tmp=tmp_path)
    assert job.code == 0, job.err
    config = replace(BASE, tp=2, dp=2, steps=5)
    for schedule in ("lockstep", "free"):
        virtual = losses(config, schedule=schedule)
        assert json.loads(job.out) == [[m.loss, m.grad_norm, m.held_out] for m in virtual]


# --- one step -----------------------------------------------------------------------------------------------


def ignoring(comm: Any, tp: int, microbatches: int, nbytes: int) -> dict[str, Any]:
    """The gradients of a batch in which sequences have very different numbers of valid tokens."""
    mesh = Mesh(comm, tp)
    model = LanguageModel(models.get("tiny-gpt"), mesh.tp, dropout=0.1, dtype=np.float64)
    tokens, targets = np.random.default_rng(0).integers(256, size=(2, 4, 8))
    for row, valid in enumerate((8, 1, 3, 0)):
        targets[row, valid:] = -100
    share = 4 // mesh.dp.size
    own = range(mesh.dp.rank * share, (mesh.dp.rank + 1) * share)
    loss = gradients(
        model, mesh, tokens[own], targets[own], own, seed=0, step=0, microbatches=microbatches, nbytes=nbytes
    )
    return {"loss": loss} | {name: p.placed(p.grad) for name, p in model.parameters().items()}  # type: ignore[arg-type]


@pytest.mark.parametrize("nbytes", [1, 1 << 18, 1 << 30])
@pytest.mark.parametrize(("ranks", "microbatches"), [(1, 4), (2, 2), (4, 1)])
def test_the_mean_is_over_all_valid_tokens(ranks: int, microbatches: int, nbytes: int) -> None:
    (alone,) = run(ignoring, 1, 1, 1, nbytes)
    for found in run(ignoring, ranks, 1, microbatches, nbytes):
        assert found.pop("loss") == pytest.approx(alone["loss"], rel=1e-12)
        for name, placed in found.items():
            np.testing.assert_allclose(placed[0][1], alone[name][0][1], atol=1e-12, err_msg=name)


def test_gradients_are_on_their_way_before_backward_ends() -> None:
    def main(comm: Any) -> list[str]:
        mesh = Mesh(comm, 1)
        model = LanguageModel(models.get("tiny-gpt"), mesh.tp)
        began: list[str] = []
        iall_reduce = mesh.dp.iall_reduce
        backward = model.dropout.backward  # after the last block's

        def noted(*args: Any) -> Any:
            began.append("sum")
            return iall_reduce(*args)

        def also_noted(dy: Array) -> Array:
            began.append("blocks done")
            return backward(dy)

        vars(mesh.dp)["iall_reduce"], vars(model.dropout)["backward"] = noted, also_noted
        x = SHORT.batch(0, 0, [0], 8)
        gradients(model, mesh, x[:, :-1], x[:, 1:], [0], seed=0, step=0, nbytes=1 << 19)
        return began

    for began in run(main, 2):
        assert began.index("blocks done") >= 3


def test_a_batch_that_does_not_divide_is_refused() -> None:
    model = LanguageModel(models.get("tiny-gpt"))
    x = SHORT.batch(0, 0, range(3), 8)

    def main(comm: Any) -> None:
        train_step(model, AdamW(model), Mesh(comm, 1), x, range(3), lr=1e-3, seed=0, step=0, microbatches=2)

    with pytest.raises(ValueError, match="3 sequences a rank can't be cut into 2 equal microbatches"):
        run(main, 1)


def test_held_out_loss_is_the_mean_over_all_windows_and_keeps_nothing() -> None:
    def main(comm: Any) -> float:
        mesh = Mesh(comm, 1)
        model = LanguageModel(models.get("tiny-gpt"), mesh.tp, dtype=np.float64)
        loss = held_out_loss(model, mesh, SHORT.held_out_windows(16), batch=4)
        with pytest.raises(RuntimeError, match="nothing is saved"):
            model.loss.take("targets")
        return loss

    windows = SHORT.held_out_windows(16)
    model = LanguageModel(models.get("tiny-gpt"), solo(), dtype=np.float64)
    with forgetting():
        expected = float(model.forward(windows[:, :-1], windows[:, 1:]).mean())
    for ranks in (1, 3):
        assert run(main, ranks) == pytest.approx([expected] * ranks, rel=1e-12)


# --- data ---------------------------------------------------------------------------------------------------


def test_windows_depend_on_seed_step_and_sample_alone() -> None:
    whole = CORPUS.batch(3, 7, range(8), 12)
    assert whole.shape == (8, 13)
    np.testing.assert_array_equal(CORPUS.batch(3, 7, [5, 2], 12), whole[[5, 2]])
    assert not np.array_equal(CORPUS.batch(3, 8, range(8), 12), whole)
    assert not np.array_equal(CORPUS.batch(4, 7, range(8), 12), whole)


def test_training_never_sees_held_out_text() -> None:
    text = np.arange(200, dtype=np.uint8)
    corpus = Corpus("counting", text[:180], text[180:])
    seen = np.concatenate([corpus.batch(0, step, range(16), 9).ravel() for step in range(60)])
    assert set(seen) == set(range(180))
    windows = corpus.held_out_windows(4)
    np.testing.assert_array_equal(windows[:, 1:].ravel(), np.arange(181, 197))  # every byte predicted once
    assert corpus.held_out_windows(4, most=2).shape == (2, 5)


def test_the_default_text_is_pythons_reference() -> None:
    assert len(CORPUS.train) > 300_000
    assert len(CORPUS.train) == (len(CORPUS.train) + len(CORPUS.held_out)) * 9 // 10
    assert b'The "if" statement' in CORPUS.train.tobytes() + CORPUS.held_out.tobytes()


def test_bigram_loss_is_small_where_one_byte_tells_the_next() -> None:
    text = np.frombuffer(b"abc" * 400, np.uint8)
    assert Corpus("abc", text, text).bigram_loss() < 1e-2
    assert 2 < CORPUS.bigram_loss() < 3


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "can't be read"), (b"\xff\xfe", "is not UTF-8"), (b"short", "has no room for windows of 17")],
)
def test_a_text_that_will_not_do_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read(path, 16)


# --- what can't be run --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tp": 3}, "can't be cut evenly among 3 ranks; pick tp from 1, 2, 4, 8"),
        ({"dp": 3}, "a batch of 4 can't be shared evenly by 3 data-parallel ranks"),
        ({"microbatches": 3}, "a batch of 4 can't be shared evenly"),
        ({"seq": 129}, "longer than the 128 positions"),
        ({"seq": 15, "tp": 2, "sequence_parallel": True}, "can't be cut evenly among 2 ranks; pick seq"),
        ({"model": "tiny"}, "a model 'tiny' is not known"),
        ({"lr": 0.0}, "lr 0.0 learns nothing"),
        ({"dropout": 1.0}, "dropout 1.0 is not the probability"),
        ({"dtype": "int8"}, "dtype 'int8' is not known here"),
        ({"recompute": "some"}, "recompute 'some' is not known here"),
        ({"seed": -1}, "seed -1 can't key a generator"),
        ({"steps": 0}, "steps 0 is too few"),
        ({"stop_after": 21}, "stop_after 21 is none of the 20 steps"),
    ],
)
def test_a_run_that_cannot_be_is_refused_with_the_remedy(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(BASE, **change)
