"""The wait cycle of a deadlock: each rank waits for the next one, and the last for the first."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from tpsim.comm.places import called, entry, line_of
from tpsim.comm.virtual.completion import AllOf, AnyOf, Completion
from tpsim.comm.virtual.data.constants import ANY_SOURCE
from tpsim.comm.virtual.diagnosis.standing import waiting_in, wants
from tpsim.comm.virtual.mail import Message, Receive
from tpsim.comm.virtual.meeting import Meeting

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World

_SHOWN = 6  # ranks of a cycle


class Wait(NamedTuple):
    """A rank that can't go on without another."""

    rank: int
    other: int
    completion: Completion


def find_cycle(world: World) -> list[Wait]:
    """Return a wait cycle, the shortest that the first rank in one is in; empty where there is none."""

    @cache  # a collective of many ranks may wait for as many
    def waits(rank: int) -> list[Wait]:
        return list(_waits(wants(world, rank), rank, world))

    for start in range(world.size):
        paths: list[list[Wait]] = [[]]
        seen = {start}
        for path in paths:  # breadth first: it grows meanwhile
            for wait in waits(path[-1].other if path else start):
                if wait.other == start:
                    return [*path, wait]
                if wait.other not in seen:
                    seen.add(wait.other)
                    paths.append([*path, wait])
    return []


def tell_cycle(world: World, cycle: list[Wait]) -> str:
    """Return "rank 0 in Recv from 1 at a.py:12 ↔ rank 1 in Recv from 0 at a.py:12"."""
    steps = [f"rank {wait.rank} in {_doing(world, wait)}" for wait in cycle]
    if len(steps) == 2:
        return " ↔ ".join(steps)
    if len(steps) > _SHOWN:
        steps[_SHOWN // 2 : -_SHOWN // 2] = [f"… {len(steps) - _SHOWN} more …"]
    return " → ".join([*steps, f"rank {cycle[0].rank}"])


def is_of_messages(cycle: list[Wait]) -> bool:
    """Tell whether nobody in it waits in a collective."""
    return not any(isinstance(wait.completion, Meeting) for wait in cycle)


def is_of_sends(cycle: list[Wait]) -> bool:
    """Tell whether everybody in it sends."""
    return all(isinstance(wait.completion, Message) for wait in cycle)


def _waits(completion: Completion | None, rank: int, world: World) -> Iterator[Wait]:
    if isinstance(completion, Receive) and completion.source != ANY_SOURCE:
        yield Wait(rank, completion.peers[completion.source], completion)
    elif isinstance(completion, Message):
        yield Wait(rank, world.members[completion.box[0]][completion.box[1]], completion)
    elif isinstance(completion, Meeting):
        for missing in sorted(set(completion.missing()) - world.finished):
            yield Wait(rank, missing, completion)
    elif isinstance(completion, AllOf) or (isinstance(completion, AnyOf) and len(completion.members) == 1):
        for member in completion.waits_for():
            yield from _waits(member, rank, world)


def _doing(world: World, wait: Wait) -> str:
    rank, other, completion = wait
    frame, call = world.frame_of(rank), world.calling[rank]
    begun = called(completion.begun(rank))
    if call is not None:
        what = call.operation
    elif isinstance(completion, Meeting):
        what = str(completion.operation(rank))
    else:
        what = begun or entry(frame)
    way = "awaiting"
    if isinstance(completion, Message):
        way = "to"
    elif isinstance(completion, Receive):
        way = "from"
    on = waiting_in(entry(frame), completion, rank) if call is None else ""
    return f"{on}{what} {way} {other} at {line_of(frame)}"
