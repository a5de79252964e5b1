"""Text as bytes, and which windows of it a step sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_SMOOTHING = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)


@dataclass(frozen=True)
class Corpus:
    """A text, as bytes: its first part to train on, the rest held out."""

    name: str
    train: NDArray[np.uint8]
    held_out: NDArray[np.uint8]

    def batch(self, seed: int, step: int, samples: Sequence[int], seq: int) -> Array:
        """Return [samples, seq + 1]: windows of the training text, from anywhere.

        A window is a function of (seed, step, sample) alone, `samples` being indices in the batch of all
        ranks: however it is cut into microbatches and among data-parallel ranks, a step sees the same.
        The inputs are all columns but the last, the targets all but the first.
        """
        draw = np.random.Philox(key=np.array([seed, step], np.uint64))
        starts = draw.random_raw(max(samples) + 1)[list(samples)] % np.uint64(len(self.train) - seq)
        return windows(self.train, starts, seq)

    def held_out_windows(self, seq: int, most: int | None = None) -> Array:
        """Return [n, seq + 1]: windows side by side, each predicting other bytes; `most` of them, spread."""
        count = (len(self.held_out) - 1) // seq
        chosen = np.arange(count) if most is None or most >= count else np.arange(most) * count // most
        return windows(self.held_out, chosen * seq, seq)

    def bigram_loss(self) -> float:
        """Return the held-out loss, in nats a byte, of knowing one byte back: what a model has to beat.

        Counts of pairs in the training text, each raised by a constant: the one that suits the held-out
        text best, so that the comparison favours the bigram.
        """
        counts = np.zeros((256, 256))
        np.add.at(counts, (self.train[:-1], self.train[1:]), 1)
        before, after = self.held_out[:-1], self.held_out[1:]
        losses = []
        for more in _SMOOTHING:
            p = (counts + more) / (counts + more).sum(axis=1, keepdims=True)
            losses.append(-np.log(p[before, after]).mean())
        return float(min(losses))


def windows(text: Array, starts: Array, seq: int) -> Array:
    """Return [n, seq + 1] integers: the text from each start on."""
    places = starts.astype(np.int64)[:, np.newaxis] + np.arange(seq + 1)
    chosen: Array = text[places]
    return chosen.astype(np.int64)


def read(path: str | Path | None = None, seq: int = 1) -> Corpus:
    """Return a UTF-8 file's bytes, or those of CPython's language reference: 9 parts in 10 to train on.

    The reference is the text of Python's `help("topics")`, on every machine; it differs a little from
    version to version.

    Parameters
    ----------
    path : path, optional
    seq : int
        The length of windows that either part must have room for.

    Raises
    ------
    ValueError
        If the file can't be read, is no UTF-8, or is too short.
    """
    if path is None:
        from pydoc_data import topics

        name, text = "pydoc_data.topics", "\n".join(topics.topics[name] for name in sorted(topics.topics))
    else:
        name = str(path)
        try:
            text = Path(path).read_bytes().decode()
        except OSError as error:
            raise ValueError(
                f"text {path} can't be read ({error.strerror}); pass a text file, or leave it out"
            ) from None
        except UnicodeDecodeError as error:
            raise ValueError(f"text {path} is not UTF-8 ({error.reason}); convert it first") from None
    data = np.frombuffer(text.encode(), np.uint8)
    split = len(data) * 9 // 10
    corpus = Corpus(name, data[:split], data[split:])
    if len(corpus.held_out) <= seq or len(corpus.train) <= seq:
        raise ValueError(
            f"text {name} of {len(data)} bytes has no room for windows of {seq + 1} in its last tenth; "
            "take a longer text, or a smaller seq"
        )
    return corpus
