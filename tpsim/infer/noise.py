"""Gumbel noise by word: to sample from a softmax, add it to the logits and take the largest.

With independent Gᵢ = −log(−log Uᵢ), the word of the largest lᵢ + Gᵢ is word i with probability
exp(lᵢ)/Σⱼ exp(lⱼ). So sampling is an argmax, and as cheap as one over logits that ranks share.

The noise of a word is a function of (seed, stream, position, word) and nothing else: whichever rank has the
word, and whatever else is in the batch, it is the same.

References
----------
Gumbel (1954), "Statistical theory of extreme values"; Maddison, Tarlow & Minka (2014), "A* sampling", section
2, for the maximum; Steele, Lea & Flood (2014), "Fast splittable pseudorandom number generators", figure 14,
for the mixing function.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def gumbel(seed: int, stream: int, position: int, words: Array) -> Array:
    """Return the noise of words, float64, of their shape.

    Parameters
    ----------
    seed : int
        Of the run.
    stream : int
        Which sequence it is, by a number that doesn't depend on where it lies.
    position : int
        Of the token that is being chosen.
    words : array
        Integers.

    Examples
    --------
    >>> all_words, a_few = np.arange(50), np.array([7, 31])
    >>> bool((gumbel(0, 0, 12, all_words)[a_few] == gumbel(0, 0, 12, a_few)).all())
    True
    """
    text = f"{seed}/{stream}/{position}".encode()
    key = np.frombuffer(hashlib.blake2b(text, digest_size=8).digest(), np.uint64)
    bits = _mixed(key + _GAMMA * words.astype(np.uint64)) >> np.uint64(12)
    uniform = (bits.astype(np.float64) + 0.5) * 2.0**-52  # neither 0 nor 1
    noise: Array = -np.log(-np.log(uniform))
    return noise


def _mixed(x: Array) -> Array:
    """Return 64 bits each of which depends on all bits of x: splitmix64's."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = x ^ (x >> np.uint64(31))
    return mixed
