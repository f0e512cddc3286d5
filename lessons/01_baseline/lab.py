# %% [markdown]
# # 01 Baseline
#
# Every later lab compares a pruned network with a dense one. If the dense one is badly
# measured, so is everything else.

# %% [markdown]
# ## The data
#
# 60,000 pictures were published for training. We set 5,000 of them aside, 500 of each
# class, to choose by: the *validation* set. The 10,000 test pictures stay closed until
# the end.

# %%
from utils import baselines, data

pictures = data.load()
for name, split in pictures._asdict().items():
    print(f"{name:10} {len(split):6,} pictures, each {list(split.images.shape[1:])}")

# %% [markdown]
# ## The network
#
# LeNet-300-100 has three fully connected layers: 784 pixels to 300 neurons, to 100, to
# 10 classes.

# %%
from utils import models

network = baselines.build("lenet300", seed=1)
print(network)

# %% [markdown]
# ## Exercise: accuracy
#
# For each picture the network puts out ten numbers, the *logits*. The largest says
# which class it believes in. Accuracy is the fraction of pictures for which that class
# is right.
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
from utils.lab import check, claim, finish, predict, quiz

accuracy = check(accuracy)

# %% [markdown]
# An untrained network guesses. With ten classes of equal size, one guess in ten is
# right.

# %%
from utils.training import predict_logits

untrained = accuracy(
    predict_logits(network, pictures.validation.images), pictures.validation.labels
)
claim("Before training, accuracy is near one in ten", untrained, between=(0.02, 0.25))

# %%
guess_accuracy = predict(
    "After 12 passes over the training pictures: accuracy on the validation set?",
    0,
    100,
    unit="%",
)

# %% [markdown]
# ## Train
#
# `fit` shows the network all 55,000 pictures 12 times (12 *epochs*), 256 at a time,
# half of them mirrored. This takes 15 to 40 seconds.

# %% tags=["nbval-ignore-output"]
from utils.training import Recipe, fit

recipe = Recipe(epochs=12, batch_size=256, learning_rate=3e-3)
history = fit(network, pictures.train, recipe, validation=pictures.validation, seed=1)

# %% tags=["figure:learning_curve"]
from utils import plots

plots.show(
    plots.lines(
        range(13),
        {"validation accuracy": [untrained, *history.validation_accuracy]},
        title="Most is learnt in the first epoch",
        x_label="epoch",
        y_label="accuracy, %",
        percent=True,
        y_limits=(0, 100),
        guess=guess_accuracy,
    ),
    alt=(
        "Learning curve: validation accuracy jumps from a tenth to over 80 percent in"
        " one epoch, then creeps to about 89."
    ),
)

# %%
trained = accuracy(
    predict_logits(network, pictures.validation.images), pictures.validation.labels
)
guess_accuracy.compare(100 * trained)
claim(
    "After training, more than 87 in 100 validation pictures are recognised",
    trained,
    at_least=0.87,
)
claim(
    "The training loss has fallen to less than half",
    history.train_loss[-1] / history.train_loss[0],
    at_most=0.5,
)

# %% [markdown]
# ### Keep it?
#
# Later labs use a network that was trained a little longer with the same `fit` (20
# epochs). To have them use yours instead, set `KEEP = True` and run the cell. Numbers
# in the texts of later labs then differ a little from yours.

# %%
KEEP = False
if KEEP:
    baselines.keep_baseline(network, "lenet300")

# %% [markdown]
# ## How sure are we of the accuracy?
#
# Two things make it uncertain. *Which pictures* happened to be in the validation set:
# for 5,000 pictures and 89% the margin of such a sample (95%) is about 0.9 points. And
# *chance in training*: the order of the pictures and the first weights depend on a
# seed. We train three networks for two epochs, with nothing changed but the seed.

# %% tags=["nbval-ignore-output"]
short = Recipe(epochs=2, learning_rate=3e-3)
by_seed = {}
for seed in (1, 2, 3):
    twin = baselines.build("lenet300", seed=seed)
    by_seed[f"seed {seed}"] = fit(
        twin, pictures.train, short, validation=pictures.validation, seed=seed
    ).validation_accuracy[-1]


# %% tags=["figure:seeds"]
def margin(accuracy, count):
    """Half the width of a 95% interval for an accuracy measured on so many pictures."""
    return 1.96 * (accuracy * (1 - accuracy) / count) ** 0.5


intervals = {
    s: (100 * (a - margin(a, 5000)), 100 * (a + margin(a, 5000)))
    for s, a in by_seed.items()
}
plots.show(
    plots.dots(
        {name: 100 * a for name, a in by_seed.items()},
        intervals,
        title="Same recipe, three seeds (line: margin of 5,000 pictures)",
        x_label=(
            "validation accuracy after two epochs, % (the axis does not start at zero)"
        ),
        unit="%",
    ),
    alt=(
        "Three dots close together, each with an interval of about two points: the"
        " seeds differ by less than that."
    ),
)

# %%
spread = max(by_seed.values()) - min(by_seed.values())
claim("Three seeds differ", spread, at_least=0.0001)
claim("but by less than three points", spread, at_most=0.03)

# %% [markdown]
# So a difference of half a point between two networks may mean nothing. When this
# course compares methods that are that close, it shows several seeds.

# %% [markdown]
# ## What it costs: parameters and multiplications
#
# A weight of a linear layer is used once for each picture. So LeNet does as many
# multiply-accumulates (*MACs*) as it has weights. A convolution uses each weight at
# every position of its output.
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
    """MACs for one picture; kernel x kernel weights for each input channel, height x
    width output positions."""
    ...


# %%
conv_macs = check(conv_macs)

# %% [markdown]
# The course's VGG has five convolutions and one linear layer. The second convolution
# alone, 64 filters over 64 channels at 28 x 28 positions, does a third of the work with
# 7% of the weights.

# %%
from utils import measure

one = pictures.validation.images[:1]
vgg = baselines.build("vgg")
second = conv_macs(filters=64, inputs=64, kernel=3, height=28, width=28)
print(f"second convolution: {second:,} MACs, {64 * 64 * 9:,} weights")
print(
    f"whole VGG:          {measure.macs(vgg, one):,} MACs, {measure.parameters(vgg):,}"
    " parameters"
)
claim(
    "A third of the VGG's MACs are in one layer",
    second / measure.macs(vgg, one),
    between=(0.31, 0.35),
)
claim(
    "which has 7% of the parameters",
    second / 28**2 / measure.parameters(vgg),
    between=(0.06, 0.08),
)

# %%
for name in models.MODELS:
    model = baselines.build(name)
    print(
        f"{name:9} {measure.parameters(model):9,} parameters"
        f" {measure.macs(model, one):12,} MACs"
    )

# %% [markdown]
# ## What it costs: bytes
#
# Each parameter is stored in four bytes. A file holds little else.

# %%
size = measure.file_bytes(network)
print(f"{size:,} bytes for {measure.parameters(network):,} parameters")
claim(
    "The file is four bytes a parameter, and less than 1% more",
    size / (4 * measure.parameters(network)),
    between=(1, 1.01),
)

# %% [markdown]
# ## What it costs: time
#
# A clock is the worst of our instruments. Other programs, power saving and caches all
# change what it says. Here is the same network on the same picture, timed 200 times.

# %%
guess_ratio = predict(
    "The slowest of 200 runs takes how many times as long as the fastest?",
    1,
    1000,
    unit="times",
)

# %% tags=["figure:noise", "nbval-ignore-output"]
import time

import torch

torch.set_num_threads(1)
seconds = []
with torch.no_grad():
    for _ in range(200):
        started = time.perf_counter()
        network(one)
        seconds.append(time.perf_counter() - started)
torch.set_num_threads(2)
slow = max(seconds) / min(seconds)
plots.show(
    plots.lines(
        range(200),
        {"one picture": [1e6 * s for s in seconds]},
        title=(
            f"Same network, same picture: the slowest took {slow:.1f} times the fastest"
        ),
        x_label="run",
        y_label="microseconds",
        y_limits=(0, 1.05e6 * max(seconds)),
    ),
    alt=(
        "Times of 200 runs of the same work: most lie close together, a few take"
        " several times as long."
    ),
)

# %%
guess_ratio.compare(slow)
claim(
    "The slowest of 200 runs takes at least 1.2 times as long as the fastest",
    slow,
    at_least=1.2,
)

# %% [markdown]
# Hence four rules, which `measure.latency` follows: warm up first; pin the number of
# threads; compare networks *in turn within one run*, so that a disturbance hits both;
# give the median and the quartiles, not the best.
#
# The test of an instrument: time the same network under two names. The ratio must be 1.

# %%
twins = measure.latency({"network": network, "the same again": network}, one)
claim(
    "Timed in turn, a network is as fast as itself",
    twins["the same again"].speedup,
    between=(0.7, 1.4),
)

# %% [markdown]
# ### One picture or many?
#
# *Latency* is the time for one batch. A batch of 256 pictures takes longer than one
# picture, but nowhere near 256 times as long: each weight is fetched from memory once
# and used for all of them.

# %% tags=["figure:batch", "nbval-ignore-output"]
sizes = (1, 4, 16, 64, 256)
batches = {
    size: lambda _, batch=pictures.validation.images[:size]: network(batch)
    for size in sizes
}
timings = measure.latency(batches, one)
per_picture = {size: 1e6 * timing.median / size for size, timing in timings.items()}
plots.show(
    plots.bars(
        {f"batch of {batch}": value for batch, value in per_picture.items()},
        title="A large batch makes each picture cheap",
        x_label="microseconds a picture (median, one thread)",
        digits=1,
    ),
    alt=(
        "Bars of microseconds for each picture: longest for a batch of one, several"
        " times shorter for large batches."
    ),
)

# %%
claim(
    "In a batch of 256 a picture takes less than half the time",
    per_picture[256] / per_picture[1],
    at_most=0.5,
)

# %% [markdown]
# ## What it costs: energy
#
# A laptop seldom lets a program read its energy counter. So we *estimate*: Horowitz
# (2014) lists what one operation takes on a 45 nm chip: a 32-bit multiply-accumulate
# 4.6 pJ, a byte from main memory about 160 pJ. Use such numbers to compare, not to
# quote.

# %% tags=["nbval-ignore-output"]
joules = measure.measured_energy(
    lambda: predict_logits(network, pictures.validation.images)
)
print(
    "no energy counter can be read here"
    if joules is None
    else f"measured: {joules:.2f} J for 5,000 pictures"
)

# %%
single = measure.energy_estimate(network, one)
print(single)
claim(
    "For one picture, fetching weights takes over 90% of the estimated energy",
    single.weights / single.total,
    at_least=0.9,
)
batch = measure.energy_estimate(network, pictures.validation.images[:256])
claim(
    "In a batch of 256 a picture takes less than a tenth of it",
    batch.total / 256 / single.total,
    at_most=0.1,
)

# %% [markdown]
# That is one reason to prune: not the multiplications cost most, but fetching the
# weights.

# %% [markdown]
# ## In production
#
# PyTorch counts too. `FlopCounterMode` counts a multiplication and an addition as two
# operations, so its number is twice ours. `torch.utils.benchmark` warms up and repeats
# like `measure.latency`, for one model at a time.

# %%
from torch.utils.flop_counter import FlopCounterMode

with torch.no_grad(), FlopCounterMode(display=False) as counter:
    vgg.eval()(one)
claim(
    "PyTorch counts two operations for each of our MACs",
    counter.get_total_flops() / measure.macs(vgg, one),
    between=(2, 2),
)

# %% tags=["nbval-ignore-output"]
from torch.utils import benchmark

print(
    benchmark.Timer(
        "network(one)", globals={"network": network, "one": one}
    ).blocked_autorange(min_run_time=0.5)
)

# %% [markdown]
# ## One look at the test set

# %%
test = accuracy(predict_logits(network, pictures.test.images), pictures.test.labels)
claim(
    "Test and validation accuracy differ by less than two points",
    abs(test - trained),
    at_most=0.02,
)

# %% [markdown]
# ## Take away
#
# 1. Parameters, MACs and bytes are counted and exact; time is measured and noisy;
# energy is mostly estimated.
# 2. Compare times as ratios within one run. Compare accuracies knowing the spread over
# seeds and the margin of the sample.
# 3. A convolution's work is in its positions, not in its weights; a lone picture's
# energy is in fetching the weights.

# %%
quiz("01_baseline")

# %%
finish()

# %% [markdown]
# **Next:** [02 Scores](02_scores.ipynb). Which of these weights does the network need?
