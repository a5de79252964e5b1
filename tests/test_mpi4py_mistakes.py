"""Twelve classic mistakes of mpi4py programs: what `tpsim run` prints of each, and that it fails.

Under MPI most of them hang, or are right on one machine and wrong on another. The programs are in
`tests/mistakes/programs`, unmodified mpi4py.
"""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "mistakes" / "programs"

# -n and other options, what goes to stdout, and what to stderr (of a traceback: its end).
TWELVE: dict[str, tuple[str, str, str]] = {
    "recv_recv": (
        "-n 2",
        "",
        """\
DeadlockError: deadlock: all 2 ranks wait, and none can go on
  rank 0: recv(from rank 1, any tag)  at recv_recv.py:7
  rank 1: recv(from rank 0, any tag)  at recv_recv.py:7
wait cycle: rank 0 in recv from 1 at recv_recv.py:7 ↔ rank 1 in recv from 0 at recv_recv.py:7
let one of them send first, or use Sendrecv or the non-blocking forms
""",
    ),
    "send_send": (
        "-n 2 --eager 0",
        "",
        """\
DeadlockError: deadlock: all 2 ranks wait, and none can go on
  rank 0: Send(to rank 1, tag 0, 800 bytes), not yet received  at send_send.py:9
  rank 1: Send(to rank 0, tag 0, 800 bytes), not yet received  at send_send.py:9
wait cycle: rank 0 in Send to 1 at send_send.py:9 ↔ rank 1 in Send to 0 at send_send.py:9
let one of them receive first, or use Sendrecv or the non-blocking forms
""",
    ),
    "wrong_tag": (
        "-n 2",
        "",
        """\
DeadlockError: deadlock: rank 1 of 2 waits, the others finished, and none can go on
  rank 0: finished the program
  rank 1: Recv(from rank 0, tag 8)  at wrong_tag.py:11
rank 0 sent rank 1 a message with tag 7 (wrong_tag.py:9), and rank 1 waits for one from rank 0, tag 8: \
use one tag on both sides
""",
    ),
    "wrong_root": (
        "-n 3",
        "",
        """\
CollectiveMismatchError: Bcast: the ranks' roots differ; pass the same root on every rank
  rank 0: Bcast(shape (4,), int64, root 0)  at wrong_root.py:8
  rank 1: Bcast(shape (4,), int64, root 1)  at wrong_root.py:8
  rank 2: Bcast(shape (4,), int64, root 2)  at wrong_root.py:8
""",
    ),
    "bcast_on_root_only": (
        "-n 3",
        "rank 1 begins with None\nrank 2 begins with None\n",
        """\
DeadlockError: deadlock: rank 0 of 3 waits, the others finished, and none can go on
  rank 0: bcast(root 0)  at bcast_on_root_only.py:8
  ranks 1, 2: finished the program
ranks 1, 2 finished without calling bcast; every rank of a group must call it: look for an early return, or \
a branch that depends on the rank
""",
    ),
    "different_order": (
        "-n 3",
        "",
        """\
CollectiveMismatchError: Allreduce / Barrier: the ranks call different collectives; every rank must make \
the same calls in the same order: look for a branch that depends on the rank
  rank 0: Barrier()  at different_order.py:9
  ranks 1, 2: Allreduce(shape (1,), float64, MPI_SUM)  at different_order.py:12
""",
    ),
    "truncation": (
        "-n 2",
        "",
        """\
line 11, in <module>
    comm.Recv(part, source=0)
tpsim.comm.errors.TruncationError: Recv: rank 0 sent 20 × float64 (Send at truncation.py:8), and the buffer \
of rank 1 is 10 × float64; make the buffer at least as long as the message
[raised by rank 1 of 2; the other ranks were stopped]
""",
    ),
    "type_mismatch": (
        "-n 2",
        "",
        """\
line 11, in <module>
    comm.Recv(x, source=0)
tpsim.comm.errors.TruncationError: Recv: rank 0 sent 10 × int64 (Send at type_mismatch.py:8), and the buffer \
of rank 1 is 20 × float32; receive into an array of int64, or send float32
[raised by rank 1 of 2; the other ranks were stopped]
""",
    ),
    "buffer_reused": (
        "-n 2 --check",
        "",
        """\
line 11, in <module>
    request.Wait()
tpsim.comm.errors.InFlightError: Isend: the buffer that is sent was changed while it was in flight (begun at \
buffer_reused.py:9); leave it alone between the call and its Wait (or a Test that says it is complete)
[raised by rank 0 of 2; the other ranks were stopped]
""",
    ),
    "never_waited": (
        "-n 2 --check",
        "the sum is nan\n",
        """\
UnfinishedError: every rank finished, and calls that were begun were never completed:
  rank 1 began Irecv(from rank 0, any tag) and never waited for it  at never_waited.py:11
keep the request of every non-blocking call, and Wait for it (or Waitall): until then its buffer is not \
yours to read or to write
""",
    ),
    "returns_early": (
        "-n 3",
        "",
        """\
DeadlockError: deadlock: ranks 0, 2 of 3 wait, the others finished, and none can go on
  ranks 0, 2: reduce(MPI_SUM, root 0)  at returns_early.py:11
  rank 1: finished the program
rank 1 finished without calling reduce; every rank of a group must call it: look for an early return, or a \
branch that depends on the rank
""",
    ),
    "never_received": (
        "-n 3",
        "",
        """\
UnfinishedError: every rank finished, and communication was left without its partner:
  rank 0 sent rank 1 a message (tag 99, 4 bytes) that was never received  at never_received.py:9
match every send with a receive (destination and tag), join every collective on every rank of its group, and \
wait for every non-blocking call
""",
    ),
}


def test_there_are_twelve() -> None:
    assert {path.stem for path in PROGRAMS.glob("*.py")} == set(TWELVE)
    assert len(TWELVE) == 12


@pytest.mark.parametrize("name", TWELVE)
def test_the_mistake_is_told_and_the_job_fails(name: str) -> None:
    options, out, err = TWELVE[name]
    command = [sys.executable, "-m", "tpsim", "run", *options.split(), str(PROGRAMS / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == out
    if "[raised by" in err:
        assert done.stderr.startswith("Traceback")
        assert done.stderr.endswith(err)
    else:
        assert done.stderr == err


def test_what_works_by_buffering_alone_works_where_somebody_buffers() -> None:
    command = [sys.executable, "-m", "tpsim", "run", "-n", "2", str(PROGRAMS / "send_send.py")]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
