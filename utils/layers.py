"""What a network consists of: its weights, each tensor once, and two ways to look at
its layers.

Asked here and nowhere else, so that scores, masks, surgery, quantization and
measurements mean the same weights, and refuse the same ones in the same words.
"""

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

Prunable = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


COMPUTED = (
    "is computed from other tensors; make it permanent first, with"
    " torch.nn.utils.prune.remove or"
    " torch.nn.utils.parametrize.remove_parametrizations"
)
LAZY = "is not made yet (a lazy layer); run the network on one batch first"
NO_VALUES = "has no values (it is on the meta device); load them first"
IN_ATTENTION = "is used inside a MultiheadAttention, which does not call its layers"


@dataclass
class Weight:
    """One weight tensor of a network, with all its names.

    tensor: what the layers compute with; of a computed weight, its value at this
        moment.
    names: by each layer that has it, "fc1.weight"; it goes by the first.
    layers: those layers, by module name.
    reasons: of each layer, why the weight cannot be pruned; empty where it can.
    """

    tensor: Tensor
    names: list[str] = field(default_factory=list)
    layers: dict[str, nn.Module] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name it goes by: the one that `named_parameters` gives."""
        return self.names[0]

    @property
    def trained(self) -> bool:
        """Whether an optimizer moves it: False where it is frozen."""
        return self.tensor.requires_grad

    @property
    def why_not(self) -> str:
        """Why it cannot be pruned; empty where it can. A tied weight can where each of
        its layers can: what is not pruned would lose it, too."""
        if "" not in self.reasons:
            pending = (r for r in self.reasons if r in (COMPUTED, LAZY))
            return next(pending, self.reasons[0])
        for name, reason in zip(self.names, self.reasons, strict=True):
            if reason not in ("", COMPUTED, LAZY):
                path = name.rpartition(".")[0]
                kind = type(self.layers[path]).__name__
                return f"is tied to {kind} {path!r}, whose weights are not pruned"
        return ""


def weights(model: nn.Module) -> dict[str, Weight]:
    """Every weight of the network by parameter name: each tensor of two or more axes
    that a module owns, once, also where several layers share it (tied weights).

    A weight that no linear or convolutional layer has cannot be pruned, and says why:
    embeddings, transposed convolutions, recurrent layers, all of an
    `nn.MultiheadAttention`. Nor can one that is tied to such a weight, as the head of a
    text network often is to its embedding. A computed weight (weight_norm, or
    torch.nn.utils.prune not made permanent) and one that is not made yet (lazy layers)
    can be pruned later, so `prunable` refuses the network instead of leaving it out.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Embedding(9, 4))
    >>> model[1].weight = model[0].weight
    >>> for weight in weights(model).values():
    ...     print(weight.names, weight.why_not or "can be pruned")
    ['0.weight', '1.weight'] can be pruned
    ['2.weight'] belongs to Embedding, whose weights are not pruned
    """
    attention, found = _inside_attention(model), dict[object, Weight]()
    for path, module in model.named_modules(remove_duplicate=False):
        for own, tensor in _own_weights(module):
            weight = found.setdefault(place(tensor), Weight(tensor))
            weight.names.append(f"{path}.{own}" if path else own)
            weight.layers[path] = module
            weight.reasons.append(
                IN_ATTENTION if module in attention else _why_not(module, own, tensor)
            )
    return {weight.name: weight for weight in found.values()}


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that pruning considers: those of linear and convolutional layers, by
    parameter name, each tensor once; no biases. `weights` says what is left out, and
    why.

    Raises:
        ValueError: the model has no such weight, or one that is computed, not made yet
            or without values.

    >>> weights = prunable(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    >>> {name: list(weight.shape) for name, weight in weights.items()}
    {'0.weight': [3, 4], '2.weight': [2, 3]}
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model={model!r} is no network; give a torch.nn.Module.")
    everything = weights(model).values()
    chosen = {w.name: w.tensor for w in everything if not w.why_not}
    why = {w.name: w.why_not for w in everything if w.why_not in (COMPUTED, LAZY)}
    why |= {name: NO_VALUES for name, tensor in chosen.items() if tensor.is_meta}
    for name, reason in why.items():
        raise ValueError(f"{name} {reason}.")
    if not chosen:
        reasons = "; ".join(f"{w.name} {w.why_not}" for w in everything)
        raise ValueError(
            f"model ({type(model).__name__}) has nothing to prune: no Linear or Conv"
            f" layer with weights{reasons and f' ({reasons})'}."
        )
    return chosen  # pyright: ignore[reportReturnType] - computed ones are refused


def prunable_layers(model: nn.Module) -> dict[str, Prunable]:
    """The linear and convolutional layers by module name, each module once; layers that
    share a weight are each there. Not those inside an `nn.MultiheadAttention`, which
    uses them without calling them."""
    attention = _inside_attention(model)
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Prunable) and module not in attention
    }


def shared(model: nn.Module) -> list[list[str]]:
    """The names of each parameter or buffer that has more than one.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    >>> model[1].bias = model[0].bias
    >>> shared(model)
    [['0.bias', '1.bias']]
    """
    names: dict[object, list[str]] = {}
    for every in (model.named_parameters, model.named_buffers):
        for name, tensor in every(remove_duplicate=False):
            names.setdefault(place(tensor), []).append(name)
    return [each for each in names.values() if len(each) > 1]


def parameter(model: nn.Module, name: str, what: str = "masks") -> nn.Parameter:
    """The parameter that has this name at this moment. One kept aside goes stale:
    `load_state_dict(assign=True)`, or a replaced layer, brings another.

    Raises:
        ValueError: the model has none of that name, computes it, or has no values in
            it yet; says that `what` names it.

    >>> list(parameter(nn.Sequential(nn.Linear(4, 2)), "0.weight").shape)
    [2, 4]
    """
    try:
        found = model.get_parameter(name)
    except AttributeError:  # a part on the way is missing, or the parameter itself
        found = None
    if found is not None:
        if reason := no_values(found):
            raise ValueError(f"{name} {reason}.")
        return found
    computed = (w for w in weights(model).values() if COMPUTED in w.reasons)
    if name in {each for weight in computed for each in weight.names}:
        raise ValueError(f"{name} {COMPUTED}.")
    raise ValueError(
        f"{what} name {name!r}, which the model does not have. It has:"
        f" {', '.join(dict(model.named_parameters()))}."
    )


def first_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """For each name, the first name of the same tensor: its own, but where tensors are
    tied.

    >>> tensor = torch.ones(2)
    >>> first_names({"a": tensor, "b": tensor, "c": torch.ones(2)})
    {'a': 'a', 'b': 'a', 'c': 'c'}
    """
    first: dict[object, str] = {}
    return {name: first.setdefault(place(t), name) for name, t in tensors.items()}


def answer(model: Callable, images: Tensor, what: str = "example") -> Any:
    """What the network puts out for these images.

    Raises:
        ValueError: it cannot take them; names the argument `what` and tells what the
            network said.
    """
    try:
        return model(images)
    except Exception as error:  # whatever the network's code raises
        shape = list(images.shape) if isinstance(images, Tensor) else images
        raise ValueError(
            f"model ({type(model).__name__}) cannot take {what} {shape}:"
            f" {type(error).__name__}: {error}"
        ) from error


def no_values(tensor: Tensor) -> str:
    """Why a tensor has no values, to follow its name; empty where it has some."""
    if is_lazy(tensor):
        return LAZY
    return NO_VALUES if tensor.is_meta else ""


def check_not_lazy(model: nn.Module) -> None:
    """Refuse a network with a parameter that is not made yet: running it would make it.

    Raises:
        ValueError: names the parameter.
    """
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ValueError(f"{name} {LAZY}.")


def copied(model: nn.Module, instead: Mapping[int, Any] | None = None) -> nn.Module:
    """A deep copy, tied weights tied as before. `instead`: by the id of a part, what
    takes its place in the copy.

    Raises:
        ValueError: a tensor of the network is computed, with a gradient to what it is
            computed from; it cannot be copied otherwise.
    """
    for path, module in model.named_modules():
        for own, value in vars(module).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                raise ValueError(f"{path}{path and '.'}{own} {COMPUTED}.")
    try:
        result = copy.deepcopy(model, dict(instead or {}))
    except Exception as error:  # whatever its parts raise
        raise ValueError(
            f"model ({type(model).__name__}) cannot be copied:"
            f" {type(error).__name__}: {error}"
        ) from error
    # Python copies each parameter by itself: those of one memory are joined again
    together = shared(model)
    parameters = dict(
        result.named_parameters(remove_duplicate=False) if together else ()
    )
    for names in together:
        there = [parameters[name] for name in names if name in parameters]
        for other in there[1:]:
            if other is not there[0] and other.shape == there[0].shape:
                other.data = there[0].data
    return result


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while; each module then gets its own mode back (a frozen
    BatchNorm stays frozen)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    """Store the weights of the convolutions in this order, in place. A network with
    tensors that cannot be stored so, of five axes or not made yet, stays as it is."""
    tensors = [*model.parameters(), *model.buffers()]
    if any(is_lazy(tensor) or tensor.dim() == 5 for tensor in tensors):
        return
    # torch's annotations lack this way to call it
    model.to(memory_format=layout)  # pyright: ignore[reportCallIssue]


@contextmanager
def watching(
    modules: Mapping[str, nn.Module],
    note: Callable[[str, nn.Module, tuple, Tensor], None],
) -> Iterator[None]:
    """For a while, `note(name, module, inputs, output)` is called each time one of
    these modules has run. Inputs given by keyword are among the inputs."""

    def hook(name: str) -> Callable:
        return lambda module, inputs, by_keyword, output: note(
            name, module, (*inputs, *by_keyword.values()), output
        )

    handles = [
        module.register_forward_hook(hook(name), with_kwargs=True)
        for name, module in modules.items()
    ]
    try:
        with uncompiled():
            yield
    finally:
        for handle in handles:
            handle.remove()


def uncompiled() -> Any:
    """A context in which compiled networks (`torch.compile`) run as they were written:
    what was compiled before hooks came does not call them."""
    if "torch._dynamo" not in sys.modules:  # seconds to import; nothing is compiled
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


# ----------------------------------------------------------------------- how it is done


def _own_weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights of a module without its parts, by attribute."""
    if isinstance(module, Prunable):
        own = module._parameters.get("weight")
        if own is None:
            with torch.no_grad():  # a computed weight is computed here
                own = getattr(module, "weight", None)
        if isinstance(own, Tensor):
            yield "weight", own
        return
    if isinstance(module, parametrize.ParametrizationList):
        return  # what it computes is a weight of its layer
    names = [name for name, _ in module.named_parameters(recurse=False)]
    for name in [*names, *getattr(module, "parametrizations", {})]:
        with torch.no_grad():
            tensor = getattr(module, name)
        if is_lazy(tensor) or tensor.dim() >= 2:
            yield name, tensor


def place(tensor: Tensor) -> object:
    """Equal for two tensors that are one in memory."""
    if is_lazy(tensor) or tensor.is_meta or not tensor.numel() or tensor.is_sparse:
        return id(tensor)
    return (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())


def _why_not(module: nn.Module, own: str, tensor: Tensor) -> str:
    if not isinstance(module, Prunable):
        return f"belongs to {type(module).__name__}, whose weights are not pruned"
    if is_lazy(tensor):
        return LAZY
    if own not in dict(module.named_parameters(recurse=False)):
        return COMPUTED
    return ""


def _inside_attention(model: nn.Module) -> set[nn.Module]:
    return {
        part
        for module in model.modules()
        if isinstance(module, nn.MultiheadAttention)
        for part in module.modules()
    }
