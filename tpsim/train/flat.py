"""Parameters as one flat array, cut into equal stretches: what fully sharded ranks keep and exchange.

::

    parameters    [ ── norm1 ── | ────── qkv ────── | ── out ── | … ]
    flat          [ · · · · · · · · · · · · · · · · · · · · · · · · 0 0 ]     padded to equal parts
    ranks               0       |       1       |       2       |   3

One array makes one collective of them all, and every rank's part equally long, whatever the shapes are.

References
----------
Zhao et al. (2023), "PyTorch FSDP: experiences on scaling fully sharded data parallel", section 3.2.1, for
the flat parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from typing import Any, NoReturn, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from tpsim.comm import Group, Handle
from tpsim.nn import Parameter
from tpsim.train.parameter_shard import ParameterShard

Array = NDArray[Any]


class FlatParameter:
    """Parameters of one dtype, of which each rank of a group keeps an equal stretch.

    Parameters
    ----------
    parameters : mapping
        By name. Their data is dropped, and is there from `finish_gather` to the next `drop`.
    group : Group
        The ranks that share them.

    Attributes
    ----------
    shards : dict of str to ParameterShard
        What this rank keeps of each, possibly nothing.
    nbytes : int
        Of the whole, padding included.
    is_whole : bool
        Whether it is here.
    """

    def __init__(self, parameters: Mapping[str, Parameter], group: Group) -> None:
        self.group = group
        self._parameters = dict(parameters)
        arrays = [parameter.data for parameter in parameters.values()]
        self._shapes = [array.shape for array in arrays]
        self._edges = [0, *accumulate(array.size for array in arrays)]
        self._share = -(-self._edges[-1] // group.size)
        self.nbytes = self._share * group.size * arrays[0].dtype.itemsize
        here = group.rank * self._share
        self.shards: dict[str, ParameterShard] = {}
        for (name, parameter), (start, stop) in zip(parameters.items(), self._spans(), strict=True):
            first, last = (min(max(edge, start), stop) - start for edge in (here, here + self._share))
            self.shards[name] = ParameterShard(parameter, first, last)
        self._gathering: Handle | None = None
        self._reducing: Handle | None = None
        self.drop()

    def _spans(self) -> Iterator[tuple[int, int]]:
        """Yield where each parameter begins and ends in the whole."""
        return pairwise(self._edges)

    @property
    def nbytes_here(self) -> int:
        """Bytes of the whole, if it is here or on its way."""
        return self.nbytes if self.is_whole or self._gathering else 0

    def begin_gather(self) -> None:
        """Send this rank's stretch to all, unless the whole is here or on its way already."""
        if not self.nbytes_here:
            own = [shard.data for shard in self.shards.values()]
            self._gathering = self.group.iall_gather(_flat(own, self._share))

    def finish_gather(self) -> None:
        """Make every parameter's data a view of the whole."""
        if self._gathering is None:
            return
        whole, self._gathering = self._gathering.wait(), None
        parameters = zip(self._parameters.values(), self._shapes, self._spans(), strict=True)
        for parameter, shape, (start, stop) in parameters:
            parameter.data = whole[start:stop].reshape(shape)
        self.is_whole = True

    def drop(self) -> None:
        """Let the whole go; a use of a parameter's data is an error then."""
        for (name, parameter), shape in zip(self._parameters.items(), self._shapes, strict=True):
            parameter.data = cast(Array, Dropped(name, shape))
        self.is_whole = False

    def begin_reduce(self) -> None:
        """Have the gradients of the parameters summed over the ranks; the parameters forget them."""
        grads = []
        for parameter in self._parameters.values():
            grads.append(parameter.no_grad() if parameter.grad is None else parameter.grad)
            parameter.zero_grad()
        self._reducing = self.group.ireduce_scatter(_flat(grads, self._share * self.group.size))

    def finish_reduce(self) -> None:
        """Add this rank's stretch of the sum to the shards' gradients."""
        if self._reducing is None:
            return
        total, self._reducing = self._reducing.wait(), None
        start = 0
        for shard in self.shards.values():
            shard.add_grad(total[start : start + shard.data.size])
            start += shard.data.size


def _flat(arrays: list[Array], size: int) -> Array:
    """Return arrays one after another, as one of `size` entries; padding is 0."""
    padding = size - sum(array.size for array in arrays)
    return np.concatenate(
        [*(array.reshape(-1) for array in arrays), np.zeros_like(arrays[0], shape=(padding,))]
    )


class Dropped(NDArrayOperatorsMixin):
    """Stands for a parameter's data while each rank has only its shard: any use of it raises.

    Parameters
    ----------
    name : str
        The parameter's.
    shape : tuple of int
        Of what was there, the one thing that is still known.
    """

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape

    def __repr__(self) -> str:
        return f"Dropped({self.name!r}, {self.shape})"

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise RuntimeError(
            f"{self.name}: its data is asked for, but no pass is in its layer, and then each rank keeps only "
            "a shard; enter FullySharded.gathered() to look at the whole, or FullySharded.load to set it"
        )

    __array__ = __array_ufunc__ = __array_function__ = _refuse
    __getitem__ = __setitem__ = __len__ = __iter__ = __getattr__ = _refuse
