# %% [markdown]
# # 2 · Collectives by hand
#
# *18 minutes. You need: chapter 1.*
#
# A row cut leaves each rank with one term of a sum, and every rank needs the sum. That is an **all-reduce**,
# and tensor parallelism spends nearly all its communication on it. Here you build one out of messages from
# rank to rank, count its bytes, and see when bytes are not what matters.
#
# Rank $r$ has a vector $x_r$ of $N$ numbers. Afterwards each rank has $\sum_r x_r$.

# %%
import numpy as np

import tpsim

t, N = 4, 8
rng = np.random.default_rng(2)
inputs = rng.standard_normal((t, N))  # row r is what rank r has
expected = inputs.sum(axis=0)

# %% [markdown]
# ## By hand: everything to rank 0
#
# The first idea: all send to rank 0, which adds up, and sends everyone the sum.


# %%
def star_all_reduce(group, x):
    if group.rank > 0:
        group.send(x, to=0)
        return group.recv(x, source=0)  # the first argument says of what shape and dtype
    total = x.copy()
    for other in range(1, group.size):
        total += group.recv(x, source=other)
    for other in range(1, group.size):
        group.send(total, to=other)
    return total


def main(comm, all_reduce):
    group = tpsim.Group(comm)
    with tpsim.Trace() as trace:
        result = all_reduce(group, inputs[comm.rank])
    return result, sum(event.bytes_sent for event in trace.collectives)


for rank, (result, nbytes) in enumerate(tpsim.run(main, t, star_all_reduce)):
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    print(f"rank {rank} sends {nbytes} bytes")

# %% [markdown]
# It is right, and slow: rank 0 sends three times as much as the others, and while it does, they wait.
#
# ## By hand: the ring
#
# Cut each vector into $t$ chunks, and think of the ranks as a circle. In each step, every rank sends *one
# chunk* to its right neighbour, and gets one from the left. All links are busy at once.
#
# 1. **Reduce-scatter**, $t - 1$ steps: add the chunk that arrives to your own, and send that sum on in the
#   next step. A chunk goes once around and collects a term at each stop. At the end each rank has one chunk
#   of the whole sum.
# 2. **All-gather**, $t - 1$ steps: the finished chunks go once around, and each rank keeps a copy.


# %%
def pass_on(group, chunk):
    """Send a chunk to the right, and return the one that comes from the left."""
    sending = group.isend(chunk, to=(group.rank + 1) % group.size)  # begins, and does not wait
    arrived = group.recv(chunk, source=(group.rank - 1) % group.size)
    sending.wait()
    return arrived


def ring_all_reduce(group, x, history=None):
    t, r = group.size, group.rank
    chunks = np.split(x.copy(), t)  # [N/t] each
    for step in range(t - 1):  # reduce-scatter
        record(history, chunks, sending=(r - step) % t)
        chunks[(r - step - 1) % t] += pass_on(group, chunks[(r - step) % t])
    for step in range(t - 1):  # all-gather
        record(history, chunks, sending=(r + 1 - step) % t)
        chunks[(r - step) % t][:] = pass_on(group, chunks[(r + 1 - step) % t])
    record(history, chunks, sending=None)
    return np.concatenate(chunks)


def record(history, chunks, sending):
    """For the picture."""
    if history is not None:
        history.append(([chunk[0] for chunk in chunks], sending))


for rank, (result, nbytes) in enumerate(tpsim.run(main, t, ring_all_reduce)):
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    print(f"rank {rank} sends {nbytes} bytes")
    assert nbytes == 2 * (t - 1) * N // t * 8

# %% [markdown]
# Why all that with `isend`? If every rank began with a `send` that waits until its neighbour receives, all
# would wait for ever. Try it in [demos/deadlock.py](demos/deadlock.py).
#
# To *see* the sums, give rank $r$ the number $2^r$. A partial sum then tells which ranks are in it:
# $6 = 2 + 4$ is ranks 1 and 2. Arrows are what is sent next, always to the rank below (from the last to the
# first).


# %%
from tpsim.plots.picture import save
from tpsim.plots.ring import ring


def watched(comm):
    history = []
    ring_all_reduce(tpsim.Group(comm), np.full(t, 2.0**comm.rank), history)
    return history


histories = tpsim.run(watched, t)
print("rank 0's chunks, step by step:", *[[int(c) for c in chunks] for chunks, _ in histories[0]], sep="\n  ")
assert histories[0][-1][0] == [15, 15, 15, 15]  # 1 + 2 + 4 + 8

steps = range(2 * (t - 1) + 1)
states = [
    [[{r for r in range(t) if int(value) >> r & 1} for value in history[step][0]] for history in histories]
    for step in steps
]
sent = [[history[step][1] for history in histories] for step in steps[:-1]]
titles = [
    "start",
    *[f"after step {s}: added" for s in (1, 2, 3)],
    *[f"after step {s}: passed on" for s in (4, 5, 6)],
]
save(ring(states, sent, titles), "02_ring_steps")

# %% [markdown]
# ## Bytes
#
# Each rank sends $2(t-1)$ chunks of $N/t$ elements. With $e$ bytes an element:
#
# $$\text{all-reduce: } 2\,\frac{t-1}{t}\,N e \qquad
# \text{reduce-scatter, all-gather: } \frac{t-1}{t}\,N e$$
#
# **Predict 1.** All-reduce a vector on $t = 2, 4, 16, 64$ ranks. How many times the vector does the busiest
# rank send in the star, and how many times in the ring?


# %%
def busiest(ranks, all_reduce):
    vector = np.ones(6400)

    def main(comm):
        group = tpsim.Group(comm)
        with tpsim.Trace() as trace:
            all_reduce(group, vector)
        return sum(event.bytes_sent for event in trace.collectives) / vector.nbytes

    return max(tpsim.run(main, ranks))


print("ranks    star    ring")
for ranks in (2, 4, 16, 64):
    in_star, in_ring = busiest(ranks, star_all_reduce), busiest(ranks, ring_all_reduce)
    print(f"{ranks:5}  {in_star:6.2f}  {in_ring:6.2f}")
    assert in_star == ranks - 1
    assert in_ring == 2 * (ranks - 1) / ranks

# %% [markdown]
# **Answer 1.** In the star, $t-1$ times: 63 times the vector on 64 ranks. In the ring, less than twice,
# however many ranks there are. No algorithm can do with less (Patarasuk and Yuan, 2009). That is why
# bandwidth hardly limits the size of a ring.
#
# ## Latency against bandwidth
#
# A message costs a fixed time $\alpha$, the **latency**, and a time $\beta$ for each byte, one over the
# **bandwidth**. An all-reduce of $n$ bytes takes
#
# $$T_\text{ring} = 2(t-1)\,\alpha + 2\,\frac{t-1}{t}\,n\,\beta \qquad
# T_\text{doubling} = \log_2 t\,(\alpha + n\,\beta)$$
#
# **Recursive doubling** lets pairs of ranks exchange *everything*: first neighbours, then ranks two apart,
# then four. After $\log_2 t$ rounds each rank has it all. tpsim has both, and `messages=True` makes it really
# send each message.
#
# **Predict 2.** On 8 ranks, with $\alpha$ = 10 µs and 50 GB/s: which is faster for 1 KB, and which for 10 MB?

# %%
alpha, beta = 10e-6, 1 / 50e9  # seconds a message, seconds a byte


def counted(comm, algorithm, elements):
    group = tpsim.Group(comm, algorithm, messages=True)
    with tpsim.Trace() as trace:
        group.all_reduce(np.ones(elements, np.float32))
    (event,) = trace.collectives
    return event.messages, event.bytes_sent


def seconds(algorithm, nbytes):
    messages, bytes_sent = tpsim.run(counted, 8, algorithm, nbytes // 4)[0]
    return messages * alpha + bytes_sent * beta


algorithms = ("ring", "recursive_doubling", "rabenseifner")
times = {nbytes: {name: seconds(name, nbytes) for name in algorithms} for nbytes in (1_024, 10_240_000)}
for nbytes, found in times.items():
    print(f"{nbytes:>10,} bytes: " + ", ".join(f"{name} {1e6 * s:,.0f} µs" for name, s in found.items()))
assert times[1_024]["ring"] > 4.5 * times[1_024]["recursive_doubling"]
assert times[10_240_000]["ring"] < times[10_240_000]["recursive_doubling"]

# %% [markdown]
# **Answer 2.** For 1 KB recursive doubling is nearly 5 times as fast: 3 messages against 14, and the bytes
# don't matter. For 10 MB the ring wins, since doubling sends the whole vector three times. Rabenseifner's
# algorithm, a reduce-scatter by halves and an all-gather by doubling, has few messages *and* few bytes; but
# its partners are far apart, where a ring needs links between neighbours only. Libraries pick by size and by
# wiring.
#
# Where do the lines cross? The picture computes the formulas; the dots are the counts from above.

# %%
from tpsim.plots.style import line, new_figure, plain

ranks, n = 8, 2.0 ** np.arange(8, 31)
formulas = {
    "ring": 2 * (ranks - 1) * alpha + 2 * (ranks - 1) / ranks * n * beta,
    "recursive_doubling": np.log2(ranks) * (alpha + n * beta),
    "rabenseifner": 2 * np.log2(ranks) * alpha + 2 * (ranks - 1) / ranks * n * beta,
}
figure = new_figure(height=4.6)
axes = figure.subplots()
for place, (name, curve) in enumerate(formulas.items()):
    look = line(place)
    axes.plot(n, 1e6 * curve, label=name.replace("_", " "), **look | {"marker": ""})
    axes.plot(list(times), [1e6 * found[name] for found in times.values()], **look | {"linestyle": "none"})
axes.set_xscale("log", base=2)
axes.set_yscale("log")
axes.set_xticks([2.0**p for p in (10, 15, 20, 25, 30)], ["1 KiB", "32 KiB", "1 MiB", "32 MiB", "1 GiB"])
axes.set_xlabel("size of the vector")
axes.text(2.0**12, 85, "flat: latency decides", fontsize=9, style="italic")
axes.text(2.0**25, 8e3, "straight: bandwidth decides", fontsize=9, style="italic", ha="right")
plain(axes, "an all-reduce on 8 ranks, at 10 µs a message and 50 GB/s", "µs")
axes.legend(frameon=False, loc="upper left")
save(figure, "02_latency_and_bandwidth")

# %% [markdown]
# ## The same in tpsim
#
# `Group.all_reduce` runs this very ring unless told otherwise, and adds in the same order: the bits are
# equal. The two halves are there by themselves.


# %%
def library(comm):
    group = tpsim.Group(comm)
    x = inputs[comm.rank]
    chunk = group.reduce_scatter(x)  # this rank's [N/t] of the sum
    return ring_all_reduce(group, x), group.all_reduce(x), chunk, group.all_gather(chunk)


for rank, (by_hand, reduced, chunk, gathered) in enumerate(tpsim.run(library, t)):
    np.testing.assert_array_equal(by_hand, reduced)
    np.testing.assert_allclose(chunk, np.split(expected, t)[rank], rtol=1e-12)
    np.testing.assert_allclose(gathered, expected, rtol=1e-12)

# %% [markdown]
# **Predict 3.** Rounding: $(a + b) + c$ and $a + (b + c)$ differ in the last digit. Do all ranks of a ring
# get the same bits? And do 4 ranks and 8 ranks get the same bits for the same sum of 8 vectors?

# %%
vectors = rng.standard_normal((8, 1000)).astype(np.float32)


def total(comm):
    share = np.split(vectors, comm.size)[comm.rank]  # [8/t, 1000]
    own = share[0].copy()
    for more in share[1:]:
        own += more
    return tpsim.Group(comm).all_reduce(own)


sums = {ranks: tpsim.run(total, ranks) for ranks in (1, 4, 8)}
for ranks, results in sums.items():
    assert all(np.array_equal(results[0], other) for other in results)
    differing = int(np.sum(results[0] != sums[1][0]))
    print(f"{ranks} ranks: all alike; {differing} of 1000 entries differ from one rank's")
    assert (differing > 0) == (ranks > 1)
np.testing.assert_allclose(sums[8][0], sums[1][0], atol=1e-5)

# %% [markdown]
# **Answer 3.** All ranks agree: each chunk is added up once, by one chain of ranks, and then copied. But
# another number of ranks means another order, and other last digits. Chapter 5 asks when a difference is more
# than that.
#
# ## Asked for real: how many bytes is that?
#
# The authors of a paper were asked how they counted their traffic
# ([distrifuser #10](https://github.com/mit-han-lab/distrifuser/issues/10)). For a buffer of $s$ 2-byte
# numbers on $n$ ranks they charge an all-gather with $s\,(n-1)\cdot 2$ bytes, and an all-reduce with
# $s\,\frac{n-1}{n}\cdot 2\cdot 2$. One has $/n$ and the other hasn't: is that a mistake? Count.


# %%
def traffic(comm, s):
    group = tpsim.Group(comm, messages=True)
    with tpsim.Trace() as trace:
        group.all_gather(np.ones(s, np.float16))
        group.all_reduce(np.ones(s, np.float16))
    return [event.bytes_sent for event in trace.collectives]


s = 960
for n in (2, 4, 8):
    gathered, reduced = tpsim.run(traffic, n, s)[0]
    print(f"{n} ranks: all-gather {gathered} bytes, all-reduce {reduced} bytes")
    assert gathered == s * (n - 1) * 2
    assert reduced == s * (n - 1) / n * 2 * 2

# %% [markdown]
# Both are right, because $s$ is not the same thing in them: in the all-gather it is what *one rank puts in*,
# and the full vector has $N = n s$ elements; in the all-reduce it is the full vector. Always ask which of the
# two a formula means. tpsim's tables, and these chapters, mean the full one. A frequent error in teaching
# code is an all-reduce of $2(t-1) N e$, $t$ times too much.
#
# ## To take along
#
# - All-reduce = reduce-scatter + all-gather. In a ring each rank sends $2\frac{t-1}{t} N e$ bytes, the least
#   there is.
# - A ring needs $2(t-1)$ messages one after the other. For short vectors latency decides, and others are
#   faster.
# - All ranks get the same bits; another number of ranks gets other ones.
#
# Next: [chapter 3](03_the_mlp.py) joins a column cut and a row cut, so that one all-reduce does for two
# matrices.
