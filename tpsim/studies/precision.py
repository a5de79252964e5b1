"""Is a difference between t ranks and one device rounding, or a bug? Measured, in each dtype of storage.

A transformer block runs forward and backward in float64 on one device: the truth. Then narrower, whole and
cut, with every order of summing. Rounding makes an error whose size depends on the dtype and hardly on t;
a bug makes one whose size depends on neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tpsim import nn
from tpsim.comm import Group, run
from tpsim.comm.algorithms import ALGORITHMS
from tpsim.lab.zoo import ZOO, planted
from tpsim.nn.parameter import assemble

Array = NDArray[Any]
Accumulate = Literal["storage", "float32"]
DTYPES = ("float32", "bfloat16", "float16")
BUG = "row-bias-on-every-rank"


@dataclass(frozen=True)
class Sizes:
    """A GPT block and its input.

    Parameters
    ----------
    batch, seq, hidden, heads : int
        `heads` is divisible by all t; the MLP is four times as wide.
    seed : int
        Of weights, x and dy.

    Raises
    ------
    ValueError
        If there is no such block.
    """

    batch: int = 2
    seq: int = 32
    hidden: int = 64
    heads: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch", "seq", "hidden", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"precision: {name} {getattr(self, name)} is too few; pick 1 or more")
        if self.hidden % self.heads:
            raise ValueError(
                f"precision: hidden {self.hidden} is not divisible by {self.heads} heads; pick a multiple"
            )
        if self.seed < 0:
            raise ValueError(f"precision: seed {self.seed} can't seed a generator; pick 0 or more")


@dataclass(frozen=True)
class Row:
    """The errors of one run, ‖difference‖/‖truth‖: every entry's counts, not only the unluckiest one's.

    Attributes
    ----------
    dtype, ranks, algorithm, accumulate
        How it ran.
    y, dx, grads : float
        Errors of the result, of the input's gradient, and the worst one of the weights' gradients.
    bug : str
        What was planted, "" for nothing.
    """

    dtype: str
    ranks: int
    algorithm: str
    accumulate: str
    y: float
    dx: float
    grads: float
    bug: str = ""


@dataclass(frozen=True)
class Precision:
    """Every run's errors.

    Attributes
    ----------
    rows : list of Row
        Of the right code; one device is t = 1.
    buggy : list of Row
        Of the planted bug, one for each dtype.
    """

    sizes: Sizes
    rows: list[Row] = field(default_factory=list)
    buggy: list[Row] = field(default_factory=list)

    def one_device(self, dtype: str) -> Row:
        """Return the errors of one device in this dtype."""
        return next(row for row in self.rows if row.dtype == dtype and row.ranks == 1)

    def dtypes(self) -> list[str]:
        """Return the dtypes, in the order in which they ran."""
        return list(dict.fromkeys(row.dtype for row in self.rows))

    def ranks(self) -> list[int]:
        """Return the numbers of ranks above one."""
        return sorted({row.ranks for row in self.rows} - {1})

    def of(self, dtype: str, ranks: int, accumulate: str | None = None) -> list[Row]:
        """Return the runs of so many ranks, one for each order of summing; by default, however summed."""
        return [
            row
            for row in self.rows
            if (row.dtype, row.ranks) == (dtype, ranks) and accumulate in (None, row.accumulate)
        ]

    def growth(self, dtype: str) -> float:
        """Return how many times one device's error of y the largest one of several ranks is: near 1."""
        return max(row.y for row in self.rows if row.dtype == dtype) / self.one_device(dtype).y

    def bug_above_noise(self, dtype: str) -> float:
        """Return how many times the largest error of the right code the bug's is: far above 1."""
        noise = max(row.y for row in self.rows if row.dtype == dtype)
        return next(row.y for row in self.buggy if row.dtype == dtype) / noise


def precision(
    sizes: Sizes | None = None,
    *,
    dtypes: Sequence[str] = DTYPES,
    ranks: Sequence[int] = (1, 2, 4, 8),
    algorithms: Sequence[str] = tuple(ALGORITHMS),
    accumulate: Sequence[Accumulate] = ("storage", "float32"),
) -> Precision:
    """Measure errors against float64 on one device, and those of a planted bug.

    Weights and inputs are rounded to each dtype before both runs: what is measured is the computation's
    rounding, not that of its inputs.

    Parameters
    ----------
    sizes : Sizes, optional
    dtypes, ranks, algorithms, accumulate
        What to go through; one device, which sums nothing over ranks, is run once for each dtype.

    Raises
    ------
    ValueError
        If heads can't be cut among some of the ranks.
    """
    sizes = sizes or Sizes()
    most = max(2, *ranks)
    for t in (*ranks, most):
        if t < 1 or sizes.heads % t:
            raise ValueError(
                f"precision: {sizes.heads} heads can't be cut evenly among {t} ranks; pick divisors of "
                f"{sizes.heads}, or other heads"
            )
    found = Precision(sizes)
    for dtype in dtypes:
        inputs = _inputs(sizes, dtype)
        truth = _run(sizes, "float64", inputs)
        ways: list[tuple[int, str, Accumulate]] = [(1, "ring", "storage")]
        ways += [(t, name, how) for t in ranks if t > 1 for name in algorithms for how in accumulate]
        for way in ways:
            found.rows.append(_row(dtype, *way, _run(sizes, dtype, inputs, *way), truth))
        with planted(ZOO[BUG]):
            wrong = _run(sizes, dtype, inputs, most)
        found.buggy.append(_row(dtype, most, "ring", "storage", wrong, truth, BUG))
    return found


def _row(
    dtype: str,
    t: int,
    algorithm: str,
    accumulate: str,
    got: dict[str, Array],
    true: dict[str, Array],
    bug: str = "",
) -> Row:
    errors = {name: _error(got[name], true[name]) for name in true}
    y, dx = errors.pop("y"), errors.pop("dx")
    return Row(dtype, t, algorithm, accumulate, y, dx, max(errors.values()), bug)


def _inputs(sizes: Sizes, dtype: str) -> dict[str, Array]:
    """Return whole weights, x and dy, as numbers that the dtype has."""
    rng = np.random.default_rng(sizes.seed)
    block = nn.TransformerBlock(sizes.hidden, sizes.heads, 4 * sizes.hidden)
    drawn = {}
    for name, parameter in block.parameters().items():
        shape = parameter.whole_shape
        drawn[name] = rng.standard_normal(shape) / np.sqrt(shape[0])
        if len(shape) == 1:
            drawn[name] += "norm" in name and name.endswith("weight")
    for name in ("x", "dy"):
        drawn[name] = rng.standard_normal((sizes.batch, sizes.seq, sizes.hidden))
    return {name: array.astype(dtype) for name, array in drawn.items()}


def _run(
    sizes: Sizes,
    dtype: str,
    inputs: dict[str, Array],
    t: int = 1,
    algorithm: str = "ring",
    accumulate: Accumulate = "storage",
) -> dict[str, Array]:
    """Return y, dx and the whole gradients."""
    given = {name: array.astype(dtype) for name, array in inputs.items()}
    x, dy = given.pop("x"), given.pop("dy")

    def main(comm: Any) -> tuple[Array, Array, dict[str, nn.Parameter]]:
        group = Group(comm, algorithm, accumulate=accumulate)
        block = nn.TransformerBlock(sizes.hidden, sizes.heads, 4 * sizes.hidden, group, dtype=dtype)
        block.load(given)
        y = block.forward(x)
        dx = block.backward(dy)
        nn.sum_replica_gradients(block)
        return y, dx, block.parameters()

    ranks = run(main, t)
    y, dx, parameters = ranks[0]
    whole = {name: assemble([(p[name], _grad(p[name])) for _, _, p in ranks]) for name in parameters}
    return {"y": y, "dx": dx, **whole}


def _grad(parameter: nn.Parameter) -> Array:
    assert parameter.grad is not None
    return parameter.grad


def _error(got: Array, true: Array) -> float:
    """Return ‖got − true‖/‖true‖."""
    return float(np.linalg.norm(got.astype(np.float64) - true) / np.linalg.norm(true))
