"""Train a network on tensors in memory, and evaluate it. Built in lessons/01_baseline.

No DataLoader: the whole data set is one tensor, a batch is an index into it, and flips
and shifts are done for the whole batch at once. `make bench` prints what that gains.
"""

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from utils import resuming
from utils.arguments import one_of, real, whole
from utils.data import BLACK, Batches, Split
from utils.layers import answer, eval_mode, lay_out, uncompiled
from utils.preflight import (
    all_or_nothing,
    check_classes,
    check_like,
    check_logits,
    check_made,
    check_network,
    check_split,
    check_trainable,
    cross_entropy,
    finite,
)
from utils.text import Windows


@dataclass(frozen=True)
class Recipe:
    """How to train: every hyperparameter in one place.

    epochs: passes over the training set.  batch_size: pictures a step; where the last
        batch would be a single picture, it joins the batch before.
    learning_rate: the peak of the one-cycle schedule (Smith 2018), or the constant rate
        with `schedule="constant"`.  weight_decay: as the optimizer defines it.
    flip: mirror half of the pictures.  shift: move each picture by up to so many
        pixels. Both only for pictures `[n, channels, height, width]`; a window of text
        begins up to `shift` pieces later.
    bf16: bfloat16 autocast where this processor computes it natively (elsewhere it
        would be slower, and is not used).
    """

    epochs: int = 12
    batch_size: int = 256
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    schedule: str = "one-cycle"
    flip: bool = True
    shift: int = 0
    bf16: bool = False

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, low=1)
        whole("batch_size", self.batch_size, low=1)
        whole("shift", self.shift)
        if not (real(self.learning_rate) and 0 < self.learning_rate < math.inf):
            raise ValueError(
                f"learning_rate={self.learning_rate!r} must be greater than 0, and"
                " finite."
            )
        if not (real(self.weight_decay) and 0 <= self.weight_decay < math.inf):
            raise ValueError(
                f"weight_decay={self.weight_decay!r} must be 0 or more, and finite."
            )
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("schedule", self.schedule, ("one-cycle", "constant"))
        for name in ("flip", "bf16"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be True or False."
                )


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": lambda parameters, **options: torch.optim.SGD(
        parameters, momentum=0.9, nesterov=True, **options
    ),
}


@dataclass
class History:
    """What happened in a run, one entry an epoch: mean training loss, validation
    accuracy (0..1) and loss, seconds so far."""

    train_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def as_dict(self) -> dict:
        return asdict(self)


def fit(
    model: nn.Module,
    train: Split,
    recipe: Recipe,
    *,
    progress: bool = True,
    **options: Any,
) -> History:
    """Train `model` in place and leave it in eval mode.

    Frozen weights (`requires_grad` False) stay as they are, and so do the statistics of
    a BatchNorm whose weight and bias are frozen: it works as in eval mode.

    Args:
        validation: evaluated after each epoch when given.
        seed: of the order of the pictures, of their flips and shifts, and of what the
            network draws (dropout); same seed, same machine, same result.
        after_step: called after each optimizer step; `masks.hold` gives one that keeps
            pruned weights at zero.
        schedule: prunes while training (`utils.schedules`).
        loss: what a step makes smaller, by default the cross-entropy;
            `distillation.Teacher` is another.
        checkpoint: a file that keeps the run after each epoch. Where it is there
            already the run goes on from it, to the same result as if it had never been
            interrupted; a finished run is only read. It belongs to this recipe and
            seed, these pictures, this loss, schedule and `after_step`, and this network
            as it is when the run begins.
        progress: show a bar.
    Raises:
        ValueError: pictures, labels or a network that cannot be trained on or with, a
            first step that fails, or a checkpoint of another run; all this leaves the
            network as it was. Later: weights or a loss that are not finite.
        DamagedFileError: the checkpoint is damaged; the network is as it was.

    >>> train = Split(torch.randn(40, 1, 28, 28), torch.randint(10, (40,)))
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> history = fit(network, train, Recipe(epochs=2), progress=False)
    >>> len(history.train_loss), network.training
    (2, False)
    """
    steps = fit_in_steps(model, train, recipe, progress=progress, **options)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def fit_in_steps(  # noqa: PLR0913 - all that `fit` takes, by keywords
    model: nn.Module,
    train: Split,
    recipe: Recipe,
    *,
    validation: Split | None = None,
    seed: int = 0,
    after_step: Callable[[], None] | None = None,
    schedule: "PruningSchedule | None" = None,
    loss: "Loss | None" = None,
    checkpoint: Path | str | None = None,
    progress: bool = False,
) -> Generator[float, None, History]:
    """`fit`, a step at a time: gives the fraction done after each step, and returns the
    history.

    Closing the generator stops the run; the model keeps what it has learned, in eval
    mode. Between two steps it is in training mode, but for a frozen BatchNorm.
    """
    file = None if checkpoint is None else resuming.place(checkpoint)
    check_trainable(model)
    check_split("train", train)
    if validation is not None:
        check_like(validation, train)
    run = _Run(model, train, recipe, seed, loss or CrossEntropy(), schedule, after_step)
    run.validation = validation
    with all_or_nothing(model) as before:
        try:
            run.start(file)
            bar = tqdm(
                total=run.total,
                initial=run.step,
                disable=not progress,
                unit="step",
                ncols=80,
            )
            with bar:
                for done in run.steps(file, bar):
                    before.forget()
                    yield done
        finally:
            lay_out(model, torch.contiguous_format)
            model.eval()
    return run.history


class Loss(Protocol):
    """What `fit` needs of a loss. Its `repr` is part of what a checkpoint is recognised
    by."""

    def __call__(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """The mean loss of a batch: outputs `[n, classes]`, labels `[n]`, and the
        pictures as the network saw them; or those of windows of text, `[n, t, classes]`
        and `[n, t]`."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """The loss of the labels alone."""

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        images: Tensor,  # noqa: ARG002 - a loss gets them; the labels are enough here
    ) -> Tensor:
        """Mean cross-entropy of the batch.

        Raises:
            ValueError: outputs that are not `[n, classes]` (`[n, t, classes]` for a
                text), or labels for which there is no output.
        """
        check_logits(logits, labels)
        return cross_entropy(logits, labels).mean()


class PruningSchedule(Protocol):
    """What `fit` needs of a schedule; `utils.schedules.Schedule` has all of it."""

    def start(self, model: nn.Module, steps: int) -> None:
        """Called once, before the first of `steps` steps."""

    def before_step(self, step: int, batches: Batches) -> None:
        """Called before the optimizer's step number `step` (from 1), when the gradients
        are there; `batches` holds the pictures of the step and their labels."""

    def after_step(self) -> None:
        """Called after the optimizer's step."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a kept state."""


@dataclass
class _Run:
    """What a run carries from step to step, and what its checkpoint holds."""

    model: nn.Module
    train: Split
    recipe: Recipe
    seed: int
    loss: Loss
    schedule: PruningSchedule | None = None
    after_step: Callable[[], None] | None = None
    validation: Split | None = None
    step: int = 0  # taken so far
    identity: dict[str, str] = field(default_factory=dict)  # of a kept run
    history: History = field(default_factory=History)

    def __post_init__(self) -> None:
        if not isinstance(self.recipe, Recipe):
            raise ValueError(f"recipe={self.recipe!r} must be a Recipe.")
        whole("seed", self.seed, 0, 2**63 - 1)
        for name in ("loss", "after_step"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise ValueError(f"{name}={value!r} must be a function.")
        if self.schedule is not None and not hasattr(self.schedule, "before_step"):
            raise ValueError(
                f"schedule={self.schedule!r} must be a schedule of utils.schedules, or"
                " None."
            )
        self.check_augmentable()
        self.total = self.recipe.epochs * len(
            self.batches(torch.arange(len(self.train)))
        )
        self.generator = torch.Generator().manual_seed(self.seed)
        self.who = f"the output of model ({type(self.model).__name__})"
        # what the network itself draws, with dropout
        self.dice = torch.Generator().manual_seed(self.seed).get_state()

    def start(self, file: Path | None) -> None:
        """All that comes before the first step, and changes the network."""
        if file is not None:
            self.identity = self.described()
        self.layout = _layout(self.model)
        lay_out(self.model, self.layout)
        self.optimizer = OPTIMIZERS[self.recipe.optimizer](
            self.model.parameters(),
            # a number of NumPy would go into the checkpoint, which could not be read
            lr=float(self.recipe.learning_rate),
            weight_decay=float(self.recipe.weight_decay),
        )
        self.scheduler = _scheduler(self.optimizer, self.recipe, self.total)
        if self.validation is not None:  # else a failure would come after an epoch
            two = self.validation[slice(2)]
            logits = predict_logits(self.model, two.images)
            check_logits(logits, two.labels, self.who)
            check_classes(self.validation.labels, logits.shape[-1], "validation.labels")
        if self.schedule is not None:
            self.schedule.start(self.model, self.total)
        if file is not None:
            self.resume(file)

    def described(self) -> dict[str, str]:
        """What the run is recognised by: all that its result depends on."""
        splits = {"training data": self.train, "validation data": self.validation}
        return {
            "torch": str(torch.__version__),
            "recipe": repr(self.recipe),
            "seed": str(self.seed),
            "loss": resuming.described(self.loss),
            "schedule": repr(self.schedule),
            "after_step": resuming.described(self.after_step),
            "network at the start": resuming.network(self.model),
            **{
                name: "none" if split is None else resuming.digest(vars(split))
                for name, split in splits.items()
            },
        }

    def steps(self, file: Path | None, bar: tqdm) -> Iterator[float]:
        """Train to the end; gives the fraction done after each step."""
        seconds = self.history.seconds
        started = time.perf_counter() - (seconds[-1] if seconds else 0)
        for epoch in range(len(seconds), self.recipe.epochs):
            bar.set_description(f"epoch {epoch + 1}/{self.recipe.epochs}")
            for _ in self.epoch():
                bar.update()
                yield self.step / self.total
            if self.validation is not None:
                right, losses = _judged(self.model, self.validation)
                self.history.validation_accuracy.append(right.float().mean().item())
                self.history.validation_loss.append(losses.mean().item())
            seconds.append(time.perf_counter() - started)
            if file is not None:
                resuming.write(file, self.content())

    def epoch(self) -> Iterator[None]:
        """Train for one epoch, a step at a time; note its mean loss."""
        self.model.train()
        for norm in _norms(self.model):
            own = list(norm.parameters(recurse=False))
            if own and not any(p.requires_grad for p in own):
                norm.eval()  # its statistics are frozen, too
        total = torch.zeros(())
        order = torch.randperm(len(self.train), generator=self.generator)
        for index in self.batches(order):
            total += self.one_step(index) * len(index)
            yield
        mean = float(total) / len(self.train)
        if not math.isfinite(mean) or not all(map(finite, self.model.parameters())):
            raise ValueError(
                f"the training loss is {mean}, or a weight is not finite:"
                f" learning_rate={self.recipe.learning_rate} is too large."
            )
        self.history.train_loss.append(mean)

    def batches(self, order: Tensor) -> list[Tensor]:
        """The places of each batch. A BatchNorm cannot train on a single picture, so
        one that would be left over joins the batch before."""
        sizes = [len(each) for each in order.split(self.recipe.batch_size)]
        if len(sizes) > 1 and sizes[-1] == 1 < sizes[0]:
            sizes[-2:] = [sizes[-2] + 1]
        return list(order.split(sizes))

    def one_step(self, index: Tensor) -> Tensor:
        """One step on these pictures; their loss, `[]`."""
        images, labels = self.drawn(index)
        with self.own_dice():
            loss = self.gradients(images, labels)
        self.step += 1
        if self.schedule is not None:
            self.schedule.before_step(self.step, [(images, labels)])
        try:
            self.optimizer.step()
        except RuntimeError as error:  # sparse gradients
            raise ValueError(
                f"optimizer={self.recipe.optimizer!r} cannot train this network:"
                f" {error}"
            ) from error
        self.scheduler.step()
        if self.schedule is not None:
            self.schedule.after_step()
        if self.after_step is not None:
            self.after_step()
        return loss.detach()

    def gradients(self, images: Tensor, labels: Tensor) -> Tensor:
        """Give each weight its gradient; the loss of the batch, `[]`.

        Raises:
            ValueError: the network cannot take the pictures, or the loss its outputs.
        """
        bf16 = self.recipe.bf16 and bf16_is_native()
        with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = answer(self.model, images, "train.images")
        check_logits(logits, labels, self.who)
        if self.step == 0:  # the first to know how many classes there are
            check_classes(self.train.labels, logits.shape[-1], "train.labels")
        if logits.dtype != torch.float64:
            logits = logits.float()
        try:
            with torch.enable_grad():
                loss = self.loss(logits, labels, images)
            self.optimizer.zero_grad()
            loss.backward()
        except Exception as error:  # whatever a loss of one's own raises
            raise ValueError(
                f"loss={self.loss!r} cannot be made smaller: {type(error).__name__}:"
                f" {error}"
            ) from error
        if self.step == 0 and not finite(loss):
            raise ValueError(
                f"the training loss is {loss.item()} at the first step, before any"
                " weight has moved: the network's outputs are too large or not finite."
            )
        return loss

    def check_augmentable(self) -> None:
        """Refuse flips and shifts that this training data cannot have."""
        flip, shift = self.recipe.flip, self.recipe.shift
        if not isinstance(self.train, Windows):
            _check_augmentable(self.train.images, flip, shift)
        elif flip or shift > self.train.images.shape[1]:
            raise ValueError(
                f"flip={flip}, shift={shift}: windows of text are not mirrored, and"
                f" begin at most {self.train.images.shape[1]} pieces later; set"
                " flip=False."
            )

    def drawn(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """What stands at these `[n]` places, and its labels: pictures `[n, 1, 28, 28]`,
        flipped and shifted, or windows of text."""
        how = self.recipe
        if isinstance(self.train, Windows):
            return self.train.moved(index, how.shift, self.generator)
        images, labels = self.train.images[index], self.train.labels[index]
        images = augment(images, self.generator, flip=how.flip, shift=how.shift)
        if images.dim() != 4:  # the layout is one of pictures
            return images.contiguous(), labels
        return images.contiguous(memory_format=self.layout), labels

    @contextmanager
    def own_dice(self) -> Iterator[None]:
        """The network draws from the run's seed, and nobody else's numbers are used
        up."""
        before = torch.get_rng_state()
        torch.set_rng_state(self.dice)
        try:
            yield
        finally:
            self.dice = torch.get_rng_state()
            torch.set_rng_state(before)

    def content(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "kind": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "step": self.step,
            "history": self.history.as_dict(),
            "generators": [self.generator.get_state(), self.dice],
            "pruning": {} if self.schedule is None else self.schedule.state(),
        }

    def resume(self, path: Path) -> None:
        """Go on from that file, if it is there; all of it is checked first."""
        if not path.is_file():
            return
        kind, needed = self.identity, resuming.parts(self.content())
        size = sum(tensor.numel() * tensor.element_size() for _, tensor in needed)
        # the optimizer will have noted more, and a schedule of one's own may
        found = resuming.read(path, largest=2**24 + 8 * size)
        with resuming.damaged(path):
            differs = [key for key in kind if found["kind"].get(key) != kind[key]]
        if differs:
            raise ValueError(
                f"checkpoint={path} belongs to another run: {', '.join(differs)} differ"
                f" ({[found['kind'].get(key) for key in differs]}, here"
                f" {[kind[key] for key in differs]}). Give another file."
            )
        with resuming.damaged(path):
            for name in ("model", "optimizer", "scheduler"):
                getattr(self, name).load_state_dict(found[name])
            self.generator.set_state(found["generators"][0])
            self.dice = found["generators"][1]
            if self.schedule is not None:
                self.schedule.load(found["pruning"])
        self.step, self.history = found["step"], History(**found["history"])


# ---------------------------------------------------------------------------- BatchNorm


def reestimate_batchnorm(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> None:
    """Give each BatchNorm, in place, the mean and variance of what it now gets,
    averaged over these batches.

    Each batch counts by how many numbers a channel gets of it. Pruning changes what
    BatchNorm gets, and its stored statistics no longer fit. No weight is touched; a
    frozen BatchNorm gets them, too; one that nothing runs through keeps its own. Built
    in lessons/07_recovery (`channel_statistics`).

    Raises:
        ValueError: no batch, one that the network cannot take or that has only one
            number a channel, or statistics that are not finite; all stay as they were.

    >>> norm = nn.BatchNorm1d(2)
    >>> pictures = torch.tensor([[0.0, 1.0], [4.0, 3.0]])
    >>> reestimate_batchnorm(norm, [(pictures, torch.zeros(2))])
    >>> norm.running_mean, norm.running_var
    (tensor([2., 2.]), tensor([8., 2.]))
    """
    check_made(model)
    norms = {norm: 0 for norm in _norms(model) if norm.running_mean is not None}

    def weigh(norm: _BatchNorm, inputs: tuple, by_keyword: dict) -> None:
        """The first batch replaces what was there; each counts by its share so far."""
        (given,) = (*inputs, *by_keyword.values())
        if norms[norm] == 0:
            norm.reset_running_stats()
        count = given.numel() // given.shape[1]  # numbers a channel
        norms[norm] += count
        norm.momentum = count / norms[norm]

    momenta = [norm.momentum for norm in norms]
    handles = [
        norm.register_forward_pre_hook(weigh, with_kwargs=True) for norm in norms
    ]
    try:
        with all_or_nothing(model), eval_mode(model), torch.no_grad(), uncompiled():
            for norm in norms:
                norm.train()
            _run_all(model, batches)
            for norm in norms:
                _check_statistics(norm)
    finally:
        for norm, momentum, handle in zip(norms, momenta, handles, strict=True):
            norm.momentum = momentum
            handle.remove()


def _run_all(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    number = -1
    for number, batch in enumerate(batches):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ValueError(f"batches[{number}] must be a pair, pictures and labels.")
        answer(model, batch[0], f"batches[{number}]")
    if number < 0:
        raise ValueError(
            "batches is empty, or an iterator that is used up; give a list, for"
            " example data.sample_batches(train, 4)."
        )


def _check_statistics(norm: _BatchNorm) -> None:
    for name in ("running_mean", "running_var"):
        if not finite(getattr(norm, name)):
            raise ValueError(
                f"batches give a {type(norm).__name__} a {name} that is not finite;"
                " the pictures or the weights before it are not."
            )


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def _layout(model: nn.Module) -> torch.memory_format:
    """channels_last, which makes convolutions faster, unless it would crash.

    The gradient of a strided 1x1 convolution with fewer than 16 inputs then writes
    outside its memory on x86 (oneDNN issue 6035; seen here with torch 2.13 as "double
    free or corruption"). A thinned residual network has such.
    """
    convolutions = [
        module for module in model.modules() if isinstance(module, nn.Conv2d)
    ]
    risky = any(
        c.kernel_size == (1, 1) and max(c.stride) > 1 and c.in_channels < 16
        for c in convolutions
    )
    return torch.contiguous_format if risky else torch.channels_last


def _scheduler(
    optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if recipe.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        float(recipe.learning_rate),
        total_steps=max(steps, 4) + 1,
        cycle_momentum=False,
        pct_start=0.25,
    )


def augment(
    images: Tensor, generator: torch.Generator, *, flip: bool, shift: int
) -> Tensor:
    """Mirror and move pictures at random, each by itself. `[n, channels, height,
    width]` -> the same shape, a new tensor. Black, as of Fashion-MNIST, comes in at the
    edges.

    Raises:
        ValueError: something to flip or shift that has another shape, or a shift that
            would move all of a picture out of sight.
    """
    _check_augmentable(images, flip, shift)
    images = images if flip or shift else images.clone()
    if flip:
        mirrored = torch.rand(len(images), generator=generator) < 0.5  # [n]
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
    if shift:
        count, channels, height, width = images.shape
        padded = F.pad(images, (shift,) * 4, value=BLACK)
        # where each picture's window begins in its padded one, [n, 1] each
        top, left = torch.randint(0, 2 * shift + 1, (2, count, 1), generator=generator)
        rows = (top + torch.arange(height)).view(count, 1, height, 1)
        columns = (left + torch.arange(width)).view(count, 1, 1, width)
        # four indices that broadcast to [n, channels, height, width]
        every, colour = torch.arange(count), torch.arange(channels)
        images = padded[
            every.view(-1, 1, 1, 1), colour.view(1, -1, 1, 1), rows, columns
        ]
    return images


def _check_augmentable(images: Tensor, flip: bool, shift: int) -> None:
    whole("shift", shift)
    if (flip or shift) and images.dim() != 4:
        raise ValueError(
            f"images of shape {list(images.shape)} are no pictures [n, channels,"
            " height, width], which alone can be flipped and shifted; set flip=False,"
            " shift=0."
        )
    if shift and shift >= min(images.shape[2:]):
        raise ValueError(
            f"shift={shift} would move all of a picture of {images.shape[2]} x"
            f" {images.shape[3]} out of sight; give less."
        )
    if shift and not images.is_floating_point():
        raise ValueError(
            f"images of {images.dtype} cannot be shifted: the black at the edges is"
            f" {BLACK:.2f}; give float32 pictures, or set shift=0."
        )


# --------------------------------------------------------------------------- evaluation


@torch.no_grad()  # what inference_mode makes in a network could never be trained
def predict_logits(model: nn.Module, images: Tensor, batch_size: int = 1000) -> Tensor:
    """Outputs of the network in eval mode for `[n, 1, 28, 28]` pictures: `[n, 10]`. The
    model's mode is restored.

    Raises:
        ValueError: no tensor of pictures, or a network that cannot take them or puts
            out something else than a tensor with a row for each.
    """
    check_network(model)
    whole("batch_size", batch_size, low=1)
    if not isinstance(images, Tensor) or images.dim() == 0:
        raise ValueError("images must be a tensor of pictures, [n, 1, 28, 28].")
    return torch.cat(list(_outputs(model, images, batch_size)))


def _outputs(model: nn.Module, images: Tensor, batch_size: int) -> Iterator[Tensor]:
    """The outputs of one batch after the other."""
    rest: torch.Size | None = None
    with eval_mode(model):
        for batch in images.split(batch_size):
            output = answer(model, batch, "images")
            if not isinstance(output, Tensor):
                raise ValueError(
                    f"model ({type(model).__name__}) puts out a"
                    f" {type(output).__name__}; it must be one tensor, [n, classes]."
                )
            rest = output.shape[1:] if rest is None else rest
            if output.dim() == 0 or output.shape != (len(batch), *rest):
                raise ValueError(
                    f"model ({type(model).__name__}) puts out {list(output.shape)} for"
                    f" {len(batch)} pictures; it must be {[len(batch), *rest]}."
                )
            yield output


def evaluate(model: nn.Module, split: Split, batch_size: int | None = None) -> float:
    """Accuracy, 0..1: the fraction of pictures whose largest output is the right class;
    of text, the fraction of places whose next piece is. Outputs with a NaN are never
    right. Built in lessons/01_baseline (`accuracy`).

    Args:
        batch_size: pictures at once, by default 1,000; windows of text by default 16.
    Raises:
        ValueError: as `check_split` and `predict_logits`; or outputs that are not `[n,
            classes]`, or labels for which there is no output.

    >>> always_seven = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> _ = nn.init.zeros_(always_seven[1].weight)
    >>> _ = always_seven[1].bias.data.copy_(torch.arange(10) == 7)
    >>> split = Split(torch.randn(4, 1, 28, 28), torch.tensor([7, 7, 1, 7]))
    >>> evaluate(always_seven, split)
    0.75
    """
    right, _ = _judged(model, split, batch_size)
    return right.float().mean().item()


def losses(model: nn.Module, split: Split, batch_size: int | None = None) -> Tensor:
    """The cross-entropy of each picture, `[n]`, or of each place of a text, `[n, t]`,
    in nats: to compare two networks place by place. Arguments and errors as `evaluate`.

    >>> undecided = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> _ = nn.init.zeros_(undecided[1].weight), nn.init.zeros_(undecided[1].bias)
    >>> losses(undecided, Split(torch.randn(2, 1, 28, 28), torch.tensor([7, 1])))
    tensor([2.3026, 2.3026])
    """
    return _judged(model, split, batch_size)[1]


@torch.no_grad()
def _judged(
    model: nn.Module, split: Split, batch_size: int | None = None
) -> tuple[Tensor, Tensor]:
    """Which answers are right, and the loss of each; both of the labels' shape."""
    check_network(model)
    check_split("split", split)
    if batch_size is None:
        batch_size = 1000 if split.labels.dim() == 1 else 16
    whole("batch_size", batch_size, low=1)
    who = f"the output of model ({type(model).__name__})"
    right, loss = [], []
    outputs = _outputs(model, split.images, batch_size)
    for logits, labels in zip(outputs, split.labels.split(batch_size), strict=True):
        check_logits(logits, labels, who)
        good = (logits.argmax(-1) == labels) & ~logits.isnan().any(-1)
        right.append(good)
        loss.append(cross_entropy(logits, labels))
    return torch.cat(right), torch.cat(loss)


def bf16_is_native() -> bool:
    """Whether this processor multiplies bfloat16 itself; where it emulates them, bf16
    is several times slower."""
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
