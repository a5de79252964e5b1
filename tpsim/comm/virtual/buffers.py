"""mpi4py's buffer specifications, as 1-D arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.virtual.constants import as_dtype


def flat(buffer: Any, what: str, *, blocks: int = 1, writable: bool = False) -> NDArray[Any]:
    """Return a buffer specification as a 1-D view of its memory.

    Parameters
    ----------
    buffer : array, bytes-like, or [data, count] or [data, count, type] or [data, type]
        As mpi4py takes it. Arrays must be contiguous, in C or Fortran order; the view is of the
        memory, in the order in which it lies there, as in MPI.
    what : str
        The call, for error messages.
    blocks : int
        How many ranks' blocks the buffer holds: `count` counts the elements of one.
    writable : bool
        Whether something will be received into it.
    """
    count, dtype = None, None
    if isinstance(buffer, list | tuple) and buffer and not isinstance(buffer[0], int | float):
        buffer, *rest = buffer
        for item in rest:
            if isinstance(item, int | np.integer):
                count = int(item)
            elif isinstance(item, list | tuple):
                raise NotImplementedError(
                    f"{what}: virtual ranks know [data, count, type], without displacements; "
                    "pass the part as a slice of the array"
                )
            elif item is not None:
                dtype = as_dtype(item)
    array = buffer if isinstance(buffer, np.ndarray) else _from_bytes(buffer, what)
    view = _in_one_row(array, what)
    if writable and not view.flags.writeable:
        raise ValueError(
            f"{what}: the {type(buffer).__name__} to receive into is read-only; pass an array of your own"
        )
    if dtype is not None and dtype != view.dtype:
        view = view.view(dtype)
    if count is None:
        return view
    if count * blocks > view.size:
        raise ValueError(
            f"{what}: count {count} asks for {count * blocks} elements and the buffer holds {view.size}; "
            "make the buffer longer, or the count smaller"
        )
    return view[: count * blocks]


def _in_one_row(array: NDArray[Any], what: str) -> NDArray[Any]:
    if array.dtype.hasobject:
        raise TypeError(
            f"{what}: an array of Python objects is not a buffer; use the lower-case method ({what.lower()})"
        )
    if array.flags.c_contiguous:
        return array.reshape(-1)
    if array.flags.f_contiguous:
        return array.T.reshape(-1)
    raise ValueError(
        f"{what}: the array of shape {array.shape} is not contiguous; pass np.ascontiguousarray(array), "
        "or use Group, which does that"
    )


def _from_bytes(buffer: Any, what: str) -> NDArray[Any]:
    try:
        return np.asarray(memoryview(buffer))
    except TypeError:
        raise TypeError(
            f"{what}: a {type(buffer).__name__} is not a buffer; pass a NumPy array, or use the lower-case "
            f"method for Python objects ({what.lower()})"
        ) from None
