"""The same block in PyTorch, three ways: alone, by torch's own tensor parallelism, and by hand.

Torch is imported only where a program runs, and NumPy not at all: weights and inputs arrive as bytes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

from tpsim.studies.bench.worker import Program, Task

Sent = tuple[tuple[int, ...], bytes]
"""An array of float32 on its way: shape and bytes."""
Identity = Callable[[Any], Any]


def alone(*, weights: Mapping[str, Sent], inputs: tuple[Sent, Sent], heads: int) -> Task:
    """Run it in one process, on as many threads as torch is set to."""
    return _step(_block(_linears(weights), weights), inputs, heads, _same, _same)


def own_parallel(*, weights: Mapping[str, Sent], inputs: tuple[Sent, Sent], heads: int) -> Task:
    """Cut it by `torch.distributed.tensor.parallel`."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    block = _block(_linears(weights), weights)
    ways = dict.fromkeys(("q", "k", "v", "up"), ColwiseParallel()) | dict.fromkeys(
        ("out", "down"), RowwiseParallel()
    )
    parallelize_module(block, init_device_mesh("cpu", (dist.get_world_size(),)), ways)
    return _step(block, inputs, heads, _same, _same)


def by_hand(*, weights: Mapping[str, Sent], inputs: tuple[Sent, Sent], heads: int) -> Task:
    """Cut it as Megatron-LM does: slices of the weights, and the conjugate functions f and g."""
    import torch.distributed as dist

    f, g = conjugate_pair()
    cut, biases = _own_slices(_linears(weights), dist.get_rank(), dist.get_world_size())
    return _step(_block(cut, weights, biases), inputs, heads, f, g)


PROGRAMS: dict[str, Program] = {"alone": alone, "own parallel": own_parallel, "by hand": by_hand}


def conjugate_pair() -> tuple[Identity, Identity]:
    """Return f (forward the identity, backward an all-reduce) and g, which has the two exchanged.

    References
    ----------
    Shoeybi et al. (2019), "Megatron-LM", section 3, figure 3 and code 1.
    """
    import torch
    import torch.distributed as dist

    def all_reduced(x: Any) -> Any:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    class F(torch.autograd.Function):  # type: ignore[misc]  # torch is optional, so mypy sees no class
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            return x.view_as(x)

        @staticmethod
        def backward(context: Any, dy: Any) -> Any:
            return all_reduced(dy)

    class G(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            return all_reduced(x)

        @staticmethod
        def backward(context: Any, dy: Any) -> Any:
            return dy

    return F.apply, G.apply


def _same(x: Any) -> Any:
    return x


def sent(tensor: Any) -> Sent:
    """Return a tensor of float32 as what can travel to a Python that has no torch."""
    whole = tensor.detach().contiguous()
    return tuple(whole.shape), ctypes.string_at(whole.data_ptr(), 4 * whole.numel())


def _tensor(array: Sent) -> Any:
    import torch

    shape, data = array
    return torch.frombuffer(bytearray(data), dtype=torch.float32).reshape(shape)


def _step(block: Any, inputs: tuple[Sent, Sent], heads: int, f: Identity, g: Identity) -> Task:
    """Return a function that runs a block forward and backward, and returns y and dx."""
    x, dy = map(_tensor, inputs)
    head_size = x.shape[-1] // heads
    x.requires_grad_()

    def step() -> tuple[Any, Any]:
        block.zero_grad(set_to_none=True)
        x.grad = None
        y = _forward(block, x, head_size, f, g)
        y.backward(dy)
        return y, x.grad

    return step


def _forward(block: Any, x: Any, head_size: int, f: Identity, g: Identity) -> Any:
    """[b, s, h] → [b, s, h]; linears may be cut."""
    from torch.nn.functional import gelu, scaled_dot_product_attention

    def row_parallel(name: str, cut: Any) -> Any:
        y = g(block[name](cut))
        return y + block["biases"][name] if "biases" in block else y

    batch, seq, _ = x.shape
    h = f(block["norm1"](x))
    q, k, v = (block[name](h).view(batch, seq, -1, head_size).transpose(1, 2) for name in "qkv")
    heads = scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + row_parallel("out", heads.transpose(1, 2).reshape(batch, seq, -1))
    return x + row_parallel("down", gelu(block["up"](f(block["norm2"](x))), approximate="tanh"))


# --- from tpsim's weights, [in, out], to torch's, [out, in] ------------------------------------------------

Linears = dict[str, tuple[Any, Any]]
"""Weight and bias by torch's names."""


def _linears(weights: Mapping[str, Sent]) -> Linears:
    """Return the six linears of a block; tpsim's q, k and v are one."""
    of = {name: _tensor(array) for name, array in weights.items()}
    qkv = zip(
        "qkv", *(of[f"attention.qkv.{part}"].chunk(3, dim=-1) for part in ("weight", "bias")), strict=True
    )
    rest = {"out": "attention.out", "up": "mlp.up", "down": "mlp.down"}
    linears = {name: (weight, bias) for name, weight, bias in qkv}
    linears |= {name: (of[f"{path}.weight"], of[f"{path}.bias"]) for name, path in rest.items()}
    return {name: (weight.T.clone(), bias.clone()) for name, (weight, bias) in linears.items()}


def _own_slices(linears: Linears, rank: int, ranks: int) -> tuple[Linears, dict[str, Any]]:
    """Return this rank's rows or columns, and the biases that are added once, after the sum."""
    columns = ("q", "k", "v", "up")
    cut = {
        name: tuple(part.chunk(ranks)[rank].clone() for part in linears[name])
        if name in columns
        else (linears[name][0].chunk(ranks, dim=1)[rank].clone(), None)
        for name in linears
    }
    return cut, {name: linears[name][1] for name in linears if name not in columns}


def _block(linears: Linears, weights: Mapping[str, Sent], biases: Mapping[str, Any] | None = None) -> Any:
    """Return the block's modules by name."""
    from torch import nn

    modules: dict[str, Any] = {}
    for name, (weight, bias) in linears.items():
        modules[name] = nn.Linear(*reversed(weight.shape), bias=bias is not None)
        modules[name].weight = nn.Parameter(weight)
        if bias is not None:
            modules[name].bias = nn.Parameter(bias)
    for name in ("norm1", "norm2"):
        modules[name] = nn.LayerNorm(len(_tensor(weights[f"{name}.weight"])), eps=1e-5)
        modules[name].weight = nn.Parameter(_tensor(weights[f"{name}.weight"]))
        modules[name].bias = nn.Parameter(_tensor(weights[f"{name}.bias"]))
    if biases:
        modules["biases"] = nn.ParameterDict(biases)
    return nn.ModuleDict(modules)
