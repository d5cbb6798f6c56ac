"""A network as it answers: its folded program, as long as the network is what its architecture says.

Keras' own `predict` makes a data set, an iterator and callbacks for every call, which takes longer than one image
does. Here batch norms go into the kernels inside one compiled function, so the weights are always the current ones.
Whatever else of the network was changed after it was built, by a recipe for heat maps or in a subclass, is seen:
`changes_of` names it, and Keras' own way is taken.
"""

import logging

import keras
import numpy as np

from nasnet_keras.models.functions import Run, compute, folded
from nasnet_keras.program.folding import folded_program, folded_weights

logger = logging.getLogger(__name__)

# What decides on a prediction beside the layers.
METHODS = ("__call__", "call", "predict_step", "make_predict_function", "predict_function")
FAR = 20  # no standardised image has a pixel above it
# Attributes of layers that concern training alone.
HARMLESS = {"built", "kernel_regularizer", "frozen_statistics", "remat"}


def inference_program(model):
    """The program of a `NASNet` from images in [-1, 1] to logits, folded, and its weights.

    Auxiliary head, drop path and dropout are gone: they only serve training. What ends the network, the activation
    of its layer `predictions`, is not in it.

    Args:
        model: a `NASNet` with its classifier.

    Returns:
        (`Program`, list of NumPy arrays in the order of `program.weights`).

    Raises:
        ValueError: a network without a classifier, one on a graph of somebody else's, or one that was changed after it
            was built, so that its program is another.
    """
    architecture = getattr(model, "architecture", None)
    if not architecture or not architecture.include_top or architecture.feature_pyramid or not model.stands_alone:
        raise ValueError(f"`model` must be a NASNet with its classifier and nothing around it. Received: {model!r}")
    if quantized := [layer.name for layer in model.layers if layer.quantization_mode]:
        rule = "in floating point, as it was before `model.quantize`; the format litert has an int8 of its own"
        raise ValueError(f"`model` must be {rule}. Received: one with a quantised {', '.join(quantized)}")
    if changes := [change for change in model.changes() if change != "predictions.activation" and not is_lora(change)]:
        raise ValueError(
            "`model` must be a NASNet as it was built, but for weights and the activation of its layer predictions; "
            f"Keras' own `model.export` takes any. Received: one with another {', '.join(changes[:5])}"
        )
    program, folds = folded_program(architecture)
    weights = {name: np.asarray(variable) for name, variable in model.named_weights().items()}
    weights |= {f"{layer.name}/kernel": np.asarray(layer.kernel) for layer in low_ranks(model)}  # as it computes
    weights.update(folded_weights(folds, weights))
    return program, [weights[weight.name] for weight in program.weights]


class Predictor:
    """The compiled function of a `NASNet`, from images as the network takes them to its predictions.

    Args:
        model: a `NASNet` that `fits`.
        activation: that of its layer `predictions`.
    """

    def __init__(self, model, activation):
        import tensorflow as tf

        architecture = model.architecture
        program, folds = folded_program(architecture)
        variables = model.named_weights()

        def predict(images):
            if architecture.include_preprocessing:
                images = images / 127.5 - 1.0
            weights = {**variables, **folded(folds, variables)}
            weights = [weights[weight.name] for weight in program.weights]
            (logits,) = compute(program, [images], weights, Run(), [program.steps[-1].result])
            return activation(logits)

        self.activation = activation
        spec = tf.TensorSpec(model.input.shape, tf.float32)
        self._eager, self._function = predict, tf.function(predict, input_signature=[spec], autograph=False)
        self._met, self._compiled = False, None

    def __call__(self, images, batch_size):
        """Predictions [count, classes] of an array of images, so many at a time."""
        starts = range(0, len(images), batch_size)
        return np.concatenate([self._batch(images[start : start + batch_size]) for start in starts])

    def _batch(self, images):
        """The first image is not kept waiting for a function to be traced and optimised."""
        if len(images) == 1 and not self._met:
            run = self._eager
        else:  # called as it is: looking the function up by its arguments would hash every variable each time
            run = self._compiled = self._compiled or self._function.get_concrete_function()
        self._met = True
        return run(keras.ops.convert_to_tensor(images, "float32")).numpy()


def tell_of_pixels(model, x):
    """Say it once where a network that takes images in [-1, 1] is shown pixels in 0–255, or one of those such images.

    Pixels are whole numbers beyond [-1, 1], and others far beyond: standardised images reach some units.

    Args:
        model: a `NASNet`.
        x: what it is to predict, of which the first image is looked at; of anything but arrays and tensors nothing is
            said.
    """
    if not model.stands_alone or getattr(model, "_told_of_pixels", False):  # others' layers may scale them
        return
    if not (keras.ops.is_tensor(x) or isinstance(x, np.ndarray)) or len(x.shape) != 4:
        return
    first = keras.ops.convert_to_numpy(x[:1]) if keras.ops.is_tensor(x) else x[:1]
    if first.dtype.kind not in "fiu" or not first.size:
        return
    low, high = first.min(), first.max()
    if model.architecture.include_preprocessing:
        wrong, taken = -1 <= low < 0 and high <= 1, "in 0-255, and scales them itself (`include_preprocessing`)"
    else:
        wrong = high > FAR or ((low < -1 or high > 1) and (first == np.rint(first)).all())
        taken = "in [-1, 1], as `preprocess_input` makes them"
    if wrong:
        model._told_of_pixels = True
        logger.warning("an image has pixels from %g to %g, and the network takes them %s", low, high, taken)


def fits(model, x, steps, callbacks):
    """Whether `Predictor` does what Keras' `predict` does: an array of images, and nothing out of the ordinary."""
    architecture = model.architecture
    plain = (
        keras.backend.backend() == "tensorflow"
        and model.stands_alone
        and architecture.include_top
        and not (architecture.feature_pyramid or architecture.auxiliary_head)
        and all(layer.compute_dtype == "float32" and layer.quantization_mode is None for layer in model.layers)
        and not low_ranks(model)
        and not (model.run_eagerly or model.jit_compile is True or steps or callbacks)
        and keras.distribution.distribution() is None
        and model.distribute_strategy.num_replicas_in_sync == 1
        and set(model.changes()) <= {"predictions.activation"}
    )
    if not plain or not isinstance(x, np.ndarray) or x.ndim != 4 or not len(x) or x.dtype.kind not in "fiu":
        return False
    return all(expected in (None, size) for size, expected in zip(x.shape, model.input.shape, strict=True))


def state_of(model):
    """What a model's predictions follow from beside the values of its weights: its layers, and what each holds."""
    return [(layer, type(layer), _attributes(layer)) for layer in model.layers]


def changes_of(model, state, base):
    """What of a model is other than in an earlier `state_of` it, a list of texts.

    Args:
        model: a Keras model.
        state: what `state_of` gave.
        base: the class whose methods are the usual ones.
    """
    found = [name for name in METHODS if getattr(type(model), name, None) is not getattr(base, name, None)]
    found += [name for name in METHODS if name in vars(model) and name != "predict_function"]
    if len(model.layers) != len(state):
        return [*found, "layers"]
    for layer, (as_built, kind, before) in zip(model.layers, state, strict=True):
        if layer is not as_built or type(layer) is not kind:
            found.append(layer.name)
            continue
        now = _attributes(layer)
        # Keras leaves new notes on its layers; what counts of new names are those of methods.
        names = [name for name in now.keys() - before if callable(getattr(kind, name, None))]
        names += [name for name in before if now.get(name, before) != before[name]]
        found += [f"{layer.name}.{name}" for name in sorted(names)]
    return found


def is_lora(change):
    """Whether one of `changes_of` is by LoRA alone, which a layer's merged kernel tells."""
    return change.partition(".")[2].startswith("lora")


def low_ranks(model):
    """The layers of a model that have LoRA."""
    return [layer for layer in model.layers if getattr(layer, "lora_enabled", False)]


def _attributes(layer):
    """The attributes of a layer that users may set; of those that hold more than a value, which object it is."""
    harmless = HARMLESS | ({"rate", "seed"} if isinstance(layer, keras.layers.Dropout) else set())
    held = {name: value for name, value in vars(layer).items() if not name.startswith("_") and name not in harmless}
    if hasattr(layer, "activation"):
        held["activation"] = layer.activation
    plain = (str, int, float, bool, type(None), tuple)
    return {name: value if isinstance(value, plain) else id(value) for name, value in held.items()}
