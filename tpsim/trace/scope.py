"""Labels for events: a stack of scopes, kept in a context variable so that every rank has its own."""

from __future__ import annotations

from contextvars import ContextVar, Token
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


class scope:
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

    __slots__ = ("_name", "_phase", "_tokens")

    def __init__(self, name: str, phase: Phase | None = None) -> None:
        self._name = name
        self._phase = phase
        self._tokens: list[Token[Scope]] = []

    def __enter__(self) -> Scope:
        outer, name = _scope.get(), self._name
        path = f"{outer.path}.{name}" if outer.path and name else outer.path or name
        inner = Scope(path, outer.phase if self._phase is None else self._phase)
        self._tokens.append(_scope.set(inner))
        return inner

    def __exit__(self, *_: object) -> None:
        _scope.reset(self._tokens.pop())
