"""What NumPy runs for each kernel of a record: the very functions of `tpsim.functional`, pass by pass.

Nothing is fused and nothing is issued ahead. A record of a marked function is one work of that name, which
`tpsim calibrate` times by calling the function; matrix products are works of their own, also those inside a
marked function, and so are the passes beside them. Names end in ".float64" for arrays of that dtype.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tpsim.cost.gemm import itemsize
from tpsim.cost.stacks.program import Program, Shape, rows
from tpsim.cost.stacks.rows import Row
from tpsim.cost.work import Gemm, Layout
from tpsim.trace import CollectiveEvent, KernelEvent

_NARROW = frozenset({"bfloat16", "float16"})


class NumpyProgram(Program):
    """Launches of one core, which also carries its rank's messages."""

    def begin(self, event: CollectiveEvent) -> None:
        """Nothing moves yet: a message needs somebody who looks at it."""

    def wait(self, event: CollectiveEvent) -> None:
        """Carry the messages out, and go on."""
        super().begin(event)
        super().wait(event)


def family(name: str, dtype: str) -> str:
    """Return a function's name in a profile."""
    return f"{name}.float64" if dtype == "float64" else name


def _run(program: Program, name: str, shape: Shape, arrays: float, dtype: str) -> None:
    """Launch one function that reads and writes so many arrays of a shape."""
    dtype = "float32" if dtype in _NARROW else dtype
    nbytes = round(arrays * math.prod(shape) * itemsize(dtype))
    program.pointwise(name, family(name, dtype), shape, nbytes, dtype)


def _multiply(
    program: Program, sizes: tuple[int, int, int], dtype: str, *layouts: Layout, batch: int = 1
) -> None:
    """Launch products of (m, n, k): the forward one, or the gradients'."""
    dtype = "float32" if dtype in _NARROW else dtype
    for layout in layouts:
        program.emit("matmul", Gemm(*sizes, layout, dtype, batch))


def one_call(program: Program, event: KernelEvent) -> None:
    """One function, over the larger of its result and its first input."""
    nbytes, dtype = event.bytes_read + event.bytes_written, event.dtype
    shape = max((*event.outputs, *event.inputs[:1]), key=math.prod)
    _widen(program, event)
    if dtype in _NARROW:
        dtype, nbytes = "float32", 2 * nbytes
    program.pointwise(event.name, family(event.name, dtype), shape, nbytes, dtype)


# --- linear layers ------------------------------------------------------------------------------------------


def linear(program: Program, event: KernelEvent) -> None:
    """`x @ A`, then `y += b`."""
    x, (k, n), *bias = event.inputs
    _widen(program, event)
    _multiply(program, (rows(x), n, k), event.dtype, "forward")
    if bias:
        _run(program, "add", event.outputs[0], 2, event.dtype)


def linear_grad_input(program: Program, event: KernelEvent) -> None:
    """`dy @ A.T`."""
    (k, n), dy = event.inputs
    _widen(program, event)
    _multiply(program, (rows(dy), n, k), event.dtype, "dgrad")


def linear_grad_weight(program: Program, event: KernelEvent) -> None:
    """`x.T @ dy`, and dy summed over its rows whether there is a bias or not."""
    x, dy = event.inputs
    _widen(program, event)
    _multiply(program, (rows(x), dy[-1], x[-1]), event.dtype, "wgrad")
    _run(program, "bias_grad", dy, 1, event.dtype)


# --- attention ----------------------------------------------------------------------------------------------


def probabilities(program: Program, event: KernelEvent) -> None:
    """Scaled q, its products with k, a mask that is made and added, and the softmax."""
    q, k = event.inputs[:2]
    scores = event.outputs[0]
    _widen(program, event)
    _run(program, "multiply", q, 2, event.dtype)
    _heads(program, q, k, event.dtype, "forward")
    if event.options.get("causal"):
        _run(program, "causal_mask", scores[-2:], 1, event.dtype)
        _run(program, "add", scores, 2, event.dtype)
    _run(program, "softmax", scores, 2, event.dtype)


def output(program: Program, event: KernelEvent) -> None:
    """P V, head by head."""
    p, v = event.inputs
    _widen(program, event)
    _heads_output(program, p, v, event.dtype, "forward")


def output_grad(program: Program, event: KernelEvent) -> None:
    """DP = dO Vᵀ and dV = Pᵀ dO."""
    p, v = event.inputs[:2]
    _widen(program, event)
    _heads_output(program, p, v, event.dtype, "dgrad", "wgrad")


def probabilities_grad(program: Program, event: KernelEvent) -> None:
    """The softmax's gradient dS; then dS K and dSᵀ Q, each scaled."""
    q, k, p = event.inputs[:3]
    _widen(program, event)
    _run(program, "softmax_grad", p, 3, event.dtype)
    _heads(program, q, k, event.dtype, "dgrad", "wgrad")
    for array in (q, k):
        _run(program, "multiply", array, 2, event.dtype)


def _heads(program: Program, q: Shape, k: Shape, dtype: str, *layouts: Layout) -> None:
    """Q Kᵀ of every key head, the query heads that share it stacked along the sequence; or gradients."""
    (batch, heads, seq, size), (_, kv_heads, kv_seq, _) = q, k
    stacked = heads // kv_heads * seq
    _multiply(program, (stacked, kv_seq, size), dtype, *layouts, batch=batch * kv_heads)


def _heads_output(program: Program, p: Shape, v: Shape, dtype: str, *layouts: Layout) -> None:
    (batch, heads, seq, kv_seq), (_, kv_heads, _, size) = p, v
    stacked = heads // kv_heads * seq
    _multiply(program, (stacked, size, kv_seq), dtype, *layouts, batch=batch * kv_heads)


def _widen(program: Program, event: KernelEvent) -> None:
    """What `functional.in_float32` does around a function: operands widened before it, results rounded."""
    if event.dtype in _NARROW:
        for array in (*event.inputs, *event.outputs):
            _run(program, "astype", array, 1.5, "float32")  # 2 bytes and 4 of each element


def tables(program: Program, event: KernelEvent) -> None:
    """Cosines and sines of positions; q is passed for its dtype alone."""
    _run(program, "rotary_tables", event.outputs[0], 2, event.dtype)


CALLS: Mapping[str, Row] = {
    "linear": linear,
    "linear_grad_input": linear_grad_input,
    "linear_grad_weight": linear_grad_weight,
    "attention_probabilities": probabilities,
    "attention_output": output,
    "attention_output_grad": output_grad,
    "attention_probabilities_grad": probabilities_grad,
    "rotary_tables": tables,
}
"""By a record's name. Any other name is one call of a function of that name."""
