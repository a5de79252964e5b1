"""What goes wrong between ranks is told: each rank, its call and its line; at once, and on every rank."""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import tpsim
from tpsim.comm import (
    CollectiveMismatchError,
    CommError,
    DeadlockError,
    Group,
    Handle,
    TruncationError,
    UnfinishedError,
    VirtualComm,
    run,
)
from tpsim.comm.virtual import Request, polling

Array: TypeAlias = NDArray[Any]

SCHEDULES = ["lockstep", "free"]
schedules = pytest.mark.parametrize("schedule", SCHEDULES)
forms = pytest.mark.parametrize("messages", [False, True], ids=["meeting", "messages"])
X = np.ones((2, 4))


def line(mark: str) -> str:
    """Return how a message names the one line of this file that ends in the comment `# mark`."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = [n for n, text in enumerate(lines, 1) if text.endswith(f"# {mark}")]
    return f"test_diagnosis.py:{number} in "


def told(kind: type[CommError], main: Callable[..., Any], ranks: int, *args: Any, schedule: Any) -> str:
    """Run, and return the text of the error that must come: at once, and the same on all ranks."""
    texts: list[str] = []

    def watched(comm: VirtualComm) -> Any:
        try:
            return main(comm, *args)
        except kind as error:
            texts.append(str(error))
            raise

    began = time.monotonic()
    with pytest.raises(kind) as caught:
        run(watched, ranks, schedule=schedule)
    assert time.monotonic() - began < 5  # a busy machine; no part of it is a timeout
    assert set(texts) <= {str(caught.value)}
    return str(caught.value)


def says(text: str, *parts: str) -> None:
    """Check that all parts are in the text, each behind the one before."""
    position = 0
    for part in parts:
        found = text.find(part, position)
        assert found >= 0, f"{part!r} is not (or not in order) in:\n{text}"
        position = found + len(part)


# -- different calls -----------------------------------------------------------------------------------------


def other_collective(group: Group) -> None:
    if group.rank == 1:
        group.all_gather(X)  # other collective: 1
    else:
        group.all_reduce(X)  # other collective: rest


def other_shape(group: Group) -> None:
    x = X[: 2 - group.rank % 2]
    group.all_reduce(x)  # other shape


def other_dtype(group: Group) -> None:
    group.broadcast(X.astype("f4" if group.rank == 2 else "f8"))  # other dtype


def other_op(group: Group) -> None:
    group.reduce_scatter(X, 1, "max" if group.rank == 0 else "sum")  # other op


def other_root(group: Group) -> None:
    group.broadcast(X, root=group.rank)  # other root


def other_axis(group: Group) -> None:
    group.all_gather(X, axis=group.rank % 2)  # other axis


def other_order(group: Group) -> None:
    calls: list[Callable[[Array], Handle]] = [group.iall_reduce, group.iall_gather]
    first, second = calls if group.rank else calls[::-1]
    handles = [
        first(X),  # other order
        second(X),
    ]
    for handle in handles:
        handle.wait()


def an_extra_barrier(group: Group) -> None:
    if group.rank == 0:
        group.barrier()  # extra barrier
    group.all_reduce(X)  # after the branch


MISMATCHES: list[tuple[Callable[[Group], None], list[str]]] = [
    (
        other_collective,
        [
            "all_gather / all_reduce: the ranks call different collectives",
            "look for a branch that depends on the rank",
            "ranks 0, 2, 3: all_reduce(shape (2, 4), float64, sum, ring)  at ",
            "other collective: rest",
            "rank 1: all_gather(shape (2, 4), float64, axis 0, ring)  at ",
            "other collective: 1",
        ],
    ),
    (
        other_shape,
        [
            "shapes differ; pad or cut",
            "ranks 0, 2: all_reduce(shape (2, 4)",
            "other shape",
            "ranks 1, 3",
            "(1, 4)",
        ],
    ),
    (other_dtype, ["dtypes differ; convert", "ranks 0, 1, 3", "float64", "other dtype", "rank 2", "float32"]),
    (other_op, ["reductions differ; use one", "rank 0", "max", "other op", "ranks 1-3", "sum"]),
    (other_root, ["roots differ; pass the same root", "rank 0", "root 0", "other root", "rank 3", "root 3"]),
    (
        other_axis,
        ["axes differ; pass the same axis", "ranks 0, 2", "axis 0", "other axis", "ranks 1, 3", "axis 1"],
    ),
    (
        other_order,
        [
            "different collectives",
            "rank 0: all_gather",
            "other order",
            "ranks 1-3: all_reduce",
            "other order",
        ],
    ),
    (
        an_extra_barrier,
        ["barrier", "rank 0: barrier(ring)", "extra barrier", "ranks 1-3: all_reduce", "after the branch"],
    ),
]
mismatches = pytest.mark.parametrize(
    ("main", "parts"), MISMATCHES, ids=[main.__name__ for main, _ in MISMATCHES]
)


@schedules
@forms
@mismatches
def test_different_calls_are_told_with_every_ranks_line(
    schedule: Any, messages: bool, main: Callable[[Group], None], parts: list[str]
) -> None:
    marks = [text.split("# ")[-1] for text in Path(__file__).read_text().splitlines() if "  # " in text]
    named = [line(part) + main.__name__ if part in marks else part for part in parts]
    says(
        told(
            CollectiveMismatchError,
            lambda comm: main(Group(comm, messages=messages)),
            4,
            schedule=schedule,
        ),
        *named,
    )


@schedules
@forms
@pytest.mark.parametrize(
    "main", [other_collective, other_shape, other_dtype, other_op, other_root, other_axis]
)
def test_a_mismatch_can_be_caught_on_every_rank_and_the_group_used_again(
    schedule: Any, messages: bool, main: Callable[[Group], None]
) -> None:
    def program(comm: VirtualComm) -> Any:
        group = Group(comm, messages=messages)
        for _ in range(2):
            with pytest.raises(CollectiveMismatchError):
                main(group)
        return group.all_reduce(np.array(comm.rank)).item()

    assert run(program, 4, schedule=schedule) == [6] * 4


@schedules
@mismatches
def test_unchecked_messages_that_differ_never_hang(
    schedule: Any, main: Callable[[Group], None], parts: list[str]
) -> None:
    began = time.monotonic()
    with suppress(DeadlockError, TruncationError, UnfinishedError):  # or wrong results: nobody checked
        run(lambda comm: main(Group(comm, messages=True, check=False)), 4, schedule=schedule)
    assert time.monotonic() - began < 5  # a busy machine; no part of it is a timeout


@schedules
@forms
def test_a_mismatch_inside_a_part_names_the_ranks_of_the_whole(schedule: Any, messages: bool) -> None:
    def main(comm: VirtualComm) -> None:
        mesh = tpsim.Mesh(comm, 2, messages=messages)
        x = np.ones(3 if comm.rank == 3 else 2)
        mesh.tp.all_reduce(x)  # in a part

    says(
        told(CollectiveMismatchError, main, 6, schedule=schedule),
        "all_reduce among ranks 2, 3: the ranks' shapes differ",
        f"rank 2: all_reduce(shape (2,), float64, sum, ring)  at {line('in a part')}main",
        "rank 3: all_reduce(shape (3,)",
    )


@schedules
def test_virtual_comms_own_collectives_are_compared_too(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        if comm.rank:
            comm.Barrier()  # own barrier
        else:
            comm.allreduce(1)  # own allreduce

    says(
        told(CollectiveMismatchError, main, 3, schedule=schedule),
        f"rank 0: allreduce(MPI_SUM)  at {line('own allreduce')}main",
        f"ranks 1, 2: Barrier()  at {line('own barrier')}main",
    )


def in_a_layer(source: str) -> dict[str, Any]:
    """Run source code as if it were the file tpsim/nn/fake.py."""
    names: dict[str, Any] = {}
    path = Path(tpsim.__file__).parent / "nn" / "fake.py"
    exec(compile(source, str(path), "exec"), names)
    return names


@schedules
@forms
def test_a_call_inside_a_layer_is_named_with_the_users_line(schedule: Any, messages: bool) -> None:
    layer = in_a_layer(
        "def forward(group, x):\n  return inner(group, x)\ndef inner(group, x):\n  group.all_reduce(x)\n"
    )

    def main(comm: VirtualComm) -> None:
        group = Group(comm, messages=messages)
        layer["forward"](group, np.ones(1 + comm.rank))  # through a layer

    text = told(CollectiveMismatchError, main, 2, schedule=schedule)
    says(text, f"  at nn/fake.py:4 in inner, called from {line('through a layer')}main")
    assert text.count("nn/fake.py") == 2


# -- deadlocks -----------------------------------------------------------------------------------------------


@schedules
@forms
def test_a_rank_that_returns_early_is_named(schedule: Any, messages: bool) -> None:
    def main(comm: VirtualComm) -> None:
        group = Group(comm, messages=messages)
        if comm.rank == 1:
            return
        group.all_reduce(X)  # waits for 1

    says(
        told(DeadlockError, main, 4, schedule=schedule),
        "deadlock: ranks 0, 2, 3 of 4 wait, the others returned, and none can go on",
        f"ranks 0, 2, 3: all_reduce(shape (2, 4), float64, sum, ring)  at {line('waits for 1')}main",
        "rank 1: returned from main",
        "rank 1 returned without calling all_reduce",
        "look for an early return, or a branch",
    )


@schedules
@forms
def test_a_call_that_others_never_join_is_named(schedule: Any, messages: bool) -> None:
    def main(comm: VirtualComm) -> None:
        group = Group(comm, messages=messages)
        if comm.rank == 0:
            handle = group.iall_reduce(X)
            comm.Barrier()
            handle.wait()  # waits alone
        else:
            comm.Barrier()
            comm.recv(source=0)  # waits for a message

    says(
        told(DeadlockError, main, 3, schedule=schedule),
        "all 3 ranks wait",
        "rank 0: all_reduce",
        line("waits alone"),
        f"ranks 1, 2: recv(from rank 0, any tag)  at {line('waits for a message')}",
        "ranks 1, 2 never called all_reduce",
    )


@schedules
def test_two_groups_in_opposite_order_are_recognised(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        groups = [Group(comm, name=name) for name in ("a", "b")]
        for group in groups if comm.rank else groups[::-1]:
            group.all_reduce(X)  # opposite order

    says(
        told(DeadlockError, main, 2, schedule=schedule),
        "all 2 ranks wait",
        f"rank 0: all_reduce(shape (2, 4), float64, sum, ring) of group 'b'  at {line('opposite order')}main",
        "rank 1: all_reduce(shape (2, 4), float64, sum, ring) of group 'a'",
        "ranks wait in different collectives, for each other",
        "same order on every rank",
    )


@schedules
def test_a_cycle_of_receives_is_named(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        comm.recv(source=(comm.rank + 1) % 3)  # cycle
        comm.send(None, (comm.rank - 1) % 3)

    says(
        told(DeadlockError, main, 3, schedule=schedule),
        f"rank 0: recv(from rank 1, any tag)  at {line('cycle')}main",
        "rank 1: recv(from rank 2",
        "rank 2: recv(from rank 0",
        f"wait cycle: rank 0 in recv from 1 at {line('cycle')}main → rank 1 in recv from 2 at ",
        f"→ rank 2 in recv from 0 at {line('cycle')}main → rank 0",
        "let one of them send first",
        "or use Sendrecv",
    )


@given(st.integers(2, 8).flatmap(lambda n: st.lists(st.integers(0, n - 1), min_size=n, max_size=n)))
def test_the_cycle_that_is_named_is_one(awaited: list[int]) -> None:
    """Every rank awaits another's message (or its own): there is always a cycle, and perhaps several."""

    def main(comm: VirtualComm) -> None:
        comm.recv(source=awaited[comm.rank])

    text = told(DeadlockError, main, len(awaited), schedule="lockstep")
    (cycle,) = re.findall(r"wait cycle: (.*)", text)
    if "more" not in cycle:
        steps = [(int(a), int(b)) for a, b in re.findall(r"rank (\d) in recv from (\d) at", cycle)]
        assert all(awaited[rank] == other for rank, other in steps)
        assert [other for _, other in steps] == [rank for rank, _ in steps[1:] + steps[:1]]
        assert len({rank for rank, _ in steps}) == len(steps)


@schedules
@pytest.mark.parametrize("check", [True, False])
def test_a_cycle_of_sends_is_found_whatever_is_buffered(schedule: Any, check: bool) -> None:
    def main(comm: VirtualComm) -> None:
        group = Group(comm, check=check)
        group.send(np.zeros(10**5), 1 - comm.rank)  # sends first
        group.recv(np.zeros(10**5), 1 - comm.rank)

    says(
        told(DeadlockError, main, 2, schedule=schedule),
        f"rank 0: send(shape (100000,), float64, to rank 1)  at {line('sends first')}main",
        "rank 1: send(shape (100000,), float64, to rank 0)",
        f"wait cycle: rank 0 in send to 1 at {line('sends first')}main ↔ rank 1 in send to 0 at ",
        "let one of them receive first",
    )


@schedules
def test_a_message_to_the_wrong_rank_or_with_the_wrong_tag_is_named(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        if comm.rank == 0:
            comm.Send(np.zeros(3), 1, tag=5)  # wrong tag
        elif comm.rank == 1:
            comm.Recv(np.zeros(3), 0, tag=6)  # waits for tag 6

    says(
        told(DeadlockError, main, 3, schedule=schedule),
        "rank 1 of 3 waits, the others returned",
        f"rank 1: Recv(from rank 0, tag 6)  at {line('waits for tag 6')}main",
        f"rank 0 sent rank 1 a message with tag 5 ({line('wrong tag')}main), and rank 1 waits for "
        "one from rank 0, tag 6: use one tag on both sides",
    )


@schedules
def test_a_send_that_nobody_receives_is_named(schedule: Any) -> None:
    def main(comm: VirtualComm, size: int) -> None:
        if comm.rank == 0:
            comm.Send(np.zeros(size), 1)  # nobody receives

    text = told(UnfinishedError, main, 2, 2, schedule=schedule)
    says(
        text,
        "rank 0 sent rank 1 a message (tag 0, 16 bytes) that was never received",
        line("nobody receives"),
    )
    text = told(DeadlockError, main, 2, 10**5, schedule=schedule)
    says(text, "rank 0: Send(to rank 1, tag 0, 800000 bytes), not yet received", line("nobody receives"))
    says(text, "rank 1: returned from main", "never received: check that every send has a receive")


@schedules
@forms
def test_a_collective_begun_and_never_joined_is_told_at_the_end(schedule: Any, messages: bool) -> None:
    def main(comm: VirtualComm) -> None:
        group = Group(comm, messages=messages)
        if comm.rank == 0:
            group.iall_reduce(X)  # never joined

    says(
        told(UnfinishedError, main, 3, schedule=schedule),
        "every rank returned",
        "rank 0 began all_reduce(shape (2, 4), float64, sum, ring), and ranks 1, 2 never did",
        f"at {line('never joined')}main",
    )


@schedules
def test_ranks_in_a_part_are_named_as_in_the_whole(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        part = comm.Split(comm.rank // 2, comm.rank)
        assert part is not None
        if comm.rank == 2:
            part.recv(source=1, tag=4)
        if comm.rank == 3:
            part.send("x", 0, tag=9)
        if comm.rank == 1:
            part.Barrier()

    says(
        told(DeadlockError, main, 4, schedule=schedule),
        "rank 1: Barrier() among ranks 0, 1",
        "rank 2: recv(from rank 3, tag 4)",
        "rank 0 returned without calling Barrier",
    )


@schedules
def test_a_deadlock_that_ranks_swallow_is_raised_all_the_same(schedule: Any) -> None:
    def main(comm: VirtualComm) -> str:
        try:
            comm.recv(source=(comm.rank + 1) % 2)
        except DeadlockError:
            caught.append(comm.rank)
        return "fine"

    caught: list[int] = []
    with pytest.raises(DeadlockError):
        run(main, 2, schedule=schedule)
    assert sorted(caught) == [0, 1]


@schedules
def test_a_rank_that_ignores_every_exception_is_stopped(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        while True:
            try:
                comm.recv(source=(comm.rank + 1) % 2)
            except Exception:
                continue

    with pytest.raises(DeadlockError):
        run(main, 2, schedule=schedule)


def test_a_rank_alone_that_waits_for_itself_is_told() -> None:
    says(told(DeadlockError, lambda comm: comm.recv(), 1, schedule="lockstep"), "the only rank waits")
    with pytest.raises(DeadlockError, match="recv"):
        tpsim.comm.solo().recv(X, 0)


@schedules
def test_a_thousand_ranks_make_a_short_report(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        comm.recv(source=(comm.rank + 1) % comm.size)

    text = told(DeadlockError, main, 1000 if schedule == "lockstep" else 100, schedule=schedule)
    assert len(text.splitlines()) < 40
    assert max(map(len, text.splitlines())) < 400


@schedules
def test_calls_have_the_names_that_the_program_called_them_by(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        x, other = np.zeros(2), (comm.rank + 1) % comm.size
        if comm.rank == 0:
            comm.Ssend(x, other, tag=3)  # Ssend
        if comm.rank == 1:
            request = comm.Irecv(x, other, tag=4)  # Irecv
            request.Wait()  # waits for Irecv
        if comm.rank == 2:
            requests = [comm.Issend(x, other), comm.Irecv(x, other)]  # two calls
            Request.Waitall(requests)
        if comm.rank == 3:
            comm.Sendrecv(x, other, 1, x, other)  # both
        if comm.rank == 4:
            comm.Probe(other)  # probes
        if comm.rank == 5:
            comm.Ibarrier().wait()  # alone

    says(
        told(DeadlockError, main, 6, schedule=schedule),
        f"rank 0: Ssend(to rank 1, tag 3, 16 bytes), not yet received  at {line('Ssend')}main",
        f"rank 1: Wait on Irecv(from rank 2, tag 4), begun at {line('Irecv')}main  at ",
        line("waits for Irecv"),
        "rank 2: Waitall on ",
        f"begun at {line('two calls')}main",
        "rank 3: Sendrecv(",
        line("both"),
        f"rank 4: Probe(from rank 5, any tag)  at {line('probes')}main",
        "rank 5: wait on Ibarrier(",
        line("alone"),
    )


@schedules
def test_a_cycle_through_a_collective_is_named(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        if comm.rank == 0:
            comm.recv(source=1)  # before the barrier
        comm.Barrier()  # the barrier
        if comm.rank == 1:
            comm.send(None, 0)

    says(
        told(DeadlockError, main, 3, schedule=schedule),
        f"wait cycle: rank 0 in recv from 1 at {line('before the barrier')}main ↔ rank 1 in Barrier ",
        f"awaiting 0 at {line('the barrier')}main",
        "rank 0 never called Barrier; every rank of a group must call it",
    )


@schedules
def test_a_message_from_another_rank_than_awaited_is_named(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        if comm.rank == 0:
            comm.recv(source=2)
        if comm.rank == 1:
            comm.send(None, 0)  # not awaited

    says(
        told(DeadlockError, main, 3, schedule=schedule),
        f"rank 1 sent rank 0 a message with tag 0 ({line('not awaited')}main), and rank 0 waits",
        "for one from rank 2",
        "receive from the rank that sends, or from ANY_SOURCE",
    )


MISFITS: list[tuple[Callable[[VirtualComm], object], Callable[[VirtualComm], object], str]] = [
    (
        lambda comm: comm.Send(np.zeros(9), 1),
        lambda comm: comm.Recv(np.zeros(4), 0),
        "Recv: rank 0 sent 9 × float64 (Send at {}), and the buffer of rank 1 is 4 × float64; make the",
    ),
    (
        lambda comm: comm.Send(np.zeros(4, np.int32), 1),
        lambda comm: comm.Irecv(np.zeros(4, np.float32), 0).Wait(),
        "Irecv: rank 0 sent 4 × int32 (Send at {}), and the buffer of rank 1 is 4 × float32; receive into an "
        "array of int32, or send float32",
    ),
    (
        lambda comm: comm.Send(np.zeros(4), 1),
        lambda comm: comm.Recv(np.zeros(2, np.float32), 0),
        "Recv: rank 0 sent 4 × float64 (Send at {}), and the buffer of rank 1 is 2 × float32; receive into "
        "an array of float64, or send float32",
    ),
    (
        lambda comm: comm.send("words", 1),
        lambda comm: comm.Recv(np.zeros(4), 0),
        "Recv: rank 0 sent an object (send at {}), and the buffer of rank 1 is 4 × float64; use the capital",
    ),
    (
        lambda comm: comm.Send(np.zeros(4), 1),
        lambda comm: comm.recv(source=0),
        "recv: rank 0 sent 4 × float64 (Send at {}), and rank 1 receives an object; use the capital form",
    ),
]


@schedules
@pytest.mark.parametrize(("send", "receive", "words"), MISFITS)
def test_a_message_that_does_not_fit_is_told_with_both_sides(
    schedule: Any,
    send: Callable[[VirtualComm], object],
    receive: Callable[[VirtualComm], object],
    words: str,
) -> None:
    def main(comm: VirtualComm) -> None:
        send(comm) if comm.rank == 0 else receive(comm)

    where = f"test_diagnosis.py:{send.__code__.co_firstlineno} in <lambda>"
    says(told(TruncationError, main, 2, schedule=schedule), words.format(where))


@schedules
def test_requests_that_nobody_waited_for_are_told_of(schedule: Any) -> None:
    def main(comm: VirtualComm) -> None:
        x = np.zeros(2)
        if comm.rank == 0:
            comm.Isend(x, 1, tag=5)  # forgotten send
            comm.Isend(x, 1).Wait()
        else:
            comm.Irecv(x, 0, tag=5)  # forgotten receive
            comm.Recv(x, 0)
        comm.Ibarrier()  # forgotten barrier

    says(
        told(UnfinishedError, main, 2, schedule=schedule),
        "every rank returned, and calls that were begun were never completed:",
        "rank 0 began Isend(to rank 1, tag 5, 16 bytes) and never waited for it  at ",
        f"{line('forgotten send')}main",
        f"rank 0 began Ibarrier() and never waited for it  at {line('forgotten barrier')}main",
        f"rank 1 began Irecv(from rank 0, tag 5) and never waited for it  at {line('forgotten receive')}main",
        "keep the request of every non-blocking call, and Wait for it",
    )


# -- polling -------------------------------------------------------------------------------------------------


@schedules
def test_polling_for_what_never_comes_is_a_deadlock(schedule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "SECONDS", 0.05)
    monkeypatch.setattr(polling, "MANY", 1000)

    def main(comm: VirtualComm) -> None:
        if comm.rank == 2:
            return
        request = comm.irecv(source=1 - comm.rank)
        if comm.rank == 0:
            while not request.Test():  # polls
                pass
        if comm.rank == 1:
            request.wait()

    says(
        told(DeadlockError, main, 3, schedule=schedule),
        "ranks 0, 1 of 3 wait",
        "rank 0: asks again and again for irecv(from rank 1, any tag)",
        f"at {line('polls')}main",
        "rank 1: wait on irecv(from rank 0",
        "rank 2: returned",
    )


@schedules
@forms
def test_polling_for_a_collective_that_nobody_joins_is_a_deadlock(
    schedule: Any, messages: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "SECONDS", 0.05)
    monkeypatch.setattr(polling, "MANY", 1000)

    def main(comm: VirtualComm) -> None:
        group = Group(comm, messages=messages)
        if comm.rank:
            handle = group.iall_reduce(X)
            while not handle.test():
                pass

    says(
        told(DeadlockError, main, 3, schedule=schedule),
        "ranks 1, 2: asks again and again for all_reduce(shape (2, 4)",
        "rank 0 returned without calling all_reduce",
    )


@schedules
def test_a_rank_that_computes_for_long_is_no_deadlock(schedule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "SECONDS", 0.01)
    monkeypatch.setattr(polling, "MANY", 100)

    def main(comm: VirtualComm) -> Any:
        request: Request = comm.irecv(source=0)
        if comm.rank == 0:
            time.sleep(0.2)
            for rank in range(comm.size):
                comm.send("late", rank)
        polls = 0
        while not (answer := request.test())[0]:
            polls += 1
            comm.Iprobe(tag=7)
        return answer[1]

    assert run(main, 3, schedule=schedule) == ["late"] * 3


@schedules
@pytest.mark.parametrize("messages", [False, True])
def test_a_call_that_nobody_waited_for_is_told_of(schedule: Any, messages: bool) -> None:
    def main(comm: Any) -> None:
        handle = Group(comm, messages=messages).iall_reduce(np.ones(2))
        while not handle.test():
            pass

    with pytest.raises(UnfinishedError) as caught:
        run(main, 2, schedule=schedule)
    text = str(caught.value)
    assert "rank 0 began all_reduce(shape (2,), float64, sum, ring) and never waited for it" in text
    assert "in main" in text
