"""When to prune during training: once, in rounds, gradually, or all the time. Built in
lessons/06_dynamic_pruning.

`fit(model, train, recipe, schedule=Cubic(0.95))` calls a schedule three ways: `start`
once, `before_step` when the gradients are there, `after_step` when the weights have
moved. What to prune (`score`) and how much of each layer (`scope`) are told apart from
when: `Cubic(0.95, score="taylor", scope="erdos-renyi")`. A schedule of your own is one
method:

    class Linear(Schedule):
        def update(self, progress):  # 0 < progress <= 1
            return magnitude_masks(self.model, progress * self.sparsity)
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from utils.arguments import fraction as check_fraction
from utils.arguments import one_of, whole
from utils.data import Batches
from utils.layers import parameter, prunable
from utils.masks import (
    SCOPES,
    Masks,
    Pattern,
    as_names,
    check_sparsity,
    hold,
    magnitude_masks,
    masks_from_scores,
    report,
)
from utils.scores import SCORES, score


@dataclass
class Schedule:
    """Updates the masks at `updates` steps evenly spread from `begin` to `end` of the
    run, and holds them between. An object serves one run at a time.

    The first update is at `begin`, the last at `end`; update k of n has progress k/n.
    Zeros that are there when the run begins count: sparsity rises from what it is.

    sparsity: at the end, of the layers not excluded.  begin, end: fractions of the run.
    seed: of what is drawn at random.
    score: which weights matter, a name from `scores.SCORES`; one that needs pictures
        gets those of the step.
    scope: how much of each layer, a name from `masks.SCOPES`.
    exclude: names of layers that keep everything.

    Raises:
        ValueError: a value that makes no sense, or an unknown name.

    >>> Cubic(0.95, score="taylor", end=0.5)  # doctest: +NORMALIZE_WHITESPACE
    Cubic(sparsity=0.95, begin=0.0, end=0.5, updates=50, seed=0, score='taylor',
          scope='global', exclude=())
    """

    sparsity: float
    begin: float = 0.0
    end: float = 0.75
    updates: int = 50
    seed: int = 0
    score: str = "magnitude"
    scope: str = "global"
    exclude: Iterable[str] = ()
    pattern: Pattern | None = field(default=None, init=False, repr=False)
    # sparsity when the run begins
    initial: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        check_fraction("begin", self.begin)
        check_fraction("end", self.end)
        if not 0 <= self.begin <= self.end <= 1:
            raise ValueError(
                f"begin={self.begin!r}, end={self.end!r} must be fractions, 0 <= begin"
                " <= end <= 1."
            )
        whole("updates", self.updates, low=1)
        whole("seed", self.seed, 0, 2**63 - 1)
        one_of("score", self.score, SCORES)
        one_of("scope", self.scope, SCOPES)
        # in the repr, which identifies a run
        self.exclude = tuple(as_names("exclude", self.exclude))

    def update(self, progress: float) -> Masks:
        """The masks from now on. `progress` grows to 1 at the last update; the weights'
        `grad` is there.

        Here: the weights of highest score stay; how many, says `level`.
        """
        return self.prune(self.level(progress))

    def prune(self, sparsity: float) -> Masks:
        """The masks of this score, scope and pattern. What is pruned stays pruned."""
        if self.score == "magnitude":  # without a copy of the weights; zeros are lowest
            return magnitude_masks(
                self.model,
                sparsity,
                scope=self.scope,
                pattern=self.pattern,
                exclude=self.exclude,
            )
        return self.keep_highest(
            {
                name: torch.where(self.masks[name], values, -torch.inf)
                for name, values in self.scored().items()
            },
            sparsity,
        )

    def scored(self) -> dict[str, Tensor]:
        """The score, now, of each weight that can be pruned.

        Raises:
            ValueError: it cannot be computed (`scores.score`), or not for a layer that
                is not excluded.
        """
        found = score(self.score, self.model, self.batches)
        for name in found.left_out:
            if name not in self.exclude:
                raise ValueError(
                    f"score={self.score!r} gives nothing for {name}, which the loss or"
                    f" these pictures do not reach; exclude={name!r} keeps it dense."
                )
        # what is excluded stays, whatever its score
        return {n: found.get(n, mask.float()) for n, mask in self.masks.items()}

    def keep_highest(self, scores: Mapping[str, Tensor], sparsity: float) -> Masks:
        """The masks of these scores by this schedule's scope and pattern."""
        return masks_from_scores(
            scores,
            sparsity,
            scope=self.scope,
            pattern=self.pattern,
            exclude=self.exclude,
        )

    def level(self, progress: float) -> float:
        """The sparsity that is due."""
        raise NotImplementedError("a Schedule needs `update` or `level`.")

    def first_masks(self) -> Masks:
        """The masks before the first update: what is zero stays zero."""
        masks = {name: weight.detach() != 0 for name, weight in self.weights.items()}
        pruned = {n: mask for n, mask in masks.items() if n not in self.exclude}
        self.initial = report(pruned)[-1].sparsity
        if self.initial > self.sparsity + 1e-6:
            raise ValueError(
                f"sparsity={self.sparsity} is below that of the model, which is"
                f" {self.initial:.4f} already."
            )
        return masks

    # ----------------------------------------------------------------- what `fit` calls

    def start(self, model: nn.Module, steps: int) -> None:
        """Begin a run of so many optimizer steps.

        Raises:
            ValueError: the model has nothing to prune, lacks an excluded layer, is
                sparser already, or has a frozen layer that would have to be trained.
        """
        whole("steps", steps, low=1)
        weights = prunable(model)
        for name in self.exclude:
            one_of("exclude", name, weights)
        if not set(weights) - set(self.exclude):
            raise ValueError("there is nothing to prune: every layer is excluded.")
        self.check(model)
        self.model, self.batches, self.proved = model, (), False
        self.kinds = {name: (w.shape, w.dtype) for name, w in weights.items()}
        spacing = (self.end - self.begin) * steps / max(self.updates - 1, 1)
        moments = [
            max(1, round(self.begin * steps + number * spacing))
            for number in range(self.updates)
        ]
        # step -> progress; of updates that fall on one step the last counts
        self.due = {
            step: (number + 1) / self.updates for number, step in enumerate(moments)
        }
        try:
            self.set_masks(self.first_masks())
        except ValueError:
            del self.kinds  # no run has begun
            raise

    def check(self, model: nn.Module) -> None:
        """Refuse a network that this schedule cannot prune, before the run."""

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """What the network has now under the names of the weights to prune.

        Raises:
            ValueError: no run has begun, or a weight is another than it was then.
        """
        if not hasattr(self, "kinds"):
            raise ValueError(f"{self} has not begun; call start(model, steps) first.")
        found = {name: parameter(self.model, name, "masks") for name in self.kinds}
        for name, weight in found.items():
            if (weight.shape, weight.dtype) != self.kinds[name]:
                shape, dtype = self.kinds[name]
                raise ValueError(
                    f"{name} is {weight.dtype} {list(weight.shape)}; when the run began"
                    f" it was {dtype} {list(shape)}."
                )
        return found

    def before_step(self, step: int, batches: Batches = ()) -> None:
        """Update the masks when it is time; then hide the gradients of pruned weights
        from the optimizer.

        Args:
            batches: the pictures of this step, for a score that needs some.
        """
        weights, self.batches = self.weights, batches
        if not self.proved and batches and self.score != "magnitude":
            self.scored()  # what cannot be scored is refused at once, not half-way
        self.proved = True
        if step in self.due:
            self.set_masks(self.update(self.due[step]))
        for name, mask in self.masks.items():
            gradient = weights[name].grad
            if gradient is not None:  # a frozen layer has none
                gradient.mul_(mask)

    def after_step(self) -> None:
        """Set what momentum and weight decay have moved back to zero."""
        self.weights  # noqa: B018 - refuses what has become another
        self._hold()

    def set_masks(self, masks: Masks) -> None:
        """From now on these weights are pruned.

        Raises:
            ValueError: a layer without a mask, or a mask that does not fit.
        """
        weights = self.weights
        missing = [name for name in weights if name not in masks]
        if missing:
            raise ValueError(
                f"the new masks leave out {', '.join(missing)}; give one for each of"
                f" {', '.join(weights)}."
            )
        held = {name: mask.to(weights[name].device) for name, mask in masks.items()}
        self._hold = hold(self.model, held)
        self.masks = held

    def state(self) -> dict[str, Tensor]:
        """All that a resumed run needs beside the weights; tensors by name."""
        self.weights  # noqa: B018 - a run must have begun
        return {f"masks.{name}": mask for name, mask in self.masks.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state()`, after `start`.

        Raises:
            ValueError: it is not that of such a network and schedule; nothing is
                changed then.
        """
        self.check_state(state)
        self.set_masks(_part(state, "masks."))

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Refuse a state that does not fit."""
        own = self.state()
        if set(state) != set(own):
            raise ValueError(
                f"state holds {', '.join(map(str, state)) or 'nothing'}; that of this"
                f" run holds {', '.join(own)}."
            )
        for name, tensor in state.items():
            if (tensor.shape, tensor.dtype) != (own[name].shape, own[name].dtype):
                raise ValueError(
                    f"{name} of the state is {tensor.dtype} {list(tensor.shape)}; it"
                    f" must be {own[name].dtype} {list(own[name].shape)}."
                )


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }


def _refuse_frozen(schedule: Schedule, model: nn.Module, why: str) -> None:
    for name, weight in prunable(model).items():
        if not weight.requires_grad and name not in schedule.exclude:
            raise ValueError(
                f"{name} is frozen: {why}; unfreeze it with requires_grad_(True), or"
                f" exclude={name!r}."
            )


# ------------------------------------------------------- dense first, sparser by and by


@dataclass
class OneShot(Schedule):
    """Everything at once, at `begin` of the run; the rest of it is fine-tuning.

    pattern: as in `masks.masks_from_scores`; `OneShot(0.5, pattern=NM(2, 4))`.
    """

    begin: float = 0.5
    end: float = field(default=0.5, init=False, repr=False)
    updates: int = field(default=1, init=False, repr=False)
    pattern: Pattern | None = None

    def __post_init__(self) -> None:
        self.end = self.begin
        super().__post_init__()

    def check(self, model: nn.Module) -> None:
        if self.pattern is not None:  # refuse a layer that it does not fit
            magnitude_masks(
                model,
                self.sparsity,
                scope=self.scope,
                pattern=self.pattern,
                exclude=self.exclude,
                allow_empty=True,
            )

    def level(self, progress: float) -> float:  # noqa: ARG002 - the same at any time
        return self.sparsity


@dataclass
class Iterative(Schedule):
    """In rounds; each removes the same fraction of what is left, and training goes on
    between (Han et al. 2015).

    >>> schedule = Iterative(0.9, updates=2)
    >>> [round(schedule.level(progress), 4) for progress in (0.5, 1.0)]
    [0.6838, 0.9]
    """

    begin: float = 0.25
    updates: int = 5

    def level(self, progress: float) -> float:
        dense = 1 - self.initial
        return 1 - dense * ((1 - self.sparsity) / dense) ** progress


@dataclass
class Cubic(Schedule):
    """Fast at first, ever slower: `s + (s0 - s) * (1 - progress)**3` (Zhu & Gupta 2017,
    eq. 1). Built in lessons/06_dynamic_pruning (`cubic_sparsity`).

    >>> schedule = Cubic(0.8)
    >>> [round(schedule.level(progress), 4) for progress in (0.0, 0.5, 1.0)]
    [0.0, 0.7, 0.8]
    """

    def level(self, progress: float) -> float:
        return self.sparsity + (self.initial - self.sparsity) * (1 - progress) ** 3


@dataclass
class Movement(Cubic):
    """Keep what grows: the score of a weight is the sum of `-w*g` over the steps (Sanh
    et al. 2020, eq. 5).

    A pruned weight keeps its last value aside, and its score goes on counting; so it
    may come back.
    """

    begin: float = 0.1
    score: str = field(default="magnitude", init=False, repr=False)  # not asked

    def check(self, model: nn.Module) -> None:
        _refuse_frozen(self, model, "the score of a movement needs its gradient")

    def start(self, model: nn.Module, steps: int) -> None:
        super().start(model, steps)
        self.values = {
            name: weight.detach().clone() for name, weight in self.weights.items()
        }
        self.scores = {
            name: torch.zeros_like(weight) for name, weight in self.values.items()
        }

    def before_step(self, step: int, batches: Batches = ()) -> None:
        for name, weight in self.weights.items():
            if weight.grad is not None:  # a frozen layer does not move
                self.scores[name].addcmul_(self.values[name], weight.grad, value=-1)
        super().before_step(step, batches)

    def update(self, progress: float) -> Masks:
        masks = self.keep_highest(self.scores, self.level(progress))
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(self.values[name])
        return masks

    def after_step(self) -> None:
        super().after_step()
        for name, weight in self.weights.items():
            # aside stays what a pruned weight was; a kept one is what it is now
            aside = self.values[name]
            torch.where(self.masks[name], weight.detach(), aside, out=aside)

    def state(self) -> dict[str, Tensor]:
        # copies: each step changes both in place
        return {
            **super().state(),
            **{f"values.{name}": value.clone() for name, value in self.values.items()},
            **{f"scores.{name}": score.clone() for name, score in self.scores.items()},
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        super().load(state)
        copies = {name: tensor.clone() for name, tensor in state.items()}
        self.values, self.scores = _part(copies, "values."), _part(copies, "scores.")


# ----------------------------------------------------------- sparse from the first step


@dataclass
class SparseFromStart(Schedule):
    """As sparse as promised from the first step on; each update drops some weights and
    grows as many elsewhere.

    Where the weights are at first is drawn at random, whatever the model was. 20
    updates in a run of 12 epochs of LeNet are one in 100 steps, as in Evci et al. 2020.
    What grows starts from zero; so a frozen layer is refused, and one that has no
    gradient at an update exchanges nothing.

    fraction: of the kept weights, exchanged at the first update; it falls to zero on
        half a cosine.
    """

    begin: float = 0.05
    updates: int = 20
    score: str = field(default="magnitude", init=False, repr=False)  # the smallest go
    scope: str = "erdos-renyi"
    fraction: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        # neither end: nothing, or everything, would go
        if not check_fraction("fraction", self.fraction, end=False):
            raise ValueError(f"fraction={self.fraction!r} must lie between 0 and 1.")

    def check(self, model: nn.Module) -> None:
        _refuse_frozen(self, model, "what grows there would stay zero")

    def start(self, model: nn.Module, steps: int) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)
        super().start(model, steps)

    def first_masks(self) -> Masks:
        """Drawn at random in each layer; how many, says the scope."""
        draw = {name: self.random_like(w) for name, w in self.weights.items()}
        return self.keep_highest(draw, self.sparsity)

    def update(self, progress: float) -> Masks:
        # half a cosine
        moving = self.fraction * (1 + math.cos(math.pi * progress)) / 2
        return self.masks | {
            name: rewire(weight.detach(), self.masks[name], moving, self.desire(weight))
            for name, weight in self.weights.items()
            if weight.grad is not None  # what grew elsewhere would stay zero
        }

    def desire(self, weight: nn.Parameter) -> Tensor:
        """Where to grow: the largest values win. Of the weight's shape."""
        raise NotImplementedError("SparseFromStart needs `desire`.")

    def random_like(self, weight: Tensor) -> Tensor:
        """Numbers drawn from this schedule's own seed."""
        drawn = torch.rand(weight.shape, generator=self.generator)
        return drawn.to(weight.device)

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "generator": self.generator.get_state()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.check_state(state)
        generator = torch.Generator()
        try:
            generator.set_state(state["generator"])
        except RuntimeError as error:
            raise ValueError(f"generator of the state is none: {error}") from error
        super().load(state)
        self.generator = generator


class SET(SparseFromStart):
    """Sparse evolutionary training: grow anywhere (Mocanu et al. 2018, as compared by
    Evci et al. 2020)."""

    def desire(self, weight: nn.Parameter) -> Tensor:
        return self.random_like(weight)


class RigL(SparseFromStart):
    """Rigging the lottery: grow where the gradient is largest (Evci et al. 2020,
    algorithm 1)."""

    def desire(self, weight: nn.Parameter) -> Tensor:
        if weight.grad is None:
            raise ValueError("RigL grows by the gradient, and a weight has none.")
        return weight.grad.abs()


def rewire(weight: Tensor, mask: Tensor, fraction: float, desire: Tensor) -> Tensor:
    """A new mask with exactly as many weights: the smallest `fraction` of those kept
    go, as many come by `desire`. Built in lessons/06_dynamic_pruning (`exchange`).

    All tensors of one shape; `mask` boolean, True = kept.

    Raises:
        ValueError: other shapes, a fraction outside 0..1, or NaN.

    >>> weight = torch.tensor([3.0, 1.0, 0.0, 0.0])
    >>> rewire(weight, weight != 0, 0.5, desire=torch.tensor([0.0, 0.0, 1.0, 2.0]))
    tensor([ True, False, False,  True])
    """
    fraction = check_fraction("fraction", fraction)
    if mask.dtype != torch.bool or not weight.shape == mask.shape == desire.shape:
        raise ValueError(
            f"mask is {mask.dtype} {list(mask.shape)}, for a weight of"
            f" {list(weight.shape)} and a desire of {list(desire.shape)}; it must be"
            " torch.bool, and all of one shape."
        )
    kept, total = int(mask.count_nonzero()), mask.numel()
    exchanged = round(fraction * kept)
    if exchanged == 0:
        return mask
    size = torch.where(mask, weight.abs(), -1.0)  # what is pruned cannot stay
    stay = _top(size, kept - exchanged, total)
    return stay | _top(torch.where(stay, -torch.inf, desire), exchanged, total)


def _top(values: Tensor, count: int, total: int) -> Tensor:
    if count == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    scores = {"all": values}
    return masks_from_scores(scores, 1 - count / total, allow_empty=True)["all"]
