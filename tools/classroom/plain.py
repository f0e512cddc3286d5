"""What a learner's function returns, and what it leaves of its arguments, as plain
data: it crosses from the process that ran the function to the one that judges.

Numbers, text, lists, tensors; a network or an optimizer as the tensors in it, put into
one of the judge's own making. Nothing that is read is ever executed.
"""

import base64
import contextlib
import copy
import dataclasses
import math
import sys
from collections.abc import ItemsView, Iterator, KeysView, Sequence, ValuesView
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from utils.files import DEEPEST_JSON

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    )
}
Packed = Any  # JSON
LONGEST = 100_000  # that is taken of what is given one by one


class Other:
    """Something else than plain data: nothing is known of it but the name of its
    type."""


# ------------------------------------------------------------------- tensors within it


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of an argument, in the same order in both processes."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.state_dict(keep_vars=True).values()
    elif isinstance(value, dict):
        yield from (one for part in value.values() for one in tensors(part))
    elif isinstance(value, (list, tuple)):
        yield from (one for part in value for one in tensors(part))
    elif is_dataclass(value):
        yield from tensors(fields_of(value))


def is_dataclass(value: Any) -> bool:
    """Whether it is an instance of one."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass by name."""
    return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.numel() > 0 and a.data_ptr() == b.data_ptr()


# ------------------------------------------------------------------------------ to pack


class Packer:
    """Packs what a function returned, given what it was given."""

    def __init__(self, given: Sequence[Any]) -> None:
        self.given = given
        self.tensors = list(tensors(list(given)))

    def pack(self, value: Any, depth: int = 0) -> Packed:
        """A value as JSON.

        Raises:
            ValueError: it is nested too deeply.
        """
        if depth > DEEPEST_JSON // 4:
            raise ValueError("what it returns is nested too deeply")
        if value is None or type(value) in (bool, int, float, str):
            return value
        for number, one in enumerate(self.given):
            if value is one and not isinstance(one, (bool, int, float, str)):
                return {"kind": "given", "number": number}
        return self._pack_by_kind(value, depth + 1)

    def _pack_by_kind(self, value: Any, depth: int) -> Packed:
        if isinstance(value, Tensor):
            return self.pack_tensor(value)
        if isinstance(value, str):  # of NumPy, or of a class of its own
            return str.__str__(value)
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
            return {"kind": "array"} | _numbers(torch.from_numpy(np.array(value)))
        if isinstance(getattr(value, "statistic", None), float):
            return self._statistic(value)
        if isinstance(value, (list, tuple)):
            kind = "list" if isinstance(value, list) else "tuple"
            return {"kind": kind, "parts": [self.pack(part, depth) for part in value]}
        if isinstance(value, dict):
            pairs = [[self.pack(one, depth) for one in pair] for pair in value.items()]
            return {"kind": "dict", "parts": pairs}
        if isinstance(value, (set, frozenset)):
            parts = sorted(value, key=repr)
            return {"kind": "set", "parts": [self.pack(part, depth) for part in parts]}
        if isinstance(value, (Iterator, KeysView, ValuesView, ItemsView)):
            return self._pack_by_kind(list(islice(value, LONGEST)), depth)
        return self._pack_object(value, depth)

    def _pack_object(self, value: Any, depth: int) -> Packed:
        if isinstance(value, nn.Module):
            return self._pack_module(value)
        if isinstance(value, torch.optim.Optimizer):
            return {"kind": "optimizer", "state": self.pack(value.state_dict())}
        if isinstance(value, torch.Generator):
            return {"kind": "generator", "state": _numbers(value.get_state())}
        if isinstance(value, Path):
            return {"kind": "path", "text": str(value)}
        if is_dataclass(value) and _known(type(value)):
            return {
                "kind": "dataclass",
                "name": f"{type(value).__module__}:{type(value).__name__}",
                "parts": self._pack_by_kind(fields_of(value), depth),
            }
        return {"kind": "other", "name": type(value).__name__}

    def _statistic(self, value: Any) -> Packed:
        """A result of SciPy's, which has its number beside others."""
        number = float(value.statistic)
        return {"kind": "other", "name": type(value).__name__, "statistic": number}

    def left(self, value: Any) -> Packed:
        """An argument as the function left it."""
        plain = value is None or isinstance(value, (bool, int, float, str))
        return None if plain else self._pack_by_kind(value, 1)

    def pack_tensor(self, value: Tensor) -> Packed:
        """A tensor, with what flows back through it to what was given."""
        packed = {"kind": "tensor", "requires_grad": value.requires_grad}
        packed |= _numbers(value) | {"parameter": isinstance(value, nn.Parameter)}
        for number, one in enumerate(self.tensors):
            if _same_memory(value, one) and value.shape == one.shape:
                packed["memory"] = number
        if value.grad_fn is not None and value.numel() == 1:
            packed["flows"] = self._gradients(value)
        if value.is_leaf and value.grad is not None:
            packed["grad"] = _numbers(value.grad)
        return packed

    def _gradients(self, value: Tensor) -> list[Packed]:
        """Of one number, with respect to each tensor given; None where none flows."""
        wanted = [one for one in self.tensors if one.requires_grad]
        with contextlib.suppress(RuntimeError):
            found = torch.autograd.grad(
                value.sum(), wanted, retain_graph=True, allow_unused=True
            )
            return [None if one is None else _numbers(one) for one in found]
        return [None] * len(wanted)

    def _pack_module(self, value: nn.Module) -> Packed:
        shape = None
        if type(value) is nn.Linear:
            shape = [value.in_features, value.out_features, value.bias is not None]
        state = value.state_dict(keep_vars=True)
        pairs = [[name, self.pack_tensor(one)] for name, one in state.items()]
        return {
            "kind": "module",
            "name": type(value).__name__,
            "linear": shape,
            "like": repr(value),
            "training": value.training,
            "parts": pairs,
        }


def _known(kind: type) -> bool:
    """Whether it is a dataclass of the package: of nothing but its fields."""
    module = sys.modules.get(kind.__module__)
    own = kind.__module__.startswith("utils.") and dataclasses.is_dataclass(kind)
    return own and getattr(module, kind.__name__, None) is kind


def _numbers(value: Tensor) -> Packed:
    """Of a tensor its kind, shape and bytes."""
    plain = value.detach().cpu().contiguous()
    content = plain.flatten().view(torch.uint8).numpy().tobytes()
    return {
        "dtype": str(value.dtype).removeprefix("torch."),
        "shape": list(value.shape),
        "data": base64.b64encode(content).decode(),
    }


# ---------------------------------------------------------------------------- to unpack


class _Flowing(torch.autograd.Function):
    """A number whose gradients were computed elsewhere."""

    @staticmethod
    def forward(ctx: Any, number: Tensor, gradients: Any, *_: Tensor) -> Tensor:
        ctx.gradients = gradients
        return number.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        flows = [None if one is None else one * outer[0] for one in ctx.gradients]
        return None, None, *flows


class Unpacker:
    """Makes of JSON what a function returned, given what it was given here.

    Whatever was sent, it gives a value or raises ValueError.
    """

    def __init__(self, given: Sequence[Any]) -> None:
        self.given = given
        self.tensors = list(tensors(list(given)))

    def unpack(self, packed: Packed) -> Any:
        """The value.

        Raises:
            ValueError: it is none.
        """
        try:
            return self._unpack(packed)
        except (KeyError, IndexError, TypeError, RuntimeError, OverflowError) as error:
            raise ValueError(f"no plain data was sent ({error})") from None

    def _unpack(self, packed: Packed) -> Any:
        if not isinstance(packed, dict):
            if isinstance(packed, list):
                raise ValueError("no plain data was sent (a bare list)")
            return packed
        return getattr(self, f"_{_KINDS[packed['kind']]}")(packed)

    def _given(self, packed: Packed) -> Any:
        return self.given[packed["number"]]

    def _list(self, packed: Packed) -> Any:
        return [self._unpack(part) for part in packed["parts"]]

    def _tuple(self, packed: Packed) -> Any:
        return tuple(self._list(packed))

    def _set(self, packed: Packed) -> Any:
        return set(self._list(packed))

    def _dict(self, packed: Packed) -> Any:
        pairs = [[self._unpack(one) for one in pair] for pair in packed["parts"]]
        return dict(pairs)

    def _array(self, packed: Packed) -> Any:
        found = _tensor(packed).numpy()
        return found if found.ndim else found[()]

    def _tensor(self, packed: Packed) -> Tensor:
        number = packed.get("memory")
        own = self.tensors[number] if number is not None else None
        if own is not None and list(own.shape) == packed["shape"]:
            copy_into(own, _tensor(packed))
            return own if not packed["parameter"] else own.detach()
        found = _tensor(packed)
        if "flows" in packed:
            wanted = [one for one in self.tensors if one.requires_grad]
            flows = [None if f is None else _tensor(f) for f in packed["flows"]]
            if any(one is not None for one in flows):
                return _Flowing.apply(found, flows, *wanted)
        if found.is_floating_point():
            found.requires_grad_(bool(packed["requires_grad"]))
        return found

    def _module(self, packed: Packed) -> Any:
        if packed["linear"]:
            inputs, outputs, bias = packed["linear"]
            module = nn.Linear(1, 1, bias=bool(bias))
            module.in_features, module.out_features = int(inputs), int(outputs)
        else:
            alike = [
                one
                for one in self.given
                if isinstance(one, nn.Module) and repr(one) == packed["like"]
            ]
            if not alike:
                return self._other(packed)
            module = copy.deepcopy(alike[0])
        own = dict(module.state_dict(keep_vars=True))
        for name, one in packed["parts"]:
            found = self._tensor(one)
            own[name].data = found.detach()
            if own[name].is_floating_point():
                own[name].requires_grad_(bool(one["requires_grad"]))
        return module.train(bool(packed["training"]))

    def _dataclass(self, packed: Packed) -> Any:
        module, _, name = str(packed["name"]).partition(":")
        kind = getattr(sys.modules.get(module), name, None)
        if not isinstance(kind, type) or not _known(kind):
            raise ValueError(f"no plain data was sent ({name})")
        parts = self._dict(packed["parts"])
        made = {f.name for f in dataclasses.fields(kind) if f.init}
        return kind(**{key: one for key, one in parts.items() if key in made})

    def _path(self, packed: Packed) -> Path:
        return Path(packed["text"])

    def _other(self, packed: Packed) -> Any:
        kept = {"statistic": packed["statistic"]} if "statistic" in packed else {}
        return type(str(packed["name"])[:80], (Other,), kept)()

    def put_back(self, given: Any, packed: Packed) -> None:
        """Make an argument what the function left of it.

        Raises:
            ValueError: what was sent is no such thing.
        """
        try:
            self._put_back(given, packed)
        except (KeyError, IndexError, TypeError, RuntimeError, OverflowError) as error:
            raise ValueError(f"no plain data was sent ({error})") from None

    def _put_back(self, given: Any, packed: Packed) -> None:
        if isinstance(given, Tensor):
            restore(given, packed)
        elif isinstance(given, nn.Module):
            for name, one in packed["parts"]:
                restore(given.state_dict(keep_vars=True)[name], one)
        elif isinstance(given, torch.optim.Optimizer):
            given.load_state_dict(self._unpack(packed["state"]))
        elif isinstance(given, torch.Generator):
            given.set_state(_tensor(packed["state"]))
        elif is_dataclass(given) and packed["kind"] == "dataclass":
            left = dict(packed["parts"]["parts"])
            for name, one in fields_of(given).items():
                if isinstance(one, Tensor):
                    restore(one, left[name])
        else:
            self._put_back_container(given, packed)

    def _put_back_container(self, given: Any, packed: Packed) -> None:
        if isinstance(given, list):
            given[:] = self._put_back_parts(given, packed["parts"])
        elif isinstance(given, dict):
            pairs = [(self._unpack(key), one) for key, one in packed["parts"]]
            old = [given.get(key) for key, _ in pairs]
            parts = self._put_back_parts(old, [one for _, one in pairs])
            given.clear()
            given.update(zip([key for key, _ in pairs], parts, strict=True))
        elif isinstance(given, tuple):
            self._put_back_parts(given, packed["parts"])

    def _put_back_parts(self, given: Sequence[Any], parts: list[Packed]) -> list[Any]:
        """Each part as it was left; the same object where one of its kind stands."""
        found = []
        for number, one in enumerate(parts):
            old = given[number] if number < len(given) else None
            if isinstance(old, (Tensor, list, dict, tuple)) and isinstance(one, dict):
                self._put_back(old, one)
                found.append(old)
            else:
                found.append(self._unpack(one))
        return found


_KINDS = {
    kind: kind
    for kind in (
        "given",
        "list",
        "tuple",
        "set",
        "dict",
        "array",
        "tensor",
        "module",
        "path",
        "dataclass",
        "other",
    )
} | {"optimizer": "other", "generator": "other"}


def restore(own: Tensor, packed: Packed) -> None:
    """Make a tensor what it was left as: numbers, shape, whether it is trained."""
    copy_into(own, _tensor(packed))
    if own.is_leaf and own.is_floating_point():
        own.requires_grad_(bool(packed["requires_grad"]))
        own.grad = _tensor(packed["grad"]) if "grad" in packed else None


def copy_into(own: Tensor, found: Tensor) -> None:
    """Give a tensor other numbers, in its own memory where they fit."""
    if own.shape == found.shape and own.dtype == found.dtype:
        own.data.copy_(found)
    else:
        own.data = found


def _tensor(packed: Packed) -> Tensor:
    """The tensor of that kind, shape and bytes."""
    dtype, shape = DTYPES[packed["dtype"]], [int(size) for size in packed["shape"]]
    content = bytearray(base64.b64decode(packed["data"], validate=True))
    if math.prod(shape) * dtype.itemsize != len(content) or min(shape, default=0) < 0:
        raise ValueError(f"{len(content)} bytes are no tensor of shape {shape}")
    if not content:
        return torch.empty(shape, dtype=dtype)
    found = torch.frombuffer(content, dtype=torch.uint8)
    return (found != 0 if dtype == torch.bool else found.view(dtype)).reshape(shape)
