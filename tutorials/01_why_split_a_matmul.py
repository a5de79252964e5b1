# %% [markdown]
# # 1 · Why split a matmul
#
# *12 minutes. You need: Python, NumPy, and what a matrix product is.*
#
# Nearly all of a transformer's weights sit in linear layers, $Y = X A$: a matrix of activations $X$, one row
# a token, times a matrix of weights $A$. The largest models have more weights than any one device can hold.
# So several devices share each matrix. There are two ways to cut $A$, by columns and by rows, and everything
# else in these tutorials is made from the two.
#
# ## What no single device can hold
#
# Llama-3 405B, in numbers that its authors published:

# %%
import numpy as np

import tpsim
from tpsim.cost.hardware import load
from tpsim.models import find

llama = find("llama3-405b")
queries_and_output = 2 * llama.hidden * llama.heads * llama.head_size
keys_and_values = 2 * llama.hidden * llama.kv_heads * llama.head_size
gate_up_down = 3 * llama.hidden * llama.ffn  # the three matrices of its MLP
layer = queries_and_output + keys_and_values + gate_up_down
vocabulary = 2 * llama.hidden * llama.vocab  # embedding, and the output layer
weights = llama.layers * layer + vocabulary
training = 2 + 4 + 4 + 4 + 4  # bytes: the weight, its gradient, Adam's exact copy of it and two averages

print(f"{llama.layers} layers of {layer / 1e9:.2f} billion weights: {weights / 1e9:.0f} billion in all")
print(f"as 2-byte numbers:                 {2 * weights / 1e9:6.0f} GB")
print(f"to train with Adam, {training} bytes each: {training * weights / 1e9:6.0f} GB")
print(f"what one H200 holds:               {load('h200').memory_bytes / 1e9:6.0f} GB")

assert 0.999 < weights / llama.parameter_count() < 1  # all but the norms
assert 2 * weights > 5 * load("h200").memory_bytes

# %% [markdown]
# Six devices could hold the weights if each had a sixth of the *layers*. But a token passes the layers one
# after the other, so for one token five devices would wait while one works. If each takes a part of *every
# matrix*, all of them work on the same token at the same time. That is **tensor parallelism**.
#
# We use matrices small enough to look at: 3 tokens, 8 features in, 8 out, on $t = 4$ devices, which from now
# on are called **ranks**. The numbers are whole, so every sum is exact.

# %%
rng = np.random.default_rng(3)
X = rng.integers(-2, 3, (3, 8)).astype(float)  # [tokens, in]
A = rng.integers(-2, 3, (8, 8)).astype(float)  # [in, out]
Y = X @ A  # [tokens, out]: what we want, from one device
t = 4

# %% [markdown]
# ## By hand: columns
#
# A column of $Y$ needs all of $X$, and one column of $A$:
#
# $$X\,[A_0 \,|\, A_1 \,|\, A_2 \,|\, A_3] = [X A_0 \,|\, X A_1 \,|\, X A_2 \,|\, X A_3]$$
#
# Give rank $i$ the columns $A_i$, and it computes its columns $Y_i = X A_i$ with nobody's help.
#
# `tpsim.run` starts ranks. Each runs the same function, and its communicator `comm` says which rank it is.
# Think of them as machines that share nothing: here each reads the whole $A$ only to cut its part out of it.


# %%
def by_columns(comm):
    mine = np.split(A, t, axis=1)[comm.rank]  # [8, 2]: all that this rank needs to hold of A
    return X @ mine  # [3, 2]


parts = tpsim.run(by_columns, ranks=t)
print("rank 1 has\n", parts[1])
np.testing.assert_array_equal(np.concatenate(parts, axis=1), Y)

# %% [markdown]
# ## By hand: rows
#
# Cut $A$ by rows, and $X$ by columns to match:
#
# $$[X_0 \,|\, X_1 \,|\, X_2 \,|\, X_3] \begin{bmatrix} A_0 \\ A_1 \\ A_2 \\ A_3 \end{bmatrix}
# = X_0 A_0 + X_1 A_1 + X_2 A_2 + X_3 A_3$$
#
# That is the definition of the product: an entry of $Y$ is a sum over the 8 features, here taken two at a
# time. Each rank has *one term of the sum*, as large as all of $Y$. To have $Y$, the ranks must add their
# terms up. The operation that does so, and hands everyone the result, is called **all-reduce**.


# %%
def by_rows(comm):
    mine = np.split(A, t, axis=0)[comm.rank]  # [2, 8]
    x = np.split(X, t, axis=1)[comm.rank]  # [3, 2]
    term = x @ mine  # [3, 8]: as large as Y, and not yet Y
    return term, tpsim.Group(comm).all_reduce(term)


terms, sums = zip(*tpsim.run(by_rows, ranks=t), strict=True)
print("rank 1's term\n", terms[1])
np.testing.assert_array_equal(sum(terms), Y)
for total in sums:
    np.testing.assert_array_equal(total, Y)

# %% [markdown]
# Both cuts in one picture. A colour is a rank; what is grey, every rank has whole.

# %%
from tpsim.plots.picture import save
from tpsim.plots.sharding import Matrix, evenly, sharding

owners = evenly(8, t)
figure = sharding(
    {
        "cut A by columns: each rank makes whole entries of Y, and needs all of X": [
            Matrix("X", X.shape, values=X),
            "·",
            Matrix("A", A.shape, owners, axis=1, values=A),
            "=",
            Matrix("Y", Y.shape, owners, axis=1, values=Y),
        ],
        "cut A by rows: each rank makes one term of all of Y, and the terms must be added up": [
            Matrix("X", X.shape, owners, axis=1, values=X),
            "·",
            Matrix("A", A.shape, owners, axis=0, values=A),
            "=",
            Matrix("X₀A₀", Y.shape, [0] * 8, values=terms[0]),
            "+ … +",
            Matrix("X₃A₃", Y.shape, [3] * 8, values=terms[3]),
        ],
    },
    "two ways to cut Y = X A on 4 ranks",
)
save(figure, "01_columns_and_rows")

# %% [markdown]
# ## What it costs
#
# **Predict 1.** Count the numbers of $X$, $A$ and of its result (before anything is sent) that a rank must
# hold, in each of the two cuts. One device holds 24, 64 and 24. Which of the three become 4 times fewer?


# %%
def held(comm):
    A_columns, A_rows = np.split(A, t, axis=1)[comm.rank], np.split(A, t, axis=0)[comm.rank]
    x = np.split(X, t, axis=1)[comm.rank]
    return {
        "columns": (X.size, A_columns.size, (X @ A_columns).size),
        "rows": (x.size, A_rows.size, (x @ A_rows).size),
    }


for way, numbers in tpsim.run(held, ranks=t)[0].items():
    print(f"{way:8} X {numbers[0]:3}   A {numbers[1]:3}   result {numbers[2]:3}")
assert tpsim.run(held, ranks=t)[0] == {"columns": (24, 16, 6), "rows": (6, 16, 24)}

# %% [markdown]
# **Answer 1.** $A$ always: that is the point. By columns the input stays whole and the result is cut; by rows
# it is the other way round. So the two fit together: what a column cut leaves is just what a row cut wants.
# Chapter 3 builds the MLP on that.
#
# **Predict 2.** Suppose that every rank wants all of $Y$. By columns, the ranks pass their pieces round (an
# **all-gather**); by rows, they add their terms up (an all-reduce). An element takes 8 bytes. Which sends
# more, and by what factor? A `Trace` counts what a rank sends.


# %%
def sent(comm):
    group = tpsim.Group(comm)
    with tpsim.Trace() as trace:
        columns = group.all_gather(X @ np.split(A, t, axis=1)[comm.rank], axis=1)
        rows = group.all_reduce(terms[comm.rank])
    np.testing.assert_array_equal(columns, rows)
    return {event.operation: event.bytes_sent for event in trace.collectives}


counts = tpsim.run(sent, ranks=t)[0]
print(counts)
assert counts["all_gather"] == (t - 1) * Y.nbytes / t == 144
assert counts["all_reduce"] == 2 * counts["all_gather"]

# %% [markdown]
# **Answer 2.** The all-reduce sends twice as much. In the all-gather each rank's quarter of $Y$ must reach
# the three others. In the all-reduce, each quarter of $Y$ is first added up on one rank, and then reaches the
# three others. Chapter 2 does both step by step.
#
# **Predict 3.** More ranks: 1, 2, 4, 8. By columns, a rank's share of the work is $1/t$ of the
# multiplications. Is what it sends to gather $Y$ also $1/t$?


# %%
def cost(comm):
    group = tpsim.Group(comm)
    part = np.split(A, comm.size, axis=1)[comm.rank]
    with tpsim.Trace() as trace:
        group.all_gather(X @ part, axis=1)
    return X.shape[0] * part.size, sum(event.bytes_sent for event in trace.collectives)


print("ranks  multiplications  bytes sent")
for ranks in (1, 2, 4, 8):
    multiplications, bytes_sent = tpsim.run(cost, ranks=ranks)[0]
    print(f"{ranks:5}  {multiplications:15}  {bytes_sent:10}")
    assert multiplications == 192 // ranks
    assert bytes_sent == 192 * (ranks - 1) // ranks

# %% [markdown]
# **Answer 3.** No: it grows, towards all of $Y$. Compute falls as $1/t$, communication does not. So there is
# a number of ranks beyond which more of them don't help. Chapter 9 puts a time on both.
#
# ## The same in tpsim
#
# `ColumnParallelLinear` and `RowParallelLinear` are these two cuts. `load` takes whole tensors, and each rank
# keeps its slice. They run on any number of ranks, and have the bias and the backward pass as well.

# %%
from tpsim.nn import ColumnParallelLinear, RowParallelLinear

b = np.arange(8.0)  # a bias, one number a column of Y


def layers(comm):
    group = tpsim.Group(comm)
    columns = ColumnParallelLinear(8, 8, group, dtype=np.float64)
    rows = RowParallelLinear(8, 8, group, dtype=np.float64)
    for layer in (columns, rows):
        layer.load({"weight": A, "bias": b})
    x = X[None]  # [batch, tokens, in]: layers have a batch axis
    x_part = np.split(x, t, axis=-1)[comm.rank]
    return columns.forward(x)[0], rows.forward(x_part)[0], columns.weight.sharding(), rows.weight.sharding()


results = tpsim.run(layers, ranks=t)
print("weights are cut along", results[0][2], "and", results[0][3])
for rank, (from_columns, from_rows, *_) in enumerate(results):
    np.testing.assert_array_equal(from_columns, parts[rank] + np.split(b, t)[rank])
    np.testing.assert_array_equal(from_rows, sums[rank] + b)

# %% [markdown]
# ## Asked for real: why is my output off by the bias?
#
# The first bug of many who write a row cut, among them the authors of well-known servers
# ([text-generation-inference #1036](https://github.com/huggingface/text-generation-inference/issues/1036)):
# each rank computes $X_i A_i + b$, as its framework's linear layer does, and then all-reduces. In [nano-vllm
# #99](https://github.com/GeeeekExplorer/nano-vllm/issues/99) someone reads `if tp_rank == 0` as the same bug.
# Is it? Let us try all three.


# %%
def bias(comm):
    group = tpsim.Group(comm)
    term = terms[comm.rank]
    return {
        "before, on every rank": group.all_reduce(term + b),
        "before, on rank 0": group.all_reduce(term + b if comm.rank == 0 else term),
        "after": group.all_reduce(term) + b,
    }


off = {way: y - (Y + b) for way, y in tpsim.run(bias, ranks=t)[0].items()}
for way, difference in off.items():
    print(f"{way:22} off by {difference[0]}")
np.testing.assert_array_equal(off["before, on every rank"][0], (t - 1) * b)
assert not off["before, on rank 0"].any()
assert not off["after"].any()

# %% [markdown]
# The sum over ranks counts the bias $t$ times. Added by rank 0 alone it counts once, so the code of nano-vllm
# is right. `RowParallelLinear` adds it after the sum: then every rank does the same, and the bias gets its
# whole gradient on each.
#
# ## To take along
#
# - By columns: whole input, cut result, no communication. By rows: cut input, terms of the result, one
#   all-reduce.
# - Weights and multiplications fall as $1/t$; what is sent does not.
# - In a row cut, whatever is to count once is added after the sum, or by one rank.
#
# Next: [chapter 2](02_collectives_by_hand.py) opens up the all-gather and the all-reduce.
