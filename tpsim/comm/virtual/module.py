"""`mpi_module`: what `from mpi4py import MPI` finds on a virtual rank."""

from __future__ import annotations

from functools import cache
from inspect import isfunction
from types import ModuleType
from typing import Any

from tpsim.comm.mpi_errors import ERROR_CLASSES, MPIException
from tpsim.comm.virtual import comm
from tpsim.comm.virtual.communicators.dims import Compute_dims
from tpsim.comm.virtual.data import constants, environment, internals, marks
from tpsim.comm.virtual.data.absent import File, Session, Win, functions_left_out
from tpsim.comm.virtual.data.datatypes import Datatype
from tpsim.comm.virtual.data.errhandlers import Errhandler
from tpsim.comm.virtual.data.handles import constants as named_objects
from tpsim.comm.virtual.data.info import Info
from tpsim.comm.virtual.data.memory import buffer
from tpsim.comm.virtual.data.ops import Op
from tpsim.comm.virtual.data.pickling import Pickle
from tpsim.comm.virtual.data.process import Process
from tpsim.comm.virtual.data.process_group import ProcessGroup
from tpsim.comm.virtual.data.status import Status
from tpsim.comm.virtual.data.type_table import TYPE_OF, TYPES
from tpsim.comm.virtual.messages import names as messages


def mpi_module(world: comm.VirtualComm) -> ModuleType:
    """Return a module `mpi4py.MPI` for one rank: the world's communicator, and all else that MPI has.

    Classes and constants are the same objects for all ranks; COMM_WORLD, COMM_SELF and `pickle` are
    the rank's own.
    """
    process = Process()
    module = ModuleType("mpi4py.MPI", "mpi4py's interface, on tpsim's virtual ranks.")
    vars(module).update(
        _shared(),
        COMM_WORLD=world,
        COMM_SELF=comm.self_comm(world.world, world.rank),
        pickle=process.pickle,
        _process=process,
        __file__=__file__,
    )
    return module


@cache
def _shared() -> dict[str, Any]:
    """Return what is the same for all ranks."""
    return {
        **functions_left_out(),
        **_capitals(constants),
        **_capitals(marks),
        **ERROR_CLASSES,
        **TYPES,
        **named_objects(),
        **{name: getattr(comm, name) for name in comm.CLASSES},
        **messages.NAMES,
        **_functions(environment),
        **_functions(internals),
        "BottomType": marks.BottomType,
        "BufferAutomaticType": marks.BufferAutomaticType,
        "Compute_dims": Compute_dims,
        "Datatype": Datatype,
        "Errhandler": Errhandler,
        "Exception": MPIException,
        "File": File,
        "Group": ProcessGroup,
        "InPlaceType": marks.InPlaceType,
        "Info": Info,
        "Op": Op,
        "Pickle": Pickle,
        "Session": Session,
        "Status": Status,
        "Win": Win,
        "buffer": buffer,
        "memory": buffer,
        "_typedict": TYPE_OF,
    }


def _capitals(module: ModuleType) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if name.isupper() and not name.startswith("_") and name != "TAG_UB_VALUE"
    }


def _functions(module: ModuleType) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if isfunction(value) and value.__module__ == module.__name__
    }
