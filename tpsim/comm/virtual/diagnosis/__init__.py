"""Why virtual ranks can't go on: where each stands (`standing`), who waits for whom (`cycle`), what to do.

A deadlock and a mismatch are told while ranks stand in their calls, what was left behind at the end. Every
text says what was asked, why it can't be, and what to look at first.
"""

from tpsim.comm.virtual.diagnosis.deadlock import deadlock, mismatch
from tpsim.comm.virtual.diagnosis.leftovers import unfinished
from tpsim.comm.virtual.diagnosis.standing import standings

__all__ = ["deadlock", "mismatch", "standings", "unfinished"]
