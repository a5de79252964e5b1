"""Megatron-LM's bias_dropout_add: what follows a row-parallel layer, in one kernel.

Its bias_gelu needs no row: it moves the bytes of a GELU, and the bias that eager code adds in the GEMM's
epilogue is read there. Backward, the gradients of bias, dropout and residual are kernels as ever.

References
----------
Narayanan et al. 2021, "Efficient large-scale language model training on GPU clusters using Megatron-LM",
section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tpsim.cost.gemm import itemsize
from tpsim.cost.stacks.program import Program, is_backward
from tpsim.cost.stacks.rows import Row
from tpsim.cost.stacks.rows import dropout as dropout_alone
from tpsim.trace import KernelEvent


def add(program: Program, event: KernelEvent) -> None:
    """Launch the addition of the residual; that of a bias, before it, is in the same kernel."""
    if len(event.inputs[-1]) == 1:
        return
    y = event.outputs[0]
    mask, program.dropped = program.dropped, 0
    name = "bias_dropout_add" if mask else "add"
    program.pointwise(name, name, y, 3 * math.prod(y) * itemsize(event.dtype) + mask, event.dtype)


def dropout(program: Program, event: KernelEvent) -> None:
    """Draw the mask in the addition to come; that of the probabilities, [b, a, s, s], stands alone."""
    y = event.outputs[0]
    if is_backward(event.layer, event.phase) or len(y) == 4:
        dropout_alone(program, event)
    else:
        program.dropped = math.prod(y)


BIAS_DROPOUT_ADD: Mapping[str, Row] = {"add": add, "dropout": dropout}
