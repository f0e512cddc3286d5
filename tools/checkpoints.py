"""Train the baselines with the course's own `fit` and record what came out. `make
checkpoints`.

One network: `python tools/checkpoints.py lenet300`. The test set is opened once a
    network, after training.
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from utils import baselines, data, files, generation, surgery, text, training
from utils.arguments import one_of
from utils.baselines import BASELINES
from utils.distillation import Teacher
from utils.layers import prunable
from utils.scores import score

PROMPT = '"I am sure," said Elizabeth'  # a text network goes on from here


def train(name: str, threads: int, first_stage: int = 0) -> None:
    """Train one network and write data/baselines/<name>.safetensors and its entry in
    baselines.json.

    Args:
        first_stage: go on from the weights and the record there, with this stage of the
            recipe (0: from scratch).
    """
    torch.set_num_threads(threads)
    made = BASELINES[one_of("name", name, BASELINES)]
    given = text.load() if made.text else data.load()
    model = baselines.baseline(name) if first_stage else start(name)
    stages = (
        baselines.baseline_facts(name)["stages"][:first_stage] if first_stage else []
    )
    for number in range(first_stage, len(BASELINES[name].stages)):
        stages.append(_train_stage(name, number, model, given) | {"threads": threads})
    _keep(name, model, stages, given)


def _lesson(name: str, stage: int) -> training.Loss | None:
    """The teacher of a stage; None for the labels alone."""
    made = BASELINES[name]
    if made.teacher is None:
        return None
    teacher = baselines.baseline(made.teacher)
    return Teacher(teacher, temperature=made.temperatures[stage])


def _keep(
    name: str, model: nn.Module, stages: list[dict], given: data.Data | text.Texts
) -> None:
    """Write the weights and the record; opens the test set."""
    if BASELINES[name].text:
        model.half().float()  # in place: measured is what is stored
    content = baselines.stored(name, model)
    folder = files.data_folder() / "baselines"
    files.write_atomically(folder / f"{name}.safetensors", content)
    for stage in range(len(stages)):
        _unfinished(name, stage).unlink(missing_ok=True)
    facts = {
        "sha256": files.sha256(folder / f"{name}.safetensors"),
        "bytes": len(content),
        "parameters": sum(p.numel() for p in model.parameters()),
        "validation_accuracy": round(training.evaluate(model, given.validation), 4),
        "test_accuracy": round(training.evaluate(model, given.test), 4),
        "torch": torch.__version__,
        "stages": stages,
    }
    if isinstance(given, text.Texts):
        for part in ("validation", "test", "kept_out"):
            loss = training.losses(model, getattr(given, part)).mean().item()
            facts[f"{part}_loss"] = round(loss, 4)
    _record(name, facts)
    shown = (
        f"{name}: test {facts['test_accuracy']:.2%}, validation"
        f" {facts['validation_accuracy']:.2%}"
    )
    seconds = sum(stage["seconds"] for stage in stages)
    print(f"{shown}, {seconds} s")


def start(name: str) -> nn.Module:
    """Where training begins: random weights, or a trained wider network without the
    filters of smallest L1 norm."""
    made = BASELINES[one_of("name", name, BASELINES)]
    target = baselines.build(name, made.seed)
    if made.start_from is None:
        return target
    wide = baselines.baseline(made.start_from)
    layers = zip(prunable(wide).items(), prunable(target).values(), strict=True)
    ratio = {
        weight: 1 - len(small) / len(large)
        for (weight, large), small in layers
        if len(small) < len(large)
    }
    return surgery.shrink(
        wide, torch.zeros(1, 1, 28, 28), score("l1", wide, units=True), ratio
    )


def _train_stage(
    name: str, number: int, model: nn.Module, given: data.Data | text.Texts
) -> dict:
    """Train by stage `number` of the network's recipe; its record."""
    recipe, seed = BASELINES[name].stages[number], BASELINES[name].seed + number
    loss = _lesson(name, number)
    samples: dict[int, str] = {}  # what it writes, by epoch
    resumed = _unfinished(name, number).is_file()
    started = time.perf_counter()
    steps = training.fit_in_steps(
        model,
        given.train,
        recipe,
        validation=given.validation,
        seed=seed,
        loss=loss,
        checkpoint=_unfinished(name, number),
        progress=True,
    )
    try:
        while True:
            epoch = next(steps) * recipe.epochs
            if BASELINES[name].text and abs(epoch - round(epoch)) < 1e-9:
                samples[round(epoch)] = _sample(model)
    except StopIteration as end:
        history = end.value
    return {
        "recipe": asdict(recipe),
        "loss": repr(loss or training.CrossEntropy()),
        "seed": seed,
        "seconds": round(time.perf_counter() - started),
        "resumed": resumed,  # then the seconds are those of its last part
        "history": {
            key: [round(v, 4) for v in values]
            for key, values in history.as_dict().items()
        },
    } | ({"samples": samples} if samples else {})


def _unfinished(name: str, stage: int) -> Path:
    """Where a run is kept after each epoch: one that was stopped goes on from there."""
    return files.data_folder() / "baselines" / f"{name}-{stage}.unfinished"


def _sample(model: nn.Module) -> str:
    """What the network writes at this moment."""
    words = text.vocabulary()
    added = generation.noise(60, len(words), temperature=0.7, seed=0)
    prompt = words.encode(PROMPT)
    return PROMPT + words.decode(generation.write_plainly(model, prompt, added))


def _record(name: str, facts: dict) -> None:
    path = files.data_folder() / "baselines" / "baselines.json"
    repair = "`git checkout -- data/baselines`."
    everything = files.read_sealed(path, repair) if path.is_file() else {}
    everything = dict(sorted((everything | {name: facts}).items()))
    files.write_atomically(path, files.sealed(path.name, everything))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        default=list(BASELINES),
        help="networks to train; default: all",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--first-stage", type=int, default=0, help="go on with this stage of the recipe"
    )
    arguments = parser.parse_args()
    for each in arguments.names:
        train(each, arguments.threads, first_stage=arguments.first_stage)
