"""Put a bug in the place of the good code, for as long as a `with` block lasts."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from tpsim.lab.zoo.bug import Bug

ROOMS = ("tpsim.nn", "tpsim.comm", "tpsim.models", "tpsim.train", "tpsim.infer")


@contextmanager
def planted(bug: Bug) -> Iterator[Bug]:
    """Replace what the bug replaces, wherever layers and groups refer to it; put it back at the end.

    A method is replaced on its class, an entry of a registry in its dict, and a class or function under
    every name that it was imported by in `ROOMS`. It holds for the whole process.
    """
    owner, name, good = _find(bug.replaces)
    places = [(owner, name)]
    if sys.modules.get(getattr(owner, "__name__", "")) is owner:
        places = _names_of(good)
    try:
        for where, key in places:
            _put(where, key, bug.patient)
        yield bug
    finally:
        for where, key in places:
            _put(where, key, good)


def _find(dotted: str) -> tuple[Any, str, Any]:
    """Return the module, class or dict that holds it, the last part of its name, and the thing itself."""
    parts = dotted.split(".")
    length = next(n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in sys.modules)
    thing: Any = importlib.import_module(".".join(parts[:length]))
    owner = thing
    for part in parts[length:]:
        owner, thing = thing, thing[part] if isinstance(thing, dict) else getattr(thing, part)
    return owner, parts[-1], thing


def _names_of(good: Any) -> list[tuple[Any, str]]:
    modules = [module for name, module in sys.modules.items() if name.startswith(ROOMS)]
    return [(module, key) for module in modules for key, value in vars(module).items() if value is good]


def _put(where: Any, key: str, value: Any) -> None:
    put = partial(where.__setitem__, key) if isinstance(where, dict) else partial(setattr, where, key)
    put(value)
