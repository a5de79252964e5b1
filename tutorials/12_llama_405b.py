# %% [markdown]
# # 12 · Llama-3 405B on your laptop
#
# *20 minutes. You need: chapters 3, 7 and 9; chapter 10 for the last question.*
#
# What happens at $t$ = 8 in a model of 405 billion weights? Its weights alone are 810 GB, so nobody runs it
# to see. Most tools have formulas for it, written beside the code, and formulas fit the model that they
# were derived for. But a layer's code already says what it computes, sends and keeps. Only the *numbers*
# don't fit, and to count we don't need numbers. We need shapes.
#
# A **dry run** is the very layer code on arrays that have a shape and no data.

# %%
import math

import numpy as np

import tpsim

# %% [markdown]
# ## By hand: an array without numbers
#
# NumPy asks an object, before it computes with it, whether it wants to do that itself: by its method
# `__array_ufunc__` (NumPy enhancement proposal 13). So we can hand NumPy code our own arrays, and it does
# not notice. Two rules are enough for an MLP. A product of $[m, k]$ and $[k, n]$ is $[m, n]$ and costs
#
# $$2\,m\,k\,n \text{ FLOPs};$$
#
# anything else gives the shape that its operands broadcast to, at one FLOP an entry.


# %%
class Shape(np.lib.mixins.NDArrayOperatorsMixin):  # its + - * @ become ufuncs
    """An array's shape, without the array."""

    flops = 0  # of all operations so far

    def __init__(self, *shape):
        self.shape = shape

    def __repr__(self):
        return f"Shape{self.shape}"

    @property
    def T(self):
        return Shape(*self.shape[::-1])

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        shapes = [np.shape(x) for x in inputs]  # of a number: ()
        if ufunc is np.matmul:
            (m, k), (k_too, n) = shapes
            if k != k_too:
                raise ValueError(f"a product of {shapes[0]} and {shapes[1]}: {k} is not {k_too}")
            Shape.flops += 2 * m * k * n
            return Shape(m, n)
        result = Shape(*np.broadcast_shapes(*shapes))
        Shape.flops += math.prod(result.shape)
        return result


# %% [markdown]
# Here is the MLP of chapter 3, forward and backward, with Llama's SiLU, $z\,\sigma(z)$. It was not written
# for `Shape`. First with numbers, on 4 ranks, then with shapes, on none.


# %%
def mlp(X, A, B, dY, all_reduce):
    Z = X @ A
    s = 1 / (1 + np.exp(-Z))
    H = Z * s
    Y = all_reduce(H @ B)  # g
    dB = H.T @ dY
    dZ = (dY @ B.T) * (s * (1 + Z * (1 - s)))
    dA = X.T @ dZ
    dX = all_reduce(dZ @ A.T)  # f
    return Y, dX, dA, dB


def arrays(array, tokens, h, f, t):
    """Return one rank's X, A, B and dY, made by `array`."""
    return array(tokens, h), array(h, f // t), array(f // t, h), array(tokens, h)


def with_numbers(comm, *sizes):
    group = tpsim.Group(comm)
    with tpsim.Trace() as trace:
        results = mlp(*arrays(lambda *shape: np.ones(shape), *sizes), group.all_reduce)
    return [result.shape for result in results], sum(event.bytes_sent for event in trace.collectives)


def with_shapes(tokens, h, f, t, itemsize):
    def all_reduce(x):
        nonlocal sent
        sent += 2 * (t - 1) * math.prod(x.shape) * itemsize // t
        return x

    sent, Shape.flops = 0, 0
    results = mlp(*arrays(Shape, tokens, h, f, t), all_reduce)
    return [result.shape for result in results], sent


small = 6, 8, 32, 4  # tokens, h, f, t
for found in tpsim.run(with_numbers, 4, *small):
    assert found == with_shapes(*small, itemsize=8)
print("numbers and shapes agree:", found)

# %% [markdown]
# Now the sizes of Llama-3 405B, 8,192 tokens on 8 ranks, in 2-byte numbers. (Its MLP has a third matrix,
# the gate, which our toy leaves out.) With numbers, one rank's share of this one MLP of 126 would take a
# laptop minutes.

# %%
llama = 8192, 16384, 53248, 8
shapes, sent = with_shapes(*llama, itemsize=2)
print("Y, dX, dA, dB:", shapes)
print(f"a rank sends {sent / 1e9:.2f} GB and computes {Shape.flops / 1e12:.1f} TFLOP")
tokens, h, f, t = llama
assert sent == 2 * 2 * (t - 1) * tokens * h * 2 // t
assert Shape.flops > 6 * 2 * tokens * h * f // t  # 6 products, and a little

# %% [markdown]
# ## The same in tpsim
#
# `ShapeArray` is the same idea for all of NumPy that the layers use. It has a dtype and a memory layout as
# well, so that a view isn't counted twice, and what it does goes into the trace. On our MLP it agrees with
# the toy.

# %%
from tpsim.comm.dry import dry_group
from tpsim.dry import ShapeArray


def array(*shape):
    return ShapeArray(shape, "float16")


with tpsim.Trace(kernels=True) as trace:
    results = mlp(*arrays(array, *llama), dry_group(8).all_reduce)
assert [result.shape for result in results] == shapes
assert sum(kernel.flops for kernel in trace.kernels) == Shape.flops
assert sum(event.bytes_sent for event in trace.collectives) == sent

# %% [markdown]
# **Predict 1.** There are no numbers. Which of these lines still work: a softmax; a causal mask; stopping
# when something is NaN; dropping the rows that are negative?

# %%
scores = array(4, 4)
lines = {
    "softmax": lambda: np.exp(scores - scores.max(axis=1, keepdims=True)).sum(axis=1),
    "mask": lambda: np.where(np.tri(4) > 0, scores, -np.inf),
    "stop at NaN": lambda: bool(np.isnan(scores).any()),
    "drop rows": lambda: scores[scores[:, 0] > 0],
}
worked = {}
for name, line in lines.items():
    try:
        print(f"{name}: {line()}")
        worked[name] = True
    except TypeError as error:
        print(f"{name}: {str(error)[:90]} …")
        worked[name] = False
assert worked == {"softmax": True, "mask": True, "stop at NaN": False, "drop rows": False}

# %% [markdown]
# **Answer 1.** Whatever has a shape that follows from shapes works. To stop at NaN is a branch on a
# *value*, and how many rows are dropped depends on values: these are refused, by name, rather than guessed.
# Layers that are to run dry must not do so. It is a good habit anyway: on a GPU such a line waits for the
# device, and if ranks decide differently, one waits for the other for ever
# ([demos/deadlock.py](demos/deadlock.py)).
#
# Is the dry run right? The strictest test is to do both. A small Llama, with numbers on 4 ranks and with
# shapes on one that stands for all: the same collectives in the same order, byte for byte, and the same
# bytes kept for backward.

# %%
from tpsim.dry import shapes_only
from tpsim.models import LanguageModel, find

tiny = find("tiny-llama")


def step(model, tokens):
    with tpsim.Trace() as trace:
        loss = model.forward(tokens, tokens)
        model.backward(loss)  # any gradient has the right shape
    return [(e.phase, e.layer, e.operation, e.bytes_sent) for e in trace.collectives], trace.peak_saved_bytes


def real(comm):
    return step(LanguageModel(tiny, tpsim.Group(comm)), np.zeros((2, 16), np.int64))


with shapes_only():
    without_data = LanguageModel(tiny, dry_group(4))
dry = step(without_data, ShapeArray((2, 16), "int64"))
assert tpsim.run(real, 4)[0] == dry
print(f"{len(dry[0])} collectives and {dry[1]:,} bytes kept: equal. The last collective is", dry[0][-1])

# %% [markdown]
# ## 405 billion weights
#
# `dry_step` does this for a whole training step, optimizer included.

# %%
import time

from tpsim.studies.dry_run import Plan, dry_block, dry_step

llama, seq = find("llama3-405b"), 8192
began = time.perf_counter()
microbatch = dry_step(Plan(config=llama, tp=8, seq=seq)).microbatch
print(f"all {llama.layers} layers, forward and backward, on your laptop: {time.perf_counter() - began:.1f} s")
print(f"{len(microbatch.kernels):,} kernels, {len(microbatch.collectives)} collectives, the first ones:")
for event in microbatch.collectives[:3]:
    print(f"  {event.layer:24} {event.operation} of {event.shape}, {event.bytes_sent / 1e6:.0f} MB sent")

held = sum(parameter.nbytes for parameter in microbatch.parameters) // 2
print(f"rank 0 has {held / 1e9:.1f} of {llama.parameter_count() / 1e9:.1f} billion weights")
assert 1 < 8 * held / llama.parameter_count() < 1.0001
assert 810e9 < 2 * llama.parameter_count() < 812e9

# %% [markdown]
# ## What the papers' formulas say
#
# For a GPT's block, without dropout, they have
#
# $$72\,b s h^2 \Big(1 + \frac{s}{6h}\Big) \text{ FLOPs} \qquad
# \frac{32\,s b h}{t} \text{ bytes kept} \qquad 8\,b s h\,\frac{t-1}{t} \text{ numbers sent}$$
#
# The first is Korthikanti et al. 2022, "Reducing activation recomputation in large transformer models",
# appendix A. The second is its table 2 (34 with dropout), with sequence parallelism and selective
# recompute. The third is chapter 5's four all-reduces. A GPT has two matrices of $h \times 4h$ in its MLP,
# and as many key-value heads as heads. Llama has three matrices, narrower ones, and few key-value heads.
#
# **Predict 2.** For which of GPT-3 175B, Llama-3 8B and Llama-3 405B does each of the three hold?


# %%
def block(config, seq, t=8):
    h, plan = config.hidden, Plan(config=config, tp=t, seq=seq, recompute="selective")
    trace = dry_block(plan)
    once = [kernel for kernel in trace.kernels if "recompute" not in kernel.layer]
    flops = t * sum(kernel.matmul_flops for kernel in once) / (72 * seq * h**2 * (1 + seq / (6 * h)))
    sent = sum(e.bytes_sent for e in trace.collectives) / (2 * 8 * seq * h * (t - 1) / t)
    in_sequence = dry_block(Plan(**vars(plan) | {"sequence_parallel": True}))
    kept = sum(saved.nbytes for saved in in_sequence.saved if saved.kind == "activation")
    return flops, kept * t / (32 * seq * h), sent


print("run / formula     FLOPs    kept    sent")
ratios = {name: block(find(name), 2048) for name in ("gpt3-175b", "llama3-8b", "llama3-405b")}
for name, found in ratios.items():
    print(f"{name:14}" + "".join(f"{ratio:8.3f}" for ratio in found))
np.testing.assert_allclose(ratios["gpt3-175b"], 1, rtol=1e-12)
assert 1.07 < ratios["llama3-8b"][0] < 1.08
assert 0.98 < ratios["llama3-405b"][0] < 1

# %% [markdown]
# **Answer 2.** For GPT-3 the run gives all three exactly: a strict test of both. What is sent holds for
# Llama too, since only the stream of $h$ numbers a token travels. FLOPs and memory are those of another
# model: 8B computes 8 % more than the formula says. For 405B it is within 1 %, but by chance: its MLP,
# three matrices of $3.25\,h$, is larger than a GPT's, and its attention smaller. A formula knows its model.
# The run knows yours.
#
# ## Time, memory, and which $t$
#
# A profile of the hardware puts a time on each kernel and each collective (chapter 9). Here is one block of
# 126 on eight H200s, with sequence parallelism: blocking, and with two ways to hide communication.

# %%
from tpsim.cost.hardware import load
from tpsim.plots import timeline
from tpsim.plots.picture import save
from tpsim.studies import figures

h200 = load("h200")
shown = figures.timeline(llama, h200)
for way, spans in shown["lanes"].items():
    whole = max(span["end"] for span in spans)
    print(f"{way:17} {1e3 * whole:.1f} ms, and for {shown['exposed'][way] / whole:.0%} of it ranks wait")
assert 0.15 < shown["exposed"]["blocking"] / max(s["end"] for s in shown["lanes"]["blocking"]) < 0.25
save(timeline(**shown), "12_timeline")

# %% [markdown]
# Blocking, a fifth of the time goes into waiting. Now the step as a whole, of one sequence, with every
# block recomputed so that its activations take least room.

# %%
from tpsim.studies.estimate import Question, answer

options = {"sequence_parallel": True, "recompute": "full"}
rows = answer(Question(model="llama3-405b", ranks=(4, 8, 16), **options)).rows
print("one sequence:  memory   a step   waiting   tokens/s a device")
for row in rows:
    print(f"t = {row.plan.tp:2}     {row.memory.total / 1e9:8,.0f} GB{row.step:7.1f} s", end="")
    print(f"{row.exposed / row.step:9.0%}{row.tokens_per_second_per_device:12.0f}")
assert not any(row.fits for row in rows)
assert rows[0].tokens_per_second_per_device > rows[2].tokens_per_second_per_device

# %% [markdown]
# Every device contributes *less* the larger $t$ is, and past 8, where messages leave the node, much less.
# So one wants $t$ small; memory wants it large. None of these fits. With 18 bytes a weight (chapter 1), 405
# billion are 7.3 TB: 52 devices for these alone. Tensor parallelism must be joined with something else,
# here with FSDP (chapter 10), over 16 groups of 8 ranks, each of which runs a sequence of its own.

# %%
from tpsim.plots import memory_stack
from tpsim.studies.costs import costs


def joined(groups):
    return costs(Plan(config=llama, tp=8, dp=groups, fsdp=True, seq=seq, **options), h200)


few = joined(groups=16)
print(f"on {few.ranks} devices: {few.memory.total / 1e9:.0f} GB")
assert few.fits
assert 51 < 18 * llama.parameter_count() / h200.memory_bytes < 52
shown = [row.to_dict() for row in (*rows[1:], few)]
save(memory_stack(shown, h200.memory_bytes, "Llama-3 405B"), "12_memory")

# %% [markdown]
# **Predict 3.** Meta trained it on 16,384 devices, with batches of 16 million tokens: 2,048 sequences of
# 8,192 (Llama team 2024, "The Llama 3 herd of models", section 3.3.2 and table 4). FSDP wants at least one
# sequence for each of its groups. What is the smallest $t$ then? And does such a step compute most of the
# time, or wait?

# %%
devices, sequences = 16384, 16 * 2**20 // seq
for t in (1, 2, 4, 8):
    print(f"t = {t}: {devices // t:6,} groups for {sequences:,} sequences")
all_of_them = joined(groups=2048)
print(f"t = 8: {all_of_them.memory.total / 1e9:.0f} GB, {all_of_them.mfu:.0%} of the peak,", end=" ")
print(f"and {all_of_them.exposed / all_of_them.step:.0%} of the time it waits for messages")
assert devices // sequences == 8
assert all_of_them.exposed > 0.5 * all_of_them.step

# %% [markdown]
# **Answer 3.** $t = 8$: with a smaller one there are not enough sequences for all devices, and a node has
# eight of them. It fits easily, and mostly waits: each group of eight gathers all weights over the network,
# twice, and sends their gradients, for a single sequence (chapter 10). Meta had $t = 8$ as well, but cut
# the layers into 16 stages of a pipeline. There weights stay where they are for a whole step, and only the
# stream of $h$ numbers a token goes on to the next stage, for 16 sequences one after the other. The paper
# reports 400 TFLOP/s a device, two fifths of the peak. tpsim has no pipeline; `tpsim estimate llama3-405b`
# prints these tables for any other choice.
#
# ## Asked for real: what does $t$ do to the norms?
#
# A user of a memory calculator compares its code with the paper ([llm-analysis
# #19](https://github.com/cli99/llm-analysis/issues/19)). A layer has two norms, and the code seems to
# add one. Only attention and MLP are cut, and the code divides the norms by $t$ as well. Who is right? Ask
# the layers.

# %%
import collections

cut, whole = collections.Counter(), collections.Counter()
for parameter in microbatch.parameters:
    into = whole if parameter.shape == parameter.whole_shape else cut
    into[parameter.name.split(".")[-2]] += parameter.nbytes
print("cut:  ", {name: f"{nbytes / 1e9:.1f} GB" for name, nbytes in cut.items()})
print("whole:", {name: f"{nbytes / 1e6:.2f} MB" for name, nbytes in whole.items()})
assert whole == {"norm1": whole["norm2"], "norm2": whole["norm2"], "norm": 2 * llama.hidden}
assert whole["norm2"] == llama.layers * llama.hidden * 2
assert sum(whole.values()) < 1e-4 * sum(cut.values())

# %% [markdown]
# The paper is right: two norms a layer and one at the end, and every rank has them whole. (A later change,
# [#28](https://github.com/cli99/llm-analysis/pull/28), took such a division out.) They are 8 MB beside 101
# GB, so no total would ever show the mistake. With sequence parallelism there is a second effect: a norm's
# gradient must be summed over the ranks (chapter 7), a collective that a formula easily forgets. Code that
# is run forgets nothing.
#
# ## To take along
#
# - A dry run is the layers' own code on shapes. It counts what is computed, sent and kept, at any size.
# - The papers' formulas are exact for the GPT that they were made for. Use them to test a run.
# - Which $t$: as small as memory and the number of sequences allow, and not beyond a node. For the largest
#   models TP must be joined with FSDP or a pipeline.
#
# This is the last chapter. The exercises go on from here: `tpsim lab start`.
