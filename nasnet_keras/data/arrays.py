"""Arrays as Keras' `fit` and KerasTuner's `search` take them, as a `Data`."""

import logging

import numpy as np

from nasnet_keras.data.loading import Data
from nasnet_keras.data.objects import is_object, read_object_data
from nasnet_keras.data.splits import Split, hold_out

logger = logging.getLogger(__name__)


def data_of_arrays(x, y=None, validation_data=None, validation_split=0.0, seed=0):
    """A `Data` of arrays, or of data sets as Python has them; it tests nothing.

    Args:
        x: images [n, height, width, channels] or, of greys, [n, height, width], as for `objects.read_object_data`; or,
            without `y`, what else that takes: a `tf.data.Dataset`, a `PyDataset`, a pair of all images and labels.
        y: labels [n] or [n, 1], or 0 and 1 for each class, [n, classes].
        validation_data: None, or `(x, y)`, or a data set, likewise.
        validation_split: without `validation_data`, the share that is held out of each class.
        seed: what the held-out images follow from.

    Raises:
        ValueError: other shapes or types; or nothing to validate with.
    """
    if is_object(x) and y is not None and hasattr(x, "as_numpy_iterator"):
        raise ValueError("`y` must be left out where `x` is a data set, which has the labels. Received: both")
    if validation_data is None and not 0 < validation_split < 1:
        rule = "(x, y) or a data set, or `validation_split` a share above 0 and below 1: rewards need one"
        raise ValueError(f"`validation_data` must be {rule}. Received: None and {validation_split}")
    train, names, are_texts = _read("x", x, y)
    if validation_data is None:
        splits = hold_out(train, {"validation": validation_split}, seed, names)
    else:
        if validation_split:
            logger.warning("`validation_split` %g is not used: rewards come from `validation_data`", validation_split)
        pair = validation_data
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            if not is_object(pair) or isinstance(pair, tuple):
                rule = "(x, y), or a data set of images and labels"
                raise ValueError(f"`validation_data` must be {rule}. Received: {_told(pair)}")
            pair = (pair, None)
        known = names if are_texts else None
        held, others, texts = _read("validation_data", *pair, known, several=train.several)
        if are_texts != texts or held.several != train.several:
            rule = "labels of the same kind as `y`; rows of bool say that an image may have several"
            raise ValueError(f"`validation_data` must have {rule}. Received: another kind")
        shapes = held.images.shape[1:], train.images.shape[1:]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"`validation_data` must have images of the size of `x`, {shapes[1]}. Received: {shapes[0]}"
            )
        splits, names = {"train": train, "validation": held}, max(names, others, key=len)
    return Data("arrays", splits["train"], splits["validation"], train.select([]), names, train.images.shape[1:])


def _told(value):
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__


def _is_text(labels):
    """Whether labels are names."""
    if isinstance(labels, np.ndarray) and labels.dtype != object:
        return labels.dtype.kind in "US"
    # Lists of names may be empty.
    first = next((one for one in labels if not isinstance(one, list | tuple) or one), None)
    return isinstance(first[0] if isinstance(first, list | tuple) else first, str | bytes)


def _read(label, x, y, names=None, several=None):
    """A `Split`, the names of its classes, `names` if given, and whether it had names rather than numbers."""
    if y is None and is_object(x):
        parts, found = read_object_data(x, class_names=names, label=label, several=several)
        return Split(*parts["train"]), found, found != tuple(map(str, range(len(found))))
    images = x if isinstance(x, list) else np.asarray(x)
    shape = (len(x), 0, 0, 0) if isinstance(x, list) else images.shape  # of a list each image is looked at
    images = images[..., None] if len(shape) == 3 else images
    if len(shape) not in (3, 4) or y is None:
        rule = "images [n, height, width, channels] with a label for each"
        received = f"shape {shape}" if len(shape) not in (3, 4) else "no labels"
        raise ValueError(f"`{label}` must be {rule}. Received: {received}")
    labels = y if isinstance(y, list | tuple) else np.asarray(y)  # of pandas or a tensor, too
    if isinstance(labels, np.ndarray) and labels.shape[1:] == (1,) and labels.dtype.kind in "OSU":
        labels = labels[:, 0]
    if isinstance(labels, np.ndarray) and not labels.ndim:
        raise ValueError(f"`{label}` must have a label for each image. Received: {type(y).__name__}")
    if len(labels) != len(images):
        raise ValueError(f"`{label}` must have a label for each image. Received: {len(labels)} for {len(images)}")
    parts, found = read_object_data((images, labels), class_names=names, label=label, several=several)
    return Split(*parts["train"]), found, _is_text(labels)
