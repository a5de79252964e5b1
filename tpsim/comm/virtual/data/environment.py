"""The functions of the module `MPI` that concern no communicator."""

from __future__ import annotations

import platform
import threading
import time
from importlib.metadata import version
from operator import index
from typing import Any

from tpsim.comm.mpi_errors import error_codes
from tpsim.comm.virtual.data.constants import SUBVERSION, THREAD_MULTIPLE, VERSION
from tpsim.comm.virtual.data.datatypes import Datatype
from tpsim.comm.virtual.data.handles import MPIHandle
from tpsim.comm.virtual.data.info import Info
from tpsim.comm.virtual.data.marks import BottomType, BufferAutomaticType, InPlaceType
from tpsim.comm.virtual.data.memory import buffer
from tpsim.comm.virtual.data.process import current_process
from tpsim.comm.virtual.data.rows import row
from tpsim.comm.virtual.data.status import Status

# -- beginning and end --------------------------------------------------------------------------------


def Init() -> None:
    """Do nothing: MPI has been started."""


def Init_thread(required: int = THREAD_MULTIPLE) -> int:
    """Return how threads may call MPI: as they like."""
    return THREAD_MULTIPLE


def Finalize() -> None:
    """Note that the rank is done with MPI."""
    current_process().finalized = True


def Is_initialized() -> bool:
    """Tell whether MPI was started: always."""
    return True


def Is_finalized() -> bool:
    """Tell whether this rank is done with MPI."""
    return current_process().finalized


def Query_thread() -> int:
    """Return how threads may call MPI: as they like."""
    return THREAD_MULTIPLE


def Is_thread_main() -> bool:
    """Tell whether this is the thread that runs the program."""
    return threading.get_ident() == current_process().thread


# -- facts --------------------------------------------------------------------------------------------


def Get_version() -> tuple[int, int]:
    """Return the version of the MPI standard."""
    return VERSION, SUBVERSION


def Get_library_version() -> str:
    """Return what stands in for the MPI library."""
    return f"tpsim {version('tpsim')}: virtual ranks, with the interface of mpi4py and no MPI library"


def get_vendor() -> tuple[str, tuple[int, int, int]]:
    """Return the name and the version of what stands in for the MPI library."""
    numbers = [int(part) for part in version("tpsim").split(".")[:3] if part.isdigit()]
    major, minor, micro = (*numbers, 0, 0, 0)[:3]
    return "tpsim", (major, minor, micro)


def Get_processor_name() -> str:
    """Return the machine's name: all virtual ranks are on it."""
    return platform.node()


def Get_hw_resource_info() -> Info:
    """Return what is known of the hardware that the rank is bound to: nothing."""
    return Info.Create()


def Wtime() -> float:
    """Return seconds since some moment in the past."""
    return time.perf_counter()


def Wtick() -> float:
    """Return the resolution of `Wtime`, in seconds."""
    return time.get_clock_info("perf_counter").resolution


def Pcontrol(level: int) -> None:
    """Do nothing: there is no profiler to control."""


# -- memory -------------------------------------------------------------------------------------------


def Alloc_mem(size: int, info: Any = None) -> buffer:
    """Return new memory of `size` bytes."""
    return buffer.allocate(size)


def Free_mem(mem: buffer) -> None:
    """Let go of memory from `Alloc_mem`."""
    mem.release()


def Get_address(location: Any) -> int:
    """Return where a buffer's memory begins."""
    if location is None:
        return 0
    if isinstance(location, BottomType | InPlaceType | BufferAutomaticType):
        return int(location)
    return row(location, "Get_address").ctypes.data


def Aint_add(base: int, disp: int) -> int:
    """Return an address that lies `disp` bytes behind another."""
    return base + disp


def Aint_diff(addr1: int, addr2: int) -> int:
    """Return how many bytes the first address lies behind the second."""
    return addr1 - addr2


# -- error codes --------------------------------------------------------------------------------------


def Get_error_class(errorcode: int) -> int:
    """Return the class of an error code."""
    return error_codes().class_of(errorcode)


def Get_error_string(errorcode: int) -> str:
    """Return the sentence of an error code."""
    return error_codes().string_of(errorcode)


def Add_error_class() -> int:
    """Return a new error class."""
    return error_codes().add_class()


def Add_error_code(errorclass: int) -> int:
    """Return a new error code of a class."""
    return error_codes().add_code(errorclass)


def Add_error_string(errorcode: int, string: str) -> None:
    """Give an error code or class of one's own a sentence."""
    error_codes().set_string("Add_error_string", errorcode, string)


def Remove_error_class(errorclass: int) -> None:
    """Forget an error class of one's own, which has neither codes nor a sentence any more."""
    error_codes().remove("Remove_error_class", errorclass, is_class=True)


def Remove_error_code(errorcode: int) -> None:
    """Forget an error code of one's own, which has no sentence any more."""
    error_codes().remove("Remove_error_code", errorcode, is_class=False)


def Remove_error_string(errorcode: int) -> None:
    """Take the sentence of an error code or class of one's own away."""
    error_codes().set_string("Remove_error_string", errorcode, "")


# -- mpi4py's own -------------------------------------------------------------------------------------


def _typecode(datatype: Datatype) -> str | None:
    """Return the type code of a datatype."""
    return datatype._state.code if datatype._state is not None else None


def _typealign(datatype: Datatype) -> int | None:
    """Return the alignment of one of MPI's own datatypes."""
    return datatype.layout.alignment if datatype and datatype.is_predefined else None


def _datatype_create(
    datatype: Datatype, combiner: str, params: dict[str, Any], free: bool = False
) -> Datatype:
    """Return the datatype that `_datatype_decode` took apart."""
    made: Datatype = getattr(datatype, f"Create_{combiner.lower()}")(**params)
    return made.Commit()


def _datatype_decode(datatype: Datatype, mark: bool = False) -> tuple[Datatype, str, dict[str, Any]]:
    """Return what a datatype was made from."""
    return datatype.decode()


def _sizeof(arg: Any) -> int:
    """Return how many bytes a handle, or a status, takes in C."""
    kind = arg if isinstance(arg, type) else type(arg)
    if issubclass(kind, Status):
        return Status().tomemory().nbytes
    if issubclass(kind, MPIHandle):
        return 8
    raise TypeError(f"_sizeof: {arg!r} is none of MPI's objects; pass a handle, a status, or a class of them")


def _addressof(arg: Any) -> int:
    """Return the address of a status, or a number that is a handle's alone."""
    if isinstance(arg, Status):
        return row(arg.tomemory(), "_addressof").ctypes.data
    if isinstance(arg, MPIHandle):
        return id(arg)
    raise TypeError(f"_addressof: {arg!r} is none of MPI's objects; pass a handle or a status")


def _handleof(arg: Any) -> int:
    """Return the number that stands for what a handle holds."""
    return index(_addressof(arg) if isinstance(arg, Status) or not isinstance(arg, MPIHandle) else arg.handle)
