# %% [markdown]
# # 9 · What it costs, and why t stops at 8
#
# *18 minutes. You need: chapters 2, 3 and 7.*
#
# With $t$ ranks each computes $1/t$, and sends nearly as much as ever. So somewhere more ranks stop helping.
# To say where, we need seconds: of a GPU, of the links inside a machine, of the network between machines.
# First with a formula that fits on a napkin, then with tpsim's cost model, which was fitted to measurements.
#
# Our example is one block of Llama-3 8B in training, forward and backward, with one sequence of 8192
# positions.

# %%
import numpy as np

import tpsim
from tpsim.cost.hardware import load
from tpsim.models import find

llama, s = find("llama3-8b"), 8192
h, q, kv = llama.hidden, llama.heads * llama.head_size, llama.kv_heads * llama.head_size
weights = 2 * h * q + 2 * h * kv + 3 * h * llama.ffn  # of a block: q, output; k, v; gate, up, down
scores = 2 * s * s * q  # multiplications in the attention's two products
flops = 3 * 2 * (weights * s + scores)  # forward, and twice that in backward
n = s * h * 2  # bytes of what is all-reduced

h200, ethernet = load("h200"), load("h100-ethernet")
print(f"a block: {weights / 1e6:.0f} million weights, {flops / 1e12:.1f} TFLOP")
print(f"4 all-reduces of {n / 1e6:.0f} MB")
print(f"an H200 by its data sheet: {h200.peak_flops['bfloat16'] / 1e12:.0f} TFLOP a second")
for hardware in (h200, ethernet):
    links = hardware.collective
    print(
        f"{hardware.name}: a ring inside a node of {hardware.node} reaches {links.bandwidth / 1e9:.0f} GB/s;",
        f"the network has {links.network / 1e9} GB/s a device",
    )

# %% [markdown]
# ## By hand: the time of a block
#
# Compute is shared by $t$ ranks. Large matrix products reach about 65 % of the data sheet's peak $P$:
#
# $$T_\text{compute} = \frac{F}{0.65\,P\,t}$$
#
# Each of the 4 all-reduces is a ring (chapter 2):
#
# $$T_\text{send} = 4\left(2(t-1)\,\alpha + 2\,\frac{t-1}{t}\,\frac{n}{\text{bandwidth}}\right)$$
#
# Inside a node of 8, NVLink carries it. Over more nodes the ring passes their edges, where the 8 network
# ports of a node together carry what NVLink carries inside. The slower of the two sets the pace.


# %%
def by_hand(t, hardware=h200, node=8):
    compute = flops / (0.65 * hardware.peak_flops["bfloat16"] * t)
    links = hardware.collective
    edge = np.inf if t <= node else node * links.network
    alpha, bandwidth = links.protocols["Simple"].ring_hop, min(links.bandwidth, edge)
    return compute, 4 * (2 * (t - 1) * alpha + 2 * (t - 1) / t * n / bandwidth)


print("ranks  compute    send     sum")
for t in (1, 2, 4, 8):
    compute, send = by_hand(t)
    print(f"{t:5}  {1e3 * compute:4.1f} ms  {1e3 * send:4.1f} ms  {1e3 * (compute + send):4.1f} ms")

# %% [markdown]
# **Predict 1.** Suppose that NVLink went on for ever, at the same bandwidth. At how many ranks would sending
# take as long as computing? From where on would more ranks be *slower*?

# %%
endless = {t: by_hand(t, node=64) for t in (1, 2, 4, 8, 16, 32, 64)}
for t, (compute, send) in endless.items():
    print(f"{t:5}  {1e3 * compute:4.1f} ms  {1e3 * send:4.1f} ms  {1e3 * (compute + send):4.1f} ms")

assert endless[8][0] > 2 * endless[8][1]
assert endless[16][0] < endless[16][1]
assert min(endless, key=lambda t: sum(endless[t])) == 32
assert sum(endless[8]) < 1.4 * sum(endless[16])

# %% [markdown]
# **Answer 1.** Already at 16. Doubling from 8 to 16 ranks makes the block less than 1.4 times as fast, and
# from 64 on it is slower than on 32: then the $2(t-1)$ latencies grow, and nothing else falls. So even
# without any edge, 16 devices in one group would be badly used. (The profile called `h200` comes close to
# this: 8 ports of 50 GB/s make 400 GB/s at a node's edge. With the Ethernet of the other it is a quarter.)
#
# ## By hand: send while you compute
#
# In backward, a layer makes two products that don't need each other: $\bar X = \bar Z A^\top$, which must be
# all-reduced, and $\bar A = X^\top \bar Z$, which must not. So begin the all-reduce, and compute $\bar A$
# while it is under way. The time is the *larger* of the two, not their sum:
#
# $$T = T_{\bar X} + \max(T_\text{send},\, T_{\bar A})$$

# %%
rng = np.random.default_rng(9)
X, A, dZ = rng.standard_normal((6, 8)), rng.standard_normal((8, 16)), rng.standard_normal((6, 16))


def column_backward(comm, overlap):
    group = tpsim.Group(comm)
    A_i, dZ_i = (np.split(a, comm.size, axis=1)[comm.rank] for a in (A, dZ))
    if overlap:
        under_way = group.iall_reduce(dZ_i @ A_i.T)  # begins, and does not wait
        dA_i = X.T @ dZ_i
        dX = under_way.wait()
    else:
        dX = group.all_reduce(dZ_i @ A_i.T)
        dA_i = X.T @ dZ_i
    return dX, dA_i


for one, other in zip(tpsim.run(column_backward, 4, False), tpsim.run(column_backward, 4, True), strict=True):
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])

# %% [markdown]
# ## The same in tpsim
#
# `dry_block` runs the real block on shapes, and records every product and every message. Are our counts
# right?

# %%
from tpsim.studies.dry_run import Plan, dry_block

for t in (1, 2, 8):
    trace = dry_block(Plan(config=llama, tp=t, seq=s))
    sent = sum(event.bytes_sent for event in trace.collectives)
    np.testing.assert_allclose(t * sum(kernel.matmul_flops for kernel in trace.kernels), flops)
    np.testing.assert_allclose(sent, 4 * 2 * (t - 1) / t * n)

# %% [markdown]
# To the last FLOP and byte. `costs` prices all of a model's step: each product by its shape (small ones reach
# less than 65 %), each kernel that memory bounds, each collective by the algorithm that NCCL would take, and
# which of these wait for which. Its numbers are a model's, not a measurement: `tpsim validate` shows how far
# from published ones they are.

# %%
from dataclasses import replace

from tpsim.studies.costs import costs

plan = Plan(config=llama, seq=s)
tried = {"h200": (1, 2, 4, 8, 16), "h100-ethernet": (1, 2, 4, 8, 16), "pcie": (1, 2, 4, 8)}
rows = {
    name: {t: costs(replace(plan, tp=t), load(name), microbatches=8) for t in some}
    for name, some in tried.items()
}

print("ranks  block: by hand  by costs      of a step waiting for messages")
for t in (1, 2, 4, 8, 16):
    found = rows["h200"][t]
    napkin, block = sum(by_hand(t)), sum(found.block.values())
    print(
        f"{t:5}  {1e3 * napkin:11.1f} ms  {1e3 * block:5.1f} ms  {100 * found.exposed / found.step:19.0f} %"
    )
    assert napkin < block < (1.2 if t <= 8 else 1.5) * napkin
assert not rows["h200"][1].fits

# %% [markdown]
# The napkin is good to a fifth up to 8 ranks, and too kind beyond. Now for other machines. (The model and its
# optimizer do not fit on one device; here we only ask for time.)

# %%
from tpsim.plots.picture import save
from tpsim.plots.style import line, look, new_figure, plain

figure = new_figure(width=12.0, height=4.8)
left, right = figure.subplots(1, 2)
ranks = [1, 2, 4, 8, 16, 32]
compute, send = (1e3 * np.array(times) for times in zip(*(by_hand(t, ethernet) for t in ranks), strict=True))
left.bar(range(6), compute, 0.65, label="compute", **look(0))
left.bar(range(6), send, 0.65, bottom=compute, label="send", **look(2))
plain(left, "one block by hand: NVLink up to 8, then Ethernet", "ms")
left.set_xticks(range(6), ranks)
left.set_yticks(range(0, 25, 5))
left.set_ylim(0, 24)
labels = ("NVLink, InfiniBand (H200)", "NVLink, Ethernet (H100)", "PCIe (RTX 4090)")
right.plot(ranks[:5], ranks[:5], color="black", linewidth=1, linestyle=":", label="ideal")
for place, (label, found) in enumerate(zip(labels, rows.values(), strict=True)):
    right.plot(list(found), [found[1].step / row.step for row in found.values()], label=label, **line(place))
right.axvspan(8 * 2**0.5, 18, color="#eeeeee", zorder=0)
right.text(17, 1.05, "two nodes of 8", ha="right", fontsize=9, style="italic")
right.set_xscale("log", base=2)
right.set_yscale("log", base=2)
right.set_xticks(ranks[:5], ranks[:5])
right.set_yticks(ranks[:5], ranks[:5])
right.set_xlim(0.95, 18)
plain(right, "a whole step by tpsim's cost model", "times as fast as on 1 rank")
for axes in (left, right):
    axes.set_xlabel("ranks")
    axes.legend(frameon=False, loc="upper left" if axes is right else "upper right")
save(figure, "09_why_8")

# %% [markdown]
# **Predict 2.** "Can I set the tp size > 8?" ([OpenRLHF
# #758](https://github.com/OpenRLHF/OpenRLHF/issues/758)). You have 16 devices, in two nodes. Make one group
# of 16, or two groups of 8, each with sequences of its own, that sum their gradients once a step (data
# parallelism, chapter 10). How many times as many tokens a second do the two groups train?

# %%
gains = {}
for name in ("h200", "h100-ethernet"):
    one_group = rows[name][16]
    two_groups = costs(replace(plan, tp=8, dp=2), load(name), microbatches=8)
    gains[name] = two_groups.tokens_per_second / one_group.tokens_per_second
    print(
        f"{name:13}  one group of 16: {one_group.tokens_per_second / 1e3:4.0f} k tokens/s;",
        f"two groups of 8: {two_groups.tokens_per_second / 1e3:4.0f} k tokens/s: {gains[name]:.1f} times",
    )
assert 1.4 < gains["h200"] < 2 < gains["h100-ethernet"]
assert rows["h100-ethernet"][16].step > rows["h100-ethernet"][8].step
assert 1 < rows["h200"][8].step / rows["h200"][16].step < 1.3

# %% [markdown]
# **Answer 2.** You can; "it's not recommended", as the thread says. With Ethernet, 16 ranks are *slower*
# than 8, so the two groups train more than twice as much. With the fastest networks 16 are a little faster
# than 8, and two groups still win clearly. What a group of 8 sends in each of its layers stays on NVLink;
# only gradients go over the network, once a step. Narayanan et al. (2021) measured
# this (section 5.4.1), and made a rule of it (section 3.2): tensor parallelism up to the devices of a node,
# something else across nodes.
#
# ## What can be hidden
#
# `overlap="dw"` is the trick from above, in layers. `overlap="decomposed"` cuts a product and its collective
# into chunks, and sends one chunk while the next is computed (Wang et al. 2023, section 3).
#
# **Predict 3.** A block has collectives in forward and in backward. Which of them can hide behind $\bar A$?
# About what part of the waiting goes, with each of the two tricks?

# %%
from tpsim.plots import timeline
from tpsim.plots.timeline import waiting
from tpsim.studies import figures

shown = figures.timeline(find("llama3-70b"), h200)


def waits(spans):
    """Milliseconds of waiting in forward, and in backward."""
    turn = min(span["start"] for span in spans if span["phase"] == "backward")
    idle = waiting(spans)
    return tuple(
        1e3 * sum(b - a for a, b in idle if (a >= turn) == is_backward) for is_backward in (False, True)
    )


for way, spans in shown["lanes"].items():
    print(f"{way:17} waits {waits(spans)[0]:.2f} ms in forward, {waits(spans)[1]:.2f} ms in backward")
blocking, dw, decomposed = (waits(spans) for spans in shown["lanes"].values())
np.testing.assert_allclose(dw[0], blocking[0])
assert 0.6 < sum(dw) / sum(blocking) < 0.75
assert sum(decomposed) < 0.2 * sum(blocking)
save(timeline(**shown), "09_timeline")

# %% [markdown]
# **Answer 3.** Only backward's: in forward there is one product, and it needs, or makes, just what is sent.
# And not the all-gather of g, which both of backward's products wait for. So a third of the waiting goes.
# Cutting products up hides forward's messages as well, and most of all waiting goes, at the price of smaller
# products, which run less well. None of it makes $t$ = 16 good: behind a product of a sixteenth there is
# less room to hide.
#
# ## Asked for real: two cards are slower than one. Do I need NVLink?
#
# "When I set tensor_parallel_size to 2, why is the inference so much slower than it is for a single card?"
# "NVLink is all you need" ([vllm #732](https://github.com/vllm-project/vllm/issues/732)). In training we
# have just seen it: 4 RTX 4090 over PCIe are about twice as fast as one, where 4 H200 are more than three
# times. But *inference*, one token after the other, all-reduces one position: 8 KB. Let us see what NVLink
# does for that, and for a small model.

# %%
from tpsim.cost.work import Collective
from tpsim.studies.serve import decode_step

for what, nbytes in (("training", n), ("one token", 2 * h)):
    work = Collective("all_reduce", nbytes, ranks=2)
    fast, slow = (load(name).seconds(work, graph=True) for name in ("h200", "pcie"))
    print(f"{nbytes / 1024:6.0f} KiB ({what}): NVLink {1e6 * fast:4.0f} µs, PCIe {1e6 * slow:5.0f} µs")
    assert 20 < slow / fast < 25 if what == "training" else slow / fast < 1.5


def tokens_a_second(model, name, host, t):
    return decode_step(find(model), t, 1, 512, load(name), host=host).tokens_per_second  # 1 user, 512 tokens


gain = {}
for case in (
    ("llama3-8b", "h200", "graph"),
    ("llama3-8b", "pcie", "graph"),
    ("gpt2", "h200", "graph"),
    ("llama3-8b", "h200", "eager"),
):
    gain[case] = tokens_a_second(*case, 2) / tokens_a_second(*case, 1)
    print(f"{case[0]:9} on {case[1]}, {case[2]}: 2 ranks make {gain[case]:.2f} times as many tokens as 1")

assert gain["llama3-8b", "pcie", "graph"] > gain["llama3-8b", "h200", "graph"] > 1.2
assert gain["gpt2", "h200", "graph"] < 1
assert gain["llama3-8b", "h200", "eager"] < 1
assert rows["pcie"][1].step / rows["pcie"][4].step < 2.1 < 3 < rows["h200"][1].step / rows["h200"][4].step

# %% [markdown]
# For training, yes: there NVLink is some twenty times as fast. For one token, nearly all of the time is
# latency, and NVLink has hardly less of it. Llama-3 8B gains from a second card even over PCIe, since each
# reads half of the weights. GPT-2 loses even over NVLink: its kernels were too short to be halved, and the
# all-reduces come on top. A maintainer says it so: "the cost of inter-GPU communication outweighs the
# parallelisation of the compute for smaller models"
# ([#689](https://github.com/vllm-project/vllm/issues/689)). And the last line: if the *host* issues each
# kernel by itself ("eager", without a CUDA graph), a fast card waits for its host, which has still more to
# issue with two. So first find out what you wait for. Chapter 11 is about serving.
#
# ## To take along
#
# - A napkin does: FLOPs over $0.65\,P\,t$, and $4\,(2(t-1)\alpha + 2\frac{t-1}{t}\,n\beta)$ a block.
# - Compute halves with each doubling, sending does not. On NVLink they meet between 8 and 16.
# - Across a node's edge bandwidth falls, or at best stays. There data parallelism uses the devices better.
# - Overlap hides backward's messages behind weight gradients, and forward's only if products are cut up.
# - Long messages pay for bandwidth, short ones for latency: ask which yours are.
#
# Next: [chapter 10](10_tp_or_fsdp.py) compares with the other way to share a model.
