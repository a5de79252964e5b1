"""`tpsim generate`: a checkpoint goes on with a text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tpsim.cli.usage import UsageError, usage_errors

if TYPE_CHECKING:
    from tpsim.infer.text import Tokenizer
    from tpsim.studies.generate import GenerateConfig, Generated


def generate(
    checkpoint: Annotated[
        Path, typer.Option(help="The --out of tpsim train, or a folder of Hugging Face's (GPT-2, Llama).")
    ],
    prompt: Annotated[str, typer.Option(help="The text to go on with.")],
    ranks: Annotated[
        int | None, typer.Option(help="How many share the layers (1, or mpiexec's number).")
    ] = None,
    new: Annotated[int | None, typer.Option(help="Tokens to generate (200, or as many as fit).")] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest word.")] = 0.0,
    top_k: Annotated[int | None, typer.Option(help="Choose among the k likeliest words.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Among the likeliest with this probability.")] = None,
    seed: Annotated[int, typer.Option(help="Of the choice.")] = 0,
    stop: Annotated[
        int | None, typer.Option(help="The token that ends a text (the checkpoint's own; -1: none).")
    ] = None,
    gathered: Annotated[
        bool, typer.Option("--gathered", help="Gather all logits to choose from, to see what that sends.")
    ] = False,
    chunk: Annotated[int | None, typer.Option(help="Tokens of the prompt at a time.")] = None,
    window: Annotated[int | None, typer.Option(help="Attend to the last so many positions only.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.")] = "float32",
    cache_dtype: Annotated[str | None, typer.Option(help="Of keys and values (as --dtype).")] = None,
    as_bytes: Annotated[
        bool, typer.Option("--bytes", help="Bytes are tokens, even if there is a tokenizer.json.")
    ] = False,
) -> None:
    """Generate text, the same at every number of ranks.

    Words come as they are chosen. Also: mpiexec -n 4 tpsim generate …
    """
    from tpsim.comm import launch, mpi

    with usage_errors():
        from tpsim.infer import Sampling
        from tpsim.infer.text import tokenizer_of
        from tpsim.studies.generate import GenerateConfig, checkpoint_config, checkpoint_stops

        model = checkpoint_config(checkpoint)
        tokenizer = tokenizer_of(checkpoint, model.vocab, as_bytes=as_bytes)
        tokens = tuple(tokenizer.encode(prompt))
        config = GenerateConfig(
            checkpoint=str(checkpoint),
            prompt=tokens,
            new=_new(new, len(tokens), model.max_seq),
            sampling=Sampling(temperature, top_k, top_p, seed),
            way="gathered" if gathered else "sharded",
            stops=checkpoint_stops(checkpoint) if stop is None else (stop,),
            chunk=chunk,
            window=window,
            dtype=_dtype("dtype", dtype),
            cache_dtype=None if cache_dtype is None else _dtype("cache-dtype", cache_dtype),
        )
        count = mpi.world().size if mpi.under_mpiexec() and ranks is None else ranks or 1
    shown = _Terminal(tokenizer, prompt)
    generated = launch(_on_rank, count, config, shown.tell, schedule="free")[0]
    if isinstance(generated, UsageError):
        raise generated
    if mpi.rank_of_job() == 0:
        shown.conclude(generated, count)


def _on_rank(comm: Any, config: GenerateConfig, tell: Any) -> Generated | UsageError:
    """Generate; what is wrong with a checkpoint is no accident that should end a job with a traceback."""
    from tpsim.studies import generate as study

    try:
        return study.generate(comm, config, tell)
    except ValueError as error:
        return UsageError(str(error))


def _new(new: int | None, prompt: int, longest: int) -> int:
    room = longest - prompt + 1
    if prompt < 1:
        raise ValueError("the prompt is empty; give a text to go on with")
    wanted = min(200, room) if new is None else new
    if not 1 <= wanted <= room:
        raise ValueError(
            f"a prompt of {prompt} tokens and {wanted} new ones are not 1 to {longest} positions, which is "
            f"what the model takes; shorten the prompt, or pick another --new (up to {room})"
        )
    return wanted


def _dtype(option: str, name: str) -> str:
    known = ("float32", "float64", "bfloat16", "float16")
    if name not in known:
        raise ValueError(f"{option} {name!r} is not known; pick one of {', '.join(known)}")
    return name


class _Terminal:
    """Text as it comes, on stdout; how fast it came, on stderr."""

    def __init__(self, tokenizer: Tokenizer, prompt: str) -> None:
        self._stream = tokenizer.stream()
        self._prompt = prompt

    def tell(self, token: int) -> None:
        """Write what a token adds; before the first one, the prompt."""
        self._write(self._prompt + self._stream.text(token))
        self._prompt = ""

    def conclude(self, generated: Generated, ranks: int) -> None:
        """End the text, and say what it took."""
        self._write(self._stream.rest() + "\n")
        count, rate = len(generated.tokens), generated.tokens_per_second
        said = [f"{count} tokens on {ranks} rank{'s' * (ranks > 1)}, the first after {generated.first:.2f} s"]
        if rate is not None:
            said.append(f"then {rate:,.1f} a second")
        said.append(f"a KV cache of {generated.cache_bytes:,} bytes a rank")
        if ranks > 1 and count > 1:
            per = count - 1
            said.append(
                f"{generated.collectives / per:,.0f} collectives a token, {generated.sent / per:,.0f} bytes "
                f"sent by a rank, {generated.sent_by_sampling / per:,.0f} of them to choose a word"
            )
        print("; ".join(said), file=sys.stderr)

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
