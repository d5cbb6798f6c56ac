"""Isomorphic cells share a name, and no others do: held against trying every order."""

from itertools import permutations

import numpy as np
import pytest
from random_genotypes import random_cell

from nasnet_keras.genotype import (
    Block,
    CellGenotype,
    Genotype,
    canonical_cell,
    canonical_name,
    list_genotypes,
    load_genotype,
)


def relabelled(cell, order, flip=lambda: False):
    """The same cell with its blocks in another order, or None where a block would read a later one."""
    new = {old: cell.inputs + place for place, old in enumerate(order)}
    new |= {state: state for state in range(cell.inputs)}
    blocks = []
    for old in order:
        block = cell.blocks[old - cell.inputs]
        inputs, operations = tuple(new[state] for state in block.inputs), block.operations
        if max(inputs) >= new[old]:
            return None
        if flip():
            inputs, operations = inputs[::-1], operations[::-1]
        blocks.append(Block(inputs, operations, block.combine))
    concat = tuple(new[state] for state in cell.concat)
    return CellGenotype(tuple(blocks), tuple(sorted(concat)) if cell.inputs == 2 else concat, cell.inputs)


def live(cell):
    needed, waiting = set(), list(cell.concat)
    while waiting:
        state = waiting.pop()
        if state >= cell.inputs and state not in needed:
            needed.add(state)
            waiting += cell.blocks[state - cell.inputs].inputs
    return sorted(needed)


def brute_force(cell):
    """The least writing over all orders of the blocks that count and all orders of their halves."""
    best = None
    for order in permutations(live(cell)):
        rank = {state: state for state in range(cell.inputs)}
        rank |= {state: cell.inputs + place for place, state in enumerate(order)}
        blocks = []
        for state in order:
            block = cell.blocks[state - cell.inputs]
            pairs = zip(block.operations, (rank[read] for read in block.inputs), strict=True)
            blocks.append((block.combine, tuple(sorted(pairs))))
        ends = [rank[state] for state in cell.concat]
        form = (tuple(blocks), tuple(sorted(ends) if cell.inputs == 2 else ends))
        best = form if best is None or form < best else best
    return best


def integer(rng):
    return lambda low, high: int(rng.integers(low, high + 1))


def test_any_order_of_blocks_and_halves_is_the_same_cell(rng):
    changed = 0
    for _ in range(150):
        cell = random_cell(integer(rng), max_blocks=7, operations=("identity", "conv_3x3", "max_pool_3x3"))
        for _ in range(20):
            order = [cell.inputs + int(place) for place in rng.permutation(len(cell.blocks))]
            other = relabelled(cell, order, lambda: bool(rng.integers(2)))
            if other is not None:
                changed += other != cell
                assert canonical_cell(other) == canonical_cell(cell)
    assert changed > 200


@pytest.mark.parametrize("inputs", [2, 4])
def test_cells_share_a_form_exactly_when_some_order_makes_them_equal(inputs, rng):
    """Few operations and few blocks, so that chance makes many isomorphic pairs and many that look alike."""
    cells = [
        random_cell(
            integer(rng), inputs=inputs, max_blocks=4, operations=("identity", "conv_3x3"), combinations=("add",)
        )
        for _ in range(700)
    ]
    cells = [cell for cell in cells if len(live(cell)) <= 4]
    ours, theirs = [canonical_cell(cell) for cell in cells], [brute_force(cell) for cell in cells]
    pairs = set(zip(ours, theirs, strict=True))
    assert len(pairs) == len(set(ours)) == len(set(theirs)) < len(cells)


def test_two_equal_blocks_are_not_one_block_read_twice():
    block = Block((0, 1), ("conv_3x3", "identity"))

    def reads(left, right):
        last = [Block(pair, ("conv_1x1", "max_pool_3x3")) for pair in (left, right)]
        return CellGenotype((block, block, *last), (4, 5))

    assert canonical_cell(reads((2, 2), (3, 3))) != canonical_cell(reads((2, 3), (2, 3)))
    assert canonical_cell(reads((2, 2), (3, 3))) == canonical_cell(reads((3, 3), (2, 2)))


def test_many_equal_blocks_take_no_time():
    block = Block((0, 1), ("identity", "identity"))
    for count in (11, 12):
        cell = CellGenotype((block,) * count, tuple(range(2, 2 + count)))
        assert len(canonical_cell(cell)[1]) == count


def test_names_of_genotypes():
    names = [canonical_name(load_genotype(name)) for name in list_genotypes()]
    assert len(set(names)) == len(names)
    genotype = load_genotype("nasnet_a")
    swapped = Genotype(genotype.reduction, genotype.normal)
    assert canonical_name(swapped) != canonical_name(genotype)
    assert np.unique([len(name) for name in names]).tolist() == [16]
