"""What a schedule is written with: a device and its few verbs, each of which notes one step."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TypeAlias

from tpsim.lab.puzzles.shard import ScheduleError

Part: TypeAlias = tuple[int, int]
ALL: Part = (0, 1)


@dataclass(frozen=True)
class Block:
    """Something in a device's memory."""

    number: int
    transposed: bool = False

    @property
    def T(self) -> Block:
        """The same memory, read transposed."""
        return replace(self, transposed=not self.transposed)


@dataclass(frozen=True)
class Pending:
    """What a collective will give; `wait` returns it."""

    number: int


@dataclass(frozen=True)
class Step:
    """One step of a device.

    Attributes
    ----------
    verb : str
        "load", "matmul", "gelu", "norm", "add", "wait", "drop", or the collective that it begins.
    takes : tuple of Block
    gives : int
        The number of the block that it makes, or that is waited for; −1 if none.
    name : str
        Of the tensor that is loaded.
    rows, cols : (int, int)
        What is loaded of it: (0, 2) is the first half.
    axis : int
        Of a gather or scatter.
    line : int
        Where it stands in the schedule's file.
    """

    verb: str
    takes: tuple[Block, ...] = ()
    gives: int = -1
    name: str = ""
    rows: Part = ALL
    cols: Part = ALL
    axis: int = 0
    line: int = 0


class Device:
    """One of `size` devices. All run the same schedule; `rank` tells them apart.

    A device computes one thing after another. A collective goes on beside that, once all devices have begun
    it, until it is waited for; collectives, too, run one after another. All devices begin the same ones, in
    the same order.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self.steps: list[Step] = []

    def load(self, name: str, rows: Part = ALL, cols: Part = ALL) -> Block:
        """Place a tensor, or one part of its rows or columns; only before the first work, and free of time.

        `cols=(0, 2)` is the first of two halves, `cols=(d.rank, d.size)` this device's share.
        """
        for part in (rows, cols):
            if not (isinstance(part, tuple) and [type(n) for n in part] == [int, int]):
                raise _wrong("load", part, "a part", "(0, 2) is the first of two halves")
        return self._makes("load", name=name, rows=rows, cols=cols)

    def matmul(self, x: Block, a: Block) -> Block:
        """Return x·a, as a new block; `a.T` is a transposed."""
        return self._makes("matmul", x, a)

    def gelu(self, x: Block) -> Block:
        """Return the activation of a block, as a new one."""
        return self._makes("gelu", x)

    def norm(self, x: Block) -> Block:
        """Return whole rows, each normed, as a new block."""
        return self._makes("norm", x)

    def add(self, x: Block, y: Block) -> Block:
        """Add y to x, which it replaces: both are parts of the same sum."""
        return self._makes("add", x, y)

    def begin_all_reduce(self, x: Block) -> Pending:
        """Begin the sum of x over all devices; it takes the place of x."""
        return Pending(self._makes("all_reduce", x).number)

    def begin_all_gather(self, x: Block, axis: int = 0) -> Pending:
        """Begin to put all devices' blocks one after another: rows (axis 0) or columns (1). A new block."""
        return Pending(self._makes("all_gather", x, axis=axis).number)

    def begin_reduce_scatter(self, x: Block, axis: int = 0) -> Pending:
        """Begin the sum of x over all devices; each gets its share of rows or columns of it. A new block."""
        return Pending(self._makes("reduce_scatter", x, axis=axis).number)

    def begin_shift(self, x: Block) -> Pending:
        """Begin to send x to the next device of the ring, and to receive the one before's. A new block."""
        return Pending(self._makes("shift", x).number)

    def wait(self, pending: Pending) -> Block:
        """Return what a collective gives: work from here on starts when it has ended."""
        if not isinstance(pending, Pending):
            raise _wrong("wait", pending, "a handle", "give it what a `begin_…` returned")
        self._note("wait", gives=pending.number)
        return Block(pending.number)

    def drop(self, *blocks: Block) -> None:
        """Free the memory of blocks; a name that Python forgets frees nothing."""
        self._note("drop", *blocks)

    def _makes(self, verb: str, *takes: Block, **rest: object) -> Block:
        return Block(self._note(verb, *takes, gives=len(self.steps), **rest))

    def _note(self, verb: str, *takes: Block, **rest: object) -> int:
        for block in takes:
            if not isinstance(block, Block):
                raise _wrong(verb, block, "a block", "`wait` returns the block that a collective gives")
        if rest.get("axis", 0) not in (0, 1):
            raise _wrong(verb, rest["axis"], "an axis", "0 is rows, 1 is columns")
        line = _line_outside()
        self.steps.append(Step(verb, takes, line=line, **rest))  # type: ignore[arg-type]
        return self.steps[-1].gives


def _wrong(verb: str, given: object, wanted: str, do: str) -> ScheduleError:
    what = f"line {_line_outside()}: {verb} was given {given!r}, not {wanted}"
    return ScheduleError("not a block", what, do)


def _line_outside() -> int:
    """Return the line of the caller that is not in this file."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame.f_lineno
