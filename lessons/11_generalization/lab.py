# %% [markdown]
# # 11 Does it generalize?
#
# "Fewer weights, less overfitting" is said often. Here it is measured where overfitting
# is worst: few pictures, and wrong labels. Runs with several seeds come from the file
# that `make results ARGS=generalization` wrote; the text says so.

# %%
import copy
import itertools

import torch

from utils import baselines, data, masks, plots, schedules, studies, training
from utils.lab import check, claim, finish, predict, quiz

pictures = data.load()
lenet = baselines.baseline("lenet300")

# %% [markdown]
# ## Learned by heart
#
# Labels made by people are sometimes wrong. We make 30% of them wrong on purpose: then
# we know which, and can ask the network about them. Whoever answers with a wrong label
# has nearly always learned it by heart: nothing in the picture leads to it. (A few per
# cent are ordinary mistakes that happen to hit it, as the first epochs show.)
#
# ### Exercise: wrong labels
#
# <details><summary>Hint 1</summary>First which: <code>torch.randperm(n,
# generator=generator)</code> gives each position once; take as many as you
# need.</details>
# <details><summary>Hint 2</summary>Then what: a class other than the old one is 1 to 9
# further, and after 9 comes 0.</details>
# <details><summary>Hint 3</summary>In a clone: <code>(labels[chosen] + torch.randint(1,
# 10, (count,), generator=generator)) % 10</code></details>


# %%
def noisy_labels(labels, fraction, generator):
    """New labels [pictures], 0 to 9: exactly round(fraction * pictures) of them, drawn
    with the generator, are another class, each of the nine others as likely. The given
    labels stay as they are."""
    ...


# %%
noisy_labels = check(noisy_labels)

# %%
generator = torch.Generator().manual_seed(0)
few = pictures.train[torch.randperm(len(pictures.train), generator=generator)[:2000]]
noisy = data.Split(few.images, noisy_labels(few.labels, 0.3, generator))
wrong = noisy.labels != few.labels
claim("600 of 2,000 labels are wrong", wrong.sum(), between=(600, 600))

# %%
guess_heart = predict(
    "After 40 epochs: how many of the wrong labels has LeNet learned by heart?",
    0,
    100,
    unit="%",
)


# %%
def learned_by_heart(network):
    """Fraction of the wrong labels that the network answers."""
    return training.evaluate(network, noisy[wrong])


# %% tags=["nbval-ignore-output"]
network, step, heart = baselines.build("lenet300", seed=0), itertools.count(1), []
history = training.fit(
    network,
    noisy,
    training.Recipe(epochs=40, batch_size=64, flip=False),
    validation=pictures.validation,
    # once an epoch
    after_step=lambda: (
        heart.append(learned_by_heart(network)) if next(step) % 32 == 0 else None
    ),
)

# %% tags=["figure:heart"]
plots.show(
    plots.lines(
        range(1, 41),
        {
            "validation accuracy": history.validation_accuracy,
            "wrong labels learned by heart": heart,
        },
        title="2,000 pictures, 30% wrong labels: first the rule, then the exceptions",
        x_label="epoch",
        y_label="%",
        percent=True,
        y_limits=(0, 100),
        guess=guess_heart,
    ),
    alt=(
        "Over 40 epochs the validation accuracy rises early and then falls, while ever"
        " more wrong labels are learned by heart."
    ),
)

# %%
guess_heart.compare(100 * heart[-1])
claim("More than 70% of the wrong labels are learned by heart", heart[-1], at_least=0.7)
peak, end = (
    100 * max(history.validation_accuracy),
    100 * history.validation_accuracy[-1],
)
claim(
    "That costs more than 5 points on pictures it has not seen", peak - end, at_least=5
)
claim(
    "The best epoch is in the first half",
    history.validation_accuracy.index(max(history.validation_accuracy)),
    at_most=19,
)

# %% [markdown]
# Two things happen one after the other: first the network finds what pictures of a
# class have in common, then it spends its spare weights on the exceptions. Who stops at
# the best epoch gets the first without the second: *early stopping*. So here is the
# hope for pruning: take the spare weights away, and the exceptions go first.

# %% [markdown]
# ## Do fewer weights help?
#
# The study: 2,000 pictures, three draws of pictures and labels. Half of the training
# dense (20 epochs, no flips), then as long again, pruned gradually from 0 to 99%. At 0%
# nothing is pruned: the dense network, trained on for just as long, is the control.

# %%
guess_level = predict(
    "30% wrong labels: at which sparsity is the network best on pictures it has not"
    " seen?",
    0,
    99,
    unit="%",
)

# %%
levels = [0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99]
CLEAN, WRONG = "2,000 pictures", "2,000 pictures, 30% wrong labels"


def along(setting, entry):
    """Mean, lowest and highest of an entry at each sparsity."""
    return {
        s: studies.spread(
            "generalization", entry, setting=setting, method="pruned", sparsity=s
        )
        for s in levels
    }


def draw(curves, **labels):
    """The curves with their bands."""
    means = {
        name: [each.mean for each in spreads.values()]
        for name, spreads in curves.items()
    }
    bands = {name: studies.bands(spreads) for name, spreads in curves.items()}
    return plots.lines(
        levels,
        means,
        spread=bands,
        x_label="sparsity",
        percent=True,
        stops=True,
        **labels,
    )


# %% tags=["figure:gap"]
clean = {
    "accuracy on the 2,000": along(CLEAN, "training_accuracy"),
    "validation accuracy": along(CLEAN, "validation_accuracy"),
}
plots.show(
    draw(
        clean,
        title="2,000 pictures, right labels (3 seeds: mean, lowest to highest)",
        y_label="accuracy, %",
    ),
    alt=(
        "Along sparsity the accuracy on the training pictures stays at 100 percent and"
        " falls at the end; validation stays flat, then falls."
    ),
)

# %%
val, train = clean["validation accuracy"], clean["accuracy on the 2,000"]
gain = 100 * (max(val[s].mean for s in levels[1:]) - val[0.0].mean)
claim(
    "Right labels: at no sparsity pruning gains a point over the dense control",
    gain,
    at_most=1,
)
claim(
    "At 99% it costs more than one", 100 * (val[0.0].mean - val[0.99].mean), at_least=1
)
gap = {s: 100 * (train[s].mean - val[s].mean) for s in (0.0, 0.99)}
claim(
    "and yet the gap between training and validation is 4 points smaller",
    gap[0.0] - gap[0.99],
    at_least=4,
)

# %% [markdown]
# A smaller gap is not better generalization. It closes here because the *upper* line
# falls: the network forgets pictures it was trained on, and knows no more about the
# others. Right labels learned by heart do little harm on this data.
#
# Wrong ones do. The same with 30% wrong labels:

# %% tags=["figure:noisy"]
noise = {
    "validation accuracy": along(WRONG, "validation_accuracy"),
    "wrong labels learned by heart": along(WRONG, "memorised"),
    "wrong labels answered rightly": along(WRONG, "righted"),
}
plots.show(
    draw(noise, title="2,000 pictures, 30% wrong labels (3 seeds)", y_label="%"),
    alt=(
        "Along sparsity fewer wrong labels are learned by heart at the end, more are"
        " answered rightly, and validation accuracy rises."
    ),
)

# %%
val = noise["validation accuracy"]
by_heart, righted = (
    noise["wrong labels learned by heart"],
    noise["wrong labels answered rightly"],
)
claim(
    "Dense, more than 80% of the wrong labels are learned by heart",
    by_heart[0.0].mean,
    at_least=0.8,
)
claim("At 98% fewer than 30%", by_heart[0.98].mean, at_most=0.3)
claim(
    "and more than half of them are answered rightly, against the label",
    righted[0.98].mean,
    at_least=0.5,
)
claim(
    "98% pruned beats the dense control by more than 5 points",
    100 * (val[0.98].mean - val[0.0].mean),
    at_least=5,
)
claim(
    "50% pruned is no different from it",
    100 * (val[0.5].mean - val[0.0].mean),
    between=(-2, 2),
)

# %% tags=["nbval-ignore-output"]
best = max(levels, key=lambda s: val[s].mean)
guess_level.compare(100 * best)

# %% [markdown]
# So pruning can make a network better. But not a little pruning: half of 266,610
# weights are still far more than 2,000 labels need. It starts to help where the
# exceptions no longer fit in.

# %% [markdown]
# ## Against the usual remedies
#
# A remedy must be compared with others. *Early stopping*: the best epoch of the first
# half. *Weight decay*: 300 times as much as usual, dense, for as long in all; one
# value, not the best of several. *Pruned*: the best of the six sparsities. Best epoch
# and best sparsity are chosen on the validation data that they are then judged by; that
# flatters both.


# %%
def remedies(setting):
    """For each remedy the validation accuracy of three seeds, in percent."""
    dense = studies.runs(
        "generalization", setting=setting, method="pruned", sparsity=0.0
    )
    best = max(levels[1:], key=lambda s: along(setting, "validation_accuracy")[s].mean)
    pruned = studies.runs(
        "generalization", setting=setting, method="pruned", sparsity=best
    )
    decayed = studies.runs("generalization", setting=setting, method="weight decay")
    found = {
        name: [run["validation_accuracy"] for run in runs]
        for name, runs in {
            "dense": dense,
            f"pruned, {best:.0%}": pruned,
            "weight decay": decayed,
        }.items()
    }
    found["early stopping"] = [max(run["first_half"]) for run in dense]
    return {name: [100 * value for value in values] for name, values in found.items()}


# %% tags=["figure:remedies"]
rows = {
    f"{where}: {name}": values
    for setting, where in ((CLEAN, "right labels"), (WRONG, "30% wrong"))
    for name, values in remedies(setting).items()
}
plots.show(
    plots.dots(
        {name: sum(values) / len(values) for name, values in rows.items()},
        {name: (min(values), max(values)) for name, values in rows.items()},
        title="2,000 pictures: pruning and two older remedies (3 seeds)",
        x_label="validation accuracy, %",
        unit="%",
        digits=1,
    ),
    alt=(
        "Eight rows of accuracy with spread: dense, pruned, weight decay, early"
        " stopping; for right labels near one another, for wrong labels far apart."
    ),
)

# %%
mean = {name: sum(values) / len(values) for name, values in remedies(WRONG).items()}
best_pruned = max(value for name, value in mean.items() if name.startswith("pruned"))
claim(
    "Wrong labels: early stopping gains more than 5 points, too",
    mean["early stopping"] - mean["dense"],
    at_least=5,
)
claim("and weight decay", mean["weight decay"] - mean["dense"], at_least=5)
older = max(mean["early stopping"], mean["weight decay"])
claim(
    "Pruned is no more than 1.5 points better than the better of the two",
    best_pruned - older,
    at_most=1.5,
)

# %% [markdown]
# Pruning regularizes, and so do remedies that need no masks. Who has wrong labels stops
# early, or decays the weights. Who needs a small network anyway gets the regularization
# with it.

# %% [markdown]
# ## Which classes pay
#
# Now all pictures with their right labels. One number for all classes can hide who pays
# for it. The study has three dense networks, each trained on for as long as its pruned
# copies at 95% and 98%, and keeps all their answers to the validation pictures.

# %%
labels = pictures.validation.labels


def answers(sparsity, seeds=(0, 1, 2)):
    """The answers of the networks of these seeds: [networks, pictures]."""
    runs = [
        studies.runs(
            "generalization", setting="all pictures", sparsity=sparsity, seed=seed
        )[0]["predictions"]
        for seed in seeds
    ]
    return torch.tensor([[int(digit) for digit in digits] for digits in runs])


def class_accuracy(predictions):
    """Accuracy in each class, percent: [networks, pictures] -> [networks, 10]."""
    right = (predictions == labels).float()
    return 100 * torch.stack(
        [right[:, labels == label].mean(1) for label in range(10)], dim=1
    )


# %%
dense_answers = answers(0.0)
change = {
    s: class_accuracy(answers(s)) - class_accuracy(dense_answers) for s in (0.95, 0.98)
}
overall = {s: each.mean() for s, each in change.items()}
guess_class = predict(
    "98%: how many points does the class lose that loses most?", 0, 40, unit="points"
)

# %% tags=["figure:classes"]
each_seed = {name: change[0.98][:, c] for c, name in enumerate(data.CLASSES)} | {
    "mean of all": change[0.98].mean(1)
}
each_seed = dict(sorted(each_seed.items(), key=lambda row: row[1].mean()))
plots.show(
    plots.dots(
        {name: float(values.mean()) for name, values in each_seed.items()},
        {
            name: (float(values.min()), float(values.max()))
            for name, values in each_seed.items()
        },
        title="98% of the weights pruned: change of accuracy in each class (3 seeds)",
        x_label="points, against the dense network of the same seed",
        digits=1,
    ),
    alt=(
        "Ten rows and the mean of all: shirts lose far more than any other class, coats"
        " and pullovers some, T-shirts and ankle boots least."
    ),
)

# %%
shirt, tshirt = data.CLASSES.index("Shirt"), data.CLASSES.index("T-shirt")
dense_shirts = class_accuracy(dense_answers)[:, shirt]
claim(
    "Shirts lose more than 10 points at 98%, with each seed",
    -change[0.98][:, shirt].max(),
    at_least=10,
)
claim(
    "That is more than twice the mean of all classes",
    change[0.98][:, shirt].mean() / overall[0.98],
    at_least=2,
)
claim(
    "Dense networks of other seeds differ on shirts by less than 2 points",
    dense_shirts.max() - dense_shirts.min(),
    at_most=2,
)
claim(
    "At 95% shirts lose more than 5 points", -change[0.95][:, shirt].mean(), at_least=5
)
claim("while T-shirts lose nothing", change[0.95][:, tshirt].mean(), at_least=0)

# %% tags=["nbval-ignore-output"]
guess_class.compare(-change[0.98][:, shirt].mean())

# %% [markdown]
# Shirts were the hardest class before: they look like T-shirts, pullovers and coats.
# Where do they go?

# %%
taken = {
    s: (answers(s)[:, labels == shirt] == tshirt).float().mean() for s in (0.0, 0.95)
}
claim(
    "At 95% more shirts are taken for T-shirts than before",
    100 * (taken[0.95] - taken[0.0]),
    at_least=1,
)

# %% [markdown]
# With fewer weights doubtful cases go to the neighbour; at 95% T-shirts even gain.
# Hooker et al. (2019) found the same on ImageNet: a few classes pay for all. The mean
# says nothing of it.

# %% [markdown]
# ## Which pictures pay
#
# A label that changed is not yet the pruning's doing: two *dense* networks of other
# seeds also differ. Hooker et al. (2019) therefore compare populations. Of several
# dense networks the most frequent answer to a picture, of several pruned ones the most
# frequent: where these two differ, pruning has changed what the network knows. They
# call such pictures *pruning identified exemplars*.
#
# ### Exercise: the changed pictures
#
# <details><summary>Hint 1</summary>The most frequent value is the <em>mode</em>;
# tensors have a method of that name.</details>
# <details><summary>Hint 2</summary>The networks are dimension 0; <code>mode</code>
# takes the last dimension unless told.</details>
# <details><summary>Hint 3</summary><code>dense_predictions.mode(dim=0).values</code>,
# the same for the pruned ones, and
# <code>!=</code></details>


# %%
def changed(dense_predictions, pruned_predictions):
    """Boolean [pictures]: where the most frequent answer of the pruned networks is
    another than that of the dense ones. Both predictions are [networks, pictures];
    there need not be equally many networks. Of equally frequent answers the smallest
    class counts, as `mode` has it."""
    ...


# %%
changed = check(changed)

# %%
other = {
    "dense, three other seeds": changed(dense_answers, answers(0.0, seeds=(3, 4, 5))),
    "95% pruned": changed(dense_answers, answers(0.95)),
    "98% pruned": changed(dense_answers, answers(0.98)),
}

# %% tags=["figure:changed"]
plots.show(
    plots.bars(
        {name: 100 * float(each.float().mean()) for name, each in other.items()},
        title="Pictures whose usual answer is another than the dense networks'",
        x_label="part of the validation pictures, %",
        unit="%",
        digits=1,
    ),
    alt=(
        "Three bars: few pictures between two populations of dense networks, several"
        " times as many at 95 percent, most at 98."
    ),
)

# %%
count = {name: int(each.sum()) for name, each in other.items()}
claim(
    "95% changes more than twice as many pictures as other seeds do",
    count["95% pruned"] / count["dense, three other seeds"],
    at_least=2,
)
claim(
    "98% changes more than 95%", count["98% pruned"] / count["95% pruned"], at_least=1.2
)

# %% [markdown]
# Some of the change is there without any pruning. Who leaves out this control puts it
# down to the pruning.
#
# And changed is not lost. A changed picture may have been right before, or be right
# now, or neither:

# %% tags=["figure:lost"]
usual, pruned_usual = dense_answers.mode(dim=0).values, answers(0.95).mode(dim=0).values
knew, knows = usual == labels, pruned_usual == labels
fate = {"known, and lost": knew & ~knows, "wrong, and now right": ~knew & knows}
fate["wrong before and after"] = other["95% pruned"] & ~knew & ~knows
plots.show(
    plots.bars(
        {name: int(each.sum()) for name, each in fate.items()},
        title="95% pruned: what became of the pictures with another answer",
        x_label="validation pictures",
        digits=0,
    ),
    alt=(
        "Three bars: more than half of the changed pictures are lost, almost a third"
        " became right, the rest was and is wrong."
    ),
)

# %%
won = fate["wrong, and now right"].sum() / other["95% pruned"].sum()
claim(
    "At 95% more than a quarter of the changed pictures became right",
    won,
    at_least=0.25,
)

# %% [markdown]
# Are the lost ones harder than others? The networks that we compared cannot be the
# judges: where two populations differ, at most one is right, whatever the pictures are.
# So we ask the three dense networks that had no part in the choice.

# %%
judges = (answers(0.0, seeds=(3, 4, 5)) == labels).float().mean(0)
claim(
    "What dense and pruned networks know, the judges know, to more than 97%",
    judges[knew & knows].mean(),
    at_least=0.97,
)
claim(
    "What 95% lost, they know to less than 90%",
    judges[knew & ~knows].mean(),
    at_most=0.9,
)

# %% [markdown]
# So pruning takes above all what other networks find hard, too, as in Hooker et al.

# %% [markdown]
# ## Live: three times the same
#
# The shipped LeNet, pruned gradually to 98% with three seeds, two epochs each; and the
# control, trained on for two epochs without pruning.


# %%
def three_times(schedule):
    """The answers of three copies of LeNet, each trained on with another seed: [3,
    pictures]."""
    found = []
    for seed in range(3):
        network = copy.deepcopy(lenet)
        recipe = training.Recipe(epochs=2, learning_rate=1e-3)
        training.fit(
            network, pictures.train, recipe, seed=seed, schedule=schedule(seed)
        )
        found.append(
            training.predict_logits(network, pictures.validation.images).argmax(1)
        )
    return torch.stack(found), network


# %% tags=["nbval-ignore-output"]
pruned_live, sparse = three_times(lambda seed: schedules.Cubic(0.98, end=0.6))

# %% tags=["nbval-ignore-output"]
control_live, _ = three_times(lambda seed: None)

# %%
# a population of one
before = training.predict_logits(lenet, pictures.validation.images).argmax(1)[None]
agreed = (pruned_live == pruned_live[0]).all(0)
gone, moved = changed(before, pruned_live), changed(before, control_live)
claim(
    "Live, too: 98% changes more than twice what training on changes",
    gone.sum() / moved.sum(),
    at_least=2,
)
claim(
    "On a third of these pictures and more all three pruned networks agree",
    agreed[gone].float().mean(),
    at_least=0.33,
)

# %% [markdown]
# Ten on which all three agree, and the dense network was right:

# %% tags=["figure:pictures", "nbval-ignore-output"]
shown = (gone & agreed & (before[0] == labels)).nonzero().flatten()[:10]
names = [
    f"{data.CLASSES[labels[i]]}\nnow {data.CLASSES[pruned_live[0, i]]}" for i in shown
]
plots.show(
    plots.pictures(
        pictures.validation.images[shown],
        names,
        title="Known when dense, lost at 98% by all three",
        columns=5,
    ),
    alt=(
        "Ten pictures, each with its class and with what all three pruned networks say"
        " now, such as a T-shirt that is now a bag."
    ),
)

# %% [markdown]
# Would you have known them all? Some are hard for people as well; a T-shirt taken for a
# bag is not.

# %% [markdown]
# ## In production
#
# Teams prune with a library and sign off on one number. `torch.nn.utils.prune` sets the
# same zeros as our masks; the check that belongs behind it, by class and by picture, is
# a few lines with either.

# %%
from torch.nn.utils import prune

theirs = copy.deepcopy(lenet)
layers = [(theirs.fc1, "weight"), (theirs.fc2, "weight"), (theirs.fc3, "weight")]
prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=0.9)
ours = masks.masked(lenet, masks.magnitude_masks(lenet, 0.9))
by_theirs, by_ours = (
    training.predict_logits(each, pictures.validation.images).argmax(1)[None]
    for each in (theirs, ours)
)
claim("The same answers from both", (by_theirs != by_ours).sum(), at_most=2)
by_class = class_accuracy(by_theirs) - class_accuracy(before)
claim(
    "Without fine-tuning, too: the worst class loses much more than the mean",
    by_class.min() / by_class.mean(),
    at_least=1.5,
)

# %% [markdown]
# ## One look at the test set

# %%
test = pictures.test
kept, had = (
    training.predict_logits(each, test.images).argmax(1) == test.labels
    for each in (sparse, lenet)
)
fall = 100 * (had.float() - kept.float())
claim(
    "On the test set, too, shirts lose more than the mean of all classes",
    fall[test.labels == shirt].mean() - fall.mean(),
    at_least=2,
)

# %% [markdown]
# ## Take away
#
# 1. Against wrong labels much pruning helps, no more than early stopping or weight
# decay do; with right labels it did not help here.
# 2. The mean hides who pays: look at each class, and at the pictures whose usual answer
# changed.
# 3. Dense networks differ among themselves as well: count that first, and only then
# what pruning changed.

# %%
quiz("11_generalization")

# %%
finish()

# %% [markdown]
# **Next:** lab 12, the capstone: a budget, and everything you have learned.
