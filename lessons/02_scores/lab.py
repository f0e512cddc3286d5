# %% [markdown]
# # 02 Scores
#
# A *score* is a guess about importance, made cheaply, for every weight at once. Before
# we compare guesses we need the truth: remove a part, measure the loss, put it back.
# That is slow, but LeNet is small.

# %%
from utils import baselines, data, plots, scores
from utils.lab import check, claim, finish, predict, quiz

pictures = data.load()
network = baselines.baseline("lenet300")

# %% [markdown]
# ## The truth, neuron by neuron
#
# The first layer has 300 neurons. We remove each in turn (set its output to zero) and
# see by how much the loss rises. The loss is taken on training pictures, because that
# is the loss whose gradient the scores will use.

# %%
import torch
from torch.nn import functional as F


@torch.no_grad()
def loss_increase_without_each(network, split):
    """How much the loss rises when each neuron of the first layer is removed: [300]."""
    hidden, rest = network[:3](split.images), network[3:]
    losses = []
    for neuron in range(hidden.shape[1]):
        without = hidden.clone()
        without[:, neuron] = 0
        losses.append(F.cross_entropy(rest(without), split.labels))
    return torch.stack(losses) - F.cross_entropy(rest(hidden), split.labels)


truth = loss_increase_without_each(network, pictures.train[:20000])

# %% tags=["figure:truth"]
order = truth.argsort(descending=True)
plots.show(
    plots.lines(
        range(1, 301),
        {"loss increase": truth[order].tolist()},
        title="A few neurons matter much, most matter little",
        x_label="neurons, the most important first",
        y_label="increase of the loss",
    ),
    alt=(
        "The increase of the loss for 300 neurons, sorted: a steep start, then a long"
        " tail close to zero."
    ),
)

# %%
share = truth[order[:30]].sum() / truth.clamp(min=0).sum()
claim(
    "A tenth of the neurons carries more than a quarter of the total importance",
    share,
    at_least=0.25,
)

# %% [markdown]
# ### A surprise
#
# The same on pictures that the network was not trained on. A negative number means:
# *without* this neuron the network does better.

# %%
unseen = loss_increase_without_each(network, pictures.validation)
harmful = (unseen < 0).float().mean()
claim(
    "On validation pictures, at least one neuron in five does more harm than good",
    harmful,
    at_least=0.2,
)

# %% [markdown]
# The network has learnt its training pictures partly by heart, and these neurons are
# part of that. Lab 11 asks when pruning helps a network to generalize.

# %% [markdown]
# ## Four guesses at the truth
#
# - **magnitude**: the length of the neuron's incoming weights, `|w|`. Needs no data.
# - **gradient**: `|g|`, how steeply the loss changes with a weight *where it is now*.
# - **Taylor**: `|w*g|`. Removing a weight moves it from `w` to 0, a distance of `w`,
#   along a slope of `g`. The first term of the Taylor series says the loss changes by
#   about `w*g` (Molchanov et al. 2017).
# - **random**: the control. A score that is not better than this knows nothing.
#
# ### Exercise: the Taylor score
#
# <details><summary>Hint 1</summary>Distance times slope.</details>
# <details><summary>Hint 2</summary>A change in either direction counts.</details>
# <details><summary>Hint 3</summary><code>(weight * gradient).abs()</code>.</details>


# %%
def taylor_score(weight, gradient):
    """Score of each weight: estimated change of the loss when it becomes zero. Same
    shape as weight."""
    ...


# %%
taylor_score = check(taylor_score)

# %% [markdown]
# ### Exercise: rank correlation
#
# For pruning only the *order* matters: the lowest score goes first. Spearman's
# correlation compares orders: 1 if two vectors rank everything alike, 0 if they have
# nothing to do with each other, -1 if they are opposite.
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

# %%
guess_gradient = predict(
    "Rank correlation of the gradient score with the truth?", -1, 1
)

# %% [markdown]
# ## Guesses against the truth
#
# Scores with a gradient need pictures. We take ten batches of 256 from the training
# set.

# %%
batches = data.sample_batches(pictures.train, count=10)
found = {
    name: scores.score(name, network, batches, units=True)
    for name in ("l2", "gradient", "taylor", "random")
}
print(found["taylor"])

# %% tags=["figure:scatter"]
ranks = truth.argsort().argsort()
panels = {
    name: (ranks, score["fc1.weight"].argsort().argsort())
    for name, score in found.items()
}
notes = {
    name: f"{rank_correlation(score['fc1.weight'], truth):.2f}"
    for name, score in found.items()
}
plots.show(
    plots.scatter(
        panels,
        title="Rank by score against true rank of 300 neurons, and rank correlation",
        x_label="true rank",
        y_label="rank by score",
        notes=notes,
    ),
    alt=(
        "Four scatter plots of ranks: the Taylor score hugs the diagonal, gradient and"
        " magnitude less, random not at all."
    ),
)

# %% [markdown]
# ### With an interval
#
# One network and one draw of batches could be luck. The next cell repeats all of it for
# three networks (the course's and two trained here for three epochs) and three draws of
# batches each. It takes 15 to 40 seconds.

# %% tags=["nbval-ignore-output"]
from utils.training import Recipe, fit

networks = [network]
for seed in (1, 2):
    twin = baselines.build("lenet300", seed=seed)
    fit(twin, pictures.train, Recipe(epochs=3, learning_rate=3e-3), seed=seed)
    networks.append(twin)

# %%
names = ["taylor", "taylor squared", "gradient", "activation", "l2", "l1", "random"]
correlations = {name: [] for name in names}
for candidate in networks:
    true = loss_increase_without_each(candidate, pictures.train[:10000])
    for draw in range(3):
        sample = data.sample_batches(pictures.train, count=5, seed=draw)
        for name in names:
            guess = scores.score(name, candidate, sample, units=True)["fc1.weight"]
            correlations[name].append(rank_correlation(guess, true))

# %% tags=["figure:correlations"]
middle = {name: sorted(values)[4] for name, values in correlations.items()}
ends = {name: (min(values), max(values)) for name, values in correlations.items()}
plots.show(
    plots.bars(
        middle,
        title="How well a score ranks neurons: median and range of 9 runs",
        x_label="rank correlation with the truth",
        errors=ends,
        guess=guess_gradient,
    ),
    alt=(
        "Bars of rank correlations: Taylor highest, gradient next, activation and"
        " magnitude lower, random near zero."
    ),
)

# %%
guess_gradient.compare(middle["gradient"])
better = [t > g for t, g in zip(correlations["taylor"], correlations["gradient"])]
claim(
    "In at least 7 of 9 runs the Taylor score ranks neurons better than the gradient",
    sum(better),
    at_least=7,
)
claim("and better than magnitude", middle["taylor"] - middle["l2"], at_least=0.05)
claim("The random score knows nothing", abs(middle["random"]), at_most=0.15)

# %% [markdown]
# The ranges overlap because the three networks differ: on a network trained for three
# epochs every score does worse. Within each run the order is steadier than the ranges
# suggest.
#
# The gradient does rather well here, and there is a reason: a neuron that hardly ever
# fires passes no gradient to any of its 784 weights, so `|g|` finds the dead ones.
# Summed over 784 weights, how large each one is averages out. For single weights it
# does not.

# %% [markdown]
# ## Single weights
#
# We take 300 of the 30,000 weights of the second layer at random, and remove each in
# turn. The loss changes in the seventh digit, so we compute in double precision.

# %%
import copy

chosen = torch.randperm(
    network.fc2.weight.numel(), generator=torch.Generator().manual_seed(0)
)[:300]


@torch.no_grad()
def loss_change_without_weights(network, split, positions):
    """How much the loss changes, up or down, when single weights of fc2 are removed:
    [positions]."""
    precise = copy.deepcopy(network).double()
    hidden, rest = precise[:3](split.images.double()), precise[4:]
    outputs = precise.fc2(hidden)
    whole, changes = F.cross_entropy(rest(outputs), split.labels), []
    for position in positions.tolist():
        row, column = divmod(position, 300)
        without = outputs.clone()
        without[:, row] -= hidden[:, column] * precise.fc2.weight[row, column]
        changes.append(F.cross_entropy(rest(without), split.labels) - whole)
    return torch.stack(changes).abs()


true_change = loss_change_without_weights(network, pictures.train[:10000], chosen)

# %% tags=["figure:single_weights"]
single = {}
for name in scores.SCORES:
    guess = scores.score(name, network, batches)["fc2.weight"].flatten()[chosen]
    single[name] = rank_correlation(guess, true_change)
plots.show(
    plots.bars(
        single,
        title="How well a score ranks 300 single weights",
        x_label="rank correlation with the true change of the loss",
    ),
    alt=(
        "Bars of rank correlations for single weights: Taylor highest, gradient and"
        " magnitude clearly lower, random none."
    ),
)

# %%
claim(
    "For single weights w*g beats |g| clearly",
    single["taylor"] - single["gradient"],
    at_least=0.1,
)
claim("and it beats |w| alone", single["taylor"] - single["magnitude"], at_least=0.05)

# %% [markdown]
# A large gradient says: *moving* this weight would change the loss. Pruning moves it by
# exactly `w`. If `w` is nearly zero already, removing it changes nothing, however steep
# the slope.

# %% [markdown]
# ## What pruning by each score does
#
# Now the score decides. All weights of the network compete for one threshold; nothing
# is retrained. Two controls: random weights, and random weights with *the same sparsity
# in each layer* as magnitude chose, to see what the score adds.

# %%
from utils import masks, training


def accuracy_after(chosen_masks):
    """Validation accuracy of a copy of the network under masks."""
    return training.evaluate(masks.masked(network, chosen_masks), pictures.validation)


sparsities = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99]
curves = {}
for name in scores.SCORES:
    score = scores.score(name, network, batches)
    curves[name] = [
        accuracy_after(masks.masks_from_scores(score, s, allow_empty=True))
        for s in sparsities
    ]

# %%
curves["random, layers as magnitude"] = []
for sparsity in sparsities:
    layers = masks.report(masks.magnitude_masks(network, sparsity))[:-1]
    same = {layer.name: layer.sparsity for layer in layers}
    curves["random, layers as magnitude"].append(
        accuracy_after(
            masks.masks_from_scores(scores.random(network), same, allow_empty=True)
        )
    )

# %% tags=["figure:pruned_by_score"]
plots.show(
    plots.lines(
        sparsities,
        curves,
        title="Accuracy after pruning by each score, not retrained",
        x_label="sparsity",
        y_label="validation accuracy, %",
        percent=True,
        stops=True,
        level=("dense", training.evaluate(network, pictures.validation)),
        y_limits=(0, 100),
    ),
    alt=(
        "Accuracy over sparsity for each score: Taylor and activation fall last, the"
        " gradient early, random first."
    ),
)

# %%
at90 = {name: values[sparsities.index(0.9)] for name, values in curves.items()}
claim(
    "At 90% sparsity w*g keeps at least 20 points more than |g|",
    at90["taylor"] - at90["gradient"],
    at_least=0.2,
)
claim(
    "Magnitude, which needs no data, beats |g| too",
    at90["magnitude"] - at90["gradient"],
    at_least=0.1,
)
worst = min(at90[name] for name in ("magnitude", "taylor", "snip", "activation"))
control = max(at90["random"], at90["random, layers as magnitude"])
claim(
    "Every score but |g| beats both controls by at least 20 points",
    worst - control,
    at_least=0.2,
)

# %% [markdown]
# Note what *not* to conclude: that one score is always best. These are networks as they
# fall, before any retraining, and one network at that. What is left of the differences
# after fine-tuning is the question of lab 07.

# %% [markdown]
# ## Your own score
#
# A score is a function of a model and batches. One line adds it, and the explorer
# offers it. For example: large weights in a layer of large weights may not be special.
# Divide by the layer's mean:


# %%
def relative_magnitude(model, batches):
    return scores.Scores(
        {name: w / w.mean() for name, w in scores.magnitude(model).items()}
    )


scores.SCORES["relative magnitude"] = relative_magnitude

# %% tags=["nbval-ignore-output"]
from utils.explorer import Explorer

panel = Explorer("lenet300")
panel.score.value = "relative magnitude"
panel

# %% [markdown]
# ## In production
#
# `torch.nn.utils.prune` knows magnitude and random. Any other score goes in as
# `importance_scores`. The masks are the same as ours.

# %%
from torch.nn.utils import prune

score = scores.score("taylor", network, batches)
twin = copy.deepcopy(network)
layers = [(twin.fc1, "weight"), (twin.fc2, "weight"), (twin.fc3, "weight")]
importance = {pair: score[name] for pair, name in zip(layers, score)}
prune.global_unstructured(
    layers,
    pruning_method=prune.L1Unstructured,
    importance_scores=importance,
    amount=0.9,
)

# %%
ours = masks.masks_from_scores(score, 0.9)
differing = sum(
    (layer.weight_mask.bool() != ours[name]).sum().item()
    for (layer, _), name in zip(layers, ours)
)
claim("PyTorch's masks and ours differ nowhere", differing, at_most=0)

# %% [markdown]
# ## One look at the test set

# %%
test = {}
for name in ("taylor", "gradient"):
    chosen = masks.masks_from_scores(
        scores.score(name, network, batches), 0.9, allow_empty=True
    )
    test[name] = training.evaluate(masks.masked(network, chosen), pictures.test)
claim(
    "On the test set too, w*g keeps at least 20 points more than |g| at 90%",
    test["taylor"] - test["gradient"],
    at_least=0.2,
)

# %% [markdown]
# ## Take away
#
# 1. The truth about importance is expensive; a score is a cheap guess, to be judged
# against the truth and against random.
# 2. A large gradient is not importance; distance times slope, `w*g`, is the better
# guess.
# 3. Magnitude needs no data and is a strong start.

# %%
quiz("02_scores")

# %%
finish()

# %% [markdown]
# **Next:** [03 Weight pruning](03_weight_pruning.ipynb). From scores to masks, and what
# zeros are good for.
