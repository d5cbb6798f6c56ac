"""A head trained on what cells that stand still make of images: computed once for each image, and kept on disk.

With fixed cells the features in front of the classifier are a function of the image. A view is an image as one epoch's
augmentation has it: view 0 is what an undisturbed first epoch sees, view 1 what the second one sees, and so on. With
`views` of them epoch e learns from view e % views, so as many views as epochs change nothing, and without augmentation
one view does not: on TensorFlow not a bit (with dropped paths in the cells, the head's dropout is drawn otherwise).

They lie in one file in the folder of the phase, 4 · channels + 1 bytes for each view of a training image and for each
validation image, reserved before anything is computed. It goes with the end of the phase. What is in it counts only for
the same images, cells and settings: its name says which.
"""

import hashlib
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

import keras
import numpy as np

from nasnet_keras.data.batches import Batches
from nasnet_keras.files import writing
from nasnet_keras.models.functions import on_accelerator
from nasnet_keras.models.seeds import drawn_from
from nasnet_keras.training import fitting

POOL = "global_pool"  # whose output the features are
HEAD = ("dropout", "logits", "predictions")  # what stands behind it
READ, BROKEN = 1, 2  # states of an image; 0: not computed yet


def fit_head(model, data, recipe, *, views, epochs, seed=0, directory=None, progress=None, **options):
    """As `fitting.fit` of a network of which the head alone learns, on features that are computed once.

    Args:
        model: a `NASNet` with its classifier, whose cells stand still.
        data, recipe, epochs, seed, directory: as for `fitting.fit`; without a `directory` a temporary file serves.
        views: how many views of each training image are computed.
        progress: None, or a function called with the number of images whose features are there, and of all.
        **options: further arguments of `fitting.fit`. Callbacks see the head alone as their model.

    Returns:
        The history.

    Raises:
        ValueError: there is no room for the features.
    """
    head = _head_of(model)
    with _kept(model, data, recipe, seed, min(views, epochs), directory, progress) as features:
        options |= {"epochs": epochs, "seed": seed, "directory": directory}
        history = fitting.fit(head, data, recipe, features=features, head_views=views, **options)
    for layer in head.layers:
        if layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())
    return history


def clear(directory):
    """Remove the features that a phase, which is over, has left in its folder."""
    for file in Path(directory).glob("features-*.bin"):
        file.unlink()


def _head_of(network):
    """The layers behind the pool as a model of features, with weights of their own."""
    features = result = keras.Input(network.get_layer(POOL).output.shape[1:], name="features")
    layers = [layer for layer in network.layers if layer.name in HEAD]
    with drawn_from(0):  # the weights are replaced, and the caller's random numbers stay
        for layer in layers:
            result = type(layer).from_config(layer.get_config())(result)
    head = keras.Model(features, result, name=network.name)
    for layer in layers:
        head.get_layer(layer.name).set_weights(layer.get_weights())
    head.class_names = network.class_names
    return head


@contextmanager
def _kept(network, data, recipe, seed, views, directory, progress):
    """The `Features` of a phase, whose file goes if it ends well; after an interruption the next one finds it."""
    with tempfile.TemporaryDirectory() if directory is None else nullcontext(directory) as folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        model = keras.Model(network.input, network.get_layer(POOL).output, name="features")
        path = Path(folder) / f"features-{_digest(model, data, recipe, seed, views)}.bin"
        yield Features(network, model, path, views, len(data.train), len(data.validation), progress)
        clear(folder)


def _digest(model, data, recipe, seed, views):
    """What features follow from, in sixteen digits: weights of the cells, settings, and which images there are."""
    varied = ("augmentation", "cutout", "rand_augment", "erasing", "batch_size")
    images = data.digest or [data.train.digest(), data.validation.digest()]
    known = [model.get_config(), images, data.image_shape, data.grey_range, seed, views, keras.backend.backend()]
    known += [asdict(recipe)[name] for name in varied]
    known += ["crop sides"] * recipe.crops  # views of an earlier version were other ones
    digest = hashlib.blake2b(json.dumps(known, default=str).encode(), digest_size=8)
    for weight in model.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)))
    for split in (data.train, data.validation):
        digest.update(len(split).to_bytes(8, "big"))
        if split.files is None:
            digest.update(np.ascontiguousarray(split.images))
            continue
        for name in map(split.files.name, range(len(split))):
            digest.update(name if isinstance(name, bytes) else os.fsencode(name) + b"\0")
    return digest.hexdigest()


class Features:
    """What a network makes of images in front of its classifier, kept in a file.

    Called as `Batches` is, it gives batches of features.

    Args:
        network: a `NASNet`.
        model: the part of it that gives features [batch, channels].
        path: the file.
        views: of each training image.
        train, validation: how many images there are.
        progress: as for `fit_head`.
    """

    def __init__(self, network, model, path, views, train, validation, progress=None):
        self.network, self.views, self.train = network, views, train
        self.compute, self.progress = _compiled(model), progress or (lambda done, total: None)
        self.path, self.shape = path, (views * train + validation, model.output_shape[-1])
        self.values = self.states = None

    def open(self):
        """Make room for them in the place of others, once their training is known to be the folder's.

        Raises:
            ValueError: there is no room for the file.
        """
        if self.values is not None:
            return
        for other in set(self.path.parent.glob("features-*.bin")) - {self.path}:
            other.unlink()
        rows, channels = self.shape
        _reserve(self.path, rows * (4 * channels + 1))
        self.values = np.memmap(self.path, np.float32, "r+", shape=(rows, channels))
        self.states = np.memmap(self.path, np.uint8, "r+", offset=self.values.nbytes, shape=(rows,))
        self.states[self.states == BROKEN] = 0  # a drive may have come back

    def __call__(self, split, batch_size, **options):
        """The batches of a split; arguments as for `Batches`."""
        return FeatureBatches(split, batch_size, features=self, **options)

    def keep(self, rows, values, weights):
        """Keep features: first they, then that they are there, whatever moment a machine stops at."""
        self.values[rows] = values
        self.values.flush()
        self.states[rows] = np.where(weights > 0, READ, BROKEN)


class FeatureBatches(Batches):
    """`Batches` with features [batch, channels] in the place of images; an epoch's have to be filled in before.

    Args:
        split, batch_size, **options: as for `Batches`.
        features: a `Features`.
    """

    def __init__(self, split, batch_size, *, features, **options):
        super().__init__(split, batch_size, **options)
        self._features = features

    def fill(self, epoch):
        """Compute what an epoch needs and is not there, in the batches of the epoch whose view it is.

        Raises:
            OSError: the last images cannot be read any more.
        """
        view, features = self._view(epoch), self._features
        features.open()  # what is trained here goes on by now, or begins
        steps = range(-(-len(self.split) // self.batch_size))  # the images that training leaves out as well
        rows = {step: self._rows(view, self._indices(view, step)) for step in steps}
        missing = [step for step in steps if not features.states[rows[step]].all()]
        done, total, read = 0, sum(len(rows[step]) for step in missing), super().batch
        self._gone = []
        with ThreadPoolExecutor(1) as reader:  # a batch is read while the one before is computed
            coming = [reader.submit(read, view, step) for step in missing[:1]]
            for step, after in zip(missing, [*missing[1:], None] if missing else (), strict=True):
                images, _, *weights = coming.pop().result()
                if after is not None:
                    coming.append(reader.submit(read, view, after))
                values = np.asarray(features.compute(images))
                weights = weights[0] if weights else np.ones(len(images))
                features.keep(rows[step], values, weights)
                self._note_gone(self._indices(view, step), weights)
                done += len(images)
                features.progress(done, total)
        self._check_gone()  # else they would be missing in every epoch

    def batch(self, epoch, step):
        """(Features, labels) of a batch, and weights where images are files."""
        chosen = self._indices(epoch, step)
        rows = self._rows(self._view(epoch), chosen)
        states = self._features.states[rows]
        if not states.all():
            raise RuntimeError(f"the features of epoch {epoch + 1} are not there")
        labels = self.split.labels[chosen].astype("float32" if self.split.several else "int32")
        weights = () if self._files is None else ((states == READ).astype("float32"),)
        return self._features.values[rows], labels, *weights

    def callback(self):
        """A Keras callback that fills in what each epoch needs."""
        return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs=None: self.fill(epoch))

    def _view(self, epoch):
        return epoch % self._features.views if self.training else 0

    def _rows(self, view, chosen):
        first = view * self._features.train if self.training else self._features.views * self._features.train
        return first + chosen


def _compiled(model):
    """Images to features, for batches of any size."""
    if keras.backend.backend() != "tensorflow":
        return model.predict_on_batch
    import tensorflow as tf

    signature = [tf.TensorSpec(model.input_shape, tf.float32)]
    function = partial(model, training=False)
    return tf.function(function, input_signature=signature, autograph=False, jit_compile=on_accelerator())


def _reserve(path, size):
    """Make a file of a size, unless it is there, whose room nobody else can take any more."""
    if path.exists() and path.stat().st_size == size:
        return
    try:
        with writing(path, size), path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise ValueError(
            f"`head_views` must leave room on the disk of {path.parent}: the features take {size / 1e9:.2g} GB. "
            f"Received: {error.strerror}; fewer views take less, and without it (`--head-views 0`) none are kept"
        ) from None
