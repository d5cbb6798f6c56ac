"""Where images come from: the embedded digits, a folder of classes, a table, TensorFlow Datasets, data of Python's.

Each source yields its parts ("train", and "validation" and "test" where it brings them)
as a pair of images and labels, and the names of the classes. Images are a uint8
array or an `ImageFiles`, which decodes nothing before it is asked to. Of a folder or a table there is a listing, too.
"""

import hashlib
import json
import os
import re
import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from nasnet_keras.data.examples import open_examples
from nasnet_keras.data.findings import Findings
from nasnet_keras.data.folders import Files, Listing, read_folder
from nasnet_keras.data.image_files import ImageFiles, own_size
from nasnet_keras.data.layouts import PARTS
from nasnet_keras.data.left_out import few
from nasnet_keras.data.objects import is_object, read_object_data
from nasnet_keras.data.records import is_marked
from nasnet_keras.data.table_files import SUFFIXES as TABLES
from nasnet_keras.data.tables import TableListing, is_table, read_table
from nasnet_keras.files import expanded

# What counted before folders were read by `folders`; directories of then know their images by it.
SEEDED_PARTS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}
SEEDED_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"]
)
SOURCES = "'digits', 'tfds:NAME', a folder or a table"


@dataclass(frozen=True, eq=False)
class Source:
    """An opened data set.

    Args:
        parts: {part: (images, labels)}.
        class_names: a name for each label.
        listing: a folder's or a table's `folders.Listing`, in the order of the parts' images; None for other data.
        notes: what a user should know of data without a listing, a line each.
        digest: what they are known by, None where nothing but their images tells.
    """

    parts: dict
    class_names: tuple[str, ...]
    listing: Listing | None = None
    notes: tuple[str, ...] = ()
    digest: str | None = None


def open_source(
    name,
    size,
    data_dir,
    download,
    split_rule="hashed",
    grey_range=None,
    progress=None,
    columns=None,
    held_out=None,
    least_classes=2,
):
    """Open what `load_data` was given.

    Args:
        name: `"digits"`, `"tfds:NAME"`, a folder, a table, or what `objects.read_object_data` takes.
        size: `(height, width)`, or None for the images' own; the digits stay as they are.
        data_dir, download, split_rule, grey_range, progress: as in `load_data`; an index is made of TFDS once.
        columns: as for `loading.open_data`.
        held_out: the `records.Record` of a directory that was begun; None of a new one.
        least_classes: how many there must be; 1 where a model's are known.

    Returns:
        A `Source`.

    Raises:
        ValueError: one line that says what is wrong with which file, folder or data set.
    """
    check_source(name)
    if columns and not is_table(name):
        names = "`file_column`, `label_column`, `split_column`, `separator`, `file_root` and `outside`"
        raise ValueError(f"{names} are for a table. Received: {called(name)}")
    given = ["`data_dir`"] * (data_dir is not None) + ["`download`"] * bool(download)
    if given and not called(name).startswith("tfds:"):
        names = f"{' and '.join(given)} {'are' if len(given) > 1 else 'is'}"
        raise ValueError(f"{names} for tfds:NAME. Received: {called(name)}")
    if is_object(name):
        notes = []
        parts, class_names = read_object_data(name, size, grey_range=grey_range, notes=notes)
        source = Source(parts, class_names, notes=tuple(notes))
    elif is_table(name):
        listing = _table(name, columns, held_out)
        source = _listed(listing, Findings(listing.root), size, held_out)
    elif isinstance(name, str) and name == "digits":
        source = _digits()
    elif str(name).startswith("tfds:"):
        held_out = SEEDED_PARTS if split_rule == "seeded" else held_out and held_out.shares
        source = _tfds(str(name).removeprefix("tfds:"), size, data_dir, download, progress, held_out)
    elif split_rule == "seeded":
        source = _seeded_folder(Path(os.path.abspath(name)), size)
    else:
        findings = Findings(name)
        begun = held_out is not None and held_out.digest is not None
        source = _listed(read_folder(name, findings, begun), findings, size, held_out)
    if len(source.class_names) < least_classes:
        more = source.listing.left_out.summary() if source.listing else ""
        raise ValueError(
            f"`data` must have at least two classes. Received: {called(name)}, which has {list(source.class_names)}"
            + (f", and {more}" if more else "")
        )
    if grey_range is None:
        return source
    parts = {part: (_ranged(images, grey_range), labels) for part, (images, labels) in source.parts.items()}
    return replace(source, parts=parts)


def _ranged(images, grey_range):
    """Image files with their `grey_range`; arrays are as they are."""
    return replace(images, grey_range=grey_range) if isinstance(images, ImageFiles) else images


def called(name):
    """What messages and results call what `load_data` was given: a name, or what kind of thing it is."""
    return os.fspath(name) if isinstance(name, str | os.PathLike) else f"a {type(name).__name__}"


def check_source(name):
    """Raise `ValueError` unless the name is one of a source; a folder or a table must exist. Nothing is opened."""
    if is_object(name) or is_table(name):
        if isinstance(name, str | os.PathLike) and not os.path.exists(name):
            raise ValueError(f"`data` must be {SOURCES}. Received: {str(name)!r}, which does not exist")
        return
    if not isinstance(name, str | os.PathLike):
        rule = f"{SOURCES}, or (image, label) pairs with `len` and `[i]`"
        raise ValueError(f"`data` must be {rule}. Received: {called(name)}")
    if not os.fspath(name):
        raise ValueError(f"`data` must be {SOURCES}. Received: {name!r}")
    if str(name).startswith("tfds:"):
        if not re.fullmatch(r"tfds:\w+(/[\w.+-]+)?(:\d+\.\d+\.\d+)?", str(name)):
            raise ValueError(f"`data` must be tfds:NAME, tfds:NAME/CONFIG or either with :VERSION. Received: {name!r}")
    elif name != "digits" and not os.path.isdir(name):  # unlike Path.is_dir, False also for an impossible name
        what = f"is a file, but no table: {', '.join(TABLES)}" if os.path.exists(name) else "does not exist"
        raise ValueError(f"`data` must be {SOURCES}. Received: {str(name)!r}, which {what}")


def _digits():
    """The 1,797 scanned digits of scikit-learn (UCI's test set of handwritten digits), 8x8 pixels of 17 greys."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(f"`data` 'digits' needs the package scikit-learn: {error}") from None
    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=-1)
    return Source({"train": (images, digits.target.astype(np.int32))}, tuple(map(str, digits.target_names)))


def _table(name, columns, held_out):
    """The listing of a table, as an earlier version read it where that began the directory.

    What was trained on tells it, as labels may be corrected and rows added since: no row that is marked as one of a
    part may have been trained on, or that part was held out in another way then.
    """
    before, refusal = held_out and held_out.digest, None
    try:
        listing = read_table(name, columns)
    except ValueError as error:  # perhaps of a file with two labels, which was taken in several parts
        if not before:
            raise
        listing, refusal = read_table(name, columns, in_each_part=True), error
    brought = listing.brought & held_out.shares.keys() if before else frozenset()
    listed = bool(before) and listing.listed and not held_out.lists
    changed = before and (brought or listed or listing.completed or listing.across)
    if not changed or (not refusal and before in (listing.digest(), listing.digest(str))):
        return listing
    others, marked = [], f"what the table marks for {few(sorted(brought))} is not used"
    marked = f"{marked}: other images were held out before"
    classes = "texts of lists are a class each: so it was when this directory was begun"
    each = "files that have rows of several parts are used in each: so it was when this directory was begun"
    # From the newest version to the first one: lists came last, completed names first.
    pairs = [(False, True)] * listed + [(True, True)] * bool(brought) + [(bool(brought), False)] * listing.completed
    ways = [(*pair, False) for pair in pairs]
    if listing.across:
        ways += [(*pair, True) for pair in dict.fromkeys([(False, True), *pairs])]
    for as_before, completes, in_each_part in ways:
        with suppress(ValueError):  # what that version refused
            other = read_table(name, columns, True, as_before, completes, in_each_part, lists=not listed)
            told = [marked] * as_before + [classes] * listed + [each] * in_each_part
            others.append((as_before, other := replace(other, notes=(*other.notes, *told))))
            if before in (other.digest(), other.digest(str)):
                return other
    if refusal:
        raise refusal

    def were_trained(parts):
        paths = (path for part in parts for path in listing.parts[part].paths)
        return any(is_marked(listing.name_of(path), held_out.trained) for path in paths)

    as_before = were_trained(brought)
    if not as_before and not (listed and were_trained(listing.parts)):
        return listing
    return next((other for one, other in others if one == as_before), listing)


def _listed(listing, findings, size, held_out):
    """A folder or a table as its `folders.Listing`, and what is known of its files."""
    digest, before = listing.digest(), held_out and held_out.digest
    if before not in (None, digest) and listing.digest(str) == before:  # as an earlier version knew it
        listing, digest = _in_plain_order(listing), before
    size = size or own_size(listing.parts["train"].paths, findings)
    images = {part: ImageFiles(files.paths, size, findings=findings) for part, files in listing.parts.items()}
    parts = {part: (images[part], files.labels) for part, files in listing.parts.items()}
    return Source(parts, listing.class_names, listing, digest=digest)


def _in_plain_order(listing):
    """A listing in the order of names as they stand, in whatever form: so earlier versions had classes and files."""
    by_class = not isinstance(listing, TableListing)  # whose labels are in that order in any case, and its files mixed
    ranks = np.argsort(np.argsort(np.array(listing.folders, object))).astype(np.int32)
    parts = {}
    for part, files in listing.parts.items():
        labels = ranks[files.labels] if by_class else files.labels
        keys = list(zip(labels.tolist(), files.paths, strict=True)) if by_class else files.paths
        order = sorted(range(len(files)), key=keys.__getitem__)
        parts[part] = Files(tuple(map(files.paths.__getitem__, order)), files.sizes[order], labels[order])
    folders = tuple(sorted(listing.folders)) if by_class else listing.folders
    return replace(listing, folders=folders, parts=parts)


def _seeded_folder(root, size):
    """`root/<class>/*`, or `root/{train,test,validation}/<class>/*` with at least `train`, as it was once listed.

    A seed divides such a list; if there were one file more in it, images that were trained on would be tested.
    """
    folders = {"train": root}
    if os.path.isdir(root / "train") and _entries(root / "train", folders=True):
        present = [(part, root / name) for part, names in SEEDED_PARTS.items() for name in names]
        folders = {part: folder for part, folder in present if os.path.isdir(folder)}
    classes = {part: _entries(folder, folders=True) for part, folder in folders.items()}
    class_names = classes["train"]
    if not class_names:
        raise ValueError(f"`data` must hold a folder for each class, with its images inside. Received: {root}")
    for part, names in classes.items():
        if names != class_names:
            odd = ", ".join(sorted(set(names) ^ set(class_names)))
            raise ValueError(f"{folders[part]} must have the same classes as {folders['train']}. They differ in: {odd}")
    files = {part: _class_files(folder, class_names) for part, folder in folders.items()}
    findings = Findings(root)
    size = size or own_size(files["train"][0], findings)
    images = partial(ImageFiles, image_size=size, findings=findings)
    return Source({part: (images(paths), labels) for part, (paths, labels) in files.items()}, class_names)


def _class_files(folder, class_names):
    paths, counts = [], []
    for name in class_names:
        images = _entries(folder / name, folders=False)
        if not images:
            raise ValueError(f"every class must have images, but {folder / name} has none")
        paths += [os.path.join(folder, name, image) for image in images]
        counts.append(len(images))
    return tuple(paths), np.repeat(np.arange(len(counts), dtype=np.int32), counts)


def _entries(folder, folders):
    """Sorted names of the visible sub-folders, or of the visible image files, of a folder."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
            if folders:
                return tuple(sorted(entry.name for entry in visible if entry.is_dir()))
            suffix = {entry.name: os.path.splitext(entry.name)[1].lower() for entry in visible if entry.is_file()}
            return tuple(sorted(name for name in suffix if suffix[name] in SEEDED_SUFFIXES))
    except OSError as error:
        raise ValueError(f"cannot read the folder {folder}: {error.strerror}") from None


def _tfds(name, size, data_dir, download, progress, held_out):
    """A prepared data set `NAME`, `NAME/CONFIG` or either with `:VERSION`, of one image and one label each."""
    with _packages_for(name):
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.constants import DATA_DIR
    root = Path(os.path.abspath(expanded(data_dir or DATA_DIR)))
    folder = _prepared(root, name)
    if folder is None and not download:
        way = (
            f"`load_data('tfds:{name}', download=True)` in Python prepares it there; TFDS_DATA_DIR names another place"
        )
        raise ValueError(f"`data` 'tfds:{name}' is not prepared in {root}: {way}")
    with _packages_for(name):
        tfds.builder_from_directory  # noqa: B018  (the package imports its parts, and TensorFlow, on first use)
    folder = folder or _downloaded(tfds, name, root)
    info = _described(tfds, name, folder)
    images = [key for key, feature in info.features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in info.features.items() if isinstance(feature, tfds.features.ClassLabel)]
    splits, notes = _tfds_splits(name, info, held_out)
    declared = info.supervised_keys  # which of several images and labels are meant, such as no mask and no coarse label
    if isinstance(declared, tuple) and len(declared) == 2 and declared[0] in images and declared[1] in labels:
        if others := sorted({*images, *labels} - {*declared}):
            notes.append(f"of each example {' and '.join(declared)} are used, and not {few(others)}")
        images, labels = declared[:1], declared[1:]
    if len(images) != 1 or len(labels) != 1 or "train" not in splits:
        there = {"splits": splits, "images": images, "labels": labels}
        found = "; ".join(f"{what}: {few(sorted(names)) or 'none'}" for what, names in there.items())
        rule = "a train split, and one image and one class label per example, or say which it means (supervised_keys)"
        raise ValueError(f"`data` 'tfds:{name}' must have {rule}. Received: {found}")
    if info.features[images[0]].np_dtype == np.float32:  # whose bytes TFDS keeps as the four channels of a PNG
        raise ValueError(f"`data` 'tfds:{name}' must have images of 8 or 16 bits. Received: float32")
    read = {part: _tfds_part(info, split, images[0], labels[0], progress) for part, split in splits.items()}
    # Some test sets are published without their labels, which are -1 then.
    unlabelled = {part: (found < 0).sum() for part, (_, found) in read.items() if part != "train" and (found < 0).any()}
    notes += [
        f"{splits[part]} has no labels for {count:,} of {len(read[part][1]):,} images and is not used"
        for part, count in unlabelled.items()
    ]
    read = {part: pair for part, pair in read.items() if part not in unlabelled}
    size = size or own_size(read["train"][0])
    class_names = tuple(info.features[labels[0]].names)
    for part, (_, found) in read.items():
        if len(found) and not 0 <= found.min() <= found.max() < len(class_names):
            rule = f"from 0 to {len(class_names) - 1} in {part}, as it has {len(class_names)} classes"
            raise ValueError(f"`data` 'tfds:{name}' must have labels {rule}. Received: {found.min()} to {found.max()}")
    counts = np.bincount(read["train"][1], minlength=len(class_names))
    if absent := [class_names[index] for index in np.flatnonzero(counts == 0)]:
        notes.append(f"no image for training has the classes {few(absent)}")
    parts = {part: (ImageFiles(sources, size), labels) for part, (sources, labels) in read.items()}
    return Source(parts, class_names, notes=tuple(notes), digest=_digest(info, read, splits))


def _tfds_splits(name, info, held_out):
    """({part: the split that is used for it}, a line on each other split).

    A directory that was begun before a split's name was understood goes on without it: it has held out that part.
    """
    named = {}
    for split in info.splits:
        part = PARTS.get(split.strip().lower())
        if part and (split == part or part not in (held_out or ())):
            named.setdefault(part, []).append(split)
    for part, found in named.items():
        if len(found) > 1 and part in found:  # the part's own name
            named[part] = [part]
        elif len(found) > 1:
            raise ValueError(f"`data` 'tfds:{name}' must have one split for {part}. Received: {' and '.join(found)}")
    splits = {part: named[part][0] for part in SEEDED_PARTS if part in named}
    others = {split: info.splits[split].num_examples for split in info.splits if split not in splits.values()}
    return splits, [f"{split} has {count:,} examples and is not used" for split, count in others.items()]


def _described(tfds, name, folder):
    """The `DatasetInfo` of a prepared data set, of which everything that is read is looked at here."""
    try:
        info = tfds.builder_from_directory(folder).info
        for split in info.splits.values():
            _ = split.filepaths, split.num_examples
        _ = info.full_name, info.features.items(), info.file_format.value, info.disable_shuffling
    except Exception as error:  # what another version has written fails in ways of protobuf, of JSON or of TFDS
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        found = f"`data` 'tfds:{name}' in {folder}"
        raise ValueError(f"{found} cannot be read by TFDS {tfds.__version__}: {reason}") from None
    return info


def _digest(info, read, splits):
    """What a prepared data set is known by, wherever it lies: its name, its shards and their sizes, its labels."""
    digest = hashlib.blake2b(info.full_name.encode(), digest_size=16)
    for part, (_, labels) in read.items():
        shards = [(os.path.basename(path), os.path.getsize(path)) for path in info.splits[splits[part]].filepaths]
        digest.update(json.dumps([part, shards]).encode())
        digest.update(np.ascontiguousarray(labels))
    return digest.hexdigest()


@contextmanager
def _packages_for(name):
    try:
        yield
    except ImportError as error:
        needed = "tensorflow, tensorflow-datasets and importlib_resources"
        raise ValueError(f"`data` 'tfds:{name}' needs the packages {needed}: {error}") from None


def _tfds_part(info, part, image, label, progress):
    split, form = info.splits[part], info.file_format.value
    if form not in ("tfrecord", "array_record"):
        raise ValueError(f"`data` must be prepared as tfrecord or array_record. Received: tfds:{info.name} as {form}")
    return open_examples(
        [os.fspath(path) for path in split.filepaths],
        part,
        image,
        label,
        count=split.num_examples,
        in_order=info.disable_shuffling,
        is_array=form == "array_record",
        progress=progress,
    )


def _prepared(root, name):
    """The folder of the newest prepared version, or None. Looks at local files only: TFDS itself would ask the net."""
    name, _, version = name.partition(":")
    found = [path.parent for path in (root / name).glob(f"{version or '*'}/dataset_info.json")]
    found = found or [path.parent for path in (root / name).glob(f"*/{version or '*'}/dataset_info.json")]
    if len({path.parent for path in found}) > 1:
        configs = ", ".join(sorted({path.parent.name for path in found}))
        raise ValueError(f"`data` 'tfds:{name}' has several configurations, name one as tfds:{name}/CONFIG: {configs}")
    versions = [path for path in found if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return max(versions, key=lambda path: tuple(map(int, path.name.split("."))), default=None)


def _downloaded(tfds, name, root):
    try:
        # Without a network TFDS retries for minutes; this fails within seconds.
        socket.create_connection(("storage.googleapis.com", 443), timeout=5).close()
        builder = tfds.builder(name, data_dir=root)
        builder.download_and_prepare()
    except Exception as error:  # every data set fails in its own way
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"`data` 'tfds:{name}' cannot be downloaded: {reason}") from None
    return builder.data_dir
