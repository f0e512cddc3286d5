"""`make site`, or `python -m tools.web`; with names of parts, only these."""

import argparse
from pathlib import Path

from tools.web import PARTS, SITE, build


def main() -> None:
    """Build what the command line asks for, and say where it is."""
    parser = argparse.ArgumentParser(prog="site", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--to", type=Path, default=SITE, help="the folder to write")
    asked = parser.parse_args()
    try:
        build(asked.to, asked.parts or tuple(PARTS))
    except ValueError as problem:
        parser.error(str(problem))
    print(f"The site is in {asked.to}: python -m http.server -d {asked.to}")


if __name__ == "__main__":
    main()
