"""What all of MPI's objects have in common: a handle of something, or of nothing.

Several Python objects may hold one thing: `MPI.Datatype(MPI.INT) == MPI.INT`. Freeing takes the thing
away from one of them, which is then null.
"""

from __future__ import annotations

from itertools import count
from typing import Any, ClassVar, Self, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from tpsim.comm.virtual.data.exceptions import error

H = TypeVar("H", bound="MPIHandle")

_numbers = count(1)
_number_of: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
_state_of: WeakValueDictionary[int, Any] = WeakValueDictionary()
_constants: dict[str, MPIHandle] = {}
_name_of: dict[int, str] = {}  # by the id of a constant, which lives for ever


class MPIHandle:
    """A handle. Subclasses that name this class as their base are MPI's kinds of objects.

    Two handles are equal if they are of one kind and hold the same thing; null is falsy. They can't be
    hashed, as in mpi4py.
    """

    __slots__ = ("__weakref__", "_state")
    _kind: ClassVar[tuple[type[MPIHandle]]]
    _error: ClassVar[str] = "ERR_ARG"
    """The error class of a handle that should not be null."""
    _state: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if MPIHandle in cls.__bases__:
            cls._kind = (cls,)

    def __new__(cls, other: MPIHandle | None = None) -> Self:
        """Return another handle of what `other` holds; without it, a null handle."""
        if other is not None and not isinstance(other, cls._kind):
            kind = cls._kind[0].__name__
            raise TypeError(
                f"{cls.__name__}: {other!r} is no {kind}; pass a {kind}, or nothing to get a null one"
            )
        return cls._of(None if other is None else other._state)

    @classmethod
    def _of(cls, state: Any) -> Self:
        """Return a new handle of `state`."""
        handle = object.__new__(cls)
        handle._state = state
        return handle

    def _held(self) -> Any:
        """Return what the handle holds, or raise that it is null."""
        if self._state is None:
            raise error(
                self._error,
                f"{self._kind[0].__name__}: this one is null, or was freed; pass one of MPI's, or make "
                "one anew",
            )
        return self._state

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, self._kind):
            return NotImplemented
        return self._state is other._state

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return self._state is not None

    @property
    def handle(self) -> int:
        """A number that stands for the same thing, as long as it is there; 0 for null."""
        return number_of(self._state)

    @classmethod
    def fromhandle(cls, handle: int) -> Self:
        """Return the handle that `handle` is the number of."""
        return cls._of(_state_of[handle] if handle else None)

    def toint(self) -> int:
        """Return `handle`."""
        return self.handle

    @classmethod
    def fromint(cls, arg: int, /) -> Self:
        """Return the handle that a number from `toint` stands for."""
        return cls.fromhandle(arg)

    def py2f(self) -> int:
        """Return `handle`, as a Fortran program would know it."""
        return self.handle

    @classmethod
    def f2py(cls, arg: int, /) -> Self:
        """Return the handle that a number from `py2f` stands for."""
        return cls.fromhandle(arg)

    def free(self) -> None:
        """Free the handle if it is neither null nor one of `MPI`'s constants."""
        if self._state is None or self.is_constant:
            return
        if self.is_predefined:
            self._state = None
        else:
            self.Free()

    def Free(self) -> None:
        """Give the thing up: the handle is null afterwards."""
        self._held()
        if self.is_constant:
            raise error(self._error, f"Free: {self!r} is MPI's own and stays; free only what you created")
        self._state = None

    @property
    def is_constant(self) -> bool:
        """Whether this very object is one that `MPI` names."""
        return id(self) in _name_of

    @property
    def is_predefined(self) -> bool:
        """Whether this handle holds what one of `MPI`'s constants holds."""
        return any(self._kind is c._kind and self._state is c._state for c in _constants.values())

    def __reduce__(self) -> tuple[Any, ...]:
        if self.is_constant:
            return named, (_name_of[id(self)],)
        for constant in _constants.values():
            if self._kind is constant._kind and self._state is constant._state:
                return type(self), (constant,)
        raise ValueError(
            f"pickle: this {type(self).__name__} lives in the rank that made it, and can't be sent; "
            "send what it was made from, and make it anew"
        )


def number_of(state: Any) -> int:
    """Return the number that stands for what a handle holds; 0 for nothing."""
    if state is None:
        return 0
    number = _number_of.get(state)
    if number is None:
        number = _number_of.setdefault(state, next(_numbers))
        _state_of[number] = state
    return number


def constant(name: str, handle: H) -> H:
    """Make `handle` the object that `MPI` names `name`: it can't be freed, and pickles by name."""
    _name_of.setdefault(id(handle), name)
    _constants.setdefault(name, handle)
    return handle


def constants() -> dict[str, MPIHandle]:
    """Return all objects that `MPI` names."""
    return dict(_constants)


def named(name: str) -> MPIHandle:
    """Return the object that `MPI` names `name`."""
    return _constants[name]
