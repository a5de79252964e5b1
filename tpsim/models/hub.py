"""Models in the layout of the Hugging Face hub, read and written: GPT-2 and Llama.

A folder holds config.json and model.safetensors, or several files and model.safetensors.index.json, which
says what is where. Each rank reads its own slices, and nothing else.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tpsim.comm import Group, solo
from tpsim.models.config import ModelConfig
from tpsim.models.hub_layouts import FAMILIES, HEAD, Family, Layout, Stands, family_of
from tpsim.models.lazy import Blank, Lazy, Stored, TensorFile, Transposed, joined, said_of
from tpsim.models.lm import LanguageModel
from tpsim.nn.parameter import Parameter, put_together

Array = NDArray[Any]

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


def config_of(folder: Path) -> ModelConfig:
    """Return a model's dimensions from its config.json.

    Raises
    ------
    ValueError
        If it is missing, or describes what tpsim can't compute.
    """
    return config_in(folder / CONFIG)


def config_in(path: Path) -> ModelConfig:
    """Return a model's dimensions from a file like config.json; the model has its folder's name."""
    fields = _read_json(path)
    family = FAMILIES.get(str(fields.get("model_type")))
    if family is None:
        raise ValueError(
            f"{path}: model_type {fields.get('model_type')!r} is not known; take one of {', '.join(FAMILIES)}"
        )
    with said_of(path):
        try:
            return family.read_config(path.resolve().parent.name, fields)
        except KeyError as error:
            raise ValueError(f"has no {error}; take the {CONFIG} of a {family.model_type}") from None


def read(folder: Path, group: Group | None = None, **options: Any) -> LanguageModel:
    """Return the model in a folder, on this rank's shards.

    Parameters
    ----------
    folder : Path
    group : Group, optional
        The tensor-parallel group.
    **options
        Those of `LanguageModel`, such as `dtype`, which need not be the one of the files.

    Raises
    ------
    ValueError
        If tensors are missing, superfluous or wrongly shaped, by their names.
    """
    model = LanguageModel(config_of(folder), group, rng=Blank(), **options)
    load_into(model, folder)
    return model


def load_into(model: LanguageModel, folder: Path) -> None:
    """Fill a model from the tensors in a folder, as `read` does."""
    family = family_of(model.config)
    layout = _layout(family, model.config)
    stored = _named(_tensors(folder), family, tied=model.config.tied)
    parameters = model.parameters()
    _check(
        folder, stored, {name: shape for n, p in parameters.items() for name, shape in _shapes(layout[n], p)}
    )
    whole: dict[str, Any] = {name: _ours(layout[name], stored, name) for name in parameters}
    model.load(whole)


def write(model: LanguageModel, folder: Path, group: Group | None = None) -> None:
    """Write a model into a folder, from all ranks of its group; the first has all of it in memory.

    Parameters
    ----------
    model : LanguageModel
    folder : Path
    group : Group, optional
        The one it was built on.
    """
    group = group or solo()
    family = family_of(model.config)
    layout = _layout(family, model.config)
    tensors: dict[str, Array] = {}
    for name, parameter in model.parameters().items():
        whole = _gathered(parameter, group)
        if group.rank == 0:
            tensors |= _theirs(layout[name], whole)
    if group.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / SINGLE, metadata={"format": "pt"})  # which their reader asks for
        config, dtype = model.config, tensors[layout["embedding.weight"].names[0]].dtype
        fields = {
            "model_type": family.model_type,
            "tie_word_embeddings": config.tied,
            "vocab_size": config.vocab,
            "torch_dtype": str(dtype),
            **family.write_config(config),
        }
        (folder / CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    group.barrier()


# --- names and shapes ---------------------------------------------------------------------------------------


def _layout(family: Family, config: ModelConfig) -> Layout:
    """Return a family's layout with its prefix, and the head's if that has a weight of its own."""
    layout = {
        name: one._replace(names=tuple(family.prefix + theirs for theirs in one.names))
        for name, one in family.layout(config).items()
    }
    return layout if config.tied else layout | {"head.weight": Stands((HEAD,), (config.hidden,))}


def _shapes(stands: Stands, parameter: Parameter) -> list[tuple[str, tuple[int, ...]]]:
    """Return the names and the shapes in which a parameter is kept."""
    *rest, _ = parameter.whole_shape
    shapes = [(*rest, width) for width in stands.widths]
    return [(n, s[::-1] if stands.turned else s) for n, s in zip(stands.names, shapes, strict=True)]


def _named(stored: dict[str, Stored], family: Family, *, tied: bool) -> dict[str, Stored]:
    """Return tensors by their full names, without what holds nothing learned or is another's copy."""
    full = {
        name if name == HEAD or name.startswith(family.prefix) else family.prefix + name: tensor
        for name, tensor in stored.items()
    }
    forgotten = re.compile(re.escape(family.prefix) + family.forgotten)
    return {n: t for n, t in full.items() if not forgotten.fullmatch(n) and not (tied and n == HEAD)}


def _check(folder: Path, stored: dict[str, Stored], shapes: dict[str, tuple[int, ...]]) -> None:
    missing, superfluous = sorted(shapes.keys() - stored.keys()), sorted(stored.keys() - shapes.keys())
    wrong = [
        f"{name} is {stored[name].shape} rather than {shape}"
        for name, shape in shapes.items()
        if name in stored and stored[name].shape != shape
    ]
    found = [
        text
        for names, text in (
            (missing, f"missing {_some(missing)}"),
            (superfluous, f"superfluous {_some(superfluous)}"),
            (wrong, _some(wrong)),
        )
        if names
    ]
    if found:
        raise ValueError(
            f"{folder}: not this model's tensors: {'; '.join(found)}; take the files that belong to "
            f"its {CONFIG}"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


# --- tensors ------------------------------------------------------------------------------------------------


def _tensors(folder: Path) -> dict[str, Stored]:
    """Return all tensors in a folder, unread."""
    if (folder / INDEX).exists():
        where = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(where, dict):
            raise ValueError(f"{folder / INDEX}: has no weight_map; take the index of a sharded checkpoint")
        files = {name: TensorFile(folder / name) for name in sorted(set(where.values()))}
        for name, file in where.items():
            if name not in files[file].names:
                raise ValueError(
                    f"{folder / file}: has no tensor {name}, and the index says it has; copy the folder again"
                )
        return {name: files[file].tensor(name) for name, file in where.items()}
    file = TensorFile(folder / SINGLE)
    return {name: file.tensor(name) for name in file.names}


def _ours(stands: Stands, stored: dict[str, Stored], name: str) -> Lazy:
    """Return one of our tensors, unread."""
    parts = [stored[theirs] for theirs in stands.names]
    return joined([Transposed(part) if stands.turned else part for part in parts], name)


def _theirs(stands: Stands, whole: Array) -> dict[str, Array]:
    """Return one of our tensors as it is kept."""
    parts = np.split(whole, np.cumsum(stands.widths)[:-1], axis=-1)
    return {
        name: np.ascontiguousarray(part.T if stands.turned else part)
        for name, part in zip(stands.names, parts, strict=True)
    }


def _gathered(parameter: Parameter, group: Group) -> Array:
    """Return a whole parameter from the slices of all ranks of a group."""
    spans = np.array([[where[-1].start, where[-1].stop] for where in parameter.places()])  # [pieces, 2]
    everywhere = group.all_gather(spans[np.newaxis])
    shards = []
    for rank, local in enumerate(group.all_gather(parameter.data[np.newaxis])):
        placed, offset = [], 0
        for piece, (start, stop) in zip(parameter.pieces, everywhere[rank], strict=True):
            lead = [slice(None)] * parameter.axis
            placed.append(((*lead, slice(start, stop)), local[(*lead, slice(offset, offset + stop - start))]))
            offset += piece.local
        shards.append(placed)
    return put_together(parameter.whole_shape, shards)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(
            f"{path}: there is no such file to read; pass a folder in the Hugging Face layout"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); copy it again") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: holds a {type(values).__name__}, not fields by name; copy it again")
    return values
