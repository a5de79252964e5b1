"""`tpsim train`: a small GPT or Llama learns text, on ranks that cut it or copy it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tpsim.cli.usage import UsageError, usage_errors

if TYPE_CHECKING:
    from tpsim.train import Corpus, Metrics, TrainConfig


def train(
    model: Annotated[str, typer.Option(help="tiny-gpt, tiny-llama, or a larger one's name.")] = "tiny-gpt",
    ranks: Annotated[int | None, typer.Option(help="How many: tp × dp (4, or mpiexec's number).")] = None,
    tp: Annotated[int | None, typer.Option(help="Ranks that cut the model (those that dp leaves).")] = None,
    dp: Annotated[int | None, typer.Option(help="Copies of it, each with a part of the batch.")] = None,
    sp: Annotated[bool, typer.Option("--sp", help="Sequence parallelism too.")] = False,
    text: Annotated[str | None, typer.Option(help="A UTF-8 file (CPython's language reference).")] = None,
    steps: Annotated[int, typer.Option(help="In all, with those of a resumed run.")] = 800,
    batch: Annotated[int, typer.Option(help="Sequences a step, over all ranks.")] = 16,
    seq: Annotated[int, typer.Option(help="Bytes a sequence.")] = 128,
    microbatches: Annotated[int, typer.Option(help="Run a rank's sequences in so many parts.")] = 1,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-3,
    dropout: Annotated[float, typer.Option(help="Rate of dropping.")] = 0.0,
    recompute: Annotated[str, typer.Option(help="none, selective or full.")] = "none",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    seed: Annotated[int, typer.Option(help="Of weights, windows and dropout.")] = 0,
    schedule: Annotated[
        str, typer.Option(help="Virtual ranks run at once (free) or take turns (lockstep).")
    ] = "free",
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics.jsonl, loss.png and checkpoints.")
    ] = None,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints, with --out.")] = 100,
    stop_after: Annotated[
        int | None, typer.Option(help="Stop at this step of --steps, to --resume later.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on from what --out DIR saved.")] = None,
) -> None:
    """Train a small language model, the same at every number of ranks.

    Prints the loss on held-out text beside a byte bigram's. Also: mpiexec -n 4 tpsim train --tp 4
    """
    from tpsim.comm import launch, mpi

    with usage_errors():
        count, tp, dp = _mesh(ranks, tp, dp)
        if schedule not in ("lockstep", "free"):
            raise ValueError(f"schedule {schedule!r} is not known; pick lockstep or free")
        from tpsim.train import TrainConfig, read

        config = TrainConfig(
            model=model,
            tp=tp,
            dp=dp,
            sequence_parallel=sp,
            text=text,
            steps=steps,
            batch=batch,
            seq=seq,
            microbatches=microbatches,
            lr=lr,
            dropout=dropout,
            recompute=recompute,  # type: ignore[arg-type]  # which TrainConfig checks
            dtype=dtype,
            seed=seed,
            save_every=save_every,
            stop_after=stop_after,
            out=None if out is None else str(out),
            resume=None if resume is None else str(resume),
        )
        corpus = read(text, seq)
        _check_folders(out, resume)
    shown = _Progress(config, quiet=mpi.rank_of_job() != 0)
    began = time.perf_counter()
    with shown:
        metrics = launch(_on_rank, count, config, corpus, shown.tell, schedule=schedule)[0]  # type: ignore[arg-type]
    if isinstance(metrics, UsageError):
        raise metrics
    if mpi.rank_of_job() != 0:
        return
    if not metrics:  # on rank 0; others end as silently
        raise UsageError(f"{resume} has taken {steps} steps or more already; pick more --steps")
    _conclude(corpus, metrics, time.perf_counter() - began, out)


def _on_rank(comm: Any, *what: Any) -> list[Metrics] | UsageError:
    """Train; a checkpoint that won't do is no accident that should end an MPI job with a traceback."""
    from tpsim.train import ResumeError
    from tpsim.train import train as on_rank

    try:
        return on_rank(comm, *what)
    except ResumeError as error:
        return UsageError(str(error))


def _mesh(ranks: int | None, tp: int | None, dp: int | None) -> tuple[int, int, int]:
    """Return ranks, tp and dp; those that are not given follow from the others."""
    from tpsim.comm import mpi

    for name, value in (("ranks", ranks), ("tp", tp), ("dp", dp)):
        if value is not None and value < 1:
            raise ValueError(f"{name} {value} is too few; pick 1 or more")
    started = mpi.world().size if mpi.under_mpiexec() else None
    if started and ranks not in (None, started):
        raise ValueError(f"mpiexec started {started} ranks and --ranks says {ranks}; leave --ranks out")
    copies = dp or 1
    count = started or ranks or (tp or max(1, 4 // copies)) * copies
    tp = tp or max(1, count // copies)
    dp = dp or max(1, count // tp)
    if tp * dp != count:
        raise ValueError(f"tp {tp} × dp {dp} is not {count} ranks; pick two whose product it is")
    return count, tp, dp


def _check_folders(out: Path | None, resume: Path | None) -> None:
    if resume is not None and not resume.is_dir():
        raise ValueError(f"resume {resume} is no folder; pass the --out of an earlier run")
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"out {out} can't be written to ({error.strerror}); pass a folder that can"
            ) from None


class _Progress:
    """A bar on a terminal; a line for each look at held-out text elsewhere."""

    def __init__(self, config: TrainConfig, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(quiet=quiet)
        columns = (
            BarColumn(10),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        hidden = quiet or not self._console.is_terminal
        self._bar = Progress(*columns, console=self._console, disable=hidden, transient=True)
        self._task = self._bar.add_task("", total=config.steps)
        sp = " with sequence parallelism" if config.sequence_parallel else ""
        self._console.print(f"{config.model} on tp {config.tp} × dp {config.dp}{sp}, {config.dtype}")

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *error: Any) -> None:
        self._bar.stop()

    def tell(self, metrics: Metrics) -> None:
        speed = (
            f"{metrics.tokens_per_second:,.0f} tokens/s, {metrics.in_collectives:.0%} in collectives, "
            f"{metrics.of_peak:.0%} of GEMM peak"
        )
        short = (
            f"loss {metrics.loss:.3f}, {metrics.tokens_per_second:,.0f} tokens/s, "
            f"{metrics.in_collectives:.0%} comm, {metrics.of_peak:.0%} peak"
        )
        self._bar.update(self._task, completed=metrics.step, description=short)
        if metrics.held_out is not None:
            self._console.print(
                f"step {metrics.step:5}: loss {metrics.loss:.4f}, held out {metrics.held_out:.4f}, {speed}",
                highlight=False,
                soft_wrap=True,
            )


def _conclude(corpus: Corpus, metrics: list[Metrics], seconds: float, out: Path | None) -> None:
    from rich.console import Console

    console = Console()
    bigram, held_out = corpus.bigram_loss(), metrics[-1].held_out
    console.print(
        f"held-out loss {held_out:.4f} nats a byte after {metrics[-1].step} steps in {seconds:.0f} s; "
        f"a byte bigram has {bigram:.4f} ({corpus.name}, {len(corpus.held_out):,} bytes held out)",
        highlight=False,
        soft_wrap=True,
    )
    if out is None:
        return
    from tpsim import plots

    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    plots.loss(lines, bigram).savefig(out / "loss.png")
    for name in ("metrics.jsonl", "loss.png"):
        console.print(f"written: {out / name}", soft_wrap=True)
