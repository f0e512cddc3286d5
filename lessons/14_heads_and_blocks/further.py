# %% [markdown]
# # 14 Heads, neurons, blocks: going further
#
# Choosing one after the other; neighbours; what a network without attention knows; why
# the first MLP carries so much; the neurons that fire, and whether that saves time; the
# width; the calls of a step; other networks.

# %%
from itertools import combinations

import numpy as np
import torch

from utils import baselines, data, measure, scores, studies, surgery, text, training
from utils.generation import one_blas_thread
from utils.lab import check, claim, figures, finish

draw = figures("14_heads_and_blocks")
texts, gpt, blocks = text.load(), baselines.baseline("gpt"), range(6)
few, example = texts.validation[:8], texts.validation.images[:1]
batches = data.sample_batches(texts.train, count=16, batch_size=2)
before = training.losses(gpt, few)  # [windows, pieces]


def rise(network):
    """How much the loss rises on eight windows of validation text, nats a piece."""
    return (training.losses(network, few) - before).mean().item()


def gone(parts):
    """The loss rise without these blocks, by number."""
    names = [f"blocks.{part}" for part in parts]
    return rise(surgery.remove_blocks(gpt, example, names)) if names else 0.0


# %% [markdown]
# ## One after the other
#
# The lab's ranking asks what each block costs alone. All sets of three can be tried, 20
# of them; of 36 heads there are nine billion sets of eighteen. Between the two lies the
# *greedy* way: take the part that costs least, then ask again what each of the others
# costs on top.
#
# ### Exercise: greedy
#
# <details><summary>Hint 1</summary>A list of those that are gone grows by one part in
# each round.</details>
# <details><summary>Hint 2</summary>In a round, for each part that is left:
# <code>cost([*gone, part])</code>.</details>
# <details><summary>Hint 3</summary><code>gone.append(min(left, key=lambda part:
# cost([*gone, part])))</code></details>


# %%
def greedy(cost, parts, count):
    """`count` of the parts, one after the other: each time the one that costs least on
    top of those chosen before. `cost(list of parts)` is what leaving them out costs."""
    ...


# %%
greedy = check(greedy)

# %% [markdown]
# Yours goes to work on the six blocks.

# %%
alone = [gone([b]) for b in blocks]
ranked = sorted(blocks, key=lambda b: alone[b])[:3]
chosen = greedy(gone, list(blocks), 3)
found = {"ranked": gone(ranked), "greedy": gone(chosen)}
print(f"ranked {sorted(ranked)}: {found['ranked']:.3f}; greedy", end=" ")
print(f"{sorted(chosen)}: {found['greedy']:.3f} nats")
share = found["greedy"] / found["ranked"]
claim("Greedy's three blocks over the ranking's", share, at_most=0.95)

# %% [markdown]
# Greedy needs fifteen looks instead of six. With heads it needs hundreds; that is
# recorded (`study.py` in the lesson's folder): it chose on four windows, and 48 others
# judged.


# %%
[run] = studies.runs("text_truth", network="gpt")
scored = studies.runs("text_parts", network="gpt")  # three draws of calibration
greedily = run["heads_greedy"][1] / run["heads_truth"][1]  # without 18 heads
names = ("heads_gate", "heads_gate_by_block")
plain, divided = (np.mean([each[name][1] for each in scored]) for name in names)

# %% tags=["figure:greedy"]
draw.greedy((9, 18, 22, 27), run, scored)
claim("18 heads gone: greedy over one by one", greedily, at_most=0.9)
claim("18 heads gone: gates divided over plain", divided / plain, at_most=0.9)

# %% [markdown]
# Greedy sees what is gone already: that pays, for blocks and for heads. The paper's own
# way with gates pays, too: Michel and others divide the gates of a block by their norm,
# and then no block gives nearly all of its heads. The table at the end shows the other
# networks, where there is less to gain.
#
# ## Neighbours
#
# Why do the costs of blocks not add up? For each pair without the first block: what it
# costs beyond the sum of both.

# %%
beyond = {
    pair: gone(pair) - sum(alone[b] for b in pair)
    for pair in combinations(blocks[1:], 2)
}
near = [cost for (a, b), cost in beyond.items() if b == a + 1]
far = [cost for (a, b), cost in beyond.items() if b > a + 1]
for name, costs in {"neighbours": near, "others": far}.items():
    print(f"{name}: {', '.join(f'{cost:.3f}' for cost in costs)}")
claim("Neighbours cost this much beyond their sum, nats", np.mean(near), at_least=0.03)
claim("Others, of that", np.mean(far) / np.mean(near), at_most=0.6)

# %% [markdown]
# Beyond their sum two neighbours cost much more than two blocks apart from each other.
# Perhaps a block stands in for the one beside it; what exactly it takes over, we did
# not look at.
#
# ## Without attention
#
# A network without attention knows one piece and its place. So does a table of counted
# pairs: how often did each piece follow each other one in the training text?

# %%
pieces = texts.train.pieces
pairs = torch.zeros(1024, 1024).index_put(
    (pieces[:-1], pieces[1:]), torch.ones(len(pieces) - 1), accumulate=True
)
whole = pairs.sum(0) / pairs.sum()  # how often each piece occurs at all
table = (pairs + 20 * whole) / (pairs.sum(1, keepdim=True) + 20)
counted = -table[few.images, few.labels].log().mean().item()
names = [f"blocks.{b}.attention" for b in blocks]
blind = training.losses(surgery.remove_blocks(gpt, example, names), few)
print(f"dense {before.mean():.3f}, no attention {blind.mean():.3f}", end=", ")
print(f"counted pairs {counted:.3f} nats a piece")
claim(
    "No attention: worse than counted pairs, nats", blind.mean() - counted, at_least=0
)

# %% [markdown]
# Is it worse everywhere alike? Inside a word the next piece depends on how the word
# began.

# %%
vocabulary = text.vocabulary().pieces
begins = torch.tensor([piece[0].isalpha() for piece in vocabulary])
ends = torch.tensor([piece[-1].isalpha() for piece in vocabulary])
inside = begins[few.labels] & ends[few.images]  # a word goes on: " un" + "s"
rises = [(blind - before)[where].mean().item() for where in (inside, ~inside)]
claim(
    "Inside a word it loses more than elsewhere, times",
    rises[0] / rises[1],
    at_least=1.1,
)

# %% [markdown]
# With attention cut out of it, the network is a poor table of pairs, worse than
# counting; it was not trained to be one. Inside a word more is lost than elsewhere: the
# pieces of a word have to be joined.
#
# ## Why the first MLP?
#
# The lab found that the first MLP works as a second embedding. Why did training not put
# that into the first one? Two conjectures: the embedding starts small, so that whatever
# the first MLP adds outweighs it; and it is tied to the output layer, which wants
# something else from it. Recorded: six short trainings, an epoch each. The embeddings of
# pieces and of places start as in the shipped network, or 25 times as large. A norm
# stands in front of all that reads them, so at the start that changes only how much they
# weigh in the stream. The output layer is tied to the embedding, or has a weight of its
# own, which starts small always.

# %%
short = studies.runs("text_starts")


def of(entry, times, tied):
    """An entry of the short trainings of this kind, by seed."""
    alike = [run for run in short if (run["times"], run["tied"]) == (times, tied)]
    return [run[entry] for run in alike]


[shipped], small, large = (
    of("mlp_alone", *kind) for kind in ((1, True), (1, False), (25, False))
)
claim("As shipped: first MLP over the next", shipped[0] / max(shipped[1:]), at_least=20)
least = min(each[0] / max(each[1:]) for each in small)
claim("Not tied: first MLP over the next, at least", least, at_least=20)
share = np.mean([each[0] for each in small]) / shipped[0]
claim("Not tied: it costs, of what it costs tied", share, between=(0.6, 0.95))
share = max(each[0] for each in large) / min(each[0] for each in small)
claim("Not tied: it costs, started large, of started small", share, at_most=0.5)
losses = [of("validation_loss", *kind) for kind in ((25, False), (1, False))]
apart = np.mean(losses[0]) - np.mean(losses[1])
claim("Not tied: their losses differ, in nats", apart, between=(-0.1, 0.1))
over = np.mean(losses[1]) - counted
claim("After an epoch: worse than counted pairs by, nats", over, between=(-0.15, 0.15))
[less] = np.subtract(of("validation_loss", 25, True), of("validation_loss", 1, True))
claim("Tied and started large: learned less, nats", less, at_least=0.5)

# %% tags=["figure:starts"]
draw.starts(short)

# %% [markdown]
# The first conjecture holds here. With an output layer of its own and an embedding that
# starts large, the network learns as well, and its first MLP costs a fraction of what it
# costs otherwise, in both seeds; of the MLPs it still costs most. The second holds in
# part at most: untied, the first MLP costs somewhat less, and many times as much as any
# other. (One tied training, two untied ones.) Tied *and* started large says nothing of
# either. That network has hardly learned; its output layer starts as large as its
# embedding.
#
# After an epoch a network is about as good as counted pairs: it knows which piece follows
# which. The shipped one trained for twenty. Whether a large start would change it in the
# end, we did not try.
#
# ## Neurons: two ways to the same score
#
# The unit score `taylor` of lab 04 sums w\*g over the row of `up`. A gate on the
# neuron's output, as for heads, has the sum of w\*g over the column of `down` as its
# gradient. For ReLU without a bias both are one number.

# %%
up = {f"blocks.{b}.mlp.up.weight": gpt.blocks[b].mlp for b in blocks}
rows = scores.score("taylor", gpt, batches, units=True)
columns = dict.fromkeys(up, 0.0)
for windows, labels in batches:
    gpt.zero_grad()
    logits = gpt(windows).flatten(0, 1)
    torch.nn.functional.cross_entropy(logits, labels.flatten()).backward()
    for name, mlp in up.items():
        products = mlp.down.weight * mlp.down.weight.grad
        columns[name] += products.sum(0).abs().detach() / len(batches)
gpt.zero_grad(set_to_none=True)
gap = max(((rows[n] - columns[n]).abs() / rows[n].max()).max() for n in up)
claim("Rows of up and columns of down differ by, of the largest", gap, at_most=1e-4)

# %% [markdown]
# Scale the row by c and the neuron's output scales by c, as if its column did.
# <!-- why: counted -->
#
# Where do neurons matter? Half of the first block's, or half of all others, by this
# score:


# %%
def thinned(names):
    """The loss rise without half of the neurons of these layers."""
    keep = {n: rows[n].argsort().argsort() >= 384 for n in names}
    return rise(surgery.remove_units(gpt, example, keep))


# %%
first, others = thinned([*up][:1]), thinned([*up][1:])
claim(
    "Half of the first block's, over half of all others", first / others, at_least=1.2
)

# %% [markdown]
# "The same share everywhere" is a choice, and not a good one.
#
# ## The neurons that fire
#
# ReLU makes most neurons silent, other ones for each piece. What if a step computed
# only those that fire? Large models with ReLU do that with a second network that
# foresees them (Liu et al. 2023). Here we let it be foreseen without an error, the best
# case, and time one MLP step of all six blocks in NumPy: everything; `up` whole, then
# only the columns of `down` that fire; and only the rows and columns that fire.

# %% tags=["figure:firing"]
passed = draw.streams(gpt, few.images)
fires = draw.firing_shares(gpt, passed)
draw.firing(fires.mean(1), fires.flatten().tolist())

# %% tags=["nbval-ignore-output"]
steps = draw.neuron_steps(gpt, passed, piece=200)
with one_blas_thread():
    race = measure.latency(steps, example, rounds=25, shortest=2e-3)
for timing in race.values():
    print(timing)
foreseen = race["foreseen"]
claim(
    "Foreseen, the MLPs of a step take less time, times",
    (foreseen.speedup, *foreseen.speedup_quartiles),
    at_least=1.5,
)

# %% [markdown]
# Foreseen without an error, a step of the MLPs takes much less time, and the loss stays
# as it is. To look only after `up` was computed gains less: `up` is half of the work.
# <!-- why: counted --> What it takes to foresee is not in these times. And reading many
# pieces at once gains nothing of this, as each piece has its own neurons.
#
# ## The width
#
# The stream's 192 channels are written and read by every part, so a channel leaves
# everywhere at once. A score: how large are the normalised activations of a channel, as
# in Minitron (Muralidharan et al. 2024)? The control is random.


# %%
def narrowed(score, count):
    """The loss rise without the channels of lowest score."""
    keep = {"embedding.weight": score.argsort().argsort() >= count}
    return rise(surgery.remove_units(gpt, example, keep))


# %%
with torch.no_grad():
    normal = [block.norm1(stream) for block, stream in zip(gpt.blocks, passed)]
    large = torch.stack([each.abs().mean((0, 1)) for each in normal]).mean(0)  # [192]
generator = torch.Generator().manual_seed(0)
width = {"activation": [narrowed(large, count) for count in (8, 16, 32)]}
for draw_ in range(3):
    chance = torch.rand(192, generator=generator)
    width[f"random {draw_}"] = [narrowed(chance, count) for count in (8, 16, 32)]
for name, costs in width.items():
    print(f"{name}: {', '.join(f'{cost:.2f}' for cost in costs)} nats")
chance = np.mean([width[f"random {draw_}"][2] for draw_ in range(3)])
share = width["activation"][2] / chance
claim("32 channels gone: activation over the draws' mean", share, at_most=0.95)

# %% [markdown]
# With 8 channels gone the score and chance are alike, with 32 the score is better. And
# this cut is the only one here that is not exact: LayerNorm takes its mean and its
# variance over the channels that are left, so removing some is not the same as setting
# them to zero. The course's `zero_units` refuses it.
#
# ## The calls of a step
#
# Why is the shallow network the faster writer? Count what torch calls to read one piece.

# %%
half = {n: s.argsort().argsort() >= 384 for n, s in rows.items() if n in up}
gates = scores.head_score("gate", gpt, batches)
half |= surgery.head_masks(
    gpt, {n: g.argsort().argsort() >= 3 for n, g in gates.items()}
)
thin = surgery.remove_units(gpt, example, half)
shallow = surgery.remove_blocks(gpt, example, [f"blocks.{b}" for b in chosen])

# %%
calls = {
    name: draw.calls(network, example[:, :1])
    for name, network in {"dense": gpt, "thin": thin, "shallow": shallow}.items()
}
print(calls, measure.parameters(thin), measure.parameters(shallow))
claim(
    "Half of heads and neurons: calls less", calls["dense"] - calls["thin"], at_most=0
)
claim(
    "3 of 6 blocks: share of the calls", calls["shallow"] / calls["dense"], at_most=0.6
)

# %% [markdown]
# The two have the same size to a thousand parameters. The thin one makes every call of
# the dense one, with smaller tensors.
#
# ## In production
#
# The course's requirements hold no library that removes heads: torch-pruning, against
# which the course tests its surgery, is for developers only. So check a cut as here,
# with nothing but a hook: what zeroing in place gives, removing must give.

# %%
gone_heads = {"blocks.1.attention": [0, 4], "blocks.4.attention": [2]}
keep = {
    n: torch.tensor([h not in each for h in range(6)]) for n, each in gone_heads.items()
}
cut = surgery.remove_units(gpt, example, surgery.head_masks(gpt, keep))
hooks = [
    gpt.get_submodule(f"{name}.out").register_forward_pre_hook(
        lambda _, inputs, each=each: inputs[0] * each.repeat_interleave(32)
    )
    for name, each in keep.items()
]

# %%
with torch.no_grad():
    zeroed = gpt(few.images)
    for hook in hooks:
        hook.remove()
    claim(
        "Cut and zeroed differ by", (cut(few.images) - zeroed).abs().max(), at_most=1e-3
    )

# %% [markdown]
# ## Other networks
#
# Recorded: the shipped network beside what trained for a fifth of the time, from its
# first weights or from others. The last one has gated neurons (Shazeer 2020), as
# today's large models have: what a neuron puts out is multiplied by what a second layer
# says of the same input. A gate has weights, too, so it has two thirds as many neurons.

# %%
shares = {}
for run in studies.runs("text_truth"):
    chance = np.mean([each[1] for each in run["neurons_random"]])
    shares[run["network"]] = run["neurons_weights"][1] / chance
gated = shares.pop("gpt_gated")
claim(
    "Half of the neurons, weights over random: ReLU", max(shares.values()), at_most=0.7
)
claim("Half of the neurons, weights over random: gated", gated, between=(0.85, 1.1))
draw.table(studies.runs("text_truth"), studies.runs("text_parts"))

# %% [markdown]
# Read it by rows. What holds in all columns may be a rule for networks of this kind;
# what differs between networks of one training time is chance. The first column trained
# five times as long as the others: nearly every cut costs it more. A result on a
# network that trained little may mislead.
#
# And the last column: w\*g chooses gated neurons better than chance, as it does
# everywhere. The norms of their weights do not, though for ReLU neurons they do on each
# network here. One gated network is few; it is enough to say that norms are no rule.

# %%
finish()

# %% [markdown]
# **Back to** [the lab](14_heads_and_blocks.ipynb).
