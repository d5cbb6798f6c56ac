"""A log that only grows and survives a killed process, and reading what a search logged without changing it."""

import json
import logging
import os
from pathlib import Path

from nasnet_keras.files import sync_folder, write_atomically

logger = logging.getLogger(__name__)


class Log:
    """JSON objects, one a line, in a file to which lines are only ever added.

    An object counts as written when its line is complete and on the disk. `read` must be
    called before the first `append`: it removes what a crash left unfinished.

    Args:
        path: the file, which need not exist yet.
    """

    def __init__(self, path):
        self.path = Path(path)

    def read(self):
        """All objects in the order of writing, as a list of dicts.

        An unfinished last line is cut off. If other lines are damaged, the file is set
        aside beside itself as `<name>.damaged`, the loss is logged, and the lines that can
        be read are kept.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        *lines, tail = content.split(b"\n")
        objects = [_parse(line) for line in lines]
        if None in objects:
            kept = [line for line, value in zip(lines, objects, strict=True) if value is not None]
            aside = self.path.with_name(f"{self.path.name}.damaged")
            logger.warning(
                "%s: %d of %d lines cannot be read; the file as it was is kept as %s",
                self.path, len(lines) - len(kept), len(lines), aside.name,
            )  # fmt: skip
            write_atomically(aside, content)
            write_atomically(self.path, b"".join(line + b"\n" for line in kept))
        elif tail:
            logger.info("%s: dropped an unfinished last line of %d bytes", self.path, len(tail))
            os.truncate(self.path, len(content) - len(tail))
        return [value for value in objects if value is not None]

    def append(self, value):
        """Add one object; it is on the disk when this returns.

        Args:
            value: a JSON-able dict without NaN or infinities.

        Raises:
            OSError: the disk is full or the file cannot be written; the file is as before.
            ValueError: the object holds a number that JSON lacks.
        """
        line = json.dumps(value, allow_nan=False).encode() + b"\n"
        is_new = not self.path.exists()
        with self.path.open("ab", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            try:
                written = stream.write(line)
                if written != len(line):
                    raise OSError(
                        f"{self.path}: only {written} of {len(line)} bytes could be written; is the disk full?"
                    )
                os.fsync(stream.fileno())
            except BaseException:
                os.ftruncate(stream.fileno(), size)
                raise
        if is_new:
            sync_folder(self.path.parent)


def read_trials(path) -> list[dict]:
    """Read `trials.jsonl`, one JSON object a line.

    A last line that is cut short, because a search is writing it or was killed, is left out.

    Args:
        path: the file.

    Returns:
        The objects, in the order of the file.

    Raises:
        ValueError: the file cannot be read, or another line is not a JSON object.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().decode("utf-8", errors="replace").split("\n")
    except OSError as error:
        raise ValueError(f"cannot read the trials in {path}: {error.strerror}") from None
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    trials = []
    for number, line in filled:
        if (trial := _parse(line)) is not None:
            trials.append(trial)
        elif number != filled[-1][0]:
            raise ValueError(f"{path}, line {number}: a trial must be a JSON object. Received: {line[:80]!r}")
    return trials


def _parse(line):
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
