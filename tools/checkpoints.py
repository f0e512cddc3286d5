"""Train the baselines with the course's own `fit` and record what came out. `make
checkpoints`.

One network: `python tools/checkpoints.py lenet300`. The test set is opened once a
    network, after training.
"""

import argparse
import time
from dataclasses import asdict

import torch
from torch import nn

from utils import baselines, data, files, surgery, training
from utils.arguments import one_of
from utils.baselines import BASELINES
from utils.distillation import Teacher
from utils.layers import prunable
from utils.scores import score


def train(name: str, threads: int, first_stage: int = 0) -> None:
    """Train one network and write data/baselines/<name>.safetensors and its entry in
    baselines.json.

    Args:
        first_stage: go on from the weights and the record there, with this stage of the
            recipe (0: from scratch).
    """
    torch.set_num_threads(threads)
    pictures = data.load()
    model = baselines.baseline(name) if first_stage else start(name)
    stages = (
        baselines.baseline_facts(name)["stages"][:first_stage] if first_stage else []
    )
    for number in range(first_stage, len(BASELINES[name].stages)):
        stages.append(
            _train_stage(name, number, model, pictures) | {"threads": threads}
        )
    _keep(name, model, stages, pictures)


def _lesson(name: str, stage: int) -> training.Loss | None:
    """The teacher of a stage; None for the labels alone."""
    made = BASELINES[name]
    if made.teacher is None:
        return None
    teacher = baselines.baseline(made.teacher)
    return Teacher(teacher, temperature=made.temperatures[stage])


def _keep(name: str, model: nn.Module, stages: list[dict], pictures: data.Data) -> None:
    """Write the weights and the record; opens the test set."""
    content = baselines.to_bytes(model)
    folder = files.data_folder() / "baselines"
    files.write_atomically(folder / f"{name}.safetensors", content)
    facts = {
        "sha256": files.sha256(folder / f"{name}.safetensors"),
        "bytes": len(content),
        "parameters": sum(p.numel() for p in model.parameters()),
        "validation_accuracy": round(training.evaluate(model, pictures.validation), 4),
        "test_accuracy": round(training.evaluate(model, pictures.test), 4),
        "torch": torch.__version__,
        "stages": stages,
    }
    _record(name, facts)
    seconds = sum(stage["seconds"] for stage in stages)
    print(
        f"{name}: test {facts['test_accuracy']:.2%}, validation"
        f" {facts['validation_accuracy']:.2%}, {seconds} s"
    )


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


def _train_stage(name: str, number: int, model: nn.Module, pictures: data.Data) -> dict:
    """Train by stage `number` of the network's recipe; its record."""
    recipe, seed = BASELINES[name].stages[number], BASELINES[name].seed + number
    loss = _lesson(name, number)
    started = time.perf_counter()
    history = training.fit(
        model,
        pictures.train,
        recipe,
        validation=pictures.validation,
        seed=seed,
        loss=loss,
    )
    return {
        "recipe": asdict(recipe),
        "loss": repr(loss or training.CrossEntropy()),
        "seed": seed,
        "seconds": round(time.perf_counter() - started),
        "history": {
            key: [round(v, 4) for v in values]
            for key, values in history.as_dict().items()
        },
    }


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
