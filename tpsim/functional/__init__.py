"""Stateless forward/backward pairs: the arithmetic of every layer, with no state and no communication.

Each `f` stands beside its `f_grad`, derived by hand: `f_grad` takes what `f` was given (or saved) and `dy`,
the gradient of the loss by `f`'s result, and returns the gradients by `f`'s inputs.

Arrays are float32 or float64, of one dimension at least, and results keep their dtype; narrow floats
(bfloat16, float16) are for storage only, see `in_float32`. Inputs are never written to, but where a name
says "add"; the in-place updates touch fresh temporaries only: memory traffic is what these functions cost.
What is marked `@kernel` is one kernel on a GPU, and one event of a trace.
Nothing here branches on a value or creates an array but through one it was given, so that arrays that have a
shape and no data (`tpsim.dry`) pass through as well.
"""

from tpsim.functional.activations import (
    erf,
    gelu,
    gelu_grad,
    gelu_tanh,
    gelu_tanh_grad,
    silu,
    silu_grad,
    swiglu,
    swiglu_grad,
)
from tpsim.functional.attention import (
    attention,
    attention_grad,
    attention_output,
    attention_output_grad,
    attention_probabilities,
    attention_probabilities_grad,
    causal_mask,
)
from tpsim.functional.dropout import dropout, dropout_grad
from tpsim.functional.flash_attention import flash_attention, flash_attention_grad
from tpsim.functional.linear import (
    add_linear_grad_weight,
    bias_grad,
    linear,
    linear_grad,
    linear_grad_input,
    linear_grad_weight,
)
from tpsim.functional.narrow import NARROW, Array, in_float32, widen
from tpsim.functional.norms import layer_norm, layer_norm_grad, rms_norm, rms_norm_grad
from tpsim.functional.rotary import RotaryScaling, rotary, rotary_grad, rotary_tables
from tpsim.functional.softmax import cross_entropy, cross_entropy_grad, softmax, softmax_grad

__all__ = [
    "NARROW",
    "Array",
    "RotaryScaling",
    "add_linear_grad_weight",
    "attention",
    "attention_grad",
    "attention_output",
    "attention_output_grad",
    "attention_probabilities",
    "attention_probabilities_grad",
    "bias_grad",
    "causal_mask",
    "cross_entropy",
    "cross_entropy_grad",
    "dropout",
    "dropout_grad",
    "erf",
    "flash_attention",
    "flash_attention_grad",
    "gelu",
    "gelu_grad",
    "gelu_tanh",
    "gelu_tanh_grad",
    "in_float32",
    "layer_norm",
    "layer_norm_grad",
    "linear",
    "linear_grad",
    "linear_grad_input",
    "linear_grad_weight",
    "rms_norm",
    "rms_norm_grad",
    "rotary",
    "rotary_grad",
    "rotary_tables",
    "silu",
    "silu_grad",
    "softmax",
    "softmax_grad",
    "swiglu",
    "swiglu_grad",
    "widen",
]
