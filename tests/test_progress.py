"""What a learner has done: kept through everything, and shown as it is."""

import errno
import html.parser
import json
import math
import os
import re
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import guesses, lab, progress, quizzes, record, tasks
from utils.guesses import Guess
from utils.progress import Compared, chance, comparison, drawn, judged, lean
from utils.tasks import Task, decide

LESSON = "13_new"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """A learner's folder in which nothing was done."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(record, "FILE", "my_progress.json")


# ------------------------------------------------------------------------- the record


def test_what_is_noted_is_known_at_once_and_kept_when_saved():
    record.note("claims", "It is so", {"held": True}, lesson=LESSON)
    assert record.entry(LESSON, "claims", "It is so") == {"held": True}
    assert not Path(record.FILE).exists()
    assert record.save() == ""
    record.forget()
    assert record.entry(LESSON, "claims", "It is so") == {"held": True}
    assert record.entry(LESSON, "claims", "another") == {}
    assert record.entry("99_none", "claims", "It is so") == {}


def test_what_an_entry_does_not_say_stays():
    record.note("quiz", "Why?", {"answer": "a", "ticked": []}, lesson=LESSON)
    record.save()
    record.note("quiz", "Why?", {"ticked": ["b"]}, lesson=LESSON)
    record.note("quiz", "How?", {"answer": "c"}, lesson=LESSON)
    record.save()
    record.forget()
    assert record.kept()[LESSON]["quiz"] == {
        "Why?": {"answer": "a", "ticked": ["b"]},
        "How?": {"answer": "c"},
    }


def test_a_lab_is_written_a_few_times_and_not_at_each_claim(monkeypatch):
    written = []

    def write(path, content):
        written.append(path)
        path.write_bytes(content)

    monkeypatch.setattr(record, "write_atomically", write)
    record.begin("00_start_here")
    for number in range(40):
        lab.claim(f"It is so {number}", 1, at_least=0)
    quizzes.quiz("00_start_here")
    lab.finish()
    lab.finish()
    assert len(written) == 1
    record.begin("00_start_here")
    lab.claim("It is so 1", 1, at_least=0)  # the same as before
    lab.finish()
    assert len(written) == 1


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"3",
    b"\xff",
    b"[" * 100_000,
    b" " * (record.LARGEST + 1),
    b'{"13_new": 3}',
    b'{"13_new": {"claims": []}}',
    b'{"13_new": {"claims": {"It is so": 1}}}',
    b'{"13_new": {"magic": {}}}',
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_put_aside_and_stops_nothing(content):
    Path(record.FILE).write_bytes(content)
    record.note("claims", "It is so", {"held": True}, lesson=LESSON)
    assert record.kept() == {LESSON: {"claims": {"It is so": {"held": True}}}}
    progress.progress()
    assert record.entry(LESSON, "claims", "It is so") == {"held": True}
    assert Path("my_progress.damaged").read_bytes() == content  # nothing is lost
    assert json.loads(Path(record.FILE).read_text())[LESSON]["claims"]


def test_of_a_file_that_is_damaged_in_part_the_rest_stays():
    sound = {"answer": "a"}
    content = {LESSON: {"quiz": {"Why?": sound, "How?": 3}}, "x": None}
    Path(record.FILE).write_text(json.dumps(content))
    record.note("quiz", "What?", sound, lesson=LESSON)
    record.save()
    assert record.kept() == {LESSON: {"quiz": {"Why?": sound, "What?": sound}}}


def test_a_folder_in_its_place_stops_nothing():
    Path(record.FILE).mkdir()
    record.note("claims", "It is so", {"held": True}, lesson=LESSON)
    record.save()
    assert Path("my_progress.damaged").is_dir() and Path(record.FILE).is_file()


def test_a_full_disk_stops_no_lab_and_is_tried_again(monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    record.begin(LESSON)
    lab.claim("It is so", 1, at_least=0)
    with monkeypatch.context() as broken:
        broken.setattr(record, "write_atomically", full)
        assert record.save() == "not kept: No space left on device"
        progress.progress()
        lab.finish()
    said = capsys.readouterr().out
    assert "my_progress.json: not kept: No space left on device." in said
    assert said.endswith("Done: every claim of this lab held on this machine.\n")
    assert record.save() == ""
    record.forget()
    assert record.entry(LESSON, "claims", "It is so")["held"] is True


def test_a_record_that_would_be_too_large_is_not_written():
    record.note("claims", "It is so", {"held": True}, lesson=LESSON)
    record.save()
    record.note("quiz", "Why?", {"answer": "x" * record.LARGEST}, lesson=LESSON)
    assert record.save() == "not kept: my_progress.json would be too large"
    record.forget()
    assert record.kept() == {LESSON: {"claims": {"It is so": {"held": True}}}}


def test_a_lock_that_another_holds_is_waited_for_and_then_said(monkeypatch):
    monkeypatch.setattr(record, "PATIENCE", 0.1)
    record.note("claims", "It is so", {"held": True}, lesson=LESSON)
    with record.alone(Path(record.FILE)):
        assert record.save().startswith("not kept: another program has held it")
    assert record.save() == ""


MANY = """
import os, sys
os.chdir(sys.stdin.readline().strip())
from utils import record
name = sys.stdin.readline().strip()
record.begin("13_new")
for number in range(40):
    record.note("claims", f"{name} {number}", {"held": True})
    problem = record.save()
    assert not problem, problem
print("done")
"""


def test_two_kernels_at_once_lose_nothing(start_python, tmp_path):
    kernels = [start_python(MANY) for _ in range(2)]
    for name, kernel in zip("ab", kernels, strict=True):
        kernel.stdin.write(f"{tmp_path}\n{name}\n")
        kernel.stdin.flush()
    for kernel in kernels:
        output, errors = kernel.communicate(timeout=120)
        assert (output, errors) == ("done\n", "")
    assert len(record.kept()[LESSON]["claims"]) == 80


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)
LESSONS = st.dictionaries(
    st.sampled_from(["00_start_here", "02_scores", "x"]),
    JSON
    | st.dictionaries(
        st.sampled_from(record.KINDS),
        JSON
        | st.dictionaries(
            st.sampled_from(["task", "largest_safe_sparsity", "x"]),
            st.dictionaries(
                st.sampled_from(["right", "held", "measured", "met", "answer"]), JSON
            ),
        ),
    ),
)


KEPT = st.dictionaries(
    st.text(max_size=5),
    JSON
    | st.fixed_dictionaries(
        dict.fromkeys(("guess", "measured", "low", "high"), st.floats(0, 1) | JSON),
        optional=dict.fromkeys(("unit", "better", "lesson"), JSON),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=40)
@given(LESSONS, JSON | KEPT)
def test_whatever_stands_in_the_files_progress_is_shown(kept, guessed):
    Path(record.FILE).write_text(json.dumps(kept))
    Path(guesses.FILE).write_text(json.dumps(guessed))
    table = progress.rows()
    for row in table:
        for few, many in (row.exercises, row.quiz, row.claims, (row.answered, 99)):
            assert 0 <= few <= many
    found = progress.compared()
    assert judged(found) and progress.table_text(table)
    record.note("claims", "It is so", {"held": True}, lesson=LESSON)
    assert record.save() == ""


# ------------------------------------------------------------------------ open tasks


def test_a_task_that_was_met_stays_met(monkeypatch, capsys):
    task = Task(measure=lambda choice: {"points": choice}, reference=3)
    task = Task(task.measure, 3, at_least={"points": 2})
    module = type("Module", (), {"TASK": task})
    monkeypatch.setattr(tasks, "load", lambda *_: module)
    decide(LESSON, ...)
    assert record.kept() == {}
    for choice, met in ((1, False), (2, True), (1, True)):
        decide(LESSON, choice)
        record.forget()
        assert record.entry(LESSON, "task", "task") == {"met": met}
    assert "points: measured 1, asked at least 2: missed" in capsys.readouterr().out


# ------------------------------------------------------------------------- the table


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of one lesson with everything, and one that is being written."""
    folder = tmp_path / "lessons"
    (folder / "13_a_new_one").mkdir(parents=True)
    (folder / "14_later").mkdir()
    (folder / "README.md").write_text("")
    answers = [
        {"answer": "a", "right": True, "feedback": "."},
        {"answer": "b", "right": False, "feedback": "."},
    ]
    questions = [
        {"question": "First?", "answers": answers},
        {"question": "Second?", "answers": answers},
        {
            "question": "Third?",
            "number": {"claim": "c", "within": 0.1},
            "feedback": ".",
        },
        {"question": "Why?", "model": ".", "rubric": ["."]},
    ]
    (folder / "13_a_new_one" / "quiz.json").write_text(json.dumps(questions))
    (folder / "13_a_new_one" / "task.py").write_text("")
    (folder / "14_later" / "quiz.json").write_text("{")
    for room in (progress, quizzes):
        monkeypatch.setattr(room, "LESSONS", folder)
    names = {"one": "13_a_new_one", "two": "13_a_new_one"}
    monkeypatch.setattr(progress, "listed", lambda: names)


def note(kind: str, name: str, **entry: object) -> None:
    record.note(kind, name, entry, lesson="13_a_new_one")


def test_an_empty_record_says_what_will_stand_here(course, capsys):
    progress.progress()
    said = capsys.readouterr().out
    assert said.startswith("Nothing is kept yet. Here will stand, for each lesson:")
    assert "stays on this machine" in said and "0 of" not in said


def test_the_table_counts_what_is_kept(course, capsys):
    note("exercises", "one", right=True)
    note("exercises", "gone", right=True)  # of an older course
    note("claims", "It is so", held=True)
    note("claims", "It is not", held=False)
    note("quiz", "First?", answer="b")
    note("quiz", "Third?", answer=2.1, measured=2)
    note("quiz", "Why?", answer="So.")
    note("task", "task", met=False)
    progress.progress()
    lines = capsys.readouterr().out.splitlines()
    table = [re.split(r"\s{2,}", line) for line in lines[:3]]
    assert table == [
        list(progress.HEAD),
        ["13 A new one", "1 of 2", "1 of 3 (1 open)", "1 of 2", "not yet met"],
        ["14 Later", "-", "-", "-", "-"],
    ]
    assert lines[3].startswith("Guesses that can be compared: 0. With 5 more")
    note("task", "task", met=True)
    note("quiz", "Second?", answer="a")
    first = progress.rows()[0].cells()
    assert first[2:] == ("2 of 3", "1 of 2", "met")


def test_one_wrong_answer_is_no_empty_record(course):
    assert progress.rows()[0].is_empty()
    note("quiz", "First?", answer="b")
    assert not progress.rows()[0].is_empty()


# ----------------------------------------------------------------------- the guesses


def guess_of(far: float, unit: str = "%", better: str = "") -> Compared:
    """A guess that was so far too high, as a share of its range."""
    return Compared("How much?", 0.5 + far, 0.5, unit, better, "guessed 1.")


HIGH, LOW, CLOSE = guess_of(0.3), guess_of(-0.3), guess_of(0.04)


@pytest.mark.parametrize(
    ("kept", "ends"),
    [
        ({"guess": 30, "measured": 55, "low": 0, "high": 100}, (0.3, 0.55)),
        ({"guess": -1, "measured": 3, "low": -2, "high": 2}, (0.25, 1.25)),
        ({"guess": 30, "low": 0, "high": 100}, None),
        ({"guess": "30", "measured": 55, "low": 0, "high": 100}, None),
        ({"guess": True, "measured": 55, "low": 0, "high": 100}, None),
        ({"guess": math.nan, "measured": 55, "low": 0, "high": 100}, None),
        ({"guess": 30, "measured": math.inf, "low": 0, "high": 100}, None),
        ({"guess": 30, "measured": 55, "low": 100, "high": 0}, None),
        ({"guess": 30, "measured": 55, "low": 1, "high": 1}, None),
    ],
)
def test_a_guess_is_compared_as_a_share_of_its_range(kept, ends):
    found = comparison("How much?", kept)
    assert (found and (found.guess, found.measured)) == ends


def test_guesses_come_from_what_predict_keeps():
    record.begin(LESSON)
    for number in range(3):
        guess = Guess(f"How much {number}?", 0, 10, "s", better="low")
        guess.lock(number)
        guess.compare(2)
    Guess("Open?", 0, 1).lock(1)
    found = progress.compared()
    assert [guess.side for guess in found] == ["low", "low", "close"]
    assert {(guess.unit, guess.better) for guess in found} == {("s", "low")}


@pytest.mark.parametrize(
    ("guesses", "begin"),
    [
        ([HIGH] * 5, "too high (5 too high, 0 too low, 0 within 5% of the range; 6.2%"),
        ([HIGH] * 4 + [LOW], "no clear lean (4 too high, 1 too low"),
        ([HIGH] * 4 + [CLOSE], "no clear lean (4 too high, 0 too low, 1 within"),
        ([HIGH] * 2 + [LOW] * 9, "too low (2 too high, 9 too low"),
        ([CLOSE] * 3 + [LOW] * 2, "well calibrated (0 too high, 2 too low, 3 within"),
        ([CLOSE] * 6 + [LOW] * 5, "mostly well calibrated, the others too low ("),
        ([CLOSE] * 5, "well calibrated (0 too high, 0 too low, 5 within"),
    ],
)
def test_a_lean_is_said_only_where_chance_would_seldom_give_it(guesses, begin):
    assert lean(guesses).startswith(begin)


def test_hopeful_and_careful_are_said_where_one_end_is_better():
    hopeful = [guess_of(0.3, "x", "high")] * 3 + [guess_of(-0.3, "x", "low")] * 3
    careful = [guess_of(0.3, "x", "low")] * 5
    said = "Where one end is better: too"
    assert f"{said} hopeful (6 too hopeful, 0 too careful" in judged(hopeful)
    assert f"{said} careful (0 too hopeful, 5 too careful" in judged(careful)
    assert said not in judged([HIGH] * 9 + careful[:4])


@pytest.mark.parametrize("count", range(5))
def test_few_guesses_are_not_judged(count):
    said = judged([HIGH] * count)
    assert said.startswith(f"Guesses that can be compared: {count}. With {5 - count}")
    assert "too high" not in said


def test_it_says_about_what():
    some = [guess_of(0.2, "x")] * 5 + [guess_of(-0.4)] * 4
    said = judged(some)
    assert "In x: too high (5 too high" in said and "In %:" not in said
    assert said.endswith("Furthest off: How much? You guessed 1.")
    assert "In x" not in judged([guess_of(0.2, "x")] * 5)  # there is nothing else
    assert "Furthest" not in judged([CLOSE] * 9)


@given(st.integers(0, 30), st.integers(0, 30))
def test_chance_is_that_of_a_coin(one, other):
    most, tosses = max(one, other), one + other
    rare = chance(most, tosses)
    assert 0 < rare <= 1
    heads = [math.comb(tosses, count) / 2**tosses for count in range(tosses + 1)]
    uneven = sum(
        p for count, p in enumerate(heads) if max(count, tosses - count) >= most
    )
    assert rare == pytest.approx(uneven)


def test_the_picture_has_a_second_cue_and_words():
    figure, alt = drawn([HIGH, HIGH, LOW, CLOSE, Compared("Out?", 0.5, 7.0)])
    ax = figure.axes[0]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["2 too high", "2 too low", "1 close"]
    paths = [dots.get_paths()[0].vertices.shape for dots in ax.collections]
    assert len(set(paths)) > 1  # triangles and circles
    shown = [xy for dots in ax.collections for xy in dots.get_offsets().tolist()]
    assert [100, 50] in shown  # at the edge
    assert all(y > x for x, y in ax.collections[0].get_offsets())
    assert alt.startswith("5 guesses against what was measured")
    assert "2 too high, 2 too low, 1 close; too high lies above the diagonal" in alt


# --------------------------------------------------------------------------- the page


class Tags(html.parser.HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags, self.text = set(), ""
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


EVIL = "<script>alert('1')</script> \"><img src=x onerror=alert(1)> {body} %s"


def test_nothing_from_the_files_becomes_markup(course, capsys):
    kept = {"guess": 9, "measured": 1, "low": 0, "high": 10, "unit": EVIL}
    kept |= {"better": EVIL, "lesson": EVIL}
    Path(guesses.FILE).write_text(
        json.dumps({f"{EVIL} {number}": kept for number in range(6)})
    )
    note("exercises", EVIL, right=True)
    note("claims", EVIL, held=True)
    Path(record.FILE).write_text(json.dumps({EVIL: {"quiz": {EVIL: {"answer": EVIL}}}}))
    progress.progress(save="my_progress.html")
    content = Path("my_progress.html").read_text(encoding="utf-8")
    seen = Tags(content)
    assert "script" not in seen.tags
    assert "alert('1')" in seen.text and content.count("<img") == 1
    assert content.count("src=") == content.count('src="data:image/png;base64,') + (
        content.count("src=x onerror")
    )
    assert "http" not in content.replace("http-equiv", "")
    assert "default-src 'none'" in content


def test_the_page_stands_alone_and_says_the_same(course, capsys):
    note("exercises", "one", right=True)
    Path(guesses.FILE).write_text(
        json.dumps({"How?": {"guess": 9, "measured": 1, "low": 0, "high": 10}})
    )
    progress.progress(save="my_progress.html")
    said = capsys.readouterr().out
    assert "Written: my_progress.html." in said
    text = Tags(Path("my_progress.html").read_text(encoding="utf-8")).text
    assert "13 A new one" in text and "1 of 2" in text
    assert "How? guessed 9, measured 1." in text and "With 4 more" in text


def test_a_page_of_an_empty_record_is_a_page(course):
    progress.progress(save="my_progress.html")
    assert "<table>" in Path("my_progress.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("save", ["01_baseline.ipynb", "notes", "", "x.html/"])
def test_a_page_takes_no_other_files_place(save):
    if save == "x.html/":
        Path(save).mkdir()
        progress.progress(save=save)  # says that it cannot
        return
    with pytest.raises(
        ValueError, match=re.escape(f"save={save!r} must end with .html")
    ):
        progress.progress(save=save)


def test_a_page_that_cannot_be_written_is_said(course, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(progress, "write_atomically", full)
    progress.progress(save="my_progress.html")
    assert "my_progress.html is not written: No space left" in capsys.readouterr().out


@given(st.text(string.printable + "\ud800\u2028é", max_size=400))
def test_a_text_from_a_file_is_one_line_and_not_long(text):
    short = progress._short(text)
    assert len(short.splitlines()) <= 1 and len(short) <= progress.LONGEST + 3


def test_what_has_no_bytes_is_written_all_the_same(course):
    kept = {"guess": 9, "measured": 1, "low": 0, "high": 10}
    Path(guesses.FILE).write_text(json.dumps({"How \ud800?": kept}))
    progress.progress(save="my_progress.html")
    assert "How ?? guessed" in Path("my_progress.html").read_text(encoding="utf-8")


def test_many_guesses_are_cut():
    kept = {"guess": 9, "measured": 1, "low": 0, "high": 10}
    Path(guesses.FILE).write_text(json.dumps({str(n): kept for n in range(5000)}))
    assert len(progress.compared()) == progress.MOST
