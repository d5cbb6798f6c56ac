"""The data that a command names: found first, so that mistakes are said at once, and decoded later.

What a user should know of them, and what of a folder is left out, is said here, on stderr, a line each.
"""

import os
from dataclasses import replace
from pathlib import Path

from nasnet_keras.commands.options import SHARES, given_columns, given_grey_range
from nasnet_keras.commands.progress import decoding
from nasnet_keras.commands.terminal import tell, without_greetings
from nasnet_keras.data.images import as_size
from nasnet_keras.data.left_out import few, shown
from nasnet_keras.data.loading import MEMORY_LIMIT, decoded, open_data
from nasnet_keras.data.records import Record, division, is_other, knows, read_record, write_record
from nasnet_keras.data.sides import PARTS
from nasnet_keras.data.splits import are_alike, check_classes, placed, renumbered
from nasnet_keras.data.tables import note_of_joined
from nasnet_keras.search.directory import SearchDirectory
from nasnet_keras.training.identity import (
    ADVICE,
    SHAPE,
    SIZE,
    directory_of,
    is_from_training,
    is_used,
    known_names,
    known_seed,
)
from nasnet_keras.weights.zoo import imagenet_names, known_classes, paths_of


def find(options, has_directory=True):
    """The `Data` that the options name, split and not decoded yet; as the directory has kept it, if it has.

    Args:
        options: of a command with `--data`.
        has_directory: whether what lies in `--directory` is the run's own; a worker's is not if it is the default.
    """
    trains = options.command != "evaluate"
    if trains and options.data == "digits":
        require_validation(options, options.validation)  # before scikit-learn is loaded, which takes a second
    place = options.directory if trains else directory_of(options.model)
    # The record of the data is written before the first proposal.
    searched = has_directory and place is not None and SearchDirectory(place).proposals.exists()
    begun = has_directory and (is_used(place) or searched)
    if options.data == "digits" and os.path.isdir("digits"):
        tell("digits are the built-in ones; ./digits is the folder")
    data = _opened(options, trains, division(place, begun, searched or is_from_training(place)))
    if trains and not begun and (kept := _division_of_source(options, data)):
        data = _opened(options, trains, kept)  # what the model was trained on is not tested
    if trains:
        require_validation(options, len(data.validation))
    if trains and begun and data.record and (record := read_record(place)) and is_other(record, data.record):
        raise ValueError(f"`directory` {place} was begun with other images than {shown(data.name)} holds. {ADVICE}")
    return data


def size_identity(options):
    """What of a training's identity is known before images are decoded: the size to which they are brought, if any is.

    Without `sizes` the network is for that size.
    """
    if options.image_size is None:
        return {}
    size = list(as_size(options.image_size))
    return {SIZE: size} if getattr(options, "sizes", None) else {SHAPE: [*size, 3]}


def decode(options, data, model=None, memory_limit=MEMORY_LIMIT, as_files=False):
    """The data of `find` with their images, as `decoded` gives them, in the size of the model's input if it has one."""
    size = None if options.image_size is None else as_size(options.image_size)
    if model is not None:
        from nasnet_keras.models.answers import image_size

        own = _shape_of_data(model)[:2]
        if None not in own:
            size = size or tuple(own)
        elif size is None and options.command == "evaluate":  # as `predict` and an export show them to it
            size = image_size(model)
            tell(f"the model takes images of any size, and sees these at {size[0]}x{size[1]}, or at --image-size")
    with decoding() as progress:
        found = decoded(data, size, memory_limit, progress, options.strict, as_files)
    tell_of(found)
    return found


def tell_of(data):
    """Say what a user should know of data, and what of a folder is not used."""
    for note in data.notes:
        tell(note)
    if data.left_out:
        tell(f"not used of {shown(os.path.basename(os.path.abspath(data.name)))}: {data.left_out.summary()}")


def for_judging(model, data, part, called):
    """A part of the data whose labels are of the model's kind and count as it counts its classes.

    Args:
        model: the model.
        data: a `Data`.
        part: one of `PARTS`.
        called: what the user calls the model, to say that it does not name its classes.

    Returns:
        (the `Split`, a name for each class).

    Raises:
        ValueError: the model has other classes or another kind of labels than the data, or no image can be read.
    """
    from nasnet_keras.models import answers
    from nasnet_keras.training.fitting import match_classes

    _shape_of_data(model)
    names, count = answers.class_names(model), answers.units(model)
    if names is not None:  # which not every file tells before it is loaded
        data = counted_by(names, data)
    split = getattr(data, part)
    if not split.several and answers.thresholds(model) is not None:
        raise ValueError(
            "`data` must say which of several labels an image has, as the model tells. Received: one class each"
            + _way_to_several(data)
        )
    if split.several and answers.output_kind(model) != "sigmoid":
        if not (split.labels.sum(1) == 1).all():
            rule = "one class an image, as the model tells: a column with the names of classes"
            raise ValueError(f"`data` must have {rule}. Received: several labels for an image, or none")
        split = replace(split, labels=split.labels.argmax(1))
        tell("each image has exactly one of the labels: that is its class, of which the model tells one")
    if not split.readable.any():
        left_out = data.all_left_out()
        raise ValueError(
            "`data` must have images to judge the model by that can be read. "
            f"Received: {shown(data.name)}" + (f", with {left_out.summary()}" if left_out else "")
        )
    if count is not None and max(count, 2) != len(names or data.class_names):
        received = len(names or data.class_names)
        raise ValueError(f"`data` must have the model's {max(count, 2)} classes. Received: {received}")
    if names is None:
        names = data.class_names
        if imagenet_names(called, names) is None:
            order = ", ".join(map(shown, names[:20]))
            tell(f"{called} does not name its classes: they are taken to be, in this order, {order}")
    return match_classes(model, data, split), names


def _shape_of_data(model):
    """The input's shape of a model that takes images as data have them; raises `ValueError` for another one."""
    from nasnet_keras.models.answers import input_shape

    shape = input_shape(model)
    if shape[2] != 3:
        raise ValueError(f"`model` must take images of 3 channels, as data have them. Received: {shape[2]}")
    return shape


def counted_as(model, data):
    """Data whose labels count as those of the model that is called so, as far as that is known before it is loaded."""
    names = known_classes(model) or imagenet_names(model, data.class_names)
    return counted_by(names, data) if names else data


def counted_by(names, data):
    """Data whose labels count as a model's classes do, some of which they may lack, which is said."""
    try:
        check_classes(names, data.class_names, some=True)
    except ValueError as error:
        raise ValueError(f"{error}{_way_to_several(data)}") from None
    own = set(placed(data.class_names, names).tolist())
    lacking = [name for number, name in enumerate(names) if number not in own]
    if not lacking:
        return data
    tell(f"{shown(data.name)} has no images of {few(lacking)}, which count as 0 images")
    parts = {
        name: replace(split := getattr(data, name), labels=renumbered(split.labels, data.class_names, names))
        for name in PARTS
    }
    return replace(data, **parts, class_names=tuple(names))


def _way_to_several(data):
    """What a refusal of a table's labels ends with, where they look like several in one."""
    note = note_of_joined(data.class_names)
    return f"; {note}" if note in data.notes else ""


class Told:
    """Tells which files have turned out to be broken while their batches were read, and keeps what the data are.

    Args:
        data: a `Data`.
        directory: where it is kept, None for nowhere.
        remarks: lines to tell once a training begins.
    """

    def __init__(self, data, directory=None, remarks=()):
        self.data, self.directory = data, directory and Path(directory)
        self.known, self.remarks = set(data.left_out), list(remarks)

    def keep(self, logs=None):
        """Write down what the data are."""
        while self.remarks:
            tell(self.remarks.pop(0))
        if self.directory:
            write_record(self.directory, self.data)

    def tell(self, epoch=None, logs=None):
        """Say and keep what is new."""
        left_out = self.data.all_left_out()
        new = {name: left_out.entries[name] for name in left_out if name not in self.known}
        if new:
            self.known |= set(new)
            tell(f"not used: {type(left_out)(left_out.root, new).summary()}")
            self.keep()

    def callback(self):
        """A Keras callback that does so after each epoch."""
        from keras.callbacks import LambdaCallback

        return LambdaCallback(on_train_begin=self.keep, on_epoch_end=self.tell)


def _opened(options, trains, division):
    """The data as they are divided with these arguments of `open_data`; says which options have no say in that."""
    for part, share in (division["held_out"].shares if "held_out" in division else {}).items():
        given = getattr(options, part)
        if given not in (share, SHARES[part]):
            tell(f"--{part} {given:g} is not used: the data were divided with {share:g} when their training began")
    with without_greetings(), decoding("index examples") as progress:  # TensorFlow Datasets loads TensorFlow
        return open_data(
            options.data,
            image_size=options.image_size,
            validation=options.validation,
            test=options.test,
            seed=options.seed,
            limit=options.limit if trains else None,
            strict=options.strict,
            grey_range=given_grey_range(options),
            range_given=options.grey_range is not None,
            columns=given_columns(options),
            progress=progress,
            least_classes=2 if trains else 1,
            all_tested=not trains and options.split == "all",
            **division,
        )


def _division_of_source(options, data):
    """The arguments of `open_data` that divide data as those that this training starts from did; empty for others.

    Weights that are given take the place of the model's own, so it is theirs.
    """
    sources = paths_of(getattr(options, "model", None), getattr(options, "weights", None))
    source = directory_of(sources[-1]) if sources else None
    if not is_used(source):  # what else lies beside a file is somebody else's
        return {}
    kept, seed = read_record(source), known_seed(source)
    record = kept
    alike = are_alike(known_names(source) or _names_in(sources[-1]), data.class_names)
    by_seed = not data.record.is_listed
    known = knows(record, data)
    # What the seed divides: digits, and data of TFDS, of which earlier versions kept no digest.
    if by_seed and (known or (alike and (record is None or record.digest is None))):
        record = record or Record()
        record = replace(record, seed=seed if record.seed is None else record.seed)
        if options.seed and record.seed not in (None, options.seed):
            tell(f"--seed {options.seed} does not divide the data: they are divided by {record.seed}, as for {source}")
        known = known or record.seed is not None
    if alike and not known and (by_seed or kept is None or kept.tells_nothing):
        _tell_of_seed(source, kept)
    return {"held_out": record} if known else {}


def _names_in(path):
    """The classes of a model in a file or a directory, a tuple; of a file of weights nothing says them."""
    try:
        return tuple(known_classes(path) or ())
    except ValueError:
        return ()


def tell_of_seed(model, record, data):
    """Say it where no record says which images a training had, and it may have had these: it had these classes."""
    if (record is None or record.tells_nothing) and are_alike(known_classes(model) or (), data.class_names):
        _tell_of_seed(directory_of(model), record)


def _tell_of_seed(source, record):
    how = "was divided by its seed"
    if record is not None and record.tells_nothing:
        how = "was trained on data of Python, of which no names are kept"
    tell(f"{source} {how}: images that are tested here may have been trained on there")


def count_of_all(data):
    """How many images there are in all parts, and were left out as a model was trained on them."""
    return sum(len(getattr(data, name)) for name in PARTS) + (data.record.untested if data.record else 0)


def tell_of_change(model, data, tested, more=""):
    """Say that a folder is another one than a training had, and how many of its images are tested."""
    every = count_of_all(data)
    changed = f"{shown(data.name)} is not as it was when {model} was trained"
    tell(f"{changed}: {tested:,} of {every:,} images are tested{more}")


def require_validation(options, amount):
    """Raise `ValueError` where no image is left to watch a training by; `amount` is how many, or their share."""
    if not amount:
        rule = "above 0: a training watches such images"
        received = f"{options.validation!r}" + (", and no class has enough images" if options.validation else "")
        raise ValueError(f"`validation` must be {rule}. Received: {received}")
