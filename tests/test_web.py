"""The pages of the site: what they ask is what the labs ask, what they tell is what the
notebooks measured, and a site that is not sound is refused."""

import ast
import functools
import json
import re

import pytest
from PIL import Image

from tools import notebooks, syllabus
from tools.web import asked, build, checking, lighter, live, pages, papers, policy
from utils import quizzes

LESSONS = notebooks.lessons()


def data_in(page: str, name: str) -> dict:
    """What a page holds for its scripts."""
    found = re.search(rf'class="{name}">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


@functools.cache
def lesson_page(name: str) -> str:
    folder = pages.LESSONS / name
    text = (folder / "README.md").read_text("utf-8")
    return pages.lesson_page(syllabus.read(folder), text)


# ------------------------------------------------------------------- what a page asks


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_page_asks_each_guess_of_the_lab_in_its_range(lesson):
    """By the lab's source, read apart from the notebook."""
    tree = ast.parse(notebooks.source(lesson).read_text("utf-8"))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "predict"
    ]
    calls.sort(key=lambda call: call.lineno)
    told = data_in(asked.gate(lesson), "gate-data")
    assert told["lesson"] == lesson
    ranges = [tuple(map(ast.literal_eval, call.args[1:3])) for call in calls]
    assert [(each["low"], each["high"]) for each in told["guesses"]] == ranges
    for call, each in zip(calls, told["guesses"], strict=True):
        units = [w.value for w in call.keywords if w.arg == "unit"]
        assert each["unit"] == (ast.literal_eval(units[0]) if units else "")
        if isinstance(call.args[0], ast.Constant):
            assert each["question"] == call.args[0].value


@pytest.mark.parametrize("lesson", LESSONS)
def test_each_guess_is_compared_with_what_was_measured(lesson):
    for each in asked.guesses(lesson):
        value = float(each.measured.removesuffix(each.unit).replace(",", ""))
        assert each.measured.endswith(each.unit)
        assert each.low - 30 <= value <= each.high, "measured of another guess?"


def test_a_measurement_goes_to_the_guess_it_was_compared_with(monkeypatch):
    """Also where they are compared in another order, and not where it can't be told."""
    shown = "Predict. {} (A guess from 0 to 9 {}.)".format
    said = "Measured: {}. You locked no guess.".format
    cells = [
        ('a = predict("A", 0, 9)\nb = predict("B", 0, 9)', [shown("A", "x"), "Predict."
         " B (A guess from 0 to 9.)"]),
        ("for g in all: g.compare(1)", [said("1"), said("2")]),
        ("b.compare(2)\na.compare(1)", [said("1,234"), said("5 x")]),
    ]  # fmt: skip
    monkeypatch.setattr(asked, "cells", lambda lab: cells)
    assert asked.guesses("any") == [
        asked.Asked("A", 0, 9, "x", "5 x"),
        asked.Asked("B", 0, 9, "", "1,234"),
    ]


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_quiz_of_a_page_is_quiz_json(lesson):
    told = data_in(asked.quiz(lesson), "quiz-data")
    kinds = [each.pop("kind") for each in told["questions"]]
    stored = quizzes.read(lesson)
    assert kinds == [quizzes.kind_of(each) for each in stored]
    for each in told["questions"]:
        each.pop("measured", None)
    assert told["questions"] == stored


def test_a_number_is_compared_with_the_claim_of_the_notebook():
    """Lab 03: one line of its notebook, in the unit of the question."""
    text = (notebooks.NOTEBOOKS / "03_weight_pruning.ipynb").read_text("utf-8")
    found = re.search(r"either other by \(measured ([\d.]+)", text)
    [number] = [each for each in asked.questions("03_weight_pruning")
                if each["kind"] == "number"]  # fmt: skip
    assert found
    assert number["measured"] == pytest.approx(100 * float(found[1]))


def test_data_cannot_end_its_script_element():
    page = asked.data("x", {"a": "</script><b>"})
    assert page.count("<") == 2
    assert data_in(page, "x") == {"a": "</script><b>"}


# ------------------------------------------------------------------ how a page is laid


def test_a_page_asks_before_it_tells_and_hides_nothing_else():
    page = lesson_page("03_weight_pruning")
    first, second = page.split(pages.SECOND)
    marks = ("gate-data", "scope.png", "## Quiz", "quiz-data", "## Sources")
    places = [second.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "scope.png" not in first
    assert "threshold_to_mask.svg" in first
    original = (pages.LESSONS / "03_weight_pruning" / "README.md").read_text("utf-8")
    for picture in re.findall(r"!\[[^\]]*\]\([^)]*\)", original):
        assert page.count(picture) == 1


def test_no_marker_and_no_link_to_a_source_file_is_left():
    for lesson in LESSONS:
        page = lesson_page(lesson)
        assert "<!-- why" not in page
        assert "README.md" not in page


def test_a_page_without_a_second_part_is_refused():
    lesson = syllabus.read(pages.LESSONS / "03_weight_pruning")
    with pytest.raises(ValueError, match="03_weight_pruning/README"):
        pages.lesson_page(lesson, "# 03 Weight pruning\n\nThat is all.\n")


@pytest.mark.parametrize("lesson", LESSONS)
def test_each_notebook_leads_to_its_page_and_back(lesson):
    facts = syllabus.read(pages.LESSONS / lesson)
    for lab in notebooks.labs(lesson):
        text = (notebooks.NOTEBOOKS / f"{lab}.ipynb").read_text("utf-8")
        laid = json.loads(pages.notebook(text, facts))
        first = "".join(laid["cells"][0]["source"])
        assert f"](../lessons/{lesson}/index.md)" in first
        assert "double-click" not in first
        assert laid["cells"][1:] == json.loads(text)["cells"][1:]
        assert f"<../../notebooks/{lab}>" in lesson_page(lesson)


# ------------------------------------------------------------------------- live panels


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        (
            "lenet300, single weights, taylor score, layerwise, sparsity 98%: accuracy",
            "sparsity=0.98&score=taylor&scope=layerwise&kind=weights&network=lenet300",
        ),
        (
            "lenet300, neurons or channels, removed, l1 score, global, sparsity 50%: x",
            "sparsity=0.5&score=l1&scope=global&kind=channels&network=lenet300",
        ),
        ("vgg, single weights, taylor score, global, sparsity 98%: accuracy", ""),
        ("lenet300, N:M pattern, magnitude score, global, sparsity 50%: x", ""),
        ("lenet300, single weights, newest score, global, sparsity 50%: x", ""),
    ],
)
def test_a_panel_is_live_at_its_setting_where_the_site_can_prune_it(words, setting):
    address = live.address(f"Pruning explorer. {words}")
    assert address == (f"index.html#{setting}" if setting else "")


def test_the_panel_of_a_text_network_is_live_on_the_page_that_writes():
    [address] = live.shown("13_transformers")
    assert address == "write/index.html#sparsity=0&score=magnitude&scope=global"
    assert list(live.shown("08_quantization")) == []


def test_a_lessons_page_leads_from_a_panels_picture_to_the_live_one():
    page = lesson_page("03_weight_pruning")
    _, below = page.split("](figures/explorer.png)")
    assert below.index('href="../../index.html#sparsity=0.98&amp;') < 200


# -------------------------------------------------------------------- what is looked up


def entries() -> list[tuple[str, str, list[str]]]:
    """(term, definition, lessons) of the glossary."""
    text = (pages.SITE / "glossary.md").read_text("utf-8")
    found = re.findall(r"^([^\s`:#].*)\n  (.+)$", text, flags=re.MULTILINE)
    return [
        (term, said, re.findall(r"\(lessons/(\w+)/index\.md\)", said))
        for term, said in found
    ]


def test_each_term_of_the_glossary_comes_in_the_lesson_that_it_names():
    assert len(entries()) > 50
    for term, said, named in entries():
        assert len(named) == 1, term
        folder = pages.LESSONS / named[0]
        texts = [*folder.glob("*.md"), *folder.glob("*.py"), folder / "quiz.json"]
        text = " ".join(path.read_text("utf-8").lower() for path in texts)
        stem = re.sub(r"(ing|ion|s)?( .*)?$", "", term.lower())
        assert stem in text, term
        assert said.split(" Lesson [")[0].endswith("."), term


def test_each_paper_of_a_lesson_is_in_the_bibliography_with_that_lesson():
    listed = "\n".join(papers.entries(pages.ROOT))
    for lesson in LESSONS:
        page = (pages.LESSONS / lesson / "README.md").read_text("utf-8")
        for line in papers.sources(page):
            if one := papers.paper(line):
                [entry] = [e for e in listed.splitlines()
                           if f"{one.first}," in e[:30] and one.year in e
                           and papers.paper(e[2:]).key == one.key]  # fmt: skip
                assert f"lessons/{lesson}/index.md" in entry


def test_a_paper_stands_once_however_it_is_written():
    lines = list(papers.entries(pages.ROOT))
    keys = [papers.paper(line[2:]).key for line in lines]
    assert len(set(keys)) == len(keys) > 40
    assert sum("Deep compression" in line for line in lines) == 1


# ---------------------------------------------------------------------- a sound site


POLICY = policy.META.format("default-src 'none'; script-src 'self'; style-src 'self'")
SOUND = {
    "index.html": POLICY
    + '<a href="b/page.html#here">b</a><img src="p.png" alt="A bar">',
    "b/page.html": POLICY
    + '<p id="here"></p><a href="../index.html">a</a><a href="#here">h</a>'
    '<a href="../index.html#sparsity=0.9&amp;off=1">a setting</a>'
    '<a href="https://example.org/x">elsewhere, by a click</a>',
    "p.png": "",
}


def lay(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def test_a_sound_site_is_taken(tmp_path):
    lay(tmp_path, SOUND)
    checking.check(tmp_path)


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ('<a href="gone.html">x</a>', "links to gone.html"),
        ('<a href="b/page.html#gone">x</a>', "links to b/page.html#gone"),
        ('<a href="../secret.html">x</a>', "links to ../secret.html"),
        ('<img src="gone.png" alt="A bar">', "fetches gone.png"),
        ('<img src="p.png">', "does not describe p.png"),
        ('<script src="https://cdn.example/x.js"></script>', "fetches https://cdn."),
        ('<link rel="stylesheet" href="//cdn.example/x.css">', "fetches //cdn."),
        ('<a href="javascript:alert(1)">x</a>', "links to javascript:"),
        ("<script>a('</b>')</script>", "has what its script-src refuses: \"a('</b>')"),
        ("<style>p {margin: 0}</style>", "has what its style-src refuses: 'p {mar"),
        ('<p onclick="a()">x</p>', "has an attribute that its policy refuses: onclick"),
        ('<p style="margin:0">x</p>', "has an attribute that its policy refuses: sty"),
    ],
)
def test_a_site_that_is_not_sound_is_refused(tmp_path, added, said):
    folder = tmp_path / "site"
    lay(folder, SOUND | {"index.html": SOUND["index.html"] + added})
    (tmp_path / "secret.html").touch()
    with pytest.raises(ValueError, match=re.escape(f"index.html {said}")):
        checking.check(folder)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("", "has no Content-Security-Policy"),
        (policy.META.format("script-src 'self'"), "has no Content-Security-Policy"),
        (POLICY.replace("style-src", "style-src 'unsafe-inline'"), "allows style-src"),
        (POLICY.replace("script-src", "script-src 'unsafe-eval'"), "allows script-src"),
    ],
)
def test_a_page_without_a_strict_policy_is_refused(tmp_path, said, problem):
    lay(tmp_path, SOUND | {"p.html": f'<meta charset="utf-8">{said}'})
    with pytest.raises(ValueError, match=f"p.html {problem}"):
        checking.check(tmp_path)


def test_a_policy_allows_what_stands_in_a_page_and_nothing_else(tmp_path):
    written = (
        '<meta charset="utf-8" /><style>p {margin: 0}</style>'
        f'<script>early()\n</script>{asked.data("x", 3)}<script src="a.js"></script>'
        '<button onclick="window.print()">Print</button>'
    )
    page = policy.with_policy(written)
    lay(tmp_path, SOUND | {"index.html": page, "a.js": ""})
    checking.check(tmp_path)
    assert page.count("sha256-") == 2
    lay(tmp_path, {"index.html": page.replace("early()", "other()")})
    with pytest.raises(ValueError, match="script-src refuses: 'other"):
        checking.check(tmp_path)


HEAVY = """<head>
<meta charset="utf-8" />
<link href="{up}_static/styles/theme.css?d=1" rel="stylesheet" />
<link rel="stylesheet" type="text/css" href="{up}_static/b.css?v=2" />
<link rel="preload" as="script" href="{up}_static/scripts/bootstrap.js?d=1" />
<link rel="icon" href="{up}_static/icon.svg">
<script defer src="{up}_static/scripts/fontawesome.js?d=1"></script>
<script src="{up}_static/early.js?v=1"></script>
<script src="{up}_static/doctools.js?v=1"></script>
<script src="{up}searchindex.js"></script>
</head><img alt="One" src="{up}p.png" /><img alt="Two" src="{up}d.svg" />text"""
LIGHT = """<head>
<meta charset="utf-8" />
{policy}
<link rel="stylesheet" href="{up}_static/site.css">
<link rel="icon" href="{up}_static/icon.svg">
<script>early()</script>
<script defer src="{up}_static/doctools.js?v=1"></script>
</head><img width="6" height="3" alt="One" src="{up}p.png" />\
<img loading="lazy" width="40" height="20" alt="Two" src="{up}d.svg" />text"""


def test_what_no_page_needs_is_taken_out_and_nothing_else(tmp_path):
    files = {f"{name}.html": HEAVY.format(up="") for name in ("a", "search")}
    files |= {"b/c.html": HEAVY.format(up="../"), "_static/x.js.map": ""}
    files |= {
        "_static/styles/theme.css": '@import "../first.css";',
        "_static/first.css": "first{margin:0}@font-face {src:url(f.woff2)}",
        "_static/b.css": '.fa-fw{width:1em}.fa-a,.fa-b{--fa:"\\f1"}last{margin:0}',
        "_static/early.js": "early()\n",
        "_static/scripts/fontawesome.js": "icons",
        "d.svg": '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20"/>',
    }
    lay(tmp_path, files)
    Image.new("L", (6, 3)).save(tmp_path / "p.png")
    lighter.lighten(tmp_path)
    for name, up in (("a.html", ""), ("b/c.html", "../")):
        text = (tmp_path / name).read_text()
        [said] = re.findall(r"<meta http-equiv.*>", text)
        assert text == LIGHT.format(up=up, policy=said)
        assert policy.digest("early()") in said
    assert "searchindex.js" in (tmp_path / "search.html").read_text()
    styles = (tmp_path / "_static" / "site.css").read_text()
    assert styles.split() == ["first{margin:0}", ".fa-fw{width:1em}last{margin:0}"]
    assert not list(tmp_path.rglob("*.map")) + list(tmp_path.rglob("fontawesome*"))


def test_a_folder_that_is_no_site_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        build(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_part_that_there_is_not_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"'strat'.* none of pages, start, write"):
        build(tmp_path / "site", ["strat"])
    assert not (tmp_path / "site").exists()
