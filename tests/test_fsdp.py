"""Fully sharded data parallelism: one device's gradients and steps, for bytes that no batch changes."""

import json
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpi_jobs import SCRIPTS, mpiexec, needs_mpi

from tpsim import Group, Trace, models, nn, reference, run
from tpsim.comm import DryMesh, Mesh, solo
from tpsim.dry import ShapeArray
from tpsim.dry.world import shapes_only
from tpsim.functional import Array
from tpsim.models import LanguageModel, ModelConfig
from tpsim.nn.masks import Draw, keep_mask
from tpsim.nn.parameter import Parameter, Piece, ones, zeros
from tpsim.nn.recompute import Recompute, forgetting
from tpsim.train import SGD, AdamW, Optimizer, checkpoint, gradients, held_out_loss, own_samples, train_step
from tpsim.train.fsdp import FullySharded
from tpsim.train.parameter_shard import ParameterShard
from tpsim.train.unit import Unit

GPT = models.gpt("gpt", 2, 12, 4, vocab=21, max_seq=16)
LLAMA = models.llama("llama", 2, 16, 4, kv_heads=2, ffn=20, vocab=21, max_seq=16)
IGNORED = -100
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Case:
    """A model, a batch, and how the work is cut."""

    config: ModelConfig = GPT
    dp: int = 2
    tp: int = 1
    batch: int = 4  # of all ranks
    seq: int = 4
    microbatches: int = 1
    sequence_parallel: bool = False
    recompute: Recompute = "none"
    dropout: float = 0.0
    keep_after_forward: bool = False
    prefetch: bool = True
    dtype: str = "float64"
    seed: int = 0

    @property
    def ranks(self) -> int:
        return self.dp * self.tp

    def model(self, group: Group | None) -> LanguageModel:
        return LanguageModel(
            self.config,
            group,
            sequence_parallel=self.sequence_parallel,
            recompute=self.recompute,
            dropout=self.dropout,
            dtype=self.dtype,
        )

    def sharded(self, mesh: Mesh) -> FullySharded:
        model = FullySharded(
            self.model(mesh.tp),
            mesh.dp,
            keep_after_forward=self.keep_after_forward,
            prefetch=self.prefetch,
        )
        model.load(self.weights())
        return model

    def weights(self) -> dict[str, Array]:
        rng = np.random.default_rng(self.seed)
        return {
            name: rng.normal(float("norm" in name and name.endswith("weight")), 0.3, p.whole_shape)
            for name, p in LanguageModel(self.config).parameters().items()
        }

    def data(self) -> tuple[Array, Array]:
        """Tokens, and targets of which some are ignored: more of them in some sequences than in others."""
        rng = np.random.default_rng((self.seed, 1))
        tokens, targets = rng.integers(self.config.vocab, size=(2, self.batch, self.seq))
        targets[rng.random(targets.shape) < np.linspace(0.1, 0.9, self.batch)[:, np.newaxis]] = IGNORED
        targets[0, 0] = 1
        return tokens, targets

    def expected(self) -> tuple[float, dict[str, Array]]:
        """The mean loss and its gradients, by the unsharded maths."""
        tokens, targets = self.data()
        sites = ["dropout", *(f"blocks.{i}.dropout{j}" for i in range(self.config.layers) for j in (1, 2))]
        draw = Draw(self.seed, 3, range(self.batch))
        shape = (self.batch, self.seq, self.config.hidden)
        masks = {site: keep_mask(draw, site, self.dropout, 0, shape) for site in sites if self.dropout}
        options = self.config.reference_options() | {"dropout": self.dropout, "masks": masks}
        weights = self.weights()
        loss, cache = reference.model(weights, tokens, targets, loss_options={}, **options)
        share = (targets != IGNORED) / np.sum(targets != IGNORED)
        return float(np.sum(loss * share)), reference.model_grad(weights, cache, share, **options)


@dataclass(frozen=True)
class OnRank:
    """What a rank has after a step."""

    loss: float
    model: FullySharded
    trace: Trace


def step(case: Case) -> list[OnRank]:
    tokens, targets = case.data()

    def main(comm: Any) -> OnRank:
        mesh = Mesh(comm, case.tp)
        model = case.sharded(mesh)
        own = own_samples(case.batch, mesh)
        with Trace() as trace:
            loss = gradients(
                model,
                mesh,
                tokens[own],
                targets[own],
                own,
                seed=case.seed,
                step=3,
                microbatches=case.microbatches,
            )
        return OnRank(loss, model, trace)

    return run(main, case.ranks)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    tp = draw(st.sampled_from([1, 1, 2]))
    dp = draw(st.integers(1, 5 if tp == 1 else 3))
    microbatches = draw(st.integers(1, 2))
    config = replace(
        draw(st.sampled_from([GPT, LLAMA])),
        layers=draw(st.integers(1, 3)),
        hidden=draw(st.integers(4, 7)),
        heads=2,
        kv_heads=draw(st.sampled_from([1, 2])),
        head_size=4,
        vocab=draw(st.integers(4, 9)),
        ffn=2 * draw(st.integers(2, 5)),
        tied=draw(st.booleans()),
        bias=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        eps=1e-3,
    )
    return Case(
        config,
        dp,
        tp,
        batch=dp * microbatches * draw(st.integers(1, 2)),
        seq=2 * draw(st.integers(1, 2)),
        microbatches=microbatches,
        sequence_parallel=tp > 1 and draw(st.booleans()),
        recompute=draw(st.sampled_from(["none", "selective", "full"])),
        dropout=draw(st.sampled_from([0.0, 0.3])),
        keep_after_forward=draw(st.booleans()),
        prefetch=draw(st.booleans()),
        seed=draw(st.integers(0, 999)),
    )


# --- one step -----------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(cases())
@example(Case(GPT, dp=5, batch=5))
@example(Case(LLAMA, dp=3, tp=4, batch=6, microbatches=2, sequence_parallel=True, recompute="full"))
@example(Case(replace(LLAMA, qk_norm=True, tied=True), dp=2, tp=4))
def test_loss_and_every_gradient_equal_the_reference(case: Case) -> None:
    """Each rank's shards, after the sums, are its stretches of one device's gradients."""
    loss, expected = case.expected()
    ranks = step(case)
    for rank in ranks:
        assert rank.loss == pytest.approx(loss, rel=TOLERANCE)
        shards = rank.model.parameters()
        assert list(shards) == list(case.weights())
        assert shards.keys() == expected.keys()
        for name, shard in shards.items():
            assert shard.grad is not None
            scale = max(1.0, float(np.abs(expected[name]).max()))
            np.testing.assert_allclose(
                shard.grad, shard.take(expected[name]), rtol=0, atol=TOLERANCE * scale, err_msg=name
            )
        assert all(parameter.grad is None for parameter in rank.model.model.parameters().values())
    for name in expected:  # between them, they have all of it
        together = nn.assemble([(p, p.data) for p in (one.model.parameters()[name] for one in ranks)])
        np.testing.assert_array_equal(together, case.weights()[name])


@pytest.mark.parametrize("config", [GPT, LLAMA], ids=lambda config: config.name)
@pytest.mark.parametrize("change", [{"prefetch": False}, {"keep_after_forward": True}, {"recompute": "full"}])
def test_when_parameters_are_gathered_changes_no_bit(config: ModelConfig, change: dict[str, Any]) -> None:
    case = Case(config, dp=3, batch=6, dtype="float32")
    for one, other in zip(step(case), step(replace(case, **change)), strict=True):
        assert one.loss == other.loss
        shards = other.model.parameters()
        for name, shard in one.model.parameters().items():
            np.testing.assert_array_equal(shard.grad, shards[name].grad, err_msg=name)


# --- many steps ---------------------------------------------------------------------------------------------


def train(
    comm: Any, case: Case, make: Callable[[nn.Layer], Optimizer], sharded: bool
) -> tuple[list[tuple[float, float]], nn.Layer, Optimizer, Mesh]:
    """Take four steps; return losses and norms, and what came out."""
    mesh = Mesh(comm, case.tp)
    model = case.sharded(mesh) if sharded else case.model(mesh.tp)
    model.load(case.weights())
    optimizer = make(model)
    own = own_samples(case.batch, mesh)
    found = []
    for number in range(4):
        windows = np.random.default_rng(number).integers(case.config.vocab, size=(case.batch, case.seq + 1))
        result = train_step(
            model,
            optimizer,
            mesh,
            windows[own],
            own,
            lr=0.01,
            seed=case.seed,
            step=number,
            microbatches=case.microbatches,
        )
        found.append((result.loss, result.grad_norm))
    return found, model, optimizer, mesh


@pytest.mark.parametrize("make", [AdamW, lambda model: SGD(model, momentum=0.9)], ids=["AdamW", "SGD"])
@pytest.mark.parametrize(
    "case",
    [
        Case(GPT, dp=3, batch=6, microbatches=2),
        Case(LLAMA, dp=4, dropout=0.2),
        Case(LLAMA, dp=2, tp=4, sequence_parallel=True),
        Case(GPT, dp=1),
    ],
    ids=lambda case: f"{case.config.name}-dp{case.dp}-tp{case.tp}",
)
def test_steps_equal_one_devices(case: Case, make: Callable[[nn.Layer], Optimizer]) -> None:
    """Clipping, weight decay (of matrices alone) and the optimizer's memory, all on shards."""
    alone = replace(case, dp=1, tp=1, microbatches=1, sequence_parallel=False)
    ((expected, one_device, memory, _),) = run(train, 1, alone, make, False)
    ranks = run(train, case.ranks, case, make, True)
    for found, *_ in ranks:
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE)
    for name, parameter in one_device.parameters().items():
        shards = [model.parameters()[name] for _, model, *_ in ranks]
        weight = nn.assemble([(p, p.data) for p in shards])
        np.testing.assert_allclose(weight, parameter.data, rtol=0, atol=TOLERANCE, err_msg=name)
        for kind, arrays in memory.state().items():
            states = [optimizer.state()[kind][name] for _, _, optimizer, _ in ranks]
            whole = nn.assemble(list(zip(shards, states, strict=True)))
            np.testing.assert_allclose(whole, arrays[name], rtol=0, atol=TOLERANCE, err_msg=f"{kind} {name}")


def test_narrow_weights_have_wide_gradients_and_masters_of_their_shards() -> None:
    case = Case(GPT, dp=3, batch=3, dtype="bfloat16")
    for found, model, optimizer, _ in run(train, case.dp, case, AdamW, True):
        assert found[-1][0] < found[0][0] + 1
        for name, shard in model.parameters().items():
            assert shard.data.dtype == "bfloat16"
            assert shard.grad is not None
            assert shard.grad.dtype == np.float32
            assert optimizer.state()["master"][name].shape == shard.data.shape
    for rank in step(case):  # gathers of 2 bytes an entry, and a reduce-scatter of 4
        events = rank.trace.select(layer="fully_sharded")
        assert sum(e.bytes_sent for e in events) == (2 + 2 + 4) * padded(case) * (case.dp - 1) // case.dp


@pytest.mark.parametrize("windows", [1, 5, 6, 7])
def test_held_out_loss_is_the_mean_though_some_ranks_have_fewer_windows(windows: int) -> None:
    case = Case(GPT, dp=3)
    text = np.random.default_rng(0).integers(case.config.vocab, size=(windows, case.seq + 1))
    model = case.model(None)
    model.load(case.weights())
    with forgetting():
        expected = float(model.forward(text[:, :-1], text[:, 1:]).mean())

    def main(comm: Any) -> float:
        mesh = Mesh(comm, 1)
        return held_out_loss(case.sharded(mesh), mesh, text, batch=1)

    assert run(main, case.dp) == pytest.approx([expected] * case.dp, rel=1e-12)


# --- what it costs ------------------------------------------------------------------------------------------


def unit_sizes(case: Case) -> dict[str, int]:
    """Entries of each unit's parameters, from the names of one device's, padded to a multiple of dp."""
    first, last = ("embedding", "positions"), ("norm", "head")
    ends = {"ends": first + last} if case.config.tied else {"embedding": first, "head": last}
    sizes: dict[str, int] = dict.fromkeys(ends, 0)
    for name, parameter in case.model(None).parameters().items():
        parts = name.split(".")
        unit = next((end for end, layers in ends.items() if parts[0] in layers), ".".join(parts[:2]))
        sizes[unit] = sizes.get(unit, 0) + math.prod(parameter.whole_shape)
    return {unit: -(-size // case.dp) * case.dp for unit, size in sizes.items()}


def padded(case: Case) -> int:
    return sum(unit_sizes(case).values())


@pytest.mark.parametrize("keep_after_forward", [False, True])
@pytest.mark.parametrize("config", [GPT, LLAMA, replace(LLAMA, tied=True)], ids=["gpt", "llama", "tied"])
def test_three_times_the_parameters_are_sent_whatever_the_batch_is(
    config: ModelConfig, keep_after_forward: bool
) -> None:
    times, operations = (2, 2) if keep_after_forward else (3, 3)
    for case in (
        Case(config, dp=4, batch=4, seq=2, keep_after_forward=keep_after_forward),
        Case(config, dp=4, batch=16, seq=16, keep_after_forward=keep_after_forward, recompute="full"),
        Case(config, dp=4, batch=8, seq=4, keep_after_forward=keep_after_forward, microbatches=2),
        Case(config, dp=5, batch=5, keep_after_forward=keep_after_forward, prefetch=False, dtype="float32"),
        Case(config, dp=1, keep_after_forward=keep_after_forward),
    ):
        once = padded(case) // case.dp * (case.dp - 1) * np.dtype(case.dtype).itemsize
        for rank in step(case):
            events = rank.trace.select(layer="fully_sharded")
            assert sum(event.bytes_sent for event in events) == times * once * case.microbatches
            assert len(events) == operations * len(unit_sizes(case)) * case.microbatches
            assert {event.group for event in events} == {"dp"}


def test_the_order_is_gather_run_drop_and_backwards() -> None:
    for config, ends in ((LLAMA, ("embedding", "head")), (GPT, ("ends",))):
        rank, _ = step(Case(config, prefetch=False))
        blocks = ["blocks.0", "blocks.1"]
        units = [ends[0], *blocks, *ends[1:]]
        gathered = units if len(ends) == 2 else [*blocks, ends[0]]  # the order in which backward needs them
        events = [
            (event.operation, event.phase, event.layer.removeprefix("fully_sharded."))
            for event in rank.trace.select(layer="fully_sharded")
        ]
        forward = [("all_gather", "forward", unit) for unit in units]
        assert events[: len(units)] == forward
        again = [event for event in events[len(units) :] if event[0] == "all_gather"]
        assert again == [("all_gather", "backward", unit) for unit in reversed(gathered)]
        summed = [event for event in events if event[0] == "reduce_scatter"]
        assert summed == [("reduce_scatter", "backward", unit) for unit in reversed(units)]


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("config", [GPT, LLAMA], ids=["tied", "untied"])
def test_no_more_than_the_unit_at_work_and_the_next_are_whole(config: ModelConfig, prefetch: bool) -> None:
    """Counted by what is alive: gathered arrays of which no view is left are gone."""
    case = Case(replace(config, layers=4), prefetch=prefetch)

    def main(comm: Any) -> tuple[int, int]:
        mesh = Mesh(comm, 1)
        model = case.sharded(mesh)
        arrays: list[weakref.ref[Array]] = []
        most = 0
        iall_gather = mesh.dp.iall_gather

        class Noted:
            def __init__(self, x: Array) -> None:
                self.handle = iall_gather(x)

            def wait(self) -> Array:
                nonlocal most
                whole = self.handle.wait()
                arrays.append(weakref.ref(whole))
                most = max(most, sum(array() is not None for array in arrays))
                return whole

        vars(mesh.dp)["iall_gather"] = Noted
        tokens, targets = case.data()
        loss = model.forward(tokens, targets)
        model.backward(np.ones_like(loss))
        assert not any(array() is not None for array in arrays)
        return most, model.peak_whole_bytes

    sizes = unit_sizes(case)
    shared = [sizes.pop("ends")] if config.tied else []
    order = list(sizes.values())
    if not config.tied:
        order = [sizes["embedding"], *(sizes[f"blocks.{i}"] for i in range(4)), sizes["head"]]
    pairs = [sum(pair) for pair in pairwise(order)] if prefetch else order
    for most, peak in run(main, case.dp):
        assert most == 1 + len(shared)  # the next one's array is there when its gather has been waited for
        assert peak == 8 * (max(pairs) + sum(shared))


def test_a_dry_run_sends_what_a_real_one_does() -> None:
    for case in (Case(LLAMA, dp=2, tp=2, dtype="float32"), Case(GPT, dp=4, dtype="bfloat16", prefetch=False)):
        with shapes_only():
            mesh = DryMesh(case.tp, case.dp, rank=1)
            model = FullySharded(case.model(mesh.tp), mesh.dp, prefetch=case.prefetch)
            optimizer = AdamW(model)
        tokens: Any = ShapeArray((case.batch // case.dp, case.seq), "int64")
        with Trace() as dry:
            loss = model.forward(tokens, tokens)
            model.backward(np.ones_like(loss))
        optimizer.step(0.1)

        def sent(trace: Trace) -> list[Any]:
            events = trace.select(layer="fully_sharded")
            return [(e.operation, e.layer, e.phase, e.shape, e.dtype, e.bytes_sent) for e in events]

        real = step(case)[1]
        assert sent(dry) == sent(real.trace)
        assert model.peak_whole_bytes == real.model.peak_whole_bytes


# --- parameters that are not there --------------------------------------------------------------------------


USES: dict[str, Callable[[LanguageModel, Any], Any]] = {
    "add": lambda model, data: data + 1,
    "scale": lambda model, data: data.__imul__(2),
    "times": lambda model, data: np.ones((1, 12)) @ data,
    "sum": lambda model, data: np.sum(data),
    "array": lambda model, data: np.array(data),
    "index": lambda model, data: data[0],
    "set": lambda model, data: data.__setitem__(0, 1.0),
    "dtype": lambda model, data: data.dtype,
    "equal": lambda model, data: data == 1,
    "inner layer": lambda model, data: model.blocks[0].mlp.forward(np.ones((1, 2, 12))),
    "load": lambda model, data: model.load(Case().weights()),
    "optimizer": lambda model, data: AdamW(model),
    "gather": lambda model, data: nn.assemble([(p, p.data) for p in model.parameters().values()]),
    "shard twice": lambda model, data: FullySharded(model, solo()),
}


@pytest.mark.parametrize("use", USES)
def test_dropped_parameters_say_so_when_they_are_used(use: str) -> None:
    def main(comm: Any) -> None:
        model = FullySharded(Case().model(None), Group(comm))
        weight = model.model.blocks[0].mlp.up.weight
        assert "(12, 48)" in repr(weight)
        with pytest.raises(
            RuntimeError, match=r"weight: its data is asked for, but .* keeps only a shard; enter FullySh"
        ):
            USES[use](model.model, weight.data)

    run(main, 2)


def test_what_is_no_language_model_is_refused() -> None:
    for model in (nn.MLP(8, 32), FullySharded(Case().model(None), solo())):
        wrong: Any = model
        with pytest.raises(TypeError, match=f"a {type(model).__name__} is not a LanguageModel, .*; pass"):
            FullySharded(wrong, solo())


def test_an_optimizer_of_the_model_that_was_sharded_is_refused() -> None:
    case = Case()

    def main(comm: Any) -> None:
        model = case.model(None)
        optimizer = SGD(model)  # and the shards are not yet there
        sharded = FullySharded(model, Group(comm))
        sharded.backward(np.ones_like(sharded.forward(*case.data())))
        with pytest.raises(RuntimeError, match=r"no parameter has a gradient.*not of the model inside"):
            optimizer.step(0.1)

    run(main, 2)


def test_gathered_shows_the_whole_for_a_while() -> None:
    def main(comm: Any) -> None:
        case = Case(LLAMA, tp=2)
        mesh = Mesh(comm, 2)
        sharded = case.sharded(mesh)
        with sharded.gathered() as model:
            for name, parameter in model.parameters().items():
                np.testing.assert_array_equal(parameter.data, parameter.take(case.weights()[name]))
        with pytest.raises(RuntimeError, match="is asked for"):
            model.norm.weight.data.sum()

    run(main, 4)


def test_what_a_forward_without_backward_kept_is_gathered_anew() -> None:
    case = Case(keep_after_forward=True)
    tokens, targets = case.data()
    plain = case.model(None)
    nothing = {name: 0 * weight for name, weight in case.weights().items()}

    def main(comm: Any) -> Array:
        model = case.sharded(Mesh(comm, 1))
        model.forward(tokens, targets)
        model.load(nothing)
        return model.forward(tokens, targets)

    plain.load(nothing)
    for loss in run(main, 2):
        np.testing.assert_array_equal(loss, plain.forward(tokens, targets))


def test_gathered_shows_the_weights_of_now_and_not_those_that_a_forward_kept() -> None:
    case = Case(keep_after_forward=True)
    nothing = {name: 0 * weight for name, weight in case.weights().items()}

    def main(comm: Any) -> bool:
        model = case.sharded(Mesh(comm, 1))
        model.forward(*case.data())
        model.load(nothing)
        with model.gathered() as whole:
            return any(parameter.data.any() for parameter in whole.parameters().values())

    assert run(main, 2) == [False, False]


def test_what_a_failed_forward_had_begun_to_gather_is_gathered_anew() -> None:
    case = Case()
    tokens, targets = case.data()
    plain = case.model(None)
    other = {name: 2 * weight for name, weight in case.weights().items()}

    def main(comm: Any) -> Array:
        model = case.sharded(Mesh(comm, 1))
        with pytest.raises(ValueError, match="is not in a vocabulary"):
            model.forward(tokens + case.config.vocab, targets)
        model.load(other)
        return model.forward(tokens, targets)

    plain.load(other)
    for loss in run(main, 2):
        np.testing.assert_array_equal(loss, plain.forward(tokens, targets))


@pytest.mark.parametrize("config", [GPT, LLAMA], ids=["tied", "untied"])
def test_every_gather_but_the_first_and_every_sum_but_the_last_hides_behind_a_unit(
    config: ModelConfig,
) -> None:
    case = Case(config)

    def main(comm: Any) -> Trace:
        model = case.sharded(Mesh(comm, 1))
        with Trace(kernels=True) as trace:
            loss = model.forward(*case.data())
            model.backward(np.ones_like(loss))
        return trace

    trace = run(main, case.dp)[0]
    work = [*(kernel.order for kernel in trace.kernels), *(order for order, _ in trace.saved_over_time)]
    events = trace.select(layer="fully_sharded")
    seen = {
        (operation, phase): [
            any(event.begun < order < event.order for order in work)
            for event in sorted(events, key=lambda event: event.begun)
            if (event.operation, event.phase) == (operation, phase)
        ]
        for operation, phase in {(event.operation, event.phase) for event in events}
    }
    units = len(unit_sizes(case))
    assert seen == {
        ("all_gather", "forward"): [False] + [True] * (units - 1),
        ("all_gather", "backward"): [False] + [True] * (units - 1),
        ("reduce_scatter", "backward"): [True] * (units - 1) + [False],
    }


def test_a_forward_of_which_no_backward_comes_keeps_nothing() -> None:
    case = Case(keep_after_forward=True)

    def main(comm: Any) -> None:
        model = case.sharded(Mesh(comm, 1))
        with forgetting():
            model.forward(*case.data())
        assert sum(unit.nbytes_here for unit in model.units) == 0

    run(main, 2)


def test_parameters_of_two_dtypes_are_two_flat_arrays() -> None:
    def main(comm: Any) -> None:
        rng = np.random.default_rng(0)
        own = {
            name: Parameter((5,), 0, [Piece(5)], zeros, rng, dtype)
            for name, dtype in (("a", "float32"), ("b", "float64"), ("c", "float32"))
        }
        unit = Unit("mixed", [], own, Group(comm, name="dp"))
        assert unit.nbytes == 12 * 4 + 6 * 8
        for name, shard in unit.shards().items():
            shard.data += ord(name)
        unit.begin_gather("forward")
        unit.finish_gather()
        for name, parameter in own.items():
            np.testing.assert_array_equal(parameter.data, np.full(5, ord(name)))
            assert parameter.data.dtype == (np.float64 if name == "b" else np.float32)

    run(main, 3)


# --- shards -------------------------------------------------------------------------------------------------


@st.composite
def parameters(draw: st.DrawFn) -> Parameter:
    """A vector or a matrix of some pieces, cut or not, some with padding at the end."""
    pieces = []
    for size in draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)):
        parts = draw(st.integers(1, 4))
        pieces.append(Piece(size, parts, draw(st.integers(0, parts - 1))))
    length = sum(piece.size for piece in pieces)
    shape, axis = draw(
        st.sampled_from([((length,), 0), ((length, draw(st.integers(1, 4))), 0), ((3, length), 1)])
    )
    return Parameter(shape, axis, pieces, ones, np.random.default_rng(0), np.float64)


@given(parameters(), st.integers(1, 9))
def test_shards_are_stretches_of_the_parameter_and_know_their_places(parameter: Parameter, t: int) -> None:
    whole = np.random.default_rng(1).random(parameter.whole_shape)
    local = parameter.take(whole)
    edges = [local.size * rank // t for rank in range(t + 1)]
    shards = [ParameterShard(parameter, *span) for span in pairwise(edges)]
    found = np.full_like(whole, np.nan)
    for shard, (start, stop) in zip(shards, pairwise(edges), strict=True):
        stretch = shard.take(whole)
        np.testing.assert_array_equal(stretch, local.reshape(-1)[start:stop])
        assert len(shard.pieces) == len(shard.placed(stretch))
        for where, part in shard.placed(stretch):
            assert np.isnan(found[where]).all()  # no entry is in two of them
            found[where] = part
            assert part.base is not None  # a view: to write to it is to write to the shard
    expected = np.full_like(whole, np.nan)
    for where, part in parameter.placed(local):
        expected[where] = part
    np.testing.assert_array_equal(found, expected)


def test_a_shard_refuses_another_whole() -> None:
    shard = ParameterShard(Parameter((4,), 0, [Piece(4)], ones, np.random.default_rng(0), "float64"), 1, 3)
    assert "1:3 of 4" in repr(shard)
    with pytest.raises(ValueError, match=r"whole shape \(4,\): got an array of shape \(2,\); pass the whole"):
        shard.take(np.ones(2))


# --- checkpoints, and under mpiexec -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize(
    ("first", "then"), [((3, 2), (1, 1)), ((1, 1), (2, 2)), ((3, 1), (2, 4)), ((2, 2), None)]
)
def test_checkpoints_fit_any_other_cut(
    tmp_path: Path, first: tuple[int, int], then: tuple[int, int] | None, dtype: str
) -> None:
    """Saved on (dp, tp), and loaded on others, sharded or (None) not; masters with all their digits."""
    base = Case(LLAMA, batch=6, dtype=dtype)
    saved = replace(base, dp=first[0], tp=first[1])
    loaded = replace(base, dp=then[0], tp=then[1]) if then else replace(base, dp=1, tp=4)

    def save(comm: Any) -> Any:
        _, model, optimizer, mesh = train(comm, saved, AdamW, True)
        checkpoint.save(tmp_path, model, optimizer, mesh, {})
        return whole_state(model, optimizer)

    def load(comm: Any) -> Any:
        mesh = Mesh(comm, loaded.tp)
        model = loaded.sharded(mesh) if then else loaded.model(mesh.tp)
        optimizer = AdamW(model)
        checkpoint.load(tmp_path, model, optimizer, mesh)
        assert optimizer.steps == 4
        return whole_state(model, optimizer)

    before, after = (together(run(main, case.ranks)) for main, case in ((save, saved), (load, loaded)))
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)


def whole_state(model: nn.Layer, optimizer: Optimizer) -> dict[str, tuple[Parameter, Array]]:
    own = model.parameters()
    kinds = {"data": {name: p.data for name, p in own.items()}, **optimizer.state()}
    return {f"{kind} {name}": (own[name], array) for kind, of in kinds.items() for name, array in of.items()}


def together(ranks: list[dict[str, tuple[Parameter, Array]]]) -> dict[str, Array]:
    return {name: nn.assemble([rank[name] for rank in ranks]) for name in ranks[0]}


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    def main(comm: Any, config: ModelConfig) -> None:
        mesh = Mesh(comm, 1)
        model = Case(config).sharded(mesh)
        if config is GPT:
            checkpoint.save(tmp_path, model, AdamW(model), mesh, {})
        else:
            checkpoint.load(tmp_path, model, AdamW(model), mesh)

    run(main, 2, GPT)
    with pytest.raises(ValueError, match="another model's checkpoint, with"):
        run(main, 2, replace(GPT, hidden=16))


def few_steps(comm: Any) -> list[tuple[float, float]]:
    """What the script under mpiexec runs, too."""
    return train(comm, Case(LLAMA, dp=2, tp=2, microbatches=2, dtype="float32"), AdamW, True)[0]


@needs_mpi
def test_mpi_has_the_bits_of_virtual_ranks(tmp_path: Path) -> None:
    job = mpiexec(4, SCRIPTS / "fsdp.py", tmp=tmp_path)
    assert job.code == 0, job.err
    for schedule in ("lockstep", "free"):
        assert json.loads(job.out) == [list(one) for one in run(few_steps, 4, schedule=schedule)[0]]
