"""The directory of a search holds children of one kind."""

import json
import logging
from dataclasses import asdict

from nasnet_keras.files import read_object, write_atomically

logger = logging.getLogger(__name__)

FILE = "children.json"


def description(child, data=None):
    """What all children of a search have in common, JSON-able; without data, as far as the child tells."""
    common = {} if data is None else {
        "data": data.name, "image_shape": data.image_shape, "train_images": len(data.train),
    }  # fmt: skip
    return json.loads(json.dumps({**asdict(child), **common}))


def compare_children(directory, now):
    """Raise `ValueError` if a directory is known to hold children of another `description`; nothing is changed."""
    try:
        then = read_object(directory / FILE)
    except (OSError, ValueError):
        return
    for key in (key for key in now if then.get(key) != now[key]):
        raise ValueError(
            f"`directory` {directory} holds a search whose children have another `{key}`: "
            f"{then.get(key)!r}. Received: {now[key]!r}. Choose another directory"
        )


def keep_children(directory, now):
    """Write down what the children of this directory are, or compare.

    Raises:
        ValueError: as `compare_children`.
    """
    path = directory / FILE
    try:
        read_object(path)
    except ValueError:
        path.replace(path.with_name(f"{path.name}.damaged"))
        logger.warning(
            "%s cannot be read and is kept as %s.damaged; the children are taken to be these", path, path.name
        )
    except FileNotFoundError:
        pass
    if not path.exists():
        write_atomically(path, json.dumps(now, indent=1).encode())
    compare_children(directory, now)
