"""A group's send and receive: one array from one rank to another."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import faults
from tpsim.comm.agreement import MISMATCH_TAG
from tpsim.comm.algorithms import Steps
from tpsim.comm.backend import Array, Pending
from tpsim.comm.dry_backend import DryComm, DryPending
from tpsim.comm.errors import TruncationError
from tpsim.comm.faults.damage import damaged
from tpsim.comm.message_backend import StepsPending
from tpsim.comm.port import CommPort
from tpsim.comm.wire import Check, checksum, corruption

_HEADER, _SHAPE = 128, 124  # bytes in all, and of shape and dtype


def send(
    comm: Any, x: Array, to: int, tag: int, *, check: Check, fault: faults.Fault | None = None
) -> Pending:
    """Send `x`. With `check`, its shape and dtype go first, and the send ends only once it is received.

    A program that is right only because messages are buffered hangs one day, when they grow; ending
    no send before its receive finds it at once. With "data" its checksum goes along.
    """
    lost = fault is not None and fault.kind == "drop"
    if isinstance(comm, DryComm) or lost:  # what is lost seems to be sent
        return DryPending(x, x.size, (1, x.nbytes))
    data = x.ravel()  # contiguous, which reshape(-1) of a slice need not be
    told = checksum(data) if check == "data" else 0
    if fault is not None:
        data = damaged(data, fault.seed)
    port = CommPort(comm, _tag(tag), synchronous=bool(check))

    def steps() -> Steps:
        header = (comm.Isend(_header(x, told), to, _tag(tag) + 1),) if check else ()
        yield (*header, port.send(data, to))

    return StepsPending(steps(), data, port.sent)


def recv(comm: Any, like: Array, source: int, tag: int, *, check: Check) -> Pending:
    """Receive an array of `like`'s shape and dtype.

    Raises
    ------
    TruncationError
        With `check`, if the sender's array is of another shape or dtype.
    CorruptionError
        With "data", if it is not what was sent.
    """
    if isinstance(comm, DryComm):
        return DryPending(like, like.size, (0, 0))
    buffer = np.empty(like.size, like.dtype)
    port = CommPort(comm, _tag(tag))

    def steps() -> Steps:
        header, wanted = np.empty(_HEADER, np.uint8), _header(like)
        told = (comm.Irecv(header, source, _tag(tag) + 1),) if check else ()
        data = port.recv(buffer, source)  # asked for with its header: two receives must not swap their data
        yield told
        if check and (header != wanted)[:_SHAPE].any():
            with contextlib.suppress(Exception):  # it comes all the same, and MPI says that it doesn't fit
                data.Wait()
            raise TruncationError(
                f"recv: rank {source} sent {_text(header)}; rank {comm.rank} receives {_text(wanted)}; "
                "pass a `like` of the sender's shape and dtype"
            )
        yield (data,)
        if check == "data" and (header[_SHAPE:] != _header(like, checksum(buffer))[_SHAPE:]).any():
            raise corruption("recv", comm, source)

    return StepsPending(steps(), buffer, port.sent)


def _header(x: Array, told: int = 0) -> NDArray[np.uint8]:
    """Return shape, dtype and checksum in a fixed length, so that they can be waited for like any message."""
    shape = f"shape {x.shape}, {x.dtype}".encode()[:_SHAPE].ljust(_SHAPE)
    return np.frombuffer(shape + told.to_bytes(_HEADER - _SHAPE, "little"), np.uint8)


def _text(header: NDArray[np.uint8]) -> str:
    return header[:_SHAPE].tobytes().decode().strip()


def _tag(tag: int) -> int:
    if tag < 0:
        raise ValueError(f"send, recv: tag {tag} is negative; pick 0 or more")
    return MISMATCH_TAG + 1 + 2 * tag  # behind tpsim's own tags; the next one is the header's
