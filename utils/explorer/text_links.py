"""A setting is a link: what the explorer of a text network is set to, in the address of
the page on which it writes."""

import contextlib
from dataclasses import fields
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from utils.arguments import whole
from utils.explorer.text_memory import TextControls

KEYS = tuple(field.name for field in fields(TextControls))


def link_of(controls: TextControls) -> str:
    """The end of the page's address that opens these controls there.

    >>> link_of(TextControls(0.9, "taylor", prompt="Emma"))
    '#sparsity=0.9&score=taylor&scope=global&prompt=Emma&draw=0'
    """
    pairs = [(key, f"{getattr(controls, key)}") for key in KEYS]
    return f"#{urlencode(pairs, quote_via=quote)}"


def read_link(link: str) -> TextControls:
    """What a link says; what it leaves out is as in a panel that was just made.

    Args:
        link: the page's whole address, or what stands in it behind `#`.
    Raises:
        ValueError: something that is no such link; or one in which parts of the network
            are switched off, for which the panel has no controls. The message says what
            would be right.

    >>> read_link("https://example.org/write/#sparsity=0.9&scope=unit&draw=2")
    TextControls(sparsity=0.9, score='magnitude', scope='unit', \
prompt='"My dear Mr. Bennet," said his lady to him one day,', draw=2)
    """
    found = dict(_pairs(link))
    if unknown := found.keys() - KEYS:
        why = ", for which the panel has no controls" if "off" in unknown else ""
        raise ValueError(
            f"link={link!r} says {', '.join(sorted(unknown))}{why}. Known:"
            f" {', '.join(KEYS)}."
        )
    try:
        sparsity = float(found.get("sparsity", 0))
        draw = int(found.get("draw", 0))
    except ValueError:
        raise ValueError(
            f"link={link!r}: sparsity and draw must be numbers; {_example()}."
        ) from None
    whole("draw", draw, 0, 2**32 - 1)
    words = {key: found[key] for key in ("score", "scope", "prompt") if key in found}
    return TextControls(sparsity, draw=draw, **words)


def _pairs(link: str) -> list[tuple[str, str]]:
    if not isinstance(link, str):
        raise ValueError(f"link={link!r} must be text: {_example()}.")
    parts, pairs = urlsplit(link.strip()), []
    with contextlib.suppress(ValueError):
        pairs = parse_qsl(
            parts.fragment or parts.path, keep_blank_values=True, strict_parsing=True
        )
    if not pairs:
        raise ValueError(f"link={link!r} holds no setting; {_example()}.")
    return pairs


def _example() -> str:
    return f"it ends like {link_of(TextControls(0.9, prompt='Emma'))}"
