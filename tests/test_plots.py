"""Figures show what the traces say, and change nothing of matplotlib's."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import tpsim
from tpsim import plots
from tpsim.plots.style import COLOURS, HATCHES, look
from tpsim.studies.demo import DemoConfig, DemoResult, compare, on_rank


def demo(sequence_parallel: bool = False) -> DemoResult:
    config = DemoConfig(
        ranks=3, batch=1, seq=24, hidden=48, heads=24, algorithm="tree", sequence_parallel=sequence_parallel
    )
    return compare(config, "virtual", tpsim.run(on_rank, 3, config))


def test_every_collective_of_every_rank_is_a_bar_of_its_bytes() -> None:
    traces = demo(sequence_parallel=True).traces
    (axes,) = plots.communication(traces).axes
    bars = [[patch.get_height() for patch in container] for container in axes.containers]
    assert bars == [[event.bytes_sent for event in trace.collectives] for trace in traces]
    assert len({tuple(heights) for heights in bars}) > 1  # in a tree, ranks send differently


def test_memory_stacks_add_up_to_what_is_kept() -> None:
    result = demo()
    (axes,) = plots.memory(result.traces, result.one_device).axes
    tops = np.sum([[patch.get_height() for patch in c] for c in axes.containers], axis=0)
    for top, trace in zip(tops, [result.one_device, *result.traces], strict=True):
        kept = sum(p.nbytes + p.grad_bytes for p in trace.parameters)
        assert top == kept + sum(trace.saved_by_layer().values())


def test_axes_name_their_unit() -> None:
    result = demo()
    for figure in (plots.communication(result.traces), plots.memory(result.traces, result.one_device)):
        assert isinstance(figure, Figure)
        assert "bytes" in figure.axes[0].get_ylabel()


def test_kinds_are_told_apart_without_colour() -> None:
    looks = [look(position) for position in range(len(COLOURS))]
    assert len({kind["hatch"] for kind in looks}) == len(HATCHES) == len(COLOURS)
    assert len({to_rgb(kind["color"]) for kind in looks}) == len(COLOURS)


def test_drawing_starts_no_backend(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, tpsim\n"
        "from tpsim import plots\n"
        "def main(comm):\n"
        "    group = tpsim.Group(comm)\n"
        "    with tpsim.Trace() as trace:\n"
        "        group.all_reduce(np.ones(4))\n"
        "    return trace\n"
        "plots.communication(tpsim.run(main, 2)).savefig(sys.argv[1])\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    assert subprocess.run(command, capture_output=True).returncode == 0
