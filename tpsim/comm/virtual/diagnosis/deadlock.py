"""What is said when ranks can't go on together, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpsim.comm.places import line_of, name
from tpsim.comm.signature import Standing, absence, disagreement, name_ranks, report, struck
from tpsim.comm.virtual.completion import Completion, Several
from tpsim.comm.virtual.diagnosis.cycle import Wait, find_cycle, is_of_messages, is_of_sends, tell_cycle
from tpsim.comm.virtual.diagnosis.leftovers import near_miss, strays
from tpsim.comm.virtual.diagnosis.standing import standings, wants
from tpsim.comm.virtual.mail import Receive
from tpsim.comm.virtual.meeting import Meeting
from tpsim.comm.virtual.never import Never
from tpsim.comm.virtual.patient_library import ForThread

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World


def mismatch(world: World, meeting: Meeting) -> str:
    """Say how the calls of a meeting's ranks differ, and what to do."""
    signatures = [s for s in meeting.signatures if s is not None]
    calls = {
        member: Standing(str(signature), name(meeting.begun(member)) or line_of(world.frame_of(member)))
        for member, signature in zip(meeting.members, meeting.signatures, strict=True)
    }
    return f"{_names(meeting)}{meeting.among(world)}: {disagreement(signatures)}\n{report(calls)}"


def deadlock(world: World) -> str:
    """Say that no rank can go on, where each stands, who waits for whom, and what to do."""
    live = world.size - len(world.finished)
    if not live:
        who = f"every rank {_returned(world)}, threads that they started wait"
    elif world.size == 1:
        who = "the only rank waits"
    elif live == world.size:
        who = f"all {live} ranks wait"
    else:
        waiting = name_ranks([rank for rank in range(world.size) if rank not in world.finished])
        who = f"{waiting} of {world.size} wait{'s' if live == 1 else ''}, the others {_returned(world)}"
    cycle = find_cycle(world) if world.size > 1 else []
    lines = [f"deadlock: {who}, and none can go on", standings(world)]
    if cycle:
        lines.append(f"wait cycle: {tell_cycle(world, cycle)}")
    return "\n".join([*lines, *world.struck, _remedy(world, cycle)])


def _remedy(world: World, cycle: list[Wait]) -> str:
    """Return the most telling sentence about a deadlock."""
    wanted = {rank: c for rank in range(world.size) if (c := wants(world, rank)) is not None}
    stricken = [rank for rank, completion in wanted.items() if isinstance(completion, Never)]
    if stricken:
        return struck(stricken)
    waited_for = [*wanted.values(), *(sleeper.completion for sleeper in world.aside.waiting.values())]
    meetings = [c for c in dict.fromkeys(waited_for) if isinstance(c, Meeting)]
    for meeting in [*meetings, *world.meetings.values()]:
        if not meeting.agreed:
            return disagreement([s for s in meeting.signatures if s is not None])
    for meeting in meetings:
        absent = [rank for rank in meeting.missing() if rank in world.finished]
        if absent:
            return absence(absent, _returned(world), _names(meeting))
    if len(meetings) > 1:
        return (
            "ranks wait in different collectives, for each other: call the collectives of different groups "
            "in the same order on every rank, or begin them all (the forms with i) before waiting for any"
        )
    for meeting in meetings:
        return absence(meeting.missing(), "", _names(meeting))
    if cycle and is_of_messages(cycle):
        first = "receive" if is_of_sends(cycle) else "send"
        return f"let one of them {first} first, or use Sendrecv or the non-blocking forms"
    receives = [receive for completion in waited_for for receive in _receives(completion)]
    if receives:
        return near_miss(world, receives) or (
            "a message that is waited for was never sent: check the destination and tag of the sends, and "
            f"that nobody returned early{strays(world)}"
        )
    if any(isinstance(completion, ForThread) for completion in wanted.values()):
        return (
            "what a rank waits for no thread does any more: look for one that failed, and for an event that "
            "nobody sets"
        )
    return (
        "a message that is being sent is never received: check that every send has a receive, with its "
        "source and its tag, and that nobody returned early"
    )


def _receives(completion: Completion) -> list[Receive]:
    if isinstance(completion, Several):
        return [receive for member in completion.waits_for() for receive in _receives(member)]
    return [completion] if isinstance(completion, Receive) else []


def _returned(world: World) -> str:
    return world.ended.split()[0]


def _names(meeting: Meeting) -> str:
    return " / ".join(sorted({s.operation for s in meeting.signatures if s is not None}))
