"""Finding one of MPI's own datatypes: by code, by size, by precision."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Self

import numpy as np

from tpsim.comm.virtual.data import constants
from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.layout import basic
from tpsim.comm.virtual.data.type_state import TypeHandle, TypeState

_TYPECLASSES = {
    getattr(constants, f"TYPECLASS_{name}"): name for name in ("LOGICAL", "INTEGER", "REAL", "COMPLEX")
}
_INTEGERS = ((2, "i1"), (4, "i2"), (9, "i4"), (18, "i8"))
"""Up to how many decimal digits."""
_REALS = ((6, 37, "f4"), (15, 307, "f8"), (18, 4931, "g"))
"""Up to how many decimal digits, and how large an exponent."""
_PAIRS = ("SHORT", "INT", "LONG", "FLOAT", "DOUBLE", "LONG_DOUBLE")


class Lookups(TypeHandle):
    """Class methods that return one of MPI's types."""

    __slots__ = ()

    @classmethod
    def fromcode(cls, code: str) -> Self:
        """Return the type that has a code, such as "d" or "i8"."""
        from tpsim.comm.virtual.data.type_table import TYPE_OF  # which is made of datatypes

        if code not in TYPE_OF:
            raise ValueError(
                f"fromcode: no type has the code {code!r}; pass one of NumPy's, such as 'd' or 'i8'"
            )
        return TYPE_OF[code]  # type: ignore[return-value]

    @classmethod
    def Match_size(cls, typeclass: int, size: int) -> Self:
        """Return the type of a class (`MPI.TYPECLASS_REAL` …) whose elements have `size` bytes."""
        from tpsim.comm.virtual.data.type_table import TYPES

        found = TYPES.get(f"{_TYPECLASSES.get(typeclass)}{size}")
        if not found:
            raise error("ERR_ARG", f"Match_size: no type of that class has {size} bytes; try 4 or 8")
        return cls._of(found.state)

    @classmethod
    def Get_value_index(cls, value: TypeHandle, index: TypeHandle) -> Self:
        """Return MPI's type of pairs (value, index), for MINLOC and MAXLOC; null if there is none."""
        from tpsim.comm.virtual.data.type_table import TYPES

        states = value.state, index.state
        for name in _PAIRS:
            if states == (TYPES[name].state, TYPES["INT"].state):
                return cls._of(TYPES[f"{name}_INT"].state)
        return cls._of(None)

    @classmethod
    def Create_f90_integer(cls, r: int) -> Self:
        """Return the type of integers of `r` decimal digits."""
        code = next((code for most, code in _INTEGERS if r <= most), None)
        if code is None:
            raise error("ERR_ARG", f"Create_f90_integer: no type has {r} digits; pass 18 or less")
        return cls._of(_fortran("F90_INTEGER", code, r=r))

    @classmethod
    def Create_f90_real(cls, p: int, r: int) -> Self:
        """Return the type of real numbers of `p` decimal digits and exponents to `r`."""
        return cls._of(_fortran("F90_REAL", _real("Create_f90_real", p, r), p=p, r=r))

    @classmethod
    def Create_f90_complex(cls, p: int, r: int) -> Self:
        """Return the type of complex numbers of `p` decimal digits and exponents to `r`."""
        real = np.dtype(_real("Create_f90_complex", p, r))
        return cls._of(_fortran("F90_COMPLEX", np.result_type(real, np.complex64).str[1:], p=p, r=r))


def _real(call: str, p: int, r: int) -> str:
    code = next((code for digits, exponent, code in _REALS if p <= digits and r <= exponent), None)
    if code is None:
        raise error(
            "ERR_ARG", f"{call}: no type has {p} digits and exponents to {r}; pass 15 and 307 or less"
        )
    return code


@lru_cache(maxsize=256)
def _fortran(combiner: str, code: str, **params: Any) -> TypeState:
    """Return the same state for the same arguments, as these types are MPI's own."""
    dtype = np.dtype(code)
    return TypeState(basic(dtype), combiner, params, code=dtype.str[1:], char=dtype.char)
