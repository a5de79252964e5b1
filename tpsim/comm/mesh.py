"""The tp × dp mesh: which ranks cut a layer between them, and which hold copies of it."""

from __future__ import annotations

from typing import Any

from tpsim.comm import watch
from tpsim.comm.group import Group


class Mesh:
    """Ranks in a grid: tensor parallelism along the rows, data parallelism down the columns.

    Ranks of a tensor-parallel group are adjacent, as in Megatron-LM, since they talk most and
    neighbours have the fastest links. With tp=2 and 6 ranks::

        rank:  0 1 | 2 3 | 4 5      .tp groups: (0 1) (2 3) (4 5)
                                    .dp groups: (0 2 4) (1 3 5)

    Parameters
    ----------
    comm : VirtualComm or mpi4py.MPI.Comm
        All ranks.
    tp : int
        Ranks in a tensor-parallel group; must divide the number of ranks.
    **options
        Passed on to `Group`.

    Attributes
    ----------
    tp, dp : Group
        This rank's groups.
    """

    def __init__(self, comm: Any, tp: int, **options: Any) -> None:
        rank, size = comm.Get_rank(), comm.Get_size()
        if tp < 1 or size % tp:
            divisors = [str(d) for d in range(1, size + 1) if size % d == 0]
            raise ValueError(f"Mesh: tp={tp} does not divide {size} ranks; pick one of {', '.join(divisors)}")
        with watch.making("Mesh", comm):
            row, column = comm.Split(rank // tp, rank), comm.Split(rank % tp, rank)
        self.tp = Group(row, name="tp", private=True, **options)
        self.dp = Group(column, name="dp", private=True, **options)

    def __repr__(self) -> str:
        return f"Mesh(tp {self.tp.size} × dp {self.dp.size})"
