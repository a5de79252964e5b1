"""Faults on purpose: what each does to ranks, that it is told, and that training loses nothing by it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi_jobs import mpiexec, needs_mpi

from tpsim import run
from tpsim.cli import main as command
from tpsim.comm import CorruptionError, DeadlockError, Group, mpi
from tpsim.comm.faults import Crash, Fault, injected, parse
from tpsim.comm.faults.fault import Kind
from tpsim.trace import Trace

schedules = pytest.mark.parametrize("schedule", ["lockstep", "free"])
forms = pytest.mark.parametrize("messages", [False, True], ids=["meeting", "messages"])

# -- asking --------------------------------------------------------------------------------------------------


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    kind: Kind = draw(st.sampled_from(get_args(Kind)))
    return Fault(
        rank=draw(st.integers(0, 1000)),
        event=draw(st.sampled_from(["collective", "message", "step"])),
        number=draw(st.integers(1, 10**6)),
        onwards=draw(st.booleans()),
        kind=kind,
        seconds=draw(st.sampled_from([0.0, 0.25, 3.0])) if kind == "slow" else 0.1,
        seed=draw(st.integers(0, 2**32)) if kind == "corrupt" else 0,
    )


@given(faults(), st.randoms(use_true_random=False))
def test_a_fault_is_what_its_words_say_in_any_order(fault: Fault, random: Any) -> None:
    words = str(fault).split()
    random.shuffle(words)
    assert parse(" ".join(words)) == fault


@pytest.mark.parametrize(
    ("text", "why", "remedy"),
    [
        ("", "rank and at and kind are missing", "write it like"),
        ("rank=1 at=collective:3", "kind is missing", 'write it like "rank=2 at=collective:17 kind=crash"'),
        ("rank=1 at=collective:3 kind=boom", "kind 'boom' is not known", "pick one of crash, stall"),
        ("rank=1 at=collective:0 kind=crash", "names no event", "counted from 1"),
        ("rank=1 at=barrier:2 kind=crash", "names no event", "write collective:17"),
        ("rank=1 at=step kind=crash", "names no event", "message:3 or step:5"),
        ("rank=1 rank=2 at=step:1 kind=crash", "rank is given twice", "leave one out"),
        ("rank=one at=step:1 kind=crash", "rank=one is not a whole number", "write it like rank=0"),
        ("rank=-1 at=step:1 kind=crash", "rank=-1 is not a whole number", "write it like rank=0"),
        ("rank=4 at=step:1 kind=crash", "there is no rank 4 among 4", "pick 0 to 3"),
        ("rank=1 at=step:1 kind=crash seconds=1", "seconds goes with kind=slow and not with crash", "leave"),
        ("rank=1 at=step:1 kind=slow seconds=-1", "seconds=-1 is not a number of seconds", "seconds=0.1"),
        ("rank=1 at=step:1 kind=slow seconds=nan", "is not a number of seconds", "write it like"),
        ("rank=1 at=step:1 kind=drop seed=1", "seed goes with kind=corrupt", "leave it out"),
        ("rank 1 at=step:1 kind=drop", "'rank' is not one of its words", "write it like"),
        ("rank=1 at=step:1 kind=drop when=now", "'when=now' is not one of its words", "write it like"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_the_remedy(text: str, why: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=r"^fault ") as caught:
        parse(text, ranks=4)
    said = str(caught.value)
    assert said.startswith(f"fault {text!r}: ")
    assert why in said.split("; ")[0]
    assert remedy in said.split("; ", 1)[1]


# -- striking ------------------------------------------------------------------------------------------------


def with_fault(
    fault: str, main: Callable[[Group], Any], ranks: int = 4, *, check: Any = True, messages: bool = False
) -> Callable[[Any], Any]:
    def body(comm: Any) -> Any:
        with injected([parse(fault, ranks)], comm):
            return main(Group(comm, check=check, messages=messages))

    return body


def three_sums(group: Group) -> Sequence[Any]:
    x = np.arange(8.0) + group.rank
    return [group.all_reduce(x).tolist() for _ in range(3)]


THREE = [[6.0 + 4 * i for i in range(8)]] * 3


@schedules
@forms
def test_a_crash_is_told_with_its_rank_and_call(schedule: Any, messages: bool) -> None:
    body = with_fault("rank=2 at=collective:2 kind=crash", three_sums, messages=messages)
    with pytest.raises(Crash) as caught:
        run(body, 4, schedule=schedule)
    assert str(caught.value) == (
        "rank 2 crashed at all_reduce(shape (8,), float64, sum, ring), as fault "
        "'rank=2 at=collective:2 kind=crash' asks for"
    )
    assert caught.value.__notes__ == ["[raised by rank 2 of 4; the other ranks were stopped]"]


@schedules
@forms
@pytest.mark.parametrize(
    ("kind", "standing"),
    [
        ("stall", "rank 1: stalled at all_reduce(shape (8,)"),
        ("drop", "rank 1: all_reduce(shape (8,), float64, sum, ring), of which nothing arrives, as fault"),
    ],
)
def test_a_rank_that_stalls_or_is_not_heard_is_a_deadlock_that_names_the_fault(
    schedule: Any, messages: bool, kind: str, standing: str
) -> None:
    body = with_fault(f"rank=1 at=collective:3 kind={kind}", three_sums, messages=messages)
    with pytest.raises(DeadlockError) as caught:
        run(body, 4, schedule=schedule)
    said = str(caught.value)
    assert standing in said
    assert "rank 1 can't go on because of a fault that was asked for" in said
    assert "ranks 0, 2, 3: all_reduce" in said or messages  # others wait for different messages of it


@schedules
@forms
@given(seed=st.integers(0, 2**31))
def test_one_bit_of_what_a_corrupted_rank_sends_is_another(schedule: Any, messages: bool, seed: int) -> None:
    def gather(group: Group) -> Any:
        return group.all_gather(np.arange(4, dtype=np.uint32) + 4 * group.rank)

    fault = f"rank=1 at=collective:1 kind=corrupt seed={seed}"
    result = run(with_fault(fault, gather, 3, messages=messages), 3, schedule=schedule)[2]
    turned = np.arange(12, dtype=np.uint32) ^ result
    assert np.unpackbits(turned.view(np.uint8)).sum() == 1
    sender = slice(4, 8)  # a ring passes on what others sent, later: its first message is its own block
    assert turned[sender].any()


@schedules
@forms
@pytest.mark.parametrize("call", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast"])
def test_checksums_find_a_corrupted_message_and_name_its_sender(
    schedule: Any, messages: bool, call: str
) -> None:
    def main(group: Group) -> Any:
        return getattr(group, call)(np.ones(8))

    fault = "rank=0 at=collective:1 kind=corrupt"
    with pytest.raises(CorruptionError, match=f"^{call}: what rank 0 sent is not what arrived"):
        run(with_fault(fault, main, messages=messages, check="data"), 4, schedule=schedule)


@schedules
@forms
def test_checksums_find_an_array_that_is_written_to_while_it_is_sent(schedule: Any, messages: bool) -> None:
    def main(comm: Any) -> Any:
        group = Group(comm, check="data", messages=messages)
        x = np.zeros(10**5)
        if group.rank == 0:
            handle = group.iall_gather(x) if not messages else group.isend(x, 1)
            x += 1
            comm.Barrier()
            return handle.wait()
        comm.Barrier()
        return group.all_gather(x) if not messages else group.recv(x, 0)

    with pytest.raises(CorruptionError, match=r"what rank 0 sent is not what arrived.*written to before"):
        run(main, 2, schedule=schedule)


@schedules
@forms
def test_checked_data_give_the_same_result_and_the_same_count(schedule: Any, messages: bool) -> None:
    def main(comm: Any, check: Any) -> Any:
        group = Group(comm, check=check, messages=messages)
        x = np.random.default_rng(comm.rank).standard_normal(12)
        with Trace() as trace:
            results = [
                group.all_reduce(x),
                group.all_gather(x),
                group.reduce_scatter(x),
                group.all_to_all(x),
                group.broadcast(x, 1),
            ]
            group.barrier()
        return [y.tolist() for y in results], [(e.bytes_sent, e.messages) for e in trace.collectives]

    assert run(main, 3, "data", schedule=schedule) == run(main, 3, True, schedule=schedule)


def test_the_librarys_own_algorithm_has_no_messages_to_check() -> None:
    class Foreign:
        def Get_rank(self) -> int:
            return 0

    with pytest.raises(ValueError, match=r'check="data".*pick a hand-written algorithm'):
        Group(Foreign(), "mpi", check="data")


@schedules
@forms
def test_a_slow_rank_changes_no_number_and_shows_in_the_trace(schedule: Any, messages: bool) -> None:
    def main(group: Group) -> Any:
        with Trace() as trace:
            results = three_sums(group)
        return results, [(e.start, e.start + e.seconds) for e in trace.collectives]

    body = with_fault("rank=3 at=collective:2+ kind=slow seconds=0.05", main, messages=messages)
    outcomes = run(body, 4, schedule=schedule)
    assert [results for results, _ in outcomes] == [THREE] * 4
    spans = outcomes[3][1]
    for before, after in pairwise(spans):
        assert after[0] - before[1] >= 0.05  # it is busy elsewhere before each call …
    assert sum(end - start for start, end in outcomes[0][1]) >= 0.05  # … and rank 0 waits for it


@schedules
@pytest.mark.parametrize("check", [True, "data"])
def test_messages_of_a_group_are_struck_too(schedule: Any, check: Any) -> None:
    def main(group: Group) -> Any:
        x = np.arange(4.0)
        for _ in range(2):
            if group.rank == 0:
                group.send(x, 1)
            else:
                x = group.recv(x, 0)
        return x

    corrupt = with_fault("rank=0 at=message:2 kind=corrupt", main, 2, check=check)
    if check == "data":
        with pytest.raises(CorruptionError, match=r"^recv: what rank 0 sent is not what arrived"):
            run(corrupt, 2, schedule=schedule)
    else:
        assert (run(corrupt, 2, schedule=schedule)[1] != np.arange(4.0)).sum() == 1
    with pytest.raises(DeadlockError, match="rank 1: recv"):
        run(with_fault("rank=0 at=message:2 kind=drop", main, 2, check=check), 2, schedule=schedule)
    with pytest.raises(Crash, match=r"rank 0 crashed at send\(shape \(4,\)"):
        run(with_fault("rank=0 at=message:2 kind=crash", main, 2, check=check), 2, schedule=schedule)


# -- any program -------------------------------------------------------------------------------------------


def program(comm: Any) -> Any:
    x, other = np.arange(4) + 10 * comm.rank, 1 - comm.rank
    if comm.rank == 0:
        comm.Send(x, other, tag=3)
        comm.send("words", other)
    else:
        x = np.empty(4, int)
        comm.Recv(x, other, tag=3)
        assert comm.recv(source=other) == "words"
    total = np.empty(4, int)
    comm.Allreduce(x, total)
    return comm.bcast("the end", root=1), x, total


@schedules
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("rank=0 at=message:1 kind=crash", "rank 0 crashed at Send(to rank 1, tag 3, 32 bytes), as fault "),
        ("rank=1 at=collective:2 kind=crash", "rank 1 crashed at bcast(root 1), as fault "),
        ("rank=1 at=collective:1 kind=stall", "rank 1: stalled at Allreduce(shape (4,), int64, MPI_SUM), as"),
        ("rank=1 at=collective:1 kind=drop", "MPI_SUM), of which nothing arrives, as fault "),
        ("rank=0 at=message:2 kind=drop", "(rank 0: send(to rank 1, tag 0, "),
    ],
)
def test_faults_strike_the_calls_of_any_program(schedule: Any, fault: str, words: str) -> None:
    with pytest.raises((Crash, DeadlockError)) as caught:
        run(program, 2, schedule=schedule, faults=[fault])
    assert words in str(caught.value)
    assert f"as fault {fault!r} asks for" in str(caught.value)


@schedules
def test_a_bit_of_a_programs_message_or_collective_is_turned_over(schedule: Any) -> None:
    x = run(program, 2, schedule=schedule, faults=["rank=0 at=message:1 kind=corrupt seed=5"])[1][1]
    assert np.unpackbits((x ^ np.arange(4)).view(np.uint8)).sum() == 1
    first, second = run(program, 2, schedule=schedule, faults=["rank=0 at=collective:1 kind=corrupt"])
    assert (first[2] == second[2]).all()
    assert (first[2] != 2 * np.arange(4)).sum() == 1


@schedules
def test_a_program_with_a_slow_rank_gives_the_same(schedule: Any) -> None:
    slow = run(program, 2, schedule=schedule, faults=["rank=0 at=message:1+ kind=slow seconds=0.01"])
    assert [end for end, *_ in slow] == ["the end"] * 2
    assert (slow[1][2] == 2 * np.arange(4)).all()


def test_tpsim_run_takes_faults(tmp_path: Path) -> None:
    script = tmp_path / "sum.py"
    script.write_text("from mpi4py import MPI\nMPI.COMM_WORLD.allreduce(1)\n")

    def tpsim_run(fault: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tpsim", "run", "-n", "3", "--fault", fault, str(script)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    crash = tpsim_run("rank=2 at=collective:1 kind=crash")
    assert crash.returncode == 1
    assert "sum.py" in crash.stderr
    assert "Crash: rank 2 crashed at allreduce(MPI_SUM), as fault" in crash.stderr
    wrong = tpsim_run("rank=2 at=step:1 kind=crash")
    assert wrong.returncode == 2
    assert "no steps are counted here, but collectives and messages; write at=collective:1" in wrong.stderr


@schedules
def test_a_fault_that_never_struck_is_warned_of(schedule: Any) -> None:
    with pytest.warns(
        match="'rank=1 at=collective:3 kind=crash' did not strike: rank 1 came no further than"
    ):
        run(program, 2, schedule=schedule, faults=["rank=1 at=collective:3 kind=crash"])
    with pytest.warns(match="did not strike: rank 1 came no further than collective:3; pick an earlier one"):
        run(with_fault("rank=1 at=collective:4 kind=corrupt", three_sums, 2), 2, schedule=schedule)


# -- training ------------------------------------------------------------------------------------------------

SMALL = ["--steps", "6", "--batch", "4", "--seq", "16", "--dropout", "0.1", "--text", "text.txt"]
SAVING = ["--save-every", "2", "--out", "run"]
MESH = ["--tp", "2", "--dp", "2"]


class Done:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """`tpsim train` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 40)

    def tpsim_train(*arguments: str) -> Done:
        out, err = StringIO(), StringIO()
        with (
            patch.object(sys, "argv", ["tpsim", "train", *arguments]),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as stop,
        ):
            command()
        return Done(int(stop.value.code or 0), out.getvalue(), err.getvalue())

    return tpsim_train


def curve(folder: str) -> list[list[Any]]:
    lines = Path(folder, "metrics.jsonl").read_text().splitlines()
    return [[json.loads(line)[key] for key in ("step", "loss", "grad_norm", "held_out")] for line in lines]


@pytest.fixture(scope="module")
def unfaulted(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    folder = tmp_path_factory.mktemp("unfaulted")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        Path("text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 40)
        with (
            patch.object(sys, "argv", ["tpsim", "train", *SMALL, *MESH, *SAVING]),
            redirect_stdout(StringIO()),
            pytest.raises(SystemExit),
        ):
            command()
        return curve("run")


ENDS = [
    ("step:4", "crash", "free", "rank 1 crashed at the beginning of step 4, as fault"),
    ("collective:90", "crash", "lockstep", "rank 1 crashed at "),
    ("step:5", "stall", "lockstep", "rank 1: stalled at the beginning of step 5, as fault"),
    ("collective:140", "stall", "free", "rank 1: stalled at "),
    ("collective:140", "drop", "free", "of which nothing arrives, as fault"),
    ("step:4", "corrupt", "free", "what rank 1 sent is not what arrived, by their checksums"),
]


@pytest.mark.parametrize(("at", "kind", "schedule", "words"), ENDS, ids=lambda value: str(value)[:20])
def test_a_job_that_a_fault_ends_says_so_and_resumes_with_nothing_lost(
    at: str,
    kind: str,
    schedule: str,
    words: str,
    train: Callable[..., Done],
    unfaulted: list[list[Any]],
) -> None:
    fault = f"rank=1 at={at} kind={kind}"
    options = [*SMALL, *MESH, *SAVING, "--check", "data", "--schedule", schedule]
    ended = train(*options, "--fault", fault)
    assert ended.code == 1
    assert words in ended.err
    assert "Traceback" not in ended.err
    assert "go on with --resume run" in ended.err
    reached = len(curve("run"))
    assert 2 <= reached < 6  # in the middle
    assert (Path("run") / f"step-{reached - reached % 2:06}").is_dir()

    resumed = train("--resume", "run")
    assert resumed.code == 0, resumed.err
    assert curve("run") == unfaulted  # bit for bit, and no step twice


def test_faults_that_end_nothing_let_training_go_on(
    train: Callable[..., Done], unfaulted: list[list[Any]]
) -> None:
    slow = train(*SMALL, *MESH, "--out", "slow", "--fault", "rank=3 at=step:3+ kind=slow seconds=0.01")
    assert slow.code == 0, slow.err
    assert curve("slow") == unfaulted
    faults = ["--fault", "rank=1 at=step:3 kind=corrupt seed=1", "--fault", "rank=0 at=step:4 kind=corrupt"]
    wrong = train(*SMALL, *MESH, "--out", "wrong", *faults)
    assert wrong.code == 0, wrong.err
    assert curve("wrong")[:2] == unfaulted[:2]
    assert curve("wrong")[2:] != unfaulted[2:]  # nobody looked at checksums


def test_a_fault_that_cannot_be_is_one_line_and_exit_code_2(train: Callable[..., Done]) -> None:
    done = train(*SMALL, *MESH, "--fault", "rank=4 at=step:1 kind=crash")
    assert done.code == 2
    assert done.err == (
        "tpsim: fault 'rank=4 at=step:1 kind=crash': there is no rank 4 among 4; pick 0 to 3\n"
    )
    assert train(*SMALL, "--check", "all").err.endswith("pick one of none, calls, data\n")


@pytest.mark.parametrize("unwatched", [["--check", "none"], ["--timeout", "0"]])
def test_a_fault_that_would_never_end_is_refused(
    unwatched: Sequence[str], train: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    class FourRanks:
        size = 4

    monkeypatch.setattr(mpi, "under_mpiexec", lambda: True)
    monkeypatch.setattr(mpi, "world", FourRanks)
    done = train(*SMALL, *MESH, *unwatched, "--fault", "rank=1 at=step:1 kind=stall")
    assert done.code == 2
    assert "under mpiexec the job would never end" in done.err
    assert done.err.endswith("; leave that out\n")


@needs_mpi
@pytest.mark.parametrize(
    ("fault", "options", "words"),
    [
        ("rank=1 at=step:4 kind=crash", (), "Crash: rank 1 crashed at the beginning of step 4, as fault"),
        ("rank=1 at=step:4 kind=stall", (), "rank 1: stalled at the beginning of step 4, as fault"),
        ("rank=1 at=step:4 kind=corrupt", ("--check", "data"), "CorruptionError: "),
    ],
    ids=["crash", "stall", "corrupt"],
)
def test_under_mpiexec_a_job_that_a_fault_ends_resumes_with_nothing_lost(
    fault: str,
    options: Sequence[str],
    words: str,
    train: Callable[..., Done],
    unfaulted: list[list[Any]],
    tmp_path: Path,
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    asked = [*SMALL, *MESH, *SAVING, *options, "--timeout", "1", "--fault", fault]
    job = mpiexec(4, "-m", "tpsim", "train", *asked, tmp=temporary)
    assert job.code == 1
    assert words in job.err
    if "stall" in fault:  # of every rank, the lines that it is in
        assert "where each is, the innermost line last:" in job.err
        assert all(f"train/{file}" in job.err.split("innermost")[1] for file in ("loop.py", "step.py"))
    assert len(curve("run")) < 6
    resumed = train("--resume", "run")
    assert resumed.code == 0, resumed.err
    assert curve("run") == unfaulted
