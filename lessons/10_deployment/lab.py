# %% [markdown]
# # 10 Deployment
#
# So far PyTorch ran everything. A phone gets a file with the network, and a small
# program, the *runtime*, that runs such files. Here the file is ONNX and the program is
# ONNX Runtime. (Its own megabytes come on top of the file; an app pays them once.)

# %%
import tempfile
from pathlib import Path

from utils import baselines, data, deploy, measure, studies, training
from utils.data import sample_batches
from utils.lab import check, claim, decide, figures, finish, predict, progress, quiz

draw = figures("10_deployment")
pictures = data.load()
some = pictures.validation[:1000]
one = some.images[:1]
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## The network as a file
#
# Exporting runs the network once, writes down every operation, and stores the list with
# the weights. Whatever Python did around it is gone. Which operations are there?

# %%
vgg = baselines.baseline("vgg")
sizes = {"dense, ONNX Runtime": deploy.to_onnx(vgg, one, folder / "dense.onnx")}
graph = deploy.read_onnx(folder / "dense.onnx").graph
operations = [node.op_type for node in graph.node]
print(", ".join(operations))
claim(
    "So many of them are BatchNorm", operations.count("BatchNormalization"), at_most=0
)

# %% [markdown]
# The VGG has five BatchNorm layers, and the file has none. In eval mode BatchNorm
# multiplies each channel by a number and adds another. The convolution before it can do
# both with its own weights and bias, so the exporter folded them in.
#
# Are the answers still the same? That must be checked, not believed: an export can go
# wrong without an error, with a layer left in training mode or another padding.
#
# ### Exercise: do the two agree?
#
# <details><summary>Hint 1</summary>Two numbers: how far apart is the worst output, and
# on how many pictures is the class the same?</details>
# <details><summary>Hint 2</summary>The largest difference needs <code>abs()</code>
# before <code>max()</code>.</details>
# <details><summary>Hint 3</summary>The class of a picture is <code>argmax(1)</code>;
# the mean of a comparison is a fraction.</details>


# %%
def compare(ours, theirs):
    """Outputs [n, classes] of two networks for the same pictures: the largest
    difference of any output, and the fraction of pictures, 0..1, that get the same
    class from both. Two Python floats."""
    ...


# %%
compare = check(compare)

# %% [markdown]
# With your function we check three files. The first is the dense VGG. The second is
# `vgg_thin`, which has 8, 16, 32, 48 and 64 filters where the VGG has 64, 64, 128, 128
# and 256. Half of the filters were removed and the rest trained (lab 04); then it was
# thinned again by L1 norm and trained for 24 epochs more. The third is the thin network
# in int8 (lab 08), with ranges measured on four batches of training pictures.

# %%
thin, batches = baselines.baseline("vgg_thin"), sample_batches(pictures.train, count=4)
sizes["thin, ONNX Runtime"] = deploy.to_onnx(thin, one, folder / "thin.onnx")
for name in ("dense", "thin"):
    path = folder / f"{name}_int8.onnx"
    sizes[f"{name}, int8"] = deploy.to_int8(folder / f"{name}.onnx", batches, path)
files = {p.stem: deploy.Session(p) for p in sorted(folder.glob("*.onnx"))}
for name, network in [("dense", vgg), ("thin", thin), ("thin_int8", thin)]:
    ours = training.predict_logits(network, some.images)
    far, agree = compare(ours, training.predict_logits(files[name], some.images))
    most = 2 if "int8" in name else 1e-3
    claim(f"{name}: the worst output is off by so much", far, at_most=most)
    least = 97 if "int8" in name else 99.9
    claim(
        f"{name}: so many % of the pictures get the same class",
        100 * agree,
        at_least=least,
    )

# %% [markdown]
# The two fp32 files give the same answers but for rounding. int8 rounds more, and
# changes a few.
#
# ## How fast?
#
# Six things to race: each network in PyTorch, in ONNX Runtime and in int8. Two guesses
# about the runtime alone, the same numbers in another program, one picture at a time
# and on one thread:

# %%
ask = "The {} VGG: how many times faster in ONNX Runtime than in PyTorch, both in fp32?"
guess_dense = predict(ask.format("dense"), 0, 50, unit="times", better="high")
guess_thin = predict(ask.format("thin"), 0, 50, unit="times", better="high")
work = measure.macs(vgg, one) / measure.macs(thin, one)
claim("The thin network does so many times less work", work, between=(10, 20))
race = {
    "dense, PyTorch": vgg,
    "dense, ONNX Runtime": files["dense"],
    "dense, int8": files["dense_int8"],
    "thin, PyTorch": thin,
    "thin, ONNX Runtime": files["thin"],
    "thin, int8": files["thin_int8"],
}
timings = measure.latency(race, one, rounds=25, shortest=0.01)
faster = {name: timing.speedup for name, timing in timings.items()}

# %% tags=["figure:six", "nbval-ignore-output"]
draw.six(timings)
guess_dense.compare(faster["dense, ONNX Runtime"])
guess_thin.compare(faster["thin, ONNX Runtime"] / faster["thin, PyTorch"])

# %% [markdown]
# Each round of the race times all six in turn, so other work on the machine slows all
# alike. The factor of a row is the median, over the rounds, of the dense network's time
# in PyTorch over its own; all numbers of this lab that say "faster" are made of these
# six. Was the runtime worth more to the dense or to the thin network, and had you
# expected that it makes a difference?
#
# ### Exercise: the share of each step
#
# Times multiply: a step that halves the time and one that makes it a third make it a
# sixth. So the share of a step is a factor.
#
# <details><summary>Hint 1</summary>A step's factor compares with the step before it,
# not with the first one.</details>
# <details><summary>Hint 2</summary>Before divided by after: above 1 is
# faster.</details>
# <details><summary>Hint 3</summary>There is one factor fewer than there are times;
# <code>zip(times, times[1:])</code> gives the pairs.</details>


# %%
def step_factors(times):
    """Times after each step, the first before any: by how much each step made it
    faster, as a list one shorter. Their product is what all of them together gave."""
    ...


# %% [markdown]
# "Which step gave how much?" seems to have one answer. We take the same three steps,
# prune, change the runtime, round to int8, in two orders, from the same race.

# %%
step_factors = check(step_factors)
sizes |= {
    "dense, PyTorch": measure.file_bytes(vgg),
    "thin, PyTorch": measure.file_bytes(thin),
}
start, end = "dense, PyTorch", "thin, int8"
orders = {
    "Prune first": {
        "start": start,
        "+ pruned": "thin, PyTorch",
        "+ ONNX Runtime": "thin, ONNX Runtime",
        "+ int8": end,
    },
    "Runtime first": {
        "start": start,
        "+ ONNX Runtime": "dense, ONNX Runtime",
        "+ int8": "dense, int8",
        "+ pruned": end,
    },
}
share = {}
for title, order in orders.items():
    factors = step_factors([1 / faster[name] for name in order.values()])
    share[title] = dict(zip(list(order)[1:], factors, strict=True))

# %% tags=["figure:waterfall", "nbval-ignore-output"]
draw.waterfall(timings, sizes, orders)

# %%
early, late = share["Prune first"], share["Runtime first"]
runtime = early["+ ONNX Runtime"] / late["+ ONNX Runtime"]
claim("The runtime's factor: after pruning over before it", runtime, at_least=1.2)
eight = early["+ int8"] / late["+ int8"]
claim("int8's factor: after pruning over before it", eight, at_most=0.9)
claim("All steps together: so many times faster", faster[end], at_least=10)
claim("So many times smaller", sizes[start] / sizes[end], at_least=40)
bits = sizes["thin, ONNX Runtime"] / sizes[end]
claim("Of that int8 gives, of the thin file", bits, between=(3, 4))

# %% [markdown]
# Both orders end at the same file, at the same factor. But the shares differ: the
# runtime is worth more on the thin network than on the dense one, and int8 less. So
# "pruning made it so many times faster" is no property of pruning; it holds for this
# place in this order. To say what a step is worth, say what was there before it, or
# show both orders. Sizes have little of this trouble: the file shrinks by similar
# factors in both (right panels).
#
# Why the shares differ we did not measure. Likely the thin network's time in PyTorch is
# to a large part the cost of calling its layers one by one, which the runtime saves;
# and int8 needs wide layers to be worth its own rounding. How much time int8 gains
# depends on the processor, too: some have instructions made for it (VNNI on PCs).
# Compare your figure with the one on the page.
#
# ## Energy
#
# Estimated, not measured, from counted operations and bytes with the constants of
# Horowitz (2014): 4.6 pJ for a multiply-add in fp32, 0.3 pJ in int8, and 162.5 pJ for a
# byte from memory: 35 times as much as the multiply-add. A batch is one picture here.

# %%
guess_energy = predict(
    "Thin int8 instead of dense: how many % of the saving is saved arithmetic?",
    0,
    100,
    unit="%",
)

# %%
dense_cost = measure.energy_estimate(vgg, one)
thin_cost = measure.energy_estimate(thin, one, int8=True)
print(f"dense     {dense_cost}\nthin int8 {thin_cost}")
saved = 1e6 * (dense_cost.total - thin_cost.total)
at_work = 1e6 * (dense_cost.arithmetic - thin_cost.arithmetic)
guess_energy.compare(100 * at_work / saved)
at_weights = 1e6 * (dense_cost.weights - thin_cost.weights)
claim(
    "Arithmetic saves so many times what the weights save",
    at_work / at_weights,
    between=(1, 1.3),
)

uses = measure.macs(vgg, one) / measure.parameters(vgg)
claim("One picture uses each weight of the dense VGG so many times", uses, at_least=100)

# %% [markdown]
# By this estimate the arithmetic saves a little more than the smaller file does. A byte
# costs 35 times a multiply-add; but one picture needs over a hundred multiply-adds for
# each weight, as a filter is used at each place of the picture. Which of the two did
# you forget? In a network of matrix products, like LeNet, each weight is used once.
#
# ## Decide: a smaller device
#
# Another device has less of everything. While a layer computes, its input and its
# output must both be in memory (one picture; int8 has 1 byte a number, fp32 4). Wanted:
#
# - a file of at most 48,000 bytes, and at most 16,000 bytes of memory for the maps of
#   any layer (the maps are 28, 28, 14, 14 and 7 points wide);
# - at most 5 million MACs;
# - at least 88% of 2,000 validation pictures right, without further training.
#
# You start with the thin VGG. Its five layers have 8, 16, 32, 48 and 64 filters. Choose
# how many to remove from each, by which score, whether BatchNorm is re-estimated then
# (lab 07), and the format. What is measured is the file. A try takes about ten seconds.

# %%
# {"remove": (1, 1, 1, 1, 1), "score": "l1", "reestimate": True, "format": "fp32"}
my_choice = ...
decide("10_deployment", my_choice)

# %% [markdown]
# Each limit is decided in a different part of the network. Which layers hold the bytes,
# which the memory, which the MACs? And which goal would you ask the device's maker to
# relax?
#
# ## One look at the test set
#
# All choices were made on validation pictures. One guess before the test set is opened:

# %%
guess_lost = predict(
    "Thin, in int8: how many points of test accuracy below the dense VGG?",
    -5,
    10,
    unit="points",
    better="low",
)
names = ("vgg", "vgg_thin", "vgg_thin_1", "vgg_thin_2")
facts = {name: baselines.baseline_facts(name) for name in names}
right = {name: 100 * fact["test_accuracy"] for name, fact in facts.items()}
for run in studies.runs("deployment", loss="labels alone"):
    right[f"{run['network']}, int8"] = 100 * run["test_accuracy"]
interval = {n: 1.96 * (p * (100 - p) / 10_000) ** 0.5 for n, p in right.items()}

# %% tags=["figure:accuracy", "nbval-ignore-output"]
draw.accuracy(right, interval)
live = 100 * training.evaluate(files["thin_int8"], pictures.test)
guess_lost.compare(right["vgg"] - live)

# %%
claim("The deployed file: so many % of the test pictures", live, at_least=93)
int8 = [value for name, value in right.items() if name.endswith("int8")]
lost = right["vgg"] - sum(int8) / 3
claim(
    "Below the dense VGG, mean of three int8 files, points", lost, between=(-0.5, 0.5)
)
epochs = {
    name: sum(stage["recipe"]["epochs"] for stage in fact["stages"])
    for name, fact in (facts | {"half": baselines.baseline_facts("vgg_half")}).items()
}
longer = epochs["half"] + epochs["vgg_thin"]
claim("Epochs of the dense VGG", epochs["vgg"], between=(14, 14))
claim("Epochs after that, on the way to the thin one", longer, between=(36, 36))

# %% [markdown]
# The thin network is not worse than the dense one: all intervals overlap, and the
# differences are about as small as those between seeds. Did your guess ask a price for
# a fifteenth of the work? That there is none here does not show that pruning is free.
# The dense VGG was trained for 14 epochs, and the thin one for 36 more on its way;
# trained for as long, the dense one might gain, too. Nor did we train the thin one from
# scratch, the control of lab 07: it might do as well. What the figure compares is what
# we had with what we deploy.
#
# ## Take away
#
# 1. Check the file, not the network: the same answers, real bytes, time on the machine
#    that will run it.
# 2. Say what a number is compared with: the program alone is worth a factor, and the
#    share of a step depends on what was there before it.
# 3. A device has several limits, and each is decided in a different part of the
#    network.

# %%
quiz("10_deployment")

# %% tags=["nbval-ignore-output"]
progress()

# %%
finish()

# %% [markdown]
# **Next:** [going further](10_deployment_further.ipynb) asks about the teacher, about
# larger batches and about small networks. Lab 11 asks who pays: which pictures and
# which classes a smaller network gets wrong.
