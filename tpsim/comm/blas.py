"""How many threads NumPy's matrix products may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks through the loaded libraries: once is enough


@contextmanager
def blas_threads(count: int | None) -> Iterator[None]:
    """Limit BLAS to `count` threads inside the `with` block; None leaves it alone.

    One thread a rank is tpsim's default in every world. Ranks then don't fight for cores, and bits
    don't depend on the number of cores (OpenBLAS sums in another order with other thread counts).
    macOS's Accelerate can't be limited.
    """
    if count is None:
        yield
        return
    with _controller().limit(limits=count, user_api="blas"):
        yield
