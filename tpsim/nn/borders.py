r"""The borders of a tensor-parallel region, and the conjugate pairs that stand there.

Inside the region each rank has its own columns (or heads); outside, all ranks have the same x, or each
its own stretch of the sequence. Communication stands at the borders and nowhere else::

                 enter                               leave
      x ──────────┬── A₀ ──▶ act ──▶ B₀ ──┬────────── y
                  └── A₁ ──▶ act ──▶ B₁ ──┘

    =====  ==============================  ==============================
           tensor parallel                 with sequence parallelism
    =====  ==============================  ==============================
    enter  f: identity ⇄ all-reduce        all-gather ⇄ reduce-scatter
    leave  g: all-reduce ⇄ identity        reduce-scatter ⇄ all-gather
    =====  ==============================  ==============================

(forward ⇄ backward.) Why f all-reduces in backward: x went to every rank, each rank's columns return
their own share of dx, and the gradient of a value used in t places is the sum of the t shares. Why g
does not: dy is already whole and the same on every rank, and each rank's partial y counts with weight 1.

References
----------
Shoeybi et al. (2019), "Megatron-LM", section 3, figure 3 (f and g);
Korthikanti et al. (2022), "Reducing activation recomputation in large transformer models", section 4.2.2.
"""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from tpsim.comm import Group, Handle

Array = NDArray[Any]
SEQUENCE = 1  # the axis of [batch, seq, hidden] that sequence parallelism cuts


class Border(Protocol):
    """A pair of conjugate operations at one border."""

    group: Group

    def forward(self, x: Array) -> Array:
        """Carry activations across."""

    def backward(self, dy: Array) -> Array:
        """Carry gradients back: the transpose of `forward`."""


class Enter(Border, Protocol):
    """A border into the region; the non-blocking twins of its calls are for layers that overlap them."""

    def again(self, x: Array) -> Array:
        """Return `forward(x)` once more, in backward, for a layer that kept only x."""

    def iagain(self, x: Array) -> Handle | None:
        """Begin `again`; None where x is whole already."""

    def ibackward(self, dy: Array) -> Handle:
        """Begin `backward`."""


class CopyToRegion:
    """Paper's f: identity forward, all-reduce backward."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def forward(self, x: Array) -> Array:
        """Every rank uses the same x."""
        return x

    def backward(self, dy: Array) -> Array:
        """Sum the ranks' shares of the gradient."""
        return self.group.all_reduce(dy)

    def again(self, x: Array) -> Array:
        """Nothing to do: x is whole."""
        return x

    def iagain(self, x: Array) -> None:
        """Nothing to begin."""

    def ibackward(self, dy: Array) -> Handle:
        """Begin `backward`."""
        return self.group.iall_reduce(dy)


class ReduceFromRegion:
    """Paper's g: all-reduce forward, identity backward."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def forward(self, x: Array) -> Array:
        """Sum the ranks' partial results."""
        return self.group.all_reduce(x)

    def backward(self, dy: Array) -> Array:
        """Each partial result has the gradient of the sum."""
        return dy


class GatherSequence:
    """f under sequence parallelism: all-gather along seq forward, reduce-scatter backward."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def forward(self, x: Array) -> Array:
        """[b, s/t, h] → [b, s, h]."""
        return self.group.all_gather(x, axis=SEQUENCE)

    def backward(self, dy: Array) -> Array:
        """[b, s, h] → [b, s/t, h], summed."""
        return self.group.reduce_scatter(dy, axis=SEQUENCE)

    def again(self, x: Array) -> Array:
        """Gather once more: time for memory, as in Megatron-LM."""
        return self.forward(x)

    def iagain(self, x: Array) -> Handle:
        """Begin `again`."""
        return self.group.iall_gather(x, axis=SEQUENCE)

    def ibackward(self, dy: Array) -> Handle:
        """Begin `backward`."""
        return self.group.ireduce_scatter(dy, axis=SEQUENCE)


class ScatterSequence:
    """g under sequence parallelism: reduce-scatter along seq forward, all-gather backward."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def forward(self, x: Array) -> Array:
        """[b, s, h] → [b, s/t, h], summed.

        Raises
        ------
        ValueError
            If the sequence is not divisible by the ranks.
        """
        check_sequence(x, self.group)
        return self.group.reduce_scatter(x, axis=SEQUENCE)

    def backward(self, dy: Array) -> Array:
        """[b, s/t, h] → [b, s, h]."""
        return self.group.all_gather(dy, axis=SEQUENCE)


class GatherLast:
    """Join the columns for ranks that all go on alike: all-gather forward, own slice backward."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def forward(self, x: Array) -> Array:
        """[…, n/t] → […, n]."""
        return self.group.all_gather(x, axis=-1)

    def backward(self, dy: Array) -> Array:
        """[…, n] → […, n/t]: dy is the same on every rank, so nothing is summed."""
        return own_slice(dy, self.group, axis=-1)


class ScatterLast:
    """Cut what all ranks have: own slice forward, all-gather backward."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def forward(self, x: Array) -> Array:
        """[…, n] → […, n/t]: a copy, so that who keeps it does not keep the whole x."""
        return own_slice(x, self.group, axis=-1).copy()

    def backward(self, dy: Array) -> Array:
        """[…, n/t] → […, n]."""
        return self.group.all_gather(dy, axis=-1)


def enter(group: Group, *, sequence_parallel: bool) -> Enter:
    """Return the border into a region."""
    return GatherSequence(group) if sequence_parallel else CopyToRegion(group)


def leave(group: Group, *, sequence_parallel: bool) -> Border:
    """Return the border out of a region."""
    return ScatterSequence(group) if sequence_parallel else ReduceFromRegion(group)


def check_sequence(x: Array, group: Group) -> None:
    """Raise ValueError unless the sequence of `x` can be cut evenly among the ranks."""
    if x.shape[SEQUENCE] % group.size:
        whole = -(-x.shape[SEQUENCE] // group.size) * group.size
        raise ValueError(
            f"sequence parallelism: a sequence of {x.shape[SEQUENCE]} can't be cut evenly among "
            f"{group.size} ranks; pick a multiple of {group.size}, or pad to {whole}"
        )


def own_slice(x: Array, group: Group, axis: int = SEQUENCE) -> Array:
    """Return this rank's part (a view) of an array that is cut evenly along `axis`.

    Raises
    ------
    ValueError
        If the axis is not divisible by the number of ranks: a shorter last part would lose the
        whole's length.
    """
    length = x.shape[axis]
    if length % group.size:
        whole = -(-length // group.size) * group.size
        raise ValueError(
            f"own_slice: axis {axis} of shape {x.shape} has length {length}, not divisible by {group.size} "
            f"ranks; pick a multiple of {group.size}, or pad to {whole}"
        )
    part = length // group.size
    axis %= x.ndim
    return x[(*[slice(None)] * axis, slice(group.rank * part, (group.rank + 1) * part))]
