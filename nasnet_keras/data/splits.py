"""Splits: labelled images, divided and thinned out so that every class keeps its share."""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from nasnet_keras.checks import check_integer
from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.left_out import few, shown
from nasnet_keras.data.records import Record
from nasnet_keras.data.tables import SEPARATORS
from nasnet_keras.files import composed

LOOKED_INTO, PIECE = 20_000, 4096  # files that are known by as many bytes in their middle, too


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Args:
        images: uint8 array [n, height, width, channels], or an `ImageFiles`, RGB, that decodes on the fly.
        labels: int32 [n], numbers of classes; or bool [n, classes], where an image may have several labels.
        broken: how many images it had besides, which were left out because they could not be read.
        record: of training images, how the data were divided, a `records.Record`; None if that is not known.
        origin: None, or (an array, the `ImageFiles` that it was decoded from); what holds as long as it is `images`,
            which cannot be written to then: recipes that crop read the files again, and would not see it.
        class_names: what the labels' numbers are called, if that is known: by these names labels go where others count
            otherwise, so they are to be None for labels of one's own.

    Raises:
        ValueError: shapes or types that do not fit.
    """

    images: np.ndarray | ImageFiles
    labels: np.ndarray
    broken: int = 0
    record: Record | None = field(default=None, repr=False)
    origin: tuple[np.ndarray, ImageFiles] | None = field(default=None, repr=False)
    class_names: tuple[str, ...] | None = field(default=None, repr=False)

    def __post_init__(self):
        shape = tuple(getattr(self.images, "shape", ()))
        if len(shape) != 4 or shape[3] < 1 or getattr(self.images, "dtype", np.uint8) != np.uint8:
            raise ValueError(f"`images` must be uint8 of shape [n, height, width, channels]. Received: {shape}")
        if self.origin and self.origin[0] is self.images:
            self.images.flags.writeable = False
        labels = np.asarray(self.labels)
        if labels.dtype == bool and labels.ndim == 2 and len(labels) == shape[0]:
            object.__setattr__(self, "labels", labels)
            return
        if labels.shape != shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"`labels` must be {shape[0]} integers, one per image. Received: shape {labels.shape}")
        object.__setattr__(self, "labels", labels.astype(np.int32))

    def __len__(self):
        return len(self.labels)

    def take(self, n, seed):
        """A stratified subset, the same whenever `seed` is; a smaller one is contained in a larger one.

        Args:
            n: at most this many images; from as many as there are classes upwards, each class keeps one.
            seed: an integer from 0.

        Returns:
            A `Split`, in the order of this one. On-the-fly images stay undecoded.
        """
        check_integer("n", n, least=1)
        return self if n >= len(self) else self.select(np.sort(_spread(strata(self.labels), seed)[:n]))

    @property
    def several(self):
        """Whether an image may have several labels."""
        return self.labels.ndim == 2

    def digest(self, form=str, sized=True):
        """What the images and their labels are known by, in their order, text.

        Of arrays it is their pixels, of encoded bytes those; of files their names, wherever all of them lie, their
        sizes, and of at most 20,000 what stands in the middle of each.

        Args:
            form: a function of a name that gives it as it counts.
            sized: false for what earlier versions knew files by, their names alone.
        """
        files = self.files
        digest = hashlib.blake2b(b"" if files is not None else np.ascontiguousarray(self.images), digest_size=16)
        for name in () if files is None else _names(files, form, sized):
            digest.update(name)
        digest.update(np.ascontiguousarray(self.labels))
        return digest.hexdigest()

    def content(self, form=str, sized=True):
        """As `digest`, whatever order they are in: a data set may shuffle its images anew in each pass."""
        return hashlib.blake2b(b"".join(sorted(self._known(form, sized))), digest_size=16).hexdigest()

    def in_order(self):
        """The same images and labels in an order that follows from what they are alone."""
        known = self._known(sized=False)  # of files it is that of earlier versions
        return self.select(np.array(sorted(range(len(known)), key=known.__getitem__), np.int64))

    def _known(self, form=str, sized=True):
        """What each image is known by with its label, a list of bytes."""
        files = self.files
        images = self.images if files is None else _names(files, form, sized)
        return [
            hashlib.blake2b(np.ascontiguousarray(label).tobytes() + bytes(image), digest_size=16).digest()
            for image, label in zip(images, self.labels, strict=True)
        ]

    def counts(self, classes):
        """How many images have each of so many classes, int64 [classes]."""
        return self.labels.sum(0, dtype=np.int64) if self.several else np.bincount(self.labels, minlength=classes)

    def of_class(self, number):
        """The indices of the images of a class."""
        return np.flatnonzero(self.labels[:, number] if self.several else self.labels == number)

    @property
    def files(self):
        """The `ImageFiles` that the images are or were decoded from; None where that is not known."""
        if isinstance(self.images, ImageFiles):
            return self.images
        return self.origin[1] if self.origin and self.origin[0] is self.images else None

    @property
    def readable(self):
        """bool [n]: False for images that turned out to be broken when they were read, of those that are files."""
        if not isinstance(self.images, ImageFiles) or not self.images.broken:
            return np.ones(len(self), bool)
        return np.array([self.images.name(index) not in self.images.broken for index in range(len(self))], bool)

    def in_memory(self):
        """(uint8 images [m, height, width, 3], labels [m]) of all images that can be read."""
        if not isinstance(self.images, ImageFiles):
            return self.images, self.labels
        images, broken = self.images.read()
        return np.delete(images, list(broken), axis=0), np.delete(self.labels, list(broken), axis=0)

    @staticmethod
    def joined(splits):
        """One `Split` of several, in their order, whose images are all in memory or all files."""
        splits = [split for split in splits if len(split)] or splits[:1]
        first, labels = splits[0].images, np.concatenate([split.labels for split in splits])
        names = splits[0].class_names
        if isinstance(first, np.ndarray):
            images, files = np.concatenate([split.images for split in splits]), [split.files for split in splits]
            origin = None if None in files else (images, files[0].joined(files))
            return Split(images, labels, origin=origin, class_names=names)
        return Split(first.joined([split.images for split in splits]), labels, class_names=names)

    def select(self, indices):
        """The images of an integer array, in its order."""
        images, files = self.images.take(indices, axis=0), self.files
        origin = (images, files.take(indices)) if files is not None and isinstance(images, np.ndarray) else None
        return replace(self, images=images, labels=self.labels[indices], broken=0, origin=origin)


def hold_out(split, shares, seed, class_names, notes=None):
    """Divide a training split, class by class.

    Args:
        split: the `Split` to divide.
        shares: a dict from the part to hold out to its share of each class, rounded to whole images
            and at least one; a share of 0 gives an empty part. Of several labels an image the rarest counts as its
            class, and of a rare one there may be none.
        seed: an integer from 0.
        class_names: a name for every label.
        notes: None, or a list that gets a line on the classes that are for training alone.

    Returns:
        A dict with a `Split` for each part and for `"train"`, which keeps the rest. A class without any image has none
        in each; one with fewer images than there are parts is for training alone, as of a folder.

    Raises:
        ValueError: naming a class of which nothing would be left for training, as the shares are 1 or more together.
    """
    labels = strata(split.labels)
    grouped, places, counts = _by_class(labels, seed, len(class_names) + split.several)
    least = 0 if split.several else 1
    bounds, taken = {}, np.zeros_like(counts)
    later = sum(share > 0 for share in shares.values())  # parts that are to come
    few_images = (counts > 0) & (counts <= later) & (not split.several)
    for part, share in shares.items():
        later -= share > 0
        own = np.maximum(np.round(counts * share), least * (share > 0)).astype(int)
        if not split.several and sum(shares.values()) < 1:  # an image is left for each part that follows
            own = np.where(few_images, 0, np.minimum(own, np.maximum(counts - taken - later - 1, 0)))
        low, taken = taken, taken + own
        bounds[part] = (low, taken)
    bounds["train"] = (taken, counts)
    for index in () if split.several else np.flatnonzero((counts <= taken) & (counts > 0))[:1]:
        wanted = " and ".join(f"{share:g} for {part}" for part, share in shares.items() if share)
        raise ValueError(
            f"class {class_names[index]!r} has {counts[index]} images, too few to train on"
            f" after holding out {wanted}, at least one each"
        )
    if notes is not None and few_images.any():
        notes.append(note_of_small(shares, [class_names[index] for index in np.flatnonzero(few_images)]))
    label = labels[grouped]
    inside = {part: (low[label] <= places) & (places < high[label]) for part, (low, high) in bounds.items()}
    return {part: split.select(np.sort(grouped[mask])) for part, mask in inside.items()}


def note_of_small(shares, names):
    """One line on the classes that have too few images for each part to get one."""
    wanted = 1 + sum(share > 0 for share in shares.values())
    return f"classes with fewer than {wanted} images are for training alone: {few(names)}"


def limited(splits, limit, seed, classes):
    """The training and validation splits, cut down to `limit` images together, in their proportion.

    Args:
        splits: a dict with a `Split` for `"train"` and `"validation"`.
        limit: from one image of each class in each of the two upwards.
        seed: an integer from 0.
        classes: the number of classes.

    Raises:
        ValueError: a `limit` that is too small.
    """
    train, validation = splits["train"], splits["validation"]
    check_integer("limit", limit, least=classes * (2 if len(validation) else 1))
    share = len(validation) / (len(train) + len(validation))
    held = min(max(classes, round(limit * share)), limit - classes) if len(validation) else 0
    return {
        "train": train.take(limit - held, seed),
        "validation": validation.take(held, seed) if held else validation,
    }


def strata(labels):
    """The group by which an image is chosen, int32 [n]: its class; of several labels the rarest, last those of none.

    Args:
        labels: those of a `Split`.
    """
    if labels.ndim == 1:
        return labels
    order = np.argsort(labels.sum(0), kind="stable")
    groups = np.full(len(labels), labels.shape[1], np.int32)
    for label in order[::-1]:
        groups[labels[:, label]] = label
    return groups


def in_order_of(split, names):
    """A split whose labels count as `names` do, where these are its own in another order; any other as it is."""
    own = split.class_names
    if own is None or names is None or own == tuple(names) or sorted(own) != sorted(names):
        return split
    return replace(split, labels=renumbered(split.labels, own, names), class_names=tuple(names))


def check_classes(names, class_names, some=False):
    """Raise `ValueError` unless a model's classes are those of the data, in whatever order.

    Args:
        names: the model's.
        class_names: those of the data.
        some: whether the data may lack some of them.
    """
    places, rule = placed(class_names, names), f"the model's {len(names)} classes"
    odd = [name for name, place in zip(class_names, places, strict=True) if place < 0]
    if some and len(set(names)) == len(names):
        rule = f"{rule}, {few(names)}, or some of them"
    else:
        odd += [names[place] for place in sorted({*range(len(names))} - {*places.tolist()})]
    if odd:
        raise ValueError(f"`data` must have {rule}. They differ in: {', '.join(map(shown, sorted(odd)[:10]))}")


def placed(own, names):
    """Where names of classes stand among others: int32 [n], -1 for one that is not there.

    Names are the same in all forms of their letters, and as earlier versions kept them: escaped what is not printed.
    """
    places, left = np.full(len(own), -1, np.int32), list(enumerate(names))
    for form in (str, composed, known_as):
        numbers = {}
        for number, name in left:
            numbers.setdefault(form(name), number)
        for index in np.flatnonzero(places < 0) if left else ():
            places[index] = numbers.pop(form(own[index]), -1)
        taken = set(places.tolist())
        left = [(number, name) for number, name in left if number not in taken]
    return places


def separator_of(names):
    """What stands between the names of several classes in a text: the first usual one that no name has; else `|`."""
    return next((one for one in (*SEPARATORS, "\t") if not any(one in name for name in names)), SEPARATORS[0])


def note_of_separator(separator):
    """One line where it is not the usual one, else None."""
    usual = SEPARATORS[0]
    return None if separator == usual else f"a class has {usual} in its name: between labels there is {separator!r}"


def known_as(name):
    """What the name of a class is known by: the same in all forms of its letters, and in the names of old models."""
    return shown(composed(name))


def are_alike(names, others):
    """Whether classes are the same; earlier versions had them in an order of their own."""
    return sorted(map(known_as, names)) == sorted(map(known_as, others))


def renumbered(labels, own, names):
    """Labels of a `Split` that count by their own names as labels that count by others, of which they may lack some."""
    places = placed(own, names)
    if labels.ndim == 1:
        return places[labels]
    marks = np.zeros((len(labels), len(names)), bool)
    marks[:, places] = labels
    return marks


def _names(files, form, sized):
    """What each of `ImageFiles` is known by, bytes, as for `Split.digest`."""
    names = list(map(files.name, range(len(files))))
    paths = [name for name in names if isinstance(name, str)]
    start = os.path.commonprefix(paths).rfind(os.sep) + 1  # noqa: RUF071 - of what is no absolute path, too
    piece = PIECE if len(names) <= LOOKED_INTO else 0
    return [
        name if isinstance(name, bytes)
        else os.fsencode(form(name[start:])) + b"\0" + (_look(name, piece) if sized else b"")
        for name in names
    ]  # fmt: skip


def _look(path, length):
    """The size of a file, and so many bytes in its middle; of what cannot be read it is as if it were empty."""
    size, piece = 0, b""
    with suppress(OSError, ValueError):  # a byte 0 in a path
        size = os.path.getsize(path)
        if length:
            with open(path, "rb") as file:
                file.seek(max(0, (size - length) // 2))
                piece = file.read(length)
    return b"%d\0%s\0" % (size, piece)


def _by_class(labels, seed, classes=0):
    """Indices in random order within each class, class after class, and each one's place in its class."""
    shuffled = np.random.default_rng([seed, 0]).permutation(len(labels))
    grouped = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels, minlength=classes)
    places = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return grouped, places, counts


def _spread(labels, seed):
    """All indices in an order of which every beginning is stratified."""
    check_integer("seed", seed)
    grouped, places, counts = _by_class(labels, seed)
    ties = np.random.default_rng([seed, 1]).permutation(len(labels))
    return grouped[np.lexsort((ties, places / counts[labels[grouped]]))]
