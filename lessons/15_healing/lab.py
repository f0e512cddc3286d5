# %% [markdown]
# # 15 Small by healing
#
# Lab 14 took heads, neurons and blocks out of a text network for real, and it wrote
# worse. Can a short training bring it back? And what else stands between the network
# and a small file? One training of 120 steps runs here; what takes longer comes from a
# recorded study (`make results ARGS=healing`), and the text says so.
#
# ## Cut in half
#
# In each block half of the six heads leave, and half of the 768 neurons: those whose
# gate has the smallest gradient (lab 14). What is left has the shape of `gpt_small`,
# which the course ships, too. That one began with new weights and was trained for as
# long as the dense network: 20 epochs.

# %%
import copy
from statistics import mean

from utils import (
    baselines,
    data,
    generation,
    measure,
    quantization,
    text,
    training,
)
from utils.exercises import load
from utils.lab import check, claim, decide, figures, finish, predict, progress, quiz

draw, texts = figures("15_healing"), text.load()
shapes, recorded = (load("15_healing", part) for part in ("shapes", "recorded"))
gpt, some = baselines.baseline("gpt"), texts.validation[::8]
worth = shapes.importance(gpt, shapes.some(texts.train))
cut = shapes.narrowed(gpt, worth, shapes.NARROW)
dense, lost = (float(training.losses(network, some).mean()) for network in (gpt, cut))
left = measure.parameters(cut) / measure.parameters(gpt)
claim("So many % of the parameters are left", 100 * left, between=(54, 55))
claim("The cut network loses so many nats more", lost - dense, at_least=0.5)

# %% [markdown]
# Now the cut network learns again, from the same text: 120 steps of four windows, an
# eighth of one epoch. Two guesses. (A network that knows nothing loses 6.93 nats, the
# logarithm of 1,024 pieces.)

# %% tags=["nbval-ignore-output"]
guess_back = predict(
    "After 120 steps: how much of what the cut cost has come back?", 0, 120, unit="%"
)
guess_scratch = predict(
    "The same shape with new weights, after the same 120 steps: its loss?",
    2,
    7,
    unit="nats",
)
windows = shapes.passages(texts.train, 480, seed=0)
healed = shapes.without_dropout(copy.deepcopy(cut))
training.fit(healed, windows, shapes.HEALING)
back = (lost - float(training.losses(healed, some).mean())) / (lost - dense)
rows = recorded.ways()  # the validation loss of each seed

# %% [markdown]
# ## Against what?
#
# Whatever came back: is it to the credit of the cut, or is any network of this shape
# soon as good? The study healed with three seeds (other passages, another order), and
# has controls:
#
# - the same number of heads and neurons, drawn *by lot*;
# - the same shape *from scratch*: new weights, the same 120 steps;
# - the *dense* network, trained on for the same 120 steps;
# - *taught*: the dense network teaches beside the labels, at temperature 1 and with nine
#   tenths of the loss, as in lab 09.
#
# The learning rate was chosen on validation windows (the second notebook shows it).

# %% tags=["figure:ways"]
guess_back.compare(100 * back)
whole, small = (recorded.fact("validation_loss", n) for n in ("gpt", "gpt_small"))
draw.ways(rows, whole, small, guess_scratch)
guess_scratch.compare(mean(rows["from scratch"]))

# %%
claim("So much of what the cut cost has come back", back, at_least=0.5)
ahead = mean(rows["from scratch"]) - max(rows["by lot"])
claim("From scratch is behind the worst lot by so many nats", ahead, at_least=1)
lot = mean(recorded.gains("by lot", than="labels alone"))
claim("Units drawn by lot lose so many nats more than chosen ones", -lot, at_least=0.03)
own = mean(rows["dense, trained on"])
claim("The dense one changes by as many steps by, nats", own - whole, between=(0, 0.1))
years = mean(rows["taught"]) - small
claim("Healed and taught, against gpt_small, nats more", years, between=(0.1, 0.3))
claim("gpt_small is behind the dense one by, nats", small - whole, between=(0, 0.1))

# %% [markdown]
# What did your guess for new weights assume? From scratch, 120 steps are next to
# nothing: what the cut network has left is worth far more than its shape. The choice of
# heads and neurons matters, too, but less. The steps as such win nothing: the dense
# network is a little worse after them.
#
# The fair control is `gpt_small`, and it wins: with 20 epochs of its own the small
# shape is nearly as good as the dense network. So nobody had to prune to have a small
# network that writes as well. Healing is cheaper, an eighth of an epoch, if a dense
# network is there already. The second notebook heals for a whole epoch, and comes near.
#
# ## Does the teacher help, and why?
#
# In lab 09 its own original brought LeNet half a point at best. A text differs from
# that in one way that can be measured: how much a teacher's answer leaves open.

# %%
guess_told = predict(
    "How many nats a piece does the teacher bring, against labels alone?",
    -0.1,
    0.3,
    unit="nats",
    better="high",
)
pictures, lenet = data.load().train[:1000].images, baselines.baseline("lenet300")
answers = [
    training.predict_logits(gpt, windows.images[:4]),
    training.predict_logits(lenet, pictures),
]
open_bits = [float(shapes.entropy(logits).mean()) for logits in answers]
times = open_bits[0] / open_bits[1]
claim("gpt leaves so many times as much open as LeNet", times, at_least=5)
told = recorded.told()  # what each brought against labels alone, nats a piece

# %% tags=["figure:told"]
draw.told(told, guess_told)
guess_told.compare(mean(told["the teacher's answer"]))

# %%
gain = min(told["the teacher's answer"])
claim("The teacher brings so many nats, with each seed", gain, at_least=0.03)
empty = max(mean(told["others shuffled"]), mean(told["others by frequency"]))
claim("Without its order of the other pieces it brings, nats", empty, at_most=-0.5)
unsure, sure = (mean(told[f"where it is {how}"]) for how in ("unsure", "sure"))
whole_gain = mean(told["the teacher's answer"])
claim("Its unsure half alone brings this part of it", unsure / whole_gain, at_most=0.6)
claim("Its sure half alone brings this part of it", sure / whole_gain, at_least=0.25)

# %% [markdown]
# The teacher helps. Softness alone does not: with the other pieces in random order, or
# by how frequent they are, it does harm. What helps is which pieces it names.
#
# Does it help more here than in lab 09 for leaving more open? The explanation fits, and
# it can be tested. If it were so, the half of the places where the teacher is unsure
# should bring nearly all of the gain. It brings a part; the half where the teacher is
# surer, and says little more than a label does, brings a part, too. An explanation that
# fits is not yet true. What had yours been?
#
# ## Two thin matrices
#
# A large network has too many weights to heal them all on a small machine. *LoRA* (Hu
# et al. 2021) freezes them. Beside each layer it puts two thin matrices: `down`, from
# the inputs to a few numbers, and `up`, from these to the outputs. Only these learn,
# and `up` begins at zero. With eight numbers between them, that is one number in
# fourteen of our cut network. A guess first:
#
# ### Exercise: beside a frozen layer
#
# <details><summary>Hint 1</summary>Both ways begin at <code>x</code>, and their outputs
# are added.</details>
# <details><summary>Hint 2</summary>A layer without bias is <code>x @
# weight.T</code>.</details>
# <details><summary>Hint 3</summary><code>x @ weight.T + x @ down.T @ up.T</code>
# </details>


# %%
guess_thin = predict(
    "LoRA, 120 steps: how much of what healing all weights wins does it win?",
    0,
    150,
    unit="%",
)


def beside(x, weight, down, up):
    """What a frozen layer [out, in] and the thin matrices beside it, down [rank, in]
    and up [out, rank], put out together: x [..., in] in, [..., out] out."""
    ...


# %% tags=["nbval-ignore-output"]
beside = check(beside)
thin = shapes.without_dropout(shapes.with_lora(cut, rank=8, together=beside))
training.fit(thin, windows[:80], shapes.LORA)
plain = shapes.merged(thin)
share = 100 * shapes.learning(thin) / measure.parameters(cut)
claim("So many % of the numbers learn", share, between=(6.5, 7.5))
far = (training.losses(thin, some) - training.losses(plain, some)).abs().max()
claim("Merged, no piece's loss differs by more than", far, at_most=1e-3)
part = recorded.won("LoRA") / recorded.won("labels alone")
guess_thin.compare(100 * part)
claim("LoRA wins this part of what all weights win", part, between=(0.8, 1))

# %% [markdown]
# One number in fourteen learned, and won most of what all of them win (study, seed 0,
# labels alone; LoRA's learning rate is 1e-2, that of all weights 1e-3). The frozen
# weights did not move, and merged the network is as fast as before. What LoRA saves is
# memory while it learns: the optimizer keeps two more numbers for each weight that
# learns. Had you thought of healing as learning much that is new? Thin matrices cannot
# hold much.
#
# ## What gave what
#
# From the dense network to a small file there are more steps than pruning. Keys and
# values are kept instead of computed again (the *cache*), and ONNX Runtime runs the
# network instead of PyTorch. Half of the units leave; the rest is healed. Then each
# weight gets 8 bits, or 4, and each group of 64 weights a scale of its own (lab 08).
# All are measured here, in one race: one piece is written at a time, on one thread.

# %%
guess_runtime = predict(
    "Cache and runtime, no weight changed: how many times as fast does it write?",
    1,
    30,
    unit="times",
)
size, writers = shapes.exported({"dense": gpt, "half": healed})  # and half in 8, 4 bits
added = generation.noise(24, len(text.vocabulary()), 0.6, seed=0)
rates = measure.writing_speed({"torch": gpt, **writers}, some.images[0, :32], added)
rounded = [quantization.quantize_weights(healed, bits, group=64) for bits in (8, 4)]
networks = [gpt, gpt, cut, healed, *rounded]
ends = [float(training.losses(network, some).mean()) for network in networks]
cache = [measure.cache_bytes(network, 256) for network in networks]
stages = ["torch", "dense", "half", "half", "half8", "half4"]
factors = {
    "faster": [rates[stage].speedup for stage in stages],
    "smaller file": [
        size["dense"] / size.get(stage, size["dense"]) for stage in stages
    ],
    "smaller cache": [cache[0] / each for each in cache],
}

# %% tags=["figure:waterfall", "nbval-ignore-output"]
draw.waterfall(factors, ends)
faster, smaller, _ = factors.values()
guess_runtime.compare(faster[1])

# %%
claim("Cache and runtime alone, times faster", faster[1], at_least=2)
claim("The cut makes it faster, times", faster[2] / faster[1], at_least=1.1)
claim("The cut makes the file smaller, times", smaller[2], between=(1.7, 2))
claim("4 bits make it smaller, times", smaller[-1] / smaller[3], between=(6, 8))
claim("The cut makes the cache smaller, times", cache[0] / cache[-1], between=(2, 2))
paid = ends[3] - ends[0]
claim("Healed, the cut still costs so many nats", paid, at_least=0.15)
four = ends[5] - ends[3]
claim("4 bits cost so many nats", four, between=(0.01, 0.06))
claim("which is this part of what the cut costs", four / paid, at_most=0.3)

# %% [markdown]
# Each step gives something else. Cache and runtime make it faster, with no weight
# changed. The bits make the file smaller, several times more than the cut does, and
# cost less: if only the bytes counted, rounding came first, and pruning after it. The
# heads alone make the cache smaller. Which of the three had you thought of when you
# read "pruning"?
#
# ## Decide: a megabyte
#
# A device has a megabyte for all weights, and time for little more than half of the
# dense network's arithmetic. Choose
#
# - a *shape*: `"dense"`, `"3 heads, 384 neurons"` or `"3 of 6 blocks"`;
# - the *steps* of healing with the teacher: 0 for the dense one; 0 or 120 for three
#   blocks; 0, 120, 240, 480 or 1,017 (the whole text once) for three heads;
# - the *bits* of the weights in the blocks, and of the *table* (embedding and
#   positions): 32, 8 or 4.
#
# The loss may rise by a tenth of a nat. Losses come from the study (one run each, seed
# 0); bytes and MACs are counted, the MACs for the last of 256 pieces.

# %%
# {"shape": "3 of 6 blocks", "steps": 0, "bits": 8, "table_bits": 32}
my_choice = ...
decide("15_healing", my_choice)

# %% [markdown]
# Which goal decided the shape, which one the bits, which one the steps?
#
# ## Who pays?
#
# The mean hides who pays (lab 11). So the study notes the loss by groups of places:
#
# - fifths, by how often the piece that comes next stands in the training text;
# - early and late places of a window;
# - rare pieces that stand in the window already;
# - names and titles, such as `Elizabeth` and `Mrs`: one place in a hundred;
# - the novel that was kept out.

# %%
guess_names = predict(
    "Cut, not healed: how many times as much as on all places is lost on names?",
    0,
    10,
    unit="times",
)
lost_on = {group: recorded.lost(group) for group in recorded.GROUPS}

# %% tags=["figure:payers"]
names, everywhere = lost_on["names"], lost_on["all places"]
draw.payers(lost_on, recorded.payers("taught"))
guess_names.compare(names["cut"] / everywhere["cut"])

# %%
times = {way: names[way] / everywhere[way] for way in names}
claim("Cut: names lose so many times what all places lose", times["cut"], at_least=1.8)
claim("Healed by labels, so many times", times["labels alone"], at_least=2)
claim("Taught, so many times", times["taught"], at_least=2)
again = lost_on["rare, seen before"]["taught"] / lost_on["rarest fifth"]["taught"]
claim("Rare pieces seen before over all rare ones, taught", again, at_least=1.15)
pays = min(middle for middle, _ in recorded.payers("taught")["names"])
claim("Names, taught against never pruned, nats or more", pays, at_least=0.2)

# %% [markdown]
# The cut hits names hardest, and healing brings the rest back sooner than them. The
# rarest pieces as such lose little more than others; but rare ones that stand in the
# window already, and could be read there, lose more. Had your guess been about rare
# words? A name is not rare in the text, and in a window it comes again and again.
#
# The right panel asks what lab 11 asked: is it pruning, or is it what *any* network
# loses that is only this good? Two networks that were never pruned are the control,
# `gpt_early` and `gpt_small`, mixed so that their mean loss is that of the healed one.
# A group whose intervals lie right of the line pays for having been pruned. Names do;
# most of what the other groups lose is lost by any network that is only this good.
#
# ## One look at the test set
#
# All choices were made on validation windows. The healed network of this lab, in 8
# bits, and the dense one:

# %% tags=["nbval-ignore-output"]
judged = texts.test[::8]
for name, network in {"dense": gpt, "healed, 8 bits": rounded[0]}.items():
    nats = float(training.losses(network, judged).mean())
    claim(f"{name}: so many nats a piece on the test windows", nats, between=(2.6, 3.5))

# %% [markdown]
# ## Take away
#
# 1. A short training brings back most of what a cut costs, and a teacher more of it; the
#    same steps from new weights bring next to nothing. Trained for as long as the dense
#    one, new weights win.
# 2. Say what gave what: the runtime the speed, the bits the bytes, the heads the cache.
# 3. "The pruned network pays on X" needs a network that is as good and was never
#    pruned.

# %%
quiz("15_healing")

# %% tags=["nbval-ignore-output"]
progress()

# %%
finish()

# %% [markdown]
# **Next:** [going further](15_healing_further.ipynb) asks how large a step may be, what
# longer healing does, and whether fewer blocks are better than narrower ones.
