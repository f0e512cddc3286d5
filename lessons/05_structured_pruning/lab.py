# %% [markdown]
# # 05 Structured pruning

# %%
import copy

import torch

from utils import baselines, data, masks, measure, plots, studies, surgery, training
from utils.lab import check, claim, finish, predict, quiz
from utils.scores import score

pictures = data.load()
picture = pictures.validation.images[:1]
resnet = baselines.baseline("resnet")

# %% [markdown]
# ## An addition ties channels
#
# A residual block adds its input to what it computed. Channel 3 is added to channel 3.
# What if a filter leaves on one side only? We take filter 3 out of the last convolution
# of the first block, by hand, and run the network.

# %%
broken = copy.deepcopy(resnet)
block = broken[3][0]
keep = torch.arange(16) != 3
block.conv2.weight = torch.nn.Parameter(block.conv2.weight.detach()[keep])
block.bn2 = torch.nn.BatchNorm2d(15)

try:
    broken(picture)
except RuntimeError as error:
    print(error)

# %% [markdown]
# Fifteen channels on one side of the addition, sixteen on the other. So channel 3 must
# leave on *both* sides: here, in the convolution at the very start of the network, and
# in every block that adds to the same sixteen channels. And everything that reads
# channel 3 must forget it. `follow` lists what is tied:

# %%
from utils.channels import follow

for place in follow(resnet, picture).takes("3.0.conv2", 3):
    print(place)

# %% [markdown]
# Ask surgery for the impossible, and it says so before it builds anything:

# %%
one_side = {"3.0.conv2.weight": keep, "0.weight": torch.ones(16, dtype=torch.bool)}
try:
    surgery.remove_units(resnet, picture, one_side)
except ValueError as error:
    print(error)

# %% [markdown]
# With one mask for all of them it works, and the result is what zeroing the same
# channels gives:

# %%
one_less = surgery.remove_units(resnet, picture, {"0.weight": keep})
zeroed = surgery.zero_units(resnet, picture, {"0.weight": keep})
some = pictures.validation.images[:200]
with torch.no_grad():
    difference = (one_less(some) - zeroed(some)).abs().max()
claim("Removed on all sides equals zeroed", difference, at_most=1e-3)

# %% [markdown]
# ## How much work is 30% of the channels?

# %%
guess_work = predict(
    "30% of the channels leave every layer: how much of the work leaves?",
    0,
    100,
    unit="%",
)

# %% [markdown]
# ### Exercise: the work that is left
#
# <details><summary>Hint 1</summary>The work of a convolution: for each output channel,
# each input channel.</details>
# <details><summary>Hint 2</summary>Both its inputs and its outputs lose the same
# fraction.</details>
# <details><summary>Hint 3</summary>With 0.7 of the outputs and 0.7 of the inputs, 0.7
# times 0.7 is left.</details>


# %%
def work_left(ratio):
    """Fraction of a convolution's multiply-accumulates that is left when this fraction
    of the channels is removed in every layer."""
    ...


# %%
work_left = check(work_left)

# %%
vgg = baselines.baseline("vgg")
norms = score("l1", vgg, units=True)
ratios = [0.0, 0.125, 0.2, 0.25, 0.3, 0.375, 0.4, 0.5, 0.6, 0.625, 0.7, 0.75]
# `shrink` chooses units and removes them
thinned = [surgery.shrink(vgg, picture, norms, ratio) for ratio in ratios]
counted = [
    1 - measure.macs(network, picture) / measure.macs(vgg, picture)
    for network in thinned
]

# %% tags=["figure:work"]
plots.show(
    plots.lines(
        [100 * ratio for ratio in ratios],
        {
            "counted on the VGG": counted,
            "your formula": [1 - work_left(ratio) for ratio in ratios],
            "channels removed": ratios,
        },
        title="30% of the channels is half of the work",
        x_label="channels removed in every layer, %",
        y_label="multiply-accumulates that leave, %",
        percent=True,
        guess=guess_work,
    ),
    alt=(
        "Work removed over channels removed: the curve of the VGG and the formula"
        " coincide and lie well above the straight line."
    ),
)

# %%
guess_work.compare(100 * counted[ratios.index(0.3)])
claim(
    "30% of the channels is about 51% of the VGG's work",
    100 * counted[ratios.index(0.3)],
    between=(49, 53),
)
claim(
    "Formula and count differ by less than 3 points everywhere",
    100 * max(abs(c - 1 + work_left(r)) for c, r in zip(counted, ratios)),
    at_most=3,
)

# %% [markdown]
# ## Less work, less time?
#
# The same thinned networks, timed in turn, one picture at a time and 32 at a time. If
# time followed work, all points would lie on the dashed diagonal.

# %%
guess_time = predict(
    "30% of the channels gone, about half of the work: how many times as fast, one"
    " picture at a time?",
    0,
    100,
    unit="times",
)

# %%
networks = dict(zip(map(str, ratios), thinned))
one = measure.latency(networks, picture, rounds=9)
many = measure.latency(networks, pictures.validation.images[:32], rounds=3)

# %% tags=["figure:time", "nbval-ignore-output"]
less_work = [
    measure.macs(vgg, picture) / measure.macs(network, picture) for network in thinned
]
plots.show(
    plots.lines(
        less_work,
        {
            "one picture": [timing.speedup for timing in one.values()],
            "32 pictures": [timing.speedup for timing in many.values()],
            "if time followed work": less_work,
        },
        title="VGG: the time does not follow the work",
        x_label="times less work (0 to 75% of the channels removed)",
        y_label="times as fast (one thread)",
        guess=guess_time,
    ),
    alt=(
        "Speed over the factor of work saved: both measured lines fall far below the"
        " diagonal, that for one picture most."
    ),
)

# %% tags=["nbval-ignore-output"]
guess_time.compare(one["0.3"].speedup)

# %%
claim(
    "Half of the channels makes the VGG more than 1.5 times as fast",
    one["0.5"].speedup,
    at_least=1.5,
)
claim(
    "With almost 16 times less work it is less than 12 times as fast",
    one["0.75"].speedup,
    at_most=12,
)

# %% [markdown]
# Part of the time is not arithmetic, and does not shrink. And not every width is as
# good as its neighbour. Half of 64 is 32, half of 128 is 64: round numbers. 70% of 64
# is 45. The processor multiplies several numbers in one instruction, and the library
# works on blocks of as many channels. A width that does not fit is computed as the next
# one that does, or by a slower routine. To see that alone, we time one convolution, 28
# x 28 pixels, with many widths:

# %%
widths = [16, 20, 24, 28, 31, 32, 33, 36, 40, 45, 48, 52, 56, 60, 63, 64]
block_of = {n: torch.nn.Conv2d(n, n, 3, padding=1) for n in widths}
inputs = {n: torch.randn(1, n, 28, 28) for n in widths}
calls = {str(n): lambda _, n=n: block_of[n](inputs[n]) for n in reversed(widths)}
by_width = measure.latency(calls, picture, rounds=9)

# %% tags=["figure:widths", "nbval-ignore-output"]
time_of = {n: 1 / by_width[str(n)].speedup for n in widths}
plots.show(
    plots.lines(
        widths,
        {
            "measured time": [time_of[n] for n in widths],
            "work": [(n / 64) ** 2 for n in widths],
        },
        title="One 3 x 3 convolution, n channels in and out; 64 channels = 100%",
        x_label="channels n",
        y_label="% of 64 channels",
        percent=True,
    ),
    alt=(
        "Time and work of a convolution over its width: work is a smooth parabola; time"
        " lies above it and falls in steps."
    ),
)

# %%
claim("33 channels do 6% more work than 32", (33 / 32) ** 2, between=(1.06, 1.07))
claim("and take at least 10% more time", time_of[33] / time_of[32], at_least=1.1)

# %% [markdown]
# ### Rounding to 8
#
# `shrink(..., multiple=8)` keeps a few channels more, up to the next multiple of 8.
# More work: is it slower?

# %% tags=["nbval-ignore-output"]
plain, rounded = (
    surgery.shrink(vgg, picture, norms, 0.3),
    surgery.shrink(vgg, picture, norms, 0.3, multiple=8),
)
rounding = measure.latency({"30% removed": plain, "rounded up to 8": rounded}, picture)
for timing in rounding.values():
    print(timing)

# %%
more_work = measure.macs(rounded, picture) / measure.macs(plain, picture)
claim(
    "Rounded up, the VGG does about a tenth more work", more_work, between=(1.05, 1.15)
)
claim(
    "It is neither much slower nor much faster for it",
    rounding["rounded up to 8"].speedup,
    between=(0.6, 2),
)

# %% [markdown]
# So the channels that rounding keeps cost little or nothing, and each of them can hold
# what the network knows.
#
# ### The worst case: depth-wise convolutions
#
# A depth-wise convolution looks at each channel by itself: 64 times less work than a
# full one with 64 channels. Is it 64 times as fast?

# %%
wide = torch.randn(1, 64, 28, 28)
kinds = {
    "full": torch.nn.Conv2d(64, 64, 3, padding=1),
    "depth-wise": torch.nn.Conv2d(64, 64, 3, padding=1, groups=64),
}
depthwise = measure.latency(kinds, wide)["depth-wise"].speedup
claim("64 times less work is less than 32 times as fast", depthwise, at_most=32)

# %% [markdown]
# It does so little with each number that it waits for memory. MACs count arithmetic and
# nothing else.

# %% [markdown]
# ## Whole blocks
#
# A residual block adds something to its input. Without the block the input passes
# unchanged; the network still fits together. That works for blocks that keep the shape:
# the second of each stage.

# %% tags=["figure:blocks"]
blocks = {"first stage": "3.1", "second stage": "4.1", "third stage": "5.1"}
without = {
    name: surgery.remove_blocks(resnet, picture, [place])
    for name, place in blocks.items()
}
without["all three"] = surgery.remove_blocks(resnet, picture, list(blocks.values()))
few = pictures.validation[:2000]
block_accuracy = {
    name: 100 * training.evaluate(network, few) for name, network in without.items()
}
plots.show(
    plots.bars(
        {"none": 100 * training.evaluate(resnet, few), **block_accuracy},
        title="One block of the ResNet removed, nothing retrained",
        x_label="accuracy on 2,000 validation pictures, %",
        unit="%",
        digits=1,
    ),
    alt=(
        "Bars of accuracy without one of three blocks, and without all: the damage"
        " differs widely between the blocks."
    ),
)

# %%
spread = max(block_accuracy.values()) - min(block_accuracy.values())
claim(
    "Which block leaves matters: the accuracies differ by more than 10 points",
    spread,
    at_least=10,
)

# %% [markdown]
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
# <details><summary>Hint 3</summary>Start with zeros of shape <code>[groups, m]</code>,
# and
# <code>mask.scatter_(1, positions[:, :n], True)</code>; reshape back.</details>


# %%
def nm_mask(weight, n, m):
    """Boolean mask of weight's shape [units, inputs]: of each m neighbours in a row,
    True for the n of largest magnitude."""
    ...


# %%
nm_mask = check(nm_mask)

# %% tags=["figure:pattern"]
# the middle of the kernel: [64 units, 64 inputs]
matrix = resnet[5][1].conv1.weight.detach()[:, :, 1, 1]
corner = matrix[:16, :24]
pattern = nm_mask(matrix, 2, 4)[:16, :24].float()
free = (matrix.abs() > matrix.abs().median())[:16, :24].float()
plots.show(
    plots.maps(
        {"any half (black = kept)": free, "2 of each 4": pattern},
        title=(
            "Half of the weights, chosen freely and in the 2:4 pattern (a corner of one"
            " layer)"
        ),
        label="kept",
    ),
    alt=(
        "Two black and white masks: the free one has clumps and holes, the 2:4 pattern"
        " is evenly dense along every row."
    ),
)

# %%
spared = {"exclude": ["0.weight"]}  # the first layer has a single input
halves = {
    "any half": masks.magnitude_masks(resnet, 0.5, scope="layerwise", **spared),
    "2:4 pattern": masks.nm_masks(resnet, 2, 4, **spared),
}
masked = {name: masks.masked(resnet, chosen) for name, chosen in halves.items()}
half_accuracy = {
    name: training.evaluate(network, few) for name, network in masked.items()
}
claim(
    "Without retraining the pattern costs more than the free choice",
    100 * (half_accuracy["any half"] - half_accuracy["2:4 pattern"]),
    at_least=0,
)

# %%
pattern_speed = measure.latency(
    {"dense": resnet, "2:4": masked["2:4 pattern"]}, picture, rounds=15
)["2:4"].speedup
claim(
    "On this processor the pattern is not faster: nothing skips its zeros",
    pattern_speed,
    between=(0.6, 1.67),
)

# %% [markdown]
# ## Which one makes it faster?
#
# The ResNet with half of its weights, channels or blocks gone, and with 30% of the
# channels. Work, bytes and speed are counted and measured here. The accuracy after two
# epochs of fine-tuning is from the file that `make results ARGS=structured` wrote, with
# one seed. The control is in it, too: the dense network, trained on for the same two
# epochs.

# %%
l1 = score("l1", resnet, units=True)
half_zero = masks.masked(resnet, masks.magnitude_masks(resnet, 0.5))
variants = {
    "dense": resnet,
    "50% of the weights": half_zero,
    "2:4 pattern": masked["2:4 pattern"],
    "30% of the channels": surgery.shrink(resnet, picture, l1, 0.3),
    "50% of the channels": surgery.shrink(resnet, picture, l1, 0.5),
    "3 of 6 blocks": without["all three"],
}
fast_one = measure.latency(variants, picture, rounds=15)
fast_many = measure.latency(variants, pictures.validation.images[:32], rounds=5)

# %%
# the others have the same name here and there
recorded = {"dense": "dense, trained on"}
accuracy = {
    name: studies.spread("structured", kind=recorded.get(name, name)).mean
    for name in variants
}

# %% tags=["nbval-ignore-output"]
from IPython.display import Markdown

work = {name: measure.macs(network, picture) for name, network in variants.items()}
rows = [
    "| | accuracy after 2 epochs | MACs | bytes | speed, batch 1 | speed, batch 32 |",
    "|---|---|---|---|---|---|",
]
for name, network in variants.items():
    cells = [f"{accuracy[name]:.1%}", f"{work[name] / work['dense']:.0%}"]
    cells += [f"{measure.file_bytes(network) / measure.file_bytes(resnet):.0%}"]
    cells += [f"{fast_one[name].speedup:.2f}x", f"{fast_many[name].speedup:.2f}x"]
    rows.append(f"| {name} | {' | '.join(cells)} |")
Markdown("\n".join(rows))

# %% tags=["figure:which", "nbval-ignore-output"]
plots.show(
    plots.bars(
        {
            f"{name} ({accuracy[name]:.1%} right)": timing.speedup
            for name, timing in fast_many.items()
        },
        title=(
            "Which one makes it faster? ResNet, 32 pictures (accuracy after 2 epochs)"
        ),
        x_label="times as fast as dense (one thread)",
        unit="x",
        reference=1,
    ),
    alt=(
        "Bars of speed: pruned weights and the 2:4 pattern stay at one, removed"
        " channels and blocks are clearly faster."
    ),
)

# %%
claim(
    "Half of the weights at zero make nothing faster",
    fast_many["50% of the weights"].speedup,
    between=(0.6, 1.67),
)
claim(
    "Half of the channels removed do",
    fast_many["50% of the channels"].speedup,
    at_least=1.4,
)
claim(
    "Half of the blocks removed do, too",
    fast_many["3 of 6 blocks"].speedup,
    at_least=1.3,
)
zeros = min(accuracy["50% of the weights"], accuracy["2:4 pattern"])
smaller = max(
    accuracy[name]
    for name in ("30% of the channels", "50% of the channels", "3 of 6 blocks")
)
claim(
    "But in this run each kind of zeros cost less accuracy than any removal",
    zeros - smaller,
    at_least=0,
)

# %% [markdown]
# ## All of it in one panel
#
# The ResNet, and every kind of this lab: pattern, channels, blocks. Try to beat this
# lab's table: which setting, fine-tuned for some seconds, is fastest at 90% accuracy?
# "What did I find?" keeps your settings and draws the ones that no other beats (the
# Pareto front).

# %% tags=["figure:explorer", "nbval-ignore-output"]
from utils.explorer import Explorer

panel = Explorer("resnet", kind="channels", sparsity=0.2)
panel

# %%
for kind in ("blocks", "nm", "channels"):
    panel.kind.value = kind
    for _, stop in panel.sparsity.options[:3]:
        panel.sparsity.value = stop
twenty = panel.state(panel.controls)
claim(
    "20% of the channels removed: about two thirds of the work is left",
    twenty.macs,
    between=(0.55, 0.72),
)

# %% [markdown]
# ## In production
#
# At work one uses torch-pruning (Fang et al. 2023), which reads the ties from the
# record that autograd keeps. This course's tests let both remove the same channels from
# eleven networks of torchvision and find the same parameters, MACs and outputs. Ours
# reads the ties from a trace by `torch.fx`; an `add` is where they come from:

# %%
graph = torch.fx.symbolic_trace(resnet).graph
additions = [
    node
    for node in graph.nodes
    if node.op == "call_function" and node.target.__name__ == "add"
]
claim("The trace shows six additions, one a block", len(additions), between=(6, 6))

# %% [markdown]
# ## One look at the test set

# %%
some = pictures.test[:5000]
drop = training.evaluate(resnet, some) - training.evaluate(half_zero, some)
claim(
    "Half of the ResNet's weights cost less than 4 points on 5,000 test pictures, not"
    " retrained",
    100 * drop,
    at_most=4,
)

# %% [markdown]
# ## Take away
#
# 1. Channels joined by an addition leave together, or not at all.
# 2. Removing a fraction r of the channels removes 1 - (1 - r)^2 of the work; the time
# follows only where widths are round.
# 3. Zeros cost little accuracy and gain no speed; channels and blocks gain speed and
# cost accuracy, which must be won back.

# %%
quiz("05_structured_pruning")

# %%
finish()

# %% [markdown]
# **Next:** [lab 06](06_dynamic_pruning.ipynb) prunes while the network is still being
# trained.
