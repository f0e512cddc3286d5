"""What is known of a text network that is pruned along a slider: which weights are left
at each stop, what it writes, its loss, its speed."""

import functools
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from utils import measure, text
from utils.arguments import one_of, whole
from utils.data import Batches, Split
from utils.explorer.guarded import guarded_score
from utils.explorer.kinds import STOPS
from utils.generation import Writer, noise
from utils.layers import copied, prunable
from utils.masks import NM, SCOPES, masked, masks_from_scores
from utils.measure.writing import Writes
from utils.models.gpt import GPT
from utils.scores import SCORES
from utils.training import losses

STOPS = tuple(stop for stop in STOPS if stop <= 0.95)
# a pattern, offered beside the scopes: of each four neighbouring inputs so many stay
PATTERN, GROUP = "n of 4", 4
PATTERN_STOPS = (0.0, 0.25, 0.5, 0.75)
PROMPTS = (
    '"My dear Mr. Bennet," said his lady to him one day,',
    "Emma was sorry; she had",
    "Captain Wentworth was not in the room, and Anne",
)
DENSE = 0.0, "", ""  # what the weights of the dense network depend on
COUNT = 70  # pieces that are written: some 200 characters
SPEED_COUNT = 8  # pieces that are written at once while the time is taken
ROUNDS = 8


@dataclass(frozen=True)
class TextControls:
    """What the learner has chosen. `draw`: the number of the noise; both networks get
    the same."""

    sparsity: float = 0.0
    score: str = "magnitude"
    scope: str = "global"
    prompt: str = PROMPTS[0]
    draw: int = 0

    @property
    def pruning(self) -> tuple[float, str, str]:
        """What the weights depend on."""
        return (self.sparsity, self.score, self.scope) if self.sparsity else DENSE


@dataclass(frozen=True)
class Loss:
    """Of the pruned network, in nats a piece, on so many pieces; `more` than the dense
    one's on the same windows, with half of the 95% interval of that for other
    windows."""

    mean: float
    more: float
    margin: float
    pieces: int
    bits: float  # a character


@dataclass(frozen=True)
class TextState:
    """What the panel shows for some controls.

    prompt: as it was read.  remark: what was changed in it; and of the score.
    dense, pruned: the pieces that each wrote.
    kept, weights: of those that can be pruned.  saved: bytes of all weights in float32.
    packed: if of those that can be pruned only the kept ones are stored, and a bit for
        each place.
    loss, before: of the pruned and the dense network; None until it is evaluated.
    cache: bytes of keys and values of a whole context, of both networks.
    rates: pieces a second of the dense and of the pruned network, timed in turn.
    """

    controls: TextControls
    prompt: str
    remark: str
    dense: tuple[str, ...]
    pruned: tuple[str, ...]
    kept: int
    weights: int
    saved: int
    packed: int
    cache: int
    loss: Loss | None = None
    before: Loss | None = None
    rates: tuple[measure.Rate, measure.Rate] | None = None

    @property
    def same(self) -> int:
        """How many pieces both networks wrote alike before they part."""
        pairs = zip(self.dense, self.pruned, strict=True)
        return next((i for i, (a, b) in enumerate(pairs) if a != b), len(self.dense))


class TextMemory:
    """A text network, what it is evaluated on, and what was found out so far.

    Args:
        model: a GPT of the course's pieces.
        texts: `text.Texts`; the loss rests on `windows` windows of its validation text,
            evenly spaced.
        batches: what scores are computed from.
    Raises:
        ValueError: a network that `Writer` does not know, or of other pieces; too few
            windows.
    """

    def __init__(
        self,
        model: GPT,
        texts: text.Texts,
        batches: Batches,
        *,
        windows: int = 16,
        temperature: float = 0.6,
    ) -> None:
        self.words, self.batches = text.vocabulary(), batches
        self.dense, self.pruned = Writer(model), Writer(model)
        kept = copied(model).eval()
        assert isinstance(kept, GPT)
        self.model = kept
        if self.dense.pieces != len(self.words):
            raise ValueError(
                f"model has {self.dense.pieces} pieces; the course's vocabulary has"
                f" {len(self.words)}."
            )
        images, labels = texts.validation.images, texts.validation.labels
        whole("windows", windows, 2, len(images))
        if images.shape[1] > self.dense.context or self.dense.context <= COUNT:
            raise ValueError(
                f"model looks back on {self.dense.context} pieces; the windows have"
                f" {images.shape[1]}, and {COUNT} are to be written."
            )
        places = torch.linspace(0, len(images) - 1, windows).long()
        self.split = text.Windows(
            images[places], labels[places], labels[places].flatten()
        )
        self.temperature = temperature
        self.sizes = {name: tuple(w.shape) for name, w in prunable(model).items()}
        self._levels: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        self._remarks: dict[str, str] = {}
        # with the function that gave them
        self._scores: dict[str, tuple[object, Mapping[str, Tensor]]] = {}
        self._written: dict[tuple[str, int], Tensor] = {}  # by the dense network
        self._losses: dict[tuple[float, str, str], Tensor] = {}  # [windows]
        self._rates: dict[
            tuple[float, str, str], tuple[measure.Rate, measure.Rate]
        ] = {}
        self._applied: tuple[float, str, str] = DENSE

    # ------------------------------------------------------------------ what is offered

    def scores(self) -> list[str]:
        """Names of the scores; those that were registered since, too."""
        return list(SCORES)

    def scopes(self) -> list[str]:
        """Names of the scopes, and of the pattern."""
        fitting = all(shape[1] % GROUP == 0 for shape in self.sizes.values())
        return [*SCOPES, *([PATTERN] if fitting else [])]

    @staticmethod
    def stops(scope: str) -> tuple[float, ...]:
        """The sparsities of the slider."""
        return PATTERN_STOPS if scope == PATTERN else STOPS

    def check(self, controls: TextControls) -> None:
        """Refuse what is not offered; forget what a score gave that another function
        took the place of.

        Raises:
            ValueError: says what is.
        """
        known = self._scores.get(one_of("score", controls.score, self.scores()))
        if known and known[0] is not SCORES[controls.score]:
            self.forget(controls.score)
        stops = self.stops(one_of("scope", controls.scope, self.scopes()))
        if controls.sparsity not in stops:
            raise ValueError(
                f"sparsity={controls.sparsity!r} is no stop of"
                f" scope={controls.scope!r}. Stops:"
                f" {', '.join(f'{stop:g}' for stop in stops)}."
            )

    def ready(self, controls: TextControls) -> bool:
        """Whether there is no score to be computed first."""
        return not controls.sparsity or (controls.score, controls.scope) in self._levels

    # ------------------------------------------------------------------------ the masks

    def masks(self, controls: TextControls) -> dict[str, np.ndarray]:
        """Those of `masks_from_scores` for these controls; `{}` for the dense network.

        For a score and a scope it is found once how many of the slider's stops each
        weight survives. A mask is then one comparison.
        """
        self.check(controls)
        if not controls.sparsity:
            return {}
        stop = self.stops(controls.scope).index(controls.sparsity)
        levels = self._level(controls.score, controls.scope)
        return {name: level >= stop for name, level in levels.items()}

    def _level(self, score: str, scope: str) -> dict[str, np.ndarray]:
        """For each weight the last stop at which it is there: uint8 of its shape."""
        if (score, scope) not in self._levels:
            found = self._score(score)
            levels = {n: np.zeros(s.shape, np.uint8) for n, s in found.items()}
            for stop in self.stops(scope)[1:]:
                pattern = None if scope != PATTERN else _pattern(stop)
                masks = masks_from_scores(
                    found,
                    stop,
                    scope="layerwise" if pattern else scope,
                    pattern=pattern,
                    allow_empty=True,
                )
                for name, mask in masks.items():
                    levels[name] += mask.numpy()
            self._levels[score, scope] = levels
        return self._levels[score, scope]

    def _score(self, name: str) -> Mapping[str, Tensor]:
        if name not in self._scores:
            found, self._remarks[name] = guarded_score(
                name, self.model, self.batches, units=False
            )
            self._scores[name] = SCORES[name], found
        return self._scores[name][1]

    def forget(self, score: str) -> None:
        """What rests on this score: another function goes by its name now."""
        self._scores.pop(score, None)
        self._levels = {k: v for k, v in self._levels.items() if k[0] != score}
        self._losses = {k: v for k, v in self._losses.items() if k[1] != score}
        self._rates = {k: v for k, v in self._rates.items() if k[1] != score}
        if score in self._applied:
            self.pruned.apply_masks({})
            self._applied = DENSE

    # ------------------------------------------------------------------ what is written

    def look(self, controls: TextControls) -> TextState:
        """What can be shown at once: what both networks write, and what is counted;
        and what is known of the loss and the speed."""
        masks = self.masks(controls)
        self._apply(controls, masks)
        pieces, prompt, remark = self.prompt(controls.prompt)
        added = self._noise(controls.draw)
        pruned = self.pruned.write(pieces, added)
        if (prompt, controls.draw) not in self._written:
            self._written = {(prompt, controls.draw): self.dense.write(pieces, added)}
        dense = self._written[prompt, controls.draw]
        weights = sum(np.prod(shape) for shape in self.sizes.values())
        gone = sum(mask.size - np.count_nonzero(mask) for mask in masks.values())
        saved = 4 * sum(parameter.numel() for parameter in self.model.parameters())
        state = TextState(
            controls,
            prompt,
            " ".join(filter(None, (remark, self._remarks.get(controls.score)))),
            *(tuple(self.words.pieces[i] for i in w.tolist()) for w in (dense, pruned)),
            kept=int(weights - gone),
            weights=int(weights),
            saved=saved,
            packed=int(saved - 4 * gone + -(-weights // 8)) if masks else saved,
            cache=measure.cache_bytes(self.model, self.dense.context),
        )
        return self.known(state)

    def _noise(self, draw: int) -> Tensor:
        return _noise(COUNT, len(self.words), self.temperature, draw)

    def _apply(self, controls: TextControls, masks: Mapping[str, np.ndarray]) -> None:
        if controls.pruning != self._applied:
            self.pruned.apply_masks(masks)
            self._applied = controls.pruning

    def prompt(self, given: str) -> tuple[Tensor, str, str]:
        """The pieces of a prompt, the prompt as it is read, and what was changed."""
        remarks, prompt = [], given.replace("\r\n", "\n")
        if strange := sorted(set(prompt) - self.words.number.keys()):
            prompt = "".join(sign for sign in prompt if sign not in strange)
            remarks.append(
                f"Left out of the prompt, as the novels do not have it:"
                f" {', '.join(map(repr, strange[:5]))}."
            )
        if prompt.endswith(" "):
            prompt = prompt.rstrip(" ")
            remarks.append(
                "The space at the end of the prompt was left out: it belongs to the"
                " next piece."
            )
        if not prompt:
            prompt = "\n"
            remarks.append("The prompt is empty: a paragraph begins.")
        pieces, room = self.words.encode(prompt), self.dense.context + 1 - COUNT
        if len(pieces) > room:
            pieces = pieces[-room:]
            prompt = self.words.decode(pieces)
            remarks.append(f"Only the last {room} pieces of the prompt are read.")
        return pieces, prompt, " ".join(remarks)

    # ---------------------------------------------------------------- what takes longer

    def known(self, state: TextState) -> TextState:
        """The state with the loss and the speed, as far as they are known."""
        pruning = state.controls.pruning
        own, dense = self._losses.get(pruning), self._losses.get(DENSE)
        if own is None or dense is None:
            return replace(state, rates=self._rates.get(pruning))
        return replace(
            state,
            loss=self._loss(own, dense),
            before=self._loss(dense, dense),
            rates=self._rates.get(pruning),
        )

    def _loss(self, own: Tensor, dense: Tensor) -> Loss:
        more, mean = (own - dense).double(), own.double().mean().item()
        error = more.std().item() / len(more) ** 0.5
        bits = text.bits_per_character(mean, self.split)
        pieces = self.split.labels.numel()
        return Loss(mean, more.mean().item(), 1.96 * error, pieces, bits)

    def losses(self, controls: TextControls) -> Generator[None, None, None]:
        """Evaluate the dense network and the pruned one, a window at a time."""
        for wanted in (replace(controls, sparsity=0.0), controls):
            pruning = wanted.pruning
            if pruning not in self._losses:
                masks = {n: torch.from_numpy(m) for n, m in self.masks(wanted).items()}
                model = masked(self.model, masks) if masks else self.model
                found = []
                for image, label in zip(
                    self.split.images, self.split.labels, strict=True
                ):
                    yield
                    window = losses(model, Split(image[None], label[None]))
                    found.append(window.mean())
                self._losses[pruning] = torch.stack(found)

    def speeds(self, controls: TextControls) -> Generator[None, None, None]:
        """Time both networks in turn, a round at a time."""
        if controls.pruning in self._rates:
            return
        masks = self.masks(controls)
        # a writer of its own: the panel's may be pruned otherwise between two rounds
        pruned = Writer(self.model)
        pruned.apply_masks(masks)
        yield
        added = noise(SPEED_COUNT, len(self.words), self.temperature, 0)
        both: dict[str, nn.Module | Writes] = {
            "dense": self.dense,
            "pruned": pruned,
        }
        race = measure.writing_race(both, self.words.encode(PROMPTS[1]), added)
        while race.rounds < ROUNDS:
            yield
            race.round()
        found = measure.rates(race, SPEED_COUNT)
        self._rates[controls.pruning] = found["dense"], found["pruned"]

    def state(self, controls: TextControls) -> TextState:
        """All but the speed, which is measured, not computed."""
        for _ in self.losses(controls):
            pass
        return self.look(controls)

    def curve(self, controls: TextControls) -> dict[float, Loss]:
        """The losses that are known at the slider's stops, other controls as they
        are."""
        dense = self._losses.get(DENSE)
        if dense is None:
            return {}
        places = {
            stop: self._losses.get(replace(controls, sparsity=stop).pruning)
            for stop in self.stops(controls.scope)
        }
        return {
            stop: self._loss(own, dense)
            for stop, own in places.items()
            if own is not None
        }


_noise = functools.lru_cache(maxsize=4)(noise)


def _pattern(stop: float) -> NM:
    return NM(GROUP - round(stop * GROUP), GROUP)
