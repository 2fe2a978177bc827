"""The report in a real browser: what is drawn, and what mouse and keys do."""

import csv
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import gradtape as gt
from browser import Browser, browser


@pytest.fixture(scope="module")
def page() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


BATCH = np.random.default_rng(0).integers(0, 11, (2, 3, 8))


def gpt(depth: int) -> gt.Compiled:
    model = gt.models.GPT(vocab=11, context=8, width=16, depth=depth, heads=2)
    return gt.compile(model, *BATCH, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=1e-3), threads=2)


@pytest.fixture(scope="module")
def gpt_report(tmp_path_factory: pytest.TempPathFactory, page: Browser) -> Path:
    """Three layers, measured, with a training of its own."""
    folder = tmp_path_factory.mktemp("gpt")
    step = gpt(3)
    with (folder / "norms.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["step", "parameter", "gradient", "update", "weight"])
        for number in (1, 10, 20):
            for i, (name, _) in enumerate(step.named_parameters()):
                rows.writerow([number, name, 0.1 * number + i, 0.01, 1.0])
    (folder / "log.jsonl").write_text("".join(f'{{"step": {i}, "loss": {4 - i / 30}}}\n' for i in range(1, 81)))
    return step.report(folder / "report.html", *BATCH, run=folder)


@pytest.fixture
def report(gpt_report: Path, page: Browser) -> Browser:
    page.open(gpt_report)
    return page


BOX = 'svg.graph .box[data-key="{}"]'


def boxes(page: Browser) -> dict[str, str]:
    """Key -> label of every box of the graph."""
    return dict(
        page.js(
            """return [...document.querySelectorAll('svg.graph .box')].map(
                b => [b.dataset.key, b.querySelector('text').textContent])"""
        )
    )


def details(page: Browser) -> str:
    return page.find("#graph .details").text


# what is there --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1280])
def test_every_section_is_drawn_and_nothing_sticks_out(gpt_report: Path, page: Browser, width: int, dark: bool) -> None:
    page.open(gpt_report, width, dark)
    sections = ["overview", "graph", "gradients", "findings", "tape", "training"]
    assert page.js("return [...document.querySelectorAll('main > section')].map(s => s.id)") == sections
    assert page.js("return document.documentElement.scrollWidth") <= width
    tiles = dict(zip(page.texts(".tile dt"), page.texts(".tile strong"), strict=True))
    assert list(tiles) == ["parameters", "work", "memory", "time", "tape"] and all(tiles.values())
    assert len(page.all("svg.tape .span")) > 50 and len(page.all("svg.tape .buffer")) > 20
    assert len(page.all(".chart .series")) >= 2 and len(page.all("canvas.heatmap")) == 2
    light = page.js("return getComputedStyle(document.body).backgroundColor")
    assert (int(light.split("(")[1].split(",")[0]) < 60) == dark


def test_parameters_are_those_of_the_model(report: Browser) -> None:
    names = [name for name, _ in gt.models.GPT(vocab=11, context=8, width=16, depth=3, heads=2).named_parameters()]
    assert report.texts("table.flow tbody th") == names
    assert report.texts(".banner") == [f"✓ {len(names)}/{len(names)} parameters learn; 1 info"]


# the graph ------------------------------------------------------------------------------------------------------------
def test_equal_blocks_stand_once_until_asked(report: Browser) -> None:
    assert {"blocks.0 … 2", "∂ blocks.0 … 2", "tok", "ln_f"} <= set(boxes(report).values())
    report.click("#graph .chip[aria-pressed=true]")
    report.wait("document.querySelector('svg.graph .box[data-key=\"forward|blocks.2\"]')")
    assert {"blocks.0", "blocks.1", "blocks.2", "∂ blocks.1"} <= set(boxes(report).values())


def test_a_module_unfolds_and_folds(report: Browser) -> None:
    before = boxes(report)
    report.click(BOX.format("forward|blocks.0"), times=2)
    report.wait("document.querySelector('svg.graph .frame [data-fold=\"forward|blocks.0\"]')")
    inside = boxes(report)
    assert {"ln1", "attn", "ln2", "mlp"} <= set(inside.values()) and "forward|blocks.0" not in inside
    report.click('.frame [data-fold="forward|blocks.0"] text')
    report.wait("!document.querySelector('svg.graph .frame [data-fold=\"forward|blocks.0\"]')")
    assert boxes(report) == before


def test_all_of_it_unfolds_and_folds(report: Browser) -> None:
    before = boxes(report)
    unfold, fold = '//button[text()="Unfold all"]', '//button[text()="Fold all"]'
    report.driver.find_element("xpath", unfold).click()
    report.wait("!document.querySelector('svg.graph .box.group')")
    assert len(boxes(report)) > 3 * len(before)
    report.driver.find_element("xpath", fold).click()
    report.wait(f"document.querySelectorAll('svg.graph .box').length == {len(before)}")
    assert boxes(report) == before


def test_stages(report: Browser) -> None:
    both = len(boxes(report))
    report.click('#graph [data-stage="traced"]')
    report.wait("!document.querySelector('svg.graph .box.backward')")
    assert 0 < len(boxes(report)) < both
    report.click('#graph [data-stage="fused"]')
    report.wait("document.querySelector('svg.graph .box.backward')")
    assert not report.all("svg.graph .box.update")
    report.click("#graph .chip.update")
    report.wait("document.querySelector('svg.graph .box.update')")
    report.quiet()


def test_search_finds_unfolds_and_tells(report: Browser) -> None:
    """A node in folded modules: its type, line and code, derivative and kernel."""
    report.press("/")
    assert report.js("return document.activeElement.id") == "search"
    report.find("#search").send_keys("softmax")
    found = report.texts("#results [role=option]")
    assert found and all("softmax" in text for text in found)
    report.press("ArrowDown", "ArrowUp", "Enter")
    report.wait("document.querySelector('svg.graph .box.selected')?.textContent.includes('softmax')")
    told = details(report)
    for what in ("softmax", "f32[3, 2, 8, 8]", "blocks.0.attn", "gpt.py:", "scaled_dot_product_attention", "def vjp"):
        assert what in told, what
    assert "row_" in told and report.texts("#graph .details summary")
    assert report.all("#results:not([hidden])") == []


def test_a_search_for_nothing_says_so(report: Browser) -> None:
    report.find("#search").send_keys("no such thing")
    assert report.texts("#results li") == ["nothing of that name"]
    report.press("Escape")
    assert report.all("#results:not([hidden])") == []


def test_details_lead_on(report: Browser) -> None:
    """From a node to what it reads, and to its instruction on the tape."""
    report.find("#search").send_keys("softmax blocks.0")
    report.press("Enter")
    report.wait("document.querySelector('svg.graph .box.selected')?.textContent.includes('softmax')")
    report.click("#graph .details dl button.link")
    report.wait("!document.querySelector('svg.graph .box.selected').textContent.includes('softmax')")
    report.click("#graph .details p.small:last-of-type button.link")
    report.wait("document.querySelector('svg.tape .span.selected')")
    assert "kernel" in report.find("#tape .details").text


def test_the_graph_by_keys(report: Browser) -> None:
    report.js("document.querySelector('svg.graph').focus()")
    report.press("ArrowDown")
    first = report.find("svg.graph .box.selected").get_attribute("data-key")
    report.press("ArrowDown", "ArrowDown")
    second = report.find("svg.graph .box.selected").get_attribute("data-key")
    assert first != second
    assert report.js("return document.activeElement.dataset.key") == second
    report.click(BOX.format("forward|blocks.0"))
    report.js("document.querySelector(arguments[0]).focus()", BOX.format("forward|blocks.0"))
    report.press("Enter")
    report.wait("document.querySelector('svg.graph .frame [data-fold=\"forward|blocks.0\"]')")
    report.wait("document.activeElement.dataset.key")
    assert report.js("return document.activeElement.dataset.key").startswith("forward|blocks.0/")
    report.press("Backspace")
    report.wait("!document.querySelector('svg.graph .frame [data-fold=\"forward|blocks.0\"]')")
    report.wait("document.activeElement.dataset.key == 'forward|blocks.0'")
    report.press("Escape")
    assert report.all("svg.graph .box.selected") == []


def test_zoom_and_pan(report: Browser) -> None:
    place = "return document.querySelector('svg.graph > g').getAttribute('transform')"
    before = report.js(place)
    report.js("document.querySelector('svg.graph').focus()")
    report.press("+")
    zoomed = report.js(place)
    assert zoomed != before
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(report.driver).move_to_element_with_offset(
        report.find("svg.graph"), 300, -200
    ).click_and_hold().move_by_offset(-60, 30).release().perform()
    panned = report.js(place)
    assert panned != zoomed
    report.js("document.querySelector('svg.graph').focus()")
    report.press("0")
    report.wait(f"document.querySelector('svg.graph > g').getAttribute('transform') == '{before}'")


# tables ---------------------------------------------------------------------------------------------------------------
def test_the_table_sorts_up_down_and_back(report: Browser) -> None:
    column = "table.flow td[data-column={}]"
    names = report.texts("table.flow tbody th")
    report.click("table.flow thead th:nth-child(1) button")
    assert report.find("table.flow thead th:nth-child(1)").get_attribute("aria-sort") == "ascending"
    assert (
        report.texts("table.flow tbody th") != names
        and report.texts("table.flow tbody th")[0] == "blocks.0.attn.proj.bias"
    )
    head = next(i for i, text in enumerate(report.texts("table.flow thead th"), 1) if text == "gradient")
    report.click(f"table.flow thead th:nth-child({head}) button")
    falling = [float(text) for text in report.texts(column.format("gradient"))]
    assert falling == sorted(falling, reverse=True) and len(set(falling)) > 5
    report.click(f"table.flow thead th:nth-child({head}) button")
    assert [float(text) for text in report.texts(column.format("gradient"))] == falling[::-1]
    report.click(f"table.flow thead th:nth-child({head}) button")
    assert report.texts("table.flow tbody th") == names


def test_the_table_filters_by_name_and_leads_to_the_graph(report: Browser) -> None:
    report.find("#gradients input").send_keys("mlp.fc")
    assert report.texts("table.flow tbody th") == [
        f"blocks.{i}.mlp.fc.{p}" for i in range(3) for p in ("weight", "bias")
    ]
    report.click("table.flow tbody tr:nth-child(3) th button")  # stands for itself: blocks are no longer shown once
    report.wait("document.querySelector('svg.graph .box.param.selected')")
    assert "blocks.1.mlp.fc.weight" in details(report) and "learns" in details(report)


# the tape -------------------------------------------------------------------------------------------------------------
def test_the_tape_by_mouse_and_keys(report: Browser) -> None:
    report.click("svg.tape .span[data-i='5']")
    told = report.find("#tape .details").text
    assert "#5" in told and "kernel" in told and "time" in told
    assert report.all("svg.tape .buffer.selected")
    report.js("document.querySelector('svg.tape').focus()")
    report.press("ArrowRight")
    assert "#6" in report.find("#tape .details h3").text
    report.press("ArrowLeft", "ArrowLeft")
    assert "#4" in report.find("#tape .details h3").text
    assert report.find("svg.tape .span.selected").get_attribute("data-i") == "4"
    report.press("Escape")
    assert report.all("svg.tape .selected") == []


def test_buffers_that_live_at_the_same_time_lie_apart(report: Browser) -> None:
    places = report.js(
        """return [...document.querySelectorAll('svg.tape .buffer')].map(
            b => ['x', 'width', 'y', 'height'].map(a => +b.getAttribute(a)))"""
    )
    met = 0
    for i, (x, w, y, h) in enumerate(places):
        for x2, w2, y2, h2 in places[:i]:
            # least sizes of what is drawn, so that it can be seen, may meet
            if min(x + w, x2 + w2) - max(x, x2) > 0.5:
                met += 1
                assert min(y + h, y2 + h2) - max(y, y2) < 0.7
    assert met > 100


# the page -------------------------------------------------------------------------------------------------------------
def test_theme_by_button_and_key(report: Browser) -> None:
    color = "return getComputedStyle(document.body).backgroundColor"
    light = report.js(color)
    report.click("#theme")
    dark = report.js(color)
    assert dark != light
    report.press("d")
    assert report.js(color) == light
    report.click("#theme")
    report.driver.refresh()
    report.wait("document.documentElement.dataset.ready")
    assert report.js(color) == dark  # it is remembered
    report.js("localStorage.clear()")


def test_help_by_key(report: Browser) -> None:
    report.press("?")
    assert report.find("#help").is_displayed() and "search the graph" in report.find("#help").text
    report.press("Escape")
    assert not report.find("#help").is_displayed()


def test_what_can_be_clicked_can_be_reached_by_keys_and_has_a_name(report: Browser) -> None:
    nameless = report.js(
        """return [...document.querySelectorAll('button, a, input, [tabindex="0"]')].filter(e =>
            !(e.textContent.trim() || e.getAttribute('aria-label') || e.getAttribute('title'))).map(e => e.outerHTML)"""
    )
    assert nameless == []
    seen = set()
    report.js("document.activeElement.blur()")
    for _ in range(40):
        report.press("Tab")
        seen.add(
            report.js(
                "const e = document.activeElement; return e.id || e.className.baseVal || e.className || e.textContent"
            )
        )
    assert {"theme", "search", "graph"} <= seen


def test_printing_shows_whole_tables_on_white(report: Browser) -> None:
    report.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    )
    try:
        assert report.js("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert report.js("const s = document.querySelector('.scroll'); return s.scrollHeight <= s.clientHeight + 1")
        assert not report.find(".bar").is_displayed()
        pdf = report.driver.execute_cdp_cmd("Page.printToPDF", {})
        assert len(pdf["data"]) > 10_000
    finally:
        report.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


# names that mean harm -------------------------------------------------------------------------------------------------
EVIL = """
import numpy as np
import gradtape as gt

class Net(gt.Module):
    def __init__(self):
        self.parts = {NAME: gt.nn.Linear(3, 4), IMAGE: gt.nn.Linear(4, 2)}
        self.dead = gt.nn.Linear(2, 2)

    def forward(self, x):  # </script><script>window.hacked = 1</script> <!-- \\u2028
        h = np.tanh(self.parts[NAME](x))  # </script><img src=x onerror="window.hacked = 1">
        return self.parts[IMAGE](h)

NAME = "<script>window.hacked = 1<|script>".replace("|", "/")
IMAGE = "\\u2028<img src=x onerror='window.hacked = 1'>&amp;"
"""


def test_names_and_code_do_nothing(tmp_path: Path, page: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_model.py").write_text(EVIL, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evil_model", raising=False)
    evil_model = importlib.import_module("evil_model")
    x, y = np.ones((5, 3), "f4"), np.ones((5, 2), "f4")
    with pytest.warns(gt.LintWarning):
        step = gt.compile(evil_model.Net(), x, y, loss=gt.mse_loss, optimizer=gt.SGD(lr=0.1), lint="warn", threads=1)
    title = "</title><script>window.hacked = 1</script>"
    page.open(step.report(tmp_path / "report.html", x, y, title=title))
    assert page.texts("h1") == [title]
    for name in (evil_model.NAME, evil_model.IMAGE):
        assert any(name in text for text in page.texts("table.flow tbody th")), name
    for button in ("Unfold all", "Fold all"):
        page.driver.find_element("xpath", f'//button[text()="{button}"]').click()
    page.find("#search").send_keys("script")
    assert page.texts("#results [role=option]")
    page.press("Enter")
    page.wait("document.querySelector('svg.graph .box.selected')")
    page.click("svg.tape .span")
    assert "window.hacked" in details(page)
    assert page.js("return window.hacked ?? null") is None
    assert page.js("return document.querySelectorAll('img, main script').length") == 0
    page.quiet()


# programs of other kinds ----------------------------------------------------------------------------------------------
class Broken(gt.Module):
    def __init__(self) -> None:
        self.first = gt.nn.Linear(4, 8)
        self.last = gt.nn.Linear(8, 1)

    def forward(self, x):
        h = np.tanh(self.first(x))
        h = gt.tensor(np.asarray(h.data))  # CUT
        return self.last(h)


CUT = next(i for i, line in enumerate(Path(__file__).read_text("utf-8").splitlines(), 1) if line.endswith("# CUT"))


def test_a_broken_model_shows_the_cut_where_the_lint_names_it(tmp_path: Path, page: Browser) -> None:
    x, y = np.ones((5, 4), "f4"), np.ones((5, 1), "f4")
    with pytest.warns(gt.LintWarning):
        step = gt.compile(Broken(), x, y, loss=gt.mse_loss, optimizer=gt.SGD(lr=0.1), lint="warn", threads=1)
    page.open(step.report(tmp_path / "report.html"))
    assert page.texts("nav .badge") == ["1"]
    (marked,) = page.texts("#findings .code .here")
    assert marked.split() == [str(CUT), *"h = gt.tensor(np.asarray(h.data)) # CUT".split()]
    for stage in page.js("return [...document.querySelectorAll('#graph [data-stage]')].map(b => b.dataset.stage)"):
        page.click(f'#graph [data-stage="{stage}"]')
        page.wait("document.querySelector('svg.graph .box.cut') && !document.querySelector('svg.graph[aria-busy]')")
        assert any(f"test_browser.py:{CUT}" in text for text in page.texts("svg.graph .box.cut")), stage
    chips = page.texts("#gradients .chip")
    assert chips == ["dead 2", "learns 2"]
    page.click("#gradients .chip[data-verdict=dead]")
    assert page.texts("table.flow tbody th") == ["first.weight", "first.bias"]
    page.click("#findings button.link")
    page.wait("document.querySelector('svg.graph .box.param.selected')")
    assert "dead" in details(page)


def test_a_program_without_a_loss(tmp_path: Path, page: Browser) -> None:
    step = gt.compile(gt.models.MLP(6, 5, 2), gt.spec(("B", 6)), threads=1)
    page.open(step.report(tmp_path / "report.html"))
    assert "This program was not linted." in page.find("#findings").text
    assert page.js("return [...document.querySelectorAll('#graph [data-stage]')].length") >= 2
    assert "time" not in page.texts(".tile dt")


def test_a_training_alone(tmp_path: Path, page: Browser) -> None:
    from gradtape.report import contents, read_run
    from gradtape.report import page as html

    (tmp_path / "curve.csv").write_text("step,loss,accuracy\n1,2.0,0.1\n2,1.5,0.3\n3,1.2,\n")
    (tmp_path / "report.html").write_text(html(contents({}, training=read_run(tmp_path / "curve.csv"))), "utf-8")
    page.open(tmp_path / "report.html")
    assert len(page.all("#training figure")) == 2 and page.all("#graph") == []


@pytest.mark.slow
def test_twelve_layers_open_in_two_seconds(tmp_path: Path, page: Browser) -> None:
    path = gpt(12).report(tmp_path / "report.html")
    assert path.stat().st_size < 5e6
    taken = []
    for _ in range(5):  # the quickest of five: other processes may hold the CPUs
        page.open(path)
        taken.append(page.js("return performance.getEntriesByName('ready')[0].startTime"))
    assert min(taken) < 2000, taken


def test_twelve_layers_are_not_much_larger_than_three(gpt_report: Path, tmp_path: Path) -> None:
    """What opening takes follows from the file's size and from what is drawn at first, which is as much."""
    from gradtape.report.html import LIBRARIES, _read

    libraries = sum(len(_read("vendor", name)) for name in LIBRARIES)
    assert gpt_report.stat().st_size - libraries < 4 * 250_000
