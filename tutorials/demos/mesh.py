"""Tensor and data parallelism together: each rank is in two groups, and sums over each what belongs there."""

import numpy as np

import tpsim
from tpsim.nn import MLP


def main(comm):
    mesh = tpsim.Mesh(comm, tp=2)  # 4 ranks: tp groups (0 1) (2 3), dp groups (0 2) (1 3)
    batch = np.random.default_rng(1).standard_normal((4, 3, 8))  # [batch, seq, hidden]
    mine = np.split(batch, mesh.dp.size)[mesh.dp.rank]  # each dp rank has its samples
    mlp = MLP(8, 32, mesh.tp, dtype=np.float64)  # each tp rank has its slice of the weights
    with tpsim.Trace() as trace:
        mlp.backward(mlp.forward(mine))
        gradient = mesh.dp.all_reduce(mlp.up.weight.grad)

    alone = MLP(8, 32, dtype=np.float64)
    alone.backward(alone.forward(batch))
    whole = mesh.tp.all_gather(gradient, axis=1)
    equal = bool(np.abs(whole - alone.up.weight.grad).max() < 1e-12)
    calls = ", ".join(f"{event.operation} in {event.group}" for event in trace.collectives)
    lines = comm.gather(f"rank {comm.rank}: tp rank {mesh.tp.rank}, dp rank {mesh.dp.rank}; {calls}")
    if comm.rank == 0:
        print(*lines, sep="\n")
        print("the gradient equals one device's with the whole batch:", equal)


if __name__ == "__main__":
    tpsim.launch(main, ranks=4)
