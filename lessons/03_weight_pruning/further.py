# %% [markdown]
# # 03 Weight pruning: going further
#
# Which pixels does a pruned network still look at? And what are zeros good for: does a
# file get smaller, does a product get faster? The cells run for less than half a
# minute.

# %%
import copy
import warnings

import torch
from torch.nn import functional as F
from torch.nn.utils import prune

from utils import baselines, data, masks, measure
from utils.lab import check, claim, figures, finish, predict

draw = figures("03_weight_pruning")
pictures = data.load()
network = baselines.baseline("lenet300")
mask = masks.magnitude_masks(network, 0.9, scope="layerwise")["fc1.weight"]

# %% [markdown]
# ## Which pixels are still looked at?
#
# Each of the 300 neurons of the first layer looks at all 784 pixels. Prune the layer to
# 90%, and a pixel is looked at by 30 neurons on average. The clothes stand in the
# middle of the picture.

# %%
guess_edge = predict("By how many neurons, a pixel of the topmost row?", 0, 300)

# %%
looking = mask.sum(0).reshape(28, 28).float()  # neurons that look at each pixel
rows, columns = looking.mean(1), looking.mean(0)
guess_edge.compare(rows[0])
claim(
    "The outermost rows, against the average pixel",
    rows[[0, 27]].min() / 30,
    at_least=1.1,
)
claim("The outermost columns", columns[[0, 27]].max() / 30, at_most=0.5)

# %% [markdown]
# Were you too low? The map shows where the looking is left.

# %% tags=["figure:pixels"]
draw.pixels(looking)

# %% [markdown]
# The left and the right edge say little, the upper and the lower edge much. Why, we
# did not test. Perhaps it matters whether a garment reaches the edge: trousers and
# dresses fill the height, and a shoe does not. That is a conjecture.

# %% [markdown]
# ## Does training leave most weights near zero?
#
# One often reads so. Compare the trained layer with one that has never been trained.

# %%
trained = network.fc1.weight.detach()
untrained = baselines.build("lenet300", seed=0).fc1.weight.detach()
grown = trained.abs().mean() / untrained.abs().mean()
claim("Training made the mean size of a weight larger, times", grown, at_least=2)
threshold = trained.abs()[mask].min().item()
beyond = (trained.abs() > untrained.abs().max()).float().mean()
claim("Weights larger than the largest untrained one, as a share", beyond, at_least=0.4)

# %% [markdown]
# Both layers in one picture, on a logarithmic axis:

# %% tags=["figure:histogram"]
draw.histogram(trained, untrained, threshold)

# %% [markdown]
# Training made the weights larger, not smaller, and some of them much larger than
# others. Small is what is below the threshold, not what is near zero.

# %% [markdown]
# ## Do zeros make the file smaller?
#
# `torch.nn.utils.prune` is PyTorch's own pruning. We prune LeNet to 90% with it, save
# the `state_dict`, and compare with the file of the dense network.

# %%
guess_file = predict(
    "The state of a network pruned with torch.nn.utils.prune, in % of the dense file?",
    0,
    300,
    unit="%",
    better="low",
)

# %% [markdown]
# ### Exercise: bytes of a sparse matrix
#
# *Compressed sparse rows* (CSR) is a format made for zeros. It stores, for each weight
# kept, its value (4 bytes) and its column number (4 bytes), and where each row starts,
# plus one number for where the last ends (4 bytes each).
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
# A dense layer takes 4 bytes for each weight. By your formula, from which sparsity on
# is CSR smaller? For the first layer, 300 x 784:

# %%
weights = 300 * 784
for sparsity in (0.4, 0.5, 0.6, 0.9):
    share = csr_bytes(300, round((1 - sparsity) * weights)) / (4 * weights)
    print(f"{sparsity:.0%} sparse: CSR takes {share:.0%} of the dense layer.")
even = csr_bytes(300, round(0.5 * weights)) / (4 * weights)
claim("At 50% CSR takes, of the dense layer", even, between=(1, 1.01))

# %% [markdown]
# It breaks even at about 50%. Now the real files, of the whole network.

# %%
pruned = masks.masked(network, masks.magnitude_masks(network, 0.9))
with_torch = copy.deepcopy(network)
torch_layers = [(with_torch.get_submodule(n), "weight") for n in ("fc1", "fc2", "fc3")]
prune.global_unstructured(torch_layers, pruning_method=prune.L1Unstructured, amount=0.9)
sizes = {
    "dense": measure.file_bytes(network),
    "zeros, as saved": measure.file_bytes(pruned),
    "torch.nn.utils.prune": measure.file_bytes(with_torch),
    "zeros, CSR": measure.file_bytes(measure.csr_state(pruned)),
    "zeros, zipped": measure.zipped_bytes(pruned),
}
share = {name: size / sizes["dense"] for name, size in sizes.items()}
guess_file.compare(100 * share["torch.nn.utils.prune"])
claim(
    "Full of zeros, of the dense file", share["zeros, as saved"], between=(0.999, 1.001)
)
by_torch = share["torch.nn.utils.prune"]
claim("Pruned by PyTorch, of the dense file", by_torch, between=(1.95, 2.05))
formula = sum(
    csr_bytes(len(w), int(w.count_nonzero()))
    for w in pruned.parameters()
    if w.dim() == 2
)
rest = sizes["zeros, CSR"] - formula
claim(
    "The CSR file is your formula, biases and names: bytes", rest, between=(1640, 4000)
)
zipped = share["zeros, zipped"] / share["zeros, CSR"]
claim("A zip takes, of CSR", zipped, at_most=0.8)

# %% [markdown]
# The sizes side by side, in percent of the dense file:

# %% tags=["figure:bytes"]
draw.file_sizes(sizes)

# %% [markdown]
# Did you expect a pruned file of twice the size? PyTorch keeps the original weights and
# a mask of the same shape beside them. A zero takes four bytes like any other number.
# Only a format that leaves zeros out saves bytes, and even a plain zip beats CSR, whose
# column numbers take four bytes each. Lab 08 goes on from here.

# %% [markdown]
# ## Do zeros make it faster?
#
# The matrix product of a dense layer does not look for zeros. A CSR product visits only
# the weights kept, one by one, with a column number for each. Where does it overtake?
# First a layer of 1024 x 1024, then the course's own network.

# %%
guess_cross = predict(
    "1024 x 1024, one picture: from which sparsity on is CSR faster?",
    0,
    100,
    unit="%",
    better="low",
)
guess_own = predict(
    "LeNet at 98%, CSR layers, one picture: time, in % of the dense network's?",
    0,
    400,
    unit="%",
    better="low",
)

# %% [markdown]
# All products of one race are timed in turn. A second dense layer, equal to the first,
# races with them: how far it is from 1 is the noise of this machine, now.

# %%
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
big = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0))
sparsities = [0.5, 0.8, 0.9, 0.95, 0.98, 0.99]


def race(batch):
    """Dense, its twin, masked and CSR products, in one interleaved run."""
    products = {"dense": lambda x: F.linear(x, big)}
    twin = big.clone()
    products["twin"] = lambda x: F.linear(x, twin)
    for sparsity in sparsities:
        kept = masks.masks_from_scores({"big": big.abs()}, sparsity)["big"]
        zeroed, csr = big * kept, (big * kept).to_sparse_csr()
        products[f"masked {sparsity}"] = lambda x, w=zeroed: F.linear(x, w)
        products[f"CSR {sparsity}"] = lambda x, w=csr: w @ x.T
    return measure.latency(products, torch.randn(batch, 1024), rounds=15)


timings = {batch: race(batch) for batch in (1, 64)}

# %% [markdown]
# Bars are quartiles; the grey band is the second dense layer.

# %% tags=["figure:crossover", "nbval-ignore-output"]
draw.crossover(sparsities, timings)

# %% [markdown]
# Where does CSR overtake on this machine, and by how much at the end?

# %% tags=["nbval-ignore-output"]
found = timings[1]
faster = [s for s in sparsities if found[f"CSR {s}"].speedup > 1]
guess_cross.compare(100 * min(faster, default=1.0))
claim(
    "CSR with half of the weights left, times as fast as dense",
    (found["CSR 0.5"].speedup, *found["CSR 0.5"].speedup_quartiles),
    at_most=0.8,
)
claim(
    "CSR with 1% left, times as fast as dense",
    (found["CSR 0.99"].speedup, *found["CSR 0.99"].speedup_quartiles),
    at_least=1.5,
)
gain = found["CSR 0.99"].speedup / found["masked 0.99"].speedup
claim("With 1% left, CSR is faster than a mask, times", gain, at_least=1.5)

# %% [markdown]
# The masked products lie where the second dense layer lies: the zeros are multiplied
# like any number. CSR pays far beyond 50% here. Half of the arithmetic is gone at 50%,
# and still it is slower. What that costs, reading numbers one by one or missing
# instructions that take several at once, we did not take apart.
#
# Now the network that you have pruned all along.

# %% tags=["nbval-ignore-output"]
tiny = masks.masked(network, masks.magnitude_masks(network, 0.98))
racers = {
    "dense": network,
    "dense again": copy.deepcopy(network),
    "masked": tiny,
    "CSR": measure.with_sparse_layers(tiny),
}
own = {}
for batch in (1, 64):
    own[batch] = measure.latency(racers, pictures.validation.images[:batch])
    for timing in own[batch].values():
        print(timing)
guess_own.compare(100 * own[1]["CSR"].relative)
low, high = own[1]["dense again"].relative_quartiles
outside = max(low - own[1]["masked"].relative, own[1]["masked"].relative - high, 0)
claim(
    "Masked: how far outside the second dense network's quartiles", outside, at_most=0.1
)
claim(
    "CSR, one picture, time against dense",
    (own[1]["CSR"].relative, *own[1]["CSR"].relative_quartiles),
    at_least=0.5,
)

# %% [markdown]
# 98% of the weights are zero. Is 98% of the time gone, and was that your guess? Its
# layers are smaller than 1024 x 1024, and each call has a cost of its own, which no
# zero reduces. We did not measure how much of the time is that cost. Now compare the
# lines of the batch of 64: does CSR pay there? Whether zeros pay is a question to a
# layer, a batch and a machine: measure yours.

# %% [markdown]
# ## All of it in one panel
#
# Slide the sparsity, switch the scope, and watch the layers and both times. Then choose
# the VGG: is a network with convolutions as easily helped by CSR? A network of your own
# goes in, too: `Explorer(model=my_network, data=my_data)`.

# %% tags=["figure:explorer", "nbval-ignore-output"]
from utils.explorer import Explorer

panel = Explorer("lenet300", sparsity=0.98, scope="layerwise")
panel

# %% [markdown]
# The panel counts as you did, and takes its times on this machine, now. It zips faster
# than we did above and not as well, so its zipped file is a little larger.

# %% [markdown]
# ## In production
#
# The masks of `torch.nn.utils.prune` and ours are the same. `prune.remove` makes the
# zeros permanent, and the file as large as the dense one again.

# %%
ours = masks.magnitude_masks(network, 0.9)
differing = sum(
    (layer.weight_mask.bool() != ours[name]).sum().item()
    for (layer, _), name in zip(torch_layers, ours)
)
claim("PyTorch's masks and ours differ nowhere", differing, at_most=0)
for layer, name in torch_layers:
    prune.remove(layer, name)
after = measure.file_bytes(with_torch) / sizes["dense"]
claim("After prune.remove, of the dense file", after, between=(0.999, 1.001))

# %%
finish()

# %% [markdown]
# **Next:** [04 Neurons and filters](04_neurons_and_filters.ipynb): the tensors
# themselves get smaller.
