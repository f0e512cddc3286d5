"""Train a network on tensors in memory, and evaluate it. Built in lessons/01_baseline.

No DataLoader: the whole data set is one tensor, a batch is an index into it, and flips
and shifts are done for the whole batch at once. `make bench` prints what that gains.
"""

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from utils.arguments import one_of, whole
from utils.data import BLACK, Batches, Split
from utils.files import DamagedFileError, write_atomically
from utils.layers import eval_mode, lay_out


@dataclass(frozen=True)
class Recipe:
    """How to train: every hyperparameter in one place.

    epochs: passes over the training set.  batch_size: pictures a step.  learning_rate:
    the peak of the one-cycle schedule (Smith 2018), or the constant rate with
    `schedule="constant"`.  weight_decay: as the optimizer defines it.
    flip: mirror half of the pictures.  shift: move each picture by up to so many
        pixels.
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
        whole("shift", self.shift, 0, 27)
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(
                f"learning_rate={self.learning_rate!r} must be greater than 0, and"
                " finite."
            )
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(
                f"weight_decay={self.weight_decay!r} must be 0 or more, and finite."
            )
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("schedule", self.schedule, ("one-cycle", "constant"))


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
    accuracy (0..1), seconds so far."""

    train_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
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

    Args:
        validation: evaluated after each epoch when given.
        seed: of the order of the pictures and of their flips and shifts; same seed,
            same machine, same result.
        after_step: called after each optimizer step; `masks.hold` gives one that keeps
            pruned weights at zero.
        schedule: prunes while training (`utils.schedules`).
        loss: what a step makes smaller, by default the cross-entropy;
            `distillation.Teacher` is another.
        checkpoint: a file that keeps the run after each epoch. Where it is there
            already the run goes on from it, to the same result as if it had never been
            interrupted; a finished run is only read.
        progress: show a bar.
    Raises:
        ValueError: an empty training set, a loss that is not finite, or a checkpoint of
            another run.

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
    mode. Between two steps it is in training mode.
    """
    if len(train) == 0:
        raise ValueError("train is empty; it must hold at least one picture.")
    run = _Run(model, train, recipe, seed, loss or CrossEntropy(), schedule, after_step)
    file = None if checkpoint is None else Path(checkpoint)
    if file is not None:
        run.resume(file)
    bar = tqdm(
        total=run.total, initial=run.step, disable=not progress, unit="step", ncols=80
    )
    seconds = run.history.seconds
    started = time.perf_counter() - (seconds[-1] if seconds else 0)
    try:
        for epoch in range(len(seconds), recipe.epochs):
            bar.set_description(f"epoch {epoch + 1}/{recipe.epochs}")
            for _ in run.epoch():
                bar.update()
                yield run.step / run.total
            if validation is not None:
                run.history.validation_accuracy.append(evaluate(model, validation))
            run.history.seconds.append(time.perf_counter() - started)
            if file is not None:
                run.keep(file)
    finally:
        bar.close()
        lay_out(model, torch.contiguous_format)
        model.eval()
    return run.history


class Loss(Protocol):
    """What `fit` needs of a loss. Its `repr` is part of what a checkpoint is recognised
    by."""

    def __call__(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """The mean loss of a batch: outputs `[n, classes]`, labels `[n]`, and the
        pictures as the network saw them."""
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
        """Mean cross-entropy of the batch."""
        return F.cross_entropy(logits, labels)


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
    step: int = 0  # taken so far
    history: History = field(default_factory=History)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.total = recipe.epochs * math.ceil(len(self.train) / recipe.batch_size)
        self.layout = _layout(self.model)
        lay_out(self.model, self.layout)
        self.generator = torch.Generator().manual_seed(self.seed)
        self.optimizer = OPTIMIZERS[recipe.optimizer](
            self.model.parameters(),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
        )
        self.scheduler = _scheduler(self.optimizer, recipe, self.total)
        self.kind = {
            "recipe": asdict(recipe),
            "seed": self.seed,
            "pictures": len(self.train),
            "schedule": repr(self.schedule),
            "loss": repr(self.loss),
        }
        if self.schedule is not None:
            self.schedule.start(self.model, self.total)

    def epoch(self) -> Iterator[None]:
        """Train for one epoch, a step at a time; note its mean loss."""
        self.model.train()
        total = torch.zeros(())
        order = torch.randperm(len(self.train), generator=self.generator)
        for index in order.split(self.recipe.batch_size):
            total += self.one_step(index) * len(index)
            yield
        mean = float(total) / len(self.train)
        if math.isnan(mean) or mean == math.inf:
            raise ValueError(
                f"the training loss is {mean}:"
                f" learning_rate={self.recipe.learning_rate} is too large."
            )
        self.history.train_loss.append(mean)

    def one_step(self, index: Tensor) -> Tensor:
        """One step on these pictures; their loss, `[]`."""
        images, labels = self.pictures(index), self.train.labels[index]
        bf16 = self.recipe.bf16 and bf16_is_native()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = self.model(images)
        loss = self.loss(logits.float(), labels, images)
        self.optimizer.zero_grad()
        loss.backward()
        self.step += 1
        if self.schedule is not None:
            self.schedule.before_step(self.step, [(images, labels)])
        self.optimizer.step()
        self.scheduler.step()
        if self.schedule is not None:
            self.schedule.after_step()
        if self.after_step is not None:
            self.after_step()
        return loss.detach()

    def pictures(self, index: Tensor) -> Tensor:
        """`[n]` places -> `[n, 1, 28, 28]` pictures, flipped and shifted."""
        images, how = self.train.images[index], self.recipe
        images = augment(images, self.generator, flip=how.flip, shift=how.shift)
        return images.contiguous(memory_format=self.layout)

    def keep(self, path: Path) -> None:
        """Write everything to a file of tensors and numbers, which executes nothing
        when it is read."""
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "kind": self.kind,
            "step": self.step,
            "history": self.history.as_dict(),
            "generator": self.generator.get_state(),
            "pruning": {} if self.schedule is None else self.schedule.state(),
        }
        buffer = BytesIO()
        torch.save(content, buffer)
        write_atomically(path, buffer.getvalue())

    def resume(self, path: Path) -> None:
        """Go on from that file, if it is there."""
        if not path.is_file():
            return
        content = _read_checkpoint(path)
        if content["kind"] != self.kind:
            raise ValueError(
                f"checkpoint={path} belongs to another run ({content['kind']}); this"
                f" one is {self.kind}. Give another file."
            )
        for name in ("model", "optimizer", "scheduler"):
            getattr(self, name).load_state_dict(content[name])
        self.generator.set_state(content["generator"])
        self.step, self.history = content["step"], History(**content["history"])
        if self.schedule is not None:
            self.schedule.load(content["pruning"])


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, weights_only=True)
        content["kind"]  # a file without it is no checkpoint
        return content
    # any damage; what torch says of it would advise to execute the file
    except Exception:  # noqa: BLE001
        raise DamagedFileError(
            f"{path} is damaged, or no checkpoint. Repair: delete it; the run starts"
            " anew."
        ) from None


def reestimate_batchnorm(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> None:
    """Give each BatchNorm, in place, the mean and variance of what it now gets,
    averaged over these batches.

    Pruning changes what BatchNorm gets, and its stored statistics no longer fit. No
    weight is touched. Built in lessons/07_recovery (`channel_statistics`).

    >>> norm = nn.BatchNorm1d(2)
    >>> pictures = torch.tensor([[0.0, 1.0], [4.0, 3.0]])
    >>> reestimate_batchnorm(norm, [(pictures, torch.zeros(2))])
    >>> norm.running_mean, norm.running_var
    (tensor([2., 2.]), tensor([8., 2.]))
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    with eval_mode(model), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain average of all batches
            norm.train()
        for images, _ in batches:
            model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


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
        recipe.learning_rate,
        total_steps=max(steps, 4) + 1,
        cycle_momentum=False,
        pct_start=0.25,
    )


def augment(
    images: Tensor, generator: torch.Generator, *, flip: bool, shift: int
) -> Tensor:
    """Mirror and move pictures at random, each by itself. `[n, 1, 28, 28]` -> the same
    shape, a new tensor."""
    count, _, height, width = images.shape
    images = images if flip or shift else images.clone()
    if flip:
        mirrored = torch.rand(count, generator=generator) < 0.5  # [n]
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
    if shift:
        padded = F.pad(images, (shift,) * 4, value=BLACK)
        # where each picture's window begins in its padded one, [n, 1] each
        top, left = torch.randint(0, 2 * shift + 1, (2, count, 1), generator=generator)
        rows = (top + torch.arange(height)).view(count, 1, height, 1)
        columns = (left + torch.arange(width)).view(count, 1, 1, width)
        # three indices that broadcast to [n, 1, height, width]
        images = padded[torch.arange(count).view(-1, 1, 1, 1), 0, rows, columns]
    return images


@torch.inference_mode()
def predict_logits(model: nn.Module, images: Tensor, batch_size: int = 1000) -> Tensor:
    """Outputs of the network in eval mode for `[n, 1, 28, 28]` pictures: `[n, 10]`. The
    model's mode is restored."""
    with eval_mode(model):
        return torch.cat([model(batch) for batch in images.split(batch_size)])


def evaluate(model: nn.Module, split: Split, batch_size: int = 1000) -> float:
    """Accuracy, 0..1: the fraction of pictures whose largest output is the right
    class. Built in lessons/01_baseline (`accuracy`).

    >>> always_seven = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> _ = nn.init.zeros_(always_seven[1].weight)
    >>> _ = always_seven[1].bias.data.copy_(torch.arange(10) == 7)
    >>> split = Split(torch.randn(4, 1, 28, 28), torch.tensor([7, 7, 1, 7]))
    >>> evaluate(always_seven, split)
    0.75
    """
    predicted = predict_logits(model, split.images, batch_size).argmax(1)  # [n]
    return (predicted == split.labels).float().mean().item()


def bf16_is_native() -> bool:
    """Whether this processor multiplies bfloat16 itself; where it emulates them, bf16
    is several times slower."""
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
