"""Results that take too long for a lab: made by `make results`, with their seeds and
settings, in data/results/*.json.

A lab says which of its numbers come from here, and runs a part of them again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean

from utils.files import DamagedFileError, data_folder


def runs(name: str, **where: object) -> list[dict]:
    """The recorded runs of one study; only those whose entries equal `where`.

    Raises:
        DamagedFileError: the file is missing or damaged; names it and the repair.
        ValueError: no run is like `where`, or `where` names something that runs do not
            have.
    """
    path = data_folder() / "results" / f"{name}.json"
    repair = f"`git checkout -- data/results`, or `make results ARGS={name}`."
    try:
        everything = [dict(run) for run in json.loads(path.read_text())["runs"]]
        entries = (
            set.intersection(*(set(run) for run in everything)) if everything else set()
        )
    except FileNotFoundError:
        raise DamagedFileError(f"{path} is missing. Repair: {repair}") from None
    except (ValueError, KeyError, TypeError):
        raise DamagedFileError(f"{path} is damaged. Repair: {repair}") from None
    if unknown := where.keys() - entries:
        raise ValueError(
            f"runs of {name} have no {', '.join(sorted(unknown))}. They have:"
            f" {', '.join(sorted(entries))}."
        )
    found = [
        run
        for run in everything
        if all(run[key] == value for key, value in where.items())
    ]
    if not found:
        raise ValueError(f"{name} has no run with {where!r}.")
    return found


@dataclass(frozen=True)
class Spread:
    """The mean over the seeds, and the lowest and highest of them."""

    mean: float
    low: float
    high: float
    seeds: int


def spread(name: str, entry: str = "validation_accuracy", **where: object) -> Spread:
    """Mean, lowest and highest of an entry over the seeds of the runs that are like
    `where`.

    Raises:
        ValueError: no such run or entry, or two runs of one seed: `where` does not
            single out one setting.
    """
    found = runs(name, **where)
    if any(entry not in run for run in found):
        raise ValueError(
            f"entry={entry!r} is not in the runs of {name}. They have:"
            f" {', '.join(found[0])}."
        )
    if len({run["seed"] for run in found}) != len(found):
        raise ValueError(
            f"{where!r} does not single out one setting of {name}: a seed occurs twice."
        )
    values = [run[entry] for run in found]
    return Spread(mean(values), min(values), max(values), len(values))


def bands(spreads: Mapping[object, Spread]) -> tuple[list[float], list[float]]:
    """Lower and upper ends, as `plots.lines(spread=...)` takes them."""
    return [each.low for each in spreads.values()], [
        each.high for each in spreads.values()
    ]
