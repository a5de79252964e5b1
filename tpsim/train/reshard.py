"""Cutting a checkpoint anew, for another number of ranks, without running any."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tpsim.models import LanguageModel, from_dict
from tpsim.models.lazy import Blank, said_of
from tpsim.train.checkpoint import check_names, latest, put, taken_by, temporary
from tpsim.train.shards import (
    PARAMETERS,
    Shards,
    check_digests,
    digest,
    read_manifest,
    shard_name,
    write_manifest,
    write_shard,
)


class _Seat:
    """A rank of a group that never meets: enough for a layer to know its slices."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def neighbours(self, count: int) -> _Seat:
        return _Seat(self.rank % count, count)


def reshard(source: Path, target: Path, tp: int) -> Path:
    """Write a checkpoint anew, cut for `tp` ranks, with one rank's shard in memory at a time.

    Parameters
    ----------
    source : Path
        A checkpoint, or a run's folder for its newest.
    target : Path
        The folder to hold the new one.
    tp : int

    Returns
    -------
    Path
        The new checkpoint.

    Raises
    ------
    ValueError
        If the checkpoint is damaged, or its model can't be cut so.
    """
    if tp < 1:
        raise ValueError(f"reshard: {tp} ranks are none; pick 1 or more")
    checkpoint = latest(source)
    manifest = read_manifest(checkpoint)
    check_digests(checkpoint, manifest["files"])
    shards = Shards(checkpoint, list(manifest["files"]))
    final = target / checkpoint.name.removesuffix(".old")
    if final.exists():
        raise ValueError(f"reshard: {final} is there already; pick another folder, or remove it")
    if manifest["config"] is None:
        raise ValueError(
            f"{checkpoint}: has no configuration of a language model, so it can't be cut anew; "
            "load it on the ranks you want, and save it there"
        )
    config = from_dict(manifest["config"])
    building = temporary(final)
    shutil.rmtree(building, ignore_errors=True)
    digests = []
    for rank in range(tp):
        seat: Any = _Seat(rank, tp)
        parameters = LanguageModel(config, seat, rng=Blank()).parameters()
        building.mkdir(parents=True, exist_ok=True)
        with said_of(checkpoint):
            check_names(parameters, shards.names())
            kinds = {kind: taken_by(parameters, shards.of(kind)) for kind in (PARAMETERS, *shards.kinds)}
        shard = building / shard_name(rank)
        write_shard(
            shard,
            {
                kind: ((name, parameters[name], local) for name, local in of_kind.items())
                for kind, of_kind in kinds.items()
            },
        )
        digests.append(digest(shard))
    meta = manifest["meta"] | ({"tp": tp} if "tp" in manifest["meta"] else {})
    write_manifest(building, digests, step=manifest["step"], config=manifest["config"], meta=meta)
    put(building, final)
    return final
