"""What is called: the very functions that layers call, over sizes that lie in a cache and outside of it.

Operands are views into one long array of random numbers, further along it with every call: what a layer
reads was written a while ago, and is not in the closest cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tpsim import functional as F
from tpsim.comm import Group
from tpsim.cost.stacks import NUMPY, launches
from tpsim.cost.stacks.numpy_calls import family
from tpsim.cost.work import Collective, Gemm, Layout, Pointwise, Work
from tpsim.dry import ShapeArray
from tpsim.functional import causal_mask
from tpsim.nn.parameter import accumulate
from tpsim.studies.calibrate.timing import Call
from tpsim.trace import Trace
from tpsim.train.optimizer import adamw

Array = NDArray[Any]
Shape = tuple[int, ...]

_WINDOW = 4 << 20  # bytes among which operands move


@dataclass(frozen=True)
class Case:
    """A call, and the work that it is for a `Hardware`."""

    work: Work
    call: Call


class Pool:
    """Random numbers, of which operands are views.

    Parameters
    ----------
    dtype : str
    elements : int
        Of the longest operand.
    """

    def __init__(self, dtype: str, elements: int) -> None:
        self.dtype = np.dtype(dtype)
        size = max(elements, _WINDOW // self.dtype.itemsize)
        self._numbers = np.random.default_rng(0).standard_normal(size, dtype=np.float32).astype(self.dtype)

    def views(self, shape: Shape) -> list[Array]:
        """Return operands of one shape, one after another along the window."""
        size = math.prod(shape)
        count = max(1, min(64, _WINDOW // (size * self.dtype.itemsize)))
        return [self._numbers[i * size : (i + 1) * size].reshape(shape) for i in range(count)]


# --- passes over arrays -------------------------------------------------------------------------------------

Function = Callable[..., Any]
Operands = Callable[[int, int], Sequence[Shape]]


@dataclass(frozen=True)
class Family:
    """A function, and the shapes of its operands for a matrix of [rows, width].

    One that writes to its operands gets positive ones of its own.
    """

    function: Function
    operands: Operands
    writes: bool = False


def _alike(count: int) -> Operands:
    return lambda rows, width: [(rows, width)] * count


def _normed(*rest: str) -> Operands:
    """x, then a vector of its "width", statistics of its "rows", or another array "like" it."""

    def shapes(rows: int, width: int) -> Sequence[Shape]:
        of = {"width": (width,), "rows": (rows, 1), "like": (rows, width)}
        return [(rows, width), *(of[kind] for kind in rest)]

    return shapes


def _heads(rows: int, width: int) -> Shape:
    """[b, a, s, d] with d = 16."""
    return 1, max(1, width // 16), rows, 16


def _square(rows: int, width: int) -> Sequence[Shape]:
    return [(math.isqrt(rows * width),) * 2]


def _scatter(values: Any) -> Any:
    table = np.zeros_like(values)
    np.add.at(table.reshape(-1), np.arange(values.size, like=values), values.reshape(-1))
    return table


def _first_column(x: Any) -> Any:
    return np.zeros_like(x[:, :1], dtype=np.int64)


FAMILIES: dict[str, Family] = {
    "accumulate": Family(accumulate, _alike(2)),
    "adamw": Family(
        lambda w, g, m, v: adamw(w, g, m, v, lr=1e-9, betas=(0.9, 0.95), eps=1.0, decay=0.1, step=9),
        _alike(4),
        writes=True,
    ),
    "add": Family(np.add, _alike(2)),
    "add.at": Family(_scatter, _alike(1)),
    "astype": Family(lambda x: x.astype(ml_dtypes.bfloat16), _alike(1)),
    "bias_grad": Family(F.bias_grad, _alike(1)),
    "causal_mask": Family(lambda x: causal_mask(x.shape[0], x.shape[1], like=x), _square),
    "concatenate": Family(lambda x, y: np.concatenate([x, y], axis=-1), _alike(2)),
    "copy": Family(lambda x: x.transpose(0, 2, 1, 3).copy(), lambda rows, width: [_heads(rows, width)]),
    "dropout": Family(lambda x: F.dropout(x, x > 0, 0.1), _alike(1)),
    "exp": Family(np.exp, _alike(1)),
    "gelu": Family(F.gelu, _alike(1)),
    "gelu_grad": Family(F.gelu_grad, _alike(2)),
    "gelu_tanh": Family(F.gelu_tanh, _alike(1)),
    "gelu_tanh_grad": Family(F.gelu_tanh_grad, _alike(2)),
    "layer_norm": Family(lambda x, w, b: F.layer_norm(x, w, b, 1e-5), _normed("width", "width")),
    "layer_norm_grad": Family(F.layer_norm_grad, _normed("width", "rows", "rows", "like")),
    "max": Family(lambda x: np.max(x, axis=-1), _alike(1)),
    "put_along_axis": Family(lambda x: np.put_along_axis(x, _first_column(x), x[:, :1], axis=-1), _alike(1)),
    "rms_norm": Family(lambda x, w: F.rms_norm(x, w, 1e-5), _normed("width")),
    "rms_norm_grad": Family(F.rms_norm_grad, _normed("width", "rows", "like")),
    "rotary": Family(F.rotary, lambda rows, width: [_heads(rows, width), (rows, 8), (rows, 8)]),
    "rotary_tables": Family(lambda x: F.rotary_tables(x.shape[0], x.shape[1], 10_000.0, x), _alike(1)),
    "silu": Family(F.silu, _alike(1)),
    "silu_grad": Family(F.silu_grad, _alike(2)),
    "softmax": Family(F.softmax, _alike(1)),
    "softmax_grad": Family(F.softmax_grad, _alike(2)),
    "square_sum": Family(lambda x: float(np.square(x, dtype=np.float64).sum()), _alike(1)),
    "sum": Family(lambda x: np.sum(x, axis=-1), _alike(1)),
    "swiglu": Family(F.swiglu, _alike(2)),
    "swiglu_grad": Family(F.swiglu_grad, _alike(3)),
    "take": Family(lambda x: np.take(x, np.arange(len(x), like=x), axis=0), _alike(1)),
    "take_along_axis": Family(lambda x: np.take_along_axis(x, _first_column(x), axis=-1), _alike(1)),
    "where": Family(lambda x: np.where(x[:, :1] > 0, x, 0), _alike(1)),
}
"""By the name that a record, or `stacks.numpy_calls`, has for it."""

_UNRECORDED = {"causal_mask": 1, "square_sum": 1}  # several records, or none: arrays read or written


def passes(pool: Pool, sizes: Sequence[tuple[int, int]]) -> Iterator[Case]:
    """Yield every family at every size, [rows, width]."""
    for name, entry in FAMILIES.items():
        for rows, width in sizes:
            shapes = entry.operands(rows, width)
            yield Case(_work(name, entry, shapes, pool.dtype.name), _turning(entry, pool, shapes))


def _work(name: str, entry: Family, shapes: Sequence[Shape], dtype: str) -> Pointwise:
    """Return what the numpy stack makes of the function's record."""
    if name in _UNRECORDED:
        (rows, width), size = shapes[0], np.dtype(dtype).itemsize
        return Pointwise(family(name, dtype), rows, width, _UNRECORDED[name] * rows * width * size, dtype)
    with Trace(kernels=True) as trace:
        entry.function(*(ShapeArray(shape, dtype) for shape in shapes))
    return next(
        launch.work
        for launch in launches(trace, NUMPY)
        if isinstance(launch.work, Pointwise) and launch.call == name
    )


def _turning(entry: Family, pool: Pool, shapes: Sequence[Shape]) -> Call:
    """Return a call with other operands each time."""
    views = {shape: pool.views(shape) for shape in shapes}
    count = min(map(len, views.values()))
    operands = [
        [views[shape][(turn + 3 * place) % count] for place, shape in enumerate(shapes)]
        for turn in range(count)
    ]
    if entry.writes:
        operands = [[np.abs(array) for array in of_turn] for of_turn in operands]
    return lambda number: entry.function(*operands[number % count])


# --- products -----------------------------------------------------------------------------------------------


def products(pool: Pool, sizes: Sequence[tuple[int, int, int]], batch: int = 1) -> Iterator[Case]:
    """Yield products of (m, n, k) in the three layouts, as layers compute them."""
    for m, n, k in sizes:
        operands = [pool.views((batch, *shape)) for shape in ((m, k), (k, n), (m, n))]
        for layout, call in _layouts(*operands).items():
            yield Case(Gemm(m, n, k, layout, pool.dtype.name, batch), call)


def _layouts(xs: list[Array], weights: list[Array], dys: list[Array]) -> dict[Layout, Call]:
    """Return the three products. Operands are never one array, of whose product NumPy computes half."""

    def x(number: int) -> Array:
        return xs[number % len(xs)]

    def dy(number: int) -> Array:
        return dys[(number + 1) % len(dys)]

    def weight(number: int) -> Array:
        return weights[(number + 2) % len(weights)]

    return {
        "forward": lambda i: x(i) @ weight(i),
        "dgrad": lambda i: dy(i) @ weight(i).swapaxes(-1, -2),
        "wgrad": lambda i: x(i).swapaxes(-1, -2) @ dy(i),
    }


# --- collectives --------------------------------------------------------------------------------------------


def messages(group: Group, sizes: Sequence[int]) -> Iterator[Case]:
    """Yield a group's collectives over so many float32, as layers call them."""
    ranks = group.size
    pool = Pool("float32", max(sizes) + ranks)
    for elements in sizes:
        part = -(-elements // ranks)
        nbytes = 4 * ranks * part
        for operation, size in (
            ("all_reduce", ranks * part),
            ("all_gather", part),
            ("reduce_scatter", ranks * part),
            ("broadcast", ranks * part),
        ):
            yield Case(
                Collective(operation, nbytes, ranks), _sending(getattr(group, operation), pool.views((size,)))
            )


def _sending(collective: Function, arrays: list[Array]) -> Call:
    return lambda number: collective(arrays[number % len(arrays)])
