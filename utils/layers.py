"""What a network consists of: its prunable layers, and two ways to look at them.

Asked in one place, so that scores, masks, surgery and measurements mean the same
layers.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

Prunable = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that pruning considers: those of linear and convolutional layers, by
    parameter name; no biases.

    Raises:
        ValueError: the model has no such layer.

    >>> weights = prunable(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    >>> {name: list(weight.shape) for name, weight in weights.items()}
    {'0.weight': [3, 4], '2.weight': [2, 3]}
    """
    layers = {
        # a plain tensor only where torch.nn.utils.prune has replaced the parameter
        f"{name}.weight" if name else "weight": cast(nn.Parameter, m.weight)
        for name, m in prunable_layers(model).items()
    }
    if not layers:
        raise ValueError(
            f"model ({type(model).__name__}) has nothing to prune: no Linear or Conv"
            " layer with weights."
        )
    return layers


def prunable_layers(model: nn.Module) -> dict[str, Prunable]:
    """The linear and convolutional layers by module name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Prunable)
    }


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while; each module then gets its own mode back (a frozen
    BatchNorm stays frozen)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    """Store the weights of the convolutions in this order, in place."""
    # torch's annotations lack this way to call it
    model.to(memory_format=layout)  # pyright: ignore[reportCallIssue]


@contextmanager
def watching(
    modules: Mapping[str, nn.Module],
    note: Callable[[str, nn.Module, tuple, Tensor], None],
) -> Iterator[None]:
    """For a while, `note(name, module, inputs, output)` is called each time one of
    these modules has run."""

    def hook(name: str) -> Callable:
        return lambda module, inputs, output: note(name, module, inputs, output)

    handles = [
        module.register_forward_hook(hook(name)) for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
