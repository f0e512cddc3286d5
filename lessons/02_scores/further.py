# %% [markdown]
# # 02 Scores: going further
#
# Three questions that the lab left open. Are there neurons that do harm? How are whole
# neurons scored, and how sure is the order of the scores? What is Wanda as published?
# Two networks are trained on the way; the cells run for half a minute to a minute.

# %%
import torch
from torch.nn import functional as F

from utils import baselines, data, masks, scores, training
from utils.lab import claim, figures, finish, predict

draw = figures("02_scores")
pictures = data.load()
network = baselines.baseline("lenet300")

# %% [markdown]
# ## Neurons that do harm?
#
# Remove a neuron, and the loss on *validation* pictures may fall: the network does
# better without it. This time we keep the rise of the loss on every single picture.


# %%
@torch.no_grad()
def rises(model, split):
    """How much the loss on each picture rises when each neuron of the first layer is
    removed: [300, pictures]."""
    hidden, rest = model[:3](split.images), model[3:]

    def losses(given):
        return F.cross_entropy(rest(given), split.labels, reduction="none")

    found = []
    for neuron in range(hidden.shape[1]):
        without = hidden.clone()
        without[:, neuron] = 0
        found.append(losses(without))
    return torch.stack(found) - losses(hidden)


# %% [markdown]
# Before the function runs, two guesses.

# %%
guess_harm = predict(
    "Without how many of the 300 neurons is the validation loss lower?", 0, 300
)
guess_sure = predict("For how many of them is that sure, at 95%?", 0, 300)

# %% [markdown]
# Lab 01 gave a number a margin. Here both losses are measured on the *same* pictures.
# So we take the differences, picture by picture: their mean, divided by its standard
# error. If no neuron mattered, this ratio would lie below -1.96 in 2.5 of 100 cases.

# %%
unseen = rises(network, pictures.validation)
mean = unseen.mean(1)
ratios = mean / (unseen.std(1) / unseen.shape[1] ** 0.5).clamp(min=1e-12)
guess_harm.compare((mean < 0).sum())
guess_sure.compare((ratios < -1.96).sum())
claim(
    "Share of neurons without which it is lower",
    (mean < 0).float().mean(),
    at_least=0.3,
)
sure = (ratios < -1.96).float().mean()
claim("Share for which that is sure; chance alone gives 0.025", sure, at_most=0.05)

# %% [markdown]
# All 300 ratios, beside the bell curve that would be there if no neuron mattered:

# %% tags=["figure:margins"]
draw.margins(ratios)

# %% [markdown]
# How many had you guessed to be sure? Left of the left dashed line there are hardly
# more neurons than chance would put there. So little is left of the "harm" that this
# many pictures can show. On the right side, neurons that help do stand out.
#
# The same in another way: choose the harmful ones by one half of the pictures, remove
# them all, and look at the other half.

# %%
half = unseen.shape[1] // 2
harmful = (unseen[:, :half].mean(1) < 0).nonzero().flatten()
other_half = pictures.validation[half:]
with torch.no_grad():
    hidden = network[:3](other_half.images)
    before = F.cross_entropy(network[3:](hidden), other_half.labels)
    hidden[:, harmful] = 0
    after = F.cross_entropy(network[3:](hidden), other_half.labels)
forecast = unseen[harmful, :half].mean(1).sum()
claim("Added up, the first half promises a fall of the loss", forecast, at_most=0)
claim("Removed at once, the other half sees it rise", after - before, at_least=0.1)

# %% [markdown]
# Two errors in one sum: the choice fitted noise, and single removals do not add up. We
# did not take the two apart.

# %% [markdown]
# ## Scores of whole neurons
#
# A neuron of the first layer has 784 incoming weights. Its scores here:
#
# - **l1**: the sum of `|w|`; **l2**: the root of the sum of `w**2`.
# - **gradient**: the sum of `|g|`.
# - **taylor**: `|sum of w*g|`, not the sum of `|w*g|`: the weights leave together, and
# their changes may cancel. **taylor squared** is its square, averaged over batches
# (Molchanov et al. 2019).
# - **activation**: the mean of its output after the ReLU. Not the `|w| x input` of the
# lab: there it scored a weight.
# - **random**: by lot.
#
# None of them counts the bias. The truth removes it, too.
#
# The judge sees three networks: the course's, and two that are trained here for three
# epochs from other starts. Each score that needs pictures draws them three times.

# %% tags=["nbval-ignore-output"]
networks = [network]
for seed in (1, 2):
    twin = baselines.build("lenet300", seed=seed)
    recipe = training.Recipe(epochs=3, learning_rate=3e-3)
    training.fit(twin, pictures.train, recipe, seed=seed)
    networks.append(twin)


# %% [markdown]
# Now every score of neurons on every network.


# %%
def rank_correlation(a, b):
    """Your function from the lab, once more."""
    ranks = torch.stack([a.argsort().argsort(), b.argsort().argsort()]).double()
    return torch.corrcoef(ranks)[0, 1].item()


names = ["taylor", "taylor squared", "gradient", "activation", "l2", "l1", "random"]
truths = [rises(model, pictures.train[:5000]).mean(1) for model in networks]
found = {name: [[], [], []] for name in names}
for place, (model, truth) in enumerate(zip(networks, truths)):
    for seed in range(3):
        batches = data.sample_batches(pictures.train, count=5, seed=seed)
        for name in names:
            if name == "random":
                score = scores.unit_random(model, seed=seed)
            else:
                score = scores.score(name, model, batches, units=True)
            found[name][place].append(rank_correlation(score["fc1.weight"], truth))

# %% [markdown]
# In the figure each dot is one draw, each group of dots one network.

# %% tags=["figure:correlations"]
draw.correlations(found)

# %% [markdown]
# And compared in pairs, run by run:

# %%
flat = {name: torch.tensor(values).flatten() for name, values in found.items()}
better = (flat["taylor"] > flat["gradient"]).sum()
claim("Of 9 runs, |sum of w*g| ranks better than |g| in", better, at_least=7)
better = (flat["taylor"] > flat["l2"]).sum()
claim("and better than l2 in", better, at_least=7)
claim("Random knows nothing", flat["random"].mean().abs(), at_most=0.1)

# %% [markdown]
# Over all networks the ranges of two scores overlap, as the networks differ. Within one
# network the order of these two is steady. A paired comparison sees it; overlapping
# ranges hide it.

# %% [markdown]
# ### Does the gradient find the dead ones?
#
# For whole neurons `|g|` does well. A story that fits: a neuron that hardly ever fires
# passes no gradient, so `|g|` finds the dead ones, and these do not matter. It can be
# tested: leave them out.

# %%
with torch.no_grad():
    fires = (network[:3](pictures.train[:10000].images) > 0).float().mean(0)
batches = data.sample_batches(pictures.train, count=10)
slope = scores.score("gradient", network, batches, units=True)["fc1.weight"]
alive = fires > 0.01
claim("Neurons that fire for less than 1% of the pictures", (~alive).sum(), at_most=10)
whole = rank_correlation(slope, truths[0])
without = rank_correlation(slope[alive], truths[0][alive])
claim("Without them the gradient's correlation falls by", whole - without, at_most=0.03)

# %% [markdown]
# The story is refuted: there are only a handful of such neurons, and without them the
# gradient does as well. A story that fits is not yet true. What else makes the gradient
# good at neurons, we do not know.

# %% [markdown]
# ## Wanda as published
#
# The lab let all weights compete by `|w| x input`. Wanda (Sun et al. 2024) prunes the
# same share of each output's weights: of each row. Its networks are language models of
# billions of weights; ours is not.


# %%
def in_each_row(score, sparsity):
    """Masks that prune the same share of every row."""
    return {
        name: values.argsort(1).argsort(1) >= round(sparsity * values.shape[1])
        for name, values in score.items()
    }


def accuracy(chosen):
    return training.evaluate(masks.masked(network, chosen), pictures.validation)


score = scores.score("activation", network, batches)
by_row = accuracy(in_each_row(score, 0.9))
by_all = accuracy(masks.masks_from_scores(score, 0.9))
by_size = accuracy(in_each_row(scores.magnitude(network), 0.9))
claim("At 90%, |w| x input with one threshold for all keeps", by_all, at_least=0.7)
claim("The published rule, row by row, keeps", by_row, at_most=0.6)
claim("|w| alone, row by row too, keeps less by", by_row - by_size, at_least=0.02)

# %% [markdown]
# One product of numbers, two rules of who competes, two very different networks. Row by
# row the small output layer loses nine of ten weights like the others; lab 03 looks
# at who should compete.

# %% [markdown]
# ## In production
#
# `torch.nn.utils.prune` knows magnitude and random. Any other score goes in as
# `importance_scores`.

# %%
import copy

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

# %% [markdown]
# Are these the masks that our own function makes?

# %%
ours = masks.masks_from_scores(score, 0.9)
differing = sum(
    (layer.weight_mask.bool() != ours[name]).sum().item()
    for (layer, _), name in zip(layers, ours)
)
claim("PyTorch's masks and ours differ nowhere", differing, at_most=0)

# %% [markdown]
# The masks are the same. What the library adds is the mask's place in the module;
# what you add is the score.

# %%
finish()

# %% [markdown]
# **Next:** [03 Weight pruning](03_weight_pruning.ipynb).
