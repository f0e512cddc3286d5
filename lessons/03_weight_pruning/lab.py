# %% [markdown]
# # 03 Weight pruning

# %%
from utils import baselines, data, masks, measure, plots, training
from utils.lab import check, claim, finish, predict, quiz

pictures = data.load()
network = baselines.baseline("lenet300")

# %% [markdown]
# ## A threshold
#
# Training leaves most weights close to zero. Magnitude pruning draws two lines, at plus
# and minus a threshold, and removes everything between them.

# %% tags=["figure:histogram"]
weight = network.fc1.weight.detach()
threshold = weight.abs().flatten().kthvalue(round(0.9 * weight.numel())).values.item()
plots.show(
    plots.histogram(
        {"weights of the first layer": weight.clamp(-0.25, 0.25)},
        title=(
            f"Nine of ten weights of the first layer lie within ±{threshold:.3f}"
            " (dashed)"
        ),
        x_label="weight (the few beyond ±0.25 are counted at the ends)",
        threshold=threshold,
    ),
    alt=(
        "Histogram of the first layer's weights: a high peak at zero; dashed lines mark"
        " the threshold for 90 percent."
    ),
)

# %% [markdown]
# ### Exercise: the mask
#
# A *mask* is a boolean tensor of the weight's shape, True = kept. At sparsity 0.9 of
# 1,000 weights exactly `round(0.9 * 1000) = 900` must go, even if many weights are
# equal.
#
# <details><summary>Hint 1</summary>Sort by size, whatever the sign.</details>
# <details><summary>Hint 2</summary><code>weight.abs().flatten().argsort()</code> lists
# the positions of the weights, the smallest first. The first <code>round(sparsity *
# n)</code> of these must be False.</details>
# <details><summary>Hint 3</summary>Start with <code>mask = torch.ones(n,
# dtype=torch.bool)</code>, set
# <code>mask[order[:count]] = False</code>, return
# <code>mask.reshape(weight.shape)</code>.</details>


# %%
def magnitude_mask(weight, sparsity):
    """Boolean mask of weight's shape: False for the round(sparsity * n) weights of
    smallest magnitude."""
    ...


# %%
magnitude_mask = check(magnitude_mask)

# %%
mask = magnitude_mask(weight, 0.9)
print(f"{mask.sum():,} of {mask.numel():,} weights are kept")

# %% tags=["figure:mask"]
corner = weight[:28, 392:420].abs()
corner_mask = mask[:28, 392:420].float()
panels = {
    "weights, |w|": corner,
    "mask (black = kept)": corner_mask * corner.max(),
    "weights x mask": corner * corner_mask,
}
plots.show(
    plots.maps(
        panels,
        title="A corner of the first layer: 28 neurons, the 28 pixels of one row",
        label="|w|",
    ),
    alt=(
        "Three square maps of a corner of the weight matrix: all weights in greys, a"
        " sparse black mask, and their product."
    ),
)

# %% [markdown]
# Each neuron of the first layer looks at all 784 pixels. After pruning, which pixels
# are still looked at?

# %% tags=["figure:pixels"]
plots.show(
    plots.maps(
        {
            f"{s:.0%} sparsity": plots.input_map(magnitude_mask(weight, s))
            for s in (0.5, 0.9, 0.98)
        },
        title="Neurons that still look at each pixel",
        label="neurons, of 300",
    ),
    alt=(
        "Three maps of the 28 by 28 input pixels: with more sparsity fewer neurons look"
        " at each pixel, unevenly spread."
    ),
)

# %% [markdown]
# ## Global or layerwise?
#
# *Layerwise*: each layer loses the same fraction. *Global*: one threshold for all, so a
# layer of many small weights loses more.

# %%
guess_output = predict(
    "Globally pruned to 98%: how much of the small output layer is left?",
    0,
    100,
    unit="%",
)

# %% tags=["figure:layers"]
by_layer = {}
for scope in ("global", "layerwise"):
    for row in masks.report(masks.magnitude_masks(network, 0.98, scope=scope))[:-1]:
        by_layer[f"{row.name.removesuffix('.weight')}, {scope}"] = (
            100 * row.kept / row.weights
        )
plots.show(
    plots.bars(
        dict(sorted(by_layer.items())),
        title="98% sparsity: how much of each layer is left",
        x_label="weights kept, % of the layer",
        unit="%",
        digits=1,
        guess=guess_output,
    ),
    alt=(
        "Bars: layerwise every layer keeps 2 percent; globally the output layer fc3"
        " keeps several times as much."
    ),
)

# %%
guess_output.compare(by_layer["fc3, global"])

# %%
import copy

sparsities = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98]


def accuracy_at(sparsity, **choice):
    """Validation accuracy after magnitude pruning, not retrained."""
    pruned = masks.masked(network, masks.magnitude_masks(network, sparsity, **choice))
    return training.evaluate(pruned, pictures.validation)


curves = {
    "global": [accuracy_at(s) for s in sparsities],
    "layerwise": [accuracy_at(s, scope="layerwise") for s in sparsities],
    "layerwise, output layer spared": [
        accuracy_at(s, scope="layerwise", exclude=["fc3.weight"]) for s in sparsities
    ],
}

# %% tags=["figure:scope"]
dense = training.evaluate(network, pictures.validation)
plots.show(
    plots.lines(
        sparsities,
        curves,
        title="One layer makes the difference between global and layerwise",
        x_label="sparsity of the layers that are pruned",
        y_label="validation accuracy, %",
        percent=True,
        stops=True,
        level=("dense", dense),
        y_limits=(0, 100),
    ),
    alt=(
        "Accuracy over sparsity: layerwise falls first; global, and layerwise with the"
        " output layer spared, hold longer."
    ),
)

# %%
at90 = {name: values[sparsities.index(0.9)] for name, values in curves.items()}
claim(
    "At 90% global beats layerwise by at least 5 points",
    at90["global"] - at90["layerwise"],
    at_least=0.05,
)
claim(
    "Sparing the output layer gains layerwise at least 5 points",
    at90["layerwise, output layer spared"] - at90["layerwise"],
    at_least=0.05,
)

# %% [markdown]
# The output layer has 1,000 weights, 0.4% of the network. Pruned like the others it
# keeps a handful of weights for each class and starves. So neither "global is better"
# nor "layerwise is better" is the rule. The rule is: look at the layers.

# %% [markdown]
# ## How sensitive is each layer?
#
# Prune one layer at a time and leave the others dense.

# %% tags=["figure:sensitivity"]
layers = ["fc1.weight", "fc2.weight", "fc3.weight"]
sensitivity = {}
for layer in layers:
    others = [name for name in layers if name != layer]
    sensitivity[layer.removesuffix(".weight")] = [
        accuracy_at(s, exclude=others) for s in sparsities
    ]
plots.show(
    plots.lines(
        sparsities,
        sensitivity,
        title=(
            "One layer pruned at a time: the small output layer is the most sensitive"
        ),
        x_label="sparsity of that layer alone",
        y_label="validation accuracy, %",
        percent=True,
        stops=True,
        level=("dense", dense),
        y_limits=(0, 100),
    ),
    alt=(
        "Accuracy over the sparsity of a single layer: pruning fc3 hurts soonest,"
        " although it is by far the smallest."
    ),
)

# %%
at90_alone = {
    name: values[sparsities.index(0.9)] for name, values in sensitivity.items()
}
costs_more = min(at90_alone["fc1"], at90_alone["fc2"]) - at90_alone["fc3"]
claim(
    "At 90% the output layer alone costs at least 10 points more than either other",
    costs_more,
    at_least=0.1,
)

# %% [markdown]
# ## Zombie weights
#
# A pruned network is usually trained on (lab 07). The zeros must stay zero meanwhile.
# An obvious idea: set the *gradients* of the pruned weights to zero, then the optimizer
# leaves them alone.

# %%
guess_zeros = predict(
    "90% zeros, gradients masked, 50 steps of SGD with momentum: how many weights are"
    " still zero?",
    0,
    100,
    unit="%",
)

# %% [markdown]
# ### Exercise: a step that keeps zeros
#
# <details><summary>Hint 1</summary>What can move a weight whose gradient is zero?
# Momentum from earlier steps.</details>
# <details><summary>Hint 2</summary>So let the optimizer step, and repair
# afterwards.</details>
# <details><summary>Hint 3</summary><code>optimizer.step()</code>, then, under
# <code>torch.no_grad()</code>,
# <code>weight.masked_fill_(~mask, 0)</code>.</details>


# %%
def held_step(optimizer, weight, mask):
    """One optimizer step after which the pruned entries of weight (mask False) are
    exactly zero. In place."""
    ...


# %%
held_step = check(held_step)

# %%
import torch
from torch.nn import functional as F

from utils.data import sample_batches


def zeros_during_training(step):
    """Train 10 steps dense, prune the first layer to 90%, train 50 more; the zeros at
    the start and after each."""
    twin = copy.deepcopy(network).train()
    optimizer = torch.optim.SGD(
        twin.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4
    )
    zeros = []
    for number, (images, labels) in enumerate(
        sample_batches(pictures.train, count=60, batch_size=128)
    ):
        if number == 10:
            masks.apply_masks(twin, {"fc1.weight": mask})
            zeros.append((twin.fc1.weight == 0).float().mean().item())
        optimizer.zero_grad()
        F.cross_entropy(twin(images), labels).backward()
        if number < 10:
            optimizer.step()
        else:
            step(optimizer, twin.fc1.weight, mask)
            zeros.append((twin.fc1.weight == 0).float().mean().item())
    return zeros


def step_with_masked_gradient(optimizer, weight, mask):
    weight.grad[~mask] = 0
    optimizer.step()


zombies = zeros_during_training(step_with_masked_gradient)
held = zeros_during_training(held_step)

# %% tags=["figure:zombies"]
plots.show(
    plots.lines(
        range(51),
        {"weights masked after the step": held, "only gradients masked": zombies},
        title="With momentum, masked gradients do not even keep zeros for one step",
        x_label="steps after pruning",
        y_label="zeros in the first layer, %",
        percent=True,
        y_limits=(0, 100),
        guess=guess_zeros,
    ),
    alt=(
        "Zeros over 50 steps: held at 90 percent when weights are masked after each"
        " step; gone at once with masked gradients."
    ),
)

# %%
guess_zeros.compare(100 * zombies[-1])
claim(
    "With masked gradients, fewer than one in ten weights are zero after a single step",
    zombies[1],
    at_most=0.1,
)
claim("and after 50 steps", zombies[-1], at_most=0.1)
claim(
    "Masked after each step, 90% are zero after every one",
    min(held),
    between=(0.8999, 0.9501),
)

# %% [markdown]
# The momentum that the weights had before pruning goes on moving them. `masks.hold`
# does what your `held_step` does, for all layers; `fit(...,
# after_step=masks.hold(model, chosen))` uses it.

# %% [markdown]
# ## Do zeros make the file smaller?
#
# ### Exercise: bytes of a sparse matrix
#
# *Compressed sparse rows* (CSR) stores, for each weight kept, its value (4 bytes) and
# its column number (4 bytes), and where each row starts, plus one number for where the
# last ends (4 bytes each).
#
# <details><summary>Hint 1</summary>Three lists: values, columns, row starts.</details>
# <details><summary>Hint 2</summary>Two of them have <code>kept</code>
# entries.</details>
# <details><summary>Hint 3</summary>The third has <code>rows + 1</code>.</details>


# %%
def csr_bytes(rows, kept):
    """Bytes of a matrix with so many rows in compressed sparse rows when so many
    weights are kept."""
    ...


# %%
csr_bytes = check(csr_bytes)

# %% [markdown]
# A dense layer of 300 x 784 weights takes 4 bytes for each. By your formula, CSR takes
# 8 for each weight kept. So it breaks even near 50% sparsity.

# %%
dense_layer, at = 4 * 300 * 784, 300 * 784
claim(
    "At 40% sparsity CSR is larger than dense",
    csr_bytes(300, round(0.6 * at)) / dense_layer,
    at_least=1.01,
)
claim(
    "At 90% it is about a fifth",
    csr_bytes(300, round(0.1 * at)) / dense_layer,
    between=(0.19, 0.21),
)

# %% [markdown]
# ### The real files
#
# Before you look: PyTorch's own pruning keeps the original weights and a mask beside
# them.

# %%
guess_file = predict(
    "State of a network pruned with torch.nn.utils.prune, in % of the dense file?",
    0,
    300,
    unit="%",
)

# %%
from torch.nn.utils import prune

pruned = masks.masked(network, masks.magnitude_masks(network, 0.9))

with_torch = copy.deepcopy(network)
torch_layers = [
    (with_torch.fc1, "weight"),
    (with_torch.fc2, "weight"),
    (with_torch.fc3, "weight"),
]
prune.global_unstructured(torch_layers, pruning_method=prune.L1Unstructured, amount=0.9)

# %% tags=["figure:bytes"]
dense_bytes = measure.file_bytes(network)
sizes = {
    "dense": dense_bytes,
    "zeros, as saved": measure.file_bytes(pruned),
    "torch.nn.utils.prune": measure.file_bytes(with_torch),
    "zeros, CSR": measure.file_bytes(measure.csr_state(pruned)),
    "zeros, zipped": measure.zipped_bytes(pruned),
}
plots.show(
    plots.bars(
        {name: 100 * size / dense_bytes for name, size in sizes.items()},
        title="LeNet-300-100 at 90% sparsity: the files",
        x_label="% of the dense file",
        unit="%",
        digits=0,
        reference=100,
        guess=guess_file,
    ),
    alt=(
        "Bars of file sizes: with zeros as large as dense; torch's pruning twice that;"
        " CSR and zip a fraction."
    ),
)

# %%
guess_file.compare(100 * sizes["torch.nn.utils.prune"] / dense_bytes)
claim(
    "A file full of zeros is as large as the dense one",
    sizes["zeros, as saved"] / dense_bytes,
    between=(0.999, 1.001),
)
claim(
    "A masked state_dict is not smaller: it is twice as large",
    sizes["torch.nn.utils.prune"] / dense_bytes,
    between=(1.95, 2.05),
)
claim("CSR is smaller than dense", sizes["zeros, CSR"] / dense_bytes, at_most=0.3)
claim(
    "A zip is smaller than CSR",
    sizes["zeros, zipped"] / sizes["zeros, CSR"],
    at_most=0.99,
)

# %% [markdown]
# Why does a plain zip beat CSR? A column number costs 4 bytes in CSR, far more than it
# is worth. Lab 08 goes on from here.

# %% [markdown]
# ## Do zeros make it faster?
#
# The matrix product of a dense layer does not look for zeros. A CSR product visits only
# the weights kept, but hops through memory to find them. Where does it overtake? We
# time a layer of 1024 x 1024.

# %%
guess_cross = predict(
    "One picture at a time: from which sparsity on is CSR faster than dense?",
    0,
    100,
    unit="%",
)

# %%
import warnings

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
big = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0))
kept_fractions = [0.5, 0.8, 0.9, 0.95, 0.98, 0.99]


def timed_against_dense(batch):
    """Speed of masked and of CSR products relative to dense, at each sparsity, in one
    interleaved run."""
    products = {"dense": lambda x: F.linear(x, big)}
    for sparsity in kept_fractions:
        zeroed = big * magnitude_mask(big, sparsity)
        csr = zeroed.to_sparse_csr()
        products[f"masked {sparsity}"] = lambda x, w=zeroed: F.linear(x, w)
        products[f"CSR {sparsity}"] = lambda x, w=csr: w @ x.T
    return measure.latency(products, torch.randn(batch, 1024), rounds=15)


timings = {batch: timed_against_dense(batch) for batch in (1, 64)}

# %% tags=["figure:crossover", "nbval-ignore-output"]
speeds = {
    "masked, batch 1": [timings[1][f"masked {s}"].speedup for s in kept_fractions],
    "CSR, batch 1": [timings[1][f"CSR {s}"].speedup for s in kept_fractions],
    "CSR, batch 64": [timings[64][f"CSR {s}"].speedup for s in kept_fractions],
}
figure = plots.lines(
    kept_fractions,
    speeds,
    title="Speed of a 1024 x 1024 layer, dense = 1 (one thread)",
    x_label="sparsity",
    y_label="times as fast as dense",
    stops=True,
    level=("dense", 1.0),
)
plots.show(
    figure,
    alt=(
        "Speed relative to dense over sparsity: masked stays at one; CSR is slower at"
        " 50 percent, faster at 99."
    ),
)

# %%
claim(
    "With 99% zeros, masks alone do not even double the speed",
    timings[1]["masked 0.99"].speedup,
    between=(0.5, 2),
)
claim(
    "At 50% sparsity CSR is slower than dense",
    timings[64]["CSR 0.5"].speedup,
    at_most=0.9,
)
claim("At 99% it is faster", timings[64]["CSR 0.99"].speedup, at_least=1.3)

# %% tags=["nbval-ignore-output"]
faster = [s for s in kept_fractions if timings[1][f"CSR {s}"].speedup > 1]
print(
    f"Batch 1: CSR is faster at {', '.join(f'{s:.0%}' for s in faster)} of the"
    " sparsities tried."
)
guess_cross.compare(100 * min(faster))

# %% [markdown]
# And the network itself? Dense against masked, timed in turn.

# %%
whole = measure.latency(
    {"dense": network, "masked": pruned}, pictures.validation.images[:1]
)
claim(
    "A masked network is as fast as the dense one",
    whole["masked"].speedup,
    between=(0.6, 1.67),
)

# %% [markdown]
# ## All of it in one panel
#
# Set to 98%, layerwise. Three things to find out with it:
#
# 1. Switch the scope to global. Which layer gets more weights, and what does accuracy
# say?
# 2. Watch the two times while you slide. The dense kernel does not care; from which
# sparsity on is the CSR kernel ahead, here?
# 3. Choose the VGG, and compare again: is a network with convolutions as easily helped
# by CSR?
#
# A network of your own goes in, too: `Explorer(model=my_network)`; with other pictures
# than Fashion-MNIST, `Explorer(model=my_network, data=my_data)`.

# %% tags=["figure:explorer", "nbval-ignore-output"]
from utils.explorer import Explorer

panel = Explorer("lenet300", sparsity=0.98, scope="layerwise")
panel

# %%
layerwise_98 = panel.state(panel.controls)
panel.scope.value = "global"
global_98 = panel.state(panel.controls)
fc3 = [
    next(row for row in state.layers if row.name == "fc3.weight").sparsity
    for state in (layerwise_98, global_98)
]
claim(
    "At 98% layerwise leaves the output layer less than global does",
    fc3[0] - fc3[1],
    at_least=0.04,
)
claim(
    "The panel counts the same zeros as you did: 2% of the weights are left",
    global_98.weights,
    between=(0.0199, 0.0201),
)

# %% [markdown]
# ## In production
#
# You have met `torch.nn.utils.prune` already. Its masks and ours are the same;
# `prune.remove` makes the zeros permanent and the file as large as the dense one again.

# %%
ours = masks.magnitude_masks(network, 0.9)
differing = sum(
    (layer.weight_mask.bool() != ours[name]).sum().item()
    for (layer, _), name in zip(torch_layers, ours)
)
claim("PyTorch's masks and ours differ nowhere", differing, at_most=0)
for layer, name in torch_layers:
    prune.remove(layer, name)
claim(
    "After prune.remove the file is as large as the dense one",
    measure.file_bytes(with_torch) / dense_bytes,
    between=(0.999, 1.001),
)

# %% [markdown]
# ## One look at the test set

# %%
twin = masks.masked(network, masks.magnitude_masks(network, 0.5))
drop = training.evaluate(network, pictures.test) - training.evaluate(
    twin, pictures.test
)
claim(
    "Half of the weights go for less than two points on the test set",
    drop,
    at_most=0.02,
)

# %% [markdown]
# ## Take away
#
# 1. A score and a threshold make a mask; which layers it hits matters as much as how
# many weights.
# 2. Zeros stay zero only if they are set again after each step of the optimizer.
# 3. Zeros shrink a file only in a format made for them, and speed up a product only far
# beyond 50%.

# %%
quiz("03_weight_pruning")

# %%
finish()

# %% [markdown]
# **Next:** [lab 04](04_neurons_and_filters.ipynb) removes whole neurons and filters:
# then the tensors themselves get smaller.
