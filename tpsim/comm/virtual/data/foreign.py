"""Memory that other libraries describe: by DLPack, or by CUDA's array interface.

Both can describe memory of a device, which only the device can read; such memory is refused.

References
----------
.. [1] DLPack 1.0, `dlpack.h`.
.. [2] Numba, "CUDA array interface", version 3.
"""

from __future__ import annotations

import ctypes
import os
import warnings
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.virtual.data.exceptions import BadBufferError

_CPU = 1
_READ_ONLY = 1
_KINDS = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}
"""Of DLPack's type codes; the others are passed on as bytes."""
_UNSIGNED = np.dtype(np.uint8)


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.argtypes, _is_valid.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_int
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.argtypes, _pointer.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p


def from_dlpack(obj: Any, call: str) -> NDArray[Any]:
    """Return an array over the memory of an object that speaks DLPack.

    The capsule is not consumed, but kept as long as the array is there: so it frees itself.
    """
    kind, number = obj.__dlpack_device__()
    if not (isinstance(kind, int) and isinstance(number, int)):
        raise TypeError(f"{call}: __dlpack_device__ returns {(kind, number)}, which are no two ints")
    options = {} if kind == _CPU else {"stream": -1}
    try:
        capsule = obj.__dlpack__(**options, max_version=(1, 0), copy=False)
        name = b"dltensor_versioned"
    except TypeError:  # of a version before 1.0
        capsule, name = obj.__dlpack__(**options), b"dltensor"
    if not _is_valid(capsule, name):
        raise BadBufferError(
            f"{call}: __dlpack__ returns {capsule!r}, which is no fresh capsule; make a new one"
        )
    readonly = False
    if name == b"dltensor":
        tensor = ctypes.cast(_pointer(capsule, name), ctypes.POINTER(_Tensor)).contents
    else:
        managed = ctypes.cast(_pointer(capsule, name), ctypes.POINTER(_Versioned)).contents
        if managed.major < 1:
            raise BadBufferError(
                f"{call}: DLPack {managed.major}.{managed.minor} in a capsule of 1.0 or later"
            )
        tensor, readonly = managed.tensor, bool(managed.flags & _READ_ONLY)
    return _over_tensor(tensor, capsule, call, readonly=readonly)


def _over_tensor(tensor: _Tensor, capsule: Any, call: str, *, readonly: bool) -> NDArray[Any]:
    if tensor.ndim < 0 or (tensor.ndim and not tensor.shape):
        raise BadBufferError(f"{call}: a DLPack tensor of {tensor.ndim} dimensions has no shape")
    shape = tuple(tensor.shape[: tensor.ndim]) if tensor.ndim else ()
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.ndim and tensor.strides else None
    if min((*shape, *(strides or ()), 0)) < 0:
        raise BadBufferError(
            f"{call}: a DLPack tensor of shape {shape} and strides {strides} has negative ones"
        )
    size = (tensor.bits * tensor.lanes + 7) // 8
    dtype = _dtype_of(tensor, size)
    return _array(
        (tensor.data or 0) + tensor.byte_offset,
        shape,
        None if strides is None else tuple(stride * size for stride in strides),
        size,
        dtype,
        capsule,
        call,
        readonly=readonly,
    )


def _dtype_of(tensor: _Tensor, size: int) -> np.dtype[Any]:
    kind = _KINDS.get(tensor.code, "")
    if kind == "f" and tensor.lanes == 2:
        return np.dtype(f"c{size}")
    return _native(kind, size) if tensor.lanes == 1 else _UNSIGNED


def from_interface(obj: Any, call: str) -> NDArray[Any]:
    """Return an array over memory that an object describes in CUDA's terms."""
    interface = obj.__cuda_array_interface__
    if not isinstance(interface, dict):
        raise TypeError(f"{call}: __cuda_array_interface__ is a {type(interface).__name__}; make it a dict")
    (address, readonly), typestr = interface["data"], interface["typestr"]
    shape, strides, descr = interface["shape"], interface.get("strides"), interface.get("descr")
    for value, kind in ((typestr, str), (shape, tuple), (strides or (), tuple), (descr or [], list)):
        if not isinstance(value, kind):
            raise TypeError(f"{call}: __cuda_array_interface__ holds {value!r}; make it a {kind.__name__}")
    if interface.get("mask") is not None:
        raise BadBufferError(f"{call}: a masked array is not a buffer; pass its data without the mask")
    if typestr[0] not in "<>|=":
        raise BadBufferError(f"{call}: typestr {typestr!r} has no byte order; begin it with '<' or '>'")
    size = int(typestr[2:])
    dtype = _native(typestr[1], size)
    if dtype != _UNSIGNED and not np.dtype(typestr.replace("|", "=")).isnative:
        raise BadBufferError(
            f"{call}: typestr {typestr!r} has another byte order than this machine; convert it"
        )
    if min((*shape, 0)) < 0:
        raise BadBufferError(f"{call}: shape {shape} has negative lengths")
    if descr and descr != [("", typestr)]:
        warnings.warn(f"{call}: __cuda_array_interface__: 'descr' is ignored", RuntimeWarning, stacklevel=2)
    return _array(address or 0, shape, strides, size, dtype, obj, call, readonly=bool(readonly))


def _native(kind: str, size: int) -> np.dtype[Any]:
    """Return the dtype of a kind and size; bytes if NumPy has none."""
    try:
        return np.dtype(f"{kind}{size}") if kind and kind in "biufc" else _UNSIGNED
    except TypeError:
        return _UNSIGNED


def _array(
    address: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None,
    size: int,
    dtype: np.dtype[Any],
    owner: Any,
    call: str,
    *,
    readonly: bool,
) -> NDArray[Any]:
    """Return contiguous memory as a 1-D array of `dtype`; elements of it have `size` bytes."""
    if strides is not None and 0 not in shape:
        lengths = [length for length in shape if length != 1]
        steps = [step for step, length in zip(strides, shape, strict=True) if length != 1]
        if steps not in (_steps(lengths, size), _steps(lengths[::-1], size)[::-1]):
            raise BadBufferError(
                f"{call}: memory of shape {shape} and strides {strides} is not contiguous; copy it first"
            )
    nbytes = prod(shape) * size
    if nbytes and not (_readable(address) and _readable(address + nbytes - 1)):
        raise BadBufferError(
            f"{call}: the memory of this {type(owner).__name__} is on another device, which virtual ranks "
            "can't read; copy it to the host first"
        )
    if not nbytes:
        return np.empty(0, dtype)
    described = {
        "version": 3,
        "data": (address, readonly),
        "typestr": dtype.str,
        "shape": (nbytes // dtype.itemsize,),
    }
    return np.asarray(_Memory(described, owner))


def _steps(lengths: list[int], size: int) -> list[int]:
    """Return the strides of a contiguous array in C order."""
    return [size * prod(lengths[i + 1 :]) for i in range(len(lengths))]


class _Memory:
    """Memory in the terms of NumPy's array interface, with whatever keeps it alive."""

    def __init__(self, interface: dict[str, Any], owner: Any) -> None:
        self.__array_interface__ = interface
        self.owner = owner


def _readable(address: int) -> bool:
    """Tell whether this process can read a byte, without trying to: the system is asked to."""
    if os.name != "posix":
        return True
    read_end, write_end = os.pipe()
    try:
        return int(_write(write_end, address, 1)) == 1
    finally:
        os.close(read_end)
        os.close(write_end)


if os.name == "posix":
    _write = ctypes.CDLL(None).write
    _write.argtypes, _write.restype = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t], ctypes.c_ssize_t
