"""mpi4py's `Errhandler`. On virtual ranks an error is always an exception, as mpi4py's default has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from tpsim.comm.mpi_errors import SUCCESS, MPIException
from tpsim.comm.virtual.data.handles import MPIHandle, constant
from tpsim.comm.virtual.data.process import Limited, current_process

Handler = Callable[[Any, int], None]


class ErrhandlerState(Limited):
    """What an `Errhandler` holds: the function that is called with the communicator and the error code."""

    __slots__ = ("function", "name")

    def __init__(self, name: str, function: Handler) -> None:
        super().__init__()
        self.name = name
        self.function = function


class Errhandler(MPIHandle):
    """What is to happen when a call fails."""

    __slots__ = ()
    _state: ErrhandlerState | None
    _error = "ERR_ERRHANDLER"

    def __new__(cls, errhandler: Errhandler | None = None) -> Self:
        """Return another handle of the same error handler; without any, a null handle."""
        return super().__new__(cls, errhandler)

    def __repr__(self) -> str:
        return f"Errhandler({'null' if self._state is None else self._state.name})"

    @classmethod
    def create(cls, function: Handler, kind: str = "Comm") -> Self:
        """Return a handler that calls `function(object, error code)`; see `Comm.Create_errhandler`."""
        state = ErrhandlerState(getattr(function, "__name__", "user"), function)
        current_process().admit(f"error handlers of {kind}", state)
        return cls._of(state)

    def call(self, owner: Any, errorcode: int) -> None:
        """Handle an error of `owner`, as `Call_errhandler` asks."""
        state = self._held()
        if errorcode != SUCCESS:
            state.function(owner, errorcode)

    def Free(self) -> None:
        """Give the handler up; communicators that have it keep it."""
        state = self._held()
        super().Free()
        state.release()


def _nothing(owner: Any, errorcode: int) -> None:
    """Return: the failing call raises by itself."""


def _end(owner: Any, errorcode: int) -> None:
    raise MPIException(errorcode)


ERRHANDLER_NULL = constant("ERRHANDLER_NULL", Errhandler())
ERRORS_RETURN = constant("ERRORS_RETURN", Errhandler._of(ErrhandlerState("MPI_ERRORS_RETURN", _nothing)))
ERRORS_ABORT = constant("ERRORS_ABORT", Errhandler._of(ErrhandlerState("MPI_ERRORS_ABORT", _end)))
ERRORS_ARE_FATAL = constant("ERRORS_ARE_FATAL", Errhandler._of(ErrhandlerState("MPI_ERRORS_ARE_FATAL", _end)))
