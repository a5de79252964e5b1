"""Every layer, drawn: results, replicas, collectives, saved bytes, refusals. One property a test.

The properties themselves are in `tpsim.lab`; `tests/test_zoo.py` shows that they can fail.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from tpsim import nn, run
from tpsim.comm import Group
from tpsim.lab import costs, properties
from tpsim.lab.cases import AttentionCase, BlockCase, ColumnCase, LayerCase, RowCase
from tpsim.lab.collectives import CollectiveCase, collectives, collectives_are_exact
from tpsim.lab.memory import papers_bytes, saved
from tpsim.lab.refusals import THREE_PARTS, RefusalCase, is_refused, refusals
from tpsim.lab.running import run_case
from tpsim.lab.strategies import LAYERS, blocks, columns, layers, paper_blocks, rows
from tpsim.lab.tolerance import measure
from tpsim.lab.traffic import events
from tpsim.lab.violation import Violation

each_layer = pytest.mark.parametrize("layer", LAYERS)
many = settings(deadline=None, max_examples=150)
some = settings(deadline=None, max_examples=60)


@each_layer
@many
@given(data=st.data())
def test_y_dx_and_every_gradient_equal_the_reference(layer: str, data: st.DataObject) -> None:
    properties.equals_reference(data.draw(LAYERS[layer]()))


@each_layer
@some
@given(data=st.data())
def test_replicas_hold_the_same_bits(layer: str, data: st.DataObject) -> None:
    properties.replicas_agree(data.draw(LAYERS[layer]()))


@each_layer
@some
@given(data=st.data())
def test_collectives_messages_and_bytes_are_the_closed_form(layer: str, data: st.DataObject) -> None:
    costs.traffic_is_as_written(data.draw(LAYERS[layer]()))


@each_layer
@some
@given(data=st.data())
def test_saved_bytes_are_the_written_out_sum_and_none_are_left(layer: str, data: st.DataObject) -> None:
    costs.saves_what_is_written(data.draw(LAYERS[layer]()))


@some
@given(paper_blocks())
def test_a_gpt_block_saves_what_the_paper_says(case: BlockCase) -> None:
    costs.saves_what_papers_say(case)


@settings(deadline=None, max_examples=30)
@given(blocks(sequence_parallel=True))
def test_sequence_parallelism_sends_as_much_as_tensor_parallelism(case: BlockCase) -> None:
    costs.sequence_parallelism_sends_as_much(case)


@some
@given(st.one_of(columns(integers=True), rows(integers=True)))
def test_linears_of_whole_numbers_are_exact(case: LayerCase) -> None:
    assert all(error.difference == 0 for error in properties.equals_reference(case))


@some
@given(collectives())
def test_collectives_of_whole_numbers_are_exact(case: CollectiveCase) -> None:
    collectives_are_exact(case)


@each_layer
@some
@given(data=st.data())
def test_gradients_add_up_over_two_backward_passes(layer: str, data: st.DataObject) -> None:
    properties.gradients_accumulate(data.draw(LAYERS[layer]()))


@some
@given(layers())
def test_tracing_changes_nothing(case: LayerCase) -> None:
    properties.tracing_changes_nothing(case)


# --- what can't be ------------------------------------------------------------------------------------------


@many
@given(refusals())
def test_what_cannot_be_is_refused_in_three_parts(case: RefusalCase) -> None:
    is_refused(case)


@each_layer
@some
@given(data=st.data())
def test_backward_before_forward_is_refused(layer: str, data: st.DataObject) -> None:
    case = data.draw(LAYERS[layer](ranks=(1,)))
    _, _, dy = case.draw()
    with pytest.raises(RuntimeError) as refused:
        case.build(None).backward(dy)
    assert THREE_PARTS.fullmatch(str(refused.value))


@each_layer
@some
@given(data=st.data())
def test_backward_takes_what_was_saved_once(layer: str, data: st.DataObject) -> None:
    case = data.draw(LAYERS[layer](ranks=(1,)))
    _, x, dy = case.draw()
    whole = case.build(None)
    whole.forward(x)
    whole.backward(dy)
    with pytest.raises(RuntimeError, match="nothing is saved as"):
        whole.backward(dy)


@each_layer
@some
@given(data=st.data())
def test_load_refuses_missing_and_unknown_names(layer: str, data: st.DataObject) -> None:
    case = data.draw(LAYERS[layer](ranks=(1,)))
    whole, _, _ = case.draw()
    name = data.draw(st.sampled_from(sorted(whole)))
    with pytest.raises(ValueError, match=rf"missing \['{name}'\], unknown \['other'\]; pass exactly"):
        case.build(None).load({"other" if key == name else key: value for key, value in whole.items()})


def test_ranks_with_parts_of_other_lengths_are_told_so() -> None:
    def main(comm: Any) -> None:
        mlp = nn.MLP(4, 2, Group(comm), sequence_parallel=True)
        mlp.forward(np.ones((1, 1 + comm.rank, 4), np.float32))

    with pytest.raises(RuntimeError, match="shapes differ"):
        run(main, ranks=2)


# --- the properties' own yardsticks, against figures worked out by hand ------------------------------------


def test_closed_forms_of_a_block_on_four_ranks() -> None:
    # b·s·h = 2·8·16 = 256 float32; the ring sends 2·3/4 of it for an all-reduce, 3/4 for AG and RS
    sizes: dict[str, Any] = {"batch": 2, "seq": 8, "hidden": 16, "heads": 4, "kv_heads": 4, "ffn": 64}
    case = BlockCase(ranks=4, dtype="float32", **sizes)
    passes, sums = events(case, rank=0)
    assert [(e.phase, e.layer, e.operation, e.bytes_sent) for e in passes] == [
        ("forward", "attention.out", "all_reduce", 1536),
        ("forward", "mlp.down", "all_reduce", 1536),
        ("backward", "mlp.up", "all_reduce", 1536),
        ("backward", "attention.qkv", "all_reduce", 1536),
    ]
    assert sums == []
    case = BlockCase(ranks=4, dtype="float32", sequence_parallel=True, **sizes)
    passes, sums = events(case, rank=0)
    ways = [(event.phase, event.operation) for event in passes]
    assert [ways.count(("forward", name)) for name in ("all_gather", "reduce_scatter")] == [2, 2]
    assert [ways.count(("backward", name)) for name in ("all_gather", "reduce_scatter")] == [4, 2]
    assert {event.bytes_sent for event in passes} == {768}
    assert [event.shape for event in sums] == [(64,)]  # weights and biases of two norms


def test_saved_elements_of_a_block_on_four_ranks() -> None:
    # sbh = 256: norms 2, inputs of the regions 2; q, k, v, out's input 4/4; 2 of 4h/4; scores b·a/4·s·s = 128
    case = BlockCase(ranks=4, batch=2, seq=8, hidden=16, heads=4, kv_heads=4, ffn=64)
    assert saved(case).activations == (4 + 1 + 2) * 256 + 128
    assert papers_bytes(case) == ((4 + 1 + 2) * 256 + 128) * 8


def error_of(got: Any, want: Any, dtype: str = "float64", terms: float = 0.0) -> bool:
    return measure("y", np.array(got, dtype), np.array(want), "float64", lambda: terms).ok


@pytest.mark.parametrize(
    ("got", "want", "ok"),
    [
        ([1.0, 1e-11], [1.0, 0.0], True),  # by the largest entry
        ([1.0, 2e-10], [1.0, 0.0], False),
        ([0.0, 0.0], [0.0, 0.0], True),
        ([1e-300], [0.0], False),
        ([np.nan], [1.0], False),
        ([np.inf], [1.0], False),
        ([1.0], [1.0, 1.0], False),
    ],
)
def test_tolerance_is_relative_to_the_largest_entry(got: Any, want: Any, ok: bool) -> None:
    assert error_of(got, want) is ok


def test_tolerance_allows_for_the_terms_that_cancelled() -> None:
    assert not error_of([1e-9], [0.0], terms=1.0)
    assert error_of([1e-9], [0.0], terms=100.0)


def test_another_dtype_is_an_error() -> None:
    assert not error_of([1.0], [1.0], dtype="float32")


def test_a_violation_says_what_differs_by_how_much_and_where() -> None:
    case = ColumnCase(ranks=2, in_features=3, out_features=4)
    ran = run_case(case)
    ran.ranks[1].dx[0, 0, 0] += 0.5
    with pytest.raises(Violation) as violation:
        properties.equals_reference(case, ran)
    message = str(violation.value)
    assert message.startswith("t = 2: dx differs from the reference by 0.5 (tolerance 1e-10 × ")
    assert message.endswith("; ColumnCase(ranks=2, in_features=3, out_features=4)")


def test_a_case_prints_as_the_call_that_makes_it() -> None:
    case = BlockCase(ranks=2, heads=2, norm="rms", rotary_base=50.0)
    assert eval(repr(case), {"BlockCase": BlockCase}) == case


# --- and what they are given --------------------------------------------------------------------------------


def _grouped(case: AttentionCase) -> bool:
    return case.ranks > 1 and case.ranks < case.kv_heads < case.heads


def _rotary_sp(case: AttentionCase) -> bool:
    return bool(case.rotary_base) and case.qk_norm and case.sequence_parallel and not case.keep_gathered


def _row_bias(case: RowCase) -> bool:
    return case.bias and case.sequence_parallel and case.messages and case.ranks > 1


REACHED: dict[str, tuple[Callable[..., Any], Callable[[Any], bool]]] = {
    "eight ranks": (blocks, lambda case: case.ranks == 8),
    "three ranks share one kv head": (blocks, lambda case: case.ranks == 3 and case.kv_heads == 1),
    "two ranks a kv head, of several": (blocks, lambda case: 1 < case.kv_heads < case.ranks),
    "several kv heads a rank, each of several heads": (blocks, _grouped),
    "odd head size": (blocks, lambda case: case.head_size % 2 == 1 and case.qk_norm),
    "rotary with q/k norm under SP": (blocks, _rotary_sp),
    "uneven chunks": (columns, lambda case: case.in_features * case.batch * case.seq % case.ranks != 0),
    "row bias under SP, messages sent": (rows, _row_bias),
}


@pytest.mark.parametrize("what", REACHED)
def test_strategies_reach(what: str) -> None:
    cases, condition = REACHED[what]
    find(cases(), condition, settings=settings(max_examples=3000, database=None, phases=[Phase.generate]))
