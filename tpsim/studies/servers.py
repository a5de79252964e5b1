"""Who serves a load: a model with prices, in simulated time, or one that runs here, in real time."""

from __future__ import annotations

import time
from functools import cache
from typing import Protocol

from tpsim.cost.hardware import Hardware
from tpsim.cost.timeline import steady
from tpsim.infer import Emitted, Engine, Scheduler
from tpsim.models import ModelConfig
from tpsim.studies.serve_costs import decode_step
from tpsim.studies.serve_run import run_pass

_CAPTURED = 8  # decode graphs are there for 1, 2, 4 and every so many sequences
_CONTEXT = 256  # contexts are rounded up to that: prices that differ by less than the model's error


class Server(Protocol):
    """Takes the steps of a scheduler."""

    scheduler: Scheduler

    def step(self) -> tuple[float, list[Emitted]]:
        """Take one, and return how long it took and the tokens that it gave."""


class Prices:
    """What steps cost a model of any size, each worked out once.

    Parameters
    ----------
    config : ModelConfig
    tp : int
    hardware : Hardware

    Attributes
    ----------
    decode : callable
        Seconds of a step of so many sequences, each of such a context.
    prefill : callable
        Seconds of so many tokens of one prompt, after so many others.
    """

    def __init__(self, config: ModelConfig, tp: int, hardware: Hardware) -> None:
        @cache
        def decode(batch: int, context: int) -> float:
            return decode_step(config, tp, batch, context, hardware).step

        @cache
        def prefill(new: int, earlier: int) -> float:
            run = run_pass(config, tp, batch=1, new=new, earlier=earlier)
            return steady(run.launches, hardware, host="graph").seconds

        self.decode, self.prefill = decode, prefill


class PricedServer:
    """A server in simulated time, whose tokens are all 0.

    A step costs its decode, in the next larger graph that is there for it, and then its chunk of a prompt.

    Parameters
    ----------
    prices : Prices
    rows, length, chunk
        As for `Scheduler`.
    """

    def __init__(self, prices: Prices, *, rows: int, length: int, chunk: int | None = None) -> None:
        self.scheduler = Scheduler(rows, length, chunk)
        self.prices = prices

    def step(self) -> tuple[float, list[Emitted]]:
        """As `Server.step`."""
        work = self.scheduler.plan()
        seconds, ready = 0.0, list(work.decode)
        if work.decode:
            context = sum(one.position for one in work.decode) / len(work.decode)
            seconds += self.prices.decode(_captured(len(work.decode)), _rounded(context, _CONTEXT))
        if work.prefill is not None:
            earlier = work.prefill.filled
            seconds += self.prices.prefill(work.count, _rounded(earlier, _CONTEXT))
            work.prefill.filled += work.count
            ready += [] if work.prefill.prefilling else [work.prefill]
        for one in ready:
            one.tokens.append(0)
        emitted = [Emitted(one.request, 0, one.ended) for one in ready]
        self.scheduler.leave()
        return seconds, emitted


class RealServer:
    """An engine on this machine, in real time."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.scheduler = engine.scheduler

    def step(self) -> tuple[float, list[Emitted]]:
        """As `Server.step`."""
        began = time.perf_counter()
        emitted = self.engine.step()
        return time.perf_counter() - began, emitted


def _captured(batch: int) -> int:
    if batch <= 4:
        return 1 << (batch - 1).bit_length()
    return _rounded(batch, _CAPTURED)


def _rounded(value: float, to: int) -> int:
    return int(-(-value // to) * to)
