"""A dry run records what a real run records: collectives, saved tensors, kernels, parameters."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim.comm import Group, dry_group, run
from tpsim.comm.algorithms import ALGORITHMS
from tpsim.dry import ShapeArray, shapes_only
from tpsim.models import LanguageModel, ModelConfig
from tpsim.models.config import gpt, llama
from tpsim.nn import mean_over_valid, sum_replica_gradients
from tpsim.nn.masks import drawing
from tpsim.trace import Trace

CLOCK = ("start", "seconds")
OPERATIONS: dict[str, Callable[[Group, Any], Any]] = {
    "all_reduce": lambda group, x: group.all_reduce(x),
    "all_gather": lambda group, x: group.all_gather(x, 1),
    "reduce_scatter": lambda group, x: group.reduce_scatter(x),
    "broadcast": lambda group, x: group.broadcast(x, group.size - 1),
    "all_to_all": lambda group, x: group.all_to_all(x, 0, 1),
    "barrier": lambda group, x: group.barrier(),
}


@st.composite
def models(draw: st.DrawFn) -> tuple[ModelConfig, int, dict[str, Any]]:
    """Draw a model, how many ranks cut it, and its options."""
    ranks = draw(st.sampled_from([1, 2, 3, 4]))
    size = 2 * draw(st.integers(1, 3))
    layers, vocab = draw(st.integers(1, 2)), draw(st.integers(3, 17))
    if draw(st.booleans()):
        heads = ranks * draw(st.integers(1, 2))
        config = gpt("drawn", layers, heads * size, heads, vocab=vocab, max_seq=24)
    else:
        kv_heads = draw(
            st.sampled_from([g for g in (1, ranks, 2 * ranks) if ranks % g == 0 or g % ranks == 0])
        )
        heads = kv_heads * draw(st.integers(1, 2)) if kv_heads >= ranks else ranks
        config = llama(
            "drawn",
            layers,
            heads * size,
            heads,
            kv_heads=kv_heads,
            ffn=ranks * draw(st.integers(1, 5)),
            vocab=vocab,
            tied=draw(st.booleans()),
            qk_norm=draw(st.booleans()),
        )
    options = {
        "sequence_parallel": draw(st.booleans()),
        "keep_gathered": draw(st.booleans()),
        "recompute": draw(st.sampled_from(["none", "selective", "full"])),
        "dropout": draw(st.sampled_from([0.0, 0.1])),
        "attention_dropout": draw(st.sampled_from([0.0, 0.1])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1])),
        "z_loss": draw(st.sampled_from([0.0, 0.1])),
        "fused_loss": draw(st.booleans()),
        "dtype": draw(st.sampled_from(["float64", "float32", "float16", "bfloat16"])),
    }
    return config, ranks, options


def step(model: LanguageModel, tokens: Any) -> None:
    """Run forward and backward twice, and sum the replicas' gradients."""
    for _ in range(2):
        with drawing(0, 1, range(len(tokens))):
            loss = model.forward(tokens, tokens)
            _, dloss = mean_over_valid(loss, tokens, tokens.size)
            model.backward(dloss)
    sum_replica_gradients(model)
    model.record_parameters()


def without_clock(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key not in CLOCK} for record in records]


@settings(max_examples=25)
@given(models(), st.integers(1, 3), st.integers(1, 3))
def test_a_dry_run_records_what_a_real_run_records(
    drawn: tuple[ModelConfig, int, dict[str, Any]], batch: int, times: int
) -> None:
    config, ranks, options = drawn
    seq = ranks * times

    def real(comm: Any) -> Trace:
        model = LanguageModel(config, Group(comm), **options)
        tokens = np.random.default_rng(0).integers(0, config.vocab, (batch, seq))
        with Trace(kernels=True) as trace:
            step(model, tokens)
        return trace

    for rank, want in enumerate(run(real, ranks)):
        with shapes_only():
            model = LanguageModel(config, dry_group(ranks, rank), **options)
        with Trace(kernels=True) as trace:
            step(model, ShapeArray((batch, seq), "int64"))
        told, must = trace.to_dict(), want.to_dict()
        for kind in ("collectives", "saved", "parameters"):
            have, need = without_clock(told[kind]), without_clock(must[kind])
            for one in (*have, *need):  # a dry run counts kernels that a real one has no mark for
                for place in ("begun", "order", "born", "died"):
                    one.pop(place, None)
            assert have == need
        assert [n for _, n in trace.saved_over_time] == [n for _, n in want.saved_over_time]
        assert trace.peak_saved_bytes == want.peak_saved_bytes
        marked = {event.name for event in want.kernels}
        assert [_size(e) for e in trace.kernels if e.name in marked] == [_size(e) for e in want.kernels]


@given(
    st.sampled_from([*ALGORITHMS, "mpi"]),
    st.sampled_from(sorted(OPERATIONS)),
    st.integers(1, 8),
    st.lists(st.integers(0, 5), min_size=2, max_size=3),
    st.sampled_from(["float64", "float32", "bfloat16", "int8"]),
    st.sampled_from(["storage", "float32"]),
)
def test_every_collective_returns_and_sends_what_a_real_one_does(
    algorithm: str, operation: str, ranks: int, shape: list[int], dtype: str, accumulate: Any
) -> None:
    shape[0] *= ranks

    def call(group: Group, x: Any) -> Any:
        with Trace() as trace:
            y = OPERATIONS[operation](group, x)
        return (
            getattr(y, "shape", None),
            getattr(y, "dtype", None),
            without_clock(trace.to_dict()["collectives"]),
        )

    def real(comm: Any) -> Any:
        return call(Group(comm, algorithm, accumulate=accumulate), np.zeros(shape, dtype))

    for rank, want in enumerate(run(real, ranks)):
        group = dry_group(ranks, rank, algorithm=algorithm, accumulate=accumulate)
        assert call(group, ShapeArray(tuple(shape), dtype)) == want


def _size(event: Any) -> tuple[Any, ...]:
    values = asdict(event)
    return tuple(
        values[k] for k in ("name", "layer", "phase", "inputs", "outputs", "dtype", "flops", "bytes_read")
    )
