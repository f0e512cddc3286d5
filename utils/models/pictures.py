"""Networks for pictures, small enough to train on a laptop.

LeNet-300-100 is the classic of the pruning literature (LeCun et al. 1998; Han et al.
2015). The VGG follows Simonyan & Zisserman 2015 and the ResNet He et al. 2016, both cut
to 28x28 pictures.
"""

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn


def lenet300(hidden: tuple[int, int] = (300, 100)) -> nn.Sequential:
    """LeNet-300-100: three fully connected layers, 266,610 parameters. `[n, 1, 28, 28]`
    -> `[n, 10]`.

    >>> sum(parameter.numel() for parameter in lenet300().parameters())
    266610
    """
    first, second = hidden
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(28 * 28, first),
            relu1=nn.ReLU(),
            fc2=nn.Linear(first, second),
            relu2=nn.ReLU(),
            fc3=nn.Linear(second, 10),
        )
    )


def _conv_bn_relu(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def vgg(
    widths: tuple[tuple[int, ...], ...] = ((64, 64), (128, 128), (256,)),
) -> nn.Sequential:
    """VGG-style: 3x3 convolutions with BatchNorm, a 2x2 pooling after each group but
    the last. -> `[n, 10]`."""
    layers: list[nn.Module] = []
    inputs = 1
    for position, group in enumerate(widths):
        if position:
            layers.append(nn.MaxPool2d(2))
        for width in group:
            layers += _conv_bn_relu(inputs, width)
            inputs = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)]
    return nn.Sequential(*layers, *head)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and an addition; a 1x1 convolution on the short cut where
    the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


def resnet(widths: tuple[int, ...] = (16, 32, 64), blocks: int = 2) -> nn.Sequential:
    """Residual network: a stage of `blocks` blocks for each width, halving the picture
    between stages. -> `[n, 10]`."""
    stages: list[nn.Module] = []
    inputs = widths[0]
    for position, width in enumerate(widths):
        stage = [ResidualBlock(inputs, width, stride=2 if position else 1)]
        stage += [ResidualBlock(width, width, stride=1) for _ in range(blocks - 1)]
        stages.append(nn.Sequential(*stage))
        inputs = width
    stem = _conv_bn_relu(1, widths[0])
    return nn.Sequential(
        *stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)
    )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "lenet300": lenet300,
    "vgg": vgg,
    "resnet": resnet,
}
