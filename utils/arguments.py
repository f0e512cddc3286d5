"""Checks of arguments: each returns the value, or says what would be right."""

from collections.abc import Iterable
from numbers import Real


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
        limits = f", {low} or more" if high is None else f" from {low} to {high}"
        raise ValueError(f"{name}={value!r} must be a whole number{limits}.")
    return value


def real(value: object) -> bool:
    """Whether it is a real number; a boolean is none.

    >>> real(1), real(0.5), real(True), real("1")
    (True, True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)


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


def fraction(name: str, value: object, *, end: bool = True, example: str = "") -> float:
    """`value` if it is a number from 0 to 1, without 1 itself where `end` is False.

    Raises:
        ValueError: something else; NaN and booleans are no fractions.

    >>> fraction("weight", 0.9)
    0.9
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not 0 <= float(value) <= 1
        or (value == 1 and not end)
    ):
        limits = f"0 <= {name} {'<=' if end else '<'} 1"
        raise ValueError(
            f"{name}={value!r} must be a fraction, {limits}"
            f"{example and f' ({example})'}."
        )
    return float(value)
