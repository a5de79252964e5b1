"""What holds of every layer, as plain functions of a case. Each raises a `Violation` that says what doesn't.

Those in `OF_RUN` are judged on one run of the case; the others start runs of their own. What a layer costs is
judged in `costs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tpsim import nn
from tpsim.comm import run
from tpsim.lab.cases import Array, LayerCase
from tpsim.lab.costs import saves_what_is_written, traffic_is_as_written
from tpsim.lab.magnitude import magnitudes
from tpsim.lab.oracle import Whole, expected
from tpsim.lab.running import Run, joined, part, run_case
from tpsim.lab.tolerance import Error, measure
from tpsim.lab.violation import Violation


def equals_reference(case: LayerCase, ran: Run | None = None) -> list[Error]:
    """y, dx and every parameter gradient equal the unsharded maths, within tolerance, on every rank.

    Whole numbers agree exactly in linears: nothing is rounded there.
    """
    ran = ran or run_case(case)
    want = expected(case)
    return judge(case, ran.outputs(), ran.gradients(), want)


def judge(
    case: LayerCase,
    outputs: dict[str, list[Array]],
    gradients: dict[str, Array],
    want: Whole,
    streams: Sequence[int] = (0,),
) -> list[Error]:
    """Measure all tensors; raise a Violation that names those out of tolerance, in order of the passes.

    `streams` are the draws of x and dy whose gradients are summed.
    """
    if gradients.keys() != want.gradients.keys():
        odd = sorted(gradients.keys() ^ want.gradients.keys())
        raise Violation(f"t = {case.ranks}: layer and reference differ in the parameters {odd}; {case}")

    def terms(name: str) -> float:
        return float(np.sum([np.max(_terms(case, stream).get(name, 0.0)) for stream in streams]))

    found = {**outputs, **{name: [gradient] for name, gradient in gradients.items()}}
    errors: list[Error] = []
    for name, wanted in want.tensors().items():
        copies = [measure(name, got, wanted, case.dtype, partial(terms, name)) for got in found[name]]
        errors.append(max(copies, key=lambda error: error.relative))
    wrong = [error for error in errors if not (error.difference == 0 if case.integers else error.ok)]
    if wrong:
        first, others = wrong[0], [error.tensor for error in wrong[1:]]
        also = f", and so do {', '.join(others)}" if others else ""
        exact = " (whole numbers: must be exact)" if case.integers else ""
        raise Violation(f"t = {case.ranks}: {first}{exact}{also}; {case}")
    return errors


def _terms(case: LayerCase, stream: int) -> dict[str, Array]:
    parameters, x, dy = case.draw(stream)
    wide = {name: value.astype(np.float64) for name, value in parameters.items()}
    return magnitudes(case, wide, x.astype(np.float64), dy.astype(np.float64))


def replicas_agree(case: LayerCase, ran: Run | None = None) -> None:
    """Ranks that hold the same thing hold the same bits of it: y, dx, and gradients after the sum."""
    ran = ran or run_case(case)
    for name, copies in ran.outputs().items():
        _same_bits(case, name, copies, range(len(copies)))
    for name in ran.ranks[0].parameters:
        held: dict[tuple[int, int], list[tuple[int, Array]]] = {}  # by the place along the cut axis
        for rank, one in enumerate(ran.ranks):
            parameter = one.parameters[name]
            if parameter.grad is None:
                raise Violation(f"t = {case.ranks}: {name} has no gradient on rank {rank}; {case}")
            for where, gradient in parameter.placed(parameter.grad):
                held.setdefault((where[-1].start, where[-1].stop), []).append((rank, gradient))
        for copies_of_part in held.values():
            holders, gradients = zip(*copies_of_part, strict=True)
            _same_bits(case, f"the gradient of {name}", gradients, holders)


def _same_bits(case: LayerCase, name: str, copies: Sequence[Array], ranks: Sequence[int]) -> None:
    for rank, copy in zip(ranks, copies, strict=True):
        if not np.array_equal(copy, copies[0], equal_nan=True):
            raise Violation(f"t = {case.ranks}: ranks {ranks[0]} and {rank} hold another {name}; {case}")


OF_RUN: dict[str, Callable[[LayerCase, Run | None], Any]] = {
    "equals_reference": equals_reference,
    "replicas_agree": replicas_agree,
    "traffic_is_as_written": traffic_is_as_written,
    "saves_what_is_written": saves_what_is_written,
}
"""The properties that are judged on one run of a case."""


def equals_one_device(case: LayerCase) -> list[Error]:
    """The layer on t ranks equals the same layer on one: a weaker thing than equalling the reference.

    A mistake that every rank makes alike passes.
    """
    alone = run_case(replace(case, ranks=1))
    (y,), (dx,) = alone.outputs().values()
    ran = run_case(case)
    return judge(case, ran.outputs(), ran.gradients(), Whole(y, dx, alone.gradients()))


def starts_as_one_device(case: LayerCase) -> None:
    """The parameters that t ranks draw are, put together, those that one device draws, bit for bit."""
    alone = {name: p.data for name, p in case.build(None).parameters().items()}
    ranks = run(lambda comm: case.build(case.group(comm)).parameters(), case.ranks)
    shapes = {name: value.shape for name, value in alone.items()}
    if shapes != case.shapes():
        raise Violation(f"t = 1: the parameters are {shapes}, and must be {case.shapes()}; {case}")
    for name, whole in alone.items():
        for rank, parameters in enumerate(ranks):
            for where, mine in parameters[name].placed(parameters[name].data):
                if not np.array_equal(mine, whole[where]) or mine.dtype != case.dtype:
                    raise Violation(f"t = {case.ranks}: rank {rank} starts with another {name}; {case}")
        shards = [parameters[name] for parameters in ranks]
        together = nn.assemble([(p, p.data) for p in shards])
        if not np.array_equal(together, whole):
            raise Violation(f"t = {case.ranks}: the ranks' parts of {name} leave gaps; {case}")


def gradients_accumulate(case: LayerCase) -> list[Error]:
    """Two backward passes add up, with one sum over replicas at the end; `zero_grad` forgets them."""
    x_cut, y_cut = case.cuts()
    first, second = expected(case, stream=1), expected(case, stream=2)

    def main(comm: Any) -> tuple[dict[str, nn.Parameter], Array, Array, bool]:
        layer = case.build(case.group(comm))
        layer.load(case.draw()[0])
        outputs: list[tuple[Array, Array]] = []
        for stream in (0, 1, 2):
            _, x, dy = case.draw(stream)
            outputs.append((layer.forward(part(x, x_cut, comm)), layer.backward(part(dy, y_cut, comm))))
            if stream == 0:
                layer.zero_grad()
                forgotten = all(p.grad is None for p in layer.parameters().values())
        nn.sum_replica_gradients(layer)
        return layer.parameters(), *outputs[-1], forgotten

    ranks = run(main, case.ranks)
    if not all(forgotten for *_, forgotten in ranks):
        raise Violation(f"t = {case.ranks}: gradients are left after zero_grad; {case}")
    total = second._replace(
        gradients={name: first.gradients[name] + grad for name, grad in second.gradients.items()}
    )
    gradients = {
        name: nn.assemble([(parameters[name], parameters[name].grad) for parameters, *_ in ranks])
        for name in ranks[0][0]
    }
    outputs = {
        "y": joined([y for _, y, _, _ in ranks], y_cut),
        "dx": joined([dx for _, _, dx, _ in ranks], x_cut),
    }
    return judge(case, outputs, gradients, total, streams=(1, 2))


def tracing_changes_nothing(case: LayerCase) -> None:
    """A trace only watches: with and without it, y and dx have the same bits."""
    x_cut, y_cut = case.cuts()
    parameters, x, dy = case.draw()

    def main(comm: Any) -> tuple[Array, Array]:
        layer = case.build(case.group(comm))
        layer.load(parameters)
        return layer.forward(part(x, x_cut, comm)), layer.backward(part(dy, y_cut, comm))

    for rank, ((y, dx), traced) in enumerate(zip(run(main, case.ranks), run_case(case).ranks, strict=True)):
        _same_bits(case, "y when traced", [y, traced.y], [rank, rank])
        _same_bits(case, "dx when traced", [dx, traced.dx], [rank, rank])


def check_layer(case: LayerCase) -> list[Error]:
    """Run a case once and judge all of `OF_RUN`; return the errors measured."""
    ran = run_case(case)
    errors = equals_reference(case, ran)
    for holds in OF_RUN.values():
        if holds is not equals_reference:
            holds(case, ran)
    return errors
