"""The rooms of the design, and who may import whom: only downwards."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tpsim

PACKAGE = Path(tpsim.__file__).parent

# From the top down. A room may import those further down this list (or on its own line), never one above.
ROOMS = [
    {"__main__"},
    {"cli", "pytest_plugin"},
    {"studies"},
    {"lab"},
    {"plots"},
    {"train", "infer"},
    {"models"},
    {"cost"},
    {"nn"},
    {"reference"},
    {"functional"},
    {"script"},
    {"comm"},
    {"dry"},
    {"trace"},
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every room that a file imports (also inside functions), with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            module = node.module or ""
            names = [f"tpsim.{a.name}" for a in node.names] if module == "tpsim" else [module]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "tpsim" and len(parts) > 1 and parts[1] in LEVEL:
                yield parts[1], node.lineno


def test_every_file_lives_in_a_room_of_the_design() -> None:
    assert {room_of(path) for path in MODULES} <= set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    here = room_of(path)
    upwards = [
        f"line {line}: {here} imports {room}"
        for room, line in imported_rooms(path)
        if LEVEL[room] < LEVEL[here] or (LEVEL[room] == LEVEL[here] and room != here)
    ]
    assert not upwards


def test_the_reference_imports_nothing_but_functional() -> None:
    for path in (PACKAGE / "reference").rglob("*.py"):
        assert {room for room, _ in imported_rooms(path)} <= {"reference", "functional"}


def test_layers_do_not_see_the_reference() -> None:
    for room in ("nn", "models", "comm"):
        for path in (PACKAGE / room).rglob("*.py"):
            assert "reference" not in {imported for imported, _ in imported_rooms(path)}, path


def test_every_folder_says_what_lives_there() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert docstring, path
        assert docstring.count(".") >= 1, path


def test_help_loads_neither_numpy_nor_matplotlib() -> None:
    code = (
        "import sys, tpsim.cli\n"
        "sys.argv = ['tpsim', '--help']\n"
        "try: tpsim.cli.main()\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'numpy', 'matplotlib', 'hypothesis'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_running_ranks_does_not_load_matplotlib() -> None:
    code = (
        "import sys, tpsim, tpsim.nn\n"
        "tpsim.run(lambda comm: comm.rank, 2)\n"
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
