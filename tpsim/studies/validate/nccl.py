"""All-reduces that were published, against the price of the collective model.

Bus bandwidths on one node set the profiles' own, so those rows say only that they are met. Times, and what
is of two nodes, were used for nothing. The two nodes were joined by EFA, whose latency the profile, which is
of InfiniBand, does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tpsim.cost.collective import CollectiveModel
from tpsim.cost.hardware import load
from tpsim.cost.work import Collective
from tpsim.studies.validate.comparison import Comparison, published

LONG = 1 << 30  # bytes of a message whose latency does not matter
_RANKS = {"8 x H100 NVSwitch": 8, "2 nodes x 8 H100": 16}


def all_reduce(nbytes: int, ranks: int, profile: str, *, ring: bool = False) -> float:
    """Return the seconds of an all-reduce inside a CUDA graph; with `ring`, the switch does not help."""
    hardware = load(profile)
    model: CollectiveModel = hardware.collective
    if ring:
        model = replace(model, switch=None)
    return model.seconds(Collective("all_reduce", nbytes, ranks), node=hardware.node, graph=True)


def bus_bandwidth(nbytes: int, ranks: int, profile: str, *, ring: bool = False) -> float:
    """Return the bytes a second that a ring of as many ranks would send in the same time."""
    return 2 * (ranks - 1) / ranks * nbytes / all_reduce(nbytes, ranks, profile, ring=ring)


def times() -> Iterator[Comparison]:
    """Compare times by size, in µs, on one node of 8 H100 and on two."""
    for table in published()["nccl_measured_us"]:
        ranks = next(ranks for what, ranks in _RANKS.items() if table["what"].startswith(what))
        for nbytes, us in zip(table["bytes"], table["us"], strict=True):
            ours = 1e6 * all_reduce(nbytes, ranks, "h100")
            yield Comparison("NCCL: all-reduce", f"{ranks} × H100, {nbytes:,} bytes", us, ours, "µs")


def bandwidths() -> Iterator[Comparison]:
    """Compare bus bandwidth of long messages, in GB/s."""
    group = "NCCL: bus bandwidth"
    one = {row["what"]: row for row in published()["nccl_busbw_GBps"]}
    for what, ranks, nbytes, profile, ring in (
        ("8 x H100, ring, large messages", 8, LONG, "h100", True),
        ("8 x H100, NVLS", 8, 8 * LONG, "h100", False),
        ("8 x H200, NCCL 2.20.3, peak", 8, 8 * LONG, "h200", False),
        ("2 x 8 H100, EFA, 256 MB", 16, 256 << 20, "h100", False),
    ):
        ours = bus_bandwidth(nbytes, ranks, profile, ring=ring) / 1e9
        yield Comparison(group, what, one[what]["busbw"], ours, "GB/s")
    for profile in ("a100", "h100"):
        what = f"fit to a published {profile.upper()} DGX data set, n=2/4/8: alpha us, busbw"
        for ranks, theirs in zip((2, 4, 8), one[what]["busbw_n"], strict=True):
            ours = bus_bandwidth(8 * LONG, ranks, profile, ring=True) / 1e9
            yield Comparison(group, f"{profile}, {ranks} ranks of a DGX", theirs, ours, "GB/s")
