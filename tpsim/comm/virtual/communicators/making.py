"""Communicators made of others: copies, and parts."""

from __future__ import annotations

from typing import Any, Self

from tpsim.comm.signature import Signature
from tpsim.comm.virtual.communicators.division import Part, divide
from tpsim.comm.virtual.communicators.handle import handle_of, null_of
from tpsim.comm.virtual.communicators.properties import Properties
from tpsim.comm.virtual.data.constants import (
    COMM_TYPE_HW_GUIDED,
    COMM_TYPE_HW_UNGUIDED,
    COMM_TYPE_RESOURCE_GUIDED,
    COMM_TYPE_SHARED,
    UNDEFINED,
)
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.info import INFO_NULL, Info
from tpsim.comm.virtual.data.process_group import ProcessGroup
from tpsim.comm.virtual.messages.request import Request

_RESOURCE = "mpi_hw_resource_type"


class Making(Properties):
    """Dup, Create, Split, Free."""

    # -- copies ---------------------------------------------------------------------------------------

    def Dup(self, info: Info | None = None) -> Self:
        """Return a communicator of the same ranks, whose messages never meet this one's.

        It waits for nobody. Attributes are copied as their keys say; hints are `info`, by default this
        communicator's.
        """
        here = self._context
        there = here.twin()
        there.info.update(here.info if info is None else info.items())
        there.errhandler = here.errhandler
        copy = self._of(there)
        if here.attributes:
            self._copy_attributes(copy)
        return copy

    def Clone(self) -> Self:
        """Return the same as `Dup`."""
        return self.Dup()

    def Dup_with_info(self, info: Info) -> Self:
        """Return a communicator of the same ranks, with other hints."""
        return self.Dup(info)

    def Idup(self, info: Info | None = None) -> tuple[Self, Request]:
        """Return a copy, and a request that is complete when all ranks have called."""
        return self.Dup(info), self.request(self.meet(Signature("Idup"), None, lambda values: values))

    def Idup_with_info(self, info: Info) -> tuple[Self, Request]:
        """Begin `Dup_with_info`."""
        return self.Idup(info)

    # -- parts ----------------------------------------------------------------------------------------

    def Split(self, color: int = 0, key: int = 0) -> Any:
        """Return the communicator of the ranks with the same color, ordered by key, then by rank.

        A rank whose color is UNDEFINED (or any negative number) gets COMM_NULL. In an intercommunicator
        each group is split, and the parts of the same color talk to each other; a color that one group
        lacks gives COMM_NULL.
        """
        return self._part("Split", int(color), int(key))  # size / 2 is a color, as in mpi4py

    def Split_type(self, split_type: int, key: int = 0, info: Info = INFO_NULL) -> Any:
        """Return the communicator of the ranks that share something.

        All virtual ranks are in one process: COMM_TYPE_SHARED leaves them together, as do the guided types
        with the resource "mpi_shared_memory". There is no finer unit, so that all other types but
        UNDEFINED, and other resources, give COMM_NULL as UNDEFINED does.
        """
        guided = (COMM_TYPE_HW_GUIDED, COMM_TYPE_RESOURCE_GUIDED)
        if split_type not in (COMM_TYPE_SHARED, COMM_TYPE_HW_UNGUIDED, UNDEFINED, *guided):
            raise error(
                "ERR_ARG",
                f"Split_type: type {split_type} is not known; pass one of MPI's COMM_TYPE_…, or UNDEFINED",
            )
        shared = split_type in guided and info.get(_RESOURCE) == "mpi_shared_memory"
        return self._part("Split_type", 0 if split_type == COMM_TYPE_SHARED or shared else UNDEFINED, key)

    def Create(self, group: ProcessGroup) -> Any:
        """Return the communicator of a group's ranks; COMM_NULL on those that are not in it.

        All ranks call it. They may pass groups of their own if no two of them overlap. In an
        intercommunicator `group` is a part of the local group.
        """
        return self._part("Create", *self._place_in(group, "Create"))

    def _place_in(self, group: ProcessGroup, call: str) -> tuple[int, int]:
        """Return (color, key) of this rank for splitting off the group's ranks."""
        here, members = self._context, group.members
        strangers = set(members).difference(here.members)
        if strangers:
            raise error(
                "ERR_GROUP",
                f"{call}: {group!r} has world ranks {sorted(strangers)}, which are not in this communicator; "
                "make the group from this communicator's Get_group()",
            )
        if here.me not in members:
            return UNDEFINED, 0
        return 0 if here.is_inter else members[0], members.index(here.me)

    def _part(self, call: str, color: int, key: int) -> Any:
        """Return the communicator of the ranks with the same color."""
        here = self._context
        own = self._divided(call, color, key)
        kind = "inter" if here.is_inter else "intra"
        return null_of(kind) if own is None else handle_of(here.part(own.key, own.groups, own.rank))

    def _divided(self, call: str, color: int, key: int) -> Part | None:
        """Agree with the other ranks on who goes with whom."""
        here = self._context
        seated = here.world.members[here.meets_id]
        name = (here.meets_id, call, here.calls + 1)
        own: Part | None = self.together(
            Signature(call), (here.side, color, key), lambda values: divide(seated, values, name)
        )
        return own

    # -- the end --------------------------------------------------------------------------------------

    def Free(self) -> None:
        """Let go of the communicator, and of its attributes. This handle is null afterwards."""
        here = self._context
        if here.predefined is not None:
            raise error(
                "ERR_COMM", f"Free: {here.constant} is MPI's own and stays; free only what you created"
            )
        self._delete_attributes()
        super().Free()

    Disconnect = Free
