"""The bug hunt: plausible layers with one planted bug each, all of them bugs that real systems had.

A patient is a folder `pNN_name/` with

- `__init__.py`: `PATIENT = Patient(...)`: an exercise of `tpsim.lab.checking`, which says what the layer must
  compute, and the story of the real bug;
- `task.py`: the layer with the bug, as the student gets it;
- `solution.py`: the same file, mended.
"""

from tpsim.lab.bughunt.casebook import Casebook
from tpsim.lab.bughunt.examination import Examination, examine
from tpsim.lab.bughunt.patient import Patient, patients
from tpsim.lab.bughunt.symptoms import growth, healthy, symptoms

__all__ = ["Casebook", "Examination", "Patient", "examine", "growth", "healthy", "patients", "symptoms"]
