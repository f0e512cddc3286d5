# %% [markdown]
# # 06 Dynamic pruning
#
# So far pruning was an event: train, prune, done. In this lab it is a *schedule*. While
# the network learns, the schedule decides at each step which weights are there. All
# sparse networks end with 5% of their weights, and every network is trained for
# equally many epochs.

# %%
from utils import baselines, data, masks, measure, schedules, studies, training
from utils.lab import check, claim, decide, figures, finish, predict, progress, quiz

draw = figures("06_dynamic_pruning")
pictures = data.load()

# %% [markdown]
# ## Dense first, then sparser and sparser
#
# The *cubic* schedule prunes fast at first and ever more slowly towards the end (Zhu &
# Gupta 2017). Its authors' idea: early there are many weights to spare, later there are
# few. You write its formula.
#
# ### Exercise: the cubic schedule
#
# <details><summary>Hint 1</summary>What is still to come shrinks from 1 to 0: <code>1 -
# progress</code>.</details>
# <details><summary>Hint 2</summary>Its cube shrinks fast at first, slowly at the
# end.</details>
# <details><summary>Hint 3</summary><code>return final * (1 - (1 - progress) **
# 3)</code></details>


# %%
def cubic_sparsity(progress, final):
    """The sparsity due when this fraction of the pruning period is over: 0 at progress
    0, final at progress 1, fast at first and ever slower (Zhu & Gupta 2017)."""
    ...


# %%
cubic_sparsity = check(cubic_sparsity)

# %% [markdown]
# A schedule of your own needs one method, `update`, which returns the masks from now
# on. `fit` calls it at 50 steps, evenly spread over the first three quarters of the
# run. In the last quarter nothing more is pruned. Between two updates the class
# `Schedule` holds the zeros, and hides the gradients of pruned weights from the
# optimizer.
#
# The next function trains LeNet for three epochs with a schedule. It counts the weights
# that are there after each step.


# %%
def watched(schedule):
    """Train LeNet with a schedule; the network, and its number of weights after each
    step."""
    network, alive = baselines.build("lenet300", seed=0), []

    def count():
        alive.append(sum(int(mask.sum()) for mask in schedule.masks.values()))

    recipe = training.Recipe(epochs=3)
    options = dict(schedule=schedule, after_step=count)
    training.fit(network, pictures.train, recipe, **options)
    return network, alive


# %% tags=["nbval-ignore-output"]
class MyCubic(schedules.Schedule):
    """Magnitude pruning with the exercise's formula."""

    def update(self, progress):
        sparsity = cubic_sparsity(progress, self.sparsity)
        return masks.magnitude_masks(self.model, sparsity)


mine, mine_alive = watched(MyCubic(0.95))
kept = 1 - measure.sparsity(mine)
claim("MyCubic ends with 5% of the weights", kept, between=(0.0499, 0.0501))

# %% [markdown]
# Your formula has pruned a network that was still learning. What did that cost?
#
# ## Sparse from the first step
#
# Why carry all weights at first if 95% will go? *Sparse evolutionary training* (SET,
# Mocanu et al. 2018) starts with 5% of the weights, in places drawn by lot. Every now
# and then it drops the smallest of them and lets as many grow elsewhere, again by lot.
# *RigL* (Evci et al. 2020) grows them where the gradient is largest.
#
# How can a weight that is not there have a gradient? It is zero, and backpropagation
# gives a gradient for a zero as for any number: how the loss would change if it moved.
#
# The control for both is *random, fixed*: as many weights in each layer, drawn by lot,
# that never move. Commit three guesses for runs of twelve epochs.

# %%
guess_cubic = predict(
    "Dense first, pruned to 95% on the cubic schedule: how many points behind a network"
    " that stays dense?",
    0,
    40,
    unit="points",
    better="low",
)
guess_fixed = predict(
    "Random, fixed: 5% of the weights, drawn by lot, from the first step to the last:"
    " how many points behind dense?",
    0,
    40,
    unit="points",
    better="low",
)
guess_rigl = predict(
    "RigL against SET: how many points better is RigL? (Negative: worse.)",
    -10,
    10,
    unit="points",
    better="high",
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
# Your exchange becomes a schedule. `self.weights` and `self.masks` hold weights and
# masks by name; `weight.grad` is the gradient of this step, not hidden yet. `self.fraction` is 0.3: 30% of
# a layer's weights move at the first of 20 updates, fewer and fewer later. (Yours falls
# on a straight line, the course's `schedules.RigL` on half a cosine.)


# %% tags=["nbval-ignore-output"]
class MyRigL(schedules.RigL):
    """RigL with the exercise's exchange."""

    def update(self, progress):
        new = {}
        for name, weight in self.weights.items():
            mask = self.masks[name]
            count = round(self.fraction * (1 - progress) * int(mask.sum()))
            new[name] = exchange(weight.detach(), weight.grad, mask, count)
        return new


moving = MyRigL(0.95)
rigl, rigl_alive = watched(moving)
claim("RigL never holds more than 5%", max(rigl_alive) / 266_200, at_most=0.05)
claim("and never fewer", min(rigl_alive) / 266_200, at_least=0.0499)
work = sum(rigl_alive) / sum(mine_alive)
claim("Over all steps it held a quarter of cubic's weights", work, at_most=0.25)

# %% [markdown]
# On hardware that could skip zeros, the last number would be RigL's share of cubic's
# work, apart from the full gradient at RigL's 20 updates. This processor multiplies
# zeros like any number: here both networks did the work of a dense one.
#
# ## Who wins?
#
# Three epochs and one seed decide nothing. The following was recorded by `make results
# ARGS=dynamic`: twelve epochs from random weights, three seeds. *One-shot* gets six
# epochs dense and six pruned, each with its own rise and fall of the learning rate.
# *Movement* keeps the weights that move away from zero; the further notebook has it.
# Cubic shares out the weights among the layers by one threshold for all; SET and RigL
# do it by the layers' sizes. So one row is *cubic, shares of SET*.

# %% tags=["figure:study"]
methods = list(draw.ROWS)
found = {name: studies.spread("dynamic", method=name) for name in methods}
draw.study(found, methods[:8])

# %%
mean = {name: 100 * spread.mean for name, spread in found.items()}


def by_seed(one, other):
    """How many points the first is better, seed by seed."""
    runs = [studies.runs("dynamic", method=name) for name in (one, other)]
    pairs = [[100 * run["validation_accuracy"] for run in pair] for pair in zip(*runs)]
    return [a - b for a, b in pairs]


guess_cubic.compare(mean["dense"] - mean["cubic"])
guess_fixed.compare(mean["dense"] - mean["random, fixed"])
guess_rigl.compare(mean["RigL"] - mean["SET"])
fixed = "random, fixed"
claim("Cubic loses less than a point", mean["dense"] - mean["cubic"], at_most=1)
one_shot = by_seed("cubic", "one-shot, then fine-tuning")
claim("It beats one-shot in each seed", min(one_shot), at_least=0.1)
shares = by_seed("cubic, shares of SET", "SET")
claim("With SET's shares cubic beats SET in each seed", min(shares), at_least=0.5)
claim("SET beats random, fixed in each seed", min(by_seed("SET", fixed)), at_least=0.3)
claim("RigL is where random, fixed is", mean["RigL"] - mean[fixed], between=(-0.3, 0.3))
claim("SET beats RigL in each seed", min(by_seed("SET", "RigL")), at_least=0.3)

# %% [markdown]
# Cubic leads, also with the same number of weights in each layer. Random masks that
# never move already reach most of what SET and RigL reach. Only the control shows that.
# Moving weights by lot (SET) adds a little. Moving them by the gradient (RigL)
# adds nothing here, and SET beats RigL. In RigL's paper it is the other way round.
# Which part of growing by the gradient could do harm? Write your idea down before you
# read on.
#
# One thing can be looked at: *where* the weights are. We count the weights of each
# neuron of the first layer in your RigL network. For comparison SET trains as long.

# %% tags=["nbval-ignore-output"]
guess_busiest = predict(
    "Shared evenly, 30 of the 300 neurons hold 10% of the first layer's weights. How"
    " much do the 30 busiest neurons of your RigL network hold?",
    10,
    100,
    unit="%",
)
by_lot = schedules.SET(0.95)
watched(by_lot)
both = {"RigL": moving.masks["fc1.weight"], "SET": by_lot.masks["fc1.weight"]}
counts = {name: sorted(m.sum(1).tolist(), reverse=True) for name, m in both.items()}
busiest = {name: 100 * sum(each[:30]) / sum(each) for name, each in counts.items()}

# %% tags=["figure:neurons", "nbval-ignore-output"]
draw.neurons(counts)
guess_busiest.compare(busiest["RigL"])
claim("RigL's 30 busiest neurons, %", busiest["RigL"], at_least=35)
claim("SET's 30 busiest neurons, %", busiest["SET"], at_most=25)

# %% [markdown]
# RigL crowds its weights into few neurons. For one picture, the gradient of a weight is
# its neuron's error times its input. So a neuron with a large error has large gradients
# at many inputs at once, and draws many weights.
# <!-- why: counted -->
#
# Does the crowding *cost* anything? A picture cannot say. A run can: *RigL inside each
# neuron* drops and grows row by row, and so each neuron keeps its even share.
# <!-- why: counted -->
# A second run tests another idea: perhaps 20 updates are too few.
# <!-- why: conjecture -->

# %% tags=["figure:crowding"]
draw.study(found, methods[5:])

# %%
even, many = "RigL inside each neuron", "RigL, 100 updates"
claim("Even RigL beats RigL in each seed", min(by_seed(even, "RigL")), at_least=0.3)
gain = mean[even] - mean["RigL"]
claim("What crowding cost RigL, points", gain, between=(0.4, 0.9))
claim("Even RigL against SET", mean[even] - mean["SET"], between=(-0.3, 0.3))
claim("100 updates: the worst of three seeds", min(by_seed(many, "RigL")), at_most=0)

# %% [markdown]
# So the crowding costs over half a point here. Without it, growing by the gradient is
# as good as growing by lot, and no better. Five times as many updates in the same
# twelve epochs gain nothing that three seeds could show. What we did not test: long
# runs. The published code of RigL trains this same LeNet-300-100, on MNIST, for up to
# 200 epochs with 500 updates; here it was 12 epochs and 20 updates.
#
# ## Decide: accurate, and sparse early
#
# You have four epochs on 15,000 pictures, and no more. The network must end with 95%
# zeros, and at least 82% of the validation pictures must be right. But one day your
# hardware will skip zeros: on the average of all steps at most 20% of the weights may
# be there. When do you begin to prune, when must you be done, and how? Any schedule of
# `utils/schedules.py` will do, or one of your own.

# %% tags=["nbval-ignore-output"]
my_choice = ...  # for example schedules.OneShot(0.95, begin=0.5), or MyCubic(0.95)
decide("06_dynamic_pruning", my_choice)

# %% [markdown]
# As long as nothing is chosen, the cell only says what is asked. With a choice it says
# what the choice reached, and what it missed.
#
# ## One look at the test set
#
# The two networks of this lab, three epochs old and 95% sparse:

# %%
for name, network in {"cubic": mine, "RigL": rigl}.items():
    accuracy = 100 * training.evaluate(network, pictures.test)
    claim(f"{name}, right on the test set, %", accuracy, at_least=80)

# %% [markdown]
# No choice was made on these pictures. The order is that of the study.
#
# ## Take away
#
# 1. A schedule prunes while the network learns. From dense, gradually, it lost less
# than a point at 95%.
# 2. Random masks that never move already come within three points of dense. What SET
# and RigL are worth is what they add to that.
# 3. An explanation is a guess until a run has tested it. Crowding was tested: it cost
# RigL over half a point.

# %%
quiz("06_dynamic_pruning")

# %% tags=["nbval-ignore-output"]
progress()

# %%
finish()

# %% [markdown]
# **Next:** [lab 07](07_recovery.ipynb): how to get the accuracy back after pruning, and
# what really did it. Or [go further](06_dynamic_pruning_further.ipynb) with dynamic
# pruning: where the weights move, and movement pruning.
