"""What the drawings of the lessons are made with: one style, light and dark, in SVG.

A lesson's drawings are functions in its drawings.py, listed in DRAWINGS, that each
return a Drawing; `make drawings` writes them to lessons/NN_name/figures/NAME.svg.

Meaning never rests on colour alone: what is kept is filled, what is pruned (zero) is an
outlined cell with a stroke through it, what is removed is only a dotted outline.
"""

import html
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

Point = tuple[float, float]  # x, y; or width, height
SECONDS = 2.0  # that a frame of a moving drawing stands
ROUNDS = 3  # of all frames; the last one stays
INK, PAPER = ("#1a1a1a", "#e8e8e8"), ("#ffffff", "#16181d")  # light, dark
FILLS = {  # what a class of shapes is filled with: light, dark (Okabe-Ito, dark dimmed)
    "kept": ("#0072b2", "#4aa3df"),
    "other": ("#e69f00", "#e69f00"),
    "third": ("#009e73", "#2fbf95"),
    "fourth": ("#cc79a7", "#d68fb6"),
    "pale": ("#dfe7ee", "#2b323b"),
    "pruned": PAPER,
    "removed": PAPER,
    "paper": PAPER,
}


class Drawing:
    """A picture of an idea, drawn piece by piece; units are pixels, y goes down.

    Args:
        width, height: of the picture; a page shows it at most 720 wide.
        title: a few words.  description: what one sees, for who cannot see it.
        frames: how many pictures a moving drawing has; who asks for reduced motion sees
            the last one alone.
    """

    def __init__(
        self, width: int, height: int, title: str, description: str, frames: int = 1
    ) -> None:
        self.width, self.height = width, height
        self.title, self.description, self.frames = title, description, frames
        self.parts: list[str] = []

    def box(
        self,
        at: Point,
        size: Point,
        kind: str = "paper",
        label: str = "",
        letters: int = 14,
    ) -> None:
        """A rectangle with its upper left corner there, (width, height) large, with
        words in its middle. letters: their height."""
        self.parts.append(f'<rect class="{_known(kind)}" {_place(at, size)} rx="4"/>')
        if label:
            middle = at[0] + size[0] / 2, at[1] + size[1] / 2
            self.text(middle, label, letters, kind=_on(kind))

    def circle(
        self, at: Point, radius: float, kind: str = "paper", label: str = ""
    ) -> None:
        """A circle around a point, as for a neuron."""
        place = f'cx="{at[0]:g}" cy="{at[1]:g}" r="{radius:g}"'
        self.parts.append(f'<circle class="{_known(kind)}" {place}/>')
        if label:
            self.text(at, label, 12, kind=_on(kind))

    def cells(
        self,
        at: Point,
        rows: Sequence[Sequence[str]],
        size: float = 24,
        labels: Sequence[Sequence[str]] = (),
    ) -> None:
        """A matrix of square cells, each of a kind ("kept", "pruned", "removed" ...),
        with the words in them. A pruned cell has a stroke through it."""
        for i, row in enumerate(rows):
            for j, kind in enumerate(row):
                x, y = at[0] + j * size, at[1] + i * size
                place = _place((x, y), (size, size))
                self.parts.append(f'<rect class="{_known(kind)} cell" {place}/>')
                if kind == "pruned":
                    low, high = 0.28 * size, 0.72 * size
                    self.line((x + low, y + high), (x + high, y + low))
                if labels and labels[i][j]:
                    middle = x + size / 2, y + size / 2
                    self.text(middle, labels[i][j], int(0.45 * size), kind=_on(kind))

    def text(
        self,
        at: Point,
        words: str,
        letters: int = 14,
        anchor: str = "middle",
        kind: str = "",
    ) -> None:
        """Words around a point, or from it with `anchor="start"`; a line of their own
        for each line of them. kind: `bold`, `soft` (grey) or what `_on`
        says (on a filled shape)."""
        lines = words.split("\n")
        for number, line in enumerate(lines):
            y = at[1] + (number - (len(lines) - 1) / 2) * letters * 1.25
            self.parts.append(
                f'<text class="{kind}" x="{at[0]:g}" y="{y:g}" font-size="{letters}"'
                f' text-anchor="{anchor}">{html.escape(line)}</text>'
            )

    def line(self, start: Point, end: Point, kind: str = "line") -> None:
        """A line. kind: `line`, `dashed`, `dotted`, `thick`, `soft`, or `arrow`, which
        has its head at the end."""
        self.path([start, end], kind)

    def path(self, points: Iterable[Point], kind: str = "line") -> None:
        """A line through points; kinds as for `line`."""
        head = ' marker-end="url(#head)"' if kind == "arrow" else ""
        joined = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(f'<polyline class="{kind} open" points="{joined}"{head}/>')

    @contextmanager
    def frame(self, number: int) -> Iterator[None]:
        """What is drawn inside is seen in this frame of a moving drawing alone, from
        0."""
        if not 0 <= number < self.frames:
            raise ValueError(f"frame={number}: the drawing has {self.frames} frames.")
        self.parts.append(f'<g class="frame f{number}">')
        yield
        self.parts.append("</g>")

    def svg(self) -> str:
        """The picture as a file."""
        words = (
            f"<title>{html.escape(self.title)}</title>"
            f"<desc>{html.escape(self.description)}</desc>"
        )
        head = (
            '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7"'
            ' markerHeight="7" orient="auto-start-reverse"><path class="head"'
            ' d="M0,0 L10,5 L0,10 z"/></marker>'
        )
        size = f'width="{self.width}" height="{self.height}"'
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"'
            f' viewBox="0 0 {self.width} {self.height}">',
            words,
            f"<style>{_style(self.frames)}</style>",
            f"<defs>{head}</defs>",
            f'<rect class="ground" {size}/>',
            *self.parts,
            "</svg>",
        ]
        return "\n".join(lines) + "\n"


def _place(at: Point, size: Point) -> str:
    return f'x="{at[0]:g}" y="{at[1]:g}" width="{size[0]:g}" height="{size[1]:g}"'


def _on(kind: str) -> str:
    """The class of words on a shape of this kind."""
    if kind in ("other", "third", "fourth"):
        return "dark"
    return "on" if kind == "kept" else ""


def _known(kind: str) -> str:
    if kind not in FILLS:
        raise ValueError(f"kind={kind!r} is none of {', '.join(FILLS)}.")
    return kind


def _style(frames: int) -> str:
    """The style sheet: shapes and words in light, in dark, and what moves."""
    shared = (
        "text{font-family:DejaVu Sans,Verdana,Arial,sans-serif;"
        "dominant-baseline:central}"
        ".bold{font-weight:bold}.line,.arrow,.soft,.dashed,.dotted{stroke-width:1.5}"
        ".thick{stroke-width:4}.dashed{stroke-dasharray:6 4}"
        ".removed,.dotted{stroke-dasharray:2 3}.open{fill:none}"
        "rect,circle{stroke-width:1.2}"
    )
    light, dark = (_colours(index) for index in range(2))
    scheme = f"@media (prefers-color-scheme:dark){{{dark}}}"
    return shared + light + scheme + (_motion(frames) if frames > 1 else "")


def _colours(index: int) -> str:
    ink, paper = INK[index], PAPER[index]
    grey = ("#5c5c5c", "#a9afb7")[index]
    fills = "".join(f".{name}{{fill:{pair[index]}}}" for name, pair in FILLS.items())
    return (
        f"text,.head{{fill:{ink}}}.on{{fill:{paper}}}.dark{{fill:{INK[0]}}}text.soft{{fill:{grey}}}"
        f"line,polyline,rect,circle{{stroke:{ink}}}.removed,line.soft{{stroke:{grey}}}"
        f"{fills}.ground{{fill:{paper};stroke:none}}"
    )


def _motion(frames: int) -> str:
    """Each frame is seen in its share of the time; the last one stays in the end."""
    rules, share = [], 100 / frames
    for number in range(frames):
        last = number == frames - 1
        times = {0.0: "hidden", number * share: "visible"}
        times |= {100.0: "visible"} if last else {(number + 1) * share: "hidden"}
        keys = "".join(f"{t:.2f}%{{visibility:{how}}}" for t, how in times.items())
        rules.append(
            f".f{number}{{visibility:{'visible' if last else 'hidden'};"
            f"animation:f{number} {SECONDS * frames:g}s step-end {ROUNDS} forwards}}"
            f"@keyframes f{number}{{{keys}}}"
        )
    still = "@media (prefers-reduced-motion:reduce){.frame{animation:none}}"
    return "".join(rules) + still
