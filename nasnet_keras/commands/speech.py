"""What the commands share: how they load data, and how they speak."""

import json
import sys
from contextlib import contextmanager

from nasnet_keras.commands.progress import decoding
from nasnet_keras.data import decoded, open_data
from nasnet_keras.images import as_size


def find(options):
    """The `Data` that the options name, split and not decoded yet."""
    if options.image_size is not None:
        as_size(options.image_size)
    trains = options.command != "evaluate"
    if trains and options.data == "digits":
        _require_validation(options, options.validation)  # before scikit-learn is loaded, which takes a second
    data = open_data(options.data, validation=options.validation, seed=options.seed, limit=options.limit)
    if trains:
        _require_validation(options, len(data.validation))
    return data


def _require_validation(options, amount):
    if not amount:
        raise ValueError(
            f"`validation` must be above 0: a training watches such images. Received: {options.validation!r}"
        )


def decode(options, data, model=None):
    """The data of `find` with their images, in the size of the model's input if it has one."""
    size = None if options.image_size is None else as_size(options.image_size)
    if size is None and model is not None and None not in model.input_shape[1:3]:
        size = tuple(model.input_shape[1:3])
    with decoding() as progress:
        return decoded(data, size, progress=progress)


@contextmanager
def needs(extra):
    """Packages are imported inside; one that is missing is a `ValueError` that names the extra to install."""
    try:
        yield
    except ImportError as error:
        raise ValueError(f"`{error.name}` is not installed: pip install nasnet_keras[{extra}]") from None


def percent(value):
    """A share as text; a dash for None."""
    return "—" if value is None else f"{100 * value:.2f}%"


def finish(options, figures):
    """Print the figures as one line of JSON, if that is wanted."""
    sys.stdout.flush()
    if options.json:
        print(json.dumps(figures))
