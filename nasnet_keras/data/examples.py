"""Examples of TensorFlow Datasets by number: where each encoded image lies on disk, and its label.

A data set on disk is a list of shards, files of records, each an example in the wire format of `tf.train.Example`. An
index of them is made once and kept beside them, or in the user's cache where nothing can be written there: after it
nothing is read but the image that is asked for.
"""

import hashlib
import io
import json
import logging
import mmap
import os
import struct
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nasnet_keras.data import findings
from nasnet_keras.files import expanded, write_atomically

INDEX = ".nasnet-index-{part}.npz"
IN_CACHE = 60  # indices of places that cannot be written to: of a few bytes for each example
CYCLE, BLOCK = 16, 16  # shards that TFDS reads in turn where the order does not count, and examples of each at a time
BYTES = 28  # of an example in the index
FIELD_OF_LABELS = 3  # of a Feature: its integers

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RecordFiles:
    """Encoded images in files of records, each read when it is asked for.

    Args:
        files: paths.
        places: int64 [n, 3]: the number of the file, the first byte of the image, its bytes.
    """

    files: tuple[str, ...]
    places: np.ndarray

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        """The encoded image as `bytes`; what a file that has become shorter still has."""
        file, start, size = self.places[index].tolist()
        with open(self.files[file], "rb") as stream:
            return os.pread(stream.fileno(), size, start)

    def take(self, indices):
        """Those at an integer array."""
        return replace(self, places=self.places[np.asarray(indices, np.int64)])

    def name(self, index):
        """What an image is called: its file and where it begins."""
        file, start, _ = self.places[index].tolist()
        return f"{os.path.basename(self.files[file])}, byte {start}"


@dataclass(frozen=True, eq=False)
class ArrayRecords:
    """The same of files in the format ArrayRecord, whose records are compressed together.

    Args:
        reader: an `ArrayRecordDataSource` of all files.
        numbers: int64 [n], of the records.
        image: the feature's name.
        part: that they are of, whose name is a part of theirs.
    """

    reader: object
    numbers: np.ndarray
    image: str
    part: str

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        """The encoded image as `bytes`."""
        record = self.reader[int(self.numbers[index])]
        start, stop = _features(record, 0, len(record), (self.image,))[self.image]
        return record[slice(*_value(record, start, stop))]

    def take(self, indices):
        """Those at an integer array."""
        return replace(self, numbers=self.numbers[np.asarray(indices, np.int64)])

    def name(self, index):
        """What an image is called: its part, and the number of its record."""
        return f"{self.part}, record {self.numbers[index]}"


def open_examples(files, part, image, label, *, count, in_order=True, is_array=False, progress=None):
    """A part of a data set by number.

    Args:
        files: the shards' paths, in their order.
        part: the part's name, for the index.
        image, label: the names of two features.
        count: examples that there should be.
        in_order: whether examples come as they are stored, or as TFDS reads shards in turn.
        is_array: whether the shards are in the format ArrayRecord, or TFRecord.
        progress: None, or a function called with the number of examples indexed and of all.

    Returns:
        (`RecordFiles` or `ArrayRecords`, int32 [n] labels).

    Raises:
        ValueError: naming the shard that is missing, ends in the middle or is no such file, or a count that differs.
    """
    known = [(os.path.basename(path), *_identity(path)) for path in files]
    key = hashlib.blake2b(json.dumps([known, image, label, is_array]).encode(), digest_size=16).hexdigest()
    possible = _places(Path(files[0]).parent, part)
    sizes = None if is_array else [size for _, size, _ in known]
    index = next(filter(None, (_kept(path, key, count, sizes) for path in possible)), None)
    if index is None:
        index = (_index_arrays if is_array else _index_records)(files, image, label, count, progress)
        _keep(possible, key, index)
    places, labels = index
    if len(labels) != count:
        folder = os.path.dirname(files[0])
        raise ValueError(f"{folder} must have {count:,} examples in {part}. Received: {len(labels):,}")
    if is_array:
        # Shards of this format are read in their order.
        return ArrayRecords(_reader(files), np.arange(count), image, part), labels
    order = np.arange(count) if in_order else read_in_turn(np.bincount(places[:, 0], minlength=len(files)))
    return RecordFiles(tuple(files), places[order]), labels[order]


def read_in_turn(counts, cycle=CYCLE, block=BLOCK):
    """The order in which `tf.data`'s interleave reads shards of so many examples each: int64, numbers of examples."""
    starts = np.cumsum(counts) - counts
    ends, waiting = (starts + counts).tolist(), list(range(len(counts)))[::-1]
    places, slots, order, slot = starts.tolist(), [None] * cycle, [], 0
    while waiting or any(shard is not None for shard in slots):
        if slots[slot] is None and waiting:
            slots[slot] = waiting.pop()
        if (shard := slots[slot]) is not None:
            taken = min(block, ends[shard] - places[shard])
            order += range(places[shard], places[shard] + taken)
            places[shard] += taken
            if taken < block:  # its end is met only by asking for one more
                slots[slot] = None
        slot = (slot + 1) % cycle
    return np.array(order, np.int64)


def _identity(path):
    try:
        status = os.stat(path)
    except OSError as error:
        raise ValueError(f"cannot read the shard {path}: {error.strerror}") from None
    return status.st_size, status.st_mtime_ns


def _kept(path, key, count, sizes):
    """(places, labels) of an index on disk; None of none, of another one, or of one that cannot be right.

    Args:
        path: its file.
        key: what it must be of.
        count: examples that there should be.
        sizes: bytes of each file that it may point into; None where it does not.
    """
    try:
        with open(path, "rb") as stream:
            with zipfile.ZipFile(stream) as archive:
                if sum(one.file_size for one in archive.infolist()) > BYTES * count + 10_000:
                    return None
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as found:
                places, labels, its = found["places"], found["labels"], str(found["key"])
        right = its == key and places.dtype == np.int64 and labels.dtype == np.int32 and labels.shape == (count,)
        if right and sizes is not None:
            file, start, size = places.reshape(count, 3).T
            right = (min(file.min(), start.min(), size.min()) >= 0) and file.max() < len(sizes)
            right = right and (start <= np.array(sizes)[file] - size).all()
        return (places, labels) if right else None
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged archive raises nearly anything
        logger.info("%s cannot be read (%s) and is made anew", path, error)
        return None


def _places(folder, part):
    """Where the index of a part may lie: beside the shards, else in the cache under a name from the folder's own."""
    name = hashlib.blake2b(os.fsencode(os.path.realpath(folder)), digest_size=16).hexdigest()
    return folder / INDEX.format(part=part), Path(expanded(findings.PLACE)) / f"{name}-{part}.npz"


def _keep(possible, key, index):
    """Write an index to the first place that can be written to."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, key=key, places=index[0], labels=index[1])
    beside, cached = possible
    try:
        write_atomically(beside, buffer.getvalue())
        return
    except OSError as error:
        logger.info("the index %s cannot be kept (%s): it goes to %s", beside, error.strerror, cached)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cached, buffer.getvalue())
        for old in sorted(cached.parent.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)[:-IN_CACHE]:
            old.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("the index %s cannot be kept (%s): it is made anew each time", cached, error.strerror)


def _index_records(files, image, label, count, progress):
    """(places, labels) of TFRecord shards, of which little more than the headers is read."""
    places, labels = [], []
    for number, path in enumerate(files):
        with open(path, "rb") as stream:
            if not (size := os.fstat(stream.fileno()).st_size):
                continue
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                place = 0
                while place < size:
                    # A record: its length in 8 bytes, a checksum of that in 4, its content, another checksum.
                    start = place + 12
                    length = struct.unpack_from("<Q", content, place)[0] if start <= size else size
                    if start + length + 4 > size:
                        raise ValueError(f"the shard {path} ends in the middle of an example, after {len(labels):,}")
                    found = _example(content, start, start + length, image, label, path)
                    places.append((number, found[0], found[1] - found[0]))
                    labels.append(found[2])
                    place = start + length + 4
                    if progress and len(labels) % 1000 == 0:
                        progress(len(labels), count)
    return np.array(places, np.int64).reshape(-1, 3), np.array(labels, np.int32)


def _index_arrays(files, image, label, count, progress):
    reader, labels = _reader(files), []
    for number in range(len(reader)):
        record = reader[number]
        labels.append(_example(record, 0, len(record), image, label, files[0])[2])
        if progress and number % 1000 == 0:
            progress(number, count)
    return np.zeros((0, 3), np.int64), np.array(labels, np.int32)


def _reader(files):
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    try:
        return ArrayRecordDataSource(list(files))
    except Exception as error:  # of C++, in its own words
        raise ValueError(f"cannot read the shards of {os.path.dirname(files[0])}: {error}") from None


def _example(content, start, stop, image, label, path):
    """(first byte of the image, the byte after it, the label) of an example."""
    try:
        features = _features(content, start, stop, (image, label))
        return *_value(content, *features[image]), _integer(content, *features[label])
    except (ValueError, IndexError, KeyError, struct.error):
        raise ValueError(
            f"the shard {path} must hold examples with the image {image!r} and the label {label!r}, unlike byte {start}"
        ) from None


def _features(content, start, stop, names):
    """{name: (first byte, the byte after)} of some features of an example: a map of maps, see `tf.train.Example`."""
    found = {}
    for _, first, last in _fields(content, start, stop):  # its features
        for _, begin, end in _fields(content, first, last):  # a pair of name and feature
            name, feature = None, None
            for number, one, other in _fields(content, begin, end):
                if number == 1:
                    name = content[one:other].decode()
                elif number == 2:
                    feature = one, other
            if name in names:
                found[name] = feature
        if len(found) == len(names):
            break
    return found


def _value(content, start, stop):
    """(first byte, the byte after) of the one value of a feature of bytes."""
    (_, first, last), *_ = _fields(content, start, stop)
    (_, first, last), *others = _fields(content, first, last)
    if others:
        raise ValueError("more than one value")
    return first, last


def _integer(content, start, stop):
    """The one value of a feature of integers."""
    for number, first, last in _fields(content, start, stop):
        if number == FIELD_OF_LABELS:
            place = first + 1  # behind the tag of the list's field
            if content[first] & 7 == 2:
                _, place = _varint(content, place)  # its length, where values are packed
            value, end = _varint(content, place)
            if end != last:
                raise ValueError("more than one value")
            return value - (1 << 64) if value >> 63 else value
    raise ValueError("no integer")


def _fields(content, start, stop):
    """(number, first byte, the byte after) of all fields of a message that have a length."""
    while start < stop:
        tag, start = _varint(content, start)
        if tag & 7 != 2:
            raise ValueError(f"a field of the kind {tag & 7}")
        size, start = _varint(content, start)
        if start + size > stop:
            raise ValueError("a field that is longer than its message")
        yield tag >> 3, start, start + size
        start += size


def _varint(content, place):
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
