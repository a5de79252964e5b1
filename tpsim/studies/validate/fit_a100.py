"""Fit one number of the a100 profile: `python -m tpsim.studies.validate.fit_a100`.

The profile is the H200's, carried over by the data sheets' ratios. What share of its peak a large product
reaches for long is a matter of device, library and power, so that is fitted to the eight iteration times of
table 5. Also printed are the errors with nothing fitted (the H200's share, and its power cap), and those of
each model when fitted to the other three. All profiles that are carried over are written again: run it
whenever the h200 profile has changed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from tpsim.cost.fit.carry import SHARES, carried, share_of_peak, write
from tpsim.cost.fit.search import Array, fit
from tpsim.cost.fit.section import PROFILES
from tpsim.cost.hardware import from_dict
from tpsim.studies.validate.iterations import Run, runs
from tpsim.studies.validate.pipeline import iteration

SOURCE = (
    "rate: the share of the peak fitted to eight iteration times of A100s, Korthikanti et al. 2022, table 5, "
    "by tpsim.studies.validate.fit_a100."
)


def fitted_share(these: Sequence[Run]) -> float:
    """Return the share of the peak with which the iteration times of these runs come out best."""
    base = json.loads((PROFILES / "h200.json").read_text(encoding="utf-8"))
    measured = np.array([run.seconds for run in these])
    return float(
        fit(lambda share: times(these, float(share[0])), measured, np.array([share_of_peak(base)]))[0]
    )


def times(these: Sequence[Run], share: float | None) -> Array:
    """Return the modelled times of runs, with a share of the peak or with the H200's."""
    hardware = from_dict(carried("a100", share))
    return np.array([iteration(run.job, hardware).total for run in these])


def errors(these: Sequence[Run], share: float | None) -> Array:
    """Return modelled over measured times, less 1."""
    errors: Array = times(these, share) / np.array([run.seconds for run in these]) - 1
    return errors


def unseen() -> Array:
    """Return the errors of each model's runs, with the share fitted to the other models' runs."""
    everything = list(runs())
    found = []
    for name in dict.fromkeys(run.model for run in everything):
        share = fitted_share([run for run in everything if run.model != name])
        found.append(errors([run for run in everything if run.model == name], share))
    return np.concatenate(found)


def _line(what: str, found: Array) -> str:
    size = np.abs(found)
    each = " ".join(f"{error:+6.1%}" for error in found)
    return f"{what:28s} mean {size.mean():.2%}  worst {size.max():.2%}   {each}"


if __name__ == "__main__":
    all_runs = list(runs())
    share = float(f"{fitted_share(all_runs):.4g}")
    SHARES.write_text(
        json.dumps({"a100": {"gemm": share, "source": SOURCE}}, indent=1) + "\n", encoding="utf-8"
    )
    write()
    print(f"share of the peak: {share}")
    print(_line("nothing fitted", errors(all_runs, None)))
    print(_line("fitted", errors(all_runs, share)))
    print(_line("each model when not fitted to", unseen()))
