"""What the pages that compute are made of: their sources as they are, and the kernels
as WebAssembly."""

import re
import shutil
from pathlib import Path

IMPORT = re.compile(r'@import "([^"]+)";')
COPIED = {".js", ".svg"}


def copy(source: Path, folder: Path) -> None:
    """Copy what a browser reads as it is into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.suffix == ".css":
            (folder / path.name).write_text(sheet(path), encoding="utf-8")
        elif path.suffix in COPIED:
            shutil.copyfile(path, folder / path.name)


def sheet(path: Path) -> str:
    """A style sheet with those that it imports in their places."""
    text = path.read_text(encoding="utf-8")
    return IMPORT.sub(lambda found: sheet((path.parent / found[1]).resolve()), text)


def compiled(path: Path) -> bytes:
    """Kernels that are written as text, as WebAssembly."""
    import wasmtime  # what only builds the site needs

    return bytes(wasmtime.wat2wasm(path.read_text("utf-8")))
