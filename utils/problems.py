"""What went wrong where no cell could fail: in the callbacks of panels. `lab.finish`
asks for it."""

_problems: list[str] = []


def record_problem(message: str) -> None:
    """Note a problem that no cell could raise; `lab.finish` raises it."""
    _problems.append(message)


def taken() -> list[str]:
    """The problems noted so far, which are forgotten by that."""
    found = list(_problems)
    _problems.clear()
    return found
