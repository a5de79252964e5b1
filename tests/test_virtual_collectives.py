"""Every collective of `VirtualComm`, in its three forms and under both schedules, gives what NumPy gives."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tpsim.comm import CollectiveMismatchError, VirtualComm, run
from tpsim.comm.errors import InFlightError
from tpsim.comm.virtual import IN_PLACE, MAX, PROC_NULL, SUM, Op, Request
from tpsim.comm.virtual.data.constants import ROOT
from tpsim.comm.virtual.data.ops import MAXLOC, MINLOC
from tpsim.comm.virtual.data.type_table import TYPES

Array = NDArray[Any]
Form = Callable[..., None]

schedules = pytest.mark.parametrize("schedule", ["lockstep", "free"])
few = settings(deadline=None, max_examples=20)


def blocking(comm: VirtualComm, name: str, *args: Any) -> None:
    getattr(comm, name)(*args)


def nonblocking(comm: VirtualComm, name: str, *args: Any) -> None:
    getattr(comm, f"I{name.lower()}")(*args).Wait()


def persistent(comm: VirtualComm, name: str, *args: Any) -> None:
    request = getattr(comm, f"{name}_init")(*args)
    request.Start()
    request.Wait()
    request.Free()


each_form = pytest.mark.parametrize("call", [blocking, nonblocking, persistent])
ranks = st.integers(1, 5)


def numbers(seed: int, count: int, dtype: str = "f8") -> Array:
    return np.random.default_rng(seed).integers(-9, 9, count).astype(dtype)


def reals(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def in_rank_order(xs: Sequence[Array]) -> Array:
    total = xs[0].copy()
    for x in xs[1:]:
        total = total + x
    return total


def layout(data: Any, size: int) -> tuple[list[int], list[int], int]:
    """Draw counts, displacements that leave gaps and are in no order, and the length of the whole."""
    counts = data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    order = data.draw(st.permutations(range(size)))
    displs, end = [0] * size, 0
    for i in order:
        end += data.draw(st.integers(0, 2))
        displs[i] = end
        end += counts[i]
    return counts, displs, end + 1


def placed(length: int, displs: Sequence[int], pieces: Sequence[Array]) -> Array:
    whole = np.full(length, 99, pieces[0].dtype)
    for displ, piece in zip(displs, pieces, strict=True):
        whole[displ : displ + piece.size] = piece
    return whole


# -- moving --------------------------------------------------------------------------------------------------


@schedules
@each_form
@given(data=st.data(), size=ranks, dtype=st.sampled_from(["f4", "i8", "u1"]))
@few
def test_blocks_of_any_length_go_to_any_place(
    schedule: Any, call: Form, data: Any, size: int, dtype: str
) -> None:
    counts, displs, length = layout(data, size)
    root, in_place = data.draw(st.integers(0, size - 1)), data.draw(st.booleans())
    own = [numbers(rank, counts[rank], dtype) for rank in range(size)]
    whole = placed(length, displs, own)

    def main(comm: VirtualComm) -> Any:
        rank, is_root = comm.rank, comm.rank == root
        mine = slice(displs[rank], displs[rank] + counts[rank])
        gathered, shared = np.full(length, 99, dtype), np.full(length, 99, dtype)
        if in_place:
            gathered[mine] = shared[mine] = own[rank]
        place = [counts, displs]
        call(
            comm,
            "Gatherv",
            IN_PLACE if in_place and is_root else own[rank],
            [gathered, *place, None] if is_root else None,
            root,
        )
        call(comm, "Allgatherv", IN_PLACE if in_place else own[rank], [shared, tuple(place)])
        got = np.full(counts[rank], 99, dtype)
        if in_place and is_root:
            call(comm, "Scatterv", [whole, tuple(place)], IN_PLACE, root)
            got = whole[mine]
        else:
            call(comm, "Scatterv", [whole, tuple(place)] if is_root else None, got, root)
        return gathered, shared, got

    for rank, (gathered, shared, got) in enumerate(run(main, size, schedule=schedule)):
        np.testing.assert_array_equal(gathered, whole if rank == root else gathered)
        np.testing.assert_array_equal(shared, whole)
        np.testing.assert_array_equal(got, own[rank])


def in_bytes(counts: Sequence[int]) -> list[int]:
    """Return where blocks of doubles begin that lie behind one another."""
    return [8 * sum(counts[:i]) for i in range(len(counts))]


@schedules
@each_form
@given(data=st.data(), size=ranks)
@few
def test_block_j_of_rank_i_becomes_block_i_of_rank_j(schedule: Any, call: Form, data: Any, size: int) -> None:
    table = [[data.draw(st.integers(0, 3)) for _ in range(size)] for _ in range(size)]  # [from][to]
    blocks = [[numbers(9 * i + j, table[i][j]) for j in range(size)] for i in range(size)]

    def main(comm: VirtualComm) -> Any:
        rank = comm.rank
        sent, incoming = blocks[rank], [table[i][rank] for i in range(size)]
        got = np.full(sum(incoming), 99.0)
        call(comm, "Alltoallv", [np.concatenate(sent), table[rank]], [got, incoming])
        w, doubles = np.full(sum(incoming), 99.0), ["d"] * size
        outgoing = [np.concatenate(sent), table[rank], in_bytes(table[rank]), doubles]
        call(comm, "Alltoallw", outgoing, [w, (incoming, in_bytes(incoming)), doubles])
        return got, w

    for rank, (got, w) in enumerate(run(main, size, schedule=schedule)):
        expected = np.concatenate([blocks[i][rank] for i in range(size)])
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(w, expected)


@schedules
@each_form
@given(data=st.data(), size=ranks, in_place=st.booleans())
@few
def test_even_blocks_are_moved_by_every_form(
    schedule: Any, call: Form, data: Any, size: int, in_place: bool
) -> None:
    n, root = data.draw(st.integers(0, 4)), data.draw(st.integers(0, size - 1))
    short, long = [numbers(r, n) for r in range(size)], [numbers(9 + r, n * size) for r in range(size)]

    def main(comm: VirtualComm) -> Any:
        rank, is_root = comm.rank, comm.rank == root
        mine = slice(rank * n, (rank + 1) * n)
        everybody, dealt, joined = np.full((3, n * size), 99.0)
        cast, block = short[rank].copy(), np.full(n, 99.0)
        if in_place:
            everybody[mine] = joined[mine] = short[rank]
            dealt[:] = long[rank]
        call(comm, "Barrier")
        call(comm, "Bcast", cast, root)
        call(comm, "Allgather", IN_PLACE if in_place else short[rank], everybody)
        call(comm, "Alltoall", IN_PLACE if in_place else long[rank], dealt)
        again = long[rank].copy()
        call(comm, "Alltoallv", IN_PLACE, [again, n])
        np.testing.assert_array_equal(again, dealt)
        own: Any = IN_PLACE if in_place and is_root else short[rank]
        call(comm, "Gather", own, joined if is_root else None, root)
        call(comm, "Scatter", long[rank] if is_root else None, block, root)
        return cast, everybody, dealt, joined, block

    results = run(main, size, schedule=schedule)
    for rank, (cast, everybody, dealt, _, block) in enumerate(results):
        mine = slice(rank * n, (rank + 1) * n)
        np.testing.assert_array_equal(cast, short[root])
        np.testing.assert_array_equal(everybody, np.concatenate(short))
        np.testing.assert_array_equal(dealt, np.concatenate([x[mine] for x in long]))
        np.testing.assert_array_equal(block, long[root][mine])
    np.testing.assert_array_equal(results[root][3], np.concatenate(short))


@schedules
def test_what_was_sent_may_be_changed_as_soon_as_the_call_returns(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        if comm.rank != comm.size - 1:
            comm.Barrier()
        else:  # the root comes last, and goes on first
            comm.Barrier()
        whole, block, cast = np.arange(6.0), np.zeros(2), np.full(2, float(comm.rank))
        comm.Scatter(whole, block, comm.size - 1)
        whole[:] = -1
        comm.Bcast(cast, comm.size - 1)
        got = cast.copy()
        cast[:] = -1
        return block, got

    for rank, (block, got) in enumerate(run(main, 3, schedule=schedule)):
        np.testing.assert_array_equal(block, [2 * rank, 2 * rank + 1])
        np.testing.assert_array_equal(got, [2, 2])


# -- reducing ------------------------------------------------------------------------------------------------


@schedules
@each_form
@given(data=st.data(), size=ranks, in_place=st.booleans())
@few
def test_reductions_add_in_rank_order_to_the_last_bit(
    schedule: Any, call: Form, data: Any, size: int, in_place: bool
) -> None:
    counts = data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    root, seed = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 99))
    xs = list(reals(seed, size, sum(counts)))
    even = list(reals(seed + 1, size, 2 * size))

    def main(comm: VirtualComm) -> Any:
        x, is_root = xs[comm.rank], comm.rank == root
        start = x if in_place else np.full_like(x, 99)
        got = {name: start.copy() for name in ("all", "root", "scan", "exscan")}
        own = x.copy() if in_place else np.zeros(counts[comm.rank])
        block = even[comm.rank].copy() if in_place else np.zeros(2)
        send: Any = IN_PLACE if in_place else x
        call(comm, "Allreduce", send, got["all"])
        call(comm, "Reduce", send if is_root else x, got["root"] if is_root else None, SUM, root)
        call(comm, "Scan", send, got["scan"])
        call(comm, "Exscan", send, got["exscan"])
        call(comm, "Reduce_scatter", send, own, counts)
        call(comm, "Reduce_scatter_block", IN_PLACE if in_place else even[comm.rank], block)
        if not in_place:
            again = np.zeros(counts[comm.rank])
            call(comm, "Reduce_scatter", x, again)  # counts are the receive buffers'
            np.testing.assert_array_equal(again, own)
        return got, own[: counts[comm.rank]], block[:2]

    total, ends = in_rank_order(xs), np.cumsum(counts)
    results = run(main, size, schedule=schedule)
    for rank, (got, own, block) in enumerate(results):
        np.testing.assert_array_equal(got["all"], total)
        np.testing.assert_array_equal(got["scan"], in_rank_order(xs[: rank + 1]))
        before = in_rank_order(xs[:rank]) if rank else xs[0] if in_place else np.full_like(total, 99)
        np.testing.assert_array_equal(got["exscan"], before)
        np.testing.assert_array_equal(own, total[ends[rank] - counts[rank] : ends[rank]])
        np.testing.assert_array_equal(block, in_rank_order(even)[2 * rank : 2 * rank + 2])
    np.testing.assert_array_equal(results[root][0]["root"], total)


@schedules
@each_form
@given(size=ranks, commute=st.booleans(), seed=st.integers(0, 99))
@few
def test_a_function_of_ones_own_reduces_in_rank_order(
    schedule: Any, call: Form, size: int, commute: bool, seed: int
) -> None:
    matrices = reals(seed, size, 2, 2)

    def multiply(a: Any, b: Any, datatype: Any) -> None:
        left, right = (np.frombuffer(memory, "f8").reshape(2, 2) for memory in (a, b))
        np.frombuffer(b, "f8")[:] = (left @ right).ravel()

    def main(comm: VirtualComm) -> Any:
        op = Op.Create(multiply, commute)
        product, upto = np.zeros((2, 2)), np.zeros((2, 2))
        call(comm, "Allreduce", matrices[comm.rank], product, op)
        call(comm, "Scan", matrices[comm.rank], upto, op)
        op.Free()
        return product, upto

    expected = matrices[0]
    for rank, (product, upto) in enumerate(run(main, size, schedule=schedule)):
        expected = expected @ matrices[rank] if rank else expected
        np.testing.assert_array_equal(upto, expected)
        if rank == size - 1:
            np.testing.assert_array_equal(product, expected)


@schedules
@given(size=ranks, count=st.integers(1, 5), seed=st.integers(0, 99))
@few
def test_the_extreme_comes_with_the_lowest_place_where_it_is(
    schedule: Any, size: int, count: int, seed: int
) -> None:
    values = np.random.default_rng(seed).integers(0, 3, (size, count)).astype("f8")
    pair = TYPES["DOUBLE_INT"]

    def main(comm: VirtualComm) -> Any:
        mine = np.zeros(count, [("value", "f8"), ("index", "i4"), ("gap", "V4")])
        mine["value"], mine["index"] = values[comm.rank], comm.rank
        got = [np.zeros_like(mine) for _ in range(2)]
        for op, result in zip((MAXLOC, MINLOC), got, strict=True):
            comm.Allreduce([mine, count, pair], [result, count, pair], op)
        objects = comm.allreduce((values[comm.rank, 0], comm.rank), MAXLOC)
        return [(result["value"].tolist(), result["index"].tolist()) for result in got], objects

    for (largest, smallest), objects in run(main, size, schedule=schedule):
        assert largest == (values.max(0).tolist(), values.argmax(0).tolist())
        assert smallest == (values.min(0).tolist(), values.argmin(0).tolist())
        assert objects == (values[:, 0].max(), values[:, 0].argmax())


# -- types ---------------------------------------------------------------------------------------------------


@schedules
@each_form
@given(size=ranks, rows=st.integers(1, 4), root=st.integers(0, 4))
@few
def test_columns_are_gathered_into_rows_and_back(
    schedule: Any, call: Form, size: int, rows: int, root: int
) -> None:
    root %= size

    def main(comm: VirtualComm) -> Any:
        column = TYPES["DOUBLE"].Create_vector(rows, 1, size).Create_resized(0, 8).Commit()
        matrix = np.arange(float(rows * size)).reshape(rows, size) + 100 * comm.rank
        mine = np.zeros(rows)
        call(comm, "Scatter", [matrix, 1, column] if comm.rank == root else None, mine, root)
        joined = np.full((rows, size), 99.0)
        call(comm, "Allgather", mine, [joined, 1, column])
        call(comm, "Alltoall", np.repeat(matrix[0], rows), [matrix, 1, column])
        return mine, joined, matrix

    whole = np.arange(float(rows * size)).reshape(rows, size) + 100 * root
    for rank, (mine, joined, matrix) in enumerate(run(main, size, schedule=schedule)):
        np.testing.assert_array_equal(mine, whole[:, rank])
        np.testing.assert_array_equal(joined, whole)
        np.testing.assert_array_equal(matrix, np.tile(rank + 100.0 * np.arange(size), (rows, 1)))


# -- neighbours ----------------------------------------------------------------------------------------------


@schedules
@each_form
@given(
    dims=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    periods=st.lists(st.booleans(), min_size=2, max_size=2),
)
@few
def test_neighbours_in_a_grid_swap_what_faces_each_other(
    schedule: Any, call: Form, dims: list[int], periods: list[bool]
) -> None:
    size, n = int(np.prod(dims)), 2 * len(dims)

    def block(rank: int, direction: int) -> Array:
        return np.array([100.0 * rank + direction, 7.0])

    def main(comm: VirtualComm) -> Any:
        grid = comm.Create_cart(dims, periods[: len(dims)])
        sent = np.concatenate([block(grid.rank, direction) for direction in range(n)])
        got, heard, v = np.full((3, 2 * n), -1.0)
        call(grid, "Neighbor_alltoall", sent, got)
        call(grid, "Neighbor_alltoallv", [sent, [2] * n], [v, [2] * n])
        call(grid, "Neighbor_allgather", block(grid.rank, 50), heard)
        objects = grid.neighbor_alltoall([(grid.rank, direction) for direction in range(n)])
        return got, v, heard, objects, grid.neighbor_allgather(grid.rank)

    places = np.arange(size).reshape(dims)
    for rank, (got, v, heard, objects, names) in enumerate(run(main, size, schedule=schedule)):
        where = np.argwhere(places == rank)[0]
        for direction in range(n):  # 0: from the one before in the first dimension, 1: from the one behind, …
            dim, step = direction // 2, 2 * (direction % 2) - 1
            there, mine = where.copy(), slice(2 * direction, 2 * direction + 2)
            there[dim] += step
            if not periods[dim] and not 0 <= there[dim] < dims[dim]:
                assert (got[mine] == -1).all()
                assert (heard[mine] == -1).all()
                assert objects[direction] is names[direction] is None
                continue
            other = int(places[tuple(there % dims)])
            np.testing.assert_array_equal(got[mine], block(other, direction ^ 1))
            np.testing.assert_array_equal(heard[mine], block(other, 50))
            assert (objects[direction], names[direction]) == ((other, direction ^ 1), other)
        np.testing.assert_array_equal(got, v)


@schedules
@given(data=st.data(), size=ranks)
@few
def test_neighbours_in_a_graph_are_heard_in_the_order_in_which_they_are_named(
    schedule: Any, data: Any, size: int
) -> None:
    edges = data.draw(st.lists(st.tuples(*[st.integers(0, size - 1)] * 2), max_size=8))  # (from, to)

    def main(comm: VirtualComm) -> Any:
        sources = [a for a, b in edges if b == comm.rank]
        destinations = [b for a, b in edges if a == comm.rank]
        graph = comm.Create_dist_graph_adjacent(sources, destinations)
        got = np.full(len(sources), -1)
        graph.Neighbor_alltoall(np.array([i for i, (a, _) in enumerate(edges) if a == comm.rank], int), got)
        return got.tolist(), graph.neighbor_allgather(comm.rank)

    for rank, (got, heard) in enumerate(run(main, size, schedule=schedule)):
        assert got == [i for i, (_, b) in enumerate(edges) if b == rank]
        assert heard == [a for a, b in edges if b == rank]


# -- two groups ----------------------------------------------------------------------------------------------


@schedules
@each_form
@given(first=st.integers(1, 3), second=st.integers(1, 3), root=st.integers(0, 2), side=st.integers(0, 1))
@few
def test_between_two_groups_each_hears_the_other(
    schedule: Any, call: Form, first: int, second: int, root: int, side: int
) -> None:
    sizes = [first, second]
    root %= sizes[side]

    def main(comm: VirtualComm) -> Any:
        own = int(comm.rank >= first)
        group = comm.Split(own)
        assert group is not None
        inter = group.Create_intercomm(0, comm, 0 if own else first)
        name = np.array([10.0 * own + group.rank])
        there = sizes[1 - own]
        heard, dealt, total, cast, gathered = np.full((5, there), -1.0)
        call(inter, "Allgather", name, heard)
        call(inter, "Alltoall", np.repeat(name, there), dealt)
        call(inter, "Allreduce", name, total[:1])
        if own != side:
            call(inter, "Bcast", cast[:1], root)
            call(inter, "Gather", name, None, root)
        elif group.rank == root:
            call(inter, "Bcast", name, ROOT)
            call(inter, "Gather", None, gathered, ROOT)
        else:
            call(inter, "Bcast", None, PROC_NULL)
            call(inter, "Gather", None, None, PROC_NULL)
        return heard, dealt, total[0], cast[0], gathered, inter.allgather(name[0])

    for rank, (heard, dealt, total, cast, gathered, objects) in enumerate(
        run(main, first + second, schedule=schedule)
    ):
        own, there = (0, 1) if rank < first else (1, 0)
        others = 10.0 * there + np.arange(sizes[there])
        np.testing.assert_array_equal(heard, others)
        np.testing.assert_array_equal(dealt, others)
        assert objects == others.tolist()
        assert total == others.sum()
        assert cast == (-1 if own == side else 10 * side + root)
        if own == side and rank - own * first == root:
            np.testing.assert_array_equal(gathered, others)


# -- calls that are under way --------------------------------------------------------------------------------


@schedules
def test_calls_meet_in_the_order_in_which_they_begin_and_end_in_any(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        results = [np.zeros(2) for _ in range(4)]
        requests = [comm.Iallreduce(np.full(2, float(i + comm.rank)), x) for i, x in enumerate(results)]
        comm.Barrier()
        for request in requests[:: 1 if comm.rank else -1]:
            request.Wait()
        return np.array(results)[:, 0].tolist()

    assert run(main, 3, schedule=schedule) == [[3, 6, 9, 12]] * 3


@schedules
def test_prepared_calls_may_be_started_in_another_order_on_each_rank(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        x, sums, tops = np.zeros(1), np.zeros(1), np.zeros(1)
        prepared = [comm.Allreduce_init(x, sums), comm.Allreduce_init(x, tops, MAX)]
        seen = []
        for turn in range(3):
            x[:] = turn + comm.rank
            order = prepared if (comm.rank + turn) % 2 else prepared[::-1]
            for request in order:
                request.Start()
            for request in order:
                request.Wait()
            seen.append((sums[0], tops[0]))
        for request in prepared:
            request.Free()
        return seen

    assert run(main, 3, schedule=schedule) == [[(3, 2), (6, 3), (9, 4)]] * 3


@schedules
def test_a_type_and_a_reduction_may_be_freed_while_a_call_that_uses_them_is_under_way(schedule: Any) -> None:
    def main(comm: VirtualComm) -> Any:
        every_other = TYPES["DOUBLE"].Create_vector(2, 1, 2).Commit()
        last = Op.Create(lambda a, b, datatype: None)  # b stays as it is
        x, y = np.arange(4.0) * (comm.rank == 0), np.zeros(2)
        requests = [comm.Ibcast([x, 1, every_other]), comm.Iallreduce(np.full(2, comm.rank + 1.0), y, last)]
        every_other.Free()
        last.Free()
        Request.Waitall(requests)
        return x.tolist(), y.tolist()

    assert run(main, 2, schedule=schedule) == [([0, 1, 2, 3], [2, 2]), ([0, 0, 2, 0], [2, 2])]


@schedules
@pytest.mark.parametrize("touched", ["send", "receive"])
@pytest.mark.parametrize("late", [False, True], ids=["before all came", "after"])
def test_a_buffer_that_is_changed_in_flight_is_told(schedule: Any, touched: str, late: bool) -> None:
    def main(comm: VirtualComm) -> Any:
        buffers = {"send": np.ones(2), "receive": np.zeros(2)}
        if comm.rank == 1 and not late:
            comm.recv(source=0)
        request = comm.Iallreduce(buffers["send"], buffers["receive"])
        if comm.rank == 0:
            if late:
                comm.Barrier()
            buffers[touched][1] = 5
            if not late:
                comm.send(None, 1)
        elif late:
            comm.Barrier()
        try:
            request.Wait()
        except InFlightError as error:
            return str(error)
        return ""

    told, silent = run(main, 2, schedule=schedule, check=True)
    assert "Iallreduce: a buffer was changed while it was in flight (begun at test_virtual_coll" in told
    assert silent == ""


# -- mistakes ------------------------------------------------------------------------------------------------


@schedules
@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (
            lambda c: c.Allgatherv(np.zeros(2), [np.zeros(6), [2, 2, 1 + c.rank % 2]]),
            "Allgatherv: rank 2 sends 2 × float64, and rank 0 receives 1 × float64 from it; make counts",
        ),
        (
            lambda c: c.Allgatherv(np.zeros(1, "f4" if c.rank else "f8"), [np.zeros(3), 1]),
            "rank 1 sends 1 × float32, and rank 0 receives 1 × float64 from it",
        ),
        (
            lambda c: c.Alltoallv([np.zeros(3), 1], [np.zeros(3, "f4"), 1]),
            "sends 1 × float64, and rank 0 receives 1 × float32 from it; make counts and types equal",
        ),
        (
            lambda c: c.Gatherv(np.zeros(1), [np.zeros(3), 1] if c.rank < 2 else None, min(c.rank, 1)),
            "rank 0: Gatherv\\(root 0\\)",
        ),
        (
            lambda c: (
                c.Iallreduce(np.zeros(1), np.zeros(1)).Wait()
                if c.rank
                else c.Allreduce(np.zeros(1), np.zeros(1))
            ),
            "the ranks call different collectives",
        ),
        (
            lambda c: c.Reduce_scatter(np.zeros(6), np.zeros([2, 2, 1][c.rank])),
            "6 elements are reduced, and the ranks take 5 of them; let the receive counts add up",
        ),
        (
            lambda c: c.Create_dist_graph_adjacent([1] if c.rank == 0 else [], []).neighbor_allgather(0),
            "rank 0 awaits data from rank 1, which sends it none; let .* neighbours name each other",
        ),
    ],
)
def test_ranks_that_ask_for_different_things_are_told_so_at_once(
    schedule: Any, mistake: Any, words: str
) -> None:
    with pytest.raises(CollectiveMismatchError, match=words):
        run(mistake, 3, schedule=schedule)


def test_arguments_that_make_no_sense_are_refused_before_anybody_waits() -> None:
    calls: list[tuple[Callable[[VirtualComm], Any], str]] = [
        (
            lambda c: c.Reduce_scatter(np.zeros(3), np.zeros(1), [1, 1]),
            r"recvcounts \[1, 1\] for 2 ranks and 3",
        ),
        (lambda c: c.Reduce_scatter(IN_PLACE, np.zeros(3)), "pass recvcounts"),
        (
            lambda c: c.Igatherv(np.zeros(1), np.zeros(2), -1),
            "Igatherv: root -1 is not .* pick 0 to 1",
        ),
        (lambda c: c.Scan(np.zeros(2), np.zeros(3)), r"make it 2 × float64"),
    ]
    for call, words in calls:
        with pytest.raises(ValueError, match=words):
            run(call, 2)


def test_the_forms_of_a_collective_are_documented_alike() -> None:
    import inspect

    for name in ("Gatherv", "Igatherv", "Gatherv_init"):
        method = getattr(VirtualComm, name)
        assert method.__name__ == name
        assert list(inspect.signature(method).parameters) == ["self", "sendbuf", "recvbuf", "root"]
        assert method.__doc__ == VirtualComm.Gatherv.__doc__ != ""
