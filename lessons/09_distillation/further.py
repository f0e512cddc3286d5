# %% [markdown]
# # 09 Distillation: going further
#
# Three things that the lab left open: the pictures that a teacher doubts, what T
# squared is for, and the loss as it is written at work.

# %%
import torch
from torch.nn import functional as F

from utils import baselines, data, distillation, training
from utils.lab import claim, figures, finish, predict

draw = figures("09_distillation")
pictures = data.load()
lenet = baselines.baseline("lenet300")
some = pictures.train[:5000]
outputs = training.predict_logits(lenet, some.images)
answers = distillation.soft_targets(outputs, 1.0)

# %% [markdown]
# ## Which pictures does a teacher doubt?
#
# Entropy says how much an answer leaves open. We sort 5,000 training pictures by it and
# look at the first ten: the label first, LeNet's two best guesses below.

# %%
doubtful = torch.special.entr(answers).sum(1).topk(10).indices
captions = []
for place in doubtful.tolist():
    best = answers[place].topk(2).indices.tolist()
    guessed = [f"{data.CLASSES[c]} {answers[place, c]:.0%}" for c in best]
    captions.append("\n".join([data.CLASSES[some.labels[place]], *guessed]))

# %% tags=["figure:ambiguous"]
draw.ambiguous(some.images[doubtful], captions)

# %%
upper = ("T-shirt", "Pullover", "Dress", "Coat", "Shirt")
tops = torch.tensor([data.CLASSES.index(name) for name in upper])
found = float(torch.isin(some.labels[doubtful], tops).sum())
claim("Nine or ten of the ten are clothes for the upper body", found, at_least=9)

# %% [markdown]
# Would you have known? Some labels may simply be wrong. A teacher that doubts such a
# label may be a help; a teacher that is wrong itself may not.
#
# ## What T squared is for
#
# The teacher's part is multiplied by the temperature squared. What would happen without
# the factor? We take a student that has learned nothing yet, and look at the gradient
# of the teacher's part with respect to the student's outputs, on 1,000 pictures.

# %%
guess_pull = predict(
    "Without the factor: how many times smaller is the gradient at temperature 16 than"
    " at 4?",
    1,
    300,
    unit="times",
)

# %%
temperatures = [1, 2, 4, 8, 16]
untrained = training.predict_logits(baselines.build("lenet300"), some.images[:1000])


def pull(temperature, factor):
    """The size of the gradient of the teacher's part."""
    logits = untrained.clone().requires_grad_()
    loss = distillation.soft_loss(logits, outputs[:1000], temperature)  # with T squared
    (gradient,) = torch.autograd.grad(factor * loss, logits)
    return float(gradient.norm())


pulls = {
    "without the factor": [pull(t, 1 / t**2) for t in temperatures],
    "with T squared": [pull(t, 1) for t in temperatures],
}

# %% tags=["figure:pull"]
draw.pull(temperatures, pulls)
guess_pull.compare(pulls["without the factor"][2] / pulls["without the factor"][4])

# %%
bare, kept = pulls.values()
claim(
    "From T = 4 to 16 the bare gradient shrinks, times", bare[2] / bare[4], at_least=10
)
claim("From T = 1 to 4 it shrinks less, times", bare[0] / bare[2], between=(3, 10))
claim("With T squared it changes by so many times", kept[2] / kept[4], between=(0.5, 2))

# %% [markdown]
# Two things make the bare gradient small: the derivative of `logits / T` is `1 / T`,
# and the two softened answers themselves come nearer to each other. Only at high
# temperatures do both go in step with T. The rule of T squared says 16 times for both
# steps above: from 4 to 16 it comes near, from 1 to 4 it is far off.
#
# Without the factor a change of temperature would also change the balance between
# teacher and labels, and we could not tell which of the two mattered. Was your guess
# nearer to 4, to 16, or to neither? What did you count?
#
# ## In production
#
# At work distillation is mostly these few lines of PyTorch. `KLDivLoss` takes the
# student's logarithms first; with `log_target=True` the teacher's come as logarithms,
# too, which keeps small probabilities exact. `reduction="mean"` would divide by the
# number of classes as well: a loss ten times too small.

# %%
kl = torch.nn.KLDivLoss(reduction="batchmean", log_target=True)
T, few = 4.0, slice(0, 256)
student, teacher = untrained[few], outputs[few]
theirs = T**2 * kl(F.log_softmax(student / T, 1), F.log_softmax(teacher / T, 1))
ours = distillation.soft_loss(student, teacher, T)
claim("PyTorch's loss over ours", theirs / ours, between=(0.999, 1.001))

# %% [markdown]
# They agree. What else is distilled at work? Inner activations (FitNets, Romero et al.
# 2015), attention maps, and for language models whole sequences. The control that the
# lab used is the same for all: another teacher that is as good.

# %%
finish()

# %% [markdown]
# **Next:** lab 10 takes the small network out of PyTorch and into use.
