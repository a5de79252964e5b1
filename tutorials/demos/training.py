"""A small MLP learns a function on t ranks, and has the same losses as one device."""

import numpy as np

import tpsim
from tpsim.nn import MLP


def losses(group, steps=61):
    mlp = MLP(hidden=4, ffn=32, group=group, rng=np.random.default_rng(0), dtype=np.float64)
    for name, parameter in mlp.parameters().items():
        if name.endswith("weight"):
            parameter.data *= 25  # the layers' own start is small, as suits a deep model
    x = np.random.default_rng(1).standard_normal((1, 64, 4))  # [batch, samples, features]
    target = np.sin(x) * np.roll(x, 1, axis=-1)
    for _ in range(steps):
        error = mlp.forward(x) - target
        yield np.mean(error**2)
        mlp.zero_grad()
        mlp.backward(2 * error / error.size)
        for parameter in mlp.parameters().values():
            parameter.data -= 0.5 * parameter.grad  # each rank updates its own slice


def main(comm):
    together, alone = list(losses(tpsim.Group(comm))), list(losses(None))
    if comm.rank == 0:
        for step in range(0, 61, 20):
            print(f"step {step:3}: loss {together[step]:.6f} on {comm.size} ranks, {alone[step]:.6f} on one")


if __name__ == "__main__":
    tpsim.launch(main)
