"""matplotlib figures of what a run recorded. Import this only when something is drawn.

Every function returns a `Figure` and touches no global state of matplotlib's: no backend, no pyplot.
"""

from tpsim.plots.communication import communication
from tpsim.plots.loss import loss
from tpsim.plots.memory import memory
from tpsim.plots.precision import precision

__all__ = ["communication", "loss", "memory", "precision"]
