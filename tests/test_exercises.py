"""The checks of the exercises: right answers pass however they are written, and each mistake is told its own reason."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from utils.exercises import EXERCISES
from utils.lab import LESSONS, WrongAnswer, check, is_untouched

NAMES = sorted(EXERCISES)


def stub_sources() -> dict[str, str]:
    """The functions of all labs whose body is a docstring and `...`: source by name."""
    found = {}
    for path in sorted(LESSONS.glob("*/lab.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and [ast.unparse(part) for part in node.body[1:]] == ["..."]:
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


# ------------------------------------------------------------------------------------------------- stubs and references


def test_each_stub_has_an_exercise_and_each_exercise_a_stub():
    assert sorted(STUBS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_stub_as_it_stands_in_the_lab_is_untouched(name, capsys):
    stub = define(STUBS[name], name)
    assert is_untouched(stub)
    assert check(stub) is EXERCISES[name].reference
    printed = capsys.readouterr().out
    assert printed.startswith(f"{name}: not written yet. ") and printed.count("\n") == 1
    assert EXERCISES[name].source in printed


@pytest.mark.parametrize("name", NAMES)
def test_the_labs_text_calls_the_check(name):
    calls = [path for path in LESSONS.glob("*/lab.py") if f"{name} = check({name})" in path.read_text(encoding="utf-8")]
    assert len(calls) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_passes(name):
    EXERCISES[name].test(EXERCISES[name].reference)


@pytest.mark.parametrize("name", NAMES)
def test_the_source_that_is_named_to_the_learner_exists(name):
    file, *place = EXERCISES[name].source.replace("(", " ").replace(")", " ").split()
    text = (Path(__file__).parents[1] / file).read_text(encoding="utf-8")
    assert f"def {place[-1] if file == 'utils/masks.py' else name}(" in text


@pytest.mark.parametrize("name", NAMES)
def test_running_the_check_again_does_not_praise_an_untouched_exercise(name, capsys):
    """`f = check(f)` binds f to the course's function; the cell run once more must not call that the learner's."""
    again = check(define(STUBS[name], name))
    capsys.readouterr()
    assert check(again) is EXERCISES[name].reference
    assert "not written yet" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------- wrong answers


def first_sorted_out(weight, sparsity):
    return (weight.abs().flatten().argsort().argsort() >= round(sparsity * weight.numel())).reshape(weight.shape)


def zeroed_in_place(weight, sparsity):
    gone = weight.abs().flatten().argsort()[: round(sparsity * weight.numel())]
    weight.view(-1)[gone] = 0
    return weight != 0


def cut_at_threshold(weight, sparsity):
    count = round(sparsity * weight.numel())
    return weight.abs() > (weight.abs().flatten().sort().values[count - 1] if count else -1)


def cut_above_threshold(weight, sparsity):
    return weight.abs() >= weight.abs().flatten().sort().values[round(sparsity * weight.numel())]


def signed(weight, sparsity):
    return (weight.flatten().argsort().argsort() >= round(sparsity * weight.numel())).reshape(weight.shape)


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
    return torch.corrcoef(torch.stack([values.argsort().argsort() for values in (a, b)]).double())


right_ones = lambda logits, labels: logits.argmax(dim=1) == labels  # noqa: E731

# mistake -> (the answer that makes it, words that only the message about this mistake has)
WRONG = {
    "largest_safe_sparsity": {
        "position": (lambda s, a, d: max(i for i, x in enumerate(a) if x >= a[0] - d), "the position in the list"),
        "first too bad": (lambda s, a, d: next(x for x, y in zip(s, a, strict=True) if y < a[0] - d), "first that"),
        "best as reference": (
            lambda s, a, d: max(x for x, y in zip(s, a, strict=True) if y >= max(a) - d),
            "not with the best",
        ),
        "drop times 100": (
            lambda s, a, d: max(x for x, y in zip(s, a, strict=True) if y >= a[0] - 100 * d),
            "where accuracy fell by 0.30",
        ),
        "drop as points": (
            lambda s, a, d: max(x for x, y in zip(s, a, strict=True) if 100 * y >= 100 * a[0] - d),
            "is a fraction",
        ),
        "drop not used": (
            lambda s, a, d: max(x for x, y in zip(s, a, strict=True) if y >= a[0] - 0.01),
            "written into the function",
        ),
        "accuracy": (lambda s, a, d: min(y for y in a if y >= a[0] - d), "0.895; it must be 0.8"),
        "list": (lambda s, a, d: [x for x, y in zip(s, a, strict=True) if y >= a[0] - d], ", 0.5, 0.8]"),
        "missing return": (lambda s, a, d: print(end=""), "`return` missing"),
    },
    "accuracy": {
        "percent": (lambda o, y: 100 * right_ones(o, y).float().mean().item(), "a percentage"),
        "count": (lambda o, y: right_ones(o, y).sum(), "the number of right answers"),
        "error rate": (lambda o, y: 1 - right_ones(o, y).float().mean(), "the fraction that is wrong"),
        "one a picture": (lambda o, y: right_ones(o, y).float(), "one entry a picture"),
        "argmax of everything": (lambda o, y: (o.argmax() == y).float().mean(), "argmax over dim=1"),
        "four pictures": (lambda o, y: right_ones(o, y).sum() / 4, "number of pictures written in"),
        "not a number": (lambda o, y: o[:0].mean(), "nan"),
        "missing return": (lambda o, y: print(end=""), "`return` missing"),
    },
    "conv_macs": {
        "weights": (lambda filters, inputs, kernel, height, width: filters * inputs * kernel**2, "number of weights"),
        "one input": (lambda filters, inputs, kernel, height, width: filters * kernel**2 * height * width, "all 32"),
        "kernel once": (
            lambda filters, inputs, kernel, height, width: filters * inputs * kernel * height * width,
            "has 3 x 3 = 9",
        ),
        "FLOPs": (
            lambda filters, inputs, kernel, height, width: 2 * filters * inputs * kernel**2 * height * width,
            "FLOPs",
        ),
        "bias": (
            lambda filters, inputs, kernel, height, width: filters * height * width * (inputs * kernel**2 + 1),
            "counts the bias",
        ),
        "height twice": (
            lambda filters, inputs, kernel, height, width: filters * inputs * kernel**2 * height**2,
            "both height and width",
        ),
        "sum": (lambda filters, inputs, kernel, height, width: filters + inputs + kernel + height, "113; it must be"),
        "list": (lambda filters, inputs, kernel, height, width: [filters, inputs], "[64, 32]; it must be"),
        "missing return": (lambda filters, inputs, kernel, height, width: print(end=""), "`return` missing"),
    },
    "taylor_score": {
        "signed": (lambda w, g: w * g, "in either direction"),
        "gradient": (lambda w, g: g.abs(), "that is |g|"),
        "magnitude": (lambda w, g: w.abs(), "the gradient is not used"),
        "sum": (lambda w, g: w.abs() + g.abs(), "adds |w| and |g|"),
        "one number": (lambda w, g: (w * g).abs().sum(), "returns []; it must be a score for each weight"),
        "array": (lambda w, g: (w * g).abs().numpy(), "returns ndarray"),
        "squared": (lambda w, g: (w * g) ** 2, "36.0"),
        "missing return": (lambda w, g: print(end=""), "`return` missing"),
    },
    "rank_correlation": {
        "Pearson": (lambda a, b: torch.corrcoef(torch.stack([a, b]))[0, 1].item(), "Correlate the ranks"),
        "argsort once": (argsort_once, "argsort` says *which*"),
        "always one": (lambda a, b: 1.0, "it returns 1.000"),
        "matrix": (rank_matrix, "[2, 2]"),
        "not a number": (lambda a, b: float("nan"), "nan"),
        "missing return": (lambda a, b: print(end=""), "`return` missing"),
    },
    "magnitude_mask": {
        "upside down": (lambda w, s: ~first_sorted_out(w, s), "upside down"),
        "signed": (signed, "prunes -9"),
        "fraction kept": (lambda w, s: first_sorted_out(w, 1 - s), "Sparsity is the fraction *pruned*"),
        "numbers": (lambda w, s: first_sorted_out(w, s).float(), "torch.float32; a mask is boolean"),
        "flat": (lambda w, s: first_sorted_out(w, s).flatten(), "the weight's shape"),
        "one too many": (lambda w, s: first_sorted_out(w, s + 0.1), "it keeps 6"),
        "threshold": (cut_at_threshold, "it keeps 0 at sparsity 0.5"),
        "threshold, other side": (cut_above_threshold, "it keeps 4 at sparsity 0.5"),
        "weights changed": (zeroed_in_place, "changed"),
        "missing return": (lambda w, s: print(end=""), "`return` missing"),
    },
    "held_step": {
        "only gradient masked": (only_gradient_masked, "-0.461 after the step. Momentum moves it"),
        "zeroed before the step": (zeroed_before_the_step, "-0.271 after the step. Momentum moves it"),
        "new tensor": (new_tensor, "new tensor"),
        "new tensor, no step": (new_tensor_without_a_step, "no weight has changed"),
        "all zeroed": (all_zeroed, "zeroes weights that the mask keeps"),
        "no step": (no_step, "Is `optimizer.step()` missing"),
        "two steps": (two_steps, "once"),
        "no torch.no_grad": (without_no_grad, "it stopped with RuntimeError: a leaf Variable"),
    },
    "csr_bytes": {
        "values": (lambda rows, kept: 4 * kept, "the values alone"),
        "no row starts": (lambda rows, kept: 8 * kept, "row starts are missing"),
        "one start too few": (lambda rows, kept: 8 * kept + 4 * rows, "300 rows have 301"),
        "no columns": (lambda rows, kept: 4 * kept + 4 * (rows + 1), "column number, 4 bytes"),
        "bits": (lambda rows, kept: 64 * kept + 32 * (rows + 1), "that is bits"),
        "dense": (lambda rows, kept: 4 * rows * kept, "returns 1200000"),
        "300 rows written in": (lambda rows, kept: 8 * kept + 4 * 301, "1 row"),
        "list": (lambda rows, kept: [rows, kept], "[300, 1000]; it must be"),
        "missing return": (lambda rows, kept: print(end=""), "`return` missing"),
    },
}
MISTAKES = [(name, mistake) for name in NAMES for mistake in WRONG[name]]


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=[f"{name}-{mistake}" for name, mistake in MISTAKES])
def test_a_mistake_is_refused_for_its_own_reason(name, mistake):
    answer, words = WRONG[name][mistake]
    assert not is_untouched(answer)
    message = refusal(name, answer)
    assert message.startswith(f"{name}: ")
    assert words in message


@pytest.mark.parametrize("name", NAMES)
def test_at_least_three_mistakes_are_told_apart(name):
    messages = {mistake: refusal(name, answer) for mistake, (answer, _) in WRONG[name].items()}
    assert len(messages) >= 3
    assert len(set(messages.values())) == len(messages), messages
    for mistake, (_, words) in WRONG[name].items():
        same = {other for other, message in messages.items() if words in message}
        assert same - {"not a number"} <= {mistake}, words  # NaN has no reason of its own


def test_a_mask_held_upside_down_is_not_blamed_on_momentum():
    message = refusal("held_step", mask_upside_down)
    assert "True means kept" in message and "Momentum" not in message


def test_a_step_alone_is_told_that_nothing_was_zeroed():
    assert "zero" in refusal("held_step", only_a_step)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_raises_is_reported_with_its_exception(name):
    def broken(*_, **__):
        raise KeyError("my own mistake")

    with pytest.raises(WrongAnswer, match=f"^{name}: it stopped with KeyError: 'my own mistake'") as caught:
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


# ------------------------------------------------------------------------------------------------------- right answers

RIGHT = {
    "largest_safe_sparsity": {
        "loop": """
def largest_safe_sparsity(sparsities, accuracies, allowed_drop):
    best = 0
    for index in range(len(sparsities)):
        if accuracies[0] - accuracies[index] <= allowed_drop:
            best = max(best, sparsities[index])
    return best""",
        "numpy": """
def largest_safe_sparsity(sparsities, accuracies, allowed_drop):
    accuracies = np.array(accuracies)
    return np.array(sparsities)[accuracies >= accuracies[0] - allowed_drop].max()""",
        "torch": """
def largest_safe_sparsity(sparsities, accuracies, allowed_drop):
    good = torch.tensor(accuracies, dtype=torch.float64) >= accuracies[0] - allowed_drop
    return sparsities[good.nonzero().max().item()]""",
    },
    "accuracy": {
        "loop": """
def accuracy(logits, labels):
    right = 0
    for row, label in zip(logits, labels):
        right += int(row.argmax() == label)
    return right / len(labels)""",
        "topk, tensor": """
def accuracy(logits, labels):
    return (logits.topk(1).indices[:, 0] == labels).double().mean()""",
        "sort": """
def accuracy(logits, labels):
    return (logits.sort(dim=1).indices[:, -1] == labels).sum().item() / labels.numel()""",
        "numpy": """
def accuracy(logits, labels):
    return np.mean(logits.numpy().argmax(1) == labels.numpy())""",
    },
    "conv_macs": {
        "loop": """
def conv_macs(filters, inputs, kernel, height, width):
    total = 0
    for _ in range(height):
        for _ in range(width):
            total += filters * inputs * kernel**2
    return total""",
        "numpy": """
def conv_macs(filters, inputs, kernel, height, width):
    return np.prod([filters, inputs, kernel, kernel, height, width])""",
        "torch": """
def conv_macs(filters, inputs, kernel, height, width):
    return torch.tensor([filters, inputs, kernel, kernel, height, width]).prod()""",
    },
    "taylor_score": {
        "other order": "def taylor_score(weight, gradient):\n    return torch.abs(gradient) * torch.abs(weight)",
        "root": "def taylor_score(weight, gradient):\n    return ((weight * gradient) ** 2).sqrt()",
        "loop": """
def taylor_score(weight, gradient):
    score = torch.zeros_like(weight)
    for index, (w, g) in enumerate(zip(weight.flatten(), gradient.flatten())):
        score.view(-1)[index] = abs(w * g)
    return score""",
        "numpy": """
def taylor_score(weight, gradient):
    return torch.from_numpy(np.abs(weight.double().numpy() * gradient.double().numpy()))""",
    },
    "rank_correlation": {
        "sum of squares": """
def rank_correlation(a, b):
    d = (a.argsort().argsort() - b.argsort().argsort()).double()
    n = len(a)
    return 1 - 6 * (d**2).sum() / (n * (n**2 - 1))""",
        "loop": """
def rank_correlation(a, b):
    def ranks(values):
        return [sum(other < value for other in values.tolist()) for value in values.tolist()]
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])""",
        "scatter": """
def rank_correlation(a, b):
    ranks = []
    for values in (a, b):
        rank = torch.empty(len(values))
        rank[values.argsort()] = torch.arange(len(values)).float()
        ranks.append(rank - rank.mean())
    return (ranks[0] * ranks[1]).sum() / (ranks[0].norm() * ranks[1].norm())""",
    },
    "magnitude_mask": {
        "argsort": """
def magnitude_mask(weight, sparsity):
    order = weight.abs().flatten().argsort()
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[order[: round(sparsity * weight.numel())]] = False
    return mask.reshape(weight.shape)""",
        "topk": """
def magnitude_mask(weight, sparsity):
    n = weight.numel()
    mask = torch.zeros(n, dtype=torch.bool)
    mask[weight.abs().flatten().topk(n - round(sparsity * n)).indices] = True
    return mask.view_as(weight)""",
        "kthvalue": """
def magnitude_mask(weight, sparsity):
    size, count = weight.abs().flatten(), round(sparsity * weight.numel())
    if count == 0:
        return torch.ones_like(weight, dtype=torch.bool)
    threshold = size.kthvalue(count).values
    mask = size > threshold
    ties = (size == threshold).nonzero().flatten()
    mask[ties[: len(size) - count - int(mask.sum())]] = True
    return mask.reshape(weight.shape)""",
        "ranks": """
def magnitude_mask(weight, sparsity):
    ranks = weight.abs().flatten().argsort().argsort()
    return (ranks >= round(sparsity * weight.numel())).reshape(weight.shape)""",
        "numpy": """
def magnitude_mask(weight, sparsity):
    size = np.abs(weight.numpy()).ravel()
    mask = np.ones(size.size, dtype=bool)
    mask[np.argsort(size, kind="stable")[: round(sparsity * size.size)]] = False
    return torch.from_numpy(mask.reshape(weight.shape))""",
        "loop": """
def magnitude_mask(weight, sparsity):
    flat = weight.abs().flatten().tolist()
    gone = set(sorted(range(len(flat)), key=flat.__getitem__)[: round(sparsity * len(flat))])
    return torch.tensor([i not in gone for i in range(len(flat))]).reshape(weight.shape)""",
    },
    "held_step": {
        "data": """
def held_step(optimizer, weight, mask):
    optimizer.step()
    weight.data *= mask""",
        "index": """
def held_step(optimizer, weight, mask):
    optimizer.step()
    with torch.no_grad():
        weight[~mask] = 0""",
        "gradient too": """
def held_step(optimizer, weight, mask):
    weight.grad *= mask
    optimizer.step()
    weight.data = weight.data * mask""",
        "loop": """
def held_step(optimizer, weight, mask):
    optimizer.step()
    for index in range(len(weight)):
        if not mask[index]:
            weight.data[index] = 0.0""",
    },
    "csr_bytes": {
        "three lists": """
def csr_bytes(rows, kept):
    values, columns, starts = kept, kept, rows + 1
    return 4 * (values + columns + starts)""",
        "arrays": """
def csr_bytes(rows, kept):
    return sum(np.zeros(n, dtype=np.int32).nbytes for n in (kept, kept, rows + 1))""",
        "float": "def csr_bytes(rows, kept):\n    return 32 / 8 * (2 * kept + rows + 1)",
    },
}
ANSWERS = [(name, way) for name in NAMES for way in RIGHT[name]]


@pytest.mark.parametrize(("name", "way"), ANSWERS, ids=[f"{name}-{way}" for name, way in ANSWERS])
def test_a_right_answer_passes_however_it_is_written(name, way, capsys):
    answer = define(RIGHT[name][way], name)
    assert check(answer) is answer
    assert capsys.readouterr().out == f"{name}: right. The lab goes on with yours.\n"


# --------------------------------------------------------------------------------------------------------------- check


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
        "def accuracy(logits, labels):\n    'doc'\n    (logits.argmax(1) == labels).float().mean()", "accuracy"
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
