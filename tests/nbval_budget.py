"""A pytest plugin for the run of the notebooks: fail when one takes far longer than a
lab may.

A guard against mistakes, not a stopwatch: a lab may take 90 s and a cell 30 s on two
idle cores; here four times that. It is laid beside the notebooks as conftest.py
(tools/course.py), or loaded with `-p`.
"""

from collections import defaultdict

LAB_LIMIT, CELL_LIMIT = 4 * 90, 4 * 30  # seconds

_seconds: dict[str, dict[str, float]] = defaultdict(dict)  # by notebook, by cell


def over_budget(
    seconds: dict[str, dict[str, float]], lab: float, cell: float
) -> list[str]:
    """A line for each notebook and each cell that took longer than `lab` and `cell`
    seconds."""
    lines = []
    for notebook, cells in seconds.items():
        total = sum(cells.values())
        if total > lab:
            lines.append(
                f"{notebook} took {total:.0f} s; a whole lab may take {lab:g} s here."
            )
        lines += [
            f"{notebook}, {name} took {s:.0f} s; a cell may take {cell:g} s."
            for name, s in cells.items()
            if s > cell
        ]
    return lines


def pytest_runtest_logreport(report) -> None:
    """Note how long a cell ran; the start of the kernel is not counted."""
    notebook, _, cell = report.nodeid.partition("::")
    if report.when == "call" and notebook.endswith(".ipynb"):
        _seconds[notebook][cell] = report.duration


def pytest_sessionfinish(session) -> None:
    """Fail a run that was too slow, also when every output was right."""
    if over_budget(_seconds, LAB_LIMIT, CELL_LIMIT) and session.exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter) -> None:
    """Say which notebooks were too slow, and how long each took."""
    for line in over_budget(_seconds, LAB_LIMIT, CELL_LIMIT):
        terminalreporter.write_line(f"TOO SLOW: {line}", red=True)
    for notebook, cells in _seconds.items():
        terminalreporter.write_line(
            f"{notebook}: {sum(cells.values()):.0f} s, {len(cells)} code cells"
        )
