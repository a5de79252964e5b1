"""Programs: a script or a module, run as `python` runs it."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Protocol


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


class Script:
    """`python script.py args`: a file; a folder or a zip file with a `__main__.py`.

    Raises
    ------
    FileNotFoundError
        If there is none of that name.
    SyntaxError
        If it isn't Python.
    """

    def __init__(self, path: str, args: Sequence[str] = ()) -> None:
        if not os.path.exists(path):
            raise FileNotFoundError(f"run: there is no file {path!r} in {os.getcwd()}; pass a script's path")
        self.argv = [path, *args]
        self.path = os.path.abspath(path)
        self.code: CodeType | None = None
        if os.path.isfile(path) and not _is_archive(path):
            self.folder = str(Path(path).resolve().parent)
            source = Path(path).read_bytes()
            self.code = compile(source, self.path, "exec", dont_inherit=True)  # once, for all ranks
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
    """`python -m module args`."""

    def __init__(self, name: str, args: Sequence[str] = ()) -> None:
        self.name = name
        self.argv = [name, *args]
        self.folder = os.getcwd()

    def main_module(self) -> ModuleType:
        """Return an empty `__main__`, to be replaced when the module is found."""
        return ModuleType("__main__")

    def start(self) -> None:
        """Find the module, and run it as `__main__`."""
        runpy.run_module(self.name, run_name="__main__", alter_sys=True)


def _is_archive(path: str) -> bool:
    import zipfile

    return zipfile.is_zipfile(path)
