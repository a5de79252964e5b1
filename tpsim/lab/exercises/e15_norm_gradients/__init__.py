"""Exercise 15: gradients of norms and row biases under sequence parallelism, summed in one all-reduce."""

from tpsim.lab.checking import (
    Array,
    Call,
    Calls,
    Case,
    Collective,
    Cut,
    Deal,
    Draw,
    Each,
    Equals,
    Exercise,
    Mistake,
    Sends,
    Sum,
    one_to,
    per_rank,
    split,
)


def deal(case: Case, draw: Draw) -> Deal:
    """y = γ·x̂ + β and z = … + bias are cut along the sequence: each rank has its own tokens' shares."""
    shape = case.batch, case.seq, case.hidden
    normed, dy, dz = draw(*shape), draw(*shape), draw(case.batch, case.seq, case.out)
    shares = {
        "dgamma": _shares(normed * dy, case.t),
        "dbeta": _shares(dy, case.t),
        "dbias": _shares(dz, case.t),
    }
    return Deal(
        given={"normed": Cut(normed, 1), "dy": Cut(dy, 1), "dz": Cut(dz, 1)},
        wanted={
            **{name: Each(mine) for name, mine in shares.items()},
            **{f"all_{name}": Sum(mine) for name, mine in shares.items()},
        },
        mistakes={
            **{
                name: [Mistake("mean over tokens", _MEAN, _mean(mine, case))] for name, mine in shares.items()
            },
            "dgamma": [
                Mistake("x̂ missing", "γ multiplies x̂: dγ = Σ dy · x̂", Each(shares["dbeta"])),
                Mistake("mean over tokens", _MEAN, _mean(shares["dgamma"], case)),
            ],
        },
        traffic={"finish": [Collective("all_reduce", (2 * case.hidden + case.out,))]},
    )


def _shares(of_tokens: Array, t: int) -> list[Array]:
    """Return each rank's sum over its own tokens."""
    return [part.sum(axis=(0, 1)) for part in split(of_tokens, t, 1)]


def _mean(sums: list[Array], case: Case) -> Each:
    tokens = case.batch * case.seq // case.t
    return Each([mine / tokens for mine in sums])


_MEAN = "every token adds its share: sum over them; a mean, if there is one, was taken in the loss"

EXERCISE = Exercise(
    number=15,
    name="norm_gradients",
    title="norms under sequence parallelism: sum their gradients, once",
    level=4,
    chapter=7,
    sizes={"batch": one_to(2), "seq": per_rank(2), "hidden": one_to(3), "out": one_to(2)},
    deal=deal,
    calls=[
        Call("shares", takes="normed dy dz", gives="dgamma dbeta dbias"),
        Call("finish", takes="dgamma dbeta dbias group", gives="all_dgamma all_dbeta all_dbias"),
    ],
    properties=[
        Equals("dgamma", 1, "Σ dy · x̂ over this rank's tokens"),
        Equals("dbeta", 1, "Σ dy over this rank's tokens"),
        Equals("dbias", 1, "Σ dz over this rank's tokens"),
        Equals("all_dgamma", 2, "Σ dy · x̂ over all tokens, on every rank"),
        Equals("all_dbeta", 1, "Σ dy over all tokens, on every rank"),
        Equals("all_dbias", 1, "Σ dz over all tokens, on every rank"),
        Calls("finish", 2),
        Sends("finish"),
    ],
    hints=(
        "One device would sum dy · x̂ over all tokens. A rank has the tokens of its part of the sequence. "
        "What is missing, and is it divided by anything?",
        "Join the three gradients into one flat array, all-reduce that, and cut the result up again: "
        "np.concatenate and np.split.",
        "dgamma = (dy * normed).sum(axis=(0, 1)), and so on. h = len(dgamma); flat = group.all_reduce("
        "np.concatenate([dgamma, dbeta, dbias])); return flat[:h], flat[h : 2 * h], flat[2 * h :].",
    ),
)
