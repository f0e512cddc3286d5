"""The pages that are read: lessons, notebooks, syllabus, glossary, bibliography."""

from pathlib import Path


def write(folder: Path) -> None:
    """Write them into a folder."""
    (folder / "course.html").touch()
