"""Let a text network write: which piece comes next is drawn from what it says. Built in
lessons/13_transformers.

The draw is fixed beforehand: `noise` has a number for each step and piece, and the
piece whose logit plus noise is largest is written (the Gumbel trick; Maddison et al.
2014). That draws each piece with its probability, and two networks that get the same
noise write different pieces only where they answer differently.

`write_plainly` reads the whole text again for each piece. A `Writer` reads each piece
once, and keeps its keys and values (the *key-value cache*): what later pieces look back
on does not change.
"""

import contextlib
import ctypes
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from utils.arguments import real, whole
from utils.layers import eval_mode
from utils.models.gpt import CONTEXT, GPT, MLP, Attention, Block, GatedMLP


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
    read again (at most the last 256 pieces, so that it can go on without end).

    Slow, and what `Writer` is checked against. `added`: `noise`, `[count, pieces]`.

    Raises:
        ValueError: a prompt without pieces or with one that there is not, or noise of
            another shape.
    """
    _check_noise(added, None)
    _check_prompt(prompt, added.shape[1])
    text = prompt.tolist()
    with eval_mode(model):
        for step in added:
            window = torch.tensor([text[-CONTEXT:]])
            text.append(int((model(window)[0, -1] + step).argmax()))
    return torch.tensor(text[len(prompt) :])


class Writer:
    """A GPT of the course made for writing: NumPy, float32, one thread, each piece read
    once.

    It holds a copy of the weights, so the model may change or go. It knows what surgery
    leaves of one: other numbers of heads and neurons in each block, blocks that left,
    parts of a block that add nothing, gated MLPs.

    `apply_masks` prunes the copy, in a few thousandths of a second: from the slider of
    a panel to what the pruned network writes.

    Args:
        model: a `models.GPT`.
    Raises:
        ValueError: another network, or a part of it that is none of `models.gpt`; names
            the part.

    >>> from utils.models import gpt
    >>> model = gpt(pieces=8, width=16, blocks=2, heads=2, head_width=8, neurons=32)
    >>> prompt, added = torch.tensor([1, 2, 3]), noise(5, 8, temperature=1.0, seed=0)
    >>> written = Writer(model).write(prompt, added)
    >>> written.equal(write_plainly(model, prompt, added))
    True
    """

    def __init__(self, model: GPT) -> None:
        if not isinstance(model, GPT):
            raise ValueError(
                f"model ({type(model).__name__}) is no GPT of the course; Writer knows"
                " `utils.models.gpt` only."
            )
        self.pieces, self.context = (
            len(model.embedding.weight),
            len(model.position.weight),
        )
        # by parameter name, as they are used now, and as the model has them
        self._weights: dict[str, np.ndarray] = {}
        self._dense: dict[str, np.ndarray] = {}
        self._masked: set[str] = set()
        self._embedding = self._take({"embedding": model.embedding})
        self._position = self._take({"position": model.position})
        tied = model.head.weight is model.embedding.weight
        self._head = self._embedding if tied else self._take({"head": model.head})
        self._parts = [
            part
            for number, block in enumerate(model.blocks)
            for part in self._of_block(f"blocks.{number}", block)
        ]
        self._norm = _Norm.of("norm", model.norm)

    # -------------------------------------------------------------------------- writing

    def write(self, prompt: Tensor, added: Tensor) -> Tensor:
        """The pieces `[count]` that follow `prompt`, `[m]`; those of `write_plainly`.

        The prompt is read in one go, then each piece that is written, but the last.

        Args:
            added: `noise`, `[count, pieces]`: is added to the logits, and the piece
                whose sum is largest is written.
        Raises:
            ValueError: as `write_plainly`; or more than fits in the context. A cache
                cannot go on from there: with learned positions, a window that begins
                later has other keys and values throughout.
        """
        added = _check_noise(added, self.pieces)
        self._check_fits(prompt, len(added) - 1)
        text, steps = prompt.numpy(), added.numpy()
        written = np.empty(len(steps), np.int64)
        with one_blas_thread():
            place, last = 0, text
            for number, step in enumerate(steps):
                stream = self._read(last, place)[-1]
                place += len(last)
                written[number] = (self._head @ stream + step).argmax()
                last = written[number : number + 1]
        return torch.from_numpy(written)

    def read(self, text: Tensor) -> Tensor:
        """What it says at each place of a text, `[m]`, read in one go: logits `[m,
        pieces]`, as the model's.

        Raises:
            ValueError: a text without pieces, with one that there is not, or longer
                than the context.
        """
        self._check_fits(text, 0)
        with one_blas_thread():
            return torch.from_numpy(self._read(text.numpy(), 0) @ self._head.T)

    def _read(self, pieces: np.ndarray, place: int) -> np.ndarray:
        """The normalised stream at these pieces, `[m, width]`, which stand at `place`
        and after; the cache holds those before, and these afterwards."""
        x = self._embedding[pieces] + self._position[place : place + len(pieces)]
        for part in self._parts:
            x += part(x, place)
        return self._norm(x)

    def _check_fits(self, prompt: Tensor, more: int) -> None:
        _check_prompt(prompt, self.pieces)
        if len(prompt) + more > self.context:
            room = self.context + 1 - len(prompt)
            raise ValueError(
                f"the prompt has {len(prompt)} pieces, and {more + 1} are to be"
                f" written; the network reads at most {self.context}, all but the last"
                f" one written: {f'write at most {room}' if room > 0 else 'cut it'}."
            )

    # -------------------------------------------------------------------------- pruning

    def apply_masks(self, masks: Mapping[str, Any]) -> None:
        """Prune the copy that it holds, in place: the masks' weights are those of the
        model, or zero; all others are those of the model, whatever was pruned before.
        `{}` is the dense network.

        Args:
            masks: by parameter name, `[outputs, inputs]` bool, True = kept; tensors or
                NumPy arrays.
        Raises:
            ValueError: a name that it does not have, or a mask of another type or
                shape; nothing is changed then.
        """
        arrays = {name: self._mask(name, mask) for name, mask in masks.items()}
        for name in self._masked - arrays.keys():
            np.copyto(self._weights[name], self._dense[name])
        for name, mask in arrays.items():
            weight = self._weights[name]
            if name not in self._dense:
                self._dense[name] = weight.copy()
            # the bits times 0 or 1, as in `masks.apply_masks`
            dense = self._dense[name].view(np.int32)
            np.multiply(dense, mask, out=weight.view(np.int32))
        self._masked = set(arrays)

    def _mask(self, name: str, mask: Any) -> np.ndarray:
        if name not in self._weights:
            raise ValueError(
                f"masks name {name!r}, which the network does not have. It has:"
                f" {', '.join(self._weights)}."
            )
        array, shape = np.asarray(mask), self._weights[name].shape
        if array.dtype != np.bool_ or array.shape != shape:
            raise ValueError(
                f"the mask of {name} is {array.dtype} {list(array.shape)}; it must be"
                f" bool {list(shape)}."
            )
        return array

    # --------------------------------------------------------------------------- making

    def _take(self, layers: Mapping[str, nn.Module]) -> np.ndarray:
        """The weights of these layers, one below the other, in memory of its own."""
        arrays = {
            f"{name}.weight": _values(name, each) for name, each in layers.items()
        }
        joined = np.concatenate(list(arrays.values()))
        ends = np.cumsum([len(array) for array in arrays.values()])
        self._weights |= zip(arrays, np.split(joined, ends[:-1]), strict=True)
        return joined

    def _of_block(self, name: str, block: nn.Module) -> Iterator["_Part"]:
        """What a block adds to the stream, part by part."""
        if not isinstance(block, Block):
            if not _gives(block, lambda x: x):
                raise _unknown(name, block)
            return  # it left
        norms = {"attention": "norm1", "mlp": "norm2"}
        for part, norm in norms.items():
            does = self._of_part(f"{name}.{part}", block.get_submodule(part))
            if does is not None:
                path = f"{name}.{norm}"
                yield _Part(_Norm.of(path, block.get_submodule(norm)), does)

    def _of_part(self, name: str, part: nn.Module) -> "_Does | None":
        """What a part of a block does; None if it adds nothing."""
        if isinstance(part, Attention):
            joined = {
                f"{name}.{n}": getattr(part, n) for n in ("query", "key", "value")
            }
            return _Attention(
                self._take(joined),
                self._take({f"{name}.out": part.out}),
                part.head_width,
                self.context,
            )
        if isinstance(part, GatedMLP):
            joined = {f"{name}.gate": part.gate, f"{name}.up": part.up}
            return _GatedMLP(
                self._take(joined), self._take({f"{name}.down": part.down})
            )
        if isinstance(part, MLP):
            return _MLP(
                self._take({f"{name}.up": part.up}),
                self._take({f"{name}.down": part.down}),
            )
        if _gives(part, torch.zeros_like):
            return None
        raise _unknown(name, part)


# ------------------------------------------------------------------- the parts of a GPT

# from a normalised stream, `[m, width]`, and the place of its first piece to what is
# added to the stream
_Does = Callable[[np.ndarray, int], np.ndarray]


class _Norm(NamedTuple):
    """A LayerNorm without bias. `[m, width]` -> the same shape."""

    gain: np.ndarray
    epsilon: float

    @classmethod
    def of(cls, name: str, norm: nn.Module) -> "_Norm":
        if not isinstance(norm, nn.LayerNorm):
            raise _unknown(name, norm)
        return cls(_values(name, norm), norm.eps)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        width = x.shape[1]
        x = x - np.add.reduce(x, 1, keepdims=True) / width
        variance = np.vecdot(x, x)[:, None] / width
        x *= self.gain
        x /= np.sqrt(variance + self.epsilon)
        return x


class _Part(NamedTuple):
    """A part of a block: what it does with a normalised copy of the stream."""

    norm: _Norm
    does: _Does

    def __call__(self, x: np.ndarray, place: int) -> np.ndarray:
        return self.does(self.norm(x), place)


class _Attention:
    """Query, key and value joined, `[3 * heads * head_width, width]`, and the cache:
    keys and values `[heads, context, head_width]` of all pieces read so far."""

    def __init__(
        self, joined: np.ndarray, out: np.ndarray, head_width: int, context: int
    ) -> None:
        self.joined, self.out, self.head_width = joined, out, head_width
        self.scale = np.float32(1 / math.sqrt(head_width))
        self.heads = len(joined) // 3 // head_width
        self.keys, self.values = np.zeros(
            (2, self.heads, context, head_width), np.float32
        )

    def __call__(self, x: np.ndarray, place: int) -> np.ndarray:
        count, end = len(x), place + len(x)
        each = (x @ self.joined.T).reshape(count, 3, self.heads, self.head_width)
        query, key, value = each.transpose(1, 2, 0, 3)  # [heads, m, head_width] each
        self.keys[:, place:end], self.values[:, place:end] = key, value
        fit = query @ self.keys[:, :end].transpose(0, 2, 1)  # [heads, m, end]
        fit *= self.scale
        if count > 1:  # none looks at those that come after it
            fit += np.triu(np.full((count, end), -np.inf, np.float32), place + 1)
        fit -= np.maximum.reduce(fit, 2, keepdims=True)
        np.exp(fit, out=fit)
        mixed = fit @ self.values[:, :end]  # [heads, m, head_width]
        mixed /= np.add.reduce(fit, 2, keepdims=True)
        return mixed.transpose(1, 0, 2).reshape(count, -1) @ self.out.T


class _MLP:
    def __init__(self, up: np.ndarray, down: np.ndarray) -> None:
        self.up, self.down = up, down

    def __call__(self, x: np.ndarray, place: int) -> np.ndarray:  # noqa: ARG002
        neurons = x @ self.up.T
        return np.maximum(neurons, 0, out=neurons) @ self.down.T


class _GatedMLP:
    """Gate and up joined, `[2 * neurons, width]`."""

    def __init__(self, joined: np.ndarray, down: np.ndarray) -> None:
        self.joined, self.down = joined, down

    def __call__(self, x: np.ndarray, place: int) -> np.ndarray:  # noqa: ARG002
        gate, up = np.split(x @ self.joined.T, 2, axis=1)
        with np.errstate(over="ignore"):  # exp(-gate) infinite: the gate is closed
            return (gate / (1 + np.exp(-gate)) * up) @ self.down.T


def _values(name: str, layer: nn.Module) -> np.ndarray:
    """A copy of its weight; it has nothing else."""
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or getattr(layer, "bias", None) is not None:
        raise ValueError(
            f"{name} is {layer}; those of `models.gpt` have a weight and no bias."
        )
    return weight.detach().to("cpu", torch.float32, copy=True).contiguous().numpy()


def _gives(module: nn.Module, right: Callable[[Tensor], Tensor]) -> bool:
    """Whether a module without weights gives this for a stream: the rest of what
    surgery removed."""
    if any(True for _ in module.parameters()):
        return False
    stream = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), eval_mode(module):
        found = module(stream)
    return isinstance(found, Tensor) and found.equal(right(stream))


def _unknown(name: str, module: nn.Module) -> ValueError:
    return ValueError(
        f"{name} is a {type(module).__name__}; Writer knows the parts of `models.gpt`,"
        " blocks that are left out, and parts that add zeros to the stream."
    )


# --------------------------------------------------------------------------- one thread


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """One thread for NumPy's matrix products, where its library can be told; products
    as small as these only lose by more. As many as before afterwards."""
    read, write = _blas_threads()
    before = read()
    write(1)
    try:
        yield
    finally:
        write(before)


@functools.cache
def _blas_threads() -> tuple[Callable[[], int], Callable[[int], object]]:
    """How to read and set NumPy's number of threads: by OpenBLAS, which its packages
    bring; with another library nothing is set."""
    with contextlib.suppress(Exception):
        linked = import_module("numpy._core._multiarray_umath")
        library = ctypes.CDLL(linked.__file__)
        for end in ("64_", ""):
            with contextlib.suppress(AttributeError):
                return (
                    library[f"scipy_openblas_get_num_threads{end}"],
                    library[f"scipy_openblas_set_num_threads{end}"],
                )
    return lambda: 1, lambda _: None


# ---------------------------------------------------------------------- what is checked


def _check_noise(added: Tensor, pieces: int | None) -> Tensor:
    """`[count, pieces]` of at least one step."""
    good = isinstance(added, Tensor) and added.dim() == 2 and added.is_floating_point()
    if not good or not len(added) or pieces not in (None, added.shape[1]):
        found = list(added.shape) if isinstance(added, Tensor) else type(added).__name__
        raise ValueError(
            f"added is {found}; it must be what `noise` gives, [count,"
            f" {pieces or 'pieces'}]."
        )
    return added


def _check_prompt(prompt: Tensor, pieces: int) -> None:
    """`[m]` whole numbers of pieces that there are, at least one."""
    if (
        not isinstance(prompt, Tensor)
        or prompt.dim() != 1
        or prompt.dtype != torch.int64
    ):
        found = (
            f"{prompt.dtype} {list(prompt.shape)}"
            if isinstance(prompt, Tensor)
            else type(prompt).__name__
        )
        raise ValueError(
            f"prompt is {found}; it must be the numbers of its pieces, [m] int64:"
            " vocabulary().encode(...)."
        )
    if not len(prompt):
        raise ValueError("prompt is empty; give at least one piece to go on from.")
    low, high = (int(each) for each in prompt.aminmax())
    if low < 0 or high >= pieces:
        raise ValueError(
            f"prompt has piece {low if low < 0 else high}; the network knows those from"
            f" 0 to {pieces - 1}."
        )
