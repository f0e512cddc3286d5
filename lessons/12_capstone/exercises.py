"""The exercises of lab 12, and the mistakes that their checks know."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from onnx import TensorProto, external_data_helper, helper, numpy_helper
from torch import nn

from utils import baselines, capstone, data, deploy, training
from utils.data import Split, sample_batches
from utils.exercises import Case, Exercise, WrongAnswer

Triple = tuple[float, float, float]
Candidates = Mapping[str, Triple]


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

ALONE = {
    "best": (10_000, 2.0, 0.80),
    "larger": (20_000, 2.0, 0.80),
    "slower": (10_000, 1.0, 0.80),
    "less accurate": (10_000, 2.0, 0.70),
}


def many_candidates() -> list[Case]:
    generator = torch.Generator().manual_seed(0)
    cases = []
    for count in (1, 2, 40):
        numbers = torch.randint(1, 9, (count, 3), generator=generator).tolist()
        many = {
            f"n{i}": (1000 * b, float(s), a / 10) for i, (b, s, a) in enumerate(numbers)
        }
        cases.append(Case(f"of {count} candidates", (many,)))
    return cases


def names(got: Any) -> frozenset[str]:
    """What is returned, if it is names."""
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
    if any(not isinstance(each, str) for each in got):
        raise WrongAnswer(
            "it returns positions; return the names, the keys of `candidates`."
        )
    if twice := sorted({each for each in got if got.count(each) > 1}):
        raise WrongAnswer(f"{twice[0]!r} is in it twice; each name belongs there once.")
    return frozenset(got)


def named(got: frozenset[str], other: frozenset[str], candidates: Candidates) -> str:
    """The names; of many only the first that the other has not, with what beats it."""
    if not isinstance(got, frozenset) or not isinstance(other, frozenset):
        return str(got)
    if unknown := sorted(got - candidates.keys()):
        return f"{unknown[0]!r}, which is no name of a candidate"
    if len(candidates) <= len(SOME):
        return ", ".join(f"`{name}`" for name in candidates if name in got) or "none"
    for name in candidates:
        if name in got - other:
            winners = [
                numbers
                for numbers in candidates.values()
                if pareto({"a": numbers, "b": candidates[name]}) == ["a"]
            ]
            beaten = f"which {winners[0]} beats" if winners else "which nothing beats"
            return f"{candidates[name]}, {beaten}, among {len(got)}"
    return f"{len(got)} of them"


def no_worse(a: Triple, b: Triple) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a[2] >= b[2]


def front(beats: Callable[[Triple, Triple], bool]) -> Callable[[Candidates], list[str]]:
    """An answer with another rule of what beats what; none beats itself."""

    def answer(candidates: Candidates) -> list[str]:
        return [
            name
            for name, b in candidates.items()
            if not any(beats(a, b) for n, a in candidates.items() if n != name)
        ]

    return answer


def changed(change: Callable[[float, float, float], Triple]) -> Callable:
    """The front of other numbers."""
    return lambda c: pareto({name: change(*numbers) for name, numbers in c.items()})


def best_by(number: int, sign: int = 1) -> Callable[[Candidates], set[str]]:
    """All that are best in one number."""

    def answer(c: Candidates) -> set[str]:
        best = max(sign * numbers[number] for numbers in c.values())
        return {name for name, numbers in c.items() if sign * numbers[number] == best}

    return answer


def first_best_by(number: int, sign: int = 1) -> Callable[[Candidates], set[str]]:
    return lambda c: {max(c, key=lambda name: sign * c[name][number])}


def one_of_equals(order: Callable) -> Callable[[Candidates], list[str]]:
    return lambda c: list({c[name]: name for name in order(pareto(c))}.values())


BYTES, SPEEDUP, ACCURACY = (0, -1), (1,), (2,)

PARETO_MISTAKES = {
    "nothing is left. Each candidate is as good as itself: that must not remove it": (
        lambda c: [n for n in c if not any(no_worse(a, c[n]) for a in c.values())]
    ),
    "everything is left": lambda c: list(c),
    "those are the ones that are beaten": (
        lambda c: [name for name in c if name not in pareto(c)]
    ),
    "the speedup is turned round: more is better": changed(lambda b, s, a: (b, -s, a)),
    "the bytes are turned round: fewer are better": changed(lambda b, s, a: (-b, s, a)),
    "the accuracy is turned round: more is better": changed(lambda b, s, a: (b, s, -a)),
    "the speedup is left out": changed(lambda b, s, a: (b, 1, a)),
    "the accuracy is left out": changed(lambda b, s, a: (b, s, 1)),
    "the bytes are left out": changed(lambda b, s, a: (1, s, a)),
    "that is the smallest; the other two numbers are left out": best_by(*BYTES),
    "that is the fastest; the other two numbers are left out": (
        best_by(*SPEEDUP),
        first_best_by(*SPEEDUP),
    ),
    "that is the most accurate; the other two numbers are left out": (
        best_by(*ACCURACY),
        first_best_by(*ACCURACY),
    ),
    "that is the best in each number. `middle` is best in none, but beaten by none": (
        lambda c: {
            *first_best_by(*BYTES)(c),
            *first_best_by(*SPEEDUP)(c),
            *first_best_by(*ACCURACY)(c),
        }
    ),
    "those are all that are best in some number. `middle` is best in none, but"
    " beaten by none": (
        lambda c: best_by(*BYTES)(c) | best_by(*SPEEDUP)(c) | best_by(*ACCURACY)(c)
    ),
    "`exact` and `exact too` are equal, and have removed each other": front(no_worse),
    "`exact` and `exact too` are equal; neither beats the other, so both stay": (
        one_of_equals(list),
        one_of_equals(reversed),
    ),
    "`fast` is as small and as fast as `nearly fast`, and more accurate: that"
    " beats it": (front(lambda a, b: a[0] < b[0] and a[1] > b[1] and a[2] > b[2])),
    "it returns True and False": lambda c: [name in pareto(c) for name in c],
    "it returns the numbers": lambda c: [c[name] for name in pareto(c)],
    "it returns positions": lambda c: [list(c).index(name) for name in pareto(c)],
    "it returns str; return a list of names": lambda c: pareto(c)[0],
    "is in it twice; each name belongs there once": lambda c: [*pareto(c), *pareto(c)],
    "'nobody', which is no name of a candidate": lambda c: [*pareto(c), "nobody"],
}

# -------------------------------------------------------------------------- my_pipeline

# how many classes further the validation labels of the rehearsal are: what is worn on
# the body becomes a shoe or a bag, which no honest network confuses with it
WRONG_BY = 5


def check_my_pipeline(answer: Callable) -> None:
    """Runs it on 1,280 training and 640 validation pictures, the labels of the latter
    all wrong. Typical mistakes: the size or the network returned, another path, no
    ONNX, one picture only, weights in another file, a head missing, BatchNorm in
    training mode, trained on validation pictures."""
    pictures = data.load()
    train, honest = _copy(pictures.train[:1280]), _copy(pictures.validation[:640])
    validation = _copy(honest)
    validation.labels.add_(WRONG_BY).remainder_(len(data.CLASSES))
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
        _check_file(path, honest[:200])
        _check_not_learned(path, honest)


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
            path, validation.images, validation.labels, rounds=1, seconds=120
        )
    except capstone.Refused as reason:
        raise WrongAnswer(f"its file would get no score: {reason}") from None


def _check_not_learned(path: Path, honest: Split) -> None:
    """Whether what it gets wrong is what the wrong labels of the validation pictures
    said. Who did not learn from them gives a shoe for a shirt no more often than any
    other class."""
    said = training.predict_logits(deploy.Session(path), honest.images).argmax(1)
    wrong = said != honest.labels
    learned = said == (honest.labels + WRONG_BY) % len(data.CLASSES)
    expected = int(wrong.sum()) / (len(data.CLASSES) - 1)
    # far beyond chance, also for a network that is as good as untrained
    if int(learned.sum()) > 1.5 * expected + 4 * expected**0.5 + 3:
        raise WrongAnswer(
            "its file has learned from the validation pictures: their labels were wrong"
            f" in this rehearsal, and to {int(learned.sum())} of {len(said)} pictures"
            " it gives just that label. Train on `train` alone; `validation` is to"
            " choose with."
        )


def onnx_file(
    path: Path,
    *nodes: tuple[str, list[str], list[str]],
    batch: str | int = "n",
    classes: int = 10,
    elsewhere: bool = False,
) -> Path:
    """A linear network as an ONNX file: pictures -> flat -> scores, from there nodes
    (operation, inputs, outputs)."""
    steps = [
        ("Flatten", ["pictures"], ["flat"]),
        ("MatMul", ["flat", "weight"], ["scores"]),
        *nodes,
    ]
    weight = numpy_helper.from_array(torch.randn(784, classes).numpy(), "weight")
    if elsewhere:
        external_data_helper.set_external_data(weight, "weights.bin")
    ends = [
        ("pictures", [batch, 1, 28, 28]),
        ("outputs" if nodes else "scores", [batch, classes]),
    ]
    pictures, outputs = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in ends
    )
    graph = helper.make_graph(
        [helper.make_node(kind, given, made) for kind, given, made in steps],
        "graph",
        [pictures],
        [outputs],
        [weight],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    path.write_bytes(model.SerializeToString())
    return path


def pictures_changed(train: Split, validation: Split, path: Path) -> Path:
    train.images.mul_(2)
    return onnx_file(path)


def trained_on(*which: str) -> Callable[[Split, Split, Path], Path]:
    """An answer that trains a linear network on `train`, on `validation` or on both."""

    def answer(train: Split, validation: Split, path: Path) -> Path:
        parts = [{"train": train, "validation": validation}[name] for name in which]
        images, labels = (
            torch.cat([getattr(part, name) for part in parts])
            for name in ("images", "labels")
        )
        network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        recipe = training.Recipe(epochs=10, batch_size=64, flip=False)
        training.fit(network, Split(images, labels), recipe, progress=False)
        deploy.to_onnx(network, images[:1], path)
        return path

    return answer


def weights_alone(train: Split, validation: Split, path: Path) -> Path:
    torch.save(nn.Linear(784, 10).state_dict(), path)
    return path


PIPELINE_MISTAKES = {
    "it returns a network": lambda train, validation, path: nn.Linear(784, 10),
    "the bytes, which to_onnx": (
        lambda train, validation, path: onnx_file(path).stat().st_size
    ),
    "it returns bytes; return the path": (
        lambda train, validation, path: onnx_file(path).read_bytes()
    ),
    "write to the `path` that it is given": (
        lambda train, validation, path: Path("mine.onnx")
    ),
    "but there is no file": lambda train, validation, path: path,
    "is no sound ONNX file": weights_alone,
    "in another file": (
        lambda train, validation, path: onnx_file(path, elsewhere=True)
    ),
    "it takes batches of one size only": (
        lambda train, validation, path: onnx_file(path, batch=1)
    ),
    "wanted are ten finite numbers": (
        lambda train, validation, path: onnx_file(path, classes=64)
    ),
    "got another answer alone than among others": (
        lambda train, validation, path: onnx_file(
            path,
            ("Transpose", ["scores"], ["turned"]),
            ("Softmax", ["turned"], ["shares"]),  # over the pictures of the batch
            ("Transpose", ["shares"], ["outputs"]),
        )
    ),
    "it has changed the pictures in `train`": pictures_changed,
    "its file has learned from the validation pictures": (
        trained_on("validation"),
        trained_on("train", "validation"),
    ),
}

EXERCISES = [
    Exercise(
        pareto,
        "lessons/12_capstone/exercises.py",
        asked="a list of names",
        cases=[
            Case("of the eight candidates", (SOME,)),
            *many_candidates(),
            Case("of four of which three are worse in one thing alone", (ALONE,)),
        ],
        mistakes=PARETO_MISTAKES,
        read=names,
        show=named,
        also_right={
            "as hinted": """
                def pareto(candidates):
                    def beats(a, b):
                        return a[0] <= b[0] and a[1] >= b[1] and a[2] >= b[2] and a != b

                    return [
                        n
                        for n, b in candidates.items()
                        if not any(beats(a, b) for a in candidates.values())
                    ]
            """,
            "numpy": """
                def pareto(candidates):
                    table = np.array([*candidates.values()]) * [-1, 1, 1]
                    as_good = (table[:, None] >= table).all(2)
                    beaten = (as_good & ~as_good.T).any(0)
                    return np.array([*candidates])[~beaten]
            """,
            "loops": """
                def pareto(candidates):
                    front = set(candidates)
                    for name, (size, speedup, accuracy) in candidates.items():
                        for other, (b, s, a) in candidates.items():
                            as_good = b <= size and s >= speedup and a >= accuracy
                            better = b < size or s > speedup or a > accuracy
                            if as_good and better:
                                front.discard(name)
                    return front
            """,
        },
    ),
    Exercise(
        my_pipeline,
        "lessons/12_capstone/exercises.py (the reference solution)",
        mistakes=PIPELINE_MISTAKES,
        more=check_my_pipeline,
        seconds=120,  # it trains
        also_right={
            "exported": """
                def my_pipeline(train, validation, path):
                    from utils import deploy

                    network = torch.nn.Sequential(
                        torch.nn.Flatten(), torch.nn.Linear(784, 10)
                    )
                    deploy.to_onnx(network, train.images[:1], path)
                    return str(path)
            """,
            "trained, and chosen by validation": """
                def my_pipeline(train, validation, path):
                    from utils import deploy, training

                    found = {}
                    for epochs in (1, 4):
                        network = torch.nn.Sequential(
                            torch.nn.Flatten(), torch.nn.Linear(784, 10)
                        )
                        recipe = training.Recipe(epochs=epochs, batch_size=64)
                        training.fit(network, train, recipe, progress=False)
                        found[training.evaluate(network, validation)] = network
                    deploy.to_onnx(found[max(found)], train.images[:1], path)
                    return path
            """,
            "by hand": """
                def my_pipeline(train, validation, path):
                    from onnx import TensorProto, helper, numpy_helper

                    means = torch.stack(
                        [
                            train.images[train.labels == c].mean(0).flatten()
                            for c in range(10)
                        ],
                        1,
                    )
                    shapes = {"x": ["n", 1, 28, 28], "y": ["n", 10]}
                    ends = [
                        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                        for name, shape in shapes.items()
                    ]
                    nodes = [
                        helper.make_node("Flatten", ["x"], ["flat"]),
                        helper.make_node("MatMul", ["flat", "means"], ["y"]),
                    ]
                    stored = [numpy_helper.from_array(means.numpy(), "means")]
                    graph = helper.make_graph(
                        nodes, "means", ends[:1], ends[1:], stored
                    )
                    model = helper.make_model(
                        graph,
                        opset_imports=[helper.make_opsetid("", 18)],
                        ir_version=10,
                    )
                    path.write_bytes(model.SerializeToString())
                    return path
            """,
        },
    ),
]
