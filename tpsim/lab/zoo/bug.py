"""What is known of a bug."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class Bug:
    """A bug of a real system, as a replacement for one class, function or method of tpsim.

    Attributes
    ----------
    number : int
        Its number in the list of known bugs; variants share it.
    name : str
        Its key in `ZOO`.
    title : str
        The mistake, in a few words.
    goes_wrong : str
        What a user sees of it, and where it stays invisible.
    seen_in : tuple of str
        Public threads, as repository#number, where there are any.
    replaces : str
        Dotted name of what it replaces.
    patient : object
        The faulty thing.
    caught_by : callable
        The property that must fail, of a case.
    cases : callable
        The strategy to draw those cases from; takes `ranks=` as all strategies do.
    hides_at_one_rank : bool
        Whether one rank computes the right thing (and a test on one device finds nothing).
    """

    number: int
    name: str
    title: str
    goes_wrong: str
    seen_in: tuple[str, ...]
    replaces: str
    patient: Any
    caught_by: Callable[[Any], Any]
    cases: Callable[..., SearchStrategy[Any]]
    hides_at_one_rank: bool = True
