"""Data parallelism: gradients summed over replicas of the whole model, while backward goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.comm import Group, Handle
from tpsim.models import LanguageModel
from tpsim.nn import Layer, Parameter
from tpsim.trace import scope

BUCKET_BYTES = 1 << 20


class GradientBuckets:
    """Sums gradients over data-parallel ranks in buckets, each begun as soon as it is full.

    ::

        backward   head │ block 3 │ block 2 │ block 1 │ block 0 │ embedding
        all-reduce           └──── block 3 ────┘
                                       └──── block 2 ────┘  …

    Large buckets spare latency, small ones begin sooner. Gradients must be shares of the *global*
    mean's gradient (each divided by the count of all ranks' tokens), so that a sum is right.

    Parameters
    ----------
    model : LanguageModel
    group : Group
        The data-parallel group.
    nbytes : int
        From which size on a bucket is sent.

    References
    ----------
    Li et al. (2020), "PyTorch Distributed: experiences on accelerating data parallel training",
    section 3.2.
    """

    def __init__(self, model: LanguageModel, group: Group, nbytes: int = BUCKET_BYTES) -> None:
        self.group, self.nbytes = group, nbytes
        self._blocks = model.blocks
        self._waiting = dict.fromkeys(model.parameters().values())  # in order, and quick to leave
        self._open: list[Parameter] = []
        self._begun: list[tuple[list[Parameter], Handle]] = []

    def filling(self) -> AbstractContextManager[None]:
        """Take note of every block that is through with the backward inside the `with` block."""
        return after_backward(self._blocks, self.ready)

    def ready(self, layer: Layer) -> None:
        """Take note that the gradients of a layer will not change any more."""
        for _, handle in self._begun:
            handle.test()  # messages only move when somebody looks
        for parameter in layer.parameters().values():
            if parameter in self._waiting:
                del self._waiting[parameter]
                if parameter.grad is not None:
                    self._add(parameter, parameter.grad)

    def finish(self) -> None:
        """Begin what is left, and put every sum in its gradient's place."""
        for parameter in self._waiting:
            if parameter.grad is not None:
                self._add(parameter, parameter.grad)
        self._waiting = {}
        self._begin()
        for parameters, handle in self._begun:
            total, start = handle.wait(), 0
            for parameter in parameters:
                size = parameter.data.size
                parameter.grad = total[start : start + size].reshape(parameter.data.shape)
                start += size
        self._begun = []

    def _add(self, parameter: Parameter, grad: NDArray[Any]) -> None:
        first = self._open[0].grad if self._open else None
        if first is not None and first.dtype != grad.dtype:
            self._begin()
        self._open.append(parameter)
        if sum(one.data.nbytes for one in self._open) >= self.nbytes:
            self._begin()

    def _begin(self) -> None:
        if not self._open:
            return
        bucket = np.concatenate([one.grad.reshape(-1) for one in self._open if one.grad is not None])
        with scope("data_parallel", "backward"):
            self._begun.append((self._open, self.group.iall_reduce(bucket)))
        self._open = []


@contextmanager
def after_backward(layers: Sequence[Layer], tell: Callable[[Layer], None]) -> Iterator[None]:
    """Call `tell(layer)` when the layer's backward has run, inside the `with` block."""

    def telling(layer: Layer) -> Callable[[Any], Any]:
        def backward(dy: Any) -> Any:
            dx = type(layer).backward(layer, dy)
            tell(layer)
            return dx

        return backward

    for layer in layers:
        vars(layer)["backward"] = telling(layer)
    try:
        yield
    finally:
        for layer in layers:
            del vars(layer)["backward"]
