"""MPI's own datatypes, and how NumPy and the buffer protocol call them."""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from tpsim.comm.virtual.data.datatypes import Datatype
from tpsim.comm.virtual.data.handles import constant
from tpsim.comm.virtual.data.layout import Layout, basic
from tpsim.comm.virtual.data.layouts import pair
from tpsim.comm.virtual.data.type_state import TypeState

DATATYPE_NULL = constant("DATATYPE_NULL", Datatype())

TYPES: dict[str, Datatype] = {}
"""Every type by its name in mpi4py. Those that no NumPy dtype can hold are null."""

TYPE_OF: dict[str, Datatype] = {}
"""The type that each code of NumPy's, or of the buffer protocol's, stands for."""

_C = {
    "CHAR": "c",
    "SIGNED_CHAR": "b",
    "SHORT": "h",
    "INT": "i",
    "LONG": "l",
    "LONG_LONG": "q",
    "UNSIGNED_CHAR": "B",
    "UNSIGNED_SHORT": "H",
    "UNSIGNED": "I",
    "UNSIGNED_LONG": "L",
    "UNSIGNED_LONG_LONG": "Q",
    "FLOAT16_T": "e",
    "FLOAT": "f",
    "DOUBLE": "d",
    "LONG_DOUBLE": "g",
    "C_FLOAT_COMPLEX": "F",
    "C_DOUBLE_COMPLEX": "D",
    "C_LONG_DOUBLE_COMPLEX": "G",
}
"""Named by a letter, the same in NumPy and in the buffer protocol."""

_SIZED = {
    "C_BOOL": "b1",
    "INT8_T": "i1",
    "INT16_T": "i2",
    "INT32_T": "i4",
    "INT64_T": "i8",
    "UINT8_T": "u1",
    "UINT16_T": "u2",
    "UINT32_T": "u4",
    "UINT64_T": "u8",
}
"""Named by kind and size in bytes."""

_ALSO = {
    "BYTE": ("u1", "B"),
    "PACKED": ("u1", "B"),
    "AINT": ("p", "p"),
    "OFFSET": ("p", "p"),
    "COUNT": ("p", "p"),
    "WCHAR": ("U1", "U"),
    "FLOAT32_T": ("f4", "f"),
    "FLOAT64_T": ("f8", "d"),
    "C_COMPLEX": ("F", "F"),
    "CXX_BOOL": ("?", "?"),
    "CXX_FLOAT_COMPLEX": ("F", "F"),
    "CXX_DOUBLE_COMPLEX": ("D", "D"),
    "CXX_LONG_DOUBLE_COMPLEX": ("G", "G"),
    "CHARACTER": ("c", "c"),
    "LOGICAL": ("i4", "i"),
    "INTEGER": ("i4", "i"),
    "REAL": ("f4", "f"),
    "DOUBLE_PRECISION": ("f8", "d"),
    "COMPLEX": ("c8", "F"),
    "DOUBLE_COMPLEX": ("c16", "D"),
    "LOGICAL1": ("b1", "b1"),
}
"""(NumPy's dtype, code) of types that share their codes with others."""

_FORTRAN = {"LOGICAL": "i", "INTEGER": "i", "REAL": "f", "COMPLEX": "c"}
"""Types with their size in the name; NumPy has not all of them."""

_ALIASES = {
    "TWOINT": "INT_INT",
    "UNSIGNED_INT": "UNSIGNED",
    "SIGNED_SHORT": "SHORT",
    "SIGNED_INT": "INT",
    "SIGNED_LONG": "LONG",
    "SIGNED_LONG_LONG": "LONG_LONG",
    "BOOL": "C_BOOL",
    "SINT8_T": "INT8_T",
    "SINT16_T": "INT16_T",
    "SINT32_T": "INT32_T",
    "SINT64_T": "INT64_T",
    "F_BOOL": "LOGICAL",
    "F_INT": "INTEGER",
    "F_FLOAT": "REAL",
    "F_DOUBLE": "DOUBLE_PRECISION",
    "F_COMPLEX": "COMPLEX",
    "F_FLOAT_COMPLEX": "COMPLEX",
    "F_DOUBLE_COMPLEX": "DOUBLE_COMPLEX",
}

_CODES = {
    "?": "C_BOOL",
    "p": "AINT",
    "P": "UNSIGNED_LONG_LONG" if np.dtype("L").itemsize < np.dtype("P").itemsize else "UNSIGNED_LONG",
    "n": "COUNT",
    "N": "UNSIGNED_LONG_LONG" if np.dtype("L").itemsize < np.dtype("P").itemsize else "UNSIGNED_LONG",
    "Zf": "C_FLOAT_COMPLEX",
    "Zd": "C_DOUBLE_COMPLEX",
    "Zg": "C_LONG_DOUBLE_COMPLEX",
    **dict.fromkeys(("a", "S", "S1", "s", "1s"), "CHAR"),
    **dict.fromkeys(("U", "U1", "w", "1w"), "WCHAR"),
    **dict.fromkeys(("u", "1u"), "UINT16_T"),
    **dict.fromkeys(("M", "M8", "m", "m8"), "INT64_T"),
    "f2": "FLOAT16_T",
    "f4": "FLOAT",
    "f8": "DOUBLE",
    "c8": "C_FLOAT_COMPLEX",
    "c16": "C_DOUBLE_COMPLEX",
    np.dtype("g").str[1:]: "LONG_DOUBLE",
    np.dtype("G").str[1:]: "C_LONG_DOUBLE_COMPLEX",
}
"""Further codes of types."""


def _add(name: str, layout: Layout, code: str | None = None, char: str | None = None) -> None:
    state = TypeState(layout, name=f"MPI_{name}", code=code, char=char)
    TYPES[name] = constant(name, Datatype._of(state))


def _fill_table() -> None:
    for name, code in _C.items():
        _add(name, basic(np.dtype(code)), code, code)
    for name, code in _SIZED.items():
        _add(name, basic(np.dtype(code)), code, np.dtype(code).char)
    for name, (spec, code) in _ALSO.items():
        _add(name, basic(np.dtype(spec)), code, "?" if code == "b1" else code)
    for family, kind in _FORTRAN.items():
        for size in (1, 2, 4, 8, 16, 32):
            name, code = f"{family}{size}", f"{kind}{size}"
            if name not in TYPES and size in _SIZES[family]:
                dtype = _dtype_or_none(code)
                if dtype is None:
                    TYPES[name] = DATATYPE_NULL
                else:
                    _add(name, basic(dtype), code, dtype.char)
    _add("BFLOAT16_T", basic(np.dtype(ml_dtypes.bfloat16)))
    for value in ("SHORT", "INT", "LONG", "FLOAT", "DOUBLE", "LONG_DOUBLE"):
        _add(f"{value}_INT", pair(np.dtype(_C[value]), np.dtype("i")))
    TYPE_OF.update((code, TYPES[name]) for names in (_C, _SIZED) for name, code in names.items())
    TYPE_OF.update((code, TYPES[name]) for code, name in _CODES.items())
    TYPES.update((alias, TYPES[name]) for alias, name in _ALIASES.items())


_SIZES = {
    "LOGICAL": (1, 2, 4, 8, 16),
    "INTEGER": (1, 2, 4, 8, 16),
    "REAL": (2, 4, 8, 16),
    "COMPLEX": (4, 8, 16, 32),
}


def _dtype_or_none(code: str) -> np.dtype[Any] | None:
    try:
        return np.dtype(code)
    except TypeError:
        return None


_fill_table()
_BY_CHAR: dict[str, Datatype] = {
    **{code: TYPES[name] for name, code in _C.items()},
    "?": TYPES["C_BOOL"],
}
_ODD = {TYPES[name].dtype: TYPES[name] for name in ("BFLOAT16_T", "CHAR", "WCHAR")}


@cache
def _other(dtype: np.dtype[Any]) -> Datatype:
    """Return a type for elements that MPI has none for, such as records: ranks can pass them on."""
    if dtype in _ODD:
        return _ODD[dtype]
    return Datatype._of(TypeState(basic(dtype), name=str(dtype)))


def datatype_of(dtype: np.dtype[Any]) -> Datatype:
    """Return MPI's type of the elements of an array."""
    known = _BY_CHAR.get(dtype.char)
    return _other(dtype) if known is None else known


def as_datatype(type_: Any) -> Datatype:
    """Return the type that a buffer specification names: a `Datatype`, mpi4py's too, or a type code.

    Raises
    ------
    KeyError
        If no type has that code.
    """
    if isinstance(type_, Datatype):
        return type_
    code = type_ if isinstance(type_, str) else getattr(type_, "tocode", lambda: type_)()
    if code in TYPE_OF:
        return TYPE_OF[code]
    raise KeyError(
        f"datatype {type_!r}: no MPI type has this code; pass one of MPI's types, such as MPI.DOUBLE, or "
        'its code in NumPy, such as "d"'
    )
