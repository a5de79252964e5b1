"""Fully sharded data parallelism (FSDP, ZeRO stage 3): data-parallel ranks that keep a shard of all state.

::

    forward     gather embedding │ gather block 0 │ gather block 1 │ …
                run, drop        │ run, drop      │ run, drop      │

    backward  … │ gather block 1            │ gather block 0            │ gather embedding
                │ run, reduce-scatter, drop │ run, reduce-scatter, drop │ run, reduce-scatter, drop

Ranks work on their own sequences with whole weights, as in plain data parallelism, but have these for a
moment only. What stays is a t-th of the weights, of their gradients and of the optimizer's state. The price:
a rank sends 3 (t − 1)/t × parameters *a microbatch* (gather, gather again, reduce-scatter), where plain data
parallelism sends 2 (t − 1)/t × parameters a step. Neither depends on batch or sequence: here weights travel,
in tensor parallelism activations do. (In bytes: gradients of narrow weights are float32, and travel as that.)

References
----------
Rajbhandari et al. (2020), "ZeRO: memory optimizations toward training trillion parameter models", sections
5.3 and 7.2.2; Zhao et al. (2023), "PyTorch FSDP: experiences on scaling fully sharded data parallel",
sections 3.2.1 and 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from tpsim.comm import Group
from tpsim.models import LanguageModel, ModelConfig
from tpsim.nn import Layer, Parameter, VocabParallelCrossEntropy
from tpsim.nn.recompute import is_forgotten
from tpsim.trace import Phase
from tpsim.train.unit import Unit, make_units

Array = NDArray[Any]


class FullySharded(Layer):
    """A language model whose parameters are sharded over a group, and whole only where a pass is.

    Each block is a unit, which is gathered before it runs and dropped after; so are the embedding with the
    positions, and the last norm with the head. A tied embedding is needed at both ends: these are then one
    unit, "ends", whole from the embedding to the head, and in backward from the head to the embedding. That
    keeps the bytes at 3 × parameters (dropped in between they would be 5 × for this unit), and costs memory.

    Losses must be divided by the count of all ranks' tokens, as `gradients` does: shares are summed. Every
    rank runs as many passes as the others, for each of them gathers.

    The optimizer, `clip`, and `sum_replica_gradients` take it as they take a model: its parameters are the
    shards, and each knows its place in the whole. Under tensor parallelism what is sharded is a rank's
    slice; all its replicas in the tensor-parallel group have the same stretch of it, so their shares can be
    summed on the shard, once a step.

    Parameters
    ----------
    model : LanguageModel
        Its parameters are dropped here: use it only through this, and set weights by `load`.
    group : Group
        The data-parallel group.
    keep_after_forward : bool
        Drop units after their backward only (PyTorch's `reshard_after_forward=False`): no second gather,
        2 × parameters to send, and all weights are whole for a while.
    prefetch : bool
        Begin the next unit's gather before this one runs, and finish its reduce-scatter when the next one
        has run, so that both can hide behind arithmetic. The same bits, and one more unit in memory.

    Attributes
    ----------
    units : list of Unit
        In the order of forward.
    peak_whole_bytes : int
        Bytes of gathered parameters, at most so far.

    Examples
    --------
    >>> import numpy as np
    >>> from tpsim import Trace, models, run
    >>> def main(comm):
    ...     sharded = FullySharded(LanguageModel(models.get("tiny-gpt")), Group(comm, name="dp"))
    ...     tokens = np.zeros((1, 8), np.int64)
    ...     with Trace() as trace:
    ...         loss = sharded.forward(tokens, tokens)
    ...         sharded.backward(np.full_like(loss, 1 / (comm.size * loss.size)))
    ...     parameters = sum(unit.nbytes for unit in sharded.units)
    ...     return sum(event.bytes_sent for event in trace.select(layer="fully_sharded")) / parameters
    >>> run(main, ranks=4)  # 3 (t − 1)/t
    [2.25, 2.25, 2.25, 2.25]
    """

    def __init__(
        self, model: LanguageModel, group: Group, *, keep_after_forward: bool = False, prefetch: bool = True
    ) -> None:
        if not isinstance(model, LanguageModel):
            raise TypeError(
                f"FullySharded: a {type(model).__name__} is not a LanguageModel, whose blocks and ends are "
                "gathered one by one; pass one that is not sharded yet"
            )
        object.__setattr__(self, "model", model)  # no sub-layer: dropout masks go by the paths of its layers
        self.model: LanguageModel
        self.group = group
        self.keep_after_forward, self.prefetch = keep_after_forward, prefetch
        self.peak_whole_bytes = 0
        self._names = list(model.parameters())
        self.units = make_units(model, group)
        places = {layer: place for place, (_, layer) in enumerate(model.children())}
        backwards = sorted(self.units, key=lambda unit: places[unit.layers[-1]], reverse=True)
        self._next = {"forward": dict(pairwise(self.units)), "backward": dict(pairwise(backwards))}
        self._reducing: Unit | None = None
        for unit in self.units:
            first, last = unit.layers[0], unit.layers[-1]
            _hook(first, "forward", before=partial(self._gather, unit, "forward"))
            _hook(last, "forward", after=partial(self._after_forward, unit))
            _hook(last, "backward", before=partial(self._gather, unit, "backward"))
            _hook(first, "backward", after=partial(self._after_backward, unit))

    @property
    def config(self) -> ModelConfig:
        """The model's dimensions."""
        return self.model.config

    @property
    def loss(self) -> VocabParallelCrossEntropy:
        """The model's."""
        return self.model.loss

    def parameters(self) -> dict[str, Parameter]:
        """Return this rank's shards, by the model's names; a shard may be empty."""
        shards = {name: shard for unit in self.units for name, shard in unit.shards().items()}
        return {name: shards[name] for name in self._names}

    def forward(self, tokens: Array, targets: Array) -> Array:  # type: ignore[override]  # two inputs
        """Integers [b, s] and [b, s], this rank's sequences → the loss of each token, [b, s]."""
        self._forget()
        return self.model.forward(tokens, targets)

    def backward(self, dloss: Array) -> None:  # type: ignore[override]  # tokens have no gradient
        """[b, s] → nothing; adds to the shards' gradients their sum over the group."""
        self.model.backward(dloss)

    @contextmanager
    def gathered(self) -> Iterator[LanguageModel]:
        """Give the model with all its parameters whole, to look at or save; all ranks enter together.

        What is written into them is lost.
        """
        self._forget()
        for unit in self.units:
            unit.begin_gather("")
            unit.finish_gather()
        try:
            yield self.model
        finally:
            for unit in self.units:
                unit.drop()

    # -- around each unit -----------------------------------------------------------------------------------

    def _forget(self) -> None:
        """Drop what a forward left whose backward never came, or that failed: it may be out of date."""
        for unit in self.units:
            unit.finish_gather()
            unit.drop()

    def _gather(self, unit: Unit, phase: Phase) -> None:
        unit.begin_gather(phase)
        unit.finish_gather()
        if self.prefetch and unit in self._next[phase]:
            self._next[phase][unit].begin_gather(phase)
        self.peak_whole_bytes = max(self.peak_whole_bytes, sum(one.nbytes_here for one in self.units))

    def _after_forward(self, unit: Unit) -> None:
        if is_forgotten() or not self.keep_after_forward:
            unit.drop()

    def _after_backward(self, unit: Unit) -> None:
        self._finish_reduce()
        unit.begin_reduce()
        unit.drop()
        self._reducing = unit
        if unit is self.units[0] or not self.prefetch:  # in backward, it is through last
            self._finish_reduce()

    def _finish_reduce(self) -> None:
        if self._reducing:
            self._reducing.finish_reduce()
            self._reducing = None


def _hook(
    layer: Layer,
    method: str,
    *,
    before: Callable[[], None] | None = None,
    after: Callable[[], None] | None = None,
) -> None:
    """Have a layer's forward or backward call `before` and `after` around what it did up to now."""
    run = getattr(layer, method)

    def hooked(*inputs: Any, **named: Any) -> Any:
        if before:
            before()
        result = run(*inputs, **named)
        if after:
            after()
        return result

    vars(layer)[method] = hooked
