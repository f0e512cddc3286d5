# %% [markdown]
# # 09 Distillation
#
# The comparisons with three seeds take longer than a lab: they come from the file that
# `make results ARGS=distillation` wrote.

# %%
import copy

import torch
from torch.nn import functional as F

from utils import baselines, data, measure, plots, schedules, studies, training
from utils.lab import check, claim, finish, predict, quiz

pictures = data.load()
lenet = baselines.baseline("lenet300")
some = pictures.train[:5000]
outputs = training.predict_logits(lenet, some.images)

# %% [markdown]
# ## What a teacher says
#
# A label says "Shirt", and nothing else. A trained network gives ten numbers, and the
# numbers for the nine other classes differ: this shirt looks somewhat like a T-shirt, a
# little like a coat, and not at all like a boot. Hinton, Vinyals and Dean (2015) let a
# small network learn these answers, too.

# %%
guess_second = predict(
    "Leave out the class Shirt itself: for how many of 100 shirts does LeNet then say"
    " T-shirt?",
    0,
    100,
    unit="shirts",
)

# %% tags=["figure:second"]
SHIRT = data.CLASSES.index("Shirt")
others = outputs[some.labels == SHIRT].clone()
others[:, SHIRT] = -torch.inf
second = others.argmax(1).bincount(minlength=10) / len(others)
plots.show(
    plots.bars(
        {
            name: 100 * second[index]
            for index, name in enumerate(data.CLASSES)
            if index != SHIRT
        },
        title="What LeNet would call a shirt, if not a shirt",
        x_label="training pictures of shirts, %",
        unit="%",
        digits=0,
        guess=guess_second,
    ),
    alt=(
        "Bars for nine classes: T-shirt and coat are nearest to shirt, then pullover;"
        " trousers, shoes and boots have almost nothing."
    ),
)

# %%
guess_second.compare(100 * second[data.CLASSES.index("T-shirt")])
upper = [data.CLASSES.index(name) for name in ("T-shirt", "Coat", "Pullover")]
claim(
    "T-shirt, coat and pullover together are more than eight in ten",
    second[upper].sum(),
    at_least=0.8,
)

# %% [markdown]
# None of that stands in the labels. But the teacher hides it: it is very sure of the
# pictures that it was trained on, and a probability of one in a thousand seems too
# little to teach anything. A *temperature* brings it out: divide the outputs by T
# before the softmax. Whether that helps, the study below measures.
#
# ### Exercise: soften
#
# <details><summary>Hint 1</summary>The outputs are divided first; the probabilities
# come after.</details>
# <details><summary>Hint 2</summary>Each picture's ten probabilities add up to 1:
# softmax along dimension 1.</details>
# <details><summary>Hint 3</summary><code>torch.softmax(logits / temperature,
# dim=1)</code></details>


# %%
def softened(logits, temperature):
    """Probabilities at a temperature: outputs [pictures, classes] in, as many
    probabilities out; each row adds up to 1."""
    ...


# %%
softened = check(softened)

# %% [markdown]
# *Entropy* says how much is left open: 0 bits when one class has everything, 3.3 bits
# when all ten have the same.


# %%
def bits(probabilities):
    """Mean entropy of the rows."""
    return float(
        torch.special.entr(probabilities).sum(1).mean() / torch.log(torch.tensor(2.0))
    )


resnet = baselines.baseline("resnet")
teachers = {
    "LeNet": outputs[:1000],
    "ResNet": training.predict_logits(resnet, some.images[:1000]),
}
temperatures = [1, 2, 4, 8, 16]
entropy = {
    name: [bits(softened(each, t)) for t in temperatures]
    for name, each in teachers.items()
}

# %% tags=["figure:temperature"]
plots.show(
    plots.lines(
        temperatures,
        entropy,
        title="Two teachers on 1,000 training pictures: the warmer, the less certain",
        x_label="temperature",
        y_label="mean entropy, bits",
        level=("all ten classes alike", bits(torch.full((1, 10), 0.1))),
        y_limits=(0, 3.5),
    ),
    alt=(
        "Entropy over temperature: both teachers start near 0.2 bits and rise towards"
        " 3.3; at each temperature above 1 ResNet is softer."
    ),
)

# %%
claim(
    "At temperature 1 LeNet leaves less than half a bit open",
    entropy["LeNet"][0],
    at_most=0.5,
)
claim(
    "At temperature 4 more than twice as much",
    entropy["LeNet"][2] / entropy["LeNet"][0],
    at_least=2,
)
claim(
    "At temperature 4 ResNet is softer by more than half a bit",
    entropy["ResNet"][2] - entropy["LeNet"][2],
    at_least=0.5,
)

# %% [markdown]
# So the same temperature means different things for different teachers: ResNet's
# outputs are smaller numbers. Choose it for each teacher.
#
# Which pictures leave most open? Here are the ten of highest entropy, with the label
# first and the teacher's two best guesses below.

# %% tags=["figure:ambiguous"]
answers = softened(outputs, 1)
open_ = torch.special.entr(answers).sum(1).topk(10).indices
captions = [
    "\n".join(
        [data.CLASSES[some.labels[i]]]
        + [
            f"{data.CLASSES[c]} {answers[i, c]:.0%}"
            for c in answers[i].topk(2).indices.tolist()
        ]
    )
    for i in open_.tolist()
]
plots.show(
    plots.pictures(
        some.images[open_], captions, title="The label, and what LeNet says", columns=5
    ),
    alt=(
        "Ten pictures of clothes for the upper body; LeNet divides its answer between"
        " coat, pullover, shirt, dress and T-shirt."
    ),
)

# %%
tops = torch.tensor(
    [
        data.CLASSES.index(name)
        for name in ("T-shirt", "Pullover", "Dress", "Coat", "Shirt")
    ]
)
claim(
    "Nine or ten of them are clothes for the upper body",
    torch.isin(some.labels[open_], tops).sum(),
    at_least=9,
)

# %% [markdown]
# Would you have known? Some labels may simply be wrong. A teacher that says so is a
# help; a teacher that is wrong itself is not.

# %% [markdown]
# ## Learning from both
#
# The student's loss has two parts. The labels' part is the cross-entropy, as ever. The
# teacher's part is the Kullback-Leibler divergence from the teacher's softened answer
# to the student's, both at temperature T. It is multiplied by T squared: softened
# answers pull about T squared times less, and without the factor a warm teacher would
# fall silent.
#
# ### Exercise: the loss
#
# <details><summary>Hint 1</summary>Three pieces: the teacher's probabilities, the
# student's <em>log</em>-probabilities, the labels' cross-entropy. The first two are at
# the temperature, the third is not.</details>
# <details><summary>Hint 2</summary><code>F.kl_div(student_logs, teacher_probabilities,
# reduction="batchmean")</code>: the student first, though it is KL(teacher ||
# student).</details>
# <details><summary>Hint 3</summary><code>weight * T ** 2 *
# F.kl_div(F.log_softmax(logits / T, 1), F.softmax(teacher_logits / T, 1),
# reduction="batchmean") + (1 - weight) * F.cross_entropy(logits,
# labels)</code></details>


# %%
def distillation_loss(logits, teacher_logits, labels, temperature, weight):
    """weight times the teacher's part, temperature ** 2 * KL(teacher || student), both
    softened; plus (1 - weight) times the labels' cross-entropy. One number, the mean
    over the pictures."""
    ...


# %%
distillation_loss = check(distillation_loss)

# %% [markdown]
# `fit` takes a loss that also gets the pictures, flipped as the student sees them. The
# teacher looks at the same ones.


# %%
def taught(logits, labels, images):
    """Nine parts teacher at temperature 2, one part labels."""
    with torch.no_grad():
        teacher_logits = lenet(images)
    return distillation_loss(
        logits, teacher_logits, labels, temperature=2.0, weight=0.9
    )


def pruned(loss=None, epochs=4):
    """LeNet, pruned gradually to 98%."""
    network, recipe = (
        copy.deepcopy(lenet),
        training.Recipe(epochs=epochs, learning_rate=1e-3),
    )
    training.fit(
        network,
        pictures.train,
        recipe,
        schedule=schedules.Cubic(0.98, end=0.6),
        loss=loss,
    )
    return network


# %% [markdown]
# The dense LeNet teaches, and the student is LeNet itself, on its way to 98%. Twice
# four epochs: once with the labels alone, once with the teacher.

# %% tags=["nbval-ignore-output"]
students = {"labels alone": pruned()}

# %% tags=["nbval-ignore-output"]
students["LeNet teaches"] = pruned(taught)

# %% [markdown]
# How near is each student to its teacher on pictures that neither was trained on? We
# compare the whole answers, at temperature 2.

# %%
said = softened(training.predict_logits(lenet, pictures.validation.images), 2)
distance, right = {}, {}
for name, student in students.items():
    logits = training.predict_logits(student, pictures.validation.images)
    distance[name] = F.kl_div(softened(logits, 2).log(), said, reduction="batchmean")
    right[name] = training.evaluate(student, pictures.validation)

# %% tags=["nbval-ignore-output"]
for name in students:
    print(
        f"{name}: {right[name]:.1%} right, {distance[name]:.3f} from the teacher's"
        " answers"
    )

# %%
claim(
    "Both are 98% zeros",
    min(measure.sparsity(student) for student in students.values()),
    between=(0.9799, 0.9801),
)
claim("Both are right on more than 80%", min(right.values()), at_least=0.8)
claim(
    "The taught student's answers are clearly nearer to the teacher's",
    distance["labels alone"] / distance["LeNet teaches"],
    at_least=1.3,
)

# %% [markdown]
# The teacher was heard. Whether that makes the student better, one run of four epochs
# cannot say.

# %% [markdown]
# ## The study: how warm?
#
# Twelve epochs each, from the same trained LeNet, pruned gradually to 98%, three seeds;
# the teacher has nine tenths of the loss. First the dense LeNet as teacher, at four
# temperatures.

# %% tags=["figure:warmth"]
warmth = {
    t: studies.spread(
        "distillation", method="LeNet teaches", sparsity=0.98, temperature=t
    )
    for t in (1, 2, 4, 8)
}
alone = studies.spread("distillation", method="labels alone", sparsity=0.98)
plots.show(
    plots.lines(
        list(warmth),
        {"LeNet teaches": [each.mean for each in warmth.values()]},
        title="LeNet at 98%, taught by the dense LeNet (3 seeds: mean and range)",
        x_label="temperature",
        y_label="validation accuracy, %",
        percent=True,
        level=("labels alone", alone.mean),
        spread={"LeNet teaches": studies.bands(warmth)},
    ),
    alt=(
        "Accuracy over temperature: above labels alone at 1, lower with each step,"
        " level with labels alone at 4, and below at 8."
    ),
)

# %%
claim(
    "At temperature 1 the worst taught seed beats the best with labels alone",
    warmth[1].low - alone.high,
    at_least=0.001,
)
claim(
    "and the mean gain is less than a point",
    100 * (warmth[1].mean - alone.mean),
    between=(0.3, 1),
)
claim(
    "At temperature 4 the means are within the spread of the seeds",
    100 * abs(warmth[4].mean - alone.mean),
    at_most=0.2,
)
claim(
    "At temperature 8 the teacher does harm",
    100 * (alone.mean - warmth[8].mean),
    at_least=0.3,
)

# %% [markdown]
# The teacher helps when it is cool. A likely reason: a warm teacher insists also on the
# small differences between classes that are out of the question, and a student with one
# weight in fifty has no room for them. Hinton et al. (2015) shrank their student to 30
# units a layer and found middle temperatures better than high or low ones; here it is
# the lowest of four. But a cool teacher's answer is nearly a label. What is it that
# helps?

# %% [markdown]
# ## What does a soft answer carry?
#
# Two controls at temperature 1, where LeNet's lesson was worth something:
#
# - *Other classes shuffled*: LeNet's answer, but the nine probabilities for other
#   classes than the label in random order. How sure it is of each picture stays; which
#   classes are near does not.
# - *Label smoothing*: one answer for all pictures of a class. The label has LeNet's
#   mean probability, the others share the rest alike (a *virtual teacher*, Yuan et al.
#   2020). It knows neither pictures nor which classes are near.
#
# The temperature was chosen by the figure above, on the same validation data, so the
# first row flatters the teacher a little; the controls got the same temperature.
#
# And a better teacher: ResNet is right on more than 3 points more of the validation
# pictures.

# %%
guess_teacher = predict(
    "LeNet at 98%, taught by ResNet at temperature 1: how many points better than with"
    " labels alone?",
    -2,
    3,
    unit="points",
)

# %%
rows = [
    ("LeNet teaches", 1),
    ("LeNet, other classes shuffled", 1),
    ("label smoothing", 1),
]
rows += [("ResNet teaches", 1), ("LeNet teaches", 4), ("ResNet teaches", 4)]
study = {"labels alone": alone} | {
    f"{method}, T = {t}": studies.spread(
        "distillation", method=method, sparsity=0.98, temperature=t
    )
    for method, t in rows
}

# %% tags=["figure:teachers"]
plots.show(
    plots.dots(
        {name: 100 * each.mean for name, each in study.items()},
        {name: (100 * each.low, 100 * each.high) for name, each in study.items()},
        title="LeNet at 98% (mean, lowest, highest of 3 seeds)",
        x_label="validation accuracy, %",
        unit="%",
    ),
    alt=(
        "Seven rows with spread: LeNet at temperature 1 leads; shuffled, smoothing,"
        " ResNet at 1 and labels alone lie together; ResNet at 4 is last."
    ),
)

# %%
mean = {name: 100 * each.mean for name, each in study.items()}
cool, shuffled, smooth = (mean[f"{method}, T = 1"] for method, _ in rows[:3])
claim(
    "With the other classes shuffled nothing is left of the gain",
    shuffled - mean["labels alone"],
    at_most=0.1,
)
claim(
    "Label smoothing, too, is within half a point of labels alone",
    smooth - mean["labels alone"],
    between=(-0.5, 0.3),
)
claim(
    "and LeNet at temperature 1 beats both in the mean",
    cool - max(shuffled, smooth),
    at_least=0.3,
)
claim(
    "ResNet at temperature 4 teaches worse than LeNet, by half a point or more",
    mean["LeNet teaches, T = 4"] - mean["ResNet teaches, T = 4"],
    at_least=0.5,
)
best_seed = 100 * study["ResNet teaches, T = 1"].high
claim(
    "At temperature 1, too, its best seed is below LeNet's worst",
    100 * study["LeNet teaches, T = 1"].low - best_seed,
    at_least=0.1,
)
claim(
    "though better than at 4 by more than a point",
    mean["ResNet teaches, T = 1"] - mean["ResNet teaches, T = 4"],
    at_least=1,
)

# %% tags=["nbval-ignore-output"]
gain = mean["ResNet teaches, T = 1"] - mean["labels alone"]
guess_teacher.compare(gain)

# %% [markdown]
# Being soft did not help by itself: the two controls are soft, and no better than
# labels alone. What helped is gone when the other classes are shuffled: which classes
# are near this picture, and where the teacher disagrees with the label. One caution:
# shuffling also adds noise, since the wrong class is another one each time. Smoothing
# adds none, but its seeds lie far apart.
#
# The better teacher taught worse. At temperature 4 two things changed at once: read the
# entropy figure again, there ResNet's answers are also much softer, and soft answers
# were what this student could not use. So it must be compared at temperature 1, where
# both leave about as much open. There most of the harm is gone, so the temperature was
# most of the fault; but LeNet's own dense original still teaches better than the
# network that is right more often. Perhaps because its mistakes are of a kind that this
# student can follow; we did not test that. A teacher's accuracy alone promises nothing.

# %% [markdown]
# ## In production
#
# Distillation at work is mostly these few lines of PyTorch. `KLDivLoss` takes the
# student's logarithms first; with `log_target=True` the teacher's come as logarithms,
# too, which is safer with small probabilities. `reduction="mean"` would divide by the
# classes as well: a loss ten times too small, and PyTorch warns of it.

# %%
kl = torch.nn.KLDivLoss(reduction="batchmean", log_target=True)
T, weight, few = 4.0, 0.9, pictures.validation[:256]
student_logits = training.predict_logits(students["labels alone"], few.images)
teacher_logits = training.predict_logits(lenet, few.images)
soft = T**2 * kl(
    torch.log_softmax(student_logits / T, 1), torch.log_softmax(teacher_logits / T, 1)
)
theirs = weight * soft + (1 - weight) * torch.nn.CrossEntropyLoss()(
    student_logits, few.labels
)
ours = distillation_loss(student_logits, teacher_logits, few.labels, T, weight)
claim("PyTorch's loss and ours are the same", abs(theirs / ours - 1), at_most=1e-3)

# %% [markdown]
# ## One look at the test set

# %%
drop = training.evaluate(lenet, pictures.test) - training.evaluate(
    students["LeNet teaches"], pictures.test
)
claim(
    "The taught student, 98% sparse, is within 8 points of its teacher on the test set",
    100 * drop,
    at_most=8,
)

# %% [markdown]
# ## Take away
#
# 1. A teacher's soft answer carries what a label does not: how sure, and which classes
# are near.
# 2. Warmer is not better, nor is a better teacher: choose the temperature for each
# teacher and student.
# 3. Only controls tell knowledge from smoothing; only seeds tell a gain from noise.

# %%
quiz("09_distillation")

# %%
finish()

# %% [markdown]
# **Next:** lab 10 takes the small network out of PyTorch and into use.
