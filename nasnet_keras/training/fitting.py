"""Fitting that goes on where it stopped, the drop-path schedule, what a trained model predicts.

Nothing here knows a genotype: a model and data come in, a trained model and figures go out.
"""

import json
import logging
import math
import os
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np

from nasnet_keras.checks import as_integer, check_integer
from nasnet_keras.data.batches import Batches
from nasnet_keras.data.images import luma
from nasnet_keras.data.loading import normalize
from nasnet_keras.data.records import write_record
from nasnet_keras.data.splits import check_classes, in_order_of, placed, renumbered
from nasnet_keras.files import alone_in, expanded, writing
from nasnet_keras.models import answers
from nasnet_keras.models.drop_path import ScheduledDropPath
from nasnet_keras.models.layers import ProgramLayer
from nasnet_keras.models.nesting import layers_within
from nasnet_keras.models.seeds import drawn_from
from nasnet_keras.training import devices as several
from nasnet_keras.training.compilation import compile_model, factors_of, set_length
from nasnet_keras.training.figures import best_thresholds, figures_of
from nasnet_keras.training.identity import (
    OTHERS,
    PHASES,
    SIZE,
    START,
    check_place,
    content_identity,
    is_used,
    known_epochs,
    network_identity,
    training_identity,
)
from nasnet_keras.training.recipes import check_devices, check_hours, check_updates, remarks, stages

JUDGED, LEAST_JUDGED, JUDGED_PIXELS = 256, 16, 4_194_304  # images that are looked at together, see `images_at_a_time`

logger = logging.getLogger(__name__)


class _StopOnNaN(keras.callbacks.Callback):
    """Ends a run whose loss is no number: nothing can be learnt after that."""

    def on_train_batch_end(self, batch, logs=None):
        if "loss" in (logs or {}):
            check_loss(logs["loss"], self.epoch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


class _EpochOf(keras.callbacks.Callback):
    """Tells batches which epoch they belong to."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch


class _Averages(keras.callbacks.Callback):
    """Validates averaged weights, and goes on with the others, which Keras replaces by the average after each `fit`."""

    def _keep(self, *_, **__):
        self.kept = [keras.ops.convert_to_numpy(variable) for variable in self.model.trainable_variables]

    def _give_back(self, *_, **__):
        for variable, value in zip(self.model.trainable_variables, self.kept, strict=True):
            variable.assign(value)

    def on_test_begin(self, logs=None):
        self._keep()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    on_test_end, on_epoch_end, on_train_end = _give_back, _keep, _give_back


class _Shown(keras.utils.PyDataset):
    """Batches from a step on, with labels that go to each of a network's outputs by name, if there are several."""

    def __init__(self, batches, heads=(), start=0):
        super().__init__()
        self.batches, self.heads, self.start = batches, heads, start

    def __len__(self):
        return len(self.batches) - self.start

    def __getitem__(self, index):
        images, *others = self.batches[self.start + index]  # labels, and weights where images are files
        return images, *(dict.fromkeys(self.heads, values) if self.heads else values for values in others)

    def on_epoch_begin(self):
        self.batches.on_epoch_begin()

    def on_epoch_end(self):
        self.batches.on_epoch_end()


class _Viewed(keras.utils.PyDataset):
    """Batches whose images are changed on the way to the model."""

    def __init__(self, batches, view):
        super().__init__()
        self.batches, self.view, self.split = batches, view, batches.split

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        images, *others = self.batches[index]
        return self.view(images), *others


def _shown(model, batches, start=0):
    heads = answers.heads(model)
    return _Shown(batches, heads, start) if heads or start else batches


def fit(
    model,
    data,
    recipe,
    *,
    epochs,
    first=0,
    seed=0,
    directory=None,
    callbacks=(),
    validate=True,
    patience=None,
    class_weights=None,
    rates=None,
    sizes=None,
    checkpoint_every=None,
    hours=None,
    devices=None,
    remat=False,
    mixing="processor",
    features=None,
    head_views=None,
    start=None,
):
    """Train a model, or go on with a training that was interrupted in `directory`.

    Args:
        model: a Keras classifier, or one with the outputs `{"predictions", "auxiliary"}`. The loss follows from what it
            answers with, and the range of its images from how it prepares them, see `models.answers`. Where it names
            its classes, labels go to them by name.
        data: a `data.Data`; its train split is learnt from, its validation split watched.
        recipe: a `Recipe`.
        epochs: epochs in all, those before an interruption included.
        first: epochs that another training has done before, which count among `epochs`.
        seed: seed of the order of images, of augmentation, drop path and dropout.
        directory: where to keep the state after each epoch, None for nowhere.
        callbacks: further Keras callbacks.
        validate: whether to measure the validation split after each epoch.
        patience: stop after this many epochs without a better validation accuracy (of several labels an image, a lower
            validation loss), and in any case end with the best epoch's weights; None: all epochs, and the last one's
            weights.
        class_weights: a factor for the loss of each class, in an array or by the number or name of the class in a
            mapping; `"balanced"`: one that makes all classes count the same.
        rates: a factor on the learning rate for each of `model.trainable_variables`.
        sizes: lengths of the images' shorter side in pixels, each for an equal part of the epochs: small first learns
            faster (progressive resizing, Tan & Le 2021, arXiv 2104.00298, section 4). Images keep their proportions,
            and the model must take images of any size.
        checkpoint_every: steps after which the state is kept within an epoch too, and goes on from there.
        hours: how long the training may take. After its first epoch, whose learning rate follows the schedule of
            `epochs`, the epochs that fit are fixed once and kept, `epochs` at most; then the rate follows theirs.
        devices: how many devices share each batch, or `"all"`; None: one. Callbacks see the copies as their model, and
            the model itself gets the weights at the end, see `devices.spread`. Of several hosts (`devices.join`) all
            devices share it, and the first host writes.
        remat: whether cells keep nothing for their gradients but what they read, and compute the rest a second time:
            less memory, longer steps, the same result.
        mixing: where images are erased and mixed, as for `Batches`.
        features: None, or a `features.Features`: the model learns from what a network makes of the images.
        head_views, start: of `transfer.fine_tune`, by which a training is known: its own argument, and a digest of the
            weights that it starts from, or None.

    Returns:
        The history: one dict an epoch.

    Where a training goes on for longer than it was begun for, or at a lower rate after a loss that is no number, the
    log says what that means, and `history.json` keeps it.

    Raises:
        FloatingPointError: the loss is not finite; the last finite state is kept.
        ValueError: no epochs, an argument out of range, a model whose answers cannot be told, or a `directory` with the
            state of another training, or in which another one is at work.
        OSError: `directory` is full; the state of the epoch before stays.
    """
    epochs, first, seed, patience, checkpoint_every = map(as_integer, (epochs, first, seed, patience, checkpoint_every))
    devices, sizes = as_integer(devices), sizes if sizes is None else list(map(as_integer, sizes))
    stages(epochs, sizes, first)
    check_integer("patience", patience, least=1, optional=True)
    check_integer("checkpoint_every", checkpoint_every, least=1, optional=True)
    check_hours(hours, sizes)
    is_phase = directory is not None and Path(directory).name in PHASES  # whose model is left in the folder above
    check_place(directory, others=() if is_phase else OTHERS)
    if checkpoint_every and directory is None:
        raise ValueError(f"`checkpoint_every` needs a `directory`. Received: {checkpoint_every!r}")
    epochs = known_epochs(directory, epochs, hours, first)
    if patience and not validate:
        raise ValueError(f"`patience` must be None where nothing is validated. Received: {patience!r}")
    identity = training_identity(data, recipe, seed, sizes, head_views)
    identity |= {} if directory is None else content_identity(data, validate)
    identity |= {} if start is None else {START: start}
    weights = factors_of(class_weights, data)
    number = several.number_of("all" if devices is None and several.hosts() > 1 else devices)
    data, weights = _in_order(model, data, weights)
    batches = training_batches(data, recipe, seed, mixing=mixing)
    if mixing == "device" and not (first or recipe.mixes or recipe.erasing):
        logger.warning("`mixing` device is not used: it is for `erasing`, `mixup` and `cutmix`")
    check_devices(number, recipe.batch_size, len(data.train))
    if validate and not len(data.validation):
        raise ValueError("`validate` must be False where the data have no validation images. Received: True")
    check_updates(recipe, len(batches), epochs - first)
    steps, length = len(batches), {"first": first, "every": checkpoint_every, "hours": hours}
    length["least"] = -(-recipe.gradient_accumulation // steps)  # epochs in which there is an update
    with several.spread(model, number) as model, _recomputing(model, remat):
        compile_model(model, recipe, steps, epochs - first, weights, rates, data.several)
        several.adapt(model)
        if sizes:  # a network for any size does not tell in which one images come
            identity[SIZE] = list(data.image_shape[:2])
        balanced = isinstance(class_weights, str)  # of which there is no other word
        identity |= network_identity(features.network if features else model, weights, rates, balanced)
        state = several.checkpoints(directory, seed, patience=patience, identity=identity, epochs=epochs, **length)
        with several.only_first(_kept(state.directory, data)):
            state.restore(model)
            several.agree(
                {
                    "data and recipe": json.dumps(identity),
                    "history": json.dumps([state.history, state.step]),
                    "epochs, patience, hours and checkpoint_every": json.dumps([state.settings, length]),
                }
            )
            _remark(model, recipe, steps, state)
            try:
                with state.interruptible():
                    _fit(model, data, recipe, state, sizes, seed, callbacks, validate, number, mixing, features)
            except FloatingPointError as error:
                state.fail(error)
                raise
            state.finish(model)
    return state.history


@contextmanager
def _recomputing(model, remat):
    """A context in which a model's cells keep little for gradients, if that is wanted."""
    cells = [layer for layer in layers_within(model) if isinstance(layer, ProgramLayer)]
    before = [cell.remat for cell in cells]
    for cell in cells:
        cell.remat = bool(remat)
    try:
        yield
    finally:
        for cell, value in zip(cells, before, strict=True):
            cell.remat = value


@contextmanager
def _kept(directory, data):
    """A training's directory to itself, with the record of its data; None for none."""
    if directory is None:
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    with alone_in("directory", directory):
        if not is_used(directory):  # else it is there, or an old rule holds
            write_record(directory, data)
        yield


def _remark(model, recipe, steps, state):
    """Say what has no effect in a training, once it is known how many epochs it has."""
    if not state.is_measuring():
        epochs = state.settings["epochs"] - state.first
        for line in remarks(recipe, steps, epochs, getattr(model, "architecture", None)):
            logger.warning(line)


def _fit(model, data, recipe, state, sizes, seed, callbacks, validate, number, mixing, features):
    """The epochs that are left."""
    network, kind = (features.network, features) if features else (model, Batches)
    model.stop_training, length, before = False, state.settings["epochs"], None
    copies = [several.Copies(several.filling(len(data.validation), number) if validate else 0.0)] * (number > 1)
    averages = [_Averages()] * bool(recipe.moving_average)
    while not (state.is_over() or model.stop_training):
        epochs, done = state.settings["epochs"], state.first + len(state.history)
        last, size = next(part for part in stages(epochs, sizes, state.first) if part[0] > done)
        measured = state.is_measuring()
        if state.step or measured:
            last = done + 1  # the rest of an epoch, or the one that decides on the others
        shown = {"image_size": _in_proportion(data.image_shape, size), "scaled": not scales_itself(network)}
        batches = training_batches(data, recipe, seed, kind, mixing=mixing, **shown)
        judged = several.batch_of(images_at_a_time(shown["image_size"] or data.image_shape), number)
        watched = kind(data.validation, judged, **shown) if validate else None
        if watched:
            watched.needed = True  # else a drive that has gone away would leave a loss of 0, the best there is
        state.step = min(state.step, len(batches) - 1)  # there are fewer where files cannot be read any more
        if shown != before:
            model.train_function = model.test_function = None  # a graph for this size alone, not one for any size
        if epochs != length:
            set_length(model, recipe, len(batches), epochs - state.first)
        length, before = epochs, shown
        drop_path = ScheduledDropPath.going_on(len(batches) * epochs, len(batches) * done + state.step)
        own = [drop_path, _EpochOf(batches), *copies, *averages, _StopOnNaN(), state]
        if features:  # Keras looks at a batch before the first epoch begins
            batches.epoch = done
            for one in filter(None, (batches, watched)):
                one.fill(done)
            own.append(batches.callback())
        try:
            model.fit(
                _shown(model, several.parts(batches, number), state.step),
                epochs=last,
                initial_epoch=done,
                validation_data=watched and _shown(model, several.parts(watched, number)),
                callbacks=[*own, *callbacks],
                shuffle=False,
                verbose=0,
            )
        except Exception:
            for one in filter(None, (batches, watched)):
                if one.failure is not None:
                    raise one.failure from None
            raise
        if measured:
            _remark(model, recipe, len(batches), state)


def _in_order(model, data, class_weights):
    """The data and the factors of their classes, with labels that count as the model counts its classes."""
    names, count = answers.class_names(model), answers.units(model)
    if count is not None and max(count, 2) < len(data.class_names):
        raise ValueError(f"`model` must have the data's {len(data.class_names)} classes. Received: {max(count, 2)}")
    if data.several and (count != len(data.class_names) or answers.output_kind(model) != "sigmoid"):
        rule = f"end in sigmoid, for each of {len(data.class_names)} labels, where an image may have several"
        raise ValueError(f"`model` must {rule}. Received: {answers.output_kind(model)} of {count}")
    if names is None or names == tuple(data.class_names):
        return data, class_weights
    splits = {part: match_classes(model, data, getattr(data, part)) for part in ("train", "validation")}
    if class_weights is not None:
        class_weights = [class_weights[place] for place in placed(names, data.class_names)]
    return replace(data, **splits), class_weights


def training_batches(data, recipe, seed, kind=Batches, **shown):
    """The training split as `Batches`, or their like, for a recipe; `shown` are further arguments of theirs."""
    names = ("augmentation", "cutout", "rand_augment", "erasing", "mixup", "cutmix")
    varied = {name: getattr(recipe, name) for name in names}
    learnt = {"training": True, "classes": len(data.class_names), "seed": seed, **varied}
    return kind(data.train, recipe.batch_size, **learnt, **shown)


def _in_proportion(image_shape, shorter):
    """`(height, width)` of images whose shorter side has so many pixels; None for those that they have."""
    if shorter is None:
        return None
    return tuple(round(length * shorter / min(image_shape[:2])) for length in image_shape[:2])


def images_at_a_time(shape, most=JUDGED):
    """How many images of `(height, width, …)` are judged together: of large ones fewer, a power of 2.

    A batch of 256 images of 331 pixels would take a NASNetLarge some thirty gigabytes.
    """
    fitting = max(LEAST_JUDGED, JUDGED_PIXELS // (shape[0] * shape[1]))
    return min(most, 1 << fitting.bit_length() - 1)


def evaluate(model, split, batch_size=256, devices=None):
    """Share of a split's images that the model classifies right, and their mean cross-entropy.

    Args:
        model: a classifier; what its outputs are follows from its last layer (`models.answers`). Of outputs
            `{"predictions", …}` these count.
        split: a `data.Split`.
        batch_size: images at a time, at most: fewer of more than 128 pixels, see `images_at_a_time`.
        devices: how many devices share each batch, or `"all"`; None: one.

    Returns:
        `{"accuracy": float, "loss": float, "images": int}`; of no images, None for the figures. Where an image may have
        several labels, `mean_average_precision` in the place of the accuracy, and the loss is summed over labels.

    Raises:
        ValueError: nothing tells what the model answers with, or there are not so many devices.
    """
    return figures_of(*answers_to(model, in_order_of(split, answers.class_names(model)), batch_size, devices))


def answers_to(model, split, batch_size=256, devices=None, view=None):
    """What a model answers to a split's images that can be read: (outputs [n, …], labels [n], kind of outputs).

    Args:
        model, split, batch_size, devices: as for `evaluate`.
        view: None, or a function of images [n, height, width, channels] that gives what the model sees of them.

    Of colours a model of one channel sees the luma, as in `predict`; other images that it does not take are refused.
    """
    if not len(split):
        return np.zeros((0, answers.units(model) or 1), "float32"), split.labels, answers.output_kind(model)
    shape, own = tuple(split.images.shape[1:]), answers.input_shape(model)
    in_grey, scaled = (shape[2], own[2]) == (3, 1), not scales_itself(model)
    shown = (*shape[:2], 1) if in_grey else shape
    # One that has seen nothing yet does not tell what it takes.
    if getattr(model, "inputs", None) and any(side not in (None, one) for side, one in zip(own, shown, strict=True)):
        raise ValueError(f"`split` must have images of the model's shape, {own}. Received: {shape}")
    number = 1 if several.hosts() > 1 else several.number_of(devices)  # each host by itself
    batch_size = several.batch_of(images_at_a_time(shape, batch_size), number)
    batches = Batches(split, batch_size, scaled=scaled and not in_grey)
    for change in filter(None, (partial(_in_grey, scaled=scaled) if in_grey else None, view)):
        batches = _Viewed(batches, change)
    outputs, kind = answers.answered(model, several.predict(model, batches, len(split), number))
    return outputs[split.readable], split.labels[split.readable], kind


def _in_grey(images, scaled):
    """The luma of colours in 0–255, [n, height, width, 1], in -1 to 1 if `scaled`."""
    greys = luma(images.astype("uint8"))
    return normalize(greys) if scaled else greys.astype("float32")


def chosen_thresholds(model, split, batch_size=256):
    """The threshold of each label with the best F1 on a split, see `figures.best_thresholds`; of no images 0.5."""
    outputs, labels, _ = answers_to(model, in_order_of(split, answers.class_names(model)), batch_size)
    return best_thresholds(labels, outputs)


def match_classes(model, data, split):
    """A split whose labels count as the model counts its classes, by name.

    Raises:
        ValueError: the model has other classes than the data.
    """
    names = answers.class_names(model)
    if names is None or names == tuple(data.class_names):
        return split
    check_classes(names, data.class_names)
    return replace(split, labels=renumbered(split.labels, data.class_names, names), class_names=names)


def save_model(model, directory, **changes):
    """Leave the trained network in `directory/model.keras`, in one step.

    What only training needs stays behind: the optimiser, the loss, the auxiliary head.

    Args:
        model: a `NASNet`.
        directory: made if it is not there.
        **changes: arguments of the network that are other ones from now on, such as `input_shape`.

    Raises:
        OSError: it cannot be written; a model that lay there stays.
    """
    directory = Path(expanded(directory))
    directory.mkdir(parents=True, exist_ok=True)
    if model.architecture.include_top and not model.architecture.feature_pyramid:
        activation = model.get_layer("predictions").activation  # as it is now
        if activation is not keras.activations.get(model.architecture.classifier_activation):
            changes = {"classifier_activation": keras.activations.serialize(activation), **changes}
    with drawn_from(0):  # the weights are replaced, and the caller's random numbers stay
        bare = model.alike(auxiliary_head=False, **changes)
    for layer in (layer for layer in bare.layers if layer.weights):
        layer.set_weights(model.get_layer(layer.name).get_weights())
    temporary = directory / ".model.keras"
    with writing(temporary):
        bare.save(temporary)
    os.replace(temporary, directory / "model.keras")


def scales_itself(model):
    """Whether the model takes images in 0–255 and prepares them itself, see `models.answers.takes_pixels`."""
    return answers.takes_pixels(model)


def predict(model, batches):
    """Class probabilities [n, classes] as a NumPy array, in evaluation mode, of `Batches` or an array of images."""
    return answers.probabilities(model, model.predict(batches, verbose=0))


def check_loss(loss, epoch):
    """Raise `FloatingPointError` for a loss that is not finite: nothing can be learnt after it."""
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss} in epoch {epoch + 1}: a lower learning rate may help")
