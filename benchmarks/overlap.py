"""How much of a backward's communication hides behind its GEMMs: mpiexec -n 2 python benchmarks/overlap.py

Backward of a column-parallel linear, plain and with each overlap. "waits" is the time in `Handle.wait`: what
is left of the communication when a rank has nothing else to do. "hidden" is the share of the plain layer's
waits that is gone. Whether a backward gets faster, only "ms" tells: cutting GEMMs costs, and between
processes of one machine it is the ranks' own cores that carry messages, in `Handle.test` as in `wait`.

Ways take turns, so that a noisy machine is noisy for all; the numbers are medians over rounds, of the slowest
rank in each.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tpsim
from tpsim.comm import Group, Handle, mpi
from tpsim.functional import linear_grad_input, linear_grad_weight
from tpsim.nn import ColumnParallelLinear, own_slice
from tpsim.nn.overlap_decomposed import DecomposedColumnParallelLinear
from tpsim.nn.overlap_dw import OverlappedColumnParallelLinear
from tpsim.nn.polling import cut_into

Array = NDArray[Any]


class GemmsAlone(ColumnParallelLinear):
    """The plain layer without its communication: dX is this rank's share."""

    def backward(self, dy: Array) -> Array:
        """[b, s, out/t] → [b, s, in]."""
        dweight, _ = linear_grad_weight(self.take("x"), dy)
        self.weight.add_grad(dweight)
        return linear_grad_input(self.weight.data, dy)


class Waits:
    """Measures the time that this rank spends in `Handle.wait`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        wait = Handle.wait

        def timed(handle: Handle) -> Array:
            began = time.perf_counter()
            result = wait(handle)
            self.seconds += time.perf_counter() - began
            return result

        setattr(Handle, "wait", timed)  # noqa: B010  # a method can't be assigned to, for mypy


Way = tuple[type[ColumnParallelLinear], int]


def ways(sequence_parallel: bool, pieces: Sequence[int]) -> dict[str, Way]:
    """Return each way's layer and number of pieces, by its name."""
    cut: dict[str, type[ColumnParallelLinear]] = {"dw": OverlappedColumnParallelLinear}
    if sequence_parallel:
        cut["decomposed"] = DecomposedColumnParallelLinear
    plain: dict[str, Way] = {"GEMMs alone": (GemmsAlone, 1), "plain": (ColumnParallelLinear, 1)}
    return plain | {f"{name}, cut into {n}": (kind, n) for name, kind in cut.items() for n in pieces}


def main(comm: Any, options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Return each way's medians for one backward: seconds, and how many of them in waits."""
    group, rng, waits = Group(comm, check=options.check), np.random.default_rng(comm.Get_rank()), Waits()
    tokens, width, out = options.tokens, options.hidden, options.out
    how = {"keep_gathered": options.keep_gathered, "bias": False}
    x = rng.standard_normal((1, tokens, width), dtype=np.float32)
    dy = rng.standard_normal((1, tokens, out // group.size), dtype=np.float32)
    inputs, layers = {}, {}
    each = ways(options.sequence_parallel, options.pieces)
    for name, (make, _) in each.items():
        sp = options.sequence_parallel and name != "GEMMs alone"
        inputs[name] = own_slice(x, group) if sp else x
        layers[name] = make(width, out, group, sequence_parallel=sp, **how)

    found: dict[str, list[Array]] = {name: [] for name in layers}
    names = list(layers)
    for turn in range(options.rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            layer = layers[name]
            layer.zero_grad()
            layer.forward(inputs[name])
            group.barrier()
            waits.seconds, began = 0.0, time.perf_counter()
            with cut_into(each[name][1]):
                layer.backward(dy)
            took = np.array([time.perf_counter() - began, waits.seconds])
            found[name].append(group.all_reduce(took, "max"))
    # The first round warms up.
    medians = {name: np.median(rounds[1:], axis=0) for name, rounds in found.items()}
    return {name: (float(seconds), float(waited)) for name, (seconds, waited) in medians.items()}


def report(medians: dict[str, tuple[float, float]]) -> None:
    """Print a row a way."""
    plain = medians["plain"][1]
    print(f"{'':<24}{'ms':>8}{'waits':>8}{'hidden':>9}")
    for name, (seconds, waited) in medians.items():
        print(f"{name:<24}{1e3 * seconds:8.1f}{1e3 * waited:8.1f}{1 - waited / plain:9.0%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=2048, help="b·s")
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--out", type=int, default=1024, help="columns of the whole weight")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--pieces", type=int, nargs="+", default=[1, 2, 4, 8], help="of a GEMM")
    parser.add_argument("--sequence-parallel", action="store_true")
    parser.add_argument("--keep-gathered", action="store_true", help="don't gather x again in backward")
    parser.add_argument("--check", action=argparse.BooleanOptionalAction, default=True, help="as Group's")
    options = parser.parse_args()
    if not mpi.under_mpiexec():
        parser.error(
            "virtual ranks share one process: there is nothing to measure; start it with mpiexec -n 2"
        )
    medians = tpsim.launch(main, None, options)[0]
    if mpi.rank_of_job() == 0:
        report(medians)
