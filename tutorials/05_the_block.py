# %% [markdown]
# # 5 · The block: bug or noise?
#
# *20 minutes. You need: chapters 3 and 4.*
#
# A transformer's block joins the two regions that you have built, each behind a norm, each added to what came
# in (the pre-norm block of GPT-2; Shoeybi et al. 2019, "Megatron-LM", section 3):
#
# $$Z = X + \mathrm{attention}(\mathrm{norm}(X)), \qquad Y = Z + \mathrm{MLP}(\mathrm{norm}(Z))$$
#
# Here you count what it sends. Then comes the question that everyone has who first runs it on two devices:
# the result is not quite that of one device. Is it a bug?

# %%
import numpy as np
from ml_dtypes import bfloat16, finfo

import tpsim
from tpsim.functional import gelu, gelu_tanh

tokens, heads, d, f = 32, 8, 8, 256
h = heads * d
rng = np.random.default_rng(6)
shapes = {"Wq": (h, h), "Wk": (h, h), "Wv": (h, h), "Wo": (h, h), "A": (h, f), "B": (f, h)}
weights = {name: rng.standard_normal(shape) / np.sqrt(shape[0]) for name, shape in shapes.items()}
weights = {name: W.astype(bfloat16).astype(float) for name, W in weights.items()}  # as narrow memory has them
X = rng.standard_normal((tokens, h)).astype(bfloat16).astype(float)
future = np.triu(np.full((tokens, tokens), -np.inf), 1)

# %% [markdown]
# ## By hand: forward
#
# The two regions, as in the last chapters. Each returns a term, which is to be summed over ranks. Ignore
# `store` for now: in float64 it does nothing. Later, it makes numbers narrower, as memory does.


# %%
def norm(x):
    x = x - x.mean(axis=1, keepdims=True)
    return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-5)


def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(x, mine, store):
    q, k, v = (store(x @ mine[W]).reshape(tokens, -1, d).swapaxes(0, 1) for W in ("Wq", "Wk", "Wv"))
    P = store(softmax(q @ k.swapaxes(1, 2) / np.sqrt(d) + future))  # [heads/t, tokens, tokens]
    O_i = store(P @ v).swapaxes(0, 1).reshape(tokens, -1)  # [tokens, h/t]
    return O_i @ mine["Wo"]  # [tokens, h]: a term


def mlp(x, mine, store, act=gelu):
    return store(act(store(x @ mine["A"]))) @ mine["B"]  # [tokens, h]: a term


# %% [markdown]
# Norms and additions are done by every rank, alike and in full: they are cheap, and need nothing sent.
# (Ignore `bug`, too.)


# %%
def cut(rank, ranks):
    """Return this rank's rows of Wo and B, and columns of the others."""
    axes = {name: 0 if name in ("Wo", "B") else 1 for name in weights}
    return {name: np.split(W, ranks, axis=axes[name])[rank] for name, W in weights.items()}


def block(comm, x=X, dtype=np.float64, algorithm="ring", bug=None):
    group = tpsim.Group(comm, algorithm)
    mine = (drawn if bug == "drawn by each rank" else cut)(comm.rank, comm.size)

    def store(x):
        return x.astype(dtype).astype(np.float64)

    def g(term):
        return group.all_reduce(term.astype(dtype)).astype(np.float64)

    z = store(x + g(attention(store(norm(x)), mine, store)))
    act = gelu_tanh if bug == "GELU by tanh on rank 1" and comm.rank == 1 else gelu
    term = mlp(store(norm(z)), mine, store, act)
    return store(g(z + term) if bug == "added before the sum" else z + g(term))


Y = tpsim.run(block, 1)[0]
for y in tpsim.run(block, 4):
    np.testing.assert_allclose(y, Y, rtol=1e-12, atol=1e-12)

# %% [markdown]
# ## The same in tpsim
#
# Backward goes the other way, and each addition hands its gradient to both of its branches:
#
# $$\bar Z = \bar Y + \mathrm{norm}'\big(\mathrm{MLP}'(\bar Y)\big), \qquad
# \bar X = \bar Z + \mathrm{norm}'\big(\mathrm{attention}'(\bar Z)\big)$$
#
# `TransformerBlock` is that. Is its $\bar X$ right? Shift $X$ a little in a random direction, and ask the
# code from above how much $L = \sum Y \odot \bar Y$ changes.
#
# **Predict 1.** How many all-reduces does a block make, forward and backward, and of how many numbers each?
# And how many if it keeps nothing but $X$, and runs forward again in backward (full recompute)?

# %%
from tpsim.nn import TransformerBlock

dY, direction = rng.standard_normal((2, tokens, h))
whole = {
    "attention.qkv.weight": np.concatenate([weights[W] for W in ("Wq", "Wk", "Wv")], axis=1),
    "attention.out.weight": weights["Wo"],
    "mlp.up.weight": weights["A"],
    "mlp.down.weight": weights["B"],
    **{f"norm{i}.weight": np.ones(h) for i in (1, 2)},
    **{f"norm{i}.bias": np.zeros(h) for i in (1, 2)},
}


def layer(comm, recompute="none"):
    options = {"activation": "gelu", "bias": False, "dtype": np.float64, "recompute": recompute}
    built = TransformerBlock(h, heads, f, tpsim.Group(comm), **options)
    built.load(whole)
    with tpsim.Trace() as trace:
        y = built.forward(X[None])[0]  # [batch, tokens, h]
        dx = built.backward(dY[None])[0]
    return y, dx, [(e.phase, e.layer, e.operation, e.shape, e.bytes_sent) for e in trace.collectives]


y, dX, calls = tpsim.run(layer, 4)[0]
print(*calls, sep="\n")
np.testing.assert_allclose(y, Y, rtol=1e-10, atol=1e-12)
up, down = (np.sum(tpsim.run(block, 4, X + step * direction)[0] * dY) for step in (1e-6, -1e-6))
np.testing.assert_allclose((up - down) / 2e-6, np.sum(dX * direction), rtol=1e-6)
assert [phase for phase, *_ in calls] == 2 * ["forward"] + 2 * ["backward"]
assert all(call[3:] == ((1, tokens, h), 2 * 3 / 4 * tokens * h * 8) for call in calls)
again = tpsim.run(layer, 4, "full")[0]
np.testing.assert_array_equal(again[1], dX)
assert len(again[2]) == 6

print(f"a model: {32 * len(calls) * 4} all-reduces of {2 * 3 / 4 * 4096 * 4096 * 2 / 1e6:.0f} MB")

# %% [markdown]
# **Answer 1.** 2 + 2, each of tokens × $h$ numbers, whatever $f$ and the number of heads are. With full
# recompute it is 6. "Is this calculation correct?" somebody asked of 32 layers, sequences of 4,096, $h$ =
# 4,096, $t$ = 4 and 4 microbatches a step: 512 all-reduces ([aicb
# #30](https://github.com/aliyun/aicb/issues/30)). It is, for the blocks: $32 \cdot 4 \cdot 4$. In each, a
# rank sends $2 \cdot \frac{3}{4} \cdot 4096^2$ numbers, 50 MB in bfloat16. Chapter 6 adds the model's ends.
#
# ## By hand: one device against itself
#
# A float32 keeps 24 binary digits, so each operation may be off by $u = 2^{-24}$ of its result: the **unit
# roundoff**. Sums in another order get other roundings. Cutting a matrix product by rows is another order.
# But so is shuffling its features *on one device*:

# %%
for dtype in (np.float32, np.float16, bfloat16):
    print(f"{np.dtype(dtype).name:9} u = {float(finfo(dtype).eps) / 2:.1e}")

H, B = (rng.standard_normal(shape).astype(np.float32) for shape in ((tokens, 4096), (4096, h)))
shuffled = rng.permutation(4096)
ways = {
    "one device": H @ B,
    "one device, shuffled": H[:, shuffled] @ B[shuffled],
    "cut in 2": sum(H_i @ B_i for H_i, B_i in zip(np.split(H, 2, 1), np.split(B, 2), strict=True)),
    "cut in 8": sum(H_i @ B_i for H_i, B_i in zip(np.split(H, 8, 1), np.split(B, 8), strict=True)),
}
true = H.astype(float) @ B.astype(float)
for way, product in ways.items():
    differing = np.mean(product != ways["one device"])
    off = np.linalg.norm(product - true) / np.linalg.norm(true)
    print(f"{way:21} {differing:4.0%} of entries differ from one device's; error {off:.1e}")
    assert off < 1e-6
    assert differing > 0.1 or way != "one device, shuffled"

# %% [markdown]
# One device is not the truth. It is one of many roundings of it, and $t$ ranks are another. So don't ask how
# far $t$ ranks are from one device; ask how far *both* are from the truth, which a wider dtype knows. As one
# number, $\|y - y_\text{true}\| / \|y_\text{true}\|$.
#
# **Predict 2.** The block in bfloat16, the dtype of most training. How does its error against float64 grow
# from 1 rank to 2, 4 and 8: twice each time, or less? Does the order of the sum matter?


# %%
def error(ranks, dtype, algorithm="ring", bug=None):
    y = tpsim.run(block, ranks, X, dtype, algorithm, bug)[0]
    return np.linalg.norm(y - Y) / np.linalg.norm(Y)


orders = ("ring", "rank_order", "recursive_doubling")
dtypes = (bfloat16, np.float16, np.float32)
noise = {(t, dtype): [error(t, dtype, order) for order in orders] for t in (1, 2, 4, 8) for dtype in dtypes}
print("           ranks  " + "  ".join(f"{order:>18}" for order in orders))
for (t, dtype), errors in noise.items():
    print(f"{np.dtype(dtype).name:9}  {t:5}  " + "  ".join(f"{e:18.2e}" for e in errors))
    assert max(errors) < 1.4 * noise[1, dtype][0]
    assert max(errors) < 1.4 * float(finfo(dtype).eps) / 2

# %% [markdown]
# **Answer 2.** Less than 1.4 times from 1 rank to 8, in every dtype. A result has been rounded at each place
# where it lay in memory, and a few more roundings in two sums hardly count. It is the *dtype* that decides:
# the error is about $u$. The order matters a little, on more than 2 ranks: a chain of 7 additions rounds more
# often than recursive doubling's 3.
#
# (Matrix products here are added up in float64, and on a GPU in float32; what they leave in memory is narrow
# in both.)
#
# ## Asked for real: are these differences noise, or a silent failure?
#
# "Are there established ranges or detection methods?" asks [Megatron-LM
# #1736](https://github.com/NVIDIA/Megatron-LM/issues/1736), after measuring losses of one and of two GPUs. In
# [torchtitan #1750](https://github.com/pytorch/torchtitan/issues/1750) the seed is set, everything is
# deterministic, and each $t$ has its own curve. Let us plant what might be wrong:
#
# - *added before the sum*: each rank adds $Z$ to its term, and then they all-reduce ([mirage
#   #722](https://github.com/mirage-project/mirage/pull/722) mended this);
# - *GELU by tanh on rank 1*: one rank runs a kernel with the approximate formula;
# - *drawn by each rank*: weights are cut first and drawn then, each rank's from the same seed.
#
# **Predict 3.** Which of the three would you notice in bfloat16? What happens to each of the errors, and to
# the noise, from bfloat16 to float32 to float64?


# %%
def drawn(rank, ranks):
    own = np.random.default_rng(6)
    shards = {name: own.standard_normal(W.shape) for name, W in cut(rank, ranks).items()}
    return {name: W / np.sqrt(shapes[name][0]) for name, W in shards.items()}


bugs = (None, "GELU by tanh on rank 1", "added before the sum", "drawn by each rank")
wider = (bfloat16, np.float16, np.float32, np.float64)
off = {bug: [error(4, dtype, bug=bug) for dtype in wider] for bug in bugs}
print("4 ranks                 " + "".join(f"{np.dtype(dtype).name:>10}" for dtype in wider))
for bug, errors in off.items():
    print(f"{bug or 'nothing wrong':24}" + "".join(f"{e:10.1e}" for e in errors))

quiet, nothing = off["GELU by tanh on rank 1"], off[None]
assert quiet[0] < 1.1 * nothing[0]
assert quiet[2] > 100 * nothing[2]
assert quiet[3] > 1e10 * nothing[3]
assert 2**15 < nothing[0] / nothing[2] < 2**17
for bug in bugs[1:]:
    np.testing.assert_allclose(off[bug][2], off[bug][3], rtol=1e-2)

# %% [markdown]
# **Answer 3.** Two of the bugs are as loud as the result itself. The GELU of rank 1 drowns: in bfloat16 the
# error is the same with and without it. From bfloat16 to float32, $u$ falls by $2^{16}$, and noise falls with
# it. A bug stays where it is, since it is another *formula*, not another rounding. So in float32 the GELU is
# more than 100 times as large as the noise, and in float64 more than $10^{10}$ times.
#
# That is the method. Take the smallest model that has all parts, the same weights, and one step. Compare $t$
# ranks with one device in float64. What is at $10^{-15}$ is noise, and what is far above it is a bug. "Within
# 1% in bfloat16" shows little.

# %%
from tpsim.plots.picture import save
from tpsim.plots.style import line, look, new_figure, plain

names = [np.dtype(dtype).name for dtype in dtypes]
figure = new_figure(width=11.0)
left, right = figure.subplots(1, 2)
for place, dtype in enumerate(dtypes):
    one = noise[1, dtype][0]
    worst = [max(noise[t, dtype]) / one for t in (1, 2, 4, 8)]
    left.plot(range(4), worst, label=names[place], **line(place))
left.set_xticks(range(4), ["1", "2", "4", "8"])
left.set_ylim(0, 2)
left.set_xlabel("ranks")
left.legend(frameon=False, loc="lower right")
plain(left, "noise hardly grows with the ranks", "error / error of one device")
for place, bug in enumerate(bugs[:3]):
    at = [x + 0.25 * (place - 1) for x in range(len(dtypes))]
    right.bar(at, off[bug][:3], width=0.22, label=bug or "nothing wrong", **look(place))
right.set_yscale("log")
right.set_ylim(1e-8, 1e4)
right.set_xticks(range(len(dtypes)), names)
right.legend(frameon=False, loc="upper left")
plain(right, "4 ranks: noise falls with the dtype, bugs do not", "‖y − true y‖ / ‖true y‖")
save(figure, "05_bug_or_noise")

# %% [markdown]
# The third is not in the picture: another draw is another model. The same *seed* does not mean the same
# *weights*. torchtitan cuts before it draws, and advises to begin comparisons from one checkpoint
# ([torchtitan #1363](https://github.com/pytorch/torchtitan/pull/1363)). tpsim draws the whole weight on each
# rank and keeps a slice. And that all ranks drew *alike* here is a bug of its own: copies in place of columns
# ([InternLM #405](https://github.com/InternLM/InternLM/pull/405)).
#
# `tpsim precision` measures this for the layers, backward too, with the bug of chapter 1's bias:

# %%
from tpsim.studies.precision import precision

study = precision(ranks=(1, 8), dtypes=("bfloat16", "float32"), algorithms=("ring",), accumulate=("storage",))
for dtype in study.dtypes():
    one, eight = study.one_device(dtype), study.of(dtype, 8)[0]
    bug = next(row for row in study.buggy if row.dtype == dtype)
    print(f"{dtype:8} worst gradient: one device {one.grads:.1e}, 8 {eight.grads:.1e}, bug {bug.grads:.1e}")
    assert eight.grads < 0.01 * bug.grads

# %% [markdown]
# ## To take along
#
# - A block makes 2 + 2 all-reduces of tokens × $h$ numbers; 6 with full recompute. The rest is local.
# - One device is not the truth. Measure the distance of both to a wider dtype.
# - Noise is about $u$ of the dtype and hardly depends on $t$. A bug does not depend on the dtype.
# - Test in float64, on a small model, from the same *weights*, and gradients too: a narrow dtype hides bugs.
#
# Next: [chapter 6](06_the_vocabulary.py) cuts the two largest matrices of all, at the model's ends.
