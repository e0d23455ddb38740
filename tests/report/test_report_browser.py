"""The report in a real browser: what a reader clicks, wide and narrow, light and dark, without errors or requests."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import pytest
from test_report import EVIL

from exsearch.agent.trajectory import Trajectory
from exsearch.core.jsonl import read_json, read_jsonl, write_jsonl
from exsearch.evaluation.compare import compare
from exsearch.evaluation.scores import Scores
from exsearch.questions.question import Question
from exsearch.report import write
from exsearch.report.write import write_comparison_report, write_report
from exsearch.runs.evaluations import read_evaluation
from exsearch.runs.weighted import Weighted
from made_up_run import make_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.needs("playwright")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = [1400, 400]
Open = Callable[..., AbstractContextManager["Page"]]

CUT = """() => [...document.querySelectorAll("svg")].flatMap((chart) => {
  const frame = chart.getBoundingClientRect();
  const texts = frame.width ? [...chart.querySelectorAll("text")] : [];
  return texts.filter((text) => {
    const box = text.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
  }).map((text) => text.textContent);
})"""
"""The labels of charts that reach out of them."""
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""Waits until charts are drawn, which they are once their size is known."""


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    if CHROMIUM is None:
        pytest.skip("needs chromium, such as that of `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def open_page(browser: "Browser") -> Open:
    """Open an address, and hold the page to writing no error and requesting nothing but itself."""

    @contextmanager
    def opened(address: str, width: int = 1400, scheme: Literal["light", "dark"] = "light") -> Iterator["Page"]:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(10_000)
        faults: list[str] = []
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url))
        try:
            page.goto(address)
            yield page
        finally:
            page.close()
        own = (address.partition("#")[0], address, "data:,")
        assert [fault for fault in faults if fault not in own] == []

    return opened


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "demo", test=12, train=3, passages=60, words=30, branches=2)
    write_report(run)
    return run


@pytest.fixture(scope="module")
def both(run: Path) -> Path:
    a, b = read_evaluation(run / "eval" / "warmup"), read_evaluation(run / "eval" / "iter-2")
    target = run.parent / "both.html"
    write_comparison_report(a, b, compare(a, b, "f1", False), target)
    return target


def address(path: Path, tab: str) -> str:
    return f"{(path / 'report.html' if path.is_dir() else path).as_uri()}#{tab}"


def right(run: Path, model: str) -> set[str]:
    scores = read_json(run / "eval" / model / "scores.json", Scores)
    return {score.question_id for score in scores.questions if score.em}


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
def test_each_tab_fits_its_window_and_no_label_is_cut(
    open_page: Open, run: Path, both: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    for path, tabs in ((run, ["figures", "trajectories", "e-step", "setup"]), (both, ["figures", "trajectories"])):
        with open_page(address(path, "figures"), width, scheme) as page:
            for tab in tabs:
                page.click(f"#tab-{tab}")
                panel = page.locator(f"#panel-{tab}")
                assert panel.is_visible() and len(panel.inner_text()) > 100
                page.evaluate(DRAWN)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
                assert page.evaluate(CUT) == [], tab
            page.click("#tab-figures")
            assert page.locator("#panel-figures figure svg[role=img]").count() >= 4


@pytest.mark.parametrize("width", WIDTHS)
def test_questions_are_filtered_and_one_is_opened(open_page: Open, run: Path, width: int) -> None:
    questions = list(read_jsonl(run / "questions" / "test.jsonl", Question))
    fixed = [question for question in questions if question.id in right(run, "iter-2") - right(run, "warmup")]
    assert 0 < len(fixed) < len(questions)
    with open_page(address(run, "trajectories"), width) as page:
        panel = page.locator("#panel-trajectories")
        rows = panel.locator(".question-list li")
        assert rows.count() == len(questions)
        panel.get_by_label("Outcome").select_option("fixed")
        assert panel.locator(".count").inner_text() == f"{len(fixed)} of {len(questions)} questions"
        assert [row.locator(".text").inner_text() for row in rows.all()] == [question.text for question in fixed]
        panel.get_by_label("Outcome").select_option("all")
        rows.nth(4).click()
        assert panel.locator(".question h3").inner_text() == questions[4].text
        panel.get_by_role("listbox").press("ArrowDown")
        assert panel.locator(".question h3").inner_text() == questions[5].text
        assert page.url.endswith(f"#trajectories/{questions[5].id}")
        [shown] = [
            one
            for one in read_jsonl(run / "eval" / "iter-2" / "trajectories.jsonl", Trajectory)
            if one.question_id == questions[5].id
        ]
        card = panel.get_by_label("Trajectory of iter-2")
        assert card.locator(".step").count() == len(shown.steps)
        passage = card.locator(".passages li").first
        passage.locator("summary").click()
        assert shown.steps[0].hits[0].passage.text in passage.locator(".passage-text").inner_text()
        panel.get_by_placeholder("Search questions and answers").fill(questions[7].id)
        assert panel.locator(".question h3").inner_text() == questions[7].text


@pytest.mark.parametrize("width", WIDTHS)
def test_two_models_are_compared(open_page: Open, run: Path, width: int) -> None:
    question = next(read_jsonl(run / "questions" / "test.jsonl", Question))
    with open_page(address(run, "trajectories"), width) as page:
        panel = page.locator("#panel-trajectories")
        panel.get_by_label("Model A").select_option("majority")
        panel.get_by_label("Model B").select_option("iter-1")
        for letter, model in (("A", "majority"), ("B", "iter-1")):
            card = panel.get_by_label(f"Trajectory of {model}")
            verdict = "✓ right" if question.id in right(run, model) else "✗ wrong"
            assert card.locator("h4").inner_text().startswith(f"{letter} {model} {verdict}")
        assert "this model wrote no trajectory" in panel.get_by_label("Trajectory of majority").inner_text()
        assert panel.locator("article.trajectory").count() == 2


def test_a_branch_is_named_after_its_sample_and_shares_its_weight(open_page: Open, run: Path) -> None:
    question = next(read_jsonl(run / "questions" / "train.jsonl", Question))
    weights = {
        each.name: each.weight
        for each in read_jsonl(run / "iter-2" / "weights.jsonl", Weighted)
        if each.question_id == question.id
    }
    with open_page(address(run, "e-step")) as page:
        panel = page.locator("#panel-e-step")
        assert panel.get_by_role("heading", name="4 samples and 2 branches, by weight").is_visible()
        rows = {row.locator("button").inner_text()[1:]: row for row in panel.locator("table.samples tbody tr").all()}
        assert {name: float(row.locator(".weight").inner_text()) for name, row in rows.items()} == {
            name: pytest.approx(weight, abs=6e-4) for name, weight in weights.items()
        }
        ticks = {name: row.locator(".weight-tick").get_attribute("style") or "" for name, row in rows.items()}
        places = {name: float(re.findall(r"left: ([\d.]+)%", style)[0]) for name, style in ticks.items()}
        assert places["0"] == pytest.approx(25, abs=0.1)
        assert [places[name] for name in ("1", "1.1", "1.2")] == pytest.approx([25 / 3] * 3, abs=0.1)
        rows["1.2"].locator("button").click()
        [branch] = [
            one
            for one in read_jsonl(run / "iter-2" / "trajectories.jsonl", Trajectory)
            if (one.question_id, one.name) == (question.id, "1.2")
        ]
        card = panel.get_by_label("Sample #1, branch 2", exact=True).and_(page.locator("article"))
        assert card.locator(".step").count() == len(branch.steps)
        assert (branch.answer or "No answer") in card.locator(".answer-text").inner_text()


def test_the_questions_that_differ_are_found_in_a_comparison(open_page: Open, both: Path, run: Path) -> None:
    a, b = (read_json(run / "eval" / name / "scores.json", Scores) for name in ("warmup", "iter-2"))
    before = {score.question_id: score.f1 for score in a.questions}
    wins = [score for score in b.questions if score.f1 > before[score.question_id]]
    with open_page(address(both, "trajectories")) as page:
        panel = page.locator("#panel-trajectories")
        panel.get_by_label("By F1").select_option("win")
        assert panel.locator(".question-list li").count() == len(wins) > 0
        assert page.locator("#tab-e-step").is_hidden()


def test_hostile_text_is_shown_as_text(open_page: Open, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", test=2, train=2, passages=20, words=5)
    path = run / "questions" / "test.jsonl"
    write_jsonl(path, [msgspec.structs.replace(each, text=EVIL) for each in list(read_jsonl(path, Question))])
    write_report(run)
    with open_page(address(run, "trajectories")) as page:
        assert page.locator("#panel-trajectories .question h3").text_content() == EVIL
        assert page.locator("img, main script, .question b b").count() == 0


def test_the_modules_mean_to_a_browser_what_their_bundle_does(browser: "Browser", open_page: Open, run: Path) -> None:
    """The same page is drawn by the files themselves, imported by the browser as the ES modules that they are."""
    with open_page(address(run, "figures")) as page:
        page.evaluate(DRAWN)
        bundled = page.locator("main").inner_text()
    shell = re.sub(r"<meta http-equiv[^>]*>", "", (run / "report.html").read_text(encoding="utf-8"))
    shell = re.sub(r"<script>.*?</script>", '<script type="module" src="report.js"></script>', shell, flags=re.DOTALL)
    asked: list[str] = []

    def answer(route: "Route") -> None:
        name = route.request.url.rpartition("/")[2]
        asked.append(name)
        kind = "text/javascript" if name.endswith(".js") else "text/html"
        route.fulfill(body=write._asset(name) if name.endswith(".js") else shell, content_type=f"{kind}; charset=utf-8")

    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.route("**/*", answer)
    page.goto("http://report.test/page")
    page.wait_for_selector("figure svg[role=img]")
    page.evaluate(DRAWN)
    assert page.locator("main").inner_text() == bundled
    page.close()
    folder = Path(write.__file__).parent / "web"
    assert sorted(name for name in asked if name.endswith(".js")) == sorted(file.name for file in folder.glob("*.js"))
