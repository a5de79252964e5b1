"""Where ranks are, in lines of the program: those of tpsim on the way to it tell nothing."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from types import FrameType

from tpsim.comm.places import line_of
from tpsim.comm.signature import Standing
from tpsim.comm.stacks import stack_of, where
from tpsim.comm.virtual import diagnosis
from tpsim.comm.virtual.diagnosis.standing import standing
from tpsim.comm.virtual.lockstep import LockstepWorld

_TPSIM = Path(__file__).parent.parent
COMM = str(_TPSIM / "comm") + os.sep
SCRIPT = str(_TPSIM / "script") + os.sep
WAY = (SCRIPT, runpy.__file__, "<frozen runpy>", "<frozen importlib", COMM)
"""How the file names of frames begin that lead from the command to the program."""

NOT_BEGUN = "not begun yet (ranks take turns)"


def whereabouts(world: LockstepWorld, running: FrameType | None) -> str:
    """Return where each rank stands, and the lines that it is in; `running` is the frame of who runs."""
    known: dict[int, Standing] = {}
    stacks: dict[int, tuple[str, ...]] = {}
    for rank in range(world.size):
        if rank in world.finished:
            continue
        waits_for, frame = world.waiting_for[rank], world.frame_of(rank)
        if world.has_turn(rank):
            frame = running
            known[rank] = Standing(standing(world, rank).doing, line_of(running))
        elif not world.has_begun(rank):
            known[rank] = Standing(NOT_BEGUN)
        elif waits_for is not None and waits_for.done:
            stood = standing(world, rank)
            known[rank] = Standing(f"{stood.doing}, complete: waits for its turn", stood.line)
        stacks[rank] = stack_of(frame, leave_out=on_the_way)
    return f"{diagnosis.standings(world, known)}\n{where(stacks)}"


def on_the_way(filename: str) -> bool:
    """Tell whether a file's frames are on the way to the program, and not the program's."""
    return filename.startswith(WAY)


def running_in(thread: int) -> FrameType | None:
    """Return the frame that a thread is in."""
    return sys._current_frames().get(thread)
