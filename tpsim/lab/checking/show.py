"""A failing case as lines of small arrays: what was given, what came out, what was called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tpsim.lab.checking.case import Case
from tpsim.lab.checking.exercise import Deal, Property
from tpsim.lab.checking.placing import Placed, Same
from tpsim.lab.checking.run import Ran
from tpsim.lab.checking.values import Equals, as_wanted, shown
from tpsim.trace import CollectiveEvent


def show(one: Property, case: Case, deal: Deal, ran: Ran) -> Iterator[str]:
    """Yield the lines of a case in which a property does not hold."""
    for name, placed in deal.given.items():
        yield from _given(name, placed, case)
    if isinstance(one, Equals):
        for rank, has in enumerate(ran.ranks):
            got, must = has.values[one.value], as_wanted(deal.wanted[one.value].on(rank, case.t), case)
            same = isinstance(got, np.ndarray) and np.array_equal(got, must)
            yield f"rank {rank}: {one.value} = {shown(got)}" + ("" if same else f", must be {shown(must)}")
    yield from _called(ran)


def _given(name: str, placed: Placed, case: Case) -> Iterator[str]:
    if isinstance(placed, Same):
        yield f"{name} = {_text(placed.value)} on every rank"
        return
    parts = [f"{_text(placed.on(rank, case.t))} on rank {rank}" for rank in range(case.t)]
    yield f"{name} = {', '.join(parts)}"


def _text(value: Any) -> str:
    return shown(value) if isinstance(value, np.ndarray) else repr(value)


def _called(ran: Ran) -> Iterator[str]:
    """Yield what the ranks called in each function; one line if they called the same."""
    for function in ran.ranks[0].events:
        calls = [_sequence(one.events.get(function, [])) for one in ran.ranks]
        if len(set(calls)) == 1:
            yield f"in {function}, every rank called {calls[0]}"
        else:
            yield from (f"in {function}, rank {rank} called {words}" for rank, words in enumerate(calls))


def _sequence(events: list[CollectiveEvent]) -> str:
    return ", then ".join(f"{event.operation} of shape {event.shape}" for event in events) or "no collective"
