"""Activation recompute: a forward that keeps only its inputs, and runs again in backward.

Memory for time. What runs again is up to the layer: `Attention` its core (selective recompute: much
memory, few FLOPs), `TransformerBlock` all of itself (full)::

    forward    save the inputs;  with forgetting():  run     nothing that the run saves is kept
    backward   with running_again():  run                    now it is
               then backward as ever

The second run must be the first once more. Dropout would break that, were its masks drawn from a
generator that advances: its state would have to be put back (as Megatron-LM does). Here masks are
functions of their keys, and there is nothing to restore.

In a trace a rerun is told apart by its label, "recompute" in the path after the layer that runs again:
its collectives stand at `block.recompute.attention.out`, in phase "backward", for that is the time at
which they are paid. What it saves is of kind "recomputed" (so not in the bytes that `saved_by_layer`
counts as kept by forward), and raises `peak_saved_bytes`, for it is there until backward takes it.

References
----------
Chen et al. (2016), "Training deep nets with sublinear memory cost", section 4;
Korthikanti et al. (2022), "Reducing activation recomputation in large transformer models", section 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeAlias

from tpsim.trace import scope

Recompute: TypeAlias = Literal["none", "selective", "full"]
Run: TypeAlias = Literal["", "first", "again"]

_run: ContextVar[Run] = ContextVar("tpsim_run", default="")


def is_forgotten() -> bool:
    """Whether this is a first run, of which nothing is kept."""
    return _run.get() == "first"


def is_rerun() -> bool:
    """Whether this is a forward that runs again, in backward."""
    return _run.get() == "again"


@contextmanager
def forgetting(when: bool = True) -> Iterator[None]:
    """Let layers keep nothing of the forward inside the `with` block; leave all as it is unless `when`."""
    token = _run.set("first" if when else _run.get())
    try:
        yield
    finally:
        _run.reset(token)


@contextmanager
def running_again() -> Iterator[None]:
    """Let the forward inside the `with` block, in backward, keep what it saves, labelled as a rerun."""
    token = _run.set("again")
    try:
        with scope("recompute", "backward"):
            yield
    finally:
        _run.reset(token)
