"""One door for data: named images in, seeded splits out.

NumPy and Pillow do the work, so that training runs on any Keras backend. Validation images are
held out of the training images; test images take part in neither.
"""

import os
from dataclasses import dataclass, replace

import numpy as np

from nasnet_keras.checks import check_integer
from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.images import as_size, read_image, resize
from nasnet_keras.data.sources import open_source
from nasnet_keras.data.splits import Split, hold_out, limited
from nasnet_keras.files import expanded

__all__ = ["Data", "Split", "load_data", "normalize", "open_data", "read_image"]

MEMORY_LIMIT = 2 << 30  # bytes


@dataclass(frozen=True, eq=False)
class Data:
    """A data set for classification: three splits that share no image.

    Args:
        name: what `load_data` was given.
        train, validation, test: a `Split` each; only `test` is for reporting.
        class_names: a name for every label.
        image_shape: `(height, width, 3)`.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]


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
):
    """Load and split a data set.

    A part that the source does not bring is held out of its training images, class by class, at
    random from `seed`: the share is rounded to whole images, at least one of each class.

    Args:
        name: `"digits"` (scikit-learn's 1,797 scanned digits, 8x8), a folder `root/<class>/*` or
            `root/{train,test}/<class>/*` (and `validation` or `val`), or `"tfds:NAME"` (also
            `NAME/CONFIG` and `:VERSION`) for a prepared data set of TensorFlow Datasets.
        image_size: pixels, or `(height, width)`; images of another size are resized and their centre
            is kept. None: the images' own size if a sample of 64 agrees on one of at most 256
            pixels, else 224.
        validation: share of the training images to hold out for validation, from 0 to below 1.
        test: share to hold out for testing, likewise.
        seed: an integer from 0, for splits and `limit`.
        limit: at most this many images for training and validation together, in their proportion and
            stratified; test images stay, so that accuracies remain comparable. None: all.
        memory_limit: bytes; decoded images that need more are decoded batch by batch instead.
        data_dir: where TensorFlow Datasets are prepared. None: the place that TFDS itself uses.
        download: whether a data set of TFDS that is not prepared may be downloaded.
        progress: None, or a function called with the number of images decoded and of all.

    Returns:
        A `Data`.

    Raises:
        ValueError: one line that names the argument, the file, the folder or the class at fault.
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
    )
    return decoded(opened, size, memory_limit, progress)


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
):
    """Find and split a data set without decoding an image; `decoded` does the rest of `load_data`.

    Arguments and errors are those of `load_data`. Examples of TensorFlow Datasets are read, and stay encoded.
    """
    size = None if image_size is None else as_size(image_size)
    for label, share in (("validation", validation), ("test", test)):
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise ValueError(f"`{label}` must be a share from 0 to below 1. Received: {share!r}")
    check_integer("seed", seed, most=2**32 - 1)
    check_integer("limit", limit, least=1, optional=True)
    check_integer("memory_limit", memory_limit)
    name = expanded(name)
    parts, class_names = open_source(name, size, data_dir, download, memory_limit)
    given = {part: Split(images, labels) for part, (images, labels) in parts.items()}
    shares = {part: share for part, share in (("test", test), ("validation", validation)) if part not in given}
    splits = {**given, **hold_out(given["train"], shares, seed, class_names)}
    if limit is not None:
        splits |= limited(splits, limit, seed, len(class_names))
    train, validation, test = (splits[part] for part in ("train", "validation", "test"))
    return Data(os.fspath(name), train, validation, test, class_names, train.images.shape[1:])


def decoded(data, size=None, memory_limit=MEMORY_LIMIT, progress=None):
    """A `Data` of `open_data` with its images in memory, unless they need more than `memory_limit` bytes.

    Args:
        data: a `Data`.
        size: `(height, width)` of all images, None for the one that they have.
        memory_limit, progress: as for `load_data`.

    Raises:
        ValueError: naming the first file that cannot be read.
    """
    splits = [data.train, data.validation, data.test]
    if isinstance(data.train.images, ImageFiles):
        splits = _read(splits, size or data.image_shape[:2], memory_limit, progress)
    elif size and size != data.image_shape[:2]:
        splits = [Split(_resized(split.images, size), split.labels) for split in splits]
    train, validation, test = splits
    return replace(data, train=train, validation=validation, test=test, image_shape=train.images.shape[1:])


def normalize(images):
    """Images in 0 to 255, of any shape, as float32 in [-1, 1]: x / 127.5 - 1."""
    scaled = np.divide(images, np.float32(127.5), dtype=np.float32)
    scaled -= 1
    return scaled


def _read(splits, size, memory_limit, progress):
    sources = tuple(source for split in splits for source in split.images.sources)
    files, bounds = ImageFiles(sources, size), np.cumsum([len(split) for split in splits])[:-1]
    if np.prod(files.shape, dtype=np.int64) > memory_limit:
        files.check(progress)
        images = [ImageFiles(split.images.sources, size) for split in splits]
    else:
        images = np.split(files.decode(progress), bounds)
    return [Split(part, split.labels) for part, split in zip(images, splits, strict=True)]


def _resized(images, size):
    return np.stack([resize(image, size) for image in images]) if len(images) else np.empty((0, *size, 3), np.uint8)
