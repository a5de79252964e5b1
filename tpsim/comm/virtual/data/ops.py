"""mpi4py's `Op`: reductions of arrays and of objects."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from tpsim.comm.virtual.data.buffers import buffer
from tpsim.comm.virtual.data.datatypes import Datatype
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.handles import MPIHandle, constant
from tpsim.comm.virtual.data.process import current_process
from tpsim.comm.virtual.data.reductions import PREDEFINED, OnArrays, OpState, user_op

UserFunction = Callable[[Any, Any, Any], Any]


class Op(MPIHandle):
    """A reduction, such as `MPI.SUM`."""

    __slots__ = ("_function",)  # the user's; a handle made from a number has none, as in mpi4py
    _state: OpState | None
    _error = "ERR_OP"
    _function: UserFunction | None

    def __new__(cls, op: Op | None = None) -> Self:
        """Return another handle of the same reduction; without any, a null handle."""
        handle = super().__new__(cls, op)
        handle._function = None if op is None else op._function
        return handle

    @classmethod
    def _of(cls, state: Any, function: UserFunction | None = None) -> Self:
        handle = super()._of(state)
        handle._function = function
        return handle

    def __repr__(self) -> str:
        return f"Op({self.name})"

    @classmethod
    def Create(cls, function: UserFunction, commute: bool = False) -> Self:
        """Return a reduction of one's own.

        Parameters
        ----------
        function : callable
            Of memory (`MPI.buffer`) a and b and their datatype: writes a + b, say, into b. Of two
            objects and None (in the lower-case methods): returns the result.
        commute : bool
            Whether a and b may change places. Virtual ranks reduce in rank order in any case.
        """
        if not callable(function):
            raise TypeError(f"Create: {function!r} can't be called; pass a function of (a, b, datatype)")
        state = user_op(function, commute=commute)
        current_process().admit("reductions", state)
        return cls._of(state, function)

    def Free(self) -> None:
        """Give the reduction up."""
        state = self._held()
        if self.is_predefined:
            raise error("ERR_OP", f"Free: {self.name} is MPI's own and stays; free only what you created")
        state.release()
        self._state = self._function = None

    @property
    def name(self) -> str:
        """The reduction's name."""
        return "MPI_OP_NULL" if self._state is None else self._state.name

    @property
    def commute(self) -> bool:
        """Whether a and b may change places."""
        commute: bool = self._held().commute
        return commute

    def Is_commutative(self) -> bool:
        """Tell whether a and b may change places."""
        return self.commute

    is_commutative = commute

    def on(self, datatype: Datatype | None) -> OnArrays:
        """Return the reduction of the data of two buffers of a type: a function of arrays (a, b, out).

        Raises
        ------
        ArgumentError
            If elements of this type can't be reduced so.
        """
        function: OnArrays = self._held().on(datatype)
        return function

    def __call__(self, x: Any, y: Any) -> Any:
        """Reduce two objects, as the lower-case methods do: sums concatenate lists, as in mpi4py."""
        state = self._held()
        if self._function is not None:
            return self._function(x, y, None)
        if state.on_objects is None:
            raise ValueError(
                "Op: this handle was made from a number, and knows no Python function; "
                "keep the one that Op.Create returned"
            )
        if isinstance(x, np.ndarray) and state.ufunc is not None:
            return state.ufunc(x, y)
        return state.on_objects(x, y)

    def Reduce_local(self, inbuf: Any, inoutbuf: Any) -> None:
        """Reduce two buffers of this rank into the second."""
        call = "Reduce_local"
        given, result = buffer(inbuf, call), buffer(inoutbuf, call, writable=True)
        if given.datatype != result.datatype or given.count != result.count:
            raise ValueError(
                f"{call}: {given.count} × {given.datatype.name} and {result.count} × {result.datatype.name} "
                "don't go together; pass two buffers of one type and length"
            )
        values = result.pack().copy()
        self.on(result.datatype)(given.pack(), values, out=values)
        result.unpack(values)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._function is not None:
            return type(self).Create, (self._function, self.commute)
        return super().__reduce__()


OP_NULL = constant("OP_NULL", Op())
MAX, MIN, SUM, PROD, LAND, BAND, LOR, BOR, LXOR, BXOR, MAXLOC, MINLOC, REPLACE, NO_OP = (
    constant(name, Op._of(PREDEFINED[name]))
    for name in (
        *("MAX", "MIN", "SUM", "PROD", "LAND", "BAND", "LOR", "BOR", "LXOR", "BXOR"),
        *("MAXLOC", "MINLOC", "REPLACE", "NO_OP"),
    )
)
_OPS = (SUM, PROD, MAX, MIN, LAND, LOR, LXOR, BAND, BOR, BXOR, MAXLOC, MINLOC, REPLACE, NO_OP)


def as_op(op: Any, *, objects: bool = False) -> Op:
    """Return the reduction that `op` names: one of tpsim's, or one of mpi4py's predefined ones.

    Objects may be reduced by any function of two of them, as in mpi4py.

    Raises
    ------
    NotImplementedError
        For any other operation.
    """
    if isinstance(op, Op):
        return op
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and isinstance(op, mpi.Op):
        for known in _OPS:
            if op == getattr(mpi, known.name.removeprefix("MPI_")):
                return known
    if objects and callable(op):
        name = getattr(op, "__name__", type(op).__name__)
        return Op._of(OpState(name, on_objects=op))
    names = ", ".join(known.name.removeprefix("MPI_") for known in _OPS)
    raise NotImplementedError(
        f"reduction {op!r}: virtual ranks know {names}, and what their Op.Create returns; use one of these"
    )
