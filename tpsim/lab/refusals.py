"""What a layer must refuse, and how: an error in three parts, what was asked, why it can't be, what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tpsim import nn
from tpsim.comm import Group, run
from tpsim.lab.cases import Case
from tpsim.lab.strategies import RANKS, draw_common, picker
from tpsim.lab.violation import Violation

THREE_PARTS = re.compile(r"[^:]+: .+; .+", re.DOTALL)


@dataclass(frozen=True, kw_only=True, repr=False)
class RefusalCase(Case):
    """Something that can't be: `what` is a key of `REFUSALS`, `size` a length that the ranks don't divide."""

    what: str
    size: int = 1


def _x(*shape: int, dtype: str = "float64") -> Any:
    return np.ones(shape, dtype)


def _mlp(group: Group, **options: Any) -> nn.MLP:
    return nn.MLP(4, group.size, group, dtype="float64", **options)


UNEVEN: dict[str, Callable[[Group, int], Any]] = {
    "out_features": lambda group, n: nn.ColumnParallelLinear(4, n, group),
    "in_features": lambda group, n: nn.RowParallelLinear(n, 4, group),
    "ffn": lambda group, n: nn.MLP(4, n, group),
    "ffn of a block": lambda group, n: nn.TransformerBlock(4, group.size, n, group, head_size=2),
    "normed axis": lambda group, n: nn.ParallelRMSNorm(n, group),
    "heads": lambda group, n: nn.Attention(4, n, group, head_size=2),
    "kv heads": lambda group, n: nn.Attention(4, n * group.size, group, kv_heads=n, head_size=2),
    "sequence to cut": lambda group, n: nn.own_slice(_x(1, n, 4), group),
    "sequence to scatter": lambda group, n: nn.RowParallelLinear(
        group.size, 4, group, sequence_parallel=True, dtype="float64"
    ).forward(_x(1, n, 1)),
    "columns to scatter": lambda group, n: nn.RowParallelLinear(
        group.size, 4, group, input_is_parallel=False, dtype="float64"
    ).forward(_x(1, 1, n)),
}
"""Refused where t does not divide the length."""

ALWAYS: dict[str, Callable[[Group, int], Any]] = {
    "hidden of odd heads": lambda group, n: nn.Attention(2 * group.size + 1, 2 * group.size, group),
    "heads in odd groups": lambda group, n: nn.Attention(
        4, 2 * group.size, group, kv_heads=2 * group.size + 1, head_size=2
    ),
    "input of another width": lambda group, n: _mlp(group).forward(_x(1, 1, 4 + n)),
    "input of two axes": lambda group, n: _mlp(group).forward(_x(n, 4)),
    "input of another dtype": lambda group, n: _mlp(group).forward(_x(1, 1, 4, dtype="float32")),
    "unknown activation": lambda group, n: _mlp(group, activation="relu" * n),
    "unknown norm": lambda group, n: nn.TransformerBlock(
        4,
        group.size,
        group.size,
        group,
        head_size=2,
        norm="batch" * n,  # type: ignore[arg-type]
    ),
    "whole parameter of another shape": lambda group, n: _mlp(group, bias=False).load(
        {"up.weight": _x(4, group.size + n), "down.weight": _x(group.size, 4)}
    ),
}
"""Refused on any number of ranks."""

REFUSALS = {**UNEVEN, **ALWAYS}


@st.composite
def refusals(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> RefusalCase:
    """Draw shapes and options that can't be."""
    pick = picker(draw, fixed)
    common = draw_common(pick, ranks)
    t = common["ranks"]
    # With two ranks, 3 kv heads divide neither way; 1 would be replicated.
    what = pick("what", st.sampled_from(list(ALWAYS if t == 1 else REFUSALS)))
    sizes = st.integers(1, 20)
    if what in UNEVEN:
        sizes = sizes.filter(lambda n: n % t != 0 and (what != "kv heads" or t % n != 0))
    return RefusalCase(what=what, size=pick("size", sizes), **common)


def is_refused(case: RefusalCase) -> None:
    """Every rank refuses, with a ValueError in three parts."""

    def main(comm: Any) -> Exception | None:
        try:
            REFUSALS[case.what](case.group(comm), case.size)
        except Exception as error:
            return error
        return None

    for rank, error in enumerate(run(main, case.ranks)):
        if error is None:
            raise Violation(f"t = {case.ranks}, rank {rank}: {case.what} of {case.size} was accepted; {case}")
        if type(error) is not ValueError:
            raise Violation(f"t = {case.ranks}: {case.what} of {case.size} gave a {error!r}; {case}")
        if not THREE_PARTS.fullmatch(str(error)):
            raise Violation(f"t = {case.ranks}: not what was asked: why not; what to do: {error}; {case}")
