"""What a classifier gets right and what it confuses, class by class, and how far its probabilities can be believed."""

import logging
from functools import partial

import numpy as np

from nasnet_keras.checks import check_integer, names_of
from nasnet_keras.data.arrays import split_of
from nasnet_keras.data.left_out import few
from nasnet_keras.data.splits import Split, note_of_separator, placed, separator_of
from nasnet_keras.models import answers
from nasnet_keras.training.figures import USUAL, average_precisions, figures_of, losses
from nasnet_keras.training.fitting import answers_to

logger = logging.getLogger(__name__)

BINS = 10  # of how sure a model is
POINTS = 200  # of a curve
TOP = 5
SHIFTS = (0, 1, -1)  # of the views of `tta`, in 32nds of each side
NONE = "none"  # of several labels


def evaluate_classes(model, split, class_names, batch_size=256, worst=0, devices=None, tta=False):
    """Accuracy and loss, precision and recall of each class, the confusion matrix, and the calibration.

    Args:
        model: a classifier; what its outputs are follows from its last layer (`models.answers`).
        split: a `data.Split`; or a pair of images and labels, a `tf.data.Dataset`, …, as for `fine_tune`. What names
            its classes goes by these names, other labels count as `class_names` do.
        class_names: a name for each class. Those of a model that has names may come in any order; other names than the
            model's are told, and labels then count as its outputs do.
        batch_size: images at a time, at most: fewer of more than 128 pixels.
        worst: how many of the most wrong images are named.
        devices: how many devices share each batch, or `"all"`; None: one.
        tta: whether to add what the mean of six views of each image gives (test-time augmentation): the image, and
            shifted by a 32nd of its sides either way, each also mirrored. All other figures are those of a single view.

    Returns:
        A JSON-able dict: `accuracy`, `loss`, `images`; of more than five classes `top_5_accuracy`; `classes`, a list
        with `name`, `images`, `precision` and `recall` (None where nothing was predicted as the class, or there is no
        image of it), and `wrong`, its images taken for others and others taken for it; `confusion`, a list with a row
        for each true class: how many of its images were taken for which class; `calibration`: `error`, the mean
        difference between how sure an answer is and how often it is right (Guo et al. 2017, arXiv 1706.04599, equation
        3), and `bins` with `confidence`, `accuracy` and `images`. With `worst` also `worst`, the wrong images of the
        greatest loss, the worst first, dicts with `index` (in the split), `class`, `taken_for` and `score`. With `tta`
        also `tta`: `accuracy` (of several labels `mean_average_precision`), `loss`, `images` and `views`.

        Where an image may have several labels: `mean_average_precision`, `loss`, `images`; `exact`, the share of images
        with all labels told right; `classes` with `name`, `images`, `threshold`, `precision` and `recall` at it,
        `wrong` and `average_precision`; `calibration` over all labels; `curves`, for each label (recall, precision)
        pairs. In `worst`, `class` and `taken_for` are then all labels, with a `|` between them (where
        a name has one, the first of `;`, `,` and a tab that none has, which is told), and `score` says how sure the
        model was of the label, or of its absence, that it told most wrongly.

    Raises:
        ValueError: names without an order, other numbers of names and of the model's classes, some of its names and
            some others, images that the model does not take, nothing tells what the model answers with, it answers with
            no numbers, or there are not so many devices.

    Examples:
        >>> from nasnet_keras import NASNet, evaluate_classes, load_data
        >>> data = load_data("digits", limit=100)
        >>> model = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 8, 3), classes=10)
        >>> figures = evaluate_classes(model, data.test, data.class_names)
        >>> [row["name"] for row in figures["classes"]][:3]
        ['0', '1', '2']
    """
    names = list(names_of("class_names", class_names))
    columns, count = _columns(answers.class_names(model), names), len(names)
    several = None if answers.thresholds(model) is None else True
    size = None if isinstance(split, Split) else answers.image_size(model)
    split, _ = split_of(split, names, "split", answers.grey_range(model), several, size, checked=False)
    outputs, labels, kind = answers_to(model, split, batch_size, devices)
    outputs, kind = _in_order(outputs, kind, columns)
    probabilities = check_numbers(answers.as_probabilities(outputs, kind))
    if probabilities.shape[1] != count:
        rule = f"the model's {probabilities.shape[1]}, one for each class"
        raise ValueError(f"`class_names` must be {rule}. Received: {count}")
    if not split.several and len(split) and not 0 <= split.labels.min() <= split.labels.max() < count:
        received = f"{split.labels.min()} to {split.labels.max()}"
        raise ValueError(
            f"`split` must have labels from 0 to {count - 1}, as there are {count} classes. Received: {received}"
        )
    figures = figures_of(outputs, labels, kind)
    if split.several:
        thresholds = answers.thresholds(model)
        thresholds = np.full(count, USUAL, "float32") if thresholds is None else thresholds[columns]
        told, separator = probabilities >= thresholds, separator_of(names)
        describe = partial(_labels_told, separator)
        figures |= _of_labels(probabilities, labels, names, told, thresholds)
    else:
        told, describe = probabilities.argmax(-1), _class_told
        figures |= _of_classes(probabilities, labels, names, told)
    if tta:
        figures["tta"] = _of_views(model, split, batch_size, devices, columns)
    if worst:
        check_integer("worst", worst, least=1)
        if split.several and (note := note_of_separator(separator)):
            logger.warning("%s", note)
        wrong = np.flatnonzero((told != labels).any(1) if split.several else told != labels)
        order = wrong[np.argsort(-losses(outputs, labels, kind)[wrong], kind="stable")][:worst]
        places = np.flatnonzero(split.readable)
        figures["worst"] = [
            {"index": int(places[row]), **describe(names, labels[row], told[row], probabilities[row])} for row in order
        ]
    return figures


def check_numbers(probabilities):
    """The same probabilities [n, classes]; raises `ValueError` where some of them are no numbers."""
    wrong = int(np.isnan(probabilities).any(-1).sum())
    if wrong:
        received = f"the model's answers to {wrong:,} of {len(probabilities):,} images are no numbers"
        raise ValueError(f"`model` must answer with numbers. Received: {received}")
    return probabilities


def _columns(own, names):
    """Which columns of a model's outputs some names mean, by the names that it has of its own."""
    if own is None or len(own) != len(names) or list(own) == names:
        return slice(None)
    places = placed(names, own)
    if len(set(own)) == len(own) and (places >= 0).all():
        return places.tolist()
    shared = set(own) & set(names)
    if all(name == other for name, other in zip(own, names, strict=True) if {name, other} & shared):
        logger.warning(
            "`class_names` are other ones than the model's, %s: labels count as its outputs do, in this order", few(own)
        )
        return slice(None)
    odd = sorted(set(names) - set(own)) or names
    raise ValueError(f"`class_names` must be the model's, {few(own)}, in any order. Received: {few(odd)}")


def _in_order(outputs, kind, columns):
    """(Some columns of outputs, their kind); a single unit becomes two columns, logits or probabilities."""
    if isinstance(columns, slice):
        return outputs, kind
    if outputs.shape[1] == 1:
        outputs = np.concatenate([0 * outputs if kind == "logits" else 1 - outputs, outputs], 1)
        kind = "softmax" if kind == "sigmoid" else kind
    return outputs[:, columns], kind


def _of_views(model, split, batch_size, devices, columns):
    """The figures of the mean probabilities of an image's views."""
    total, views = 0, [(mirrored, shift) for mirrored in (False, True) for shift in SHIFTS]
    for mirrored, shift in views:
        shown = partial(_view, mirrored=mirrored, shift=shift)
        outputs, labels, kind = answers_to(model, split, batch_size, devices, shown)
        total = total + check_numbers(answers.as_probabilities(outputs, kind))[:, columns]
    independent = kind == "sigmoid" and outputs.shape[1] > 1
    return {**figures_of(total / len(views), labels, "sigmoid" if independent else "softmax"), "views": len(views)}


def _view(images, mirrored, shift):
    """Images mirrored, and moved by so many 32nds of both sides; what comes into view is reflected."""
    images = images[:, :, ::-1] if mirrored else images
    for axis in (1, 2):
        last = images.shape[axis] - 1
        moved = np.abs(np.arange(last + 1) + shift * max(1, round((last + 1) / 32)))
        images = images.take(last - np.abs(last - moved), axis)
    return images


def _of_classes(probabilities, labels, names, guesses):
    count = len(names)
    pairs = labels.astype(np.int64) * count + guesses
    matrix = np.bincount(pairs, minlength=count * count).reshape(count, count)
    right, true, taken = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    figures = {}
    if count > TOP and len(labels):
        own = probabilities[np.arange(len(labels)), labels]
        figures["top_5_accuracy"] = float(np.mean((probabilities > own[:, None]).sum(1) < TOP))
    return {
        **figures,
        "classes": [_row(*row) for row in zip(names, true, taken, right, strict=True)],
        "confusion": matrix.tolist(),
        "calibration": calibration(probabilities.max(-1, initial=0), guesses == labels),
    }


def _of_labels(probabilities, labels, names, told, thresholds):
    from sklearn.metrics import precision_recall_curve

    precisions = average_precisions(labels, probabilities) if len(labels) else np.full(len(names), np.nan)
    true, taken, right = labels.sum(0), told.sum(0), (labels & told).sum(0)
    rows, curves = [], {}
    for place, row in enumerate(zip(names, true, taken, right, strict=True)):
        known = not np.isnan(precisions[place])
        rows.append(
            {
                **_row(*row),
                "threshold": float(thresholds[place]),
                "average_precision": float(precisions[place]) if known else None,
            }
        )
        if known:
            precision, recall, _ = precision_recall_curve(labels[:, place], probabilities[:, place])
            chosen = np.unique(np.linspace(0, len(recall) - 1, POINTS).astype(int))
            curves[names[place]] = [[float(recall[one]), float(precision[one])] for one in chosen]
    return {
        "exact": float((told == labels).all(1).mean()) if len(labels) else None,
        "classes": rows,
        "calibration": calibration(probabilities.reshape(-1), labels.reshape(-1)),
        "curves": curves,
    }


def _class_told(names, label, told, probabilities):
    return {"class": names[label], "taken_for": names[told], "score": float(probabilities[told])}


def _labels_told(separator, names, labels, told, probabilities):
    sure = np.where(told, probabilities, 1 - probabilities)[labels != told].max()
    true, taken = (separator.join(names[one] for one in np.flatnonzero(marks)) or NONE for marks in (labels, told))
    return {"class": true, "taken_for": taken, "score": float(sure)}


def _row(name, true, taken, right):
    return {
        "name": name,
        "images": int(true),
        "precision": float(right / taken) if taken else None,
        "recall": float(right / true) if true else None,
        "wrong": int(true + taken - 2 * right),
    }


def calibration(confidences, right):
    """How often answers are right, by how sure they are.

    Args:
        confidences: probabilities [n].
        right: bool [n].

    Returns:
        `{"error": float or None, "bins": [{"confidence", "accuracy", "images"}, …]}`, ten bins of equal width.
    """
    places = np.minimum((np.asarray(confidences) * BINS).astype(int), BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    sums = [np.bincount(places, weights=values, minlength=BINS) for values in (confidences, right)]
    sure, accurate = (np.divide(one, counts, out=np.zeros(BINS), where=counts > 0) for one in sums)
    error = float((counts * np.abs(sure - accurate)).sum() / counts.sum()) if counts.sum() else None
    rows = zip(sure.tolist(), accurate.tolist(), counts.tolist(), strict=True)
    return {"error": error, "bins": [{"confidence": a, "accuracy": b, "images": c} for a, b, c in rows]}
