"""A student's folder of patients: the files to mend, and how far they have come."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tpsim.lab.bughunt.patient import patients
from tpsim.lab.checking import Exercise
from tpsim.lab.workbook import Workbook


class Casebook(Workbook):
    """A folder that `tpsim lab bugs start` made."""

    COMMAND: ClassVar[str] = "tpsim lab bugs"
    NOTES: ClassVar[str] = ".bugs.json"

    @classmethod
    def known(cls, others: tuple[Path, ...] = ()) -> dict[int, Exercise]:
        """Return the patients' exercises by number."""
        return {number: patient.exercise for number, patient in patients().items()}
