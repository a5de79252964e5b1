"""Fit positive numbers so that modelled times match measured ones, by ratio."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_STEP = 1e-4  # relative, of the differences that stand for derivatives
_SCALE = 0.1  # an error from which on a row counts as an outlier
_PULL = 0.02  # towards the start: decides where the rows don't


def fit(predict: Callable[[Array], Array], measured: Array, start: Array, *, rounds: int = 60) -> Array:
    """Return the numbers whose predictions lie nearest to what was measured.

    Levenberg and Marquardt's damped least squares on log(predicted / measured), in the logarithms of the
    numbers: an error of 5 % weighs the same in a long row and a short one, and every number stays positive.
    Rows further off than 10 % weigh less and less (Cauchy's loss), so that a bad measurement does not bend
    the rest. Numbers on which no row depends stay where they start.

    Parameters
    ----------
    predict : callable
        Times [rows] from numbers [n].
    measured : array, shape [rows]
    start : array, shape [n]
        All positive.
    rounds : int
        Steps tried.
    """

    origin = np.log(start)

    def residuals(logs: Array) -> Array:
        return np.log(predict(np.exp(logs)) / measured)

    def loss(logs: Array, r: Array) -> float:
        return float(np.log1p((r / _SCALE) ** 2).sum() + _PULL * ((logs - origin) ** 2).sum())

    logs, damping = origin, 1e-2
    r = residuals(logs)
    for _ in range(rounds):
        shifts = _STEP * np.eye(len(logs))
        jacobian = np.stack(
            [(residuals(logs + s) - residuals(logs - s)) / (2 * _STEP) for s in shifts], axis=1
        )
        weights = 1 / (_SCALE**2 + r**2)
        normal = jacobian.T @ (weights[:, None] * jacobian) + _PULL * np.eye(len(logs))
        gradient = jacobian.T @ (weights * r) + _PULL * (logs - origin)
        while damping < 1e8:
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), gradient)
            tried = logs - np.clip(step, -1, 1)
            after = residuals(tried)
            if loss(tried, after) < loss(logs, r):
                logs, r, damping = tried, after, damping / 5
                break
            damping *= 5
        else:
            break
    return np.exp(logs)
