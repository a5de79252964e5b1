# %% [markdown]
# # 3 · The MLP: columns, then rows
#
# *20 minutes. You need: chapters 1 and 2, and the chain rule.*
#
# Two thirds of the weights of a GPT's blocks are in their MLPs:
#
# $$Z = X A, \qquad H = \mathrm{GELU}(Z), \qquad Y = H B$$
#
# with $A$ from $h$ features to $f$ (often $4h$) and $B$ back to $h$. Each of $A$ and $B$ can be cut by
# columns or by rows. One of the four ways is better than all others, and Megatron-LM made it famous. Here you
# find it, derive its backward pass, and run it.

# %%
import numpy as np

import tpsim
from tpsim.functional import gelu, gelu_grad

t, tokens, h, f = 4, 3, 4, 8
rng = np.random.default_rng(4)
X = rng.standard_normal((tokens, h))
A = rng.standard_normal((h, f))
B = rng.standard_normal((f, h))
Y = gelu(X @ A) @ B  # one device

# %% [markdown]
# ## By hand: forward
#
# Cut $A$ by columns, and rank $i$ has *whole entries* of $Z$: its columns $Z_i = X A_i$. GELU works entry by
# entry, so $H_i = \mathrm{GELU}(Z_i)$ needs nobody else. And columns of $H$ are what a row cut of $B$ takes
# in:
#
# $$Y = [H_0 \,|\, \dots \,|\, H_{t-1}] \begin{bmatrix} B_0 \\ \vdots \\ B_{t-1} \end{bmatrix}
# = \sum_i H_i B_i$$
#
# One all-reduce for two matrices.


# %%
def cut(rank, ranks=t):
    """Return this rank's columns of A and rows of B."""
    return np.split(A, ranks, axis=1)[rank], np.split(B, ranks, axis=0)[rank]


def forward(comm):
    A_i, B_i = cut(comm.rank)  # [h, f/t], [f/t, h]
    H_i = gelu(X @ A_i)  # [tokens, f/t]
    return tpsim.Group(comm).all_reduce(H_i @ B_i)  # [tokens, h]


for result in tpsim.run(forward, t):
    np.testing.assert_allclose(result, Y, rtol=1e-12)

# %% [markdown]
# **Predict 1.** Now the other way round: $A$ by rows, $B$ by columns; $X$ is whole on all ranks, and $Y$ is
# to be. What has to be sent before the GELU, and what at the end? Could one apply GELU to each rank's term,
# and add up later?


# %%
def rows_then_columns(comm):
    group = tpsim.Group(comm)
    x = np.split(X, t, axis=1)[comm.rank]
    term = x @ np.split(A, t, axis=0)[comm.rank]  # [tokens, f]: a term of all of Z
    with tpsim.Trace() as trace:
        H = gelu(group.all_reduce(term))
        y = group.all_gather(H @ np.split(B, t, axis=1)[comm.rank], axis=1)
    wrong = group.all_reduce(gelu(term))  # GELU first, then the sum
    return y, wrong, H, [(event.operation, event.bytes_sent) for event in trace.collectives]


y, wrong, H, calls = tpsim.run(rows_then_columns, t)[0]
np.testing.assert_allclose(y, Y, rtol=1e-12)
print("rows, then columns:", calls)
print(
    f"GELU before the sum: off by up to {np.abs(wrong - H).max():.2f}, of entries up to {np.abs(H).max():.2f}"
)
assert np.abs(wrong - H).max() > 0.1 * np.abs(H).max()
columns_then_rows = 2 * (t - 1) * Y.nbytes // t
assert sum(nbytes for _, nbytes in calls) == 2.5 * columns_then_rows

# %% [markdown]
# **Answer 1.** GELU is not linear: $\mathrm{GELU}(Z_0 + Z_1) \neq \mathrm{GELU}(Z_0) + \mathrm{GELU}(Z_1)$.
# So rows first needs the sum *before* the GELU, an all-reduce of $f$ columns, and then an all-gather of $h$.
# With $f = 2h$ as here that is 2.5 times the bytes, with $f = 4h$ 4.5 times. (Columns, columns) gathers $H$
# and then $Y$; (rows, rows) all-reduces $Z$ and then $Y$. Columns, then rows, is the only order with one
# collective.
#
# ## By hand: backward
#
# Write $\bar Y$ for the gradient of the loss by $Y$, and so on. One device computes
#
# $$\bar B = H^\top \bar Y, \quad \bar H = \bar Y B^\top, \quad \bar Z = \bar H \odot \mathrm{GELU}'(Z), \quad
# \bar A = X^\top \bar Z, \quad \bar X = \bar Z A^\top$$
#
# Now rank $i$, which has $A_i$, $B_i$, $X$, $Z_i$, $H_i$. All ranks have the same $Y$, so they have the same
# $\bar Y$.
#
# - $Y = \sum_i H_i B_i$, hence $\bar B_i = H_i^\top \bar Y$ and $\bar H_i = \bar Y B_i^\top$: no
#   communication.
# - $Z_i = X A_i$, hence $\bar Z_i = \bar H_i \odot \mathrm{GELU}'(Z_i)$ and $\bar A_i = X^\top \bar Z_i$:
#   none either.
# - $X$ is used $t$ times, once on each rank. The gradient of a value used in several places is the sum over
#   them:
#
# $$\bar X = \bar Z A^\top = \sum_i \bar Z_i A_i^\top$$
#
# Rank $i$ has one term of it. **Here is the all-reduce of the backward pass.**
#
# The paper names the two places where ranks talk: **f** where $X$ enters (forward nothing, backward
# all-reduce), and **g** where $Y$ leaves (forward all-reduce, backward nothing).


# %%
def forward_backward(comm, dY, f_reduces=True, g_reduces=False):
    group = tpsim.Group(comm)
    A_i, B_i = cut(comm.rank, comm.size)
    Z_i = X @ A_i
    H_i = gelu(Z_i)
    y = group.all_reduce(H_i @ B_i)  # g, forward

    if g_reduces:
        dY = group.all_reduce(dY)  # g, backward: shouldn't
    dB_i = H_i.T @ dY
    dZ_i = gelu_grad(Z_i, dY @ B_i.T)
    dA_i = X.T @ dZ_i
    dX = dZ_i @ A_i.T  # one term
    if f_reduces:
        dX = group.all_reduce(dX)  # f, backward
    return y, dX, dA_i, dB_i


dY = rng.standard_normal(Y.shape)
found = tpsim.run(forward_backward, t, dY)
dX = found[0][1]
dA = np.concatenate([dA_i for _, _, dA_i, _ in found], axis=1)
dB = np.concatenate([dB_i for *_, dB_i in found], axis=0)

# %% [markdown]
# Is the derivation right? Ask the loss itself: with $L = \sum Y \odot \bar Y$, shift one entry at a time and
# see how $L$ changes. That needs no derivation, and no ranks.


# %%
def numerical(matrix, loss, step=1e-5):
    gradient = np.zeros_like(matrix)
    for place in np.ndindex(matrix.shape):
        kept = matrix[place]
        matrix[place] = kept + step
        above = loss()
        matrix[place] = kept - step
        gradient[place] = (above - loss()) / (2 * step)
        matrix[place] = kept
    return gradient


def loss():
    return np.sum(gelu(X @ A) @ B * dY)


for name, matrix, gradient in (("X", X, dX), ("A", A, dA), ("B", B, dB)):
    expected = numerical(matrix, loss)
    print(f"d{name}: largest difference {np.abs(gradient - expected).max():.1e}")
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)

# %% [markdown]
# The whole of it in one picture. Grey is whole on every rank. Between f and g each rank keeps to its colour.

# %%
from tpsim.plots.picture import save
from tpsim.plots.sharding import Matrix, evenly, sharding

owners = evenly(f, t)
x, y = Matrix("X", X.shape), Matrix("Y", Y.shape)
cut_z, cut_h = Matrix("Z", (tokens, f), owners), Matrix("H", (tokens, f), owners)
terms = [Matrix(f"H{'₀₁₂₃'[i]}B{'₀₁₂₃'[i]}", Y.shape, [i] * h) for i in (0, 3)]
forward_picture = {
    "forward, up: f lets every rank use X, and nothing is sent": [
        x,
        "·",
        Matrix("A", A.shape, owners),
        "=",
        cut_z,
        "GELU →",
        cut_h,
    ],
    "forward, down: g adds up the terms of Y (all-reduce)": [
        cut_h,
        "·",
        Matrix("B", B.shape, owners, axis=0),
        "=",
        terms[0],
        "+ … +",
        terms[1],
        "g →",
        y,
    ],
}

# %%
dx, dy = Matrix("dX", X.shape), Matrix("dY", Y.shape)
cut_dz, cut_dh = Matrix("dZ", (tokens, f), owners), Matrix("dH", (tokens, f), owners)
shares = [Matrix(f"dZ{'₀₁₂₃'[i]}A{'₀₁₂₃'[i]}ᵀ", X.shape, [i] * h) for i in (0, 3)]
backward_picture = {
    "backward, down: g lets every rank use dY, and nothing is sent": [
        dy,
        "·",
        Matrix("Bᵀ", (h, f), owners),
        "=",
        cut_dh,
        "· GELU′ →",
        cut_dz,
    ],
    "backward, up: f adds up the terms of dX (all-reduce)": [
        cut_dz,
        "·",
        Matrix("Aᵀ", (f, h), owners, axis=0),
        "=",
        shares[0],
        "+ … +",
        shares[1],
        "f →",
        dx,
    ],
}
figure = sharding(forward_picture | backward_picture, "the MLP on 4 ranks: backward is forward in a mirror")
save(figure, "03_mlp")

# %% [markdown]
# **Predict 2.** Somebody forgets the all-reduce of f. Which of $\bar X$, $\bar A$, $\bar B$ are wrong? Would
# you see it in this layer's loss, or in its weights after the next step?

# %%
forgotten = tpsim.run(forward_backward, t, dY, False)
same = {
    "dX": all(np.allclose(rank[1], dX) for rank in forgotten),
    "dA": all(np.array_equal(rank[2], right[2]) for rank, right in zip(forgotten, found, strict=True)),
    "dB": all(np.array_equal(rank[3], right[3]) for rank, right in zip(forgotten, found, strict=True)),
}
print("right without f's all-reduce:", same)
assert same == {"dX": False, "dA": True, "dB": True}
np.testing.assert_allclose(sum(rank[1] for rank in forgotten), dX)

# %% [markdown]
# **Answer 2.** Only $\bar X$ is wrong, and it goes to the layer *below*. This layer learns as it should; all
# before it learn from a part of the gradient, another part on each rank, and what ought to be the same on all
# ranks drifts apart. No error stops it. It has happened in real code ([torchtitan
# #1805](https://github.com/pytorch/torchtitan/issues/1805)).
#
# ## The same in tpsim
#
# `MLP` is this code, with biases, and f and g as objects of their own (`tpsim/nn/borders.py`). A `Trace`
# shows where it talks: once forward, at `down`, and once backward, at `up`.

# %%
from tpsim.nn import MLP


def layer(comm):
    mlp = MLP(h, f, tpsim.Group(comm), activation="gelu", bias=False, dtype=np.float64)
    mlp.load({"up.weight": A, "down.weight": B})
    with tpsim.Trace() as trace:
        y = mlp.forward(X[None])  # [batch, tokens, h]
        dx = mlp.backward(dY[None])
    events = [(event.phase, event.layer, event.operation, event.bytes_sent) for event in trace.collectives]
    return y[0], dx[0], mlp.up.weight.grad, mlp.down.weight.grad, events


results = tpsim.run(layer, t)
for by_layer, by_hand in zip(results, found, strict=True):
    for one, other in zip(by_layer[:4], by_hand, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
print(*results[0][4], sep="\n")

# %% [markdown]
# ## Asked for real: why does f all-reduce in backward, and g not?
#
# The question that most people ask about Megatron-LM ([#19](https://github.com/NVIDIA/Megatron-LM/issues/19),
# [#559](https://github.com/NVIDIA/Megatron-LM/issues/559),
# [#726](https://github.com/NVIDIA/Megatron-LM/issues/726)). Why f does, you have derived. But g *is* an
# all-reduce, and the gradient of an all-reduce is an all-reduce again: PyTorch's own differentiable one has
# it so. Why is g's the identity? And why not one operation for both, that all-reduces both ways?
#
# **Predict 3.** All-reduce $\bar Y$ in g's backward as well. By what factor do the gradients of $t$ = 1, 2
# and 4 ranks change?

# %%
for ranks in (1, 2, 4):
    right = tpsim.run(forward_backward, ranks, dY)[0]
    doubled = tpsim.run(forward_backward, ranks, dY, True, True)[0]
    factors = [round(float(np.median(bad / good)), 6) for bad, good in zip(doubled, right, strict=True)]
    print(f"{ranks} ranks: y, dX, dA, dB are {factors} times what they should be")
    assert factors == [1, ranks, ranks, ranks]

# %% [markdown]
# **Answer 3.** All gradients become $t$ times too large. It comes down to *which loss is differentiated*.
# Every rank computes the same $L$ from the same $Y$. Is the loss $L$, or the sum of the ranks' copies, $t L$?
# Let us differentiate by hand: shift rank 0's term of $Y$ a little, and look at one rank's loss, and at all
# of them together.


# %%
def shifted(comm, amount):
    term = gelu(X @ cut(comm.rank)[0]) @ cut(comm.rank)[1]
    if comm.rank == 0:
        term[0, 0] += amount
    return np.sum(tpsim.Group(comm).all_reduce(term) * dY)  # this rank's copy of L


up, down = np.array(tpsim.run(shifted, t, 1e-5)), np.array(tpsim.run(shifted, t, -1e-5))
slopes = (up - down) / 2e-5  # one a rank
print(f"dY there is {dY[0, 0]:.4f}; one rank's loss has slope {slopes[0]:.4f}, all four {slopes.sum():.4f}")
np.testing.assert_allclose(slopes, dY[0, 0], rtol=1e-6)

entered = tpsim.run(lambda comm: tpsim.Group(comm).all_reduce(X), t)[0]  # if f all-reduced forward as well
np.testing.assert_allclose(entered, t * X)

# %% [markdown]
# Both camps are right. For the sum of all ranks' losses the gradient of an all-reduce is an all-reduce: each
# rank's term reaches $t$ losses. PyTorch assumes that, since in general the ranks' losses differ. In tensor
# parallelism the $t$ losses are copies of one, and it counts once: the term's gradient is $\bar Y$ itself,
# which every rank has already. And if f all-reduced forward too, it would add up $t$ copies of one $X$: the
# last two lines of the cell.
#
# ## To take along
#
# - Columns, then rows: GELU gets whole entries, and two matrices need one all-reduce.
# - Backward is the mirror image: one all-reduce for $\bar X$, which every rank used. Weights' gradients are
#   local.
# - f: identity forward, all-reduce backward. g: all-reduce forward, identity backward, because the loss
#   counts once.
# - A missing all-reduce in backward breaks other layers than its own. Compare *gradients* with one device,
#   not losses.
#
# Chapter 4 does the same with attention: heads are its columns.
