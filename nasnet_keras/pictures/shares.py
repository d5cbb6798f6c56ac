"""Curves of one share over another as SVG: whether probabilities can be believed, precision over recall."""

from nasnet_keras.pictures.cells import INK, MUTED, document, escape, number
from nasnet_keras.pictures.curves import GRID

SIDE, LEFT, TOP, BOTTOM, RIGHT = 340.0, 64.0, 58.0, 62.0, 240.0
COLOURS = ("#2f6fb3", "#d97706", "#15803d", "#c0262d", "#7c3aed", "#0e7490", "#a16207", "#be185d", "#4d7c0f", "#475569")
LONGEST = 26  # characters of a name


def reliability_svg(bins: list[dict], title: str = "") -> str:
    """Draw how often a model is right beside how sure it is.

    Args:
        bins: dicts with `confidence` (mean probability of the answer), `accuracy` and `images`, the least sure first.
        title: a heading inside the picture.

    Returns:
        A self-contained SVG document: a dot for each bin, larger for more images; below the diagonal the model is surer
        than it should be. At the bottom the share of images in each bin.
    """
    shown = [one for one in bins if one["images"]]
    total = sum(one["images"] for one in shown) or 1
    parts = [_line([(0, 0), (1, 1)], MUTED, 'stroke-dasharray="4 4"')]
    for one in shown:
        width, height = SIDE / max(len(bins), 1) - 3, 0.3 * SIDE * one["images"] / total
        x, y = _at(one["confidence"], 0)
        parts.append(
            f'<rect x="{number(x - width / 2)}" y="{number(y - height)}" width="{number(width)}" '
            f'height="{number(height)}" fill="{COLOURS[0]}" fill-opacity="0.15"/>\n'
        )
    parts.append(_line([(one["confidence"], one["accuracy"]) for one in shown], COLOURS[0]))
    for one in shown:
        x, y = _at(one["confidence"], one["accuracy"])
        tip = f"{one['images']:,} images: {one['confidence']:.0%} sure, {one['accuracy']:.0%} right"
        radius = 3 + 6 * (one["images"] / total) ** 0.5
        parts.append(
            f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" fill="{COLOURS[0]}">'
            f"<title>{escape(tip)}</title></circle>\n"
        )
    notes = [("right as often as sure", MUTED), ("the model", COLOURS[0]), ("share of images (bars)", COLOURS[0])]
    return _square(parts, notes, title or "Calibration", "how sure the answer is", "how often it is right")


def precision_recall_svg(
    curves: list[tuple[str, list[tuple[float, float]]]], title: str = "", order: str = "that come first"
) -> str:
    """Draw precision over recall.

    Args:
        curves: (a label's name, its (recall, precision) points); the first ten are drawn, and of how many is said.
        title: a heading inside the picture.
        order: which the first ten are, such as "with the most wrong images".

    Returns:
        A self-contained SVG document.
    """
    parts, notes = [], []
    for (name, points), colour in zip(curves, COLOURS, strict=False):
        parts.append(_line(points, colour, tip=name))
        notes.append((name, colour))
    drawn = "" if len(curves) <= len(COLOURS) else f"the {len(COLOURS)} of {len(curves)} labels {order}"
    return _square(parts, notes, title or "Precision over recall", "recall", "precision", drawn)


def _at(x, y):
    return LEFT + SIDE * x, TOP + SIDE * (1 - y)


def _line(points, colour, more="", tip=""):
    if not points:
        return ""
    path = "L".join("{} {}".format(*map(number, _at(x, y))) for x, y in points)
    tip = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2" {more}>{tip}</path>\n'


def _square(parts, notes, title, x_label, y_label, under=""):
    width, height = LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM
    frame = [f'<text x="20" y="32" font-size="15" font-weight="600" fill="{INK}">{escape(title)}</text>\n']
    if under:
        frame.append(_text(20, 50, under, "start"))
    for step in range(6):
        share = step / 5
        x, y = _at(share, share)
        frame.append(f'<path d="M{number(LEFT)} {number(y)}h{number(SIDE)}M{number(x)} {number(TOP)}v{number(SIDE)}" ')
        frame.append(f'stroke="{GRID}"/>\n')
        frame.append(_text(LEFT - 9, y + 4.5, f"{share:.0%}", "end"))
        frame.append(_text(x, TOP + SIDE + 20, f"{share:.0%}"))
    frame.append(_text(LEFT + SIDE / 2, TOP + SIDE + 44, x_label))
    turn = f'transform="translate(18 {number(TOP + SIDE / 2)}) rotate(-90)"'
    frame.append(f'<text {turn} text-anchor="middle" fill="{MUTED}">{escape(y_label)}</text>\n')
    for place, (name, colour) in enumerate(notes):
        y = TOP + 14 + 22 * place
        short = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
        frame.append(f'<path d="M{number(LEFT + SIDE + 20)} {number(y - 4)}h18" stroke="{colour}" stroke-width="3"/>')
        frame.append(f'<text x="{number(LEFT + SIDE + 46)}" y="{number(y)}" fill="{INK}">')
        frame.append(f"<title>{escape(name)}</title>{escape(short)}</text>\n")
    return document(width, height, f"{title}; {under}" if under else title, frame + parts)


def _text(x, y, text, anchor="middle"):
    return f'<text x="{number(x)}" y="{number(y)}" text-anchor="{anchor}" fill="{MUTED}">{escape(text)}</text>\n'
