"""Depthwise convolution with wide kernels: TensorFlow's own numbers, by a shorter way."""

import numpy as np
import pytest
import tensorflow as tf
from checks import gradients

from nasnet_keras import depthwise
from nasnet_keras.layers import Operation


@pytest.mark.parametrize("side", [5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (9, 12), (3, 2), (1, 7)])
def test_gradients_are_tensorflows(side, stride, size, rng):
    x = tf.constant(rng.normal(size=(4, *size, 6)), tf.float32)
    kernel = tf.constant(rng.normal(size=(side, side, 6, 1)), tf.float32)
    strides, results = (stride, stride), []
    for run in (depthwise.depthwise, lambda x, w, s: tf.nn.depthwise_conv2d(x, w, [1, *s, 1], "SAME")):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            result = run(x, kernel, strides)
            weighted = tf.reduce_sum(tf.sin(result) + result**2)
        results.append((result, *tape.gradient(weighted, [x, kernel])))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * np.abs(other).max())


@pytest.mark.parametrize("kind", ["sep_conv_5x5", "sep_conv_7x7"])
def test_training_takes_the_short_way(kind, rng, monkeypatch):
    """The gradients of a layer in training, with it and without."""
    images, calls = rng.normal(size=(3, 9, 8, 4)).astype("float32"), []
    layer = Operation(kind, 4, 2, name="operation")
    layer(images)
    short = depthwise.kernel_gradient
    monkeypatch.setattr(depthwise, "kernel_gradient", lambda *arguments: calls.append(1) or short(*arguments))
    found = gradients(layer, images, training=True)
    gradients(layer, images)
    assert len(calls) == 2
    monkeypatch.setattr(depthwise, "pays", lambda *_: False)
    for path, expected in gradients(layer, images, training=True).items():
        np.testing.assert_allclose(found[path], expected, rtol=0, atol=1e-4 * np.abs(expected).max() + 1e-7)
    assert len(calls) == 2


def test_where_it_pays():
    assert depthwise.pays((None, 8, 8, 4), (5, 5)) and depthwise.pays((None, 8, 8, 4), (7, 7))
    for shape, kernel in (((None, 8, 8, 4), (3, 3)), ((None, None, 8, 4), (5, 5)), ((None, 8, 8, 4), (1, 7))):
        assert not depthwise.pays(shape, kernel)
