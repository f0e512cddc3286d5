"""A setting is a link: what the explorer is set to, in the start page's address."""

import contextlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from utils.explorer.state import Controls

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

KEYS = tuple(field.name for field in fields(Controls))
# what the page's address says beside: which picture is picked
PAGE_KEYS = ("picture",)


def link_of(controls: "DataclassInstance") -> str:
    """The end of a page's address that opens these controls there, those of either
    explorer.

    >>> link_of(Controls(0.9, score="taylor"))
    '#sparsity=0.9&score=taylor&scope=global&kind=weights&network=lenet300'
    """
    keys = [field.name for field in fields(controls)]
    pairs = [(key, f"{getattr(controls, key)}") for key in keys]
    return f"#{urlencode(pairs, quote_via=quote)}"


def read_link(link: str) -> dict[str, Any]:
    """What a link says, by the names of `Controls`; what it leaves out is not there.

    Args:
        link: the page's whole address, or what stands in it behind `#` (or `?`).
    Raises:
        ValueError: something that is no such link: a key that the explorer does not
            know or that stands twice, a sparsity that is no number. The message says
            what would be right.

    >>> read_link("https://example.org/#sparsity=0.9&kind=channels&score=l1")
    {'sparsity': 0.9, 'kind': 'channels', 'score': 'l1'}
    """
    pairs = pairs_in(link, link_of(Controls(0.9)))
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key not in (*KEYS, *PAGE_KEYS):
            raise ValueError(
                f"link={link!r} says {key!r}, which the explorer does not know. Known:"
                f" {', '.join(KEYS)}."
            )
        if key in found:
            raise ValueError(f"link={link!r} says {key} twice.")
        found[key] = value
    if "sparsity" in found:
        found["sparsity"] = _fraction(link, found["sparsity"])
    return {key: value for key, value in found.items() if key in KEYS}


def pairs_in(link: str, example: str) -> list[tuple[str, str]]:
    """Key and value of all that the end of a page's address says.

    Raises:
        ValueError: no text, or one that holds no pair; shows the `example`.
    """
    if not isinstance(link, str):
        raise ValueError(f"link={link!r} must be text: it ends like {example}.")
    pairs = []
    with contextlib.suppress(ValueError):
        parts = urlsplit(link.strip())
        setting = parts.fragment or parts.query or parts.path
        pairs = parse_qsl(setting, keep_blank_values=True, strict_parsing=True)
    if not pairs:
        raise ValueError(f"link={link!r} holds no setting; it ends like {example}.")
    return pairs


def _fraction(link: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(
            f"link={link!r}: sparsity={value!r} is no number; 0.9 means nine of ten"
            " gone."
        ) from None
