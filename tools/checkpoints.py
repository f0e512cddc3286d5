"""Train the baselines with the course's own `fit` and record what came out. `make checkpoints`.

One network: `python tools/checkpoints.py lenet300`. The test set is opened once a network, after training.
"""

import argparse
import json
import time
from dataclasses import asdict

import torch

from utils import data, files, models, training


def train(name: str, threads: int, seed: int = 0) -> None:
    """Train one network and write data/baselines/<name>.safetensors and its entry in baselines.json."""
    torch.set_num_threads(threads)
    pictures = data.load()
    model = models.build(name, seed)
    recipe = training.RECIPES[name]
    started = time.perf_counter()
    history = training.fit(model, pictures.train, recipe, validation=pictures.validation, seed=seed)
    seconds = time.perf_counter() - started
    content = models.to_bytes(model)
    folder = files.data_folder() / "baselines"
    files.write_atomically(folder / f"{name}.safetensors", content)
    facts = {
        "sha256": files.sha256(folder / f"{name}.safetensors"),
        "bytes": len(content),
        "parameters": sum(p.numel() for p in model.parameters()),
        "validation_accuracy": round(training.evaluate(model, pictures.validation), 4),
        "test_accuracy": round(training.evaluate(model, pictures.test), 4),
        "seconds": round(seconds),
        "threads": threads,
        "torch": torch.__version__,
        "seed": seed,
        "recipe": asdict(recipe),
        "history": {key: [round(v, 4) for v in values] for key, values in history.as_dict().items()},
    }
    _record(name, facts)
    print(f"{name}: test {facts['test_accuracy']:.2%}, validation {facts['validation_accuracy']:.2%}, {seconds:.0f} s")


def _record(name: str, facts: dict) -> None:
    path = files.data_folder() / "baselines" / "baselines.json"
    everything = json.loads(path.read_text()) if path.is_file() else {}
    everything[name] = facts
    files.write_atomically(path, (json.dumps(everything, indent=1, sort_keys=True) + "\n").encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(models.MODELS), help="networks to train; default: all")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    for each in arguments.names:
        train(each, arguments.threads)
