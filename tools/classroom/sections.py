"""The page of a class as HTML: one function a section. Without script, everything
escaped, and no mark that is only a colour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles

from tools.classroom import guessed, standing
from tools.classroom.gradebook import Points
from tools.classroom.guessed import Question
from tools.classroom.handed_in import Learner, Skipped
from tools.classroom.ranking import Place
from tools.classroom.standing import Standing, is_finished
from utils import guesses as guesses_file
from utils import progress, record
from utils.capstone.openings import SCORES
from utils.capstone.rules import BUDGET
from utils.progress import Row, escaped, html_table, picture

LONG = 5  # columns: with so many, some hold sentences and need room
SHOWN = 12  # rows of a table before the others are folded away
LATEST = 4e9  # seconds since 1970: a later time of a file is none
STYLE = """\
:root{color-scheme:light dark;--ink:#1a1a1a;--paper:#fff;--line:#8a8a8a;--soft:#f1f1f1;
--done:#d9ecd9;--open:#fff0cc;--mark:#f6d9d0}
@media (prefers-color-scheme:dark){:root{--ink:#ececec;--paper:#161616;--line:#777;
--soft:#262626;--done:#1d3a24;--open:#413510;--mark:#57261a}}
body{font:16px/1.45 sans-serif;max-width:82em;margin:1.5em auto;padding:0 1em;
color:var(--ink);background:var(--paper)}
p,li,details>p{max-width:48em}
table{border-collapse:collapse;margin:.6em 0}
caption{text-align:left;font-weight:bold;padding:.3em 0}
th,td{border:1px solid var(--line);padding:.25em .5em;text-align:left;
vertical-align:top}
thead th{background:var(--soft)}
.wide{overflow-x:auto}
.wide:focus-visible,summary:focus-visible{outline:3px solid currentColor;
outline-offset:2px}
.wide td{min-width:4.5em}.wide th[scope=row]{min-width:8em}
.long table{min-width:62em}
@media (max-width:600px){table{font-size:.85em}}
.matrix{font-size:.82em;line-height:1.25}
.matrix tbody th[scope=row]{min-width:0;position:sticky;left:0;background:var(--paper)}
.matrix tbody td{min-width:3.4em;padding:.2em .35em}
.matrix small{white-space:nowrap}
.done{background:var(--done)}.begun{background:var(--open)}.stuck{background:var(--mark)}
.stuck b{text-decoration:underline}
summary{cursor:pointer;padding:.3em 0}
img{max-width:100%;min-width:44em;background:#fff}
@page{size:A4 landscape;margin:12mm}
@media print{:root{color-scheme:light;--ink:#000;--paper:#fff;--line:#777;--soft:#eee;
--done:#e4f1e4;--open:#fff6dd;--mark:#fbe6e0}
body{font-size:10.5px;margin:0;padding:0;max-width:none}.wide{overflow:visible}
.long table{min-width:0}
details::details-content{content-visibility:visible;block-size:auto}
tr,img{break-inside:avoid}h2{break-after:avoid}
.matrix tbody th[scope=row]{position:static}
img{min-width:0;max-height:172mm}}
"""


@dataclass(frozen=True)
class Class:
    """All that a page is made of.

    labels: what a learner is called on it; who has none stands in no row.
    ranked: what a learner is called in the ranking; empty where no name is to be shown,
        and who is not in it does not appear.
    paths: whether the paths of skipped files may be shown, with the names in them.
    points: from a gradebook; None where there is none.
    """

    standings: Sequence[Standing]
    labels: Mapping[str, str]
    ranked: Mapping[str, str]
    paths: bool
    points: Points | None
    guesses: Sequence[Question]
    unknown: int  # guesses that no notebook asks
    places: Sequence[Place]
    skipped: Sequence[Skipped]

    @property
    def learners(self) -> list[Learner]:
        """Everybody, with a label or without."""
        return [one.learner for one in self.standings]

    def labelled(self) -> list[tuple[str, Standing]]:
        """Who stands in a row, in the order of their labels."""
        found = [
            (self.labels[one.learner.name], one)
            for one in self.standings
            if one.learner.name in self.labels
        ]
        return sorted(found, key=lambda each: each[0].casefold())


def body(all_of_it: Class, about: Sequence[str]) -> str:
    """The page below its head; `about` are the sentences at its top."""
    sections = (
        finished(all_of_it),
        stuck(all_of_it),
        wrong(all_of_it.learners),
        guesses(all_of_it.guesses, all_of_it.unknown),
        capstone(all_of_it),
        left_out(all_of_it),
    )
    top = f"<h1>The class</h1>{''.join(map(paragraph, about))}"
    return f"<main>{top}{''.join(sections)}</main>"


# --------------------------------------------------------------------------- its parts


def paragraph(text: str) -> str:
    """Text as a paragraph."""
    return f"<p>{escaped(text)}</p>"


def wide(name: str, content: str, look: str = "wide") -> str:
    """A table that scrolls by itself where the screen is narrow, by keyboard too."""
    return (
        f'<div class="{look}" role="region" aria-label="{escaped(name)}" tabindex="0">'
        f"{content}</div>"
    )


def table(name: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table with a caption; what goes beyond its first lines is folded away."""
    look = "wide long" if len(head) >= LONG else "wide"
    first = wide(name, html_table(head, lines[:SHOWN], name), look)
    rest = lines[SHOWN:]
    if not rest:
        return first
    more = f"{name}, the other {len(rest)}"
    return first + folded(more, wide(more, html_table(head, rest, more), look))


def folded(summary: str, content: str) -> str:
    """What is shown when asked for, and on paper."""
    return f"<details><summary>{escaped(summary)}</summary>{content}</details>"


def lesson_name(lesson: str) -> str:
    """`03 Weight pruning` of `03_weight_pruning`."""
    number, _, words = lesson.partition("_")
    return f"{number} {words.replace('_', ' ').capitalize()}"


# ------------------------------------------------------------------- who finished what


def finished(of_class: Class) -> str:
    """The whole class by lesson, each learner by lesson, and each lesson at length."""
    parts = ["<h2>Who finished what</h2>", paragraph(standing.RULE), _lessons(of_class)]
    shown = of_class.labelled()
    if shown:
        parts.append(_matrix(shown))
        missing = len(of_class.standings) - len(shown)
        if missing:
            parts.append(
                paragraph(
                    f"Without a pseudonym, so in no row: {missing}. They count in all"
                    " totals."
                )
            )
        parts += [
            _lesson(place, of_class.points, shown)
            for place in range(len(shown[0][1].rows))
        ]
    return "".join(parts)


def _lessons(of_class: Class) -> str:
    """Each lesson: how many began it and how many finished it."""
    head = ("Lesson", "Finished", "Begun", "Right at the first try of the quiz")
    lines = []
    for column in zip(*(one.rows for one in of_class.standings), strict=True):
        answered = sum(row.answered for row in column)
        right = sum(row.quiz[0] for row in column)
        lines.append(
            (
                lesson_name(column[0].lesson),
                f"{sum(map(is_finished, column))} of {len(column)}",
                f"{sum(not row.is_empty() for row in column)} of {len(column)}",
                f"{right / answered:.0%} ({right} of {answered})" if answered else "-",
            )
        )
    name = "The class, by lesson"
    return wide(name, html_table(head, lines, name))


def _matrix(shown: Sequence[tuple[str, Standing]]) -> str:
    """A line for each learner, a column for each lesson."""
    name = "Each learner, by lesson"
    caption = (
        f"{name}. In a cell: exercises right · quiz right at the first try; “stuck?”"
        " where the rule above says so."
    )
    lessons = [row.lesson for row in shown[0][1].rows]
    heads = "".join(
        f'<th scope="col"><abbr title="{escaped(lesson_name(lesson))}">'
        f"{escaped(lesson[:2])}</abbr></th>"
        for lesson in lessons
    )
    lines = ""
    for label, one in shown:
        cells = "".join(_cell(row, one) for row in one.rows)
        count = f"<td>{one.finished()}</td>"
        lines += f'<tr><th scope="row">{escaped(label)}</th>{count}{cells}</tr>'
    return wide(
        name,
        f'<table class="matrix"><caption>{escaped(caption)}</caption><thead><tr>'
        f'<th scope="col">Learner</th><th scope="col">Finished</th>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table>",
    )


def _cell(row: Row, one: Standing) -> str:
    """How one lesson stands, in a word and in counts."""
    state = state_of(row, one)
    if state == "-":
        return "<td>-</td>"
    counts = " · ".join(
        f"{few}/{many}" if many else "-" for few, many in (row.exercises, row.quiz)
    )
    word = {"done": "done", "begun": "begun", "stuck": "stuck?"}[state]
    return f'<td class="{state}"><b>{word}</b><br><small>{counts}</small></td>'


def state_of(row: Row, one: Standing) -> str:
    """`done`, `stuck`, `begun`, or `-` where nothing was done."""
    if any(said.startswith(f"{row.lesson[:2]}:") for said in one.stuck):
        return "stuck"
    if is_finished(row):
        return "done"
    return "-" if row.is_empty() else "begun"


def _lesson(
    place: int, points: Points | None, shown: Sequence[tuple[str, Standing]]
) -> str:
    """One lesson at length: those who began it. Nothing where nobody did."""
    column = [one.rows[place] for _, one in shown]
    lesson = column[0].lesson
    there = [
        (label, one)
        for (label, one), row in zip(shown, column, strict=True)
        if not row.is_empty() or (one.learner.name, lesson) in (points or {})
    ]
    if not there:
        return ""
    head = ("Learner", *progress.HEAD[1:], *(("Points",) if points is not None else ()))
    lines = [
        (label, *one.rows[place].cells()[1:], *_points(points, one, lesson))
        for label, one in there
    ]
    done = sum(map(is_finished, column))
    name = f"{lesson_name(lesson)}: finished by {done} of {len(column)}"
    if silent := len(shown) - len(there):
        name += f", not begun by {silent}"
    return folded(name, wide(name, html_table(head, lines, name)))


def _points(points: Points | None, one: Standing, lesson: str) -> tuple[str, ...]:
    if points is None:
        return ()
    found = points.get((one.learner.name, lesson))
    return (f"{found[0]:.4g} of {found[1]:.4g}" if found else "-",)


def stuck(of_class: Class) -> str:
    """Who may be stuck, and at what."""
    parts = ["<h2>Who may be stuck</h2>"]
    there = [(label, one) for label, one in of_class.labelled() if one.stuck]
    count = sum(bool(one.stuck) for one in of_class.standings)
    parts.append(paragraph(f"{count} of {len(of_class.standings)}, by the rule above."))
    if there:
        head = ("Learner", "At what", "Newest file")
        lines = [
            (label, "; ".join(one.stuck), day(one.learner.changed))
            for label, one in there
        ]
        parts.append(wide("Stuck?", html_table(head, lines, "Who may be stuck")))
        parts.append(
            paragraph("Newest file: as the disk says; copying may have changed it.")
        )
    silent = [label for label, one in of_class.labelled() if one.is_empty()]
    if silent:
        parts.append(paragraph(f"Nothing is kept of: {', '.join(silent)}."))
    return "".join(parts)


def day(seconds: float) -> str:
    """The day of a time since 1970; a dash when it is none."""
    if not 0 < seconds < LATEST:
        return "-"
    when = datetime.fromtimestamp(seconds, UTC)
    return f"{when:%d %b %Y}".replace(" ", "\u00a0")  # never parted


# ---------------------------------------------------------------- what was often wrong


def wrong(learners: Sequence[Learner]) -> str:
    """Questions most often wrong at the first try; exercises that are not yet right."""
    parts = ["<h2>What was often wrong</h2>"]
    found = [each for each in standing.missed(learners) if each.wrong]
    head = (
        "Question",
        "Lesson",
        "Wrong at the first try",
        "Wrong answer that most gave",
        "Its feedback",
    )
    lines = [
        (
            each.question,
            each.lesson[:2],
            each.share(),
            f"{each.chosen} ({each.chosen_by} of {each.wrong})",
            each.feedback,
        )
        for each in found
    ]
    name = "Questions of the quizzes that most learners had wrong at the first try"
    none = paragraph("No question was answered wrong.")
    parts.append(table(name, head, lines) if lines else none)
    return "".join([*parts, _exercises(learners)])


def _exercises(learners: Sequence[Learner]) -> str:
    found = standing.tried(learners)
    if not found:
        return paragraph("No exercise is kept that was checked and is not yet right.")
    head = ("Exercise", "Lesson", "Checked, not right", "Right", "Wrong checks")
    lines = [
        (
            each.name,
            each.lesson[:2],
            f"{each.trying} of {each.trying + each.right}",
            str(each.right),
            str(each.checks),
        )
        for each in found
    ]
    name = "Exercises that were checked and are not yet right"
    return wide(name, html_table(head, lines, name))


# -------------------------------------------------------------------------- the guesses


def guesses(found: Sequence[Question], unknown: int) -> str:
    """The picture for the lecture, and all questions in a table."""
    parts = ["<h2>Guessed and measured</h2>"]
    if not found:
        return "".join([*parts, paragraph("No guess can be compared yet.")])
    chosen = guessed.for_the_lecture(found)
    every = [one for question in found for one in question.guesses]
    sides = ", ".join(
        f"{sum(one.side == side for one in every)} {words}"
        for side, (words, _, _) in progress.SIDES.items()
    )
    parts += [
        paragraph(
            f"{len(every)} guesses at {len(found)} questions: {sides} (within"
            f" {progress.CLOSE:.0%} of the range). A guess counts once its result was"
            " measured, and beside what that learner's machine measured. Drawn are the"
            f" {len(chosen)} questions on which the guesses differ most, of those that"
            " many guessed. Where machines measured different values, the bar is their"
            " median, and it is said so."
        ),
        wide("The picture", picture(*guessed.drawn(chosen))),
        table("All questions", QUESTION_HEAD, [_question(each) for each in found]),
    ]
    if unknown:
        parts.append(
            paragraph(f"Left out, since no notebook asks them so: {unknown} guesses.")
        )
    return "".join(parts)


QUESTION_HEAD = (
    "Question",
    "Notebook",
    "Guesses",
    "Lowest, quartiles, highest",
    "Measured",
    "Too high",
    "Close",
    "Too low",
)


def _question(question: Question) -> tuple[str, ...]:
    values = sorted(one.guess for one in question.guesses)
    middle = quantiles(values, n=4, method="inclusive") if values[1:] else values
    ends = " / ".join(
        question.number(value) for value in (values[0], *middle, values[-1])
    )
    measured = question.measured_in_words()
    if question.differs():
        low = min(one.measured for one in question.guesses)
        high = max(one.measured for one in question.guesses)
        measured += f", {question.number(low)} to {question.number(high)}"
    return (
        question.asked.question,
        question.lab[:2] + (" further" if question.lab.endswith("_further") else ""),
        str(len(values)),
        ends if values[1:] else question.number(values[0]),
        measured,
        *(str(question.count(side)) for side in ("high", "close", "low")),
    )


# ------------------------------------------------------------------------- the capstone


def capstone(of_class: Class) -> str:
    """The ranking, of those who have a pseudonym."""
    parts = ["<h2>The capstone</h2>"]
    if not of_class.places:
        return "".join([*parts, paragraph("No score of the capstone is kept yet.")])
    head = ("Place", "Points", "Bytes", "Speedup", "Accuracy", "Budget")
    lines = [
        (
            f"{place.place}. {name}".strip(),
            f"{place.points:.2f}",
            f"{place.cost.bytes:,}",
            f"{place.cost.speedup:.1f}x",
            f"{place.cost.accuracy:.2%}",
            "met" if place.met() else "not met",
            str(place.opened),
        )
        for place in of_class.places
        if (name := of_class.ranked.get(place.learner)) is not None
    ]
    asked = (
        f"Asked: {BUDGET.bytes:,} bytes, {BUDGET.speedup:g}x, {BUDGET.accuracy:.0%}."
        " The best score of each; the speedup is that of the learner's own machine. The"
        " test set was opened as often as the last column says: who opened it more"
        " often chose on it. The numbers are those of the learners' files; to be sure,"
        " score a file again."
    )
    hidden = len(of_class.places) - len(lines)
    if hidden:
        asked += f" Not shown, without a pseudonym: {hidden}."
    name = "Ranking of the capstone"
    whole = html_table((*head, "Test set opened"), lines, name) if lines else ""
    return "".join([*parts, paragraph(asked), wide(name, whole) if whole else ""])


# ------------------------------------------------------------------------- what is not


def left_out(of_class: Class) -> str:
    """The files that were skipped."""
    if not of_class.skipped:
        return ""
    lines = [
        (
            of_class.labels.get(each.learner, "-"),
            each.path if of_class.paths else kind_of(each.path),
            each.why,
        )
        for each in of_class.skipped
    ]
    name = "Files that are not on this page"
    return f"<h2>Skipped</h2>{table(name, ('Whose', 'What', 'Why'), lines)}"


def kind_of(path: str) -> str:
    """A file without its path, which holds names."""
    name = Path(path).name
    known = (record.FILE, guesses_file.FILE, SCORES)
    return name if name in {Path(each).name for each in known} else "a folder"
