"""How near decode comes to the memory's speed: python benchmarks/decode.py, or mpiexec -n 2 python …

A decode step of one sequence reads every weight (of the embedding, one row) and the KV cache, and does next
to no arithmetic: bytes over bandwidth bound it from below. Both are measured here, in turns, so that a noisy
machine is noisy for both: tokens a second, and the bandwidth at which each rank reads arrays far larger than
its caches, all ranks at once. "share" is the bound over what a step takes.
"""

import argparse
import time
from typing import Any

import numpy as np

import tpsim
from tpsim import models
from tpsim.comm import Group, mpi
from tpsim.infer import KVCache, Place, Sampler, Sampling, next_logits, prefill
from tpsim.models import LanguageModel

MODEL = models.llama("120m", 8, 1024, 16, kv_heads=4, ffn=2816, vocab=8192, max_seq=1024)


def measure(comm: Any, batch: int, context: int, rounds: int, steps: int) -> tuple[float, float, float]:
    """Return a step's seconds, the bytes that it reads here, and the bandwidth: medians over rounds."""
    group = Group(comm)
    model = LanguageModel(MODEL, group, dtype=np.float32)
    cache = KVCache(model, batch, context + rounds * steps)
    sampler = Sampler(MODEL.vocab, group, Sampling())
    prompt = np.random.default_rng(0).integers(MODEL.vocab, size=(batch, context))
    tokens = sampler.choose(prefill(model, prompt, cache, chunk=128), [])
    parameters = model.parameters()
    weights = sum(p.data.nbytes for name, p in parameters.items() if name != "embedding.weight")
    filled = context + rounds * steps / 2
    nbytes = weights + cache.nbytes * filled / cache.length
    reading = np.ones(weights // 4, np.float32)
    each, rates = [], []
    for _ in range(rounds):
        group.barrier()
        began = time.perf_counter()
        for _ in range(steps):
            tokens = sampler.choose(next_logits(model, tokens[:, np.newaxis], cache), [Place(0, 0)] * batch)
        each.append((time.perf_counter() - began) / steps)
        group.barrier()
        began = time.perf_counter()
        np.dot(reading, reading)
        rates.append(reading.nbytes / (time.perf_counter() - began))
    return float(np.median(each)), nbytes, float(np.median(rates))


def main() -> None:
    """Print a line for each number of ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="virtual ranks to compare")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=4, help="decode steps a round")
    options = parser.parse_args()
    what = options.batch, options.context, options.rounds, options.steps
    for ranks in [None] if mpi.under_mpiexec() else options.ranks:
        results = tpsim.launch(measure, ranks, *what, schedule="free")
        if mpi.rank_of_job() != 0:
            continue
        step, nbytes, bandwidth = max(results)
        bound = nbytes / bandwidth
        print(
            f"t = {len(results)}, batch {options.batch}, context {options.context}: "
            f"{options.batch / step:7.1f} tokens/s; {nbytes / 1e6:.0f} MB a rank at {bandwidth / 1e9:.1f} "
            f"GB/s allow {options.batch / bound:7.1f}; share {bound / step:.2f}"
        )


if __name__ == "__main__":
    main()
