"""Programs: a script or a module, run as `python` runs it."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Protocol

from tpsim.script import package


class Program(Protocol):
    """What ranks run.

    Attributes
    ----------
    argv : list of str
        `sys.argv`.
    folder : str
        `sys.path[0]`.
    """

    argv: list[str]
    folder: str

    def main_module(self) -> ModuleType:
        """Return a `__main__` for one rank."""

    def start(self) -> None:
        """Run, in the interpreter state of one rank."""


class ProgramError(Exception):
    """A program that can't be run: what was asked, why it can't be, what to do."""


class Script:
    """`python script.py args`: a file; a folder or a zip file with a `__main__.py`.

    Raises
    ------
    ProgramError
        If there is none of that name.
    SyntaxError
        If it isn't Python.
    """

    def __init__(self, path: str, args: Sequence[str] = ()) -> None:
        if not os.path.exists(path):
            raise ProgramError(_not_there(path, args))
        if os.path.isdir(path) and not os.path.exists(os.path.join(path, "__main__.py")):
            raise ProgramError(f"run: folder {path!r} has no __main__.py; pass a script that is in it")
        self.argv = [path, *args]
        self.path = os.path.abspath(path)
        self.code: CodeType | None = None
        if os.path.isfile(path) and not _is_archive(path):
            self.folder = str(Path(path).resolve().parent)
            try:
                source = Path(path).read_bytes()
                self.code = compile(source, self.path, "exec", dont_inherit=True)  # once, for all ranks
            except OSError as error:
                raise ProgramError(
                    f"run: {path!r} can't be read ({error.strerror}); pass a script that you may read"
                ) from None
            except ValueError as error:  # it has bytes that no text has
                raise ProgramError(f"run: {path!r} is no script ({error}); pass a file of Python") from None
        else:
            self.folder = self.path

    def main_module(self) -> ModuleType:
        """Return a `__main__` that knows its file."""
        module = ModuleType("__main__")
        vars(module).update(
            __file__=self.path, __builtins__=__builtins__, __annotations__={}, __cached__=None
        )
        return module

    def start(self) -> None:
        """Run the code."""
        if self.code is not None:
            exec(self.code, vars(sys.modules["__main__"]))
        else:
            runpy.run_path(self.path, run_name="__main__")


class Module:
    """`python -m module args`.

    Raises
    ------
    ProgramError
        If there is none of that name.
    """

    def __init__(self, name: str, args: Sequence[str] = ()) -> None:
        self.name = name
        self.argv = [name, *args]
        self.folder = os.getcwd()
        if name.endswith(".py") or "/" in name or os.sep in name:
            dotted = name.removesuffix(".py").replace(os.sep, ".").replace("/", ".").strip(".")
            raise ProgramError(f"run: -m {name} is a file and not a module's name; write -m {dotted}")
        top = name.partition(".")[0]
        if top == package.NAME:
            return  # which of its modules there are, the ranks know
        spec = _found(top, self.folder)
        if spec is None:
            raise ProgramError(
                f"run: there is no module {name!r} in {self.folder}, and none is installed; "
                "go to the folder that has it, or pass a script's path without -m"
            )
        inside = spec.submodule_search_locations
        if name == top and inside is not None and not PathFinder.find_spec(f"{name}.__main__", list(inside)):
            raise ProgramError(
                f"run: package {name!r} has no __main__.py; pass -m {name}. and one of its modules"
            )

    def main_module(self) -> ModuleType:
        """Return an empty `__main__`, to be replaced when the module is found."""
        return ModuleType("__main__")

    def start(self) -> None:
        """Find the module, and run it as `__main__`."""
        runpy.run_module(self.name, run_name="__main__", alter_sys=True)


def named(name: str, args: Sequence[str], *, module: bool) -> Program:
    """Return the program that a command line names.

    `-m mpi4py script.py`, by which an error of one rank ends all under mpiexec, is the script: it does here.

    Raises
    ------
    ProgramError, SyntaxError
        As `Script` and `Module`.
    """
    if module and name == package.NAME and args and not args[0].startswith("-"):
        return Script(args[0], args[1:])
    return Module(name, args) if module else Script(name, args)


def _not_there(path: str, args: Sequence[str]) -> str:
    asked = f"run: there is no file {path!r} in {os.getcwd()}"
    if os.path.basename(path).startswith("python") and args:
        return f"{asked}; leave {path} out: tpsim runs the script itself"
    return f"{asked}; pass {path}.py" if os.path.exists(f"{path}.py") else f"{asked}; pass a script's path"


def _found(top: str, folder: str) -> ModuleSpec | None:
    """Return where a module that is in no package is, without importing it."""
    if not top:
        return None
    try:
        return PathFinder.find_spec(top, [folder, *sys.path[1:]]) or find_spec(top)
    except ValueError:  # it is this process's __main__
        return None


def _is_archive(path: str) -> bool:
    import zipfile

    return zipfile.is_zipfile(path)
