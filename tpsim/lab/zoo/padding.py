"""Words that are not there, sampled all the same."""

from __future__ import annotations

from tpsim import nn
from tpsim.lab.sampling import heads, pads_never_win
from tpsim.lab.zoo.bug import Bug
from tpsim.nn.layer import Array


class UnmaskedHead(nn.LMHead):
    """Padding is rows of 0, so what could its logits do?"""

    def forward(self, x: Array) -> Array:
        """[b, s, h] → [b, s, V/t]."""
        logits = super().forward(x)
        logits[..., self.rows.real :] = 0  # what x times a row of 0 is
        return logits


BUGS = [
    Bug(
        number=17,
        name="pads-win",
        title="logits of padding are not masked: they stay 0",
        goes_wrong="where all real logits are below 0, a word is sampled that no tokenizer has; one real "
        "logit above 0 hides it, and so does a vocabulary that the ranks divide.",
        seen_in=("tt-metal#47021",),
        replaces="tpsim.nn.embedding.LMHead",
        patient=UnmaskedHead,
        caught_by=pads_never_win,
        cases=heads,
    ),
]
