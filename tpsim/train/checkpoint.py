"""Checkpoints that any number of ranks can load, and that a process killed at any moment leaves whole.

A run's folder holds the last ones::

    run/step-000100/manifest.json              configuration, step, meta, checksum of every file
                    rank-00000.safetensors     the pieces that rank 0 of the tensor-parallel group owns
                    rank-00001.safetensors     …
        step-000200/…
        step-000300.tmp/…                      never finished: nobody reads it, the next save removes it
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tpsim.comm.mesh import Mesh
from tpsim.models import LanguageModel
from tpsim.models.lazy import Tiled, said_of
from tpsim.nn import Layer
from tpsim.nn.parameter import Parameter
from tpsim.train.fsdp import FullySharded
from tpsim.train.shards import (
    PARAMETERS,
    Shards,
    States,
    check_digests,
    digest,
    read_manifest,
    shard_name,
    sync,
    write_manifest,
    write_shard,
)

Array = NDArray[Any]
Result = TypeVar("Result")

_STEP = re.compile(r"step-(\d+)(\.old)?")
_MESSAGE_BYTES = 2000


class Optimizer(Protocol):
    """What a checkpoint needs of an optimizer."""

    steps: int

    def state(self) -> States:
        """Return its memory: for each kind ("m", "v") an array like each parameter's."""

    def load_state(self, state: States) -> None:
        """Take such a memory for its own."""


# --- saving -------------------------------------------------------------------------------------------------


def save(
    folder: Path, model: Layer, optimizer: Optimizer, mesh: Mesh, meta: dict[str, Any], keep: int = 2
) -> None:
    """Save a checkpoint, "step-000123" for `optimizer.steps` of 123; all ranks of the mesh call it.

    It comes into being under another name, is written through to the disk, and then renamed: there is
    always a last whole one. Those of later steps go: this run went back, or began anew, and replaces them.

    Parameters
    ----------
    folder : Path
        Of the run.
    model : Layer
    optimizer : Optimizer
    mesh : Mesh
        The first rank of each data-parallel group writes, and of a fully sharded model every rank.
    meta : dict
        Anything that JSON can hold, such as the state of random generators; rank 0's is kept.
    keep : int
        How many checkpoints stay, this one included.
    """
    final = folder / f"step-{optimizer.steps:06d}"
    building = temporary(final)
    sharded = isinstance(model, FullySharded)
    first = mesh.dp.rank == mesh.tp.rank == 0
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob("step-*.tmp"):
            shutil.rmtree(unfinished)
        building.mkdir()
    mesh.tp.barrier()
    if sharded:
        mesh.dp.barrier()
    if sharded or mesh.dp.rank == 0:
        shard = building / shard_name(mesh.dp.rank * mesh.tp.size + mesh.tp.rank)
        write_shard(shard, _arrays(model.parameters(), optimizer.state()))
        own = np.frombuffer(bytes.fromhex(digest(shard)), np.uint8)
        rows = mesh.tp.all_gather(own[np.newaxis])
        if sharded:
            rows = mesh.dp.all_gather(rows)
        if first:
            digests = [row.tobytes().hex() for row in rows]
            config = model.config.to_dict() if isinstance(model, LanguageModel | FullySharded) else None
            write_manifest(building, digests, step=optimizer.steps, config=config, meta=meta)
            put(building, final)
            _keep_until(final, keep)
        mesh.tp.barrier()
    mesh.dp.barrier()


def _arrays(
    parameters: Mapping[str, Parameter], states: States
) -> dict[str, Iterator[tuple[str, Parameter, Array]]]:
    """Return what `write_shard` takes."""
    kinds = {PARAMETERS: {name: parameter.data for name, parameter in parameters.items()}, **states}
    return {
        kind: ((name, parameters[name], local) for name, local in of_kind.items())
        for kind, of_kind in kinds.items()
    }


def temporary(path: Path) -> Path:
    """Return the name that a checkpoint has until it is whole, and again while it is removed."""
    return path.with_name(path.name + ".tmp")


def put(building: Path, final: Path) -> None:
    """Give a finished checkpoint its name. One of that name stays until then, under ".old"."""
    aside = final.with_name(final.name + ".old")
    if final.exists():
        if aside.exists():
            _discard(aside)
        os.replace(final, aside)
    os.replace(building, final)
    sync(final.parent)
    if aside.exists():
        _discard(aside)


def _keep_until(last: Path, keep: int) -> None:
    """Keep so many checkpoints of a run, of which `last` is the last."""
    found = checkpoints(last.parent)
    at = found.index(last)
    for other in found[:at] + found[at + keep :]:
        _discard(other)


def _discard(checkpoint: Path) -> None:
    """Remove a checkpoint, which at no moment looks like one of which some files are missing."""
    gone = temporary(checkpoint)
    os.replace(checkpoint, gone)
    shutil.rmtree(gone)


# --- loading ------------------------------------------------------------------------------------------------


def checkpoints(folder: Path) -> list[Path]:
    """Return the finished checkpoints of a run, the newest first."""
    found = [(match, path) for path in folder.glob("step-*") if (match := _STEP.fullmatch(path.name))]
    return [path for match, path in sorted(found, key=lambda one: (-int(one[0][1]), one[1].name))]


def latest(folder: Path) -> Path:
    """Return the newest checkpoint of a run; a checkpoint itself is returned as it is.

    Raises
    ------
    ValueError
        If there is none.
    """
    if _STEP.fullmatch(folder.name) and not checkpoints(folder):
        return folder
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; pass one where tpsim saved checkpoints")
    found = checkpoints(folder)
    if not found:
        raise ValueError(
            f"{folder}: holds no finished checkpoint, step-…; pass a folder where tpsim saved one"
        )
    return found[0]


def load(folder: Path, model: Layer, optimizer: Optimizer, mesh: Mesh) -> dict[str, Any]:
    """Fill a model and an optimizer from a checkpoint; all ranks of the mesh call it. Returns its meta.

    The ranks may be as many as they like, and read their own slices only. Between them they read every
    file once more, for its checksum.

    Parameters
    ----------
    folder : Path
        Of a run, for its newest checkpoint, or of one checkpoint.
    model : Layer
    optimizer : Optimizer
        Its `steps` are set, too.
    mesh : Mesh

    Raises
    ------
    ValueError
        On every rank, if any found the checkpoint damaged, or another model's; nothing is changed then.
    """
    rank, ranks = mesh.dp.rank * mesh.tp.size + mesh.tp.rank, mesh.dp.size * mesh.tp.size

    def read() -> tuple[dict[str, Any], dict[str, Array], States]:
        checkpoint = latest(folder)
        manifest = read_manifest(checkpoint)
        dealt = list(manifest["files"].items())[rank::ranks]
        check_digests(checkpoint, dict(dealt))
        shards = Shards(checkpoint, list(manifest["files"]))
        parameters = model.parameters()
        with said_of(checkpoint):
            _check_config(model, manifest["config"])
            check_names(parameters, shards.names())
            data = taken_by(parameters, shards.of(PARAMETERS), same_dtype=True)
            states = {kind: taken_by(parameters, shards.of(kind)) for kind in shards.kinds}
            _check_kinds(optimizer.state(), states)
        return manifest, data, states

    manifest, data, states = _agreed(read, mesh)
    for name, parameter in model.parameters().items():
        parameter.data = data[name]
    optimizer.load_state(states)
    optimizer.steps = manifest["step"]
    meta: dict[str, Any] = manifest["meta"]
    return meta


def _agreed(work: Callable[[], Result], mesh: Mesh) -> Result:
    """Return what `work` returns; if it fails on a rank, all ranks raise what the first of these says."""
    result: Result | None = None
    message = b""
    try:
        result = work()
    except (ValueError, OSError) as error:
        message = str(error).encode()[:_MESSAGE_BYTES]
    row = np.zeros((1, _MESSAGE_BYTES), np.uint8)
    row[0, : len(message)] = np.frombuffer(message, np.uint8)
    for said in mesh.dp.all_gather(mesh.tp.all_gather(row)):
        if said.any():
            raise ValueError(said.tobytes().rstrip(b"\0").decode(errors="ignore"))
    assert result is not None
    return result


def taken_by(
    parameters: Mapping[str, Parameter], whole: Mapping[str, Tiled], *, same_dtype: bool = False
) -> dict[str, Array]:
    """Return this rank's slice of each tensor."""
    taken = {}
    for name, tensor in whole.items():
        parameter = parameters[name]
        if tensor.shape != parameter.whole_shape:
            raise ValueError(
                f"{name} has shape {tensor.shape}, and the model's {parameter.whole_shape}; build the model "
                "that was saved"
            )
        if same_dtype and tensor.dtype != parameter.data.dtype:
            raise ValueError(
                f"{name} is {tensor.dtype}, and the model's {parameter.data.dtype}; build the model with "
                f'dtype="{tensor.dtype}"'
            )
        unread: Any = tensor
        taken[name] = parameter.take(unread)
    return taken


def _check_config(model: Layer, saved: dict[str, Any] | None) -> None:
    if not isinstance(model, LanguageModel | FullySharded) or saved is None:
        return
    own = model.config.to_dict()
    differs = [
        name for name in own if name not in ("name", "scaled_residuals") and own[name] != saved.get(name)
    ]
    if differs:
        what = ", ".join(f"{name} {saved.get(name)} (here {own[name]})" for name in differs)
        raise ValueError(f"another model's checkpoint, with {what}; build the model that was saved")


def check_names(parameters: Mapping[str, Parameter], saved: set[str]) -> None:
    """Raise ValueError unless a checkpoint holds a model's parameters and no others."""
    missing, superfluous = parameters.keys() - saved, saved - parameters.keys()
    if missing or superfluous:
        raise ValueError(
            f"another model's checkpoint, without {sorted(missing)} and with {sorted(superfluous)}; build "
            "the model that was saved"
        )


def _check_kinds(own: States, saved: States) -> None:
    if own.keys() != saved.keys():
        raise ValueError(
            f"holds the optimizer's {sorted(saved)}, and this optimizer keeps {sorted(own)}; take the "
            "optimizer that was saved"
        )
