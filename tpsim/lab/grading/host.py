"""The process that submissions' ranks are forked from, as the grader sees it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tpsim.lab.grading.limits import Limits
from tpsim.lab.grading.stage import build, readable

_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # a set's order is part of a grade
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
_PATIENCE = 60.0  # seconds for an answer of the host, which never waits for a submission


class HostLostError(BaseException):
    """The host has ended.

    A BaseException, so that it ends a run at once, whatever catches exceptions on the way.
    """


class Host:
    """Starts ranks of submissions, and ends them.

    Parameters
    ----------
    limits : Limits
    folder : Path, optional
        For its files; by default the system's for temporary ones.

    Attributes
    ----------
    scratch : Path
        The folder for submissions' files: each gets one of its own in there for as long as it is graded.
    protections : dict of str to bool
        What this system holds submissions to: "files", "network", "processes", "memory".
    """

    def __init__(self, limits: Limits, folder: Path | None = None) -> None:
        self.limits = limits
        self._folder = tempfile.TemporaryDirectory(prefix="tpsim-grade-", dir=folder)
        root = Path(self._folder.name).resolve()
        stage, self.scratch = root / "stage", root / "scratch"
        stage.mkdir()
        self.scratch.mkdir()
        program = build(stage)
        self._control, theirs = socket.socketpair()
        self._control.settimeout(_PATIENCE)
        setup = {
            "stage": str(stage),
            "readable": [str(path) for path in readable(stage, self.scratch)],
            "cpu": limits.cpu,
            "memory": limits.memory,
            "file_size": limits.file_size,
            "open_files": limits.open_files,
        }
        python = [sys.executable, "-s", "-P", "-S", "-B"]  # no site-packages: there may be a whole tpsim
        command = [*python, str(program), str(theirs.fileno()), json.dumps(setup)]
        with theirs, tempfile.TemporaryFile() as said:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=_ENVIRONMENT,
                cwd=self.scratch,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
            theirs.close()
            try:
                self.protections: dict[str, bool] = self._answer()
            except HostLostError:
                self.close()
                said.seek(0)
                why = said.read().decode(errors="replace")
                raise RuntimeError(f"the process that runs submissions does not start: {why}") from None

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self, path: Path, output: int) -> tuple[int, socket.socket]:
        """Start a rank of the submission at `path`; return its process, and the socket to talk to it.

        What it prints goes to the file `output`.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            order = json.dumps({"do": "start", "path": str(path)}).encode()
            try:
                socket.send_fds(self._control, [order], [theirs.fileno(), output])
                process = self._answer()["process"]
            except OSError as error:
                raise HostLostError from error
        return process, ours

    def end(self, process: int) -> tuple[int, float]:
        """Kill a rank and all that it started; return how it ended (as `os.wait`) and its processor time."""
        for kill in (os.killpg, os.kill):  # before its setsid it has no group yet
            with suppress(ProcessLookupError, PermissionError):
                kill(process, signal.SIGKILL)
        try:
            self._control.sendall(json.dumps({"do": "end", "process": process}).encode())
            answer = self._answer()
        except OSError as error:
            raise HostLostError from error
        return answer["status"], answer["cpu"]

    def close(self) -> None:
        """End the host, and remove its folder."""
        self._control.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def _answer(self) -> dict[str, Any]:
        text = b""
        while not text.endswith(b"\n"):
            part = self._control.recv(4096)
            if not part:
                raise HostLostError
            text += part
        answer: dict[str, Any] = json.loads(text)
        return answer
