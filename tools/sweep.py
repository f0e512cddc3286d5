"""Search for pipelines of the capstone. `make sweep`; `make sweep ARGS=--time` measures
what was found.

What a pipeline may be, and what one trial does, stands in lessons/12_capstone/sweep.py.
Here Optuna chooses, and the workers of tools/cluster.py carry out. Three searches have
as many trials each: TPE, which looks at what came of earlier trials; random choice, its
control; and TPE that is told the budget. Every trial is kept in results/sweep.json,
also one that failed; a command that was stopped goes on from there.

A batch of trials is chosen at once, from all batches before it. So what is chosen
depends neither on the number of workers nor on who is done first.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from tools import cluster
from tools.running import in_a_sentence
from tools.start.files import StartError
from utils import baselines, data, deploy, files, measure
from utils.capstone import BUDGET
from utils.exercises import load

Record = dict[str, Any]
Parameters = dict[str, Any]

lesson = load("12_capstone", "sweep")
TPE, RANDOM, TOLD = SEARCHES = ("TPE", "random", "budget")
COMPLETE, FAILED = "complete", "failed"
ABOUT = (
    "Pipelines that three searches tried: TPE, random choice, and TPE that is told the"
    " budget. Validation accuracy is of the pictures that TPE saw."
)
# fewer bytes, fewer MACs, more accuracy
DIRECTIONS = ("minimize", "minimize", "maximize")


@dataclass(frozen=True)
class Trial:
    """One choice to carry out. Its number is its seed."""

    search: str
    number: int
    parameters: Parameters

    def __str__(self) -> str:
        return f"{self.search} {self.number}"


@dataclass(frozen=True)
class Plan:
    """What is searched, and how.

    space: by name what a parameter may be, as in the lesson.  path: of the kept trials.
    trials: of each search.  batch: of them are chosen at once.  startup: the first ones
    of TPE, chosen at random.  identity: all that the outcome of a trial depends on.
    """

    space: Mapping[str, Any]
    path: Path
    identity: str
    trials: int = 100
    batch: int = 10
    startup: int = 20

    def numbers(self, batch: int) -> range:
        """Of the trials of a batch."""
        return range(batch * self.batch, min((batch + 1) * self.batch, self.trials))

    @property
    def batches(self) -> int:
        """Of each search."""
        return math.ceil(self.trials / self.batch)


Workers = Callable[[list[Trial]], Iterable[tuple[int, Record]]]


# --------------------------------------------------------------------- what is chosen


def distribution(choices: Any) -> BaseDistribution:
    """A range of the space, as Optuna takes it."""
    if isinstance(choices, tuple):
        return CategoricalDistribution(choices)
    if isinstance(choices, range):
        return IntDistribution(choices[0], choices[-1], step=choices.step)
    return FloatDistribution(choices.low, choices.high, log=True)


def chosen(plan: Plan, search: str, before: list[Record], batch: int) -> list[Trial]:
    """The trials of a batch, from those of all batches before it. The same ones each
    time."""
    sampler = _sampler(plan, search, batch)
    study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
    space = {name: distribution(choices) for name, choices in plan.space.items()}
    told = search == TOLD
    study.add_trials([_as_optuna(record, space, told) for record in before])
    return [
        Trial(search, number, study.ask(fixed_distributions=space).params)
        for number in plan.numbers(batch)
    ]


def _sampler(plan: Plan, search: str, batch: int) -> optuna.samplers.BaseSampler:
    """TPE rather than NSGA-II, whose first generation alone is chosen at random and
    takes half of a hundred trials (50, by default). Each batch has random numbers of
    its own."""
    seed = 1000 * SEARCHES.index(search) + batch
    if search == RANDOM:
        return optuna.samplers.RandomSampler(seed)
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=plan.startup, multivariate=True
    )


def _as_optuna(
    record: Record, space: dict[str, BaseDistribution], told: bool
) -> FrozenTrial:
    """A kept trial. Bytes and MACs count by their logarithm, as they do for points.
    told: with what it lacks to the budget."""
    about: dict[str, Any] = {"params": record["parameters"], "distributions": space}
    if record["state"] != COMPLETE:
        return create_trial(state=TrialState.FAIL, **about)
    sizes = [math.log2(record[name]) for name in ("bytes", "macs")]
    accuracy = record["validation_accuracy"]
    if told:
        about["constraints"] = {
            "halvings of the bytes": sizes[0] - math.log2(BUDGET.bytes),
            "points of accuracy": 100 * (BUDGET.accuracy - accuracy),
        }
    return create_trial(values=[*sizes, accuracy], **about)


# ----------------------------------------------------------------------- what is kept


def read(plan: Plan) -> list[Record]:
    """The kept trials.

    Raises:
        DamagedFileError: the file is damaged.
        StartError: they are of another search.
    """
    again = f"move {plan.path.name} away to begin anew."
    try:
        content = files.read_sealed(plan.path, f"`git checkout -- lessons`, or {again}")
    except files.MissingFileError:
        return []
    if content.get("identity") != plan.identity:
        raise StartError(
            f"{plan.path} keeps trials of another space, recipe or network than today,"
            f" and nothing can be added to them: {again}"
        )
    return content["runs"]


def write(plan: Plan, records: Iterable[Record]) -> None:
    """All trials, in order."""
    order = sorted(
        records, key=lambda each: (SEARCHES.index(each["search"]), each["number"])
    )
    content = {
        "about": ABOUT,
        "command": "make sweep",
        "optuna": optuna.__version__,
        "identity": plan.identity,
        "runs": order,
    }
    files.write_atomically(plan.path, files.sealed(plan.path.name, content))


def go_on(plan: Plan, workers: Workers) -> list[Record]:
    """Carry out what is missing, a batch of each search in turn; all trials."""
    records = read(plan)
    for batch in range(plan.batches):
        for search in SEARCHES:
            for record in missing(plan, search, records, batch, workers):
                records.append(record)
                write(plan, records)
    return records


def missing(
    plan: Plan, search: str, records: list[Record], batch: int, workers: Workers
) -> Iterator[Record]:
    """What comes of those trials of a batch that are not kept yet."""
    own = {each["number"]: each for each in records if each["search"] == search}
    first = plan.numbers(batch)[0]
    before = [own[number] for number in range(first)]
    if len(own) >= first + len(plan.numbers(batch)):
        return
    trials = chosen(plan, search, before, batch)
    for trial in trials:
        there = own.get(trial.number)
        if there is not None and not same(there["parameters"], trial.parameters):
            raise StartError(
                f"{plan.path} keeps another trial {trial} than Optuna"
                f" {optuna.__version__} chooses: go on with the version that the file"
                " names."
            )
    due = [trial for trial in trials if trial.number not in own]
    for place, found in workers(due):
        trial = due[place]
        about = {"search": search, "number": trial.number, "seed": trial.number}
        yield about | {"parameters": trial.parameters} | found


def same(one: Parameters, other: Parameters) -> bool:
    """Whether two choices are one, but for the last digits of a continuous number,
    which differ between processors."""
    return one.keys() == other.keys() and all(
        math.isclose(value, other[name], rel_tol=1e-6)
        if isinstance(value, float)
        else value == other[name]
        for name, value in one.items()
    )


# -------------------------------------------------------------------------- a trial


def attempt(trial: Trial) -> Record:
    """Carry out a trial, in a worker; what came of it, with what it cost. That it
    failed is an outcome, too."""
    started, worked = time.perf_counter(), time.process_time()
    pipeline = lesson.Pipeline.of(trial.parameters)
    with tempfile.TemporaryDirectory() as folder, measure.pinned(1):
        path = Path(folder) / "network.onnx"
        try:
            found = lesson.carry_out(pipeline, trial.number, data.load(), path)
        except Exception as error:  # noqa: BLE001 - whatever a pipeline does wrong
            found = {"state": FAILED, "error": f"{type(error).__name__}: {error}"[:300]}
    return {
        "state": COMPLETE,
        **found,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - worked, 1),
        "torch": torch.__version__,
    }


def plan_of_the_lesson() -> Plan:
    """The search of lab 12."""
    starts = [name for name in lesson.SPACE["start"] if name in baselines.BASELINES]
    depends = {
        "space": {name: repr(choices) for name, choices in lesson.SPACE.items()},
        "recipe": [repr(lesson.RECIPE), lesson.ROUND, lesson.CHOOSING],
        "networks": [baselines.baseline_facts(name)["sha256"] for name in starts],
        "pictures": data.PUBLISHED,
    }
    identity = sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]
    return Plan(lesson.SPACE, lesson.RESULTS / "sweep.json", identity)


def sentence(trial: Trial, found: Record) -> str:
    """What came of a trial, in a line."""
    if found["state"] == FAILED:
        return f"{trial}: failed: {found['error']}"
    return (
        f"{trial}: {found['bytes']:,} bytes, {found['macs'] / 1e6:.1f} million MACs,"
        f" {found['validation_accuracy']:.2%}, {found['seconds']} s"
    )


# -------------------------------------------------------------------------- the front

AGAIN = 1000  # added to a trial's seed when it is carried out a second time
ROUNDS = 25  # of timing


def measured_front(records: list[Record], folder: Path) -> list[Record]:
    """The members of the front that somebody would look at: made again, to the same
    file if the machine is the same; made from another seed; and timed beside the dense
    network, the reference, and one of the same widths that stores floats."""
    front = [
        each
        for each in lesson.front(records)
        if each["validation_accuracy"] >= lesson.SHOWN
    ]
    pictures = data.load()
    found = {}
    with measure.pinned(1):
        for each in front:
            name = f"{each['search']} {each['number']}"
            path = folder / f"{name}.onnx"
            found[path] = made_twice(each, path)
            in_floats(each, floats_of(path))
            print(f"{name}: made again", flush=True)
        found[folder / "reference.onnx"] = reference(folder / "reference.onnx")
        models = {"dense": baselines.baseline("vgg")} | {
            str(path): deploy.Session(path) for path in folder.glob("*.onnx")
        }
        first = pictures.validation.images[:1]
        times = measure.latency(models, first, rounds=ROUNDS, shortest=0.03)
    return [record | timed(path, times) for path, record in found.items()]


def timed(path: Path, times: Mapping[str, measure.Timing]) -> Record:
    """The speedup of a file, and of the one beside it that stores floats."""
    floats = times.get(str(floats_of(path)))
    return speedup(times[str(path)]) | ({"floats": speedup(floats)} if floats else {})


def speedup(time: measure.Timing) -> Record:
    """How many times as fast as the dense network, with quartiles."""
    low, high = time.speedup_quartiles
    return {
        "speedup": round(time.speedup, 2),
        "speedup_quartiles": [round(low, 2), round(high, 2)],
    }


def floats_of(path: Path) -> Path:
    """Where the file lies that stores floats."""
    return path.with_name(f"{path.stem} in floats.onnx")


def in_floats(record: Record, path: Path) -> None:
    """A network of the same widths, trained in the same way but for its roundings, into
    a file that stores floats."""
    pipeline = replace(lesson.Pipeline.of(record["parameters"]), bits=32)
    lesson.carry_out(pipeline, record["seed"], data.load(), path)


def made_twice(record: Record, path: Path) -> Record:
    """A kept trial carried out again, into a file, and from another seed."""
    pipeline = lesson.Pipeline.of(record["parameters"])
    names = ("bytes", "validation_accuracy", "held_back_accuracy")
    other = lesson.carry_out(pipeline, record["seed"] + AGAIN, data.load(), path)
    again = lesson.carry_out(pipeline, record["seed"], data.load(), path)
    return {
        "search": record["search"],
        "number": record["number"],
        "state": COMPLETE,
        **again,
        "as_kept": all(again[name] == record[name] for name in names),
        "other_seed": {name: other[name] for name in names},
    }


def reference(path: Path) -> Record:
    """The course's own pipeline."""
    train, validation, _ = data.load()
    load("12_capstone").my_pipeline(train, validation, path)
    return {
        "search": "reference",
        "number": 0,
        "state": COMPLETE,
        "bytes": path.stat().st_size,
        "macs": measure.macs(baselines.baseline("vgg_thin"), train.images[:1]),
        **lesson.accuracies(path, validation),
    }


def write_front(plan: Plan) -> None:
    """Measure the front, and keep what was found beside the trials."""
    records = read(plan)
    if not lesson.front(records):
        raise StartError("There is no trial yet: run `make sweep` first.")
    path = plan.path.with_name("sweep_front.json")
    with tempfile.TemporaryDirectory() as folder:
        runs = measured_front(records, Path(folder))
    content = {
        "about": "The front of all trials in bytes and accuracy, made again, made from"
        " another seed, and timed beside the dense VGG in PyTorch, and beside a network"
        " of the same widths in floats: batch 1, one thread, in turn.",
        "command": "make sweep ARGS=--time",
        "identity": plan.identity,
        "runs": runs,
    }
    files.write_atomically(path, files.sealed(path.name, content))
    print(table(runs))


def table(runs: list[Record]) -> str:
    """What was measured of the front, in rows."""
    rows = [f"{'trial':<14}{'bytes':>9}{'seen':>9}{'held back':>11}{'speedup':>9}"]
    rows += [
        f"{each['search'] + ' ' + str(each['number']):<14}{each['bytes']:>9,}"
        f"{each['validation_accuracy']:>9.2%}{each['held_back_accuracy']:>11.2%}"
        f"{each['speedup']:>8.1f}x"
        for each in runs
    ]
    return "\n".join(rows)


def summary(records: list[Record]) -> str:
    """The front, and what all trials cost."""
    rows = [
        f"{each['search']} {each['number']}: {each['bytes']:,} bytes,"
        f" {each['validation_accuracy']:.2%}"
        for each in lesson.front(records)
    ]
    hours = sum(each["cpu_seconds"] for each in records) / 3600
    failed = sum(each["state"] == FAILED for each in records)
    cost = f"{len(records)} trials, {failed} failed, {hours:.2f} hours of one core"
    return "\n".join(["The front:", *rows, cost])


def search(plan: Plan, options: argparse.Namespace) -> list[Record]:
    """Carry out what is missing, by workers that are started only if something is."""
    records = read(plan)
    if len(records) == len(SEARCHES) * plan.trials:
        return records
    with cluster.connected(
        options.workers, cluster.asked_scheduler(), trusted=options.trusted_network
    ) as client:

        def workers(trials: list[Trial]) -> Iterator[tuple[int, Record]]:
            for place, found in cluster.results_of(client, attempt, trials):
                print(sentence(trials[place], found), flush=True)
                yield place, found

        return go_on(plan, workers)


def main(arguments: list[str] | None = None) -> None:
    """Go on with all searches, or measure what they found; what goes wrong in a known
    way is one sentence."""
    options, plan = _options(arguments), plan_of_the_lesson()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with in_a_sentence():
        if options.time:
            write_front(plan)
        else:
            print(summary(search(plan, options)))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--time",
        action="store_true",
        help="measure the front of the kept trials, on a quiet machine",
    )
    cluster.add_options(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
