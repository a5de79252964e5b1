"""Where hypothesis keeps its notes: in a folder that goes away, rather than where the user stands."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis.configuration import set_hypothesis_home_dir, storage_directory


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Give hypothesis a folder of its own for as long as the block lasts."""
    home = storage_directory(intent_to_write=False).home_directory
    with tempfile.TemporaryDirectory() as elsewhere:
        set_hypothesis_home_dir(elsewhere)
        try:
            yield
        finally:
            set_hypothesis_home_dir(home)
