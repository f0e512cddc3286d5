"""What the learner finds: rows as the panel shows them, a file that loses nothing, and
the front no row beats."""

import csv
import io
import os
import threading
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import NO_FILES
from utils import lab
from utils.explorer import Controls, Explorer, drawing, findings
from utils.explorer.drawing import HEIGHT, WIDTH
from utils.explorer.findings import COLUMNS, COSTS
from utils.explorer.kinds import KINDS
from utils.explorer.subject import OWN

NUMBERS = (
    "fine-tuned on",
    "accuracy %",
    "margin",
    "pictures",
    "weights %",
    "MACs %",
    "zipped %",
    "time %",
    "time % quartile 1",
    "time % quartile 3",
)
WORDS = [column for column in COLUMNS if column not in NUMBERS]


@pytest.fixture
def quick(small, noise, tmp_path):
    """Make a panel of a small network, which keeps its findings in a file of this
    test."""

    def make(**options) -> Explorer:
        panel = Explorer(model=small, data=noise, **options)
        panel.path = tmp_path / findings.FILE
        return panel

    return make


def row(accuracy: float = 80, time: float | str = 100, **more: str) -> dict[str, str]:
    values = dict.fromkeys(COLUMNS, "x") | dict.fromkeys(NUMBERS, "1")
    return values | {"accuracy %": f"{accuracy}", "time %": f"{time}"} | more


# --------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_numbers_of_the_state(quick, kind):
    panel = quick(kind=kind)
    stop = panel.memory.kinds(OWN)[kind][1]
    state = panel.timed(replace(panel.controls, sparsity=stop), rounds=1)
    got = findings.row_of(panel.subject(OWN), state)
    assert tuple(got) == COLUMNS and all(isinstance(each, str) for each in got.values())
    said = {"weights": "10%", "nm": "3:4", "channels": "10%", "blocks": "1 of 1"}[kind]
    chosen = state.controls
    assert [got[name] for name in WORDS] == [
        OWN,
        kind,
        chosen.score,
        chosen.scope,
        said,
    ]
    wanted = (
        0,
        state.accuracy,
        state.margin,
        60,
        state.weights,
        state.macs,
        state.zipped,
        state.time,
        *state.time_quartiles,
    )
    for name, value in zip(NUMBERS, wanted, strict=True):
        scale = 100 if "%" in name or name == "margin" else 1
        assert float(got[name]) == pytest.approx(
            scale * value, abs=0.51 if name.startswith("time %") else 0.06
        ), name


def test_what_is_not_known_is_left_open(quick):
    panel = quick()
    panel.refresh()
    got = findings.row_of(panel.subject(OWN), panel.shown)
    assert got["time %"] == got["zipped %"] == "" and got["weights %"] == "100.0"
    assert [got[name] for name in findings.QUARTILES] == ["", ""]


# --------------------------------------------------------------------------- the button


def test_the_button_keeps_a_row_in_the_table_and_in_the_file(quick):
    panel = quick()
    panel.sparsity.value = 0.9
    assert panel.finds.layout.display == "none"
    panel.find.click()
    assert panel.finds.layout.display == "" and panel.problems == []
    assert panel.shown.time is not None  # it waited for all numbers
    assert (
        panel.findings
        == [findings.row_of(panel.subject(OWN), panel.shown)]
        == findings.read(panel.path)
    )
    panel.sparsity.value = 0.5
    panel.find.click()
    assert [each["sparsity"] for each in findings.read(panel.path)] == ["90%", "50%"]
    assert "<td" in panel.found.value and panel.found.value.count("<tr>") == 3
    with panel.path.open(newline="") as file:
        assert next(csv.reader(file)) == list(COLUMNS)


def test_the_button_works_before_anything_was_shown(quick):
    panel = quick()
    panel.find.click()
    assert panel.problems == [] and len(panel.findings) == 1


def test_the_button_lets_a_fine_tuning_go_on(quick):
    panel = quick(sparsity=0.9)
    panel.refresh()
    panel.tune.click()
    panel.find.click()
    assert panel.fine_tuning.busy and panel.findings[0]["fine-tuned on"] == "0"
    panel.settle()
    panel.find.click()
    assert [each["fine-tuned on"] for each in panel.findings] == [
        "0",
        "256",
    ] and panel.problems == []


def test_another_cost_changes_the_table_and_the_picture(quick):
    panel = quick()
    panel.sparsity.value = 0.9
    panel.find.click()
    seen = {panel.found.value}
    for cost in list(COSTS)[1:]:
        panel.cost.value = cost
        assert (
            f"({cost})" in panel.found.value and f"against {cost}" in panel.found.value
        )
        seen.add(panel.found.value)
    assert len(seen) == len(COSTS) and panel.problems == []


def test_two_panels_add_to_one_file_and_nothing_is_lost(quick):
    first, second = quick(), quick(kind="channels")
    for number, panel in enumerate((first, second, first, second)):
        panel.sparsity.index = number + 1
        panel.find.click()
    kinds = [each["kind"] for each in findings.read(first.path)]
    assert kinds == ["weights", "channels", "weights", "channels"]
    # a panel shows the rows of the other one too
    assert second.findings == findings.read(first.path)
    assert first.problems == second.problems == []


def test_a_panel_after_a_restart_adds_to_the_old_file(quick):
    quick().find.click()
    panel = quick()
    panel.find.click()
    assert len(panel.findings) == 2


def timed_row(median: float, low: float, high: float) -> dict[str, str]:
    return row(time=median) | {
        findings.QUARTILES[0]: str(low),
        findings.QUARTILES[1]: str(high),
    }


def test_every_time_is_shown_with_its_quartiles(quick):
    panel = quick(sparsity=0.9)
    panel.find.click()
    time, (low, high) = panel.shown.time, panel.shown.time_quartiles
    assert low <= time <= high
    cell = f">{100 * time:.0f} ({100 * low:.0f} to {100 * high:.0f})</td>"
    assert cell in panel.found.value and "quartiles in brackets" in panel.found.value


def test_a_time_s_quartiles_are_a_line_through_its_point_and_in_the_words():
    rows = [timed_row(60, 55, 72), row(time=40) | dict.fromkeys(findings.QUARTILES, "")]
    drawn = findings.draw_front(rows)
    assert "1: 80.0% at 60% (quartiles 55 to 72)" in drawn.words
    assert (
        "2: 80.0% at 40%, on the front" in drawn.words
    )  # not kept: nothing is made up
    lines = [
        each for each in drawn.marks if each.startswith("<line") and "#555" in each
    ]
    (line,) = map(ET.fromstring, lines)
    left, right = float(line.get("x1")), float(line.get("x2"))
    scale = (424 - 50) / 108  # pixels for a percent
    assert left == pytest.approx(50 + 55 * scale, abs=0.1)
    assert right == pytest.approx(50 + 72 * scale, abs=0.1)
    # counted costs have none
    assert not any("#555" in mark for mark in findings.draw_front(rows, "MACs").marks)
    wide = findings.draw_front([timed_row(60, 55, 400)])
    (line,) = (ET.fromstring(mark) for mark in wide.marks if "#555" in mark)
    assert float(line.get("x2")) < 424  # all of it is in the picture


# ----------------------------------------------------------------------------- the file

AMOUNTS = st.floats(0, 100).map(lambda value: f"{value:.1f}")


def rows_of(*without: str) -> st.SearchStrategy:
    """Rows whose words are any text but for these categories of characters."""
    words = st.text(
        st.characters(exclude_categories=without, exclude_characters="\ufffe\uffff"),
        max_size=12,
    )
    row = st.tuples(*[AMOUNTS if name in NUMBERS else words for name in COLUMNS])
    return st.lists(
        row.map(lambda values: dict(zip(COLUMNS, values, strict=True))), max_size=6
    )


@given(rows_of("Cs"), rows_of("Cs"))
@settings(max_examples=150, deadline=None)
def test_what_was_written_is_read_back(tmp_path_factory, first, second):
    path = tmp_path_factory.mktemp("rows") / "found" / "my.csv"
    assert findings.read(path) == []
    assert findings.append(path, first) == first == findings.read(path)
    assert findings.append(path, second) == first + second == findings.read(path)
    # no temporary file is left
    assert {each.name for each in path.parent.iterdir()} == {"my.csv", ".my.csv.lock"}


def test_a_file_that_a_spreadsheet_saved_is_read(tmp_path):
    path = tmp_path / "my.csv"
    findings.append(path, [row(accuracy=71.5, network="vgg")])
    # as Excel's "CSV UTF-8"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    (got,) = findings.read(path)
    assert got == row(accuracy=71.5, network="vgg")


def test_a_file_from_before_the_quartiles_is_read_and_goes_on(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text(csv_of(list(findings.FORMER), list(row().values())[:-2]))
    former = row() | dict.fromkeys(findings.QUARTILES, "")
    assert findings.read(path) == [former]
    assert findings.append(path, [row()]) == [former, row()] == findings.read(path)
    assert "100</td>" in findings.table([former])


def csv_of(columns: list[str], *rows: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([columns, *rows])
    return buffer.getvalue()


GOOD = list(row().values())
DAMAGED = {
    "no table": b"\x00\xff\xfe garbage",
    "other columns": csv_of(["a", "b"], ["1", "2"]).encode(),
    "semicolons": csv_of(list(COLUMNS), GOOD).replace(",", ";").encode(),
    "half a row": csv_of(list(COLUMNS), GOOD[:8]).encode(),
    "a row too long": csv_of(list(COLUMNS), [*GOOD, "a note"]).encode(),
    "a column more": csv_of([*COLUMNS, "note"], [*GOOD, "mine"]).encode(),
    "a column less": csv_of(list(COLUMNS[1:]), GOOD[1:]).encode(),
    "words for accuracy": (
        csv_of(list(COLUMNS), list(row(accuracy="high").values())).encode()
    ),
    "words for time": csv_of(list(COLUMNS), list(row(time="fast").values())).encode(),
    "no number": csv_of(list(COLUMNS), list(row(accuracy="nan").values())).encode(),
    **{
        f"{column} of {value}": (
            csv_of(list(COLUMNS), list(row(**{column: value}).values())).encode()
        )
        for column, value in (
            ("time %", "1e15"),
            ("MACs %", "1e300"),
            ("weights %", "inf"),
            ("accuracy %", "-1e12"),
            ("accuracy %", "100.1"),
            ("margin", "-1"),
            ("pictures", "1e20"),
            ("zipped %", "-0.1"),
        )
    },
    "too many rows": csv_of(list(COLUMNS), *[GOOD] * 10_000).encode(),
    "deep zeros": bytes(1_000_000),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_an_error_that_says_what_to_do_and_costs_no_row(
    quick, content
):
    panel = quick()
    panel.path.write_bytes(content)
    with pytest.raises(ValueError, match=r"my_findings\.csv.*Rename or delete it"):
        findings.read(panel.path)
    panel.sparsity.value = 0.9
    panel.find.click()
    assert "Rename or delete it" in panel.trouble.value
    assert [each["sparsity"] for each in panel.findings] == [
        "90%"
    ] and "90%" in panel.found.value
    assert panel.path.read_bytes() == content  # the learner's file is left as it is
    panel.path.unlink()  # the learner does as told
    panel.sparsity.value = 0.5
    panel.find.click()
    assert [each["sparsity"] for each in panel.findings] == ["90%", "50%"]
    assert panel.findings == findings.read(panel.path)
    with pytest.raises(RuntimeError, match="Rename or delete it"):
        lab.finish()


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "circle", "huge"])
def test_what_is_no_file_of_findings_is_said_and_nobody_waits_for_it(tmp_path, kind):
    path = tmp_path / findings.FILE
    if kind == "huge":
        path.touch()
        os.truncate(path, 10**10)
    else:
        NO_FILES[kind](path)
    for call in (findings.read, lambda path: findings.append(path, [row()])):
        with pytest.raises(ValueError, match=r"my_findings\.csv.*Rename or delete it"):
            call(path)


def test_a_row_that_could_not_be_read_back_is_not_written(tmp_path):
    path = tmp_path / findings.FILE
    findings.append(path, [row()])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"time % of a row is 1e6; .* 0 and 100,000"):
        findings.append(path, [row(time="1e6")])
    with pytest.raises(ValueError, match=r"is full.*Rename it"):
        findings.append(path, [row()] * 10_000)
    assert path.read_bytes() == before


KEEP = """
import os, sys
from pathlib import Path
from utils.explorer import findings
print("ready", flush=True)
sys.stdin.readline()
for number in range(25):
    name = f"{os.environ['FINDER']} {number}"
    row = dict.fromkeys(findings.COLUMNS, "1") | {"network": name}
    findings.append(Path(os.environ["FOUND"]), [row])
"""


def test_four_processes_that_find_at_once_lose_no_row(tmp_path, start_python):
    path = tmp_path / "found" / findings.FILE
    each = [start_python(KEEP, FOUND=str(path), FINDER=f"{n}") for n in range(4)]
    assert [process.stdout.readline() for process in each] == ["ready\n"] * 4
    for process in each:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120) for process in each]
    assert said == [("", "")] * 4
    found = [row["network"] for row in findings.read(path)]
    assert sorted(found) == sorted(f"{n} {i}" for n in range(4) for i in range(25))
    for name in range(4):  # each one's in order
        mine = [row for row in found if row.startswith(f"{name} ")]
        assert mine == [f"{name} {number}" for number in range(25)]


@given(
    st.lists(st.tuples(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300)), max_size=5),
    st.sampled_from(list(COSTS)),
)
@settings(max_examples=60, deadline=None)
def test_absurd_numbers_draw_few_lines(points, cost):
    rows = [row(accuracy=good) | {COSTS[cost]: repr(dear)} for good, dear in points]
    part = findings.draw_front(rows, cost)
    assert len(part.marks) < 60


def test_a_folder_that_cannot_be_written_costs_no_row(quick, tmp_path, monkeypatch):
    def refuse(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    panel = quick()
    with monkeypatch.context() as patch:
        patch.setattr(findings, "write_atomically", refuse)
        panel.find.click()
    assert (
        "Permission denied" in panel.trouble.value
        and findings.FILE in panel.trouble.value
    )
    assert (
        len(panel.findings) == 1
        and panel.finds.layout.display == ""
        and not panel.path.exists()
    )
    panel.sparsity.value = 0.5
    panel.find.click()
    assert [each["sparsity"] for each in findings.read(panel.path)] == ["0%", "50%"]


# ---------------------------------------------------------------------------- the front

# few values: many ties
POINTS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6) | st.none()), max_size=12
)


@given(POINTS, st.sampled_from(list(COSTS)))
@settings(max_examples=300, deadline=None)
def test_the_front_is_what_nothing_beats(points, cost):
    rows = [
        row(accuracy=60 + good)
        | {COSTS[cost]: "" if dear is None else f"{10 * dear:.1f}"}
        for good, dear in points
    ]
    wanted = []
    for number, (good, dear) in enumerate(points):
        if dear is None:
            continue
        others = [point for point in points if point[1] is not None]
        better = [
            (g, d)
            for g, d in others
            if g >= good and d <= dear and (g > good or d < dear)
        ]
        if not better:
            wanted.append(number)
    assert findings.front(rows, cost) == wanted
    table = ET.fromstring(findings.table(rows, cost))
    marked = [
        number
        for number, line in enumerate(table.iter("tr"))
        if "★" in "".join(line.itertext())
    ]
    assert marked == [number + 1 for number in wanted]


@given(rows_of("Cs", "Cc"), st.sampled_from(list(COSTS)))
@settings(max_examples=60, deadline=None)
def test_the_table_says_every_row_in_order_whatever_its_words(rows, cost):
    root = ET.fromstring(findings.table(rows, cost))
    head, *lines = root.iter("tr")
    assert [cell.text or "" for cell in head] == ["", *findings.FORMER]
    said = [
        r | {"time %": "{} ({} to {})".format(*(r[name] for name in NUMBERS[-3:]))}
        for r in rows
    ]
    assert [[cell.text or "" for cell in line.findall("td")] for line in lines] == [
        [r[name] for name in findings.FORMER] for r in said
    ]
    assert [line.find("th").text.split()[0] for line in lines] == [
        str(n + 1) for n in range(len(rows))
    ]
    assert (
        root.get("role") == "region"
        and root.get("aria-label")
        and root.find("table/caption") is not None
    )


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 700)), max_size=30),
    st.sampled_from(list(COSTS)),
)
@settings(max_examples=60, deadline=None)
def test_the_picture_of_the_front_has_every_point_in_its_place(points, cost):
    rows = [
        row(accuracy=f"{good:.2f}") | {COSTS[cost]: f"{dear:.1f}"}
        for good, dear in points
    ]
    part = findings.draw_front(rows, cost)
    root = ET.fromstring(drawing.html_of([part]))
    marks = [
        mark
        for mark in root.iter()
        if mark.tag.endswith("text") and mark.text in ("★", "●")
    ]
    best = set(findings.front(rows, cost))
    assert [mark.text == "★" for mark in marks] == [
        number in best for number in range(len(rows))
    ]
    at = [(float(mark.get("x")), float(mark.get("y"))) for mark in marks]
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in at)
    rounded = [(float(r["accuracy %"]), float(r[COSTS[cost]])) for r in rows]
    for (good, dear), (x, y) in zip(rounded, at, strict=True):
        for (other_good, other_dear), (u, v) in zip(rounded, at, strict=True):
            # right: dear; up: good
            assert (u - x) * (other_dear - dear) >= 0 and (v - y) * (
                other_good - good
            ) <= 0
    lines = [mark for mark in root.iter() if mark.tag.endswith("polyline")]
    for line in lines:  # a step goes right or up, never both
        corners = [
            tuple(map(float, corner.split(",")))
            for corner in line.get("points").split()
        ]
        assert all(x == u or y == v for (x, y), (u, v) in pairwise(corners))
    for number, (good, dear) in enumerate(rounded):
        assert f"{number + 1}: {good:.1f}% at {dear:.0f}%" in part.words
    if not points:
        assert "none" in part.words and not lines


def test_finding_from_two_threads_keeps_both_rows(quick):
    panel = quick()
    panel.refresh()
    panel.settle()
    threads = [threading.Thread(target=panel.find.click) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(panel.findings) == 4 and panel.problems == []


def test_a_fine_tuned_row_and_one_that_was_not_are_two_rows(quick):
    panel = quick(sparsity=0.9)
    panel.find.click()
    panel.tune.click()
    panel.settle()
    panel.find.click()
    first, second = panel.findings
    assert (first["fine-tuned on"], second["fine-tuned on"]) == ("0", "256")
    assert float(second["accuracy %"]) == pytest.approx(
        100 * panel.shown.accuracy, abs=0.01
    )
    assert panel.state(Controls(0.9, network=OWN)).tuned == 256
