"""What is left behind when every rank has returned: messages, collectives and requests without an end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tpsim.comm.places import name
from tpsim.comm.signature import Signature, name_ranks
from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.data.constants import ANY_SOURCE
from tpsim.comm.virtual.mail import Receive

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World

_SHOWN = 10


def unfinished(world: World) -> str | None:
    """Say what was left behind when every rank had returned; None where nothing was."""
    left = list(_without_partner(world))
    if left:
        what = "communication was left without its partner"
        remedy = (
            "match every send with a receive (destination and tag), join every collective on every rank of "
            "its group, and wait for every non-blocking call"
        )
    else:
        left = list(_not_waited_for(world))
        what = "calls that were begun were never completed"
        remedy = (
            "keep the request of every non-blocking call, and Wait for it (or Waitall): until then its "
            "buffer is not yours to read or to write"
        )
    if not left:
        return None
    shown = left if len(left) <= _SHOWN else [*left[: _SHOWN - 1], f"… and {len(left) - _SHOWN + 1} more"]
    return "\n  ".join([f"every rank {world.ended.split()[0]}, and {what}:", *shown]) + f"\n{remedy}"


def strays(world: World) -> str:
    """Name in brackets some messages that were sent and that nobody received."""
    found = []
    for m in world.mail.undelivered():
        to = world.members[m.box[0]][m.box[1]]
        found.append(f"rank {m.sender} to rank {to} with tag {m.tag}{_at(m, m.sender)}")
    return f" (sent and not received: {'; '.join(found[:4])})" if found else ""


def near_miss(world: World, receives: Sequence[Receive]) -> str:
    """Say that a message lies there which only its tag, or its source, keeps from being received; or ""."""
    for receive in receives:
        for message in world.mail.undelivered():
            if message.box != receive.box:
                continue
            to = world.members[message.box[0]][message.box[1]]
            place = name(message.begun(message.sender))
            where = f" ({place})" if place else ""
            sent = f"rank {message.sender} sent rank {to} a message with tag {message.tag}{where}"
            wanted = receive.asked().removeprefix("from ")
            if receive.source in (message.source, ANY_SOURCE):
                remedy = "use one tag on both sides"
            else:
                remedy = "receive from the rank that sends, or from ANY_SOURCE"
            return f"{sent}, and rank {to} waits for one from {wanted}: {remedy}"
    return ""


def _without_partner(world: World) -> Iterator[str]:
    for message in world.mail.undelivered():
        to = world.members[message.box[0]][message.box[1]]
        yield (
            f"rank {message.sender} sent rank {to} a message (tag {message.tag}, {message.data.nbytes} "
            f"bytes) that was never received{_at(message, message.sender)}"
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
    for rank, begun in enumerate(world.begun_calls):
        of_groups = {place for call, place in begun.values() if isinstance(call, Signature)}
        for key, (call, place) in begun.items():
            if place in of_groups and not isinstance(call, Signature):
                continue  # a message that a group's call is made of
            what = _what(key, call, rank, world)
            yield f"rank {rank} began {what} and never waited for it  at {name(place)}"


def _what(key: Any, call: object, rank: int, world: World) -> str:
    """Return a call in words: a request knows more than its name."""
    completion = getattr(key, "completion", None)
    return completion.describe(rank, world) if isinstance(completion, Completion) else str(call)


def _at(completion: Completion, rank: int) -> str:
    begun = name(completion.begun(rank))
    return f"  at {begun}" if begun else ""
