"""Attention on t ranks, each with its own heads. With few key-value heads, neighbours have the same one."""

import numpy as np

import tpsim
from tpsim.nn import Attention

HEADS, HEAD_SIZE = 8, 4


def main(comm):
    x = np.random.default_rng(1).standard_normal((1, 6, HEADS * HEAD_SIZE))  # [batch, seq, hidden]
    for kv_heads in (8, 2):
        group = tpsim.Group(comm)
        options = {"kv_heads": kv_heads, "dtype": np.float64}
        attention = Attention(HEADS * HEAD_SIZE, HEADS, group, **options)
        alone = Attention(HEADS * HEAD_SIZE, HEADS, **options)
        y = attention.forward(x)
        first = comm.rank * attention.heads
        queries = list(range(first, first + attention.heads))
        keys = sorted({head * kv_heads // HEADS for head in queries})
        lines = comm.gather(f"  rank {comm.rank}: query heads {queries}, key-value heads {keys}")
        if comm.rank == 0:
            print(f"{HEADS} query heads, {kv_heads} key-value heads", *lines, sep="\n")
            print("  equal to one device within 1e-12:", bool(np.abs(y - alone.forward(x)).max() < 1e-12))


if __name__ == "__main__":
    tpsim.launch(main)
