"""The package `mpi4py` that a rank imports: ours, whatever is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from tpsim.comm.virtual import VirtualComm
from tpsim.comm.virtual.module import mpi_module

NAME = "mpi4py"
_VERSION = "4.1.2+tpsim"  # the interface's
_PURE = {"bench", "futures", "run", "typing", "util"}  # written in Python, on top of MPI


class Rc:
    """Options that real mpi4py reads when it starts MPI. Here MPI has always been started."""

    initialize: Any = True
    threads: Any = True
    thread_level: Any = "multiple"
    finalize: Any = None
    fast_reduce: Any = True
    recv_mprobe: Any = True
    irecv_bufsz: Any = 32768
    errors: Any = "exception"

    def __init__(self, **options: Any) -> None:
        self(**options)

    def __call__(self, **options: Any) -> None:
        """Set several options at once."""
        for name, value in options.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if not hasattr(type(self), name):
            known = ", ".join(n for n in vars(Rc) if not n.startswith("_"))
            raise TypeError(f"mpi4py.rc: {name!r} is not an option; pick one of {known}")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return "<mpi4py.rc of tpsim>"


def package(world: VirtualComm) -> dict[str, Any]:
    """Return what `sys.modules` holds of mpi4py for the rank whose COMM_WORLD is `world`."""
    mpi, rc, top = mpi_module(world), Rc(), ModuleType(NAME, "mpi4py's interface, on tpsim's virtual ranks.")
    top.__dict__.update(
        __version__=_VERSION,
        __file__=__file__,
        __path__=[str(Path(__file__).parent)],
        __package__=NAME,
        __spec__=ModuleSpec(NAME, None, is_package=True),
        MPI=mpi,
        rc=rc,
        get_include=get_include,
        get_config=get_config,
        profile=profile,
    )
    mpi.__spec__ = ModuleSpec(f"{NAME}.MPI", None)
    return {NAME: top, f"{NAME}.MPI": mpi, f"{NAME}.rc": rc}


def get_include() -> str:
    """Return where the headers of an installed mpi4py are."""
    spec = PathFinder.find_spec(NAME)
    if spec is not None and spec.submodule_search_locations:
        return str(Path(spec.submodule_search_locations[0]) / "include")
    raise NotImplementedError(
        "mpi4py.get_include: tpsim has no headers, as it needs none; install mpi4py, which has them"
    )


def get_config() -> dict[str, str]:
    """Return how MPI was built: not at all."""
    return {}


def profile(name: str, *, path: Any = None) -> None:
    """Refuse: there is no MPI library to profile."""
    raise NotImplementedError(
        f"mpi4py.profile: virtual ranks have no MPI library that {name!r} could profile; use --trace"
    )


class Finder:
    """Finds submodules of our `mpi4py`; stands first in `sys.meta_path`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module is."""
        return find(name) if name.startswith(f"{NAME}.") else None


def find(name: str) -> ModuleSpec:
    """Return a submodule of the installed mpi4py that is written in Python and will run on our MPI.

    Raises
    ------
    ModuleNotFoundError
        If no mpi4py is installed, or the module is not such a one.
    """
    _, part, *rest = name.split(".")
    if part not in _PURE:
        raise ModuleNotFoundError(
            f"{name}: virtual ranks have no such module; they have mpi4py.MPI, mpi4py.rc, and, from an "
            f"installed mpi4py, {', '.join(sorted(_PURE))}",
            name=name,
        )
    spec, folders = PathFinder.find_spec(NAME), None
    for depth in range(2, 3 + len(rest)):
        folders = spec.submodule_search_locations if spec is not None else None
        spec = None if folders is None else PathFinder.find_spec(".".join(name.split(".")[:depth]), folders)
    if spec is None:
        raise ModuleNotFoundError(
            f"{name}: it is not part of tpsim, and there is no mpi4py from which to take it; install mpi4py "
            "(this module of it needs no MPI library)",
            name=name,
        )
    return spec
