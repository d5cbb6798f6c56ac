"""Paths as users write them, files that are replaced in one step, folders that can be written, and who may."""

import errno
import fcntl
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import unicodedata
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)

# Why a file could not be written, where a library tells it in words of its own.
REASONS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# How a file's name is encoded, as `os.fsencode` does it, for those who encode a million: `name.encode(*CODE)`.
CODE = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()

SECRET = 16, 256  # characters that a secret has, at least and at most


def expanded(path):
    """A path as the system takes it: a leading `~` or `~somebody` is the home directory. What is no path stays."""
    return os.path.expanduser(path) if isinstance(path, str | os.PathLike) else path


def composed(name):
    """A name with its letters and their accents in one, as most systems keep them; some take them apart (NFD)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def write_atomically(path, content):
    """Replace a file in one step: whoever reads it, also after a crash, sees the old bytes or all the new ones.

    Args:
        path: the file; its folder must exist.
        content: bytes.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file stays.
    """
    file = Growing(path)
    try:
        file.add(content)
    except BaseException:
        file.drop()
        raise
    file.put()


class Growing:
    """A file that grows part by part beside its place, and gets there in one step with whatever parts are whole.

    Args:
        path: the file; its folder must exist, and what lies there stays until `put`.

    Raises:
        OSError: nothing can be written there.
    """

    def __init__(self, path):
        self.path = Path(expanded(path))
        handle, self._temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        self._stream, self._whole = os.fdopen(handle, "wb", buffering=0), 0

    def add(self, part):
        """Write a part, bytes; raises `OSError`, of a full disk for example, and the part does not count then."""
        part = memoryview(part)
        size = len(part)
        while part:
            part = part[self._stream.write(part) :]
        self._whole += size

    def put(self, path=None):
        """Put the parts where they go, or at another path of the same folder. Nothing may be added any more."""
        try:
            with self._stream:
                self._stream.truncate(self._whole)
                os.fsync(self._stream.fileno())
            os.chmod(self._temporary, 0o644)
            os.replace(self._temporary, path or self.path)
        except BaseException:
            self.drop()
            raise
        sync_folder(self.path.parent)

    def drop(self):
        """Leave nothing of it. What lies at its place stays."""
        self._stream.close()
        with suppress(FileNotFoundError):
            os.unlink(self._temporary)


def make_folder(name, path):
    """The folder that the argument called `name` is, as an absolute path; made if need be.

    Raises:
        ValueError: it cannot be made, or nothing can be written there.
    """
    path = Path(expanded(path)).absolute()
    with _writable(name, "a folder", path):
        path.mkdir(parents=True, exist_ok=True)
        _write_in(path)
    return path


def check_folder(name, path):
    """Raise `ValueError` where `make_folder` would, as far as that can be told without making anything."""
    path = Path(expanded(path)).absolute()
    with _writable(name, "a folder", path):
        _try(path)


def check_file(name, path, suffix):
    """Raise `ValueError` unless the argument called `name` is a file of a kind that can be written, or made.

    Its folder may have to be made; nothing is made here.
    """
    path = Path(expanded(path)).absolute()
    if path.suffix != suffix:
        raise ValueError(f"`{name}` must be a {suffix} file. Received: {path}")
    with _writable(name, "a file", path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _try(path.parent)


@contextmanager
def writing(path, size=0):
    """A context in which a library writes a file: what stops it for want of room is an `OSError`, and no half stays.

    Libraries tell of a full disk in their own ways, after they have begun, and some cannot close their file then.

    Args:
        path: the file, which goes where the context fails; or a folder, whose end is the caller's.
        size: bytes that will be needed at least; without room for them nothing is begun.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    path = Path(path)
    try:
        if shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield
    except BaseException as error:
        with suppress(OSError):
            path.unlink()
        number = _number(error)
        if isinstance(error, Exception) and number:
            raise OSError(number, os.strerror(number), os.fspath(path)) from None
        raise


def _number(error):
    """The system's number for what lies behind an error, or None."""
    seen = []
    while error is not None and error not in seen:
        seen.append(error)
        if isinstance(error, OSError) and error.errno in REASONS:
            return error.errno
        found = re.search(r"errno = (\d+)", str(error))  # as HDF5 says it
        if found and int(found[1]) in REASONS:
            return int(found[1])
        for number in REASONS:
            if os.strerror(number).lower() in str(error).lower():
                return number
        error = error.__cause__ or error.__context__
    return None


def take_lock(path, flags=os.O_RDONLY):
    """Lock a file or a folder for one process, or one thread of it; gives the handle, which holds it until closed.

    Raises:
        BlockingIOError: somebody else has it.
        OSError: it cannot be opened.
    """
    handle = os.open(path, flags, 0o644)
    try:
        # Not `lockf`: that lock would go as soon as any other handle of the file is closed in this process.
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(handle)
        raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), os.fspath(path)) from None
    except OSError as error:
        logger.warning("%s cannot be locked (%s): take care that nobody else writes there", path, error)
    return handle


@contextmanager
def alone_in(name, folder):
    """A context in which nobody else, in another process or in this one, is in it with the same folder.

    The folder itself is locked: no file is left behind, and whatever ends a process ends its lock.

    Args:
        name: the argument that the folder is.
        folder: a folder that is there.

    Raises:
        ValueError: somebody is in it already.
    """
    try:
        handle = take_lock(folder)
    except BlockingIOError:
        raise ValueError(f"`{name}` {folder} is in use: another training writes there. End it first") from None
    try:
        yield
    finally:
        os.close(handle)


def check_free(name, folder):
    """Raise `ValueError` where `alone_in` would."""
    with suppress(OSError), alone_in(name, expanded(folder)):
        pass


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
    return parse_object(Path(expanded(path)).read_bytes(), path)


def parse_object(content, label):
    """The JSON object that some bytes are; raises `ValueError` with the label if they are something else."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise ValueError(f"{label} must hold a JSON object")
    return data


def read_secret(name, path):
    """The secret in the file that the argument called `name` is, as bytes, without white space around it.

    Raises:
        ValueError: the file cannot be read, or what it holds is too short or too long.
    """
    try:
        secret = Path(expanded(path)).read_bytes().strip()
    except OSError as error:
        raise ValueError(f"`{name}` must be a file that can be read: {error.strerror}. Received: {path}") from None
    least, most = SECRET
    if not least <= len(secret) <= most:
        raise ValueError(f"`{name}` must be a file of {least} to {most} characters. Received: {path}, of {len(secret)}")
    return secret


def sync_folder(path):
    """Make a new name in a folder last through a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
