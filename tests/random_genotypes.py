"""Random valid genotypes, for whoever can draw whole numbers: NumPy or hypothesis."""

from nasnet_keras.genotype import COMBINATIONS, MAX_BLOCKS, OPERATIONS, Block, CellGenotype, Genotype


def random_genotype(integer, inputs=2, max_blocks=MAX_BLOCKS, operations=OPERATIONS, combinations=COMBINATIONS):
    """A `Genotype`; `integer(low, high)` draws a whole number with both ends included."""
    cells = (random_cell(integer, inputs, max_blocks, operations, combinations) for _ in ("normal", "reduction"))
    return Genotype(*cells)


def random_cell(integer, inputs=2, max_blocks=MAX_BLOCKS, operations=OPERATIONS, combinations=COMBINATIONS):
    """A `CellGenotype` with any wiring and any concatenation, in any order."""

    def one_of(items):
        return items[integer(0, len(items) - 1)]

    blocks = []
    most = max_blocks if inputs == 2 else max(1, max_blocks // 2)  # the others may have to read what nothing reads
    for state in range(inputs, inputs + integer(1, most)):
        reads = (integer(0, state - 1), integer(0, state - 1))
        blocks.append(Block(reads, (one_of(operations), one_of(operations)), one_of(combinations)))
    states = list(range(inputs + len(blocks)))
    if inputs == 2:
        concat = [states.pop(integer(0, len(states) - 1)) for _ in range(integer(1, len(states)))]
        return CellGenotype(tuple(blocks), tuple(concat), inputs)
    # A cell of many states uses each that it receives: first what nothing reads yet, then any.
    reads = {state for block in blocks for state in block.inputs}
    unread = [state for state in states if state not in reads]
    while len(unread) > inputs:  # read by another block, until the rest fits into the cell's output
        blocks.append(Block((unread.pop(0), unread.pop(0)), (one_of(operations), one_of(operations))))
        unread.append(inputs + len(blocks) - 1)
    others = [state for state in range(inputs + len(blocks)) if state not in unread]
    concat = unread + [others.pop(integer(0, len(others) - 1)) for _ in range(inputs - len(unread))]
    return CellGenotype(tuple(blocks), tuple(concat), inputs)
