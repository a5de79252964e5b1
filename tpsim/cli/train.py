"""`tpsim train`: a small GPT or Llama learns text, on ranks that cut it or copy it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tpsim.cli.faults import (
    FaultOption,
    TimeoutOption,
    failures_told,
    faults_of,
    refuse_endless,
    tell_missed,
)
from tpsim.cli.trace_file import check_trace_file
from tpsim.cli.usage import UsageError, usage_errors

if TYPE_CHECKING:
    from tpsim.comm.faults import Fault
    from tpsim.trace.profile import Profile
    from tpsim.train import Corpus, Metrics, TrainConfig


_CHECKS = {"none": False, "calls": None, "data": "data"}  # calls: unless the environment says otherwise


def train(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="tiny-gpt, tiny-llama, or a larger one's name.")] = "tiny-gpt",
    ranks: Annotated[int | None, typer.Option(help="How many: tp × dp (4, or mpiexec's number).")] = None,
    tp: Annotated[int | None, typer.Option(help="Ranks that cut the model (those that dp leaves).")] = None,
    dp: Annotated[int | None, typer.Option(help="Copies of it, each with a part of the batch.")] = None,
    sp: Annotated[bool, typer.Option("--sp/--no-sp", help="Sequence parallelism too.")] = False,
    fsdp: Annotated[
        bool, typer.Option("--fsdp/--no-fsdp", help="The dp ranks keep shards, not copies.")
    ] = False,
    text: Annotated[str | None, typer.Option(help="A UTF-8 file (CPython's language reference).")] = None,
    steps: Annotated[
        int, typer.Option(help="In all; may change with --resume, which moves the learning rate.")
    ] = 800,
    batch: Annotated[int, typer.Option(help="Sequences a step, over all ranks.")] = 16,
    seq: Annotated[int, typer.Option(help="Bytes a sequence.")] = 128,
    microbatches: Annotated[int, typer.Option(help="Run a rank's sequences in so many parts.")] = 1,
    lr: Annotated[float, typer.Option(help="Highest learning rate; may change with --resume.")] = 2e-3,
    dropout: Annotated[float, typer.Option(help="Rate of dropping.")] = 0.0,
    recompute: Annotated[str, typer.Option(help="none, selective or full.")] = "none",
    dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.")] = "float32",
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
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on from what --out DIR saved, with its options, and write on there."),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="File for a Chrome trace of steps 2 to 4: open it on ui.perfetto.dev."),
    ] = None,
    check: Annotated[
        str, typer.Option(help="What ranks compare: calls, data (checksums too), or none.")
    ] = "calls",
    timeout: TimeoutOption = None,
    fault: FaultOption = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show where the time of steps 2 to 21 went, by layer.")
    ] = False,
) -> None:
    """Train a small language model, the same at every number of ranks.

    Prints the loss on held-out text beside a byte bigram's. Also: mpiexec -n 4 tpsim train --tp 4
    """
    from tpsim.comm import launch, mpi

    with usage_errors():
        if schedule not in ("lockstep", "free"):
            raise ValueError(f"schedule {schedule!r} is not known; pick lockstep or free")
        if check not in _CHECKS:
            raise ValueError(f"check {check!r} is not known; pick one of {', '.join(_CHECKS)}")
        if profile and schedule == "lockstep" and not mpi.under_mpiexec():
            raise ValueError(
                "--profile with lockstep: ranks take turns, so a collective would last as long as the "
                "others' work; leave --schedule out, or start it with mpiexec"
            )
        _check_resume(resume)
        from tpsim.train import TrainConfig, read, resumed
        from tpsim.train.resume import saved_settings

        saved = saved_settings(resume) if resume else {}
        count, tp, dp = _mesh(ranks, tp, dp, saved)
        faults = faults_of(fault, count, ("collective", "step"))
        if mpi.under_mpiexec() and (check == "none" or timeout == 0):
            refuse_endless(faults)
        settings: dict[str, Any] = {
            "model": model,
            "sequence_parallel": sp,
            "fsdp": fsdp,
            "text": text,
            "steps": steps,
            "batch": batch,
            "seq": seq,
            "microbatches": microbatches,
            "lr": lr,
            "dropout": dropout,
            "recompute": recompute,
            "dtype": dtype,
            "seed": seed,
            "save_every": save_every,
            "stop_after": stop_after,
            "out": None if out is None else str(out),
        }
        if resume:  # what was not given comes from there
            given = {name: value for name, value in settings.items() if _given(context, name)}
            config = resumed(resume, tp=tp, dp=dp, **given)
        else:
            config = TrainConfig(tp=tp, dp=dp, **settings)
        corpus = read(config.text, config.seq)
        _check_out(config.out)
        check_trace_file(trace)
    shown = _Progress(config, quiet=mpi.rank_of_job() != 0)
    began = time.perf_counter()
    with failures_told(_go_on(config.out)), shown:
        file = None if trace is None else str(trace)
        turns: Any = schedule
        looks: list[Profile] = []  # of rank 0; it lives in this process in every world
        told = looks.append if profile else None
        what = (faults, config, corpus, shown.tell, file, told, _CHECKS[check])
        metrics = launch(_on_rank, count, *what, schedule=turns, timeout=timeout)[0]
    if isinstance(metrics, UsageError):
        raise metrics
    if mpi.rank_of_job() != 0:
        return
    if not metrics:  # on rank 0; others end as silently
        raise UsageError(f"{resume} has taken {config.steps} steps or more already; pick more --steps")
    _conclude(corpus, metrics, time.perf_counter() - began, config.out)
    if trace is not None:
        print(f"written: {trace}")
    for look in looks:
        _show_profile(look, config)


def _on_rank(comm: Any, faults: Sequence[Fault], *what: Any) -> list[Metrics] | UsageError:
    """Train; a checkpoint that won't do is no accident that should end an MPI job with a traceback."""
    from tpsim.comm.faults import injected
    from tpsim.train import ResumeError
    from tpsim.train import train as on_rank

    try:
        with injected(faults, comm, tell_missed):
            return on_rank(comm, *what)
    except ResumeError as error:
        return UsageError(str(error))


def _go_on(out: str | None) -> str:
    return "" if out is None else f"what was saved until then is in {out}: go on with --resume {out}"


def _given(context: typer.Context, name: str) -> bool:
    """Whether the user gave a setting, were it its default."""
    source = context.get_parameter_source({"sequence_parallel": "sp"}.get(name, name))
    return source is not None and source.name != "DEFAULT"


def _mesh(
    ranks: int | None, tp: int | None, dp: int | None, saved: Mapping[str, Any]
) -> tuple[int, int, int]:
    """Return ranks, tp and dp; those that are not given are the saved ones, or follow from the others."""
    from tpsim.comm import mpi

    for name, value in (("ranks", ranks), ("tp", tp), ("dp", dp)):
        if value is not None and value < 1:
            raise ValueError(f"{name} {value} is too few; pick 1 or more")
    started = mpi.world().size if mpi.under_mpiexec() else None
    if started and ranks not in (None, started):
        raise ValueError(f"mpiexec started {started} ranks and --ranks says {ranks}; leave --ranks out")
    wanted = started or ranks
    if saved and wanted in (None, (tp or saved["tp"]) * (dp or saved["dp"])):
        tp, dp = tp or saved["tp"], dp or saved["dp"]
    copies = dp or 1
    count = wanted or (tp or max(1, 4 // copies)) * copies
    tp = tp or max(1, count // copies)
    dp = dp or max(1, count // tp)
    if tp * dp != count:
        raise ValueError(f"tp {tp} × dp {dp} is not {count} ranks; pick two whose product it is")
    return count, tp, dp


def _check_resume(resume: Path | None) -> None:
    if resume is not None and not resume.is_dir():
        raise ValueError(f"resume {resume} is no folder; pass the --out of an earlier run")


def _check_out(out: str | None) -> None:
    if out is not None:
        try:
            Path(out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"out {out} can't be written to ({error.strerror}); pass a folder that can"
            ) from None


def _show_profile(look: Profile, config: TrainConfig) -> None:
    from rich.console import Console

    from tpsim.cli.profile_table import profile_table
    from tpsim.train.flops import core_peak

    peak = core_peak("float64" if config.dtype == "float64" else "float32")
    Console().print(profile_table(look, peak))


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
        dp = f"dp {config.dp}{' (fully sharded)' if config.fsdp else ''}"
        self._console.print(f"{config.model} on tp {config.tp} × {dp}{sp}, {config.dtype}")

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
        if metrics.loss_scale and metrics.grad_norm is None:
            self._console.print(
                f"step {metrics.step:5}: gradients overflowed, so it is left out and the loss scale of "
                f"2^{math.log2(metrics.loss_scale):g} halved",
                highlight=False,
                soft_wrap=True,
            )
        if metrics.held_out is not None:
            self._console.print(
                f"step {metrics.step:5}: loss {metrics.loss:.4f}, held out {metrics.held_out:.4f}, {speed}",
                highlight=False,
                soft_wrap=True,
            )


def _conclude(corpus: Corpus, metrics: list[Metrics], seconds: float, out: str | None) -> None:
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

    folder = Path(out)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    plots.loss(lines, bigram).savefig(folder / "loss.png")
    for name in ("metrics.jsonl", "loss.png"):
        console.print(f"written: {folder / name}", soft_wrap=True)
