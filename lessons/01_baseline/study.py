"""The seeds that lab 01 quotes: the same network, trained again and again."""

from collections.abc import Iterator
from dataclasses import dataclass

from utils.studies import Run, Train, Untrained, Work, study
from utils.training import Recipe, predict_logits

SEEDS = range(1, 11)

METHODS = {
    "mirrored": Recipe(epochs=4, batch_size=256, learning_rate=3e-3),
    "not mirrored": Recipe(epochs=4, batch_size=256, learning_rate=3e-3, flip=False),
}


@dataclass(frozen=True)
class Answer:
    """Note the class that the network gives each validation picture: one digit a
    picture."""

    def carry_out(self, work: Work) -> None:
        answers = predict_logits(work.model, work.data.validation.images).argmax(1)
        work.found["answers"] = "".join(map(str, answers.tolist()))


@study
def seeds() -> Iterator[Run]:
    """LeNet-300-100, trained for four epochs with ten seeds: first weights, order of
    the pictures and mirroring differ. Once with and once without mirrored pictures."""
    for method, recipe in METHODS.items():
        for seed in SEEDS:
            yield Run(
                {"method": method, "seed": seed},
                Untrained("lenet300", seed),
                (Train(recipe, seed), Answer()),
            )
