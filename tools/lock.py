"""Write requirements*.txt: `make lock`, or with `--upgrade`.

Every package at one version, for Linux, macOS and Windows and every Python that the
course runs on, resolved by uv from pyproject.toml and PyPI alone. Versions stay as they
are unless pyproject.toml, or `--upgrade`, says otherwise. The CUDA packages that torch
may bring are left out: torch names them itself where it needs them.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from utils.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    "requirements.txt": "What the labs use, at the versions they are tested with.",
    "requirements-class.txt": "What the labs use, and what a class on a hub adds.",
    "requirements-dev.txt": "What the labs use, and what `make test` and `lint` add.",
}
CUDA = re.compile(r"(nvidia|cuda|triton)\b")


def keep(line: str) -> bool:
    """Whether a line of uv's answer goes into the file."""
    return bool(line.strip()) and not CUDA.match(line)


def resolve(name: str, folder: Path, options: list[str], base: str = "") -> str:
    """The text of a requirement file; the versions in `folder` are kept where they fit,
    and those of the text `base` in any case."""
    group = name.removeprefix("requirements").removesuffix(".txt").removeprefix("-")
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml"]
    command += ["--group", group] if group else []
    command += ["--universal", "--no-annotate", "--no-header", "--quiet", *options]
    # a folder of wheels on this machine is nobody else's
    env = {k: v for k, v in os.environ.items() if k != "UV_FIND_LINKS"}
    known = (folder / name).read_text("utf-8") if (folder / name).exists() else ""
    kept, fixed = folder / f".{name}.kept", folder / f".{name}.fixed"
    try:
        kept.write_text(known.replace("-e .\n", ""), encoding="utf-8")
        fixed.write_text(base.replace("-e .\n", ""), encoding="utf-8")
        done = subprocess.run(
            [*command, "-c", str(fixed), "-o", str(kept)],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(done.stderr.strip())
        lines = filter(keep, kept.read_text("utf-8").splitlines())
    finally:
        kept.unlink(missing_ok=True)
        fixed.unlink(missing_ok=True)
    head = f"# {FILES[name]} Written by `make lock` from pyproject.toml."
    return "\n".join([head, *lines, "-e .", ""])


def main(arguments: list[str]) -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="lock", description=__doc__)
    parser.add_argument(
        "--upgrade", action="store_true", help="take the newest that pyproject allows"
    )
    options = ["--upgrade"] if parser.parse_args(arguments).upgrade else []
    text = ""
    for name in FILES:
        text = resolve(name, ROOT, options, text)
        write_atomically(ROOT / name, text.encode())


if __name__ == "__main__":
    main(sys.argv[1:])
