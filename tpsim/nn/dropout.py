"""Dropout, the same at every number of ranks."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group, solo
from tpsim.functional import dropout, dropout_grad
from tpsim.nn.layer import Layer
from tpsim.nn.masks import Draw, current_draw, keep_mask, part_mask
from tpsim.nn.recompute import is_rerun

Array = NDArray[Any]


class Dropout(Layer):
    """y = x·mask/(1 − rate) inside `drawing(…)`, y = x without: that is evaluation.

    Outside a tensor-parallel region x is the same on every rank, and so must the mask be. Where x is
    cut, each rank needs its own: a slice of the mask that one device draws. One shared by all ranks
    would drop the same entries of every slice.

    Parameters
    ----------
    rate : float
        Probability of dropping an entry; kept ones are scaled so that the mean stays.
    group : Group, optional
        The tensor-parallel group.
    cut : bool
        Whether axis 1 of x is cut evenly among the group: the heads of [b, a/t, s, s] inside the
        region, the positions of [b, s/t, h] under sequence parallelism.

    References
    ----------
    Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting", section
    10, for scaling in training; Korthikanti et al. (2022), section 4.1, for the 1-byte masks.
    """

    def __init__(self, rate: float, group: Group | None = None, *, cut: bool = False) -> None:
        if not 0 <= rate < 1:
            raise ValueError(
                f"Dropout: rate {rate} is not the probability of dropping some; pick 0 ≤ rate < 1"
            )
        self.rate = rate
        self.group = group or solo()
        self.cut = cut
        self.draw: Draw | None = None  # of the last forward

    def forward(self, x: Array) -> Array:
        """Same shape, [samples, …]."""
        if not is_rerun():  # which is for the samples of the first run, wherever it takes place
            self.draw = current_draw() if self.rate else None
        if self.draw is None:
            return x
        if self.cut:
            keep = part_mask(self.draw, self.path, self.rate, self.group.rank, x.shape, like=x)
        else:
            keep = keep_mask(self.draw, self.path, self.rate, 0, x.shape, like=x)
        self.save(keep=keep)
        return dropout(x, keep, self.rate)

    def backward(self, dy: Array) -> Array:
        """Same shape."""
        return dy if self.draw is None else dropout_grad(self.take("keep"), self.rate, dy)
