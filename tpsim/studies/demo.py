"""The demo: one transformer block on t ranks, forward and backward, held against the unsharded maths."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim import reference
from tpsim.comm import Group, solo
from tpsim.comm.algorithms import ALGORITHMS, closed_form
from tpsim.nn import Placed, TransformerBlock, own_slice, put_together, sum_replica_gradients
from tpsim.nn.borders import SEQUENCE
from tpsim.trace import ParameterRecord, Trace

Array = NDArray[Any]
TOLERANCES = {"float64": 1e-10, "float32": 1e-5}
_EPS = 1e-5


@dataclass(frozen=True)
class DemoConfig:
    """A pre-norm GPT-2 block (LayerNorm, biases, causal, tanh GELU, ffn = 4·hidden) and how it is cut."""

    ranks: int = 4
    batch: int = 2
    seq: int = 48
    hidden: int = 192
    heads: int = 24
    dtype: str = "float64"
    algorithm: str = "ring"
    sequence_parallel: bool = False
    keep_gathered: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what can't be run, before any rank starts.

        Raises
        ------
        ValueError
            What was asked, why it can't be, what to do.
        """
        for name, least in {"ranks": 1, "batch": 1, "seq": 1, "hidden": 4, "heads": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)} makes no block; pick {least} or more")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} can't seed a generator; pick 0 or more")
        if self.hidden % self.heads:
            raise ValueError(
                f"hidden {self.hidden} is not divisible by {self.heads} heads; pick a multiple of "
                f"{self.heads}"
            )
        if self.heads % self.ranks:
            raise ValueError(
                f"{self.heads} heads can't be shared evenly by {self.ranks} ranks; pick ranks from "
                f"{', '.join(map(str, _divisors(self.heads)))}, or a multiple of {self.ranks} heads"
            )
        if self.sequence_parallel and self.seq % self.ranks:
            raise ValueError(
                f"a sequence of {self.seq} can't be cut evenly among {self.ranks} ranks; pick seq a multiple "
                f"of {self.ranks}"
            )
        if self.keep_gathered and not self.sequence_parallel:
            raise ValueError("nothing is gathered without sequence parallelism; ask for both, or for neither")
        if self.dtype not in TOLERANCES:
            raise ValueError(f"dtype {self.dtype!r} is not known here; pick {' or '.join(TOLERANCES)}")
        if self.algorithm not in {*ALGORITHMS, "mpi"}:
            raise ValueError(
                f"algorithm {self.algorithm!r} is not known; pick one of {', '.join([*ALGORITHMS, 'mpi'])}"
            )

    def block(self, group: Group) -> TransformerBlock:
        """Return the block as one rank of the group holds it."""
        return TransformerBlock(
            self.hidden,
            self.heads,
            4 * self.hidden,
            group,
            eps=_EPS,
            sequence_parallel=self.sequence_parallel,
            keep_gathered=self.keep_gathered,
            dtype=self.dtype,
        )

    def draw(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return random numbers that depend on the seed and the tensor's name alone."""
        key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest())
        return np.random.default_rng([self.seed, key]).standard_normal(shape).astype(self.dtype)

    def inputs(self) -> tuple[Array, Array]:
        """Return whole x and dy, [batch, seq, hidden]."""
        shape = (self.batch, self.seq, self.hidden)
        return self.draw("x", shape), self.draw("dy", shape)

    def weights(self) -> dict[str, Array]:
        """Return every whole parameter: not the usual zeros and ones, so that none can go unnoticed."""
        whole: dict[str, Array] = {}
        for name, parameter in self.block(solo()).parameters().items():
            fan_in = parameter.whole_shape[0] if len(parameter.whole_shape) == 2 else 4
            noise = self.draw(name, parameter.whole_shape) / np.sqrt(fan_in, dtype=self.dtype)
            whole[name] = noise + 1 if "norm" in name and name.endswith("weight") else noise
        return whole


@dataclass
class RankReport:
    """What one rank brings home; it can be sent between processes.

    `saved_bytes` is what was kept alive when forward ended; the trace itself has let go of it since.
    """

    y: Array
    dx: Array
    grads: dict[str, Placed]
    trace: Trace
    saved_bytes: int


def on_rank(comm: Any, config: DemoConfig, kernels: bool = False) -> RankReport:
    """Run the block on one rank: the part of the demo that every rank executes.

    With `kernels` the trace shows when each of them ran, and the block runs once before: else it would show
    what is only paid the first time.
    """
    group = Group(comm, config.algorithm, messages=True)  # sent and counted one by one
    block = config.block(group)
    block.load(config.weights())
    x, dy = config.inputs()
    if config.sequence_parallel:
        x, dy = own_slice(x, group).copy(), own_slice(dy, group).copy()
    if kernels:
        with Trace(kernels=True):
            block.forward(x)
            block.backward(dy)
            sum_replica_gradients(block)
        block.zero_grad()
    with Trace(kernels=kernels) as trace:
        y = block.forward(x)
        saved_bytes = trace.saved_bytes
        dx = block.backward(dy)
        sum_replica_gradients(block)
        block.record_parameters()
    grads = {name: p.placed(p.grad) for name, p in block.parameters().items() if p.grad is not None}
    return RankReport(y, dx, grads, trace, saved_bytes)


@dataclass(frozen=True)
class Difference:
    """How far one tensor is from the reference: absolutely, and relative to the reference's largest entry."""

    shape: tuple[int, ...]
    absolute: float
    relative: float


@dataclass(frozen=True)
class CollectiveRow:
    """One collective of the pass: the bytes each rank sent, and what the algorithm's closed form says.

    `shape` is that of the full tensor: an all-gather's result, a reduce-scatter's input.
    """

    phase: str
    layer: str
    operation: str
    shape: tuple[int, ...]
    sent: list[int]
    closed_form: list[int]


@dataclass
class DemoResult:
    """What the demo found. `one_device` is the same block's trace on a single rank."""

    config: DemoConfig
    world: str
    differences: dict[str, Difference]
    collectives: list[CollectiveRow]
    parameters: list[list[ParameterRecord]]
    saved_bytes: list[int]
    saved_symbols: str
    saved_formula: float
    digests: dict[str, str]
    traces: list[Trace]
    one_device: Trace

    @property
    def tolerance(self) -> float:
        """The largest relative difference that rounding explains."""
        return TOLERANCES[self.config.dtype]

    @property
    def equal(self) -> bool:
        """Whether every tensor equals the reference's within the tolerance."""
        return all(d.relative <= self.tolerance for d in self.differences.values())

    @property
    def counted(self) -> bool:
        """Whether sent bytes were counted message by message (MPI's own collectives can't be)."""
        return all(event.counted for trace in self.traces for event in trace.collectives)

    @property
    def sent_as_predicted(self) -> bool:
        """Whether every rank sent what the closed form says, to the byte."""
        return all(row.sent == row.closed_form for row in self.collectives)

    @property
    def saved_as_predicted(self) -> bool:
        """Whether every rank saved what the paper's formula says, to the byte."""
        return all(saved == self.saved_formula for saved in self.activation_bytes)

    @property
    def activation_bytes(self) -> list[int]:
        """Bytes of saved activations a rank: what the papers count (no norm statistics)."""
        return [sum(trace.saved_by_layer().values()) for trace in self.traces]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data, for JSON."""
        counts: dict[str, dict[str, int]] = {}
        for row in self.collectives:
            where = "replica_gradients" if row.layer == "gradients" else row.phase
            counts.setdefault(where, {}).setdefault(row.operation, 0)
            counts[where][row.operation] += 1
        return {
            "config": asdict(self.config),
            "world": self.world,
            "equal": self.equal,
            "sent_as_predicted": self.sent_as_predicted,
            "saved_as_predicted": self.saved_as_predicted,
            "tolerance": self.tolerance,
            "max_relative_error": {name: d.relative for name, d in self.differences.items()},
            "max_absolute_error": {name: d.absolute for name, d in self.differences.items()},
            "collective_counts": counts,
            "collectives": [asdict(row) for row in self.collectives],
            "bytes_sent": [sum(row.sent[r] for row in self.collectives) for r in range(self.config.ranks)],
            "bytes_sent_by_block": [
                sum(row.sent[r] for row in self.collectives if row.layer != "gradients")
                for r in range(self.config.ranks)
            ],
            "saved_activation_bytes": self.activation_bytes,
            "saved_activation_bytes_formula": self.saved_formula,
            "saved_statistic_bytes": [
                saved - activations
                for saved, activations in zip(self.saved_bytes, self.activation_bytes, strict=True)
            ],
            "shards": {
                records[0].name: {
                    "whole": records[0].whole_shape,
                    "sharding": records[0].sharding,
                    "ranks": [record.shape for record in records],
                }
                for records in zip(*self.parameters, strict=True)
            },
            "sha256": self.digests,
        }


def compare(config: DemoConfig, world: str, reports: Sequence[RankReport]) -> DemoResult:
    """Put the ranks' shards together and hold them against the reference on one device."""
    actual = _whole(config, reports)
    expected = _reference(config)
    symbols, saved = saved_formula(config)
    return DemoResult(
        config=config,
        world=world,
        differences={name: _difference(actual[name], expected[name]) for name in expected},
        collectives=_collective_rows(config, [report.trace for report in reports]),
        parameters=[report.trace.parameters for report in reports],
        saved_bytes=[report.saved_bytes for report in reports],
        saved_symbols=symbols,
        saved_formula=saved,
        digests={name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in actual.items()},
        traces=[report.trace for report in reports],
        one_device=_one_device(config),
    )


def saved_formula(config: DemoConfig) -> tuple[str, float]:
    """Return the bytes of saved activations a rank, in symbols and as a number.

    By Korthikanti et al. (2022), "Reducing activation recomputation in large transformer models",
    table 2, less what dropout saves; it counts in elements of 2 bytes.
    """
    s, b, h, a, t = config.seq, config.batch, config.hidden, config.heads, config.ranks
    if not config.sequence_parallel:
        symbols, factor = "8 + 24/t", 8 + 24 / t
    elif config.keep_gathered:
        symbols, factor = "4 + 28/t", 4 + 28 / t
    else:
        symbols, factor = "32/t", 32 / t
    itemsize = np.dtype(config.dtype).itemsize
    scale = f"{itemsize // 2}·" if itemsize > 2 else ""
    nbytes = round(s * b * h * (factor + 2 * a * s / (h * t))) * itemsize / 2
    return f"{scale}sbh({symbols} + 2as/(ht))", nbytes


def _whole(config: DemoConfig, reports: Sequence[RankReport]) -> dict[str, Array]:
    if config.sequence_parallel:
        y, dx = (np.concatenate([getattr(r, n) for r in reports], axis=SEQUENCE) for n in ("y", "dx"))
    else:
        y, dx = reports[0].y, reports[0].dx
    shapes = {record.name: record.whole_shape for record in reports[0].trace.parameters}
    grads = {name: put_together(shape, [r.grads[name] for r in reports]) for name, shape in shapes.items()}
    return {"y": y, "dx": dx, **grads}


def _reference(config: DemoConfig) -> dict[str, Array]:
    x, dy = config.inputs()
    weights = config.weights()
    options: dict[str, Any] = {
        "heads": config.heads,
        "kv_heads": config.heads,
        "causal": True,
        "activation": "gelu_tanh",
        "eps": _EPS,
    }
    y, cache = reference.block(weights, x, **options)
    dx, grads = reference.block_grad(weights, cache, dy, **options)
    return {"y": y, "dx": dx, **grads}


def _difference(actual: Array, expected: Array) -> Difference:
    # Within the fused QKV bias, the K part's gradient is exactly zero; it is judged with Q and V.
    absolute = float(np.max(np.abs(actual - expected)))
    return Difference(expected.shape, absolute, absolute / float(np.max(np.abs(expected))))


def _one_device(config: DemoConfig) -> Trace:
    alone = DemoConfig(**{**asdict(config), "ranks": 1})
    block = alone.block(solo())
    x, dy = alone.inputs()
    with Trace() as trace:
        block.forward(x)
        block.backward(dy)
        block.record_parameters()
    return trace


def _collective_rows(config: DemoConfig, traces: Sequence[Trace]) -> list[CollectiveRow]:
    itemsize = np.dtype(config.dtype).itemsize
    rows = []
    for events in zip(*(trace.collectives for trace in traces), strict=True):
        first = events[0]
        shape = first.shape
        if first.operation == "all_gather":  # its event has the local shape
            shape = (*shape[:SEQUENCE], shape[SEQUENCE] * config.ranks, *shape[SEQUENCE + 1 :])
        count = int(np.prod(shape))
        sent = [
            closed_form.sent(first.operation, config.algorithm, rank, config.ranks, count).elements * itemsize
            for rank in range(config.ranks)
        ]
        rows.append(
            CollectiveRow(
                first.phase,
                first.layer,
                first.operation,
                shape,
                [event.bytes_sent for event in events],
                sent,
            )
        )
    return rows


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]
