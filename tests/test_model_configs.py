"""Configurations: published sizes by name, their parameter counts, and what is refused."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim import functional as F
from tpsim import models
from tpsim.models import ModelConfig, RotaryScaling, gpt, llama

# What the released checkpoints hold.
COUNTS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama2-7b": 6_738_415_616,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3-405b": 405_853_388_800,
}
BY_FORMULA = [name for name in models.names() if name.startswith(("gpt", "megatron", "tiny-gpt"))]
SMALL = llama("small", 2, 8, 4, kv_heads=2, ffn=12, vocab=10, max_seq=16)


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_as_many_as_released(name: str) -> None:
    assert models.get(name).parameter_count() == COUNTS[name]


@pytest.mark.parametrize("name", BY_FORMULA)
def test_gpt_counts_are_the_published_formula_and_the_last_norm(name: str) -> None:
    """Narayanan et al. (2021), "Efficient large-scale language model training", equation 2, and 2h."""
    config = models.get(name)
    L, h, V, s = config.layers, config.hidden, config.vocab, config.max_seq
    formula = 12 * L * h**2 * (1 + Fraction(13, 12 * h) + Fraction(V + s, 12 * L * h)) + 2 * h
    assert config.parameter_count() == formula


def test_sizes_are_what_the_names_say() -> None:
    named = {
        "gpt3-175b": 175e9,
        "megatron-22b": 22e9,
        "megatron-530b": 530e9,
        "megatron-1t": 1008e9,
        "llama2-7b": 7e9,
        "llama3-405b": 405e9,
    }
    for name, size in named.items():
        assert models.get(name).parameter_count() == pytest.approx(size, rel=0.04)


def test_every_model_of_the_list_is_there() -> None:
    assert {*COUNTS, "gpt3-175b", "megatron-22b", "megatron-530b", "megatron-1t"} <= set(models.names())
    assert {"tiny-gpt", "tiny-llama"} <= set(models.names())
    assert all(models.get(name).name == name for name in models.names())
    for name in models.names():
        config = models.get(name)
        assert config.heads * config.head_size == config.hidden


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Any mixture of the two families."""
    kv_heads = draw(st.integers(1, 3))
    rotary = draw(st.booleans())
    return ModelConfig(
        name="drawn",
        layers=draw(st.integers(1, 3)),
        hidden=draw(st.integers(1, 9)),
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_size=2 * draw(st.integers(1, 3)) if rotary else draw(st.integers(1, 5)),
        ffn=draw(st.integers(1, 9)),
        vocab=draw(st.integers(1, 9)),
        max_seq=draw(st.integers(1, 9)),
        norm=draw(st.sampled_from(["layer", "rms"])),
        activation=draw(st.sampled_from(["gelu_tanh", "gelu", "swiglu"])),
        bias=draw(st.booleans()),
        positions="rotary" if rotary else "learned",
        tied=draw(st.booleans()),
        rotary_base=draw(st.sampled_from([50.0, 10_000.0])) if rotary else None,
        rotary_scaling=draw(st.sampled_from([None, RotaryScaling(8.0, 1.0, 4.0, 32)])) if rotary else None,
        eps=1e-3,
        qk_norm=draw(st.booleans()),
        scaled_residuals=draw(st.booleans()),
    )


@settings(max_examples=60)
@given(configs())
def test_a_built_model_has_as_many_parameters_as_counted(config: ModelConfig) -> None:
    parameters = models.LanguageModel(config).parameters()
    assert sum(parameter.data.size for parameter in parameters.values()) == config.parameter_count()


@pytest.mark.parametrize("name", ["gpt2", "llama3-8b"])
def test_a_narrow_variant_of_a_published_model_counts_as_built(name: str) -> None:
    full = models.get(name)
    heads = full.heads // 4
    small = replace(full, layers=2, hidden=48, heads=heads, kv_heads=full.kv_heads // 4, head_size=6)
    small = replace(small, ffn=100, vocab=333, max_seq=50)
    parameters = models.LanguageModel(small).parameters()
    assert sum(parameter.data.size for parameter in parameters.values()) == small.parameter_count()


# --- Llama 3.1's rotary scaling -----------------------------------------------------------------------------


def published(frequency: float, scaling: RotaryScaling) -> float:
    """The scaling as Meta's `apply_scaling` states it, by wavelengths and in three cases."""
    longest = scaling.original_length / scaling.low_frequency
    shortest = scaling.original_length / scaling.high_frequency
    wavelength = 2 * np.pi / frequency
    if wavelength < shortest:
        return frequency
    if wavelength > longest:
        return frequency / scaling.factor
    smooth = (scaling.original_length / wavelength - scaling.low_frequency) / (
        scaling.high_frequency - scaling.low_frequency
    )
    return float((1 - smooth) * frequency / scaling.factor + smooth * frequency)


@pytest.mark.parametrize("scaling", [RotaryScaling(8.0, 1.0, 4.0, 8192), RotaryScaling(32.0, 0.5, 2.0, 100)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rotary_scaling_is_the_published_formula(scaling: RotaryScaling, dtype: str) -> None:
    seq, size, base = 300, 128, 500_000.0
    plain = [base ** (-2 * i / size) for i in range(size // 2)]
    frequencies = [published(frequency, scaling) for frequency in plain]
    ratios = {round(new / old, 6) for new, old in zip(frequencies, plain, strict=True)}
    assert {1.0, round(1 / scaling.factor, 6)} < ratios  # all three cases are met
    angles = np.array([[p * frequency for frequency in frequencies] for p in range(seq)])
    cos, sin = F.rotary_tables(seq, size, base, np.zeros(1, dtype), scaling)
    assert cos.dtype == sin.dtype == dtype
    tolerance = 1e-12 if dtype == "float64" else 1e-7
    np.testing.assert_allclose(cos, np.cos(angles), rtol=0, atol=tolerance)
    np.testing.assert_allclose(sin, np.sin(angles), rtol=0, atol=tolerance)


def test_llama_3_turns_its_slowest_pair_eight_times_slower_and_its_fastest_not() -> None:
    config = models.get("llama3-405b")
    assert config.rotary_base is not None
    like = np.zeros(1)
    plain, scaled = (
        np.arcsin(F.rotary_tables(2, config.head_size, config.rotary_base, like, scaling)[1][1, [0, -1]])
        for scaling in (None, config.rotary_scaling)
    )
    np.testing.assert_allclose(plain / scaled, [1, 8], rtol=1e-12)


# --- one's own, and mistakes --------------------------------------------------------------------------------


@settings(max_examples=30)
@given(configs())
def test_a_configuration_survives_json(config: ModelConfig) -> None:
    assert models.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_file_of_dimensions_may_name_a_family_and_leave_out_the_usual(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"family": "gpt", "layers": 12, "hidden": 768, "heads": 12}))
    assert models.from_json(path) == replace(models.get("gpt2"), name="mine")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", r"bad\.json is not JSON .*; pass a file of"),
        ("[1]", "holds a list, not fields by name; write them in braces"),
        ('{"layers": 2}', r"missing \['activation', .*'vocab'\], unknown \[\]; the fields of a model"),
        ('{"family": "gpt", "layers": 2, "width": 3}', r"missing \['heads', 'hidden'\], unknown \['width'\]"),
        ('{"family": "bert"}', "family 'bert' is not known; pick gpt, llama"),
        (
            '{"family": "llama", "layers": 1, "hidden": 8, "heads": 2, "ffn": 8, '
            '"rotary_scaling": {"factor": 2.0}}',
            "rotary_scaling .* is not whole; its fields are factor, low_frequency, ",
        ),
        ('{"family": "gpt", "layers": 1, "hidden": "8", "heads": 2}', "hidden '8' is no size; pick a whole"),
    ],
)
def test_a_file_that_describes_no_model_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=complaint):
        models.from_json(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"layers": 0}, "ModelConfig 'small': layers 0 is no size; pick a whole number from 1"),
        ({"vocab": 1.5}, "vocab 1.5 is no size"),
        ({"eps": 0.0}, "eps 0.0 is not above 0; pick a positive number"),
        ({"rotary_base": "10000"}, "rotary_base '10000' is not above 0"),
        ({"kv_heads": 3}, "4 heads can't share 3 kv heads evenly; pick kv_heads that divides 4"),
        ({"head_size": 3}, "head_size 3 is odd, and rotary turns pairs; pick an even head_size"),
        ({"norm": "batch"}, "norm 'batch' is not known; pick one of layer, rms"),
        ({"activation": "relu"}, "activation 'relu' is not known; pick one of gelu_tanh, gelu, swiglu"),
        ({"positions": "alibi"}, "positions 'alibi' is not known; pick one of learned, rotary, none"),
        ({"positions": "learned"}, "learned positions with rotary_base 10000.0; give a rotary_base to"),
        ({"rotary_base": None}, "rotary positions with rotary_base None; give"),
        ({"rotary_scaling": RotaryScaling(8.0, 4.0, 1.0, 8)}, "can't scale rotary positions; use"),
    ],
)
def test_what_makes_no_model_is_refused_with_the_remedy(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(SMALL, **change)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden 10 is not divisible by 4 heads; pick a multiple of 4"):
        gpt("mine", 1, 10, 4)
    with pytest.raises(ValueError, match="heads 0 is no size"):
        gpt("mine", 1, 10, 0)


@pytest.mark.parametrize(
    ("asked", "first"), [("llama3-80b", "llama3-8"), ("GPT2-XXL", "gpt2-"), ("bert", "gpt2")]
)
def test_an_unknown_name_is_answered_with_close_ones_first(asked: str, first: str) -> None:
    with pytest.raises(ValueError, match=f"a model '{asked}' is not known here; pick one of {first}") as told:
        models.get(asked)
    assert all(name in str(told.value) for name in models.names())
