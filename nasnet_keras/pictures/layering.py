"""Which row each state of a drawn cell stands in, and in what order: the first half of its layout.

The inputs are the lowest row, the blocks stand in rows above them, and what leaves the
cell is the top row. A state that is read further up than in the next row gets a lane, a
free vertical strip, in each row that it passes. So an edge is made of curves between two
rows, where no box is, and of straight lines in its lanes: it cannot run behind a box.
The steps are those of Sugiyama, Tagawa and Toda 1981 ("Methods for visual understanding
of hierarchical system structures"): rows, order within the rows, coordinates.
"""

from bisect import bisect_right, insort
from itertools import pairwise

OPERATION = (56.0, 38.0)
PILL = (64.0, 28.0)
PAIR = 31.0  # from a block's middle to the middle of each operation
BLOCK_WIDTH = 2 * PAIR + OPERATION[0]
LANE_GAP, MIXED_GAP, BOX_GAP = 14.0, 16.0, 18.0
BLOCKS_IN_A_ROW = 6
REACH = 4  # how far a single move may take an item


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
