"""The puzzles: what each schedule is judged as, and that what blocks are said to be is what they are."""

import ast
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from tpsim.cli import app
from tpsim.cost.work import Collective, Gemm, Pointwise
from tpsim.lab.puzzles import Device
from tpsim.lab.puzzles.catalogue import PUZZLES, by_hand
from tpsim.lab.puzzles.device import Block, Step
from tpsim.lab.puzzles.picture import text
from tpsim.lab.puzzles.puzzle import MIB, Puzzle, Verdict, check, check_file
from tpsim.lab.puzzles.shard import ScheduleError, Shard, Term
from tpsim.lab.puzzles.simulate import Given, Simulation

Array = NDArray[np.float64]
Schedule = Callable[[Device], object]

ALL = list(PUZZLES.values())
RIGHT = [
    (one, path) for one in ALL for name in ("solution", "other") for path in one.folder.glob(f"{name}.py")
]
WRONG = [(one, path) for one in ALL for path in sorted(one.folder.glob("wrong_*.py"))]


def name(value: Any) -> str:
    return value.stem if isinstance(value, Path) else value.name


# -- the puzzles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("puzzle", "path"), RIGHT, ids=name)
def test_right_schedules_meet_the_targets(puzzle: Puzzle, path: Path) -> None:
    verdict = check_file(puzzle, path)
    assert (verdict.kind, verdict.what) == ("", "")
    assert verdict.passed


@pytest.mark.parametrize(("puzzle", "path"), WRONG, ids=name)
def test_wrong_schedules_fail_for_the_right_reason(puzzle: Puzzle, path: Path) -> None:
    says = {
        one.targets[0].id: ast.literal_eval(one.value)
        for one in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)
    }
    verdict = check_file(puzzle, path)
    assert verdict.kind == says["FAILS"]
    assert verdict.what
    assert verdict.why


@pytest.mark.parametrize("puzzle", ALL, ids=name)
def test_a_puzzle_is_complete_and_says_its_targets(puzzle: Puzzle) -> None:
    assert len([one for one, _ in RIGHT if one is puzzle]) >= 1
    assert len([one for one, _ in WRONG if one is puzzle]) >= 2
    task = (puzzle.folder / "task.py").read_text(encoding="utf-8")
    assert task.startswith(f'"""{puzzle.number} · {puzzle.title}\n')
    assert f"{puzzle.memory / MIB:.0f} MiB" in task
    assert f"{puzzle.seconds * 1e3:.2f} ms" in task
    assert check_file(puzzle, puzzle.folder / "task.py").kind in {"not implemented", "memory"}


# -- the rules ---------------------------------------------------------------------------------------------


def judged(schedule: Schedule, **changes: Any) -> Verdict:
    """Judge a schedule for the second puzzle, where it matters little what is wanted."""
    return check(replace(PUZZLES[2], **changes), schedule)


def disagrees(d: Device) -> None:
    p = d.matmul(d.load("X"), d.load("A", cols=(d.rank, d.size)))
    d.wait(d.begin_all_reduce(p) if d.rank else d.begin_all_gather(p, axis=1))


def loads_late(d: Device) -> None:
    d.matmul(d.load("X"), d.load("A", cols=(d.rank, d.size)))
    d.load("B")


def multiplies_a_handle(d: Device) -> None:
    x = d.load("X")
    d.matmul(d.begin_all_gather(x), x)  # type: ignore[arg-type]


def drops_what_is_reduced(d: Device) -> None:
    p = d.matmul(d.load("X", cols=(d.rank, 2)), d.load("A", rows=(d.rank, 2)))
    pending = d.begin_all_reduce(p)
    d.drop(p)
    d.wait(pending)


@pytest.mark.parametrize(
    ("schedule", "kind", "says"),
    [
        (
            disagrees,
            "devices disagree",
            "line \\d+, device 1: .* where device 0 begins",
        ),
        (loads_late, "loads come first", "B is loaded after work has begun"),
        (multiplies_a_handle, "not a block", "given Pending\\(number=1\\), not a block"),
        (drops_what_is_reduced, "not there any more", "given to the all-reduce"),
        (lambda d: d.load("C"), "no such tensor", "there is no C"),
        (lambda d: d.load("A", cols=(2, 2)), "no such part", "part 2 of 2"),
        (lambda d: d.begin_all_gather(d.load("X"), 2), "not a block", "given 2, not an axis"),
        (lambda d: d.load("A", cols=0), "not a block", "not a part"),
        (lambda d: d.matmul(d.load("A"), d.load("X")), "does not fit", "columns 0:16384 meet rows 0:4096"),
        (lambda d: d.norm(d.load("X", cols=(0, 2))), "does not fit", "needs whole rows"),
        (lambda d: None, "missing", "nothing of Y"),
    ],
)
def test_a_broken_rule_is_named_and_told(schedule: Schedule, kind: str, says: str) -> None:
    verdict = judged(schedule)
    assert verdict.kind == kind
    assert re.search(says, verdict.what), verdict.what


@pytest.mark.parametrize(("where", "axis"), [("rows", 0), ("columns", 1)])
def test_what_lies_on_another_device_can_not_be_loaded(where: str, axis: int) -> None:
    given = {"X": Given((8, 8), where)}
    for part, ok in [((0, 2), True), ((1, 4), True), ((1, 2), False), ((0, 1), False)]:
        device = Device(0, 2)
        device.load("X", **{("rows", "cols")[axis]: part})
        if ok:
            Simulation([device, Device(1, 2)], given, by_hand())
        else:
            with pytest.raises(ScheduleError, match="lies cut by"):
                Simulation([device, Device(1, 2)], given, by_hand())


def test_time_follows_from_the_rates() -> None:
    rates, rows, ffn = by_hand(), 4096, 16384
    product = 2 * rows * rows * ffn / 2 / 400e12
    gelu = 2 * rows * ffn / 2 * 2 / 2e12
    reduce = 2 * (10e-6 + rows * rows * 2 / 2 / 100e9)
    verdict = check_file(PUZZLES[2], PUZZLES[2].folder / "solution.py")
    assert verdict.simulation is not None
    assert verdict.simulation.seconds == pytest.approx(2 * product + gelu + reduce, rel=1e-12)
    assert rates.seconds(Gemm(2, 3, 5)) == pytest.approx(60 / 400e12)
    assert rates.seconds(Pointwise("add", 1, 1, 6)) == pytest.approx(6 / 2e12)
    assert rates.seconds(Collective("all_gather", 4000, 4)) == pytest.approx(3 * (10e-6 + 1000 / 100e9))
    assert rates.seconds(Collective("send", 4000, 4)) == pytest.approx(10e-6 + 4000 / 100e9)


def test_collectives_start_when_the_last_device_has_come_and_run_one_after_another() -> None:
    def schedule(d: Device) -> None:
        x, a = d.load("X"), d.load("A", cols=(0, 4))
        if d.rank == 1:
            d.matmul(x, a)
        for pending in [d.begin_shift(x), d.begin_shift(a)]:
            d.wait(pending)

    simulation = judged(schedule).simulation
    assert simulation is not None
    product, shift = 2 * 4096**3 / 400e12, 10e-6 + 4096 * 4096 * 2 / 100e9
    for spans in simulation.spans:
        starts = [span["start"] for span in spans if span["kind"] == "collective"]
        assert starts == pytest.approx([product, product + shift])
    assert simulation.seconds == pytest.approx(product + 2 * shift)


def test_memory_counts_blocks_once_until_they_are_dropped() -> None:
    def schedule(d: Device) -> None:
        x, a = d.load("X"), d.load("A", cols=(0, 4))  # 32 + 32 MiB
        h = d.matmul(x, a)  # + 32
        d.drop(x.T, a)  # − 64
        d.gelu(h)  # + 32

    simulation = judged(schedule).simulation
    assert simulation is not None
    assert [memory.peak for memory in simulation.memories] == [96 * MIB, 96 * MIB]
    assert [sum(memory.nbytes.values()) for memory in simulation.memories] == [64 * MIB, 64 * MIB]


# -- blocks mean what they are said to mean, with numbers ----------------------------------------------------


def gelu(x: Array) -> Array:
    return x * np.tanh(x)  # any function of each element alone will do


def norm(x: Array) -> Array:
    normed: Array = x / np.sqrt(1 + (x**2).sum(axis=1, keepdims=True))
    return normed


def whole(term: Term, tensors: Mapping[str, Array]) -> Array:
    """Return a whole tensor, from its term."""
    args = [whole(arg, tensors) for arg in term.args]
    match term.op:
        case "·":
            return args[0] @ args[1]
        case "ᵀ":
            return args[0].T
        case "gelu":
            return gelu(args[0])
        case "norm":
            return norm(args[0])
    return tensors[term.op]


def said(shard: Shard, tensors: Mapping[str, Array]) -> Array:
    """Return the numbers that a block is said to hold."""
    rows, cols = slice(*shard.rows), slice(*shard.cols)
    if shard.term.op != "·":
        return whole(shard.term, tensors)[rows, cols] * shard.sums[0][2]
    left, right = (whole(arg, tensors) for arg in shard.term.args)
    return sum((n * (left[rows, i:j] @ right[i:j, cols]) for i, j, n in shard.sums), np.zeros(shard.shape))


def run_with_numbers(devices: list[Device], tensors: Mapping[str, Array]) -> list[dict[int, Array]]:
    """Run the steps on arrays: all devices' n-th step together, for they do the same ones."""
    held: list[dict[int, Array]] = [{} for _ in devices]

    def get(rank: int, block: Block) -> Array:
        found = held[rank][block.number]
        return found.T if block.transposed else found

    def cut(size: int, part: tuple[int, int]) -> slice:
        return slice(part[0] * size // part[1], (part[0] + 1) * size // part[1])

    def compute(rank: int, step: Step, x: list[Array]) -> Array:
        match step.verb:
            case "load":
                tensor = tensors[step.name]
                return tensor[cut(tensor.shape[0], step.rows), cut(tensor.shape[1], step.cols)]
            case "matmul":
                return x[0] @ x[1]
            case "add":
                return x[0] + x[1]
        return gelu(x[0]) if step.verb == "gelu" else norm(x[0])

    for steps in zip(*(device.steps for device in devices), strict=True):
        if steps[0].verb in {"wait", "drop"}:
            continue
        operands = [[get(rank, block) for block in step.takes] for rank, step in enumerate(steps)]
        size, axis = len(steps), steps[0].axis
        if steps[0].verb not in {"all_reduce", "all_gather", "reduce_scatter", "shift"}:
            results = [compute(rank, step, operands[rank]) for rank, step in enumerate(steps)]
        else:
            brought = [operand[0] for operand in operands]
            match steps[0].verb:
                case "all_reduce":
                    results = [np.sum(brought, axis=0)] * size
                case "all_gather":
                    results = [np.concatenate(brought, axis)] * size
                case "reduce_scatter":
                    results = np.split(np.sum(brought, axis=0), size, axis)
                case _:
                    results = [brought[rank - 1] for rank in range(size)]
        for rank, step in enumerate(steps):
            held[rank][step.gives] = results[rank]
    return held


def agree(devices: list[Device], simulation: Simulation, tensors: Mapping[str, Array]) -> None:
    numbers = run_with_numbers(devices, tensors)
    for memory, arrays in zip(simulation.memories, numbers, strict=True):
        for number, shard in memory.shards.items():
            np.testing.assert_allclose(arrays[number], said(shard, tensors), atol=1e-10)


def random_tensors(given: Mapping[str, Given], seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(one.shape) for name, one in given.items()}


@pytest.mark.parametrize(("puzzle", "path"), RIGHT, ids=name)
@settings(max_examples=10, deadline=None)
@given(units=st.tuples(st.integers(1, 3), st.integers(1, 3)), seed=st.integers(0, 999))
def test_solutions_compute_what_is_wanted(
    puzzle: Puzzle, path: Path, units: tuple[int, int], seed: int
) -> None:
    sizes = {4096: 8 * units[0], 16384: 8 * units[1]}
    shrunk = {
        name: replace(one, shape=(sizes[one.shape[0]], sizes[one.shape[1]]))
        for name, one in puzzle.given.items()
    }
    space: dict[str, Any] = {}
    exec(path.read_text(encoding="utf-8"), space)
    devices = [Device(rank, puzzle.devices) for rank in range(puzzle.devices)]
    for device in devices:
        space["schedule"](device)
    verdict = check(replace(puzzle, given=shrunk), space["schedule"])
    assert verdict.passed
    assert verdict.simulation is not None
    agree(devices, verdict.simulation, random_tensors(shrunk, seed))


@settings(max_examples=150, deadline=None)
@given(size=st.sampled_from([1, 2, 4]), seed=st.integers(0, 10**6))
def test_blocks_of_drawn_schedules_are_what_they_are_said_to_be(size: int, seed: int) -> None:
    given_ = {"X": Given((8, 16)), "A": Given((16, 8)), "B": Given((8, 8))}

    def valid(devices: list[Device]) -> Simulation | None:
        try:
            return Simulation(devices, given_, by_hand())
        except ScheduleError:
            return None

    chooser = random.Random(seed)
    devices = [Device(rank, size) for rank in range(size)]
    blocks: list[Block] = []
    for tensor in given_:
        for _ in range(2):
            cut = [chooser.choice(["all", "mine", "first"]) for _ in range(2)]
            for device in devices:
                parts = {"all": (0, 1), "mine": (device.rank, size), "first": (0, 2)}
                block = device.load(tensor, rows=parts[cut[0]], cols=parts[cut[1]])
            blocks.append(block)
    made = 0
    for _ in range(60):  # steps that a rule forbids are taken back
        verb = chooser.choice(
            ["matmul", "matmul", "matmul", "gelu", "norm", "add", "reduce", "gather", "scatter", "shift"]
        )
        picks = [chooser.choice(blocks) for _ in range(2)]
        picks = [pick.T if chooser.random() < 0.3 else pick for pick in picks]
        axis = chooser.randrange(2)
        lengths = [len(device.steps) for device in devices]
        for device in devices:
            match verb:
                case "matmul" | "add":
                    block = getattr(device, verb)(*picks)
                case "gelu" | "norm":
                    block = getattr(device, verb)(picks[0])
                case "reduce":
                    block = device.wait(device.begin_all_reduce(picks[0]))
                case "gather":
                    block = device.wait(device.begin_all_gather(picks[0], axis))
                case "scatter":
                    block = device.wait(device.begin_reduce_scatter(picks[0], axis))
                case _:
                    block = device.wait(device.begin_shift(picks[0]))
        if valid(devices) is None:
            for device, length in zip(devices, lengths, strict=True):
                del device.steps[length:]
        else:
            blocks.append(block)
            made += 1
        if made == 8:
            break
    simulation = valid(devices)
    assert simulation is not None
    agree(devices, simulation, random_tensors(given_, seed))


# -- the command -------------------------------------------------------------------------------------------


def test_the_timeline_is_text_of_eighty_columns() -> None:
    for puzzle in ALL:
        simulation = check_file(puzzle, puzzle.folder / "solution.py").simulation
        assert simulation is not None
        lines = text(simulation)
        assert max(map(len, lines)) == 80
        assert lines[-1].endswith(f"{simulation.seconds * 1e3:.3f} ms")


def test_the_command_starts_lists_checks_and_draws(tmp_path: Path) -> None:
    call = CliRunner().invoke
    folder = tmp_path / "mine"
    assert "6 puzzles written" in call(app, ["lab", "puzzles", "start", str(folder)]).output
    mine = folder / "4_hidden_all_reduce.py"
    mine.write_bytes((PUZZLES[4].folder / "solution.py").read_bytes())
    assert "0 puzzles written" in call(app, ["lab", "puzzles", "start", str(folder)]).output
    drawn = tmp_path / "timeline.png"
    where = ["--dir", str(folder)]
    right = call(app, ["lab", "puzzles", "check", "4", *where, "--figure", str(drawn)])
    assert right.exit_code == 0
    assert "✓ 4" in right.output
    assert drawn.stat().st_size > 1000
    wrong = call(app, ["lab", "puzzles", "check", "1", *where])
    assert wrong.exit_code == 1
    assert "memory: line" in wrong.output
    listed = call(app, ["lab", "puzzles", "list", *where]).output
    assert listed.count("✓") == 1
    assert listed.count("not implemented") == 4
