"""The start page in a real browser: the same masks, files and answers as the package's,
for everything that it offers; by keyboard, on a phone, and where it cannot run."""

import base64
import contextlib
import itertools
import re
from hashlib import sha256

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from torch.nn import functional as F

from tools.web import start
from tools.web.served import served
from utils import measure
from utils.baselines import to_bytes
from utils.explorer import Controls
from utils.explorer.kinds import KINDS
from utils.explorer.links import link_of
from utils.explorer.state import State
from utils.explorer.subject import Subject
from utils.masks import masked, masks_from_scores
from utils.measure.sparse import csr_state
from utils.surgery import remove_units, unit_masks

pytestmark = pytest.mark.timeout(900)

# Everything about these settings, found by the page's own modules; masks and logits are
# bytes in base64.
FOUND = """async ({settings, broken}) => {
    const at = name => import(new URL(name, location.href).href);
    const [load, kernels, network, pruning, sizes] = await Promise.all(
        ["load.js", "kernels.js", "network.js", "pruning.js", "sizes.js"].map(at));
    const bytes = async (name) => load.fetched(name);
    const facts = JSON.parse(new TextDecoder().decode(await bytes("facts.json")));
    const planes = await load.load(facts.files.weights);
    if (broken === "a weight") planes[planes.length - 5000] ^= 64;
    const trained = new pruning.Trained(facts, planes);
    trained.setTaylor(await load.load(facts.files.taylor));
    const k = await kernels.Kernels.of(await bytes("kernels.wasm"));
    const greys = network.normalised(facts.mean, facts.std);
    const pictures = new network.Pictures(k, facts.pictures, 784, greys);
    const first = await load.load(facts.files.first);
    const early = first.length - facts.pictures;
    pictures.add(load.fromDifferences(first.subarray(0, early)));
    pictures.add(load.fromDifferences(await load.load(facts.files.rest)));
    const picture = Float32Array.from(first.subarray(0, 784), grey => greys[grey]);
    const shown = new network.Network(k, trained.layers);
    const hex = async content => Array.from(
        new Uint8Array(await crypto.subtle.digest("SHA-256", content)),
        byte => byte.toString(16).padStart(2, "0")).join("");
    const encode = array => {
        const { buffer, byteOffset, byteLength } = array;
        const content = new Uint8Array(buffer, byteOffset, byteLength);
        let text = "";
        for (let i = 0; i < content.length; i += 8192)
            text += String.fromCharCode(...content.subarray(i, i + 8192));
        return btoa(text);
    };
    const packed = mask => {
        const bits = new Uint8Array(Math.ceil(mask.length / 8));
        mask.forEach((kept, i) => { if (kept) bits[i >> 3] |= 128 >> (i & 7); });
        return encode(bits);
    };
    const results = [];
    for (const setting of settings) {
        const pruned = trained.prune(setting);
        shown.fill(pruned.layers);
        const layers = shown.copied();
        const logits = shown.logits(pictures, 0, facts.pictures);
        results.push({
            mask: packed(pruned.mask),
            units: pruned.units.map(each => Array.from(each)),
            logits: encode(logits),
            predicted: encode(shown.predict(pictures, 0, facts.pictures)),
            one: Array.from(shown.outputs(picture).at(-1)),
            file: await hex(sizes.saved(layers, facts.layers)),
            sparse: sizes.savedSparse(layers, facts.layers).length,
        });
    }
    return results;
}"""


@pytest.fixture(scope="module")
def subject():
    return Subject(start.NETWORK, pictures=start.PICTURES)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The page, as it is built; its address."""
    folder = tmp_path_factory.mktemp("site")
    start.write(folder)
    with served(folder) as address:
        yield address


@pytest.fixture
def opened(chromium, site):
    """Open the page: `page = opened("#sparsity=0.9")`."""
    with contextlib.ExitStack() as stack:

        def visit(link="", *, before=lambda _: None, width=1280, **options):
            size = {"width": width, "height": 900}
            context = chromium.new_context(viewport=size, **options)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(60_000)
            before(page)
            page.goto(site + link)
            return page

        yield visit


def rests(page):
    """Wait until all is known of the setting, the time last."""
    page.locator("#status").filter(has_text="Of the dense network's time").wait_for()


def everything():
    """All that the page offers."""
    for kind, scores in start.OFFERED.items():
        for score, scope in itertools.product(scores, KINDS[kind].scopes):
            yield kind, score, scope


def expected(subject, controls):
    """Weight masks, unit masks and network, from `utils`."""
    scores = start.scores_as_shipped(subject, controls.kind, controls.score)
    if controls.kind == "weights":
        masks = masks_from_scores(
            scores, controls.sparsity, scope=controls.scope, allow_empty=True
        )
        return masks, {}, masked(subject.dense, masks)
    arguments = (subject.dense, subject.example)
    chosen = {"scope": controls.scope, "least": 1}
    units = unit_masks(*arguments, scores, controls.sparsity, **chosen)
    rows = list(units.values())
    before = [torch.ones(784, dtype=torch.bool), *rows[:-1]]
    masks = {
        name: mask[:, None] & columns[None]
        for (name, mask), columns in zip(units.items(), before, strict=True)
    }
    return masks, units, remove_units(*arguments, units)


def differences(page, subject, settings, broken=""):
    """What the page finds else than `utils` does, setting by setting."""
    asked = [start._as_setting(controls) for controls in settings]
    found = page.evaluate(FOUND, {"settings": asked, "broken": broken})
    for controls, got in zip(settings, found, strict=True):
        masks, units, network = expected(subject, controls)
        if wrong := list(_wrong(subject, got, masks, units, network)):
            yield f"{link_of(controls)}: {', '.join(wrong)}"


def _wrong(subject, got, masks, units, network):
    bits = np.packbits(torch.cat([m.flatten() for m in masks.values()]).numpy())
    if bits.tobytes() != base64.b64decode(got["mask"]):
        yield "mask"
    if units and got["units"] != [u.int().tolist() for u in units.values()][:-1]:
        yield "units"
    with torch.no_grad():
        logits = network(subject.validation.images)
    near = np.frombuffer(base64.b64decode(got["logits"]), np.float32)
    if not np.allclose(near.reshape(logits.shape), logits.numpy(), rtol=0, atol=1e-4):
        yield "logits"
    if not np.allclose(got["one"], logits[0].numpy(), rtol=0, atol=1e-4):
        yield "logits of one picture"
    answers = np.frombuffer(base64.b64decode(got["predicted"]), np.uint8)
    chosen = logits[torch.arange(len(logits)), torch.from_numpy(answers.astype(int))]
    if (logits.max(1).values - chosen > 1e-4).any():
        yield "answers"
    if got["file"] != _sha256(to_bytes(network)):
        yield "file"
    if got["sparse"] != measure.file_bytes(csr_state(network)):
        yield "bytes as sparse rows"


def _sha256(content):
    return sha256(content).hexdigest()


@pytest.mark.parametrize(("kind", "score", "scope"), list(everything()))
def test_all_that_is_offered_is_what_the_package_does(
    opened, subject, kind, score, scope
):
    page = opened()
    stops = KINDS[kind].stops(subject)
    settings = [Controls(stop, score, scope, kind) for stop in stops]
    assert list(differences(page, subject, settings)) == []


@pytest.mark.parametrize(
    ("module", "right", "wrong", "noticed"),
    [
        ("masks.js", "equal-- > 0", "equal-- > 1", "taylor"),
        ("masks.js", "bits[i] > least", "bits[i] >= least", "taylor"),
        ("masks.js", "round(sparsity * ", "round(-0.6 + sparsity * ", "magnitude"),
        ("random.js", "0x9d2c5680", "0x9d2c5600", "random"),
        ("network.js", "f(f(f(grey / 255)", "f(f((grey / 256)", "magnitude"),
        ("network.js", "number < last ? 1 : 0", "1", "magnitude"),
        ("units.js", "score / mean", "score", "l1"),
        ("units.js", "each[b] - each[a]", "each[a] - each[b]", "l1"),
        ("", "", "a weight", "magnitude"),
    ],
)
def test_the_comparison_sees_a_rule_a_rounding_or_a_weight_that_differs(
    opened, subject, module, right, wrong, noticed
):
    def change(page):
        def answer(route):
            source = (start.SOURCE / module).read_text()
            assert right in source, "the page's code has changed; change this, too"
            kind = "text/javascript"
            route.fulfill(body=source.replace(right, wrong), content_type=kind)

        if module:
            page.context.route(re.compile(module), answer)

    page = opened(before=change)
    kind, scope = ("channels", "global") if noticed == "l1" else ("weights", "global")
    settings = [Controls(stop, noticed, scope, kind) for stop in (0.3, 0.95, 0.99)]
    broken = "" if module else wrong
    assert list(differences(page, subject, settings, broken))


# Five steps of fine-tuning by the page's own modules, and which pictures each was on.
TUNED = """async ({setting, steps}) => {
    const at = name => import(new URL(name, location.href).href);
    const [load, kernels, network, pruning, tuning, random] = await Promise.all(
        ["load.js", "kernels.js", "network.js", "pruning.js", "tuning.js",
         "random.js"].map(at));
    const facts = JSON.parse(
        new TextDecoder().decode(await load.fetched("facts.json")));
    const trained = new pruning.Trained(facts, await load.load(facts.files.weights));
    const content = await load.load(facts.files.training);
    const end = content.length - facts.training;
    const greys = network.normalised(facts.mean, facts.std);
    const images = Float32Array.from(
        load.fromDifferences(content.subarray(0, end)), grey => greys[grey]);
    const k = await kernels.Kernels.of(await load.fetched("kernels.wasm"));
    const shown = new network.Network(k, trained.layers);
    shown.fill(trained.prune(setting).layers);
    const hold = facts.kinds[setting.kind].zeros;
    const recipe = {...facts.tuning, steps};
    const run = new tuning.Tuning(
        shown, images, content.slice(end), recipe, 3, hold);
    const losses = [];
    for (let i = 0; i < steps; i++) losses.push(run.step());
    return {losses, order: Array.from(new random.Random(3).order(facts.training)),
            layers: shown.copied().map(({weight, bias}) =>
                [Array.from(weight), Array.from(bias)])};
}"""


@pytest.mark.parametrize(
    "controls",
    [Controls(0.95), Controls(0.85, "l1", "layerwise", "channels")],
    ids=["weights", "channels"],
)
def test_fine_tuning_is_that_of_pytorch(opened, subject, controls):
    page, steps, recipe = opened(), 5, start.RECIPE
    asked = {"setting": start._as_setting(controls), "steps": steps}
    found = page.evaluate(TUNED, asked)
    masks, units, network = expected(subject, controls)
    held = {} if units else masks
    train = start.training_pictures(subject)
    optimizer = torch.optim.SGD(
        network.parameters(), recipe["rate"], recipe["momentum"]
    )
    losses = []
    for step, places in enumerate(torch.tensor(found["order"]).split(64)[:steps]):
        optimizer.param_groups[0]["lr"] = recipe["rate"] * (1 - step / steps)
        loss = F.cross_entropy(network(train.images[places]), train.labels[places])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for name, mask in held.items():
                network.get_parameter(name).mul_(mask)
    np.testing.assert_allclose(found["losses"], losses, rtol=1e-4)
    layers = [each for each in network.children() if isinstance(each, torch.nn.Linear)]
    for layer, (weight, bias) in zip(layers, found["layers"], strict=True):
        wanted = layer.weight.detach().numpy()
        np.testing.assert_allclose(np.reshape(weight, wanted.shape), wanted, atol=2e-5)
        np.testing.assert_allclose(bias, layer.bias.detach().numpy(), atol=2e-5)
        if held:
            assert (np.reshape(weight, wanted.shape) == 0)[wanted == 0].all()


def test_by_keyboard_alone_and_a_setting_is_a_link(opened, subject, site):
    problems = []
    page = opened(
        before=lambda page: (
            page.on("console", lambda m: m.type == "error" and problems.append(m.text)),
            page.on("pageerror", lambda error: problems.append(str(error))),
        )
    )
    rests(page)
    slider = page.get_by_role("slider", name="Sparsity")
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.locator("#sparsity-said").filter(has_text="85%").wait_for()
    rests(page)
    # the numbers of a setting are the package's
    logits = expected(subject, Controls(0.85))[2](subject.validation.images)
    right = (logits.argmax(1) == subject.validation.labels).float().mean().item()
    state = State(Controls(0.85), bytes(start.PICTURES), right, 0.15, 0.15, 1.0, ())
    said = page.locator(".numbers .large").text_content()
    assert said == f"{right:.1%} ± {100 * state.margin:.1f}"
    # Tab, then arrows: the kind, the score
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    units = list(
        expected(subject, Controls(0.85, "l1", "global", "channels"))[1].values()
    )
    left = f"{units[0].sum()} + {units[1].sum()}"
    page.locator("#facts").filter(has_text=left).wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    rests(page)
    picked = page.get_by_role("radio", name=re.compile("Picture 0"))
    picked.focus()
    page.keyboard.press("ArrowRight")
    page.locator("#answer-words").filter(has_text="Trouser").wait_for()
    wanted = Controls(0.85, "taylor", "global", "channels")
    # the address follows when the visitor rests
    expect(page).to_have_url(f"{site}{link_of(wanted)}&picture=1")
    shown = page.locator("#facts").text_content()
    # drawn by keyboard
    page.locator("#pad").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    page.locator("#answer-words").filter(has_text="Your picture").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # clear
    # another visitor opens the same
    link = page.evaluate("location.hash")
    other = opened(link)
    rests(other)
    assert other.locator("#facts").text_content() == shown
    assert other.get_by_role("radio", name=re.compile("Picture 1:")).is_checked()
    assert page.evaluate("location.hash") == other.evaluate("location.hash")
    assert problems == []


def test_fine_tuning_brings_accuracy_back_and_can_be_cancelled(opened):
    page = opened("#sparsity=0.95")
    rests(page)
    before = _accuracy(page)
    page.get_by_role("button", name="Fine-tune").click()
    page.get_by_role("button", name="Cancel").click()
    page.locator("#status").filter(has_text="cancelled").wait_for()
    rests(page)
    assert _accuracy(page) == before
    page.get_by_role("button", name="Fine-tune").click()
    page.locator("#status").filter(has_text="Fine-tuned").wait_for()
    page.locator("#accuracy-words").filter(has_text="fine-tuned on 19,200").wait_for()
    assert _accuracy(page) > before + 25
    # the zeros are held
    assert "13,310 of 266,200" in page.locator("#facts").text_content()
    page.get_by_role("button", name="Undo").click()
    page.locator("#accuracy-words").filter(has_text="not retrained").wait_for()
    assert _accuracy(page) == before


BLOCKED = """() => { Worker.prototype.postMessage = () => {}; }"""


def test_a_stop_that_is_known_is_drawn_without_the_worker(opened):
    """What is kept is what the worker said, of the network as it was pruned."""
    page = opened("#sparsity=0.95")
    rests(page)
    slider, shown = page.get_by_role("slider", name="Sparsity"), {}
    for key in ("ArrowLeft", "ArrowRight"):
        slider.press(key)
        rests(page)
        shown[key] = page.locator("#facts").text_content()
    page.get_by_role("button", name="Fine-tune").click()
    page.locator("#accuracy-words").filter(has_text="fine-tuned on 19,200").wait_for()
    rests(page)
    tuned = _accuracy(page)
    page.evaluate(BLOCKED)
    slider.press("ArrowLeft")
    page.wait_for_timeout(300)
    assert page.locator("#facts").text_content() == shown["ArrowLeft"]
    slider.press("ArrowRight")  # fine-tuned: what is known without it is not shown
    page.wait_for_timeout(300)
    assert page.locator("#facts").text_content() == shown["ArrowLeft"]
    assert _accuracy(page) != tuned


def _accuracy(page):
    return float(page.locator("#accuracy").text_content().rstrip("%"))


def test_nothing_is_asked_of_another_host_and_little_of_this_one(opened, site):
    answers = []
    page = opened(
        before=lambda page: page.on("response", lambda answer: answers.append(answer))
    )
    rests(page)
    assert all(answer.url.startswith(site) for answer in answers)
    names = [answer.url.removeprefix(site) for answer in answers]
    assert not [name for name in names if name.startswith(("taylor", "training"))]
    # what page and worker both import comes twice from a host that lets nothing be kept
    assert sum(int(answer.headers["content-length"]) for answer in answers) < 1.5e6


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_axe_finds_nothing(opened, width, scheme):
    page = opened("#sparsity=0.9", width=width, color_scheme=scheme)
    rests(page)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    # no text of a chart runs out of it
    assert page.evaluate(CLIPPED) == []


CLIPPED = """() => [...document.querySelectorAll(".chart text")].filter(text => {
    const box = text.getBoundingClientRect();
    const picture = text.ownerSVGElement.getBoundingClientRect();
    return box.left < picture.left - 1 || box.right > picture.right + 1
        || box.top < picture.top - 1 || box.bottom > picture.bottom + 1;
}).map(text => text.textContent)"""


def _cut(page):
    """The last byte of the weights is lost on the way."""
    page.context.route(
        re.compile("weights-"),
        lambda route: route.fulfill(body=route.fetch().body()[:-1]),
    )


def _changed(page):
    """One bit is another."""

    def answer(route):
        content = bytearray(route.fetch().body())
        content[5000] ^= 1
        route.fulfill(body=bytes(content))

    page.context.route(re.compile("weights-"), answer)


def _missing(page):
    page.context.route(re.compile("first-"), lambda route: route.fulfill(status=404))


def _no_simd(page):
    page.add_init_script("WebAssembly.validate = () => false")


def _no_worker(page):
    page.add_init_script("delete window.Worker")


def _blocked_worker(page):
    page.context.route(re.compile("worker.js"), lambda route: route.abort())


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (_cut, "bytes, not"),
        (_changed, "is not the file that was published"),
        (_missing, "is missing (404)"),
        (_no_simd, "has no SIMD"),
        (_no_worker, "has no workers"),
        (_blocked_worker, "could not be started"),
    ],
)
def test_where_it_cannot_run_a_sentence_says_why_and_pictures_stand_in(
    opened, before, words
):
    page = opened(before=before)
    page.get_by_role("alert").filter(has_text=words).wait_for()
    _shows_stills(page)
    assert not page.locator("#exhibit").is_visible()


def test_a_damaged_file_that_came_later_is_told_and_the_rest_goes_on(opened):
    def lose(page):
        damaged = re.compile("taylor-|training-")
        page.context.route(damaged, lambda route: route.fulfill(body=b"of another"))

    page = opened("#sparsity=0.9", before=lose)
    rests(page)
    page.locator("label").filter(has_text="taylor").click()
    page.locator("#status").filter(has_text="10 bytes, not").wait_for()
    rests(page)
    expect(page).to_have_url(re.compile("score=magnitude"))
    assert "10 bytes, not" in page.locator("#status").text_content()
    page.get_by_role("button", name="Fine-tune").click()
    page.locator("#status").filter(has_text="training-").wait_for()
    assert page.get_by_role("button", name="Fine-tune").is_enabled()
    assert page.locator("#exhibit").is_visible()


def test_without_javascript_there_are_a_sentence_and_pictures(opened):
    page = opened(java_script_enabled=False)
    words = page.locator("noscript p").first
    assert words.is_visible() and "needs JavaScript" in words.text_content()
    assert page.locator("noscript img").count() == len(start.STILLS)
    assert page.get_by_role("link", name="Read the lessons").is_visible()


def _shows_stills(page):
    images = page.locator("#trouble img")
    assert images.count() == len(start.STILLS)
    for image in images.all():
        image.scroll_into_view_if_needed()
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)")
        assert "validation pictures" in image.get_attribute("alt")
