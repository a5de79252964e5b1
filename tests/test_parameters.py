"""`Parameter`: how it is cut, taken and put together again."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim import nn, run
from tpsim.comm import Group
from tpsim.nn.attention import kv_piece
from tpsim.nn.parameter import cut, replicated, zeros

some = settings(deadline=None, max_examples=60)
NO_RNG = np.random.default_rng(0)


def on_ranks(ranks: int, make: Callable[[Group], Any]) -> list[Any]:
    return run(lambda comm: make(Group(comm)), ranks)


def parameter(shape: tuple[int, ...], axis: int, pieces: list[nn.Piece]) -> nn.Parameter:
    return nn.Parameter(shape, axis, pieces, zeros, NO_RNG, "float64")


@some
@given(
    ranks=st.integers(1, 8),
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    other=st.integers(1, 3),
    axis=st.sampled_from([0, 1]),
    whole_one=st.booleans(),
)
def test_assemble_undoes_take(ranks: int, sizes: list[int], other: int, axis: int, whole_one: bool) -> None:
    length = sum(sizes) * ranks + (2 if whole_one else 0)
    shape = (length, other) if axis == 0 else (other, length)
    whole = np.arange(length * other, dtype=float).reshape(shape)

    def make(group: Group) -> nn.Parameter:
        pieces = [cut(size * ranks, group) for size in sizes]
        return parameter(shape, axis, [*pieces, replicated(2, group)] if whole_one else pieces)

    parameters = on_ranks(ranks, make)
    np.testing.assert_array_equal(nn.assemble([(p, p.take(whole)) for p in parameters]), whole)
    local = sum(sizes) + (2 if whole_one else 0)
    assert {p.take(whole).shape[axis] for p in parameters} == {local}


def test_qkv_is_cut_piece_by_piece() -> None:
    attention = on_ranks(2, lambda group: nn.Attention(4, 4, group, kv_heads=2, head_size=1))
    taken = [a.qkv.bias.take(np.array(["q0", "q1", "q2", "q3", "k0", "k1", "v0", "v1"])) for a in attention]
    assert [list(part) for part in taken] == [["q0", "q1", "k0", "v0"], ["q2", "q3", "k1", "v1"]]


def test_shared_kv_heads_are_held_by_neighbouring_ranks() -> None:
    attention = on_ranks(4, lambda group: nn.Attention(4, 4, group, kv_heads=2, head_size=1))
    taken = [a.qkv.bias.take(np.array(["q0", "q1", "q2", "q3", "k0", "k1", "v0", "v1"])) for a in attention]
    assert [list(part) for part in taken] == [
        ["q0", "k0", "v0"],
        ["q1", "k0", "v0"],
        ["q2", "k1", "v1"],
        ["q3", "k1", "v1"],
    ]


def test_gate_up_is_cut_piece_by_piece() -> None:
    mlps = on_ranks(2, lambda group: nn.MLP(4, 4, group, activation="swiglu"))
    taken = [mlp.up.bias.take(np.array(["g0", "g1", "g2", "g3", "u0", "u1", "u2", "u3"])) for mlp in mlps]
    assert [list(part) for part in taken] == [["g0", "g1", "u0", "u1"], ["g2", "g3", "u2", "u3"]]


@pytest.mark.parametrize(("kv_heads", "ranks"), [(1, 4), (2, 4), (4, 4), (8, 4), (3, 6)])
def test_kv_heads_have_as_many_replicas_as_ranks_share_one(kv_heads: int, ranks: int) -> None:
    pieces = on_ranks(ranks, lambda group: kv_piece(kv_heads, 2, group))
    copies = max(ranks // kv_heads, 1)
    for rank, piece in enumerate(pieces):
        assert piece.part == rank // copies
        assert piece.local == 2 * max(kv_heads // ranks, 1)
        assert piece.partial == (copies > 1)
        assert (piece.replicas.size if piece.replicas else 1) == copies


def test_take_copies() -> None:
    whole = np.zeros(4)
    taken = parameter((4,), 0, [nn.Piece(4)]).take(whole)
    taken += 1
    assert (whole == 0).all()


def test_parts_are_views_in_which_gradients_can_be_summed() -> None:
    p = parameter((2, 6), 1, [nn.Piece(4), nn.Piece(2)])
    gradient = np.zeros((2, 6))
    first, second = p.parts_of(gradient)
    first += 1
    second += 2
    np.testing.assert_array_equal(gradient, [[1, 1, 1, 1, 2, 2]] * 2)


def test_take_refuses_what_is_not_whole() -> None:
    with pytest.raises(ValueError, match=r"whole shape \(4,\): got an array of shape \(2,\); pass the whole"):
        parameter((4,), 0, [nn.Piece(4)]).take(np.zeros(2))


def test_load_converts_to_the_dtype_of_the_parameter() -> None:
    norm = nn.RMSNorm(3, dtype="float32")
    norm.load({"weight": np.arange(3.0)})
    assert norm.weight.data.dtype == np.float32
    np.testing.assert_array_equal(norm.weight.data, [0, 1, 2])


def test_parameters_are_named_by_the_attributes_that_hold_them() -> None:
    block = nn.TransformerBlock(4, 2, 4, norm="rms", qk_norm=True, bias=False)
    assert set(block.parameters()) == {
        "norm1.weight",
        "attention.qkv.weight",
        "attention.q_norm.weight",
        "attention.k_norm.weight",
        "attention.out.weight",
        "norm2.weight",
        "mlp.up.weight",
        "mlp.down.weight",
    }


def test_gradients_add_up_until_zero_grad() -> None:
    norm = nn.RMSNorm(2, dtype="float64")
    assert norm.weight.grad is None
    norm.weight.add_grad(np.array([1.0, 2.0]))
    norm.weight.add_grad(np.array([10.0, 20.0]))
    np.testing.assert_array_equal(norm.weight.grad, [11, 22])
    norm.zero_grad()
    assert norm.weight.grad is None


def test_a_first_gradient_is_not_written_to_by_the_next() -> None:
    norm, first = nn.RMSNorm(2, dtype="float64"), np.array([1.0, 2.0])
    norm.weight.add_grad(first)
    norm.weight.add_grad(first)
    np.testing.assert_array_equal(first, [1, 2])


def test_sharding_is_told_in_words() -> None:
    linear, norm, shared = on_ranks(
        4,
        lambda group: (
            nn.ColumnParallelLinear(4, 8, group).weight.sharding(),
            nn.LayerNorm(4, group).weight.sharding(),
            nn.Attention(4, 4, group, kv_heads=2, head_size=2).qkv.weight.sharding(),
        ),
    )[0]
    assert (linear, norm, shared) == ("axis 1: 8/4", "replicated", "axis 1: 8/4 + 4/2 + 4/2")
