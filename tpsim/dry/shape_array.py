"""`ShapeArray`: an array with a shape, a dtype and a place in memory, but no data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, SupportsIndex

import ml_dtypes  # noqa: F401 - from here on NumPy knows bfloat16 and the float8 types by name
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike

from tpsim.dry.errors import not_known, raise_like_numpy, stand_in
from tpsim.dry.indexing import View, select
from tpsim.dry.layout import (
    Shape,
    Strides,
    as_shape,
    bounds,
    c_strides,
    is_contiguous,
    is_whole_number,
    like_order,
    resolve_shape,
    view_strides,
)
from tpsim.dry.methods import NumPyMethods
from tpsim.dry.recording import report
from tpsim.dry.refusals import Refusals
from tpsim.dry.registry import FUNCTIONS, UFUNC_METHODS
from tpsim.dry.storage import Flags, Storage
from tpsim.dry.writing import assign


class ShapeArray(NumPyMethods, Refusals, NDArrayOperatorsMixin):
    """An array with shape, dtype and memory layout, but no data.

    Code written for NumPy runs on it unchanged, through NumPy's own protocols: results have the shape, dtype
    and strides that NumPy would give, errors are NumPy's, and what would be a view shares its `storage`.
    Whatever needs a value raises a TypeError.

    Parameters
    ----------
    shape : tuple of int, or int
    dtype : dtype
        Any of NumPy's, or of ml_dtypes (bfloat16, float8_e4m3fn, …).

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    strides : tuple of int
        In bytes.
    storage : Storage
        The memory, the same object for all views of it.
    offset : int
        Where in the storage the entry [0, …, 0] lies, in bytes.
    base : ShapeArray or None
        The array that the memory was made for, if this one is a view.
    writeable : bool
        False for results of `np.broadcast_to`.

    References
    ----------
    NumPy enhancement proposals 13 (`__array_ufunc__`) and 18 (`__array_function__`).

    Examples
    --------
    >>> x = ShapeArray((8, 2048, 16384), "bfloat16")
    >>> x.nbytes
    536870912
    >>> np.exp(x - x.max(axis=-1, keepdims=True)).reshape(-1, 16384)
    ShapeArray((16384, 16384), bfloat16)
    """

    __slots__ = ("__weakref__", "base", "dtype", "offset", "shape", "storage", "strides", "writeable")

    shape: Shape
    dtype: np.dtype[Any]
    strides: Strides
    storage: Storage
    offset: int
    base: ShapeArray | None
    writeable: bool

    def __init__(
        self, shape: SupportsIndex | tuple[SupportsIndex, ...], dtype: DTypeLike = np.float64
    ) -> None:
        self.shape = as_shape(shape)
        if any(n < 0 for n in self.shape):
            raise ValueError(
                f"ShapeArray: shape {self.shape} has a negative length; pick lengths of 0 or more"
            )
        self.dtype = np.dtype(dtype)
        self.strides = c_strides(self.shape, self.dtype.itemsize)
        self.storage = Storage(self.nbytes)
        self.offset, self.base, self.writeable = 0, None, True

    def __repr__(self) -> str:
        return f"ShapeArray({self.shape}, {self.dtype})"

    # -- memory -------------------------------------------------------------------------------------

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an entry."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def flags(self) -> Flags:
        """Contiguity, whose the memory is, and whether it may be written."""
        layout = self.shape, self.strides, self.dtype.itemsize
        return Flags(is_contiguous(*layout), is_contiguous(*layout, "F"), self.base is None, self.writeable)

    def memory(self) -> tuple[Storage, int, int]:
        """Return the storage, and from which byte to which the entries lie in it."""
        low, high = bounds(self.shape, self.strides, self.dtype.itemsize)
        return self.storage, self.offset + low, self.offset + high

    def view_of(self, shape: Shape, strides: Strides, offset: int = 0) -> ShapeArray:
        """Return another array on the same memory, `offset` bytes after where this one begins."""
        view = ShapeArray.__new__(ShapeArray)
        view.shape, view.dtype, view.strides = shape, self.dtype, strides
        view.storage, view.offset = self.storage, self.offset + offset
        view.base, view.writeable = self if self.base is None else self.base, self.writeable
        return view

    def entries(self, shape: Shape) -> ShapeArray:
        """Return a stand-in for chosen entries: as many bytes as they are, of the same storage.

        Which entries they are depends on values; a gather from a large table reads no more than it returns.
        """
        return self.view_of(shape, c_strides(shape, self.dtype.itemsize))

    # -- NumPy's protocols --------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        implementation = UFUNC_METHODS.get(method)
        if implementation is None:
            raise not_known(f"np.{ufunc.__name__}.{method}")
        return implementation(ufunc, *inputs, **options)

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        implementation = FUNCTIONS.get(function)
        if implementation is None:
            raise not_known(f"{function.__module__.replace('numpy', 'np')}.{function.__name__}")
        return implementation(*inputs, **options)

    # -- entries ------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[ShapeArray]:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    def __getitem__(self, key: Any) -> ShapeArray:
        part = select(self.shape, self.strides, self.dtype.itemsize, key)
        if isinstance(part, View):
            return self.view_of(part.shape, part.strides, part.offset)
        result = new(part.shape, self.dtype, part.strides)
        report("getitem", (self.entries(part.shape), *part.indices), (result,), 0)
        return result

    def __setitem__(self, key: Any, value: Any) -> None:
        assign(self, key, value)

    def fill(self, value: Any) -> None:
        """Set every entry to a number."""
        self[...] = value

    # -- the same memory in another shape -----------------------------------------------------------

    @property
    def T(self) -> ShapeArray:
        """With all axes in reverse order."""
        return self.view_of(self.shape[::-1], self.strides[::-1])

    @property
    def mT(self) -> ShapeArray:
        """With the last two axes exchanged."""
        if len(self.shape) < 2:
            raise ValueError("matrix transpose with ndim < 2 is undefined")
        return self.swapaxes(-1, -2)

    def transpose(self, *axes: Any) -> ShapeArray:
        """See `numpy.ndarray.transpose`."""
        order = axes[0] if len(axes) == 1 and not is_whole_number(axes[0]) else axes
        if order is None or not axes:
            return self.T
        order = tuple(axis + self.ndim if axis < 0 else axis for axis in order)
        if sorted(order) != list(range(self.ndim)):
            raise_like_numpy(np.transpose, self, axes[0] if len(axes) == 1 else axes)
        return self.view_of(tuple(self.shape[a] for a in order), tuple(self.strides[a] for a in order))

    def swapaxes(self, axis1: int, axis2: int) -> ShapeArray:
        """See `numpy.ndarray.swapaxes`."""
        ndim = len(self.shape)
        if not (-ndim <= axis1 < ndim and -ndim <= axis2 < ndim):
            raise_like_numpy(np.swapaxes, self, axis1, axis2)
        shape, strides = list(self.shape), list(self.strides)
        shape[axis1], shape[axis2] = shape[axis2], shape[axis1]
        strides[axis1], strides[axis2] = strides[axis2], strides[axis1]
        return self.view_of(tuple(shape), tuple(strides))

    def reshape(self, *shape: Any, order: str = "C", copy: bool | None = None) -> ShapeArray:
        """See `numpy.ndarray.reshape`: a view where the layout allows, else a copy."""
        if order != "C":
            raise not_known(f"reshape with order={order!r}")
        wanted = as_shape(shape[0] if len(shape) == 1 else shape)
        new_shape = resolve_shape(self.size, wanted)
        if new_shape is None:
            raise_like_numpy(np.reshape, stand_in(self.shape), wanted)
        strides = view_strides(self.shape, self.strides, self.dtype.itemsize, new_shape)
        if strides is not None and not copy:
            return self.view_of(new_shape, strides)
        if strides is None and copy is False:
            raise ValueError("Unable to avoid creating a copy while reshaping.")
        result = new(new_shape, self.dtype)
        report("copy", (self,), (result,), 0)
        return result

    def ravel(self, order: str = "C") -> ShapeArray:
        """See `numpy.ndarray.ravel`: a view of contiguous entries, else a copy."""
        if order != "C":
            raise not_known(f"ravel with order={order!r}")
        return self.reshape(-1, copy=None if self.flags.c_contiguous else True)

    def flatten(self) -> ShapeArray:
        """See `numpy.ndarray.flatten`: always a copy."""
        return self.reshape(-1, copy=True)

    # -- copies -------------------------------------------------------------------------------------

    def copy(self, order: str = "C") -> ShapeArray:
        """See `numpy.ndarray.copy`."""
        return self._copied("copy", self.dtype, order)

    def astype(
        self,
        dtype: DTypeLike,
        order: str = "K",
        casting: Any = "unsafe",
        subok: bool = True,
        copy: bool = True,
    ) -> ShapeArray:
        """See `numpy.ndarray.astype`."""
        to = np.dtype(dtype)
        if to == self.dtype and not copy:
            return self
        if casting != "unsafe" and not np.can_cast(self.dtype, to, casting):
            raise_like_numpy(np.ndarray.astype, self, to, casting=casting)
        return self._copied("astype", to, order)

    def _copied(self, name: str, dtype: np.dtype[Any], order: str) -> ShapeArray:
        if order not in ("C", "K"):
            raise not_known(f"{name} with order={order!r}")
        strides = None
        if order == "K":
            own = like_order(self.shape, self.strides, self.dtype.itemsize)
            strides = tuple(step * dtype.itemsize // self.dtype.itemsize for step in own)
        result = new(self.shape, dtype, strides)
        report(name, (self,), (result,), 0)
        return result


def new(shape: Shape, dtype: np.dtype[Any], strides: Strides | None = None) -> ShapeArray:
    """Return an array on memory of its own; in C order, unless `strides` say how it lies."""
    array = ShapeArray.__new__(ShapeArray)
    array.shape, array.dtype = shape, dtype
    array.strides = c_strides(shape, dtype.itemsize) if strides is None else strides
    array.storage, array.offset, array.base = Storage(math.prod(shape) * dtype.itemsize), 0, None
    array.writeable = True
    return array


def entries_of(array: Any, shape: Shape) -> ShapeArray:
    """Return `array.entries(shape)`, also of a real array."""
    return array.entries(shape) if isinstance(array, ShapeArray) else new(shape, array.dtype)
