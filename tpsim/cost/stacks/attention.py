"""The attention core, as one fused kernel each way or in pieces.

A record has its two halves, `attention_probabilities` and `attention_output`, with the dropout of the
probabilities between them, and in backward the gradients of both in the other order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tpsim.cost.gemm import itemsize
from tpsim.cost.stacks.program import Program
from tpsim.cost.stacks.rows import Row
from tpsim.cost.work import Attention, Direction, Gemm, Layout
from tpsim.trace import KernelEvent

# --- fused --------------------------------------------------------------------------------------------------


def core_begins(program: Program, event: KernelEvent) -> None:
    """Inside the core nothing is launched: what follows is in registers and shared memory."""
    program.inside_core = True
    if event.name == "attention_probabilities":
        _launch_core(program, event, "forward")


def core_ends(program: Program, event: KernelEvent) -> None:
    """From here on records are launched again."""
    program.inside_core = False
    if event.name == "attention_probabilities_grad":
        _launch_core(program, event, "backward")


def _launch_core(program: Program, event: KernelEvent, direction: Direction) -> None:
    """F.scaled_dot_product_attention, or its backward.

    A core that runs again by itself (selective recompute) is what the fused backward does anyhow.
    """
    if event.layer.split(".")[-1] == "recompute":
        return
    (batch, heads, seq, size), (_, kv_heads, kv_seq, _) = event.inputs[:2]
    work = Attention(
        batch, heads, kv_heads, seq, kv_seq, size, _causal(program, event), direction, event.dtype
    )
    program.emit("attention", work, before=("view",))  # q, k and v split off, [s, b, a, d] as [b, a, s, d]


def _causal(program: Program, event: KernelEvent) -> bool:
    """Whether it has a causal mask, which only the forward says (as an option)."""
    if "causal" in event.options:
        program.causal[event.layer] = bool(event.options["causal"])
    return program.causal.get(event.layer, True)


FUSED: Mapping[str, Row] = {
    "attention_probabilities": core_begins,
    "attention_output": core_ends,
    "attention_output_grad": core_begins,
    "attention_probabilities_grad": core_ends,
}

# --- in pieces ----------------------------------------------------------------------------------------------


def probabilities(program: Program, event: KernelEvent) -> None:
    """torch.baddbmm for Q Kᵀ, and Megatron-LM's FusedScaleMaskSoftmax, which reads and writes the scores."""
    q, k = event.inputs[:2]
    _products(program, "bmm", (q, k), event.dtype, "forward")
    scores = event.outputs[0]
    nbytes = 2 * math.prod(scores) * itemsize(event.dtype)
    program.pointwise("softmax", "softmax", scores, nbytes, event.dtype)


def output(program: Program, event: KernelEvent) -> None:
    """torch.bmm for P V, and context.permute(…).contiguous(), which brings heads back together."""
    p, out = event.inputs[0], event.outputs[0]
    batch, heads, seq, size = out
    program.emit("bmm", Gemm(seq, size, p[-1], "forward", event.dtype, batch * heads))
    nbytes = 2 * math.prod(out) * itemsize(event.dtype)
    program.pointwise("copy", "strided_copy", (batch * seq, heads * size), nbytes, event.dtype)


def output_grad(program: Program, event: KernelEvent) -> None:
    """BmmBackward of P V: dP = dO Vᵀ and dV = Pᵀ dO."""
    p, _, dout = event.inputs
    batch, heads, seq, size = dout
    for layout in ("dgrad", "wgrad"):
        program.emit("bmm", Gemm(seq, size, p[-1], layout, event.dtype, batch * heads))


def probabilities_grad(program: Program, event: KernelEvent) -> None:
    """The fused softmax's backward, which reads P and dP and writes dS; then dQ = dS K and dK = dSᵀ Q."""
    q, k, p = event.inputs[:3]
    nbytes = 3 * math.prod(p) * itemsize(event.dtype)
    program.pointwise("softmax", "softmax.backward", p, nbytes, event.dtype)
    _products(program, "bmm", (q, k), event.dtype, "dgrad", "wgrad")


def _products(
    program: Program,
    call: str,
    operands: tuple[tuple[int, ...], tuple[int, ...]],
    dtype: str,
    *layouts: Layout,
) -> None:
    (batch, heads, seq, size), (_, _, kv_seq, _) = operands
    for layout in layouts:
        program.emit(call, Gemm(seq, kv_seq, size, layout, dtype, batch * heads))


UNFUSED: Mapping[str, Row] = {
    "attention_probabilities": probabilities,
    "attention_output": output,
    "attention_output_grad": output_grad,
    "attention_probabilities_grad": probabilities_grad,
}
