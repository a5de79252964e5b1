"""Dropout by a given mask."""

from tpsim.dry import kernel
from tpsim.functional.narrow import Array, in_float32


@kernel
@in_float32()
def dropout(x: Array, keep: Array, rate: float) -> Array:
    """Inverted dropout by a given mask, `y = x·keep/(1 − rate)`.

    Parameters
    ----------
    x : Array
        Any shape.
    keep : Array
        Booleans of x's shape.
    rate : float
        The share of entries that are dropped; dividing by the share that is kept leaves the mean as it was.

    References
    ----------
    Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", section 10.
    """
    y: Array = x * keep
    y *= 1 / (1 - rate)
    return y


def dropout_grad(keep: Array, rate: float, dy: Array) -> Array:
    """Backward of `dropout`, which is linear in x and multiplies each entry: the same once more."""
    return dropout(dy, keep, rate)
