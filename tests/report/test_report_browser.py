"""The page in a real browser without a screen: nothing complains, nothing is fetched, and everybody can read it."""

from __future__ import annotations

import os
import shutil

import pytest
from hostile_report import write_hostile_report

SECONDS = 120  # to wait for a browser on a busy machine
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1200, "height": 900}
# Colours of every element that has text of its own, and of the nearest background behind it.
CONTRASTS = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = channels(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const worst = {};
  for (const node of document.querySelectorAll("body *")) {
    const text = [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
    if (!text || node.closest("style") || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const ink = node.ownerSVGElement ? style.fill : style.color;
    const [a, b] = [light(channels(ink)), light(behind(node))].sort((x, y) => y - x);
    const name = node.tagName + "." + (node.getAttribute("class") || "");
    worst[name] = Math.min(worst[name] ?? 99, (a + 0.05) / (b + 0.05));
  }
  return worst;
}"""


def absent(why):
    """Skip, or fail where FIGCLIP_REQUIRE_BROWSER=1 says that there must be a browser."""
    if os.environ.get("FIGCLIP_REQUIRE_BROWSER") == "1":
        pytest.fail(why)
    pytest.skip(why)


@pytest.mark.parametrize(("asked", "raised"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_browser_fails_where_one_is_required(monkeypatch, asked, raised):
    monkeypatch.setenv("FIGCLIP_REQUIRE_BROWSER", asked)
    with pytest.raises(raised, match="why"):
        absent("why")


@pytest.fixture(scope="module")
def browser():
    """A headless browser of this machine."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        absent("there is no chromium on this machine: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright is not installed: pip install playwright")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu"], timeout=SECONDS * 1000
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_hostile_report(tmp_path_factory.mktemp("hostile"))[0]


@pytest.fixture(scope="module")
def opened(browser, path):
    """The page on a phone, in the dark, with everything that it said and asked for while it was opened."""
    page = browser.new_page(viewport=PHONE, color_scheme="dark")
    page.set_default_timeout(SECONDS * 1000)
    heard, asked = [], []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: heard.append("a dialog") or dialog.dismiss())
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    page.wait_for_load_state("networkidle")
    return page, heard, asked


def test_it_says_nothing_and_fetches_nothing(opened, path):
    page, heard, asked = opened
    assert page.title().startswith("Report: ")
    assert not heard
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


def test_hostile_texts_do_nothing(opened):
    page, _, _ = opened
    assert page.evaluate("window.owned") is None
    assert page.locator("script, iframe, object, [onerror], [onload], [onfocus], [autofocus]").count() == 0


def test_a_phone_shows_it_without_scrolling_sideways(opened):
    page, _, _ = opened
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    widths = page.evaluate("[...document.querySelectorAll('main svg')].map((one) => one.getBoundingClientRect().width)")
    assert widths and all(100 < width <= PHONE["width"] for width in widths)
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('svg text')].map((one) => one.getBoundingClientRect().height))"
    )
    assert smallest >= 8


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_stands_out(opened, scheme):
    page, _, _ = opened
    page.emulate_media(color_scheme=scheme)
    found = page.evaluate(CONTRASTS)
    assert {"P.", "TD.", "text."} <= set(found) and len(found) > 15
    assert not {name: ratio for name, ratio in found.items() if ratio < 4.5}
    assert (page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)") == (
        scheme == "light"
    )


def test_every_picture_has_a_name(opened):
    page, _, _ = opened
    assert page.locator("img").count() > 20 and page.locator("img:not([alt]), img[alt='']").count() == 0
    assert page.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
    charts = page.locator("svg").all()
    assert len(charts) >= 8
    for chart in charts:
        assert chart.get_attribute("role") == "img"
    names = page.evaluate(
        """[...document.querySelectorAll('svg')].map((one) => one.getAttribute('aria-labelledby').split(' ')
        .map((id) => document.getElementById(id).textContent.trim()))"""
    )
    assert all(all(parts) and len(parts) == 2 for parts in names)


def test_the_keyboard_reaches_everything_and_skips_what_is_known(browser, path):
    page = browser.new_page(viewport=DESK)
    page.set_default_timeout(SECONDS * 1000)
    page.goto(path.as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    unreachable = page.evaluate(
        """[...document.querySelectorAll('.wide')].filter((one) => one.tabIndex !== 0 || !one.getAttribute('aria-label')
        || one.getAttribute('role') !== 'region').length"""
    )
    assert unreachable == 0
    page.close()


def test_tables_and_parts_have_names(opened):
    page, _, _ = opened
    assert page.get_attribute("html", "lang") == "en"
    assert page.locator("main").count() == page.locator("nav[aria-label]").count() == page.locator("h1").count() == 1
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("section[aria-labelledby]").count() == 9


def test_it_prints(opened):
    page, _, _ = opened
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden()
    page.emulate_media(media="screen", color_scheme="dark")
