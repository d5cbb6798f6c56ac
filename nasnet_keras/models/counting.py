"""What a network costs: the multiply-adds of any functional Keras model."""

from math import prod

import keras

from nasnet_keras.models.layers import ProgramLayer
from nasnet_keras.models.nesting import layers_within


def multiply_adds(model):
    """Multiply-adds of convolutions and dense layers for one image, an int; in `TimeDistributed` for all its steps.

    Args:
        model: a built functional Keras model whose image size is known; models inside it likewise.

    Raises:
        ValueError: a model for images of any size, in code of its own, or with a layer that has others inside, as of
            attention or recurrent ones: how often it calls them is not known.

    Examples:
        >>> from nasnet_keras import NASNetMobile, multiply_adds
        >>> round(multiply_adds(NASNetMobile(weights=None)) / 1e6)
        564
    """
    if not getattr(model, "inputs", None):
        rule = "a functional Keras model that is built; those inside one of another kind are counted by themselves"
        raise ValueError(f"`model` must be {rule}. Received: {getattr(model, 'name', model)!r}")
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    return sum(_of_layer(layer, _shapes(layer.input), _shapes(layer.output)) for layer in layers)


def _of_layer(layer, inputs, outputs):
    """Those of a layer that makes tensors of these shapes from tensors of those."""
    if isinstance(layer, keras.Model):
        return multiply_adds(layer)
    if any(None in shape[1:] for shape in inputs):
        raise ValueError("`model` must have a known image size: build it with an `input_shape` without None")
    if isinstance(layer, keras.layers.TimeDistributed):
        inner = ([(shape[0], *shape[2:]) for shape in shapes] for shapes in (inputs, outputs))
        return inputs[0][1] * _of_layer(layer.layer, *inner)
    if isinstance(layer, keras.layers.Wrapper):
        return _of_layer(layer.layer, inputs, outputs)
    if isinstance(layer, ProgramLayer):
        return layer.multiply_adds(inputs)
    if any(part.weights for part in layers_within(layer)[1:]):
        rule = "of layers that have no others inside; the models in it are counted by themselves"
        raise ValueError(f"`model` must be {rule}. Received: one with {layer.name}, {type(layer).__name__}")
    kernels = [getattr(layer, name, None) for name in ("kernel", "depthwise_kernel", "pointwise_kernel")]
    return sum(prod(outputs[0][1:-1]) * prod(kernel.shape) for kernel in kernels if kernel is not None)


def _shapes(tensors):
    """The shapes of tensors, but for scalars."""
    return [tuple(tensor.shape) for tensor in keras.tree.flatten(tensors) if len(tensor.shape)]
