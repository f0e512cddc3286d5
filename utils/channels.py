"""Which channels of a network must leave together. Built in
lessons/05_structured_pruning.

`follow` traces a network with torch.fx and gives every channel a number. Wherever two
channels can only leave together (the two sides of an addition, the inputs and outputs
of a depth-wise convolution) their numbers are tied. `surgery` then only looks up, layer
by layer, which outputs and which inputs carry a number that goes.

In pictures `[n, channels, ...]` the channels are on axis 1; in text, `[n, t, width]`,
on the last. There a head of `models.Attention` is one unit: its rows of query, key and
value and its columns of out have one number. The channels of the residual stream are
the columns of the embedding.
"""

import inspect
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from utils.arguments import whole
from utils.layers import eval_mode, place, prunable, uncompiled
from utils.models import Attention

# the number of what cannot leave: the picture's channels and the network's outputs
FIXED = 0
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CONVOLVE = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}  # by the axes of the weight
WEIGHTED = (nn.Linear, *CONVOLUTIONS)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
# what takes the channels to be on the last axis
ON_LAST_AXIS = (nn.Linear, nn.LayerNorm, Attention)
# the linear layers of an attention that read what goes in; `out` reads what they mixed
READING = ("query", "key", "value")
# what layers hold with an entry a unit
BY_UNIT = ("weight", "bias", "running_mean", "running_var")


class Nothing(nn.Module):
    """Puts out zeros, of the shape of what it gets. It stands where surgery took out a
    module whose output was added to a residual stream."""

    def forward(self, first: Tensor, /, *_more: Any, **_named: Any) -> Tensor:
        return torch.zeros_like(first)


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
    Nothing,
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
# with what numbers are joined, too
CALCULATING = {*JOINING, "clamp"}
FLATTENING = {"flatten", "view", "reshape", "squeeze"}
# what a size does not depend on
WIDTHLESS = {"dim", "ndim", "ndimension", "dtype", "device"}
# the sizes that layers keep: code that reads them may compute something else afterwards
SIZES = {
    *("in_channels", "out_channels", "in_features", "out_features", "num_features"),
    "groups",
}


@dataclass(frozen=True)
class Layer:
    """The channel numbers that a layer reads and writes; `inputs` is None for
    BatchNorm and LayerNorm, which have no second axis. An embedding reads pieces and
    writes its columns."""

    module: Any  # of WEIGHTED or NORMS, a LayerNorm, or an Embedding
    outputs: np.ndarray
    inputs: np.ndarray | None = None

    def axes(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The numbers along the first and the second axis of the weight."""
        if isinstance(self.module, nn.Embedding):  # [pieces, width]
            assert self.inputs is not None
            return self.inputs, self.outputs
        return self.outputs, self.inputs


@dataclass(frozen=True)
class Channels:
    """A network and which of its channels must leave together. Made by `follow`.

    Equal numbers leave together; number 0 never leaves.
    """

    model: nn.Module
    layers: dict[str, Layer]
    units: dict[str, np.ndarray]
    count: int  # all numbers are below it
    graph: fx.Graph = field(repr=False)
    # of each value in the graph: the numbers of its channels, the axis they are on, and
    # its value on the meta device
    numbers: dict[fx.Node, np.ndarray] = field(repr=False)
    axes: dict[fx.Node, int] = field(repr=False)
    values: dict[fx.Node, Any] = field(repr=False)

    def sets(self) -> dict[str, np.ndarray]:
        """The units that can leave, as numbers, by the layer that brought them in.
        Those of a set are alike."""
        return dict(self.units)

    def normalised(self) -> np.ndarray:
        """The numbers of the channels of which a LayerNorm takes mean and variance:
        without one of them it divides the others by something else."""
        seen = [
            layer.outputs
            for layer in self.layers.values()
            if isinstance(layer.module, nn.LayerNorm)
        ]
        return np.unique(np.concatenate([np.array([], dtype=int), *seen]))

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
        if layer not in self.layers:
            raise ValueError(
                f"layer={layer!r} is not known. Known: {', '.join(self.layers)}."
            )
        whole("unit", unit, high=len(self.layers[layer].outputs) - 1)
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
        layer = None
        if isinstance(parameter, str):
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

    def check_fit(self, keep: np.ndarray) -> None:
        """Make sure that the network still runs on the example, and with the widths
        that are expected, once only these numbers are kept, `[numbers]`. Only shapes
        are computed, and only where code that is no layer could ask for others.

        Raises:
            ValueError: it does not; says where.
        """
        _Fitting(self, keep).run(*self.graph.find_nodes(op="placeholder"))

    def check_code(self, smaller: nn.Module) -> None:
        """Make sure that the smaller network does the same operations with the same
        numbers: code may compute with the size of a layer (`x / conv.out_channels`).

        Raises:
            ValueError: it does not.
        """
        if not _reads_sizes(self.model, self.graph):
            return
        with eval_mode(smaller):
            same = str(trace(smaller)) == str(self.graph)
        if not same:
            raise ValueError(
                f"model ({type(self.model).__name__}) cannot lose these units: its code"
                " computes with the size of a layer that would be smaller."
            )


def follow(model: nn.Module, example: Tensor) -> Channels:
    """Trace the network and follow each channel to all it is tied to. Nothing is
    computed: only shapes flow.

    Args:
        example: one input of the shape the network takes, `[1, ...]`, of a text `[1,
            t]` int64; its values do not matter.
    Raises:
        ValueError: the network has no Linear or Conv layer, cannot be traced, has
            weights that are computed, shared or not there, hooks that could change what
            it does, or does something to its channels that cannot be followed; names
            the module and says why.

    >>> network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> channels = follow(network, torch.zeros(1, 6))
    >>> channels.layers["0"].outputs, channels.layers["2"].inputs
    (array([1, 2, 3, 4]), array([1, 2, 3, 4]))
    """
    check_plain(model)
    prunable(model)  # refuses weights that are computed or not there
    _refuse_hooks(model)
    if not isinstance(example, Tensor) or example.layout != torch.strided:
        raise ValueError(
            f"example is a {type(example).__name__}; give one tensor, one input of the"
            " shape that the network takes."
        )
    with eval_mode(model), torch.no_grad():
        follower = _Follower(model, trace(model), list(example.shape))
        follower.run(example.to("meta"))
    found = follower.channels(model)
    _refuse_shared(found)
    return found


def check_plain(model: nn.Module) -> None:
    """Refuse a network whose copy would still run parts of the old one.

    Raises:
        ValueError: a compiled part, or a module whose `forward` is replaced; names it.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model={model!r} is no network; give a torch.nn.Module.")
    for name, module in model.named_modules():
        where = name or f"model ({type(module).__name__})"
        if "_orig_mod" in module._modules:
            raise ValueError(
                f"{where} is compiled; give the network that was compiled (_orig_mod)."
            )
        if "forward" in vars(module) and not isinstance(module, fx.GraphModule):
            raise ValueError(
                f"{where} cannot be changed: its forward was replaced by another."
            )


def _refuse_hooks(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise ValueError(
                f"{name or f'model ({type(module).__name__})'} cannot be followed: it"
                " has a hook on its forward pass, which may change what it puts out;"
                " remove the hook first."
            )


def _refuse_shared(channels: Channels) -> None:
    """Memory that a layer shares with another would have to be cut the same in both. A
    head that is tied to the embedding is: see `_tie_heads`."""
    spans = sorted(
        (str(tensor.device), tensor.data_ptr(), _span(tensor), path, own)
        for path, module in channels.model.named_modules()
        for own, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None and tensor.numel() and tensor.layout == torch.strided
    )
    furthest = ("", 0, 0, "", "")
    for span in spans:
        if span[0] == furthest[0] and 0 < span[1] < furthest[1] + furthest[2]:
            one, other = (".".join(each[3:]) for each in (furthest, span))
            layers = {span[3], furthest[3]} & channels.layers.keys()
            if layers and not _same_columns(channels, one, other):
                raise ValueError(
                    f"{span[3]} cannot be followed: {other} shares its memory with"
                    f" {one}, and the two may have to lose different units."
                )
            furthest = max(furthest, span, key=lambda each: each[1] + each[2])
        else:
            furthest = span


def _same_columns(channels: Channels, one: str, other: str) -> bool:
    """Whether these are the embedding and the head of one network, in one tensor."""
    layers = [
        channels.layers.get(each.removesuffix(".weight")) for each in (one, other)
    ]
    kinds = {type(each.module) for each in layers if each}
    return kinds == {nn.Embedding, nn.Linear} and _one_tensor(*layers)


def _one_tensor(one: Any, other: Any) -> bool:
    return place(one.module.weight) == place(other.module.weight)


def _span(tensor: Tensor) -> int:
    """Bytes from its first element to its last."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return (1 + sum((size - 1) * step for size, step in steps)) * tensor.element_size()


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
    """Remembers in which module tracing stopped. Not into those with a rule of their
    own."""

    stopped_in = ""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in (Attention, Nothing) or super().is_leaf_module(
            m, module_qualified_name
        )

    def call_module(self, m: Any, forward: Any, args: Any, kwargs: Any) -> Any:
        path = self.path_of_module(m)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.stopped_in = self.stopped_in or path
            raise


class _Shallow(_Tracer):
    """Traces the code of one module, and that of none of its parts."""

    def is_leaf_module(
        self,
        m: nn.Module,  # noqa: ARG002 - as the method it replaces
        module_qualified_name: str,  # noqa: ARG002
    ) -> bool:
        return True


def own_code(model: nn.Module) -> fx.Graph:
    """`trace`, but not into the parts of the module."""
    return _trace(model, _Shallow())


def trace(model: nn.Module) -> fx.Graph:
    """The operations of a network and what goes into each.

    Raises:
        ValueError: it cannot be traced; names the module where that failed.
    """
    return _trace(model, _Tracer())


def _trace(model: nn.Module, tracer: _Tracer) -> fx.Graph:
    try:
        with _as_it_was(model), uncompiled():
            return tracer.trace(model)
    except Exception as error:  # whatever its code raises
        where = tracer.stopped_in or type(model).__name__
        raise ValueError(
            f"{where} cannot be traced ({type(error).__name__}: {error})."
        ) from error


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Put back what the network's code notes in its modules while it is traced, which
    would be placeholders."""
    leaves = (*WEIGHTED, *NORMS)  # these are not run
    run = [module for module in model.modules() if type(module) not in leaves]
    attributes = [
        (each, each.copy())
        for module in run
        for each in (vars(module), *vars(module).values())
        if type(each) in (dict, list)
    ]
    buffers = [
        (tensor, tensor.detach().clone(), tensor._version)
        for module in run
        for tensor in module._buffers.values()
        if tensor is not None
    ]
    try:
        yield
    finally:
        for each, before in attributes:
            if _parts(each) == _parts(before):
                continue
            each.clear()
            each.extend(before) if isinstance(each, list) else each.update(before)
        for tensor, before, version in buffers:
            if tensor._version != version:
                tensor.detach().copy_(before)


def _parts(values: dict | list) -> list:
    """What it holds, told apart by identity."""
    held = values.items() if isinstance(values, dict) else enumerate(values)
    return [(key, id(value)) for key, value in held]


class _Follower(fx.Interpreter):
    """Runs the traced network on shapes, and beside each value keeps the numbers of its
    channels and the axis they are on."""

    def __init__(self, model: nn.Module, graph: fx.Graph, example: list[int]) -> None:
        super().__init__(model, graph=graph, garbage_collect_values=False)
        self.extra_traceback = False
        self.traced, self.example = graph, example
        self.modules = dict(model.named_modules())
        self.ties = _Ties()
        self.layers: dict[str, Layer] = {}
        # layer, and the first of the numbers it brought in
        self.homes: list[tuple[str, int]] = []
        self.numbers: dict[fx.Node, np.ndarray] = {}
        self.axes: dict[fx.Node, int] = {}
        # of each value that is no tensor, the channels whose count it depends on
        self.widths: dict[fx.Node, np.ndarray] = {}

    def channels(self, model: nn.Module) -> Channels:
        """What was found, each number replaced by its root."""
        self._tie_heads()
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
        numbers = {node: root(each) for node, each in self.numbers.items()}
        return Channels(
            model, layers, units, count, self.traced, numbers, self.axes, dict(self.env)
        )

    def _tie_heads(self) -> None:
        """A head that is one tensor with the embedding loses the same columns."""
        every = self.layers.values()
        embeddings = [each for each in every if type(each.module) is nn.Embedding]
        for layer in [each for each in every if type(each.module) is nn.Linear]:
            for embedding in embeddings:
                if _one_tensor(layer, embedding):
                    for one, other in zip(layer.axes(), embedding.axes(), strict=True):
                        assert one is not None and other is not None
                        self.ties.tie(one, other)

    def call_module(self, target: Any, args: tuple, kwargs: dict) -> Any:
        module: Any = self.modules[target]
        if type(module) is nn.Embedding:
            return self._look_up(target, module, *args, *kwargs.values())
        if type(module) in WEIGHTED:
            (given,) = (*args, *kwargs.values())
            weight = module.weight.detach().to("meta")
            if given.dtype != weight.dtype:  # shapes alone would not tell
                raise ValueError(
                    f"{target} takes {weight.dtype}, and gets {given.dtype}"
                )
            if isinstance(module, nn.Linear):
                return F.linear(given, weight)
            convolve = CONVOLVE[weight.dim()]
            how = (module.stride, module.padding, module.dilation, module.groups)
            return convolve(given, weight, None, *how)
        # BatchNorm and what `_module` refuses
        if type(module) in ACTIVATIONS or module.state_dict():
            # the same shape; asking PyTorch would take milliseconds
            return next(iter((*args, *kwargs.values())))
        return super().call_module(target, args, kwargs)

    def _look_up(self, name: str, module: nn.Embedding, pieces: Tensor) -> Tensor:
        if pieces.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"{name} takes torch.int64, and gets {pieces.dtype}")
        return pieces.new_empty(
            (*pieces.shape, module.embedding_dim), dtype=module.weight.dtype
        )

    def run_node(self, n: fx.Node) -> Any:
        node = n
        if node.op == "get_attr":
            self._stop(
                node,
                "it uses a bare parameter, buffer or constant, and only the tensors of"
                " layers are followed",
            )
        value = self._value(node)
        if node.op == "output":
            for source in node.all_input_nodes:
                self._pin(self._depends(source))
        elif isinstance(value, Tensor):
            self.numbers[node] = self._rule(node, value)
            axis = self.axes.setdefault(node, self._inherited(node))
            if node.op != "placeholder" and (
                value.dim() <= axis or len(self.numbers[node]) != value.shape[axis]
            ):
                self._stop(
                    node,
                    f"it gives {list(value.shape)}, whose axis {axis} is not its"
                    " channels",
                )
        elif any(isinstance(v, Tensor) for v in tree_leaves(value)):
            self._stop(node, "it splits its channels, which surgery does not follow")
        else:
            self.widths[node] = self._width(node)
        return value

    def _inherited(self, node: fx.Node) -> int:
        """The axis of a value's channels where no rule has said it: that of the first
        tensor it is made from."""
        return next(
            (self.axes[each] for each in node.all_input_nodes if each in self.axes), 1
        )

    def _value(self, node: fx.Node) -> Any:
        try:
            return super().run_node(node)
        except Exception as error:  # whatever PyTorch or the network's code raises
            raise ValueError(
                f"example {self.example} does not fit the network: {error}"
            ) from error

    def _depends(self, node: fx.Node) -> np.ndarray:
        """The channels that a value has, or whose count it depends on."""
        return self.numbers[node] if node in self.numbers else self.widths[node]

    def _width(self, node: fx.Node) -> np.ndarray:
        """The channels whose count a value that is no tensor depends on."""
        sources = [self._depends(source) for source in node.all_input_nodes]
        nothing = np.array([], dtype=int)
        if not sources or operation(node) in WIDTHLESS:
            return nothing
        if _other_axis(node, self.env, self.axes):
            return nothing
        return np.concatenate(sources)

    def _rule(self, node: fx.Node, value: Tensor) -> np.ndarray:
        if node.op == "placeholder":
            return np.full(value.shape[1] if value.dim() > 1 else 1, FIXED)
        name = operation(node)
        for source in node.all_input_nodes:
            # a view to the sizes of a tensor is checked when it is known what leaves
            if source in self.widths and name not in FLATTENING:
                self._pin(self.widths[source])
        sources = [each for each in node.all_input_nodes if each in self.numbers]
        if node.kwargs.get("out") is not None:
            self._stop(node, f"it calls {name} with out=, which overwrites a tensor")
        if name == "arange":  # the places of a text: as many as it has
            self.axes[node] = 0
            return np.full(len(value), FIXED)
        if name in JOINING:
            return self._join(node, sources, value.dim())
        if name in ("cat", "concat"):
            return self._concatenate(node, value)
        first = _argument(node, 0, "input")
        if sources != [first]:
            self._stop(node, f"it calls {name or node.target} with several tensors")
        if node.op == "call_module":
            return self._module(node, str(node.target), value, first)
        return self._function(node, name, value, first)

    def _function(
        self, node: fx.Node, name: str, value: Tensor, first: fx.Node
    ) -> np.ndarray:
        """What has one tensor and no weights."""
        if name in CHANNELWISE:
            return self._channelwise(node, name, first)
        if name in MIXING:
            return self._pin(self.numbers[first])
        if name in FLATTENING:
            return self._flatten(node, value, first)
        if (
            name == "mean"
            and self.axes[first] == 1
            and _spatial(
                _argument(node, 1, "dim", node.kwargs.get("axis")),
                self.env[first].dim(),
            )
        ):
            return self.numbers[first]
        return self._stop(
            node, f"it calls {name}, and what that does to the channels is not known"
        )

    def _concatenate(self, node: fx.Node, value: Tensor) -> np.ndarray:
        """Channels side by side, in the order of the tensors."""
        tensors = _argument(node, 0, "tensors")
        axis = _argument(node, 1, "dim", node.kwargs.get("axis", 0))
        if (
            not isinstance(tensors, (tuple, list))
            or not all(each in self.numbers for each in tensors)
            or {self.axes[each] for each in tensors} != {axis % value.dim()}
        ):
            self._stop(
                node,
                f"it concatenates along axis {axis}, and only that of the channels is"
                " followed",
            )
        return np.concatenate([self.numbers[each] for each in tensors])

    def _module(
        self, node: fx.Node, name: str, value: Tensor, first: fx.Node
    ) -> np.ndarray:
        # exactly these: a subclass may do something else
        module: Any = self.modules[name]
        kind, source = type(module), self.numbers[first]
        if kind in ON_LAST_AXIS:
            return self._on_last_axis(node, name, module, self._last(node, first))
        if kind in (*CONVOLUTIONS, *NORMS):
            return self._on_axis_1(node, name, value, first)
        if kind is nn.Embedding:
            return self._embedding(node, name, module, first)
        if kind is nn.Flatten:
            return self._flatten(node, value, first)
        if kind in CHANNELWISE_MODULES or (
            kind is nn.PReLU and module.num_parameters == 1
        ):
            return self._channelwise(node, kind.__name__, first)
        if kind in MIXING_MODULES:
            return self._pin(source)
        return self._stop(node, f"{kind.__name__} is no layer that surgery knows")

    def _on_axis_1(
        self, node: fx.Node, name: str, value: Tensor, first: fx.Node
    ) -> np.ndarray:
        """A convolution or a BatchNorm."""
        module: Any = self.modules[name]
        convolution = type(module) in CONVOLUTIONS
        if convolution and value.dim() != module.weight.dim():
            self._stop(
                node,
                f"it gets {list(self.env[first].shape)}, without a batch; only [batch,"
                " channels, ...] is followed",
            )
        if self.axes[first] != 1:
            self._stop(
                node,
                f"it is a {type(module).__name__}, which takes axis 1 for the channels,"
                f" and they are on axis {self.axes[first]}",
            )
        source = self.numbers[first]
        if convolution:
            return self._weighted(node, name, module, source)
        return self._layer(node, name, source, None)

    def _on_last_axis(
        self, node: fx.Node, name: str, module: Any, source: np.ndarray
    ) -> np.ndarray:
        if type(module) is nn.LayerNorm:
            return self._normalised(node, name, module, source)
        if type(module) is Attention:
            return self._attention(node, name, module, source)
        return self._weighted(node, name, module, source)

    def _last(self, node: fx.Node, first: fx.Node) -> np.ndarray:
        """The numbers along the last axis, where linear layers and LayerNorm take the
        channels to be. Of what is put in no axis has any that leave."""
        shape = self.env[first].shape
        self.axes[node] = len(shape) - 1
        if first.op == "placeholder":
            return np.full(shape[-1], FIXED)
        if self.axes[first] != len(shape) - 1:
            kind = type(self.modules[str(node.target)]).__name__
            self._stop(
                node,
                f"it is a {kind} on {len(shape)} axes, and the channels are on axis"
                f" {self.axes[first]}, not on the last",
            )
        return self.numbers[first]

    def _normalised(
        self, node: fx.Node, name: str, module: nn.LayerNorm, source: np.ndarray
    ) -> np.ndarray:
        """A LayerNorm has a weight for each channel; its mean and variance are of all
        of them (`Channels.normalised`)."""
        if len(module.normalized_shape) != 1:
            self._stop(
                node,
                f"it is a LayerNorm over {list(module.normalized_shape)}, more than the"
                " axis of the channels",
            )
        return self._layer(node, name, source, None)

    def _embedding(
        self, node: fx.Node, name: str, module: nn.Embedding, first: fx.Node
    ) -> np.ndarray:
        """An embedding brings in its columns; how many pieces there are stays."""
        if module.max_norm is not None:
            self._stop(node, "it is an Embedding with max_norm, which scales by rows")
        self._pin(self.numbers[first])
        self.axes[node] = self.env[first].dim()
        pieces, width = module.weight.shape
        known = self.layers.get(name)
        outputs = known.outputs if known else self._new(width, name)
        return self._layer(node, name, outputs, np.full(pieces, FIXED))

    def _attention(
        self, node: fx.Node, name: str, module: Attention, source: np.ndarray
    ) -> np.ndarray:
        """A head brings in one number for all its rows; its columns of out read it, and
        out brings in new ones."""
        if (axes := self.axes[node] + 1) != 3:
            self._stop(node, f"it is an Attention on {axes} axes, not [n, t, width]")
        layers = [getattr(module, part, None) for part in (*READING, "out")]
        if any(type(each) is not nn.Linear for each in layers):
            kinds = ", ".join(type(each).__name__ for each in layers)
            self._stop(node, f"its layers are {kinds}; they must be Linear")
        rows = [len(getattr(module, part).weight) for part in READING]
        known = self.layers.get(f"{name}.query")
        units = known.outputs if known else self._new(rows[0], f"{name}.query")
        if {*rows, module.out.weight.shape[1]} != {len(units)} or (
            len(units) % module.head_width
        ):
            self._stop(node, f"query, key and value have {rows} rows, not the same")
        heads = units.reshape(-1, module.head_width)
        self.ties.tie(heads, heads[:, :1])
        for part in READING:
            self._layer(node, f"{name}.{part}", units, source)
        return self._weighted(node, f"{name}.out", module.out, units)

    def _channelwise(self, node: fx.Node, name: str, first: fx.Node) -> np.ndarray:
        """Each channel by itself; but a pooling needs the channels on axis 1 and as
        many axes behind them as its name says."""
        axes = self.env[first].dim()
        # MaxPool2d, max_pool2d
        if "pool" in name.lower() and (
            axes != 2 + int(name[-2]) or self.axes[first] != 1
        ):
            self._stop(node, f"{name} on {axes} axes would mix the channels")
        return self.numbers[first]

    def _pin(self, source: np.ndarray) -> np.ndarray:
        self.ties.tie(source, FIXED)
        return source

    def _weighted(
        self, node: fx.Node, name: str, module: Any, source: np.ndarray
    ) -> np.ndarray:
        """A linear layer or convolution brings in new numbers; in a grouped one each
        group is one unit."""
        units = len(module.weight)
        if not is_grouped(module):
            known = self.layers.get(name)
            outputs = known.outputs if known else self._new(units, name)
            return self._layer(node, name, outputs, source)
        # [channels] -> [groups, channels of a group]: those of one group are tied
        groups = source.reshape(module.groups, -1)
        self.ties.tie(groups, groups[:, :1])
        # each output of a group carries the number of the group's inputs
        outputs = np.repeat(groups[:, 0], units // len(groups))
        return self._layer(node, name, outputs, source)

    def _new(self, units: int, layer: str) -> np.ndarray:
        """Fresh numbers for the outputs of a layer."""
        self.homes.append((layer, len(self.ties.above)))
        return self.ties.new(units)

    def _layer(
        self, node: fx.Node, name: str, outputs: np.ndarray, inputs: np.ndarray | None
    ) -> np.ndarray:
        """Note a layer's numbers; called a second time, it is tied to the first."""
        known = self.layers.get(name)
        if known is None:
            known = self.layers[name] = Layer(self.modules[name], outputs, inputs)
            self._check_tensors(node, known)
        self.ties.tie(known.outputs, outputs)
        if inputs is not None and known.inputs is not None:
            self.ties.tie(known.inputs, inputs)
        return outputs

    def _check_tensors(self, node: fx.Node, layer: Layer) -> None:
        """All that the layer holds has an entry a unit, or is one number for all."""
        module, units = layer.module, len(layer.outputs)
        for own, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None:
                continue
            along = 1 if type(module) is nn.Embedding else 0
            if own in BY_UNIT and (
                tensor.dim() <= along or tensor.shape[along] != units
            ):
                self._stop(
                    node,
                    f"its {own} is {list(tensor.shape)}, which does not fit its {units}"
                    " units",
                )
            if own not in BY_UNIT and tensor.numel() != 1:
                self._stop(
                    node,
                    f"it holds {own} {list(tensor.shape)}, and what of that belongs to"
                    " which unit is not known",
                )
        if not isinstance(module, nn.Embedding) and "bias" not in module._parameters:
            self._stop(node, "its bias is computed from other tensors")

    def _join(self, node: fx.Node, nodes: list[fx.Node], axes: int) -> np.ndarray:
        """Element by element, aligned at the last axis, where the smaller tensor is
        repeated along the axes that it lacks."""
        if len({self.axes[each] - self.env[each].dim() for each in nodes}) > 1:
            self._stop(
                node,
                "it joins tensors with different numbers of axes, or with channels on"
                " different ones",
            )
        self.axes[node] = self.axes[nodes[0]] - self.env[nodes[0]].dim() + axes
        sources = [self.numbers[each] for each in nodes]
        widest = max(sources, key=len)
        for source in sources:
            if len(source) == len(widest):
                self.ties.tie(source, widest)
            elif len(source) == 1:  # one channel for all: it must stay
                self.ties.tie(source, FIXED)
            else:
                self._stop(node, "it joins tensors of different widths")
        return widest

    def _flatten(self, node: fx.Node, value: Tensor, first: fx.Node) -> np.ndarray:
        """`[n, channels, height, width] -> [n, channels * height * width]`: each
        channel becomes a block."""
        before, source = self.env[first], self.numbers[first]
        flat = (
            self.axes[first] == 1
            and value.dim() >= 2
            and value.shape[0] == before.shape[0]
            and len(source)
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
            self._pin(source)  # the width is written into the code
        # channel c becomes the features c * size ... (c + 1) * size - 1
        return np.repeat(source, value.shape[1] // len(source))

    def _stop(self, node: fx.Node, why: str) -> NoReturn:
        raise ValueError(f"{_where(node, self.module)} cannot be followed: {why}.")


class _Fitting(fx.Interpreter):
    """Runs a followed network on the shapes that it will have. Only what asks for sizes
    is run; all else has the shape that follows from its numbers."""

    def __init__(self, channels: Channels, keep: np.ndarray) -> None:
        super().__init__(channels.model, graph=channels.graph)
        self.extra_traceback = False
        self.channels, self.keep = channels, keep

    def run_node(self, n: fx.Node) -> Any:
        old = self.channels.values.get(n)
        if n.op in ("placeholder", "output"):
            return old
        if not isinstance(old, Tensor):
            return self._run(n)
        shape = list(old.shape)
        shape[self.channels.axes[n]] = int(self.keep[self.channels.numbers[n]].sum())
        wanted = old.new_empty(shape)
        if operation(n) in FLATTENING and (got := self._run(n)).shape != wanted.shape:
            self._stop(n, f"gives {list(got.shape)} and not {list(wanted.shape)}")
        return wanted

    def _run(self, node: fx.Node) -> Any:
        try:
            return super().run_node(node)
        except Exception as error:  # noqa: BLE001 - whatever the network's code raises
            return self._stop(node, f"fails ({error})")

    def _stop(self, node: fx.Node, why: str) -> NoReturn:
        raise ValueError(
            f"{_where(node, self.module)} cannot lose these units: with them gone,"
            f" {operation(node)} {why}."
        )


def _reads_sizes(model: nn.Module, graph: fx.Graph) -> bool:
    """Whether the network's code may compute with the sizes of layers: it names one, or
    calculates with a number."""
    codes = [
        getattr(inspect.unwrap(kind.forward), "__code__", None)
        for kind in {type(module) for module in model.modules()}
        if not kind.__module__.startswith("torch.nn.")
    ]
    return any(
        code is None or not SIZES.isdisjoint(code.co_names) for code in codes
    ) or any(
        isinstance(value, (int, float))
        for node in graph.nodes
        if node.op.startswith("call_") and operation(node) in CALCULATING
        for value in (*node.args, *node.kwargs.values())
    )


def operation(node: fx.Node) -> str:
    """What a node calls, as in CHANNELWISE, JOINING, ...: PyTorch's operations by name,
    in place or not; others with their module, which is in none of those."""
    if isinstance(node.target, str):
        return node.target.strip("_") if node.op == "call_method" else ""
    name = node.target.__name__
    if name == "getattr":
        return str(node.args[1])
    homes = (operator, torch, F)
    if any(getattr(home, name, None) is node.target for home in homes):
        return name.strip("_")
    home = str(node.target.__module__)
    return name if home == "torchvision.ops.stochastic_depth" else f"{home}.{name}"


def _where(node: fx.Node, model: nn.Module) -> str:
    """The module whose code a node is in."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    name = node.target if node.op == "call_module" else (stack[-1][0] if stack else "")
    return str(name) or type(model).__name__


def _other_axis(
    node: fx.Node, values: dict[fx.Node, Any], axes: dict[fx.Node, int]
) -> bool:
    """Whether a node is the size of one axis that is not the channels': `x.size(2)`,
    `x.shape[2]`, `x.shape[2:]`."""
    if operation(node) == "size":
        axis = _argument(node, 1, "dim")
        of = node.all_input_nodes[0]
        return isinstance(axis, int) and axis % values[of].dim() != axes[of]
    shape = node.args[0] if node.args else None
    if operation(node) != "getitem" or not isinstance(shape, fx.Node):
        return False
    axis = node.args[1]
    if operation(shape) not in ("size", "shape") or not isinstance(
        values[shape], torch.Size
    ):
        return False
    if isinstance(axis, slice) and any(
        isinstance(each, fx.Node) for each in (axis.start, axis.stop, axis.step)
    ):
        return False
    places, channels = range(len(values[shape])), axes[shape.all_input_nodes[0]]
    if isinstance(axis, int):
        return places[axis] != channels
    return isinstance(axis, slice) and channels not in places[axis]


def _argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """What a node is given, by its name or by its position."""
    return node.kwargs.get(
        name, node.args[position] if len(node.args) > position else default
    )


def _sizes(node: fx.Node) -> list:
    """The sizes that a `view` or `reshape` asks for, behind the first."""
    if operation(node) not in ("view", "reshape"):
        return []
    by_name = [node.kwargs[each] for each in ("size", "shape") if each in node.kwargs]
    sizes = by_name or node.args[1:]
    return list(
        sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    )[1:]


def _spatial(dims: int | Sequence[int] | None, total: int) -> bool:
    """Whether a mean leaves the axes of batch and channels alone."""
    every = dims if isinstance(dims, (tuple, list)) else [dims]
    return bool(every) and all(isinstance(d, int) and d % total >= 2 for d in every)


def is_grouped(module: nn.Module) -> bool:
    """Whether a layer is a grouped (or depth-wise) convolution."""
    return getattr(module, "groups", 1) > 1
