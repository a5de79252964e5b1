"""How Hugging Face names, turns and separates the tensors of GPT-2 and Llama, and writes their dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tpsim.functional import RotaryScaling
from tpsim.models.config import ModelConfig

Fields = Mapping[str, Any]


class Stands(NamedTuple):
    """Where one of our tensors is kept.

    Parameters
    ----------
    names : tuple of str
        Of tensors that are ours when they stand side by side, along the last axis.
    widths : tuple of int
        Of each, along that axis.
    turned : bool
        Whether they are kept as [out, in].
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]
    turned: bool = False


Layout = dict[str, Stands]
"""By our name."""


class Family(NamedTuple):
    """A family of models: its prefix, and translations both ways."""

    model_type: str
    prefix: str
    layout: Callable[[ModelConfig], Layout]
    read_config: Callable[[str, Fields], ModelConfig]
    write_config: Callable[[ModelConfig], dict[str, Any]]
    forgotten: str
    """Buffers that older checkpoints have: a regular expression."""


# --- GPT-2 --------------------------------------------------------------------------------------------------

_ACTIVATIONS: dict[str, Any] = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}


def _gpt2_layout(config: ModelConfig) -> Layout:
    """Conv1D keeps weights as [in, out], as we do, and Q, K and V are fused already."""
    h, ffn = config.hidden, config.ffn
    layout = {
        "embedding.weight": Stands(("wte.weight",), (h,)),
        "positions.weight": Stands(("wpe.weight",), (h,)),
    }
    widths = {
        "norm1": ("ln_1", h),
        "attention.qkv": ("attn.c_attn", 3 * h),
        "attention.out": ("attn.c_proj", h),
        "norm2": ("ln_2", h),
        "mlp.up": ("mlp.c_fc", ffn),
        "mlp.down": ("mlp.c_proj", h),
    }
    for i in range(config.layers):
        for ours, (theirs, width) in widths.items():
            for what in ("weight", "bias"):
                layout[f"blocks.{i}.{ours}.{what}"] = Stands((f"h.{i}.{theirs}.{what}",), (width,))
    for what in ("weight", "bias"):
        layout[f"norm.{what}"] = Stands((f"ln_f.{what}",), (h,))
    return layout


def _read_gpt2_config(name: str, fields: Fields) -> ModelConfig:
    _insist(fields, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    hidden, heads = fields["n_embd"], fields["n_head"]
    activation: Any = fields.get("activation_function", "gelu_new")
    return ModelConfig(
        name=name,
        layers=fields["n_layer"],
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_size=hidden // heads,
        ffn=fields.get("n_inner") or 4 * hidden,
        vocab=fields["vocab_size"],
        max_seq=fields["n_positions"],
        norm="layer",
        activation=_ACTIVATIONS.get(activation, activation),
        bias=True,
        positions="learned",
        tied=fields.get("tie_word_embeddings", True),
        eps=fields.get("layer_norm_epsilon", 1e-5),
        scaled_residuals=True,
    )


def _write_gpt2_config(config: ModelConfig) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": {"gelu_tanh": "gelu_new", "gelu": "gelu"}[config.activation],
        "layer_norm_epsilon": config.eps,
        "n_ctx": config.max_seq,
        "n_embd": config.hidden,
        "n_head": config.heads,
        "n_inner": config.ffn,
        "n_layer": config.layers,
        "n_positions": config.max_seq,
    }


# --- Llama --------------------------------------------------------------------------------------------------


def _llama_layout(config: ModelConfig) -> Layout:
    """Linears keep weights as [out, in], with Q, K and V, gate and up apart. Rotary's halves are ours."""
    h, ffn, d = config.hidden, config.ffn, config.head_size
    q, kv = config.heads * d, config.kv_heads * d
    layout = {"embedding.weight": Stands(("embed_tokens.weight",), (h,))}
    linears = {
        "attention.qkv": (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), (q, kv, kv)),
        "attention.out": (("self_attn.o_proj",), (h,)),
        "mlp.up": (("mlp.gate_proj", "mlp.up_proj"), (ffn, ffn)),
        "mlp.down": (("mlp.down_proj",), (h,)),
    }
    for i in range(config.layers):
        for ours, theirs in (("norm1", "input_layernorm"), ("norm2", "post_attention_layernorm")):
            layout[f"blocks.{i}.{ours}.weight"] = Stands((f"layers.{i}.{theirs}.weight",), (h,))
        for ours, (several, widths) in linears.items():
            for what in ("weight", "bias") if config.bias else ("weight",):
                names = tuple(f"layers.{i}.{one}.{what}" for one in several)
                layout[f"blocks.{i}.{ours}.{what}"] = Stands(names, widths, turned=what == "weight")
    layout["norm.weight"] = Stands(("norm.weight",), (h,))
    return layout


def _read_llama_config(name: str, fields: Fields) -> ModelConfig:
    bias = bool(fields.get("attention_bias", False))
    _insist(fields, hidden_act="silu", mlp_bias=bias)
    hidden, heads = fields["hidden_size"], fields["num_attention_heads"]
    rotary: Fields = (
        fields.get("rope_parameters") or fields.get("rope_scaling") or {}
    )  # the first is the newer name
    return ModelConfig(
        name=name,
        layers=fields["num_hidden_layers"],
        hidden=hidden,
        heads=heads,
        kv_heads=fields.get("num_key_value_heads") or heads,
        head_size=fields.get("head_dim") or hidden // heads,
        ffn=fields["intermediate_size"],
        vocab=fields["vocab_size"],
        max_seq=fields["max_position_embeddings"],
        norm="rms",
        activation="swiglu",
        bias=bias,
        positions="rotary",
        tied=fields.get("tie_word_embeddings", False),
        rotary_base=rotary.get("rope_theta", fields.get("rope_theta", 10_000.0)),
        rotary_scaling=_rotary_scaling(rotary),
        eps=fields.get("rms_norm_eps", 1e-6),
    )


def _rotary_scaling(rotary: Fields) -> RotaryScaling | None:
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(f'rotary scaling {kind!r} is not known; take a model without one, or with "llama3"')
    return RotaryScaling(
        rotary["factor"],
        rotary["low_freq_factor"],
        rotary["high_freq_factor"],
        rotary["original_max_position_embeddings"],
    )


def _write_llama_config(config: ModelConfig) -> dict[str, Any]:
    scaling = config.rotary_scaling
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": config.bias,
        "head_dim": config.head_size,
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "intermediate_size": config.ffn,
        "max_position_embeddings": config.max_seq,
        "mlp_bias": config.bias,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": config.eps,
        "rope_theta": config.rotary_base,
        "rope_scaling": scaling
        and {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_frequency,
            "high_freq_factor": scaling.high_frequency,
            "original_max_position_embeddings": scaling.original_length,
        },
    }


# --- which ------------------------------------------------------------------------------------------------

GPT2 = Family(
    "gpt2",
    "transformer.",
    _gpt2_layout,
    _read_gpt2_config,
    _write_gpt2_config,
    r"h\.\d+\.attn\.(masked_)?bias",
)
LLAMA = Family(
    "llama",
    "model.",
    _llama_layout,
    _read_llama_config,
    _write_llama_config,
    r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
)
FAMILIES = {family.model_type: family for family in (GPT2, LLAMA)}
HEAD = "lm_head.weight"
"""Of both families, and without a prefix."""


def family_of(config: ModelConfig) -> Family:
    """Return the family that a configuration belongs to.

    Raises
    ------
    ValueError
        If it lies between them.
    """
    kind = (config.norm, config.positions)
    if not config.qk_norm:
        plain = (
            config.bias
            and config.kv_heads == config.heads
            and config.head_size * config.heads == config.hidden
        )
        if kind == ("layer", "learned") and plain and config.activation != "swiglu":
            return GPT2
        if kind == ("rms", "rotary") and config.activation == "swiglu":
            return LLAMA
    raise ValueError(
        f"{config.name}: neither a GPT-2 nor a Llama, so Hugging Face has no layout for it here; build one "
        "with models.gpt or models.llama, without qk_norm"
    )


def _insist(fields: Fields, **values: Any) -> None:
    """Raise ValueError where a field is given and isn't what our layers do."""
    for name, value in values.items():
        if fields.get(name, value) != value:
            raise ValueError(
                f"{name} {fields[name]!r} is not what these layers compute; take a model with {value!r}"
            )
