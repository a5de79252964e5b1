# %% [markdown]
# # 7 · Sequence parallelism: same bytes, less memory
#
# *20 minutes. You need: chapters 3 and 5.*
#
# Training keeps what forward computed until backward has used it: the **activations**. Tensor parallelism
# cuts weights, and the activations between f and g. But everything *outside* f and g, the norms, the dropout
# and the residual stream, every rank computes and keeps whole, all $t$ of them the same. Here you cut that
# too, along the sequence, for (nearly) nothing. Then you throw activations away and compute them again.
#
# We build half a transformer block, with one sequence of $s$ positions:
#
# $$N = \mathrm{norm}(X), \qquad Z = N A, \qquad H = \mathrm{GELU}(Z), \qquad Y = X + H B$$

# %%
import numpy as np

import tpsim
from tpsim.functional import gelu, gelu_grad, rms_norm, rms_norm_grad

t, s, h, f = 4, 8, 4, 8
rng = np.random.default_rng(7)
X = rng.standard_normal((s, h))
gamma = rng.uniform(0.5, 1.5, h)  # the norm's weight
A = rng.standard_normal((h, f)) / 2
B = rng.standard_normal((f, h)) / 4
dY = rng.standard_normal((s, h))
Y = X + gelu(rms_norm(X, gamma, 0)[0] @ A) @ B  # one device

# %% [markdown]
# ## By hand: cut the sequence where nobody needs all of it
#
# A norm works on one position at a time. So do dropout and the sum with $X$. Rank $i$ can therefore do them
# for *its* positions, and nobody else needs to. Between f and g each rank needs all positions, for its
# columns of $A$. So at the border in, positions are gathered, and at the border out, the sum is handed out
# by positions:
#
# | border | tensor parallel | with the sequence cut |
# |---|---|---|
# | in, f | nothing ⇄ all-reduce | all-gather ⇄ reduce-scatter |
# | out, g | all-reduce ⇄ nothing | reduce-scatter ⇄ all-gather |
#
# (forward ⇄ backward.) This is **sequence parallelism** (Korthikanti et al. 2022, section 4.2.2). The code
# below does either; `cut` says which.


# %%
def forward(group, x, cut):
    """x is [s, h], or [s/t, h] where the sequence is cut; so is the result."""
    A_i, B_i = np.split(A, t, axis=1)[group.rank], np.split(B, t, axis=0)[group.rank]
    N, rstd = rms_norm(x, gamma, 0)
    whole = group.all_gather(N, axis=0) if cut else N  # f: [s, h]
    Z = whole @ A_i  # [s, f/t]
    H = gelu(Z)
    term = H @ B_i  # [s, h]
    total = group.reduce_scatter(term, axis=0) if cut else group.all_reduce(term)  # g
    return x + total, {"x": x, "rstd": rstd, "N": N, "Z": Z, "H": H}  # kept; not the gathered N


def backward(group, kept, dy, cut):
    A_i, B_i = np.split(A, t, axis=1)[group.rank], np.split(B, t, axis=0)[group.rank]
    dterm = group.all_gather(dy, axis=0) if cut else dy  # g
    dB = kept["H"].T @ dterm
    dZ = gelu_grad(kept["Z"], dterm @ B_i.T)
    whole = group.all_gather(kept["N"], axis=0) if cut else kept["N"]  # gathered once more
    dA = whole.T @ dZ
    dN = dZ @ A_i.T
    dN = group.reduce_scatter(dN, axis=0) if cut else group.all_reduce(dN)  # f
    dx, dgamma = rms_norm_grad(kept["x"], gamma, kept["rstd"], dN)
    return dy + dx, dgamma, dA, dB


def half_block(comm, cut):
    group = tpsim.Group(comm)
    x, dy = (np.split(a, t)[comm.rank] if cut else a for a in (X, dY))
    with tpsim.Trace() as going:
        y, kept = forward(group, x, cut)
    with tpsim.Trace() as coming:
        gradients = backward(group, kept, dy, cut)
    sent = [[(e.operation, e.bytes_sent) for e in trace.collectives] for trace in (going, coming)]
    return y, gradients, kept, sent


tp, sp = tpsim.run(half_block, t, False), tpsim.run(half_block, t, True)
np.testing.assert_allclose(tp[0][0], Y, rtol=1e-12)
np.testing.assert_allclose(np.concatenate([y for y, *_ in sp]), Y, rtol=1e-12)
dX = np.concatenate([gradients[0] for _, gradients, *_ in sp])
np.testing.assert_allclose(dX, tp[0][1][0], rtol=1e-12)
for whole, cut in zip(tp, sp, strict=True):
    np.testing.assert_allclose(cut[1][2], whole[1][2], rtol=1e-12)  # dA
    np.testing.assert_allclose(cut[1][3], whole[1][3], rtol=1e-12)  # dB

# %% [markdown]
# Follow the colours: by rows (positions) outside, by columns (features) inside. Nothing large is grey any
# more.

# %%
from tpsim.plots.picture import save
from tpsim.plots.sharding import Matrix, evenly, sharding

positions, columns = evenly(s, t), evenly(f, t)
figure = sharding(
    {
        "in: a norm works position by position; then every rank gathers all of N, for a moment": [
            Matrix("X", X.shape, positions, axis=0),
            "norm →",
            Matrix("N", X.shape, positions, axis=0),
            "gather →",
            Matrix("N", X.shape),
            "·",
            Matrix("A", A.shape, columns),
            "=",
            Matrix("Z", (s, f), columns),
        ],
        "out: the terms are added up, and each rank gets the sum for its positions": [
            Matrix("H", (s, f), columns),
            "·",
            Matrix("B", B.shape, columns, axis=0),
            "=",
            Matrix("H₀B₀", X.shape, [0] * h),
            "+ … +",
            Matrix("H₃B₃", X.shape, [3] * h),
            "scatter →",
            Matrix("HB", X.shape, positions, axis=0),
            "+ X =",
            Matrix("Y", X.shape, positions, axis=0),
        ],
    },
    "sequence parallelism on 4 ranks: positions outside, features inside",
)
save(figure, "07_sequence_parallelism")

# %% [markdown]
# **Predict 1.** What is kept is less: print it. What is sent? Compare the bytes of the two ways, forward and
# backward: more, fewer, or the same?

# %%
for name, results in (("TP", tp), ("TP + SP", sp)):
    print(name)
    print("  keeps   ", {key: array.size for key, array in results[0][2].items()}, "numbers")
    for direction, calls in zip(("forward", "backward"), results[0][3], strict=True):
        print(f"  {direction:8}", calls)

(tp_forward, tp_backward), (sp_forward, sp_backward) = (
    [sum(nbytes for _, nbytes in calls) for calls in results[0][3]] for results in (tp, sp)
)
assert sp_forward == tp_forward
assert sp_backward == 1.5 * tp_backward
assert all(tp[0][2][key].size == t * sp[0][2][key].size for key in ("x", "rstd", "N"))

# %% [markdown]
# **Answer 1.** Forward, exactly the same: an all-reduce *is* a reduce-scatter and an all-gather (chapter 2),
# and now norm and dropout stand between its halves. Backward would be the same too. We gather $N$ there a
# second time, for $\bar A$, because we kept only our positions of it. So memory is bought with half as much
# again in backward.
#
# Who compares the paper's figure with the code is surprised: "there is an additional all_gather operation on
# the inputs. Is this necessary?" ([Megatron-LM #323](https://github.com/NVIDIA/Megatron-LM/issues/323)). It
# is the price of not keeping the whole $N$. Section 4.2.2 mentions it, and hides it behind another product.
# tpsim can keep the whole: `keep_gathered=True`.
#
# ## By hand: recompute
#
# One can keep less still. Keep only $x$, and when backward comes, run forward again.


# %%
def again(comm, recompute):
    group = tpsim.Group(comm)
    x, dy = np.split(X, t)[comm.rank], np.split(dY, t)[comm.rank]
    with tpsim.Trace() as trace:
        _, kept = forward(group, x, True)
        if recompute:
            kept = {"x": kept["x"]}  # the rest goes
        size = sum(array.size for array in kept.values())
        if recompute:
            _, kept = forward(group, kept["x"], True)  # now it is here again
        gradients = backward(group, kept, dy, True)
    return gradients, size, sum(event.bytes_sent for event in trace.collectives)


once, twice = tpsim.run(again, t, False)[0], tpsim.run(again, t, True)[0]
print(f"as before:      {once[1]:3} numbers kept, {once[2]:5} bytes sent")
print(f"with recompute: {twice[1]:3} numbers kept, {twice[2]:5} bytes sent")
for one, other in zip(once[0], twice[0], strict=True):
    np.testing.assert_array_equal(one, other)  # the same bits

# %% [markdown]
# The same bits, hardly any memory, and the whole forward once more, *its communication included*. Run all of
# it again is **full** recompute (Chen et al. 2016). Its cheap sibling comes below.
#
# ## The same in tpsim
#
# Layers have `sequence_parallel=True`. f and g become another pair at the same two places
# (`tpsim/nn/borders.py`); nothing else changes.

# %%
from tpsim.nn import MLP, RMSNorm, sum_replica_gradients


def layers(comm):
    group = tpsim.Group(comm)
    norm = RMSNorm(h, group, partial=True, eps=0, dtype=np.float64)  # partial: it sees some positions only
    mlp = MLP(h, f, group, activation="gelu", bias=False, sequence_parallel=True, dtype=np.float64)
    norm.load({"weight": gamma})
    mlp.load({"up.weight": A, "down.weight": B})
    x, dy = np.split(X, t)[comm.rank][None], np.split(dY, t)[comm.rank][None]
    y = x + mlp.forward(norm.forward(x))
    dx = dy + norm.backward(mlp.backward(dy))
    before = norm.weight.grad.copy()
    sum_replica_gradients(norm)
    return y[0], (dx[0], before, mlp.up.weight.grad, mlp.down.weight.grad), norm.weight.grad


for by_layers, by_hand in zip(tpsim.run(layers, t), sp, strict=True):
    np.testing.assert_allclose(by_layers[0], by_hand[0], rtol=1e-12)
    for one, other in zip(by_layers[1], by_hand[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-14)

# %% [markdown]
# ## A whole block of GPT-3
#
# Korthikanti et al. (table 2) count the bytes that a block keeps, with 2-byte numbers and 1-byte dropout
# masks. Their unit is $sbh$; $a$ is the number of heads:
#
# | | bytes |
# |---|---|
# | TP | $sbh\,(10 + 24/t + 5as/ht)$ |
# | TP + SP | $sbh/t\,(34 + 5as/h)$ |
# | TP + SP, selective recompute | $34\,sbh/t$ |
#
# The 10 is what stays whole outside. $5as/h$ is the attention's *scores*: they grow with $s^2$. **Selective**
# recompute throws away these only, and keeps queries, keys and values to compute them again. `dry_block` runs
# tpsim's block on shapes without data, and counts.

# %%
from dataclasses import replace

from tpsim.models import find
from tpsim.studies.dry_run import Plan, dry_block

gpt3 = find("gpt3-175b")
plan = Plan(config=gpt3, tp=8, seq=2048, dropout=0.1, attention_dropout=0.1)
scores = 5 * gpt3.heads * plan.seq / gpt3.hidden
published = {
    (False, "none"): 10 + 24 / 8 + scores / 8,
    (True, "none"): (34 + scores) / 8,
    (False, "selective"): 10 + 24 / 8,
    (True, "selective"): 34 / 8,
    (False, "full"): 2,
}
blocks, kept = {}, {}
for way, expected in published.items():
    cut, recompute = way
    blocks[way] = dry_block(replace(plan, sequence_parallel=cut, recompute=recompute))
    kept[way] = sum(blocks[way].saved_by_layer().values()) / (plan.seq * gpt3.hidden)
    print(f"TP{' + SP' * cut:5}, recompute {recompute:9}: {kept[way]:5.2f} sbh bytes on each of 8 ranks")
    assert kept[way] == expected
assert round(kept[True, "selective"] / kept[False, "none"], 2) == 0.18
assert round(scores / (34 + scores), 2) == 0.70  # the scores, of what one device keeps

# %%
from tpsim.cost.hardware import load
from tpsim.plots import activations
from tpsim.studies import figures

save(activations(**figures.activations(gpt3, load("h200"))), "07_activations")

# %% [markdown]
# SP takes the parts that the others left whole down to an eighth. Selective recompute takes the largest part
# away. Together they leave 18 % of what tensor parallelism alone keeps.
#
# **Predict 2.** By how many percent do the FLOPs of a block's step grow with full recompute, and with
# selective? And the bytes it sends? (One forward costs half of one backward.)

# %%
print("recompute    FLOPs      sent")
more = {}
for recompute in ("none", "selective", "full"):
    trace = blocks[False, recompute]
    flops = sum(kernel.matmul_flops for kernel in trace.kernels)
    sent = sum(event.bytes_sent for event in trace.collectives)
    more[recompute] = flops, sent, len(trace.collectives)
    print(f"{recompute:9}  {flops / more['none'][0] - 1:+7.1%}  {sent / more['none'][1] - 1:+8.1%}")
assert more["full"][0] * 3 == more["none"][0] * 4
assert (more["none"][2], more["selective"][2], more["full"][2]) == (4, 4, 6)
s_over_h = plan.seq / gpt3.hidden
core = (s_over_h / 18) / (1 + s_over_h / 6)  # 4bs²h of 72bsh²(1 + s/6h)
np.testing.assert_allclose(more["selective"][0] / more["none"][0] - 1, core)
assert round(core, 3) == 0.009

# %% [markdown]
# **Answer 2.** Full: a third more FLOPs, and 6 all-reduces in place of 4. Selective: 0.9 % more FLOPs, and
# nothing more to send. (Section 5 of the paper says 2.7 %: 3 times what it costs to run the two products of
# the attention's core once more.) So selective recompute frees 70 % of what one device keeps, for next to
# nothing. A *fused* attention, such as FlashAttention (Dao et al. 2022, section 3.1), does just this inside
# its kernel.
#
# ## Asked for real: why an all-reduce for the norms?
#
# Somebody finds `allreduce_layernorm_grads` in Megatron's optimizer, and no word about it in the paper
# ([Megatron-LM #443](https://github.com/NVIDIA/Megatron-LM/issues/443)). Somebody else finds that the norms'
# weights *differ* from rank to rank, and asks how to merge them
# ([#474](https://github.com/NVIDIA/Megatron-LM/issues/474)). And one project first left the sum out, and then
# averaged ([gpt-neox #1259](https://github.com/EleutherAI/gpt-neox/pull/1259)).
#
# **Predict 3.** $\gamma$ is whole on each rank. Rank $i$ has used it for its positions only. Which is the
# gradient of one device: each rank's own $\bar\gamma$, their mean, or their sum?

# %%
one_device = tp[0][1][1]  # without SP every rank has all positions
own = np.array([gradients[1] for _, gradients, *_ in sp])  # [t, h]
for name, found in (("rank 0's own", own[0]), ("the mean", own.mean(axis=0)), ("the sum", own.sum(axis=0))):
    print(f"{name:13}", np.round(found, 3), "is right" if np.allclose(found, one_device) else "is wrong")
np.testing.assert_allclose(own.sum(axis=0), one_device, rtol=1e-12)
assert not np.allclose(own[0], one_device)
for *_, summed in tpsim.run(layers, t):
    np.testing.assert_allclose(summed, one_device, rtol=1e-12)

stepped = gamma - 0.1 * own  # one step of SGD without the sum
print("γ on the 4 ranks after one such step:", *np.round(stepped, 3), sep="\n  ")
assert np.ptp(stepped, axis=0).min() > 0.01

# %% [markdown]
# **Answer 3.** The sum. One $\gamma$ was used at $s$ positions, and the gradient of a value used in several
# places is the sum over them (chapter 3); here the places lie on $t$ ranks. The mean comes from data
# parallelism, where the loss itself is a mean over ranks. Here the loss is one, and the mean is $t$ times too
# small: Adam hides that, and norms just seem to learn slowly. With nothing at all the copies drift apart, and
# there is no right way to merge them.
#
# A tensor of $h$ numbers a norm, once a step: all of them go in one message. `sum_replica_gradients` does it
# for every parameter that says that its gradient is a share.
#
# ## To take along
#
# - Outside the region, cut the sequence: an all-reduce becomes a reduce-scatter and an all-gather, the same
#   bytes, and norms, dropout and residuals take $1/t$ of the memory.
# - Not keeping the gathered input costs one more all-gather in backward.
# - Weights used at a part of the positions have a part of the gradient: *sum* over the ranks.
# - Selective recompute drops the scores, which grow with $s^2$, for a percent of FLOPs; full recompute costs
#   a third, and sends half as much again.
#
# Next: [chapter 8](08_train_it.py) puts it all together and trains.
