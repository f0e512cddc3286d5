"""What `make test` and `make lint` run."""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.start.environment import ensure, environment, venv_python
from tools.start.files import ROOT

# what may differ between two machines in a notebook's output
SANITIZE = ROOT / "tests" / "nbval_sanitize.cfg"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str:
    """Path of a Chromium, empty when there is none."""
    return next((path for path in map(shutil.which, CHROMIUM) if path), "")


def pytest(*arguments: str, cwd: Path = ROOT) -> str:
    """Run pytest and return what went wrong, empty when all is well. That nothing was
    run counts as wrong."""
    command = [str(venv_python(ROOT)), "-m", "pytest", *arguments]
    # the cheap way of measuring coverage, where Python has it
    core = {"COVERAGE_CORE": "sysmon"} if sys.version_info >= (3, 12) else {}
    env = environment(ROOT) | core
    code = subprocess.run(command, cwd=cwd, env=env).returncode
    return {0: "", 5: "FAILED: there was nothing to run"}.get(code, "FAILED")


def test_units() -> str:
    """Unit and property tests, two at a time, with the lines that they reach."""
    options = ["-n", "2", "--dist", "loadfile", "--cov=utils", "--cov=tools"]
    options.append("--max-worker-restart=0")  # else what hangs is begun for ever
    return pytest("tests", "--ignore=tests/browser", *options)


def test_notebooks() -> str:
    """Every notebook, run anew and compared with its stored outputs, in a folder that
    is thrown away afterwards."""
    originals = sorted((ROOT / "notebooks").glob("*.ipynb"))
    if not originals:
        return "FAILED: there are no notebooks"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for original in originals:
            shutil.copy(original, folder)
        shutil.copy(ROOT / "tests" / "nbval_budget.py", Path(folder) / "conftest.py")
        options = [
            "--nbval",
            "--nbval-current-env",
            f"--nbval-sanitize-with={SANITIZE}",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            folder,
            "--timeout=300",
        ]
        return pytest(*options, folder, cwd=Path(folder))


def test_browser() -> str:
    """JupyterLab in a real browser, where there is one."""
    if not find_chromium():
        return f"skipped: none of {', '.join(CHROMIUM)} is installed"
    return pytest("tests/browser")


PARTS = {"unit": test_units, "notebooks": test_notebooks, "browser": test_browser}


def test(options: argparse.Namespace, _rest: list[str]) -> int:
    """Run every part, also after one failed, then say how each went."""
    ensure(ROOT, "dev")
    lines, failed = [], False
    for name in [options.only] if options.only else PARTS:
        print(f"== {name} ==", flush=True)
        started = time.perf_counter()
        outcome = PARTS[name]()
        failed = failed or outcome.startswith("FAILED")
        lines.append(
            f"{name:10} {time.perf_counter() - started:6.0f} s  {outcome or 'passed'}"
        )
    print("\n".join(["", *lines]), flush=True)
    return int(failed)


# what a public forge reads, and the schema that it must fit
FORGE = {
    "vendor.github-workflows": ".github/workflows/*.yml",
    "vendor.github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",
    "vendor.github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "vendor.citation-file-format": "CITATION.cff",
}


def schemas(root: Path) -> list[list[str]]:
    """The checks of those files that are there."""
    found = {schema: sorted(root.glob(pattern)) for schema, pattern in FORGE.items()}
    return [
        ["check_jsonschema", "--builtin-schema", schema, *map(str, paths)]
        for schema, paths in found.items()
        if paths
    ]


def lint(_options: argparse.Namespace, _rest: list[str]) -> int:
    """Ruff's checks, its formatting, types of Python and of the site's JavaScript, what
    a public forge reads, the prose."""
    ensure(ROOT, "dev")
    checks = (
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["pyright"],
        *schemas(ROOT),
        ["tools.javascript"],
        ["tools.prose"],
        ["tools.spelling"],
    )
    python = [str(venv_python(ROOT)), "-m"]
    codes = [
        subprocess.run([*python, *check], cwd=ROOT, env=environment(ROOT)).returncode
        for check in checks
    ]
    return int(any(codes))
