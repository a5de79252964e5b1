"""What of mpi4py's interface virtual ranks do not have. The list is data; the docs print it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeVar

from tpsim.comm.virtual.data.handles import MPIHandle, constant

C = TypeVar("C", bound=type)


class Absence(NamedTuple):
    """Calls that are left out together.

    `owner` is the class whose methods they are; "" for functions of the module.
    """

    owner: str
    what: str
    instead: str
    calls: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_MPIEXEC = "run the program under mpiexec with an MPI library"

LEFT_OUT: tuple[Absence, ...] = (
    Absence(
        "Win",
        "one-sided communication (windows)",
        f"send messages instead, or {_MPIEXEC}",
        _words(
            "Create Allocate Allocate_shared Create_dynamic Shared_query Attach Detach Get_group "
            "Get_info Set_info Put Get Accumulate Get_accumulate Fetch_and_op Compare_and_swap Rput "
            "Rget Raccumulate Rget_accumulate Fence Start Complete Post Wait Test Lock Unlock "
            "Lock_all Unlock_all Flush Flush_all Flush_local Flush_local_all Sync Get_attr Set_attr "
            "Delete_attr Create_keyval Free_keyval Get_name Set_name Create_errhandler Get_errhandler "
            "Set_errhandler Call_errhandler tomemory"
        ),
    ),
    Absence(
        "File",
        "parallel files",
        f"let one rank read or write (np.save), or each rank a file of its own, or {_MPIEXEC}",
        _words(
            "Open Close Delete Set_size Preallocate Get_size Get_amode Get_group Get_info Set_info "
            "Set_view Get_view Read_at Read_at_all Write_at Write_at_all Iread_at Iread_at_all "
            "Iwrite_at Iwrite_at_all Read Read_all Write Write_all Iread Iread_all Iwrite Iwrite_all "
            "Seek Get_position Get_byte_offset Read_shared Write_shared Iread_shared Iwrite_shared "
            "Read_ordered Write_ordered Seek_shared Get_position_shared Read_at_all_begin "
            "Read_at_all_end Write_at_all_begin Write_at_all_end Read_all_begin Read_all_end "
            "Write_all_begin Write_all_end Read_ordered_begin Read_ordered_end Write_ordered_begin "
            "Write_ordered_end Get_type_extent Set_atomicity Get_atomicity Sync Create_errhandler "
            "Get_errhandler Set_errhandler Call_errhandler"
        ),
    ),
    Absence(
        "Session",
        "sessions",
        "use MPI.COMM_WORLD",
        _words(
            "Init Finalize Get_num_psets Get_nth_pset Get_info Get_pset_info Create_group "
            "Attach_buffer Detach_buffer Flush_buffer Iflush_buffer Create_errhandler Get_errhandler "
            "Set_errhandler Call_errhandler"
        ),
    ),
    Absence("Group", "sessions", "use comm.Get_group()", ("Create_from_session_pset",)),
    Absence(
        "Comm",
        "partitioned communication",
        "send each part as a message of its own",
        ("Psend_init", "Precv_init"),
    ),
    Absence(
        "Prequest",
        "partitioned communication",
        "send each part as a message of its own",
        ("Pready", "Pready_range", "Pready_list", "Parrived"),
    ),
    Absence(
        "Comm",
        "recovery from failed processes",
        "save checkpoints, and start the program again",
        _words("Revoke Is_revoked Get_failed Ack_failed Agree Iagree Shrink Ishrink"),
    ),
    Absence(
        "Intracomm",
        "new processes",
        "start all ranks at once (tpsim run -n)",
        ("Spawn", "Spawn_multiple", "Accept", "Connect"),
    ),
    Absence("Comm", "new processes", "start all ranks at once (tpsim run -n)", ("Join",)),
    Absence(
        "",
        "ports and services",
        "start all ranks at once (tpsim run -n)",
        ("Open_port", "Close_port", "Publish_name", "Unpublish_name", "Lookup_name"),
    ),
    Absence("", "parallel files", "write NumPy's formats", ("Register_datarep",)),
    Absence(
        "",
        "a binary interface",
        f"use the Python interface, or {_MPIEXEC}",
        ("Get_abi_version", "Get_abi_info", "Get_abi_fortran_info"),
    ),
)


def refusal(name: str, absence: Absence) -> Callable[..., NoReturn]:
    """Return a function that raises NotImplementedError in the name of a call."""
    full = f"{absence.owner}.{name}" if absence.owner else f"MPI.{name}"

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"{full}: virtual ranks have no {absence.what}; {absence.instead}")

    refuse.__name__, refuse.__qualname__ = name, full
    refuse.__doc__ = f"Left out: virtual ranks have no {absence.what}."
    return refuse


def leave_out(cls: C) -> C:
    """Give a class the methods that are left out of it: they say so (a class decorator)."""
    for absence in LEFT_OUT:
        if absence.owner == cls.__name__.removeprefix("Process"):  # ProcessGroup is MPI's Group
            for name in absence.calls:
                setattr(cls, name, classmethod(refusal(name, absence)))
    return cls


def functions_left_out() -> dict[str, Callable[..., NoReturn]]:
    """Return the functions of the module that say that they are left out."""
    return {
        name: refusal(name, absence) for absence in LEFT_OUT if not absence.owner for name in absence.calls
    }


@leave_out
class Win(MPIHandle):
    """Memory that other ranks can reach: there are none but the null one."""

    __slots__ = ()
    _error = "ERR_WIN"


@leave_out
class File(MPIHandle):
    """A file that ranks open together: there are none but the null one."""

    __slots__ = ()
    _error = "ERR_FILE"


@leave_out
class Session(MPIHandle):
    """A way to MPI without COMM_WORLD: there are none but the null one."""

    __slots__ = ()
    _error = "ERR_SESSION"


WIN_NULL = constant("WIN_NULL", Win())
FILE_NULL = constant("FILE_NULL", File())
SESSION_NULL = constant("SESSION_NULL", Session())
