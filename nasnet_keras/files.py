"""Files that are replaced in one step, and folders that can be written."""

import errno
import json
import os
import tempfile
from contextlib import contextmanager, suppress
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
    with _writable(name, "a folder", path):
        path.mkdir(parents=True, exist_ok=True)
        _write_in(path)
    return path


def check_folder(name, path):
    """Raise `ValueError` where `make_folder` would, as far as that can be told without making anything."""
    path = Path(path).absolute()
    with _writable(name, "a folder", path):
        _try(path)


def check_file(name, path, suffix):
    """Raise `ValueError` unless the argument called `name` is a file of a kind that can be written, or made.

    Its folder may have to be made; nothing is made here.
    """
    path = Path(path).absolute()
    if path.suffix != suffix:
        raise ValueError(f"`{name}` must be a {suffix} file. Received: {path}")
    with _writable(name, "a file", path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _try(path.parent)


@contextmanager
def _writable(name, what, path):
    try:
        yield
    except OSError as error:
        raise ValueError(f"`{name}` must be {what} that can be written. Received: {path} ({error.strerror})") from None


def _try(folder):
    there = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
    _write_in(there)
    for name in folder.relative_to(there).parts:
        with suppress(FileNotFoundError):
            os.lstat(there / name)  # it may be too long


def _write_in(folder):
    with tempfile.TemporaryFile(dir=folder):
        pass


def read_object(path):
    """The JSON object in a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, or is damaged.
    """
    return parse_object(Path(path).read_bytes(), path)


def parse_object(content, label):
    """The JSON object that some bytes are; raises `ValueError` with the label if they are something else."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise ValueError(f"{label} must hold a JSON object")
    return data


def sync_folder(path):
    """Make a new name in a folder last through a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
