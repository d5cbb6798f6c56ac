"""What a classifier takes for what, as SVG: a row for each true class, a column for each answer."""

from nasnet_keras.checks import names_of
from nasnet_keras.pictures.cells import CARD_LINE, INK, MUTED, document, escape, number

MOST = 40  # classes that are drawn one by one
RIGHT, WRONG, NEUTRAL = (21, 128, 61), (194, 65, 12), (148, 158, 170)  # colours of a whole row's share
MARGIN, TITLE, AXIS = 20.0, 30.0, 26.0
CHARACTER, LONGEST = 7.2, 24  # width of a label's character, and characters shown of one
SHARES = 58.0  # width of the column with the recalls, height of the row with the precisions


def confusion_svg(matrix: list[list[int]], class_names: list[str], title: str = "") -> str:
    """Draw a confusion matrix.

    Args:
        matrix: for each true class a row with the number of its images that were taken for each class.
        class_names: a name for each class; any text.
        title: a heading inside the picture.

    Returns:
        A self-contained SVG document: a cell's colour is its share of the row, green where the answer is
        right. At the right stands each class's recall, below its precision. Of more than 40 classes the
        40 with the most wrong images are drawn, the others together.

    Raises:
        ValueError: the matrix is not square, or the names are of another number.

    Examples:
        >>> from nasnet_keras import confusion_svg
        >>> confusion_svg([[9, 1], [2, 8]], ["cat", "dog"]).startswith("<svg")
        True
    """
    class_names = names_of("class_names", class_names)
    count = len(class_names)
    if count < 1 or len(matrix) != count or any(len(row) != count for row in matrix):
        raise ValueError(f"`matrix` must have {count} rows and columns, one for each of `class_names`")
    hits = _share(sum(row[place] for place, row in enumerate(matrix)), sum(map(sum, matrix)))
    matrix, names, others = _merged(matrix, list(class_names))
    size = 46.0 if len(names) <= 10 else max(22.0, 460.0 / len(names))
    words = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
    label = CHARACTER * max(map(len, words)) + 14
    left = MARGIN + AXIS + label
    top = MARGIN + (TITLE if title else 0) + AXIS + 0.72 * label + 6
    side = size * len(names)
    width = max(left + side + max(SHARES, 0.72 * label) + MARGIN, 9.0 * len(title) + 2 * MARGIN)
    height = top + side + SHARES - 18 + MARGIN
    columns = [sum(row[place] for row in matrix) for place in range(len(names))]
    parts = []
    if title:
        parts.append(_text(MARGIN, MARGIN + 14, title, INK, size=15, anchor="start", weight=600))
    for place, (row, word, name) in enumerate(zip(matrix, words, names, strict=True)):
        y, x = top + size * place + size / 2 + 4, left + size * place + size / 2
        total, right = sum(row), row[place]
        tip = f"<title>{escape(name)}</title>"
        parts.append(_text(left - 8, y, word, INK, anchor="end", tip=tip))
        turn = f'transform="translate({number(x)} {number(top - 8)}) rotate(-46)"'
        parts.append(f'<text {turn} text-anchor="start" fill="{INK}">{tip}{escape(word)}</text>\n')
        merged = others and place == len(names) - 1  # of classes drawn together nobody knows what was right
        parts.append(_text(left + side + 10, y, "" if merged else _share(right, total), MUTED, anchor="start"))
        share = "" if merged else _share(right, columns[place])
        parts.append(_text(x, top + side + 20, share, MUTED, size=13 if size >= 36 else 9))
        for other, value in enumerate(row):
            corner = merged and other == place
            tip = f"{name} taken for {names[other]}: {value:,} ({_share(value, total)})"
            colour = NEUTRAL if corner else RIGHT if other == place else WRONG
            parts.append(_cell(left + size * other, top + size * place, size, value, total, colour, tip))
    parts.append(
        f'<rect x="{number(left)}" y="{number(top)}" width="{number(side)}" height="{number(side)}" fill="none" '
        f'stroke="{MUTED}"/>\n'
    )
    middle = f"translate({number(MARGIN + 10)} {number(top + side / 2)}) rotate(-90)"
    parts.append(f'<text transform="{middle}" fill="{MUTED}" text-anchor="middle">true class</text>\n')
    parts.append(_text(left + side / 2, MARGIN + (TITLE if title else 0) + 12, "taken for", MUTED))
    parts.append(_text(left + side + 10, top + side + 20, "recall", MUTED, anchor="start"))
    parts.append(_text(left - 8, top + side + 20, "precision", MUTED, anchor="end"))
    description = f"{title or 'Confusion matrix'}: {hits} right"
    return document(width, height, description, parts)


def most_confused(matrix: list[list[int]], most: int) -> list[int]:
    """Numbers of the classes with the most wrong images, in the order of the classes.

    Args:
        matrix: as for `confusion_svg`.
        most: how many at most.
    """
    wrong = [sum(row) - 2 * row[place] for place, row in enumerate(matrix)]
    for row in matrix:
        for place, value in enumerate(row):
            if value:
                wrong[place] += value
    return sorted(sorted(range(len(matrix)), key=lambda place: (-wrong[place], place))[:most])


def _merged(matrix, names):
    """The matrix with at most `MOST` classes and one row and column for all others; how many those are."""
    if len(names) <= MOST:
        return matrix, names, 0
    shown = most_confused(matrix, MOST)
    places = [MOST] * len(names)
    for place, index in enumerate(shown):
        places[index] = place
    small = [[0] * (MOST + 1) for _ in range(MOST + 1)]
    for row, true in zip(matrix, places, strict=True):
        for value, taken in zip(row, places, strict=True):
            if value:
                small[true][taken] += value
    others = len(names) - MOST
    return small, [*(names[index] for index in shown), f"{others:,} others"], others


def _cell(x, y, size, value, total, colour, tip):
    share = value / total if total else 0.0
    mixed = "#" + "".join(f"{round(255 + (part - 255) * share**0.7):02x}" for part in colour)
    place = f'x="{number(x)}" y="{number(y)}" width="{number(size)}" height="{number(size)}"'
    drawn = f'<rect {place} fill="{mixed}" stroke="{CARD_LINE}" stroke-width="0.6"/>'
    if value and (size >= 30 or value < 100):
        ink = "#ffffff" if share > 0.55 else INK
        font = 13 if size >= 40 and value < 10_000 else 10
        drawn += _text(x + size / 2, y + size / 2 + 0.35 * font, f"{value}", ink, size=font).rstrip()
    return f"<g><title>{escape(tip)}</title>{drawn}</g>\n"


def _share(part, whole):
    return f"{100 * part / whole:.0f}%" if whole else "–"


def _text(x, y, text, colour, size=None, anchor="middle", weight=None, tip=""):
    style = "".join(f' {key}="{value}"' for key, value in (("font-size", size), ("font-weight", weight)) if value)
    place = f'x="{number(x)}" y="{number(y)}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}"{style}>{tip}{escape(text)}</text>\n'
