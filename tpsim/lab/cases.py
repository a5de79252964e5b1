# ruff: noqa: D102  (what the methods of each case are, `LayerCase` says)
"""One configuration of a layer, and everything that is drawn from its seed.

A case is plain data: it prints as the call that makes it, and shrinks towards its defaults. It knows how to
build its layer on a group, and which whole tensors the layer has; what must come out is written elsewhere
(`oracle`, `traffic`, `memory`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from tpsim import nn
from tpsim.comm import Group
from tpsim.nn.mlp import Activation

Array = NDArray[Any]
Shapes = dict[str, tuple[int, ...]]
Cut = Literal["whole", "sequence", "last"]
"""How an activation lies on the ranks: whole on each, or cut along the sequence or the last axis."""

AXIS = {"sequence": 1, "last": 2}
EPS = 1e-3  # not the layers' default, so that an eps that is not passed on shows


@dataclass(frozen=True, kw_only=True, repr=False)
class Case:
    """What the configurations of all layers have in common.

    Parameters
    ----------
    ranks, batch, seq : int
        t, b and s.
    dtype : {"float64", "float32"}
    algorithm : str
        That of the collectives.
    messages : bool
        Whether its messages are sent one by one.
    integers : bool
        Draw small whole numbers, whose sums have no rounding.
    seed : int
        Of every number that is drawn.
    """

    ranks: int = 1
    batch: int = 1
    seq: int = 1
    dtype: str = "float64"
    algorithm: str = "ring"
    messages: bool = False
    integers: bool = False
    seed: int = 0

    def __str__(self) -> str:
        """The call that makes it, without defaults."""
        given = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in given)})"

    __repr__ = __str__

    @property
    def itemsize(self) -> int:
        """Bytes an element."""
        return np.dtype(self.dtype).itemsize

    def group(self, comm: Any) -> Group:
        """Return the tensor-parallel group of the case."""
        return Group(comm, self.algorithm, messages=self.messages)


@dataclass(frozen=True, kw_only=True, repr=False)
class LayerCase(Case):
    """A case of a layer: `forward` and `backward` of one x and one dy."""

    def build(self, group: Group | None) -> nn.Layer:
        """Return this rank's layer; the whole one without a group."""
        raise NotImplementedError

    def shapes(self) -> Shapes:
        """Return the shape of every whole parameter, by the layer's own names."""
        raise NotImplementedError

    def widths(self) -> tuple[int, int]:
        """Return the last axes of the whole x and y."""
        raise NotImplementedError

    def cuts(self) -> tuple[Cut, Cut]:
        """Return how x and y lie on the ranks."""
        raise NotImplementedError

    def draw(self, stream: int = 0) -> tuple[dict[str, Array], Array, Array]:
        """Return whole parameters, x and dy; another `stream`, other x and dy.

        Weights are scaled by 1/√in, so that activations stay near 1 and no softmax saturates.
        """
        rng = np.random.default_rng(self.seed)
        parameters = {name: self._fill(rng, shape) for name, shape in self.shapes().items()}
        if not self.integers:
            for value in parameters.values():
                if value.ndim == 2:
                    value /= np.sqrt(value.shape[0]).astype(value.dtype)
        rng = np.random.default_rng((self.seed, stream))
        x, dy = (self._fill(rng, (self.batch, self.seq, width)) for width in self.widths())
        return parameters, x, dy

    def _fill(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        numbers = rng.integers(-4, 5, shape) if self.integers else rng.standard_normal(shape)
        return numbers.astype(self.dtype)


@dataclass(frozen=True, kw_only=True, repr=False)
class ColumnCase(LayerCase):
    """A `ColumnParallelLinear`."""

    in_features: int = 1
    out_features: int = 1
    bias: bool = False
    gather_output: bool = False
    sequence_parallel: bool = False
    keep_gathered: bool = False

    def build(self, group: Group | None) -> nn.Layer:
        return nn.ColumnParallelLinear(
            self.in_features,
            self.out_features,
            group,
            bias=self.bias,
            gather_output=self.gather_output,
            sequence_parallel=self.sequence_parallel,
            keep_gathered=self.keep_gathered,
            rng=np.random.default_rng(self.seed),
            dtype=self.dtype,
        )

    def shapes(self) -> Shapes:
        return {"weight": (self.in_features, self.out_features)} | _if(self.bias, bias=(self.out_features,))

    def widths(self) -> tuple[int, int]:
        return self.in_features, self.out_features

    def cuts(self) -> tuple[Cut, Cut]:
        return (
            "sequence" if self.sequence_parallel else "whole",
            "whole" if self.gather_output else "last",
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class RowCase(LayerCase):
    """A `RowParallelLinear`."""

    in_features: int = 1
    out_features: int = 1
    bias: bool = False
    input_is_parallel: bool = True
    sequence_parallel: bool = False

    def build(self, group: Group | None) -> nn.Layer:
        return nn.RowParallelLinear(
            self.in_features,
            self.out_features,
            group,
            bias=self.bias,
            input_is_parallel=self.input_is_parallel,
            sequence_parallel=self.sequence_parallel,
            rng=np.random.default_rng(self.seed),
            dtype=self.dtype,
        )

    def shapes(self) -> Shapes:
        return {"weight": (self.in_features, self.out_features)} | _if(self.bias, bias=(self.out_features,))

    def widths(self) -> tuple[int, int]:
        return self.in_features, self.out_features

    def cuts(self) -> tuple[Cut, Cut]:
        return (
            "last" if self.input_is_parallel else "whole",
            "sequence" if self.sequence_parallel else "whole",
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class SquareCase(LayerCase):
    """A layer that takes and returns [b, s, h], cut along the sequence under sequence parallelism."""

    hidden: int = 4
    sequence_parallel: bool = False

    def widths(self) -> tuple[int, int]:
        return self.hidden, self.hidden

    def cuts(self) -> tuple[Cut, Cut]:
        cut: Cut = "sequence" if self.sequence_parallel else "whole"
        return cut, cut


@dataclass(frozen=True, kw_only=True, repr=False)
class MLPCase(SquareCase):
    """An `MLP`."""

    ffn: int = 1
    activation: Activation = "gelu_tanh"
    bias: bool = False
    keep_gathered: bool = False

    def build(self, group: Group | None) -> nn.Layer:
        return nn.MLP(
            self.hidden,
            self.ffn,
            group,
            activation=self.activation,
            bias=self.bias,
            sequence_parallel=self.sequence_parallel,
            keep_gathered=self.keep_gathered,
            rng=np.random.default_rng(self.seed),
            dtype=self.dtype,
        )

    def shapes(self) -> Shapes:
        up = 2 * self.ffn if self.activation == "swiglu" else self.ffn
        return {"up.weight": (self.hidden, up), "down.weight": (self.ffn, self.hidden)} | _if(
            self.bias, **{"up.bias": (up,), "down.bias": (self.hidden,)}
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class NormCase(SquareCase):
    """A `LayerNorm` or an `RMSNorm`, on all of x or on its part of the sequence."""

    norm: Literal["layer", "rms"] = "layer"

    def build(self, group: Group | None) -> nn.Layer:
        make = nn.LayerNorm if self.norm == "layer" else nn.RMSNorm
        return make(self.hidden, group, partial=self.sequence_parallel, eps=EPS, dtype=self.dtype)

    def shapes(self) -> Shapes:
        return {"weight": (self.hidden,)} | _if(self.norm == "layer", bias=(self.hidden,))


@dataclass(frozen=True, kw_only=True, repr=False)
class ParallelNormCase(SquareCase):
    """A `ParallelRMSNorm`: its last axis is cut."""

    def build(self, group: Group | None) -> nn.Layer:
        return nn.ParallelRMSNorm(self.hidden, group, eps=EPS, dtype=self.dtype)

    def shapes(self) -> Shapes:
        return {"weight": (self.hidden,)}

    def cuts(self) -> tuple[Cut, Cut]:
        return "last", "last"


@dataclass(frozen=True, kw_only=True, repr=False)
class AttentionCase(SquareCase):
    """An `Attention`."""

    heads: int = 1
    kv_heads: int = 1
    head_size: int = 4
    causal: bool = False
    rotary_base: float | None = None
    qk_norm: bool = False
    bias: bool = False
    flash: bool = False
    keep_gathered: bool = False

    @property
    def copies(self) -> int:
        """How many ranks hold one and the same kv head: t/g where g < t."""
        return max(self.ranks // self.kv_heads, 1)

    @property
    def kv_heads_here(self) -> int:
        """Return the kv heads on one rank."""
        return max(self.kv_heads // self.ranks, 1)

    def options(self) -> dict[str, Any]:
        """Return what `Attention` and `TransformerBlock` take alike."""
        usual = self.heads * self.head_size == self.hidden
        return {
            "kv_heads": None if self.kv_heads == self.heads else self.kv_heads,
            "head_size": None if usual else self.head_size,
            "causal": self.causal,
            "rotary_base": self.rotary_base,
            "qk_norm": self.qk_norm,
            "bias": self.bias,
            "flash": self.flash,
            "eps": EPS,
            "sequence_parallel": self.sequence_parallel,
            "keep_gathered": self.keep_gathered,
            "rng": np.random.default_rng(self.seed),
            "dtype": self.dtype,
        }

    def build(self, group: Group | None) -> nn.Layer:
        return nn.Attention(self.hidden, self.heads, group, **self.options())

    def shapes(self) -> Shapes:
        h, d = self.hidden, self.head_size
        width = (self.heads + 2 * self.kv_heads) * d
        return (
            {"qkv.weight": (h, width), "out.weight": (self.heads * d, h)}
            | _if(self.bias, **{"qkv.bias": (width,), "out.bias": (h,)})
            | _if(self.qk_norm, **{"q_norm.weight": (d,), "k_norm.weight": (d,)})
        )


PartCase = TypeVar("PartCase", NormCase, AttentionCase, MLPCase)


@dataclass(frozen=True, kw_only=True, repr=False)
class BlockCase(AttentionCase):
    """A `TransformerBlock`."""

    ffn: int = 1
    activation: Activation = "gelu_tanh"
    norm: Literal["layer", "rms"] = "layer"

    def build(self, group: Group | None) -> nn.Layer:
        return nn.TransformerBlock(
            self.hidden,
            self.heads,
            self.ffn,
            group,
            norm=self.norm,
            activation=self.activation,
            **self.options(),
        )

    def shapes(self) -> Shapes:
        parts = {
            "norm1": self.part(NormCase).shapes(),
            "attention": super().shapes(),
            "norm2": self.part(NormCase).shapes(),
            "mlp": self.part(MLPCase).shapes(),
        }
        return {f"{part}.{name}": shape for part, shapes in parts.items() for name, shape in shapes.items()}

    def part(self, kind: type[PartCase]) -> PartCase:
        """Return the case of the block's norm, attention or MLP."""
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})


def _if(condition: bool, **shapes: tuple[int, ...]) -> Shapes:
    return shapes if condition else {}
