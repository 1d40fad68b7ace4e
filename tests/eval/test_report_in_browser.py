"""The report as a browser shows it: on a phone and a desk, light and dark, and on paper."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from eval.report.page import write_report
from tests.support.browser import Browser, find_browser

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium on this machine")
    with Browser(executable, tmp_path_factory.mktemp("profile")) as started:
        yield started


WITHIN = "document.documentElement.scrollWidth"
CONTRASTS = """
(() => {
  const light = (text) => {
    const parts = text.match(/[0-9.]+/g).slice(0, 3).map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim());
    if (!own || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(node.closest("svg") ? style.fill : style.color), light(behind(node))];
    found.push((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return Math.min(...found);
})()
"""


@pytest.mark.parametrize("which", ["full", "bare"])
@pytest.mark.parametrize(("width_px", "dark"), [(390, False), (1200, True)])
def test_a_browser_shows_it(browser, which, width_px, dark, tmp_path, request) -> None:
    path = tmp_path / "report.html"
    write_report(path, request.getfixturevalue(which))
    browser.open(path, width_px, dark=dark)
    assert browser.complaints == []
    assert [u for u in browser.requests if not u.startswith("data:image/")] == [path.as_uri()]
    assert browser.run(WITHIN) <= width_px
    assert browser.run("typeof window.broken") == "undefined"
    assert browser.run("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    assert browser.run(CONTRASTS) >= 4.5
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 150) == dark


def test_neighbours_open_with_the_keyboard(browser, full, tmp_path) -> None:
    write_report(tmp_path / "report.html", full)
    browser.open(tmp_path / "report.html", 390)
    card = "document.querySelectorAll('details.card:not([open])')[0]"
    browser.run(f"window.card = {card}; card.querySelector('summary').focus()")
    assert not browser.run("card.querySelector('ol').checkVisibility()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r")
    assert browser.run("card.open && card.querySelector('ol').checkVisibility()")
    assert browser.run(WITHIN) <= 390


def test_it_prints_on_a_few_pages(browser, full, tmp_path) -> None:
    write_report(tmp_path / "report.html", full)
    browser.open(tmp_path / "report.html", 1200, dark=True)
    pages = len(re.findall(rb"/Type\s*/Page\b", browser.pdf()))
    assert 3 <= pages <= 12
