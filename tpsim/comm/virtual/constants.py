"""The constants of mpi4py's interface that virtual ranks know, and real mpi4py's own in their place."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Rank(int):
    """A number that stands for something other than a rank. MPI libraries number these as they like."""


ANY_SOURCE = Rank(-2)
PROC_NULL = Rank(-1)
ANY_TAG = -1
UNDEFINED = -32766


def as_rank(rank: int) -> int:
    """Return ANY_SOURCE or PROC_NULL where `rank` is mpi4py's constant of that name."""
    mpi = sys.modules.get("mpi4py.MPI")
    if rank < 0 and mpi is not None and not isinstance(rank, Rank):
        if rank == mpi.ANY_SOURCE:
            return ANY_SOURCE
        if rank == mpi.PROC_NULL:
            return PROC_NULL
    return rank


class InPlace:
    """The type of `IN_PLACE`: "my data is already in the receive buffer"."""

    def __repr__(self) -> str:
        return "IN_PLACE"


IN_PLACE = InPlace()


def is_in_place(buffer: Any) -> bool:
    """Tell whether a send buffer is IN_PLACE, tpsim's own or mpi4py's."""
    return isinstance(buffer, InPlace) or type(buffer).__name__ == "InPlaceType"


class Op(NamedTuple):
    """A reduction: of arrays by a NumPy function (which takes `out=`), of objects by a Python one."""

    name: str
    on_arrays: Callable[..., Any]
    on_objects: Callable[[Any, Any], Any]

    def __call__(self, a: Any, b: Any) -> Any:
        """Reduce two objects, as the lower-case methods do: sums concatenate lists, as in mpi4py."""
        return (self.on_arrays if isinstance(a, np.ndarray) else self.on_objects)(a, b)


SUM = Op("MPI_SUM", np.add, operator.add)
PROD = Op("MPI_PROD", np.multiply, operator.mul)
MAX = Op("MPI_MAX", np.maximum, max)
MIN = Op("MPI_MIN", np.minimum, min)
LAND = Op("MPI_LAND", np.logical_and, lambda a, b: bool(a) & bool(b))
LOR = Op("MPI_LOR", np.logical_or, lambda a, b: bool(a) | bool(b))
LXOR = Op("MPI_LXOR", np.logical_xor, lambda a, b: bool(a) ^ bool(b))
BAND = Op("MPI_BAND", np.bitwise_and, operator.and_)
BOR = Op("MPI_BOR", np.bitwise_or, operator.or_)
BXOR = Op("MPI_BXOR", np.bitwise_xor, operator.xor)

_OPS = (SUM, PROD, MAX, MIN, LAND, LOR, LXOR, BAND, BOR, BXOR)


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
        return Op(getattr(op, "__name__", type(op).__name__), op, op)
    names = ", ".join(known.name.removeprefix("MPI_") for known in _OPS)
    raise NotImplementedError(f"reduction {op!r}: virtual ranks know {names} only; use one of these")


def as_dtype(type_: Any) -> np.dtype[Any]:
    """Return the NumPy dtype of an MPI datatype: one of mpi4py's, or a type code such as "d"."""
    code = type_ if isinstance(type_, str) else getattr(type_, "tocode", lambda: type_)()
    try:
        return np.dtype(code)
    except TypeError:
        raise NotImplementedError(
            f"datatype {type_!r}: virtual ranks know MPI's basic types only; pass a contiguous array, "
            "or one of MPI.DOUBLE, MPI.FLOAT, MPI.INT64_T, …"
        ) from None


class Status:
    """What a receive found out: source, tag and length of the message (mpi4py's `Status`)."""

    def __init__(self) -> None:
        self.source: int = ANY_SOURCE
        self.tag: int = ANY_TAG
        self.count = 0  # in bytes

    def Get_source(self) -> int:
        """Return the rank that sent."""
        return self.source

    def Get_tag(self) -> int:
        """Return the message's tag."""
        return self.tag

    def Get_count(self, datatype: Any = "B") -> int:
        """Return how many elements of a datatype were received; UNDEFINED if not a whole number."""
        count, rest = divmod(self.count, as_dtype(datatype).itemsize)
        return UNDEFINED if rest else count


def fill(status: Any, source: int, tag: int, nbytes: int) -> None:
    """Fill in a Status, tpsim's own or mpi4py's; None wants nothing."""
    if status is None:
        return
    status.source, status.tag = source, tag
    if isinstance(status, Status):
        status.count = nbytes
    else:
        status.Set_elements(sys.modules["mpi4py.MPI"].BYTE, nbytes)
