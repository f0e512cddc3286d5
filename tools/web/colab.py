"""The notebooks as Colab opens them: `python -m tools.web.colab FOLDER` writes them,
and .github/workflows/site.yml publishes them as the branch `colab`.

Colab opens a notebook alone, without the course around it, and only from a public
repository. So each copy has one cell more, which fetches the course, and none of the
results. The learners' own notebooks stay as they are. Standard library only.
"""

import argparse
import json
from pathlib import Path

from tools.start.workspace import without_outputs
from tools.web.repository import COLAB, at_forge, repository

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CELL = """\
# For Colab alone: fetches the course, and installs what Colab lacks (some minutes).
![ -d pruning-course ] || git clone -q --depth 1 {address} pruning-course
import os, sys
sys.path.insert(0, os.path.abspath("pruning-course"))
from tools.start import colab
colab.ready()"""
NOTE = """\
**On Colab:** run the next cell first. What you do is kept in this session only: *File,
Save a copy in Drive* keeps the notebook, and nothing keeps your guesses and answers."""


def with_course(content: bytes, address: str) -> bytes:
    """A notebook without results, whose second cell fetches the course from there."""
    notebook = json.loads(without_outputs(content))
    added = [
        {"cell_type": "markdown", "source": NOTE},
        {"cell_type": "code", "source": CELL.format(address=address)},
    ]
    for number, cell in enumerate(added):
        cell |= {"id": f"colab-{number}", "metadata": {}}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
        notebook["cells"].insert(1 + number, cell)
    return json.dumps(notebook, indent=1, ensure_ascii=False).encode() + b"\n"


def write(folder: Path) -> None:
    """Write all of them into `folder`/notebooks.

    Raises:
        ValueError: it is not said where the course is published, or nonsense.
    """
    if not repository():
        raise ValueError("PRUNING_REPOSITORY must say where Colab finds the course.")
    target = folder / "notebooks"
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        content = with_course(path.read_bytes(), at_forge(".git"))
        (target / path.name).write_bytes(content)


def main() -> None:
    """Write them into the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help=f"what the branch {COLAB} will hold")
    asked = parser.parse_args()
    try:
        write(asked.folder)
    except ValueError as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
