# %% [markdown]
# # 6 · The vocabulary: a loss without its logits
#
# *20 minutes. You need: chapters 1 and 3, and what cross-entropy is.*
#
# At both ends of a language model stands a matrix $E$ with one row for each of $V$ words. At the entrance, a
# token picks its row. At the exit, a token's vector $x$ gets one score a word, its **logits** $z = E x$. The
# loss is the cross-entropy of $\mathrm{softmax}(z)$ with the word that came next.
#
# $V$ is large, 128,256 in Llama 3. So $E$ is large, and so are the logits, a number for each word and token.
# Both are cut, and the logits are never put together (Shoeybi et al. 2019, "Megatron-LM", section 3).

# %%
import numpy as np

import tpsim
from tpsim.models import find

llama = find("llama3-8b")
print(f"E: {llama.vocab * llama.hidden * 2 / 1e9:.1f} GB in bfloat16")
print(f"logits of 8,192 tokens: {8192 * llama.vocab * 4 / 1e9:.1f} GB in float32")
assert llama.vocab == 128_256
assert llama.vocab > 30 * llama.hidden

V, h, t = 10, 4, 4
rng = np.random.default_rng(8)
E = rng.integers(-2, 3, (V, h)).astype(float)  # whole numbers, so that sums are exact
tokens = np.array([7, 0, 9, 7])
targets = np.array([2, 9, 6, 2])
X = rng.integers(-1, 2, (len(tokens), h)).astype(float)  # what the layers made of the tokens

# %% [markdown]
# ## By hand: look up
#
# Cut $E$ by rows: each rank has some of the words. 10 words can't be cut evenly in 4, so add rows of zeros,
# the **padding**, up to 12.
#
# A rank looks up the tokens that it has, and takes zeros for the others. Then the ranks add up. In each sum
# there is one row and $t - 1$ zeros, so it is exact.


# %%
def padded(vocab, ranks):
    return -(-vocab // ranks) * ranks  # rounded up


def cut(rank, ranks, E=E):
    """Return this rank's rows of E, the number of its first word, and how many of its rows are words."""
    V = len(E)
    rows = padded(V, ranks) // ranks
    whole = np.concatenate([E, np.zeros((padded(V, ranks) - V, h))])
    return whole[rank * rows : (rank + 1) * rows], rank * rows, max(min(rows, V - rank * rows), 0)


def own(words, first, real):
    """Return which words are here, and the row of each, 0 for those that aren't."""
    mine = (words >= first) & (words < first + real)
    return mine, np.where(mine, words - first, 0)


def look_up(comm):
    E_i, first, real = cut(comm.rank, comm.size)
    mine, row = own(tokens, first, real)
    return tpsim.Group(comm).all_reduce(np.where(mine[:, None], E_i[row], 0))


for result in tpsim.run(look_up, t):
    np.testing.assert_array_equal(result, E[tokens])

# %% [markdown]
# Backward sends nothing: each rank adds the gradient of a token's vector to the row of that token, if it has
# it. Token 7 comes twice here, and its row gets both.
#
# ## By hand: the loss
#
# The logits are $Z = X E^\top$, so a row cut of $E$ is a column cut of $E^\top$: rank $i$ computes the logits
# of its words, without communication. One token's loss is
#
# $$L = -\log \frac{e^{z_y}}{\sum_k e^{z_k}} = \log \sum_k e^{z_k - m} - (z_y - m), \qquad m = \max_k z_k$$
#
# where $y$ is the target, and $m$ keeps the exponentials from overflowing. A maximum and a sum over all words
# can be put together from the ranks' maxima and sums. And $z_y$ is a sum too: of the one logit that its owner
# has, and zeros. *Three numbers a token*, however many words there are.


# %%
def loss(comm, pads=-np.inf):
    group = tpsim.Group(comm)
    E_i, first, real = cut(comm.rank, comm.size)
    Z = X @ E_i.T  # [tokens, V/t]
    Z[:, real:] = pads
    mine, column = own(targets, first, real)
    m = group.all_reduce(Z.max(axis=1), "max")  # [tokens]
    exponentials = np.exp(Z - m[:, None])
    total = group.all_reduce(exponentials.sum(axis=1))
    at_target = group.all_reduce(np.where(mine, Z[range(len(Z)), column] - m, 0))
    return np.log(total) - at_target, exponentials / total[:, None]  # losses, and this rank's probabilities


def one_device(X, E):
    Z = X @ E.T
    return np.log(np.exp(Z).sum(axis=1)) - Z[range(len(Z)), targets]


for losses, _ in tpsim.run(loss, t):
    np.testing.assert_allclose(losses, one_device(X, E), rtol=1e-12)
print("losses:", losses.round(3))

# %% [markdown]
# The whole of it in one picture. Grey is whole on every rank, "-inf" is padding.

# %%
from tpsim.plots.picture import save
from tpsim.plots.sharding import Matrix, evenly, sharding

wide = padded(V, t)
owners, by_rank = evenly(wide, t), list(range(t))
shards = [cut(rank, t) for rank in range(t)]
Z = np.concatenate([np.where(np.arange(3) < real, X @ E_i.T, -np.inf) for E_i, _, real in shards], axis=1)
m = Z.max(axis=1, keepdims=True)
maxima = Z.reshape(-1, t, 3).max(axis=2)
sums = np.exp(Z - m).reshape(-1, t, 3).sum(axis=2)
hits = np.where(targets[:, None] // 3 == by_rank, Z[range(4), targets][:, None] - m, 0)
words = ["words 0 – 2", "3 – 5", "6 – 8", "9, padding"]
figure = sharding(
    {
        "each rank has its words' rows of E, and computes their logits": [
            Matrix("X", X.shape, values=X),
            "·",
            Matrix("Eᵀ", (h, wide), owners, blocks=words, values=np.concatenate([s[0] for s in shards]).T),
            "=",
            Matrix("Z", Z.shape, owners, blocks=words, values=Z),
        ],
        "and sends three numbers a token": [
            Matrix("max", (4, t), by_rank, values=maxima, blocks=[""] * t),
            "max →",
            Matrix("m", (4, 1), values=m),
            "   ",
            Matrix("Σ exp(Z − m)", (4, t), by_rank, values=sums.round(2), blocks=[""] * t),
            "+ →",
            Matrix("Σ", (4, 1), values=sums.sum(axis=1, keepdims=True).round(2)),
            "   ",
            Matrix("target − m", (4, t), by_rank, values=hits, blocks=[""] * t),
            "+ →",
            Matrix("z − m", (4, 1), values=hits.sum(axis=1, keepdims=True)),
        ],
    },
    "10 words on 4 ranks: the loss without its logits",
)
save(figure, "06_loss")

# %% [markdown]
# **Predict 1.** How many times more would each rank send to gather the logits? Work it out for Llama's
# vocabulary on 8 ranks.


# %%
def sent(comm, count=8):  # of tokens
    group = tpsim.Group(comm)
    Z = np.zeros((count, llama.vocab // comm.size), np.float32)
    with tpsim.Trace() as trace:
        group.all_gather(Z, axis=1)
    with tpsim.Trace() as three:
        group.all_reduce(Z.max(axis=1), "max")
        group.all_reduce(Z.sum(axis=1))
        group.all_reduce(Z[:, 0])
    return [sum(event.bytes_sent for event in each.collectives) for each in (trace, three)]


gathered, reduced = tpsim.run(sent, 8)[0]
print(f"gathered: {gathered:,} bytes; three numbers: {reduced:,} bytes; {gathered / reduced:,.0f} times less")
assert gathered / reduced == llama.vocab / 6

# %% [markdown]
# **Answer 1.** 21,376 times. A gather sends $\frac{t-1}{t} V$ numbers a token, three all-reduces send
# $3 \cdot 2\,\frac{t-1}{t}$. The ratio is $V / 6$, whatever $t$ is. And each rank would have to hold the
# 4.2 GB.
#
# ## By hand: padding
#
# **Predict 2.** The rows of padding are zeros, so their logits would be 0. Leave it so, instead of $-\infty$.
# What happens to the loss on 1, 4 and 8 ranks? Then, with $-\infty$, let each rank subtract its *own* maximum
# first, and correct its sum by $e^{m_i - m}$. What if a rank has nothing but padding, as with 9 words?


# %%
def total_from_own_maxima(comm, E):
    group = tpsim.Group(comm)
    E_i, _, real = cut(comm.rank, comm.size, E)
    Z = X @ E_i.T
    Z[:, real:] = -np.inf
    own_max = Z.max(axis=1)
    m = group.all_reduce(own_max, "max")
    with np.errstate(invalid="ignore"):
        return group.all_reduce(np.exp(Z - own_max[:, None]).sum(axis=1) * np.exp(own_max - m))


for ranks in (1, 4, 8):
    zeros, masked = (tpsim.run(loss, ranks, pads)[0][0].mean() for pads in (0.0, -np.inf))
    print(f"{ranks} ranks, {padded(V, ranks)} rows: loss {zeros:.4f} with pads of 0, {masked:.4f} with −∞")
    assert (zeros > masked + 0.01) == (padded(V, ranks) > V)

ten, nine = (tpsim.run(total_from_own_maxima, t, E[:words])[0] for words in (10, 9))
print("sums by own maxima, 10 words:", ten.round(2), " 9 words:", nine)
assert np.isfinite(ten).all()
assert np.isnan(nine).all()

# %% [markdown]
# **Answer 2.** Each pad adds $e^{0 - m}$ to the sum: words that nobody can say get probability, and the loss
# depends on $t$. A vocabulary that $t$ divides hides it. With own maxima a rank of pads computes
# $-\infty - (-\infty)$, which is not a number, and the sum hands it to everyone. Take the maximum over all
# ranks first, as `loss` does: it is finite, and $e^{-\infty} = 0$.
#
# ## By hand: backward
#
# With $p = \mathrm{softmax}(z)$ and one loss a token,
#
# $$\frac{\partial L}{\partial z_k} = p_k - [k = y]$$
#
# A rank has the $p_k$ of its own words from before, so nothing is sent. Only $\bar X = \sum_i \bar Z_i E_i$
# is a sum over ranks, by f.


# %%
def backward(comm):
    E_i, first, real = cut(comm.rank, comm.size)
    _, dZ = loss(comm)
    mine, column = own(targets, first, real)
    dZ[mine, column[mine]] -= 1
    return tpsim.Group(comm).all_reduce(dZ @ E_i), dZ.T @ X  # [tokens, h], [V/t, h]


def numerical(matrix, loss, step=1e-5):
    gradient = np.zeros_like(matrix)
    for place in np.ndindex(matrix.shape):
        shift = np.zeros_like(matrix)
        shift[place] = step
        gradient[place] = (loss(matrix + shift) - loss(matrix - shift)) / (2 * step)
    return gradient


found = tpsim.run(backward, t)
dX, dE = found[0][0], np.concatenate([dE_i for _, dE_i in found])
np.testing.assert_allclose(dX, numerical(X, lambda X: one_device(X, E).sum()), atol=1e-8)
np.testing.assert_allclose(dE[:V], numerical(E, lambda E: one_device(X, E).sum()), atol=1e-8)
assert not dE[V:].any()  # padding gets no gradient

# %% [markdown]
# ## The same in tpsim
#
# `VocabParallelEmbedding`, `LMHead` and `VocabParallelCrossEntropy`. Here one $E$ serves at both ends (it is
# **tied**, as in GPT-2), so its gradient is the sum of both.

# %%
from tpsim import nn


def ends(comm):
    group = tpsim.Group(comm)
    embedding = nn.VocabParallelEmbedding(V, h, group, dtype=np.float64)
    head = nn.LMHead(V, h, group, weight=embedding.weight)
    cross_entropy = nn.VocabParallelCrossEntropy(V, group)
    embedding.load({"weight": E})
    with tpsim.Trace() as trace:
        vectors = embedding.forward(tokens[None])  # [batch, tokens, h]
        losses = cross_entropy.forward(head.forward(X[None]), targets[None])
        dx = head.backward(cross_entropy.backward(np.ones_like(losses)))
        embedding.backward(np.ones_like(vectors))
    calls = [(e.phase, e.operation, e.shape) for e in trace.collectives]
    return (vectors[0], losses[0], dx[0], embedding.weight.grad), calls


by_layers = tpsim.run(ends, t)
print(*by_layers[0][1], sep="\n")
assert len(by_layers[0][1]) == 1 + 3 + 1
uses = np.bincount(tokens, minlength=padded(V, t))[:, None]  # what ones add up to, row by row
for rank, ((vectors, losses, dx, dweight), _) in enumerate(by_layers):
    np.testing.assert_array_equal(vectors, E[tokens])
    np.testing.assert_allclose(losses, one_device(X, E), rtol=1e-12)
    np.testing.assert_allclose(dx, dX, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dweight, np.split(dE + uses, t)[rank], rtol=1e-12, atol=1e-14)

# %% [markdown]
# ## Asked for real: is that the same cross-entropy?
#
# Asked in [Megatron-LM #20](https://github.com/NVIDIA/Megatron-LM/issues/20). In
# [#445](https://github.com/NVIDIA/Megatron-LM/issues/445) it differs from PyTorch's by 1%, and the suspicion
# is that each rank sees only $V/t$ words. You have seen that it is the same to 12 digits, from the same
# logits. It isn't if the model gathers its logits, and the loss doesn't know
# ([#7452](https://github.com/NVIDIA/Megatron-LM/issues/7452)). Then every rank has every word:


# %%
def loss_of_gathered(comm):
    group = tpsim.Group(comm)
    Z = group.all_gather(X @ np.split(E, comm.size)[comm.rank].T, axis=1)  # [tokens, V] on every rank
    m = group.all_reduce(Z.max(axis=1), "max")
    total = group.all_reduce(np.exp(Z - m[:, None]).sum(axis=1))
    here = comm.rank == 0  # "the first V words are mine", says rank 0, and the others find none
    return np.log(total) - group.all_reduce(here * (Z[range(len(Z)), targets] - m))


for ranks in (1, 2, 5):
    too_much = tpsim.run(loss_of_gathered, ranks)[0] - one_device(X, E)
    print(f"{ranks} ranks: too much by {too_much.round(4)}; log {ranks} is {np.log(ranks):.4f}")
    np.testing.assert_allclose(too_much, np.log(ranks), atol=1e-12)

# %% [markdown]
# Every exponential is counted $t$ times, so the loss is too large by $\log t$. It still falls while training.
#
# ## Asked for real: why does label smoothing depend on the ranks?
#
# **Label smoothing** wants a probability of $1 - \alpha$ for the target, and $\alpha / (K - 1)$ for each
# other of $K$ words (Szegedy et al. 2016, "Rethinking the Inception architecture", section 7, where $\alpha$
# is shared out among all $K$). With $\sigma = \alpha K / (K - 1)$ the loss is
#
# $$L = \log \sum_k e^{z_k - m} - (1 - \sigma)\,(z_y - m) - \frac{\sigma}{K} \sum_k (z_k - m)$$
#
# with one more sum over all words. Megatron-LM took $K$ and the mean over words from the logits at hand
# ([#737](https://github.com/NVIDIA/Megatron-LM/issues/737) in 2024,
# [#7464](https://github.com/NVIDIA/Megatron-LM/issues/7464) in 2026).
#
# **Predict 3.** Each rank takes its own logits for all there are. On 1, 2 and 5 ranks: is the loss right? Is
# it the same on all ranks?

# %%
alpha = 0.1
wanted = np.where(np.arange(V) == targets[:, None], 1 - alpha, alpha / (V - 1))  # [tokens, V]
log_p = X @ E.T - np.log(np.exp(X @ E.T).sum(axis=1, keepdims=True))
right = -(wanted * log_p).sum(axis=1)


def smoothed(comm, K_and_sum_over_all_ranks):
    group = tpsim.Group(comm)
    Z = X @ np.split(E, comm.size)[comm.rank].T
    Z -= group.all_reduce(Z.max(axis=1), "max")[:, None]
    mine, column = own(targets, comm.rank * Z.shape[1], Z.shape[1])
    total = group.all_reduce(np.exp(Z).sum(axis=1))
    at_target = group.all_reduce(np.where(mine, Z[range(len(Z)), column], 0))
    K, over_words = Z.shape[1], Z.sum(axis=1)
    if K_and_sum_over_all_ranks:
        K, over_words = V, group.all_reduce(over_words)
    sigma = alpha * K / (K - 1)
    return np.log(total) - (1 - sigma) * at_target - sigma / K * over_words


print("first token's loss, rank by rank")
for ranks in (1, 2, 5):
    good, bad = tpsim.run(smoothed, ranks, True), tpsim.run(smoothed, ranks, False)
    print(f"{ranks} ranks: all words {good[0][0]:.3f}; own words", *[f"{rank[0]:.3f}" for rank in bad])
    for rank_loss in good:
        np.testing.assert_allclose(rank_loss, right, rtol=1e-12)
    assert np.allclose(bad, right) == (ranks == 1)
    assert np.allclose(bad, bad[0]) == (ranks == 1)


def by_layer(comm):
    cross_entropy = nn.VocabParallelCrossEntropy(V, tpsim.Group(comm), label_smoothing=alpha)
    return cross_entropy.forward(X[None] @ np.split(E, comm.size)[comm.rank].T, targets[None])[0]


np.testing.assert_allclose(tpsim.run(by_layer, 5)[0], right, rtol=1e-12)

# %% [markdown]
# **Answer 3.** On one rank it is right. On more, each rank smooths towards its own words, with a weight of
# its own, and the ranks' losses differ. $K$ is the *global* number of words, without padding, and the sum
# goes over all of them: a fourth number a token.
#
# ## To take along
#
# - $E$ is cut by rows. Looking up is an all-reduce of one row and zeros. Logits are a column cut.
# - The loss needs three numbers a token from each rank, and its backward none. Logits are never gathered.
# - Padding has logits of $-\infty$, and the maximum comes first, over all ranks.
# - Whatever the loss takes from the vocabulary (maximum, sums, $K$) is taken from all of it, without padding.
#
# Next: [chapter 7](07_sequence_parallelism.py) cuts what every rank still has whole: norms, additions, and
# what they keep for backward.
