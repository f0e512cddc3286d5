# %% [markdown]
# # 04 Neurons and filters
#
# Lab 03 left tensors full of zeros, at their old size and their old speed. A *unit* is
# more than a weight. It is a neuron of a linear layer, or a filter of a convolution.
# When a unit leaves, whole rows leave, and the tensors get smaller.
#
# In this lab you remove units, see what that buys, and ask which units should go.

# %%
import copy

import torch

from utils import baselines, data, measure, surgery, training
from utils.lab import check, claim, decide, figures, finish, predict, progress, quiz
from utils.scores import score, unit_random

draw = figures("04_neurons_and_filters")
pictures = data.load()
picture = pictures.validation.images[:1]

# %% [markdown]
# Everything is loaded: the pictures, and one of them as an example of the input.
#
# ## What belongs to a neuron?
#
# ![Two layers, three times: what belongs to a neuron, what is zero when it is pruned, what is left when it is removed.](../lessons/04_neurons_and_filters/figures/neuron.svg)
#
# Neuron 3 of the first layer owns row 3 of that layer's weight, and one bias. The
# second layer keeps a *column* for it: one weight for each of its own neurons.
#
# ### Exercise: remove neurons
#
# <details><summary>Hint 1</summary>Three tensors change: the first layer's weight and
# bias, and the second layer's weight.</details>
# <details><summary>Hint 2</summary>A boolean tensor picks rows as
# <code>weight[keep]</code> and columns as
# <code>weight[:, keep]</code>.</details>
# <details><summary>Hint 3</summary>Make <code>new = torch.nn.Linear(first.in_features,
# int(keep.sum()))</code>, and under
# <code>with torch.no_grad():</code> copy
# <code>new.weight.copy_(first.weight[keep])</code> and
# <code>new.bias.copy_(first.bias[keep])</code>. The second layer is made in the same
# way, with <code>second.weight[:, keep]</code> and its whole bias.</details>


# %%
def remove_neurons(first, second, keep):
    """Two smaller nn.Linear: first without the rows (and biases) where keep is False,
    second without those columns. New layers; the old ones stay as they are."""
    ...


# %% [markdown]
# Your function is used at once. Some neurons of LeNet's second layer are *dead*: they
# put out zero for every training picture. They leave, and the two networks are
# compared. The cell ends with a question to you, about the section after it.

# %%
remove_neurons = check(remove_neurons)
lenet, images = baselines.baseline("lenet300"), pictures.train.images
with torch.no_grad():
    alive = (lenet[:5](images) > 0).any(0)
    fc2, fc3 = remove_neurons(lenet.fc2, lenet.fc3, alive)
    smaller = torch.nn.Sequential(lenet[:3], fc2, lenet.relu2, fc3)
    difference = (lenet(images) - smaller(images)).abs().max()
claim("Some of the 100 neurons are dead", (~alive).sum(), at_least=1)
claim("Without them no answer changes by more than rounding", difference, at_most=1e-3)
guess_numbers = predict(
    "One filter of a convolution has 3 x 3 weights for each of 64 inputs: 576. How many"
    " numbers leave the VGG with it?",
    0,
    5000,
    unit="numbers",
)

# %% [markdown]
# A zero times any weight is zero, so nobody misses a dead neuron. <!-- why: counted -->
# That holds for the pictures that were tried. Nobody knows it for others.
#
# ## What goes with a filter?
#
# A filter is to a convolution what a neuron is to a linear layer: it makes one output
# *channel*. Behind each convolution of the course's VGG stands a **BatchNorm**. For
# each channel it subtracts a mean and divides by a spread, then multiplies by a learned
# weight and adds a learned bias. In training it measures mean and spread on each batch;
# it stores running averages of both, and uses these later.
#
# ![A convolution, its BatchNorm and the next convolution; what belongs to filter 2 is dotted.](../lessons/04_neurons_and_filters/figures/filter_leaves.svg)
#
# ### Exercise: count it
#
# <details><summary>Hint 1</summary>Three places: the filter, its BatchNorm, the next
# layer.</details>
# <details><summary>Hint 2</summary>A filter has <code>kernel * kernel</code> weights
# for each input.</details>
# <details><summary>Hint 3</summary>In the next layer each of <code>next_outputs</code>
# filters loses
# <code>kernel * kernel</code> weights. BatchNorm loses 4 numbers.</details>


# %%
def leaves_with_a_filter(kernel, inputs, next_outputs):
    """How many numbers leave with one filter of a convolution (kernel x kernel, no
    bias) that is followed by BatchNorm and another convolution with next_outputs
    filters of the same kernel size."""
    ...


# %% [markdown]
# For whole networks the course has `surgery`. It sends one picture through, to see
# which layer feeds which. We let it take filter 5 out of the VGG's second convolution
# (64 inputs; the next layer has 128 filters), and count what is missing. That
# convolution stands at place 3 in the VGG, so its weight is called `"3.weight"`.

# %%
leaves_with_a_filter = check(leaves_with_a_filter)
vgg = baselines.baseline("vgg")
keep = torch.arange(64) != 5
without_one = surgery.remove_units(vgg, picture, {"3.weight": keep})
before, after = (
    sum(tensor.numel() for tensor in network.state_dict().values())
    for network in (vgg, without_one)
)
counted = leaves_with_a_filter(3, 64, 128)
claim("Your count is what left", before - after - counted, between=(0, 0))
guess_numbers.compare(before - after)

# %% [markdown]
# *Why so many more than 576?* In the next layer 128 filters looked at this one channel,
# each with 9 weights: twice as many again. <!-- why: counted -->
#
# ## Zeroed against removed
#
# Now half of the VGG's filters go, in each layer, twice. Once they are only set to
# zero. Once they leave. Which half? Those with the smallest **L1 norm**, the sum of a
# filter's absolute weights: the classic choice (Li et al. 2017). We compare answers,
# work and files. The cell ends with a question to you.

# %%
l1 = score("l1", vgg, units=True)
half = surgery.unit_masks(vgg, picture, l1, 0.5)
zeroed = surgery.zero_units(vgg, picture, half)
removed = surgery.remove_units(vgg, picture, half)
some = pictures.validation.images[:100]
with torch.no_grad():
    difference = (zeroed(some) - removed(some)).abs().max()
macs = [measure.macs(network, picture) for network in (removed, vgg)]
sizes = [measure.file_bytes(network) for network in (zeroed, removed, vgg)]
claim("Both give the same answers", difference, at_most=1e-3)
claim("About a quarter of the work is left", macs[0] / macs[1], between=(0.24, 0.27))
claim("The file of zeros is as large", sizes[0] / sizes[2], between=(0.99, 1.01))
claim("The other is a quarter of it", sizes[1] / sizes[2], between=(0.24, 0.28))
guess_speed = predict(
    "Half of the VGG's filters removed, a quarter of the work left: how many times as"
    " fast is it, one picture at a time?",
    0,
    20,
    unit="times",
    better="high",
)

# %% [markdown]
# Same answers, another size. Half of the outputs times half of the inputs is a quarter
# of a convolution's work. Now for the time. Four networks run in turn, 31 rounds: the
# dense one, **its identical copy**, the zeroed one and the removed one. The copy shows
# how far apart two equal networks come out, by noise alone.

# %% tags=["nbval-ignore-output"]
race = {"dense": vgg, "its copy": copy.deepcopy(vgg)}
race |= {"half zeroed": zeroed, "half removed": removed}
times = measure.latency(race, picture, rounds=31, shortest=0.02)  # seconds a turn
fast = {name: timing.speedup for name, timing in times.items()}
worst = (  # the lower quartile of the one, the upper of the other
    times["half removed"].speedup_quartiles[0]
    / times["half zeroed"].speedup_quartiles[1]
)
claim(
    "The removed one is faster than the zeroed one, by a factor",
    (fast["half removed"] / fast["half zeroed"], worst, worst),
    at_least=1.5,
)
claim(
    "Zeroing gains less than a quarter of what removing gains",
    (fast["half zeroed"] - 1) / (fast["half removed"] - 1),
    at_most=0.25,
)

# %% tags=["figure:speed", "nbval-ignore-output"]
draw.speed(times, guess_speed)
guess_speed.compare(fast["half removed"])

# %% [markdown]
# A whisker spans the middle half of the rounds. Where those of the copy and of the
# zeroed network overlap, the race has shown no difference.
#
# *Why is a quarter of the work not four times as fast?* BatchNorm, ReLU and pooling
# shrink only to a half, and every call costs something of its own. How much each of
# these counts for, we did not measure. Lab 05 times more widths.
#
# ## Which filters?
#
# So far the filters of smallest L1 norm left. It sounds right: small weights do little.
# Lab 02 taught a rule: every score needs a control. Here it is, filters drawn at
# random.
#
# We cut a little less, 30% of the filters of each layer, and train nothing. Part of the
# harm of a cut is easily mended. The means and spreads that BatchNorm has stored are
# those of the whole network. We run 1,024 training pictures through, and let each
# BatchNorm store what it gets *now*. No weight is touched. Lab 07 builds that step;
# here it makes the comparison fair.

# %%
guess_lead = predict(
    "30% of the filters gone, BatchNorm's statistics renewed: how many points of"
    " accuracy is the L1 norm ahead of a random choice? (Negative: behind.)",
    -60,
    60,
    unit="points",
    better="high",
)

# %%
some, few = pictures.validation[:1000], data.sample_batches(pictures.train, 4)
ways = {"L1 norm": l1}
ways |= {f"random, draw {seed + 1}": unit_random(vgg, seed=seed) for seed in range(3)}
# shrink: choose and remove
cut = {name: surgery.shrink(vgg, picture, ways[name], 0.3) for name in ways}
as_cut = {name: training.evaluate(cut[name], some) for name in cut}
for network in cut.values():
    training.reestimate_batchnorm(network, few)
renewed = {name: training.evaluate(cut[name], some) for name in cut}
norm, *chance = (100 * value for value in renewed.values())
claim("Each random draw beats the L1 norm by", min(chance) - norm, at_least=5)

# %% tags=["figure:chosen"]
draw.chosen(as_cut, renewed, training.evaluate(vgg, some))
guess_lead.compare(norm - sum(chance) / 3)

# %% [markdown]
# The classic score loses against a coin, and not by a little. As cut, at the hollow
# squares, the order was another: one step that touches no weight turned it round.
#
# *What is wrong with the score?* Look at what stands behind the filter. BatchNorm
# divides by the spread. If a filter is ten times as large, so is its output, so is the
# spread, and the quotient is what it was. <!-- why: counted -->
#
# Try it. We multiply each of the 64 filters of layer 3 by a random factor, and give
# BatchNorm (layer 4) the means and spreads that belong to it. Nothing is pruned. Then
# the L1 norm chooses 32 of the 64 filters again. Are they the same 32?

# %%
rescaled = copy.deepcopy(vgg)
factors = torch.randn(64, generator=torch.Generator().manual_seed(0)).exp()
with torch.no_grad():
    rescaled[3].weight *= factors.view(-1, 1, 1, 1)
    rescaled[4].running_mean *= factors
    rescaled[4].running_var *= factors**2
    change = (rescaled(some.images) - vgg(some.images)).abs().max()
again = surgery.unit_masks(rescaled, picture, score("l1", rescaled, units=True), 0.5)
same = int((~again["3.weight"] & ~half["3.weight"]).sum())
claim("The two networks answer alike", change, at_most=0.05)
claim("Yet fewer than 24 of the 32 filters are the same", same, at_most=23)

# %% [markdown]
# By chance it would be 16. *Why so few?* The factors decide now, and they change no
# answer. In front of a BatchNorm the size of a filter alone cannot say what the filter
# does.
#
# That shows that the L1 norm *may* be blind. Is this where the points were lost? A
# test: we multiply each norm by what BatchNorm does to the filter, its weight divided
# by its spread. This score is the same for both networks. If the scale was the fault,
# it must do better.

# %%
fair = dict(l1)
for conv, norm in ((0, 1), (3, 4), (7, 8), (10, 11), (14, 15)):
    spread = (vgg[norm].running_var + vgg[norm].eps).sqrt()
    fair[f"{conv}.weight"] = l1[f"{conv}.weight"] * vgg[norm].weight.abs() / spread
network = surgery.shrink(vgg, picture, fair, 0.3)
training.reestimate_batchnorm(network, few)
mended = 100 * training.evaluate(network, some)
gain = mended - 100 * renewed["L1 norm"]
claim("With BatchNorm's factor the L1 norm gains points of accuracy", gain, at_least=10)
ahead = mended - sum(chance) / 3
claim("It is ahead of the mean of chance by", ahead, between=(-6, 6))

# %% [markdown]
# With BatchNorm's factor the score gains many points, so the scale was most of the
# fault at this cut.
# <!-- why: measured: With BatchNorm's factor the L1 norm gains points of accuracy -->
# It is about as good as a coin. And at half of the filters the factor mends little (see
# [further](04_neurons_and_filters_further.ipynb)): something else is at work there, and
# we do not know what.
#
# Li et al. (2017) found small filters safer to remove than random ones, on another
# network. A result about a score is a result about a network, too.
#
# ## And after training?
#
# Nobody ships a network as cut. Does the choice still matter after some training? The
# same four networks get one short pass, over 3,000 of the 55,000 training pictures
# (some 20 seconds in all). The recipe is the same for each.

# %% tags=["nbval-ignore-output"]
recipe = training.Recipe(
    epochs=1, batch_size=64, optimizer="sgd", learning_rate=0.02, weight_decay=5e-4
)
trained = {}
for name, network in cut.items():
    training.fit(network, pictures.train[:3000], recipe, progress=False)
    trained[name] = training.evaluate(network, some)
norm, *chance = (100 * value for value in trained.values())
behind = sum(chance) / 3 - norm
claim(
    "After 47 steps the L1 norm is behind the mean of chance by",
    behind,
    between=(-3, 3),
)

# %% tags=["figure:trained"]
draw.trained(renewed, trained, training.evaluate(vgg, some))

# %% [markdown]
# Nearly all of the gap is gone after 47 steps. *What brought the accuracy back?* The
# training, whoever had chosen.
# <!-- why: measured: After 47 steps the L1 norm is behind --> So "fine-tuned, the
# smaller network lost little" says nothing in favour of a score. Mittal et al. (2018)
# found the same for larger networks: they recover from random pruning as well.
#
# The course's own `vgg_half`, and the thinner networks that labs 08 to 12 make of it,
# began with the filters of largest L1 norm. They were chosen before this control was
# made. Then they were trained for twelve epochs and more, at a high learning rate. We
# did not test what such a long training leaves of the difference.
#
# ## One look at the test set

# %% tags=["nbval-ignore-output"]
half_tuned = baselines.baseline("vgg_half")
exam = pictures.test[:5000]
lost = training.evaluate(vgg, exam) - training.evaluate(half_tuned, exam)
claim("`vgg_half` loses points on 5,000 test pictures", 100 * lost, between=(-1, 1))

# %% [markdown]
# `vgg_half` has half of the filters and does a quarter of the work. After twelve epochs
# of training it loses less than a point.
#
# ## Decide: how many filters of each layer?
#
# Your turn. The VGG has five convolutions with 64, 64, 128, 128 and 256 filters. At
# most 55% of its work may be left. Nothing is retrained, but BatchNorm's statistics are
# renewed. At least 87% of 1,000 validation pictures must be right. You choose how many
# filters stay in each layer, and who chooses them: `"L1 norm"`, `"L1 with BatchNorm"`
# (the fair one from above), `"BatchNorm's weight"` (Liu et al. 2017), `"Taylor"` (lab
# 02) or `"random"`.

# %%
# form: {"score": "random", "stay": [64, 64, 128, 128, 256]}
my_choice = ...
decide("04_neurons_and_filters", my_choice)

# %% [markdown]
# ## Take away
#
# 1. Pruned means zero; removed means smaller. Only the second makes the file small and
# the network fast by itself.
# 2. A unit never leaves alone: its bias, its BatchNorm numbers and its column in the
# next layer go with it.
# 3. In front of a BatchNorm the size of a filter says little. Try a random choice
# before you trust a score.

# %%
quiz("04_neurons_and_filters")

# %% tags=["nbval-ignore-output"]
progress()

# %%
finish()

# %% [markdown]
# **Further:** [more on this lesson](04_neurons_and_filters_further.ipynb): LeNet, the
# ResNet, single layers, the libraries used at work. **Next:** [lab
# 05](05_structured_pruning.ipynb): channels that are tied to others, whole blocks,
# patterns, and which of these makes a network faster.
