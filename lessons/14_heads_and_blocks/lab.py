# %% [markdown]
# # 14 Heads, neurons, blocks
#
# Lab 13 pruned single weights of a network that writes. Zeros save no time here (lab
# 05). This lab removes what makes the tensors smaller: heads, neurons, whole blocks.
# Nothing is retrained; lab 15 does that.

# %%
import copy

import torch

from utils import baselines, data, measure, scores, studies, surgery, text, training
from utils.generation import Writer, noise
from utils.lab import check, claim, decide, figures, finish, predict, progress, quiz

draw = figures("14_heads_and_blocks")
texts, gpt = text.load(), baselines.baseline("gpt")
few, example = texts.validation[:8], texts.validation.images[:1]
batches = data.sample_batches(texts.train, count=16, batch_size=2)


def loss(network):
    """Nats a piece on eight windows of validation text."""
    return training.losses(network, few).mean().item()


dense = loss(gpt)
print(f"{dense:.3f} nats a piece, {measure.parameters(gpt):,} parameters")

# %% [markdown]
# ## What a block does
#
# The network has six blocks. A thick line of 192 numbers for each piece, the *residual
# stream*, runs through all of them. In each block two parts read a normalised copy of
# the stream and add to it. *Attention* looks at the pieces before. Its six *heads* do
# that independently, each with 32 numbers. The *MLP* looks at each piece by itself,
# with 768 *neurons*.
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
# <details><summary>Hint 1</summary>A matrix of a Linear is [outputs, inputs]. A head
# makes <code>head_width</code> outputs of query, key and value; <code>out</code> takes
# them as inputs.</details>
# <details><summary>Hint 2</summary>Head h has the rows from <code>h * head_width</code>
# to <code>(h + 1) * head_width</code>, without the last. Make a mask of the rows that
# stay.</details>
# <details><summary>Hint 3</summary><code>keep = torch.arange(len(query)) // head_width
# != head</code>; then <code>query[keep]</code> and
# <code>out[:, keep]</code>.</details>


# %%
def cut_head(weights, head, head_width):
    """The weights of an attention without one head. `weights`: query, key and value,
    which lose its rows, and out, which loses its columns."""
    ...


# %% [markdown]
# Your cut goes to work on head 3 of block 2. The control sets what the head puts out to
# zero, and leaves all tensors as they are. The course's surgery does the same cut for
# many heads at once. The cell ends with a question about all 36 heads.

# %%
cut_head = check(cut_head)
by_hand, name = copy.deepcopy(gpt), "blocks.2.attention"
layers = [by_hand.get_submodule(f"{name}.{n}") for n in ("query", "key", "value", "out")]
cut = cut_head([layer.weight.detach() for layer in layers], 3, 32)
for layer, weight in zip(layers, cut):
    layer.weight = torch.nn.Parameter(weight)
keep = surgery.head_masks(gpt, {name: torch.arange(6) != 3})
removed = surgery.remove_units(gpt, example, keep)
with scores.gates(gpt) as gates, torch.no_grad():
    gates[name][3] = 0
    zeroed = gpt(example)
    for way, network in {"your cut": by_hand, "the course's": removed}.items():
        gap = (network(example) - zeroed).abs().max()
        claim(f"Removed equals zeroed, {way}: logits differ by", gap, at_most=1e-3)
print(f"{measure.parameters(gpt) - measure.parameters(removed):,} parameters less")
guess_heads = predict(
    "The loss may rise by 0.2 nats. How many of the 36 heads can leave, chosen well?",
    0,
    36,
    unit="heads",
)

# %% [markdown]
# ## Which heads matter?
#
# The truth is dear but simple: leave each head out, once, and measure the loss. Scores
# are cheaper. *Gate*: the gradient of the loss for a number 1 that multiplies what the
# head puts out (Michel et al. 2019). *Output*: the length of what the head adds to the
# stream. *Magnitude*: the size of its weights, `value` times `out`. The control is
# *random*, five times. The heads of lowest score leave, but one stays in each block.

# %%
alone = surgery.head_losses(gpt, [(few.images, few.labels)])
chosen_by = {"truth, one by one": alone}
for name in ("gate", "output", "magnitude"):
    chosen_by[name] = scores.head_score(name, gpt, batches)
chosen_by["gate, block by block"] = {
    n: gate / gate.norm() for n, gate in chosen_by["gate"].items()
}
draws = [scores.head_random(gpt, seed=seed) for seed in range(5)]


def without_heads(score, count):
    """The network without the heads of lowest score; the best of a block stays."""
    table = torch.stack(list(score.values()))  # [blocks, heads]
    table = table.scatter(1, table.argmax(1, keepdim=True), torch.inf)
    keep = (table.flatten().argsort().argsort() >= count).view_as(table)
    masks = surgery.head_masks(gpt, dict(zip(score, keep)))
    return surgery.remove_units(gpt, example, masks)


def rises(score):
    """The loss rise without 9, 18, 22 and 27 heads."""
    return [loss(without_heads(score, count)) - dense for count in (9, 18, 22, 27)]


by_score = {name: rises(score) for name, score in chosen_by.items()}
by_chance = [rises(draw_) for draw_ in draws]

# %% tags=["figure:heads"]
truth = torch.stack(list(alone.values()))
draw.heads(truth, (9, 18, 22, 27), by_score, by_chance, guess_heads)

# %% [markdown]
# TEXT
#
# ## Why is one block different?

# %%
pieces, labels = few.images, few.labels
vocabulary = text.vocabulary().pieces
begins = torch.tensor([piece[0].isalpha() for piece in vocabulary])
ends = torch.tensor([piece[-1].isalpha() for piece in vocabulary])
inside = begins[labels] & ends[pieces]  # a word goes on: " un" + "s"
rise = {"a word goes on": [], "all other pieces": []}
before = training.losses(gpt, few)
for block in range(6):
    smaller = surgery.remove_blocks(gpt, example, [f"blocks.{block}.attention"])
    change = training.losses(smaller, few) - before
    rise["a word goes on"].append(change[inside].mean().item())
    rise["all other pieces"].append(change[~inside].mean().item())


def streams(pieces):
    """The stream before the first block and after each, `[n, t, 192]` each."""
    stream = gpt.embedding(pieces) + gpt.position(torch.arange(pieces.shape[1]))
    passed = [stream]
    for block in gpt.blocks:
        passed.append(block(passed[-1]))
    return passed


# %% [markdown]
# ## Neurons

# %%
def without_neurons(score, fraction):
    """The network without this fraction of the neurons of each block."""
    keep = {
        name: each.argsort().argsort() >= round(fraction * len(each))
        for name, each in score.items()
    }
    return surgery.remove_units(gpt, example, keep)


# %% [markdown]
# ## Blocks
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
