# %% [markdown]
# # 14 Heads, neurons, blocks
#
# Lab 13 pruned single weights of a network that writes. Their zeros saved no time (lab
# 05). This lab removes what makes tensors smaller: heads, neurons, whole blocks.
# Nothing is retrained; that comes in lab 15.

# %%
import copy
from itertools import combinations, pairwise

import torch

from utils import baselines, data, masks, measure, scores, surgery, text, training
from utils.generation import Writer, noise
from utils.lab import check, claim, decide, figures, finish, predict, progress, quiz

draw = figures("14_heads_and_blocks")
texts, gpt, blocks = text.load(), baselines.baseline("gpt"), range(6)
few, example = texts.validation[:8], texts.validation.images[:1]
batches = data.sample_batches(texts.train, count=16, batch_size=2)


def rise(network):
    """How much the loss rises on eight windows of validation text, nats a piece."""
    return training.losses(network, few).mean().item() - dense


dense = training.losses(gpt, few).mean().item()
print(f"dense: {dense:.3f} nats a piece, {measure.parameters(gpt):,} parameters")

# %% [markdown]
# ## What a block does
#
# The network has six blocks. A line of 192 numbers for each piece of text, the
# *residual stream*, runs through all of them. In each block two parts read a normalised
# copy of the stream and add to it. *Attention* looks at the pieces before. Its six
# *heads* do that independently, with 32 numbers each. The *MLP* looks at each piece by
# itself, with 768 *neurons*.
#
# ![A block reads the stream twice and adds to it; without the block the stream passes.](../lessons/14_heads_and_blocks/figures/stream.svg)
#
# A head is rows of three matrices, `query`, `key` and `value`, and columns of a fourth,
# `out`, which writes to the stream.
#
# ![The middle of three heads leaves: its rows of query, key and value, its columns of out.](../lessons/14_heads_and_blocks/figures/head_leaves.svg)
#
# ### Exercise: cut a head out
#
# <details><summary>Hint 1</summary>The weight of a Linear is [outputs, inputs]. A head
# makes <code>head_width</code> outputs of query, key and value; <code>out</code> takes
# them as inputs.</details>
# <details><summary>Hint 2</summary>Head h has the rows from <code>h * head_width</code>
# on, <code>head_width</code> of them. Make a mask of the rows that stay.</details>
# <details><summary>Hint 3</summary><code>query, key, value, out = weights</code>; then
# <code>keep = torch.arange(len(query)) // head_width != head</code>; then
# <code>query[keep]</code> and <code>out[:, keep]</code>.</details>


# %%
def cut_head(weights, head, head_width):
    """The weights of an attention without one head. `weights`: query, key and value,
    which lose its rows, and out, which loses its columns."""
    ...


# %% [markdown]
# Your cut goes to work on head 3 of block 2. The control multiplies what the head puts
# out by zero, and leaves all tensors as they are. The course's surgery does the same
# cut for many heads at once. The cell ends with a question about all 36 heads.

# %%
cut_head = check(cut_head)
by_hand, name = copy.deepcopy(gpt), "blocks.2.attention"
layers = [
    by_hand.get_submodule(f"{name}.{n}") for n in ("query", "key", "value", "out")
]
for layer, w in zip(layers, cut_head([each.weight.detach() for each in layers], 3, 32)):
    layer.weight = torch.nn.Parameter(w)
removed = surgery.remove_units(
    gpt, example, surgery.head_masks(gpt, {name: torch.arange(6) != 3})
)
with scores.gates(gpt) as gates, torch.no_grad():
    gates[name][3] = 0
    zeroed = gpt(example)
    gaps = [(each(example) - zeroed).abs().max() for each in (by_hand, removed)]
claim("Your cut equals zeroing: logits differ by at most", gaps[0], at_most=1e-3)
claim("The course's cut, too", gaps[1], at_most=1e-3)
question = "The loss may rise by 0.2 nats. How many of the 36 heads can leave?"
guess_heads = predict(question, 0, 36, unit="heads", better="high")

# %% [markdown]
# ## Which heads matter?
#
# The truth is dear but simple: leave each head out once, and measure. Scores are
# cheaper. *Gate*: the gradient of the loss for a number 1 that multiplies what the head
# puts out (Michel et al. 2019). *Output*: the length of what the head adds to the
# stream. *Magnitude*: the size of its weights, `value` times `out`. The control is
# *random*, five times. The heads of lowest score leave, but one stays in each block.

# %%
alone = surgery.head_losses(gpt, [(few.images, few.labels)])
by_score = {"truth, one by one": alone}
for name in ("gate", "output", "magnitude"):
    by_score[name] = scores.head_score(name, gpt, batches)
by_chance = [scores.head_random(gpt, seed=seed) for seed in range(5)]


def rises(score):
    """The loss rise without 9, 13, 18 and 27 heads, those of lowest score."""
    table = torch.stack(list(score.values()))  # [blocks, heads]
    table = table.scatter(1, table.argmax(1, keepdim=True), torch.inf)
    rank, found = table.flatten().argsort().argsort().view_as(table), []
    for count in (9, 13, 18, 27):
        keep = surgery.head_masks(gpt, dict(zip(score, rank >= count)))
        found.append(rise(surgery.remove_units(gpt, example, keep)))
    return found


curves, chance = {n: rises(s) for n, s in by_score.items()}, [*map(rises, by_chance)]
truth = torch.stack(list(alone.values()))
can_leave = max(n for n, r in zip((9, 13, 18, 27), curves["gate"]) if r <= 0.2)
half = [curves["gate"][2], min(draw_[2] for draw_ in chance)]

# %% tags=["figure:heads"]
draw.heads(truth, (9, 13, 18, 27), curves, chance, guess_heads)
guess_heads.compare(can_leave)
claim("The dearest of the 36 heads costs alone, nats", truth.max(), at_most=0.15)
claim("Half gone: gate over the best of five draws", half[0] / half[1], at_most=0.85)

# %% [markdown]
# (Of the four counts tried, with the gate's choice.) The map holds 36 small numbers:
# any one head may leave, for less than a tenth of a nat. Many heads together are
# another matter, and there the choice counts. *Why is no single head needed?* Perhaps
# the others can stand in for it; we did not test that. The gate needs one backward pass
# for each calibration batch, and comes near the truth. All scores are better than
# chance; compare the curves.
#
# ## Attention or MLP?
#
# Some heads may leave. What if all of them do, in every block? Then no piece knows what
# stands before it.

# %%
question = "No attention in any block: by how many nats does the loss rise?"
guess_blind = predict(question, 0, 4, unit="nats")


def gone(*parts):
    """The loss rise without these blocks, or parts of blocks."""
    return rise(surgery.remove_blocks(gpt, example, parts))


def streams(pieces):
    """The stream before the first block and after each: `[n, t, 192]`, seven times."""
    passed = [gpt.embedding(pieces) + gpt.position(torch.arange(pieces.shape[1]))]
    for block in gpt.blocks:
        passed.append(block(passed[-1]))
    return passed


parts = {p: [gone(f"blocks.{b}.{p}") for b in blocks] for p in ("attention", "mlp")}
blind = gone(*(f"blocks.{b}.attention" for b in blocks))
with torch.no_grad():
    passed = streams(few.images)
    back = draw.distances(gpt, passed)  # [blocks, heads]
over_heads, over_attention = blind / truth.sum(), max(parts["mlp"]) / blind

# %% tags=["figure:parts"]
draw.parts(back, parts)
guess_blind.compare(blind)
claim("All attention, over its heads one by one in sum", over_heads, at_least=1.5)
claim("The dearest MLP, over all attention", over_attention, at_least=2)

# %% [markdown]
# All attention costs more than its 36 heads one by one, and still far less than a
# single MLP: the first one. From block 1 on an MLP costs about as much as the attention
# beside it. So "attention is what matters" is not what we see here.
#
# *Why is the first MLP different?* The map on the left is a hint. A head that looked at
# all pieces before it alike would look 64 pieces back on average, in windows of 256.
# The heads of the first block nearly do: they hardly choose. Then the first MLP reads
# little more than the piece itself, and a table could do its work: one vector for each
# of the 1,024 pieces, whatever stands around them. That can be tested.

# %%
first, pieces = gpt.blocks[0], few.images
with torch.no_grad():
    seen = passed[0] + first.attention(first.norm1(passed[0]))
    alone_ = gpt.embedding.weight + gpt.position.weight.mean(0)  # each piece by itself
    table = first.mlp(first.norm2(alone_))  # [1024, 192]
    logits = gpt.head(gpt.norm(gpt.blocks[1:](seen + table[pieces])))
tabled = torch.nn.functional.cross_entropy(logits.flatten(0, 1), few.labels.flatten())
lost = parts["mlp"][0]
claim("A table of 1,024 vectors repairs", 1 - (tabled - dense) / lost, at_least=0.75)
even = torch.arange(256).float().mean() / 2  # half of the way back
claim("First block: looks back, over evenly", back[0].mean() / even, between=(0.8, 1.2))
claim("Block 3: the same", back[3].mean() / even, at_most=0.5)
length = [each.norm(dim=-1).mean() for each in passed[:2]]
claim(
    "Behind the first block the stream is longer, times",
    length[1] / length[0],
    at_least=2,
)

# %% [markdown]
# *Why is it different?* Because it works as a second embedding: a table that sees no
# context does most of what it does. <!-- why: measured: A table of 1,024 vectors
# repairs --> Behind it the stream is a few times as long as the embedding that went in.
# Why did training put this into the MLP? The embedding starts small. The further
# notebook shows short trainings in which it starts large, with an output layer of its
# own: there the first MLP costs a fraction of that. An output layer of its own alone
# takes away a small part.
#
# ## Neurons
#
# A neuron is a row of `up` and a column of `down`. ReLU makes it silent where its sum is
# below zero. Four scores: w\*g (lab 02); the norm of its weights, `up` times `down`;
# its mean activation; and random, five draws. The same fraction leaves every block.

# %%
fires = draw.firing_shares(gpt, passed)  # [blocks, 768]
question = "How many of the 768 neurons of a block fire (are above 0) for a piece?"
guess_fires = predict(question, 0, 768, unit="neurons")
up = {f"blocks.{b}.mlp.up.weight": gpt.blocks[b].mlp for b in blocks}
taylor = scores.score("taylor", gpt, batches, units=True)
by_neuron = {
    "w*g": {n: taylor[n] for n in up},
    "weights, up times down": {
        n: m.up.weight.norm(dim=1) * m.down.weight.norm(dim=0) for n, m in up.items()
    },
    "mean activation": scores.score("activation", gpt, batches, units=True),
    **{f"random {seed}": scores.unit_random(gpt, seed=seed) for seed in range(5)},
}


def thinned(score, fraction, names=up):
    """The loss rise without this fraction of the neurons of these blocks."""
    count = round(768 * fraction)
    keep = {n: score[n].argsort().argsort() >= count for n in names}
    return rise(surgery.remove_units(gpt, example, keep))


neurons = {n: [thinned(s, f) for f in (0.25, 0.5, 0.75)] for n, s in by_neuron.items()}
draws = [neurons.pop(f"random {seed}") for seed in range(5)]
low = min(each[1] for each in draws)
norms, means = (neurons[n][1] for n in ("weights, up times down", "mean activation"))

# %% tags=["figure:neurons"]
draw.neurons((0.25, 0.5, 0.75), neurons, draws)
guess_fires.compare(768 * fires.mean())
claim("Half gone: weights over the best of five draws", norms / low, at_most=0.8)
claim("Half gone: mean activation over the weights' norm", means / norms, at_least=1.2)

# %% [markdown]
# Few neurons fire for a piece: ReLU prunes by itself, another part for each piece (the
# further notebook tries to gain time from that). At half of the neurons the norm of the
# weights beats every draw by far; mean activation hardly beats the luckiest. *Why is
# the mean a poor score?* A neuron that seldom fires may decide much where it does; that
# is a guess, we did not test it. Lab 04 saw the norm fail on another network, so ask
# for the control each time. And the further notebook shows where it hurts: half of the
# first block's neurons cost more than half of all others.
#
# ## Blocks
#
# Truth needs labels and a run for each block. *Block influence* needs neither: how much
# does the block turn the stream (Men et al. 2024)?
#
# ### Exercise: block influence
#
# <details><summary>Hint 1</summary>A cosine is near 1 where two vectors point the same
# way: then the block has changed little.</details>
# <details><summary>Hint 2</summary>The numbers of a piece lie along the last dimension.
# There is one cosine for each piece; take their mean.</details>
# <details><summary>Hint 3</summary><code>torch.cosine_similarity(before, after,
# dim=-1)</code></details>


# %%
def block_influence(before, after):
    """1 minus the cosine between what enters a block and what leaves it, `[n, t,
    width]` each, averaged over all pieces."""
    ...


# %%
block_influence = check(block_influence)
influence = [float(block_influence(a, b)) for a, b in pairwise(passed)]
whole = [gone(f"blocks.{b}") for b in blocks]
for b in blocks:
    print(f"block {b}: influence {influence[b]:.3f}, loss rise {whole[b]:.3f}")
ranks = torch.tensor([influence, whole]).argsort(1).argsort(1).float()
claim("Rank correlation of the two", torch.corrcoef(ranks)[0, 1], at_least=0.7)
cheapest = tuple(sorted(sorted(blocks, key=lambda b: whole[b])[:3]))
total = sum(whole[b] for b in cheapest)
print(f"the three cheapest alone: {cheapest}, in sum {total:.3f} nats")
question = "These three gone together: how many times that sum does the loss rise?"
guess_three = predict(question, 0, 5, unit="times")
threes = {
    three: gone(*(f"blocks.{b}" for b in three)) for three in combinations(blocks, 3)
}
best = min(threes, key=lambda three: threes[three])

# %% tags=["figure:triples"]
draw.triples(whole, threes, cheapest)
guess_three.compare(threes[cheapest] / total)
claim("Cheapest alone: together over the sum", threes[cheapest] / total, at_least=1.3)
claim("Best three over cheapest alone", threes[best] / threes[cheapest], at_most=0.95)

# %% [markdown]
# Influence needs no labels, and ranks the six blocks as the truth does, or nearly so.
# Yet the three cheapest are not the best three: single costs do not add up. *Why not?*
# The further notebook measures it for pairs: two neighbours cost more than their sum,
# two blocks apart from each other hardly do. "Prune the last layers" is a bad rule
# here.
#
# ## What does each buy?
#
# Seven networks write and read in turn. *Writing*, a piece at a time, with what was read
# kept in a cache (`Writer`, NumPy); *reading* 256 pieces at once (torch). Each round
# runs all seven. "Dense, again" is a copy: what it gains is noise.

# %%
question = (
    "Half of the heads and neurons gone, or three blocks: both have 1.57 M parameters."
    " How many times as fast as the first does the second write?"
)
guess_speed = predict(question, 0.2, 4, unit="times")


def best_half(score):
    """Masks of the better half of each layer's units."""
    return {n: s.argsort().argsort() >= len(s) // 2 for n, s in score.items()}


heads = surgery.head_masks(gpt, best_half(by_score["gate"]))
mlps = best_half(by_neuron["w*g"])
variants = {"dense": gpt, "dense, again": copy.deepcopy(gpt)}
variants["90% zeros"] = masks.masked(gpt, masks.magnitude_masks(gpt, 0.9))
half_of = {"the heads": heads, "the neurons": mlps, "both": heads | mlps}
for name, keep in half_of.items():
    variants[f"half of {name}"] = surgery.remove_units(gpt, example, keep)
variants["3 of 6 blocks"] = surgery.remove_blocks(
    gpt, example, [f"blocks.{b}" for b in best]
)
added, prompt = noise(32, 1024, temperature=0.6, seed=0), few.images[0, :8]
writers = {name: Writer(network) for name, network in variants.items()}
writing = measure.writing_speed(writers, prompt, added, rounds=9)
reading = measure.reading_speed(variants, few.images[0], rounds=9)
size = {name: measure.parameters(network) for name, network in variants.items()}
costs = {name: rise(network) for name, network in variants.items()}
speed = {name: rate.speedup for name, rate in writing.items()}
shallow = speed["3 of 6 blocks"] / speed["half of both"]
over = costs["half of both"] / costs["half of the neurons"]
claim("Half of both costs, over half of the neurons alone", over, at_most=0.95)
zeros = (speed["90% zeros"] - 1) / (speed["3 of 6 blocks"] - 1)

# %% tags=["figure:race", "nbval-ignore-output"]
draw.race(writing, reading, size, costs)
guess_speed.compare(shallow)
claim("90% zeros gain, of what 3 of 6 blocks gain", zeros, at_most=0.3)
claim("Of equal size, 3 blocks write faster than halves", shallow, at_least=1.05)

# %% [markdown]
# Nine tenths of zeros gain nothing: every tensor keeps its shape. Of two networks with
# equally many parameters the shallow one writes faster. *Why?* Writing a piece is a
# chain of small calls, one after the other. Half of the heads and neurons leaves the
# chain as long as it was; half of the blocks halves it. <!-- why: counted --> The further
# notebook counts the calls. Reading does much arithmetic in each call, and there the two
# are closer.
#
# Look at the losses beside the names, too. Half of both costs less than half of the
# neurons alone: single costs do not add up here, either.
#
# The memory for what was read, the *cache*, holds keys and values: half of the heads
# halves it, half of the blocks too, half of the neurons leaves it as it is.
# <!-- why: counted -->
#
# ## Decide: which parts leave?
#
# At most 1.6 M parameters, at most 1,200 kB of cache for 256 pieces, and a loss of at
# most 3.63 nats on 16 validation windows, without retraining. You choose how many heads
# and how many neurons stay in each block (0: that part leaves whole), and which blocks
# leave. Within a block the gate's gradient chooses.

# %%
# form: {"heads": [6] * 6, "neurons": [768] * 6, "without": [3]}
my_choice = ...
decide("14_heads_and_blocks", my_choice)

# %% [markdown]
# ## One look at the test set

# %%
exam = texts.test[:16]
cost = training.losses(variants["half of the heads"], exam) - training.losses(gpt, exam)
margin = 1.96 * cost.mean(1).std() / len(cost) ** 0.5  # of the mean over windows
print(f"{cost.mean():.3f} nats, give or take {margin:.3f}")
claim("Half of the heads gone: loss rise on test text", cost.mean(), between=(0.1, 0.6))

# %% [markdown]
# On text that nobody has chosen anything on, half of the heads cost about as much. The
# margin is that of a paired difference (lab 01), from window to window.
#
# ## Take away
#
# 1. A head is rows of query, key and value and columns of out; a neuron a row and a
# column; a block leaves whole. Removed equals zeroed.
# 2. Which part matters is to be measured: here any head may leave, and one MLP may not.
# Costs of single parts do not add up.
# 3. Zeros buy nothing, heads the cache, and blocks speed: equal parameters are not equal
# speed.

# %%
quiz("14_heads_and_blocks")

# %% tags=["nbval-ignore-output"]
progress()

# %%
finish()

# %% [markdown]
# **Further:** [more on this lesson](14_heads_and_blocks_further.ipynb): greedy choices,
# the neurons that fire, the width, other networks. **Next:**
# [lab 15](15_healing.ipynb) heals what was cut, and makes a small file of it.
