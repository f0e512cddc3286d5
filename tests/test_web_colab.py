"""Where the course is published: the links to it, the notebooks as Colab opens them,
and what is installed there."""

import ast
import json
import re
import runpy

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from tools import notebooks
from tools.start import colab as start
from tools.web import colab, extension, repository

PUBLIC = "someone/pruning-course"


@pytest.fixture
def published(monkeypatch):
    """The course has a public address."""
    monkeypatch.setenv("PRUNING_REPOSITORY", PUBLIC)


def cells(content: bytes) -> list[dict]:
    """Of a notebook, sources as one string."""
    found = json.loads(content)["cells"]
    return [each | {"source": "".join(each["source"])} for each in found]


# --------------------------------------------------------------------- where it stands


@pytest.mark.parametrize(
    "said",
    [PUBLIC, f"https://github.com/{PUBLIC}", f"https://github.com/{PUBLIC}.git"],
)
def test_a_repository_is_known_by_its_name_or_its_address(monkeypatch, said):
    monkeypatch.setenv("PRUNING_REPOSITORY", said)
    assert repository.repository() == PUBLIC
    assert repository.at_forge("#start") == f"https://github.com/{PUBLIC}#start"


@pytest.mark.parametrize("said", ["one", "https://gitlab.com/a/b", "a/b/c", "a/b c"])
def test_what_is_no_repository_is_refused(monkeypatch, said):
    monkeypatch.setenv("PRUNING_REPOSITORY", said)
    with pytest.raises(ValueError, match=f"{re.escape(repr(said))} must be owner/name"):
        repository.repository()


@pytest.mark.parametrize("said", ["", PUBLIC])
def test_the_pages_lead_to_launchers_only_where_the_course_is_published(
    monkeypatch, said
):
    """By Sphinx's settings, as a build reads them."""
    monkeypatch.setenv("PRUNING_REPOSITORY", said)
    monkeypatch.setenv("COURSE_SITE", str(notebooks.ROOT / "site"))
    settings = runpy.run_path(str(notebooks.ROOT / "site" / "conf.py"))
    options = settings["html_theme_options"]
    address = f"https://github.com/{said}" if said else None
    assert options.get("repository_url") == address
    assert options.get("repository_branch") == (repository.BRANCH if said else None)
    assert ("launch_buttons" in options) == bool(said)


# ------------------------------------------------------------------------- the copies


@pytest.mark.parametrize("lab", ["00_start_here", "13_transformers_further"])
def test_a_copy_for_colab_is_the_notebook_with_one_cell_more_and_no_result(lab):
    content = (notebooks.NOTEBOOKS / f"{lab}.ipynb").read_bytes()
    copy = cells(colab.with_course(content, "https://x.example/y.git"))
    note, code = copy.pop(1), copy.pop(1)
    assert "nothing keeps your guesses" in note["source"]
    assert "git clone -q --depth 1 https://x.example/y.git" in code["source"]
    ast.parse(TransformerManager().transform_cell(code["source"]))
    kept = ("cell_type", "id", "source")
    assert [[c[k] for k in kept] for c in copy] == [
        [c[k] for k in kept] for c in cells(content)
    ]
    assert not any(cell.get("outputs") for cell in copy)


def test_the_copies_of_all_notebooks_are_written(tmp_path, published):
    colab.write(tmp_path)
    written = {path.name for path in (tmp_path / "notebooks").iterdir()}
    assert written == {path.name for path in notebooks.NOTEBOOKS.glob("*.ipynb")}
    text = (tmp_path / "notebooks" / "00_start_here.ipynb").read_text("utf-8")
    assert f"https://github.com/{PUBLIC}.git pruning-course" in text


def test_without_a_public_address_no_copy_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("PRUNING_REPOSITORY", raising=False)
    with pytest.raises(ValueError, match="must say where Colab finds the course"):
        colab.write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_launchers_lead_to_notebooks_without_results():
    """Of which one lies in the branch that the workflow pushes."""
    address = f"https://colab.example/github/{PUBLIC}/blob/main/notebooks/a.ipynb"
    assert f"/blob/{repository.COLAB}/notebooks/" in extension.without_results(address)
    workflow = (notebooks.ROOT / ".github/workflows/site.yml").read_text("utf-8")
    assert f"HEAD:{repository.COLAB}" in workflow


# -------------------------------------------------------------------- what is installed


def test_what_is_there_stays_and_what_is_missing_comes_as_tested(monkeypatch, capsys):
    """pip is asked for the missing packages only, and told to change none."""
    asked = []
    there = {
        name: version.partition("==")[2].partition(";")[0].strip()
        for name, version in start.locked(notebooks.ROOT).items()
    }
    there = {"numpy": "1.0", "pandas": "9.9"} | {
        name: version
        for name, version in there.items()
        if name in start.wanted(notebooks.ROOT) - {"numpy", "onnx", "anywidget"}
    }
    monkeypatch.setattr(start, "installed", lambda: there)
    monkeypatch.setattr(start, "pip", lambda *a: asked.append(a) or True)
    monkeypatch.setattr(start.sys, "path", [])
    start.ready()
    (missing, constraints), course = asked
    assert missing == ["anywidget", "onnx"]
    assert {"numpy==1.0", "pandas==9.9"} <= set(constraints)
    assert any(line.startswith("onnx==") for line in constraints)
    assert not any(line.startswith("numpy==2") for line in constraints)
    assert course == (["--no-deps", "-e", str(notebooks.ROOT)],)
    assert start.sys.path == [str(notebooks.ROOT)]
    said = capsys.readouterr().out
    assert re.search(r"^numpy 1.0 stays; the labs are tested with 2\.", said, re.M)
    assert said.count("stays") == 1


def test_what_pip_cannot_install_is_said(monkeypatch):
    monkeypatch.setattr(start, "installed", dict)
    monkeypatch.setattr(start, "pip", lambda *a: False)
    with pytest.raises(start.StartError, match="pip cannot install anywidget, file"):
        start.ready()


def test_no_lab_imports_what_is_not_installed_on_colab():
    """What opens notebooks is left out there, so nothing of the package needs it."""
    left_out = "|".join(sorted(start.NOT_NEEDED - {"ipykernel"}))
    imported = re.compile(rf"^\s*(?:from|import) (?:{left_out})\b", re.MULTILINE)
    assert imported.search("  import voila")
    for path in sorted((notebooks.ROOT / "utils").rglob("*.py")):
        assert not imported.search(path.read_text("utf-8")), path
