"""The `tpsim` command: one file a command, which parses, calls a study, and prints.

Nothing heavy is imported before a command runs, so that `tpsim --help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from tpsim.cli.bench import bench
from tpsim.cli.calibrate import calibrate
from tpsim.cli.demo import demo
from tpsim.cli.estimate import estimate
from tpsim.cli.generate import generate
from tpsim.cli.lab import lab
from tpsim.cli.load import load
from tpsim.cli.plot import plot
from tpsim.cli.precision import precision
from tpsim.cli.reshard import reshard
from tpsim.cli.run import SETTINGS, run
from tpsim.cli.train import train
from tpsim.cli.tutorials import tutorials
from tpsim.cli.usage import UsageError, tell
from tpsim.cli.validate import validate
from tpsim.cli.verify import verify

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(bench)
app.command()(calibrate)
app.command()(demo)
app.command()(estimate)
app.command()(generate)
app.command()(load)
app.command()(plot)
app.command()(precision)
app.command()(reshard)
app.command(context_settings=SETTINGS)(run)
app.command()(validate)
app.command()(verify)
app.command()(train)
app.add_typer(lab, name="lab")
app.command()(tutorials)


@app.callback(invoke_without_command=True)
def tpsim(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Tensor parallelism in pure NumPy: run it, check it, see what it sends and keeps."""
    if version:
        from tpsim import __version__

        print(f"tpsim {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line. A wrong argument is one sentence on stderr, and exit code 2."""
    try:
        code: Any = app(prog_name="tpsim", standalone_mode=False)
    except (UsageError, USAGE_ERROR) as error:
        tell(error)
        code = 2
    except typer.Abort:
        code = 130
    sys.exit(code)


USAGE_ERROR: Any = typer.BadParameter.__base__  # the parser's own errors: unknown options, missing values
