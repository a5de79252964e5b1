"""Cases and properties of what is cut along the vocabulary: both ends of a language model, and its loss.

Vocabularies that the ranks do not divide, and ranks of nothing but padding, are drawn as often as others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tpsim import nn, reference
from tpsim.comm import Group, run
from tpsim.lab.cases import Array, Case
from tpsim.lab.running import joined, part
from tpsim.lab.strategies import HIDDEN, RANKS, draw_common, draw_switches, picker
from tpsim.lab.tolerance import Error, measure
from tpsim.lab.violation import Violation
from tpsim.nn.parameter import normal

IGNORED = -100
WIDE_NORMAL = normal(0.5)  # so that logits differ enough to matter


@dataclass(frozen=True, kw_only=True, repr=False)
class LossCase(Case):
    """A `VocabParallelCrossEntropy` of logits × `scale`, of which a share is `ignored`."""

    vocab: int = 1
    fused: bool = False
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    ignored: float = 0.0
    scale: float = 1.0

    def build(self, group: Group) -> nn.VocabParallelCrossEntropy:
        """Return this rank's loss."""
        return nn.VocabParallelCrossEntropy(self.vocab, group, fused=self.fused, **self.options())

    def options(self) -> dict[str, Any]:
        """Return what the reference wants to know as well."""
        return {"label_smoothing": self.label_smoothing, "z_loss": self.z_loss}

    def draw(self) -> tuple[Array, Array, Array]:
        """Return whole logits, targets, and the gradient of each token's loss."""
        rng, shape = np.random.default_rng(self.seed), (self.batch, self.seq)
        logits = (self.scale * rng.standard_normal((*shape, self.vocab))).astype(self.dtype)
        targets = np.where(rng.random(shape) < self.ignored, IGNORED, rng.integers(self.vocab, size=shape))
        return logits, targets, rng.standard_normal(shape).astype(self.dtype)

    def run(self) -> tuple[list[Array], Array]:
        """Return every rank's loss, and the gradient of the logits, padding included."""
        logits, targets, dloss = self.draw()

        def main(comm: Any) -> tuple[Array, Array]:
            loss = self.build(self.group(comm))
            return loss.forward(padded_part(logits, -np.inf, comm), targets), loss.backward(dloss)

        losses, dlogits = zip(*run(main, self.ranks), strict=True)
        return list(losses), np.concatenate(dlogits, axis=-1)


@dataclass(frozen=True, kw_only=True, repr=False)
class EndsCase(Case):
    """A model of its two ends: embedding, learned positions, output layer; y are the logits."""

    vocab: int = 1
    hidden: int = 4
    tied: bool = False
    sequence_parallel: bool = False
    keep_gathered: bool = False

    def build(self, group: Group | None) -> Ends:
        """Return this rank's model."""
        return Ends(self, group)

    def draw(self) -> tuple[Array, Array]:
        """Return the tokens, and the gradient of the whole logits."""
        rng, shape = np.random.default_rng((self.seed, 1)), (self.batch, self.seq)
        tokens, dy = rng.integers(self.vocab, size=shape), rng.standard_normal((*shape, self.vocab))
        return tokens, dy.astype(self.dtype)


class Ends(nn.Layer):
    """A language model with nothing between its two ends."""

    def __init__(self, case: EndsCase, group: Group | None) -> None:
        how: dict[str, Any] = {
            "sequence_parallel": case.sequence_parallel,
            "init": WIDE_NORMAL,
            "rng": np.random.default_rng(case.seed),
            "dtype": case.dtype,
        }
        self.embedding = nn.VocabParallelEmbedding(case.vocab, case.hidden, group, **how)
        self.positions = nn.PositionEmbedding(case.seq + 1, case.hidden, group, **how)
        weight = self.embedding.weight if case.tied else None
        self.head = nn.LMHead(
            case.vocab, case.hidden, group, weight=weight, keep_gathered=case.keep_gathered, **how
        )

    def forward(self, x: Array) -> Array:
        """Tokens [b, s] → logits [b, s, V/t]."""
        return self.head.forward(self.positions.forward(self.embedding.forward(x)))

    def backward(self, dy: Array) -> Array:
        """[b, s, V/t] → the gradient of what the head was given."""
        dx = self.head.backward(dy)
        self.embedding.backward(self.positions.backward(dx))
        return dx


def padded_part(whole: Array, padding: float, comm: Any) -> Array:
    """Return a rank's columns of whole logits; read-only, for layers leave their inputs alone."""
    vocab = whole.shape[-1]
    columns = nn.padded_vocab(vocab, comm.size) - vocab
    wide = np.pad(whole, [(0, 0), (0, 0), (0, columns)], constant_values=padding)
    return part(wide, "last", comm)


# --- strategies ---------------------------------------------------------------------------------------------


@st.composite
def losses(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> LossCase:
    """Losses with all their options, also of logits of some thousands."""
    pick = picker(draw, fixed)
    smoothing = pick("label_smoothing", st.sampled_from([0.0, 0.1, 0.7]))
    return LossCase(
        vocab=pick("vocab", st.integers(2 if smoothing else 1, 20)),
        label_smoothing=smoothing,
        z_loss=pick("z_loss", st.sampled_from([0.0, 0.01])),
        ignored=pick("ignored", st.sampled_from([0.0, 0.4, 1.0])),
        scale=pick("scale", st.sampled_from([1.0, 1000.0])),
        **draw_switches(pick, "fused"),
        **draw_common(pick, ranks),
    )


def means(ranks: Sequence[int] = RANKS, **fixed: Any) -> SearchStrategy[LossCase]:
    """Losses of which not every token is ignored."""
    return losses(ranks=ranks, **fixed).filter(lambda case: nn.count_valid(case.draw()[1]) > 0)


@st.composite
def ends(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> EndsCase:
    """Both ends of a language model, tied or not."""
    pick = picker(draw, fixed)
    switches = draw_switches(pick, "tied", "sequence_parallel", "keep_gathered")
    return EndsCase(
        vocab=pick("vocab", st.integers(1, 20)),
        hidden=pick("hidden", HIDDEN),
        **switches,
        **draw_common(pick, ranks, sequence_parallel=switches["sequence_parallel"]),
    )


# --- properties ---------------------------------------------------------------------------------------------


def loss_equals_reference(case: LossCase) -> list[Error]:
    """Each token's loss and the logits' gradient equal the reference; padding and ignored tokens get none."""
    logits, targets, dloss = case.draw()
    copies, dlogits = case.run()
    want, cache = reference.cross_entropy(logits.astype(np.float64), targets, **case.options())
    dwant = reference.cross_entropy_grad(cache, dloss.astype(np.float64))
    # An exponential sum is 1 at least, and is rounded like it.
    errors = [_worst("loss", copies, want, case, lambda: 1.0)]
    terms = float(np.max(np.abs(dloss)))
    errors += [_worst("dlogits", [dlogits[..., : case.vocab]], dwant, case, lambda: terms)]
    _raise_if_wrong(errors, case)
    if dlogits[..., case.vocab :].any():
        raise Violation(f"t = {case.ranks}: logits of padding have a gradient; {case}")
    ignored = targets == IGNORED
    if dlogits[ignored].any() or any(loss[ignored].any() for loss in copies):
        raise Violation(f"t = {case.ranks}: ignored tokens have a loss or a gradient; {case}")
    return errors


def mean_is_over_valid_tokens(case: LossCase) -> list[Error]:
    """The mean counts every token that is not ignored, however well it is predicted.

    Row by row, as microbatches, its shares add up to the same.
    """
    _, targets, _ = case.draw()
    (loss, *_), _ = case.run()
    valid = targets != IGNORED
    count = int(np.sum(valid))
    want, dwant = np.asarray(np.sum(loss, where=valid, dtype=np.float64) / count), valid / count

    whole = nn.mean_over_valid(loss, targets, count)
    rows = [nn.mean_over_valid(loss[i : i + 1], targets[i : i + 1], count) for i in range(case.batch)]
    shares, dloss = sum(share for share, _ in rows), np.concatenate([row for _, row in rows])
    largest = float(np.max(np.abs(loss)))
    errors = [
        _worst("mean loss", [whole[0]], want, case, lambda: largest),
        _worst("dloss", [whole[1]], dwant, case, lambda: 1.0),
        _worst("mean loss by rows", [np.asarray(shares, case.dtype)], want, case, lambda: largest),
        _worst("dloss by rows", [dloss], dwant, case, lambda: 1.0),
    ]
    _raise_if_wrong(errors, case)
    return errors


def ends_equal_reference(case: EndsCase) -> list[Error]:
    """Logits and all gradients equal the reference; padding is −inf forward, and nothing backward."""
    tokens, dy = case.draw()

    def main(comm: Any) -> tuple[Array, Array, dict[str, nn.Parameter]]:
        model = case.build(case.group(comm))
        y = model.forward(tokens)
        dx = model.backward(padded_part(dy, 9.0, comm))  # what comes back for padding must not count
        nn.sum_replica_gradients(model)
        return y, dx, model.parameters()

    ys, dxs, parameters = zip(*run(main, case.ranks), strict=True)
    y = np.concatenate(ys, axis=-1)
    if not (y[..., case.vocab :] == -np.inf).all():
        raise Violation(f"t = {case.ranks}: a logit of padding is not −inf; {case}")
    weights = {
        name: nn.assemble([(own[name], own[name].data) for own in parameters]) for name in parameters[0]
    }
    want = _ends_on_one_device(case, weights)
    got = {"logits": [y[..., : case.vocab]]}
    got["dx"] = joined(list(dxs), "sequence" if case.sequence_parallel else "whole")
    got |= {name: [nn.assemble([(own[name], own[name].grad) for own in parameters])] for name in weights}
    terms = float(np.max(np.abs(dy)) * max(1.0, *(np.max(np.abs(weight)) for weight in weights.values())))
    errors = [_worst(name, got[name], wanted, case, lambda: terms) for name, wanted in want.items()]
    _raise_if_wrong(errors, case)
    return errors


def _ends_on_one_device(case: EndsCase, weights: dict[str, Array]) -> dict[str, Array]:
    tokens, dy = case.draw()
    wide = {name: {"weight": weight.astype(np.float64)} for name, weight in weights.items()}
    table, positions = wide["embedding.weight"], wide["positions.weight"]
    head = table if case.tied else wide["head.weight"]
    x, embedding_cache = reference.embedding(table, tokens)
    x, positions_cache = reference.positions(positions, x)
    y, head_cache = reference.logits(head, x)
    dx, of_head = reference.logits_grad(head, head_cache, dy.astype(np.float64))
    dembedded, of_positions = reference.positions_grad(positions, positions_cache, dx)
    of_table = reference.embedding_grad(table, embedding_cache, dembedded)
    want = {"logits": y, "dx": dx, "positions.weight": of_positions["weight"]}
    if case.tied:
        return want | {"embedding.weight": of_table["weight"] + of_head["weight"]}
    return want | {"embedding.weight": of_table["weight"], "head.weight": of_head["weight"]}


def _worst(name: str, copies: list[Array], want: Array, case: Case, terms: Callable[[], float]) -> Error:
    """Return the error of the rank that is worst."""
    errors = [measure(name, np.asarray(copy), want, case.dtype, terms) for copy in copies]
    return max(errors, key=lambda error: error.relative)


def _raise_if_wrong(errors: list[Error], case: Case) -> None:
    wrong = [error for error in errors if not error.ok]
    if wrong:
        raise Violation(f"t = {case.ranks}: {'; '.join(map(str, wrong))}; {case}")
