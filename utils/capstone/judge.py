"""What a file is and does: its bytes, its graph, its answers and its time.

Files are not trusted: each is read from a copy, and asked more than once.
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import cycle
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils import measure
from utils.capstone.rules import Cost, Refused, points
from utils.deploy import LARGEST, Session, read_onnx
from utils.files import DamagedFileError

CLASSES = 10
# pictures asked a second time, one by one, and a third time with other grey levels
AGAIN = 500
# pictures that may get another answer when asked again: one may lie on an edge, and
# fall to either side
EDGE = 2
# fraction of pictures that may get another answer with other grey levels; of honest
# networks 0.014 do
SHAKY = 0.05
# fraction of pictures that may be lost in other light; of the course's networks at most
# 0.034 were, of some that were pruned or rounded and not trained again 0.044
DIM = 0.05
TIMED = 200  # pictures, drawn at random, that the file is timed with
RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}


def verdict(  # noqa: PLR0913 - `process` and tests give them by name
    path: Path | str,
    images: Tensor,
    labels: Tensor,
    dense: nn.Module,
    *,
    rounds: int = 25,
    asked: Callable[[], object] = lambda: None,
) -> dict:
    """What `score` and `examine` do inside the fresh process: cost, points, and the
    quartiles of the speedup.

    Without any limit of time or memory: give it no file that you do not trust.

    Args:
        images, labels: `[n, 1, 28, 28]` and `[n]`, what it is judged on.
        dense: what its time is compared with.
        rounds: of timing.
        asked: called once, when the file is about to be shown the first of these
            images.
    Raises:
        Refused: as `score`, but for time and memory.

    >>> verdict("no.onnx", torch.zeros(9, 1, 28, 28), torch.zeros(9), nn.Flatten())
    Traceback (most recent call last):
    utils.capstone.rules.Refused: it is missing.
    """
    size, network = _open(Path(path))
    # what cannot take pictures is refused before it sees these
    _ask(network, torch.zeros(2, *images.shape[1:]))
    asked()
    found = answers(network, images)
    _check_other_light(network, images, labels, found == labels)
    timing = _timed(network, dense, images, found, rounds)
    cost = Cost(size, timing.speedup, (found == labels).float().mean().item())
    return {
        "cost": asdict(cost),
        "points": points(cost),
        "speedup_quartiles": timing.speedup_quartiles,
    }


def _timed(
    network: Session, dense: nn.Module, images: Tensor, found: Tensor, rounds: int
) -> measure.Timing:
    """The time of one picture, beside that of the dense network. What it says meanwhile
    must be what it `found` before."""
    # else one picture could have a short way
    chosen = torch.randperm(len(images), generator=_chance())[:TIMED]
    race = {
        "dense": _OneByOne(dense, images[chosen]),
        "file": _OneByOne(network, images[chosen]),
    }
    # 30 ms a block: on a busy machine a short one often escapes the interruptions that
    # a long one cannot
    timings = measure.latency(race, images[:1], rounds=rounds, shortest=0.03)
    check_timed(race["file"].said, found[chosen])
    return timings["file"]


def _open(path: Path) -> tuple[int, Session]:
    """Bytes of the file, and the network in it. Both from a copy: the file may change
    meanwhile, the copy does not."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "network.onnx"
        try:
            check_plain(path)
            if (size := path.stat().st_size) > LARGEST:
                raise Refused(f"it has {size:,} bytes; at most {LARGEST:,} are opened.")
            with path.open("rb") as file:
                copy.write_bytes(file.read(LARGEST))
            check_graph(copy)
            return copy.stat().st_size, Session(copy)
        except OSError as error:
            raise Refused(f"it cannot be read ({error.strerror}).") from None
        except DamagedFileError as error:
            raise Refused(str(error).replace(str(copy), "it")) from None


def check_plain(path: Path) -> None:
    """Neither missing, nor a folder, nor a pipe that would keep its reader waiting."""
    try:
        if path.is_file():
            return
        kinds = {
            "it is missing.": not path.exists(),
            "it is a folder.": path.is_dir(),
            "it is no plain file.": True,
        }
        reason = next(words for words, holds in kinds.items() if holds)
    except OSError as error:
        reason = f"it cannot be read ({error.strerror})."
    raise Refused(reason)


class _OneByOne:
    """Gives the network one of these pictures after another, whatever it is called
    with, and keeps what it said."""

    def __init__(self, network: Callable[[Tensor], Tensor], images: Tensor) -> None:
        self.network, self.ring = network, cycle(images.split(1))
        self.said: list[Tensor] = []

    def __call__(self, _: Tensor) -> Tensor:
        answer = self.network(next(self.ring))
        self.said.append(answer)
        return answer


def check_timed(said: list[Tensor], found: Tensor) -> None:
    """Whether the outputs `said`, `[1, 10]` each, of pictures that took turns, are the
    classes `found` before, `[n]`.

    Raises:
        Refused: more than a few pictures got another answer.
    """
    if any(each.shape != (1, CLASSES) for each in said):
        raise Refused("it gave outputs of another shape while it was timed.")
    turns = torch.arange(len(said)) % len(found)
    other = torch.cat(said).float().argmax(1) != found[turns]
    if (wrong := turns[other].unique().numel()) > EDGE:
        raise Refused(
            f"{wrong} of {len(found)} pictures got another answer while it was timed."
        )


def _chance() -> torch.Generator:
    """A generator whose numbers nobody can foresee."""
    return torch.Generator().manual_seed(int.from_bytes(os.urandom(7), "big"))


def answers(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The class of each picture, `[n]`: asked in random order and in batches of random
    sizes, so that nothing but the picture can tell the network which one it is.

    Raises:
        Refused: not ten finite numbers a picture, or other answers when pictures are
            asked again: one by one, or with grey levels that nobody could tell from
            theirs. What knows pictures by heart fails there.

    >>> answers(nn.Flatten(), torch.eye(10).view(10, 1, 1, 10)).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    generator = _chance()
    found = _asked_in_batches(network, images, generator).argmax(1)
    some = torch.randperm(len(images), generator=generator)[:AGAIN]
    _check_again(network, images[some], found[some], generator)
    return found


def _asked_in_batches(
    network: Callable[[Tensor], Tensor], images: Tensor, generator: torch.Generator
) -> Tensor:
    """Ten numbers for each picture, `[n, 10]`."""
    order = torch.randperm(len(images), generator=generator)
    found = torch.empty(len(images), CLASSES)
    start = 0
    while start < len(order):
        size = int(torch.randint(50, 500, (1,), generator=generator))
        some = order[start : start + size]
        found[some] = _ask(network, images[some])
        start += size
    return found


def _check_again(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    before: Tensor,
    generator: torch.Generator,
) -> None:
    """Whether the classes of these pictures are the same as before, `[n]`."""
    wrong = int((_alone(network, images) != before).sum())
    if wrong > EDGE:
        raise Refused(
            f"{wrong} of {len(images)} pictures got another answer alone than among"
            " others."
        )
    wrong = int((_alone(network, nudged(images, generator)) != before).sum())
    if wrong > SHAKY * len(images):
        raise Refused(
            f"{wrong} of {len(images)} pictures got another answer when no pixel"
            " changed by more than one grey level of 256. A network hardly notices"
            " that; does it know the pictures by heart?"
        )


def _alone(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The class of each picture, `[n]`, asked one by one."""
    return torch.cat([_ask(network, image) for image in images.split(1)]).argmax(1)


def nudged(images: Tensor, generator: torch.Generator) -> Tensor:
    """The pictures, each pixel one grey level of 256 brighter, or darker, or as it
    was."""
    low, high = images.aminmax()
    steps = torch.randint(-1, 2, images.shape, generator=generator)
    return (images + steps * (high - low) / 255).clamp(low, high)


def _check_other_light(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    before: Tensor,
) -> None:
    """Whether about as many pictures are right in other light as `before`, `[n]`."""
    generator = _chance()
    changed = other_light(images, generator)
    right = _asked_in_batches(network, changed, generator).argmax(1) == labels
    lost, won = int((before & ~right).sum()), int((right & ~before).sum())
    # three standard deviations of what chance alone would lose or win
    if lost - won > DIM * len(images) + 3 * (lost + won) ** 0.5:
        raise Refused(
            f"it gets {before.float().mean():.1%} of the pictures right, but"
            f" {right.float().mean():.1%} of the same pictures in slightly uneven"
            " light, moved by less than a pixel. A network hardly notices that; does it"
            " know the pictures by heart?"
        )


def other_light(images: Tensor, generator: torch.Generator) -> Tensor:
    """The pictures `[n, 1, h, w]` as another photograph might show them: each turned,
    enlarged and moved a little (1.5 degrees, 1.5 percent, a quarter of a pixel at
    most), and lit unevenly (half as bright to half as bright again).

    Not mirrored: a network that was trained without mirrored pictures would mind.
    """
    low, high = images.aminmax()
    n, *_, width = images.shape

    def drawn(*shape: int) -> Tensor:
        return torch.empty(n, *shape).uniform_(-1, 1, generator=generator)

    angle, size, (x, y) = drawn() * math.radians(1.5), 1 + 0.015 * drawn(), drawn(2).T
    rows = (
        torch.stack([size * angle.cos(), -size * angle.sin(), 0.5 * x / width], 1),
        torch.stack([size * angle.sin(), size * angle.cos(), 0.5 * y / width], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images - low, grid, align_corners=False)  # outside is black
    light = F.interpolate(
        drawn(1, 3, 3), images.shape[2:], mode="bicubic", align_corners=True
    )
    return (low + moved * (1 + light / 2)).clamp(low, high)


def _ask(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Ten numbers for each picture, `[n, 10]`, float32."""
    try:
        found = network(images)
    except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime raises
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Refused(
            f"it cannot be run on {len(images)} pictures of {list(images.shape[1:])}:"
            f" {reason}"
        ) from None
    shape = found.shape
    found = found.float()  # files may give half floats, or integers
    if shape != (len(images), CLASSES) or not torch.isfinite(found).all():
        raise Refused(
            f"for {len(images)} pictures it gives {list(shape)}; wanted are ten finite"
            " numbers each."
        )
    return found


def check_graph(path: Path) -> None:
    """One input, one output, and no operations but the standard's. None that draws
    random numbers: in ONNX Runtime those go on from call to call, so that a file could
    count its calls, and be idle when it is timed."""
    model = read_onnx(path)
    graph = model.graph
    weights = {each.name for each in graph.initializer}
    inputs = [each.name for each in graph.input if each.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise Refused(
            f"it has {len(inputs)} inputs and {len(graph.output)} outputs; wanted is"
            " one of each."
        )
    dims = next(
        each for each in graph.input if each.name == inputs[0]
    ).type.tensor_type.shape.dim
    if dims and dims[0].dim_value:
        raise Refused(
            f"it takes batches of one size only, {dims[0].dim_value}; wanted is any."
            " deploy.to_onnx leaves the size open; with torch.onnx.export, give it"
            " `dynamic_shapes`."
        )
    nodes = [node for part in (graph, *model.functions) for node in _nodes(part)]
    foreign = {node.domain for node in nodes} - {"", "ai.onnx"}
    if foreign:
        raise Refused(
            f"it uses operations of {', '.join(sorted(foreign))}; only the ONNX"
            " standard's are run."
        )
    chance = {node.op_type for node in nodes if _draws(node)}
    if chance:
        raise Refused(
            f"it draws random numbers ({', '.join(sorted(chance))}); wanted is one"
            " answer, always the same."
        )


def _draws(node: onnx.NodeProto) -> bool:
    """Whether a node draws random numbers. Dropout does if told to train, by its third
    input."""
    return node.op_type in RANDOM or (node.op_type == "Dropout" and any(node.input[2:]))


def _nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """All nodes, also those inside branches and loops."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)
