# %% [markdown]
# # 99 My idea
#
# Say in a sentence or two where the learner stands, and what this lab adds.

# %%
from utils import baselines, data, masks, training
from utils.lab import check, claim, decide, figures, finish, predict, progress, quiz

draw = figures("99_my_idea")
pictures = data.load()
network = baselines.baseline("lenet300")

# %% [markdown]
# Say what was loaded.
#
# ## Predict
#
# Ask before you show; nothing before a guess gives its answer. LeNet is pruned to half,
# with one threshold for all its layers.

# %%
guess_last = predict("How much of the last layer is zero then?", 0, 100, unit="%")

# %%
guess_first = predict("And how much of the first layer?", 0, 100, unit="%")

# %%
guess_drop = predict(
    "How many points of accuracy does it cost?", 0, 50, unit="points", better="low"
)

# %% [markdown]
# ### Exercise: count the zeros
#
# Let learners write what carries the idea, and use it below.
#
# <details><summary>Hint 1</summary>Where to begin.</details>
# <details><summary>Hint 2</summary><code>weight == 0</code> is True at the
# zeros.</details>
# <details><summary>Hint 3</summary><code>(weight ==
# 0).float().mean().item()</code></details>


# %%
def sparsity_99(weight):
    """The fraction of a tensor's entries that are zero, 0 to 1."""
    ...


# %%
sparsity_99 = check(sparsity_99)

# %% [markdown]
# ## Measure
#
# One idea a cell: prose asks, the cell answers, prose says what was seen.

# %%
masks.apply_masks(network, masks.magnitude_masks(network, 0.5))
layers = {"first": network.fc1, "second": network.fc2, "last": network.fc3}
zeros = {name: 100 * sparsity_99(layer.weight) for name, layer in layers.items()}

# %% tags=["figure:layers"]
draw.layers(zeros, guess_last)

# %%
guess_last.compare(zeros["last"])
guess_first.compare(zeros["first"])
claim("More than half of the first layer is zero", zeros["first"], at_least=50)
claim("The last layer keeps the largest part", zeros["last"], at_most=zeros["second"])

# %% [markdown]
# Why does the last layer keep most? Each sentence that says why has its ground: the
# threshold leaves more of it because its weights are larger.
# <!-- why: measured: The last layer has the larger weights -->

# %% tags=["figure:weights"]
draw.weights(network.fc3.weight)

# %%
dense = baselines.baseline("lenet300")
sizes = [layer.weight.abs().mean().item() for layer in (dense.fc3, dense.fc1)]
claim("The last layer has the larger weights", sizes[0] / sizes[1], at_least=1.5)

# %% [markdown]
# ## Decide: how much would you prune?
#
# A choice with a criterion and without a formula; put a number for the dots.

# %%
my_choice = ...  # a sparsity, as 0.3
decide("99_my_idea", my_choice)

# %% [markdown]
# ## In production
#
# Say who does this, where, and what it brings them.
#
# ## One look at the test set
#
# All choices were made on validation pictures; the test set is opened once, here.

# %%
drop = training.evaluate(dense, pictures.test) - training.evaluate(
    network, pictures.test
)
claim("Half of the weights go for less than two points", 100 * drop, at_most=2)
guess_drop.compare(100 * drop)

# %% [markdown]
# What had you expected it to cost, and why?
#
# ## Take away
#
# 1. What was found.
# 2. When it holds, and when it does not.
# 3. What to measure before you rely on it.

# %%
quiz("99_my_idea")

# %% tags=["nbval-ignore-output"]
progress()

# %%
finish()
