# %% [markdown]
# # 00 Start here
#
# Run the cells one after the other with Shift+Enter. You need no GPU and no network
# connection. You cannot break anything: this notebook is your own copy.

# %% [markdown]
# ## Is this machine ready?
#
# The next cell loads the helpers of the course, 70,000 small pictures of clothes
# (Fashion-MNIST), and a network that was trained on 55,000 of them. Both are checked
# against their published checksums.

# %%
from utils import baselines, data, measure, plots
from utils.lab import check, claim, finish, predict, quiz

pictures = data.load()
network = baselines.baseline("lenet300")
print(
    f"{len(pictures.train):,} pictures to train, {len(pictures.validation):,} to"
    f" choose, {len(pictures.test):,} to test"
)
print(f"LeNet-300-100 with {measure.parameters(network):,} parameters: ready")

# %% [markdown]
# The network sees a picture of 28 x 28 grey pixels and says which of ten kinds of
# clothing it is.

# %% tags=["figure:pictures"]
first = pictures.validation[:20]
names = [data.CLASSES[label] for label in first.labels]
plots.show(
    plots.pictures(first.images, names, title="Twenty pictures and their classes"),
    alt=(
        "Twenty grey pictures of clothes in two rows, each with the name of its class,"
        " such as T-shirt or Ankle boot."
    ),
)

# %% [markdown]
# ## Three guesses, before you see anything
#
# *Pruning* sets weights to zero. The simplest way: take the weights closest to zero,
# wherever they are in the network, and make them exactly zero. **Sparsity** is the
# fraction that is zero: 90% sparsity means nine of ten weights are gone.
#
# Commit to three numbers. A wrong guess that you wrote down teaches more than a right
# one that you read.

# %%
guess_cliff = predict(
    "At which sparsity has accuracy fallen by 5 percentage points?", 0, 100, unit="%"
)

# %%
guess_time = predict(
    "At 90% sparsity, one picture takes how much of the dense network's time?",
    0,
    150,
    unit="%",
)

# %%
guess_file = predict(
    "At 90% sparsity, the saved file has how much of the dense file's size?",
    0,
    150,
    unit="%",
)

# %% [markdown]
# ## The explorer
#
# Slide the sparsity. Every number comes from the real network: the accuracy from
# validation pictures, 2,000 at once and all 5,000 a moment later; the time from runs of
# the dense and of the pruned network in turn, taken here, when the slider rests. A
# hollow dot is such a first estimate.
#
# With the keyboard: Tab to the slider, then the arrow keys. The other controls can wait
# for their labs: 02 (score), 03 (scope), 04 and 05 (kind), 07 (fine-tune). "What did I
# find?" keeps a setting as a row of a table, in a file beside this notebook.

# %% tags=["nbval-ignore-output"]
from utils.explorer import Controls, Explorer

panel = Explorer("lenet300")
panel

# %% [markdown]
# Look for three things while you slide: where the accuracy starts to fall, what happens
# to the file, and what happens to the time. Then for two that surprise: which classes
# suffer first, and which pixels the network stops looking at. Then try another score,
# and "random".
#
# The next cell moves the slider for you, through all its stops, and back to 90%.

# %%
for _, stop in [*panel.sparsity.options, ("90%", 0.9)]:
    panel.sparsity.value = stop
panel.settle()

# %% [markdown]
# A picture of the panel as the cell has left it, at 90%:

# %% tags=["figure:explorer", "nbval-ignore-output"]
panel.still()

# %% [markdown]
# ## The cliff
#
# The same accuracies as a plot. Between the dots nothing was measured.

# %% tags=["figure:cliff"]
states = panel.curve(Controls())
sparsities = [state.controls.sparsity for state in states]
accuracies = [state.accuracy for state in states]
plots.show(
    plots.lines(
        sparsities,
        {"pruned by magnitude": accuracies},
        title="Half of the weights cost almost nothing; then comes the cliff",
        x_label="sparsity (stops of the slider)",
        y_label="accuracy, %",
        percent=True,
        stops=True,
        level=("dense", accuracies[0]),
        y_limits=(0, 100),
    ),
    alt=(
        "Accuracy over sparsity: flat near the dense line up to about 60 percent, then"
        " falling ever more steeply."
    ),
)

# %%
dense = accuracies[0]
at_half, at_99 = accuracies[sparsities.index(0.5)], accuracies[sparsities.index(0.99)]
claim(
    "Half of the weights can go for less than 3 points of accuracy",
    dense - at_half,
    at_most=0.03,
)
claim(
    "At 99% sparsity, without retraining, the network is badly broken",
    at_99,
    at_most=0.6,
)

# %% tags=["nbval-ignore-output"]
fell = next(s for s, accuracy in zip(sparsities, accuracies) if accuracy < dense - 0.05)
guess_cliff.compare(100 * fell)

# %% [markdown]
# Most of the network was not needed: the pictures are recognised from a small part of
# the weights. Where exactly the cliff stands depends on the network and on how weights
# are chosen. Lab 02 compares ways to choose; lab 07 climbs back up the cliff by
# training again.

# %% [markdown]
# ## What did not change
#
# Now the other two guesses, at 90% sparsity.

# %% tags=["figure:what_changes", "nbval-ignore-output"]
pruned = panel.timed(Controls(sparsity=0.9), rounds=51)
plots.show(
    plots.bars(
        {
            "weights not zero": 100 * pruned.weights,
            "file, zipped": 100 * pruned.zipped,
            "file, as saved": 100 * pruned.saved,
            "time for one picture": 100 * pruned.time,
        },
        title="At 90% sparsity, compared with the dense network",
        x_label="% of the dense network",
        unit="%",
        digits=0,
        reference=100,
    ),
    alt=(
        "Bars: a tenth of the weights is left and the zipped file shrinks, but saved"
        " file and time stay at 100 percent."
    ),
)

# %%
claim(
    "At 90% sparsity a tenth of the weights is left",
    pruned.weights,
    between=(0.099, 0.101),
)
claim("The file as saved is as large as before", pruned.saved, between=(0.999, 1.001))
claim(
    "The zipped file is less than a third of the dense file",
    pruned.zipped,
    at_most=0.33,
)
claim("Masked weights do not make the network faster", pruned.time, between=(0.6, 1.67))

# %% tags=["nbval-ignore-output"]
guess_time.compare(100 * pruned.time)
guess_file.compare(100 * pruned.saved)

# %% [markdown]
# Surprised? Nearly everyone expects a network of zeros to be fast. But a zero is still
# a number: it is stored in four bytes like any other, and the processor multiplies by
# it like by any other. A zip program notices that the file is full of zeros; the
# multiplication routine does not look.
#
# Hence the two words that this course never mixes up. **Pruned**: the number is zero.
# **Removed**: the tensor is smaller. Removing is what makes a network fast (labs 04 and
# 05). Finding out *what* may be removed is pruning.

# %% [markdown]
# ## Exercise: how far can you go?
#
# Write the function that answers the question at the top: the largest sparsity at which
# accuracy is at most `allowed_drop` below the dense network's.
#
# <details><summary>Hint 1</summary>The dense accuracy is the first in the
# list.</details>
# <details><summary>Hint 2</summary>Go through sparsities and accuracies together with
# <code>zip</code>, and keep the sparsities whose accuracy is good enough.</details>
# <details><summary>Hint 3</summary><code>good = [s for s, a in zip(sparsities,
# accuracies) if a >= ...]</code>, then
# <code>max(good)</code>.</details>


# %%
def largest_safe_sparsity(sparsities, accuracies, allowed_drop):
    """The largest sparsity whose accuracy is at most allowed_drop (0.01 = one point)
    below accuracies[0]."""
    ...


# %%
largest_safe_sparsity = check(largest_safe_sparsity)

# %% tags=["nbval-ignore-output"]
safe = largest_safe_sparsity(sparsities, accuracies, allowed_drop=0.01)
print(f"Within one point of the dense network: {safe:.0%} sparsity")

# %% [markdown]
# ## One look at the test set
#
# You chose a sparsity by looking at validation pictures, so these can no longer judge
# it fairly. The 10,000 test pictures are opened once in each lab, at its end.

# %%
from utils import masks, training

dense_test = training.evaluate(network, pictures.test)
masks.apply_masks(network, masks.magnitude_masks(network, safe))
pruned_test = training.evaluate(network, pictures.test)
claim(
    "What looked safe on validation pictures costs at most two points on the test set",
    dense_test - pruned_test,
    at_most=0.02,
)

# %% [markdown]
# ## Take away
#
# 1. A trained network carries many weights it can do without; past a point accuracy
# falls off a cliff.
# 2. Zeros alone make nothing faster, and only a compressed file smaller.
# 3. Whether pruning paid is something you measure: accuracy, bytes and time, each by
# itself.

# %%
quiz("00_start_here")

# %%
finish()

# %% [markdown]
# **Next:** [01 Baseline](01_baseline.ipynb). You train this network yourself, and learn
# to measure what it costs.
