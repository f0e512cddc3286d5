# %% [markdown]
# # 13 Transformers: going further
#
# Where pieces come from; who pays for a score; where large inputs come from; SparseGPT's
# step by hand; what a calibration must read; the same questions on networks from other
# seeds, trained for a shorter time; and a network that others trained. The cells run for
# about half a minute; what took longer is recorded.

# %%
import copy
from collections import Counter

import torch
from torch.nn.utils import prune

from utils import baselines, data, layers, masks, scores, text, training
from utils.exercises import load
from utils.lab import check, claim, figures, finish, predict
from utils.refit import grams, least_squares, output_error, sparse_sweep, surgeon_step

draw = figures("13_transformers")
recorded = load("13_transformers", "recorded")  # what the studies found
texts, vocabulary = text.load(), text.vocabulary()
network = baselines.baseline("gpt")
calibration = data.sample_batches(texts.train, count=8, batch_size=1)

# %% [markdown]
# ## Where pieces come from
#
# Begin with single letters. Find the two neighbours that most often stand side by side
# within a word, join them to a new piece, and begin again: byte-pair encoding (Sennrich
# et al. 2016).
#
# ### Exercise: the most frequent pair
#
# <details><summary>Hint 1</summary>Count every pair of neighbours; a word counts as
# often as it occurs.</details>
# <details><summary>Hint 2</summary><code>zip(word, word[1:])</code> are the pairs of a
# word.</details>
# <details><summary>Hint 3</summary>With a <code>Counter</code> named pairs:
# <code>max(pairs, key=lambda pair: (pairs[pair], pair))</code>.</details>


# %%
def most_frequent_pair(words, counts):
    """The pair (a, b) that most often stands side by side in these words, lists of
    pieces; word number i occurs counts[i] times. Of equal ones the last in the
    alphabet."""
    ...


# %% [markdown]
# The first twenty joinings of *Northanger Abbey*, with your function:

# %%
most_frequent_pair = check(most_frequent_pair)
often = Counter(text.WORD.findall("".join(text.chapters("northanger_abbey"))))
words, counts, learned = [list(word) for word in often], list(often.values()), []
for _ in range(20):
    pair = most_frequent_pair(words, counts)
    learned.append("".join(pair))
    words = [text.joined(word, pair) for word in words]
print(learned)
question = 'After "Elizabeth was": how likely does the next piece begin with a space?'
guess_space = predict(question, 0, 100, unit="%")

# %% [markdown]
# The space belongs to the piece behind it: `" the"` is one piece. That sets a trap for
# whoever writes a prompt.

# %%
spaced = torch.tensor([piece.startswith(" ") for piece in vocabulary.pieces])
prompts = [vocabulary.encode(words) for words in ("Elizabeth was", "Elizabeth was ")]
with torch.no_grad():
    likely = [network(p[None])[0, -1].softmax(0)[spaced].sum().item() for p in prompts]
guess_space.compare(100 * likely[0])
claim("Without a space at the end, the next piece brings one", likely[0], at_least=0.8)
claim("With one, it does so with this probability", likely[1], at_most=0.5)
lone = (texts.train.pieces == vocabulary.number[" "]).float().mean()
claim("Share of the training pieces that is a lone space", lone, at_most=0.005)
question = "60% pruned by w*g, all weights compete: what is left of block 0's queries?"
guess_query = predict(question, 0, 100, unit="%")

# %% [markdown]
# After `"Elizabeth was "` a word would have to begin without its space. The network has
# rarely read that. A prompt must not end with a space.
#
# How it learned to read, recorded while it was trained:

# %% tags=["figure:learning"]
stage = baselines.baseline_facts("gpt")["stages"][0]
draw.learning(stage["history"])
for age in ("1", "4", "20"):
    print(f"after {age}: {stage['samples'][age][:120]!r}")

# %% [markdown]
# The rate of learning rises first and falls to nothing at the end (lab 01's one cycle).
#
# ## Is it the score, or who pays?
#
# When all weights compete, w\*g decides two things: which weights go, and how much each
# *layer* loses. Keep its shares of the layers, and let magnitude choose within each, or
# lots.

# %%
windows = texts.validation[::9]
dense = training.losses(network, windows).mean()


def cost(chosen, model=network):
    """What pruning by these masks costs, in nats."""
    return (training.losses(masks.masked(model, chosen), windows).mean() - dense).item()


def lots(sparsity, seed=0):
    """Random masks, with the same or with a given sparsity in each layer."""
    draws = scores.random(network, seed=seed)
    return masks.masks_from_scores(draws, sparsity, scope="layerwise")


slopes = scores.score("taylor", network, calibration)
by_slope = masks.masks_from_scores(slopes, 0.6)
shares = {row.name: row.sparsity for row in masks.report(by_slope)[:-1]}
guess_query.compare(100 - 100 * shares["blocks.0.attention.query.weight"])
size = scores.magnitude(network)
both = {"lots": lots(shares), "size": masks.masks_from_scores(size, shares)}
ratio = cost(both["lots"]) / cost(lots(0.6))
claim("Random weights: w*g's shares cost, of equal shares", ratio, at_most=0.95)
alike = masks.masks_from_scores(size, 0.6, scope="layerwise")
ratio = cost(both["size"]) / cost(alike)
claim("Magnitude: w*g's shares cost, of equal shares", ratio, at_least=1.3)

# %% tags=["figure:shares"]
draw.shares({name: 1 - share for name, share in shares.items()})

# %% [markdown]
# Of block 0's queries and keys hardly anything is left. What that attention does
# without them, lab 14 looks at.
#
# With weights drawn by lot, the shares alone save something. With magnitude within the
# layers they do harm: equal shares are better. When a score is praised, ask for the control with its
# shares: it tells the choice of layers from the choice of weights.
#
# ## Where do large inputs come from?
#
# In large language models a few inputs are up to twenty times as large as the others
# (Dettmers et al. 2022), and Wanda was made for these. Are there any here? `gpt_early`
# is the same network after a fifth of the training.


# %%
def largest_inputs(model):
    """By weight, the largest of its inputs as a multiple of the middle one."""
    plain = scores.magnitude(model)
    score = scores.score("activation", model, calibration)
    found = {}
    for name, sizes in score.items():
        size = (sizes / plain[name].clamp(min=1e-9)).amax(0)  # [inputs]
        found[name] = (size.max() / size.median()).item()
    return found


early = baselines.baseline("gpt_early")
outliers = {"long": largest_inputs(network), "a fifth": largest_inputs(early)}
top = {age: sum(sorted(found.values())[-9:]) / 9 for age, found in outliers.items()}
claim(
    "The nine largest of 36 layers, long against a fifth",
    top["long"] / top["a fifth"],
    at_least=1.3,
)
helps = recorded.by_age(["magnitude, unit", "Wanda, unit"])
mean = {row: sum(values) / len(values) for row, values in helps.items()}
ratio = [
    mean[f"Wanda, unit: {age}"] / mean[f"magnitude, unit: {age}"]
    for age in ("long", "a fifth of it")
]
claim("Wanda costs, of magnitude's cost, trained for long", ratio[0], at_most=0.85)
claim("and on three networks trained for a fifth of it", ratio[1], at_least=0.9)

# %% tags=["figure:outliers"]
draw.outliers(outliers)

# %% [markdown]
# So they come with training, here as well. Where inputs are alike in size, Wanda has
# nothing to add to magnitude; where some are large, it has. That both go together is
# measured on one network trained for long and on three that were not. That one makes the
# other is what the units of the lab show, by changing nothing else.
#
# ## Other places where units are free
#
# ReLU lets a positive factor through. Multiply the weights into a neuron, and divide
# those out of it. The same between a value and the output of attention.

# %%
other, lot = copy.deepcopy(network), torch.Generator().manual_seed(0)
for block in other.blocks:
    look, mlp = block.attention, block.mlp
    for into, out in ((mlp.up, mlp.down), (look.value, look.out)):
        factors = 4 ** torch.randn(len(into.weight), generator=lot)
        into.weight.data *= factors[:, None]
        out.weight.data /= factors
moved = (training.losses(other, windows).mean() - dense).abs()
claim("Another network? The loss moves by", moved, at_most=1e-3)
ratios = []
for name, scope in (("magnitude", "layerwise"), ("activation", "unit")):
    by = [scores.score(name, model, calibration) for model in (network, other)]
    both = [masks.masks_from_scores(score, 0.6, scope=scope) for score in by]
    ratios.append(cost(both[1], other) / cost(both[0]))
claim("Magnitude costs, of its cost as trained", ratios[0], at_least=3)
claim("Wanda costs, of its cost as trained", ratios[1], between=(0.99, 1.01))
question = (
    "The largest weight of a neuron leaves: how much of the error can others undo?"
)
guess_step = predict(question, 0, 100, unit="%")

# %% [markdown]
# Magnitude suffers still more than from other gains, and Wanda does not notice.
#
# ## SparseGPT's step by hand
#
# One weight leaves, and all others of its row may move. How they should follows from
# the inputs alone, through their *Gram matrix* H, the products of all pairs of inputs:
# the *optimal brain surgeon* (Hassibi and Stork 1993). SparseGPT (Frantar and Alistarh
# 2023) takes such steps input after input, and lets only later inputs move.

# %%
name = "blocks.2.mlp.up.weight"
weight = layers.prunable(network)[name].detach()
gram = grams(network, calibration, [name])[name]
gram += (
    1e-6 * gram.diagonal().mean() * torch.eye(len(gram))
)  # so that it has an inverse
row, place = weight[0], weight[0].abs().argmax().item()
alone = row.index_fill(0, torch.tensor(place), 0.0)
stepped = surgeon_step(row, gram, place)
errors = [output_error(row[None], each[None], gram) for each in (alone, stepped)]
guess_step.compare(100 - 100 * errors[1] / errors[0])
claim(
    "One weight gone: the step leaves, of its error",
    errors[1] / errors[0],
    at_most=0.01,
)
second = surgeon_step(stepped, gram, stepped.abs().argmax().item())
next_error = output_error(row[None], second[None], gram)
claim(
    "A second one gone: the error is, times that of the first",
    next_error / errors[1],
    at_least=10,
)

# %% [markdown]
# All of it! The largest weight of a neuron leaves at no cost. Why? A norm takes the mean
# of the stream away, so its outputs, each divided by its gain, add up to zero. Any one
# input of the 192 can be computed from the other 191. The second weight has no such way
# out.
#
# And now 70% of the weights of this layer, by four ways.

# %%
chosen = masks.masks_from_scores({name: weight.abs()}, 0.7)[name]
swept, own = sparse_sweep(weight, 0.7, gram)
ways = {
    "magnitude": weight * chosen,
    "SparseGPT": swept,
    "magnitude, refitted": least_squares(weight, chosen, gram),
    "SparseGPT's mask, refitted": least_squares(weight, own, gram),
}
whole = output_error(weight, torch.zeros_like(weight), gram)
error = {way: output_error(weight, w, gram) / whole for way, w in ways.items()}
ratio = error["SparseGPT"] / error["magnitude"]
claim("In one layer SparseGPT leaves, of magnitude's error", ratio, at_most=0.7)
ratio = error["SparseGPT's mask, refitted"] / error["SparseGPT"]
claim("Its own mask, refitted, leaves, of that", ratio, at_most=1)

# %% tags=["figure:one_layer"]
draw.one_layer(error)

# %% [markdown]
# For a given mask, least squares over all kept weights is the best there is on this
# text. SparseGPT chooses its mask on the way and never goes back. It was made for rows
# of thousands of weights, where a system of equations for each row would take too long
# (Frantar and Alistarh 2023); ours are short.
#
# ## On four networks, and beside training
#
# Recorded, at 70%: the shipped network, one trained for a fifth of the time, and two
# more like that from other first weights. A dot for each.

# %%
four = recorded.refitted(recorded.AT_70)
pairs = list(zip(four["magnitude, refitted"], four["SparseGPT"], four["magnitude"]))
won = sum(refitted < swept for refitted, swept, _ in pairs)
claim("A refit of magnitude beats SparseGPT on so many of four", won, at_least=4)
most = max(refitted / plain for refitted, _, plain in pairs)
claim("It leaves at most, of magnitude's cost", most, at_most=0.75)
least = min(four["random, refitted"]) / max(four["magnitude, refitted"])
claim("Random masks, refitted, cost at least so many times that", least, at_least=2)

# %% tags=["figure:four_networks"]
draw.compared(four, "70% pruned: four networks", recorded.NETWORKS)

# %% [markdown]
# On each the refit costs least, SparseGPT comes second, and random masks stay far
# behind, although refitted: a refit does not replace the choice. Magnitude and Wanda
# change places.
#
# And against training? Recorded: 120 steps of four windows, zeros held.

# %%
tuned = recorded.tuned()
gap = tuned["magnitude, refitted, before"][0] - tuned["magnitude, after"][0]
claim("120 steps alone do better than the refit alone, in nats", gap, at_least=0)
gap = tuned["magnitude, after"][0] - tuned["magnitude, refitted, after"][0]
claim("The refit before them is worth, after 120 steps, in nats", gap, at_least=0)
gap = tuned["dense, after"][0] - tuned["dense, before"][0]
claim("The dense network changes by as many steps by", gap, between=(-0.1, 0.1))

# %% [markdown]
# On this network 120 steps with labels and gradients do more than a refit without them,
# and the refit is a better place to begin. Look at the dense network, too: the steps
# change it. One seed and one rate; lab 15 takes more of both.
#
# ## What must a calibration read?
#
# Recorded, three draws each: so many windows of the training text; eight of the novel
# that the network never saw; the same pieces shuffled; pieces by lot; its own writing.

# %%
read = recorded.read()
mean = {w: {k: sum(v) / len(v) for k, v in rows.items()} for w, rows in read.items()}
for way, rows in mean.items():
    ratio = rows["shuffled pieces"] / rows["8 windows"]
    claim(f"{way}: shuffled pieces cost, of eight windows", ratio, between=(0.85, 1.15))
    ratio = rows["random pieces"] / rows["8 windows"]
    claim(f"{way}: pieces by lot cost, of eight windows", ratio, at_least=1.1)
one = {way: rows["1 window"] / rows["32 windows"] for way, rows in mean.items()}
claim(
    "One window instead of 32: more for SparseGPT than for Wanda, by",
    one["SparseGPT"] / one["Wanda"],
    at_least=1.1,
)

# %% tags=["figure:reads"]
draw.reads(read)

# %% [markdown]
# Shuffled words do as well as text, for both: what they need is the right words, in any
# order. Pieces by lot are worse. And SparseGPT, which uses how all pairs of inputs go
# together, is harmed more by a calibration of one window than Wanda is.
#
# ## Trained for longer
#
# Here are the four networks once more, by score, with three draws each.

# %% tags=["figure:ages"]
ways = ["magnitude, layerwise", "Wanda, unit", "w*g, layerwise", "random, layerwise"]
draw.compared(recorded.by_age(ways), "60% pruned: trained for long, or a fifth of it")
for way in ways[:2]:
    claim(f"{way}: long, over the dearest of a fifth", recorded.aged(way), at_least=2)

# %% [markdown]
# What can be pruned from a network depends on how far it was trained. A result from a
# network that learned little says little about one that learned much.
#
# ## Two of four
#
# Graphics processors can use zeros if of each four neighbours two are zero (lab 05).
# That is half of the weights, and who may go is given in part.

# %% tags=["figure:two_of_four"]
four = recorded.refitted(recorded.TWO_OF_FOUR)
share = recorded.most_of(four["magnitude, 2:4, refitted"], four["magnitude, 2:4"])
claim("2:4: the refit leaves at most, of magnitude's cost", share, at_most=0.75)
draw.compared(four, "Two of four: four networks", recorded.NETWORKS)

# %% [markdown]
# ## A network that others trained
#
# *MiniLM* (Wang et al. 2020; the weights all-MiniLM-L6-v2, Apache License 2.0) turns a
# sentence into a vector, so that sentences of one meaning lie near each other; people
# search texts with it. Its 22.6 million parameters are too many to come with this
# course. How it is read, as a plain network, is in `minilm.py` in the lesson's folder.
# Recorded: it was calibrated on 64 sentences of the novels, in three draws, and pruned.
# How near do the vectors of 64 others stay to those of the dense network? With its
# package (84 MB) it runs here, too, on three sentences; without it the cell says how to
# get it, and nothing else in the course needs it.
#
# Two of the rows are controls. In *large inputs* Wanda knows the sizes of those inputs
# only that are larger than the middle one of their layer, and takes all others for
# equal; in *small inputs* it is the other way round.

# %%
theirs, near = recorded.minilm_inputs(), recorded.minilm_cosines()
half = {row[:-5]: values for row, values in near.items() if row.endswith("50%")}
into_mlps = [
    [size for name, size in found.items() if name.endswith("mlp.up.weight")]
    for found in (theirs, outliers["long"])
]
claim("MiniLM's largest input, times the middle one", max(theirs.values()), at_least=15)
ratio = min(into_mlps[0]) / max(into_mlps[1])
claim("MLPs: its least outstanding block, times our most", ratio, at_least=1.5)
gap = min(half["Wanda, unit"]) - max(half["magnitude, unit"])
claim("50%: Wanda stays nearer than magnitude, in cosine", gap, at_least=0.1)
base, whole, large, small = (
    sum(half[f"{way}, unit"]) / 3
    for way in ("magnitude", "Wanda", "large inputs", "small inputs")
)
share = (large - base) / (whole - base)
claim("Large inputs alone bring, of Wanda's gain", share, between=(0.85, 1.1))
share = (small - base) / (whole - base)
claim("Small inputs alone bring, of Wanda's gain", share, at_most=0.6)
gap = max(half["random, unit"]) - recorded.minilm_apart()
claim("Random: nearer than two sentences to each other, by", gap, at_most=0.1)

# %% tags=["figure:minilm", "nbval-ignore-output"]
draw.minilm({"ours": outliers["long"], "MiniLM": theirs}, near)
print(load("13_transformers", "minilm").demonstration())

# %% [markdown]
# Our network has inputs that stand out, too, in the attention of its first blocks. What
# it lacks are those in front of the MLPs, which MiniLM has in every block. With them
# Wanda keeps far more than magnitude does. And it is the large inputs that Wanda needs
# to know, because they alone bring nearly all of its gain. <!-- why: measured: Large
# inputs alone bring --> Random pruning leaves vectors that are hardly nearer to the
# dense ones than those of two sentences are to each other.
#
# What this does not say: that a search with the pruned vectors finds less. Nobody
# searched here, and nothing was trained again.
#
# ## In production
#
# The libraries that prune language models (the repositories of Wanda and SparseGPT,
# llm-compressor) want networks and processors that this course does not have. They are
# not installed here, and nothing was compared with them. PyTorch's own
# `torch.nn.utils.prune` is: magnitude, layer by layer.

# %%
twin, ours = (
    copy.deepcopy(network),
    masks.magnitude_masks(network, 0.7, scope="layerwise"),
)
differing = 0
for name in ours:
    layer = twin.get_submodule(name.removesuffix(".weight"))
    prune.l1_unstructured(layer, "weight", amount=0.7)
    differing += (layer.weight_mask.bool() != ours[name]).sum().item()
claim("Of 2.7 million places PyTorch's masks differ at", differing, at_most=500)

# %% [markdown]
# The weights are stored in 16 bits, so some are equal in size, and of equal ones the two
# choose differently. All others agree.

# %%
finish()

# %% [markdown]
# **Back:** [13 Transformers](13_transformers.ipynb). **Next lab:** [14
# Heads, neurons, blocks](14_heads_and_blocks.ipynb), the parts that leave for real.
