"""The learning rate over time."""

from __future__ import annotations

import math


def warmup_cosine(step: int, steps: int, peak: float, *, warmup: int, floor: float = 0.1) -> float:
    """Return the learning rate of a step: a straight line up, then half a cosine down.

    Parameters
    ----------
    step : int
        From 0.
    steps : int
        How many there will be.
    peak : float
    warmup : int
        The first steps, over which it rises to the peak; Adam's v is still a poor estimate then.
    floor : float
        Where it ends, in parts of the peak.

    References
    ----------
    Loshchilov and Hutter (2017), "SGDR: stochastic gradient descent with warm restarts", equation 5,
    without restarts.

    Examples
    --------
    >>> [round(warmup_cosine(step, 9, 1.0, warmup=4), 2) for step in range(9)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.87, 0.55, 0.23, 0.1]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    return peak * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)
