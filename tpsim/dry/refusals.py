"""What only values could answer: the truth of an array, its numbers, a real array."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpsim.dry.errors import no_data, not_known

_KEEP_SHAPES = "keep it an array, or run with real arrays"
_NO_BRANCH = "branch on shapes instead, choose entries by np.where, or run with real arrays"


class Refusals:
    """Conversions that raise a TypeError, and say what to do instead."""

    __slots__ = ()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise no_data(
            f"a real array of {self!r}",
            "stay with NumPy functions that dispatch (np.zeros_like(x), np.empty(shape, like=x), …), don't "
            "mix it into real arrays, or run with real arrays",
        )

    def __bool__(self) -> bool:
        raise no_data(f"the truth of {self!r}", _NO_BRANCH)

    def __float__(self) -> float:
        raise no_data(f"a float of {self!r}", _KEEP_SHAPES)

    def __complex__(self) -> complex:
        raise no_data(f"a complex number of {self!r}", _KEEP_SHAPES)

    def __int__(self) -> int:
        raise no_data(f"an int of {self!r}", _KEEP_SHAPES)

    def __index__(self) -> int:
        raise no_data(f"an index of {self!r}", _KEEP_SHAPES)

    def item(self, *place: Any) -> Any:
        """Raise a TypeError: there is none."""
        raise no_data(f"an item of {self!r}", _KEEP_SHAPES)

    def tolist(self) -> Any:
        """Raise a TypeError: there is nothing to list."""
        raise no_data(f"a list of {self!r}", _KEEP_SHAPES)

    def __contains__(self, value: object) -> bool:
        raise no_data(f"{value!r} in {self!r}", _NO_BRANCH)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"'ShapeArray' object has no attribute {name!r}")
        raise AttributeError(str(not_known(f"ndarray.{name}")))
