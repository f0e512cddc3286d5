"""JupyterLab and the explorer, started by the course's own launcher, in a real
Chromium."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools import browser
from tools.start import checking


@pytest.fixture(scope="session")
def chromium():
    """A Chromium, shared by all browser tests."""
    with browser.chromium() as found:
        if found is None:
            pytest.skip(f"none of {', '.join(checking.CHROMIUM)} is installed")
        yield found


@pytest.fixture
def open_lab(chromium, tmp_path, request) -> Iterator[Callable[..., browser.Lab]]:
    """Start the course on a folder of notebooks and open its first one: `lab =
    open_lab(ROOT / "notebooks")`."""
    name = request.node.name.removeprefix("test_")
    with contextlib.ExitStack() as stack:

        def start(notebooks: Path, **options: int) -> browser.Lab:
            opened = browser.opened_lab(
                chromium, notebooks, tmp_path / "workspace", name, **options
            )
            return stack.enter_context(opened)

        yield start


@pytest.fixture
def open_app(chromium, tmp_path, request) -> Iterator[Callable[..., browser.Panel]]:
    """Start the explorer by itself: `panel = open_app()`."""
    name = request.node.name.removeprefix("test_")
    with contextlib.ExitStack() as stack:

        def start(**options: int) -> browser.Panel:
            return stack.enter_context(
                browser.opened_app(chromium, tmp_path / "workspace", name, **options)
            )

        yield start
