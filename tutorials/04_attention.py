# %% [markdown]
# # 4 · Attention: heads are its columns
#
# *20 minutes. You need: chapter 3, and what attention is.*
#
# The other half of a transformer's layer. A head $j$ has queries, keys and values of its own, each with $d$
# features (Vaswani et al. 2017, "Attention is all you need", section 3.2):
#
# $$Q_j = X W^Q_j, \quad K_j = X W^K_j, \quad V_j = X W^V_j, \qquad
# P_j = \mathrm{softmax}\Big(\frac{Q_j K_j^\top}{\sqrt d}\Big), \qquad O_j = P_j V_j$$
#
# and a last matrix mixes them: $Y = [O_0 \,|\, \dots \,|\, O_{a-1}]\, W^O$. Until that last matrix no head
# knows of any other. So heads are to attention what columns are to the MLP.

# %%
import numpy as np

import tpsim

t, tokens, heads, d = 4, 4, 4, 2
h = heads * d
rng = np.random.default_rng(5)
X = rng.standard_normal((tokens, h))
Wq, Wk, Wv, Wo = rng.standard_normal((4, h, h)) / 2
future = np.triu(np.full((tokens, tokens), -np.inf), 1)  # added to scores: no token sees those after it


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def attend(q, k, v):  # [tokens, d] each
    P = softmax(q @ k.T / np.sqrt(d) + future)  # [tokens, tokens]
    return P @ v, P


def head(W, j):
    """Return the columns of head j."""
    return W[:, j * d : (j + 1) * d]


each = [attend(*(X @ head(W, j) for W in (Wq, Wk, Wv)))[0] for j in range(heads)]
Y = np.concatenate(each, axis=1) @ Wo  # one device

# %% [markdown]
# ## By hand: a head a rank
#
# Rank $i$ gets the columns of its heads in $W^Q$, $W^K$ and $W^V$, and has $O_i$ with nobody's help. Columns
# of $O$ are what a row cut of $W^O$ takes in, as in chapter 3:
#
# $$Y = \sum_i O_i W^O_i$$
#
# One all-reduce for four matrices and a softmax (Shoeybi et al. 2019, "Megatron-LM", section 3, figure 3b).


# %%
def by_heads(comm):
    O_i, _ = attend(*(X @ head(W, comm.rank) for W in (Wq, Wk, Wv)))  # [tokens, d]
    return tpsim.Group(comm).all_reduce(O_i @ np.split(Wo, t)[comm.rank])  # [tokens, h]


for result in tpsim.run(by_heads, t):
    np.testing.assert_allclose(result, Y, rtol=1e-12)

# %% [markdown]
# **Predict 1.** Now 8 ranks, and still 4 heads. Each rank takes *half* a head: one of its $d = 2$ columns.
# Two ranks share a softmax. What must they send each other before it, and how much more is that if $X$ has
# 100 times as many tokens?


# %%
def by_half_heads(comm):
    group = tpsim.Group(comm)
    pair = group.neighbours(2)  # ranks 0 and 1, 2 and 3, …
    half = slice(comm.rank, comm.rank + 1)
    q, k, v = (X @ W[:, half] for W in (Wq, Wk, Wv))  # [tokens, 1]
    scores = q @ k.T / np.sqrt(d)  # [tokens, tokens]: a term of the head's scores
    with tpsim.Trace() as trace:
        P = softmax(pair.all_reduce(scores) + future)
    wrong = softmax(scores + future)  # softmax first
    return group.all_reduce(P @ v @ Wo[half]), np.abs(wrong - P).max(), trace.collectives[0].bytes_sent


for result, difference, bytes_sent in tpsim.run(by_half_heads, 2 * t):
    np.testing.assert_allclose(result, Y, rtol=1e-12)
    assert bytes_sent == tokens**2 * 8
    assert difference > 0.01
print(f"{bytes_sent} bytes more from each rank; softmax first: probabilities off by up to {difference:.2f}")

# %% [markdown]
# **Answer 1.** A score is a sum over the head's $d$ features, and softmax, like GELU, wants the whole sum. So
# one more all-reduce, of tokens × tokens numbers for each head: with 100 times the tokens, 10,000 times the
# bytes. (Sending the halves of $Q_j$ and $K_j$ is cheaper. Then both ranks compute the same scores.) The head
# is the unit: $t$ is at most the number of heads, and divides it.
#
# ## By hand: one fused matrix
#
# Three products with the same $X$ are done faster as one, so real code keeps $W = [W^Q \,|\, W^K \,|\, W^V]$.
#
# **Predict 2.** Somebody cuts the fused $W$ like any column cut, into $t$ equal stretches. A rank splits its
# result in three and takes them for its $q$, $k$, $v$. Which heads does rank 0 have? Does a shape look wrong?

# %%
W = np.concatenate([Wq, Wk, Wv], axis=1)  # [h, 3 h]


def fused(comm, whole):
    mine = np.split(whole, comm.size, axis=1)[comm.rank]  # [h, 3 h/t]
    q, k, v = np.split(X @ mine, 3, axis=1)
    each = [attend(*(head(m, j) for m in (q, k, v)))[0] for j in range(heads // comm.size)]
    return tpsim.Group(comm).all_reduce(np.concatenate(each, axis=1) @ np.split(Wo, comm.size)[comm.rank])


off = {ranks: np.abs(tpsim.run(fused, ranks, W)[0] - Y).max() for ranks in (1, 2, 4)}
for ranks, difference in off.items():
    print(f"{ranks} ranks: off by up to {difference:.1e}, of entries up to {np.abs(Y).max():.1f}")
np.testing.assert_array_equal(np.split(W, t, axis=1)[0], Wq[:, : 3 * d])
assert off[1] < 1e-12
assert off[2] > 0.5
assert off[4] > 0.5

# %% [markdown]
# **Answer 2.** Rank 0 has the queries of heads 0, 1 and 2, and takes them for a query, a key and a value. All
# shapes are right, nothing stops it, and one rank alone has no error. Each of the *three pieces* must be cut.
#
# ## By hand: fewer keys than queries
#
# While a model writes, it keeps all earlier keys and values. In **grouped-query attention** (Ainslie et al.
# 2023, "GQA", section 2.2) several query heads share a key-value head, so there is less to keep. With $k$ of
# these for $a$ query heads, query head $j$ reads number $\lfloor j k / a \rfloor$. While $t$ divides $k$
# nothing changes, for a rank's queries need just its own key-value heads. With $k < t$, neighbours hold *the
# same one*. Here $k = 2$: ranks 0 and 1 both have key-value head 0.
#
# All cuts in one picture; a colour is a rank.

# %%
from tpsim.plots.picture import save
from tpsim.plots.sharding import Matrix, evenly, sharding

kv_heads = 2
owners, names = evenly(h, t), [f"head {j}" for j in range(heads)]
stretches = ["Q₀ Q₁ Q₂", "Q₃ K₀ K₁", "K₂ K₃ V₀", "V₁ V₂ V₃"]
copies = ["head 0", "head 0", "head 1", "head 1"]
O_cut = Matrix("O", (tokens, h), owners, blocks=["O₀", "O₁", "O₂", "O₃"])
figure = sharding(
    {
        "by heads: each rank has a query, a key and a value, and so its own columns of O": [
            *[Matrix(name, (tokens, h), owners, blocks=names) for name in "QKV"],
            "→",
            O_cut,
        ],
        "then Wᴼ by rows: each rank has a term of Y, and they are added up (all-reduce)": [
            O_cut,
            "·",
            Matrix("Wᴼ", (h, h), owners, axis=0),
            "=",
            Matrix("O₀ Wᴼ₀", (tokens, h), [0] * h),
            "+ … +",
            Matrix("O₃ Wᴼ₃", (tokens, h), [3] * h),
        ],
        "2 key-value heads for 4 ranks: neighbours hold copies of one head": [
            Matrix("Q", (tokens, h), owners, blocks=names),
            *[Matrix(name, (tokens, h), owners, blocks=copies) for name in "KV"],
        ],
        "wrong: [ Q | K | V ] in equal stretches: three queries on rank 0": [
            Matrix("Q | K | V", (tokens, 3 * h), evenly(3 * h, t), blocks=stretches)
        ],
    },
    "attention on 4 ranks, a head each",
)
save(figure, "04_heads")

# %% [markdown]
# ## By hand: backward
#
# With $S = Q K^\top / \sqrt d$ and $P = \mathrm{softmax}(S)$ row by row, one head's gradients are
#
# $$\bar V = P^\top \bar O, \quad \bar P = \bar O V^\top, \quad
# \bar S = P \odot \big(\bar P - \mathrm{rowsum}(P \odot \bar P)\big), \quad
# \bar Q = \frac{\bar S K}{\sqrt d}, \quad \bar K = \frac{\bar S^\top Q}{\sqrt d}$$
#
# all local, and $\bar X$ needs f's all-reduce, as in the MLP: all heads used $X$.

# %%
Wk2, Wv2 = rng.standard_normal((2, h, kv_heads * d)) / 2
dY = rng.standard_normal((tokens, h))


def grouped(comm):
    group, shared = tpsim.Group(comm), comm.rank // (t // kv_heads)
    Wq_i, Wk_i, Wv_i = head(Wq, comm.rank), head(Wk2, shared), head(Wv2, shared)
    Wo_i = np.split(Wo, t)[comm.rank]
    q, k, v = X @ Wq_i, X @ Wk_i, X @ Wv_i
    O_i, P = attend(q, k, v)
    y = group.all_reduce(O_i @ Wo_i)  # g

    dO = dY @ Wo_i.T
    dv, dP = P.T @ dO, dO @ v.T
    dS = P * (dP - np.sum(P * dP, axis=1, keepdims=True)) / np.sqrt(d)
    dq, dk = dS @ k, dS.T @ q
    dX = group.all_reduce(dq @ Wq_i.T + dk @ Wk_i.T + dv @ Wv_i.T)  # f
    return y, dX, X.T @ dq, X.T @ dk, X.T @ dv


def loss():
    pairs = [(j, j * kv_heads // heads) for j in range(heads)]  # each query head, and what it reads
    each = [attend(X @ head(Wq, j), X @ head(Wk2, kv), X @ head(Wv2, kv))[0] for j, kv in pairs]
    return np.sum(np.concatenate(each, axis=1) @ Wo * dY)


def numerical(matrix, step=1e-5):
    gradient = np.zeros_like(matrix)
    for place in np.ndindex(matrix.shape):
        kept = matrix[place]
        matrix[place] = kept + step
        above = loss()
        matrix[place] = kept - step
        gradient[place] = (above - loss()) / (2 * step)
        matrix[place] = kept
    return gradient


found = tpsim.run(grouped, t)
np.testing.assert_allclose(np.sum(found[0][0] * dY), loss(), rtol=1e-12)
np.testing.assert_allclose(found[0][1], numerical(X), rtol=1e-6, atol=1e-7)
np.testing.assert_allclose(np.concatenate([r[2] for r in found], 1), numerical(Wq), rtol=1e-6, atol=1e-7)

# %% [markdown]
# $\bar X$ and $\bar W^Q$ are right.
#
# **Predict 3.** And $\bar W^K$ of key-value head 0, which ranks 0 and 1 both hold: is it right on them as it
# is? If not, over which ranks must it be summed, all four or these two?

# %%
dWk2 = numerical(Wk2)


def summed(comm):
    group = tpsim.Group(comm)
    mine = found[comm.rank][3]
    ways = {
        "as it is": mine,
        "summed over all ranks": group.all_reduce(mine),
        "summed over the two": group.neighbours(t // kv_heads).all_reduce(mine),
    }
    true = head(dWk2, comm.rank * kv_heads // t)
    return {way: np.abs(gradient - true).max() for way, gradient in ways.items()}


off = tpsim.run(summed, t)
for way in off[0]:
    print(f"{way:22} off by", *[f"{rank[way]:8.1e}" for rank in off])
    assert all((rank[way] < 1e-6) == (way == "summed over the two") for rank in off)
apart = np.abs(found[0][3] - found[1][3]).max()
print(f"the two copies' gradients differ by up to {apart:.2f}")
assert apart > 0.1

# %% [markdown]
# **Answer 3.** Each rank has seen its own query head only, so it has a share of the gradient, and the shares
# of *one* head are summed. Without that, the two copies of one weight take different steps, and are copies no
# more. $\bar X$ was right all along, since f sums all shares. Where keys and values stand outside of f, it
# isn't: BigCode's model had a loss of 3.74 after 5,000 steps without that sum, and 2.64 with it
# ([bigcode/Megatron-LM #37](https://github.com/bigcode-project/Megatron-LM/pull/37)).
#
# ## The same in tpsim
#
# `Attention` has one fused weight of three pieces, each cut, or copied, as it needs to be. `backward` leaves
# shares in copies; `sum_replica_gradients` sums them once a step, however many backward passes there were.

# %%
from tpsim import nn


def layer(comm):
    attention = nn.Attention(h, heads, tpsim.Group(comm), kv_heads=kv_heads, bias=False, dtype=np.float64)
    attention.load({"qkv.weight": np.concatenate([Wq, Wk2, Wv2], axis=1), "out.weight": Wo})
    with tpsim.Trace() as trace:
        y = attention.forward(X[None])[0]  # [batch, tokens, h]
        dx = attention.backward(dY[None])[0]
        weight = attention.qkv.weight
        shares = [part.copy() for part in weight.parts_of(weight.grad)]
        nn.sum_replica_gradients(attention)
    events = [(e.phase, e.layer, e.operation, e.ranks, e.bytes_sent) for e in trace.collectives]
    return (y, dx, *shares), weight.parts_of(weight.grad)[1], events


results = tpsim.run(layer, t)
for rank, (by_layer, dwk, _) in enumerate(results):
    for one, other in zip(by_layer, found[rank], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dwk, head(dWk2, rank * kv_heads // t), rtol=1e-6, atol=1e-7)
print(*results[0][2], sep="\n")
assert [event[3] for event in results[0][2]] == [4, 4, 2]

# %% [markdown]
# ## Asked for real: why does it fail with more ranks than key-value heads?
#
# A model with 4 key-value heads of 128 features, on 8 ranks, fails in its first forward pass ([transformers
# #48307](https://github.com/huggingface/transformers/issues/48307); also [torchtitan
# #2574](https://github.com/pytorch/torchtitan/issues/2574)): an equal cut goes through heads. Here is the
# failure, and then what copies cost. Llama-3 8B has 32 query heads and 8 key-value heads.

# %%
from tpsim.models import find

keys = np.split(np.zeros((tokens, 4 * 128)), 8, axis=1)[0]
try:
    keys.reshape(tokens, -1, 128)
    raise AssertionError("half a head passed for one")
except ValueError as error:
    print("8 ranks, 4 heads of 128:", error)

llama = find("llama3-8b")
print("ranks  query heads a rank  kv heads a rank  kv heads in all")
for ranks in (1, 2, 4, 8, 16, 32):
    here = max(llama.kv_heads // ranks, 1)
    print(f"{ranks:5}  {llama.heads // ranks:18}  {here:15}  {here * ranks:15}")
    assert (here * ranks > llama.kv_heads) == (ranks > 8)

# %% [markdown]
# Beyond 8 ranks, a rank's keys and values get no smaller, for two ranks keep the same ones. It works, and it
# is one more reason why $t$ often stops at 8. If neither of $k$ and $t$ divides the other, tpsim refuses.
#
# ## Asked for real: why do my fused weights work with 2 ranks, and not with one?
#
# [slapo #46](https://github.com/awslabs/slapo/pull/46): code that splits in three whatever it has reads
# another *layout* at each $t$. Trained with 2 ranks, the weights are right with 2 ranks only. Megatron-LM
# avoids that by another order of the columns: head by head, $[Q_0 K_0 V_0 \,|\, Q_1 K_1 V_1 \,|\, \dots]$.

# %%
by_head = np.concatenate([head(m, j) for j in range(heads) for m in (Wq, Wk, Wv)], axis=1)


def head_by_head(comm, whole):
    mine = np.split(whole, comm.size, axis=1)[comm.rank]
    each = [attend(*np.split(X @ three, 3, axis=1))[0] for three in np.split(mine, heads // comm.size, 1)]
    return tpsim.Group(comm).all_reduce(np.concatenate(each, 1) @ np.split(Wo, comm.size)[comm.rank])


for ranks in (1, 2, 4):
    three_pieces, in_heads = tpsim.run(fused, ranks, W)[0], tpsim.run(head_by_head, ranks, by_head)[0]
    print(f"{ranks} ranks: Q | K | V {three_pieces[0, :2]}, head by head {in_heads[0, :2]}")
    np.testing.assert_allclose(in_heads, Y, rtol=1e-12)

# %% [markdown]
# In this order equal stretches are right for each $t$, and a file of weights must say which order it is in.
# tpsim keeps $[Q | K | V]$, since the parameter knows its pieces.
#
# ## To take along
#
# - Heads are attention's columns: one all-reduce forward and one backward, for the whole of attention.
# - Softmax wants whole sums, so a head is never cut, and $t$ divides the number of heads.
# - A fused weight is several pieces, each of which is cut. Wrong cuts have right shapes.
# - With fewer key-value heads than ranks, neighbours hold copies, and only they sum the gradients.
#
# Next: [chapter 5](05_the_block.py) puts attention and MLP together, and asks whether what differs from one
# device is a bug.
