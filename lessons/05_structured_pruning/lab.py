# %% [markdown]
# # 05 Structured pruning
#
# Lab 04 removed filters from a chain of layers. Real networks are more than chains, and
# filters are not all that can leave: whole blocks can, or weights in a pattern. Which
# of these makes a network faster?

# %%
import copy

import torch

from utils import baselines, data, masks, measure, studies, surgery, training
from utils.channels import follow
from utils.lab import check, claim, decide, figures, finish, predict, progress, quiz
from utils.scores import score

draw = figures("05_structured_pruning")
pictures = data.load()
picture, batch = pictures.validation.images[:1], pictures.validation.images[:32]
resnet, vgg = baselines.baseline("resnet"), baselines.baseline("vgg")

# %% [markdown]
# ## An addition ties channels
#
# The ResNet begins with one convolution (`0`). Then come three *stages* (`3`, `4`, `5`)
# of two *residual blocks* each. A block has two convolutions, `conv1` and `conv2`, and
# adds its input to what they made. So `3.0.conv2` is the second convolution of the
# first block of the first stage.
#
# ![The first stage of a residual network: filter 3 leaves on one side, then everywhere it is added.](../lessons/05_structured_pruning/figures/tied.svg)
#
# The drawing has four channels, our first stage sixteen. Channel 3 is added to channel
# 3. What if a filter leaves on one side only? We take filter 3 out of `3.0.conv2`, by
# hand, and run the network.

# %%
broken = copy.deepcopy(resnet)
block, keep = broken[3][0], torch.arange(16) != 3
block.conv2.weight = torch.nn.Parameter(block.conv2.weight.detach()[keep])
block.bn2 = torch.nn.BatchNorm2d(15)
try:
    broken(picture)
except RuntimeError as error:
    print(error)

# %% [markdown]
# Fifteen channels on one side of the addition, sixteen on the other. Channel 3 must
# leave on *both* sides, and everything that reads it must forget it. `follow` traces
# the network, gives each channel a number, and makes two numbers one where channels are
# added. Then it can list what goes together: the *outputs* of a layer that write the
# channel, and the *inputs* that read it. Surgery uses that list.

# %%
for place in follow(resnet, picture).takes("3.0.conv2", 3):
    print(place)
one_less = surgery.remove_units(resnet, picture, {"0.weight": keep})
zeroed = surgery.zero_units(resnet, picture, {"0.weight": keep})
with torch.no_grad():
    difference = (one_less(batch) - zeroed(batch)).abs().max()
claim("Removed in all places equals zeroed", difference, at_most=1e-3)

# %% [markdown]
# One mask for the first convolution was enough: the rest followed. (`1` and `bn2` are
# BatchNorms.) The channels *inside* a block, between `conv1` and `conv2`, are added to
# nothing. They are free, as in a chain.
#
# ## How much work?

# %%
guess_work = predict(
    "30% of the channels leave every layer of the VGG: how much of the work leaves?",
    0,
    100,
    unit="%",
    better="high",
)

# %% [markdown]
# ### Exercise: the work that is left
#
# <details><summary>Hint 1</summary>The work of a convolution: for each output channel,
# each input channel.</details>
# <details><summary>Hint 2</summary>Both its inputs and its outputs lose the same
# fraction.</details>
# <details><summary>Hint 3</summary>Of the outputs <code>1 - ratio</code> is left, of the
# inputs too. Multiply.</details>


# %%
def work_left(ratio):
    """Fraction of a convolution's multiply-accumulates that is left when this fraction
    of the channels is removed in every layer."""
    ...


# %% [markdown]
# We thin the VGG to eight widths and count. Your formula is compared with the count.
# The cell ends with a question about the same networks.

# %%
work_left = check(work_left)
ratios, norms = (
    [0.0, 0.125, 0.25, 0.3, 0.375, 0.5, 0.625, 0.75],
    score("l1", vgg, units=True),
)
thinned = [surgery.shrink(vgg, picture, norms, ratio) for ratio in ratios]
macs = [measure.macs(network, picture) for network in thinned]
counted = [1 - each / macs[0] for each in macs]
formula = [1 - work_left(ratio) for ratio in ratios]
gap = max(abs(c - f) for c, f in zip(counted, formula))
claim("Formula and count differ in points by at most", 100 * gap, at_most=3)
guess_time = predict(
    "Half of the channels gone, a quarter of the work left: how many times as fast, with"
    " 32 pictures at a time?",
    0,
    20,
    unit="times",
    better="high",
)

# %% tags=["figure:work"]
draw.work(ratios, counted, formula, guess_work)
guess_work.compare(100 * counted[ratios.index(0.3)])

# %% [markdown]
# *Why more than 30%?* A convolution's work is inputs times outputs, and both lose 30%.
# <!-- why: counted --> The count differs from the formula by very little: the input of
# the first layer is the picture, and the output of the last are the classes. Both stay.
#
# ## Less work, less time?
#
# The same eight networks run in turn, one picture at a time and 32 at a time.

# %% tags=["nbval-ignore-output"]
networks = dict(zip(map(str, ratios), thinned))
one = measure.latency(networks, picture, rounds=15, shortest=0.02)
many = measure.latency(networks, batch, rounds=7, shortest=0.02)
claim("75% of the channels gone: times less work", macs[0] / macs[-1], at_least=14)
share = one["0.75"].speedup / (macs[0] / macs[-1])
claim("One picture: its speed is this share of that", share, at_most=0.75)
more = many["0.75"].speedup / one["0.75"].speedup
claim("There 32 pictures gain more than one, by a factor", more, at_least=1.05)
both = one["0.5"].speedup, many["0.5"].speedup
claim(
    "Half of the channels gone: faster, one picture or 32",
    (min(both), *(race["0.5"].speedup_quartiles[0] for race in (one, many))),
    at_least=1.3,
)

# %% tags=["figure:time", "nbval-ignore-output"]
draw.time([macs[0] / each for each in macs], one, many)
guess_time.compare(many["0.5"].speedup)

# %% [markdown]
# Both lines leave the diagonal, and 32 pictures follow it further than one. How far
# depends on the machine. *Why?* Every call of a layer costs something, however small
# the layer is; with 32 pictures that cost is shared. This is likely the larger part; we
# did not measure it alone. <!-- why: conjecture --> The further notebook times single
# layers.
#
# ## Whole blocks
#
# A residual block adds something to its input. Without the block the input passes
# unchanged, and the network still fits together. That works where a block keeps the
# shape: the second block of each stage.

# %%
guess_block = predict(
    "One of three blocks leaves the ResNet, nothing is retrained. Between the best and"
    " the worst choice of the block, how many points of accuracy?",
    0,
    90,
    unit="points",
)

# %% tags=["nbval-ignore-output"]
few, blocks = pictures.validation[:2000], ["3.1", "4.1", "5.1"]
as_cut, renewed = [], []
for name in blocks:
    network = surgery.remove_blocks(resnet, picture, [name])
    as_cut.append(100 * training.evaluate(network, few))
    training.reestimate_batchnorm(network, data.sample_batches(pictures.train, 4))
    renewed.append(100 * training.evaluate(network, few))
    print(f"without {name}: {as_cut[-1]:.1f}%, renewed {renewed[-1]:.1f}%")
apart, left = (max(each) - min(each) for each in (as_cut, renewed))
guess_block.compare(apart)
claim("As cut, which block leaves matters, by points", apart, at_least=10)
claim("With BatchNorm's statistics renewed, by points", left, at_most=8)
claim("Of the difference, BatchNorm's statistics make", 1 - left / apart, at_least=0.6)

# %% [markdown]
# *Why do they differ so much as cut?* Mostly because BatchNorm's stored means and
# spreads are those of the whole network (lab 04).
# <!-- why: measured: Of the difference, BatchNorm's statistics make -->
# Renewed, the three are much closer.
#
# ## A pattern: N of M
#
# Between single weights and whole channels lies a compromise for hardware: of each 4
# neighbouring inputs of a unit exactly 2 stay. Some graphics processors can skip the
# other two (Mishra et al. 2021).
#
# ### Exercise: the mask of a pattern
#
# <details><summary>Hint 1</summary>Reshape so that each group of m is a row.</details>
# <details><summary>Hint 2</summary><code>weight.reshape(-1, m).abs().argsort(dim=1,
# descending=True, stable=True)</code> gives the positions, the largest first.</details>
# <details><summary>Hint 3</summary>Start with <code>mask = torch.zeros(positions.shape,
# dtype=torch.bool)</code>, then
# <code>mask.scatter_(1, positions[:, :n], True)</code>; reshape back.</details>


# %%
def nm_mask(weight, n, m):
    """Boolean mask of weight's shape [units, inputs]: of each m neighbours in a row,
    True for the n of largest magnitude."""
    ...


# %% [markdown]
# Your mask goes to work on the middle of each 3 x 3 kernel of one layer; the course's
# own does the same for the whole ResNet. The control is half of the weights of each
# layer without a pattern.

# %%
nm_mask = check(nm_mask)
matrix = resnet[5][1].conv1.weight.detach()[:, :, 1, 1]  # [64 units, 64 inputs]
spared = {"exclude": ["0.weight"]}  # the first layer has a single input
pattern = masks.masked(resnet, masks.nm_masks(resnet, 2, 4, **spared))
theirs = pattern[5][1].conv1.weight.detach()[:, :, 1, 1] != 0
claim(
    "Weights where your mask is another",
    (nm_mask(matrix, 2, 4) != theirs).sum(),
    at_most=0,
)
free = masks.masked(
    resnet, masks.magnitude_masks(resnet, 0.5, scope="layerwise", **spared)
)
cost = training.evaluate(free, few) - training.evaluate(pattern, few)
claim("Points that the pattern costs beyond the free choice", 100 * cost, at_least=1)

# %% [markdown]
# The pattern costs more, before any retraining: it must prune large weights where a
# group has three. <!-- why: counted -->
#
# ## Which one makes it faster?
#
# Now the ResNet in six versions, in one race, with 32 pictures. The accuracy after two
# epochs of fine-tuning is recorded (`study.py` in the lesson's folder), with one seed.
# In the record, too, the channels were chosen by their L1 norm, the score that lab 04
# put to the test. The control is recorded as well: the dense network, trained on for
# the same epochs.

# %% tags=["nbval-ignore-output"]
l1 = score("l1", resnet, units=True)
variants = {
    "dense": resnet,
    "50% of the weights": masks.masked(resnet, masks.magnitude_masks(resnet, 0.5)),
    "2:4 pattern": pattern,
    "30% of the channels": surgery.shrink(resnet, picture, l1, 0.3),
    "50% of the channels": surgery.shrink(resnet, picture, l1, 0.5),
    "3 of 6 blocks": surgery.remove_blocks(resnet, picture, blocks),
}
times = measure.latency(variants, batch, rounds=15, shortest=0.02)
gain = {name: times[name].speedup - 1 for name in variants}
zeros = max(gain["50% of the weights"], gain["2:4 pattern"])
channels = gain["50% of the channels"]
claim("Zeros gain, of what half of the channels gain", zeros / channels, at_most=0.25)
claim("Half of the channels gone: times as fast", 1 + channels, at_least=1.4)
claim("Half of the blocks gone: times as fast", 1 + gain["3 of 6 blocks"], at_least=1.3)

# %% tags=["figure:which", "nbval-ignore-output"]
names = {"dense": "dense, trained on"}  # the others have the same name in the record
accuracy = {n: studies.spread("structured", kind=names.get(n, n)).mean for n in times}
draw.which(times, accuracy)

# %% [markdown]
# Read it as a choice. Up is more accurate, right is faster; the points on the line are
# beaten by no other. Zeros keep the accuracy and gain no speed on this processor:
# nothing skips them. Half of the channels or of the blocks gain speed and cost a point
# or two. Lesson 01's rule holds here, too: a difference below a point, with one seed,
# has shown nothing. So chance decides which of the three points at the left end lie on
# the line.
#
# ## Decide: channels or blocks?
#
# Your turn, on the ResNet. At most 66% of its work may be left, and at least 88% of
# 2,000 validation pictures must be right. You choose the score (`"l1"`, `"taylor"` or
# `"random"`), how many channels stay in each of the three stages where they are
# *added*, how many *inside* the blocks, and which blocks leave. Nothing is retrained,
# but BatchNorm's statistics are renewed (lab 04).

# %%
# form: {"score": "l1", "added": [16, 32, 64], "inside": [16, 32, 64], "without": []}
my_choice = ...
decide("05_structured_pruning", my_choice)

# %% [markdown]
# ## One look at the test set

# %% tags=["nbval-ignore-output"]
exam = pictures.test[:5000]
drop = training.evaluate(resnet, exam) - training.evaluate(
    variants["50% of the weights"], exam
)
claim("Half of the weights zero, not retrained: points lost", 100 * drop, at_most=4)

# %% [markdown]
# With half of its weights at zero the network loses little, though nothing was
# retrained. It gains no speed either.
#
# ## Take away
#
# 1. Channels joined by an addition leave together, or not at all.
# 2. Removing a fraction r of the channels removes 1 - (1 - r)^2 of the work. The time
# follows for a part of the way, further with 32 pictures than with one: measure it.
# 3. Zeros keep accuracy and gain no speed here. Channels and blocks gain speed and cost
# accuracy, which must be won back.

# %%
quiz("05_structured_pruning")

# %% tags=["nbval-ignore-output"]
progress()

# %%
finish()

# %% [markdown]
# **Further:** [more on this lesson](05_structured_pruning_further.ipynb): widths,
# depth-wise convolutions, the whole table. **Next:** [lab 06](06_dynamic_pruning.ipynb)
# prunes while the network is still being trained.
