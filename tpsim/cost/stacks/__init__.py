"""What a software stack launches for a recorded run: from a trace to a list of `Launch`.

The record says what a layer computes; eager PyTorch, or Megatron-LM with its fused kernels, launches other
kernels for it. `rows` has what all stacks have in common, `attention` the core fused and in pieces, `fused`
what Megatron-LM joins, and `numpy_calls` what there is on a CPU.
"""

from tpsim.cost.stacks.launching import launches
from tpsim.cost.stacks.stack import EAGER, MEGATRON, NUMPY, SERVING, STACKS, Stack, stack

__all__ = ["EAGER", "MEGATRON", "NUMPY", "SERVING", "STACKS", "Stack", "launches", "stack"]
