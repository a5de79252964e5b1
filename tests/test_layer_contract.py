"""What every layer promises besides its maths: what it refuses, and that a refusal changes nothing."""

from typing import Any

import numpy as np
import pytest

import tpsim
from tpsim import nn
from tpsim.comm import Group, solo
from tpsim.nn.parameter import Parameter, cut, zeros

RNG = np.random.default_rng(5)
A_LIST: Any = [[1.0]]


def numbers(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def test_a_second_backward_is_refused_and_leaves_gradients_alone() -> None:
    layer = nn.RowParallelLinear(4, 3)
    y = layer.forward(numbers(1, 2, 4))
    layer.backward(y)
    before = {name: parameter.grad for name, parameter in layer.parameters().items()}
    with pytest.raises(RuntimeError, match="call forward before each backward, and make layers inside main"):
        layer.backward(y)
    for name, parameter in layer.parameters().items():
        assert parameter.grad is before[name]


@pytest.mark.parametrize(
    ("dy", "words"),
    [
        (
            numbers(1, 3, 4),
            r"dy is shape \(1, 3, 4\), float32, and forward returned shape \(1, 2, 4\), float32",
        ),
        (numbers(1, 2, 4).astype(np.float64), r"dy is shape \(1, 2, 4\), float64"),
        ([1.0], "dy is a list"),
    ],
)
@pytest.mark.parametrize("make", [lambda: nn.MLP(4, 8), lambda: nn.LayerNorm(4), lambda: nn.Attention(4, 2)])
def test_a_gradient_unlike_the_output_is_refused(make: Any, dy: Any, words: str) -> None:
    layer = make()
    layer.forward(numbers(1, 2, 4))
    with pytest.raises(ValueError, match=words):
        layer.backward(dy)


@pytest.mark.parametrize(
    ("use", "error", "words"),
    [
        (lambda: nn.MLP(4, 8).forward(A_LIST), TypeError, "x is a list, not an array; pass a NumPy array"),
        (lambda: nn.LayerNorm(4).forward(numbers(1, 2, 1)), ValueError, "its last axis must be 4 here"),
        (lambda: nn.RMSNorm(4).forward(np.ones((1, 2, 4))), ValueError, "x is float64 and the weights are"),
        (lambda: nn.Attention(8, 0), ValueError, "heads 0 makes no layer; pick 1 or more"),
        (lambda: nn.Attention(8, 4, kv_heads=0), ValueError, "kv_heads 0 makes no layer"),
        (lambda: nn.Attention(10, 4, head_size=0), ValueError, "head_size 0 makes no layer"),
        (lambda: nn.MLP(4, 0), ValueError, "ffn 0 makes no layer"),
    ],
)
def test_what_a_layer_cannot_take_is_refused_with_the_remedy(use: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        use()


def test_a_fused_weight_is_not_gathered_rank_by_rank() -> None:
    group = solo()
    with pytest.raises(ValueError, match="leave gather_output out, or make a layer for each piece"):
        nn.ColumnParallelLinear(4, 8, group, gather_output=True, pieces=[cut(4, group), cut(4, group)])


def test_pieces_must_make_up_the_axis() -> None:
    with pytest.raises(ValueError, match=r"pieces of 4 do not make up axis 1 of \(4, 8\)"):
        Parameter((4, 8), 1, [cut(4, solo())], zeros, RNG, np.float32)


def test_heads_are_not_told_to_be_padded() -> None:
    def main(comm: Any) -> None:
        nn.Attention(6, 3, Group(comm))

    with pytest.raises(ValueError, match=r"heads 3 is not divisible by 2 ranks; pick a multiple of 2\n"):
        tpsim.run(main, 2)


def test_replica_gradients_are_summed_once_a_step() -> None:
    def main(comm: Any) -> None:
        norm = nn.LayerNorm(4, Group(comm), partial=True)
        share = norm.forward(numbers(1, 2, 4))
        norm.backward(share)
        kept = norm.weight.grad
        assert kept is not None
        before = kept.copy()
        nn.sum_replica_gradients(norm)
        np.testing.assert_array_equal(kept, before)  # the caller's array is its own
        with pytest.raises(RuntimeError, match="is summed already; call it once a step"):
            nn.sum_replica_gradients(norm)
        norm.forward(share)
        with pytest.raises(RuntimeError, match="summed over replicas already; call zero_grad first"):
            norm.backward(share)
        norm.zero_grad()
        norm.forward(share)
        norm.backward(share)
        nn.sum_replica_gradients(norm)

    tpsim.run(main, 2)


def test_a_single_kv_head_is_summed_with_the_other_replicas() -> None:
    def main(comm: Any) -> list[tuple[str, int]]:
        layer = nn.Attention(8, 4, Group(comm), kv_heads=1, sequence_parallel=True)
        layer.backward(layer.forward(numbers(1, 2, 8)))
        with tpsim.Trace() as trace:
            nn.sum_replica_gradients(layer)
        return [(event.group, event.ranks) for event in trace.collectives]

    assert tpsim.run(main, 4) == [[("tp", 4)]] * 4


def test_layers_take_their_input_by_name() -> None:
    x = numbers(1, 2, 4)
    assert nn.MLP(4, 8).forward(x=x).shape == x.shape
