"""What the commands share: how they load data, and how they speak."""

import json
import sys

from nasnet_keras.data import load_data
from nasnet_keras.progress import decoding


def load(options, model=None):
    """The `Data` that the options name, in the size of the model's input if it has one."""
    size = options.image_size
    if size is None and model is not None and None not in model.input_shape[1:3]:
        size = tuple(model.input_shape[1:3])
    with decoding() as progress:
        data = load_data(
            options.data,
            image_size=size,
            validation=options.validation,
            seed=options.seed,
            limit=options.limit,
            progress=progress,
        )
    if options.command != "evaluate" and not len(data.validation):
        raise ValueError(
            f"`validation` must be above 0: a training watches such images. Received: {options.validation!r}"
        )
    return data


def percent(value):
    """A share as text; a dash for None."""
    return "—" if value is None else f"{100 * value:.2f}%"


def finish(options, figures):
    """Print the figures as one line of JSON, if that is wanted."""
    sys.stdout.flush()
    if options.json:
        print(json.dumps(figures))
