"""`predict` without a data pipeline, for arrays: the folded network as one compiled function.

Keras' own `predict` makes a data set, an iterator and callbacks for every call, which takes longer than one image
does. Here batch norms go into the kernels inside the function, so the weights are always the current ones.
"""

import keras
import numpy as np

from nasnet_keras.models.functions import Run, compute
from nasnet_keras.models.layers import named_weights
from nasnet_keras.program.folding import folded_program


class Predictor:
    """The compiled function of a `NASNet`, from images as the network takes them to its predictions.

    Args:
        model: a `NASNet` that `fits`.
    """

    def __init__(self, model):
        import tensorflow as tf

        config = model.get_config()
        program, folds = folded_program(model)
        variables = named_weights(model)
        activation = keras.activations.get(config["classifier_activation"])
        last = program.steps[-1].result.number

        def predict(images):
            if config["include_preprocessing"]:
                images = images / 127.5 - 1.0
            weights = {**variables, **_folded(folds, variables)}
            values = compute(program, [images], [weights[weight.name] for weight in program.weights], Run())
            return activation(values[last])

        spec = tf.TensorSpec(model.input.shape, tf.float32)
        self._eager, self._compiled = predict, tf.function(predict, input_signature=[spec], autograph=False)
        self._met = False

    def __call__(self, images, batch_size):
        """Predictions [count, classes] of an array of images, so many at a time."""
        starts = range(0, len(images), batch_size)
        return np.concatenate([self._batch(images[start : start + batch_size]) for start in starts])

    def _batch(self, images):
        """The first image is not kept waiting for a function to be traced and optimised."""
        run = self._eager if len(images) == 1 and not self._met else self._compiled
        self._met = True
        return run(keras.ops.convert_to_tensor(images, "float32")).numpy()


def fits(model, x, steps, callbacks):
    """Whether `Predictor` does what Keras' `predict` does: an array of images, and nothing out of the ordinary."""
    config = model.get_config()
    plain = (
        keras.backend.backend() == "tensorflow"
        and config.get("include_top")
        and not (config["feature_pyramid"] or config["auxiliary_head"])
        and all(layer.compute_dtype == "float32" and layer.quantization_mode is None for layer in model.layers)
        and not getattr(model.get_layer("logits"), "lora_enabled", False)
        and not (model.run_eagerly or model.jit_compile is True or steps or callbacks)
        and keras.distribution.distribution() is None
        and model.distribute_strategy.num_replicas_in_sync == 1
    )
    if not plain or not isinstance(x, np.ndarray) or x.ndim != 4 or not len(x) or x.dtype.kind not in "fiu":
        return False
    return all(expected in (None, size) for size, expected in zip(x.shape, model.input.shape, strict=True))


def _folded(folds, variables):
    """{name: tensor} of the kernels and biases that `folds` change: all norms at once, in a dozen operations."""
    import tensorflow as tf

    whole = {id(one.norm): one.norm for one in folds}.values()
    joined = ([variables[norm.weights[number].name] for norm in whole] for number in range(4))
    scale, offset, mean, variance = (tf.concat([tf.convert_to_tensor(one) for one in part], 0) for part in joined)
    factor = scale * tf.math.rsqrt(variance + folds[0].norm.primitive.epsilon)
    sizes = [one.end - one.start for one in folds]
    changed = {}
    for one, own, shift in zip(folds, tf.split(factor, sizes), tf.split(offset - mean * factor, sizes), strict=True):
        changed[one.kernel.name] = tf.convert_to_tensor(variables[one.kernel.name]) * own
        changed[one.bias.name] = shift
    return changed
