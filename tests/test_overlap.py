"""Layers that overlap communication with GEMMs: the plain layers' results, and as many bytes."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi_jobs import SCRIPTS, load, mpiexec, needs_mpi

import tpsim
from tpsim import functional, models, nn
from tpsim.comm import Group, dry_group, run
from tpsim.comm.signature import Signature
from tpsim.dry import ShapeArray
from tpsim.dry.world import shapes_only
from tpsim.lab import properties
from tpsim.lab.cases import AttentionCase, BlockCase, ColumnCase, LayerCase, MLPCase, RowCase
from tpsim.lab.refusals import THREE_PARTS
from tpsim.lab.running import part
from tpsim.lab.strategies import attentions, blocks, columns, mlps, rows
from tpsim.models import LanguageModel
from tpsim.nn import overlap_decomposed, overlap_dw
from tpsim.nn.layer import Array
from tpsim.nn.overlap import Overlap, column_parallel, lm_head, row_parallel
from tpsim.nn.polling import cut_into, polling
from tpsim.trace import CollectiveEvent, Trace

# -- cases with the option -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, repr=False)
class Column(ColumnCase):
    overlap: Overlap = "none"

    def build(self, group: Group | None) -> nn.Layer:
        return column_parallel(self.overlap)(
            self.in_features,
            self.out_features,
            group,
            bias=self.bias,
            gather_output=self.gather_output,
            sequence_parallel=self.sequence_parallel,
            keep_gathered=self.keep_gathered,
            dtype=self.dtype,
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Row(RowCase):
    overlap: Overlap = "none"

    def build(self, group: Group | None) -> nn.Layer:
        return row_parallel(self.overlap)(
            self.in_features,
            self.out_features,
            group,
            bias=self.bias,
            input_is_parallel=self.input_is_parallel,
            sequence_parallel=self.sequence_parallel,
            dtype=self.dtype,
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class MLP(MLPCase):
    overlap: Overlap = "none"

    def build(self, group: Group | None) -> nn.Layer:
        return nn.MLP(
            self.hidden,
            self.ffn,
            group,
            activation=self.activation,
            bias=self.bias,
            sequence_parallel=self.sequence_parallel,
            keep_gathered=self.keep_gathered,
            overlap=self.overlap,
            dtype=self.dtype,
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Attention(AttentionCase):
    overlap: Overlap = "none"

    def options(self) -> dict[str, Any]:
        return super().options() | {"overlap": self.overlap}


@dataclass(frozen=True, kw_only=True, repr=False)
class Block(BlockCase):
    overlap: Overlap = "none"

    def options(self) -> dict[str, Any]:
        return super().options() | {"overlap": self.overlap}


Case = Column | Row | MLP | Attention | Block
STRATEGIES = [(columns, Column), (rows, Row), (mlps, MLP), (attentions, Attention), (blocks, Block)]


def cases(*, kinds: int = 5, **fixed: Any) -> st.SearchStrategy[Case]:
    """Every layer, or the first few kinds, with drawn shapes and options, in float64 on up to 4 ranks."""
    fixed = {"ranks": range(1, 5), "dtype": "float64"} | fixed
    return st.one_of([draw(**fixed).map(partial(_with_option, kind)) for draw, kind in STRATEGIES[:kinds]])


def _with_option(kind: type[Case], plain: LayerCase) -> Case:
    return kind(**vars(plain))


schedules = st.sampled_from(["lockstep", "free"])
some = settings(deadline=None, max_examples=100)


@dataclass
class Ran:
    """What one rank has after a forward and a backward."""

    arrays: dict[str, Array]
    events: list[CollectiveEvent]
    saved_after_forward: int

    def bytes_sent(self) -> Counter[tuple[str, str]]:
        """Return bytes by phase and layer."""
        sent: Counter[tuple[str, str]] = Counter()
        for event in self.events:
            sent[event.phase, event.layer] += event.bytes_sent
        return sent


def ranks_of(case: Case, overlap: Overlap, schedule: Any) -> list[Ran]:
    case = replace(case, overlap=overlap)
    parameters, x, dy = case.draw()
    x_cut, y_cut = case.cuts()

    def main(comm: Any) -> Ran:
        layer = case.build(case.group(comm))
        layer.load(parameters)
        with Trace() as trace:
            arrays = {"y": layer.forward(part(x, x_cut, comm))}
            saved = trace.saved_bytes
            arrays["dx"] = layer.backward(part(dy, y_cut, comm))
            assert trace.saved_bytes == 0
        for name, parameter in layer.parameters().items():
            assert parameter.grad is not None
            arrays[name] = parameter.grad
        return Ran(arrays, trace.collectives, saved)

    return run(main, case.ranks, schedule=schedule)


def assert_close(ran: Ran, plain: Ran) -> None:
    """To 1e-12 of what the largest entry of any gradient is: single ones may cancel to nothing."""
    assert ran.arrays.keys() == plain.arrays.keys()
    largest = max(float(np.max(np.abs(array))) for array in plain.arrays.values())
    for name, array in ran.arrays.items():
        assert array.shape == plain.arrays[name].shape
        assert array.dtype == plain.arrays[name].dtype
        np.testing.assert_allclose(array, plain.arrays[name], rtol=0, atol=1e-12 * largest, err_msg=name)


# -- Megatron's overlap --------------------------------------------------------------------------------------


@some
@given(cases(), schedules)
def test_dw_in_one_piece_gives_the_plain_layers_bits(case: Case, schedule: Any) -> None:
    with cut_into(1):
        overlapped = ranks_of(case, "dw", schedule)
    for ran, plain in zip(overlapped, ranks_of(case, "none", schedule), strict=True):
        assert ran.arrays.keys() == plain.arrays.keys()
        for name, array in ran.arrays.items():
            np.testing.assert_array_equal(array, plain.arrays[name], err_msg=name)


@some
@given(cases(), schedules)
def test_dw_in_pieces_equals_the_plain_layers_to_1e_12(case: Case, schedule: Any) -> None:
    for ran, plain in zip(ranks_of(case, "dw", schedule), ranks_of(case, "none", schedule), strict=True):
        assert_close(ran, plain)


@some
@given(cases(sequence_parallel=False))
def test_dw_without_sequence_parallelism_gives_the_plain_layers_y_and_dx(case: Case) -> None:
    for ran, plain in zip(ranks_of(case, "dw", "lockstep"), ranks_of(case, "none", "lockstep"), strict=True):
        for name in ("y", "dx"):
            np.testing.assert_array_equal(ran.arrays[name], plain.arrays[name])


@some
@given(cases())
def test_dw_makes_the_plain_layers_collectives(case: Case) -> None:
    def written(ran: Ran) -> list[tuple[Any, ...]]:
        return [(e.phase, e.layer, e.operation, e.shape, e.messages, e.bytes_sent) for e in ran.events]

    for ran, plain in zip(ranks_of(case, "dw", "lockstep"), ranks_of(case, "none", "lockstep"), strict=True):
        assert written(ran) == written(plain)
        assert ran.saved_after_forward == plain.saved_after_forward


GATHER, SCATTER, STEP = ["all_gather"], ["reduce_scatter"], ["recv", "send"]
BEHIND: list[tuple[Overlap, bool, list[tuple[str, list[str]]]]] = [
    ("dw", False, [("linear_grad_input", []), ("linear_grad_weight", ["all_reduce"])]),
    ("dw", True, [("linear_grad_input", GATHER), ("linear_grad_weight", SCATTER)]),
    (
        "decomposed",
        True,
        [
            *[("linear", STEP), ("linear", STEP), ("linear", [])],
            *[("add_linear_grad_weight", STEP)] * 2,
            ("add_linear_grad_weight", []),
            *[("linear_grad_input", []), ("linear_grad_input", STEP), ("linear_grad_input", STEP)],
        ],
    ),
]


@pytest.mark.parametrize(("overlap", "sequence_parallel", "expected"), BEHIND)
def test_a_gemm_runs_while_messages_are_under_way(
    overlap: Overlap, sequence_parallel: bool, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    here: ContextVar[tuple[Group, list[Any]]] = ContextVar("here")

    def spy(gemm: Any) -> Any:
        def seen(*arrays: Array) -> Any:
            group, calls = here.get()
            begun = [
                call for call, _ in group.begun.values() if isinstance(call, Signature)
            ]  # the group's own
            calls.append((gemm.__name__, sorted(call.operation for call in begun)))
            return gemm(*arrays)

        return seen

    module = overlap_dw if overlap == "dw" else overlap_decomposed
    for name in {name for name, _ in expected}:
        monkeypatch.setattr(module, name, spy(getattr(functional, name)))

    def main(comm: Any) -> list[Any]:
        group = Group(comm)
        here.set((group, []))
        layer = column_parallel(overlap)(4, 6, group, sequence_parallel=sequence_parallel)
        layer.backward(layer.forward(np.ones((1, 1 if sequence_parallel else 3, 4), np.float32)))
        return here.get()[1]

    with cut_into(1):
        assert run(main, 3) == [expected] * 3


# -- decomposed ----------------------------------------------------------------------------------------------


@some
@given(cases(sequence_parallel=True), schedules)
def test_decomposed_equals_the_plain_layers_to_1e_12(case: Case, schedule: Any) -> None:
    decomposed = ranks_of(case, "decomposed", schedule)
    for ran, plain in zip(decomposed, ranks_of(case, "none", schedule), strict=True):
        assert_close(ran, plain)
        assert ran.saved_after_forward == plain.saved_after_forward


@some
@given(cases(sequence_parallel=True, algorithm="ring"))
def test_decomposed_sends_the_plain_layers_bytes_in_every_layer_and_phase(case: Case) -> None:
    decomposed = ranks_of(case, "decomposed", "lockstep")
    for ran, plain in zip(decomposed, ranks_of(case, "none", "lockstep"), strict=True):
        assert ran.bytes_sent() == plain.bytes_sent()


@some
@given(cases(sequence_parallel=True, gather_output=False, input_is_parallel=True))
def test_a_decomposed_gather_or_scatter_is_a_send_and_a_receive_for_each_other_rank(case: Case) -> None:
    decomposed = ranks_of(case, "decomposed", "lockstep")
    for ran, plain in zip(decomposed, ranks_of(case, "none", "lockstep"), strict=True):
        collectives = [(event.phase, event.layer) for event in plain.events]
        assert {event.operation for event in plain.events} <= {"all_gather", "reduce_scatter"}
        for operation in ("send", "recv"):
            assert [(e.phase, e.layer) for e in ran.events if e.operation == operation] == [
                where for where in collectives for _ in range(case.ranks - 1)
            ]
        assert {event.operation for event in ran.events} <= {"send", "recv"}


def test_decomposed_sums_narrow_floats_as_the_group_says() -> None:
    """(256 + 1) + 1 is 256 where each sum is rounded to bfloat16, and 258 where only the last one is."""

    def main(comm: Any, accumulate: Any, overlap: Overlap) -> list[float]:
        group = Group(comm, accumulate=accumulate)
        row = row_parallel(overlap)(3, 1, group, bias=False, sequence_parallel=True, dtype="bfloat16")
        row.load({"weight": np.ones((3, 1))})
        x = np.full((1, 3, 1), 1 if comm.rank else 256, row.weight.data.dtype)
        y = row.forward(x)
        assert y.dtype == x.dtype
        return [float(value) for value in y.ravel()]

    for overlap in ("none", "decomposed"):
        # Rank 0's own part begins at rank 1: 1 + 1 + 256.
        assert run(main, 3, "storage", overlap) == [[258.0], [256.0], [256.0]]
        assert run(main, 3, "float32", overlap) == [[258.0], [258.0], [258.0]]


# -- both ----------------------------------------------------------------------------------------------------


def overlapped(**fixed: Any) -> st.SearchStrategy[Case]:
    """Every layer under sequence parallelism, with an overlap."""
    ways: list[Overlap] = ["dw", "decomposed"]
    return st.tuples(cases(sequence_parallel=True, **fixed), st.sampled_from(ways)).map(
        lambda pair: replace(pair[0], overlap=pair[1])
    )


@some
@given(overlapped())
def test_overlapped_layers_equal_the_reference(case: Case) -> None:
    properties.equals_reference(case)
    properties.replicas_agree(case)


@some
@given(overlapped(integers=True, kinds=2))
def test_overlapped_linears_of_whole_numbers_are_exact(case: Case) -> None:
    assert all(error.difference == 0 for error in properties.equals_reference(case))


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("keep_gathered", [False, True])
@pytest.mark.parametrize(
    ("overlap", "sequence_parallel"), [("dw", False), ("dw", True), ("decomposed", True)]
)
def test_an_overlapped_model_equals_the_plain_one(
    overlap: Overlap, sequence_parallel: bool, keep_gathered: bool, recompute: Any
) -> None:
    """With 19 words on 4 ranks: one row of the last rank's is padding."""
    rng = np.random.default_rng(3)
    tokens, targets = rng.integers(0, 19, (2, 2, 8))
    dloss = rng.standard_normal((2, 8))
    config = replace(models.get("tiny-gpt"), vocab=19, layers=2, max_seq=8)

    def main(comm: Any, how: Overlap) -> Ran:
        model = LanguageModel(
            config,
            Group(comm),
            sequence_parallel=sequence_parallel,
            keep_gathered=keep_gathered,
            recompute=recompute,
            overlap=how,
            dtype=np.float64,
        )
        with Trace() as trace:
            arrays = {"loss": model.forward(tokens, targets)}
            saved = trace.saved_bytes
            model.backward(dloss)
        for name, parameter in model.parameters().items():
            assert parameter.grad is not None
            arrays[name] = parameter.grad
        return Ran(arrays, trace.collectives, saved)

    for ran, plain in zip(run(main, 4, overlap), run(main, 4, "none"), strict=True):
        assert_close(ran, plain)
        assert ran.bytes_sent() == plain.bytes_sent()


@pytest.mark.parametrize(
    ("overlap", "sequence_parallel"), [("dw", False), ("dw", True), ("decomposed", True)]
)
def test_padding_gets_no_gradient_from_an_overlapped_head(overlap: Overlap, sequence_parallel: bool) -> None:
    """5 words on 4 ranks, two rows on each: the third has one row of padding, and the last one two."""
    rng = np.random.default_rng(4)
    x, dy = rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 4, 8))

    def main(comm: Any) -> Array:
        group = Group(comm)
        head = lm_head(overlap)(5, 3, group, sequence_parallel=sequence_parallel, dtype=np.float64)
        head.forward(part(x, "sequence" if sequence_parallel else "whole", comm))
        head.backward(dy[..., 2 * group.rank : 2 * group.rank + 2])
        assert head.weight.grad is not None
        return head.weight.grad

    dweight = np.concatenate(run(main, 4))
    np.testing.assert_allclose(dweight[:5], np.einsum("bsv,bsh->vh", dy, x)[:5], rtol=1e-12, atol=1e-12)
    assert not dweight[5:].any()


def test_what_is_under_way_is_pushed_on_after_each_piece() -> None:
    asked: list[slice] = []
    done: list[slice] = []

    class Noted:
        def test(self) -> bool:
            asked.append(done[-1])
            return False

    handle: Any = Noted()
    with cut_into(3):
        for piece in polling(7, handle, None):
            done.append(piece)
    assert done == asked == [slice(0, 3), slice(3, 6), slice(6, 7)]


@pytest.mark.parametrize("overlap", ["dw", "decomposed"])
def test_a_second_backward_is_refused_and_leaves_gradients_alone(overlap: Overlap) -> None:
    def main(comm: Any) -> None:
        layer = nn.MLP(4, 8, Group(comm), sequence_parallel=True, overlap=overlap)
        for part_of_layer, width in ((layer.up, 4), (layer.down, 4)):
            y = part_of_layer.forward(np.ones((1, 2, width), np.float32))
            part_of_layer.backward(y)
            before = {name: parameter.grad for name, parameter in part_of_layer.parameters().items()}
            with pytest.raises(RuntimeError, match="call forward before each backward"):
                part_of_layer.backward(y)
            for name, parameter in part_of_layer.parameters().items():
                assert parameter.grad is before[name]

    run(main, 2)


@pytest.mark.parametrize(
    ("overlap", "sequence_parallel"), [("dw", False), ("dw", True), ("decomposed", True)]
)
def test_a_dry_run_records_what_a_real_run_records(overlap: Overlap, sequence_parallel: bool) -> None:
    """But for the operations outside of kernels, which only a dry run sees."""
    shape = (2, 1 if sequence_parallel else 3, 4)

    def step(group: Group, x: Any) -> tuple[list[Any], list[Any]]:
        layer = nn.MLP(4, 6, group, sequence_parallel=sequence_parallel, overlap=overlap)
        with Trace(kernels=True) as trace, cut_into(1):
            layer.backward(layer.forward(x))
        return (
            [(e.operation, e.layer, e.phase, e.shape, e.messages, e.bytes_sent) for e in trace.collectives],
            [
                (e.name, e.layer, e.phase, e.inputs, e.flops)
                for e in trace.kernels
                if hasattr(functional, e.name)
            ],
        )

    real = run(lambda comm: step(Group(comm), np.ones(shape, np.float32)), 3)[0]
    with shapes_only():
        dry = step(dry_group(3), ShapeArray(shape, "float32"))
    assert dry == real


unknown: Any = {"overlap": "both"}
odd_sequence = np.ones((1, 3, 2), np.float32)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda g: nn.MLP(4, 8, g, **unknown), "overlap: 'both' is not known; pick 'none', 'dw' or"),
        (lambda g: cut_into(0).__enter__(), "cut_into: 0 pieces are none; pick 1 or more"),
        (lambda g: nn.Attention(4, 2, g, overlap="decomposed"), "without it there is an all-reduce; pass"),
        (lambda g: lm_head("decomposed")(8, 4, g), "DecomposedLMHead: overlap 'decomposed' cuts"),
        (
            lambda g: row_parallel("decomposed")(4, 4, g, sequence_parallel=True).forward(
                np.ones((1, 3, 2), "f4")
            ),
            "a sequence of 3 can't be cut evenly among 2 ranks; pick a multiple of 2, or pad to 4",
        ),
    ],
)
def test_what_cannot_be_overlapped_is_refused_in_three_parts(use: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        run(lambda comm: use(Group(comm)), 2)
    assert THREE_PARTS.fullmatch(str(refused.value))


# -- under mpiexec -------------------------------------------------------------------------------------------


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_mpiexec_gives_the_bits_of_virtual_ranks(ranks: int, tmp_path: Path) -> None:
    job = mpiexec(ranks, SCRIPTS / "overlap.py", tmp=tmp_path)
    assert job.code == 0, job.err
    main = load(SCRIPTS / "overlap.py").main
    schedules: list[Any] = ["lockstep", "free"]
    for schedule, messages in itertools.product(schedules, (False, True)):
        virtual = tpsim.run(main, ranks, messages, schedule=schedule)
        assert json.loads(job.out) == json.loads(json.dumps(virtual))
