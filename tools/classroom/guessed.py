"""The guesses of a whole class against what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, pstdev
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.classroom.handed_in import Learner
from tools.printed import Asked, all_asked
from utils import plots
from utils.progress import SIDES, Compared, comparison

DRAWN = 12  # questions in the picture: as many as the last row of a room can read
LABEL = 46  # letters in a line of a question
BINS = 50  # places along the range; what falls on one place is stacked


@dataclass(frozen=True)
class Question:
    """A question and the guesses that the class made of it, each beside what was
    measured on that learner's machine."""

    lab: str  # the notebook that asks it
    asked: Asked
    guesses: tuple[Compared, ...]

    @property
    def measured(self) -> float:
        """The median of what was measured, as a share of the range."""
        return median(one.measured for one in self.guesses)

    @property
    def spread(self) -> float:
        """Standard deviation of the guesses, as a share of the range."""
        return pstdev(one.guess for one in self.guesses)

    def differs(self) -> bool:
        """Whether learners measured different values."""
        return len({f"{one.measured:.3g}" for one in self.guesses}) > 1

    def count(self, side: str) -> int:
        """How many were `high`, `low` or `close`."""
        return sum(one.side == side for one in self.guesses)

    def number(self, share: float) -> str:
        """A place on the range as a number in the question's unit."""
        low, high = self.asked.low, self.asked.high
        return f"{low + share * (high - low):.4g}"

    def measured_in_words(self) -> str:
        """What was measured, with its unit; where it differs, that this is the
        median."""
        said = f"{self.number(self.measured)} {self.asked.unit}".rstrip()
        return f"{said} (median)" if self.differs() else said


def questions(learners: Sequence[Learner]) -> tuple[list[Question], int]:
    """The questions of the course that the class guessed and measured, in its order;
    and how many guesses were left out, since no notebook asks them so."""
    known = all_asked()
    found: dict[str, list[Compared]] = {}
    left_out = 0
    for learner in learners:
        for question, kept in learner.guesses.items():
            one = comparison(question, kept)
            if one is None:
                continue
            if question in known and _same_range(known[question][1], kept):
                found.setdefault(question, []).append(one)
            else:
                left_out += 1
    kept_order = [name for name in known if name in found]
    return [Question(*known[name], tuple(found[name])) for name in kept_order], left_out


def _same_range(asked: Asked, kept: dict) -> bool:
    return (asked.low, asked.high) == tuple(
        float(f"{kept[k]:g}") for k in ("low", "high")
    )


def for_the_lecture(found: Sequence[Question]) -> list[Question]:
    """Those that are drawn, in the course's order: of the questions that at least half
    as many learners guessed as the most guessed one, the ones on which the guesses
    differ most."""
    most = max((len(each.guesses) for each in found), default=0)
    often = [each for each in found if 2 * len(each.guesses) >= most]
    chosen = sorted(often, key=lambda each: -each.spread)[:DRAWN]
    return [each for each in found if each in chosen]


# ------------------------------------------------------------------------- the picture


def drawn(chosen: Sequence[Question]) -> tuple[Figure, str]:
    """One strip for each question, a mark for each guess, and a bar at what was
    measured; and the same in words."""
    figure, ax = plots.axes(
        "What the class guessed, and what was measured",
        "share of the range that was asked, %",
        "",
        width=10.5,
        height=1.4 + 0.74 * len(chosen),
    )
    for row, question in enumerate(chosen):
        _draw_strip(ax, row, question)
    ax.set(xlim=(-1, 101), ylim=(len(chosen) - 0.45, -0.55))
    ax.set_yticks(range(len(chosen)), [_label(each) for each in chosen], fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    _draw_legend(figure, ax)
    return figure, " ".join([_alt(chosen), *map(_in_words, chosen)])


def _draw_strip(ax: Axes, row: int, question: Question) -> None:
    """One question: its guesses, stacked where they meet, and what was measured."""
    ax.axhline(row, color="#DDDDDD", linewidth=1, zorder=1)
    at = 100 * _inside(question.measured)
    ax.plot([at, at], [row - 0.42, row + 0.42], color="black", linewidth=3, zorder=2)
    ax.text(
        102, row, question.measured_in_words(), va="center", fontsize=9, clip_on=False
    )
    for side, (_, marker, colour) in SIDES.items():
        points = [
            (x, row + lift)
            for x, lift, one in _stacked(question.guesses)
            if one.side == side
        ]
        if points:
            look: plots.Look = dict(marker=marker, color=colour, s=26, alpha=0.85)
            ax.scatter(*zip(*points, strict=True), zorder=3, linewidths=0, **look)


def _stacked(guesses: Sequence[Compared]) -> list[tuple[float, float, Compared]]:
    """(x in percent, height from the middle of the strip, guess): those at one place
    lie above and below each other, closer where they are many."""
    places: dict[int, list[Compared]] = {}
    for one in sorted(guesses, key=lambda one: one.guess):
        places.setdefault(round(BINS * _inside(one.guess)), []).append(one)
    found = []
    for group in places.values():
        step = min(0.14, 0.8 / len(group))
        for number, one in enumerate(group):
            lift = step * (number - (len(group) - 1) / 2)
            found.append((100 * _inside(one.guess), lift, one))
    return found


def _inside(share: float) -> float:
    """What lies outside the range is drawn at its edge."""
    return min(1.0, max(0.0, share))


def _label(question: Question) -> str:
    asked = question.asked
    lines = wrap(asked.question, LABEL, max_lines=3, placeholder=" ...")
    ends = f"{question.lab[:2]}, {asked.low:g} to {asked.high:g} {asked.unit}".rstrip()
    return "\n".join([*lines, f"({ends})"])


def _draw_legend(figure: Figure, ax: Axes) -> None:
    for words, marker, colour in SIDES.values():
        look: plots.Look = dict(marker=marker, color=colour, s=40, label=words)
        ax.scatter([], [], **look)
    ax.plot([], [], color="black", linewidth=3, label="measured (number at the right)")
    figure.legend(loc="outside lower center", ncols=4, fontsize=10)


def _alt(chosen: Sequence[Question]) -> str:
    count = sum(len(each.guesses) for each in chosen)
    return (
        f"{count} guesses at {len(chosen)} questions, one strip each over the range"
        " that was asked, with a bar at what was measured. The same is in the table"
        " below."
    )


def _in_words(question: Question) -> str:
    counts = ", ".join(
        f"{question.count(side)} {words}" for side, (words, _, _) in SIDES.items()
    )
    return f"{question.asked.question} {counts}."
