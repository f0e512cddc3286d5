"""8 bits instead of 32: weights and activations on a grid of integers. Built in
lessons/08_quantization.

A number x is stored as the integer q = round(x / scale) + zero_point, clamped to what
fits, and stands for scale * (q - zero_point) (Jacob et al. 2018, sec. 2.1). Weights get
one scale a unit (a row of the weight) and the zero point 0, so that a pruned weight
stays exactly zero; activations one scale and zero point a layer, from the range they
had on some pictures.

`quantized` gives a network that computes in float with the numbers an int8 network
would have: to see what rounding costs, at any width, and to train through it. For the
speed `utils.deploy` runs the integers themselves.
"""

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from utils.arguments import whole
from utils.channels import trace
from utils.data import Batches
from utils.layers import (
    COMPUTED,
    answer,
    copied,
    eval_mode,
    no_values,
    prunable,
    prunable_layers,
    shared,
    watching,
    weights,
)

Plain = nn.Linear | nn.Conv2d  # the layers that are quantized
GROUPS = (16, 32, 64, 128, 256)  # inputs that may share a scale
SCALE_BITS = 16  # of the scale of a group


@dataclass(frozen=True)
class Grid:
    """The numbers that `bits` can stand for: `scale * (q - zero_point)`, q from
    `lowest` to `highest`.

    scale: a positive number, or one a unit, `[units, 1, ...]`.  zero_point: the integer
        that stands for 0.
    """

    scale: Tensor
    zero_point: Tensor
    lowest: int
    highest: int

    def integers(self, values: Tensor) -> Tensor:
        """The nearest integer of each value, clamped (saturated): int16, of the values'
        shape.

        >>> Grid(torch.tensor(0.5), torch.tensor(0.0), -7, 7).integers(
        ...     torch.tensor([0.9, -9.0])
        ... )
        tensor([ 2, -7], dtype=torch.int16)
        """
        values = _wide(values)
        position = values / self._step(values)
        return (
            (position.round() + self.zero_point)
            .clamp(self.lowest, self.highest)
            .to(torch.int16)
        )

    def values(self, integers: Tensor) -> Tensor:
        """What the integers stand for, float32."""
        return self.scale * (integers - self.zero_point)

    def snap(self, values: Tensor) -> Tensor:
        """Each value moved to the grid. Its gradient passes as if nothing had been
        moved, except where it saturates (straight-through estimator, Bengio et al.
        2013).

        >>> Grid(torch.tensor(0.5), torch.tensor(0.0), -7, 7).snap(
        ...     torch.tensor([0.9, -9.0])
        ... )
        tensor([ 1.0000, -3.5000])
        """
        low, high = (
            self.lowest - self.zero_point.item(),
            self.highest - self.zero_point.item(),
        )
        wide = _wide(values)
        step = self._step(wide)
        # in steps; its gradient is 0 outside, where half a step more would saturate too
        inside = (wide / step).clamp(low - 0.5, high + 0.5)
        # rounding has the gradient 0: what it moves is added as a constant
        moved = inside + (inside.round().clamp(low, high) - inside).detach()
        return (step * moved).to(values.dtype)

    def _step(self, values: Tensor) -> Tensor:
        """The scale, and at least the smallest number of the type they are computed in:
        0 / 0 is no zero."""
        dtype = torch.result_type(values, self.scale)
        return self.scale.to(dtype).clamp(min=_smallest(dtype))


def _wide(values: Tensor) -> Tensor:
    """In float32 at least: half precision cannot tell where between two steps it
    lies."""
    return values.float() if values.dtype.itemsize < 4 else values


def _smallest(dtype: torch.dtype) -> float:
    """The smallest scale: float32's smallest normal number; in float16, which does not
    reach so far, its smallest."""
    return max(
        torch.finfo(torch.float32).tiny,
        torch.finfo(dtype).tiny * torch.finfo(dtype).eps,
    )


def weight_grid(weight: Tensor, bits: int = 8, *, per_channel: bool = True) -> Grid:
    """The symmetric grid of a weight: from -(2**(bits-1) - 1) to 2**(bits-1) - 1 steps,
    zero point 0.

    The scale is the largest magnitude over the largest integer: of each unit, `[units,
    1, ...]`, or of the whole weight. Built in lessons/08_quantization (`choose_grid`).

    Raises:
        ValueError: bits outside 2..8, a weight that is complex, whole or not finite, or
            a unit without weights.

    >>> grid = weight_grid(torch.tensor([[0.5, -1.4], [0.0, 7.0]]), bits=4)
    >>> grid.scale
    tensor([[0.2000],
            [1.0000]])
    """
    highest = 2 ** (_check_bits(bits) - 1) - 1
    if not weight.is_floating_point():
        raise ValueError(
            f"the weight is {weight.dtype}; only real floating-point numbers fit on a"
            " grid."
        )
    if 0 in (weight.shape[1:] if per_channel and weight.dim() > 1 else weight.shape):
        raise ValueError(
            f"the weight has the shape {list(weight.shape)}; a grid needs at least one"
            " number a unit."
        )
    magnitude = _wide(weight.detach()).abs()
    if not magnitude.isfinite().all():
        raise ValueError(
            "the weight is not finite everywhere; only finite numbers fit on a grid."
        )
    largest = (
        # [units, inputs, ...] -> [units, 1, ...]
        magnitude.amax(dim=tuple(range(1, weight.dim())), keepdim=True)
        if per_channel
        else magnitude.amax()
    )
    # a unit of zeros: any scale will do
    scale = torch.where(largest > 0, largest, 1.0) / highest
    return Grid(
        scale.clamp(min=_smallest(scale.dtype)), torch.zeros(()), -highest, highest
    )


def group_size(inputs: int, bits: int, most: int) -> int:
    """How many inputs of a unit share a scale: at most `most`, and fewer where that
    takes fewer bytes, for the last group is filled up with zeros.

    >>> group_size(192, bits=4, most=64), group_size(96, bits=4, most=64)
    (64, 32)
    """
    if most not in GROUPS:
        raise ValueError(
            f"group={most!r} must be one of {', '.join(map(str, GROUPS))}."
        )
    return min(
        (size for size in reversed(GROUPS) if size <= most),
        key=lambda size: -(-inputs // size) * (size * bits + SCALE_BITS),
    )


def grouped(weight: Tensor, bits: int, most: int) -> tuple[Tensor, Grid]:
    """The weight in groups of inputs that lie side by side, `[units, groups, size]`,
    zeros at its end; and its grid, a scale a group, `[units, groups, 1]`, as
    `weight_grid` has it a unit. The scales are rounded to float16, as files store them.

    Args:
        most: of `GROUPS`, as many inputs share a scale, or fewer (`group_size`).
    Raises:
        ValueError: as `weight_grid`; another `most`.

    >>> values, grid = grouped(torch.ones(2, 100), bits=4, most=64)
    >>> values.shape, grid.scale.shape
    (torch.Size([2, 2, 64]), torch.Size([2, 2, 1]))
    """
    rows = weight.detach().flatten(1)
    size = group_size(rows.shape[1], _check_bits(bits), most)
    padded = F.pad(rows, (0, -rows.shape[1] % size)).unflatten(1, (-1, size))
    grid = weight_grid(padded.flatten(0, 1), bits)
    scale = grid.scale.half().float()
    if not scale.isfinite().all():
        raise ValueError("the weight is too large: a scale does not fit in float16.")
    # one that is zero in float16: so are its weights
    scale = torch.where(scale > 0, scale, 1.0).view(*padded.shape[:2], 1)
    return padded, Grid(scale, grid.zero_point, grid.lowest, grid.highest)


def activation_grid(low: float, high: float, bits: int = 8) -> Grid:
    """The grid for activations seen between `low` and `high`: 0 .. 2**bits - 1, 0.0
    exactly on it. Built in lessons/08_quantization (`choose_grid`).

    Raises:
        ValueError: bits outside 2..8; low above high, not finite, or a scale too large
            for float32.

    >>> grid = activation_grid(-1.0, 4.0, bits=4)
    >>> round(grid.scale.item(), 4), grid.zero_point.item()
    (0.3333, 3.0)
    """
    highest = 2 ** _check_bits(bits) - 1
    if not -float("inf") < low <= high < float("inf"):
        raise ValueError(
            f"low={low!r} must not be above high={high!r}, and both finite."
        )
    low, high = min(low, 0.0), max(high, 0.0)  # padding and ReLU need an exact zero
    scale = (
        max((high - low) / highest, torch.finfo(torch.float32).tiny)
        if low < high
        else 1.0
    )
    if scale > torch.finfo(torch.float32).max:
        raise ValueError(
            f"low={low!r} and high={high!r} are too far apart: the scale must be finite"
            " in float32."
        )
    return Grid(
        torch.tensor(scale), torch.tensor(float(round(-low / scale))), 0, highest
    )


def quantizable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that are rounded: those of `layers.prunable`, and the tables of
    embeddings, by parameter name, each tensor once. A row of a table is a unit: what
    stands for one piece of text.

    Raises:
        ValueError: as `layers.prunable`, also for the tables.

    >>> network = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3))
    >>> list(quantizable(network))
    ['0.weight', '1.weight']
    """
    chosen, own = prunable(model), dict(model.named_parameters())
    result = {}
    for weight in weights(model).values():
        layers = weight.layers.values()
        if any(isinstance(layer, nn.Embedding) for layer in layers):
            if weight.name not in own or no_values(weight.tensor):
                reason = no_values(weight.tensor) or COMPUTED
                raise ValueError(f"{weight.name} {reason}.")
            result[weight.name] = own[weight.name]
        elif weight.name in chosen:
            result[weight.name] = chosen[weight.name]
    return result


def quantize_weights(
    model: nn.Module,
    bits: int = 8,
    *,
    per_channel: bool = True,
    group: int | None = None,
) -> nn.Module:
    """A copy whose weights (those of `quantizable`; tied ones once) lie on their grids;
    activations stay as they are.

    Args:
        group: so many inputs of a unit share a scale, as in `grouped`; by default all
            of them.
    Raises:
        ValueError: bits outside 2..8, a network with nothing to quantize, or a weight
            that is computed, without values, complex, not finite or empty; a group that
            is none of 16, 32, 64, 128, 256, or with `per_channel=False`.

    >>> layer = quantize_weights(nn.Linear(100, 1), bits=2)
    >>> len(layer.weight.unique())  # minus one step, zero, one step
    3
    """
    if group is not None and not per_channel:
        raise ValueError(
            f"group={group!r} is a part of a unit: leave per_channel=True."
        )
    snapped = {
        name: _snapped(name, weight, bits, per_channel, group)
        for name, weight in quantizable(model).items()
    }
    result = copied(model)
    with torch.no_grad():
        for name, weight in quantizable(result).items():
            weight.copy_(snapped[name])
    return result


@torch.no_grad()
def _snapped(
    name: str, weight: Tensor, bits: int, per_channel: bool, group: int | None
) -> Tensor:
    """A weight of a network on its grid."""
    with _named(name):
        if group is None:
            return weight_grid(weight, bits, per_channel=per_channel).snap(weight)
        values, grid = grouped(weight, bits, group)
        flat = grid.snap(values).flatten(1)  # [units, inputs, and zeros]
        return flat[:, : weight[0].numel()].reshape(weight.shape)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What is wrong with the weight is said by its name."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        if not text.startswith("the weight"):
            raise
        raise ValueError(name + text.removeprefix("the weight")) from None


def quantized(
    model: nn.Module,
    batches: Batches,
    *,
    bits: int = 8,
    activation_bits: int = 8,
    per_channel: bool = True,
) -> nn.Module:
    """A copy that computes with quantized weights and activations: int8 after training,
    or before more of it.

    BatchNorm is folded into the layers before it, as it is when the network is
    deployed. Each linear and convolutional layer then snaps its weight and what comes
    in to their grids, and each embedding its table; the activations' grids are those of
    the ranges seen on `batches` (calibration). Parameters keep their names, so masks
    fit. Train it with `fit`, and it learns to live with the rounding
    (quantization-aware training, Jacob et al. 2018, sec. 3): the gradient passes
    through.

    Raises:
        ValueError: no batches, or an empty one; bits outside 2..8; a layer that is not
            a plain Linear, Conv2d or Embedding without hooks, or never runs; numbers
            that are not finite; weights that are computed or complex; a network that
            cannot be traced where it has BatchNorm, or cannot take the batches.

    >>> network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> batches = [(torch.rand(16, 4), torch.zeros(16))]
    >>> quantized(network, batches, bits=4)(torch.rand(5, 4)).shape
    torch.Size([5, 2])
    """
    batches = list(batches)
    if not batches:
        raise ValueError("batches is empty; calibration needs at least one.")
    _check_bits(bits)
    _check_bits(activation_bits, "activation_bits")
    _check_layers(model)
    for name, weight in quantizable(model).items():
        with _named(name):
            weight_grid(weight, bits, per_channel=per_channel)
    folded = fold_batchnorm(model)
    ranges = input_ranges(folded, batches)
    idle = [name for name in prunable_layers(folded) if name not in ranges]
    if idle:
        raise ValueError(
            f"{', '.join(idle)} never runs on these batches; without inputs there is no"
            " range. Remove it."
        )
    parts: dict[int, Any] = {}  # id of a part -> its copy, which tied weights share
    for name, layer in prunable_layers(folded).items():
        grid = activation_grid(*ranges[name], activation_bits)
        make = QUANTIZED[type(layer)]
        parts[id(layer)] = make(layer, grid, bits, per_channel, parts)
    for table in folded.modules():
        if type(table) is nn.Embedding:
            parts[id(table)] = QuantizedEmbedding(table, bits, per_channel, parts)
    return copied(folded, parts).eval()


MULTIPLYING = (
    _ConvNd | nn.Linear | nn.Bilinear | nn.RNNBase | nn.RNNCellBase
) | nn.MultiheadAttention


def _check_layers(model: nn.Module) -> None:
    """Refuse a layer that multiplies and would stay, or has a computed bias."""
    attention: tuple[nn.Module, ...] = ()
    for name, layer in model.named_modules():
        if isinstance(layer, nn.MultiheadAttention):
            attention = (*attention, *layer.children())
        if (
            isinstance(layer, MULTIPLYING)
            and layer not in attention
            and (
                type(layer) not in QUANTIZED
                or (isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros")
            )
        ):
            raise ValueError(
                f"{name or 'model'} is a {type(layer).__name__}; only plain Linear and"
                " Conv2d layers are quantized."
            )
        if isinstance(layer, nn.Embedding) and (
            type(layer) is not nn.Embedding or layer.max_norm is not None
        ):
            raise ValueError(
                f"{name or 'model'} is a {type(layer).__name__} that changes its table"
                " when it is read; only plain Embeddings are quantized."
            )
        if type(layer) in (*QUANTIZED, nn.Embedding) and (
            layer._forward_hooks or layer._forward_pre_hooks
        ):
            raise ValueError(
                f"{name or 'model'} has forward hooks, which a quantized layer would"
                " not call; remove them."
            )
        if type(layer) in QUANTIZED and not isinstance(layer.bias, nn.Parameter | None):
            raise ValueError(f"{name}{name and '.'}bias {COMPUTED}.")


def input_ranges(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, tuple[float, float]]:
    """Smallest and largest number that goes into each linear and convolutional layer,
    by module name.

    A layer that never runs has no entry.

    Raises:
        ValueError: a batch is empty, or numbers are not finite.
    """
    ranges: dict[str, tuple[float, float]] = {}

    def note(name: str, _: nn.Module, inputs: tuple, __: Tensor) -> None:
        if not inputs[0].numel():
            return
        low, high = inputs[0].min().item(), inputs[0].max().item()
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(
                f"what goes into {name} is not finite everywhere; check the layers"
                " before it."
            )
        before = ranges.get(name, (low, high))
        ranges[name] = min(before[0], low), max(before[1], high)

    with eval_mode(model), torch.no_grad(), watching(prunable_layers(model), note):
        for images in calibration_pictures(batches):
            answer(model, images, "batches")
    return ranges


def calibration_pictures(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    """The pictures of each batch, or the windows of text, without gradient, when they
    are fit to calibrate with.

    Raises:
        ValueError: an empty batch, or one with numbers that are not finite.
    """
    for number, (images, _) in enumerate(batches):
        if not images.numel():
            raise ValueError(
                f"batches[{number}] has the shape {list(images.shape)}; it must hold"
                " pictures."
            )
        if not images.isfinite().all():
            raise ValueError(
                f"batches[{number}] is not finite everywhere; only finite pictures give"
                " a range."
            )
        yield images.detach()


class _Quantized(nn.Module):
    """What a quantized layer adds to the plain one: the grid of what comes in, and the
    weight on its own grid."""

    weight: Tensor
    bias: Tensor | None
    input_scale: Tensor
    input_zero_point: Tensor

    def _adopt(
        self, layer: Plain, grid: Grid, bits: int, per_channel: bool, parts: dict
    ) -> None:
        # a parameter that was copied before is among the parts
        self.weight = copy.deepcopy(layer.weight, parts)
        self.bias = copy.deepcopy(layer.bias, parts)
        self.register_buffer("input_scale", grid.scale)
        self.register_buffer("input_zero_point", grid.zero_point)
        self.highest, self.bits, self.per_channel = grid.highest, bits, per_channel

    def weight_grid(self) -> Grid:
        """Where the weight lies now."""
        return weight_grid(self.weight, self.bits, per_channel=self.per_channel)

    def input_grid(self) -> Grid:
        """Of what comes in."""
        return Grid(self.input_scale, self.input_zero_point, 0, self.highest)


class QuantizedLinear(_Quantized, nn.Linear):
    """A linear layer with weight and input on their grids."""

    def __init__(
        self,
        layer: nn.Linear,
        grid: Grid,
        bits: int,
        per_channel: bool,
        parts: dict[int, Any],
    ) -> None:
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self._adopt(layer, grid, bits, per_channel, parts)

    def forward(self, input: Tensor) -> Tensor:
        """`[..., inputs]` -> `[..., outputs]`"""
        weight = self.weight_grid().snap(self.weight)
        return F.linear(self.input_grid().snap(input), weight, self.bias)


class QuantizedConv2d(_Quantized, nn.Conv2d):
    """A convolution with weight and input on their grids."""

    def __init__(
        self,
        layer: nn.Conv2d,
        grid: Grid,
        bits: int,
        per_channel: bool,
        parts: dict[int, Any],
    ) -> None:
        super().__init__(
            layer.in_channels, layer.out_channels, *_geometry(layer), device="meta"
        )
        self._adopt(layer, grid, bits, per_channel, parts)

    def forward(self, input: Tensor) -> Tensor:
        """`[n, inputs, height, width]` -> `[n, outputs, height, width]`"""
        weight = self.weight_grid().snap(self.weight)
        _, *how = _geometry(self)
        return F.conv2d(self.input_grid().snap(input), weight, self.bias, *how)


class QuantizedEmbedding(nn.Embedding):
    """An embedding with its table on its grid; a row is a unit."""

    def __init__(
        self, layer: nn.Embedding, bits: int, per_channel: bool, parts: dict[int, Any]
    ) -> None:
        sizes = (layer.num_embeddings, layer.embedding_dim)
        super().__init__(*sizes, layer.padding_idx, device="meta")
        # the head that it is tied to has a copy among the parts
        self.weight = copy.deepcopy(layer.weight, parts)
        self.bits, self.per_channel = bits, per_channel

    def weight_grid(self) -> Grid:
        """Where the table lies now."""
        return weight_grid(self.weight, self.bits, per_channel=self.per_channel)

    def forward(self, input: Tensor) -> Tensor:
        """Numbers `[...]` -> their rows, `[..., width]`"""
        table = self.weight_grid().snap(self.weight)
        return F.embedding(input, table, self.padding_idx)


def _geometry(layer: nn.Conv2d) -> tuple[Any, ...]:
    """Kernel size, stride, padding, dilation and groups, as convolutions take them."""
    return (
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
    )


QUANTIZED: dict[type, Callable] = {
    nn.Linear: QuantizedLinear,
    nn.Conv2d: QuantizedConv2d,
}


def plain(model: nn.Module) -> nn.Module:
    """A copy with plain layers whose weights lie on their grids: for `deploy`, after
    quantization-aware training.

    >>> network = nn.Sequential(nn.Linear(4, 2))
    >>> plain(quantized(network, [(torch.rand(16, 4), torch.zeros(16))]))
    Sequential(
      (0): Linear(in_features=4, out_features=2, bias=True)
    )
    """
    twins: dict[int, nn.Parameter] = {}  # of weights and biases, so that tied ones stay
    layers = {
        id(module): _plain_layer(module, twins)
        for module in model.modules()
        if isinstance(module, QuantizedLinear | QuantizedConv2d | QuantizedEmbedding)
    }
    return copied(model, layers)


def _plain_layer(
    layer: QuantizedLinear | QuantizedConv2d | QuantizedEmbedding,
    twins: dict[int, nn.Parameter],
) -> nn.Module:
    with_bias = getattr(layer, "bias", None) is not None
    twin: Plain | nn.Embedding
    if isinstance(layer, QuantizedEmbedding):
        sizes = (layer.num_embeddings, layer.embedding_dim)
        twin = nn.Embedding(*sizes, layer.padding_idx, device="meta")
    elif isinstance(layer, QuantizedLinear):
        sizes = (layer.in_features, layer.out_features)
        twin = nn.Linear(*sizes, with_bias, device="meta")
    else:
        sizes = (layer.in_channels, layer.out_channels)
        twin = nn.Conv2d(*sizes, *_geometry(layer), bias=with_bias, device="meta")
    for own in ("weight", "bias") if with_bias else ("weight",):
        tensor = getattr(layer, own)
        if id(tensor) not in twins:
            value = tensor.detach().clone()
            if own == "weight":
                value = layer.weight_grid().snap(value)
            twins[id(tensor)] = nn.Parameter(value, tensor.requires_grad)
        setattr(twin, own, twins[id(tensor)])
    return twin.train(layer.training)


FUSE: dict[type, Callable] = {
    nn.Conv2d: fuse_conv_bn_eval,
    nn.Linear: fuse_linear_bn_eval,
}


def fold_batchnorm(model: nn.Module) -> nn.Module:
    """A copy, in eval mode, in which each BatchNorm is part of the layer before it, and
    does nothing itself.

    In eval mode BatchNorm multiplies and adds one number a channel; a layer before it
    can do that with its weights (Jacob et al. 2018, sec. 3.2). Same outputs, but for
    rounding. A BatchNorm after anything else stays, and so does one after a layer whose
    output or weight is used elsewhere too (a short cut, say, or tied weights), and
    where the layer or the BatchNorm is used twice or has forward hooks.

    A network without BatchNorm is copied as it is.

    Raises:
        ValueError: the network has BatchNorm and cannot be traced, or cannot be copied.

    >>> fold_batchnorm(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU()))
    Sequential(
      (0): Linear(in_features=4, out_features=3, bias=True)
      (1): Identity()
      (2): ReLU()
    )
    """
    modules = dict(model.named_modules())
    if not any(isinstance(module, _BatchNorm) for module in modules.values()):
        return copied(model).eval()
    with eval_mode(model):
        nodes = trace(model).nodes
    # how often each module runs, or has a tensor of its own used without it
    uses = Counter(
        str(node.target).rpartition(".")[0]
        if node.op == "get_attr"
        else str(node.target)
        for node in nodes
        if node.op in ("call_module", "get_attr")
    )
    tied = {name for names in shared(model) for name in names}
    # id of a part of the network -> what takes its place in the copy
    folded: dict[int, nn.Module] = {}
    for node in nodes:
        names = _layer_and_norm(node)
        if names and all(uses[name] == 1 for name in names):
            layer, norm = (modules[name] for name in names)
            if _can_fuse(layer, norm) and not tied & {
                f"{names[0]}.weight",
                f"{names[0]}.bias",
            }:
                folded |= {id(layer): _fused(layer, norm), id(norm): nn.Identity()}
    return copied(model, folded).eval()


def _fused(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """A layer that does what both do; trained where one of them is."""
    twins = (copy.deepcopy(part).eval() for part in (layer, norm))
    fused = FUSE[type(layer)](*twins)
    parameters = (*layer.parameters(), *norm.parameters())
    # PyTorch freezes a bias that was not there before
    fused.bias.requires_grad_(any(each.requires_grad for each in parameters))
    return fused


def _layer_and_norm(node: fx.Node) -> tuple[str, str] | None:
    """Names of two modules that run one after the other, when only the second gets what
    the first gives."""
    before = node.args[0] if node.op == "call_module" and node.args else None
    if not isinstance(before, fx.Node) or before.op != "call_module":
        return None
    return (str(before.target), str(node.target)) if len(before.users) == 1 else None


def _can_fuse(layer: nn.Module, norm: nn.Module) -> bool:
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in (layer, norm))
    known = type(layer) in FUSE and isinstance(norm, _BatchNorm)
    return known and not hooked and norm.running_mean is not None


def _check_bits(bits: int, argument: str = "bits") -> int:
    return whole(argument, bits, 2, 8)
