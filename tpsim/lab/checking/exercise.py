"""What an exercise is: its sizes, what each rank is given and must return, and what is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tpsim.lab.checking.case import Case, Draw, Sizes
from tpsim.lab.checking.placing import Placed
from tpsim.lab.checking.run import Call, Ran


@dataclass(frozen=True)
class Collective:
    """A collective that a contract names.

    Attributes
    ----------
    operation : str
        "all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all", "send", "recv" or "barrier".
    shape : tuple of int
        Of the full tensor: what an all-reduce sums, an all-gather returns, a reduce-scatter is given; of what
        is sent, for a send.
    ranks : int
        Of the group, where that is `group.neighbours(ranks)`; 0 is all of them.
    """

    operation: str
    shape: tuple[int, ...]
    ranks: int = 0


@dataclass(frozen=True, eq=False)
class Mistake:
    """A wrong result that is known beforehand, and what it means.

    Attributes
    ----------
    kind : str
        In two or three words: "bias t times".
    why : str
        A sentence that says what was done and what to do instead.
    value : Placed
        What each rank has then.
    """

    kind: str
    why: str
    value: Placed


@dataclass(frozen=True, eq=False)
class Deal:
    """One case, dealt out: what each rank is given, what it must return, and what that may cost.

    Attributes
    ----------
    given : mapping of str to Placed
        Arrays (floating-point ones are given in the case's dtype) and other arguments.
    wanted : mapping of str to Placed
        What must come out, in float64, by the names that the calls give.
    mistakes : mapping of str to sequence of Mistake
        Wrong results worth a sentence of their own, by the same names. A missing sum, an average, a sum taken
        twice, another rank's part, a transposed array and the like are known without.
    traffic : mapping of str to sequence of Collective
        The contract's collectives, by the function that is to call them; none where a function is missing.
    products : mapping of str to sequence of (m, k, n)
        Where time is judged: the matrix products [m, k] · [k, n] that each rank does in a function.
    """

    given: Mapping[str, Placed]
    wanted: Mapping[str, Placed]
    mistakes: Mapping[str, Sequence[Mistake]] = field(default_factory=dict)
    traffic: Mapping[str, Sequence[Collective]] = field(default_factory=dict)
    products: Mapping[str, Sequence[tuple[int, int, int]]] = field(default_factory=dict)


class Property(Protocol):
    """Something that must hold of every run, and is worth points.

    Attributes
    ----------
    name : str
        Short: "y", "backward calls".
    says : str
        What holds, as a line of the result: "y is X A + b".
    points : int
    """

    @property
    def name(self) -> str:
        """Short, and one of its kind in an exercise."""

    @property
    def says(self) -> str:
        """What holds."""

    @property
    def points(self) -> int:
        """What it is worth."""

    def judge(self, case: Case, deal: Deal, ran: Ran) -> None:
        """Raise `WrongError` if it does not hold, `MissingError` if the run ended before it could be seen."""


class MissingError(Exception):
    """A run stopped before a property could be seen."""


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """An exercise of the lab.

    Attributes
    ----------
    number : int
        Its place in the order of difficulty.
    name : str
        Of the student's file, `NN_name.py`, and of the exercise's folder, `eNN_name`.
    title : str
        What is to be done, in a few words.
    level : int
        1 to 5.
    chapter : int
        The tutorial that goes before it.
    sizes : Sizes
        What a case has besides t and a dtype: `{"rows": one_to(3), "hidden": per_rank(2)}`.
    deal : callable
        `deal(case, draw)` returns the `Deal` of a case; `draw(rows, hidden)` returns its numbers.
    calls : sequence of Call
        The submission's functions, in the order in which every rank calls them.
    properties : sequence of Property
        What is judged, the most telling first.
    hints : three str
        From a nudge to nearly the solution.
    ranks, dtypes : sequence
        What cases draw from; they shrink to the first.
    allowed : sequence of str
        What the submission may import besides NumPy and `tpsim.comm.Group`, such as "tpsim.functional.gelu".
    folder : Path
        Where its task, solution and wrong solutions lie; filled in by `find`.
    """

    number: int
    name: str
    title: str
    level: int
    chapter: int
    sizes: Sizes
    deal: Callable[[Case, Draw], Deal]
    calls: Sequence[Call]
    properties: Sequence[Property]
    hints: tuple[str, str, str]
    ranks: Sequence[int] = (1, 2, 3, 4)
    dtypes: Sequence[str] = ("float64", "float32")
    allowed: Sequence[str] = ()
    folder: Path = Path()

    @property
    def points(self) -> int:
        """What all properties together are worth."""
        return sum(one.points for one in self.properties)

    @property
    def file_name(self) -> str:
        """The student's file."""
        return f"{self.number:02}_{self.name}.py"

    @property
    def functions(self) -> list[str]:
        """The submission's functions."""
        return [call.function for call in self.calls]
