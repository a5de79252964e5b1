"""Operators measured on real devices: what profiles are fitted to, and compared with."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def operators(name: str = "h200x2_operators") -> dict[str, Any]:
    """Return a file of measurements: rows by group, times in microseconds; `read_me` explains them."""
    text = (files("tpsim.cost.measured") / f"{name}.json").read_text(encoding="utf-8")
    values: dict[str, Any] = json.loads(text)
    return values
