"""The studies that take too long for a lab, with several seeds. `make results`; some only: `make results ARGS=dynamic`.

Each writes data/results/NAME.json after every run, and goes on from there when it was interrupted: delete the file to
begin anew. Accuracy is always on validation data.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cache

import torch
from torch import nn

from utils import data, files, masks, models, surgery, training
from utils.schedules import SET, Cubic, Iterative, Movement, OneShot, RigL, Schedule
from utils.scores import score
from utils.training import Recipe

SEEDS = (0, 1, 2)
SPARSITIES = (0.9, 0.95, 0.98)
EXAMPLE = torch.zeros(1, 1, 28, 28)
Run = tuple[dict, Callable[[], dict]]  # what it is (its key in the file), and the work that gives its results


@cache
def pictures() -> data.Data:
    return data.load()


def trained(model: nn.Module, recipe: Recipe, seed: int, schedule: Schedule | None = None, **options) -> dict:
    """Train and validate."""
    history = training.fit(
        model,
        pictures().train,
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


# ------------------------------------------------------------------------------------------ lab 06: pruning in training

DYNAMIC = Recipe(epochs=12)
METHODS: dict[str, Callable[[float, int], Schedule | None]] = {
    "dense": lambda sparsity, seed: None,
    "cubic": lambda sparsity, seed: Cubic(sparsity),
    "movement": lambda sparsity, seed: Movement(sparsity),
    "random, fixed": lambda sparsity, seed: SET(sparsity, updates=1, begin=1.0, end=1.0, seed=seed),
    "SET": lambda sparsity, seed: SET(sparsity, seed=seed),
    "RigL": lambda sparsity, seed: RigL(sparsity, seed=seed),
}


def dynamic() -> Iterator[Run]:
    """Seven ways to train a network at 95% sparsity, all from random weights and for equally many epochs."""
    for seed in SEEDS:
        for method, make in METHODS.items():
            what = {"method": method, "sparsity": 0.0 if method == "dense" else 0.95, "seed": seed}
            start = models.build("lenet300", seed)
            yield what, lambda make=make, start=start, seed=seed: trained(start, DYNAMIC, seed, make(0.95, seed))
        what = {"method": "one-shot, then fine-tuning", "sparsity": 0.95, "seed": seed}
        yield what, lambda seed=seed: _half_and_half(seed)


def _half_and_half(seed: int) -> dict:
    """Half of the epochs dense, the other half pruned; each half with its own rise and fall of the learning rate."""
    model, half = models.build("lenet300", seed), replace(DYNAMIC, epochs=DYNAMIC.epochs // 2)
    first = trained(model, half, seed)
    second = trained(model, half, seed + 100, OneShot(0.95, begin=0.0))
    schedule = f"two runs of {half.epochs} epochs; in the second {second['schedule']}"
    both = {"recipe": asdict(DYNAMIC), "schedule": schedule, "history": first["history"] + second["history"]}
    return second | both


# ------------------------------------------------------------------------------------------ lab 07: getting it back

GRADUAL = Recipe(epochs=24, learning_rate=1e-3)
SHORT = Recipe(epochs=12, learning_rate=1e-3)


def recovery() -> Iterator[Run]:
    """LeNet-300-100 from the shipped baseline: one-shot, iterative and gradual pruning, 12 epochs; gradual also 24."""
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
                        models.baseline("lenet300"), recipe, seed, schedule
                    ),
                )


TUNINGS = {
    "small and constant": lambda epochs: Recipe(epochs=epochs, learning_rate=1e-4, schedule="constant"),
    "rewound": lambda epochs: Recipe(epochs=epochs, learning_rate=3e-3),
}


def tuning() -> Iterator[Run]:
    """One-shot to 95%, then fine-tuned for 1 to 16 epochs, with a small constant rate or with the rate rewound."""
    for seed in SEEDS:
        for method, make in TUNINGS.items():
            for epochs in (1, 2, 4, 8, 16):
                what = {"method": method, "epochs": epochs, "seed": seed}
                yield (
                    what,
                    lambda make=make, epochs=epochs, seed=seed: trained(
                        models.baseline("lenet300"), make(epochs), seed, OneShot(0.95, begin=0.0)
                    ),
                )


TICKET = Recipe(epochs=12)


def tickets() -> Iterator[Run]:
    """The lottery-ticket comparison (Frankle & Carbin 2019) at 95% and 98%, each trained for equally many epochs."""
    for seed in SEEDS:
        for sparsity in (0.95, 0.98):
            for method, start in STARTS.items():
                what = {"method": method, "sparsity": sparsity, "seed": seed}
                yield what, lambda start=start, sparsity=sparsity, seed=seed: _ticket(start, sparsity, seed)


@cache
def _trained_dense(seed: int) -> nn.Module:
    model = models.build("lenet300", seed)
    trained(model, TICKET, seed)
    return model


def _ticket(start: Callable, sparsity: float, seed: int) -> dict:
    model, mask = start(sparsity, seed)
    return trained(model, TICKET, seed, after_step=masks.hold(model, mask) if mask else None) | {
        "kept": sum(int(weight.count_nonzero()) for name, weight in model.named_parameters() if name.endswith("weight"))
    }


def _winning(sparsity: float, seed: int) -> masks.Masks:
    return masks.magnitude_masks(_trained_dense(seed), sparsity)


def _shuffled(sparsity: float, seed: int) -> masks.Masks:
    """As many weights in each layer, elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: mask.flatten()[torch.randperm(mask.numel(), generator=generator)].view_as(mask)
        for name, mask in _winning(sparsity, seed).items()
    }


def _as_small(sparsity: float) -> nn.Module:
    """A dense LeNet with about as many weights: the first layer as wide as can be with 10 units behind it."""
    wanted = (1 - sparsity) * 266_200
    first = int((wanted - 100) // (784 + 10))
    return models.lenet300((first, round((wanted - 784 * first) / (first + 10))))


def _small_dense(sparsity: float, seed: int) -> tuple[nn.Module, None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _as_small(sparsity), None


STARTS: dict[str, Callable] = {
    "ticket: first weights again": lambda s, seed: (models.build("lenet300", seed), _winning(s, seed)),
    "same mask, new random weights": lambda s, seed: (models.build("lenet300", seed + 100), _winning(s, seed)),
    "mask shuffled in each layer": lambda s, seed: (models.build("lenet300", seed), _shuffled(s, seed)),
    "small dense network": _small_dense,
    "trained weights kept (24 epochs in all)": lambda s, seed: (copy.deepcopy(_trained_dense(seed)), _winning(s, seed)),
}

# ------------------------------------------------------------------------------------------- lab 05: kinds of structure

STRUCTURED = training.Recipe(
    epochs=2, batch_size=64, optimizer="sgd", learning_rate=0.02, weight_decay=5e-4, shift=2, bf16=True
)


def structured() -> Iterator[Run]:
    """Half of the ResNet's weights, channels or blocks pruned or removed, then two epochs of fine-tuning. One seed."""
    kinds: dict[str, Callable] = {
        "dense, trained on": lambda net: (net, None),
        "50% of the weights": lambda net: (net, masks.magnitude_masks(net, 0.5)),
        "2:4 pattern": lambda net: (net, masks.nm_masks(net, 2, 4, exclude=["0.weight"])),
        "30% of the channels": lambda net: (surgery.shrink(net, EXAMPLE, score("l1", net, units=True), 0.3), None),
        "50% of the channels": lambda net: (surgery.shrink(net, EXAMPLE, score("l1", net, units=True), 0.5), None),
        "3 of 6 blocks": lambda net: (surgery.remove_blocks(net, EXAMPLE, ["3.1", "4.1", "5.1"]), None),
    }
    for kind, make in kinds.items():
        yield {"kind": kind, "seed": 0}, lambda make=make: _structured(*make(models.baseline("resnet")))


def _structured(model: nn.Module, mask: masks.Masks | None) -> dict:
    if mask:
        masks.apply_masks(model, mask)
    before = training.evaluate(model, pictures().validation)
    after_step = masks.hold(model, mask) if mask else None
    return {"before": round(before, 4)} | trained(model, STRUCTURED, 0, after_step=after_step)


STUDIES: dict[str, Callable[[], Iterator[Run]]] = {
    "dynamic": dynamic,
    "recovery": recovery,
    "tuning": tuning,
    "tickets": tickets,
    "structured": structured,
}


# ------------------------------------------------------------------------------------------------------------ running


def study(name: str) -> None:
    """Do the runs of a study that its file does not hold yet, in order."""
    path = files.data_folder() / "results" / f"{name}.json"
    old = json.loads(path.read_text())["runs"] if path.is_file() else []
    record = {"about": STUDIES[name].__doc__, "command": f"make results ARGS={name}", "torch": torch.__version__}
    due = [what for what, _ in STUDIES[name]()]
    done: list[dict] = []
    for number, (what, work) in enumerate(STUDIES[name]()):
        found = [run for run in old if what.items() <= run.items()]
        if not found:
            started = time.perf_counter()
            found = [what | work() | {"seconds": round(time.perf_counter() - started)}]
            print(f"{name}: {what}: {found[0]['validation_accuracy']:.2%}, {found[0]['seconds']} s", flush=True)
        done += found
        later = [run for run in old if any(each.items() <= run.items() for each in due[number + 1 :])]
        content = record | {"runs": done + later}
        files.write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="study", help=f"of: {', '.join(STUDIES)}; default: all")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if unknown := set(options.names) - set(STUDIES):
        parser.error(f"no such study: {', '.join(sorted(unknown))}. Known: {', '.join(STUDIES)}.")
    torch.set_num_threads(options.threads)
    for each in options.names or STUDIES:
        study(each)
