"""Loading a submission: it may import what its exercise allows, and not the answer.

This keeps an honest student from passing by accident with tpsim's own layer. It is no wall: who wants to get
around it in the same process can. The grader runs submissions in a process that has nothing to find.
"""

from __future__ import annotations

import ast
import builtins
import linecache
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

ALWAYS = (
    "__future__",
    "collections",
    "dataclasses",
    "functools",
    "itertools",
    "math",
    "numpy",
    "typing",
    "tpsim.comm.Group",
    "tpsim.comm.Handle",
)
"""What every submission may import; a name stands for all that is below it too."""


class ForbiddenError(Exception):
    """A submission uses what its exercise is about."""


def load(path: Path, functions: Sequence[str], allowed: Iterable[str] = ()) -> dict[str, Callable[..., Any]]:
    """Run a submission's file, and return its functions of these names.

    Parameters
    ----------
    path : Path
    functions : sequence of str
        Those that the exercise calls.
    allowed : iterable of str
        Dotted names that it may import besides `ALWAYS`.

    Raises
    ------
    ForbiddenError
        If it imports anything else, or reaches for something private.
    SyntaxError, Exception
        Whatever its code raises.
    """
    source = path.read_text(encoding="utf-8")
    linecache.checkcache(str(path))
    tree = ast.parse(source, str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            raise ForbiddenError(
                f"line {node.lineno} uses {node.attr!r}, which is private; use the public methods of what "
                "you are given"
            )
    names = (*ALWAYS, *allowed)
    namespace: dict[str, Any] = {
        "__name__": path.stem,
        "__file__": str(path),
        "__builtins__": {**vars(builtins), "__import__": _importer(names)},
    }
    exec(compile(tree, str(path), "exec"), namespace)
    return {name: _function(namespace, name, path) for name in dict.fromkeys(functions)}


def _importer(allowed: Sequence[str]) -> Callable[..., Any]:
    """Return an `__import__` for the submission's module alone."""

    def guarded(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        for wanted in [f"{name}.{part}" for part in fromlist or ()] or [name]:
            if level or not any(wanted == ok or wanted.startswith(f"{ok}.") for ok in allowed):
                raise ForbiddenError(f"{wanted} may not be imported here; {_instead(wanted, allowed)}")
        return builtins.__import__(name, globals, locals, fromlist or (), level)

    return guarded


def _instead(wanted: str, allowed: Sequence[str]) -> str:
    if wanted.startswith("tpsim"):
        ours = ", ".join(name for name in allowed if name.startswith("tpsim"))
        return f"the exercise is to write it yourself, with NumPy and the group (allowed of tpsim: {ours})"
    return "NumPy and Python's small helpers are enough"


def _function(namespace: Mapping[str, Any], name: str, path: Path) -> Callable[..., Any]:
    function = namespace.get(name)
    if isinstance(function, FunctionType):
        return function
    raise ForbiddenError(
        f"there is no function {name} in {path.name}; the exercise calls it by that name: keep the `def` line"
    )
