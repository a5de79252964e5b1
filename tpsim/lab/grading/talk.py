"""The grader's side of the conversation with one rank of a submission, which may say anything or nothing."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from tpsim.lab.grading.host import Host
from tpsim.lab.grading.limits import Limits
from tpsim.lab.grading.sandbox.wire import WireError, pack, unpack


class GoneError(BaseException):
    """A submission's process can't go on. Says why, as its report will.

    A BaseException, so that it ends a run at once, whatever catches exceptions on the way.
    """


class Patience:
    """The seconds for which the grader will still wait for one exercise of a submission.

    Attributes
    ----------
    left : float
        Altogether.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.left = limits.wall

    def wait(self, channel: socket.socket, act: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `act`, which talks on the channel, returns in time."""
        if self.left <= 0:
            raise TimeoutError
        channel.settimeout(min(self.left, self.limits.answer))
        began = time.monotonic()
        try:
            return act(*arguments)
        finally:
            self.left -= time.monotonic() - began


class Talk:
    """One rank's process.

    Parameters
    ----------
    host : Host
        Starts and ends it.
    process : int
    channel : socket
    patience : Patience
        Shared with the other ranks.
    """

    def __init__(self, host: Host, process: int, channel: socket.socket, patience: Patience) -> None:
        self._host = host
        self._process = process
        self._channel = channel
        self._patience = patience
        self._limits = patience.limits
        self._end: tuple[int, float] | None = None
        self.begin()

    def begin(self) -> None:
        """Count messages and bytes anew."""
        self._heard = self._received = 0

    def say(self, message: dict[str, Any], special: Any = lambda _: None) -> None:
        """Send a message."""
        frame = pack(message, special)
        try:
            self._patience.wait(self._channel, self._channel.sendall, frame)
        except TimeoutError:
            raise self._too_slow() from None
        except OSError:
            raise self._ended() from None

    def hear(self, special: Any = lambda _: None) -> dict[str, Any]:
        """Return the next message."""
        self._heard += 1
        if self._heard > self._limits.messages:
            raise GoneError(f"a rank made more than {self._limits.messages} calls of the group in one case")
        try:
            return unpack(self._exactly, special)
        except WireError as error:
            raise GoneError(f"what came from its process was not a result: {error}") from None
        except TimeoutError:
            raise self._too_slow() from None
        except OSError:
            raise self._ended() from None

    def stop(self, seconds: float) -> None:
        """Have the rank leave the function that it is in; if it doesn't within so long, end the process."""
        left = self._patience.left
        allowed = self._patience.left = min(seconds, left)
        try:
            self.say({"do": "stop"})
            left_it = self.hear().get("do") == "stopped"
        except GoneError:
            left_it = False
        self._patience.left += left - allowed
        if not left_it:
            self.close()

    @property
    def closed(self) -> bool:
        """Whether the process was ended."""
        return self._end is not None

    def close(self) -> tuple[int, float]:
        """End the process, unless it has ended; return its status and processor time."""
        if self._end is None:
            self._channel.close()
            self._end = self._host.end(self._process)
        return self._end

    def _exactly(self, count: int) -> bytearray:
        self._received += count
        if self._received > self._limits.received:
            raise GoneError(f"a rank sent more than {self._limits.received >> 20} MiB in one case")
        data = bytearray()
        while len(data) < count:
            part = self._patience.wait(self._channel, self._channel.recv, count - len(data))
            if not part:
                raise self._ended()
            data += part
        return data

    def _too_slow(self) -> GoneError:
        return GoneError(
            f"it did not answer for {self._limits.answer:g} s, or {self._limits.wall:g} s altogether: is "
            "there a loop that never ends, or a sleep?"
        )

    def _ended(self) -> GoneError:
        status, cpu = self.close()
        return GoneError(_why_ended(status, cpu, self._limits))


def _why_ended(status: int, cpu: float, limits: Limits) -> str:
    """Say how a process ended that should have answered."""
    if os.WIFEXITED(status):
        return f"it ended its process (exit code {os.WEXITSTATUS(status)}), where it must return a result"
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU or cpu >= limits.cpu:
        return f"it used more than {limits.cpu} s of processor time: is there a loop that never ends?"
    name = signal.Signals(number).name
    if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL):
        return f"it crashed the interpreter ({name}): a recursion without end, or memory that is not its own"
    return f"its process was killed ({name}), or it closed its connection to the grader"
