"""Gradients of parameters that several ranks hold: the sum of their shares."""

from __future__ import annotations

import numpy as np

from tpsim.comm import Group
from tpsim.nn.layer import Array, Layer
from tpsim.trace import scope


def sum_replica_gradients(layer: Layer) -> None:
    """Sum the gradients that replicas computed in shares: once a step, after its last backward.

    Under sequence parallelism these are the norms' and the row-parallel biases' (each rank saw its
    part of the sequence); with fewer kv heads than ranks, a shared head's weights (each rank saw its
    queries); and the q and k norms' (each rank saw its heads). All shares of a group of replicas go in
    one coalesced all-reduce.

    Raises
    ------
    RuntimeError
        If they were summed already: a second sum would count every share t times.
    """
    shares: dict[Group, list[Array]] = {}
    for name, parameter in layer.parameters().items():
        if parameter.grad is None or not any(p.partial and p.replicas for p in parameter.pieces):
            continue
        if parameter.summed:
            raise RuntimeError(
                f"sum_replica_gradients: the gradient of {name} is summed already; call it once a step, "
                "after the last backward, and zero_grad before the next one"
            )
        parameter.grad, parameter.summed = parameter.grad.copy(), True
        for piece, share in zip(parameter.pieces, parameter.parts_of(parameter.grad), strict=True):
            if piece.partial and piece.replicas:
                shares.setdefault(piece.replicas, []).append(share)
    with scope("gradients", "backward"):
        for group, parts in shares.items():
            total = group.all_reduce(np.concatenate([part.reshape(-1) for part in parts]))
            ends = np.cumsum([part.size for part in parts])
            for part, summed in zip(parts, np.split(total, ends[:-1]), strict=True):
                part[...] = summed.reshape(part.shape)
