"""Read the course's prose for words that are in no dictionary: `make lint` runs this.

A word must be in the dictionary of `pyspellchecker`, which comes with it and needs no
network, or in tools/words.txt: names, and terms of the field. Code, addresses and
names of files are left out.
"""

import html
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from spellchecker import SpellChecker

from tools.prose import ROOT, sentences, texts
from tools.syllabus import folders

LIST = ROOT / "tools" / "words.txt"
PAGES = (
    "*.md",
    "lessons/README.md",
    "site/*.md",
    "site/[sw]*/*.html",  # start, write
    ".github/**/*.md",
)
# also `a.b`, `a/b`, `a_b`: names in code
NO_PROSE = re.compile(r"`[^`]*`|https?:\S+|\S*[/_@\\]\S*|\w+\.\w+\S*|&\w+;")
WORD = re.compile(r"[^\W\d_][^\W\d_'’]*")
QUIZ = ("question", "answer", "feedback", "model", "rubric")


def listed() -> set[str]:
    """The words that the course adds to the dictionary, in small letters."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    words = (line.partition("#")[0].split() for line in lines)
    return {word.lower() for line in words for word in line}


def words(text: str) -> Iterator[str]:
    """The words of a text in Markdown or HTML, without its code.

    >>> list(words("The *mask's* `w.abs()` is 3 x as wide. <!-- not read -->"))
    ['The', 'mask', 'wide']
    """
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.DOTALL)
    for sentence, _ in sentences(text):
        for word in WORD.findall(NO_PROSE.sub(" ", html.unescape(sentence))):
            plain = word.replace("’", "'").strip("'").removesuffix("'s")
            # short ones are units and letters, capitals are abbreviations
            if len(plain) > 2 and not plain.removesuffix("s").isupper():
                yield plain


def said(part: object) -> Iterator[str]:
    """All that a quiz says."""
    if isinstance(part, list):
        for each in part:
            yield from said(each)
    elif isinstance(part, dict):
        for key, value in part.items():
            yield from said(value) if key in ("answers", *QUIZ) else ()
    elif isinstance(part, str):
        yield part


def prose(root: Path) -> Iterator[tuple[str, str]]:
    """(where, text) of all that a learner, teacher or author reads."""
    for folder in folders(root / "lessons"):
        for name, text in texts(folder):
            yield f"lessons/{folder.name}/{name}", text
        quiz = folder / "quiz.json"
        for text in said(json.loads(quiz.read_text(encoding="utf-8"))):
            yield f"lessons/{folder.name}/quiz.json", text
    for pattern in PAGES:
        for path in sorted(root.glob(pattern)):
            where = path.relative_to(root).as_posix()
            yield where, path.read_text(encoding="utf-8")


def unknown(pairs: Iterator[tuple[str, str]]) -> dict[str, str]:
    """Each word that is in no list, with the place where it first stands."""
    found: dict[str, str] = {}
    for where, text in pairs:
        for word in words(text):
            found.setdefault(word, where)
    known = listed()
    asked = {word.lower() for word in found} - known
    wrong = SpellChecker().unknown(asked)
    return {word: where for word, where in found.items() if word.lower() in wrong}


def main() -> int:
    """Print the unknown words; 1 if there are any."""
    found = unknown(prose(ROOT))
    for word, where in sorted(found.items()):
        print(f"{where}: {word!r} is in no dictionary; is it a term for {LIST.name}?")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
