"""`Layer`: parameters, and what a forward pass keeps for its backward. No autograd, no tape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any

from numpy.typing import NDArray

from tpsim.nn.parameter import Parameter
from tpsim.trace import ParameterRecord, Phase, Trace, current, scope

Array = NDArray[Any]


class Layer:
    """Something with a `forward(x)` and a `backward(dy)` that returns dx and fills in gradients.

    A subclass saves what its backward needs by name, `self.save(x=x)`, and takes it back once,
    `self.take("x")`. Sub-layers are named by the attributes that hold them; events and saved tensors
    of a pass carry that path without the layer's doing.
    """

    _label = ""

    def __init_subclass__(cls) -> None:
        for phase in ("forward", "backward"):
            if phase in cls.__dict__:
                setattr(cls, phase, _labelled(cls.__dict__[phase], phase))

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Layer):
            value._label = name
        object.__setattr__(self, name, value)

    def forward(self, x: Array) -> Array:
        """Return y, and keep what `backward` needs."""
        raise NotImplementedError

    def backward(self, dy: Array) -> Array:
        """Return dx, and add to the parameters' gradients."""
        raise NotImplementedError

    # -- what is saved for backward -----------------------------------------------------------------

    def save(self, **arrays: Array) -> None:
        """Keep activations until `backward` takes them."""
        for name, array in arrays.items():
            self._keep(name, array, "activation")

    def save_statistics(self, **arrays: Array) -> None:
        """Keep small things that spare `backward` some work; the papers' formulas don't count them."""
        for name, array in arrays.items():
            self._keep(name, array, "statistic")

    def _keep(self, name: str, array: Array, kind: Any) -> None:
        kept: dict[str, tuple[Array, Trace | None]] = self.__dict__.setdefault("_kept", {})
        if name in kept:
            self.take(name)  # a forward whose backward never came
        trace = current()
        if trace is not None:
            trace.save(name, array, kind)
        kept[name] = (array, trace)

    def take(self, name: str) -> Array:
        """Return what `save` kept under `name`, and let it go."""
        kept = self.__dict__.get("_kept", {})
        if name not in kept:
            raise RuntimeError(
                f"{type(self).__name__}.backward: nothing is saved as {name!r}; call forward before each "
                "backward"
            )
        array, trace = kept.pop(name)
        if trace is not None:
            trace.release(array)
        return array  # type: ignore[no-any-return]

    # -- parameters ---------------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Layer]]:
        """Yield the sub-layers with their names."""
        for name, value in self.__dict__.items():
            if isinstance(value, Layer):
                yield name, value

    def parameters(self) -> dict[str, Parameter]:
        """Return every parameter of the layer and its sub-layers by dotted name, in order of creation."""
        found = {name: value for name, value in self.__dict__.items() if isinstance(value, Parameter)}
        for name, child in self.children():
            found |= {f"{name}.{inner}": parameter for inner, parameter in child.parameters().items()}
        return found

    def load(self, whole: Mapping[str, Array]) -> None:
        """Set every parameter to its slice of the whole tensor of its name.

        Raises
        ------
        KeyError
            If names are missing or unknown.
        """
        parameters = self.parameters()
        missing, unknown = parameters.keys() - whole.keys(), whole.keys() - parameters.keys()
        if missing or unknown:
            raise KeyError(
                f"{type(self).__name__}.load: missing {sorted(missing)}, unknown {sorted(unknown)}; pass "
                "exactly the names of parameters()"
            )
        for name, parameter in parameters.items():
            parameter.data = parameter.take(whole[name]).astype(parameter.data.dtype)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters().values():
            parameter.grad = None

    def record_parameters(self) -> None:
        """Write every parameter into the current trace."""
        trace = current()
        if trace is None:
            return
        for name, parameter in self.parameters().items():
            data, grad = parameter.data, parameter.grad
            trace.parameters.append(
                ParameterRecord(
                    name,
                    parameter.whole_shape,
                    data.shape,
                    str(data.dtype),
                    data.nbytes,
                    0 if grad is None else grad.nbytes,
                    parameter.sharding(),
                )
            )


def _labelled(method: Callable[[Any, Array], Array], phase: Phase) -> Callable[[Any, Array], Array]:
    """Return a forward or backward whose events carry the layer's name."""

    @wraps(method)
    def labelled(self: Any, x: Array) -> Array:
        if self.__dict__.get("_labelling"):  # an override that calls super(): one layer, one label
            return method(self, x)
        self.__dict__["_labelling"] = True
        try:
            with scope(self._label, phase):
                return method(self, x)
        finally:
            self.__dict__["_labelling"] = False

    return labelled
