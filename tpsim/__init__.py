"""tpsim: an educational simulator of tensor parallelism in pure NumPy.

Layers whose forward and backward passes are written by hand run on virtual ranks, under mpiexec, or
on one device, and are held equal to the unsharded maths.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tpsim.comm import Group, Mesh, launch, run
    from tpsim.trace import Trace

__version__ = "0.1.0"
__all__ = ["Group", "Mesh", "Trace", "launch", "run"]

# Imported when first used: `tpsim --help` answers without loading NumPy.
_HOMES = {
    "Group": "comm",
    "Mesh": "comm",
    "launch": "comm",
    "run": "comm",
    "Trace": "trace",
    "load_ipython_extension": "script.cells",  # by %load_ext tpsim
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"tpsim.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'tpsim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
