"""The course on the web: `make site` writes artefacts/site, which any static host
serves. Nothing is asked of a network, while it is built or while it is read.

- `pages`: lessons, notebooks, syllabus, glossary and so on, by Sphinx;
- `start`: the start page, on which a network is pruned;
- `write`: the page on which a pruned network writes.
"""

import importlib
import importlib.util
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.web import checking

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "artefacts" / "site"
MARK = ".nojekyll"  # by which a site is known; GitHub Pages serves it as it is then
# each part's module, and where in the site it is written
PARTS = {"pages": "", "start": "", "write": "write"}
PLAIN_START = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pruning neural networks, measured</title>
<main>
<h1>Pruning neural networks, measured</h1>
<p><a href="course.html">The course</a></p>
</main>
</html>
"""


def writer(part: str) -> Callable[[Path], None] | None:
    """The function that writes a part of the site into a folder; None while its module
    is not there.

    Raises:
        ValueError: there is no such part; lists them.
    """
    if part not in PARTS:
        raise ValueError(f"part={part!r} is none of {', '.join(PARTS)}.")
    name = f"{__name__}.{part}"
    found = importlib.util.find_spec(name)
    return importlib.import_module(name).write if found else None


def build(folder: Path, parts: Sequence[str] = tuple(PARTS)) -> None:
    """Write the site, or some parts of it, into a folder. A whole site takes the place
    of the one that was there.

    Raises:
        ValueError: the folder holds something else.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise ValueError(f"{folder} is not empty, and holds no site of before.")
    if folder.is_dir() and set(parts) == set(PARTS):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    for part in PARTS:
        write = writer(part) if part in parts else None
        if write:
            (folder / PARTS[part]).mkdir(parents=True, exist_ok=True)
            write(folder / PARTS[part])
    if set(parts) == set(PARTS):
        plain_start(folder)
        checking.check(folder)


def plain_start(folder: Path) -> None:
    """A start page that leads to the course, while there is no better one."""
    if not (folder / "index.html").exists():
        (folder / "index.html").write_text(PLAIN_START, encoding="utf-8")
