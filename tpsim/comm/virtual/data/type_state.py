"""What a `Datatype` holds, and how it is asked for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpsim.comm.virtual.data.attributes import Attribute
from tpsim.comm.virtual.data.handles import MPIHandle
from tpsim.comm.virtual.data.layout import Layout


class TypeState:
    """What a `Datatype` holds.

    Parameters
    ----------
    layout : Layout
        Where the data of an element lie.
    combiner : str
        The constructor that made the type, such as "VECTOR"; "NAMED" for MPI's own.
    params : dict
        The constructor's arguments.
    base : Datatype, optional
        The type that it was made from, where that was one.
    name : str
        Its name.
    code, char : str, optional
        Its codes in NumPy's and in the buffer protocol's terms, for basic types.
    """

    __slots__ = ("__weakref__", "attributes", "base", "char", "code", "combiner", "layout", "name", "params")

    def __init__(
        self,
        layout: Layout,
        combiner: str = "NAMED",
        params: dict[str, Any] | None = None,
        *,
        base: Any = None,
        name: str = "",
        code: str | None = None,
        char: str | None = None,
    ) -> None:
        self.layout = layout
        self.combiner = combiner
        self.params = params or {}
        self.base = base
        self.name = name
        self.code = code
        self.char = char
        self.attributes: dict[int, Attribute] = {}


class TypeHandle(MPIHandle):
    """A handle of a `TypeState`: what the parts of `Datatype` stand on."""

    __slots__ = ()
    _state: TypeState | None
    _error = "ERR_TYPE"

    @property
    def state(self) -> TypeState:
        """What this handle holds; an error if it is null."""
        state: TypeState = self._state or self._held()
        return state

    @property
    def layout(self) -> Layout:
        """Where the data of an element lie."""
        return self.state.layout

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The NumPy dtype of the basic elements; None if they are of several."""
        return self.state.layout.dtype
