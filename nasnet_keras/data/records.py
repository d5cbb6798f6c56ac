"""What a directory keeps of the data of its training or search: which images were held out, and what was left out."""

import base64
import hashlib
import json
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from nasnet_keras.files import CODE, composed, read_object, write_atomically

FILE = "data.json"
FORMAT = "nasnet-data/1"
HELD_OUT = ("validation", "test")
MARK = 6  # bytes of a digest of a name: of a million names some hundred-millionth share is taken for another one


@dataclass(frozen=True, eq=False)
class Record:
    """How a data set was divided.

    Args:
        digest: what a folder's list of images, or a data set of TFDS, is known by; None for other data.
        shares: {part that was held out: its share}.
        sides: {part that was held out: names of a folder's images, relative to its root}.
        trained: what `mark` makes of the names that were for training, so that none of them is ever tested, be it those
            of the model that a training started from.
        seed: by which other data than a folder were divided; None: not known, or it had no say.
        further: marks of the names in the parts that the data bring, and those that an earlier version may have made of
            names that are there; not kept.
        lists: whether texts of lists were lists, not a class each as in earlier versions.
        untested: how many images for testing are left out, as a model was trained on them; not kept.
    """

    digest: str | None = None
    shares: dict = field(default_factory=dict)
    sides: dict = field(default_factory=dict)
    trained: frozenset = frozenset()
    seed: int | None = None
    further: frozenset = frozenset()
    lists: bool = False
    untested: int = 0

    @property
    def tells_nothing(self):
        """Whether it is of data of Python, of which nothing says whether an image is among them."""
        return self.digest is None and self.seed is None and not self.is_listed

    @property
    def is_listed(self):
        """Whether it is of a folder or a table, whose images it knows by their names."""
        return bool(self.trained)


def is_other(known, record):
    """Whether data are known to be others than those of a directory, by the `Record`s of both.

    Earlier versions kept no digest of a data set of TFDS, so nothing is known there.
    """
    return known.digest != record.digest and (known.digest is not None or record.is_listed)


def knows(record, data):
    """Whether a training had these images: the very same, or most of what it had is among them, by the names.

    Whichever form of its letters an earlier version took a name in.

    Args:
        record: the training's `Record`, or None.
        data: a `loading.Data`.
    """
    if record is None or record.digest is None or data.digest is None:
        return False
    if record.digest == data.digest:
        return True
    old, new = (one.trained.union(*(map(mark, names) for names in one.sides.values())) for one in (record, data.record))
    return len(old & (new | data.record.further)) > len(old) / 2


def mark(name):
    """A short digest of a name, bytes; the same in all forms of its letters."""
    return _mark(composed(name))


def marks_of(name):
    """All that a record may have as the mark of a name: this version's, and an earlier one's of each form."""
    yield mark(name)
    if not name.isascii():
        yield from map(_mark, (name, unicodedata.normalize("NFD", name)))


def is_marked(name, marks):
    """Whether a name is among those of which a record has the marks, be it an earlier version's, of another form."""
    return any(one in marks for one in marks_of(name))


def _mark(name):
    return hashlib.blake2b(name.encode(*CODE), digest_size=MARK).digest()


def read_record(directory):
    """The `Record` in a directory; None where there is none.

    Raises:
        ValueError: it is damaged.
    """
    path = Path(directory) / FILE
    try:
        found = read_object(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    digest, shares, sides, seed = (found.get(key) for key in ("images", "shares", "sides", "seed"))
    try:
        marks = base64.b64decode(found.get("trained", ""), validate=True)
        valid = found.get("format") == FORMAT and isinstance(digest, str | None)
        valid &= isinstance(found.get("lists", False), bool)
        valid &= seed is None or (type(seed) is int and 0 <= seed < 2**32)
        valid &= all(part in HELD_OUT and 0 <= share < 1 for part, share in shares.items())
        valid &= all(isinstance(names, list) and set(map(type, names)) <= {str} for names in sides.values())
    except (ValueError, TypeError, AttributeError):  # none of the right types
        valid = False
    if not valid:
        raise ValueError(f"{path} must be a file of the format {FORMAT}, as a training writes it")
    trained = frozenset(marks[start : start + MARK] for start in range(0, len(marks), MARK))
    sides = {part: tuple(names) for part, names in sides.items()}
    return Record(digest, shares, sides, trained, seed, lists=found.get("lists", False))


def division(directory, begun, by_seed=True):
    """The arguments of `loading.open_data` by which data are divided as those of a directory were.

    Args:
        directory: of a training or a search.
        begun: whether anything was trained there.
        by_seed: whether that may have been by an earlier version, which divided by a seed and left no record: not where
            a model lies whose training is not known.
    """
    record = read_record(directory) if begun else None
    if record is not None:
        return {"held_out": record}
    return {"split_rule": "seeded"} if begun and by_seed else {}


def write_record(directory, data):
    """Keep in a directory what its data are; it is made if need be.

    Data of a folder that an earlier version divided by a seed have no record, and leave none.

    Args:
        directory: of a training or a search.
        data: a `loading.Data`.
    """
    if data.record is None:
        return
    directory, record = Path(directory), data.record
    directory.mkdir(parents=True, exist_ok=True)
    kept = {"format": FORMAT, "images": record.digest, "shares": record.shares, "sides": record.sides}
    kept |= ({} if record.seed is None else {"seed": record.seed}) | ({"lists": True} if record.lists else {})
    kept["trained"] = base64.b64encode(b"".join(sorted(record.trained))).decode()
    kept["left_out"] = data.all_left_out().by_reason()
    content = json.dumps(kept, separators=(",", ":")).encode()
    path = directory / FILE
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)
