"""Each lesson, found by its folder: complete, built from its sources, of the shape of
a lab, with a quiz that can be answered.

`make check-lesson NAME=07_recovery` runs what is here for one of them.
"""

import ast
import json
import re
import statistics
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from test_pages import leads_somewhere, links

from tools import notebooks, syllabus
from tools.drawings import drawings
from tools.table import lines
from utils import quizzes
from utils.exercises import load
from utils.quizzes import quiz

ROOT = Path(__file__).parents[1]
FOLDERS = syllabus.folders(notebooks.LESSONS)
LESSONS = [folder.name for folder in FOLDERS]
FILES = (
    "lesson.toml",
    "README.md",
    "lab.py",
    "figures.py",
    "drawings.py",
    "exercises.py",
    "quiz.json",
    "teaching.md",
)
REBUILD = "run `make notebooks`"
LABS = [lab for lesson in LESSONS for lab in notebooks.labs(lesson)]
each_lesson = pytest.mark.parametrize("lesson", LESSONS)
each_lab = pytest.mark.parametrize("lab", LABS)  # and what goes further


def built(lab: str):
    """A stored notebook."""
    path = notebooks.NOTEBOOKS / f"{lab}.ipynb"
    assert path.is_file(), f"notebooks/{lab}.ipynb is missing: {REBUILD}"
    return nbformat.read(path, as_version=4)


def code_cells(lab: str) -> list:
    """The code cells of a lab, from its source."""
    return [
        cell
        for cell in notebooks.source_notebook(lab).cells
        if cell.cell_type == "code"
    ]


# ---------------------------------------------------------------------------- its facts


@each_lesson
def test_a_lesson_is_complete(lesson):
    assert re.fullmatch(r"\d\d_[a-z0-9_]+", lesson)
    folder = notebooks.LESSONS / lesson
    missing = [name for name in FILES if not (folder / name).is_file()]
    assert not missing, f"lessons/{lesson} lacks {missing}"


def test_there_are_lessons_and_each_has_a_number_of_its_own():
    numbers = [name[:2] for name in LESSONS]
    assert numbers and len(set(numbers)) == len(numbers)


@each_lesson
def test_a_lesson_builds_on_lessons_that_there_are(lesson):
    facts = syllabus.read(notebooks.LESSONS / lesson)
    assert set(facts.needed()) <= {name[:2] for name in LESSONS}


@each_lesson
def test_the_page_begins_with_the_title_the_question_and_the_hours(lesson):
    folder = notebooks.LESSONS / lesson
    facts = syllabus.read(folder)
    text = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    time = facts.time[0].upper() + facts.time[1:]
    assert text.startswith(f"{facts.heading} **{facts.question}** {time}")


@each_lesson
def test_the_teaching_notes_name_the_lesson(lesson):
    folder = notebooks.LESSONS / lesson
    text = (folder / "teaching.md").read_text(encoding="utf-8")
    assert text.startswith(f"# For the teacher: {syllabus.read(folder).heading[2:]}\n")


def test_the_tables_of_lessons_are_those_of_their_folders():
    for page, wanted in syllabus.pages(ROOT).items():
        assert page.read_text(encoding="utf-8") == wanted, f"{page}: {REBUILD}"


@each_lesson
def test_each_table_lists_the_lesson(lesson):
    places = (ROOT / "README.md", ROOT / "lessons" / "README.md")
    front, page = (place.read_text(encoding="utf-8") for place in places)
    assert front.count(f"](lessons/{lesson}/README.md) |") == 1
    assert page.count(f"]({lesson}/README.md) |") == 1
    assert page.count(f"\n| {lesson} |") == 1


# ------------------------------------------------------------------- source to notebook


@each_lab
def test_building_twice_gives_the_same_bytes(lab):
    first, second = (
        nbformat.writes(notebooks.source_notebook(lab), version=4) for _ in range(2)
    )
    assert first == second
    ids = [cell.id for cell in notebooks.source_notebook(lab).cells]
    assert len(set(ids)) == len(ids) and all(
        re.match(rf"(lab|further){lab[:2]}-", i) for i in ids
    )
    nbformat.validate(nbformat.reads(first, as_version=4))


@each_lab
def test_the_notebook_is_the_one_its_lab_gives(lab):
    wanted = notebooks.parts(notebooks.source_notebook(lab))
    found = notebooks.parts(built(lab))
    differing = [new[0] for new, old in zip(wanted, found, strict=False) if new != old]
    assert wanted == found, (
        f"notebooks/{lab}.ipynb differs from its source at {differing or 'its end'}:"
        f" {REBUILD}"
    )


@each_lab
def test_the_notebook_was_run_from_top_to_bottom_and_nothing_failed(lab):
    notebook = built(lab)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), (
        REBUILD
    )
    for cell in code:
        assert not [
            output.ename for output in cell.outputs if output.output_type == "error"
        ], cell.id
        assert "DOES NOT HOLD HERE" not in str(cell.outputs), cell.id
    assert "did not hold here" not in str(code[-1].outputs)


@each_lab
def test_the_notebook_carries_no_widget_state_and_nothing_of_the_machine(lab):
    notebook = built(lab)
    assert "widgets" not in notebook.metadata
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    outputs = json.dumps([cell.get("outputs", []) for cell in notebook.cells])
    for folder in (ROOT, Path.home(), "/tmp"):
        assert f"{folder}/" not in outputs, f"an output names {folder}"


@each_lab
def test_every_stored_picture_has_a_description_and_text_beside_it(lab):
    for cell in built(lab).cells:
        for output in cell.get("outputs", []):
            for kind in output.get("data", {}).keys() & notebooks.PICTURES:
                assert output.metadata[kind]["alt"].strip(), cell.id
                assert not output.data["text/plain"].startswith("<"), cell.id


@each_lab
def test_a_cell_with_a_progress_bar_is_not_compared(lab):
    """Its bar shows seconds, which differ from run to run."""
    for cell in built(lab).cells:
        if any(output.get("name") == "stderr" for output in cell.get("outputs", [])):
            assert "nbval-ignore-output" in cell.metadata.get("tags", []), (
                f"{cell.id}: tag it nbval-ignore-output"
            )


def test_there_is_no_notebook_without_a_lab():
    found = sorted(path.stem for path in notebooks.NOTEBOOKS.glob("*.ipynb"))
    assert found == sorted(LABS), REBUILD


@each_lab
def test_a_notebook_is_small(lab):
    built(lab)
    assert (notebooks.NOTEBOOKS / f"{lab}.ipynb").stat().st_size <= 1_500_000


@each_lab
def test_the_time_of_a_lab_is_recorded_and_within_its_budget(lab):
    path = notebooks.source(lab)
    seconds = syllabus.read_times(path.parent / syllabus.TIMES[path.stem])
    assert len(seconds) == len(code_cells(lab)), REBUILD
    slow = {i: s for i, s in enumerate(seconds) if s > 1.5 * syllabus.CELL_BUDGET}
    assert not slow, f"code cells by number, seconds: {slow}"
    assert sum(seconds) <= 1.5 * syllabus.LAB_BUDGET


# ------------------------------------------------------------------- the shape of a lab


@each_lab
def test_a_lab_is_one_sitting_of_short_cells(lab):
    lengths = sorted(map(lines, code_cells(lab)))
    assert len(lengths) <= (20 if lab in LESSONS else 24)
    assert statistics.median(lengths) <= 8, lengths
    assert lengths[int(0.9 * (len(lengths) - 1))] <= 20, lengths


def calls(lab: str) -> list[str]:
    """What a lab calls by name, in order."""
    return [
        node.func.id
        for cell in code_cells(lab)
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]


def prose_of(lab: str) -> str:
    """The Markdown of a lab."""
    cells = notebooks.source_notebook(lab).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@each_lesson
def test_a_lab_predicts_claims_asks_and_finishes(lesson):
    code, called = code_cells(lesson), calls(lesson)
    assert called.count("predict") >= 3
    assert called.count("claim") >= 3
    assert called.count("check") >= 1
    assert called.count("quiz") == called.count("finish") == 1
    assert called.count("progress") >= 1
    assert code[-1].source == "finish()"
    assert any(cell.source == f'quiz("{lesson}")' for cell in code)
    for heading in (
        "**The question:**",
        "**Time:**",
        "## One look at the test set",
        "## Take away",
    ):
        assert heading in prose_of(lesson), heading


@each_lab
def test_every_guess_is_compared_with_what_was_measured(lab):
    source = "\n".join(cell.source for cell in code_cells(lab))
    asked = re.findall(r"^(\w+) = predict\(", source, flags=re.M)
    assert len(asked) == calls(lab).count("predict")
    assert not [name for name in asked if f"{name}.compare(" not in source]


@each_lab
def test_a_second_sitting_finishes_and_leads_back(lab):
    if lab not in LESSONS:
        assert code_cells(lab)[-1].source == "finish()"
        lesson = lab.removesuffix(notebooks.FURTHER)
        assert f"]({lesson}.ipynb)" in prose_of(lab)
        assert f"]({lab}.ipynb)" in prose_of(lesson)


@each_lab
def test_a_figure_is_a_line_in_its_lab(lab):
    for cell in code_cells(lab):
        tags = cell.metadata.get("tags", [])
        if any(tag.startswith("figure:") for tag in tags) and "draw." in cell.source:
            assert lines(cell) <= 4, f"{cell.id}: {cell.source}"
        assert "alt=" not in cell.source and "plots.show" not in cell.source, cell.id


SHOWING = ("plots.show", "plots.show_moving")


@each_lesson
def test_every_figure_of_a_lesson_has_a_description(lesson):
    path, found = notebooks.LESSONS / lesson / "figures.py", 0
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in SHOWING:
            alt = [
                keyword.value for keyword in node.keywords if keyword.arg == "alt"
            ] or node.args[1:2]
            assert alt, f"{path}:{node.lineno}: plots.show without alt"
            words = len(ast.unparse(alt[0]).split())
            assert words >= 6, f"{path}:{node.lineno}: {ast.unparse(alt[0])}"
            found += 1
    assert found >= 2


@each_lab
def test_no_figure_goes_past_plots_show(lab):
    for cell in code_cells(lab):
        assert not re.search(r"pyplot|plt\.|savefig|%matplotlib", cell.source), cell.id


@each_lab
def test_three_hints_lead_to_each_exercise(lab):
    cells = notebooks.source_notebook(lab).cells
    stubs = [
        i
        for i, cell in enumerate(cells)
        if cell.cell_type == "code" and cell.source.rstrip().endswith("\n    ...")
    ]
    assert stubs or lab not in LESSONS
    for index in stubs:
        prose = cells[index - 1].source
        assert prose.count("<details>") == prose.count("</details>") == 3, cells[
            index
        ].id
        assert all(f"Hint {number}" in prose for number in (1, 2, 3)), cells[index].id


@each_lab
def test_every_link_of_a_lab_leads_somewhere_from_the_notebook(lab):
    place = notebooks.NOTEBOOKS / f"{lab}.ipynb"
    for cell in notebooks.source_notebook(lab).cells:
        if cell.cell_type == "markdown":
            for _, _, target in links(cell.source):
                name, dot, kind = target.partition(".ipynb")
                inside = dot and not kind and name in LABS
                assert inside or leads_somewhere(place, target), f"{cell.id}: {target}"


@each_lesson
def test_each_picture_in_the_folder_comes_from_a_tagged_cell_or_a_drawing(lesson):
    folder = notebooks.LESSONS / lesson
    tags = [
        tag
        for lab in notebooks.labs(lesson)
        for cell in notebooks.source_notebook(lab).cells
        for tag in cell.metadata.get("tags", [])
    ]
    named = [tag.removeprefix("figure:") for tag in tags if tag.startswith("figure:")]
    named += drawings(folder)
    assert len(set(named)) == len(named)
    stored = sorted(path.stem for path in (folder / "figures").glob("*"))
    assert stored == sorted(named), REBUILD


@each_lesson
def test_the_drawings_of_a_lesson_are_those_its_code_makes(lesson):
    folder = notebooks.LESSONS / lesson
    drawn = drawings(folder)
    assert drawn
    for name, drawing in drawn.items():
        stored = (folder / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        assert stored == drawing.svg(), "run `make drawings`"
        ElementTree.fromstring(stored)


# ----------------------------------------------------------------------------- its page

ANSWERS = "## What you will have found"


@each_lesson
def test_a_page_asks_before_it_tells(lesson):
    """The idea, a drawing, the lab; then what was found."""
    page = notebooks.LESSONS / lesson / "README.md"
    text = page.read_text(encoding="utf-8")
    assert text.count(ANSWERS) == 1
    asks, tells = text.split(ANSWERS)
    assert f"](../../notebooks/{lesson}.ipynb)" in asks
    pictures = [target for picture, _, target in links(asks) if picture]
    assert any(target.endswith(".svg") for target in pictures)
    assert not [each for each in pictures if each in of_results(lesson)]
    assert any(picture for picture, _, _ in links(tells))


def of_results(lesson: str) -> set[str]:
    """The pictures of a lesson that tell what comes out: all but its drawings, and but
    those of the data."""
    figures = (notebooks.LESSONS / lesson / "figures").glob("*.*")
    kept = ("pictures", "data", "examples")
    return {
        f"figures/{path.name}"
        for path in figures
        if path.suffix != ".svg" and path.stem not in kept
    }


# ------------------------------------------------------------------------ its open task


@each_lesson
def test_a_lesson_from_02_on_has_something_to_decide(lesson):
    if lesson[:2] in ("00", "01"):
        pytest.skip("the first two only measure")
    source = "\n".join(cell.source for cell in code_cells(lesson))
    assert f'decide("{lesson}", ' in source or lesson == "12_capstone"
    assert re.search(r"^\w+ = \.\.\.", source, flags=re.M) or lesson == "12_capstone"


TASKS = [name for name in LESSONS if (notebooks.LESSONS / name / "task.py").is_file()]


@pytest.mark.parametrize("lesson", TASKS)
def test_a_good_choice_meets_the_goals_and_the_obvious_ones_miss_one(lesson):
    task = load(lesson, "task").TASK
    assert task.goals() and task.naive
    assert task.missed(task.measure(task.reference)) == []
    for name, choice in task.naive.items():
        assert task.missed(task.measure(choice)), f"{name} meets every goal"


@pytest.mark.parametrize("lesson", TASKS)
@pytest.mark.parametrize("senseless", [None, "much", {"?": 1}, -1, [float("nan")]])
def test_a_choice_without_sense_is_refused_in_a_sentence(lesson, senseless):
    task = load(lesson, "task").TASK
    with pytest.raises(ValueError, match=r"\w \w") as refused:
        task.measure(senseless)
    ours = Path(refused.traceback[-1].path).relative_to(ROOT)
    assert ours.parts[0] in ("lessons", "utils")


# ----------------------------------------------------------------------------- its quiz


def questions_of(lesson: str) -> list[dict]:
    """The questions of a quiz, as written."""
    path = notebooks.LESSONS / lesson / "quiz.json"
    return json.loads(path.read_text(encoding="utf-8"))


def choices_of(questions: list[dict]) -> list[list[dict]]:
    """The answers of each question that has answers to choose from."""
    return [question["answers"] for question in questions if "answers" in question]


@each_lesson
def test_the_quiz_of_a_lesson_is_complete(lesson):
    questions = questions_of(lesson)
    assert quizzes.what_is_wrong(questions) == ""
    assert len(questions) >= 2
    answers = [answer for choice in choices_of(questions) for answer in choice]
    for choice in choices_of(questions):
        assert len({answer["feedback"] for answer in choice}) == len(choice)
    assert all(len(answer["feedback"].split()) >= 3 for answer in answers)
    shown = quiz(lesson)
    others = len(questions) - len(choices_of(questions))
    assert shown._repr_html_().count("<details>") == len(answers) + others
    assert repr(shown).count("\n") + 1 == len(questions) + len(answers)


@each_lesson
def test_a_question_for_a_number_is_about_a_claim_of_its_lab(lesson):
    claims = [
        ast.literal_eval(call.args[0])
        for cell in code_cells(lesson)
        for call in ast.walk(ast.parse(cell.source))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "claim"
        if call.args and isinstance(call.args[0], ast.Constant)
    ]
    for question in questions_of(lesson):
        if "number" in question:
            assert question["number"]["claim"] in claims


@each_lesson
def test_a_question_looks_back_only_to_an_earlier_lesson(lesson):
    for question in questions_of(lesson):
        if "about" in question:
            assert question["about"] in {name[:2] for name in LESSONS if name < lesson}


@each_lesson
def test_the_plain_quiz_does_not_give_the_answer_away(lesson):
    text = repr(quiz(lesson))
    for question in questions_of(lesson):
        hidden = [answer["feedback"] for answer in question.get("answers", [])]
        hidden += [question.get("feedback", "\0"), question.get("model", "\0")]
        assert not any(words in text for words in hidden)


def gives_nothing_away(questions: list[dict]) -> str:
    """What an answer's place or length tells of whether it is right; empty when it
    tells little: the right one is the longest, alone, of at most 40% of the questions,
    and stands at no place in more than half of them."""
    choices = choices_of(questions)
    longest = 0
    for choice in choices:
        right = next(answer for answer in choice if answer["right"])
        others = (len(a["answer"]) for a in choice if a is not right)
        longest += len(right["answer"]) > max(others)
    found = [[answer["right"] for answer in choice].index(True) for choice in choices]
    places = max(map(found.count, found), default=0)
    said = []
    if longest > 0.4 * len(choices):
        said.append(f"the longest answer is right in {longest} of {len(choices)}")
    if places > 0.5 * len(choices):
        place = "abcdef"[max(found, key=found.count)]
        said.append(f"answer {place} is right in {places} of {len(choices)}")
    return "; ".join(said)


def choice(*lengths: int, right: int = 0) -> dict:
    """A question whose answers are so long."""
    return {
        "question": "?",
        "answers": [
            {"answer": number * "x", "right": place == right, "feedback": "."}
            for place, number in enumerate(lengths)
        ],
    }


@pytest.mark.parametrize(
    ("questions", "said"),
    [
        ([], ""),
        ([{"question": "?", "model": ".", "rubric": ["."]}], ""),
        ([choice(2, 3), choice(3, 2, right=1)], ""),
        ([choice(3, 3), choice(3, 3, right=1)], ""),
        ([choice(3, 2), choice(2, 3, right=1)], "longest answer is right in 2 of 2"),
        ([choice(2, 3), choice(2, 3)], "answer a is right in 2 of 2"),
        ([choice(2, 3, right=1)] * 2 + [choice(2, 3)] * 2, "longest"),
        ([choice(2, 3, right=1)] * 2 + [choice(2, 3)] * 3, "answer a is right in 3"),
    ],
)
def test_what_gives_a_quiz_away_is_found(questions, said):
    found = gives_nothing_away(questions)
    assert said in found and bool(said) == bool(found)


def test_the_quizzes_of_the_course_give_nothing_away():
    questions = [question for lesson in LESSONS for question in questions_of(lesson)]
    assert gives_nothing_away(questions) == ""


@each_lesson
def test_a_quiz_asks_for_a_number_a_sentence_and_an_earlier_lesson(lesson):
    questions = questions_of(lesson)
    assert len(questions) >= (3 if lesson[:2] == "00" else 5)
    assert any("number" in question for question in questions)
    if lesson[:2] != "00":
        assert any("model" in question for question in questions)
        assert any("about" in question for question in questions)
