"""The ways in which distributed values go wrong, as wrong values: what the ranks have, recognised.

Each is a guess: on small numbers several may give the same. The checker keeps the one that explains most of
the cases that failed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tpsim.lab.checking.case import Case
from tpsim.lab.checking.exercise import Deal, Mistake
from tpsim.lab.checking.placing import Array, Cut, Each, Placed, Same, Sum


def all_mistakes(name: str, case: Case, deal: Deal) -> Iterator[Mistake]:
    """Yield the exercise's own mistakes with a value, then those that follow from where it lies."""
    yield from deal.mistakes.get(name, ())
    placed = deal.wanted[name]
    if case.t > 1:
        if isinstance(placed, Sum):
            yield from _of_sums(placed, case.t)
        else:
            yield from _of_ranks(placed, case.t)
    yield from _of_arrays(placed, case.t)
    for other, value in deal.wanted.items():
        if other != name:
            why = f"it is what {other} must be: is the order of `return` the docstring's?"
            yield Mistake("another result", why, value)


def _of_sums(placed: Sum, t: int) -> Iterator[Mistake]:
    total = placed.total
    reduce = "all-reduce" if placed.axis is None else "reduce-scatter"
    missing = f"each rank has its own term only: the sum over ranks is missing ({reduce})"
    parts = (
        placed.terms
        if placed.axis is None
        else [Cut(term, placed.axis).on(r, t) for r, term in enumerate(placed.terms)]
    )
    yield Mistake("missing sum", missing, Each([part + _plus(placed, r, t) for r, part in enumerate(parts)]))
    yield Mistake("missing sum", missing, Each(parts))
    averaged = f"it is the mean over the {t} ranks: each term counts fully, so sum, and do not divide by t"
    yield Mistake("averaged", averaged, placed.finish(total / t))
    twice = f"it is summed twice: the second sum adds up {t} values that are whole already"
    yield Mistake("summed twice", twice, placed.finish(total * t))
    yield Mistake("summed twice", twice, Each([t * placed.on(r, t) for r in range(t)]))
    largest = np.max(np.stack(list(placed.terms)), axis=0)
    yield Mistake(
        "max, not sum", 'it is the largest of the ranks\' terms: reduce with op="sum"', placed.finish(largest)
    )
    if placed.axis is not None:
        reverse = Each([placed.on(t - 1 - r, t) for r in range(t)])
        yield Mistake("another rank's part", "it is another rank's part: rank r has the r-th", reverse)


def _plus(placed: Sum, rank: int, t: int) -> Array:
    zero = Sum([term * 0 for term in placed.terms], placed.plus, placed.axis)
    return zero.on(rank, t)


def _of_ranks(placed: Placed, t: int) -> Iterator[Mistake]:
    each = [np.asarray(placed.on(r, t)) for r in range(t)]
    if not all(np.issubdtype(part.dtype, np.number) and part.shape == each[0].shape for part in each):
        return
    if isinstance(placed, Same):
        why = f"every rank has it whole already: summed over the ranks, it is {t} times too large"
        yield Mistake("summed needlessly", why, Each([t * part for part in each]))
        yield Mistake(
            "averaged",
            f"it is {t} times too small: nothing is to be divided by t",
            Each([part / t for part in each]),
        )
        return
    total = sum(each[1:], each[0])
    why = "the ranks' parts are added together, and each is a part of its own: nothing is to be summed here"
    yield Mistake("summed needlessly", why, Same(total))
    yield Mistake("averaged", "the mean over ranks of parts that are each rank's own", Same(total / t))
    why = f"it is {t} times too small: nothing is to be divided by t"
    yield Mistake("averaged", why, Each([part / t for part in each]))
    other = "it is another rank's part: rank r has the r-th"
    yield Mistake("another rank's part", other, Each([each[0]] * t))
    yield Mistake("another rank's part", other, Each(each[::-1]))
    yield Mistake("another rank's part", other, Each([*each[1:], each[0]]))


def _of_arrays(placed: Placed, t: int) -> Iterator[Mistake]:
    each = [np.asarray(placed.on(r, t)) for r in range(t)]
    if not all(np.issubdtype(part.dtype, np.number) for part in each):
        return
    yield Mistake("zeros", "it is all zeros: was it never filled in?", Each([part * 0 for part in each]))
    yield Mistake("sign", "its sign is wrong", Each([-part for part in each]))
    if all(part.ndim == 2 for part in each):
        yield Mistake("transposed", "it is transposed", Each([part.T for part in each]))
