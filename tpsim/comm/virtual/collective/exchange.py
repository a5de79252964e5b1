"""Collectives that move data: every block of one rank goes straight into its place at another.

The last rank to come does it for all, while the others wait: no rank can change a buffer meanwhile.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.errors import CollectiveMismatchError
from tpsim.comm.virtual.collective.measure import check_arrived, dtype_of, sizes_of
from tpsim.comm.virtual.collective.part import Block, Part

Nothing = Sequence[None]
"""Every rank's result: what it gets is in its buffer."""


def routes(call: str, parts: Sequence[Part]) -> Iterator[tuple[Part, Block, Part, Block]]:
    """Yield (who sends, which block, who receives, into which block) for everything that is sent.

    The n-th block that one rank sends another is the n-th that the other awaits from it.

    Raises
    ------
    CollectiveMismatchError
        If a block is sent that nobody awaits, or awaited and not sent.
    """
    sent: defaultdict[tuple[int, int], deque[Block]] = defaultdict(deque)
    for source, part in enumerate(parts):
        for to, block in part.out:
            sent[source, to].append(block)
    for to, part in enumerate(parts):
        for source, place in part.into:
            waiting = sent[source, to]
            if not waiting:
                raise _stray(call, part, "awaits data from", parts[source], "which sends it none")
            yield parts[source], waiting.popleft(), part, place
    for (source, to), waiting in sent.items():
        if waiting:
            raise _stray(call, parts[source], "sends data to", parts[to], "which awaits none from it")


def exchange(call: str, parts: Sequence[Part]) -> Nothing:
    """Carry every block to its place."""
    carried = []
    for sender, block, receiver, place in routes(call, parts):
        data = sender.send.pack(block)
        check_arrived(call, sender, data, receiver, place)
        carried.append((receiver.recv, data, place))
    for buffer, data, place in carried:  # only now: nothing is changed where something does not fit
        buffer.unpack(data, place)
    return [None] * len(parts)


def share(call: str, parts: Sequence[Part]) -> Nothing:
    """Give every rank what all those whom it hears send, one behind another.

    It is what `exchange` does where everybody sends everybody the same, in a number of steps that grows
    with the ranks and not with their square.
    """
    joined: dict[range, NDArray[Any]] = {}
    for hears in {part.hears for part in parts}:
        pieces = [parts[seat].send.pack() for seat in hears]
        sizes, dtypes = [piece.size for piece in pieces], {piece.dtype for piece in pieces if piece.size}
        for part in parts:
            if part.hears == hears and (sizes_of(part.recv) != sizes or dtypes - {dtype_of(part.recv)}):
                for place, (seat, piece) in enumerate(zip(hears, pieces, strict=True)):
                    check_arrived(call, parts[seat], piece, part, place)
        joined[hears] = np.concatenate([piece for piece in pieces if piece.size] or pieces[:1])
    for part in parts:
        part.recv.unpack(joined[part.hears])
    return [None] * len(parts)


def deal(parts: Sequence[Part]) -> Nothing:
    """Make block j of rank i block i of rank j, where all blocks are of one size."""
    size = len(parts)
    sent = np.concatenate([part.send.pack() for part in parts])  # a copy: what is sent may be overwritten
    table = sent.reshape(size, size, sent.size // size**2)  # [from, to, element]
    for rank, part in enumerate(parts):
        part.recv.unpack(table[:, rank].reshape(-1))
    return [None] * size


def _stray(call: str, one: Part, does: str, other: Part, whereas: str) -> CollectiveMismatchError:
    return CollectiveMismatchError(
        f"{call}: rank {one.name} {does} rank {other.name}, {whereas}; let all ranks name the same root, and "
        "neighbours name each other"
    )
