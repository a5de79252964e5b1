"""Devices that nobody measured for tpsim: what their data sheets and published tables say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

Three = tuple[float, float, float]


@dataclass(frozen=True)
class Links:
    """What published all-reduces of 2, 4 and 8 ranks of a node say.

    Attributes
    ----------
    bandwidth : tuple of float
        Bus bandwidth of long ones, in bytes a second: what each rank sends, around a ring.
    alpha : tuple of float, or None
        Seconds with hardly any bytes, of a fit of α + β·bytes; None where there is none, for PCIe.
    source : str
    switch : float, optional
        Bus bandwidth at 8 ranks of reduction inside the switch.
    """

    bandwidth: Three
    alpha: Three | None
    source: str
    switch: float | None = None


def _times(share: float, bandwidth: Three) -> Three:
    return (share * bandwidth[0], share * bandwidth[1], share * bandwidth[2])


PCIE_HOPS = {
    "LL": {"ring_hop": 1.0e-6, "tree_hop": 1.0e-6},
    "LL128": {"ring_hop": 2.5e-6, "tree_hop": 1.9e-6},
    "Simple": {"ring_hop": 5.7e-6, "tree_hop": 4.0e-6},
}
"""NCCL's own constants for a step over PCIe, in seconds, by protocol."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """One of them.

    Attributes
    ----------
    about : str
    processors : int
        Streaming multiprocessors.
    peak_flops : mapping
        By dtype, dense.
    memory_bytes, memory_bandwidth : float
    cache : float
        Bytes of the level-2 cache.
    watts : float
        Its power limit.
    node : int
        Devices that share the fast links.
    network : float
        Bytes a second that each device's network port sends.
    links : Links
    share_of : str or None
        The device whose fitted share of the peak it has; None for the H200's share, and power cap.
    attention : str
        The backend of fused attention.
    """

    about: str
    processors: int
    peak_flops: Mapping[str, float]
    memory_bytes: int
    memory_bandwidth: float
    cache: float
    watts: float
    node: int
    network: float
    links: Links
    share_of: str | None = "a100"
    attention: str = "flash"


_A100_LINKS = Links(
    bandwidth=(172e9, 190e9, 198e9),
    alpha=(46e-6, 68e-6, 105e-6),
    source="α and bus bandwidth at 2, 4, 8 ranks of a published A100 DGX data set",
)
_H100_LINKS = Links(
    bandwidth=(290e9, 340e9, 379e9),
    alpha=(17e-6, 21e-6, 42e-6),
    source="α and bus bandwidth at 2, 4, 8 ranks of a published H100 DGX data set",
    switch=480e9,
)
_H100 = Device(
    about="NVIDIA H100 SXM, 80 GB: a node of 8 joined by NVLink 4 through NVSwitch; nodes by InfiniBand at "
    "400 Gbit/s a device.",
    processors=132,
    peak_flops={
        "bfloat16": 989e12,
        "float16": 989e12,
        "float8_e4m3fn": 1979e12,
        "float8_e5m2": 1979e12,
        "tf32": 494e12,
        "float32": 67e12,
    },
    memory_bytes=80 * 10**9,
    memory_bandwidth=3350e9,
    cache=50e6,
    watts=700.0,
    node=8,
    network=50e9,
    links=_H100_LINKS,
    share_of=None,
    attention="cudnn",
)

DEVICES: Mapping[str, Device] = {
    "v100": Device(
        about="NVIDIA V100 SXM3, 32 GB: a DGX-2 node of 16 joined by NVLink 2 through NVSwitch; nodes by "
        "InfiniBand at 8 ports of 100 Gbit/s.",
        processors=80,
        peak_flops={"float16": 125e12, "float32": 15.7e12},
        memory_bytes=32 * 10**9,
        memory_bandwidth=900e9,
        cache=6e6,
        watts=350.0,
        node=16,
        network=6.25e9,
        links=Links(
            bandwidth=_times(150 / 300, _A100_LINKS.bandwidth),
            alpha=_A100_LINKS.alpha,
            source="those of the A100, bandwidth by the links' data sheets (150 and 300 GB/s each way)",
        ),
    ),
    "a100": Device(
        about="NVIDIA A100 SXM, 80 GB: a node of 8 joined by NVLink 3 through NVSwitch; nodes by InfiniBand "
        "at 200 Gbit/s a device.",
        processors=108,
        peak_flops={"bfloat16": 312e12, "float16": 312e12, "tf32": 156e12, "float32": 19.5e12},
        memory_bytes=80 * 10**9,
        memory_bandwidth=2039e9,
        cache=40e6,
        watts=400.0,
        node=8,
        network=25e9,
        links=_A100_LINKS,
    ),
    "h100": _H100,
    "h100-ethernet": replace(
        _H100,
        about="NVIDIA H100 SXM, 80 GB: a node of 8 joined by NVLink 4 through NVSwitch; nodes by Ethernet at "
        "100 Gbit/s a device.",
        network=12.5e9,
    ),
    "pcie": Device(
        about="NVIDIA GeForce RTX 4090, 24 GB: a box of 8 joined by PCIe 4; boxes by Ethernet at 100 Gbit/s "
        "a device.",
        processors=128,
        peak_flops={
            "bfloat16": 165e12,
            "float16": 165e12,
            "float8_e4m3fn": 330e12,
            "float8_e5m2": 330e12,
            "tf32": 82.6e12,
            "float32": 82.6e12,
        },
        memory_bytes=24 * 10**9,
        memory_bandwidth=1008e9,
        cache=72e6,
        watts=450.0,
        node=8,
        network=12.5e9,
        links=Links(
            bandwidth=_times(14 / 198, _A100_LINKS.bandwidth),
            alpha=None,
            source="14 GB/s of 8 ranks, half of the 28 GB/s published for 8 RTX 5090 over PCIe 5, for PCIe 4 "
            "is half as fast; that it grows with ranks as the A100's does is assumed",
        ),
    ),
}
"""By the name of their profile."""
