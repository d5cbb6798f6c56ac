"""One door for data: named images in, seeded splits and batches out.

NumPy and Pillow do the work, so that training runs on any Keras backend, and each
batch depends on nothing but the seed, the epoch and its number. Validation images
are held out of the training images; test images take part in neither.
"""

import os
from dataclasses import dataclass

import keras
import numpy as np

from nasnet_keras.augmentation import augment, check_augmentation
from nasnet_keras.images import ImageFiles, read_image, resized
from nasnet_keras.sources import open_source
from nasnet_keras.splits import Split, check_integer, hold_out, limited

__all__ = ["Batches", "Data", "Split", "load_data", "normalize", "read_image"]


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
    memory_limit=2 << 30,
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
    for label, share in (("validation", validation), ("test", test)):
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise ValueError(f"`{label}` must be a share from 0 to below 1. Received: {share!r}")
    check_integer("seed", seed)
    check_integer("memory_limit", memory_limit)
    parts, class_names = open_source(name, image_size, data_dir, download, memory_limit)
    given = {part: Split(images, labels) for part, (images, labels) in parts.items()}
    shares = {part: share for part, share in (("test", test), ("validation", validation)) if part not in given}
    splits = {**given, **hold_out(given["train"], shares, seed, class_names)}
    if limit is not None:
        splits |= limited(splits, limit, seed, len(class_names))
    train, validation, test = _decoded(
        [splits[part] for part in ("train", "validation", "test")], memory_limit, progress
    )
    return Data(os.fspath(name), train, validation, test, class_names, train.images.shape[1:])


def normalize(images):
    """Images in 0 to 255, of any shape, as float32 in [-1, 1]: x / 127.5 - 1."""
    scaled = np.divide(images, np.float32(127.5), dtype=np.float32)
    scaled -= 1
    return scaled


class Batches(keras.utils.PyDataset):
    """A split as batches for `fit`, `evaluate` and `predict`, on any Keras backend.

    Evaluation keeps the order and the last, smaller batch. Training shuffles anew in each epoch and
    leaves out the images of the last batch if it is not full (others each time), so that all batches
    have one shape; a split smaller than `batch_size` is one batch. Call
    `fit(batches, shuffle=False)`: Keras would shuffle the order of the batches once more, from a
    generator that is not seeded here.

    The epoch advances at the end of each epoch of `fit` (without `steps_per_epoch`). To continue a
    training, or in a loop of one's own, set `epoch`; the batches are then those of an uninterrupted
    training. On JAX, `fit` first looks at a batch, and where there is only one, that look counts as an
    epoch: a callback that sets `epoch` when an epoch begins is exact everywhere. Setting `image_size` to
    a number of pixels resizes the whole images of all batches from then on, and `scaled` to False leaves them in 0
    to 255, for a network with `include_preprocessing`.

    Args:
        split: a `Split` with at least one image.
        batch_size: images per batch.
        training: shuffle, allow augmentation, and leave out an incomplete batch.
        augmentation: None or a recipe's name, as in `augment`; for training only.
        cutout: side of the grey square painted into each image, in pixels; 0 for none; for training only.
        seed: an integer from 0.

    Raises:
        ValueError: naming the argument at fault.
    """

    def __init__(self, split, batch_size, *, training=False, augmentation=None, cutout=0, seed=0):
        super().__init__()
        if not isinstance(split, Split) or not len(split):
            raise ValueError(f"`split` must be a Split with at least one image. Received: {split!r}")
        check_integer("batch_size", batch_size, least=1)
        check_integer("seed", seed)
        augmentation = "none" if augmentation is None else augmentation
        check_augmentation(augmentation, cutout)
        self.augmented = augmentation != "none" or cutout > 0
        if self.augmented and not training:
            raise ValueError("`augmentation` and `cutout` are for training: `training` must be True. Received: False")
        self.split, self.batch_size, self.training, self.seed = split, min(batch_size, len(split)), training, seed
        self.augmentation, self.cutout = augmentation, cutout
        self.image_size, self.scaled = None, True
        self._epoch, self._order = 0, None
        self._running = self._complete = False

    @property
    def epoch(self):
        """The epoch that the batches belong to, counted from 0."""
        return self._epoch

    @epoch.setter
    def epoch(self, value):
        """Go to an epoch; raises `ValueError` unless it is an integer from 0."""
        check_integer("epoch", value)
        self._epoch = value

    def __len__(self):
        """Number of batches in an epoch."""
        return len(self.split) // self.batch_size if self.training else -(-len(self.split) // self.batch_size)

    def __getitem__(self, index):
        """Batch `index` of this epoch: float32 [batch, height, width, 3], in [-1, 1] if `scaled`, and int32 [batch]."""
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        self._complete |= index == len(self) - 1
        epoch = self._epoch
        chosen = self._indices(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        images = self.split.images[chosen]
        if self.augmented:
            rng = np.random.default_rng([self.seed, epoch, 1, index])
            images = augment(images, self.augmentation, rng, self.cutout)
        if self.image_size is not None:
            images = resized(images, self.image_size)
        return normalize(images) if self.scaled else images.astype("float32"), self.split.labels[chosen]

    def on_epoch_begin(self):
        """Called by Keras."""
        self._running, self._complete = True, False

    def on_epoch_end(self):
        """Called by Keras, which also calls it without an epoch before it, and after a look at one batch."""
        if self._running and self._complete:
            self._epoch += 1
        self._running = False

    def _indices(self, epoch):
        if not self.training:
            return np.arange(len(self.split))
        order = self._order
        if order is None or order[0] != epoch:
            self._order = order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.split))
        return order[1]


def _decoded(splits, memory_limit, progress):
    """The splits with images in memory, unless they need more than `memory_limit` bytes."""
    if not isinstance(splits[0].images, ImageFiles):
        return splits
    sources = tuple(source for split in splits for source in split.images.sources)
    files = ImageFiles(sources, splits[0].images.image_size)
    if np.prod(files.shape, dtype=np.int64) > memory_limit:
        files.check(progress)
        return splits
    bounds = np.cumsum([len(split) for split in splits])[:-1]
    images = np.split(files.decode(progress), bounds)
    return [Split(part, split.labels) for part, split in zip(images, splits, strict=True)]
