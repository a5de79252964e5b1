"""Whole models on t ranks: loss, logits and every gradient are one device's, and cost what is written."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pytest
from gradcheck import assert_gradients
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tpsim import Group, Trace, models, nn, reference, run
from tpsim.comm.algorithms.closed_form import sent
from tpsim.functional import Array
from tpsim.models import LanguageModel, ModelConfig, RotaryScaling
from tpsim.nn.masks import Draw, drawing, keep_mask
from tpsim.nn.recompute import Recompute

IGNORED = -100
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
SCALING = RotaryScaling(8.0, 1.0, 4.0, 16)
GPT = replace(models.gpt("gpt", 2, 16, 8, vocab=21, max_seq=20), eps=1e-3)
LLAMA = models.llama("llama", 2, 16, 8, kv_heads=2, ffn=24, vocab=21, max_seq=20, rotary_scaling=SCALING)


@dataclass(frozen=True)
class Case:
    """A model, how it is cut, and a seed for all numbers."""

    config: ModelConfig = GPT
    ranks: int = 1
    batch: int = 2
    seq: int = 8
    dtype: str = "float64"
    sequence_parallel: bool = False
    keep_gathered: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    recompute: Recompute = "none"
    fused_loss: bool = False
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    ignored: float = 0.0
    seed: int = 0

    def build(self, group: Group | None) -> LanguageModel:
        return LanguageModel(
            self.config,
            group,
            sequence_parallel=self.sequence_parallel,
            keep_gathered=self.keep_gathered,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            recompute=self.recompute,
            fused_loss=self.fused_loss,
            dtype=self.dtype,
            **self.loss_options,
        )

    @property
    def loss_options(self) -> dict[str, Any]:
        return {"label_smoothing": self.label_smoothing, "z_loss": self.z_loss}

    @cached_property
    def weights(self) -> dict[str, Array]:
        """Whole parameters, such that activations stay near 1."""
        rng = np.random.default_rng(self.seed)
        return {
            name: self._draw(rng, name, parameter.whole_shape)
            for name, parameter in LanguageModel(self.config).parameters().items()
        }

    def _draw(self, rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
        drawn = rng.standard_normal(shape)
        if len(shape) == 1:
            drawn = 0.3 * drawn + ("norm" in name and name.endswith("weight"))
        else:
            drawn /= math.sqrt(shape[1] if name.startswith(("embedding", "positions", "head")) else shape[0])
        return drawn.astype(self.dtype)

    @cached_property
    def data(self) -> tuple[Array, Array, Array]:
        """Tokens, targets and dloss."""
        rng = np.random.default_rng((self.seed, 1))
        tokens, targets = rng.integers(self.config.vocab, size=(2, self.batch, self.seq))
        targets = np.where(rng.random(targets.shape) < self.ignored, IGNORED, targets)
        return tokens, targets, rng.standard_normal(targets.shape).astype(self.dtype)

    @property
    def draw(self) -> Draw:
        return Draw(self.seed, 3, [7, 5][: self.batch])

    def masks(self) -> dict[str, Array]:
        """Every whole mask, by the path of its layer."""
        residual = (self.batch, self.seq, self.config.hidden)
        scores = (self.batch, self.config.heads, self.seq, self.seq)
        sites: dict[str, tuple[float, tuple[int, ...]]] = {"dropout": (self.dropout, residual)}
        for i in range(self.config.layers):
            sites |= {f"blocks.{i}.dropout{j}": (self.dropout, residual) for j in (1, 2)}
            sites |= {f"blocks.{i}.attention.dropout": (self.attention_dropout, scores)}
        return {
            site: keep_mask(self.draw, site, rate, 0, shape) for site, (rate, shape) in sites.items() if rate
        }

    def expected(self) -> tuple[Array, Array, dict[str, Array]]:
        """The reference's loss, logits and gradients, in float64."""
        tokens, targets, dloss = self.data
        weights = {name: weight.astype(np.float64) for name, weight in self.weights.items()}
        options = self.config.reference_options() | {
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "masks": self.masks(),
        }
        loss, cache = reference.model(weights, tokens, targets, loss_options=self.loss_options, **options)
        gradients = reference.model_grad(weights, cache, dloss.astype(np.float64), **options)
        return loss, cache["logits"], gradients


class OnRank(NamedTuple):
    """What a rank has after a step."""

    logits: Array
    loss: Array
    parameters: dict[str, nn.Parameter]
    trace: Trace


def step(case: Case) -> list[OnRank]:
    """Logits by themselves; then forward, backward and the sum of replicas, traced."""
    tokens, targets, dloss = case.data

    def main(comm: Any) -> OnRank:
        model = case.build(Group(comm))
        model.load(case.weights)
        with drawing(case.draw.seed, case.draw.step, case.draw.samples):
            logits = model.logits(tokens)
            with Trace() as trace:
                loss = model.forward(tokens, targets)
                model.backward(dloss)
                nn.sum_replica_gradients(model)
        return OnRank(logits, loss, model.parameters(), trace)

    return run(main, case.ranks)


@st.composite
def cases(draw: st.DrawFn, /, **fixed: Any) -> Case:
    def pick(name: str, strategy: st.SearchStrategy[Any]) -> Any:
        return fixed[name] if name in fixed else draw(strategy)

    t = pick("ranks", st.integers(1, 8))
    dtype = pick("dtype", st.sampled_from(["float64", "float32"]))
    sequence_parallel = pick("sequence_parallel", st.booleans())
    # Gradients of q and k norms are what cancellations leave: float32 has no digits for it.
    qk_norm = dtype == "float64" and draw(st.booleans())
    rotary = draw(st.booleans())
    heads = t * draw(st.integers(1, 2))
    shared = [g for g in range(1, heads + 1) if heads % g == 0 and (g % t == 0 or t % g == 0)]
    kv_heads = draw(st.sampled_from(shared))
    config = ModelConfig(
        name="drawn",
        layers=draw(st.integers(1, 2)),
        # Few entries may happen to be nearly alike; a norm's 1/σ then amplifies float32's rounding.
        hidden=draw(st.integers(4, 7) if dtype == "float64" else st.integers(24, 28)),
        heads=heads,
        kv_heads=kv_heads,
        head_size=draw(st.sampled_from([4, 6] if rotary else [4, 5])),
        ffn=t * draw(st.integers(-(-4 // t), 5)),
        vocab=draw(st.integers(4, 20)),
        max_seq=20,
        norm=draw(st.sampled_from(["layer", "rms"])),
        activation=draw(st.sampled_from(["gelu_tanh", "gelu", "swiglu"])),
        bias=draw(st.booleans()),
        positions="rotary" if rotary else draw(st.sampled_from(["learned", "none"])),
        tied=draw(st.booleans()),
        rotary_base=draw(st.sampled_from([50.0, 10_000.0])) if rotary else None,
        rotary_scaling=draw(st.sampled_from([None, SCALING])) if rotary else None,
        eps=1e-3,  # no layer's default, so that an eps that is not passed on shows
        qk_norm=qk_norm,
    )
    return Case(
        config,
        ranks=t,
        batch=draw(st.integers(1, 2)),
        seq=draw(st.integers(1, 2).map(lambda n: n * t) if sequence_parallel else st.integers(1, 6)),
        dtype=dtype,
        sequence_parallel=sequence_parallel,
        keep_gathered=draw(st.booleans()),
        dropout=draw(st.sampled_from([0.0, 0.3])),
        attention_dropout=draw(st.sampled_from([0.0, 0.3])),
        recompute=draw(st.sampled_from(["none", "selective", "full"])),
        fused_loss=draw(st.booleans()),
        label_smoothing=draw(st.sampled_from([0.0, 0.1])),
        z_loss=draw(st.sampled_from([0.0, 0.01])),
        ignored=draw(st.sampled_from([0.0, 0.4])),
        seed=draw(st.integers(0, 999)),
    )


def assert_close(actual: Array, expected: Array, what: str, terms: float) -> None:
    """|Δ| ≤ tol · max(largest entry expected, magnitude of the summed terms)."""
    assert actual.shape == expected.shape, what
    scale = max(float(np.max(np.abs(expected), initial=0)), terms)
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=TOLERANCE[str(actual.dtype)] * scale, err_msg=what
    )


@settings(max_examples=100)
@given(cases())
@example(Case(GPT, ranks=8, sequence_parallel=True, label_smoothing=0.1, z_loss=0.01, ignored=0.4))
@example(Case(GPT, ranks=4, dtype="float32"))
@example(Case(LLAMA, ranks=8, sequence_parallel=True, keep_gathered=True, fused_loss=True))
@example(Case(replace(LLAMA, tied=True, qk_norm=True), ranks=4))
@example(Case(LLAMA, ranks=2, sequence_parallel=True, dtype="float32"))
@example(Case(GPT, ranks=4, sequence_parallel=True, dropout=0.3, attention_dropout=0.3, recompute="full"))
def test_loss_logits_and_every_gradient_equal_the_reference(case: Case) -> None:
    """Every rank's own gradients, after the sums, are its slice of one device's: padding has none."""
    loss, logits, gradients = case.expected()
    terms = float(np.sum(np.abs(case.data[2])))  # a gradient is a sum over tokens
    ranks = step(case)
    found = np.concatenate([rank.logits for rank in ranks], axis=-1)
    assert (found[..., case.config.vocab :] == -np.inf).all()
    assert_close(found[..., : case.config.vocab], logits, "logits", 1)
    for rank in ranks:
        assert_close(rank.loss, loss, "loss", 1)
        assert rank.loss.dtype == case.dtype
        assert rank.parameters.keys() == gradients.keys()
        for name, parameter in rank.parameters.items():
            assert parameter.grad is not None
            assert parameter.grad.dtype == case.dtype
            assert_close(parameter.grad, parameter.take(gradients[name]), name, terms)


# --- the start ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [GPT, LLAMA], ids=lambda config: config.name)
def test_every_number_of_ranks_starts_from_the_same_bits(config: ModelConfig) -> None:
    one_device = LanguageModel(config).parameters()
    for ranks in (2, 4, 8):
        on_ranks = run(lambda comm: LanguageModel(config, Group(comm)).parameters(), ranks)
        assert list(on_ranks[0]) == list(one_device)
        for name, parameter in one_device.items():
            whole = nn.assemble([(own[name], own[name].data) for own in on_ranks])
            np.testing.assert_array_equal(whole, parameter.data, err_msg=name)


@pytest.mark.parametrize("name", ["tiny-gpt", "tiny-llama"])
def test_weights_start_small_and_gpts_residual_projections_smaller(name: str) -> None:
    config = models.get(name)
    for key, parameter in LanguageModel(config, rng=np.random.default_rng(1)).parameters().items():
        data = parameter.data
        if "norm" in key and key.endswith("weight"):
            assert (data == 1).all()
        elif key.endswith("bias"):
            assert (data == 0).all()
        else:
            into_residual = key.endswith(("attention.out.weight", "mlp.down.weight"))
            scale = 1 / math.sqrt(2 * config.layers) if into_residual and name == "tiny-gpt" else 1
            assert data.std() == pytest.approx(0.02 * scale, rel=0.03), key


def test_a_fresh_model_knows_nothing() -> None:
    """All words are as likely: the loss is log V."""
    for name in ("tiny-gpt", "tiny-llama"):
        case = Case(models.get(name), seq=32)
        loss = LanguageModel(case.config).forward(*case.data[:2])
        assert loss.mean() == pytest.approx(math.log(256), rel=0.02)


# --- what goes over the wire --------------------------------------------------------------------------------


class Move(NamedTuple):
    """A collective: in which layer and pass, among how many, of what each rank gives."""

    layer: str
    phase: str
    operation: str
    ranks: int
    shape: tuple[int, ...]


Border: TypeAlias = list[tuple[str, tuple[int, ...]]]  # what it sends: operation and shape
Layered: TypeAlias = tuple[str, str, tuple[int, ...]]


def expected_moves(case: Case) -> list[Move]:
    """Every collective of a forward and a backward, in order, from the contracts."""
    t, b, s, h = case.ranks, case.batch, case.seq, case.config.hidden
    whole, part = (b, s, h), (b, s // t, h)
    blocks = [f"blocks.{i}" for i in range(case.config.layers)]
    summed = 3 if case.label_smoothing else 2  # Σexp, the target's logit, and Σx
    sums = [(summed, b, s)] if case.fused_loss else summed * [(b, s)]
    loss: list[Layered] = [("loss", "all_reduce", shape) for shape in [(b, s), *sums]]
    enter: Border
    enter_grad: Border
    leave: Border
    leave_grad: Border

    if case.sequence_parallel:
        again: Border = [] if case.keep_gathered else [("all_gather", part)]  # the input of a region, for dW
        enter, enter_grad = [("all_gather", part)], [*again, ("reduce_scatter", whole)]
        leave, leave_grad = [("reduce_scatter", whole)], [("all_gather", part)]
    else:
        enter, enter_grad = [], [("all_reduce", whole)]
        leave, leave_grad = [("all_reduce", whole)], []

    def block(path: str) -> list[Layered]:
        inside = [("attention.qkv", enter), ("attention.out", leave), ("mlp.up", enter), ("mlp.down", leave)]
        return [(f"{path}.{layer}", *one) for layer, border in inside for one in border]

    def block_grad(path: str) -> list[Layered]:
        inside = [("mlp.down", leave_grad), ("mlp.up", enter_grad)]
        inside += [("attention.out", leave_grad), ("attention.qkv", enter_grad)]
        rerun = block(f"{path}.recompute") if case.recompute == "full" else []
        return rerun + [(f"{path}.{layer}", *one) for layer, border in inside for one in border]

    forward: list[Layered] = [("embedding", *one) for one in leave]
    forward += [move for path in blocks for move in block(path)]
    forward += [("head", *one) for one in enter] + loss
    backward: list[Layered] = [("head", *one) for one in enter_grad]
    backward += [move for path in reversed(blocks) for move in block_grad(path)]
    backward += [("embedding", *one) for one in leave_grad]
    return [
        Move(layer, phase, operation, t, shape)
        for phase, moves in (("forward", forward), ("backward", backward))
        for layer, operation, shape in moves
    ]


def expected_sums(case: Case) -> list[Move]:
    """The coalesced sums of replicas' gradients, once a step."""
    config, t = case.config, case.ranks
    L, h, d = config.layers, config.hidden, config.head_size
    shares = {t: 2 * d * L if config.qk_norm else 0}  # of each rank's own heads
    if case.sequence_parallel:  # of each rank's own positions
        norms = (2 * L + 1) * h * (2 if config.norm == "layer" else 1)
        biases = 2 * L * h if config.bias else 0  # of the row-parallel linears
        shares[t] += norms + biases + (config.max_seq * h if config.positions == "learned" else 0)
    if t > config.kv_heads:  # one head's K and V, of each rank's own queries
        copies = t // config.kv_heads
        shares[copies] = shares.get(copies, 0) + L * 2 * d * (h + (1 if config.bias else 0))
    return [
        Move("gradients", "backward", "all_reduce", ranks, (count,))
        for ranks, count in shares.items()
        if ranks > 1 and count
    ]


@settings(max_examples=60)
@given(cases())
@example(Case(GPT, ranks=4, sequence_parallel=True))
@example(Case(replace(LLAMA, qk_norm=True, bias=True), ranks=8, sequence_parallel=True))
def test_collectives_and_bytes_of_a_step_are_the_closed_form(case: Case) -> None:
    passes, sums = expected_moves(case), expected_sums(case)
    itemsize = np.dtype(case.dtype).itemsize
    for rank, one in enumerate(step(case)):
        events = one.trace.collectives
        moves = [Move(e.layer, e.phase, e.operation, e.ranks, e.shape) for e in events]
        assert moves[: len(passes)] == passes
        assert Counter(moves[len(passes) :]) == Counter(sums)
        for event, move in zip(events, moves, strict=True):
            count = math.prod(move.shape) * (move.ranks if move.operation == "all_gather" else 1)
            elements = sent(move.operation, "ring", rank % move.ranks, move.ranks, count).elements
            assert event.bytes_sent == elements * itemsize
        assert one.trace.saved_bytes == 0


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(
    ("sequence_parallel", "keep_gathered"), [(False, False), (True, True), (True, False)]
)
def test_a_step_sends_what_fits_on_a_napkin(
    layers: int, sequence_parallel: bool, keep_gathered: bool
) -> None:
    """An all-reduce of N elements sends 2(t − 1)/t·N, and its two halves half of that."""
    t, b, s, e, h = 4, 2, 8, 8, GPT.hidden
    case = Case(
        replace(GPT, layers=layers),
        ranks=t,
        sequence_parallel=sequence_parallel,
        keep_gathered=keep_gathered,
    )
    all_reduces = 4 * layers + 2  # blocks; the embedding forward and the head backward
    gathered_again = 2 * layers + 1 if sequence_parallel and not keep_gathered else 0
    loss = 3 * 2 * (t - 1) * b * s // t
    expected = (2 * all_reduces + gathered_again) * (t - 1) * b * s * h // t + loss
    for rank in step(case):
        by_layer = [event for event in rank.trace.collectives if event.layer != "gradients"]
        assert sum(event.bytes_sent for event in by_layer) == expected * e


@pytest.mark.parametrize("sequence_parallel", [False, True])
@pytest.mark.parametrize("config", [GPT, LLAMA], ids=lambda config: config.name)
def test_recompute_changes_no_bit_and_full_reruns_two_all_reduces_a_block(
    config: ModelConfig, sequence_parallel: bool
) -> None:
    case = Case(
        config,
        ranks=4,
        sequence_parallel=sequence_parallel,
        dropout=0.3,
        attention_dropout=0.3,
        dtype="float32",
    )
    kept, core, full = (step(replace(case, recompute=what)) for what in ("none", "selective", "full"))
    for plain, *others in zip(kept, core, full, strict=True):
        for other in others:
            np.testing.assert_array_equal(plain.loss, other.loss)
            for name, parameter in plain.parameters.items():
                assert parameter.grad is not None
                np.testing.assert_array_equal(parameter.grad, other.parameters[name].grad, err_msg=name)

    def calls(one: OnRank, operation: str) -> int:
        in_blocks = [e for e in one.trace.collectives if e.layer.startswith("blocks.")]
        return sum(event.operation == operation for event in in_blocks)

    counted = "reduce_scatter" if sequence_parallel else "all_reduce"
    assert [calls(one[0], counted) for one in (kept, core, full)] == [4 * 2, 4 * 2, 6 * 2]


def test_events_and_saved_tensors_carry_the_path_of_their_layer() -> None:
    case = Case(LLAMA, ranks=2, sequence_parallel=True)
    tokens, targets, _ = case.data

    def main(comm: Any) -> Trace:
        with Trace() as trace:
            case.build(Group(comm)).forward(tokens, targets)
        return trace

    trace = run(main, 2)[0]
    assert {"blocks.0.attention.qkv", "blocks.1.mlp.down", "head"} <= {e.layer for e in trace.collectives}
    assert {"blocks.0.norm1", "blocks.1.attention", "blocks.1.mlp.up", "norm", "loss"} <= {
        saved.layer for saved in trace.saved
    }


# --- names and lists ----------------------------------------------------------------------------------------


def test_parameters_of_lists_have_the_place_in_their_names() -> None:
    names = list(LanguageModel(LLAMA).parameters())
    block = ["norm1.weight", "attention.qkv.weight", "attention.out.weight", "norm2.weight"]
    block += ["mlp.up.weight", "mlp.down.weight"]
    within = [f"blocks.{i}.{name}" for i in range(2) for name in block]
    assert names == ["embedding.weight", *within, "norm.weight", "head.weight"]


def test_a_tied_head_is_the_embedding() -> None:
    model = LanguageModel(GPT)
    assert "head.weight" not in model.parameters()
    assert model.head.weight is model.embedding.weight
    assert "head.weight" in LanguageModel(LLAMA).parameters()


# --- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "ranks", "complaint"),
    [
        (GPT, 3, "heads 8 is not divisible by 3 ranks"),
        (replace(LLAMA, kv_heads=4, heads=12, head_size=2), 6, "4 kv heads can't be shared by 6 ranks"),
        (replace(LLAMA, ffn=6), 4, "ffn 6 is not divisible by 4 ranks"),
    ],
)
def test_a_model_that_cannot_be_cut_is_refused(config: ModelConfig, ranks: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        run(lambda comm: LanguageModel(config, Group(comm)), ranks)


def test_a_sequence_beyond_the_learned_positions_is_refused() -> None:
    tokens = np.zeros((1, 21), np.int64)
    with pytest.raises(ValueError, match="sequence of 21 is longer than the 20 positions"):
        LanguageModel(GPT).logits(tokens)
    assert LanguageModel(LLAMA).logits(tokens).shape == (1, 21, 21)


# --- the reference itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [GPT, LLAMA, replace(LLAMA, tied=True)], ids=["gpt", "llama", "tied"])
def test_reference_gradients_are_those_of_differences(config: ModelConfig) -> None:
    case = Case(config, seq=5, label_smoothing=0.1, z_loss=0.01, ignored=0.2)
    tokens, targets, dloss = case.data

    def loss(**weights: Array) -> Array:
        return reference.model(
            weights, tokens, targets, loss_options=case.loss_options, **config.reference_options()
        )[0]

    assert_gradients(loss, case.weights, case.expected()[2], dloss, directions=2)
