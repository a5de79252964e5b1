"""What a rank's memory holds, from a recorded step."""

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tpsim.cost.memory import MIXES, alive_at_peak, core, folded, memory
from tpsim.models import ModelConfig
from tpsim.models.config import gpt, llama
from tpsim.nn.recompute import Recompute
from tpsim.studies.dry_run import Plan, dry_step
from tpsim.trace import SavedTensor


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw a small model and how it is run."""
    tp = draw(st.sampled_from([1, 2, 4]))
    heads = tp * draw(st.integers(1, 2))
    layers, hidden = draw(st.integers(1, 3)), 8 * heads
    config: ModelConfig = gpt("drawn", layers, hidden, heads, vocab=draw(st.integers(3, 40)), max_seq=64)
    if draw(st.booleans()):
        config = llama("drawn", layers, hidden, heads, ffn=3 * heads, vocab=config.vocab)
    recompute: Recompute = draw(st.sampled_from(["none", "selective", "full"]))
    return Plan(
        config=config,
        tp=tp,
        sequence_parallel=draw(st.booleans()),
        recompute=recompute,
        batch=draw(st.integers(1, 2)),
        seq=tp * draw(st.integers(1, 8)),
        dropout=draw(st.sampled_from([0.0, 0.1])),
        attention_dropout=draw(st.sampled_from([0.0, 0.1])),
    )


@settings(max_examples=30)
@given(plans())
def test_what_is_kept_at_the_peak_is_the_ledgers_peak(plan: Plan) -> None:
    trace = dry_step(plan).microbatch
    assert sum(tensor.nbytes for tensor in alive_at_peak(trace.saved)) == trace.peak_saved_bytes
    found = memory(trace, MIXES["megatron"])
    assert found.activations + found.statistics + found.recomputed == trace.peak_saved_bytes
    assert sum(found.by_name.values()) == found.activations


@settings(max_examples=20)
@given(plans())
def test_18_bytes_a_parameter_are_what_bfloat16_weights_and_adamw_have(plan: Plan) -> None:
    step = dry_step(plan)
    parameters = step.microbatch.parameters
    elements = sum(math.prod(parameter.shape) for parameter in parameters)
    held = sum(parameter.nbytes + parameter.grad_bytes for parameter in parameters)
    assert held + sum(state.nbytes for state in step.ending.states) == 18 * elements
    found = memory(step.microbatch, MIXES["megatron"])
    assert found.weights + found.gradients + found.optimizer == 18 * elements


@settings(max_examples=20)
@given(plans(), st.integers(1, 5))
def test_microbatches_in_flight_each_keep_what_forward_saved(plan: Plan, more: int) -> None:
    trace = dry_step(plan).microbatch
    forward = sum(tensor.nbytes for tensor in trace.saved if tensor.kind != "recomputed")
    one, many = (memory(trace, MIXES["zero"], in_flight=n) for n in (1, 1 + more))
    assert many.total - one.total == more * forward


@settings(max_examples=20)
@given(plans())
def test_a_fused_core_keeps_what_selective_recompute_keeps(plan: Plan) -> None:
    def kept(recompute: Recompute, fused: bool) -> list[tuple[str, str, int]]:
        saved = dry_step(replace(plan, recompute=recompute)).microbatch.saved
        forward = [t for t in saved if t.kind == "activation" and not (fused and core(t))]
        return [(tensor.layer, tensor.name, tensor.nbytes) for tensor in forward]

    assert kept("none", True) == kept("selective", False) == kept("selective", True)


def test_a_tensor_is_kept_from_its_birth_to_its_death() -> None:
    def tensor(name: str, nbytes: int, born: int, died: int | None) -> SavedTensor:
        return SavedTensor("", name, (nbytes,), "uint8", nbytes, "activation", born, died)

    saved = [tensor("a", 3, 1, 4), tensor("b", 2, 2, None), tensor("c", 2, 5, 6)]
    assert [kept.name for kept in alive_at_peak(saved)] == ["a", "b"]
    assert alive_at_peak([]) == []


def test_blocks_are_folded_into_one() -> None:
    assert folded("blocks.11.mlp.up.x") == "blocks.*.mlp.up.x"
