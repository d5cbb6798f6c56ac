"""Exported files side by side as SVG: how large they are, how long an image takes, how often they are right."""

from nasnet_keras.pictures.cells import CARD_LINE, FONT, INK, MUTED, escape, number

LEFT, TOP, ROW, COLUMN, BAR, RIGHT, BOTTOM = 190.0, 84.0, 30.0, 190.0, 104.0, 16.0, 20.0
SHARE = "#15803d"
COLUMNS = (("size", "#2f6fb3"), ("one image", "#d97706"))


def comparison_svg(rows: list[dict], title: str = "", measure: str = "accuracy") -> str:
    """Draw files beside the model that they were made of.

    Args:
        rows: dicts with `name`, `bytes` (None where nothing was written), `milliseconds` for one image, and under the
            name of the measure a share; the first is the model.
        title: what it is measured on.
        measure: such as `mean_average_precision`.

    Returns:
        A self-contained SVG document: a row for each, and in it a bar for each of the three numbers.
    """
    shares = ("right" if measure == "accuracy" else measure.replace("_", " "), SHARE)
    headings = (*COLUMNS, shares)
    width, height = LEFT + COLUMN * len(headings) + RIGHT, TOP + ROW * len(rows) + BOTTOM
    parts = [
        f'<text x="20" y="32" font-size="15" font-weight="600" fill="{INK}">What the exported files cost</text>',
        f'<text x="20" y="52" fill="{MUTED}">{escape(title)}</text>',
    ]
    columns = [
        [None if row["bytes"] is None else (row["bytes"], f"{row['bytes'] / 1e6:.2f} MB") for row in rows],
        [(row["milliseconds"], f"{row['milliseconds']:.1f} ms") for row in rows],
        [(row[measure], f"{row[measure]:.1%}") for row in rows],
    ]
    for place, ((name, colour), values) in enumerate(zip(headings, columns, strict=True)):
        x, most = LEFT + COLUMN * place, max((value for value, _ in filter(None, values)), default=0) or 1
        parts.append(f'<text x="{number(x)}" y="{number(TOP - 10)}" fill="{MUTED}">{name}</text>')
        for line, value in enumerate(values):
            if value is None:
                continue
            length, y = BAR * (1 if colour == SHARE else 1 / most) * value[0], TOP + ROW * line
            parts.append(
                f'<rect x="{number(x)}" y="{number(y + 4)}" width="{number(length)}" height="18" rx="2" '
                f'fill="{colour}"/>'
                f'<text x="{number(x + length + 6)}" y="{number(y + 18)}" fill="{INK}">{value[1]}</text>'
            )
    for line, row in enumerate(rows):
        parts.append(f'<text x="20" y="{number(TOP + ROW * line + 18)}" fill="{INK}">{escape(row["name"][:28])}</text>')
    told = "; ".join(f"{row['name']}: {row[measure]:.1%}, {row['milliseconds']:.1f} ms" for row in rows)
    size = number(width), number(height)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {" ".join(size)}" width="{size[0]}" height="{size[1]}" '
        f'role="img" aria-label="{escape(told)}" font-family="{FONT}" font-size="13" '
        f'style="max-width:100%;height:auto"><rect x="0.5" y="0.5" width="{number(width - 1)}" '
        f'height="{number(height - 1)}" rx="10" fill="#ffffff" stroke="{CARD_LINE}"/>{"".join(parts)}</svg>\n'
    )
