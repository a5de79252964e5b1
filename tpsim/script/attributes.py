"""Attributes of which every rank has its own: what a process has once, and programs set for themselves."""

from __future__ import annotations

import atexit
import logging
import os
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

Namespace = dict[str, Any]

SYS = vars(sys)
_SYS_NAMES = (
    "argv",
    "path",
    "meta_path",
    "stdin",
    "stdout",
    "stderr",
    "displayhook",
    "excepthook",
    "unraisablehook",
)

PLACES: tuple[tuple[Namespace, tuple[str, ...]], ...] = (
    (SYS, _SYS_NAMES),
    (vars(os), ("environ",)),
    (vars(warnings), ("filters", "showwarning", "_showwarnmsg_impl")),
    (vars(logging.root), ("handlers", "level")),
    (vars(threading), ("excepthook",)),
    (vars(atexit), ("register", "unregister")),
)
"""Whose attributes, and which. A program may set them between two hand-overs."""


def present() -> list[Namespace]:
    """Return the attributes as they are now, in the order of `PLACES`."""
    return [{name: space[name] for name in names} for space, names in PLACES]


def put(values: list[Namespace]) -> None:
    """Set the attributes."""
    level = logging.root.level
    for (space, _), own in zip(PLACES, values, strict=True):
        space.update(own)
    if logging.root.level != level:
        logging.root.manager._clear_cache()  # type: ignore[attr-defined]


def fresh(at_exit: AtExit, **of_sys: Any) -> list[Namespace]:
    """Return a rank's attributes at its start; `of_sys` are some of those."""
    sys_, of_os, of_warnings, of_root, of_threading, of_atexit = present()
    sys_.update(excepthook=sys.__excepthook__, **of_sys)
    of_os["environ"] = _copy_of_environ()
    of_warnings["filters"] = list(warnings.filters)
    of_root.update(handlers=[], level=logging.WARNING)
    of_atexit.update(register=at_exit.register, unregister=at_exit.unregister)
    return [sys_, of_os, of_warnings, of_root, of_threading, of_atexit]


class AtExit:
    """What one rank registered with `atexit`: its end is not the process's."""

    def __init__(self) -> None:
        self._registered: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def register(self, function: Callable[..., Any], *args: Any, **options: Any) -> Callable[..., Any]:
        """Do as `atexit.register`."""
        self._registered.append((function, args, options))
        return function

    def unregister(self, function: Callable[..., Any]) -> None:
        """Do as `atexit.unregister`."""
        self._registered = [entry for entry in self._registered if entry[0] != function]

    def call(self) -> None:
        """Call the functions, the last first."""
        while self._registered:
            function, args, options = self._registered.pop()
            function(*args, **options)


# -- the environment -----------------------------------------------------------------------------------------


def _copy_of_environ() -> Any:
    here: Any = os.environ
    return type(here)(dict(here._data), here.encodekey, here.decodekey, here.encodevalue, here.decodevalue)


def tidy_environment(others: list[Any]) -> None:
    """Set the process's environment to `os.environ` again, after programs had copies of it."""
    here = os.environ
    for name in {name for other in others for name in other} - set(here):
        os.unsetenv(name)
    for name, value in here.items():
        os.putenv(name, value)


# -- the working directory -----------------------------------------------------------------------------------


def folder() -> str | None:
    """Return the working directory; None where it was deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None


def enter(path: str | None) -> None:
    """Make a folder the working directory, if it is still there."""
    if path is not None:
        with suppress(OSError):
            os.chdir(path)


# -- the global random generators ----------------------------------------------------------------------------
# A module's random functions are bound to one hidden object. Each rank has them bound to one of its own,
# which costs less at a hand-over than to exchange the object's state (two times 2.5 kB).


class Generators:
    """The functions of `random` and `numpy.random` that draw from global generators."""

    def __init__(self) -> None:
        legacy = [vars(np.random), vars(sys.modules["numpy.random.mtrand"])]
        self._known: list[tuple[list[Namespace], Any]] = [
            ([vars(random)], random._inst),
            (legacy, legacy[1]["_rand"]),
        ]
        self._spaces = [space for spaces, _ in self._known for space in spaces]

    def present(self) -> list[Namespace]:
        """Return the functions as they are."""
        return list(self._bound(lambda generator: generator))

    def fresh(self) -> list[Namespace]:
        """Return the functions, bound to new generators."""
        return list(self._bound(lambda generator: type(generator)()))

    def put(self, functions: list[Namespace]) -> None:
        """Let the modules have these functions."""
        for space, own in zip(self._spaces, functions, strict=True):
            space.update(own)

    def _bound(self, pick: Callable[[Any], Any]) -> Iterator[Namespace]:
        for spaces, known in self._known:
            picked = pick(known)
            for space in spaces:
                yield {
                    name: picked if value is known else getattr(picked, value.__name__)
                    for name, value in space.items()
                    if value is known or getattr(value, "__self__", None) is known
                }
