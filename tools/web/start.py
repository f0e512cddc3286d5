"""The start page, on which a network of the course is pruned in the browser: the page
and its modules as they are, and beside them what is made here from the package: the
weights, the pictures, the scores, and the words for all of it.

Nothing of this is typed a second time in JavaScript: what the notebook's explorer
offers and how it calls it is asked of `utils.explorer`.
"""

import functools
import html
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tools.web import ROOT, sources
from tools.web.repository import at_forge, repository
from utils import data
from utils.baselines import baseline_facts
from utils.data import Split, sample_batches
from utils.explorer import Controls, Explorer
from utils.explorer.kinds import KINDS
from utils.explorer.links import link_of
from utils.explorer.subject import Subject
from utils.files import write_atomically
from utils.layers import prunable

SOURCE = ROOT / "site" / "start"
NETWORK = "lenet300"
# of what the explorer offers, what the page does; scores that mean the same for weights
# and for units stand at the same place
OFFERED = {
    "weights": ("magnitude", "taylor", "random"),
    "channels": ("l1", "taylor", "random"),
}
FIRST = Controls(0.5)  # what the page opens with
STILLS = (Controls(0.9), Controls(0.9, "l1", "layerwise", "channels"))
PICTURES, AT_ONCE = 1000, 256  # validation pictures, and those of a first estimate
TRAINING = 8  # batches of 256 training pictures
STEPS = 256  # values of a score that is shipped in one byte
SEED = 0  # of the score "random"
# of the fine-tuning
RECIPE = {"steps": 300, "batch": 64, "rate": 0.05, "momentum": 0.9}


@dataclass
class Files:
    """The binary files of the page, packed with zlib, each under a name that changes
    with its content, so that no cache brings an old one."""

    folder: Path
    described: dict[str, dict] = field(default_factory=dict)

    def add(self, name: str, content: bytes) -> None:
        """Write a file, and keep what the page checks it by."""
        packed = zlib.compress(content, 9)
        digest = sha256(packed).hexdigest()
        place = f"{name}-{digest[:8]}.bin"
        for old in self.folder.glob(f"{name}-{'[0-9a-f]' * 8}.bin"):
            old.unlink()
        write_atomically(self.folder / place, packed)
        self.described[name] = {
            "name": place,
            "bytes": len(packed),
            "sha256": digest,
            "unpacked": len(content),
        }


def write(folder: Path) -> None:
    """Write the start page into a folder."""
    sources.copy(SOURCE, folder)
    kernels = sources.compiled(SOURCE / "kernels.wat")
    write_atomically(folder / "kernels.wasm", kernels)
    subject, files = Subject(NETWORK, pictures=PICTURES), Files(folder)
    described = facts(subject)
    for name, content in contents(subject).items():
        files.add(name, content)
    described["files"] = files.described
    write_atomically(
        folder / "facts.json", json.dumps(described, separators=(",", ":")).encode()
    )
    stills = [still(folder, controls) for controls in STILLS]
    write_atomically(folder / "index.html", page(stills).encode())


def page(stills: Iterable[str]) -> str:
    """The page, its blanks filled in."""
    filled = (SOURCE / "index.html").read_text()
    blanks = {
        "stills": "\n".join(stills),
        "pictures": f"{PICTURES:,}",
        "readme": _readme(),
    }
    for name, content in blanks.items():
        filled = filled.replace("{{" + name + "}}", content)
    return filled


def _readme() -> str:
    """Where it is said how to run the course: at the public forge, if it is known where
    it stands there."""
    return at_forge("#start") if repository() else "course.html"


# ------------------------------------------------------------------------------ numbers


def contents(subject: Subject) -> dict[str, bytes]:
    """What is shipped as numbers, by name: as the page unpacks it."""
    images = pixels(subject.validation)
    train = training_pictures(subject)
    return {
        "weights": in_planes(
            np.concatenate([p.detach().numpy().ravel() for p in _parameters(subject)])
        ),
        "first": in_differences(images[:AT_ONCE]) + subject.labels.tobytes(),
        "rest": in_differences(images[AT_ONCE:]),
        "taylor": np.concatenate(
            [level.numpy().ravel() for level in taylor(subject)[0].values()]
        ).tobytes(),
        "training": in_differences(pixels(train))
        + train.labels.numpy().astype(np.uint8).tobytes(),
    }


def _parameters(subject: Subject) -> Iterable[nn.Parameter]:
    """All weights, then all biases, in the order of the layers."""
    parameters = list(subject.dense.parameters())
    return [
        *(p for p in parameters if p.dim() > 1),
        *(p for p in parameters if p.dim() == 1),
    ]


def training_pictures(subject: Subject) -> Split:
    """The training pictures that the page fine-tunes on: those by which the explorer
    judges gradients, and as many again."""
    batches = sample_batches(subject.train, TRAINING)
    return Split(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def pixels(split: Split) -> np.ndarray:
    """The greys of normalised pictures, `[n, 28, 28]` uint8."""
    greys = (split.images.squeeze(1) * data.STD + data.MEAN) * 255
    return greys.round().to(torch.uint8).numpy()


def in_differences(images: np.ndarray) -> bytes:
    """Each row but the first as the difference from the one above it: zlib packs them
    better."""
    rows = images.copy()
    rows[:, 1:] -= images[:, :-1]
    return rows.tobytes()


def in_planes(numbers: np.ndarray) -> bytes:
    """All first bytes of float32 numbers, then all second ones, and so on: the signs
    and exponents resemble each other."""
    return np.ascontiguousarray(
        numbers.astype("<f4").view(np.uint8).reshape(-1, 4).T
    ).tobytes()


@functools.cache
def taylor(subject: Subject) -> tuple[dict[str, Tensor], np.ndarray]:
    """The Taylor score of each weight, in one byte: by parameter name the number of its
    step (uint8), and the score that each step stands for, `[STEPS]` float32, rising.

    The steps hold fewer weights the higher they are, each about 4% of those that score
    as high or higher, the highest a single one: so no more of the weights that stay
    share a step at 99% sparsity than at 10%.
    """
    scores = subject.scores("taylor", units=False)
    flat = torch.cat([score.flatten() for score in scores.values()]).numpy()
    ordered = np.sort(flat)
    lowest = ordered[len(flat) - _at_least(len(flat))]
    step = np.searchsorted(lowest, flat, side="right") - 1
    counted = np.bincount(step, minlength=STEPS)
    sums = np.bincount(step, weights=flat.astype(np.float64), minlength=STEPS)
    means = np.where(counted, sums / np.maximum(counted, 1), lowest).astype(np.float32)
    pieces = torch.from_numpy(step.astype(np.uint8)).split(
        [score.numel() for score in scores.values()]
    )
    return {
        name: piece.view(score.shape)
        for (name, score), piece in zip(scores.items(), pieces, strict=True)
    }, means


def _at_least(count: int) -> np.ndarray:
    """How many of `count` weights are on each step or above, `[STEPS]`: each time the
    same part of those before, at the end one less."""
    parts = above = STEPS
    while np.size(above) < STEPS:
        parts += 1
        above = np.unique(np.geomspace(count, 1, parts).round().astype(int))
    return np.asarray(above)[::-1][:STEPS]


def scores_as_shipped(subject: Subject, kind: str, score: str) -> Mapping[str, Tensor]:
    """A score as the page has it: the package's own, but for Taylor's of single
    weights, which are rounded to `STEPS` values."""
    if (kind, score) != ("weights", "taylor"):
        return subject.scores(score, units=KINDS[kind].units)
    steps, means = taylor(subject)
    values = torch.from_numpy(means)
    return {name: values[step.long()] for name, step in steps.items()}


# -------------------------------------------------------------------------------- words


def facts(subject: Subject) -> dict:
    """What the page knows: layers, stops, scores, words, and the few numbers that need
    no file."""
    names = [name.removesuffix(".weight") for name in prunable(subject.dense)]
    weights = prunable(subject.dense)
    return {
        "network": NETWORK,
        "layers": [
            {
                "name": name,
                "weight": f"{name}.weight",
                "bias": f"{name}.bias",
                "outputs": weights[f"{name}.weight"].shape[0],
                "inputs": weights[f"{name}.weight"].shape[1],
            }
            for name in names
        ],
        "classes": list(subject.classes),
        "mean": data.MEAN,
        "std": data.STD,
        "seed": SEED,
        "first": AT_ONCE,
        "pictures": PICTURES,
        "all_pictures": len(data.load().validation),
        "accuracy": _recorded_accuracy(),
        "kinds": {kind: kind_facts(subject, kind) for kind in OFFERED},
        "start": _as_setting(FIRST),
        "link": link_of(FIRST),
        "taylor": {
            "steps": in_few_digits(taylor(subject)[1]),
            "units": {
                name: in_few_digits(scores.numpy())
                for name, scores in subject.scores("taylor", units=True).items()
            },
            "pictures": subject.scores("taylor", units=False).pictures,
        },
        "tuning": RECIPE,
        "training": TRAINING * len(subject.batches[0][1]),
    }


def in_few_digits(numbers: np.ndarray) -> list[float]:
    """float32 numbers as JSON should have them: with the fewest digits that give the
    same float32 again."""
    return [float(str(number)) for number in numbers.astype(np.float32)]


def _as_setting(controls: Controls) -> dict:
    return {
        "kind": controls.kind,
        "score": controls.score,
        "scope": controls.scope,
        "sparsity": controls.sparsity,
    }


def _recorded_accuracy() -> float:
    return float(baseline_facts(NETWORK)["validation_accuracy"])


def kind_facts(subject: Subject, kind: str) -> dict:
    """How the explorer calls a kind of pruning, and what it offers there."""
    offered, stops = KINDS[kind], KINDS[kind].stops(subject)
    if missing := set(OFFERED[kind]) - set(offered.scores()):
        raise ValueError(
            f"the explorer does not offer {', '.join(missing)} for {kind}."
        )
    return {
        "label": offered.label,
        "axis": offered.axis,
        "zeros": offered.zeros,
        "scopes": list(offered.scopes),
        "scores": list(OFFERED[kind]),
        "meaning": [first_sentence(offered.functions[name]) for name in OFFERED[kind]],
        "stops": list(stops),
        "said": [offered.say(subject, stop) for stop in stops],
        "ticks": [offered.tick(subject, stop) for stop in stops],
    }


def first_sentence(function: Callable) -> str:
    """What a score is, as its docstring begins."""
    words = " ".join((function.__doc__ or "").replace("`", "").split())
    return re.split(r"\.(?: (?=[A-Z])|$)", words)[0] + "."


# ------------------------------------------------------------------------------- stills


def still(folder: Path, controls: Controls) -> str:
    """A picture of the explorer, drawn as in the notebook, for where the page cannot
    run; it lies beside the page. Returns it as HTML, with its words."""
    panel = Explorer.from_link(link_of(controls), pictures=PICTURES)
    try:
        panel.curve(controls)
        state = panel.timed(controls)
        drawn, words = panel.png(state), panel.describe(state)
    finally:
        panel.close()
    name = f"still_{controls.kind}.png"
    write_atomically(folder / name, drawn)
    size = struct.unpack(">II", drawn[16:24])  # as a PNG says it
    return (
        f'<figure><img src="{name}" width="{size[0]}" height="{size[1]}"'
        f' alt="{html.escape(words)}">'
        f"<figcaption>{html.escape(words)}</figcaption></figure>"
    )
