"""The collective algorithms, driven by a mailbox of a page, and judged by plain NumPy."""

import random
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tpsim.comm.algorithms import ALGORITHMS, Algorithm, Port, Steps, get
from tpsim.comm.algorithms.chunks import bounds, split
from tpsim.comm.algorithms.closed_form import Sent, sent
from tpsim.comm.algorithms.fused import BLOCK
from tpsim.comm.algorithms.pairwise import all_to_all

Array: TypeAlias = NDArray[Any]


@dataclass(eq=False)
class Letter:
    """A request: half of a message, done when its other half is there too."""

    buffer: Array
    outgoing: bool
    done: bool = False


@dataclass
class Window:
    """The port of one rank."""

    office: "Mailbox"
    rank: int
    size: int

    def send(self, buffer: Array, to: int) -> Letter:
        return self.office.post(self.rank, to, self.rank, Letter(buffer, outgoing=True))

    def recv(self, buffer: Array, source: int) -> Letter:
        letter = self.office.post(source, self.rank, self.rank, Letter(buffer, outgoing=False))
        if not letter.done:
            buffer[...] = 99  # not to be read before the message is there
        return letter


Queues: TypeAlias = dict[tuple[int, int], deque[Letter]]


@dataclass
class Mailbox:
    """Carries messages without any buffering: a send waits for its receive, and is read only then."""

    sends: Queues = field(default_factory=lambda: defaultdict(deque))
    receives: Queues = field(default_factory=lambda: defaultdict(deque))
    under_way: dict[int, list[Letter]] = field(default_factory=lambda: defaultdict(list))
    sent: dict[int, Sent] = field(default_factory=lambda: defaultdict(lambda: Sent(0, 0)))

    def post(self, source: int, to: int, owner: int, letter: Letter) -> Letter:
        buffer = letter.buffer
        assert source != to, "a rank writes to itself"
        assert buffer.ndim == 1
        assert buffer.flags.c_contiguous
        assert buffer.size, "an empty message"
        self.under_way[owner] = [other for other in self.under_way[owner] if not other.done]
        for other in self.under_way[owner]:
            both_only_read = letter.outgoing and other.outgoing
            assert both_only_read or not np.shares_memory(buffer, other.buffer), (
                "overlaps a request under way"
            )
        self.under_way[owner].append(letter)
        if letter.outgoing:
            self.sent[source] += Sent(1, buffer.size)
        (self.sends if letter.outgoing else self.receives)[source, to].append(letter)
        self.deliver(source, to)
        return letter

    def deliver(self, source: int, to: int) -> None:
        outgoing, incoming = self.sends[source, to], self.receives[source, to]
        while outgoing and incoming:
            a, b = outgoing.popleft(), incoming.popleft()
            assert a.buffer.size == b.buffer.size, f"{source} → {to}: lengths differ"
            b.buffer[...] = a.buffer
            a.done = b.done = True

    def run(self, size: int, start: Callable[[Port], Steps], seed: int = 0) -> list[Sent]:
        """Run every rank to its end, in an order drawn from the seed; what each has sent."""
        draw = random.Random(seed)
        steps = {rank: start(Window(self, rank, size)) for rank in range(size)}
        waiting: dict[int, Sequence[Any]] = dict.fromkeys(steps, ())
        while waiting:
            ready = [r for r, requests in waiting.items() if all(letter.done for letter in requests)]
            assert ready, f"deadlock of ranks {sorted(waiting)}"
            rank = draw.choice(ready)
            try:
                waiting[rank] = next(steps[rank])
            except StopIteration:
                assert all(letter.done for letter in self.under_way[rank]), "ended before its requests"
                del waiting[rank]
        assert not any(self.sends.values()), "a message was never received"
        assert not any(self.receives.values()), "a receive was never served"
        return [self.sent[rank] for rank in range(size)]


# Each runner takes the ranks' inputs, and gives the ranks' results and what each rank sent.


def run_all_reduce(a: Algorithm, values: Sequence[Array], op: np.ufunc, seed: int = 0) -> Any:
    buffers = [value.copy() for value in values]
    figures = Mailbox().run(len(values), lambda port: a.all_reduce(port, buffers[port.rank], op), seed)
    return buffers, figures


def run_reduce_scatter(
    a: Algorithm, values: Sequence[Array], offsets: Sequence[int], op: np.ufunc, seed: int = 0
) -> Any:
    blocks = [split(value.copy(), offsets) for value in values]
    figures = Mailbox().run(len(values), lambda port: a.reduce_scatter(port, blocks[port.rank], op), seed)
    return [blocks[rank][rank] for rank in range(len(values))], figures


def run_all_gather(a: Algorithm, whole: Array, offsets: Sequence[int], seed: int = 0) -> Any:
    p = len(offsets) - 1
    buffers = [np.full_like(whole, -1) for _ in range(p)]
    for buffer, (start, stop) in zip(buffers, pairwise(offsets), strict=True):
        buffer[start:stop] = whole[start:stop]
    figures = Mailbox().run(p, lambda port: a.all_gather(port, split(buffers[port.rank], offsets)), seed)
    return buffers, figures


def run_broadcast(a: Algorithm, value: Array, p: int, root: int, seed: int = 0) -> Any:
    buffers = [value.copy() if rank == root else np.full_like(value, -1) for rank in range(p)]
    figures = Mailbox().run(p, lambda port: a.broadcast(port, buffers[port.rank], root), seed)
    return buffers, figures


def run_all_to_all(table: Sequence[Sequence[Array]], seed: int = 0) -> Any:
    p = len(table)
    incoming = [[np.full_like(table[source][rank], -1) for source in range(p)] for rank in range(p)]
    figures = Mailbox().run(p, lambda port: all_to_all(port, table[port.rank], incoming[port.rank]), seed)
    return incoming, figures


ranks = st.sampled_from([*range(1, 10), 16, 17])
counts = st.integers(0, 5) | st.integers(0, 60)
ops = st.sampled_from([np.add, np.maximum, np.minimum, np.multiply])
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=40, deadline=None)
algorithms = pytest.mark.parametrize("a", ALGORITHMS.values(), ids=ALGORITHMS)


def integers(p: int, count: int, seed: int) -> list[Array]:
    """Whole numbers, small enough to be added up or multiplied exactly in any order."""
    return list(np.random.default_rng(seed).integers(-4, 5, (p, count)).astype(np.float64))


def wild(p: int, count: int, seed: int, dtype: type) -> list[Array]:
    """Numbers of very different sizes, which add up to other bits in another order; and zeros."""
    g = np.random.default_rng(seed)
    values = g.standard_normal((p, count)) * 2.0 ** g.integers(-12, 13, (p, count))
    values[g.random((p, count)) < 0.1] *= 0.0
    return list(values.astype(dtype))


def bits(array: Array) -> bytes:
    return array.tobytes()


def uneven(p: int, count: int, seed: int) -> list[int]:
    """Offsets of p blocks of any lengths."""
    return [0, *sorted(np.random.default_rng(seed).integers(0, count + 1, p - 1).tolist()), count]


@algorithms
@given(p=ranks, count=counts, op=ops, seed=seeds)
@quick
def test_all_reduce_of_whole_numbers_is_exact(
    a: Algorithm, p: int, count: int, op: np.ufunc, seed: int
) -> None:
    values = integers(p, count, seed)
    results, _ = run_all_reduce(a, values, op, seed)
    for result in results:
        np.testing.assert_array_equal(result, op.reduce(np.stack(values), axis=0))


@algorithms
@given(p=ranks, count=counts, op=ops, seed=seeds)
@quick
def test_reduce_scatter_of_uneven_blocks_is_exact(
    a: Algorithm, p: int, count: int, op: np.ufunc, seed: int
) -> None:
    values, offsets = integers(p, count, seed), uneven(p, count, seed)
    results, _ = run_reduce_scatter(a, values, offsets, op, seed)
    np.testing.assert_array_equal(np.concatenate(results), op.reduce(np.stack(values), axis=0))


@algorithms
@given(p=ranks, count=counts, seed=seeds)
@quick
def test_all_gather_fills_every_block_on_every_rank(a: Algorithm, p: int, count: int, seed: int) -> None:
    whole = np.arange(count, dtype=np.float32)
    results, _ = run_all_gather(a, whole, uneven(p, count, seed), seed)
    for result in results:
        np.testing.assert_array_equal(result, whole)


@algorithms
@pytest.mark.parametrize("p", [*range(1, 10), 16, 17])
def test_broadcast_from_every_root_reaches_every_rank(a: Algorithm, p: int) -> None:
    for root in range(p):
        for count in (0, 1, p - 1, 2 * p + 1):
            value = np.arange(count, dtype=np.int32)
            results, figures = run_broadcast(a, value, p, root, seed=count)
            for rank, result in enumerate(results):
                np.testing.assert_array_equal(result, value)
                assert figures[rank] == sent("broadcast", a.name, rank, p, count, root)


@given(p=ranks, seed=seeds, longest=st.integers(0, 4))
@quick
def test_all_to_all_transposes_the_table_of_blocks(p: int, seed: int, longest: int) -> None:
    g = np.random.default_rng(seed)
    table = [[g.standard_normal(g.integers(0, longest + 1)) for _ in range(p)] for _ in range(p)]
    results, _ = run_all_to_all(table, seed)
    for rank in range(p):
        for source in range(p):
            np.testing.assert_array_equal(results[rank][source], table[source][rank])


@algorithms
@given(p=ranks, count=counts, op=ops, seed=seeds, dtype=st.sampled_from([np.float32, np.float64]))
@quick
def test_every_rank_has_the_bits_that_combine_gives(
    a: Algorithm, p: int, count: int, op: np.ufunc, seed: int, dtype: type
) -> None:
    values = wild(p, count, seed, dtype)
    before = [bits(value) for value in values]
    combined = a.combine(values, op)
    assert [bits(value) for value in values] == before
    assert not any(np.shares_memory(combined, value) for value in values)
    assert combined.dtype == dtype
    results, _ = run_all_reduce(a, values, op, seed)
    assert {bits(result) for result in results} == {bits(combined)}


@algorithms
@given(p=ranks, count=counts, op=ops, seed=seeds, dtype=st.sampled_from([np.float32, np.float64]))
@quick
def test_every_rank_has_the_block_that_combine_scatter_gives(
    a: Algorithm, p: int, count: int, op: np.ufunc, seed: int, dtype: type
) -> None:
    values, offsets = wild(p, count, seed, dtype), uneven(p, count, seed)
    before = [bits(value) for value in values]
    combined = a.combine_scatter(values, offsets, op)
    assert [bits(value) for value in values] == before
    results, _ = run_reduce_scatter(a, values, offsets, op, seed)
    assert [bits(result) for result in results] == [bits(block) for block in combined]


@algorithms
@pytest.mark.parametrize(("p", "count"), [(3, 3 * BLOCK // 8 + 1), (7, BLOCK // 8 + 1), (5, 3_000)])
def test_combine_in_blocks_keeps_the_bits(a: Algorithm, p: int, count: int) -> None:
    values = wild(p, count, p, np.float64)
    results, _ = run_all_reduce(a, values, np.add)
    assert bits(a.combine(values, np.add)) == bits(results[0])


def test_each_order_of_additions_has_its_own_bits() -> None:
    values = wild(8, 400, 1, np.float32)
    orders = ["ring", "recursive_doubling", "rabenseifner", "rank_order"]
    assert len({bits(ALGORITHMS[name].combine(values, np.add)) for name in orders}) == 4


@algorithms
@given(p=ranks, count=counts)
@quick
def test_each_rank_sends_what_the_closed_form_says(a: Algorithm, p: int, count: int) -> None:
    values, offsets = integers(p, count, 0), bounds(count, p)
    runs = {
        "all_reduce": run_all_reduce(a, values, np.add),
        "reduce_scatter": run_reduce_scatter(a, values, offsets, np.add),
        "all_gather": run_all_gather(a, np.arange(count, dtype=np.float64), offsets),
    }
    for operation, (_, figures) in runs.items():
        assert figures == [sent(operation, a.name, rank, p, count) for rank in range(p)], operation


@given(p=ranks, count=counts)
@quick
def test_each_rank_sends_all_to_all_what_the_closed_form_says(p: int, count: int) -> None:
    _, figures = run_all_to_all([split(np.arange(count), bounds(count, p)) for _ in range(p)])
    assert figures == [sent("all_to_all", "pairwise", rank, p, count) for rank in range(p)]


def elements_sent(name: str, p: int, count: int) -> list[int]:
    _, figures = run_all_reduce(ALGORITHMS[name], integers(p, count, 0), np.add)
    return [figure.elements for figure in figures]


def test_ring_of_5_elements_on_4_ranks_sends_8_8_7_7() -> None:
    assert elements_sent("ring", 4, 5) == [8, 8, 7, 7]


def test_recursive_doubling_on_6_ranks_sends_1_3_1_3_2_2_times_the_buffer() -> None:
    assert elements_sent("recursive_doubling", 6, 10) == [10, 30, 10, 30, 20, 20]


@pytest.mark.parametrize("p", [2, 3, 5, 8])
def test_ring_sends_two_pths_of_p_minus_1_buffers(p: int) -> None:
    assert elements_sent("ring", p, 7 * p) == [2 * (p - 1) * 7] * p


@pytest.mark.parametrize(("p", "lg"), [(2, 1), (4, 2), (8, 3), (16, 4)])
def test_recursive_doubling_sends_lg_p_buffers(p: int, lg: int) -> None:
    assert elements_sent("recursive_doubling", p, 11) == [lg * 11] * p


@pytest.mark.parametrize("p", [2, 4, 8, 16])
def test_rabenseifner_sends_as_much_as_the_ring_on_a_power_of_two(p: int) -> None:
    assert elements_sent("rabenseifner", p, 3 * p) == [2 * (p - 1) * 3] * p


@given(count=st.integers(0, 100), parts=st.integers(1, 20))
def test_bounds_cut_like_array_split(count: int, parts: int) -> None:
    whole = np.arange(count)
    for ours, numpys in zip(split(whole, bounds(count, parts)), np.array_split(whole, parts), strict=True):
        np.testing.assert_array_equal(ours, numpys)


@pytest.mark.parametrize("operation", ["all_reduce", "reduce_scatter", "all_gather", "broadcast"])
def test_mpi_is_counted_as_the_ring(operation: str) -> None:
    assert [sent(operation, "mpi", r, 5, 13) for r in range(5)] == [
        sent(operation, "ring", r, 5, 13) for r in range(5)
    ]


def test_get_returns_each_algorithm_by_its_name() -> None:
    names = ["ring", "recursive_doubling", "rabenseifner", "tree", "rank_order"]
    assert [get(name).name for name in names] == names == list(ALGORITHMS)


@pytest.mark.parametrize("name", ["rings", "mpi"])
def test_an_unknown_name_is_answered_with_the_names_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=rf"'{name}'.*'ring'.*'rank_order'.*'mpi'"):
        get(name)


def test_an_operation_without_a_formula_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'all_to_all', 'ring'.*'pairwise'"):
        sent("all_to_all", "ring", 0, 4, 8)
