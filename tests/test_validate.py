"""Published times and shapes come out of dry runs; profiles are complete, and say what data sheets say."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim.cost.fit import carry
from tpsim.cost.fit.devices import DEVICES
from tpsim.cost.fit.section import PROFILES, rounded
from tpsim.cost.hardware import load, names
from tpsim.cost.work import Attention, Collective, Gemm, Pointwise, Work
from tpsim.models.config import gpt
from tpsim.studies.validate import fit_a100, iterations, nccl, scaling
from tpsim.studies.validate.comparison import published
from tpsim.studies.validate.pipeline import Job, flops, iteration

PROFILE_OF = {
    "A100-80GB SXM": "a100",
    "H100 SXM": "h100",
    "H200 SXM": "h200",
    "V100-32GB SXM": "v100",
    "PCIe box (RTX 4090)": "pcie",
}


def values(name: str) -> dict[str, Any]:
    text = (PROFILES / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


# --- profiles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_every_section_of_a_profile_has_a_source(name: str) -> None:
    file = values(name)
    sourced = {section.strip() for key in file["sources"] for section in key.split(",")}
    assert sourced == set(file) - {"name", "about", "sources"}
    assert all(file["sources"].values())
    assert load(name).name == name


@pytest.mark.parametrize("facts", published()["hardware_facts"], ids=lambda facts: facts["gpu"])
def test_profiles_hold_the_published_facts(facts: dict[str, Any]) -> None:
    hardware = load(PROFILE_OF[facts["gpu"]])
    for dtype, key in (("bfloat16", "bf16_tflops"), ("float16", "fp16_tflops")):
        if key in facts:
            assert hardware.peak_flops[dtype] == facts[key] * 1e12
    assert hardware.memory_bandwidth == facts["hbm_GBps"] * 1e9
    assert hardware.memory_bytes == facts["hbm_GB"] * 1e9
    assert hardware.node == facts["node"]
    assert hardware.collective.network == facts["network_GBps_each_way_per_gpu"] * 1e9
    link = facts.get("nvlink_GBps_each_way") or facts["pcie_GBps_each_way"]
    assert 0 < hardware.collective.bandwidth < link * 1e9


@pytest.mark.parametrize("name", DEVICES)
def test_carried_profiles_follow_from_the_h200s(name: str) -> None:
    derived = rounded(carry.carried(name, carry.fitted_share(name)))
    assert values(name) == derived, "run python -m tpsim.studies.validate.fit_a100"


load_once = {name: load(name) for name in names()}.__getitem__
SIZES = st.integers(1, 20_000)
KERNELS = st.one_of(
    st.builds(
        Gemm,
        m=SIZES,
        n=SIZES,
        k=SIZES,
        layout=st.sampled_from(["forward", "dgrad", "wgrad"]),
        dtype=st.just("float16"),
        batch=st.integers(1, 64),
    ),
    st.builds(
        Attention,
        batch=st.integers(1, 8),
        heads=st.just(16),
        kv_heads=st.sampled_from([1, 4, 16]),
        seq=st.integers(32, 8192),
        kv_seq=st.just(8192),
        head_size=st.sampled_from([64, 128]),
        direction=st.sampled_from(["forward", "backward"]),
        dtype=st.just("float16"),
    ),
    st.builds(
        lambda name, rows, width: Pointwise(name, rows, width, 4 * rows * width, "float16"),
        st.sampled_from(["add", "gelu", "layer_norm", "rms_norm.backward", "softmax", "dropout", "adamw"]),
        SIZES,
        SIZES,
    ),
)
COLLECTIVES = st.builds(
    Collective,
    operation=st.sampled_from(["all_reduce", "all_gather", "reduce_scatter", "send"]),
    nbytes=st.integers(1, 1 << 32),
    ranks=st.integers(2, 8),
)


@settings(max_examples=150)
@given(KERNELS)
def test_no_kernel_is_slower_on_a_later_device(work: Work) -> None:
    times = [load_once(name).seconds(work) for name in ("v100", "a100", "h100", "h200")]
    assert times == sorted(times, reverse=True)


@settings(max_examples=100)
@given(COLLECTIVES)
def test_no_collective_is_slower_on_later_links(work: Collective) -> None:
    times = [load_once(name).seconds(work) for name in ("v100", "a100", "h100")]
    assert times == sorted(times, reverse=True)


@given(COLLECTIVES, st.integers(2, 8))
def test_slower_network_never_helps(work: Collective, nodes: int) -> None:
    across = replace(work, ranks=8 * nodes)
    assert load_once("h100-ethernet").seconds(across) >= load_once("h100").seconds(across)
    assert load_once("h100-ethernet").seconds(work) == load_once("h100").seconds(work)


def test_steps_over_pcie_are_nccls_constants() -> None:
    (tuning,) = published()["nccl_tuning_us"]
    for place, protocol in enumerate(("LL", "LL128", "Simple")):
        have = load("pcie").collective.protocols[protocol]
        assert have.ring_hop == pytest.approx(1e-6 * tuning["ring_pci"][place])
        assert have.tree_hop == pytest.approx(1e-6 * tuning["tree_pci"][place])


# --- the pipeline -------------------------------------------------------------------------------------------


@given(
    t=st.sampled_from([1, 2, 4]),
    heads=st.integers(1, 3),
    s=st.integers(1, 20),
    b=st.integers(1, 3),
    layers=st.integers(1, 6),
    m=st.integers(1, 4),
    words=st.integers(1, 50),
)
def test_a_job_multiplies_96bsLh2(
    t: int, heads: int, s: int, b: int, layers: int, m: int, words: int
) -> None:
    h, V = 8 * heads * t, words * t
    config = gpt("a model", layers, h, heads * t, vocab=V, max_seq=s * t)
    job = Job(config=config, tp=t, microbatch=b, microbatches=m, seq=s * t, recompute="full")
    must = 96 * b * m * s * t * layers * h * h * (1 + s * t / (6 * h) + V / (16 * layers * h))
    assert math.isclose(flops(job, with_recompute=True), must, rel_tol=1e-12)


@settings(max_examples=25)
@given(p=st.sampled_from([2, 4, 8]), v=st.sampled_from([1, 2, 3]), m=st.integers(1, 100))
def test_a_bubble_is_p_minus_1_over_v_passes_of_a_stage(p: int, v: int, m: int) -> None:
    config = gpt("a model", 24, 1024, 16, vocab=51200, max_seq=512)
    hardware = load_once("a100")
    job = Job(config=config, tp=8, pp=p, interleave=v, microbatches=m, seq=512, recompute="full")
    run, more = iteration(job, hardware), iteration(replace(job, microbatches=m + 1), hardware)
    stage = 24 / p * run.block + run.sends
    assert math.isclose(run.bubble, (p - 1) / v * stage)
    assert math.isclose(more.total - run.total, stage + max(run.front, run.back))
    assert math.isclose(run.sends, v * iteration(replace(job, interleave=1), hardware).sends)


# --- times and shapes ---------------------------------------------------------------------------------------


def test_eight_iteration_times_within_3_5_percent_on_average_and_8_at_worst() -> None:
    errors = np.array([abs(row.error) for row in iterations.table_5()])
    assert errors.shape == (8,)
    assert errors.mean() <= 0.035
    assert errors.max() <= 0.08


def test_the_fitted_share_of_the_peak_is_reproducible_and_plausible() -> None:
    shipped = carry.fitted_share("a100")
    assert shipped is not None
    assert math.isclose(fit_a100.fitted_share(list(iterations.runs())), shipped, rel_tol=1e-3)
    assert 0.75 <= shipped <= 0.9


def test_models_that_were_not_fitted_to_are_as_near() -> None:
    errors = np.abs(fit_a100.unseen())
    assert errors.shape == (8,)
    assert errors.mean() <= 0.035
    assert errors.max() <= 0.08


def test_weak_scaling_falls_as_published() -> None:
    rows = list(scaling.weak_scaling())
    ours = [row.ours for row in rows]
    assert len(ours) == 4
    assert ours == sorted(ours, reverse=True)
    assert all(abs(row.ours - row.theirs) <= 6 for row in rows)


def test_zero3_is_below_tp_with_pp_and_falls_faster() -> None:
    rows = list(scaling.zero3_against_tp_pp())
    assert len(rows) == 6
    assert all(row.zero3.ours < row.tp_pp.ours for row in rows)
    for size in (175, 530):
        of_model = [row for row in rows if row.params_b == size]
        zero3, tp_pp = ([getattr(row, way).ours for row in of_model] for way in ("zero3", "tp_pp"))
        assert zero3 == sorted(zero3, reverse=True)
        assert tp_pp == sorted(tp_pp, reverse=True)
        assert zero3[-1] / zero3[0] < tp_pp[-1] / tp_pp[0]


def test_bus_bandwidths_within_3_percent() -> None:
    assert all(abs(row.error) <= 0.03 for row in nccl.bandwidths())


def test_all_reduces_of_one_node_within_a_quarter() -> None:
    rows = [row for row in nccl.times() if row.what.startswith("8 ")]
    assert len(rows) == 5
    assert all(abs(row.error) <= 0.25 for row in rows)


def test_llama_3_loses_speed_with_more_pipelines() -> None:
    fewer, more = scaling.llama3()
    assert more.ours < fewer.ours
