"""The networks that come trained with the course: how each was made, its weights, and
what was recorded of it. `make checkpoints` trains them.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from utils.arguments import one_of
from utils.files import (
    DamagedFileError,
    data_folder,
    read_regular,
    read_sealed,
    read_verified,
    write_atomically,
)
from utils.layers import copied, first_names, no_values, shared
from utils.models import gpt, lenet300, resnet, vgg
from utils.training import Recipe

OWN_FOLDER = "my_baselines"  # beside the learner's notebook


@dataclass(frozen=True)
class Baseline:
    """How a shipped network is made.

    build: its architecture, untrained.  stages: the recipes, one after another.
    start_from: a wider shipped network; training begins with its filters of largest L1
        norm, not with random weights.
    teacher: a shipped network that teaches it, at the temperature of each stage.
    text: it reads the novels (`utils.text`), not pictures; its weights are stored in 16
        bits, rounded before anything is measured.
    seed: of the first weights, and of the first stage (the next one has `seed + 1`).
    """

    build: Callable[[], nn.Module]
    stages: tuple[Recipe, ...]
    start_from: str | None = None
    teacher: str | None = None
    temperatures: tuple[float, ...] = ()
    text: bool = False
    seed: int = 0


def _thin() -> nn.Module:
    """What is left of the VGG's widths in lab 10: a 15th of the MACs."""
    return vgg(((8, 16), (32, 48), (64,)))


_CONVOLUTIONAL = Recipe(
    epochs=10,
    batch_size=64,
    optimizer="sgd",
    learning_rate=0.05,
    weight_decay=5e-4,
    shift=2,
    bf16=True,
)
_TWELVE = replace(_CONVOLUTIONAL, epochs=12)
_LONG = replace(
    _CONVOLUTIONAL, epochs=20, learning_rate=0.1, weight_decay=2e-4, shift=1
)
_AGAIN = replace(_LONG, epochs=4, learning_rate=0.03)
_UNSHIFTED = replace(_AGAIN, shift=0)  # the last epochs on pictures as they will come

# the VGG thinned further, lab 10; taught: the same with its wider start as teacher
_THIN = Baseline(_thin, (_LONG, _UNSHIFTED), start_from="vgg_half")
_TAUGHT = Baseline(
    _thin,
    (_LONG, _AGAIN, _UNSHIFTED),
    start_from="vgg_half",
    teacher="vgg_half",
    temperatures=(4.0, 4.0, 1.0),
)

_TEXT = Recipe(
    epochs=20,
    batch_size=8,
    learning_rate=3e-3,
    weight_decay=0.1,
    flip=False,
    shift=255,
)
_EARLY = Baseline(gpt, (replace(_TEXT, epochs=4),), text=True)

BASELINES: dict[str, Baseline] = {
    "lenet300": Baseline(lenet300, (Recipe(epochs=20, learning_rate=3e-3),)),
    "vgg": Baseline(
        vgg, (_CONVOLUTIONAL, replace(_CONVOLUTIONAL, epochs=4, learning_rate=0.02))
    ),
    "resnet": Baseline(resnet, (_TWELVE,)),
    # the VGG without half of its channels, lab 04
    "vgg_half": Baseline(
        lambda: vgg(((32, 32), (64, 64), (128,))), (_TWELVE,), start_from="vgg"
    ),
    "vgg_thin": _THIN,
    "vgg_thin_1": replace(_THIN, seed=1),
    "vgg_thin_2": replace(_THIN, seed=2),
    "vgg_thin_taught": _TAUGHT,
    "vgg_thin_taught_1": replace(_TAUGHT, seed=1),
    "vgg_thin_taught_2": replace(_TAUGHT, seed=2),
    "vgg_thin_taught_cool": replace(_TAUGHT, stages=(_LONG,), temperatures=(1.0,)),
    "gpt": Baseline(gpt, (_TEXT,), text=True),
    # the same, trained for a fifth of the time, lab 13: and from other first weights
    "gpt_early": _EARLY,
    "gpt_early_1": replace(_EARLY, seed=1),
    "gpt_early_2": replace(_EARLY, seed=2),
    # gated neurons, two thirds as many, so as many weights, lab 14
    "gpt_gated": replace(_EARLY, build=lambda: gpt(neurons=512, gated=True)),
    # half of the heads and neurons, from scratch: the control of lab 15
    "gpt_small": Baseline(lambda: gpt(heads=3, neurons=384), (_TEXT,), text=True),
}


def build(name: str, seed: int = 0) -> nn.Module:
    """An untrained network with weights drawn from `seed`; the global random state is
    left as it was.

    Raises:
        ValueError: unknown name; lists the known ones.

    >>> build("lenet300").fc1
    Linear(in_features=784, out_features=300, bias=True)
    """
    made = BASELINES[one_of("name", name, BASELINES)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return made.build()


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
    if os.path.lexists(own):
        print(
            f"Using your own {name} from {own} (delete that file to get the course's"
            " back)."
        )
        repair = f"delete {own}; the course's own weights are used then."
        return _fill(model, own, read_regular(own, repair), repair)
    folder = data_folder() / "baselines"
    path = folder / f"{name}.safetensors"
    repair = (
        "`git checkout -- data/baselines`, or `make checkpoints` to train it again."
    )
    content = read_verified(path, str(baseline_facts(name)["sha256"]), repair)
    return _fill(model, path, content, repair, half=BASELINES[name].text)


def stored(name: str, model: nn.Module) -> bytes:
    """The file of a trained network `name`, as the course ships it."""
    return to_bytes(copied(model).half() if BASELINES[name].text else model)


def baseline_facts(name: str) -> dict:
    """What `make checkpoints` recorded of a shipped network: sha256, accuracies,
    parameters, recipe, seconds.

    Raises:
        ValueError: unknown name; lists the known ones.  DamagedFileError: the record is
            missing, or another than was written; says how to repair it.
    """
    one_of("name", name, BASELINES)
    path = data_folder() / "baselines" / "baselines.json"
    repair = "`git checkout -- data/baselines`."
    facts = read_sealed(path, repair).get(name)
    if not isinstance(facts, dict) or "sha256" not in facts:
        raise DamagedFileError(f"{path} is damaged or lacks {name!r}. Repair: {repair}")
    return facts


def keep_baseline(model: nn.Module, name: str) -> Path:
    """Keep your own trained `name` in my_baselines/, beside the notebook; later labs
    then use it.

    Raises:
        ValueError: the model's weights do not fit the network `name`, are tied, stored
            in another type, or not all finite.
    """
    wanted, kept = build(name).state_dict(), model.state_dict()
    if _shapes(kept) != _shapes(wanted):
        raise ValueError(
            f"model does not have the layers of {name!r}; keep only a network made by"
            f" build({name!r})."
        )
    if problem := _problem(kept, wanted):
        raise ValueError(f"model cannot be kept as {name!r}: {problem}.")
    if shared(model) != shared(build(name)):
        first = [*shared(model), *shared(build(name))][0]
        raise ValueError(
            f"model shares other tensors than {name!r} does: look at"
            f" {', '.join(first)}."
        )
    path = Path(OWN_FOLDER) / f"{name}.safetensors"
    write_atomically(path, to_bytes(model))
    return path


# what a safetensors file can hold
STORABLE = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.uint64, torch.uint32, torch.uint16),
}
State = nn.Module | Mapping[str, Tensor]


def to_bytes(state: State) -> bytes:
    """A model's state, or a dict of tensors, as a safetensors file: numbers and names,
    nothing to be executed.

    A tensor with several names (tied weights) is written once, under its first; the
    file's metadata gives the others, as `safetensors.torch.save_model` does it, so that
    `safetensors.torch.load_model` fills the tied network again.

    Raises:
        ValueError: something in it is no dense tensor in memory, or of a type that a
            safetensors file cannot hold.
    """
    tensors = state.state_dict() if isinstance(state, nn.Module) else state
    for name, tensor in tensors.items():
        _check_storable(name, tensor)
    first = first_names(tensors)
    tied = {name: kept for name, kept in first.items() if name != kept}
    try:
        return safetensors.torch.save(
            {name: _alone(tensors[name]) for name in tensors if name not in tied},
            metadata=tied or None,
        )
    except Exception as error:  # safetensors has types of its own
        raise ValueError(f"state cannot be stored: {error}") from error


def _check_storable(name: str, tensor: object) -> None:
    if not isinstance(tensor, Tensor):
        raise ValueError(
            f"{name} ({type(tensor).__name__}) cannot be stored; only tensors can."
        )
    if reason := no_values(tensor):
        raise ValueError(f"{name} {reason}.")
    if tensor.layout != torch.strided or tensor.dtype not in STORABLE:
        raise ValueError(
            f"{name} ({tensor.dtype}, {tensor.layout}) cannot be stored; only dense"
            " tensors of real numbers, and complex64, can."
        )


def _alone(tensor: Tensor) -> Tensor:
    """The tensor in memory of its own, where it is a part of a larger one."""
    own = tensor.detach().resolve_conj().resolve_neg().contiguous()
    shares = own.untyped_storage().nbytes() != own.numel() * own.element_size()
    return own.clone() if shares else own


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _problem(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What is wrong with weights of the right names and shapes; empty if nothing is."""
    for name, tensor in state.items():
        if tensor.dtype != wanted[name].dtype:
            return f"{name} is {tensor.dtype}, and must be {wanted[name].dtype}"
        if not tensor.isfinite().all():
            return f"{name} has numbers that are not finite"
    return ""


def _fill(
    model: nn.Module, path: Path, content: bytes, repair: str, *, half: bool = False
) -> nn.Module:
    """The model with the weights from `path`, in eval mode. `half`: they are stored in
    16 bits."""
    try:
        state = safetensors.torch.load(content)
        if half:
            state = {name: tensor.float() for name, tensor in state.items()}
        # a tied tensor is stored under its first name only
        first = first_names(model.state_dict())
        state |= {name: state[own] for name, own in first.items() if own in state}
        model.load_state_dict(state)
        # what torch would convert without a word
        if problem := _problem(state, model.state_dict()):
            raise ValueError(problem)
    # safetensors has an exception type of its own for each kind of damage
    except Exception as error:
        raise DamagedFileError(
            f"{path} cannot be read ({error}). Repair: {repair}"
        ) from error
    return model.eval()
