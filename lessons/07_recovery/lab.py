# %% [markdown]
# # 07 Fine-tuning recovery
#
# Runs with several seeds take longer than a lab. Where a number comes from a file that
# `make results` wrote, the text says so.

# %%
import copy

import torch

from utils import (
    baselines,
    data,
    masks,
    measure,
    plots,
    schedules,
    studies,
    surgery,
    training,
)
from utils.data import sample_batches
from utils.lab import check, claim, finish, predict, quiz
from utils.scores import score

pictures = data.load()
lenet = baselines.baseline("lenet300")
dense = training.evaluate(lenet, pictures.validation)

# %% [markdown]
# ## First, without training: BatchNorm
#
# BatchNorm stores the mean and the variance that each channel had during training, and
# uses them from then on. Take a quarter of the filters away, and the next layer gets
# smaller sums than BatchNorm was told to expect.

# %%
vgg = baselines.baseline("vgg")
some = pictures.validation[:1000]
pruned = surgery.shrink(vgg, some.images[:1], score("l1", vgg, units=True), 0.25)
accuracy = {
    "dense": training.evaluate(vgg, some),
    "a quarter of the filters gone": training.evaluate(pruned, some),
}
guess_norm = predict(
    "No weight touched, only BatchNorm's mean and variance measured anew: accuracy?",
    0,
    100,
    unit="%",
)

# %% [markdown]
# ### Exercise: what BatchNorm stores
#
# <details><summary>Hint 1</summary>One number a channel: everything but the channel
# axis is averaged away.</details>
# <details><summary>Hint 2</summary><code>activations.mean(dim=...)</code> takes several
# axes at once.</details>
# <details><summary>Hint 3</summary>The axes are 0, 2 and 3; <code>var</code> takes the
# same.</details>


# %%
def channel_statistics(activations):
    """Mean and variance of each channel of [pictures, channels, height, width], both of
    shape [channels]: what BatchNorm stores."""
    ...


# %%
channel_statistics = check(channel_statistics)

# %%
with torch.no_grad():
    # what the second BatchNorm gets
    mean, variance = channel_statistics(pruned[:4](pictures.train.images[:500]))
stored, told = pruned[4].running_var, variance
claim(
    "The variance really there is smaller than the stored one, in most channels",
    (told < stored).float().mean(),
    at_least=0.5,
)

# %%
training.reestimate_batchnorm(pruned, sample_batches(pictures.train, count=4))
accuracy["and BatchNorm re-estimated"] = training.evaluate(pruned, some)

# %% tags=["figure:batchnorm"]
plots.show(
    plots.bars(
        {name: 100 * value for name, value in accuracy.items()},
        title="VGG: much of what looked lost was only BatchNorm's old statistics",
        x_label="accuracy on 1,000 validation pictures, %",
        unit="%",
        digits=1,
        guess=guess_norm,
    ),
    alt=(
        "Bars of accuracy: dense above 90 percent, much lower after pruning, a large"
        " part back after re-estimating BatchNorm."
    ),
)

# %%
guess_norm.compare(100 * accuracy["and BatchNorm re-estimated"])
gained = (
    accuracy["and BatchNorm re-estimated"] - accuracy["a quarter of the filters gone"]
)
claim(
    "1,024 training pictures, and no weight touched, bring back more than 10 points",
    100 * gained,
    at_least=10,
)

# %% [markdown]
# Fine-tuning does this by the way, since BatchNorm learns on as soon as training goes
# on. Without this control one would credit the weights with it.

# %% [markdown]
# ## Fine-tune, and keep the zeros
#
# LeNet at 95%, pruned in one shot and trained for two more epochs, twice: with the
# masks held, and without.

# %% tags=["nbval-ignore-output"]
recipe = training.Recipe(epochs=2, learning_rate=1e-3)
ninety_five = masks.magnitude_masks(lenet, 0.95)
tuned = {}
for name in ("masks held", "masks forgotten"):
    network = masks.masked(lenet, ninety_five)
    after_step = masks.hold(network, ninety_five) if name == "masks held" else None
    training.fit(network, pictures.train, recipe, after_step=after_step)
    tuned[name] = network

# %%
claim(
    "With masks held 95% of the weights are zero after fine-tuning",
    measure.sparsity(tuned["masks held"]),
    between=(0.9499, 0.9501),
)
claim(
    "With masks forgotten almost none are",
    measure.sparsity(tuned["masks forgotten"]),
    at_most=0.1,
)
forgotten, held = (
    training.evaluate(tuned[name], pictures.validation)
    for name in ("masks forgotten", "masks held")
)
claim("and that network looks better", 100 * (forgotten - held), at_least=0.3)

# %% [markdown]
# The better accuracy is a trap: it belongs to a dense network again. Whoever reports a
# recovered accuracy must report the sparsity measured *after* recovery.
#
# Hiding the gradients of pruned weights is not enough where pruning falls into a
# running training: momentum is still warm from the steps before. A schedule that prunes
# half-way and forgets to hold:


# %%
class NotHeld(schedules.OneShot):
    """Prunes once and hides gradients, but does not set the zeros again after each
    step."""

    def after_step(self):
        pass


# %% tags=["nbval-ignore-output"]
warm = copy.deepcopy(lenet)
sgd = training.Recipe(epochs=1, optimizer="sgd", learning_rate=0.02, weight_decay=5e-4)
history = training.fit(warm, pictures.train, sgd, schedule=NotHeld(0.95, begin=0.5))

# %%
claim(
    "Warm momentum leaves fewer than one zero in ten",
    measure.sparsity(warm),
    at_most=0.1,
)

# %% [markdown]
# ## One shot, rounds, or gradually?
#
# Three ways to 90, 95 and 98%, each with 12 epochs from the same trained network: all
# at once and then fine-tuning; in five rounds; on the cubic schedule of lab 06. A
# fourth line shows what 24 epochs of the last gain. Three seeds each, from `make
# results ARGS=recovery`.

# %%
guess_gradual = predict(
    "LeNet at 98% sparsity, pruned gradually: how many points of accuracy are lost?",
    0,
    20,
    unit="points",
)

# %%
sparsities = [0.9, 0.95, 0.98]
methods = ["one-shot", "iterative", "gradual", "gradual, twice as long"]
study = {
    m: {s: studies.spread("recovery", method=m, sparsity=s) for s in sparsities}
    for m in methods
}

# %% tags=["figure:methods"]
plots.show(
    plots.lines(
        sparsities,
        {
            method: [each.mean for each in spreads.values()]
            for method, spreads in study.items()
        },
        title=(
            "LeNet-300-100 after fine-tuning (mean of 3 seeds; bands: lowest to"
            " highest)"
        ),
        x_label="sparsity",
        y_label="validation accuracy, %",
        percent=True,
        stops=True,
        level=("dense", dense),
        spread={method: studies.bands(spreads) for method, spreads in study.items()},
    ),
    alt=(
        "Accuracy at 90, 95 and 98 percent: gradual pruning stays closest to dense,"
        " one-shot falls most at 98 percent."
    ),
)

# %%
lost = {
    s: (
        100
        * (
            baselines.baseline_facts("lenet300")["validation_accuracy"]
            - study[methods[3]][s].mean
        )
    )
    for s in sparsities
}
guess_gradual.compare(100 * (dense - study["gradual"][0.98].mean))
claim(
    "Gradually, with 24 epochs: at 90% less than 0.5 points are lost",
    lost[0.9],
    at_most=0.5,
)
claim("At 95% no more than 1 point", lost[0.95], at_most=1.0)
claim("At 98% less than 2.5 points", lost[0.98], at_most=2.5)
claim(
    "At 98% rounds beat one-shot at equal cost",
    100 * (study["iterative"][0.98].mean - study["one-shot"][0.98].mean),
    at_least=0.5,
)
claim(
    "and gradual beats rounds",
    100 * (study["gradual"][0.98].mean - study["iterative"][0.98].mean),
    at_least=0.5,
)
claim(
    "At 98% gradual beats one-shot at equal cost",
    100 * (study["gradual"][0.98].mean - study["one-shot"][0.98].mean),
    at_least=0.5,
)

# %% [markdown]
# One of these runs again, live and shorter: 95% gradually, in four epochs.

# %% tags=["nbval-ignore-output"]
live, gently = copy.deepcopy(lenet), training.Recipe(epochs=4, learning_rate=1e-3)
history = training.fit(
    live, pictures.train, gently, schedule=schedules.Cubic(0.95, end=0.6)
)

# %%
claim(
    "Live, in 4 epochs: less than 3 points are lost at 95%",
    100 * (dense - training.evaluate(live, pictures.validation)),
    at_most=3,
)

# %% [markdown]
# ## How long, and with which learning rate?
#
# One shot to 95%, then 1 to 16 epochs. Either with a small constant learning rate,
# 1e-4; or *rewound*: up to 3e-3 again and down, as in the training itself (Renda et al.
# 2020). From `make results ARGS=tuning`.

# %% tags=["figure:tuning"]
epochs = [1, 2, 4, 8, 16]
rates = ("small and constant", "rewound")
tunings = {
    rate: {e: studies.spread("tuning", method=rate, epochs=e) for e in epochs}
    for rate in rates
}
plots.show(
    plots.lines(
        epochs,
        {
            name: [each.mean for each in spreads.values()]
            for name, spreads in tunings.items()
        },
        title="One-shot to 95%: accuracy after so many epochs of fine-tuning",
        x_label="epochs of fine-tuning",
        y_label="validation accuracy, %",
        percent=True,
        level=("dense", dense),
        spread={name: studies.bands(spreads) for name, spreads in tunings.items()},
    ),
    alt=(
        "Accuracy over epochs of fine-tuning: rewound, it is high after one epoch; with"
        " a small constant rate it climbs slowly."
    ),
)

# %%
cut = masks.masked(lenet, ninety_five)
before = 100 * training.evaluate(cut, pictures.validation)
rewound = [100 * each.mean for each in tunings["rewound"].values()]
constant = [100 * each.mean for each in tunings["small and constant"].values()]

# %%
claim(
    "Rewound is better at every length",
    min(r - c for r, c in zip(rewound, constant)),
    at_least=0.5,
)
claim(
    "Rewound, the first epoch brings back more than the next fifteen",
    (rewound[0] - before) - (rewound[-1] - rewound[0]),
    at_least=1,
)

# %% [markdown]
# ## Was it the weights, the mask, or just the size?
#
# The *lottery-ticket hypothesis* (Frankle & Carbin 2019): a large network contains a
# small one that, with its *first* weights again, trains as well as the whole.
#
# ### Exercise: draw a ticket
#
# <details><summary>Hint 1</summary>Copy first, so that the trained model stays as it
# is.</details>
# <details><summary>Hint 2</summary><code>load_state_dict</code> brings the first
# weights back, biases too.</details>
# <details><summary>Hint 3</summary><code>masks.apply_masks(copy, chosen)</code> zeroes
# what the masks leave out.</details>


# %%
def ticket(model, first_weights, masks):
    """A copy of the model with its first weights (a state_dict) again, and zeros where
    the masks (by parameter name) are False. The model stays as it is."""
    ...


# %%
ticket = check(ticket)

# %%
guess_ticket = predict(
    "A ticket at 95%, against the same mask with new random weights: how many points"
    " better?",
    -2,
    5,
    unit="points",
)

# %% tags=["nbval-ignore-output"]
first = baselines.build("lenet300", seed=7)
grown = copy.deepcopy(first)
training.fit(grown, pictures.train, training.Recipe(epochs=3))
winning = masks.magnitude_masks(grown, 0.95)
drawn = ticket(grown, first.state_dict(), winning)
history = training.fit(
    drawn,
    pictures.train,
    training.Recipe(epochs=3),
    after_step=masks.hold(drawn, winning),
)

# %%
claim(
    "The drawn ticket is 95% zeros", measure.sparsity(drawn), between=(0.9499, 0.9501)
)
claim(
    "and learns in three epochs: more than 80% right",
    training.evaluate(drawn, pictures.validation),
    at_least=0.8,
)

# %% [markdown]
# The comparison, from `make results ARGS=tickets`: five starts with the same number of
# weights, twelve epochs each, three seeds. The last has an advantage: its weights were
# trained for twelve epochs before.

# %% tags=["figure:tickets"]
starts = [run["method"] for run in studies.runs("tickets", seed=0, sparsity=0.95)]
tickets = {
    s: {start: studies.spread("tickets", method=start, sparsity=s) for start in starts}
    for s in (0.95, 0.98)
}
plots.show(
    plots.dots(
        {
            f"{start}, {s:.0%}": 100 * tickets[s][start].mean
            for s in tickets
            for start in starts
        },
        {
            f"{start}, {s:.0%}": (
                100 * tickets[s][start].low,
                100 * tickets[s][start].high,
            )
            for s in tickets
            for start in starts
        },
        title=(
            "The same number of weights, five starts (mean, lowest, highest of 3 seeds)"
        ),
        x_label="validation accuracy, %",
        unit="%",
        digits=1,
    ),
    alt=(
        "Ten rows of accuracy with spread for five ways to start at 95 and 98 percent"
        " sparsity."
    ),
)

# %%
mean = {start: 100 * each.mean for start, each in tickets[0.95].items()}
ticket_, redrawn, shuffled, small, kept = (mean[start] for start in starts)
sizes = [run["kept"] for run in studies.runs("tickets", sparsity=0.95)]
claim(
    "All have the same number of weights, within one in a hundred",
    max(sizes) / min(sizes),
    at_most=1.01,
)
claim(
    "At 95% the ticket beats the same mask with new weights",
    ticket_ - redrawn,
    at_least=0.3,
)
claim("which beats the shuffled mask", redrawn - shuffled, at_least=0.2)
claim("The ticket beats the small dense network", ticket_ - small, at_least=0.5)
gains = (redrawn - shuffled, ticket_ - redrawn, kept - ticket_)
claim(
    "Place, first weights, training: none gains more than a point over the step before",
    max(gains),
    at_most=1,
)
claim(
    "Nothing beats the trained weights",
    kept - max(ticket_, redrawn, shuffled, small),
    at_least=0.3,
)

# %% [markdown]
# So on this network each part did something: where the weights are, how they started,
# and what they had learned (this with twice the training). None is worth more than a
# point. Who compares only the best with the worst credits one of them with everything.

# %% tags=["nbval-ignore-output"]
guess_ticket.compare(ticket_ - redrawn)

# %% [markdown]
# ## Recovery, live
#
# LeNet at 95%, one-shot. Press "Fine-tune": one epoch with the masks held, and a star
# above the fallen dot. Press it again: the training goes on from there. Then slide to
# 98% and do the same; or choose another network, or remove channels instead.

# %% tags=["nbval-ignore-output"]
from utils.explorer import Explorer

panel = Explorer("lenet300", sparsity=0.95)
fallen = panel.state(panel.controls)
panel.tune.click()
panel.settle()

# %% tags=["figure:explorer", "nbval-ignore-output"]
panel

# %%
recovered = panel.shown
claim(
    "One epoch brings back more than 30 points",
    100 * (recovered.accuracy - fallen.accuracy),
    at_least=30,
)
claim(
    "and 95% of the weights are still zero",
    1 - recovered.weights,
    between=(0.9499, 0.9501),
)

# %% [markdown]
# ## In production
#
# PyTorch's `update_bn`, made for averaged weights, re-estimates BatchNorm as ours does.

# %%
from torch.optim.swa_utils import update_bn

theirs, ours = (
    surgery.shrink(vgg, some.images[:1], score("l1", vgg, units=True), 0.5)
    for _ in range(2)
)
few = sample_batches(pictures.train, count=2, batch_size=64)
update_bn(few, theirs)
training.reestimate_batchnorm(ours, few)
difference = max(
    (a - b).abs().max() for a, b in zip(theirs.eval().buffers(), ours.buffers())
)
claim("PyTorch's statistics and ours are the same", difference, at_most=1e-3)

# %% [markdown]
# ## One look at the test set

# %%
drop = training.evaluate(lenet, pictures.test) - training.evaluate(live, pictures.test)
claim(
    "The live network, 95% sparse, is within 3.5 points of dense on the test set",
    100 * drop,
    at_most=3.5,
)

# %% [markdown]
# ## Take away
#
# 1. Re-estimate BatchNorm before you judge a pruned network; it costs seconds and no
# training.
# 2. Hold the masks during recovery, and measure the sparsity afterwards.
# 3. Prune gradually, train on with a learning rate that rises once more, and compare
# with a small network from scratch.

# %%
quiz("07_recovery")

# %%
finish()

# %% [markdown]
# **Next:** lab 08 makes each remaining number smaller: quantization.
