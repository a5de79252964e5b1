"""mpi4py's `Datatype`: what elements of a buffer are, and where they lie."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from tpsim.comm.virtual.data.attributes import Attribute, Attributes, Keyval
from tpsim.comm.virtual.data.decoding import Decoding
from tpsim.comm.virtual.data.derived import DerivedTypes
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.lookups import Lookups
from tpsim.comm.virtual.data.packing import Packing
from tpsim.comm.virtual.data.type_state import TypeState

_PREDEFINED = frozenset({"NAMED", "VALUE_INDEX", "F90_INTEGER", "F90_REAL", "F90_COMPLEX"})


class Datatype(DerivedTypes, Lookups, Decoding, Packing, Attributes):
    """The type of a buffer's elements: `MPI.DOUBLE` and its like, or made from them by `Create_vector` …"""

    __slots__ = ()
    _keyvals: ClassVar[dict[int, Keyval]] = {}

    def __new__(cls, datatype: Datatype | None = None) -> Self:
        """Return another handle of the same type; without any, a null handle."""
        return super().__new__(cls, datatype)

    def __repr__(self) -> str:
        return f"Datatype({self.Get_name() or 'derived'})"

    def Get_size(self) -> int:
        """Return the bytes of data of one element."""
        return self.layout.size

    def Get_extent(self) -> tuple[int, int]:
        """Return where an element begins, and how far apart elements lie, in bytes."""
        return self.layout.lb, self.layout.extent

    def Get_true_extent(self) -> tuple[int, int]:
        """Return where an element's data begin, and how far they reach, in bytes."""
        return self.layout.true_lb, self.layout.true_ub - self.layout.true_lb

    @property
    def size(self) -> int:
        """The bytes of data of one element."""
        return self.layout.size

    @property
    def extent(self) -> int:
        """How far apart elements lie, in bytes."""
        return self.layout.extent

    @property
    def lb(self) -> int:
        """Where an element begins, in bytes."""
        return self.layout.lb

    @property
    def ub(self) -> int:
        """Where an element ends, in bytes."""
        return self.layout.ub

    @property
    def true_lb(self) -> int:
        """Where an element's data begin, in bytes."""
        return self.layout.true_lb

    @property
    def true_ub(self) -> int:
        """Where an element's data end, in bytes."""
        return self.layout.true_ub

    @property
    def true_extent(self) -> int:
        """How far an element's data reach, in bytes."""
        return self.layout.true_ub - self.layout.true_lb

    def Get_name(self) -> str:
        """Return the type's name."""
        return "MPI_DATATYPE_NULL" if self._state is None else self._state.name

    def Set_name(self, name: str) -> None:
        """Name the type."""
        self.state.name = name

    name = property(Get_name, Set_name)

    def Dup(self) -> Self:
        """Return a type of the same layout, with the attributes that want to be copied."""
        old = self.state
        base = type(self)._of(old)
        copy = self._of(TypeState(old.layout, "DUP", base=base, code=old.code, char=old.char))
        self._copy_attributes(copy)
        return copy

    Create_dup = Dup

    def Commit(self) -> Self:
        """Return the type. (Nothing has to be prepared for it.)"""
        self._held()
        return self

    def Free(self) -> None:
        """Give the type up; those that were made from it stay."""
        if self._held().combiner in _PREDEFINED:
            raise error("ERR_TYPE", f"Free: {self!r} is MPI's own and stays; free only what you created")
        self._delete_attributes()
        self._state = None

    @property
    def is_predefined(self) -> bool:
        """Whether the type needs no `Free`."""
        return self._state is None or self._state.combiner in _PREDEFINED

    @property
    def _attributes(self) -> dict[int, Attribute]:
        return self.state.attributes

    # -- in NumPy's terms -----------------------------------------------------------------------------

    def tocode(self) -> str:
        """Return the code of a basic type, such as "d" or "i8".

        Raises
        ------
        ValueError
            For all others.
        """
        code = None if self._state is None else self._state.code
        if code is None:
            raise ValueError(f"tocode: {self!r} has no code; only basic types such as MPI.DOUBLE have")
        return code

    @property
    def typechar(self) -> str:
        """The buffer protocol's code; "V" for types that are not basic."""
        return "" if self._state is None else self._state.char or "V"

    @property
    def typestr(self) -> str:
        """NumPy's code with the size, such as "f8"."""
        if self._state is None:
            return ""
        layout, char = self._state.layout, self._state.char
        if char is None or layout.dtype is None:
            return f"V{layout.extent}"
        return f"S{layout.size}" if char == "c" else layout.dtype.str[1:]

    def __reduce__(self) -> tuple[Any, ...]:
        if self._state is None or self.is_named:
            return super().__reduce__()
        base, combiner, params = self.decode()
        return _recreate, (type(self), base, combiner, params)


def _recreate(cls: type[Datatype], base: Datatype, combiner: str, params: dict[str, Any]) -> Datatype:
    constructor = "Get_value_index" if combiner == "VALUE_INDEX" else f"Create_{combiner.lower()}"
    made: Datatype = getattr(base or cls, constructor)(**params)
    return made if made.is_predefined else made.Commit()
