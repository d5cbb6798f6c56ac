"""Where the boxes and edges of a drawn cell go, without any drawing.

The inputs are the lowest row, the blocks stand in rows above them, and what leaves the
cell is the top row. A state that is read further up than in the next row gets a lane, a
free vertical strip, in each row that it passes. So an edge is made of curves between two
rows, where no box is, and of straight lines in its lanes: it cannot run behind a box.
The steps are those of Sugiyama, Tagawa and Toda 1981 ("Methods for visual understanding
of hierarchical system structures"): rows, order within the rows, coordinates.
"""

from bisect import bisect_right, insort
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

OPERATION = (56.0, 38.0)
PILL = (64.0, 28.0)
PAIR = 31.0  # from a block's middle to the middle of each operation
BLOCK_WIDTH = 2 * PAIR + OPERATION[0]
LANE_GAP, MIXED_GAP, BOX_GAP = 14.0, 16.0, 18.0
BLOCKS_IN_A_ROW = 6
REACH = 4  # how far a single move may take an item
COMBINE = (88.0, 22.0)
WIDE_COMBINE = (128.0, 22.0)
CONCAT = (120.0, 26.0)
INNER_GAP = 14.0  # between operations and combination, and between concatenation and output
ROW_HEIGHT = OPERATION[1] + INNER_GAP + COMBINE[1]
ROUNDS = 60
STRAIGHT = 60.0  # how much more an edge weighs that should be upright than one of a fan


@dataclass(frozen=True)
class Box:
    """A rectangle of the picture; `x` and `y` are its upper left corner in pixels, y downwards.

    `kind` is "input", "operation", "combine", "concat" or "output". `state` is the state the
    box holds or helps to make (None: all that leave the cell), `side` tells the two
    operations of a block apart, and `live` says whether the box has a part in the output.
    """

    kind: str
    state: int | None
    x: float
    y: float
    width: float
    height: float
    live: bool = True
    side: int | None = None


@dataclass(frozen=True)
class Edge:
    """A line from the upper side of one box to the lower side of another, given by their keys.

    `state` is what flows through it. Two successive `points` with the same x are joined by a
    straight line, others by a curve that leaves and arrives vertically.
    """

    source: str
    target: str
    state: int
    points: tuple[tuple[float, float], ...]
    live: bool


@dataclass(frozen=True)
class Layout:
    """The picture's size in pixels, its boxes by key, and its edges."""

    width: float
    height: float
    boxes: dict[str, Box]
    edges: tuple[Edge, ...]


@lru_cache(maxsize=256)  # a page that is written every few seconds shows mostly what it has shown before
def cell_layout(cell):
    """Place the boxes and edges of a cell, without a margin around them.

    Args:
        cell: a `CellGenotype`.

    Returns:
        A `Layout`. The keys of its boxes are "input 0", "operation 2 0" (state and side),
        "combine 2", "concat" and "output", or "output 0", ... where states are passed on singly.
    """
    rows = Rows(cell)
    rows.sort()
    return _boxes_and_edges(rows, _coordinates(rows))


def _coordinates(rows):
    """The middles of all items, a dict for each row: edges as upright as the distances allow.

    Minimises the weighted sum of squared sideways ways, row by row; then makes straight what nearly is.
    """
    places = [rows.side_by_side(row) for row in range(rows.top + 1)]
    distances = [rows.distances(row) for row in range(rows.top + 1)]
    edges = [(row, state) for row in range(1, rows.top + 1) for state in rows.rows[row]]
    upright = {edge for edge in edges if rows.is_upright(*edge)}
    for row in (*range(rows.top + 1), *reversed(range(rows.top + 1))) * ROUNDS:
        pulls = {state: [(x, 0.01)] for state, x in places[row].items()}
        for end in (row, row + 1):
            if not 0 < end <= rows.top:
                continue
            for source, start, state, stop in rows.links(end, places[end - 1], places[end]):
                own, shift = (state, start - stop) if end == row else (source, stop - start)
                weight = STRAIGHT if source == state and (end, state) in upright else 1.0
                pulls[own].append((places[row][own] + shift, weight))
        places[row] = dict(zip(rows.rows[row], _apart(list(pulls.values()), distances[row]), strict=True))
    for _ in range(3):
        _straighten(rows, places)
    return places


def _straighten(rows, places):
    """Give the items of a state one common x where a lane joins them and the neighbours leave room for it."""
    chains = []
    for row in range(1, rows.top + 1):
        for state in rows.rows[row]:
            if not rows.is_upright(row, state):
                continue
            known = [chain for chain in chains if chain[-1] == (row - 1, state)]
            if known:
                known[0].append((row, state))
            else:
                chains.append([(row - 1, state), (row, state)])
    for chain in sorted(chains, key=len, reverse=True):
        low, high = float("-inf"), float("inf")
        for row, state in chain:
            order, distances = rows.rows[row], rows.distances(row)
            index = order.index(state)
            if index:
                low = max(low, places[row][order[index - 1]] + distances[index - 1])
            if index < len(distances):
                high = min(high, places[row][order[index + 1]] - distances[index])
        if low <= high:
            middle = sum(places[row][state] for row, state in chain) / len(chain)
            for row, state in chain:
                places[row][state] = min(max(middle, low), high)


def _apart(pulls, distances):
    """Positions nearest to what pulls at them, in the order given and at least `distances` apart.

    Each pull is a list of (position, weight). Without the distances' sum this is an isotonic
    regression, solved by pooling neighbours that are out of order.
    """
    offsets = [0.0]
    for distance in distances:
        offsets.append(offsets[-1] + distance)
    pools = []
    for pull, offset in zip(pulls, offsets, strict=True):
        weight = sum(w for _, w in pull)
        pools.append((sum((x - offset) * w for x, w in pull) / weight, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (x, w, n), (y, v, m) = pools[-2:]
            pools[-2:] = [((x * w + y * v) / (w + v), w + v, n + m)]
    spread = [x for x, _, count in pools for _ in range(count)]
    return [x + offset for x, offset in zip(spread, offsets, strict=True)]


def _boxes_and_edges(rows, places):
    """Turn rows and the middles of their items into boxes and edges."""
    cell, top = rows.cell, rows.top
    floors, ceilings = [0.0], [PILL[1]]  # of each row, measured upwards from the lowest
    for row in range(1, top + 1):
        ways = [abs(start - stop) for _, start, _, stop in rows.links(row, places[row - 1], places[row])]
        floors.append(ceilings[-1] + 34.0 + min(60.0, 0.16 * max(ways)))
        ceilings.append(floors[-1] + (ROW_HEIGHT if row < top else PILL[1]))
    live = set(cell.live_states())
    boxes, edges = {}, []

    def add(key, kind, state, middle, floor, size, side=None):
        alive = state is None or state in live
        boxes[key] = Box(kind, state, middle - size[0] / 2, floor + size[1], *size, alive, side)

    def route(target, row, state, source, x):
        """The edge from the source's own row up its lanes to an entry at x."""
        home = rows.home[source]
        points = [(places[home][source], ceilings[home])]
        for passed in range(home + 1, row):
            points += [(places[passed][source], floors[passed]), (places[passed][source], ceilings[passed])]
        start = f"combine {source}" if home else f"input {source}"
        alive = row == top or state in live
        edges.append(Edge(start, target, source, (*points, (x, floors[row])), alive))

    for state, x in places[0].items():
        add(f"input {state}", "input", state, x, 0.0, PILL)
    for row in range(1, top):
        for state, x in places[row].items():
            if rows.home[state] != row:
                continue
            joint = ceilings[row] - COMBINE[1]
            long = cell.blocks[state - cell.inputs].combine.startswith("add_")
            add(f"combine {state}", "combine", state, x, joint, WIDE_COMBINE if long else COMBINE)
            for source, side, offset in rows.slots(row, state, places[row - 1]):
                key = f"operation {state} {side}"
                add(key, "operation", state, x + offset, floors[row], OPERATION, side)
                route(key, row, state, source, x + offset)
                ends = (x + offset, floors[row] + OPERATION[1]), (x + offset, joint)
                edges.append(Edge(key, f"combine {state}", state, ends, state in live))
    if cell.inputs == 2:
        left, right = min(places[top].values()), max(places[top].values())
        middle, width = (left + right) / 2, max(CONCAT[0], right - left + 60.0)
        add("concat", "concat", None, middle, floors[top], (width, CONCAT[1]))
        joint = floors[top] + CONCAT[1]
        add("output", "output", None, middle, joint + INNER_GAP, PILL)
        edges.append(Edge("concat", "output", None, ((middle, joint), (middle, joint + INNER_GAP)), True))
    for state, x in places[top].items():
        if cell.inputs > 2:
            add(f"output {cell.concat.index(state)}", "output", state, x, floors[top], PILL)
        route("concat" if cell.inputs == 2 else f"output {cell.concat.index(state)}", top, state, state, x)
    return _from_above(boxes, edges)


def _from_above(boxes, edges):
    """Shift everything so that the upper left corner is (0, 0) and y points down."""
    points = [point for edge in edges for point in edge.points]
    left = min([box.x for box in boxes.values()] + [x for x, _ in points])
    right = max([box.x + box.width for box in boxes.values()] + [x for x, _ in points])
    height = max(box.y for box in boxes.values())
    moved = {key: replace(box, x=box.x - left, y=height - box.y) for key, box in boxes.items()}
    routed = [replace(e, points=tuple((x - left, height - y) for x, y in e.points)) for e in edges]
    return Layout(right - left, height, moved, tuple(routed))


class Rows:
    """The states in rows. A state stands in its own row, and as a lane in the rows it passes.

    In the top row stand the states that leave the cell. No row holds a state twice, so
    (row, state) names an item.
    """

    def __init__(self, cell):
        self.cell = cell
        self.home = {state: 0 for state in range(cell.inputs)}
        for state, block in enumerate(cell.blocks, cell.inputs):
            row = 1 + max(self.home[source] for source in block.inputs)
            while list(self.home.values()).count(row) >= BLOCKS_IN_A_ROW:
                row += 1
            self.home[state] = row
        self.top = 1 + max(self.home.values())
        self._raise_blocks()
        self.rows = [
            [s for s in range(cell.states) if self.home[s] == row or self.home[s] < row < self.last(s)]
            for row in range(self.top)
        ]
        self.rows.append(list(cell.concat))

    def readers(self, state):
        """The blocks that read a state, by their own states."""
        return [own for own, block in enumerate(self.cell.blocks, self.cell.inputs) if state in block.inputs]

    def last(self, state):
        """The highest row in which a state is wanted."""
        return self.top if state in self.cell.concat else max(map(self.home.get, self.readers(state)), default=0)

    def sources(self, row, state):
        """The states of the row below that an item is joined to."""
        own = 0 < row == self.home.get(state)
        return self.cell.blocks[state - self.cell.inputs].inputs if own else (state,)

    def slots(self, row, state, lower):
        """(source, side, place) of each edge into an item, the place relative to the item's middle.

        `lower` has the middles of the row below. A block's operations stand in the order of their
        sources, so that its two edges do not cross.
        """
        sources = self.sources(row, state)
        if len(sources) == 1:
            return [(state, None, 0.0)]
        first, second = sorted((0, 1), key=lambda side: lower[sources[side]])
        return [(sources[first], first, -PAIR), (sources[second], second, PAIR)]

    def is_upright(self, row, state):
        """Whether the edge from the same state in the row below should be a straight line.

        It should where it goes on in a lane, and where nothing else leaves the state's own box.
        """
        home = self.home[state]
        if home >= row or state not in self.rows[row - 1]:
            return False
        readers = [s for s in self.rows[row] if s != state and state in self.sources(row, s)]
        return home < row - 1 or not readers

    def _raise_blocks(self):
        """Move blocks up where that makes fewer lanes, without emptying or overfilling a row."""

        def lanes():
            return sum(max(0, self.last(state) - row - 1) for state, row in self.home.items())

        for state in reversed(range(self.cell.inputs, self.cell.states)):
            low = best = self.home[state]
            fewest = lanes()
            ceiling = min(map(self.home.get, self.readers(state)), default=self.top)
            occupied = [row for own, row in self.home.items() if own != state]
            for row in range(low + 1, ceiling):
                self.home[state] = row
                if low in occupied and occupied.count(row) < BLOCKS_IN_A_ROW and lanes() < fewest:
                    best, fewest = row, lanes()
            self.home[state] = best

    def width(self, row, state):
        """The width of an item; lanes, and the ends of edges at the concatenation, have none."""
        if row == self.top:
            return 0.0 if self.cell.inputs == 2 else PILL[0]
        if row != self.home[state]:
            return 0.0
        return BLOCK_WIDTH if row else PILL[0]

    def distances(self, row):
        """How far the middles of successive items must be apart at least."""
        widths = [self.width(row, state) for state in self.rows[row]]
        gaps = (LANE_GAP, MIXED_GAP, BOX_GAP)
        return [(a + b) / 2 + gaps[(a > 0) + (b > 0)] for a, b in pairwise(widths)]

    def side_by_side(self, row):
        """The middles of a row's items standing as close as they may around 0, by state."""
        xs = [0.0]
        for distance in self.distances(row):
            xs.append(xs[-1] + distance)
        return {state: x - xs[-1] / 2 for state, x in zip(self.rows[row], xs, strict=True)}

    def links(self, row, lower, upper):
        """(source, start x, item, its entry's x) of each edge from the row below, given both rows' middles."""
        for state in self.rows[row]:
            for source, _, offset in self.slots(row, state, lower):
                yield source, lower[source], state, upper[state] + offset

    def cost(self, row):
        """(crossings, sideways way) of the edges that end in a row and of those that leave it."""
        crossings, way = 0, 0.0
        for end in (row, row + 1):
            if not 0 < end <= self.top:
                continue
            places = self.side_by_side(end - 1), self.side_by_side(end)
            stops = []
            for start, stop in sorted((start, stop) for _, start, _, stop in self.links(end, *places)):
                way += abs(start - stop)
                crossings += len(stops) - bisect_right(stops, stop)
                insort(stops, stop)
        return crossings, way

    def sort(self):
        """Order each row so that few edges cross: sweeps by the mean place of the neighbours, then single moves.

        The inputs keep their order, and so do outputs that are passed on one by one.
        """
        free = range(1, self.top + (self.cell.inputs == 2))
        for _ in range(3):
            for row in (*free, *reversed(free)):
                self._sort_by_neighbours(row, below=True)
                self._sort_by_neighbours(row, below=False)
        improved = True
        while improved:
            improved = any([self._move_one(row) for row in free])

    def _sort_by_neighbours(self, row, below):
        near = row - 1 if below else row + 1
        if near > self.top:
            return
        there, here = self.side_by_side(near), self.side_by_side(row)

        ends = {state: [] for state in here}
        for source, start, state, stop in self.links(row, there, here) if below else self.links(near, here, there):
            ends[state if below else source].append(start if below else stop)

        def mean(state):
            return sum(ends[state]) / len(ends[state]) if ends[state] else here[state]

        self._try(row, sorted(self.rows[row], key=mean), self.cost(row))

    def _move_one(self, row):
        cost = self.cost(row)
        improved = False
        for state in list(self.rows[row]):
            index = self.rows[row].index(state)
            rest = [other for other in self.rows[row] if other != state]
            for place in range(max(0, index - REACH), min(len(rest), index + REACH) + 1):
                if place != index and (better := self._try(row, [*rest[:place], state, *rest[place:]], cost)):
                    cost, improved = better, True
        return improved

    def _try(self, row, order, cost):
        """Keep an order if it costs less; its cost, or None."""
        kept, self.rows[row] = self.rows[row], order
        new = self.cost(row)
        if new < cost:
            return new
        self.rows[row] = kept
        return None
