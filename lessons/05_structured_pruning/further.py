# %% [markdown]
# # 05 Structured pruning: going further
#
# Single layers, timed by width; rounding to 8; a layer with very little work; the whole
# table; and what surgery refuses.

# %%
import torch
from IPython.display import Markdown

from utils import baselines, data, masks, measure, studies, surgery
from utils.explorer import Explorer
from utils.lab import claim, figures, finish
from utils.scores import score

draw = figures("05_structured_pruning")
pictures = data.load()
picture, batch = pictures.validation.images[:1], pictures.validation.images[:32]
resnet, vgg = baselines.baseline("resnet"), baselines.baseline("vgg")

# %% [markdown]
# ## What surgery refuses
#
# A filter may not leave on one side of an addition. Surgery says so before it builds
# anything.

# %%
keep = torch.arange(16) != 3
one_side = {"3.0.conv2.weight": keep, "0.weight": torch.ones(16, dtype=torch.bool)}
try:
    surgery.remove_units(resnet, picture, one_side)
except ValueError as error:
    print(error)

# %% [markdown]
# The ties come from the additions. A trace by `torch.fx` shows them.

# %%
graph = torch.fx.symbolic_trace(resnet).graph
additions = [
    node
    for node in graph.nodes
    if node.op == "call_function" and node.target.__name__ == "add"
]
claim("Additions in the trace, one a block", len(additions), between=(6, 6))

# %% [markdown]
# At work one uses torch-pruning (Fang et al. 2023), which reads the ties from the
# record that autograd keeps. This course's tests let both remove the same channels from
# eleven networks of torchvision, and find the same parameters, MACs and outputs.
#
# ## One convolution, many widths
#
# 28 x 28 pixels, n channels in and out, all widths in one race. `measure.latency` calls
# each function with the same input, so each has its own input beside its layer.

# %% tags=["nbval-ignore-output"]
widths = [64, 63, 56, 52, 48, 45, 40, 36, 33, 32, 31, 28, 24, 20, 16]
layers = {n: torch.nn.Conv2d(n, n, 3, padding=1) for n in widths}
inputs = {n: torch.randn(1, n, 28, 28) for n in widths}


def call(n):
    """A function that runs the layer of n channels, whatever it is given."""
    return lambda _: layers[n](inputs[n])


race = measure.latency(
    {str(n): call(n) for n in widths}, picture, rounds=15, shortest=0.01
)
times = {n: race[str(n)] for n in widths}
excess = times[16].relative / (16 / 64) ** 2
claim("16 channels: time over work, both against 64", excess, at_least=1.2)

# %% tags=["figure:widths", "nbval-ignore-output"]
draw.widths({n: (t.relative, *t.relative_quartiles) for n, t in times.items()})

# %% [markdown]
# Time lies above work at round widths, too: 16 is as round as can be. Between, some
# widths take longer than the next larger one. That libraries work on blocks of channels
# may explain those; we did not look inside. <!-- why: conjecture -->
#
# ## Rounding to 8
#
# `shrink(..., multiple=8)` keeps a few channels more, up to the next multiple of 8.

# %% tags=["nbval-ignore-output"]
norms = score("l1", vgg, units=True)
plain = surgery.shrink(vgg, picture, norms, 0.3)
rounded = surgery.shrink(vgg, picture, norms, 0.3, multiple=8)
more = measure.macs(rounded, picture) / measure.macs(plain, picture)
rounding = measure.latency({"30% removed": plain, "rounded up": rounded}, picture)
claim("Rounded up, the VGG does more work, by a factor", more, between=(1.05, 1.15))
for timing in rounding.values():
    print(timing)

# %% [markdown]
# Rounded up, the network does more work, on channel counts that may suit the library
# better. How many times as fast was it, round by round? Compare that number with what
# two equal networks came out at in lab 04, the dense one and its copy. A difference of
# that size has shown nothing.
#
# ## Little work, little gain
#
# A depth-wise convolution looks at each channel by itself: 64 times less work than a
# full one with 64 channels.

# %% tags=["nbval-ignore-output"]
wide = torch.randn(1, 64, 28, 28)
kinds = {
    "full": torch.nn.Conv2d(64, 64, 3, padding=1),
    "depth-wise": torch.nn.Conv2d(64, 64, 3, padding=1, groups=64),
}
depthwise = measure.latency(kinds, wide, shortest=0.01)["depth-wise"]
claim(
    "64 times less work is faster by a factor of",
    (depthwise.speedup, *depthwise.speedup_quartiles),
    at_most=40,
)

# %% [markdown]
# MACs count arithmetic and nothing else. What the rest of the time goes to, calls,
# memory or a weaker routine, we did not separate.
#
# ## The pattern, seen

# %% tags=["figure:pattern"]
matrix = resnet[5][1].conv1.weight.detach()[:, :, 1, 1]  # [64 units, 64 inputs]
nm = masks.nm_masks(resnet, 2, 4, exclude=["0.weight"])["5.1.conv1.weight"][:, :, 1, 1]
free = matrix.abs() > matrix.abs().median()
draw.pattern(free[:16, :24].tolist(), nm[:16, :24].tolist())

# %% [markdown]
# A corner of one layer. The free half has clumps and holes; the pattern has none.
#
# ## The whole table
#
# Work, bytes and speed are counted and measured here, the accuracy after two epochs of
# fine-tuning is recorded, with one seed. "50% of the channels" leaves a quarter of the
# numbers, "50% of the weights" a half: at equal numbers, compare it with 30% of the
# channels.

# %% tags=["nbval-ignore-output"]
l1 = score("l1", resnet, units=True)
variants = {
    "dense, trained on": resnet,
    "50% of the weights": masks.masked(resnet, masks.magnitude_masks(resnet, 0.5)),
    "30% of the channels": surgery.shrink(resnet, picture, l1, 0.3),
    "50% of the channels": surgery.shrink(resnet, picture, l1, 0.5),
    "3 of 6 blocks": surgery.remove_blocks(resnet, picture, ["3.1", "4.1", "5.1"]),
}
one = measure.latency(variants, picture, rounds=15, shortest=0.02)
many = measure.latency(variants, batch, rounds=5)
rows = ["| | accuracy | MACs | bytes | speed, 1 | speed, 32 |", "|---" * 6 + "|"]
for name, network in variants.items():
    work = measure.macs(network, picture) / measure.macs(resnet, picture)
    size = measure.file_bytes(network) / measure.file_bytes(resnet)
    cells = [f"{studies.spread('structured', kind=name).mean:.1%}", f"{work:.0%}"]
    cells += [f"{size:.0%}", f"{one[name].speedup:.2f}x", f"{many[name].speedup:.2f}x"]
    rows.append(f"| {name} | {' | '.join(cells)} |")
Markdown("\n".join(rows))

# %% [markdown]
# Compare channels and blocks in the two columns of speed. What is fastest with one
# picture need not be fastest with 32.
#
# ## All of it in one panel
#
# Every kind of this lesson on the ResNet. Which setting, fine-tuned for some seconds,
# is fastest at 90% accuracy? "What did I find?" keeps your settings and draws those
# that no other beats.

# %% tags=["figure:explorer", "nbval-ignore-output"]
Explorer("resnet", kind="channels", sparsity=0.2)

# %%
finish()

# %% [markdown]
# **Back to** [the lab](05_structured_pruning.ipynb), or **on to** [lab
# 06](06_dynamic_pruning.ipynb).
