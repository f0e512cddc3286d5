# %% [markdown]
# # 02 Scores
#
# A *score* is a guess at importance, made cheaply for every weight at once. To judge a
# guess we need the truth: remove a part, measure the loss, put the part back. That is
# slow, but LeNet is small enough for it. The cells of this lab run for about half a
# minute.

# %%
from utils import baselines, data, masks, scores, training
from utils.lab import check, claim, decide, figures, finish, predict, progress, quiz

draw = figures("02_scores")
pictures = data.load()
network = baselines.baseline("lenet300")

# %% [markdown]
# ## The truth, one neuron at a time
#
# The *loss* is the number that training makes small: the error of the answers. The
# first layer has 300 neurons. We remove one: its output becomes zero for every picture.
# For the loss this is the same as taking its row out. Then we measure how much the loss
# rises, and put the neuron back. After 300 such measurements we can sort the neurons,
# the one that matters least first.
#
# Suppose that you want to remove 250 of the 300. You take the 250 that matter least.
# Each of them, removed alone, costs a little. Added up, these little rises are a
# forecast of what it costs to remove all 250 *at once*.

# %%
guess_together = predict(
    "250 neurons removed at once: how many times the sum of their single rises?", 0, 20
)

# %% [markdown]
# We measure on training pictures, the kind of picture from which a score takes its
# gradient. `network[:3]` flattens the picture, runs the first layer and its ReLU;
# `network[3:]` is the rest.

# %%
import torch
from torch.nn import functional as F

some = pictures.train[:10000]
with torch.no_grad():
    hidden = network[:3](some.images)  # [pictures, 300]


@torch.no_grad()
def loss_without(neurons):
    """The loss when these neurons of the first layer give zero."""
    without = hidden.clone()
    without[:, neurons] = 0
    return F.cross_entropy(network[3:](without), some.labels).item()


dense = loss_without([])
rises = torch.tensor([loss_without([neuron]) for neuron in range(300)]) - dense
order = rises.argsort()  # the one that matters least first
together = {k: loss_without(order[:k]) - dense for k in range(10, 301, 10)}
guess_together.compare(together[250] / rises[order[:250]].sum())
share = rises[order[-30:]].sum() / rises.clamp(min=0).sum()
claim("A tenth of the neurons has half of all single rises", share, at_least=0.5)

# %% [markdown]
# The rise is several times the forecast. The figure shows from where on. And the
# single rises are unequal: a tenth of the neurons has more than half of them.

# %% tags=["figure:adding_up"]
draw.adding_up(rises[order], together)

# %% [markdown]
# How far off were you, and why do the two lines part? Think of two neurons that say
# nearly the same. Remove one, and the other still says it: the loss hardly moves.
# Remove both, and nobody says it.
#
# Whether that is what happens here, we did not test: it is a conjecture.
# What the figure does show: single removals do not add up. So "the truth" of
# one part at a time is a truth about small steps. Keep that in mind for the end.

# %% [markdown]
# ## Four guesses at the truth
#
# Now for single weights. Call the weight `w`, and `g` the gradient of the loss: how
# steep the loss is where the weight stands.
#
# - **magnitude**: `|w|`, how far the weight moves when it is pruned. Needs no pictures.
# - **gradient**: `|g|`, how steep it is at the start of the way.
# - **Taylor**: `|w*g|`, distance times slope. The weight moves by `-w`, so the
# loss changes by about `-w*g`: the first term of a Taylor series. We take its size,
# whatever the sign (Molchanov et al. 2019 use its square).
# - **random**: a number drawn by lot. A score that is no better than this knows
# nothing.
#
# ### Exercise: the Taylor score
#
# You will use it below, on 300 weights.
#
# <details><summary>Hint 1</summary>Distance times slope.</details>
# <details><summary>Hint 2</summary>A change in either direction counts.</details>
# <details><summary>Hint 3</summary><code>(weight * gradient).abs()</code>.</details>


# %%
def taylor_score(weight, gradient):
    """Score of each weight: estimated size of the change of the loss when it becomes
    zero. Same shape as weight."""
    ...


# %%
taylor_score = check(taylor_score)

# %% [markdown]
# That is the score of each weight, from its own gradient.
#
# ### Exercise: rank correlation
#
# For pruning only the *order* matters: the lowest score goes first. Spearman's
# correlation compares orders: 1 if two vectors rank everything alike, 0 if their orders
# have nothing to do with each other, -1 if they are opposite.
#
# <details><summary>Hint 1</summary>Replace each number by its rank, then
# correlate.</details>
# <details><summary>Hint 2</summary><code>a.argsort()</code> says which entry is the
# smallest, the next, ... That is not yet the rank of each entry.</details>
# <details><summary>Hint 3</summary><code>a.argsort().argsort()</code> is. Then
# <code>torch.corrcoef(torch.stack([ranks_a, ranks_b]).double())[0, 1]</code>.</details>


# %%
def rank_correlation(a, b):
    """Spearman's correlation of two vectors, -1..1."""
    ...


# %%
rank_correlation = check(rank_correlation)

# %% [markdown]
# This is the judge of everything that follows. First, two guesses about the gradient.

# %%
guess_gradient = predict("Rank correlation of |g| with the truth?", -1, 1)
guess_pruned = predict(
    "90% of all weights pruned by |g|, not retrained: validation accuracy, in its"
    " luckiest draw?",
    0,
    100,
    unit="%",
    better="high",
)

# %% [markdown]
# ## Single weights
#
# We take 300 of the 30,000 weights of the second layer at random. Each is set to zero
# in turn, and put back. The loss changes in the seventh digit, so we compute in double
# precision. The gradient comes from the *same* 10,000 pictures on which the truth is
# measured. `precise[4:]` is what follows the second layer.

# %%
import copy

chosen = torch.randperm(30000, generator=torch.Generator().manual_seed(0))[:300]
precise = copy.deepcopy(network).double()


@torch.no_grad()
def change_without_each(split):
    """How the loss changes when each of the chosen weights becomes zero: [300]."""
    inputs = precise[:3](split.images.double())
    outputs, losses = precise.fc2(inputs), []
    for row, column in zip(chosen // 300, chosen % 300):
        without = outputs.clone()
        without[:, row] -= inputs[:, column] * precise.fc2.weight[row, column]
        losses.append(F.cross_entropy(precise[4:](without), split.labels).item())
    before = F.cross_entropy(precise[4:](outputs), split.labels)
    return torch.tensor(losses, dtype=torch.double) - before


def gradient_on(split):
    loss = F.cross_entropy(network(split.images), split.labels)
    return torch.autograd.grad(loss, network.fc2.weight)[0].flatten()[chosen]


# %% [markdown]
# Two more rows ask what the pictures do: the same score with the gradient of 10,000
# *other* training pictures, and the truth measured on those others.

# %%
truth = change_without_each(some).abs()
others = pictures.train[10000:20000]
weight = network.fc2.weight.detach().flatten()[chosen]
gradient = gradient_on(some)
tried = {
    "|w*g|": taylor_score(weight, gradient),
    "|g|": gradient.abs(),
    "|w|": weight.abs(),
    "|w*g|, other pictures": taylor_score(weight, gradient_on(others)),
    "truth, other pictures": change_without_each(others).abs(),
    "random": torch.rand(300, generator=torch.Generator().manual_seed(0)),
}
single = {name: rank_correlation(score, truth) for name, score in tried.items()}
guess_gradient.compare(single["|g|"])
claim(
    "Distance times slope ranks nearly as the truth does", single["|w*g|"], at_least=0.9
)
best_half = max(single["|g|"], single["|w|"])
claim("and beats both of its halves clearly", single["|w*g|"] - best_half, at_least=0.1)
known = single["|w*g|, other pictures"] - single["truth, other pictures"]
claim("On other pictures it is worth what a truth is", known, between=(-0.12, 0.12))

# %% [markdown]
# Was the gradient better or worse than you thought? The figure shows the same numbers
# with intervals: the 300 weights are drawn again many times, with replacement, and 95%
# of the correlations lie within.

# %% tags=["figure:single_weights"]
draw.single_weights(tried, truth, single)

# %% [markdown]
# Why is `|g|` not enough? A steep slope says that *moving* the weight changes the loss.
# Pruning moves it by exactly `w`. Where `w` is nearly zero, there is nearly no move.
# Multiply by the distance, and the order is nearly the true one: that is what the first
# bar shows.
#
# The two bars of other pictures show its limit. That is no fault of the score: even the
# *truth* on other pictures agrees with the truth here hardly better. What a single
# weight is worth depends on which pictures you ask.

# %% [markdown]
# ## Prune by each score
#
# Now the score decides. All weights of the network compete for one threshold; nothing
# is retrained. Each score that needs pictures gets 2,560 of them, ten batches of 256,
# drawn four times. Two rows are new:
#
# - **|w| x input**: `|w|` times the size of what the weight multiplies, its input (root
# mean square over the pictures). Needs no labels. The product is that of Wanda (Sun
# et al. 2024), but Wanda lets only the weights of *one output* compete. Here all do.
# The [second notebook](02_scores_further.ipynb) compares the two rules.
# - **random, layers as |w|**: random weights, with the sparsity in each layer that
# magnitude chose. What a score adds must be more than this.


# %%
def accuracy_after(score, sparsity):
    """Validation accuracy, pruned by a score. A layer may lose all its weights."""
    chosen = masks.masks_from_scores(score, sparsity, allow_empty=True)
    return training.evaluate(masks.masked(network, chosen), pictures.validation)


def as_magnitude(sparsity):
    """The sparsity of each layer when magnitude decides; the last row is the total."""
    layers = masks.report(masks.magnitude_masks(network, sparsity))[:-1]
    return {layer.name: layer.sparsity for layer in layers}


sparsities = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98]
curves = {name: [] for name in ("magnitude", "gradient", "taylor", "activation")}
curves["random"] = []
for seed in range(4):
    batches = data.sample_batches(pictures.train, count=10, seed=seed)
    for name, draws in curves.items():
        if name == "random":
            score, wanted = scores.random(network, seed=seed), as_magnitude
        else:
            score, wanted = scores.score(name, network, batches), float
        draws.append([accuracy_after(score, wanted(s)) for s in sparsities])

# %% [markdown]
# Four draws a score; the band goes from the lowest to the highest.

# %% tags=["figure:pruned_by_score"]
level = training.evaluate(network, pictures.validation)
draw.pruned_by_score(sparsities, curves, level)

# %% [markdown]
# Where 10% of the weights are left, no two scores keep the same. In numbers:

# %%
at90 = {
    name: [d[sparsities.index(0.9)] for d in draws] for name, draws in curves.items()
}
guess_pruned.compare(100 * max(at90["gradient"]))
claim("By |g| at 90%, the luckiest draw keeps", max(at90["gradient"]), at_most=0.5)
gap = min(at90["magnitude"]) - max(at90["gradient"])
claim("|w|, which has seen no picture, keeps more than that by", gap, at_least=0.1)
gap = min(at90["taylor"]) - max(at90["gradient"])
claim("and |w*g|, in its worst draw, by", gap, at_least=0.2)
gap = min(at90["activation"]) - max(at90["taylor"])
claim("|w| x input beats |w*g| in every draw, by", gap, at_least=0.005)
worst = min(min(at90[name]) for name in ("magnitude", "taylor", "activation"))
claim("All three beat the control by", worst - max(at90["random"]), at_least=0.2)

# %% [markdown]
# What had you guessed for the gradient, and why is it so much worse here than its rank
# correlation promised? One thing differs for sure: the correlation was within one
# layer. Here the layers compete, and a slope says nothing of how long the way is.
#
# The winner at 90% is not the score that ranks single weights best. Single removals do
# not add up (the first figure), and with 90% gone they are far from single. Perhaps
# that is what `|w| x input` gets right; this is a conjecture, we did not test it.
#
# Do not conclude that one score is always best. These are networks as they fall, and
# one network at that. What is left of the differences after fine-tuning is the question
# of lab 07.

# %% [markdown]
# ## Decide: one score for two products
#
# Two products will use this network, pruned by *one* score that you choose, and not
# retrained: one at 80% sparsity, one at 95%. No score of the figure is good enough for
# both. But scores can be multiplied, and each may count more or less: to the power of
# 2, of 1, of one half. `{"magnitude": 1, "gradient": 1}` is `|w| * |g|`.
#
# You may choose from the scores of the figure (`magnitude`, `gradient`, `taylor`,
# `activation`). For more freedom hand over a function `(model, batches) ->
# scores.Scores` of your own. Each try takes about a second.

# %%
my_choice = ...  # such as {"magnitude": 1, "gradient": 0.5}
decide("02_scores", my_choice)

# %% [markdown]
# Which score did you begin with, and what did the other one add? Write it down in one
# sentence: you will be asked for such a sentence below.

# %% [markdown]
# ## One look at the test set
#
# All choices so far rest on validation pictures. The last draw of pictures, once more,
# on pictures that nobody has looked at:

# %% tags=["nbval-ignore-output"]
tested = {}
for name in ("magnitude", "gradient", "taylor", "activation"):
    score = scores.score(name, network, batches)
    chosen_masks = masks.masks_from_scores(score, 0.9, allow_empty=True)
    tested[name] = training.evaluate(masks.masked(network, chosen_masks), pictures.test)
    print(f"90% pruned by {name}: {tested[name]:.1%} of the test pictures are right.")
gap = tested["taylor"] - tested["gradient"]
claim("On the test set too, |w*g| keeps more than |g|, by", gap, at_least=0.2)

# %% [markdown]
# The order is the one that the validation pictures gave.

# %% [markdown]
# ## Take away
#
# 1. The truth about importance is expensive, and holds for one part at a time; a score
# is a cheap guess, to be judged against the truth and against random.
# 2. A large gradient is not importance. Distance times slope, `|w*g|`, ranks single
# weights nearly as the truth on the same pictures does.
# 3. Magnitude needs no picture, and it keeps far more than the gradient does: a simple
# start.

# %%
quiz("02_scores")

# %% tags=["nbval-ignore-output"]
progress()

# %%
finish()

# %% [markdown]
# **Next:** [going further](02_scores_further.ipynb): neurons that seem to do harm, and
# the scores of whole neurons. Or straight on to
# [03 Weight pruning](03_weight_pruning.ipynb): from scores to masks.
