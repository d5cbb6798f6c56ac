"""Files that are replaced in one step, and folders that can be written."""

import os
import tempfile
from pathlib import Path


def write_atomically(path, content):
    """Replace a file in one step: whoever reads it, also after a crash, sees the old bytes or all the new ones.

    Args:
        path: the file; its folder must exist.
        content: bytes.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file stays.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(path.parent)


def check_folder(name, path):
    """Raise `ValueError` unless the argument called `name` is a folder that can be written, or made; leaves nothing."""
    path = Path(path).absolute()
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        for folder in missing:
            folder.rmdir()
    except OSError as error:
        raise ValueError(
            f"`{name}` must be a folder that can be written. Received: {path} ({error.strerror})"
        ) from None


def sync_folder(path):
    """Make a new name in a folder last through a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
