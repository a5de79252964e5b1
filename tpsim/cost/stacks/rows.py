"""What eager PyTorch launches for each kernel of a record: the rows that all stacks have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

from tpsim.cost.gemm import itemsize
from tpsim.cost.stacks.program import Forward, Program, is_backward, rows
from tpsim.cost.work import Gemm
from tpsim.trace import KernelEvent

Row: TypeAlias = Callable[[Program, KernelEvent], None]

_WHOLE = frozenset({"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})


def nothing(program: Program, event: KernelEvent) -> None:
    """What is a view, or part of another kernel."""


def memory_bound(program: Program, event: KernelEvent) -> None:
    """One kernel that memory bounds, of a name that no row knows.

    Arithmetic on whole numbers is for indices (which rows of an embedding are here) and masks: a few bytes a
    token, in kernels that are there once a model. For an empty array nothing is launched.
    """
    nbytes = event.bytes_read + event.bytes_written
    if nbytes == 0 or (event.dtype in _WHOLE and event.name != "where"):
        return
    shape = max((*event.outputs, *event.inputs), key=math.prod)
    program.pointwise(event.name, event.name, shape, nbytes, event.dtype)


def named(name: str, call: str | None = None) -> Row:
    """Return the row of one memory-bound kernel over the first result, under a profile's name for it."""

    def row(program: Program, event: KernelEvent) -> None:
        nbytes = event.bytes_read + event.bytes_written
        program.pointwise(call or name, name, event.outputs[0], nbytes, event.dtype)

    return row


# --- linear layers ------------------------------------------------------------------------------------------


def linear(program: Program, event: KernelEvent) -> None:
    """F.linear(x, A, b): one GEMM, b added in its epilogue."""
    x, (k, n), *bias = event.inputs
    program.linears[event.layer] = Forward(n, k, bool(bias))
    program.emit("linear", Gemm(rows(x), n, k, "forward", event.dtype))


def linear_grad_input(program: Program, event: KernelEvent) -> None:
    """Of AddmmBackward: dY Aᵀ."""
    (k, n), dy = event.inputs
    program.emit("linear", Gemm(rows(dy), n, k, "dgrad", event.dtype))


def linear_grad_weight(program: Program, event: KernelEvent) -> None:
    """Of AddmmBackward: Xᵀ dY and, if there is a bias, dY summed over its rows."""
    x, dy = event.inputs
    forward = program.linears.get(event.layer, Forward(dy[-1], x[-1], False))
    program.emit("linear", Gemm(rows(x), forward.n, forward.k, "wgrad", event.dtype))
    if forward.bias:
        _bias_grad(program, dy, event.dtype)
        program.bias_summed = event.layer


def add_linear_grad_weight(program: Program, event: KernelEvent) -> None:
    """torch.addmm(out=dA): Xᵀ dY of a chunk of rows, in a GEMM that adds to what is there."""
    x, dy, _ = event.inputs
    forward = program.linears.get(event.layer, Forward(dy[-1], x[-1], False))
    program.emit("linear", Gemm(rows(x), forward.n, forward.k, "wgrad", event.dtype))


def bias_grad(program: Program, event: KernelEvent) -> None:
    """dy.sum(rows), for a bias that was added by itself: of AddBackward."""
    if program.bias_summed == event.layer:  # with the weight's gradient
        program.bias_summed = ""
        return
    _bias_grad(program, event.inputs[0], event.dtype)


def _bias_grad(program: Program, dy: tuple[int, ...], dtype: str) -> None:
    program.pointwise("sum", "sum", dy, math.prod(dy) * itemsize(dtype), dtype)


def accumulate(program: Program, event: KernelEvent) -> None:
    """AccumulateGrad, `grad += new`, in the parameter's dtype; a weight's in float32 is part of its GEMM."""
    shape = event.outputs[0]
    size = math.prod(shape)
    if program.stack.gradients == "storage":
        nbytes = 3 * size * itemsize(program.dtype)
        program.pointwise("grad_accumulate", "grad_accumulate", shape, nbytes, program.dtype)
    elif len(shape) == 1:
        nbytes = size * (2 * itemsize("float32") + itemsize(program.dtype))
        program.pointwise("grad_accumulate", "grad_accumulate", shape, nbytes, "float32")


def add(program: Program, event: KernelEvent) -> None:
    """A residual, or a bias after the reduce; where nothing is reduced, F.linear takes the bias itself."""
    if len(event.inputs[-1]) == 1 and program.last_is_product_of(event.layer):
        return
    named("add")(program, event)


def embedding_grad(program: Program, event: KernelEvent) -> None:
    """Of EmbeddingBackward: each token's dy read and added to its row; no index for every entry of it."""
    _, dy = event.inputs[:2]
    nbytes = 3 * math.prod(dy) * itemsize(event.dtype)
    program.pointwise("embedding", "embedding.backward", dy, nbytes, event.dtype)


# --- element-wise -------------------------------------------------------------------------------------------


def swiglu(program: Program, event: KernelEvent) -> None:
    """F.silu(gate) · up on the halves of one array [rows, 2·width]: two kernels, each with strided input."""
    gate = event.outputs[0]
    nbytes = math.prod(gate) * itemsize(event.dtype)
    program.pointwise("silu_mul", "silu_strided", gate, 2 * nbytes, event.dtype)
    program.pointwise("", "mul_strided", gate, 3 * nbytes, event.dtype)


def swiglu_grad(program: Program, event: KernelEvent) -> None:
    """MulBackward (two products), SiluBackward and SplitBackward (the halves joined), as one family."""
    gate = event.outputs[0]
    nbytes = 5 * math.prod(gate) * itemsize(event.dtype)
    program.pointwise("silu_mul", "silu_mul.backward", gate, nbytes, event.dtype)
    program.joined = event.layer


def concatenate(program: Program, event: KernelEvent) -> None:
    """torch.cat: in SplitBackward, of dQ, dK and dV."""
    if program.joined == event.layer:
        program.joined = ""
        return
    named("cat")(program, event)


def dropout(program: Program, event: KernelEvent) -> None:
    """F.dropout, which draws the mask and writes it beside y; in backward, masked_scale."""
    name = "dropout.backward" if is_backward(event.layer, event.phase) else "dropout"
    named(name)(program, event)


def rotary(program: Program, event: KernelEvent) -> None:
    """The rotation of q, or of k: x·cos + rotate_half(x)·sin, rotate_half(x) being cat(−x₂, x₁).

    Backward, the two products; each half of rotate_half(x) is a slice, whose gradient is an array of zeros
    with the half's copied in; and two additions of the three gradients of x. Kernels with a half, or with a
    table that is broadcast over heads, walk by strides: they take as long as a copy that does.
    """
    x = event.outputs[0]
    whole = math.prod(x) * itemsize(event.dtype)
    half = whole // 2
    if program.stack.rotary == "kv_write":
        program.to_write += 2 * whole
        return
    if program.stack.rotary == "fused":
        kernels = [("rotary", "rotary", 2 * whole)]
    elif is_backward(event.layer, event.phase):
        slices = 2 * [("fill", "fill", whole), ("copy", "strided_copy", 2 * half)]
        kernels = [*2 * [("mul", "strided_copy", 2 * whole)], ("neg", "strided_copy", 2 * half), *slices]
        kernels += 2 * [("add", "add", 3 * whole)]
    else:
        kernels = [("neg", "strided_copy", 2 * half), ("cat", "cat", 2 * whole)]
        kernels += 2 * [("mul", "strided_copy", 2 * whole)] + [("add", "add", 3 * whole)]
    for call, name, nbytes in kernels:
        program.pointwise(call, name, x, nbytes, event.dtype)


def setitem(program: Program, event: KernelEvent) -> None:
    """In attention, keys and then values written into their cache, [b, g, s, d] each, by one kernel."""
    if event.layer.split(".")[-1] != "attention":
        memory_bound(program, event)
        return
    moved = 2 * math.prod(event.outputs[0]) * itemsize(event.dtype)
    if program.joined != event.layer:  # the keys, which may be on the list already as ones that are turned
        program.joined = event.layer
        program.to_write = program.to_write or moved
        return
    program.pointwise("kv_write", "kv_write", event.outputs[0], program.to_write + moved, event.dtype)
    program.joined, program.to_write = "", 0


ROWS: Mapping[str, Row] = {
    "linear": linear,
    "linear_grad_input": linear_grad_input,
    "linear_grad_weight": linear_grad_weight,
    "add_linear_grad_weight": add_linear_grad_weight,
    "bias_grad": bias_grad,
    "accumulate": accumulate,
    "layer_norm": named("layer_norm"),  # F.layer_norm
    "layer_norm_grad": named("layer_norm.backward"),  # NativeLayerNormBackward: dx, then dγ and dβ
    "rms_norm": named("rms_norm"),  # F.rms_norm
    "rms_norm_grad": named("rms_norm.backward"),
    "gelu": named("gelu"),  # F.gelu, and of its approximate="tanh" the same traffic
    "gelu_tanh": named("gelu"),
    "gelu_grad": named("gelu.backward"),
    "gelu_tanh_grad": named("gelu.backward"),
    "silu": named("silu"),
    "silu_grad": named("silu.backward"),
    "swiglu": swiglu,
    "swiglu_grad": swiglu_grad,
    "dropout": dropout,
    "rotary": rotary,
    "rotary_tables": nothing,  # made once, not in every layer
    "negative": nothing,  # of the tables, for rotary's backward
    "take": named("embedding"),  # F.embedding
    "add.at": embedding_grad,
    "add": add,
    "concatenate": concatenate,
    "setitem": setitem,
    "copy": nothing,  # q, k, v and the joined heads are views in [s, b, h]; eager code keeps the fused array
    "softmax": named("softmax"),
    "softmax_grad": named("softmax.backward"),
}
"""By a record's name. Any other name is one memory-bound kernel."""
