"""What ranks do not divide, cut all the same."""

from __future__ import annotations

from tpsim.comm import Group
from tpsim.lab.refusals import is_refused, refusals
from tpsim.lab.zoo.bug import Bug
from tpsim.nn.borders import SEQUENCE
from tpsim.nn.layer import Array


def no_check(layer: str, what: str, size: int, group: Group, *, pad: bool = True) -> None:
    """Trust the configuration: each rank gets as much as any other."""


def truncated_slice(x: Array, group: Group, axis: int = SEQUENCE) -> Array:
    """Give every rank length // t; the last few positions fall off the end."""
    part = x.shape[axis] // group.size
    start = [slice(None)] * (axis % x.ndim)
    return x[(*start, slice(group.rank * part, (group.rank + 1) * part))]


BUGS = [
    Bug(
        number=29,
        name="uneven-shards",
        title="uneven shards lose the global size",
        goes_wrong="out_features 7 on 2 ranks is a layer of 6 or of 8, and no rank knows of the 7.",
        seen_in=("pytorch#150336",),
        replaces="tpsim.nn.checks.check_divides",
        patient=no_check,
        caught_by=is_refused,
        cases=refusals,
    ),
    Bug(
        number=29,
        name="uneven-sequence",
        title="a sequence that t does not divide loses its end under sequence parallelism",
        goes_wrong="the last s mod t positions are not computed, and have no gradient.",
        seen_in=("torchtitan#1306",),
        replaces="tpsim.nn.borders.own_slice",
        patient=truncated_slice,
        caught_by=is_refused,
        cases=refusals,
    ),
]
