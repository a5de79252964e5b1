"""Tiny random GPT-2 and Llama checkpoints, with logits, by Hugging Face's own library.

Run in an environment of its own: `pip install torch==2.13.0 transformers safetensors numpy`, then
`python make_hub.py`. Made once; the folders beside this file are what it wrote.
"""
# mypy: disable-error-code="import-not-found, misc"

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
GPT2 = GPT2Config(
    vocab_size=61, n_positions=24, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
)
LLAMA = LlamaConfig(
    vocab_size=61,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=8,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
    rope_theta=500.0,
    rope_scaling={
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    bos_token_id=0,
    eos_token_id=0,
)


def make(name: str, model: torch.nn.Module, **how: str) -> None:
    """Draw weights large enough for every part to matter, and save them with the logits of some tokens."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            norm = "norm" in key or "ln_" in key
            parameter.copy_(
                drawn * (0.3 if parameter.dim() == 1 else 0.2) + (norm and key.endswith("weight"))
            )
        tokens = torch.randint(61, (2, 20), generator=generator)
        logits = model.eval()(tokens).logits
    model.save_pretrained(HERE / name, **how)
    (HERE / name / "generation_config.json").unlink(missing_ok=True)
    np.savez(
        HERE / name / "logits.npz",
        tokens=tokens.numpy(),
        logits=logits.numpy(),
        made_with=f"transformers {transformers.__version__}, torch {torch.__version__}",
    )


if __name__ == "__main__":
    make("gpt2", GPT2LMHeadModel(GPT2))
    make("llama", LlamaForCausalLM(LLAMA), max_shard_size="40KB")
