"""The site in a browser, served as a static host would: guesses open the second part
of a page, quizzes explain, all is found by keyboard and by those who don't see, and
nothing is asked of another host."""

import json

import pytest

pytest.importorskip("myst_nb", reason="comes with the next `make test`")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tools import web
from tools.web import asked
from tools.web.served import served

LESSON = "03_weight_pruning"
PAGE = f"lessons/{LESSON}/index.html"
SHOWN = (
    "index.html",
    "course.html",
    PAGE,
    f"notebooks/{LESSON}.html",
    "glossary.html",
    "search.html?q=mask",
)
KINDS = (
    *SHOWN,
    f"lessons/{LESSON}/teaching.html",
    "lessons/index.html",
    "notebooks/13_transformers.html",
    "bibliography.html",
    "teachers.html",
    "write/index.html",
)
REFUSED = """addEventListener("securitypolicyviolation", refused => console.error(
    `policy: ${refused.violatedDirective} ${refused.blockedURI} ${refused.sample}`))"""
RESULT = "#what-you-will-have-found img"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The whole site, built once; its address."""
    folder = tmp_path_factory.mktemp("built") / "site"
    web.build(folder)
    with served(folder) as address:
        yield address


@pytest.fixture
def visit(chromium: Browser, site):
    """Open a page of the site: `page = visit("course.html", width=390)`. At the end
    nothing was asked of another host, no script failed, and no page held what its own
    policy refuses."""
    contexts, wrong = [], []

    def refuse(request) -> None:
        if not request.url.startswith((site, "data:", "blob:")):
            wrong.append(request.url)

    def start(
        path: str, *, width: int = 1280, before: str = "", tolerated=(), **options
    ) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 844}, **options
        )
        contexts.append(context)
        context.add_init_script(REFUSED)
        if before:
            context.add_init_script(before)
        page = context.new_page()
        page.on("request", refuse)
        page.on(
            "pageerror",
            lambda error: str(error) in tolerated or wrong.append(str(error)),
        )
        page.on(
            "console",
            lambda said: (
                said.type != "error"
                or said.text.startswith(tuple(tolerated))
                or wrong.append(said.text)
            ),
        )
        page.goto(site + path)
        return page

    start.wrong = wrong
    yield start
    for context in contexts:
        context.close()
    assert not wrong


# ------------------------------------------------------------------------ every reader


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_in_a_readers_way(visit, site, width, scheme):
    """No finding of axe-core, nothing wider than the screen."""
    page = visit(PAGE, width=width, color_scheme=scheme)
    for path in SHOWN:
        page.goto(site + path)
        page.wait_for_load_state("networkidle")
        found = Axe().run(page).response["violations"]
        assert [(path, each["id"], each["nodes"][0]["html"]) for each in found] == []
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_no_page_holds_what_its_policy_refuses(visit, site):
    """Of each kind, with all that the theme opens; `visit` listens."""
    page = visit("course.html")
    for path in KINDS:
        page.goto(site + path)
        page.wait_for_load_state("networkidle")
        assert page.locator("meta[http-equiv=Content-Security-Policy]").count() == 1
    page.goto(site + PAGE)
    mode = page.get_by_role("button", name="Color mode")
    for theme in ("Dark", "Light", "System Settings"):
        mode.click()
        page.get_by_role("button", name=theme).click()
        expected = "light" if theme == "System Settings" else theme.lower()
        expect(page.locator("html")).to_have_attribute("data-theme", expected)
    page.get_by_role("button", name="Search").first.click()
    page.locator("dialog input[name=q]").fill("mask")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=mask")
    expect(page.locator("#search-results .context").first).to_be_visible()


def test_a_script_that_somebody_wrote_into_a_page_is_not_run(visit):
    """The listener of `visit` hears of it, so it hears of others, too."""
    page = visit("course.html")
    page.evaluate("""() => {
        const said = [];
        addEventListener("securitypolicyviolation", event => {
            said.push(event.violatedDirective);
            window.said = said;
        });
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
    }""")
    page.wait_for_function("window.said")
    assert page.evaluate("[window.ran ?? false, window.said]") == [
        False,
        ["script-src-elem"],
    ]
    heard = visit.wrong
    assert any(each.startswith("policy: script-src") for each in heard)
    heard.clear()


def test_the_button_that_prints_does(visit):
    page = visit(PAGE, before="window.print = () => { window.printed = true; };")
    page.get_by_role("button", name="Download this page").click()
    page.get_by_role("button", name="PDF").click()
    assert page.evaluate("window.printed")


def test_without_scripts_all_is_open(visit):
    page = visit(PAGE, java_script_enabled=False)
    expect(page.locator(RESULT).first).to_be_visible()
    expect(page.locator(".gate")).to_be_hidden()
    kinds = [len(each.get("answers", "1")) for each in asked.questions(LESSON)]
    expect(page.locator(".quiz details")).to_have_count(sum(kinds))
    assert page.locator("form.guess, form.question").count() == 0


def test_on_paper_all_is_there(visit):
    page = visit(PAGE)
    expect(page.locator(".gate form").first).to_be_visible()
    page.emulate_media(media="print")
    expect(page.locator(RESULT).first).to_be_visible()
    expect(page.locator(".gate")).to_be_hidden()


def test_a_page_leads_to_its_notebook_and_back(visit):
    page = visit(PAGE)
    page.get_by_role("link", name=f"{LESSON}.ipynb").first.click()
    page.wait_for_url(f"**/notebooks/{LESSON}.html")
    page.locator("article").get_by_role("link", name="03 Weight pruning").first.click()
    page.wait_for_url(f"**/{PAGE}")


def test_search_finds_the_lesson_of_a_word(visit):
    page = visit("search.html?q=zombies")
    results = page.locator("#search-results a")
    expect(results.first).to_be_visible()
    assert LESSON in str(results.first.get_attribute("href"))


def test_a_panel_runs_in_the_place_of_its_picture(visit):
    page = visit("notebooks/00_start_here.html")
    picture = page.get_by_role("img", name="Pruning explorer. lenet300")
    expect(picture).to_be_visible()
    button = page.get_by_role("button", name="Run it here")
    button.focus()
    page.keyboard.press("Enter")
    expect(picture).to_be_hidden()
    panel = page.frame_locator("p.live iframe")
    expect(panel.locator("#sparsity-said")).to_have_text("90%", timeout=30_000)
    expect(panel.locator("header.top")).to_be_hidden()


# ------------------------------------------------------------------------- the guesses


def test_the_second_part_opens_when_all_guesses_are_committed(visit, site):
    page = visit(PAGE)
    guesses = asked.guesses(LESSON)
    forms = page.locator("form.guess")
    expect(forms).to_have_count(len(guesses))
    expect(page.locator(RESULT).first).to_be_hidden()
    forms.first.get_by_role("button").click()
    expect(forms.first.get_by_role("status")).to_have_text(
        "Give a number from 0 to 100."
    )
    # by keyboard alone: the slider gives the number, Enter commits it, and the next
    # question has the focus
    slider = forms.first.get_by_role("slider")
    expect(slider).to_have_attribute("aria-valuetext", "no guess yet")
    slider.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(forms.first.get_by_role("textbox")).to_have_value("1")
    page.keyboard.press("Enter")
    for index in range(1, len(guesses)):
        page.wait_for_function(
            "i => document.querySelectorAll('form.guess')[i].contains("
            "document.activeElement)",
            arg=index,
        )
        expect(page.locator(RESULT).first).to_be_hidden()
        forms.nth(index).get_by_role("textbox").fill(guesses[index].measured)
        page.keyboard.press("Enter")
    expect(page.locator(RESULT).first).to_be_visible()
    said = page.locator(".compared li")
    expect(said).to_have_count(len(guesses))
    expect(said.nth(0)).to_contain_text("9.2 %. Your guess, 1 %, was 8.2 too low.")
    for index in range(1, len(guesses)):
        expect(said.nth(index)).to_contain_text("was close")
    page.reload()
    expect(page.locator(RESULT).first).to_be_visible()
    expect(forms.first.get_by_role("textbox")).to_have_value("1")
    expect(forms.first.get_by_role("textbox")).to_be_disabled()
    page.goto(site + "lessons/04_neurons_and_filters/index.html")
    expect(page.locator(RESULT).first).to_be_hidden()


def test_who_does_not_want_to_guess_opens_it_at_once(visit):
    page = visit(PAGE + "#in-the-second-notebook")
    expect(page.locator(RESULT).first).to_be_hidden()
    expect(page.locator(".gate")).to_be_in_viewport()
    page.get_by_role("button", name="Open without a guess").focus()
    page.keyboard.press("Enter")
    expect(page.locator(RESULT).first).to_be_visible()
    expect(page.locator(".compared li").first).to_contain_text("9.2 %.")


def test_where_nothing_can_be_kept_it_works_and_says_so(visit):
    page = visit(
        PAGE,
        # the theme's own scripts do not expect it
        tolerated=("no", "Got invalid theme mode"),
        before="Object.defineProperty(window, 'localStorage', {get() {"
        " throw new DOMException('no', 'SecurityError'); }});",
    )
    forms = page.locator("form.guess")
    for index in range(forms.count()):
        forms.nth(index).get_by_role("textbox").fill("10 %")
        page.keyboard.press("Enter")
    expect(forms.first.get_by_role("status")).to_contain_text("keeps nothing")
    expect(page.locator(RESULT).first).to_be_visible()


def test_what_is_damaged_counts_as_nothing(visit):
    kept = json.dumps({"guesses": 3, "quiz": None, "opened": []})
    page = visit(PAGE, before=f"localStorage.setItem('pruning-course', '{kept}')")
    expect(page.locator("form.guess").first).to_be_visible()
    expect(page.locator(RESULT).first).to_be_hidden()


# ---------------------------------------------------------------------------- the quiz


def test_a_quiz_explains_after_the_answer_and_keeps_the_first_try(visit):
    page = visit(PAGE, width=390)
    questions = asked.questions(LESSON)
    forms = page.locator("form.question")
    expect(forms).to_have_count(len(questions))
    texts = forms.first.inner_text()
    for answer in questions[0]["answers"]:
        assert answer["answer"] in texts
        assert answer["feedback"] not in texts
    first = forms.first
    first.get_by_role("button").click()
    expect(first.get_by_role("status")).to_have_text("Choose an answer first.")
    wrong = next(a for a in questions[0]["answers"] if not a["right"])
    right = next(a for a in questions[0]["answers"] if a["right"])
    first.get_by_label(wrong["answer"]).check()
    first.get_by_role("button").click()
    for said in ("Not right.", wrong["feedback"], right["answer"], right["feedback"]):
        expect(first.get_by_role("status")).to_contain_text(said)
    page.reload()
    expect(first.get_by_label(wrong["answer"])).to_be_checked()
    expect(first.get_by_label(right["answer"])).to_be_disabled()
    expect(first.get_by_role("button")).to_be_disabled()
    expect(page.locator(".score")).to_have_text("First tries right: 0 of 1 answered.")


@pytest.mark.parametrize(("off", "verdict"), [(0.99, "Right."), (1.3, "Not right.")])
def test_a_number_is_judged_by_what_the_notebook_measured(visit, off, verdict):
    page = visit(PAGE)
    place, question = next(
        (place, each)
        for place, each in enumerate(asked.questions(LESSON))
        if each["kind"] == "number"
    )
    form = page.locator("form.question").nth(place)
    form.get_by_role("textbox").fill(f"{question['measured'] * off:.4g} points")
    form.get_by_role("button").click()
    expect(form.get_by_role("status").locator("b").first).to_have_text(verdict)
    expect(form.get_by_role("status")).to_contain_text("measured 22.6 points")


def test_a_sentence_is_judged_by_its_writer(visit):
    page = visit(PAGE)
    form = page.locator("form.question").last
    form.get_by_role("textbox").fill("I spared <b>fc3</b>.")
    form.get_by_role("button").click()
    expect(form.get_by_role("status")).to_contain_text("A model answer:")
    boxes = form.get_by_role("checkbox")
    boxes.first.check()
    page.reload()
    expect(form.get_by_role("textbox")).to_have_value("I spared <b>fc3</b>.")
    expect(boxes.first).to_be_checked()
    expect(boxes.last).not_to_be_checked()
