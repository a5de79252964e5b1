"""A load test: requests come at random, are served in batches that change, and how long each one waits.

Time is either simulated, by the prices of `decode_step` and prefill, or that of this machine, on a model that
really runs. Which of the two is the server's affair; arrivals, queue and scheduler are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tpsim.infer import Request
from tpsim.studies.servers import Server

PERCENTILES = (50, 90, 99)


# --- what comes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Load:
    """Poisson arrivals: at any moment the next request is as likely as at any other.

    Parameters
    ----------
    rate : float
        Requests a second, on average.
    count : int
        Requests in all.
    prompt, new : int
        Mean numbers of tokens; each request has from half to one and a half times as many.
    vocab : int
        Of which tokens prompts are made.
    seed : int
    """

    rate: float
    count: int = 200
    prompt: int = 512
    new: int = 128
    vocab: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rate <= 0 or min(self.count, self.prompt, self.new) < 1:
            raise ValueError(
                f"Load: {self.count} requests at {self.rate} a second, of {self.prompt} and {self.new} "
                "tokens; pick a rate above 0, and 1 or more of all else"
            )

    @property
    def longest(self) -> int:
        """Positions that a request fills at most."""
        return _most(self.prompt) + _most(self.new)

    def arrivals(self) -> list[tuple[float, Request]]:
        """Return requests with the seconds at which they come, the same for a seed."""
        rng = np.random.default_rng(self.seed)
        times = np.cumsum(rng.exponential(1 / self.rate, self.count))
        return [
            (
                float(at),
                Request(
                    number,
                    rng.integers(self.vocab, size=_drawn(rng, self.prompt)).tolist(),
                    _drawn(rng, self.new),
                ),
            )
            for number, at in enumerate(times)
        ]


def _most(mean: int) -> int:
    return mean + mean // 2


def _drawn(rng: np.random.Generator, mean: int) -> int:
    return int(rng.integers(mean - mean // 2, _most(mean), endpoint=True))


# --- what they find -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """One request, in seconds since the test began.

    Attributes
    ----------
    request : Request
    came : float
    tokens : list of float
        When each of its tokens came.
    """

    request: Request
    came: float
    tokens: list[float]

    @property
    def to_first(self) -> float:
        """Seconds from its coming to its first token."""
        return self.tokens[0] - self.came

    @property
    def gaps(self) -> list[float]:
        """Seconds between its tokens."""
        return [after - before for before, after in zip(self.tokens, self.tokens[1:], strict=False)]


@dataclass(frozen=True)
class LoadResult:
    """What a load test found.

    Attributes
    ----------
    load : Load
    served : list of Served
    seconds : float
        To the last token.
    busy : float
        Seconds in which there was something to do.
    mean_batch : float
        Tokens a step.
    """

    load: Load
    served: list[Served]
    seconds: float
    busy: float
    mean_batch: float

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all requests together."""
        return sum(len(one.tokens) for one in self.served) / self.seconds

    def to_first(self) -> dict[int, float]:
        """Return percentiles of the seconds to the first token."""
        return _percentiles([one.to_first for one in self.served])

    def per_token(self) -> dict[int, float]:
        """Return percentiles of the seconds between tokens; none where no request has two."""
        return _percentiles([gap for one in self.served for gap in one.gaps])

    def to_dict(self) -> dict[str, Any]:
        """Return all but the single requests, ready for JSON."""
        return {
            **vars(self.load),
            "seconds": self.seconds,
            "busy": self.busy,
            "mean_batch": self.mean_batch,
            "tokens_per_second": self.tokens_per_second,
            "to_first": self.to_first(),
            "per_token": self.per_token(),
        }


def run_load(load: Load, server: Server) -> LoadResult:
    """Serve a load, and return how long everyone waited.

    A request joins at the first step that begins after it came. Where nothing is to be done, time moves on to
    the next arrival at once.
    """
    coming = load.arrivals()[::-1]
    came = {request.number: at for at, request in coming}
    times: dict[int, list[float]] = {number: [] for number in came}
    requests = {request.number: request for _, request in coming}
    now = busy = 0.0
    steps = 0
    while coming or not server.scheduler.idle:
        if server.scheduler.idle:
            now = max(now, coming[-1][0])
        while coming and coming[-1][0] <= now:
            server.scheduler.add(coming.pop()[1])
        seconds, emitted = server.step()
        now, busy, steps = now + seconds, busy + seconds, steps + 1
        for one in emitted:
            times[one.request.number].append(now)
    served = [Served(requests[number], came[number], times[number]) for number in sorted(came)]
    return LoadResult(load, served, now, busy, sum(map(len, times.values())) / steps)


def _percentiles(values: Sequence[float]) -> dict[int, float]:
    if not values:
        return {}
    return dict(zip(PERCENTILES, np.percentile(values, PERCENTILES).tolist(), strict=True))
