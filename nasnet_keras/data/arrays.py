"""Arrays as Keras' `fit` and KerasTuner's `search` take them, as a `Data`."""

import numpy as np

from nasnet_keras.data.loading import Data
from nasnet_keras.data.splits import Split, hold_out


def data_of_arrays(x, y, validation_data=None, validation_split=0.0, seed=0):
    """A `Data` of arrays; it tests nothing.

    Args:
        x: uint8 images [n, height, width, channels] in 0–255.
        y: integer labels [n] or [n, 1], or one-hot [n, classes].
        validation_data: None, or `(x, y)` likewise.
        validation_split: without `validation_data`, the share that is held out of each class.
        seed: what the held-out images follow from.

    Raises:
        ValueError: other shapes or types; or nothing to validate with.
    """
    images, labels = _pair("x", x, y)
    if validation_data is None and not 0 < validation_split < 1:
        rule = "`validation_data` must be (x, y), or `validation_split` a share above 0 and below 1: rewards need one"
        raise ValueError(f"{rule}. Received: {validation_data} and {validation_split}")
    if validation_data is not None and (not isinstance(validation_data, tuple | list) or len(validation_data) != 2):
        raise ValueError(f"`validation_data` must be (x, y). Received: {type(validation_data).__name__}")
    held = None if validation_data is None else _pair("validation_data", *validation_data)
    count = max(2, 1 + max(int(one.max(initial=0)) for one in (labels, *([] if held is None else held[1:]))))
    names = tuple(map(str, range(count)))
    train = Split(images, labels)
    if held is None:
        splits = hold_out(train, {"validation": validation_split}, seed, names)
    else:
        splits = {"train": train, "validation": Split(*held)}
        if splits["validation"].images.shape[1:] != images.shape[1:]:
            rule = f"images of the size of `x`, {images.shape[1:]}"
            raise ValueError(f"`validation_data` must have {rule}. Received: {held[0].shape[1:]}")
    return Data("arrays", splits["train"], splits["validation"], train.select([]), names, images.shape[1:])


def _pair(name, x, y):
    """Images and labels; labels may come in a column, as CIFAR's do, or one-hot."""
    images, labels = np.asarray(x), np.asarray(y)
    if images.ndim == 3:
        images = images[..., None]  # as MNIST's come
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        rule = "uint8 images [n, height, width, channels] in 0 to 255, as files have them"
        raise ValueError(f"`{name}` must be {rule}. Received: {images.dtype} of shape {images.shape}")
    if labels.ndim == 2:
        labels = labels[:, 0] if labels.shape[1] == 1 else labels.argmax(1)
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(f"`{name}` needs a label for each image, an integer from 0. Received: shape {labels.shape}")
    return images, labels.astype(np.int32)
