"""What a device is given to do: the kinds of kernels, and collectives, by their dimensions.

A `Hardware` prices them; `tpsim.cost.stacks` makes them from a trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Direction: TypeAlias = Literal["forward", "backward"]
Layout: TypeAlias = Literal["forward", "dgrad", "wgrad"]


@dataclass(frozen=True, slots=True)
class Gemm:
    """A matrix product of training, Y[m, n] = X[m, k] A[k, n], or one of its two gradients.

    Dimensions are the forward's, whichever of the three it is: dX[m, k] = dY Aᵀ and dA[k, n] = Xᵀ dY do the
    same 2·m·n·k FLOPs with other operands transposed. With a `batch`, as many products of that size.
    """

    m: int
    n: int
    k: int
    layout: Layout = "forward"
    dtype: str = "bfloat16"
    batch: int = 1

    @property
    def flops(self) -> int:
        """Of all of the batch."""
        return 2 * self.batch * self.m * self.n * self.k


@dataclass(frozen=True, slots=True)
class Attention:
    """A fused attention core (flash attention, cuDNN), softmax(QKᵀ/√d) V, of `seq` queries, `kv_seq` keys."""

    batch: int
    heads: int
    kv_heads: int
    seq: int
    kv_seq: int
    head_size: int
    causal: bool = True
    direction: Direction = "forward"
    dtype: str = "bfloat16"
    backend: Literal["default", "cudnn", "flash"] = "default"

    @property
    def flops(self) -> int:
        """Of the two products (five in backward), half of them where a causal mask leaves half."""
        products = 2 if self.direction == "forward" else 5
        full = 2 * products * self.batch * self.heads * self.seq * self.kv_seq * self.head_size
        return full // 2 if self.causal and self.seq == self.kv_seq else full


@dataclass(frozen=True, slots=True)
class Pointwise:
    """A kernel that memory bounds: an element-wise operation, a norm, a copy, a reduction.

    Parameters
    ----------
    name : str
        Its family: "add", "gelu", "gelu.backward", "silu_mul", "layer_norm", "layer_norm.backward",
        "rms_norm", "rms_norm.backward", "copy", "strided_copy", "cat", "grad_accumulate", …; what a profile
        does not know by name it prices as "add".
    rows, width : int
        Of the array that it writes (or, of a reduction, reads), as a matrix.
    nbytes : int
        Read and written together.
    """

    name: str
    rows: int
    width: int
    nbytes: int
    dtype: str = "bfloat16"


@dataclass(frozen=True, slots=True)
class Collective:
    """A collective among `ranks`; `nbytes` of the full tensor (the gathered, the un-scattered one).

    Ranks are neighbours, or `spread` devices apart: data-parallel replicas of t tensor-parallel ranks are t
    apart, so that a node has so many fewer of them.
    """

    operation: str
    nbytes: int
    ranks: int
    spread: int = 1


Work: TypeAlias = Gemm | Attention | Pointwise | Collective


@dataclass(frozen=True, slots=True)
class Launch:
    """One call that the host issues to a device.

    Parameters
    ----------
    work : Work
        What the device does.
    call : str
        What the host calls, which decides how long it takes to issue: "linear", "add", "all_reduce", …;
        empty if the call before launches it as well.
    stream : {"compute", "communication"}
    layer, phase : str
        Where it comes from.
    after : tuple of int
        Places, in the list of launches, of those on the other stream that it waits for.
    before : tuple of str
        Calls just before that launch nothing, and take the host's time: "view", "apply".
    """

    work: Work
    call: str
    stream: Literal["compute", "communication"] = "compute"
    layer: str = ""
    phase: str = ""
    after: tuple[int, ...] = ()
    before: tuple[str, ...] = ()
