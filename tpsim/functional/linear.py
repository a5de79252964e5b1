"""Affine maps, and the two halves of their backward."""

from tpsim.dry import kernel
from tpsim.functional.narrow import Array, in_float32
from tpsim.functional.sums import rows, sum_leading


@kernel
@in_float32()
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Affine map of the last axis, `Y = X A + b`.

    Parameters
    ----------
    x : Array
        `[..., in]`.
    weight : Array
        `[in, out]`.
    bias : Array, optional
        `[out]`.

    Returns
    -------
    Array
        `[..., out]`.
    """
    y: Array = rows(x) @ weight  # [rows, out]
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[1])


def linear_grad(x: Array, weight: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Backward of `linear`: `(dx, dweight, dbias)`.

    It is made of two independent pieces, `linear_grad_input` and `linear_grad_weight`; a layer that has to
    communicate dx computes that piece first, and the other while the message is on its way.
    """
    return linear_grad_input(weight, dy), *linear_grad_weight(x, dy)


@kernel
@in_float32()
def linear_grad_input(weight: Array, dy: Array) -> Array:
    """Gradient of `linear` by its input, `dX = dY Aᵀ`: `[..., in]`."""
    dx: Array = rows(dy) @ weight.T
    return dx.reshape(*dy.shape[:-1], weight.shape[0])


@kernel
@in_float32(narrow=0)
def linear_grad_weight(x: Array, dy: Array) -> tuple[Array, Array]:
    """Gradients of `linear` by its parameters, `dA = Xᵀ dY` `[in, out]` and `db = Σ dY` `[out]`."""
    return rows(x).T @ rows(dy), sum_leading(dy)


@kernel
def add_linear_grad_weight(x: Array, dy: Array, dweight: Array) -> Array:
    """Add `dA = Xᵀ dY` of some rows to `dweight`, in place, as a GEMM with β = 1 does; return it."""
    dweight += linear_grad_weight(x, dy)[0]
    return dweight


@kernel
@in_float32(narrow=0)
def bias_grad(dy: Array) -> Array:
    """Gradient of a bias that was added to every row, `db = Σ dY`: `[out]`."""
    return sum_leading(dy)
