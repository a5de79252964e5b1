"""Arrays that have a shape, a dtype and a layout but no data, and the record of what is done to them.

`ShapeArray` goes through the very layer code, by NumPy's own protocols, so that a model of any size tells
what it computes, sends and keeps; `recording` writes that into the trace.
"""

from tpsim.dry import arranging, asking, creating, joining, products, reducing, selecting, ufuncs  # noqa: F401
from tpsim.dry.recording import kernel
from tpsim.dry.registry import implements
from tpsim.dry.shape_array import ShapeArray
from tpsim.dry.storage import Storage
from tpsim.dry.world import shapes_only, without_data

__all__ = ["ShapeArray", "Storage", "implements", "kernel", "shapes_only", "without_data"]
