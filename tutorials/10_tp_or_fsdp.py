# %% [markdown]
# # 10 · Tensor parallelism or FSDP
#
# *20 minutes. You need: chapters 3 and 8; chapter 9 for the last picture.*
#
# There are other ways to share the work of training. In **data parallelism** (DP) every rank has the whole
# model, runs its own part of the batch, and gradients are summed. **FSDP**, or ZeRO-3, does the same, but a
# rank *stores* only a part of each weight: it gathers a layer's weights just before it needs them, and
# drops them after. Tensor parallelism (TP) stores a part too, and never sees the rest.
#
# So two of the three cut the weights. What do they send, what do they keep, and which should you take?

# %%
import numpy as np

import tpsim
from tpsim.functional import gelu, gelu_grad

t, blocks, tokens, h, f = 4, 3, 16, 8, 32
rng = np.random.default_rng(10)
weights = [(rng.standard_normal((h, f)) / 4, rng.standard_normal((f, h)) / 8) for _ in range(blocks)]
X = rng.standard_normal((tokens, h))
target = rng.standard_normal((tokens, h))

# %% [markdown]
# ## By hand: one loop for all three
#
# Our model is a few MLPs with residuals, $x \leftarrow x + \mathrm{GELU}(x A)\,B$, and its loss is
# $\frac12 \sum (x - \text{target})^2$. The loop leaves three things open: `get` brings a block's weights,
# `give` takes their gradients, and `border` is what happens where chapter 3 had f and g.


# %%
def train(x, target, get, give, border):
    kept = []  # for backward
    for block in range(blocks):
        A, B = get(block)
        Z = x @ A
        kept.append((x, Z))
        x = x + border(gelu(Z) @ B)  # g
    dx = x - target
    for block in reversed(range(blocks)):
        A, B = get(block)
        x, Z = kept[block]
        dZ = gelu_grad(Z, dx @ B.T)
        give(block, x.T @ dZ, gelu(Z).T @ dx)
        dx = dx + border(dZ @ A.T)  # f
    return sum(x.nbytes + Z.nbytes for x, Z in kept)


def alone(x):
    return x


expected = {}
train(X, target, weights.__getitem__, lambda block, *both: expected.update({block: both}), alone)

# %% [markdown]
# One device has all weights, and nothing to send. Now the three ways. Under DP and FSDP a rank has its
# rows of $X$, under TP all of them. The loss is a sum over tokens, so gradients of the parts add up.


# %%
def own(group, matrix, axis=0):
    """Return this rank's part of a matrix."""
    return np.split(matrix, group.size, axis)[group.rank]


def data_parallel(group, x, y):
    def give(block, dA, dB):
        grads[block] = group.all_reduce(dA), group.all_reduce(dB)

    grads = {}
    kept = train(own(group, x), own(group, y), weights.__getitem__, give, alone)
    return grads, weights, kept


def fully_sharded(group, x, y):
    def get(block):
        return [group.all_gather(part) for part in shards[block]]  # whole, until the block is through

    def give(block, dA, dB):
        grads[block] = group.reduce_scatter(dA), group.reduce_scatter(dB)

    grads, shards = {}, [[own(group, W) for W in pair] for pair in weights]
    kept = train(own(group, x), own(group, y), get, give, alone)
    return grads, shards, kept


def tensor_parallel(group, x, y):
    def give(block, dA, dB):
        grads[block] = dA, dB

    grads, cut = {}, [(own(group, A, axis=1), own(group, B)) for A, B in weights]
    kept = train(x, y, cut.__getitem__, give, group.all_reduce)
    return grads, cut, kept


# %% [markdown]
# All three must have the gradients of one device: DP whole, FSDP and TP a part on each rank. What they
# send, hold and keep, we count.

# %%
ways = {"DP": data_parallel, "FSDP": fully_sharded, "TP": tensor_parallel}
joins = {"DP": None, "FSDP": (0, 0), "TP": (1, 0)}  # along which axes the ranks' parts of A and B lie


def main(comm, way, x, y):
    group, train_so = tpsim.Group(comm), ways[way]
    with tpsim.Trace() as trace:
        grads, held, kept = train_so(group, x, y)
    sent = sum(event.bytes_sent for event in trace.collectives)
    return grads, sent, sum(A.nbytes + B.nbytes for A, B in held), kept


counts = {}
for way in ways:
    found = tpsim.run(main, t, way, X, target)
    for block, both in expected.items():
        for place, whole in enumerate(both):
            parts = [grads[block][place] for grads, *_ in found]
            mine = parts[0] if joins[way] is None else np.concatenate(parts, joins[way][place])
            np.testing.assert_allclose(mine, whole, rtol=1e-10, atol=1e-12)
    counts[way] = found[0][1:]
    sent, held, kept = counts[way]
    print(f"{way:5} sends {sent:6,} bytes, holds {held:6,} of weights, keeps {kept:6,} for backward")

# %% [markdown]
# In formulas, with $P$ bytes of weights and $N = \text{tokens} \cdot h$ numbers of $e$ bytes in the stream:
#
# $$\text{DP: } 2\,\frac{t-1}{t}P \qquad \text{FSDP: } 3\,\frac{t-1}{t}P \qquad
# \text{TP: } 4\,\frac{t-1}{t}\,N e \text{ a block}$$
#
# DP all-reduces the gradients. FSDP gathers the weights, gathers them again in backward, and
# reduce-scatters gradients: 3 halves of an all-reduce instead of 2, which is the 1.5 of the ZeRO paper
# (Rajbhandari et al. 2020, section 7.2.2). TP has two all-reduces here for each MLP. A transformer's block
# has four. (TP keeps more for backward: a part of $Z$, but $x$ for all tokens. Chapter 7 cuts that too.)

# %%
P = sum(A.nbytes + B.nbytes for A, B in weights)
N = tokens * h
part = (t - 1) / t
assert [sent for sent, *_ in counts.values()] == [2 * part * P, 3 * part * P, 4 * part * N * 8 * blocks]
assert [held for _, held, _ in counts.values()] == [P, P / t, P / t]

# %% [markdown]
# **Predict 1.** Twice as many tokens in the batch. Which of the three send more? And suppose that the batch
# is too large for the memory, so that every way runs it as two microbatches, one after the other. Whose
# bytes grow now? (DP can add up gradients and all-reduce once; can FSDP?)

# %%
twice = np.concatenate([X, X]), np.concatenate([target, target])
for way in ways:
    one, two = (tpsim.run(main, t, way, *data)[0][1] for data in ((X, target), twice))
    print(f"{way:5} a batch twice as large: {two / one:.0f} times the bytes")
    assert two == one * {"DP": 1, "FSDP": 1, "TP": 2}[way]


def microbatches(comm):
    group = tpsim.Group(comm)
    with tpsim.Trace() as trace:
        for x, y in zip(np.split(twice[0], 2), np.split(twice[1], 2), strict=True):
            fully_sharded(group, x, y)
    return sum(event.bytes_sent for event in trace.collectives)


assert tpsim.run(microbatches, t)[0] == 2 * counts["FSDP"][0]

# %% [markdown]
# **Answer 1.** Only TP: its activations travel, and there are more of them. Under DP and FSDP weights
# travel, and they don't know how many tokens there are. With microbatches it is the same for TP (the bytes
# belong to tokens), and DP still sends once a step. But FSDP has dropped the weights, so it gathers them
# again *for every microbatch*.
#
# ## When gathering beats summing
#
# **Predict 2.** Both cut the weights by $t$. Set $3P$ equal to what TP sends, and solve for the tokens of
# the batch (all ranks together), here and for a GPT block with $12h^2$ weights and four all-reduces. Does
# $t$ matter? Does the number of blocks?

# %%
batch = [4, 8, 16, 32, 48, 64, 128, 256]  # tokens of all ranks together
sent = {way: [] for way in ways}
for n in batch:
    data = rng.standard_normal((2, n, h))
    for way in ways:
        sent[way].append(tpsim.run(main, t, way, *data)[0][1])

here = 3 * 2 * h * f // (4 * h)  # 3 P = 4 N e a block
print(f"equal at {here} tokens here")
assert here == 3 * f // 2 == 48
assert sent["TP"][batch.index(here)] == sent["FSDP"][batch.index(here)]
for hidden in (4096, 16384):
    print(f"hidden {hidden:6,}: equal at {3 * 12 * hidden**2 / (8 * hidden):9,.0f} tokens")
    assert 3 * 12 * hidden**2 / (8 * hidden) == 4.5 * hidden

# %% [markdown]
# **Answer 2.** Equal at $\frac32 f$ tokens here, and at $\frac{3 \cdot 12 h^2}{8h} = 4.5\,h$ for a GPT
# block. Neither $t$ nor the number of blocks matters. With fewer tokens than that in the batch (of those
# $t$ ranks) TP sends less, with more of them FSDP does. The wider the model, the longer TP wins.

# %%
from tpsim.plots.picture import save
from tpsim.plots.style import line, new_figure, plain

figure = new_figure(height=4.6)
axes = figure.subplots()
for place, (way, nbytes) in enumerate(sent.items()):
    axes.plot(batch, np.array(nbytes) / P, label=way, **line(place))
axes.axvline(here, color="black", linewidth=1.0, linestyle=":")
axes.annotate(
    f"{here} tokens: FSDP and TP\nsend the same",
    (here, 3 * part),
    (24, -80),
    textcoords="offset points",
    fontsize=9,
    arrowprops={"arrowstyle": "->"},
)
axes.set_xscale("log", base=2)
axes.set_yscale("log", base=2)
axes.set_xticks(batch, [str(n) for n in batch])
axes.minorticks_off()
axes.set_yticks([0.125, 0.5, 1, 2, 4, 8], ["⅛", "½", "1", "2", "4", "8"])
axes.set_xlabel("tokens of the batch, all ranks together")
plain(axes, f"what a rank of {t} sends in forward and backward", "times the weights")
axes.legend(frameon=False, loc="upper left")
save(figure, "10_bytes_sent")

# %% [markdown]
# Bytes are not time. FSDP knows which weights come next, and can fetch them while it computes. TP must
# wait: the next product needs the sum. So FSDP wins earlier than its bytes say. The picture prices Llama-3
# 8B on a node of eight H200s: tpsim runs the layers on shapes (chapter 12 says how). "Tokens a device has
# at a time" is the batch divided by 8. (Bytes are equal later than at $4.5\,h$, for Llama's blocks have
# $13\,h^2$ weights, and gradients travel as 4-byte numbers.) At the right end TP does not fit: without
# sequence parallelism, each of its ranks keeps the norms' inputs for the whole batch.

# %%
from tpsim.cost.hardware import load
from tpsim.models import find
from tpsim.plots import fsdp
from tpsim.plots.fsdp import crossings
from tpsim.studies.costs import costs
from tpsim.studies.dry_run import Plan
from tpsim.studies.estimate import share

llama, h200, ranks = find("llama3-8b"), load("h200"), 8
lines = {f"TP on {ranks}": [], f"FSDP over {ranks}": []}
for n in (256, 1024, 4096, 16384):
    seq = min(n, 8192)
    plan = Plan(config=llama, seq=seq, batch=ranks * n // seq)
    for curve, way in zip(lines.values(), ("tp", "fsdp"), strict=True):
        row = costs(share(plan, ranks, way), h200)
        curve.append({"tokens": n, "rate": row.tokens_per_second_per_device, "fits": row.fits, "row": row})

((crossing, _),) = crossings(*lines.values())
tp, sharded = (curve[2]["row"] for curve in lines.values())
equal = 4096 * sharded.sent_bytes / tp.sent_bytes  # TP's bytes grow with the tokens, FSDP's don't
print(f"equally fast at {crossing:,.0f} tokens a device, equal bytes at {equal:,.0f}")
print(f"at 4,096 tokens TP waits for {tp.exposed / tp.step:.0%} of its step, FSDP for ", end="")
print(f"{sharded.exposed / sharded.step:.0%}")
assert crossing < 0.75 * equal
assert tp.exposed / tp.step > 3 * sharded.exposed / sharded.step
assert [p["fits"] for curve in lines.values() for p in curve] == [True, True, True, False] + 4 * [True]
assert lines["TP on 8"][0]["rate"] > 3 * lines["FSDP over 8"][0]["rate"]
save(fsdp(lines, "Llama-3 8B on 8 H200s"), "10_tp_or_fsdp")

# %% [markdown]
# ## The same in tpsim
#
# `GradientBuckets` is DP's all-reduce, in buckets that begin while backward goes on. `FullySharded` wraps a
# whole model: it makes every block a unit, flattens its weights into one array so that it can be cut into
# equal parts, and begins the next unit's gather early (Zhao et al. 2023, "PyTorch FSDP", sections 3.2.1 and
# 3.3). By hand, we let each rank run the model on its sequence, and all-reduce.

# %%
from tpsim.models import LanguageModel
from tpsim.train import FullySharded
from tpsim.train.buckets import GradientBuckets

tiny = find("tiny-gpt")
text = rng.integers(0, tiny.vocab, (t, 9))  # a sequence a rank


def run_own(model, comm):
    mine = text[comm.rank : comm.rank + 1]
    loss = model.forward(mine[:, :-1], mine[:, 1:])
    return np.full_like(loss, 1 / (comm.size * loss.size))  # a mean over all ranks' tokens


def three_times(comm):
    group = tpsim.Group(comm)
    by_hand, in_buckets = LanguageModel(tiny, dtype=np.float64), LanguageModel(tiny, dtype=np.float64)
    by_hand.backward(run_own(by_hand, comm))
    summed = {name: group.all_reduce(p.grad) for name, p in by_hand.parameters().items()}

    buckets = GradientBuckets(in_buckets, group)
    dloss = run_own(in_buckets, comm)
    with buckets.filling(), tpsim.Trace() as dp:
        in_buckets.backward(dloss)
        buckets.finish()

    sharded = FullySharded(LanguageModel(tiny, dtype=np.float64), group)
    with tpsim.Trace() as trace:
        sharded.backward(run_own(sharded, comm))
    for name, whole in summed.items():
        np.testing.assert_allclose(in_buckets.parameters()[name].grad, whole, rtol=1e-10, atol=1e-14)
        shard = sharded.parameters()[name]  # knows its place in the whole
        np.testing.assert_allclose(shard.grad, shard.take(whole), rtol=1e-10, atol=1e-14)
    size = sum(whole.nbytes for whole in summed.values())
    return [sum(event.bytes_sent for event in one.collectives) / size for one in (dp, trace)]


sent = tpsim.run(three_times, t)
print("DP and FSDP send this many times the weights:", [round(times, 3) for times in sent[0]])
np.testing.assert_allclose(sent[0], [2 * part, 3 * part], rtol=0.01)

# %% [markdown]
# ## Asked for real: isn't FSDP a kind of model parallelism?
#
# "Isn't FSDP already a form of model parallelism?", somebody asks in [EasyLM
# #42](https://github.com/young-geng/EasyLM/issues/42). And in [torchtitan
# #276](https://github.com/pytorch/torchtitan/issues/276) somebody has two devices of 32 GB and a model that
# needs 40 GB. ZeRO-3 runs out of memory with a batch of *one*. Would TP help?
#
# **Predict 3.** Llama-3 70B, one sequence of 8,192 tokens a rank, on 8, 64 and 512 devices of 141 GB. FSDP
# cuts weights, gradients and optimizer by that number. What is left on 512? And what does TP on 8 of them
# do?


# %%
def memory(**plan):
    return costs(Plan(config=find("llama3-70b"), seq=8192, **plan), h200).memory


def row(label, found):
    state = found.weights + found.gradients + found.optimizer
    columns = state, found.activations, found.gathered, found.total
    print(f"{label:24}" + "".join(f"{nbytes / 1e9:13.1f}" for nbytes in columns))


print(f"{'GB':24}" + "".join(f"{name:>13}" for name in ("state", "activations", "gathered", "total")))
over = {n: memory(dp=n, fsdp=True) for n in (8, 64, 512)}
for n, found in over.items():
    row(f"FSDP over {n}", found)
mixed = memory(tp=8, dp=64, fsdp=True, sequence_parallel=True)
row("TP 8 + SP, FSDP over 64", mixed)

assert len({found.activations for found in over.values()}) == 1
assert over[512].total > h200.memory_bytes > mixed.total
assert 7 < over[512].activations / mixed.activations < 9

# %% [markdown]
# **Answer 3.** FSDP's activations are those of one whole sequence, on however many ranks, and its gathered
# weights those of a whole unit or two. FSDP cuts what is *stored*. What a rank computes with is whole, as
# in data parallelism. TP cuts what is computed: eight ranks share one sequence, with an eighth of its
# activations (chapter 7). So yes, TP would have helped; recomputing activations helps as well.
#
# That is the difference between the two, and also how they fail. FSDP wants at least a sequence for each
# rank, room for one, and room for a whole unit. TP wants fast links, and no more ranks than heads. Large
# models are trained with both: TP inside a node, FSDP or DP across.
#
# ## To take along
#
# - DP sends 2, FSDP 3 times the weights, whatever the batch; TP sends activations, whatever the weights.
# - Equal bytes at $4.5\,h$ tokens for a GPT block. In time FSDP wins earlier, because its gathers can hide.
# - FSDP gathers again for every microbatch, and it leaves activations whole. TP cuts them.
#
# Next: [chapter 11](11_serving.py) asks the same model for text, one token at a time.
