"""mpi4py's `Info`: hints, as pairs of strings. Virtual ranks read none of them."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from tpsim.comm.virtual.data.exceptions import error
from tpsim.comm.virtual.data.handles import MPIHandle, constant

Items = Mapping[str, str] | Iterable[tuple[str, str]]


class InfoState:
    """What an `Info` holds."""

    __slots__ = ("__weakref__", "entries")

    def __init__(self, items: Any = ()) -> None:
        self.entries: dict[str, str] = {str(key): str(value) for key, value in dict(items).items()}


class Info(MPIHandle):
    """Pairs of keys and values, both strings, in the order in which they were set. Use it like a dict."""

    __slots__ = ()
    _state: InfoState | None
    _error = "ERR_INFO"

    def __new__(cls, info: Info | None = None) -> Self:
        """Return another handle of the same pairs; without any, a null handle."""
        return super().__new__(cls, info)

    @classmethod
    def Create(cls, items: Info | Items | None = None) -> Self:
        """Return new pairs."""
        return cls._of(InfoState(items.items() if isinstance(items, Info) else items or ()))

    @classmethod
    def Create_env(cls, args: Sequence[str] | None = None) -> Self:
        """Return what is known of the machine that the ranks run on."""
        return cls._of(InfoState(_environment()))

    def Dup(self) -> Self:
        """Return a copy."""
        return self._of(InfoState(self._entries))

    def Get(self, key: str) -> str | None:
        """Return the value of a key, or None."""
        return self._entries.get(key)

    def Set(self, key: str, value: str) -> None:
        """Set the value of a key."""
        self._entries[key] = value

    def Delete(self, key: str) -> None:
        """Delete a key."""
        if key not in self._entries:
            raise error("ERR_INFO_NOKEY", f"Delete: there is no key {key!r}; the keys are {self.keys()}")
        del self._entries[key]

    def Get_nkeys(self) -> int:
        """Return how many keys there are."""
        return len(self._entries)

    def Get_nthkey(self, n: int) -> str:
        """Return key number `n`, from 0."""
        keys = list(self._entries)
        if not 0 <= n < len(keys):
            raise error("ERR_INFO_KEY", f"Get_nthkey: there is no key {n} of {len(keys)}; count from 0")
        return keys[n]

    # -- as a dict ------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __getitem__(self, key: str) -> str:
        return self._writable(key)[key]

    def __setitem__(self, key: str, value: str) -> None:
        self._writable(key)[key] = value

    def __delitem__(self, key: str) -> None:
        del self._writable(key)[key]

    def get(self, key: str, default: str | None = None) -> str | None:
        """Return the value of a key, or the default."""
        return dict(self.items()).get(key, default)

    def keys(self) -> list[str]:
        """Return the keys."""
        return [key for key, _ in self.items()]

    def values(self) -> list[str]:
        """Return the values."""
        return [value for _, value in self.items()]

    def items(self) -> list[tuple[str, str]]:
        """Return the pairs."""
        return [] if self._state is None else list(self._state.entries.items())

    def update(self, items: Info | Items = (), **kwds: str) -> None:
        """Set several values."""
        entries = self._writable("")
        entries.update(dict(items.items() if isinstance(items, Info) else items), **kwds)

    def pop(self, key: str, *default: Any) -> Any:
        """Delete a key; return its value, or the default."""
        return self._writable(key).pop(key, *default) if self or not default else default[0]

    def popitem(self) -> tuple[str, str]:
        """Delete the pair that was set last, and return it."""
        return self._writable("").popitem()

    def copy(self) -> Self:
        """Return a copy."""
        return self.Dup() if self else type(self)()

    def clear(self) -> None:
        """Delete all pairs."""
        if self._state is not None:
            self._state.entries.clear()

    @property
    def _entries(self) -> dict[str, str]:
        entries: dict[str, str] = self._held().entries
        return entries

    def _writable(self, key: str) -> dict[str, str]:
        """Return the pairs, for a method that treats a null handle as an empty dict."""
        if self._state is None:
            raise KeyError(key)
        return self._state.entries

    def __reduce__(self) -> tuple[Any, ...]:
        if self._state is None or self.is_predefined:
            return super().__reduce__()
        return type(self).Create, (dict(self._entries),)


def _environment() -> dict[str, str]:
    return {
        "host": platform.node(),
        "arch": platform.machine(),
        "thread_level": "MPI_THREAD_MULTIPLE",
    }


INFO_NULL = constant("INFO_NULL", Info())
INFO_ENV = constant("INFO_ENV", Info._of(InfoState(_environment())))
