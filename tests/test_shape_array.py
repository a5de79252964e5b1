"""Arrays without data do what NumPy does: every expression has NumPy's shape, dtype, layout, or error."""

import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from array_expressions import Operation, dtypes, keys, operations, shapes
from hypothesis import given, note, settings
from hypothesis import strategies as st
from numpy.lib.array_utils import byte_bounds

from tpsim import functional as F
from tpsim.dry import ShapeArray, kernel
from tpsim.trace import Trace


def outcome(operation: Operation, arrays: Sequence[Any]) -> Any:
    """Return the result, or the type of the error."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return operation(arrays)
        except Exception as error:
            return error


def described(x: Any) -> Any:
    """Return what can be seen of a result without its data."""
    if isinstance(x, tuple | list):
        return [described(one) for one in x]
    if isinstance(x, Exception):
        return type(x)
    if not hasattr(x, "dtype"):
        return x
    strides = getattr(x, "strides", ())
    seen = [step for n, step in zip(x.shape, strides, strict=True) if n > 1] if x.size else None
    return x.shape, x.dtype, seen


def pairs(expected: Any, found: Any) -> list[tuple[Any, Any]]:
    """Return the arrays of both results; a NumPy scalar shares no memory, so that its pair must not."""
    if isinstance(expected, tuple | list):
        return [pair for both in zip(expected, found, strict=True) for pair in pairs(*both)]
    if isinstance(expected, np.generic):
        return [(np.asarray(expected), ShapeArray((), expected.dtype))]
    return [(expected, found)] if isinstance(expected, np.ndarray) else []


def shared(x: Any, arrays: Sequence[Any]) -> list[bool]:
    return [np.may_share_memory(x, one) for one in arrays if x.size and one.size]


@given(st.data())
@settings(max_examples=600)
def test_every_expression_has_numpys_shape_dtype_layout_and_errors(data: st.DataObject) -> None:
    drawn = data.draw(st.lists(st.tuples(shapes, dtypes), min_size=1, max_size=3))
    reals: list[Any] = [np.ones(*one) for one in drawn]
    dry: list[Any] = [ShapeArray(*one) for one in drawn]
    for _ in range(data.draw(st.integers(1, 8))):
        operation = data.draw(operations(reals))
        expected, found = outcome(operation, reals), outcome(operation, dry)
        note(f"{expected!r} and {found!r}")
        assert described(found) == described(expected)
        for one, other in pairs(expected, found):
            assert shared(other, dry) == shared(one, reals)
            reals.append(one)
            dry.append(other)


@pytest.mark.parametrize("number", [2, -3, np.intp(2), np.array(2), np.array([2]), -2], ids=repr)
def test_whole_numbers_must_exist_though_arrays_beside_them_choose_nothing(number: Any) -> None:
    def choose(arrays: Sequence[Any]) -> Any:
        return arrays[0][np.zeros((0, 1), np.intp), number]

    found, expected = outcome(choose, [ShapeArray((3, 2))]), outcome(choose, [np.ones((3, 2))])
    assert described(found) == described(expected)


@given(st.data(), shapes, dtypes)
def test_a_view_lies_at_numpys_bytes(data: st.DataObject, shape: tuple[int, ...], dtype: Any) -> None:
    base = np.ones(shape, dtype)
    array: Any = base
    dry: Any = ShapeArray(shape, dtype)
    for _ in range(data.draw(st.integers(1, 3))):
        key = (*[k for k in data.draw(keys(array.shape)) if k is None or isinstance(k, slice)], ...)
        order = data.draw(st.permutations(range(array[key].ndim)))
        array, dry = array[key].transpose(order), dry[key].transpose(order)
    storage, start, stop = dry.memory()
    assert storage.nbytes == base.nbytes
    if array.size:
        assert (start, stop) == tuple(b - byte_bounds(base)[0] for b in byte_bounds(array))
    else:
        assert start == stop


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@given(st.data())
@settings(max_examples=10)
def test_every_pair_of_functional_gives_the_real_runs_shapes_and_dtypes(
    dtype: str, data: st.DataObject
) -> None:
    small = st.integers(1, 3)
    batch, kv_heads, share, seq, half = (data.draw(small) for _ in range(5))
    rows, heads = (batch, seq, 2 * half), (batch, kv_heads * share, seq, 2 * half)

    def run(make: Callable[..., Any]) -> list[Any]:
        x, dy, w = make(rows, dtype), make(rows, dtype), make((2 * half,), dtype)
        matrix = make((2 * half, 3), dtype)
        q, k = make(heads, dtype), make((batch, kv_heads, seq, 2 * half), dtype)
        tokens = make((batch, seq), np.int64)
        cos, sin = F.rotary_tables(seq, 2 * half, 1e4, like=q)
        y, mean, rstd = F.layer_norm(x, w, w, 1e-5)
        z, inverse = F.rms_norm(x, w, 1e-5)
        loss, p = F.cross_entropy(x, tokens * 0)
        out, probabilities = F.attention(q, k, k, causal=True, scale=0.5)
        linear = F.linear(x, matrix, matrix[0])
        results = [
            *(y, mean, rstd, z, inverse, loss, p, out, probabilities, cos, sin, linear),
            *F.linear_grad(x, matrix, linear),
            *F.layer_norm_grad(x, w, mean, rstd, dy),
            *F.rms_norm_grad(x, w, inverse, dy),
            *F.attention_grad(q, k, k, probabilities, out, scale=0.5),
            F.cross_entropy_grad(p, tokens * 0, loss),
            F.softmax(x),
            F.softmax_grad(F.softmax(x), dy),
            F.rotary(q, cos, sin),
            F.rotary_grad(q, cos, sin),
            F.dropout(x, make(rows, np.bool_), 0.1),
        ]
        results += [function(x) for function in (F.gelu, F.gelu_tanh, F.silu, F.erf)]
        results += [function(x, dy) for function in (F.gelu_grad, F.gelu_tanh_grad, F.silu_grad, F.swiglu)]
        return [*results, *F.swiglu_grad(x, x, dy)]

    assert described(run(ShapeArray)) == described(run(np.ones))


OTHERS: dict[str, Operation] = {
    "einsum": lambda given: np.einsum("bij,kj->bik", given[0], given[1]),
    "einsum of a trace": lambda given: np.einsum("ii", given[1] @ given[1].T),
    "einsum, implicit": lambda given: np.einsum("ba,bc", given[1], given[1]),
    "einsum of axes that differ": lambda given: np.einsum("bij,ij->b", given[0], given[0][0].T),
    "einsum of too few axes": lambda given: np.einsum("bij->b", given[1]),
    "tensordot": lambda given: np.tensordot(given[0], given[1], axes=([2], [1])),
    "tensordot of one axis": lambda given: np.tensordot(given[0], given[1], axes=(-1, -1)),
    "tensordot of axes that differ": lambda given: np.tensordot(given[0], given[1], axes=1),
    "vstack": lambda given: np.vstack([given[1], given[2]]),
    "hstack": lambda given: np.hstack([given[1], given[1]]),
    "hstack of vectors": lambda given: np.hstack([given[2], given[2]]),
    "broadcast_arrays": lambda given: list(np.broadcast_arrays(given[0], given[2])),
    "broadcast_arrays that don't fit": lambda given: list(np.broadcast_arrays(given[0], given[0][:, :, 1:])),
    "matrix_transpose": lambda given: np.matrix_transpose(given[0]),
    "nan_to_num": lambda given: np.nan_to_num(given[0]),
    "full": lambda given: np.full((2, 1), 7, like=given[0]),
    "full of float32": lambda given: np.full((2, 1), np.float32(7), like=given[0]),
    "eye": lambda given: np.eye(3, 2, like=given[0]),
    "array": lambda given: np.array([[1, 2]], like=given[0]),
    "ones": lambda given: np.ones(3, np.int8, like=given[0]),
    "result_type": lambda given: np.result_type(given[0], np.float64, 1.0),
    "can_cast": lambda given: np.can_cast(given[0].dtype, np.float16),
    "shape, ndim and size": lambda given: [np.shape(given[0]), np.ndim(given[0]), np.size(given[0], 1)],
    "cumsum over all": lambda given: np.cumsum(given[0]),
    "sort over all": lambda given: np.sort(given[0], axis=None),
    "take over all": lambda given: np.take(given[0], [0, 5]),
    "take along all": lambda given: np.take_along_axis(given[2], np.array([1]), axis=None),
    "repeat of several counts": lambda given: np.repeat(given[1], [1, 0, 2], axis=0),
    "multiply.outer": lambda given: np.multiply.outer(given[1], given[2]),
    "sum where": lambda given: np.sum(given[0], axis=0, where=given[1] > 0),
    "add where": lambda given: np.add(given[0], given[2], where=given[0] > 0, out=given[0]),
    "add.at": lambda given: np.add.at(given[1], [0, 0], given[2]),
    "add.at of values that don't fit": lambda given: np.add.at(given[1], [0, 0], given[0]),
    "subtract from a real array": lambda given: np.ones(4, np.float64) - given[2],
    "divmod": lambda given: list(divmod(given[0], 2)),
    "reduce": lambda given: np.maximum.reduce(given[0]),
    "largest of nothing": lambda given: np.max(given[0][:0], axis=0),
    "ravel of a strided vector": lambda given: [given[2][::2].ravel(), given[2][::2].reshape(2, 1)],
    "length": lambda given: len(given[0]),
    "length of a number": lambda given: len(given[2].sum().reshape(())),
    "fill": lambda given: given[0].fill(0),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_layers_use_seldom_is_also_numpys(name: str) -> None:
    shapes_ = [(2, 3, 4), (3, 4), (4,)]
    expected, found = (
        outcome(OTHERS[name], [make(shape, "float32") for shape in shapes_]) for make in (np.ones, ShapeArray)
    )
    assert described(found) == described(expected)


X: Any = ShapeArray((2, 3), "float32")
ONE: Any = ShapeArray((1,))
REFUSED: dict[str, Callable[[], Any]] = {
    "truth": lambda: bool(ONE),
    "float": lambda: float(ONE),
    "complex": lambda: complex(ONE),
    "int": lambda: int(ONE),
    "index": lambda: range(ShapeArray((), int)),
    "item": lambda: ONE.item(),
    "list of": lambda: X.tolist(),
    "1 in": lambda: 1 in X,
    "real array": lambda: np.asarray(X),
    "real array of": lambda: np.array([X, X]),
    "np.add into": lambda: np.add(X, X, out=np.ones((2, 3))),
    "np.copyto": lambda: np.copyto(np.ones((2, 3)), X),
    "np.put_along_axis": lambda: np.put_along_axis(np.ones((2, 3)), X, 0, -1),
    "np.where": lambda: np.where(X),
    "mask": lambda: X[X > 0],
    "values where a mask": lambda: X.__setitem__(X > 0, ShapeArray((4,))),
    "np.nonzero": lambda: np.nonzero(X),
    "np.allclose": lambda: np.allclose(X, X),
    "np.array_equal": lambda: np.array_equal(X, X),
    "np.linalg.inv": lambda: np.linalg.inv(ShapeArray((2, 2))),
    "np.interp": lambda: np.interp(ONE, ONE, ONE),
    "np.add.reduceat": lambda: np.add.reduceat(X, [0, 1]),
    "np.vecdot": lambda: np.vecdot(X, X),
}


@pytest.mark.parametrize("asked", REFUSED)
def test_what_needs_values_or_is_not_known_is_refused_by_name_and_with_a_way_out(asked: str) -> None:
    with pytest.raises(TypeError) as error:
        REFUSED[asked]()
    assert asked in str(error.value)
    assert re.fullmatch(r".+: .+; .+", str(error.value))


def test_an_unknown_method_is_named_like_an_unknown_function() -> None:
    with pytest.raises(AttributeError, match=r"ndarray\.partition: dry runs don't know .+; .+"):
        X.partition(1)
    assert not hasattr(X, "__array_interface__")


@pytest.mark.parametrize(
    ("dtype", "itemsize"), [("bfloat16", 2), (ml_dtypes.float8_e4m3fn, 1), ("float8_e5m2", 1)]
)
def test_narrow_floats_count_by_size(dtype: Any, itemsize: int) -> None:
    assert ShapeArray((3, 5), dtype).nbytes == 15 * itemsize


def recorded(function: Callable[[], Any]) -> list[tuple[str, int, int, int]]:
    """Return name, FLOPs, bytes read and bytes written of every operation on shapes."""
    with Trace(kernels=True) as trace:
        function()
    return [(k.name, k.flops, k.bytes_read, k.bytes_written) for k in trace.kernels]


def test_each_operation_is_recorded_with_its_flops_and_bytes_and_views_are_not() -> None:
    x: Any = ShapeArray((2, 3, 4), "float32")
    w, row = ShapeArray((4, 5), "float32"), ShapeArray((4,), "float32")
    assert recorded(lambda: x @ w) == [("matmul", 2 * 2 * 3 * 4 * 5, 4 * (24 + 20), 4 * 30)]
    assert recorded(lambda: x + row) == [("add", 24, 4 * (24 + 4), 4 * 24)]
    assert recorded(lambda: np.exp(x, out=x)) == [("exp", 24, 4 * 24, 4 * 24)]
    assert recorded(lambda: x > 0) == [("greater", 0, 4 * 24, 24)]
    assert recorded(lambda: x.sum(axis=-1)) == [("sum", 24, 4 * 24, 4 * 6)]
    assert recorded(lambda: x.astype("bfloat16")) == [("astype", 0, 4 * 24, 2 * 24)]
    assert recorded(lambda: x.T[1:, ::-1].swapaxes(0, 1)[np.newaxis]) == []
    assert recorded(lambda: x.reshape(6, 4).ravel()) == []
    assert recorded(lambda: x.T.reshape(-1)) == [("copy", 0, 4 * 24, 4 * 24)]


def test_chosen_entries_are_all_that_is_read_or_written() -> None:
    table, rows = ShapeArray((1000, 8), "float32"), ShapeArray((3,), "int64")
    gathered = 4 * 3 * 8
    assert recorded(lambda: np.take(table, rows, axis=0)) == [("take", 0, gathered + 24, gathered)]
    assert recorded(lambda: table[rows]) == [("getitem", 0, gathered + 24, gathered)]
    assert recorded(lambda: table.__setitem__(rows, 0)) == [("setitem", 0, 24, gathered)]
    assert recorded(lambda: table.__setitem__(slice(5), 0)) == [("setitem", 0, 0, 4 * 5 * 8)]


def test_a_real_runs_kernel_takes_numpy_scalars_and_lists() -> None:
    q = np.ones((1, 2, 3, 4))

    @kernel
    def total(parts: list[Any], axes: list[int]) -> Any:
        return (parts[0] + parts[1]).transpose(axes)

    with Trace(kernels=True) as trace:
        F.attention_probabilities(q, q, causal=True, scale=1 / np.sqrt(4))
        total([q, q], [0, 2, 1, 3])
    scores, added = trace.kernels
    assert scores.matmul_flops == 2 * (2 * 3 * 3 * 4)
    assert (added.flops, added.inputs, added.outputs) == (24, (q.shape, q.shape), ((1, 3, 2, 4),))


@pytest.mark.parametrize("make", [np.ones, ShapeArray])
def test_what_a_kernel_writes_into_is_not_read(make: Any) -> None:
    x, out = make((3, 5), "float32"), make((3, 5), "float32")
    with Trace(kernels=True) as trace:
        F.softmax(x, out=out)
    assert [(k.inputs, k.bytes_read, k.bytes_written) for k in trace.kernels] == [(((3, 5),), 60, 60)]


@pytest.mark.parametrize("number", [1j, math.nan, 300, -1, True])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32"])
def test_numbers_that_a_dtype_cannot_hold_are_numpys_errors(number: Any, dtype: str) -> None:
    def assign(arrays: Sequence[Any]) -> None:
        arrays[0][:2] = number

    def put(arrays: Sequence[Any]) -> None:
        np.put_along_axis(arrays[0], np.zeros((1,), np.intp), number, axis=0)

    for write in (assign, put):
        found, expected = outcome(write, [ShapeArray((3,), dtype)]), outcome(write, [np.ones(3, dtype)])
        assert described(found) == described(expected)


def test_an_update_of_a_part_in_place_is_not_copied_back() -> None:
    x: Any = ShapeArray((4, 4), "float32")

    def update() -> None:
        x[:2] += 1

    assert recorded(update) == [("add", 8, 4 * 8, 4 * 8)]
