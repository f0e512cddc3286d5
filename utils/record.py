"""What a learner has done, kept in one file beside the notebooks: exercises that are
right, claims with their measured value, answers of quizzes, open tasks.

What is noted is written by `save`, many notes at once. A file that is damaged is put
aside, one that cannot be written stops no lesson, and of two kernels each adds to what
the other has written. Standard library only.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.files import (
    DamagedFileError,
    MissingFileError,
    alone,
    put_aside,
    read_json,
    write_atomically,
)

Entry = dict[str, Any]  # what is kept of one exercise, claim, question or task
Lesson = dict[str, dict[str, Entry]]  # by kind, then by name

FILE = "my_progress.json"
KINDS = ("exercises", "claims", "quiz", "task")
MET = {"exercises": "right", "claims": "held", "task": "met"}  # once so, it stays so
LARGEST = 1_000_000  # bytes of the file
MANY = 1000  # wrong checks of one exercise: more are not counted
PATIENCE = 5  # seconds to wait for another kernel that writes

_fresh: dict[tuple[str, str, str], Entry] = {}  # lesson, kind, name: not yet written
_lesson = ""  # that this kernel runs, as far as it is known


def begin(lesson: str) -> None:
    """From here on this kernel runs that lesson; what was noted without one belongs to
    it."""
    global _lesson  # a kernel runs one lesson at a time
    _lesson = lesson
    for key in [key for key in _fresh if not key[0]]:
        _, kind, name = key
        note(kind, name, _fresh.pop(key))


def current() -> str:
    """The lesson that this kernel runs; empty while nothing has said it."""
    return _lesson


def note(kind: str, name: str, entry: Entry, lesson: str = "") -> None:
    """Note something of a lesson, by default of the one that this kernel runs; what the
    entry does not say stays as it was."""
    key = lesson or _lesson, kind, name
    _fresh[key] = _fresh.get(key, {}) | entry


def save() -> str:
    """Write what was noted. Half a sentence about why it is not kept, or nothing; then
    the next call tries again."""
    wanted = [key for key in _fresh if key[0]]
    if not wanted:
        return ""
    path = Path(FILE)
    try:
        with alone(path, PATIENCE):
            found = _read()
            old = _sound(found)
            new = _with_fresh(old)
            content = json.dumps(new, indent=1).encode()
            if len(content) > LARGEST:
                return f"not kept: {path.name} would be too large"
            if old != found:
                put_aside(path)  # damaged
            if new != found:
                write_atomically(path, content)
    except OSError as error:
        return f"not kept: {error.strerror or error}"
    for key in wanted:
        del _fresh[key]
    return ""


def kept() -> dict[str, Lesson]:
    """All that is known, by lesson: what the file holds and what was noted since.
    Nothing in it can be trusted to be more than dicts of dicts of JSON."""
    return _with_fresh(_sound(_read()))


def entry(lesson: str, kind: str, name: str) -> Entry:
    """What is known of one thing; empty when it is nothing."""
    return kept().get(lesson, {}).get(kind, {}).get(name, {})


def forget() -> None:
    """Forget the lesson and what is not yet written, as in a new kernel."""
    begin("")
    _fresh.clear()


# --------------------------------------------------------------------------- of others


def read(path: Path | str) -> dict[str, Lesson]:
    """What somebody's file holds, as `kept` gives it.

    Raises:
        DamagedFileError: it is missing, too large, or no record.
    """
    found = read_json(path, "delete it.", LARGEST)
    if not isinstance(found, dict):
        raise DamagedFileError(f"{path} is damaged (it is no record).")
    return _sound(found)


def merged(records: Sequence[dict[str, Lesson]]) -> dict[str, Lesson]:
    """One record of several of one learner, the oldest first: what was met once stays
    met, and of a question the first answer counts.

    >>> wrong, right = ({"quiz": {"Why?": {"answer": a}}} for a in "ab")
    >>> merged([{"00": wrong}, {"00": right}])
    {'00': {'quiz': {'Why?': {'answer': 'a'}}}}
    """
    whole: dict[str, Lesson] = {}
    for lesson, kinds in (item for one in records for item in one.items()):
        for kind, named in kinds.items():
            known = whole.setdefault(lesson, {}).setdefault(kind, {})
            for name, later in named.items():
                known[name] = _both(kind, known.get(name, {}), later)
    return whole


def _both(kind: str, earlier: Entry, later: Entry) -> Entry:
    """One entry of two of one thing."""
    if kind == "quiz":
        return earlier if "answer" in earlier else later
    one = earlier if earlier.get(MET[kind]) is True else later
    tries = max(wrong_checks(earlier), wrong_checks(later))
    return one | {"wrong": tries} if tries else dict(one)


def wrong_checks(entry: Entry) -> int:
    """How often an exercise was checked and not right, as far as its entry says."""
    count = entry.get("wrong")
    if isinstance(count, bool) or not isinstance(count, int):
        return 0
    return min(max(count, 0), MANY)


# ---------------------------------------------------------------------------- the file


def _read() -> object:
    """What the file holds; None when it holds no JSON."""
    try:
        return read_json(FILE, "delete it.", LARGEST)
    except MissingFileError:
        return {}
    except DamagedFileError:
        return None


def _sound(found: object) -> dict[str, Lesson]:
    """What of it has the form of a record."""
    return {
        lesson: {
            kind: {
                name: one for name, one in _dict(named).items() if isinstance(one, dict)
            }
            for kind, named in _dict(kinds).items()
            if kind in KINDS and isinstance(named, dict)
        }
        for lesson, kinds in _dict(found).items()
        if isinstance(kinds, dict)
    }


def _dict(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _with_fresh(old: dict[str, Lesson]) -> dict[str, Lesson]:
    """What is kept with what was noted since."""
    new = {
        lesson: {kind: dict(named) for kind, named in kinds.items()}
        for lesson, kinds in old.items()
    }
    for (lesson, kind, name), one in _fresh.items():
        if lesson:
            named = new.setdefault(lesson, {}).setdefault(kind, {})
            named[name] = named.get(name, {}) | one
    return new
