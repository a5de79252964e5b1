"""Exercise 1: a weight is cut by columns and by rows; no communication yet."""

from tpsim.lab.checking import (
    Call,
    Case,
    Cut,
    Deal,
    Draw,
    Each,
    Equals,
    Exercise,
    Mistake,
    Same,
    one_to,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """Cut A both ways, and take each rank's term of X A."""
    a, x = draw(case.inner, case.out), draw(case.rows, case.inner)
    parts = zip(split(x, case.t, 1), split(a, case.t, 0), strict=True)
    swapped = "the axes are mixed up: axis 0 counts the rows, axis 1 the columns"
    return Deal(
        given={"a": Same(a), "x": Same(x)},
        wanted={
            "columns": Cut(a, 1),
            "rows": Cut(a, 0),
            "term": Each([xi @ ai for xi, ai in parts]),
        },
        mistakes={
            "columns": [
                Mistake("wrong axis", swapped, Cut(a, 0)),
                Mistake("every t-th", _STRIDED, Each([a[:, r :: case.t] for r in range(case.t)])),
            ],
            "rows": [
                Mistake("wrong axis", swapped, Cut(a, 1)),
                Mistake("every t-th", _STRIDED, Each([a[r :: case.t] for r in range(case.t)])),
            ],
            "term": [Mistake("whole product", _WHOLE, Same(x @ a))],
        },
    )


_STRIDED = "these are every t-th row or column; a rank's part is one block of neighbours"
_WHOLE = (
    "this is the whole X A: a rank has its own rows of A, and multiplies only the columns of X that meet them"
)

EXERCISE = Exercise(
    number=1,
    name="split_weight",
    title="split a weight by columns and by rows",
    level=1,
    chapter=1,
    sizes={"rows": one_to(3), "inner": per_rank(2), "out": per_rank(2)},
    deal=deal,
    calls=[
        Call("split_columns", takes="a rank ranks", gives="columns"),
        Call("split_rows", takes="a rank ranks", gives="rows"),
        Call("term_of_sum", takes="x rows rank ranks", gives="term"),
    ],
    properties=[
        Equals("columns", 2, "rank r's block of columns of A"),
        Equals("rows", 2, "rank r's block of rows of A"),
        Equals("term", 2, "rank r's term of X A"),
    ],
    hints=(
        "How many columns has each rank? Rank 0 has the first block of so many neighbours, rank 1 the next.",
        "With n = a.shape[1] // ranks, rank r's block of columns begins at column r * n and ends before "
        "(r + 1) * n. For the term: a matrix product sums over the inner index, and each rank sums over its "
        "own stretch of it.",
        "a[:, rank * n : (rank + 1) * n] are the columns. The term is x[:, rank * n : (rank + 1) * n] @ rows "
        "with n = rows.shape[0].",
    ),
)
