"""Labels for events: a stack of scopes, kept in a context variable so that every rank has its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple

Phase = Literal["", "forward", "backward"]


class Scope(NamedTuple):
    """Where a rank is: the dotted path of the layer it runs, and in which direction."""

    path: str = ""
    phase: Phase = ""


_scope: ContextVar[Scope] = ContextVar("tpsim_scope", default=Scope())  # noqa: B039  (immutable)

current_scope = _scope.get


def reset_scope() -> None:
    """Stand in no scope."""
    _scope.set(Scope())


@contextmanager
def scope(name: str, phase: Phase | None = None) -> Iterator[Scope]:
    """Label what happens inside the `with` block.

    Parameters
    ----------
    name : str
        Joined to the enclosing scope's path with a dot; an empty name keeps the path.
    phase : {"forward", "backward", ""}, optional
        The direction; by default the enclosing scope's.

    Examples
    --------
    >>> with scope("layer0"), scope("mlp", "forward") as here:
    ...     here
    Scope(path='layer0.mlp', phase='forward')
    """
    outer = _scope.get()
    path = f"{outer.path}.{name}" if outer.path and name else outer.path or name
    inner = Scope(path, outer.phase if phase is None else phase)
    token = _scope.set(inner)
    try:
        yield inner
    finally:
        _scope.reset(token)
