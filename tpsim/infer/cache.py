"""The cache of keys and values: what attention has seen, kept so that each token is computed once.

A rank keeps its own kv heads, as its layers have them (with fewer kv heads than ranks, neighbours keep the
same one). Room is there from the beginning, for a batch of sequences that each fill a row up to a length of
their own::

               positions
             0  1  2  3  4  5  6  7
    row 0    ■  ■  ■  ■  ■  ■  ·  ·      lengths = [6, 3, 5]
    row 1    ■  ■  ■  ·  ·  ·  ·  ·
    row 2    ■  ■  ■  ■  ■  ·  ·  ·

With a window of w positions (sliding-window attention) only the last w are seen, and kept: position p lies
in slot p mod w, where it replaces the one that has just gone out of sight.

References
----------
Shazeer (2019), "Fast transformer decoding: one write-head is all you need", section 2.4;
Beltagy et al. (2020), "Longformer", section 3.1, for the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tpsim.functional import NARROW, attention_output, attention_probabilities, rotary_tables
from tpsim.models import LanguageModel
from tpsim.nn.cached import Cached

Array = NDArray[Any]


class KVCache:
    """Keys and values of all layers of a model, on this rank.

    Parameters
    ----------
    model : LanguageModel
        Whose heads, rotary positions and dtype these are; without sequence parallelism.
    batch, length : int
        Rows, and the positions of each.
    window : int, optional
        A position sees only the last so many, itself among them; they are all that is kept.
    dtype : dtype, optional
        In which keys and values are kept; the model's by default. They are computed with in the model's.

    Attributes
    ----------
    keys, values : list of array
        One a layer, [batch, kv heads here, slots, head size].
    lengths : list of int
        How many positions of each row are filled.

    Raises
    ------
    ValueError
        If the model has no room for such sequences, or cuts them among ranks.
    """

    def __init__(
        self,
        model: LanguageModel,
        batch: int,
        length: int,
        *,
        window: int | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        _check(model, batch, length, window)
        first = model.blocks[0].attention
        weight = first.qkv.weight.data
        self.batch, self.length, self.window = batch, length, window
        self.slots = length if window is None else min(window, length)
        shape = (batch, first.kv_heads, self.slots, first.head_size)
        kept = weight.dtype if dtype is None else np.dtype(dtype)
        self.keys: list[Array] = [np.zeros(shape, kept, like=weight) for _ in model.blocks]
        self.values: list[Array] = [np.zeros(shape, kept, like=weight) for _ in model.blocks]
        self.lengths = [0] * batch
        self.mask_dtype = np.dtype(np.float32) if weight.dtype in NARROW else weight.dtype
        self.tables: tuple[Array, Array] | None = None
        if first.rotary_base is not None:
            self.tables = rotary_tables(
                length, first.head_size, first.rotary_base, weight, first.rotary_scaling
            )

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values, filled or not."""
        return sum(array.nbytes for array in (*self.keys, *self.values))

    def step(self, count: int, rows: slice = slice(None)) -> Step:
        """Make room for the next `count` tokens of some rows; what `LanguageModel.states` takes as cache.

        The rows' lengths grow at once; the pass that the step is given to fills what they have grown by.

        Raises
        ------
        ValueError
            If a row would be longer than there is room for.
        """
        where = range(self.batch)[rows]
        starts = [self.lengths[row] for row in where]
        if count < 1 or max(starts, default=self.length) + count > self.length:
            raise ValueError(
                f"KVCache: {count} more tokens after {starts} don't go into rows of {self.length}; make a "
                f"longer cache, and give it 1 or more tokens of 1 or more rows"
            )
        for row in where:
            self.lengths[row] += count
        return Step(self, rows, starts, count)

    def clear(self, row: int) -> None:
        """Forget a row: its sequence has ended."""
        self.lengths[row] = 0

    def move(self, source: int, target: int) -> None:
        """Put a row's sequence into another's place."""
        filled = slice(min(self.lengths[source], self.slots))
        for array in (*self.keys, *self.values):
            array[target, :, filled] = array[source, :, filled]
        self.lengths[target] = self.lengths[source]
        self.clear(source)


class Step(Sequence[Cached]):
    """The next `count` tokens of some rows: where they stand, what they see, and where they are kept.

    It is worked out once; each layer then has its own `Cached`, an item of this sequence.

    Attributes
    ----------
    positions : slice or array
        Of the new tokens: the same in all rows where these are as long, else [rows, count].
    tables : list of array, or None
        For rotary: [count, d/2], or [rows, 1, count, d/2] where rows differ.
    mask : array or None
        0 where a token sees a key, −inf elsewhere, [rows, 1, count, keys]; None where all see all before.
    """

    def __init__(self, cache: KVCache, rows: slice, starts: list[int], count: int) -> None:
        self.cache, self.rows = cache, rows
        new = np.array(starts)[:, np.newaxis] + np.arange(count)  # [rows, count]
        even = min(starts) == max(starts)
        self.positions: Any = slice(starts[0], starts[0] + count) if even else new
        self.tables: Any = None
        if cache.tables:
            tables = [table[self.positions] for table in cache.tables]
            self.tables = tables if even else [table[:, np.newaxis] for table in tables]
        # Several tokens under a window would overwrite what the first of them still sees: their keys stand
        # beside the old ones. Else the new ones are put into their slots first.
        self._beside = cache.window is not None and count > 1
        held = np.array(starts) + (0 if self._beside else count)
        self._seen = slice(min(int(held.max()), cache.slots))
        self.mask = self._masking(held, new) if self._beside or not even else None
        self._last = slice(max(0, count - cache.slots), None)  # those before are out of sight at once
        self._to = self._slots(new[:, self._last], even)

    def _masking(self, held: Array, new: Array) -> Array:
        """Slot j holds the last of the held positions that is j modulo the slots."""
        slots, last = self.cache.slots, held[:, np.newaxis] - 1
        keys = last - (last - np.arange(slots)[self._seen]) % slots  # below 0: nothing is there
        if self._beside:
            keys = np.concatenate([keys, new], axis=1)
        key, query = keys[:, np.newaxis, np.newaxis], new[:, np.newaxis, :, np.newaxis]
        visible = (key >= 0) & (key <= query)
        if self.cache.window is not None:
            visible &= key > query - self.cache.window
        return np.where(visible, 0.0, -np.inf).astype(self.cache.mask_dtype)

    def _slots(self, new: Array, even: bool) -> Any:
        """Return the index of the new positions' slots: a stretch if it can be, for all rows."""
        slots = new % self.cache.slots
        first, last = int(slots[0, 0]), int(slots[0, -1])
        if even and last - first == slots.shape[1] - 1:
            return slice(None), slice(None), slice(first, last + 1)
        return np.arange(len(new))[:, np.newaxis], slice(None), slots

    def __len__(self) -> int:
        return len(self.cache.keys)

    def __getitem__(self, layer: Any) -> Any:
        if layer >= len(self):
            raise IndexError(layer)
        return OfLayer(self, layer)

    def extend(self, kept: Array, new: Array) -> Array:
        """Put new keys (or values), [rows, g, count, d], into their slots; return all that is seen."""
        rows = kept[self.rows]
        seen = rows[:, :, self._seen]
        if self._beside:
            seen = np.concatenate([seen.astype(new.dtype, copy=False), new], axis=2)
        last = new[:, :, self._last]
        rows[self._to] = last if isinstance(self._to[0], slice) else last.swapaxes(1, 2)
        return seen.astype(new.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class OfLayer:
    """One layer's part of a step: a `tpsim.nn.cached.Cached`."""

    step: Step
    layer: int

    @property
    def positions(self) -> Any:
        """As the step's."""
        return self.step.positions

    @property
    def tables(self) -> tuple[Array, Array]:
        """As the step's."""
        cos, sin = self.step.tables
        return cos, sin

    def attend(self, q: Array, k: Array, v: Array, scale: float) -> Array:
        """See `Cached.attend`."""
        step, cache = self.step, self.step.cache
        k, v = step.extend(cache.keys[self.layer], k), step.extend(cache.values[self.layer], v)
        p = attention_probabilities(q, k, causal=step.mask is None, scale=scale, mask=step.mask)
        return attention_output(p, v)


def _check(model: LanguageModel, batch: int, length: int, window: int | None) -> None:
    """Raise ValueError unless the model can go on from such a cache."""
    config = model.config
    if min(batch, length, 1 if window is None else window) < 1:
        raise ValueError(
            f"KVCache: {batch} rows of {length} positions (window {window}); pick whole numbers from 1"
        )
    if model.positions and length > config.max_seq:
        raise ValueError(
            f"KVCache: rows of {length}, and {config.name} has learned {config.max_seq} positions; pick a "
            f"length up to {config.max_seq}"
        )
    if model.sequence_parallel:
        raise ValueError(
            "KVCache: under sequence parallelism a rank has its stretch of a sequence, and one new token "
            "can't be cut; build the model without it"
        )
