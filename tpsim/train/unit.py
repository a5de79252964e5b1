"""The units of a fully sharded model: layers whose parameters come and go together."""

from __future__ import annotations

from typing import Any

from tpsim.comm import Group
from tpsim.models import LanguageModel
from tpsim.nn import Layer, Parameter
from tpsim.trace import Phase, scope
from tpsim.train.flat import FlatParameter


class Unit:
    """Layers whose parameters are gathered and dropped together, as one flat array of each dtype.

    Parameters
    ----------
    name : str
        In traces, after "fully_sharded".
    layers : list of Layer
        In the order in which forward runs them, perhaps with others between them.
    parameters : dict
        Theirs, by name in the model.
    group : Group
    """

    def __init__(
        self, name: str, layers: list[Layer], parameters: dict[str, Parameter], group: Group
    ) -> None:
        self.name, self.layers = name, layers
        of_dtype: dict[Any, dict[str, Parameter]] = {}
        for own, parameter in parameters.items():
            of_dtype.setdefault(parameter.data.dtype, {})[own] = parameter
        self.flats = [FlatParameter(alike, group) for alike in of_dtype.values()]

    def __repr__(self) -> str:
        return f"Unit({self.name!r}, {self.nbytes} bytes)"

    @property
    def nbytes(self) -> int:
        """Bytes of the whole parameters, padding included."""
        return sum(flat.nbytes for flat in self.flats)

    @property
    def nbytes_here(self) -> int:
        """Bytes of the whole parameters that are here or on their way."""
        return sum(flat.nbytes_here for flat in self.flats)

    def shards(self) -> dict[str, Parameter]:
        """Return what this rank keeps, by name."""
        return {name: shard for flat in self.flats for name, shard in flat.shards.items()}

    def begin_gather(self, phase: Phase) -> None:
        """Begin to make the parameters whole, unless they are."""
        with scope(f"fully_sharded.{self.name}", phase):
            for flat in self.flats:
                flat.begin_gather()

    def finish_gather(self) -> None:
        """Have the parameters whole."""
        for flat in self.flats:
            flat.finish_gather()

    def drop(self) -> None:
        """Let them go."""
        for flat in self.flats:
            flat.drop()

    def begin_reduce(self) -> None:
        """Begin to sum their gradients over the group."""
        with scope(f"fully_sharded.{self.name}", "backward"):
            for flat in self.flats:
                flat.begin_reduce()

    def finish_reduce(self) -> None:
        """Add the sums to the shards' gradients."""
        for flat in self.flats:
            flat.finish_reduce()


def make_units(model: LanguageModel, group: Group) -> list[Unit]:
    """Return the units of a model, in the order in which forward needs them."""
    first: list[Layer] = [model.embedding, *([model.positions] if model.positions else [])]
    last: list[Layer] = [model.norm, model.head]
    blocks: dict[str, list[Layer]] = {f"blocks.{i}": [block] for i, block in enumerate(model.blocks)}
    tied = model.head.weight is model.embedding.weight
    layers = {"ends": first + last} | blocks if tied else {"embedding": first} | blocks | {"head": last}
    names = {parameter: name for name, parameter in model.parameters().items()}
    units = []
    for unit, own in layers.items():
        parameters = {names[p]: p for layer in own for p in layer.parameters().values()}
        units.append(Unit(unit, own, parameters, group))
    return units
