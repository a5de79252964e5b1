"""What a property says when it does not hold."""

from __future__ import annotations

from dataclasses import dataclass


class WrongError(AssertionError):
    """A property does not hold of a run.

    Parameters
    ----------
    what : str
        What is wrong, with numbers: "rank 1's dx is 0.5 too small".
    kinds : mapping of str to str
        The mistakes that it could be, most likely first, and for each a sentence on what it means.
    """

    def __init__(self, what: str, kinds: dict[str, str]) -> None:
        super().__init__(what)
        self.what = what
        self.kinds = kinds


@dataclass(frozen=True)
class Finding:
    """The smallest case in which a property does not hold.

    Attributes
    ----------
    kind : str
        The mistake, in two or three words, always the same: "missing sum", "averaged", "shape", "deadlock".
    case : str
        "t = 2, rows 1, hidden 2, float64".
    what : str
        What differs, with numbers.
    why : str
        What it means, and what to do.
    line : str
        The submission's line, where an error has one.
    shown : tuple of str
        The arrays and calls, one a line.
    printed : str
        What the submission printed in this case.
    """

    kind: str
    case: str
    what: str
    why: str = ""
    line: str = ""
    shown: tuple[str, ...] = ()
    printed: str = ""
