"""Groups of a dry run, where one rank stands for all."""

from __future__ import annotations

from typing import Any

from tpsim.comm.dry_backend import DryComm
from tpsim.comm.group import Group
from tpsim.comm.mesh import Mesh


def dry_group(ranks: int, rank: int = 0, *, name: str = "tp", **options: Any) -> Group:
    """Return the group of `ranks` as its `rank` sees it, for arrays that have a shape and no data.

    Parameters
    ----------
    ranks, rank : int
        How many there are, and which one stands for all.
    name : str
    **options
        Passed on to `Group`.

    Examples
    --------
    >>> from tpsim.dry import ShapeArray
    >>> dry_group(8).all_gather(ShapeArray((2, 1024, 16384), "float16"), axis=1)
    ShapeArray((2, 8192, 16384), float16)
    """
    return Group(DryComm(ranks, rank), name=name, private=True, check=False, **options)


class DryMesh(Mesh):
    """A tp × dp mesh as one rank sees it.

    Parameters
    ----------
    tp, dp : int
        Sizes of the two groups.
    rank : int
        Which of the tp × dp ranks.
    **options
        Passed on to both groups.
    """

    def __init__(self, tp: int, dp: int = 1, rank: int = 0, **options: Any) -> None:
        self.tp = dry_group(tp, rank % tp, name="tp", **options)
        self.dp = dry_group(dp, rank // tp, name="dp", **options)
