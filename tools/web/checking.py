"""A built site is sound: every link inside it leads to a page and a place that are
there, every picture is there and described, and no page fetches from elsewhere. Each
page has a policy, by which a browser runs and paints all that stands in it, and nothing
that does not."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tools.web.policy import digest

# what a browser fetches by itself, by element and attribute
FETCHED = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("object", "data"),
    ("link", "href"),
}


@dataclass
class Page:
    """What a page names: `ids` of its places, `links` that a reader may follow,
    `fetched` by the browser, `undescribed` pictures. Its `policy`, by directive, and
    what that has to allow: the `inline` content of (script-src or style-src), and
    `attributes` that run or paint something."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    undescribed: list[str] = field(default_factory=list)
    policy: dict[str, list[str]] = field(default_factory=dict)
    inline: list[tuple[str, str]] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)


class Reader(HTMLParser):
    """Fills a `Page`."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        # the directive that what is read falls under, and what is read of it
        self.within, self.content = "", []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One element."""
        said = {name: value or "" for name, value in attrs}
        self.page.ids |= {said[name] for name in ("id", "name") if name in said}
        if tag == "a" and "href" in said:
            self.page.links.append(said["href"])
        self.page.fetched += [said[a] for t, a in FETCHED if t == tag and a in said]
        if tag == "img" and "alt" not in said:
            self.page.undescribed.append(said.get("src", "?"))
        if said.get("http-equiv") == "Content-Security-Policy":
            rules = map(str.split, said.get("content", "").split(";"))
            self.page.policy = {rule[0]: rule[1:] for rule in rules if rule}
        self.page.attributes += [
            name for name in said if name == "style" or name.startswith("on")
        ]
        if "src" not in said and said.get("type") != "application/json":
            self.within = {"script": "script-src", "style": "style-src"}.get(tag, "")

    def handle_endtag(self, tag: str) -> None:
        """The end of an element."""
        if self.within and tag in ("script", "style"):
            self.page.inline.append((self.within, "".join(self.content)))
            self.within, self.content = "", []

    def handle_data(self, data: str) -> None:
        """A piece of what stands in an element."""
        if self.within:
            self.content.append(data)


def read(path: Path) -> Page:
    """What a page names."""
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def problems(folder: Path) -> Iterator[str]:
    """A line for each thing that is wrong with the site in a folder."""
    pages = {path: read(path) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        where = path.relative_to(folder).as_posix()
        if where.startswith("_static/"):
            continue
        for target in page.fetched:
            if is_elsewhere(target) or not reached(path, target, folder, pages):
                yield f"{where} fetches {target}"
        for target in page.links:
            if not is_elsewhere(target) and not reached(path, target, folder, pages):
                yield f"{where} links to {target}"
        for picture in page.undescribed:
            yield f"{where} does not describe {picture}"
        yield from (f"{where} {problem}" for problem in refused(page))


def refused(page: Page) -> Iterator[str]:
    """What the policy of a page lacks, or lets pass, or would stop in this page."""
    if page.policy.get("default-src") != ["'none'"]:
        yield "has no Content-Security-Policy that begins with nothing"
        return
    for name, allowed in page.policy.items():
        if found := {"'unsafe-inline'", "'unsafe-eval'"} & set(allowed):
            yield f"allows {name} {' '.join(sorted(found))}"
    for name, content in page.inline:
        if digest(content) not in page.policy.get(name, ()):
            yield f"has what its {name} refuses: {content.strip()[:60]!r}"
    for name in page.attributes:
        yield f"has an attribute that its policy refuses: {name}"


def is_elsewhere(target: str) -> bool:
    """Whether an address is on another site."""
    parts = urlsplit(target)
    return bool(parts.netloc) or parts.scheme in ("http", "https", "mailto")


def reached(path: Path, target: str, folder: Path, pages: dict[Path, Page]) -> bool:
    """Whether what a page names is in the site, and the place in it too."""
    parts = urlsplit(target)
    if parts.scheme:  # data: lies in the page itself
        return parts.scheme == "data"
    found = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if found.is_dir():
        found /= "index.html"
    if not found.is_file() or not found.is_relative_to(folder.resolve()):
        return False
    place = unquote(parts.fragment)
    if "=" in place:  # a setting, not a place
        return True
    return not place or found not in pages or place in pages[found].ids


def check(folder: Path) -> None:
    """Raise where something is wrong with the site in a folder.

    Raises:
        ValueError: lists what is wrong.
    """
    found = list(problems(folder.resolve()))
    if found:
        raise ValueError("\n".join(["The site is not sound:", *found]))
