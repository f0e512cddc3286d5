"""A small GPT: a transformer that reads pieces of text and says which piece comes next
(Radford et al. 2019). Met in lessons/13_transformers.

Layers and weights in the order in which a piece meets them. What later rooms rely on: a
`Linear` of its own for query, key, value and output, so that a head is some rows of the
first three and the same columns of the last.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.text import CONTEXT


class Attention(nn.Module):
    """Each piece looks at itself and at those before it (Vaswani et al. 2017). `[n, t,
    width]` -> the same shape.

    A head has `head_width` rows of `query`, `key` and `value`, and as many columns of
    `out`; head number h those from h * head_width on.
    """

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key = nn.Linear(width, heads * head_width, bias=False)
        self.value = nn.Linear(width, heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width, bias=False)

    @property
    def heads(self) -> int:
        """How many there are."""
        return self.query.out_features // self.head_width

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )  # [n, heads, t, head_width] each
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Neurons that look at each piece by itself. `[n, t, width]` -> the same shape."""

    def __init__(self, width: int, neurons: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, neurons, bias=False)
        self.relu = nn.ReLU()
        self.down = nn.Linear(neurons, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.relu(self.up(x)))


class GatedMLP(nn.Module):
    """An MLP whose neurons are multiplied by a gate (Shazeer 2020), as today's large
    models have it. `[n, t, width]` -> the same shape."""

    def __init__(self, width: int, neurons: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, neurons, bias=False)
        self.up = nn.Linear(width, neurons, bias=False)
        self.silu = nn.SiLU()
        self.down = nn.Linear(neurons, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Attention, then an MLP; each reads a normalised copy of the residual stream and
    adds what it found to the stream. `[n, t, width]` -> the same shape."""

    def __init__(
        self, width: int, attention: nn.Module, mlp: nn.Module, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, bias=False)
        self.attention = attention
        self.norm2 = nn.LayerNorm(width, bias=False)
        self.mlp = mlp
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class GPT(nn.Module):
    """Pieces `[n, t]` int64, t at most the context, -> at each place how likely each
    piece comes next: logits `[n, t, pieces]`.

    The head is tied to the embedding: one tensor with two names.
    """

    def __init__(
        self,
        pieces: int,
        width: int,
        blocks: list[Block],
        context: int = CONTEXT,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(pieces, width)
        self.position = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, pieces, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, pieces: Tensor) -> Tensor:
        places = torch.arange(pieces.shape[1], device=pieces.device)
        x = self.embedding(pieces) + self.position(places)  # [n, t, width]
        return self.head(self.norm(self.blocks(self.dropout(x))))


def gpt(  # noqa: PLR0913 - one call, by keywords
    *,
    pieces: int = 1024,
    width: int = 192,
    blocks: int = 6,
    heads: int = 6,
    head_width: int = 32,
    neurons: int = 768,
    gated: bool = False,
    dropout: float = 0.1,
    deviation: float = 0.02,
) -> GPT:
    """A GPT with the same number of heads and neurons in each block.

    Args:
        heads: in each block, of `head_width` numbers each.
        gated: a `GatedMLP` of that many neurons.
        dropout: while training, of the stream at its start and of what each part adds.
        deviation: of the first weights; those that write to the stream get it divided
            by the square root of how many do (Radford et al. 2019).

    >>> network = gpt()
    >>> network(torch.zeros(2, 7, dtype=torch.int64)).shape
    torch.Size([2, 7, 1024])
    >>> sum(parameter.numel() for parameter in network.parameters())
    2902464
    """
    mlp = GatedMLP if gated else MLP
    network = GPT(
        pieces,
        width,
        [
            Block(
                width,
                Attention(width, heads, head_width),
                mlp(width, neurons),
                dropout,
            )
            for _ in range(blocks)
        ],
        dropout=dropout,
    )
    for name, parameter in network.named_parameters():
        if parameter.dim() == 2:
            writes = name.endswith((".out.weight", ".down.weight"))
            nn.init.normal_(
                parameter, std=deviation / (math.sqrt(2 * blocks) if writes else 1)
            )
    return network
