"""From a user's words to costs: a row for each number of ranks, and which of them to choose."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from tpsim.cost.hardware import Hardware, load
from tpsim.cost.memory import MIXES
from tpsim.cost.stacks import Stack
from tpsim.cost.stacks import stack as stack_named
from tpsim.models import ModelConfig, find
from tpsim.studies.block import BlockCosts, block_costs
from tpsim.studies.costs import Costs, costs, model_flops
from tpsim.studies.dry_run import Plan
from tpsim.studies.verdict import best_of, verdict

__all__ = [
    "Answer",
    "Costs",
    "Question",
    "Strategy",
    "answer",
    "answer_layer",
    "costs",
    "dtype_for",
    "model_flops",
    "share",
    "verdict",
]

Strategy: TypeAlias = Literal["tp", "dp", "fsdp"]

LONG = 8192  # positions, where a model could take more
DTYPES = ("bfloat16", "float16", "float32", "float64")  # that layers can have


@dataclass(frozen=True, kw_only=True)
class Question:
    """What `tpsim estimate` was asked; names as of its options.

    `batch`, `seq` and `dtype` are None where the user leaves them open: one sequence (or one for each rank
    that needs its own), of 8192 positions or the model's most, in the first of `DTYPES` that the hardware
    has units for. A `sweep` has a row for every mixture of
    sequence parallelism and recompute.
    """

    model: str
    ranks: Sequence[int] = (1, 2, 4, 8, 16)
    strategy: str = "tp"
    sequence_parallel: bool = False
    keep_gathered: bool = False
    recompute: str = "none"
    overlap: str = "none"
    sweep: bool = False
    batch: int | None = None
    seq: int | None = None
    microbatches: int = 1
    dtype: str | None = None
    hardware: str = "h200"
    nodes: int | None = None
    stack: str = "eager"
    host: str = "eager"
    mix: str = "megatron"


@dataclass(frozen=True)
class Answer:
    """Rows, one a number of ranks (or several, of a sweep), and what follows from them.

    Attributes
    ----------
    question : Question
    hardware : Hardware
    rows : list of Costs
    refused : dict
        Numbers of ranks for which there is no row, or not each of a sweep's, and why.
    verdict : str
    """

    question: Question
    hardware: Hardware
    rows: list[Costs]
    refused: dict[int, str]
    verdict: str

    @property
    def chosen(self) -> Costs:
        """The row that the verdict is about."""
        return best_of(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON; bytes and seconds."""
        hardware = self.hardware
        return {
            "question": asdict(self.question),
            "hardware": {
                "name": hardware.name,
                "about": hardware.about,
                "memory": hardware.memory_bytes,
                "peak_flops": hardware.peak_flops[self.rows[0].plan.dtype],
            },
            "rows": [row.to_dict() for row in self.rows],
            "refused": self.refused,
            "chosen": self.rows.index(self.chosen),
            "verdict": self.verdict,
        }

    def write_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the chosen row's microbatch as a Chrome trace; see `estimate_trace.slices`."""
        from tpsim.studies.estimate_trace import write

        write(path, self.chosen)


def answer(question: Question) -> Answer:
    """Estimate every row that a question asks for.

    Raises
    ------
    ValueError
        If a word of it is not known, or no row can be.
    """
    hardware = _hardware(question.hardware)
    plan = _plan(question, hardware)
    stack = stack_named(question.stack)
    options: dict[str, Any] = {
        "microbatches": question.microbatches,
        "stack": stack,
        "host": _one_of("host", question.host, ("eager", "graph")),
        "mix": _one_of("mix", question.mix, tuple(MIXES)),
    }
    strategy: Any = _one_of("strategy", question.strategy, ("tp", "dp", "fsdp"))
    rows: list[Costs] = []
    refused: dict[int, str] = {}
    with _no_garbage_collection():
        for ranks in dict.fromkeys(question.ranks):
            for mixture in _mixtures(plan, ranks, strategy, stack) if question.sweep else (plan,):
                try:
                    replicas = _replicas(question.nodes, ranks, hardware)
                    shared = share(replace(mixture, dp=replicas), ranks, strategy)
                    rows.append(costs(shared, hardware, **options))
                except ValueError as error:
                    refused[ranks] = str(error)
    if not rows:
        raise ValueError("; ".join(dict.fromkeys(refused.values())))
    return Answer(question, hardware, rows, refused, verdict(rows, hardware))


def answer_layer(question: Question, repeat: int | None = None) -> list[BlockCosts]:
    """Estimate one block by itself, for every number of ranks that a question asks for.

    Parameters
    ----------
    question : Question
    repeat : int, optional
        As for `block`.

    Raises
    ------
    ValueError
        If a word of it is not known, or a number of ranks can't cut the block.
    """
    if repeat is not None and repeat < 1:
        raise ValueError(f"repeat {repeat} runs nothing; pick 1 or more")
    hardware = _hardware(question.hardware)
    host: Any = _one_of("host", question.host, ("eager", "graph"))
    plan, stack = _plan(question, hardware), stack_named(question.stack)
    return block_costs(plan, hardware, question.ranks, repeat=repeat, stack=stack, host=host)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A dry run makes many objects but no cycles of them: looking for these takes an eighth of its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def share(plan: Plan, ranks: int, strategy: Strategy) -> Plan:
    """Return the plan for `ranks` that work together on its batch.

    `plan.batch` sequences are the work of those ranks at a time: all of them work on each sequence under
    tensor parallelism, and each has its share of them under data parallelism and FSDP.

    Raises
    ------
    ValueError
        If the batch can't be shared evenly.
    """
    if strategy == "tp":
        return replace(plan, tp=ranks)
    if plan.batch % ranks:
        raise ValueError(
            f"{strategy}: a batch of {plan.batch} can't be shared evenly by {ranks} ranks; pick a multiple "
            f"of {ranks}"
        )
    return replace(
        plan,
        tp=1,
        sequence_parallel=False,
        batch=plan.batch // ranks,
        dp=ranks * plan.dp,
        fsdp=strategy == "fsdp",
    )


def _mixtures(plan: Plan, ranks: int, strategy: Strategy, stack: Stack) -> Iterator[Plan]:
    """Yield the plans of a sweep, each of which differs from the others in what is run."""
    recomputes: tuple[Any, ...] = ("none", "selective", "full")
    if stack.attention == "fused":
        recomputes = ("none", "full")  # its kernel recomputes the core by itself
    for sequence_parallel in (False, True) if strategy == "tp" and ranks > 1 else (False,):
        for recompute in recomputes:
            yield replace(plan, sequence_parallel=sequence_parallel, recompute=recompute)


def _hardware(name: str) -> Hardware:
    try:
        return load(name)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"hardware {name!r} holds no profile ({type(error).__name__}: {error}); pass a file that tpsim "
            "calibrate wrote"
        ) from error


def _plan(question: Question, hardware: Hardware) -> Plan:
    config = find(question.model)
    batch = question.batch
    if batch is None:
        batch = 1 if question.strategy == "tp" else max(question.ranks)
    for name, value in (("batch", batch), ("microbatches", question.microbatches)):
        if value < 1:
            raise ValueError(f"{name} {value} is no number of sequences; pick 1 or more")
    recompute: Any = _one_of("recompute", question.recompute, ("none", "selective", "full"))
    overlap: Any = _one_of("overlap", question.overlap, ("none", "dw", "decomposed"))
    return Plan(
        config=config,
        sequence_parallel=question.sequence_parallel,
        keep_gathered=question.keep_gathered,
        recompute=recompute,
        overlap=overlap,
        batch=batch,
        seq=_seq(question.seq, config),
        dtype=dtype_for(hardware, question.dtype),
    )


def _seq(seq: int | None, config: ModelConfig) -> int:
    if seq is None:
        return min(LONG, config.max_seq)
    if not 1 <= seq <= config.max_seq:
        raise ValueError(
            f"seq {seq} is no length of a sequence for {config.name}; pick 1 to {config.max_seq}"
        )
    return seq


def dtype_for(hardware: Hardware, dtype: str | None = None) -> str:
    """Return the dtype that was asked for, or the first of `DTYPES` that hardware has.

    Raises
    ------
    ValueError
        If it has not the one that was asked for.
    """
    known = [name for name in DTYPES if name in hardware.peak_flops]
    if dtype is not None and dtype not in known:
        raise ValueError(f"dtype {dtype!r} is none that {hardware.name} has; pick one of {', '.join(known)}")
    return dtype or known[0]


def _replicas(nodes: int | None, ranks: int, hardware: Hardware) -> int:
    if nodes is None:
        return 1
    if nodes < 1:
        raise ValueError(f"nodes {nodes} hold no devices; pick 1 or more")
    devices = nodes * hardware.node
    if devices % ranks:
        raise ValueError(
            f"nodes {nodes}: their {devices} devices can't be shared by groups of {ranks}; pick groups that "
            f"divide {devices}, or other nodes"
        )
    return devices // ranks


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ValueError(f"{name} {value!r} is not known; pick one of {', '.join(known)}")
    return value
