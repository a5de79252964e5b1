"""One number of ours beside one of theirs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """A published or measured number, and what tpsim says.

    Attributes
    ----------
    group : str
        Which table or figure.
    what : str
    theirs, ours : float
    unit : str
    """

    group: str
    what: str
    theirs: float
    ours: float
    unit: str

    @property
    def error(self) -> float:
        """Ours over theirs, less 1."""
        return self.ours / self.theirs - 1 if self.theirs else float(self.ours != self.theirs)


@lru_cache
def published() -> dict[str, Any]:
    """Return the published figures; every block of the file names its source."""
    text = (files("tpsim.studies.validate") / "published.json").read_text(encoding="utf-8")
    tables: dict[str, Any] = json.loads(text)
    return tables
