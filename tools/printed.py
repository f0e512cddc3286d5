"""What the built notebooks printed: the guesses that they ask for, as data.

Needs no package but those of the labs.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tools.start.files import ROOT

NOTEBOOKS = ROOT / "notebooks"
ASKED = re.compile(
    r"^Predict\. (.*) \(A guess from (\S+) to ([^ )]+?)( [^)]*)?\.\)$", re.MULTILINE
)


@dataclass(frozen=True)
class Asked:
    """A guess that a lab asks for.

    question, low, high, unit: as in `predict`.  measured: what the notebook printed,
    with its unit; empty where it can't be told which guess it was compared with.
    """

    question: str
    low: float
    high: float
    unit: str = ""
    measured: str = ""


def cells(lab: str) -> Iterator[tuple[str, list[str]]]:
    """(source, what it printed and showed) of each code cell of a built notebook."""
    notebook = json.loads((NOTEBOOKS / f"{lab}.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            yield "".join(cell["source"]), [text_of(each) for each in cell["outputs"]]


def text_of(output: dict) -> str:
    """An output as text."""
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", ""))


def read_guess(question: str, low: str, high: str, unit: str) -> Asked:
    """A guess from the parts of what was shown."""
    return Asked(question, float(low), float(high), unit.strip())


def asked_in(lab: str) -> list[Asked]:
    """The guesses that a notebook asks for, in their order."""
    outputs = "\n".join(text for _, texts in cells(lab) for text in texts)
    return [read_guess(*found) for found in ASKED.findall(outputs)]


def all_asked() -> dict[str, tuple[str, Asked]]:
    """Each question of the built notebooks, with the notebook that asks it first."""
    found: dict[str, tuple[str, Asked]] = {}
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        for each in asked_in(path.stem):
            found.setdefault(each.question, (path.stem, each))
    return found
