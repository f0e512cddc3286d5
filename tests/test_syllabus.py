"""What a lesson says of itself, and the tables that are made of it."""

import json

import pytest

from tools import syllabus
from tools.syllabus import Lesson

FACTS = {"title": "Pruning", "question": "Why?", "hours": 1.5, "needs": [1, 2]}


def lay(root, name: str, facts: dict, seconds: list[float] | None = None):
    """Write lesson.toml, and times.json where there are seconds; return the folder."""
    folder = root / "lessons" / name
    folder.mkdir(parents=True)
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in facts.items()]
    (folder / "lesson.toml").write_text("".join(lines), encoding="utf-8")
    if seconds is not None:
        (folder / "times.json").write_text(json.dumps(seconds))
    return folder


def markers(name: str) -> str:
    return (
        f"<!-- {name}: written by `make notebooks` -->\nold\n<!-- end of {name} -->\n"
    )


def test_a_lesson_is_read_from_its_folder(tmp_path):
    found = syllabus.read(lay(tmp_path, "03_x", FACTS, [1.5, 2.5]))
    assert found == Lesson("03_x", "Pruning", "Why?", 1.5, (1, 2), (1.5, 2.5))
    assert (found.number, found.heading) == ("03", "# 03 Pruning")
    assert (found.time, found.needed()) == ("an hour and a half", ["01", "02"])


def test_a_lesson_that_was_never_built_has_no_seconds(tmp_path):
    assert syllabus.read(lay(tmp_path, "03_x", FACTS)).seconds == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"title": ""}, "title = '' must be one line"),
        ({"question": "a\nb"}, "question = 'a\\\\nb' must be one line"),
        ({"question": "a|b"}, "without |"),
        ({"hours": 1.7}, "hours = 1.7 must be one of 0.2, 0.5, 1, "),
        ({"hours": "two"}, "hours = 'two' is of the wrong type"),
        ({"needs": [3]}, r"needs = \[3\] must be numbers of earlier lessons"),
        ({"needs": ["01"]}, "must be numbers of earlier lessons"),
        ({"more": 1}, "it must say title, question, hours, needs"),
    ],
)
def test_facts_that_make_no_sense_are_refused_with_the_file(tmp_path, change, said):
    folder = lay(tmp_path, "03_x", FACTS | change)
    with pytest.raises(ValueError, match=said) as caught:
        syllabus.read(folder)
    assert "lesson.toml" in str(caught.value)


def test_a_folder_without_facts_is_refused(tmp_path):
    (tmp_path / "03_x").mkdir()
    with pytest.raises(ValueError, match=r"lesson\.toml is missing"):
        syllabus.read(tmp_path / "03_x")


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ((), "nothing"),
        ((3,), "03"),
        ((3, 4), "03 and 04"),
        ((1, 3, 10), "01, 03 and 10"),
    ],
)
def test_what_is_needed_is_said_in_words(needs, words):
    lesson = Lesson("11_x", "Pruning", "Why?", 1, needs)
    assert f"- **Needs:** {words}.\n" in syllabus.head(lesson)


def test_each_folder_is_a_row_of_every_table_and_writing_twice_changes_nothing(
    tmp_path,
):
    lay(tmp_path, "10_z", FACTS | {"needs": [1, 9]}, [1.2, 3.4])
    lay(tmp_path, "09_y", FACTS | {"needs": []})
    front, page = tmp_path / "README.md", tmp_path / "lessons" / "README.md"
    front.write_text(f"before\n{markers('lessons')}after\n", encoding="utf-8")
    page.write_text(markers("syllabus") + markers("times"), encoding="utf-8")
    for _ in range(2):
        syllabus.write(tmp_path)
        text = front.read_text(encoding="utf-8")
        assert text.startswith("before\n") and text.endswith("\nafter\n")
        assert text.splitlines()[5:7] == [
            "| 09 | [Pruning](lessons/09_y/README.md) | Why? | 1.5 | - |",
            "| 10 | [Pruning](lessons/10_z/README.md) | Why? | 1.5 | 5 s |",
        ]
        text = page.read_text(encoding="utf-8")
        assert "old" not in text
        assert "| 09 | [Pruning](09_y/README.md) | Why? | 1.5 | - |" in text
        assert "| 10 | [Pruning](10_z/README.md) | Why? | 1.5 | 01, 09 |" in text
        assert "| 09_y | - | - | - |\n| 10_z | 2 | 5 s | 3 s |" in text


def test_a_page_without_its_markers_is_refused():
    with pytest.raises(ValueError, match="<!-- times: written by"):
        syllabus.filled("no table here", "times", [])
