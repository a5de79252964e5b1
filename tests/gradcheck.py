"""Check hand-derived gradients against differences of the function itself."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from tpsim.functional import Array

STEP = 2.0**-14


def assert_gradients(
    function: Callable[..., Array],
    inputs: Mapping[str, Array],
    gradients: Mapping[str, Array],
    dy: Array,
    *,
    directions: int | None = None,
    tol: float = 1e-8,
) -> None:
    """Assert that `gradients` are those of `Σ dy·function(**inputs)`, in float64.

    Every input that has an entry in `gradients` is varied: entry by entry, or along that many random
    `directions`, cheaper for large inputs, where any wrong entry still shows. The differences are of fourth
    order, good to about 1e-11. An error is judged by the largest entry of the gradient or by the magnitude of
    the summed terms, whichever is larger, where a y below 1 counts as 1: its rounding may be that of a 1.
    """
    y = function(**inputs)
    assert y.shape == dy.shape
    terms = float(np.sum(np.abs(dy) * np.maximum(np.abs(y), 1)))
    rng = np.random.default_rng(y.size)
    for name, gradient in gradients.items():
        x = inputs[name]
        assert gradient.shape == x.shape, name
        if directions is None:
            unit_vectors = np.eye(x.size).reshape(x.size, *x.shape)
        else:
            unit_vectors = rng.standard_normal((directions, *x.shape)) / np.sqrt(x.size)
        for vector in unit_vectors:

            def loss(step: float, name: str = name, x: Array = x, v: Array = vector) -> NDArray[np.float64]:
                moved: Array = x + step * v
                return np.sum(dy * function(**{**inputs, name: moved}))  # type: ignore[no-any-return]

            near, far = loss(STEP) - loss(-STEP), loss(2 * STEP) - loss(-2 * STEP)
            numeric = (8 * near - far) / (12 * STEP)
            exact = np.sum(gradient * vector)
            scale = max(float(np.max(np.abs(gradient))), terms)
            assert abs(numeric - exact) <= tol * scale, f"d{name}: {exact} by hand, {numeric} by differences"
