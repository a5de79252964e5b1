"""The step-through as text: a step a table, a rank a column, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tpsim.studies.steps import HIDDEN, Step, StepsResult

_STYLES = ("cyan", "blue", "yellow", "red")


class _Words(NamedTuple):
    """What is said of a step: what its two arrays are called, and what happens."""

    before: str
    after: str
    says: str


_WORDS = {
    ("forward", "up", "all_gather"): _Words(
        "own x", "x", "f: a rank has its own rows of x, and its columns of A need all of them"
    ),
    ("forward", "", "activation"): _Words(
        "z", "h", "z = x A, h = ReLU(z): whole entries of own columns, so nobody else is needed"
    ),
    ("forward", "down", "all_reduce"): _Words(
        "h B", "y", "g: own columns of h by own rows of B is one term of a sum; all get the sum"
    ),
    ("forward", "down", "reduce_scatter"): _Words(
        "h B", "own y", "g: h B is one term of a sum; each rank gets its own rows of the sum"
    ),
    ("backward", "down", "all_gather"): _Words(
        "own dy", "dy", "g: forward handed out rows of a sum; each term has the gradient of all rows"
    ),
    ("backward", "", "activation"): _Words(
        "dh", "dz", "dh = dy Bᵀ, dz = dh where z > 0: own columns again, so nobody is needed"
    ),
    ("backward", "up", "all_gather"): _Words(
        "own x", "x", "x again, for dA = xᵀ dz: only own rows were kept since forward"
    ),
    ("backward", "up", "all_reduce"): _Words(
        "dz Aᵀ", "dx", "f: every rank used x, so dx is the sum of the ranks' shares; all get the sum"
    ),
    ("backward", "up", "reduce_scatter"): _Words(
        "dz Aᵀ", "own dx", "f: every rank used x; each gets its own rows of the sum of shares"
    ),
}


def render(result: StepsResult) -> Iterator[RenderableType]:
    """Yield what `tpsim demo --steps` prints, part by part."""
    config = result.config
    way = "tensor and sequence parallelism" if config.sequence_parallel else "tensor parallelism"
    ffn = result.one_device["dA"].shape[1]
    yield Text(f"\ny = ReLU(x A) B with {way} on {config.ranks} ranks, step by step", style="bold")
    yield Text(
        f"x [{config.seq}, {HIDDEN}], A [{HIDDEN}, {ffn}] cut by columns, B [{ffn}, {HIDDEN}] by rows; "
        f"numbers of 8 bytes.\n"
    )
    yield Text("what the ranks begin with")
    yield _matrices({name: result.given[name] for name in ("x", "A", "B")})
    phase = ""
    for number, step in enumerate(result.steps, 1):
        if step.phase != phase:
            phase = step.phase
            yield Text(phase, style="bold")
            if phase == "backward":
                yield Text("each rank has the loss's gradient by its y")
                yield _matrices({"dy": result.given["dy"]})
        yield from _step(number, step)
    yield Text("at the end each rank has the gradients of its own columns of A and rows of B")
    yield _matrices(result.gradients)
    yield _verdict(result)


def _step(number: int, step: Step) -> Iterator[RenderableType]:
    words = _WORDS[step.phase, step.layer, step.operation]
    local = step.operation == "activation"
    what = "on each rank by itself" if local else f"{step.layer}: {step.operation}"
    yield Text(f"{number} · {what}", style="bold" if not local else "")
    yield Text(f"    {words.says}", style="italic")
    yield _matrices(
        {words.before: step.before, words.after: step.after},
        foot=[] if local else [f"{sent} bytes" for sent in step.sent],
    )


def _matrices(named: dict[str, list[Any]], foot: Sequence[str] = ()) -> Table:
    """Return named matrices, one below the other, with each rank's in a column of its own."""
    ranks = len(next(iter(named.values())))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=True)
    table.add_column("", width=6, no_wrap=True)
    for rank in range(ranks):
        table.add_column(f"rank {rank}", style=_STYLES[rank], no_wrap=True)
    width = max(len(str(int(entry))) for arrays in named.values() for a in arrays for entry in a.flat)
    for name, arrays in named.items():
        table.add_row(name, *(_matrix(array, width) for array in arrays))
        table.add_row()
    if foot:
        table.add_row("sends", *foot)
        table.add_row()
    return table


def _matrix(array: Any, width: int) -> str:
    """Return whole numbers in columns of a width."""
    return "\n".join(" ".join(f"{int(entry):{width}}" for entry in row) for row in array)


def _verdict(result: StepsResult) -> Text:
    if result.equal:
        return Text("✓ y, dx, dA and dB are exactly those of one device\n", style="green")
    odd = [name for name, array in result.whole.items() if (array != result.one_device[name]).any()]
    return Text(f"✗ not those of one device: {', '.join(odd)}\n", style="bold red")
