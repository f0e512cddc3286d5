"""The command: the named parts, all by default, and one table."""

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module

import torch

import tools.bench
from tools.bench.table import Row, table

PARTS = {  # where each is; a room is imported when it is asked for
    "pruning": ("removing", "pruning"),
    "surgery": ("removing", "cutting"),
    "training": ("training", "training_epoch"),
    "schedules": ("training", "scheduled_steps"),
    "evaluation": ("training", "evaluation"),
    "loading": ("training", "loading"),
    "deployment": ("deployment", "deployment"),
    "stored": ("deployment", "stored"),
    "explorer": ("explorer", "answering"),
    "visitors": ("visitors", "visiting"),
    "writing": ("writing", "writing"),
    "site": ("site", "answering"),
    "site-write": ("site_write", "answering"),
    "grading": ("grading", "grading"),
    "studies": ("studies", "workers"),
    "exactness": ("exactness", "exactness"),
    "hub": ("hub", "classroom"),
    "labs": ("labs", "running"),
    "lighthouse": ("lighthouse", "judged"),
}
# minutes, a class, or the npm registry: only by name
ASKED_FOR = {"exactness", "grading", "hub", "labs", "lighthouse", "studies", "visitors"}
BOUND = (
    "pruning moves 14 bytes a weight (read it, write the mask; read the mask, read and"
    " write\nthe weight), and surgery 4 bytes for each weight scored (read) and for"
    " each that stays, about a quarter (write),\nat the bandwidth of a plain copy;"
    " training and evaluating do their multiply-accumulates at the speed of a\n"
    "1024 x 1024 matrix product; loading writes the tensors at the bandwidth of a"
    " copy. All measured in this run."
)


def measured(part: str, threads: int) -> Iterator[Row]:
    """The rows of a part."""
    room, name = PARTS[part]
    rows: Callable[[int], Iterator[Row]] = getattr(
        import_module(f"tools.bench.{room}"), name
    )
    return rows(threads)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the named parts and print one table; fails where a value is wrong."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    rows = []
    for part in options.parts or [part for part in PARTS if part not in ASKED_FOR]:
        for row in measured(part, options.threads):
            print(f"measured: {row.what}", file=sys.stderr, flush=True)
            rows.append(row.cells())
    print(table(rows))
    print(f"\nMedian (lowest-highest) of alternating rounds. Bound: {BOUND}")
    load = (
        f"; load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    )
    print(
        f"{options.threads} thread(s) of {os.cpu_count()} cores{load}; torch"
        f" {torch.__version__}, {platform.machine()}."
    )
    if wrong := [row[0] for row in rows if row[-1].startswith("WRONG")]:
        sys.exit(f"wrong: {', '.join(wrong)}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench",
        description=tools.bench.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="part",
        help=f"of: {', '.join(PARTS)}; default: all but {', '.join(ASKED_FOR)}",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=torch.get_num_threads(),
        help="default: as PyTorch chooses",
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(
            f"no such part: {', '.join(sorted(unknown))}. Known: {', '.join(PARTS)}."
        )
    return options


if __name__ == "__main__":
    main()
