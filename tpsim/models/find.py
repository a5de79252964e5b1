"""A model's dimensions from whatever a user has of them."""

from __future__ import annotations

import json
from pathlib import Path

from tpsim.models.config import ModelConfig, from_json, get


def find(model: str) -> ModelConfig:
    """Return a configuration by name, from a config.json of Hugging Face, or from a JSON of dimensions.

    Parameters
    ----------
    model : str
        A name that `get` knows; a file; or a folder that has a config.json.

    Raises
    ------
    ValueError
        If there is no such model, or the file describes none.
    """
    path = Path(model)
    if path.is_dir():
        path = path / "config.json"
    if not path.is_file():
        return get(model)
    if _is_hub(path):
        from tpsim.models.hub import config_in  # reads tensors, too: not needed for names

        return config_in(path)
    return from_json(path)


def _is_hub(path: Path) -> bool:
    """Whether a file has the fields of Hugging Face; what isn't JSON is for `from_json` to say."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(values, dict) and "model_type" in values
