"""The search space as an ordered list of decisions, and its translations.

One architecture is written in three ways: as integers (what the controller
samples), as KerasTuner names with values (what a trial carries) and as a
`Genotype` (what a network is built from). This module translates between them.
Source: Zoph et al. 2018 (arXiv 1707.07012), sections 3.1 and 3.2: five
predictions a block, first all blocks of the normal cell, then all of the
reduction cell.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from nasnet_keras.checks import check_integer, take_integers
from nasnet_keras.genotype import COMBINATIONS, MAX_BLOCKS, OPERATIONS, PAPER_OPERATIONS, Block, CellGenotype, Genotype

CELLS = ("normal", "reduction")
DECISIONS_PER_BLOCK = 5
GENOTYPE = "genotype"  # the name of a trial's value that is a whole genotype


@dataclass(frozen=True)
class Decision:
    """One softmax prediction of the controller.

    Args:
        name: the KerasTuner name, for instance `normal_block_0_input_left`.
        choices: the values to choose from: numbers of hidden states, or names.
        kind: `"input"`, `"operation"` or `"combine"`. Decisions of one kind choose from
            the same list, or from its beginning (a block sees only earlier states).
    """

    name: str
    choices: tuple[int | str, ...]
    kind: str


@dataclass(frozen=True)
class SearchSpace:
    """All pairs of cells with a given number of blocks over given operations and combinations.

    Args:
        blocks: blocks per cell, 1 to 12 (the paper: 5).
        operations: names from `nasnet_keras.genotype.OPERATIONS`, without duplicates; by default the paper's.
        combinations: names from `nasnet_keras.genotype.COMBINATIONS`, without duplicates.

    Raises:
        ValueError: naming the argument at fault.

    Examples:
        >>> import numpy as np
        >>> from nasnet_keras import SearchSpace
        >>> space = SearchSpace(blocks=2)
        >>> genotype = space.decode(space.random(np.random.default_rng(0)))
        >>> len(genotype.normal.blocks)
        2
    """

    blocks: int = 5
    operations: tuple[str, ...] = PAPER_OPERATIONS
    combinations: tuple[str, ...] = ("add", "concat")

    def __post_init__(self):
        take_integers(self, "blocks")
        check_integer("blocks", self.blocks, least=1, most=MAX_BLOCKS)
        for label, allowed in (("operations", OPERATIONS), ("combinations", COMBINATIONS)):
            object.__setattr__(self, label, _names(label, getattr(self, label), allowed))

    @cached_property
    def decisions(self):
        """The `Decision`s in the order in which they are taken, 10 per block of a cell."""
        return tuple(
            decision
            for cell in CELLS
            for block in range(self.blocks)
            for decision in self._block_decisions(cell, block)
        )

    @property
    def size(self):
        """How many strings of decisions there are; many of them describe the same network."""
        return math.prod(len(decision.choices) for decision in self.decisions)

    def decode(self, decisions):
        """The `Genotype` of one choice per decision.

        Its cells concatenate the block states that nothing reads, in ascending order
        (section 3.1), which may leave a cell input unread.

        Args:
            decisions: integers, as many as `self.decisions`; each an index into its choices.

        Raises:
            ValueError: a wrong number of integers, or one outside its choices.
        """
        return self._genotype([decision.choices[index] for decision, index in self._pairs(decisions)])

    def encode(self, genotype):
        """The integers that `decode` turns into this genotype, as a tuple.

        Raises:
            ValueError: the genotype lies outside this space; the message names the cell.
        """
        if not isinstance(genotype, Genotype):
            raise ValueError(f"`genotype` must be a Genotype. Received: {genotype!r}")
        values = []
        for label in CELLS:
            cell = getattr(genotype, label)
            if cell.inputs != 2 or len(cell.blocks) != self.blocks:
                raise ValueError(
                    f"{label} cell: `genotype` must have 2 inputs and {self.blocks} blocks to lie in this space. "
                    f"Received: {cell.inputs} inputs and {len(cell.blocks)} blocks"
                )
            if cell.concat != _loose_ends(cell.blocks):
                raise ValueError(
                    f"{label} cell: `concat` must be the block states that nothing reads, "
                    f"{list(_loose_ends(cell.blocks))}, to lie in this space. Received: {list(cell.concat)}"
                )
            values += [value for block in cell.blocks for value in (*block.inputs, *block.operations, block.combine)]
        return tuple(_index(decision, value) for decision, value in zip(self.decisions, values, strict=True))

    def to_values(self, decisions):
        """The values by name, plain integers and strings, as KerasTuner wants them.

        Raises:
            ValueError: as `decode`.
        """
        return {decision.name: decision.choices[index] for decision, index in self._pairs(decisions)}

    def decode_values(self, values):
        """The `Genotype` of values by name, for instance `trial.hyperparameters.values`.

        Names that are not of this space are ignored, but for `genotype`: a trial outside of the space has that one
        value, its genotype as JSON.

        Raises:
            ValueError: a missing name or a value that is not among the choices; KerasTuner
                checks neither and would have another network trained.
        """
        if GENOTYPE in values:
            return Genotype.from_json(values[GENOTYPE])
        missing = [decision.name for decision in self.decisions if decision.name not in values]
        if missing:
            raise ValueError(f"`values` must hold every decision of the space. Missing: {', '.join(missing[:3])}")
        chosen = [values[decision.name] for decision in self.decisions]
        for decision, value in zip(self.decisions, chosen, strict=True):
            _index(decision, value)
        return self._genotype(chosen)

    def random(self, rng):
        """One integer per decision, each drawn uniformly.

        Args:
            rng: a `numpy.random.Generator` or a `random.Random`.
        """
        return tuple(int(rng.random() * len(decision.choices)) for decision in self.decisions)

    def mutated(self, decisions, rng):
        """The same but for one decision, drawn among those that have an alternative, which is another choice.

        Args:
            decisions: one integer per decision.
            rng: a `numpy.random.Generator`.
        """
        place = self._mutable[int(rng.integers(len(self._mutable)))]
        choices = len(self.decisions[place].choices)
        other = (decisions[place] + 1 + int(rng.integers(choices - 1))) % choices
        return (*decisions[:place], other, *decisions[place + 1 :])

    @cached_property
    def _mutable(self):
        return [place for place, decision in enumerate(self.decisions) if len(decision.choices) > 1]

    def sample(self, count, rng):
        """A tuple of random `Genotype`s; `rng` as for `random`."""
        return tuple(self.decode(self.random(rng)) for _ in range(count))

    def to_dict(self):
        """The space as JSON-able data, by which the directory of another search is recognised."""
        return {"blocks": self.blocks, "operations": list(self.operations), "combinations": list(self.combinations)}

    @classmethod
    def from_dict(cls, data):
        """The inverse of `to_dict`; raises `ValueError`."""
        if not isinstance(data, dict) or set(data) != {"blocks", "operations", "combinations"}:
            raise ValueError(f"a space must have the keys blocks, operations, combinations. Received: {data!r}")
        return cls(**data)

    def _block_decisions(self, cell, block):
        states = tuple(range(2 + block))
        for part, choices in (
            ("input_left", states),
            ("input_right", states),
            ("operation_left", self.operations),
            ("operation_right", self.operations),
            ("combine", self.combinations),
        ):
            yield Decision(f"{cell}_block_{block}_{part}", choices, part.split("_")[0])

    def _pairs(self, decisions):
        decisions = tuple(decisions)
        if len(decisions) != len(self.decisions):
            raise ValueError(f"`decisions` must be {len(self.decisions)} integers. Received: {len(decisions)}")
        for decision, index in zip(self.decisions, decisions, strict=True):
            if not 0 <= index < len(decision.choices):
                raise ValueError(
                    f"`decisions` must be an integer from 0 to {len(decision.choices) - 1} for {decision.name}. "
                    f"Received: {index!r}"
                )
        return zip(self.decisions, decisions, strict=True)

    def _genotype(self, values):
        cells = []
        for start in range(0, len(values), self.blocks * DECISIONS_PER_BLOCK):
            blocks = tuple(
                Block(tuple(values[at : at + 2]), tuple(values[at + 2 : at + 4]), values[at + 4])
                for at in range(start, start + self.blocks * DECISIONS_PER_BLOCK, DECISIONS_PER_BLOCK)
            )
            cells.append(CellGenotype(blocks, _loose_ends(blocks)))
        return Genotype(*cells)


def _loose_ends(blocks):
    read = {state for block in blocks for state in block.inputs}
    return tuple(state for state in range(2, 2 + len(blocks)) if state not in read)


def _index(decision, value):
    # The type is compared too: True and 1.0 equal 1, and are not numbers of states.
    for index, choice in enumerate(decision.choices):
        if type(value) is type(choice) and value == choice:
            return index
    raise ValueError(f"`{decision.name}` must be one of {', '.join(map(str, decision.choices))}. Received: {value!r}")


def _names(label, value, allowed):
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"`{label}` must be a list of names. Received: {value!r}")
    names = tuple(value)
    unknown = [name for name in names if name not in allowed]
    if not names or unknown or len(set(names)) != len(names):
        raise ValueError(
            f"`{label}` must be different names from {', '.join(allowed)}, at least one. Received: {list(names)!r}"
        )
    return names
