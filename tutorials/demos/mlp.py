"""The MLP of a transformer block on t ranks: equal to one device, with one all-reduce each way."""

import numpy as np

import tpsim
from tpsim.nn import MLP


def main(comm):
    layer = MLP(hidden=8, ffn=32, group=tpsim.Group(comm), dtype=np.float64)
    alone = MLP(hidden=8, ffn=32, dtype=np.float64)  # one device, from the same weights
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, 2, 4, 8))  # [batch, seq, hidden] each
    with tpsim.Trace() as trace:
        y, dx = layer.forward(x), layer.backward(dy)
    error = max(np.abs(y - alone.forward(x)).max(), np.abs(dx - alone.backward(dy)).max())
    if comm.rank == 0:
        print(f"each rank has {layer.up.weight.data.shape} of A and {layer.down.weight.data.shape} of B")
        for event in trace.collectives:
            print(f"{event.phase}: {event.operation} in {event.layer}, {event.bytes_sent} bytes sent")
        print("equal to one device within 1e-12:", bool(error < 1e-12))


if __name__ == "__main__":
    tpsim.launch(main)
