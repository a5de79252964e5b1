"""How long a host takes to issue a call: what bounds eager layers whose kernels are short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Mode: TypeAlias = Literal["no_grad", "recorded", "backward", "graph"]


@dataclass(frozen=True)
class HostModel:
    """Prices for calls.

    Attributes
    ----------
    calls : dict
        Seconds by call, then by mode: "no_grad", "recorded" (autograd notes it down) and "backward" (autograd
        issues one kernel of its gradient: a linear layer's backward is two). "generic" stands for calls with
        no numbers of their own; a mode that a call lacks is that of "no_grad".
    start : float
        Seconds of one call of backward itself, before its first kernel.
    turns : float
        How much longer calls take that take turns, as in a step, than each does that alone is issued again
        and again, which is how `calls` were timed: they drive each other's code out of the host's caches.
    """

    calls: dict[str, dict[str, float]]
    start: float
    turns: float = 1.0

    @classmethod
    def from_dict(cls, section: dict[str, Any]) -> HostModel:
        """Return the model from its section of a profile."""
        return cls(**section)

    def seconds(self, call: str, mode: Mode) -> float:
        """Return how long the host takes to issue a call; nothing inside a CUDA graph, which is issued once.

        As if it alone were issued, again and again. "layer_norm.backward" is the call "layer_norm", issued by
        autograd.
        """
        if mode == "graph":
            return 0.0
        modes = self.calls.get(call.removesuffix(".backward"), self.calls["generic"])
        return modes.get(mode, modes["no_grad"])
