"""What a step costs: rates to reckon with by hand, or a hardware profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tpsim.cost.hardware import Hardware
from tpsim.cost.work import Collective, Gemm, Pointwise, Work

_ROUNDS = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}


class Prices(Protocol):
    """Says how long work takes."""

    def seconds(self, work: Work) -> float:
        """Return seconds."""


@dataclass(frozen=True)
class Rates:
    """Round numbers: FLOPs and bytes of memory a second, α seconds a message, and bytes a second on a link.

    Ring collectives of p ranks: t−1 messages of n/p bytes a round; an all-reduce takes two rounds.
    """

    flops: float
    memory: float
    alpha: float
    link: float

    def seconds(self, work: Work) -> float:
        """Return how long a product, an element-wise kernel or a collective takes."""
        match work:
            case Gemm():
                return work.flops / self.flops
            case Pointwise():
                return work.nbytes / self.memory
            case Collective("send"):
                return self.alpha + work.nbytes / self.link
            case Collective():
                messages = _ROUNDS[work.operation] * (work.ranks - 1)
                return messages * (self.alpha + work.nbytes / work.ranks / self.link)
        raise ValueError(f"{type(work).__name__} has no price in rates; take a hardware profile")


@dataclass(frozen=True)
class Profile:
    """The prices of a hardware profile, with one launch of all (a CUDA graph)."""

    hardware: Hardware

    def seconds(self, work: Work) -> float:
        """Return how long the device takes, rested."""
        return self.hardware.seconds(work, graph=True)
