"""What a model is made of, in numbers; the numbers of published models, by name."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from tpsim.functional import RotaryScaling
from tpsim.nn.mlp import Activation

Norm = Literal["layer", "rms"]
Positions = Literal["learned", "rotary", "none"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The dimensions of a decoder-only language model of pre-norm blocks, and what its blocks consist of.

    Parameters
    ----------
    name : str
    layers, hidden, heads : int
        L, h and a.
    kv_heads : int
        Key-value heads; divides `heads`.
    head_size : int
        Mostly `hidden // heads`.
    ffn : int
        Inner width of the MLP; of the gate and of the up projection each, if it has both.
    vocab, max_seq : int
        V, without padding, and the longest sequence that the model is meant for.
    norm : {"layer", "rms"}
    activation : {"gelu_tanh", "gelu", "swiglu"}
    bias : bool
        Whether linears have biases.
    positions : {"learned", "rotary", "none"}
        With "none" only the causal mask tells positions apart (Kazemnejad et al., 2023, "The impact of
        positional encoding on length generalization in transformers").
    tied : bool
        Whether the output layer's weight is the embedding's.
    rotary_base : float, optional
        With rotary positions only.
    rotary_scaling : RotaryScaling, optional
    eps : float
        Of every norm.
    qk_norm : bool
        Whether queries and keys pass a norm.
    scaled_residuals : bool
        Whether the projections that add to the residual stream start smaller by 1/√(2L), so that the sum
        of all 2L starts no larger than one.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocab: int
    max_seq: int
    norm: Norm
    activation: Activation
    bias: bool
    positions: Positions
    tied: bool
    rotary_base: float | None = None
    rotary_scaling: RotaryScaling | None = None
    eps: float = 1e-5
    qk_norm: bool = False
    scaled_residuals: bool = False

    def __post_init__(self) -> None:
        for size in ("layers", "hidden", "heads", "kv_heads", "head_size", "ffn", "vocab", "max_seq"):
            value = getattr(self, size)
            if not isinstance(value, int) or value < 1:
                self._refuse(f"{size} {value!r} is no size", "pick a whole number from 1")
        scaling = self.rotary_scaling
        numbers = {"eps": self.eps, "rotary_base": self.rotary_base} | (asdict(scaling) if scaling else {})
        for number, value in numbers.items():
            if value is not None and not (isinstance(value, int | float) and value > 0):
                self._refuse(f"{number} {value!r} is not above 0", "pick a positive number")
        for choice, kind in (("norm", Norm), ("activation", Activation), ("positions", Positions)):
            value, known = getattr(self, choice), get_args(kind)
            if value not in known:
                self._refuse(f"{choice} {value!r} is not known", f"pick one of {', '.join(known)}")
        if self.heads % self.kv_heads:
            self._refuse(
                f"{self.heads} heads can't share {self.kv_heads} kv heads evenly",
                f"pick kv_heads that divides {self.heads}",
            )
        if (self.positions == "rotary") != (self.rotary_base is not None):
            self._refuse(
                f"{self.positions} positions with rotary_base {self.rotary_base}",
                "give a rotary_base to rotary positions, and to no others",
            )
        if self.positions == "rotary" and self.head_size % 2:
            self._refuse(
                f"head_size {self.head_size} is odd, and rotary turns pairs", "pick an even head_size"
            )
        if scaling and (self.positions != "rotary" or scaling.low_frequency >= scaling.high_frequency):
            self._refuse(
                f"{scaling} can't scale {self.positions} positions",
                "use rotary positions, and a low_frequency below high_frequency",
            )

    def _refuse(self, why: str, instead: str) -> None:
        raise ValueError(f"ModelConfig {self.name!r}: {why}; {instead}")

    def parameter_count(self) -> int:
        """Return how many numbers the model learns; a tied weight counts once, padding not at all.

        Examples
        --------
        >>> f"{get('gpt2').parameter_count():,}"
        '124,439,808'
        """
        h, d, bias = self.hidden, self.head_size, int(self.bias)
        q, kv = self.heads * d, self.kv_heads * d
        gate_up = 2 * self.ffn if self.activation == "swiglu" else self.ffn

        table = self.vocab * h
        positions = self.max_seq * h if self.positions == "learned" else 0
        norm = 2 * h if self.norm == "layer" else h
        attention = (h + bias) * (q + 2 * kv) + (q + bias) * h + (2 * d if self.qk_norm else 0)
        mlp = (h + bias) * gate_up + (self.ffn + bias) * h
        block = norm + attention + norm + mlp
        head = 0 if self.tied else table
        return table + positions + self.layers * block + norm + head

    def reference_options(self) -> dict[str, Any]:
        """Return what `tpsim.reference.model` needs to know beside the weights."""
        names = ("heads", "kv_heads", "activation", "rotary_base", "rotary_scaling", "eps")
        return {name: getattr(self, name) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON: the inverse of `from_dict`."""
        return asdict(self)


# --- two families -------------------------------------------------------------------------------------------


def gpt(
    name: str,
    layers: int,
    hidden: int,
    heads: int,
    *,
    vocab: int = 50257,
    max_seq: int = 1024,
    tied: bool = True,
) -> ModelConfig:
    """Return a model like GPT-2: layer norms, biases, learned positions, a GELU MLP of 4h, tied ends.

    References
    ----------
    Radford et al. (2019), "Language models are unsupervised multitask learners", section 2.3.
    """
    return ModelConfig(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_size=_share(name, hidden, heads),
        ffn=4 * hidden,
        vocab=vocab,
        max_seq=max_seq,
        norm="layer",
        activation="gelu_tanh",
        bias=True,
        positions="learned",
        tied=tied,
        scaled_residuals=True,
    )


def llama(
    name: str,
    layers: int,
    hidden: int,
    heads: int,
    *,
    kv_heads: int | None = None,
    head_size: int | None = None,
    ffn: int,
    vocab: int = 32000,
    max_seq: int = 4096,
    rotary_base: float = 10_000.0,
    rotary_scaling: RotaryScaling | None = None,
    tied: bool = False,
    eps: float = 1e-5,
    qk_norm: bool = False,
) -> ModelConfig:
    """Return a model like Llama: RMS norms, no biases, rotary positions, SwiGLU, grouped queries.

    References
    ----------
    Touvron et al. (2023), "LLaMA: open and efficient foundation language models", section 2.2.
    """
    return ModelConfig(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads or heads,
        head_size=head_size or _share(name, hidden, heads),
        ffn=ffn,
        vocab=vocab,
        max_seq=max_seq,
        norm="rms",
        activation="swiglu",
        bias=False,
        positions="rotary",
        tied=tied,
        rotary_base=rotary_base,
        rotary_scaling=rotary_scaling,
        eps=eps,
        qk_norm=qk_norm,
    )


def _share(name: str, hidden: int, heads: int) -> int:
    """Return the size of one head when together they are as wide as x."""
    if not isinstance(hidden, int) or not isinstance(heads, int) or heads < 1:
        return 1  # ModelConfig says what is wrong
    if hidden % heads:
        raise ValueError(
            f"ModelConfig {name!r}: hidden {hidden} is not divisible by {heads} heads; pick a multiple of "
            f"{heads}, or (llama) give head_size"
        )
    return hidden // heads


# --- published models ---------------------------------------------------------------------------------------

_LLAMA_3: dict[str, Any] = {
    "kv_heads": 8,
    "vocab": 128_256,
    "max_seq": 131_072,
    "rotary_base": 500_000.0,
    "rotary_scaling": RotaryScaling(8.0, 1.0, 4.0, 8192),
}
_MEGATRON: dict[str, Any] = {"vocab": 51_200, "max_seq": 2048}

_KNOWN = [
    # Radford et al. (2019), table 2; heads, vocabulary and context as in the released hparams.json.
    gpt("gpt2", 12, 768, 12),
    gpt("gpt2-medium", 24, 1024, 16),
    gpt("gpt2-large", 36, 1280, 20),
    gpt("gpt2-xl", 48, 1600, 25),
    # Brown et al. (2020), "Language models are few-shot learners", table 2.1, with GPT-2's vocabulary.
    # (Every other layer of theirs attends sparsely, which changes no weight.)
    gpt("gpt3-175b", 96, 12_288, 96, max_seq=2048),
    # Korthikanti et al. (2022), "Reducing activation recomputation", table 3; V and s from section 6.
    gpt("megatron-22b", 48, 6144, 64, **_MEGATRON),
    gpt("megatron-530b", 105, 20_480, 128, **_MEGATRON),
    gpt("megatron-1t", 128, 25_600, 160, **_MEGATRON),
    # Touvron et al. (2023), "Llama 2", table 1; widths from the released config.json.
    llama("llama2-7b", 32, 4096, 32, ffn=11_008),
    llama("llama2-70b", 80, 8192, 64, kv_heads=8, ffn=28_672),
    # Llama team (2024), "The Llama 3 herd of models", table 3; the rest from the config.json of Llama 3.1.
    llama("llama3-8b", 32, 4096, 32, ffn=14_336, **_LLAMA_3),
    llama("llama3-70b", 80, 8192, 64, ffn=28_672, **_LLAMA_3),
    llama("llama3-405b", 126, 16_384, 128, ffn=53_248, **_LLAMA_3),
    # Ours, to train on bytes in minutes. On 8 ranks each has one head, and two share a kv head of tiny-llama.
    gpt("tiny-gpt", 4, 128, 8, vocab=256, max_seq=128),
    llama("tiny-llama", 4, 128, 8, kv_heads=4, ffn=352, vocab=256, max_seq=128),
]
_BY_NAME = {config.name: config for config in _KNOWN}


def names() -> list[str]:
    """Return the names that `get` knows, smaller models of a family first."""
    return list(_BY_NAME)


def get(name: str) -> ModelConfig:
    """Return the configuration of a model by its name.

    Raises
    ------
    ValueError
        If there is none; it lists the names, close ones first.
    """
    if name not in _BY_NAME:
        close = get_close_matches(name.lower(), _BY_NAME, n=3, cutoff=0.5)
        rest = [other for other in _BY_NAME if other not in close]
        raise ValueError(
            f"get: a model {name!r} is not known here; pick one of {', '.join(close + rest)}, or describe it "
            "in a JSON file (from_json)"
        )
    return _BY_NAME[name]


# --- one's own ----------------------------------------------------------------------------------------------

_FAMILIES: dict[str | None, Callable[..., ModelConfig]] = {"gpt": gpt, "llama": llama, None: ModelConfig}


def from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """Return a configuration from its fields; with a "family", from what `gpt` or `llama` takes.

    Raises
    ------
    ValueError
        If fields are missing or unknown, or make no model.

    Examples
    --------
    >>> mine = {"family": "llama", "name": "mine", "layers": 2, "hidden": 64, "heads": 4, "ffn": 160}
    >>> from_dict(mine).parameter_count()
    4190528
    """
    fields = dict(values)
    family = fields.pop("family", None)
    if family not in _FAMILIES:
        raise ValueError(f"from_dict: family {family!r} is not known; pick gpt, llama, or leave it out")
    make = _FAMILIES[family]
    takes = inspect.signature(make).parameters
    needed = {name for name, one in takes.items() if one.default is inspect.Parameter.empty}
    missing, unknown = needed - fields.keys(), fields.keys() - takes.keys()
    if missing or unknown:
        raise ValueError(
            f"from_dict: missing {sorted(missing)}, unknown {sorted(unknown)}; the fields of "
            f"{family or 'a model without a family'} are {', '.join(takes)}"
        )
    if isinstance(fields.get("rotary_scaling"), Mapping):
        try:
            fields["rotary_scaling"] = RotaryScaling(**fields["rotary_scaling"])
        except TypeError as error:
            raise ValueError(
                f"from_dict: rotary_scaling {fields['rotary_scaling']} is not whole; its fields are "
                f"{', '.join(inspect.signature(RotaryScaling).parameters)}"
            ) from error
    return make(**fields)


def from_json(path: str | Path) -> ModelConfig:
    """Return a configuration from a JSON file with the fields that `from_dict` takes.

    Raises
    ------
    ValueError
        If the file is not JSON, or `from_dict` refuses it.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"from_json: {path} is not JSON ({error}); pass a file of a model's dimensions"
        ) from error
    if not isinstance(values, dict):
        raise ValueError(
            f"from_json: {path} holds a {type(values).__name__}, not fields by name; write them in braces"
        )
    return from_dict({"name": Path(path).stem, **values})
