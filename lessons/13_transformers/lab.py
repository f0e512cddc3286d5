# %% [markdown]
# # 13 Transformers
#
# So far every network looked at pictures. The network of this lab reads a novel and
# says what comes next: a GPT, small enough to be pruned and measured in seconds. The
# cells of this lab run for about half a minute.

# %%
import copy

import torch

from utils import (
    baselines,
    data,
    generation,
    layers,
    masks,
    measure,
    scores,
    text,
    training,
)
from utils.explorer import TextExplorer
from utils.lab import check, claim, decide, figures, finish, predict, progress, quiz
from utils.refit import refit

draw = figures("13_transformers")
texts, vocabulary = text.load(), text.vocabulary()
network = baselines.baseline("gpt")

# %% [markdown]
# ## Meet the network
#
# It was trained on five of Jane Austen's novels, cut into 1,024 kinds of *pieces*:
# words, parts of words, signs, each with the space before it. At every place of a text
# it gives each piece a probability of being the next one. Its *loss* is minus the
# logarithm of the probability that it gave to the piece that did come, in nats a piece.
#
# - *perplexity*: e to the loss. As unsure as a choice among so many pieces.
# - *bits a character*: the same loss in bits, shared among the characters.
#
# A *window* is 256 pieces. We measure on every ninth window of chapters that were kept
# from the training.

# %%
sentence = vocabulary.encode("Mr. Darcy was unsociable")
print([vocabulary.decode([piece]) for piece in sentence])
windows = texts.validation[::9]
dense = training.losses(network, windows)  # [windows, 256]
loss = dense.mean().item()
bits = text.bits_per_character(loss, windows)
claim("Nats a piece; a network that knows nothing has 6.93", loss, at_most=3.1)
claim("Bits a character", bits, at_most=1.45)
guess_breaks = predict(
    "At which sparsity has the loss risen by half a nat?",
    0,
    100,
    unit="%",
    better="high",
)

# %% [markdown]
# In lab 03 the smallest weights went first: *magnitude*. Here they go, the same share
# of each of the 36 layers inside the blocks. The embedding, which turns pieces into
# numbers and numbers back into pieces, stays whole. Nothing is retrained.
#
# Each pruned network goes on from the same words. A piece is drawn by its probability
# (sharpened: temperature 0.6) and with the same luck each time, so what changes is the
# pruning.


# %% tags=["nbval-ignore-output"]
def rises(score, sparsity, scope="layerwise", model=network):
    """How much the loss of each window rises when the model is pruned: [windows]."""
    chosen = masks.masks_from_scores(score, sparsity, scope=scope, allow_empty=True)
    return (training.losses(masks.masked(model, chosen), windows) - dense).mean(1)


prompt = vocabulary.encode('"You are very kind," said Elizabeth')
luck = generation.noise(50, len(vocabulary), temperature=0.6, seed=0)
size, broken = scores.magnitude(network), {}
for sparsity in (0.0, 0.3, 0.5, 0.6, 0.7, 0.9):
    chosen = masks.masks_from_scores(size, sparsity, scope="layerwise")
    writer = generation.Writer(masks.masked(network, chosen))
    print(f"{sparsity:.0%}:", vocabulary.decode(writer.write(prompt, luck)))
    broken[sparsity] = rises(size, sparsity)
first = next(s for s, rise in broken.items() if rise.mean() > 0.5)
guess_breaks.compare(100 * first)

# %% [markdown]
# The number is that of the first of these sparsities beyond half a nat. Read the lines
# again: where do the words stop being words, and where had the sense been lost before?
# Why does the loss see what the eye sees only later?

# %% tags=["figure:breaking"]
draw.breaking(broken, guess_breaks)
at_half, at_most = (broken[s].mean().item() for s in (0.5, 0.9))
claim("At 50% the loss rises by", at_half, between=(0.05, 0.3))
claim("At 90% it rises by so many times as much", at_most / at_half, at_least=10)

# %% [markdown]
# The loss counts each place of 6,400. A sample shows fifty, and only the likeliest
# pieces of them.
#
# In the panel you choose sparsity and score, and the prompt is written again.

# %% tags=["nbval-ignore-output"]
TextExplorer(network)

# %% [markdown]
# ## What a weight multiplies
#
# Lab 02 met the product of a weight's size with the size of its input. *Wanda* (Sun et
# al. 2024) is that score, with a rule of its own: the weights of *one output* compete,
# those of a row. Each row loses the same share. The size of an input is its root mean
# square over a few windows of text, the *calibration*. It needs no label and no
# gradient.
#
# ### Exercise: Wanda
#
# You will prune the whole network with it.
#
# <details><summary>Hint 1</summary>A number for each weight first, then who stays of
# each row.</details>
# <details><summary>Hint 2</summary>The size of each input:
# <code>inputs.square().mean(0).sqrt()</code>. It multiplies the columns of
# <code>weight.abs()</code>.</details>
# <details><summary>Hint 3</summary>
# <code>score.argsort(1).argsort(1)</code> is the rank of each weight within its row;
# the lowest <code>round(sparsity * weight.shape[1])</code> go.</details>


# %%
def wanda(weight, inputs, sparsity):
    """The mask, True = kept, of a layer with weight [outputs, inputs] that has met
    these inputs, [rows, inputs]."""
    ...


# %% [markdown]
# Eight windows of the training text are the calibration. The network reads them, and
# we write down what each layer gets.

# %%
wanda = check(wanda)
calibration = data.sample_batches(texts.train, count=8, batch_size=1)
inputs, weights = {}, layers.prunable(network)


def keep(path, _layer, given, _output):
    inputs[f"{path}.weight"] = given[0].flatten(0, 1)  # [places, inputs]


with torch.no_grad(), layers.watching(layers.prunable_layers(network), keep):
    network(torch.cat([window for window, _ in calibration]))
mine = {name: wanda(w.detach(), inputs[name], 0.6) for name, w in weights.items()}
by_input = scores.score("activation", network, calibration)
package = masks.masks_from_scores(by_input, 0.6, scope="unit")
differing = sum((mine[name] != package[name]).sum() for name in mine)
claim("Of 2.7 million places the package differs at", differing, at_most=30)
guess_wanda = predict(
    "60% pruned: of what magnitude costs row by row, how much does Wanda cost?",
    0,
    300,
    unit="%",
    better="low",
)

# %% [markdown]
# Your masks are those of `scope="unit"`. Now three scores, and three rules of who
# competes: all weights of the network (*global*), those of a layer (*layerwise*), those
# of an output (*unit*). The third score is *w\*g* of lab 02. It needs the gradient, so
# it needs labels: here the pieces that did come. Random masks, three draws, are the
# control.

# %%
by = {"magnitude": size, "Wanda": by_input}
by["w*g"] = scores.score("taylor", network, calibration)
found = {
    (name, scope): rises(score, 0.6, scope)
    for name, score in by.items()
    for scope in ("global", "layerwise", "unit")
}
for seed in range(3):
    lots = scores.random(network, seed=seed)
    found[f"random, draw {seed + 1}", "layerwise"] = rises(lots, 0.6)
cost = {pair: rise.mean().item() for pair, rise in found.items()}
ratio = cost["Wanda", "unit"] / cost["magnitude", "unit"]
guess_wanda.compare(100 * ratio)
claim("Row by row Wanda costs, of what magnitude costs", ratio, at_most=0.85)
ratio = cost["Wanda", "global"] / cost["Wanda", "unit"]
claim("Wanda with one threshold for all, of its cost row by row", ratio, at_least=3)
ratio = cost["magnitude", "global"] / cost["magnitude", "unit"]
claim("Magnitude with one threshold for all, of the same", ratio, between=(0.7, 1.2))

# %% [markdown]
# How far off were you? Without a label and without a gradient, Wanda keeps more than
# magnitude does. In its paper that was on networks a thousand times as large (Sun et al.
# 2024).

# %% tags=["figure:scopes"]
draw.scopes(found)

# %% [markdown]
# Two things to see. All scores are far from random. And Wanda needs its own rule: let
# all weights compete by the same numbers, and it falls behind magnitude by far. For
# magnitude the rule hardly matters; w\*g is best layer by layer.
#
# Why is the input worth anything? The next section changes nothing but the inputs.
#
# ## The same function in other units
#
# In front of each part stands a *norm*. It multiplies each of its 192 outputs by a
# *gain*, and the layers behind it read the product. Double a gain and halve the column
# of weights that reads it: every product is what it was.
#
# ### Exercise: other units
#
# Query, key and value read the same norm, so all three must change.
#
# <details><summary>Hint 1</summary>An input that is twice as large needs weights that
# are half as large.</details>
# <details><summary>Hint 2</summary>A weight is <code>[outputs, inputs]</code>: dividing
# it by a vector <code>[inputs]</code> divides its columns.</details>
# <details><summary>Hint 3</summary><code>gains * factors, [weight / factors for weight
# in readers]</code></details>


# %%
def in_other_units(gains, readers, factors):
    """Gains [width] of a norm, and the list of all weights [outputs, width] that read
    it, changed so that each input is `factors` times as large and each output is what
    it was: (new gains, list of new weights)."""
    ...


# %% [markdown]
# All twelve norms get random factors, drawn around 1: a typical one doubles an input, or
# halves it. In a second copy a typical one makes it four times as large, or a quarter.

# %%
in_other_units = check(in_other_units)
lot = torch.Generator().manual_seed(0)


@torch.no_grad()
def rescaled(model, spread):
    """A copy with the gains of its norms times random factors, and the columns behind
    them divided."""
    other = copy.deepcopy(model)
    for block in other.blocks:
        look = block.attention
        read = {block.norm1: (look.query, look.key, look.value)}
        for norm, readers in (read | {block.norm2: (block.mlp.up,)}).items():
            factors = spread ** torch.randn(len(norm.weight), generator=lot)
            old = [reader.weight for reader in readers]
            gains, columns = in_other_units(norm.weight, old, factors)
            norm.weight.copy_(gains)
            for weight, new in zip(old, columns):
                weight.copy_(new)
    return other


others = {spread: rescaled(network, spread) for spread in (2, 4)}
moved = max((training.losses(m, windows) - dense).abs().max() for m in others.values())
claim("Largest change of the loss at any of 6,400 places", moved, at_most=1e-3)
question = "60% pruned in the second copy: how many times the cost as trained, by"
guess_units = predict(f"{question} magnitude?", 0, 20)
guess_moves = predict(f"{question} Wanda?", 0, 20)

# %% [markdown]
# To the last digits it is the same network. Nothing that it writes could tell you in
# which units its weights are.

# %%
units = {
    ("magnitude", "layerwise", 1): found["magnitude", "layerwise"],
    ("magnitude", "unit", 1): found["magnitude", "unit"],
    ("activation", "unit", 1): found["Wanda", "unit"],
    ("taylor", "global", 1): found["w*g", "global"],
}
pairs = [key[:2] for key in units]
for spread, model in others.items():
    for name, scope in pairs:
        score = scores.score(name, model, calibration)
        units[name, scope, spread] = rises(score, 0.6, scope, model)
times = {p: (units[*p, 4].mean() / units[*p, 1].mean()).item() for p in pairs}
worse = times["magnitude", "layerwise"]
guess_units.compare(worse)
guess_moves.compare(times["activation", "unit"])
claim("In other units magnitude costs so many times as much", worse, at_least=3)
steady = max(abs(times[pair] - 1) for pair in pairs[2:])
claim("Wanda's and w*g's cost moves by, as a share", steady, at_most=0.01)

# %% [markdown]
# Why do two of them not move? Wanda multiplies the weight by its input. In other units
# the weight is divided by the very factor that the input is multiplied by, so their
# product is the same number. With w\*g it is the gradient that grows as the weight
# shrinks. (Here "Wanda" is row by row, and w\*g lets all weights compete.)

# %% tags=["figure:units"]
draw.units(units)

# %% [markdown]
# Row by row does not save magnitude: the factors differ within a row.
#
# This is what an input is doing in a score: it undoes the units. A network may come in
# any, and magnitude depends on them. Training chose ours. The second notebook shows that
# a network trained for a fifth of the time has inputs more alike in size, and that Wanda
# is of no use there. Lab 04 met the same in front of BatchNorm: there the size of a whole
# filter was free.
#
# ## Can the neighbours make up for it?
#
# So far a kept weight stayed as it was. But inputs resemble one another, so what one
# weight did another may do in part. For one output this is least squares: of all values
# of the kept weights, those whose output comes nearest to the old one, over the
# calibration. No label, no gradient, no step. Guess first, then write it.
#
# ### Exercise: refit one output
#
# <details><summary>Hint 1</summary>What the output was:
# <code>inputs @ weight</code>. What may be used: <code>inputs[:, kept]</code>.</details>
# <details><summary>Hint 2</summary><code>torch.linalg.lstsq(A, B).solution</code> is
# the X with A X nearest to B; B needs two axes, <code>wanted[:, None]</code>.</details>
# <details><summary>Hint 3</summary><code>result = torch.zeros_like(weight)</code>, then
# <code>result[kept] = torch.linalg.lstsq(inputs[:, kept], wanted[:, None]).solution[:,
# 0]</code>.</details>


# %%
guess_refit = predict(
    "Every layer refitted at 70%: how much of magnitude's cost is left?",
    0,
    100,
    unit="%",
    better="low",
)


def refit_row(inputs, weight, kept):
    """New weights [n] of one output, zero where `kept` [n] is False, that bring
    inputs @ weights nearest to what it was; inputs [rows, n]."""
    ...


# %% [markdown]
# First one layer, with your function, row by row: how far its outputs move, as a share
# of how far they move without the refit. Then the whole network, with the package's
# function. It goes from layer to layer, and fits each to the inputs that come from the
# refitted layers before it.

# %% tags=["nbval-ignore-output"]
refit_row = check(refit_row)
name = "blocks.2.mlp.up.weight"
kept = masks.masks_from_scores(size, 0.7, scope="layerwise")
old, given = weights[name].detach(), inputs[name]
with measure.pinned(1):  # two threads would wait for each other at every row
    new = torch.stack([refit_row(given, *row) for row in zip(old, kept[name])])
wanted, plain = given @ old.T, given @ (old * kept[name]).T
left = (given @ new.T - wanted).square().sum() / (plain - wanted).square().sum()
claim("In one layer the refit leaves, of the squared error", left, at_most=0.7)
reading = data.sample_batches(texts.train, count=16, batch_size=1)
refitted = refit(network, kept, reading)
after = (training.losses(refitted, windows) - dense).mean(1)
before = broken[0.7]
guess_refit.compare(100 * after.mean() / before.mean())
claim(
    "All layers refitted: of the cost remains",
    after.mean() / before.mean(),
    at_most=0.75,
)
back = before - after  # [windows]
certain = back.mean() / back.std() * len(back) ** 0.5
claim("What came back, in its own standard errors", certain, at_least=4)
writer = generation.Writer(refitted)
print("70%, refitted:", vocabulary.decode(writer.write(prompt, luck)))

# %% [markdown]
# No weight that left has come back, and nobody asked for the loss. Why does it help on
# text that it was not fitted to? The inputs of a layer resemble one another there, too.
# That is likely, and we did not test it.
#
# ## Decide: two fifths of the weights
#
# Keep at most two fifths of the weights inside the blocks. The loss may rise by at most
# 0.12 nats, and you may read at most sixteen windows. You choose the score, who
# competes, the sparsity (one number, or one for each kind of layer), and whether to
# refit. With `"shares": "taylor"` each layer loses what that score would take from it
# in one competition of all; the score itself then decides within each layer.

# %%
# such as {"score": "magnitude", "scope": "unit", "sparsity": 0.6, "refit": False}
my_choice = ...
decide("13_transformers", my_choice)

# %% [markdown]
# ## One look at the test set
#
# Every choice so far rests on validation chapters. Now chapters that nobody has looked
# at, and a novel of which the network never saw a word.

# %% tags=["nbval-ignore-output"]
networks = {"dense": network, "pruned": masks.masked(network, kept), "refit": refitted}
places = {"test chapters": texts.test[::9], "the other novel": texts.kept_out[::24]}
for place, unseen in places.items():
    losses = {n: training.losses(m, unseen).mean().item() for n, m in networks.items()}
    print(place, {name: round(value, 3) for name, value in losses.items()})
    lost, left = (losses[name] - losses["dense"] for name in ("pruned", "refit"))
    claim(f"Of what pruning cost on {place} there remains", left / lost, at_most=0.8)

# %% [markdown]
# The refit read the training text only, and helps on both.
#
# ## Take away
#
# 1. The size of a weight has a unit, and in front of a norm nobody fixed it. A score
# that counts the input with the weight does not depend on it.
# 2. The rule of who competes can matter more than the score. Ask for the control, and
# for the network in other units.
# 3. Kept weights can make up for pruned ones: least squares, without a gradient.

# %%
quiz("13_transformers")

# %% tags=["nbval-ignore-output"]
progress()

# %%
finish()

# %% [markdown]
# **Next:** [going further](13_transformers_further.ipynb): where pieces come from,
# SparseGPT's step by hand, what a calibration must read, and networks that were trained
# for longer. Or on to [lab 14](14_heads_and_blocks.ipynb): what can leave for real.
