"""What went wrong where no cell could fail: in the callbacks of panels. `lab.finish`
asks for it."""

import functools
import html
from collections.abc import Callable

_problems: list[str] = []


def record_problem(message: str) -> None:
    """Note a problem that no cell could raise; `lab.finish` raises it."""
    _problems.append(message)


def taken() -> list[str]:
    """The problems noted so far, which are forgotten by that."""
    found = list(_problems)
    _problems.clear()
    return found


def guarded(work: Callable, show: Callable[[str], None]) -> Callable:
    """A callback of a panel, whose error is noted, and shown as HTML; it would be lost
    otherwise."""

    @functools.wraps(work)
    def guarded(*arguments: object) -> None:
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - shown in red, and kept
            summary = f"{type(error).__name__}: {error}"
            record_problem(summary)
            show(
                '<p role="alert" style="color:#B00020"><b>Error:</b>'
                f" {html.escape(summary)}</p>"
            )

    return guarded
