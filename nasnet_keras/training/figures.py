"""What answers are worth: accuracy where an image has one label, average precision where it may have several."""

import math

import numpy as np

from nasnet_keras.models import answers

# The figure by which models are compared, and what it is called.
MEASURES = {"accuracy": "accuracy", "mean_average_precision": "mean average precision"}
USUAL = 0.5  # the threshold of a label that says nothing of its own
LEAST = 1e-7  # of a probability whose logarithm is taken; Keras' own epsilon by default


def figures_of(outputs, labels, kind):
    """The figures of outputs [n, …] of one of `models.answers.KINDS`.

    Args:
        outputs: a model's.
        labels: true ones, integers [n], or bool [n, classes] where an image may have several.
        kind: that of the outputs.

    Returns:
        `{"accuracy", "loss", "images"}`, or of several labels `{"mean_average_precision", "loss", "images"}`; None
        where there are no images, and a precision where none has a label.

    Raises:
        ValueError: several labels, and outputs that are no independent probabilities.
    """
    several = np.ndim(labels) == 2
    if several and kind != "sigmoid":
        raise ValueError(f"`model` must end in sigmoid where an image may have several labels. Received: {kind}")
    measure = "mean_average_precision" if several else "accuracy"
    if not len(labels):
        return {measure: None, "loss": None, "images": 0}
    if several:
        value = mean_average_precision(labels, outputs)
    else:
        value = float(np.mean(answers.as_probabilities(outputs, kind).argmax(-1) == labels))
    return {measure: value, "loss": float(np.mean(losses(outputs, labels, kind))), "images": len(labels)}


def losses(outputs, labels, kind):
    """The cross-entropy of each image, [n].

    Args:
        outputs: [n, classes], or [n, 1] for two classes.
        labels: the true classes, integers [n]; or bool [n, classes], true where an image has a label, for `sigmoid`.
        kind: that of the outputs, one of `models.answers.KINDS`; for `sigmoid` with several classes the mean over them
            of each one's, or where an image may have several labels the sum of them.
    """
    if np.ndim(labels) == 2:
        return -np.log(np.maximum(np.where(labels, outputs, 1 - outputs), LEAST)).sum(1)
    rows = np.arange(len(labels))
    if kind == "logits":
        wide = outputs.astype("float64")
        wide = np.concatenate([np.zeros_like(wide), wide], 1) if wide.shape[1] == 1 else wide
        top = wide.max(1)
        return top + np.log(np.exp(wide - top[:, None]).sum(1)) - wide[rows, labels]
    if kind == "sigmoid" and outputs.shape[1] > 1:
        right = 1 - outputs
        right[rows, labels] = outputs[rows, labels]
        return -np.log(np.maximum(right, LEAST)).mean(1)
    return -np.log(np.maximum(answers.as_probabilities(outputs, kind)[rows, labels], LEAST))


def judged(figures):
    """(the key of `MEASURES`, its value) of some figures."""
    return next((name, figures[name]) for name in MEASURES if name in figures)


def average_precisions(labels, scores):
    """The average precision of each label, float64 [classes]: its precision, averaged over the images that have it.

    Args:
        labels: bool [n, classes].
        scores: [n, classes], more for what is more likely; logits will do.

    Returns:
        NaN for a label that no image has.
    """
    from sklearn.metrics import average_precision_score

    scores = np.asarray(scores, np.float64)
    return np.array(
        [
            average_precision_score(labels[:, place], scores[:, place]) if labels[:, place].any() else math.nan
            for place in range(labels.shape[1])
        ]
    )


def mean_average_precision(labels, scores):
    """The mean of `average_precisions` over the labels that some image has; None where there are none."""
    found = average_precisions(labels, scores) if len(labels) else np.zeros(0)
    found = found[~np.isnan(found)]
    return float(found.mean()) if len(found) else None


def best_thresholds(labels, probabilities):
    """For each label the threshold of the best F1, the harmonic mean of precision and recall: a tuple of floats.

    It lies between two probabilities that were met; a label that no image has, or all have, gets 0.5.

    Args:
        labels: bool [n, classes].
        probabilities: [n, classes].
    """
    from sklearn.metrics import precision_recall_curve

    found = []
    for true, scores in zip(np.asarray(labels).T, np.asarray(probabilities, np.float64).T, strict=True):
        if true.all() or not true.any():
            found.append(USUAL)
            continue
        precision, recall, levels = precision_recall_curve(true, scores)
        both = precision[:-1] + recall[:-1]
        f1 = np.divide(2 * precision[:-1] * recall[:-1], both, out=np.zeros_like(both), where=both > 0)
        best = int(f1.argmax())
        found.append(float((levels[best] + (levels[best - 1] if best else 0.0)) / 2))
    return tuple(found)
