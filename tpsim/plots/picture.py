"""Saving a figure so that it is rewritten only when it shows something else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import __version__
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation, Text
from PIL import Image

_KEY = "Data"  # of the PNG's own text entries


@dataclass(frozen=True)
class Picture:
    """A picture on disk. Jupyter shows it where it is the last value of a cell."""

    path: Path

    def _repr_png_(self) -> bytes:
        return self.path.read_bytes()


def save(figure: Figure, name: str, folder: Path | None = None) -> Picture:
    """Write a figure as `folder`/`name`.png, say so, and return it.

    The file carries the digest of what it shows. One that was drawn by another version of matplotlib and
    shows the same is left alone: its pixels would differ, and nothing else.

    Parameters
    ----------
    figure : Figure
    name : str
        Without ".png".
    folder : Path, optional
        By default the environment's TPSIM_FIGURES, or "figures" in the working directory.
    """
    folder = folder or Path(os.environ.get("TPSIM_FIGURES", "figures"))
    folder.mkdir(parents=True, exist_ok=True)
    path, shown = folder / f"{name}.png", digest(figure)
    if not (path.exists() and _drawn_elsewhere(path) and digest_of(path) == shown):
        figure.savefig(path, metadata={_KEY: shown})
    print(f"drawn: {path}")
    return Picture(path)


def digest_of(path: Path) -> str | None:
    """Return the digest that `save` put into a PNG, or None."""
    with Image.open(path) as image:
        found = image.info.get(_KEY)
    return None if found is None else str(found)


def digest(figure: Figure) -> str:
    """Return a short hash of what a figure shows: its words, its data to 6 digits, its colours.

    Places of labels and of ticks are left out, since they depend on matplotlib's version and its fonts.
    """
    found = hashlib.blake2b(digest_size=12)
    for words in (w for axes in figure.axes for w in _shown(axes)):
        found.update(words.encode() + b"\n")
    return found.hexdigest()


def _drawn_elsewhere(path: Path) -> bool:
    with Image.open(path) as image:
        return f"version{__version__}," not in str(image.info.get("Software", ""))


def _shown(axes: Axes) -> Iterator[str]:
    yield from (axes.get_title(loc) for loc in ("left", "center", "right"))
    yield from (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale(), axes.get_yscale())
    for artist in axes.get_children():
        if artist.get_visible() and artist not in axes.spines.values() and artist is not axes.patch:
            yield from _of_artist(artist)


def _of_artist(artist: Artist) -> Iterator[str]:
    if isinstance(artist, Annotation):
        yield f"{artist.get_text()} {_rounded(artist.xy)}"
    elif isinstance(artist, Text):
        yield artist.get_text()
    elif isinstance(artist, Line2D):
        yield f"{artist.get_label()} {to_hex(artist.get_color())} {_rounded(artist.get_xydata())}"
    elif isinstance(artist, Patch):
        corners = artist.get_patch_transform().transform(artist.get_path().vertices)
        yield f"{artist.get_label()} {to_hex(artist.get_facecolor())} {_rounded(corners)}"
    elif isinstance(artist, Collection):
        paths = [_rounded(path.vertices) for path in artist.get_paths()]
        yield f"{artist.get_label()} {_rounded(artist.get_offsets())} {paths}"
    elif isinstance(artist, AxesImage):
        yield _rounded(artist.get_array())


def _rounded(numbers: object) -> str:
    return " ".join(f"{number + 0.0:.5e}" for number in np.asarray(numbers, dtype=float).ravel())
