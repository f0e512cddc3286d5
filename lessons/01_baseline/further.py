# %% [markdown]
# # 01 Baseline: going further
#
# How far apart do equal networks come out of a race? What does a batch change, what
# does a call cost that does nothing, and where does the energy go?

# %%
import copy

import torch
from torch.utils import benchmark
from torch.utils.flop_counter import FlopCounterMode

from utils import baselines, data, measure, models
from utils.lab import claim, figures, finish, predict
from utils.training import Recipe, fit, predict_logits

draw = figures("01_baseline")
validation = data.load().validation
network, one = baselines.baseline("lenet300"), validation.images[:1]

# %% [markdown]
# ## Twelve names, one network
#
# The lab raced a network against one copy. A bigger race is a harder test: whoever runs
# first, or always after the same neighbour, may find the memory in another state.
# `measure.latency` changes the order from round to round, so that each copy stands at
# each place, and follows each other copy, equally often. 96 rounds are eight times all
# twelve orders.

# %%
copies = {f"copy {n}": copy.deepcopy(network) for n in range(1, 13)}
race = measure.latency(copies, one, rounds=96)

# %% tags=["figure:copies", "nbval-ignore-output"]
draw.copies(race)

# %%
farthest = max(abs(timing.relative - 1) for timing in race.values())
claim("The median that is farthest from 1: by how much", farthest, at_most=0.1)

# %% [markdown]
# This is the noise of the instrument on your machine. A difference between two networks
# that is not clearly larger than this says nothing. It is also not zero for equal
# networks: where a copy lies in memory may matter a little (a conjecture; we did not
# test it).
# <!-- why: conjecture -->
#
# ## One picture or many?
#
# A *batch* is what a network handles in one call. Its *latency* is the time for one
# batch.

# %%
guess_batch = predict(
    "In a batch of 256: the time for each picture, of a lone picture's time?",
    0,
    150,
    unit="%",
    better="low",
)

# %% [markdown]
# `measure.latency` hands every model the same input. Here each has its own batch and
# ignores that input, so that the five sizes can take turns in one race.


# %%
def on_batch(size):
    """A model that handles so many pictures, whatever it is given."""
    images = validation.images[:size]
    return lambda _: network(images)


sizes = {f"batch of {size}": size for size in (1, 4, 16, 64, 256)}
batches = {name: on_batch(size) for name, size in sizes.items()}
timings = measure.latency(batches, one, rounds=40)
micro = {size: 1e6 * timings[name].median / size for name, size in sizes.items()}

# %% tags=["figure:batch", "nbval-ignore-output"]
draw.batches(timings, sizes)
guess_batch.compare(100 * micro[256] / micro[1])

# %% [markdown]
# What is there in a call that 256 pictures can share? One part can be measured: a
# network of the same five modules with one neuron in each layer calculates next to
# nothing. Its time is the cost of calling.

# %%
claim(
    "In a batch of 256: the time of a picture over a lone one's",
    micro[256] / micro[1],
    at_most=0.5,
)
hardly_any = models.lenet300((1, 1)).eval()
calls = measure.latency({"network": network, "one neuron": hardly_any}, one, rounds=100)
claim(
    "The one-neuron network's share of the whole network's time",
    calls["one neuron"].relative,
    at_least=0.15,
)

# %% [markdown]
# So a good part of a lone picture's time is spent on calling. Removing weights or
# neurons cannot save it. A batch pays it once. The weights, too, are fetched once for a
# whole batch; how much of the gain that is, we did not measure. Always state the size
# of the batch and the number of threads with a latency.
# <!-- why: measured: The one-neuron network's share -->
#
# ## Energy: estimated
#
# A laptop seldom lets a program read its energy counter. So we *estimate*: Horowitz
# (2014) lists what one operation takes on a 45 nm chip. A 32-bit multiplication with
# its addition takes 4.6 pJ (picojoules), a byte from main memory 160 pJ or more. Such
# numbers are for comparing, not for quoting.

# %%
guess_energy = predict(
    "The VGG, one picture: the part of the estimated energy for fetching weights?",
    0,
    100,
    unit="%",
)

# %% [markdown]
# The estimate assumes that each weight is read from main memory once for each batch,
# here for one picture.

# %% tags=["figure:energy"]
names = ("lenet300", "resnet", "vgg")
energy = {n: measure.energy_estimate(baselines.baseline(n), one) for n in names}
draw.energy(energy)
guess_energy.compare(100 * energy["vgg"].weights / energy["vgg"].total)

# %%
share = {name: each.weights / each.total for name, each in energy.items()}
claim("LeNet: fetching weights, of the energy", share["lenet300"], at_least=0.95)
claim("ResNet: fetching weights, of the energy", share["resnet"], between=(0.45, 0.6))
claim("VGG: fetching weights, of the energy", share["vgg"], between=(0.4, 0.5))
batch = measure.energy_estimate(network, validation.images[:256])
claim(
    "LeNet, batch of 256: the energy of a picture over a lone one's",
    batch.total / 256 / energy["lenet300"].total,
    at_most=0.1,
)

# %% [markdown]
# A linear layer uses each fetched weight once, a convolution at many positions.
# So the weights dominate the LeNet's estimate, but not the VGG's, where calculating
# takes more. What saves energy depends on the network: fewer weights for the one, fewer
# MACs for the other.
# <!-- why: measured: VGG: fetching weights -->
#
# Some processors have a counter. Can yours be read?

# %% tags=["nbval-ignore-output"]
joules = measure.measured_energy(lambda: predict_logits(network, validation.images))
print(
    "no energy counter can be read here"
    if joules is None
    else f"measured: {joules:.2f} J for 5,000 pictures"
)

# %% [markdown]
# Where it can, it counts the whole processor, with all that runs beside the network.
#
# ## In production
#
# PyTorch counts too. `FlopCounterMode` counts a multiplication and an addition as two
# operations, so its number should be twice ours.

# %%
vgg = baselines.baseline("vgg")
with torch.no_grad(), FlopCounterMode(display=False) as counter:
    vgg(one)
claim(
    "PyTorch's operations for each of our MACs",
    counter.get_total_flops() / measure.macs(vgg, one),
    between=(2, 2),
)

# %% [markdown]
# Ask of a paper which of the two it counts. `torch.utils.benchmark` warms up and
# repeats like `measure.latency`, but for one model at a time: its microseconds can be
# compared only on a quiet machine.

# %% tags=["nbval-ignore-output"]
timer = benchmark.Timer("network(one)", globals={"network": network, "one": one})
with torch.no_grad():
    print(timer.blocked_autorange(min_run_time=0.5))

# %% [markdown]
# ## A network of your own
#
# Later labs use a LeNet that was trained for 20 epochs with the same `fit`. To have
# them use one of your own instead, set `KEEP = True` and run the cell. Numbers in the
# texts of later labs then differ a little from yours.

# %%
KEEP = False
if KEEP:
    own = baselines.build("lenet300", seed=1)
    fit(own, data.load().train, Recipe(epochs=20, learning_rate=3e-3), seed=1)
    baselines.keep_baseline(own, "lenet300")

# %%
finish()
