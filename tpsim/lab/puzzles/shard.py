"""What a block of numbers is, without the numbers: which rows and columns of what, and summed over what.

Every rule of the game is a rule of these: products need the same indices inside, sums the same place, and
what is not linear needs a finished sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
"""From, and up to (not with)."""

Sums: TypeAlias = tuple[tuple[int, int, int], ...]
"""(from, up to, how often): what of a product's inner dimension has been added up."""


class ScheduleError(Exception):
    """A schedule breaks a rule: a kind in two or three words, what happened, and what to do."""

    def __init__(self, kind: str, what: str, why: str) -> None:
        super().__init__(what)
        self.kind, self.what, self.why = kind, what, why


@dataclass(frozen=True)
class Term:
    """A whole tensor by how it is computed: `Term("X") @ Term("A")`. (X·A)·B and X·(A·B) are two terms."""

    op: str
    args: tuple[Term, ...] = ()

    def __matmul__(self, other: Term) -> Term:
        return Term("·", (self, other))

    @property
    def T(self) -> Term:
        """The transpose, moved inwards as far as it goes, so that equal tensors are equal terms."""
        match self.op, self.args:
            case "ᵀ", (inner,):
                return inner
            case "·", (left, right):
                return right.T @ left.T
            case "gelu", (inner,):
                return gelu(inner.T)
        return Term("ᵀ", (self,))

    def __str__(self) -> str:
        match self.op, self.args:
            case name, ():
                return name
            case "ᵀ", (inner,):
                return f"{inner}ᵀ"
            case "·", (left, right):
                return f"{left}·({right})" if right.op == "·" else f"{left}·{right}"
        return f"{self.op}({self.args[0]})"


def gelu(term: Term) -> Term:
    """Return the term of an activation."""
    return Term("gelu", (term,))


def norm(term: Term) -> Term:
    """Return the term of a norm over each row."""
    return Term("norm", (term,))


@dataclass(frozen=True)
class Shard:
    """A block of a tensor.

    Attributes
    ----------
    term : Term
        The tensor that it is a block of.
    whole : (int, int)
        That tensor's shape.
    rows, cols : Span
        The block's place in it.
    inner : int
        The size of the dimension that the tensor's product sums over; 1 if it is no product.
    sums : Sums
        How often each part of that dimension is in the block; once everywhere when the sum is finished.
    """

    term: Term
    whole: tuple[int, int]
    rows: Span
    cols: Span
    inner: int = 1
    sums: Sums = ((0, 1, 1),)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the block."""
        return self.rows[1] - self.rows[0], self.cols[1] - self.cols[0]

    @property
    def finished(self) -> bool:
        """Whether all of the inner dimension is summed, once."""
        return self.sums == ((0, self.inner, 1),)

    @property
    def T(self) -> Shard:
        """The transposed block."""
        return replace(self, term=self.term.T, whole=self.whole[::-1], rows=self.cols, cols=self.rows)

    def __str__(self) -> str:
        place = [
            f"{name} {start}:{stop}"
            for name, (start, stop), full in zip(
                ("rows", "columns"), (self.rows, self.cols), self.whole, strict=True
            )
            if (start, stop) != (0, full)
        ]
        said = f"{', '.join(place)} of {self.term}" if place else str(self.term)
        return said if self.finished else f"{said} ({self.unfinished})"

    @property
    def unfinished(self) -> str:
        """What the sum lacks, or has too often."""
        if self.inner == 1:
            return f"{self.sums[0][2]} times"
        many = [f"{a}:{b} {times} times" for a, b, times in self.sums if times > 1]
        listed = ", ".join(many) if many else ", ".join(f"{a}:{b}" for a, b, _ in self.sums)
        return f"summed over {listed} of {self.inner}" + ("" if many else " only")


def loaded(name: str, whole: tuple[int, int], rows: Span, cols: Span) -> Shard:
    """Return a block of a tensor that is given."""
    return Shard(Term(name), whole, rows, cols)


def product(x: Shard, a: Shard) -> Shard:
    """Return x·a: the part of the sum that the columns of x and the rows of a have in common."""
    for operand in (x, a):
        _need_finished(operand, "a product")
    if x.whole[1] != a.whole[0] or x.cols != a.rows:
        raise ScheduleError(
            "does not fit",
            f"matmul of {x} by {a}: columns {x.cols[0]}:{x.cols[1]} meet rows {a.rows[0]}:{a.rows[1]}",
            "the columns of the first must be the same indices as the rows of the second",
        )
    whole = (x.whole[0], a.whole[1])
    return Shard(x.term @ a.term, whole, x.rows, a.cols, inner=x.whole[1], sums=((*x.cols, 1),))


def mapped(function: str, x: Shard) -> Shard:
    """Return gelu or norm of a block."""
    _need_finished(x, function)
    if function == "norm" and x.cols != (0, x.whole[1]):
        raise ScheduleError(
            "does not fit", f"norm of {x}: it needs whole rows", "cut the tensor by rows, or gather it first"
        )
    return Shard(Term(function, (x.term,)), x.whole, x.rows, x.cols)


def added(shards: Sequence[Shard]) -> Shard:
    """Return the sum of blocks that are parts of the same sum."""
    first = shards[0]
    for other in shards[1:]:
        if (other.term, other.rows, other.cols) != (first.term, first.rows, first.cols):
            raise ScheduleError(
                "does not fit",
                f"a sum of {first} and {other}: they are not the same rows and columns of one tensor",
                "sums are for unfinished sums of the same block; side by side, blocks are gathered",
            )
    return replace(first, sums=_counted(part for shard in shards for part in shard.sums))


def gathered(shards: Sequence[Shard], axis: int) -> Shard:
    """Return blocks put one after another along an axis, in the order of ranks."""
    first = shards[0]
    spans = [(shard.rows, shard.cols)[axis] for shard in shards]
    across = {(shard.term, (shard.cols, shard.rows)[axis], shard.sums) for shard in shards}
    follows = all(before[1] == after[0] for before, after in pairwise(spans))
    if len(across) > 1 or not follows:
        listed = " | ".join(map(str, shards))
        raise ScheduleError(
            "does not fit",
            f"an all-gather along {('rows', 'columns')[axis]} of {listed}: they do not follow one another",
            "in the order of ranks, each block must begin where the one before ends: mind the axis",
        )
    joined = (spans[0][0], spans[-1][1])
    return replace(first, rows=joined) if axis == 0 else replace(first, cols=joined)


def piece(x: Shard, axis: int, index: int, parts: int) -> Shard:
    """Return one of equal parts of a block along an axis."""
    start, stop = (x.rows, x.cols)[axis]
    span = part_of(stop - start, (index, parts))
    moved = (start + span[0], start + span[1])
    return replace(x, rows=moved) if axis == 0 else replace(x, cols=moved)


def part_of(size: int, part: tuple[int, int]) -> Span:
    """Return the `part[0]`-th of `part[1]` equal parts of a dimension."""
    index, parts = part
    if not 0 <= index < parts or size % parts:
        raise ScheduleError(
            "no such part",
            f"part {index} of {parts} of {size}: there is none",
            "parts are equal, and numbered from 0: (0, 2) and (1, 2) are the halves",
        )
    return index * size // parts, (index + 1) * size // parts


def _need_finished(x: Shard, where: str) -> None:
    if not x.finished:
        raise ScheduleError(
            "unfinished sum",
            f"{where} of {x}: this is not yet {x.term}",
            f"{where} of parts, added up later, is not the same or not tracked here: finish the sum first",
        )


def _counted(parts: Iterable[tuple[int, int, int]]) -> Sums:
    """Return how often each part is there, with neighbours of the same count joined."""
    parts = list(parts)
    edges = sorted({edge for start, stop, _ in parts for edge in (start, stop)})
    found: list[tuple[int, int, int]] = []
    for start, stop in pairwise(edges):
        times = sum(n for a, b, n in parts if a <= start < b)
        if found and found[-1][1:] == (start, times):
            found[-1] = (found[-1][0], stop, times)
        elif times:
            found.append((start, stop, times))
    return tuple(found)
