"""A run to look at, step by step: an MLP of whole numbers on a few ranks, and what each of them has when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group
from tpsim.nn import MLP, own_slice
from tpsim.nn.borders import SEQUENCE
from tpsim.studies.steps_ring import RingSteps, watch_ring
from tpsim.trace import Trace, current_scope

Array = NDArray[Any]
HIDDEN = 4
_COLUMNS = 2  # of A, on each rank
_MOST_RANKS = 4  # whose shards stand side by side in 80 columns


@dataclass(frozen=True)
class StepsConfig:
    """An MLP y = ReLU(x A) B without biases, and how it is cut.

    ReLU, because it makes whole numbers of whole numbers; as for GELU, ReLU of a sum is not a sum of ReLUs.
    """

    ranks: int = 4
    sequence_parallel: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what can't be shown.

        Raises
        ------
        ValueError
            What was asked, why it can't be, what to do.
        """
        if not 2 <= self.ranks <= _MOST_RANKS:
            raise ValueError(
                f"ranks {self.ranks}: the step-through shows shards side by side; pick 2 to {_MOST_RANKS}"
            )
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} can't seed a generator; pick 0 or more")

    @property
    def seq(self) -> int:
        """Rows of x; sequence parallelism cuts them, one a rank."""
        return self.ranks if self.sequence_parallel else 2

    def draw(self) -> dict[str, Array]:
        """Return whole x [s, h], A [h, f], B [f, h] and dy [s, h], of numbers from −2 to 2."""
        rng, ffn = np.random.default_rng(self.seed), _COLUMNS * self.ranks
        shapes = {"x": (self.seq, HIDDEN), "A": (HIDDEN, ffn), "B": (ffn, HIDDEN), "dy": (self.seq, HIDDEN)}
        return {name: rng.integers(-2, 3, shape).astype(float) for name, shape in shapes.items()}


@dataclass(frozen=True)
class Moment:
    """One rank's part of a step: what it had before, and after."""

    phase: str
    layer: str
    operation: str
    before: Array
    after: Array


class Watched(Group):
    """A group that notes what each collective was given and what it returned."""

    def __init__(self, comm: Any) -> None:
        super().__init__(comm, messages=True)  # bytes are counted one message at a time
        self.moments: list[Moment] = []

    def note(self, operation: str, before: Array, after: Array) -> Array:
        """Keep copies without the batch's axis, which is 1 long; return `after`."""
        here = current_scope()
        self.moments.append(Moment(here.phase, here.path, operation, before[0].copy(), after[0].copy()))
        return after

    def all_reduce(self, x: Array, op: Any = "sum", *, out: Array | None = None) -> Array:
        """As for `Group`."""
        return self.note("all_reduce", x, super().all_reduce(x, op, out=out))

    def all_gather(self, x: Array, axis: int = 0, *, out: Array | None = None) -> Array:
        """As for `Group`."""
        return self.note("all_gather", x, super().all_gather(x, axis, out=out))

    def reduce_scatter(self, x: Array, axis: int = 0, op: Any = "sum", *, out: Array | None = None) -> Array:
        """As for `Group`."""
        return self.note("reduce_scatter", x, super().reduce_scatter(x, axis, op, out=out))


@dataclass(frozen=True)
class RankSteps:
    """What one rank brings home; it can be sent between processes."""

    given: dict[str, Array]
    moments: list[Moment]
    gradients: dict[str, Array]
    sent: list[int]
    ring: RingSteps


def on_rank(comm: Any, config: StepsConfig) -> RankSteps:
    """Run the MLP forward and backward on one rank, and watch.

    Parameters
    ----------
    comm : communicator
    config : StepsConfig
    """
    group, whole = Watched(comm), config.draw()
    mlp = MLP(
        HIDDEN,
        whole["A"].shape[1],
        group,
        bias=False,
        sequence_parallel=config.sequence_parallel,
        dtype=np.float64,
    )
    mlp.load({"up.weight": whole["A"], "down.weight": whole["B"]})
    mlp.activation = _watched(group, _relu)
    mlp.activation_grad = _watched(group, _relu_grad)
    x, dy = whole["x"][None], whole["dy"][None]  # [1, s, h]
    if config.sequence_parallel:
        x, dy = own_slice(x, group, SEQUENCE).copy(), own_slice(dy, group, SEQUENCE).copy()
    with Trace() as trace:
        mlp.forward(x)
        mlp.backward(dy)
    a, b = mlp.up.weight, mlp.down.weight
    assert a.grad is not None
    assert b.grad is not None
    return RankSteps(
        given={"x": x[0], "A": a.data, "B": b.data, "dy": dy[0]},
        moments=group.moments,
        gradients={"dA": a.grad, "dB": b.grad},
        sent=[event.bytes_sent for event in trace.collectives],
        ring=watch_ring(comm),
    )


def _relu(u: Array) -> Array:
    return np.maximum(u, 0)


def _relu_grad(u: Array, da: Array) -> Array:
    return da * (u > 0)


def _watched(group: Watched, function: Callable[..., Array]) -> Callable[..., Array]:
    """Return a function of which the group notes the last argument and the result."""
    return lambda *arrays: group.note("activation", arrays[-1], function(*arrays))


@dataclass(frozen=True)
class Step:
    """One step on all ranks.

    Attributes
    ----------
    phase : {"forward", "backward"}
    layer : str
        "up" or "down"; "" between them.
    operation : str
        A collective's name, or "activation" (ReLU, and in backward its derivative): nothing is sent.
    before, after : list of arrays
        By rank, [rows, columns].
    sent : list of int
        Bytes, by rank.
    """

    phase: str
    layer: str
    operation: str
    before: list[Array]
    after: list[Array]
    sent: list[int]


@dataclass(frozen=True)
class StepsResult:
    """The step-through: each list of arrays is by rank.

    Attributes
    ----------
    given : dict of str to list of arrays
        x, A, B and dy as the ranks begin with them.
    steps : list of Step
    gradients : dict of str to list of arrays
        dA and dB.
    one_device : dict of str to array
        y, dx, dA and dB, computed whole.
    ring : list of RingSteps
    """

    config: StepsConfig
    given: dict[str, list[Array]]
    steps: list[Step]
    gradients: dict[str, list[Array]]
    one_device: dict[str, Array]
    ring: list[RingSteps]

    @property
    def whole(self) -> dict[str, Array]:
        """What the ranks computed, put together."""
        results = {}
        for name, phase in (("y", "forward"), ("dx", "backward")):
            parts = [step for step in self.steps if step.phase == phase][-1].after
            results[name] = np.concatenate(parts) if self.config.sequence_parallel else parts[0]
        da, db = self.gradients["dA"], self.gradients["dB"]
        return {**results, "dA": np.concatenate(da, axis=1), "dB": np.concatenate(db)}

    @property
    def equal(self) -> bool:
        """Whether that is what one device computes, exactly: sums of whole numbers have no rounding."""
        return all(np.array_equal(array, self.one_device[name]) for name, array in self.whole.items())

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        return {
            "config": asdict(self.config),
            "equal": self.equal,
            "given": _plain(self.given),
            "steps": [_plain(vars(step)) for step in self.steps],
            "gradients": _plain(self.gradients),
        }


def join(config: StepsConfig, reports: Sequence[RankSteps]) -> StepsResult:
    """Put the ranks' reports together, step by step."""
    steps, collectives = [], 0
    for moments in zip(*(report.moments for report in reports), strict=True):
        first = moments[0]
        sent = [0] * config.ranks
        if first.operation != "activation":
            sent = [report.sent[collectives] for report in reports]
            collectives += 1
        before, after = [m.before for m in moments], [m.after for m in moments]
        steps.append(Step(first.phase, first.layer, first.operation, before, after, sent))
    return StepsResult(
        config,
        given={name: [report.given[name] for report in reports] for name in reports[0].given},
        steps=steps,
        gradients={name: [report.gradients[name] for report in reports] for name in reports[0].gradients},
        one_device=_one_device(**config.draw()),
        ring=[report.ring for report in reports],
    )


def _one_device(x: Array, A: Array, B: Array, dy: Array) -> dict[str, Array]:
    z = x @ A
    h = np.maximum(z, 0)
    dz = np.where(z > 0, dy @ B.T, 0)
    return {"y": h @ B, "dx": dz @ A.T, "dA": x.T @ dz, "dB": h.T @ dy}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return lists of arrays as lists of whole numbers."""
    return {
        name: [v.astype(int).tolist() if isinstance(v, np.ndarray) else v for v in value]
        if isinstance(value, list)
        else value
        for name, value in values.items()
    }
