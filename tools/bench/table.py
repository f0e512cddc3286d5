"""The table: a row for each comparison, its figures taken round by round."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

COLUMNS = (
    "what",
    "ours, s",
    "against",
    "its time, s",
    "ratio",
    "goal",
    "bound, s",
    "ours / bound",
    "remarks",
)


@dataclass(frozen=True)
class Row:
    """One line of the table. `other` may be empty: then there is nothing to compare
    with, only the bound."""

    what: str
    ours: Sequence[float]  # seconds, one entry a round
    against: str = ""
    other: Sequence[float] = ()
    goal: str = ""
    # seconds that the machine needs at least, by what limits it
    bound: Sequence[float] = ()
    remarks: str = ""

    def cells(self) -> tuple[str, ...]:
        """The line's texts, one for each of COLUMNS."""
        return (
            self.what,
            spread(self.ours),
            self.against,
            spread(self.other),
            spread(_ratios(self.other, self.ours), "x"),
            self.goal,
            spread(self.bound),
            spread(_ratios(self.ours, self.bound), "x"),
            self.remarks,
        )


def _ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Round by round; nothing where there is nothing to compare."""
    return [a / b for a, b in zip(over, under, strict=True)] if over and under else []


def spread(values: Sequence[float], unit: str = "") -> str:
    """ "median (lowest-highest)", three digits each; nothing of no values."""
    if not values:
        return ""
    middle, low, high = map(
        digits, (statistics.median(values), min(values), max(values))
    )
    return f"{middle}{unit}" if len(values) == 1 else f"{middle}{unit} ({low}-{high})"


def digits(value: float) -> str:
    """Three significant digits and no exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS) -> str:
    """A Markdown table whose columns also line up as plain text."""
    lines = [columns, *rows]
    widths = [
        max(len(line[column]) for line in lines) for column in range(len(columns))
    ]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(c.ljust(w) for c, w in zip(line, widths, strict=True))} |"
        for line in lines
    )
