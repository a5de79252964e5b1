"""The files that a submission's process can see: Python, NumPy, and a tpsim that holds no answers."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import tpsim

PACKAGE = Path(tpsim.__file__).parent
_COPIED = {
    "__init__.py": "__init__.py",
    **{
        f"functional/{file.name}": f"functional/{file.name}" for file in (PACKAGE / "functional").glob("*.py")
    },
    "lab/checking/guard.py": "lab/checking/guard.py",
    "lab/grading/sandbox/group.py": "lab/grading/sandbox/group.py",
    "lab/grading/sandbox/__init__.py": "lab/grading/sandbox/__init__.py",
    "lab/grading/sandbox/__main__.py": "lab/grading/sandbox/__main__.py",
    "lab/grading/sandbox/confine.py": "lab/grading/sandbox/confine.py",
    "lab/grading/sandbox/rank.py": "lab/grading/sandbox/rank.py",
    "lab/grading/sandbox/wire.py": "lab/grading/sandbox/wire.py",
}
_WRITTEN = {
    "comm/__init__.py": "from tpsim.lab.grading.sandbox.group import Group, Handle\n",
    "dry/__init__.py": "def kernel(function):\n    return function  # nothing is recorded here\n",
    "lab/__init__.py": "",
    "lab/checking/__init__.py": "",
    "lab/grading/__init__.py": "",
}
_LIBRARIES = ("numpy", "numpy.libs", "ml_dtypes", "ml_dtypes.libs")


def build(stage: Path) -> Path:
    """Put the sandbox's packages into the folder `stage`, and return the program to start there."""
    for source, target in _COPIED.items():
        (stage / "tpsim" / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGE / source, stage / "tpsim" / target)
    for target, text in _WRITTEN.items():
        (stage / "tpsim" / target).parent.mkdir(parents=True, exist_ok=True)
        (stage / "tpsim" / target).write_text(text, encoding="utf-8")
    for library in _libraries():
        (stage / library.name).symlink_to(library, target_is_directory=True)
    return stage / "tpsim/lab/grading/sandbox/__main__.py"


def readable(*ours: Path) -> list[Path]:
    """Return all files and folders that the sandbox may read: `ours`, and what Python and NumPy load.

    Folders of installed packages are left out: there may be a tpsim, with all its solutions.
    """
    shared = [path for path in Path(sys.base_prefix, "lib").glob("lib*") if path.is_file()]
    system = [Path(name) for name in ("/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom")]
    return [*ours, *_libraries(), *_standard_library(), *_system_libraries(), *shared, *system]


def _libraries() -> Iterator[Path]:
    for name in _LIBRARIES:
        spec = importlib.util.find_spec(name.partition(".")[0])
        if spec is not None and spec.origin is not None:
            folder = Path(spec.origin).parent.parent / name
            if folder.is_dir():
                yield folder.resolve()


def _standard_library() -> Iterator[Path]:
    for folder in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        for path in Path(folder).iterdir() if Path(folder).is_dir() else ():
            if path.name not in ("site-packages", "dist-packages"):
                yield path


def _system_libraries() -> Iterator[Path]:
    for folder in map(Path, ("/lib", "/lib64", "/usr/lib", "/usr/lib64")):
        for path in folder.iterdir() if folder.is_dir() else ():
            if not path.name.startswith("python"):
                yield path
