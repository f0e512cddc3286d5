"""Checks of arguments: each returns the value, or says what would be right."""

from collections.abc import Iterable


def whole(name: str, value: object, low: int = 0, high: int | None = None) -> int:
    """`value` if it is a whole number from `low` to `high` (without end if None).

    Raises:
        ValueError: something else; a boolean is no number.

    >>> whole("epochs", 3, low=1)
    3
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < low
        or (high is not None and value > high)
    ):
        limits = f"{low} or more" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name}={value!r} must be a whole number, {limits}.")
    return value


def one_of(name: str, value: str, known: Iterable[str]) -> str:
    """`value` if it is among the known words.

    Raises:
        ValueError: it is not; lists the known ones.

    >>> one_of("scope", "global", ("global", "layerwise"))
    'global'
    """
    known = list(known)
    if value not in known:
        raise ValueError(f"{name}={value!r} is not known. Known: {', '.join(known)}.")
    return value
