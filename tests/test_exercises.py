"""The checks of the exercises: right answers pass however they are written, and each
mistake is told its own reason."""

import ast
import copy
import itertools
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from utils.exercises import LESSONS, WrongAnswer, check, find, is_untouched, listed

EXERCISES = {name: find(name) for name in listed()}

NAMES = sorted(EXERCISES)


def stub_sources() -> dict[str, str]:
    """The functions of all labs whose body is a docstring and `...`: source by name."""
    found = {}
    for path in sorted(LESSONS.glob("*/lab.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and [
                ast.unparse(part) for part in node.body[1:]
            ] == ["..."]:
                assert ast.get_docstring(node), f"{path}: {node.name} has no docstring"
                assert node.name not in found, f"two labs ask for {node.name}"
                found[node.name] = ast.unparse(node)
    return found


STUBS = stub_sources()


def define(source: str, name: str):
    """The function `name` that `source` defines."""
    scope = {"torch": torch, "np": np}
    exec(source, scope)
    return scope[name]


def named(name: str, answer):
    """`answer` as if the learner had written it under the name of the exercise."""
    answer.__name__ = name
    return answer


def refusal(name: str, answer) -> str:
    """What `check` says against an answer."""
    with pytest.raises(WrongAnswer) as caught:
        check(named(name, answer))
    return str(caught.value)


# ----------------------------------------------------------------- stubs and references


def test_each_stub_has_an_exercise_and_each_exercise_a_stub():
    assert sorted(STUBS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_stub_as_it_stands_in_the_lab_is_untouched(name, capsys):
    stub = define(STUBS[name], name)
    assert is_untouched(stub)
    assert check(stub) is EXERCISES[name].right
    printed = capsys.readouterr().out
    assert printed.startswith(f"{name}: not written yet. ") and printed.count("\n") == 1
    assert EXERCISES[name].source in printed


@pytest.mark.parametrize("name", NAMES)
def test_the_labs_text_calls_the_check(name):
    calls = [
        path
        for path in LESSONS.glob("*/lab.py")
        if f"{name} = check({name})" in path.read_text(encoding="utf-8")
    ]
    assert len(calls) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_passes(name):
    EXERCISES[name].test(EXERCISES[name].right)


@pytest.mark.parametrize("name", NAMES)
def test_the_source_that_is_named_to_the_learner_exists(name):
    file, *place = EXERCISES[name].source.replace("(", " ").replace(")", " ").split()
    text = (Path(__file__).parents[1] / file).read_text(encoding="utf-8")
    own = file.startswith("lessons/")
    assert re.search(
        rf"^(def|class) {name if own else place[-1]}\(", text, re.MULTILINE
    )


@pytest.mark.parametrize("name", NAMES)
def test_running_the_check_again_does_not_praise_an_untouched_exercise(name, capsys):
    """`f = check(f)` binds f to the course's function; the cell run once more must not
    call that the learner's."""
    again = check(define(STUBS[name], name))
    capsys.readouterr()
    assert check(again) is EXERCISES[name].right
    assert "not written yet" in capsys.readouterr().out


# ------------------------------------------------------------------------ wrong answers


def first_sorted_out(weight, sparsity):
    return (
        weight.abs().flatten().argsort().argsort() >= round(sparsity * weight.numel())
    ).reshape(weight.shape)


def zeroed_in_place(weight, sparsity):
    gone = weight.abs().flatten().argsort()[: round(sparsity * weight.numel())]
    weight.view(-1)[gone] = 0
    return weight != 0


def cut_at_threshold(weight, sparsity):
    count = round(sparsity * weight.numel())
    return weight.abs() > (
        weight.abs().flatten().sort().values[count - 1] if count else -1
    )


def cut_above_threshold(weight, sparsity):
    return (
        weight.abs()
        >= weight.abs().flatten().sort().values[round(sparsity * weight.numel())]
    )


def signed(weight, sparsity):
    return (
        weight.flatten().argsort().argsort() >= round(sparsity * weight.numel())
    ).reshape(weight.shape)


def only_gradient_masked(optimizer, weight, mask):
    weight.grad[~mask] = 0
    optimizer.step()


def zeroed_before_the_step(optimizer, weight, mask):
    with torch.no_grad():
        weight.masked_fill_(~mask, 0)
    optimizer.step()


def only_a_step(optimizer, weight, mask):
    optimizer.step()


def new_tensor(optimizer, weight, mask):
    optimizer.step()
    weight = weight * mask


def new_tensor_without_a_step(optimizer, weight, mask):
    weight = weight * mask


def all_zeroed(optimizer, weight, mask):
    optimizer.step()
    with torch.no_grad():
        weight.zero_()


def mask_upside_down(optimizer, weight, mask):
    optimizer.step()
    with torch.no_grad():
        weight.masked_fill_(mask, 0)


def no_step(optimizer, weight, mask):
    with torch.no_grad():
        weight.masked_fill_(~mask, 0)


def two_steps(optimizer, weight, mask):
    optimizer.step()
    optimizer.step()
    with torch.no_grad():
        weight.masked_fill_(~mask, 0)


def without_no_grad(optimizer, weight, mask):
    optimizer.step()
    weight.masked_fill_(~mask, 0)


def argsort_once(a, b):
    return torch.corrcoef(torch.stack([a.argsort(), b.argsort()]).double())[0, 1].item()


def rank_matrix(a, b):
    return torch.corrcoef(
        torch.stack([values.argsort().argsort() for values in (a, b)]).double()
    )


def linear(weight, bias):
    """A new layer with copies of these numbers."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.detach().clone(), bias.detach().clone()
    return layer


def first_cut(first, keep):
    return linear(first.weight[keep], first.bias[keep])


def second_cut(second, keep):
    return linear(second.weight[:, keep], second.bias)


def layers_cut_in_place(first, second, keep):
    first.weight, first.bias = (
        nn.Parameter(first.weight[keep]),
        nn.Parameter(first.bias[keep]),
    )
    second.weight = nn.Parameter(second.weight[:, keep])
    return first, second


def layers_zeroed_in_place(first, second, keep):
    first.weight.data[~keep] = 0
    return first_cut(first, keep), second_cut(second, keep)


def neurons_zeroed(first, second, keep):
    return linear(first.weight * keep[:, None], first.bias * keep), linear(
        second.weight * keep, second.bias
    )


def without_second_bias(first, second, keep):
    new = nn.Linear(int(keep.sum()), second.out_features, bias=False)
    new.weight.data = second.weight.data[:, keep]
    return first_cut(first, keep), new


def sizes_not_updated(first, second, keep):
    first, second = copy.deepcopy(first), copy.deepcopy(second)
    return layers_cut_in_place(first, second, keep)


def bias_shared(first, second, keep):
    new = second_cut(second, keep)
    new.bias = second.bias
    return first_cut(first, keep), new


def keep_inverted_in_place(first, second, keep):
    result = first_cut(first, keep), second_cut(second, keep)
    keep.logical_not_()
    return result


def for_three_kept(first, second, keep):
    places = [*keep.nonzero().flatten()[:2].tolist(), 3]
    return first_cut(first, places), second_cut(second, places)


def largest(values, count):
    """Boolean: the `count` largest of each row."""
    return torch.zeros_like(values, dtype=torch.bool).scatter_(
        -1, values.topk(count, dim=-1).indices, True
    )


def in_groups(weight, n, m):
    return largest(weight.abs().reshape(-1, m), n).reshape(weight.shape)


def group_threshold(weight, n, m):
    groups = weight.abs().reshape(-1, m)
    return (groups >= groups.sort(dim=1, descending=True).values[:, n - 1 : n]).reshape(
        weight.shape
    )


def group_threshold_other_side(weight, n, m):
    groups = weight.abs().reshape(-1, m)
    return (groups > groups.sort(dim=1).values[:, m - n - 1 : m - n]).reshape(
        weight.shape
    )


def groups_zeroed_in_place(weight, n, m):
    weight *= in_groups(weight, n, m)
    return weight != 0


def dropped(weight, mask, count):
    """The mask without the `count` smallest of the kept weights."""
    return mask & ~largest(
        -torch.where(mask, weight.abs(), torch.inf).flatten(), count
    ).view_as(mask)


def grown(mask, desire, count, candidates=None):
    """The mask with the `count` of largest desire added."""
    candidates = ~mask if candidates is None else candidates
    return mask | largest(
        torch.where(candidates, desire, -torch.inf).flatten(), count
    ).view_as(mask)


def exchanged_in_place(weight, gradient, mask, count):
    mask.copy_(grown(dropped(weight, mask, count), gradient.abs(), count))
    return mask


def zeros_dropped(weight, gradient, mask, count):
    stay = mask & ~largest(-weight.abs().flatten(), count).view_as(mask)
    return grown(stay, gradient.abs(), count, candidates=~mask)


def drops_signed(weight, gradient, mask, count):
    stay = mask & ~largest(
        -torch.where(mask, weight, torch.inf).flatten(), count
    ).view_as(mask)
    return grown(stay, gradient.abs(), count)


def drops_the_largest(weight, gradient, mask, count):
    stay = mask & ~largest(
        torch.where(mask, weight.abs(), -1).flatten(), count
    ).view_as(mask)
    return grown(stay, gradient.abs(), count)


def drops_only_what_is_not_zero(weight, gradient, mask, count):
    size = torch.where(weight == 0, torch.inf, weight.abs())
    stay = mask & ~largest(-size.flatten(), count).view_as(mask)
    return grown(stay, gradient.abs(), count)


def drops_where_gradients_are_small(weight, gradient, mask, count):
    return grown(dropped(gradient, mask, count), gradient.abs(), count)


def grows_from_the_end(weight, gradient, mask, count):
    stay = dropped(weight, mask, count).flatten()
    order = torch.where(stay, -1, gradient.abs().flatten()).argsort()
    stay[order[-count:]] = True
    return stay.view_as(mask)


def loses_the_model(model, first_weights, masks):
    model.load_state_dict(first_weights)
    return masked(model, masks)


def masked(model, masks):
    for name, mask in masks.items():
        model.get_parameter(name).data *= mask
    return model


def rewound(model, first_weights):
    model = copy.deepcopy(model)
    model.load_state_dict(first_weights)
    return model


def shallow_copy(model, first_weights, masks):
    result = copy.copy(model)
    result.load_state_dict(first_weights)
    return masked(result, masks)


def first_weights_masked(model, first_weights, masks):
    for name, mask in masks.items():
        first_weights[name] *= mask
    return rewound(model, first_weights)


def masks_inverted(model, first_weights, masks):
    result = masked(rewound(model, first_weights), masks)
    for mask in masks.values():
        mask.logical_not_()
    return result


def biases_kept(model, first_weights, masks):
    return masked(
        rewound(model, {**model.state_dict(), **{n: first_weights[n] for n in masks}}),
        masks,
    )


def biases_shared(model, first_weights, masks):
    result = copy.deepcopy(model)
    for name, parameter in result.named_parameters():
        first = first_weights[name]
        parameter.data = first * masks[name] if name in masks else first
    return result


def biases_zeroed(model, first_weights, masks):
    return rewound(
        model,
        {n: w * masks[n] if n in masks else 0 * w for n, w in first_weights.items()},
    )


def centred_in_place(activations):
    mean = activations.mean(dim=(0, 2, 3))
    activations -= mean.view(-1, 1, 1)
    return mean, activations.var(dim=(0, 2, 3))


ALL_BUT_CHANNELS = (0, 2, 3)

right_ones = lambda logits, labels: logits.argmax(dim=1) == labels  # noqa: E731

BATCH = "batchmean"


def log_soft(logits, temperature):
    return (logits / temperature).log_softmax(1)


def mixture(
    logits,
    teacher,
    labels,
    temperature,
    weight,
    soft=None,
    hard=None,
    factor=lambda temperature: temperature**2,
):
    """The distillation loss, but for the part that is given."""
    if soft is None:
        soft = F.kl_div(
            log_soft(logits, temperature),
            log_soft(teacher, temperature).exp(),
            reduction=BATCH,
        )
    if hard is None:
        hard = F.cross_entropy(logits, labels)
    return weight * factor(temperature) * soft + (1 - weight) * hard


def grid_of(low, high, steps=255, stretch=True):
    """Scale and zero point, with parts left out."""
    low, high = (min(low, 0), max(high, 0)) if stretch else (low, high)
    scale = (high - low) / steps
    return scale, round(-low / scale)


def wide(tensor):
    return tensor.to(torch.int32)


def zero_point_off_in_place(inputs, zero_point, weight):
    inputs -= zero_point
    return wide(inputs) @ wide(weight).T


def groups_of(weights, values):
    """The weights nearest to each value."""
    nearest = (weights[:, None] - values).abs().argmin(1)
    return [weights[nearest == number] for number in range(len(values))]


def values_moved_in_place(weights, values):
    for number, group in enumerate(groups_of(weights, values)):
        values[number] = group.mean()
    return values


# mistake -> (the answer that makes it, words that only the message about this mistake
# has)
def others(generator):
    """Another class for each of so many labels."""
    return lambda old, count: (
        (old + torch.randint(1, 10, (count,), generator=generator)) % 10
    )


def noised(labels, fraction, generator, draw, *, chosen=None, copied=True, among=None):
    """Labels, a fraction of them as `draw` says."""
    count = round(fraction * len(labels))
    if chosen is None:
        chosen = torch.randperm(len(labels), generator=generator)
        chosen = (chosen if among is None else chosen[among[chosen]])[:count]
    noisy = labels.clone() if copied else labels
    noisy[chosen] = draw(labels[chosen], count)
    return noisy


def sorted_in_place(dense_predictions, pruned_predictions):
    dense_predictions.copy_(dense_predictions.sort(0).values)
    return dense_predictions.mode(0).values != pruned_predictions.mode(0).values


def agreeing(a, b):
    return (a.argmax(1) == b.argmax(1)).float().mean().item()


def eaten(seconds):
    factors = []
    while len(seconds) > 1:
        factors.append(seconds.pop(0) / seconds[0])
    return factors


def front(candidates, beats):
    """Names that no other one beats, where `beats(a, b)` compares two triples (bytes,
    speedup, accuracy)."""
    others = {
        name: [c for other, c in candidates.items() if other != name]
        for name in candidates
    }
    return [
        name
        for name, b in candidates.items()
        if not any(beats(a, b) for a in others[name])
    ]


def no_worse(a, b):
    return a[0] <= b[0] and a[1] >= b[1] and a[2] >= b[2]


def first_of_equals(candidates):
    kept = front(candidates, lambda a, b: no_worse(a, b) and a != b)
    return list({candidates[name]: name for name in reversed(kept)}.values())


def emptied(candidates):
    names = list(candidates)
    candidates.clear()
    return names


def onnx_file(path, *nodes, batch="n", classes=10, elsewhere=False):
    """A linear network as an ONNX file: pictures -> flat -> scores, from there nodes
    (operation, inputs, outputs)."""
    made = [
        ("Flatten", ["pictures"], ["flat"]),
        ("MatMul", ["flat", "weight"], ["scores"]),
        *nodes,
    ]
    weight = numpy_helper.from_array(torch.randn(784, classes).numpy(), "weight")
    if elsewhere:
        onnx.external_data_helper.set_external_data(weight, "weights.bin")
    ends = [
        ("pictures", [batch, 1, 28, 28]),
        ("outputs" if nodes else "scores", [batch, classes]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)]
        for name, shape in ends
    ]
    graph = helper.make_graph(
        [helper.make_node(*each) for each in made], "graph", *ends, [weight]
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    path.write_bytes(model.SerializeToString())
    return path


def pictures_changed(train, validation, path):
    train.images.mul_(2)
    return onnx_file(path)


def weights_alone(train, validation, path):
    torch.save(nn.Linear(784, 10).state_dict(), path)
    return path


WRONG = {
    "largest_safe_sparsity": {
        "position": (
            lambda s, a, d: max(i for i, x in enumerate(a) if x >= a[0] - d),
            "the position in the list",
        ),
        "first too bad": (
            lambda s, a, d: next(x for x, y in zip(s, a, strict=True) if y < a[0] - d),
            "first that",
        ),
        "best as reference": (
            lambda s, a, d: max(
                x for x, y in zip(s, a, strict=True) if y >= max(a) - d
            ),
            "not with the best",
        ),
        "drop times 100": (
            lambda s, a, d: max(
                x for x, y in zip(s, a, strict=True) if y >= a[0] - 100 * d
            ),
            "where accuracy fell by 0.30",
        ),
        "drop as points": (
            lambda s, a, d: max(
                x for x, y in zip(s, a, strict=True) if 100 * y >= 100 * a[0] - d
            ),
            "is a fraction",
        ),
        "drop not used": (
            lambda s, a, d: max(
                x for x, y in zip(s, a, strict=True) if y >= a[0] - 0.01
            ),
            "written into the function",
        ),
        "accuracy": (
            lambda s, a, d: min(y for y in a if y >= a[0] - d),
            "0.895; it must be 0.8",
        ),
        "list": (
            lambda s, a, d: [x for x, y in zip(s, a, strict=True) if y >= a[0] - d],
            ", 0.5, 0.8]",
        ),
        "missing return": (lambda s, a, d: print(end=""), "`return` missing"),
    },
    "accuracy": {
        "percent": (
            lambda o, y: 100 * right_ones(o, y).float().mean().item(),
            "a percentage",
        ),
        "count": (lambda o, y: right_ones(o, y).sum(), "the number of right answers"),
        "error rate": (
            lambda o, y: 1 - right_ones(o, y).float().mean(),
            "the fraction that is wrong",
        ),
        "one a picture": (lambda o, y: right_ones(o, y).float(), "one entry a picture"),
        "argmax of everything": (
            lambda o, y: (o.argmax() == y).float().mean(),
            "argmax over dim=1",
        ),
        "four pictures": (
            lambda o, y: right_ones(o, y).sum() / 4,
            "number of pictures written in",
        ),
        "not a number": (lambda o, y: o[:0].mean(), "nan"),
        "missing return": (lambda o, y: print(end=""), "`return` missing"),
    },
    "conv_macs": {
        "weights": (
            lambda filters, inputs, kernel, height, width: filters * inputs * kernel**2,
            "number of weights",
        ),
        "one input": (
            lambda filters, inputs, kernel, height, width: (
                filters * kernel**2 * height * width
            ),
            "all 32",
        ),
        "kernel once": (
            lambda filters, inputs, kernel, height, width: (
                filters * inputs * kernel * height * width
            ),
            "has 3 x 3 = 9",
        ),
        "FLOPs": (
            lambda filters, inputs, kernel, height, width: (
                2 * filters * inputs * kernel**2 * height * width
            ),
            "FLOPs",
        ),
        "bias": (
            lambda filters, inputs, kernel, height, width: (
                filters * height * width * (inputs * kernel**2 + 1)
            ),
            "counts the bias",
        ),
        "height twice": (
            lambda filters, inputs, kernel, height, width: (
                filters * inputs * kernel**2 * height**2
            ),
            "both height and width",
        ),
        "sum": (
            lambda filters, inputs, kernel, height, width: (
                filters + inputs + kernel + height
            ),
            "113; it must be",
        ),
        "list": (
            lambda filters, inputs, kernel, height, width: [filters, inputs],
            "[64, 32]; it must be",
        ),
        "missing return": (
            lambda filters, inputs, kernel, height, width: print(end=""),
            "`return` missing",
        ),
    },
    "taylor_score": {
        "signed": (lambda w, g: w * g, "in either direction"),
        "gradient": (lambda w, g: g.abs(), "that is |g|"),
        "magnitude": (lambda w, g: w.abs(), "the gradient is not used"),
        "sum": (lambda w, g: w.abs() + g.abs(), "adds |w| and |g|"),
        "one number": (
            lambda w, g: (w * g).abs().sum(),
            "returns []; it must be a score for each weight",
        ),
        "array": (lambda w, g: (w * g).abs().numpy(), "returns ndarray"),
        "squared": (lambda w, g: (w * g) ** 2, "36.0"),
        "missing return": (lambda w, g: print(end=""), "`return` missing"),
    },
    "rank_correlation": {
        "Pearson": (
            lambda a, b: torch.corrcoef(torch.stack([a, b]))[0, 1].item(),
            "Correlate the ranks",
        ),
        "argsort once": (argsort_once, "argsort` says *which*"),
        "always one": (lambda a, b: 1.0, "it returns 1.000"),
        "matrix": (rank_matrix, "[2, 2]"),
        "not a number": (lambda a, b: float("nan"), "nan"),
        "missing return": (lambda a, b: print(end=""), "`return` missing"),
    },
    "magnitude_mask": {
        "upside down": (lambda w, s: ~first_sorted_out(w, s), "upside down"),
        "signed": (signed, "prunes -9"),
        "fraction kept": (
            lambda w, s: first_sorted_out(w, 1 - s),
            "Sparsity is the fraction *pruned*",
        ),
        "numbers": (
            lambda w, s: first_sorted_out(w, s).float(),
            "torch.float32; a mask is boolean",
        ),
        "flat": (lambda w, s: first_sorted_out(w, s).flatten(), "the weight's shape"),
        "one too many": (lambda w, s: first_sorted_out(w, s + 0.1), "it keeps 6"),
        "threshold": (cut_at_threshold, "it keeps 0 at sparsity 0.5"),
        "threshold, other side": (cut_above_threshold, "it keeps 4 at sparsity 0.5"),
        "weights changed": (zeroed_in_place, "changed"),
        "missing return": (lambda w, s: print(end=""), "`return` missing"),
    },
    "held_step": {
        "only gradient masked": (
            only_gradient_masked,
            "-0.461 after the step. Momentum moves it",
        ),
        "zeroed before the step": (
            zeroed_before_the_step,
            "-0.271 after the step. Momentum moves it",
        ),
        "new tensor": (new_tensor, "new tensor"),
        "new tensor, no step": (new_tensor_without_a_step, "no weight has changed"),
        "all zeroed": (all_zeroed, "zeroes weights that the mask keeps"),
        "no step": (no_step, "Is `optimizer.step()` missing"),
        "two steps": (two_steps, "once"),
        "no torch.no_grad": (
            without_no_grad,
            "it stopped with RuntimeError: a leaf Variable",
        ),
    },
    "csr_bytes": {
        "values": (lambda rows, kept: 4 * kept, "the values alone"),
        "no row starts": (lambda rows, kept: 8 * kept, "row starts are missing"),
        "one start too few": (
            lambda rows, kept: 8 * kept + 4 * rows,
            "300 rows have 301",
        ),
        "no columns": (
            lambda rows, kept: 4 * kept + 4 * (rows + 1),
            "column number, 4 bytes",
        ),
        "bits": (lambda rows, kept: 64 * kept + 32 * (rows + 1), "that is bits"),
        "dense": (lambda rows, kept: 4 * rows * kept, "returns 1200000"),
        "300 rows written in": (lambda rows, kept: 8 * kept + 4 * 301, "1 row"),
        "list": (lambda rows, kept: [rows, kept], "[300, 1000]; it must be"),
        "missing return": (lambda rows, kept: print(end=""), "`return` missing"),
    },
    "remove_neurons": {
        "biases of first": (
            lambda f, s, k: (linear(f.weight[k], f.bias), second_cut(s, k)),
            "3 neurons and 4 biases",
        ),
        "no biases in first": (
            lambda f, s, k: (
                nn.Linear(f.in_features, int(k.sum()), bias=False),
                second_cut(s, k),
            ),
            "3 neurons and no biases",
        ),
        "second as it was": (
            lambda f, s, k: (first_cut(f, k), copy.deepcopy(s)),
            "still reads 4 inputs",
        ),
        "first as it was": (
            lambda f, s, k: (copy.deepcopy(f), second_cut(s, k)),
            "still has all 4 rows",
        ),
        "rows of second": (
            lambda f, s, k: (first_cut(f, k), linear(s.weight[k], s.bias[k])),
            "it cuts the *rows* of the second",
        ),
        "columns of first": (
            lambda f, s, k: (linear(f.weight[:, :2], f.bias), second_cut(s, k)),
            "is [4, 2]; it must be [3, 3]",
        ),
        "upside down": (
            lambda f, s, k: (first_cut(f, ~k), second_cut(s, ~k)),
            "has what should go, row 1",
        ),
        "in place": (layers_cut_in_place, "was [4, 3] and is now [3, 3]"),
        "zeroed in place": (
            layers_zeroed_in_place,
            "the old `first` has other numbers",
        ),
        "zeroed": (neurons_zeroed, "row 1 of the first layer is zero"),
        "second zeroed": (
            lambda f, s, k: (first_cut(f, k), linear(s.weight * k, s.bias)),
            "the columns of the second layer are zero",
        ),
        "random layers": (
            lambda f, s, k: (
                nn.Linear(f.in_features, int(k.sum())),
                nn.Linear(int(k.sum()), s.out_features),
            ),
            "its row 0 must be [1.0, 2.0, 3.0]",
        ),
        "random biases": (
            lambda f, s, k: (
                linear(f.weight[k], torch.rand(int(k.sum()))),
                second_cut(s, k),
            ),
            "must be [13.0, 15.0, 16.0]",
        ),
        "random second": (
            lambda f, s, k: (first_cut(f, k), nn.Linear(int(k.sum()), s.out_features)),
            "its row 0 must be [21.0, 23.0, 24.0]",
        ),
        "no biases in second": (without_second_bias, "has lost its biases"),
        "sizes": (sizes_not_updated, "out_features=4, but its weight is [3, 3]"),
        "bias shared": (
            bias_shared,
            "the bias of the new second layer is the old one itself",
        ),
        "keep changed": (keep_inverted_in_place, "it has changed `keep`"),
        "tensors": (
            lambda f, s, k: (f.weight[k], s.weight[:, k]),
            "['Tensor', 'Tensor']",
        ),
        "one layer": (
            lambda f, s, k: first_cut(f, k),
            "returns Linear; it must return two",
        ),
        "sizes written in": (for_three_kept, "its row 2 must be [9.0, 10.0]"),
        "missing return": (lambda f, s, k: print(end=""), "`return` missing"),
    },
    "leaves_with_a_filter": {
        "filter": (
            lambda kernel, inputs, next_outputs: kernel**2 * inputs,
            "the filter alone",
        ),
        "filter and BatchNorm": (
            lambda kernel, inputs, next_outputs: kernel**2 * inputs + 4,
            "580: that is the filter",
        ),
        "no BatchNorm": (
            lambda kernel, inputs, next_outputs: kernel**2 * (inputs + next_outputs),
            "BatchNorm is missing",
        ),
        "two for BatchNorm": (
            lambda kernel, inputs, next_outputs: (
                kernel**2 * (inputs + next_outputs) + 2
            ),
            "the running mean and variance are stored too",
        ),
        "bias": (
            lambda kernel, inputs, next_outputs: (
                kernel**2 * (inputs + next_outputs) + 5
            ),
            "one too many",
        ),
        "kernel once": (
            lambda kernel, inputs, next_outputs: kernel * (inputs + next_outputs) + 4,
            "580: a kernel of 3 has 3 x 3 = 9",
        ),
        "one a next filter": (
            lambda kernel, inputs, next_outputs: kernel**2 * inputs + 4 + next_outputs,
            "has 3 x 3 weights for this channel, not one",
        ),
        "next layer whole": (
            lambda kernel, inputs, next_outputs: (
                kernel**2 * inputs * (1 + next_outputs) + 4
            ),
            "returns 74,308: every next filter keeps",
        ),
        "only the next layer": (
            lambda kernel, inputs, next_outputs: kernel**2 * inputs * next_outputs,
            "returns 73,728: every next filter keeps",
        ),
        "a 3 x 3 kernel written in": (
            lambda kernel, inputs, next_outputs: 9 * (inputs + next_outputs) + 4,
            "for a 5 x 5 filter",
        ),
        "only BatchNorm": (
            lambda kernel, inputs, next_outputs: 4,
            "returns 4; it must be 1,732",
        ),
        "list": (
            lambda kernel, inputs, next_outputs: [
                kernel**2 * inputs,
                4,
                kernel**2 * next_outputs,
            ],
            "several numbers, [576, 4, 1152]",
        ),
        "missing return": (
            lambda kernel, inputs, next_outputs: print(end=""),
            "`return` missing",
        ),
    },
    "work_left": {
        "outputs only": (lambda ratio: 1 - ratio, "each filter also reads only 70%"),
        "square of the ratio": (lambda ratio: 1 - ratio**2, "square what is left, 0.7"),
        "square removed": (
            lambda ratio: ratio**2,
            "70% of the filters with 70% of the inputs are left",
        ),
        "removed": (lambda ratio: 1 - (1 - ratio) ** 2, "the work saved"),
        "twice": (lambda ratio: 1 - 2 * ratio, "takes 30% away twice"),
        "the ratio": (lambda ratio: ratio, "the ratio itself"),
        "percent": (lambda ratio: 100 * (1 - ratio) ** 2, "that is percent"),
        "ratio in percent": (
            lambda ratio: (1 - ratio / 100) ** 2,
            "do not divide it by 100",
        ),
        "cube": (lambda ratio: (1 - ratio) ** 3, "0.343; it must be 0.49"),
        "written in": (lambda ratio: 0.7**2, "right at 0.3, but at 0 it returns 0.49"),
        "list": (lambda ratio: [1 - ratio, 1 - ratio], "several numbers"),
        "not a number": (lambda ratio: float("nan"), "nan"),
        "missing return": (lambda ratio: print(end=""), "`return` missing"),
    },
    "nm_mask": {
        "signed": (
            lambda w, n, m: largest(w.reshape(-1, m), n).reshape(w.shape),
            "Compare |w|",
        ),
        "upside down": (lambda w, n, m: ~in_groups(w, n, m), "upside down"),
        "columns": (lambda w, n, m: in_groups(w.T, n, m).T, "run down the columns"),
        "n of a row": (
            lambda w, n, m: largest(w.abs(), n),
            "2 of the 8 weights in each row",
        ),
        "half of a row": (
            lambda w, n, m: largest(w.abs(), n * w.shape[1] // m),
            "half of each row",
        ),
        "one threshold": (
            lambda w, n, m: largest(w.abs().flatten(), n * w.numel() // m).reshape(
                w.shape
            ),
            "which is right overall",
        ),
        "fixed threshold": (lambda w, n, m: w.abs() > 2.4, "it keeps 4; of each four"),
        "ties": (group_threshold, "of [1.0, -1.0, 1.0, 1.0] it keeps 4"),
        "ties, other side": (
            group_threshold_other_side,
            "of [1.0, -1.0, 1.0, 1.0] it keeps 0",
        ),
        "zeros": (
            lambda w, n, m: in_groups(w, n, m) & (w != 0),
            "of [0.0, 0.0, 0.0, 0.0] it keeps 0",
        ),
        "first two": (
            lambda w, n, m: (torch.arange(w.shape[1]) % m < n).expand(w.shape),
            "it must keep [-2.0, 3.0]",
        ),
        "2 written in": (
            lambda w, n, m: in_groups(w, 2, m),
            "not for 1:4: of [-9.0, 8.0, 7.0, -6.0] it keeps 2",
        ),
        "4 written in": (lambda w, n, m: in_groups(w, n, 4), "not for 2:8"),
        "numbers": (
            lambda w, n, m: in_groups(w, n, m).float(),
            "torch.float32; a mask is boolean",
        ),
        "groups": (
            lambda w, n, m: largest(w.abs().reshape(-1, m), n),
            "it returns [8, 4]",
        ),
        "array": (lambda w, n, m: in_groups(w, n, m).numpy(), "it returns ndarray"),
        "weights changed": (groups_zeroed_in_place, "changed the weights"),
        "missing return": (lambda w, n, m: print(end=""), "`return` missing"),
    },
    "cubic_sparsity": {
        "linear": (lambda p, f: f * p, "a straight line"),
        "slow at first": (lambda p, f: f * p**3, "slow at first and fast at the end"),
        "upside down": (lambda p, f: f * (1 - p) ** 3, "still *to prune*"),
        "final forgotten": (
            lambda p, f: 1 - (1 - p) ** 3,
            "ends at 1, everything pruned",
        ),
        "final inside": (lambda p, f: 1 - f * (1 - p) ** 3, "starts at 0.2, not at 0"),
        "cube of progress": (
            lambda p, f: f * (1 - p**3),
            "The cube is of 1 - progress",
        ),
        "square": (lambda p, f: f * (1 - (1 - p) ** 2), "that is a square"),
        "percent": (lambda p, f: 100 * f * (1 - (1 - p) ** 3), "that is percent"),
        "sum": (lambda p, f: f + p, "it returns 1; it must be 0.3904"),
        "0.8 written in": (
            lambda p, f: 0.8 * (1 - (1 - p) ** 3),
            "final 0.96, it returns 0.7;",
        ),
        "list": (lambda p, f: [p, f], "several numbers"),
        "not a number": (lambda p, f: float("nan"), "nan"),
        "missing return": (lambda p, f: print(end=""), "`return` missing"),
    },
    "exchange": {
        "grows among the kept": (
            lambda w, g, m, c: grown(
                dropped(w, m, c), g.abs(), c, candidates=torch.ones_like(m)
            ),
            "it cannot come once more",
        ),
        "drops signed": (drops_signed, "it drops -5 and -0.5"),
        "drops the largest": (drops_the_largest, "it drops -5 and 3, the largest"),
        "drops by gradient": (drops_where_gradients_are_small, "it drops -5, 0.25;"),
        "drops zeros": (zeros_dropped, "some came, none went"),
        "kept zeros stay": (drops_only_what_is_not_zero, "it does not drop 0"),
        "grows signed": (
            lambda w, g, m, c: grown(dropped(w, m, c), g, c, ~m),
            "passes over -7",
        ),
        "grows nothing": (lambda w, g, m, c: dropped(w, m, c), "some went, none came"),
        "grows by weight": (
            lambda w, g, m, c: grown(dropped(w, m, c), w.abs(), c),
            "what went came back",
        ),
        "grows the smallest": (
            lambda w, g, m, c: grown(dropped(w, m, c), -g.abs(), c, ~m),
            "grows where the gradient is 0.5 and 1",
        ),
        "one more": (
            lambda w, g, m, c: grown(dropped(w, m, c), g.abs(), c + 1, ~m),
            "2 must go and 2 come",
        ),
        "2 written in": (
            lambda w, g, m, c: grown(dropped(w, m, 2), g.abs(), 2),
            "count = 1, 2 went and 2 came",
        ),
        "from the end": (grows_from_the_end, "at count = 0"),
        "mask changed": (exchanged_in_place, "changed the `mask`"),
        "numbers": (
            lambda w, g, m, c: dropped(w, m, c).float(),
            "torch.float32; a mask is boolean",
        ),
        "flat": (lambda w, g, m, c: dropped(w, m, c).flatten(), "it returns [10]"),
        "missing return": (lambda w, g, m, c: print(end=""), "`return` missing"),
    },
    "compare": {
        "sign forgotten": (
            lambda a, b: ((a - b).max().item(), agreeing(a, b)),
            "comes out as 0.5",
        ),
        "mean difference": (
            lambda a, b: ((a - b).abs().mean().item(), agreeing(a, b)),
            "is the mean one",
        ),
        "squared": (
            lambda a, b: (4 * ((a - b) ** 2).max().item(), agreeing(a, b)),
            "one output differs by 1",
        ),
        "outputs": (
            lambda a, b: ((a - b).abs().max().item(), (a == b).float().mean().item()),
            "it compares outputs",
        ),
        "count": (
            lambda a, b: (
                (a - b).abs().max().item(),
                (a.argmax(1) == b.argmax(1)).sum().item(),
            ),
            "3 of 4 is 0.75",
        ),
        "those that differ": (
            lambda a, b: ((a - b).abs().max().item(), 1 - agreeing(a, b)),
            "the fraction that differs",
        ),
        "along the pictures": (
            lambda a, b: (
                (a - b).abs().max().item(),
                (a.argmax(0) == b.argmax(0)).float().mean().item(),
            ),
            "compares along the pictures",
        ),
        "one number": (
            lambda a, b: (a - b).abs().max().item(),
            "two numbers are wanted",
        ),
        "missing return": (lambda a, b: print(end=""), "`return` missing"),
    },
    "step_factors": {
        "against the first": (
            lambda s: [s[0] / each for each in s[1:]],
            "compared with the first time",
        ),
        "upside down": (
            lambda s: [b / a for a, b in itertools.pairwise(s)],
            "upside down",
        ),
        "differences": (
            lambda s: [a - b for a, b in itertools.pairwise(s)],
            "seconds saved",
        ),
        "fractions": (
            lambda s: [1 - b / a for a, b in itertools.pairwise(s)],
            "fractions of the time saved",
        ),
        "one too many": (
            lambda s: [1.0, *(a / b for a, b in itertools.pairwise(s))],
            "it returns 4 numbers; there are 3 steps",
        ),
        "rounded": (
            lambda s: [round(a / b) for a, b in itertools.pairwise(s)],
            "it returns 3, 2, 1; right is",
        ),
        "list changed": (eaten, "changed the list"),
        "missing return": (lambda s: print(end=""), "`return` missing"),
    },
    "ticket": {
        "the model itself": (loses_the_model, "it returns the model itself"),
        "shallow copy": (shallow_copy, "its weight [0, 0] was 1.5 and is now 1"),
        "plain copy": (
            lambda model, first, masks: copy.deepcopy(model),
            "a plain copy",
        ),
        "trained weights": (
            lambda model, first, masks: masked(copy.deepcopy(model), masks),
            "is the trained weights",
        ),
        "no mask": (
            lambda model, first, masks: rewound(model, first),
            "is 2 and not 0",
        ),
        "upside down": (
            lambda model, first, masks: masked(
                rewound(model, first), {n: ~m for n, m in masks.items()}
            ),
            "and [0, 1], which it prunes, is 2. True means kept",
        ),
        "biases not rewound": (biases_kept, "the biases are still the trained ones"),
        "biases zeroed": (
            biases_zeroed,
            "0.bias is [0.0, 0.0]; it must be [11.0, 12.0]",
        ),
        "first weights masked": (
            first_weights_masked,
            "changed `first_weights`, which the next round needs",
        ),
        "masks changed": (masks_inverted, "changed `masks`"),
        "biases shared": (biases_shared, "shares memory with `first_weights`"),
        "another network": (
            lambda model, first, masks: nn.Linear(3, 2),
            "its network has weight, bias; it",
        ),
        "weights": (
            lambda model, first, masks: {n: first[n] * masks.get(n, 1) for n in first},
            "it returns dict",
        ),
        "missing return": (
            lambda model, first, masks: print(end=""),
            "`return` missing",
        ),
    },
    "channel_statistics": {
        "over pictures": (
            lambda a: (a.mean(dim=0), a.var(dim=0)),
            "over the pictures only",
        ),
        "one number": (lambda a: (a.mean(), a.var()), "one number for all channels"),
        "each picture": (
            lambda a: (a.mean(dim=(1, 2, 3)), a.var(dim=(1, 2, 3))),
            "one number a *picture*",
        ),
        "each picture and channel": (
            lambda a: (a.mean(dim=(2, 3)), a.var(dim=(2, 3))),
            "for each picture by itself",
        ),
        "keepdim": (
            lambda a: (
                a.mean(dim=ALL_BUT_CHANNELS, keepdim=True),
                a.var(dim=ALL_BUT_CHANNELS, keepdim=True),
            ),
            "leave out `keepdim`",
        ),
        "rows": (
            lambda a: (a.mean(dim=(0, 1, 3)), a.var(dim=(0, 1, 3))),
            "other dimensions than 0, 2 and 3",
        ),
        "standard deviation": (
            lambda a: (a.mean(dim=ALL_BUT_CHANNELS), a.std(dim=ALL_BUT_CHANNELS)),
            "that is the standard deviation; the variance is its square",
        ),
        "variance within pictures": (
            lambda a: (a.mean(dim=ALL_BUT_CHANNELS), a.var(dim=(2, 3)).mean(dim=0)),
            "a mean of variances",
        ),
        "mean not subtracted": (
            lambda a: (a.mean(dim=ALL_BUT_CHANNELS), (a**2).mean(dim=ALL_BUT_CHANNELS)),
            "the mean must be subtracted first",
        ),
        "sum of squares": (
            lambda a: (
                a.mean(dim=ALL_BUT_CHANNELS),
                40 * a.var(dim=ALL_BUT_CHANNELS, unbiased=False),
            ),
            "divide by their number",
        ),
        "variance twice": (
            lambda a: (a.var(dim=ALL_BUT_CHANNELS),) * 2,
            "for channel 0 the mean is",
        ),
        "variance halved": (
            lambda a: (a.mean(dim=ALL_BUT_CHANNELS), a.var(dim=ALL_BUT_CHANNELS) / 2),
            "for channel 0 the variance is 0.339; it must be",
        ),
        "swapped": (lambda a: torch.var_mean(a, dim=ALL_BUT_CHANNELS), "swapped"),
        "only the mean": (lambda a: a.mean(dim=ALL_BUT_CHANNELS), "return two tensors"),
        "activations changed": (centred_in_place, "changed the activations"),
        "missing return": (lambda a: print(end=""), "`return` missing"),
    },
    "choose_grid": {
        "256 steps": (lambda a, b: grid_of(a, b, steps=256), "divides by 256"),
        "254 steps": (lambda a, b: grid_of(a, b, steps=254), "divides by 254"),
        "not stretched": (
            lambda a, b: grid_of(a, b, stretch=False),
            "`low = min(low, 0)`",
        ),
        "stretched downwards only": (
            lambda a, b: grid_of(min(a, 0), b, stretch=False),
            "`high = max(high, 0)`",
        ),
        "not rounded": (
            lambda a, b: (grid_of(a, b)[0], -min(a, 0) / grid_of(a, b)[0]),
            "is 72.99, not rounded",
        ),
        "cut off": (
            lambda a, b: (grid_of(a, b)[0], int(1e-6 - min(a, 0) / grid_of(a, b)[0])),
            "is 72.00, cut off",
        ),
        "swapped": (lambda a, b: grid_of(a, b)[::-1], "the scale comes first"),
        "high only": (lambda a, b: (max(b, 0) / 255, 85), "`high / 255`"),
        "symmetric": (
            lambda a, b: (max(-a, b) / 127, 0),
            "the symmetric grid of a weight",
        ),
        "steps per unit": (lambda a, b: (255 / (b - a), 85), "units per step"),
        "sign": (
            lambda a, b: (grid_of(a, b)[0], -grid_of(a, b)[1]),
            "the sign is wrong",
        ),
        "no zero point": (
            lambda a, b: (grid_of(a, b)[0], 0),
            "the zero point is missing",
        ),
        "other end": (
            lambda a, b: (grid_of(a, b)[0], round(b / grid_of(a, b)[0])),
            "from the wrong end",
        ),
        "low itself": (lambda a, b: (grid_of(a, b)[0], a), "the zero point is `low`"),
        "minus low": (lambda a, b: (grid_of(a, b)[0], -a), "the zero point is `-low`"),
        "middle": (lambda a, b: (grid_of(a, b)[0], 128), "the middle of the integers"),
        "written in": (
            lambda a, b: grid_of(a, b) if abs(b) != 6 else (0.01, 0),
            "from 0 to 6 it returns 0.01000",
        ),
        "one number": (
            lambda a, b: grid_of(a, b)[0],
            "it returns float; return two numbers",
        ),
        "missing return": (lambda a, b: print(end=""), "`return` missing"),
    },
    "integer_product": {
        "int8 sums": (
            lambda x, z, w: ((wide(x) - z) @ wide(w).T).to(torch.int8),
            "wrapped around. Widen *before*",
        ),
        "uint8 sums": (
            lambda x, z, w: ((wide(x) - z) @ wide(w).T).to(torch.uint8),
            "have no sign there",
        ),
        "int16 sums": (
            lambda x, z, w: (x.to(torch.int16) - z) @ w.to(torch.int16).T,
            "do not fit in 16 bits",
        ),
        "cut off at 8": (
            lambda x, z, w: ((wide(x) - z) @ wide(w).T).clamp(-128, 127),
            "cut off at 8 bits",
        ),
        "cut off at 16": (
            lambda x, z, w: ((wide(x) - z) @ wide(w).T).clamp(-(2**15), 2**15 - 1),
            "cut off at 16 bits",
        ),
        "no zero point": (
            lambda x, z, w: wide(x) @ wide(w).T,
            "the zero point is forgotten",
        ),
        "zero point off the sum": (
            lambda x, z, w: wide(x) @ wide(w).T - z,
            "is taken off the *sum*",
        ),
        "zero point added": (
            lambda x, z, w: (wide(x) + z) @ wide(w).T,
            "was added; take it off",
        ),
        "zero point off the weights": (
            lambda x, z, w: wide(x) @ (wide(w) - z).T,
            "taken off the weights",
        ),
        "wrapped inputs": (lambda x, z, w: wide(x - z) @ wide(w).T, "3 - 10 is 249"),
        "int8 inputs": (
            lambda x, z, w: wide((wide(x) - z).to(torch.int8)) @ wide(w).T,
            "190 is -66",
        ),
        "in place": (zero_point_off_in_place, "changed the integers"),
        "transposed": (
            lambda x, z, w: wide(w) @ (wide(x) - z).T,
            "its shape is [3, 2], one row a unit",
        ),
        "one number": (
            lambda x, z, w: ((wide(x) - z) @ wide(w).T).sum(),
            "its shape is []",
        ),
        "float": (
            lambda x, z, w: (x.float() - z) @ w.float().T,
            "it returns torch.float32",
        ),
        "10 written in": (
            lambda x, z, w: (wide(x) - 10) @ wide(w).T,
            "not for 784 with zero point 0",
        ),
        "a list": (
            lambda x, z, w: ((wide(x) - z) @ wide(w).T).tolist(),
            "it returns list; return a tensor",
        ),
        "missing return": (lambda x, z, w: print(end=""), "`return` missing"),
    },
    "shared_step": {
        "nothing moved": (lambda w, v: v.clone(), "nothing has moved"),
        "medians": (
            lambda w, v: torch.stack([g.median() for g in groups_of(w, v)]),
            "takes means",
        ),
        "sums": (
            lambda w, v: torch.stack([g.sum() for g in groups_of(w, v)]),
            "those are sums",
        ),
        "by all": (
            lambda w, v: torch.stack([g.sum() / len(w) for g in groups_of(w, v)]),
            "number of *all* weights",
        ),
        "one mean": (lambda w, v: w.mean().expand(len(v)), "one mean of all weights"),
        "nearest weight": (
            lambda w, v: w[(w[:, None] - v).abs().argmin(0)],
            "went to the nearest weight",
        ),
        "half-way": (
            lambda w, v: torch.stack([g.mean() for g in groups_of(w, v)]).add(v) / 2,
            "half of the way",
        ),
        "empty": (
            lambda w, v: torch.stack([g.mean() for g in groups_of(w, v)]),
            "No weight is nearest to 5",
        ),
        "in place": (values_moved_in_place, "changed the tensors"),
        "weights": (
            lambda w, v: v[(w[:, None] - v).abs().argmin(1)],
            "one number a *weight*",
        ),
        "one value": (lambda w, v: w.mean(), "for 3 values its shape is []"),
        "list": (
            lambda w, v: [float(g.mean()) for g in groups_of(w, v)],
            "it returns list",
        ),
        "missing return": (lambda w, v: print(end=""), "`return` missing"),
    },
    "softened": {
        "multiplied": (
            lambda z, t: (z * t).softmax(1),
            "divide by it, do not multiply",
        ),
        "no temperature": (lambda z, t: z.softmax(1), "the temperature is missing"),
        "probabilities divided": (
            lambda z, t: z.softmax(1) / t,
            "not the probabilities",
        ),
        "over the pictures": (
            lambda z, t: (z / t).softmax(0),
            "its columns add up to 1",
        ),
        "over everything": (
            lambda z, t: (z / t).flatten().softmax(0).view_as(z),
            "all six numbers together",
        ),
        "logarithms": (lambda z, t: (z / t).log_softmax(1), "those are logarithms"),
        "not normalised": (lambda z, t: (z / t).exp(), "its rows do not add up to 1"),
        "sigmoid": (lambda z, t: (z / t).sigmoid(), "the classes must share 1"),
        "softmax first": (
            lambda z, t: (z.softmax(1) / t).softmax(1),
            "give it the outputs as they are",
        ),
        "softmax twice": (lambda z, t: (z / t).softmax(1).softmax(1), "one is enough"),
        "divided twice": (lambda z, t: (z / t**2).softmax(1), "divided once too often"),
        "root": (
            lambda z, t: z.softmax(1) ** (1 / t),
            "for outputs 2, 1, -1 at temperature 2 it returns 0.840, ",
        ),
        "2 written in": (
            lambda z, t: (z / 2).softmax(1),
            "not for [4, 10] outputs at 0.5",
        ),
        "overflow": (
            lambda z, t: (z / t).exp() / (z / t).exp().sum(1, keepdim=True),
            "`exp(1000)` is infinite",
        ),
        "in place": (lambda z, t: z.div_(t).softmax(1), "changed the `logits`"),
        "a row": (
            lambda z, t: (z / t).softmax(1)[0],
            "it returns shape [3]; it must be [2, 3]",
        ),
        "a list": (lambda z, t: (z / t).softmax(1).tolist(), "it returns list"),
        "missing return": (lambda z, t: print(end=""), "`return` missing"),
    },
    "distillation_loss": {
        "no T squared": (
            lambda *a: mixture(*a, factor=lambda t: 1),
            "the factor T**2 is missing",
        ),
        "T": (
            lambda *a: mixture(*a, factor=lambda t: t),
            "has the factor T; it must be T**2",
        ),
        "by T squared": (
            lambda *a: mixture(*a, factor=lambda t: t**-2),
            "divided by T**2; multiply",
        ),
        "T squared on both": (
            lambda *a: a[3] ** 2 * mixture(*a, factor=lambda t: 1),
            "T**2 belongs to the teacher's part only",
        ),
        "weights swapped": (
            lambda z, v, y, t, w: mixture(z, v, y, t, 1 - w),
            "the weights are swapped: `weight`",
        ),
        "weights swapped, no T squared": (
            lambda z, v, y, t, w: mixture(z, v, y, t, 1 - w, factor=lambda t: 1),
            "swapped, and T**2 is missing",
        ),
        "not weighted": (
            lambda z, v, y, t, w: 2 * mixture(z, v, y, t, 0.5),
            "both parts are there in full",
        ),
        "no labels": (
            lambda z, v, y, t, w: w * mixture(z, v, y, t, 1),
            "the labels' part is missing",
        ),
        "no teacher": (
            lambda z, v, y, t, w: (1 - w) * F.cross_entropy(z, y),
            "the teacher's part is missing",
        ),
        "soft labels' part": (
            lambda *a: mixture(*a, hard=F.cross_entropy(a[0] / a[3], a[2])),
            "the labels' part has no temperature",
        ),
        "softmax before cross-entropy": (
            lambda *a: mixture(*a, hard=F.cross_entropy(a[0].softmax(1), a[2])),
            "takes the outputs, not probabilities",
        ),
        "wrong way round": (
            lambda *a: mixture(
                *a,
                soft=F.kl_div(
                    log_soft(a[1], a[3]), log_soft(a[0], a[3]).exp(), reduction=BATCH
                ),
            ),
            "The teacher's is the target.",
        ),
        "wrong way round, no T squared": (
            lambda *a: mixture(
                *a,
                soft=F.kl_div(
                    log_soft(a[1], a[3]), log_soft(a[0], a[3]).exp(), reduction=BATCH
                ),
                factor=lambda t: 1,
            ),
            "The teacher's is the target; and T**2 is missing",
        ),
        "over classes too": (
            lambda *a: mixture(
                *a,
                soft=F.kl_div(
                    log_soft(a[0], a[3]), log_soft(a[1], a[3]).exp(), reduction="sum"
                )
                / a[0].numel(),
            ),
            'reduction="batchmean"`, not "mean"',
        ),
        "sum": (
            lambda *a: mixture(
                *a,
                soft=F.kl_div(
                    log_soft(a[0], a[3]), log_soft(a[1], a[3]).exp(), reduction="sum"
                ),
            ),
            'reduction="batchmean"`, not "sum"',
        ),
        "cross-entropy": (
            lambda *a: mixture(
                *a, soft=F.cross_entropy(a[0] / a[3], (a[1] / a[3]).softmax(1))
            ),
            "the same gradient, but is not 0",
        ),
        "student without log": (
            lambda *a: mixture(
                *a,
                soft=F.kl_div(
                    (a[0] / a[3]).softmax(1), (a[1] / a[3]).softmax(1), reduction=BATCH
                ),
            ),
            "takes the student's *log*-probabilities: `F.log_softmax`",
        ),
        "teacher with log": (
            lambda *a: mixture(
                *a,
                soft=F.kl_div(
                    log_soft(a[0], a[3]), log_soft(a[1], a[3]), reduction=BATCH
                ),
            ),
            "it returns nan",
        ),
        "times T": (
            lambda *a: mixture(
                *a,
                soft=F.kl_div(
                    log_soft(a[0] * a[3], 1),
                    log_soft(a[1] * a[3], 1).exp(),
                    reduction=BATCH,
                ),
            ),
            "divided by T, not multiplied",
        ),
        "no temperature": (
            lambda *a: mixture(
                *a,
                soft=F.kl_div(
                    log_soft(a[0], 1), log_soft(a[1], 1).exp(), reduction=BATCH
                ),
            ),
            "the outputs are not divided",
        ),
        "only the teacher softened": (
            lambda *a: mixture(
                *a,
                soft=F.kl_div(
                    log_soft(a[0], 1), log_soft(a[1], a[3]).exp(), reduction=BATCH
                ),
            ),
            "only the teacher's outputs",
        ),
        "only the student softened": (
            lambda *a: mixture(
                *a,
                soft=F.kl_div(
                    log_soft(a[0], a[3]), log_soft(a[1], 1).exp(), reduction=BATCH
                ),
            ),
            "only the student's outputs",
        ),
        "over the pictures": (
            lambda *a: mixture(
                *a,
                soft=F.kl_div(
                    (a[0] / a[3]).log_softmax(0),
                    (a[1] / a[3]).softmax(0),
                    reduction=BATCH,
                ),
            ),
            "the softmax is over the pictures",
        ),
        "squares": (
            lambda *a: mixture(*a, soft=F.mse_loss(a[0], a[1]), factor=lambda t: 1),
            "squared difference, no divergence",
        ),
        "halved": (lambda *a: mixture(*a) / 2, "; it must be 3.0260."),
        "3 written in": (
            lambda z, v, y, t, w: mixture(z, v, y, 3.0, w),
            "not for 6 pictures of 10 classes",
        ),
        "teacher changed": (
            lambda z, v, y, t, w: mixture(z, v.div_(t).mul(t), y, t, w),
            "changed the `teacher_logits`",
        ),
        "detached": (lambda *a: mixture(*a).detach(), "no gradient can flow back"),
        "a float": (lambda *a: mixture(*a).item(), "it returns float"),
        "each picture": (lambda *a: mixture(*a) + a[0].sum(1), "it returns shape [4]"),
        "missing return": (lambda *a: print(end=""), "`return` missing"),
    },
    "noisy_labels": {
        "all classes": (
            lambda y, f, g: noised(
                y, f, g, lambda old, n: torch.randint(10, (n,), generator=g)
            ),
            "the old one again in one of ten cases",
        ),
        "in place": (
            lambda y, f, g: noised(y, f, g, others(g), copied=False),
            "the right ones are lost",
        ),
        "probability": (
            lambda y, f, g: torch.where(
                torch.rand(len(y), generator=g) < f, others(g)(y, len(y)), y
            ),
            "each label by itself with a probability",
        ),
        "with replacement": (
            lambda y, f, g: noised(
                y,
                f,
                g,
                others(g),
                chosen=torch.randint(len(y), (round(f * len(y)),), generator=g),
            ),
            "some pictures were drawn twice",
        ),
        "the others": (
            lambda y, f, g: noised(y, 1 - f, g, others(g)),
            "the part that should stay",
        ),
        "nothing": (lambda y, f, g: y.clone(), "it changes no label"),
        "one further": (
            lambda y, f, g: noised(y, f, g, lambda old, n: (old + 1) % 10),
            "is 1 further than the right",
        ),
        "one class for all": (
            lambda y, f, g: noised(
                y, f, g, lambda old, n: torch.full((n,), 3), among=(y != 3)
            ),
            "every wrong label is 3",
        ),
        "up to 8 further": (
            lambda y, f, g: noised(
                y,
                f,
                g,
                lambda old, n: (old + torch.randint(1, 9, (n,), generator=g)) % 10,
            ),
            "0 move by 9; about 300 should",
        ),
        "beyond 9": (
            lambda y, f, g: noised(
                y, f, g, lambda old, n: old + torch.randint(1, 10, (n,), generator=g)
            ),
            "classes are 0 to 9",
        ),
        "the first ones": (
            lambda y, f, g: noised(
                y, f, g, others(g), chosen=torch.arange(round(f * len(y)))
            ),
            "always changes the same pictures",
        ),
        "own randomness": (
            lambda y, f, g: noised(y, f, None, others(None)),
            "`generator=generator` is missing",
        ),
        "classes that occur": (
            lambda y, f, g: noised(
                y,
                f,
                g,
                lambda old, n: (
                    (old + torch.randint(1, 10, (n,), generator=g)) % (y.max() + 1)
                ),
            ),
            "there are ten classes, also where not all occur",
        ),
        "cut": (
            lambda y, f, g: noised(y, int(f * len(y)) / len(y), g, others(g)),
            "0.29 * 100 is 28.999",
        ),
        "0.3 written in": (
            lambda y, f, g: noised(y, 0.3, g, others(g)),
            "100 labels at fraction 0.29: it changes 30",
        ),
        "numbers": (
            lambda y, f, g: noised(y, f, g, others(g)).float(),
            "torch.float32; labels are whole",
        ),
        "only the wrong ones": (
            lambda y, f, g: noised(y, f, g, others(g))[: round(f * len(y))],
            "it returns shape [2700]",
        ),
        "a list": (lambda y, f, g: y.tolist(), "it returns list"),
        "missing return": (lambda y, f, g: print(end=""), "`return` missing"),
    },
    "changed": {
        "any": (
            lambda d, p: (d.mode(0).values != p).any(0),
            "one network that differs is enough",
        ),
        "all": (
            lambda d, p: (d.mode(0).values != p).all(0),
            "that *every* pruned network differs",
        ),
        "the first": (lambda d, p: d[0] != p[0], "the first network of each alone"),
        "last dimension": (
            lambda d, p: d.mode().values != p.mode().values,
            "takes the last dimension unless told",
        ),
        "median": (
            lambda d, p: d.median(0).values != p.median(0).values,
            "classes have no order",
        ),
        "mean": (
            lambda d, p: d.float().mean(0).round() != p.float().mean(0).round(),
            "that is the mean",
        ),
        "indices": (
            lambda d, p: d.mode(0).indices != p.mode(0).indices,
            "take `.values`",
        ),
        "upside down": (
            lambda d, p: d.mode(0).values == p.mode(0).values,
            "upside down",
        ),
        "positions": (
            lambda d, p: (d.mode(0).values != p.mode(0).values).nonzero().flatten(),
            "torch.int64; it must be boolean",
        ),
        "how many": (
            lambda d, p: (d.mode(0).values != p.mode(0).values).sum().item(),
            "it returns int",
        ),
        "each network": (lambda d, p: d != p, "it returns shape [5, 9]"),
        "as many networks": (
            lambda d, p: torch.stack([d, p]).mode(1).values.diff(dim=0)[0] != 0,
            "There need not be equally many",
        ),
        "five written in": (
            lambda d, p: p.mode(0).values != d[-1],
            "right for five networks of each",
        ),
        "nothing": (
            lambda d, p: torch.zeros(d.shape[1], dtype=torch.bool),
            "it finds none; it must find 2, 4, 7, 8",
        ),
        "changed": (sorted_in_place, "has changed the predictions"),
        "missing return": (lambda d, p: print(end=""), "`return` missing"),
    },
    "pareto": {
        "strictly better in all": (
            lambda c: front(
                c, lambda a, b: a[0] < b[0] and a[1] > b[1] and a[2] > b[2]
            ),
            "`fast` is as small and as fast as `nearly fast`",
        ),
        "equal ones remove each other": (
            lambda c: front(c, no_worse),
            "are equal, and have removed each other",
        ),
        "one of two equals": (first_of_equals, "neither beats the other, so both stay"),
        "with itself": (
            lambda c: [n for n in c if not any(no_worse(a, c[n]) for a in c.values())],
            "as good as itself: that must not remove it",
        ),
        "slower is better": (
            lambda c: front(
                c,
                lambda a, b: a != b and a[0] <= b[0] and a[1] <= b[1] and a[2] >= b[2],
            ),
            "the speedup is turned round",
        ),
        "larger is better": (
            lambda c: front(
                c,
                lambda a, b: a != b and a[0] >= b[0] and a[1] >= b[1] and a[2] >= b[2],
            ),
            "the bytes are turned round",
        ),
        "no speedup": (
            lambda c: front(
                c, lambda a, b: a[::2] != b[::2] and a[0] <= b[0] and a[2] >= b[2]
            ),
            "the speedup is left out",
        ),
        "no accuracy": (
            lambda c: front(
                c, lambda a, b: a[:2] != b[:2] and a[0] <= b[0] and a[1] >= b[1]
            ),
            "the accuracy is left out",
        ),
        "no bytes": (
            lambda c: front(
                c, lambda a, b: a[1:] != b[1:] and a[1] >= b[1] and a[2] >= b[2]
            ),
            "the bytes are left out",
        ),
        "the beaten ones": (
            lambda c: [
                n
                for n in c
                if n not in front(c, lambda a, b: a != b and no_worse(a, b))
            ],
            "those are the ones that are beaten",
        ),
        "everything": (lambda c: [*c], "everything is left"),
        "the smallest": (
            lambda c: [min(c, key=lambda n: c[n][0])],
            "that is the smallest",
        ),
        "the fastest": (
            lambda c: [max(c, key=lambda n: c[n][1])],
            "that is the fastest",
        ),
        "the most accurate": (
            lambda c: [max(c, key=lambda n: c[n][2])],
            "that is the most accurate",
        ),
        "best of each": (
            lambda c: {
                min(c, key=lambda n: c[n][0]),
                *(max(c, key=lambda n, i=i: c[n][i]) for i in (1, 2)),
            },
            "that is the best in each number",
        ),
        "these names": (
            lambda c: [n for n in c if "below" not in n and "nearly" not in n],
            "it keeps (",
        ),
        "True and False": (lambda c: [True for _ in c], "it returns True and False"),
        "the numbers": (lambda c: list(c.values()), "it returns the numbers"),
        "positions": (lambda c: [0, 2], "it returns positions"),
        "one name": (lambda c: "small", "it returns str"),
        "candidates changed": (emptied, "it has changed the candidates"),
        "missing return": (lambda c: print(end=""), "Is a `return` missing"),
    },
    "my_pipeline": {
        "the network": (
            lambda train, validation, path: nn.Linear(784, 10),
            "it returns a network",
        ),
        "the bytes": (
            lambda train, validation, path: onnx_file(path).stat().st_size,
            "the bytes, which to_onnx",
        ),
        "content": (
            lambda train, validation, path: onnx_file(path).read_bytes(),
            "it returns bytes; return the path",
        ),
        "another place": (
            lambda train, validation, path: Path("mine.onnx"),
            "write to the `path` that it is given",
        ),
        "no file": (lambda train, validation, path: path, "but there is no file"),
        "weights of PyTorch": (weights_alone, "is no sound ONNX file"),
        "weights elsewhere": (
            lambda train, validation, path: onnx_file(path, elsewhere=True),
            "in another file",
        ),
        "one picture at a time": (
            lambda train, validation, path: onnx_file(path, batch=1),
            "its file takes batches of one size only",
        ),
        "no head": (
            lambda train, validation, path: onnx_file(path, classes=64),
            "wanted are ten finite numbers",
        ),
        "BatchNorm in training mode": (
            lambda train, validation, path: onnx_file(
                path,
                ("Transpose", ["scores"], ["turned"]),
                ("Softmax", ["turned"], ["shares"]),  # over the pictures of the batch
                ("Transpose", ["shares"], ["outputs"]),
            ),
            "got another answer alone than among others",
        ),
        "pictures changed": (
            pictures_changed,
            "it has changed the pictures in `train`",
        ),
        "missing return": (
            lambda train, validation, path: print(end=""),
            "Is `return path` missing",
        ),
    },
}
MISTAKES = [(name, mistake) for name in NAMES for mistake in WRONG[name]]


@pytest.mark.parametrize(
    ("name", "mistake"),
    MISTAKES,
    ids=[f"{name}-{mistake}" for name, mistake in MISTAKES],
)
def test_a_mistake_is_refused_for_its_own_reason(name, mistake):
    answer, words = WRONG[name][mistake]
    assert not is_untouched(answer)
    message = refusal(name, answer)
    assert message.startswith(f"{name}: ")
    assert words in message


@pytest.mark.parametrize("name", NAMES)
def test_at_least_three_mistakes_are_told_apart(name):
    messages = {
        mistake: refusal(name, answer) for mistake, (answer, _) in WRONG[name].items()
    }
    assert len(messages) >= 3
    assert len(set(messages.values())) == len(messages), messages
    for mistake, (_, words) in WRONG[name].items():
        same = {other for other, message in messages.items() if words in message}
        # NaN has no reason of its own
        assert same - {"not a number"} <= {mistake}, words


def test_a_mask_held_upside_down_is_not_blamed_on_momentum():
    message = refusal("held_step", mask_upside_down)
    assert "True means kept" in message and "Momentum" not in message


def test_a_step_alone_is_told_that_nothing_was_zeroed():
    assert "zero" in refusal("held_step", only_a_step)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_raises_is_reported_with_its_exception(name):
    def broken(*_, **__):
        raise KeyError("my own mistake")

    with pytest.raises(
        WrongAnswer, match=f"^{name}: it stopped with KeyError: 'my own mistake'"
    ) as caught:
        check(named(name, broken))
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_array_where_a_number_is_asked_for_is_not_called_a_crash():
    def safe(s, a, d):
        return np.array(s)[np.array(a) >= a[0] - d]

    assert "it stopped" not in refusal("largest_safe_sparsity", safe)


def test_a_count_is_rounded_not_cut_off():
    """0.29 * 100 is 28.999999999999996: `int` prunes 28."""

    def cut_off(weight, sparsity):
        ranks = weight.abs().flatten().argsort().argsort()
        return (ranks >= int(sparsity * weight.numel())).reshape(weight.shape)

    assert "round" in refusal("magnitude_mask", cut_off)


# ------------------------------------------------------------------------ right answers

RIGHT = {
    "largest_safe_sparsity": {
        "loop": (
            """
def largest_safe_sparsity(sparsities, accuracies, allowed_drop):
    best = 0
    for index in range(len(sparsities)):
        if accuracies[0] - accuracies[index] <= allowed_drop:
            best = max(best, sparsities[index])
    return best"""
        ),
        "numpy": (
            """
def largest_safe_sparsity(sparsities, accuracies, allowed_drop):
    accuracies = np.array(accuracies)
    return np.array(sparsities)[accuracies >= accuracies[0] - allowed_drop].max()"""
        ),
        "torch": (
            """
def largest_safe_sparsity(sparsities, accuracies, allowed_drop):
    good = torch.tensor(accuracies, dtype=torch.float64) >= accuracies[0] - allowed_drop
    return sparsities[good.nonzero().max().item()]"""
        ),
    },
    "accuracy": {
        "loop": (
            """
def accuracy(logits, labels):
    right = 0
    for row, label in zip(logits, labels):
        right += int(row.argmax() == label)
    return right / len(labels)"""
        ),
        "topk, tensor": (
            """
def accuracy(logits, labels):
    return (logits.topk(1).indices[:, 0] == labels).double().mean()"""
        ),
        "sort": (
            """
def accuracy(logits, labels):
    return (logits.sort(dim=1).indices[:, -1] == labels).sum().item() / labels.numel()"""
        ),
        "numpy": (
            """
def accuracy(logits, labels):
    return np.mean(logits.numpy().argmax(1) == labels.numpy())"""
        ),
    },
    "conv_macs": {
        "loop": (
            """
def conv_macs(filters, inputs, kernel, height, width):
    total = 0
    for _ in range(height):
        for _ in range(width):
            total += filters * inputs * kernel**2
    return total"""
        ),
        "numpy": (
            """
def conv_macs(filters, inputs, kernel, height, width):
    return np.prod([filters, inputs, kernel, kernel, height, width])"""
        ),
        "torch": (
            """
def conv_macs(filters, inputs, kernel, height, width):
    return torch.tensor([filters, inputs, kernel, kernel, height, width]).prod()"""
        ),
    },
    "taylor_score": {
        "other order": (
            "def taylor_score(weight, gradient):\n    return torch.abs(gradient) *"
            " torch.abs(weight)"
        ),
        "root": (
            "def taylor_score(weight, gradient):\n    return ((weight * gradient) **"
            " 2).sqrt()"
        ),
        "loop": (
            """
def taylor_score(weight, gradient):
    score = torch.zeros_like(weight)
    for index, (w, g) in enumerate(zip(weight.flatten(), gradient.flatten())):
        score.view(-1)[index] = abs(w * g)
    return score"""
        ),
        "numpy": (
            """
def taylor_score(weight, gradient):
    return torch.from_numpy(np.abs(weight.double().numpy() * gradient.double().numpy()))"""
        ),
    },
    "rank_correlation": {
        "sum of squares": (
            """
def rank_correlation(a, b):
    d = (a.argsort().argsort() - b.argsort().argsort()).double()
    n = len(a)
    return 1 - 6 * (d**2).sum() / (n * (n**2 - 1))"""
        ),
        "loop": (
            """
def rank_correlation(a, b):
    def ranks(values):
        return [sum(other < value for other in values.tolist()) for value in values.tolist()]
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])"""
        ),
        "scatter": (
            """
def rank_correlation(a, b):
    ranks = []
    for values in (a, b):
        rank = torch.empty(len(values))
        rank[values.argsort()] = torch.arange(len(values)).float()
        ranks.append(rank - rank.mean())
    return (ranks[0] * ranks[1]).sum() / (ranks[0].norm() * ranks[1].norm())"""
        ),
    },
    "magnitude_mask": {
        "argsort": (
            """
def magnitude_mask(weight, sparsity):
    order = weight.abs().flatten().argsort()
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[order[: round(sparsity * weight.numel())]] = False
    return mask.reshape(weight.shape)"""
        ),
        "topk": (
            """
def magnitude_mask(weight, sparsity):
    n = weight.numel()
    mask = torch.zeros(n, dtype=torch.bool)
    mask[weight.abs().flatten().topk(n - round(sparsity * n)).indices] = True
    return mask.view_as(weight)"""
        ),
        "kthvalue": (
            """
def magnitude_mask(weight, sparsity):
    size, count = weight.abs().flatten(), round(sparsity * weight.numel())
    if count == 0:
        return torch.ones_like(weight, dtype=torch.bool)
    threshold = size.kthvalue(count).values
    mask = size > threshold
    ties = (size == threshold).nonzero().flatten()
    mask[ties[: len(size) - count - int(mask.sum())]] = True
    return mask.reshape(weight.shape)"""
        ),
        "ranks": (
            """
def magnitude_mask(weight, sparsity):
    ranks = weight.abs().flatten().argsort().argsort()
    return (ranks >= round(sparsity * weight.numel())).reshape(weight.shape)"""
        ),
        "numpy": (
            """
def magnitude_mask(weight, sparsity):
    size = np.abs(weight.numpy()).ravel()
    mask = np.ones(size.size, dtype=bool)
    mask[np.argsort(size, kind="stable")[: round(sparsity * size.size)]] = False
    return torch.from_numpy(mask.reshape(weight.shape))"""
        ),
        "loop": (
            """
def magnitude_mask(weight, sparsity):
    flat = weight.abs().flatten().tolist()
    gone = set(sorted(range(len(flat)), key=flat.__getitem__)[: round(sparsity * len(flat))])
    return torch.tensor([i not in gone for i in range(len(flat))]).reshape(weight.shape)"""
        ),
    },
    "held_step": {
        "data": (
            """
def held_step(optimizer, weight, mask):
    optimizer.step()
    weight.data *= mask"""
        ),
        "index": (
            """
def held_step(optimizer, weight, mask):
    optimizer.step()
    with torch.no_grad():
        weight[~mask] = 0"""
        ),
        "gradient too": (
            """
def held_step(optimizer, weight, mask):
    weight.grad *= mask
    optimizer.step()
    weight.data = weight.data * mask"""
        ),
        "loop": (
            """
def held_step(optimizer, weight, mask):
    optimizer.step()
    for index in range(len(weight)):
        if not mask[index]:
            weight.data[index] = 0.0"""
        ),
    },
    "csr_bytes": {
        "three lists": (
            """
def csr_bytes(rows, kept):
    values, columns, starts = kept, kept, rows + 1
    return 4 * (values + columns + starts)"""
        ),
        "arrays": (
            """
def csr_bytes(rows, kept):
    return sum(np.zeros(n, dtype=np.int32).nbytes for n in (kept, kept, rows + 1))"""
        ),
        "float": (
            "def csr_bytes(rows, kept):\n    return 32 / 8 * (2 * kept + rows + 1)"
        ),
    },
    "remove_neurons": {
        "new parameters": (
            """
def remove_neurons(first, second, keep):
    kept = int(keep.sum())
    new_first = torch.nn.Linear(first.in_features, kept)
    new_second = torch.nn.Linear(kept, second.out_features)
    new_first.weight = torch.nn.Parameter(first.weight[keep])
    new_first.bias = torch.nn.Parameter(first.bias[keep])
    new_second.weight = torch.nn.Parameter(second.weight[:, keep])
    new_second.bias = torch.nn.Parameter(second.bias.detach().clone())
    return new_first, new_second"""
        ),
        "copy_": (
            """
def remove_neurons(first, second, keep):
    kept = keep.nonzero().flatten()
    new = torch.nn.Linear(first.in_features, len(kept)), torch.nn.Linear(len(kept), second.out_features)
    with torch.no_grad():
        new[0].weight.copy_(first.weight.index_select(0, kept))
        new[0].bias.copy_(first.bias.index_select(0, kept))
        new[1].weight.copy_(second.weight.index_select(1, kept))
        new[1].bias.copy_(second.bias)
    return new"""
        ),
        "deepcopy, list": (
            """
def remove_neurons(first, second, keep):
    import copy
    a, b = copy.deepcopy(first), copy.deepcopy(second)
    a.weight.data, a.bias.data, b.weight.data = a.weight.data[keep], a.bias.data[keep], b.weight.data[:, keep]
    a.out_features = b.in_features = len(a.bias)
    return [a, b]"""
        ),
        "state_dict": (
            """
def remove_neurons(first, second, keep):
    smaller = torch.nn.Linear(first.in_features, int(keep.sum()))
    smaller.load_state_dict({name: tensor[keep] for name, tensor in first.state_dict().items()})
    after = torch.nn.Linear(int(keep.sum()), second.out_features)
    after.load_state_dict({"weight": second.weight[:, keep], "bias": second.bias})
    return smaller, after"""
        ),
        "loop": (
            """
def remove_neurons(first, second, keep):
    kept = [i for i in range(first.out_features) if keep[i]]
    new_first = torch.nn.Linear(first.in_features, len(kept))
    new_second = torch.nn.Linear(len(kept), second.out_features)
    with torch.no_grad():
        for new, old in enumerate(kept):
            new_first.weight[new] = first.weight[old]
            new_first.bias[new] = first.bias[old]
            new_second.weight[:, new] = second.weight[:, old]
        new_second.bias[:] = second.bias
    return new_first, new_second"""
        ),
    },
    "leaves_with_a_filter": {
        "one product": (
            """
def leaves_with_a_filter(kernel, inputs, next_outputs):
    return kernel * kernel * (inputs + next_outputs) + 4"""
        ),
        "numpy": (
            """
def leaves_with_a_filter(kernel, inputs, next_outputs):
    return np.sum([kernel**2 * inputs, 1, 1, 1, 1, kernel**2 * next_outputs])"""
        ),
        "layers": (
            """
def leaves_with_a_filter(kernel, inputs, next_outputs):
    def numbers(filters):
        layers = [torch.nn.Conv2d(inputs, filters, kernel, bias=False), torch.nn.BatchNorm2d(filters)]
        layers.append(torch.nn.Conv2d(filters, next_outputs, kernel, bias=False))
        return sum(t.numel() for layer in layers for t in layer.state_dict().values())
    return numbers(5) - numbers(4)"""
        ),
        "torch": (
            """
def leaves_with_a_filter(kernel, inputs, next_outputs):
    return torch.tensor(kernel**2 * inputs) + 4 + kernel**2 * next_outputs"""
        ),
    },
    "work_left": {
        "product": "def work_left(ratio):\n    return (1 - ratio) * (1 - ratio)",
        "multiplied out": "def work_left(ratio):\n    return 1 - 2 * ratio + ratio**2",
        "numpy": "def work_left(ratio):\n    return np.float32(1 - ratio) ** 2",
        "torch": "def work_left(ratio):\n    return torch.tensor(1 - ratio).square()",
        "channels": (
            """
def work_left(ratio):
    filters = inputs = 10000
    return round(filters * (1 - ratio)) * round(inputs * (1 - ratio)) / (filters * inputs)"""
        ),
    },
    "nm_mask": {
        "topk": (
            """
def nm_mask(weight, n, m):
    groups = weight.abs().reshape(-1, m)
    mask = torch.zeros_like(groups, dtype=torch.bool)
    mask.scatter_(1, groups.topk(n, dim=1).indices, True)
    return mask.reshape(weight.shape)"""
        ),
        "ranks": (
            """
def nm_mask(weight, n, m):
    groups = weight.abs().unflatten(1, (-1, m))
    return (groups.argsort(dim=2).argsort(dim=2) >= m - n).flatten(1)"""
        ),
        "numpy": (
            """
def nm_mask(weight, n, m):
    groups = np.abs(weight.numpy()).reshape(-1, m)
    mask = np.zeros(groups.shape, dtype=bool)
    np.put_along_axis(mask, np.argsort(-groups, axis=1)[:, :n], True, axis=1)
    return torch.from_numpy(mask.reshape(weight.shape))"""
        ),
        "loop": (
            """
def nm_mask(weight, n, m):
    mask = torch.zeros(weight.shape, dtype=torch.bool)
    for unit in range(weight.shape[0]):
        for start in range(0, weight.shape[1], m):
            best = weight[unit, start : start + m].abs().topk(n).indices
            mask[unit, start + best] = True
    return mask"""
        ),
        "as hinted": (
            """
def nm_mask(weight, n, m):
    positions = weight.reshape(-1, m).abs().argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros(positions.shape, dtype=torch.bool)
    mask.scatter_(1, positions[:, :n], True)
    return mask.reshape(weight.shape)"""
        ),
        "by columns": (
            """
def nm_mask(weight, n, m):
    parts = [part.abs() for part in weight.split(m, dim=1)]
    return torch.cat([part.argsort(1, descending=True).argsort(1) < n for part in parts], dim=1)"""
        ),
    },
    "cubic_sparsity": {
        "as in the paper": (
            """
def cubic_sparsity(progress, final):
    first = 0
    return final + (first - final) * (1 - progress) ** 3"""
        ),
        "multiplied out": (
            """
def cubic_sparsity(progress, final):
    return final * (3 * progress - 3 * progress**2 + progress**3)"""
        ),
        "numpy": (
            "def cubic_sparsity(progress, final):\n    return final - final *"
            " np.power(1 - progress, 3)"
        ),
        "torch": (
            "def cubic_sparsity(progress, final):\n    return final * (1 -"
            " torch.tensor(1 - progress) ** 3)"
        ),
    },
    "exchange": {
        "topk": (
            """
def exchange(weight, gradient, mask, count):
    new = mask.clone().flatten()
    size = weight.abs().masked_fill(~mask, float("inf")).flatten()
    new[size.topk(count, largest=False).indices] = False
    desire = gradient.abs().flatten().masked_fill(new, -1)
    new[desire.topk(count).indices] = True
    return new.view_as(mask)"""
        ),
        "as hinted": (
            """
def exchange(weight, gradient, mask, count):
    new = mask.flatten().clone()
    new[torch.where(mask, weight.abs(), torch.inf).flatten().argsort()[:count]] = False
    new[torch.where(new, -1, gradient.flatten().abs()).topk(count).indices] = True
    return new.reshape(mask.shape)"""
        ),
        "just dropped stay away": (
            """
def exchange(weight, gradient, mask, count):
    new = mask.clone()
    kept, pruned = mask.nonzero(), (~mask).nonzero()
    for i, j in kept[weight[mask].abs().argsort()[:count]]:
        new[i, j] = False
    for i, j in pruned[gradient[~mask].abs().argsort(descending=True)[:count]]:
        new[i, j] = True
    return new"""
        ),
        "loop": (
            """
def exchange(weight, gradient, mask, count):
    new = mask.clone()
    for _ in range(count):
        new[min(map(tuple, new.nonzero().tolist()), key=lambda p: abs(weight[p]))] = False
    for _ in range(count):
        new[max(map(tuple, (~new).nonzero().tolist()), key=lambda p: abs(gradient[p]))] = True
    return new"""
        ),
        "numpy": (
            """
def exchange(weight, gradient, mask, count):
    new = mask.numpy().copy().ravel()
    kept = np.flatnonzero(new)
    new[kept[np.argsort(np.abs(weight.numpy().ravel()[kept]))[:count]]] = False
    others = np.flatnonzero(~new)
    new[others[np.argsort(-np.abs(gradient.numpy().ravel()[others]))[:count]]] = True
    return torch.from_numpy(new.reshape(mask.shape))"""
        ),
        "ranks": (
            """
def exchange(weight, gradient, mask, count):
    def ranks(values):
        return values.flatten().argsort().argsort().view_as(mask)
    stay = mask & (ranks(torch.where(mask, weight.abs(), torch.inf)) >= count)
    return stay | (ranks(torch.where(stay, torch.inf, -gradient.abs())) < count)"""
        ),
    },
    "compare": {
        "numpy": (
            """
def compare(ours, theirs):
    a, b = ours.numpy(), theirs.numpy()
    return float(np.abs(a - b).max()), float(np.mean(a.argmax(1) == b.argmax(1)))"""
        ),
        "loop": (
            """
def compare(ours, theirs):
    worst = max(abs(float(a) - float(b)) for a, b in zip(ours.flatten(), theirs.flatten()))
    same = sum(int(a.argmax() == b.argmax()) for a, b in zip(ours, theirs))
    return worst, same / len(ours)"""
        ),
        "tensors": (
            """
def compare(ours, theirs):
    return (ours - theirs).abs().max(), (ours.argmax(1) == theirs.argmax(1)).float().mean()"""
        ),
    },
    "step_factors": {
        "index": (
            """
def step_factors(seconds):
    return [seconds[i] / seconds[i + 1] for i in range(len(seconds) - 1)]"""
        ),
        "numpy": (
            """
def step_factors(seconds):
    times = np.array(seconds)
    return list(times[:-1] / times[1:])"""
        ),
        "array": (
            """
def step_factors(seconds):
    times = np.array(seconds)
    return times[:-1] / times[1:]"""
        ),
    },
    "ticket": {
        "masked_fill": (
            """
def ticket(model, first_weights, masks):
    import copy
    result = copy.deepcopy(model)
    result.load_state_dict(first_weights)
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            if name in masks:
                parameter.masked_fill_(~masks[name], 0)
    return result"""
        ),
        "masked state": (
            """
def ticket(model, first_weights, masks):
    import copy
    state = {name: tensor * masks[name] if name in masks else tensor for name, tensor in first_weights.items()}
    result = copy.deepcopy(model)
    result.load_state_dict(state)
    return result"""
        ),
        "apply_masks": (
            """
def ticket(model, first_weights, masks):
    from copy import deepcopy
    from utils.masks import apply_masks
    twin = deepcopy(model)
    twin.load_state_dict(deepcopy(first_weights))
    apply_masks(twin, masks)
    return twin"""
        ),
        "parameters": (
            """
def ticket(model, first_weights, masks):
    import copy
    result = copy.deepcopy(model)
    for name, parameter in result.named_parameters():
        parameter.data = first_weights[name].clone()
        if name in masks:
            parameter.data[~masks[name]] = 0
    return result"""
        ),
    },
    "channel_statistics": {
        "unbiased": (
            """
def channel_statistics(activations):
    return activations.mean(dim=(0, 2, 3)), activations.var(dim=(0, 2, 3))"""
        ),
        "var_mean": (
            """
def channel_statistics(activations):
    variance, mean = torch.var_mean(activations, dim=(0, 2, 3), correction=0)
    return mean, variance"""
        ),
        "flattened": (
            """
def channel_statistics(activations):
    rows = activations.transpose(0, 1).flatten(1)
    return [rows.mean(1), rows.std(1) ** 2]"""
        ),
        "squares": (
            """
def channel_statistics(activations):
    mean = activations.mean((0, 2, 3))
    return mean, (activations**2).mean((0, 2, 3)) - mean**2"""
        ),
        "loop": (
            """
def channel_statistics(activations):
    channels = [activations[:, c].double() for c in range(activations.shape[1])]
    mean = torch.stack([channel.mean() for channel in channels])
    return mean, torch.stack([((c - m) ** 2).mean() for c, m in zip(channels, mean)])"""
        ),
        "BatchNorm": (
            """
def channel_statistics(activations):
    norm = torch.nn.BatchNorm2d(activations.shape[1], momentum=1.0)
    norm(activations)
    return norm.running_mean, norm.running_var"""
        ),
        "numpy": (
            """
def channel_statistics(activations):
    values = activations.numpy()
    return torch.from_numpy(values.mean(axis=(0, 2, 3))), torch.from_numpy(values.var(axis=(0, 2, 3)))"""
        ),
    },
    "choose_grid": {
        "as hinted": (
            """
def choose_grid(low, high):
    low, high = min(low, 0), max(high, 0)
    scale = (high - low) / 255
    return scale, round(-low / scale)"""
        ),
        "numpy": (
            """
def choose_grid(low, high):
    ends = np.array([low, 0.0, high])
    scale = np.ptp(ends) / 255
    return scale, np.rint(-ends.min() / scale)"""
        ),
        "torch, a list": (
            """
def choose_grid(low, high):
    low, high = torch.tensor(low).clamp(max=0), torch.tensor(high).clamp(min=0)
    scale = (high - low) / 255
    return [scale, (255 - high / scale).round().int()]"""
        ),
    },
    "integer_product": {
        "as hinted": (
            """
def integer_product(inputs, zero_point, weight):
    return (inputs.to(torch.int32) - zero_point) @ weight.to(torch.int32).T"""
        ),
        "corrected afterwards": (
            """
def integer_product(inputs, zero_point, weight):
    sums = inputs.int() @ weight.int().T
    return sums - zero_point * weight.int().sum(dim=1)"""
        ),
        "int64": (
            """
def integer_product(inputs, zero_point, weight):
    return torch.einsum("ni,ui->nu", inputs.long() - zero_point, weight.long())"""
        ),
        "numpy": (
            """
def integer_product(inputs, zero_point, weight):
    return torch.from_numpy((inputs.numpy().astype(np.int32) - zero_point) @ weight.numpy().astype(np.int32).T)"""
        ),
        "loop": (
            """
def integer_product(inputs, zero_point, weight):
    rows = [[int(((x.int() - zero_point) * w.int()).sum()) for w in weight] for x in inputs]
    return torch.tensor(rows, dtype=torch.int32)"""
        ),
    },
    "shared_step": {
        "as hinted": (
            """
def shared_step(weights, values):
    nearest = (weights[:, None] - values).abs().argmin(dim=1)
    new = values.clone()
    for number in range(len(values)):
        if (nearest == number).any():
            new[number] = weights[nearest == number].mean()
    return new"""
        ),
        "numpy": (
            """
def shared_step(weights, values):
    near = np.abs(weights.numpy()[:, None] - values.numpy()).argmin(1)
    counts = np.bincount(near, minlength=len(values))
    sums = np.bincount(near, weights.numpy(), minlength=len(values))
    return torch.from_numpy(np.where(counts > 0, sums / np.maximum(counts, 1), values.numpy()))"""
        ),
        "one-hot": (
            """
def shared_step(weights, values):
    mine = torch.nn.functional.one_hot(torch.cdist(weights[:, None], values[:, None]).argmin(1), len(values)).float()
    means = (mine.T @ weights) / mine.sum(0).clamp(min=1)
    return torch.where(mine.sum(0) > 0, means, values)"""
        ),
    },
    "softened": {
        "functional": (
            """
def softened(logits, temperature):
    return torch.nn.functional.softmax(logits / temperature, dim=-1)"""
        ),
        "log first": (
            """
def softened(logits, temperature):
    return torch.softmax(torch.log_softmax(logits, dim=1) / temperature, dim=1)"""
        ),
        "by hand": (
            """
def softened(logits, temperature):
    scaled = logits / temperature
    powers = (scaled - scaled.max(dim=1, keepdim=True).values).exp()
    return powers / powers.sum(dim=1, keepdim=True)"""
        ),
        "powers": (
            """
def softened(logits, temperature):
    powers = logits.softmax(1) ** (1 / temperature)
    return powers / powers.sum(1, keepdim=True)"""
        ),
    },
    "distillation_loss": {
        "kl_div": (
            """
def distillation_loss(logits, teacher_logits, labels, temperature, weight):
    from torch.nn import functional as F
    soft = F.kl_div(
        F.log_softmax(logits / temperature, 1), F.softmax(teacher_logits / temperature, 1), reduction="batchmean"
    )
    return weight * temperature**2 * soft + (1 - weight) * F.cross_entropy(logits, labels)"""
        ),
        "log_target": (
            """
def distillation_loss(logits, teacher_logits, labels, temperature, weight):
    student, teacher = (torch.log_softmax(z / temperature, 1) for z in (logits, teacher_logits))
    soft = torch.nn.KLDivLoss(reduction="batchmean", log_target=True)(student, teacher)
    return weight * soft * temperature * temperature + (1 - weight) * torch.nn.CrossEntropyLoss()(logits, labels)"""
        ),
        "by hand": (
            """
def distillation_loss(logits, teacher_logits, labels, temperature, weight):
    p, q = (torch.softmax(z / temperature, dim=1) for z in (teacher_logits, logits))
    soft = (p * (p.log() - q.log())).sum(dim=1).mean()
    hard = -torch.log_softmax(logits, dim=1)[torch.arange(len(labels)), labels].mean()
    return weight * temperature**2 * soft + (1 - weight) * hard"""
        ),
        "cross-entropy less entropy": (
            """
def distillation_loss(logits, teacher_logits, labels, temperature, weight):
    from torch.nn.functional import cross_entropy
    p = (teacher_logits / temperature).softmax(1)
    soft = cross_entropy(logits / temperature, p) - torch.special.entr(p).sum(1).mean()
    return weight * temperature**2 * soft + (1 - weight) * cross_entropy(logits, labels)"""
        ),
        "the course's": (
            """
def distillation_loss(logits, teacher_logits, labels, temperature, weight):
    from torch.nn import functional as F
    from utils.distillation import soft_loss
    return weight * soft_loss(logits, teacher_logits, temperature) + (1 - weight) * F.cross_entropy(logits, labels)"""
        ),
    },
    "noisy_labels": {
        "as hinted": (
            """
def noisy_labels(labels, fraction, generator):
    chosen = torch.randperm(len(labels), generator=generator)[: round(fraction * len(labels))]
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + torch.randint(1, 10, (len(chosen),), generator=generator)) % 10
    return noisy"""
        ),
        "rand": (
            """
def noisy_labels(labels, fraction, generator):
    chosen = torch.rand(len(labels), generator=generator).argsort() < round(fraction * len(labels))
    steps = torch.randint(9, labels.shape, generator=generator) + 1
    return torch.where(chosen, labels + steps, labels) % 10"""
        ),
        "among the nine": (
            """
def noisy_labels(labels, fraction, generator):
    noisy = labels.clone()
    for i in torch.randperm(len(labels), generator=generator)[: round(fraction * len(labels))].tolist():
        others = [c for c in range(10) if c != labels[i]]
        noisy[i] = others[torch.randint(9, (1,), generator=generator)]
    return noisy"""
        ),
        "multinomial": (
            """
def noisy_labels(labels, fraction, generator):
    wrong = torch.ones(len(labels), 10).scatter_(1, labels[:, None], 0).multinomial(1, generator=generator)[:, 0]
    order = torch.randperm(len(labels), generator=generator)
    return torch.where(order < round(fraction * len(labels)), wrong, labels)"""
        ),
    },
    "changed": {
        "as hinted": (
            """
def changed(dense_predictions, pruned_predictions):
    return dense_predictions.mode(dim=0).values != pruned_predictions.mode(dim=0).values"""
        ),
        "counts": (
            """
def changed(dense_predictions, pruned_predictions):
    def usual(predictions):
        return torch.nn.functional.one_hot(predictions, 10).sum(0).argmax(1)
    return usual(dense_predictions) != usual(pruned_predictions)"""
        ),
        "loop, other ties": (
            """
def changed(dense_predictions, pruned_predictions):
    from collections import Counter
    def usual(predictions):
        return [Counter(column).most_common(1)[0][0] for column in zip(*predictions.tolist())]
    return torch.tensor([a != b for a, b in zip(usual(dense_predictions), usual(pruned_predictions))])"""
        ),
        "transposed": (
            """
def changed(dense_predictions, pruned_predictions):
    dense, _ = torch.mode(dense_predictions.T)
    pruned, _ = torch.mode(pruned_predictions.T)
    return ~torch.eq(dense, pruned)"""
        ),
    },
    "pareto": {
        "as hinted": (
            """
def pareto(candidates):
    def beats(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a[2] >= b[2] and a != b
    return [n for n, b in candidates.items() if not any(beats(a, b) for a in candidates.values())]"""
        ),
        "numpy": (
            """
def pareto(candidates):
    table = np.array([*candidates.values()]) * [-1, 1, 1]
    as_good = (table[:, None] >= table).all(2)
    beaten = (as_good & ~as_good.T).any(0)
    return np.array([*candidates])[~beaten]"""
        ),
        "loops": (
            """
def pareto(candidates):
    front = set(candidates)
    for name, (size, speedup, accuracy) in candidates.items():
        for other, (b, s, a) in candidates.items():
            as_good = b <= size and s >= speedup and a >= accuracy
            better = b < size or s > speedup or a > accuracy
            if as_good and better:
                front.discard(name)
    return front"""
        ),
    },
    "my_pipeline": {
        "exported": (
            """
def my_pipeline(train, validation, path):
    from utils import deploy
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    deploy.to_onnx(network, train.images[:1], path)
    return str(path)"""
        ),
        "by hand": (
            """
def my_pipeline(train, validation, path):
    from onnx import TensorProto, helper, numpy_helper
    means = torch.stack([train.images[train.labels == c].mean(0).flatten() for c in range(10)], 1)
    shapes = {"x": ["n", 1, 28, 28], "y": ["n", 10]}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "means"], ["y"])]
    stored = [numpy_helper.from_array(means.numpy(), "means")]
    graph = helper.make_graph(nodes, "means", ends[:1], ends[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path"""
        ),
    },
}
ANSWERS = [(name, way) for name in NAMES for way in RIGHT[name]]


@pytest.mark.parametrize(
    ("name", "way"), ANSWERS, ids=[f"{name}-{way}" for name, way in ANSWERS]
)
def test_a_right_answer_passes_however_it_is_written(name, way, capsys):
    answer = define(RIGHT[name][way], name)
    assert check(answer) is answer
    assert capsys.readouterr().out == f"{name}: right. The lab goes on with yours.\n"


# -------------------------------------------------------------------------------- check


def test_an_unknown_function_lists_the_exercises():
    def something_else():
        return 1

    with pytest.raises(ValueError, match="something_else is no exercise") as caught:
        check(something_else)
    assert all(name in str(caught.value) for name in NAMES)
    with pytest.raises(ValueError, match="3 is no exercise"):
        check(3)


def test_a_missing_return_is_not_taken_for_untouched():
    answer = define(
        "def accuracy(logits, labels):\n    'doc'\n    (logits.argmax(1) =="
        " labels).float().mean()",
        "accuracy",
    )
    assert not is_untouched(answer)
    with pytest.raises(WrongAnswer, match="Is a `return` missing"):
        check(answer)


def test_a_wrong_answer_is_one_line_in_a_notebook():
    assert WrongAnswer("accuracy: no")._render_traceback_() == ["Not yet: accuracy: no"]


def test_a_wrong_answer_prints_nothing_and_hides_the_checks_own_traceback(capsys):
    with pytest.raises(WrongAnswer) as caught:
        check(named("csr_bytes", lambda rows, kept: 4 * kept))
    assert capsys.readouterr().out == ""
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
