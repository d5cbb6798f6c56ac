"""The primitives of a `program.Program` as Keras operations, which run and differentiate on every backend.

Each function takes the primitive, the values that it reads, its weights and the `Run`.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import keras
from keras import ops

from nasnet_keras.program.options import BOUND
from nasnet_keras.program.program import zeros_before


@dataclass(frozen=True)
class Run:
    """What a call knows beside its inputs.

    Args:
        training: whether paths are dropped.
        learning: whether batch norms use the batch's statistics and move their own.
        progress: how far the drop-path schedule has come, a scalar from 0 to 1, or None for its end.
        seed: a `keras.random.SeedGenerator` for dropped paths, or None where there are none.
        kernels: whether to use the operations of `kernels`, whose derivatives are faster; see `use_kernels`.
        paths: what `path` is to give, an iterator, where it has been drawn before; None to draw.
        moved: a list for what the statistics of batch norms become, two values a norm; None: they are moved at once.
    """

    training: bool = False
    learning: bool = False
    progress: object = None
    seed: object = None
    kernels: bool = False
    paths: object = None
    moved: list | None = None

    def path(self, rate, count):
        """What decides on a dropped path: the share that is kept now, and uniform numbers [count, 1, 1, 1]."""
        if self.paths is not None:
            return next(self.paths)
        progress = 1.0 if self.progress is None else ops.cast(self.progress, "float32")
        return 1.0 - rate * progress, keras.random.uniform((count, 1, 1, 1), dtype="float32", seed=self.seed)


def use_kernels(training):
    """Whether `kernels` serves this call: it trains, on TensorFlow and on a CPU."""
    return bool(training) and keras.backend.backend() == "tensorflow" and not on_accelerator()


def on_accelerator():
    """Whether Keras sees another device than the CPU."""
    return any(device.split(":")[0].lower() != "cpu" for device in keras.distribution.list_devices())


def compute(program, inputs, weights, run, results):
    """Run a program. A value is let go as soon as nothing reads it any more: memory holds a cell, not a network.

    Args:
        program: a `Program`.
        inputs: one tensor for each of its inputs.
        weights: the weights, in the order of `program.weights`.
        run: a `Run`.
        results: the `Value`s that are wanted.

    Returns:
        A list with the tensor of each result.
    """
    last = {value.number: step for step in program.steps for value in step.reads}
    last |= {value.number: None for value in results}
    values, weights = dict(enumerate(inputs)), iter(weights)
    for step in program.steps:
        own = [next(weights) for _ in step.weights]
        reads = [values[value.number] for value in step.reads]
        for value in step.reads:
            if last[value.number] is step:
                values.pop(value.number, None)
        values[step.result.number] = FUNCTIONS[step.primitive.kind](step.primitive, reads, own, run)
    return [values[value.number] for value in results]


def folded(folds, values):
    """{name: tensor} of the kernels and biases that `folds` change, in TensorFlow: all norms at once.

    Args:
        folds: `program.folding.Fold`s, in their order.
        values: `{name: tensor or variable}` of the weights before.
    """
    import tensorflow as tf

    if not folds:
        return {}
    whole = {id(one.norm): one.norm for one in folds}.values()
    joined = ([values[norm.weights[number].name] for norm in whole] for number in range(4))
    scale, offset, mean, variance = (tf.concat([tf.convert_to_tensor(one) for one in part], 0) for part in joined)
    scale, offset = _as(mean.dtype, scale), _as(mean.dtype, offset)  # of half the precision, they are narrower
    factor = scale * tf.math.rsqrt(variance + folds[0].norm.primitive.epsilon)
    sizes = [one.end - one.start for one in folds]
    changed = {}
    for one, own, shift in zip(folds, tf.split(factor, sizes), tf.split(offset - mean * factor, sizes), strict=True):
        changed[one.kernel.name] = _as(own.dtype, tf.convert_to_tensor(values[one.kernel.name])) * own
        changed[one.bias.name] = shift
    return changed


def short_variable_names():
    """A context in which TensorFlow does not see the path of a variable that is made.

    TensorFlow prepares a kernel for every new pair of a name and a shape, which takes three times as long as all
    the rest of making a variable. Keras' own `path` is not concerned.
    """
    if keras.backend.backend() != "tensorflow":
        return nullcontext()
    import tensorflow as tf

    return tf.name_scope("")


def variables_at_once():
    """A context in which TensorFlow makes variables at once, also while it traces a function.

    A function that makes variables while it is traced is traced again afterwards, without: the moments of an optimiser
    and the sums of figures would double what a first step costs.
    """
    if keras.backend.backend() != "tensorflow":
        return nullcontext()
    import tensorflow as tf

    if tf.executing_eagerly() or tf.distribute.has_strategy():
        return nullcontext()

    def make(next_creator, **settings):
        with tf.init_scope():
            return next_creator(**{**settings, "experimental_enable_variable_lifting": False})

    return tf.variable_creator_scope(make)


def _relu(what, inputs, weights, run):
    return ops.relu(inputs[0]) if what.bound is None else ops.relu6(inputs[0])


def _clip(what, inputs, weights, run):
    return ops.clip(inputs[0], -BOUND, BOUND)


def _average_pool(what, inputs, weights, run):
    if run.kernels:
        from nasnet_keras.models import kernels

        return kernels.average_pool(inputs[0], what.size, what.strides, what.padding)
    return ops.average_pool(inputs[0], what.size, what.strides, what.padding.lower(), "channels_last")


def _max_pool(what, inputs, weights, run):
    return ops.max_pool(inputs[0], what.size, what.strides, what.padding.lower(), "channels_last")


def _zeros(what, inputs, weights, run):
    amounts = [(zeros_before(length, what.size), what.size // 2) for length in inputs[0].shape[1:3]]
    return ops.pad(inputs[0], [(0, 0), *amounts, (0, 0)])


def _subsample(what, inputs, weights, run):
    if keras.backend.backend() == "tensorflow":  # whose indexing with steps takes five times as long as a pool of one
        return ops.average_pool(inputs[0], 1, what.strides, "valid", "channels_last")
    return inputs[0][:, :: what.strides, :: what.strides, :]


def _shift(what, inputs, weights, run):
    batch, height, width, channels = ops.shape(inputs[0])
    # `ops.slice`, because the gradient of an indexing with steps is slow in TensorFlow.
    moved = ops.slice(inputs[0], (0, 1, 1, 0), (batch, height - 1, width - 1, channels))
    return ops.pad(moved, [(0, 0), (0, 1), (0, 1), (0, 0)])


def _add(what, inputs, weights, run):
    return ops.add(*inputs)


def _concat(what, inputs, weights, run):
    return ops.concatenate(inputs, axis=-1)


def _mean(what, inputs, weights, run):
    return ops.mean(ops.cast(inputs[0], "float32"), axis=(1, 2))


def _dense(what, inputs, weights, run):
    return ops.add(ops.matmul(ops.cast(inputs[0], "float32"), weights[0]), weights[1])


def _bias(what, inputs, weights, run):
    return ops.add(inputs[0], ops.cast(weights[0], inputs[0].dtype))


def _conv(what, inputs, weights, run):
    x, kernel = inputs[0], ops.cast(weights[0], inputs[0].dtype)
    return ops.conv(x, kernel, what.strides, what.padding.lower(), "channels_last", what.dilation)


def _depthwise(what, inputs, weights, run):
    kernel = ops.cast(weights[0], inputs[0].dtype)
    if run.kernels:
        from nasnet_keras.models import kernels

        return kernels.depthwise(inputs[0], kernel, what.strides)
    return ops.depthwise_conv(inputs[0], kernel, what.strides, "same", "channels_last")


def _norm(what, inputs, weights, run):
    """By the batch's biased variance; the moving one takes its unbiased one, as TF-slim's fused batch norm does."""
    x, moving = inputs[0], weights[2:]
    dtype = _statistics_dtype(weights)
    scale, offset, moving_mean, moving_variance = (_as(dtype, weight) for weight in weights)
    if not run.learning:
        return _normalized(x, moving_mean, moving_variance, scale, offset, what.epsilon)
    if keras.backend.backend() == "tensorflow" and keras.backend.standardize_dtype(x.dtype) != "float64":
        result, mean, variance = _tensorflow_norm(x, scale, offset, what.epsilon)
    else:
        wide = ops.cast(x, dtype)
        mean, variance = ops.moments(wide, axes=(0, 1, 2))
        result = ops.cast(ops.batch_normalization(wide, mean, variance, -1, offset, scale, what.epsilon), x.dtype)
        count = ops.cast(ops.size(x) // x.shape[-1], variance.dtype)
        variance = variance * (count / ops.maximum(count - 1, 1))
    for variable, before, batch in zip(moving, (moving_mean, moving_variance), (mean, variance), strict=True):
        value = _as(variable.dtype, before * what.momentum + batch * (1.0 - what.momentum))
        if run.moved is None:
            variable.assign(value)
        else:
            run.moved.append(ops.stop_gradient(value))
    return result


def _statistics_dtype(weights):
    """That in which norms compute: half a precision holds no count of 65,536 values, and no fused kernel takes it."""
    return keras.backend.result_type(keras.backend.standardize_dtype(weights[0].dtype), "float32")


def _as(dtype, value):
    """A value of another type; one that is of this type stays itself, without an operation."""
    same = keras.backend.standardize_dtype(value.dtype) == keras.backend.standardize_dtype(dtype)
    return value if same else ops.cast(value, dtype)


def _normalized(x, mean, variance, scale, offset, epsilon):
    """Batch norm by statistics that are given: one multiplication and one addition for each value."""
    factor = ops.rsqrt(variance + epsilon) * scale
    shift = offset - mean * factor
    return x * ops.cast(factor, x.dtype) + ops.cast(shift, x.dtype)


def _tensorflow_norm(x, scale, offset, epsilon):
    """Batch norm by the batch, in TensorFlow's one kernel instead of ten, and the unbiased variance that it reports."""
    import tensorflow as tf

    empty = tf.zeros((0,))
    result, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=scale, offset=offset, mean=empty, variance=empty, epsilon=epsilon, is_training=True
    )
    return result, mean, variance


def _group_norm(what, inputs, weights, run):
    dtype = _statistics_dtype(weights)
    x, (scale, offset) = ops.cast(inputs[0], dtype), (_as(dtype, weight) for weight in weights)
    mean, variance = ops.moments(x, axes=(1, 2, 3) if what.whole else (1, 2), keepdims=True)
    result = (x - mean) * ops.rsqrt(variance + what.epsilon) * scale + offset
    return ops.cast(result, inputs[0].dtype)


def _drop_path(what, inputs, weights, run):
    x = inputs[0]
    if not run.training or not what.rate:
        return x
    keep, draws = run.path(what.rate, ops.shape(x)[0])
    return x * ops.cast(ops.floor(keep + draws) / keep, x.dtype)


FUNCTIONS = {
    "relu": _relu,
    "clip": _clip,
    "avg_pool": _average_pool,
    "max_pool": _max_pool,
    "zeros": _zeros,
    "subsample": _subsample,
    "shift": _shift,
    "add": _add,
    "concat": _concat,
    "mean": _mean,
    "dense": _dense,
    "bias": _bias,
    "conv": _conv,
    "dilated_conv": _conv,
    "depthwise": _depthwise,
    "norm": _norm,
    "group_norm": _group_norm,
    "drop_path": _drop_path,
}
