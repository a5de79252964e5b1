"""How long collectives take: latency by hops, bandwidth by links, over protocols and algorithms.

T = latency + bytes on the wire / bandwidth, in the form of NCCL's own tuning model. A *protocol* trades
bandwidth for latency (LL and LL128 send flags with the data, Simple sends large chunks and then a flag) and
is open up to some size. An *algorithm* (ring, tree, in-switch reduction) sets hops and bytes. The cheapest
pair of those open is taken, so time never falls as sizes grow.

References
----------
NVIDIA NCCL, src/graph/tuning.cc (latencies, ring and tree, protocols). Patarasuk & Yuan (2009), "Bandwidth
optimal all-reduce algorithms" (ring). Thakur, Rabenseifner & Gropp (2005) for α–β.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2
from typing import Any

from tpsim.cost.work import Collective

# Times around the ring: t−1 steps each.
_ROUNDS = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1, "broadcast": 1, "all_to_all": 1, "send": 1}


@dataclass(frozen=True)
class Protocol:
    """One way to move data.

    Attributes
    ----------
    base : float
        Seconds of its kernel, before any hop.
    ring_hop, tree_hop : float
        Seconds of one step to a neighbour in the node.
    ring_network_hop, tree_network_hop : float
        And to one in another node.
    share : float
        Of the links' bandwidth, what it reaches.
    until : float or None
        It is open while a rank of t sends at most t·until bytes (more ranks make later protocols slower to
        start, too); None for any.
    """

    base: float
    ring_hop: float
    tree_hop: float
    ring_network_hop: float
    tree_network_hop: float
    share: float
    until: float | None


@dataclass(frozen=True)
class Switch:
    """Reduction inside the switch (NVLink SHARP), for all-reduce in one node.

    Attributes
    ----------
    base : float
        Seconds.
    bandwidth : float
        Bytes of the tensor a second.
    """

    base: float
    bandwidth: float


@dataclass(frozen=True)
class CollectiveModel:
    """Prices for `Collective`.

    Attributes
    ----------
    bandwidth : float
        Bytes a second that a rank sends in a long ring, of many ranks in one node.
    few : float
        Share of it lost with t ranks is few/t: fewer neighbours leave links idle.
    network : float
        Bytes a second that each device's network port sends.
    protocols : dict
        `Protocol` by name.
    operations : dict
        Share of the ring's bandwidth that each operation reaches; "all_reduce" is 1.
    tree : float
        Share of the ring's bandwidth that a tree reaches.
    switch : Switch or None
        None where switches only forward.
    gap : float
        Seconds between two kernels outside a CUDA graph.
    wake : float
        Seconds from issue to start where the device has nothing queued: across streams, until all ranks are
        there.
    """

    bandwidth: float
    few: float
    network: float
    protocols: dict[str, Protocol]
    operations: dict[str, float]
    tree: float
    switch: Switch | None
    gap: float
    wake: float

    @classmethod
    def from_dict(cls, section: dict[str, Any]) -> CollectiveModel:
        """Return the model from its section of a profile."""
        protocols = {name: Protocol(**values) for name, values in section["protocols"].items()}
        switch = section["switch"] and Switch(**section["switch"])
        return cls(**{**section, "protocols": protocols, "switch": switch})

    def seconds(self, work: Collective, *, node: int, graph: bool) -> float:
        """Return how long the device takes, from when the last rank has come.

        Parameters
        ----------
        work : Collective
            One of all_reduce, all_gather, reduce_scatter, broadcast, all_to_all (`nbytes` of one rank's
            buffer), send (to one other rank; across nodes if `ranks` do not fit one) and barrier.
        node : int
            Devices that share the fast links; ranks fill node after node.
        graph : bool
            Whether it runs inside a CUDA graph, with no gap before it.

        Raises
        ------
        ValueError
            If the operation is not one of these.
        """
        operation, nbytes = work.operation, work.nbytes
        if operation == "barrier":
            operation, nbytes = "all_reduce", 4
        if operation not in _ROUNDS:
            raise ValueError(
                f"collective {operation!r} has no price; pick one of {', '.join([*_ROUNDS, 'barrier'])}"
            )
        if work.ranks == 1:
            return 0.0
        times = []
        for protocol in self.protocols.values():
            if protocol.until is None or _sent(operation, nbytes, work.ranks) <= protocol.until * work.ranks:
                times.append(self._ring(operation, nbytes, work.ranks, node, protocol))
                if operation == "all_reduce":
                    times.append(self._tree(nbytes, work.ranks, node, protocol))
        if operation == "all_reduce" and self.switch and 2 < work.ranks <= node:
            times.append(self.switch.base + nbytes / self.switch.bandwidth)
        return min(times) + (0.0 if graph else self.gap)

    def _rate(self, operation: str, ranks: int, node: int) -> float:
        """Return the bytes a second that a rank sends.

        Around a ring across nodes, all the ports of a node together carry what passes its edge, each for one
        of as many rings. What goes from any rank to any other takes the port of its own rank.
        """
        inside = min(ranks, node)
        rate = self.bandwidth * (1 - self.few / max(inside, 2)) * self.operations.get(operation, 1.0)
        if ranks <= node:
            return rate
        if operation == "send":
            return self.network
        if operation == "all_to_all":
            return min(rate, self.network * (ranks - 1) / (ranks - inside))
        return min(rate, self.network * inside)

    def _ring(self, operation: str, nbytes: int, ranks: int, node: int, protocol: Protocol) -> float:
        rounds = _ROUNDS[operation]
        steps = rounds * (1 if operation == "send" else ranks - 1)
        between = min(steps, rounds * (ceil(ranks / node) - 1))
        latency = protocol.base + (steps - between) * protocol.ring_hop + between * protocol.ring_network_hop
        return latency + _sent(operation, nbytes, ranks) / (
            protocol.share * self._rate(operation, ranks, node)
        )

    def _tree(self, nbytes: int, ranks: int, node: int, protocol: Protocol) -> float:
        """Price a tree of nodes, each a chain of devices: sums go up, and the total comes down."""
        chain, depth = min(ranks, node) - 1, ceil(log2(ceil(ranks / node)))
        latency = protocol.base + 2 * (chain * protocol.tree_hop + depth * protocol.tree_network_hop)
        rate = self.tree * protocol.share * self._rate("all_reduce", ranks, node)
        return latency + _sent("all_reduce", nbytes, ranks) / rate


def _sent(operation: str, nbytes: int, ranks: int) -> float:
    """Return the bytes that a rank sends around a ring."""
    return _ROUNDS[operation] * nbytes * (1.0 if operation in {"broadcast", "send"} else (ranks - 1) / ranks)
