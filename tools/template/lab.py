# %% [markdown]
# # 99 My idea
#
# Say in a sentence or two where the learner stands, and what this lab adds.

# %%
from utils import baselines, data, masks, plots, training
from utils.lab import check, claim, finish, predict, quiz

pictures = data.load()
network = baselines.baseline("lenet300")

# %% [markdown]
# ## Predict
#
# Ask before you show. LeNet is pruned to half, with one threshold for all its
# layers.

# %%
guess = predict("How much of the last layer is zero then?", 0, 100, unit="%")

# %% [markdown]
# ### Exercise: count the zeros
#
# Let learners write what carries the idea.
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

# %%
claim("More than half of the first layer is zero", zeros["first"], at_least=50)
claim("The last layer keeps the largest part", zeros["last"], at_most=zeros["second"])

# %% tags=["figure:layers"]
plots.show(
    plots.bars(
        zeros, title="Zeros in each layer", x_label="zeros", unit="%", guess=guess
    ),
    alt=(
        "Bars of the fraction of zeros in three layers: over half in the first, less in"
        " the second, least in the last."
    ),
)

# %% tags=["figure:weights"]
plots.show(
    plots.histogram(
        {"weights of the last layer": network.fc3.weight},
        title="The last layer after pruning",
        x_label="weight",
    ),
    alt="Histogram of the last layer's weights: a high bar at zero, two hills beside it.",
)

# %% [markdown]
# ## In production
#
# Say who does this, where, and what it brings them.
#
# ## One look at the test set
#
# All choices were made on validation pictures; the test set is opened once, here.

# %%
dense = training.evaluate(baselines.baseline("lenet300"), pictures.test)
pruned = training.evaluate(network, pictures.test)
claim("Half of the weights go for less than two points", dense - pruned, at_most=0.02)

# %% [markdown]
# ## Take away
#
# 1. What was found.
# 2. When it holds, and when it does not.

# %%
quiz("99_my_idea")

# %%
finish()
