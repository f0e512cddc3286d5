"""The networks of the course, untrained: `pictures` for Fashion-MNIST, `gpt` for
text."""

from utils.models.gpt import GPT, MLP, Attention, Block, GatedMLP, gpt
from utils.models.pictures import MODELS, ResidualBlock, lenet300, resnet, vgg

__all__ = [
    "GPT",
    "MLP",
    "MODELS",
    "Attention",
    "Block",
    "GatedMLP",
    "ResidualBlock",
    "gpt",
    "lenet300",
    "resnet",
    "vgg",
]
