"""Sampling over sharded logits: the distribution asked for, the same word on every rank and for every t."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tpsim import Group, run
from tpsim.infer.noise import gumbel
from tpsim.infer.sampling import Place, Sampler, Sampling
from tpsim.trace import Trace

Array = NDArray[Any]


def shard(logits: Array, t: int, rank: int) -> Array:
    """Cut as the head does: evenly, the end padded by −inf."""
    width = -(-logits.shape[1] // t)
    padded = np.full((len(logits), t * width), -np.inf, logits.dtype)
    padded[:, : logits.shape[1]] = logits
    return padded[:, rank * width : (rank + 1) * width]


def chosen(logits: Array, t: int, sampling: Sampling, way: Any, places: list[Place]) -> list[Array]:
    def main(comm: Any) -> Array:
        group = Group(comm)
        sampler = Sampler(logits.shape[1], group, sampling, way)
        return sampler.choose(shard(logits, t, comm.Get_rank()), places)

    return run(main, t)


def possible(row: Array, sampling: Sampling) -> list[int]:
    """List the words that may be chosen, by plain Python over the whole row."""
    temperature = sampling.temperature or 1.0
    order = sorted(range(len(row)), key=lambda word: (-row[word], word))
    order = order[: 1 if sampling.temperature == 0 else sampling.top_k]
    weights = [math.exp((row[word] - max(row)) / temperature) for word in order]
    if sampling.top_k is None:
        total = sum(math.exp((value - max(row)) / temperature) for value in row)
    else:
        total = sum(weights)
    allowed, mass = [], 0.0
    for word, weight in zip(order, weights, strict=True):
        if sampling.top_p is None or mass < sampling.top_p:
            allowed.append(word)
        mass += weight / total
    return allowed


samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_k=st.none() | st.integers(1, 12),
    top_p=st.none() | st.floats(0.05, 0.99),
    seed=st.integers(0, 5),
)


@settings(max_examples=80)
@given(
    samplings, st.integers(1, 60), st.integers(1, 3), st.integers(0, 999), st.sampled_from([0.1, 1.0, 8.0])
)
def test_every_way_and_every_t_choose_the_same_allowed_word(
    sampling: Sampling, vocab: int, rows: int, seed: int, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = spread * rng.standard_normal((rows, vocab))
    places = [Place(row, int(rng.integers(99))) for row in range(rows)]
    words = {
        (t, way, rank): tuple(result)
        for t in (1, 2, 4, 8)
        for way in ("sharded", "gathered")
        for rank, result in enumerate(chosen(logits, t, sampling, way, places))
    }
    assert len(set(words.values())) == 1
    for row, word in zip(logits, next(iter(words.values())), strict=True):
        assert word in possible(row, sampling)


@settings(max_examples=30)
@given(st.integers(1, 40), st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_of_words_as_good_the_lowest_is_chosen(vocab: int, t: int, seed: int) -> None:
    logits = np.random.default_rng(seed).integers(0, 3, size=(2, vocab)).astype(np.float32)
    for way in ("sharded", "gathered"):
        for top_k in (None, 3):
            got = chosen(logits, t, Sampling(top_k=top_k), way, [Place(0, 0)] * 2)[0]
            assert list(got) == list(np.argmax(logits, axis=1))


def test_a_rank_without_words_has_no_say() -> None:
    logits = np.array([[-5.0, -6.0, -7.0]])
    for sampling in (Sampling(), Sampling(1.0), Sampling(1.0, top_p=0.9), Sampling(1.0, top_k=2)):
        for words in chosen(logits, 8, sampling, "sharded", [Place(0, 0)]):
            assert 0 <= words[0] < 3


@pytest.mark.parametrize(
    "sampling", [Sampling(1.0), Sampling(0.7, top_k=3), Sampling(1.0, top_p=0.8), Sampling(2.0, 4, 0.9)]
)
def test_words_come_as_often_as_their_probability_says(sampling: Sampling) -> None:
    row = np.array([0.3, -0.4, 1.1, 0.9, -2.0, 0.0])
    rows = 20_000
    places = [Place(stream, 17) for stream in range(rows)]
    words = chosen(np.tile(row, (rows, 1)), 2, sampling, "sharded", places)[0]
    allowed = possible(row, sampling)
    weights = np.exp(row[allowed] / sampling.temperature)
    counts = np.bincount(words, minlength=6)
    assert set(np.flatnonzero(counts)) == set(allowed)
    expected = weights / weights.sum()
    error = np.sqrt(expected * (1 - expected) / rows)
    assert np.all(np.abs(counts[allowed] / rows - expected) < 4.5 * error)


def test_noise_depends_on_seed_stream_position_and_word_and_on_nothing_else() -> None:
    words = np.arange(1000)
    base = gumbel(1, 2, 3, words)
    for other in (gumbel(0, 2, 3, words), gumbel(1, 0, 3, words), gumbel(1, 2, 0, words)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.15
    np.testing.assert_array_equal(gumbel(1, 2, 3, words[::-7]), base[::-7])
    assert np.isfinite(base).all()


@pytest.mark.parametrize(
    ("sampling", "sharded"),
    [
        (Sampling(), [(3, 1, 2)]),
        (Sampling(1.0), [(3, 1, 2)]),
        (Sampling(1.0, top_k=5), [(3, 5, 2)]),
        (Sampling(1.0, top_p=0.5), [(3, 1), (3, 32, 2)]),
        (Sampling(1.0, top_k=5, top_p=0.5), [(3, 5, 2)]),
    ],
    ids=str,
)
def test_the_ledger_shows_what_each_way_sends(sampling: Sampling, sharded: list[Any]) -> None:
    logits = np.random.default_rng(0).standard_normal((3, 4000)) * 6

    def main(comm: Any, way: Any) -> Trace:
        sampler = Sampler(4000, Group(comm), sampling, way)
        with Trace() as trace:
            sampler.choose(shard(logits, 4, comm.Get_rank()), [Place(row, 9) for row in range(3)])
        return trace

    for way, shapes in (("sharded", sharded), ("gathered", [(3, 1000)])):
        for trace in run(main, 4, way):
            assert [event.operation for event in trace.collectives] == ["all_gather"] * len(shapes)
            assert [event.shape for event in trace.collectives] == shapes
            assert {event.layer for event in trace.collectives} == {"sampling"}
            assert sum(e.bytes_sent for e in trace.collectives) == sum(3 * 8 * math.prod(s) for s in shapes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sampling(-1.0), "temperature -1.0; pick 0"),
        (lambda: Sampling(1.0, top_k=0), "top_k 0 leaves no word"),
        (lambda: Sampling(1.0, top_p=1.5), "top_p 1.5 is no probability"),
        (
            lambda: chosen(np.zeros((1, 5)), 1, Sampling(), "by post", []),
            "'by post' is not known",
        ),
    ],
)
def test_samplings_that_make_no_sense_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
