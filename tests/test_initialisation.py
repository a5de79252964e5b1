"""Any number of ranks starts from the same model, and it is the right one."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim import nn, run
from tpsim.comm import Group
from tpsim.lab.cases import AttentionCase
from tpsim.lab.properties import starts_as_one_device
from tpsim.lab.strategies import LAYERS, attentions

some = settings(deadline=None, max_examples=60)


@pytest.mark.parametrize("layer", LAYERS)
@some
@given(data=st.data())
def test_ranks_start_as_one_device_bit_for_bit(layer: str, data: st.DataObject) -> None:
    starts_as_one_device(data.draw(LAYERS[layer]()))


@some
@given(attentions(ranks=(4, 6, 8), kv_heads=2, heads=24))
def test_replicated_kv_heads_start_as_one_device(case: AttentionCase) -> None:
    assert case.copies > 1
    starts_as_one_device(case)


def test_whole_weights_are_small_normal_numbers_and_nothing_else_is_drawn() -> None:
    block = nn.TransformerBlock(256, 4, 1024, rng=np.random.default_rng(1), dtype="float64")
    for name, parameter in block.parameters().items():
        data = parameter.data
        if "norm" in name and name.endswith("weight"):
            assert (data == 1).all()
        elif name.endswith("bias"):
            assert (data == 0).all()
        else:
            assert abs(data.std() / 0.02 - 1) < 0.02
            assert abs(data.mean()) < 0.0005


def test_weights_are_drawn_one_after_another_from_the_generator() -> None:
    mlp = nn.MLP(4, 8, bias=False, rng=np.random.default_rng(7), dtype="float32")
    rng = np.random.default_rng(7)
    for parameter, shape in ((mlp.up.weight, (4, 8)), (mlp.down.weight, (8, 4))):
        np.testing.assert_array_equal(parameter.data, rng.normal(0, 0.02, shape).astype(np.float32))


def test_ranks_inside_a_region_do_not_start_alike() -> None:
    def main(comm: Any) -> Any:
        return nn.MLP(8, 16, Group(comm)).up.weight.data

    first, second = run(main, ranks=2)
    assert (first != second).all()
