"""The numbers of mpi4py's interface, and real mpi4py's own in their place."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from tpsim.comm.virtual.data.marks import IN_PLACE as IN_PLACE
from tpsim.comm.virtual.data.marks import InPlaceType


class Rank(int):
    """A number that stands for something other than a rank. MPI libraries number these as they like."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _the_rank, (int(self),)  # it is known by its identity


def _the_rank(number: int) -> Rank:
    return next(rank for rank in (ANY_SOURCE, PROC_NULL, ROOT) if rank == number)


ANY_SOURCE = Rank(-2)
PROC_NULL = Rank(-1)
ROOT = Rank(-3)
ANY_TAG = -1
UNDEFINED = -32766
KEYVAL_INVALID = 0
TAG_UB_VALUE = 2**30 - 1
"""The largest tag."""
BSEND_OVERHEAD = 96

VERSION, SUBVERSION = 4, 1
"""Of the MPI standard whose interface this is."""

IDENT, CONGRUENT, SIMILAR, UNEQUAL = range(4)
GRAPH, CART, DIST_GRAPH = 1, 2, 3
THREAD_SINGLE, THREAD_FUNNELED, THREAD_SERIALIZED, THREAD_MULTIPLE = range(4)
COMM_TYPE_SHARED, COMM_TYPE_HW_UNGUIDED, COMM_TYPE_HW_GUIDED, COMM_TYPE_RESOURCE_GUIDED = range(1, 5)
UNWEIGHTED, WEIGHTS_EMPTY = -11, -12

WTIME_IS_GLOBAL, IO, TAG_UB, APPNUM, LASTUSEDCODE, UNIVERSE_SIZE = range(1, 7)
"""Keys of COMM_WORLD's attributes."""
WIN_BASE, WIN_SIZE, WIN_DISP_UNIT, WIN_CREATE_FLAVOR, WIN_MODEL = range(11, 16)
WIN_FLAVOR = WIN_CREATE_FLAVOR

ORDER_C, ORDER_FORTRAN = 56, 57
ORDER_F = ORDER_FORTRAN
DISTRIBUTE_BLOCK, DISTRIBUTE_CYCLIC, DISTRIBUTE_NONE = 121, 122, 123
DISTRIBUTE_DFLT_DARG = -49767
TYPECLASS_LOGICAL, TYPECLASS_INTEGER, TYPECLASS_REAL, TYPECLASS_COMPLEX = range(1, 5)
COMBINER_NAMED, COMBINER_DUP, COMBINER_CONTIGUOUS, COMBINER_VECTOR, COMBINER_HVECTOR = range(1, 6)
COMBINER_INDEXED, COMBINER_HINDEXED, COMBINER_INDEXED_BLOCK, COMBINER_HINDEXED_BLOCK = range(6, 10)
COMBINER_STRUCT, COMBINER_SUBARRAY, COMBINER_DARRAY, COMBINER_RESIZED = range(10, 14)
COMBINER_F90_REAL, COMBINER_F90_COMPLEX, COMBINER_F90_INTEGER, COMBINER_VALUE_INDEX = range(14, 18)

F_SOURCE, F_TAG, F_ERROR, F_STATUS_SIZE = 0, 1, 2, 8
"""Where a status's fields stand in Fortran's array of ints."""

MAX_PROCESSOR_NAME = MAX_OBJECT_NAME = MAX_DATAREP_STRING = 127
MAX_ERROR_STRING = MAX_PORT_NAME = MAX_INFO_KEY = 255
MAX_INFO_VAL = MAX_LIBRARY_VERSION_STRING = MAX_PSET_NAME_LEN = MAX_STRINGTAG_LEN = 1023

WIN_FLAVOR_CREATE, WIN_FLAVOR_ALLOCATE, WIN_FLAVOR_DYNAMIC, WIN_FLAVOR_SHARED = range(1, 5)
WIN_SEPARATE, WIN_UNIFIED = 1, 2
MODE_NOCHECK, MODE_NOSTORE, MODE_NOPUT, MODE_NOPRECEDE, MODE_NOSUCCEED = (1 << bit for bit in range(10, 15))
LOCK_EXCLUSIVE, LOCK_SHARED = 1, 2
MODE_CREATE, MODE_RDONLY, MODE_WRONLY, MODE_RDWR, MODE_DELETE_ON_CLOSE = (1 << bit for bit in range(5))
MODE_UNIQUE_OPEN, MODE_EXCL, MODE_APPEND, MODE_SEQUENTIAL = (1 << bit for bit in range(5, 9))
SEEK_SET, SEEK_CUR, SEEK_END = range(3)
DISPLACEMENT_CURRENT = DISP_CUR = -54278278


_RANKS = {"PROC_NULL": PROC_NULL, "ANY_SOURCE": ANY_SOURCE, "ROOT": ROOT}


def as_rank(rank: int) -> int:
    """Return ANY_SOURCE, PROC_NULL or ROOT where `rank` is mpi4py's constant of that name.

    A plain negative int is none of them: `rank - 1` on rank 0 is a mistake, and shall be told. NumPy's
    integers are taken for the constants that they equal, as neighbours' ranks often live in arrays.
    Floats (`size / 2`) lose what is behind the point, as in mpi4py.
    """
    if isinstance(rank, Rank):
        return rank
    if rank >= 0:
        return int(rank)
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.ANY_SOURCE is not ANY_SOURCE:
        known = {getattr(mpi, name, None): constant for name, constant in _RANKS.items()}
    elif isinstance(rank, np.integer):
        known = {int(constant): constant for constant in _RANKS.values()}
    else:
        return int(rank)
    return known.get(int(rank), int(rank))


def is_in_place(buffer: Any) -> bool:
    """Tell whether a send buffer is IN_PLACE, tpsim's own or mpi4py's."""
    return isinstance(buffer, InPlaceType) or type(buffer).__name__ == "InPlaceType"
