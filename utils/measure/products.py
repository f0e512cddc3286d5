"""What a network multiplies, watched while it runs: every matrix product and
convolution that PyTorch is asked for, by whatever code."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from utils.layers import NO_VALUES, answer, check_not_lazy, eval_mode, uncompiled

aten = torch.ops.aten
# which arguments of an operator are multiplied with each other
FACTORS = {
    aten.mm: (0, 1),
    aten.addmm: (1, 2),
    aten.bmm: (0, 1),
    aten.baddbmm: (1, 2),
    aten.convolution: (0, 1),
    aten.mv: (0, 1),
    aten.addmv: (1, 2),
    aten.dot: (0, 1),
    aten.vdot: (0, 1),
}
# take several matrices, and multiply none with another
NO_PRODUCT = {
    *("cat", "stack", "copy", "copy_", "equal", "where", "complex", "polar"),
    *("index_put", "index_put_", "_index_put_impl_", "index_add", "index_copy"),
    *("scatter", "scatter_add", "masked_scatter", "embedding", "_embedding_bag"),
    *("slice_scatter", "select_scatter", "diagonal_scatter", "as_strided_scatter"),
    *("native_layer_norm", "native_group_norm", "native_batch_norm", "_prelu_kernel"),
    *("_native_batch_norm_legit_no_training", "_weight_norm_interface", "normal"),
    *("grid_sampler_2d", "grid_sampler_3d", "searchsorted", "bucketize", "set_"),
    *("_fused_rms_norm", "_fused_sdp_choice", "is_same_size", "_foreach_copy_"),
}
# take one matrix, and multiply inside
PRODUCT_INSIDE = re.compile(
    r"_?fft_.*|_?linalg_(?!vector_norm).*|.*cholesky.*|_?lu_.*|geqrf|or(m|g)qr"
    r"|matrix_exp|_?pdist.*|affine_grid_generator|_weight_int.*"
)
WHOLE: set[Any] = set()  # operators that are no composition of others
DATA, MADE, WEIGHT = "data", "made", "weight"


@dataclass(frozen=True)
class Product:
    """One operator that multiplied.

    layer: the innermost module that was running, by name.  macs: its multiply-
        accumulates.  outputs: how many numbers it gave.
    weights: those of its factors that do not depend on the example.
    constant: no factor depends on it.
    """

    layer: str
    macs: int
    outputs: int
    weights: tuple[Tensor, ...]
    constant: bool

    def nonzero(self) -> int:
        """Its multiply-accumulates whose weight is not zero; all, where both factors
        come from the example."""
        # of two weights, the one with more zeros: what it skips need not be computed
        return min(
            (_used(self.macs, weight) for weight in self.weights), default=self.macs
        )


@torch.no_grad()
def products(model: nn.Module, example: Tensor) -> tuple[list[Product], int]:
    """What the network multiplies for one input, in the order in which it runs; and how
    many inputs the example is.

    Raises:
        ValueError: the network cannot take the example, or its inputs are not
            independent; it multiplies nothing, or in an operator that cannot be
            counted.
    """
    if not isinstance(example, Tensor) or not example.dim() or not len(example):
        given = list(example.shape) if isinstance(example, Tensor) else repr(example)
        raise ValueError(f"example={given} must be a tensor of one input, [1, ...].")
    check_not_lazy(model)
    found, axis = _watched(model, example)
    if not found:
        raise ValueError(
            f"model ({type(model).__name__}) has nothing to prune or to count: it"
            " multiplies no matrices."
        )
    inputs = example.shape[axis]
    if len(example) == 1 or inputs == 1:
        return found, 1
    alone, _ = _watched(model, example.narrow(axis, 0, 1))
    for_all, for_one = (
        sum(each.macs for each in those if not each.constant)
        for those in (found, alone)
    )
    if for_all != inputs * for_one:
        raise ValueError(
            f"example {list(example.shape)} is not {inputs} inputs: it takes"
            f" {for_all:,} MACs, and the first of them alone {for_one:,}. Give a single"
            " input."
        )
    return alone, inputs


def _watched(model: nn.Module, example: Tensor) -> tuple[list[Product], int]:
    """The products of one call, and the axis on which the inputs lie."""
    with ExitStack() as stack:
        running = stack.enter_context(_running(model))
        watch = _Watch(example, running)
        stack.enter_context(eval_mode(model))
        stack.enter_context(uncompiled())
        stack.enter_context(_in_plain_operators(model))
        stack.enter_context(watch)
        answer(model, example)
    if watch.refused:
        raise ValueError(watch.refused)
    return watch.found, _axis(example, running.sequences)


class _Watch(TorchDispatchMode):
    """Sees each operator, and notes what it multiplied."""

    def __init__(self, example: Tensor, running: "_Running") -> None:
        super().__init__()
        self.running, self.found, self.refused = running, list[Product](), ""
        # where numbers lie -> what they are, and the place itself, so that none is
        # taken again; what was there before is a weight
        self.kinds: dict[int, tuple[str, object]] = {}
        self._mark(example, DATA)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # what is watched runs uncompiled; True loads the compiler to say so: 0.8 s of
        # the processor and 40 MB for the first count of a process
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in WHOLE:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
            WHOLE.add(func)
        given = [*_leaves(args), *_leaves(kwargs.values())]
        tensors = [each for each in given if isinstance(each, Tensor)]
        kinds = {self._kind(each) for each in tensors}
        output = func(*args, **kwargs)
        self._note(func, args, kwargs, output, given)
        made_of = DATA if DATA in kinds else WEIGHT if WEIGHT in kinds else MADE
        written = tensors[:1] if func._schema.is_mutable else []
        for each in (*written, *_leaves([output])):
            if isinstance(each, Tensor):
                self._mark(each, made_of)
        return output

    def _note(
        self, func: Any, args: tuple, kwargs: dict, output: Any, given: list
    ) -> None:
        operator = func.overloadpacket
        factors = [args[number] for number in FACTORS.get(operator, ())]
        if operator is aten.convolution:
            inputs, weight = factors
            macs = _convolution_macs(inputs, weight, output, transposed=args[6])
        elif factors:
            macs = output.numel() * factors[0].shape[-1]
        elif operator in flop_registry:
            macs = flop_registry[operator](*args, **kwargs, out_val=output) // 2
        else:
            return self._check_free(func, given)
        stored = [each for each in factors if each.layout != torch.strided]
        if len(stored) > 1:
            return self._refuse(func, "multiplies two sparse tensors")
        for each in stored:
            macs = macs * values(each).numel() // max(1, each.numel())
        kinds = [self._kind(each) for each in factors]
        weights = [e for e, k in zip(factors, kinds, strict=True) if k == WEIGHT]
        outputs = sum(e.numel() for e in _leaves([output]) if isinstance(e, Tensor))
        self.found.append(
            Product(
                self.running.layer,
                macs,
                outputs,
                tuple(weights),
                bool(kinds) and DATA not in kinds,
            )
        )
        return None

    def _check_free(self, func: Any, given: list) -> None:
        """Refuse an operator that multiplies and cannot be counted."""
        matrices = sum(isinstance(each, Tensor) and _is_matrix(each) for each in given)
        packed = any(isinstance(each, torch.ScriptObject) for each in given)
        if packed or (matrices and matrices >= _harmful(func)):
            self._refuse(func, "multiplies in a way that is not known here")

    def _refuse(self, func: Any, why: str) -> None:
        if not self.refused:
            self.refused = (
                f"the MACs of {self.running.place()} cannot be counted: its operator"
                f" {func.name()} {why}."
            )

    def _kind(self, tensor: Tensor) -> str:
        return self.kinds.get(id(storage(tensor)), (WEIGHT,))[0]

    def _mark(self, tensor: Tensor, kind: str) -> None:
        place = storage(tensor)
        self.kinds[id(place)] = kind, place


@cache
def _harmful(func: Any) -> float:
    """With how many matrices an operator is one that multiplies."""
    name = func.overloadpacket.__name__
    if PRODUCT_INSIDE.fullmatch(name):
        return 1
    free = func.is_view or torch.Tag.pointwise in func.tags or name in NO_PRODUCT
    return math.inf if free else 2


def _convolution_macs(
    inputs: Tensor, weight: Tensor, output: Tensor, *, transposed: bool
) -> int:
    """At each place of the output, or of the input of a transposed one, the whole
    weight takes part."""
    places = inputs.shape if transposed else output.shape
    return len(inputs) * math.prod(places[2:]) * weight.numel()


def storage(tensor: Tensor) -> object:
    """One object for all views of the same numbers."""
    return tensor.untyped_storage() if tensor.layout == torch.strided else tensor


def _leaves(values: Any) -> Iterator[Any]:
    """The values, and those in lists and tuples among them."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def _is_matrix(tensor: Tensor) -> bool:
    """Whether it can be a factor: no vector, no indices, no mask."""
    indices = (torch.bool, torch.int32, torch.int64)
    return tensor.dim() > 1 and tensor.dtype not in indices


def values(tensor: Tensor) -> Tensor:
    """The numbers that are stored of a tensor."""
    if tensor.layout == torch.sparse_coo:
        return tensor._values()
    return tensor if tensor.layout == torch.strided else tensor.values()


def _used(macs: int, weight: Tensor) -> int:
    """Those of the multiply-accumulates in which the weight is not zero: each of its
    numbers takes part equally often."""
    if weight.is_meta:
        raise ValueError(f"model's weight {list(weight.shape)} {NO_VALUES}.")
    stored = values(weight)
    whole = max(1, stored.numel())  # of a sparse one these are counted already
    return macs * int(stored.count_nonzero()) // whole


# ----------------------------------------------------------- which module is at work


class _Running:
    """The modules that run at this moment, the innermost last."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.names = model, [""]
        # of each recurrent layer and attention: name, batch first, shape of its input
        self.sequences: list[tuple[str, bool, tuple[int, ...]]] = []

    @property
    def layer(self) -> str:
        return self.names[-1]

    def place(self) -> str:
        """The innermost module, in words."""
        kind = type(self.model.get_submodule(self.layer)).__name__
        return f"{self.layer} ({kind})" if self.layer else f"model ({kind})"

    def before(self, name: str) -> Callable:
        def note(module: nn.Module, inputs: tuple, by_keyword: dict) -> None:
            self.names.append(name)
            first = next(iter((*inputs, *by_keyword.values())), None)
            if isinstance(module, SEQUENTIAL) and isinstance(first, Tensor):
                shape = tuple(first.shape)
                self.sequences.append((name, module.batch_first, shape))

        return note

    def after(self, *_: Any) -> None:
        self.names.pop()


SEQUENTIAL = nn.RNNBase | nn.MultiheadAttention


@contextmanager
def _running(model: nn.Module) -> Iterator[_Running]:
    running, handles = _Running(model), []
    try:
        for name, module in model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):  # takes no hooks
                before = running.before(name)
                handles += [
                    module.register_forward_pre_hook(
                        before, with_kwargs=True, prepend=True
                    ),
                    module.register_forward_hook(running.after),
                ]
        yield running
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _in_plain_operators(model: nn.Module) -> Iterator[None]:
    """PyTorch computes some layers in one operator of their own, as fast as it can; for
    a while, in products that can be counted."""
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    fast, backends = torch.backends.mha.get_fastpath_enabled(), torch.backends
    one = (backends.mkldnn, backends.cudnn) if recurrent else ()
    enabled = [backend.enabled for backend in one]
    try:
        backends.mha.set_fastpath_enabled(False)
        for backend in one:
            backend.enabled = False
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        backends.mha.set_fastpath_enabled(fast)
        for backend, before in zip(one, enabled, strict=True):
            backend.enabled = before


def _axis(example: Tensor, sequences: list[tuple[str, bool, tuple[int, ...]]]) -> int:
    """The axis of the example on which its inputs lie: 0, but where a recurrent layer
    or an attention takes time first.

    Raises:
        ValueError: that cannot be told.
    """
    inputs = len(example)
    for name, batch_first, shape in sequences:
        if inputs == 1 or (batch_first and len(shape) == 3):
            continue
        if len(shape) == 3 and shape[1] != inputs and shape[:2] == example.shape[:2]:
            return 1
        if len(shape) != 3 or shape[1] % inputs:
            raise ValueError(
                f"example {list(example.shape)}: {name or 'model'} takes"
                f" {list(shape)}, so the {inputs} rows are no inputs of their own."
                " Give a single input."
            )
    return 0
