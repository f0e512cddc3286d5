"""The exercises of lab 03, and the mistakes that their checks know."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from utils.exercises import Case, Exercise, WrongAnswer, as_tensor
from utils.masks import masks_from_scores


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    """Boolean mask of the weight's shape: False for the `round(sparsity * n)` weights
    of smallest `|w|`."""
    return masks_from_scores({"weight": weight.abs()}, sparsity, allow_empty=True)[
        "weight"
    ]


def held_step(optimizer: torch.optim.Optimizer, weight: Tensor, mask: Tensor) -> None:
    """One step of the optimizer after which every pruned weight is exactly zero, in
    place."""
    optimizer.step()
    with torch.no_grad():
        weight.masked_fill_(~mask, 0.0)


def csr_bytes(rows: int, kept: int) -> int:
    """Bytes of a matrix in compressed sparse rows: a 4-byte value and a 4-byte column
    number for each weight kept, and `rows + 1` row starts of 4 bytes."""
    return 8 * kept + 4 * (rows + 1)


# ----------------------------------------------------------------------- magnitude_mask

WEIGHT = torch.tensor([[-9.0, 1.0, 2.0, -3.0, 4.0], [5.0, -6.0, 7.0, -8.0, 0.5]])


def check_counts(answer: Callable) -> None:
    """How many are kept, where it does not matter which."""
    kept = int(answer(torch.arange(1.0, 11.0), 0.34).sum())
    if kept != 7:
        raise WrongAnswer(
            f"of 10 weights at sparsity 0.34 it keeps {kept}; 7 are right: `round`"
            " makes 3 of 3.4, and `ceil` 4."
        )
    near = torch.arange(100.0, 0.0, -1.0) * 1e-6
    if not torch.equal(answer(near, 0.5).bool(), near > 50.5e-6):
        raise WrongAnswer(
            "of 100 weights that are a millionth apart it does not keep the 50 largest."
            " Sort the sizes as they are, without noise or rounding."
        )
    tied = torch.tensor([1.0, -1.0, 1.0, 1.0])
    kept = int(answer(tied, 0.5).sum())
    if kept != 2:
        raise WrongAnswer(
            f"of four weights that are all equal in size it keeps {kept} at sparsity"
            " 0.5; it must keep exactly 2. A threshold alone cannot split equals:"
            " choose by position in the sorted order (`argsort`, `topk`)."
        )
    dense = answer(tied, 0.0)
    if int(dense.sum()) != 4 or dense.dtype != torch.bool:
        raise WrongAnswer(
            f"at sparsity 0 it returns {dense}; it must keep every weight, in booleans."
        )
    kept = int(answer(torch.arange(1.0, 101.0), 0.29).sum())
    if kept != 71:
        raise WrongAnswer(
            f"of 100 weights at sparsity 0.29 it keeps {kept}; 71 are right. 0.29 * 100"
            " is 28.999999999999996 in floating point: `int` cuts that off, `round`"
            " does not."
        )
    large = torch.randn(300, 784, generator=torch.Generator().manual_seed(0))
    if int((~answer(large, 0.9)).sum()) != round(0.9 * large.numel()):
        raise WrongAnswer(
            "on a layer of 300 x 784 weights at sparsity 0.9 the count is off; it must"
            " be round(0.9 * n)."
        )


def largest(size: Tensor, sparsity: float, count: Callable = round) -> Tensor:
    """A mask of the largest, the others counted by `count`."""
    ranks = size.flatten().argsort().argsort()
    return (ranks >= count(sparsity * size.numel())).view_as(size)


def ripple(weight: Tensor) -> Tensor:
    """Noise, the same at each call."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(weight.shape, generator=generator)


def threshold(weight: Tensor, sparsity: float) -> float:
    """The size of the largest weight that goes."""
    count = round(sparsity * weight.numel())
    return weight.abs().flatten().sort().values[count - 1].item() if count else -1.0


def lowest_kept(weight: Tensor, sparsity: float) -> Tensor:
    """The size of the smallest weight that stays."""
    return weight.abs().flatten().sort().values[round(sparsity * weight.numel())]


MAGNITUDE_MISTAKES = {
    "it is upside down: True means kept, and the *large* weights are kept": (
        lambda w, s: ~largest(w.abs(), s)
    ),
    "it prunes -9, the largest weight of all by magnitude. Compare |w|, not w": largest,
    "it keeps 3 of 10 weights. Sparsity is the fraction *pruned*: 7 are kept": (
        lambda w, s: largest(w.abs(), 1 - s)
    ),
    "it keeps 0 at sparsity 0.5; it must keep exactly 2. A threshold": (
        lambda w, s: w.abs() > threshold(w, s)
    ),
    "it keeps 4 at sparsity 0.5; it must keep exactly 2. A threshold": (
        lambda w, s: w.abs() >= lowest_kept(w, s)
    ),
    "`int` cuts that off, `round` does not": lambda w, s: largest(w.abs(), s, int),
    "`round` makes 3 of 3.4, and `ceil` 4": (
        lambda w, s: largest(w.abs(), s, lambda n: math.ceil(n - 1e-9))
    ),
    "a millionth apart it does not keep the 50 largest": (
        lambda w, s: largest((w + 1e-3 * ripple(w)).abs(), s)
    ),
    "it returns a NumPy array, and the lab goes on with tensors": (
        lambda w, s: largest(w.abs(), s).numpy()
    ),
    "it returns a list, and the lab goes on with tensors": (
        lambda w, s: largest(w.abs(), s).tolist()
    ),
}

# ---------------------------------------------------------------------------- held_step


def check_held_step(answer: Callable) -> None:
    """One step of SGD with momentum: what has become of the weights tells the
    mistake."""
    mask = torch.tensor([True, False, True, False])
    weight = torch.nn.Parameter(torch.tensor([1.0, 0.0, 3.0, 0.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    for _ in range(2):  # dense steps, so that every weight has momentum
        weight.grad = torch.ones(4)
        optimizer.step()
    before = weight.detach().clone()
    weight.grad = torch.ones(4)
    answer(optimizer, weight, mask)
    # what the optimizer alone would give
    after, stepped = weight.detach(), before - 0.1 * (0.9 * 1.9 + 1)
    if torch.equal(after, before):
        raise WrongAnswer(
            "no weight has changed. Call `optimizer.step()`, and change `weight`"
            " itself, in place."
        )
    if torch.equal(after[mask], before[mask]):
        raise WrongAnswer(
            "the pruned weights are zero, but the kept ones have not moved. Is"
            " `optimizer.step()` missing?"
        )
    if (after[mask] == 0).any():
        raise WrongAnswer(
            "it zeroes a weight that the mask keeps. Only the mask decides: True means"
            " kept."
        )
    if torch.allclose(after, stepped):
        raise WrongAnswer(
            "the step was taken, and no weight was set to zero after it. `weight ="
            " weight * mask` only makes a new tensor of that name: change `weight`"
            " itself, in place (`masked_fill_`, under `torch.no_grad()`)."
        )
    if torch.equal(after[~mask], before[~mask]):
        raise WrongAnswer(
            f"a pruned weight is {after[1]:.3f} after the step, as before it. Nothing"
            " moved it, and nothing set it to zero: do that *after* the step."
        )
    if after.isnan().any():
        raise WrongAnswer(
            "a pruned weight is no number (nan) after the step: infinity times zero is"
            " nan. Set the weight to zero instead."
        )
    if (after[~mask] != 0).any():
        raise WrongAnswer(
            f"a pruned weight is {after[1]:.3f} after the step. Momentum moves it"
            " although it was zeroed, or its gradient was: set it to zero *after* the"
            " step."
        )
    if not torch.allclose(after[mask], stepped[mask]):
        raise WrongAnswer(
            "the kept weights are not where one step takes them. Call"
            " `optimizer.step()` once."
        )
    check_second_step(answer, optimizer, weight, mask, stepped)


def check_second_step(
    answer: Callable,
    optimizer: torch.optim.Optimizer,
    weight: Tensor,
    mask: Tensor,
    stepped: Tensor,
) -> None:
    """Whether weight and optimizer go on as before. stepped: where the optimizer alone
    had taken the weights in its third step."""
    if not weight.requires_grad:
        raise WrongAnswer(
            "it has set `requires_grad` of the weight to False: the layer would never"
            " learn again. Change the weight under `torch.no_grad()` instead."
        )
    weight.grad = torch.ones(4)
    answer(optimizer, weight, mask)
    # 2.71 was the momentum after the third step
    stepped = stepped - 0.1 * (0.9 * 2.71 + 1)
    if not torch.allclose(weight.detach()[mask], stepped[mask], atol=1e-5):
        raise WrongAnswer(
            "a second step does not take the kept weights where the optimizer would."
            " Leave the optimizer's momentum as it is: only the pruned weights change."
        )
    if weight.detach()[~mask].abs().max() > 0:
        raise WrongAnswer("after a second step a pruned weight is not zero.")


def steps_then(after: Callable, steps: int = 1) -> Callable:
    """An answer that takes steps, and then does something with weight and mask."""

    def answer(optimizer: torch.optim.Optimizer, weight: Tensor, mask: Tensor) -> None:
        for _ in range(steps):
            optimizer.step()
        with torch.no_grad():
            after(weight, mask)

    return answer


def only_gradient_masked(
    optimizer: torch.optim.Optimizer, weight: Tensor, mask: Tensor
) -> None:
    assert weight.grad is not None
    weight.grad[~mask] = 0
    optimizer.step()


def gradient_made_infinite(
    optimizer: torch.optim.Optimizer, weight: Tensor, mask: Tensor
) -> None:
    assert weight.grad is not None
    weight.grad /= mask
    optimizer.step()
    weight.data *= mask


def zeroed_before_the_step(
    optimizer: torch.optim.Optimizer, weight: Tensor, mask: Tensor
) -> None:
    weight.data[~mask] = 0
    optimizer.step()


def without_no_grad(
    optimizer: torch.optim.Optimizer, weight: Tensor, mask: Tensor
) -> None:
    optimizer.step()
    weight.masked_fill_(~mask, 0)


def never_again(optimizer: torch.optim.Optimizer, weight: Tensor, mask: Tensor) -> None:
    optimizer.step()
    weight.requires_grad_(False)
    weight.masked_fill_(~mask, 0)


def without_memory(
    optimizer: torch.optim.Optimizer, weight: Tensor, mask: Tensor
) -> None:
    optimizer.step()
    weight.data[~mask] = 0
    optimizer.state.clear()


def without_momentum(
    optimizer: torch.optim.Optimizer, weight: Tensor, mask: Tensor
) -> None:
    optimizer.step()
    weight.data[~mask] = 0
    optimizer.param_groups[0]["momentum"] = 0


def gradient_and_momentum_masked(
    optimizer: torch.optim.Optimizer, weight: Tensor, mask: Tensor
) -> None:
    only = optimizer.state[weight]["momentum_buffer"]
    only[~mask] = 0
    only_gradient_masked(optimizer, weight, mask)


def once() -> Callable:
    """An answer that sets to zero at its first call alone."""
    calls = []

    def answer(optimizer: torch.optim.Optimizer, weight: Tensor, mask: Tensor) -> None:
        optimizer.step()
        if len(calls) % 2 == 0:
            weight.data[~mask] = 0
        calls.append(1)

    return answer


HELD_MISTAKES = {
    "-0.461 after the step. Momentum moves it": only_gradient_masked,
    "-0.271 after the step. Momentum moves it": zeroed_before_the_step,
    "no weight was set to zero after it. `weight = weight * mask` only makes": (
        steps_then(lambda weight, mask: weight * mask),
        steps_then(lambda weight, mask: None),
    ),
    "no weight has changed": steps_then(lambda weight, mask: weight * mask, steps=0),
    "it zeroes a weight that the mask keeps. Only the mask decides": (
        steps_then(lambda weight, mask: weight.zero_()),
        steps_then(lambda weight, mask: weight.masked_fill_(mask, 0)),
        steps_then(lambda weight, mask: weight.masked_fill_(weight.abs() < 0.5, 0)),
    ),
    "as before it. Nothing moved it": gradient_and_momentum_masked,
    "the layer would never learn again": never_again,
    "Leave the optimizer's momentum as it is": (without_memory, without_momentum),
    "after a second step a pruned weight is not zero": once(),
    "Is `optimizer.step()` missing?": steps_then(
        lambda weight, mask: weight.masked_fill_(~mask, 0), steps=0
    ),
    "a pruned weight is no number (nan) after the step": gradient_made_infinite,
    "Call `optimizer.step()` once": steps_then(
        lambda weight, mask: weight.masked_fill_(~mask, 0), steps=2
    ),
    "it stopped with RuntimeError: a leaf Variable": without_no_grad,
}

EXERCISES = [
    Exercise(
        magnitude_mask,
        "utils/masks.py (masks_from_scores)",
        asked=(
            "a boolean mask of the weight's shape; a comparison such as `a > b` gives"
            " one"
        ),
        cases=[
            Case(
                "for the weights -9, 1, 2, -3, 4 and 5, -6, 7, -8, 0.5 at sparsity 0.3",
                (WEIGHT, 0.3),
                hint="The 3 smallest by |w| must go.",
            )
        ],
        mistakes=MAGNITUDE_MISTAKES,
        more=check_counts,
        read=as_tensor,
        also_right={
            "argsort": """
                def magnitude_mask(weight, sparsity):
                    order = weight.abs().flatten().argsort()
                    mask = torch.ones(weight.numel(), dtype=torch.bool)
                    mask[order[: round(sparsity * weight.numel())]] = False
                    return mask.reshape(weight.shape)
            """,
            "topk": """
                def magnitude_mask(weight, sparsity):
                    n = weight.numel()
                    mask = torch.zeros(n, dtype=torch.bool)
                    mask[
                        weight.abs().flatten().topk(n - round(sparsity * n)).indices
                    ] = True
                    return mask.view_as(weight)
            """,
            "kthvalue": """
                def magnitude_mask(weight, sparsity):
                    size, count = (
                        weight.abs().flatten(),
                        round(sparsity * weight.numel()),
                    )
                    if count == 0:
                        return torch.ones_like(weight, dtype=torch.bool)
                    threshold = size.kthvalue(count).values
                    mask = size > threshold
                    ties = (size == threshold).nonzero().flatten()
                    mask[ties[: len(size) - count - int(mask.sum())]] = True
                    return mask.reshape(weight.shape)
            """,
            "ranks": """
                def magnitude_mask(weight, sparsity):
                    ranks = weight.abs().flatten().argsort().argsort()
                    return (ranks >= round(sparsity * weight.numel())).reshape(
                        weight.shape
                    )
            """,
            "numpy": """
                def magnitude_mask(weight, sparsity):
                    size = np.abs(weight.numpy()).ravel()
                    mask = np.ones(size.size, dtype=bool)
                    mask[
                        np.argsort(size, kind="stable")[: round(sparsity * size.size)]
                    ] = False
                    return torch.from_numpy(mask.reshape(weight.shape))
            """,
            "loop": """
                def magnitude_mask(weight, sparsity):
                    flat = weight.abs().flatten().tolist()
                    gone = set(
                        sorted(range(len(flat)), key=flat.__getitem__)[
                            : round(sparsity * len(flat))
                        ]
                    )
                    return torch.tensor(
                        [i not in gone for i in range(len(flat))]
                    ).reshape(weight.shape)
            """,
        },
    ),
    Exercise(
        held_step,
        "utils/masks.py (hold)",
        mistakes=HELD_MISTAKES,
        more=check_held_step,
        watch=False,
        also_right={
            "data": """
                def held_step(optimizer, weight, mask):
                    optimizer.step()
                    weight.data *= mask
            """,
            "index": """
                def held_step(optimizer, weight, mask):
                    optimizer.step()
                    with torch.no_grad():
                        weight[~mask] = 0
            """,
            "gradient too": """
                def held_step(optimizer, weight, mask):
                    weight.grad *= mask
                    optimizer.step()
                    weight.data = weight.data * mask
            """,
            "loop": """
                def held_step(optimizer, weight, mask):
                    optimizer.step()
                    for index in range(len(weight)):
                        if not mask[index]:
                            weight.data[index] = 0.0
            """,
        },
    ),
    Exercise(
        csr_bytes,
        (
            "lessons/03_weight_pruning/exercises.py (for whole networks:"
            " utils.measure.csr_state)"
        ),
        asked="how many bytes",
        cases=[
            Case("for 300 rows and 1,000 weights kept", (300, 1000)),
            Case(
                "for 1 row and nothing kept",
                (1, 0),
                hint="Two row starts are left, 8 bytes.",
            ),
        ],
        mistakes={
            "that is the values alone; each needs its column number too, and the"
            " rows their starts": (lambda rows, kept: 4 * kept),
            "the row starts are missing: 301 numbers that say where each row"
            " begins, and where the last ends": (lambda rows, kept: 8 * kept),
            "300 rows have 301 boundaries: where each begins, and where the last"
            " ends": (lambda rows, kept: 8 * kept + 4 * rows),
            "each value kept also needs its column number, 4 bytes": (
                lambda rows, kept: 4 * kept + 4 * (rows + 1)
            ),
            "that is bits; a byte is 8 of them": (
                lambda rows, kept: 64 * kept + 32 * (rows + 1)
            ),
            "that is the dense matrix; only what is kept is stored": (
                lambda rows, kept: 4 * rows * kept
            ),
            "the number of rows, 300, is written into the function": (
                lambda rows, kept: 8 * kept + 4 * 301
            ),
            "that stores a row number for each weight, too; CSR stores only where each"
            " row starts": (
                lambda rows, kept: 12 * kept,
                lambda rows, kept: 12 * kept + 4 * (rows + 1),
            ),
            "every number here takes 4 bytes, the indices too": (
                lambda rows, kept: 12 * kept + 8 * (rows + 1),
                lambda rows, kept: 16 * kept + 8 * (rows + 1),
                lambda rows, kept: 8 * kept + 8 * (rows + 1),
            ),
        },
        also_right={
            "three lists": """
                def csr_bytes(rows, kept):
                    values, columns, starts = kept, kept, rows + 1
                    return 4 * (values + columns + starts)
            """,
            "arrays": """
                def csr_bytes(rows, kept):
                    return sum(
                        np.zeros(n, dtype=np.int32).nbytes
                        for n in (kept, kept, rows + 1)
                    )
            """,
            "float": """
                def csr_bytes(rows, kept):
                    return 32 / 8 * (2 * kept + rows + 1)
            """,
        },
    ),
]
