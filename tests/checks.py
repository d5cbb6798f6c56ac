"""The routine that every operation, combination and network passes through, on each of Keras' backends.

`check(make, inputs)` is all of it; the other functions are its parts, for tests that want one.
"""

import json
from contextlib import ExitStack
from functools import cache
from math import prod
from unittest import mock

import keras
import numpy as np
from PIL import Image

from nasnet_keras.models import functions
from nasnet_keras.models.counting import multiply_adds


def check(make, inputs, *, path=None, mixed_dtype="bfloat16", gradientless=()):
    """Put a layer or a model through everything that holds for each of them.

    Args:
        make: `make(dtype=…)` gives a new layer or model; called twice, two alike.
        inputs: an array, or a list of arrays, one for each input.
        path: where to save a model, None for a layer.
        mixed_dtype: the dtype that comes out under mixed_bfloat16.
        gradientless: ends of paths of weights whose gradient is zero by mathematics.

    Returns:
        The built layer or model, with random batch norms.
    """
    layer = make(dtype="float32")
    layer(inputs)
    randomize(layer)
    again = check_config(layer)
    check_shapes(layer, inputs)
    check_names(layer, again, inputs)
    check_gradients(layer, inputs, gradientless)
    check_moving_statistics(layer, inputs)
    check_mixed_precision(layer, make, inputs, mixed_dtype)
    check_multiply_adds(layer, inputs)
    if path is not None:
        check_saving(layer, again, inputs, path)
    return layer


def check_config(layer):
    """The constructor's arguments are the whole description, and JSON can hold them. Returns what was rebuilt."""
    text = json.dumps(keras.saving.serialize_keras_object(layer))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(again) is type(layer)
    assert json.dumps(keras.saving.serialize_keras_object(again)) == text
    return again


def check_shapes(layer, inputs):
    """What comes out is what was announced, for images of known and of unknown size."""
    outputs = [array(output) for output in keras.tree.flatten(layer(inputs))]
    shapes = [output.shape for output in outputs]
    announced = layer.compute_output_shape(shapes_of(inputs))
    assert keras.tree.flatten(announced) == keras.tree.flatten(shapes)
    symbols = keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape), inputs)
    assert [tuple(symbol.shape) for symbol in keras.tree.flatten(layer(symbols))] == shapes
    assert all(symbol.dtype == "float32" for symbol in keras.tree.flatten(layer(symbols)))
    assert all(output.dtype == "float32" and np.isfinite(output).all() for output in outputs)
    if not isinstance(layer, keras.Model):
        symbols = keras.tree.map_structure(lambda x: keras.KerasTensor((None, None, None, x.shape[-1])), inputs)
        unknown = [(None, None, None, shape[-1]) for shape in shapes]
        assert [tuple(symbol.shape) for symbol in keras.tree.flatten(layer(symbols))] == unknown


def check_names(layer, again, inputs):
    """No name is automatic: those would differ the second time. No two weights share a path."""
    again(inputs)
    assert layer_names(layer) == layer_names(again)
    paths = [weight.path for weight in layer.weights]
    assert paths == [weight.path for weight in again.weights]
    assert len(set(paths)) == len(paths)


def layer_names(layer):
    """The names of a layer and all those inside."""
    return [part.name for part in layer._flatten_layers()]


def check_gradients(layer, inputs, gradientless=()):
    """Every trainable weight matters for the output, and training meets no NaN."""
    found = gradients(layer, inputs)
    assert list(found)[: len(layer.trainable_weights)] == [weight.path for weight in layer.trainable_weights]
    for path, gradient in found.items():
        assert np.isfinite(gradient).all(), path
        if not path.endswith(tuple(gradientless) or "/"):
            assert np.abs(gradient).max() > 1e-7, f"{path} has no gradient"
    assert all(np.isfinite(gradient).all() for gradient in gradients(layer, inputs, training=True).values())


def gradients(layer, inputs, training=False):
    """{path: gradient} of a fixed random projection of the outputs.

    For each trainable weight, and for the inputs under `input_0`, `input_1`, …
    """
    inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
    gradient = {"tensorflow": _tensorflow_gradients, "jax": _jax_gradients}[keras.backend.backend()]
    of_weights, of_inputs = gradient(layer, inputs, training)
    named = dict(zip([weight.path for weight in layer.trainable_weights], of_weights, strict=True))
    named.update({f"input_{index}": value for index, value in enumerate(keras.tree.flatten(of_inputs))})
    return {path: np.zeros(1) if value is None else array(value) for path, value in named.items()}


def _tensorflow_gradients(layer, inputs, training):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = _projection(layer(inputs, training=training))
    return tape.gradient(value, ([weight.value for weight in layer.trainable_weights], inputs))


def _jax_gradients(layer, inputs, training):
    import jax

    def value(weights, inputs):
        with keras.StatelessScope(state_mapping=list(zip(layer.trainable_weights, weights, strict=True))):
            return _projection(layer(inputs, training=training))

    return jax.grad(value, argnums=(0, 1))([weight.value for weight in layer.trainable_weights], inputs)


def image_gradient(loss, images):
    """The gradient of `loss(images)`, a scalar of a model at inference."""
    images = keras.ops.convert_to_tensor(images)
    if keras.backend.backend() == "jax":
        import jax

        return array(jax.grad(loss)(images))
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(images)
        value = loss(images)
    return array(tape.gradient(value, images))


def _projection(outputs):
    rng = np.random.default_rng(0)
    terms = [output * rng.normal(size=output.shape).astype("float32") for output in keras.tree.flatten(outputs)]
    return sum(keras.ops.sum(term) for term in terms)


def check_moving_statistics(layer, inputs):
    """Training moves each moving average, inference none."""

    def moving():
        return {weight.path: array(weight) for weight in layer.weights if weight.name.startswith("moving_")}

    before = moving()
    layer(inputs, training=False)
    assert all((value == before[path]).all() for path, value in moving().items())
    layer(inputs, training=True)
    assert all((value != before[path]).any() for path, value in moving().items())


@cache
def computes_bfloat16():
    """Whether this machine convolves in bfloat16: oneDNN does not where it is limited to AVX2 on a CPU with more."""
    try:
        x = keras.ops.ones((1, 2, 2, 2), "bfloat16")
        keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.conv(x, x), "float32"))
    except Exception as error:
        if "primitive descriptor" not in str(error):
            raise
        return False
    return True


def check_mixed_precision(layer, make, inputs, mixed_dtype):
    """With bfloat16 inside: the same function, weights in float32, and the promised dtype."""
    if not computes_bfloat16():
        return
    mixed = make(dtype="mixed_bfloat16")
    mixed(inputs)
    assert {weight.dtype for weight in mixed.weights} <= {"float32"}
    mixed.set_weights(layer.get_weights())
    for output, exact in zip(keras.tree.flatten(mixed(inputs)), keras.tree.flatten(layer(inputs)), strict=True):
        assert keras.backend.standardize_dtype(output.dtype) == mixed_dtype
        exact, output = array(exact), array(keras.ops.cast(output, "float32"))
        np.testing.assert_allclose(output, exact, rtol=0, atol=0.1 * np.abs(exact).max())


def check_multiply_adds(layer, inputs):
    """The count from shapes is what a call really multiplies."""
    shapes = shapes_of(inputs)
    if isinstance(layer, keras.Model):
        counted = multiply_adds(layer)
    elif hasattr(layer, "multiply_adds"):
        counted = layer.multiply_adds(shapes)
    else:
        return
    assert type(counted) is int and counted == performed_multiply_adds(layer, inputs)


def performed_multiply_adds(layer, inputs):
    """Multiply-adds for one image, counted by the convolutions and dense layers as they are called."""
    total = 0

    def spy(original, kernel_of):
        def call(*args, **kwargs):
            nonlocal total
            result = original(*args, **kwargs)
            total += prod(result.shape[1:-1]) * prod(kernel_of(args).shape)
            return result

        return call

    with ExitStack() as patches:
        for name in ("conv", "depthwise_conv", "matmul"):
            seen = spy(getattr(keras.ops, name), lambda args: args[1])
            patches.enter_context(mock.patch.object(functions.ops, name, seen))
        dense = keras.layers.Dense
        patches.enter_context(mock.patch.object(dense, "call", spy(dense.call, lambda args: args[0].kernel)))
        layer(inputs)
    return total


def check_saving(layer, again, inputs, path):
    """A model comes back from its file, and its weights fill another one of its kind."""
    expected = [array(output) for output in keras.tree.flatten(layer(inputs))]
    layer.save(path)
    layer.save_weights(path.with_suffix(".weights.h5"))
    loaded = keras.saving.load_model(path)
    assert type(loaded) is type(layer)
    assert json.dumps(loaded.get_config()) == json.dumps(layer.get_config())
    again.load_weights(path.with_suffix(".weights.h5"))
    for model in (loaded, again):
        for output, wanted in zip(keras.tree.flatten(model(inputs)), expected, strict=True):
            np.testing.assert_allclose(array(output), wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def randomize(layer, seed=1):
    """Fill batch norms and biases with what a trained network might have, so that no default hides a fault."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(rng.normal(0, 0.2, weight.shape))


def shapes_of(inputs):
    """The shapes of an array or of a list of arrays."""
    return keras.tree.map_structure(lambda x: tuple(x.shape), inputs)


def array(tensor):
    """A tensor of either backend as a NumPy array."""
    return keras.ops.convert_to_numpy(tensor)


def red_and_blue(root, sides):
    """Twelve photographs of each of two colours, in folders of their names.

    Args:
        root: a folder, a `Path`.
        sides: a function of a photograph's number that gives its `(height, width)`.
    """
    rng = np.random.default_rng(0)
    for name, colour in (("red", 0), ("blue", 2)):
        (root / name).mkdir()
        for index in range(12):
            pixels = rng.integers(0, 80, (*sides(index), 3), dtype="uint8")
            pixels[..., colour] += 150
            Image.fromarray(pixels).save(root / name / f"{index}.png")
