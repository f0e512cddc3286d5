# %% [markdown]
# # 11 Does it generalize?: going further
#
# What the lab had no room for: pruning where all labels are right, the fate of the
# changed pictures, the same with networks trained here, and a library.

# %%
import copy

import torch

from utils import baselines, data, masks, schedules, training
from utils.exercises import load
from utils.lab import claim, figures, finish

pictures, lenet = data.load(), baselines.baseline("lenet300")
labels = pictures.validation.labels
draw = figures("11_generalization")
recorded = load("11_generalization", "recorded")
changed = load("11_generalization").changed  # what the lab's exercise asks for

# %% [markdown]
# ## With right labels
#
# The study of the lab, once more with 2,000 pictures, but with their right labels. A
# dense network learns all of them. Does pruning help it, too?

# %% tags=["figure:gap"]
train = recorded.along("right labels", "training_accuracy")
val = recorded.along("right labels", "validation_accuracy")
draw.gap({"accuracy on the 2,000": train, "validation accuracy": val})

# %%
gains = [100 * (val[s].mean - val[0.0].mean) for s in recorded.LEVELS[1:]]
claim("At no sparsity does it gain on the control", max(gains), at_most=0)
claim("At 99% it costs more than two points", -gains[-1], at_least=2)
gap = {s: 100 * (train[s].mean - val[s].mean) for s in (0.0, 0.99)}
claim("and yet the gap between the lines is smaller", gap[0.0] - gap[0.99], at_least=4)

# %% [markdown]
# A smaller gap is not better generalization. It closes here since the *upper* line
# falls: the network forgets pictures that it was trained on, and knows no more about
# the others.
#
# ## Against the usual remedies, draw by draw
#
# *Early stopping*: the best epoch of the first half. *Weight decay*: 300 times as much
# as usual, dense, for as long in all; one value, not the best of several. *Pruned*: the
# best of the six sparsities. Epoch and sparsity are chosen on the validation data that
# they are then judged by.

# %% tags=["figure:remedies"]
found = {where: recorded.remedies(where) for where in ("right labels", "wrong labels")}
draw.remedies(found)

# %%
means = {
    where: {name: sum(values) / len(values) for name, values in rows.items()}
    for where, rows in found.items()
}
for name in ("early stopping", "weight decay"):
    gain = means["wrong labels"][name] - means["wrong labels"]["dense"]
    claim(f"Wrong labels: {name} gains more than 5 points", gain, at_least=5)
spread = max(means["right labels"].values()) - min(means["right labels"].values())
claim("Right labels: all four lie within a point", spread, at_most=1)

# %% [markdown]
# Pruning regularizes, and so do remedies that need no masks. A network that has to be
# small anyway gets the regularization with it.
#
# ## Changed is not lost
#
# The lab counted pictures whose usual answer is another after pruning. Such a picture
# may have been right before, or be right now, or neither. Dense networks of other
# starts show what is usual.

# %%
usual = recorded.answers("dense", (0, 1, 2)).mode(dim=0).values
kinds = recorded.others()
knew, knows = usual == labels, {}
fates = {}
for kind, said in kinds.items():
    now = said.mode(dim=0).values
    knows[kind] = now == labels
    fates[kind] = {
        "known, and lost": int((knew & ~knows[kind]).sum()),
        "wrong, and now right": int((~knew & knows[kind]).sum()),
        "wrong before and after": int((~knew & ~knows[kind] & (now != usual)).sum()),
    }

# %% tags=["figure:fates"]
draw.fates(fates)

# %%
fate = fates["95% pruned"]
won = fate["wrong, and now right"] / sum(fate.values())
claim("At 95% more than a quarter of the changed became right", won, at_least=0.25)
fate = fates["98% pruned"]
ratio = fate["known, and lost"] / fate["wrong, and now right"]
claim("At 98% more than two are lost for one won", ratio, at_least=2.2)
small = sum(fates["never pruned, 8 units"].values()) / sum(fate.values())
claim("8 units, never pruned, change this part of as many", small, between=(0.85, 1.1))

# %% [markdown]
# Are the lost ones harder than others? The networks that we compared cannot be the
# judges: where two populations differ, at most one is right, whatever the pictures are.
# So we ask the three dense networks that had no part in the choice.

# %%
judges = (kinds["dense, other starts"] == labels).float().mean(0)
both = judges[knew & knows["95% pruned"]].mean()
lost = judges[knew & ~knows["95% pruned"]].mean()
claim("What dense and pruned networks know, the judges know", both, at_least=0.97)
claim("What 95% lost, they know less often", lost, at_most=0.87)

# %% [markdown]
# So pruning takes first what other networks find hard, too. Hooker et al. (2019) asked
# people: the pictures that pruning changes are harder for them, and more often labelled
# doubtfully. They also found that pruned networks lose more on damaged and on unusual
# pictures than on the test set. We did not test that.
#
# ## Live: three times the same
#
# The shipped LeNet, pruned gradually to 98% three times, two epochs each, each time
# with the training pictures in another order. The control is trained on for two epochs
# without pruning. All begin with one network, so these are three shuffles, not three
# networks.


# %%
def three_times(schedule):
    """The answers of three copies of LeNet, each trained on with another seed: [3,
    pictures]."""
    found = []
    for seed in range(3):
        network = copy.deepcopy(lenet)
        recipe = training.Recipe(epochs=2, learning_rate=1e-3)
        training.fit(network, pictures.train, recipe, seed=seed, schedule=schedule())
        logits = training.predict_logits(network, pictures.validation.images)
        found.append(logits.argmax(1))
    return torch.stack(found)


# %% tags=["nbval-ignore-output"]
pruned_live = three_times(lambda: schedules.Cubic(0.98, end=0.6))

# %% tags=["nbval-ignore-output"]
control_live = three_times(lambda: None)

# %%
# a population of one
before = training.predict_logits(lenet, pictures.validation.images).argmax(1)[None]
agreed = (pruned_live == pruned_live[0]).all(0)
gone, moved = changed(before, pruned_live), changed(before, control_live)
ratio = gone.sum() / moved.sum()
claim("98% changes so many times what training on changes", ratio, at_least=4)
together = agreed[gone].float().mean()
claim("On a third of them and more all three pruned agree", together, at_least=0.33)

# %% [markdown]
# Ten on which all three agree, and the dense network was right:

# %% tags=["figure:pictures", "nbval-ignore-output"]
shown = (gone & agreed & (before[0] == labels)).nonzero().flatten()[:10]
draw.lost_pictures(pictures.validation[shown], pruned_live[0, shown])

# %% [markdown]
# Would you have known them all? Some are hard for people as well. Others are not.
#
# ## In production
#
# Teams prune with a library and sign off on one number. `torch.nn.utils.prune` sets the
# same zeros as our masks. The check that belongs behind it, class by class, is a few
# lines with either.

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
by_class = recorded.class_accuracy(by_theirs) - recorded.class_accuracy(before)
worst = by_class.min() / by_class.mean()
claim("Untrained after it, the worst class loses twice the mean", worst, at_least=2)
claim("and shirts gain", by_class[0, data.CLASSES.index("Shirt")], at_least=0)

# %% [markdown]
# Here 90% was pruned at once, without training. Now coats, boots and T-shirts lose
# most, and shirts even gain: the network says *shirt* more often. The way of pruning
# decides who pays.

# %%
finish()

# %% [markdown]
# **Next:** lab 12, [the capstone](12_capstone.ipynb).
