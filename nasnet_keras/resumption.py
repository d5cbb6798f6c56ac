"""Which training a directory belongs to: what must be the same for it to go on there."""

import json
from pathlib import Path

from nasnet_keras.files import read_object

HISTORY = "history.json"


def training_identity(data, seed, sizes=None):
    """What a training is known by, JSON-able.

    Args:
        data: a `data.Data`.
        seed: the training's seed.
        sizes: image sizes, or None.
    """
    known = {"classes": data.class_names, "number of training images": len(data.train), "seed": seed}
    return json.loads(json.dumps({**known, "image sizes": sizes and list(sizes)}))


def check_resumption(directory, identity):
    """Raise `ValueError` if a directory is known to hold the state of a training of another identity."""
    try:
        then = read_object(Path(directory) / HISTORY).get("identity")
    except (OSError, ValueError):
        return  # new, or damaged: for those who read all of it
    for what, value in then.items() if isinstance(then, dict) else ():
        if what in identity and identity[what] != value:
            raise ValueError(f"`directory` {directory} holds the state of another training: it has other {what}")
