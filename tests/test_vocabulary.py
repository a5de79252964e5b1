"""Embedding, positions, output layer and loss, cut by the vocabulary, against the reference and PyTorch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradcheck import assert_gradients
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tpsim import Group, Trace, nn, reference, run
from tpsim.comm.algorithms.closed_form import sent
from tpsim.functional import Array
from tpsim.lab import vocabulary
from tpsim.nn.parameter import Parameter, Piece, cut, normal

IGNORED = -100
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
WIDE = normal(0.5)  # so that logits differ enough to matter
lean = settings(max_examples=100)


def assert_close(actual: Array, expected: Array, what: str, *, terms: float = 0.0) -> None:
    """|Δ| ≤ tol · max(largest entry expected, magnitude of the summed terms)."""
    assert actual.shape == expected.shape, what
    scale = max(float(np.max(np.abs(expected), initial=0)), terms)
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=TOLERANCE[str(actual.dtype)] * scale, err_msg=what
    )


@dataclass(frozen=True)
class Case:
    """Sizes, options, and a seed for all numbers."""

    ranks: int = 1
    vocab: int = 5
    batch: int = 2
    seq: int = 2
    hidden: int = 4
    length: int = 20
    dtype: str = "float64"
    sequence_parallel: bool = False
    keep_gathered: bool = False
    tied: bool = False
    fused: bool = False
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    ignored: float = 0.0
    seed: int = 0

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def normal(self, *shape: int, stream: int = 0) -> Array:
        drawn = np.random.default_rng((self.seed, stream)).standard_normal(shape)
        return drawn.astype(self.dtype)

    def tokens(self) -> Array:
        return self.rng().integers(self.vocab, size=(self.batch, self.seq))

    def targets(self) -> Array:
        rng = np.random.default_rng((self.seed, 1))
        targets = rng.integers(self.vocab, size=(self.batch, self.seq))
        return np.where(rng.random(targets.shape) < self.ignored, IGNORED, targets)

    def dloss(self) -> Array:
        drawn = np.random.default_rng((self.seed, 2)).standard_normal((self.batch, self.seq))
        return drawn.astype(self.dtype)

    def options(self) -> dict[str, Any]:
        return {"label_smoothing": self.label_smoothing, "z_loss": self.z_loss}

    def loss(self, group: Group) -> nn.VocabParallelCrossEntropy:
        return nn.VocabParallelCrossEntropy(self.vocab, group, fused=self.fused, **self.options())

    def local(self, group: Group, logits: Array) -> Array:
        """A rank's columns of whole logits, −inf in padding."""
        return Parameter(
            logits.shape, 2, [cut(self.vocab, group)], lambda rng, shape: logits, self.rng(), self.dtype
        ).data + self.padding(group)

    def padding(self, group: Group) -> Array:
        columns = cut(self.vocab, group)
        return np.where(np.arange(columns.local) < columns.real, 0, -np.inf).astype(self.dtype)


@st.composite
def cases(draw: st.DrawFn, /, **fixed: Any) -> Case:
    def pick(name: str, strategy: st.SearchStrategy[Any]) -> Any:
        return fixed[name] if name in fixed else draw(strategy)

    ranks = pick("ranks", st.integers(1, 8))
    sequence_parallel = pick("sequence_parallel", st.booleans())
    smoothing = pick("label_smoothing", st.sampled_from([0.0, 0.1, 0.7]))
    return Case(
        ranks=ranks,
        vocab=pick("vocab", st.integers(2 if smoothing else 1, 20)),
        batch=draw(st.integers(1, 3)),
        seq=draw(st.integers(1, 2).map(lambda n: n * ranks) if sequence_parallel else st.integers(1, 5)),
        hidden=draw(st.integers(4, 6)),
        dtype=pick("dtype", st.sampled_from(["float64", "float32"])),
        sequence_parallel=sequence_parallel,
        keep_gathered=draw(st.booleans()),
        tied=draw(st.booleans()),
        fused=draw(st.booleans()),
        label_smoothing=smoothing,
        z_loss=pick("z_loss", st.sampled_from([0.0, 0.01])),
        ignored=draw(st.sampled_from([0.0, 0.4, 1.0])),
        seed=draw(st.integers(0, 999)),
    )


class Ends(nn.Layer):
    """A language model with nothing between its two ends."""

    def __init__(self, case: Case, group: Group) -> None:
        rng, dtype, sp = case.rng(), case.dtype, case.sequence_parallel
        how: dict[str, Any] = {"sequence_parallel": sp, "init": WIDE, "rng": rng, "dtype": dtype}
        self.embedding = nn.VocabParallelEmbedding(case.vocab, case.hidden, group, **how)
        self.positions = nn.PositionEmbedding(case.length, case.hidden, group, **how)
        weight = self.embedding.weight if case.tied else None
        self.head = nn.LMHead(
            case.vocab, case.hidden, group, weight=weight, keep_gathered=case.keep_gathered, **how
        )
        self.loss = case.loss(group)

    def forward(self, tokens: Array, targets: Array) -> Array:  # type: ignore[override]
        x = self.positions.forward(self.embedding.forward(tokens))
        return self.loss.forward(self.head.forward(x), targets)

    def backward(self, dy: Array) -> None:  # type: ignore[override]
        self.embedding.backward(self.positions.backward(self.head.backward(self.loss.backward(dy))))


def one_device(case: Case, weights: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
    """The reference's loss and gradients, in float64."""
    table, positions, head = (
        {"weight": weights[name].astype(np.float64)}
        for name in ("embedding.weight", "positions.weight", "head.weight")
    )
    x, embedding_cache = reference.embedding(table, case.tokens())
    x, positions_cache = reference.positions(positions, x)
    logits, head_cache = reference.logits(head, x)
    loss, loss_cache = reference.cross_entropy(logits, case.targets(), **case.options())
    dlogits = reference.cross_entropy_grad(loss_cache, case.dloss().astype(np.float64))
    dx, of_head = reference.logits_grad(head, head_cache, dlogits)
    dx, of_positions = reference.positions_grad(positions, positions_cache, dx)
    of_table = reference.embedding_grad(table, embedding_cache, dx)
    gradients = {
        "embedding.weight": of_table["weight"],
        "positions.weight": of_positions["weight"],
        "head.weight": of_head["weight"],
    }
    if case.tied:
        gradients["embedding.weight"] = gradients["embedding.weight"] + gradients.pop("head.weight")
    return loss, gradients


@given(cases())
@lean
@example(Case(ranks=8, vocab=3, seq=8, sequence_parallel=True, tied=True, label_smoothing=0.1, z_loss=0.01))
def test_both_ends_equal_the_reference(case: Case) -> None:
    def main(comm: Any) -> Any:
        model = Ends(case, Group(comm))
        loss = model.forward(case.tokens(), case.targets())
        model.backward(case.dloss())
        nn.sum_replica_gradients(model)
        return loss, model.parameters()

    losses, parameters = zip(*run(main, case.ranks), strict=True)

    def whole(name: str, what: str) -> Array:
        return nn.assemble([(own[name], getattr(own[name], what)) for own in parameters])

    weights = {name: whole(name, "data") for name in parameters[0]}
    expected_loss, expected = one_device(case, {"head.weight": weights["embedding.weight"]} | weights)
    assert parameters[0].keys() == expected.keys()
    for loss in losses:
        assert_close(loss, expected_loss, "loss", terms=1)
    terms = float(np.max(np.abs(case.dloss()))) * (1 + float(np.max(np.abs(weights["embedding.weight"]))))
    for name, gradient in expected.items():
        assert_close(whole(name, "grad"), gradient, name, terms=terms)


# --- embedding ----------------------------------------------------------------------------------------------


@given(cases(), st.sampled_from([np.int64, np.int32, np.uint8]))
@lean
def test_embedding_looks_up_and_adds_exactly(case: Case, kind: type) -> None:
    """Whole numbers: no rounding, so every bit must be right, repeated tokens included."""
    weight, dy = (
        np.rint(4 * case.normal(*shape, stream=i))
        for i, shape in enumerate([(case.vocab, case.hidden), (case.batch, case.seq, case.hidden)])
    )

    def main(comm: Any) -> Any:
        group = Group(comm)
        layer = nn.VocabParallelEmbedding(
            case.vocab,
            case.hidden,
            group,
            sequence_parallel=case.sequence_parallel,
            init=lambda rng, shape: weight,
            dtype=case.dtype,
        )
        y = layer.forward(case.tokens().astype(kind))
        layer.backward(nn.own_slice(dy, group) if case.sequence_parallel else dy)
        return y, (layer.weight, layer.weight.grad)

    ys, shards = zip(*run(main, case.ranks), strict=True)
    y, cache = reference.embedding({"weight": weight}, case.tokens())
    for found in [np.concatenate(ys, axis=1)] if case.sequence_parallel else ys:
        np.testing.assert_array_equal(found, y)
        assert found.dtype == case.dtype
    expected = reference.embedding_grad({"weight": weight}, cache, dy)["weight"]
    np.testing.assert_array_equal(nn.assemble(shards), expected)


@pytest.mark.parametrize("vocab", [400, 600])
def test_bytes_are_tokens_of_any_vocabulary(vocab: int) -> None:
    """The second rank starts at row 200, where byte 10 must not wrap around to row 66, or at 300."""
    tokens = np.array([[10, 250]], np.uint8)

    def main(comm: Any) -> Any:
        group = Group(comm)
        layer = nn.VocabParallelEmbedding(vocab, 4, group)
        logits = np.zeros((1, 2, vocab // 2))
        loss = nn.VocabParallelCrossEntropy(vocab, group).forward(logits, tokens)
        return layer.forward(tokens), (layer.weight, layer.weight.data), loss

    ys, shards, found = zip(*run(main, 2), strict=True)
    np.testing.assert_array_equal(ys[0], nn.assemble(shards)[[[10, 250]]])
    np.testing.assert_allclose(found, math.log(vocab), rtol=1e-14)


@pytest.mark.parametrize("vocab", [1, 3, 8, 10, 17])
def test_the_model_starts_alike_on_any_number_of_ranks(vocab: int) -> None:
    def weights(ranks: int) -> dict[str, Array]:
        def main(comm: Any) -> dict[str, Parameter]:
            return Ends(Case(vocab=vocab), Group(comm)).parameters()

        on_ranks = run(main, ranks)
        return {name: nn.assemble([(own[name], own[name].data) for own in on_ranks]) for name in on_ranks[0]}

    on_one = weights(1)
    assert on_one["embedding.weight"].shape == (vocab, 4)
    for ranks in (2, 3, 4, 8):
        on_more = weights(ranks)
        assert on_one.keys() == on_more.keys()
        for name in on_one:
            np.testing.assert_array_equal(on_one[name], on_more[name])


@pytest.mark.parametrize(("sequence_parallel", "seq"), [(False, 4), (True, 8)])
def test_each_position_has_its_own_row(sequence_parallel: bool, seq: int) -> None:
    length, (batch, hidden) = 9, (2, 4)
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, batch, seq, hidden))

    def main(comm: Any) -> Any:
        group = Group(comm)
        layer = nn.PositionEmbedding(
            length, hidden, group, sequence_parallel=sequence_parallel, dtype=np.float64
        )

        def mine(whole: Array) -> Array:
            return nn.own_slice(whole, group) if sequence_parallel else whole

        y, dx = layer.forward(mine(x)), layer.backward(mine(dy))
        nn.sum_replica_gradients(layer)
        return y, dx, layer.weight.data, layer.weight.grad

    ys, dxs, (weight, *_), dweights = zip(*run(main, 4), strict=True)
    y, cache = reference.positions({"weight": weight}, x)
    _, gradients = reference.positions_grad({"weight": weight}, cache, dy)
    for found in [np.concatenate(ys, axis=1)] if sequence_parallel else ys:
        np.testing.assert_array_equal(found, y)
    for found in [np.concatenate(dxs, axis=1)] if sequence_parallel else dxs:
        np.testing.assert_array_equal(found, dy)
    for dweight in dweights:
        assert_close(dweight, gradients["weight"], "dweight")


# --- output layer -------------------------------------------------------------------------------------------


@given(cases())
@lean
def test_logits_equal_the_reference_and_padding_never_counts(case: Case) -> None:
    """Not even where the gradients that come back have something in it."""
    batch, seq, hidden, vocab = case.batch, case.seq, case.hidden, case.vocab
    x = case.normal(batch, seq, hidden)
    dy = case.normal(batch, seq, nn.padded_vocab(vocab, case.ranks), stream=1)

    def main(comm: Any) -> Any:
        group = Group(comm)
        layer = nn.LMHead(
            vocab,
            hidden,
            group,
            sequence_parallel=case.sequence_parallel,
            keep_gathered=case.keep_gathered,
            init=WIDE,
            dtype=case.dtype,
        )
        logits = layer.forward(nn.own_slice(x, group) if case.sequence_parallel else x)
        dx = layer.backward(nn.own_slice(dy, group, axis=-1))
        assert layer.weight.grad is not None
        assert not layer.weight.grad[cut(vocab, group).real :].any()
        return logits, dx, (layer.weight, layer.weight.data), (layer.weight, layer.weight.grad)

    logits, dxs, data, gradients = zip(*run(main, case.ranks), strict=True)
    together = np.concatenate(logits, axis=-1)
    params = {"weight": nn.assemble(data).astype(np.float64)}
    expected, cache = reference.logits(params, x.astype(np.float64))
    dx, grads = reference.logits_grad(params, cache, dy[..., :vocab].astype(np.float64))
    assert (together[..., vocab:] == -np.inf).all()
    assert (together.argmax(axis=-1) < vocab).all()
    terms = float(np.max(np.abs(dy)))
    assert_close(together[..., :vocab], expected, "logits", terms=1)
    for found in [np.concatenate(dxs, axis=1)] if case.sequence_parallel else dxs:
        assert_close(found, dx, "dx", terms=terms)
    assert_close(nn.assemble(gradients), grads["weight"], "dweight", terms=terms)


def test_a_tied_weight_is_one_parameter_with_both_gradients() -> None:
    case = Case(tied=True)
    model = Ends(case, Group(run(lambda comm: comm, 1)[0]))
    assert list(model.parameters()) == ["embedding.weight", "positions.weight"]
    weight = np.arange(20.0).reshape(5, 4)
    model.load({"embedding.weight": weight, "positions.weight": np.zeros((20, 4))})
    np.testing.assert_array_equal(model.head.weight.data, weight)
    for layer in (model.embedding, model.head):
        assert layer.parameters()["weight"] is model.parameters()["embedding.weight"]
    model.forward(case.tokens(), case.targets())
    dx = model.head.backward(model.loss.backward(case.dloss()))
    from_head = model.head.weight.grad
    model.embedding.weight.grad = None
    model.embedding.backward(dx)
    from_embedding = model.embedding.weight.grad
    model.zero_grad()
    model.forward(case.tokens(), case.targets())
    model.backward(case.dloss())
    assert from_head is not None
    assert from_embedding is not None
    np.testing.assert_array_equal(model.embedding.weight.grad, from_head + from_embedding)


# --- loss ---------------------------------------------------------------------------------------------------


def losses(case: Case, logits: Array, targets: Array, dloss: Array) -> tuple[list[Array], Array]:
    """Every rank's loss, and the whole dlogits; what is in padding must be 0."""

    def main(comm: Any) -> Any:
        group = Group(comm)
        layer = case.loss(group)
        return layer.forward(case.local(group, logits), targets), layer.backward(dloss)

    found, dlogits = zip(*run(main, case.ranks), strict=True)
    together = np.concatenate(dlogits, axis=-1)
    assert not together[..., case.vocab :].any()
    return list(found), together[..., : case.vocab]


@given(vocabulary.losses())
@lean
@example(vocabulary.LossCase(ranks=8, vocab=2, scale=1000.0, label_smoothing=0.7, z_loss=0.01, fused=True))
@example(vocabulary.LossCase(ranks=4, vocab=1, dtype="float32", scale=1000.0))
def test_loss_and_gradient_equal_the_reference(case: vocabulary.LossCase) -> None:
    """Also with logits of some thousands, and with ranks of nothing but padding."""
    vocabulary.loss_equals_reference(case)


@given(vocabulary.means())
@settings(max_examples=40)
@example(vocabulary.LossCase(batch=3, vocab=2, scale=1000.0, ignored=0.4))
def test_the_mean_counts_all_valid_tokens(case: vocabulary.LossCase) -> None:
    vocabulary.mean_is_over_valid_tokens(case)


@given(vocabulary.ends())
@lean
@example(vocabulary.EndsCase(ranks=8, vocab=3, seq=8, sequence_parallel=True, tied=True))
def test_ends_without_a_loss_equal_the_reference(case: vocabulary.EndsCase) -> None:
    vocabulary.ends_equal_reference(case)


@given(cases(dtype="float64"))
@settings(max_examples=15)
def test_ignored_tokens_change_nothing(case: Case) -> None:
    """Neither what their logits are, nor which word ignore_index is."""
    logits = case.normal(case.batch, case.seq, case.vocab)
    targets, dloss = case.targets(), case.dloss()
    other = np.where((targets == IGNORED)[..., None], 9.0, logits)
    before, after = (losses(case, x, targets, dloss) for x in (logits, other))
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])

    group = Group(run(lambda comm: comm, 1)[0])
    zero_ignored = nn.VocabParallelCrossEntropy(case.vocab, group, ignore_index=0, **case.options())
    loss = zero_ignored.forward(logits, np.where(targets == IGNORED, 0, targets))
    expected, _ = reference.cross_entropy(logits, np.where(targets == 0, IGNORED, targets), **case.options())
    assert_close(loss, expected, "loss", terms=1)
    assert not zero_ignored.backward(dloss)[(targets == 0) | (targets == IGNORED)].any()


def test_smoothing_counts_the_global_vocabulary_without_padding() -> None:
    """Equal logits: every word has probability 1/V, and any wanted distribution costs log V."""
    vocab = 10
    case = Case(ranks=4, vocab=vocab, label_smoothing=0.2)
    logits, targets = np.zeros((1, 1, vocab)), np.array([[7]])
    found, dlogits = losses(case, logits, targets, np.ones((1, 1)))
    np.testing.assert_allclose(found, math.log(vocab), rtol=1e-14)
    wanted = np.full(vocab, 0.2 / (vocab - 1))
    wanted[7] = 0.8
    np.testing.assert_allclose(dlogits[0, 0], 1 / vocab - wanted, rtol=0, atol=1e-15)


def test_microbatches_with_the_global_count_add_up_to_the_mean() -> None:
    rng = np.random.default_rng(0)
    loss, targets = rng.random((4, 5)), rng.integers(3, size=(4, 5))
    targets[0] = targets[2, :3] = IGNORED  # unequal counts: a mean of means would be wrong
    loss[targets == IGNORED] = 0
    loss[1, 0] = 0  # perfectly predicted, and valid all the same
    count = nn.count_valid(targets)
    assert count == 12
    parts = [nn.mean_over_valid(loss[rows], targets[rows], count) for rows in (slice(0, 2), slice(2, 4))]
    assert sum(mean for mean, _ in parts) == pytest.approx(loss[targets != IGNORED].mean(), rel=1e-14)
    dloss = np.concatenate([dloss for _, dloss in parts])
    np.testing.assert_array_equal(dloss, np.where(targets == IGNORED, 0, 1 / 12))
    assert nn.mean_over_valid(loss.astype(np.float32), targets, count)[1].dtype == np.float32


# --- what goes over the wire, and what is kept --------------------------------------------------------------


def expected_moves(case: Case) -> list[tuple[str, str, str, tuple[int, ...]]]:
    """(layer, phase, operation, shape) of every collective of `Ends`, from the contracts."""
    t, b, s, h = case.ranks, case.batch, case.seq, case.hidden
    summed = 3 if case.label_smoothing else 2  # Σexp, the target's logit, Σx
    sums = [("all_reduce", (summed, b, s))] if case.fused else summed * [("all_reduce", (b, s))]
    in_loss = [("loss", "forward", "all_reduce", (b, s)), *[("loss", "forward", *one) for one in sums]]
    if not case.sequence_parallel:
        return [
            ("embedding", "forward", "all_reduce", (b, s, h)),
            *in_loss,
            ("head", "backward", "all_reduce", (b, s, h)),
        ]
    again = [] if case.keep_gathered else [("head", "backward", "all_gather", (b, s // t, h))]
    shares = [("gradients", "backward", "all_reduce", (case.length * h,))] if t > 1 else []
    return [
        ("embedding", "forward", "reduce_scatter", (b, s, h)),
        ("head", "forward", "all_gather", (b, s // t, h)),
        *in_loss,
        *again,
        ("head", "backward", "reduce_scatter", (b, s, h)),
        ("embedding", "backward", "all_gather", (b, s // t, h)),
        *shares,
    ]


@given(cases())
@settings(max_examples=40)
def test_collectives_and_bytes_are_those_of_the_contracts(case: Case) -> None:
    def main(comm: Any) -> Trace:
        model = Ends(case, Group(comm))
        with Trace() as trace:
            model.forward(case.tokens(), case.targets())
            model.backward(case.dloss())
            nn.sum_replica_gradients(model)
        assert trace.saved_bytes == 0
        return trace

    itemsize = np.dtype(case.dtype).itemsize
    for rank, trace in enumerate(run(main, case.ranks)):
        events = trace.collectives
        assert [(e.layer, e.phase, e.operation, e.shape) for e in events] == expected_moves(case)
        for event in events:
            whole = math.prod(event.shape) * (case.ranks if event.operation == "all_gather" else 1)
            elements = sent(event.operation, "ring", rank, case.ranks, whole).elements
            assert event.bytes_sent == elements * itemsize


@pytest.mark.parametrize(("fused", "calls"), [(False, 3), (True, 2)])
def test_the_loss_sends_three_numbers_a_token(fused: bool, calls: int) -> None:
    """Under the ring, an all-reduce of N numbers sends 2(t − 1)/t·N: here t = 4, b·s = 8 and e = 8."""
    case = Case(ranks=4, vocab=10, batch=2, seq=4, fused=fused)

    def main(comm: Any) -> tuple[list[int], list[int]]:
        group = Group(comm)
        layer = case.loss(group)
        with Trace() as forward:
            layer.forward(case.local(group, case.normal(2, 4, 10)), case.targets())
        with Trace() as backward:
            layer.backward(case.dloss())
        return [e.bytes_sent for e in forward.collectives], [e.bytes_sent for e in backward.collectives]

    for forward, backward in run(main, 4):
        assert len(forward) == calls
        assert sum(forward) == 3 * (2 * 3 * 8 // 4) * 8 == 288
        assert backward == []


@given(cases())
@settings(max_examples=15)
def test_what_is_kept_is_the_input_of_the_head_and_the_probabilities(case: Case) -> None:
    """Of the papers' activations: b·s·h, cut along s unless gathered, and b·s·V/t."""

    def main(comm: Any) -> list[tuple[str, str, int]]:
        model = Ends(case, Group(comm))
        with Trace() as trace:
            model.forward(case.tokens(), case.targets())
        return [(one.layer, one.name, one.nbytes) for one in trace.saved if one.kind == "activation"]

    t, rows, e = case.ranks, case.batch * case.seq, np.dtype(case.dtype).itemsize
    of_head = rows * case.hidden // (t if case.sequence_parallel and not case.keep_gathered else 1)
    for kept in run(main, t):
        assert kept == [
            ("head", "x", of_head * e),
            ("loss", "probabilities", rows * nn.padded_vocab(case.vocab, t) // t * e),
        ]


# --- padding of parameters ----------------------------------------------------------------------------------


@given(st.integers(1, 8), st.lists(st.integers(1, 20), min_size=1, max_size=3), st.integers(0, 1))
def test_padding_is_added_and_left_out_again(parts: int, sizes: list[int], axis: int) -> None:
    shape = (3, sum(sizes)) if axis else (sum(sizes), 3)
    whole = np.arange(1.0, 1 + math.prod(shape)).reshape(shape)
    shards = []
    for part in range(parts):
        pieces = [Piece(size, parts, part) for size in sizes]
        parameter = Parameter(shape, axis, pieces, lambda rng, shape: whole, np.random.default_rng(0), float)
        assert parameter.data.shape[axis] == sum(-(-size // parts) for size in sizes)
        assert (parameter.data != 0).sum() == 3 * sum(piece.real for piece in pieces)
        assert all((view != 0).all() for view in parameter.parts_of(parameter.data))
        shards.append((parameter, np.where(parameter.data == 0, np.nan, parameter.data)))
    np.testing.assert_array_equal(nn.assemble(shards), whole)
    assert all(sum(Piece(size, parts, part).real for part in range(parts)) == size for size in sizes)


def test_padding_is_at_the_end() -> None:
    pieces = [Piece(5, 4, part) for part in range(4)]
    assert [(piece.start, piece.real, piece.local) for piece in pieces] == [
        (0, 2, 2),
        (2, 2, 2),
        (4, 1, 2),
        (5, 0, 2),
    ]


# --- mistakes -----------------------------------------------------------------------------------------------


def on_two(build_and_use: Callable[[Group], Any]) -> None:
    run(lambda comm: build_and_use(Group(comm)), 2)


TOKENS = np.array([[0, 1, 2]])
LOGITS = np.zeros((1, 3, 5))
X = np.zeros((1, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("use", "complaint"),
    [
        (
            lambda g: nn.VocabParallelEmbedding(5, 4, g).forward(TOKENS + 3),
            "token 5 is not in a vocabulary of 5",
        ),
        (lambda g: nn.VocabParallelEmbedding(5, 4, g).forward(TOKENS - 1), "token -1 is not .* pick 0 to 4"),
        (lambda g: nn.VocabParallelEmbedding(5, 4, g).forward(TOKENS / 1), "float64 .* tokens are integers"),
        (lambda g: nn.VocabParallelEmbedding(5, 4, g).forward(TOKENS[0]), r"shape \(3,\), .* \[batch, seq\]"),
        (lambda g: nn.PositionEmbedding(2, 4, g).forward(X), "sequence of 3 is longer .* length=3"),
        (lambda g: nn.PositionEmbedding(5, 4, g, sequence_parallel=True).forward(X), "a sequence of 6"),
        (lambda g: nn.PositionEmbedding(5, 6, g).forward(X), r"float32 \[batch, seq, 6\] is needed"),
        (lambda g: nn.LMHead(5, 4, g).forward(X.astype(float)), "x is float64"),
        (
            lambda g: nn.LMHead(5, 4, g, weight=nn.VocabParallelEmbedding(6, 4, g).weight),
            "can't be tied to a head of shape",
        ),
        (
            lambda g: nn.LMHead(6, 4, g, weight=nn.VocabParallelEmbedding(6, 4).weight),
            "can't be tied to a head of shape",
        ),
        (lambda g: nn.VocabParallelCrossEntropy(5, g).forward(LOGITS, TOKENS), "not gathered ones"),
        (
            lambda g: nn.VocabParallelCrossEntropy(6, g).forward(LOGITS[..., :3], TOKENS - 7),
            "token -7 is not",
        ),
        (lambda g: nn.VocabParallelCrossEntropy(6, g, label_smoothing=1.0), "no probability to give away"),
        (lambda g: nn.VocabParallelCrossEntropy(1, g, label_smoothing=0.1), "no other word"),
        (lambda g: nn.mean_over_valid(LOGITS[..., 0], TOKENS, 0), "a mean over 0 tokens"),
    ],
)
def test_mistakes_are_explained(use: Callable[[Group], Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        on_two(use)


# --- the reference itself -----------------------------------------------------------------------------------


@given(cases(dtype="float64", ranks=1))
@settings(max_examples=15)
def test_reference_gradients_are_those_of_differences(case: Case) -> None:
    targets, dloss = case.targets(), case.dloss()
    logits = case.normal(case.batch, case.seq, case.vocab)
    _, cache = reference.cross_entropy(logits, targets, **case.options())
    assert_gradients(
        lambda x: reference.cross_entropy(x, targets, **case.options())[0],
        {"x": logits},
        {"x": reference.cross_entropy_grad(cache, dloss)},
        dloss,
    )

    tokens, dy = case.tokens(), case.normal(case.batch, case.seq, case.hidden, stream=1)
    table, x = case.normal(case.vocab, case.hidden, stream=2), case.normal(*dy.shape, stream=3)
    _, cache = reference.embedding({"weight": table}, tokens)
    assert_gradients(
        lambda weight: reference.embedding({"weight": weight}, tokens)[0],
        {"weight": table},
        reference.embedding_grad({"weight": table}, cache, dy),
        dy,
    )
    rows = case.normal(case.length, case.hidden, stream=4)
    _, cache = reference.positions({"weight": rows}, x)
    dx, gradients = reference.positions_grad({"weight": rows}, cache, dy)
    assert_gradients(
        lambda x, weight: reference.positions({"weight": weight}, x)[0],
        {"x": x, "weight": rows},
        {"x": dx, **gradients},
        dy,
        directions=3,
    )
    dlogits = case.normal(*logits.shape, stream=5)
    _, cache = reference.logits({"weight": table}, x)
    dx, gradients = reference.logits_grad({"weight": table}, cache, dlogits)
    assert_gradients(
        lambda x, weight: reference.logits({"weight": weight}, x)[0],
        {"x": x, "weight": table},
        {"x": dx, **gradients},
        dlogits,
        directions=3,
    )


# --- PyTorch ------------------------------------------------------------------------------------------------

GOLDEN: dict[str, Array] = dict(np.load(Path(__file__).parent / "golden" / "vocabulary.npz"))
LOSSES = ["plain", "smoothed", "z_loss", "both", "thousandfold"]


def stored(case: str) -> dict[str, Array]:
    return {key.removeprefix(f"{case}/"): x for key, x in GOLDEN.items() if key.startswith(f"{case}/")}


@pytest.mark.parametrize("ranks", [1, 4, 8])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_agree_with_pytorch(name: str, ranks: int) -> None:
    golden = stored(name)
    logits, targets, dloss = golden["logits"], golden["targets"], golden["dloss"]
    options: dict[str, Any] = {key: float(golden[key]) for key in ("label_smoothing", "z_loss")}

    loss, cache = reference.cross_entropy(logits, targets, **options)
    assert_close(loss, golden["loss"], "reference's loss", terms=1)
    assert_close(reference.cross_entropy_grad(cache, dloss), golden["dlogits"], "reference's dlogits")

    case = Case(ranks=ranks, vocab=logits.shape[-1], fused=ranks == 8, **options)
    found, dlogits = losses(case, logits, targets, dloss)
    assert_close(found[-1], golden["loss"], "loss", terms=1)
    assert_close(dlogits, golden["dlogits"], "dlogits")

    mean, dmean = nn.mean_over_valid(found[0], targets, nn.count_valid(targets))
    assert mean == pytest.approx(golden["mean"], rel=1e-12)
    assert_close(losses(case, logits, targets, dmean)[1], golden["mean_dlogits"], "dlogits of the mean")


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_tied_ends_agree_with_pytorch(sequence_parallel: bool) -> None:
    golden = stored("tied")
    vocab, hidden = golden["table"].shape
    case = Case(vocab=vocab, hidden=hidden, length=6, tied=True, sequence_parallel=sequence_parallel)

    def main(comm: Any) -> Any:
        model = Ends(case, Group(comm))
        model.load({"embedding.weight": golden["table"], "positions.weight": golden["positions"]})
        loss = model.forward(golden["tokens"], golden["targets"])
        model.backward(golden["dloss"])
        nn.sum_replica_gradients(model)
        return loss, model.parameters()

    found, parameters = zip(*run(main, 4), strict=True)
    assert_close(found[0], golden["loss"], "loss")
    for name, gradient in (("embedding.weight", "dtable"), ("positions.weight", "dpositions")):
        whole = nn.assemble([(own[name], own[name].grad) for own in parameters])
        assert_close(whole, golden[gradient], gradient)


def test_every_golden_case_is_compared() -> None:
    assert {key.split("/")[0] for key in GOLDEN} == {*LOSSES, "tied"}
