"""Profiles of devices that nobody measured, from the H200's: `python -m tpsim.cost.fit.carry`.

Rates go by the peak, what streams by the memory's bandwidth, a processor's share of either by the number of
processors, the cache by its size, watts by the limit. Latencies and the host stay. Links and the network are
the device's own. One number may be fitted to published times: what share of its peak a large product reaches
for long. It stands in place of the H200's share at the boost clock, and of its power cap.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tpsim.cost.fit.devices import DEVICES, PCIE_HOPS, Device, Three
from tpsim.cost.fit.section import PROFILES, rounded

SHARES = Path(__file__).with_name("shares.json")
"""What was fitted, by device: "gemm", the share of the peak that a product reaches for long; and "source"."""

_BASE_CACHE = 50e6  # bytes of the H200's level-2 cache
_BELOW = 0.95  # of the limit is what a device without a modelled cap draws at most


def carried(name: str, gemm: float | None = None) -> dict[str, Any]:
    """Return the profile of one of `DEVICES`, as the values of its file.

    Parameters
    ----------
    name : str
    gemm : float, optional
        Share of the peak that a large product reaches for long; without it, the H200's share and power cap.
    """
    device = DEVICES[name]
    base = json.loads((PROFILES / "h200.json").read_text(encoding="utf-8"))
    return {
        "name": name,
        "about": device.about,
        "sources": _sources(device, fitted=gemm is not None),
        "peak_flops": dict(device.peak_flops),
        "memory_bytes": device.memory_bytes,
        "memory_bandwidth": device.memory_bandwidth,
        "node": device.node,
        "gemm": _gemm(base, device, gemm) | {"processors": device.processors},
        "attention": _attention(base, device) | {"processors": device.processors},
        "pointwise": _pointwise(base, device),
        "power": _power(base, device, capped=gemm is None),
        "host": base["host"],
        "collective": _collective(base, device),
    }


def write() -> None:
    """Write the profiles of all devices."""
    for name in DEVICES:
        values = rounded(carried(name, fitted_share(name)))
        text = json.dumps(values, indent=1, ensure_ascii=False)
        (PROFILES / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def fitted_share(name: str) -> float | None:
    """Return the share of the peak that was fitted for a device, or for the one that it resembles."""
    share_of = DEVICES[name].share_of
    return float(_shares()[share_of]["gemm"]) if share_of else None


def _shares() -> dict[str, Any]:
    shares: dict[str, Any] = json.loads(SHARES.read_text(encoding="utf-8"))
    return shares


def share_of_peak(profile: dict[str, Any]) -> float:
    """Return the share of its peak that a device reaches in large products."""
    return float(profile["gemm"]["rate"]["bfloat16"] / profile["peak_flops"]["bfloat16"])


def _gemm(base: dict[str, Any], device: Device, share: float | None) -> dict[str, Any]:
    share = share or share_of_peak(base)
    section: dict[str, Any] = _scaled(base["gemm"], _ratios(base, device))
    return section | {"rate": {dtype: share * peak for dtype, peak in device.peak_flops.items()}}


def _attention(base: dict[str, Any], device: Device) -> dict[str, Any]:
    """Carry the kernels that were written for the H200's kind to whatever was written for the device."""
    section: dict[str, Any] = _scaled(base["attention"], _ratios(base, device))
    if device.attention != section["default"]:
        section["kernels"] = {device.attention: section["kernels"][section["default"]]}
        section["default"] = device.attention
    return section


def _pointwise(base: dict[str, Any], device: Device) -> dict[str, Any]:
    section: dict[str, Any] = _scaled(base["pointwise"], _ratios(base, device))
    return section | {"cache": section["cache"] * device.cache / _BASE_CACHE}


def _power(base: dict[str, Any], device: Device, *, capped: bool) -> dict[str, Any]:
    section: dict[str, Any] = base["power"]
    drawing = ("idle", "matmul_watts", "memory_watts")
    if capped:
        watts = device.watts / section["limit"]
    else:
        watts = _BELOW * device.watts / sum(section[key] for key in drawing)
    return section | {key: watts * section[key] for key in drawing} | {"limit": device.watts}


def _collective(base: dict[str, Any], device: Device) -> dict[str, Any]:
    section: dict[str, Any] = base["collective"]
    links = device.links
    bandwidth, few = ring(links.bandwidth)
    protocols = dict(section["protocols"])
    if links.alpha:
        start, hop = latencies(links.alpha)
        protocols["Simple"] = protocols["Simple"] | {"base": start, "ring_hop": hop, "tree_hop": hop}
    else:
        protocols = {name: protocol | PCIE_HOPS[name] for name, protocol in protocols.items()}
    switch = None
    if links.switch:  # an all-reduce of n bytes has a ring of 8 send 2·7/8·n
        switch = {"base": section["switch"]["base"], "bandwidth": links.switch / (2 * 7 / 8)}
    return section | {
        "bandwidth": bandwidth,
        "few": few,
        "network": device.network,
        "protocols": protocols,
        "switch": switch,
    }


def ring(bandwidth: Three) -> tuple[float, float]:
    """Return B and f of the bus bandwidth B·(1 − f/t) that is nearest to those of t = 2, 4, 8."""
    columns = np.array([[1, -1 / t] for t in (2, 4, 8)])
    full, lost = np.linalg.lstsq(columns, np.array(bandwidth), rcond=None)[0]
    return float(full), float(lost / full)


def latencies(alpha: Three) -> tuple[float, float]:
    """Return start and hop of the α = start + 2(t − 1)·hop that is nearest to those of t = 2, 4, 8."""
    columns = np.array([[1, 2 * (t - 1)] for t in (2, 4, 8)])
    start, hop = np.linalg.lstsq(columns, np.array(alpha), rcond=None)[0]
    return float(start), float(hop)


def _ratios(base: dict[str, Any], device: Device) -> dict[str, float]:
    """Return by what factor each number changes, by its name; those without one stay as they are."""
    processors = device.processors / base["gemm"]["processors"]
    peak = device.peak_flops["float16"] / base["peak_flops"]["float16"]
    stream = device.memory_bandwidth / base["memory_bandwidth"]
    return {
        "rate": peak / processors,  # of one processor
        "load": peak / processors,  # caches feed the matrix units
        "bandwidth": stream,
        "cached": stream,
        "reread": 1 / stream,
        "tile_end": processors / stream,  # a tile's result goes to memory
        "per_row": 1 / processors,
    }


def _scaled(section: Any, ratios: Mapping[str, float], key: str = "") -> Any:
    """Return nested dictionaries with each number scaled by its name's factor."""
    if isinstance(section, dict):
        return {name: _scaled(value, ratios, name) for name, value in section.items()}
    return section * ratios[key] if key in ratios else section


def _sources(device: Device, *, fitted: bool) -> dict[str, str]:
    over = "The h200 profile's, carried over by tpsim.cost.fit.carry: "
    rates = f"{over}rates by the peak, bandwidth by the memory's, latencies kept."
    links = "bandwidth, few: least squares on"
    if device.links.alpha:
        links = "bandwidth, few, Simple's base and hops: least squares on"
    links += f" {device.links.source}. network: data sheet of the port. "
    if device.links.alpha is None:
        links += "hops inside the node: NCCL's own constants for PCIe. "
    if device.links.switch:
        links += "switch: a published bus bandwidth with NVLS. "
    return {
        "peak_flops, memory_bytes, memory_bandwidth, node": "Data sheet; dense rates, without sparsity.",
        "gemm": f"{rates} {_shares()[device.share_of]['source']}" if fitted and device.share_of else rates,
        "attention": f"{rates} The default backend has the numbers of the H200's.",
        "pointwise": f"{over}bandwidths by the memory's, cache by its size, latencies kept.",
        "power": "limit: data sheet. The cap is in the rates, fitted to long runs; the watts never reach it."
        if fitted
        else f"{over}watts by the limit.",
        "host": "The h200 profile's.",
        "collective": f"{links}The rest: the h200 profile's.",
    }


if __name__ == "__main__":
    write()
    print(f"wrote {', '.join(DEVICES)}")
