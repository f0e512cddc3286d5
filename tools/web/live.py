"""Where a notebook shows a panel whose network the site can prune in the browser, the
page leads to it, at the same setting; a script shows it in the place of the picture."""

import html
import json
import re
from collections.abc import Iterator

from tools.notebooks import NOTEBOOKS, labs
from tools.web.start import NETWORK, OFFERED
from utils.explorer.kinds import KINDS
from utils.explorer.links import link_of
from utils.explorer.state import Controls

SHOWN = re.compile(
    r"Pruning explorer\. (?P<network>\w+), (?P<kind>.+), (?P<score>\w+) score,"
    r" (?P<scope>\w+), sparsity (?P<percent>[\d.]+)%"
)
TEXT = re.compile(
    r"Text explorer\. Pruned at (?P<percent>[\d.]+)% \((?P<score>magnitude), (?P<scope>"
    r"global|layerwise|unit)\)"
)


def address(words: str) -> str:
    """Where the panel that these words describe is live, from the root of the site;
    empty where it is not.

    >>> address("Pruning explorer. lenet300, single weights, magnitude score, global,"
    ...         " sparsity 90%: accuracy 60%")
    'index.html#sparsity=0.9&score=magnitude&scope=global&kind=weights&network=lenet300'
    """
    if found := TEXT.match(words):
        sparsity = float(found["percent"]) / 100
        setting = f"sparsity={sparsity:g}&score={found['score']}&scope={found['scope']}"
        return f"write/index.html#{setting}"
    found = SHOWN.match(words)
    kinds = {kind.label: name for name, kind in KINDS.items()}
    kind = kinds.get(found["kind"], "") if found else ""
    if not found or found["network"] != NETWORK:
        return ""
    if found["score"] not in OFFERED.get(kind, ()):
        return ""
    sparsity = float(found["percent"]) / 100
    controls = Controls(sparsity, found["score"], found["scope"], kind, NETWORK)
    return "index.html" + link_of(controls)


def element(place: str, up: str) -> str:
    """HTML that leads to a live panel. up: the way to the root of the site."""
    link = f'<a href="{up}{html.escape(place)}">Open it on a page of its own</a>'
    return (
        f'<p class="live">The panel in this picture can run in your browser. {link}</p>'
    )


def shown(lesson: str) -> Iterator[str]:
    """Where the panels of a lesson's notebooks are live."""
    for lab in labs(lesson):
        notebook = json.loads((NOTEBOOKS / f"{lab}.ipynb").read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            for output in cell.get("outputs", []):
                words = output.get("metadata", {}).get("image/png", {}).get("alt", "")
                if place := address(words):
                    yield place
