"""`BOTTOM`, `IN_PLACE`, `BUFFER_AUTOMATIC`: what stands where a buffer could stand."""

from __future__ import annotations

from typing import Any, Self


class _Mark(int):
    """An address that is none. It equals its number, and can't be computed with."""

    _name = ""
    _number = 0

    def __new__(cls) -> Self:
        return super().__new__(cls, cls._number)

    def __repr__(self) -> str:
        return self._name

    def __reduce__(self) -> str:
        return self._name

    def __add__(self, other: Any) -> Any:
        raise TypeError(f"{self._name}: it is no number; pass it as it is, in place of a buffer")

    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __add__


class BottomType(_Mark):
    """The type of `BOTTOM`: the address from which absolute displacements count."""

    _name = "BOTTOM"
    _number = 0


class InPlaceType(_Mark):
    """The type of `IN_PLACE`: "my data is already in the receive buffer"."""

    _name = "IN_PLACE"
    _number = -1


class BufferAutomaticType(_Mark):
    """The type of `BUFFER_AUTOMATIC`: buffered sends find memory by themselves."""

    _name = "BUFFER_AUTOMATIC"
    _number = -2


BOTTOM = BottomType()
IN_PLACE = InPlaceType()
BUFFER_AUTOMATIC = BufferAutomaticType()
