"""A mistake that every rank makes alike."""

from __future__ import annotations

import math
from typing import Any

from tpsim import nn
from tpsim.lab.properties import equals_reference
from tpsim.lab.strategies import attentions
from tpsim.lab.zoo.bug import Bug


class ScaledByHidden(nn.Attention):
    """Takes d for the width of the model."""

    def __init__(self, hidden: int, *args: Any, **options: Any) -> None:
        super().__init__(hidden, *args, **options)
        self.scale = 1 / math.sqrt(hidden)


BUGS = [
    Bug(
        number=32,
        name="scaled-by-hidden",
        title="scores are divided by √hidden rather than √head size",
        goes_wrong="t ranks equal one rank, so that a test of the one against the other passes; only maths "
        "written apart shows it.",
        seen_in=("a NumPy teaching codebase",),
        replaces="tpsim.nn.attention.Attention",
        patient=ScaledByHidden,
        caught_by=equals_reference,
        cases=attentions,
        hides_at_one_rank=False,
    ),
]
