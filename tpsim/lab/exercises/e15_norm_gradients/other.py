"""A buffer that the gradients are views of: the sum is written to where they lie."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group

Array = NDArray[Any]


def shares(normed: Array, dy: Array, dz: Array) -> tuple[Array, Array, Array]:
    """[b, s/t, hidden] twice and [b, s/t, out] → [hidden] twice and [out]."""
    dgamma = np.einsum("bsh,bsh->h", dy, normed)
    dbeta = np.einsum("bsh->h", dy)
    dbias = np.einsum("bso->o", dz)
    return dgamma, dbeta, dbias


def finish(dgamma: Array, dbeta: Array, dbias: Array, group: Group) -> tuple[Array, Array, Array]:
    """Three gradients → the same, over all tokens."""
    gradients = dgamma, dbeta, dbias
    buffer = np.empty(sum(one.size for one in gradients), dgamma.dtype)
    views = np.split(buffer, np.cumsum([one.size for one in gradients])[:-1])
    for view, one in zip(views, gradients, strict=True):
        view[...] = one
    group.iall_reduce(buffer, out=buffer).wait()
    return views[0], views[1], views[2]
