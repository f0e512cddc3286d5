"""How large a class's machine must be, from what the bench measured: the numbers of
deploy/ come from deploy/measured.json, by the rules below.

    python -m tools.classroom.sizing      writes them into deploy/ again
"""

import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.start.files import ROOT
from utils.files import read_json, write_atomically

DEPLOY = ROOT / "deploy"
SYSTEM_MB = 1500  # for the system itself
CLASS = 30
OPEN_WITHIN = 120  # seconds in which all panels of a class shall be there
MOVES_A_SECOND = 0.5  # of a learner who slides
REPAIR = "`git checkout -- deploy`, or `make bench ARGS='hub labs'` with RECORD=1."


@dataclass(frozen=True)
class Measured:
    """Of one learner, but for `hub_mb` (hub and proxy) and `learners`: how many were
    there, in lab 00 but for `largest_mb`. Memory is proportional (PSS).

    most_mb: of the largest learner.  largest_mb: of a learner's kernel, and what it
        starts, in the lab that takes most; not proportional.
    """

    learners: int
    server_mb: int
    kernel_mb: int
    most_mb: int
    largest_mb: int
    hub_mb: int
    open_cpu_s: float  # from login to lab 00's panel
    move_cpu_ms: int


@dataclass(frozen=True)
class Sizes:
    """Memory in MB, processors in cores: of one learner, then of the class."""

    guarantee_mb: int
    limit_mb: int
    guarantee_cpu: float
    limit_cpu: float
    class_mb: int
    class_cores: int


def sizes(found: Measured, learners: int = CLASS) -> Sizes:
    """Rules: the guarantee is what a learner took, with a tenth to spare; the limit
    leaves room for the largest lab, and for another that was left open. So many cores
    that all panels of a class are there in time, and all can slide at once."""
    guarantee = _up(1.1 * (found.server_mb + found.kernel_mb), 50)
    opening = learners * found.open_cpu_s / OPEN_WITHIN
    sliding = learners * MOVES_A_SECOND * found.move_cpu_ms / 1000
    cores = max(2, math.ceil(max(opening, sliding)))
    return Sizes(
        guarantee_mb=guarantee,
        limit_mb=_up(found.largest_mb + found.most_mb, 500),
        guarantee_cpu=round(cores / learners, 2),
        limit_cpu=2,
        class_mb=_up(SYSTEM_MB + found.hub_mb + learners * guarantee, 1000),
        class_cores=cores,
    )


def said(found: Measured, learners: int = CLASS) -> str:
    """The extrapolation, in words."""
    need = sizes(found, learners)
    return (
        f"{learners} learners, extrapolated from {found.learners}:"
        f" {need.class_mb / 1000:.0f} GB and {need.class_cores} cores for all panels"
        f" within {OPEN_WITHIN} s; on 2 cores"
        f" {learners * found.open_cpu_s / 2:.0f} s"
    )


def read() -> Measured:
    """What was measured last.

    Raises:
        DamagedFileError: the file is missing or no JSON; says how to get it again.
    """
    return Measured(**read_json(DEPLOY / "measured.json", REPAIR))


def record(found: Measured) -> None:
    """Keep what was measured, and write the sizes that follow from it."""
    text = json.dumps(asdict(found), indent=1) + "\n"
    write_atomically(DEPLOY / "measured.json", text.encode())
    for path, content in written(found).items():
        write_atomically(path, content.encode())


def written(found: Measured) -> dict[Path, str]:
    """The files of deploy/ as they should be: wherever a line ends in `# measured:
    NAME`, its number is that of `Sizes`."""
    need = asdict(sizes(found))
    texts = {}
    for path in (DEPLOY / "values.yaml", DEPLOY / "tljh.sh"):
        texts[path] = re.sub(
            r"(\d[\d.]*)(?=[MG]?\"?\s+# measured: (\w+)$)",
            lambda hit: f"{need[hit[2]]:g}",
            path.read_text("utf-8"),
            flags=re.MULTILINE,
        )
    return texts


def _up(value: float, step: int) -> int:
    return step * math.ceil(value / step)


if __name__ == "__main__":
    record(read())
    print(said(read()))
