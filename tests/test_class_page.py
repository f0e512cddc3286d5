"""The teacher's page of a class: what it counts, whom it names, and what it refuses."""

import contextlib
import html.parser
import json
import os
import random
import re
import sqlite3
import warnings
from collections import Counter
from pathlib import Path

import pytest
import thirty
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.classroom import (
    guessed,
    handed_in,
    names,
    page,
    ranking,
    standing,
    walk,
)
from tools.classroom.folder import GRADEBOOK
from tools.classroom.handed_in import Learner
from tools.start.files import StartError
from utils import guesses, progress, quizzes, record
from utils.capstone.openings import SCORES
from utils.capstone.rules import Cost, points

LESSON = "03_weight_pruning"
EVIL = "<script>alert('1')</script> \"><img src=x onerror=alert(1)> {body} %s"


class Page(html.parser.HTMLParser):
    """A page as a reader's program takes it: tags, text, and tables by caption."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.text = Counter(), ""
        self.tables: dict[str, list[list[str]]] = {}
        self.rows, self.cell = [], None
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        assert not [name for name, _ in attributes if name.startswith("on")]
        if tag == "table":
            self.rows = []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th", "caption"):
            self.cell = ""
        if tag == "th":
            assert dict(attributes)["scope"] in ("row", "col")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append(self.cell)
        if tag == "caption":
            self.tables[self.cell] = self.rows
        if tag in ("td", "th", "caption"):
            self.cell = None

    def handle_data(self, data):
        self.text += data
        if self.cell is not None:
            self.cell += data

    def table(self, begins: str) -> list[list[str]]:
        """The lines of the table whose caption begins so, without its head."""
        found = [rows for name, rows in self.tables.items() if name.startswith(begins)]
        return found[0][1:]


def built(folder: Path, *words: str) -> Page:
    """The page that the command writes."""
    options = page.read_arguments(["--folder", str(folder), *words])
    page.build(options)
    return Page(folder / page.PAGES[options.names])


def put(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def hand_in(folder: Path, name: str, kept: dict, guesses_: dict | None = None) -> Path:
    """Lay files as nbgrader collects them."""
    place = folder / "submitted" / name / "labs"
    put(place / "my_progress.json", kept)
    if guesses_ is not None:
        put(place / "my_guesses.json", guesses_)
    return place


def finished_lesson(lesson: str) -> dict:
    """What is kept of a lesson in which all is done, by the course's own lists."""
    answers = {}
    for asked in progress.judgeable(lesson):
        if quizzes.kind_of(asked) == "choice":
            entry = {"answer": quizzes.right_answer(asked)["answer"]}
        else:
            entry = {"answer": 1.0, "measured": 1.0}
        answers[asked["question"]] = entry
    homes = progress.listed()
    right = {name: {"right": True} for name, home in homes.items() if home == lesson}
    return {"exercises": right, "quiz": answers, "task": {"task": {"met": True}}}


# -------------------------------------------------------------------- a class of thirty


@pytest.mark.timeout(900)  # on a busy machine
def test_a_class_of_thirty_stands_on_the_page_as_its_files_say(tmp_path):
    everybody = thirty.make(tmp_path)
    shown = built(tmp_path)
    pseudonyms = names.read(tmp_path)
    assert pseudonyms and list(pseudonyms) == sorted(everybody)
    # each learner's own progress, read in their own folder, is the oracle
    lessons = {}
    for name in everybody[:-1]:
        with thirty.at_work(tmp_path / "submitted" / name / "labs"):
            lessons[name] = progress.rows()
    matrix = {line[0]: line[1:] for line in shown.table("Each learner, by lesson")}
    assert set(matrix) == set(pseudonyms.values())
    for name, rows in lessons.items():
        line = matrix[pseudonyms[name]]
        assert line[0] == str(sum(map(standing.is_finished, rows)))
        for cell, row in zip(line[1:], rows, strict=True):
            wanted = f"{row.exercises[0]}/{row.exercises[1]} · {row.quiz[0]}/"
            assert wanted in cell or (row.is_empty() and cell in ("-", "stuck?"))
    place = next(
        i for i, row in enumerate(next(iter(lessons.values()))) if row.lesson == LESSON
    )
    at_length = {line[0]: line[1:] for line in shown.table("03 Weight pruning: fin")}
    for name, rows in lessons.items():
        cells = at_length.get(pseudonyms[name])
        assert cells == (
            None if rows[place].is_empty() else list(rows[place].cells()[1:])
        )
    # nobody is named, and nothing is dropped
    for name in everybody:
        assert not re.search(rf"\b{name}\b", shown.text)
    many = sum(
        len(guesses.read(path)) for path in tmp_path.glob("submitted/*/*/my_g*.json")
    )
    assert f"{many} guesses at " in shown.text
    assert shown.tags["img"] == 1 and "script" not in shown.tags
    assert "default-src 'none'" in shown.source
    real = built(tmp_path, "--names", "real")
    assert {line[0] for line in real.table("Each learner")} == set(everybody)
    assert "not to be projected" in real.text
    nobody = built(tmp_path, "--names", "none")
    for name in (*everybody, *pseudonyms.values()):
        assert not re.search(rf"\b{name}\b", nobody.text)
    assert nobody.table("The class, by lesson") == shown.table("The class, by lesson")
    assert len(nobody.table("Ranking")) == len(shown.table("Ranking")) > 0


# ------------------------------------------------------------------------- who is stuck


def test_three_wrong_checks_an_unmet_task_and_a_class_ahead_say_stuck(tmp_path):
    first, second = "00_start_here", LESSON
    exercise = next(n for n, home in progress.listed().items() if home == second)
    done = {row.lesson: finished_lesson(row.lesson) for row in progress.rows({})[:4]}
    trying = {second: {"exercises": {exercise: {"wrong": 3}}}}
    unmet = {second: {"task": {"task": {"met": False}}}}
    hand_in(tmp_path, "ahead", done)
    hand_in(tmp_path, "ahead too", done)
    hand_in(tmp_path, "trying", done | trying)
    hand_in(tmp_path, "unmet", done | unmet)
    hand_in(
        tmp_path, "twice", {**done, second: {"exercises": {exercise: {"wrong": 2}}}}
    )
    hand_in(tmp_path, "silent", {})
    shown = built(tmp_path, "--names", "real")
    stuck = {line[0]: line[1] for line in shown.table("Who may be stuck")}
    behind = "03: not finished, and 2 of 5 others have"
    assert stuck == {
        "trying": f"03: {exercise} is not right after 3 checks",
        "unmet": "03: the open task was tried and is not met",
        "silent": "00: not finished, and 5 of 5 others have",
    }
    assert behind not in shown.text and first not in stuck
    assert "Nothing is kept of: silent." in shown.text
    tried = shown.table("Exercises that were checked")
    assert tried == [[exercise, "03", "2 of 4", "2", "5"]]


def test_who_left_a_lesson_behind_is_not_stuck_there():
    rows = progress.rows({f"{LESSON}": finished_lesson(LESSON)})
    nothing, all_done = progress.rows({}), [row for row in rows if row.lesson == LESSON]
    table = {"me": rows[:4], "a": all_done * 4, "b": all_done * 4}
    assert standing.behind("me", table) == []  # went on to lesson 03
    table["me"] = nothing[:4]
    assert standing.behind("me", table) == ["00: not finished, and 2 of 2 others have"]
    assert standing.behind("a", table) == []
    assert standing.behind("me", {"me": nothing}) == []


# ---------------------------------------------------------------- what was often wrong


def test_the_wrong_answer_that_most_gave_stands_with_its_feedback():
    asked = next(a for a in quizzes.read(LESSON) if quizzes.kind_of(a) == "choice")
    wrong = [each for each in asked["answers"] if not each["right"]]
    given = [wrong[0], wrong[1], wrong[1], quizzes.right_answer(asked)]
    learners = [
        Learner(
            str(i), {LESSON: {"quiz": {asked["question"]: {"answer": a["answer"]}}}}
        )
        for i, a in enumerate([*given, {"answer": "of an older course"}])
    ]
    found = standing.missed(learners)
    assert len(found) == 1
    assert (found[0].chosen, found[0].chosen_by) == (wrong[1]["answer"], 2)
    assert found[0].feedback == wrong[1]["feedback"]
    assert found[0].share() == "75% (3 of 4)"


# ------------------------------------------------------------------------- the guesses


def some_guess() -> tuple[str, guessed.Asked]:
    lab, asked = next(iter(guessed.all_asked().values()))
    return lab, asked


def kept_guess(asked, share: float, measured: float) -> dict:
    wide = asked.high - asked.low
    return {
        "guess": asked.low + share * wide,
        "measured": asked.low + measured * wide,
        "low": asked.low,
        "high": asked.high,
    }


def test_where_machines_measured_different_values_the_median_stands_and_is_said():
    _, asked = some_guess()
    learners = [
        Learner(str(i), guesses={asked.question: kept_guess(asked, 0.5, measured)})
        for i, measured in enumerate([0.2, 0.3, 0.9])
    ]
    (question,), left_out = guessed.questions(learners)
    assert (len(question.guesses), left_out) == (3, 0)
    assert question.measured == pytest.approx(0.3)
    assert question.measured_in_words().endswith("(median)")
    assert (question.count("high"), question.count("low")) == (2, 1)
    same = guessed.Question("00", asked, question.guesses[:1])
    assert "median" not in same.measured_in_words()


def test_a_question_that_no_notebook_asks_or_another_range_is_left_out():
    _, asked = some_guess()
    sound = kept_guess(asked, 0.5, 0.4)
    other = sound | {"high": asked.high * 2}
    learners = [
        Learner("a", guesses={asked.question: sound, EVIL: sound}),
        Learner("b", guesses={asked.question: other}),
        Learner("c", guesses={asked.question: {"guess": 1, "low": 0, "high": 1}}),
    ]
    (question,), left_out = guessed.questions(learners)
    assert (len(question.guesses), left_out) == (1, 2)


def test_the_picture_takes_what_many_guessed_and_differ_on():
    lot = random.Random(0)
    known = list(guessed.all_asked().items())[:20]
    learners = []
    for number in range(30):
        kept = {}
        for place, (name, (_, asked)) in enumerate(known):
            wide = 0.02 * place  # later questions spread more
            if place != 19 or number < 10:  # few guessed the last
                share = 0.5 + wide * lot.uniform(-1, 1)
                kept[name] = kept_guess(asked, share, 0.5)
        learners.append(Learner(str(number), guesses=kept))
    found, _ = guessed.questions(learners)
    chosen = guessed.for_the_lecture(found)
    assert [each.asked.question for each in chosen] == [name for name, _ in known[7:19]]
    figure, alt = guessed.drawn(chosen)
    ax = figure.axes[0]
    marks = sum(len(dots.get_offsets()) for dots in ax.collections)
    assert marks == sum(len(each.guesses) for each in chosen) == 360
    assert alt.startswith("360 guesses at 12 questions") and "too high" in alt
    paths = {len(dots.get_paths()[0].vertices) for dots in ax.collections}
    assert len(paths) > 1  # a shape as well as a colour


# ------------------------------------------------------------------------ the capstone


def score_of(size: int, **more: object) -> dict:
    cost = Cost(size, 12.0, 0.93)
    return {"file": "a.onnx", "points": points(cost), **vars(cost), **more}


def test_the_best_score_counts_and_every_opening(tmp_path):
    for name, scores in {
        "ann": [score_of(60_000), score_of(40_000), {"refused": "no", "when": "x"}],
        "bob": [score_of(40_000, when="1")],
        "cleo": [score_of(30_000)],
        "liar": [score_of(30_000) | {"points": 99}],
    }.items():
        put(tmp_path / "submitted" / name / "labs" / SCORES, scores)
    put(tmp_path / "submitted" / "ann" / "again" / SCORES, [score_of(60_000)])
    put(tmp_path / "submitted" / "bob" / "labs" / "scores.json", [score_of(1)])
    pseudonyms = {"ann": "Oak", "bob": "Elm", "cleo": "", "liar": "Fir"}
    names.write(tmp_path, pseudonyms)
    shown = built(tmp_path)
    best = f"{points(Cost(40_000, 12.0, 0.93)):.2f}"
    ranks = shown.table("Ranking")
    # cleo is the first, and is not shown; equal points share a place
    assert [line[:3] for line in ranks] == [
        ["2. Oak", best, "40,000"],
        ["2. Elm", best, "40,000"],
    ]
    assert [line[-1] for line in ranks] == ["3", "1"]
    assert "without a pseudonym: 1." in shown.text
    assert shown.table("Files that are not") == [
        ["Fir", "scores.json", "1 of its scores: the points do not follow from the"
         " numbers"]
    ]  # fmt: skip
    real = built(tmp_path, "--names", "real")
    assert [line[0] for line in real.table("Ranking")] == [
        "2. ann (Oak)",
        "2. bob (Elm)",
    ]


# ------------------------------------------------------------------------ the gradebook


@pytest.fixture
def book(tmp_path, monkeypatch):
    """nbgrader's own gradebook with 3.5 of 5 points for ann, and bob without files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nbgrader import api

        # asks a program for it, which takes seconds
        monkeypatch.setattr(api, "get_alembic_version", lambda: "1")
        with api.Gradebook(f"sqlite:///{tmp_path / GRADEBOOK}") as found:
            found.add_assignment(LESSON)
            found.add_notebook("lab", LESSON)
            found.add_grade_cell("c", "lab", LESSON, max_score=5, cell_type="code")
            for name, score in (("ann", 3.5), ("bob", 5)):
                found.add_student(name)
                found.add_submission(LESSON, name)
                found.find_grade("c", "lab", LESSON, name).auto_score = score
                found.db.commit()
    return tmp_path / GRADEBOOK


def test_points_come_from_the_gradebook_which_stays_as_it_is(book, tmp_path):
    hand_in(tmp_path, "ann", {LESSON: {"claims": {"It is so": {"held": True}}}})
    before = book.read_bytes()
    shown = built(tmp_path, "--names", "real")
    lines = {line[0]: line[-1] for line in shown.table("03 Weight pruning: fin")}
    assert lines == {"ann": "3.5 of 5", "bob": "5 of 5"}
    assert book.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "class_real_names.html", "gradebook.db", "names.csv", "submitted",
    ]  # fmt: skip
    # another class's learners are not taken from it
    elsewhere = tmp_path / "hub"
    put(elsewhere / "ann" / "my_progress.json", {})
    shown = built(tmp_path, "--from", str(elsewhere), "--names", "real")
    assert [line[0] for line in shown.table("Each learner")] == ["ann"]


@pytest.mark.parametrize("content", [b"", b"no database", "a database of another kind"])
def test_a_damaged_gradebook_is_named_and_the_page_written(tmp_path, content):
    path = tmp_path / GRADEBOOK
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("create table x (y int)")
            other.commit()
    hand_in(tmp_path, "ann", {})
    shown = built(tmp_path, "--names", "real")
    (line,) = shown.table("Files that are not")
    assert line[1] == "gradebook.db" and "cannot be read as a gradebook" in line[2]


# ------------------------------------------------------------------------------- names


def test_pseudonyms_are_drawn_once_and_then_the_teachers(tmp_path):
    for name in ("ann", "bob"):
        hand_in(tmp_path, name, {})
    built(tmp_path)
    drawn = names.read(tmp_path)
    assert drawn and set(drawn) == {"ann", "bob"}
    assert len(set(drawn.values())) == 2
    names.write(tmp_path, {"ann": "Queen", "bob": ""})
    hand_in(tmp_path, "cleo", {})
    shown = built(tmp_path)
    assert [line[0] for line in shown.table("Each learner")] == ["Queen"]
    assert "Without a pseudonym, so in no row: 2." in shown.text
    assert names.read(tmp_path) == {"ann": "Queen", "bob": ""}
    built(tmp_path, "--new-names")
    more = names.read(tmp_path)
    assert more and more["ann"] == "Queen" and more["bob"] == ""
    assert more["cleo"] in names.TREES.split()


@pytest.mark.parametrize("count", [1, 30, 400])
def test_the_order_of_pseudonyms_tells_nothing(count):
    everybody = [f"{number:03}" for number in range(count)]
    drawn = names.drawn(everybody, taken=["Oak"], lot=random.Random(1))
    assert list(drawn) == everybody and len(set(drawn.values())) == count
    assert "Oak" not in drawn.values()
    assert count == 1 or list(drawn.values()) != sorted(drawn.values())


def test_what_a_spreadsheet_writes_is_read(tmp_path):
    path = tmp_path / names.FILE
    path.write_bytes("\ufefflearner;pseudonym\r\nann;Große Eiche\r\n;\r\n".encode())
    assert names.read(tmp_path) == {"ann": "Große Eiche"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "its first line must be"),
        (b"name,other\nann,Oak\n", "its first line must be"),
        (b"learner,pseudonym\nann,Oak\nann,Elm\n", "line 3: ann stands there twice"),
        (b"learner,pseudonym\nann,Oak\nbob,Oak\n", "line 3: Oak is given twice"),
        (b"learner,pseudonym\nann," + b"O" * 41, "line 2: a pseudonym must be"),
        (b"learner,pseudonym\nann,\xff\n", "is not UTF-8"),
        (b"x" * (names.LARGEST + 1), "too large"),
    ],
)
def test_a_file_of_names_that_is_none_is_left_alone(tmp_path, content, said):
    hand_in(tmp_path, "ann", {})
    (tmp_path / names.FILE).write_bytes(content)
    with pytest.raises(SystemExit, match=re.escape(said)):
        page.main(["--folder", str(tmp_path)])
    assert (tmp_path / names.FILE).read_bytes() == content
    assert not (tmp_path / "class.html").exists()


# ------------------------------------------------------------------- files of a learner


def test_what_was_met_once_stays_met_and_the_first_try_counts(tmp_path):
    early, late = (
        {
            LESSON: {
                "quiz": {"Why?": {"answer": answer}},
                "task": {"task": {"met": met}},
                "exercises": {"one": exercise},
            }
        }
        for answer, met, exercise in (
            ("a", True, {"wrong": 4}),
            ("b", False, {"right": True, "wrong": 2}),
        )
    )
    place = tmp_path / "ann"
    put(place / "a" / "deep" / "er" / "my_progress.json", late)
    put(place / "z" / "my_progress.json", early)
    put(place / "a" / "my_guesses.json", {"?": {"guess": 2, "measured": 3}})
    put(place / "z" / "my_guesses.json", {"?": {"guess": 1}})
    for path in place.rglob("*.json"):
        when = 1000 if path.parent.name == "z" else 2000
        os.utime(path, (when, when))
    learner, skipped = handed_in.read_learner(place)
    assert skipped == [] and learner.changed == 2000
    assert learner.kept[LESSON] == {
        "quiz": {"Why?": {"answer": "a"}},
        "task": {"task": {"met": True}},
        "exercises": {"one": {"right": True, "wrong": 4}},
    }
    assert learner.guesses == {"?": {"guess": 1, "measured": 3}}


ENTRY = st.dictionaries(
    st.sampled_from(["right", "held", "met", "answer", "wrong"]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
)
RECORD = st.dictionaries(
    st.sampled_from(["00", "01"]),
    st.dictionaries(
        st.sampled_from(record.KINDS), st.dictionaries(st.sampled_from("ab"), ENTRY)
    ),
)


@given(st.lists(RECORD, max_size=4))
def test_merging_loses_nothing_that_was_met(records):
    whole = record.merged(records)
    flag = record.MET
    for one in records:
        for lesson, kinds in one.items():
            for kind, named in kinds.items():
                for name, entry in named.items():
                    found = whole[lesson][kind][name]
                    if kind in flag and entry.get(flag[kind]) is True:
                        assert found[flag[kind]] is True
                    wrong = record.wrong_checks(entry)
                    if kind != "quiz":
                        assert record.wrong_checks(found) >= wrong
                    if kind == "quiz" and "answer" in entry:
                        assert "answer" in found
    again = record.merged([whole, whole])
    assert repr(again) == repr(whole)


def test_two_classes_of_the_same_names_do_not_mix(tmp_path):
    for number, place in enumerate(("a", "b")):
        kept = {"00_start_here": finished_lesson("00_start_here")} if number else {}
        hand_in(tmp_path / place, "ann", kept)
        names.write(tmp_path / place, {"ann": f"Tree {place}"})
    lines = [built(tmp_path / place).table("Each learner")[0] for place in "ab"]
    assert [line[:2] for line in lines] == [["Tree a", "0"], ["Tree b", "1"]]


# ---------------------------------------------------------------------- what is refused


def test_links_and_names_that_are_none_are_refused(tmp_path):
    class_folder = tmp_path / "class"
    secret = tmp_path / "secret"
    put(secret / "my_progress.json", {LESSON: finished_lesson(LESSON)})
    hand_in(class_folder, "ann", {})
    submitted = class_folder / "submitted"
    (submitted / "link").symlink_to(secret)
    (submitted / "ann" / "my_progress.json").symlink_to(secret / "my_progress.json")
    (submitted / "ann" / "more").symlink_to(secret)
    os.mkfifo(submitted / "ann" / "my_guesses.json")
    for name in ("<script>alert(1)<", "=cmd()", "a\nb", "x" * 81, "\u202egnp"):
        (submitted / name).mkdir()
    (submitted / ".hidden").mkdir()
    (submitted / "a file").write_text("")
    shown = built(class_folder, "--names", "real")
    assert [line[0] for line in shown.table("Each learner")] == ["ann"]
    assert shown.table("Each learner")[0][1] == "0"
    skipped = {line[1]: line[2] for line in shown.table("Files that are not")}
    assert skipped["link"] == "it is a link, and links are not followed"
    assert skipped["ann/my_progress.json"] == "it is a link or no plain file"
    assert skipped["ann/my_guesses.json"] == "it is a link or no plain file"
    assert len(skipped) == 8 and "a?b" in skipped
    assert "script" not in shown.tags
    # without real names no path is shown
    shown = built(class_folder)
    assert "ann" not in shown.text.replace("cannot", "") and "alert" not in shown.text


DAMAGED = [
    b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000, b" " * (record.LARGEST + 1),
    b'{"a": ' + b"9" * 5000 + b"}",
    json.dumps({LESSON: {"claims": {str(i): {} for i in range(2000)}}}).encode(),
]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: repr(content[:9]))
def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path, content):
    place = hand_in(tmp_path, "ann", {LESSON: finished_lesson(LESSON)})
    (place / "copy").mkdir()
    (place / "copy" / "my_progress.json").write_bytes(content)
    shown = built(tmp_path, "--names", "real")
    ((whose, what, why),) = shown.table("Files that are not")
    assert (whose, what) == ("ann", "ann/labs/copy/my_progress.json")
    assert why and str(tmp_path) not in why
    assert shown.table("Each learner")[0][1] == "1"


def test_a_folder_without_end_is_read_in_part(tmp_path, monkeypatch):
    monkeypatch.setattr(walk, "MOST", 50)
    monkeypatch.setattr(handed_in, "MOST_FILES", 3)
    for number in range(8):
        put(tmp_path / "ann" / str(number) / "my_progress.json", {})
    _, skipped = handed_in.read_learner(tmp_path / "ann")
    assert [each.why for each in skipped] == ["more than 3 files of this name"] * 5
    for number in range(60):
        (tmp_path / "ann" / f"file {number}").write_text("")
    _, skipped = handed_in.read_learner(tmp_path / "ann")
    assert skipped[0].why == "only 50 of its entries were read"
    monkeypatch.setattr(handed_in, "MOST_LEARNERS", 1)
    (tmp_path / "bob").mkdir()
    with pytest.raises(StartError, match="more than 1 entries"):
        handed_in.read_class(tmp_path)


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.just(EVIL)
    | st.sampled_from([10**400, -(10**30), 1e308, float("nan"), "\ud800", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.just(EVIL), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip
QUESTIONS = [a["question"] for a in quizzes.read(LESSON)]
GUESSED = [name for name, (lab, _) in guessed.all_asked().items() if lab == LESSON]
HOSTILE_RECORD = st.dictionaries(
    st.sampled_from([LESSON, EVIL]),
    HOSTILE
    | st.dictionaries(
        st.sampled_from(record.KINDS),
        HOSTILE
        | st.dictionaries(
            st.sampled_from([*QUESTIONS, *progress.listed(), "task", EVIL]),
            HOSTILE
            | st.dictionaries(
                st.sampled_from(
                    ["right", "wrong", "held", "measured", "met", "answer"]
                ),
                HOSTILE,
            ),
        ),
    ),
)
HOSTILE_GUESSES = st.dictionaries(
    st.sampled_from([*GUESSED, EVIL]),
    HOSTILE
    | st.fixed_dictionaries(
        {"low": st.just(0) | HOSTILE, "high": st.sampled_from([90, 100]) | HOSTILE},
        optional=dict.fromkeys(
            ("guess", "measured", "unit", "better", "lesson"),
            HOSTILE | st.floats(-1e3, 1e3),
        ),
    ),
)
NAMES = st.text(min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and "/" not in name and "\0" not in name
)


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    name=NAMES,
    kept=HOSTILE | HOSTILE_RECORD,
    guessed_=HOSTILE | HOSTILE_GUESSES,
    scores=HOSTILE | st.lists(st.just(score_of(9_000)) | HOSTILE, max_size=3),
    whom=st.sampled_from(list(page.PAGES)),
)
def test_whatever_learners_hand_in_a_page_is_written(
    tmp_path_factory, name, kept, guessed_, scores, whom
):
    folder = tmp_path_factory.mktemp("class")
    hand_in(folder, "ann", {LESSON: finished_lesson(LESSON)})
    try:
        place = hand_in(folder, name, kept, guessed_)
    except (UnicodeEncodeError, OSError):
        return  # no disk takes such a name
    put(place / SCORES, scores)
    shown = built(folder, "--names", whom)
    assert "script" not in shown.tags and shown.tags["img"] <= 1
    assert shown.tags["h1"] == 1 and "inf" not in shown.text.split()
    total = shown.table("The class, by lesson")[3][1]
    assert total in ("1 of 1", "1 of 2", "2 of 2")


# ------------------------------------------------------------------------- the command


def test_where_nobody_is_a_sentence_says_so(tmp_path):
    with pytest.raises(
        SystemExit, match="it must be a folder with one folder for each"
    ):
        page.main(["--folder", str(tmp_path)])
    (tmp_path / "submitted").mkdir()
    with pytest.raises(SystemExit, match=r"No learner is in .*submitted yet"):
        page.main(["--folder", str(tmp_path)])
    with pytest.raises(SystemExit, match="cannot be read"):
        page.main(["--folder", str(tmp_path), "--from", str(tmp_path / "gone")])
    assert [path.name for path in tmp_path.iterdir()] == ["submitted"]


def test_the_folder_is_that_of_the_variable(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CLASS", str(tmp_path))
    hand_in(tmp_path, "ann", {})
    (tmp_path / "submitted" / "=bob").mkdir()
    page.main([])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Skipped: =bob: no learner's name")
    assert said[-1] == f"Written: {tmp_path / 'class.html'} (1 learners)."
    names.write(tmp_path, {})
    page.main([])
    assert "Not in names.csv, so in no ranking: ann." in capsys.readouterr().out


def test_an_old_time_of_a_file_is_a_day_and_no_other_is(tmp_path):
    from tools.classroom.sections import day

    assert day(1_000_000_000) == "09\u00a0Sep\u00a02001"
    assert {day(when) for when in (0, -5, 1e18)} == {"-"}


def test_ranking_refuses_numbers_that_are_none():
    sound = score_of(40_000)
    assert ranking.read(sound) == Cost(40_000, 12.0, 0.93)
    for key in ("bytes", "speedup", "accuracy", "points"):
        for value in (None, "1", True, float("nan"), float("inf"), -1, 0, 10**30):
            if (key, value) != ("accuracy", True):
                assert ranking.read(sound | {key: value}) is None
