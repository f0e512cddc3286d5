"""The process that judges: it reads submissions, one a line of JSON, and says of each
exercise what share of its points it gets and why. `autograde` starts some.

It runs nothing that a learner has written. Each call that a check makes of a learner's
function is a fork of this process, in a cage, that runs the function once and sends
back plain data; checks and comparisons are made here. The one exception is an open
task whose choice is no plain data but code: that is measured in the cage, too.
"""

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tools.classroom import cage, reading
from tools.classroom.cage import Escaped, Limits
from tools.classroom.plain import Other, Packer, Unpacker
from utils import exercises, hidden
from utils.exercises import LESSONS, Exercise, WrongAnswer, told
from utils.files import read_json
from utils.limits import Unending

LARGEST = 20_000_000  # bytes of a notebook
READING = 30.0  # seconds to read notebooks
SHORTEST, TIMES = 10.0, 30  # seconds for an exercise at least; as often the reference's
MEASURING = 150.0  # seconds for an open task
LONGEST_SAID = 1_000  # characters of a sentence to a learner
PLAIN_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    NameError,
    NotImplementedError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    ZeroDivisionError,
)
Verdict = dict[str, Any]


# ----------------------------------------------------------- a learner's function, away


class Away:
    """The learner's function, as the judge calls it: it runs in a cage each time."""

    def __init__(
        self, name: str, parts: list[str], seconds: float, trusted: bool, lesson: str
    ) -> None:
        self.name, self.parts = name, parts
        self.seconds, self.trusted = seconds, trusted
        self.left = seconds
        self.scope = prelude(lesson)  # loaded here, not in each fork

    def function(self) -> Callable:
        """A function of that name."""

        def answer(*given: Any) -> Any:
            return self.call(given)

        answer.__name__ = answer.__qualname__ = self.name
        return answer

    def call(self, given: tuple) -> Any:
        """What it returns; what it is given is left as it leaves it.

        Raises:
            Unending: it has used up its seconds.  WrongAnswer: its process ended.
            Exception: what it raised, by its name.
        """
        began = time.monotonic()
        paths = [one for one in given if isinstance(one, Path)]
        limits = Limits(max(self.left, 0.1), trusted=self.trusted)
        try:
            answer = cage.run(
                lambda: self._inside(given), limits, paths[0].parent if paths else None
            )
        except Escaped as problem:
            if problem.endless:
                raise Unending(f"it has not ended after {self.seconds:g} s") from None
            raise WrongAnswer(str(problem)) from None
        finally:
            self.left -= time.monotonic() - began
        return self._taken(given, answer)

    def _taken(self, given: tuple, answer: Any) -> Any:
        try:
            if not isinstance(answer, dict):
                raise ValueError("no plain data was sent")
            if "stopped" in answer:
                name, message = map(str, answer["stopped"])
            else:
                taker = Unpacker(given)
                for one, left in zip(given, answer["left"], strict=True):
                    if left is not None:
                        taker.put_back(one, left)
                return taker.unpack(answer["got"])
        except (KeyError, TypeError, ValueError) as error:
            raise WrongAnswer(f"what it gives back cannot be read: {error}") from None
        raise raised(name, message)

    def _inside(self, given: tuple) -> dict:
        """In the cage: define it, call it, pack what comes out."""
        try:
            function = reading.define(self.parts, dict(self.scope), self.name)
            packer = Packer(given)
            got = function(*given)
            left = [packer.left(one) for one in given]
            return {"got": packer.pack(got), "left": left}
        except BaseException as error:  # noqa: BLE001 - a learner's answer may stop so
            name, message = type(error).__name__, str(error)[:LONGEST_SAID]
            return {"stopped": [name, message]}


def raised(name: str, message: str) -> Exception:
    """The exception that was raised elsewhere, of the same name where it is known."""
    if name == "WrongAnswer":  # of what the check handed it
        return WrongAnswer(message)
    known = {kind.__name__: kind for kind in PLAIN_ERRORS}
    base: type[Exception] = known.get(name, Exception)
    say = {"__str__": lambda self: self.args[0]}
    kind: Any = type(name[:80] or "Exception", (base,), say)
    return kind(message)


@functools.cache
def prelude(lesson: str) -> dict[str, Any]:
    """What a learner's function finds even where its notebook has lost the imports:
    those of the lesson's lab, and the course's answers to all its exercises."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    for path in sorted((LESSONS / lesson).glob("*.py")):
        if path.stem in ("lab", "further"):
            text = path.read_text(encoding="utf-8")
            for one in reading.statements([text])[0]:
                if isinstance(one.node, (reading.ast.Import, reading.ast.ImportFrom)):
                    exec(one.text, scope)
    scope |= {"torch": torch, "np": __import__("numpy")}
    right = exercises.lesson_exercises(lesson)
    return scope | {name: one.right for name, one in right.items()}


# -------------------------------------------------------------------------- the verdict


@functools.cache
def seconds_for(name: str) -> float:
    """How long a learner's answer may take in all: 30 times as long as the course's,
    but at least 10 s, and at most as long as in the lab."""
    exercise = exercises.find(name)
    exercise.test(exercise.right)  # the first time something may be loaded
    began = time.monotonic()
    exercise.test(exercise.right)
    took = time.monotonic() - began
    return min(max(SHORTEST, TIMES * took), max(exercise.seconds, SHORTEST))


def judge(exercise: Exercise, away: Away, seed: str) -> Verdict:
    """Whether a written answer is right: by the check, then with other numbers."""
    answer = away.function()
    try:
        exercise.test(answer)
        hidden_test(exercise.name, seed).test(answer)
    except Exception as problem:  # noqa: BLE001 - a learner's answer may stop so
        said = told(exercise.name, problem)
        return verdict(exercise.name, 0.0, str(said), drawing=said.drawing)
    return verdict(exercise.name, 1.0, f"{exercise.name}: right.")


@functools.cache
def hidden_test(name: str, seed: str) -> hidden.Hidden:
    """The hidden test of an exercise, drawn once."""
    return hidden.Hidden(exercises.find(name), seed)


def verdict(name: str, share: float, said: str, **more: Any) -> Verdict:
    """The share of the points, 0 to 1, and the sentence."""
    return {"name": name, "share": share, "said": said[:LONGEST_SAID], **more}


def judge_exercise(name: str, found: Any, lesson: str, job: dict) -> Verdict:
    """The verdict on one exercise, whatever was found of it."""
    state = found.get("state") if isinstance(found, dict) else None
    if state == "missing":
        return verdict(name, 0.0, f"{name}: no function of that name was found.")
    if state == "untouched":
        return verdict(name, 0.0, f"{name}: not written yet.")
    try:
        parts = [str(part) for part in found["parts"]]
        shown = str(found["shown"])
    except (KeyError, TypeError):
        return verdict(name, 0.0, f"{name}: it cannot be read.")
    away = Away(name, parts, seconds_for(name), job["trusted"], lesson)
    return judge(exercises.find(name), away, job["seed"]) | {"shown": shown}


# --------------------------------------------------------------------------- the task


def judge_task(lesson: str, found: Any, job: dict) -> Verdict:
    """The verdict on the choice of the open task: in proportion to the goals met."""
    name = reading.CHOICE
    if not isinstance(found, dict) or found.get("state") != "written":
        return verdict(name, 0.0, f"{name}: nothing chosen yet.")
    warm()
    prelude(lesson)  # loaded here, not in each fork
    parts = [str(part) for part in found["parts"]]
    try:
        choice, code = _choice(lesson, parts, job["trusted"])
        measured = (
            _measured(lesson, json.dumps(choice), job["trusted"])
            if not code
            else _in_cage(
                lambda: _measure(lesson, _evaluated(lesson, parts)), job["trusted"]
            )
        )
        said = _goals(lesson, measured)
    except WrongAnswer as problem:
        said = verdict(name, 0.0, f"{name}: {problem}")
    return said | {"shown": str(found.get("shown", ""))}


def _evaluated(lesson: str, parts: list[str]) -> Any:
    return reading.define(parts, dict(prelude(lesson)), reading.CHOICE)


def _choice(lesson: str, parts: list[str], trusted: bool) -> tuple[Any, bool]:
    """The choice, packed, and whether it is code."""

    def work() -> Any:
        return {"packed": Packer(()).pack(_evaluated(lesson, parts))}

    packed = _in_cage(work, trusted, SHORTEST).get("packed")
    try:
        return packed, _is_code(Unpacker(()).unpack(packed))
    except ValueError as problem:
        raise WrongAnswer(f"it cannot be read: {problem}") from None


def _is_code(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_is_code, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_is_code, value))
    return isinstance(value, Other)


@functools.lru_cache(maxsize=1000)
def _measured(lesson: str, packed: str, trusted: bool) -> dict[str, float]:
    """What a choice achieves that is plain data; the same choice is measured once."""
    choice = Unpacker(()).unpack(json.loads(packed))
    return _in_cage(lambda: _measure(lesson, choice), trusted)


def _measure(lesson: str, choice: Any) -> dict:
    found = exercises.load(lesson, "task").TASK.measure(choice)
    return {str(name): float(value) for name, value in found.items()}


def _in_cage(work: Callable[[], Any], trusted: bool, seconds: float = MEASURING) -> Any:
    """What work gives, as a dict.

    Raises:
        WrongAnswer: it stopped, or did not end.
    """

    def inside() -> Any:
        try:
            return work()
        except BaseException as error:  # noqa: BLE001 - a learner's code may stop so
            return {"stopped": [type(error).__name__, str(error)[:LONGEST_SAID]]}

    try:
        found = cage.run(inside, Limits(seconds, trusted=trusted))
    except Escaped as problem:
        raise WrongAnswer(f"{problem}.") from None
    if not isinstance(found, dict):
        raise WrongAnswer("what it gives back cannot be read.")
    if "stopped" in found:
        name, message = (*map(str, found["stopped"]), "", "")[:2]
        raise WrongAnswer(message if name == "ValueError" else f"{name}: {message}")
    return found


def _goals(lesson: str, measured: dict) -> Verdict:
    """The verdict on what was measured, with each goal's sentence."""
    task = exercises.load(lesson, "task").TASK
    goals = task.goals()
    if not all(type(measured.get(name)) is float for name in goals):
        raise WrongAnswer("what it gives back cannot be read.")
    missed = task.missed(measured)
    lines = [
        f"{name}: measured {measured[name]:.4g}, asked {way} {bound:g}:"
        f" {'missed' if name in missed else 'met'}"
        for name, (way, bound) in goals.items()
    ]
    met = len(goals) - len(missed)
    said = f"{reading.CHOICE}: {met} of {len(goals)} goals are met."
    return verdict(reading.CHOICE, task.share_met(measured), said, drawing=lines)


@functools.cache
def warm() -> None:
    """Load what PyTorch loads at the first step of an optimizer, before it forks."""
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    torch.optim.AdamW([weight]).step()


# ------------------------------------------------------------------------ a submission


def has_task(lesson: str) -> bool:
    """Whether a lesson has an open task."""
    return (LESSONS / lesson / "task.py").is_file()


def submission(job: dict) -> dict:
    """All verdicts on one submission.

    job: `lesson`; `notebooks`, their paths, the one that counts most last; `seed`;
    `trusted`.
    """
    lesson = job["lesson"]
    names = list(exercises.lesson_exercises(lesson))
    notebooks, problems = [], []
    for path in job["notebooks"]:
        try:
            notebooks.append(_opened(path))
        except (OSError, RuntimeError, ValueError) as error:
            problems.append(str(error))
    others = set(exercises.listed())
    try:
        found = _in_cage(
            lambda: reading.read(notebooks, names, others), job["trusted"], READING
        )
    except WrongAnswer as problem:
        problems.append(f"the notebook cannot be read: {problem}")
        found = {}
    parts = found.get("found")
    parts = parts if isinstance(parts, dict) else {}
    verdicts = [judge_exercise(name, parts.get(name), lesson, job) for name in names]
    if has_task(lesson):
        verdicts.append(judge_task(lesson, parts.get(reading.CHOICE), job))
    problems += [str(one)[:LONGEST_SAID] for one in found.get("problems", [])][:20]
    return {"verdicts": verdicts, "problems": problems}


def _opened(path: str) -> reading.Notebook:
    """The code cells of a notebook that a learner wrote."""
    return reading.code_cells(read_json(path, "hand it in again.", LARGEST))


def main() -> None:
    """Judge each line of the input, one line of the output each."""
    torch.set_num_threads(1)
    out = sys.stdout
    sys.stdout = sys.stderr  # what is printed here is no verdict
    for line in sys.stdin:
        job = json.loads(line)
        began = time.monotonic()
        answer = submission(job) | {"id": job["id"]}
        answer["seconds"] = round(time.monotonic() - began, 3)
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
