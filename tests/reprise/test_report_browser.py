"""The report in a real browser, Debian's Chromium without a window:

apt-get install --yes chromium && uv run --group dev pytest -m long tests/reprise/test_report_browser.py
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import EXECUTABLE, Page, open_browser
from many_runs import make_runs

from reprise.runs.run_directory import RunDirectory
from reprise.tools.report import write_report

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(EXECUTABLE is None, reason="there is no Chromium; apt-get install chromium brings it"),
]

HOSTILE = '<img src=x onerror="window.hacked=1"></script><script>window.hacked=1</script>&lt;b&gt;`|*_'
RUNS, FIRST, SECOND = "#runs tbody tr", "#first", "#second"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def report(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report of 23 runs: five seeds of each variant, one run that failed, one whose texts hold markup."""
    directory = tmp_path_factory.mktemp("report")
    runs = make_runs(finished_run, directory, 23)
    for path in runs.iterdir():
        with RunDirectory(path).metrics_log.open("a") as log:  # evaluations beyond those of the tiny run
            for step in range(1000, 1005):
                log.write(json.dumps({"epoch": 9, "step": step, "metrics": {"val/loss": 1 / step}}) + "\n")
    failed, hostile = RunDirectory(runs / "run_00003"), RunDirectory(runs / "run_00022")
    failed.status.write_text(json.dumps({"status": "failed", "reason": HOSTILE, "attempts": []}))
    config, results = json.loads(hostile.config.read_text()), json.loads(hostile.metrics.read_text())
    config["model"]["name"] = HOSTILE
    results["metrics"][HOSTILE] = 0.5
    matrix = results["details"]["classification"]["confusion_matrix"]
    matrix["labels"][0] = HOSTILE
    hostile.config.write_text(json.dumps(config))
    hostile.metrics.write_text(json.dumps(results))
    hostile.model_card.write_text(f"# Card\n\n{HOSTILE}\n\n| a |\n| --- |\n| {HOSTILE.replace('|', '')} |\n")
    with hostile.metrics_log.open("a") as log:
        log.write(json.dumps({"epoch": 9, "step": 1005, "metrics": {HOSTILE: 0.5}}) + "\n")
    return write_report(runs, output_path=directory / "report.html")


@pytest.fixture
def page(browser: Page, report: Path) -> Page:
    """Return the browser with the report just opened, 1200 pixels wide."""
    browser.prefer("light")
    browser.resize(1200)
    browser.open(report)
    return browser


def texts(page: Page, selector: str) -> list[str]:
    """Return the text of each element."""
    found: list[str] = page.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)")
    return found


def column(page: Page, name: str) -> list[str]:
    """Return the cells of a column of the table of runs."""
    heads = [text.strip() for text in texts(page, "#runs thead th")]
    return texts(page, f"#runs tbody tr > :nth-child({heads.index(name) + 1})")


def head(page: Page, name: str) -> str:
    """Return a JavaScript expression for the header button of a column."""
    return f"[...document.querySelectorAll('#runs thead button')].find((b) => b.textContent.trim() === {name!r})"


def type_filter(page: Page, query: str) -> None:
    page.run("document.querySelector('#filter').focus(); document.querySelector('#filter').select()")
    page.call("Input.insertText", text=query)


def choose(page: Page, selector: str, run: str) -> None:
    """Choose a run in one of the two lists."""
    page.run(
        f"(() => {{ const list = document.querySelector('{selector}');"
        f"list.value = [...list.options].find((o) => o.textContent.endsWith('{run}')).value;"
        "list.dispatchEvent(new Event('change')); })()"
    )


def problems(page: Page) -> list[dict[str, Any]]:
    """Return what the browser has complained about since the page was opened."""
    kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    return [event for event in page.events if event["method"] in kinds]


def test_nothing_is_loaded_and_nothing_is_wrong(page: Page, report: Path) -> None:
    requests = [e["params"]["request"]["url"] for e in page.events if e["method"] == "Network.requestWillBeSent"]
    assert requests == [report.as_uri()]
    assert problems(page) == []
    assert page.run("document.title") == "Runs of many" or page.run("document.title").startswith("Runs of ")


def test_the_policy_refuses_what_is_not_on_the_page(page: Page) -> None:
    refused = page.run(
        """new Promise((resolve) => {
          const refused = [];
          document.addEventListener("securitypolicyviolation", (event) => {
            refused.push(event.effectiveDirective);
            if (refused.length === 3) resolve(refused.sort());
          });
          const script = document.createElement("script");
          script.textContent = "window.hacked = 1";
          const image = document.createElement("img");
          image.src = "http://localhost:1/x.png";
          const style = document.createElement("style");
          style.textContent = "body { display: none }";
          document.body.append(script, image, style);
          setTimeout(() => resolve(refused.sort()), 2000);
        })"""
    )
    assert refused == ["img-src", "script-src-elem", "style-src-elem"]
    assert page.run("window.hacked") is None
    assert page.run("getComputedStyle(document.body).display") == "block"


def test_markup_in_labels_is_shown_as_text(page: Page) -> None:
    choose(page, FIRST, "run_00022")
    page.run("document.querySelectorAll('#pair details').forEach((d) => { d.open = true; })")
    page.run("new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))")
    page.run("[...document.querySelectorAll('.pills input')].forEach((box) => { if (!box.checked) box.click(); })")
    assert HOSTILE in column(page, "model.name")
    assert HOSTILE in texts(page, "#curves figcaption")
    assert HOSTILE in texts(page, "#pair .matrix th")
    assert any(HOSTILE.partition("&lt;")[0] + "<b>" in text for text in texts(page, "#pair .card p"))
    assert texts(page, "#pair .columns > details:first-child .card h4") == ["Card"]
    assert page.run("document.querySelectorAll('img, body script:not(:nth-last-child(-n + 2))').length") == 0
    assert page.run("window.hacked") is None
    assert problems(page) == []


def test_a_click_on_a_header_sorts_and_another_one_turns_the_order(page: Page) -> None:
    def values() -> list[float]:
        return [float(cell.removesuffix(" %")) for cell in column(page, "test/accuracy") if cell != "–"]

    def order() -> str:
        name: str = page.run(f"{head(page, 'test/accuracy')}.closest('th').getAttribute('aria-sort')")
        return name

    assert order() == "none"
    assert [float(cell) for cell in column(page, "test/loss") if cell != "–"] == sorted(
        float(cell) for cell in column(page, "test/loss") if cell != "–"
    )
    for expected, is_descending in (("descending", True), ("ascending", False), ("descending", True)):
        x, y = page.run(
            f"(() => {{ const button = {head(page, 'test/accuracy')};"
            "button.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });"
            "const box = button.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        page.click(x, y)
        assert (order(), values()) == (expected, sorted(values(), reverse=is_descending))
    assert len(values()) > 20
    assert (
        page.run('document.querySelectorAll(\'#runs [aria-sort="descending"], #runs [aria-sort="ascending"]\').length')
        == 1
    )


def test_runs_without_a_figure_stand_last_in_both_orders(page: Page) -> None:
    for _ in range(2):
        page.run(f"{head(page, HOSTILE)}.click()")
        cells = column(page, HOSTILE)
        assert cells[0] != "–"
        assert set(cells[1:]) == {"–"}


def test_text_columns_sort_by_text(page: Page) -> None:
    page.run(f"{head(page, 'run')}.click()")
    assert column(page, "run") == [f"run_{number:05d}" for number in range(23)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 23),
        ("run_0001", 10),
        ("RUN_0001 failed", 0),
        ("failed", 1),
        ("status=failed", 1),
        ("status!=failed", 22),
        ("seed=1", 5),
        ("seed=1 learning_rate<=0.002", 2),
        ("training.learning_rate>0.001", 18),
        ("training.learning_rate>=0.005", 3),
        ("accuracy>=2", 0),
        ("accuracy<2", 23),
        ("<img", 1),
        ("nonsense=1", 0),
    ],
)
def test_the_filter_leaves_the_rows_that_meet_it(page: Page, query: str, expected: int) -> None:
    type_filter(page, query)
    assert len(texts(page, RUNS)) == expected
    assert texts(page, "#count") == [f"{expected} of 23 runs"]


def test_best_ten_are_drawn_at_first_and_ticks_choose_others(page: Page) -> None:
    def num_drawn() -> tuple[int, int]:
        lines: int = page.run("document.querySelectorAll('#curves figure:first-child path.line').length")
        return lines, len(texts(page, ".legend button"))

    ticked = "document.querySelectorAll('#runs input:checked').length"
    assert (num_drawn(), page.run(ticked)) == ((10, 10), 10)
    page.run("document.querySelector('#runs tbody input:not(:checked)').click()")
    assert num_drawn() == (11, 11)
    page.run("document.querySelector('#runs tbody input:checked').click()")
    assert num_drawn() == (10, 10)
    type_filter(page, "seed=1")
    page.run("document.querySelector('#choose-shown').click()")
    assert (num_drawn(), page.run(ticked)) == ((5, 5), 5)
    page.run("document.querySelector('#choose-none').click()")
    assert num_drawn() == (0, 0)
    assert "No run is chosen" in texts(page, "#drawn")[0]
    page.run("document.querySelector('#choose-best').click()")
    assert num_drawn() == (10, 10)


def test_metrics_are_chosen_and_the_log_scale_moves_the_curves(page: Page) -> None:
    captions = texts(page, "#curves figcaption")
    assert "val/loss" in captions
    boxes = "[...document.querySelectorAll('.pills input')]"
    page.run(f"{boxes}.find((box) => box.parentElement.textContent.trim() === 'train/loss').click()")
    assert set(texts(page, "#curves figcaption")) == {*captions, "train/loss"}
    path = "document.querySelector('#curves figure:first-child path.line').getAttribute('d')"
    linear = page.run(path)
    page.run("document.querySelector('#log-scale').click()")
    assert page.run(path) != linear
    page.run("document.querySelector('#log-scale').click()")
    assert page.run(path) == linear


def test_the_pointer_reads_the_values_under_it(page: Page) -> None:
    page.run("document.querySelector('.plot').scrollIntoView({ block: 'center', behavior: 'instant' })")
    x, y, width = page.run(
        "(() => { const b = document.querySelector('.plot').getBoundingClientRect(); return [b.x, b.y, b.width]; })()"
    )
    tip = "document.querySelector('figure .tip')"
    for share in (0.15, 0.5, 0.95):
        page.move(x + width * share, y + 100)
        assert page.run(f"{tip}.hidden") is False
        assert page.run(f"{tip}.querySelectorAll('li').length") == 10
        left, right = page.run(f"(() => {{ const b = {tip}.getBoundingClientRect(); return [b.left, b.right]; }})()")
        assert x <= left < right <= x + width
    page.move(1, 1)
    assert page.run(f"{tip}.hidden") is True


def test_arrow_keys_read_the_logged_values(page: Page) -> None:
    data = page.run("JSON.parse(document.getElementById('data').textContent)")
    figure = "[...document.querySelectorAll('figure')].find((f) => f.textContent.startsWith('val/loss'))"
    steps = sorted({step for run in data["runs"] for step in run["curves"]["val/loss"][0]})
    assert len(steps) > 6
    page.run(f"{figure}.querySelector('.plot').focus()")
    keys = {"Home": 0, "ArrowRight": 1, "ArrowLeft": 0, "End": -1}
    for key, position in keys.items():
        page.press(key)
        assert page.run(f"{figure}.querySelector('.tip strong').textContent") == f"step {steps[position]:,}"
    assert texts(page, "figure .tip:not([hidden]) .value")[0] == "0.0009960"  # 1 / 1004
    assert page.run(f"{figure}.querySelector('.tip').getAttribute('role')") == "status"
    page.press("Escape")
    assert page.run(f"{figure}.querySelector('.tip').hidden") is True


def test_a_pressed_legend_entry_brings_its_curve_out(page: Page) -> None:
    page.run("document.querySelector('.legend button').click()")
    assert page.run("document.querySelector('.legend button').getAttribute('aria-pressed')") == "true"
    bold, faded = page.run(
        "['bold', 'faded'].map((name) => document.querySelectorAll(`figure:first-child path.${name}`).length)"
    )
    assert (bold, faded) == (1, 9)


def test_any_two_runs_are_compared_by_what_differs(page: Page) -> None:
    choose(page, FIRST, "run_00000")
    choose(page, SECOND, "run_00006")
    rows = page.run(
        "[...document.querySelectorAll('#pair section:nth-of-type(2) tbody tr')]"
        ".map((row) => [...row.children].map((cell) => cell.textContent))"
    )
    assert rows == [
        ["run_id", "run_00000", "run_00006"],
        ["seed", "0", "1"],
        ["training.learning_rate", "0.001", "0.002"],
    ]
    assert len(texts(page, "#pair .matrix")) == 2
    assert len(texts(page, "#pair .matrix tbody td")) == 200
    choose(page, SECOND, "none")
    assert len(texts(page, "#pair .matrix")) == 1


def test_cards_are_rendered(page: Page, finished_run: Path) -> None:
    choose(page, FIRST, "run_00000")
    page.run("document.querySelectorAll('#pair details').forEach((d) => { d.open = true; })")
    page.run("new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))")
    card = RunDirectory(finished_run).model_card.read_text()
    headings = texts(page, "#pair .columns > details:first-child .card :is(h4, h5, h6)")
    outside_of_fences = re.sub(r"^```.*?^```", "", card, flags=re.DOTALL | re.MULTILINE)
    assert headings == [re.sub(r"\\(.)|`", r"\1", h) for h in re.findall(r"^#+ (.*)$", outside_of_fences, re.MULTILINE)]
    shown = " ".join(texts(page, "#pair .columns > details:first-child .card :is(p, li, td)"))
    assert not re.search(r"\*\*|&amp;|&lt;|\]\(#", shown)


def test_the_whole_page_works_by_keyboard(page: Page) -> None:
    page.run("document.body.focus()")
    seen = []
    for _ in range(200):
        page.press("Tab")
        name, outline = page.run(
            "(() => { const e = document.activeElement; const s = getComputedStyle(e);"
            "return [e.id || e.className || e.tagName, s.outlineStyle + ' ' + s.outlineWidth]; })()"
        )
        if name == "BODY":
            break
        seen.append(name)
        assert not outline.startswith("none"), f"{name} does not show that it has the focus"
    for wanted in ("filter", "choose-best", "link", "log-scale", "plot", "first", "second", "scroller"):
        assert wanted in seen
    page.run(f"{head(page, 'seed')}.focus()")
    page.press("Enter")
    assert page.run(f"{head(page, 'seed')}.closest('th').getAttribute('aria-sort')") == "descending"
    page.press(" ")
    assert page.run(f"{head(page, 'seed')}.closest('th').getAttribute('aria-sort')") == "ascending"
    assert page.run(f"document.activeElement === {head(page, 'seed')}")
    page.run("document.querySelector('#runs .link').focus()")
    name = texts(page, "#runs .link")[0]
    page.press("Enter")
    assert page.run("document.activeElement.id") == "first"
    assert page.run("document.querySelector('#first').selectedOptions[0].textContent").endswith(name)


@pytest.mark.parametrize("width", [360, 768, 1200])
def test_no_width_makes_the_page_itself_scroll_sideways(page: Page, width: int) -> None:
    page.resize(width)
    page.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    page.run("new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 100)))")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert (
        page.run("Math.max(...[...document.querySelectorAll('.plot svg')].map((s) => s.getBoundingClientRect().right))")
        <= width
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_background(page: Page, scheme: str) -> None:
    page.prefer(scheme)
    lowest = page.run(
        """(() => {
          const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
          const rgb = (colours) => {
            canvas.clearRect(0, 0, 1, 1);
            for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
          };
          const luminance = (colour) => {
            const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            const [r, g, b] = colour.map((c) => linear(c / 255));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          let lowest = [99, ""];
          for (const element of document.querySelectorAll("body *")) {
            const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
            if (!own || !element.checkVisibility() || element.closest("option, script, style")) continue;
            const behind = [];
            for (let e = element; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor);
            const style = getComputedStyle(element);
            const colour = element.closest("svg") ? style.fill : style.color;
            const [first, second] = [rgb(behind), rgb([...behind, colour])].map(luminance);
            const contrast = (Math.max(first, second) + 0.05) / (Math.min(first, second) + 0.05);
            if (contrast < lowest[0]) lowest = [contrast, `${element.tagName}: ${element.textContent.slice(0, 40)}`];
          }
          return lowest;
        })()"""
    )
    assert lowest[0] >= 4.5, lowest
    background = page.run("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(17, 19, 22)") == (scheme == "dark")


def test_a_thousand_runs_are_sorted_filtered_and_drawn(browser: Page, finished_run: Path, tmp_path: Path) -> None:
    path = write_report(make_runs(finished_run, tmp_path, 1000), output_path=tmp_path / "report.html")
    assert path.stat().st_size < 10_000_000
    browser.open(path)
    assert len(texts(browser, RUNS)) == 200
    browser.run("document.querySelector('#runs .more').click()")
    assert len(texts(browser, RUNS)) == 1000
    type_filter(browser, "seed=3 num_layers=2")
    assert texts(browser, "#count") == [f"{sum(v // 20 % 4 == 1 for v in range(200))} of 1,000 runs"]
    type_filter(browser, "run")
    browser.run("document.querySelector('#choose-shown').click()")
    assert "The first 100 of 1,000 chosen runs are drawn." in texts(browser, "#drawn")
    assert browser.run("document.querySelectorAll('#curves figure:first-child path.line').length") == 100
    assert problems(browser) == []
