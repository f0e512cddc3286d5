"""A setting is a link: what the explorer of a text network is set to, in the address of
the page on which it writes."""

from dataclasses import fields

from utils.arguments import whole
from utils.explorer.links import link_of, pairs_in
from utils.explorer.text_memory import TextControls

KEYS = tuple(field.name for field in fields(TextControls))


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
    example = link_of(TextControls(0.9, prompt="Emma"))
    found = dict(pairs_in(link, example))
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
            f"link={link!r}: sparsity and draw must be numbers; it ends like {example}."
        ) from None
    whole("draw", draw, 0, 2**32 - 1)
    words = {key: found[key] for key in ("score", "scope", "prompt") if key in found}
    return TextControls(sparsity, draw=draw, **words)
