"""What a heat map is made of: the layer whose maps count, and a model's answer before its last activation."""

from contextlib import contextmanager

import keras

from nasnet_keras.models.answers import activation_at_end
from nasnet_keras.models.nesting import layers_within, maker


def layer_with_maps(model, name=None):
    """The layer called so, or the last one on the way to the answer whose result is [batch, height, width, channels].

    Raises:
        ValueError: there is none.
    """
    layers = [layer for layer in layers_within(model) if not isinstance(layer, keras.Model | keras.layers.InputLayer)]
    if name is None:
        layers = [layer for layer in layers if len(_shape(layer)) == 4]
        counting = _behind(model)  # what a second head alone reads says nothing of the answer
        layers = [layer for layer in layers if id(layer) in counting] or layers
    else:
        layers = [layer for layer in layers if layer.name == name]
    if not layers:
        received = f"{getattr(model, 'name', model)!r}, which has none" if name is None else repr(name)
        rule = "one of the model's with maps [height, width, channels]"
        raise ValueError(f"`layer` must be {rule}. Received: {received}")
    return layers[-1]


def _behind(model):
    """The ids of all layers that the answer of a functional model follows from, those inside layers, too."""
    output = getattr(model, "output", None)
    heads = output if isinstance(output, dict) else dict(enumerate(getattr(model, "outputs", None) or ()))
    waiting, found, seen = [heads.get("predictions", heads.get(0))], set(), set()
    while waiting:
        tensor = waiting.pop()
        if not isinstance(tensor, keras.KerasTensor) or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        layer, inputs, index = maker(tensor)
        results = getattr(layer, "outputs", None) if isinstance(layer, keras.Model) else None
        found |= {id(layer)} if results else {id(part) for part in layers_within(layer)}
        waiting += [*keras.tree.flatten(inputs), *([results[index]] if results else [])]
    return found


@contextmanager
def changed_results(layer, change):
    """A context in which a layer returns what `change` makes of its results; of several it is given the first."""
    call = layer.call

    def changed(*args, **kwargs):
        results = call(*args, **kwargs)
        return [change(results[0]), *results[1:]] if isinstance(results, list | tuple) else change(results)

    layer.call = changed
    try:
        yield
    finally:
        del layer.call


@contextmanager
def answering_logits(model):
    """A context in which the softmax or sigmoid that ends a model does nothing; it gives whether there is one."""
    end = activation_at_end(model)
    if end is None:
        yield False
    elif not hasattr(end, "activation"):  # a softmax by itself
        with _first_argument(end):
            yield True
    else:
        activation, end.activation = end.activation, keras.activations.linear
        try:
            yield True
        finally:
            end.activation = activation


@contextmanager
def _first_argument(layer):
    layer.call = lambda inputs, *args, **kwargs: inputs
    try:
        yield
    finally:
        del layer.call


def _shape(layer):
    try:
        return keras.tree.flatten(layer.output)[0].shape
    except (AttributeError, ValueError):  # a layer that no graph holds
        return (None, None)
