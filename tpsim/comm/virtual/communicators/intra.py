"""Communicators that only an intracommunicator can make: of some of its ranks, of grids and graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tpsim.comm.errors import CollectiveMismatchError
from tpsim.comm.signature import Signature
from tpsim.comm.virtual.communicators.cartesian import cartesian
from tpsim.comm.virtual.communicators.context import Context, Topology
from tpsim.comm.virtual.communicators.graphs import adjacent, edge_list, graph, meet_edges
from tpsim.comm.virtual.communicators.handle import TOPOLOGIES, handle_of, null_of
from tpsim.comm.virtual.communicators.making import Making
from tpsim.comm.virtual.communicators.rootless import rootless_key
from tpsim.comm.virtual.data.constants import UNDEFINED
from tpsim.comm.virtual.data.errhandlers import Errhandler
from tpsim.comm.virtual.data.info import INFO_NULL, Info
from tpsim.comm.virtual.data.process_group import ProcessGroup


class IntraMaking(Making):
    """Create_group, Create_cart, Create_graph …; `reorder` is ignored: ranks keep their order."""

    def Create_group(self, group: ProcessGroup, tag: int = 0) -> Any:
        """Return the communicator of a group's ranks, which alone call it."""
        color, rank = self._place_in(group, "Create_group")
        if color == UNDEFINED:
            return null_of("intra")
        here = self._context
        key = here.key_of("Create_group", tag, group.members)
        return handle_of(Context(here.world, key, group.members, rank))

    @classmethod
    def Create_from_group(
        cls,
        group: ProcessGroup,
        stringtag: str = "org.mpi4py",
        info: Info = INFO_NULL,
        errhandler: Errhandler | None = None,
    ) -> Any:
        """Return the communicator of a group's ranks, which alone call it. It comes from no other one."""
        if group.rank == UNDEFINED:
            return null_of("intra")
        world, key = rootless_key("Create_from_group", (group.members, stringtag))
        return handle_of(Context(world, key, group.members, group.rank))

    # -- topologies -----------------------------------------------------------------------------------

    def Create_cart(self, dims: Sequence[int], periods: Any = None, reorder: bool = False) -> Any:
        """Return the communicator of a grid's ranks; COMM_NULL on those that the grid leaves over.

        Parameters
        ----------
        dims : sequence of int
            Ranks along each dimension; see `MPI.Compute_dims`.
        periods : sequence of bool, or one bool, optional
            Which dimensions are rings; none by default.
        """
        grid = cartesian("Create_cart", dims, periods, self.size)
        return self._laid_out("Create_cart", grid, grid.size)

    def Cart_map(self, dims: Sequence[int], periods: Any = None) -> int:
        """Return the rank that this one would have in a grid; UNDEFINED if it is left over."""
        return self._if_among(cartesian("Cart_map", dims, periods, self.size).size)

    def Create_graph(self, index: Sequence[int], edges: Sequence[int], reorder: bool = False) -> Any:
        """Return the communicator of a graph's ranks; COMM_NULL on those that the graph leaves over.

        Parameters
        ----------
        index : sequence of int
            How many neighbours the first ranks have together, for each number of ranks (from 1, or from 0).
        edges : sequence of int
            The neighbours of rank 0, then of rank 1, …
        """
        nodes = graph("Create_graph", index, edges, self.size)
        return self._laid_out("Create_graph", nodes, len(nodes.index))

    def Graph_map(self, index: Sequence[int], edges: Sequence[int]) -> int:
        """Return the rank that this one would have in a graph; UNDEFINED if it is left over."""
        return self._if_among(len(graph("Graph_map", index, edges, self.size).index))

    def Create_dist_graph_adjacent(
        self,
        sources: Sequence[int] | None,
        destinations: Sequence[int] | None,
        sourceweights: Any = None,
        destweights: Any = None,
        info: Info = INFO_NULL,
        reorder: bool = False,
    ) -> Any:
        """Return a communicator in whose graph this rank hears from `sources`, and sends to `destinations`.

        Both ends of an edge must name it.
        """
        call = "Create_dist_graph_adjacent"
        own = adjacent(call, sources, destinations, sourceweights, destweights, self.size)
        self.together(Signature(call), None, lambda values: values)
        return self._with(call, own)

    def Create_dist_graph(
        self,
        sources: Sequence[int],
        degrees: Sequence[int],
        destinations: Sequence[int],
        weights: Any = None,
        info: Info = INFO_NULL,
        reorder: bool = False,
    ) -> Any:
        """Return a communicator whose graph has the edges that all ranks tell of, whosoever they are.

        Parameters
        ----------
        sources, degrees : sequence of int
            Ranks at which edges begin, and how many at each.
        destinations : sequence of int
            Ranks at which they end, those of the first source first.
        weights : sequence of int, optional
            One for each edge.
        """
        call = "Create_dist_graph"
        known = edge_list(call, sources, degrees, destinations, weights, self.size)
        return self._with(call, self.together(Signature(call), known, meet_edges))

    def _laid_out(self, call: str, topology: Topology, count: int) -> Any:
        """Give the first `count` ranks a topology, on which all must agree."""

        def agree(values: list[Any]) -> list[Any]:
            other = next((rank for rank, value in enumerate(values) if value != values[0]), None)
            if other is not None:
                raise CollectiveMismatchError(
                    f"{call}: rank 0 asks for {values[0]} and rank {other} for {values[other]}; pass the "
                    "same on every rank"
                )
            return values

        self.together(Signature(call), topology, agree)
        if self.rank >= count:
            return null_of(TOPOLOGIES[topology.kind])
        return self._with(call, topology, count)

    def _with(self, call: str, topology: Topology, count: int | None = None) -> Any:
        """Return the communicator that the meeting just held has agreed on."""
        here = self._context
        key = (here.meets_id, call, here.calls)
        return handle_of(Context(here.world, key, here.members[:count], here.rank, topology))

    def _if_among(self, count: int) -> int:
        return self.rank if self.rank < count else UNDEFINED
