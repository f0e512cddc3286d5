# %% [markdown]
# # 07 Fine-tuning recovery: going further
#
# What can be mended without any training? What is it about the learning rate that
# helps? And recovery live, in the explorer.

# %%
import copy

import torch
from torch.optim.swa_utils import update_bn

from utils import baselines, data, measure, schedules, surgery, training
from utils.data import sample_batches
from utils.explorer import Explorer
from utils.lab import check, claim, figures, finish, predict
from utils.scores import score, unit_random
from utils.studies import spread

draw = figures("07_recovery")
pictures = data.load()

# %% [markdown]
# ## Without training: BatchNorm
#
# BatchNorm stores the mean and the variance that each channel had in training, and uses
# them from then on. A quarter of the filters leaves the VGG. The next layer sums over
# fewer channels now. What BatchNorm has stored no longer fits.
# <!-- why: counted -->
#
# We remove filters by the L1 norm, and, as a control, by lot, three times.

# %%
vgg = baselines.baseline("vgg")
some = pictures.validation[:500]


def without_a_quarter(scores):
    """The VGG without the quarter of its filters that scores lowest."""
    return surgery.shrink(vgg, some.images[:1], scores, 0.25)


smaller = {
    "L1": [without_a_quarter(score("l1", vgg, units=True))],
    "random": [without_a_quarter(unit_random(vgg, seed=seed)) for seed in range(3)],
}
guess_norm = predict(
    "Chosen by L1, no weight touched, only BatchNorm's mean and variance measured anew:"
    " how accurate?",
    0,
    100,
    unit="%",
    better="high",
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

# %% [markdown]
# Your function measures what the second BatchNorm of the smaller VGG gets now.

# %%
pruned = smaller["L1"][0]
with torch.no_grad():
    arriving = pruned[:4](pictures.train.images[:500])
mean, variance = channel_statistics(arriving)
share = (torch.as_tensor(variance) < pruned[4].running_var).float().mean()
claim("Channels whose variance fell, of all", float(share), at_least=0.5)

# %% [markdown]
# In most channels the stored variance is too large for what arrives.
# `reestimate_batchnorm` does for all layers what you did for one: it measures 512
# training pictures and stores the result.


# %%
def accuracies():
    """Of all the smaller networks, now."""
    return {
        name: [training.evaluate(network, some) for network in networks]
        for name, networks in smaller.items()
    }


dense, cut = training.evaluate(vgg, some), accuracies()
for networks in smaller.values():
    for network in networks:
        batches = sample_batches(pictures.train, count=2)
        training.reestimate_batchnorm(network, batches)
mended = accuracies()

# %% tags=["figure:batchnorm", "nbval-ignore-output"]
draw.batchnorm(dense, cut, mended, guess_norm)
guess_norm.compare(100 * mended["L1"][0])

# %%
gained = 100 * (mended["L1"][0] - cut["L1"][0])
claim("L1, points that come back without training", gained, at_least=10)
gap = 100 * (min(mended["random"]) - mended["L1"][0])
claim("The worst of three random draws is ahead of L1, points", gap, at_least=5)

# %% [markdown]
# No weight was touched, and much came back. Fine-tuning does the same in passing:
# BatchNorm goes on measuring while a network trains. So measure BatchNorm anew before
# you judge a pruned network. And look at the control. The filters that L1 chose were a
# worse choice than each of three draws by lot; only the mended networks show it. [Lab
# 04](04_neurons_and_filters.ipynb) asks what that norm is worth. It also trained such
# networks for 47 steps, and nearly all of the gap was gone. Nothing here was
# fine-tuned, so this says nothing of networks that are.
#
# ## A mask that is not held, once more
#
# Is it enough to hide the gradients of pruned weights from the optimizer? Here pruning
# falls into a running training with momentum.


# %%
class NotHeld(schedules.OneShot):
    """Prunes once and hides gradients, but does not set the zeros again after each
    step."""

    def after_step(self):
        pass


# %% tags=["nbval-ignore-output"]
lenet = baselines.baseline("lenet300")
warm = copy.deepcopy(lenet)
sgd = training.Recipe(epochs=1, optimizer="sgd", learning_rate=0.02, weight_decay=5e-4)
training.fit(warm, pictures.train, sgd, schedule=NotHeld(0.95, begin=0.5))
zeros = 100 * measure.sparsity(warm)
claim("With warm momentum, zeros at the end, %", zeros, at_most=10)

# %% [markdown]
# It is not enough: the momentum of the steps before moves the zeros away. Setting them
# to zero again after each step does hold them.
#
# ## Height or shape?
#
# In the lab a cycle up to 3e-3 beat 1e-4 throughout. Height and shape differed.
# Recorded by `make results ARGS=shapes`: one-shot to 95%, four epochs, each of three
# heights with each shape.

# %%
flat = [spread("tuning", method="small and constant", epochs=4)]
flat += [spread("shapes", shape="constant", height=each) for each in (1e-3, 3e-3)]
cycle = [spread("shapes", shape="one-cycle", height=each) for each in (1e-4, 1e-3)]
cycle += [spread("tuning", method="rewound", epochs=4)]
dense_lenet = training.evaluate(lenet, pictures.validation)

# %% tags=["figure:shapes"]
heights = [1e-4, 1e-3, 3e-3]
draw.shapes(heights, {"constant": flat, "one cycle": cycle}, dense_lenet)

# %%
flat, cycle = ([100 * each.mean for each in spreads] for spreads in (flat, cycle))
claim("Constant: 1e-3 over 1e-4, points", flat[1] - flat[0], at_least=5)
ahead = max(c - f for c, f in zip(cycle, flat, strict=True))
claim("The cycle's lead where it has most, points", ahead, at_most=0)
claim("The cycle at 3e-3 over the constant 1e-4", cycle[2] - flat[0], at_least=10)

# %% [markdown]
# The height does it. The shape of a cycle does not help: at none of the three heights
# is the cycle ahead of the constant rate, after four epochs. A cycle is at its height
# for a moment only, and lower at all other steps.
#
# Renda et al. (2020) *rewind* the learning rate: they set its schedule back by some
# epochs and replay it from there. What we do is another thing, a fresh cycle in the
# time that there is; it is nearer to the restarts that Le & Hua (2021) study.
#
# ## Recovery, live
#
# LeNet at 95%, one-shot. Press "Fine-tune": one epoch with the masks held, and a star
# above the fallen dot. Press it again: the training goes on from there. Then slide to
# 98% and do the same; or choose another network, or remove channels instead.

# %% tags=["nbval-ignore-output"]
panel = Explorer("lenet300", sparsity=0.95)
fallen = panel.state(panel.controls)
panel.tune.click()
panel.settle()

# %% tags=["figure:explorer", "nbval-ignore-output"]
panel

# %%
gained = 100 * (panel.shown.accuracy - fallen.accuracy)
claim("One epoch brings back, points", gained, at_least=30)
zeros = 100 * (1 - panel.shown.weights)
claim("and the weights that are zero are still, %", zeros, between=(94.99, 95.01))

# %% [markdown]
# ## In production
#
# PyTorch's `update_bn`, made for averaged weights, measures BatchNorm anew as ours
# does. And `torch.nn.utils.prune` holds a mask for you: it multiplies the weight by the
# mask at each use.

# %%
theirs, ours = (without_a_quarter(unit_random(vgg, seed=0)) for _ in range(2))
few = sample_batches(pictures.train, count=2, batch_size=64)
update_bn(few, theirs)
training.reestimate_batchnorm(ours, few)
pairs = zip(theirs.eval().buffers(), ours.buffers(), strict=True)
difference = max(float((a - b).abs().max()) for a, b in pairs)
claim("PyTorch's statistics and ours differ by", difference, at_most=1e-3)

# %%
finish()
