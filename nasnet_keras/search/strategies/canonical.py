"""Which genotypes are the same network: a name that isomorphic cells share.

The order of the blocks and of the two halves of a block is a matter of notation, and so is
the order of the concatenation, which only permutes channels. Blocks whose state reaches no
output have no weights and do not count. What remains is a small labelled graph, and its
canonical form is found as usual: colours are refined until they are stable, and where
several blocks still look alike, each is tried as the first and the least result taken.
"""

import hashlib


def canonical_name(genotype):
    """16 hexadecimal digits that two genotypes share if and only if their cells are isomorphic.

    Args:
        genotype: a `Genotype`.
    """
    form = [canonical_cell(cell) for cell in (genotype.normal, genotype.reduction)]
    return hashlib.sha256(repr(form).encode()).hexdigest()[:16]


def canonical_cell(cell):
    """The canonical form of a `CellGenotype`: a tuple of its blocks in an order that is not that of the writing.

    Each block is `(how it leaves the cell, combination, ((operation, state), (operation, state)))`, the states counted
    in the canonical order. A cell of more than two inputs hands its states on in order, which therefore counts.
    """
    first, blocks = cell.inputs, dict(enumerate(cell.blocks, cell.inputs))
    leaves = {state: (1 + index if first != 2 else 1) for index, state in enumerate(cell.concat)}
    needed, waiting = set(), list(cell.concat)
    while waiting:
        state = waiting.pop()
        if state not in needed:
            needed.add(state)
            waiting += blocks[state].inputs if state in blocks else ()
    edges = {state: list(zip(block.operations, block.inputs, strict=True)) for state, block in blocks.items()}
    edges = {state: pairs for state, pairs in edges.items() if state in needed}
    readers = {state: [] for state in (*range(first), *edges)}
    for state, pairs in edges.items():
        for operation, read in pairs:
            readers[read].append((operation, state))
    labels = {state: (leaves.get(state, 0), blocks[state].combine) for state in edges}
    colours = {state: (0, state) for state in range(first)} | {state: (1, *label) for state, label in labels.items()}
    return tuple(leaves.get(state, 0) for state in range(first)), _least(_ranked(colours), edges, readers, labels)


def _least(colours, edges, readers, labels):
    colours = _refined(colours, edges, readers)
    groups = {}
    for state, colour in colours.items():
        groups.setdefault(colour, []).append(state)
    alike = next((states for _, states in sorted(groups.items()) if len(states) > 1), None)
    if alike is None:
        return _written(colours, edges, labels)
    # Twins read the same and are read by the same: which of them comes first changes nothing.
    around = {repr((sorted(edges[state]), sorted(readers[state]))) for state in alike}
    tried = alike[:1] if len(around) == 1 else alike
    return min(
        _least({state: 2 * colour - (state == one) for state, colour in colours.items()}, edges, readers, labels)
        for one in tried
    )


def _refined(colours, edges, readers):
    """Colours split by those of the neighbours until nothing changes."""
    while True:
        around = {
            state: (
                colour,
                sorted((operation, colours[read]) for operation, read in edges.get(state, ())),
                sorted((operation, colours[reader]) for operation, reader in readers[state]),
            )
            for state, colour in colours.items()
        }
        finer = _ranked(around)
        if len(set(finer.values())) == len(set(colours.values())):
            return finer
        colours = finer


def _ranked(colours):
    """The same classes in the same order, named 1, 2, 3, …"""
    names = {}
    for colour in sorted(colours.values()):
        names.setdefault(repr(colour), len(names) + 1)
    return {state: names[repr(colour)] for state, colour in colours.items()}


def _written(colours, edges, labels):
    """The blocks in the order of their colours, which are all different."""
    rank = {state: number for number, state in enumerate(sorted(colours, key=colours.get))}
    return tuple(
        (*labels[state], tuple(sorted((operation, rank[read]) for operation, read in edges[state])))
        for state in sorted(edges, key=rank.get)
    )
