"""Going on from a checkpoint: what a run takes from it, and what it may change.

What decides a run's numbers can't be changed: with another seed or batch it would be another run, and its
losses nobody's. The ranks can (the numbers are the same but for rounding), and so can, on purpose, `steps`
and `lr`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from tpsim.train.checkpoint import checkpoints, latest
from tpsim.train.config import TrainConfig
from tpsim.train.data import Corpus
from tpsim.train.shards import read_manifest

COURSE = ("model", "seed", "batch", "seq", "dropout", "dtype", "weight_decay", "max_norm")
"""What can't be changed; the text, by its content, neither."""

_OF_ONE_START = {"out", "resume", "stop_after"}
"""What each start says anew."""


class ResumeError(ValueError):
    """A checkpoint can't be gone on from; every rank raises it."""


def saved_settings(folder: str | Path) -> dict[str, Any]:
    """Return the fields of the `TrainConfig` that a checkpoint was saved with.

    Raises
    ------
    ValueError
        If there is no checkpoint, or it is no training run's.
    """
    checkpoint = latest(Path(folder))
    meta: dict[str, Any] = read_manifest(checkpoint)["meta"]
    if not set(COURSE) <= set(meta):
        raise ValueError(
            f"{checkpoint}: does not say how it was trained, so its run can't go on; pass one that "
            "tpsim train saved"
        )
    names = {field.name for field in fields(TrainConfig)} - _OF_ONE_START
    return {name: meta[name] for name in names & set(meta)}


def resumed(folder: str | Path, **given: Any) -> TrainConfig:
    """Return the run that goes on: as it was saved, but for what is given.

    Parameters
    ----------
    folder : path
        A run's, for its newest checkpoint, or a checkpoint's.
    **given
        Fields of `TrainConfig`. Without `out`, a run's folder is written on; beside a single checkpoint
        lie perhaps later ones, which would be replaced, so that nothing is written then.

    Raises
    ------
    ValueError
        If the checkpoint won't do, or something given would make it another run.
    """
    saved = saved_settings(folder)
    refuse_another_course(folder, saved, given)
    text = saved["text"]
    if text is not None and "text" not in given and not Path(text).is_file():
        raise ValueError(
            f"resume {folder}: its text {text} is not there any more; pass --text with where it is now"
        )
    out = str(folder) if checkpoints(Path(folder)) else None
    return TrainConfig(**{"out": out, **saved, **given, "resume": str(folder)})


def check_course(config: TrainConfig, corpus: Corpus, meta: Mapping[str, Any]) -> None:
    """Raise ValueError if a run that goes on is not the one that was saved, with this `meta`."""
    refuse_another_course(config.resume, meta, asdict(config))
    digest = text_digest(corpus)
    saved = meta.get("text_sha256", digest)
    if digest != saved:
        raise ValueError(
            f"resume {config.resume}: text {corpus.name} with checksum {digest[:8]}… was asked for, and the "
            f"run was saved with {meta['text'] or 'the default text'}, {saved[:8]}…; pass the same text, or "
            "start a new run without resume"
        )


def refuse_another_course(folder: Any, saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise ValueError if a value that was given is not the one that was saved, and would have to be."""
    for name in COURSE:
        if name in given and name in saved and given[name] != saved[name]:
            raise ValueError(
                f"resume {folder}: {name} {given[name]} was asked for, and the run was saved with "
                f"{saved[name]}, so it would be another run; leave {name} out, or start a new run without "
                "resume"
            )


def text_digest(corpus: Corpus) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(corpus.train.tobytes() + corpus.held_out.tobytes()).hexdigest()
