"""The step-through: what it shows is what the layer did, and what one device computes."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

import tpsim
from tpsim.cli import app
from tpsim.cli.steps_tables import render
from tpsim.comm.algorithms import closed_form
from tpsim.studies import steps_figures
from tpsim.studies.steps import HIDDEN, Step, StepsConfig, StepsResult, join, on_rank

CONFIGS = st.builds(
    StepsConfig, ranks=st.integers(2, 4), sequence_parallel=st.booleans(), seed=st.integers(0, 2**32)
)


def walked(config: StepsConfig) -> StepsResult:
    return join(config, tpsim.run(on_rank, config.ranks, config))


def printed(result: StepsResult, width: int = 80) -> str:
    text = io.StringIO()
    console = Console(width=width, file=text)
    for part in render(result):
        console.print(part)
    return text.getvalue()


def collectives(result: StepsResult) -> list[Step]:
    return [step for step in result.steps if step.operation != "activation"]


@settings(max_examples=20)
@given(CONFIGS)
def test_put_together_the_steps_are_exactly_one_devices(config: StepsConfig) -> None:
    result = walked(config)
    x, a, b, dy = config.draw().values()
    z = x @ a
    dz = (dy @ b.T) * (z > 0)
    expected = {"y": (z * (z > 0)) @ b, "dx": dz @ a.T, "dA": x.T @ dz, "dB": (z * (z > 0)).T @ dy}
    assert result.equal
    for name, array in expected.items():
        np.testing.assert_array_equal(result.whole[name], array)


@settings(max_examples=20)
@given(CONFIGS)
def test_each_collective_does_what_its_name_says(config: StepsConfig) -> None:
    for step in collectives(walked(config)):
        total, joined = np.sum(step.before, axis=0), np.concatenate(step.before)
        for rank, after in enumerate(step.after):
            if step.operation == "all_reduce":
                np.testing.assert_array_equal(after, total)
            elif step.operation == "all_gather":
                np.testing.assert_array_equal(after, joined)
            else:
                assert step.operation == "reduce_scatter"
                np.testing.assert_array_equal(after, np.split(total, config.ranks)[rank])


@settings(max_examples=10)
@given(CONFIGS)
def test_bytes_are_the_rings_closed_form(config: StepsConfig) -> None:
    for step in collectives(walked(config)):
        counts = [
            closed_form.sent(step.operation, "ring", rank, config.ranks, config.seq * HIDDEN).elements
            for rank in range(config.ranks)
        ]
        assert step.sent == [8 * count for count in counts]


def test_the_steps_are_those_of_the_paper() -> None:
    def names(sequence_parallel: bool) -> list[tuple[str, str, str]]:
        steps = walked(StepsConfig(2, sequence_parallel)).steps
        return [(step.phase, step.layer, step.operation) for step in steps]

    assert names(False) == [
        ("forward", "", "activation"),
        ("forward", "down", "all_reduce"),
        ("backward", "", "activation"),
        ("backward", "up", "all_reduce"),
    ]
    assert names(True) == [
        ("forward", "up", "all_gather"),
        ("forward", "", "activation"),
        ("forward", "down", "reduce_scatter"),
        ("backward", "down", "all_gather"),
        ("backward", "", "activation"),
        ("backward", "up", "all_gather"),
        ("backward", "up", "reduce_scatter"),
    ]


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_in_the_ring_a_sum_travels_to_the_right_and_collects_a_part_at_each_stop(ranks: int) -> None:
    rings = walked(StepsConfig(ranks)).ring
    for step in range(2 * (ranks - 1)):
        for rank, ring in enumerate(rings):
            left = rings[rank - 1]
            chunk = left.sent[step]
            arrives = left.states[step][chunk]
            kept = ring.states[step][chunk] if step < ranks - 1 else set()
            assert ring.states[step + 1][chunk] == arrives | kept
            others = [c for c in range(ranks) if c != chunk]
            assert all(ring.states[step + 1][c] == ring.states[step][c] for c in others)
    assert all(ring.states[-1] == [set(range(ranks))] * ranks for ring in rings)


@settings(max_examples=20)
@given(CONFIGS)
def test_the_text_fits_80_columns_and_names_every_step(config: StepsConfig) -> None:
    result = walked(config)
    lines = [line.rstrip() for line in printed(result, width=200).splitlines()]
    assert max(map(len, lines)) <= 80
    for number, step in enumerate(result.steps, 1):
        title = "on each rank by itself" if step.operation == "activation" else step.operation
        assert any(line.startswith(f"{number} · ") and line.endswith(title) for line in lines)
    assert lines[-2].startswith("✓")


def test_the_text_shows_the_numbers() -> None:
    result = walked(StepsConfig(2))
    text = " ".join(printed(result).split())
    for step in result.steps:
        for arrays in (step.before, step.after):
            rows = [[int(entry) for array in arrays for entry in array[row]] for row in range(2)]
            assert all(" ".join(map(str, row)) in text for row in rows)


def test_a_wrong_result_is_named() -> None:
    result = walked(StepsConfig(2))
    result.one_device["dx"][0, 0] += 1
    assert "✗ not those of one device: dx" in printed(result)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_each_head_of_the_figure_is_on_the_rank_that_the_layer_gives_it_to(ranks: int) -> None:
    figure = steps_figures.heads(ranks)
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    below = "₀₁₂₃"
    for rank in range(ranks):
        assert f"Q{below[rank]}   K{below[rank]}   V{below[rank]}" in words
    shared = 1 if ranks == 4 else 0  # the kv head of rank 2 among 2 of them, or the only one
    if ranks > 2:
        assert f"Q₂   K{below[shared]}   V{below[shared]}" in words


def test_the_command_prints_and_draws(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["demo", "--steps", "--ranks", "2", "--sp", "--figures", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "✓ y, dx, dA and dB are exactly those of one device" in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "steps_cut.png",
        "steps_heads.png",
        "steps_ring.png",
    ]


def test_the_command_prints_json() -> None:
    done = CliRunner().invoke(app, ["demo", "--steps", "--ranks", "2", "--json"])
    data = json.loads(done.output)
    assert data["equal"] is True
    assert len(data["steps"]) == 4
    assert np.shape(data["given"]["A"]) == (2, HIDDEN, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ranks", "8"], "ranks 8: the step-through shows shards side by side; pick 2 to 4"),
        (["--ranks", "1"], "ranks 1: the step-through shows shards side by side; pick 2 to 4"),
        (["--seed", "-1"], "seed -1 can't seed a generator; pick 0 or more"),
        (["--hidden", "8"], "--hidden is the block's, and --steps runs an MLP of a fixed size"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_the_remedy(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["demo", "--steps", *arguments])
    assert words in str(done.exception)
