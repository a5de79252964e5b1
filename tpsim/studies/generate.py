"""Text from a checkpoint, on ranks that share its layers; what `tpsim generate` runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpsim.comm import Group
from tpsim.infer import Emitted, Engine, KVCache, Request, Sampler, Sampling
from tpsim.infer.sampling import Way
from tpsim.models import LanguageModel, ModelConfig, from_dict, hub
from tpsim.models.lazy import Blank, said_of
from tpsim.trace import Trace
from tpsim.train.checkpoint import check_names, latest, taken_by
from tpsim.train.shards import PARAMETERS, Shards, check_digests, read_manifest

# --- checkpoints --------------------------------------------------------------------------------------------


def checkpoint_config(folder: Path) -> ModelConfig:
    """Return the dimensions of the model in a checkpoint of `tpsim train` or in a folder of Hugging Face's.

    Raises
    ------
    ValueError
        If there is neither.
    """
    if _is_hub(folder):
        return hub.config_of(folder)
    checkpoint = latest(folder)
    saved = read_manifest(checkpoint)["config"]
    if saved is None:
        raise ValueError(
            f"{checkpoint}: has no configuration of a language model; pass what tpsim train saved"
        )
    return from_dict(saved)


def read_checkpoint(folder: Path, group: Group, dtype: str = "float32") -> LanguageModel:
    """Return the model in a checkpoint, on this rank's shards.

    Parameters
    ----------
    folder : Path
        Of `tpsim train --out`, of one of its checkpoints, or in the layout of Hugging Face.
    group : Group
        Ranks that share the layers; any number that can, whichever saved it.
    dtype : str
        Of weights and activations, whatever the files have.

    Raises
    ------
    ValueError
        If the checkpoint is damaged, or another's.
    """
    if _is_hub(folder):
        return hub.read(folder, group, dtype=dtype)
    checkpoint = latest(folder)
    manifest = read_manifest(checkpoint)
    check_digests(checkpoint, manifest["files"])  # by every rank, so that all refuse it, or none
    model = LanguageModel(checkpoint_config(checkpoint), group, rng=Blank(), dtype=dtype)
    shards, parameters = Shards(checkpoint, list(manifest["files"])), model.parameters()
    with said_of(checkpoint):
        check_names(parameters, shards.names())
        for name, data in taken_by(parameters, shards.of(PARAMETERS)).items():
            parameters[name].data = data.astype(dtype)
    return model


def checkpoint_stops(folder: Path) -> tuple[int, ...]:
    """Return the tokens that end a text, if the checkpoint says which: eos_token_id of Hugging Face's."""
    if not _is_hub(folder):
        return ()
    said = json.loads((folder / hub.CONFIG).read_text(encoding="utf-8")).get("eos_token_id")
    stops = said if isinstance(said, list) else [said]
    return tuple(stop for stop in stops if isinstance(stop, int))


def _is_hub(folder: Path) -> bool:
    return (folder / hub.CONFIG).is_file()


# --- text ---------------------------------------------------------------------------------------------------


GREEDY = Sampling()


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """What to generate.

    Parameters
    ----------
    checkpoint : str
        As for `read_checkpoint`.
    prompt : tuple of int
        Tokens.
    new : int
        How many more there shall be.
    sampling : Sampling
    way : {"sharded", "gathered"}
        How words are chosen from logits that ranks share.
    stops : tuple of int
        Tokens that end the text.
    chunk : int, optional
        Tokens of the prompt that go in at a time.
    window : int, optional
        A position sees only the last so many.
    dtype, cache_dtype : str
        Of weights and activations, and of what the cache keeps (by default the same).
    """

    checkpoint: str
    prompt: tuple[int, ...]
    new: int
    sampling: Sampling = GREEDY
    way: Way = "sharded"
    stops: tuple[int, ...] = ()
    chunk: int | None = None
    window: int | None = None
    dtype: str = "float32"
    cache_dtype: str | None = None


@dataclass(frozen=True)
class Generated:
    """A text, and what one rank did for it.

    Attributes
    ----------
    tokens : list of int
        The new ones.
    first, rest : float
        Seconds to the first of them, and for all others.
    cache_bytes : int
        Of the rank's KV cache.
    sent, sent_by_sampling : int
        Bytes that the rank sent for all tokens but the first, and of these for choosing words.
    collectives : int
        Calls in that time.
    """

    tokens: list[int]
    first: float
    rest: float
    cache_bytes: int
    sent: int
    sent_by_sampling: int
    collectives: int

    @property
    def tokens_per_second(self) -> float | None:
        """Of decoding; None where there was nothing to decode."""
        return (len(self.tokens) - 1) / self.rest if len(self.tokens) > 1 else None


def generate(comm: Any, config: GenerateConfig, tell: Callable[[int], None] | None = None) -> Generated:
    """Generate on one rank of `comm`; the first one tells each token as it comes.

    Parameters
    ----------
    comm : VirtualComm or mpi4py.MPI.Comm
    config : GenerateConfig
    tell : callable, optional
        Called with every new token, on the first rank.
    """
    group = Group(comm)
    model = read_checkpoint(Path(config.checkpoint), group, config.dtype)
    request = Request(0, config.prompt, config.new, config.stops)
    cache = KVCache(model, 1, request.length, window=config.window, dtype=config.cache_dtype)
    engine = Engine(
        model, Sampler(model.config.vocab, group, config.sampling, config.way), cache, config.chunk
    )
    engine.scheduler.add(request)

    def said(emitted: list[Emitted]) -> list[int]:
        for one in emitted:
            if tell is not None and group.rank == 0:
                tell(one.token)
        return [one.token for one in emitted]

    began = time.perf_counter()
    tokens: list[int] = []
    while not tokens:
        tokens = said(engine.step())
    first = time.perf_counter() - began
    with Trace() as trace:
        while not engine.scheduler.idle:
            tokens += said(engine.step())
    rest = time.perf_counter() - began - first
    events = [event for event in trace.collectives if event.ranks > 1]
    return Generated(
        tokens,
        first,
        rest,
        cache.nbytes,
        sum(event.bytes_sent for event in events),
        sum(event.bytes_sent for event in events if event.layer == "sampling"),
        len(events),
    )
