"""Pruning that lets the other weights make up for those that leave. Built in
lessons/13_transformers (`refit_row`).

A linear layer multiplies rows of inputs, `X` `[rows, inputs]`. How far its outputs move
when its weights do depends on the inputs only through their *Gram matrix* `X^T X`: with
`d` the change of the weights of one output, the sum over the rows of the squared change
of that output is `d^T (X^T X) d`. So that change can be made as small as the kept
weights allow, by least squares, without any gradient (LeCun et al. 1990; Hassibi &
Stork 1993 call it the optimal brain surgeon).

The inputs come from batches of calibration, pairs as everywhere; labels are not looked
at. Layers are linear, or convolutions of one group, whose inputs are unfolded: one row
for each place.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.arguments import real, whole
from utils.data import Batches
from utils.layers import (
    Weight,
    answer,
    copied,
    eval_mode,
    parameter,
    prunable,
    uncompiled,
    watching,
    weights,
)
from utils.masks import NM, Masks, as_names, check_sparsity, masked
from utils.preflight import check_network
from utils.selection import mark_largest

RIDGE = 0.01  # of the mean of the Gram matrix's diagonal
COLUMNS = 128  # of which SparseGPT chooses at once who leaves
AT_ONCE = 1 << 23  # numbers of the systems that are solved together: 64 MB
ROWS = 1 << 12  # of inputs, of which the products are summed at once

# from the old weights and the Gram matrix of a layer to its new weights
Change = Callable[[str, Tensor, Tensor], Tensor]

# ------------------------------------------------------------------- one layer, by hand


def surgeon_cost(weight: Tensor, gram: Tensor) -> Tensor:
    """What it costs at least to set a weight to zero while all others of its output may
    move: `w**2 / [H^-1]_jj`, the sum of squares by which that output changes (Hassibi &
    Stork 1993, with half of it). `[units, inputs]`, as the weight.

    Args:
        weight: `[units, inputs]`.
        gram: `H`, `[inputs, inputs]`.
    Raises:
        ValueError: shapes that do not fit, or a Gram matrix that has no inverse.

    >>> surgeon_cost(torch.tensor([[2.0, 3.0]]), torch.diag(torch.tensor([5.0, 1.0])))
    tensor([[20.,  9.]])
    """
    _check_layer(weight, gram)
    diagonal = _inverse("the layer", gram).diagonal()
    return (weight.double().square() / diagonal).to(weight.dtype)


def surgeon_step(row: Tensor, gram: Tensor, place: int) -> Tensor:
    """One weight of an output leaves, and the others move so that the output changes
    least: `w - H^-1[:, q] * w_q / [H^-1]_qq` (Hassibi & Stork 1993). `[inputs]`.

    Weights that are zero have left before and stay zero; `H` is then that of the
    others.

    Args:
        row: `[inputs]`, the weights of one output.
        gram: `H`, `[inputs, inputs]`.
        place: which weight leaves.
    Raises:
        ValueError: shapes that do not fit, or a Gram matrix that has no inverse.

    >>> gram = torch.tensor([[2.0, 1.0], [1.0, 2.0]])  # inputs that resemble each other
    >>> surgeon_step(torch.tensor([1.0, 1.0]), gram, 0)
    tensor([0.0000, 1.5000])
    """
    _check_layer(row[None], gram)
    whole("place", place, high=len(row) - 1)
    there = (row != 0).index_fill(0, torch.tensor([place], device=row.device), True)
    places = there.nonzero()[:, 0]
    inverse = _inverse("the layer", gram[places][:, places])
    which = int((places == place).nonzero())
    step = inverse[:, which] * (row[place].double() / inverse[which, which])
    moved = row.double().index_add(0, places, -step)
    return moved.index_fill(0, places[which], 0.0).to(row.dtype)


def least_squares(
    weight: Tensor, mask: Tensor, gram: Tensor, ridge: float = RIDGE
) -> Tensor:
    """The kept weights of each output, fitted to its old outputs by least squares:
    with `S` the kept inputs, `H[S,S] w' = H[S,:] w`. `[units, inputs]`; zero where the
    mask is False.

    Solved is for what the kept weights gain, `H[S,S] (w' - w)[S] = H[S,R] w[R]`, where
    `R` left: so a mask that keeps all changes nothing, to the last bit.

    Args:
        weight, mask: `[units, inputs]`.
        gram: `H`, `[inputs, inputs]`.
        ridge: so many times the mean of its diagonal is added to that. It holds the
            kept weights back from moving far; whatever it is, the outputs are never
            further from the old ones than with the mask alone.
    Raises:
        ValueError: shapes that do not fit, a negative ridge, or inputs that do not tell
            what the kept weights should be (possible with ridge=0 only).

    >>> gram = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    >>> mask = torch.tensor([[False, True]])
    >>> least_squares(torch.tensor([[1.0, 1.0]]), mask, gram, ridge=0)
    tensor([[0.0000, 1.5000]])
    """
    _check_layer(weight, gram, mask)
    return _least_squares("the layer", weight, mask, _ridged(gram, ridge))


def sparse_sweep(  # noqa: PLR0913 - one call, by keywords
    weight: Tensor,
    sparsity: float,
    gram: Tensor,
    *,
    pattern: NM | None = None,
    ridge: float = RIDGE,
    columns: int = COLUMNS,
) -> tuple[Tensor, Tensor]:
    """SparseGPT for one layer (Frantar & Alistarh 2023): input by input, from the first
    to the last, the weights that leave hand what they did to the inputs that come
    later. New weights and mask, `[units, inputs]` each.

    Which weights leave is chosen for `columns` inputs at a time and over all units, by
    the least `w**2 / [H^-1]_jj` (with `H` that of the inputs still to come); with a
    pattern, for its `m` inputs at a time and in each unit. `round(sparsity * n)` leave.

    Raises:
        ValueError: as `least_squares`; a sparsity that is none, or not the pattern's.
    """
    _check_layer(weight, gram)
    check_sparsity(sparsity)
    whole("columns", columns, low=1)
    return _sweep("the layer", weight, sparsity, _ridged(gram, ridge), pattern, columns)


def output_error(old: Tensor, new: Tensor, gram: Tensor) -> float:
    """The sum, over all rows of inputs and all outputs, of the squared difference that
    weights `new` make in place of `old`, `[units, inputs]` each.

    >>> rows = torch.tensor([[1.0, 2.0], [0.0, 1.0]])  # [rows, inputs]
    >>> output_error(torch.ones(1, 2), torch.zeros(1, 2), rows.T @ rows)
    10.0
    """
    _check_layer(old, gram)
    change = (new - old).double()
    return float(((change @ gram.double()) * change).sum())


# ------------------------------------------------------------------- a whole network


@torch.no_grad()
def grams(
    model: nn.Module, batches: Batches, names: Iterable[str] | None = None
) -> dict[str, Tensor]:
    """`X^T X` of what each layer multiplies, over all rows of all batches, by parameter
    name: `[inputs, inputs]` float64. Layers that share a weight share their matrix.

    Args:
        names: of weights, as `layers.prunable` has them; None, all of those.
    Raises:
        ValueError: no batches, ones that the network cannot take or that do not reach a
            layer, a name that no such weight has, a layer that is no `nn.Linear` and no
            `nn.Conv2d` of one group, inputs that are not finite.

    >>> found = grams(nn.Linear(2, 3), [(torch.tensor([[1.0, 2.0]]), torch.zeros(1))])
    >>> found["weight"]
    tensor([[1., 2.],
            [2., 4.]], dtype=torch.float64)
    """
    chosen = _chosen(model, names)
    name_of = {path: w.name for w in chosen for path in w.layers}
    # each once, also one that has several paths
    paths = {layer: path for w in chosen for path, layer in w.layers.items()}
    layers = {path: layer for layer, path in paths.items()}
    found: dict[str, Tensor] = {}

    def add(path: str, layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        gram, name = _gram(name_of[path], layer, inputs[0]), name_of[path]
        found[name] = found[name] + gram if name in found else gram

    with eval_mode(model), watching(layers, add):
        for place, images in enumerate(_images(batches)):
            answer(model, images, f"batches[{place}]")
    _refuse_unreached([w.name for w in chosen], found)
    return {w.name: found[w.name] for w in chosen}


def refit(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    batches: Batches,
    *,
    ridge: float = RIDGE,
) -> nn.Module:
    """A copy with the pruned weights at zero, in which the kept weights of each output
    are the least-squares fit of what the output was (`least_squares`).

    One pass through the network with all batches together: when a layer is about to
    run, it is fitted to what it would put out with its old weights for the inputs that
    it now gets, from layers that are fitted already. Layers of one input (query, key,
    value) get the same one.

    Args:
        masks: by parameter name, of weights that `layers.prunable` has; a layer without
            a mask, or with one that keeps all, stays as it is.
        ridge: as in `least_squares`.
    Raises:
        ValueError: masks that do not fit the network or keep nothing of a layer, a
            weight that several layers or calls use, and as `grams`.

    >>> layer = nn.Linear(3, 1, bias=False)
    >>> inputs = torch.arange(9.0)[:, None].expand(9, 3)  # three times the same
    >>> masks = {"weight": torch.tensor([[True, False, False]])}
    >>> fitted = refit(layer, masks, [(inputs, torch.zeros(9))], ridge=0)
    >>> torch.allclose(fitted(inputs), layer(inputs), atol=1e-5)
    True
    """
    result = masked(model, masks)
    _check_ridge(ridge)
    for name, mask in masks.items():
        if not mask.any():
            raise ValueError(f"the mask of {name} keeps nothing that could be fitted.")
    pruned = {
        weight.name: mask
        for weight in _chosen(model, masks)
        for name, mask in masks.items()
        if name in weight.names and not mask.all()
    }

    def change(name: str, old: Tensor, gram: Tensor) -> Tensor:
        mask = pruned[name].to(old.device).flatten(1)
        return _least_squares(name, old, mask, _ridged(gram, ridge))

    old = {name: parameter(model, name).detach() for name in pruned}
    return _through(result, old, batches, change)


def sparsegpt(  # noqa: PLR0913 - one call, by keywords
    model: nn.Module,
    sparsity: float | Mapping[str, float],
    batches: Batches,
    *,
    pattern: NM | None = None,
    exclude: Iterable[str] = (),
    ridge: float = RIDGE,
    columns: int = COLUMNS,
) -> tuple[nn.Module, Masks]:
    """A pruned copy and its masks: `sparse_sweep` for each layer, one after the other
    in one pass as in `refit` (Frantar & Alistarh 2023).

    Args:
        sparsity: of each layer; or one for each by parameter name.
        pattern: for linear layers only.
        exclude: names of weights that stay as they are.
    Raises:
        ValueError: as `sparse_sweep` and `refit`.

    >>> batches = [(torch.randn(50, 8), torch.zeros(50))]
    >>> network, masks = sparsegpt(nn.Linear(8, 4), 0.75, batches)
    >>> network.weight.count_nonzero().item(), masks["weight"].sum().item()
    (8, 8)
    """
    shares = _shares(model, sparsity, exclude)
    whole("columns", columns, low=1)
    _check_ridge(ridge)
    old = {name: parameter(model, name).detach() for name in shares}
    masks = {  # what is excluded keeps everything
        name: torch.ones(weight.shape, dtype=torch.bool, device=weight.device)
        for name, weight in prunable(model).items()
    }
    for name, weight in old.items():
        if pattern and weight.dim() > 2:
            raise ValueError(
                f"{name} is a convolution's; {pattern} needs a linear one."
            )

    def change(name: str, weight: Tensor, gram: Tensor) -> Tensor:
        gram = _ridged(gram, ridge)
        new, mask = _sweep(name, weight, shares[name], gram, pattern, columns)
        masks[name] = mask.view(masks[name].shape)
        return new

    return _through(copied(model), old, batches, change), masks


# ----------------------------------------------------------------------- how it is done


@torch.no_grad()
def _through(
    result: nn.Module, old: Mapping[str, Tensor], batches: Batches, change: Change
) -> nn.Module:
    """Change these weights, in place, each just before its layer runs.

    old: the weights to start from, by parameter name.
    """
    if not old:
        return result
    images = _together(_images(batches))
    chosen = [w for name, w in weights(result).items() if name in old]
    reached: set[str] = set()

    def before(weight: Weight, layer: nn.Module, inputs: Tensor) -> None:
        if weight.name in reached:
            raise ValueError(
                f"{weight.name} is used more than once, for inputs of which only the"
                " first are known when it is fitted; leave it out."
            )
        reached.add(weight.name)
        gram = _gram(weight.name, layer, inputs)
        new = change(weight.name, old[weight.name].flatten(1), gram)
        if not new.isfinite().all():
            raise ValueError(f"{weight.name} holds a number that is not finite.")
        weight.tensor.copy_(new.view(weight.tensor.shape))

    with eval_mode(result), uncompiled(), _stopping_at(chosen, before):
        answer(result, images, "batches")
    _refuse_unreached(list(old), reached)
    return result


@contextmanager
def _stopping_at(
    chosen: list[Weight], before: Callable[[Weight, nn.Module, Tensor], None]
) -> Iterator[None]:
    """For a while, `before` is called when a layer with one of these weights is about
    to run."""

    def hook(weight: Weight) -> Callable:
        return lambda module, inputs, by_keyword: before(
            weight, module, (*inputs, *by_keyword.values())[0]
        )

    handles = [
        layer.register_forward_pre_hook(hook(weight), with_kwargs=True)
        for weight in chosen
        for layer in set(weight.layers.values())
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _chosen(model: nn.Module, names: Iterable[str] | None) -> list[Weight]:
    """Weights by any of their names, in the order of the network; None, all that are
    prunable."""
    check_network(model)
    every = weights(model).values()
    known = {name: weight for weight in every for name in weight.names}
    if names is None:
        prunable(model)  # refuses what is computed or has no values
        chosen = [weight for weight in every if not weight.why_not]
    else:
        for name in (names := as_names("names", names)):
            if name not in known or known[name].why_not:
                why = known[name].why_not if name in known else "is no weight here"
                can = ", ".join(w.name for w in every if not w.why_not)
                raise ValueError(f"{name!r} {why}; known are {can}.")
        chosen = [w for w in every if set(w.names) & set(names)]
    for weight in chosen:
        if weight.tensor.is_complex():
            raise ValueError(f"{weight.name} is {weight.tensor.dtype}; give real ones.")
        for path, layer in weight.layers.items():
            _refuse_other_layers(weight.name, path, layer)
    return chosen


def _shares(
    model: nn.Module, sparsity: float | Mapping[str, float], exclude: Iterable[str]
) -> dict[str, float]:
    """The sparsity of each layer that is not excluded."""
    every = _chosen(model, None)
    out = {w.name for w in _chosen(model, as_names("exclude", exclude))}
    names = [w.name for w in every if w.name not in out]
    if not isinstance(sparsity, Mapping):
        return dict.fromkeys(names, check_sparsity(sparsity))
    if set(sparsity) != set(names):
        raise ValueError(
            f"sparsity by layer must name exactly {', '.join(names)}; it names"
            f" {', '.join(sparsity)}."
        )
    return {n: check_sparsity(sparsity[n], f"sparsity[{n!r}]") for n in names}


def _refuse_other_layers(name: str, path: str, layer: nn.Module) -> None:
    plain = isinstance(layer, nn.Linear) or (
        isinstance(layer, nn.Conv2d)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )
    if not plain:
        raise ValueError(
            f"{name} belongs to {path or 'the model'}, {layer}; only nn.Linear and"
            " nn.Conv2d of one group with zeros around it can be fitted; leave it out."
        )


def _images(batches: Batches) -> list[Tensor]:
    """The inputs of each batch."""
    given = list(batches) if isinstance(batches, Iterable) else [batches]
    for place, batch in enumerate(given):
        pair = isinstance(batch, tuple | list) and len(batch) == 2
        if not pair or not isinstance(batch[0], Tensor):
            raise ValueError(
                f"batches[{place}] is a {type(batch).__name__}; it must be a pair of"
                " tensors, inputs [n, ...] and their labels."
            )
    images = [batch[0] for batch in given if batch[0].numel()]
    if not images:
        raise ValueError(
            "batches is empty; calibration needs inputs: sample_batches(train,"
            " count=4, batch_size=8)."
        )
    return images


def _together(images: list[Tensor]) -> Tensor:
    kinds = {(tuple(each.shape[1:]), each.dtype) for each in images}
    if len(kinds) > 1:
        raise ValueError(
            f"batches has inputs of several kinds, {sorted(map(str, kinds))}; all are"
            " run together, so give one shape and type."
        )
    return torch.cat(images)


def _gram(name: str, layer: nn.Module, inputs: Tensor) -> Tensor:
    """`X^T X` of one call, float64, `[inputs, inputs]`."""
    gram = torch.zeros((), dtype=torch.float64, device=inputs.device)
    for rows in _rows(layer, inputs):
        gram = gram + (rows.T @ rows).double()
    if not gram.isfinite().all():
        raise ValueError(
            f"what {name} multiplies is not finite (NaN or infinity); look at the"
            " batches and at the weights."
        )
    return gram


def _rows(layer: nn.Module, inputs: Tensor) -> Iterator[Tensor]:
    """What a layer multiplies, `[rows, inputs]`, some rows at a time."""
    wide = torch.promote_types(inputs.dtype, torch.float32)
    if not isinstance(layer, nn.Conv2d):
        rows = inputs.reshape(-1, inputs.shape[-1])
        yield from (part.to(wide) for part in rows.split(ROWS))
        return
    pictures = inputs if inputs.dim() == 4 else inputs[None]
    for part in pictures.split(8):
        columns = F.unfold(  # [n, inputs, places]
            part.to(wide),
            layer.kernel_size,
            layer.dilation,
            layer.padding,  # pyright: ignore[reportArgumentType] - no name, as checked
            layer.stride,
        )
        yield columns.transpose(1, 2).flatten(0, 1)


def _refuse_unreached(names: Iterable[str], reached: Iterable[str]) -> None:
    for name in names:
        if name not in reached:
            raise ValueError(
                f"the layer of {name} never runs on these batches; without inputs there"
                " is nothing to fit. Leave it out."
            )


# ----------------------------------------------------------------- systems of equations


def _check_layer(weight: Tensor, gram: Tensor, mask: Tensor | None = None) -> None:
    wanted = [weight.shape[-1]] * 2 if weight.dim() else []
    if weight.dim() != 2 or list(gram.shape) != wanted:
        raise ValueError(
            f"the weight has shape {list(weight.shape)} and gram {list(gram.shape)};"
            " they must be [units, inputs] and [inputs, inputs]."
        )
    if mask is not None and (mask.dtype != torch.bool or mask.shape != weight.shape):
        raise ValueError(
            f"the mask is {mask.dtype} {list(mask.shape)}; it must be torch.bool"
            f" {list(weight.shape)}."
        )


def _check_ridge(ridge: float) -> None:
    if not (real(ridge) and 0 <= ridge < float("inf")):
        raise ValueError(f"ridge={ridge!r} must be 0 or more, and finite.")


def _ridged(gram: Tensor, ridge: float) -> Tensor:
    """With so many times the mean of its diagonal added to the diagonal."""
    _check_ridge(ridge)
    gram = gram.double()
    return gram + torch.eye(len(gram)).to(gram) * (ridge * gram.diagonal().mean())


def _cholesky(name: str, matrices: Tensor) -> Tensor:
    """The lower factors of matrices `[..., n, n]`, refused where one has no inverse."""
    factors, failed = torch.linalg.cholesky_ex(matrices)
    pivots = factors.diagonal(dim1=-2, dim2=-1).square()
    largest = matrices.diagonal(dim1=-2, dim2=-1).amax(-1)
    least = matrices.shape[-1] * torch.finfo(matrices.dtype).eps * largest
    if failed.any() or not (pivots.amin(-1) > least).all():
        raise ValueError(
            f"the inputs of {name} depend on each other, so that they do not tell what"
            " its weights should be: fewer rows than inputs, or one that is always"
            " zero. Give more batches, or a ridge above 0."
        )
    return factors


def _inverse(name: str, gram: Tensor) -> Tensor:
    return torch.cholesky_inverse(_cholesky(name, gram.double()))


def _least_squares(name: str, weight: Tensor, mask: Tensor, gram: Tensor) -> Tensor:
    """As `least_squares`, the ridge added.

    Rows have different systems; those of about as many kept weights are solved
    together, as large as the largest, the rest of it filled with the identity.
    """
    kept = mask.sum(1)  # [units]
    moved = (weight * ~mask).double() @ gram  # what leaves, as the others see it
    # the kept inputs of each unit first, in their order
    places = mask.byte().argsort(dim=1, descending=True, stable=True)
    new = weight.double() * mask
    order = kept.argsort(descending=True)
    order = order[(kept[order] > 0) & (kept[order] < mask.shape[1])]
    while len(order):
        size = int(kept[order[0]])
        units = order[: max(1, AT_ONCE // size**2)]
        order = order[len(units) :]
        where = places[units, :size]  # [units, size]
        there = mask[units].gather(1, where)
        systems = gram[where[:, :, None], where[:, None, :]]
        systems *= there[:, :, None] & there[:, None, :]
        systems += torch.diag_embed((~there) * gram.diagonal().mean())
        right = moved[units].gather(1, where) * there
        gained = torch.cholesky_solve(right[..., None], _cholesky(name, systems))
        new[units] = new[units].scatter_add(1, where, gained[..., 0] * there)
    return torch.where(mask, new, 0.0).to(weight.dtype)


def _sweep(  # noqa: PLR0913 - one layer, of one call
    name: str,
    weight: Tensor,
    sparsity: float,
    gram: Tensor,
    pattern: NM | None,
    columns: int,
) -> tuple[Tensor, Tensor]:
    """As `sparse_sweep`, the ridge added."""
    new = weight.double().clone()
    upper = torch.linalg.cholesky(_inverse(name, gram), upper=True)
    # [j, j] squared: [H^-1]_jj of the inputs from j on
    mask = torch.ones(weight.shape, dtype=torch.bool, device=weight.device)
    step = pattern.m if pattern else columns
    if pattern:  # refuses another sparsity, and rows it does not divide
        pattern({name: weight}, sparsity, magnitude=True)
    for start in range(0, new.shape[1], step):
        part = slice(start, min(start + step, new.shape[1]))
        cost = new[:, part].square() / upper.diagonal()[part].square()
        mask[:, part] = (
            pattern({name: cost}, sparsity)[name]
            if pattern
            else _kept(name, cost, sparsity, start)
        )
        handed = torch.zeros_like(cost)
        for j in range(part.start, part.stop):
            error = new[:, j] * ~mask[:, j] / upper[j, j]
            new[:, j : part.stop] -= error[:, None] * upper[j, j : part.stop]
            handed[:, j - start] = error
        new[:, part.stop :] -= handed @ upper[part, part.stop :]
    return torch.where(mask, new, 0.0).to(weight.dtype), mask


def _kept(name: str, cost: Tensor, sparsity: float, start: int) -> Tensor:
    """Which of these columns' weights stay, so that of all columns from the first to
    these `round(sparsity * n)` leave."""
    units, width = cost.shape
    before, after = (
        round(sparsity * units * start),
        round(sparsity * units * (start + width)),
    )
    arrays = {name: cost.cpu().reshape(-1).numpy()}
    marks = mark_largest(arrays, cost.numel() - (after - before))[name]
    return torch.from_numpy(marks).view(cost.shape).to(cost.device)
