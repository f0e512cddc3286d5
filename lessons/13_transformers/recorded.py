"""What the studies of lab 13 found, as the second notebook asks for it (`make results
ARGS="text_scores text_refit text_calibration text_tuning"` writes it)."""

from collections.abc import Iterable

from utils import studies

NETWORKS = ("gpt", "gpt_early", "gpt_early_1", "gpt_early_2")
EARLY = NETWORKS[1:]  # trained for a fifth of the time, from three seeds

Costs = dict[str, list[float]]  # rises of the loss by row


def refitted(ways: Iterable[str]) -> Costs:
    """What each way of pruning costs on each of the four networks."""
    return {
        way: [
            run["rises"][way][0]
            for name in NETWORKS
            for run in studies.runs("text_refit", network=name)
        ]
        for way in ways
    }


def scored(way: str, networks: Iterable[str]) -> list[float]:
    """What a score costs on these networks, three draws each."""
    return [
        run["rises"][way][0]
        for name in networks
        for run in studies.runs("text_scores", network=name)
    ]


def by_age(ways: Iterable[str]) -> Costs:
    """What scores cost on the network trained for long, and on those that were not."""
    ages = {"long": NETWORKS[:1], "a fifth of it": EARLY}
    return {
        f"{way}: {age}": scored(way, names)
        for way in ways
        for age, names in ages.items()
    }


def read() -> dict[str, Costs]:
    """What Wanda and SparseGPT cost, by what they read; a number for each draw."""
    runs = studies.runs("text_calibration")
    kinds = dict.fromkeys(str(run["reading"]) for run in runs)
    return {
        way: {
            kind: [run["rises"][way][0] for run in runs if run["reading"] == kind]
            for kind in kinds
        }
        for way in ("Wanda", "SparseGPT")
    }


def tuned() -> Costs:
    """What is lost before and after 120 steps of fine-tuning."""
    return {
        f"{run['method']}, {when}": [run["rises"][when][0]]
        for run in studies.runs("text_tuning")
        for when in ("before", "after")
    }
