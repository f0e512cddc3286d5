"""The studies that take too long for a lab, with several seeds. `make results`; some
only: `make results ARGS=dynamic`.

Each writes data/results/NAME.json after every run, and goes on from there when it was
interrupted: delete the file to begin anew. Choices rest on validation data; studies of
    the course's targets also look, once, at the test set.
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils import (
    baselines,
    compression,
    data,
    deploy,
    files,
    masks,
    measure,
    models,
    surgery,
    training,
)
from utils.data import sample_batches
from utils.distillation import Teacher, soft_targets
from utils.exercises.lab11 import noisy_labels
from utils.quantization import plain, quantized
from utils.schedules import SET, Cubic, Iterative, Movement, OneShot, RigL, Schedule
from utils.scores import score
from utils.training import Loss, Recipe

SEEDS = (0, 1, 2)
SPARSITIES = (0.9, 0.95, 0.98)
EXAMPLE = torch.zeros(1, 1, 28, 28)
# what it is (its key in the file), and the work that gives its results
Run = tuple[dict, Callable[[], dict]]


@cache
def pictures() -> data.Data:
    return data.load()


def trained(
    model: nn.Module,
    recipe: Recipe,
    seed: int,
    schedule: Schedule | None = None,
    *,
    train: data.Split | None = None,
    **options,
) -> dict:
    """Train (on all training pictures, or on these) and validate."""
    history = training.fit(
        model,
        train or pictures().train,
        recipe,
        validation=pictures().validation,
        seed=seed,
        schedule=schedule,
        progress=False,
        **options,
    )
    return {
        "validation_accuracy": round(history.validation_accuracy[-1], 4),
        "history": [round(value, 4) for value in history.validation_accuracy],
        "recipe": asdict(recipe),
        "schedule": repr(schedule) if schedule else None,
    }


# ---------------------------------------------------------- lab 06: pruning in training

DYNAMIC = Recipe(epochs=12)
METHODS: dict[str, Callable[[float, int], Schedule | None]] = {
    "dense": lambda sparsity, seed: None,
    "cubic": lambda sparsity, seed: Cubic(sparsity),
    "movement": lambda sparsity, seed: Movement(sparsity),
    "random, fixed": lambda sparsity, seed: SET(
        sparsity, updates=1, begin=1.0, end=1.0, seed=seed
    ),
    "SET": lambda sparsity, seed: SET(sparsity, seed=seed),
    "RigL": lambda sparsity, seed: RigL(sparsity, seed=seed),
}


def dynamic() -> Iterator[Run]:
    """Seven ways to train a network at 95% sparsity, all from random weights and for
    equally many epochs."""
    for seed in SEEDS:
        for method, make in METHODS.items():
            what = {
                "method": method,
                "sparsity": 0.0 if method == "dense" else 0.95,
                "seed": seed,
            }
            start = baselines.build("lenet300", seed)
            yield (
                what,
                lambda make=make, start=start, seed=seed: trained(
                    start, DYNAMIC, seed, make(0.95, seed)
                ),
            )
        what = {"method": "one-shot, then fine-tuning", "sparsity": 0.95, "seed": seed}
        yield what, lambda seed=seed: _half_and_half(seed)


def _half_and_half(seed: int) -> dict:
    """Half of the epochs dense, the other half pruned; each half with its own rise and
    fall of the learning rate."""
    model, half = (
        baselines.build("lenet300", seed),
        replace(DYNAMIC, epochs=DYNAMIC.epochs // 2),
    )
    first = trained(model, half, seed)
    second = trained(model, half, seed + 100, OneShot(0.95, begin=0.0))
    schedule = f"two runs of {half.epochs} epochs; in the second {second['schedule']}"
    both = {
        "recipe": asdict(DYNAMIC),
        "schedule": schedule,
        "history": first["history"] + second["history"],
    }
    return second | both


# -------------------------------------------------------------- lab 07: getting it back

GRADUAL = Recipe(epochs=24, learning_rate=1e-3)
SHORT = Recipe(epochs=12, learning_rate=1e-3)


def recovery() -> Iterator[Run]:
    """LeNet-300-100 from the shipped baseline: one-shot, iterative and gradual pruning,
    12 epochs; gradual also 24."""
    for seed in SEEDS:
        for sparsity in SPARSITIES:
            for method, schedule, recipe in [
                ("one-shot", OneShot(sparsity, begin=0.0), SHORT),
                ("iterative", Iterative(sparsity, begin=0.0, end=0.6), SHORT),
                ("gradual", Cubic(sparsity, end=0.6), SHORT),
                ("gradual, twice as long", Cubic(sparsity, end=0.6), GRADUAL),
            ]:
                what = {"method": method, "sparsity": sparsity, "seed": seed}
                yield (
                    what,
                    lambda schedule=schedule, recipe=recipe, seed=seed: trained(
                        baselines.baseline("lenet300"), recipe, seed, schedule
                    ),
                )


TUNINGS = {
    "small and constant": lambda epochs: Recipe(
        epochs=epochs, learning_rate=1e-4, schedule="constant"
    ),
    "rewound": lambda epochs: Recipe(epochs=epochs, learning_rate=3e-3),
}


def tuning() -> Iterator[Run]:
    """One-shot to 95%, then fine-tuned for 1 to 16 epochs, with a small constant rate
    or with the rate rewound."""
    for seed in SEEDS:
        for method, make in TUNINGS.items():
            for epochs in (1, 2, 4, 8, 16):
                what = {"method": method, "epochs": epochs, "seed": seed}
                yield (
                    what,
                    lambda make=make, epochs=epochs, seed=seed: trained(
                        baselines.baseline("lenet300"),
                        make(epochs),
                        seed,
                        OneShot(0.95, begin=0.0),
                    ),
                )


TICKET = Recipe(epochs=12)


def tickets() -> Iterator[Run]:
    """The lottery-ticket comparison (Frankle & Carbin 2019) at 95% and 98%, each
    trained for equally many epochs."""
    for seed in SEEDS:
        for sparsity in (0.95, 0.98):
            for method, start in STARTS.items():
                what = {"method": method, "sparsity": sparsity, "seed": seed}
                yield (
                    what,
                    lambda start=start, sparsity=sparsity, seed=seed: _ticket(
                        start, sparsity, seed
                    ),
                )


@cache
def _trained_dense(seed: int) -> nn.Module:
    model = baselines.build("lenet300", seed)
    trained(model, TICKET, seed)
    return model


def _ticket(start: Callable, sparsity: float, seed: int) -> dict:
    model, mask = start(sparsity, seed)
    return trained(
        model, TICKET, seed, after_step=masks.hold(model, mask) if mask else None
    ) | {
        "kept": sum(
            int(weight.count_nonzero())
            for name, weight in model.named_parameters()
            if name.endswith("weight")
        )
    }


def _winning(sparsity: float, seed: int) -> masks.Masks:
    return masks.magnitude_masks(_trained_dense(seed), sparsity)


def _shuffled(sparsity: float, seed: int) -> masks.Masks:
    """As many weights in each layer, elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (
            mask.flatten()[torch.randperm(mask.numel(), generator=generator)].view_as(
                mask
            )
        )
        for name, mask in _winning(sparsity, seed).items()
    }


def _as_small(sparsity: float) -> nn.Module:
    """A dense LeNet with about as many weights: the first layer as wide as can be with
    10 units behind it."""
    wanted = (1 - sparsity) * 266_200
    first = int((wanted - 100) // (784 + 10))
    return models.lenet300((first, round((wanted - 784 * first) / (first + 10))))


def _small_dense(sparsity: float, seed: int) -> tuple[nn.Module, None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _as_small(sparsity), None


STARTS: dict[str, Callable] = {
    "ticket: first weights again": lambda s, seed: (
        baselines.build("lenet300", seed),
        _winning(s, seed),
    ),
    "same mask, new random weights": lambda s, seed: (
        baselines.build("lenet300", seed + 100),
        _winning(s, seed),
    ),
    "mask shuffled in each layer": lambda s, seed: (
        baselines.build("lenet300", seed),
        _shuffled(s, seed),
    ),
    "small dense network": _small_dense,
    "trained weights kept (24 epochs in all)": lambda s, seed: (
        copy.deepcopy(_trained_dense(seed)),
        _winning(s, seed),
    ),
}

# ----------------------------------------------------------- lab 05: kinds of structure

STRUCTURED = training.Recipe(
    epochs=2,
    batch_size=64,
    optimizer="sgd",
    learning_rate=0.02,
    weight_decay=5e-4,
    shift=2,
    bf16=True,
)


def structured() -> Iterator[Run]:
    """Half of the ResNet's weights, channels or blocks pruned or removed, then two
    epochs of fine-tuning. One seed."""
    kinds: dict[str, Callable] = {
        "dense, trained on": lambda net: (net, None),
        "50% of the weights": lambda net: (net, masks.magnitude_masks(net, 0.5)),
        "2:4 pattern": lambda net: (
            net,
            masks.nm_masks(net, 2, 4, exclude=["0.weight"]),
        ),
        "30% of the channels": lambda net: (
            surgery.shrink(net, EXAMPLE, score("l1", net, units=True), 0.3),
            None,
        ),
        "50% of the channels": lambda net: (
            surgery.shrink(net, EXAMPLE, score("l1", net, units=True), 0.5),
            None,
        ),
        "3 of 6 blocks": lambda net: (
            surgery.remove_blocks(net, EXAMPLE, ["3.1", "4.1", "5.1"]),
            None,
        ),
    }
    for kind, make in kinds.items():
        yield (
            {"kind": kind, "seed": 0},
            lambda make=make: _structured(*make(baselines.baseline("resnet"))),
        )


def _structured(model: nn.Module, mask: masks.Masks | None) -> dict:
    if mask:
        masks.apply_masks(model, mask)
    before = training.evaluate(model, pictures().validation)
    after_step = masks.hold(model, mask) if mask else None
    return {"before": round(before, 4)} | trained(
        model, STRUCTURED, 0, after_step=after_step
    )


# -------------------------------------------------------------------- lab 09: a teacher


class _Remembered:
    """A network that computes each picture's outputs once: flips alone give two
    versions of each, in all epochs."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.known = network, {}

    def __call__(self, images: Tensor) -> Tensor:
        """Outputs `[n, 10]`."""
        keys = [hash(image.tobytes()) for image in images.numpy()]
        new = [row for row, key in enumerate(keys) if key not in self.known]
        if new:
            self.known |= zip(
                (keys[row] for row in new), self.network(images[new]), strict=True
            )
        return torch.stack([self.known[key] for key in keys])


@cache
def _remembered(name: str) -> _Remembered:
    return _Remembered(baselines.baseline(name).to(memory_format=torch.channels_last))


class _Taught:
    """`Teacher`, with outputs that are remembered, and may be changed before the
    student hears of them."""

    def __init__(
        self, name: str, temperature: float = 4.0, change: Callable | None = None
    ) -> None:
        self.network, self.change = (
            _remembered(name),
            change or (lambda outputs, labels: outputs),
        )
        # takes outputs in place of pictures
        self.teacher = Teacher(nn.Identity(), temperature=temperature)

    def __call__(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """The mean loss of a batch."""
        with torch.no_grad():
            outputs = self.change(self.network(images), labels)
        return self.teacher(logits, labels, outputs)


def _shuffled_teacher(temperature: float, seed: int) -> _Taught:
    """Each picture's nine outputs for other classes than the label's in random order,
    anew each time."""
    generator = torch.Generator().manual_seed(seed)

    def change(outputs: Tensor, labels: Tensor) -> Tensor:
        draw = torch.rand(len(labels), 9, generator=generator).argsort(1)
        others = torch.ones_like(outputs, dtype=torch.bool).scatter_(
            1, labels[:, None], False
        )
        return outputs.masked_scatter(
            others, outputs[others].view(-1, 9).gather(1, draw)
        )

    return _Taught("lenet300", temperature, change)


def _smoothing(temperature: float, seed: int) -> _Taught:
    """Label smoothing as a teacher (Yuan et al. 2020): the label has LeNet's mean
    probability, the others share."""
    train = pictures().train
    softened = soft_targets(
        training.predict_logits(baselines.baseline("lenet300"), train.images),
        temperature,
    )
    label = softened.gather(1, train.labels[:, None]).mean()
    gap = temperature * (9 * label / (1 - label)).log()
    return _Taught(
        "lenet300", temperature, lambda outputs, labels: gap * F.one_hot(labels, 10)
    )


LESSONS: dict[str, Callable[[float, int], Loss]] = {
    "LeNet teaches": lambda temperature, seed: _Taught("lenet300", temperature),
    "ResNet teaches": lambda temperature, seed: _Taught("resnet", temperature),
    "LeNet, other classes shuffled": _shuffled_teacher,
    "label smoothing": _smoothing,
}


def distillation() -> Iterator[Run]:
    """LeNet-300-100 pruned gradually from the shipped baseline, 12 epochs, with labels
    alone and with teachers."""
    settings = [(0.98, "labels alone", None)]
    settings += [
        (0.98, lesson, 1.0)
        for lesson in (
            "LeNet teaches",
            "LeNet, other classes shuffled",
            "label smoothing",
        )
    ]
    settings += [
        (0.98, "LeNet teaches", temperature) for temperature in (2.0, 4.0, 8.0)
    ]
    settings += [(0.98, "ResNet teaches", temperature) for temperature in (4.0, 1.0)]
    for sparsity, method, temperature in settings:
        for seed in SEEDS:
            what = {
                "method": method,
                "sparsity": sparsity,
                "temperature": temperature,
                "seed": seed,
            }
            yield what, lambda what=what: _taught(**what)


def _taught(method: str, sparsity: float, temperature: float | None, seed: int) -> dict:
    loss = LESSONS[method](temperature, seed) if temperature else None
    return trained(
        baselines.baseline("lenet300"), SHORT, seed, Cubic(sparsity, end=0.6), loss=loss
    )


# ---------------------------------------------------------- lab 08: fewer bits a number

PRUNE_94, TUNE_SHARED = (
    Recipe(epochs=32),
    Recipe(epochs=2, learning_rate=3e-3, weight_decay=0.0),
)
SHARED_BITS = 3
# two of these make a run: equal cost for both orders
HALF_WAY = Recipe(epochs=2, learning_rate=1e-3)


def quantization() -> Iterator[Run]:
    """LeNet-300-100 from the shipped baseline: 90% zeros and 4 bits, in either order;
    Deep Compression to a file."""
    for seed in SEEDS:
        for method, bits, work in [
            *(("quantized", bits, _trained_on_grid) for bits in (4, 3)),
            ("pruned", 32, _pruned_only),
            ("prune, then quantize", 4, _prune_then_quantize),
            ("quantize, then prune", 4, _quantize_then_prune),
        ]:
            what = {
                "method": method,
                "bits": bits,
                "sparsity": 0.0 if method == "quantized" else 0.9,
                "seed": seed,
            }
            yield what, lambda work=work, bits=bits, seed=seed: work(bits, seed)
    for seed in SEEDS:
        what = {
            "method": "Deep Compression",
            "bits": None,
            "sparsity": 0.94,
            "seed": seed,
        }
        yield what, lambda seed=seed: _deep_compression(seed)


def _deep_compression(seed: int) -> dict:
    """Pruned gradually with a teacher, shared, the shared values fine-tuned; the bytes
    after each step of the paper.

    The test set is opened once, for the final network.
    """
    model, teacher = (
        baselines.baseline("lenet300"),
        Teacher(baselines.baseline("lenet300"), temperature=1.0),
    )
    first = trained(model, PRUNE_94, seed, Cubic(0.94, end=0.6), loss=teacher)
    shared = compression.share_weights(model, SHARED_BITS)
    after_step = compression.hold_shared(model, shared)
    found = {
        "pruned_accuracy": first["validation_accuracy"],
        "shared_accuracy": _accuracy(model),
    }
    second = trained(
        model, TUNE_SHARED, seed + 100, loss=teacher, after_step=after_step
    )
    found["bytes"] = compression.stages(model, shared=shared, other="float16")
    # what is judged is what comes out of the file
    with tempfile.TemporaryDirectory() as folder:
        found["file_bytes"] = compression.save_compressed(
            model, Path(folder) / "lenet", shared=shared, other="float16"
        )
        compression.load_compressed(Path(folder) / "lenet", model)
    found |= {
        "file_accuracy": _accuracy(model),
        "test_accuracy": round(training.evaluate(model, pictures().test), 4),
    }
    return found | _joined(first, second)


def _accuracy(model: nn.Module) -> float:
    return round(training.evaluate(model, pictures().validation), 4)


def _joined(first: dict, second: dict) -> dict:
    """Two runs, one after the other, as one; its recipe is the first's, with the epochs
    of both."""
    epochs = first["recipe"]["epochs"] + second["recipe"]["epochs"]
    return second | {
        "history": first["history"] + second["history"],
        "recipe": first["recipe"] | {"epochs": epochs},
        "schedule": first["schedule"],
        "second_recipe": second["recipe"],
    }


def _on_grid(model: nn.Module, bits: int) -> nn.Module:
    """Weights with so many bits, activations with 8."""
    return quantized(model, sample_batches(pictures().train, 4), bits=bits)


def _trained_on_grid(bits: int, seed: int) -> dict:
    """Quantization-aware training, no pruning."""
    model = _on_grid(baselines.baseline("lenet300"), bits)
    found = {"rounded_accuracy": _accuracy(model)}
    return found | _joined(
        trained(model, HALF_WAY, seed), trained(model, HALF_WAY, seed + 100)
    )


def _held(model: nn.Module, mask: masks.Masks, seed: int) -> dict:
    """Pruned at once, and trained with the mask held."""
    return trained(model, HALF_WAY, seed, after_step=masks.hold(model, mask))


def _pruned_only(bits: int, seed: int) -> dict:
    """The reference in 32 bits: pruned at once, trained twice with the mask held."""
    model = baselines.baseline("lenet300")
    mask = masks.magnitude_masks(model, 0.9)
    return _joined(_held(model, mask, seed), _held(model, mask, seed + 100)) | _zeros(
        model
    )


def _prune_then_quantize(bits: int, seed: int) -> dict:
    """Pruned at once and fine-tuned in float; then on the grid, and trained there with
    the mask held."""
    model = baselines.baseline("lenet300")
    mask = masks.magnitude_masks(model, 0.9)
    first = _held(model, mask, seed)
    model = _on_grid(model, bits)
    return _joined(first, _held(model, mask, seed + 100)) | _zeros(plain(model))


def _quantize_then_prune(bits: int, seed: int) -> dict:
    """Trained on the grid; then pruned by what lies on it (many weights have one
    magnitude), and trained on there."""
    model = _on_grid(baselines.baseline("lenet300"), bits)
    first = trained(model, HALF_WAY, seed)
    mask = masks.magnitude_masks(plain(model), 0.9)
    return _joined(first, _held(model, mask, seed + 100)) | _zeros(plain(model))


def _zeros(model: nn.Module) -> dict:
    return {"zeros": round(measure.sparsity(model), 4)}


# ---------------------------------------------------------- lab 11: does it generalize?

# half of the training; the other half the same again
FEW = Recipe(epochs=20, batch_size=64, flip=False)
# the fraction of wrong labels
FEW_SETTINGS = {"2,000 pictures, 30% wrong labels": 0.3, "2,000 pictures": 0.0}
LEVELS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
ALL_FIRST = Recipe(epochs=8, batch_size=512, learning_rate=3e-3, flip=False)
ALL_AGAIN = Recipe(epochs=4, batch_size=512, learning_rate=1.5e-3, flip=False)


def generalization() -> Iterator[Run]:
    """LeNet-300-100 without flips, then pruned gradually: all pictures, 2,000, and
    2,000 with wrong labels."""
    # of the last three only dense networks, to compare dense with dense
    for seed in (*SEEDS, 3, 4, 5):
        for sparsity in (0.0, 0.95, 0.98) if seed in SEEDS else (0.0,):
            what = {
                "setting": "all pictures",
                "method": "pruned",
                "sparsity": sparsity,
                "seed": seed,
            }
            yield (
                what,
                lambda sparsity=sparsity, seed=seed: _all_pictures(sparsity, seed),
            )
    for setting in FEW_SETTINGS:
        for seed in SEEDS:
            # at 0 nothing is pruned: the dense control, trained on for as long
            for sparsity in LEVELS:
                what = {
                    "setting": setting,
                    "method": "pruned",
                    "sparsity": sparsity,
                    "seed": seed,
                }
                yield (
                    what,
                    lambda setting=setting, s=sparsity, seed=seed: (
                        _overfitted_and_pruned(setting, s, seed)
                    ),
                )
            what = {
                "setting": setting,
                "method": "weight decay",
                "sparsity": 0.0,
                "seed": seed,
            }
            yield what, lambda setting=setting, seed=seed: _decayed(setting, seed)


@cache
def few_pictures(setting: str, seed: int) -> tuple[data.Split, Tensor]:
    """2,000 training pictures drawn by a seed, some of their labels wrong; and all
    their right labels, `[2000]`."""
    generator = torch.Generator().manual_seed(seed)
    few = pictures().train[
        torch.randperm(len(pictures().train), generator=generator)[:2000]
    ]
    return (
        data.Split(
            few.images, noisy_labels(few.labels, FEW_SETTINGS[setting], generator)
        ),
        few.labels,
    )


@cache
def _dense_of(setting: str, seed: int) -> tuple[nn.Module, dict]:
    """The first half of the training, dense."""
    model = baselines.build("lenet300", seed)
    return model, trained(model, FEW, seed, train=few_pictures(setting, seed)[0])


def _overfitted_and_pruned(setting: str, sparsity: float, seed: int) -> dict:
    dense, first = _dense_of(setting, seed)
    model, few = copy.deepcopy(dense), few_pictures(setting, seed)
    found = trained(
        model, FEW, seed + 100, Cubic(sparsity) if sparsity else None, train=few[0]
    )
    return found | {"first_half": first["history"]} | _learned(model, *few)


def _decayed(setting: str, seed: int) -> dict:
    """As long in one go, dense, with 300 times the weight decay."""
    model, few = baselines.build("lenet300", seed), few_pictures(setting, seed)
    recipe = replace(FEW, epochs=2 * FEW.epochs, weight_decay=3.0)
    return trained(model, recipe, seed, train=few[0]) | _learned(model, *few)


def _learned(model: nn.Module, train: data.Split, right: Tensor) -> dict:
    """Accuracy on the training labels; of the wrong ones the fractions learned by
    heart, and answered rightly."""
    predicted, wrong = (
        training.predict_logits(model, train.images).argmax(1),
        train.labels != right,
    )
    found = {"training_accuracy": _fraction(predicted == train.labels)}
    if wrong.any():
        found["memorised"] = _fraction(predicted[wrong] == train.labels[wrong])
        found["righted"] = _fraction(predicted[wrong] == right[wrong])
    return found


def _fraction(true: Tensor) -> float:
    return round(true.float().mean().item(), 4)


@cache
def _all_dense(seed: int) -> nn.Module:
    model = baselines.build("lenet300", seed)
    training.fit(model, pictures().train, ALL_FIRST, seed=seed, progress=False)
    return model


def _all_pictures(sparsity: float, seed: int) -> dict:
    """With the answers to all validation pictures, a digit each."""
    model = copy.deepcopy(_all_dense(seed))
    found = trained(model, ALL_AGAIN, seed + 100, Cubic(sparsity) if sparsity else None)
    answers = training.predict_logits(model, pictures().validation.images).argmax(1)
    found["training_accuracy"] = round(training.evaluate(model, pictures().train), 4)
    return found | {"predictions": "".join(map(str, answers.tolist()))}


# ------------------------------------------------------------ lab 10: the deployed file


def deployment() -> Iterator[Run]:
    """The thin VGGs, three with labels alone and three taught, exported and quantized.
    Test set: once a file."""
    names = {"labels alone": "vgg_thin", "taught": "vgg_thin_taught"}
    for loss, name in names.items():
        for seed, suffix in zip(SEEDS, ("", "_1", "_2"), strict=True):
            yield (
                {"loss": loss, "seed": seed},
                lambda name=name + suffix: _deployed(name),
            )


def _deployed(name: str) -> dict:
    batches = sample_batches(pictures().train, count=4)
    with tempfile.TemporaryDirectory() as folder:
        fp32, int8 = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        deploy.to_onnx(baselines.baseline(name), EXAMPLE, fp32)
        size = deploy.to_int8(fp32, batches, int8)
        session = deploy.Session(int8)
        return {
            "network": name,
            "bytes": size,
            "validation_accuracy": round(
                training.evaluate(session, pictures().validation), 4
            ),
            "test_accuracy": round(training.evaluate(session, pictures().test), 4),
        }


STUDIES: dict[str, Callable[[], Iterator[Run]]] = {
    "dynamic": dynamic,
    "recovery": recovery,
    "tuning": tuning,
    "tickets": tickets,
    "structured": structured,
    "deployment": deployment,
    "distillation": distillation,
    "quantization": quantization,
    "generalization": generalization,
}


# ------------------------------------------------------------------------------ running


def study(name: str) -> None:
    """Do the runs of a study that its file does not hold yet, in order."""
    path = files.data_folder() / "results" / f"{name}.json"
    old = json.loads(path.read_text())["runs"] if path.is_file() else []
    record = {
        "about": STUDIES[name].__doc__,
        "command": f"make results ARGS={name}",
        "torch": torch.__version__,
    }
    due = [what for what, _ in STUDIES[name]()]
    done: list[dict] = []
    for number, (what, work) in enumerate(STUDIES[name]()):
        found = [run for run in old if what.items() <= run.items()]
        if not found:
            started = time.perf_counter()
            found = [what | work() | {"seconds": round(time.perf_counter() - started)}]
            print(
                f"{name}: {what}: {found[0]['validation_accuracy']:.2%},"
                f" {found[0]['seconds']} s",
                flush=True,
            )
        done += found
        later = [
            run
            for run in old
            if any(each.items() <= run.items() for each in due[number + 1 :])
        ]
        content = record | {"runs": done + later}
        files.write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="study",
        help=f"of: {', '.join(STUDIES)}; default: all",
    )
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if unknown := set(options.names) - set(STUDIES):
        parser.error(
            f"no such study: {', '.join(sorted(unknown))}. Known: {', '.join(STUDIES)}."
        )
    torch.set_num_threads(options.threads)
    for each in options.names or STUDIES:
        study(each)
