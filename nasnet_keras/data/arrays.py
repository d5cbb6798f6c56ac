"""Arrays and data sets as Keras' `fit`, KerasTuner's `search` and `fine_tune` take them, as a `Data`."""

import logging
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from nasnet_keras.checks import as_integer, as_numbers, names_of
from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.left_out import LeftOut, few
from nasnet_keras.data.loading import CHECKED, Data
from nasnet_keras.data.objects import is_object, read_object_data
from nasnet_keras.data.records import Record
from nasnet_keras.data.splits import Split, hold_out, placed, renumbered

UNSAID = object()  # of an argument for which None says something

logger = logging.getLogger(__name__)


def data_of_arrays(x, y=None, validation_data=None, validation_split=0.0, seed=0, ordered=False):
    """A `Data` of arrays, or of data sets as Python has them; it tests nothing.

    Args:
        x: images [n, height, width, channels] or, of greys, [n, height, width], as for `objects.read_object_data`; or,
            without `y`, what else that takes: a `tf.data.Dataset`, a `PyDataset`, a pair of all images and labels.
        y: labels [n] or [n, 1], or 0 and 1 for each class, [n, classes].
        validation_data: None, or `(x, y)`, or a data set, likewise. Integers count by the names of classes that either
            of the two data sets has.
        validation_split: without `validation_data`, the share that is held out of each class.
        seed: what the held-out images follow from.
        ordered: whether the images are brought into one order before, see `Split.in_order`: then nothing follows from
            the one in which they came.

    Raises:
        ValueError: other shapes or types; or nothing to validate with.
    """
    if is_object(x) and y is not None and hasattr(x, "as_numpy_iterator"):
        raise ValueError("`y` must be left out where `x` is a data set, which has the labels. Received: both")
    if validation_data is None and not 0 < validation_split < 1:
        rule = "(x, y) or a data set, or `validation_split` a share above 0 and below 1: rewards need one"
        raise ValueError(f"`validation_data` must be {rule}. Received: None and {validation_split}")
    train, names, are_texts, are_named = _read("x", x, y)
    train = train.in_order() if ordered else train
    if validation_data is None:
        splits = hold_out(train, {"validation": validation_split}, seed, names, notes := [])
        for note in notes:
            logger.warning("`x`: %s", note)
        if not len(splits["validation"]):
            rule = "a class of at least two images, one of which is held out: rewards need one"
            raise ValueError(f"`x` must have {rule}. Received: {len(train)} images of {len(names)} classes")
    else:
        if validation_split:
            logger.warning("`validation_split` %g is not used: rewards come from `validation_data`", validation_split)
        pair = validation_data
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            if not is_object(pair) or isinstance(pair, tuple):
                rule = "(x, y), or a data set of images and labels"
                raise ValueError(f"`validation_data` must be {rule}. Received: {_told(pair)}")
            pair = (pair, None)
        known = are_texts or are_named
        held, others, texts, named = _read("validation_data", *pair, names if known else None, several=train.several)
        # Integers count by names that are in an order of their own, which those among text labels are not.
        alike = known == (texts or named) or (are_named if known else not texts)
        if not alike or held.several != train.several:
            rule = "labels of the same kind as `y`; rows of none or several 1s say that an image may have several"
            raise ValueError(f"`validation_data` must have {rule}. Received: another kind")
        shapes = held.images.shape[1:], train.images.shape[1:]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"`validation_data` must have images of the size of `x`, {shapes[1]}. Received: {shapes[0]}"
            )
        if not known:
            names = others if named else max(names, others, key=len)
            _check_labels(train, names, "x")
            _check_labels(held, names, "validation_data")
        splits = {"train": train, "validation": held.in_order() if ordered else held}
    return Data("arrays", splits["train"], splits["validation"], train.select([]), names, train.images.shape[1:])


def data_of_parts(train, validation, classes, grey_range=UNSAID):
    """A `Data` of images for training and others for validation, as `transfer.fine_tune` takes them; it tests nothing.

    Args:
        train: a `Split`, a pair of images and labels, or a data set, see `split_of`.
        validation: likewise, or None for none.
        classes: a name for each label; or their number, and the data's own names count, if they have any.
        grey_range: as for `read_image`; of a `Split` of files it has to be that by which they are read, if it is said.

    Raises:
        ValueError: other types, shapes or labels; or no image that can be read.
    """
    classes = as_integer(classes)
    if isinstance(classes, float | bool) or not isinstance(classes, int | Iterable):
        raise ValueError(f"`classes` must be a name for each label, or their number. Received: {classes!r}")
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else names_of("classes", classes)
    wanted, record = None if grey_range is UNSAID else as_numbers(grey_range), None
    splits = {}
    for label, value in (("train", train), ("validation", validation)):
        if value is None and label == "validation":
            value = splits["train"].select([])
        record = record if isinstance(value, Split) else Record()
        known = names if splits or not isinstance(classes, int) else classes
        size, several = (splits["train"].images.shape[1:3], splits["train"].several) if splits else (None, None)
        value, names = split_of(value, known, label, wanted, several, size)
        if value.several and value.labels.shape[1] != len(names):
            raise ValueError(f"`{label}` must have {len(names)} labels. Received: {value.labels.shape[1]}")
        if splits and len(value) and value.several != splits["train"].several:
            rule = "must both have one label an image, or both several: rows of none or several 1s, or a Split of bool"
            raise ValueError(f"`train` and `validation` {rule}")
        if len(value) and not value.several and not 0 <= value.labels.min() <= value.labels.max() < len(names):
            raise ValueError(
                f"`{label}` must have labels from 0 to {len(names) - 1}, as there are {len(names)} classes"
            )
        if value.files is not None and grey_range is not UNSAID and wanted != (read := read_as(value)):
            raise ValueError(f"`grey_range` must be that by which `{label}` was read, {read}. Received: {wanted}")
        if splits and len(value) and value.images.shape[1:] != splits["train"].images.shape[1:]:
            rule = f"images of the shape of `train`'s, {splits['train'].images.shape[1:]}"
            raise ValueError(f"`validation` must have {rule}. Received: {value.images.shape[1:]}")
        splits[label] = value
    if len(names) < 2:
        raise ValueError(f"`classes` must be at least two. Received: {classes!r}")
    train = splits["train"]
    shape = tuple(train.images.shape[1:])
    further = {"record": train.record or record, "grey_range": read_as(train)}
    return Data("fine_tune", train, splits["validation"], train.select([]), names, shape, **further)


def split_of(value, classes, label, grey_range=None, several=None, size=None, checked=True):
    """A `Split` whose labels count by some names, and those.

    Args:
        value: a `Split`, or what `objects.read_object_data` takes. Files that cannot be read are left out, and told,
            unless there are too many to look.
        classes: a name for each label, or their number: then the names are the data's own, if they have any.
        label: the argument that an error names.
        grey_range, several: as for `objects.read_object_data`.
        size: `(height, width)` of images that are files; None: their own.
        checked: whether files are looked at; else those that cannot be read stay in their places.

    Raises:
        ValueError: it is something else, or calls some of its classes otherwise.
    """
    if isinstance(value, Split):
        return _named(value, classes, label)
    if not is_object(value):
        rule = "a Split, or a pair of images and labels, or a data set of such"
        raise ValueError(f"`{label}` must be {rule}. Received: {type(value)}")
    found, names = read_object_data(value, class_names=classes, label=label, grey_range=grey_range, several=several)
    split = Split(*found["train"], class_names=names)
    if size and isinstance(split.images, ImageFiles):
        split = replace(split, images=replace(split.images, image_size=tuple(size)))
    return _readable(split, label) if checked else split, names


def _named(split, classes, label):
    """As `split_of`, of a `Split`; numbers are nobody's names, and labels stand as they are then."""
    own, is_count = split.class_names, isinstance(classes, int)
    most = split.labels.shape[1] if split.several else split.labels.max(initial=-1) + 1
    own = own if own is None or (len(own) == most if split.several else len(own) >= most) else None  # others' labels
    names = tuple(map(str, range(classes))) if is_count else tuple(classes)
    if own is not None and is_count and len(own) == classes:
        return split, own
    if own is None or own == names:
        return split, names
    if not is_count and (placed(own, names) >= 0).all():
        return replace(split, labels=renumbered(split.labels, own, names), class_names=names), names
    if own == tuple(map(str, range(len(own)))):
        return replace(split, class_names=None), names
    if len(own) == len(names) and not set(own) & set(names):  # a folder's, say, that are to be called by words
        logger.warning("what `%s` calls %s is called %s, one after the other", label, few(own), few(names))
        return replace(split, class_names=None), names
    rule = f"{classes} classes" if is_count else f"the classes {few(names)}"
    way = "`dataclasses.replace(…, class_names=None)` leaves labels as they are"
    raise ValueError(f"`{label}` must have {rule}. Received: {few(own)}, which it calls its classes; {way}")


def read_as(split, otherwise=None):
    """The range by which a split's greys were read; arrays do not say it, then it is another one."""
    return otherwise if split.files is None else split.files.grey_range


def _readable(split, label):
    """A split without the files that cannot be read, which is told; all of it where there are too many to look."""
    files = split.images
    broken = files.check() if isinstance(files, ImageFiles) and len(files) <= CHECKED else {}
    if not broken:
        return split
    left_out = LeftOut().with_broken({files.name(index): reason for index, reason in broken.items()})
    if len(broken) == len(files):
        raise ValueError(f"`{label}` must have images that can be read. Received: {left_out.summary()}")
    logger.warning("not used of `%s`: %s", label, left_out.summary())
    return replace(split.select(np.delete(np.arange(len(files)), list(broken))), broken=len(broken))


def in_order(data):
    """Data as `load_data` gives those of Python, divided anew so that nothing follows from the order they came in.

    A data set may shuffle its images in each pass. Data that are divided by their names, those that were divided as an
    earlier version did, and those with broken images stay as they are.

    Args:
        data: a `Data`.
    """
    record, parts = data.record, (data.train, data.validation, data.test)
    if record is None or record.digest is not None or any(split.broken for split in parts):
        return data
    splits = hold_out(Split.joined(parts).in_order(), record.shares, record.seed, data.class_names)
    return replace(data, **{part: replace(split, record=record) for part, split in splits.items()})


def in_one_order(data, sources):
    """Data of `data_of_parts` in an order that follows from what the images are, where a data set gave them.

    Such a set may shuffle its images in each pass; pairs and lists stay as they are.

    Args:
        data: a `Data`.
        sources: what parts of it were made of, {name: as for `data_of_parts`}.
    """
    changed = {}
    for part, source in sources.items():
        if is_object(source) and not isinstance(source, tuple | list | Split):
            split = getattr(data, part)
            changed[part] = replace(split.in_order(), broken=split.broken)
    return replace(data, **changed) if changed else data


def _told(value):
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__


def _check_labels(split, names, label):
    """Raise `ValueError` where labels that are numbers are not those of these classes."""
    if split.several and split.labels.shape[1] != len(names):
        raise ValueError(f"`{label}` must have {len(names)} columns of labels. Received: {split.labels.shape[1]}")
    if not split.several and (most := int(split.labels.max(initial=0))) >= len(names):
        rule = f"labels from 0 to {len(names) - 1}, as there are {len(names)} classes"
        raise ValueError(f"`{label}` must have {rule}. Received: {most}")


def _read(label, x, y, names=None, several=None):
    """A `Split`, the names of its classes, `names` if given, and the two `kinds` of `read_object_data`."""
    options = {"class_names": names, "label": label, "several": several, "kinds": (kinds := [])}
    if y is None and is_object(x):
        parts, found = read_object_data(x, **options)
        return Split(*parts["train"]), found, *kinds
    images = x if isinstance(x, list) else np.asarray(x)
    shape = (len(x), 0, 0, 0) if isinstance(x, list) else images.shape  # of a list each image is looked at
    images = images[..., None] if len(shape) == 3 else images
    if len(shape) not in (3, 4) or y is None:
        rule = "images [n, height, width, channels] with a label for each"
        received = f"shape {shape}" if len(shape) not in (3, 4) else "no labels"
        raise ValueError(f"`{label}` must be {rule}. Received: {received}")
    labels = (
        y if isinstance(y, list | tuple) or hasattr(y, "iloc") else np.asarray(y)
    )  # of a tensor, too; frames have names
    if isinstance(labels, np.ndarray) and not labels.ndim:
        raise ValueError(f"`{label}` must have a label for each image. Received: {type(y).__name__}")
    if len(labels) != len(images):
        raise ValueError(f"`{label}` must have a label for each image. Received: {len(labels)} for {len(images)}")
    parts, found = read_object_data((images, labels), **options)
    return Split(*parts["train"]), found, *kinds
