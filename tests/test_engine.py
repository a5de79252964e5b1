"""Continuous batching: whoever else is in the batch, a request gets the tokens that it gets alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim import Group, models, run
from tpsim.infer import KVCache
from tpsim.infer.engine import Engine
from tpsim.infer.sampling import Sampler, Sampling
from tpsim.infer.scheduler import Request, Scheduler
from tpsim.models import LanguageModel

SMALL = models.llama("small", 2, 32, 8, kv_heads=2, ffn=24, vocab=21, max_seq=64)
GPT = models.gpt("gpt", 2, 32, 8, vocab=21, max_seq=64)


def built(config: Any, group: Group | None = None) -> LanguageModel:
    model = LanguageModel(config, group, rng=np.random.default_rng(1), dtype=np.float64)
    for parameter in model.parameters().values():
        if parameter.data.ndim == 2:
            parameter.data *= 15
    return model


def alone(model: LanguageModel, request: Request, sampling: Sampling) -> list[int]:
    """Generate by the whole forward each time, over the whole text so far."""
    from tpsim.comm import solo
    from tpsim.infer.sampling import Place

    sampler = Sampler(model.config.vocab, solo(), sampling, "gathered")
    text = list(request.prompt)
    while len(text) < len(request.prompt) + request.most:
        logits = model.logits(np.array([text]))[:, -1]
        text.append(int(sampler.choose(logits, [Place(request.number, len(text))])[0]))
        if text[-1] in request.stops:
            break
    return text[len(request.prompt) :]


requests = st.builds(
    Request,
    number=st.integers(0, 10**6),
    prompt=st.lists(st.integers(0, 20), min_size=1, max_size=9),
    most=st.integers(1, 7),
    stops=st.lists(st.integers(0, 20), max_size=2).map(tuple),
)


@settings(max_examples=40)
@given(
    st.lists(requests, min_size=1, max_size=6, unique_by=lambda one: one.number),
    st.integers(1, 4),
    st.none() | st.integers(1, 5),
    st.sampled_from([Sampling(), Sampling(1.0, seed=3), Sampling(0.8, top_k=4, top_p=0.9)]),
    st.sampled_from([SMALL, GPT]),
    st.integers(0, 3),
)
def test_tokens_do_not_depend_on_who_else_is_served(
    asked: list[Request], rows: int, chunk: int | None, sampling: Sampling, config: Any, gap: int
) -> None:
    model = built(config)
    engine = Engine(model, Sampler(21, model.loss.group, sampling), KVCache(model, rows, 15), chunk)
    got: dict[int, list[int]] = {request.number: [] for request in asked}
    coming = list(asked)
    while coming or not engine.scheduler.idle:
        while coming and (engine.scheduler.idle or not gap):
            engine.scheduler.add(coming.pop(0))
        emitted = engine.step()
        if coming and coming[0].number % (gap + 1) == 0:  # at some steps one more comes
            engine.scheduler.add(coming.pop(0))
        assert len(engine.scheduler.running) <= rows
        for one in emitted:
            got[one.request.number].append(one.token)
            assert one.last == (
                len(got[one.request.number]) == one.request.most or one.token in one.request.stops
            )
    for request in asked:
        assert got[request.number] == alone(model, request, sampling)


def test_every_number_of_ranks_and_every_way_to_sample_give_the_same_tokens() -> None:
    asked = [Request(n, [n, 3, 5 + n], 12) for n in range(3)]
    for sampling in (Sampling(), Sampling(0.9, seed=5), Sampling(1.0, top_k=5), Sampling(1.0, top_p=0.8)):

        def main(comm: Any, way: Any, sampling: Sampling) -> list[tuple[int, int]]:
            group = Group(comm)
            model = built(SMALL, group)
            engine = Engine(model, Sampler(21, group, sampling, way), KVCache(model, 2, 15), chunk=2)
            for request in asked:
                engine.scheduler.add(request)
            return [(one.request.number, one.token) for one in engine.run()]

        results = [
            tokens
            for t in (1, 2, 4, 8)
            for way in ("sharded", "gathered")
            for tokens in run(main, t, way, sampling)
        ]
        assert len(results[0]) == 36
        assert all(tokens == results[0] for tokens in results)


def test_a_long_prompt_in_chunks_does_not_hold_the_others_up() -> None:
    scheduler = Scheduler(rows=3, length=100, chunk=4)
    scheduler.add(Request(0, [1], 50))
    scheduler.add(Request(1, list(range(10)), 5))
    counts = []
    for _ in range(5):
        work = scheduler.plan()
        counts.append((len(work.decode), work.count))
        for one in work.decode:
            one.tokens.append(7)
        if work.prefill:
            work.prefill.filled += work.count
            if not work.prefill.prefilling:
                work.prefill.tokens.append(7)
        assert scheduler.leave() == []
    assert counts == [(0, 1), (1, 4), (1, 4), (1, 2), (2, 0)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scheduler(0, 4), "0 rows of 4"),
        (lambda: Scheduler(1, 4, 0), "chunks of 0"),
        (lambda: Scheduler(1, 4).add(Request(9, [1, 2], 4)), "request 9: 2 tokens of prompt and 4 new"),
        (lambda: Scheduler(1, 4).add(Request(9, [], 1)), "0 tokens of prompt"),
        (lambda: Scheduler(1, 4).add(Request(9, [1], 0)), "0 new ones"),
    ],
)
def test_what_can_never_run_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
