"""Where a network looked, found and drawn inside its SavedModel: the pictures of `pictures.heat_maps`."""

import math

import numpy as np
import tensorflow as tf

from nasnet_keras.models.answers import outputs_of
from nasnet_keras.models.maps import answering_logits, changed_results, layer_with_maps
from nasnet_keras.pictures.heat_maps import GAP, OPACITY, coloured, shown_size

LUMA = (0.299, 0.587, 0.114)
LEAST = 1e-12  # what a map without a hot place is divided by


def heat(maps, kernel, logits):
    """The Grad-CAM of the best class of a NASNet, [batch, rows, columns], its greatest value 1.

    A mean and a dense layer end it, so the gradient of a class is its column of the kernel in every place.

    Args:
        maps: the last maps, [batch, rows, columns, channels].
        kernel: the dense layer's, [channels, classes].
        logits: [batch, classes].
    """
    slopes = tf.gather(kernel, tf.argmax(logits, -1), axis=1)
    if logits.shape[-1] == 1:  # one unit speaks for the second of two classes, and against the first
        slopes *= tf.transpose(tf.sign(logits))
    return _scaled(tf.nn.relu(tf.einsum("brsc,cb->brs", maps, slopes)))


def heat_by_gradient(model, images, kind):
    """The same of any classifier, by the gradient of its score, as `training.explanations` has it.

    Args:
        model: a Keras classifier.
        images: as it takes them.
        kind: its `answers.output_kind`.
    """
    try:
        place, seen = layer_with_maps(model), {}
    except ValueError:
        rule = "left out for a model without maps [height, width, channels]"
        raise ValueError(f"`explain` must be {rule}. Received: {model.name!r}") from None

    def kept(maps):
        if not seen:
            change = tf.zeros_like(maps, tf.float32)
            tape.watch(change)
            seen.update(maps=tf.cast(maps, tf.float32), change=change)
        return maps + tf.cast(seen["change"], maps.dtype)

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        with answering_logits(model) as plain, changed_results(place, kept):
            outputs = tf.cast(outputs_of(model, model(images, training=False)), tf.float32)
        if kind != "logits" and not plain:
            outputs = tf.math.log(tf.maximum(outputs, 1e-30))
        score = tf.reduce_max(outputs, -1)
        if outputs.shape[-1] == 1:  # one unit speaks for the second of two classes, and against the first
            even = 0.0 if kind == "logits" or plain else math.log(0.5)
            score = tf.where(score > even, score, -score)
        # Times the number of places, so that gradients of one in half precision do not vanish.
        score *= tf.cast(tf.reduce_prod(tf.shape(seen["maps"])[1:3]), tf.float32)
    slopes = tf.reduce_mean(tape.gradient(score, seen["change"], unconnected_gradients="zero"), (1, 2))
    return _scaled(tf.nn.relu(tf.einsum("brsc,bc->brs", seen["maps"], slopes)))


def pictures(pixels, heats):
    """Encoded PNG pictures [batch]: each image beside itself under its heat map.

    Args:
        pixels: [batch, height, width, channels] in 0–255, as the network sees them.
        heats: [batch, rows, columns] in [0, 1].
    """
    height, width, channels = pixels.shape[1:]
    size = shown_size((height, width))
    heats = _resized(_scaled(_resized(heats[..., None], (height, width))), size)
    pixels = pixels if channels == 3 else tf.repeat(pixels[..., :1], 3, -1)
    photographs = tf.clip_by_value(tf.round(tf.image.resize(pixels, size, "bicubic")), 0, 255)
    table = tf.constant(coloured(np.linspace(0, 1, 256)), tf.float32)
    colours = tf.gather(table, tf.cast(tf.round(heats[..., 0] * 255), tf.int32))
    opacity = OPACITY * tf.sqrt(heats)
    grey = tf.round(tf.reduce_sum(photographs * tf.constant(LUMA), -1, keepdims=True))
    covered = tf.round(grey * (1 - opacity) + colours * opacity)
    between = tf.fill([tf.shape(pixels)[0], size[0], GAP, 3], 255.0)
    whole = tf.cast(tf.concat([photographs, between, covered], 2), tf.uint8)
    return tf.map_fn(tf.io.encode_png, whole, fn_output_signature=tf.string)


def _resized(maps, size):
    return tf.clip_by_value(tf.image.resize(maps, size, "bicubic"), 0, 1)


def _scaled(maps):
    places = tf.range(1, tf.rank(maps))
    return maps / tf.maximum(tf.reduce_max(maps, places, keepdims=True), LEAST)
