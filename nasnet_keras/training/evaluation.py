"""What a classifier gets right and what it confuses, class by class."""

import numpy as np

from nasnet_keras.models.answers import as_probabilities
from nasnet_keras.training.fitting import answers_to, figures_of


def evaluate_classes(model, split, class_names, batch_size=256, devices=None):
    """Accuracy and loss, precision and recall of each class, and the confusion matrix.

    Args:
        model: a classifier; what its outputs are follows from its last layer (`models.answers`).
        split: a `data.Split` whose labels count as the model's outputs do.
        class_names: a name for each class.
        batch_size: images at a time.
        devices: how many devices share each batch, or `"all"`; None: one.

    Returns:
        A JSON-able dict: `accuracy`, `loss`, `images`; `classes`, a list with `name`, `images`, `precision` and
        `recall` (None where nothing was predicted as the class, or there is no image of it); `confusion`, a list
        with a row for each true class: how many of its images were taken for which class.

    Raises:
        ValueError: other numbers of names and of the model's classes, nothing tells what the model answers with, or
            there are not so many devices.
    """
    outputs, labels, kind = answers_to(model, split, batch_size, devices)
    probabilities, count = as_probabilities(outputs, kind), len(class_names)
    if probabilities.shape[1] != count:
        rule = f"the model's {probabilities.shape[1]}, one for each class"
        raise ValueError(f"`class_names` must be {rule}. Received: {count}")
    pairs = labels.astype(np.int64) * count + probabilities.argmax(-1)
    matrix = np.bincount(pairs, minlength=count * count).reshape(count, count)
    right, true, taken = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    classes = [
        {
            "name": str(name),
            "images": int(true[index]),
            "precision": float(right[index] / taken[index]) if taken[index] else None,
            "recall": float(right[index] / true[index]) if true[index] else None,
        }
        for index, name in enumerate(class_names)
    ]
    return {**figures_of(outputs, labels, kind), "classes": classes, "confusion": matrix.tolist()}
