"""What one Python interpreter has only once, kept apart for each rank.

Ranks take turns in one thread. At each hand-over the state of the rank that goes on is put in place: its
`__main__` and its own copies of the program's modules in `sys.modules`, and what `attributes` lists:
`sys.argv`, the standard streams, the environment, the working directory, random generators, …
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any, Self

from tpsim.script import attributes, package
from tpsim.script.libraries import module_of_program


@dataclass(slots=True)
class _State:
    """One rank's state, while another rank has its turn."""

    modules: dict[str, ModuleType]
    values: list[attributes.Namespace]
    functions: list[attributes.Namespace]
    at_exit: attributes.AtExit
    folder: str | None


class Interpreter:
    """A context in which ranks have interpreter states of their own; afterwards all is as it was before.

    Attributes
    ----------
    gate : lock
        Held while modules are exchanged; who holds it keeps them in place.
    thread : int
        The number of the thread in which ranks take turns.
    """

    def __init__(self) -> None:
        self._states: dict[int | None, _State] = {}
        self._current: int | None = None
        self._placed: int | None = None  # whose modules are in sys.modules
        self._private = {"__main__"}  # modules of which each rank has its own
        self._whole = {package.NAME}  # packages all modules of which are private
        self._known: set[str] = set()  # modules that were looked at
        self._count = -1  # of modules when they were looked at
        self.gate = threading.RLock()
        self.thread = threading.get_ident()

    def __enter__(self) -> Self:
        self._generators = attributes.Generators()  # imports numpy.random, which is not the program's doing
        self._before = set(sys.modules)
        self._sort_modules()
        self._states[None] = _State(
            {}, attributes.present(), self._generators.present(), attributes.AtExit(), attributes.folder()
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give(None)
        for name in set(sys.modules) - self._before:
            if name in self._private or module_of_program(sys.modules[name]):
                del sys.modules[name]
        attributes.tidy_environment([state.values[1]["environ"] for state in self._states.values()])

    def add(self, rank: int, modules: Mapping[str, ModuleType], **streams: Any) -> None:
        """Prepare the state of a rank.

        Parameters
        ----------
        rank : int
            Which.
        modules : dict
            What it finds in `sys.modules` of its own from the start.
        **streams
            Its `argv`, `path`, `stdin`, `stdout`, `stderr`.
        """
        at_exit = attributes.AtExit()
        values = attributes.fresh(at_exit, meta_path=[package.Finder(), *sys.meta_path], **streams)
        self._private.update(modules)
        self._states[rank] = _State(
            dict(modules), values, self._generators.fresh(), at_exit, attributes.folder()
        )

    def switch(self, leaving: int | None, entering: int | None) -> None:
        """Hand over, as `LockstepWorld.on_switch` asks. The scheduler needs no state of its own."""
        if entering is not None and entering != self._current:
            self.give(entering)

    def give(self, rank: int | None) -> None:
        """Put the state of a rank, or of the caller, in place."""
        with self.gate:
            self._give_modules(rank)
            left, entered = self._states[self._current], self._states[rank]
            left.values, left.folder = attributes.present(), attributes.folder()
            attributes.put(entered.values)
            self._generators.put(entered.functions)
            if entered.folder != left.folder:
                attributes.enter(entered.folder)
            self._current = rank

    def _give_modules(self, rank: int | None) -> None:
        modules = sys.modules
        if len(modules) != self._count:
            self._sort_modules()
        here = {name: modules.pop(name) for name in self._private if name in modules}
        self._states[self._placed].modules = here
        modules.update(self._states[rank].modules)
        self._placed = rank
        self._count = len(modules) if self._count >= 0 else -1

    @contextmanager
    def modules_of(self, rank: int) -> Iterator[None]:
        """Have the modules of a rank in place for a moment, in a thread beside the ranks."""
        with self.gate:
            before = self._placed
            self._give_modules(rank)
            try:
                yield
            finally:
                self._give_modules(before)

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """Be the caller's interpreter for a while, in the middle of a rank's turn."""
        rank = self._current
        self.give(None)
        try:
            yield
        finally:
            self.give(rank)

    def leave(self) -> None:
        """Call what the rank whose turn it is registered with `atexit`."""
        self._states[self._current].at_exit.call()

    # -- whose a module is ------------------------------------------------------------------------------

    def _sort_modules(self) -> None:
        """Look at the modules that are new."""
        ours = {id(module) for name, module in sys.modules.items() if _top(name) == package.NAME}
        self._count = 0
        for name in sys.modules.keys() - self._known - self._private:
            module = sys.modules[name]
            if self._of_whole(name) or module_of_program(module):
                self._private.add(name)
            elif getattr(getattr(module, "__spec__", None), "_initializing", False):
                self._count = -1  # look again when it is imported
            else:
                self._known.add(name)
                if ours and name not in self._before and _holds(module, ours):
                    self._whole.add(_top(name))
        self._private.update(name for name in sys.modules if self._of_whole(name))

    def _of_whole(self, name: str) -> bool:
        """Tell whether a module belongs to a package that is private altogether."""
        return _top(name) in self._whole and (_top(name) == package.NAME or name not in self._before)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _holds(module: ModuleType, ours: set[int]) -> bool:
    """Tell whether an installed module took a rank's `MPI` into its namespace."""
    return any(id(value) in ours for value in list(getattr(module, "__dict__", {}).values()))
