"""The exercises of all lessons, found by folder: right answers pass however they are
written, and each mistake is told its own reason."""

import ast
import copy
import dataclasses
import doctest
import re
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import torch

from utils import exercises, limits
from utils.exercises import (
    LESSONS,
    Case,
    Exercise,
    WrongAnswer,
    check,
    close,
    drawn,
    find,
    is_untouched,
    lesson_exercises,
    lesson_mistakes,
    listed,
    refuse_changed,
)

FILES = sorted(path.parent.name for path in LESSONS.glob("*/exercises.py"))


def readable(lesson: str) -> dict[str, Exercise]:
    """The exercises of a lesson; none if its file is broken, which is one test's
    matter."""
    try:
        return lesson_exercises(lesson)
    except Exception:
        return {}


BY_LESSON = {lesson: readable(lesson) for lesson in FILES}
EXERCISES = {
    name: exercise for found in BY_LESSON.values() for name, exercise in found.items()
}
MISTAKES = {
    f"{name}: {reason}"[:70] + f" ({number})": (exercise, reason, function)
    for name, exercise in EXERCISES.items()
    for number, (reason, function) in enumerate(exercise.known_mistakes())
}
ALSO_RIGHT = {
    f"{name}: {way}": (exercise, source)
    for name, exercise in EXERCISES.items()
    for way, source in exercise.also_right.items()
}
# given no tensor, or asked to change it: these look themselves
LOOK_THEMSELVES = ("held_step", "ticket", "my_pipeline")
WITH_MORE = {
    name: each
    for name, each in EXERCISES.items()
    if each.more is not None and name not in LOOK_THEMSELVES
}
WITH_CASES = {name: each for name, each in EXERCISES.items() if each.cases}

each_exercise = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
each_table = pytest.mark.parametrize("exercise", WITH_CASES.values(), ids=WITH_CASES)


# where a lesson asks for its exercises
SOURCES = sorted([*LESSONS.glob("*/lab.py"), *LESSONS.glob("*/further.py")])


def stubs() -> dict[str, tuple[str, ast.FunctionDef]]:
    """The functions of all labs whose body is a docstring and `...`: lesson and source
    by name."""
    found = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and [
                ast.unparse(part) for part in node.body[1:]
            ] == ["..."]:
                assert node.name not in found, f"two labs ask for {node.name}"
                found[node.name] = path.parent.name, node
    return found


STUBS = stubs()


def define(source: str, name: str):
    """The function `name` that `source` defines."""
    scope = {"torch": torch, "np": np}
    exec(textwrap.dedent(source), scope)
    return scope[name]


def stub_of(exercise: Exercise):
    assert exercise.name in STUBS, f"no lab.py has a stub of {exercise.name}"
    return define(ast.unparse(STUBS[exercise.name][1]), exercise.name)


def refusal(exercise: Exercise, answer) -> str:
    """What `check` says against an answer."""

    def named(*arguments, **keywords):
        return answer(*arguments, **keywords)

    named.__name__ = exercise.name
    with pytest.raises(WrongAnswer) as caught:
        check(named)
    message = str(caught.value)
    assert message.startswith(f"{exercise.name}: ")
    return message


# ----------------------------------------------------------------- stubs and references


@pytest.mark.parametrize("lesson", FILES)
def test_the_file_of_each_lesson_can_be_read(lesson):
    assert lesson_exercises(lesson)


def test_each_lessons_exercises_are_those_that_its_lab_asks_for():
    asked = {name: lesson for name, (lesson, _) in STUBS.items()}
    kept = {name: lesson for lesson, found in BY_LESSON.items() for name in found}
    assert kept == asked


def test_the_list_that_is_read_without_running_a_file_is_complete():
    assert listed() == {
        name: lesson for lesson, found in BY_LESSON.items() for name in found
    }
    assert all(find(name) is exercise for name, exercise in EXERCISES.items())


@each_exercise
def test_the_stub_as_it_stands_in_the_lab_is_untouched(exercise, capsys):
    stub = stub_of(exercise)
    assert stub.__doc__ and is_untouched(stub)
    assert check(stub) is exercise.right
    printed = capsys.readouterr().out
    assert printed.startswith(f"{exercise.name}: not written yet. ")
    assert exercise.source in printed and printed.count("\n") == 1


@each_exercise
def test_running_the_check_again_does_not_praise_an_untouched_exercise(
    exercise, capsys
):
    """`f = check(f)` binds f to the course's function; the cell run once more must not
    call that the learner's."""
    again = check(stub_of(exercise))
    capsys.readouterr()
    assert check(again) is exercise.right
    assert "not written yet" in capsys.readouterr().out


@each_exercise
def test_the_labs_text_calls_the_check_once(exercise):
    call = f"{exercise.name} = check({exercise.name})"
    texts = [path.read_text(encoding="utf-8") for path in SOURCES]
    assert sum(call in text for text in texts) == 1


@each_exercise
def test_the_reference_passes(exercise):
    exercise.test(exercise.right)


@each_exercise
def test_the_source_that_is_named_to_the_learner_exists(exercise):
    file, *place = re.sub(r"[()]", " ", exercise.source).split()
    text = (LESSONS.parent / file).read_text(encoding="utf-8")
    name = exercise.name if file.startswith("lessons/") else place[-1]
    assert re.search(rf"^(def|class) {name}\(", text, re.MULTILINE)


# ------------------------------------------------------------------------ wrong answers


@pytest.mark.parametrize(
    ("exercise", "reason", "function"), MISTAKES.values(), ids=MISTAKES
)
def test_a_mistake_is_refused_for_its_own_reason(exercise, reason, function):
    message = refusal(exercise, function)
    told = [each for each in exercise.mistakes if each in message]
    # one reason may be the beginning of another
    assert told and max(told, key=len) == reason, message


@each_exercise
def test_at_least_three_mistakes_are_told_apart(exercise):
    assert len(exercise.mistakes) >= 3


@each_exercise
def test_an_answer_that_raises_is_reported_with_its_exception(exercise):
    def broken(*_, **__):
        raise KeyError("my own mistake")

    broken.__name__ = exercise.name
    expected = f"^{exercise.name}: it stopped with KeyError: 'my own mistake'"
    with pytest.raises(WrongAnswer, match=expected) as caught:
        check(broken)
    assert isinstance(caught.value.__cause__, KeyError)


@each_exercise
def test_a_missing_return_is_named(exercise):
    if exercise.name == "held_step":
        pytest.skip("works in place, and returns nothing")
    message = refusal(exercise, lambda *arguments: print(end=""))
    assert re.search(r"Is (a `return`|`return path`) missing\?", message)


@each_table
@pytest.mark.parametrize("got", [float("nan"), "text", [1, 2, 3, 4, 5, 6, 7], object()])
def test_what_is_no_answer_at_all_is_refused_by_what_it_is(exercise, got):
    message = refusal(exercise, lambda *arguments: copy.copy(got))
    assert "it stopped" not in message
    assert ": " in message and "right:" not in message


def off_by_a_bit(value):
    """Another answer of the same form."""
    if isinstance(value, torch.Tensor):
        other = value.clone()
        if other.dtype == torch.bool:
            return other.logical_not_() if other.ndim == 0 else other.roll(1, 0)
        other.view(-1)[-1] += 3
        return other
    if isinstance(value, (list, tuple)):
        return type(value)([*value[:-1], off_by_a_bit(value[-1])]) if value else value
    return value + 17 if isinstance(value, (int, float)) else value + "!"


@each_table
def test_an_unknown_mistake_is_shown_with_what_would_be_right(exercise):
    case = exercise.cases[0]

    def answer(*arguments):
        return off_by_a_bit(exercise.right(*arguments))

    message = refusal(exercise, answer)
    assert message.startswith(f"{exercise.name}: {case.said} it returns ")
    assert "; it must be " in message or "is right:" in message


@each_table
def test_an_answer_that_changes_what_it_was_given_is_told_so(exercise):
    names = list(stub_of(exercise).__code__.co_varnames)

    def meddles_with(position):
        def answer(*arguments):
            result = exercise.right(*copy.deepcopy(arguments))
            value = arguments[position]
            with torch.no_grad():
                value.clear() if hasattr(value, "clear") else value.zero_()
            return result

        return answer

    for position, value in enumerate(exercise.cases[0].arguments):
        if isinstance(value, (list, dict)) or (
            isinstance(value, torch.Tensor) and value.any()
        ):
            message = refusal(exercise, meddles_with(position))
            assert f"it has changed the `{names[position]}` it was given" in message


def spin():
    while True:
        pass


def hoard():
    kept = []
    while True:
        kept.append(bytearray(10_000_000))


def recurse():
    return recurse()


WAKE = threading.Event()  # what waits for it sleeps until the test is over


@pytest.mark.parametrize(
    ("endless", "said"),
    [
        (spin, "it has not ended after 0.5 s. Is there a loop"),
        (WAKE.wait, "it has not ended after 0.5 s, and goes on behind"),
        (hoard, "GB of memory, and wants more. Is there a loop"),
        (recurse, "it stopped with RecursionError"),
        (sys.exit, "it stopped with SystemExit"),
    ],
    ids=["loop", "sleep", "memory", "recursion", "exit"],
)
def test_an_answer_without_an_end_is_told_so(monkeypatch, endless, said):
    monkeypatch.setattr(limits, "GRACE", 0.5)
    WAKE.clear()
    seconds = 0.5
    if endless is hoard:
        monkeypatch.setattr(limits, "GROWTH", 0.2e9)
        seconds = 60
    quick = dataclasses.replace(find("csr_bytes"), seconds=seconds)
    monkeypatch.setattr(exercises, "find", lambda name: quick)
    try:
        assert said in refusal(quick, lambda *arguments: endless())
    finally:
        WAKE.set()


def test_a_wrong_mask_is_drawn_beside_the_right_one():
    def magnitude_mask(weight, sparsity):
        return weight.abs() < weight.abs().flatten().sort().values[7]

    with pytest.raises(WrongAnswer) as caught:
        check(magnitude_mask)
    said = caught.value._render_traceback_()
    assert said[0].startswith("Not yet: magnitude_mask: ")
    assert said[1:] == [
        "yours       right",
        "o x x # #   # . . # #",
        "# # o o x   # # # # .",
        "# kept, . pruned; x kept and must go, o pruned and must stay",
    ]


@pytest.mark.parametrize(
    ("got", "wanted"),
    [
        (torch.ones(2, 2), torch.ones(2, 2, dtype=torch.bool)),
        (torch.ones(2, dtype=torch.bool), torch.ones(2, dtype=torch.bool)),
        (torch.ones(2, 3, dtype=torch.bool), torch.ones(3, 2, dtype=torch.bool)),
        (torch.ones(2, 99, dtype=torch.bool), torch.zeros(2, 99, dtype=torch.bool)),
        (None, torch.ones(2, 2, dtype=torch.bool)),
    ],
)
def test_what_is_no_small_mask_is_not_drawn(got, wanted):
    assert drawn(got, wanted) == []


def test_every_check_is_over_within_two_minutes():
    assert all(0 < exercise.seconds <= 120 for exercise in EXERCISES.values())
    assert sum(exercise.seconds > 40 for exercise in EXERCISES.values()) <= 1


# what only a later call of a check changes: no case has shown it
@pytest.mark.parametrize("exercise", WITH_MORE.values(), ids=WITH_MORE)
def test_a_change_in_place_is_noticed_in_every_call(exercise):
    calls, own = [], len(exercise.cases)

    def meddles_later(*arguments):
        result = exercise.right(*copy.deepcopy(arguments))
        calls.append(arguments)
        tensor = next((a for a in arguments if isinstance(a, torch.Tensor)), None)
        if len(calls) > own and tensor is not None:
            tensor.copy_(~tensor if tensor.dtype == torch.bool else tensor + 1)
        return result

    assert re.search(
        "it (has changed|changes) the `?labels|it has changed the `",
        refusal(exercise, meddles_later),
    )


def test_what_is_given_may_hold_nan_and_tensors_in_lists():
    nan = torch.tensor([1.0, float("nan")])
    for given in ([nan, nan], {"a": nan}, (1, float("nan"), "text"), [[nan], {}]):
        before = copy.deepcopy(given)
        refuse_changed("given", given, before)
    for change, given in (
        (lambda g: g[0].add_(1), [nan.clone()]),
        (lambda g: g["a"].resize_(1), {"a": nan.clone()}),
        (lambda g: g.update(b=1), {"a": nan}),
        (lambda g: g.append(2), [1]),
    ):
        before = copy.deepcopy(given)
        change(given)
        with pytest.raises(WrongAnswer, match="it has changed the `given`"):
            refuse_changed("given", given, before)


# ------------------------------------------------------------------------ right answers


@pytest.mark.parametrize(("exercise", "source"), ALSO_RIGHT.values(), ids=ALSO_RIGHT)
def test_a_right_answer_passes_however_it_is_written(exercise, source, capsys):
    answer = define(source, exercise.name)
    assert check(answer) is answer
    printed = capsys.readouterr().out
    assert printed == f"{exercise.name}: right. The lab goes on with yours.\n"


@each_exercise
def test_at_least_two_other_ways_to_write_it_are_known(exercise):
    assert len(exercise.also_right) >= 2


# -------------------------------------------------------------------------------- check


def test_an_unknown_function_lists_the_exercises():
    def something_else():
        return 1

    with pytest.raises(ValueError, match="something_else is no exercise") as caught:
        check(something_else)
    assert all(name in str(caught.value) for name in EXERCISES)
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
    def csr_bytes(rows, kept):
        return 4 * kept

    with pytest.raises(WrongAnswer) as caught:
        check(csr_bytes)
    assert capsys.readouterr().out == ""
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


# --------------------------------------------------------------------- lessons' folders

DOUBLE = """
from utils.exercises import Case, Exercise

def double(x): return 2 * x

EXERCISES = [Exercise(
    double, "lessons/13_new/exercises.py", asked="one number",
    cases=[Case("for 3", (3,)), Case("for 1", (1,))],
    mistakes={"that is the square": lambda x: x * x, "that is half": lambda x: x / 2,
              "that is nothing added": lambda x: x},
)]
"""


@pytest.fixture
def lessons(tmp_path, monkeypatch):
    """A folder of lessons: one that can be read, one that can not, one without
    exercises."""
    for name, text in {"13_new": DOUBLE, "14_broken": "import no_such_module"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "exercises.py").write_text(text)
    (tmp_path / "15_none").mkdir()
    monkeypatch.setattr(exercises, "LESSONS", tmp_path)
    exercises.load.cache_clear()
    yield tmp_path
    exercises.load.cache_clear()


def test_a_new_lessons_exercise_is_found_beside_a_broken_lesson(lessons, capsys):
    def double(x):
        return x + x

    assert check(double) is double
    assert lesson_mistakes("13_new")["double"][0] == "that is the square"
    assert lesson_exercises("15_none") == {}
    with pytest.raises(ModuleNotFoundError):
        lesson_exercises("14_broken")


def test_a_check_runs_the_file_of_its_own_lesson_only(lessons):
    (lessons / "14_broken" / "exercises.py").write_text(
        "raise SystemExit\nExercise(\n    other,\n"
    )
    assert listed() == {"double": "13_new", "other": "14_broken"}
    assert find("double").name == "double"


def test_a_check_of_lab_00_does_not_import_the_tools_of_lab_12(tmp_path):
    code = (
        "import sys\nfrom utils.exercises import find\nfind('largest_safe_sparsity')\n"
        "assert not {'onnx', 'onnxruntime', 'utils.capstone'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=LESSONS.parent)


# -------------------------------------------------------------------------- the machine


def test_of_mistakes_that_give_the_same_once_the_other_cases_decide(lessons):
    exercise = Exercise(
        lambda x: 2 * x,
        "nowhere",
        cases=[Case("for 2", (2,)), Case("for 3", (3,))],
        mistakes={"plus one": lambda x: x + 1, "minus": lambda x: 5 - x},
    )
    with pytest.raises(WrongAnswer, match="it returns 3, and 4 is right: minus"):
        exercise.test(lambda x: 5 - x)
    with pytest.raises(WrongAnswer, match="it returns 3, and 4 is right: plus one"):
        exercise.test(lambda x: x + 1)


@pytest.mark.parametrize(
    ("got", "wanted", "same"),
    [
        (9204.0, 9204, True),
        (3_612_673, 3_612_672, False),
        (np.float32(0.49), 0.49, True),
        (torch.tensor(0.5), 0.5, True),
        (0.5, torch.tensor(0.5), True),
        (3, torch.tensor(4), False),
        ([0.5], 0.5, False),
        (float("nan"), 0.5, False),
        (torch.ones(2), torch.ones(2, dtype=torch.bool), False),
        (torch.ones(2, dtype=torch.bool), torch.ones(2), False),
        (torch.ones(2, dtype=torch.int64), torch.ones(2, dtype=torch.int32), True),
        (torch.ones(2), torch.ones(2, dtype=torch.int32), False),
        (torch.ones(2, dtype=torch.int64), torch.ones(2), True),
        (np.array([1.0, 2.0]), [1.0, 2.0], True),
        ((1.0, 5), (1.0, ...), True),
        ((1.0,), (1.0, 2.0), False),
        ("a", "a", True),
        ("1", 1, False),
    ],
)
def test_answers_are_the_same_in_form_and_number(got, wanted, same):
    assert close(got, wanted) == same


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(exercises).failed == 0
