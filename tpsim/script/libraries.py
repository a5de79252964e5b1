"""Which modules all ranks share: Python's own and the installed ones. All others are the program's."""

from __future__ import annotations

import os
import site
import sysconfig
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_OURS = "tpsim"


def of_program(spec: ModuleSpec) -> bool:
    """Tell whether a module is part of the program, so that each rank needs its own copy."""
    if spec.name.partition(".")[0] == _OURS:
        return False
    places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ())
    return any(place is not None and not _in_library(os.path.dirname(place)) for place in places)


def module_of_program(module: ModuleType) -> bool:
    """Tell the same of a module that was imported already."""
    spec = getattr(module, "__spec__", None)
    return isinstance(spec, ModuleSpec) and of_program(spec)


@cache
def _in_library(folder: str) -> bool:
    path = Path(folder).resolve()
    return any(path.is_relative_to(root) for root in _roots())


@cache
def _roots() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = [sysconfig.get_paths()[name] for name in names]
    found += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple({Path(place).resolve() for place in found})
