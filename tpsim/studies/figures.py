"""What the figures of `tpsim plot` show: each function returns the arguments of the plot of its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tpsim.cost.hardware import Hardware, load
from tpsim.cost.memory import core
from tpsim.cost.stacks import launches
from tpsim.cost.timeline import Timeline, kind, schedule
from tpsim.models import ModelConfig, find
from tpsim.studies.costs import Costs, costs
from tpsim.studies.dry_run import Plan, dry_block
from tpsim.studies.estimate import LONG, dtype_for, share
from tpsim.studies.serve import ServeQuestion, serve_row
from tpsim.trace import SavedTensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANKS = (1, 2, 4, 8, 16)
Data = dict[str, Any]
Make = Callable[[ModelConfig, Hardware], Data]


@dataclass(frozen=True)
class Topic:
    """A figure.

    Attributes
    ----------
    about : str
    model : str
        Whose numbers it shows if nobody says otherwise.
    data : callable
        From a model and hardware to the arguments of the plot.
    plot : str
        A function of `tpsim.plots`.
    """

    about: str
    model: str
    data: Make
    plot: str


def draw(name: str, model: str | None = None, hardware: str = "h200") -> Figure:
    """Draw the figure of a name.

    Raises
    ------
    ValueError
        If there is no such figure, model or hardware, or the model can't be cut as the figure needs.
    """
    topic = topic_named(name)
    from tpsim import plots

    figure: Figure = getattr(plots, topic.plot)(**topic.data(find(model or topic.model), load(hardware)))
    return figure


def topic_named(name: str) -> Topic:
    """Return one of `TOPICS`."""
    if name not in TOPICS:
        raise ValueError(f"figure {name!r} is not known; pick one of {', '.join(TOPICS)}, or all")
    return TOPICS[name]


def memory(config: ModelConfig, hardware: Hardware) -> Data:
    """Memory of a rank by kind, against t."""
    return {
        "rows": _rows(_plan(config, hardware), hardware),
        "limit": hardware.memory_bytes,
        "title": config.name,
    }


def traffic(config: ModelConfig, hardware: Hardware) -> Data:
    """Collectives of a rank and bytes that it sends, for the same batch on more and more ranks."""
    plan = replace(_plan(config, hardware), batch=max(RANKS))
    several = tuple(ranks for ranks in RANKS if ranks > 1)
    fsdp = [_row(share(plan, ranks, "fsdp"), hardware) for ranks in several]
    lines = {
        "TP": _rows(plan, hardware, several),
        "TP + SP": _rows(replace(plan, sequence_parallel=True), hardware, several),
        "TP + SP, gathered input kept": _rows(
            replace(plan, sequence_parallel=True, keep_gathered=True), hardware, several
        ),
        "FSDP": fsdp,
    }
    return {"lines": lines, "title": f"{config.name}, {plan.batch} sequences of {plan.seq:,}"}


def activations(config: ModelConfig, hardware: Hardware) -> Data:
    """What one block keeps for backward, by part, with an attention core in pieces (as in the papers)."""
    seq, tp = min(2048, config.max_seq), min(8, hardware.node)
    dropout = 0.1 if config.norm == "layer" else 0.0
    plan = replace(_plan(config, hardware), tp=tp, seq=seq, dropout=dropout, attention_dropout=dropout)
    ways: dict[str, dict[str, Any]] = {
        "one device": {"tp": 1},
        "TP": {},
        "TP + SP": {"sequence_parallel": True},
        "TP,\nselective": {"recompute": "selective"},
        "TP + SP,\nselective": {"sequence_parallel": True, "recompute": "selective"},
        "TP,\nfull": {"recompute": "full"},
        "TP + SP,\nfull": {"sequence_parallel": True, "recompute": "full"},
    }
    bars = {way: _kept(replace(plan, **options)) for way, options in ways.items()}
    return {
        "bars": bars,
        "title": f"what a block of {config.name} keeps for backward: {tp} ranks, a sequence of {plan.seq:,}",
    }


def timeline(config: ModelConfig, hardware: Hardware) -> Data:
    """One block, forward and backward, on both streams, with three ways to overlap."""
    tp = hardware.node
    ways: dict[str, Any] = {
        "blocking": "none",
        "overlap with dW": "dw",
        "decomposed GEMMs": "decomposed",
    }
    lanes, exposed = {}, {}
    for label, overlap in ways.items():
        plan = replace(_plan(config, hardware), tp=tp, sequence_parallel=True, overlap=overlap)
        block = dry_block(replace(plan, recompute="selective"))  # as a fused attention core needs it
        run = schedule(launches(block), hardware, host="graph", heat=1.0)
        lanes[label] = list(_spans(run))
        exposed[label] = run.exposed
    return {
        "lanes": lanes,
        "exposed": exposed,
        "title": f"{config.name}: one block with TP + SP on {tp} ranks, a sequence of {plan.seq:,}",
    }


def speedup(config: ModelConfig, hardware: Hardware) -> Data:
    """How many times faster than on one device, up to four nodes."""
    ranks = tuple(2**power for power in range((4 * hardware.node).bit_length()))
    plan = _plan(config, hardware)
    whole = replace(plan, sequence_parallel=True)
    lines = {
        "TP": _rows(plan, hardware, ranks),
        "TP, overlap with dW": _rows(replace(plan, overlap="dw"), hardware, ranks),
        "TP + SP": _rows(whole, hardware, ranks),
        "TP + SP, decomposed GEMMs": _rows(replace(whole, overlap="decomposed"), hardware, ranks),
    }
    return {
        "lines": lines,
        "node": hardware.node,
        "title": f"{config.name}, a sequence of {plan.seq:,} on {hardware.name}",
    }


def fsdp(config: ModelConfig, hardware: Hardware) -> Data:
    """Tokens a second a device of one node, against the tokens that each device has at a time."""
    ranks = hardware.node
    lines: dict[str, list[dict[str, Any]]] = {
        f"TP on {ranks}": [],
        f"TP + SP on {ranks}": [],
        f"FSDP over {ranks}": [],
    }
    for tokens in (2**power for power in range(8, 17)):
        seq = min(tokens, LONG, config.max_seq)
        plan = replace(_plan(config, hardware), seq=seq, batch=ranks * tokens // seq)
        ways = (
            share(plan, ranks, "tp"),
            share(replace(plan, sequence_parallel=True), ranks, "tp"),
            share(plan, ranks, "fsdp"),
        )
        for line, way in zip(lines.values(), ways, strict=True):
            row = costs(way, hardware)
            line.append({"tokens": tokens, "rate": row.tokens_per_second_per_device, "fits": row.fits})
    return {"lines": lines, "title": f"{config.name} on {ranks} × {hardware.name}"}


def latency(config: ModelConfig, hardware: Hardware) -> Data:
    """Time per token and to the first one, of those numbers of ranks that hold the model and its cache."""
    context = min(LONG, config.max_seq)
    question = ServeQuestion(
        model=config.name, ranks=RANKS, batch=8, context=context, dtype=dtype_for(hardware)
    )
    rows, why = [], f"latency: no rank of {hardware.name} holds {config.name}; pick a smaller model"
    for tp in RANKS:
        try:
            row = serve_row(question, config, tp, hardware).to_dict()
        except ValueError as error:
            why = str(error)
        else:
            rows += [row] * row["fits"]
    if not rows:
        raise ValueError(why)
    return {"rows": rows, "title": config.name}


TOPICS: Mapping[str, Topic] = {
    "traffic": Topic(
        "collectives, and bytes sent, against t: TP, TP + SP, FSDP", "llama3-8b", traffic, "traffic"
    ),
    "memory": Topic(
        "memory of a rank against t, and the device's limit", "llama3-8b", memory, "memory_stack"
    ),
    "activations": Topic("what a block keeps: TP, SP, recompute", "gpt3-175b", activations, "activations"),
    "timeline": Topic("both streams of a block, blocking and overlapped", "llama3-70b", timeline, "timeline"),
    "speedup": Topic("speed-up against t, past the edge of a node", "llama3-8b", speedup, "speedup"),
    "fsdp": Topic("TP against FSDP, over tokens a device", "llama3-8b", fsdp, "fsdp"),
    "latency": Topic("time to the first token and per token, against t", "llama3-70b", latency, "token_time"),
}


# --- rows ---------------------------------------------------------------------------------------------------


def _plan(config: ModelConfig, hardware: Hardware) -> Plan:
    return Plan(config=config, seq=min(LONG, config.max_seq), dtype=dtype_for(hardware))


def _row(plan: Plan, hardware: Hardware) -> Data:
    row: Costs = costs(plan, hardware)
    return row.to_dict()


def _rows(plan: Plan, hardware: Hardware, ranks: tuple[int, ...] = RANKS) -> list[Data]:
    """Return a row for each number of ranks that can share the model.

    Raises
    ------
    ValueError
        If none can but one.
    """
    rows, why = [], ""
    for tp in ranks:
        try:
            rows.append(_row(replace(plan, tp=tp, overlap=plan.overlap if tp > 1 else "none"), hardware))
        except ValueError as error:
            why = str(error)
    if not any(row["tp"] > 1 for row in rows):
        raise ValueError(why)
    return rows


def _kept(plan: Plan) -> dict[str, int]:
    """Return the bytes that a block's forward saves, by part."""
    kept = dict.fromkeys(
        ("the block's input", "norms", "MLP", "dropout masks", "attention", "attention scores"), 0
    )
    for tensor in dry_block(plan).saved:
        if tensor.kind == "activation":
            kept[_part(tensor)] += tensor.nbytes
    return kept


def _part(tensor: SavedTensor) -> str:
    """Return which part of a block keeps a tensor."""
    if core(tensor):
        return "attention scores"
    path = tensor.layer.split(".")[2:]  # without "blocks.0"
    layer = path[0].rstrip("0123456789") if path else ""
    names = {"attention": "attention", "mlp": "MLP", "norm": "norms", "dropout": "dropout masks"}
    return names.get(layer, "the block's input")


def _spans(run: Timeline) -> Iterator[Data]:
    for span in run.spans:
        what = kind(span.launch) if span.stream == "compute" else "collective"
        what = what if what in ("gemm", "attention", "collective") else "other"
        yield {
            "stream": span.stream,
            "kind": what,
            "start": span.start,
            "end": span.end,
            "phase": span.launch.phase,
        }
