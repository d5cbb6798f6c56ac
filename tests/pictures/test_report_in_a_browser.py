"""A search's report in a browser: readable in the light and in the dark, on a phone, by name."""

import pytest
from browser import Browser
from test_report import TINY, make_trials

from nasnet_keras.pictures.report import search_report


@pytest.mark.parametrize("width", [360, 1000])
def test_readable_everywhere(width, tmp_path):
    (tmp_path / "report.html").write_text(search_report(make_trials(60), best=TINY), "utf-8")
    browser = Browser(tmp_path / "profile")
    try:
        browser.open((tmp_path / "report.html").as_uri())
        for dark in (False, True):
            browser.screen(width, 900, dark)
            assert browser.pale() == []
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert all(browser.names()) and browser.complaints == []
        nameless = "[...document.querySelectorAll('main svg:not(svg svg)')].filter(one => !one.querySelector('title') "
        assert browser.evaluate(f"{nameless}&& !one.ariaLabel && !one.ariaHidden).length") == 0
        browser.press("Tab")
        assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    finally:
        browser.close()
