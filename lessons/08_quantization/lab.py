# %% [markdown]
# # 08 Quantization
#
# Pruning takes numbers away. Quantization makes those that stay shorter: 8 bits, or 4,
# in place of 32. This lab rounds whole networks and asks one thing all the time: *where
# does the grid lie?* What rounding does together with pruning is in the second
# notebook, [going further](08_quantization_further.ipynb).

# %%
from dataclasses import replace

import torch

from utils import baselines, data, deploy, quantization, training
from utils.data import sample_batches
from utils.lab import (
    check,
    claim,
    decide,
    figures,
    finish,
    predict,
    progress,
    quiz,
)

draw = figures("08_quantization")
pictures = data.load()
lenet, vgg = baselines.baseline("lenet300"), baselines.baseline("vgg_half")
dense = training.evaluate(lenet, pictures.validation)

# %% [markdown]
# ## One row, by hand
#
# A *grid* is a list of evenly spaced numbers. Rounding moves each weight to the nearest
# of them, and only the number of that level is stored. With 4 bits there are 16 levels.
# We leave one out, so that both sides are alike: -7 to 7.
#
# ![Three number lines: a grid with its levels for weights, a grid with its zero point
# for activations, and a grid that is cut off.](../lessons/08_quantization/figures/lattice.svg)
#
# The distance between two levels is the *scale*. Let the largest magnitude be level 7,
# divide, round. That is all. Here is the first output neuron of LeNet, with its 100
# weights:

# %% tags=["figure:row"]
row = lenet.fc3.weight.detach()[0]
scale = float(row.abs().max()) / 7
integers = (row / scale).round().to(torch.int8)
draw.row(row, scale, integers)

# %% [markdown]
# No weight moves by more than half a step. And look at the ends: the one largest weight
# sets the scale for all hundred, and most of the others share the few levels near zero.
#
# ## Activations: a zero point
#
# Weights lie around zero. What goes *into* a layer does not: after ReLU nothing is
# negative, and the pictures reach from about -0.8 to 2. So the range is looked up
# first, on some pictures (*calibration*), and the levels 0 to 255 are laid over it. One
# of them, the *zero point*, stands for 0.0, and exactly: padding and ReLU put in zeros
# everywhere.
#
#     q = round(x / scale) + zero_point          x is about scale * (q - zero_point)
#
# ### Exercise: choose the grid
#
# <details><summary>Hint 1</summary>If 0 lies outside the range, stretch the range to it
# first.</details>
# <details><summary>Hint 2</summary>256 levels have 255 steps between them. Level 0
# stands for <code>low</code>. And where low and high are both 0, any scale will
# do.</details>
# <details><summary>Hint 3</summary><code>scale = (high - low) / 255 or 1.0</code>, and
# the zero point is <code>round(-low / scale)</code>.</details>


# %%
def choose_grid(low, high):
    """Scale and zero point of the levels 0 to 255 for numbers between low and high:
    (float, int). 0.0 lies exactly on the grid, also where low and high have the same
    sign, or are both 0 (a neuron that never fires)."""
    ...


# %%
choose_grid = check(choose_grid)
calibration = sample_batches(pictures.train, count=1)
low, high = quantization.input_ranges(lenet, calibration)["fc1"]
input_scale, zero_point = choose_grid(low, high)
zero_point = int(zero_point)  # if yours is a whole number in a float or in a tensor
some = pictures.validation.images[:20].flatten(1)
inputs = (some / input_scale + zero_point).round().clamp(0, 255).to(torch.uint8)
error = (input_scale * (inputs.int() - zero_point) - some).abs().max()
claim("No pixel moves by more than half a step", error / input_scale, at_most=0.51)

# %% [markdown]
# Twenty pictures are now whole numbers from 0 to 255, on the grid that you chose.
#
# ## A layer in integers
#
# With both sides in integers, a layer is a product of integers: that is what *can* make
# int8 fast (lab 10). A single product fits in 16 bits, 255 * 127. A sum of 784 of them
# does not, so it is kept in 32. At the end one multiplication a row brings the sums
# back, `input scale * weight scale`. Each row of the weight has a scale of its own.
# `weight_grid` chooses them by the largest magnitude of each row. What it gives is a
# `Grid`: `integers` are the levels of some numbers, `values` what levels stand for, and
# `snap` does both, it rounds.
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
weight = lenet.fc1.weight.detach()
grid = quantization.weight_grid(weight, bits=8)  # scales [rows, 1], levels -127 to 127
codes = grid.integers(weight).to(torch.int8)
sums = integer_product(inputs, zero_point, codes)
back = input_scale * grid.scale.T * sums
floats = (input_scale * (inputs.double() - zero_point)) @ grid.values(codes).double().T
claim("Integers give what floats give", (back - floats).abs().max(), at_most=1e-3)
pairs = (inputs.int()[:, None] * codes.int()).unflatten(2, (-1, 2)).sum(3)
large = (pairs.abs() > 32_767).sum()
claim(
    "A product fits in 16 bits, some sums of two do not: so many", large, at_least=100
)

# %% [markdown]
# Remember the sums of two: they come back as a trap. (A processor multiplies the raw
# integers, as there, and takes the zero point off the sums afterwards.) And see: only
# *rounding* costs anything, computing with integers does not. From now on we may
# simulate: round, and compute in float. `quantize_weights` gives a copy of a network
# whose weights lie on their grids.
#
# ## How many bits?
#
# LeNet's weights in 4 bits. First with one scale for a whole layer, then with a scale
# for each row, as above. No training.

# %%
guess_four = predict(
    "All of LeNet's weights in 4 bits, a scale a row: how many points of accuracy are"
    " lost?",
    0,
    80,
    unit="points",
    better="low",
)

# %% tags=["nbval-ignore-output"]
widths = (2, 3, 4, 5, 6, 8)
curves = {
    name: [
        training.evaluate(
            quantization.quantize_weights(lenet, bits, per_channel=rows),
            pictures.validation,
        )
        for bits in widths
    ]
    for name, rows in {"one scale for all rows": False, "a scale a row": True}.items()
}
one, rows = (dict(zip(widths, found)) for found in curves.values())
guess_four.compare(100 * (dense - rows[4]))
claim("8 bits lose less than 0.2 points", 100 * (dense - rows[8]), at_most=0.2)
claim("4 bits lose less than a point", 100 * (dense - rows[4]), at_most=1)
claim("3 bits lose more than 8", 100 * (dense - rows[3]), at_least=8)
claim("2 bits leave fewer than 30% right", rows[2], at_most=0.3)
claim("A scale a row gains over 5 at 3 bits", 100 * (rows[3] - one[3]), at_least=5)

# %% [markdown]
# Fifteen levels are nearly as good as four billion; seven are not. (Why is the loss so
# small for so long? Think of what a neuron does with its 784 small errors.) A scale for
# each row costs 4 bytes a row, and below 4 bits it decides.
#
# ## Weights, activations, both
#
# "The VGG" is here the course's `vgg_half`: the half of the filters that has the
# largest L1 norms, trained again (lab 04). It has six layers. `quantized` folds each
# BatchNorm into the layer before it (in use it only multiplies and adds one number a
# channel) and rounds weights and what comes in, to 8 bits where nothing else is said.
# We judge on 1,000 pictures, and also ask how far the ten *outputs* have moved: the
# squared error, as a part of their square.

# %%
guess_both = predict(
    "The VGG with weights *and* activations in 4 bits: how many points are lost?",
    0,
    80,
    unit="points",
    better="low",
)

# %%
thousand = pictures.validation[:1000]
outputs = training.predict_logits(vgg, thousand.images)
right = (outputs.argmax(1) == thousand.labels).float()


def judge(**bits):
    """Points lost, two standard errors of that (paired), and the outputs' error."""
    network = quantization.quantized(vgg, calibration, **bits)
    found = training.predict_logits(network, thousand.images)
    change = 100 * (right - (found.argmax(1) == thousand.labels).float())
    noise = (found - outputs).square().sum() / outputs.square().sum()
    return float(change.mean()), float(2 * change.std() / 1000**0.5), float(noise)


weights, activations = judge(bits=4), judge(activation_bits=4)
both, three = judge(bits=4, activation_bits=4), judge(bits=3)
claim("Weights in 4 bits, activations in 8: points lost", weights[0], between=(0, 2))
claim("activations in 4, weights in 8: points lost", activations[0], between=(0, 2.5))
summed = weights[0] + activations[0]
claim("Both lose over twice the sum of the two", both[0] / summed, at_least=2)
added = both[2] / (weights[2] + activations[2])
claim("The errors of the outputs add up, and more", added, between=(1.2, 2.2))
claim("Weights in 3 bits: error, against both", three[2] / both[2], between=(1.1, 1.6))
claim("and lose as much, within 5 points", three[0] - both[0], between=(-5, 5))

# %% tags=["figure:both", "nbval-ignore-output"]
alone = {"weights in 4 bits": weights, "activations in 4 bits": activations}
draw.both(alone | {"both in 4 bits": both, "weights in 3 bits": three})
guess_both.compare(both[0])

# %% [markdown]
# Each alone is cheap; both together are not. Why? It is nothing about the pair: weights
# alone, in 3 bits, disturb the outputs somewhat more than the pair does. Their loss is
# the pair's, within the noise of 1,000 pictures. <!-- why: measured: and lose as much, within 5 points --> In these four
# networks the loss goes with the whole error at the outputs. Accuracy first hardly
# notices it, and then falls. So the bits of weights and of activations draw on one
# budget. (The errors at the outputs more than add up. What makes them do so, we did not
# test.)
#
# ## Where the grid is cut
#
# Back to LeNet, to its cliff. In the first figure one large weight sets the scale for
# all. Nobody forces us to let the grid reach as far as it does. Cut it off earlier: the
# levels lie closer, and what lies beyond the last one becomes the last one, it
# *saturates*. We try many cuts for each row and keep the one with the least squared
# error. At 2 bits there are three levels: minus, zero, plus.

# %%
guess_cut = predict(
    "2 bits left fewer than 30% right. The same 2 bits, each row's grid cut off where"
    " the squared error is least: how many % are right?",
    0,
    100,
    unit="%",
    better="high",
)


# %%
def least_error(weight, bits):
    """The weight on the grids, one a row, cut off where the squared error is least."""
    full = quantization.weight_grid(weight, bits)
    parts = [part / 20 for part in range(2, 21)]  # of the largest magnitude of a row
    tries = torch.stack(
        [replace(full, scale=p * full.scale).snap(weight) for p in parts]
    )
    errors = (tries - weight).square().flatten(2).sum(2)  # [parts, rows]
    return tries[errors.argmin(0), torch.arange(len(weight))]


def cut_off(bits):
    """LeNet on such grids."""
    network = baselines.baseline("lenet300")
    with torch.no_grad():
        for layer in (network.fc1, network.fc2, network.fc3):
            layer.weight.copy_(least_error(layer.weight, bits))
    return network


curves["a scale a row, cut off"] = [
    training.evaluate(cut_off(bits), pictures.validation) for bits in widths
]

cut = dict(zip(widths, curves["a scale a row, cut off"]))
claim("At 2 bits the cut gains over 40 points", 100 * (cut[2] - rows[2]), at_least=40)
claim("at 3 bits over 7", 100 * (cut[3] - rows[3]), at_least=7)
claim("and 3 bits then lose less than 2", 100 * (dense - cut[3]), at_most=2)
kept = (least_error(weight, 8) == grid.snap(weight)).all(1).float().mean()
claim(
    "At 8 bits the search leaves most rows of the first layer uncut", kept, at_least=0.9
)

# %% tags=["figure:cut", "nbval-ignore-output"]
draw.cut(widths, curves, dense)
guess_cut.compare(100 * cut[2])

# %% [markdown]
# The cliff was not that of 3 bits. It was that of a grid that reaches to the largest
# weight. (Why does the cut change nothing at 8 bits? Which of the two errors, coarse
# steps or saturation, is the larger one there?) Training through the rounding gains a
# little more; it is in the [second notebook](08_quantization_further.ipynb).
#
# ## In production: int8 for real
#
# So far we computed in float with rounded numbers. ONNX Runtime computes with the
# integers. Its `quantize_static` takes a file, calibration batches, and the types of
# activations and weights: `U8` has no sign, `S8` has one. `reduce_range` gives the
# weights 7 bits.
#
# Mind the trap: older x86 processors multiply two pairs of an unsigned and a signed
# byte and add both in *16* bits, in one instruction. What does not fit, like the sums
# of two above, saturates in silence. With weights of 7 bits everything fits: 255 * 63 *
# 2 is 32,130, and 32,767 is the most there is. Newer ones (VNNI) add in 32 bits. ARM
# processors, those of phones and Macs, do not have this instruction.


# %% tags=["nbval-ignore-output"]
import logging
import tempfile
from pathlib import Path

from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static


class Reader(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{"pictures": images.numpy()} for images, _ in calibration])

    def get_next(self):
        return next(self.batches, None)


u8, s8 = QuantType.QUInt8, QuantType.QInt8
kinds = {  # of activations, of weights, whether the weights have 7 bits
    "U8S8, 8 bits": (u8, s8, False),
    "U8S8, 7 bits": (u8, s8, True),
    "S8S8, 8 bits": (s8, s8, False),
    "U8U8, 8 bits": (u8, u8, False),
}
logging.disable(logging.WARNING)  # it advises steps that the exporter has done
exact = Path(tempfile.mkdtemp()) / "vgg.onnx"
size = deploy.to_onnx(vgg, thousand.images[:1], exact)
sessions = {"32 bits": deploy.Session(exact)}
for name, (of_inputs, of_weights, reduced) in kinds.items():
    types = {"activation_type": of_inputs, "weight_type": of_weights}
    grids = {"per_channel": True, "reduce_range": reduced}
    path = exact.with_name(f"{name}.onnx")
    quantize_static(exact, path, Reader(), **types, **grids)
    sessions[name] = deploy.Session(path)
logging.disable(logging.NOTSET)
found = {name: training.evaluate(each, thousand) for name, each in sessions.items()}
for name, accuracy in found.items():
    print(f"{name}: {accuracy:.1%} right on this processor")
simulated = quantization.quantized(vgg, calibration, bits=7)
seven = sessions["U8S8, 7 bits"]
alike = deploy.parity(simulated, seven, thousand.images).agreement
claim("The runtime and our simulation give the same class", alike, at_least=0.97)
lost = 100 * (found["32 bits"] - found["U8S8, 7 bits"])
claim("7 bits lose less than a point, in the runtime too", lost, at_most=1)

# %% [markdown]
# If the two rows with 8 bits and signed weights are clearly lower, yours is a processor
# with the trap; if all rows are alike, it is not. The same file, other answers: 7 bits
# or `U8U8` are safe on both. (Which of them is faster? Lab 10 has the clock.) The
# simulation differs a little: the runtime also rounds what comes *out* of a layer.
#
# ## Decide: bits, layer by layer
#
# The VGG shall run on a board with **95 kilobytes** for weights, scales and the two
# largest activation maps of a picture, and may lose **one point** on the 1,000
# pictures. Choose bits (2 to 8) for the weights of each of its six layers, bits for all
# activations, and whether the weights' grids are cut off. The layers have 288, 9,216,
# 18,432, 36,864, 73,728 and 1,280 weights; the two maps have 50,176 numbers. One number
# of bits everywhere does not do it.

# %%
# {"weights": [8, 8, 8, 8, 8, 8], "activations": 8, "cut": False}
my_choice = ...
decide("08_quantization", my_choice)

# %% [markdown]
# Write down why you took bits where you took them. There are several answers.
#
# ## One look at the test set
#
# All choices above were made on validation data. Now, once: LeNet with its weights in 3
# bits, cut off, and the VGG in int8.

# %% tags=["nbval-ignore-output"]
for name, network, facts in (
    ("LeNet, weights in 3 bits", cut_off(3), baselines.baseline_facts("lenet300")),
    ("VGG, int8 with 7 bits", seven, baselines.baseline_facts("vgg_half")),
):
    accuracy = training.evaluate(network, pictures.test)
    print(f"{name}: {accuracy:.2%} right, 32 bits {facts['test_accuracy']:.2%}")
    lost = 100 * (facts["test_accuracy"] - accuracy)
    claim(f"{name}: less than 2 points lost on the test set", lost, at_most=2)

# %% [markdown]
# ## Take away
#
# 1. Eight bits cost next to nothing, and four bits little, with a scale a row.
# 2. Below that, for LeNet, what counted was where the grid is cut: at 2 and 3 bits a
#    cut-off grid gave back most of what rounding took.
# 3. Weights and activations draw on one budget of error: each in 4 bits was cheap, both
#    together were not.

# %%
quiz("08_quantization")

# %% tags=["nbval-ignore-output"]
progress()

# %%
finish()

# %% [markdown]
# **Next:** [going further](08_quantization_further.ipynb) on rounding and pruning
# together, down to the last byte; or [lab 09](09_distillation.ipynb): the dense network
# teaches the pruned one.
