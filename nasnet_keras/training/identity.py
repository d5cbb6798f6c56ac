"""Which training a directory belongs to: what must be the same for it to go on there."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from nasnet_keras.checks import first_difference
from nasnet_keras.files import read_object

HISTORY = "history.json"
PHASES = ("head", "cells", "all")  # of a fine-tuning, each with a folder of its own
ADVICE = "Choose another directory, or what it was begun with"


def training_identity(data, recipe, seed, sizes=None):
    """What a training is known by, JSON-able.

    Args:
        data: a `data.Data`.
        recipe: a `recipes.Recipe`.
        seed: the training's seed.
        sizes: image sizes, or None.
    """
    number = len(data.train) + data.train.broken  # whether they have been read yet or not
    known = {"classes": data.class_names, "number of training images": number, "seed": seed}
    known |= {"images": data.digest} if data.digest else {}
    known["grey range"] = data.grey_range
    known |= {"image sizes": sizes and list(sizes), **{f"`{name}`": value for name, value in asdict(recipe).items()}}
    return json.loads(json.dumps(known))


def check_resumption(directory, identity):
    """Raise `ValueError` if a directory is known to hold the state of a training of another identity."""
    known = _identity(directory)
    if different := first_difference(known, identity, [what for what in known if what in identity]):
        raise ValueError(
            f"`directory` {directory} holds the state of another training: it has other {different[0]}. {ADVICE}"
        )


def check_phases(directory, names):
    """Raise `ValueError` if a directory holds a fine-tuning that has other phases than these."""
    for name in set(PHASES) - set(names):
        if (Path(directory) / name / HISTORY).exists():
            raise ValueError(
                f"`directory` {directory} holds another fine-tuning: its phase {name} is none of this one's. {ADVICE}"
            )


def known_seed(directory):
    """The seed of the training that made the model in a directory, which its test images follow from; or None."""
    for place in (Path(directory), *(Path(directory) / name for name in PHASES)):
        seed = _identity(place).get("seed")
        if type(seed) is int and seed >= 0:
            return seed
    return None


def has_begun(directory):
    """Whether a training has left anything in a directory that it could go on from, or a model."""
    directory = Path(directory)
    places = [directory / "model.keras", directory / HISTORY, *(directory / name / HISTORY for name in PHASES)]
    return any(os.path.exists(place) for place in places)


def _identity(directory):
    try:
        identity = read_object(Path(directory) / HISTORY).get("identity")
    except (OSError, ValueError):
        return {}  # new, or damaged: for those who read all of it
    return identity if isinstance(identity, dict) else {}
