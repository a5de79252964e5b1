"""A case of the collectives themselves: whole numbers, any memory layout on each rank, in place or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tpsim.comm import run
from tpsim.lab.cases import Array, Case
from tpsim.lab.strategies import RANKS, draw_common, picker
from tpsim.lab.violation import Violation

Layout = Literal["C", "F"]


@dataclass(frozen=True, kw_only=True, repr=False)
class CollectiveCase(Case):
    """Arrays [batch·ranks, seq] in the given memory order, one for each rank in turn."""

    layouts: tuple[Layout, ...] = ("C",)
    in_place: bool = False

    def draw(self) -> list[Array]:
        """Return every rank's array."""
        rng = np.random.default_rng(self.seed)
        shape = (self.batch * self.ranks, self.seq)
        return [
            rng.integers(-99, 100, shape).astype(self.dtype, order=self.layouts[rank % len(self.layouts)])
            for rank in range(self.ranks)
        ]


@st.composite
def collectives(draw: DrawFn, /, ranks: Sequence[int] = RANKS, **fixed: Any) -> CollectiveCase:
    """Collectives of all algorithms."""
    pick = picker(draw, fixed)
    layouts = st.lists(st.sampled_from(["C", "F"]), min_size=1, max_size=3).map(tuple)
    return CollectiveCase(
        layouts=pick("layouts", layouts), in_place=pick("in_place", st.booleans()), **draw_common(pick, ranks)
    )


def collectives_are_exact(case: CollectiveCase) -> None:
    """Sums, gathers and scatters of whole numbers are NumPy's, on every rank, whatever the memory order."""
    xs = case.draw()
    total = np.sum(xs, axis=0)
    want = {
        "all_reduce": [total] * case.ranks,
        "reduce_scatter": np.split(total, case.ranks),
        "all_gather": [np.concatenate(xs)] * case.ranks,
        "broadcast": [xs[-1]] * case.ranks,
    }

    def main(comm: Any) -> dict[str, Array]:
        group, x = case.group(comm), case.draw()[comm.rank]  # its own: in place, it is written to
        return {
            "reduce_scatter": group.reduce_scatter(x),
            "all_gather": group.all_gather(x),
            "broadcast": group.broadcast(x, root=group.size - 1),
            "all_reduce": group.all_reduce(x, out=x if case.in_place else None),
        }

    for rank, got in enumerate(run(main, case.ranks)):
        for operation, results in want.items():
            if not np.array_equal(got[operation], results[rank]):
                wrong = int(np.sum(got[operation] != results[rank]))
                raise Violation(
                    f"t = {case.ranks}, rank {rank}: {operation} has {wrong} wrong entries of "
                    f"{results[rank].size}; {case}"
                )
