"""What a live model answers with, and how it wants its images, told from its layers as they are now.

Loss, figures, predictions and exports follow from this and not from what a config once said: the activation of a last
layer may be set at any time, and a model need not be a `NASNet`. What cannot be told is refused.

A classifier answers with `softmax`, probabilities that sum to one; `sigmoid`, an independent probability for each
class; or `logits`, whose softmax are the probabilities. A single unit stands for the second of two classes.
"""

from typing import NamedTuple

import keras
import numpy as np

from nasnet_keras.checks import names_of
from nasnet_keras.models.drop_path import DropPathSchedule
from nasnet_keras.models.nesting import calls, layers_within, maker
from nasnet_keras.program.architecture import STEMS
from nasnet_keras.weights.zoo import check_imagenet_order, imagenet_classes

KINDS = ("softmax", "sigmoid", "logits")
RULE = "must end in softmax, in sigmoid, or in a linear layer for logits"
# The functions of Keras that tell of an answer. The softmax of a logarithm of probabilities are these probabilities.
FUNCTIONS = {"softmax": "softmax", "sigmoid": "sigmoid", "log_softmax": "logits"}
OPERATIONS = {"Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "logits"}
# What leaves an answer what it is; what makes a mean of several, which is one of the same kind; and what makes other
# logits of logits.
PASSING = ("Dropout", "SpatialDropout2D", "Flatten", "Reshape", "Identity", "ActivityRegularization", "Cast", "Squeeze")
AVERAGING = ("Average", "GlobalAveragePooling2D", "AveragePooling2D", "Mean")
REAL = ("Rescaling", "BatchNormalization", "LayerNormalization", "Add", "Subtract", "Multiply", "TrueDivide", "Divide")
REAL += ("GlobalMaxPooling2D",)


def heads(model):
    """The names of a model's outputs, or none for a model with a single one; a Sequential may not know its output."""
    output = getattr(model, "output", None)
    return tuple(output) if isinstance(output, dict) else ()


def output_kind(model, head="predictions", label="model"):
    """With what a model answers, one of `KINDS`.

    Args:
        model: a Keras model with one output, or with a dict of outputs.
        head: which one of them.
        label: the argument that an error names.

    Raises:
        ValueError: it cannot be told, or is something else; the reason is in it.
    """
    return _ending(model, head, label).kind


def activation_at_end(model, head="predictions"):
    """The layer whose softmax or sigmoid the answer is, None where it is none's; arguments as for `output_kind`."""
    return _ending(model, head, "model").layer


def units(model, head="predictions"):
    """The number of a model's outputs for an image, None where nothing says it; `ValueError` as of `outputs_of`."""
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return None
    return (outputs_of(model, model.output, head) if len(outputs) > 1 or heads(model) else outputs[0]).shape[-1]


def outputs_of(model, outputs, head="predictions"):
    """The outputs of one head, of all that a model answers.

    Args:
        model: the model.
        outputs: what it has answered, or its symbolic outputs: an array or a tensor, a dict of them, or a list of one.
        head: which one of a dict's.

    Raises:
        ValueError: there is no such head, or a list of several outputs, of which nothing says which one counts.
    """
    try:
        return _of_head(outputs, head)
    except _Untold as reason:
        raise _refusal(model, "model", reason) from None


def probabilities(model, outputs):
    """What a model has answered as probabilities.

    Args:
        model: the model.
        outputs: its outputs, an array [n, classes], a dict with `predictions`, or a list of one.

    Returns:
        Probabilities [n, classes]; those of a single unit have two columns.

    Raises:
        ValueError: nothing tells which outputs count, or what they are, and they are no probabilities either.
    """
    return as_probabilities(*answered(model, outputs))


def answered(model, outputs):
    """(Outputs [n, classes] of the head that counts, their kind); arguments and errors as for `probabilities`."""
    outputs = np.asarray(outputs_of(model, outputs))
    if outputs.ndim != 2:
        raise ValueError(f"`model` must answer with [images, classes]. Received: {outputs.shape}")
    try:
        return outputs, output_kind(model)
    except ValueError:
        # A model in code of one's own is known by its answers.
        if outputs.shape[1] > 1 and outputs.min(initial=0) >= 0 and np.allclose(outputs.sum(1), 1, atol=1e-3):
            return outputs, "softmax"
        raise


def as_probabilities(outputs, kind):
    """Outputs [n, classes] of one of `KINDS` as probabilities [n, classes], two columns for a single unit."""
    if kind == "logits":
        wide = outputs.astype("float64")
        wide = np.concatenate([np.zeros_like(wide), wide], 1) if outputs.shape[1] == 1 else wide
        wide = np.exp(wide - wide.max(1, keepdims=True))
        return (wide / wide.sum(1, keepdims=True)).astype("float32")
    return np.concatenate([1 - outputs, outputs], 1) if outputs.shape[1] == 1 else outputs


def class_names(model):
    """A name for each class of a model, a tuple: its own, or that of the network whose answer it passes on; or None.

    Where the answers of several networks become one, all of them must have the same names.
    """
    if (own := _own_names(model)) is not None:
        return own
    found = set(_told(model, _own_names, _keeps_classes))
    names = found.pop() if len(found) == 1 else None
    return names if names is None or units(model) in (None, 1, len(names)) else None  # arithmetic may have cut some off


def thresholds(model):
    """The probability from which an image has a label, an array [classes]; None of a model for one class an image.

    They are its own, or those of the network whose probabilities it passes on; where the answers of several networks
    become one, the means of theirs.
    """
    if (own := _own_thresholds(model)) is not None:
        return own
    found = _told(model, _own_thresholds, _keeps_probabilities)
    alike = found and all(one is not None and one.shape == found[0].shape for one in found)
    if not alike or not _may_be(model, "sigmoid"):
        return None
    return np.mean(found, 0, "float64").astype("float32")


def _own_names(model):
    names = getattr(model, "class_names", None)
    return names_of("class_names", names) if names is not None and len(names) else None


def _own_thresholds(model):
    values = getattr(model, "thresholds", None)
    return None if values is None else np.asarray(values, "float32")


def _may_be(model, kind):
    try:
        return output_kind(model) == kind
    except ValueError:  # code of one's own
        return True


def grey_range(model):
    """How a model's network reads greys of more than 8 bits, `(low, high)`, at whatever depth it lies; or None."""
    found = (getattr(layer, "grey_range", None) for layer in layers_within(model))
    return next((value for value in found if value is not None), None)


def image_size(model):
    """`(height, width)` of the images that a model is shown: of its input, and where that takes any, as usual for it.

    That is 32 pixels for a `NASNet` with the stem for small images, else 224.
    """
    stems = (getattr(layer, "architecture", None) for layer in layers_within(model))
    side = next((STEMS[one.stem][0] for one in stems if one is not None), STEMS["imagenet"][0])
    return tuple(length or side for length in input_shape(model)[:2])


def labels_of(model, count):
    """What `decode_predictions` is to call a model's classes: its names, None for those of ImageNet, else numbers.

    Args:
        model: the model.
        count: how many classes it has.
    """
    names = class_names(model)
    if names is None and not (count == 1000 and getattr(model, "architecture", None)):
        names = tuple(map(str, range(count)))
    return names


def full_names(model, count):
    """A name for each of a model's classes: as `labels_of` has them, and those of ImageNet in full."""
    return labels_of(model, count) or [name for _, name in imagenet_classes()]


def remark_on_order(model, names):
    """One line where a network of ImageNet's classes is given their names in another order; else None.

    A network of these names may have been trained in that order.
    """
    if labels_of(model, len(names)) is None:
        try:
            check_imagenet_order(names, "the order of the released weights")
        except ValueError as refusal:
            return str(refusal)
    return None


def takes_pixels(model):
    """Whether a model wants its images in 0–255, because it scales them itself; else in [-1, 1].

    What it does to a black and to a white image before its first weights says so: `Rescaling`, `Normalization`, a batch
    norm, arithmetic, at any depth.

    Raises:
        ValueError: it takes no images of three colours, or something else than these two.
    """
    if not hasattr(model, "layers"):
        return False
    if not _is_graph(model):  # code of one's own cannot be followed: a network's preprocessing in it can be seen
        scaling = (layer for layer in layers_within(model) if isinstance(layer, keras.layers.Rescaling))
        return any(layer.name == "preprocessing" for layer in scaling)
    shape = input_shape(model)
    sides = [side or 32 for side in shape[:2]]
    levels = np.array([0, 127, 254], "float32")
    images = np.broadcast_to(levels[:, None, None, None], (3, *sides, shape[2]))
    arrived = _arriving(model, keras.ops.convert_to_tensor(images))
    arrived = np.asarray(keras.ops.convert_to_numpy(arrived), "float64").reshape(3, -1, arrived.shape[-1])
    black, grey, white = np.median(arrived, axis=1)
    scale, offset = float(np.abs(white - black).mean() / 254), float(black.mean())
    straight = np.abs(grey - (black + white) / 2).max() <= 0.02 * np.abs(white - black).max() + 1e-3
    if straight and abs(scale - 1) < 1e-3 and abs(offset) < 1e-3:
        return False
    if (straight and scale < 0.1) or (scale < 10 and abs(offset) > 10):
        return True
    if straight and (abs(offset) <= 0.25 * scale < 2.5 or abs(offset - scale) < 0.1 * scale):
        return False
    raise ValueError(
        f"`model` must take images in 0 to 255 or in [-1, 1]. Received: {model.name!r}, which makes of x at first "
        f"about {scale:.3g} · x {'-' if offset < 0 else '+'} {abs(offset):.3g}"
    )


def input_shape(model):
    """`(height, width, channels)` of the images that a model takes, None for any height or width.

    Raises:
        ValueError: it takes something else.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs and isinstance(model, keras.Sequential) and isinstance(model.layers[0], keras.Model):
        return input_shape(model.layers[0])
    if not inputs:
        return (None, None, 3)  # a model that has seen nothing yet, or in code of one's own
    shape = tuple(inputs[0].shape[1:]) if len(inputs) == 1 else None
    if shape is None or len(shape) != 3:
        raise ValueError(
            f"`model` must take images [height, width, channels]. Received: {model.name!r}, which takes {shape}"
        )
    return (*shape[:2], shape[2] or 3)


class _Untold(Exception):
    """Why an answer cannot be told."""


class _Ending(NamedTuple):
    """A kind of answer, and the layer whose softmax or sigmoid makes it, if one alone does."""

    kind: str
    layer: object = None


def _ending(model, head, label):
    try:
        found = _kind(*_end(model, head))
        if found.kind == "softmax" and units(model, head) == 1:
            raise _Untold("a softmax over a single unit, which is always 1")
    except _Untold as reason:
        raise _refusal(model, label, reason) from None
    return found


def _refusal(model, label, reason):
    return ValueError(f"`{label}` {RULE}. Received: {getattr(model, 'name', model)!r}, with {reason}")


def _of_head(outputs, head):
    if isinstance(outputs, dict):
        if head not in outputs:
            raise _Untold(f"the outputs {', '.join(map(str, outputs))}")
        return outputs[head]
    if isinstance(outputs, list | tuple):
        if len(outputs) != 1:
            raise _Untold(f"{len(outputs)} outputs without names")
        return outputs[0]
    return outputs


# A place on the way to an answer is a pair: an operation, which may be a model, and a function that gives the places
# before it; of a model that is the one at its end.


def _end(model, head):
    output = getattr(model, "output", None) if not isinstance(model, keras.Sequential) else None
    tensor = _of_head(output, head)
    return _place_of_tensor(tensor) if isinstance(output, dict) else _end_of_model(model, 0)


def _end_of_model(model, index):
    if not _is_graph(model):
        raise _Untold("code of its own, which does not say what it answers")
    if isinstance(model, keras.Sequential):
        return _place_of_layers(list(model.layers))
    return _place_of_tensor(model.outputs[index])


def _is_graph(model):
    """Whether a model computes what its layers say, and nothing of its own."""
    kept = getattr(type(model), "call", None)
    return hasattr(model, "layers") and kept.__module__.split(".")[0] == "keras" and "call" not in vars(model)


def _place_of_layers(layers):
    if not layers:
        raise _Untold("nothing before its end")
    *before, last = layers
    return last, lambda: [_end_of_model(last, 0) if isinstance(last, keras.Model) else _place_of_layers(before)]


def _place_of_tensor(tensor):
    operation, taken, index = maker(tensor)
    if isinstance(operation, keras.Model):
        return operation, lambda: [_end_of_model(operation, index)]
    return operation, lambda: [_place_of_tensor(one) for one in taken]


def _told(model, tells, passes):
    """What `tells`, a function of a model, gives of each network whose answer a model passes on: a list.

    It has None for one that tells nothing, and where the answer is made by what no longer `passes` it on.
    """
    if (own := tells(model)) is not None:
        return [own]
    try:
        return _told_at(*_end(model, "predictions"), tells, passes)
    except _Untold:  # code of one's own, which most probably ends in its last layer
        last = model.layers[-1] if getattr(model, "layers", None) else None
        return _told(last, tells, passes) if isinstance(last, keras.Model) else [None]


def _told_at(operation, before, tells, passes):
    if isinstance(operation, keras.Model):
        if (own := tells(operation)) is not None:
            return [own]
        if not _is_graph(operation):
            return _told(operation, tells, passes)
    elif not passes(operation):
        return [None]
    return [one for place in before() for one in _told_at(*place, tells, passes)]


def _keeps_classes(operation):
    """Whether the classes of an operation's outputs are those of its inputs: of arithmetic, too, by what is usual."""
    is_arithmetic = not isinstance(operation, keras.Layer)
    return is_arithmetic or _keeps_probabilities(operation) or (_is_of_keras(operation) and _named(operation, *REAL))


def _keeps_probabilities(operation):
    """Whether an operation leaves probabilities what they are, makes their mean, or makes them of logits."""
    if not _is_of_keras(operation):
        return False
    if _named(operation, "Activation"):
        return _function(operation) in (*FUNCTIONS, "linear")
    return _named(operation, *OPERATIONS, *PASSING, *AVERAGING)


def _named(operation, *names):
    return type(operation).__name__ in names


def _is_of_keras(operation):
    return type(operation).__module__.split(".")[0] == "keras"


def _function(operation):
    """The name of the function of Keras that is an operation's activation, None for another one."""
    function = keras.activations.get(operation.activation)
    name = getattr(function, "__name__", "")
    return name if getattr(keras.activations, name, None) is function else None


def _kind(operation, before):
    """The `_Ending` that an operation is; `before` gives the places of what it is called with."""
    if isinstance(operation, keras.Model):
        return _kind(*before()[0])
    name, own = type(operation).__name__, _is_of_keras(operation)
    if own and name in OPERATIONS:
        if getattr(operation, "axis", -1) not in (-1, 1):
            raise _Untold(f"a softmax over the axis {operation.axis}")
        return _Ending(OPERATIONS[name], operation)
    if hasattr(operation, "activation"):
        function = _function(operation)
        if function in FUNCTIONS:
            return _Ending(FUNCTIONS[function], operation)
        if function != "linear":
            given = keras.activations.get(operation.activation)
            raise _Untold(f"the activation {getattr(given, '__name__', given)} of {operation.name}")
        return _same(before) if isinstance(operation, keras.layers.Activation) else _Ending("logits")
    if own and name in PASSING:
        return _same(before)
    if own and name in AVERAGING:
        return _Ending(_same(before).kind)
    if own and name in REAL and {_kind(*place).kind for place in before()} == {"logits"}:
        return _Ending("logits")
    raise _Untold(f"{operation.name}, {'an input' if name == 'InputLayer' else f'a {name}'}, at its end")


def _same(before):
    # An activation without a function after a layer that has none either: logits.
    endings = [_kind(*place) for place in before()]
    kinds = sorted({one.kind for one in endings})
    if len(kinds) != 1:
        raise _Untold(f"a mixture of {' and '.join(kinds) or 'nothing'}")
    return endings[0] if len(endings) == 1 else _Ending(kinds[0])


def _arriving(model, x):
    """What images `x` have become where they meet a model's first weights."""
    if not _is_graph(model):
        return x
    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            if not _is_fixed(layer):
                return _arriving(layer, x) if isinstance(layer, keras.Model) else x
            x = layer(x)
        return x
    reached = {id(tensor) for tensor in model.inputs}
    for operation in model.operations:
        if isinstance(operation, keras.layers.InputLayer | DropPathSchedule):
            continue
        for taken, made in calls(operation):
            if not taken or not all(id(tensor) in reached for tensor in taken):
                continue
            if _is_fixed(operation):
                reached.update(map(id, made))
                continue
            if taken[0] is not model.inputs[0]:
                x = keras.Model(model.inputs, taken[0])(x)
            return _arriving(operation, x) if isinstance(operation, keras.Model) else x
    return x


def _is_fixed(operation):
    """Whether an operation only prepares: it learns nothing, or the mean and variance of images."""
    norms = (keras.layers.Normalization, keras.layers.BatchNormalization)
    return isinstance(operation, norms) or not getattr(operation, "weights", ())
