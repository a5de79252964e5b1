"""What the power limit does to the clock.

A device at its boost clock draws more in matrix products than it may on average. It is allowed that for some
tens of milliseconds, then the clock falls until the average fits. Kernels that memory bounds draw less, and
so does waiting: a step that mixes them keeps a higher clock than matrix products alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log
from typing import Any

_SLOW = 0.85  # a relative clock such as the limit leads to


@dataclass(frozen=True, slots=True)
class Demand:
    """What a repeated step asks of a device, in seconds at the boost clock.

    Attributes
    ----------
    compute : float
        Of kernels that a lower clock slows: matrix products and attention that FLOPs bound.
    other : float
        Of all else: kernels that memory bounds, collectives, waiting for the host.
    matmul : float
        That the step's FLOPs would take if every matrix unit worked all the time (FLOPs / full rate);
        matmul / compute is how well the products fill the device.
    memory : float
        That the step's bytes would take at the bandwidth that streaming reaches.
    """

    compute: float = 0.0
    other: float = 0.0
    matmul: float = 0.0
    memory: float = 0.0

    @classmethod
    def of(cls, price: Callable[[float], float], *, matmul: float = 0.0, memory: float = 0.0) -> Demand:
        """Return what a kernel asks, from its price in seconds at a relative clock.

        A kernel that FLOPs bound in part is partly `compute`: as much as two prices say.
        """
        boost, slow = price(1.0), price(_SLOW)
        compute = min((slow - boost) / (1 / _SLOW - 1), boost)
        return cls(compute, boost - compute, matmul, memory)

    def __add__(self, more: Demand) -> Demand:
        return Demand(
            self.compute + more.compute,
            self.other + more.other,
            self.matmul + more.matmul,
            self.memory + more.memory,
        )

    def seconds(self, clock: float) -> float:
        """Return how long the step takes at a relative clock."""
        return self.compute / clock + self.other


@dataclass(frozen=True)
class PowerModel:
    """Power, and the clock that the limit leaves.

    A step at relative clock c takes T(c) = compute/c + other seconds, and its energy in joules is::

        E(c) = idle · T(c) + matmul_watts · matmul · c^(exponent - 1) + memory_watts · memory

    A matrix unit's power grows as c^exponent (frequency, times the square of a voltage that follows it), and
    the time its FLOPs take as 1/c. The steady clock of a repeated step is the highest with
    E(c) ≤ limit · T(c).

    Before that, the device runs at its boost clock until its *average* power, which follows the power drawn
    with the time constant `window`, has reached the limit.

    Attributes
    ----------
    limit, idle : float
        Watts, of the data sheet, and with nothing to do.
    matmul_watts, memory_watts : float
        Beyond idle, with every matrix unit busy at the boost clock, and at the full memory bandwidth.
    exponent : float
    window : float
        Seconds.
    lowest : float
        The lowest relative clock that it goes to.
    capped : float
        Relative clock of a long run of large products: what heat 1 means.
    """

    limit: float
    idle: float
    matmul_watts: float
    memory_watts: float
    exponent: float
    window: float
    lowest: float
    capped: float

    @classmethod
    def from_dict(cls, section: dict[str, Any]) -> PowerModel:
        """Return the model of a profile's section "power"."""
        return cls(**section)

    def clock(self, heat: float) -> float:
        """Return the relative clock, 1 at boost, of heat 0 (rested) to 1 (held back by large products)."""
        return max(self.lowest, 1.0 - heat * (1.0 - self.capped))

    def watts(self, demand: Demand, clock: float = 1.0) -> float:
        """Return the mean power of a step at a relative clock."""
        matmul: float = self.matmul_watts * demand.matmul * clock ** (self.exponent - 1)
        return self.idle + (matmul + self.memory_watts * demand.memory) / demand.seconds(clock)

    def steady_clock(self, demand: Demand) -> float:
        """Return the relative clock that a step keeps when repeated for long."""
        low, high = self.lowest, 1.0
        if demand.seconds(1.0) == 0 or self.watts(demand, high) <= self.limit:
            return high
        for _ in range(40):  # halvings: past the precision of a float
            middle = (low + high) / 2
            low, high = (middle, high) if self.watts(demand, middle) <= self.limit else (low, middle)
        return low

    def heat(self, demand: Demand, *, busy: float | None = None, rest: float = 0.0) -> float:
        """Return the heat of a step that is repeated.

        Parameters
        ----------
        demand : Demand
            Of one step.
        busy : float, optional
            Seconds for which it is repeated: the mean heat over them. By default without end.
        rest : float
            Seconds of idling before, of a device that was at its limit; matters only with `busy`.

        Returns
        -------
        float
            For `clock`. Above 1 if the step draws more than large products do.
        """
        steady = (1.0 - self.steady_clock(demand)) / (1.0 - self.capped)
        if busy is None or steady == 0.0:
            return steady
        return steady * max(0.0, 1.0 - self.boost_seconds(demand, rest=rest) / busy)

    def boost_seconds(self, demand: Demand, *, rest: float) -> float:
        """Return how long a step can be repeated at the boost clock, after `rest` seconds of idling."""
        drawn = self.watts(demand)
        if drawn <= self.limit:
            return float("inf")
        average = self.idle + (self.limit - self.idle) * exp(-rest / self.window)
        return self.window * log((drawn - average) / (drawn - self.limit))
