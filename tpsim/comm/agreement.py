"""Before a collective, ranks agree on what it is: different calls are an error on every rank."""

from __future__ import annotations

import hashlib
import sys
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.algorithms import Steps
from tpsim.comm.errors import CollectiveMismatchError
from tpsim.comm.places import line_of
from tpsim.comm.signature import Signature, Standing, disagreement, name_ranks, report
from tpsim.comm.virtual import VirtualComm

MISMATCH_TAG = 1 << 14
"""The tag of the messages that tell of a mismatch: the first behind the collectives' own."""
_DIGEST = 16  # bytes


def agree(comm: Any, call: Signature) -> Steps:
    """Wait until every rank of `comm` is about to make a collective, and compare their signatures.

    Raises
    ------
    CollectiveMismatchError
        On every rank, if any two signatures differ: who calls what, from which line.
    """
    if isinstance(comm, VirtualComm):
        yield (comm.request(comm.meet(call, None, lambda values: values)),)
        return
    mine = _digest(call)
    everybodys = np.empty((comm.size, _DIGEST), np.uint8)
    yield (comm.Iallgather(mine, everybodys),)
    if (everybodys != mine).any():
        raise mismatch(comm, call)


@lru_cache(maxsize=4096)  # a program makes the same few calls again and again
def _digest(call: Signature) -> NDArray[np.uint8]:
    return np.frombuffer(hashlib.blake2b(repr(call).encode(), digest_size=_DIGEST).digest(), np.uint8)


def mismatch(comm: Any, call: Signature) -> CollectiveMismatchError:
    """Return the error that names every rank's call.

    All ranks come here: if any two digests differ, every rank sees one that is not its own. They tell each
    other by messages: other collectives may be under way, and not the same ones everywhere.
    """
    from mpi4py import MPI

    mine = (MPI.COMM_WORLD.rank, call, line_of(sys._getframe()))
    peers = [rank for rank in range(comm.size) if rank != comm.rank]
    sends = [comm.isend(mine, rank, MISMATCH_TAG) for rank in peers]
    everybodys = sorted(
        [mine, *(comm.recv(None, rank, MISMATCH_TAG) for rank in peers)], key=lambda told: told[0]
    )
    for send in sends:
        send.wait()
    signatures = [signature for _, signature, _ in everybodys]
    names = " / ".join(sorted({signature.operation for signature in signatures}))
    standings = {rank: Standing(str(signature), line) for rank, signature, line in everybodys}
    among = "" if comm.size == MPI.COMM_WORLD.size else f" among {name_ranks(list(standings))}"
    return CollectiveMismatchError(f"{names}{among}: {disagreement(signatures)}\n{report(standings)}")
