"""Launches in the making, and what a row of the table has to know of earlier records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from tpsim.cost.gemm import itemsize
from tpsim.cost.stacks.stack import Stack
from tpsim.cost.work import Collective, Gemm, Launch, Pointwise, Work
from tpsim.trace import CollectiveEvent, KernelEvent

Shape = tuple[int, ...]


class Forward(NamedTuple):
    """What a linear layer's forward says that its backward doesn't: how A lies, and whether there is a b."""

    n: int
    k: int
    bias: bool


class Program:
    """The list of launches, in program order; rows of the table `emit` to it.

    Attributes
    ----------
    spread : mapping
        By a group's name, how many devices its ranks are apart.
    launches : list of Launch
    linears : dict
        By layer, how its last forward was.
    causal : dict
        By layer, whether its attention is.
    inside_core : bool
        Whether the records are pieces of a fused attention core, which is launched when it ends.
    dropped : int
        Elements whose dropout is part of an addition to come.
    joined, bias_summed : str
        The layer whose concatenation, or bias gradient, is part of a launch already.
    to_write : int
        Bytes that the kernel moves which will write keys and values into their cache.
    dtype : str
        Of the last record that was no accumulation: gradients follow a kernel in their parameter's dtype.
    """

    def __init__(self, stack: Stack, spread: Mapping[str, int]) -> None:
        self.stack = stack
        self.spread = spread
        self.launches: list[Launch] = []
        self.linears: dict[str, Forward] = {}
        self.causal: dict[str, bool] = {}
        self.inside_core = False
        self.dropped = 0
        self.joined = ""
        self.bias_summed = ""
        self.to_write = 0
        self.dtype = "bfloat16"
        self._layer = ""
        self._phase = ""
        self._waits: list[int] = []
        self._last: tuple[int, ...] = ()  # the compute stream's last launch
        self._begun: dict[int, int] = {}  # collectives' places

    def record(self, event: KernelEvent) -> None:
        """Stand at a record: what is emitted now comes from there."""
        self._layer, self._phase = event.layer, event.phase

    def emit(self, call: str, work: Work, before: tuple[str, ...] = ()) -> None:
        """Launch on the compute stream, after the collectives that were waited for."""
        waits, self._waits = tuple(self._waits), []
        self._last = (len(self.launches),)
        self.launches.append(Launch(work, call, "compute", self._layer, self._phase, waits, before))

    def pointwise(self, call: str, name: str, shape: Shape, nbytes: int, dtype: str) -> None:
        """Launch a memory-bound kernel over an array of this shape."""
        self.emit(call, Pointwise(name, rows(shape), shape[-1] if shape else 1, nbytes, dtype))

    def last_is_product_of(self, layer: str) -> bool:
        """Whether the last launch, on either stream, is a matrix product of this layer."""
        if not self.launches:
            return False
        last = self.launches[-1]
        return isinstance(last.work, Gemm) and last.layer == layer

    def begin(self, event: CollectiveEvent) -> None:
        """Launch a collective behind everything that the compute stream has been given so far.

        A communication library's stream waits for the caller's stream, for it can't know which kernel makes
        its input.
        """
        if event.ranks == 1 or event.operation == "send":
            return  # a send is waited for where it is received, and every rank does both
        nbytes = math.prod(event.shape) * itemsize(event.dtype)
        if event.operation == "all_gather":
            nbytes *= event.ranks  # the event's shape is one rank's part
        operation = "send" if event.operation == "recv" else event.operation
        work = Collective(operation, nbytes, event.ranks, self.spread.get(event.group, 1))
        self._begun[id(event)] = len(self.launches)
        # A collective is called by an autograd function. So is the other half of an all-reduce's conjugate
        # pair, an identity: a block has as many of the one as of the other, each way.
        before = ("apply", "apply") if event.operation == "all_reduce" else ("apply",)
        self.launches.append(
            Launch(work, operation, "communication", event.layer, event.phase, self._last, before)
        )

    def wait(self, event: CollectiveEvent) -> None:
        """Let the compute stream's next launch wait for a collective."""
        place = self._begun.pop(id(event), None)
        if place is not None:
            self._waits.append(place)


def rows(shape: Shape) -> int:
    """Return how many rows an array has as a matrix."""
    return math.prod(shape[:-1])


def is_backward(layer: str, phase: str) -> bool:
    """Whether gradients are computed here, not a forward that runs again."""
    return phase == "backward" and "recompute" not in layer.split(".")
