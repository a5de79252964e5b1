"""Cutting a 1-D buffer into one chunk a rank.

A cut is a tuple of ``parts + 1`` offsets, so chunks ``i … j−1`` together are ``buffer[cut[i]:cut[j]]``::

    bounds(5, 4) = (0, 2, 3, 4, 5)      | 0 1 | 2 | 3 | 4 |
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

from tpsim.comm.algorithms.port import Array


@lru_cache(maxsize=1024)
def bounds(count: int, parts: int) -> tuple[int, ...]:
    """Offsets that cut ``count`` elements into ``parts`` chunks, the first ``count % parts`` one longer.

    Parameters
    ----------
    count : int
        Elements; may be fewer than ``parts``, which leaves the last chunks empty.
    parts : int
        Chunks.

    Returns
    -------
    tuple of int
        ``parts + 1`` offsets from 0 to ``count``: the cut of ``numpy.array_split``.
    """
    each, longer = divmod(count, parts)
    return tuple(i * each + min(i, longer) for i in range(parts + 1))


def around(blocks: Sequence[Array]) -> tuple[int, ...]:
    """Offsets of ``blocks`` when they are laid end to end."""
    return tuple(accumulate((block.size for block in blocks), initial=0))


def split(buffer: Array, offsets: Sequence[int]) -> list[Array]:
    """Views of ``buffer`` between successive offsets."""
    return [buffer[start:stop] for start, stop in pairwise(offsets)]
