"""What reductions do: of arrays by NumPy, of objects by Python, and the user's own."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.virtual.data.datatypes import Datatype
from tpsim.comm.virtual.data.exceptions import ReductionError
from tpsim.comm.virtual.data.memory import buffer
from tpsim.comm.virtual.data.process import Limited
from tpsim.comm.virtual.data.type_table import datatype_of

Array = NDArray[Any]
OnArrays = Callable[..., Any]
"""Of arrays (a, b, out=…), all 1-D, of one dtype and size; `out` may be a or b."""


class OpState(Limited):
    """What an `Op` holds.

    Parameters
    ----------
    name : str
        Its name.
    ufunc : callable, optional
        The reduction of arrays: of (a, b, out=…). By default, that of their elements as objects.
    on_objects : callable, optional
        The reduction of two objects.
    commute : bool
        Whether a and b may change places.
    kinds : str
        The kinds of dtype (as in `numpy.dtype.kind`) that can't be reduced so.
    """

    __slots__ = ("_refused", "commute", "name", "on_objects", "ufunc")

    def __init__(
        self,
        name: str,
        ufunc: OnArrays | None = None,
        on_objects: Callable[[Any, Any], Any] | None = None,
        *,
        commute: bool = True,
        refused: str = "",
    ) -> None:
        super().__init__()
        self.name = name
        self.ufunc = ufunc
        self.on_objects = on_objects
        self.commute = commute
        self._refused = refused

    def on(self, datatype: Datatype | None) -> OnArrays:
        """Return the reduction of arrays that are the data of elements of a type."""
        assert self.ufunc is not None
        if datatype is not None:
            self._check(datatype)
        return self.ufunc

    def _check(self, datatype: Datatype) -> None:
        dtype = datatype.dtype
        pairs = dtype is not None and dtype.names == ("value", "index")
        wants_pairs = self.name in ("MPI_MAXLOC", "MPI_MINLOC")
        if dtype is None or pairs != wants_pairs or dtype.kind in self._refused:
            advice = "a type of pairs, such as MPI.DOUBLE_INT" if wants_pairs else "numbers of another type"
            name = datatype.name or "a derived type"
            raise ReductionError(f"{self.name}: elements of {name} can't be reduced so; pass {advice}")


class UserOpState(OpState):
    """A reduction by the user's function, which is told of the datatype."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[Any, Any, Any], Any], *, commute: bool) -> None:
        super().__init__(getattr(function, "__name__", "user"), commute=commute)
        self._function = function

    def on(self, datatype: Datatype | None) -> OnArrays:
        """Return the reduction of arrays that are the data of elements of a type."""
        return partial(_call, self._function, datatype)


def user_op(function: Callable[[Any, Any, Any], Any], *, commute: bool) -> OpState:
    """Return the reduction by a function of (memory a, memory b, datatype), which writes into b."""
    return UserOpState(function, commute=commute)


def _call(function: Callable[..., Any], datatype: Datatype | None, a: Array, b: Array, out: Array) -> Array:
    """Call the user's function on memory in which elements lie as their type says."""
    datatype = datatype_of(a.dtype) if datatype is None else datatype
    layout = datatype.layout
    count = a.nbytes // layout.size if layout.size else 0
    low, high = layout.span(count)
    start = max(0, -low)
    ins, inout = (np.zeros(start + high, np.uint8) for _ in "ab")
    if count:
        layout.scatter(ins, start, a.view(np.uint8))
        layout.scatter(inout, start, b.view(np.uint8))
    function(buffer.frombuffer(ins), buffer.frombuffer(inout), datatype)
    np.copyto(out, layout.gather(inout, start, count).view(out.dtype))
    return out


def _located(better: Callable[[Array, Array], Array], a: Array, b: Array, out: Array | None = None) -> Array:
    """Of pairs (value, index): take the better value; of equal ones, the lower index."""
    equal = (a["value"] == b["value"]) & (b["index"] < a["index"])
    chosen = np.where(better(b["value"], a["value"]) | equal, b, a)
    if out is None:
        return chosen
    np.copyto(out, chosen)
    return out


def _located_objects(better: Callable[[Any, Any], bool], a: Any, b: Any) -> Any:
    (x, i), (y, j) = a, b
    if better(y, x):
        return y, j
    return (y, j) if x == y and j < i else (x, i)


def _first(a: Array, b: Array, out: Array) -> Array:
    np.copyto(out, a)
    return out


def _second(a: Array, b: Array, out: Array) -> Array:
    np.copyto(out, b)
    return out


def _state(
    name: str,
    ufunc: OnArrays,
    on_objects: Callable[[Any, Any], Any],
    refused: str = "",
    *,
    commute: bool = True,
) -> OpState:
    return OpState(f"MPI_{name}", ufunc, on_objects, commute=commute, refused=refused)


_TEXT = "SUMm"
PREDEFINED: dict[str, OpState] = {
    "MAX": _state("MAX", np.maximum, max, _TEXT + "c"),
    "MIN": _state("MIN", np.minimum, min, _TEXT + "c"),
    "SUM": _state("SUM", np.add, operator.add, _TEXT),
    "PROD": _state("PROD", np.multiply, operator.mul, _TEXT),
    "LAND": _state("LAND", np.logical_and, lambda a, b: bool(a) & bool(b), _TEXT),
    "LOR": _state("LOR", np.logical_or, lambda a, b: bool(a) | bool(b), _TEXT),
    "LXOR": _state("LXOR", np.logical_xor, lambda a, b: bool(a) ^ bool(b), _TEXT),
    "BAND": _state("BAND", np.bitwise_and, operator.and_, _TEXT + "fc"),
    "BOR": _state("BOR", np.bitwise_or, operator.or_, _TEXT + "fc"),
    "BXOR": _state("BXOR", np.bitwise_xor, operator.xor, _TEXT + "fc"),
    "MAXLOC": _state("MAXLOC", partial(_located, np.greater), partial(_located_objects, operator.gt)),
    "MINLOC": _state("MINLOC", partial(_located, np.less), partial(_located_objects, operator.lt)),
    "REPLACE": _state("REPLACE", _second, lambda a, b: b, commute=False),
    "NO_OP": _state("NO_OP", _first, lambda a, b: a, commute=False),
}
"""MPI's own reductions by their names in mpi4py."""
