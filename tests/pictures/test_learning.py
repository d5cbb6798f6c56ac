"""Learning curves: every figure is at its place, and what stands in a history cannot break out."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

from nasnet_keras.pictures.learning import learning_curves_svg

SVG = "{http://www.w3.org/2000/svg}"


def epochs(count, prefix=""):
    return [
        {
            "epoch": index + 1,
            "loss": 2.0 / (index + 1),
            f"{prefix}accuracy": 0.1 * index,
            "val_loss": 2.5 / (index + 1),
            f"val_{prefix}accuracy": 0.08 * index,
        }
        for index in range(count)
    ]


def lines(svg, side):
    """The points of each line of a side, from the top plot down."""
    root = ET.fromstring(svg)
    paths = [path.get("d") for path in root.iter(f"{SVG}path") if path.get("class") == side]
    return [[tuple(map(float, point.split())) for point in re.split("[ML]", path)[1:]] for path in paths]


@pytest.mark.parametrize("prefix", ["", "predictions_"])
def test_the_lines_are_the_figures(prefix):
    history = epochs(6, prefix)
    svg = learning_curves_svg(history, "Net", best=4)
    for side, start in (("training", ""), ("validation", "val_")):
        loss, accuracy = lines(svg, side)
        for line, key in ((loss, f"{start}loss"), (accuracy, f"{start}{prefix}accuracy")):
            values = [epoch[key] for epoch in history]
            assert len(line) == 6 and [x for x, _ in line] == sorted(x for x, _ in line)
            # Heights are a linear function of the figures, and greater ones are higher.
            slopes = {
                round((b[1] - a[1]) / (two - one), 1)
                for a, b, one, two in zip(line, line[1:], values, values[1:], strict=False)
            }
            assert max(slopes) - min(slopes) < 0.05 * abs(min(slopes)) and max(slopes) < 0
    (best,) = [path.get("d") for path in ET.fromstring(svg).iter(f"{SVG}path") if path.get("class") == "best"][:1]
    assert best.startswith(f"M{lines(svg, 'training')[0][3][0]:g} ")


def test_a_single_epoch_without_validation_and_what_is_no_number():
    history = [{"epoch": 1, "loss": 1.0, "accuracy": 0.5}]
    svg = learning_curves_svg(history)
    assert lines(svg, "validation") == [] and [len(line) for line in lines(svg, "training")] == [1, 1]
    svg = learning_curves_svg([*history, {"loss": math.nan, "accuracy": "</svg>"}], "</text><script>")
    ET.fromstring(svg)
    assert "<script>" not in svg and [len(line) for line in lines(svg, "training")] == [1, 1]


@pytest.mark.parametrize("wrong", [[], None, [1], "text"])
def test_what_is_no_history(wrong):
    with pytest.raises(ValueError, match="`epochs` must be a list of dicts, at least one"):
        learning_curves_svg(wrong)
