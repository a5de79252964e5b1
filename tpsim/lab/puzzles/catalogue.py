"""The six puzzles, from easy to hard: what is given, what is wanted, and how soon, in how much memory."""

from __future__ import annotations

from tpsim.cost import hardware
from tpsim.lab.puzzles.machine import Prices, Profile, Rates
from tpsim.lab.puzzles.puzzle import MIB, Puzzle, Wanted
from tpsim.lab.puzzles.shard import Term, gelu, norm
from tpsim.lab.puzzles.simulate import Given

ROWS, HIDDEN, FFN = 4096, 4096, 16384
X, A, B, DY = map(Term, ("X", "A", "B", "dY"))
MLP = gelu(X @ A) @ B
_WEIGHTS = {"A": Given((HIDDEN, FFN)), "B": Given((FFN, HIDDEN))}


def by_hand() -> Prices:
    """Return 400 TFLOP/s, 2 TB/s of memory, 10 µs a message, 100 GB/s of link."""
    return Rates(flops=400e12, memory=2e12, alpha=10e-6, link=100e9)


def h100() -> Prices:
    """Return the prices of an H100 node."""
    return Profile(hardware.load("h100"))


PUZZLES = {
    one.number: one
    for one in (
        Puzzle(
            number=1,
            name="one_device",
            title="One device: let go in time",
            devices=1,
            prices=by_hand,
            memory=416 * MIB,
            seconds=2.9e-3,
            given={"X": Given((ROWS, HIDDEN)), **_WEIGHTS},
            wanted=[Wanted("Y", MLP)],
        ),
        Puzzle(
            number=2,
            name="column_then_row",
            title="Two devices, and one all-reduce",
            devices=2,
            prices=by_hand,
            memory=320 * MIB,
            seconds=1.85e-3,
            given={"X": Given((ROWS, HIDDEN)), **_WEIGHTS},
            wanted=[Wanted("Y", MLP, each=True)],
        ),
        Puzzle(
            number=3,
            name="little_memory",
            title="The same in two thirds of the memory",
            devices=2,
            prices=by_hand,
            memory=208 * MIB,
            seconds=1.9e-3,
            given={"X": Given((ROWS, HIDDEN)), **_WEIGHTS},
            wanted=[Wanted("Y", MLP, each=True)],
        ),
        Puzzle(
            number=4,
            name="hidden_all_reduce",
            title="Hide f's all-reduce",
            devices=2,
            prices=by_hand,
            memory=256 * MIB,
            seconds=1.4e-3,
            given={
                "X": Given((ROWS, HIDDEN)),
                "A": Given((HIDDEN, FFN)),
                "dY": Given((ROWS, FFN), "columns"),
            },
            wanted=[Wanted("dX", DY @ A.T, each=True), Wanted("dA", X.T @ DY)],
        ),
        Puzzle(
            number=5,
            name="sequence_parallel",
            title="Cut the sequence too, keep what backward needs",
            devices=4,
            prices=by_hand,
            memory=184 * MIB,
            seconds=1.35e-3,
            given={"X": Given((ROWS, HIDDEN), "rows"), **_WEIGHTS},
            wanted=[
                Wanted("Y", gelu(norm(X) @ A) @ B),
                Wanted("X", X),
                Wanted("N", norm(X)),
                Wanted("H", norm(X) @ A),
                Wanted("G", gelu(norm(X) @ A)),
            ],
        ),
        Puzzle(
            number=6,
            name="collective_matmul",
            title="Hide the all-gather: the collective matmul",
            devices=4,
            prices=h100,
            memory=112 * MIB,
            seconds=0.2e-3,
            given={"X": Given((ROWS, HIDDEN), "rows"), "A": Given((HIDDEN, FFN))},
            wanted=[Wanted("Y", X @ A)],
        ),
    )
}


def find(number: int) -> Puzzle:
    """Return a puzzle by its number.

    Raises
    ------
    ValueError
        If there is none.
    """
    if number not in PUZZLES:
        raise ValueError(f"puzzle {number}: there is none; pick one of {', '.join(map(str, PUZZLES))}")
    return PUZZLES[number]
