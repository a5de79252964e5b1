"""Matrix products and the power limit: what holds for any size, and how near the H200's measurements are."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tpsim.cost
from tpsim.cost.compare import gemm as gemm_rows
from tpsim.cost.compare import power as power_rows
from tpsim.cost.compare.case import summarise
from tpsim.cost.gemm import GemmModel, extents
from tpsim.cost.power import Demand, PowerModel
from tpsim.cost.work import Gemm

H200 = json.loads((Path(tpsim.cost.__file__).parent / "profiles" / "h200.json").read_text(encoding="utf-8"))
GEMM = GemmModel.from_dict(H200["gemm"])
POWER = PowerModel.from_dict(H200["power"])

# Small numbers, so that times can be worked out by hand: 4 processors of 1 FLOP/ns, tiles of 128 × 128 only.
BY_HAND = GemmModel(
    processors=4,
    rate={"float32": 4e9},
    load=1e30,
    bandwidth=1e30,
    tile_start=1.0,
    tile_end=0.0,
    reduce=0.5,
    overlap=3.0,
    gap=0.25,
    graph_gap=0.125,
    tiles=((128, 128),),
    splits=(1,),
)
TILE_STEP = 2 * 128 * 128 * 64 / 1e9  # seconds of 64 along k

layouts = st.sampled_from(["forward", "dgrad", "wgrad"])
gemms = st.builds(
    Gemm,
    m=st.integers(1, 16384),
    n=st.integers(1, 30000),
    k=st.integers(1, 30000),
    layout=layouts,
    batch=st.integers(1, 8),
)
clocks = st.floats(0.5, 1.0)
demands = st.builds(
    lambda compute, fill, other, memory: Demand(compute, other, compute * fill, other * memory),
    compute=st.floats(1e-6, 1.0),
    fill=st.floats(0, 1),
    other=st.floats(0, 1.0),
    memory=st.floats(0, 1),
)


@given(gemms, st.sampled_from(["m", "n", "k", "batch"]), st.integers(1, 3000), clocks, st.booleans())
def test_a_larger_product_never_takes_less(
    work: Gemm, which: str, more: int, clock: float, graph: bool
) -> None:
    larger = replace(work, **{which: getattr(work, which) + more})
    assert GEMM.seconds(larger, clock=clock, graph=graph) >= GEMM.seconds(work, clock=clock, graph=graph)


@given(gemms, clocks)
def test_a_product_takes_longer_than_its_flops_and_its_bytes(work: Gemm, clock: float) -> None:
    seconds = GEMM.seconds(work, clock=clock)
    assert seconds > GEMM.matmul_seconds(work) / clock
    assert seconds > GEMM.memory_seconds(work)


@given(gemms, clocks)
def test_a_lower_clock_slows_by_no_more_than_its_ratio(work: Gemm, clock: float) -> None:
    ratio = GEMM.seconds(work, clock=clock) / GEMM.seconds(work)
    assert 1 - 1e-12 <= ratio <= 1 / clock + 1e-12


@given(gemms)
def test_a_gradient_costs_what_the_forward_with_its_dimensions_does(work: Gemm) -> None:
    rows, columns, depth = extents(work)
    assert GEMM.seconds(work) == GEMM.seconds(Gemm(rows, columns, depth, batch=work.batch))


@given(gemms)
def test_three_layouts_of_a_layer_do_the_same_flops(work: Gemm) -> None:
    rows, columns, depth = extents(work)
    assert 2 * rows * columns * depth * work.batch == work.flops


@pytest.mark.parametrize(
    ("work", "waves", "steps"),
    [
        (Gemm(256, 256, 64, dtype="float32"), 1, 1),  # 4 tiles on 4 processors
        (Gemm(256, 257, 64, dtype="float32"), 2, 1),  # 6 tiles: a second wave, half empty
        (Gemm(1, 1, 65, dtype="float32"), 1, 2),  # one padded tile, k padded to 128
        (Gemm(128, 128, 640, dtype="float32", batch=9), 3, 10),  # tiles of a batch share the waves
        (Gemm(640, 256, 128, layout="wgrad", dtype="float32"), 1, 10),  # output [128, 256], summed over 640
    ],
)
def test_tiles_run_in_waves(work: Gemm, waves: int, steps: int) -> None:
    expected = waves * (steps * TILE_STEP + 1.0)
    assert BY_HAND.seconds(work) == pytest.approx(expected + 0.25)
    assert BY_HAND.seconds(work, graph=True) == pytest.approx(expected + 0.125)
    assert BY_HAND.seconds(work, clock=0.5) == pytest.approx(2 * (expected + 0.25))


def test_a_long_sum_into_few_tiles_is_split() -> None:
    split = replace(BY_HAND, splits=(1, 2, 4))
    long = Gemm(128, 128, 64 * 1000, dtype="float32")
    assert split.seconds(long) == pytest.approx(250 * TILE_STEP + 1.0 + 0.5 + 0.25)
    filled = Gemm(256, 256, 64 * 1000, dtype="float32")
    assert split.seconds(filled) == BY_HAND.seconds(filled)


def test_few_rows_cost_the_weights_that_they_stream() -> None:
    streamed = 2 * 28672 * 8192 / GEMM.bandwidth
    one, sixteen = (GEMM.seconds(Gemm(m, 28672, 8192), graph=True) for m in (1, 16))
    assert streamed < one < 1.1 * streamed
    assert sixteen < 1.02 * one


def test_half_the_bytes_stream_in_about_half_the_time() -> None:
    wide = GEMM.seconds(Gemm(1, 28672, 8192), graph=True)
    narrow = GEMM.seconds(Gemm(1, 28672, 8192, dtype="float8_e4m3fn"), graph=True)
    assert 0.5 < narrow / wide < 0.55


def test_a_dtype_without_a_rate_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"float64.*no rate.*pick one of bfloat16"):
        GEMM.seconds(Gemm(1, 1, 1, dtype="float64"))


# --- power --------------------------------------------------------------------------------------------------


@given(demands)
def test_a_steady_step_draws_the_limit_or_runs_at_boost(demand: Demand) -> None:
    clock = POWER.steady_clock(demand)
    if clock == 1.0:
        assert POWER.watts(demand) <= POWER.limit
    elif clock > POWER.lowest:
        assert POWER.watts(demand, clock) == pytest.approx(POWER.limit)


@given(demands, st.floats(0, 1.0))
def test_waiting_lets_the_clock_rise(demand: Demand, wait: float) -> None:
    rested = demand + Demand(other=wait)
    assert POWER.steady_clock(rested) >= POWER.steady_clock(demand) - 1e-9


@given(demands, st.floats(0.01, 10), st.floats(0, 1))
def test_a_burst_is_between_rested_and_steady(demand: Demand, busy: float, rest: float) -> None:
    steady = POWER.heat(demand)
    assert 0 <= POWER.heat(demand, busy=busy, rest=rest) <= steady
    assert POWER.heat(demand, busy=1e6, rest=rest) == pytest.approx(steady, rel=1e-4)


@given(demands, st.floats(0, 1), st.floats(0, 1))
def test_longer_rest_gives_longer_boost(demand: Demand, rest: float, more: float) -> None:
    longer = POWER.boost_seconds(demand, rest=rest + more)
    assert longer >= POWER.boost_seconds(demand, rest=rest) >= 0


@given(demands)
def test_the_clock_of_a_steady_heat_is_the_steady_clock(demand: Demand) -> None:
    assert POWER.clock(POWER.heat(demand)) == pytest.approx(POWER.steady_clock(demand))


def test_idling_and_streaming_do_not_heat() -> None:
    assert POWER.heat(Demand()) == 0
    assert POWER.heat(Demand(other=1.0, memory=1.0)) == 0


def test_large_products_alone_are_what_heat_one_means() -> None:
    alone = power_rows.demand(GEMM, copies_per_product=0)
    assert POWER.heat(alone) == pytest.approx(1.0, abs=0.01)


# --- against the measurements -------------------------------------------------------------------------------


def test_the_profile_is_within_its_target_of_the_measured_products() -> None:
    errors = {summary.group: summary for summary in summarise(gemm_rows.rows(GEMM, POWER))}
    for group in ("gemm, cool", "gemm, hot", "gemm, skinny, graph"):
        assert errors[group].mean < 0.05
        assert errors[group].p90 < 0.15


def test_the_profile_follows_the_throttle_curves() -> None:
    (summary,) = summarise(power_rows.rows(GEMM, POWER))
    assert summary.mean < 0.05
    assert summary.p90 < 0.15
