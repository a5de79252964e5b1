"""Patient 9: gathered logits are given to the vocabulary-parallel loss."""

import numpy as np

from tpsim.lab.bughunt.patient import Patient
from tpsim.lab.checking import (
    Call,
    Case,
    Collective,
    Cut,
    Deal,
    Draw,
    Equals,
    Exercise,
    Mistake,
    Same,
    Sends,
    one_to,
    per_rank,
)


def deal(case: Case, draw: Draw) -> Deal:
    """loss = log Σ exp(x E) − (x E)_target."""
    x, e = draw.normal(case.tokens, case.hidden), draw.normal(case.hidden, case.words)
    targets = draw.integers(0, case.words - 1, case.tokens)
    logits = x @ e
    loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(case.tokens), targets]
    return Deal(
        given={"x": Same(x), "e": Cut(e, 1), "targets": Same(targets)},
        wanted={"loss": Same(loss)},
        mistakes={
            "loss": [Mistake("log t too large", "every word is counted t times", Same(loss + np.log(case.t)))]
        },
        traffic={"token_loss": [Collective("all_reduce", (case.tokens,))] * 3},
    )


PATIENT = Patient(
    exercise=Exercise(
        number=9,
        name="token_loss",
        title="the output layer and the loss of each token",
        level=3,
        chapter=6,
        sizes={"tokens": one_to(3), "hidden": one_to(3), "words": per_rank(3)},
        deal=deal,
        calls=[Call("token_loss", "x e targets group", "loss")],
        properties=[Equals("loss", 4, "log Σ exp(x) − x_target, on every rank"), Sends("token_loss")],
        hints=(
            "The loss is too large by the same number for every token, 0.6931 on two ranks and 1.386 on "
            "four. What are exp(0.6931) and exp(1.386)?",
            "exp(loss) is t times too large: Σ exp has every word t times. Who sums words, and how many "
            "words does each rank bring? Look at the shapes in the table.",
            "The loss is written for this rank's logits and is given all of them. token_loss must not "
            "gather: gather=False.",
        ),
    ),
    bug="loss-of-gathered-logits",
    threads=("NVIDIA/Megatron-LM#7452",),
    story="The second of a list of silent mistakes where Megatron Core's options meet: with gathered logits "
    "(parallel_output=False, meant for inference) and labels passed, GPTModel still calls the "
    "vocabulary-parallel loss. Each rank brings all words, so Σ exp is t times too large; the target is "
    "found on rank 0 alone, so it is counted once. Loss = the right one + log t: a curve of a good shape, "
    "only too high, with wrong gradients.",
    fails="loss",
    kind="log t too large",
    shown={"tokens": 3, "hidden": 3, "words": 8},
)
