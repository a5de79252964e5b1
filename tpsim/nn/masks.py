"""Dropout masks that do not depend on how the work is cut.

A mask entry is a function of (seed, step, site, sample) and of its place in the whole mask of that
sample; the site is the path of the dropout layer in the model, and so tells the layers apart. Each
sample has its own stream of a counter-based generator, which can be entered at any place, so that a
rank draws just its slice: t ranks, dp ranks and microbatches together drop what one device drops, bit
for bit. And as nothing advances from call to call, a forward that runs again drops the same once more.

References
----------
Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3", for Philox.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Masks: TypeAlias = Literal["sliced", "megatron"]

MEGATRON_OFFSET = 2718  # between the seeds outside and inside the region, in Megatron-LM
_WORDS = 8  # uint32 words in one block of Philox 4×64, which its counter counts


@dataclass(frozen=True)
class Draw:
    """What masks are drawn for: one training step of some samples.

    Parameters
    ----------
    seed, step : int
        Of the run, and of the step within it.
    samples : sequence of int
        Global index of each sequence of the batch at hand: the same number on whichever rank, in
        whichever microbatch it is.
    masks : {"sliced", "megatron"}
        Whether ranks draw slices of one mask, or each from a seed of its own.
    """

    seed: int
    step: int
    samples: Sequence[int]
    masks: Masks = "sliced"

    def __post_init__(self) -> None:
        if self.masks not in ("sliced", "megatron"):
            raise ValueError(f"drawing: masks {self.masks!r} are not known; pick 'sliced' or 'megatron'")


_draw: ContextVar[Draw | None] = ContextVar("tpsim_draw", default=None)

current_draw = _draw.get


@contextmanager
def drawing(seed: int, step: int, samples: Sequence[int], masks: Masks = "sliced") -> Iterator[Draw]:
    """Say for which step and samples the passes inside the `with` block draw their masks.

    Without it, dropout layers drop nothing: that is evaluation. Parameters as for `Draw`.

    Examples
    --------
    >>> from tpsim.nn.dropout import Dropout
    >>> dropout = Dropout(0.5)
    >>> with drawing(seed=0, step=7, samples=[40, 41]):
    ...     y = dropout.forward(np.ones((2, 1, 6)))
    >>> with drawing(seed=0, step=7, samples=[41]):  # the same sample in another microbatch
    ...     bool((dropout.forward(np.ones((1, 1, 6))) == y[1]).all())
    True
    """
    draw = Draw(seed, step, samples, masks)
    token = _draw.set(draw)
    try:
        yield draw
    finally:
        _draw.reset(token)


def part_mask(
    draw: Draw, site: str, rate: float, part: int, shape: tuple[int, ...], like: NDArray[Any] | None = None
) -> NDArray[np.bool_]:
    """Return `keep_mask` of one of the equal, contiguous parts that a sample's mask is cut into.

    With Megatron-LM's masks each part comes whole from a seed of its own, seed + 2718 + tp rank, as its
    ranks' generators have, rather than being a slice of one mask. So every t trains with other masks, and
    its losses differ from one device's by more than rounding: by design, none of them is wrong.

    References
    ----------
    Megatron-LM, `megatron/core/tensor_parallel/random.py`, `model_parallel_cuda_manual_seed`.
    """
    if draw.masks == "megatron":
        return keep_mask(replace(draw, seed=draw.seed + MEGATRON_OFFSET + part), site, rate, 0, shape, like)
    return keep_mask(draw, site, rate, part * math.prod(shape[1:]), shape, like)


def keep_mask(
    draw: Draw, site: str, rate: float, start: int, shape: tuple[int, ...], like: NDArray[Any] | None = None
) -> NDArray[np.bool_]:
    """Return which entries are kept: True with probability 1 − rate.

    Parameters
    ----------
    draw : Draw
    site : str
        The path of the dropout layer: each has masks of its own.
    rate : float
        Probability of dropping, 0 ≤ rate < 1.
    start : int
        Where this rank's contiguous slice begins in the whole mask of a sample, in elements.
    shape : tuple of int
        [samples, …]: the slice's shape for each sample.
    like : array, optional
        An array of the kind that the mask shall be.

    Raises
    ------
    ValueError
        If the draw names more or fewer samples than there are.
    """
    samples, *of_one = shape
    if len(draw.samples) != samples:
        raise ValueError(
            f"dropout: {samples} sequences came, and drawing(...) names {len(draw.samples)} samples; name "
            "the global index of each sequence of this microbatch"
        )
    count = math.prod(of_one)
    threshold = np.uint32(min(round(rate * 2**32), 2**32 - 1))
    keep = np.empty(shape, np.bool_, like=like)
    if isinstance(keep, np.ndarray):  # a dry run's arrays have no data to draw
        for row, sample in zip(keep.reshape(samples, count), draw.samples, strict=True):
            np.greater_equal(_words(_key(draw, site, sample), start, count), threshold, out=row)
    return keep


def _key(draw: Draw, site: str, sample: int) -> NDArray[np.uint64]:
    text = f"{draw.seed}/{draw.step}/{site}/{sample}"
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=16).digest(), np.uint64)


def _words(key: NDArray[np.uint64], start: int, count: int) -> NDArray[np.uint32]:
    """Return words `start` to `start + count` of the key's stream."""
    skipped = start % _WORDS
    philox = np.random.Philox(key=key, counter=start // _WORDS)
    words: NDArray[Any] = philox.random_raw(-(-(skipped + count) // 2)).view(np.uint32)
    return words[skipped : skipped + count]
