"""matplotlib figures of what a run recorded, or an estimate says. Import this only when something is drawn.

Every function returns a `Figure` and touches no global state of matplotlib's: no backend, no pyplot.
"""

from tpsim.plots.activations import activations
from tpsim.plots.bench import bench
from tpsim.plots.communication import communication
from tpsim.plots.fsdp import fsdp
from tpsim.plots.loss import loss
from tpsim.plots.memory import memory
from tpsim.plots.memory_stack import memory_stack
from tpsim.plots.precision import precision
from tpsim.plots.rows import from_rows
from tpsim.plots.serving import latency_throughput, token_time
from tpsim.plots.speedup import speedup
from tpsim.plots.timeline import timeline
from tpsim.plots.traffic import traffic

__all__ = [
    "activations",
    "bench",
    "communication",
    "from_rows",
    "fsdp",
    "latency_throughput",
    "loss",
    "memory",
    "memory_stack",
    "precision",
    "speedup",
    "timeline",
    "token_time",
    "traffic",
]
