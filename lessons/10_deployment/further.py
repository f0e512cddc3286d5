# %% [markdown]
# # 10 Deployment: going further
#
# Three questions that the lab left open: did a teacher help, where does int8 gain time,
# and what does the library look like without our helpers?

# %%
import tempfile
from pathlib import Path

import onnxruntime
import torch

from utils import baselines, data, deploy, measure, studies
from utils.data import sample_batches
from utils.lab import claim, figures, finish, predict

draw = figures("10_deployment")
pictures = data.load()
many = pictures.validation.images[:256]
one = many[:1]
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Does a teacher help here?
#
# `vgg_thin_taught` has the same start as `vgg_thin` and the same twenty epochs, but it
# was taught (lab 09) by `vgg_half`, from which it was cut: at temperature 4, with nine
# tenths of the loss. Three seeds of each, and one seed at temperature 1, from the
# records of `make checkpoints`.

# %%
guess_teacher = predict(
    "Taught at temperature 4: how many points better than with labels alone?",
    -2,
    2,
    unit="points",
    better="high",
)


def after_stage(names, stage):
    """Validation accuracy of these networks when that stage of their training ended,
    percent."""
    stages = [baselines.baseline_facts(name)["stages"][stage] for name in names]
    return [100 * each["history"]["validation_accuracy"][-1] for each in stages]


SEEDS = ["", "_1", "_2"]
lessons = {
    "labels alone": after_stage([f"vgg_thin{seed}" for seed in SEEDS], 0),
    "taught, T = 1 (one seed)": after_stage(["vgg_thin_taught_cool"], 0),
    "taught, T = 4": after_stage([f"vgg_thin_taught{seed}" for seed in SEEDS], 0),
}

# %% tags=["figure:taught"]
teacher = 100 * baselines.baseline_facts("vgg_half")["validation_accuracy"]
draw.taught(lessons, teacher)
alone, cool, warm = lessons.values()
guess_teacher.compare(sum(warm) / 3 - sum(alone) / 3)

# %%
claim(
    "The worst seed alone above the best taught at T = 4",
    min(alone) - max(warm),
    at_least=0.1,
)
claim("Same seed: T = 1 lies below labels alone", alone[0] - cool[0], at_least=0.05)
claim("and above T = 4", cool[0] - warm[0], at_least=0.05)
ahead = teacher - sum(alone) / 3
claim(
    "The teacher is ahead of its untaught student by, points", ahead, between=(0, 0.5)
)
drop = []
for loss in ("labels alone", "taught"):
    runs = studies.runs("deployment", loss=loss)
    drop.append([100 * run["test_accuracy"] for run in runs])
later = min(drop[0]) - max(drop[1])
claim("Test, int8: the worst seed alone above the best taught", later, at_least=0.05)

# %% [markdown]
# The teacher was meant to help. It took accuracy away, and eight epochs more, the last
# four at temperature 1, did not bring it back. What this shows: *this* teacher at
# temperature 4, with weight 0.9, did harm; at temperature 1, in one seed, less harm.
# Other teachers, temperatures and weights were not tried. A likely cause, not tested:
# this teacher has little to teach, being hardly better than its student becomes alone.
# We were about to ship the taught network; it met the targets, and looked like a
# success until its control was trained. What did your guess rest on? On lab 09?
#
# ## Where does int8 gain time?
#
# We race fp32 against int8, both in ONNX Runtime: the dense and the thin VGG, and
# LeNet, at batch 1 and in batches of 256.

# %%
guess_int8 = predict(
    "LeNet, one picture, weights a fourth as large: how many times faster is int8?",
    0,
    8,
    unit="times",
    better="high",
)

# %%
batches = sample_batches(pictures.train, count=4)
sessions = {}
for name in ("vgg", "vgg_thin", "lenet300"):
    fp32, int8 = (folder / f"{name}_{form}.onnx" for form in ("fp32", "int8"))
    deploy.to_onnx(baselines.baseline(name), one, fp32)
    deploy.to_int8(fp32, batches, int8)
    sessions[name] = {"fp32": deploy.Session(fp32), "int8": deploy.Session(int8)}

# %%
races = {
    name: [
        measure.latency(both, images, rounds=rounds, shortest=0.01)["int8"]
        for images, rounds in ((one, 25), (many, 7))
    ]
    for name, both in sessions.items()
}
gains = {
    name: [(t.speedup_quartiles[0], t.speedup, t.speedup_quartiles[1]) for t in race]
    for name, race in races.items()
}

# %% tags=["figure:batches", "nbval-ignore-output"]
draw.batches(gains)
guess_int8.compare(races["lenet300"][0].speedup)

# %%
small = races["lenet300"][0].speedup
claim("LeNet, one picture: int8 is faster, times", small, at_most=3.9)
wide = races["vgg"][0].speedup / races["vgg_thin"][0].speedup
claim(
    "int8 gains more on the dense VGG than on the thin one, times", wide, at_least=1.1
)

# %% [markdown]
# A fourth of the bytes is not a fourth of the time. Did you take the one for the other?
# Of the two VGGs, int8 gains more on the wide one. How much it gains depends on the
# processor, too: it may have instructions made for 8-bit products, or not. So if int8
# brings you nothing, race a wide network beside the thin one before you blame either.
#
# ## The library by itself
#
# ONNX Runtime without our `Session` takes a few lines. Set the threads yourself: by
# default it takes all cores. And threads that *spin*, which is to ask for work again
# and again while there is none, slow what is timed beside them.

# %%
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
path = str(folder / "vgg_thin_int8.onnx")
plain = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
theirs = plain.run(None, {plain.get_inputs()[0].name: many.numpy()})[0]
ours = deploy.Session(path)(many)
same = (ours.argmax(1) == torch.from_numpy(theirs).argmax(1)).float().mean()
claim("The same class as ours, fraction of 256 pictures", same, between=(1, 1))

# %% [markdown]
# The same answers, so our helper hides nothing. On a phone there is more to count than
# here: the runtime's own megabytes, the first call, heat, large and small cores, and
# the time to bring a picture into the right form. Measure there.

# %%
finish()

# %% [markdown]
# **Next:** lab 11 asks who pays: which pictures and which classes a smaller network
# gets wrong.
