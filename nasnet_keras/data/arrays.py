"""Arrays as Keras' `fit` and KerasTuner's `search` take them, as a `Data`."""

import logging

import numpy as np

from nasnet_keras.data.loading import Data
from nasnet_keras.data.objects import read_object_data
from nasnet_keras.data.splits import Split, hold_out

logger = logging.getLogger(__name__)


def data_of_arrays(x, y, validation_data=None, validation_split=0.0, seed=0):
    """A `Data` of arrays; it tests nothing.

    Args:
        x: images [n, height, width, channels] or, of greys, [n, height, width], as for `objects.read_object_data`.
        y: labels [n] or [n, 1], or 0 and 1 for each class, [n, classes].
        validation_data: None, or `(x, y)` likewise.
        validation_split: without `validation_data`, the share that is held out of each class.
        seed: what the held-out images follow from.

    Raises:
        ValueError: other shapes or types; or nothing to validate with.
    """
    train, names = _read("x", x, y)
    if validation_data is None:
        if not 0 < validation_split < 1:
            rule = "(x, y), or `validation_split` a share above 0 and below 1: rewards need one"
            raise ValueError(f"`validation_data` must be {rule}. Received: None and {validation_split}")
        splits = hold_out(train, {"validation": validation_split}, seed, names)
    else:
        if validation_split:
            logger.warning("`validation_split` %g is not used: rewards come from `validation_data`", validation_split)
        if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
            raise ValueError(f"`validation_data` must be (x, y). Received: {type(validation_data).__name__}")
        texts = [_is_text(labels) for labels in (y, validation_data[1])]
        known = names if all(texts) else None
        held, others = _read("validation_data", *validation_data, known, several=train.several)
        if texts[0] != texts[1] or held.several != train.several:
            rule = "labels of the same kind as `y`; rows of bool say that an image may have several"
            raise ValueError(f"`validation_data` must have {rule}. Received: another kind")
        shapes = held.images.shape[1:], train.images.shape[1:]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"`validation_data` must have images of the size of `x`, {shapes[1]}. Received: {shapes[0]}"
            )
        splits, names = {"train": train, "validation": held}, max(names, others, key=len)
    return Data("arrays", splits["train"], splits["validation"], train.select([]), names, train.images.shape[1:])


def _is_text(labels):
    """Whether labels are names."""
    if isinstance(labels, np.ndarray) and labels.dtype != object:
        return labels.dtype.kind in "US"
    # Lists of names may be empty.
    first = next((one for one in labels if not isinstance(one, list | tuple) or one), None)
    return isinstance(first[0] if isinstance(first, list | tuple) else first, str | bytes)


def _read(label, x, y, names=None, several=None):
    """A `Split` and the names of its classes; they are `names`, if given."""
    images = np.asarray(x)
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or y is None:
        rule = "images [n, height, width, channels] with a label for each"
        received = f"shape {images.shape}" if images.ndim != 4 else "no labels"
        raise ValueError(f"`{label}` must be {rule}. Received: {received}")
    parts, names = read_object_data((images, y), class_names=names, label=label, several=several)
    return Split(*parts["train"]), names
