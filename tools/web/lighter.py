"""Built pages, made light: they are read on phones.

What the theme brings and no page of ours needs is taken out: an icon font of 1.5 MB for
a dozen icons (ours are in site/static/icons.css), the search index on pages that do not
search, maps for the theme's own developers. One style sheet takes the place of seven,
no script stands in the way of the text, and pictures come when they are near. Each page
has its policy then (`policy`), which names the scripts that stand in it.
"""

import functools
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

from tools.web import sources
from tools.web.policy import with_policy

STYLES = "site.css"
STYLE_LINK = re.compile(r'\s*<link [^>]*href="[^"?]*_static/([\w./-]+\.css)[^>]*>')
FONT = re.compile(r"@font-face\s*\{[^}]*\}")
ICON_RULE = re.compile(r'(?:\.fa-[\w-]+,?)+\{--fa:"[^"]*"\}')
ICON_SCRIPT = re.compile(r"\s*<script[^>]*/fontawesome\.js[^>]*></script>")
SEARCH_SCRIPTS = re.compile(
    r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js"></script>'
)
PRELOAD = re.compile(r'\s*<link rel="preload" as="script"[^>]*>')
WAITED = re.compile(
    r'<script src="([^"]*/(?:doctools|sphinx_highlight|sphinx-book-theme)\.js[^"]*)">'
)
SHORT = re.compile(
    r'<script src="[^"]*_static/(early|documentation_options)\.js[^"]*"></script>'
)
IMAGE = re.compile(r'<img [^>]*src="([^":]+)"[^>]*>')
UNUSED = ("**/*.map", "scripts/fontawesome*", "**/*macros.html")


def lighten(folder: Path) -> None:
    """Change the pages in a folder, in place."""
    static = folder / "_static"
    sheets: list[str] = []
    for path in sorted(folder.rglob("*.html")):
        if static in path.parents:
            continue
        text = path.read_text(encoding="utf-8")
        sheets = sheets or STYLE_LINK.findall(text)
        path.write_text(light_page(text, path, static), encoding="utf-8")
    styles = "\n".join(sheet(static / name) for name in sheets)
    (static / STYLES).write_text(styles, encoding="utf-8")
    for pattern in UNUSED:
        for path in list(static.glob(pattern)):
            path.unlink()
    for name in ("vendor", "locales", "styles"):
        shutil.rmtree(static / name, ignore_errors=True)


def light_page(text: str, path: Path, static: Path) -> str:
    """The text of a page, made light, with its policy."""
    text = PRELOAD.sub("", ICON_SCRIPT.sub("", text))
    if path.name != "search.html":  # whose scripts need one another at once
        text = WAITED.sub(r'<script defer src="\1">', SEARCH_SCRIPTS.sub("", text))
    up = "../" * (len(path.parts) - len(static.parts))
    text = SHORT.sub(lambda found: inline(static / f"{found[1]}.js"), text)
    link = f'\n<link rel="stylesheet" href="{up}_static/{STYLES}">'
    head, *rest = STYLE_LINK.split(text, maxsplit=1)
    if rest:  # the name of the first sheet, and what comes after it
        text = head + link + STYLE_LINK.sub("", rest[1])
    return with_policy(IMAGE.sub(sized(path), text))


def inline(script: Path) -> str:
    """A short script in the page itself, which costs no request."""
    return f"<script>{script.read_text(encoding='utf-8').strip()}</script>"


def sheet(path: Path) -> str:
    """A style sheet with those that it imports, without the icon font."""
    return ICON_RULE.sub("", FONT.sub("", sources.sheet(path)))


def sized(page: Path) -> Callable[[re.Match], str]:
    """For each picture of a page: the element with the size of its file, so that the
    text does not jump, and fetched when it is near; the first one at once."""
    seen: list[str] = []

    def replace(found: re.Match) -> str:
        seen.append(found[1])
        size = size_of((page.parent / unquote(found[1])).resolve())
        said = "" if len(seen) == 1 else ' loading="lazy"'
        if size and " width=" not in found[0] and " style=" not in found[0]:
            said += f' width="{size[0]}" height="{size[1]}"'
        return found[0].replace("<img", f"<img{said}", 1)

    return replace


@functools.cache
def size_of(path: Path) -> tuple[int, int] | None:
    """(width, height) in pixels of a PNG, GIF or SVG; None where it does not say."""
    if path.suffix == ".svg":
        box = ElementTree.parse(path).getroot().get("viewBox", "")
        sides = [round(float(side)) for side in box.replace(",", " ").split()]
        return (sides[2], sides[3]) if len(sides) == 4 else None
    head = path.read_bytes()[:24] if path.is_file() else b""
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return struct.unpack(">II", head[16:24])
    return struct.unpack("<HH", head[6:10]) if head[:4] == b"GIF8" else None
