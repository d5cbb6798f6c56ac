"""Cells as numbers that a regressor can learn from: counts that do not depend on how a network is written.

The order of a cell's blocks and of a block's two halves is a matter of notation (`genotype.canonical_name`), so nothing
here looks at it. What is counted is close to a Weisfeiler-Lehman kernel of depth one (Ru et al. 2021, NAS-BOWL, arXiv
2006.07556).
"""

import numpy as np
from scipy.sparse import csr_array

from nasnet_keras.search.space import CELLS


class CellFeatures:
    """Turns decisions into counts.

    Of each cell are counted: its operations; the same with what they read, one of the cell's inputs or a block, and
    with whether their block leaves the cell; the two operations of a block with its combination; an operation with each
    of the two, half a time, that made the state it reads; the depth of the blocks; how many leave, and the inputs that
    are read. All counts are whole or half numbers, so that sums of their products are exact.

    Args:
        space: the `SearchSpace`.

    Attributes:
        size: how many features there are.
        decisions: T.
    """

    def __init__(self, space):
        self._blocks, count, self.decisions = space.blocks, len(space.operations), len(space.decisions)
        upper = np.triu_indices(count)
        self._pairs = np.zeros((count, count), dtype=int)
        self._pairs[upper] = self._pairs.T[upper] = range(len(upper[0]))
        self._operations, self._combinations = count, len(space.combinations)
        sizes = {
            "operation": count,
            "source": 3 * count,
            "leaving": 2 * count,
            "pair": self._combinations * len(upper[0]),
            "chain": count * count,
            "depth": space.blocks,
            "leaves": 1,
            "inputs": 2,
        }
        self._starts, self.size = {}, 0
        for cell in CELLS:
            for kind, size in sizes.items():
                self._starts[cell, kind] = self.size
                self.size += size

    def __call__(self, decisions):
        """The features of N networks.

        Args:
            decisions: integers [N, T].

        Returns:
            A sparse matrix [N, size] of rows.
        """
        decisions = np.asarray(decisions, dtype=int).reshape(len(decisions), len(CELLS), self._blocks, -1)
        rows, columns, counts = [], [], []
        for place, cell in enumerate(CELLS):
            for kind, found, count in self._count(decisions[:, place]):
                columns.append((self._starts[cell, kind] + found).ravel())
                counts.append(np.broadcast_to(count, found.shape).ravel())
                rows.append(np.repeat(np.arange(len(found)), found.shape[1]))
        places = np.concatenate(rows), np.concatenate(columns)
        return csr_array((np.concatenate(counts).astype(float), places), shape=(len(decisions), self.size))

    def _count(self, blocks):
        """(kind, columns [N, K], counts) of what is found in one cell of each network; blocks are [N, B, 5]."""
        networks = np.arange(len(blocks))[:, None]
        pairs, combine = blocks[..., 2:4], blocks[..., 4]
        inputs, operations = blocks[..., :2].reshape(len(blocks), -1), pairs.reshape(len(blocks), -1)
        read = np.zeros((len(blocks), 2 + self._blocks), dtype=bool)
        read[networks, inputs] = True
        depth = np.zeros(read.shape, dtype=int)
        for block in range(self._blocks):
            depth[:, 2 + block] = 1 + depth[networks, blocks[:, block, :2]].max(axis=1)
        yield "operation", operations, 1
        yield "source", 3 * operations + np.minimum(inputs, 2), 1
        yield "leaving", 2 * operations + np.repeat(~read[:, 2:], 2, axis=1), 1
        yield "pair", self._combinations * self._pairs[pairs[..., 0], pairs[..., 1]] + combine, 1
        for half in (0, 1):
            makers = pairs[networks, np.maximum(inputs - 2, 0), half]
            yield "chain", self._operations * makers + operations, np.where(inputs < 2, 0.0, 0.5)
        yield "depth", depth[:, 2:] - 1, 1
        yield "leaves", np.zeros_like(networks), (~read[:, 2:]).sum(axis=1, keepdims=True)
        yield "inputs", np.tile([0, 1], (len(blocks), 1)), read[:, :2]
