"""Messages: drawn ones in every form of sending, receiving and completing, and exchanges with neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from differential.objects import thing
from differential.programs import Rank, counts, dtypes, few, step, untouched, values
from differential.ways import COMPLETE, RECEIVE

MOST = 3000  # elements of a message

Message = tuple[int, int, int, int]
MESSAGES = st.lists(st.tuples(few, few, st.integers(0, 2), counts), max_size=6)


def among(messages: list[Message], size: int) -> list[Message]:
    """Return the messages (source, dest, tag, count) as a communicator of `size` ranks can have them."""
    return [(source % size, dest % size, tag, count) for source, dest, tag, count in messages]


def told(rank: Rank, status: Any, datatype: Any) -> list[Any]:
    """Return what a status says."""
    return [status.Get_source(), status.Get_tag(), status.Get_count(datatype), status.Is_cancelled()]


# -- all receives begun, then all sends, then completed ------------------------------------------------------


@step(
    messages=MESSAGES,
    order=st.lists(st.integers(0, 9), min_size=6, max_size=6),
    dtype=dtypes,
    send=st.sampled_from(["Isend", "Issend", "Ibsend", "Send", "Ssend", "Irsend", "Send_init", "Ssend_init"]),
    any_tag=st.booleans(),
    complete=st.sampled_from(sorted(COMPLETE)),
)
def receives_first(
    rank: Rank,
    seed: int,
    messages: list[Message],
    order: list[int],
    dtype: str,
    send: str,
    any_tag: bool,
    complete: str,
) -> Any:
    """Begin receives in any order; those of a source and tag are filled in the order of its sends."""
    MPI, comm, me = rank.MPI, rank.comm, rank.comm.rank
    messages = among(messages, comm.size)
    mine = [m for _, m in sorted(zip(order, messages, strict=False), key=lambda pair: pair[0]) if m[1] == me]
    buffers = [untouched(MOST, dtype) for _ in mine]
    tags = [MPI.ANY_TAG if any_tag else tag for _, _, tag, _ in mine]
    receives = [comm.Irecv(b, m[0], tag) for b, m, tag in zip(buffers, mine, tags, strict=True)]
    comm.Barrier()  # Irsend may only meet receives that have begun
    memory = bytearray(MPI.BSEND_OVERHEAD + sum(m[3] * 16 + MPI.BSEND_OVERHEAD for m in messages))
    MPI.Attach_buffer(memory)
    sends = []
    for number, (source, dest, tag, count) in enumerate(messages):
        if source == me:
            x = values(seed, number, count, dtype)
            request = getattr(comm, send)(x, dest, tag)
            if send.endswith("_init"):
                request.Start()
            sends += [(request, x)] if request is not None else []
    statuses = [MPI.Status() for _ in receives]
    COMPLETE[complete](rank, receives, statuses)
    MPI.Request.Waitall([request for request, _ in sends])
    for request, _ in sends:
        if send.endswith("_init"):
            request.Free()
    MPI.Detach_buffer()
    datatype = MPI.Datatype.fromcode(np.dtype(dtype).char)
    return [[b, told(rank, s, datatype)] for b, s in zip(buffers, statuses, strict=True)]


# -- one message after the other -----------------------------------------------------------------------------


@step(
    messages=MESSAGES,
    dtype=dtypes,
    send=st.sampled_from(["Send", "Ssend", "Isend", "Issend"]),
    receive=st.sampled_from(sorted(RECEIVE)),
    wild=st.sampled_from(["nothing", "source", "tag"]),
)
def in_turn(
    rank: Rank, seed: int, messages: list[Message], dtype: str, send: str, receive: str, wild: str
) -> Any:
    """Each message has a tag of its own, so that a receive from any source has one to meet."""
    MPI, comm, me = rank.MPI, rank.comm, rank.comm.rank
    datatype = MPI.Datatype.fromcode(np.dtype(dtype).char)
    found = []
    for tag, (source, dest, _, count) in enumerate(among(messages, comm.size)):
        x = values(seed, tag, count, dtype)
        request = None
        if me == source:
            request = getattr(comm, send if source != dest else "Isend")(x, dest, tag)
        if me == dest:
            y, status = untouched(MOST, dtype), MPI.Status()
            of, named = (
                (MPI.ANY_SOURCE if wild == "source" else source),
                (MPI.ANY_TAG if wild == "tag" else tag),
            )
            RECEIVE[receive](rank, y, of, named, status)
            found.append([y, told(rank, status, datatype)])
        if request is not None:
            request.Wait()
    comm.Barrier()  # messages of later steps may not come before
    return found


@step(
    messages=MESSAGES,
    send=st.sampled_from(["send", "ssend", "isend", "issend"]),
    receive=st.sampled_from(["recv", "irecv", "mprobe", "improbe"]),
)
def objects_in_turn(rank: Rank, seed: int, messages: list[Message], send: str, receive: str) -> Any:
    MPI, comm, me = rank.MPI, rank.comm, rank.comm.rank
    found = []
    for tag, (source, dest, _, _) in enumerate(among(messages, comm.size)):
        request = None
        if me == source:
            request = getattr(comm, send if source != dest else "isend")(thing(seed + tag, source), dest, tag)
        if me == dest:
            status = MPI.Status()
            if receive == "recv":
                what = comm.recv(source=source, tag=tag, status=status)
            elif receive == "irecv":
                what = comm.irecv(source=source, tag=tag).wait(status)
            elif receive == "mprobe":
                what = comm.mprobe(source, tag, status).recv()
            else:
                while (message := comm.improbe(source, tag, status)) is None:
                    pass
                what = message.irecv().wait()
            found.append([what, status.source, status.tag])
        if request is not None:
            request.wait()
    return found


@step(root=few, each=few, as_objects=st.booleans())
def from_any_source(rank: Rank, seed: int, root: int, each: int, as_objects: bool) -> Any:
    """Every rank sends to one; those of a source arrive in order."""
    MPI, comm, me = rank.MPI, rank.comm, rank.comm.rank
    root %= comm.size
    requests = []
    for number in range(each):
        x = values(seed + number, me, 3, "f8")
        requests.append(comm.isend(x, root, number) if as_objects else comm.Isend(x, root, number))
    found: list[list[Any]] = [[] for _ in range(comm.size)]
    for _ in range(each * comm.size if me == root else 0):
        status, y = MPI.Status(), untouched(3, "f8")
        if as_objects:
            y = comm.recv(status=status)
        else:
            comm.Recv(y, MPI.ANY_SOURCE, MPI.ANY_TAG, status)
        found[status.source].append((status.tag, y))
    for request in requests:
        request.wait() if as_objects else request.Wait()
    comm.Barrier()  # messages of later steps may not come before
    return found


# -- with neighbours -----------------------------------------------------------------------------------------


@step(
    shift=st.integers(-2, 2),
    around=st.booleans(),
    count=counts,
    dtype=dtypes,
    form=st.sampled_from(["Sendrecv", "Isendrecv", "Sendrecv_replace", "Isendrecv_replace", "sendrecv"]),
)
def shifted(rank: Rank, seed: int, shift: int, around: bool, count: int, dtype: str, form: str) -> Any:
    """Send along a line or a ring."""
    MPI, comm, me = rank.MPI, rank.comm, rank.comm.rank
    dest, source = (
        other % comm.size if around or 0 <= other < comm.size else MPI.PROC_NULL
        for other in (me + shift, me - shift)
    )
    x, y, status = values(seed, me, count, dtype), untouched(count, dtype), MPI.Status()
    if form == "sendrecv":
        return comm.sendrecv(thing(seed, me), dest, 3, None, source, 3, status), status.tag == 3
    if form.endswith("_replace"):
        y = x
        begun = getattr(comm, form)(y, dest, 5, source, 5, *([] if form.startswith("I") else [status]))
    else:
        begun = getattr(comm, form)(x, dest, 5, y, source, 5, *([] if form.startswith("I") else [status]))
    if form.startswith("I"):
        begun.Wait()
        return y
    nobody = status.source == MPI.PROC_NULL
    return y, None if nobody else status.source, status.Get_count(MPI.Datatype.fromcode(x.dtype.char))


@step(times=few, count=few, send=st.sampled_from(["Send_init", "Ssend_init"]), together=st.booleans())
def started_again(rank: Rank, seed: int, times: int, count: int, send: str, together: bool) -> Any:
    """Persistent requests around a ring, with other numbers each time."""
    MPI, comm, me = rank.MPI, rank.comm, rank.comm.rank
    x, y = untouched(count, "f8"), untouched(count, "f8")
    requests = [
        comm.Recv_init(y, (me - 1) % comm.size, 1),
        getattr(comm, send)(x, (me + 1) % comm.size, 1),
    ]
    found = []
    for number in range(times):
        x[:] = values(seed + number, me, count, "f8")
        if together:
            MPI.Prequest.Startall(requests)
        else:
            for request in requests:
                request.Start()
        MPI.Request.Waitall(requests)
        found.append(y.copy())
    for request in requests:
        request.Free()
    return found


@step(tag=few)
def given_up(rank: Rank, seed: int, tag: int) -> Any:
    """A receive that nobody sends to is cancelled."""
    request, status = rank.comm.Irecv(untouched(3, "i4"), rank.MPI.ANY_SOURCE, tag + 50), rank.MPI.Status()
    request.Cancel()
    request.Wait(status)
    return status.Is_cancelled(), request == rank.MPI.REQUEST_NULL


@step(
    calls=st.lists(st.sampled_from("bars"), max_size=6),
    order=st.lists(st.integers(0, 9), min_size=6, max_size=6),
)
def under_way_together(rank: Rank, seed: int, calls: list[str], order: list[int]) -> Any:
    """Several non-blocking calls are begun, collectives and messages, and waited for in another order."""
    MPI, comm, me = rank.MPI, rank.comm, rank.comm.rank
    begun, found = [], []
    for number, what in enumerate(calls):
        x, y = values(seed + number, me, 3, "f8"), untouched(3, "f8")
        if what == "b":
            y = x
            begun.append(comm.Ibcast(y, number % comm.size))
        elif what == "a":
            begun.append(comm.Iallreduce(x, y, MPI.MIN))
        elif what == "r":
            begun.append(comm.Irecv(y, (me - 1) % comm.size, number))
            begun.append(comm.Isend(x, (me + 1) % comm.size, number))
        else:
            begun.append(comm.Iscan(x, y))
        found.append(y)
    for _, request in sorted(zip(order * 2, begun, strict=False), key=lambda pair: pair[0]):
        request.Wait()
    return found
