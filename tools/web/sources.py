"""What the pages that compute are made of: their sources as they are, and the kernels
as WebAssembly."""

import shutil
from pathlib import Path

COPIED = {".css", ".js", ".svg"}


def copy(source: Path, folder: Path) -> None:
    """Copy what a browser reads as it is into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.suffix in COPIED:
            shutil.copyfile(path, folder / path.name)


def compiled(path: Path) -> bytes:
    """Kernels that are written as text, as WebAssembly."""
    import wasmtime  # what only builds the site needs

    return bytes(wasmtime.wat2wasm(path.read_text("utf-8")))
