"""Whole language models: their numbers by name, and their assembly from the layers of `tpsim.nn`.

GPT-2 and Llama are one class, for they differ only in what their configuration says.
"""

from tpsim.functional import RotaryScaling
from tpsim.models.config import ModelConfig, from_dict, from_json, get, gpt, llama, names
from tpsim.models.find import find
from tpsim.models.lm import LanguageModel

__all__ = [
    "LanguageModel",
    "ModelConfig",
    "RotaryScaling",
    "find",
    "from_dict",
    "from_json",
    "get",
    "gpt",
    "llama",
    "names",
]
