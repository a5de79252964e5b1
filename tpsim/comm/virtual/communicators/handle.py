"""Handles of communicators: which object may stand for which communicator, and how they are pickled."""

from __future__ import annotations

import sys
from copyreg import __newobj__  # type: ignore[attr-defined]
from typing import Any, ClassVar, Self

from tpsim.comm.virtual.communicators.context import Context
from tpsim.comm.virtual.data.constants import CART, DIST_GRAPH, GRAPH
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.handles import MPIHandle
from tpsim.comm.virtual.endpoint import Endpoint

TOPOLOGIES = {CART: "Cartesian", GRAPH: "a graph", DIST_GRAPH: "a distributed graph"}
INTRA = {"intra", *TOPOLOGIES.values()}
KINDS = {"null", "inter"} | INTRA


class Communicator(MPIHandle, Endpoint):
    """A communicator as scripts hold it. Several handles may stand for one; after `Free` one is null.

    A subclass says which kinds it may stand for (`class Intercomm(Comm, kinds={"inter"})`); a script's
    own subclasses inherit that.
    """

    _state: Context | None
    _error = "ERR_COMM"
    _kinds: ClassVar[set[str]] = KINDS
    _narrowest: ClassVar[dict[str, type[Communicator]]] = {}

    def __init_subclass__(cls, *, kinds: set[str] | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if kinds is not None:
            cls._kinds = kinds
            Communicator._narrowest.update((kind, cls) for kind in kinds)  # the last is the narrowest

    def __new__(cls, comm: Communicator | None = None) -> Self:
        """Return another handle of the same communicator; without any, a null handle."""
        handle = super().__new__(cls, comm)
        if handle and _kind_of(handle._state) not in cls._kinds:
            raise TypeError(
                f"{cls.__name__}: {comm!r} is {_kind_of(handle._state)}; pass a communicator that is "
                f"{' or '.join(sorted(cls._kinds))}"
            )
        return handle

    @property
    def _context(self) -> Context:
        if self._state is None:
            raise error(
                "ERR_COMM",
                "this communicator is null; look for a Free before this call, or test `comm != "
                "MPI.COMM_NULL` after a Split or Create that leaves ranks out",
            )
        return self._state

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Communicator):
            return self._state is other._state
        mpi = sys.modules.get("mpi4py.MPI")
        return not self and not other if mpi is not None and isinstance(other, mpi.Comm) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}(rank {self.rank} of {self.size})" if self else f"{name}(null)"

    @classmethod
    def fromhandle(cls, handle: int) -> Any:
        """Return a communicator, of its own kind, that `handle` is the number of."""
        state = super().fromhandle(handle)._state
        return Communicator._narrowest[_kind_of(state)]._of(state)

    @property
    def is_constant(self) -> bool:
        """Whether this very object is COMM_WORLD, COMM_SELF or COMM_NULL."""
        return super().is_constant if self._state is None else self is self._state.predefined

    @property
    def is_predefined(self) -> bool:
        """Whether this handle stands for one of those."""
        return self._state is None or self._state.predefined is not None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._state is None or self._state.predefined is None:
            return super().__reduce__()
        if self.is_constant:
            return _of_this_rank, (self._state.constant,)
        return __newobj__, (type(self), self._state.predefined)


def handle_of(context: Context) -> Any:
    """Return a handle of the communicator's own kind."""
    return Communicator._narrowest[_kind_of(context)]._of(context)


def null_of(kind: str) -> Any:
    """Return a null handle, of the class for communicators of a kind."""
    return Communicator._narrowest[kind]()


def _kind_of(context: Context | None) -> str:
    if context is None:
        return "null"
    if context.is_inter:
        return "inter"
    return "intra" if context.topology is None else TOPOLOGIES[context.topology.kind]


def _of_this_rank(name: str) -> Any:
    """Return COMM_WORLD or COMM_SELF of the rank that unpickles it."""
    mpi = sys.modules.get("mpi4py.MPI")
    comm = getattr(mpi, name, None)
    if not isinstance(comm, Communicator):
        raise error(
            "ERR_COMM",
            f"pickle: {name} is each rank's own, and this code runs in no script of virtual ranks; "
            "start it with `tpsim run`, or don't send the communicator",
        )
    return comm
