"""Measuring this machine into a hardware profile: products, passes over arrays, and collectives.

`cases` says what is called, `timing` how it is timed on all ranks at once, and `profile` what follows. The
fits themselves are in `tpsim.cost.fit.machine`.
"""

from tpsim.studies.calibrate.profile import FULL, QUICK, Calibration, Effort, calibrate

__all__ = ["FULL", "QUICK", "Calibration", "Effort", "calibrate"]
