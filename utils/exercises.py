"""What an exercise of a lab is, and how a learner's answer to it is checked.

Each lesson keeps its own in lessons/<lesson>/exercises.py, in a list EXERCISES. They
are found by folder and read one lesson at a time: what another lesson imports, or gets
wrong, is no matter here.
"""

import copy
import dis
import functools
import importlib.util
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.limits import Unending, within

LESSONS = Path(__file__).parents[1] / "lessons"
# how an exercises.py begins each of its exercises: with the function that is asked for
LISTED = re.compile(r"\bExercise\(\s*(?:right=)?(\w+),")
CONVERTED = ("integers", "floats")  # integers will do where floats are wanted
SHOWN = 12  # a tensor of more entries is shown by the first that is wrong


class WrongAnswer(Exception):  # noqa: N818 - a learner reads it: no error of a program
    """An exercise's answer is not right; the message says what it did and what would be
    right.

    drawing: lines that show it, where a picture says more than a sentence.
    """

    def __init__(self, message: str, drawing: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.drawing = list(drawing)

    # IPython shows this instead of a traceback
    def _render_traceback_(self) -> list[str]:
        return [f"Not yet: {self}", *self.drawing]


def drawn(got: Any, wanted: Any) -> list[str]:
    """Lines with a mask beside the one that is wanted, what is wrong marked; none
    unless both are small masks of one shape.

    >>> for line in drawn(torch.tensor([[True, True]]), torch.tensor([[True, False]])):
    ...     print(line)
    yours   right
    # x     # .
    # kept, . pruned; x kept and must go, o pruned and must stay
    """
    both = (got, wanted)
    if not all(isinstance(m, Tensor) and m.dtype == torch.bool for m in both):
        return []
    if got.ndim != 2 or got.shape != wanted.shape or max(got.shape) > SHOWN:
        return []
    marks = {(1, 1): "#", (0, 0): ".", (1, 0): "x", (0, 1): "o"}
    pairs = zip(got.int().tolist(), wanted.int().tolist(), strict=True)
    rows = [
        (
            " ".join(marks[pair] for pair in zip(ours, right, strict=True)),
            " ".join(marks[each, each] for each in right),
        )
        for ours, right in pairs
    ]
    width = max(5, len(rows[0][0]))
    rows = [("yours", "right"), *rows]
    legend = "# kept, . pruned; x kept and must go, o pruned and must stay"
    return [*(f"{yours:<{width}}   {right}" for yours, right in rows), legend]


# -------------------------------------------------------------------------- an exercise


def show(value: Any, other: Any, *_: Any) -> str:
    """A value as a message shows it; of a large tensor the first entry that is not as
    in `other`, of a mask where it is True.

    >>> show(1732, None), show(0.48999, None), show(torch.tensor([1.0, 2.5]), None)
    ('1,732', '0.49', '1, 2.5')
    """
    if isinstance(value, Tensor):
        return _show_tensor(value.detach(), other)
    if isinstance(value, (list, tuple)):
        nested = any(
            getattr(part, "ndim", isinstance(part, (list, tuple))) for part in value
        )
        parts = [show(part, None) for part in value]
        return ", ".join(f"[{part}]" if nested else part for part in parts) or "nothing"
    if isinstance(value, bool) or number(value) is None:
        return str(value)
    value = float(value)
    return f"{int(value):,}" if value.is_integer() else f"{value:.4g}"


def _show_tensor(value: Tensor, other: Any) -> str:
    if value.numel() > SHOWN:
        alike = isinstance(other, Tensor) and value.shape == other.shape
        if alike and (wrong := (value != other).nonzero().tolist()):
            return f"{show(value[tuple(wrong[0])].item(), None)} at {wrong[0]}"
        return f"{value.numel():,} numbers"
    if value.dtype == torch.bool and value.ndim:
        places = value.nonzero().squeeze(1).tolist()
        where = f"at {show(places, None)}" if places else "nowhere"
        return f"True {where} ({len(places)} of {value.numel()})"
    return show(value.tolist(), None)


def number(value: Any) -> float | None:
    """The one number of Python, NumPy or torch that it is, or None."""
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else None
    if isinstance(value, (str, bytes)) or getattr(value, "ndim", 0):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def kind(tensor: Tensor) -> str:
    """Whether its entries are booleans, integers or floats."""
    if tensor.dtype == torch.bool:
        return "booleans"
    return "floats" if tensor.is_floating_point() else "integers"


def form(value: Any) -> str:
    """What a value is, apart from its numbers.

    >>> form(3.0), form([1, 2]), form(torch.zeros(2, 5))
    ('one number', 'a list of 2 values', 'a tensor of floats of shape [2, 5]')
    """
    if isinstance(value, Tensor) and value.ndim:
        return f"a tensor of {kind(value)} of shape {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        parts = [form(part) for part in value]
        told = (
            f" ({', '.join(parts)})" if any("tensor" in part for part in parts) else ""
        )
        return f"a {type(value).__name__} of {len(parts)} values{told}"
    return "one number" if number(value) is not None else type(value).__name__


def fits(got: Any, wanted: Any) -> bool:
    """Whether an answer is of the form of the one that is wanted."""
    if isinstance(wanted, Tensor) and wanted.ndim:
        if not isinstance(got, Tensor) or got.shape != wanted.shape:
            return False
        return kind(got) == kind(wanted) or (kind(got), kind(wanted)) == CONVERTED
    if isinstance(wanted, (tuple, list)):
        as_many = hasattr(got, "__len__") and len(got) == len(wanted)
        return as_many and all(map(fits, got, wanted))
    if number(wanted) is not None:
        return number(got) is not None
    return wanted is ... or type(got) is type(wanted)


def close(got: Any, wanted: Any, *_: Any) -> bool:
    """Whether an answer is of that form, and equal but for rounding. For a part that is
    `...` anything will do."""
    if not fits(got, wanted):
        return False
    if isinstance(wanted, Tensor) and not wanted.ndim:
        wanted = wanted.item()
    if isinstance(wanted, Tensor):
        if not wanted.is_floating_point():
            return torch.equal(got.long(), wanted.long())
        pair = got.detach().double(), wanted.detach().double()
        return torch.allclose(*pair, rtol=1e-4, atol=1e-5)
    if isinstance(wanted, (tuple, list)):
        return all(map(close, got, wanted))
    if isinstance(wanted, float):
        return math.isclose(number(got) or 0.0, wanted, rel_tol=1e-5, abs_tol=1e-6)
    return wanted is ... or bool(got == wanted)


@dataclass(frozen=True)
class Case:
    """One call that every answer must get right.

    said: the call in words; a message begins with it.  arguments: each answer gets a
        copy of its own.  hint: ends the message when no known mistake is recognised.
    """

    said: str
    arguments: tuple
    hint: str = ""


@dataclass(frozen=True)
class Exercise:
    """A function that the learner writes.

    right: the course's own, used while the stub is untouched; its name is the
        exercise's.
    source: where a reader finds it.
    asked: what is to be returned, in words.
    cases: calls that every answer must get right.
    mistakes: by reason the function that makes the mistake, or several; an answer that
        returns the same is told the reason. `...` stands for a part that may be right.
    more: checks what no case says, with reasons of its own: they stand among `mistakes`
        too, as words that whoever makes the mistake must read.
    also_right: other ways to write it, source by name.
    read: brings what is returned into the form that is compared, or raises WrongAnswer.
    same, show: how two answers are compared and shown, given the arguments too.
    watch: whether to look at what `more` hands it: not where it is asked to change
        that, or `more` has words of its own for it.
    hidden: calls for grades where those that utils.hidden derives from `cases` do not
        tell every mistake.
    seconds: how long a check may take before the answer is taken for endless; the first
        use of an optimizer alone can take 10 on a busy machine.
    """

    right: Callable
    source: str
    asked: str = ""
    cases: Sequence[Case] = ()
    mistakes: Mapping[str, Callable | Sequence[Callable]] = field(default_factory=dict)
    more: Callable[[Callable], None] | None = None
    also_right: Mapping[str, str] = field(default_factory=dict)
    read: Callable[[Any], Any] = lambda got: got
    same: Callable[..., bool] = close
    show: Callable[..., str] = show
    watch: bool = True
    hidden: Sequence[Case] = ()
    seconds: float = 40

    @property
    def name(self) -> str:
        return self.right.__name__

    def known_mistakes(self) -> list[tuple[str, Callable]]:
        """Each reason with a function that makes the mistake."""
        return [
            (reason, function)
            for reason, made_by in self.mistakes.items()
            for function in ([made_by] if callable(made_by) else made_by)
        ]

    def test(self, answer: Callable) -> None:
        """Nothing, if the answer is right.

        Raises:
            WrongAnswer: it is not; says why.
        """
        for case in self.cases:
            self._test_case(answer, case)
        if self.more is not None:
            self.more(self._watched(answer) if self.watch else answer)

    def _watched(self, answer: Callable) -> Callable:
        """The answer, refused where it changes numbers that it is given."""
        names = list(inspect.signature(self.right).parameters)

        @functools.wraps(answer)
        def watched(*given: Any) -> Any:
            before = [_numbers(value) for value in given]
            got = answer(*given)
            for name, value, old in zip(names, given, before, strict=True):
                refuse_changed(name, value, old)
            return got

        return watched

    def _test_case(self, answer: Callable, case: Case) -> None:
        given = copy.deepcopy(case.arguments)
        got = answer(*given)
        if got is None:
            raise WrongAnswer("it returns None. Is a `return` missing?")
        names = inspect.signature(self.right).parameters
        for name, value, before in zip(names, given, case.arguments, strict=True):
            refuse_changed(name, value, before)
        got, right = self.read(got), self.outcome(self.right, case)
        if self.same(got, right, *case.arguments):
            return
        seen = self.show(got, right, *case.arguments)
        better = self.show(right, got, *case.arguments)
        if reason := self._recognised(answer, got, case):
            raise WrongAnswer(
                f"{case.said} it returns {seen}, and {better} is right: {reason}.",
                drawn(got, right),
            )
        if not fits(got, right):
            raise WrongAnswer(
                f"{case.said} it returns {form(got)}, {seen}; it must be {form(right)}:"
                f" {self.asked}."
            )
        raise WrongAnswer(
            f"{case.said} it returns {seen}; it must be {better}. {case.hint}".rstrip(),
            drawn(got, right),
        )

    def outcome(self, function: Callable, case: Case) -> Any:
        """What it gives, as it is compared; None if it stops, or gives no such
        thing."""
        try:
            return self.read(function(*copy.deepcopy(case.arguments)))
        except Exception:  # noqa: BLE001 - a learner's answer may stop with anything
            return None

    def _recognised(self, answer: Callable, got: Any, case: Case) -> str | None:
        """The reason of the mistake that gives the same. Where several do, the other
        cases tell them apart."""

        def agrees(value: Any, mistaken: Callable, case: Case) -> bool:
            return self.same(value, self.outcome(mistaken, case), *case.arguments)

        def agreements(mistake: tuple[str, Callable]) -> int:
            return sum(
                agrees(self.outcome(answer, other), mistake[1], other)
                for other in self.cases
            )

        right = self.outcome(self.right, case)
        found = [
            (reason, mistaken)
            for reason, mistaken in self.known_mistakes()
            if agrees(got, mistaken, case) and not agrees(right, mistaken, case)
        ]
        if len(found) > 1:
            found = [max(found, key=agreements)]
        return found[0][0] if found else None


def refuse_changed(name: str, value: Any, before: Any) -> None:
    """Refuse an answer that has changed an argument. What is neither a tensor nor made
    of lists and dicts is not looked at where `before` is `...`."""
    if same_numbers(value, before):
        return
    clone = f"{name}.clone()" if isinstance(before, Tensor) else f"{name}.copy()"
    if isinstance(before, (list, tuple, dict)) and _holds_tensors(before):
        clone = f"copy.deepcopy({name})"
    raise WrongAnswer(
        f"it has changed the `{name}` it was given (`+=` does that, and what ends"
        f" with `_`). Only look at it, or work on a copy, `{clone}`."
    )


def _holds_tensors(value: list | tuple | dict) -> bool:
    parts = value.values() if isinstance(value, dict) else value
    return any(isinstance(part, (Tensor, list, tuple, dict)) for part in parts)


def _numbers(value: Any) -> Any:
    """A copy of a tensor, or of what lists and dicts hold; `...` for anything else."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, (list, tuple)):
        return [_numbers(part) for part in value]
    if isinstance(value, dict):
        return {key: _numbers(part) for key, part in value.items()}
    return value if isinstance(value, (str, int, float)) else ...


def same_numbers(value: Any, before: Any) -> bool:
    """Whether a value is as it was, to the bit; NaN is as NaN."""
    if before is ...:
        return True
    if isinstance(before, Tensor):
        return (
            isinstance(value, Tensor)
            and (value.shape, value.dtype) == (before.shape, before.dtype)
            and torch.allclose(value, before, rtol=0, atol=0, equal_nan=True)
        )
    if isinstance(before, (list, tuple)):
        alike = isinstance(value, (list, tuple)) and len(value) == len(before)
        return alike and all(map(same_numbers, value, before))
    if isinstance(before, dict):
        alike = isinstance(value, dict) and [*value] == [*before]
        return alike and all(map(same_numbers, value.values(), before.values()))
    return bool(value == before) or value != value


def as_tensor(got: Any) -> Any:
    """What is returned where the lab goes on with a tensor: for `read`. Other clothes
    are refused, with what turns them into one."""
    if isinstance(got, (np.ndarray, list)):
        what = "a NumPy array" if isinstance(got, np.ndarray) else "a list"
        make = "torch.from_numpy" if isinstance(got, np.ndarray) else "torch.tensor"
        raise WrongAnswer(
            f"it returns {what}, and the lab goes on with tensors: end with"
            f" `{make}(...)`."
        )
    return got


# --------------------------------------------------------------------------- to find it


@functools.cache
def load(lesson: str, part: str = "exercises") -> ModuleType:
    """The module lessons/<lesson>/<part>.py; the second call returns the same.

    Raises:
        ValueError: there is no such file.
    """
    name, path = f"lessons.{lesson}.{part}", LESSONS / lesson / f"{part}.py"
    if not path.is_file():
        raise ValueError(f"lesson={lesson!r}: there is no lessons/{lesson}/{part}.py.")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lesson_exercises(lesson: str) -> dict[str, Exercise]:
    """The exercises of a lesson by name; none if it has no exercises.py."""
    if not (LESSONS / lesson / "exercises.py").is_file():
        return {}
    return {exercise.name: exercise for exercise in load(lesson).EXERCISES}


def lesson_mistakes(lesson: str) -> dict[str, list[str]]:
    """For each exercise of a lesson the reasons that its check knows to give."""
    return {
        name: list(exercise.mistakes)
        for name, exercise in lesson_exercises(lesson).items()
    }


def listed() -> dict[str, str]:
    """Each exercise's lesson by the exercise's name. Reads the files, and runs none."""
    return {
        name: path.parent.name
        for path in sorted(LESSONS.glob("*/exercises.py"))
        for name in LISTED.findall(path.read_text(encoding="utf-8"))
    }


def find(name: str) -> Exercise:
    """The exercise of that name; only its own lesson's file is run.

    Raises:
        ValueError: no exercise of that name; lists the known ones.
    """
    lessons = listed()
    if name not in lessons:
        raise ValueError(
            f"{name} is no exercise of the course: no lessons/*/exercises.py has one of"
            f" that name. Exercises: {', '.join(lessons)}."
        )
    return lesson_exercises(lessons[name])[name]


# ----------------------------------------------------------------------------- to check


def check(answer: Callable) -> Callable:
    """Check an exercise by the name of its function; return the function that the rest
    of the lab uses.

    The learner's own when it is right; the course's when the exercise is untouched.

    Raises:
        WrongAnswer: says what is wrong, by an example.
        ValueError: no exercise of that name.
    """
    name = getattr(answer, "__name__", repr(answer))
    exercise = find(name)
    # the former when the cell is run once more
    if answer is exercise.right or is_untouched(answer):
        print(
            f"{name}: not written yet. The lab goes on with the course's own, from"
            f" {exercise.source}."
        )
        return exercise.right
    try:
        within(exercise.seconds, exercise.test, answer)
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - any, it is told
        cause = None if isinstance(problem, (WrongAnswer, Unending)) else problem
        raise told(name, problem) from cause
    print(f"{name}: right. The lab goes on with yours.")
    return answer


def told(name: str, problem: BaseException) -> WrongAnswer:
    """What a learner is told about an exercise that came to this."""
    if isinstance(problem, WrongAnswer):
        return WrongAnswer(f"{name}: {problem}", problem.drawing)
    if isinstance(problem, Unending):
        return WrongAnswer(
            f"{name}: {problem}. Is there a loop, or a call of itself, without an end?"
        )
    return WrongAnswer(f"{name}: it stopped with {type(problem).__name__}: {problem}")


def _stub() -> None: ...


def _stub_with_docstring() -> None:
    """..."""


def is_untouched(function: Callable) -> bool:
    """Whether a function's body is still only a docstring and `...`: its code does no
    more than this Python's code of such a stub, and loads nothing but None."""
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    stubs = [*dis.get_instructions(_stub), *dis.get_instructions(_stub_with_docstring)]
    # of a `pass`, and of names of an outer function that are not used
    harmless = {"NOP", "COPY_FREE_VARS", *(step.opname for step in stubs)}
    steps = list(dis.get_instructions(code))
    constants = [step.argval for step in steps if "CONST" in step.opname]
    return constants == [None] and all(step.opname in harmless for step in steps)
