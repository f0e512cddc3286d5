"""Write the drawings of the lessons, lessons/NN_name/figures/*.svg, from each lesson's
drawings.py: `make drawings`.
"""

import argparse
from pathlib import Path

from tools.drawing import Drawing
from tools.syllabus import folders
from utils.exercises import load
from utils.files import write_atomically

LESSONS = Path(__file__).parents[1] / "lessons"


def drawings(folder: Path) -> dict[str, Drawing]:
    """The drawings of the lesson in a folder, by name; none if it has no
    drawings.py."""
    if not (folder / "drawings.py").is_file():
        return {}
    module = load(folder.name, "drawings")
    return {draw.__name__: draw() for draw in module.DRAWINGS}


def write(folder: Path) -> None:
    """Write the drawings of one lesson that changed."""
    for name, drawing in drawings(folder).items():
        path, content = folder / "figures" / f"{name}.svg", drawing.svg().encode()
        if not path.is_file() or path.read_bytes() != content:
            write_atomically(path, content)
            print(f"lessons/{folder.name}/figures/{path.name}: written")


def main() -> None:
    """Write those that changed."""
    argparse.ArgumentParser(prog="make drawings", description=__doc__).parse_args()
    for folder in folders(LESSONS):
        write(folder)


if __name__ == "__main__":
    main()
