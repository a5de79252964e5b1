"""The step-through as figures: the cut matrices, the ring's steps, and heads across ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tpsim.comm import Group, run
from tpsim.nn import Attention
from tpsim.plots.ring import ring
from tpsim.plots.sharding import Matrix, evenly, sharding
from tpsim.studies.steps import HIDDEN, StepsResult

Array = NDArray[Any]
_HEAD = 2  # columns
_BELOW = "₀₁₂₃"


def draw(result: StepsResult) -> dict[str, Figure]:
    """Return the figures by the names of their files, without ".png"."""
    return {
        "steps_cut": cut_matrices(result),
        "steps_ring": ring_steps(result),
        "steps_heads": heads(result.config.ranks),
    }


def cut_matrices(result: StepsResult) -> Figure:
    """Draw the MLP's forward with its numbers, each in the colour of the rank that has it."""
    ranks, sp = result.config.ranks, result.config.sequence_parallel
    activation = next(step for step in result.steps if step.operation == "activation")
    leave = next(step for step in result.steps if step.layer == "down")
    x, y = np.concatenate(result.given["x"]) if sp else result.given["x"][0], result.whole["y"]
    rows = evenly(len(x), ranks) if sp else ()
    h = _by_columns("h", activation.after)
    terms: list[Matrix | str] = []
    for rank, term in enumerate(leave.before):
        name = f"h{_BELOW[rank]} B{_BELOW[rank]}"
        terms += ["+", Matrix(name, term.shape, [rank] * term.shape[1], values=term)]
    returned = "own rows of the sum return (reduce-scatter)" if sp else "all get the sum (all-reduce)"
    return sharding(
        {
            "up: all rows of x are gathered" if sp else "up: nothing is sent": [
                Matrix("x", x.shape, rows, axis=0, values=x),
                "·",
                _by_columns("A", result.given["A"]),
                "=",
                _by_columns("z", activation.before),
                "ReLU →",
                h,
            ],
            f"down: a term on each rank; {returned}": [
                h,
                "·",
                _by_rows("B", result.given["B"]),
                "=",
                *terms[1:],
                "=",
                Matrix("y", y.shape, rows, axis=0, values=y),
            ],
        },
        f"y = ReLU(x A) B on {ranks} ranks: A by columns, B by rows",
    )


def _by_columns(name: str, parts: Sequence[Array]) -> Matrix:
    whole = np.concatenate(parts, axis=1)
    return Matrix(name, whole.shape, evenly(whole.shape[1], len(parts)), values=whole)


def _by_rows(name: str, parts: Sequence[Array]) -> Matrix:
    whole = np.concatenate(parts)
    return Matrix(name, whole.shape, evenly(len(whole), len(parts)), axis=0, values=whole)


def ring_steps(result: StepsResult) -> Figure:
    """Draw the ring all-reduce before and after each step."""
    ranks = result.config.ranks
    states = list(zip(*(rank.states for rank in result.ring), strict=True))
    sent = list(zip(*(rank.sent for rank in result.ring), strict=True))
    done = [f"after step {n}: {'added' if n < ranks else 'passed on'}" for n in range(1, len(states))]
    return ring(states, sent, ["start", *done])


def heads(ranks: int) -> Figure:
    """Draw which columns of an attention's fused weight each rank holds, as the layer itself cuts it."""
    few = max(1, ranks // 2)
    every, shared = run(_held, ranks, ranks), run(_held, ranks, few)
    owners = [rank for _, rank in sorted((c, rank) for rank, columns in enumerate(every) for c in columns)]
    own = evenly(ranks * _HEAD, ranks)
    o = Matrix("o", (2, len(own)), own, blocks=[f"o{_BELOW[rank]}" for rank in range(ranks)])
    terms: list[Matrix | str] = []
    for rank in range(ranks):
        name = f"o{_BELOW[rank]} Wᴼ{_BELOW[rank]}"
        terms += ["+", Matrix(name, (2, HIDDEN), [rank] * HIDDEN)]
    return sharding(
        {
            f"the fused weight of {ranks} heads: each of Q, K and V is cut by heads": [
                Matrix("[ Q | K | V ]", (HIDDEN, len(owners)), owners, blocks=_names(ranks, ranks))
            ],
            "so each rank has a query, a key and a value, and attends without the others": [
                _shard(rank, columns, _names(ranks, ranks)) for rank, columns in enumerate(every)
            ],
            "then Wᴼ by rows: a term of y on each rank, summed (all-reduce)": [
                o,
                "·",
                Matrix("Wᴼ", (len(own), HIDDEN), own, axis=0),
                "=",
                *terms[1:],
            ],
            f"grouped-query attention with {few} key-value head{'s' * (few > 1)}: neighbours hold copies": [
                _shard(rank, columns, _names(ranks, few)) for rank, columns in enumerate(shared)
            ],
        },
        f"attention on {ranks} ranks",
    )


def _held(comm: Any, kv_heads: int) -> list[int]:
    """Return the columns of the fused weight that a rank holds."""
    group = Group(comm)
    attention = Attention(HIDDEN, group.size, group, kv_heads=kv_heads, head_size=_HEAD, bias=False)
    weight = attention.qkv.weight
    columns = np.broadcast_to(np.arange(weight.whole_shape[1]), weight.whole_shape)
    return [int(column) for column in weight.take(columns)[0]]


def _names(heads: int, kv_heads: int) -> list[str]:
    """Return the fused weight's heads in order."""
    counts = {"Q": heads, "K": kv_heads, "V": kv_heads}
    return [f"{kind}{_BELOW[head]}" for kind, count in counts.items() for head in range(count)]


def _shard(rank: int, columns: Sequence[int], names: Sequence[str]) -> Matrix:
    """Return a rank's part of the fused weight, with the names of its heads."""
    held = dict.fromkeys(names[column // _HEAD] for column in columns)
    return Matrix(f"rank {rank}", (HIDDEN, len(columns)), [rank] * len(columns), blocks=["   ".join(held)])
