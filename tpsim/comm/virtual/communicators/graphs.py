"""Graph topologies: any rank may be any other's neighbour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tpsim.comm.virtual.data.constants import DIST_GRAPH, GRAPH, UNWEIGHTED, WEIGHTS_EMPTY
from tpsim.comm.virtual.data.exceptions import error


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph that every rank knows whole."""

    index: tuple[int, ...]
    """How many neighbours the first ranks have together."""
    edges: tuple[int, ...]
    """Every rank's neighbours, behind one another."""

    @property
    def kind(self) -> int:
        """GRAPH."""
        return GRAPH

    def of(self, rank: int) -> list[int]:
        """Return the neighbours of a rank."""
        return list(self.edges[self.index[rank - 1] if rank else 0 : self.index[rank]])

    def neighbours(self, rank: int) -> tuple[list[int], list[int]]:
        """Return the neighbours of a rank: it hears from those to whom it sends."""
        return self.of(rank), self.of(rank)


@dataclass(frozen=True, slots=True)
class DistGraph:
    """A graph of which each rank knows its own edges."""

    sources: tuple[int, ...]
    destinations: tuple[int, ...]
    weights: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    """Of the edges from the sources, and of those to the destinations."""

    @property
    def kind(self) -> int:
        """DIST_GRAPH."""
        return DIST_GRAPH

    def neighbours(self, rank: int) -> tuple[list[int], list[int]]:
        """Return (sources, destinations) of this rank, the only one that is known here."""
        return list(self.sources), list(self.destinations)


def graph(call: str, index: Sequence[int], edges: Sequence[int], size: int) -> Graph:
    """Return the graph that a call asks for, checked. `index` may begin with a 0, as SciPy's `indptr` does.

    Raises
    ------
    MPI.Exception
        ERR_ARG if there are not enough ranks, or `index` and `edges` make no graph.
    """
    ends, targets = tuple(int(end) for end in index), tuple(int(target) for target in edges)
    if ends and ends[0] == 0 and ends[-1] == len(targets):
        ends = ends[1:]
    if len(ends) > size:
        raise error(
            "ERR_ARG",
            f"{call}: the graph has {len(ends)} nodes, and there are {size} ranks; start more ranks",
        )
    ordered = all(a <= b for a, b in zip((0, *ends), ends, strict=False))
    if not ordered or (ends[-1] if ends else 0) != len(targets):
        raise error(
            "ERR_ARG",
            f"{call}: index {list(ends)} does not fit {len(targets)} edges; index[i] is the number of edges "
            "of ranks 0 to i together",
        )
    _check_nodes(call, targets, len(ends))
    return Graph(ends, targets)


def weights_of(call: str, weights: Any, count: int) -> tuple[int, ...] | None:
    """Return the weights of `count` edges; None if they have none.

    Raises
    ------
    ValueError
        If there is not one weight for each edge.
    """
    if weights is None or (isinstance(weights, int) and weights == UNWEIGHTED):
        return None
    if isinstance(weights, int) and weights == WEIGHTS_EMPTY:
        weights = ()
    if len(weights) != count:
        raise ValueError(
            f"{call}: {len(weights)} weights for {count} edges; pass one for each, or UNWEIGHTED"
        )
    return tuple(int(weight) for weight in weights)


def adjacent(
    call: str, sources: Any, destinations: Any, sourceweights: Any, destweights: Any, size: int
) -> DistGraph:
    """Return the graph in which this rank has these edges."""
    into, out = _nodes(sources), _nodes(destinations)
    _check_nodes(call, (*into, *out), size)
    weights = weights_of(call, sourceweights, len(into)), weights_of(call, destweights, len(out))
    weighted = any(w is not None for w in weights)
    return DistGraph(into, out, (weights[0] or (), weights[1] or ()) if weighted else None)


Edges = tuple[list[tuple[int, int, int]], bool]
"""((source, destination, weight) of each edge, whether the weights are any)"""


def edge_list(
    call: str,
    sources: Sequence[int],
    degrees: Sequence[int],
    destinations: Sequence[int],
    weights: Any,
    size: int,
) -> Edges:
    """Return the edges that one rank tells of."""
    starts, counts, ends = _nodes(sources), _nodes(degrees), _nodes(destinations)
    if len(counts) != len(starts) or sum(counts) != len(ends):
        raise ValueError(
            f"{call}: {len(starts)} sources, degrees {list(counts)} and {len(ends)} destinations do not fit; "
            "pass a degree for each source, and as many destinations as they are together"
        )
    _check_nodes(call, (*starts, *ends), size)
    known = weights_of(call, weights, len(ends))
    repeated = [start for start, count in zip(starts, counts, strict=True) for _ in range(count)]
    return list(zip(repeated, ends, known or [1] * len(ends), strict=True)), known is not None


def meet_edges(told: Sequence[Edges]) -> list[DistGraph]:
    """Return every rank's own part of the graph that the ranks told of together."""
    edges = [edge for known, _ in told for edge in known]
    weighted = all(weighted for _, weighted in told)
    into: list[list[tuple[int, int]]] = [[] for _ in told]
    out: list[list[tuple[int, int]]] = [[] for _ in told]
    for source, destination, weight in edges:
        into[destination].append((source, weight))
        out[source].append((destination, weight))
    return [
        DistGraph(
            tuple(node for node, _ in into[rank]),
            tuple(node for node, _ in out[rank]),
            (tuple(w for _, w in into[rank]), tuple(w for _, w in out[rank])) if weighted else None,
        )
        for rank in range(len(told))
    ]


def _nodes(nodes: Any) -> tuple[int, ...]:
    return () if nodes is None else tuple(int(node) for node in nodes)


def _check_nodes(call: str, nodes: Sequence[int], size: int) -> None:
    for node in nodes:
        if not 0 <= node < size:
            raise error("ERR_RANK", f"{call}: {node} is not a node of the graph; pick 0 to {size - 1}")
