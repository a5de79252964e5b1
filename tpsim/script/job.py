"""`tpsim run`: a program on virtual ranks, as a job under mpiexec is run; its result is an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tpsim.comm.errors import CommError, Crash, JobAborted
from tpsim.comm.faults import arm, parse
from tpsim.comm.virtual import VirtualComm
from tpsim.comm.virtual.lockstep import LockstepWorld
from tpsim.script import ctrl_c
from tpsim.script.program import Program
from tpsim.script.recorder import Recorder
from tpsim.script.report import report
from tpsim.script.session import EAGER_BYTES, Session
from tpsim.script.timeout import JobTimeout, limit

_NO_INPUT = "only rank 0 has the standard input, as under mpiexec; read it there, and broadcast what was read"


@dataclass(frozen=True)
class Options:
    """How a program is run.

    Attributes
    ----------
    ranks : int
        How many.
    timeout : float, optional
        Seconds after which the job is ended, with a report of where each rank stands.
    eager_bytes : int
        A send up to this size is buffered; a longer one waits for its receive.
    check : bool
        Whether to look for buffers that are changed while they are in flight.
    prefix : bool
        Whether each line of output begins with its rank.
    trace : path, optional
        Where to write what every rank called, as a Chrome trace.
    faults : sequence of str
        Accidents to strike ranks, as for `tpsim.run`.
    """

    ranks: int
    timeout: float | None = None
    eager_bytes: int = EAGER_BYTES
    check: bool = False
    prefix: bool = False
    trace: Path | None = None
    faults: Sequence[str] = ()


def run_job(program: Program, options: Options) -> int:
    """Run a program on virtual ranks, and return the job's exit code.

    0 where every rank ended well; else the code of the first rank that left with one by `sys.exit`, 1
    after an exception, a deadlock or the timeout (which are printed), `Abort`'s code after that; 130 after
    Ctrl-C, when it is printed where each rank stood.
    """
    recorder = Recorder(options.ranks)
    try:
        session = Session(
            options.ranks,
            argv=program.argv,
            path=[program.folder, *sys.path[1:]],
            eager_bytes=options.eager_bytes,
            check=options.check,
            prefix=options.prefix,
        )
        armed = arm(
            session.world,
            [parse(fault, options.ranks, ("collective", "message")) for fault in options.faults],
        )
        with nullcontext() if options.trace is None else recorder.recording():
            codes = session.run(_body(program), partial(_watch, options.timeout))
        for sentence in armed.missed():
            print(f"tpsim: {sentence}", file=sys.stderr)
    except JobAborted as stop:
        print(f"Abort({stop.code})", *getattr(stop, "__notes__", ()), sep="\n", file=sys.stderr)
        return _exit_code(stop)
    except ctrl_c.Interrupted as stop:
        print(stop, file=sys.stderr)
        return ctrl_c.EXIT_CODE
    except (Exception, Crash, JobTimeout) as error:
        sys.stderr.write(report(error))
        return 1
    finally:  # also of a job that failed
        if options.trace is not None:
            recorder.write(options.trace)
    return next((code for code in codes if code), 0)


@contextmanager
def _watch(timeout: float | None, world: LockstepWorld) -> Iterator[None]:
    with ctrl_c.interruptible(world), limit(timeout, _give_up)(world):
        yield


def _body(program: Program) -> Callable[[VirtualComm], int]:
    def body(comm: VirtualComm) -> int:
        sys.modules["__main__"] = program.main_module()
        try:
            program.start()
        except JobAborted:
            raise
        except SystemExit as stop:
            return _exit_code(stop)
        except CommError:
            raise
        except Exception as error:
            if isinstance(error, EOFError) and comm.rank != 0:
                error.add_note(_NO_INPUT)
            if sys.excepthook is not sys.__excepthook__:  # the program's own: it may call Abort
                sys.excepthook(type(error), error, error.__traceback__)
            raise
        return 0

    return body


def _give_up(text: str) -> None:
    """End the process in which ranks do not let themselves be interrupted."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)
    os._exit(1)


def _exit_code(stop: SystemExit) -> int:
    """Do as Python does with what `sys.exit` was given."""
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or 0
    print(stop.code, file=sys.stderr)
    return 1
