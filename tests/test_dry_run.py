"""A dry run records what a real run records: collectives, saved tensors, kernels, parameters."""

from dataclasses import asdict
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim.comm import Group, dry_group, run
from tpsim.dry import ShapeArray, shapes_only
from tpsim.models import LanguageModel, ModelConfig
from tpsim.models.config import gpt, llama
from tpsim.nn import mean_over_valid, sum_replica_gradients
from tpsim.nn.masks import drawing
from tpsim.trace import Trace

CLOCK = ("start", "seconds")
LAYERS_OWN = ("collectives", "saved", "saved_over_time", "parameters")


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


def _size(event: Any) -> tuple[Any, ...]:
    values = asdict(event)
    return tuple(
        values[k] for k in ("name", "layer", "phase", "inputs", "outputs", "dtype", "flops", "bytes_read")
    )
