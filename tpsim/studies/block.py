"""One transformer layer by itself, as a benchmark of layers times it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tpsim.cost.hardware import Hardware
from tpsim.cost.plan import Host
from tpsim.cost.stacks import EAGER, Stack, launches
from tpsim.cost.timeline import Timeline, kind, steady
from tpsim.cost.work import Launch
from tpsim.studies.dry_run import Plan, dry_block


def block(
    plan: Plan,
    hardware: Hardware,
    *,
    backward: bool = True,
    communicate: bool = True,
    repeat: int | None = None,
    stack: Stack = EAGER,
    host: Host = "eager",
) -> Timeline:
    """Return one repetition of a layer that is run again and again, with nothing beside it.

    Parameters
    ----------
    plan : Plan
        Of it, one of the model's blocks. Under sequence parallelism, `keep_gathered` is what plain autograd
        functions do at its borders; without, inputs are gathered again in backward, as Megatron-LM does.
    hardware : Hardware
    backward : bool
        Whether the backward pass runs too, adding to the gradients that are there; without it, autograd
        records nothing.
    communicate : bool
        Whether collectives run, or one device computes its rank's share alone.
    repeat : int, optional
        How often it is run on a rested device, warm-up included. By default without end, as in training:
        the clock is then the one that the power limit leaves. A device at boost is up to a sixth faster; it
        falls after some 50 ms of large products, so that tens of repetitions of a small layer are all at
        boost, and those of a large one hardly.
    stack : Stack
    host : {"eager", "graph"}
    """
    program = launches(dry_block(plan, backward=backward), stack)
    if not communicate:
        program = alone(program)
    return steady(program, hardware, host=host, repeat=repeat)


def alone(program: list[Launch]) -> list[Launch]:
    """Return the launches without collectives, and without waiting for them."""
    return [replace(launch, after=()) for launch in program if launch.stream == "compute"]


@dataclass(frozen=True)
class BlockCosts:
    """Seconds of a layer that is run again and again.

    Attributes
    ----------
    ranks : int
    forward : float
        Of forward alone, with nothing recorded for backward.
    forward_backward : float
        Of both, adding to the gradients that are there.
    shard_forward, shard_forward_backward : float
        The same without collectives: one rank's share.
    exposed, host_bound : float
        Of `forward_backward`, the seconds that wait for messages, and for the host.
    by_kind : dict
        Seconds of `forward_backward` by kind of kernel and collective, waiting included.
    """

    ranks: int
    forward: float
    forward_backward: float
    shard_forward: float
    shard_forward_backward: float
    exposed: float
    host_bound: float
    by_kind: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return asdict(self)


def block_costs(
    plan: Plan,
    hardware: Hardware,
    ranks: Sequence[int],
    *,
    repeat: int | None = None,
    stack: Stack = EAGER,
    host: Host = "eager",
) -> list[BlockCosts]:
    """Return what a layer takes for each number of tensor-parallel ranks; arguments as for `block`."""
    rows = []
    for t in ranks:
        forward, both = (
            launches(dry_block(replace(plan, tp=t), backward=way), stack) for way in (False, True)
        )
        whole, share, whole_both, share_both = (
            steady(program, hardware, host=host, repeat=repeat)
            for program in (forward, alone(forward), both, alone(both))
        )
        rows.append(
            BlockCosts(
                ranks=t,
                forward=whole.seconds,
                forward_backward=whole_both.seconds,
                shard_forward=share.seconds,
                shard_forward_backward=share_both.seconds,
                exposed=whole_both.exposed,
                host_bound=whole_both.host_bound,
                by_kind=whole_both.by(kind),
            )
        )
    return rows
