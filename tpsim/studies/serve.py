"""What serving a model costs on given hardware, by the number of ranks: latency and throughput."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from tpsim.cost.direct import CHOICES, choose, crossing
from tpsim.cost.gemm import itemsize
from tpsim.cost.hardware import Hardware, load
from tpsim.cost.work import Collective
from tpsim.models import ModelConfig, find
from tpsim.studies.estimate import dtype_for
from tpsim.studies.serve_costs import Decode, decode_step, largest_batch, prefill_seconds

__all__ = ["Decode", "ServeAnswer", "ServeQuestion", "ServeRow", "answer_serve", "decode_step"]

CURVE = tuple(2**n for n in range(11))  # batches, 1 to 1024


@dataclass(frozen=True, kw_only=True)
class ServeQuestion:
    """What `tpsim estimate --serve` was asked; names as of its options.

    `context` and `dtype` are None where the user leaves them open: 2048 positions, or the model's most; the
    first dtype that `dtype_for` finds. `all_reduce` is one of `tpsim.cost.direct.CHOICES`.
    """

    model: str
    ranks: Sequence[int] = (1, 2, 4, 8)
    batch: int = 1
    context: int | None = None
    chunk: int | None = None
    window: int | None = None
    dtype: str | None = None
    hardware: str = "h200"
    host: str = "graph"
    all_reduce: str = "library"


@dataclass(frozen=True)
class AllReduce:
    """Ways to sum the activations of a decode step over the ranks; see `tpsim.cost.direct`.

    Attributes
    ----------
    nbytes : int
        Of the message: batch · hidden numbers.
    seconds : dict
        By way, "library" (ring, tree or in the switch), "one_shot" and "two_shot".
    one_shot_until, two_shot_until : int or None
        Bytes up to which one-shot is the quickest of the three, and then two-shot; None if it never is.
    """

    nbytes: int
    seconds: dict[str, float]
    one_shot_until: int | None
    two_shot_until: int | None


@dataclass(frozen=True)
class ServeRow:
    """One number of ranks.

    Attributes
    ----------
    decode : Decode
        At the batch that was asked for.
    prefill : float
        Seconds to the first token of one prompt as long as the context.
    largest_batch : int
        Sequences of that context that fit.
    curve : list of Decode
        At batches of 1, 2, 4, …, as far as they fit: latency against throughput.
    all_reduce : AllReduce or None
        None for one rank.
    """

    decode: Decode
    prefill: float
    largest_batch: int
    curve: list[Decode]
    all_reduce: AllReduce | None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        points = [
            {
                "batch": point.batch,
                "seconds_per_token": point.step,
                "seconds_per_block": point.block,
                "tokens_per_second": point.tokens_per_second,
                "tokens_per_second_per_device": point.tokens_per_second_per_device,
                "bound": point.bound,
            }
            for point in self.curve
        ]
        return {
            **self.decode.to_dict(),
            "prefill": self.prefill,
            "largest_batch": self.largest_batch,
            "curve": points,
            "all_reduce": self.all_reduce and asdict(self.all_reduce),
        }


@dataclass(frozen=True)
class ServeAnswer:
    """Rows, one a number of ranks, and what follows from them.

    Attributes
    ----------
    question : ServeQuestion
    hardware : Hardware
    rows : list of ServeRow
    refused : dict
        Numbers of ranks for which there is no row, and why.
    verdict : str
    """

    question: ServeQuestion
    hardware: Hardware
    rows: list[ServeRow]
    refused: dict[int, str]
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return {
            "question": asdict(self.question),
            "hardware": {"name": self.hardware.name, "about": self.hardware.about},
            "rows": [row.to_dict() for row in self.rows],
            "refused": self.refused,
            "verdict": self.verdict,
        }


def answer_serve(question: ServeQuestion) -> ServeAnswer:
    """Estimate every row that a question asks for.

    Raises
    ------
    ValueError
        If a word of it is not known, or no row can be.
    """
    hardware, config = choose(load(question.hardware), question.all_reduce), find(question.model)
    question = replace(question, dtype=dtype_for(hardware, question.dtype))
    if question.host not in ("graph", "eager"):
        raise ValueError(f"host {question.host!r} is not known; pick graph or eager")
    rows, refused = [], {}
    for ranks in question.ranks:
        try:
            rows.append(serve_row(question, config, ranks, hardware))
        except ValueError as error:
            refused[ranks] = str(error)
    if not rows:
        raise ValueError("; ".join(refused.values()))
    return ServeAnswer(question, hardware, rows, refused, verdict(rows))


def context_of(question: ServeQuestion, config: ModelConfig) -> int:
    """Return the context that was asked for; 2048, or the model's most, if none was."""
    context = min(2048, config.max_seq) if question.context is None else question.context
    if not 1 <= context <= config.max_seq:
        raise ValueError(
            f"{config.name} takes 1 to {config.max_seq} positions, not {context}; pick one of those"
        )
    return context


def serve_row(question: ServeQuestion, config: ModelConfig, tp: int, hardware: Hardware) -> ServeRow:
    """Estimate one number of ranks."""
    context = context_of(question, config)
    host: Any = question.host
    dtype = dtype_for(hardware, question.dtype)
    how: dict[str, Any] = {"dtype": dtype, "window": question.window, "host": host}

    @lru_cache
    def at(batch: int) -> Decode:
        return decode_step(config, tp, batch, context, hardware, **how)

    decode = at(question.batch)
    most = largest_batch(decode, hardware)
    return ServeRow(
        decode=decode,
        prefill=prefill_seconds(config, tp, context, hardware, chunk=question.chunk, **how),
        largest_batch=most,
        curve=[at(batch) for batch in CURVE if batch <= most],
        all_reduce=all_reduces(config, tp, question.batch, dtype, hardware) if tp > 1 else None,
    )


def all_reduces(config: ModelConfig, tp: int, batch: int, dtype: str, hardware: Hardware) -> AllReduce:
    """Compare the ways to sum a decode step's activations."""
    work = Collective("all_reduce", batch * config.hidden * itemsize(dtype), tp)
    seconds = {
        choice: choose(hardware, choice).seconds(work, graph=True) for choice in CHOICES if choice != "best"
    }
    among = [crossing(hardware, tp, "one_shot", other) for other in ("two_shot", "library")]
    one = None if None in among else min(bytes_ for bytes_ in among if bytes_ is not None)
    two = crossing(hardware, tp, "two_shot", "library")
    return AllReduce(work.nbytes, seconds, one, two if two is not None and two > (one or 0) else None)


def verdict(rows: Sequence[ServeRow]) -> str:
    """Say in two sentences what more ranks do for latency, and what for throughput."""
    fitting = [row for row in rows if row.decode.fits]
    if not fitting:
        least = min(rows, key=lambda row: row.decode.memory.total)
        return (
            f"None fits: the least is {least.decode.memory.total / 1e9:,.0f} GB a device with "
            f"t = {least.decode.tp}; spread the model over more ranks, or shorten the context or the batch."
        )
    fast = min(fitting, key=lambda row: row.decode.step)
    points = [point for row in fitting for point in row.curve]
    cheap = max(points, key=lambda point: point.tokens_per_second_per_device)
    return (
        f"Soonest: t = {fast.decode.tp}, a token every {1e3 * fast.decode.step:.1f} ms, bounded by "
        f"{_WORDS[fast.decode.bound]}. Most for the money: t = {cheap.tp} with {cheap.batch} sequences at a "
        f"time, {cheap.tokens_per_second_per_device:,.0f} tokens a second a device, one every "
        f"{1e3 * cheap.step:.0f} ms for each sequence."
    )


_WORDS = {
    "weights": "reading the weights",
    "kv_cache": "reading the KV cache",
    "flops": "arithmetic",
    "all_reduce": "the all-reduces",
    "launches": "the least time that kernels take",
}
