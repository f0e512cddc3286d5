"""The networks of the course, small enough to train on a laptop, and their trained
weights.

LeNet-300-100 is the classic of the pruning literature (LeCun et al. 1998; Han et al.
2015). The VGG follows Simonyan & Zisserman 2015 and the ResNet He et al. 2016, both cut
to 28x28 pictures.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from utils.files import DamagedFileError, data_folder, verify, write_atomically

OWN_FOLDER = "my_baselines"  # beside the learner's notebook


def lenet300(hidden: tuple[int, int] = (300, 100)) -> nn.Sequential:
    """LeNet-300-100: three fully connected layers, 266,610 parameters. `[n, 1, 28, 28]`
    -> `[n, 10]`."""
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


MODELS: dict[str, Callable[[], nn.Module]] = {
    "lenet300": lenet300,
    "vgg": vgg,
    "resnet": resnet,
}
# what is left of the VGG's widths in lab 10: a 15th of the MACs
THIN = ((8, 16), (32, 48), (64,))
SHIPPED = MODELS | {
    # the VGG without half its channels, lab 04
    "vgg_half": lambda: vgg(((32, 32), (64, 64), (128,))),
    "vgg_thin": lambda: vgg(THIN),  # thinned further, lab 10; two more seeds of it:
    "vgg_thin_1": lambda: vgg(THIN),
    "vgg_thin_2": lambda: vgg(THIN),
    # the same with vgg_half as teacher at temperature 4, three seeds
    "vgg_thin_taught": lambda: vgg(THIN),
    "vgg_thin_taught_1": lambda: vgg(THIN),
    "vgg_thin_taught_2": lambda: vgg(THIN),
    "vgg_thin_taught_cool": lambda: vgg(THIN),  # at temperature 1
}


def build(name: str, seed: int = 0) -> nn.Module:
    """An untrained network with weights drawn from `seed`; the global random state is
    left as it was.

    Raises:
        ValueError: unknown name; lists the known ones.
    """
    if name not in SHIPPED:
        raise ValueError(
            f"name={name!r} is no network of the course. Known: {', '.join(SHIPPED)}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SHIPPED[name]()


def baseline(name: str) -> nn.Module:
    """The trained network `name`, in eval mode, its weights verified.

    A network of your own, kept in lab 01 with `keep_baseline`, is used instead when
    there is one, and said so.

    Raises:
        ValueError: unknown name.  DamagedFileError: the weights are missing or damaged;
            says how to repair them.
    """
    model = build(name)
    own = Path(OWN_FOLDER) / f"{name}.safetensors"
    if own.is_file():
        print(
            f"Using your own {name} from {own} (delete that file to get the course's"
            " back)."
        )
        return _read_weights(
            model, own, f"delete {own}; the course's own weights are used then."
        )
    folder = data_folder() / "baselines"
    path = folder / f"{name}.safetensors"
    repair = (
        "`git checkout -- data/baselines`, or `make checkpoints` to train it again."
    )
    verify(path, str(baseline_facts(name)["sha256"]), repair)
    return _read_weights(model, path, repair)


def baseline_facts(name: str) -> dict:
    """What `make checkpoints` recorded of a shipped network: sha256, accuracies,
    parameters, recipe, seconds."""
    path = data_folder() / "baselines" / "baselines.json"
    repair = "`git checkout -- data/baselines`."
    try:
        facts = json.loads(path.read_text())[name]
        facts["sha256"]  # an entry without it is damaged too
        return facts
    except FileNotFoundError:
        raise DamagedFileError(f"{path} is missing. Repair: {repair}") from None
    except (ValueError, KeyError, TypeError):
        raise DamagedFileError(
            f"{path} is damaged or lacks {name!r}. Repair: {repair}"
        ) from None


def keep_baseline(model: nn.Module, name: str) -> Path:
    """Keep your own trained `name` in my_baselines/, beside the notebook; later labs
    then use it.

    Raises:
        ValueError: the model's weights do not fit the network `name`.
    """
    wanted = {
        key: tuple(value.shape) for key, value in build(name).state_dict().items()
    }
    if {key: tuple(value.shape) for key, value in model.state_dict().items()} != wanted:
        raise ValueError(
            f"model does not have the layers of {name!r}; keep only a network made by"
            f" build({name!r})."
        )
    path = Path(OWN_FOLDER) / f"{name}.safetensors"
    write_atomically(path, to_bytes(model))
    return path


State = nn.Module | Mapping[str, Tensor]


def to_bytes(state: State) -> bytes:
    """A model's state, or a dict of tensors, as a safetensors file: numbers and names,
    nothing to be executed."""
    tensors = state.state_dict() if isinstance(state, nn.Module) else state
    return safetensors.torch.save(
        {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    )


def _read_weights(model: nn.Module, path: Path, repair: str) -> nn.Module:
    try:
        model.load_state_dict(safetensors.torch.load_file(path))
    except (
        Exception
    ) as error:  # safetensors has an exception type of its own for each kind of damage
        raise DamagedFileError(
            f"{path} cannot be read ({error}). Repair: {repair}"
        ) from error
    return model.eval()
