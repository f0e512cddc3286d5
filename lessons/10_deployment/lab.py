# %% [markdown]
# # 10 Deployment
#
# So far PyTorch ran everything. A phone does not carry PyTorch. It gets a file with the
# network and a small program that runs such files. Here the file is ONNX and the
# program is ONNX Runtime.

# %%
import tempfile
from pathlib import Path

import torch

from utils import baselines, capstone, data, deploy, measure, plots, studies, training
from utils.data import sample_batches
from utils.lab import check, claim, finish, predict, quiz

pictures = data.load()
some = pictures.validation[:1000]
one, many = some.images[:1], pictures.validation.images[:256]
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## The network as a file
#
# Exporting runs the network once, writes down every operation, and stores it with the
# weights. Whatever Python did around it is gone.

# %%
vgg = baselines.baseline("vgg")
dense_bytes = deploy.to_onnx(vgg, one, folder / "dense.onnx")
dense_file = deploy.Session(folder / "dense.onnx")

# %%
operations = [
    node.op_type for node in deploy.read_onnx(folder / "dense.onnx").graph.node
]
print(", ".join(operations))

# %%
batchnorms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in vgg.modules())
print(
    f"BatchNorm layers in PyTorch: {batchnorms}. In the file:"
    f" {operations.count('BatchNormalization')}."
)

# %% [markdown]
# In eval mode BatchNorm multiplies each channel by a number and adds another. The
# convolution before it can do both with its own weights, so the exporter folded them
# in: five layers fewer to run, and not one answer changed.
#
# That must be checked, not believed. An export can go wrong without an error: a layer
# left in training mode, another padding.
#
# ### Exercise: do the two agree?
#
# <details><summary>Hint 1</summary>Two numbers: how far apart is the worst output, and
# on how many pictures is the class the same?</details>
# <details><summary>Hint 2</summary>The largest difference needs <code>abs()</code>
# before <code>max()</code>.</details>
# <details><summary>Hint 3</summary>The class of a picture is <code>argmax(1)</code>;
# the mean of a comparison is a fraction.</details>


# %%
def compare(ours, theirs):
    """Outputs [n, classes] of two networks for the same pictures: the largest
    difference of any output, and the fraction of pictures, 0..1, that get the same
    class from both. Two Python floats."""
    ...


# %%
compare = check(compare)

# %%
difference, agreement = compare(
    training.predict_logits(vgg, some.images),
    training.predict_logits(dense_file, some.images),
)
claim(
    "PyTorch and the file give the same outputs, but for rounding",
    difference,
    at_most=1e-3,
)
claim("and the same class for every picture but at most one", agreement, at_least=0.999)
claim(
    "The file takes batches of any size",
    len(dense_file(some.images[:7])),
    between=(7, 7),
)

# %% [markdown]
# ## Same network, same numbers, another program
#
# Nothing was pruned yet. PyTorch runs layer by layer, and each layer reads and writes
# all activations. ONNX Runtime fuses convolution and ReLU, and lays the numbers out as
# its kernels like them.

# %%
guess_runtime = predict(
    "The dense VGG in ONNX Runtime: how many times faster than in PyTorch?",
    0,
    100,
    unit="times",
)

# %%
runtime = measure.latency({"PyTorch": vgg, "ONNX Runtime": dense_file}, one, rounds=15)[
    "ONNX Runtime"
].speedup
claim("The runtime alone makes the dense network faster", runtime, at_least=1.2)

# %% tags=["nbval-ignore-output"]
guess_runtime.compare(runtime)

# %% [markdown]
# Remember this when somebody reports "int8 is four times faster" and compares with
# PyTorch: part of it is the program.
#
# ## The same for the thin network, and int8
#
# `vgg_thin` has 8-16, 32-48 and 64 filters where the VGG has 64-64, 128-128 and 256.
# First half of the filters were removed and the rest trained (lab 04); then the half
# was thinned again by L1 norm, and trained for twenty epochs, and four more on pictures
# that were not shifted. `make checkpoints` does all of it again.

# %%
thin = baselines.baseline("vgg_thin")
work = measure.macs(vgg, one) / measure.macs(thin, one)
claim("The thin network does less than a tenth of the work", work, at_least=10)

# %% tags=["nbval-ignore-output"]
calibration = sample_batches(pictures.train, count=4)
thin_bytes = deploy.to_onnx(thin, one, folder / "thin.onnx")
int8_bytes = deploy.to_int8(
    folder / "thin.onnx", calibration, folder / "thin_int8.onnx"
)
deploy.to_int8(folder / "dense.onnx", calibration, folder / "dense_int8.onnx")
thin_file, int8_file, dense_int8 = (
    deploy.Session(folder / f"{name}.onnx")
    for name in ("thin", "thin_int8", "dense_int8")
)
print(f"dense {dense_bytes:,} bytes, thin {thin_bytes:,}, thin int8 {int8_bytes:,}")

# %%
claim(
    "The thin file gives the answers of the thin network",
    deploy.parity(thin, thin_file, some.images).agreement,
    at_least=0.999,
)
claim(
    "int8 changes few of them",
    deploy.parity(thin, int8_file, some.images).agreement,
    at_least=0.97,
)

# %% [markdown]
# ## Which step gave how much?
#
# The dense VGG in PyTorch; pruned, and trained for twenty epochs; for four more; in
# ONNX Runtime; in int8. Each step has the one before it as its control. And
# distillation? It must show its share first.
#
# ## Does a teacher help here?
#
# `vgg_thin_taught` has the same start as `vgg_thin` and the same twenty epochs, but
# with the half, from which it was cut, as its teacher (lab 09), at temperature 4. Three
# seeds of each, from the records of `make checkpoints`; and one seed at temperature 1.

# %%
guess_teacher = predict(
    "Taught at temperature 4: how many points better than with labels alone?",
    -2,
    2,
    unit="points",
)


# %%
def after_stage(names, stage):
    """Validation accuracy of these networks when that stage of their training ended,
    percent."""
    stages = [baselines.baseline_facts(name)["stages"][stage] for name in names]
    return [100 * each["history"]["validation_accuracy"][-1] for each in stages]


SEEDS = ["", "_1", "_2"]
untaught = after_stage([f"vgg_thin{seed}" for seed in SEEDS], 0)
taught = after_stage([f"vgg_thin_taught{seed}" for seed in SEEDS], 0)
cool = after_stage(["vgg_thin_taught_cool"], 0)

# %% tags=["figure:taught"]
lessons = {
    "labels alone": untaught,
    "taught, T = 1 (one seed)": cool,
    "taught, T = 4": taught,
}
plots.show(
    plots.dots(
        {name: sum(each) / len(each) for name, each in lessons.items()},
        {name: (min(each), max(each)) for name, each in lessons.items()},
        title="The thin VGG after twenty epochs (mean, lowest, highest of 3 seeds)",
        x_label="validation accuracy, %",
        unit="%",
    ),
    alt=(
        "Three rows: labels alone is best with each seed, one seed taught at"
        " temperature 1 is lower, three taught at 4 are lowest."
    ),
)

# %%
claim(
    "The worst seed with labels alone beats the best one taught at temperature 4",
    min(untaught) - max(taught),
    at_least=0.1,
)
claim(
    "With the same seed, temperature 1 lies between",
    cool[0],
    between=(taught[0], untaught[0]),
)

# %% tags=["nbval-ignore-output"]
harm = sum(taught) / 3 - sum(untaught) / 3
guess_teacher.compare(harm)

# %% [markdown]
# The teacher was meant to help. It took accuracy away. A likely reason, not tested: it
# has little to teach. The half gets 94.0% of the validation pictures, and its student
# nearly as many without it. In lab 09 the student was much weaker than its teacher, and
# a cool teacher helped. We were about to ship the taught network: it met the targets,
# and looked like a success until its control was trained.
#
# So the file goes without a teacher. In the figure below its row stays, as one that was
# tried and not kept.
#
# ### Exercise: the share of each step
#
# Times multiply: a step that halves the time and one that makes it a third make it a
# sixth. So the share of a step is a factor.
#
# <details><summary>Hint 1</summary>A step's factor compares with the step before it,
# not with the first one.</details>
# <details><summary>Hint 2</summary>Before divided by after: above 1 is
# faster.</details>
# <details><summary>Hint 3</summary>There is one factor fewer than there are times;
# <code>zip(seconds, seconds[1:])</code> gives the pairs.</details>


# %%
def step_factors(seconds):
    """Seconds after each step, the first before any: by how much each step made it
    faster, as a list one shorter. Their product is what all of them together gave."""
    ...


# %%
step_factors = check(step_factors)

# %%
guess_total = predict(
    "All steps together, one picture at a time: how many times faster than PyTorch?",
    0,
    1000,
    unit="times",
)

# %%
race = {"dense": vgg, "dense runtime": dense_file, "dense int8": dense_int8}
race |= {"thin": thin, "runtime": thin_file, "int8": int8_file}
timings = {1: measure.latency(race, one, rounds=15, shortest=0.01)}

# %%
timings[256] = measure.latency(race, many, rounds=5)

# %% tags=["nbval-ignore-output"]
for batch, each in timings.items():
    seconds = [each[name].median for name in ("dense", "thin", "runtime", "int8")]
    factors = ", ".join(f"{factor:.2f}x" for factor in step_factors(seconds))
    print(f"batch {batch:3}: {factors}; together {seconds[0] / seconds[-1]:.1f}x")

# %% [markdown]
# The accuracies of the thin network are means of three seeds, with int8 from the file
# that `make results ARGS=deployment` wrote.

# %%
dense_right = baselines.baseline_facts("vgg")["validation_accuracy"]
trained_on = after_stage([f"vgg_thin{seed}" for seed in SEEDS], 1)
seeds = studies.runs("deployment", loss="labels alone")
in_int8 = [100 * run["validation_accuracy"] for run in seeds]
accuracy = [
    100 * dense_right,
    *(sum(each) / 3 for each in (untaught, taught, trained_on, trained_on, in_int8)),
]

# %%
# taught or not, trained on or not, it costs the same
rows = ["dense", "thin", "thin", "thin", "runtime", "int8"]
faster = {batch: [each[row].speedup for row in rows] for batch, each in timings.items()}
dense_size, thin_size = measure.file_bytes(vgg), measure.file_bytes(thin)
smaller = [
    dense_size / size for size in (dense_size, *[thin_size] * 3, thin_bytes, int8_bytes)
]

# %% [markdown]
# First all six, each against the dense network in PyTorch at the same batch size:

# %% tags=["figure:six", "nbval-ignore-output"]
programs = {
    "PyTorch": ("dense", "thin"),
    "ONNX Runtime": ("dense runtime", "runtime"),
    "int8": ("dense int8", "int8"),
}
plots.show(
    plots.bars(
        {
            f"{size}, {program}, batch {batch}": timings[batch][names[number]].speedup
            for number, size in enumerate(("dense", "thin"))
            for program, names in programs.items()
            for batch in timings
        },
        title="Two networks, three programs, two batch sizes",
        x_label="times faster than the dense network in PyTorch at that batch size",
        unit="x",
        digits=1,
    ),
    alt=(
        "Twelve bars of speed-up: the dense network gains a few times by runtime and"
        " int8, the thin one many times more, most in batches of 256."
    ),
)

# %%
in_runtime = timings[256]["runtime"].speedup / timings[256]["dense runtime"].speedup
claim(
    "In the same program, fp32, the thin network is more than 4 times faster at"
    " batch 256",
    in_runtime,
    at_least=4,
)

# %% [markdown]
# And now as steps:

# %% tags=["figure:waterfall", "nbval-ignore-output"]
steps = [
    "dense VGG, PyTorch",
    "+ pruned",
    "(taught, T = 4)",
    "+ 4 epochs more",
    "+ ONNX Runtime",
    "+ int8",
]
factors = {f"faster, batch {batch}": each for batch, each in faster.items()} | {
    "smaller file": smaller
}
plots.show(
    plots.waterfall(
        steps,
        factors,
        {"accuracy (validation)": accuracy},
        title=(
            "From the dense VGG to the deployed file: what each step multiplies (one"
            " thread)"
        ),
        aside=[2],
    ),
    alt=(
        "Four panels with a row for each step. Pruning gives the largest part of speed"
        " and size, the runtime the next part of the speed, int8 the rest of the size;"
        " accuracy falls a little with pruning and comes back in part; the teacher, not"
        " kept, lies far below."
    ),
)

# %%
claim(
    "One picture at a time the deployed file is more than 10 times faster than the"
    " dense VGG",
    faster[1][-1],
    at_least=10,
)
claim("and in batches of 256 more than 18 times", faster[256][-1], at_least=18)
claim(
    "The file is more than 40 times smaller than the dense weights",
    smaller[-1],
    at_least=40,
)
claim(
    "Pruning gives more of that than int8",
    smaller[1] / (thin_bytes / int8_bytes),
    at_least=1.5,
)
claim(
    "In the mean of three seeds less than 0.7 points of validation accuracy are lost",
    accuracy[0] - accuracy[-1],
    at_most=0.7,
)

# %% tags=["nbval-ignore-output"]
guess_total.compare(timings[1]["int8"].speedup)

# %% [markdown]
# A fifteenth of the work at almost no loss: is the dense VGG as good as it can be? It
# was trained for 14 epochs, and the thin network for 36 more on its way through the
# half. Trained for as long, the dense one might gain, too. The figure compares what we
# had with what we deploy.
#
# Look at the last step in your own figure. How much *faster* int8 is depends on the
# processor: it needs instructions made for it (VNNI on PCs), and wide layers to use
# them on; compare its gain on the dense network. How much *smaller* it is, depends on
# neither.
#
# ## Where int8 gains less
#
# LeNet is a small network of three matrix products. At batch 1 most of its time goes
# into fetching weights and calling functions.

# %% tags=["nbval-ignore-output"]
lenet = baselines.baseline("lenet300")
deploy.to_onnx(lenet, one, folder / "lenet.onnx")
deploy.to_int8(folder / "lenet.onnx", calibration, folder / "lenet_int8.onnx")
small = {"PyTorch": lenet} | {
    name: deploy.Session(folder / f"{file}.onnx")
    for name, file in [("fp32", "lenet"), ("int8", "lenet_int8")]
}
lenet_times = measure.latency(small, one, rounds=25)

# %% tags=["figure:lenet", "nbval-ignore-output"]
plots.show(
    plots.bars(
        {name: 1e6 * timing.median for name, timing in lenet_times.items()},
        title="LeNet, one picture: the same network three times",
        x_label="microseconds (one thread)",
        unit=" us",
        digits=0,
        errors={
            name: tuple(1e6 * q for q in timing.quartiles)
            for name, timing in lenet_times.items()
        },
    ),
    alt=(
        "Bars of the time for one picture: LeNet in PyTorch, in ONNX Runtime with fp32"
        " and with int8."
    ),
)

# %% tags=["nbval-ignore-output"]
gain = {"LeNet": lenet_times["fp32"].median / lenet_times["int8"].median}
gain["VGG, thin"] = timings[1]["runtime"].median / timings[1]["int8"].median
print(
    "int8 against fp32, both in ONNX Runtime, one picture: "
    + ", ".join(f"{k} {v:.2f}x" for k, v in gain.items())
)

# %%
claim(
    "Next to the fourfold smaller weights, LeNet's time gains less than fourfold",
    gain["LeNet"],
    at_most=3.9,
)

# %% [markdown]
# ## A budget
#
# A budget says what a network may cost. Ours, for a phone: 56 kB, ten times faster than
# the dense VGG, 93% on validation data.

# %%
budget = capstone.Budget(bytes=56_000, speedup=10, accuracy=0.93)
costs = {
    "dense": capstone.Cost(dense_bytes, runtime, dense_right),
    "thin": capstone.Cost(
        thin_bytes, timings[1]["runtime"].speedup, trained_on[0] / 100
    ),
    "thin, int8": capstone.Cost(
        int8_bytes, timings[1]["int8"].speedup, in_int8[0] / 100
    ),
}

# %% tags=["nbval-ignore-output"]
for name, cost in costs.items():
    verdict = {
        what: "met" if met else "NOT met"
        for what, (_, _, met) in budget.report(cost).items()
    }
    print(f"{name}: {cost.bytes:,} bytes {verdict['bytes']}", end=", ")
    print(
        f"{cost.speedup:.1f}x {verdict['speedup']}, {cost.accuracy:.1%} right"
        f" {verdict['accuracy']}"
    )

# %%
claim("The int8 file meets the budget in bytes", int8_bytes, at_most=budget.bytes)
claim("the others do not", min(dense_bytes, thin_bytes), at_least=budget.bytes)

# %% [markdown]
# ## Energy
#
# Estimated, not measured, with the constants of Horowitz (2014): an 8-bit product costs
# a fraction of a 32-bit one, and a byte from memory costs hundreds of times as much as
# either.

# %%
joules = {
    "dense VGG": measure.energy_estimate(vgg, one),
    "thin": measure.energy_estimate(thin, one),
    "thin, int8": measure.energy_estimate(thin, one, int8=True),
}
for name, estimate in joules.items():
    print(f"{name:11} {estimate}")

# %%
claim(
    "By the estimate one picture costs less than a fortieth of the energy",
    joules["dense VGG"].total / joules["thin, int8"].total,
    at_least=40,
)

# %% [markdown]
# ## Was it luck? Three seeds
#
# `make results ARGS=deployment` exports and quantizes the networks of three seeds.

# %%
drop = [
    100 * (baselines.baseline_facts("vgg")["test_accuracy"] - run["test_accuracy"])
    for run in seeds
]
claim(
    "Mean of three seeds, int8, test set: no more than 0.5 points below the dense VGG",
    sum(drop) / 3,
    at_most=0.5,
)
claim(
    "The largest of the three files is more than 40 times smaller",
    dense_size / max(run["bytes"] for run in seeds),
    at_least=40,
)

# %% [markdown]
# ## In production
#
# ONNX Runtime without our `Session`: five lines. Set the threads yourself: by default
# it takes all cores, and its idle threads spin, which slows everything beside it.

# %%
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
plain = onnxruntime.InferenceSession(
    str(folder / "thin_int8.onnx"), options, providers=["CPUExecutionProvider"]
)
theirs = torch.from_numpy(
    plain.run(None, {plain.get_inputs()[0].name: some.images.numpy()})[0]
)
claim(
    "The same answers as ours",
    compare(int8_file(some.images), theirs)[1],
    between=(1, 1),
)

# %% [markdown]
# ## One look at the test set

# %%
lost = 100 * (
    baselines.baseline_facts("vgg")["test_accuracy"]
    - training.evaluate(int8_file, pictures.test)
)
claim(
    "The deployed file is at most 0.5 points below the dense VGG on the test set",
    lost,
    at_most=0.5,
)

# %% [markdown]
# ## Take away
#
# 1. Compare within one runtime, and say which: the program alone can be worth a factor
# of two.
# 2. Gains multiply, so report factors, and let each step have its own control: the
# teacher looked like a success until it had one.
# 3. Check the file, not the network: same answers, real bytes, time on the machine that
# will run it.

# %%
quiz("10_deployment")

# %%
finish()

# %% [markdown]
# **Next:** lab 11 asks who pays: which pictures and which classes a smaller network
# gets wrong.
