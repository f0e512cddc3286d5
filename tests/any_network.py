"""Networks as people bring them: drawn at random from the kinds of layers, and from the
oddities, that tools like this one meet.

`any_networks()` draws one with pictures that it can take. What it is made of is known
here from the making, not from the package.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

CLASSES = 3
SIZE = 4  # places along each axis of a picture, tokens of a text

# --------------------------------------------------------------------- ways to be wired


class Around(nn.Module):
    """Something with a network inside it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


class Residual(Around):
    def forward(self, x):
        return x + self.inner(x)


class Twice(Around):
    """The same layers run two times."""

    def forward(self, x):
        return self.inner(self.inner(x))


class Beside(Around):
    """The input and what becomes of it, side by side along its channels."""

    def __init__(self, inner: nn.Module, axis: int) -> None:
        super().__init__(inner)
        self.axis = axis

    def forward(self, x):
        return torch.cat([x, self.inner(x)], dim=self.axis)


class ByKeyword(Around):
    """A layer that gets its input by name."""

    def forward(self, x):
        return self.inner(input=x)


class First(Around):
    """Of a recurrent layer what it puts out at each place."""

    def forward(self, x):
        return self.inner(x)[0]


class Attention(Around):
    """Self-attention."""

    def forward(self, x):
        return self.inner(x, x, x, need_weights=False)[0]


class Functional(nn.Module):
    """A weight of one's own, used in a function."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(width, width) / width**0.5)

    def forward(self, x):
        return F.linear(x, self.matrix)


class Average(nn.Module):
    """The mean over all places."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.mean(self.axes)


class Whole(nn.Module):
    """A body, a head, and perhaps a second head that only training uses."""

    def __init__(self, body: nn.Module, head: nn.Module, auxiliary: nn.Module | None):
        super().__init__()
        self.body, self.head, self.auxiliary = body, head, auxiliary

    def forward(self, x):
        x = self.body(x)
        result = self.head(x)
        if self.training and self.auxiliary is not None:
            result = result + self.auxiliary(x)
        return result


# --------------------------------------------------------------------- what was drawn


@dataclass(repr=False)
class Drawn:
    """A network with pictures for it.

    layers: its linear and convolutional layers, those that nobody calls too.
    odd: the oddities that it has.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    kind: str
    layers: list[nn.Module]
    odd: set[str] = field(default_factory=set)

    def __repr__(self) -> str:
        what = f"{self.kind}, {sorted(self.odd)}, {self.images.dtype}"
        return f"{what}: {list(self.images.shape)} -> {self.model}"

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """Two batches, the second one smaller."""
        cut = len(self.images) - 2
        return [
            (self.images[:cut], self.labels[:cut]),
            (self.images[cut:], self.labels[cut:]),
        ]

    @property
    def example(self) -> Tensor:
        return self.images[:1]

    def names(self) -> dict[str, nn.Module]:
        """The layer that owns it by parameter name, each tensor once, in order."""
        found, seen = {}, set()
        for path, module in self.model.named_modules():
            weight = dict(module.named_parameters(recurse=False)).get("weight")
            if any(module is layer for layer in self.layers) and weight is not None:
                if id(weight) not in seen:
                    found[f"{path}.weight"] = module
                seen.add(id(weight))
        return found


AXES = {"table": 0, "sequence": 1, "picture": 2, "volume": 3}
CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {1: nn.AvgPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
ACTIVATIONS = (nn.ReLU, nn.SiLU, nn.GELU, nn.Tanh)

CONVOLUTIONAL = ("layer", "norm", "activation", "residual", "beside", "twice", "tied")
CONVOLUTIONAL += ("grouped", "keyword", "transposed", "pool", "shared bias")
TABULAR = ("layer", "norm", "activation", "residual", "beside", "twice", "tied")
TABULAR += ("keyword", "functional", "shared bias")
TOKENS = ("layer", "norm", "activation", "residual", "beside", "twice", "tied")
TOKENS += ("keyword", "functional", "attention", "recurrent", "shared bias")
ODD = ("frozen", "weight_norm", "torch prune", "auxiliary", "extra", "training mode")
DTYPES = (torch.float32,) * 5 + (torch.float64, torch.bfloat16, torch.float16)


class Maker:
    """Draws steps, and remembers the layers it made."""

    def __init__(self, draw: Callable, kind: str) -> None:
        self.draw, self.kind = draw, kind
        self.layers: list[nn.Module] = []
        self.odd: set[str] = set()

    def steps(self, width: int, most: int) -> tuple[nn.Module, int]:
        """Up to `most` steps from a width, and the width behind them."""
        known = {"table": TABULAR, "tokens": TOKENS}.get(self.kind, CONVOLUTIONAL)
        parts = []
        for name in self.draw(st.lists(st.sampled_from(known), max_size=most)):
            part, width = self.step(name, width)
            parts.append(part)
        return nn.Sequential(*parts), width

    def step(self, name: str, width: int) -> tuple[nn.Module, int]:
        if name in ("layer", "keyword"):
            outputs = self.draw(st.integers(2, 5))
            layer = self.layer(width, outputs)
            return (ByKeyword(layer) if name == "keyword" else layer), outputs
        if name == "beside":
            axis = -1 if self.kind == "tokens" else 1
            inner, outputs = self.layer(width, 3), 3
            return Beside(nn.Sequential(inner, nn.ReLU()), axis), width + outputs
        return getattr(self, name.replace(" ", "_"))(width), width

    def layer(self, inputs: int, outputs: int, groups: int = 1) -> nn.Module:
        """A linear layer or a convolution that keeps the places."""
        bias, axes = self.draw(st.booleans()), AXES.get(self.kind, 0)
        if not axes:
            layer = nn.Linear(inputs, outputs, bias)
        else:
            size = self.draw(st.sampled_from([1, 3]))
            layer = CONVOLUTION[axes](
                inputs, outputs, size, padding=size // 2, groups=groups, bias=bias
            )
        self.layers.append(layer)
        return layer

    def norm(self, width: int) -> nn.Module:
        if self.kind == "tokens":
            return nn.LayerNorm(width)
        return NORM[AXES[self.kind]](width)

    def activation(self, _: int) -> nn.Module:
        return self.draw(st.sampled_from(ACTIVATIONS))()

    def residual(self, width: int) -> nn.Module:
        inner = nn.Sequential(self.layer(width, 4), nn.ReLU(), self.layer(4, width))
        return Residual(inner)

    def twice(self, width: int) -> nn.Module:
        self.odd.add("twice")
        return Twice(nn.Sequential(self.layer(width, width), nn.ReLU()))

    def tied(self, width: int) -> nn.Module:
        self.odd.add("tied")
        first, second = self.layer(width, width), self.layer(width, width)
        if first.weight.shape != second.weight.shape:
            second = self.layers[-1] = first
        second.weight = first.weight
        return nn.Sequential(first, nn.ReLU(), second)

    def shared_bias(self, width: int) -> nn.Module:
        self.odd.add("shared bias")
        first, second = self.layer(width, 4), self.layer(4, 4)
        last = self.layer(4, width)
        second.bias = first.bias = nn.Parameter(torch.randn(4))
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)

    def grouped(self, width: int) -> nn.Module:
        return self.layer(width, width, groups=width if width % 2 else width // 2)

    def transposed(self, width: int) -> nn.Module:
        self.odd.add("transposed")
        axes = AXES[self.kind]
        return nn.Sequential(TRANSPOSED[axes](width, width, 2, 2), POOL[axes](2))

    def pool(self, _: int) -> nn.Module:
        return POOL[AXES[self.kind]](3, stride=1, padding=1)

    def functional(self, width: int) -> nn.Module:
        self.odd.add("functional")
        return Functional(width)

    def attention(self, width: int) -> nn.Module:
        self.odd.add("attention")
        return Attention(nn.MultiheadAttention(width, 1, batch_first=True))

    def recurrent(self, width: int) -> nn.Module:
        self.odd.add("recurrent")
        kind = self.draw(st.sampled_from([nn.LSTM, nn.GRU, nn.RNN]))
        return First(kind(width, width, batch_first=True))

    def head(self, width: int) -> nn.Module:
        """From all places to the classes."""
        axes = AXES.get(self.kind, 0)
        layer = nn.Linear(width, CLASSES)
        self.layers.append(layer)
        if self.kind == "table":
            return layer
        if self.kind == "tokens":
            return nn.Sequential(Average((1,)), layer)
        if self.draw(st.booleans()):
            return nn.Sequential(Average(tuple(range(2, 2 + axes))), layer)
        flat = nn.Linear(width * SIZE**axes, CLASSES)
        self.layers[-1] = flat
        return nn.Sequential(nn.Flatten(), flat)


@st.composite
def any_networks(draw, kinds=("table", "sequence", "picture", "volume", "tokens")):
    """A network that runs on its pictures, with random weights."""
    seed = draw(st.integers(0, 10**6))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn = _draw(draw, draw(st.sampled_from(kinds)))
        for module in drawn.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.3)
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 1.5)
    try:  # what PyTorch itself cannot run in this number type is no case
        with torch.no_grad():
            drawn.model(drawn.images)
    except RuntimeError:
        assume(False)
    return drawn


def _draw(draw, kind: str) -> Drawn:
    width, count = draw(st.integers(1, 4)), draw(st.integers(4, 9))
    make = Maker(draw, kind)
    body, outputs = make.steps(width, 4)
    head = make.head(outputs)
    odd = set(draw(st.lists(st.sampled_from(ODD), max_size=2)))
    auxiliary = make.head(outputs) if "auxiliary" in odd else None
    model = Whole(body, head, auxiliary)
    dtype = draw(st.sampled_from(DTYPES))
    model.to(dtype).train("training mode" in odd)
    make.odd |= odd - {"training mode"}
    if dtype in (torch.bfloat16, torch.float16):
        make.odd |= {"half", "float16"} if dtype == torch.float16 else {"half"}
    _spoil(draw, make, odd)
    shape = (width, *[SIZE] * AXES[kind]) if kind in AXES else (SIZE, width)
    images = torch.randn(count, *shape).to(dtype)
    labels = torch.randint(CLASSES, (count,))
    return Drawn(model, images, labels, kind, make.layers, make.odd)


def _spoil(draw, make: Maker, odd: set[str]) -> None:
    layer = draw(st.sampled_from(make.layers))
    if "frozen" in odd:
        layer.requires_grad_(False)
    if "extra" in odd:
        layer.register_buffer("scale", torch.tensor([0.1]))
    if "weight_norm" in odd:
        parametrizations.weight_norm(layer)
    elif "torch prune" in odd:
        prune.random_unstructured(layer, "weight", 0.5)
