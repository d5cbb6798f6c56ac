"""Exported files side by side: a well-formed picture whose bars are as long as its numbers say."""

from xml.etree import ElementTree

import pytest

from nasnet_keras.pictures.comparison import BAR, comparison_svg

ROWS = [
    {"name": "the model", "bytes": None, "milliseconds": 20.0, "accuracy": 0.5},
    {"name": "<int8> & co", "bytes": 2_000_000, "milliseconds": 5.0, "accuracy": 0.25},
    {"name": "float32", "bytes": 8_000_000, "milliseconds": 10.0, "accuracy": 1.0},
]


def test_bars_are_as_long_as_numbers_say():
    root = ElementTree.fromstring(comparison_svg(ROWS, "<title>"))
    _, *bars = root.iter("{http://www.w3.org/2000/svg}rect")
    widths = [float(bar.get("width")) / BAR for bar in bars]
    assert widths == pytest.approx([0.25, 1, 1, 0.25, 0.5, 0.5, 0.25, 1], abs=0.01)
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"<title>", "<int8> & co", "2.00 MB", "5.0 ms", "25.0%"} <= set(texts)
    assert "the model: 50.0%, 20.0 ms" in root.get("aria-label")


def test_another_measure_has_its_name():
    rows = [{"mean_average_precision": row["accuracy"], **row} for row in ROWS]
    for row in rows:
        del row["accuracy"]
    root = ElementTree.fromstring(comparison_svg(rows, "", "mean_average_precision"))
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "mean average precision" in texts and "right" not in texts and "25.0%" in texts
    _, *bars = root.iter("{http://www.w3.org/2000/svg}rect")
    assert float(bars[-1].get("width")) == pytest.approx(BAR, abs=0.1)


def test_a_single_row_is_drawn():
    ElementTree.fromstring(comparison_svg([{**ROWS[0], "milliseconds": 0.0, "accuracy": 0.0}]))
