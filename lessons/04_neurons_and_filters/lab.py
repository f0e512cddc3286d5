# %% [markdown]
# # 04 Neurons and filters
#
# Lab 03 left tensors full of zeros, at their old size and their old speed. A *unit* is
# more than a weight: a neuron of a linear layer, or a filter of a convolution. Without
# it a whole row of numbers can leave, and the tensor gets smaller.

# %%
import torch

from utils import baselines, data, masks, measure, plots, surgery, training
from utils.lab import check, claim, finish, predict, quiz
from utils.scores import score, unit_random

pictures = data.load()
picture = pictures.validation.images[:1]
lenet = baselines.baseline("lenet300")

# %% [markdown]
# ## What belongs to a neuron?
#
# Neuron 7 of the first layer owns row 7 of that layer's weight and one bias. The second
# layer holds a *column* of weights for it: what each of its neurons does with the
# answer of neuron 7.

# %% tags=["figure:row_and_column"]
first = torch.full((40, 60), 0.15)
first[7] = 1
second = torch.full((24, 40), 0.15)
second[:, 7] = 1
plots.show(
    plots.maps(
        {
            "first layer: row 7 makes the neuron": first,
            "second layer: column 7 uses it": second,
        },
        title=(
            "A neuron is a row here and a column there (a sketch of 60, 40 and 24"
            " units)"
        ),
        label="black: belongs to neuron 7",
    ),
    alt=(
        "Two matrices: in the first layer's weight row 7 is black, in the second"
        " layer's weight column 7 is black."
    ),
)

# %% [markdown]
# ### Exercise: remove neurons
#
# <details><summary>Hint 1</summary>Three tensors change: the first layer's weight and
# bias, and the second layer's weight.</details>
# <details><summary>Hint 2</summary>A boolean tensor picks rows as
# <code>weight[keep]</code> and columns as
# <code>weight[:, keep]</code>.</details>
# <details><summary>Hint 3</summary>Make <code>nn.Linear(first.in_features,
# int(keep.sum()))</code>, and under
# <code>torch.no_grad()</code> copy: <code>new.weight.copy_(first.weight[keep])</code>,
# the same for the bias. Then the second layer, with <code>second.weight[:, keep]</code>
# and its whole bias.</details>


# %%
def remove_neurons(first, second, keep):
    """Two smaller nn.Linear: first without the rows (and biases) where keep is False,
    second without those columns. New layers; the old ones stay as they are."""
    ...


# %%
remove_neurons = check(remove_neurons)

# %% [markdown]
# ## Nothing changed: a proof in three lines
#
# Some neurons of the second layer are *dead*: they put out zero for every picture.
# Nobody misses a zero. We remove them and compare what the two networks say.

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    alive = (lenet[:5](pictures.train.images) > 0).any(0)
print(
    f"{int((~alive).sum())} of 100 neurons say nothing about any of the 55,000 training"
    " pictures"
)

# %%
fc2, fc3 = remove_neurons(lenet.fc2, lenet.fc3, alive)
smaller = torch.nn.Sequential(lenet[:3], fc2, lenet.relu2, fc3)
with torch.no_grad():
    difference = (
        (lenet(pictures.train.images) - smaller(pictures.train.images)).abs().max()
    )

# %%
claim("At least one neuron is dead", (~alive).sum(), at_least=1)
claim(
    "Without the dead the network says the same about every training picture",
    difference,
    at_most=1e-3,
)

# %% [markdown]
# The differences that are left, below a thousandth, are rounding: the sums are added up
# in another order.
#
# Weight pruning (lab 03) makes more such neurons. At 95% sparsity some have no outgoing
# weight left: whatever they say, nobody listens.

# %%
sparse = masks.masked(lenet, masks.magnitude_masks(lenet, 0.95))
heard = (sparse.fc2.weight != 0).any(0)
smaller = surgery.remove_units(sparse, picture, {"fc1.weight": heard})
with torch.no_grad():
    difference = (
        (sparse(pictures.validation.images) - smaller(pictures.validation.images))
        .abs()
        .max()
    )
claim(
    "At 95% at least 30 of the 300 neurons are not heard any more",
    (~heard).sum(),
    at_least=30,
)
claim("They leave, and no answer changes", difference, at_most=1e-3)

# %% [markdown]
# ## Zeroed against removed
#
# Now half of all hidden neurons go, those with the smallest L1 norm, twice: once they
# are only set to zero, once they leave. The functions of `surgery` do for whole
# networks what you just did for two layers. They need a picture beside the network:
# they send its shape through, to see which layer feeds which.

# %%
guess_speed = predict(
    "Half of LeNet's neurons removed: how many times as fast is it, one picture at a"
    " time?",
    0,
    100,
    unit="times",
)

# %%
chosen = surgery.unit_masks(lenet, picture, score("l1", lenet, units=True), 0.5)
zeroed = surgery.zero_units(lenet, picture, chosen)
removed = surgery.remove_units(lenet, picture, chosen)
with torch.no_grad():
    difference = (
        (zeroed(pictures.validation.images) - removed(pictures.validation.images))
        .abs()
        .max()
    )
claim(
    "Zeroed and removed say the same about every validation picture",
    difference,
    at_most=1e-3,
)

# %%
lenets = {"dense": lenet, "zeroed": zeroed, "removed": removed}
lenet_bytes = {name: measure.file_bytes(network) for name, network in lenets.items()}
lenet_times = measure.latency(lenets, picture)

# %% tags=["figure:lenet_speed", "nbval-ignore-output"]
plots.show(
    plots.bars(
        {name: timing.speedup for name, timing in lenet_times.items()},
        title="LeNet without half of its neurons, one picture at a time",
        x_label="times as fast as dense (one thread)",
        unit="x",
        reference=1,
        errors={name: timing.speedup_quartiles for name, timing in lenet_times.items()},
        guess=guess_speed,
    ),
    alt=(
        "Bars of speed relative to dense: zeroed is as fast as dense; removed is"
        " faster."
    ),
)

# %% tags=["nbval-ignore-output"]
guess_speed.compare(lenet_times["removed"].speedup)

# %%
claim(
    "Zeroed neurons save nothing on disk",
    lenet_bytes["zeroed"] / lenet_bytes["dense"],
    between=(0.99, 1.01),
)
claim(
    "Removed ones make the file less than half as large",
    lenet_bytes["removed"] / lenet_bytes["dense"],
    at_most=0.5,
)
claim(
    "Zeroed neurons do not make LeNet faster",
    lenet_times["zeroed"].speedup,
    between=(0.6, 1.67),
)
claim("Removed ones do", lenet_times["removed"].speedup, at_least=1.02)

# %% tags=["nbval-ignore-output"]
for timing in lenet_times.values():
    print(timing)

# %% [markdown]
# LeNet is so small that much of its time is not arithmetic at all: calling six layers,
# allocating their outputs. A network with more work shows more.

# %% [markdown]
# ### Was it the score?
#
# The control: as many neurons removed, drawn at random, three times.

# %%
kept = {"smallest L1 norm removed": training.evaluate(removed, pictures.validation)}
for seed in range(3):
    by_chance = surgery.unit_masks(lenet, picture, unit_random(lenet, seed=seed), 0.5)
    at_random = surgery.remove_units(lenet, picture, by_chance)
    kept[f"random half, draw {seed + 1}"] = training.evaluate(
        at_random, pictures.validation
    )

# %% tags=["figure:control"]
plots.show(
    plots.bars(
        {
            "dense": 100 * training.evaluate(lenet, pictures.validation),
            **{k: 100 * v for k, v in kept.items()},
        },
        title="LeNet without half of its neurons, not retrained",
        x_label="validation accuracy, %",
        unit="%",
        digits=1,
    ),
    alt=(
        "Bars of accuracy: dense highest, removal by L1 norm a few points below, three"
        " random halves lower still."
    ),
)

# %%
norm, *chance = kept.values()
claim("The L1 norm beats each of three random draws", norm - max(chance), at_least=0.01)

# %% [markdown]
# ## Filters
#
# A filter is to a convolution what a neuron is to a linear layer: one output *channel*.
# The VGG's first layer has 64 filters of 3 x 3.

# %%
vgg = baselines.baseline("vgg")
norms = score("l1", vgg, units=True)["0.weight"]
order = norms.argsort(descending=True)

# %% tags=["figure:filters"]
filters = vgg[0].weight.detach()[order, 0]
picked = torch.cat([filters[:8], filters[-8:]])
plots.show(
    plots.filters(
        picked,
        [f"{norms[i]:.2f}" for i in torch.cat([order[:8], order[-8:]])],
        title=(
            "The first layer's filters with their L1 norm: the 8 largest, and the 8"
            " smallest below"
        ),
        columns=8,
    ),
    alt=(
        "Sixteen filters of 3 by 3 in two rows: the large ones have strong light and"
        " dark parts, the small ones are plain grey."
    ),
)

# %% [markdown]
# ## What goes with a filter?
#
# Its own weights. Its BatchNorm entry: weight, bias, running mean, running variance.
# And in each filter of the next layer the slice that looked at its channel.
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


# %%
leaves_with_a_filter = check(leaves_with_a_filter)

# %% [markdown]
# Does surgery agree? We remove filter 5 of the VGG's second convolution (64 inputs; the
# next layer has 128 filters) and count what is missing in the state of the network.

# %%
one_gone = torch.ones(64, dtype=torch.bool)
one_gone[5] = False
without_one = surgery.remove_units(vgg, picture, {"3.weight": one_gone})
missing = sum(t.numel() for t in vgg.state_dict().values()) - sum(
    t.numel() for t in without_one.state_dict().values()
)
claim(
    "Your count is what surgery removed",
    missing - leaves_with_a_filter(3, 64, 128),
    between=(0, 0),
)

# %% [markdown]
# `follow` traces the network and knows for each unit what goes with it:

# %%
from utils.channels import follow

for place, positions in follow(vgg, picture).takes("3", 5).items():
    print(f"layer {place}: {positions}")

# %% [markdown]
# Layer 3 is the convolution, 4 its BatchNorm, 7 the next convolution.

# %% [markdown]
# ## Half of the VGG's filters
#
# In each layer the half with the smallest L1 norm goes. A convolution's work is inputs
# times outputs, and both are halved.

# %%
guess_macs = predict(
    "Half of the filters of each layer removed: how much of the work is left?",
    0,
    100,
    unit="%",
)

# %%
half_masks = surgery.unit_masks(vgg, picture, score("l1", vgg, units=True), 0.5)
half_zeroed = surgery.zero_units(vgg, picture, half_masks)
half = surgery.remove_units(vgg, picture, half_masks)
work_left = 100 * measure.macs(half, picture) / measure.macs(vgg, picture)
guess_macs.compare(work_left)

# %%
vggs = {"dense": vgg, "half zeroed": half_zeroed, "half removed": half}
one = measure.latency(vggs, picture, rounds=25)
many = measure.latency(vggs, pictures.validation.images[:32], rounds=7)

# %% tags=["figure:vgg_speed", "nbval-ignore-output"]
vgg_times = {f"{name}, 1 picture": timing for name, timing in one.items()}
vgg_times |= {f"{name}, 32 pictures": timing for name, timing in many.items()}
plots.show(
    plots.bars(
        {name: timing.speedup for name, timing in vgg_times.items()},
        title="VGG without half of its filters",
        x_label="times as fast as dense (one thread)",
        unit="x",
        reference=1,
        errors={name: timing.speedup_quartiles for name, timing in vgg_times.items()},
    ),
    alt=(
        "Bars of speed relative to dense for 1 and for 32 pictures: half zeroed is as"
        " fast as dense, half removed more than twice as fast."
    ),
)

# %%
claim("About a quarter of the work is left", work_left, between=(24, 27))
claim(
    "Zeroed filters do not make the VGG faster",
    one["half zeroed"].speedup,
    between=(0.6, 1.67),
)
claim(
    "Removed ones do: more than 1.5 times as fast with one picture",
    one["half removed"].speedup,
    at_least=1.5,
)
claim("and more than twice as fast with 32", many["half removed"].speedup, at_least=2)

# %% [markdown]
# A quarter of the work, and yet not four times as fast: BatchNorm, ReLU and pooling
# shrink only to a half, and with one picture every call costs its share. Lab 05 goes on
# from here.

# %% [markdown]
# ## And the accuracy?
#
# Fast, but is it any good? Evaluated on the first 1,000 validation pictures, straight
# after the operation, and after twelve epochs of fine-tuning. These take too long for a
# lab: `make checkpoints ARGS=vgg_half` trains that network, from the same half of the
# filters.

# %%
guess_accuracy = predict(
    "Accuracy of the VGG straight after half of its filters left?", 0, 100, unit="%"
)

# %%
tuned = baselines.baseline("vgg_half")
some = pictures.validation[:1000]
accuracy = {
    "dense": training.evaluate(vgg, some),
    "half of the filters removed": training.evaluate(half, some),
    "the same, fine-tuned (shipped)": training.evaluate(tuned, some),
}

# %% tags=["figure:accuracy"]
plots.show(
    plots.bars(
        {name: 100 * value for name, value in accuracy.items()},
        title="The operation destroys what was learned; fine-tuning brings it back",
        x_label="accuracy on 1,000 validation pictures, %",
        unit="%",
        digits=1,
        guess=guess_accuracy,
    ),
    alt=(
        "Bars of accuracy: dense above 90 percent, straight after removal close to"
        " guessing, after fine-tuning above 90 again."
    ),
)

# %%
guess_accuracy.compare(100 * accuracy["half of the filters removed"])
claim(
    "Straight after the operation more than 7 in 10 are wrong",
    accuracy["half of the filters removed"],
    at_most=0.3,
)
claim(
    "The shipped network has exactly the size of the one we cut",
    measure.parameters(tuned) - measure.parameters(half),
    between=(0, 0),
)
claim(
    "Fine-tuned it is within 1.5 points of dense on these pictures",
    100 * (accuracy["dense"] - accuracy["the same, fine-tuned (shipped)"]),
    at_most=1.5,
)

# %% [markdown]
# On all 5,000 validation pictures, as recorded when both networks were made:

# %%
recorded = {
    name: baselines.baseline_facts(name)["validation_accuracy"]
    for name in ("vgg", "vgg_half")
}
print(", ".join(f"{name} {value:.2%}" for name, value in recorded.items()))
claim(
    "Half of the filters, fine-tuned, cost less than half a point",
    100 * (recorded["vgg"] - recorded["vgg_half"]),
    at_most=0.5,
)

# %% [markdown]
# ## All of it in one panel
#
# Here the explorer *removes*: the tensors are smaller. Compare the bars with those of
# lab 00: now the saved file and the time move, too. Choose lenet300 to remove neurons.
# Then press "Fine-tune": it trains the small network for some seconds, and a star shows
# what came back.

# %% tags=["figure:explorer", "nbval-ignore-output"]
from utils.explorer import Explorer

panel = Explorer("vgg", kind="channels", sparsity=0.3)
panel

# %%
for _, stop in panel.sparsity.options[:6]:
    panel.sparsity.value = stop
halved = panel.state(panel.controls)
claim(
    "At 50% of the channels the panel counts the same work as you did",
    100 * halved.macs - work_left,
    between=(-0.1, 0.1),
)
claim("and a file of a quarter of the size", halved.saved, between=(0.24, 0.28))

# %% [markdown]
# ## In production
#
# `torch.nn.utils.prune.ln_structured` prunes whole rows. It *masks* them: the tensor
# keeps its size, and the next layer is not told. PyTorch has no function that removes
# units. The library that does is torch-pruning (Fang et al. 2023); the tests of this
# course check that it removes the same numbers as ours on eleven networks of
# torchvision.

# %%
from torch.nn.utils import prune

layer = torch.nn.Conv2d(64, 64, 3, padding=1, bias=False)
layer.load_state_dict(vgg[3].state_dict())
prune.ln_structured(layer, "weight", amount=0.5, n=1, dim=0)
theirs = layer.weight_mask.flatten(1).any(1)
claim(
    "PyTorch chooses the same filters",
    (theirs != half_masks["3.weight"]).sum(),
    at_most=0,
)
claim(
    "But its layer is as large as before",
    layer.weight.numel() / vgg[3].weight.numel(),
    between=(1, 1),
)

# %% [markdown]
# ## One look at the test set

# %%
drop = training.evaluate(lenet, pictures.test) - training.evaluate(
    removed, pictures.test
)
claim(
    "Half of LeNet's neurons cost less than 10 points on the test set, without any"
    " fine-tuning",
    100 * drop,
    at_most=10,
)

# %% [markdown]
# ## Take away
#
# 1. Pruned means zero; removed means smaller. Only the second makes files small and
# networks fast by itself.
# 2. A unit never leaves alone: its bias, its BatchNorm entry and its column in the next
# layer go with it.
# 3. Half of the filters is a quarter of the work, and without fine-tuning the end of
# the accuracy.

# %%
quiz("04_neurons_and_filters")

# %%
finish()

# %% [markdown]
# **Next:** [lab 05](05_structured_pruning.ipynb): channels that are tied to others,
# whole blocks, patterns, and the question which of all these makes a network faster.
