"""Files that are replaced in one step, and folders that can be written."""

import os
import tempfile
from contextlib import suppress
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


def make_folder(name, path):
    """The folder that the argument called `name` is, as an absolute path; made if need be.

    Raises:
        ValueError: it cannot be made, or nothing can be written there.
    """
    path = Path(path).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise ValueError(
            f"`{name}` must be a folder that can be written. Received: {path} ({error.strerror})"
        ) from None


def check_folder(name, path):
    """Raise `ValueError` where `make_folder` would; what it made is gone again."""
    path = Path(path).absolute()
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    make_folder(name, path)
    with suppress(OSError):  # somebody else has begun to use it
        for folder in missing:
            folder.rmdir()


def sync_folder(path):
    """Make a new name in a folder last through a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
