"""What the learner found: rows in a table and in a file beside the notebook, and which
of them nothing else beats."""

import csv
import html
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from utils.explorer.drawing import Part, heading, line, text
from utils.explorer.kinds import KINDS
from utils.explorer.state import State
from utils.explorer.subject import Subject
from utils.files import (
    DamagedFileError,
    MissingFileError,
    alone,
    read_regular,
    write_atomically,
)
from utils.plots import PALETTE, unbeaten

FILE = "my_findings.csv"  # beside the learner's notebook
LARGEST = 300_000  # bytes of it: some three thousand rows
FORMER = (  # of files from before the quartiles were kept
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
QUARTILES = ("time % quartile 1", "time % quartile 3")
COLUMNS = (*FORMER, *QUARTILES)
NUMBERS = (
    "fine-tuned on",
    "accuracy %",
    "margin",
    "pictures",
    "weights %",
    "MACs %",
    "zipped %",
    "time %",
    *QUARTILES,
)
MOST = {  # the largest that a number can be; else 100%
    **dict.fromkeys(("fine-tuned on", "pictures"), 10**12),
    # of the dense network: a thousand times as much
    **dict.fromkeys(("weights %", "MACs %", "zipped %", "time %", *QUARTILES), 100_000),
}
OPEN = ("zipped %", "time %", *QUARTILES)  # may be empty: not known
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
        *(
            f"{100 * part:.0f}" if state.time is not None else ""
            for part in (state.time or 0.0, *state.time_quartiles)
        ),
    )
    return dict(zip(COLUMNS, map(str, values), strict=True))


def read(path: Path) -> list[Row]:
    """The rows of the file; none if there is no file.

    Raises:
        ValueError: the file cannot be read, has more than LARGEST bytes, other columns,
            or a row that is not whole; names the file and what to do.
    """
    advice = "Rename or delete it; new findings start a new file."
    try:
        content = read_regular(path, advice, LARGEST)
    except MissingFileError:
        return []
    except DamagedFileError as error:
        raise ValueError(str(error)) from None
    try:
        # a spreadsheet puts a mark in front
        text = content.decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = list(reader)
        if list(reader.fieldnames or ()) == list(FORMER):
            rows = [{**row, **dict.fromkeys(QUARTILES, "")} for row in rows]
        elif list(reader.fieldnames or ()) != list(COLUMNS):
            raise ValueError(f"its columns are {reader.fieldnames}")
        for row in rows:
            _check(row)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read ({error}). {advice}") from None
    return rows


def _check(row: dict) -> None:
    if None in row or None in row.values():
        raise ValueError(f"a row has not {len(COLUMNS)} entries: {row}")
    for column in NUMBERS:
        if row[column] == "" and column in OPEN:
            continue
        most = MOST.get(column, 100)
        # NaN is not between anything
        if not 0 <= float(row[column]) <= most:
            raise ValueError(
                f"{column} of a row is {row[column]}; it lies between 0 and {most:,}"
            )


def append(path: Path, new: Sequence[Row]) -> list[Row]:
    """Add rows to what the file holds by now; returns all rows. Panels of several
    processes take turns, and none loses a row of another.

    Raises:
        ValueError: as `read`, of the file or of the new rows; or it would be too large.
        OSError: it cannot be written. It is as it was then.
    """
    for row in new:
        _check(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path):
        rows = [*read(path), *new]
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        content = buffer.getvalue().encode()
        if len(content) > LARGEST:
            raise ValueError(
                f"{path} is full ({len(rows):,} rows). Rename it; new findings start a"
                " new file."
            )
        write_atomically(path, content)
    return rows


def front(rows: Sequence[Row], cost: str = "time") -> list[int]:
    """Places of the rows that no other beats: none is at least as accurate and as
    cheap, and better in one of them.

    Args:
        cost: a key of COSTS; rows without that number are left out.
    """
    return unbeaten({i: (-x, y) for i, (x, y) in _points(rows, cost).items()})


def _points(rows: Sequence[Row], cost: str) -> dict[int, tuple[float, float]]:
    """Cost and accuracy in percent by place, of the rows that have both."""
    return {
        i: (float(row[COSTS[cost]]), float(row["accuracy %"]))
        for i, row in enumerate(rows)
        if row[COSTS[cost]]
    }


def table(rows: Sequence[Row], cost: str = "time", file: str = FILE) -> str:
    """The rows as an HTML table; those of the front are marked. It says that they are
    kept in `file`."""
    best = set(front(rows, cost))
    cell = 'style="padding:2px 8px;text-align:right;white-space:nowrap"'
    head = "".join(
        f'<th scope="col" {cell}>{html.escape(name)}</th>' for name in ("", *FORMER)
    )
    body = "".join(
        f'<tr><th scope="row" {cell}>{i + 1}{" ★" if i in best else ""}</th>'
        + "".join(f"<td {cell}>{html.escape(_said(row, name))}</td>" for name in FORMER)
        + "</tr>"
        for i, row in enumerate(rows)
    )
    return (
        '<div style="overflow-x:auto" tabindex="0" role="region" aria-label="Table of'
        ' findings"><table style='
        '"border-collapse:collapse;font-size:13px"><caption'
        ' style="text-align:left">What I found. ★: no other row is '
        f"both as accurate and as cheap ({html.escape(cost)}). % of the dense network,"
        " times as medians with quartiles in brackets;"
        f" kept in {html.escape(file)}.</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _said(row: Row, column: str) -> str:
    """An entry of the table: a time with its quartiles."""
    low, high = (row[name] for name in QUARTILES)
    spread = f" ({low} to {high})" if column == "time %" and low and high else ""
    return row[column] + spread


def _quartiles(row: Row, cost: str) -> tuple[float, float] | None:
    """Between which costs half of the measurements lay; None of what is counted, or
    where they were not kept."""
    low, high = (row[name] for name in QUARTILES)
    return (float(low), float(high)) if cost == "time" and low and high else None


class _Axes:
    """The frame of the findings: where a cost and an accuracy in percent lie."""

    left, right, top, bottom = 50, 424, 40, 272
    middle = (left + right) / 2

    def __init__(self, points: Collection[tuple[float, float]]) -> None:
        self.widest = 1.08 * max(100.0, *(x for x, _ in points))
        self.floor = min(90.0, 10 * (max(0, min(y for _, y in points)) // 10))

    def at(self, x: float, y: float) -> tuple[float, float]:
        part = (y - self.floor) / (100 - self.floor)
        return (
            self.left + (self.right - self.left) * x / self.widest,
            self.bottom - (self.bottom - self.top) * part,
        )


def draw_front(rows: Sequence[Row], cost: str = "time") -> Part:
    """Accuracy over cost, numbered as in the table; the front as stars on a stepped
    line."""
    title, points = f"My findings: accuracy against {cost}", _points(rows, cost)
    if not points:
        none = heading(title), text(0, 44, "None yet.")
        return Part(title, f"{title}: none with this number yet.", none)
    best = sorted(front(rows, cost), key=lambda i: points[i])
    spreads = {index: _quartiles(rows[index], cost) for index in points}
    ends = [(spread[1], points[i][1]) for i, spread in spreads.items() if spread]
    frame = _Axes([*points.values(), *ends])
    marks = [
        heading(title),
        *_grid(frame, cost),
        _steps([frame.at(*points[index]) for index in best]),
    ]
    for index, point in points.items():
        if between := spreads[index]:
            (left, y), (right, _) = (frame.at(x, point[1]) for x in between)
            marks.append(line(left, y, right, y, "#555555", stroke_width=1.5))
        marks += _finding(index, frame.at(*point), on_front=index in best)
    said = "; ".join(
        f"{i + 1}: {y:.1f}% at {x:.0f}%{_between(spreads[i])}"
        f"{', on the front' if i in best else ''}"
        for i, (x, y) in points.items()
    )
    return Part(title, f"{title}. {said}.", tuple(marks))


def _between(quartiles: tuple[float, float] | None) -> str:
    return (
        "" if quartiles is None else " (quartiles {:.0f} to {:.0f})".format(*quartiles)
    )


def _grid(frame: _Axes, cost: str) -> Iterator[str]:
    """Lines at round accuracies, and what stands below at round costs."""
    for percent in range(int(frame.floor), 101, 10 if frame.floor > 40 else 20):
        y = frame.at(0, percent)[1]
        yield line(frame.left, y, frame.right, y)
        yield text(frame.left - 7, y + 5, f"{percent}%", text_anchor="end")
    below, widest = frame.bottom + 20, frame.widest
    step = 25 if widest < 200 else 50 if widest < 400 else 100
    while widest > 8 * step:  # so many numbers fit beside each other
        step *= 2
    for percent in range(0, int(widest) + 1, step):
        x = frame.at(percent, frame.floor)[0]
        yield text(x, below, f"{percent}%", text_anchor="middle")
    label = f"{cost}, % of the dense network"
    yield text(frame.middle, below + 24, label, text_anchor="middle")


def _steps(at: Sequence[tuple[float, float]]) -> str:
    """The line through the front: from each point to the right, then up."""
    corners, level = [], at[0][1]
    for x, y in at:
        corners += [(x, level), (x, y)]
        level = y
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return (
        f'<polyline points="{path}" fill="none" stroke="{PALETTE[2]}"'
        ' stroke-width="2"/>'
    )


def _finding(index: int, at: tuple[float, float], *, on_front: bool) -> Iterator[str]:
    (x, y), sign = at, "★" if on_front else "●"
    colour = "#00674B" if on_front else PALETTE[0]
    yield text(x, y + 6, sign, text_anchor="middle", fill=colour, font_size=17)
    yield text(x + 9, y - 4, str(index + 1), font_size=12)
