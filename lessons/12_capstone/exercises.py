"""The exercises of lab 12, their checks and the mistakes that are told apart."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from utils import baselines, capstone, data, deploy
from utils.data import Split, sample_batches
from utils.exercises import Exercise, WrongAnswer

Candidates = Mapping[str, tuple[float, float, float]]


def pareto(candidates: Candidates) -> list[str]:
    """Names of the candidates, `(bytes, speedup, accuracy)` by name, that no other one
    beats.

    One beats another if it is at least as good in all three numbers, and better in one.
    """
    good = {
        name: (-size, speedup, accuracy)
        for name, (size, speedup, accuracy) in candidates.items()
    }

    def beats(a: tuple, b: tuple) -> bool:
        return a != b and all(x >= y for x, y in zip(a, b, strict=True))

    return [
        name
        for name in good
        if not any(beats(other, good[name]) for other in good.values())
    ]


def my_pipeline(train: Split, validation: Split, path: Path | str) -> Path | str:
    """The reference solution: the thin VGG of the course in int8. Writes an ONNX file
    and returns its path.

    What took long, training it, `make checkpoints` has done; calibration sees training
    pictures only.
    """
    network = baselines.baseline("vgg_thin")
    with tempfile.TemporaryDirectory() as folder:
        in_floats = Path(folder) / "floats.onnx"
        deploy.to_onnx(network, train.images[:1], in_floats)
        deploy.to_int8(in_floats, sample_batches(train, count=4, batch_size=128), path)
    return path


# ------------------------------------------------------------------------------- pareto

SOME = {
    "small": (10_000, 2.0, 0.80),
    "slow": (20_000, 1.0, 0.86),
    "fast": (30_000, 9.0, 0.85),
    "nearly fast": (30_000, 9.0, 0.84),
    "middle": (40_000, 5.0, 0.90),
    "below middle": (50_000, 4.0, 0.88),
    "exact": (90_000, 3.0, 0.95),
    "exact too": (90_000, 3.0, 0.95),
}


def check_pareto(answer: Callable) -> None:
    """Typical mistakes: a number left out or turned round, equal ones removed, ties
    kept, only the best of each."""
    got = _names(answer, SOME)
    right = set(pareto(SOME))
    if got != right:
        raise WrongAnswer(
            f"{_reason(got, right)}. Its front is {_list(got)}; it must be"
            f" {_list(right)}."
        )
    generator = torch.Generator().manual_seed(0)
    for count in (1, 2, 40):
        numbers = torch.randint(1, 9, (count, 3), generator=generator).tolist()
        many = {
            f"n{i}": (1000 * b, float(s), a / 10) for i, (b, s, a) in enumerate(numbers)
        }
        got, right = _names(answer, many), set(pareto(many))
        for name in sorted(got - right):
            raise WrongAnswer(
                f"of {count} candidates it keeps {many[name]}, but"
                f" {_winner(many, name)} is better."
            )
        for name in sorted(right - got):
            raise WrongAnswer(
                f"of {count} candidates it drops {many[name]}, which no other one"
                " beats."
            )


def _names(answer: Callable, candidates: Candidates) -> set[str]:
    given = dict(candidates)
    got = answer(given)
    if given != candidates:
        raise WrongAnswer(
            "it has changed the candidates. Collect the names in a new list."
        )
    if got is None:
        raise WrongAnswer("it returns None. Is a `return` missing?")
    if isinstance(got, str) or not hasattr(got, "__iter__"):
        raise WrongAnswer(f"it returns {type(got).__name__}; return a list of names.")
    got = list(got)
    if got and all(isinstance(each, bool) for each in got):
        raise WrongAnswer(
            "it returns True and False; return the names of those on the front."
        )
    if any(isinstance(each, (tuple, list)) for each in got):
        raise WrongAnswer(
            "it returns the numbers; return the names, the keys of `candidates`."
        )
    if any(isinstance(each, int) for each in got):
        raise WrongAnswer(
            "it returns positions; return the names, the keys of `candidates`."
        )
    if unknown := [each for each in got if each not in candidates]:
        raise WrongAnswer(
            f"it returns {unknown[0]!r}, which is no name of a candidate."
        )
    return set(got)


def _reason(got: set[str], right: set[str]) -> str:
    def front(change: Callable) -> set[str]:
        return set(pareto({name: change(*numbers) for name, numbers in SOME.items()}))

    reasons = [
        (
            set(),
            (
                "nothing is left. Each candidate is as good as itself: that must not"
                " remove it"
            ),
        ),
        (set(SOME), "everything is left"),
        (set(SOME) - right, "those are the ones that are beaten"),
        (
            front(lambda b, s, a: (b, -s, a)),
            "the speedup is turned round: more is better",
        ),
        (
            front(lambda b, s, a: (-b, s, a)),
            "the bytes are turned round: fewer are better",
        ),
        (
            front(lambda b, s, a: (b, s, -a)),
            "the accuracy is turned round: more is better",
        ),
        (front(lambda b, s, a: (b, 1, a)), "the speedup is left out"),
        (front(lambda b, s, a: (b, s, 1)), "the accuracy is left out"),
        (front(lambda b, s, a: (1, s, a)), "the bytes are left out"),
        ({"small"}, "that is the smallest; the other two numbers are left out"),
        (
            {"fast"},
            "that is the fastest of them, no front: the other two numbers are left out",
        ),
        (
            {"fast", "nearly fast"},
            "those are the fastest; the other two numbers are left out",
        ),
        ({"exact"}, "that is the most accurate; the other two numbers are left out"),
        (
            {"exact", "exact too"},
            "those are the most accurate; the other two numbers are left out",
        ),
        (
            {"small", "fast", "exact"},
            (
                "that is the best in each number. `middle` is best in none, but beaten"
                " by none"
            ),
        ),
        (
            {"small", "fast", "nearly fast", "exact", "exact too"},
            (
                "those are all that are best in some number. `middle` is best in none,"
                " but beaten by none"
            ),
        ),
        (
            right - {"exact", "exact too"},
            "`exact` and `exact too` are equal, and have removed each other",
        ),
        (
            right - {"exact"},
            "`exact` is equal to `exact too`; neither beats the other, so both stay",
        ),
        (
            right - {"exact too"},
            "`exact too` is equal to `exact`; neither beats the other, so both stay",
        ),
        (
            right | {"nearly fast"},
            (
                "`fast` is as small and as fast as `nearly fast`, and more accurate:"
                " that beats it"
            ),
        ),
    ]
    for wrong, reason in reasons:
        if got == wrong:
            return reason
    return "that is not it"


def _winner(candidates: Candidates, loser: str) -> tuple:
    return next(
        numbers
        for numbers in candidates.values()
        if pareto({"a": numbers, "b": candidates[loser]}) == ["a"]
    )


def _list(names: set[str]) -> str:
    return ", ".join(f"`{name}`" for name in SOME if name in names) or "empty"


# -------------------------------------------------------------------------- my_pipeline


def check_my_pipeline(answer: Callable) -> None:
    """Runs it on 600 training and 200 validation pictures. Typical mistakes: the size
    or the network returned, another path, no ONNX, one picture only, weights in another
    file, a head missing, BatchNorm in training mode."""
    pictures = data.load()
    train, validation = _copy(pictures.train[:600]), _copy(pictures.validation[:200])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.onnx"
        got = answer(train, validation, path)
        _check_path(got, path)
        for name, given, own in (
            ("train", train, pictures.train),
            ("validation", validation, pictures.validation),
        ):
            if not torch.equal(given.images, own.images[: len(given)]):
                raise WrongAnswer(
                    f"it has changed the pictures in `{name}`. Work on a copy."
                )
        _check_file(path, validation)


def _copy(pictures: Split) -> Split:
    return Split(pictures.images.clone(), pictures.labels.clone())


def _check_path(got: object, path: Path) -> None:
    if got is None:
        raise WrongAnswer("it returns None. Is `return path` missing?")
    if isinstance(got, nn.Module):
        raise WrongAnswer(
            "it returns a network. Write it to `path` with deploy.to_onnx, and return"
            " the path."
        )
    if isinstance(got, int):
        raise WrongAnswer(
            f"it returns {got:,}: the bytes, which to_onnx and to_int8 give back?"
            " Return the path."
        )
    if not isinstance(got, (str, Path)):
        raise WrongAnswer(f"it returns {type(got).__name__}; return the path.")
    if Path(got) != path:
        raise WrongAnswer(
            f"it returns {got}; write to the `path` that it is given, and return that."
        )
    if not path.is_file():
        raise WrongAnswer(
            "it returns the path, but there is no file. deploy.to_onnx or"
            " deploy.to_int8 writes one."
        )


def _check_file(path: Path, validation: Split) -> None:
    try:
        capstone.examine(
            path, validation.images, validation.labels, nn.Flatten(), rounds=1
        )
    except capstone.Refused as reason:
        if _fixed_batch(path):
            raise WrongAnswer(
                "its file takes batches of one size only. deploy.to_onnx leaves the"
                " size open; with torch.onnx.export, give it `dynamic_shapes`."
            ) from None
        raise WrongAnswer(f"its file would get no score: {reason}") from None


def _fixed_batch(path: Path) -> bool:
    try:
        inputs = deploy.read_onnx(path).graph.input
    except deploy.DamagedFileError:
        return False
    shapes = [each.type.tensor_type.shape.dim for each in inputs]
    return any(shape and shape[0].dim_value for shape in shapes)


EXERCISES = [
    Exercise(pareto, "lessons/12_capstone/exercises.py", more=check_pareto),
    Exercise(
        my_pipeline,
        "lessons/12_capstone/exercises.py (the reference solution)",
        more=check_my_pipeline,
    ),
]
