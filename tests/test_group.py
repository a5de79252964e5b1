"""`Group`: every collective against NumPy, in both forms, under both schedules, bit for bit alike."""

import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tpsim.comm import CollectiveMismatchError, Group, Handle, TruncationError, run, solo
from tpsim.comm.algorithms import ALGORITHMS
from tpsim.trace import Trace, scope

Array: TypeAlias = NDArray[Any]

SCHEDULES = ["lockstep", "free"]
schedules = pytest.mark.parametrize("schedule", SCHEDULES)
forms = pytest.mark.parametrize("messages", [False, True], ids=["meeting", "messages"])
few = settings(deadline=None, max_examples=20)
LAYOUTS: list[Callable[[Array], Array]] = [
    np.ascontiguousarray,
    np.asfortranarray,
    lambda x: np.repeat(x[..., None], 2, -1)[..., 0],  # strided
    lambda x: np.flip(np.flip(x).copy()),  # backwards
]


def filled(seed: int, shape: tuple[int, ...], dtype: str, *, whole: bool = False) -> Array:
    """Random numbers; whole ones can be summed in any order without rounding."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    return (rng.integers(-99, 99, shape) if whole or "int" in dtype else rng.normal(size=shape)).astype(dtype)


@st.composite
def cases(draw: st.DrawFn) -> Any:
    """Ranks, an algorithm, a shape whose axis the ranks divide, that axis, a dtype and an operation."""
    ranks = draw(st.integers(1, 9))
    shape = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    shape[axis] *= ranks
    dtype = draw(st.sampled_from(["float32", "float64", "int64", "bool"]))
    op = draw(st.sampled_from(["max", "min"] if dtype == "bool" else ["sum", "max", "min"]))
    return ranks, draw(st.sampled_from([*ALGORITHMS, "mpi"])), tuple(shape), axis, dtype, op


@schedules
@forms
@given(case=cases(), shift=st.integers(0, 3))
@few
def test_collectives_give_what_numpy_gives(schedule: Any, messages: bool, case: Any, shift: int) -> None:
    ranks, algorithm, shape, axis, dtype, op = case
    xs = [filled(rank, shape, dtype, whole=True) for rank in range(ranks)]
    root, join = shift % ranks, shift % len(shape)

    def main(comm: Any) -> list[Array]:
        group = Group(comm, algorithm, messages=messages)
        x = LAYOUTS[(comm.rank + shift) % len(LAYOUTS)](xs[comm.rank])  # its own layout on each rank
        np.testing.assert_array_equal(x, xs[comm.rank])
        results = [
            group.all_reduce(x, op),
            group.all_gather(x, axis),
            group.reduce_scatter(x, axis, op),
            group.broadcast(x, root),
            group.all_to_all(x, axis, join),
        ]
        group.barrier()
        np.testing.assert_array_equal(x, xs[comm.rank])
        for result in results:
            assert result.flags.c_contiguous
            assert not np.shares_memory(result, x)
        return results

    numpys: dict[str, Any] = {"sum": np.sum, "max": np.max, "min": np.min}
    reduced = numpys[op](xs, axis=0)
    for rank, got in enumerate(run(main, ranks, schedule=schedule)):
        dealt = [np.split(x, ranks, axis)[rank] for x in xs]
        expected = [
            reduced,
            np.concatenate(xs, axis),
            np.split(reduced, ranks, axis)[rank],
            xs[root],
            np.concatenate(dealt, join),
        ]
        for result, right in zip(got, expected, strict=True):
            assert result.dtype == dtype
            np.testing.assert_array_equal(result, right)


@given(case=cases(), start=st.booleans())
@few
def test_both_forms_and_both_schedules_give_the_same_bits(case: Any, start: bool) -> None:
    ranks, algorithm, shape, axis, dtype, op = case

    def main(comm: Any, messages: bool) -> list[Any]:
        group = Group(comm, algorithm, messages=messages)
        x = filled(comm.rank, shape, dtype)
        if not start:
            return [group.all_reduce(x, op), group.reduce_scatter(x, axis, op)]
        handles = [group.iall_reduce(x, op), group.ireduce_scatter(x, axis, op)]
        return [handle.wait() for handle in handles]

    schedules: list[Any] = ["lockstep", "free"]
    forms = [False] if algorithm == "mpi" else [False, True]
    first, *others = [
        run(main, ranks, messages, schedule=schedule)
        for messages, schedule in itertools.product(forms, schedules)
    ]
    for other in others:
        for mine, yours in zip(first, other, strict=True):
            assert [a.tobytes() for a in mine] == [a.tobytes() for a in yours]


@given(case=cases())
@few
def test_events_say_the_bytes_that_are_sent(case: Any) -> None:
    """The closed form (of meetings) and the count (of messages) agree, and are in every event."""
    ranks, algorithm, shape, axis, dtype, op = case

    def main(comm: Any, messages: bool) -> Any:
        group = Group(comm, algorithm, name="mine", messages=messages)
        x = filled(comm.rank, shape, dtype)
        with Trace() as trace, scope("layer", "backward"):
            group.all_reduce(x, op)
            group.all_gather(x, axis)
            group.reduce_scatter(x, axis, op)
            group.broadcast(x)
            group.all_to_all(x, axis)
            group.barrier()
        for event in trace.collectives:
            assert (event.group, event.ranks, event.rank) == ("mine", ranks, comm.rank)
            assert (event.layer, event.phase) == ("layer", "backward")
            assert event.operation == "barrier" or (event.shape, event.dtype) == (shape, dtype)
            assert 0 <= event.seconds < 60
            assert 0 <= event.start < 60
            assert event.counted == (messages and algorithm != "mpi")
        return [(event.operation, event.messages, event.bytes_sent) for event in trace.collectives]

    assert run(main, ranks, False) == run(main, ranks, True)


# -- results -------------------------------------------------------------------------------------------------


@schedules
@forms
def test_a_result_belongs_to_its_rank_alone(schedule: Any, messages: bool) -> None:
    def main(comm: Any) -> None:
        group, x = Group(comm, messages=messages), np.arange(4.0)
        calls: list[Callable[[Array], Array]] = [
            group.all_reduce,
            group.all_gather,
            group.reduce_scatter,
            group.broadcast,
            group.all_to_all,
        ]
        for call in calls:
            y = call(x)
            right = y.copy()
            group.barrier()
            if comm.rank == 1:
                y[...] = -1
                x[...] = -2
            group.barrier()
            if comm.rank != 1:
                np.testing.assert_array_equal(y, right)
                np.testing.assert_array_equal(x, np.arange(4.0))
            x[...] = np.arange(4.0)

    run(main, 2, schedule=schedule)
    run(main, 1, schedule=schedule)


@schedules
@forms
def test_out_takes_the_result(schedule: Any, messages: bool) -> None:
    def main(comm: Any) -> None:
        group = Group(comm, messages=messages)
        x = np.full((2, 4), comm.rank + 1.0)
        out = np.asfortranarray(np.zeros((2, 4)))
        assert group.all_reduce(x, out=out) is out
        assert group.all_reduce(x, out=x) is x
        np.testing.assert_array_equal([out, x], np.full((2, 2, 4), 3.0))
        wide = np.zeros((2, 8))
        group.all_gather(np.full((2, 4), comm.rank), 1, out=wide.astype(int))
        group.all_gather(np.full((2, 4), float(comm.rank)), 1, out=wide)
        np.testing.assert_array_equal(wide[0], [0, 0, 0, 0, 1, 1, 1, 1])
        half = np.zeros((2, 2))
        handle = group.ireduce_scatter(x, 1, out=half)
        assert handle.wait() is handle.wait() is half
        np.testing.assert_array_equal(half, np.full((2, 2), 6.0))
        scalar = np.array(float(comm.rank))
        assert group.all_reduce(scalar, out=scalar).shape == ()
        assert scalar == 1

    run(main, 2, schedule=schedule)


def test_an_out_that_does_not_fit_is_refused_before_anything_is_sent() -> None:
    x = np.zeros((2, 4))
    calls: list[Callable[[Group], Array]] = [
        lambda group: group.all_reduce(x, out=np.zeros((1, 4))),
        lambda group: group.all_reduce(x[:1], out=np.zeros((2, 4))),
        lambda group: group.all_reduce(x, out=np.zeros((2, 4), "f4")),
        lambda group: group.all_gather(x, out=x),
        lambda group: group.reduce_scatter(x, out=x),
        lambda group: group.broadcast(x, out=np.zeros(8)),
        lambda group: group.all_to_all(x, 1, 0, out=x),
        lambda group: group.recv(x, 0, out=np.zeros(8)),
        lambda group: group.all_reduce(x, out=[0.0]),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(
            ValueError, match=r"out is .*, and the result has shape .*; make out an array like"
        ):
            run(lambda comm, call=call: call(Group(comm)), 2)


def test_a_scalar_and_an_empty_array_are_arrays_too() -> None:
    def main(comm: Any) -> Any:
        group = Group(comm)
        assert group.all_reduce(np.float32(comm.rank)).dtype == "float32"  # type: ignore[arg-type]
        assert group.all_gather(np.zeros((0, 2)), 1).shape == (0, 6)
        return float(group.all_reduce(np.array(1.5))), group.broadcast(np.array(comm.rank), 2).item()

    assert run(main, 3) == [(4.5, 2)] * 3


def test_one_rank_alone_needs_no_run() -> None:
    group, x = solo(), np.arange(3.0)
    for y in (group.all_reduce(x), group.all_gather(x), group.reduce_scatter(x), group.broadcast(x)):
        np.testing.assert_array_equal(y, x)
        assert not np.shares_memory(x, y)
    group.barrier()
    with Trace() as trace:
        group.iall_reduce(x).wait()
    assert trace.collectives[0].bytes_sent == 0


# -- non-blocking --------------------------------------------------------------------------------------------


@schedules
@forms
@given(
    order=st.permutations(range(5)),
    algorithm=st.sampled_from(sorted(ALGORITHMS)),
    ranks=st.integers(1, 5),
    tests=st.lists(st.integers(0, 4), max_size=6),
)
@few
def test_handles_may_be_waited_for_in_any_order(
    schedule: Any, messages: bool, order: list[int], algorithm: str, ranks: int, tests: list[int]
) -> None:
    def main(comm: Any) -> list[Array]:
        group = Group(comm, algorithm, messages=messages)
        x = np.arange(2.0 * ranks) + comm.rank
        handles = [
            group.iall_reduce(x),
            group.iall_gather(x),
            group.ireduce_scatter(x),
            group.ibroadcast(x, ranks - 1),
            group.iall_to_all(x),
        ]
        for position in tests:
            handles[position].test()
        turn = order if comm.rank % 2 == 0 else range(5)
        for position in turn:
            handles[position].wait()
        return [handle.wait() for handle in handles]

    xs = [np.arange(2.0 * ranks) + rank for rank in range(ranks)]
    total = np.sum(xs, axis=0)
    for rank, got in enumerate(run(main, ranks, schedule=schedule)):
        own = slice(2 * rank, 2 * rank + 2)
        right = [total, np.concatenate(xs), total[own], xs[-1], np.concatenate([x[own] for x in xs])]
        for result, expected in zip(got, right, strict=True):
            np.testing.assert_array_equal(result, expected)


@schedules
@forms
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_loop_of_tests_ends(schedule: Any, messages: bool, algorithm: str) -> None:
    def main(comm: Any) -> Any:
        group = Group(comm, algorithm, messages=messages)
        handles = [group.iall_reduce(np.full(7, float(comm.rank + i))) for i in range(3)]
        while not all([handle.test() for handle in handles]):  # noqa: C419 (each must make progress)
            pass
        return [handle.wait()[0] for handle in handles]

    assert run(main, 4, schedule=schedule) == [[6, 10, 14]] * 4


@forms
def test_an_event_belongs_to_the_layer_that_began_its_call(messages: bool) -> None:
    def main(comm: Any) -> Any:
        group = Group(comm, messages=messages)
        with Trace() as trace:
            with scope("early", "forward"):
                handle = group.iall_reduce(np.ones(3))
            with scope("late", "backward"):
                handle.wait()
                handle.wait()
        return [(event.layer, event.phase) for event in trace.collectives]

    assert run(main, 2) == [[("early", "forward")]] * 2


@schedules
@forms
def test_a_failed_handle_fails_again_and_the_group_goes_on(schedule: Any, messages: bool) -> None:
    def main(comm: Any) -> Any:
        group = Group(comm, messages=messages)
        handle: Handle = group.iall_reduce(np.ones(2 + comm.rank))
        for _ in range(3):
            with pytest.raises(CollectiveMismatchError, match="shapes differ"):
                handle.wait()
        assert handle.test()
        with pytest.raises(CollectiveMismatchError):
            group.all_reduce(np.ones(2), "sum" if comm.rank else "max")
        return group.all_reduce(np.ones(1))[0]

    assert run(main, 3, schedule=schedule) == [3.0] * 3


# -- point to point and parts --------------------------------------------------------------------------------


@schedules
@pytest.mark.parametrize("check", [True, False])
def test_send_and_recv_carry_any_layout(schedule: Any, check: bool) -> None:
    def main(comm: Any) -> Any:
        group = Group(comm, check=check)
        left, right = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
        x = np.arange(6.0).reshape(2, 3) + comm.rank
        sent = [group.isend(np.asfortranarray(x), right), group.isend(x[:, ::2], right, tag=1)]
        with Trace() as trace:
            y = group.irecv(np.empty((2, 3)), left).wait()
            z = group.recv(np.empty((2, 2)), left, tag=1)
            for handle in sent:
                handle.wait()
        np.testing.assert_array_equal(y, np.arange(6.0).reshape(2, 3) + left)
        np.testing.assert_array_equal(z, y[:, ::2])
        return [(e.operation, e.bytes_sent, e.messages, e.counted) for e in trace.collectives]

    events = [("recv", 0, 0, True), ("recv", 0, 0, True), ("send", 48, 1, True), ("send", 32, 1, True)]
    assert run(main, 3, schedule=schedule) == [events] * 3


@schedules
def test_recv_refuses_another_shape_or_dtype(schedule: Any) -> None:
    def main(comm: Any, like: Array) -> None:
        group = Group(comm)
        if comm.rank == 0:
            group.send(np.zeros((2, 3)), 1)
        else:
            group.recv(like, 0)

    for like in (np.zeros((3, 2)), np.zeros((2, 3), "f4"), np.zeros(2)):
        with pytest.raises(TruncationError, match=r"rank 0 sent shape \(2, 3\), float64; rank 1 receives"):
            run(main, 2, like, schedule=schedule)


@schedules
@forms
def test_parts_of_a_group_are_groups(schedule: Any, messages: bool) -> None:
    def main(comm: Any) -> Any:
        group = Group(comm, "tree", messages=messages)
        pair = group.neighbours(2)
        assert pair is group.neighbours(2)
        odd = group.split(comm.rank % 2, "odd and even")
        assert (pair.name, odd.name, odd.algorithm) == ("tp/2", "odd and even", "tree")
        x = np.array([10.0**comm.rank])
        return pair.all_reduce(x)[0], odd.all_reduce(x)[0], group.all_reduce(x)[0]

    assert run(main, 4, schedule=schedule) == [
        (11, 101, 1111),
        (11, 1010, 1111),
        (1100, 101, 1111),
        (1100, 1010, 1111),
    ]


# -- errors --------------------------------------------------------------------------------------------------

X = np.zeros((3, 4))
MEAN: Any = "mean"
WRONG: list[tuple[Callable[[Group], object], type[Exception], str]] = [
    (
        lambda g: g.all_reduce(X, MEAN),
        ValueError,
        r"all_reduce: reduction 'mean' is not known; pick one of sum, max, min",
    ),
    (lambda g: g.all_gather(X, 2), ValueError, r"axis 2 is not an axis of shape \(3, 4\); pick -2 to 1"),
    (lambda g: g.reduce_scatter(X, -3), ValueError, r"axis -3 is not an axis of shape \(3, 4\)"),
    (lambda g: g.all_gather(np.zeros(())), ValueError, r"a 0-d array has no axis; pass x.reshape\(1\)"),
    (lambda g: g.reduce_scatter(X), ValueError, r"axis 0 .* length 3, not divisible by 2 ranks; pad it to 4"),
    (lambda g: g.all_to_all(X), ValueError, r"all_to_all: .* not divisible by 2 ranks; pad"),
    (lambda g: g.broadcast(X, 2), ValueError, r"broadcast: root 2 is not a rank of .*; pick 0 to 1"),
    (lambda g: g.send(X, -1), ValueError, r"send: to -1 is not a rank of .*; pick 0 to 1"),
    (lambda g: g.recv(X, 2), ValueError, r"recv: source 2 is not a rank"),
    (lambda g: g.send(X, 1, tag=-1), ValueError, r"tag -1 is negative"),
    (lambda g: g.all_reduce(1.0), TypeError, r"a float is not an array.*pass a NumPy array"),  # type: ignore[arg-type]
    (lambda g: g.all_gather([1.0]), TypeError, r"all_gather: a list is not an array"),  # type: ignore[arg-type]
    (lambda g: g.reduce_scatter([1.0]), TypeError, r"reduce_scatter: a list is not an array"),  # type: ignore[arg-type]
    (lambda g: g.broadcast(None), TypeError, r"a NoneType is not an array"),  # type: ignore[arg-type]
    (lambda g: g.send([1], 0), TypeError, r"send: a list is not an array"),  # type: ignore[arg-type]
    (lambda g: g.all_reduce(np.array([{}])), TypeError, r"dtype object holds Python objects.*convert"),
    (lambda g: g.neighbours(3), ValueError, r"2 ranks can't be cut into groups of 3; pick a divisor"),
    (lambda g: g.split(-1, "x"), ValueError, r"split: color -1 is negative; pick 0 or more"),
    (lambda g: Group(g._comm, "rings"), ValueError, r"algorithm 'rings' is not known; pick one of ring"),
    (lambda g: Group(None), TypeError, r"a NoneType is not a communicator; pass the one that main got"),
]


@forms
@pytest.mark.parametrize("wrong", WRONG, ids=[pattern for _, _, pattern in WRONG])
def test_wrong_arguments_are_explained(messages: bool, wrong: Any) -> None:
    call, kind, words = wrong
    with pytest.raises(kind, match=words):
        run(lambda comm: call(Group(comm, messages=messages)), 2)
