"""The directory of a search holds children of one kind."""

import json
import logging
from dataclasses import asdict

from nasnet_keras.files import write_atomically

logger = logging.getLogger(__name__)


def check_children(directory, child, data):
    """A search compares children; raises `ValueError` if those of another size or on other images would join it."""
    path = directory / "children.json"
    now = {**asdict(child), "data": data.name, "image_shape": data.image_shape, "train_images": len(data.train)}
    now = json.loads(json.dumps(now))
    try:
        then = json.loads(path.read_bytes())
    except FileNotFoundError:
        then = None
    except ValueError:
        path.replace(path.with_name(f"{path.name}.damaged"))
        logger.warning(
            "%s cannot be read and is kept as %s.damaged; the children are taken to be these", path, path.name
        )
        then = None
    if then is None:
        write_atomically(path, json.dumps(now, indent=1).encode())
        return
    for key in (key for key in now if then.get(key) != now[key]):
        raise ValueError(
            f"`directory` {directory} holds a search whose children have another `{key}`: "
            f"{then.get(key)!r}. Received: {now[key]!r}. Choose another directory"
        )
