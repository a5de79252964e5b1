"""Recompute: the same gradients bit for bit, fewer bytes kept, two more all-reduces when all runs again."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim import nn, run
from tpsim.functional import Array
from tpsim.lab.cases import BlockCase
from tpsim.lab.running import part
from tpsim.lab.strategies import blocks, paper_blocks
from tpsim.nn.masks import Masks, drawing
from tpsim.nn.recompute import Recompute, forgetting, running_again
from tpsim.trace import Trace, scope

some = settings(max_examples=40)
MODES: list[Recompute] = ["none", "selective", "full"]
RATES = {"dropout": 0.3, "attention_dropout": 0.2}


class Stack(nn.Layer):
    """Blocks one after the other."""

    def __init__(self, case: BlockCase, depth: int, comm: Any = None, **options: Any) -> None:
        group = case.group(comm) if comm else None
        self.blocks = [
            nn.TransformerBlock(
                case.hidden,
                case.heads,
                case.ffn,
                group,
                norm=case.norm,
                activation=case.activation,
                **case.options(),
                **options,
            )
            for _ in range(depth)
        ]

    def forward(self, x: Array) -> Array:
        """[b, s, h] → [b, s, h]."""
        for block in self.blocks:
            x = block.forward(x)
        return x

    def backward(self, dy: Array) -> Array:
        """Same shape."""
        for block in reversed(self.blocks):
            dy = block.backward(dy)
        return dy


@dataclass
class Ran:
    """What one rank has after some forward and backward passes."""

    bits: dict[str, bytes]
    trace: Trace
    after_forward: int
    left: int

    def count(self, phase: str, layer: str | None = None) -> Counter[str]:
        return Counter(event.operation for event in self.trace.select(phase=phase, layer=layer))


def run_stack(
    case: BlockCase, recompute: Recompute, depth: int = 1, passes: int = 1, masks: Masks = "sliced"
) -> list[Ran]:
    parameters, x, dy = case.draw()
    x_cut, y_cut = case.cuts()

    def main(comm: Any) -> Ran:
        model = Stack(case, depth, comm, recompute=recompute, **RATES)
        for block in model.blocks:
            block.load(parameters)
        bits = {}
        with Trace() as trace:
            for step in range(passes):
                with drawing(1, step, range(case.batch), masks):
                    bits[f"y{step}"] = model.forward(part(x, x_cut, comm)).tobytes()
                after_forward = trace.saved_bytes
                bits[f"dx{step}"] = model.backward(part(dy, y_cut, comm)).tobytes()
            left = trace.saved_bytes
        for name, parameter in model.parameters().items():
            assert parameter.grad is not None
            bits[name] = parameter.grad.tobytes()
        return Ran(bits, trace, after_forward, left)

    return run(main, case.ranks)


@some
@given(blocks(flash=False), st.integers(1, 2), st.integers(1, 2), st.sampled_from(["sliced", "megatron"]))
def test_gradients_are_the_same_bits(case: BlockCase, depth: int, passes: int, masks: Masks) -> None:
    none, selective, full = (run_stack(case, mode, depth, passes, masks) for mode in MODES)
    for kept, half, again in zip(none, selective, full, strict=True):
        assert kept.bits == half.bits == again.bits
        assert kept.left == half.left == again.left == 0


@some
@given(paper_blocks(keep_gathered=False))
def test_saved_bytes_are_the_papers(case: BlockCase) -> None:
    t, sbh = case.ranks, case.seq * case.batch * case.hidden
    ssab = case.seq * case.seq * case.heads * case.batch
    # Korthikanti et al. (2022), table 2: bytes of 2-byte elements, and those of them that are masks.
    if case.sequence_parallel:
        none = (34 * sbh + 5 * ssab) // t, (2 * sbh + ssab) // t
        selective = 34 * sbh // t, 2 * sbh // t
        full = 2 * sbh // t, 0
    else:
        none = 10 * sbh + (24 * sbh + 5 * ssab) // t, 2 * sbh + ssab // t
        selective = 10 * sbh + 24 * sbh // t, 2 * sbh
        full = 2 * sbh, 0
    peaks = []
    for mode, (total, masks) in zip(MODES, (none, selective, full), strict=True):
        for ran in run_stack(case, mode):
            activations = (total - masks) * case.itemsize // 2 + masks
            assert sum(ran.trace.saved_by_layer().values()) == activations
            assert ran.after_forward == activations + sum(ran.trace.saved_by_layer("statistic").values())
        peaks.append(ran.trace.peak_saved_bytes)
    assert peaks[2] == peaks[0]  # one block: when it runs again, all is there


def test_the_rerun_of_one_block_at_a_time_is_the_peak() -> None:
    case = BlockCase(batch=2, seq=8, hidden=16, heads=4, kv_heads=4, head_size=4, ffn=64)
    (one,), (four,) = run_stack(case, "full", 1), run_stack(case, "full", 4)
    (all_kept,) = run_stack(case, "none", 4)
    x = 2 * 8 * 16 * case.itemsize
    assert four.after_forward == 4 * x
    assert four.trace.peak_saved_bytes == 3 * x + one.trace.peak_saved_bytes
    assert all_kept.after_forward == all_kept.trace.peak_saved_bytes == 4 * one.trace.peak_saved_bytes


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("mode", MODES)
def test_full_recompute_has_6_all_reduces_a_block_and_the_others_4(ranks: int, mode: Recompute) -> None:
    case = BlockCase(ranks=ranks, batch=2, seq=4, hidden=8, heads=4, kv_heads=4, head_size=2, ffn=8)
    for ran in run_stack(case, mode, depth=2):
        again = 2 if mode == "full" else 0
        for block in ("blocks.0", "blocks.1"):
            assert ran.count("forward", block) == {"all_reduce": 2}
            assert ran.count("backward", block) == {"all_reduce": 2 + again}
            assert ran.count("backward", f"{block}.recompute").total() == again


def test_sequence_parallel_reruns_gather_and_scatter_as_forward_does() -> None:
    case = BlockCase(ranks=2, batch=1, seq=4, hidden=8, heads=2, kv_heads=2, ffn=8, sequence_parallel=True)
    for ran in run_stack(case, "full"):
        assert ran.count("forward") == {"all_gather": 2, "reduce_scatter": 2}
        assert ran.count("backward", "blocks.0.recompute") == {"all_gather": 2, "reduce_scatter": 2}
        assert ran.count("backward") == {"all_gather": 6, "reduce_scatter": 4}  # 2 of them for dW


def test_a_rerun_is_labelled() -> None:
    case = BlockCase(ranks=2, batch=1, seq=4, hidden=8, heads=2, kv_heads=2, ffn=8)
    full = run_stack(case, "full")[0].trace
    assert [event.layer for event in full.select(layer="blocks.0.recompute")] == [
        "blocks.0.recompute.attention.out",
        "blocks.0.recompute.mlp.down",
    ]
    assert [(saved.layer, saved.name) for saved in full.saved if saved.kind == "activation"] == [
        ("blocks.0", "x")
    ]
    selective = run_stack(case, "selective")[0].trace
    assert [(saved.layer, saved.name) for saved in selective.saved if "recompute" in saved.layer] == [
        ("blocks.0.attention.recompute", "probabilities"),
        ("blocks.0.attention.recompute.dropout", "keep"),
        ("blocks.0.attention.recompute", "dropped"),
    ]


@pytest.mark.parametrize("mode", ["selective", "full"])
def test_what_runs_again_can_itself_be_run_again(mode: Recompute) -> None:
    """Recompute of groups of layers, around blocks that recompute."""

    class Group(Stack):
        def forward(self, x: Array) -> Array:
            self.save(x=x)
            with forgetting():
                return super().forward(x)

        def backward(self, dy: Array) -> Array:
            with running_again():
                super().forward(self.take("x"))
            return super().backward(dy)

    case = BlockCase(batch=2, seq=4, hidden=8, heads=2, kv_heads=2, ffn=8)
    _, x, dy = case.draw()
    results = []
    for kind in (Stack, Group):
        model = kind(case, 2, recompute=mode if kind is Group else "none", **RATES)
        with Trace() as trace, drawing(0, 0, [0, 1]):
            model.forward(x)
            if kind is Group:
                assert trace.saved_bytes == x.nbytes
            model.backward(dy)
        assert trace.saved_bytes == 0
        results.append(
            {name: p.grad.tobytes() for name, p in model.parameters().items() if p.grad is not None}
        )
    assert results[0] == results[1]


def test_forgetting_keeps_nothing() -> None:
    case = BlockCase(batch=2, seq=4, hidden=8, heads=2, kv_heads=2, ffn=8)
    _, x, dy = case.draw()
    model = Stack(case, 1)
    with Trace() as trace, scope("inference"):
        y = model.forward(x)
        with forgetting():
            assert np.array_equal(model.forward(x), y)
    assert trace.saved_bytes == 0  # the first pass's backward never came
    with pytest.raises(RuntimeError, match="nothing is saved"):
        model.backward(dy)


def test_unknown_recompute_is_refused() -> None:
    unknown: Any = "some"
    with pytest.raises(ValueError, match="recompute 'some' is not known; pick 'none', 'selective' or 'full'"):
        nn.TransformerBlock(8, 2, 8, recompute=unknown)
