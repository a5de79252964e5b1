"""Whether what is built has data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_without_data: ContextVar[bool] = ContextVar("tpsim_without_data", default=False)

without_data: Callable[[], bool] = _without_data.get
"""Whether parameters get a shape and no data."""


@contextmanager
def shapes_only() -> Iterator[None]:
    """Give the parameters of layers built inside the `with` block a shape and no data.

    Examples
    --------
    >>> from tpsim import models
    >>> with shapes_only():
    ...     model = models.LanguageModel(models.get("gpt3-175b"))
    >>> sum(parameter.data.size for parameter in model.parameters().values())
    174604259328
    """
    token = _without_data.set(True)
    try:
        yield
    finally:
        _without_data.reset(token)
