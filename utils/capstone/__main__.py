"""What `score` and `examine` start: `python -I utils/capstone/__main__.py FILE` prints
what it found as JSON, a line for each step.

Started as a file, not with `-m`: the folder that holds it is then on no path, and no
module beside `utils` stands for one of a library.
"""

import importlib.util
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def load_utils() -> None:
    """The package `utils` of this project, whichever else is installed. An editable
    installation puts the project on the path: it is taken from there."""
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != PROJECT]
    package = PROJECT / "utils"
    spec = importlib.util.spec_from_file_location(
        "utils", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["utils"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["utils"])


if __name__ == "__main__":
    load_utils()
    from utils.capstone.process import main

    main(*sys.argv[1:])
