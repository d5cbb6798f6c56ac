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
    for state in range(inputs, inputs + integer(1, max_blocks)):
        reads = (integer(0, state - 1), integer(0, state - 1))
        blocks.append(Block(reads, (one_of(operations), one_of(operations)), one_of(combinations)))
    states = list(range(inputs + len(blocks)))
    count = inputs if inputs > 2 else integer(1, len(states))
    concat = [states.pop(integer(0, len(states) - 1)) for _ in range(count)]
    return CellGenotype(tuple(blocks), tuple(concat), inputs)
