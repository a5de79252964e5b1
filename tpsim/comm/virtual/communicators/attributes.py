"""What hangs on communicators: a program's own attributes, and MPI's."""

from __future__ import annotations

from typing import Any, ClassVar

from tpsim.comm.virtual.communicators.handle import Communicator
from tpsim.comm.virtual.data.attributes import Attribute, Attributes, Keyval
from tpsim.comm.virtual.data.constants import (
    ANY_SOURCE,
    APPNUM,
    IO,
    LASTUSEDCODE,
    TAG_UB,
    TAG_UB_VALUE,
    UNIVERSE_SIZE,
    WTIME_IS_GLOBAL,
)
from tpsim.comm.virtual.data.process import current_process


class CommAttributes(Communicator, Attributes):
    """Set_attr, Get_attr, Delete_attr, and keys for them."""

    _keyvals: ClassVar[dict[int, Keyval]] = {}

    @property
    def _attributes(self) -> dict[int, Attribute]:
        return self._context.attributes

    def Get_attr(self, keyval: int) -> Any:
        """Return the value of a key, or None.

        MPI's own keys: TAG_UB (the largest tag), IO (any rank may), WTIME_IS_GLOBAL (ranks share a clock),
        UNIVERSE_SIZE (how many ranks run), APPNUM, LASTUSEDCODE (the last error code).
        """
        world = self._context.world
        own = {
            TAG_UB: TAG_UB_VALUE,
            IO: ANY_SOURCE,
            WTIME_IS_GLOBAL: 1,
            UNIVERSE_SIZE: world.size,
            APPNUM: 0,
            LASTUSEDCODE: current_process().codes.last,
        }
        return own[keyval] if keyval in own else super().Get_attr(keyval)
