"""A cell as a picture in SVG, drawn as in figure 4 of Zoph et al. 2018 (arXiv 1707.07012).

It is read from the bottom, where the cell's inputs are, to the top, where its output is.
A block is a pair of operations joined by its combination. What never reaches the output is
drawn faded. The pictures need nothing from outside: no style sheet, font or script. They
have no ids either, so that many of them can stand in one HTML page.
"""

import html
import re
from itertools import pairwise

from nasnet_keras.genotype import Block, CellGenotype, Genotype
from nasnet_keras.pictures.layout import cell_layout

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK, MUTED, CARD_LINE = "#1f2933", "#52606d", "#d9dee4"
# Fill and line of each family of boxes; the first four are the operations'.
COLOURS = {
    "separable": ("#fde8b4", "#b7791f"),
    "convolution": ("#fbd3c0", "#b4512c"),
    "pooling": ("#cfe5f8", "#2b6ca3"),
    "identity": ("#eef0f3", "#7b8794"),
    "combine": ("#d5edd2", "#3f8f4b"),
    "concat": ("#f7d6e4", "#b0487d"),
    "output": ("#f7d6e4", "#b0487d"),
}
INPUT_COLOURS = ("#0f766e", "#4338ca", "#b45309", "#be185d", "#1d4ed8", "#4d7c0f")
BLOCK_EDGE = "#4b5563"
FADED = 0.4
MARGIN, CAPTION, BETWEEN = 18.0, 30.0, 32.0

# What stands on an operation's box, one word a line, and its family.
OPERATION_LABELS = {
    "identity": ("identity", "identity"),
    "conv_1x3_3x1": ("1x3 3x1", "convolution"),
    "conv_1x7_7x1": ("1x7 7x1", "convolution"),
    "dil_conv_3x3": ("dilated 3x3", "convolution"),
    "avg_pool_3x3": ("avg 3x3", "pooling"),
    "max_pool_3x3": ("max 3x3", "pooling"),
    "max_pool_5x5": ("max 5x5", "pooling"),
    "max_pool_7x7": ("max 7x7", "pooling"),
    "conv_1x1": ("conv 1x1", "convolution"),
    "conv_3x3": ("conv 3x3", "convolution"),
    "sep_conv_3x3": ("sep 3x3", "separable"),
    "sep_conv_5x5": ("sep 5x5", "separable"),
    "sep_conv_7x7": ("sep 7x7", "separable"),
}
COMBINE_LABELS = {
    "add": "add",
    "concat": "concat",
    "add_layer_norm": "add + layer norm",
    "add_instance_norm": "add + instance norm",
}


def cell_svg(cell: CellGenotype, title: str = "") -> str:
    """Draw one cell.

    Args:
        cell: the cell.
        title: a caption under the drawing; any text.

    Returns:
        A self-contained SVG document in one string, the same for the same arguments. Its groups carry
        `data-box`, and its edges `data-from` and `data-to`, with names such as "input 0",
        "operation 2 0" (of state 2) and "concat".

    Raises:
        ValueError: `cell` is not a `CellGenotype`.

    Examples:
        >>> from nasnet_keras import cell_svg, load_genotype
        >>> cell_svg(load_genotype("nasnet_a").normal, "Normal cell").startswith("<svg")
        True
    """
    if not isinstance(cell, CellGenotype):
        raise ValueError(f"`cell` must be a CellGenotype. Received: {cell!r}")
    return _card([(cell, title)], describe_cell(cell, title))


def genotype_svg(genotype: Genotype) -> str:
    """Draw the Normal and the Reduction cell side by side.

    Args:
        genotype: the genotype.

    Returns:
        A self-contained SVG document, as `cell_svg` gives it.

    Raises:
        ValueError: `genotype` is not a `Genotype`.

    Examples:
        >>> from nasnet_keras import genotype_svg, load_genotype
        >>> genotype_svg(load_genotype("nasnet_a")).startswith("<svg")
        True
    """
    if not isinstance(genotype, Genotype):
        raise ValueError(f"`genotype` must be a Genotype. Received: {genotype!r}")
    cells = [(genotype.normal, "Normal cell"), (genotype.reduction, "Reduction cell")]
    text = " ".join(describe_cell(cell, title) for cell, title in cells)
    return _card(cells, f"{genotype.name}: {text}" if genotype.name else text)


def describe_cell(cell: CellGenotype, title: str = "") -> str:
    """The cell in words, for those who do not see the drawing.

    Args:
        cell: the cell.
        title: how to call it.

    Returns:
        One line of plain text (not escaped).
    """
    blocks = ", ".join(
        f"{_state(cell, state)} = {_words(cell, block)}" for state, block in enumerate(cell.blocks, cell.inputs)
    )
    out = ", ".join(_state(cell, state) for state in cell.concat)
    return f"{title or 'Cell'}: {blocks}; output = {out}."


def escape(value: object) -> str:
    """Any value as text for SVG and HTML, in elements and in quoted attributes.

    Args:
        value: anything; `str` makes text of it. What XML does not allow becomes U+FFFD.

    Returns:
        The escaped text.
    """
    return html.escape("".join(char if _is_xml(ord(char)) else "\ufffd" for char in str(value)))


def document(width: float, height: float, words: str, parts: list[str]) -> str:
    """Elements on a white card, as an SVG document.

    Args:
        width, height: of the card.
        words: what it shows, in words, for those who do not see it; any text.
        parts: the elements.
    """
    x, y = number(width), number(height)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {x} {y}" width="{x}" height="{y}" role="img" '
        f'aria-label="{escape(words)}" font-family="{FONT}" font-size="13" style="max-width:100%;height:auto">\n'
        f'<rect x="0.5" y="0.5" width="{number(width - 1)}" height="{number(height - 1)}" rx="10" fill="#ffffff" '
        f'stroke="{CARD_LINE}"/>\n{"".join(parts)}</svg>\n'
    )


def number(value: float) -> str:
    """A coordinate with at most one decimal, in its shortest form."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _is_xml(code):
    return code in (9, 10, 13) or 0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or code >= 0x10000


def _state(cell, state):
    if state >= cell.inputs:
        return f"block {state - cell.inputs}"
    return ("h[i-1]", "h[i]")[state] if cell.inputs == 2 else f"h[i][{state}]"


def _short(operation):
    """An operation's name as people write it, with the sign of multiplication."""
    return re.sub(r"(\d)x(\d)", "\\1\u00d7\\2", OPERATION_LABELS[operation][0])


def _words(cell, block: Block):
    terms = [
        f"{_short(operation)} of {_state(cell, state)}"
        for operation, state in zip(block.operations, block.inputs, strict=True)
    ]
    return f"{COMBINE_LABELS[block.combine]} ({terms[0]}, {terms[1]})"


def _card(cells, description):
    """Cells side by side on a white card, standing on one line, each above its caption."""
    layouts = [cell_layout(cell) for cell, _ in cells]
    tallest = max(layout.height for layout in layouts)
    caption = CAPTION if any(title for _, title in cells) else 0.0
    left, parts = MARGIN, []
    for layout, (cell, title) in zip(layouts, cells, strict=True):
        width = max(layout.width, 8.5 * len(title))
        shift = number(left + (width - layout.width) / 2), number(MARGIN + tallest - layout.height)
        parts.append(f'<g transform="translate({shift[0]} {shift[1]})">\n{_cell(cell, layout)}</g>\n')
        if title:
            place = f'x="{number(left + width / 2)}" y="{number(MARGIN + tallest + CAPTION - 2)}"'
            parts.append(f'<text {place} font-size="15" font-weight="600" fill="{INK}">{escape(title)}</text>\n')
        left += width + BETWEEN
    size = number(left - BETWEEN + MARGIN), number(tallest + caption + 2 * MARGIN)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" '
        f'height="{size[1]}" role="img" aria-label="{escape(description)}" font-family="{FONT}" '
        f'text-anchor="middle" style="max-width:100%;height:auto">\n'
        f'<rect x="0.5" y="0.5" width="{number(float(size[0]) - 1)}" height="{number(float(size[1]) - 1)}" rx="10" '
        f'fill="#ffffff" stroke="{CARD_LINE}"/>\n{"".join(parts)}</svg>\n'
    )


def _cell(cell, layout):
    """The edges, faded ones lowest, and the boxes above them.

    Edges of one state share their way up to where they part. That is drawn once, or it would look bolder.
    """
    drawn, edges = set(), []
    for edge in sorted(layout.edges, key=lambda edge: not edge.live):
        way = list(pairwise(edge.points))
        while (edge.state, way[0]) in drawn:
            way.pop(0)
        drawn.update((edge.state, step) for step in way)
        edges.append(_edge(edge, way))
    boxes = [_box(cell, key, box) for key, box in layout.boxes.items()]
    return "".join([*reversed(edges), *boxes])


def _edge(edge, way):
    """An edge along steps (start, stop), with an arrow's head where it enters an operation or leaves the cell."""
    colour = INPUT_COLOURS[edge.state % len(INPUT_COLOURS)] if edge.source.startswith("input") else BLOCK_EDGE
    x, y = way[-1][1]
    plain = edge.target.startswith("combine") or edge.target == "output"
    head = "" if plain else f'<path d="M{number(x)} {number(y)}l-3.6 7.2h7.2z" fill="{colour}"/>'
    way = [*way[:-1], (way[-1][0], (x, y if plain else y + 6.0))]
    path = "M{} {}".format(*map(number, way[0][0]))
    for (x0, y0), (x1, y1) in way:
        middle, x0, x1, y1 = map(number, ((y0 + y1) / 2, x0, x1, y1))
        path += f"V{y1}" if x0 == x1 else f"C{x0} {middle} {x1} {middle} {x1} {y1}"
    fade = "" if edge.live else f' opacity="{FADED}"'
    return (
        f'<g{fade}><path class="edge" data-from="{edge.source}" data-to="{edge.target}" d="{path}" fill="none" '
        f'stroke="{colour}" stroke-width="1.6"/>{head}</g>\n'
    )


def _box(cell, key, box):
    """A box with its label, and what it stands for as its tooltip."""
    block = cell.blocks[box.state - cell.inputs] if box.kind in ("operation", "combine") else None
    lines, style, tip, size, radius = _look(cell, box, block)
    fill, line = style
    middle = number(box.x + box.width / 2)
    first = box.y + box.height / 2 + 0.36 * size - (len(lines) - 1) * 7
    label = "".join(
        f'<text x="{middle}" y="{number(first + 14 * row)}" font-size="{size}" fill="{INK}">{text}</text>'
        for row, text in enumerate(lines)
    )
    place = " ".join(f'{name}="{number(getattr(box, name))}"' for name in ("x", "y", "width", "height"))
    fade = "" if box.live else f' opacity="{FADED}"'
    dash = "" if box.live else ' stroke-dasharray="4 3"'
    return (
        f'<g data-box="{key}"{fade}><title>{escape(tip)}</title><rect {place} rx="{radius}" fill="{fill}" '
        f'stroke="{line}" stroke-width="1.2"{dash}/>{label}</g>\n'
    )


def _look(cell, box, block):
    """(lines of the label, fill and line, tooltip, font size, corner radius) of a box."""
    unused = "" if box.live else " (never reaches the output)"
    name = None if box.state is None else _state(cell, box.state)
    if box.kind == "operation":
        operation, source = block.operations[box.side], block.inputs[box.side]
        return (
            _short(operation).split(),
            COLOURS[OPERATION_LABELS[operation][1]],
            f"{name}: {operation} of {_state(cell, source)}{unused}",
            12,
            6,
        )
    if box.kind == "combine":
        tip = f"{name}, state {box.state} = {_words(cell, block)}{unused}"
        return (
            (COMBINE_LABELS[block.combine],),
            COLOURS["combine"],
            tip,
            11 if len(COMBINE_LABELS[block.combine]) > 9 else 12,
            11,
        )
    if box.kind == "concat":
        states = ", ".join(_state(cell, state) for state in cell.concat)
        return ("concat",), COLOURS["concat"], f"the channels, in this order, of {states}", 12, 6
    if box.kind == "input":
        colour = INPUT_COLOURS[box.state % len(INPUT_COLOURS)]
        older = ("the output of the cell before the previous one", "the output of the previous cell")
        what = older[box.state] if cell.inputs == 2 else f"state {box.state} of the previous cell"
        subscript = ("i\u22121", "i")[box.state] if cell.inputs == 2 else f"i, {box.state}"
        return (_hidden(subscript),), ("#ffffff", colour), f"{name}: {what}{unused}", 14, 14
    if box.state is None:
        return (_hidden("i+1"),), COLOURS["output"], "h[i+1]: the output of this cell", 14, 14
    place = cell.concat.index(box.state)
    return (_hidden(f"i+1, {place}"),), COLOURS["output"], f"h[i+1][{place}]: {name}, passed on", 14, 14


def _hidden(subscript):
    return f'<tspan font-style="italic">h</tspan><tspan dy="3.5" font-size="10.5">{subscript}</tspan>'
