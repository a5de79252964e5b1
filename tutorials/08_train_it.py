# %% [markdown]
# # 8 · Train it: one model, however it is cut
#
# *20 minutes. You need: chapter 3, and what SGD and dropout are.*
#
# A step is right if one device would have taken the same. That gives the strongest test there is of a
# parallel program: **train on 1, 2 and 4 ranks, and lay the loss curves over each other**. They must agree
# in all digits but the last few. Forward and backward you have; here are the three things around them that
# know about *all* of a model, and so go wrong most often: dropout's masks, the norm that clipping needs, and
# checkpoints.
#
# We train an MLP with dropout inside the region, and a bias after it that every rank holds whole:
#
# $$D = \mathrm{dropout}(\mathrm{GELU}(X A)), \qquad Y = D B + c, \qquad L = \mathrm{mean}\,(Y - T)^2$$

# %%
import numpy as np

import tpsim
from tpsim.functional import gelu, gelu_grad

n, h, f, rate, seed, lr, max_norm = 32, 8, 16, 0.2, 8, 0.3, 0.5
rng = np.random.default_rng(seed)
X = rng.standard_normal((n, h))
T = np.tanh(X @ rng.standard_normal((h, h))) + 1  # what it has to learn
begin = {"A": rng.standard_normal((h, f)) / 3, "B": rng.standard_normal((f, h)) / 4, "c": np.zeros(h)}

# %% [markdown]
# ## By hand: a training loop for any number of ranks
#
# Two of its parts are functions of their own, so that you can try others in their place.
#
# **Masks.** $D$ is cut by columns, so each rank needs its columns of *the* mask. Here every rank draws all of
# it, from a generator keyed by seed and step, and takes its slice.
#
# **The norm.** Clipping scales all gradients by $\min(1, m/\|g\|)$, where $\|g\|$ runs over *all* numbers of
# all gradients (Pascanu et al. 2013, algorithm 1). Cut gradients: each rank has some, so add up their squares
# over the ranks. A replicated one: each rank has all of it, so count it once.
#
# $$\|g\|^2 = \sum_{i} \left(\|\bar A_i\|^2 + \|\bar B_i\|^2\right) + \|\bar c\|^2$$


# %%
def sliced_mask(group, step):
    whole = np.random.default_rng([seed, step]).random((n, f)) >= rate
    return np.split(whole, group.size, axis=1)[group.rank]  # [n, f/t]


def squares(*gradients):
    return np.array([sum(float(np.sum(g**2)) for g in gradients)])


def replicas_once(group, cut, replicated):
    return np.sqrt(group.all_reduce(squares(*cut)) + squares(*replicated))[0]


def train(comm, mask=sliced_mask, norm_of=replicas_once, start=begin, steps=range(60)):
    group = tpsim.Group(comm)
    A = np.split(start["A"], group.size, axis=1)[comm.rank].copy()  # [h, f/t]
    B = np.split(start["B"], group.size, axis=0)[comm.rank].copy()  # [f/t, h]
    c = start["c"].copy()  # [h], on every rank
    losses, norms = [], []
    for step in steps:
        scale = mask(group, step) / (1 - rate)
        Z = X @ A
        D = gelu(Z) * scale
        error = group.all_reduce(D @ B) + c - T
        losses.append(np.mean(error**2))
        dY = 2 * error / error.size
        dA, dB, dc = X.T @ gelu_grad(Z, dY @ B.T * scale), D.T @ dY, dY.sum(axis=0)
        norms.append(norm_of(group, (dA, dB), (dc,)))
        for weight, gradient in ((A, dA), (B, dB), (c, dc)):
            weight -= lr * min(1, max_norm / norms[-1]) * gradient
    return np.array(losses), np.array(norms), {"A": A, "B": B, "c": c}


one, one_norms, _ = tpsim.run(train, 1)[0]
for ranks in (2, 4, 8):
    losses, norms, _ = tpsim.run(train, ranks)[0]
    print(f"{ranks} ranks: loss {losses[0]:.6f} → {losses[-1]:.6f}, off by {np.abs(losses - one).max():.0e}")
    np.testing.assert_allclose(losses, one, rtol=1e-9)
    np.testing.assert_allclose(norms, one_norms, rtol=1e-9)

# %% [markdown]
# **Predict 1.** Somebody seeds every rank alike, and each draws a mask for its own columns, `[n, f/t]`. No
# error, and each entry is dropped with the right probability. What does the whole mask look like on 4 ranks?
# Will the curve agree with one device's? And if each rank has a seed of its own?


# %%
def same_seed(group, step):
    return np.random.default_rng([seed, step]).random((n, f // group.size)) >= rate


def own_seed(group, step):
    return np.random.default_rng([seed, step, group.rank]).random((n, f // group.size)) >= rate


wrong = {}
for mask in (sliced_mask, same_seed, own_seed):
    whole = np.concatenate(tpsim.run(lambda comm, mask=mask: mask(tpsim.Group(comm), 0), 4), axis=1)
    different = len(np.unique(whole, axis=1).T)
    wrong[mask.__name__] = tpsim.run(train, 4, mask)[0][0]
    off = np.abs(wrong[mask.__name__] - one).max()
    print(f"{mask.__name__:11}: {different:2} different columns of {f}; loss off by up to {off:.0e}")
    assert different == (f // 4 if mask is same_seed else f)
    assert (off < 1e-9) == (mask is sliced_mask)

# %% [markdown]
# **Answer 1.** With one seed for all, the mask repeats: columns 0, 4, 8 and 12 are dropped for the same
# samples. Dropout was to keep features from relying on each other, and now they fall in groups of $t$. It
# has happened ([tt-metal #55947](https://github.com/tenstorrent/tt-metal/issues/55947)). A seed for each
# rank mends that, and is what Megatron-LM does inside the region (Shoeybi et al. 2019, appendix B.2). It is
# as good a mask, but *another one at each t*: the curves differ, and you can no longer tell a bug from
# chance. Slices of one mask keep the test.
#
# **Predict 2.** Somebody computes the norm in the obvious way: each rank adds up the squares of all it holds,
# then an all-reduce. By what factor can the norm be wrong on $t$ ranks? Too large or too small? Is the loss
# of the first step affected?


# %%
def replicas_each_time(group, cut, replicated):
    return np.sqrt(group.all_reduce(squares(*cut, *replicated)))[0]


for ranks in (1, 2, 4, 8):
    losses, norms, _ = tpsim.run(train, ranks, sliced_mask, replicas_each_time)[0]
    wrong[f"replicas counted {ranks} times"] = losses
    print(
        f"{ranks} ranks: first norm {norms[0] / one_norms[0]:.2f} times the right one,",
        f"loss off by {losses[0] - one[0]:.3f} at step 0 and {losses[10] - one[10]:.3f} at step 10",
    )
    assert abs(losses[0] - one[0]) < 1e-12
    assert 1 <= round(norms[0] / one_norms[0], 6) <= np.sqrt(ranks)
    assert (losses[10] > one[10] + 1e-3) == (ranks > 1)

# %% [markdown]
# **Answer 2.** Too large, by up to $\sqrt t$: that would be if *all* of the gradient were $\bar c$. Then the
# gradients are clipped too much, from the second step on the losses differ, and the more so the more ranks.
# On one rank nothing is wrong, and no test there finds it.
#
# ## By hand: save on 4 ranks, go on on 2
#
# A rank's file holds slices. To load it at another $t$, know for each tensor *along which axis it is cut*;
# join, and cut anew. That's all.

# %%
files = [parts for *_, parts in tpsim.run(train, 4, sliced_mask, replicas_once, begin, range(30))]
whole = {
    "A": np.concatenate([file["A"] for file in files], axis=1),
    "B": np.concatenate([file["B"] for file in files], axis=0),
    "c": files[0]["c"],
}
print("each of 4 files:", {name: array.shape for name, array in files[0].items()})
later = tpsim.run(train, 2, sliced_mask, replicas_once, whole, range(30, 60))[0][0]
np.testing.assert_allclose(later, one[30:], rtol=1e-9)

# %% [markdown]
# The curve goes on as if nothing had been. Note what else that takes: masks depend on the step's *number*.
# From a generator that just runs on, one would have to save its state, too.
#
# ## The same in tpsim
#
# A `Parameter` knows along which axis it is cut, which ranks hold copies, and whether these have shares of
# the gradient (chapter 7). Masks come as slices, clipping asks who counts, and a checkpoint writes and reads
# slices. So the loop is one device's loop. Our text is a nursery rhyme, the model a GPT with one block.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

from tpsim.comm import Mesh
from tpsim.models import LanguageModel, gpt
from tpsim.train import AdamW, Corpus, checkpoint, clip, gradients

told = ["house that Jack built. ", "malt that lay in the ", "rat that ate the ", "cat that killed the "]
rhyme = "".join("This is the " + "".join(told[i::-1]) for i in range(len(told)))
text = np.frombuffer(rhyme.encode(), np.uint8)
corpus = Corpus("rhyme", text, text)
config = gpt("one block", 1, 32, 4, vocab=128, max_seq=32)


def gpt_run(comm, steps=range(40), make=AdamW, lr=5e-3, clipped=clip, load=None, keep=True, save=None):
    mesh = Mesh(comm, comm.size)
    init = np.random.default_rng(0)
    model = LanguageModel(config, mesh.tp, dropout=0.1, attention_dropout=0.1, rng=init, dtype=np.float64)
    optimizer = make(model)
    if load:
        checkpoint.load(load, model, optimizer, mesh)
        optimizer = optimizer if keep else make(model)
    losses, norms = [], []
    for step in steps:
        windows = corpus.batch(0, step, range(4), 32)  # [4, 33]
        args = windows[:, :-1], windows[:, 1:], range(4)
        losses.append(gradients(model, mesh, *args, seed=0, step=step))
        norms.append(clipped(model, mesh.tp, 1.0))
        optimizer.step(lr)
    if save:
        checkpoint.save(save, model, optimizer, mesh, meta={})
    return np.array(losses), np.array(norms), model


runs = {ranks: tpsim.run(gpt_run, ranks)[0] for ranks in (1, 2, 4)}
for ranks, (losses, norms, _) in runs.items():
    print(f"{ranks} ranks: loss {losses[0]:.6f} → {losses[-1]:.6f}")
    np.testing.assert_allclose(losses, runs[1][0], rtol=1e-9)
    np.testing.assert_allclose(norms, runs[1][1], rtol=1e-9)

# %% [markdown]
# Equal in every digit that was printed, on 1, 2 and 4 ranks, with dropout and clipping. The rule for the norm
# is the one from above, applied to whatever each parameter says of itself:

# %%
from tpsim.train import global_norm


def both_norms(comm):
    group = tpsim.Group(comm)
    model = gpt_run(comm, range(1), clipped=lambda *_: 0)[2]  # its gradients are still there
    found = model.parameters().values()
    cut = [p.grad for p in found if p.sharding() != "replicated"]
    replicated = [p.grad for p in found if p.sharding() == "replicated"]
    if comm.rank == 0:
        print(f"{len(cut)} parameters are cut, {len(replicated)} replicated")
    return replicas_once(group, cut, replicated), global_norm(model, group)


for by_hand, by_tpsim in tpsim.run(both_norms, 4):
    np.testing.assert_allclose(by_tpsim, by_hand, rtol=1e-12)

# %% [markdown]
# Its masks are functions of seed, step, layer and sample, and of the place in the mask (a counter-based
# generator: Salmon et al. 2011). So a rank draws just its heads, and together they have one device's mask.

# %%
from tpsim.nn.masks import Draw, keep_mask, part_mask

draw, layer = Draw(seed=0, step=3, samples=[0, 1]), "blocks.0.attention.dropout"
whole = keep_mask(draw, layer, 0.1, 0, (2, 8, 5, 5))  # [samples, heads, s, s]
parts = [part_mask(draw, layer, 0.1, rank, (2, 2, 5, 5)) for rank in range(4)]  # 2 heads a rank
np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)

# %% [markdown]
# **Predict 3.** Train 20 steps on 4 ranks, save, and go on on 2. A checkpoint of tpsim holds the weights, and
# AdamW's two averages for each of them: three times the weights. Somebody saves disk space and loads the
# weights only, so that the averages begin at 0 again. Does the curve go on as before? What will it do?

# %%
with TemporaryDirectory() as folder:
    where = Path(folder)
    tpsim.run(lambda comm: gpt_run(comm, range(20), save=where), 4)
    (saved,) = where.iterdir()
    print("on disk:", *sorted(f"{saved.name}/{file.name}" for file in saved.iterdir()), sep="\n  ")
    resumed = tpsim.run(lambda comm: gpt_run(comm, range(20, 40), load=where), 2)[0][0]
    forgetful = tpsim.run(lambda comm: gpt_run(comm, range(20, 40), load=where, keep=False), 2)[0][0]

uninterrupted = runs[1][0][20:]
np.testing.assert_allclose(resumed, uninterrupted, rtol=1e-9)
off = forgetful - uninterrupted
print("without the averages off by", *np.round(off[:8], 3))
assert abs(off[0]) < 1e-9
assert off[1:8].min() > 0.02

# %% [markdown]
# **Answer 3.** The first loss is right: it depends on the weights only. Then the curve runs above, because
# AdamW with averages of 0 takes its first steps as if it had just begun: each as long as the learning rate
# allows, whatever the gradient. With all that was saved the curve is the old one, on half the ranks.
# `tpsim reshard` cuts a checkpoint anew without running any rank, and `tpsim train --tp 4` is this chapter as
# a command, with a longer text.

# %%
from tpsim.plots.picture import save
from tpsim.plots.style import line, new_figure, plain

figure = new_figure(width=12.0, height=4.6)
left, right = figure.subplots(1, 2)
dots = {"1 rank": (runs[1][0], range(40), 1), "2 ranks": (runs[2][0], range(0, 40, 3), 0)}
dots["4 ranks"] = (runs[4][0], range(1, 40, 3), 0)
dots["saved on 4, went on on 2"] = (np.append(runs[4][0][:20], resumed), range(20, 40, 3), 0)
for place, (label, (losses, at, joined)) in enumerate(dots.items()):
    look = line(place) | ({"marker": ""} if joined else {"linestyle": "none"})
    left.plot(at, losses[list(at)], label=label, **look)
plain(left, "a GPT in tpsim: one curve, however it is cut", "loss")
right.plot(one, label="one device, or 4 ranks as they should be", **line(0) | {"marker": ""})
right.plot(wrong["same_seed"], label="one seed for the masks of all ranks", **line(1) | {"marker": ""})
label = "replicated gradients counted 4 times"
right.plot(wrong["replicas counted 4 times"], label=label, **line(3) | {"marker": ""})
right.set_yscale("log")
right.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
right.minorticks_off()
plain(right, "an MLP by hand: what goes wrong on 4 ranks", "loss")
for axes in (left, right):
    axes.set_xlabel("step")
    axes.legend(frameon=False)
save(figure, "08_equal_curves")

# %% [markdown]
# ## Asked for real: does a wrong norm matter?
#
# Replicated gradients that count $t$ times are found again and again. In [NeMo RL
# #3788](https://github.com/NVIDIA-NeMo/RL/pull/3788) one sum runs over all parameters, whatever they are. In
# [TransformerEngine #715](https://github.com/ROCm/TransformerEngine/pull/715) replicated weights were marked
# as cut, and on 8 ranks the norm came out 1.52 times too large. Its author calls that *primarily a diagnostic
# bug*: what it does to the weights depends on the optimizer. Is that so? Let us scale all gradients by a half
# at each step, and then count replicas 4 times, with SGD and with AdamW.

# %%
from tpsim.train import SGD


def halved(model, group, most):
    for p in model.parameters().values():
        p.grad = p.grad / 2
    return 0.0


def clip_replicas_each_time(model, group, most):
    norm = replicas_each_time(group, [p.grad for p in model.parameters().values()], ())
    for p in model.parameters().values():
        p.grad = p.grad * min(1, most / norm)
    return norm


moved = {}
for make, rate_of in ((SGD, 0.5), (AdamW, 5e-3)):
    for what, right_way, wrong_way in (
        ("halved", lambda *_: 0.0, halved),
        ("clipped by the wrong norm", clip, clip_replicas_each_time),
    ):
        good, bad = (
            tpsim.run(gpt_run, 4, range(25), make, rate_of, way)[0][0] for way in (right_way, wrong_way)
        )
        moved[make.__name__, what] = np.abs(bad - good).mean()
        print(f"{make.__name__:5}, {what:25}: loss moves by {moved[make.__name__, what]:.6f} a step")
assert moved["AdamW", "halved"] < 1e-3 * moved["SGD", "halved"]
assert 0.005 < moved["AdamW", "clipped by the wrong norm"] < moved["SGD", "clipped by the wrong norm"]

# %% [markdown]
# In part. AdamW divides by the size of past gradients, so a *constant* factor goes out (all but its
# $\epsilon$), while SGD moves half as far. But clipping's factor is not constant. In steps with a large norm
# both ways clip, in others neither or only one does, and the averages mix them. So AdamW moves too, though
# less. And whoever tunes `max_norm`, or looks at the norm to see trouble coming, reads a number that depends
# on $t$.
#
# ## To take along
#
# - The test of a parallel training step: the same losses at every $t$, to the last digits. Anything that
#   spoils it (a seed a rank) spoils the test, even where it is no bug.
# - Dropout inside the region: slices of one mask. Outside: the same mask on all.
# - The norm: cut gradients are summed over ranks, replicated ones counted once.
# - A checkpoint holds slices, and along which axis they were cut; with the optimizer's memory, and the
#   step's number.
#
# Next: [chapter 9](09_what_it_costs.py) puts a time on it.
