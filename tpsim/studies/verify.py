"""Draw configurations of every layer on this machine, and check that they equal the unsharded maths."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis.strategies import SearchStrategy

from tpsim.lab.clipping import clips_as_one_device
from tpsim.lab.collectives import collectives, collectives_are_exact
from tpsim.lab.costs import saves_what_papers_say, sequence_parallelism_sends_as_much
from tpsim.lab.decoding import a_cache_changes_nothing, decodes, ranks_choose_alike, samples
from tpsim.lab.kv_heads import caches, kv_heads_are_counted_once
from tpsim.lab.masking import dropouts, drops_the_same
from tpsim.lab.notes import nothing_left_behind
from tpsim.lab.properties import (
    check_layer,
    equals_one_device,
    gradients_accumulate,
    starts_as_one_device,
)
from tpsim.lab.refusals import is_refused, refusals
from tpsim.lab.sampling import heads, pads_never_win
from tpsim.lab.strategies import LAYERS, blocks, layers, paper_blocks
from tpsim.lab.tolerance import Error
from tpsim.lab.vocabulary import (
    ends,
    ends_equal_reference,
    loss_equals_reference,
    losses,
    mean_is_over_valid_tokens,
    means,
)
from tpsim.lab.zoo import Bug
from tpsim.lab.zoo import planted as planting

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Check:
    """A property, the cases to draw for it, and its share of all cases."""

    name: str
    share: float
    cases: Callable[..., SearchStrategy[Any]]
    holds: Callable[[Any], Any]


def _blocks_under_sp(ranks: Sequence[int]) -> SearchStrategy[Any]:
    return blocks(ranks=ranks, sequence_parallel=True)


_SHARES = dict(zip(LAYERS, (0.06, 0.06, 0.04, 0.03, 0.08, 0.11, 0.12), strict=True))

CHECKS = [
    Check("collectives are exact", 0.04, collectives, collectives_are_exact),
    *(Check(name, _SHARES[name], cases, check_layer) for name, cases in LAYERS.items()),
    Check("ranks start as one device", 0.04, layers, starts_as_one_device),
    Check("ranks equal one device", 0.03, layers, equals_one_device),
    Check("gradients accumulate", 0.03, layers, gradients_accumulate),
    Check("Embedding and LMHead", 0.05, ends, ends_equal_reference),
    Check("pads never win", 0.02, heads, pads_never_win),
    Check("cross-entropy", 0.06, losses, loss_equals_reference),
    Check("mean over valid tokens", 0.02, means, mean_is_over_valid_tokens),
    Check("kv heads are counted once", 0.03, caches, kv_heads_are_counted_once),
    Check("a cache changes nothing", 0.03, decodes, a_cache_changes_nothing),
    Check("ranks choose alike", 0.01, samples, ranks_choose_alike),
    Check("dropout and recompute", 0.05, dropouts, drops_the_same),
    Check("clips as one device", 0.02, blocks, clips_as_one_device),
    Check("saved bytes are the papers'", 0.03, paper_blocks, saves_what_papers_say),
    Check("SP sends as much as TP", 0.01, _blocks_under_sp, sequence_parallelism_sends_as_much),
    Check("what can't be is refused", 0.03, refusals, is_refused),
]
"""From the smallest thing to the largest, so that what fails first is simplest."""

MEASURED = {check_layer, ends_equal_reference, loss_equals_reference, drops_the_same}
"""What returns errors against the reference."""


@dataclass(frozen=True)
class WorstError:
    """The worst error of one tensor of one layer: relative as its tolerance is."""

    layer: str
    tensor: str
    dtype: str
    relative: float
    tolerance: float
    cases: int


@dataclass(frozen=True)
class Failure:
    """The smallest case that was found to fail.

    Attributes
    ----------
    check : str
        What was checked: a layer's name, or a property.
    case : str
        The call that makes the case.
    kind, message : str
        The exception, and what it says.
    """

    check: str
    case: str
    kind: str
    message: str


@dataclass
class VerifyResult:
    """What `verify` found.

    Attributes
    ----------
    worst : list of WorstError
        One for each layer, tensor and dtype.
    by_check : dict
        How many cases each check had, those of the search for the smallest failing one included.
    seconds : float
    failure : Failure or None
    """

    ranks: tuple[int, ...]
    seed: int
    worst: list[WorstError] = field(default_factory=list)
    by_check: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    failure: Failure | None = None

    @property
    def cases(self) -> int:
        """Return how many cases were checked."""
        return sum(self.by_check.values())

    @property
    def ok(self) -> bool:
        """Whether no case failed."""
        return self.failure is None

    def by_tensor(self) -> list[WorstError]:
        """Return the worst errors over all layers: a block's parts count as the layers they are."""
        worst: dict[tuple[str, str], WorstError] = {}
        for error in self.worst:
            tensor = _without_parts(error.tensor)
            other = worst.get((tensor, error.dtype))
            cases = error.cases + (other.cases if other else 0)
            larger = other if other and other.relative > error.relative else error
            worst[tensor, error.dtype] = WorstError(
                larger.layer, tensor, error.dtype, larger.relative, error.tolerance, cases
            )
        return list(worst.values())

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self) | {"ranks": list(self.ranks), "cases": self.cases, "ok": self.ok}


def verify(
    ranks: Sequence[int] = (1, 2, 3, 4, 8),
    cases: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
    planted: Bug | None = None,
) -> VerifyResult:
    """Check all properties of all layers on drawn cases; stop at the first check that fails.

    Parameters
    ----------
    ranks : sequence of int
        Numbers of ranks to draw from.
    cases : int
        How many to draw in all, shared out among the checks; each gets one at least.
    seed : int
        The same seed draws the same cases.
    progress : callable, optional
        Called as `progress(done, total, check)` after each case, up to the first that fails.
    planted : Bug, optional
        A bug of the zoo to plant: to see what a failure looks like.

    Returns
    -------
    VerifyResult

    Raises
    ------
    ValueError
        If there are no ranks or no cases to draw.
    """
    if not ranks or min(ranks) < 1:
        raise ValueError(
            f"verify: ranks {list(ranks)} are no numbers of ranks; pass 1 or more, such as 1, 2, 4"
        )
    if cases < 1:
        raise ValueError(f"verify: {cases} cases check nothing; pass 1 or more")
    result = VerifyResult(tuple(sorted(set(ranks))), seed)
    numbers = [max(1, round(check.share * cases)) for check in CHECKS]
    total = sum(numbers)
    worst: dict[tuple[str, str, str], WorstError] = {}
    began = time.perf_counter()

    def passed(check: Check, errors: list[Error]) -> None:
        for error in errors:
            key = check.name, error.tensor, error.dtype
            worst[key] = _worse(worst.get(key), check.name, error)
        if progress:
            progress(min(sum(result.by_check.values()), total), total, check.name)

    with planting(planted) if planted else nullcontext(), nothing_left_behind():
        for check, number in zip(CHECKS, numbers, strict=True):
            _draw(check, number, result, passed)
            if result.failure:
                break
    if progress and result.ok:
        progress(total, total, "")
    result.worst = list(worst.values())
    result.seconds = time.perf_counter() - began
    return result


def _draw(
    check: Check, number: int, result: VerifyResult, passed: Callable[[Check, list[Error]], None]
) -> None:
    """Check `number` cases; after a failure, hypothesis goes on to look for a smaller one."""

    @hypothesis.seed(result.seed)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(check.cases(ranks=result.ranks))
    def judge(case: Any) -> None:
        result.by_check[check.name] = result.by_check.get(check.name, 0) + 1
        try:
            errors = check.holds(case)
        except Exception as error:
            # The last one to fail is the smallest: hypothesis runs it once more before it raises.
            result.failure = Failure(check.name, str(case), type(error).__name__, str(error))
            raise
        if not result.failure:
            passed(check, errors if check.holds in MEASURED else [])

    try:
        judge()
    except Exception:
        if not result.failure:
            raise


def _worse(known: WorstError | None, layer: str, error: Error) -> WorstError:
    relative, cases = (known.relative, known.cases) if known else (0.0, 0)
    return WorstError(
        layer, error.tensor, error.dtype, max(relative, error.relative), error.tolerance, cases + 1
    )


def _without_parts(tensor: str) -> str:
    """Return "qkv.weight" for "attention.qkv.weight", "norm.weight" for "norm1.weight"."""
    for part, short in (("attention.", ""), ("mlp.", ""), ("norm1.", "norm."), ("norm2.", "norm.")):
        if tensor.startswith(part):
            return short + tensor.removeprefix(part)
    return tensor
