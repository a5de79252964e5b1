"""What one may ask of a communicator with a graph topology."""

from __future__ import annotations

from tpsim.comm.virtual.communicators.graphs import DistGraph, Graph
from tpsim.comm.virtual.communicators.making import Making


class GraphCalls(Making):
    """What one may ask of a communicator whose graph every rank knows."""

    @property
    def _graph(self) -> Graph:
        topology = self._context.topology
        assert isinstance(topology, Graph)
        return topology

    def Get_dims(self) -> tuple[int, int]:
        """Return (number of nodes, number of edges)."""
        return len(self._graph.index), len(self._graph.edges)

    def Get_topo(self) -> tuple[list[int], list[int]]:
        """Return (index, edges)."""
        return list(self._graph.index), list(self._graph.edges)

    dims = property(Get_dims)
    topo = property(Get_topo)

    @property
    def nnodes(self) -> int:
        """Number of nodes."""
        return self.Get_dims()[0]

    @property
    def nedges(self) -> int:
        """Number of edges."""
        return self.Get_dims()[1]

    @property
    def index(self) -> list[int]:
        """How many neighbours the first ranks have together."""
        return self.Get_topo()[0]

    @property
    def edges(self) -> list[int]:
        """Every rank's neighbours, behind one another."""
        return self.Get_topo()[1]

    def Get_neighbors(self, rank: int) -> list[int]:
        """Return the neighbours of a rank."""
        self._check_rank("Get_neighbors", "rank", rank)
        return self._graph.of(rank)

    def Get_neighbors_count(self, rank: int) -> int:
        """Return the number of neighbours of a rank."""
        self._check_rank("Get_neighbors_count", "rank", rank)
        return len(self._graph.of(rank))

    @property
    def neighbors(self) -> list[int]:
        """This rank's neighbours."""
        return self._graph.of(self.rank)

    @property
    def nneighbors(self) -> int:
        """Number of this rank's neighbours."""
        return len(self.neighbors)


class DistGraphCalls(Making):
    """What one may ask of a communicator of whose graph each rank knows its own part."""

    @property
    def _own(self) -> DistGraph:
        topology = self._context.topology
        assert isinstance(topology, DistGraph)
        return topology

    def Get_dist_neighbors_count(self) -> tuple[int, int, bool]:
        """Return (number of sources, number of destinations, whether edges have weights)."""
        own = self._own
        return len(own.sources), len(own.destinations), own.weights is not None

    def Get_dist_neighbors(self) -> tuple[list[int], list[int], tuple[list[int], list[int]] | None]:
        """Return (sources, destinations, (weights of both) or None)."""
        own = self._own
        weights = None if own.weights is None else (list(own.weights[0]), list(own.weights[1]))
        return list(own.sources), list(own.destinations), weights
