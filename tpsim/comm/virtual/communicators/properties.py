"""What a communicator is called, what hangs on it, and what it knows of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from tpsim.comm.call_marker import VirtualCallMarker
from tpsim.comm.errors import JobAborted
from tpsim.comm.virtual.communicators.attributes import CommAttributes
from tpsim.comm.virtual.communicators.handle import Communicator
from tpsim.comm.virtual.data.constants import CONGRUENT, IDENT, SIMILAR, UNDEFINED, UNEQUAL
from tpsim.comm.virtual.data.errhandlers import Errhandler
from tpsim.comm.virtual.data.info import Info
from tpsim.comm.virtual.data.process_group import ProcessGroup


class Properties(CommAttributes):
    """Names, hints, error handlers, groups, comparison."""

    # -- who is in it ---------------------------------------------------------------------------------

    def Get_group(self) -> ProcessGroup:
        """Return the group of its ranks (of the local ones, in an intercommunicator)."""
        here = self._context
        return ProcessGroup.of(here.members, here.me)

    group = property(Get_group)

    def Compare(self, comm: Communicator) -> int:
        """Return IDENT, CONGRUENT (another one of the same ranks), SIMILAR (in another order) or UNEQUAL."""
        here, there = self._context, comm._context
        if here is there:
            return IDENT
        if here.is_inter != there.is_inter:
            return UNEQUAL
        pairs = ((here.members, there.members), (here.peers, there.peers))
        if all(mine == theirs for mine, theirs in pairs):
            return CONGRUENT
        return SIMILAR if all(set(mine) == set(theirs) for mine, theirs in pairs) else UNEQUAL

    def Is_inter(self) -> bool:
        """Tell whether it is an intercommunicator: two groups, each of which sends to the other."""
        return self._context.is_inter

    def Is_intra(self) -> bool:
        """Tell whether it is an intracommunicator."""
        return not self._context.is_inter

    def Get_topology(self) -> int:
        """Return CART, GRAPH, DIST_GRAPH, or UNDEFINED."""
        topology = self._context.topology
        return UNDEFINED if topology is None else topology.kind

    is_inter = property(Is_inter)
    is_intra = property(Is_intra)
    topology = property(Get_topology)

    @property
    def is_topo(self) -> bool:
        """Whether it has a topology."""
        return self._context.topology is not None

    # -- names and hints ------------------------------------------------------------------------------

    def Get_name(self) -> str:
        """Return its name: what `Set_name` gave it, or "" if it is none of MPI's own."""
        return self._context.name if self else "MPI_COMM_NULL"

    def Set_name(self, name: str) -> None:
        """Name it, for messages too."""
        here = self._context
        here.name = name
        here.world.names[here.id] = here.world.names[here.meets_id] = name

    name = property(Get_name, Set_name)

    def Get_info(self) -> Info:
        """Return its hints. Virtual ranks keep what they are told, and heed nothing."""
        return Info.Create(self._context.info)

    def Set_info(self, info: Info) -> None:
        """Set hints."""
        self._context.info.update(info.items())

    info = property(Get_info, Set_info)

    # -- errors ---------------------------------------------------------------------------------------

    @classmethod
    def Create_errhandler(cls, errhandler_fn: Callable[[Any, int], None]) -> Errhandler:
        """Return an error handler that calls `errhandler_fn(comm, error code)`."""
        return Errhandler.create(errhandler_fn, "Comm")

    def Get_errhandler(self) -> Errhandler:
        """Return a handle of the error handler."""
        return Errhandler(self._context.errhandler)

    def Set_errhandler(self, errhandler: Errhandler) -> None:
        """Set the error handler, for `Call_errhandler`; a call that fails raises in any case."""
        errhandler._held()  # a null one is an error
        self._context.errhandler = Errhandler(errhandler)

    def Call_errhandler(self, errorcode: int) -> None:
        """Call the error handler."""
        self._context.errhandler.call(self, errorcode)

    def Abort(self, errorcode: int = 0) -> NoReturn:
        """End the whole run, with this exit code."""
        here = self._context
        aborted = JobAborted(errorcode)
        with here.world.lock:
            here.world.fail(here.me, aborted)  # even if the rank's own code catches it
        raise aborted

    def call_marker(self) -> VirtualCallMarker:
        """Return where this rank says which call it is in."""
        return VirtualCallMarker(self.world.calling, self._me)
