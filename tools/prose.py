"""Read the course's prose as an editor would: `make lint` runs this.

Two things are looked for: words and turns that the course does not use, with the
reason, and sentences that say why without saying how that is known.

Each sentence with a causal word is followed by a marker, which the build takes out of
notebooks:

    <!-- why: measured: START OF A CLAIM -->  a claim of the lesson's own lab shows it
    <!-- why: counted -->       it follows from counting, algebra or a definition
    <!-- why: source: Han et al. 2015 -->     somebody else showed it
    <!-- why: conjecture -->    the sentence itself says that it was not tested
    <!-- why: choice -->        why the course does something; nothing about networks

In quiz.json the same words stand beside a feedback, as "why": "measured: ...".
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jupytext

from tools.syllabus import folders

ROOT = Path(__file__).parents[1]
CAUSAL = re.compile(
    r"\b(because|therefore|due to|that is why|the reason|explain(s|ed)?|thanks to"
    r"|hence|owing to)\b",
    re.IGNORECASE,
)
HEDGED = re.compile(
    r"\b(likel(y|ier|iest)|may|might|perhaps|probabl[ey]|conjecture|guess|not tested?"
    r"|untested|suspect|could)\b",
    re.IGNORECASE,
)
MARKER = re.compile(r"\s*<!-- why: (.*?) -->", re.DOTALL)
LONGEST = 45  # words of a sentence
AVOID = {  # what the course does not say, and what it says instead
    r"\bby the way\b": "say `in passing`, or leave it out",
    r"\b(obviously|of course|clearly enough|needless to say)\b": "nothing is obvious",
    r"\b(basically|actually)\b": "leave it out",
    r"\b(amazing|powerful|exciting|incredible|revolutionary|seamless(ly)?)\b": "hype",
    r"\b(state-of-the-art|cutting-edge|game.chang\w+)\b": "hype",
    r"\b(leverag\w+|utiliz\w+|delv\w+)\b": "say `use`, `look into`",
    r"\b(in order to)\b": "say `to`",
    r"\b(note that|it is important to)\b": "say it",
    r"\b(allows?|permits?|enables?) to\b": "say who: `lets you prune`",
    r"\b(informations|knowledges|softwares)\b": "has no plural",
    r"\b(so-called)\b": "leave it out",
    r"^Who [^?]*\.$": "a riddle: name the person first",
    r"^(As|Like) one wishes\b|\bas one wishes\b": "say what is seen",
    r"\bby and by\b": "say `gradually`",
    r"\b(pruning|drop) rate\b": "say `sparsity`",
    r"\bcompression ratio\b": "say `times smaller`",
}
_SHORT = ("et al.", "e.g.", "i.e.", "vs.", "sec.", "fig.", "app.", "eq.", "approx.")


def sentences(markdown: str) -> Iterator[tuple[str, list[str]]]:
    """Each sentence of a text, without its code, links and HTML, and the markers that
    follow it.

    >>> list(sentences("It fell, because x. <!-- why: counted --> It rose."))
    [('It fell, because x.', ['counted']), ('It rose.', [])]
    """
    text = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    text = MARKER.sub(lambda found: f"\u27e6{' '.join(found[1].split())}\u27e7", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"</?[a-zA-Z!][^>]*>", " ", text)
    text = re.sub(r"`[^`]*`", lambda code: code[0].replace(".", "\u2024"), text)
    for short in _SHORT:
        text = text.replace(short, short[:-1] + "\u2024")
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*|#]|\d+\.)\s)", text):
        flat = " ".join(block.split()).lstrip("#-*| ")
        for each in re.findall(
            r".+?(?:[.!?]+[\"')*_`]*(?:\u27e6[^\u27e7]*\u27e7)*(?=\s|$)|$)", flat
        ):
            markers = re.findall(r"\u27e6([^\u27e7]*)\u27e7", each)
            said = re.sub(r"\u27e6[^\u27e7]*\u27e7", "", each).strip()
            if said:
                yield said.replace("\u2024", "."), markers


def claims(folder: Path) -> list[str]:
    """The statements that the lab of a lesson, and what goes further, measure."""
    found = []
    for path in (folder / "lab.py", folder / "further.py"):
        if not path.is_file():
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "claim"
                and node.args
            ):
                found.append(_beginning(node.args[0]))
    return found


def _beginning(node: ast.expr) -> str:
    """What is certain of a statement: all of a string, an f-string's first piece."""
    first = node.values[0] if isinstance(node, ast.JoinedStr) else node
    return str(first.value) if isinstance(first, ast.Constant) else ""


def why_problem(sentence: str, markers: list[str], measured: list[str]) -> str:
    """What is wrong with how a sentence that says why is backed; empty when nothing is.

    measured: the statements that the lesson measures.
    """
    if not CAUSAL.search(sentence):
        return ""
    if not markers:
        return "says why, and no marker says how that is known"
    kind, _, rest = markers[-1].partition(":")
    kind, rest = kind.strip(), rest.strip()
    if kind == "measured":
        backed = rest and any(claim.startswith(rest) for claim in measured)
        return "" if backed else f"no claim of the lesson begins with {rest!r}"
    if kind == "source":
        return "" if re.search(r"\d{4}", rest) else "names no source with its year"
    if kind == "conjecture":
        hedged = HEDGED.search(sentence)
        return "" if hedged else "is marked as a conjecture and does not say so"
    known = kind in ("counted", "choice")
    return "" if known else f"has an unknown marker, {markers[-1]!r}"


def style_problems(sentence: str) -> list[str]:
    """What the course would not say in a sentence, with what it says instead."""
    plain = re.sub(r"`[^`]*`", "code", sentence)
    found = [
        f"{match[0]!r}: {instead}"
        for pattern, instead in AVOID.items()
        if (match := re.search(pattern, plain))
    ]
    count = len(plain.split())
    if count > LONGEST and "|" not in plain:
        found.append(f"{count} words in one sentence; at most {LONGEST}")
    return found


def texts(folder: Path) -> Iterator[tuple[str, str]]:
    """(file name, Markdown) of what learners and teachers of a lesson read."""
    for name in ("README.md", "teaching.md"):
        if (folder / name).is_file():
            yield name, (folder / name).read_text(encoding="utf-8")
    for name in ("lab.py", "further.py"):
        if (folder / name).is_file():
            source = (folder / name).read_text(encoding="utf-8")
            for cell in jupytext.reads(source, fmt="py:percent").cells:
                if cell.cell_type == "markdown":
                    yield name, cell.source


def problems_of(folder: Path) -> list[str]:
    """A line for each sentence of a lesson that is to be mended."""
    measured, found = claims(folder), []
    for name, text in texts(folder):
        for sentence, markers in sentences(text):
            said = style_problems(sentence)
            if name != "teaching.md":
                said.append(why_problem(sentence, markers, measured))
            found += [f"{name}: {sentence[:90]!r} {each}" for each in said if each]
    quiz = folder / "quiz.json"
    questions = json.loads(quiz.read_text(encoding="utf-8")) if quiz.is_file() else []
    for part, why in _feedbacks(questions):
        for sentence, _ in sentences(part):
            said = style_problems(sentence)
            said.append(why_problem(sentence, [why] if why else [], measured))
            found += [f"quiz.json: {sentence[:90]!r} {each}" for each in said if each]
    return found


def _feedbacks(part: object) -> Iterator[tuple[str, str]]:
    """(text, what backs it) of all that a quiz says."""
    if isinstance(part, list):
        for each in part:
            yield from _feedbacks(each)
    elif isinstance(part, dict):
        for key in ("feedback", "model"):
            if key in part:
                yield part[key], part.get("why", "")
        yield from _feedbacks(part.get("answers", []))


def main() -> int:
    """Print what is to be mended; 1 if there is anything."""
    lines = []
    for folder in folders(ROOT / "lessons"):
        lines += [f"lessons/{folder.name}/{line}" for line in problems_of(folder)]
    for page in (ROOT / "README.md", ROOT / "lessons" / "README.md"):
        for sentence, _ in sentences(page.read_text(encoding="utf-8")):
            said = style_problems(sentence)
            lines += [f"{page.name}: {sentence[:90]!r} {each}" for each in said]
    print("\n".join(lines), end="\n" if lines else "")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
