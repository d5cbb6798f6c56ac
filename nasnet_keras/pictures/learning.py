"""The learning curves of a training, as SVG: loss and accuracy over its epochs, of training and validation images."""

from nasnet_keras.pictures.cells import INK, MUTED, document, escape, number
from nasnet_keras.pictures.curves import BEST, BOTTOM, DOT, LEFT, MEAN, PLOT, RIGHT, WIDTH, axes, finite, scale

HIGH, GAP, HEAD = 0.7 * PLOT, 46.0, 58.0  # the height of each of the two plots, what is between them, and above
# By which names a history has them; of several labels an image the share of labels that are told right.
NAMES = ("predictions_accuracy", "accuracy", "predictions_label_accuracy", "label_accuracy")
FIGURES = {"loss": ("loss",), "accuracy": NAMES}


def learning_curves_svg(epochs: list[dict], title: str = "", best: int | None = None) -> str:
    """Draw a training.

    Args:
        epochs: its history: a dict an epoch with `epoch`, `loss`, `accuracy`, `val_loss` and `val_accuracy` as far as
            they are known. With an auxiliary head it is the accuracy of the predictions.
        title: a heading inside the picture.
        best: place in the list, from 1, of the epoch whose weights count; None for none.

    Returns:
        A self-contained SVG document with two plots above each other.

    Raises:
        ValueError: `epochs` is no list of dicts, or empty.
    """
    if not isinstance(epochs, list | tuple) or not epochs or not all(isinstance(epoch, dict) for epoch in epochs):
        raise ValueError(f"`epochs` must be a list of dicts, at least one. Received: {str(epochs)[:80]!r}")
    parts = [f'<text x="20" y="30" font-size="15" font-weight="600" fill="{INK}">{escape(title)}</text>\n']
    words, top = [], HEAD
    for name, keys in FIGURES.items():
        lines = {side: _values(epochs, [prefix + key for key in keys]) for side, prefix in SIDES.items()}
        parts += _plot(name, lines, len(epochs), top, best)
        top += HIGH + BOTTOM + GAP
        last = {side: values[max(values)] for side, values in lines.items() if values}
        words += [f"{side} {name} {value:.4g}" for side, value in last.items()]
    height = top - GAP
    about = f"{title or 'Learning curves'}: {len(epochs)} epochs; at the end {', '.join(words) or 'no figures'}"
    return document(WIDTH, height, f"{about}.", parts)


SIDES = {"training": "", "validation": "val_"}
COLOURS = {"training": DOT, "validation": MEAN}


def _values(epochs, keys):
    """{place from 1: figure} of what the epochs have under the first of some keys that they know."""
    for key in keys:
        found = {place: epoch[key] for place, epoch in enumerate(epochs, 1) if finite(epoch.get(key))}
        if found:
            return found
    return {}


def _plot(name, lines, count, top, best):
    values = [value for line in lines.values() for value in line.values()]
    low, high, ticks = scale(min(values, default=0.0), max(values, default=1.0))
    floor, right = top + HIGH, WIDTH - RIGHT

    def at_x(place):
        return LEFT + 12 + (right - LEFT - 24) * ((place - 1) / (count - 1) if count > 1 else 0.5)

    def at_y(value):
        return floor - HIGH * (value - low) / (high - low)

    parts = axes(floor, ticks, at_x, at_y, count, ("epoch", name), HIGH)
    if best is not None:
        x = number(at_x(best))
        parts.append(
            f'<path class="best" d="M{x} {number(top)}V{number(floor)}" stroke="{BEST}" stroke-dasharray="4 4">'
            f"<title>the epoch whose weights count</title></path>\n"
        )
    for index, (side, line) in enumerate(lines.items()):
        if not line:
            continue
        points = [f"{number(at_x(place))} {number(at_y(value))}" for place, value in line.items()]
        colour = COLOURS[side]
        parts.append(f'<path class="{side}" d="M{"L".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>\n')
        if count <= 50:
            parts += [
                f'<circle cx="{number(at_x(place))}" cy="{number(at_y(value))}" r="3" fill="{colour}">'
                f"<title>epoch {place}: {side} {name} {value:.4g}</title></circle>\n"
                for place, value in line.items()
            ]
        x, y = number(LEFT + 8 + 110 * index), number(top - 8)
        parts.append(f'<path d="M{x} {number(top - 12)}h18" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{number(LEFT + 32 + 110 * index)}" y="{y}" fill="{MUTED}">{side}</text>\n')
    return parts
