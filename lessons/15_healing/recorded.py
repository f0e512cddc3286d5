"""What the study of lab 15 found, as the lab asks for it (`make results ARGS=healing`
writes it)."""

from statistics import mean
from typing import Any

from utils import studies
from utils.exercises import load

shapes = load("15_healing", "shapes")
_, NARROW, SHALLOW = shapes.SHAPES
HALVES = (NARROW, SHALLOW)
LENGTHS = shapes.LENGTHS
STEPS = LENGTHS[0]


def runs(
    way: str,
    *,
    shape: str = NARROW,
    steps: int = STEPS,
    network: str = "gpt",
    rate: float | None = None,
) -> list[dict]:
    """The runs of one setting, a seed each."""
    where = {"network": network, "shape": shape, "way": way, "steps": steps}
    return studies.runs("healing", **where, rate=rate or shapes.rate_of(way))


def losses(way: str, **where: Any) -> list[float]:
    """The validation loss of each seed."""
    return [run["validation_loss"] for run in runs(way, **where)]


def gains(way: str, than: str = "labels alone", **where: Any) -> list[float]:
    """What a way gained on another with each seed that both have: same windows, same
    order."""
    before, after = (
        {run["seed"]: run["validation_loss"] for run in runs(each, **where)}
        for each in (than, way)
    )
    return [before[seed] - after[seed] for seed in sorted(before.keys() & after.keys())]


def fact(entry: str, network: str = "gpt", shape: str = "dense") -> Any:
    """What the study noted of a network that was not healed: a shipped one, or one that
    was cut."""
    where = {"network": network, "shape": shape, "way": "not healed"}
    (run,) = studies.runs("healing", **where)
    return run[entry]


def won(way: str) -> float:
    """What a way won back of what the cut cost, nats a piece; mean of the seeds."""
    return fact("validation_loss", shape=NARROW) - mean(losses(way))


def rounding(name: str) -> tuple[float, float]:
    """What 8 and 4 bits for all weights cost the dense network, the cut one, the healed
    one or gpt_small, nats a piece."""
    found = {
        "dense": lambda: fact("bits"),
        "cut": lambda: fact("bits", shape=NARROW),
        "healed": lambda: runs("taught")[0]["bits"],
        "gpt_small": lambda: fact("bits", "gpt_small"),
    }[name]()
    return found["8, 8"] - found["32, 32"], found["4, 4"] - found["32, 32"]


def payers(way: str) -> dict[str, list[tuple[float, float]]]:
    """Of each group of places how much more the healed network loses than networks that
    were never pruned, `gpt_early` and `gpt_small`, mixed so that their mean loss is the
    same: mean, and standard error over windows, for each seed.

    The error is that of the difference to `gpt_early`, window by window.
    """
    one, two = (fact("groups", name) for name in ("gpt_early", "gpt_small"))
    everywhere = "all places"
    found: dict[str, list[tuple[float, float]]] = {group: [] for group in GROUPS}
    for run in runs(way):
        own = run["groups"]
        share = own[everywhere] - one[everywhere]
        share /= two[everywhere] - one[everywhere]
        for group in GROUPS:
            mixed = one[group] + share * (two[group] - one[group])
            found[group].append((own[group] - mixed, run["paired"][group][1]))
    return found


def lost(group: str) -> dict[str, float]:
    """What the cut network, and what the healed ones lose more than the dense one on a
    group of places, nats a piece; mean of the seeds."""
    dense = fact("groups")[group]
    found = {"cut": fact("groups", shape=NARROW)[group]}
    for way in ("labels alone", "taught"):
        found[way] = mean(run["groups"][group] for run in runs(way))
    return {name: value - dense for name, value in found.items()}


GROUPS = (
    "all places",
    "rarest fifth",
    "rare",
    "middle",
    "frequent",
    "most frequent fifth",
    "places 1 to 16",
    "129 to 256",
    "rare, seen before",
    "names",
    "the novel kept out",
)


def ways() -> dict[str, list[float]]:
    """The validation loss of each seed, by what was done in 120 steps."""
    return {
        "cut, not healed": [fact("validation_loss", shape=NARROW)],
        **{way: losses(way) for way in ("taught", "labels alone", "by lot")},
        "from scratch": losses("from scratch"),
        "dense, trained on": losses("labels alone", shape="dense"),
    }


TOLD = {
    "the teacher's answer": "taught",
    "where it is unsure": "unsure",
    "where it is sure": "sure",
    "others shuffled": "shuffled",
    "others by frequency": "frequencies",
}


def told() -> dict[str, list[float]]:
    """What the network was told beside the labels: what each brought against labels
    alone, nats a piece, each seed."""
    return {words: gains(way) for words, way in TOLD.items()}
