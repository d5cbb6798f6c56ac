"""Data sets as Python has them: arrays, a `tf.data.Dataset`, a Keras `PyDataset`, or anything of (image, label) pairs.

They are gone through once, and kept in memory as pixels of 8 bits; images that are paths or encoded bytes stay what
they are until they are decoded.
"""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from nasnet_keras.data.columns import LONGEST_PATH
from nasnet_keras.data.folders import MAX_CLASSES
from nasnet_keras.data.greys import UNUSED
from nasnet_keras.data.image_files import ImageFiles, own_size
from nasnet_keras.data.images import is_deep, of_pillow, resize
from nasnet_keras.data.layouts import names_alike
from nasnet_keras.data.left_out import few, shown
from nasnet_keras.data.splits import known_as, placed, renumbered
from nasnet_keras.files import composed

MOST_BYTES = 4 << 30  # of pixels
CHANNELS = (1, 3, 4)
DARK = 64  # of 255: images of which none gets there use a quarter of what there is, or less
NAMED_BY = ("class_names", "classes", "class_indices", "class_to_idx")  # what data sets of others keep names in
ONES_OF_BOOL = (
    "rows of bool with one 1 each are read as classes; lists of names say that an image may have several labels"
)
RULE = "(image, label) pairs, or batches of them"

logger = logging.getLogger(__name__)


def is_object(data):
    """Whether something holds images itself, rather than naming where they are."""
    if isinstance(data, str | os.PathLike | bytes | Mapping | np.ndarray) or hasattr(data, "iloc"):
        return False
    return hasattr(data, "as_numpy_iterator") or (hasattr(data, "__len__") and hasattr(data, "__getitem__"))


def read_object_data(
    data, size=None, class_names=None, label="data", grey_range=None, notes=None, several=None, kinds=None
):
    """What a data set of Python's holds.

    Args:
        data: a pair of all images and all labels, images [n, height, width, channels], greys [n, height, width], or a
            list; a `tf.data.Dataset` or a `PyDataset` that gives such pairs, or single ones, as do lists and other
            things with `len` and `[i]`. Images are integers in 0–255, or floats in 0–255 or 0–1, with their channels
            last or first; Pillow's; or paths, as text or as the bytes that `tf.data` has, or encoded bytes. Labels are
            integers from 0 or names, of which blanks around them are no part; 0 and 1 (or bool) for each class: of one
            1 in each row the class is meant, else an image may have several labels, as it may if they are lists of
            names.
        size: `(height, width)` that images are brought to; None: they have one size already.
        class_names: a name for each class; None: those of the data (one of `NAMED_BY`, columns of a frame), or those
            that are met; a number: likewise, and there must be so many.
        label: the argument that an error names.
        grey_range: how greys of more than 8 bits are read, of Pillow and of files, see `images.read_image`.
        notes: None, or a list that gets a line where no image is read by `grey_range`.
        several: whether an image may have several labels, where others of the data have told; None: these tell.
        kinds: None, or a list that gets whether the labels are names, and whether the data say what classes are called.

    Returns:
        ({"train": (uint8 images or an `ImageFiles`, labels as in a `Split`)}, class names).

    Raises:
        ValueError: something else, gaps in the labels, weights beside them, endless data, more than 4 GiB of pixels.
    """
    images, labels = _Images(size, label, grey_range), []
    for element in _elements(data, label):
        if not isinstance(element, list | tuple) or len(element) != 2:
            received = f"{len(element)} parts" if isinstance(element, list | tuple) else type(element).__name__
            more = ": weights of images are not used here" if received == "3 parts" else ""
            raise ValueError(f"`{label}` must give {RULE}. Received: {received}{more}")
        image, own = element
        many = images.add(image, own)
        labels += list(own if isinstance(own, list | tuple) else np.atleast_1d(own)) if many else [own]
        if len(labels) != len(images):
            raise ValueError(f"`{label}` must have a label for each image. Received: {len(labels)} for {len(images)}")
    if not labels:
        raise ValueError(f"`{label}` must have at least one image. Received: none")
    count = class_names if isinstance(class_names, int) else None
    given = None if class_names is None or count is not None else tuple(map(str, class_names))
    own = _own_names(data, labels, given, count)
    if count is not None and own is None and not any(map(_kind, labels)):
        given = tuple(map(str, range(count)))  # nothing else names them
    if kinds is not None:
        kinds += [_kind_of_all(labels) is not None, own is not None]
    labels, names = _labels(labels, given if own is None else tuple(own), label, several)
    if count is not None and len(names) != count:
        received = f"{len(names)}, {few(names)}"
        raise ValueError(f"`{label}` must have {count} classes, or `classes` a name for each. Received: {received}")
    if own is not None and given is not None and names != given:
        labels, names = _renumbered(labels, names, given, label), given
    if own is None and given is None and count is None:
        _tell_of_absent(labels, names, label)
    images.tell_if_dark()
    found = images.all()
    if notes is not None and grey_range is not None and isinstance(found, np.ndarray) and not images.deep:
        notes.append(UNUSED.format("the images have no"))
    return {"train": (found, labels)}, names


def _elements(data, label):
    if is_pair(data):
        images, labels = data[0], _as_rows(data[1])
        if len(images) != len(labels):
            raise ValueError(f"`{label}` must have a label for each image. Received: {len(labels)} for {len(images)}")
        images = _stacked(images)
        return [(images, labels)] if len(getattr(images, "shape", ())) > 1 else zip(images, labels, strict=True)
    if hasattr(data, "as_numpy_iterator"):
        if int(data.cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
            raise ValueError(f"`{label}` must come to an end. Received: a data set that repeats for ever; see `take`")
        return data.as_numpy_iterator()
    return (data[index] for index in range(len(data)))


def _as_rows(labels):
    """Labels of which each element is an image's: a frame's would be its columns, and one column of texts is a list."""
    if hasattr(labels, "iloc"):
        labels = np.asarray(labels)
        if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype == object:  # columns of several types
            with suppress(TypeError, ValueError):  # texts
                labels = labels.astype(float)
    one_column = isinstance(labels, np.ndarray) and labels.shape[1:] == (1,) and labels.dtype.kind in "OSU"
    return labels[:, 0] if one_column else labels


def _stacked(images):
    """A list of float images of one shape as one array, so that all together tell their range; others as they are."""
    if not isinstance(images, list) or not all(isinstance(one, np.ndarray) and one.dtype.kind == "f" for one in images):
        return images
    if len({(one.shape, one.dtype) for one in images}) != 1 or images[0].ndim not in (2, 3):
        return images
    return np.stack(images)[..., None] if images[0].ndim == 2 else np.stack(images)


def is_pair(data):
    """Whether something is a pair of all images and all labels."""
    if not isinstance(data, list | tuple) or len(data) != 2:
        return False
    return len(getattr(data[0], "shape", ())) in (1, 3, 4) or (isinstance(data, tuple) and isinstance(data[0], list))


class _Images:
    """Images as they come."""

    def __init__(self, size, label, grey_range):
        self.size, self.label, self.grey_range, self.count = size, label, grey_range, 0
        self.arrays, self.sources, self.bytes, self.unit, self.greys = [], [], 0, None, False
        self.highest, self.deep = None, False  # of all pixels; whether any has greys of more than 8 bits

    def __len__(self):
        return self.count

    def add(self, image, label):
        """Take an image and its label, or a batch of them: true for that."""
        if isinstance(image, ImageFiles):
            self.arrays, self.count = [image], len(image)
            return True
        if _is_source(image):
            self.sources.append(_source(image))
            self.count += 1
            return False
        several = image.tolist() if isinstance(image, np.ndarray) and image.dtype.kind in "OSU" else image
        if isinstance(several, list | tuple) and several and all(map(_is_source, several)):  # a batch of them
            self.sources += map(_source, several)
            self.count += len(several)
            return True
        if hasattr(image, "convert") and hasattr(image, "getbands"):  # Pillow's
            self.deep |= is_deep(image)
            try:
                image = of_pillow(image, self.grey_range)
            except ValueError as error:
                raise ValueError(f"`{self.label}` must have images that can be read. Received: {error}") from None
        pixels = np.asarray(image)
        if pixels.ndim not in (2, 3, 4):
            raise ValueError(f"`{self.label}` must have images [height, width, channels]. Received: {pixels.shape}")
        greys = pixels.ndim == 2 or self._are_greys(pixels, label)
        many = pixels.ndim == 4 or (greys and pixels.ndim == 3)
        pixels = pixels[..., None] if greys else pixels
        if pixels.shape[-1] not in CHANNELS and pixels.shape[-3] in CHANNELS:
            pixels = np.moveaxis(pixels, -3, -1)
        pixels = self._eight_bits(pixels)
        pixels = pixels if many else pixels[None]
        if self.size and pixels.shape[1:3] != self.size:
            pixels = np.stack([resize(one, self.size) for one in pixels])
        if self.arrays and self.arrays[0].shape[1:] != pixels.shape[1:]:
            rule = "images of one size; `load_data(…, image_size=…)` resizes them"
            received = f"{self.arrays[0].shape[1:]} and {pixels.shape[1:]}"
            raise ValueError(f"`{self.label}` must have {rule}. Received: {received}")
        self.bytes += pixels.nbytes
        if self.bytes > MOST_BYTES:
            raise ValueError(f"`{self.label}` must have at most {MOST_BYTES:,} bytes of pixels; files may have more")
        self.arrays.append(pixels)
        if (self.highest or 0) < DARK:
            self.highest = max(self.highest or 0, int(pixels.max(initial=0)))
        self.count += len(pixels)
        return many

    def _are_greys(self, pixels, label):
        """Whether three axes are those of greys [n, height, width], each with a label, and not those of one image."""
        shape = (len(label),) if isinstance(label, list | tuple) else getattr(label, "shape", ())
        if pixels.ndim != 3 or not shape or (len(shape) == 1 and shape[0] != len(pixels)):
            return False
        if len(shape) == 1 and not self.greys:
            if pixels.shape[-1] in CHANNELS:
                return False
            if len(pixels) in CHANNELS[1:]:
                rule = "greys as [n, height, width, 1], and channels last"
                received = f"{pixels.shape} with {len(pixels)} labels, which may be {len(pixels)} greys or one image"
                raise ValueError(f"`{self.label}` must have {rule}. Received: {received}")
        self.greys = True
        return True

    def _eight_bits(self, pixels):
        if pixels.dtype == np.uint8 or not pixels.size:
            return pixels.astype(np.uint8, copy=False)
        if pixels.dtype.kind not in "iuf":
            raise ValueError(f"`{self.label}` must have images of numbers. Received: {pixels.dtype}")
        low, high = float(pixels.min()), float(pixels.max())
        if pixels.dtype.kind == "f" and self.unit is None and (low or high):  # black is so in either
            self.unit = low >= 0 and high <= 1
            if 1 < high < 2:
                raise ValueError(f"`{self.label}` must have images in 0–255 or in 0–1. Received: {low:g} to {high:g}")
        most = 1 if self.unit and pixels.dtype.kind == "f" else 255
        if not (low >= 0 and high <= most):
            before = ", as those before them are" if most == 1 else " or in 0–1"
            raise ValueError(f"`{self.label}` must have images in 0–{most}{before}. Received: {low:g} to {high:g}")
        return np.rint(pixels * (255 / most)).astype(np.uint8)

    def tell_if_dark(self):
        """Say it where arrays use few of the 255 values that are there, as those of 0 and 1, or of 4 bits."""
        if self.highest is not None and self.highest < DARK:
            advice = "multiply them so that white is 255, or give floats in 0–1"
            logger.warning(
                "`%s`: images go up to %d of 255, which is nearly black: %s", self.label, self.highest, advice
            )

    def all(self):
        """One array, or an `ImageFiles`."""
        if self.sources and self.arrays:
            raise ValueError(f"`{self.label}` must have arrays or files. Received: both")
        if not self.sources:
            return self.arrays[0] if len(self.arrays) == 1 else np.concatenate(self.arrays)
        return ImageFiles(tuple(self.sources), self.size or own_size(self.sources), self.grey_range)


def _is_source(image):
    return isinstance(image, str | os.PathLike | bytes)


def _source(image):
    """A path as text, or encoded bytes; bytes that are the path of a file, or read like one, are a path."""
    if not isinstance(image, bytes):
        return os.fspath(image)
    if len(image) >= LONGEST_PATH:
        return image
    path = os.fsdecode(image)
    return path if os.path.exists(path) or (path.isprintable() and os.path.splitext(path)[1]) else image


def _own_names(data, labels, given, count):
    """What data call their classes, a list or tuple, or None.

    A part, as torch's `Subset`, is called as the whole where it has all classes of that, or as many names are `given`,
    or their `count`, or all are among them: else it may be of fewer classes on purpose.
    """
    whole = data
    while (names := _named(whole)) is None and hasattr(whole, "dataset") and hasattr(whole, "indices"):
        whole = whole.dataset
    wanted = count if given is None else len(given)
    if names is None or whole is data or wanted == len(names) or (given and (placed(names, given) >= 0).all()):
        return names
    try:
        found, _ = _labels(labels, tuple(names), "data", several=True)
    except ValueError:
        return None
    return names if len(np.unique(found if found.ndim == 1 else found.nonzero()[1])) == len(names) else None


def _named(data):
    """What a data set itself calls its classes, a list or tuple, or None: a frame by its columns."""
    if is_pair(data) and hasattr(data[1], "iloc") and len(columns := getattr(data[1], "columns", ())) > 1:
        return _names(list(columns))
    return next(filter(None, (_names(getattr(data, name, None)) for name in NAMED_BY)), None)


def _names(value):
    """Names of classes, from a list or {name: number} of all numbers from 0; None of what is something else."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, Mapping):
        whole = all(isinstance(number, int | np.integer) for number in value.values())
        value = sorted(value, key=value.get) if whole and {*value.values()} == {*range(len(value))} else None
    is_names = isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)
    return value if is_names and value else None


def _renumbered(labels, own, names, label):
    """Labels by the names of the data as labels by other names."""
    if (placed(own, names) < 0).any():
        received = f"{', '.join(map(shown, own[:20]))}, which {label} calls its classes"
        raise ValueError(f"`{label}` must have the classes {', '.join(map(shown, names[:20]))}. Received: {received}")
    return renumbered(labels, own, names)


def _labels(labels, names, label, several):
    """(labels as in a `Split`, class names) of labels in whatever form; arguments as for `read_object_data`."""
    if kind := _kind_of_all(labels):
        return _of_names(labels, names, label, kind)
    try:
        values = np.stack([np.asarray(one) for one in labels])
    except ValueError:
        values = np.array(None)
    if values.ndim == 2 and values.shape[1] == 1 and values.dtype != bool:
        values = values[:, 0]
    whole = values.dtype.kind in "iub" or (values.dtype.kind == "f" and _are_whole(values))
    if values.ndim == 1 and whole and values.dtype != bool:
        least, most = int(values.min()), int(values.max())
        if most >= MAX_CLASSES:
            raise ValueError(f"`{label}` must have labels below {MAX_CLASSES:,}. Received: {most}")
        names = names or tuple(map(str, range(max(most + 1, 2))))
        if least < 0 or most >= len(names):
            rule = f"labels from 0 to {len(names) - 1}, as there are {len(names)} classes"
            raise ValueError(f"`{label}` must have {rule}. Received: {least} to {most}")
        return values.astype(np.int32), names
    if values.ndim == 2 and whole and values.size and 0 <= values.min() <= values.max() <= 1:
        names = names or tuple(map(str, range(values.shape[1])))
        if len(names) != values.shape[1]:
            raise ValueError(f"`{label}` must have {len(names)} columns of labels. Received: {values.shape[1]}")
        if values.shape[1] > 1 and not several and (values.sum(1) == 1).all():  # the class alone, written as a row
            if values.dtype == bool and several is None:
                logger.warning("`%s`: %s", label, ONES_OF_BOOL)
            return values.argmax(1).astype(np.int32), names
        return values.astype(bool), names
    odd = next((index for index, one in enumerate(labels) if not _is_number(one, labels[0])), 0)
    raise _wrong(label, "labels that are integers, names, or 0 and 1 for each class", labels, odd)


def _of_names(labels, names, label, kind):
    """The same of names, or of a list of names for each image; what is neither is refused, and no class called nan."""
    rule = "a list of names for each image" if kind is list else "a name for each image"
    rows = []
    for index, one in enumerate(labels):
        parts = [one] if kind is str else one if isinstance(one, list | tuple) else [None]
        if not all(isinstance(part, str | bytes) and part.strip() for part in parts):
            raise _wrong(label, rule, labels, index)
        rows.append(list(map(_text, parts)))
    if names is None:
        rows = [[text.strip() for text in row] for row in rows]
        names = tuple(sorted({text for row in rows for text in row}))
        for note in names_alike(names):
            logger.warning("`%s`: %s", label, note)
    numbers = {form(name): number for form in (known_as, composed, str) for number, name in enumerate(names)}
    rows = [[_number(numbers, text, label) for text in row] for row in rows]
    if kind is str:
        return np.array([row[0] for row in rows], np.int32), names
    marks = np.zeros((len(rows), len(names)), bool)
    for index, row in enumerate(rows):
        marks[index, row] = True
    return marks, names


def _kind(one):
    """`str` of a name, `list` of a list of names, None of another label."""
    if isinstance(one, str | bytes):
        return str
    return list if isinstance(one, list | tuple) and any(isinstance(part, str | bytes) for part in one) else None


def _kind_of_all(labels):
    """The `_kind` of labels; empty lists are lists of names."""
    is_empty = all(isinstance(one, list | tuple) and not one for one in labels)
    return next(filter(None, map(_kind, labels)), list if is_empty else None)


def _are_whole(values):
    return bool(np.isfinite(values).all() and (values == np.rint(values)).all())


def _is_number(one, like):
    """Whether a label is an integer, or 0 and 1 for each class, of the shape of another one; no gap is."""
    try:
        values = np.asarray(one, float)  # of None NaN
        fits = values.shape == np.shape(like) and _are_whole(values)
    except (TypeError, ValueError):
        return False
    return fits and (values.ndim == 0 or bool(((values == 0) | (values == 1)).all()))


def _wrong(label, rule, labels, index):
    return ValueError(f"`{label}` must have {rule}. Received: {shown(repr(labels[index])[:80])} for image {index}")


def _tell_of_absent(labels, names, label):
    """Say which numbers no image has: where they count from 1 there is a class too many."""
    counts = labels.sum(0) if labels.ndim == 2 else np.bincount(labels, minlength=len(names))
    advice = "" if labels.ndim == 2 else ": labels count from 0, and each number is a class"
    if absent := [names[index] for index in np.flatnonzero(counts == 0)]:
        logger.warning("`%s`: no image has the labels %s%s", label, few(absent), advice)


def _text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _number(numbers, name, label):
    """The number of a class by its name, with blanks around it or without, in any form of its letters."""
    forms = (lambda: name, name.strip, lambda: composed(name.strip()), lambda: known_as(name.strip()))
    found = next((numbers[key] for form in forms if (key := form()) in numbers), None)
    if found is None:
        raise ValueError(f"`{label}` must have labels that are among the classes. Received: {name!r}")
    return found
