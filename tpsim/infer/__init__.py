"""Generating text: the cache of keys and values, prefill and decode, sampling, and batches that change.

Everything runs on the layers' own forward, on as many ranks as the model has; see `Engine`.
"""

from tpsim.infer.cache import KVCache, Step
from tpsim.infer.decode import next_logits, prefill
from tpsim.infer.engine import Emitted, Engine
from tpsim.infer.sampling import Place, Sampler, Sampling
from tpsim.infer.scheduler import Request, Scheduler

__all__ = [
    "Emitted",
    "Engine",
    "KVCache",
    "Place",
    "Request",
    "Sampler",
    "Sampling",
    "Scheduler",
    "Step",
    "next_logits",
    "prefill",
]
