"""The teacher's page of a class of thirty in a browser: nothing is in a reader's way,
on a phone, on a wall and on paper."""

import pathlib

import pytest
import thirty
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tools.classroom import page

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> pathlib.Path:
    """The page of a class of thirty, as its command writes it."""
    folder = tmp_path_factory.mktemp("class")
    thirty.make(folder)
    page.build(page.read_arguments(["--folder", str(folder)]))
    return folder / "class.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_in_a_readers_way(chromium: Browser, written, width, scheme):
    """No finding of axe-core, all folds open; nothing wider than the screen; nothing
    asked of anybody. The page allows no script, so axe-core comes in around that."""
    context = chromium.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, bypass_csp=True
    )
    shown = context.new_page()
    asked = []
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(written.as_uri())
    shown.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = Axe().run(shown).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
    assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert [url for url in asked if not url.startswith("data:")] == [written.as_uri()]
    context.close()


def test_no_script_runs_and_paper_shows_what_is_folded(chromium: Browser, written):
    content = written.read_text(encoding="utf-8")
    evil = written.with_name("evil.html")
    evil.write_text(
        content.replace("<main>", "<main><script>document.title='x'</script>")
    )
    context = chromium.new_context(viewport={"width": 1280, "height": 844})
    shown = context.new_page()
    shown.goto(evil.as_uri())
    assert shown.title() == "The class"
    shown.goto(written.as_uri())
    heights = "[...document.querySelectorAll('details table')].map(t => t.clientHeight)"
    folded = "t => t.checkVisibility({contentVisibilityAuto: true})"
    seen = f"[...document.querySelectorAll('details table')].filter({folded}).length"
    assert shown.evaluate(seen) == 0
    shown.emulate_media(media="print")
    assert all(height > 0 for height in shown.evaluate(heights))
    assert shown.evaluate(seen) == shown.locator("details").count() > 5
    # the picture fits on a page of A4 across
    assert (
        shown.evaluate("document.querySelector('img').clientHeight") < 186 * 96 / 25.4
    )
    context.close()
