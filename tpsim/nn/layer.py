"""`Layer`: parameters, and what a forward pass keeps for its backward. No autograd, no tape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any

from numpy.typing import NDArray

from tpsim.nn.parameter import Parameter
from tpsim.nn.recompute import is_forgotten, is_rerun
from tpsim.trace import Kind, ParameterRecord, Phase, SavedTensor, Trace, current, scope

Array = NDArray[Any]


class Layer:
    """Something with a `forward(x)` and a `backward(dy)` that returns dx and fills in gradients.

    A subclass saves what its backward needs by name, `self.save(x=x)`, and takes it back once,
    `self.take("x")`. Sub-layers are named by the attributes that hold them, those of a list by
    their places in it ("blocks.0"); events and saved tensors of a pass carry that path without the
    layer's doing.

    Attributes
    ----------
    path : str
        The layer's name as seen from the outermost layer that holds it, "" for that one itself: what
        `parameters()` there begins with. Scopes that a user opens around the model don't enter.
    """

    path = ""
    _label = ""

    def __init_subclass__(cls) -> None:
        for phase in ("forward", "backward"):
            if phase in cls.__dict__:
                setattr(cls, phase, _labelled(cls.__dict__[phase], phase))

    def __setattr__(self, name: str, value: Any) -> None:
        for label, layer in _layers_in(name, value):
            layer._label = label
            layer._move(f"{self.path}.{label}" if self.path else label)
        object.__setattr__(self, name, value)

    def _move(self, path: str) -> None:
        """Take on another path, with all sub-layers."""
        self.path = path
        for label, layer in self.children():
            layer._move(f"{path}.{label}")

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

    def _keep(self, name: str, array: Array, kind: Kind) -> None:
        kept: dict[str, tuple[Array, Trace | None, SavedTensor | None]]
        kept = self.__dict__.setdefault("_kept", {})
        if name in kept:
            self.take(name)  # a forward whose backward never came
        if is_forgotten():
            return
        if is_rerun():
            kind = "recomputed"
        trace = current()
        if trace is not None and not trace.records_saved:
            trace = None
        kept[name] = (array, trace, trace.save(name, array, kind) if trace is not None else None)

    def take(self, name: str) -> Array:
        """Return what `save` kept under `name`, and let it go."""
        kept = self.__dict__.get("_kept", {})
        if name not in kept:
            raise RuntimeError(
                f"{type(self).__name__}.backward: nothing is saved as {name!r}; call forward before each "
                "backward, and make layers inside main, so that each rank has its own"
            )
        array, trace, record = kept.pop(name)
        if trace is not None:
            trace.release(array, record)
        return array  # type: ignore[no-any-return]

    # -- parameters ---------------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Layer]]:
        """Yield the sub-layers with their names."""
        for name, value in self.__dict__.items():
            yield from _layers_in(name, value)

    def parameters(self) -> dict[str, Parameter]:
        """Return every parameter of the layer and its sub-layers by dotted name, in order of creation.

        One that several layers share (a tied embedding) is there once, by the first of its names.
        """
        names: dict[Parameter, str] = {}
        for name, parameter in self._walk(""):
            names.setdefault(parameter, name)
        return {name: parameter for parameter, name in names.items()}

    def _walk(self, prefix: str) -> Iterator[tuple[str, Parameter]]:
        """Yield own parameters first, then those of the sub-layers."""
        inside = []
        for name, value in self.__dict__.items():
            if isinstance(value, Parameter):
                yield prefix + name, value
            elif isinstance(value, Layer | list):
                inside.append((name, value))
        for name, value in inside:
            for label, child in _layers_in(name, value):
                yield from child._walk(f"{prefix}{label}.")

    def load(self, whole: Mapping[str, Array]) -> None:
        """Set every parameter to its slice of the whole tensor of its name.

        Raises
        ------
        ValueError
            If names are missing or unknown.
        """
        parameters = self.parameters()
        missing, unknown = parameters.keys() - whole.keys(), whole.keys() - parameters.keys()
        if missing or unknown:
            raise ValueError(
                f"{type(self).__name__}.load: missing {sorted(missing)}, unknown {sorted(unknown)}; pass "
                "exactly the names of parameters()"
            )
        for name, parameter in parameters.items():
            parameter.data = parameter.take(whole[name]).astype(parameter.data.dtype)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters().values():
            parameter.zero_grad()

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


def _layers_in(name: str, value: Any) -> Iterator[tuple[str, Layer]]:
    """Yield the layers that an attribute holds, one or a list of them, with their names."""
    if isinstance(value, Layer):
        yield name, value
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _layers_in(f"{name}.{place}", item)


def _labelled(method: Callable[..., Any], phase: Phase) -> Callable[..., Any]:
    """Return a forward or backward whose events carry the layer's name."""

    @wraps(method)
    def labelled(self: Any, *inputs: Any, **named: Any) -> Any:
        if self.__dict__.get("_labelling"):  # an override that calls super(): one layer, one label
            return method(self, *inputs, **named)
        self.__dict__["_labelling"] = True
        try:
            with scope(self._label, "backward" if is_rerun() else phase):
                if phase == "backward":
                    _check_gradient(self, *inputs, **named)
                result = method(self, *inputs, **named)
                if phase == "forward":
                    self.__dict__["_output"] = (result.shape, result.dtype)
                return result
        finally:
            self.__dict__["_labelling"] = False

    return labelled


def _check_gradient(layer: Layer, dy: Array) -> None:
    """Raise ValueError unless dy is like the y that the last forward returned."""
    output = layer.__dict__.get("_output")
    given = (getattr(dy, "shape", None), getattr(dy, "dtype", None))
    if output is not None and given != output:
        what = f"shape {given[0]}, {given[1]}" if given[0] is not None else f"a {type(dy).__name__}"
        raise ValueError(
            f"{type(layer).__name__}.backward: dy is {what}, and forward returned shape {output[0]}, "
            f"{output[1]}; pass the gradient of the loss by that array"
        )
