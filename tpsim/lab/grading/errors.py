"""What a submission raised in its process, raised again here: under its own name, from its own line."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import CodeType
from typing import Any, NoReturn

from tpsim.lab.checking.guard import ForbiddenError

_KNOWN: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (
        *(AssertionError, AttributeError, IndexError, NameError, NotImplementedError, RecursionError),
        *(RuntimeError, TypeError, ValueError, ZeroDivisionError, ForbiddenError),
    )
}
_MOST_TEXT = 2000


def raise_again(told: dict[str, Any], path: str) -> NoReturn:
    """Raise what a rank told of; all that it said is only text here."""
    name, text = str(told["type"])[:80], str(told["text"])[:_MOST_TEXT]
    line, function = where(told)
    if name == "SyntaxError" and line:
        raise SyntaxError(text, (path, line, None, _line(path, line)))
    kind = _KNOWN.get(name) or type(name if name.isidentifier() else "Error", (Exception,), {})

    def fail() -> NoReturn:
        raise kind(text)

    from_line(path, line, function, fail)
    raise AssertionError("unreachable")


def where(told: dict[str, Any]) -> tuple[int, str]:
    """Return the line and the function that a message names; line 0 if it names none."""
    line, function = told.get("at", (0, "?"))
    if type(line) is not int or not 0 <= line < 1 << 20 or not isinstance(function, str):
        return 0, "?"
    return line, function[:80]


def from_line(path: str, line: int, function: str, act: Callable[[], Any]) -> Any:
    """Return `act()`, called as if from a line of the submission.

    So that whatever names lines, in a traceback or in the error of a deadlock, names the submission's.
    """
    return eval(_call_at(path, max(line, 1), function), {"act": act})


@lru_cache(maxsize=1024)
def _call_at(path: str, line: int, function: str) -> CodeType:
    """Return the code of `act()` as it would stand there."""
    return compile("act()", path, "eval").replace(co_firstlineno=line, co_name=function)


def _line(path: str, number: int) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    return lines[number - 1] if number <= len(lines) else ""
