# %% [markdown]
# # 01 Baseline
#
# Every later lab compares a pruned network with a dense one. If the comparison is badly
# measured, nothing that follows is worth much. So this lab has one idea: compare two
# things under the same conditions, and say how far off the number may be.

# %% [markdown]
# ## The data and the network
#
# 60,000 pictures were published for training. We set 5,000 of them aside, 500 of each
# class, to choose by: the *validation* set. The 10,000 test pictures stay closed until
# the end.
#
# LeNet-300-100 has three fully connected layers: 784 pixels to 300 neurons, to 100, to
# 10 classes. The seed says which random weights it begins with.

# %%
import copy
import time

import torch

from utils import baselines, data, measure
from utils.lab import check, claim, figures, finish, predict, progress, quiz
from utils.studies import runs
from utils.training import Recipe, fit, predict_logits

draw = figures("01_baseline")
pictures = data.load()
for name, split in pictures._asdict().items():
    print(f"{name:10} {len(split):6,} pictures, each {list(split.images.shape[1:])}")
network = baselines.build("lenet300", seed=1)

# %% [markdown]
# ## Exercise: accuracy
#
# For each picture the network puts out ten numbers, the *logits*. The largest says
# which class it answers. Accuracy is the fraction of pictures for which that class is
# right.
#
# <details><summary>Hint 1</summary>Where in each row is the largest entry?</details>
# <details><summary>Hint 2</summary><code>logits.argmax(dim=1)</code> has one class a
# picture. Compare it with
# <code>labels</code>.</details>
# <details><summary>Hint 3</summary>The mean of trues and falses: <code>(a ==
# b).float().mean()</code>.</details>


# %%
def accuracy(logits, labels):
    """Fraction (0..1) of the rows of logits [n, classes] whose largest entry is at the
    right class, labels [n]."""
    ...


# %%
accuracy = check(accuracy)

# %% [markdown]
# ## Three guesses before we train
#
# We shall show the network all 55,000 pictures 12 times: 12 *epochs*. Before that it
# answers at random, and with ten classes one answer in ten is right.
#
# The other two guesses are about chance and about a method. The first weights of a
# network are drawn at random, and so is the order of the pictures. A *seed* fixes these
# draws. We trained ten networks for four epochs, with ten seeds and nothing else
# changed. Half of the pictures they saw were mirrored. Ten more networks saw no
# mirrored picture.

# %%
guess_first = predict(
    "After the first of 12 epochs: accuracy on the validation pictures?",
    0,
    100,
    unit="%",
    better="high",
)
guess_spread = predict(
    "Ten seeds, mirrored: points of accuracy between the best and the worst?",
    0,
    20,
    unit="points",
)
guess_mirrored = predict(
    "Points of accuracy that mirrored pictures gain, in the mean (below 0: they lose)?",
    -10,
    10,
    unit="points",
    better="high",
)

# %% [markdown]
# `fit` trains a network: 256 pictures at a time, half of them mirrored. This takes 15
# to 60 seconds.

# %% tags=["nbval-ignore-output"]
validation, labels = pictures.validation, pictures.validation.labels
untrained = accuracy(predict_logits(network, validation.images), labels)
recipe = Recipe(epochs=12, batch_size=256, learning_rate=3e-3)
history = fit(network, pictures.train, recipe, validation=validation, seed=1)

# %% [markdown]
# The curve begins with the untrained network, at epoch 0.

# %% tags=["figure:learning_curve"]
curve = [untrained, *history.validation_accuracy]
draw.learning_curve(curve)
guess_first.compare(100 * curve[1])
claim("My network's accuracy on the validation pictures", curve[-1], at_least=0.87)

# %% [markdown]
# Most is learnt in the first epoch. What may the other eleven have been for?
#
# ## How sure are we? Chance in training
#
# Now the twenty networks. They were trained beforehand, and what each answered to each
# validation picture was written down, a digit a picture (`study.py` and `results/` in
# the folder of this lesson).

# %%
answers = {"mirrored": [], "not mirrored": []}  # ten tensors each, [5000]
for run in runs("seeds"):
    answers[run["method"]].append(torch.tensor([int(c) for c in run["answers"]]))
accuracies = {
    method: [(each == labels).float().mean().item() for each in found]
    for method, found in answers.items()
}

# %% [markdown]
# Each dot of the figure is one network.

# %% tags=["figure:seeds"]
spread = max(accuracies["mirrored"]) - min(accuracies["mirrored"])
draw.seeds(accuracies)
guess_spread.compare(100 * spread)
claim("Ten seeds, mirrored: best minus worst", spread, at_most=0.005)

# %% [markdown]
# Another seed, and nearly the same accuracy. Is it the same network, then? Decide
# before you read on.
#
# ## How sure are we? Which pictures
#
# The other chance is in the pictures. Other 5,000 pictures of the same kind would give
# another number. In 19 samples of 20 an accuracy *p* on *n* pictures is off by less
# than 1.96 times the square root of *p(1 - p)/n*. This is its *margin*.
#
# Two networks are mostly compared on the *same* pictures. A picture that both get right
# does not tell which is better, and neither does one that both get wrong. Only pictures
# count that one network *alone* gets right (McNemar 1947). So give each picture a
# number: 1 if only the first network is right, -1 if only the second is, 0 otherwise.
# The mean is the difference of the two accuracies. Its margin is 1.96 standard
# deviations over the square root of *n*. This is a *paired* comparison. Here it is by
# hand, for the first two seeds.

# %%
first, second = answers["mirrored"][:2]
right_first, right_second = first == labels, second == labels
each = right_first.float() - right_second.float()  # [5000]: 1, 0 or -1
p, n = accuracies["mirrored"][0], len(each)
alone = 1.96 * (p * (1 - p) / n) ** 0.5
paired = 1.96 * each.std().item() / n**0.5
found = measure.paired_difference(first, second, labels)
others = (first != second).float().mean()
claim("Two seeds: the share of pictures they answer differently", others, at_least=0.02)
claim("The margin of one accuracy alone", alone, between=(0.008, 0.01))
claim("The margin of the difference, paired", paired, at_most=0.006)
claim("measure.paired_difference agrees", found.margin / paired, between=(0.999, 1.001))
pairs = [measure.paired_difference(*two, labels) for two in zip(*answers.values())]
gain = sum(pair.difference for pair in pairs) / len(pairs)

# %% [markdown]
# So these are two networks, not one: they answer about one picture in thirty
# differently, and yet are right nearly equally often. The paired margin is about half
# of the margin that each accuracy has alone. From here on the course compares with
# `measure.paired_difference`.
#
# ## One pair, or ten?
#
# Now the method. The last two lines of the cell above took a pair of networks for each
# seed: one that saw mirrored pictures and one that did not. `gain` is the mean of the
# ten differences. A pair *cannot tell* when its margin holds zero.

# %% tags=["figure:pairs"]
draw.pairs(pairs)
guess_mirrored.compare(100 * gain)
claim("The mean gain by mirrored pictures, ten seeds", gain, at_most=-0.002)
claim("Pairs that cannot tell", sum(m > abs(d) for d, m in pairs), between=(3, 7))

# %% [markdown]
# Did you expect a gain? Nearly all dots lie on one side: after four epochs, mirrored
# pictures cost accuracy here. (After 20 epochs, too? We did not test it.) Yet half of
# the pairs cannot tell. With one run of each method you would have been sure with one
# seed, and would have said "nothing to see" with the next. What is it that a single
# pair leaves out?
#
# A paired margin speaks for *these two networks*, on other pictures of the same kind.
# It knows nothing of other seeds. To speak for a *method*, take several seeds and show
# them all.
#
# ## What it costs: counted
#
# Accuracy is half of a comparison; the other half is cost. Three costs are counted, and
# exact. *Parameters* are the numbers in the network. *Bytes*: each of them takes four
# in a file. *MACs*, multiply-accumulates, are the multiplications for one picture, each
# with its addition. A weight of a linear layer is used once for each picture. A
# convolution slides a small table of weights, its *kernel*, over the picture, and so
# uses each weight at every position of its output.
#
# ### Exercise: MACs of a convolution
#
# <details><summary>Hint 1</summary>How many numbers does one filter multiply at one
# position?</details>
# <details><summary>Hint 2</summary><code>inputs * kernel * kernel</code>; how many
# filters, how many positions?</details>
# <details><summary>Hint 3</summary>The product of all: filters, inputs, kernel twice,
# height, width.</details>


# %%
def conv_macs(filters, inputs, kernel, height, width):
    """MACs for one picture: filters, each with kernel x kernel weights for each of the
    inputs (channels), at height x width output positions."""
    ...


# %% [markdown]
# The course's VGG has five convolutions and one linear layer. Its second convolution
# has 64 filters over 64 channels, and 28 x 28 positions.

# %%
conv_macs = check(conv_macs)
one, vgg = validation.images[:1], baselines.build("vgg")
second_layer = conv_macs(filters=64, inputs=64, kernel=3, height=28, width=28)
claim(
    "LeNet: MACs for each weight",
    measure.macs(network, one)
    / sum(w.numel() for w in network.parameters() if w.dim() > 1),
    between=(1, 1),
)
claim(
    "VGG: the second convolution's share of the MACs",
    second_layer / measure.macs(vgg, one),
    between=(0.31, 0.35),
)
claim(
    "VGG: its share of the parameters",
    64 * 64 * 9 / measure.parameters(vgg),
    between=(0.06, 0.08),
)
claim(
    "LeNet: bytes of the file for each parameter",
    measure.file_bytes(network) / measure.parameters(network),
    between=(4, 4.04),
)

# %% [markdown]
# A third of the VGG's work is in a layer with a fourteenth of its weights. In the
# linear LeNet, work and weights are the same number.
#
# ## What it costs: time
#
# A clock is the worst of our instruments. Here is the same network with the same
# picture, timed 200 times.

# %%
guess_ratio = predict(
    "The slowest of 200 runs takes how many times as long as the fastest?",
    1,
    1000,
    unit="times",
)

# %% [markdown]
# This is the whole instrument: look at the clock, call the network, look again.


# %%
def seconds_of(model):
    """Seconds of one call with one picture."""
    started = time.perf_counter()
    model(one)
    return time.perf_counter() - started


threads = torch.get_num_threads()
torch.set_num_threads(1)
with torch.no_grad():
    seconds = [seconds_of(network) for _ in range(200)]

# %% [markdown]
# The vertical axis of the figure is logarithmic: a step from 50 to 100 is as high as
# one from 500 to 1,000.

# %% tags=["figure:noise", "nbval-ignore-output"]
draw.noise(seconds)
slow = max(seconds) / min(seconds)
guess_ratio.compare(slow)

# %% [markdown]
# Which run was the slowest? And where does the first one stand? It came after a pause,
# the others one right after the other. Look also at what follows a disturbance.
#
# So there are four rules. Warm up first, and throw the first calls away. Pin the number
# of processor threads. Give the median and the quartiles, not the best. And compare
# networks *in turn*: in each round each runs once, so that a disturbance hits both, and
# the *ratio* is taken within the round. This is pairing again: same moment instead of
# same picture. The test of such an instrument is to race a network against its own
# copy.

# %%
twin = copy.deepcopy(network)
with torch.no_grad():
    rounds = [(seconds_of(network), seconds_of(twin)) for _ in range(400)]
torch.set_num_threads(threads)
ratios = torch.tensor([b / a for a, b in rounds[10:]])  # without the warm-up
raced = measure.latency({"network": network, "twin": twin}, one, rounds=100)
slower = sum(other < seconds[0] for other in seconds) / 200
claim("The slowest of 200 runs over the fastest", slow, at_least=1.2)
claim("The share of runs that were faster than the first one", slower, at_least=0.9)
claim("Twin over network, in turn: median ratio", ratios.median(), between=(0.9, 1.1))
claim(
    "The same by measure.latency",
    (raced["twin"].relative, *raced["twin"].relative_quartiles),
    between=(0.9, 1.1),
)

# %% [markdown]
# A single time can be many times too long; the median of ratios taken in turn is
# nearly one, as it should be for two equal networks. `measure.latency` keeps the four
# rules and changes the order from round to round. All times of this course are taken
# with it. In [the further notebook](01_baseline_further.ipynb) twelve copies race, and
# you meet batches and energy.
#
# ## One look at the test set

# %%
test = accuracy(predict_logits(network, pictures.test.images), pictures.test.labels)
margin = 1.96 * (test * (1 - test) / len(pictures.test)) ** 0.5
claim("My network's accuracy on the test pictures", test, at_least=0.86)
claim("Its margin, with 10,000 pictures", margin, at_most=0.007)
claim("Validation minus test accuracy", curve[-1] - test, between=(-0.02, 0.02))

# %% [markdown]
# Twice as many pictures, and a smaller margin: it shrinks with the square root of their
# number.
#
# ## Take away
#
# 1. Parameters, MACs and bytes are counted and exact; accuracy and time are measured,
# and have a margin.
# 2. Compare under the same conditions: accuracies on the same pictures, times in turn
# within one run.
# 3. One pair of networks speaks for these two networks. To speak for a method takes
# several seeds.

# %%
quiz("01_baseline")

# %% tags=["nbval-ignore-output"]
progress()

# %%
finish()

# %% [markdown]
# **Next:** [02 Scores](02_scores.ipynb). Which of these weights does the network need?
# Or go [further](01_baseline_further.ipynb): many copies in one race, batches, energy.
