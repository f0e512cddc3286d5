"""What the theme brings and no page of ours needs is taken out of the built pages: an
icon font of 1.5 MB for a dozen icons (ours are in site/static/icons.css), the search
index on pages that do not search, maps for the theme's own developers.
"""

import re
from pathlib import Path

ICON_SCRIPT = re.compile(r"\s*<script[^>]*/fontawesome\.js[^>]*></script>")
SEARCH_SCRIPTS = re.compile(
    r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js"></script>'
)
ICON_RULE = re.compile(r'(?:\.fa-[\w-]+,?)+\{--fa:"[^"]*"\}')
UNUSED = ("_static/scripts/fontawesome*", "_static/**/*.map", "_static/**/*macros.html")


def lighten(folder: Path) -> None:
    """Take it out of the pages in a folder, in place."""
    for path in folder.rglob("*.html"):
        text = ICON_SCRIPT.sub("", path.read_text(encoding="utf-8"))
        if path.name != "search.html":
            text = SEARCH_SCRIPTS.sub("", text)
        path.write_text(text, encoding="utf-8")
    for path in (folder / "_static" / "styles").glob("pydata*.css"):
        text = path.read_text(encoding="utf-8")
        path.write_text(ICON_RULE.sub("", text), encoding="utf-8")
    for pattern in UNUSED:
        for path in list(folder.glob(pattern)):
            path.unlink()
