"""The memory of whatever can be a buffer, as a 1-D array over it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.virtual.data.exceptions import BadBufferError


def row(obj: Any, call: str, *, writable: bool = False) -> NDArray[Any]:
    """Return a 1-D array over the memory of `obj`, in the order in which it lies there.

    Parameters
    ----------
    obj : array, bytes-like, or anything with NumPy's, DLPack's or CUDA's array interface
        Arrays must be contiguous, in C or Fortran order, and in this machine's memory.
    call : str
        The call that the buffer is for, for error messages.
    writable : bool
        Whether something will be received into it.
    """
    array = obj if type(obj) is np.ndarray else _as_array(obj, call)
    flags = array.flags
    if array.ndim != 1 or not flags.c_contiguous or array.dtype.hasobject:
        array = _in_one_row(array, call)
    if writable and not flags.writeable:
        raise BadBufferError(
            f"{call}: the {type(obj).__name__} to receive into is read-only; pass an array of your own"
        )
    return array


def _in_one_row(array: NDArray[Any], call: str) -> NDArray[Any]:
    if array.dtype.hasobject:
        raise TypeError(
            f"{call}: an array of Python objects is not a buffer; use the lower-case method ({call.lower()})"
        )
    if array.flags.c_contiguous:
        return array.reshape(-1)
    if array.flags.f_contiguous:
        return array.T.reshape(-1)
    raise BadBufferError(
        f"{call}: the array of shape {array.shape} is not contiguous; pass np.ascontiguousarray(array), "
        "or use Group, which does that"
    )


def _as_array(obj: Any, call: str) -> NDArray[Any]:
    if isinstance(obj, np.ndarray):
        return obj.view(np.ndarray)
    try:
        return np.asarray(memoryview(obj))
    except TypeError:
        pass
    if hasattr(obj, "__dlpack__") or hasattr(obj, "__cuda_array_interface__"):
        from tpsim.comm.virtual.data import foreign  # few programs need it

        return (
            foreign.from_dlpack(obj, call)
            if hasattr(obj, "__dlpack__")
            else foreign.from_interface(obj, call)
        )
    if hasattr(obj, "__array_interface__"):
        return np.asarray(obj)
    raise TypeError(
        f"{call}: a {type(obj).__name__} is not a buffer; pass a NumPy array, or use the lower-case "
        f"method for Python objects ({call.lower()})"
    )
