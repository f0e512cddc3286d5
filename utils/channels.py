"""Which channels of a network must leave together. Built in
lessons/05_structured_pruning.

`follow` traces a network with torch.fx and gives every channel a number. Wherever two
channels can only leave together (the two sides of an addition, the inputs and outputs
of a depth-wise convolution) their numbers are tied. `surgery` then only looks up, layer
by layer, which outputs and which inputs carry a number that goes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from utils.layers import Prunable, eval_mode, prunable_layers

# the number of what cannot leave: the picture's channels and the network's outputs
FIXED = 0
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CONVOLVE = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}  # by the axes of the weight

# What treats each channel by itself, so that its outputs carry the numbers of its
# inputs.
POOLS = tuple(
    getattr(nn, f"{kind}Pool{n}d")
    for n in (1, 2, 3)
    for kind in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg")
)
ACTIVATIONS = (
    *(
        nn.ReLU,
        nn.ReLU6,
        nn.LeakyReLU,
        nn.ELU,
        nn.GELU,
        nn.SiLU,
        nn.Mish,
        nn.Tanh,
        nn.Sigmoid,
        nn.Softplus,
    ),
    *(nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
)
CHANNELWISE_MODULES = (
    *POOLS,
    *ACTIVATIONS,
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
)
CHANNELWISE = {
    *(
        "relu",
        "relu6",
        "leaky_relu",
        "elu",
        "gelu",
        "silu",
        "mish",
        "tanh",
        "sigmoid",
        "softplus",
    ),
    *("hardtanh", "hardswish", "hardsigmoid", "clamp", "neg", "abs"),
    *("dropout", "dropout2d", "stochastic_depth", "contiguous", "clone", "detach"),
    *("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d"),
}
# each output depends on all channels: they stay
MIXING_MODULES = (nn.Softmax, nn.LogSoftmax)
MIXING = {"softmax", "log_softmax"}
# element by element
JOINING = {"add", "iadd", "sub", "isub", "mul", "imul", "truediv", "div"}
FLATTENING = {"flatten", "view", "reshape", "squeeze"}


@dataclass(frozen=True)
class Layer:
    """The channel numbers that a layer reads and writes; `inputs` is None for
    BatchNorm, which has no second axis."""

    module: nn.Module
    outputs: np.ndarray
    inputs: np.ndarray | None = None


@dataclass(frozen=True)
class Channels:
    """A network and which of its channels must leave together. Made by `follow`.

    Equal numbers leave together; number 0 never leaves.
    """

    model: nn.Module
    layers: dict[str, Layer]
    units: dict[str, np.ndarray]
    count: int  # all numbers are below it

    def sets(self) -> dict[str, np.ndarray]:
        """The units that can leave, as numbers, by the layer that brought them in.
        Those of a set are alike."""
        return dict(self.units)

    def takes(self, layer: str, unit: int) -> dict[str, list[int]]:
        """What leaves with one unit: positions by `"layer outputs"` and `"layer
        inputs"`. Built in lessons/04_neurons_and_filters (`leaves_with_a_filter`).

        Raises:
            ValueError: no such layer or unit.

        >>> network = nn.Sequential(
        ...     nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3)
        ... )
        >>> follow(network, torch.zeros(1, 1, 8, 8)).takes("0", 3)
        {'0 outputs': [3], '1 outputs': [3], '2 inputs': [3]}
        """
        if layer not in self.layers or not 0 <= unit < len(self.layers[layer].outputs):
            raise ValueError(
                f"layer={layer!r}, unit={unit!r}: give one of {', '.join(self.layers)}"
                " and a unit of it."
            )
        goes = self.layers[layer].outputs[unit]
        sides = {
            f"{name} {side}": numbers
            for name, each in self.layers.items()
            for side, numbers in (("outputs", each.outputs), ("inputs", each.inputs))
            if numbers is not None
        }
        return {
            side: np.flatnonzero(numbers == goes).tolist()
            for side, numbers in sides.items()
            if (numbers == goes).any()
        }

    def layer(self, parameter: str, argument: str) -> Layer:
        """The layer with units whose weight is called `parameter`.

        Raises:
            ValueError: there is none; names `argument` and lists the known ones.
        """
        layer = self.layers.get(parameter.removesuffix(".weight"))
        if layer is None or layer.inputs is None:
            known = ", ".join(
                f"{name}.weight"
                for name, each in self.layers.items()
                if each.inputs is not None
            )
            raise ValueError(
                f"{argument} names {parameter!r}, which is no layer with units here."
                f" Layers: {known}."
            )
        return layer


def follow(model: nn.Module, example: Tensor) -> Channels:
    """Trace the network and follow each channel to all it is tied to. Nothing is
    computed: only shapes flow.

    Args:
        example: one input of the shape the network takes, `[1, ...]`; its values do not
            matter.
    Raises:
        ValueError: the network cannot be traced, or does something to its channels that
            cannot be followed; names the module and says why.

    >>> network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> channels = follow(network, torch.zeros(1, 6))
    >>> channels.layers["0"].outputs, channels.layers["2"].inputs
    (array([1, 2, 3, 4]), array([1, 2, 3, 4]))
    """
    _refuse_odd_weights(model)
    with eval_mode(model), torch.no_grad():
        follower = _Follower(model, trace(model))
        try:
            follower.run(example.to("meta"))
        except RuntimeError as error:
            raise ValueError(
                f"example {list(example.shape)} does not fit the network: {error}"
            ) from error
    return follower.channels(model)


# ----------------------------------------------------------------------- how it is done


class _Ties:
    """Numbers that are tied: a forest (union-find) in which each number points to a
    smaller one of its set, and the smallest, the root, to itself."""

    def __init__(self) -> None:
        self.above = np.array([FIXED])

    def new(self, count: int) -> np.ndarray:
        """`count` fresh numbers, tied to nothing."""
        start = len(self.above)
        fresh = np.arange(start, start + count)
        self.above = np.concatenate([self.above, fresh])
        return fresh

    def root(self, numbers: np.ndarray) -> np.ndarray:
        """The smallest number that each is tied to; of the same shape."""
        while True:  # all of them one step up at a time
            above = self.above[numbers]
            if np.array_equal(above, numbers):
                return numbers
            numbers = above

    def tie(self, one: np.ndarray, other: np.ndarray | int) -> None:
        """From now on `one[i]` and `other[i]` have one root."""
        while True:
            a, b = np.broadcast_arrays(self.root(one), self.root(np.asarray(other)))
            if np.array_equal(a, b):
                return
            # the larger root now points to the smaller; where one root is to be tied to
            # several, the smallest wins, and the next round ties the rest
            np.minimum.at(self.above, np.maximum(a, b), np.minimum(a, b))


class _Tracer(fx.Tracer):
    """Remembers in which module tracing stopped."""

    stopped_in = ""

    def call_module(self, m: Any, forward: Any, args: Any, kwargs: Any) -> Any:
        path = self.path_of_module(m)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.stopped_in = self.stopped_in or path
            raise


def trace(model: nn.Module) -> fx.Graph:
    """The operations of a network and what goes into each.

    Raises:
        ValueError: it cannot be traced; names the module where that failed.
    """
    tracer = _Tracer()
    try:
        return tracer.trace(model)
    except Exception as error:  # whatever its code raises
        where = tracer.stopped_in or type(model).__name__
        raise ValueError(
            f"{where} cannot be traced ({type(error).__name__}: {error})."
        ) from error


class _Follower(fx.Interpreter):
    """Runs the traced network on shapes, and beside each value keeps the numbers of its
    channels (axis 1)."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, graph=graph, garbage_collect_values=False)
        self.extra_traceback = False
        self.modules = dict(model.named_modules())
        self.ties = _Ties()
        self.layers: dict[str, Layer] = {}
        # layer, and the first of the numbers it brought in
        self.homes: list[tuple[str, int]] = []
        self.numbers: dict[fx.Node, np.ndarray] = {}

    def channels(self, model: nn.Module) -> Channels:
        """What was found, each number replaced by its root."""
        root = self.ties.root
        layers = {
            name: Layer(
                each.module,
                root(each.outputs),
                None if each.inputs is None else root(each.inputs),
            )
            for name, each in self.layers.items()
        }
        count = len(self.ties.above)
        roots = np.unique(root(np.arange(count)))
        roots = roots[roots != FIXED]
        starts = [start for _, start in self.homes]
        home = np.searchsorted(starts, roots, side="right") - 1
        units = {self.homes[h][0]: roots[home == h] for h in np.unique(home)}
        return Channels(model, layers, units, count)

    def call_module(self, target: Any, args: tuple, kwargs: dict) -> Any:
        module = self.modules[target]
        if isinstance(module, nn.Linear):
            return F.linear(args[0], module.weight.detach().to("meta"))
        if isinstance(module, CONVOLUTIONS):
            convolve: Callable[..., Tensor] = CONVOLVE[module.weight.dim()]
            weight = module.weight.detach().to("meta")
            how = (module.stride, module.padding, module.dilation, module.groups)
            return convolve(args[0], weight, None, *how)
        # BatchNorm and what `_module` refuses
        if isinstance(module, ACTIVATIONS) or module.state_dict():
            return args[0]  # the same shape; asking PyTorch would take milliseconds
        return super().call_module(target, args, kwargs)

    def run_node(self, n: fx.Node) -> Any:
        node, value = n, super().run_node(n)
        if node.op == "output":
            for source in node.all_input_nodes:
                if source in self.numbers:
                    self.ties.tie(self.numbers[source], FIXED)
        elif isinstance(value, Tensor):
            self.numbers[node] = self._rule(node, value)
            if node.op != "placeholder" and (
                value.dim() < 2 or len(self.numbers[node]) != value.shape[1]
            ):
                self._stop(
                    node,
                    f"it gives {list(value.shape)}, whose axis 1 is not its channels",
                )
        elif isinstance(value, (tuple, list)) and any(
            isinstance(v, Tensor) for v in value
        ):
            self._stop(node, "it splits its channels, which surgery does not follow")
        return value

    def _rule(self, node: fx.Node, value: Tensor) -> np.ndarray:
        if node.op == "placeholder":
            return np.full(value.shape[1] if value.dim() > 1 else 1, FIXED)
        if node.op == "get_attr":
            self._stop(
                node,
                "it uses a bare parameter or buffer, and only those of layers are"
                " followed",
            )
        sources = [
            self.numbers[source]
            for source in node.all_input_nodes
            if source in self.numbers
        ]
        if node.op == "call_module":
            return self._module(node, str(node.target), value, sources[0])
        name = node.target if isinstance(node.target, str) else node.target.__name__
        name = name.strip("_")
        if name in CHANNELWISE:
            return self._channelwise(node, name, sources[0])
        if name in MIXING:
            return self._pin(sources[0])
        if name in JOINING:
            return self._join(node, sources)
        if name in ("cat", "concat") and _argument(node, 1, "dim", 0) in (
            1,
            1 - value.dim(),
        ):
            return np.concatenate(
                [self.numbers[source] for source in _argument(node, 0, "tensors", ())]
            )
        if name in FLATTENING:
            return self._flatten(node, value, sources[0])
        if name == "mean" and _spatial(
            _argument(node, 1, "dim", None), self.env[node.all_input_nodes[0]].dim()
        ):
            return sources[0]
        return self._stop(
            node, f"it calls {name}, and what that does to the channels is not known"
        )

    def _module(
        self, node: fx.Node, name: str, value: Tensor, source: np.ndarray
    ) -> np.ndarray:
        module = self.modules[name]
        if isinstance(module, nn.Linear) and value.dim() != 2:
            self._stop(
                node,
                f"it is a Linear on {value.dim()} axes; only [batch, features] is"
                " followed",
            )
        if isinstance(module, Prunable):
            return self._weighted(name, module, source)
        if isinstance(module, _BatchNorm):
            return self._layer(name, source, None)
        if isinstance(module, nn.Flatten):
            return self._flatten(node, value, source)
        if isinstance(module, CHANNELWISE_MODULES) or (
            isinstance(module, nn.PReLU) and module.num_parameters == 1
        ):
            return self._channelwise(node, type(module).__name__, source)
        if isinstance(module, MIXING_MODULES):
            return self._pin(source)
        return self._stop(
            node, f"{type(module).__name__} is no layer that surgery knows"
        )

    def _channelwise(self, node: fx.Node, name: str, source: np.ndarray) -> np.ndarray:
        """Each channel by itself; but a pooling needs as many axes behind the channels
        as its name says."""
        axes = self.env[node.all_input_nodes[0]].dim()
        # MaxPool2d, max_pool2d
        if "pool" in name.lower() and axes != 2 + int(name[-2]):
            self._stop(node, f"{name} on {axes} axes would mix the channels")
        return source

    def _pin(self, source: np.ndarray) -> np.ndarray:
        self.ties.tie(source, FIXED)
        return source

    def _weighted(self, name: str, module: Prunable, source: np.ndarray) -> np.ndarray:
        """A linear layer or convolution brings in new numbers; in a grouped one each
        group is one unit."""
        units = module.weight.shape[0]
        if not is_grouped(module):
            known = self.layers.get(name)
            return self._layer(
                name, known.outputs if known else self._new(units, name), source
            )
        # [channels] -> [groups, channels of a group]: those of one group are tied
        groups = source.reshape(getattr(module, "groups", 1), -1)
        self.ties.tie(groups, groups[:, :1])
        # each output of a group carries the number of the group's inputs
        return self._layer(name, np.repeat(groups[:, 0], units // len(groups)), source)

    def _new(self, units: int, layer: str) -> np.ndarray:
        """Fresh numbers for the outputs of a layer."""
        self.homes.append((layer, len(self.ties.above)))
        return self.ties.new(units)

    def _layer(
        self, name: str, outputs: np.ndarray, inputs: np.ndarray | None
    ) -> np.ndarray:
        """Note a layer's numbers; called a second time, it is tied to the first."""
        known = self.layers.setdefault(name, Layer(self.modules[name], outputs, inputs))
        self.ties.tie(known.outputs, outputs)
        if inputs is not None and known.inputs is not None:
            self.ties.tie(known.inputs, inputs)
        return outputs

    def _join(self, node: fx.Node, sources: list[np.ndarray]) -> np.ndarray:
        axes = {
            self.env[source].dim()
            for source in node.all_input_nodes
            if source in self.numbers
        }
        if len(axes) > 1:
            self._stop(node, "it joins tensors with different numbers of axes")
        widest = max(sources, key=len)
        for source in sources:
            if len(source) == len(widest):
                self.ties.tie(source, widest)
            elif len(source) == 1:  # one channel for all: it must stay
                self.ties.tie(source, FIXED)
            else:
                self._stop(node, "it joins tensors of different widths")
        return widest

    def _flatten(self, node: fx.Node, value: Tensor, source: np.ndarray) -> np.ndarray:
        """`[n, channels, height, width] -> [n, channels * height * width]`: each
        channel becomes a block."""
        before = self.env[node.all_input_nodes[0]]
        flat = (
            value.dim() >= 2
            and value.shape[0] == before.shape[0]
            and value.shape[1] % len(source) == 0
            # with axes left behind them, the channels must be as they were
            and (value.dim() == 2 or value.shape[1] == len(source))
        )
        if not flat:
            self._stop(
                node,
                f"it turns {list(before.shape)} into {list(value.shape)}, not into"
                " [batch, features]",
            )
        if node.op != "call_module" and any(
            argument == value.shape[1] for argument in _sizes(node)
        ):
            self.ties.tie(source, FIXED)  # the width is written into the code
        # channel c becomes the features c * size ... (c + 1) * size - 1
        return np.repeat(source, value.shape[1] // len(source))

    def _stop(self, node: fx.Node, why: str) -> NoReturn:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        where = (
            node.target
            if node.op == "call_module"
            else (stack[-1][0] if stack else type(self.module).__name__)
        )
        raise ValueError(
            f"{where or type(self.module).__name__} cannot be followed: {why}."
        )


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    return node.kwargs.get(
        name, node.args[position] if len(node.args) > position else default
    )


def _sizes(node: fx.Node) -> list:
    """The sizes that a `view` or `reshape` asks for, behind the first."""
    if (node.target if isinstance(node.target, str) else node.target.__name__) not in (
        "view",
        "reshape",
    ):
        return []
    sizes = node.args[1:]
    return list(
        sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    )[1:]


def _spatial(dims: int | Sequence[int] | None, total: int) -> bool:
    """Whether a mean leaves the axes of batch and channels alone."""
    dims = [dims] if isinstance(dims, int) else dims
    return bool(dims) and all(d % total >= 2 for d in dims)


def is_grouped(module: nn.Module) -> bool:
    """Whether a layer is a grouped (or depth-wise) convolution."""
    return getattr(module, "groups", 1) > 1


def _refuse_odd_weights(model: nn.Module) -> None:
    """Two layers with one tensor would need the same cut; a computed weight has no
    tensor to cut."""
    seen: dict[int, str] = {}
    for name, layer in prunable_layers(model).items():
        if "weight" not in dict(layer.named_parameters(recurse=False)):
            raise ValueError(
                f"{name} cannot be followed: its weight is computed from others. If"
                " torch.nn.utils.prune did that, make it permanent with prune.remove."
            )
        if id(layer.weight) in seen:
            raise ValueError(
                f"{name} cannot be followed: it shares its weight with"
                f" {seen[id(layer.weight)]}."
            )
        seen[id(layer.weight)] = name
