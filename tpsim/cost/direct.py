"""All-reduces of small messages without a ring: each rank reads what it needs from all others' memory.

A decode step sums a few kilobytes over and over; a ring's 2(t − 1) hops are then all it costs. In a node
whose devices reach each other's memory, two kernels do with fewer::

    one-shot    every rank reads all other buffers, and sums:            3 hops,  (t − 1)·n bytes
    two-shot    rank i sums part i of all buffers; all read the parts:   6 hops,  2 (t − 1)/t·n bytes

(3 hops: the word that a buffer is ready, and a read, there and back.) So one-shot is for the smallest
messages, two-shot sends what a ring sends, and for large ones the library's own algorithms, which keep all
links busy, are as good.

The prices take a hop to be that of the profile's quickest protocol, the rate the ring's, and the kernel
a small one: they are derived, not measured.

References
----------
NVIDIA TensorRT-LLM, "customAllReduceKernels" (one-shot and two-shot); Thakur, Rabenseifner & Gropp (2005),
"Optimization of collective communication operations in MPICH", section 4.5, for two-shot's reduce-scatter and
all-gather.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, TypeAlias, get_args

from tpsim.cost.collective import CollectiveModel
from tpsim.cost.hardware import Hardware
from tpsim.cost.work import Collective

Choice: TypeAlias = Literal["library", "one_shot", "two_shot", "best"]
CHOICES: tuple[str, ...] = get_args(Choice)
_HOPS = {"one_shot": 3, "two_shot": 6}


@dataclass(frozen=True)
class DirectCollectives(CollectiveModel):
    """A library's prices, but for all-reduces in one node.

    Attributes
    ----------
    kernel : float
        Seconds of a kernel with hardly any work, in a CUDA graph.
    choice : {"library", "one_shot", "two_shot", "best"}
        Which all-reduce is taken; "best" is the cheapest for the size.
    """

    kernel: float
    choice: Choice

    def seconds(self, work: Collective, *, node: int, graph: bool) -> float:
        """As `CollectiveModel.seconds`."""
        library = super().seconds(work, node=node, graph=graph)
        if work.operation != "all_reduce" or not 1 < work.ranks <= node or self.choice == "library":
            return library
        gap = 0.0 if graph else self.gap
        direct = {name: self._direct(name, work, node) + gap for name in _HOPS}
        return min(library, *direct.values()) if self.choice == "best" else direct[self.choice]

    def _direct(self, name: str, work: Collective, node: int) -> float:
        t = work.ranks
        hop = min(protocol.ring_hop for protocol in self.protocols.values())
        moved = (t - 1) * work.nbytes * (1.0 if name == "one_shot" else 2 / t)
        return self.kernel + _HOPS[name] * hop + moved / self._rate("all_reduce", t, node)


def choose(hardware: Hardware, choice: str) -> Hardware:
    """Return the hardware with another way to sum small messages.

    Raises
    ------
    ValueError
        If the choice is not known.
    """
    if choice not in CHOICES:
        raise ValueError(f"all-reduce {choice!r} is not known; pick one of {', '.join(CHOICES)}")
    library = hardware.collective
    plain = {field.name: getattr(library, field.name) for field in fields(CollectiveModel)}
    kernel = hardware.pointwise.family("add").floor
    return replace(hardware, collective=DirectCollectives(**plain, kernel=kernel, choice=choice))  # type: ignore[arg-type]  # checked


def crossing(hardware: Hardware, ranks: int, first: str, second: str) -> int | None:
    """Return the bytes up to which `first` is quicker than `second`, to a KiB; None if it never is.

    With messages of more than 1 GiB it counts as quicker for all.
    """
    one, other = choose(hardware, first), choose(hardware, second)

    def quicker(kib: int) -> bool:
        work = Collective("all_reduce", 1024 * kib, ranks)
        return one.seconds(work, graph=True) < other.seconds(work, graph=True)

    if not quicker(1):
        return None
    low, high = 1, 2
    while quicker(high):
        low, high = high, 2 * high
        if high > 2**20:
            return 1024 * low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if quicker(middle) else (low, middle)
    return 1024 * low
