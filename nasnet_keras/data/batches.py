"""A split as the batches that training, evaluation and prediction go through.

Each batch depends on nothing but the seed, the epoch and its number.
"""

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from nasnet_keras.checks import as_integer, check_integer
from nasnet_keras.data.augmentation import ALTERNATING, augment, check_augmentation, check_mixing_place, crops, vary
from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.images import as_size, called, resized
from nasnet_keras.data.loading import normalize
from nasnet_keras.data.mixing import Mixing
from nasnet_keras.data.splits import Split

LOST = 8  # images in a row, in a random order, of which none can be read: that is no accident
PASSING = frozenset(map(os.strerror, errno.errorcode))  # what says nothing of a file's content, nor does no memory
AHEAD = 3  # batches that are got ready while a step runs, where Keras does not do so itself


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
    epoch: a callback that sets `epoch` when an epoch begins is exact everywhere.

    Images that are files are read when their batch is wanted, and so are those that were decoded from files where a
    recipe crops: it cuts from all of their pixels. One that cannot be read any more has the weight 0 in its batch, and
    another image's pixels; such batches have a third part, the weights. Training batches in a row of which no image can
    be read are an `OSError`, if they have 8 images or more.

    Args:
        split: a `Split` with at least one image.
        batch_size: images per batch.
        training: shuffle, allow augmentation, and leave out an incomplete batch.
        augmentation: None or a recipe's name, as in `augment`; for training only.
        cutout: side of the grey square painted into each image, in pixels; 0 for none; for training only.
        rand_augment: magnitude of RandAugment, see `augment`; for training only.
        erasing, mixup, cutmix, classes: as for `mixing.Mixing`; for training only. Mixed labels are float32 [batch,
            classes].
        mixing: where these three are done, "processor" or, on JAX, "device": then images that are changed so, and
            labels that are mixed, come as tensors that lie there.
        seed: an integer from 0.
        image_size: pixels, or `(height, width)`, that whole images are brought to; None leaves them as they are.
        scaled: whether images come in [-1, 1]; if not, in 0 to 255, for a network with `include_preprocessing`.

    Raises:
        ValueError: naming the argument at fault.

    Examples:
        >>> from nasnet_keras import Batches, load_data
        >>> images, labels = Batches(load_data("digits").train, 32, training=True)[0]
        >>> images.shape, labels.shape
        ((32, 8, 8, 3), (32,))
    """

    def __init__(
        self,
        split,
        batch_size,
        *,
        training=False,
        augmentation=None,
        cutout=0,
        rand_augment=0,
        erasing=0.0,
        mixup=0.0,
        cutmix=0.0,
        classes=None,
        mixing="processor",
        seed=0,
        image_size=None,
        scaled=True,
    ):
        super().__init__()
        if not isinstance(split, Split) or not len(split):
            raise ValueError(f"`split` must be a Split with at least one image. Received: {split!r}")
        batch_size, seed, cutout = map(as_integer, (batch_size, seed, cutout))
        check_integer("batch_size", batch_size, least=1)
        check_integer("seed", seed)
        augmentation = "none" if augmentation is None else augmentation
        check_augmentation(augmentation, cutout, rand_augment)
        check_mixing_place(mixing, keras.backend.backend())
        self._varied = {"cutout": cutout, "rand_augment": rand_augment}
        self.augmented = augmentation != "none" or any(self._varied.values())
        self._mixing = Mixing(erasing, mixup, cutmix, classes, mixing) if erasing or mixup or cutmix else None
        if (self.augmented or self._mixing) and not training:
            used = {"augmentation": self.augmented, "cutout": cutout, "rand_augment": rand_augment}
            used |= {"erasing": erasing, "mixup": mixup, "cutmix": cutmix}
            names = " and ".join(f"`{name}`" for name, value in used.items() if value)
            raise ValueError(f"{names} must be left out unless `training` is True. Received: False")
        self.split, self.batch_size, self.training, self.seed = split, min(batch_size, len(split)), training, seed
        self.augmentation = augmentation
        is_files = isinstance(split.images, ImageFiles)
        self._files = split.files if is_files or crops(augmentation) else None
        self.image_size, self.scaled = None if image_size is None else as_size(image_size), scaled
        self._epoch, self._order = 0, None
        self._running = self._complete = False
        self._reader, self._ahead, self._first = None, {}, None
        self._lost, self._seen = 0, False  # images in a row that cannot be read; whether one of this pass can
        self._gone = []  # the last images of this pass, as far as the system cannot read them, by their numbers
        self.needed = False  # whether it is an error, too, if a pass has no image that can be read, or none any more
        self.failure = None  # what ended a training, which TensorFlow's pipeline would only tell in words of its own

    @property
    def epoch(self):
        """The epoch that the batches belong to, counted from 0."""
        return self._epoch

    @epoch.setter
    def epoch(self, value):
        """Go to an epoch; raises `ValueError` unless it is an integer from 0."""
        value = as_integer(value)
        check_integer("epoch", value)
        self._epoch = value

    def __len__(self):
        """Number of batches in an epoch."""
        return len(self.split) // self.batch_size if self.training else -(-len(self.split) // self.batch_size)

    def __getitem__(self, index):
        """Batch `index` of this epoch, see `batch`."""
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        self._complete |= index == len(self) - 1
        # TensorFlow's Keras gets batches ready by tf.data.
        read = self.batch if keras.backend.backend() == "tensorflow" else self._next
        batch = read(self._epoch, index)
        if self.needed:
            self._check_pass(index, *batch[2:])
        return batch

    def _check_pass(self, index, weights=None):
        """Raise `OSError` at the end of a pass of which no image can be read, or none of the last ones."""
        if index == 0:
            self._seen, self._gone = False, []
        if weights is None:
            self._seen = True
        else:
            self._seen |= bool(weights.any())
            self._note_gone(self._indices(self._epoch, index), weights)
        if index < len(self) - 1:
            return
        if not self._seen:
            self._fail(f"{len(self.split):,} images for validation", self._files)
        self._check_gone()

    def _note_gone(self, numbers, weights):
        """Note which of the last images, by their numbers, the system cannot read. Broken files are none of them."""
        for number, weight in zip(numbers.tolist(), weights.tolist(), strict=True):
            if weight or not _is_passing(self._files.broken.get(self._files.name(number))):
                self._gone = []
            else:
                self._gone.append(number)

    def _check_gone(self):
        """Raise `OSError` where so many have gone in a row that it is no accident."""
        if len(self._gone) >= LOST:
            what = "training" if self.training else "validation"
            of = f"last {len(self._gone):,} of {len(self.split):,} images for {what}"
            self._fail(of, self._files.take(self._gone[:1]))

    def _fail(self, what, files):
        name = files.name(0)
        why = files.broken.get(name)
        received = f"none of the {what} can be read, such as {called(name)}"
        self.failure = OSError(f"{received}: {why}" if why else received)
        raise self.failure

    def __getstate__(self):
        """Without what is being got ready, which is for this process."""
        return {**self.__dict__, "_reader": None, "_ahead": {}}

    def _next(self, epoch, index):
        """A batch; those behind it are begun in a thread."""
        self._reader = self._reader or ThreadPoolExecutor(1)
        before, ahead = self._ahead, {}
        for key in [(epoch, step) for step in range(index, min(index + 1 + AHEAD, len(self)))]:
            known = before.get(key)
            failed = known is None or known.cancelled() or (known.done() and known.exception())
            ahead[key] = self._reader.submit(self.batch, *key) if failed else known
        self._ahead = ahead
        for key in before.keys() - ahead.keys():
            before[key].cancel()
        return ahead[epoch, index].result()

    def batch(self, epoch, step):
        """One batch, whatever was asked for before.

        Args:
            epoch: counted from 0.
            step: its number in the epoch, from 0.

        Returns:
            (float32 [batch, height, width, channels], in [-1, 1] if `scaled`; int32 [batch], or float32 [batch,
            classes] where labels are mixed, and 0 and 1 where an image may have several). Of images that are read from
            files there are weights as well, float32 [batch].
        """
        chosen, weights, seed = self._indices(epoch, step), (), [self.seed, epoch, 1, step]
        labels = self.split.labels[chosen].astype("float32" if self.split.several else "int32")
        if self._files is not None:
            images, labels, *weights = self._read(chosen, labels, seed)
        else:
            images = self.split.images[chosen]
            if self.augmented:
                images = augment(images, self.augmentation, np.random.default_rng(seed), **self._varied)
        if self.augmentation in ALTERNATING:
            images = self._mirrored(images, chosen, epoch)
        if self.image_size is not None:
            images = resized(images, self.image_size)
        images = normalize(images) if self.scaled or self._mixing else images.astype("float32")
        if self._mixing:
            images, labels = self._mixing(images, labels, [self.seed, epoch, 2, step])
            images = images if self.scaled else (images + 1) * np.float32(127.5)
        return images, labels, *weights

    def _mirrored(self, images, chosen, epoch):
        """Images with those mirrored whose turn it is in an epoch: half of all, the others in the next one."""
        if self._first is None:
            self._first = np.random.default_rng([self.seed, 3]).random(len(self.split)) < 0.5
        turn = (self._first[chosen] ^ bool(epoch % 2))[:, None, None, None]
        return np.where(turn, images[:, :, ::-1], images)

    def _read(self, chosen, labels, seed):
        """Images of files, varied, each from a seed of its own: the threads that read them come in any order."""
        files = self._files.take(chosen)
        height, width = files.image_size
        options = {**self._varied, "aspect": width / height}

        def varied(place, decode):
            return vary(decode, self.augmentation, np.random.default_rng([*seed, place]), **options)

        found, broken = files.make(varied) if self.augmented else files.read()
        weights = np.ones(len(chosen), "float32")
        weights[list(broken)] = 0
        if self.training:
            self._lost = self._lost + len(chosen) if len(broken) == len(chosen) else 0
            if self._lost >= LOST:
                of = "a batch" if self._lost == len(chosen) else "batches in a row"
                self._fail(f"{self._lost} images of {of}", files)
        if broken and weights.any():  # the batch's statistics are then those of images
            found[list(broken)] = found[another := weights.argmax()]
            if self._mixing:  # and what is mixed with it has its label
                labels[list(broken)] = labels[another]
        return found, labels, weights

    def on_epoch_begin(self):
        """Called by Keras."""
        self._running, self._complete = True, False

    def on_epoch_end(self):
        """Called by Keras, which also calls it without an epoch before it, and after a look at one batch."""
        if self._running and self._complete:
            self._epoch += 1
        self._running = False

    def _indices(self, epoch, step):
        """Numbers of a batch's images."""
        part = slice(step * self.batch_size, (step + 1) * self.batch_size)
        if not self.training:
            return np.arange(*part.indices(len(self.split)))
        order = self._order
        if order is None or order[0] != epoch:
            self._order = order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.split))
        return order[1][part]


def readable(batch):
    """(images, labels) of one of the `Batches`, without images of weight 0."""
    images, labels, *weights = batch
    return (images[weights[0] > 0], labels[weights[0] > 0]) if weights else (images, labels)


def _is_passing(reason):
    """Whether the reason of a failure, or None, says nothing of the file: it is the system's, or no memory left."""
    return reason is not None and (reason in PASSING or "memory" in reason.lower())
