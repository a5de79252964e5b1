"""The tp × dp mesh."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim.comm import Group, Mesh, run


@pytest.mark.parametrize("schedule", ["lockstep", "free"])
@given(tp=st.integers(1, 4), dp=st.integers(1, 4))
@settings(deadline=None, max_examples=16)
def test_tp_ranks_are_adjacent_and_dp_ranks_lie_tp_apart(schedule: Any, tp: int, dp: int) -> None:
    def main(comm: Any) -> Any:
        mesh = Mesh(comm, tp)
        mine = np.array([comm.rank])
        assert (mesh.tp.size, mesh.dp.size, mesh.tp.name, mesh.dp.name) == (tp, dp, "tp", "dp")
        assert (mesh.tp.rank, mesh.dp.rank) == (comm.rank % tp, comm.rank // tp)
        assert repr(mesh) == f"Mesh(tp {tp} × dp {dp})"
        return mesh.tp.all_gather(mine).tolist(), mesh.dp.all_gather(mine).tolist()

    for rank, (row, column) in enumerate(run(main, tp * dp, schedule=schedule)):
        first = rank - rank % tp
        assert row == list(range(first, first + tp))
        assert column == list(range(rank % tp, tp * dp, tp))


def test_options_reach_both_groups() -> None:
    def main(comm: Any) -> None:
        mesh = Mesh(comm, 2, algorithm="tree", messages=True, check=False)
        for group in (mesh.tp, mesh.dp):
            assert isinstance(group, Group)
            assert (group.algorithm, group.check, group.counted) == ("tree", False, True)

    run(main, 4)


@pytest.mark.parametrize("tp", [0, -1, 4, 12])
def test_tp_must_divide_the_ranks(tp: int) -> None:
    with pytest.raises(ValueError, match=rf"tp={tp} does not divide 6 ranks; pick one of 1, 2, 3, 6"):
        run(lambda comm: Mesh(comm, tp), 6)
