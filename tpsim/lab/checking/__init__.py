'''How exercises are written, run and judged.

An exercise is a folder `eNN_name/` of `tpsim/lab/exercises/` (or of a teacher's own folder) with

- `__init__.py`: `EXERCISE = Exercise(...)`, the registration: sizes, what each rank is given and must return,
  and what is judged;
- `task.py`: what the student gets: a docstring that states the task and its contract (shapes, collectives,
  bytes), and functions that `raise NotImplementedError`;
- `solution.py`, and `other.py`, a right solution of another kind;
- `wrong_*.py`: three or more wrong ones. Each says in module constants which property must fail first, and as
  what kind of mistake: `FAILS = "y"`, `SAYS = "bias t times"`; and `SMALLEST = "t = 3"` where two ranks are
  not enough to see it. A property's name is "y" for `Equals("y")`,
  "backward calls" for `Calls("backward")`, and likewise "backward sends", "saved keeps", "backward takes".

Nothing else has to be told of a new exercise: the lab, the grader and the tests find it by its folder;
`pytest tests/test_lab.py -k row_bias` judges one's submissions, right and wrong.

A whole registration::

    """Exercise 2: the row-parallel linear."""

    from tpsim.lab.checking import (
        Call, Calls, Case, Collective, Cut, Deal, Draw, Equals, Exercise, Mistake, Same, Sends, Sum,
        one_to, per_rank, split,
    )

    def deal(case: Case, draw: Draw) -> Deal:
        """y = X A + b: X is cut by columns, A by rows."""
        x, a, b = draw(case.rows, case.inner), draw(case.inner, case.out), draw(case.out)
        terms = [xi @ ai for xi, ai in zip(split(x, case.t, 1), split(a, case.t, 0), strict=True)]
        return Deal(
            given={"x": Cut(x, 1), "a": Cut(a, 0), "b": Same(b)},
            wanted={"y": Sum(terms, plus=b)},
            mistakes={"y": [Mistake("bias t times", "every rank adds b …", Same(x @ a + case.t * b))]},
            traffic={"row_linear": [Collective("all_reduce", (case.rows, case.out))]},
        )

    EXERCISE = Exercise(
        number=2, name="row_bias", title="…", level=1, chapter=1,
        sizes={"rows": one_to(3), "inner": per_rank(2), "out": one_to(3)},
        deal=deal,
        calls=[Call("row_linear", takes="x a b group", gives="y")],
        properties=[Equals("y", 3, "X A + b"), Calls("row_linear"), Sends("row_linear")],
        hints=("…", "…", "…"),
    )

Reference
---------
- Sizes: `one_to(n)`, `per_rank(n)` (t times 1 to n), a list of values, or a function `(draw, t) -> dict`.
  Read as `case.rows`; also `case.t`, `case.dtype`, `case.itemsize`.
- Numbers: `draw(rows, out)` whole numbers ±1 … ±4, `draw.normal(*shape)`,
  `draw.integers(least, most, *shape)`. Compute what is wanted from them in float64, with plain NumPy or
  `tpsim.reference`.
- What lies where: `Same(value)` whole on every rank, `Cut(array, axis)`, `Each([one a rank])`,
  `Sum(terms, plus=0, axis=None)`: the sum of the ranks' terms on every rank (cut along `axis`: what a
  reduce-scatter gives). Use `Sum` where a sum over ranks is wanted, since then "the sum is missing",
  "averaged" and "summed twice" are recognised without your doing.
- Calls: made in order on every rank. `takes` names what was given, what earlier calls returned, `group`,
  `rank` and `ranks`; `gives` names what is returned (several: a tuple). What a forward keeps for its
  backward is a value like any other: `Call("forward", "x a group", "y saved")`, then
  `Call("backward", "dy saved group", "dx")`.
- Properties, each with points; the most telling first: `Equals(value, points, means)`, `Calls(function)` the
  collectives by name and count, `Sends(function)` at most the contract's bytes (by the ring) on each rank,
  `Keeps(value, most)` at most `most(case)` bytes kept for backward, `Takes(function, most)` at most that
  share of the time that its collectives and products take one after another on a device (the function then
  takes `matmul`, and the deal says its `products`). One of your own is an object with `name`,
  `says`, `points` and `judge(case, deal, ran)` that raises `WrongError(what, {kind: why})`.
- Kinds of mistake. Of values: your own `Mistake`s; "missing sum", "averaged", "summed twice", "max, not sum",
  "summed needlessly", "another rank's part", "another result", "transposed", "sign", "zeros"; "shape",
  "dtype", "not finite", "nothing returned", "not an array"; "value" for all else. Of costs: "missing
  collective", "collective too many", "wrong collective", "too many bytes", "too much kept", "view kept",
  "not hidden", "products unseen". Of runs that stop: "not implemented", "input changed", "deadlock", "ranks
  disagree", "left unfinished", "forbidden", "shapes do not fit", "arguments", "results", "exception". Of
  several that give the same numbers, the one that explains most of the failing cases is told, then the first.
- `check_file(exercise, path)` judges a file here; `check(exercise, runner)` with whatever runs it.
'''

from tpsim.lab.checking.case import Array, Case, Draw, one_to, per_rank
from tpsim.lab.checking.check import Result, Verdict, check, check_file
from tpsim.lab.checking.exercise import Collective, Deal, Exercise, MissingError, Mistake, Property
from tpsim.lab.checking.find import exercises, submissions
from tpsim.lab.checking.finding import Finding, WrongError
from tpsim.lab.checking.gates import Calls, Keeps, Sends
from tpsim.lab.checking.placing import Cut, Each, Placed, Same, Sum, split
from tpsim.lab.checking.run import Call, LocalRunner, Ran, RankRun, Runner, held, on_rank
from tpsim.lab.checking.stop import Stop, stopped
from tpsim.lab.checking.timing import Takes
from tpsim.lab.checking.values import Equals

__all__ = [
    "Array",
    "Call",
    "Calls",
    "Case",
    "Collective",
    "Cut",
    "Deal",
    "Draw",
    "Each",
    "Equals",
    "Exercise",
    "Finding",
    "Keeps",
    "LocalRunner",
    "MissingError",
    "Mistake",
    "Placed",
    "Property",
    "Ran",
    "RankRun",
    "Result",
    "Runner",
    "Same",
    "Sends",
    "Stop",
    "Sum",
    "Takes",
    "Verdict",
    "WrongError",
    "check",
    "check_file",
    "exercises",
    "held",
    "on_rank",
    "one_to",
    "per_rank",
    "split",
    "stopped",
    "submissions",
]
