"""The files of a checkpoint: one a tensor-parallel rank, and a manifest that says what belongs together.

A shard holds the pieces that its rank owns, each with its place in the whole tensor, so that ranks cut in
any other way find theirs in the blocks that overlap with their own places.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tpsim.models.lazy import TensorFile, Tiled, box
from tpsim.nn.parameter import Parameter

Array = NDArray[Any]
States = dict[str, dict[str, Array]]
"""An optimizer's memory: kind ("m", "v"), parameter name, this rank's array."""

PARAMETERS = "parameter"
MANIFEST = "manifest.json"
FORMAT = "tpsim checkpoint 1"


def shard_name(rank: int) -> str:
    """Return the name of a rank's file."""
    return f"rank-{rank:05d}.safetensors"


def write_shard(path: Path, arrays: Mapping[str, Iterator[tuple[str, Parameter, Array]]]) -> None:
    """Write the pieces that this rank owns, through to the disk.

    Parameters
    ----------
    path : Path
    arrays : mapping
        Of each kind, every parameter with its name and a local array.
    """
    tensors, places = {}, {}
    for kind, of_kind in arrays.items():
        for name, parameter, local in of_kind:
            for number, (where, part) in enumerate(parameter.placed(local)):
                replicas = parameter.pieces[number].replicas
                if part.size == 0 or (replicas is not None and replicas.rank != 0):
                    continue
                key = f"{kind}:{name}:{number}"
                tensors[key] = np.ascontiguousarray(part)
                shape = parameter.whole_shape
                places[key] = {"kind": kind, "name": name, "shape": shape, "place": box(where, shape)}
    save_file(tensors, path, metadata={"places": json.dumps(places)})
    sync(path)


class Shards:
    """All tensors of a checkpoint, unread: by kind and name, wherever their pieces lie."""

    def __init__(self, folder: Path, files: Iterable[str]) -> None:
        tiles: dict[tuple[str, str], list[Any]] = {}
        shapes: dict[tuple[str, str], tuple[int, ...]] = {}
        for file in files:
            shard = TensorFile(folder / file)
            try:
                places = json.loads(shard.metadata["places"])
                for key, one in places.items():
                    tensor = one["kind"], one["name"]
                    shapes[tensor] = tuple(one["shape"])
                    place = tuple((start, stop) for start, stop in one["place"])
                    tiles.setdefault(tensor, []).append((place, shard.tensor(key)))
            except (KeyError, TypeError, ValueError):
                raise ValueError(
                    f"{shard.path}: does not say which tensors its pieces belong to; take a file that tpsim "
                    "saved"
                ) from None
        self.kinds = sorted({kind for kind, _ in tiles} - {PARAMETERS})
        self._tensors = {
            (kind, name): Tiled(shapes[kind, name], own[0][1].dtype, own, f"{folder}: {kind} {name!r}")
            for (kind, name), own in tiles.items()
        }

    def names(self) -> set[str]:
        """Return the names of the parameters."""
        return {name for kind, name in self._tensors if kind == PARAMETERS}

    def of(self, kind: str) -> dict[str, Tiled]:
        """Return the whole tensors of a kind by parameter name."""
        return {name: tensor for (own, name), tensor in self._tensors.items() if own == kind}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- the manifest -------------------------------------------------------------------------------------------


def write_manifest(folder: Path, digests: list[str], **values: Any) -> None:
    """Write the manifest, the last of a checkpoint's files."""
    files = {
        shard_name(rank): {"bytes": (folder / shard_name(rank)).stat().st_size, "sha256": one}
        for rank, one in enumerate(digests)
    }
    manifest = {"format": FORMAT, **values, "files": files}
    text = json.dumps({**manifest, "sha256": _stamp(manifest)}, indent=2)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    sync(folder / MANIFEST)
    sync(folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint whose files are all there, and as long as they were.

    Raises
    ------
    ValueError
        If it is none.
    """
    path = folder / MANIFEST
    try:
        manifest: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(
            f"{folder}: no checkpoint, for it has no {MANIFEST}; pass a folder that tpsim saved, step-…"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); copy it again, or take an older checkpoint") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path}: not the manifest of a {FORMAT}; pass a folder that this tpsim saved")
    if manifest.pop("sha256", None) != _stamp(manifest):
        raise ValueError(
            f"{path}: its own checksum does not fit, so it has changed since it was saved; copy it again, or "
            "take an older checkpoint"
        )
    for name, file in manifest["files"].items():
        shard = folder / name
        if not shard.is_file():
            raise ValueError(
                f"{shard}: missing, and the manifest lists it; copy it, or take another checkpoint"
            )
        if shard.stat().st_size != file["bytes"]:
            raise ValueError(
                f"{shard}: {shard.stat().st_size} bytes, and {file['bytes']} were saved, so it is cut short "
                "or another file; copy it again, or take an older checkpoint"
            )
    return manifest


def _stamp(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 of what a manifest says."""
    return hashlib.sha256(json.dumps(manifest).encode()).hexdigest()


def check_digests(folder: Path, files: Mapping[str, Any]) -> None:
    """Raise ValueError if a file's content is not what was saved."""
    for name, file in files.items():
        if digest(folder / name) != file["sha256"]:
            raise ValueError(
                f"{folder / name}: its checksum is not the manifest's, so bytes have changed since it was "
                "saved; copy it again, or take an older checkpoint"
            )
