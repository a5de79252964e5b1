"""The Hugging Face layout: real logits at every t, from a rank's own slices, and wrong tensors are named."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tpsim import Group, models, reference, run
from tpsim.models import LanguageModel, ModelConfig, RotaryScaling, hub
from tpsim.models.lazy import Stored, TensorFile

Array = Any
Tensors = dict[str, Array]
GOLDEN = Path(__file__).parent / "golden" / "hub"
GPT = replace(models.gpt("drawn", 2, 16, 4, vocab=21, max_seq=12), ffn=40)
LLAMA = models.llama(
    "drawn",
    2,
    16,
    8,
    kv_heads=2,
    ffn=24,
    vocab=21,
    max_seq=12,
    rotary_scaling=RotaryScaling(8.0, 1.0, 4.0, 4),
)
CONFIGS = {
    "gpt2": GPT,
    "gpt2 untied": replace(GPT, tied=False, activation="gelu"),
    "llama": LLAMA,
    "llama tied": replace(LLAMA, tied=True, rotary_scaling=None, head_size=6),
    "llama with biases": replace(LLAMA, bias=True, kv_heads=8),
}


# --- what the layout is, written down apart from the code ---------------------------------------------------


def drawn_gpt2(config: ModelConfig, rng: np.random.Generator) -> tuple[Tensors, Tensors]:
    """Their tensors, and ours."""
    h, ffn = config.hidden, config.ffn

    def draw(*shape: int) -> Array:
        return rng.normal(0.0, 0.3, shape).astype(np.float32)

    theirs = {"wte.weight": draw(config.vocab, h), "wpe.weight": draw(config.max_seq, h)}
    ours = {"embedding.weight": theirs["wte.weight"], "positions.weight": theirs["wpe.weight"]}
    parts = [("ln_1", "norm1", 0, h), ("attn.c_attn", "attention.qkv", h, 3 * h)]
    parts += [("attn.c_proj", "attention.out", h, h), ("ln_2", "norm2", 0, h)]
    parts += [("mlp.c_fc", "mlp.up", h, ffn), ("mlp.c_proj", "mlp.down", ffn, h)]
    for i in range(config.layers):
        for their, our, rows, columns in parts:
            theirs[f"h.{i}.{their}.weight"] = draw(rows, columns) if rows else 1 + draw(columns)
            theirs[f"h.{i}.{their}.bias"] = draw(columns)
            for what in ("weight", "bias"):
                ours[f"blocks.{i}.{our}.{what}"] = theirs[f"h.{i}.{their}.{what}"]
    for what in ("weight", "bias"):
        ours[f"norm.{what}"] = theirs[f"ln_f.{what}"] = draw(h)
    theirs = {f"transformer.{name}": tensor for name, tensor in theirs.items()}
    if not config.tied:
        ours["head.weight"] = theirs["lm_head.weight"] = draw(config.vocab, h)
    return theirs, ours


def drawn_llama(config: ModelConfig, rng: np.random.Generator) -> tuple[Tensors, Tensors]:
    h, ffn, d = config.hidden, config.ffn, config.head_size

    def draw(*shape: int) -> Array:
        return rng.normal(0.0, 0.3, shape).astype(np.float32)

    theirs = {"model.embed_tokens.weight": draw(config.vocab, h), "model.norm.weight": 1 + draw(h)}
    ours = {
        "embedding.weight": theirs["model.embed_tokens.weight"],
        "norm.weight": theirs["model.norm.weight"],
    }
    for i in range(config.layers):
        at, block = f"model.layers.{i}.", f"blocks.{i}."
        q, k, v = (draw(heads * d, h) for heads in (config.heads, config.kv_heads, config.kv_heads))
        out, gate, up, down = draw(h, config.heads * d), draw(ffn, h), draw(ffn, h), draw(h, ffn)
        names = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
        names += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
        for name, tensor in zip(names, (q, k, v, out, gate, up, down), strict=True):
            theirs[f"{at}{name}.weight"] = tensor
            if config.bias:
                theirs[f"{at}{name}.bias"] = draw(len(tensor))
        theirs[f"{at}input_layernorm.weight"] = ours[f"{block}norm1.weight"] = 1 + draw(h)
        theirs[f"{at}post_attention_layernorm.weight"] = ours[f"{block}norm2.weight"] = 1 + draw(h)
        ours[f"{block}attention.qkv.weight"] = np.concatenate([q.T, k.T, v.T], axis=1)
        ours[f"{block}attention.out.weight"] = out.T
        ours[f"{block}mlp.up.weight"] = np.concatenate([gate.T, up.T], axis=1)
        ours[f"{block}mlp.down.weight"] = down.T
        if config.bias:
            biases = [theirs[f"{at}{name}.bias"] for name in names]
            ours[f"{block}attention.qkv.bias"] = np.concatenate(biases[:3])
            ours[f"{block}attention.out.bias"] = biases[3]
            ours[f"{block}mlp.up.bias"] = np.concatenate(biases[4:6])
            ours[f"{block}mlp.down.bias"] = biases[6]
    if not config.tied:
        ours["head.weight"] = theirs["lm_head.weight"] = draw(config.vocab, h)
    return theirs, ours


def config_json(config: ModelConfig) -> dict[str, Any]:
    if config.positions == "learned":
        return {
            "model_type": "gpt2",
            "n_layer": config.layers,
            "n_embd": config.hidden,
            "n_head": config.heads,
            "n_inner": config.ffn,
            "n_positions": config.max_seq,
            "vocab_size": config.vocab,
            "activation_function": "gelu_new" if config.activation == "gelu_tanh" else "gelu",
            "tie_word_embeddings": config.tied,
        }
    scaling = config.rotary_scaling
    return {
        "model_type": "llama",
        "num_hidden_layers": config.layers,
        "hidden_size": config.hidden,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "intermediate_size": config.ffn,
        "max_position_embeddings": config.max_seq,
        "vocab_size": config.vocab,
        "hidden_act": "silu",
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
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "tie_word_embeddings": config.tied,
    }


def put(folder: Path, config: ModelConfig) -> tuple[Tensors, Tensors]:
    """Write a random model into a folder; return its tensors, theirs and ours."""
    draw = drawn_gpt2 if config.positions == "learned" else drawn_llama
    theirs, ours = draw(config, np.random.default_rng(0))
    save_file(theirs, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config_json(config)))
    return theirs, ours


def logits_of(folder: Path, tokens: Array, ranks: int, **options: Any) -> Array:
    def main(comm: Any) -> Array:
        return hub.read(folder, Group(comm), **options).logits(tokens)

    vocab = hub.config_of(folder).vocab
    return np.concatenate(run(main, ranks), axis=-1)[..., :vocab]


# --- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_logits_are_the_librarys(name: str, ranks: int) -> None:
    golden = np.load(GOLDEN / name / "logits.npz")
    found = logits_of(GOLDEN / name, golden["tokens"], ranks)
    assert found.dtype == np.float32
    assert np.abs(golden["logits"]).max() > 1
    np.testing.assert_allclose(found, golden["logits"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_that_is_read_is_the_references(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    _, ours = put(tmp_path, config)
    tokens = np.random.default_rng(1).integers(config.vocab, size=(2, 10))
    weights = {key: tensor.astype(np.float64) for key, tensor in ours.items()}
    _, cache = reference.model(weights, tokens, tokens, **config.reference_options())
    for ranks in (1, 2, 4):
        found = logits_of(tmp_path, tokens, ranks, dtype="float64")
        np.testing.assert_allclose(found, cache["logits"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", CONFIGS)
def test_dimensions_are_read(name: str, tmp_path: Path) -> None:
    put(tmp_path, CONFIGS[name])
    assert hub.config_of(tmp_path) == replace(CONFIGS[name], name=tmp_path.name)


def test_newer_files_have_their_rotary_base_beside_the_scaling() -> None:
    config = hub.config_of(GOLDEN / "llama")
    assert (config.rotary_base, config.rotary_scaling) == (500.0, RotaryScaling(8.0, 1.0, 4.0, 16))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_rank_reads_its_own_slices_and_no_more(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, CONFIGS[name])
    read: list[int] = []
    plain = Stored._read

    def counted(self: Stored, where: tuple[slice, ...]) -> Array:
        part = plain(self, where)
        read.append(part.nbytes)
        return part

    monkeypatch.setattr(Stored, "_read", counted)

    def main(comm: Any) -> tuple[int, int]:
        group = Group(comm)
        model = LanguageModel(hub.config_of(tmp_path), group)
        before = sum(read)
        hub.load_into(model, tmp_path)
        real = sum(part.nbytes for one in model.parameters().values() for part in one.parts_of(one.data))
        return sum(read) - before, real

    for ranks in (1, 2, 4, 8 if CONFIGS[name].heads == 8 else 4):
        for got, own in run(main, ranks):  # reading hands over to no other rank
            assert got == own


def test_prefixes_old_buffers_and_copies_of_a_tied_head_do_not_matter(tmp_path: Path) -> None:
    theirs, ours = put(tmp_path, GPT)
    bare = {name.removeprefix("transformer."): tensor for name, tensor in theirs.items()}
    bare |= {"h.0.attn.bias": np.ones((1, 1, 12, 12), np.uint8), "h.1.attn.masked_bias": np.ones(1)}
    bare["lm_head.weight"] = theirs["transformer.wte.weight"]
    save_file(bare, tmp_path / "model.safetensors")
    for name, parameter in hub.read(tmp_path).parameters().items():
        np.testing.assert_array_equal(parameter.data, ours[name])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_files_are_read_exactly(dtype: str, tmp_path: Path) -> None:
    theirs, _ = put(tmp_path, LLAMA)
    narrow = {name: tensor.astype(dtype) for name, tensor in theirs.items()}
    save_file(narrow, tmp_path / "model.safetensors")
    weight = hub.read(tmp_path).blocks[1].attention.out.weight.data
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(
        weight, narrow["model.layers.1.self_attn.o_proj.weight"].T.astype(np.float32)
    )
    assert hub.read(tmp_path, dtype=dtype).head.weight.data.dtype == np.dtype(dtype)


# --- writing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_written_is_what_was_read(name: str, ranks: int, tmp_path: Path) -> None:
    theirs, _ = put(tmp_path, CONFIGS[name])
    out = tmp_path / "out"

    def main(comm: Any) -> None:
        group = Group(comm)
        hub.write(hub.read(tmp_path, group), out, group)

    run(main, ranks)
    written = load_file(out / "model.safetensors")
    assert written.keys() == theirs.keys()
    for key, tensor in theirs.items():
        np.testing.assert_array_equal(written[key], tensor, err_msg=key)
    assert hub.config_of(out) == replace(CONFIGS[name], name="out")
    assert TensorFile(out / "model.safetensors").metadata == {"format": "pt"}


def test_a_model_between_the_families_has_no_layout(tmp_path: Path) -> None:
    model = LanguageModel(replace(LLAMA, qk_norm=True))
    with pytest.raises(ValueError, match=r"drawn: neither a GPT-2 nor a Llama.*; build one with"):
        hub.write(model, tmp_path)


# --- mistakes -----------------------------------------------------------------------------------------------


def without_a_tensor(tensors: Tensors) -> None:
    del tensors["model.layers.1.self_attn.k_proj.weight"]


def with_one_more(tensors: Tensors) -> None:
    tensors["model.layers.2.mlp.up_proj.weight"] = np.ones((24, 16))


def turned(tensors: Tensors) -> None:
    tensors["model.layers.0.mlp.down_proj.weight"] = np.ones((24, 16))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (without_a_tensor, "missing model.layers.1.self_attn.k_proj.weight; take the files"),
        (with_one_more, "superfluous model.layers.2.mlp.up_proj.weight; take the files"),
        (turned, r"model.layers.0.mlp.down_proj.weight is \(24, 16\) rather than \(16, 24\); take the files"),
        (lambda tensors: tensors.clear(), "missing lm_head.weight, .* and 17 more; take the files"),
    ],
)
def test_wrong_tensors_are_named(change: Callable[[Tensors], None], complaint: str, tmp_path: Path) -> None:
    theirs, _ = put(tmp_path, LLAMA)
    change(theirs)
    save_file(theirs, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=complaint):
        run(lambda comm: hub.read(tmp_path, Group(comm)), 2)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"model_type": "mamba"}, "config.json: model_type 'mamba' is not known; take one of gpt2, llama"),
        ({"hidden_act": "relu"}, "config.json: hidden_act 'relu' is not what these layers compute; take"),
        (
            {"mlp_bias": True},
            "config.json: mlp_bias True is not what these layers compute; take a model with False",
        ),
        (
            {"rope_scaling": {"rope_type": "yarn"}},
            "config.json: rotary scaling 'yarn' is not known; take a model",
        ),
    ],
)
def test_what_the_layers_cannot_compute_is_refused(
    fields: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    put(tmp_path, LLAMA)
    (tmp_path / "config.json").write_text(json.dumps(config_json(LLAMA) | fields))
    with pytest.raises(ValueError, match=complaint):
        hub.config_of(tmp_path)


def test_a_dimension_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match=r"config.json: has no 'n_embd'; take the config.json of a gpt2"):
        hub.config_of(tmp_path)


def test_files_that_are_not_there_or_damaged_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config.json: there is no such file to read; pass a folder"):
        hub.read(tmp_path)
    folder = shutil.copytree(GOLDEN / "llama", tmp_path / "llama")
    second = folder / "model-00002-of-00002.safetensors"
    content = second.read_bytes()
    second.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"model-00002-of-00002.safetensors: not a whole safetensors file"):
        hub.read(folder)
    second.unlink()
    with pytest.raises(ValueError, match=r"model-00002-of-00002.safetensors: there is no such file; copy"):
        hub.read(folder)
    shutil.copy(folder / "model-00001-of-00002.safetensors", second)
    with pytest.raises(ValueError, match=r"00002-of-00002.safetensors: has no tensor .*, and the index says"):
        hub.read(folder)
