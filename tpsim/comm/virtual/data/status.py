"""mpi4py's `Status`: what a receive found out about its message."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any, Self

from tpsim.comm.mpi_errors import SUCCESS
from tpsim.comm.virtual.data.constants import ANY_SOURCE, ANY_TAG, F_STATUS_SIZE, PROC_NULL, UNDEFINED
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.layout import Layout
from tpsim.comm.virtual.data.type_table import TYPES, as_datatype

_SOURCE, _TAG, _ERROR, _NBYTES, _CANCELLED = range(5)
_BYTE = TYPES["BYTE"]
_SPECIAL: dict[int, int] = {int(rank): rank for rank in (ANY_SOURCE, PROC_NULL)}


class Status:
    """What a receive found out: source, tag and length of the message.

    Attributes
    ----------
    source, tag, error : int
        The rank that sent, the message's tag, the error code.
    count : int
        The message's length, in bytes.
    cancelled : bool
        Whether the call was cancelled.
    """

    __slots__ = ("__weakref__", "_fields")

    def __init__(self, status: Status | None = None) -> None:
        if status is not None and not isinstance(status, Status):
            raise TypeError(f"Status: {status!r} is no Status; pass one, or nothing")
        fields: Sequence[int] = (ANY_SOURCE, ANY_TAG, SUCCESS, 0, 0) if status is None else status._fields
        self._fields: array[int] = array("q", chain(fields, repeat(0, F_STATUS_SIZE - len(fields))))

    def fill(
        self, source: int, tag: int, nbytes: int, error: int = SUCCESS, *, cancelled: bool = False
    ) -> None:
        """Say what became of a message."""
        fields = self._fields
        fields[_SOURCE], fields[_TAG], fields[_ERROR] = source, tag, error
        fields[_NBYTES], fields[_CANCELLED] = nbytes, cancelled

    def Get_source(self) -> int:
        """Return the rank that sent."""
        source: int = self._fields[_SOURCE]
        return _SPECIAL.get(source, source)

    def Set_source(self, source: int) -> None:
        """Set the rank that sent."""
        self._fields[_SOURCE] = source

    def Get_tag(self) -> int:
        """Return the message's tag."""
        return self._fields[_TAG]

    def Set_tag(self, tag: int) -> None:
        """Set the message's tag."""
        self._fields[_TAG] = tag

    def Get_error(self) -> int:
        """Return the error code."""
        return self._fields[_ERROR]

    def Set_error(self, error: int) -> None:
        """Set the error code."""
        self._fields[_ERROR] = error

    def Is_cancelled(self) -> bool:
        """Tell whether the call was cancelled."""
        return bool(self._fields[_CANCELLED])

    def Set_cancelled(self, flag: bool) -> None:
        """Say whether the call was cancelled."""
        self._fields[_CANCELLED] = flag

    def Get_count(self, datatype: Any = _BYTE) -> int:
        """Return how many elements of a datatype were received; UNDEFINED if not a whole number."""
        size, nbytes = as_datatype(datatype).size, self.nbytes
        if not size:
            return UNDEFINED if nbytes else 0
        count, rest = divmod(nbytes, size)
        return UNDEFINED if rest else count

    def Get_elements(self, datatype: Any) -> int:
        """Return how many basic elements of a datatype were received; UNDEFINED if not a whole number."""
        layout, nbytes = as_datatype(datatype).layout, self.nbytes
        if not layout.size:
            return UNDEFINED if nbytes else 0
        count, rest = divmod(nbytes, layout.size)
        elements = count * layout.basics
        for size in _sizes(layout):
            if rest <= 0:
                break
            rest -= size
            elements += 1
        return UNDEFINED if rest else elements

    def Set_elements(self, datatype: Any, count: int) -> None:
        """Say how many basic elements of a datatype were received."""
        layout = as_datatype(datatype).layout
        if count < 0 or (count and not layout.basics):
            raise error("ERR_COUNT", f"Set_elements: {count} elements of this type can't be; pass 0 or more")
        whole, rest = divmod(count, layout.basics) if count else (0, 0)
        self.nbytes = whole * layout.size + sum(
            size for _, size in zip(range(rest), _sizes(layout), strict=False)
        )

    source = property(Get_source, Set_source)
    tag = property(Get_tag, Set_tag)
    error = property(Get_error, Set_error)
    cancelled = property(Is_cancelled, Set_cancelled)

    @property
    def nbytes(self) -> int:
        """The message's length, in bytes."""
        return self._fields[_NBYTES]

    @nbytes.setter
    def nbytes(self, nbytes: int) -> None:
        self._fields[_NBYTES] = nbytes

    count = nbytes

    def __eq__(self, other: object) -> bool:
        return self._fields == other._fields if isinstance(other, Status) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Status(source={int(self.source)}, tag={self.tag}, count={self.count}, error={self.error})"

    def tomemory(self) -> memoryview:
        """Return the memory of the status: source, tag, error, and more."""
        return memoryview(self._fields)

    def py2f(self) -> list[int]:
        """Return the status as an array of ints, as Fortran programs have it."""
        return list(self._fields)

    @classmethod
    def f2py(cls, arg: list[int]) -> Self:
        """Return the status that `py2f` turned into ints."""
        status = cls()
        status._fields = array("q", arg)
        return status

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_fields, (type(self), list(self._fields))


def _from_fields(cls: type[Status], fields: list[int]) -> Status:
    return cls.f2py(fields)


def _sizes(layout: Layout) -> Iterator[int]:
    """Yield the sizes of an element's basic elements, in the order in which they are sent."""
    if not layout.blocks:
        yield layout.size
    for block in layout.blocks:
        for _ in range(block.count):
            yield from _sizes(block.layout)


def fill(
    status: Any, source: int, tag: int, nbytes: int, error: int = SUCCESS, *, cancelled: bool = False
) -> None:
    """Fill in a Status, tpsim's own or mpi4py's; None wants nothing."""
    if status is None:
        return
    if isinstance(status, Status):
        status.fill(source, tag, nbytes, error, cancelled=cancelled)
    else:
        status.source, status.tag = source, tag
        status.Set_elements(sys.modules["mpi4py.MPI"].BYTE, nbytes)
