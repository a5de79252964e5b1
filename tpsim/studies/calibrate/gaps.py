"""The Python between calls: what layers do beside arithmetic.

A block of hardly any arithmetic takes what its calls take at least, which is measured of each call alone, and
what is left is the layers' own: checks, saved tensors, scopes, the trace.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tpsim.comm import solo
from tpsim.comm.dry import dry_group
from tpsim.cost.hardware import Hardware
from tpsim.cost.stacks import NUMPY, launches
from tpsim.dry import ShapeArray
from tpsim.dry.world import shapes_only
from tpsim.nn import TransformerBlock
from tpsim.studies.calibrate.timing import seconds_of
from tpsim.trace import Trace

_SIZES = (16, 2, 32)  # hidden, heads, ffn
_INPUT = (1, 4, 16)


def small_block(comm: Any, rounds: int) -> float:
    """Return the seconds of a small block's forward and backward."""
    block = TransformerBlock(*_SIZES, solo())
    x = np.ones(_INPUT, np.float32)

    def both_ways(_: int) -> None:
        block.zero_grad()
        with Trace():
            block.backward(block.forward(x))

    return seconds_of([both_ways], comm, rounds=4 * rounds)[0]


def between_calls(block: float, prices: Hardware) -> float:
    """Return the seconds from one call to the next, from a small block's."""
    with shapes_only():
        layer = TransformerBlock(*_SIZES, dry_group(1))
    x: Any = ShapeArray(_INPUT, "float32")
    with Trace(kernels=True) as trace:
        layer.backward(layer.forward(x))
    program = launches(trace, NUMPY)
    calls = sum(prices.seconds(launch.work, graph=True) for launch in program)
    return max(0.0, block - calls) / len(program)
