"""Cells as pictures: nothing runs behind a box, and the picture says what the genotype says."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasnet_keras.genotype import (
    COMBINATIONS,
    OPERATIONS,
    Block,
    CellGenotype,
    Genotype,
    list_genotypes,
    load_genotype,
)
from nasnet_keras.pictures.cells import cell_svg, describe_cell, genotype_svg
from nasnet_keras.pictures.layout import BLOCKS_IN_A_ROW, Rows, cell_layout

SVG = "{http://www.w3.org/2000/svg}"
STORED = [
    pytest.param(getattr(load_genotype(name), part), id=f"{name}-{part}")
    for name in list_genotypes()
    for part in ("normal", "reduction")
]


@st.composite
def cells(draw):
    inputs = draw(st.sampled_from((2, 2, 2, 3, 4)))
    blocks = []
    for index in range(draw(st.integers(max(1, inputs - 2), 12))):
        newest = inputs + index - 1
        # Half of the choices fall on the newest states, or long chains would be rare.
        state = st.integers(0, newest) | st.integers(max(0, newest - 1), newest)
        operations = st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(OPERATIONS))
        blocks.append(Block(draw(st.tuples(state, state)), draw(operations), draw(st.sampled_from(COMBINATIONS))))
    states = draw(st.permutations(range(inputs + len(blocks))))
    if inputs == 2:
        return CellGenotype(tuple(blocks), tuple(states[: draw(st.integers(1, len(states)))]), inputs)
    # A cell of many states has to use each of them.
    unused = [state for state in range(inputs) if state not in blocks[-1].inputs]
    others = [state for state in states if state not in unused and state != inputs + len(blocks) - 1]
    concat = [*unused, inputs + len(blocks) - 1, *others][:inputs]
    return CellGenotype(tuple(blocks), tuple(concat), inputs)


class Picture:
    """The boxes, edges and texts of an SVG document, in its own coordinates."""

    def __init__(self, svg):
        self.root = ET.fromstring(svg)
        self.size = tuple(float(part) for part in self.root.get("viewBox").split()[2:])
        self.boxes, self.edges, self.labels, self.faded = {}, {}, {}, set()
        for cell, group in enumerate(self.root.findall(f"{SVG}g")):
            dx, dy = map(float, re.fullmatch(r"translate\((\S+) (\S+)\)", group.get("transform")).groups())
            for child in group:
                path = child.find(f"{SVG}path[@class='edge']")
                if path is not None:
                    key = (cell, path.get("data-from"), path.get("data-to"))
                    assert key not in self.edges
                    self.edges[key] = [(x + dx, y + dy) for x, y in sample(path.get("d"))]
                else:
                    key = (cell, child.get("data-box"))
                    assert key not in self.boxes
                    rect = child.find(f"{SVG}rect")
                    x, y, width, height = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
                    self.boxes[key] = (x + dx, y + dy, x + dx + width, y + dy + height)
                    self.labels[key] = [
                        ("".join(text.itertext()), float(text.get("x")) + dx, float(text.get("y")) + dy, text)
                        for text in child.findall(f"{SVG}text")
                    ]
                if child.get("opacity"):
                    self.faded.add(key)


def sample(path):
    """Points along an SVG path of M, V and C commands, at most about a pixel of height apart."""
    commands = re.findall(r"([MVC])([-\d. ]+)", path)
    assert "".join(name + numbers for name, numbers in commands) == path
    points = []
    for name, numbers in commands:
        values = [float(value) for value in numbers.split()]
        if name == "M":
            points.append((values[0], values[1]))
        elif name == "V":
            x, y = points[-1]
            steps = 1 + int(abs(values[0] - y))
            points += [(x, y + (values[0] - y) * step / steps) for step in range(1, steps + 1)]
        else:
            (x0, y0), (x1, y1, x2, y2, x3, y3) = points[-1], values
            for t in (step / 120 for step in range(1, 121)):
                a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
                points.append((a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3))
    return points


def faults(picture):
    """What a drawing must not have, as a list of words."""
    found = []
    for (a, one), (b, other) in combinations(picture.boxes.items(), 2):
        if one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]:
            found.append(f"{a} overlaps {b}")
    for (cell, start, end), points in picture.edges.items():
        low, high = min(y for _, y in points) - 3.0, max(y for _, y in points) + 3.0
        for key, (left, top, right, bottom) in picture.boxes.items():
            if bottom < low or top > high:
                continue
            # An edge touches its own two boxes; from others it keeps a distance.
            room = -0.2 if key in ((cell, start), (cell, end)) else 3.0
            if any(left - room < x < right + room and top - room < y < bottom + room for x, y in points):
                found.append(f"edge {start} to {end} runs through {key}")
    return found


def expected_edges(cell):
    """(from, to) of every edge, by the genotype alone."""

    def source(state):
        return f"input {state}" if state < cell.inputs else f"combine {state}"

    edges = []
    for state, block in enumerate(cell.blocks, cell.inputs):
        for side in (0, 1):
            edges.append((source(block.inputs[side]), f"operation {state} {side}"))
            edges.append((f"operation {state} {side}", f"combine {state}"))
    if cell.inputs == 2:
        return sorted([*edges, *((source(state), "concat") for state in cell.concat), ("concat", "output")])
    return sorted([*edges, *((source(state), f"output {place}") for place, state in enumerate(cell.concat))])


def check(cell):
    picture = Picture(cell_svg(cell, "A cell"))
    assert faults(picture) == []
    assert sorted((start, end) for _, start, end in picture.edges) == expected_edges(cell)
    width, height = picture.size
    for left, top, right, bottom in picture.boxes.values():
        assert left > 0 and top > 0 and right < width and bottom < height
    for points in picture.edges.values():
        assert all(0 < x < width and 0 < y < height for x, y in points)
    check_ends(picture)
    check_labels(picture)
    live = set(cell.live_states())
    for _, key in picture.boxes:
        state = key.split()[1:2]
        dead = key.split()[0] != "output" and state and int(state[0]) not in live
        assert ((0, key) in picture.faded) == bool(dead), key


def check_ends(picture):
    """Each edge begins at its source, or where it parts from another edge of that source, and ends at its target."""
    for (cell, start, end), points in picture.edges.items():
        left, top, right, _ = picture.boxes[cell, start]
        others = {
            (round(x, 1), round(y, 1))
            for (other_cell, other, target), way in picture.edges.items()
            if (other_cell, other) == (cell, start) and target != end
            for x, y in way
        }
        x, y = points[0]
        assert (left < x < right and abs(y - top) < 0.2) or (round(x, 1), round(y, 1)) in others
        left, _, right, bottom = picture.boxes[cell, end]
        x, y = points[-1]
        # The last 6 pixels are the arrow's head.
        assert left < x < right and -0.2 < y - bottom < 6.2
        assert all(y1 <= y0 + 1e-6 for (_, y0), (_, y1) in pairwise(points)), "edges only rise"


def check_labels(picture):
    for key, lines in picture.labels.items():
        left, top, right, bottom = picture.boxes[key]
        for text, x, y, element in lines:
            size = float(element.get("font-size"))
            # The widths of Verdana and DejaVu Sans, the widest of the usual fonts.
            width = sum(0.4 if char in "ijlt,. " else 0.66 for char in text)
            assert width * size <= right - left, text
            assert abs(x - (left + right) / 2) < 0.2
            assert top < y - 0.75 * size and y + 0.2 * size < bottom
        assert all(y1 - y0 >= 12 for (_, _, y0, _), (_, _, y1, _) in pairwise(lines))


@pytest.mark.parametrize("cell", STORED)
def test_stored_cells_are_drawn_without_faults(cell):
    check(cell)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cells())
def test_any_cell_is_drawn_without_faults(cell):
    check(cell)


@pytest.mark.parametrize("inputs", [(0, 0), (0, 1)])
def test_twelve_blocks_on_the_inputs_are_wrapped(inputs):
    cell = CellGenotype(tuple(Block(inputs, ("identity", "sep_conv_3x3")) for _ in range(12)), tuple(range(13, -1, -1)))
    check(cell)
    floors = Counter(box.y for box in cell_layout(cell).boxes.values() if box.kind == "combine")
    assert sorted(floors.values()) == [BLOCKS_IN_A_ROW, BLOCKS_IN_A_ROW]


def test_a_chain_of_twelve_rises_block_by_block():
    cell = CellGenotype(tuple(Block((i, i + 1), ("max_pool_3x3", "identity")) for i in range(12)), (13, 0, 2))
    check(cell)
    boxes = cell_layout(cell).boxes
    heights = [boxes[f"combine {state}"].y for state in range(2, 14)]
    assert heights == sorted(heights, reverse=True) and len(set(heights)) == 12


def test_the_check_finds_faults():
    svg = cell_svg(load_genotype("tiny").normal)
    good = Picture(svg)
    assert faults(good) == []
    behind = Picture(svg)
    left, top, right, bottom = behind.boxes[0, "operation 3 0"]
    behind.edges[0, "input 0", "concat"] = [((left + right) / 2, y) for y in range(int(top) - 20, int(bottom) + 20)]
    assert any("runs through" in fault for fault in faults(behind))
    near = Picture(svg)
    near.boxes[0, "other"] = tuple(value + 5 for value in near.boxes[0, "combine 2"])
    assert any("overlaps" in fault for fault in faults(near))


def test_nasnet_a_stands_as_in_the_paper():
    genotype = load_genotype("nasnet_a")
    normal, reduction = cell_layout(genotype.normal).boxes, cell_layout(genotype.reduction).boxes
    assert len({normal[f"combine {state}"].y for state in range(2, 7)}) == 1
    low, high = ({reduction[f"combine {state}"].y for state in states} for states in ((2, 3, 4), (5, 6)))
    assert len(low) == len(high) == 1 and high.pop() < low.pop()
    assert normal["output"].y < normal["concat"].y < normal["combine 2"].y < normal["input 0"].y == normal["input 1"].y


def test_sorting_removes_avoidable_crossings():
    inputs = [(0, 0), (1, 1), (0, 0), (1, 1)]
    blocks = tuple(Block(states, ("identity", "identity")) for states in inputs)
    rows = Rows(CellGenotype((*blocks, Block((2, 4), ("identity",) * 2), Block((3, 5), ("identity",) * 2)), (6, 7)))
    before = [rows.cost(row)[0] for row in range(rows.top + 1)]
    rows.sort()
    assert max(before) > 0
    assert [rows.cost(row)[0] for row in range(rows.top + 1)] == [0] * (rows.top + 1)


def test_a_lone_lane_is_straight():
    # Block 0 goes to the concatenation alone, past two rows of other blocks.
    blocks = ((0, 0), (1, 1), (3, 3), (4, 4))
    cell = CellGenotype(tuple(Block(states, ("identity", "identity")) for states in blocks), (2, 5))
    (edge,) = [edge for edge in cell_layout(cell).edges if (edge.source, edge.target) == ("combine 2", "concat")]
    assert len(edge.points) >= 4
    assert max(x for x, _ in edge.points) - min(x for x, _ in edge.points) < 0.05


def test_labels_tooltips_and_colours():
    operations = iter([*OPERATIONS, "identity"])
    blocks = tuple(Block((0, 1), (next(operations), next(operations)), COMBINATIONS[i % 4]) for i in range(7))
    picture = Picture(cell_svg(CellGenotype(blocks, (2, 3, 4, 5, 6, 7, 8))))
    words = {" ".join(line[0] for line in lines) for lines in picture.labels.values()}
    names = "identity|1×3 3×1|1×7 7×1|dilated 3×3|avg 3×3|max 3×3|max 5×5|max 7×7|conv 1×1|conv 3×3"
    names += "|sep 3×3|sep 5×5|sep 7×7|add|concat|add + layer norm|add + instance norm|hi+1|hi"
    assert words == {*names.split("|"), "hi\u22121"}
    fills = {}
    for group in picture.root.iter(f"{SVG}g"):
        if (group.get("data-box") or "").startswith("operation"):
            tip = group.find(f"{SVG}title").text
            fills[tip.split()[2]] = group.find(f"{SVG}rect").get("fill")
            assert re.fullmatch(r"block \d: \w+ of h\[i(-1)?\]", tip)
    assert set(fills) == set(OPERATIONS)
    families = ("identity", "conv_", "max_pool", "sep_conv")
    assert len({next(fills[name] for name in OPERATIONS if name.startswith(family)) for family in families}) == 4
    assert fills["sep_conv_3x3"] == fills["sep_conv_7x7"] != fills["conv_3x3"] == fills["dil_conv_3x3"]
    assert fills["avg_pool_3x3"] == fills["max_pool_7x7"]


def test_states_passed_on_one_by_one():
    blocks = tuple(Block((i, i), ("identity", "identity")) for i in (3, 2, 5, 0))
    picture = Picture(cell_svg(CellGenotype(blocks, (7, 4, 1, 6), inputs=4)))
    assert faults(picture) == []
    assert (0, "concat") not in picture.boxes
    lefts = [picture.boxes[0, f"output {place}"][0] for place in range(4)]
    assert lefts == sorted(lefts)
    assert "".join(picture.labels[0, "output 2"][0][0]) == "hi+1, 2"


def test_both_cells_stand_side_by_side():
    for name in list_genotypes():
        picture = Picture(genotype_svg(load_genotype(name)))
        assert faults(picture) == []
        assert {cell for cell, _ in picture.boxes} == {0, 1}
        edge = max(box[2] for key, box in picture.boxes.items() if key[0] == 0)
        assert edge < min(box[0] for key, box in picture.boxes.items() if key[0] == 1)
        bottoms = {round(picture.boxes[cell, "input 0"][3], 0) for cell in (0, 1)}
        captions = [text for text in picture.root.findall(f"{SVG}text")]
        assert [caption.text for caption in captions] == ["Normal cell", "Reduction cell"]
        assert len(bottoms) == 1 and all(float(caption.get("y")) - 15 > bottoms.copy().pop() for caption in captions)


def test_the_document_is_self_contained_and_accessible():
    svg = genotype_svg(load_genotype("nasnet_a"))
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert "block 0 = add (sep 5\u00d75 of h[i], sep 3\u00d73 of h[i-1])" in root.get("aria-label")
    assert "output = h[i-1], block 0, block 1" in root.get("aria-label")
    assert svg.replace('xmlns="http://www.w3.org/2000/svg"', "").count("://") == 0
    names = {name for element in root.iter() for name in element.attrib}
    assert not any(name.endswith(("href", "src")) or name == "id" or name.startswith("on") for name in names)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg",
        "g",
        "rect",
        "path",
        "text",
        "tspan",
        "title",
    }
    assert "url(" not in svg


def test_equal_cells_give_equal_pictures():
    genotype = load_genotype("pnasnet_5")
    assert genotype_svg(genotype) == genotype_svg(Genotype.from_json(genotype.to_json()))
    assert genotype_svg(genotype) == genotype._repr_svg_()


def test_hostile_text_stays_text():
    title = "<script>alert(1)</script> \"'&amp; \x00\x1b\ud800\uffff"
    cell = load_genotype("tiny").normal
    svg = cell_svg(cell, title)
    root = ET.fromstring(svg.encode("utf-8"))
    shown = title.replace("\x00\x1b\ud800\uffff", "\ufffd" * 4)
    assert root.findall(f"{SVG}text")[-1].text == shown
    assert root.get("aria-label").startswith(shown)
    assert "<script" not in svg
    hostile = Genotype(cell, cell, name=title)
    assert ET.fromstring(genotype_svg(hostile)).get("aria-label").startswith(shown)


def test_a_cell_in_words():
    cell = CellGenotype((Block((3, 0), ("max_pool_3x3", "identity"), "concat"),), (4, 1, 2, 0), inputs=4)
    blocks = "block 0 = concat (max 3\u00d73 of h[i][3], identity of h[i][0])"
    assert describe_cell(cell, "Mine") == f"Mine: {blocks}; output = block 0, h[i][1], h[i][2], h[i][0]."


@pytest.mark.parametrize(("function", "name"), [(cell_svg, "cell"), (genotype_svg, "genotype")])
def test_wrong_types_are_named(function, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be a .*Received: 'nasnet_a'"):
        function("nasnet_a")
