"""The page on which a pruned network writes, in a real browser: that it is right, that
it can be used, and what it says where it cannot run."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import written
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tools.web import write
from tools.web.served import served
from utils.explorer.links import link_of
from utils.explorer.text_links import read_link
from utils.explorer.text_memory import TextControls

pytestmark = pytest.mark.timeout(900)
PATIENCE = 300_000  # ms: a busy machine

# the page's own modules, without its thread
MEMORY = """async () => {
    const { Memory } = await import("./memory.js");
    const { writing, windowLoss } = await import("./writing.js");
    const { digest } = await import("./load.js");
    const end = steps => {
        for (;;) { const step = steps.next(); if (step.done) return step.value; }
    };
    const memory = await Memory.load("./");
    const { facts } = memory;
    const ready = async given => {
        const controls = {off: [], ...given};
        await memory.prepare(controls);
        memory.applied = "";
        return controls;
    };
    window.course = {
        memory,
        mask: async given => digest(memory.mask(await ready(given)).slice()),
        write: async given => {
            const controls = await ready(given);
            memory.apply(controls);
            const room = facts.network.context + 1 - facts.count;
            const { pieces } = memory.words.read(controls.prompt, room);
            const steps = writing(memory.pruned, pieces, memory.noise(controls.draw));
            return [...steps].filter(piece => piece !== undefined);
        },
        losses: async (given, count) => {
            memory.apply(await ready(given));
            const windows = memory.windows.slice(0, count);
            return windows.map(each => end(windowLoss(memory.pruned, each)));
        },
    };
}"""


EACH = """async all => {
    const found = [];
    for (const each of all) found.push(await course.asked(each));
    return found;
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write.write(folder / "write")
    return folder


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    with served(site) as found:
        yield f"{found}write/"


@pytest.fixture(scope="module")
def course(chromium: Browser, address) -> Iterator[Page]:
    """A page in which the modules can be asked."""
    page = chromium.new_page()
    page.goto(f"{address}facts.json")
    page.evaluate(MEMORY.replace('"./', f'"{address}'))
    yield page
    page.close()


@pytest.fixture
def opened(chromium: Browser, address) -> Iterator[Callable[..., Page]]:
    contexts = []

    def start(link: str = "", width: int = 1280, script: str = "", **options) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        if script:
            page.add_init_script(script)
        page.requests = []  # pyright: ignore[reportAttributeAccessIssue]
        page.errors = []  # pyright: ignore[reportAttributeAccessIssue]
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on(
            "console",
            lambda said: page.errors.append(said.text) if said.type == "error" else 0,
        )
        page.goto(link if link.startswith("http") else address + link)
        return page

    yield start
    for context in contexts:
        context.close()


def settled(page: Page, state: str = "finished") -> dict[str, str]:
    """Wait until it has written (or also evaluated and timed); what it shows."""
    wanted = "" if state == "written" else '[data-state="finished"]'
    also = '#live[data-state="written"], ' if state == "written" else ""
    page.wait_for_selector(f'{also}#live[data-state="finished"]{wanted}')
    names = ("dense", "pruned", "setting", "said", "numbers", "trouble")
    return {name: page.locator(f"#{name}").inner_text() for name in names}


# -------------------------------------------------------------------------- it is right


def test_masks_equal_those_of_utils_bit_for_bit(course):
    right = written.mask_digests()
    found = course.evaluate(
        EACH.replace("asked", "mask"),
        [controls for controls, _ in right],
    )
    wrong = [c for (c, digest), own in zip(right, found, strict=True) if digest != own]
    assert wrong == []
    assert len(set(found)) > 100  # so many settings differ


def test_it_writes_what_the_writer_writes(course):
    right = written.written()
    found = course.evaluate(
        EACH.replace("asked", "write"),
        [{**controls, "off": list(off)} for controls, off, _ in right],
    )
    wrong = [c for (*c, w), own in zip(right, found, strict=True) if w != own]
    assert wrong == []


def test_losses_equal_those_of_torch(course):
    for controls, off, right in written.window_losses():
        given = {**controls, "off": list(off)}
        found = course.evaluate(
            "([given, count]) => course.losses(given, count)", [given, len(right)]
        )
        assert found == pytest.approx(right, abs=1e-3)


# what is changed, where it shows; each change gives the way back
MUTANTS = {
    "a weight, by one step of float16": (
        """(memory, given) => {
            // the smallest that is kept
            const mask = memory.mask(given), all = memory.layers.flatMap(layer =>
                Array.from(memory.weights[layer.name], (w, i) =>
                    [mask[layer.start + i] ? Math.abs(w) : Infinity, layer.name, i]));
            const [, name, place] = all.reduce((a, b) => b[0] < a[0] ? b : a);
            const weight = memory.weights[name], before = weight[place];
            weight[place] *= 1 - 2 ** -11;
            return () => { weight[place] = before; };
        }""",
        "mask",
    ),
    "a gain": (
        """memory => {
            const gain = memory.weights["norm.weight"], before = gain[7];
            gain[7] *= 1.5;
            return () => { gain[7] = before; };
        }""",
        "write",
    ),
    "rounding: one more is kept": (
        """memory => {
            const [group] = memory.facts.scopes.global.groups[5];
            group.kept += 1;
            return () => { group.kept -= 1; };
        }""",
        "mask",
    ),
    "of equal ones the last is kept": (
        """memory => {
            const { keep } = memory.kernels.do, { buffer } = memory.kernels.floats;
            memory.kernels.do.keep = (keys, count, kept, mask, ...rest) => {
                keep(keys, count, kept - 1, mask, ...rest);
                const kept_ = new Uint8Array(buffer, mask, count);
                const of = new Uint32Array(buffer, keys, count);
                let best = -1;
                for (let i = 0; i < count; i++)
                    if (!kept_[i] && (best < 0 || of[i] >= of[best])) best = i;
                kept_[best] = 1;
            };
            return () => { memory.kernels.do.keep = keep; };
        }""",
        "mask",
    ),
    "noise": (
        """memory => {
            memory.facts.temperature *= 1.01;
            return () => { memory.facts.temperature /= 1.01; };
        }""",
        "write",
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_what_differs_is_seen(course, mutant):
    change, where = MUTANTS[mutant]
    given = asdict(TextControls(0.5))

    def asked() -> Any:
        course.evaluate(
            "() => { course.memory.score = ''; course.memory.drawn = null; }"
        )
        return course.evaluate(f"given => course.{where}(given)", given)

    before = asked()
    course.evaluate(
        f"given => {{ window.undo = ({change})(course.memory, given); }}", given
    )
    after = asked()
    course.evaluate("undo()")
    assert after != before and asked() == before


def test_prompts_are_read_as_in_the_notebook(course):
    memory = write.shipped().memory
    for given in (
        'Mr. Darcy was unsociable; 1817 "Oh!"--and\n\nso',
        "Emma was ",
        "",
        "a\r\nb  ",
        "caf\u00e9 <b> \U0001f600",
        "x " * 400,
    ):
        pieces, prompt, remark = memory.prompt(given)
        found = course.evaluate("given => course.memory.words.read(given, 187)", given)
        right = {"prompt": prompt, "pieces": pieces.tolist(), "remark": remark}
        assert found == right


# ----------------------------------------------------------------------- it can be used


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (390, "dark")])
def test_by_keyboard(opened, address, width, scheme):
    page = opened("#sparsity=0", width=width, color_scheme=scheme)
    first = settled(page)
    assert first["dense"] == first["pruned"] and page.locator("mark").count() == 0
    assert "All 70 pieces are the same." in first["said"]
    page.get_by_role("slider", name="Sparsity").focus()
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    at = settled(page, "written")
    assert at["setting"].startswith("Pruned at 70%") and at["dense"] == first["dense"]
    assert page.locator("#pruned mark").count() and page.locator(".bar").count() == 1
    line = "e => getComputedStyle(e).textDecorationLine"
    assert page.locator("#pruned mark").first.evaluate(line) == "underline"
    settled(page)
    # the toggles: one tab stop, arrow keys, space
    page.get_by_role("button", name="block 0, whole").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Space"):
        page.keyboard.press(key)
    head = page.get_by_role("button", name="head 1 of block 1")
    assert head.get_attribute("aria-pressed") == "false"
    assert page.get_by_role("button", name="all heads of block 1").get_attribute(
        "aria-pressed"
    ) == ("mixed")
    now = settled(page)
    assert "without 1 part" in now["setting"] and now["pruned"] != at["pruned"]
    assert page.locator("#parts button[tabindex='0']").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert Axe().run(page).response["violations"] == []
    assert all(url.startswith(address) for url in page.requests)
    assert page.errors == []
    page.screenshot(path=f"artefacts/write_{width}.png", full_page=True)


def test_a_setting_is_a_link(opened):
    page = opened("#sparsity=0.8&score=activation&scope=unit&draw=3&off=2.attention")
    settled(page, "written")
    page.get_by_role("textbox", name="Prompt").fill("Emma was caf\u00e9")
    page.get_by_role("button", name="MLP of block 5").click()
    before = settled(page, "written")
    assert "Left out of the prompt" in page.locator("#said").inner_text()
    page.wait_for_function("() => location.hash.includes('5.mlp')")
    link = page.url
    page.context.close()
    again = opened(link)
    after = settled(again, "written")
    for name in ("setting", "dense", "pruned"):
        assert after[name] == before[name]
    assert again.get_by_role("combobox", name="Scope").input_value() == "unit"
    # the address says the same in the notebook
    again.get_by_role("button", name="All parts back").click()
    again.wait_for_function("() => !location.hash.includes('off')")
    wanted = TextControls(0.8, "activation", "unit", "Emma was caf\u00e9", 3)
    assert read_link(again.url) == wanted
    again.goto(
        again.url.split("#")[0] + link_of(replace(wanted, prompt="She & \u00a3"))
    )
    settled(again, "written")
    prompt = again.get_by_role("textbox", name="Prompt")
    assert prompt.input_value() == "She & \u00a3"
    # one of those that the page invites to
    again.get_by_role("link", name="no block 3").click()
    again.wait_for_function("() => location.hash.includes('3.mlp')")
    assert settled(again, "written")["setting"] == "Not pruned, without 2 parts"
    again.get_by_role("link", name="80% by weight and input (Wanda)").click()
    again.wait_for_function("() => location.hash.includes('unit')")
    wanted = "Pruned at 80% (activation (Wanda), unit)"
    assert settled(again, "written")["setting"] == wanted
    # a score that the scope is not offered for
    again.get_by_role("combobox", name="Score").select_option("taylor")
    assert "(taylor (w*g), global)" in settled(again, "written")["setting"]
    again.get_by_role("combobox", name="Score").select_option("magnitude")
    again.get_by_role("combobox", name="Scope").select_option("n of 4")
    assert "Pruned at 75% (magnitude, n of 4)" in settled(again, "written")["setting"]


# ------------------------------------------------------------------ where it cannot run


def says(page: Page, words: str) -> None:
    """The sentence, and the texts that Python wrote."""
    page.wait_for_function(
        "words => document.getElementById('trouble').textContent.includes(words)",
        arg=words,
    )
    still = page.locator("#still")
    assert still.is_visible() and not page.locator("#live").is_visible()
    assert still.locator("blockquote").count() == len(write.STILL)
    assert still.locator("img").evaluate("image => image.naturalWidth") > 0


def test_without_a_script(opened):
    page = opened(java_script_enabled=False)
    assert "scripts are switched off" in page.locator("noscript").inner_text()
    assert page.locator("#still blockquote").count() == len(write.STILL)
    assert (
        page.locator("#still").is_visible() and not page.locator("#live").is_visible()
    )


@pytest.mark.parametrize(
    "script, words",
    [
        ("delete globalThis.WebAssembly", "This browser has no WebAssembly"),
        ("delete globalThis.Worker", "no thread of its own"),
        ("globalThis.Worker = class { constructor() { throw 1; } }", "start a thread"),
    ],
)
def test_without_what_it_needs(opened, script, words):
    says(opened(script=script), words)


def without_simd(folder: Path) -> None:
    path = folder / "worker.js"
    path.write_text(f"WebAssembly.validate = () => false;\n{path.read_text()}")


def cut_short(folder: Path) -> None:
    path = folder / "weights.bin"
    path.write_bytes(path.read_bytes()[:-1000])


def one_bit(folder: Path) -> None:
    path = folder / "weights.bin"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)


def no_worker(folder: Path) -> None:
    (folder / "worker.js").unlink()


@pytest.mark.parametrize(
    "damage, words",
    [
        (without_simd, "This browser's WebAssembly has no SIMD, so the network cannot"),
        (cut_short, "weights.bin has 5803928 bytes; it must have 5804928"),
        (one_bit, "weights.bin is damaged"),
        (no_worker, "thread could not be started"),
    ],
)
def test_damage_is_said(opened, site, tmp_path, damage, words):
    folder = tmp_path / "damaged"
    shutil.copytree(site, folder)
    damage(folder / "write")
    with served(folder) as found:
        says(opened(f"{found}write/"), words)
