"""Prices of attention, pointwise kernels, collectives and host calls: near the measured ones, sane beside."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpsim.cost import hardware
from tpsim.cost.compare import attention as attention_rows
from tpsim.cost.compare import collective as collective_rows
from tpsim.cost.compare import host as host_rows
from tpsim.cost.compare import pointwise as pointwise_rows
from tpsim.cost.compare.case import Row, summarise
from tpsim.cost.fit import attention as attention_fit
from tpsim.cost.fit import collective as collective_fit
from tpsim.cost.fit import host as host_fit
from tpsim.cost.fit import section
from tpsim.cost.fit.search import fit
from tpsim.cost.host import Mode
from tpsim.cost.work import Attention, Collective, Pointwise

H200 = hardware.load("h200")
LINK = 450e9  # NVLink of an H200, bytes a second each way, data sheet
OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all", "send")
FAMILIES = sorted({*H200.pointwise.families, *H200.pointwise.like, "never heard of"})

counts = st.integers(1, 16)
sizes = st.integers(1, 2**31)
cores = st.builds(
    Attention,
    batch=counts,
    heads=counts.map(lambda n: 8 * n),
    kv_heads=st.just(8),
    seq=st.integers(32, 8192),
    kv_seq=st.just(0),
    head_size=st.sampled_from([64, 80, 96, 128, 192, 256]),
    causal=st.booleans(),
    direction=st.sampled_from(["forward", "backward"]),
    backend=st.sampled_from(["default", "cudnn", "flash"]),
).map(lambda work: replace(work, kv_seq=work.seq))
kernels = st.builds(
    lambda name, rows, width, arrays: Pointwise(name, rows, width, 2 * arrays * rows * width),
    st.sampled_from(FAMILIES),
    st.integers(1, 16384),
    st.integers(1, 16384),
    st.integers(1, 5),
)


# --- against the measurements -------------------------------------------------------------------------------


def test_large_groups_measured_on_a_queued_device_or_in_graphs_are_within_five_percent() -> None:
    rows = [
        *attention_rows.rows(H200.attention),
        *pointwise_rows.rows(H200.pointwise, H200.host),
        *collective_rows.rows(H200.collective),
    ]
    groups = [
        s for s in summarise(rows) if s.rows >= 15 and not s.group.endswith(("one call", "hardly queued"))
    ]
    assert len(groups) == 12
    for summary in groups:
        assert summary.mean <= 0.05, summary
        assert summary.p90 <= 0.15, summary


def test_host_calls_are_within_five_percent_together() -> None:
    assert np.mean([abs(row.error) for row in host_rows.rows(H200.host)]) <= 0.05


@pytest.mark.parametrize(
    ("name", "refitted"),
    [
        ("attention", lambda: attention_fit.section(attention_rows.cases())),
        ("collective", lambda: collective_fit.section(collective_rows.cases())),
        ("host", host_fit.section),
    ],
)
def test_a_fit_gives_the_numbers_of_the_shipped_profile(name: str, refitted: object) -> None:
    assert callable(refitted)
    shipped = json.loads((section.PROFILES / "h200.json").read_text(encoding="utf-8"))[name]
    again = section.rounded(refitted())
    for (path, expected), (same, value) in zip(_leaves(shipped), _leaves(again), strict=True):
        assert path == same
        assert value == (pytest.approx(expected, rel=0.02) if isinstance(expected, float) else expected), path


def _leaves(value: object, path: str = "") -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in _leaves(value[key], f"{path}.{key}")]
    return [(path, value)]


# --- attention ----------------------------------------------------------------------------------------------


@given(cores, st.sampled_from(["batch", "heads", "head_size", "seq"]), st.integers(1, 4))
def test_attention_takes_no_less_time_for_more_of_anything(work: Attention, what: str, factor: int) -> None:
    larger = replace(work, **{what: factor * getattr(work, what)})
    larger = replace(larger, kv_seq=larger.seq)
    assert H200.seconds(larger) >= H200.seconds(work)


@given(cores)
def test_attention_never_beats_the_data_sheet(work: Attention) -> None:
    assert work.flops / H200.seconds(work) <= H200.peak_flops["bfloat16"]


@given(cores)
def test_a_causal_mask_saves_up_to_half_of_attention(work: Attention) -> None:
    full = H200.seconds(replace(work, causal=False))
    assert 0.5 * full <= H200.seconds(replace(work, causal=True)) <= full


@given(cores, st.floats(0.3, 1.0))
def test_attention_slows_with_the_clock_but_no_more_than_in_proportion(work: Attention, clock: float) -> None:
    cool = H200.attention.seconds(work, clock=1.0, graph=True)
    slow = H200.attention.seconds(work, clock=clock, graph=True)
    assert cool <= slow <= cool / clock * (1 + 1e-12)


@given(st.integers(1, 256), st.integers(64, 131072), st.sampled_from([1, 2, 8]), st.sampled_from([1, 4, 8]))
def test_decode_reads_the_cache_once_for_all_the_queries_of_a_group(
    batch: int, context: int, kv_heads: int, group: int
) -> None:
    work = Attention(batch, group * kv_heads, kv_heads, 1, context, 128)
    one = replace(work, heads=kv_heads)
    assert H200.seconds(work, graph=True) == H200.seconds(one, graph=True)
    read = 2 * batch * kv_heads * context * 128 * 2
    assert H200.seconds(work, graph=True) > read / H200.memory_bandwidth


@given(cores)
def test_attention_on_four_byte_operands_costs_more(work: Attention) -> None:
    assert H200.seconds(replace(work, dtype="float32")) > H200.seconds(work)


def test_an_attention_backend_without_numbers_is_refused_by_name() -> None:
    model = replace(H200.attention, kernels={"flash": H200.attention.kernels["flash"]})
    with pytest.raises(ValueError, match="'cudnn' has no numbers in this profile; pick one of flash"):
        model.seconds(Attention(1, 8, 8, 2048, 2048, 128), clock=1.0, graph=False)


# --- pointwise ----------------------------------------------------------------------------------------------


@given(kernels, st.sampled_from(["rows", "width"]), st.integers(1, 4))
def test_a_pointwise_kernel_takes_no_less_time_for_more(work: Pointwise, what: str, factor: int) -> None:
    larger = replace(work, nbytes=factor * work.nbytes, **{what: factor * getattr(work, what)})
    assert H200.seconds(larger) >= H200.seconds(work)


@given(kernels, st.integers(2**27, 2**34))
def test_a_pointwise_kernel_on_arrays_beyond_the_cache_never_beats_the_memory(
    work: Pointwise, nbytes: int
) -> None:
    work = replace(work, nbytes=nbytes)
    assert work.nbytes / H200.seconds(work) <= H200.memory_bandwidth


@given(kernels)
def test_a_pointwise_kernel_is_faster_in_a_graph_by_the_gap(work: Pointwise) -> None:
    saved = H200.seconds(work) - H200.seconds(work, graph=True)
    assert saved == pytest.approx(H200.pointwise.gap, rel=1e-6)


@given(kernels)
def test_what_a_profile_does_not_know_is_priced_as_an_addition(work: Pointwise) -> None:
    assert H200.seconds(replace(work, name="never heard of")) == H200.seconds(replace(work, name="add"))


def test_every_likeness_is_to_a_family_that_was_measured() -> None:
    assert set(H200.pointwise.like.values()) <= set(H200.pointwise.families)
    assert not set(H200.pointwise.like) & set(H200.pointwise.families)


# --- collectives --------------------------------------------------------------------------------------------


@given(st.sampled_from(OPERATIONS), sizes, sizes, st.integers(2, 64))
def test_a_collective_takes_no_less_time_for_more_bytes(
    operation: str, one: int, other: int, ranks: int
) -> None:
    few, many = sorted((one, other))
    assert H200.seconds(Collective(operation, few, ranks)) <= H200.seconds(Collective(operation, many, ranks))


@given(st.sampled_from(["all_reduce", "all_gather", "reduce_scatter"]), sizes, st.integers(2, 8))
def test_no_ring_sends_faster_than_the_links(operation: str, nbytes: int, ranks: int) -> None:
    model = replace(H200.collective, switch=None)
    sent = {"all_reduce": 2}.get(operation, 1) * nbytes * (ranks - 1) / ranks
    assert sent / model.seconds(Collective(operation, nbytes, ranks), node=8, graph=True) <= LINK


@given(st.sampled_from(OPERATIONS), st.integers(2**26, 2**31), st.integers(2, 8))
def test_large_tensors_take_longer_across_nodes(operation: str, nbytes: int, node: int) -> None:
    work = Collective(operation, nbytes, 2 * node)
    near = H200.collective.seconds(work, node=2 * node, graph=True)
    assert H200.collective.seconds(work, node=node, graph=True) > near


@given(sizes, st.integers(2, 8))
def test_an_all_reduce_costs_more_than_its_reduce_scatter(nbytes: int, ranks: int) -> None:
    model = replace(H200.collective, switch=None)
    both, half = (
        model.seconds(Collective(name, nbytes, ranks), node=8, graph=True)
        for name in ("all_reduce", "reduce_scatter")
    )
    assert both > half


@given(st.integers(3, 8), st.integers(2**28, 2**33))
def test_large_sums_go_through_a_switch_that_can_add(ranks: int, nbytes: int) -> None:
    work = Collective("all_reduce", nbytes, ranks)
    without = replace(H200.collective, switch=None)
    assert H200.seconds(work) < without.seconds(work, node=8, graph=False)


@pytest.mark.parametrize("operation", [*OPERATIONS, "barrier"])
def test_a_collective_of_one_rank_is_free(operation: str) -> None:
    assert H200.seconds(Collective(operation, 10**6, 1)) == 0


@pytest.mark.parametrize("ranks", [2, 3, 8, 16, 64])
def test_a_barrier_costs_as_much_as_a_tiny_sum(ranks: int) -> None:
    assert H200.seconds(Collective("barrier", 0, ranks)) == H200.seconds(Collective("all_reduce", 4, ranks))


def test_a_collective_without_a_price_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'gossip' has no price; pick one of all_reduce"):
        H200.seconds(Collective("gossip", 1, 2))


# --- host ---------------------------------------------------------------------------------------------------


@given(st.sampled_from([*sorted(H200.host.calls), "never heard of"]))
def test_the_host_issues_nothing_inside_a_graph(call: str) -> None:
    assert H200.host.seconds(call, "graph") == 0


@given(st.sampled_from(sorted(H200.host.calls)))
def test_recording_a_call_for_autograd_costs_extra_if_anything(call: str) -> None:
    assert H200.host.seconds(call, "recorded") >= H200.host.seconds(call, "no_grad") > 0


@given(st.sampled_from(sorted(H200.host.calls)), st.sampled_from(["no_grad", "recorded", "backward"]))
def test_the_gradient_of_a_call_is_found_under_its_name(call: str, mode: Mode) -> None:
    assert H200.host.seconds(f"{call}.backward", mode) == H200.host.seconds(call, mode)


def test_an_unknown_call_is_a_generic_one() -> None:
    assert H200.host.seconds("never heard of", "recorded") == H200.host.seconds("generic", "recorded")


# --- fitting ------------------------------------------------------------------------------------------------


@given(st.floats(1e-7, 1e-5), st.floats(1e9, 1e13), st.integers(0, 19))
def test_a_fit_finds_planted_numbers_behind_an_outlier(alpha: float, rate: float, outlier: int) -> None:
    nbytes = np.geomspace(1e-2, 1e2, 20) * alpha * rate  # both numbers matter in some rows
    measured = alpha + nbytes / rate
    measured[outlier] *= 3
    found = fit(lambda n: n[0] + nbytes / n[1], measured, np.array([1.3 * alpha, rate / 1.3]))
    np.testing.assert_allclose(found, [alpha, rate], rtol=0.02)


def test_a_fit_leaves_alone_what_no_row_depends_on() -> None:
    found = fit(lambda n: n[:1] * np.ones(3), np.full(3, 2.0), np.array([1.9, 7.0]))
    assert found[1] == pytest.approx(7.0)


def test_a_section_is_written_without_touching_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(section, "PROFILES", tmp_path)
    section.write_section("host", {"start": 1.23456789e-5}, "one", profile="mine")
    section.write_section("pointwise", {"gap": [1, 2.0]}, "another", profile="mine")
    written = json.loads((tmp_path / "mine.json").read_text(encoding="utf-8"))
    assert written == {
        "host": {"start": 1.235e-5},
        "pointwise": {"gap": [1, 2.0]},
        "sources": {"host": "one", "pointwise": "another"},
    }


def test_halves_prices_each_row_by_the_rows_of_the_other_half() -> None:
    seen: list[tuple[int, int]] = []

    def price(fitted_to: object, cases: object) -> list[Row]:
        assert isinstance(fitted_to, list)
        assert isinstance(cases, list)
        seen.extend((one, other) for one in fitted_to for other in cases)
        return [Row("", str(case), 1.0, 1.0) for case in cases]

    rows = section.halves(list(range(9)), price)
    assert sorted(row.what for row in rows) == sorted(map(str, range(9)))
    assert all(one != other for one, other in seen)
