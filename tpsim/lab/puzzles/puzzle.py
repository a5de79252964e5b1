"""A puzzle, and the verdict on a schedule."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tpsim.lab.checking.guard import ForbiddenError, load
from tpsim.lab.checking.stop import stopped
from tpsim.lab.puzzles.device import Device
from tpsim.lab.puzzles.machine import Prices
from tpsim.lab.puzzles.shard import ScheduleError, Shard, Term
from tpsim.lab.puzzles.simulate import Given, Simulation

MIB = 1 << 20
_ALLOWED = tuple(f"tpsim.lab.puzzles.{name}" for name in ("Block", "Device", "Pending"))


@dataclass(frozen=True)
class Wanted:
    """A tensor that must be there at the end: whole on each device, or on all of them together."""

    name: str
    term: Term
    each: bool = False


@dataclass(frozen=True)
class Puzzle:
    """What is given, what is wanted, and the targets.

    Attributes
    ----------
    number : int
    name : str
        Of its folder, `pN_name`, and of the file to write, `N_name.py`.
    title : str
    devices : int
    prices : callable
        Returns what steps cost.
    memory : int
        Bytes that a device has.
    seconds : float
        That the schedule may take.
    given : mapping of str to Given
    wanted : sequence of Wanted
    """

    number: int
    name: str
    title: str
    devices: int
    prices: Callable[[], Prices]
    memory: int
    seconds: float
    given: Mapping[str, Given]
    wanted: Sequence[Wanted]

    @property
    def folder(self) -> Path:
        """Where its task, solution and wrong schedules lie."""
        return Path(__file__).parent / f"p{self.number}_{self.name}"

    @property
    def file_name(self) -> str:
        """The file to write."""
        return f"{self.number}_{self.name}.py"


@dataclass(frozen=True)
class Verdict:
    """How a schedule did.

    Attributes
    ----------
    kind : str
        "" if it meets the targets; "memory", "time", "missing", or what rule it breaks.
    what, why : str
        What is wrong, and what to do.
    simulation : Simulation or None
        None where a rule was broken.
    """

    puzzle: Puzzle
    kind: str = ""
    what: str = ""
    why: str = ""
    simulation: Simulation | None = None

    @property
    def passed(self) -> bool:
        """Whether the schedule is right, and meets both targets."""
        return not self.kind

    @property
    def peak(self) -> int:
        """The most bytes that a device held."""
        return max(memory.peak for memory in self.simulation.memories) if self.simulation else 0


def check_file(puzzle: Puzzle, path: Path) -> Verdict:
    """Run the schedule in a file, and judge it.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not path.is_file():
        raise ValueError(
            f"puzzle {puzzle.number}: {path} is not there; pass the folder with --dir, or make it with "
            "`tpsim lab puzzles start DIR`"
        )
    try:
        return check(puzzle, load(path, ["schedule"], _ALLOWED)["schedule"])
    except ForbiddenError as error:
        return Verdict(puzzle, "forbidden", str(error))
    except (Exception, SystemExit) as error:  # whatever a schedule raises is its own, and told
        stop = stopped(error, str(path))
        return Verdict(puzzle, stop.kind, f"{stop.line}  {stop.what}".strip(), stop.why)


def check(puzzle: Puzzle, schedule: Callable[[Device], object]) -> Verdict:
    """Run a schedule on all devices, and judge it: rules first, then results, memory and time."""
    devices = [Device(rank, puzzle.devices) for rank in range(puzzle.devices)]
    try:
        for device in devices:
            schedule(device)
        simulation = Simulation(devices, puzzle.given, puzzle.prices())
    except ScheduleError as error:
        return Verdict(puzzle, error.kind, error.what, error.why)
    for wanted in puzzle.wanted:
        if found := _missing(wanted, simulation):
            return Verdict(puzzle, "missing", found[0], found[1], simulation)
    for rank, memory in enumerate(simulation.memories):
        if memory.peak > puzzle.memory:
            what = f"line {memory.peak_line}, device {rank}: {memory.peak / MIB:.0f} MiB are held"
            what += f", and there are {puzzle.memory / MIB:.0f}"
            return Verdict(puzzle, "memory", what, "drop sooner, cut finer, or don't gather it", simulation)
    if simulation.seconds > puzzle.seconds:
        what = f"{simulation.seconds * 1e3:.3f} ms, and there are {puzzle.seconds * 1e3:.2f}"
        return Verdict(
            puzzle,
            "time",
            what,
            "look for holes in the timeline, and for what is sent and need not be",
            simulation,
        )
    return Verdict(puzzle, simulation=simulation)


def _missing(wanted: Wanted, simulation: Simulation) -> tuple[str, str] | None:
    """Return what is not there at the end, and why; None if all is."""
    held = [
        [shard if shard.term == wanted.term else shard.T for shard in memory.held()]
        for memory in simulation.memories
    ]
    held = [[shard for shard in some if shard.term == wanted.term] for some in held]
    places = {f"device {rank}": some for rank, some in enumerate(held)}
    if not wanted.each:
        places = {"all devices together": [shard for some in held for shard in some]}
    for place, shards in places.items():
        name = wanted.name if wanted.name == str(wanted.term) else f"{wanted.name} = {wanted.term}"
        if not shards:
            return f"{place}: there is nothing of {name} at the end", "it was not computed, or dropped"
        hole = _hole(shards)
        if hole is None:
            continue
        if any(shard.finished for shard in shards):
            return f"{place}: {hole} is not there, or not finished", "gather it, or compute that too"
        return f"{place}: what is there of {name} is {shards[0]}", "its sum is not what it must be"
    return None


def _hole(shards: Sequence[Shard]) -> Shard | None:
    """Return a block of the tensor that no finished shard covers."""
    whole = shards[0].whole
    done = [shard for shard in shards if shard.finished]
    rows = sorted({0, whole[0], *(edge for shard in done for edge in shard.rows)})
    cols = sorted({0, whole[1], *(edge for shard in done for edge in shard.cols)})
    for r in pairwise(rows):
        for c in pairwise(cols):
            if not any(
                s.rows[0] <= r[0] and r[1] <= s.rows[1] and s.cols[0] <= c[0] and c[1] <= s.cols[1]
                for s in done
            ):
                return Shard(shards[0].term, whole, r, c)
    return None


def start(puzzles: Sequence[Puzzle], folder: Path) -> list[Path]:
    """Copy the tasks into a folder, over nothing that is there; return the new files.

    Raises
    ------
    ValueError
        If the folder can't be written to.
    """
    new = [one for one in puzzles if not (folder / one.file_name).exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in new:
            shutil.copyfile(one.folder / "task.py", folder / one.file_name)
    except OSError as error:
        raise ValueError(
            f"folder {folder}: puzzles can't be written there ({error.strerror}); pick another folder"
        ) from None
    return [folder / one.file_name for one in new]
