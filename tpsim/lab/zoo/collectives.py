"""Collectives that give wrong sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tpsim.comm import Group
from tpsim.comm.algorithms import ALGORITHMS, Array, Port, Steps
from tpsim.comm.backend import Reduction
from tpsim.lab.collectives import collectives, collectives_are_exact
from tpsim.lab.zoo.bug import Bug

good_all_reduce = Group.all_reduce


def two_shot(port: Port, buffer: Array, op: np.ufunc) -> Steps:
    """First shot: everybody sends chunk r to rank r, which reduces it. Second shot: rank r sends it to all.

    All chunks are padded to one length.
    """
    p, chunk = port.size, -(-buffer.size // port.size)
    chunks = np.zeros_like(buffer, shape=(p, chunk))
    chunks.ravel()[: buffer.size] = buffer
    total = chunks[port.rank].copy()
    inbox = np.empty_like(total)
    for step in range(1, p):
        to, source = (port.rank + step) % p, (port.rank - step) % p
        yield (port.recv(inbox, source), port.send(chunks[to], to))
        op(total, inbox, out=total)
    chunks[0] = total  # counts from itself, not from rank 0
    for step in range(1, p):
        to, source = (port.rank - step) % p, (port.rank + step) % p
        yield (port.recv(inbox, source), port.send(total, to))
        chunks[step] = inbox
    buffer[...] = chunks.ravel()[: buffer.size]


def all_reduce_as_it_lies(self: Group, x: Array, op: Reduction = "sum", *, out: Array | None = None) -> Array:
    """Reduce in place without a copy: sums do not care how memory is ordered, if only all ranks agree."""
    if out is not x or not (x.flags.c_contiguous or x.flags.f_contiguous):
        return good_all_reduce(self, x, op, out=out)
    memory = x.reshape(-1) if x.flags.c_contiguous else x.T.reshape(-1)  # a view
    good_all_reduce(self, memory, op, out=memory)
    return x


BUGS = [
    Bug(
        number=31,
        name="two-shot-from-rank-zero",
        title="a two-shot all-reduce that is right on rank 0 alone",
        goes_wrong="every sum is right and in the wrong place, but on rank 0, the one that prints.",
        seen_in=("FasterTransformer#672",),
        replaces="tpsim.comm.algorithms.ALGORITHMS.ring",
        patient=replace(ALGORITHMS["ring"], all_reduce=two_shot),
        caught_by=collectives_are_exact,
        cases=collectives,
    ),
    Bug(
        number=33,
        name="memory-as-it-lies",
        title="an in-place all-reduce of C order on one rank and Fortran order on another",
        goes_wrong="every rank adds other entries together; sizes and types agree, so nothing complains.",
        seen_in=(),
        replaces="tpsim.comm.group.Group.all_reduce",
        patient=all_reduce_as_it_lies,
        caught_by=collectives_are_exact,
        cases=collectives,
    ),
]
