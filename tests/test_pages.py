"""Every page of the project: its links lead somewhere, its pictures are there and
described; no file is large."""

import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
OWN = ("lessons", "data", "tests", "utils", "notebooks")
PAGES = sorted(
    {
        *ROOT.glob("*.md"),
        *(page for folder in OWN for page in (ROOT / folder).rglob("*.md")),
    }
)

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)[^)]*\)")


def links(text: str) -> list[tuple[bool, str, str]]:
    """(is a picture, its text, where it leads) of every link in Markdown; code is left
    out."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
    return [(bool(mark), words, target) for mark, words, target in LINK.findall(text)]


def slug(heading: str) -> str:
    """The anchor that a heading gets on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def leads_somewhere(page: Path, target: str) -> bool:
    """Whether a relative link leads to a file of the project, and its anchor to a
    heading."""
    if re.match(r"[a-z]+:", target):
        return target.startswith(("https:", "mailto:"))
    file, _, anchor = target.partition("#")
    path = (page.parent / file).resolve() if file else page
    if not path.exists() or not path.is_relative_to(ROOT):
        return False
    headings = (
        re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.M)
        if path.suffix == ".md"
        else []
    )
    return not anchor or anchor in map(slug, headings)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    dead = [
        t
        for picture, _, t in links(page.read_text(encoding="utf-8"))
        if not picture and not leads_somewhere(page, t)
    ]
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_picture_of_a_page_is_there_and_described(page):
    for picture, words, target in links(page.read_text(encoding="utf-8")):
        if picture:
            assert len(words.split()) >= 4, f"{target}: alt text {words!r}"
            assert leads_somewhere(page, target), f"{target} is missing"
            if target.endswith(".svg"):
                ElementTree.parse(page.parent / target)
                continue
            with Image.open(page.parent / target) as image:
                image.verify()


def test_no_tracked_file_outside_data_is_large():
    git = shutil.which("git")
    listed = git and subprocess.run(
        [git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
    )
    if not listed or listed.returncode or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    paths = [
        ROOT / name
        for name in listed.stdout.split("\0")
        if name and not name.startswith("data/")
    ]
    large = {
        str(path.relative_to(ROOT)): path.stat().st_size
        for path in paths
        if path.is_file()
    }
    assert not {name: size for name, size in large.items() if size > 1_500_000}
