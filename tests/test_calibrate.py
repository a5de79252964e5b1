"""Fits find the numbers that timings were made of; a machine's profile prices what its own layers run."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi_jobs import needs_mpi

import tpsim
from tpsim import Trace, nn
from tpsim.comm import mpi
from tpsim.comm.dry import dry_group
from tpsim.cost import hardware
from tpsim.cost.collective import CollectiveModel
from tpsim.cost.fit import machine
from tpsim.cost.fit.machine import Point
from tpsim.cost.fit.nonnegative import nonnegative
from tpsim.cost.gemm import GemmModel
from tpsim.cost.pointwise import Family, PointwiseModel
from tpsim.cost.stacks import NUMPY, launches
from tpsim.cost.work import Attention, Collective, Gemm, Pointwise, Work
from tpsim.dry import ShapeArray
from tpsim.dry.world import shapes_only
from tpsim.studies.calibrate import Calibration, Effort
from tpsim.studies.calibrate.cases import FAMILIES, Pool, messages, passes, products
from tpsim.studies.calibrate.profile import Measured, fitted, measure
from tpsim.studies.calibrate.timing import seconds_of
from tpsim.studies.validate.machine import JOBS, PARTS, Job, predicted, steps

TINY = Effort(
    rounds=1,
    arrays=((4, 32), (64, 64)),
    products=((32, 32, 32), (64, 32, 48)),
    batched=((16, 16, 8),),
    messages=(1, 512, 4096),
)


def seconds(low: float, high: float) -> st.SearchStrategy[float]:
    """Any scale from low to high."""
    return st.floats(math.log(low), math.log(high)).map(math.exp)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    """Of kernels of one rank, and collectives of two virtual ones."""
    alone = tpsim.run(measure, 1, TINY)[0]
    two = tpsim.run(measure, 2, Effort(**{**vars(TINY), "dtypes": ("float32",)}))[0]
    return fitted(Measured(1, alone.kernels, two.collectives, alone.block), "virtual")


# --- fits ---------------------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(0.1, 10.0) | st.just(0.0), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_least_squares_find_numbers_of_which_some_are_zero(numbers: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    terms = rng.uniform(0.1, 1.0, (12, len(numbers))) ** 3
    expected = np.array(numbers)
    found = nonnegative(terms, terms @ expected + 1e-9)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_least_squares_leave_what_no_row_uses_at_zero_and_an_outlier_aside() -> None:
    x = np.arange(1.0, 11.0)
    measured = 3 * x
    measured[4] *= 5
    found = nonnegative(np.stack([x, np.zeros(10)], axis=1), measured)
    assert found[1] == 0
    assert found[0] == pytest.approx(3, rel=0.01)


@given(
    floor=seconds(1e-7, 1e-4),
    cached=seconds(1e10, 1e11),
    slower=st.floats(2.0, 10.0),
    row=seconds(1e-9, 1e-7),
    cache=st.sampled_from([2.0**20, 2.0**23, 2.0**25]),
)
@settings(max_examples=20)
def test_passes_give_back_floor_bandwidths_rows_and_cache(
    floor: float, cached: float, slower: float, row: float, cache: float
) -> None:
    family = Family(floor, cached / slower, cached, per_row=row)
    truth = PointwiseModel(0.0, cache, 1e9, {"add": family}, {})
    works = [
        Pointwise("add", rows, width, 12 * rows * width)
        for rows in (4, 64, 1024, 8192)
        for width in (16, 256, 2048)
    ]
    section = machine.pointwise_section([Point(work, truth.seconds(work, graph=True)) for work in works])
    assert section["cache"] == cache
    found = PointwiseModel.from_dict(section)
    for work in works:
        assert found.seconds(work, graph=True) == pytest.approx(truth.seconds(work, graph=True), rel=1e-4)


@given(
    rate=seconds(1e10, 1e12), ratio=st.floats(1.5, 3.0), bandwidth=seconds(5e9, 5e10), gap=seconds(5e-7, 5e-6)
)
@settings(max_examples=5, deadline=None)
def test_products_give_back_what_they_were_made_of(
    rate: float, ratio: float, bandwidth: float, gap: float
) -> None:
    truth = GemmModel.from_dict(
        {
            "processors": 1,
            "tiles": [[16, 16]],
            "splits": [1],
            "step": 4,
            "rate": {"float32": rate, "float64": rate / ratio},
            "load": 1e15,
            "bandwidth": bandwidth,
            "tile_start": 1e-8,
            "tile_end": 1e-10,
            "overlap": 1.5,
            "reduce": 0.0,
            "gap": gap,
            "graph_gap": gap,
        }
    )
    works = [
        Gemm(m, n, k, dtype=dtype)
        for dtype in ("float32", "float64")
        for m in (16, 128, 1024)
        for n in (16, 256)
        for k in (16, 512)
    ]
    times = [truth.seconds(work) for work in works]
    found = GemmModel.from_dict(machine.gemm_section(list(map(Point, works, times))))
    errors = [found.seconds(work, graph=True) / time - 1 for work, time in zip(works, times, strict=True)]
    assert np.mean(np.abs(errors)) < 0.03


@given(
    base=seconds(1e-6, 1e-4),
    hop=seconds(1e-6, 1e-4),
    rates=st.lists(seconds(1e8, 1e11), min_size=3, max_size=3),
    ranks=st.integers(2, 8),
)
def test_collectives_give_back_latency_and_bandwidth(
    base: float, hop: float, rates: list[float], ranks: int
) -> None:
    rounds = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}

    def truth(operation: str, rate: float, nbytes: int) -> float:
        steps = rounds[operation] * (ranks - 1)
        return base + steps * hop + steps * nbytes / ranks / rate

    points = [
        Point(Collective(operation, nbytes, ranks), truth(operation, rate, nbytes))
        for operation, rate in zip(rounds, rates, strict=True)
        for nbytes in (64, 4096, 65_536, 1 << 20, 1 << 24)
    ]
    found = CollectiveModel.from_dict(machine.collective_section(points))
    for work, second in points:
        assert isinstance(work, Collective)
        assert found.seconds(work, node=ranks, graph=True) == pytest.approx(second, rel=1e-3)


# --- what is called -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_call_runs_as_the_work_that_it_stands_for(dtype: str) -> None:
    pool = Pool(dtype, 4096)
    cases = [*passes(pool, [(16, 32)]), *products(pool, [(8, 16, 4)], batch=3)]
    with np.errstate(all="raise"):
        for case in cases:
            case.call(0)
            case.call(1)
            assert isinstance(case.work, Gemm | Pointwise)
            if case.work.dtype != "bool":
                assert case.work.dtype == dtype
    names = {case.work.name.removesuffix(".float64") for case in cases if isinstance(case.work, Pointwise)}
    assert names == set(FAMILIES)


def test_operands_stay_as_they_were() -> None:
    pool = Pool("float32", 4096)
    before = pool.views((64, 64))[0].copy()
    for case in passes(pool, [(64, 64)]):
        case.call(0)
    np.testing.assert_array_equal(pool.views((64, 64))[0], before)


def test_ranks_agree_on_what_calls_take() -> None:
    def main(comm: Any) -> list[float]:
        group = tpsim.Group(comm)
        return seconds_of([case.call for case in messages(group, [1, 64])], comm, rounds=2, at_least=0.0)

    first, *others = tpsim.run(main, ranks=3)
    assert len(first) == 8
    assert all(second > 0 for second in first)
    assert all(other == first for other in others)


# --- the numpy stack ----------------------------------------------------------------------------------------


def block(dtype: str = "float32", **options: Any) -> Trace:
    """Forward and backward of a block on 2 ranks."""
    with shapes_only():
        layer = nn.TransformerBlock(32, 4, 64, dry_group(2), dtype=dtype, **options)
    x: Any = ShapeArray((2, 8, 32), dtype)
    with Trace(kernels=True) as trace:
        layer.backward(layer.forward(x))
    return trace


@given(kv_heads=st.sampled_from([2, 4]), activation=st.sampled_from(["gelu_tanh", "swiglu"]))
@settings(max_examples=6)
def test_products_do_the_flops_of_the_record(kv_heads: int, activation: Any) -> None:
    trace = block(kv_heads=kv_heads, activation=activation)
    works = [launch.work for launch in launches(trace, NUMPY)]
    flops = sum(work.flops for work in works if isinstance(work, Gemm))
    assert flops == sum(kernel.matmul_flops for kernel in trace.kernels)


def test_narrow_floats_are_cast_and_computed_with_in_float32() -> None:
    works = [launch.work for launch in launches(block("bfloat16"), NUMPY)]
    assert {work.dtype for work in works if isinstance(work, Gemm)} == {"float32"}
    assert any(isinstance(work, Pointwise) and work.name == "astype" for work in works)


def test_a_core_carries_its_messages_itself() -> None:
    program = launches(block(overlap="dw"), NUMPY)
    for place, launch in enumerate(program):
        if launch.stream == "communication":
            assert program[place + 1].after == (place,)


# --- the profile --------------------------------------------------------------------------------------------


def test_the_profile_is_a_file_that_prices_every_kind_of_work(
    calibration: Calibration, tmp_path: Path
) -> None:
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(calibration.profile, allow_nan=False), encoding="utf-8")
    prices = hardware.load(path)
    works: list[Work] = [
        Gemm(64, 64, 64, "wgrad", "float32", 2),
        Gemm(64, 64, 64, dtype="float64"),
        Attention(1, 2, 2, 64, 64, 16, dtype="float32"),
        Attention(1, 2, 2, 64, 64, 16, direction="backward", dtype="float32"),
        Attention(1, 2, 2, 1, 64, 16, dtype="float32"),
        *(Pointwise(name, 64, 64, 1 << 16) for name in (*FAMILIES, "never heard of")),
        *(Collective(name, 4096, 2) for name in ("all_reduce", "all_gather", "reduce_scatter", "barrier")),
    ]
    for work in works:
        cool, hot = prices.seconds(work), prices.seconds(work, heat=1.0)
        assert 0 < cool < 1
        assert hot == cool, "a machine without a power limit has one clock"


def test_a_longer_pass_never_takes_less(calibration: Calibration) -> None:
    prices = calibration.hardware.pointwise
    for name in prices.families:
        times = [prices.seconds(Pointwise(name, 1, 1, 2**power), graph=True) for power in range(8, 30)]
        assert times == sorted(times)


def test_a_predicted_step_is_the_sum_of_its_parts(calibration: Calibration) -> None:
    parts = predicted(JOBS[0], calibration.hardware, tp=2)
    assert parts["step"] == pytest.approx(sum(parts[part] for part in PARTS[:4]))
    assert parts["step"] == pytest.approx(parts["messages"] + parts["computing"])
    assert all(parts.values())


def test_predicted_and_measured_steps_stand_side_by_side(calibration: Calibration) -> None:
    job = Job(JOBS[0].config, batch=1, seq=8)
    rows = tpsim.run(steps, 2, calibration.hardware, [job], schedule="lockstep")[0]
    assert [row.what for row in rows] == list(PARTS)
    assert all(row.theirs > 0 and row.ours > 0 for row in rows)


# --- memory -------------------------------------------------------------------------------------------------

FAULTS = """
import resource, sys
import numpy as np
from tpsim.comm.memory import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(1 << 17) for _ in range(16)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if not keep_memory():
    sys.exit(3)
faults()
print(faults())
"""


def test_kept_memory_is_used_again_without_a_fault() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("not glibc on Linux")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100, "16 MiB are 4,096 pages"


# --- the command --------------------------------------------------------------------------------------------


def command(*arguments: str, where: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tpsim", *arguments], cwd=where, capture_output=True, text=True, check=False
    )


@needs_mpi
def test_a_quick_calibration_is_enough_for_an_estimate(tmp_path: Path) -> None:
    done = command("calibrate", "--quick", where=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "written: machine.json" in done.stdout
    profile = json.loads((tmp_path / "machine.json").read_text(encoding="utf-8"))
    assert "mpiexec" in profile["sources"]["collective"]
    asked = (
        "estimate",
        "tiny-gpt",
        "--hardware",
        "machine.json",
        "--stack",
        "numpy",
        "--tp",
        "1,2",
        "--json",
    )
    estimated = command(*asked, where=tmp_path)
    assert estimated.returncode == 0, estimated.stderr
    rows = json.loads(estimated.stdout)["rows"]
    assert [row["tp"] for row in rows] == [1, 2]
    for row in rows:
        assert row["host_bound"] == pytest.approx(0, abs=1e-9)
        assert 0 < row["mfu"] < 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--ranks", "0"), "pick 1 or more"),
        (("--out", "nowhere/machine.json"), "pick one in a folder that is there"),
        (("--ranks", "1", "--check"), "leave --check out"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = command("calibrate", *arguments, where=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_mpi_it_says_so_and_measures_virtual_ranks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert mpi.rank_of_job() == 0
    missing = tmp_path / "mpi4py"
    missing.mkdir()
    (missing / "__init__.py").write_text("raise ImportError\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = command("calibrate", "--quick", where=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Collectives are those of virtual ranks" in done.stdout
