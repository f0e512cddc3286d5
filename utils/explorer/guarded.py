"""A score may be a learner's own code: it is computed so that nothing it does reaches
the panel's network, pictures or process.

It gets copies. What it changed in them is named afterwards; what it changed in the
process is named, too, and put back.
"""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from utils.data import Batches
from utils.layers import copied, prunable
from utils.scores import Scores, score


class Setting(NamedTuple):
    """A setting of the whole process, in words, and how to read and write it."""

    words: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was deleted; there is no way back
        return Path()


SETTINGS = (
    Setting("whether gradients are on", torch.is_grad_enabled, torch.set_grad_enabled),
    Setting("the default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("the number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting("the working folder", _folder, os.chdir),
    Setting("PyTorch's random numbers", torch.get_rng_state, torch.set_rng_state),
    Setting("Python's random numbers", random.getstate, random.setstate),
    Setting(
        "NumPy's random numbers",
        np.random.get_state,
        np.random.set_state,
    ),
)


def guarded_score(
    name: str, model: nn.Module, batches: Batches, *, units: bool
) -> tuple[Scores, str]:
    """The score called `name`, as `utils.scores.score` gives it, and what is to be said
    of it: what computing it changed, which layers it leaves out; mostly empty.

    Raises:
        ValueError: as `utils.scores.score`, or it ended with an exception that would
            end the kernel, such as SystemExit.
    """
    model_copy = copied(model)
    batches_copy = [(images.clone(), labels.clone()) for images, labels in batches]
    with _settings_kept() as settings:
        try:
            result = score(name, model_copy, batches_copy, units=units)
        except Exception:
            raise
        except BaseException as end:
            raise ValueError(
                f"the score {name!r} ended with {type(end).__name__} {end}".rstrip()
                + "; it must return a tensor for each weight."
            ) from end
    changed = [
        *_changed_in(model, model_copy),
        *([] if _same(tuple(batches), tuple(batches_copy)) else ["its pictures"]),
        *settings,
    ]
    remarks = []
    if changed:
        remarks.append(
            f"Computing the {name} score changed {', '.join(changed)}: undone, so no"
            " other number here is affected."
        )
    if silent := [key for key in prunable(model) if key not in result]:
        remarks.append(
            f"The {name} score says nothing of {listed(silent)}: not pruned by it."
        )
    return result, " ".join(remarks)


@contextmanager
def _settings_kept() -> Iterator[list[str]]:
    """Put the settings of the process back at the end; those that were changed, in
    words, are in the list then."""
    changed: list[str] = []
    before = [setting.read() for setting in SETTINGS]
    try:
        yield changed
    finally:
        for setting, value in zip(SETTINGS, before, strict=True):
            if not _same(setting.read(), value):
                setting.write(value)
                changed.append(setting.words)


def _changed_in(model: nn.Module, other: nn.Module) -> list[str]:
    """What is different in the other network, once the same, in words."""
    before, after = _tensors(model), _tensors(other)
    numbers = [
        name
        for name in before | after
        if not (name in before and name in after and _same(before[name], after[name]))
    ]
    frozen = [
        name
        for name in before
        if name in after and before[name].requires_grad != after[name].requires_grad
    ]
    return [
        *([listed(numbers)] if numbers else []),
        *([f"requires_grad of {listed(frozen)}"] if frozen else []),
        *(
            words
            for words, of in (
                ("its layers", type),
                ("its train or eval mode", lambda module: module.training),
                ("its hooks", _hooks),
            )
            if list(map(of, model.modules())) != list(map(of, other.modules()))
        ),
    ]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _hooks(module: nn.Module) -> int:
    return len(
        [
            *module._forward_hooks,
            *module._forward_pre_hooks,
            *module._backward_hooks,
            *module._backward_pre_hooks,
        ]
    )


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are.

    >>> listed(["fc1", "fc2", "fc3", "fc4"])
    'fc1, fc2, fc3 and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _same(one: Any, other: Any) -> bool:
    """Whether two values, or tuples of them, are equal; NaN equals NaN."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            return False
        return bool(((one == other) | ((one != one) & (other != other))).all())
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return one == other
