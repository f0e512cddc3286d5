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
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from utils.data import Batches
from utils.layers import eval_mode, prunable, prunable_layers, watching


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
        shape."""
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
        2013)."""
        low, high = (
            self.lowest - self.zero_point.item(),
            self.highest - self.zero_point.item(),
        )
        step = self._step(values)
        # its gradient is 0 outside
        inside = (values / step).clamp(low - 0.5, high + 0.5)
        return step * (inside + (inside.round().clamp(low, high) - inside).detach())

    def _step(self, values: Tensor) -> Tensor:
        """The scale, and at least the smallest number of the type they are computed in:
        0 / 0 is no zero."""
        return self.scale.clamp(min=_smallest(torch.result_type(values, self.scale)))


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
    1, ...]`, or of the whole weight.

    Raises:
        ValueError: bits outside 2..8, a weight that is not finite, or a unit without
            weights.
    """
    highest = 2 ** (_check_bits(bits) - 1) - 1
    if 0 in (weight.shape[1:] if per_channel and weight.dim() > 1 else weight.shape):
        raise ValueError(
            f"the weight has the shape {list(weight.shape)}; a grid needs at least one"
            " number a unit."
        )
    magnitude = weight.detach().abs()
    if not magnitude.isfinite().all():
        raise ValueError(
            "the weight is not finite everywhere; only finite numbers fit on a grid."
        )
    largest = (
        magnitude.amax(dim=tuple(range(1, weight.dim())), keepdim=True)
        if per_channel
        else magnitude.amax()
    )
    # a unit of zeros: any scale will do
    scale = torch.where(largest > 0, largest, 1.0) / highest
    return Grid(
        scale.clamp(min=_smallest(scale.dtype)), torch.zeros(()), -highest, highest
    )


def activation_grid(low: float, high: float, bits: int = 8) -> Grid:
    """The grid for activations seen between `low` and `high`: 0 .. 2**bits - 1, 0.0
    exactly on it.

    Raises:
        ValueError: bits outside 2..8; low above high, not finite, or a scale too large
            for float32.
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


def quantize_weights(
    model: nn.Module, bits: int = 8, *, per_channel: bool = True
) -> nn.Module:
    """A copy whose linear and convolutional weights lie on their grids; activations
    stay as they are."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        for weight in prunable(result).values():
            weight.copy_(
                weight_grid(weight, bits, per_channel=per_channel).snap(weight)
            )
    return result


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
    in to their grids; the activations' grids are those of the ranges seen on `batches`
    (calibration). Parameters keep their names, so masks fit. Train it with `fit`, and
    it learns to live with the rounding (quantization-aware training, Jacob et al. 2018,
    sec. 3): the gradient passes through.

    Raises:
        ValueError: no batches, or an empty one; bits outside 2..8; a layer that is not
            a plain Linear or Conv2d, that never runs or is called with keyword
            arguments; numbers that are not finite.
    """
    batches = list(batches)
    if not batches:
        raise ValueError("batches is empty; calibration needs at least one.")
    _check_bits(bits)
    _check_bits(activation_bits, "activation_bits")
    folded = fold_batchnorm(model, next(calibration_pictures(batches))[:1])
    for name, layer in prunable_layers(folded).items():
        if type(layer) not in QUANTIZED or (
            isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros"
        ):
            raise ValueError(
                f"{name} is a {type(layer).__name__}; only plain Linear and Conv2d"
                " layers are quantized."
            )
    ranges = input_ranges(folded, batches)
    idle = [name for name in prunable_layers(folded) if name not in ranges]
    if idle:
        raise ValueError(
            f"{', '.join(idle)} never runs on these batches; without inputs there is no"
            " range. Remove it."
        )
    quantized_layers = {}
    for name, layer in prunable_layers(folded).items():
        grid = activation_grid(*ranges[name], activation_bits)
        quantized_layers[id(layer)] = QUANTIZED[type(layer)](
            layer, grid, bits, per_channel
        )
    return copy.deepcopy(folded, quantized_layers).eval()


def input_ranges(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, tuple[float, float]]:
    """Smallest and largest number that goes into each linear and convolutional layer,
    by module name.

    A layer that never runs has no entry.

    Raises:
        ValueError: a batch is empty, numbers are not finite, or a layer is called with
            keyword arguments.
    """
    ranges: dict[str, tuple[float, float]] = {}

    def note(name: str, layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        if not inputs:
            raise ValueError(
                f"{name} is called with keyword arguments; give it its input by"
                " position: layer(x)."
            )
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
            model(images)
    return ranges


def calibration_pictures(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    """The pictures of each batch, without gradient, when they are fit to calibrate
    with.

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


class _Quantized:
    """What a quantized layer adds to the plain one: the grid of what comes in, and the
    weight on its own grid."""

    def _adopt(
        self, layer: nn.Module, grid: Grid, bits: int, per_channel: bool
    ) -> None:
        self.weight, self.bias = nn.Parameter(layer.weight.detach().clone()), None
        if layer.bias is not None:
            self.bias = nn.Parameter(layer.bias.detach().clone())
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
        self, layer: nn.Linear, grid: Grid, bits: int, per_channel: bool
    ) -> None:
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self._adopt(layer, grid, bits, per_channel)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., inputs]` -> `[..., outputs]`"""
        return F.linear(
            self.input_grid().snap(x), self.weight_grid().snap(self.weight), self.bias
        )


class QuantizedConv2d(_Quantized, nn.Conv2d):
    """A convolution with weight and input on their grids."""

    def __init__(
        self, layer: nn.Conv2d, grid: Grid, bits: int, per_channel: bool
    ) -> None:
        shape = (
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
        )
        super().__init__(layer.in_channels, layer.out_channels, *shape, device="meta")
        self._adopt(layer, grid, bits, per_channel)

    def forward(self, x: Tensor) -> Tensor:
        """`[n, inputs, height, width]` -> `[n, outputs, height, width]`"""
        weight = self.weight_grid().snap(self.weight)
        rest = (self.stride, self.padding, self.dilation, self.groups)
        return F.conv2d(self.input_grid().snap(x), weight, self.bias, *rest)


QUANTIZED: dict[type, Callable] = {
    nn.Linear: QuantizedLinear,
    nn.Conv2d: QuantizedConv2d,
}


def plain(model: nn.Module) -> nn.Module:
    """A copy with plain layers whose weights lie on their grids: for `deploy`, after
    quantization-aware training."""
    layers = {
        id(module): _plain_layer(module)
        for module in model.modules()
        if isinstance(module, _Quantized)
    }
    return copy.deepcopy(model, layers)


def _plain_layer(layer: nn.Module) -> nn.Module:
    with_bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        twin = nn.Linear(
            layer.in_features, layer.out_features, with_bias, dtype=layer.weight.dtype
        )
    else:
        rest = (
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            with_bias,
        )
        twin = nn.Conv2d(
            layer.in_channels, layer.out_channels, *rest, dtype=layer.weight.dtype
        )
    with torch.no_grad():
        twin.weight.copy_(layer.weight_grid().snap(layer.weight))
        if with_bias:
            twin.bias.copy_(layer.bias)
    return twin.train(layer.training)


FUSE = {nn.Conv2d: fuse_conv_bn_eval, nn.Linear: fuse_linear_bn_eval}


def fold_batchnorm(model: nn.Module, example: Tensor) -> nn.Module:
    """A copy, in eval mode, in which each BatchNorm is part of the layer before it, and
    does nothing itself.

    In eval mode BatchNorm multiplies and adds one number a channel; a layer before it
    can do that with its weights (Jacob et al. 2018, sec. 3.2). Same outputs, but for
    rounding. A BatchNorm after anything else stays, and so does one after a layer whose
    output goes elsewhere too (a short cut, say, or out of the network), and where the
    layer or the BatchNorm has forward hooks.

    What is seen is one run on `example`. So the outputs do change where the layer's
    weight is used without the layer (`F.conv2d(x, self.conv.weight)`), or its output in
    a way that this run does not show: by inputs of another shape or with other values
        only, outside PyTorch (`.numpy()`, `.item()`), or in an object of your own that
        is returned.

    Args:
        example: one input of the shape the network takes, `[1, ...]`.
    """
    modules = dict(model.named_modules())
    # id of an output -> its layer, and the output, so that ids stay unique
    made_by: dict[int, tuple[str, Tensor]] = {}
    pairs: dict[str, str] = {}  # BatchNorm: the layer before it
    runs: Counter[str] = Counter()
    uses = _Uses()

    def note(name: str, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        runs[name] += 1
        if isinstance(module, _BatchNorm) and inputs and id(inputs[0]) in made_by:
            pairs[name] = made_by[id(inputs[0])][0]
        made_by[id(output)] = (name, output)
        uses.count[id(output)] = 0  # a tensor that is gone may have had this id

    watched = {
        name: module
        for name, module in modules.items()
        if type(module) in FUSE or isinstance(module, _BatchNorm)
    }
    with eval_mode(model), torch.no_grad(), watching(watched, note), uses:
        result = model(example)
    uses.count.update(id(leaf) for leaf in tree_leaves(result))
    alone = {name for name, output in made_by.values() if uses.count[id(output)] == 1}
    # id of a part of the network -> what takes its place in the copy
    folded: dict[int, nn.Module] = {}
    for norm, layer in pairs.items():
        once = runs[norm] == runs[layer] == 1 and layer in alone
        hooked = any(
            modules[n]._forward_hooks or modules[n]._forward_pre_hooks
            for n in (layer, norm)
        )
        if (
            once
            and not hooked
            and type(modules[layer]) in FUSE
            and modules[norm].running_mean is not None
        ):
            before, after = (
                copy.deepcopy(modules[name]).eval() for name in (layer, norm)
            )
            folded |= {
                id(modules[layer]): FUSE[type(before)](before, after),
                id(modules[norm]): nn.Identity(),
            }
    return copy.deepcopy(model, folded).eval()


class _Uses(TorchFunctionMode):
    """Counts into how many operations each tensor goes, by its id; also those in
    place."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()

    def __torch_function__(
        self,
        function: Callable,
        types: tuple,
        args: tuple = (),
        kwargs: dict | None = None,
    ):
        result = function(*args, **(kwargs or {}))
        # not the question for a shape
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            self.count.update(
                id(leaf)
                for leaf in tree_leaves((args, kwargs))
                if isinstance(leaf, Tensor)
            )
        return result


def _check_bits(bits: int, argument: str = "bits") -> int:
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8:
        raise ValueError(f"{argument}={bits!r} must be a whole number from 2 to 8.")
    return bits
