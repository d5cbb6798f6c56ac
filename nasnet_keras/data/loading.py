"""One door for data: named images in, splits out.

NumPy and Pillow do the work, so that training runs on any Keras backend. Validation images are
held out of the training images; test images take part in neither.
"""

import logging
import os
from dataclasses import dataclass, field, replace
from itertools import compress

import numpy as np

from nasnet_keras.checks import as_integer, as_numbers, check_integer, check_one_of, check_range
from nasnet_keras.data import sides
from nasnet_keras.data.columns import Columns
from nasnet_keras.data.folders import images_below
from nasnet_keras.data.frames import note_of_frames
from nasnet_keras.data.greys import UNUSED, grey_note
from nasnet_keras.data.image_files import ImageFiles, own_size
from nasnet_keras.data.images import as_size, read_image, resize
from nasnet_keras.data.left_out import LeftOut, few, shown
from nasnet_keras.data.overlaps import alike, without_trained
from nasnet_keras.data.records import Record, mark, marks_of
from nasnet_keras.data.sources import called, open_source
from nasnet_keras.data.splits import Split, hold_out, limited, note_of_small, strata
from nasnet_keras.data.tables import is_table, read_table
from nasnet_keras.files import expanded

__all__ = ["Data", "Split", "load_data", "normalize", "open_data", "read_image"]

MEMORY_LIMIT = 2 << 30  # bytes
CHECKED = 20_000  # files that are all decoded before the first epoch, where they do not fit into memory
RULES = ("hashed", "seeded")
SHARES = {"validation": 0.1, "test": 0.2}  # that are held out by default

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Data:
    """A data set for classification: three splits that share no image.

    Args:
        name: what `load_data` was given.
        train, validation, test: a `Split` each; only `test` is for reporting. They get the `class_names`.
        class_names: a name for every label.
        image_shape: `(height, width, 3)`.
        left_out: what of a folder is not used, a `left_out.LeftOut`: maps names to reasons, and has a `summary`.
        notes: what a user should know of a folder, a line each.
        record: how it was divided, a `records.Record` for the directory of a training; None with the rule `"seeded"`.
        grey_range: how greys of more than 8 bits are read, as for `read_image`; a network keeps it.

    Examples:
        >>> from nasnet_keras import load_data
        >>> data = load_data("digits")
        >>> len(data.train) + len(data.validation) + len(data.test)
        1797
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    left_out: LeftOut = field(default_factory=LeftOut)
    notes: tuple[str, ...] = ()
    record: Record | None = None
    grey_range: tuple[float, float] | None = None

    def __post_init__(self):
        for part in sides.PARTS:
            split = getattr(self, part)  # a test may put anything else in the place of what nothing may look at
            if isinstance(split, Split) and split.class_names != self.class_names:
                object.__setattr__(self, part, replace(split, class_names=self.class_names))

    @property
    def several(self):
        """Whether an image may have several labels."""
        return self.train.several

    @property
    def digest(self):
        """What the images of a folder, a table or TFDS are known by, wherever they lie; None for other data."""
        return self.record and self.record.digest

    def lists_sizes(self, split):
        """Whether `digest` knows the sizes of a part's files, which is not so of one that came from elsewhere."""
        return self.digest is not None and split.record is self.record

    @property
    def content(self):
        """What the training images are known by: `digest`, or where there is none their split's `Split.content`."""
        return self.digest or self.train.content()

    def all_left_out(self):
        """`left_out`, and the files that have turned out to be broken since, where they are read batch by batch."""
        return self.left_out.with_broken(self.found_broken())

    def found_broken(self):
        """{name: the reason} of files that have turned out to be broken while they were read, JSON-able."""
        found = {}
        for split in (self.train, self.validation, self.test):
            for images in (split.images, split.files):
                found |= getattr(images, "broken", {})
        return {path if isinstance(path, str) else self.left_out.name_of(path): found[path] for path in found}

    def note_broken(self, names):
        """Add what `found_broken` says of the same data in another process."""
        for split in (self.train, self.validation, self.test):
            if split.files is not None:
                split.files.broken.update(names)


def load_data(
    name,
    *,
    image_size=None,
    validation=0.1,
    test=0.2,
    seed=0,
    limit=None,
    memory_limit=MEMORY_LIMIT,
    data_dir=None,
    download=False,
    progress=None,
    strict=False,
    split_rule="hashed",
    held_out=None,
    grey_range=None,
    file_column=None,
    label_column=None,
    split_column=None,
    separator=None,
    file_root=None,
    outside=False,
):
    """Load and split a data set.

    A part that the source does not bring is held out of its training images, class by class. Of a folder, each image
    goes to its part by a hash of its class, file name and size: about the asked share of a class is tested, at least
    one image, and none changes sides when others are added. Of other data the share is rounded to whole images, at
    least one of each class, chosen by `seed`. Classes with fewer images than there are parts are for training alone.

    What of a folder is not used, files that cannot be read among it, is in `left_out` of what is returned, and logged.

    Args:
        name: `"digits"` (scikit-learn's 1,797 scanned digits, 8x8), a folder `root/<class>/**` or
            `root/{train,validation,test}/<class>/**` (also `val`, `valid`, `dev`, `training`, `testing`, in any case),
            or `"tfds:NAME"` (also `NAME/CONFIG` and `:VERSION`) for a prepared data set of TensorFlow Datasets; a table
            of files and labels, `labels.csv`, `.tsv`, `.jsonl` or `.parquet`, or a pandas DataFrame; or arrays, a
            `tf.data.Dataset`, a Keras `PyDataset`, or whatever has `len` and `[i]` for (image, label), see
            `objects.read_object_data`.
        image_size: pixels, or `(height, width)`; images of another size are resized and their centre
            is kept. None: the images' own size if a sample of 64 agrees on one of at most 256
            pixels, else 224.
        validation: share of the training images to hold out for validation, from 0 to below 1.
        test: share to hold out for testing, likewise.
        seed: an integer from 0, for splits and `limit`.
        limit: at most this many images for training and validation together, in their proportion and
            stratified; test images stay, so that accuracies remain comparable. None: all.
        memory_limit: bytes; images that need more, decoded or as the files that they are, are decoded batch by batch
            instead, so that memory does not grow with the data. Up to 20,000 of them are all decoded once before, to
            find broken ones; of more, a broken file is found when its batch is read.
        data_dir: where TensorFlow Datasets are prepared. None: the place that TFDS itself uses.
        download: whether a data set of TFDS that is not prepared may be downloaded.
        progress: None, or a function called with the number of images decoded and of all.
        strict: whether a folder must hold nothing that is left out.
        split_rule: `"hashed"`, or `"seeded"` for a folder as earlier versions listed it and divided it by the seed.
        held_out: None, or what the directory of a training has kept, `records.read_record(directory)`: its images stay
            on the sides that they had, and other data are divided as they were.
        grey_range: None, or `(low, high)`, what is black and white in images with greys of more than 8 bits: 12-bit
            greys in 16-bit files have (0, 4095). See `read_image`.
        file_column, label_column, split_column, separator, file_root, outside: what a table's columns mean, and where
            its paths lead: `columns.Columns`. A `separator`, or several label columns, make several labels an image.

    Returns:
        A `Data`.

    Raises:
        ValueError: one line that names the argument, the file, the folder or the class at fault.

    Examples:
        >>> from nasnet_keras import load_data
        >>> load_data("digits", validation=0.2, seed=1).image_shape
        (8, 8, 3)
    """
    size = None if image_size is None else as_size(image_size)
    opened = open_data(
        name,
        image_size=size,
        validation=validation,
        test=test,
        seed=seed,
        limit=limit,
        memory_limit=memory_limit,
        data_dir=data_dir,
        download=download,
        strict=strict,
        split_rule=split_rule,
        held_out=held_out,
        grey_range=grey_range,
        columns=Columns(file_column, label_column, split_column, separator, file_root, outside),
        progress=progress,
    )
    data = decoded(opened, size, memory_limit, progress, strict)
    for note in data.notes:
        logger.warning("%s: %s", shown(data.name), note)
    if data.left_out:
        logger.warning("%s: not used: %s", shown(data.name), data.left_out.summary())
    return data


def open_data(
    name,
    *,
    image_size=None,
    validation=0.1,
    test=0.2,
    seed=0,
    limit=None,
    memory_limit=MEMORY_LIMIT,
    data_dir=None,
    download=False,
    strict=False,
    split_rule="hashed",
    held_out=None,
    grey_range=None,
    columns=None,
    progress=None,
    range_given=True,
    least_classes=2,
    all_tested=False,
):
    """Find and split a data set without decoding an image; `decoded` does the rest of `load_data`.

    Arguments and errors are those of `load_data`; `columns` is a `columns.Columns`, `range_given` says whether
    `grey_range` is the user's own, who is told where it is not used, and not what a model keeps, `least_classes` is
    1 where the images are for a model that has classes of its own, and `all_tested` says that none is left out that it
    was trained on. Examples of TensorFlow Datasets are indexed the first time, and stay on disk.
    """
    size = None if image_size is None else as_size(image_size)
    shares = {"test": test, "validation": validation}
    for label in ("validation", "test"):
        share = shares[label]
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise ValueError(f"`{label}` must be a share from 0 to below 1. Received: {share!r}")
    seed, limit = as_integer(seed), as_integer(limit)
    check_integer("seed", seed, most=2**32 - 1)
    check_integer("limit", limit, least=1, optional=True)
    check_integer("memory_limit", memory_limit)
    check_one_of("split_rule", split_rule, RULES)
    grey_range = as_numbers(grey_range)
    check_range("grey_range", grey_range, optional=True)
    name = expanded(name)
    ways = (split_rule, grey_range, progress, columns, held_out, least_classes)
    source = open_source(name, size, data_dir, download, *ways)
    class_names = source.class_names
    given = {part: Split(images, labels) for part, (images, labels) in source.parts.items()}
    unused = tuple(_unused_shares(shares, given))
    shares |= held_out.shares if held_out else {}
    divided_by = seed if held_out is None or held_out.seed is None else held_out.seed
    shares = {part: share for part, share in shares.items() if part not in given}
    left_out, notes = LeftOut(), source.notes
    record = None if split_rule == "seeded" else Record(source.digest, shares, seed=divided_by)
    if source.listing is None:
        splits = {**given, **hold_out(given["train"], shares, divided_by, class_names, found := [])}
        notes += tuple(found)
    else:
        splits, record, notes = _divided(source, given, shares, held_out, all_tested)
        left_out = source.listing.left_out
        check_strict(strict, called(name), left_out)
    notes += unused
    if limit is not None:
        splits |= limited(splits, limit, seed, 1 if given["train"].several else len(class_names))
    train, validation, test = (replace(splits[part], record=record) for part in sides.PARTS)
    if isinstance(train.images, ImageFiles):
        images = train.images
        note = grey_note(images.sources, images.grey_range, images.findings, range_given)
        notes += tuple(filter(None, (note, note_of_frames(images.sources, images.findings))))
    elif range_given and grey_range is not None and called(name) == "digits":
        notes += (UNUSED.format("the digits have no"),)
    keep_findings(train)
    shape = train.images.shape[1:]
    found = {"left_out": left_out, "notes": notes, "record": record, "grey_range": grey_range}
    return Data(called(name), train, validation, test, class_names, shape, **found)


def open_images(root, grey_range=None, columns=None):
    """A `Data` of images whose labels do not count, not decoded yet: all below a folder, or of a table, as train part.

    Args:
        root: the path of the folder, or of a table, which needs no labels; of one with parts the train part counts.
        grey_range: as for `read_image`.
        columns: a `columns.Columns` for a table.

    Raises:
        ValueError: it cannot be read, or there is no image.
    """
    if is_table(root):
        listing = read_table(root, columns, labelled=False)
        paths, left_out = listing.parts["train"].paths, listing.left_out
    else:
        paths, left_out = images_below(root)
    if not paths:
        raise ValueError(f"`data` must be a folder with images below it. Received: {shown(os.fspath(root))}")
    images = ImageFiles(tuple(paths), own_size(paths), grey_range)
    train = Split(images, np.zeros(len(paths), np.int32))
    none = train.select([])
    shape = (*images.shape[1:3], 3)
    return Data(os.fspath(root), train, none, none, ("images",), shape, left_out, grey_range=grey_range)


def decoded(data, size=None, memory_limit=MEMORY_LIMIT, progress=None, strict=False, as_files=False):
    """A `Data` of `open_data` with its images in memory, unless they need more than `memory_limit` bytes.

    Broken files are left out, unless there are so many that they are found only when they are read, see `load_data`.
    Images in memory know the files that they were decoded from: recipes that crop cut from those.

    Args:
        data: a `Data`.
        size: `(height, width)` of all images, None for the one that they have.
        memory_limit, progress, strict: as for `load_data`.
        as_files: whether images for training stay files in any case, for a recipe that crops (`augmentation.crops`).

    Raises:
        ValueError: no image for training can be read; or, if `strict`, any cannot.
    """
    splits = {part: getattr(data, part) for part in sides.PARTS}
    left_out, notes = data.left_out, data.notes
    if isinstance(data.train.images, ImageFiles):
        try:
            splits, broken = _read(splits, size or data.image_shape[:2], memory_limit, progress, strict, as_files)
        finally:  # also of what was looked at before Ctrl-C
            keep_findings(data.train)
        left_out = left_out.with_broken(broken)
        check_strict(strict, data.name, left_out)
        if len(data.train) and not len(splits["train"]):
            reasons = "; ".join((left_out.summary(), *notes))
            raise ValueError(f"`data` has no image for training that can be read: {reasons}")
        counts = [split.counts(len(data.class_names)) for split in (data.train, splits["train"])]
        if empty := [data.class_names[index] for index in np.flatnonzero((counts[0] > 0) & (counts[1] == 0))]:
            notes += (f"no image for training can be read of the classes {few(empty)}",)
    elif size and size != data.image_shape[:2]:
        splits = {part: replace(split, images=_resized(split.images, size)) for part, split in splits.items()}
    shape = splits["train"].images.shape[1:]
    return replace(data, **splits, image_shape=shape, left_out=left_out, notes=notes)


def _unused_shares(shares, given):
    """A line on each share that was asked for of a part that the data bring themselves."""
    for part, share in shares.items():
        if part in given and share and share != SHARES[part]:
            yield f"`{part}` {share:g} is not used: the data have images for {part} of their own"


def keep_findings(split):
    """Keep what was found out about its files."""
    findings = getattr(split.images, "findings", None)
    if findings is not None:
        findings.save()


def normalize(images):
    """Images in 0 to 255, of any shape, as float32 in [-1, 1]: x / 127.5 - 1."""
    scaled = np.divide(images, np.float32(127.5), dtype=np.float32)
    scaled -= 1
    return scaled


def _divided(source, given, shares, held_out, all_tested):
    """(splits, their `Record`, notes) of a folder."""
    listing = source.listing
    if sum(shares.values()) >= 1:
        received = " and ".join(f"{part}: {share:g}" for part, share in shares.items())
        raise ValueError(f"`test` and `validation` must be below 1 together, to leave images. Received: {received}")
    files, classes, notes = listing.parts["train"], len(listing.folders), list(listing.notes)
    places = sides.places(listing.keys(files))
    if held_out and held_out.digest:
        known = {part: held_out.sides.get(part, ()) for part in shares}
        kept = Record(None, shares, known, held_out.trained)
        side = sides.as_recorded(map(listing.name_of, files.paths), places, kept)
    else:
        several = given["train"].several
        side, rare = sides.by_class(places, strata(files.labels), shares, classes + several)
        if len(rare) and not several:
            notes.append(note_of_small(shares, [listing.folders[index] for index in rare]))
    splits = {**given, **{part: given["train"].select(np.flatnonzero(side == sides.PARTS.index(part))) for part in
                          ("train", *shares)}}  # fmt: skip
    untested, brought = [], [part for part in given if part != "train"]
    if held_out and held_out.digest:
        same = held_out.digest == source.digest
        untested, found = without_trained(listing, splits, brought, held_out, same, all_tested)
        notes += found
    names = {part: tuple(_names(listing, side, sides.PARTS.index(part))) for part in shares}
    notes += [*alike(listing, side, given["train"].images.findings), *_without_images(splits, listing.folders)]
    trained = frozenset(map(mark, [*_names(listing, side, sides.TRAIN), *untested]))
    others = [marks_of(name) for name in map(listing.name_of, files.paths) if not name.isascii()]
    others += [map(mark, map(listing.name_of, listing.parts[part].paths)) for part in brought]
    others, lists = frozenset().union(*others), not getattr(listing, "listed_as_classes", False)
    record = Record(source.digest, shares, names, trained, further=others, lists=lists, untested=len(untested))
    return splits, record, tuple(notes)


def _names(listing, side, part):
    return map(listing.name_of, compress(listing.parts["train"].paths, (side == part).tolist()))


def _without_images(splits, names):
    """A line on the labels that no image of a part has, where an image may have several."""
    for part, split in splits.items():
        if split.several and len(split) and (missing := np.flatnonzero(split.counts(len(names)) == 0)).size:
            yield f"no image for {part} has the labels {few(names[index] for index in missing)}"


def _read(splits, size, memory_limit, progress, strict, as_files):
    """(splits without the broken files that were found, {name: the reason} of those)."""
    total, done = sum(map(len, splits.values())), 0
    kept = [split.images for part, split in splits.items() if not (as_files and part == "train")]
    fits = sum(map(len, kept)) * size[0] * size[1] * 3 <= memory_limit
    fits = fits and sum(images.stored() for images in kept) <= memory_limit
    found, reasons = {}, {}
    for part, split in splits.items():
        files = images = replace(split.images, image_size=size, broken={})
        in_memory, origin = fits and not (as_files and part == "train"), None
        shown_progress = progress and (lambda now, _, before=done: progress(before + now, total))
        if in_memory:
            images, broken = files.read(shown_progress)
        else:
            broken = files.check(shown_progress) if total <= CHECKED or strict else {}
        good = np.delete(np.arange(len(files)), list(broken))
        if not in_memory:
            images = files.take(good)
        elif broken:
            for place in range(min(broken), len(good)):  # in place: a copy might not fit
                images[place] = images[good[place]]
            images = images[: len(good)]
        if in_memory:
            origin = images, files.take(good)
        found[part] = replace(split, images=images, labels=split.labels[good], broken=len(broken), origin=origin)
        reasons |= {files.name(index): reason for index, reason in broken.items()}
        done += len(files)
    return found, reasons


def check_strict(strict, name, left_out):
    """Raise `ValueError` if anything of a folder is left out although `strict` is set."""
    if strict and left_out:
        raise ValueError(
            f"`strict` allows nothing that is left out. Received: {shown(os.fspath(name))} with {left_out.summary()}"
        )


def _resized(images, size):
    return np.stack([resize(image, size) for image in images]) if len(images) else np.empty((0, *size, 3), np.uint8)
