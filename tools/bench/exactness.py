"""Whether a network of torchvision whose units are removed answers as one whose units
are zeroed: each of its classifiers."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from tools.bench.machine import timed
from tools.bench.table import Row
from utils import surgery
from utils.layers import answer
from utils.scores import score
from utils.torchvision_repair import import_torchvision

RATIO = 0.5
SIZES = (32, 64, 96, 224, 299)  # of pictures; the first that the network takes
# of double precision, relative to the largest output; and what the units must have
# mattered, so that a mistake would be seen
SAME, MATTERED = 1e-9, 1e-6
PLAIN = {"init_weights": False, "aux_logits": False}


def exactness(_: int) -> Iterator[Row]:
    """A row for each classifier of torchvision: right, refused (why), or WRONG."""
    models = import_torchvision().models
    for name in models.list_models(module=models):
        options = PLAIN if name in ("googlenet", "inception_v3") else {}
        torch.manual_seed(0)
        yield row(name, randomised(models.get_model(name, **options)))


def row(name: str, model: nn.Module) -> Row:
    """What became of a network, and the seconds that took."""
    found: list[str] = []
    seconds = timed(partial(lambda: found.append(verdict(model))))
    return Row(f"remove half of {name}", [seconds], remarks=found[0])


def randomised(model: nn.Module) -> nn.Module:
    """BatchNorm and biases as after a long training, not as freshly made; eval mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    for name, tensor in model.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.3)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    return model.eval()


def verdict(model: nn.Module) -> str:
    """ "right", "refused: ..." or "WRONG: ..."; makes the network double."""
    pictures = smallest(model)
    scores = score("l1", model, units=True)
    try:
        masks = surgery.unit_masks(model, pictures[:1], scores, RATIO)
    except ValueError as error:
        return f"refused: {error}"
    model, pictures = model.double(), pictures.double()
    before = answer_to(model, pictures)
    small, zeroed = (
        answer_to(change(model, pictures[:1], masks), pictures)
        for change in (surgery.remove_units, surgery.zero_units)
    )
    if (apart := relative(zeroed, small)) > SAME:
        return f"WRONG: {apart:.0e} from zeroed"
    if (mattered := relative(before, small)) < MATTERED:
        return f"WRONG: the units did not matter ({mattered:.0e}), so nothing is known"
    return f"right: {apart:.0e} from zeroed, {mattered:.2g} from dense"


def smallest(model: nn.Module) -> Tensor:
    """Two random pictures of the smallest size that the network takes."""
    for size in SIZES:
        pictures = torch.randn(2, 3, size, size)
        try:
            answer_to(model, pictures)
        except ValueError:
            continue
        return pictures
    raise ValueError(f"model ({type(model).__name__}) takes pictures of no known size.")


def answer_to(model: nn.Module, pictures: Tensor) -> Tensor:
    """Its outputs, without gradients."""
    with torch.no_grad():
        return answer(model, pictures)


def relative(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return ((one - other).abs().max() / one.abs().max()).item()
