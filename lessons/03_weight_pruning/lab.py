# %% [markdown]
# # 03 Weight pruning
#
# A score and a threshold make a *mask*. This lab makes masks, asks which layer should
# pay, and keeps the zeros while the network is trained on. The cells run for less
# than half a minute.

# %%
import torch

from utils import baselines, data, masks, training
from utils.lab import check, claim, decide, figures, finish, predict, progress, quiz

draw = figures("03_weight_pruning")
pictures = data.load()
network = baselines.baseline("lenet300")
weights = {n: p.detach() for n, p in network.named_parameters() if p.dim() == 2}

# %% [markdown]
# `weights` holds the weight matrices of the three layers, by name: `fc1.weight`,
# `fc2.weight` and `fc3.weight`. The biases stay out of it.
#
# ## Exercise: the mask
#
# A *mask* is a boolean tensor of the weight's shape, True = kept. At sparsity 0.9 of
# 1,000 weights exactly `round(0.9 * 1000) = 900` must go, even if many weights are
# equal. All masks of this lab will be made by your function.
#
# <details><summary>Hint 1</summary>Sort by size, whatever the sign.</details>
# <details><summary>Hint 2</summary><code>order =
# weight.abs().flatten().argsort()</code> lists the positions of the weights, the
# smallest first. With <code>n = weight.numel()</code>, the first <code>count =
# round(sparsity * n)</code> of these must be False.</details>
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

# %% [markdown]
# ## Global or layerwise?
#
# *Layerwise*: each layer loses the same fraction. *Global*: all weights of the network
# compete for one threshold, so a layer of small weights loses more. The output layer
# `fc3` has 1,000 of the 266,200 weights.
#
# Two guesses, both about this smallest layer.

# %%
guess_output = predict(
    "One threshold for all, 98% sparsity: how much of the output layer is left?",
    0,
    100,
    unit="%",
)
guess_alone = predict(
    "Only the output layer is pruned, to 90%. How much accuracy does that cost?",
    0,
    90,
    unit="points",
    better="low",
)


# %% [markdown]
# For one threshold, lay all weights end to end and mask them as if they were one layer.
#
# %%
def layerwise(sparsity):
    return {name: magnitude_mask(w, sparsity) for name, w in weights.items()}


def one_threshold(sparsity):
    end_to_end = torch.cat([w.flatten() for w in weights.values()])
    parts = magnitude_mask(end_to_end, sparsity).split(
        [w.numel() for w in weights.values()]
    )
    return {n: part.view_as(w) for (n, w), part in zip(weights.items(), parts)}


for name, mask in one_threshold(0.98).items():
    kept, by_layer = mask.sum().item(), round(0.02 * mask.numel())
    print(
        f"{name}: of {mask.numel():,} weights {kept:,} are left; layerwise {by_layer:,}"
    )
left = one_threshold(0.98)["fc3.weight"].float().mean()
guess_output.compare(100 * left)
claim(
    "One threshold leaves of the output layer, times the average",
    left / 0.02,
    at_least=3,
)

# %% [markdown]
# Were you near? And why does the smallest layer keep the largest share? The threshold
# looks at size alone, and a larger share of this layer's weights is above it.
#
# What does it do to accuracy? Four ways to reach the same total sparsity, nothing
# retrained. In the third, the output layer keeps everything and the others pay for it.
# The fourth is the control: random weights, as many in each layer as the one threshold
# takes, three draws.


# %%
def accuracy(chosen):
    return training.evaluate(masks.masked(network, chosen), pictures.validation)


def output_spared(sparsity):
    spared = torch.ones_like(weights["fc3.weight"], dtype=torch.bool)
    return layerwise(sparsity * 266_200 / 265_200) | {"fc3.weight": spared}


def random_ones(sparsity, seed):
    torch.manual_seed(seed)
    chosen = one_threshold(sparsity).values()
    shares = [1 - mask.float().mean().item() for mask in chosen]
    noise = zip(weights.items(), shares)
    return {n: magnitude_mask(torch.rand_like(w), share) for (n, w), share in noise}


sparsities = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98]
ways = {
    "one threshold": one_threshold,
    "layerwise": layerwise,
    "layerwise, output spared": output_spared,
}
curves = {name: [[accuracy(way(s)) for s in sparsities]] for name, way in ways.items()}
curves["random"] = [
    [accuracy(random_ones(s, seed)) for s in sparsities] for seed in range(3)
]

# %% [markdown]
# The control has a band, from the lowest of its three draws to the highest.

# %% tags=["figure:scope"]
dense = training.evaluate(network, pictures.validation)
draw.scope(sparsities, curves, dense)

# %% [markdown]
# The axis counts what is left, so that a step from 98% to 99% does not look as small as
# one from 50 to 51. Among the three that look at size, layerwise falls first. Spare one
# small layer, at the same total, and layerwise is about as good as one threshold, or
# better. So neither "global is better" nor "layerwise is better" is the rule. Look at
# the layers.

# %% [markdown]
# ## How sensitive is each layer?
#
# Prune one layer at a time; the others stay dense.

# %%
alone = {
    name: [accuracy({name: magnitude_mask(w, s)}) for s in sparsities]
    for name, w in weights.items()
}
at = sparsities.index(0.9)
layer, spared = curves["layerwise"][0][at], curves["layerwise, output spared"][0][at]
guess_alone.compare(100 * (dense - alone["fc3.weight"][at]))
others = min(alone["fc1.weight"][at], alone["fc2.weight"][at])
costs = others - alone["fc3.weight"][at]
claim(
    "At 90% the output layer alone costs more than either other by",
    costs,
    at_least=0.15,
)
claim("Sparing it, at the same total, gains layerwise", spared - layer, at_least=0.1)
gain = curves["one threshold"][0][at] - max(draw_[at] for draw_ in curves["random"])
claim("One threshold beats the control at 90% by", gain, at_least=0.2)

# %% [markdown]
# The claims looked at 90%. Here is the whole scan, on which you will decide:

# %% tags=["figure:sensitivity"]
draw.sensitivity(sparsities, alone, dense)

# %% [markdown]
# Why does so small a layer cost so much? The layer is 0.4% of the network, but each of
# its weights is one of only 100 that a class has. At 90% ten of them are left, on
# average. Whether it is the number of weights, or the place at the end of the network,
# that makes it sensitive, this lab did not test.

# %% [markdown]
# ## Decide: a sparsity for each layer
#
# The network has to fit a memory that holds 8% of its weights. You choose how much of
# each layer goes. Three things are measured: the sparsity of the whole, the validation
# accuracy as it falls, and the accuracy after one epoch of training in which the zeros
# are held. One threshold for all, the same sparsity for all, sparing the output alone:
# each of these misses at least one goal. Begin with the last figure: which layer can
# pay? A try takes some seconds.

# %% tags=["nbval-ignore-output"]
my_choice = ...  # such as {"fc1.weight": 0.92, "fc2.weight": 0.92, "fc3.weight": 0.92}
decide("03_weight_pruning", my_choice)

# %% [markdown]
# Note which layer you spared, and what the others paid: the quiz asks for a sentence.

# %% [markdown]
# ## Do the zeros stay?
#
# A pruned network is usually trained on, as in the last of your three goals. Its zeros
# must stay zero meanwhile. An idea: set the *gradients* of the pruned weights to zero,
# and the optimizer leaves them alone.
#
# We train 10 steps with momentum, prune the first layer to 90%, and train 50 more, with
# such gradients. Two cases: the optimizer that was there before pruning goes on (it is
# *warm*), or a *fresh* one takes over at the moment of pruning.

# %%
guess_warm = predict(
    "Zeros after 50 steps, warm optimizer?", 0, 90, unit="%", better="high"
)
guess_fresh = predict(
    "Zeros after 50 steps, fresh optimizer?", 0, 90, unit="%", better="high"
)

# %% [markdown]
# ### Exercise: a step that keeps zeros
#
# <details><summary>Hint 1</summary>Whatever moved a weight, the optimizer has done
# it.</details>
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

# %% [markdown]
# Now train with each kind of step, and count zeros.

# %%
import copy

from torch.nn import functional as F

mask = magnitude_mask(weights["fc1.weight"], 0.9)


def masked_gradient(optimizer, weight, mask):
    weight.grad[~mask] = 0
    optimizer.step()


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=5e-4)


def train(step, fresh=False, make=sgd):
    """10 steps dense, prune, 50 steps with `step`: the share of zeros after each of
    these, and the network."""
    twin, zeros = copy.deepcopy(network).train(), []
    optimizer = make(twin.parameters())
    batches = data.sample_batches(pictures.train, count=60, batch_size=128)
    for number, (images, labels) in enumerate(batches):
        if number == 10:
            masks.apply_masks(twin, {"fc1.weight": mask})
            optimizer = make(twin.parameters()) if fresh else optimizer
        optimizer.zero_grad()
        F.cross_entropy(twin(images), labels).backward()
        if number < 10:
            optimizer.step()
        else:
            step(optimizer, twin.fc1.weight, mask)
            zeros.append((twin.fc1.weight == 0).float().mean().item())
    return zeros, twin


# %% [markdown]
# Four runs: masked gradients with a warm optimizer, a fresh one, and a warm AdamW, with
# which the course trains; and your step with a warm one.

# %%
warm, zombies = train(masked_gradient)
fresh, _ = train(masked_gradient, fresh=True)
held, _ = train(held_step)
adamw, _ = train(masked_gradient, make=torch.optim.AdamW)
guess_warm.compare(100 * warm[-1])
guess_fresh.compare(100 * fresh[-1])
claim("Warm, the share of zeros after a single step is", warm[0], at_most=0.01)
claim("The same with AdamW, after 50 steps", adamw[-1], at_most=0.05)
claim("Fresh, it is after every one of 50", min(fresh), between=(0.8999, 0.9001))
claim("By your step, warm, it is after every one", min(held), between=(0.8999, 0.9001))
sizes = zombies.fc1.weight.detach()[~mask].abs()
threshold = weights["fc1.weight"][mask].abs().min()
claim(
    "The largest zombie, as a share of the threshold",
    sizes.max() / threshold,
    at_most=0.1,
)

# %% [markdown]
# How large are the weights that came back?

# %% tags=["figure:zombies"]
draw.zombies(zombies.fc1.weight.detach(), mask, threshold)

# %% [markdown]
# One step, and no zero is left. Why does it depend on the optimizer's age? The momentum
# of a weight is a running sum of its earlier gradients, and it is not zero when the
# gradient is. A fresh optimizer has no such sum: momentum and weight decay start from
# zero, and zero they stay.
#
# The *zombies* are tiny beside the weights that were kept. But a file, a kernel or a
# count that looks for zeros finds none. So do what your `held_step` does, and you need
# not ask how old the optimizer is: `masks.hold` does it for all layers, and `fit(...,
# after_step=masks.hold(model, chosen))` uses it.

# %% [markdown]
# ## One look at the test set

# %% tags=["nbval-ignore-output"]
half = masks.masked(network, one_threshold(0.5))
before, after = (training.evaluate(n, pictures.test) for n in (network, half))
print(f"Test accuracy: dense {before:.2%}, half of the weights pruned {after:.2%}.")
claim("Half of the weights go, on the test set, for", before - after, at_most=0.015)

# %% [markdown]
# Half is the easy half. What 92% costs, your tries above have shown.

# %% [markdown]
# ## Take away
#
# 1. A score and a threshold make a mask; which layers it hits matters as much as how
# many weights.
# 2. Zeros are safe when they are set again after each step. Masked gradients keep them
# only if the optimizer has no memory of the time before.
# 3. Small layers cost little memory and may cost much accuracy: look before you prune
# all alike.

# %%
quiz("03_weight_pruning")

# %% tags=["nbval-ignore-output"]
progress()

# %%
finish()

# %% [markdown]
# **Next:** [going further](03_weight_pruning_further.ipynb): what zeros do to files and
# to time. Or [lab 04](04_neurons_and_filters.ipynb), which removes whole neurons and
# filters: then the tensors themselves get smaller.
