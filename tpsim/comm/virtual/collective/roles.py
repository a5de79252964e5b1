"""Who gives and who takes in a collective: among the ranks of one group, or between two."""

from __future__ import annotations

from typing import Any, NamedTuple

from tpsim.comm.signature import Signature
from tpsim.comm.virtual.collective.measure import dtype_of, elements_of
from tpsim.comm.virtual.collective.part import Addressed, Block
from tpsim.comm.virtual.data.buffers import Buffer
from tpsim.comm.virtual.data.constants import PROC_NULL, ROOT, as_rank, is_in_place
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.endpoint import Endpoint


class Role(NamedTuple):
    """A rank's place in a collective with a root."""

    is_root: bool
    is_peer: bool
    """Whether it is one of those with whom the root exchanges data: among one group, the root is, too."""
    seat: int
    """The root's; -1 where it can't be known, as the rank stands by (PROC_NULL)."""

    def with_root(self, block: Block) -> Addressed:
        """Return where a peer's one block goes to, or comes from."""
        return [(self.seat, block)] if self.is_peer else []


class Roles(Endpoint):
    """What all collectives ask about their communicator.

    At a meeting each rank has a seat: its rank; or, in an intercommunicator, a number among both groups.
    """

    @property
    def _others(self) -> range:
        """The seats of those with whom this rank exchanges data: everybody, or the other group."""
        here = self._context
        if not here.is_inter:
            return range(here.seats)
        sits_behind = here.seat > here.rank  # the other group, which has the first seats
        return range(len(here.peers)) if sits_behind else range(len(here.members), here.seats)

    def _role(self, call: str, root: int) -> Role:
        here = self._context
        others, known = len(here.peers), as_rank(root)
        if 0 <= known < others:
            return Role(known == here.rank and not here.is_inter, True, self._others[known])
        if here.is_inter and known is ROOT:
            return Role(True, False, here.seat)
        if here.is_inter and known is PROC_NULL:
            return Role(False, False, -1)
        special = ", ROOT or PROC_NULL" if here.is_inter else ""
        raise error(
            "ERR_ROOT",
            f"{call}: root {root} is not a rank of this communicator; pick 0 to {others - 1}{special}",
        )

    def _is_in_place(self, spec: Any) -> bool:
        """Tell whether a buffer is IN_PLACE (or None, as in mpi4py): never between two groups."""
        return not self._context.is_inter and (spec is None or is_in_place(spec))

    def _signature(
        self,
        call: str,
        buffer: Buffer | None = None,
        block: Block = None,
        *,
        reduction: str = "",
        root: int | None = None,
    ) -> Signature:
        """Return what all ranks must agree on: the length of a buffer's block, its dtype, the root …

        Between two groups these may differ from one group to the other.
        """
        if self._context.is_inter:
            return Signature(call, reduction=reduction)
        if buffer is None:
            return Signature(call, reduction=reduction, place=root)
        return Signature(call, (elements_of(buffer, block),), dtype_of(buffer), reduction, root)
