"""What the studies of lab 13 found, as the second notebook asks for it (`make results
ARGS="text_scores text_refit text_calibration text_tuning minilm_scores"` writes it; the
last one where MiniLM's package is installed)."""

from collections.abc import Iterable
from statistics import mean

from utils import studies

NETWORKS = ("gpt", "gpt_early", "gpt_early_1", "gpt_early_2")
AT_70 = ("magnitude", "Wanda", "SparseGPT", "magnitude, refitted", "random, refitted")
TWO_OF_FOUR = (
    "magnitude, 2:4",
    "Wanda, 2:4",
    "SparseGPT, 2:4",
    "magnitude, 2:4, refitted",
)
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


def most_of(costs: Iterable[float], others: Iterable[float]) -> float:
    """The largest share that one cost has of the other, network by network."""
    return max(cost / other for cost, other in zip(costs, others, strict=True))


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


def aged(way: str) -> float:
    """What a score costs at least on the network trained for long, over what it costs
    at most on those trained for a fifth of the time."""
    return min(scored(way, NETWORKS[:1])) / max(scored(way, EARLY))


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


def minilm_inputs() -> dict[str, float]:
    """By weight of MiniLM, the largest of its inputs as a multiple of the middle one,
    the mean of three draws of calibration."""
    found = [run["largest_inputs"] for run in studies.runs("minilm_scores")]
    return {name: mean(each[name] for each in found) for name in found[0]}


def minilm_cosines() -> Costs:
    """How near the vectors of sentences stay, by row "score, scope, sparsity"; a number
    for each draw."""
    found = [run["cosines"] for run in studies.runs("minilm_scores")]
    return {row: [each[row][0] for each in found] for row in found[0]}


def minilm_apart() -> float:
    """The mean cosine of two different sentences of the novels to each other."""
    found = [run["cosine_of_two_sentences"] for run in studies.runs("minilm_scores")]
    return mean(found)
