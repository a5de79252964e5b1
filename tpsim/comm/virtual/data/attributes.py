"""Attributes: what a program hangs on a communicator or a datatype, by keys that it creates."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from itertools import count
from operator import index
from typing import Any, ClassVar, NamedTuple

from tpsim.comm.mpi_errors import ERROR_CLASSES, MPIException
from tpsim.comm.virtual.data.constants import KEYVAL_INVALID
from tpsim.comm.virtual.data.exceptions import error

_numbers = count(1000)  # above those of MPI's own attributes


class Keyval(NamedTuple):
    """A key: what happens to its attributes when their owner is copied, and when they are deleted."""

    copy_fn: Callable[[Any, int, Any], Any] | bool | None
    delete_fn: Callable[[Any, int, Any], None] | None
    nopython: bool


class Attribute(NamedTuple):
    """A value that hangs on something."""

    key: Keyval
    value: Any


class Attributes:
    """The methods of handles that have attributes; these are in `_attributes`."""

    __slots__ = ()
    _keyvals: ClassVar[dict[int, Keyval]]

    @property
    def _attributes(self) -> dict[int, Attribute]:
        raise NotImplementedError

    def Get_attr(self, keyval: int) -> Any:
        """Return the value of a key, or None."""
        attribute = self._attributes.get(keyval)
        if attribute is None:
            self._keyval("Get_attr", keyval)
            return None
        return attribute.value

    def Set_attr(self, keyval: int, attrval: Any) -> None:
        """Set the value of a key. One that it had is deleted."""
        key = self._keyval("Set_attr", keyval)
        if keyval in self._attributes:
            self.Delete_attr(keyval)
        self._attributes[keyval] = Attribute(key, index(attrval) if key.nopython else attrval)

    def Delete_attr(self, keyval: int) -> None:
        """Delete the value of a key."""
        self._keyval("Delete_attr", keyval)
        attribute = self._attributes.pop(keyval, None)
        if attribute is None:
            raise error("ERR_KEYVAL", f"Delete_attr: nothing is set for key {keyval}; set it first")
        if attribute.key.delete_fn is not None:
            _call(attribute.key.delete_fn, self, keyval, attribute.value)

    @classmethod
    def Create_keyval(
        cls,
        copy_fn: Callable[[Any, int, Any], Any] | bool | None = None,
        delete_fn: Callable[[Any, int, Any], None] | bool | None = None,
        nopython: bool = False,
    ) -> int:
        """Return a new key.

        Parameters
        ----------
        copy_fn : callable, bool or None
            Called with (owner, key, value) when the owner is duplicated; what it returns becomes the
            copy's value, unless that is NotImplemented. True: the same value; else: none.
        delete_fn : callable, optional
            Called with (owner, key, value) when the value is deleted.
        nopython : bool
            Values are ints, as C programs see them.
        """
        keyval = next(_numbers)
        deletes = None if isinstance(delete_fn, bool) else delete_fn
        cls._keyvals[keyval] = Keyval(copy_fn or None, deletes, nopython)
        return keyval

    @classmethod
    def Free_keyval(cls, keyval: int) -> int:
        """Free a key, and return the invalid one. Values that are set stay."""
        if cls._keyvals.pop(keyval, None) is None:
            raise _unknown("Free_keyval", keyval)
        return KEYVAL_INVALID

    def _keyval(self, call: str, keyval: int) -> Keyval:
        key = self._keyvals.get(keyval)
        if key is None:
            raise _unknown(call, keyval)
        return key

    def _copy_attributes(self, copy: Attributes) -> None:
        """Give a duplicate the attributes that it should have."""
        for keyval, (key, value) in list(self._attributes.items()):
            if key.copy_fn is None:
                continue
            if key.copy_fn is not True:
                value = _call(key.copy_fn, self, keyval, value)  # type: ignore[arg-type]
            if value is not NotImplemented:
                copy._attributes[keyval] = Attribute(key, value)

    def _delete_attributes(self) -> None:
        """Delete all attributes, as their owner goes."""
        attributes = self._attributes
        while attributes:
            keyval, (key, value) = attributes.popitem()
            if key.delete_fn is not None:
                key.delete_fn(self, keyval, value)


def _call(function: Callable[[Any, int, Any], Any], owner: Any, keyval: int, value: Any) -> Any:
    """Call a key's function. What it raises is shown, and becomes an error of MPI."""
    try:
        return function(owner, keyval, value)
    except MPIException:
        raise
    except Exception as raised:
        traceback.print_exc(file=sys.stderr)
        raise MPIException(
            ERROR_CLASSES["ERR_OTHER"],
            f"key {keyval}: its function raised {type(raised).__name__}: {raised}; see the traceback above",
        ) from raised


def _unknown(call: str, keyval: int) -> Exception:
    return error("ERR_KEYVAL", f"{call}: {keyval} is no key of such an object; make one with Create_keyval")
