"""One step of a text network as a file: it gets the pieces that are new, and the keys
and values of those before, so that nothing is read twice.

Reading a prompt is a step with many pieces, writing goes on with one piece a step. A
file holds no more than that: which piece is written is decided outside
(`generation.noise`).
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from utils.deploy.files import exported, first_line, loaded, write
from utils.files import DamagedFileError
from utils.generation import CONTEXT
from utils.layers import check_not_lazy, eval_mode
from utils.models.gpt import GPT, Attention, Block

PIECES, LOGITS = "pieces", "logits"  # names in the file
KEY, VALUE = "key", "value"  # and a block's number: those of the pieces before
NEW = "new_"  # before that name: those of all pieces up to now
Kept = list[onnxruntime.OrtValue]  # key and value of each attention, one after another


def step_to_onnx(model: nn.Module, path: Path | str) -> int:
    """Write one step of a GPT as ONNX; return the file's size in bytes.

    In: `pieces` `[1, t]` int64, those that are new; and of each block with an attention
    the keys and values of the pieces before, `key0`, `value0`, ... `[1, heads, past,
    head_width]`. Both t and past are free; past is 0 at the start. Out: `logits` `[1,
    pieces]` for what follows the last place; and `new_key0`, `new_value0`, ... `[1,
    heads, past + t, head_width]`, which are the next step's `key0`, `value0`.

    Blocks may differ in heads and neurons, as surgery leaves them; blocks and parts of
    blocks may be gone. The embedding, which is the head too, is stored once.

    Raises:
        ValueError: no GPT of the course; one without any attention, that cannot run, or
            that PyTorch cannot write as ONNX. No file is written.
    """
    model = getattr(model, "_orig_mod", model)  # of a compiled one, what was written
    if not isinstance(model, GPT):
        raise ValueError(
            f"model ({type(model).__name__}) must be a GPT of models.gpt; for others"
            " there is to_onnx."
        )
    check_not_lazy(model)
    for name, weight in model.named_parameters():
        if weight.dtype != torch.float32:
            raise ValueError(f"{name} is {weight.dtype}; give model.float().")
    with eval_mode(model):
        step = _Step(model)
    if not step.cached:
        raise ValueError(
            "model has no attention left; without keys and values a step cannot know"
            " how many pieces came before."
        )
    pieces = torch.zeros(1, 3, dtype=torch.int64)  # an exporter may take 1 for constant
    before = [part for each in step.cached.values() for part in _example(each)]
    try:
        with eval_mode(model), torch.no_grad():
            step(pieces, *before)
    except Exception as error:  # whatever the network raises
        raise ValueError(
            f"model cannot take a step with 3 pieces after 5: {first_line(error)}."
        ) from error
    free = torch.export.Dim.DYNAMIC
    kept = [f"{part}{n}" for n in step.cached for part in (KEY, VALUE)]
    content = exported(
        step,
        (pieces, *before),
        ({1: free}, tuple({2: free} for _ in before)),
        ([PIECES, *kept], [LOGITS, *(NEW + name for name in kept)]),
    )
    return write(content, path)


def _example(attention: Attention) -> list[Tensor]:
    """Keys and values of five pieces."""
    shape = (1, attention.heads, 5, attention.head_width)
    return [torch.randn(shape), torch.randn(shape)]


class _Step(nn.Module):
    """What the file does, in PyTorch. cached: the attentions that look back, by the
    number of their block."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model
        self.cached: dict[int, Attention] = {}
        self.silent: set[int] = set()  # blocks whose MLP has left
        for number, block in enumerate(model.blocks):
            if isinstance(block, nn.Identity):
                continue
            if not isinstance(block, Block):
                raise _looks_back(f"blocks.{number}", block)
            if _adds_nothing(block.mlp):
                self.silent.add(number)
            if _adds_nothing(block.attention):
                continue
            if not isinstance(block.attention, Attention):
                raise _looks_back(f"blocks.{number}.attention", block.attention)
            self.cached[number] = block.attention

    def forward(self, pieces: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        model, new = self.model, list[Tensor]()
        past = before[0].shape[2]
        places = torch.arange(pieces.shape[1]) + past
        every = torch.arange(past + pieces.shape[1])
        later = torch.where(every > places[:, None], -torch.inf, 0.0)  # [t, past + t]
        x = model.embedding(pieces) + model.position(places)  # [1, t, width]
        kept = iter(before)
        for number, block in enumerate(model.blocks):
            if not isinstance(block, Block):
                x = block(x)
                continue
            if number in self.cached:
                read, both = block.norm1(x), (next(kept), next(kept))
                added, *both = _attend(self.cached[number], read, *both, later)
                x = x + added
                new += both
            if number not in self.silent:
                x = x + block.mlp(block.norm2(x))
        return model.head(model.norm(x[:, -1])), *new


def _looks_back(name: str, part: nn.Module) -> ValueError:
    return ValueError(
        f"{name} is a {type(part).__name__}, which may look back in its own way; only"
        " models.gpt.Attention keeps its keys and values."
    )


def _adds_nothing(part: nn.Module) -> bool:
    """Whether it is what surgery puts in the place of a part that has left, or an
    attention without heads."""
    if isinstance(part, Attention):
        return not part.heads
    plain = not [*part.parameters(), *part.buffers()]
    return plain and not part(torch.ones(1, 1, 1)).any()


def _attend(
    attention: Attention, x: Tensor, key: Tensor, value: Tensor, later: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What the attention adds to the stream, `[1, t, width]`, and all keys and values,
    `[1, heads, past + t, head_width]`.

    later: `[t, past + t]`, -inf where a piece would look at a later one.
    """
    query, new_key, new_value = (
        layer(x).unflatten(-1, (-1, attention.head_width)).transpose(1, 2)
        for layer in (attention.query, attention.key, attention.value)
    )
    key, value = torch.cat([key, new_key], 2), torch.cat([value, new_value], 2)
    scores = query @ key.transpose(2, 3) * attention.head_width**-0.5 + later
    mixed = scores.softmax(-1) @ value  # [1, heads, t, head_width]
    return attention.out(mixed.transpose(1, 2).flatten(2)), key, value


def is_step(inputs: Sequence[Any], outputs: Sequence[Any]) -> bool:
    """Whether a file with these inputs and outputs (what has a name) is one of
    `step_to_onnx`."""
    kept = [each.name for each in inputs[1:]]
    names = [PIECES, *kept, LOGITS, *(NEW + name for name in kept)]
    return [each.name for each in (*inputs, *outputs)] == names


class OnnxWriter(nn.Module):
    """A file of `step_to_onnx`, ready to write; and a module without parameters, so
    that `losses` and `evaluate` take it.

    It has threads of its own, which do not spin while they wait.

    Args:
        threads: how many processor threads compute a step, 1 or more.
    Raises:
        ValueError: other threads.  DamagedFileError: the file is missing, cannot be
            run, or holds no step of a text network.
    """

    def __init__(self, path: Path | str, threads: int = 1) -> None:
        super().__init__()
        self.session = loaded(path, threads)
        inputs = self.session.get_inputs()
        outputs = self.session.get_outputs()
        if not is_step(inputs, outputs):
            raise DamagedFileError(
                f"{path} holds no step of a text network. Repair: write it with"
                " step_to_onnx."
            )
        self.pieces = int(outputs[0].shape[1])
        self.shapes = [(1, each.shape[1], 0, each.shape[3]) for each in inputs[1:]]
        self.kept = [each.name for each in inputs[1:]]
        self.outputs = [each.name for each in outputs]

    def write(self, prompt: Tensor, added: Tensor) -> Tensor:
        """The pieces `[count]` that follow `prompt`, `[m]`: those that
        `generation.write_plainly` writes, but where two are as good as equally likely
        and rounding decides.

        Beyond 256 pieces it reads the last 256 again for each, as that does: their
        places have moved, and with them all keys and values.

        Args:
            prompt: the last 256 of its pieces count.
            added: `generation.noise`, `[count, pieces]`.
        Raises:
            ValueError: no piece in the prompt, one that the network does not know, or
                `added` for another number of pieces.
        """
        self._check(prompt, "prompt", "[m]")
        if added.dim() != 2 or added.shape[1] != self.pieces:
            raise ValueError(
                f"added has the shape {list(added.shape)}; it must be"
                f" [count, {self.pieces}]."
            )
        text, kept, read = prompt.tolist(), self._nothing(), 0
        for step in added:
            if len(text) > CONTEXT:
                kept, read = self._nothing(), len(text) - CONTEXT
            logits, kept = self._step(text[read:], kept)
            read = len(text)
            text.append(int((logits + step).argmax()))
        return torch.tensor(text[len(prompt) :], dtype=torch.int64)

    def forward(self, pieces: Tensor) -> Tensor:
        """The logits at each place of these windows, `[n, t]` -> `[n, t, pieces]`: one
        step a piece, as it writes.

        Raises:
            ValueError: more than 256 places, or a piece that the network does not know.
        """
        self._check(pieces, "pieces", "[n, t]")
        if pieces.shape[1] > CONTEXT:
            raise ValueError(
                f"pieces has the shape {list(pieces.shape)}; a window has at most"
                f" {CONTEXT} pieces."
            )
        return torch.stack([torch.stack(list(self._read(row))) for row in pieces])

    def _read(self, row: Tensor) -> Iterator[Tensor]:
        kept = self._nothing()
        for piece in row.tolist():
            logits, kept = self._step([piece], kept)
            yield logits

    def _nothing(self) -> Kept:
        """Keys and values of no pieces."""
        return [_value(np.zeros(shape, np.float32)) for shape in self.shapes]

    def _step(self, pieces: Iterable[int], kept: Kept) -> tuple[Tensor, Kept]:
        """Logits `[pieces]` for what comes next, and all keys and values up to now."""
        given = dict(zip(self.kept, kept, strict=True))
        given[PIECES] = _value(np.array([list(pieces)], np.int64))
        try:
            logits, *new = self.session.run_with_ort_values(self.outputs, given)
        except Exception as error:  # ONNX Runtime has types of its own
            raise ValueError(f"the file fails: {first_line(error)}.") from error
        return torch.from_numpy(logits.numpy()[0]), new

    def _check(self, pieces: Tensor, name: str, shape: str) -> None:
        """Whole numbers of pieces that the network knows, at least one."""
        if (
            pieces.dim() != shape.count(",") + 1
            or pieces.dtype != torch.int64
            or not pieces.numel()
        ):
            raise ValueError(
                f"{name} has the shape {list(pieces.shape)} and the type"
                f" {pieces.dtype}; it must be {shape}, int64, with a piece at least."
            )
        low, high = (int(each) for each in pieces.aminmax())
        if low < 0 or high >= self.pieces:
            raise ValueError(
                f"{name} goes from {low} to {high}; the network knows the pieces"
                f" 0..{self.pieces - 1}."
            )


def _value(array: np.ndarray) -> onnxruntime.OrtValue:
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)
