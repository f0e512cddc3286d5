"""The explorer in a real browser: by keyboard, by name, on a phone, in other eyes, as
an app, and how fast."""

import io
import re
import statistics
from pathlib import Path

import pytest
from PIL import Image

from tools import browser
from tools.bench.explorer import EXPLORER, opened
from tools.browser import ARTEFACTS, FIGURE, Panel
from utils.explorer import dark, drawing

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(900)

# The smallest text of the panel's pictures, in CSS pixels as it is painted.
SMALLEST_TEXT = """() => {
    const texts = [...document.querySelectorAll(".widget-html svg text")];
    return Math.min(...texts.map(text => {
        const picture = text.ownerSVGElement;
        const size = parseFloat(getComputedStyle(text).fontSize);
        const painted = picture.getBoundingClientRect().width;
        return size * painted / picture.viewBox.baseVal.width;
    }));
}"""
TOO_WIDE = "document.documentElement.scrollWidth - innerWidth"


def accuracy(panel: Panel) -> str:
    """The large number, and the setting it belongs to."""
    return re.search(
        r"[\d.]+%at [^(]+", panel.page.locator(FIGURE).first.text_content()
    )[0]


def shows(panel: Panel, words: str, seconds: float = 60) -> None:
    """Wait until the first picture says so."""
    panel.page.locator(FIGURE).first.filter(has_text=words).wait_for(
        timeout=1000 * seconds
    )


def says(panel: Panel, words: str, seconds: float = 120) -> str:
    """Wait until the sentence under the buttons has these words; returns it."""
    status = panel.page.locator("[role=status]").filter(has_text=re.compile(words))
    status.first.wait_for(timeout=1000 * seconds)
    return status.first.text_content()


def unnamed_controls(panel: Panel) -> list[str]:
    """Roles of the controls without an accessible name, as a screen reader is told."""
    session = panel.page.context.new_cdp_session(panel.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    controls = [
        node
        for node in nodes
        if node.get("role", {}).get("value") in ("slider", "combobox", "button")
    ]
    assert len(controls) >= 9, (
        "the panel has a slider, four selections and four buttons"
    )
    return [
        node["role"]["value"]
        for node in controls
        if not node.get("name", {}).get("value", "").strip()
    ]


def test_the_app_by_keyboard_alone(open_app):
    panel = open_app()
    page = panel.page
    assert (
        "from utils" not in page.content()
        and "import" not in page.locator("body").inner_text()
    )
    assert unnamed_controls(panel) == []
    says(panel, "time for one picture [0-9]+%")
    # Tab goes through the controls in the order of the page
    panel.choice("Network").focus()
    names = []
    for _ in range(6):
        names.append(
            page.evaluate(
                "document.activeElement.labels?.[0]?.textContent ||"
                " document.activeElement.textContent"
            )
        )
        page.keyboard.press("Tab")
    assert names[:5] == ["Network", "Kind", "Score", "Scope", "Sparsity"]
    # the slider
    first = accuracy(panel)
    panel.slider().focus()
    for _ in range(11):
        page.keyboard.press("ArrowRight")
    shows(panel, "at 95% (single weights)")
    assert accuracy(panel) != first
    # fine-tune, cancel, fine-tune to the end
    fine_tune, cancel = (
        page.get_by_role("button", name=name, exact=True)
        for name in ("Fine-tune", "Cancel")
    )
    fine_tune.focus()
    page.keyboard.press("Enter")
    says(panel, "s left")
    cancel.click(trial=True)  # waits until the page shows it enabled
    cancel.focus()
    page.keyboard.press("Enter")
    says(panel, "cancelled")
    before = accuracy(panel)
    fine_tune.focus()
    page.keyboard.press("Enter")
    says(panel, "s left")
    panel.slider().focus()
    page.keyboard.press("ArrowLeft")  # sliding in the middle
    shows(panel, "at 90% (single weights)")
    page.locator(f"{FIGURE} polygon.tuned").first.wait_for(timeout=120_000)
    page.keyboard.press("ArrowRight")
    shows(panel, "fine-tuned on 55,000")
    assert float(accuracy(panel).split("%")[0]) > float(before.split("%")[0]) + 20
    # a finding, and back to the start
    find = page.get_by_role("button", name="What did I find?")
    find.focus()
    page.keyboard.press("Enter")
    page.get_by_role("region", name="Table of findings").filter(
        has_text="55000"
    ).wait_for(timeout=60_000)
    page.get_by_role("button", name="Reset").focus()
    page.keyboard.press("Enter")
    shows(panel, "at 0% (single weights)")
    # another network and another kind
    panel.choice("Network").focus()
    page.keyboard.press("ArrowDown")
    shows(panel, "Accuracy of vgg")
    panel.choice("Kind").select_option(label="neurons or channels, removed")
    panel.slider().focus()
    page.keyboard.press("ArrowRight")
    shows(panel, "at 10% (neurons or channels, removed)")
    assert page.locator("[role=alert]").count() == 0
    panel.screenshot("vgg")


def test_without_the_token_the_app_is_closed(chromium, tmp_path):
    with browser.running("explorer", tmp_path) as address:
        page = chromium.new_page()
        page.goto(address.split("?")[0])
        assert page.locator(FIGURE).count() == 0
        assert "login" in page.url
        page.close()


def test_the_panel_is_readable_on_a_projector_and_on_a_phone(open_app):
    panel = open_app()
    says(panel, "time for one picture [0-9]+%")
    panel.slider().focus()
    for network in ("lenet300", "resnet"):
        panel.choice("Network").select_option(label=network)
        shows(panel, f"Accuracy of {network}")
        for width in (1024, 400):
            panel.page.set_viewport_size({"width": width, "height": 1000})
            panel.press(panel.slider(), "ArrowRight", times=3)
            assert panel.page.evaluate(TOO_WIDE) <= 0
            assert panel.page.evaluate(SMALLEST_TEXT) >= 9
            assert panel.clipped() == []
            panel.screenshot(f"{network}_{width}", whole=True)


def lightness(panel: Panel, selector: str, number: int = 0) -> float:
    """Mean lightness (0..100) of a mark as it is painted."""
    panel.page.locator(selector).nth(number).scroll_into_view_if_needed()
    picture = Image.open(
        io.BytesIO(panel.page.locator(selector).nth(number).screenshot())
    ).convert("L")
    return 100 * statistics.mean(picture.resize((8, 8)).tobytes()) / 255


def test_the_panel_is_readable_without_some_colours(open_app):
    panel = open_app()
    says(panel, "time for one picture [0-9]+%")
    panel.slider().focus()
    for _ in range(7):
        panel.page.keyboard.press("ArrowRight")
    says(panel, "sparsity 70%.*time for one picture [0-9]+%")
    session = panel.page.context.new_cdp_session(panel.page)
    for sight in ("achromatopsia", "deuteranopia", "protanopia", "tritanopia"):
        session.send("Emulation.setEmulatedVisionDeficiency", {"type": sight})
        panel.screenshot(sight)
        kept, track, counted = (
            lightness(panel, f".widget-html svg rect[fill='{fill}']")
            for fill in ("#009E73", "#E3E3E3", "#0072B2")
        )
        assert abs(kept - track) > 20, "what a layer keeps stands out from its track"
        assert counted < 65, "counted bars stand out from the white page"
    # the second cue: measured bars are hatched, and each bar says what it is
    assert (
        panel.page.locator(".widget-html svg rect[fill='url(#measured)']").count() == 2
    )
    words = panel.page.locator(".widget-html svg").nth(1).text_content()
    assert words.count("counted") == 4 and words.count("measured") == 2


COLOUR = "(each, name) => getComputedStyle(each)[name]"


def rgb(colour: str) -> str:
    """A colour as a browser says it."""
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"


@pytest.mark.parametrize("network", ["lenet300", "resnet"])
def test_the_panel_follows_the_dark_theme(chromium, tmp_path, monkeypatch, network):
    monkeypatch.setenv("JUPYTERLAB_SETTINGS_DIR", str(tmp_path / "settings"))
    source = EXPLORER.format(network=network, score="magnitude")
    with opened(chromium, tmp_path, source) as lab:
        lab.press(lab.slider(), "ArrowRight", times=5)
        lab.settle()
        card = lab.page.locator(".explorer-card").first
        assert card.evaluate(COLOUR, "backgroundColor") == rgb("#FFFFFF")
        lab.screenshot(f"light_{network}", whole=True)
        lab.page.evaluate(
            "jupyterapp.commands.execute('apputils:change-theme',"
            " {theme: 'JupyterLab Dark'})"
        )
        lab.page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
        assert card.evaluate(COLOUR, "backgroundColor") == rgb(dark.CARD)
        ink = card.locator("svg").first.evaluate(COLOUR, "fill")
        assert ink == rgb(dark.WORDS[drawing.INK])
        lab.press(lab.slider(), "ArrowRight", times=1)  # drawn anew
        assert card.evaluate(COLOUR, "backgroundColor") == rgb(dark.CARD)
        lab.settle()
        lab.screenshot(f"dark_{network}", whole=True)


def test_lab_03_and_a_tab_closed_and_a_kernel_restarted_in_the_middle(open_lab):
    lab = open_lab(ROOT / "notebooks", notebook="03_weight_pruning_further.ipynb")
    lab.run_all()
    assert lab.error_badge() == ""
    slider = lab.slider()
    figures = lab.press(slider, "ArrowLeft", times=4)
    assert len(set(figures)) == 4
    lab.page.get_by_role("button", name="Fine-tune").first.click()
    says(lab, "s left")
    lab.screenshot("tuning")
    lab.page.reload()  # the tab goes in the middle of a run; the kernel stays
    lab.page.wait_for_selector(".jp-Notebook .jp-Cell")
    lab.run_all()
    lab.press(lab.slider(), "ArrowRight", times=1)
    lab.page.get_by_role("button", name="Fine-tune").first.click()
    says(lab, "s left")
    lab.page.evaluate(
        "jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    lab.run_all()
    lab.press(lab.slider(), "ArrowRight", times=1)
    says(lab, "time for one picture [0-9]+%")
    assert lab.cell_errors() == []
    assert lab.error_badge() == ""


def test_key_presses_are_answered(open_lab, tmp_path):
    """The table of `make bench explorer`, small; only a response ten times too slow
    fails."""
    lab = open_lab(ROOT / "notebooks")
    lab.run_all()
    lab.settle()
    lab.start_stopwatch()
    slider = lab.slider()
    slider.focus()
    lab.page.keyboard.press("Home")
    lab.settle()
    lines = [
        "| network | median, ms | p95, ms | key held, settled after, ms |",
        "|---|---|---|---|",
    ]
    for network in ("lenet300", "resnet", "vgg"):
        lab.choice("Network").select_option(label=network)
        shows(lab, f"Accuracy of {network}")
        lab.settle()
        lab.page.evaluate("window.times = []")
        times = lab.time_presses(
            slider, ["ArrowRight"] * 12 + ["ArrowLeft"] * 12, [0.25] * 24
        )
        lab.settle()
        held = lab.hold(slider, "ArrowRight", presses=12)
        p95 = statistics.quantiles(times, n=20)[-1]
        lines.append(
            f"| {network} | {statistics.median(times):.0f} | {p95:.0f} | {held:.0f} |"
        )
        assert statistics.median(times) < 1000
        lab.press(slider, "Home", times=1)
        lab.settle()
    ARTEFACTS.mkdir(exist_ok=True)
    (ARTEFACTS / "latency.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    assert lab.error_badge() == ""
