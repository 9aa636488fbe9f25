"""The page in a real browser: no request, no injection, accessible, readable without scripts and under a CI server's policy."""

from __future__ import annotations

import functools
import http.server
import io
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from nncheck.report.html import to_fragment, to_html
from tests.report import golden
from tests.report.marked import marked

# What Jenkins sends with the files of a build.
CI_POLICY = "sandbox; default-src 'none'; img-src 'self'; style-src 'self'"

# A system's Chromium; without one, the browser that `playwright install chromium` brought.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The pages, as a CI server gives them out: under /strict/ with its policy, else with none."""
    folder = tmp_path_factory.mktemp("site")
    pages = {
        "one.html": to_html(golden.report()),
        "good.html": to_html(golden.report(golden.healthy())),
        "marked.html": to_html(marked()),
        "several.html": to_html(golden.report(golden.healthy(), golden.target(), golden.unusable())),
        "cell.html": f'<!doctype html><html lang="en"><title>cell</title><body><p id="outside">outside</p><main>'
        f"{to_fragment(golden.report())}</main>",
    }
    # A browser asks for it by itself where no policy of ours forbids it.
    (folder / "favicon.ico").touch()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            return super().translate_path(path.removeprefix("/strict"))

        def end_headers(self) -> None:
            if self.path.startswith("/strict"):
                self.send_header("Content-Security-Policy", CI_POLICY)
            super().end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


Opened = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Opened]:
    """Opens a page; fails the test if it asks for anything, complains, or lets a name run."""
    contexts: list[BrowserContext] = []
    requests: list[str] = []
    errors: list[str] = []

    def visit(path: str, **options: object) -> Page:
        context = browser.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        if not path.startswith("/strict"):
            page.on("console", lambda message: errors.append(message.text))
            page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(site + path)
        return page

    yield visit
    for context in contexts:
        context.close()
    asked = [url for url in requests if not url.startswith("data:") and not url.partition("#")[0].endswith(".html")]
    assert [url for url in asked if not url.endswith("/favicon.ico")] == []
    assert errors == []


PAGES = ["/one.html", "/good.html", "/marked.html", "/several.html"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_accessible(visit: Opened, path: str, scheme: str) -> None:
    page = visit(path, color_scheme=scheme)
    for unfolded in (False, True):
        if unfolded:
            page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        results = Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("window.pwned") is None


@pytest.mark.parametrize("width", [360, 800, 1400])
@pytest.mark.parametrize("path", PAGES)
def test_fits_the_window(visit: Opened, path: str, width: int) -> None:
    page = visit(path, viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_phone_gives_pictures_its_width(visit: Opened) -> None:
    page = visit("/one.html#overfit-batch", viewport={"width": 360, "height": 800})
    box = page.locator("tr[id=overfit-batch] svg").bounding_box()
    assert box is not None
    assert box["width"] > 300
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_the_answer_is_on_the_first_screen(visit: Opened) -> None:
    page = visit("/one.html", viewport={"width": 1280, "height": 720})
    assert page.locator("h1").inner_text() == "3 problems found, and 2 warnings"
    for text in ("Start with batch-mixing: 58 of 240 sample pairs", "3 failed", "SmallCNN"):
        box = page.get_by_text(text).first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 720


def test_without_scripts_everything_can_be_read(visit: Opened) -> None:
    page = visit("/one.html", java_script_enabled=False)
    for result in golden.target().checks:
        assert page.locator(f"[id='{result.id}']").is_visible()
    fold = page.locator("tr[id=overfit-batch] details")
    assert not fold.locator("svg").is_visible()
    fold.locator("summary").click()
    assert fold.locator("svg").is_visible()
    assert fold.get_by_text("Known limits").is_visible()
    assert page.locator("button").first.is_hidden()


def test_deep_link_unfolds(visit: Opened) -> None:
    page = visit("/one.html#overfit-batch")
    assert page.locator("tr[id=overfit-batch] svg").is_visible()
    page.locator("ol.found a", has_text="dead-relu").click()
    assert page.url.endswith("#dead-relu")
    box = page.locator("article[id=dead-relu]").bounding_box()
    assert box is not None
    assert abs(box["y"]) < 100
    assert visit("/several.html#target-2--overfit-batch").locator("[id='target-2--overfit-batch'] svg").is_visible()


def test_copy_as_markdown(visit: Opened) -> None:
    page = visit("/one.html", permissions=["clipboard-read", "clipboard-write"])
    card = page.locator("article[id=loss-at-init]")
    card.get_by_text("Copy as Markdown").click()
    card.get_by_role("button").click()
    card.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == card.locator(".copy pre").inner_text()
    assert copied.startswith("### ✗ failed: `loss-at-init`")


def picture(page: Page, selector: str) -> np.ndarray:
    shot = page.locator(selector).first.screenshot()
    return np.asarray(matplotlib.image.imread(io.BytesIO(shot)))[:, :, :3]


@pytest.mark.parametrize(
    "selector", ["article[id=loss-at-init] svg", "article[id=batch-mixing] svg", "article[id=dead-relu] svg"]
)
def test_pictures_outlive_the_policy_of_a_ci_server(visit: Opened, selector: str) -> None:
    strict, free = (
        picture(visit(path, java_script_enabled=False), selector) for path in ("/strict/one.html", "/one.html")
    )
    for pixels in (strict, free):
        assert (pixels.mean(axis=2) < 0.25).mean() < 0.1  # no black box: ink is thin
        blue = (pixels[:, :, 2] - pixels[:, :, 0] > 0.3).mean()
        assert blue > 0.01


def test_readable_under_the_policy_of_a_ci_server(visit: Opened) -> None:
    page = visit("/strict/one.html")
    assert page.locator("h1").inner_text() == "3 problems found, and 2 warnings"
    # The style sheet is gone, and nothing leans on it.
    assert page.evaluate("getComputedStyle(document.querySelector('.card')).borderTopWidth") == "0px"
    page.locator("tr[id=forward-pass] summary").click()
    assert page.locator("tr[id=forward-pass] img").first.get_attribute("alt") == (
        "label 0, -0.42 to 2.82: 16 by 16 grey picture, bytes 0 to 250, mean 98"
    )
    assert page.evaluate("window.pwned") is None


def test_dark_pictures_take_light_ink(visit: Opened) -> None:
    for scheme, light in (("light", False), ("dark", True)):
        page = visit("/one.html", color_scheme=scheme)
        fill = page.evaluate("getComputedStyle(document.querySelector('article svg text')).fill")
        channels = [int(part) for part in fill.removeprefix("rgb(").rstrip(")").split(",")]
        assert (min(channels) > 150) is light


def test_on_paper_the_folds_are_open(visit: Opened, tmp_path: Path) -> None:
    page = visit("/one.html", java_script_enabled=False)
    shut = page.evaluate("document.documentElement.scrollHeight")
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollHeight") > shut + 1000
    assert page.locator("article[id=loss-at-init] .background").is_visible()
    assert page.locator("tr[id=overfit-batch] svg").is_visible()
    assert not page.locator(".copy").first.is_visible()
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").stat().st_size > 50_000


def test_a_notebook_keeps_its_own_looks(visit: Opened) -> None:
    page = visit("/cell.html")
    assert page.evaluate("getComputedStyle(document.getElementById('outside')).fontFamily").startswith(
        ('"Times', "Times")
    )
    assert page.locator("h1").inner_text() == "3 problems found, and 2 warnings"
    assert page.evaluate("window.pwned") is None
