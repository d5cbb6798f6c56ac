"""The package's Keras layers: each holds a `program.Program` and its weights, and runs it.

A cell is one layer, not the three hundred that its primitives would be: a Keras layer costs half a
millisecond to make and as much to call, which is most of what a small network's first step takes.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import keras
import numpy as np

from nasnet_keras import genotype as genotypes
from nasnet_keras.checks import check_integer, check_one_of
from nasnet_keras.models.functions import Run, compute, short_variable_names, use_kernels
from nasnet_keras.program.cell import CellPlan
from nasnet_keras.program.operations import CHAINS, write_combination, write_operation
from nasnet_keras.program.options import Options
from nasnet_keras.program.parts import parts_of
from nasnet_keras.program.program import Program

PART = 200_000  # initial values drawn by a thread at a time


class ProgramLayer(keras.layers.Layer):
    """A layer whose computation is a program, written by `write`.

    Batch norms learn from the batch while training, unless `trainable` is False: then they stay as
    they are, as Keras' own do, and no paths are dropped: the layer is a fixed function. With
    `frozen_statistics` the weights may learn, and batch norms go by their moving statistics all the same.

    Args:
        options: an `Options`, or a dict of some of its fields.
        frozen_statistics, frozen_norms: a state of training, as `trainable` is; `models.freezing` sets it.
    """

    many = False  # whether a list of results comes out
    seed_generator = None  # of dropped paths
    remat = False  # whether a training step keeps less in memory and computes more, see `_recomputed`

    def __init__(self, *, options=None, frozen_statistics=False, frozen_norms=False, **kwargs):
        super().__init__(**kwargs)
        self.options, self.frozen_statistics, self._starts_frozen = options, frozen_statistics, frozen_norms

    def write(self, program, inputs):
        """Append the computation of this layer to `program` and return the list of its results."""
        raise NotImplementedError

    def _program(self, inputs_shape):
        """The program for inputs with these channels, and its results."""
        if self.built:
            return self.program, self.results
        program = Program(tuple(shape[-1] for shape in _shapes(inputs_shape)), Options.of(self.options))
        return program, tuple(self.write(program, program.inputs))

    def build(self, inputs_shape, progress_shape=None):
        """Write the program for inputs with these channels and create its weights."""
        self.program, self.results = self._program(inputs_shape)
        self.compute_output_shape(inputs_shape)  # raises where a size must be known
        decay = self.program.options.weight_decay
        # Keras' L2 multiplies the plain sum of squares, hence the half.
        regularizer = keras.regularizers.L2(decay / 2) if decay else None
        values = _initial_values(self.program.weights)
        self.own = [self._variable(*pair, regularizer) for pair in zip(self.program.weights, values, strict=True)]
        for variable in (() if self.trainable else self.own) or (self.scales() if self._starts_frozen else ()):
            variable.trainable = False

    def _variable(self, weight, value, regularizer):
        *places, name = f"{self.path}/{weight.name}".split("/")
        kind = self.variable_dtype
        if not weight.trainable:  # in half a precision a statistic that moves by 0.0003 of a difference stands still
            kind = keras.backend.result_type(kind, "float32")
        with keras.name_scope(places.pop(), override_parent="/".join(places)), short_variable_names():
            variable = keras.Variable(
                lambda shape, dtype: value,
                shape=weight.shape,
                dtype=kind,
                trainable=weight.trainable,
                autocast=False,
                name=name,
            )
        if weight.fan_out:
            variable.regularizer = regularizer
        return variable

    def named_weights(self):
        """{place inside this layer, for example `"block_0/left/conv/kernel"`: variable}, in the program's order."""
        return {weight.name: variable for weight, variable in zip(self.program.weights, self.own, strict=True)}

    def scales(self):
        """Scales and offsets of the batch norms inside, variables; none before they are built."""
        steps = self.program.steps if hasattr(self, "own") else ()
        norms = [step for step in steps if step.primitive.kind == "norm"]
        named = self.named_weights() if norms else {}
        return [named[weight.name] for step in norms for weight in step.weights if weight.trainable]

    def has_frozen_norms(self):
        """Whether scales and offsets of batch norms stand still while the rest learns."""
        return self.trainable and bool(scales := self.scales()) and not any(scale.trainable for scale in scales)

    def call(self, inputs, progress=None, training=None):
        """Run the program; `progress` scales the rate of dropped paths."""
        tensors = inputs if isinstance(inputs, list | tuple) else [inputs]
        training = bool(training and self.trainable)
        learning = training and not self.frozen_statistics
        run = Run(training, learning, progress, self.seed_generator, use_kernels(training))
        recomputes = training and self.remat
        results = self._recomputed(tensors, run) if recomputes else self._compute(tensors, self.own, run)
        return results if self.many else results[0]

    def _compute(self, tensors, weights, run):
        """The results of the program; in a TensorFlow graph from functions that many layers share.

        There a layer that is not trainable runs folded, and no gradient with respect to its weights is prepared.
        """
        if keras.backend.backend() == "tensorflow":
            from nasnet_keras.models import traced

            if traced.can_trace(self.own):
                parts = parts_of(self.program, self.results)
                return traced.compute_parts(parts, tensors, weights, run, self.results, fixed=not self.trainable)
        return compute(self.program, tensors, weights, run, self.results)

    def _recomputed(self, tensors, run):
        """As `_compute`; for gradients only what is read is kept, and the rest is computed a second time.

        Chen et al. 2016 (arXiv 1604.06174). What is drawn is drawn once, and statistics move once.
        """
        rates = [step.primitive.rate for step in self.program.steps if step.primitive.kind == "drop_path"]
        drawn = [run.path(rate, keras.ops.shape(tensors[0])[0]) for rate in rates]

        def function(*values):
            inner = replace(run, paths=iter(drawn), moved=[])
            results = self._compute(values[: len(tensors)], values[len(tensors) :], inner)
            return [*results, *inner.moved]

        made = keras.remat(function)(*tensors, *map(keras.ops.convert_to_tensor, self.own))
        moving = [own for own, weight in zip(self.own, self.program.weights, strict=True) if not weight.trainable]
        for variable, value in zip(moving if run.learning else (), made[len(self.results) :], strict=True):
            variable.assign(value)
        return made[: len(self.results)]

    def compute_output_shape(self, inputs_shape, progress_shape=None):
        """The result's shape, known without running anything."""
        program, results = self._program(inputs_shape)
        shapes = _shapes(inputs_shape)
        sizes = program.sizes(*(shape[1:3] for shape in shapes))
        shapes = [(shapes[0][0], *sizes[value.number], value.channels) for value in results]
        return shapes if self.many else shapes[0]

    def compute_output_spec(self, inputs, progress=None, training=None):
        """Keras tensors of the output's shape: no tracing while a model is put together."""
        shapes = self.compute_output_shape(keras.tree.map_structure(lambda x: tuple(x.shape), inputs))
        return keras.tree.map_shape_structure(lambda shape: keras.KerasTensor(shape, self.compute_dtype), shapes)

    def multiply_adds(self, inputs_shape):
        """Multiply-adds of the convolutions inside, for one image."""
        program, _ = self._program(inputs_shape)
        return program.multiply_adds(*(shape[1:3] for shape in _shapes(inputs_shape)))

    def get_config(self):
        """The constructor's arguments."""
        options = self.options
        still = {"frozen_statistics": self.frozen_statistics, "frozen_norms": self.has_frozen_norms()}
        still = {name: True for name, value in still.items() if value}
        options = options.to_dict() if isinstance(options, Options) else options
        return {**super().get_config(), "options": options, **still}


def _initial_values(weights):
    """The initial value of each weight in turn; numbers are drawn in threads while variables are made of others."""
    # A default seed of Keras', which `keras.utils.set_random_seed` decides on.
    seed = np.random.SeedSequence(keras.initializers.RandomNormal().seed)
    drawn = [weight for weight in weights if weight.fan_out]
    parts = _in_parts(drawn, seed.spawn(len(drawn)))
    with ThreadPoolExecutor() as pool:
        # The first is waited for at once, so a single one gains nothing from a thread.
        values = pool.map(_draw, parts) if len(parts) > 1 else map(_draw, parts)
        kernels = (value for part in values for value in part)
        for weight in weights:
            yield next(kernels) if weight.fan_out else weight.initial_value(None)


def _in_parts(weights, seeds):
    """Kernels in groups that are worth a task of their own: a thread that is woken costs as much as some."""
    parts, size = [], PART
    for weight, seed in zip(weights, seeds, strict=True):
        if size >= PART:
            parts.append([])
            size = 0
        parts[-1].append((weight, seed))
        size += weight.size
    return parts


def _draw(part):
    return [weight.initial_value(np.random.Generator(np.random.SFC64(seed))) for weight, seed in part]


def _shapes(inputs_shape):
    """One shape, or a list of them, as a list of tuples."""
    many = isinstance(inputs_shape[0], list | tuple)
    return [tuple(shape) for shape in (inputs_shape if many else [inputs_shape])]


@keras.saving.register_keras_serializable(package="nasnet_keras")
class Operation(ProgramLayer):
    """One operation on one state, [batch, height, width, channels] to [..., filters].

    Args:
        kind: a name from `operations.CHAINS`; the search space's are `genotype.OPERATIONS`.
        filters: channels of the result.
        strides: 1, or 2 to halve height and width, rounded up.
        options: an `Options`, or a dict of some of its fields.

    Raises:
        ValueError: an unknown kind, filters below 1, or another stride.
    """

    def __init__(self, kind, filters, strides=1, **kwargs):
        super().__init__(**kwargs)
        if kind not in CHAINS:
            raise ValueError(f"`kind` must be one of {', '.join(genotypes.OPERATIONS)}. Received: {kind!r}")
        check_integer("filters", filters, least=1)
        if strides not in (1, 2):
            raise ValueError(f"`strides` must be 1 or 2. Received: {strides!r}")
        self.kind = kind
        self.filters = filters
        self.strides = strides

    def write(self, program, inputs):
        """Append the chain of `operations.CHAINS`."""
        return [write_operation(program, self.kind, *inputs, self.filters, self.strides)]

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "kind": self.kind, "filters": self.filters, "strides": self.strides}


@keras.saving.register_keras_serializable(package="nasnet_keras")
class Combination(ProgramLayer):
    """Joins a block's two results of F channels, a list, into one state of F channels.

    Args:
        kind: a name from `genotype.COMBINATIONS`; see `operations.write_combination`.
        options: an `Options`, or a dict of some of its fields.

    Raises:
        ValueError: an unknown kind.
    """

    def __init__(self, kind, **kwargs):
        super().__init__(**kwargs)
        check_one_of("kind", kind, genotypes.COMBINATIONS)
        self.kind = kind

    def write(self, program, inputs):
        """Append the combination."""
        return [write_combination(program, self.kind, *inputs)]

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "kind": self.kind}


@keras.saving.register_keras_serializable(package="nasnet_keras")
class Cell(ProgramLayer):
    """A Normal (strides 1) or Reduction (strides 2) cell.

    The call takes a list with the input states that the genotype reads, in ascending order
    (`reads`), each [batch, height, width, channels], and the drop path's progress;
    it returns [batch, ceil(height / strides), ceil(width / strides), F · len(concat)]. A genotype with
    more than two inputs returns the list of the states that it passes on, of F channels each.
    States that do not reach the output are not computed and have no weights.

    Args:
        genotype: a `CellGenotype`, or its dict.
        filters: F.
        strides: 1, or 2 for operations that read the cell's inputs.
        adjust: for each input state of the genotype a name from `cell.ADJUSTMENTS`.
        drop_path: final drop-path rate in this cell.
        options: an `Options`, or a dict of some of its fields.

    Raises:
        ValueError: naming the argument at fault.
    """

    def __init__(self, genotype, filters, strides=1, adjust=("match", "project"), drop_path=0.0, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(genotype, genotypes.CellGenotype):
            genotype = genotypes.CellGenotype.from_dict(genotype)
        self.genotype, self.filters, self.strides = genotype, filters, strides
        self.adjust, self.drop_path = tuple(adjust), drop_path
        self.reads = self.plan.reads
        self.many = genotype.inputs > 2
        self.seed_generator = keras.random.SeedGenerator() if drop_path else None

    @property
    def plan(self):
        """What the cell's program depends on, a `CellPlan`."""
        return CellPlan(self.genotype, self.filters, self.strides, self.adjust, self.drop_path)

    def write(self, program, inputs):
        """Append the cell."""
        return self.plan.write(program, inputs)

    def get_config(self):
        """The constructor's arguments."""
        description = {"genotype": self.genotype.to_dict(), "filters": self.filters, "strides": self.strides}
        return {**super().get_config(), **description, "adjust": self.adjust, "drop_path": self.drop_path}
