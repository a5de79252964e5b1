"""The examples in docstrings print what they say."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import tpsim

NAMES = [
    module.name
    for module in pkgutil.walk_packages(tpsim.__path__, "tpsim.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", NAMES)
def test_examples_print_what_they_say(name: str) -> None:
    module = importlib.import_module(name)
    globals_ = {**module.__dict__, "np": np}
    result = doctest.testmod(module, extraglobs=globals_)
    assert result.failed == 0
