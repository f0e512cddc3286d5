# %% [markdown]
# # 04 Neurons and filters: going further
#
# LeNet, where the L1 norm does well; the ResNet, where it does not; neurons that nobody
# hears; and what the libraries used at work can remove.

# %%
import copy

import torch
from torch.ao.pruning._experimental.pruner import SaliencyPruner
from torch.nn.utils import prune

from utils import baselines, data, masks, studies, surgery, training
from utils.explorer import Explorer
from utils.lab import claim, figures, finish
from utils.scores import score, unit_random

draw = figures("04_neurons_and_filters")
pictures = data.load()
picture, some = pictures.validation.images[:1], pictures.validation[:1000]
lenet, vgg, resnet = map(baselines.baseline, ("lenet300", "vgg", "resnet"))

# %% [markdown]
# ## Neurons that nobody hears
#
# Weight pruning (lab 03) at 95% leaves neurons of LeNet's first layer without a single
# outgoing weight. What such a neuron says, nobody reads: its column in the next layer
# is zero.

# %%
sparse = masks.masked(lenet, masks.magnitude_masks(lenet, 0.95))
heard = (sparse.fc2.weight != 0).any(0)  # a column for each neuron of fc1
smaller = surgery.remove_units(sparse, picture, {"fc1.weight": heard})
with torch.no_grad():
    difference = (sparse(some.images) - smaller(some.images)).abs().max()
claim("Of 300 neurons nobody hears", (~heard).sum(), at_least=30)
claim("They leave, and no answer changes", difference, at_most=1e-3)

# %% [markdown]
# So pruning single weights makes some units removable, at no cost in accuracy.
#
# ## Where the L1 norm works
#
# LeNet has no BatchNorm. Half of the neurons of each hidden layer leave, by L1 norm and
# at random.

# %%
ways = {"L1 norm": score("l1", lenet, units=True)}
ways |= {f"random, draw {seed + 1}": unit_random(lenet, seed=seed) for seed in range(3)}
accuracy = {"dense": training.evaluate(lenet, pictures.validation)}
for name, scores in ways.items():
    network = surgery.shrink(lenet, picture, scores, 0.5)
    accuracy[name] = training.evaluate(network, pictures.validation)
_, norm, *chance = (100 * value for value in accuracy.values())
claim("On LeNet the L1 norm beats each random half by", norm - max(chance), at_least=1)

# %% tags=["figure:control"]
draw.control(accuracy)

# %% [markdown]
# Here the score is worth something. The lab's VGG differs from LeNet in more than
# BatchNorm, so this alone proves no cause.
#
# ## The ResNet
#
# 30% of the channels of the ResNet, chosen in five ways, as cut and with BatchNorm's
# statistics renewed.

# %%
few = data.sample_batches(pictures.train, 4)
ways = {"L1 norm": score("l1", resnet, units=True)}
ways["Taylor"] = score("taylor", resnet, few, units=True)
ways |= {f"random, draw {s + 1}": unit_random(resnet, seed=s) for s in range(3)}
cut = {name: surgery.shrink(resnet, picture, ways[name], 0.3) for name in ways}
as_cut = {name: training.evaluate(cut[name], some) for name in cut}
for network in cut.values():
    training.reestimate_batchnorm(network, few)
renewed = {name: training.evaluate(cut[name], some) for name in cut}
norm, taylor, *chance = (100 * value for value in renewed.values())
claim(
    "Here, too, each random draw beats the L1 norm by", min(chance) - norm, at_least=0
)

# %% tags=["figure:resnet_draws"]
whole = training.evaluate(resnet, some)
draw.chosen(as_cut, renewed, whole, "ResNet without 30% of its channels")

# %% [markdown]
# The ResNet has BatchNorm behind each convolution, as the VGG has. The draws differ
# among themselves by many points: one draw would have been no control.
#
# More is recorded (`study.py` in the lesson's folder): five draws, the L1 norm with
# BatchNorm's factor, and BatchNorm's weight alone (Liu et al. 2017). Taylor is there,
# too, with other pictures in smaller batches, and comes out many points lower than
# here. A score has a spread of its own.

# %%
weight, chance = (
    studies.spread("filters", network="resnet", score=kind)
    for kind in ("BatchNorm's weight", "random")
)
ahead = 100 * (weight.mean - chance.high)
claim("BatchNorm's weight is ahead of the best of five draws by", ahead, at_least=0)

# %% [markdown]
# So a score can beat chance, here by some points. Whether it does depends on the
# network and on the cut.
#
# ## Half of the VGG's filters
#
# The lab cut 30%. At 50% more scores were tried (recorded, `study.py` in the lesson's
# folder): the L1 norm, the norm multiplied by BatchNorm's factor, BatchNorm's weight
# alone (Liu et al. 2017), Taylor, and five random draws.

# %% tags=["figure:half"]
kinds = ("L1 norm", "L1 with BatchNorm", "BatchNorm's weight", "Taylor", "random")
half = {k: studies.spread("filters", removed=0.5, score=k) for k in kinds}
draw.half(half)

# %% [markdown]
# None of the scores reaches chance here. We do not know why. That BatchNorm's factor
# mends so little at this cut says that scale is not all of it.

# %%
chosen = max(spread.mean for kind, spread in half.items() if kind != "random")
lead = 100 * (half["random"].low - chosen)
claim("At half, the weakest draw is ahead of the best score by", lead, at_least=0)
mended = 100 * (half["L1 with BatchNorm"].mean - half["L1 norm"].mean)
claim("At half, BatchNorm's factor mends points", mended, between=(0, 15))

# %% [markdown]
# After a short training it is another matter. One pass over 10,000 pictures, from the
# half that the L1 norm chose and from a random half, one seed (recorded):

# %%
chosen, drawn = (
    100 * studies.spread("filters_tuned", score=kind, seed=0).mean
    for kind in ("L1 norm", "random")
)
print(f"L1 norm {chosen:.1f}%, random {drawn:.1f}%")
claim("After the pass the two differ by points", abs(chosen - drawn), at_most=1.5)

# %% [markdown]
# A difference below a point, with one seed, has shown nothing. What was many points
# apart cannot be told apart any more.
#
# ## What large and small filters look like

# %% tags=["figure:filters"]
draw.filters(vgg[0].weight, score("l1", vgg, units=True)["0.weight"])

# %% [markdown]
# The filters of small norm look plain, as if they did nothing. The picture shows only
# half of it: behind it BatchNorm divides the answer of each filter by its own spread.
#
# ## All of it in one panel
#
# Here the explorer *removes*: the tensors are smaller. The saved file and the time move
# with the slider. "Fine-tune" trains the small network for some seconds.

# %% tags=["figure:explorer", "nbval-ignore-output"]
Explorer("vgg", kind="channels", sparsity=0.3)

# %% [markdown]
# The panel counts as you did: at 50% of the channels a quarter of the work is left.
#
# ## In production
#
# `torch.nn.utils.prune.ln_structured` prunes whole rows. It *masks* them: the tensor
# keeps its size, and the next layer is not told.

# %%
layer = torch.nn.Conv2d(64, 64, 3, padding=1, bias=False)
layer.load_state_dict(vgg[3].state_dict())
prune.ln_structured(layer, "weight", amount=0.5, n=1, dim=0)
size = layer.weight.numel() / vgg[3].weight.numel()
claim("The layer is as large as before", size, between=(1, 1))

# %% [markdown]
# PyTorch also has an experimental pruner that does remove. On LeNet it makes the same
# network as our `surgery`.


# %%
def removed_by_pytorch(model, names):
    """What SaliencyPruner makes of a copy, half of the units of these layers gone."""
    pruner = SaliencyPruner({})
    config = [{"tensor_fqn": f"{name}.weight", "sparsity_level": 0.5} for name in names]
    pruner.prepare(copy.deepcopy(model), config)
    pruner.step()
    return pruner.prune()


theirs = removed_by_pytorch(lenet, ["fc1", "fc2"])
ours = surgery.shrink(lenet, picture, score("l1", lenet, units=True), 0.5)
with torch.no_grad():
    difference = (theirs(some.images) - ours(some.images)).abs().max()
claim("Theirs and ours answer alike", difference, at_most=1e-4)

# %% [markdown]
# It knows few patterns of layers, however. A convolution with BatchNorm behind it is
# none of them: on the VGG it stops.

# %%
try:
    removed_by_pytorch(vgg, ["3"])
except Exception as error:  # noqa: BLE001 - it raises no other kind
    print(str(error).splitlines()[-1])

# %% [markdown]
# The masks are still on, it says, and nothing was removed.
#
# At work one uses torch-pruning (Fang et al. 2023). The tests of this course check that
# it removes the same numbers as ours on eleven networks of torchvision.

# %%
finish()

# %% [markdown]
# **Back to** [the lab](04_neurons_and_filters.ipynb), or **on to** [lab
# 05](05_structured_pruning.ipynb).
