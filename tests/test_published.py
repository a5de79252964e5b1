"""Dry runs of the layers give the papers' formulas, for any sizes, and their printed figures."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim.studies.validate import activations, arithmetic


@st.composite
def sizes(draw: st.DrawFn) -> dict[str, int]:
    """Draw a, s, b, h, t for a layer that can be cut."""
    t = draw(st.sampled_from([1, 2, 4, 8]))
    a = t * draw(st.integers(1, 3))
    return {"a": a, "s": t * draw(st.integers(1, 40)), "b": draw(st.integers(1, 3)), "h": a * 8, "t": t}


@settings(max_examples=40)
@given(sizes(), st.sampled_from(list(activations.MODES)))
def test_saved_activations_are_table_2(drawn: dict[str, int], mode: str) -> None:
    assert math.isclose(
        activations.of_a_layer(mode, **drawn), activations.formula(mode, **drawn), rel_tol=1e-12
    )


def test_saved_activations_are_figure_1_to_the_printed_digits() -> None:
    bars = list(activations.figure_1())
    assert len(bars) == 8
    for bar in bars:
        digits = len(f"{bar.theirs}".partition(".")[2])
        assert round(bar.ours, digits) == bar.theirs, bar


def test_parameters_and_optimizer_are_figure_1_within_2_percent() -> None:
    assert all(abs(bar.error) < 0.02 for bar in activations.figure_1_state())


def test_shares_of_activations_are_figure_7_as_read_off_its_bars() -> None:
    bars = list(activations.figure_7())
    assert len(bars) == 16
    assert all(abs(bar.ours - bar.theirs) <= 0.15 for bar in bars)


@settings(max_examples=25)
@given(sizes())
def test_a_layer_sends_8bsh_t_minus_1_over_t(drawn: dict[str, int]) -> None:
    must = arithmetic.traffic_formula(**{name: drawn[name] for name in "bsht"})
    assert arithmetic.traffic_of_a_layer(**drawn) == must


@settings(max_examples=25)
@given(sizes(), st.integers(1, 3), st.integers(1, 50))
def test_a_step_multiplies_72blsh2(drawn: dict[str, int], layers: int, words: int) -> None:
    t = drawn["t"]
    model = {"b": drawn["b"], "s": drawn["s"], "h": drawn["h"], "L": layers, "V": words * t}
    have = arithmetic.flops_of_a_step(a=drawn["a"], t=t, **model)
    assert math.isclose(have, arithmetic.flops_formula(**model), rel_tol=1e-12)
