# %% [markdown]
# # 06 Dynamic pruning: going further
#
# Where on the picture do the weights of a sparse network gather? Is a weight that grows
# a weight that matters? And how does PyTorch prune in rounds?

# %%
import torch
from torch.nn.utils import prune

from utils import baselines, data, plots, schedules, studies, training
from utils.lab import claim, figures, finish

draw = figures("06_dynamic_pruning")
pictures = data.load()

# %% [markdown]
# ## Where the weights move
#
# At first the weights of the first layer are strewn evenly over the 784 input pixels.
# We train LeNet for two epochs with RigL and with SET. After each sixteenth step we
# keep the mask of the first layer.


# %%
def watched(schedule, epochs=2):
    """Train LeNet with a schedule; the network, and the first layer's masks."""
    network, seen = baselines.build("lenet300"), []
    options = dict(
        schedule=schedule, after_step=lambda: seen.append(schedule.masks["fc1.weight"])
    )
    recipe = training.Recipe(epochs=epochs)
    training.fit(network, pictures.train, recipe, **options)
    return network, seen[::16]


# %% tags=["nbval-ignore-output"]
_, by_gradient = watched(schedules.RigL(0.95))
_, by_lot = watched(schedules.SET(0.95))

# %% [markdown]
# A frame of three pixels is 38% of the picture.
# <!-- why: counted -->
# How much of the layer's weights looks at it?

# %%
border = torch.ones(28, 28, dtype=torch.bool)
border[3:25, 3:25] = False


def share(mask):
    """The part of the weights that looks at the border."""
    at_pixel = plots.input_map(mask)
    return float(at_pixel[border].sum() / at_pixel.sum())


moved = {
    name: [share(mask) for mask in seen]
    for name, seen in {"RigL": by_gradient, "SET": by_lot}.items()
}

# %% tags=["figure:pixels", "nbval-ignore-output"]
ends = [by_gradient[0], by_gradient[-1]]
draw.pixels(*map(plots.input_map, ends), shares=list(map(share, ends)))

# %% tags=["figure:border", "nbval-ignore-output"]
draw.border([16 * number for number in range(len(by_lot))], moved)

# %%
left = {name: values[-1] / values[0] for name, values in moved.items()}
claim("RigL: what the border's share fell to, of 1", left["RigL"], at_most=0.85)
claim("SET: what it fell to, of 1", left["SET"], between=(0.85, 0.98))

# %% [markdown]
# Nobody told the network that borders say little. The share falls with both methods,
# but with RigL much further. Both drop in the same way, the smallest weights; they
# differ in where they grow. So the difference comes from where RigL grows.
# <!-- why: measured: SET: what it fell to -->
#
# ## Movement: keep what grows
#
# Magnitude asks how large a weight is. *Movement pruning* (Sanh et al. 2020) asks
# whether it moves away from zero. A step of gradient descent moves a weight `w` in the
# direction of `-g`. Where `w` and `-g` have the same sign, `|w|` grows, and `-w * g` is
# positive. The score is the sum of `-w * g` over the steps. The method was made for
# fine-tuning a network that was trained for another task. Here there is no earlier
# task.
#
# Recorded by `make results ARGS=dynamic`, 95% sparse, twelve epochs, three seeds:

# %% tags=["figure:movement"]
rows = ["dense", "cubic", "movement", "random, fixed"]
found = {name: studies.spread("dynamic", method=name) for name in rows}
draw.study(found, rows)

# %%
mean = {name: 100 * spread.mean for name, spread in found.items()}
control = mean["movement"] - mean["random, fixed"]
claim("Movement is where random, fixed is", control, between=(-0.3, 0.3))
claim("Cubic is better by over a point", mean["cubic"] - mean["movement"], at_least=1)

# %% [markdown]
# From random weights, movement does no better than masks drawn by lot. That says
# nothing about fine-tuning for a new task, which we did not test.
#
# ## In production
#
# `torch.nn.utils.prune` can be called again and again: each call prunes a fraction of
# what is left. Five calls make our iterative schedule, if training goes on between
# them.

# %%
each_time = 1 - 0.05 ** (1 / 5)
network = baselines.build("lenet300")
layers = [(network.fc1, "weight"), (network.fc2, "weight"), (network.fc3, "weight")]
for _ in range(5):
    prune.global_unstructured(
        layers, pruning_method=prune.L1Unstructured, amount=each_time
    )
left = sum(int(layer.weight_mask.sum()) for layer, _ in layers) / 266_200
claim("Five calls leave 5%, like Iterative(0.95)", left, between=(0.0499, 0.0501))

# %% [markdown]
# Each call multiplied the old mask by a new one, and all five lie in one `weight_mask`.

# %%
finish()

# %% [markdown]
# **Back to** [the lab](06_dynamic_pruning.ipynb), or **on to** [lab
# 07](07_recovery.ipynb).
