"""Hardware profiles: small data files, and the prices that follow from them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from tpsim.cost.attention import AttentionModel
from tpsim.cost.collective import CollectiveModel
from tpsim.cost.gemm import GemmModel
from tpsim.cost.host import HostModel
from tpsim.cost.pointwise import PointwiseModel
from tpsim.cost.power import PowerModel
from tpsim.cost.work import Attention, Collective, Gemm, Pointwise, Work

_PROFILES = files("tpsim.cost") / "profiles"


@dataclass(frozen=True)
class Hardware:
    """A device, its links and its host, as far as prices need them.

    Attributes
    ----------
    name, about : str
    sources : dict
        Where each section's numbers come from.
    peak_flops : dict
        FLOPs a second by dtype, of the data sheet: what MFU is a share of.
    memory_bytes : int
        Of one device.
    memory_bandwidth : float
        Bytes a second, of the data sheet.
    node : int
        Devices that share the fast links.
    gemm, attention, pointwise, collective, power, host
        One model for each kind of work; their fields are the sections of the file.
    """

    name: str
    about: str
    sources: dict[str, str]
    peak_flops: dict[str, float]
    memory_bytes: int
    memory_bandwidth: float
    node: int
    gemm: GemmModel
    attention: AttentionModel
    pointwise: PointwiseModel
    collective: CollectiveModel
    power: PowerModel
    host: HostModel

    def seconds(self, work: Work, *, heat: float = 0.0, graph: bool = False) -> float:
        """Return how long the device takes.

        Parameters
        ----------
        work : Gemm, Attention, Pointwise or Collective
        heat : float
            From 0, a rested device at its boost clock, to 1, one held at its power limit; see `power`.
        graph : bool
            Whether it runs inside a CUDA graph, where gaps between kernels are smaller.
        """
        match work:
            case Gemm():
                return self.gemm.seconds(work, clock=self.power.clock(heat), graph=graph)
            case Attention():
                return self.attention.seconds(work, clock=self.power.clock(heat), graph=graph)
            case Pointwise():
                return self.pointwise.seconds(work, graph=graph)
            case Collective():
                node = max(1, self.node // work.spread)
                return self.collective.seconds(work, node=node, graph=graph)


def names() -> list[str]:
    """Return the profiles that come with tpsim."""
    files_of = (entry.name for entry in _PROFILES.iterdir())
    return sorted(name.removesuffix(".json") for name in files_of if name.endswith(".json"))


def load(name: str | Path) -> Hardware:
    """Return a profile by its name, or from a file such as `tpsim calibrate` writes.

    Raises
    ------
    ValueError
        If there is none of that name; it lists those there are.
    """
    known = names()
    if str(name) in known:
        text = (_PROFILES / f"{name}.json").read_text(encoding="utf-8")
    elif Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
    else:
        close = get_close_matches(str(name).lower(), known, n=1, cutoff=0.4)
        rest = [other for other in known if other not in close]
        raise ValueError(
            f"hardware {str(name)!r} is not known; pick one of {', '.join(close + rest)}, or a file that "
            "tpsim calibrate wrote"
        )
    return from_dict(json.loads(text))


def from_dict(values: dict[str, Any]) -> Hardware:
    """Return a profile from the sections of its file."""
    sections: dict[str, Any] = {
        "gemm": GemmModel,
        "attention": AttentionModel,
        "pointwise": PointwiseModel,
        "collective": CollectiveModel,
        "power": PowerModel,
        "host": HostModel,
    }
    plain = {key: value for key, value in values.items() if key not in sections}
    return Hardware(**plain, **{key: make.from_dict(values[key]) for key, make in sections.items()})
