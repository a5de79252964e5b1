"""Loss scaling: gradients that float16 would round to 0 are moved to where it has numbers."""

from __future__ import annotations

from typing import Any

from tpsim.nn import Layer


class LossScale:
    """A factor on the loss, and so on every gradient of backward, as large as float16 bears.

    ::

        6e-8                 6e-5                                          65504
          ├─ fewer and fewer ─┼──────────── all 11 bits ─────────────────────┤ ∞
        gradients ●●●●●●●●●●●●●●●●
        × scale               ●●●●●●●●●●●●●●●●

    float16 has nothing below 2⁻²⁴, and many gradients of activations lie there; they would be 0. Weight
    gradients, which are float32, are divided by the same factor before anything looks at them. If one is
    infinite or no number, the factor was too large: the step is left out, and the factor halved. After
    `interval` steps that went well it is doubled. bfloat16 has float32's range, and needs none of this.

    Parameters
    ----------
    start : float
        A power of two.
    interval : int
        Steps.

    Attributes
    ----------
    scale : float
        A power of two at all times, so that multiplying and dividing by it rounds nothing. Never below 1.
    good : int
        Steps since it last changed.

    References
    ----------
    Micikevicius et al. (2018), "Mixed precision training", section 3.2, for the factor and for leaving out
    steps; PyTorch's `torch.amp.GradScaler`, for the numbers by which it moves.
    """

    def __init__(self, start: float = 2.0**16, interval: int = 2000) -> None:
        self.scale, self.good, self.interval = start, 0, interval

    def unscale(self, model: Layer) -> None:
        """Divide all gradients by the factor."""
        for parameter in model.parameters().values():
            if parameter.grad is not None:
                parameter.grad = parameter.grad / self.scale

    def update(self, *, finite: bool) -> None:
        """Move the factor, after a step whose gradients were all finite, or were not.

        Every rank says the same of a step, or ranks would part here.
        """
        self.good = self.good + 1 if finite else 0
        if not finite:
            self.scale = max(1.0, self.scale / 2)
        elif self.good == self.interval:
            self.scale, self.good = self.scale * 2, 0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"scale": self.scale, "good": self.good}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.scale, self.good = state["scale"], state["good"]
