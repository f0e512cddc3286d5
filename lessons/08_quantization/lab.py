# %% [markdown]
# # 08 Quantization
#
# Pruning takes numbers away. Quantization makes those that stay smaller: 8 bits, or 4,
# in place of 32. Runs with three seeds come from the file that `make results
# ARGS=quantization` wrote; the text says where.

# %%
import copy
import tempfile
from pathlib import Path

import torch

from utils import (
    baselines,
    compression,
    data,
    deploy,
    masks,
    measure,
    plots,
    quantization,
    schedules,
    studies,
    training,
)
from utils.data import sample_batches
from utils.lab import check, claim, finish, predict, quiz

pictures = data.load()
lenet = baselines.baseline("lenet300")
dense = training.evaluate(lenet, pictures.validation)
calibration = sample_batches(pictures.train, count=4)
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## One row, by hand
#
# The first output neuron of LeNet has 100 weights. With 4 bits and a sign there are 15
# evenly spaced numbers for them, -7 to 7 steps (the sixteenth, -8, is left out, so that
# both sides are alike). The step is called the *scale*: the largest magnitude is 7 of
# it. Divide, round, done.

# %%
row = lenet.fc3.weight.detach()[:1]
scale = row.abs().max() / 7
integers = (row / scale).round().to(torch.int8)
print(integers[0, :16].tolist())

# %% tags=["figure:row"]
order = row[0].argsort()
grids = {f"{bits} bits": quantization.weight_grid(row, bits) for bits in (4, 3)}
plots.show(
    plots.lines(
        range(1, 101),
        {
            "32 bits": row[0, order],
            **{name: grid.snap(row)[0, order] for name, grid in grids.items()},
        },
        title="The 100 weights of one neuron, sorted, and where rounding puts them",
        x_label="weights, the smallest first",
        y_label="weight",
    ),
    alt=(
        "A smooth rising curve of 100 sorted weights; at 4 bits it becomes a stair of"
        " small steps, at 3 bits of large ones."
    ),
)

# %%
moved = (scale * integers - row).abs().max()
claim("No weight moves by more than half a step", moved / scale, at_most=0.5001)
claim(
    "It is what `weight_grid` gives",
    (grids["4 bits"].snap(row) - scale * integers).abs().max(),
    at_most=1e-6,
)

# %% [markdown]
# The largest weight decides the step for all. Suppose we cut it off: a smaller step,
# and what lies beyond the last one *saturates*, it becomes the last one. How much is
# lost, we measure in decibels: 10 dB mean that the square of the weights is ten times
# that of the errors.


# %%
def decibels(exact, rounded):
    """Signal to noise: how much stronger the numbers are than their errors."""
    return float(10 * (exact.square().sum() / (exact - rounded).square().sum()).log10())


def cut_off(values, bits, part):
    """Rounded on a grid that reaches only to this part of the largest magnitude."""
    grid = quantization.weight_grid(values, bits)
    return quantization.Grid(
        part * grid.scale, grid.zero_point, grid.lowest, grid.highest
    ).snap(values)


# %% tags=["figure:saturation"]
parts = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
cut = {
    f"{bits} bits": [decibels(row, cut_off(row, bits, part)) for part in parts]
    for bits in (8, 4, 3)
}
plots.show(
    plots.lines(
        [100 * part for part in parts],
        cut,
        title="Cut the largest weights off: a loss at 8 bits, a gain at 3",
        x_label="the grid reaches to so many % of the largest weight",
        y_label="signal to noise, dB",
    ),
    alt=(
        "At 8 bits signal to noise falls steeply as soon as the grid is shortened; at 3"
        " bits it rises to a peak near 70 percent."
    ),
)

# %%
claim(
    "At 8 bits cutting off a tenth costs more than 5 dB",
    cut["8 bits"][0] - cut["8 bits"][1],
    at_least=5,
)
claim(
    "At 3 bits some cut gains more than 1 dB",
    max(cut["3 bits"]) - cut["3 bits"][0],
    at_least=1,
)

# %% [markdown]
# With many bits saturation is the worse error, with few bits coarse steps are. From
# here on nothing of the weights is cut off.
#
# ## Activations: a zero point
#
# Weights lie around zero, so the integer 0 stands for 0.0. What goes *into* a layer
# does not: after ReLU nothing is negative, and the pictures reach from about -0.8 to 2.
# So the grid 0 to 255 is laid over the range that was seen on some pictures
# (*calibration*), and one of its integers, the *zero point*, stands for 0.0. Exactly:
# padding and ReLU put in zeros, and an error there would be everywhere.
#
# ### Exercise: choose the grid
#
# <details><summary>Hint 1</summary>If 0 lies outside the range, stretch the range to it
# first.</details>
# <details><summary>Hint 2</summary>256 integers have 255 steps between them. The
# integer 0 stands for <code>low</code>.</details>
# <details><summary>Hint 3</summary><code>scale = (high - low) / 255</code>, and the
# zero point is <code>round(-low / scale)</code>.</details>


# %%
def choose_grid(low, high):
    """Scale and zero point of the integers 0 to 255 for numbers between low and high:
    (float, int). 0.0 lies exactly on the grid, also where low and high have the same
    sign."""
    ...


# %%
choose_grid = check(choose_grid)

# %%
low, high = quantization.input_ranges(lenet, calibration)["fc1"]
input_scale, zero_point = choose_grid(low, high)
zero_point = int(zero_point)  # if yours is a whole number in a float or in a tensor
some = pictures.validation.images[:20].flatten(1)
inputs = (some / input_scale + zero_point).round().clamp(0, 255).to(torch.uint8)
error = (input_scale * (inputs.int() - zero_point) - some).abs().max()
claim("No pixel moves by more than half a step", error / input_scale, at_most=0.51)

# %% [markdown]
# ## A layer in integers
#
# Now both sides are integers, and a layer is a product of integers: that is what *can*
# make int8 fast (lab 10). A single product fits in 16 bits, a sum of 784 of them does
# not: it is accumulated in 32. At the end one multiplication a unit brings the sums
# back: `input scale * weight scale`.
#
# ### Exercise: the integer product
#
# <details><summary>Hint 1</summary>An input x stands for <code>x - zero_point</code>
# steps. In uint8, 3 - 10 is 249: widen first.</details>
# <details><summary>Hint 2</summary><code>inputs.to(torch.int32)</code>; the same for
# the weight.</details>
# <details><summary>Hint 3</summary><code>(wide_inputs - zero_point) @
# wide_weight.T</code></details>


# %%
def integer_product(inputs, zero_point, weight):
    """Sums in int32, [pictures, units]: inputs [pictures, inputs] uint8, whose
    zero_point stands for 0.0, times weight [units, inputs] int8."""
    ...


# %%
integer_product = check(integer_product)

# %%
weight = lenet.fc1.weight.detach()
grid = quantization.weight_grid(weight)
codes = grid.integers(weight).to(torch.int8)
sums = integer_product(inputs, zero_point, codes)
back = input_scale * grid.scale.T * sums

# %%
as_float = (input_scale * (inputs.double() - zero_point)) @ grid.values(
    codes
).double().T
exact = some @ weight.T
claim(
    "Integers give what floats give for the same rounded numbers",
    (back - as_float).abs().max(),
    at_most=1e-3,
)
claim("Some sums are too large for 16 bits", sums.abs().max(), at_least=32_768)
claim(
    "Against the layer that was not rounded: more than 30 dB",
    decibels(exact, back),
    at_least=30,
)

# %% [markdown]
# So with integers only *rounding* costs anything; computing with them costs nothing.
# From now on we may simulate: round, and compute in float.
#
# ## One scale a row
#
# `weight_grid` gives each row a scale of its own. What would one scale for the whole
# layer cost?

# %% tags=["figure:decibels"]
widths = [2, 3, 4, 5, 6, 7, 8]
noise = {
    name: [
        decibels(
            weight, quantization.weight_grid(weight, b, per_channel=rows).snap(weight)
        )
        for b in widths
    ]
    for name, rows in {"a scale a row": True, "one scale for all rows": False}.items()
}
plots.show(
    plots.lines(
        widths,
        noise,
        title="LeNet's first layer: each bit is worth 6 dB, a scale a row one bit",
        x_label="bits a weight",
        y_label="signal to noise, dB",
    ),
    alt=(
        "Two rising lines over 2 to 8 bits: at 2 bits they nearly meet; from 4 bits on"
        " they are parallel, with a scale a row about 7 dB higher."
    ),
)

# %%
rows, one = noise.values()
claim(
    "From 4 to 8 bits each bit gains about 6 dB",
    (rows[-1] - rows[2]) / 4,
    between=(5.5, 7),
)
claim(
    "From 4 bits on a scale a row gains 5 dB or more",
    min(a - b for a, b in zip(rows[2:], one[2:])),
    at_least=5,
)
scales, one_bit = 4 * len(weight), weight.numel() / 8
claim(
    "The scales take less than a twentieth of the bytes of one more bit a weight",
    scales / one_bit,
    at_most=0.05,
)

# %% [markdown]
# One bit more halves the step and so the error: a factor of 4 in its square, 6 dB. A
# scale a row gives as much for a twentieth of the bytes.

# %% [markdown]
# ## The whole network
#
# Decibels are not accuracy. `quantized` gives a copy that rounds weights and inputs of
# every layer. A convolutional network has its BatchNorm *folded* first: in use it
# multiplies and adds one number a channel, and the layer before it can do that.

# %%
guess_four = predict(
    "All of LeNet's weights and activations in 4 bits, no training: how many points are"
    " lost?",
    0,
    20,
    unit="points",
)

# %%
vgg = baselines.baseline("vgg_half")
few = pictures.validation[:200]
few_batches = sample_batches(pictures.train, count=1, batch_size=128)
by_width = {
    "LeNet, weights": [],
    "LeNet, weights and activations": [],
    "VGG, both (200 pictures)": [],
}
for bits in widths:
    both = quantization.quantized(lenet, calibration, bits=bits, activation_bits=bits)
    small = quantization.quantized(vgg, few_batches, bits=bits, activation_bits=bits)
    weights_only = quantization.quantize_weights(lenet, bits)
    for accuracies, network, split in zip(
        by_width.values(),
        (weights_only, both, small),
        (pictures.validation, pictures.validation, few),
    ):
        accuracies.append(training.evaluate(network, split))

# %% tags=["figure:widths"]
plots.show(
    plots.lines(
        widths,
        by_width,
        title="Rounded after training: hardly a loss down to 5 bits, then a cliff",
        x_label="bits",
        y_label="validation accuracy, %",
        percent=True,
        level=("LeNet in 32 bits", dense),
        y_limits=(0, 100),
    ),
    alt=(
        "Accuracy over 2 to 8 bits: flat from 8 down to 5; at 4 LeNet loses little and"
        " the VGG a dozen points; at 3 both have fallen, the VGG to a fraction."
    ),
)

# %%
lost = {
    name: [100 * (values[-1] - v) for v in values] for name, values in by_width.items()
}
eight_bits = by_width["LeNet, weights and activations"][-1]
claim(
    "LeNet, both in 8 bits: within half a point",
    100 * (dense - eight_bits),
    between=(-0.5, 0.5),
)
claim(
    "both in 4 bits: less than 3 points",
    lost["LeNet, weights and activations"][2],
    between=(-0.5, 3),
)
claim("Weights in 3 bits: more than 5 points", lost["LeNet, weights"][1], at_least=5)
claim(
    "VGG in 4 bits: more than 5 points", lost["VGG, both (200 pictures)"][2], at_least=5
)
claim("in 3 bits more than 20", lost["VGG, both (200 pictures)"][1], at_least=20)

# %% tags=["nbval-ignore-output"]
four_bits = lost["LeNet, weights and activations"][2]
guess_four.compare(four_bits)

# %% [markdown]
# LeNet needs hardly more than 4 bits. The convolutional network falls earlier. A likely
# reason: errors add up over more layers. We did not test that. (How would you?)
#
# ## Train through the rounding
#
# At 3 bits the network must learn to live with its grid. But a step function has no
# slope: a small move of a weight changes nothing, or a whole step. *Quantization-aware
# training* (QAT, Jacob et al. 2018) rounds on the way forward, and on the way back acts
# as if it had not: the *straight-through estimator* (Bengio et al. 2013). Behind the
# grid each weight stays a float, and small moves add up until it tips over.

# %% tags=["nbval-ignore-output"]
three = quantization.quantized(lenet, calibration, bits=3)
rounded = training.evaluate(three, pictures.validation)
history = training.fit(
    three, pictures.train, training.Recipe(epochs=2, learning_rate=1e-3)
)
learned = training.evaluate(three, pictures.validation)

print(f"3 bits: rounded {rounded:.1%}, after two epochs on the grid {learned:.1%}")

# %%
claim(
    "Two epochs bring back more than 4 points at 3 bits",
    100 * (learned - rounded),
    at_least=4,
)
claim("and less than 3 points are still lost", 100 * (dense - learned), at_most=3)

# %% [markdown]
# With four epochs, three seeds each, from the study:

# %%
baseline = baselines.baseline_facts("lenet300")
for bits in (3, 4):
    after = studies.spread("quantization", method="quantized", bits=bits)
    just_rounded = studies.spread(
        "quantization", "rounded_accuracy", method="quantized", bits=bits
    )
    below = 100 * (baseline["validation_accuracy"] - after.mean)
    claim(
        f"{bits} bits, trained: less than 0.7 points below 32 bits", below, at_most=0.7
    )
    claim(
        "and better than rounding alone",
        100 * (after.mean - just_rounded.mean),
        at_least=0,
    )

# %% [markdown]
# ## Zeros and the grid
#
# Zero lies on every grid, so rounding keeps a pruned weight pruned. Training through
# the rounding does not: as in lab 07, the optimizer moves it. LeNet at 90% and 4 bits,
# one epoch with the masks held, and one without.

# %% tags=["nbval-ignore-output"]
ninety = masks.magnitude_masks(lenet, 0.9)
pruned = masks.masked(lenet, ninety)
on_grid = {}
for name in ("masks held", "masks forgotten"):
    network = quantization.quantized(pruned, calibration, bits=4)
    hold = masks.hold(network, ninety) if name == "masks held" else None
    training.fit(
        network,
        pictures.train,
        training.Recipe(epochs=1, learning_rate=1e-3),
        after_step=hold,
    )
    on_grid[name] = network

# %%
held, forgotten = on_grid.values()
claim(
    "With masks held 90% are zero, on the grid too",
    measure.sparsity(quantization.plain(held)),
    at_least=0.8999,
)
claim(
    "With masks forgotten hardly a float behind the grid is zero",
    measure.sparsity(forgotten),
    at_most=0.1,
)
still = measure.sparsity(quantization.plain(forgotten))
claim(
    "On the grid many of those are zero again, but fewer than nine in ten",
    still,
    between=(0.3, 0.89),
)

# %% tags=["nbval-ignore-output"]
on_the_grid = dict(quantization.plain(forgotten).named_parameters())
zero = torch.cat([(on_the_grid[name] == 0).flatten() for name in ninety])
stays = torch.cat([mask.flatten() for mask in ninety.values()])
print(
    f"On the grid {zero.float().mean():.0%} are zero; {(~zero & ~stays).sum():,} pruned"
    " weights are back."
)

# %%
came_back = (~zero & ~stays).sum() / (~stays).sum()
claim(
    "Of the pruned weights more than one in twenty are back", came_back, at_least=0.05
)

# %% [markdown]
# A coarse grid makes zeros by itself: whatever is smaller than half a step. That is why
# forgotten masks are easily overlooked here. Count on the grid, and compare with what
# you pruned.
#
# ## Which first?
#
# Prune, then quantize; or quantize, then prune? At 90% and 4 bits, each with four
# epochs in all, two for each part, pruned at once:
#
# - *Prune, then quantize:* masks from the trained floats, two epochs in float; then two
#   on the grid, masks held.
# - *Quantize, then prune:* two epochs on the grid; then masks from the weights *as they
#   lie on it*; two more epochs there, masks held.
#
# The second has to choose among few magnitudes: seven a row. Hundreds of weights of a
# row are alike, and go or stay together. For comparison: only pruned, in 32 bits, and
# only quantized. Three seeds.

# %%
guess_order = predict(
    "Prune first: how many points better than quantize first? (Negative: worse.)",
    -5,
    5,
    unit="points",
)

# %% tags=["figure:order"]
settings = {
    "pruned, 32 bits": {"method": "pruned"},
    "quantized, 4 bits": {"method": "quantized", "bits": 4},
    "prune, then quantize": {"method": "prune, then quantize"},
    "quantize, then prune": {"method": "quantize, then prune"},
}
study = {
    name: studies.spread("quantization", **where) for name, where in settings.items()
}
plots.show(
    plots.dots(
        {name: 100 * each.mean for name, each in study.items()},
        {name: (100 * each.low, 100 * each.high) for name, each in study.items()},
        title="LeNet: 90% zeros, 4 bits, both (mean, lowest, highest of 3 seeds)",
        x_label="validation accuracy, %",
        unit="%",
    ),
    alt=(
        "Four rows of accuracy with spread: only quantized is best; only pruned and"
        " prune first are alike; quantize first is lowest."
    ),
)

# %%
mean = {name: 100 * each.mean for name, each in study.items()}
first = mean["prune, then quantize"]
claim(
    "4 bits alone cost less than 90% zeros alone",
    mean["quantized, 4 bits"] - mean["pruned, 32 bits"],
    at_least=0.5,
)
claim(
    "Prune first is better than quantize first",
    first - mean["quantize, then prune"],
    at_least=0.2,
)
claim(
    "Pruned first, 4 bits cost less than half a point more",
    mean["pruned, 32 bits"] - first,
    at_most=0.5,
)

# %% tags=["nbval-ignore-output"]
better = first - mean["quantize, then prune"]
guess_order.compare(better)

# %% [markdown]
# Two reasons, which this study cannot tell apart: weights that look alike on the grid
# are hard to choose from; and what stays has two epochs to take over in place of four.
# (Which control would tell?) Either way, the order with fewer problems is the usual
# one: prune, recover, quantize.

# %% [markdown]
# ## int8 for real
#
# So far we computed in float with rounded numbers. ONNX Runtime computes with the
# integers. `to_onnx` writes the network to a file, `to_int8` quantizes the file with
# the same grids, and a `Session` runs it. (How fast, is a matter for lab 10.) Weights
# get 7 bits here; the cell after says why.

# %% tags=["nbval-ignore-output"]
some_batches = sample_batches(pictures.train, count=1)
thousand = pictures.validation[:1000]
deploy.to_onnx(vgg, thousand.images[:1], folder / "vgg.onnx")
for weight_bits in (7, 8):
    deploy.to_int8(
        folder / "vgg.onnx",
        some_batches,
        folder / f"vgg_{weight_bits}.onnx",
        weight_bits=weight_bits,
    )
real = {
    weight_bits: deploy.Session(folder / f"vgg_{weight_bits}.onnx")
    for weight_bits in (7, 8)
}
simulated = quantization.quantized(vgg, some_batches, bits=7)

# %%
agreement = deploy.parity(simulated, real[7], thousand.images[:500]).agreement
claim(
    "With 7 bits integers and simulation give the same class to 97 of 100 pictures",
    agreement,
    at_least=0.97,
)
before, after = (
    training.evaluate(network, thousand)
    for network in (deploy.Session(folder / "vgg.onnx"), real[7])
)
claim(
    "and the accuracy is within 1 point of float's",
    100 * (before - after),
    between=(-1, 1),
)

# %% [markdown]
# They differ a little because the runtime also rounds what comes *out* of a layer.
#
# ### The trap of the eighth bit
#
# Many processors multiply two pairs of an unsigned and a signed byte and add both in
# *16* bits, in one instruction. What does not fit saturates, in silence: 255 * 127 * 2
# is 64,770, and 32,767 is the largest there is. Newer ones (VNNI) add in 32 bits. The
# same file then gives other answers on another processor.


# %%
def in_pairs(inputs, weight):
    """Sums of two neighbouring products, [pictures, units, pairs], before they are cut
    off at 16 bits."""
    products = inputs.int()[:, None] * weight.int()
    return products.unflatten(-1, (-1, 2)).sum(-1)


seven = quantization.weight_grid(weight, 7).integers(weight)
overflows = {
    bits: (in_pairs(inputs, w).abs() > 32_767).sum()
    for bits, w in {8: codes, 7: seven}.items()
}
claim(
    "In LeNet's first layer, 20 pictures, more than 100 pairs do not fit at 8 bits",
    overflows[8],
    at_least=100,
)
claim(
    "At 7 bits all fit, whatever the picture: 255 * 63 * 2 is less than 32,767",
    overflows[7],
    between=(0, 0),
)

# %% tags=["nbval-ignore-output"]
for weight_bits, session in real.items():
    print(
        f"VGG with {weight_bits} bits, on this processor:"
        f" {training.evaluate(session, thousand):.1%} right"
    )

# %% [markdown]
# If the second number is clearly lower, yours is such a processor.
# `torch.cpu.get_capabilities()` tells whether it has `avx512_vnni` or `avx_vnni`: with
# one of them there is no trap.
#
# ## Deep Compression
#
# Integers need even steps. A file does not: Han, Mao and Dally (2016) let the weights
# of a layer *share* a few values that may lie anywhere. Three stages: prune, and store
# the rest with the gaps between them; share; and give frequent gaps and values short
# codes (Huffman).
#
# First a LeNet to compress: 95%, on the cubic schedule, four epochs.

# %% tags=["nbval-ignore-output"]
network = copy.deepcopy(lenet)
history = training.fit(
    network,
    pictures.train,
    training.Recipe(epochs=4),
    schedule=schedules.Cubic(0.95, end=0.6),
)

# %% [markdown]
# ### Exercise: one step of k-means
#
# The shared values are found by k-means: each weight belongs to the nearest value, each
# value moves to the mean of its weights, again and again.
#
# <details><summary>Hint 1</summary>Two parts: which value is nearest to each weight,
# and the mean of each group.</details>
# <details><summary>Hint 2</summary><code>(weights[:, None] -
# values).abs().argmin(dim=1)</code> is the number of the nearest value.</details>
# <details><summary>Hint 3</summary>In a loop over the values: <code>new[i] =
# weights[nearest == i].mean()</code>, unless that group is empty.</details>


# %%
def shared_step(weights, values):
    """The new values [k]: each moves to the mean of those of the weights [n] that are
    nearer to it than to any other value. A value without weights stays."""
    ...


# %%
shared_step = check(shared_step)

# %%
weights = network.fc1.weight.detach().flatten()
weights = weights[weights != 0]
values = torch.linspace(weights.min(), weights.max(), 4)
errors = []
for _ in range(9):
    nearest = values[(weights[:, None] - values).abs().argmin(dim=1)]
    errors.append(decibels(weights, nearest))
    values = shared_step(weights, values)

# %% tags=["figure:kmeans"]
plots.show(
    plots.lines(
        range(9),
        {"k-means": errors[:9]},
        title="Four shared values for the first layer: better with each step",
        x_label="steps of k-means",
        y_label="signal to noise, dB",
    ),
    alt=(
        "Signal to noise over 8 steps of k-means: it jumps up with the first step, then"
        " rises less and less."
    ),
)

# %%
claim(
    "k-means gains more than 5 dB over evenly spaced values",
    errors[-1] - errors[0],
    at_least=5,
)

# %% [markdown]
# The *gaps* are not touched by that, and zero is no shared value: a pruned weight stays
# pruned. `share_weights` does this for all layers, here with 4, 8 and 16 values.
# `hold_shared` then fine-tunes the values: after each optimizer step all weights of a
# group get their mean. In a group gradients mostly cancel, so the learning rate must be
# larger than for single weights.

# %% tags=["nbval-ignore-output"]
bits = {"fc1.weight": 2, "fc2.weight": 3, "fc3.weight": 4}
shared = compression.share_weights(network, bits)
accuracy = {"pruned": training.evaluate(network, pictures.validation)}
hold = compression.hold_shared(network, shared)
accuracy["shared"] = training.evaluate(network, pictures.validation)
tuning = training.Recipe(epochs=1, learning_rate=3e-3, weight_decay=0.0)
history = training.fit(network, pictures.train, tuning, after_step=hold)
accuracy["tuned"] = training.evaluate(network, pictures.validation)

# %%
left = 100 * (accuracy["pruned"] - accuracy["tuned"])
claim(
    "Fine-tuned, the shared network is within 1.5 points of the pruned one",
    left,
    at_most=1.5,
)
claim(
    "and has 28 different weights",
    sum(len(each.codebook) for each in shared.values()),
    between=(20, 28),
)

# %%
guess_times = predict(
    "How many times smaller than LeNet's 1,066,440 bytes will the file be?",
    1,
    1000,
    unit="times",
)

# %% tags=["figure:stages"]
stages = compression.stages(network, shared=shared, other="float16")
plots.show(
    plots.bars(
        {stage: count / 1000 for stage, count in stages.items()},
        title="LeNet's file after each stage (biases in 16 bits in all four)",
        x_label="kB (1,000 bytes)",
        unit=" kB",
        digits=1,
    ),
    alt=(
        "Bars of file size: dense more than 1,000 kB, pruned about 65, shared about 16,"
        " with Huffman codes less than 14."
    ),
)

# %% tags=["nbval-ignore-output"]
guess_times.compare(1_066_440 / stages["huffman"])

# %%
claim(
    "Pruned, with gaps: at least 14 times smaller than fp32",
    1_066_440 / stages["pruned"],
    at_least=14,
)
claim("shared: at least 50 times", 1_066_440 / stages["shared"], at_least=50)
claim("Huffman-coded: at least 65 times", 1_066_440 / stages["huffman"], at_least=65)

# %% [markdown]
# Is it a real file, with all in it that is needed? Write it, fill an untrained network
# from it, and compare the outputs, to the bit.

# %%
size = compression.save_compressed(
    network, folder / "lenet.pruned", shared=shared, other="float16"
)
loaded = baselines.build("lenet300")
compression.load_compressed(folder / "lenet.pruned", loaded)
with torch.no_grad():
    for layer in (network.fc1, network.fc2, network.fc3):
        layer.bias.copy_(layer.bias.half())  # other="float16" stores the biases so
outputs = [
    training.predict_logits(each, pictures.validation.images)
    for each in (network, loaded)
]
claim(
    "The network from the file gives the same outputs, to the bit",
    torch.equal(*outputs),
    at_least=1,
)
claim("The file has as many bytes as counted", size - stages["huffman"], between=(0, 0))

# %% tags=["figure:bill"]
names = {"raw": "biases", "codebooks": "shared values"}
bill = {
    part: sum(entries.values())
    for part, entries in compression.byte_bill(folder / "lenet.pruned").items()
}
plots.show(
    plots.bars(
        {names.get(part, part): value for part, value in bill.items() if value},
        title="What the bytes of the file are spent on",
        x_label="bytes",
        digits=0,
    ),
    alt=(
        "Bars of bytes by part: gaps take more than half of the file, then the indices;"
        " biases, code tables, header are small."
    ),
)

# %%
claim(
    "Where the weights are takes more bytes than what they are",
    bill["gaps"] / bill["indices"],
    at_least=1.5,
)

# %% [markdown]
# Below 3 bits a weight there is little left to gain from its value: most of the file
# says where it is. And mind what this is: a small *file*. Shared values lie on no grid,
# so there is no integer arithmetic; to compute with them they are looked up, as floats.
# They save bytes, not time.
#
# ## Sixty times
#
# With more patience: 32 epochs of cubic pruning to 94% with the dense LeNet as teacher
# (lab 09), 3 bits a weight, two epochs of fine-tuning the values, biases in 16 bits.
# Three seeds; the accuracy is that of the network read from the file. All choices were
# made on validation data; the test set was opened once for each seed.

# %%
files = studies.runs("quantization", method="Deep Compression")
times = [1_066_440 / run["file_bytes"] for run in files]
points = [
    100 * (baseline["validation_accuracy"] - run["file_accuracy"]) for run in files
]
on_test = [100 * (baseline["test_accuracy"] - run["test_accuracy"]) for run in files]
claim(
    "Each of the three files is at least 60 times smaller than the fp32 weights",
    min(times),
    at_least=60,
)
claim(
    "On validation data the mean of the three is at most 0.5 points below the baseline",
    sum(points) / 3,
    at_most=0.5,
)
claim("and on the test set each of them is", max(on_test), at_most=0.5)

# %% [markdown]
# ## In production
#
# `to_int8` is ONNX Runtime's `quantize_static` and little more. Here it is itself: give
# it a reader that hands out calibration batches.

# %% tags=["nbval-ignore-output"]
import logging

from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static


class Reader(CalibrationDataReader):
    def __init__(self, batches):
        self.batches = iter([{"pictures": images.numpy()} for images, _ in batches])

    def get_next(self):
        return next(self.batches, None)


logging.disable(logging.WARNING)  # it advises steps that the exporter has done
types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
theirs = folder / "theirs.onnx"
quantize_static(
    folder / "vgg.onnx",
    theirs,
    Reader(some_batches),
    per_channel=True,
    reduce_range=True,
    **types,
)
logging.disable(logging.NOTSET)

# %%
difference = deploy.parity(
    deploy.Session(theirs), real[7], thousand.images[:100]
).difference
claim("Its outputs and ours are the same", difference, at_most=1e-4)

# %% [markdown]
# ## One look at the test set

# %%
drop = training.evaluate(lenet, pictures.test) - training.evaluate(
    loaded, pictures.test
)
claim(
    "The live file's network, after five epochs, is within 3 points of dense on the"
    " test set",
    100 * drop,
    at_most=3,
)

# %% [markdown]
# ## Take away
#
# 1. Eight bits cost next to nothing; four cost LeNet little and the VGG a dozen points.
#    Below, train through the rounding. Give each row its own scale.
# 2. Hold the masks during such training, and count the zeros on the grid.
# 3. Pruned, shared and coded, LeNet fits in a file more than 60 times smaller; most of
# it then says where the weights are.

# %%
quiz("08_quantization")

# %%
finish()

# %% [markdown]
# **Next:** [lab 09](09_distillation.ipynb): the dense network teaches the pruned one.
