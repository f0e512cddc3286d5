"""What a learner is told, as a page, and what a teacher looks at, as a notebook."""

import html
from dataclasses import dataclass
from typing import Any

import nbformat
from nbformat import NotebookNode, v4

from tools.classroom.folder import ClassFolder, notebook_name
from utils.files import write_atomically

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 sans-serif; max-width: 48rem; margin: 2rem auto }}
pre {{ background: #f2f2f2; padding: .5rem; overflow-x: auto }}
h2 {{ margin-top: 2rem }}
</style>
<h1>{title}</h1>
<p>{points} of {most} points.</p>
{parts}
</html>
"""
PART = """\
<h2>{name}: {points} of {most}</h2>
<p>{said}</p>
{drawing}{shown}"""


@dataclass(frozen=True)
class Graded:
    """A submission with its verdicts.

    parts: for each exercise and the open task its `name`, `points`, what is `said`, and
    what the learner wrote, `shown`.  most: points there are, by part.  problems: of its
    notebooks.  mark: what the verdicts depend on.
    """

    learner: str
    lesson: str
    parts: list[dict[str, Any]]
    most: dict[str, float]
    problems: list[str]
    mark: str
    seconds: float

    @property
    def points(self) -> float:
        """In all."""
        return round(sum(part["points"] for part in self.parts), 2)

    def line(self) -> str:
        """One line for the teacher."""
        most = sum(self.most.values())
        noted = f"; {len(self.problems)} problem(s)" if self.problems else ""
        return f"{self.learner} {self.lesson}: {self.points:g} of {most:g}{noted}"


def page(graded: Graded) -> str:
    """The learner's page; all that is theirs is shown as text."""
    parts = [
        PART.format(
            name=html.escape(part["name"]),
            points=f"{part['points']:g}",
            most=f"{graded.most[part['name']]:g}",
            said=html.escape(part["said"]),
            drawing=_preformatted("\n".join(part.get("drawing") or [])),
            shown=_preformatted(part.get("shown") or ""),
        )
        for part in graded.parts
    ]
    parts += [f"<p>{html.escape(problem)}</p>" for problem in graded.problems]
    return PAGE.format(
        title=html.escape(f"{graded.lesson}: {graded.learner}"),
        points=f"{graded.points:g}",
        most=f"{sum(graded.most.values()):g}",
        parts="\n".join(parts),
    )


def _preformatted(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>\n" if text else ""


def notebook(source: NotebookNode, graded: Graded) -> NotebookNode:
    """The teacher's version with what the learner wrote in it, and at each test what
    was said. Nothing in it was run."""
    parts = {part["name"]: part for part in graded.parts}
    for cell in source.cells:
        grade_id = cell.metadata.nbgrader.grade_id
        if grade_id in parts:
            cell.source = parts[grade_id].get("shown") or "..."
        elif (name := grade_id.removeprefix("test_")) in parts:
            lines = [parts[name]["said"], *(parts[name].get("drawing") or [])]
            cell.outputs = [v4.new_output("stream", text="\n".join(lines))]
    return source


def lay_graded(folder: ClassFolder, graded: Graded) -> None:
    """Write the learner's page and the teacher's notebook."""
    name, place = notebook_name(graded.lesson), f"{graded.learner}/{graded.lesson}"
    text = page(graded).encode(errors="replace")
    write_atomically(folder.path / "feedback" / place / f"{name}.html", text)
    source = folder.path / "source" / graded.lesson / f"{name}.ipynb"
    if source.is_file():
        made = nbformat.writes(notebook(nbformat.read(source, 4), graded))
        path = folder.path / "autograded" / place / f"{name}.ipynb"
        write_atomically(path, (made + "\n").encode(errors="replace"))
