"""What an index selects: a view, by whole numbers and slices, or chosen entries, by arrays."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from tpsim.dry.errors import no_data, raise_like_numpy, stand_in
from tpsim.dry.layout import Shape, Strides, c_strides, kept_order, like_order


@dataclass(frozen=True, slots=True)
class View:
    """A part of the same memory, `offset` bytes from where it began."""

    shape: Shape
    strides: Strides
    offset: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """Entries from anywhere, to be copied together; `indices` are the arrays that say which."""

    shape: Shape
    strides: Strides
    indices: tuple[Any, ...]


def select(shape: Shape, strides: Strides, itemsize: int, key: Any) -> View | Chosen:
    """Return what `array[key]` is, for an array of this layout.

    Raises
    ------
    IndexError
        NumPy's own, if the key does not fit.
    TypeError
        If the result's shape depends on values that nobody has.
    """
    keys = key if isinstance(key, tuple) else (key,)
    view = _basic(shape, strides, keys)
    return view if view is not None else _advanced(shape, strides, itemsize, keys)


def _basic(shape: Shape, strides: Strides, keys: tuple[Any, ...]) -> View | None:
    """Return the view, or None if there are arrays among the keys."""
    new_shape: list[int] = []
    new_strides: list[int] = []
    offset = axis = 0
    seen_ellipsis = False
    for key in keys:
        if type(key) is slice:
            if axis == len(shape):
                _raise_index_error(shape, keys)
            start, stop, step = key.indices(shape[axis])
            length = len(range(start, stop, step))
            new_shape.append(length)
            new_strides.append(strides[axis] * step)
            if length:
                offset += start * strides[axis]
            axis += 1
        elif key is None:
            new_shape.append(1)
            new_strides.append(0)
        elif key is Ellipsis:
            if seen_ellipsis:
                _raise_index_error(shape, keys)
            seen_ellipsis = True
            rest = len(shape) - axis - _consumed(keys[keys.index(Ellipsis) + 1 :])
            if rest < 0:
                _raise_index_error(shape, keys)
            new_shape += shape[axis : axis + rest]
            new_strides += strides[axis : axis + rest]
            axis += rest
        elif _is_whole_number(key):
            if axis == len(shape):
                _raise_index_error(shape, keys)
            place = operator.index(key)
            if not -shape[axis] <= place < shape[axis]:
                _raise_index_error(shape, keys)
            offset += place % shape[axis] * strides[axis]
            axis += 1
        else:
            return None
    return View((*new_shape, *shape[axis:]), (*new_strides, *strides[axis:]), offset)


def _advanced(shape: Shape, strides: Strides, itemsize: int, keys: tuple[Any, ...]) -> Chosen:
    """Return the entries that arrays among the keys choose.

    All arrays (and whole numbers) are broadcast together. The axes that they make stand where the arrays
    stood, or in front of the others if a slice stood between two of them.
    """
    items = _whole_key(shape, keys)
    indices: list[Any] = []
    lengths: list[int] = []  # of the axes that they index
    places: list[int] = []  # of the indices among the items
    rest_shape: list[int] = []
    rest_strides: list[int] = []
    at = axis = 0
    for place, item in enumerate(items):
        if item is Ellipsis:
            continue
        if item is None:
            rest_shape.append(1)
            rest_strides.append(0)
            continue
        if isinstance(item, slice):
            start, stop, step = item.indices(shape[axis])
            rest_shape.append(len(range(start, stop, step)))
            rest_strides.append(strides[axis] * step)
        else:
            at = at if places else len(rest_shape)
            places.append(place)
            indices.append(item)
            lengths.append(shape[axis])
        axis += 1
    if places[-1] - places[0] >= len(places):
        at = 0
    try:
        chosen = np.broadcast_shapes(*(index.shape for index in indices))
    except ValueError:
        _raise_index_error(shape, keys)
    for index, length in zip(indices, lengths, strict=True):
        # Where nothing is chosen, NumPy looks at single numbers only.
        if not (0 in chosen and index.ndim) and not _is_within(index, length):
            _raise_index_error(shape, keys)

    rest = tuple(rest_shape)
    if any(isinstance(item, slice) for item in items) and math.prod(rest) != 1:
        inner = like_order(rest, tuple(rest_strides), itemsize)
        outer = c_strides(chosen, itemsize * (math.prod(rest) or 1))
    else:
        inner = (itemsize,) * len(rest)
        outer = kept_order(chosen, itemsize, tuple((i.shape, i.strides) for i in indices))
    return Chosen(
        (*rest[:at], *chosen, *rest[at:]),
        (*inner[:at], *outer, *inner[at:]),
        tuple(index for index in indices if index.ndim),
    )


def _whole_key(shape: Shape, keys: tuple[Any, ...]) -> list[Any]:
    """Return a slice or an array of whole numbers for each axis, and None for new ones.

    An Ellipsis that stands for no axis is kept: it separates arrays as a slice does.
    """
    ellipses = [place for place, key in enumerate(keys) if key is Ellipsis]
    missing = len(shape) - _consumed(keys)
    if missing < 0 or len(ellipses) > 1:
        _raise_index_error(shape, keys)
    fill: list[Any] = [slice(None)] * missing or [Ellipsis] * len(ellipses)
    cut = ellipses[0] if ellipses else len(keys)
    items: list[Any] = []
    for key in (*keys[:cut], *fill, *keys[cut + 1 :]):
        if key is None or key is Ellipsis or isinstance(key, slice):
            items.append(key)
            continue
        index = _as_array(key)
        if index.dtype == np.bool_:
            if not isinstance(index, np.ndarray):
                raise no_data(
                    f"indexing by a mask of shape {index.shape}",
                    "how many entries it chooses depends on values: use np.where, which keeps the shape",
                )
            start = _consumed(tuple(items))
            if index.ndim == 0 or index.shape != shape[start : start + index.ndim]:
                _raise_index_error(shape, keys)
            items += index.nonzero()
        elif index.dtype.kind in "iu":
            items.append(index)
        else:
            _raise_index_error(shape, keys)
    return items


def _consumed(keys: tuple[Any, ...]) -> int:
    """Return how many axes the keys speak of."""
    return sum(_axes(key) for key in keys)


def _axes(key: Any) -> int:
    if key is None or key is Ellipsis:
        return 0
    if isinstance(key, slice) or _is_whole_number(key):
        return 1
    array = _as_array(key)
    return array.ndim if array.dtype == np.bool_ else 1


def _as_array(key: Any) -> Any:
    """Return an array of indices as it is, and a list of them as a real array."""
    if hasattr(key, "storage"):
        return key
    array = np.asarray(key)
    return array.astype(np.intp) if isinstance(key, list) and not key else array


def _is_whole_number(key: Any) -> bool:
    return type(key) is int or isinstance(key, np.integer)


def _is_within(index: Any, length: int) -> bool:
    """Whether all indices exist; those without data are believed."""
    if not isinstance(index, np.ndarray):
        return length > 0
    return bool(-length <= index.min() and index.max() < length)


def _raise_index_error(shape: Shape, keys: tuple[Any, ...]) -> NoReturn:
    """Raise what NumPy raises for this key."""
    raise_like_numpy(operator.getitem, stand_in(shape), keys)
