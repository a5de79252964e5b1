"""What happened: one event per collective and kernel, and the ledger of saved activations and parameters.

A `Trace` records whatever its rank does while it is entered; every table, plot and cost reads it.
"""

from tpsim.trace.events import CollectiveEvent, KernelEvent, Kind, ParameterRecord, SavedTensor, StateRecord
from tpsim.trace.ledger import Trace, current, isolate
from tpsim.trace.scope import Phase, Scope, current_scope, scope

__all__ = [
    "CollectiveEvent",
    "KernelEvent",
    "Kind",
    "ParameterRecord",
    "Phase",
    "SavedTensor",
    "Scope",
    "StateRecord",
    "Trace",
    "current",
    "current_scope",
    "isolate",
    "scope",
]
