"""Let a text network write: which piece comes next is drawn from what it says. Built in
lessons/13_transformers.

The draw is fixed beforehand: `noise` has a number for each step and piece, and the
piece whose logit plus noise is largest is written (the Gumbel trick; Maddison et al.
2014). That draws each piece with its probability, and two networks that get the same
noise write different pieces only where they answer differently.
"""

import torch
from torch import Tensor, nn

from utils.arguments import real, whole
from utils.layers import eval_mode

CONTEXT = 256


def noise(count: int, pieces: int, temperature: float, seed: int) -> Tensor:
    """What is added to the logits, `[count, pieces]`: Gumbel noise times the
    temperature; at temperature 0 nothing, and the likeliest piece is written.

    Raises:
        ValueError: a negative temperature, or a count below 1.
    """
    whole("count", count, low=1)
    if not (real(temperature) and 0 <= temperature < float("inf")):
        raise ValueError(f"temperature={temperature!r} must be 0 or more, and finite.")
    generator = torch.Generator().manual_seed(whole("seed", seed))
    uniform = torch.rand(count, pieces, generator=generator, dtype=torch.float64)
    return (-(-uniform.clamp_min(1e-300).log()).log() * temperature).float()


@torch.no_grad()
def write_plainly(model: nn.Module, prompt: Tensor, added: Tensor) -> Tensor:
    """The pieces `[count]` that follow `prompt`, `[m]`: for each, the whole text is
    read again (at most the last 256 pieces).

    Slow, and what `Writer` is checked against. `added`: `noise`, `[count, pieces]`.
    """
    text = prompt.tolist()
    with eval_mode(model):
        for step in added:
            window = torch.tensor([text[-CONTEXT:]])
            text.append(int((model(window)[0, -1] + step).argmax()))
    return torch.tensor(text[len(prompt) :])
