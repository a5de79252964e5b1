"""mpi4py's `Grequest`: a request for something that the program does by itself."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from tpsim.comm.mpi_errors import ERROR_CLASSES, MPIException
from tpsim.comm.places import Mark
from tpsim.comm.virtual.completion import Completion
from tpsim.comm.virtual.current import current_rank
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.status import Status, fill
from tpsim.comm.virtual.messages.calls import Call
from tpsim.comm.virtual.messages.request import Request

if TYPE_CHECKING:
    from tpsim.comm.virtual.world import World

Function = Callable[..., None] | None


class OwnWork(Completion):
    """Something that the program itself says is done."""

    __slots__ = ()

    def describe(self, rank: int, world: World) -> str:
        """Say what is waited for."""
        return "wait for a Grequest, which nobody has completed"

    def begun(self, rank: int) -> Mark:
        """Return no line."""
        return ()


class GeneralCall(Call):
    """What the program does by itself, and the functions that it gave to be asked, freed and cancelled."""

    __slots__ = ("_args", "_cancel", "_free", "_kwargs", "_query", "answer")

    always_tells = True

    def __init__(
        self,
        world: World,
        rank: int,
        functions: tuple[Function, Function, Function],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(world, rank, OwnWork(), lambda: self.answer)
        self._query, self._free, self._cancel = functions
        self._args = args
        self._kwargs = kwargs
        self.answer: Any = None

    def complete(self, answer: Any) -> None:
        """Be done."""
        if self.completion is None or self.completion.done:
            raise error("ERR_REQUEST", "Complete: the request is complete already; complete it once")
        self.answer = answer
        with self.world.lock:
            self.world.moves += 1
            self.completion.complete()

    def fill(self, status: Any) -> None:
        """Let the program fill in the status."""
        own = Status()
        self._ask(self._query, own)
        cancelled = own.cancelled and self._cancel is not None
        fill(status, own.source, own.tag, own.nbytes, own.error, cancelled=cancelled)

    def end(self) -> Any:
        """Let the program free what it has, and return its answer."""
        self.free()
        return super().end()

    def free(self) -> None:
        """Let the program free what it has."""
        super().free()
        self._ask(self._free)

    def cancel(self) -> None:
        """Ask the program to stop; it is told whether it is done already."""
        self._ask(self._cancel, self.done)

    def _ask(self, function: Function, *first: Any) -> None:
        """Call one of the program's functions. As in C, its error can go on only as an error code."""
        if function is None:
            return
        try:
            function(*first, *self._args, **self._kwargs)
        except Exception as failure:
            traceback.print_exc()
            code = (
                failure.Get_error_code() if isinstance(failure, MPIException) else ERROR_CLASSES["ERR_OTHER"]
            )
            raise MPIException(code) from failure


class Grequest(Request):
    """A generalized request: complete when the program says so."""

    __slots__ = ()
    _state: GeneralCall | None

    def __new__(cls, request: Request | None = None) -> Self:
        """Return another handle of a generalized request."""
        if request and not isinstance(request, Grequest):
            raise TypeError(
                f"{cls.__name__}: {request!r} is not generalized; pass what Grequest.Start returned"
            )
        return super().__new__(cls, request)

    @classmethod
    def Start(
        cls,
        query_fn: Function = None,
        free_fn: Function = None,
        cancel_fn: Function = None,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Return a request that is complete once `Complete` was called.

        Parameters
        ----------
        query_fn : callable, optional
            Called with a `Status` to fill in.
        free_fn : callable, optional
            Called when nobody needs the request any more.
        cancel_fn : callable, optional
            Called by `Cancel`, with whether the request is complete.
        args, kwargs : optional
            Passed on to each of them.
        """
        world, rank = current_rank("Grequest.Start")
        functions = query_fn, free_fn, cancel_fn
        return cls._of(GeneralCall(world, rank, functions, tuple(args or ()), dict(kwargs or {})))

    def Complete(self) -> None:
        """Say that the request is complete."""
        self.complete()

    def complete(self, obj: Any = None) -> None:
        """Say that the request is complete, with `obj` as what `wait` returns."""
        call = self._call("Complete")
        assert isinstance(call, GeneralCall)
        call.complete(obj)
