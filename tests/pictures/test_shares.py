"""Curves of shares: the picture says of how many labels it draws some."""

import xml.etree.ElementTree as ET

from nasnet_keras.pictures.shares import precision_recall_svg

SVG = "{http://www.w3.org/2000/svg}"


def curves(count):
    return [(f"label {place}", [(0.0, 1.0), (1.0, place / count)]) for place in range(count)]


def said(picture):
    return "\n".join(text.text or "" for text in ET.fromstring(picture).iter(f"{SVG}text"))


def test_labels_that_are_left_out_are_told_in_the_picture():
    picture = precision_recall_svg(curves(30), "photos", "with the most <wrong> images")
    assert "the 10 of 30 labels with the most <wrong> images" in said(picture)
    assert "10 of 30 labels" in ET.fromstring(picture).get("aria-label")
    assert "label 9" in picture and "label 10" not in picture
    assert "10 of 11 labels that come first" in said(precision_recall_svg(curves(11)))


def test_where_all_are_drawn_nothing_is_said():
    for count in (0, 1, 10):
        assert " of " not in said(precision_recall_svg(curves(count)))
