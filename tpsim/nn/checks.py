"""What a layer refuses, and how it says so: what was asked, why it can't be, what to do."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group
from tpsim.nn.layer import Layer
from tpsim.nn.parameter import Parameter

Array = NDArray[Any]


def check_sizes(layer: str, **sizes: int | None) -> None:
    """Raise ValueError unless all the sizes that are given are 1 or more."""
    for what, size in sizes.items():
        if size is not None and size < 1:
            raise ValueError(f"{layer}: {what} {size} makes no layer; pick 1 or more")


def check_divides(layer: str, what: str, size: int, group: Group, *, pad: bool = True) -> None:
    """Raise ValueError unless the group's ranks divide `size`, which is 1 or more."""
    check_sizes(layer, **{what: size})
    if size % group.size:
        padded = -(-size // group.size) * group.size
        remedy = f", or pad ({what}={padded})" if pad else ""
        raise ValueError(
            f"{layer}: {what} {size} is not divisible by {group.size} ranks; pick a multiple of "
            f"{group.size}{remedy}"
        )


def check_input(layer: Layer, x: Array, weight: Parameter) -> None:
    """Raise unless `x` is [batch, seq, in] in the weight's dtype."""
    expected = weight.data.shape[0]
    _check_array(layer, x, f"[batch, seq, {expected}]")
    if x.ndim != 3 or x.shape[-1] != expected:
        raise ValueError(
            f"{type(layer).__name__}: x has shape {x.shape}, and [batch, seq, {expected}] is needed here; "
            f"reshape it, or build the layer for {x.shape[-1] if x.ndim else 1} features"
        )
    _check_dtype(layer, x, weight)


def check_rows(layer: Layer, x: Array, weight: Parameter) -> None:
    """Raise unless the last axis of `x` is as long as the weight, and of its dtype."""
    expected = weight.data.shape[0]
    _check_array(layer, x, f"[…, {expected}]")
    if x.ndim < 1 or x.shape[-1] != expected:
        raise ValueError(
            f"{type(layer).__name__}: x has shape {x.shape}, and its last axis must be {expected} here; "
            f"reshape it, or build the layer for {x.shape[-1] if x.ndim else 1}"
        )
    _check_dtype(layer, x, weight)


def _check_array(layer: Layer, x: object, shape: str) -> None:
    if not hasattr(x, "dtype"):
        raise TypeError(
            f"{type(layer).__name__}: x is a {type(x).__name__}, not an array; pass a NumPy array {shape}"
        )


def _check_dtype(layer: Layer, x: Array, weight: Parameter) -> None:
    if x.dtype != weight.data.dtype:
        raise ValueError(
            f"{type(layer).__name__}: x is {x.dtype} and the weights are {weight.data.dtype}; convert x, or "
            f"build the layer with dtype={x.dtype}"
        )
