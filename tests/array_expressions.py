"""Hypothesis strategies for expressions of NumPy: operations, one by one, on arrays that there are so far."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import note
from hypothesis import strategies as st

from tpsim.dry import ShapeArray

DTYPES = [
    *map(np.dtype, ("bool", "uint8", "int32", "int64", "float16", "float32", "float64", "complex64")),
    *map(np.dtype, (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn)),
]
Operation = Callable[[Sequence[Any]], Any]
"""Takes the arrays that there are so far, real or without data."""

dtypes = st.sampled_from(DTYPES)
shapes = st.lists(st.sampled_from([0, 1, 1, 2, 2, 2, 3, 3, 4]), max_size=4).map(tuple)
axes = st.integers(-4, 3)
scalars: st.SearchStrategy[Any] = st.sampled_from(
    [0, 1, 5, -3, 300, 70000, 1.5, -2.0, True, 2j, np.float32(3), np.float64(3), np.int8(3)]
)


@st.composite
def keys(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """An index that mostly fits the shape: whole numbers, slices, an ellipsis, new axes, arrays, masks."""
    bound = st.integers(-5, 5) | st.none()
    step = st.sampled_from([None, 1, 2, -1, -2])
    items: list[Any] = []
    for n in shape[: draw(st.integers(0, len(shape)))]:
        kind = draw(st.sampled_from(["slice"] * 4 + ["int"] * 2 + ["array", "list", "mask"]))
        if 0 in shape:
            kind = "slice"
        if kind == "slice":
            items.append(slice(draw(bound), draw(bound), draw(step)))
        elif kind == "int":
            items.append(draw(st.integers(-n - (draw(st.integers(0, 9)) == 0), max(n - 1, 0))))
        elif kind == "mask":
            items.append(np.array([draw(st.booleans()) for _ in range(n)], bool))
        else:
            of = draw(st.sampled_from([(), (1,), (2,), (3,), (2, 1), (2, 3), (3, 2)]))
            array = np.full(of, draw(st.integers(-n, n - 1)) if n else 0)
            array = array.T if draw(st.booleans()) else array
            items.append(array.tolist() if kind == "list" and of else array)
        if draw(st.integers(0, 6)) == 0:
            items.append(None)
    masks = [item for item in items if isinstance(item, np.ndarray) and item.dtype == np.bool_]
    if not masks and draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), ...)
    return tuple(items)


def binary(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    names = (
        "add subtract multiply divide floor_divide maximum less equal logical_and copysign arctan2 bitwise_or"
    )
    ufunc = getattr(np, draw(st.sampled_from(names.split())))
    a = pick(draw, arrays)
    b = draw(scalars) if draw(st.booleans()) else pick(draw, arrays)
    out = pick(draw, arrays) if draw(st.integers(0, 3)) == 0 else None
    order = draw(st.booleans())

    def run(given: Sequence[Any]) -> Any:
        x, y = given[a], given[b.at] if isinstance(b, Place) else b
        into = {} if out is None else {"out": given[out]}
        return ufunc(x, y, **into) if order else ufunc(y, x, **into)

    return run


class Place(int):
    """A place among the arrays so far, apart from whole numbers."""

    @property
    def at(self) -> int:
        return int(self)


def pick(draw: st.DrawFn, arrays: Sequence[Any]) -> Place:
    return Place(draw(st.integers(0, len(arrays) - 1)))


def in_place(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    function = draw(st.sampled_from([operator.iadd, operator.isub, operator.imul, operator.itruediv]))
    a, b, number = pick(draw, arrays), pick(draw, arrays), draw(scalars | st.none())
    return lambda given: function(given[a], given[b] if number is None else number)


def unary(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    names = "negative exp sqrt tanh isnan isfinite abs square sign modf frexp logical_not cos"
    ufunc, a = getattr(np, draw(st.sampled_from(names.split()))), pick(draw, arrays)
    return lambda given: ufunc(given[a])


def matmul(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    a, b = pick(draw, arrays), pick(draw, arrays)
    flip = draw(st.booleans())
    return lambda given: given[a] @ (given[b].T if flip else given[b])


def product(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    a, b = pick(draw, arrays), pick(draw, arrays)
    if "V" in (arrays[a].dtype.kind, arrays[b].dtype.kind):  # NumPy makes Python objects of two of ml_dtypes'
        b = a
    functions: list[Any] = [np.outer, np.tensordot, np.multiply.outer]
    if arrays[a].ndim and arrays[b].ndim:
        functions += [np.dot, np.inner]
    how: Any = draw(st.sampled_from(functions))
    if how is np.tensordot:
        return lambda given: np.tensordot(given[a], given[b].T, 1)
    return lambda given: how(given[a], given[b].T if how is np.dot else given[b])


def reduction(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    names = "sum prod max min all any mean var std argmax argmin count_nonzero"
    name, a = draw(st.sampled_from(names.split())), pick(draw, arrays)
    one = st.integers(-arrays[a].ndim - 1, arrays[a].ndim)
    several = st.none() | one | st.lists(one, max_size=2).map(tuple)
    options: dict[str, Any] = {"axis": draw(st.none() | one if name.startswith("arg") else several)}
    if draw(st.booleans()):
        options["keepdims"] = draw(st.booleans())
    if name in ("sum", "prod", "mean") and draw(st.booleans()):
        options["dtype"] = draw(dtypes)
    if name == "count_nonzero":
        return lambda given: (
            np.asarray(np.count_nonzero(given[a], **options))
            if isinstance(given[a], np.ndarray)
            else np.count_nonzero(given[a], **options)
        )
    method = draw(st.booleans())
    out = (
        pick(draw, arrays) if name in ("sum", "max", "all", "mean") and draw(st.integers(0, 4)) == 0 else None
    )

    def run(given: Sequence[Any]) -> Any:
        into = {} if out is None else {"out": given[out]}
        if method:
            return getattr(given[a], name)(**options, **into)
        return getattr(np, name)(given[a], **options, **into)

    return run


def running(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    function: Any = draw(st.sampled_from([np.cumsum, np.cumprod, np.sort, np.argsort, np.add.accumulate]))
    a, axis = pick(draw, arrays), draw(axes)
    return lambda given: function(given[a], axis=axis)


def reshape(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    a = pick(draw, arrays)
    size, shape = arrays[a].size, []
    while size > 1 and draw(st.integers(0, 3)):
        n = draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
        shape.append(n)
        size //= n
    shape.append(size)
    shape = draw(st.permutations(shape))
    if draw(st.booleans()):
        shape[draw(st.integers(0, len(shape) - 1))] = -1
    if draw(st.integers(0, 9)) == 0:
        shape = draw(st.lists(st.integers(-1, 4), max_size=3))
    return lambda given: given[a].reshape(*shape) if len(shape) > 1 else np.reshape(given[a], tuple(shape))


def view(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    a = pick(draw, arrays)
    ndim = arrays[a].ndim
    i, j = draw(axes), draw(axes)
    order = draw(st.permutations(range(ndim)))
    shape = (*draw(st.sampled_from([(), (2,), (3, 1)])), *arrays[a].shape)
    functions: list[Operation] = [
        lambda given: given[a].T,
        lambda given: given[a].transpose(*order),
        lambda given: given[a].transpose(i, j),
        lambda given: np.transpose(given[a], order),
        lambda given: np.swapaxes(given[a], i, j),
        lambda given: np.moveaxis(given[a], i, j),
        lambda given: np.expand_dims(given[a], i),
        lambda given: np.squeeze(given[a]),
        lambda given: np.squeeze(given[a], axis=i),
        lambda given: np.flip(given[a], i),
        lambda given: np.ravel(given[a]),
        lambda given: given[a].flatten(),
        lambda given: np.broadcast_to(given[a], shape),
        lambda given: np.broadcast_to(given[a], (2, 3)),
        lambda given: np.split(given[a], 2, axis=i),
        lambda given: np.split(given[a], [1, 2], axis=i),
        lambda given: np.array_split(given[a], 3, axis=i),
        lambda given: list(given[a]),
        lambda given: np.atleast_1d(given[a]),
        lambda given: given[a].mT,
    ]
    return draw(st.sampled_from(functions))


def getitem(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    a = pick(draw, arrays)
    key = draw(keys(arrays[a].shape))
    hide = draw(st.booleans()) and not any(item is ... for item in key)  # which may move arrays
    key = key[0] if len(key) == 1 and draw(st.booleans()) else key
    return lambda given: given[a][hidden(key) if hide and isinstance(given[a], ShapeArray) else key]


def hidden(key: Any) -> Any:
    """Return an index with its arrays of whole numbers without their data."""
    if isinstance(key, tuple):
        return tuple(map(hidden, key))
    if isinstance(key, np.ndarray) and key.dtype != np.bool_:
        return (
            ShapeArray(key.shape[::-1], key.dtype).T
            if key.flags.f_contiguous
            else ShapeArray(key.shape, key.dtype)
        )
    return key


def setitem(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    a, b = pick(draw, arrays), pick(draw, arrays)
    key, number = draw(keys(arrays[a].shape)), draw(st.sampled_from([None, 0, 1.5]))
    key = key if any(item is ... for item in key) else (*key, ...)  # no index of a single scalar
    increase = draw(st.booleans())

    def run(given: Sequence[Any]) -> Any:
        value = given[b] if number is None else number
        if increase:
            given[a][key] += value
        else:
            given[a][key] = value
        return given[a]

    return run


def joining(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    few = [pick(draw, arrays) for _ in range(draw(st.integers(1, 3)))]
    if draw(st.booleans()):
        few = [few[0]] * len(few)
    function: Any = draw(st.sampled_from([np.concatenate, np.stack]))
    axis = draw(axes)
    return lambda given: function([given[a] for a in few], axis=axis)


def choosing(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    a, b, c = (pick(draw, arrays) for _ in range(3))
    number, axis = draw(scalars), draw(axes)
    low, high = draw(st.sampled_from([(0, 1), (0.0, None), (None, 2), (-1, 1.5)]))
    index = np.zeros(draw(st.sampled_from([(), (2,), (3, 2), (1, 1)])), np.int64)
    along = np.zeros((*arrays[a].shape[:-1], draw(st.integers(1, 3)) * (0 not in arrays[a].shape)), np.int64)
    functions: list[Operation] = [
        lambda given: np.where(given[a], given[b], given[c]),
        lambda given: np.where(given[a], given[b], number),
        lambda given: np.where(given[a], number, given[b]),
        lambda given: np.clip(given[a], low, high),
        lambda given: np.take(given[a], index, axis=axis),
        lambda given: np.take_along_axis(given[a], along, axis=-1),
        lambda given: np.put_along_axis(given[a], along, given[b] if along.size else number, axis=-1),
        lambda given: np.copyto(given[a], given[b]),
        lambda given: np.copyto(given[a], number),
        lambda given: np.repeat(given[a], 2, axis=axis),
        lambda given: np.tile(given[a], (2, 1)),
        lambda given: np.pad(given[a], ((1, 2),)),
        lambda given: np.roll(given[a], 1, axis=axis),
        lambda given: np.tril(given[a]),
        lambda given: np.triu(given[a], 1),
        lambda given: np.round(given[a]) if given[a].dtype.kind != "c" else given[a],
        lambda given: np.add.at(given[a].copy(), along[..., 0] if along.ndim == 1 else (0,), number),
    ]
    return draw(st.sampled_from(functions))


def copying(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    a, dtype, shape = pick(draw, arrays), draw(dtypes), draw(shapes)
    order: Any = draw(st.sampled_from("CK"))
    functions: list[Operation] = [
        lambda given: given[a].astype(dtype),
        lambda given: given[a].astype(dtype, copy=False),
        lambda given: given[a].astype(dtype, casting="safe"),
        lambda given: given[a].copy(order),
        lambda given: np.copy(given[a]),
        lambda given: np.zeros_like(given[a]),
        lambda given: np.empty_like(given[a], dtype=dtype),
        lambda given: np.ones_like(given[a], shape=shape),
        lambda given: np.full_like(given[a], 3, dtype=dtype, shape=shape),
        lambda given: np.empty(shape, dtype, like=given[a]),
        lambda given: np.zeros(shape, like=given[a]),
        lambda given: np.arange(5, like=given[a]),
        lambda given: np.arange(1, 9, 2, dtype=np.float64, like=given[a]),
        lambda given: np.arange(0.5, 3, like=given[a]),
    ]
    return draw(st.sampled_from(functions))


OPERATIONS = [
    *(binary, in_place, unary, matmul, product, reduction, running, reshape, reshape, view, view, view),
    *(getitem, getitem, setitem, joining, choosing, copying),
]


@st.composite
def operations(draw: st.DrawFn, arrays: Sequence[Any]) -> Operation:
    """An operation that mostly fits the (real) arrays that there are."""
    make: Callable[..., Operation] = draw(st.sampled_from(OPERATIONS))
    note(make.__name__)
    return make(draw, arrays)
