"""A cell, Normal or Reduction, as one Keras layer: a loop over the blocks of a `CellGenotype`.

Zoph et al. 2018 (arXiv 1707.07012), section 3.1 and appendix A.4.
"""

import keras

from nasnet_keras import genotype as genotypes
from nasnet_keras.layers import DropPath, halved
from nasnet_keras.operations import Combination, Operation
from nasnet_keras.parts import Composite, Options

# How an input state is brought to the cell's own F channels and size before the blocks read it.
ADJUSTMENTS = {
    "raw": None,  # left alone: the stem, standing in for the missing h_{i-1} of the first cell
    "match": "conv_1x1",  # the right size: ReLU, 1x1, BN, but only where the channels differ
    "project": "conv_1x1",  # the same always
    "reduce": "factorized_reduction",  # one size too large
}


@keras.saving.register_keras_serializable(package="nasnet_keras")
class BlockLayer(Composite):
    """One block: an operation on each of two states, drop path, and the combination.

    Args:
        block: a `genotype.Block`, or its dict.
        filters: F, the channels of the result.
        strides: strides of the left and of the right operation.
        drop_path: final drop-path rate of both paths; an identity is never dropped.
        options: an `Options`, or a dict of some of its fields.
    """

    def __init__(self, block, filters, strides=(1, 1), drop_path=0.0, **kwargs):
        super().__init__(**kwargs)
        self.block = block if isinstance(block, genotypes.Block) else genotypes.Block(**block)
        self.filters = filters
        self.strides = tuple(strides)
        self.drop_path = drop_path

    def build(self, inputs_shape, progress_shape=None):
        """Make `left`, `right` and `combine`."""
        shared = {"options": Options.of(self.options).to_dict(), "dtype": self.dtype_policy}
        self.sides = []
        for name, kind, strides, shape in zip(
            ("left", "right"), self.block.operations, self.strides, inputs_shape, strict=True
        ):
            operation = Operation(kind, self.filters, strides, name=name, **shared)
            operation.build(shape)
            dropped = self.drop_path and kind != "identity"
            drop = DropPath(self.drop_path, name=f"{name}_drop_path", dtype=self.dtype_policy) if dropped else None
            self.sides.append((operation, drop))
        self.left, self.right = (operation for operation, _ in self.sides)
        self.drop_paths = [drop for _, drop in self.sides if drop]
        self.combine = Combination(self.block.combine, self.filters, name="combine", **shared)
        self.combine.build([self.left.compute_output_shape(inputs_shape[0])] * 2)
        self.parts = [self.left, self.right, self.combine]

    def call(self, inputs, progress=None):
        """Two states of [batch, height, width, channels] to one of F channels."""
        results = []
        for state, (operation, drop) in zip(inputs, self.sides, strict=True):
            result = operation(state)
            results.append(drop(result, progress) if drop else result)
        return self.combine(results)

    def compute_output_shape(self, inputs_shape, progress_shape=None):
        """[batch, height, width, F] after the strides."""
        batch, height, width, _ = inputs_shape[0]
        return (batch, halved(height, self.strides[0]), halved(width, self.strides[0]), self.filters)

    def multiply_adds(self, inputs_shape):
        """Multiply-adds of both operations and the combination, for one image."""
        left, right = inputs_shape
        total = self.left.multiply_adds(left) + self.right.multiply_adds(right)
        return total + self.combine.multiply_adds(self.compute_output_shape(inputs_shape))

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "block": self.block.to_dict(),
            "filters": self.filters,
            "strides": self.strides,
            "drop_path": self.drop_path,
        }


class Wiring:
    """Which operations a cell needs and what they read, without saying what they are made of.

    `Cell` makes Keras layers of it; a child of a search can be put together from it without any.

    Attributes:
        live: the states that reach the output, in the order in which they are computed.
        reads: those of them that the cell receives.
    """

    def wire(self, genotype, filters, strides, adjust):
        """Check and keep the description; see `Cell`."""
        cell = genotype if isinstance(genotype, genotypes.CellGenotype) else genotypes.CellGenotype.from_dict(genotype)
        adjust = tuple(adjust)
        if len(adjust) != cell.inputs or not set(adjust) <= set(ADJUSTMENTS):
            raise ValueError(
                f"`adjust` must have {cell.inputs} names from {', '.join(ADJUSTMENTS)}. Received: {adjust!r}"
            )
        self.genotype = cell
        self.filters = filters
        self.strides = strides
        self.adjust = adjust
        self.live = cell.live_states()
        self.reads = tuple(state for state in self.live if state < cell.inputs)

    def entry(self, state, channels):
        """(kind, strides) of the operation that an input state passes before the blocks read it, or None."""
        way = self.adjust[state]
        if way == "raw" or (way == "match" and channels == self.filters):
            return None
        return ADJUSTMENTS[way], 2 if way == "reduce" else 1

    def live_blocks(self):
        """(state, index, block, strides of both operations) of every block that reaches the output."""
        inputs = self.genotype.inputs
        for state in self.live[len(self.reads) :]:
            block = self.genotype.blocks[state - inputs]
            yield state, state - inputs, block, tuple(self.strides if read < inputs else 1 for read in block.inputs)

    def exit(self, state, channels):
        """(kind, strides) of the operation that a state passes before it joins the output, or None."""
        strides = self.strides if state < self.genotype.inputs else 1
        if strides == 1 and channels == self.filters:
            return None
        return "output_reduction" if strides > 1 else "output_projection", strides


@keras.saving.register_keras_serializable(package="nasnet_keras")
class Cell(Wiring, Composite):
    """A Normal (strides 1) or Reduction (strides 2) cell.

    The call takes a list with the input states that the genotype reads, in ascending order
    (`genotype.live_states()`), each [batch, height, width, channels], and the drop path's progress;
    it returns [batch, ceil(height / strides), ceil(width / strides), F · len(concat)]. A genotype with
    more than two inputs returns the list of the states that it passes on, of F channels each.
    States that do not reach the output are not computed and have no weights.

    Args:
        genotype: a `CellGenotype`, or its dict.
        filters: F.
        strides: 1, or 2 for operations that read the cell's inputs.
        adjust: for each input state of the genotype a name from `ADJUSTMENTS`.
        drop_path: final drop-path rate in this cell.
        options: an `Options`, or a dict of some of its fields.

    Raises:
        ValueError: an unknown adjustment, or not one for each input.
    """

    def __init__(self, genotype, filters, strides=1, adjust=("match", "project"), drop_path=0.0, **kwargs):
        super().__init__(**kwargs)
        self.wire(genotype, filters, strides, adjust)
        self.drop_path = drop_path

    def build(self, inputs_shape, progress_shape=None):
        """Make the adjustments, the blocks that reach the output, and what the output needs."""
        shared = {"options": Options.of(self.options).to_dict(), "dtype": self.dtype_policy}
        cell, filters = self.genotype, self.filters
        shapes = dict(zip(self.reads, (tuple(shape) for shape in inputs_shape), strict=True))
        names = {0: "previous", 1: "current"} if cell.inputs == 2 else {}
        self.adjustments = {}
        for state in self.reads:
            way = self.entry(state, shapes[state][-1])
            if way is None:
                continue
            kind, strides = way
            name = names.get(state, f"input_{state}")
            layer = Operation(kind, filters, strides, name=name, **shared)
            layer.build(shapes[state])
            shapes[state] = layer.compute_output_shape(shapes[state])
            self.adjustments[str(state)] = layer
        self.blocks = {}
        for state, index, block, strides in self.live_blocks():
            layer = BlockLayer(block, filters, strides, self.drop_path, name=f"block_{index}", **shared)
            layer.build([shapes[read] for read in block.inputs])
            shapes[state] = layer.compute_output_shape([shapes[read] for read in block.inputs])
            self.blocks[str(state)] = layer
        self.outputs = {}
        for state in cell.concat:
            way = self.exit(state, shapes[state][-1])
            if way is not None:
                kind, strides = way
                layer = Operation(kind, filters, strides, name=f"output_{state}", **shared)
                layer.build(shapes[state])
                self.outputs[str(state)] = layer

    def call(self, inputs, progress=None):
        """Compute the live states in order, then the output."""
        states = dict(zip(self.reads, inputs, strict=True))
        for state, layer in self.adjustments.items():
            states[int(state)] = layer(states[int(state)])
        for state, layer in self.blocks.items():
            states[int(state)] = layer([states[read] for read in layer.block.inputs], progress)
        results = [
            self.outputs[str(s)](states[s]) if str(s) in self.outputs else states[s] for s in self.genotype.concat
        ]
        return keras.ops.concatenate(results, axis=-1) if self.genotype.inputs == 2 else results

    def compute_output_shape(self, inputs_shape, progress_shape=None):
        """See the class: one shape, or a list of them."""
        batch, height, width, _ = inputs_shape[-1]
        if self.adjust[self.reads[-1]] == "reduce":
            height, width = halved(height), halved(width)
        shape = (batch, halved(height, self.strides), halved(width, self.strides))
        count = len(self.genotype.concat)
        return (*shape, self.filters * count) if self.genotype.inputs == 2 else [(*shape, self.filters)] * count

    def compute_output_spec(self, inputs, progress=None):
        """Keras tensors of the output's shape: no tracing while a model is put together."""
        shape = self.compute_output_shape([state.shape for state in inputs])
        if isinstance(shape, list):
            return [keras.KerasTensor(one, dtype=self.compute_dtype) for one in shape]
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def multiply_adds(self, inputs_shape):
        """Multiply-adds of the convolutions inside, for one image."""
        shapes = dict(zip(self.reads, (tuple(shape) for shape in inputs_shape), strict=True))
        total = 0
        for state, layer in self.adjustments.items():
            total += layer.multiply_adds(shapes[int(state)])
            shapes[int(state)] = layer.compute_output_shape(shapes[int(state)])
        for state, layer in self.blocks.items():
            reads = [shapes[read] for read in layer.block.inputs]
            total += layer.multiply_adds(reads)
            shapes[int(state)] = layer.compute_output_shape(reads)
        return total + sum(layer.multiply_adds(shapes[int(state)]) for state, layer in self.outputs.items())

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "genotype": self.genotype.to_dict(),
            "filters": self.filters,
            "strides": self.strides,
            "adjust": self.adjust,
            "drop_path": self.drop_path,
        }
