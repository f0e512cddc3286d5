"""A network with its data: what the explorer prunes, and what can be counted and
evaluated of the result."""

import copy
import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from utils import data, measure, surgery
from utils.baselines import baseline, to_bytes
from utils.data import sample_batches
from utils.explorer import recorded
from utils.explorer.admission import admitted, check_answers, check_data, refusing
from utils.explorer.guarded import guarded_score, listed
from utils.explorer.state import NO_ANSWER, Controls, State
from utils.layers import Weight, lay_out, prunable, weights
from utils.masks import LayerSparsity, hold
from utils.scores import SCORES, UNIT_SCORES, Scores
from utils.training import Recipe, fit_in_steps, predict_logits

OWN = "your network"
FIRST_PICTURES = 2000  # pictures that the first estimate rests on, at most
FIRST_WORK = 3e9  # MACs that it may take: 40 to 80 ms on two cores
# MACs (forward, dense) of a short fine-tuning: 10 to 20 s for the convolutional
# networks
TUNE_WORK = 2e11
# MACs of one picture from which a network counts as heavy: fewer pictures for scores
HEAVY = 5e6


class Subject:
    """A network, its data and everything that is computed of them once.

    Args:
        name: of the course's network; of your own, anything.
        model: your own network; None takes the course's.
        own: data to train, score and validate on; None takes Fashion-MNIST.
        pictures: of the validation set, at most, that accuracies rest on.
    Raises:
        ValueError: a network with nothing to prune, one that cannot take the pictures,
            or data that do not fit.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module | None = None,
        own: data.Data | None = None,
        pictures: int = 5000,
    ) -> None:
        if own is not None:
            check_data(own)
        splits = data.load() if own is None else own
        self.name = name
        self.recorded = model is None  # only of the course's networks
        self.dense = baseline(name) if model is None else admitted(model, splits)
        self.outputs = check_answers(self.dense, splits)
        laid_out(self.dense, torch.channels_last)  # faster convolutions
        self.train, self.validation = splits.train, splits.validation[:pictures]
        self.images = self.validation.images.contiguous(
            memory_format=torch.channels_last
        )
        self.labels = self.validation.labels.numpy().astype(np.uint8)
        self.example = self.validation.images[:1]
        highest = max(int(self.train.labels.max()), int(splits.validation.labels.max()))
        numbers = [str(number) for number in range(highest + 1)]
        self.classes: Sequence[str] = data.CLASSES if own is None else numbers
        with refusing(self.dense, "counted"):
            self.macs = measure.macs(self.dense, self.example)
        with refusing(self.dense, "saved"):
            self.saved = measure.file_bytes(self.dense)
        self.heavy = self.macs > HEAVY
        size = 64 if self.heavy else 256
        count = max(1, min(4, len(self.train) // size))
        self.batches = sample_batches(self.train, count, min(size, len(self.train)))
        self._kept: dict[int, data.Split] = {}
        # the function, what it gave, and what is to be said of it
        self._scores: dict[tuple[str, bool], tuple[object, Scores, str]] = {}

    @functools.cached_property
    def prunable_part(self) -> float:
        """The fraction of the network's weights that can be pruned, 0..1."""
        sizes = [(w.tensor.numel(), w.why_not) for w in self._weights()]
        left = sum(size for size, why_not in sizes if why_not)
        return 1 - left / sum(size for size, _ in sizes)

    @functools.cached_property
    def reach(self) -> str:
        """Which weights cannot be pruned, and how many can, in one sentence; empty if
        all can."""
        left = [
            f"{weight.name} ({type(next(iter(weight.layers.values()))).__name__})"
            for weight in self._weights()
            if weight.why_not
        ]
        if not left:
            return ""
        part = min(self.prunable_part, 0.999)  # not 100%, however few are left
        return (
            f"Of the network's weights {part:.1%} can be pruned, and 'weights left' is"
            f" of these alone: not of {listed(left)}."
        )

    def _weights(self) -> list[Weight]:
        return list(weights(self.dense).values())

    @functools.cached_property
    def blocks(self) -> list[str]:
        """The blocks that can leave."""
        return surgery.removable_blocks(self.dense, self.example)

    @functools.cached_property
    def block_losses(self) -> dict[str, float]:
        """How much the loss rises when each of them leaves alone."""
        return surgery.block_losses(self.dense, self.blocks, self.batches)

    def scores(self, name: str, *, units: bool) -> Scores:
        """A score of the dense network, computed once; anew where another function has
        taken its name."""
        rule = (UNIT_SCORES if units else SCORES).get(name)
        known = self._scores.get((name, units))
        if known is None or known[0] is not rule:
            found = guarded_score(name, self.dense, self.batches, units=units)
            known = self._scores[name, units] = rule, *found
        return known[1]

    def has_score(self, name: str, *, units: bool) -> bool:
        """Whether that score has been computed before."""
        return (name, units) in self._scores

    def score_remark(self, name: str, *, units: bool) -> str:
        """What is to be said of that score once it is computed; mostly empty."""
        return self._scores[name, units][2] if self.has_score(name, units=units) else ""

    # ------------------------------------------------------------------------ computing

    def first_look(self, controls: Controls, model: nn.Module, tuned: int = 0) -> State:
        """What can be said at once: everything counted, and an accuracy that rests on
        the first pictures.

        Where the very same weights were evaluated before (`recorded`), it rests on all
        of them.
        """
        content = to_bytes(model)
        macs = measure.macs(model, self.example, nonzero=True)
        layers = self._layers(model)
        state = State(
            controls,
            b"",
            0.0,
            weights=layers[-1].kept / layers[-1].weights,
            macs=macs / self.macs,
            saved=len(content) / self.saved,
            layers=layers,
            tuned=tuned,
        )
        if self.recorded and (known := recorded.predictions(content)):
            return self.with_predictions(state, known[: len(self.validation)])
        return self.with_predictions(state, self.predict(model, 0, self.first(state)))

    def first(self, state: State) -> int:
        """Pictures that a first estimate of the network of this state rests on."""
        # zeros take as long as other weights; only smaller tensors take less
        macs = self.macs * (state.macs if state.saved < 1 else 1)
        work = FIRST_WORK / max(1, macs)
        return int(min(len(self.validation), FIRST_PICTURES, max(16, work)))

    def refine(self, state: State, model: nn.Module) -> Iterator[State]:
        """The state with more and more pictures, until all are in."""
        whole = len(self.validation)
        step = whole if state.pictures == whole else self.first(state)
        while state.pictures < whole:
            more = self.predict(model, state.pictures, state.pictures + step)
            state = self.with_predictions(state, state.predicted + more)
            yield state

    def predict(self, model: nn.Module, start: int, stop: int) -> bytes:
        """The class of each of these validation pictures, one byte each; NO_ANSWER
        where an output is NaN.

        Raises:
            ValueError: the network cannot take them, or puts out no `[pictures,
                classes]`.
        """
        images = self.images[start:stop]
        logits = predict_logits(model, images, batch_size=64 if self.heavy else 1000)
        if logits.dim() != 2 or logits.shape != (len(images), self.outputs):
            raise ValueError(
                f"model puts out {list(logits.shape)} for {len(images)} pictures; it"
                f" must be {[len(images), self.outputs]}, as for the first one."
            )
        answers = logits.argmax(1).masked_fill(logits.isnan().any(1), NO_ANSWER)
        return answers.to(torch.uint8).numpy().tobytes()

    def with_predictions(self, state: State, predicted: bytes) -> State:
        """The state with its accuracy on the first pictures."""
        right = np.frombuffer(predicted, np.uint8) == self.labels[: len(predicted)]
        return replace(state, predicted=predicted, accuracy=float(right.mean()))

    def race(self, model: nn.Module, *, zeros: bool) -> measure.Race:
        """Dense and pruned network on one picture, one thread; where there are zeros,
        also the product without."""
        plain = {"dense": self.dense, "pruned": model}
        models = {
            name: laid_out(copy.deepcopy(each), torch.contiguous_format)
            for name, each in plain.items()
        }
        if zeros:
            models["csr"] = measure.with_sparse_layers(models["pruned"])
        return measure.Race(models, self.example, shortest=5e-4)

    def with_times(self, state: State, race: measure.Race) -> State:
        """The state with the times of the race, as fractions of the dense network's."""
        timings = race.timings()
        pruned = timings["pruned"]
        state = replace(
            state, time=pruned.relative, time_quartiles=pruned.relative_quartiles
        )
        if "csr" not in timings:
            return state
        return replace(
            state,
            csr=timings["csr"].relative,
            csr_quartiles=timings["csr"].relative_quartiles,
        )

    def tune(self, model: nn.Module, *, run: int, zeros: bool) -> Iterator[float]:
        """A short real fine-tuning of `model`, in place, a step at a time: gives the
        fraction done.

        Args:
            run: another number draws other pictures.
            zeros: whether the weights that are zero stay it.
        """
        train = self._kept.get(run) or self._drawn(run)
        keep = None
        if zeros:
            keep = hold(
                model, {name: weight != 0 for name, weight in prunable(model).items()}
            )
        yield from fit_in_steps(model, train, self._recipe(), seed=run, after_step=keep)
        laid_out(model, torch.channels_last)

    def _drawn(self, run: int) -> data.Split:
        """The training pictures of a short fine-tuning, drawn anew."""
        generator = torch.Generator().manual_seed(run)
        order = torch.randperm(len(self.train), generator=generator)
        return self.train[order[: self.tune_pictures]]

    def keep_drawn(self, run: int) -> None:
        """Draw the pictures of that fine-tuning now and keep them (up to 172 MB), for
        processes that share this one's memory."""
        self._kept[run] = self._drawn(run)

    @property
    def tune_pictures(self) -> int:
        """Training pictures of a short fine-tuning."""
        return int(min(len(self.train), max(1, TUNE_WORK / self.macs)))

    def _recipe(self) -> Recipe:
        if self.heavy:
            return Recipe(
                epochs=1,
                batch_size=64,
                optimizer="sgd",
                learning_rate=0.02,
                weight_decay=5e-4,
            )
        return Recipe(epochs=1, learning_rate=2e-3)

    def _layers(self, model: nn.Module) -> tuple[LayerSparsity, ...]:
        """What is left of each layer of the dense network; nothing of one that has
        left."""
        left = prunable(model)
        rows = [
            LayerSparsity(
                name,
                weight.numel(),
                int(left[name].count_nonzero()) if name in left else 0,
            )
            for name, weight in prunable(self.dense).items()
            if weight.numel()
        ]
        return (
            *rows,
            LayerSparsity(
                "all", sum(r.weights for r in rows), sum(r.kept for r in rows)
            ),
        )


def laid_out(model: nn.Module, order: torch.memory_format) -> nn.Module:
    """The network, its weights in this order in memory, in place."""
    lay_out(model, order)
    return model
