"""Why virtual ranks can't go on: where each one stands, and what to look at first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tpsim.comm.places import line_of, name
from tpsim.comm.signature import POINT_TO_POINT, Standing, absence, disagreement, name_ranks, report
from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.constants import ANY_SOURCE
from tpsim.comm.virtual.mail import Message, Receive
from tpsim.comm.virtual.meeting import Meeting

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World

_SHOWN = 10  # left-overs


def mismatch(world: World, meeting: Meeting) -> str:
    """Say how the calls of a meeting's ranks differ, and what to do."""
    signatures = [s for s in meeting.signatures if s is not None]
    calls = {
        member: Standing(str(signature), name(meeting.begun(member)) or line_of(world.frame_of(member)))
        for member, signature in zip(meeting.members, meeting.signatures, strict=True)
    }
    return f"{_names(meeting)}{meeting.among(world)}: {disagreement(signatures)}\n{report(calls)}"


def deadlock(world: World) -> str:
    """Say that no rank can go on, where each stands, and what to do."""
    live = world.size - len(world.finished)
    if world.size == 1:
        who = "the only rank waits"
    elif live == world.size:
        who = f"all {live} ranks wait"
    else:
        waiting = name_ranks([rank for rank in range(world.size) if rank not in world.finished])
        who = f"{waiting} of {world.size} wait{'s' if live == 1 else ''}, the others returned"
    standings = {rank: _standing(world, rank) for rank in range(world.size)}
    return f"deadlock: {who}, and none can go on\n{report(standings)}\n{_remedy(world)}"


def unfinished(world: World) -> str | None:
    """Say what was left behind when every rank had returned; None where nothing was."""
    left = list(_left(world)) or list(_not_waited_for(world))
    if not left:
        return None
    shown = left if len(left) <= _SHOWN else [*left[: _SHOWN - 1], f"… and {len(left) - _SHOWN + 1} more"]
    return "\n  ".join(["every rank returned, and communication was left without its partner:", *shown]) + (
        "\nmatch every send with a receive (destination and tag), join every collective on every rank of its "
        "group, and wait for every non-blocking call"
    )


# -- where a rank stands ------------------------------------------------------------------------------------


def _standing(world: World, rank: int) -> Standing:
    if rank in world.finished:
        return Standing("returned from main")
    line = line_of(world.frame_of(rank))
    waiting_for, asked = world.waiting_for[rank], world.polls.asked(rank, world.moves)
    completion = waiting_for or asked
    if completion is None:
        return Standing("running", line)
    doing = completion.describe(rank, world)
    call = world.calling[rank]
    if call is not None:  # a group's call, made of messages
        if call.operation in POINT_TO_POINT:
            doing = str(call)
        elif not doing.startswith(str(call)):  # where the ranks agree on a call, it is that call
            doing = f"{call}, in {doing}"
    if waiting_for is None:
        doing = f"asks again and again for {doing}"
    begun = name(completion.begun(rank))
    if begun and begun != line and call is None:
        doing = f"{doing}, begun at {begun}"
    return Standing(doing, line)


def _left(world: World) -> Iterator[str]:
    for message in world.mail.undelivered():
        members = world.members[message.box[0]]
        yield (
            f"rank {members[message.source]} sent rank {members[message.box[1]]} a message (tag "
            f"{message.tag}, {message.data.nbytes} bytes) that was never received{_at(message, 0)}"
        )
    for receive in world.mail.unmet():
        rank = world.members[receive.box[0]][receive.box[1]]
        yield f"rank {rank} began {receive.describe(rank, world)}, and nothing came{_at(receive, rank)}"
    for meeting in world.meetings.values():
        for member, signature in zip(meeting.members, meeting.signatures, strict=True):
            if signature is not None:
                yield (
                    f"rank {member} began {signature}, and {name_ranks(meeting.missing())} never did"
                    f"{_at(meeting, member)}"
                )


def _not_waited_for(world: World) -> Iterator[str]:
    for rank, begun in enumerate(world.begun):
        for call, place in begun.values():
            yield f"rank {rank} began {call} and never waited for it  at {name(place)}"


def _at(completion: Completion, rank: int) -> str:
    begun = name(completion.begun(rank))
    return f"  at {begun}" if begun else ""


# -- what to do about it ------------------------------------------------------------------------------------


def _remedy(world: World) -> str:
    """Return the most telling sentence about a deadlock."""
    waited_for = [c for rank in range(world.size) if (c := _wants(world, rank)) is not None]
    meetings = [c for c in dict.fromkeys(waited_for) if isinstance(c, Meeting)]
    for meeting in [*meetings, *world.meetings.values()]:
        if not meeting.agreed:
            return disagreement([s for s in meeting.signatures if s is not None])
    for meeting in meetings:
        absent = [rank for rank in meeting.missing() if rank in world.finished]
        if absent:
            return absence(absent, "returned", _names(meeting))
    if len(meetings) > 1:
        return (
            "ranks wait in different collectives, for each other: call the collectives of different groups "
            "in the same order on every rank, or begin them all (the forms with i) before waiting for any"
        )
    for meeting in meetings:
        return absence(meeting.missing(), "", _names(meeting))
    cycle = _cycle(world)
    if cycle:
        sending = all(isinstance(_wants(world, rank), Message) for rank in cycle)
        names = [f"rank {rank}" for rank in cycle]
        chain = " waits for ".join(names if len(names) <= 9 else [*names[:4], "…", *names[-4:]])
        first = "receive" if sending else "send"
        return f"{chain}: let one of them {first} first, or use Sendrecv or the non-blocking forms"
    if any(isinstance(completion, Receive) for completion in waited_for):
        return (
            "a message that is waited for was never sent: check the destination and tag of the sends, and "
            f"that nobody returned early{_strays(world)}"
        )
    return (
        "a message that is being sent is never received: check that every send has a receive, with its "
        "source and its tag, and that nobody returned early"
    )


def _wants(world: World, rank: int) -> Completion | None:
    return None if rank in world.finished else world.waiting_for[rank] or world.polls.asked(rank, world.moves)


def _names(meeting: Meeting) -> str:
    return " / ".join(sorted({s.operation for s in meeting.signatures if s is not None}))


def _strays(world: World) -> str:
    strays = []
    for m in world.mail.undelivered():
        members = world.members[m.box[0]]
        strays.append(f"rank {members[m.source]} to rank {members[m.box[1]]} with tag {m.tag}{_at(m, 0)}")
    return f" (sent and not received: {'; '.join(strays[:4])})" if strays else ""


def _cycle(world: World) -> list[int]:
    """Return ranks each of which waits for the next one's message, the first repeated at the end."""
    waits: dict[int, int] = {}
    for rank in range(world.size):
        completion = _wants(world, rank)
        if isinstance(completion, Receive) and completion.source != ANY_SOURCE:
            waits[rank] = world.members[completion.box[0]][completion.source]
        elif isinstance(completion, Message):
            waits[rank] = world.members[completion.box[0]][completion.box[1]]
    for start in waits:
        path = [start]
        while path[-1] in waits and len(path) <= len(waits):
            path.append(waits[path[-1]])
            if path[-1] == start:
                return path
    return []
