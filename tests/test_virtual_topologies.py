"""Grids and graphs of virtual ranks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim.comm import CollectiveMismatchError, VirtualComm, run
from tpsim.comm.mpi_errors import ERROR_CLASSES, MPIException
from tpsim.comm.virtual.communicators.dims import Compute_dims
from tpsim.comm.virtual.data.constants import (
    CART,
    DIST_GRAPH,
    GRAPH,
    PROC_NULL,
    UNDEFINED,
    UNWEIGHTED,
    WEIGHTS_EMPTY,
)

few = settings(max_examples=20, deadline=None)

grids = st.lists(st.integers(1, 3), max_size=3).flatmap(
    lambda dims: st.tuples(
        st.just(dims), st.lists(st.booleans(), min_size=len(dims), max_size=len(dims)), st.integers(0, 2)
    )
)


def error_class(call: Any) -> str:
    """Return the name of the error class that a call raises."""
    with pytest.raises(MPIException) as caught:
        call()
    return next(name for name, number in ERROR_CLASSES.items() if number == caught.value.Get_error_class())


# -- dims ----------------------------------------------------------------------------------------------------


@given(count=st.integers(1, 120), dims=st.integers(1, 4))
@few
def test_a_grid_is_as_near_to_a_cube_as_can_be(count: int, dims: int) -> None:
    divisors = [d for d in range(1, count + 1) if count % d == 0]
    shapes = [s for s in product(divisors, repeat=dims) if prod(s) == count]
    assert Compute_dims(count, dims) == list(min(tuple(sorted(shape, reverse=True)) for shape in shapes))


def test_lengths_that_are_given_stay() -> None:
    # the examples of MPI-4.1, section 8.5.2
    assert Compute_dims(6, [0, 0]) == [3, 2]
    assert Compute_dims(7, [0, 0]) == [7, 1]
    assert Compute_dims(6, [0, 3, 0]) == [2, 3, 1]
    assert error_class(lambda: Compute_dims(7, [0, 3, 0])) == "ERR_DIMS"
    assert Compute_dims(12, [4, 3]) == [4, 3]
    assert Compute_dims(1, []) == []
    for count, dims in [(12, [4, 4]), (6, [-1, 0]), (0, [0]), (-2, [0])]:
        assert error_class(lambda: Compute_dims(count, dims)) == "ERR_DIMS"  # noqa: B023


# -- grids ---------------------------------------------------------------------------------------------------


@given(grid=grids, data=st.data())
@few
def test_a_grid_numbers_its_ranks_along_the_last_dimension_first(grid: Any, data: Any) -> None:
    dims, periods, spare = grid
    size = prod(dims)
    numbers = np.arange(size).reshape(dims)

    def main(comm: VirtualComm) -> Any:
        cart = comm.Create_cart(dims, periods, reorder=True)
        assert comm.Cart_map(dims, periods) == (comm.rank if comm.rank < size else UNDEFINED)
        if comm.rank >= size:
            assert not cart
            return None
        assert (cart.topology, cart.rank, cart.size) == (CART, comm.rank, size)
        assert cart.Dup().topo == cart.topo == (dims, [int(p) for p in periods], cart.coords)
        for rank in range(size):
            coords = cart.Get_coords(rank)
            assert numbers[tuple(coords)] == rank
            assert cart.Get_cart_rank(coords) == rank
        return cart.coords

    coords = run(main, size + spare)
    assert coords == [list(at) for at in np.ndindex(*dims)] + [None] * spare


@given(grid=grids, disp=st.integers(-3, 3))
@few
def test_a_shift_finds_the_ranks_before_and_behind(grid: Any, disp: int) -> None:
    dims, periods, _ = grid
    numbers = np.arange(prod(dims)).reshape(dims)

    def main(comm: VirtualComm) -> Any:
        cart = comm.Create_cart(dims, periods)
        shifts = [cart.Shift(direction, disp) for direction in range(len(dims))]
        ones = [cart.Shift(direction, 1) for direction in range(len(dims))]
        assert cart.inedges == cart.outedges == [rank for pair in ones for rank in pair]
        assert cart.degrees == (2 * len(dims), 2 * len(dims))
        return shifts

    shifts = run(main, prod(dims))
    for direction, (length, periodic) in enumerate(zip(dims, periods, strict=True)):
        for rank, at in enumerate(np.ndindex(*dims)):
            found = []
            for step in (-disp, disp):
                there = list(at)
                there[direction] += step
                inside = periodic or 0 <= there[direction] < length
                there[direction] %= length
                found.append(numbers[tuple(there)] if inside else PROC_NULL)
            assert shifts[rank][direction] == tuple(found)


@given(grid=grids, data=st.data())
@few
def test_a_sub_grid_has_the_ranks_that_differ_in_the_remaining_dimensions(grid: Any, data: Any) -> None:
    dims, periods, _ = grid
    remain = data.draw(st.lists(st.booleans(), min_size=len(dims), max_size=len(dims)))
    kept = [i for i, remains in enumerate(remain) if remains]
    numbers = np.arange(prod(dims)).reshape(dims)

    def main(comm: VirtualComm) -> Any:
        below = comm.Create_cart(dims, periods).Sub(remain)
        assert below.dims == [dims[i] for i in kept]
        assert below.periods == [periods[i] for i in kept]
        return below.allgather(comm.rank)

    for got, at in zip(run(main, prod(dims)), np.ndindex(*dims), strict=True):
        where = tuple(slice(None) if remains else at[i] for i, remains in enumerate(remain))
        assert got == np.atleast_1d(numbers[where]).ravel().tolist()


def test_what_is_no_grid_is_refused() -> None:
    def main(comm: VirtualComm) -> None:
        cart = comm.Create_cart([2], [False])
        ring = comm.Create_cart([2], True)
        assert ring.Get_cart_rank([-1]) == 1
        refused = {
            "ERR_ARG": [
                lambda: comm.Create_cart([3]),
                lambda: cart.Shift(1, 1),
                lambda: cart.Get_cart_rank([2]),
            ],
            "ERR_DIMS": [lambda: comm.Create_cart([-1]), lambda: comm.Create_cart([0])],
            "ERR_RANK": [lambda: cart.Get_coords(2), lambda: cart.Get_coords(-1)],
        }
        for name, calls in refused.items():
            assert {error_class(call) for call in calls} == {name}
        misfits: list[Callable[[], Any]] = [
            lambda: comm.Create_cart([2], []),
            lambda: cart.Sub([True, False]),
            lambda: cart.Get_cart_rank([0, 0]),
        ]
        for call in misfits:
            with pytest.raises(ValueError, match="pass one"):
                call()

    run(main, 2)


def test_ranks_must_ask_for_the_same_grid() -> None:
    with pytest.raises(CollectiveMismatchError, match=r"Create_cart: rank 0 asks for .* and rank 1 for"):
        run(lambda comm: comm.Create_cart([2, 1] if comm.rank else [1, 2]), 2)


# -- graphs --------------------------------------------------------------------------------------------------


edges_of = st.integers(1, 5).flatmap(
    lambda size: st.tuples(
        st.just(size),
        st.lists(
            st.tuples(st.integers(0, size - 1), st.integers(0, size - 1), st.integers(0, 9)), max_size=8
        ),
    )
)


@given(drawn=edges_of, spare=st.integers(0, 2), leading=st.booleans())
@few
def test_every_rank_of_a_graph_knows_all_neighbours(drawn: Any, spare: int, leading: bool) -> None:
    size, drawn_edges = drawn
    nodes = [[end for start, end, _ in drawn_edges if start == rank] for rank in range(size)]
    ends = np.cumsum([len(node) for node in nodes]).tolist()
    edges = [end for node in nodes for end in node]
    # with a 0 in front, of which a graph whose first ranks have no neighbours could be in doubt
    index = [0, *ends] if leading or ends[0] == 0 else ends

    def main(comm: VirtualComm) -> Any:
        graph = comm.Create_graph(index, edges)
        assert comm.Graph_map(index, edges) == (comm.rank if comm.rank < size else UNDEFINED)
        if comm.rank >= size:
            assert not graph
            return
        assert graph.topology == GRAPH
        assert graph.dims == (graph.nnodes, graph.nedges) == (size, len(edges))
        assert graph.Dup().topo == graph.topo == (graph.index, graph.edges) == (ends, edges)
        for rank in range(size):
            assert graph.Get_neighbors(rank) == nodes[rank]
            assert graph.Get_neighbors_count(rank) == len(nodes[rank])
        mine = nodes[comm.rank]
        assert graph.neighbors == graph.inedges == graph.outedges == mine
        assert graph.degrees == (graph.nneighbors, graph.nneighbors) == (len(mine), len(mine))

    run(main, size + spare)


@given(drawn=edges_of, weighted=st.booleans(), data=st.data())
@few
def test_ranks_may_tell_of_any_edges_of_a_distributed_graph(drawn: Any, weighted: bool, data: Any) -> None:
    size, edges = drawn
    teller = [data.draw(st.integers(0, size - 1)) for _ in edges]

    def main(comm: VirtualComm) -> Any:
        told = [edge for edge, rank in zip(edges, teller, strict=True) if rank == comm.rank]
        graph = comm.Create_dist_graph(
            [start for start, _, _ in told],
            [1] * len(told),
            [end for _, end, _ in told],
            [weight for _, _, weight in told] if weighted else UNWEIGHTED,
        )
        assert graph.topology == DIST_GRAPH
        sources, destinations, weights = graph.Get_dist_neighbors()
        assert graph.Get_dist_neighbors_count() == (len(sources), len(destinations), weighted)
        assert graph.inoutedges == (sources, destinations)
        into, out = weights if weighted else ([0] * len(sources), [0] * len(destinations))
        again = comm.Create_dist_graph_adjacent(sources, destinations, into, out)
        assert again.Get_dist_neighbors() == (sources, destinations, (into, out))
        return sorted(zip(sources, into, strict=True)), sorted(zip(destinations, out, strict=True))

    for rank, got in enumerate(run(main, size)):
        known = [(start, end, weight if weighted else 0) for start, end, weight in edges]
        assert got == (
            sorted((start, weight) for start, end, weight in known if end == rank),
            sorted((end, weight) for start, end, weight in known if start == rank),
        )


def test_what_is_no_graph_is_refused() -> None:
    def main(comm: VirtualComm) -> None:
        assert comm.Create_dist_graph_adjacent([], [], WEIGHTS_EMPTY, WEIGHTS_EMPTY).Get_dist_neighbors() == (
            [],
            [],
            ([], []),
        )
        refused = {
            "ERR_ARG": [
                lambda: comm.Create_graph([1, 2, 3], [0, 0, 0]),
                lambda: comm.Create_graph([2], [0]),
                lambda: comm.Create_graph([2, 1], [0]),
            ],
            "ERR_RANK": [
                lambda: comm.Create_graph([1], [1]),
                lambda: comm.Create_dist_graph([0], [1], [2]),
                lambda: comm.Create_dist_graph_adjacent([2], []),
            ],
        }
        for name, calls in refused.items():
            assert {error_class(call) for call in calls} == {name}
        with pytest.raises(ValueError, match="pass a degree for each"):
            comm.Create_dist_graph([0], [2], [1])
        with pytest.raises(ValueError, match="0 weights for 1 edges"):
            comm.Create_dist_graph_adjacent([0], [0], WEIGHTS_EMPTY, WEIGHTS_EMPTY)

    run(main, 2)
