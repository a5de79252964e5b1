"""Where a rank stands: the call that it is in, by the name under which the program called it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from tpsim.comm.places import called, entry, line_of, name
from tpsim.comm.signature import POINT_TO_POINT, Standing, report
from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.meeting import Meeting

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World


def standings(world: World, known: Mapping[int, Standing] = MappingProxyType({})) -> str:
    """Return where each rank stands, one line for ranks at the same place, and each thread beside them.

    `known` has the standings of ranks of which the caller knows better.
    """
    lines = [report({rank: known.get(rank) or standing(world, rank) for rank in range(world.size)})]
    frames = sys._current_frames()
    for number, sleeper in world.aside.waiting.items():
        doing, line = sleeper.completion.describe(sleeper.rank, world), line_of(frames.get(number))
        lines.append(f"  rank {sleeper.rank}, in a thread that it started: {doing}  at {line}")
    return "\n".join(lines)


def standing(world: World, rank: int) -> Standing:
    """Return where a rank stands."""
    if rank in world.finished:
        return Standing(world.ended)
    frame = world.frame_of(rank)
    line = line_of(frame)
    completion = wants(world, rank)
    if completion is None:
        return Standing("running", line)
    doing = completion.describe(rank, world)
    call = world.calling[rank]
    if call is not None:  # a group's call, made of messages
        if call.operation in POINT_TO_POINT:
            doing = str(call)
        elif not doing.startswith(str(call)):  # where the ranks agree on a call, it is that call
            doing = f"{call}, in {doing}"
    if world.waiting_for[rank] is None:
        doing = f"asks again and again for {doing}"
    elif call is None:
        doing = waiting_in(entry(frame), completion, rank) + doing
    begun = name(completion.begun(rank))
    if begun and begun != line and call is None:
        doing = f"{doing}, begun at {begun}"
    return Standing(doing, line)


def waiting_in(call: str, completion: Completion, rank: int) -> str:
    """Return "Wait on " where a rank waits in one call for what another one began."""
    if isinstance(completion, Meeting) and completion.of_group(rank):
        return ""  # a handle's `wait` is the group's call
    begun = called(completion.begun(rank))
    return f"{call} on " if begun and call != begun else ""


def wants(world: World, rank: int) -> Completion | None:
    """Return what a rank waits for, or asks for again and again."""
    if rank in world.finished:
        return None
    return world.waiting_for[rank] or world.polls.asked(rank, world.moves)
