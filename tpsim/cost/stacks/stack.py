"""Software stacks by name."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal


@dataclass(frozen=True)
class Stack:
    """What there is a kernel for.

    Parameters
    ----------
    name : str
    attention : {"fused", "unfused"}
        Whether the core, softmax(Q Kᵀ/√d) V with its dropout, is one kernel each way that keeps its
        probabilities on the chip (flash attention, cuDNN), or batched GEMMs, a softmax and a dropout.
    bias_dropout_add : {"eager", "fused"}
        Whether bias, dropout and residual after a row-parallel layer are three kernels or one.
    rotary : {"eager", "fused", "kv_write"}
        Whether the rotation of q (and of k) is written out, as in Hugging Face's models, is one kernel, or
        is done by the kernel that writes k and v into their cache, which has them in its registers.
    gradients : {"storage", "float32"}
        Where gradients of microbatches are summed: in arrays of the parameters' dtype, which autograd adds
        to; or in float32, where a weight's GEMM adds its result by itself, and a vector's gradient is added.
    runs : {"kernels", "numpy"}
        Whether the record is run by the kernels that the above describes, or as it stands, by NumPy.

    References
    ----------
    Dao et al. 2022, "FlashAttention", for the fused core; Narayanan et al. 2021, "Efficient large-scale
    language model training on GPU clusters using Megatron-LM", section 4.2, for fused element-wise kernels.
    """

    name: str
    attention: Literal["fused", "unfused"] = "fused"
    bias_dropout_add: Literal["eager", "fused"] = "eager"
    rotary: Literal["eager", "fused", "kv_write"] = "eager"
    gradients: Literal["storage", "float32"] = "storage"
    runs: Literal["kernels", "numpy"] = "kernels"


EAGER = Stack("eager")
"""PyTorch 2, call by call: layers in Megatron-LM's layout [s, b, h], F.scaled_dot_product_attention."""

MEGATRON = Stack(
    "megatron", attention="unfused", bias_dropout_add="fused", rotary="fused", gradients="float32"
)
"""Megatron-LM of 2021 and 2022, as in the papers' figures: before flash attention."""

NUMPY = Stack("numpy", attention="unfused", runs="numpy")
"""tpsim's own layers on a CPU, for a profile that `tpsim calibrate` wrote."""

SERVING = Stack("serving", rotary="kv_write")
"""A server in the manner of vLLM and TensorRT-LLM: eager kernels (in a graph), a fused core and rotation."""

STACKS = {entry.name: entry for entry in (EAGER, MEGATRON, NUMPY, SERVING)}


def stack(name: str) -> Stack:
    """Return a stack by its name.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in STACKS:
        close = get_close_matches(name, STACKS, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"stack {name!r} is not known; {hint}pick one of {', '.join(STACKS)}")
    return STACKS[name]
