"""The memory that an array without data would have."""

from __future__ import annotations

from typing import NamedTuple


class Storage:
    """A buffer: what an array and its views share. Two storages are the same only if they are one object.

    Parameters
    ----------
    nbytes : int
    """

    __slots__ = ("__weakref__", "nbytes")

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes

    def __repr__(self) -> str:
        return f"Storage({self.nbytes} bytes)"


class Flags(NamedTuple):
    """What `ndarray.flags` says of memory."""

    c_contiguous: bool
    f_contiguous: bool
    owndata: bool
    writeable: bool
