"""What the tests draw at random, in one place: networks, scores, sparsities, weights;
and what may lie where a file should.

The same strategies test every implementation of one operation.
"""

import os
import socket
from pathlib import Path

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

# ----------------------------------------------------------------------------- networks


class Net(nn.Module):
    """Parts by name, and what is done with them."""

    def __init__(self, forward, **parts) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


class Residual(nn.Module):
    """An addition; the short cut is a convolution where the width or size changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(inputs, 4, 3, stride, 1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, outputs, 1, bias=False),
        )
        self.short = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Conv2d(inputs, outputs, 1, stride)
        )

    def forward(self, x):
        return F.relu(self.inner(x) + self.short(x))


class Concatenation(nn.Module):
    """Two branches side by side, and their input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.narrow = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs)
        )

    def forward(self, x):
        return torch.cat([F.relu(self.wide(x)), x, self.narrow(x)], dim=1)


class Gate(nn.Module):
    """Squeeze and excite: each channel is multiplied by a number made from all of
    them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 3, 1), nn.Conv2d(3, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(
            self.up(F.relu(self.down(x.mean((2, 3), keepdim=True))))
        )


STAGES = (
    "conv",
    "strided",
    "grouped",
    "depthwise",
    "pool",
    "residual",
    "strided residual",
    "concatenation",
    "gate",
)


def random_network(kinds: list[str], head: str, seed: int) -> nn.Module:
    """A network of these stages for `[n, 2, 12, 12]`, every number in it random, in
    eval mode."""
    torch.manual_seed(seed)
    layers, width = [nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()], 8
    for kind in kinds:
        if kind in ("conv", "strided"):
            layers += [
                nn.Conv2d(width, 6, 3, 1 + (kind == "strided"), 1, bias=False),
                nn.BatchNorm2d(6),
                nn.ReLU(),
            ]
            width = 6
        elif kind == "grouped":
            layers += [
                nn.Conv2d(width, 2 * width, 3, padding=1, groups=2),
                nn.ReLU(),
                nn.Conv2d(2 * width, 8, 1),
            ]
            width = 8
        elif kind == "depthwise":
            layers += [
                nn.Conv2d(width, width, 3, padding=1, groups=width),
                nn.BatchNorm2d(width),
                nn.ReLU6(),
            ]
        elif kind == "pool":
            layers.append(nn.MaxPool2d(3, stride=1, padding=1))
        elif kind == "gate":
            layers.append(Gate(width))
        elif kind == "concatenation":
            layers.append(Concatenation(width, 3))
            width += 6
        else:
            outputs, stride = (width, 1) if kind == "residual" else (8, 2)
            layers.append(Residual(width, outputs, stride))
            width = outputs
    size = {"average": 1, "flatten": 2}[head]
    layers += [
        nn.AdaptiveAvgPool2d(size),
        nn.Flatten(),
        nn.Linear(width * size**2, 7),
        nn.ReLU(),
        nn.Linear(7, 5),
    ]
    network = nn.Sequential(*layers)
    return randomise(network).eval()


def randomise(network: nn.Module) -> nn.Module:
    """BatchNorm as after a long training, not as freshly made."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.affine:
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    return network


PICTURES = torch.randn(3, 2, 12, 12, generator=torch.Generator().manual_seed(1))
NETWORKS = dict(
    kinds=st.lists(st.sampled_from(STAGES), max_size=4),
    head=st.sampled_from(["average", "flatten"]),
    seed=st.integers(0, 1000),
    ratio=st.floats(0, 0.8),
)


@st.composite
def networks(draw, stages=STAGES):
    """A random network of up to three stages, for PICTURES; in eval mode."""
    kinds = draw(st.lists(st.sampled_from(stages), max_size=3))
    head = draw(st.sampled_from(["average", "flatten"]))
    return random_network(kinds, head, draw(st.integers(0, 1000)))


# ---------------------------------------------------------------- scores and sparsities

sparsities = st.one_of(
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 0.99, 0.999999]),
    st.floats(0, 1, exclude_max=True, allow_subnormal=False),
)


@st.composite
def scores_by_layer(draw, longest: int = 6):
    """One to four tensors of scores with one to three dimensions; few levels make many
    ties."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([1, 2, 5, 50, 10**6]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    shapes = draw(
        st.lists(
            st.lists(st.integers(1, longest), min_size=1, max_size=3),
            min_size=1,
            max_size=4,
        )
    )
    return {
        f"layer{i}.weight": (
            torch.randint(-levels, levels + 1, shape, generator=generator).to(dtype) / 4
        )
        for i, shape in enumerate(shapes)
    }


@st.composite
def patterns(draw):
    """A network of a linear layer and of convolutions, with m that divides all their
    inputs and n below it."""
    m = draw(st.integers(2, 8))
    n = draw(st.integers(1, m - 1))
    units, inputs, groups = (draw(st.integers(1, 4)) for _ in range(3))
    size = draw(st.sampled_from([(1, 1), (1, 3), (3, 2)]))
    layers = nn.Sequential(
        nn.Linear(m * inputs, units, bias=draw(st.booleans())),
        nn.Conv2d(m * inputs, units, size),
        nn.Conv1d(groups * m, groups * units, size[1], groups=groups),
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([0, 1, 2, 5, 10**6]))
    for parameter in layers.parameters():
        parameter.data = (
            torch.randint(-levels, levels + 1, parameter.shape, generator=generator) / 4
        )
    return layers, n, m


# ------------------------------------------------------------------------------ weights


@st.composite
def weights(draw):
    """Weights of a linear or convolutional layer, each unit of a kind of its own."""
    units, shape = (
        draw(st.integers(1, 5)),
        draw(st.sampled_from([(7,), (1,), (2, 3, 3), (1, 1, 1)])),
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    rows = []
    for _ in range(units):
        kind = draw(
            st.sampled_from(
                [
                    "normal",
                    "zeros",
                    "equal",
                    "one value",
                    "huge",
                    "tiny",
                    "denormal",
                    "sparse",
                ]
            )
        )
        row = torch.randn(shape, generator=generator)
        if kind == "zeros":
            row = torch.zeros(shape)
        elif kind == "equal":
            row = torch.full(shape, -0.3)
        elif kind == "one value":
            row = torch.zeros(shape)
            row.view(-1)[-1] = 5.0
        elif kind == "sparse":
            row *= torch.rand(shape, generator=generator) < 0.3
        row = row * {"huge": 1e37, "tiny": 1e-34, "denormal": 1e-43}.get(kind, 1.0)
        rows.append(row)
    return torch.stack(rows)


# -------------------------------------------------------------------------------- files


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


# what may lie where a file should
NO_FILES = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "socket": bind,
    "circle": lambda path: path.symlink_to(path),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "long name": lambda path: path.symlink_to("n" * 300),
}
