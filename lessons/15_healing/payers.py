"""Who pays: the places of a text by what stands there, and what networks lose on them.

A *group* is a set of places, `[n, t]` bool: the rare pieces, the late places of a
window, the names.
"""

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from utils import text
from utils.text import Windows

FIFTHS = ("rarest fifth", "rare", "middle", "frequent", "most frequent fifth")
PLACES = {"places 1 to 16": 16, "17 to 64": 64, "65 to 128": 128, "129 to 256": 256}


@cache
def frequency() -> Tensor:
    """How often each piece stands in the training chapters, `[pieces]`."""
    pieces = text.load().train.pieces
    return pieces.bincount(minlength=len(text.vocabulary()))


@cache
def names() -> Tensor:
    """Which pieces are names or titles, `[pieces]` bool: a capital letter and two more
    behind a space, and no piece is the same in small letters."""
    pieces = text.vocabulary().pieces
    known = set(pieces)
    return torch.tensor(
        [
            len(piece) > 3 and piece[1:].istitle() and piece.lower() not in known
            for piece in pieces
        ]
    )


def seen_before(windows: Windows) -> Tensor:
    """Whether the piece that comes next stands already in the window, `[n, t]`."""
    images, labels = windows.images, windows.labels
    context = images.shape[1]
    latest = torch.full((len(images), len(frequency())), context)  # first place of each
    for place in reversed(range(context)):
        latest.scatter_(1, images[:, place : place + 1], place)
    return latest.gather(1, labels) <= torch.arange(context)


def groups(windows: Windows) -> dict[str, Tensor]:
    """All groups of these windows by name, `[n, t]` bool each; the first is all
    places. Fifths: as many places in each, by how often the piece that comes next
    stands in the training chapters."""
    labels = windows.labels
    found = {"all places": torch.ones_like(labels, dtype=torch.bool)}
    order = frequency()[labels].flatten().argsort(stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    fifth = (rank * len(FIFTHS) // len(order)).view_as(labels)
    found |= {name: fifth == number for number, name in enumerate(FIFTHS)}
    begin = 0
    for name, end in PLACES.items():
        found[name] = torch.zeros_like(found["all places"])
        found[name][:, begin:end] = True
        begin = end
    rare = found[FIFTHS[0]] | found[FIFTHS[1]]
    before = seen_before(windows)
    found["rare, seen before"] = rare & before
    found["rare, new in the window"] = rare & ~before
    found["names"] = names()[labels]
    return found


def means(losses: Tensor, found: Mapping[str, Tensor]) -> dict[str, float]:
    """The mean loss of each group, nats a piece; losses: `[n, t]`."""
    return {name: float(losses[where].mean()) for name, where in found.items()}


def paired(
    difference: Tensor, found: Mapping[str, Tensor]
) -> dict[str, tuple[float, float]]:
    """Of each group the mean difference of two losses, `[n, t]`, and its standard
    error: windows are drawn, not places, as places of one window are alike."""
    result = {}
    for name, where in found.items():
        sums, counts = (difference * where).sum(1), where.sum(1)
        mean = float(sums.sum() / counts.sum())
        rest = sums - mean * counts  # of each window; their sum is 0
        windows = len(rest)
        error = (rest.square().sum() * windows / (windows - 1)).sqrt() / counts.sum()
        result[name] = (mean, float(error))
    return result
