# %% [markdown]
# # 15 Small by healing: going further
#
# Four things that the lab left open: how large a step of healing may be, what longer
# healing does, whether fewer blocks are better than narrower ones, and what rounding
# costs before and after. The trainings were recorded (`make results ARGS=healing`).

# %%
from statistics import mean

from utils import baselines, generation, measure, text
from utils.exercises import load
from utils.lab import claim, figures, finish, predict

draw, texts = figures("15_healing"), text.load()
shapes, recorded = (load("15_healing", part) for part in ("shapes", "recorded"))
gpt, whole = baselines.baseline("gpt"), recorded.fact("validation_loss")

# %% [markdown]
# ## How large a step?
#
# By a step that is too large a trained network loses what it knew; by one that is too
# small it gains little. So the learning rate was chosen on validation windows, one run
# each (seed 0).

# %%
rates = (3e-4, 1e-3, 3e-3)
thin = (1e-3, 3e-3, 1e-2, 3e-2)
tried = {
    way: [recorded.losses(way, rate=rate)[0] for rate in rates]
    for way in ("labels alone", "taught")
}

lora = [recorded.losses("LoRA", rate=rate)[0] for rate in thin]

# %% tags=["figure:rates"]
draw.rates({n: (rates, values) for n, values in tried.items()} | {"LoRA": (thin, lora)})

# %%
best = {way: rates[values.index(min(values))] for way, values in tried.items()}
claim("Best rate for labels alone", best["labels alone"], between=(1e-3, 1e-3))
claim("Best rate with a teacher", best["taught"], between=(3e-3, 3e-3))
claim("Best rate for LoRA", thin[lora.index(min(lora))], between=(1e-2, 1e-2))
late = tried["taught"][1] - tried["taught"][2]
claim("Taught by 1e-3, behind its best by nats", late, between=(0.005, 0.03))
heard = {
    way: recorded.losses(way)[0] - recorded.losses("taught")[0]
    for way in ("half of the loss", "temperature 2")
}
for way, nats in heard.items():
    claim(f"A teacher heard with {way} loses nats more", nats, between=(0.002, 0.03))

# %% [markdown]
# Each way has a best rate of its own: thin matrices bear ten times that of all weights,
# and a network with a teacher three times. In the lab both ways with all weights got
# 1e-3, the best one for labels alone: that comparison is not in the teacher's favour.
# LoRA got its own best. New weights got 3e-3, the rate that `gpt` itself learned with.
# Heard with half of the loss, or at temperature 2, the teacher brings a little less.
#
# ## Longer
#
# Does more healing make the teacher worth less? And does it reach `gpt_small`? Here are
# four lengths, one run each; the last one reads the whole training text once.

# %%
guess_long = predict(
    "Healed for 1,017 steps instead of 120: the loss with labels alone?",
    2.9,
    3.3,
    unit="nats",
)
lengths, small = recorded.LENGTHS, recorded.fact("validation_loss", "gpt_small")
curves = {
    way: [recorded.losses(way, steps=steps)[0] for steps in lengths]
    for way in ("labels alone", "taught")
}

# %% tags=["figure:longer"]
draw.longer(lengths, curves, {"gpt, dense": whole, "gpt_small": small})
plain, told = curves.values()
guess_long.compare(plain[-1])

# %%
gains = [one - other for one, other in zip(plain, told, strict=True)]
claim("The teacher brings after the longest healing, nats", gains[-1], at_least=0.01)
claim("which is this part of its gain in 120 steps", gains[-1] / gains[0], at_most=0.7)
claim("The longest healing brings, labels, nats", plain[0] - plain[-1], at_least=0.1)
fast = recorded.losses("taught", steps=lengths[-1], rate=3e-3)[0]
claim("Taught by 3e-3 it is behind the dense one by, nats", fast - whole, at_most=0.1)
claim("and behind gpt_small", fast - small, between=(0, 0.1))

# %% [markdown]
# Longer healing goes on to help, and the teacher is worth less of it in the end (one
# run each). An epoch of healing does not reach `gpt_small`, which had twenty; what
# would, we did not try.
#
# ## Fewer blocks, or narrower ones?
#
# Three of six blocks have as many parameters as all six with half of the heads and
# neurons. Of the twenty choices of three blocks the study took the one that lost least
# on training windows. Both were healed alike. How fast do they write?

# %%
guess_fast = predict(
    "The network of three blocks: how many times as fast as the narrow one does it"
    " write?",
    0.5,
    3,
    unit="times",
)
shaped = {"dense": gpt}
shaped |= {n: shapes.made(shapes.SHAPES[n], 0).eval() for n in recorded.HALVES}
writers = {name: generation.Writer(network) for name, network in shaped.items()}
added = generation.noise(48, len(text.vocabulary()), 0.6, seed=0)
speeds = measure.writing_speed(writers, texts.validation.images[0, :32], added)
spread = {
    n: (r.speedup_quartiles[0], r.speedup, r.speedup_quartiles[1])
    for n, r in speeds.items()
}
healed = {
    f"{shape}, {way}": recorded.losses(way, shape=shape)
    for shape in recorded.HALVES
    for way in ("labels alone", "taught")
}

# %% tags=["figure:shapes", "nbval-ignore-output"]
draw.shapes(spread, healed)
narrow, shallow = (speeds[name].speedup for name in recorded.HALVES)
guess_fast.compare(shallow / narrow)

# %%
sizes = [measure.parameters(shaped[name]) for name in recorded.HALVES]
claim(
    "Parameters of the shallow over the narrow one",
    sizes[1] / sizes[0],
    between=(0.99, 1.01),
)
claim("The shallow one writes faster, times", shallow / narrow, at_least=1.1)
deeper = mean(recorded.losses("taught", shape=recorded.SHALLOW)) - mean(
    recorded.losses("taught")
)
claim("After healing it loses so many nats more", deeper, at_least=0.05)

# %% [markdown]
# As many parameters, and not the same network: three blocks are faster, and lose more
# after the same healing. (They were cut where it cost least on training windows, of
# twenty choices.) Which of the two is better depends on what is scarce. What did your
# guess count: multiplications, or steps that wait for each other?
#
# ## Rounding before or after?
#
# What do 8 and 4 bits cost the dense network, the cut one, the healed one, and
# `gpt_small`, which has the same shape and was never cut?

# %%
networks = ("dense", "cut", "healed", "gpt_small")
costs = {name: recorded.rounding(name) for name in networks}

# %% tags=["figure:bits"]
draw.bits(costs, ("8 bits", "4 bits"))

# %%
claim(
    "8 bits cost at most, nats",
    max(eight for eight, _ in costs.values()),
    at_most=0.005,
)
four = [four for _, four in costs.values()]
claim("4 bits cost at most so many nats", max(four), between=(0.03, 0.08))
claim("Healed over dense, 4 bits cost so many times", four[2] / four[0], at_least=1.2)
claim("gpt_small over dense, so many times", four[3] / four[0], between=(0.8, 1.2))

# %% [markdown]
# 8 bits are free here, whatever was done before. 4 bits cost the cut network most, and
# the healed one still more than the dense one. It is not the shape: `gpt_small` has the
# same, and loses as little as the dense one. (One network each.)
#
# ## Another network
#
# Everything so far is one dense network. `gpt_early` was trained for a fifth of the
# time; cut and healed alike:

# %%
networks = {"gpt": "gpt, 20 epochs", "gpt_early": "gpt_early, 4 epochs"}
others = {words: recorded.gains("taught", network=n) for n, words in networks.items()}

# %% tags=["figure:starts"]
draw.starts(others)

# %%
both = min(min(values) for values in others.values())
claim("The teacher brings so many nats or more, each time", both, at_least=0.02)
costs_of = {
    n: recorded.fact("validation_loss", n, shape=recorded.NARROW)
    - recorded.fact("validation_loss", n)
    for n in networks
}
claim(
    "The cut costs gpt more than gpt_early, nats",
    costs_of["gpt"] - costs_of["gpt_early"],
    at_least=0.5,
)

# %% [markdown]
# The teacher helps both. And the network that was trained for longer loses several
# times as much by the same cut: results on a network that was hardly trained would have
# flattered the cut. Two networks are few; we say no more of them than this.

# %%
finish()

# %% [markdown]
# **Back:** [the lab](15_healing.ipynb). What a text network costs on a device with a
# budget of your own is the capstone's kind of question.
