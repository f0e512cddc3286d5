"""The workspace: notebooks and pages are laid there; what is the learner's stays."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from tools.start.files import ROOT, StartError, locked, read_json, write_json
from utils.files import (
    DamagedFileError,
    folder_named,
    parse_json,
    read_regular,
    write_atomically,
)

AGAIN = "fetch the course again."


def sha256(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def workspace_folder() -> Path:
    """Where the learner's notebooks are."""
    named = os.environ.get("PRUNING_WORKSPACE")
    try:
        return folder_named("PRUNING_WORKSPACE", named or ROOT / "workspace")
    except ValueError as error:
        raise StartError(str(error)) from None


def source_version(content: bytes) -> str:
    """Hash of a notebook's cells as written; outputs do not count, so running a
    notebook makes no new version."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        cells = [
            [cell["cell_type"], "".join(cell["source"])]
            for cell in parse_json(content)["cells"]
        ]
        content = json.dumps(cells).encode()
    return sha256(content)


def without_outputs(content: bytes) -> bytes:
    """The notebook as nobody has run it yet: a learner guesses before the result is
    there."""
    notebook = json.loads(content)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
            cell["metadata"].pop("execution", None)
    return json.dumps(notebook, indent=1, ensure_ascii=False).encode() + b"\n"


def read_record(workspace: Path) -> dict[str, dict]:
    """What was laid: `laid`, file -> hash of the bytes; `offered`, notebook -> newest
    version laid anywhere."""
    found = read_json(workspace / ".laid.json")
    return {
        key: found[key] if isinstance(found.get(key), dict) else {}
        for key in ("laid", "offered")
    }


def held(target: Path) -> bytes | None:
    """What a file of the workspace holds; None when there is none, or none that can be
    read: the learner's then."""
    try:
        return read_regular(target, AGAIN)
    except DamagedFileError:
        return None


def is_ours(target: Path, content: bytes, laid: str | None) -> bool:
    """Whether writing to `target` loses nothing: it is free, or holds exactly what the
    course laid there (its hash)."""
    if not os.path.lexists(target):
        return True
    found = held(target)
    return found is not None and sha256(found) in (laid, sha256(content))


def put(name: str, content: bytes, workspace: Path, record: dict[str, dict]) -> bool:
    """Lay `content` at `name` and record it. True when that replaced an older
    version."""
    target = workspace / name
    old = held(target)
    if old != content:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
    record["laid"][name] = sha256(content)
    return old not in (None, content)


def place_beside(target: Path, content: bytes, record: dict[str, dict]) -> Path:
    """NAME.new.ipynb, or NAME.new-2.ipynb and so on when the learner works in that one
    too."""
    candidate, number = target.with_name(f"{target.stem}.new.ipynb"), 1
    while not is_ours(candidate, content, record["laid"].get(candidate.name)):
        number += 1
        candidate = target.with_name(f"{target.stem}.new-{number}.ipynb")
    return candidate


def lay_one(name: str, content: bytes, workspace: Path, record: dict[str, dict]) -> str:
    """Lay one notebook and return a line about it, empty when there is nothing to say.
    The learner's stays."""
    target, version = workspace / name, source_version(content)
    if is_ours(target, content, record["laid"].get(name)):
        replaced = put(name, content, workspace, record)
        record["offered"][name] = version
        return (
            f"{name}: you had not changed it, so it is now the course's newer version."
            if replaced
            else ""
        )
    theirs = held(target)
    if version == record["offered"].get(name) or (
        theirs is not None and version == source_version(theirs)
    ):
        return ""
    beside = place_beside(target, content, record)
    put(beside.name, content, workspace, record)
    record["offered"][name] = version
    return (
        f"{name}: yours stays as it is; the course's newer version is beside it,"
        f" {beside.name}."
    )


def lay_notebooks(source: Path, workspace: Path) -> list[str]:
    """Lay every notebook of `source`, without its outputs, into `workspace`, whatever
    else is done there at the same time."""
    originals = {path.name: path for path in sorted(source.glob("*.ipynb"))}
    if not originals:
        raise StartError(
            f"There are no notebooks in {source}: build them with make notebooks."
        )
    with locked(workspace / ".laid.lock"):
        record = read_record(workspace)
        lines = [
            lay_one(name, without_outputs(read_regular(path, AGAIN)), workspace, record)
            for name, path in originals.items()
        ]
        if record != read_record(workspace):
            write_json(workspace / ".laid.json", record)
    return [line for line in lines if line]


def lay_pages(source: Path, workspace: Path) -> None:
    """Lay the lessons' pages and figures into `workspace`/lessons, so that JupyterLab
    shows them. Changed ones stay."""
    with locked(workspace / ".laid.lock"):
        record = read_record(workspace)
        for original in sorted(
            [*source.glob("*/README.md"), *source.glob("*/figures/*")]
        ):
            name = f"lessons/{original.relative_to(source).as_posix()}"
            content = read_regular(original, AGAIN)
            if original.suffix == ".md":
                # to the learner's own copies
                content = content.replace(b"](../../notebooks/", b"](../../")
            free = not any(
                each.is_file() for each in (workspace / name).parents
            ) and is_ours(workspace / name, content, record["laid"].get(name))
            if free:
                put(name, content, workspace, record)
        if record != read_record(workspace):
            write_json(workspace / ".laid.json", record)


def shadows(workspace: Path) -> list[str]:
    """A line for a file or folder of the learner that has the name of the course's
    package, or of the folder of its pages."""
    found = [workspace / "utils.py", workspace / "utils" / "__init__.py"]
    lines = [
        f"{path} is not what the labs import: `utils` is the course's package, so give"
        " yours another name to use it."
        for path in found
        if path.is_file()
    ]
    if (workspace / "lessons").is_file():
        lines.append(
            f"{workspace / 'lessons'} is a file of yours, so the course's pages are not"
            " laid: give it another name to have them."
        )
    return lines
