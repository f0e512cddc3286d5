"""What the learner found: rows in a table and in a file beside the notebook, and which
of them nothing else beats."""

import csv
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path

from utils.explorer.drawing import Part, heading, line, text
from utils.explorer.kinds import KINDS
from utils.explorer.subject import State, Subject
from utils.files import write_atomically
from utils.plots import PALETTE

FILE = "my_findings.csv"  # beside the learner's notebook
COLUMNS = (
    *(
        "network",
        "kind",
        "score",
        "scope",
        "sparsity",
        "fine-tuned on",
        "accuracy %",
        "margin",
        "pictures",
    ),
    *("weights %", "MACs %", "zipped %", "time %"),
)
NUMBERS = (
    "fine-tuned on",
    "accuracy %",
    "margin",
    "pictures",
    "weights %",
    "MACs %",
    "zipped %",
    "time %",
)
COSTS = {
    "time": "time %",
    "MACs": "MACs %",
    "zipped file": "zipped %",
    "weights": "weights %",
}
Row = dict[str, str]


def row_of(subject: Subject, state: State) -> Row:
    """A state as a row: texts, as they stand in the table and in the file."""
    chosen = state.controls
    values = (
        *(subject.name, chosen.kind, chosen.score, chosen.scope),
        KINDS[chosen.kind].say(subject, chosen.sparsity),
        *(
            state.tuned,
            f"{100 * state.accuracy:.2f}",
            f"{100 * state.margin:.2f}",
            state.pictures,
        ),
        *(
            f"{100 * part:.1f}" if part is not None else ""
            for part in (state.weights, state.macs, state.zipped)
        ),
        f"{100 * state.time:.0f}" if state.time is not None else "",
    )
    return dict(zip(COLUMNS, map(str, values), strict=True))


def read(path: Path) -> list[Row]:
    """The rows of the file; none if there is no file.

    Raises:
        ValueError: the file has other columns, or a row that is not whole; names the
            file and what to do.
    """
    if not path.is_file():
        return []
    try:
        # a spreadsheet puts a mark in front
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = list(reader)
        if list(reader.fieldnames or ()) != list(COLUMNS):
            raise ValueError(f"its columns are {reader.fieldnames}")
        for row in rows:
            _check(row)
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(
            f"{path} cannot be read ({error}). Rename or delete it; new findings start"
            " a new file."
        ) from None
    return rows


def _check(row: dict) -> None:
    if None in row or None in row.values():
        raise ValueError(f"a row has not {len(COLUMNS)} entries: {row}")
    numbers = {
        column: float(
            row[column] or 0 if column in ("zipped %", "time %") else row[column]
        )
        for column in NUMBERS
    }
    if not all(map(math.isfinite, numbers.values())):
        raise ValueError(f"a row has an entry that is no number: {numbers}")


def append(path: Path, new: Sequence[Row]) -> list[Row]:
    """Add rows to what the file holds by now (another panel may have added some);
    returns all rows."""
    rows = [*read(path), *new]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode())
    return rows


def front(rows: Sequence[Row], cost: str = "time") -> list[int]:
    """Places of the rows that no other beats: none is at least as accurate and as
    cheap, and better in one of them.

    Args:
        cost: a key of COSTS; rows without that number are left out.
    """
    points = [
        (i, float(r[COSTS[cost]]), -float(r["accuracy %"]))
        for i, r in enumerate(rows)
        if r[COSTS[cost]]
    ]

    def beaten(own: tuple[int, float, float]) -> bool:
        return any(
            other[1:] != own[1:] and other[1] <= own[1] and other[2] <= own[2]
            for other in points
        )

    return [point[0] for point in points if not beaten(point)]


def table(rows: Sequence[Row], cost: str = "time") -> str:
    """The rows as an HTML table; those of the front are marked."""
    best = set(front(rows, cost))
    cell = 'style="padding:2px 8px;text-align:right;white-space:nowrap"'
    head = "".join(
        f'<th scope="col" {cell}>{html.escape(name)}</th>' for name in ("", *COLUMNS)
    )
    body = "".join(
        f'<tr><th scope="row" {cell}>{i + 1}{" ★" if i in best else ""}</th>'
        + "".join(f"<td {cell}>{html.escape(row[column])}</td>" for column in COLUMNS)
        + "</tr>"
        for i, row in enumerate(rows)
    )
    return (
        '<div style="overflow-x:auto" tabindex="0" role="region" aria-label="Table of'
        ' findings"><table style='
        '"border-collapse:collapse;font-size:13px"><caption'
        ' style="text-align:left">What I found. ★: no other row is '
        f"both as accurate and as cheap ({html.escape(cost)}). % of the dense network;"
        f" kept in {FILE}.</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def draw_front(rows: Sequence[Row], cost: str = "time") -> Part:
    """Accuracy over cost, numbered as in the table; the front as stars on a stepped
    line."""
    title = f"My findings: accuracy against {cost}"
    points = {
        i: (float(r[COSTS[cost]]), float(r["accuracy %"]))
        for i, r in enumerate(rows)
        if r[COSTS[cost]]
    }
    if not points:
        return Part(
            title,
            f"{title}: none with this number yet.",
            (heading(title), text(0, 44, "None yet.")),
        )
    best = sorted(front(rows, cost), key=lambda i: points[i])
    left, right, top, bottom = 50, 424, 40, 272
    widest = 1.08 * max(100.0, *(x for x, _ in points.values()))
    floor = min(90.0, 10 * (min(y for _, y in points.values()) // 10))

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / widest, bottom - (bottom - top) * (
            y - floor
        ) / (100 - floor)

    marks = [heading(title)]
    for percent in range(int(floor), 101, 10 if floor > 40 else 20):
        y = at(0, percent)[1]
        marks += [
            line(left, y, right, y),
            text(left - 7, y + 5, f"{percent}%", text_anchor="end"),
        ]
    for percent in range(
        0, int(widest) + 1, 25 if widest < 200 else 50 if widest < 400 else 100
    ):
        marks.append(
            text(
                at(percent, floor)[0], bottom + 20, f"{percent}%", text_anchor="middle"
            )
        )
    marks.append(
        text(
            (left + right) / 2,
            bottom + 44,
            f"{cost}, % of the dense network",
            text_anchor="middle",
        )
    )
    corners = []
    for index in best:
        x, y = at(*points[index])
        corners += [
            f"{x:.1f},{corners[-1].split(',')[1]}" if corners else f"{x:.1f},{y:.1f}",
            f"{x:.1f},{y:.1f}",
        ]
    marks.append(
        f'<polyline points="{" ".join(corners)}" fill="none" stroke="{PALETTE[2]}"'
        ' stroke-width="2"/>'
    )
    for index, point in points.items():
        x, y = at(*point)
        sign = "★" if index in best else "●"
        colour = "#00674B" if index in best else PALETTE[0]
        marks.append(
            text(x, y + 6, sign, text_anchor="middle", fill=colour, font_size=17)
        )
        marks.append(text(x + 9, y - 4, str(index + 1), font_size=12))
    said = "; ".join(
        f"{i + 1}: {y:.1f}% at {x:.0f}%{', on the front' if i in best else ''}"
        for i, (x, y) in points.items()
    )
    return Part(title, f"{title}. {said}.", tuple(marks))
