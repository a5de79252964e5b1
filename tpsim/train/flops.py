"""What a training step computes, and how fast this machine could be."""

from __future__ import annotations

import os
import time

import numpy as np
from numpy.typing import DTypeLike

from tpsim.comm.blas import blas_threads
from tpsim.models import ModelConfig


def model_flops(config: ModelConfig, tokens: int, seq: int) -> int:
    """Return the FLOPs of a step over `tokens` in sequences of `seq`: matrix products, each once.

    Forward, 2 for each weight of a matrix and 4·s for each entry of the heads' q, for scores and values;
    backward, twice that.

    References
    ----------
    Korthikanti et al. (2022), "Reducing activation recomputation in large transformer models", appendix A.

    Examples
    --------
    A GPT has 72bLsh²(1 + s/6h + V/12hL):

    >>> from tpsim import models
    >>> L, h, V, b, s = 12, 768, 50257, 8, 1024
    >>> formula = 72 * b * L * s * h * h * (1 + s / (6 * h) + V / (12 * h * L))
    >>> model_flops(models.get("gpt2"), b * s, s) == round(formula)
    True
    """
    h, q, kv = config.hidden, config.heads * config.head_size, config.kv_heads * config.head_size
    up = 2 * config.ffn if config.activation == "swiglu" else config.ffn
    block = h * (q + 2 * kv) + q * h + h * up + config.ffn * h
    forward = 2 * (config.layers * block + h * config.vocab) + 4 * config.layers * seq * q
    return 3 * tokens * forward


def gemm_peak(dtype: DTypeLike, size: int = 512) -> float:
    """Return this machine's FLOPs a second: one core's best matrix product, times the cores it may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores * core_peak(dtype, size)


def core_peak(dtype: DTypeLike, size: int = 512) -> float:
    """Return the FLOPs a second of this machine's best matrix product on one BLAS thread, a rank's share."""
    a = np.ones((size, size), dtype)
    seconds = []
    with blas_threads(1):
        for _ in range(5):
            began = time.perf_counter()
            a @ a
            seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)
