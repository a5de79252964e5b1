"""Optimizers: from gradients to a step, on this rank's slices.

Nothing here talks. The update is element by element, so each rank updates what it holds, and replicas,
whose gradients are alike, stay alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpsim.dry import kernel
from tpsim.nn import Layer
from tpsim.trace import StateRecord, current

Array = NDArray[Any]
State = dict[str, dict[str, Array]]
"""Kind ("m", "v", …), then parameter name, then this rank's array, shaped like the parameter's."""

_FULL = (np.float32, np.float64)


class Optimizer:
    """What optimizers share: where their state lives, and full-precision masters of narrow weights.

    A step changes a weight by perhaps a thousandth of itself, which bfloat16 rounds away. So weights of
    a narrow dtype have a float32 master (kind "master") that takes the steps, and follow it rounded.

    Parameters
    ----------
    model : Layer
    kinds : tuple of str
        What is remembered for each weight beside it; starts at 0.

    Attributes
    ----------
    steps : int
        How many there were; a checkpoint puts it back, with `load_state`.
    left_out : int
        How many of them changed nothing.

    References
    ----------
    Micikevicius et al. (2018), "Mixed precision training", section 3.1, for the masters.
    """

    def __init__(self, model: Layer, kinds: tuple[str, ...] = ()) -> None:
        self.steps = self.left_out = 0
        self._parameters = model.parameters()
        narrow = {n: p.data for n, p in self._parameters.items() if p.data.dtype.type not in _FULL}
        self._masters = {name: data.astype(np.float32) for name, data in narrow.items()}
        self._state: State = {
            kind: {name: np.zeros_like(self._weight(name)) for name in self._parameters} for kind in kinds
        }

    def step(self, lr: float) -> None:
        """Update every parameter that has a gradient, in place.

        Raises
        ------
        RuntimeError
            If none has.
        """
        if all(parameter.grad is None for parameter in self._parameters.values()):
            raise RuntimeError(
                f"{type(self).__name__}.step: no parameter has a gradient; call backward first, and make the "
                "optimizer of a FullySharded, not of the model inside it"
            )
        self.steps += 1
        for name, parameter in self._parameters.items():
            if parameter.grad is None:
                continue
            weight = self._weight(name)
            of_weight = {kind: arrays[name] for kind, arrays in self._state.items()}
            matrix = len(parameter.whole_shape) > 1
            self._update(weight, parameter.grad.astype(weight.dtype, copy=False), lr, matrix, **of_weight)
            if weight is not parameter.data:
                parameter.data[...] = weight

    def leave_out(self) -> None:
        """Count a step, and change nothing: its gradients are not to be trusted."""
        self.steps += 1
        self.left_out += 1

    def _update(self, weight: Array, grad: Array, lr: float, matrix: bool, **state: Array) -> None:
        """Change one weight and its state in place."""
        raise NotImplementedError

    def _weight(self, name: str) -> Array:
        """Return what takes the steps."""
        return self._masters.get(name, self._parameters[name].data)

    def state(self) -> State:
        """Return the arrays themselves, no copies."""
        return self._state | ({"master": self._masters} if self._masters else {})

    def record_state(self) -> None:
        """Write every array of the state into the current trace."""
        trace = current()
        if trace is None:
            return
        for kind, arrays in self.state().items():
            for name, array in arrays.items():
                record = StateRecord(name, kind, array.shape, str(array.dtype), array.nbytes)
                trace.states.append(record)

    def load_state(self, state: Mapping[str, Mapping[str, Array]]) -> None:
        """Take over a state like the one that `state` returns.

        Raises
        ------
        ValueError
            If kinds or names differ.
        """
        own = self.state()
        if {k: set(v) for k, v in own.items()} != {k: set(v) for k, v in state.items()}:
            raise ValueError(
                f"{type(self).__name__}.load_state: this state of {sorted(state)} is of another model or "
                f"optimizer; pass {sorted(own)} for each of this model's parameters"
            )
        for kind, arrays in own.items():
            for name, array in arrays.items():
                array[...] = state[kind][name]


class AdamW(Optimizer):
    """Adam with decoupled weight decay: m and v follow the gradient and its square.

    m ← β₁m + (1 − β₁)g,  v ← β₂v + (1 − β₂)g²,  w ← (1 − lr·λ)w − lr·m̂ / (√v̂ + ε), where the hats
    divide by 1 − βᵏ after k steps, since m and v start at 0. Only matrices decay, not biases and norms.

    Parameters
    ----------
    model : Layer
    betas : (float, float)
    eps : float
    weight_decay : float
        λ.

    References
    ----------
    Kingma and Ba (2015), "Adam", algorithm 1; Loshchilov and Hutter (2019), "Decoupled weight decay
    regularization", algorithm 2.
    """

    def __init__(
        self,
        model: Layer,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__(model, ("m", "v"))
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def _update(self, weight: Array, grad: Array, lr: float, matrix: bool, **state: Array) -> None:
        decay = self.weight_decay if matrix else 0.0
        step = self.steps - self.left_out
        adamw(
            weight,
            grad,
            state["m"],
            state["v"],
            lr=lr,
            betas=self.betas,
            eps=self.eps,
            decay=decay,
            step=step,
        )


@kernel
def adamw(
    weight: Array,
    grad: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    decay: float,
    step: int,
) -> tuple[Array, Array, Array]:
    """Take the `step`-th step of AdamW, in place; return weight, m and v."""
    beta1, beta2 = betas
    scratch = grad * (1 - beta1)
    m *= beta1
    m += scratch
    np.multiply(grad, grad, out=scratch)
    scratch *= 1 - beta2
    v *= beta2
    v += scratch

    np.sqrt(v, out=scratch)
    scratch /= (1 - beta2**step) ** 0.5
    scratch += eps
    np.divide(m, scratch, out=scratch)
    scratch *= lr / (1 - beta1**step)
    if decay:
        weight *= 1 - lr * decay
    weight -= scratch
    return weight, m, v


class SGD(Optimizer):
    """Stochastic gradient descent: m ← μm + g, w ← w − lr·m.

    Parameters
    ----------
    model : Layer
    momentum : float
        μ; with 0 nothing is remembered, and m is g.

    References
    ----------
    Sutskever et al. (2013), "On the importance of initialization and momentum in deep learning",
    section 2, with lr outside of the momentum, as PyTorch has it.
    """

    def __init__(self, model: Layer, momentum: float = 0.0) -> None:
        super().__init__(model, ("m",) if momentum else ())
        self.momentum = momentum

    def _update(self, weight: Array, grad: Array, lr: float, matrix: bool, **state: Array) -> None:
        if "m" not in state:
            weight -= lr * grad
            return
        m = state["m"]
        m *= self.momentum
        m += grad
        weight -= lr * m
