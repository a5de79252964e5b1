"""The two norms of transformers, told apart by whether there is a bias."""

from tpsim import functional as F
from tpsim.functional import Array
from tpsim.reference.linear import Cache, Grads, Params


def norm(params: Params, x: Array, *, eps: float) -> tuple[Array, Cache]:
    """Layer norm of `[..., n]` given "weight" and "bias" `[n]`, RMS norm given "weight" alone."""
    if "bias" in params:
        y, mean, rstd = F.layer_norm(x, params["weight"], params["bias"], eps)
        return y, {"x": x, "mean": mean, "rstd": rstd}
    else:
        y, rstd = F.rms_norm(x, params["weight"], eps)
        return y, {"x": x, "rstd": rstd}


def norm_grad(params: Params, cache: Cache, dy: Array, *, eps: float) -> tuple[Array, Grads]:
    """Backward of `norm`."""
    if "bias" in params:
        dx, dweight, dbias = F.layer_norm_grad(cache["x"], params["weight"], cache["mean"], cache["rstd"], dy)
        return dx, {"weight": dweight, "bias": dbias}
    else:
        dx, dweight = F.rms_norm_grad(cache["x"], params["weight"], cache["rstd"], dy)
        return dx, {"weight": dweight}
