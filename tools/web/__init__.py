"""The course on the web: `make site` writes artefacts/site, which any static host
serves. Nothing is asked of a network, while it is built or while it is read.

- `pages`: lessons, notebooks, syllabus, glossary and so on, by Sphinx;
- `start`: the start page, on which a network is pruned;
- `write`: the page on which a pruned network writes.
"""

import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from tools.web import checking

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "artefacts" / "site"
MARK = ".nojekyll"  # by which a site is known; GitHub Pages serves it as it is then
# each part's module, and where in the site it is written
PARTS = {"pages": "", "start": "", "write": "write"}


def build(folder: Path, parts: Sequence[str] = tuple(PARTS)) -> None:
    """Write the site, or some parts of it, into a folder. A whole site takes the place
    of the one that was there.

    Raises:
        ValueError: there is no such part, or the folder holds something else.
    """
    if unknown := set(parts) - set(PARTS):
        raise ValueError(f"parts={sorted(unknown)} are none of {', '.join(PARTS)}.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise ValueError(f"{folder} is not empty, and holds no site of before.")
    if folder.is_dir() and set(parts) == set(PARTS):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    for part in parts:
        place = folder / PARTS[part]
        place.mkdir(parents=True, exist_ok=True)
        importlib.import_module(f"{__name__}.{part}").write(place)
    if set(parts) == set(PARTS):
        checking.check(folder)
