"""Known bugs of real systems, each planted on purpose: a property that can't catch them proves nothing.

`with planted(ZOO["no-reduce-in-backward"]): …` puts one in the place of the good code.
"""

from tpsim.lab.zoo import (
    borders,
    collectives,
    decoding,
    fused_weights,
    kv_heads,
    loss,
    masks,
    norms,
    padding,
    replica_sums,
    residual,
    row_bias,
    scale,
    starting,
    statistics,
    uneven,
)
from tpsim.lab.zoo.bug import Bug
from tpsim.lab.zoo.planting import planted

_CAGES = [
    row_bias,
    residual,
    borders,
    replica_sums,
    fused_weights,
    starting,
    statistics,
    uneven,
    collectives,
    loss,
    padding,
    masks,
    norms,
    kv_heads,
    scale,
    decoding,
]

ZOO: dict[str, Bug] = {
    bug.name: bug for bug in sorted((bug for cage in _CAGES for bug in cage.BUGS), key=lambda bug: bug.number)
}
"""Every bug by name, in the order of their numbers."""

__all__ = ["ZOO", "Bug", "planted"]
