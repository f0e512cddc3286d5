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
# by their checksums.

# %%
from utils import baselines, data, masks, measure, scores, surgery
from utils.lab import check, claim, figures, finish, predict, progress, quiz
from utils.training import evaluate

draw = figures("00_start_here")
pictures, network = data.load(), baselines.baseline("lenet300")
print(f"A network with {measure.parameters(network):,} numbers: ready")

# %% [markdown]
# The network sees a picture of 28 x 28 grey pixels and says which of ten kinds of
# clothing it is. Here are twenty of the pictures, and what they show.

# %% tags=["figure:pictures"]
draw.clothes(pictures.validation[:20])

# %% [markdown]
# To make its choice, the network multiplies and adds with numbers that it has learnt.
# Nearly all of them are *weights*: numbers that something is multiplied by.
#
# ## First guess: the cliff
#
# *Pruning* a weight means setting it to zero. Take the weights that are closest to
# zero already, wherever they are in the network, and make them exactly zero.
# **Sparsity** is the fraction that is zero: at 90% sparsity nine of ten weights are
# zero. The network is not trained again afterwards.
#
# Guess before you see anything, and lock the guess. A wrong guess that you wrote down
# teaches more than a right one that you read.
# (`better` is the end that a hopeful person guesses. From several guesses `progress()`,
# at the end of each lab, tells you whether you are one.)

# %%
guess_cliff = predict(
    "At which sparsity has accuracy fallen by 5 percentage points?",
    0,
    100,
    unit="%",
    better="high",
)

# %% [markdown]
# *Accuracy* is the fraction of pictures that are recognised. The next cell prunes 22
# copies of the network, each further than the one before, and measures the accuracy of
# each on 5,000 *validation* pictures. The network was not trained on these.


# %%
def pruned(sparsity):
    """A copy of the network with that fraction of its weights set to zero."""
    return masks.masked(network, masks.magnitude_masks(network, sparsity))


sparsities = [step / 20 for step in range(20)] + [0.98, 0.99]
accuracies = [evaluate(pruned(s), pictures.validation) for s in sparsities]

# %% [markdown]
# Each dot of the figure is one of these copies. Between the dots nothing was measured.

# %% tags=["figure:cliff"]
dense = accuracies[0]
fell = next(s for s, a in zip(sparsities, accuracies) if a < dense - 0.05)
draw.cliff(sparsities, accuracies, guess_cliff)
guess_cliff.compare(100 * fell)

# %% [markdown]
# The number given is that of the first dot more than 5 points below the dense network.
# *Dense* means: as it was, with all of its weights. Why can so many weights go, do you
# think? Say it in a sentence of your own, and keep it: lab 02 puts it to the test.

# %%
accuracy_at = dict(zip(sparsities, accuracies))
lost = {sparsity: dense - accuracy_at[sparsity] for sparsity in (0.5, 0.9)}
claim("Half of the weights set to zero cost less than a point", lost[0.5], at_most=0.01)
claim("At 90% sparsity more than 20 points are lost", lost[0.9], at_least=0.2)
claim("At 99% fewer than 1 in 5 are recognised", accuracy_at[0.99], at_most=0.2)

# %% [markdown]
# So half of the weights were hardly needed. Then comes a cliff; a blind guess among ten
# classes would be right once in ten times. Where it stands depends
# on the network and on how the weights are chosen. Lab 02 compares ways to choose them.
# Lab 07 climbs back up the cliff by training again.
#
# ## Two more guesses: what do we gain?
#
# People prune to get small files and fast answers. Now think of the copy with 90%
# zeros. It is saved in a file, and it is shown one picture.

# %%
guess_file = predict(
    "At 90% sparsity: how large is the saved file? The dense one is 100%.",
    0,
    150,
    unit="%",
    better="low",
)
guess_time = predict(
    "At 90% sparsity: how long does one picture take? The dense network is 100%.",
    0,
    150,
    unit="%",
    better="low",
)

# %% [markdown]
# We do not look at zeros alone. The network's first layer has 300 *neurons*. A neuron
# is one row of the layer's table of weights, and it puts out one number. The next cell
# also builds a network from which 150 of these rows are taken out: those whose weights
# are smallest, added up without their signs. Nothing is set to zero there. The rows are
# gone, and so is everything that would have used their output.
#
# Then four networks take turns at the same picture, for 200 rounds: the dense one, a
# second copy of it, the one with 90% zeros, and the one with 150 neurons fewer.

# %%
one = pictures.validation.images[:1]
size_of_neurons = scores.score("l1", network, [], units=True)
networks = {
    "dense": network,
    "dense, a second copy": pruned(0),
    "90% of weights set to zero": pruned(0.9),
    "150 neurons taken out": surgery.shrink(
        network, one, size_of_neurons, {"fc1.weight": 0.5}
    ),
}
files = {name: measure.file_bytes(each) for name, each in networks.items()}
times = measure.latency(networks, one, rounds=200)

# %% [markdown]
# A file is counted, and the number is exact. A time is measured, and it wavers: the
# line shows the middle half of the 200 rounds, and the second copy of the dense network
# shows how far two equal networks come apart.

# %% tags=["figure:sizes_and_times", "nbval-ignore-output"]
zeros, smaller = "90% of weights set to zero", "150 neurons taken out"
draw.sizes_and_times(files, times)
guess_file.compare(100 * files[zeros] / files["dense"])
guess_time.compare(100 * times[zeros].relative)

# %% [markdown]
# Were you surprised? Why do the zeros change so little, and the neurons that are gone
# so much? Answer for yourself before you read on.

# %%
left = {name: size / files["dense"] for name, size in files.items()}
zipped = measure.zipped_bytes(networks[zeros]) / files["dense"]
faster = times[smaller].median / times[zeros].median
lost = dense - evaluate(networks[smaller], pictures.validation)
claim("With 90% zeros the file is as large as before", left[zeros], between=(1, 1))
claim("Zipped, it is less than a fifth of the dense file", zipped, at_most=0.2)
claim(
    "Zeros save less than 15% of the time",
    (times[zeros].relative, *times[zeros].relative_quartiles),  # middle half, too
    at_least=0.85,
)
claim("Without 150 neurons, half a file is left", left[smaller], between=(0.49, 0.51))
claim("and it takes at least 10% less time than the zeros", faster, at_most=0.9)
claim("for less than 3 points of accuracy", lost, at_most=0.03)

# %% [markdown]
# A zero is a number like any other. It is stored in four bytes, and it takes its turn
# in the multiplication. A zip program looks for repetition, so it finds the zeros; the
# file as saved, and the multiplication, do not look.
# <!-- why: measured: Zipped, it is less than a fifth -->
#
# Two words keep this apart, and this course never mixes them up. **Pruned**: the number
# is zero. **Removed**: the table of numbers is smaller. Pruning finds out what is not
# needed. Removing it makes the network smaller and faster. Labs 04 and 05 do that with
# larger networks, and lab 07 wins accuracy back.

# %% [markdown]
# ## The explorer
#
# Now move the slider yourself. The panel works with the same network and begins at 90%
# sparsity. In its second picture look at two bars only: **file, as saved** and **time,
# dense kernel**. The second is the time for one picture. The other bars have their turn
# later: multiplications (MACs) in lab 01, the sparse product (CSR) in lab 03. The other
# controls can wait for their labs as well.
#
# Slide down to 0% and up again (with the keyboard: Tab to the slider, then the arrow
# keys). Find the largest sparsity that costs at most one point of accuracy. Then look
# at two pictures that no single number shows: which classes suffer first, and which
# pixels the network stops looking at. When the slider rests, the panel measures more
# exactly; a hollow dot is a first estimate.

# %% tags=["figure:explorer", "nbval-ignore-output"]
from utils.explorer import Explorer

panel = Explorer("lenet300", sparsity=0.9)
panel

# %% [markdown]
# The button "What did I find?" keeps a setting as a row of a table, in a file beside
# this notebook.
#
# ## Exercise: how far can you go?
#
# You searched by hand. Now write the function that does it: the largest sparsity at
# which accuracy is at most `allowed_drop` below that of the dense network.
#
# <details><summary>Hint 1</summary>The dense accuracy is the first in the
# list.</details>
# <details><summary>Hint 2</summary>The lowest accuracy allowed: <code>lowest =
# accuracies[0] - allowed_drop</code>. Keep the sparsities whose accuracy is good
# enough.</details>
# <details><summary>Hint 3</summary><code>good = [s for s, a in zip(sparsities,
# accuracies) if a >= lowest]</code>, then
# <code>max(good)</code>.</details>


# %%
def largest_safe_sparsity(sparsities, accuracies, allowed_drop):
    """The largest sparsity whose accuracy is at most allowed_drop (0.01 = one point)
    below accuracies[0]. The sparsities rise, and the first is 0."""
    ...


# %%
largest_safe_sparsity = check(largest_safe_sparsity)

# %% [markdown]
# ## One look at the test set
#
# Your function chooses a sparsity by looking at the validation pictures. After that
# they can no longer judge the choice fairly. So there are 10,000 *test* pictures. They
# are opened once in each lab, at its end.

# %%
safe = float(largest_safe_sparsity(sparsities, accuracies, allowed_drop=0.01))
print(f"Within one point of the dense network: {safe:.0%} sparsity")
dense_test, safe_test = (
    evaluate(each, pictures.test) for each in (network, pruned(safe))
)
claim("The dense network's accuracy on the test set", dense_test, at_least=0.87)
claim("The accuracy at your sparsity on the test set", safe_test, at_least=0.86)
claim(
    "What looked like one point costs at most one and a half on the test set",
    dense_test - safe_test,
    at_most=0.015,
)

# %% [markdown]
# The choice held on pictures that had no part in it.
#
# ## Take away
#
# 1. A trained network carries many weights that it can do without; past a point its
# accuracy falls off a cliff.
# 2. Zeros alone make nothing faster and no saved file smaller. Taking neurons out does
# both.
# 3. Whether pruning paid off is something you measure: accuracy, bytes and time, each
# by itself.

# %%
quiz("00_start_here")

# %% tags=["nbval-ignore-output"]
progress()

# %%
finish()

# %% [markdown]
# **Next:** [01 Baseline](01_baseline.ipynb). You train this network yourself, and learn
# how far each number can be trusted.
