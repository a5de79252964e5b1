"""What a software stack launches for a record: dry runs of real layers, and records made by hand.

The kernels of eager PyTorch, and the bytes of each, are those that PyTorch 2.13 dispatches for the same
layers (TorchDispatchMode, on meta tensors), whatever the order in which autograd comes to them.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim import Trace, nn
from tpsim.comm.dry import dry_group
from tpsim.cost.stacks import EAGER, MEGATRON, Stack, launches, stack
from tpsim.cost.timeline import kind
from tpsim.cost.work import Attention, Collective, Gemm, Launch, Pointwise
from tpsim.dry import ShapeArray
from tpsim.dry.world import shapes_only
from tpsim.nn.masks import drawing
from tpsim.trace import CollectiveEvent, KernelEvent, Phase

BATCH, SEQ, HIDDEN, HEADS, FFN = 2, 64, 48, 8, 96
GPT: dict[str, Any] = {}
LLAMA: dict[str, Any] = {"norm": "rms", "activation": "swiglu", "bias": False, "kv_heads": 4}


def block(
    ranks: int = 1,
    microbatches: int = 2,
    shape: tuple[int, int] = (BATCH, SEQ),
    sizes: tuple[int, int, int] = (HIDDEN, HEADS, FFN),
    **options: Any,
) -> Trace:
    """The last microbatch of a block, forward and backward, in bfloat16."""
    sp = options.get("sequence_parallel", False)
    with shapes_only():
        layer = nn.TransformerBlock(*sizes, dry_group(ranks), dtype="bfloat16", **options)
    batch, seq = shape
    x: Any = ShapeArray((batch, seq // ranks if sp else seq, sizes[0]), np.dtype("bfloat16"))
    for _ in range(microbatches):
        with Trace(kernels=True) as trace, drawing(0, 0, range(batch)):
            layer.backward(layer.forward(x))
    return trace


def kinds(program: Sequence[Launch], phase: str) -> list[str]:
    return [kind(launch) for launch in program if launch.phase == phase]


def flops(program: Sequence[Launch], work: type[Gemm] | type[Attention]) -> int:
    return sum(launch.work.flops for launch in program if isinstance(launch.work, work))


def without(program: Sequence[Launch], *names: str) -> Counter[str]:
    return Counter(kind(launch) for launch in program if kind(launch) not in names)


# --- records by hand ----------------------------------------------------------------------------------------


def kernel(name: str, order: int, inputs: Any, outputs: Any, **fields: Any) -> KernelEvent:
    given: dict[str, Any] = {
        "layer": "layer",
        "phase": "forward",
        "dtype": "bfloat16",
        "bytes_read": 60,
        "bytes_written": 4,
    }
    given |= fields
    return KernelEvent(name, inputs, outputs, flops=0, order=order, **given)


def collective(operation: str, begun: int, order: int, shape: tuple[int, ...], ranks: int) -> CollectiveEvent:
    phase: Phase = "forward"
    return CollectiveEvent(
        operation, "ring", "tp", ranks, 0, shape, "bfloat16", 0, 0, True, "", phase, 0.0, 0.0, begun, order
    )


def record(kernels: Sequence[KernelEvent], collectives: Sequence[CollectiveEvent] = ()) -> Trace:
    trace = Trace(kernels=True)
    trace.kernels += kernels
    trace.collectives += collectives
    return trace


def adds(*orders: int) -> list[KernelEvent]:
    return [kernel("add", order, ((4, 8), (4, 8)), ((4, 8),)) for order in orders]


# --- eager PyTorch ------------------------------------------------------------------------------------------


def test_a_gpt_block_launches_what_eager_pytorch_does() -> None:
    program = launches(block(2))
    region = ["gemm", "all_reduce", "add", "add"]  # row-parallel, reduced, bias and residual added
    assert kinds(program, "forward") == [
        *("layer_norm", "gemm", "attention", *region),
        *("layer_norm", "gemm", "gelu", *region),
    ]
    row = ["sum", "grad_accumulate", "gemm", "grad_accumulate", "gemm"]  # db, dA, dX
    column = ["gemm", "sum", "grad_accumulate", "grad_accumulate", "gemm", "all_reduce"]
    norm = ["layer_norm.backward", "grad_accumulate", "grad_accumulate", "add"]
    assert kinds(program, "backward") == [
        *(*row, "gelu.backward", *column, *norm),
        *(*row, "attention", "cat", *column, *norm),
    ]


def test_a_row_parallel_bias_with_nothing_to_reduce_is_in_its_products_epilogue() -> None:
    # F.linear(x, A, b) is aten::addmm, one kernel; only a bias that waits for a reduce is added by another.
    alone, shared = without(launches(block(1))), without(launches(block(2)))
    assert shared - alone == {"add": 2, "all_reduce": 4}
    assert alone - shared == {}
    assert without(launches(block(1), MEGATRON))["add"] == without(launches(block(2), MEGATRON))["add"]


def test_a_llama_block_launches_what_eager_pytorch_does() -> None:
    program = launches(block(2, sequence_parallel=True, **LLAMA))
    assert kinds(program, "forward") == [
        *("rms_norm", "all_gather", "gemm", "attention", "gemm", "reduce_scatter", "add"),
        *("rms_norm", "all_gather", "gemm", "silu_strided", "mul_strided", "gemm", "reduce_scatter", "add"),
    ]
    linear = ["gemm", "grad_accumulate", "gemm"]
    norm = ["rms_norm.backward", "grad_accumulate", "add"]
    assert kinds(program, "backward") == [
        *("all_gather", *linear, "silu_mul.backward", "all_gather", *linear, "reduce_scatter", *norm),
        *("all_gather", *linear, "attention", "cat", "all_gather", *linear, "reduce_scatter", *norm),
    ]


@given(st.sampled_from([1, 2, 4]), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.booleans())
@settings(max_examples=15)
def test_flops_are_those_of_the_closed_form(t: int, b: int, s: int, d: int, causal: bool) -> None:
    s, h, a = 8 * s, 32 * d, 4
    trace = block(t, shape=(b, s), sizes=(h, a, 4 * h), causal=causal)
    program = launches(trace)
    assert flops(program, Gemm) == 3 * 24 * b * s * h * h // t
    # 4bs²h forward, 10bs²h backward, where the fused kernel computes its scores again
    assert flops(program, Attention) == 14 * b * s * s * h // t // (2 if causal else 1)
    pieces = launches(trace, MEGATRON)
    assert flops(pieces, Gemm) == 3 * (24 * b * s * h * h + 4 * b * s * s * h) // t


@pytest.mark.parametrize("options", [GPT, LLAMA])
def test_each_parameters_gradient_is_accumulated_once_in_its_own_dtype(options: dict[str, Any]) -> None:
    with shapes_only():
        layer = nn.TransformerBlock(HIDDEN, HEADS, FFN, dtype="bfloat16", **options)
    program = launches(block(**options))
    moved = [n.work.nbytes for n in program if isinstance(n.work, Pointwise) and kind(n) == "grad_accumulate"]
    assert sorted(moved) == sorted(3 * 2 * p.data.size for p in layer.parameters().values())


def test_the_first_microbatch_accumulates_nothing() -> None:
    program = launches(block(microbatches=1))
    assert without(program) == without(launches(block()), "grad_accumulate")


def test_only_a_linear_layer_with_a_bias_sums_its_gradient() -> None:
    assert without(launches(block(bias=False)), "add") == without(launches(block()), "sum", "add") - Counter(
        grad_accumulate=4
    )


def test_the_core_is_told_its_heads_and_mask_in_both_directions() -> None:
    program = launches(block(2, causal=False, **LLAMA))
    cores = [launch.work for launch in program if isinstance(launch.work, Attention)]
    common = (BATCH, HEADS // 2, 2, SEQ, SEQ, HIDDEN // HEADS, False)
    assert cores == [Attention(*common, "forward"), Attention(*common, "backward")]


def test_dropout_of_probabilities_is_inside_the_fused_core() -> None:
    assert without(launches(block(attention_dropout=0.1))) == without(launches(block()))
    dropped = without(launches(block(attention_dropout=0.1), MEGATRON))
    assert dropped - without(launches(block(), MEGATRON)) == {"dropout": 1, "dropout.backward": 1}


def test_a_fused_backward_runs_the_core_again_by_itself() -> None:
    assert launches(block(recompute="selective")) == launches(block())


def test_full_recompute_launches_forward_twice() -> None:
    plain, again = launches(block(2)), launches(block(2, recompute="full"))
    forward = Counter(kinds(plain, "forward"))
    assert without(again) == without(plain) + forward
    rerun = [kind(launch) for launch in again if "recompute" in launch.layer.split(".")]
    assert Counter(rerun) == forward
    assert rerun == kinds(plain, "forward")


def test_the_gradient_of_a_head_is_of_its_forwards_shape() -> None:
    with shapes_only():
        head = nn.LMHead(96, HIDDEN, dtype="bfloat16")
    x: Any = ShapeArray((BATCH, SEQ, HIDDEN), np.dtype("bfloat16"))
    with Trace(kernels=True) as trace:
        head.backward(head.forward(x))
    works = {launch.work for launch in launches(trace) if isinstance(launch.work, Gemm)}
    assert works == {Gemm(BATCH * SEQ, 96, HIDDEN, layout) for layout in ("forward", "dgrad", "wgrad")}


@pytest.mark.parametrize(("rotary", "forward", "backward"), [("eager", 5, 9), ("fused", 1, 1)])
def test_rotary_is_written_out_for_queries_and_for_keys(rotary: Any, forward: int, backward: int) -> None:
    way = Stack("drawn", rotary=rotary)
    plain, turned = (launches(block(rotary_base=base, **LLAMA), way) for base in (None, 1e4))
    for phase, kernels in (("forward", forward), ("backward", backward)):
        assert len(kinds(turned, phase)) - len(kinds(plain, phase)) == 2 * kernels


def test_rotary_written_out_walks_halves_and_broadcast_tables_by_strides() -> None:
    program = launches(block(rotary_base=1e4, **LLAMA))
    calls = [(n.phase, n.call) for n in program if kind(n) == "strided_copy"]
    assert Counter(calls) == {  # of q and of k
        ("forward", "neg"): 2,
        ("forward", "mul"): 4,
        ("backward", "mul"): 4,
        ("backward", "neg"): 2,
        ("backward", "copy"): 4,
    }


def test_silu_and_product_are_issued_by_one_call() -> None:
    calls = [(kind(launch), launch.call) for launch in launches(block(**LLAMA))]
    assert ("silu_strided", "silu_mul") in calls
    assert ("mul_strided", "") in calls


# --- Megatron-LM of 2021 ------------------------------------------------------------------------------------


def test_megatron_joins_bias_dropout_and_residual() -> None:
    program = launches(block(2, dropout=0.1), MEGATRON)
    after = ["all_reduce", "bias_dropout_add"]
    assert kinds(program, "forward") == [
        *("layer_norm", "gemm", "gemm", "softmax", "gemm", "strided_copy", "gemm", *after),
        *("layer_norm", "gemm", "gelu", "gemm", *after),
    ]
    (joined, _) = (n.work for n in program if kind(n) == "bias_dropout_add")
    assert isinstance(joined, Pointwise)
    assert joined.nbytes == BATCH * SEQ * HIDDEN * (3 * 2 + 1)  # and a mask of 1 byte


def test_megatron_accumulates_weights_in_their_gemms_and_vectors_in_float32() -> None:
    moved = [n.work for n in launches(block(), MEGATRON) if kind(n) == "grad_accumulate"]
    widths = [3 * HIDDEN, FFN, *[HIDDEN] * 6]  # two column biases; two row biases and two norms with two each
    assert sorted(w.nbytes for w in moved if isinstance(w, Pointwise)) == sorted(10 * n for n in widths)


def test_megatrons_core_runs_again_in_selective_recompute() -> None:
    plain, again = launches(block(), MEGATRON), launches(block(recompute="selective"), MEGATRON)
    core = {"gemm": 2, "softmax": 1, "strided_copy": 1}
    assert Counter(kinds(again, "backward")) - Counter(kinds(plain, "backward")) == core


# --- collectives and order ----------------------------------------------------------------------------------


@given(st.sampled_from([2, 4]), st.booleans(), st.sampled_from([EAGER, MEGATRON]))
@settings(max_examples=8)
def test_collectives_are_those_of_the_trace(t: int, sp: bool, way: Stack) -> None:
    trace = block(t, sequence_parallel=sp)
    program = [launch for launch in launches(trace, way) if isinstance(launch.work, Collective)]
    whole = 2 * BATCH * SEQ * HIDDEN  # every one is of [b, s, h] in 2 bytes
    assert [launch.work for launch in program] == [
        Collective(event.operation, whole, t) for event in trace.collectives
    ]
    assert all(launch.stream == "communication" for launch in program)


def test_one_rank_alone_communicates_nothing() -> None:
    assert all(launch.stream == "compute" for launch in launches(block(1, sequence_parallel=True)))


def test_a_blocking_collective_waits_for_all_before_it_and_the_next_kernel_for_it() -> None:
    program = launches(record(adds(1, 2, 4, 5), [collective("all_reduce", 3, 3, (4, 8), 2)]))
    assert [(launch.stream, launch.after) for launch in program] == [
        ("compute", ()),
        ("compute", ()),
        ("communication", (1,)),
        ("compute", (2,)),
        ("compute", ()),
    ]


def test_a_collective_under_way_is_waited_for_where_it_was_completed() -> None:
    program = launches(record(adds(1, 3, 5), [collective("all_gather", 2, 4, (4, 8), 4)]))
    assert [launch.after for launch in program] == [(), (0,), (), (1,)]
    assert program[1].work == Collective("all_gather", 4 * 2 * 4 * 8, 4)


def test_launches_keep_layer_and_phase() -> None:
    trace = block(2)
    program = launches(trace)
    assert {(n.layer, n.phase) for n in program} <= {(k.layer, k.phase) for k in trace.kernels}
    assert {"attention.qkv", "attention", "mlp.down", "norm1", ""} <= {n.layer for n in program}


# --- other names --------------------------------------------------------------------------------------------


def test_a_name_that_no_row_knows_is_one_kernel_of_its_bytes() -> None:
    event = kernel("exp", 1, ((4, 6, 8),), ((4, 6, 8),))
    (launch,) = launches(record([event]))
    assert launch.work == Pointwise("exp", 24, 8, 64)
    assert (launch.call, launch.layer, launch.phase) == ("exp", "layer", "forward")


@pytest.mark.parametrize("name", ["copy", "rotary_tables"])
def test_views_and_tables_are_no_kernels(name: str) -> None:
    assert launches(record([kernel(name, 1, ((4, 8),), ((4, 8),))])) == []


def test_arithmetic_on_indices_is_no_kernel_but_choosing_by_them_is() -> None:
    index = kernel("subtract", 1, ((4,), ()), ((4,),), dtype="int64")
    chosen = kernel("where", 2, ((4, 1), (4, 8)), ((4, 8),), dtype="bool")
    assert [kind(launch) for launch in launches(record([index, chosen]))] == ["where"]


def test_a_trace_without_kernels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no kernels.*Trace\(kernels=True\)"):
        launches(Trace())


def test_stacks_have_names() -> None:
    assert (stack("eager"), stack("megatron")) == (EAGER, MEGATRON)
    with pytest.raises(ValueError, match=r"did you mean 'megatron'.*eager, megatron"):
        stack("megatrn")


def test_empty_arrays_launch_nothing() -> None:
    padding = kernel("setitem", 1, (), ((4, 0),), bytes_read=0, bytes_written=0)
    assert launches(record([padding])) == []


def test_an_embeddings_gradient_moves_rows_and_no_index_for_each_entry() -> None:
    event = kernel("add.at", 1, ((32,), (32,), (32,)), ((32,),), dtype="float32", bytes_read=512)
    (launch,) = launches(record([event]))
    assert launch.work == Pointwise("embedding.backward", 1, 32, 3 * 4 * 32, "float32")
