# %% [markdown]
# # 06 Dynamic pruning
#
# So far pruning was an event: train, prune, done. In this lab it is a *schedule*: at
# each step of the training it may change which weights are there. All comparisons are
# at 95% sparsity, and at equal cost: every network is trained for equally many epochs.

# %%
import torch

from utils import baselines, data, masks, measure, plots, schedules, studies, training
from utils.lab import check, claim, finish, predict, quiz

pictures = data.load()

# %% [markdown]
# ## Dense first, sparser by and by
#
# The *cubic* schedule prunes fast at first, when most weights are still useless, and
# ever slower as the remaining ones start to matter (Zhu & Gupta 2017).
#
# ### Exercise: the cubic schedule
#
# <details><summary>Hint 1</summary>What is still to come shrinks from 1 to 0: <code>1 -
# progress</code>.</details>
# <details><summary>Hint 2</summary>Its cube shrinks fast at first, slowly at the
# end.</details>
# <details><summary>Hint 3</summary><code>final * (1 - (1 - progress) **
# 3)</code></details>


# %%
def cubic_sparsity(progress, final):
    """The sparsity due when this fraction of the pruning period is over: 0 at progress
    0, final at progress 1, fast at first and ever slower (Zhu & Gupta 2017)."""
    ...


# %%
cubic_sparsity = check(cubic_sparsity)

# %% tags=["figure:schedules"]
progress = [step / 50 for step in range(51)]
levels = {
    "one-shot, half-way": [0.95 * (p >= 0.5) for p in progress],
    "iterative, in five rounds": [
        schedules.Iterative(0.95).level(int(5 * p) / 5) for p in progress
    ],
    "cubic": [cubic_sparsity(p, 0.95) for p in progress],
    "sparse from the start": [0.95 for p in progress],
}
plots.show(
    plots.lines(
        [100 * p for p in progress],
        levels,
        title="When the weights go: four ways to 95% sparsity",
        x_label="part of the pruning period that is over, %",
        y_label="sparsity, %",
        percent=True,
        y_limits=(0, 100),
    ),
    alt=(
        "Sparsity over time: one-shot jumps, iterative climbs in steps, cubic rises"
        " steeply and flattens, the fourth is flat."
    ),
)

# %% [markdown]
# ## A schedule is ten lines
#
# `fit` calls a schedule before and after each optimizer step. A schedule of your own
# needs one method, `update`. It is called 50 times, evenly spread over the first three
# quarters of the run; in the last quarter the network settles. Holding the zeros and
# hiding the gradients of pruned weights is done for you.


# %%
class MyCubic(schedules.Schedule):
    """Magnitude pruning on the cubic schedule, with the exercise's formula."""

    def update(self, progress):
        return masks.magnitude_masks(
            self.model, cubic_sparsity(progress, self.sparsity)
        )


# %%
def watched(schedule, epochs=3):
    """Train LeNet with a schedule; its validation accuracy, and the number of weights
    that are there after each step."""
    network, alive = baselines.build("lenet300", seed=0), []

    def count():
        alive.append(sum(int(mask.sum()) for mask in schedule.masks.values()))

    history = training.fit(
        network,
        pictures.train,
        training.Recipe(epochs=epochs),
        validation=pictures.validation,
        schedule=schedule,
        after_step=count,
    )
    return network, history.validation_accuracy[-1], alive


# %% tags=["nbval-ignore-output"]
mine, mine_accuracy, mine_alive = watched(MyCubic(0.95))

# %%
claim(
    "The schedule ends with exactly 5% of the weights",
    mine_alive[-1] / 266_200,
    between=(0.05, 0.05),
)
claim(
    "and they are the only ones that are not zero",
    1 - measure.sparsity(mine),
    at_most=0.0501,
)
claim("Three epochs are enough for more than 80% right", mine_accuracy, at_least=0.8)

# %% [markdown]
# ## Sparse from the first step
#
# Why carry all weights at first if 95% will go? *Sparse evolutionary training* (SET,
# Mocanu et al. 2018) starts with 5% chosen at random. Every now and then it drops the
# smallest of them and lets as many grow elsewhere, at random. *RigL* (Evci et al. 2020)
# grows them where the gradient is largest: where a weight would help most if it were
# there.
#
# How can a weight that is not there have a gradient? It is zero, and backpropagation
# gives a gradient for a zero as for any number: how the loss would change if it moved.
# The schedule shows all gradients to `update`, and then hides those of pruned weights
# from the optimizer.

# %%
guess_rigl = predict(
    "Trained with 5% of the weights from the first step: how many points behind dense"
    " training?",
    0,
    30,
    unit="points",
)

# %% [markdown]
# ### Exercise: exchange weights
#
# <details><summary>Hint 1</summary>Two choices: which kept weights go, and which of all
# that are not kept then come.</details>
# <details><summary>Hint 2</summary>To look among the kept only, give the others an
# impossible value:
# <code>torch.where(mask, weight.abs(), torch.inf)</code> has the smallest kept weights
# as its smallest entries.</details>
# <details><summary>Hint 3</summary>Flatten; <code>new = mask.flatten().clone()</code>;
# set the first <code>count</code> of that order to False. Then <code>torch.where(new,
# -1, gradient.flatten().abs())</code>, its <code>topk(count).indices</code> to True,
# and reshape.</details>


# %%
def exchange(weight, gradient, mask, count):
    """A new mask: of the kept weights the count smallest by magnitude go; of all others
    count come where the gradient is largest by magnitude. As many weights as before."""
    ...


# %%
exchange = check(exchange)

# %% [markdown]
# Your exchange as a schedule: at each update, 30% of each layer's weights move at
# first, fewer and fewer later.


# %%
class MyRigL(schedules.RigL):
    """RigL with the exercise's exchange."""

    def update(self, progress):
        moving = self.fraction * (1 - progress)
        return {
            name: exchange(
                weight.detach(),
                weight.grad,
                self.masks[name],
                round(moving * int(self.masks[name].sum())),
            )
            for name, weight in self.weights.items()
        }


# %% tags=["nbval-ignore-output"]
rigl, rigl_accuracy, rigl_alive = watched(MyRigL(0.95))

# %%
claim(
    "RigL never holds more than 5% of the weights",
    max(rigl_alive) / 266_200,
    at_most=0.05,
)
claim("and never fewer", min(rigl_alive) / 266_200, at_least=0.0499)

# %% tags=["figure:alive"]
steps = range(1, len(mine_alive) + 1)
plots.show(
    plots.lines(
        steps,
        {
            "cubic": [n / 266_200 for n in mine_alive],
            "RigL": [n / 266_200 for n in rigl_alive],
        },
        title="Weights that are there while the network learns",
        x_label="step",
        y_label="weights, % of all",
        percent=True,
        y_limits=(0, 100),
    ),
    alt=(
        "Weights present over the steps: cubic falls from 100 percent to 5; RigL stays"
        " at 5 percent all the time."
    ),
)

# %% [markdown]
# On hardware that could skip zeros, the area under each line would be the cost of
# training, but for the full gradient that RigL needs at each of its 20 updates. On this
# processor both cost as much as dense training: zeros are multiplied like any number.

# %%
area = sum(rigl_alive) / sum(mine_alive)
claim("RigL's area is less than a quarter of cubic's", area, at_most=0.25)

# %% [markdown]
# ## Where the weights move
#
# At the start RigL's weights are strewn evenly over the 784 pixels. Which pixels do
# they leave? We train once more and take a picture of the first layer's mask after the
# first and then each sixteenth step.

# %% tags=["nbval-ignore-output"]
import itertools

schedule, frames = schedules.RigL(0.95), []


def take_picture():
    if next(step) % 16 == 0:
        frames.append(plots.input_map(schedule.masks["fc1.weight"]))


step = itertools.count()
history = training.fit(
    baselines.build("lenet300"),
    pictures.train,
    training.Recipe(epochs=2),
    schedule=schedule,
    after_step=take_picture,
)

# %% tags=["figure:moving", "nbval-ignore-output"]
most = max(float(frame.max()) for frame in frames)
moving = [
    plots.maps(
        {f"step {16 * number}": frame},
        title="Weights at each input pixel",
        label="weights, of 300",
        most=most,
    )
    for number, frame in enumerate(frames)
]
plots.show_moving(
    moving,
    alt=(
        "The 28 by 28 input pixels during training: an even grey at first; weights"
        " leave the borders and gather in the middle."
    ),
)

# %%
border = torch.ones(28, 28, dtype=torch.bool)
border[3:25, 3:25] = False
share = [float(frame[border].sum() / frame.sum()) for frame in frames]
claim(
    "The border of 3 pixels loses weights while training goes on",
    share[-1] / share[0],
    at_most=0.9,
)

# %% [markdown]
# Nobody told the network that borders say little. Weights there stay small, so they are
# dropped.
#
# RigL does something else, too. Look at the *neurons*: how many weights has each of the
# 300? For comparison SET, trained as long.

# %% tags=["nbval-ignore-output"]
random_growth = schedules.SET(0.95)
watched(random_growth, epochs=2)
per_neuron = {
    name: each.masks["fc1.weight"].sum(1).sort(descending=True).values.tolist()
    for name, each in {"RigL": schedule, "SET": random_growth}.items()
}

# %% tags=["figure:neurons"]
plots.show(
    plots.lines(
        range(1, 301),
        per_neuron,
        title="RigL gathers its weights in a few neurons of the first layer",
        x_label="neurons, those with most weights first",
        y_label="weights, of 784",
    ),
    alt=(
        "Weights of each of 300 neurons, sorted: with RigL a few neurons have hundreds"
        " and most few; with SET all have similar numbers."
    ),
)

# %%
busiest = {name: sum(counts[:30]) / sum(counts) for name, counts in per_neuron.items()}
claim(
    "RigL's 30 busiest neurons hold at least twice the share that SET's hold",
    busiest["RigL"] / busiest["SET"],
    at_least=2,
)

# %% [markdown]
# The gradient of a weight is the neuron's error times the input. A neuron with a large
# error draws weights from all pixels at once. Whether such a concentration is good, the
# study below will say.

# %% [markdown]
# ## Movement: keep what grows
#
# Magnitude asks how large a weight is. *Movement pruning* (Sanh et al. 2020) asks
# whether it moves away from zero: it adds up `-w * g` over the steps. The method was
# made for fine-tuning a network that was trained for another task, where large weights
# are large for old reasons. Here there is no earlier task.

# %% tags=["nbval-ignore-output"]
_, movement_accuracy, movement_alive = watched(schedules.Movement(0.95))

# %%
claim(
    "Movement ends with exactly 5% of the weights, too",
    movement_alive[-1] / 266_200,
    between=(0.05, 0.05),
)
claim(
    "and learns: more than 70% right after three epochs",
    movement_accuracy,
    at_least=0.7,
)

# %% [markdown]
# ## The study
#
# Three epochs and one seed decide nothing. The following is from the file that `make
# results ARGS=dynamic` wrote: twelve epochs each from random weights, three seeds.
# *One-shot* gets six epochs dense and six pruned, each with its own rise and fall of
# the learning rate. *Random, fixed* is the control for SET and RigL: as many weights in
# each layer, but they never move.

# %%
methods = [
    "dense",
    "one-shot, then fine-tuning",
    "cubic",
    "movement",
    "random, fixed",
    "SET",
    "RigL",
]
study = {method: studies.spread("dynamic", method=method) for method in methods}

# %% tags=["figure:study"]
plots.show(
    plots.dots(
        {name: 100 * each.mean for name, each in study.items()},
        {name: (100 * each.low, 100 * each.high) for name, each in study.items()},
        title=(
            "LeNet-300-100 at 95% sparsity, 12 epochs, 3 seeds (mean, lowest, highest)"
        ),
        x_label="validation accuracy, %",
        unit="%",
    ),
    alt=(
        "Seven rows of mean accuracy with the spread of three seeds: dense leads, cubic"
        " follows; SET and RigL lie near fixed random masks."
    ),
)

# %%
mean = {name: 100 * each.mean for name, each in study.items()}
claim(
    "Dense beats every sparse network",
    mean["dense"] - max(v for k, v in mean.items() if k != "dense"),
    at_least=0,
)
sparse = {name: value for name, value in mean.items() if name not in ("dense", "cubic")}
claim(
    "Cubic beats every other sparse network, one-shot at equal cost too",
    mean["cubic"] - max(sparse.values()),
    at_least=0.3,
)
claim(
    "SET gains something over fixed random masks",
    mean["SET"] - mean["random, fixed"],
    at_least=0.2,
)
claim(
    "RigL gains less than a point over them",
    mean["RigL"] - mean["random, fixed"],
    between=(-0.5, 1),
)
claim(
    "Even fixed random masks are within 3 points of dense",
    mean["dense"] - mean["random, fixed"],
    at_most=3,
)

# %% [markdown]
# So where pruning may start from a dense network, the cubic schedule is the better
# choice here. What SET and RigL offer is another thing: 5% of the weights at every
# moment of the training. And most of what they reach, random masks reach, too: it was
# the control that showed it. In its paper RigL gains much more, on larger networks and
# pictures; here it crowds its weights into a few neurons.

# %% tags=["nbval-ignore-output"]
guess_rigl.compare(mean["dense"] - mean["RigL"])

# %% [markdown]
# ## In production
#
# `torch.nn.utils.prune` can be called again and again: each call prunes a fraction of
# what is left. Five calls make our iterative schedule, if training goes on between
# them.

# %%
from torch.nn.utils import prune

each_time = 1 - 0.05 ** (1 / 5)
network = baselines.build("lenet300")
layers = [(network.fc1, "weight"), (network.fc2, "weight"), (network.fc3, "weight")]
for _ in range(5):
    prune.global_unstructured(
        layers, pruning_method=prune.L1Unstructured, amount=each_time
    )
left = sum(layer.weight_mask.sum() for layer, _ in layers) / 266_200
claim("Five calls leave 5%, like Iterative(0.95)", left, between=(0.0499, 0.0501))

# %% [markdown]
# ## One look at the test set

# %%
accuracies = {
    name: training.evaluate(network, pictures.test)
    for name, network in {"cubic": mine, "RigL": rigl}.items()
}
claim(
    "Both networks of this lab, 3 epochs old and 95% sparse, are right on more than 80%"
    " of the test set",
    min(accuracies.values()),
    at_least=0.8,
)

# %% [markdown]
# ## Take away
#
# 1. A schedule decides when weights go; pruning while training needs no separate phase
# of fine-tuning.
# 2. SET and RigL are sparse from the first step, and which weights are there is learned
# as well.
# 3. Compare at equal cost, with a control and several seeds; on this processor none of
# it is faster.

# %%
quiz("06_dynamic_pruning")

# %%
finish()

# %% [markdown]
# **Next:** [lab 07](07_recovery.ipynb): how to get the accuracy back after pruning, and
# what really did it.
