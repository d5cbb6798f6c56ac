"""A cell, Normal or Reduction, written as primitives: a loop over the blocks of a `CellGenotype`.

Zoph et al. 2018 (arXiv 1707.07012), section 3.1 and appendix A.4.
"""

from dataclasses import dataclass

from nasnet_keras.checks import check_integer, check_rate
from nasnet_keras.genotype import CellGenotype
from nasnet_keras.program.operations import write_combination, write_operation

# How an input state is brought to the cell's own F channels and size before the blocks read it.
ADJUSTMENTS = {
    "raw": None,  # left alone: the stem, standing in for the missing h_{i-1} of the first cell
    "match": "conv_1x1",  # the right size: ReLU, 1x1, BN, but only where the channels differ
    "project": "conv_1x1",  # the same always
    "reduce": "factorized_reduction",  # one size too large
}


@dataclass(frozen=True)
class CellPlan:
    """A cell and its place in a network: all that its program depends on.

    Args:
        genotype: a `CellGenotype`.
        filters: F.
        strides: 1, or 2 for operations that read the cell's inputs.
        adjust: for each input state of the genotype a name from `ADJUSTMENTS`.
        drop_path: final drop-path rate of every operation in this cell; an identity is never dropped.

    Raises:
        ValueError: naming the argument at fault.
    """

    genotype: CellGenotype
    filters: int
    strides: int = 1
    adjust: tuple[str, ...] = ("match", "project")
    drop_path: float = 0.0

    def __post_init__(self):
        inputs = self.genotype.inputs
        if len(self.adjust) != inputs or not set(self.adjust) <= set(ADJUSTMENTS):
            raise ValueError(
                f"`adjust` must have {inputs} names from {', '.join(ADJUSTMENTS)}. Received: {self.adjust!r}"
            )
        check_integer("filters", self.filters, least=1)
        if self.strides not in (1, 2):
            raise ValueError(f"`strides` must be 1 or 2. Received: {self.strides!r}")
        check_rate("drop_path", self.drop_path)

    @property
    def reads(self):
        """The states that the cell receives and that reach its output, in ascending order."""
        return tuple(state for state in self.genotype.live_states() if state < self.genotype.inputs)

    def write(self, program, inputs):
        """Append the cell to a `program.Program`. States that do not reach the output are not computed.

        Args:
            program: a `Program`.
            inputs: the values of the states `reads`.

        Returns:
            The list of values that the cell passes on: one, the concatenation, for a genotype with two inputs;
            otherwise each state of `concat`, of F channels.
        """
        cell = self.genotype
        states = dict(zip(self.reads, inputs, strict=True))
        names = {0: "previous", 1: "current"} if cell.inputs == 2 else {}
        for state in self.reads:
            with program.scope(names.get(state, f"input_{state}")):
                states[state] = self._adjusted(program, state, states[state])
        for state in cell.live_states()[len(self.reads) :]:
            index = state - cell.inputs
            with program.scope(f"block_{index}"):
                states[state] = self._block(program, cell.blocks[index], states)
        results = [self._passed_on(program, state, states[state]) for state in cell.concat]
        return results if cell.inputs > 2 else [program.concat(results)]

    def _adjusted(self, program, state, value):
        way = self.adjust[state]
        if way == "raw" or (way == "match" and value.channels == self.filters):
            return value
        return write_operation(program, ADJUSTMENTS[way], value, self.filters, 2 if way == "reduce" else 1)

    def _block(self, program, block, states):
        results = []
        for side, kind, read in zip(("left", "right"), block.operations, block.inputs, strict=True):
            strides = self.strides if read < self.genotype.inputs else 1
            with program.scope(side):
                result = write_operation(program, kind, states[read], self.filters, strides)
                if self.drop_path and kind != "identity":
                    result = program.drop_path(result, self.drop_path)
            results.append(result)
        with program.scope("combine"):
            return write_combination(program, block.combine, *results)

    def _passed_on(self, program, state, value):
        """An input that joins the output is brought to the output's size and channels."""
        strides = self.strides if state < self.genotype.inputs else 1
        if strides == 1 and value.channels == self.filters:
            return value
        with program.scope(f"output_{state}"):
            kind = "output_reduction" if strides > 1 else "output_projection"
            return write_operation(program, kind, value, self.filters, strides)
