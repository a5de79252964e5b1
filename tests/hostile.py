"""Submissions that try what they must not: by name, the source, and a part of the reason to be given."""

from __future__ import annotations

from pathlib import Path

import tpsim

SOLUTION = Path(tpsim.__file__).parent / "lab/exercises/e02_row_bias/solution.py"
_REACH = """import numpy as np

os = getattr(np, "__builtins__")["__import__"]("os")  # around the guard, as a clever student would
sys = getattr(np, "__builtins__")["__import__"]("sys")
"""
_RIGHT = """

def row_linear(x, a, b, group):
    return group.all_reduce(x @ a) + b
"""


def _at_import(code: str, reach: str = _REACH) -> str:
    return f"{reach}{code}\n{_RIGHT}"


def _in_call(code: str) -> str:
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    return f"{_REACH}\n\ndef row_linear(x, a, b, group):\n{lines}    return group.all_reduce(x @ a) + b\n"


HOSTILE: dict[str, tuple[str, str]] = {
    "endless_loop": (_in_call("while True: pass"), "more than 1 s of processor time"),
    "endless_loop_at_import": (_at_import("while True: pass"), "more than 1 s of processor time"),
    "memory_bomb": (_in_call("np.ones(1 << 33)"), "more memory than is allowed"),
    "list_bomb": (_in_call("big = [0]\nwhile True: big = big + big"), "more memory than is allowed"),
    "fork_bomb": (_in_call("while True: os.fork()"), "new processes"),
    "exit_0": (_in_call("getattr(os, '_exit')(0)"), "it ended its process (exit code 0)"),
    "patched_numpy": (
        _REACH
        + "np.array_equal = np.allclose = lambda *_, **__: True\nnp.abs = np.zeros_like\n"
        + "def row_linear(x, a, b, group): return group.all_reduce(x @ a * 0)\n",
        "rank 0's y",
    ),
    "patched_tpsim": (
        "from tpsim.comm import Group\nsetattr(Group, 'all_reduce', lambda self, x: x)" + _RIGHT,
        "missing sum",
    ),
    "overwritten_checker": (
        _at_import("open(getattr(sys.modules['tpsim.lab.checking.guard'], '__file__'), 'w').write('')"),
        "none can be written",
    ),
    "deadlock": (
        "def row_linear(x, a, b, group):\n    y = x @ a\n"
        "    if group.rank == 0: y = group.all_reduce(y)\n    return y + b\n",
        "deadlock",
    ),
    "huge_print": (_in_call("while True: print('x' * 10000)"), "printed or wrote more than is allowed"),
    "deletes_its_folder": (
        _at_import("for name in os.listdir('.'): os.remove(name)"),
        "none can be written",
    ),
    "reads_the_graders_environment": (
        _at_import("open(f'/proc/{os.getppid()}/environ').read()"),
        "files other than its own can't be read",
    ),
    "reads_the_graders_memory": (
        _at_import("open(f'/proc/{os.getppid()}/mem', 'rb').read(1)"),
        "files other than its own can't be read",
    ),
    "reads_other_submissions": (
        _at_import("os.listdir('../..')"),
        "files other than its own can't be read",
    ),
    "writes_garbage_to_the_grader": (
        _in_call("for file in range(3, 64):\n  try: os.write(file, b'garbage!' * 9)\n  except OSError: pass"),
        "what came from its process was not a result",
    ),
    "claims_a_huge_message": (
        _in_call(
            "for file in range(3, 64):\n  try: os.write(file, bytes([255] * 8))\n  except OSError: pass"
        ),
        "what came from its process was not a result",
    ),
    "closes_its_connection": (
        _in_call("os.closerange(3, 64)\nwhile True: pass"),
        "closed its connection to the grader",
    ),
    "background_process": (
        _at_import("getattr(np, '__builtins__')['__import__']('subprocess').Popen(['sleep', '99'])"),
        "new processes",
    ),
    "background_thread": (
        _at_import("getattr(np, '__builtins__')['__import__']('threading').Thread(target=print).start()"),
        "new processes and threads",
    ),
    "system_exit_at_import": ("raise SystemExit(0)" + _RIGHT, "raised SystemExit"),
    "keyboard_interrupt_at_import": ("raise KeyboardInterrupt" + _RIGHT, "raised KeyboardInterrupt"),
    "recursion_bomb": (
        _at_import("sys.setrecursionlimit(10**9)\ndef down(n): return [down(m) for m in [n + 1]]\ndown(0)"),
        "",
    ),
    "object_that_lies": (
        "import numpy as np\nclass Liar(np.ndarray):\n    def __array_finalize__(self, other): pass\n"
        "def row_linear(x, a, b, group): return group.all_reduce(x @ a).view(Liar)\n",
        "rank 0's y is a Liar",
    ),
    "network": (
        _at_import("getattr(np, '__builtins__')['__import__']('socket').socket()"),
        "sockets",
    ),
    "kills_its_parent": (_at_import("os.kill(os.getppid(), 9)"), "signals to others"),
    "changes_modes": (_at_import("os.chmod('.', 0)"), "Operation not permitted"),
    "error_that_explodes": (
        _in_call("class Bad(Exception):\n    def __str__(self): raise SystemExit\nraise Bad"),
        "raised Bad: (without a message)",
    ),
    "nested_result": (
        "def row_linear(x, a, b, group):\n    y = group.all_reduce(x @ a) + b\n"
        "    for _ in range(999): y = [y]\n    return y\n",
        "nested too deeply",
    ),
    "ranks_that_share_a_list": (
        "TERMS = {}\ndef row_linear(x, a, b, group):\n    TERMS[group.rank] = x @ a\n"
        "    group.all_reduce(x @ a * 0)\n    return sum(TERMS.values()) + b\n",
        "missing sum",
    ),
    "floods_the_group": (
        _in_call("while True: group.all_reduce(x[:0])"),
        "more than 2000 calls of the group",
    ),
    "imports_the_layer": ("from tpsim.nn import RowParallelLinear" + _RIGHT, "tpsim.nn"),
    "reads_the_solution": (
        _at_import(f"open({str(SOLUTION)!r}).read()"),
        "files other than its own can't be read",
    ),
    "finds_the_solution": (
        _at_import("getattr(np, '__builtins__')['__import__']('tpsim.lab.exercises.e02_row_bias.solution')"),
        "No module named 'tpsim.lab.exercises'",
    ),
}
