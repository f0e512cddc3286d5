"""From lesson to notebook: the built files fit their sources, the labs keep their
shape, every link leads somewhere."""

import ast
import json
import re
import shutil
import statistics
import subprocess
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from tools import notebooks

ROOT = Path(__file__).parents[1]
LABS = notebooks.lessons()
LESSON_FOLDERS = sorted(
    path for path in notebooks.LESSONS.glob("[0-9]*") if path.is_dir()
)
OWN = ("lessons", "data", "tools", "tests", "utils", "notebooks")
PAGES = sorted(
    {
        *ROOT.glob("*.md"),
        *(page for folder in OWN for page in (ROOT / folder).rglob("*.md")),
    }
)
REBUILD = "run `make notebooks`"


def parts(cells) -> list[tuple]:
    """What of a notebook comes from its lab.py."""
    return [
        (cell.id, cell.cell_type, cell.source, list(cell.metadata.get("tags", [])))
        for cell in cells
    ]


def built(lesson: str):
    """The stored notebook of a lesson."""
    path = notebooks.NOTEBOOKS / f"{lesson}.ipynb"
    assert path.is_file(), f"notebooks/{lesson}.ipynb is missing: {REBUILD}"
    return nbformat.read(path, as_version=4)


def code_cells(lesson: str) -> list:
    """The code cells of a lab, from its source."""
    return [
        cell
        for cell in notebooks.source_notebook(lesson).cells
        if cell.cell_type == "code"
    ]


def lines_of(cell) -> int:
    """Lines of a cell, blank ones not counted."""
    return sum(bool(line.strip()) for line in cell.source.splitlines())


# ------------------------------------------------------------------- source to notebook


def test_there_are_labs_and_each_lesson_is_complete():
    assert LABS
    assert [folder.name for folder in LESSON_FOLDERS] == LABS
    for folder in LESSON_FOLDERS:
        missing = [
            n
            for n in ("README.md", "lab.py", "quiz.json", "teaching.md")
            if not (folder / n).is_file()
        ]
        assert not missing, f"{folder.name} lacks {missing}"


@pytest.mark.parametrize("lesson", LABS)
def test_building_twice_gives_the_same_bytes(lesson):
    first, second = (
        nbformat.writes(notebooks.source_notebook(lesson), version=4) for _ in range(2)
    )
    assert first == second
    ids = [cell.id for cell in notebooks.source_notebook(lesson).cells]
    assert len(set(ids)) == len(ids) and all(
        i.startswith(f"lab{lesson[:2]}-") for i in ids
    )
    nbformat.validate(nbformat.reads(first, as_version=4))


@pytest.mark.parametrize("lesson", LABS)
def test_the_notebook_is_the_one_its_lab_gives(lesson):
    wanted, found = (
        parts(notebooks.source_notebook(lesson).cells),
        parts(built(lesson).cells),
    )
    differing = [new[0] for new, old in zip(wanted, found, strict=False) if new != old]
    assert wanted == found, (
        f"notebooks/{lesson}.ipynb differs from its lab.py at {differing or 'its end'}:"
        f" {REBUILD}"
    )


@pytest.mark.parametrize("lesson", LABS)
def test_the_notebook_was_run_from_top_to_bottom_and_nothing_failed(lesson):
    notebook = built(lesson)
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


@pytest.mark.parametrize("lesson", LABS)
def test_the_notebook_carries_no_widget_state_and_nothing_of_the_machine(lesson):
    notebook = built(lesson)
    assert "widgets" not in notebook.metadata
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    outputs = json.dumps([cell.get("outputs", []) for cell in notebook.cells])
    for folder in (ROOT, Path.home(), "/tmp"):
        assert f"{folder}/" not in outputs, f"an output names {folder}"


@pytest.mark.parametrize("lesson", LABS)
def test_every_stored_picture_has_a_description_and_text_beside_it(lesson):
    for cell in built(lesson).cells:
        for output in cell.get("outputs", []):
            for kind in output.get("data", {}).keys() & notebooks.PICTURES:
                assert output.metadata[kind]["alt"].strip(), cell.id
                assert not output.data["text/plain"].startswith("<"), cell.id


@pytest.mark.parametrize("lesson", LABS)
def test_a_cell_with_a_progress_bar_is_not_compared(lesson):
    """Its bar shows seconds, which differ from run to run."""
    for cell in built(lesson).cells:
        if any(output.get("name") == "stderr" for output in cell.get("outputs", [])):
            assert "nbval-ignore-output" in cell.metadata.get("tags", []), (
                f"{cell.id}: tag it nbval-ignore-output"
            )


def test_there_is_no_notebook_without_a_lab():
    assert sorted(path.stem for path in notebooks.NOTEBOOKS.glob("*.ipynb")) == LABS, (
        REBUILD
    )


# ----------------------------------------------------------------------------- the tool


@pytest.fixture
def lesson_folder(tmp_path, monkeypatch) -> Path:
    """Lessons somewhere else: one with two cells."""
    folder = tmp_path / "lessons"
    (folder / "05_x").mkdir(parents=True)
    text = '# %% [markdown]\n# # Title\n\n# %% tags=["figure:one"]\n1 + 1\n'
    (folder / "05_x" / "lab.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(notebooks, "LESSONS", folder)
    monkeypatch.setattr(notebooks, "TIMES", folder / "timings.json")
    return folder


def test_ids_tags_and_text_come_from_the_lab(lesson_folder):
    wanted = [
        ("lab05-000", "markdown", "# Title", []),
        ("lab05-001", "code", "1 + 1", ["figure:one"]),
    ]
    assert parts(notebooks.source_notebook("05_x").cells) == wanted


def test_a_tagged_picture_is_written_and_a_missing_one_is_an_error(lesson_folder):
    notebook = notebooks.source_notebook("05_x")
    with pytest.raises(
        RuntimeError, match="05_x: the cell tagged figure:one shows no picture"
    ):
        notebooks.write_figures("05_x", notebook)
    notebook.cells[1].outputs = [
        nbformat.v4.new_output("display_data", {"image/png": "aGVsbG8="})
    ]
    assert notebooks.write_figures("05_x", notebook) == ["one"]
    assert (lesson_folder / "05_x" / "figures" / "one.png").read_bytes() == b"hello"
    notebook.cells[1].outputs = [
        nbformat.v4.new_output("display_data", {"image/gif": "aGVsbG8="})
    ]
    notebooks.write_figures("05_x", notebook)
    assert (lesson_folder / "05_x" / "figures" / "one.gif").read_bytes() == b"hello"


def test_times_are_merged_and_written_into_the_syllabus_and_the_front_page(
    lesson_folder, monkeypatch
):
    front = lesson_folder / "FRONT.md"
    front.write_text(
        "| | lesson | cells run in |\n| 05 | [x](y) | - |\n| 06 | [z](y) | 7 s |\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(notebooks, "FRONT_PAGE", front)
    page = lesson_folder / "README.md"
    page.write_text(
        f"before\n{notebooks.BEGIN}\nold\n{notebooks.END}\nafter\n", encoding="utf-8"
    )
    (lesson_folder / "timings.json").write_text('{"05_x": [9], "gone": [1]}')
    for _ in range(2):
        notebooks.write_times({"05_x": [1.2, 3.4]})
        assert json.loads((lesson_folder / "timings.json").read_text()) == {
            "05_x": [1.2, 3.4]
        }
        text = page.read_text(encoding="utf-8")
        assert (
            text.startswith("before\n")
            and text.endswith("\nafter\n")
            and "old" not in text
        )
        assert "| 05_x | 2 | 5 s | 3 s |" in text
        rows = front.read_text(encoding="utf-8").splitlines()
        assert rows[1:] == ["| 05 | [x](y) | 5 s |", "| 06 | [z](y) | 7 s |"]


# ---------------------------------------------------------------------- times and sizes


def test_each_labs_time_is_recorded_and_within_its_budget():
    times = json.loads(notebooks.TIMES.read_text(encoding="utf-8"))
    assert list(times) == LABS, REBUILD
    for lesson, seconds in times.items():
        assert len(seconds) == len(code_cells(lesson)), f"{lesson}: {REBUILD}"
        slow = {
            index: s
            for index, s in enumerate(seconds)
            if s > 1.5 * notebooks.CELL_BUDGET
        }
        assert not slow, f"{lesson}: code cells by number, seconds: {slow}"
        assert sum(seconds) <= 1.5 * notebooks.LAB_BUDGET, (
            f"{lesson}: {sum(seconds):.0f} s"
        )


def test_no_tracked_file_outside_data_is_large():
    git = shutil.which("git")
    listed = git and subprocess.run(
        [git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
    )
    if not listed or listed.returncode or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    paths = [
        ROOT / name
        for name in listed.stdout.split("\0")
        if name and not name.startswith("data/")
    ]
    large = {
        str(path.relative_to(ROOT)): path.stat().st_size
        for path in paths
        if path.is_file()
    }
    assert not {name: size for name, size in large.items() if size > 1_500_000}


@pytest.mark.parametrize("lesson", LABS)
def test_a_notebook_is_small(lesson):
    built(lesson)
    assert (notebooks.NOTEBOOKS / f"{lesson}.ipynb").stat().st_size <= 1_500_000


# ------------------------------------------------------------------- the shape of a lab


@pytest.mark.parametrize("lesson", LABS)
def test_cells_are_short(lesson):
    lengths = sorted(map(lines_of, code_cells(lesson)))
    assert statistics.median(lengths) <= 8, lengths
    assert lengths[int(0.9 * (len(lengths) - 1))] <= 15, lengths


@pytest.mark.parametrize("lesson", LABS)
def test_a_lab_predicts_claims_asks_and_finishes(lesson):
    code = code_cells(lesson)
    calls = [
        n.func.id
        for cell in code
        for n in ast.walk(ast.parse(cell.source))
        if is_call_by_name(n)
    ]
    assert calls.count("predict") >= 1
    assert calls.count("claim") >= 3
    assert calls.count("check") >= 1
    assert calls.count("quiz") == calls.count("finish") == 1
    assert code[-1].source == "finish()"
    assert any(cell.source == f'quiz("{lesson}")' for cell in code)
    prose = "\n".join(
        cell.source
        for cell in notebooks.source_notebook(lesson).cells
        if cell.cell_type == "markdown"
    )
    for heading in (
        "**The question:**",
        "**Time:**",
        "## One look at the test set",
        "## Take away",
    ):
        assert heading in prose, heading


def is_call_by_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


SHOWING = ("plots.show", "plots.show_moving")


@pytest.mark.parametrize("lesson", LABS)
def test_every_figure_of_a_lab_has_a_description(lesson):
    found = 0
    for cell in code_cells(lesson):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in SHOWING:
                alt = [
                    keyword.value for keyword in node.keywords if keyword.arg == "alt"
                ] or node.args[1:2]
                assert alt, f"{cell.id}: plots.show without alt"
                assert len(ast.unparse(alt[0]).split()) >= 6, (
                    f"{cell.id}: {ast.unparse(alt[0])}"
                )
                found += 1
    assert found >= 2


@pytest.mark.parametrize("lesson", LABS)
def test_no_figure_goes_past_plots_show(lesson):
    for cell in code_cells(lesson):
        assert not re.search(r"pyplot|plt\.|savefig|%matplotlib", cell.source), cell.id


@pytest.mark.parametrize("lesson", LABS)
def test_three_hints_lead_to_each_exercise(lesson):
    cells = notebooks.source_notebook(lesson).cells
    stubs = [
        i
        for i, cell in enumerate(cells)
        if cell.cell_type == "code" and cell.source.rstrip().endswith("\n    ...")
    ]
    assert stubs
    for index in stubs:
        prose = cells[index - 1].source
        assert prose.count("<details>") == prose.count("</details>") == 3, cells[
            index
        ].id
        assert all(f"Hint {number}" in prose for number in (1, 2, 3)), cells[index].id


# -------------------------------------------------------------------- figures and links

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)[^)]*\)")


def links(text: str) -> list[tuple[bool, str, str]]:
    """(is a picture, its text, where it leads) of every link in Markdown; code is left
    out."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
    return [(bool(mark), words, target) for mark, words, target in LINK.findall(text)]


def slug(heading: str) -> str:
    """The anchor that a heading gets on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def leads_somewhere(page: Path, target: str) -> bool:
    """Whether a relative link leads to a file of the project, and its anchor to a
    heading."""
    if re.match(r"[a-z]+:", target):
        return target.startswith(("https:", "mailto:"))
    file, _, anchor = target.partition("#")
    path = (page.parent / file).resolve() if file else page
    if not path.exists() or not path.is_relative_to(ROOT):
        return False
    headings = (
        re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.M)
        if path.suffix == ".md"
        else []
    )
    return not anchor or anchor in map(slug, headings)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    dead = [
        t
        for picture, _, t in links(page.read_text(encoding="utf-8"))
        if not picture and not leads_somewhere(page, t)
    ]
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_picture_of_a_page_is_there_and_described(page):
    for picture, words, target in links(page.read_text(encoding="utf-8")):
        if picture:
            assert len(words.split()) >= 4, f"{target}: alt text {words!r}"
            assert leads_somewhere(page, target), f"{target} is missing: {REBUILD}"
            with Image.open(page.parent / target) as image:
                image.verify()


@pytest.mark.parametrize("lesson", LABS)
def test_every_link_of_a_lab_leads_somewhere_from_the_notebook(lesson):
    place = notebooks.NOTEBOOKS / f"{lesson}.ipynb"
    for cell in notebooks.source_notebook(lesson).cells:
        if cell.cell_type == "markdown":
            for _, _, target in links(cell.source):
                inside = (
                    target.endswith(".ipynb") and target.removesuffix(".ipynb") in LABS
                )
                assert inside or leads_somewhere(place, target), f"{cell.id}: {target}"


@pytest.mark.parametrize("lesson", LABS)
def test_each_figure_in_the_folder_comes_from_a_tagged_cell_and_back(lesson):
    tags = [
        tag
        for cell in notebooks.source_notebook(lesson).cells
        for tag in cell.metadata.get("tags", [])
    ]
    named = [tag.removeprefix("figure:") for tag in tags if tag.startswith("figure:")]
    assert len(set(named)) == len(named)
    stored = sorted(
        path.stem for path in (notebooks.LESSONS / lesson / "figures").glob("*")
    )
    assert stored == sorted(named), REBUILD
