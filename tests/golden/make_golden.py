"""Make `functional.npz`: values and gradients by PyTorch, for `tests/test_golden.py` to compare tpsim with.

The file is committed. Run this only to add a case, in an environment of its own with PyTorch (2.13 was used):

    pip install torch --index-url https://download.pytorch.org/whl/cpu
    python tests/golden/make_golden.py

All is float64. Case c is stored as `c/in/<input>`, `c/out`, `c/dy` (random) and `c/grad/<input>`. Weights
are stored as tpsim has them, [in, out], the transpose of PyTorch's.
"""
# mypy: disable-error-code="import-not-found, misc"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as tf

Tensor = Any
golden: dict[str, Any] = {}


def record(
    case: str, function: Callable[..., Tensor], constants: dict[str, Tensor], **inputs: Tensor
) -> None:
    """Store a case: the inputs, function's value, a random dy, and the gradient by each of the inputs."""
    leaves = {name: x.detach().clone().requires_grad_() for name, x in inputs.items()}
    y = function(**leaves, **constants)
    dy = torch.randn_like(y)
    y.backward(dy)
    for name, x in constants.items():
        golden[f"{case}/in/{name}"] = x.numpy()
    for name, x in leaves.items():
        golden[f"{case}/in/{name}"] = x.detach().numpy()
        golden[f"{case}/grad/{name}"] = x.grad.numpy()
    golden[f"{case}/out"] = y.detach().numpy()
    golden[f"{case}/dy"] = dy.numpy()


def rotate_half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def rotary(x: Tensor, base: float) -> Tensor:
    """Rotary embedding of [..., seq, head_size] in the layout of Llama on Hugging Face."""
    seq, head_size = x.shape[-2:]
    frequency = 1 / base ** (torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
    angle = torch.outer(torch.arange(seq, dtype=torch.float64), frequency)
    angle = torch.cat((angle, angle), dim=-1)  # [seq, head_size]
    return x * angle.cos() + rotate_half(x) * angle.sin()


def functions() -> None:
    x = torch.cat((torch.randn(60), 5 * torch.randn(40), torch.tensor([-30.0, -9.0, 0.0, 9.0, 30.0])))
    record("gelu", lambda x: tf.gelu(x), {}, x=x)
    record("gelu_tanh", lambda x: tf.gelu(x, approximate="tanh"), {}, x=x)
    record("silu", lambda x: tf.silu(x), {}, x=x)
    record("swiglu", lambda gate, up: tf.silu(gate) * up, {}, gate=x, up=torch.randn_like(x))
    record("softmax", lambda x: tf.softmax(x, dim=-1), {}, x=3 * torch.randn(4, 9))
    x, weight, bias = 2 * torch.randn(2, 3, 8) + 1, torch.randn(8), torch.randn(8)
    record(
        "layer_norm",
        lambda x, weight, bias: tf.layer_norm(x, (8,), weight, bias, eps=1e-5),
        {},
        x=x,
        weight=weight,
        bias=bias,
    )
    record("rms_norm", lambda x, weight: tf.rms_norm(x, (8,), weight, eps=1e-6), {}, x=x, weight=weight)
    record("rotary", lambda x: rotary(x, 10_000.0), {}, x=torch.randn(2, 3, 7, 8))
    q, k, v = torch.randn(2, 6, 5, 4), torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    for case, causal in (("attention", False), ("attention_causal", True)):
        record(
            case,
            lambda q, k, v, causal=causal: tf.scaled_dot_product_attention(
                q, k, v, is_causal=causal, enable_gqa=True
            ),
            {},
            q=q,
            k=k,
            v=v,
        )
    record(
        "cross_entropy",
        lambda logits, targets: tf.cross_entropy(logits, targets, reduction="none"),
        {"targets": torch.tensor([3, 0, 10, 7, 7])},
        logits=3 * torch.randn(5, 11),
    )


class Attention(nn.Module):
    """Self-attention with fused projections; q and k norms, rotary and biases as asked."""

    def __init__(
        self,
        hidden: int,
        heads: int,
        kv_heads: int,
        *,
        bias: bool,
        rotary_base: float | None = None,
        qk_norm: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size, self.rotary_base = heads, kv_heads, 4, rotary_base
        self.qkv = nn.Linear(hidden, (heads + 2 * kv_heads) * self.size, bias=bias)
        self.out = nn.Linear(heads * self.size, hidden, bias=bias)
        if qk_norm:
            self.q_norm = nn.RMSNorm(self.size, eps=1e-5)
            self.k_norm = nn.RMSNorm(self.size, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        heads = (
            self.qkv(x).unflatten(-1, (-1, self.size)).transpose(1, 2)
        )  # [batch, heads + 2 kv_heads, seq, size]
        q, k, v = heads.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary_base is not None:
            q, k = rotary(q, self.rotary_base), rotary(k, self.rotary_base)
        out = tf.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.out(out.transpose(1, 2).flatten(2))


class GeluMLP(nn.Module):
    def __init__(self, hidden: int, ffn: int, approximate: str) -> None:
        super().__init__()
        self.up, self.act, self.down = nn.Linear(hidden, ffn), nn.GELU(approximate), nn.Linear(ffn, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.up(x)))


class SwigluMLP(nn.Module):
    def __init__(self, hidden: int, ffn: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(hidden, 2 * ffn, bias=False), nn.Linear(ffn, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.up(x).chunk(2, dim=-1)  # [gate | up], fused
        return self.down(tf.silu(gate) * up)


class Block(nn.Module):
    """Pre-norm block."""

    def __init__(self, norm1: nn.Module, attention: nn.Module, norm2: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp = norm1, attention, norm2, mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def record_block(case: str, block: nn.Module) -> None:
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)

    def as_tpsim(name: str, x: Tensor) -> Any:
        return (x.T if x.ndim == 2 else x).detach().numpy().copy()

    x = torch.randn(2, 5, 8, requires_grad=True)
    y = block(x)
    dy = torch.randn_like(y)
    y.backward(dy)
    golden[f"{case}/in/x"], golden[f"{case}/grad/x"] = x.detach().numpy(), x.grad.numpy()
    golden[f"{case}/out"], golden[f"{case}/dy"] = y.detach().numpy(), dy.numpy()
    for name, parameter in block.named_parameters():
        golden[f"{case}/in/{name}"] = as_tpsim(name, parameter)
        golden[f"{case}/grad/{name}"] = as_tpsim(name, parameter.grad)


def blocks() -> None:
    for case, approximate in (("gpt_gelu", "none"), ("gpt2", "tanh")):
        norm1, norm2 = nn.LayerNorm(8, eps=1e-5), nn.LayerNorm(8, eps=1e-5)
        record_block(case, Block(norm1, Attention(8, 2, 2, bias=True), norm2, GeluMLP(8, 12, approximate)))
    for case, qk_norm in (("llama", False), ("qwen", True)):
        norm1, norm2 = nn.RMSNorm(8, eps=1e-5), nn.RMSNorm(8, eps=1e-5)
        attention = Attention(8, 4, 2, bias=False, rotary_base=500_000.0, qk_norm=qk_norm)
        record_block(case, Block(norm1, attention, norm2, SwigluMLP(8, 6)))


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(20250101)
    functions()
    blocks()
    np.savez_compressed(Path(__file__).with_name("functional.npz"), **golden)
