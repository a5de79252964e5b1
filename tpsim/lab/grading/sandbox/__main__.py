"""The process that every rank of every submission is forked from, with NumPy loaded: that costs milliseconds.

It runs none of the submissions' code itself. The grader starts it with two arguments: the number of a
socket, and a description in JSON. Each message on the socket is an order: start a rank, or end one.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

_LOADED = (
    *("collections", "dataclasses", "functools", "itertools", "math", "random", "typing"),
    *("numpy.linalg", "numpy.random", "numpy.typing"),
    *("tpsim.comm", "tpsim.functional", "tpsim.lab.grading.sandbox.rank"),
)
"""What submissions import: loaded once, before any of them."""


def main() -> None:
    """Load what submissions need, give up what they must not have, and serve until the grader is gone."""
    control = socket.socket(fileno=int(sys.argv[1]))
    setup = json.loads(sys.argv[2])
    sys.path.insert(0, setup["stage"])

    from tpsim.lab.grading.sandbox import confine

    for module in _LOADED:
        importlib.import_module(module)
    protections = {
        "processes": confine.can_filter_calls(),
        "network": confine.leave_network() or confine.can_filter_calls(),
        "files": confine.confine_files(map(Path, setup["readable"])),
        "memory": sys.platform != "darwin",
    }
    base = setup["memory"] + confine.address_space()
    gc.freeze()  # else each fork's first collection would copy all that is loaded
    control.sendall(json.dumps(protections).encode() + b"\n")
    while True:
        text, handed, _, _ = socket.recv_fds(control, 1 << 16, 2)
        if not text:
            return
        order = json.loads(text)
        if order["do"] == "start":
            process = os.fork()
            if process == 0:
                control.close()
                _become_rank(order, setup, base, *handed)
            for file in handed:
                os.close(file)
            answer: dict[str, Any] = {"process": process}
        else:
            _, status, used = os.wait4(order["process"], 0)
            answer = {"status": status, "cpu": used.ru_utime + used.ru_stime}
        control.sendall(json.dumps(answer).encode() + b"\n")


def _become_rank(
    order: dict[str, Any], setup: dict[str, Any], memory: int, talk: int, output: int
) -> NoReturn:
    """Give up what is left to give up, and serve as a rank of one submission."""
    from tpsim.lab.grading.sandbox import confine
    from tpsim.lab.grading.sandbox.rank import Rank

    code = 1
    with contextlib.suppress(BaseException):
        os.setsid()
        confine.die_with_parent()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        path = Path(order["path"])
        os.chdir(path.parent)
        channel = socket.socket(fileno=talk)
        confine.limit(
            cpu=setup["cpu"], memory=memory, file_size=setup["file_size"], open_files=setup["open_files"]
        )
        if confine.can_filter_calls():
            confine.filter_calls()
        Rank(channel.sendall, lambda count: _exactly(channel, count), path).serve()
        code = 0
    os._exit(code)


def _exactly(channel: socket.socket, count: int) -> bytearray:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        got = channel.recv_into(view)
        if got == 0:
            os._exit(0)  # the grader hung up
        view = view[got:]
    return data


if __name__ == "__main__":
    main()
