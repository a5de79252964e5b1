"""Whether tensors agree: |Δ| ≤ tol · max(largest entry of the reference, magnitude of the summed terms)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tpsim.lab.cases import Array

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


@dataclass(frozen=True)
class Error:
    """How far a tensor is from what it must be.

    Attributes
    ----------
    tensor, dtype : str
    difference : float
        The largest |Δ|; infinite for a wrong shape, a wrong dtype, or NaN.
    scale : float
        What it is measured against.
    why : str
        What is wrong, where it isn't a number.
    """

    tensor: str
    dtype: str
    difference: float
    scale: float
    why: str = ""

    @property
    def tolerance(self) -> float:
        """Of the dtype, relative."""
        return TOLERANCE[self.dtype]

    @property
    def relative(self) -> float:
        """|Δ| by the scale."""
        return self.difference / self.scale if self.difference else 0.0

    @property
    def ok(self) -> bool:
        """Whether it is within tolerance."""
        return self.difference <= self.tolerance * self.scale

    def __str__(self) -> str:
        """Say what differs and by how much."""
        if self.why:
            return f"{self.tensor} {self.why}"
        return (
            f"{self.tensor} differs from the reference by {self.difference:.3g} "
            f"(tolerance {self.tolerance:g} × {self.scale:.3g})"
        )


def measure(tensor: str, got: Array, want: Array, dtype: str, terms: Callable[[], float]) -> Error:
    """Measure one tensor.

    Parameters
    ----------
    tensor : str
        Its name.
    got, want : array
        The layer's, and the reference's in float64.
    dtype : str
        What `got` must be, and the tolerance.
    terms : callable
        Returns the magnitude of the summed terms. Only asked where the largest entry is too small a
        scale: so what is reported is nearly always relative to the tensor itself.
    """
    if got.shape != want.shape:
        return Error(tensor, dtype, np.inf, 1.0, f"has shape {got.shape}, and must have {want.shape}")
    if str(got.dtype) != dtype:
        return Error(tensor, dtype, np.inf, 1.0, f"is {got.dtype}, and must be {dtype}")
    difference, scale = _largest(got - want), _largest(want)
    if np.isnan(difference):
        return Error(tensor, dtype, np.inf, 1.0, "has entries that are not numbers")
    error = Error(tensor, dtype, difference, scale)
    return error if error.ok else Error(tensor, dtype, difference, max(scale, terms()))


def _largest(x: Array) -> float:
    return float(np.max(np.abs(x), initial=0.0))
