"""Dropout: equal to one device however the work is cut, and what its masks cost."""

import hashlib
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gradcheck import assert_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim import functional as F
from tpsim import nn, reference, run
from tpsim.comm import Group, Mesh
from tpsim.functional import Array
from tpsim.lab.cases import BlockCase
from tpsim.lab.masking import RATES, DropoutCase, dropouts, drops_the_same
from tpsim.lab.oracle import attention_options
from tpsim.lab.running import joined, part
from tpsim.lab.strategies import blocks, paper_blocks
from tpsim.lab.tolerance import TOLERANCE, measure
from tpsim.nn.dropout import Dropout
from tpsim.nn.masks import Draw, Masks, drawing, keep_mask, part_mask
from tpsim.nn.recompute import Recompute
from tpsim.trace import Trace, scope

SEED, STEP = 11, 3
MODES = st.sampled_from(["none", "selective", "full"])
some = settings(max_examples=60)


def build(case: BlockCase, group: Group | None = None, **options: Any) -> nn.TransformerBlock:
    return nn.TransformerBlock(
        case.hidden,
        case.heads,
        case.ffn,
        group,
        norm=case.norm,
        activation=case.activation,
        **case.options(),
        **options,
    )


# --- the oracle: whole masks, written out from their definition ---------------------------------------------


def one_mask(seed: int, step: int, site: str, sample: int, rate: float, shape: tuple[int, ...]) -> Array:
    """The stream of a Philox generator of its own, as 32-bit words: the rate says which of them drop."""
    digest = hashlib.blake2b(f"{seed}/{step}/{site}/{sample}".encode(), digest_size=16).digest()
    size = math.prod(shape)
    raw = np.random.Philox(key=np.frombuffer(digest, np.uint64)).random_raw(size // 2 + 1)
    return raw.view(np.uint32)[:size].reshape(shape) / 2**32 >= rate


def whole_masks(case: BlockCase, samples: list[int], dropout: float, attention_dropout: float) -> Any:
    row, scores = (case.seq, case.hidden), (case.heads, case.seq, case.seq)
    sites = [("attention.dropout", attention_dropout, scores), ("dropout1", dropout, row)]
    return {
        site: np.stack([one_mask(SEED, STEP, site, sample, rate, shape) for sample in samples])
        for site, rate, shape in [*sites, ("dropout2", dropout, row)]
    }


def one_device(
    case: BlockCase, samples: list[int], dropout: float, attention_dropout: float
) -> dict[str, Array]:
    parameters, x, dy = case.draw()
    wide = {name: value.astype(np.float64) for name, value in parameters.items()}
    options = attention_options(case) | {
        "activation": case.activation,
        "dropout": dropout,
        "attention_dropout": attention_dropout,
        "masks": whole_masks(case, samples, dropout, attention_dropout),
    }
    y, cache = reference.block(wide, x.astype(np.float64), **options)
    dx, gradients = reference.block_grad(wide, cache, dy.astype(np.float64), **options)
    return {"y": y, "dx": dx, **gradients}


def on_ranks(
    case: BlockCase, samples: list[int], microbatches: list[list[int]], **options: Any
) -> dict[str, Array]:
    """Run the microbatches, given as rows of the batch, one after the other; put the results together."""
    parameters, x, dy = case.draw()
    x_cut, y_cut = case.cuts()
    order = np.argsort([row for rows in microbatches for row in rows])

    def main(comm: Any) -> Any:
        block = build(case, case.group(comm), **options)
        block.load(parameters)
        y, dx = [], []
        for rows in microbatches:
            with drawing(SEED, STEP, [samples[row] for row in rows]):
                y.append(block.forward(part(x[rows], x_cut, comm)))
            dx.append(block.backward(part(dy[rows], y_cut, comm)))  # outside: the masks are kept, or the key
        nn.sum_replica_gradients(block)
        return np.concatenate(y)[order], np.concatenate(dx)[order], block.parameters()

    ran = run(main, case.ranks)
    gradients = {name: nn.assemble([(p[name], p[name].grad) for _, _, p in ran]) for name in case.shapes()}
    y, dx = joined([y for y, _, _ in ran], y_cut), joined([dx for _, dx, _ in ran], x_cut)
    for whole in (y, dx):
        assert all(np.array_equal(copy, whole[0]) for copy in whole)
    return {"y": y[0], "dx": dx[0], **gradients}


@st.composite
def split(draw: st.DrawFn, batch: int) -> list[list[int]]:
    """A batch's rows, shuffled and cut into microbatches (or among dp ranks: the masks can't tell)."""
    rows = draw(st.permutations(range(batch)))
    ends = sorted(draw(st.sets(st.integers(1, batch - 1)))) if batch > 1 else []
    return [list(rows[a:b]) for a, b in zip([0, *ends], [*ends, batch], strict=True)]


@some
@given(data=st.data(), recompute=MODES)
def test_any_cut_of_the_work_equals_one_device(data: st.DataObject, recompute: Recompute) -> None:
    case = data.draw(blocks(qk_norm=False, flash=False))
    samples = data.draw(st.lists(st.integers(0, 2**40), min_size=case.batch, max_size=case.batch))
    rates = {name: data.draw(st.sampled_from(RATES[case.dtype])) for name in ("dropout", "attention_dropout")}
    got = on_ranks(case, samples, data.draw(split(case.batch)), recompute=recompute, **rates)
    want = one_device(case, samples, **rates)
    assert got.keys() == want.keys()
    # A gradient may be small because all but a few of its terms were dropped; y's terms were not.
    terms = float(np.abs(want["y"]).max())
    for name, wanted in want.items():
        error = measure(name, got[name], wanted, case.dtype, lambda: terms)
        assert error.ok, error


@some
@given(dropouts())
def test_recompute_gives_the_same_bits_and_both_equal_the_reference(case: DropoutCase) -> None:
    drops_the_same(case)


def test_tp_by_dp_equals_one_device() -> None:
    case = BlockCase(ranks=4, batch=4, seq=4, hidden=8, heads=2, kv_heads=1, ffn=8, sequence_parallel=True)
    rates, samples = {"dropout": 0.2, "attention_dropout": 0.3}, [5, 6, 7, 8]
    parameters, x, dy = case.draw()

    def main(comm: Any) -> Any:
        mesh = Mesh(comm, 2)
        block = build(case, mesh.tp, **rates)
        block.load(parameters)
        mine = slice(2 * mesh.dp.rank, 2 * mesh.dp.rank + 2)
        with drawing(SEED, STEP, samples[mine]):
            y = block.forward(nn.own_slice(x[mine], mesh.tp))
            block.backward(nn.own_slice(dy[mine], mesh.tp))
        nn.sum_replica_gradients(block)
        for parameter in block.parameters().values():
            assert parameter.grad is not None
            parameter.grad = mesh.dp.all_reduce(parameter.grad)
        return y, block.parameters()

    ran, want = run(main, 4), one_device(case, samples, **rates)
    y = np.concatenate([np.concatenate([ran[r][0] for r in row], axis=1) for row in ((0, 1), (2, 3))])
    np.testing.assert_allclose(y, want["y"], atol=1e-12)
    for name in parameters:
        gradient = nn.assemble([(p[name], p[name].grad) for _, p in ran[:2]])
        np.testing.assert_allclose(gradient, want[name], atol=1e-11)


@settings(max_examples=20)
@given(blocks(flash=False), MODES)
def test_without_drawing_nothing_is_dropped_and_no_mask_is_kept(
    case: BlockCase, recompute: Recompute
) -> None:
    parameters, x, dy = case.draw()
    x_cut, y_cut = case.cuts()

    def main(comm: Any) -> None:
        results = []
        for rates in ({}, {"dropout": 0.5, "attention_dropout": 0.5}):
            block = build(case, case.group(comm), recompute=recompute, **rates)
            block.load(parameters)
            with Trace() as trace:
                y = block.forward(part(x, x_cut, comm))
                dx = block.backward(part(dy, y_cut, comm))
            results.append((y.tobytes(), dx.tobytes(), trace.saved))
        assert results[0] == results[1]

    run(main, case.ranks)


# --- the masks ----------------------------------------------------------------------------------------------


@given(
    start=st.integers(0, 200),
    shape=st.tuples(st.integers(0, 3), st.integers(0, 7), st.integers(0, 20)),
    rate=st.floats(0, 1, exclude_max=True),
)
def test_a_slice_is_a_slice_of_the_whole_mask(start: int, shape: tuple[int, ...], rate: float) -> None:
    samples = [9, 4, 2**50][: shape[0]]
    mask = keep_mask(Draw(SEED, STEP, samples), "site", rate, start, shape)
    count = math.prod(shape[1:])
    wholes = [one_mask(SEED, STEP, "site", sample, rate, (start + count,)) for sample in samples]
    assert mask.dtype == np.bool_
    assert mask.shape == shape
    assert np.array_equal(
        mask.reshape(shape[0], count), [w[start:] for w in wholes] or mask.reshape(0, count)
    )


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.5, 0.9])
def test_the_rate_is_right(rate: float) -> None:
    n = 1_000_000
    dropped = 1 - keep_mask(Draw(0, 0, [0]), "site", rate, 0, (1, n)).mean()
    assert abs(dropped - rate) <= 4 * math.sqrt(rate * (1 - rate) / n)


@pytest.mark.parametrize(
    ("other", "site"),
    [
        (Draw(0, 0, [0]), "blocks.1.dropout1"),  # another layer
        (Draw(0, 0, [0]), "blocks.0.dropout2"),  # another site
        (Draw(0, 0, [1]), "blocks.0.dropout1"),
        (Draw(0, 1, [0]), "blocks.0.dropout1"),
        (Draw(1, 0, [0]), "blocks.0.dropout1"),
    ],
)
def test_each_key_has_a_mask_of_its_own(other: Draw, site: str) -> None:
    n, rate = 100_000, 0.3
    first = keep_mask(Draw(0, 0, [0]), "blocks.0.dropout1", rate, 0, (1, n))
    second = keep_mask(other, site, rate, 0, (1, n))
    # Independent ones correlate by 0 ± 1/√n.
    correlation = np.corrcoef(first[0], second[0])[0, 1]
    assert abs(correlation) <= 4 / math.sqrt(n)


def test_nothing_is_drawn_for_an_array_without_data() -> None:
    class Shape:
        def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
            assert function is np.empty
            return args

    of_a_big_model = 2, 128, 131_072, 131_072
    like: Any = Shape()
    mask: Any = keep_mask(Draw(0, 0, [0, 1]), "site", 0.1, 0, of_a_big_model, like)
    assert mask == (of_a_big_model, np.bool_)


# --- sites --------------------------------------------------------------------------------------------------


class Stack(nn.Layer):
    """Blocks one after the other."""

    def __init__(self, blocks: list[nn.TransformerBlock]) -> None:
        self.blocks = blocks

    def forward(self, x: Array) -> Array:
        for block in self.blocks:
            x = block.forward(x)
        return x


class Wrapper(nn.Layer):
    def __init__(self, model: nn.Layer) -> None:
        self.model = model


SMALL = BlockCase(batch=2, seq=4, hidden=8, heads=2, kv_heads=2, ffn=8)


def paths(layer: nn.Layer) -> list[str]:
    inner = [path for _, child in layer.children() for path in paths(child)]
    return [layer.path, *inner] if isinstance(layer, Dropout) else inner


def test_sites_are_the_paths_in_the_model() -> None:
    model = Stack([build(SMALL, dropout=0.5) for _ in range(2)])
    of_one = ["attention.dropout", "dropout1", "dropout2"]
    assert paths(model.blocks[0]) == [f"blocks.0.{site}" for site in of_one]
    assert paths(model) == [f"blocks.{i}.{site}" for i in range(2) for site in of_one]
    assert paths(Wrapper(model))[3:] == [f"model.blocks.1.{site}" for site in of_one]
    assert model.path == "model"
    assert build(SMALL).path == ""


def test_masks_depend_neither_on_scopes_around_the_model_nor_on_earlier_calls() -> None:
    _, x, _ = SMALL.draw()
    model = Stack([build(SMALL, dropout=0.5) for _ in range(2)])
    with drawing(SEED, STEP, [0, 1]):
        first = model.forward(x)
        with scope("evaluation"), scope("model"):
            assert np.array_equal(model.forward(x), first)
    with drawing(SEED, STEP + 1, [0, 1]):
        assert not np.array_equal(model.forward(x), first)


# --- Megatron's streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("masks", "equal"), [("sliced", True), ("megatron", False)])
def test_megatrons_masks_differ_across_t_and_ours_do_not(masks: Masks, equal: bool) -> None:
    _, x, _ = SMALL.draw()

    def main(comm: Any) -> Array:
        block = build(SMALL, Group(comm), attention_dropout=0.5)
        with drawing(SEED, STEP, [0, 1], masks):
            return block.forward(x)

    (alone,), two = run(main, 1), run(main, 2)
    assert np.array_equal(*two)
    assert np.allclose(alone, two[0], rtol=0, atol=1e-12) is equal


def test_megatrons_ranks_have_masks_of_their_own_inside_and_one_outside() -> None:
    ours, theirs = Draw(SEED, STEP, [7]), Draw(SEED, STEP, [7], "megatron")
    shape = 1, 3, 50
    for rank in range(3):
        inside = part_mask(theirs, "site", 0.4, rank, shape)
        assert np.array_equal(inside[0], one_mask(SEED + 2718 + rank, STEP, "site", 7, 0.4, shape[1:]))
    outside = [keep_mask(draw, "site", 0.4, 0, shape) for draw in (ours, theirs)]
    assert np.array_equal(outside[0], outside[1])


# --- arithmetic ---------------------------------------------------------------------------------------------


@given(st.integers(0, 999), st.sampled_from(["float32", "float64"]), st.floats(0, 0.99))
def test_dropout_is_the_formula_and_keeps_the_dtype(seed: int, dtype: str, rate: float) -> None:
    rng = np.random.default_rng(seed)
    x, keep = rng.standard_normal((3, 4)).astype(dtype), rng.random((3, 4)) >= rate
    y = F.dropout(x, keep, rate)
    assert y.dtype == dtype
    for where in np.ndindex(3, 4):
        assert y[where] == pytest.approx(x[where] / (1 - rate) if keep[where] else 0, rel=TOLERANCE[dtype])
    assert np.array_equal(F.dropout_grad(keep, rate, x), y)


@pytest.mark.parametrize(("heads", "kv_heads", "causal"), [(2, 2, False), (4, 2, True), (3, 1, True)])
def test_gradients_of_attention_with_dropout(heads: int, kv_heads: int, causal: bool) -> None:
    rng = np.random.default_rng(heads)
    q, dout = rng.standard_normal((2, 2, heads, 5, 3))
    k, v = rng.standard_normal((2, 2, kv_heads, 5, 3))
    keep = rng.random((2, heads, 5, 5)) >= 0.3

    def attend(q: Array, k: Array, v: Array) -> Array:
        p = F.attention_probabilities(q, k, causal=causal, scale=0.6)
        return F.attention_output(F.dropout(p, keep, 0.3), v)

    p = F.attention_probabilities(q, k, causal=causal, scale=0.6)
    ddropped, dv = F.attention_output_grad(F.dropout(p, keep, 0.3), v, dout)
    dq, dk = F.attention_probabilities_grad(q, k, p, F.dropout_grad(keep, 0.3, ddropped), scale=0.6)
    assert_gradients(attend, {"q": q, "k": k, "v": v}, {"q": dq, "k": dk, "v": dv}, dout)


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_dx_of_a_block_with_dropout(recompute: Recompute) -> None:
    parameters, x, dy = SMALL.draw()
    block = build(SMALL, dropout=0.2, attention_dropout=0.3, recompute=recompute)
    block.load(parameters)
    with drawing(SEED, STEP, [0, 1]):
        block.forward(x)
        dx = block.backward(dy)
        assert_gradients(block.forward, {"x": x}, {"x": dx}, dy, directions=12)


# --- what it costs ------------------------------------------------------------------------------------------


def table_2(case: BlockCase) -> tuple[int, int]:
    """Korthikanti et al.'s sbh(34 + 5as/h) and its cuts, as bytes of 2-byte elements, and of the masks."""
    t, sbh = case.ranks, case.seq * case.batch * case.hidden
    ssab = case.seq * case.seq * case.heads * case.batch
    if case.sequence_parallel:
        return (34 * sbh + 5 * ssab) // t, (2 * sbh + ssab) // t
    return 10 * sbh + (24 * sbh + 5 * ssab) // t, 2 * sbh + ssab // t


@some
@given(paper_blocks(keep_gathered=False))
def test_saved_bytes_are_the_papers_with_dropout(case: BlockCase) -> None:
    parameters, x, dy = case.draw()
    x_cut, y_cut = case.cuts()
    total, masks = table_2(case)

    def main(comm: Any) -> None:
        block = build(case, case.group(comm), dropout=0.1, attention_dropout=0.1)
        block.load(parameters)
        with Trace() as trace, drawing(SEED, STEP, range(case.batch)):
            block.forward(part(x, x_cut, comm))
            activations = sum(trace.saved_by_layer().values())
            assert activations == (total - masks) * case.itemsize // 2 + masks
            assert sum(tensor.nbytes for tensor in trace.saved if tensor.name == "keep") == masks
            assert trace.saved_bytes == activations + sum(trace.saved_by_layer("statistic").values())
            block.backward(part(dy, y_cut, comm))
            assert trace.saved_bytes == 0

    run(main, case.ranks)


# --- what can't be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"rate {rate} is not the probability of dropping some")):
        build(SMALL, dropout=rate)


def test_other_numbers_of_samples_are_refused() -> None:
    block = build(replace(SMALL, batch=3), dropout=0.1)
    message = "2 sequences came, and drawing(...) names 3 samples; name the global index of each"
    with drawing(0, 0, [0, 1, 2]), pytest.raises(ValueError, match=re.escape(message)):
        block.forward(SMALL.draw()[1])


def test_unknown_masks_are_refused() -> None:
    unknown: Any = "mine"
    with pytest.raises(ValueError, match="'mine' are not known; pick"), drawing(0, 0, [0], unknown):
        pass


def test_a_second_backward_is_refused() -> None:
    dropout = Dropout(0.5)
    with drawing(0, 0, [0]):
        dy = dropout.forward(np.ones((1, 4)))
    dropout.backward(dy)
    with pytest.raises(RuntimeError, match="nothing is saved as 'keep'"):
        dropout.backward(dy)
